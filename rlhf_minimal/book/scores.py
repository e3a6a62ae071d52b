"""Pictures of models that score: an answer that grows, the places where four kinds of model get their labels, one explorer."""

from __future__ import annotations

import textwrap

from matplotlib.patches import Rectangle

from .drawings import QUIET, box, canvas, note
from .explorers import Explorer
from .plots import BLACK, GREEN, GREY, ORANGE, short


def grown(prompt: str, sentences: list, scores, gold, *, note_below="", alt=""):
    """One answer that gets one more sentence in each row; at its right the change of its score, and its true reward.

    sentences: the answer, then what is added; scores (changes) and gold (true rewards): one number
    for each row. Raises ValueError where the counts differ.
    """
    scores, gold = ([float(x) for x in values] for values in (scores, gold))
    if not len(sentences) == len(scores) == len(gold):
        raise ValueError(f"{len(sentences)} sentences, {len(scores)} scores, {len(gold)} true rewards; give as many of each")
    wide, row, left = 5.4, 0.62, 2.95
    fig, ax = canvas(wide, 1.0 + row * len(sentences) + (0.3 if note_below else 0), alt or short(
        "Drawing: a short answer, then the same answer with one, two, three and four empty sentences; bars show that a reward "
        "model's score rises with each, while the true reward beside it stays as it was"))
    y = fig.get_figheight()
    note(ax, 0.1, y - 0.2, textwrap.shorten(prompt, 60, placeholder=" …"), 12, "left", bold=True, color=BLACK)
    note(ax, 0.1, y - 0.55, "the answer; then, one after another:", 10.5, "left")
    note(ax, left + 0.1, y - 0.55, "its score rises", 10.5, "left")
    note(ax, wide - 0.1, y - 0.55, "true reward", 10.5, "right")
    y -= 0.75
    most, span = max(*map(abs, scores), 1e-9), 1.15
    for i, (text, score, true) in enumerate(zip(sentences, scores, gold, strict=True)):
        low = y - row * (i + 1)
        box(ax, 0.1 + 0.12 * (i > 0), low + 0.06, left - 0.2 - 0.12 * (i > 0), row - 0.12, "", "data" if i == 0 else "plain")
        words = textwrap.wrap(("" if i == 0 else "+ ") + text, 29)[:2]
        note(ax, 0.2 + 0.12 * (i > 0), low + row / 2, "\n".join(words), 10.5, "left", color="#111111")
        ax.add_patch(Rectangle((left + 0.1, low + 0.17), span * max(score, 0) / most, row - 0.34, facecolor=ORANGE, linewidth=0))
        said = "as it is" if i == 0 else f"{score:+.1f}".replace("-", "−")
        note(ax, left + 0.18 + span * max(score, 0) / most, low + row / 2, said, 11.5, "left", bold=i > 0, color=BLACK)
        note(ax, wide - 0.1, low + row / 2, f"{true:.1f}".replace("-", "−"), 11.5, "right", bold=True, color="#00664a")
    if note_below:
        note(ax, wide / 2, 0.15, note_below, 10, color=QUIET)
    return fig


def where_labels(tokens: list, rows: dict, *, title="", alt=""):
    """Which token gets which label: rows {kind of model: one text for each token}, "" where it gets none.

    Raises ValueError where a row has another number of labels than there are tokens.
    """
    if wrong := [name for name, labels in rows.items() if len(labels) != len(tokens)]:
        raise ValueError(f"{wrong[0]!r} has {len(rows[wrong[0]])} labels for {len(tokens)} tokens")
    left = 1.2
    widths = [0.16 + 0.085 * max(len(t), 3) for t in tokens]
    fig, ax = canvas(left + sum(widths) + 0.07 * len(tokens) + 0.1, 0.95 + 0.46 * len(rows) + (0.25 if title else 0), alt or short(
        f"Drawing of the tokens of an answer, and below them where {', '.join(rows)} get a label"))
    y = fig.get_figheight() - (0.45 if title else 0.15)
    if title:
        note(ax, 0.1, y + 0.2, title, 12.5, "left", bold=True, color=BLACK)
    note(ax, 0.1, y - 0.25, "the answer", 11, "left", color=BLACK)
    x, places = left, []
    for token, w in zip(tokens, widths, strict=True):
        box(ax, x, y - 0.43, w, 0.36, token, "policy", 10.5)
        places.append((x, w))
        x += w + 0.07
    for k, (name, labels) in enumerate(rows.items()):
        low = y - 0.98 - 0.46 * k
        note(ax, 0.1, low + 0.18, name, 11, "left", color=BLACK)
        for label, (at, w) in zip(labels, places, strict=True):
            tone = "bad" if label == "0" else "good"
            if label:
                box(ax, at, low, w, 0.36, label, tone, 10.5)
            else:
                ax.plot([at + 0.05, at + w - 0.05], [low + 0.18, low + 0.18], color="#c9ced6", linewidth=1)
    return fig


def teacher_and_student(compute, *, bias: list, noise: list, pairs: list) -> Explorer:
    """Move the bias and the noise of a teacher and the number of its labels: how often are teacher and student right?

    compute(bias=…, noise=…, pairs=…) -> (share of pairs in which the teacher is right, the same of the student).
    """
    def draw(data, ax):
        for y, (value, color) in enumerate(zip(data[::-1], (GREEN, GREY), strict=True)):
            ax.barh(y, value, color=color, height=0.6)
            ax.text(value + 0.012, y, f"{100 * value:.0f} %", va="center", color=BLACK, fontweight="bold")
        ax.axvline(0.5, color=BLACK, linestyle=":", linewidth=1.4)
        ax.set(xlim=(0, 1.1), xlabel="picks the truly better answer (dotted: a coin)")
        ax.set_yticks((0, 1), ("student", "teacher"))

    def say(data):
        return f"teacher right in {100 * data[0]:.0f} %, student in {100 * data[1]:.0f} %"

    return Explorer(lambda **at: compute(**at), draw, say, title="the bias and the noise of the teacher, and the number of pairs",
                    size=(6.0, 1.9), bias=bias, noise=noise, pairs=pairs,
                    start={"bias": bias[0], "noise": noise[len(noise) // 2], "pairs": pairs[-1]},
                    alt="Bars at three settings of bias, noise and number of pairs: how often the teacher and the student pick "
                    "the truly better answer")
