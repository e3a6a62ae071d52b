"""Drawings in one style: boxes, arrows, strips of tokens. Each returns a figure that brings its alt text (`fig.alt`).

Coordinates are inches from the lower left corner, so that text keeps its size. A tone says what a thing is: its colour
never says it alone, because every box has a name.
"""

import textwrap

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from .plots import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, plt, short

TONES = {  # (edge, face)
    "plain": ("#8a93a0", "#ffffff"), "policy": (BLUE, "#e8f1f8"), "reward": (ORANGE, "#fdf4e3"), "frozen": (GREY, "#f1f1f1"),
    "data": (PURPLE, "#faf0f5"), "good": (GREEN, "#e6f4ef"), "bad": (VERMILLION, "#fcebdf"), "middle": ("#9a7b00", "#fbf6e6"),
}
QUIET = "#4d5663"
WORDS = {"good": "#00664a", "bad": "#a34200", "middle": "#6b5200"}  # on the faces above: at least 4.5 to 1


# --- the kit ----------------------------------------------------------------------------------------------------------
def canvas(width: float, height: float, alt: str):
    """An empty figure of this size in inches, with axes in inches; the drawing's alt text goes with it."""
    fig = plt.figure(figsize=(width, height))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    fig.alt = short(alt)
    return fig, ax


def box(ax, x, y, w, h, text="", tone="plain", size=11.0, bold=False, dashed=False):
    """A rounded box with its lower left corner at (x, y); a dashed edge says "not trained"."""
    if tone not in TONES:
        raise ValueError(f"tone {tone!r}: expected one of {', '.join(TONES)}")
    edge, face = TONES[tone]
    ax.add_patch(FancyBboxPatch((x, y), w, h, boxstyle="round,pad=0,rounding_size=0.08", facecolor=face, edgecolor=edge,
                                linewidth=1.5, linestyle="--" if dashed else "-"))
    middle, lift = ("center", 0) if "\n" in text else ("center_baseline", 0.015)  # a full stop stands on the line
    ax.text(x + w / 2, y + h / 2 + lift, text, ha="center", va=middle, fontsize=size, fontweight="bold" if bold else "normal",
            color="#111111", linespacing=1.3)


def arrow(ax, a, b, text="", bend=0.0, at=None, color=QUIET, size=10.0, ha="center"):
    """An arrow from point a to point b, its words at `at` or just above the middle."""
    ax.add_patch(FancyArrowPatch(a, b, arrowstyle="-|>", mutation_scale=13, linewidth=1.5, color=color, shrinkA=0, shrinkB=0,
                                 connectionstyle=f"arc3,rad={bend}"))
    if text:
        x, y = at or ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2 + 0.14)
        note(ax, x, y, text, ha=ha, size=size)


def note(ax, x, y, text, size=10.0, ha="center", va="center", bold=False, color=QUIET, italic=False):
    """Words without a box."""
    ax.text(x, y, text, fontsize=size, ha=ha, va=va, color=color, fontweight="bold" if bold else "normal",
            style="italic" if italic else "normal", linespacing=1.3)


def strip(ax, x, y, tokens, tones, height=0.36, size=10.5):
    """A row of token boxes from (x, y) -> the middle of each. tones: one for each token."""
    middles = []
    for token, tone in zip(tokens, tones, strict=True):
        w = token_width(token, size)
        box(ax, x, y, w, height, token, tone, size)
        middles.append(x + w / 2)
        x += w + 0.06
    return middles


def token_width(token, size=10.5):
    """Inches that a token box needs."""
    return 0.2 + 0.0092 * size * max(1, len(token))


# --- the drawings -----------------------------------------------------------------------------------------------------
STAGES = (("base model", "continues text", "plain"), ("SFT", "learns from\ndemonstrations", "policy"),
          ("reward model", "learns from\ncomparisons", "reward"), ("RL", "answers, is scored,\nlearns", "good"))

TRAINING = (  # of a chat model, with what each stage learns from: for pipeline(…, down=True)
    ("pretraining", "from any text: “go on like this”\nresult: the base model", "plain"),
    ("supervised\nfinetuning (SFT)", "from demonstrations:\n“answer like this”", "policy"),
    ("preference\nfinetuning", "from comparisons: “rather this\nthan that”, by RLHF or DPO", "reward"),
    ("reinforcement\nfinetuning", "from its own answers, checked\nby a program: “that was right”", "good"))
_ASKED, _SAID = ("Where does the otter live?", "data"), ("The otter lives near the mill.", "policy")
THREE_FORMS = (  # of one conversation: for forms(…)
    ("bare words", [_ASKED, _SAID], "nothing marks the end"),
    ("transcript", [("User:", "frozen"), _ASKED, ("↵", "frozen"), ("Assistant:", "frozen"), _SAID, ("↵", "good")],
     "ends with a new line"),
    ("new form", [("<|user|>", "frozen"), _ASKED, ("<|end|>", "frozen"), ("<|assistant|>", "frozen"), _SAID,
                  ("<|end|>", "good")], "ends with the end token"))


def pipeline(stages=STAGES, *, down=False, note_below="", alt=""):
    """Stages from left to right: [(name, what it does)] or [(name, what it does, tone)].

    down=True puts them under each other, at most two lines of words beside each: legible on a phone.
    """
    n, w, gap = len(stages), 1.62, 0.42
    if down:
        fig, ax = canvas(5.0, 0.15 + 0.8 * n, alt or short(
            "Drawing, from the top down: " + ", then ".join(f"{s[0]} ({s[1]})" for s in stages)))
        for i, (name, does, *tone) in enumerate(stages):
            y = 0.15 + 0.8 * (n - 1 - i)
            box(ax, 0.1, y, 1.65, 0.58, name, tone[0] if tone else "plain", 11.5, bold=True)
            note(ax, 1.95, y + 0.29, does, 11, "left", color=BLACK)
            if i:
                arrow(ax, (0.92, y + 0.8), (0.92, y + 0.6))
        return fig
    fig, ax = canvas(0.3 + n * w + (n - 1) * gap, 1.55 + (0.3 if note_below else 0), alt or (
        "Drawing, from left to right: " + ", then ".join(f"{s[0]} ({' '.join(s[1].split())})" for s in stages)))
    low = 0.2 + (0.3 if note_below else 0)
    for i, (name, does, *tone) in enumerate(stages):
        x = 0.15 + i * (w + gap)
        box(ax, x, low + 0.6, w, 0.55, name, tone[0] if tone else "plain", 12, bold=True)
        note(ax, x + w / 2, low + 0.26, does)
        if i:
            arrow(ax, (x - gap + 0.04, low + 0.87), (x - 0.04, low + 0.87))
    if note_below:
        note(ax, fig.get_figwidth() / 2, 0.2, note_below, italic=True)
    return fig


def loop(alt=""):
    """The loop of reinforcement learning, and below it what is left of it for a language model."""
    fig, ax = canvas(5.6, 5.0, alt or "Drawing. Above: agent and environment in a loop of action, next state and reward. Below: "
                     "a prompt goes to the policy, its answer to a frozen reward model; score minus beta times KL to a frozen "
                     "reference updates the policy")
    note(ax, 0.2, 4.8, "Reinforcement learning: a loop", 12, "left", bold=True, color=BLACK)
    box(ax, 0.6, 3.75, 1.4, 0.65, "agent\nπ(a | s)", "policy")
    box(ax, 3.5, 3.75, 1.4, 0.65, "environment", "frozen")
    arrow(ax, (2.03, 4.25), (3.47, 4.25), "action")
    arrow(ax, (3.47, 3.9), (2.03, 3.9), "next state, reward", at=(2.75, 3.72))
    note(ax, 0.2, 3.1, "RLHF: one prompt, one answer, one score", 12, "left", bold=True, color=BLACK)
    box(ax, 0.2, 2.05, 0.95, 0.65, "prompt x", "data")
    box(ax, 1.6, 2.05, 1.25, 0.65, "policy π\ntrained", "policy", bold=True)
    box(ax, 3.75, 2.05, 1.6, 0.65, "reward model r\nfrozen", "reward", dashed=True)
    box(ax, 1.6, 0.45, 1.25, 0.65, "reference\nfrozen", "frozen", dashed=True)
    box(ax, 3.75, 0.45, 1.6, 0.65, "r(x, y) − β · KL", "plain", bold=True)
    arrow(ax, (1.18, 2.38), (1.57, 2.38))
    arrow(ax, (2.88, 2.38), (3.72, 2.38), "answer y")
    arrow(ax, (4.7, 2.02), (4.7, 1.13), "score", at=(5.0, 1.58))
    arrow(ax, (2.88, 0.78), (3.72, 0.78), "how far?", at=(3.3, 0.6))
    arrow(ax, (2.0, 2.02), (2.0, 1.13), "same y", at=(1.65, 1.58))
    arrow(ax, (3.8, 1.13), (2.75, 2.02), "update", at=(3.62, 1.66), color=BLUE)
    return fig


def two_roads(alt=""):
    """Two roads from comparisons to a policy, both with a frozen reference: RLHF's, with a reward model and sampling, and DPO's."""
    fig, ax = canvas(6.2, 3.9, alt or "Drawing of two roads from comparisons to a policy: RLHF trains a reward model, lets the "
                     "policy write answers and scores them, many times; DPO applies one loss to the pairs. A frozen reference "
                     "stands on both roads")
    box(ax, 0.1, 1.55, 1.2, 0.8, "comparisons\nchosen ≻\nrejected", "data", 10)
    note(ax, 1.6, 3.7, "RLHF", 12, "left", bold=True, color=BLUE)
    box(ax, 1.6, 2.8, 1.1, 0.7, "reward\nmodel", "reward")
    box(ax, 3.35, 2.8, 1.35, 0.7, "policy writes\nanswers", "policy", 10.5)
    box(ax, 5.2, 2.8, 0.9, 0.7, "policy", "good", bold=True)
    arrow(ax, (1.05, 2.38), (1.56, 2.95))
    arrow(ax, (2.74, 3.3), (3.31, 3.3), "scores", at=(3.02, 3.45))
    arrow(ax, (3.31, 3.0), (2.74, 3.0), "answers", at=(3.02, 2.85))
    note(ax, 3.02, 3.68, "thousands of times", italic=True)
    arrow(ax, (4.74, 3.15), (5.16, 3.15))
    box(ax, 3.35, 1.65, 1.35, 0.6, "reference\n(frozen)", "frozen", 10.5, dashed=True)
    arrow(ax, (4.02, 2.29), (4.02, 2.76), "price of the KL", at=(4.1, 2.52), ha="left")
    arrow(ax, (4.02, 1.61), (4.02, 1.09), "log-ratios", at=(4.1, 1.36), ha="left")
    note(ax, 1.6, 1.25, "DPO", 12, "left", bold=True, color=BLUE)
    box(ax, 1.6, 0.35, 3.1, 0.7, "one loss on the pairs,\nno sampling", "policy")
    box(ax, 5.2, 0.35, 0.9, 0.7, "policy", "good", bold=True)
    arrow(ax, (1.05, 1.52), (1.56, 0.95))
    arrow(ax, (4.74, 0.7), (5.16, 0.7))
    return fig


def constitution(alt=""):
    """Constitutional AI: an answer, its critique under a drawn principle, a revision, again; then finetuning, then a judge."""
    fig, ax = canvas(5.6, 3.5, alt or "Drawing of constitutional AI. A model answers; a critic reads the answer under a principle "
                     "drawn from the constitution; a revision goes back to the critic, several times. The last revision is "
                     "learned by finetuning. Below, a judge that knows the principles labels pairs for the reward")
    box(ax, 0.15, 2.5, 1.15, 0.65, "model\nanswers", "policy")
    box(ax, 2.05, 2.5, 1.25, 0.65, "critique", "reward")
    box(ax, 4.2, 2.5, 1.25, 0.65, "revision", "policy")
    box(ax, 2.05, 1.35, 1.25, 0.6, "constitution", "data")
    box(ax, 4.2, 1.35, 1.25, 0.6, "finetuning", "good", bold=True)
    box(ax, 2.05, 0.3, 1.25, 0.6, "judge", "reward")
    box(ax, 4.2, 0.3, 1.25, 0.6, "reward, RL", "good", bold=True)
    arrow(ax, (1.33, 2.82), (2.01, 2.82))
    arrow(ax, (3.34, 2.72), (4.16, 2.72))
    arrow(ax, (4.6, 3.18), (2.9, 3.18), "again", bend=0.25, at=(3.75, 3.2))
    arrow(ax, (2.67, 1.98), (2.67, 2.46), "principle", at=(2.58, 2.22), ha="right")
    arrow(ax, (2.67, 1.32), (2.67, 0.94), "principles", at=(2.58, 1.13), ha="right")
    arrow(ax, (4.82, 2.46), (4.82, 1.99))
    arrow(ax, (3.34, 0.6), (4.16, 0.6), "labels")
    return fig


def four_networks(alt=""):
    """The four networks of PPO: which are trained, which are frozen, and what flows between them."""
    fig, ax = canvas(8.6, 3.0, alt or "Drawing of the four networks of PPO. Policy and critic are trained; reference and reward "
                     "model are frozen. The answer goes to all, and advantage, score and KL come back to the policy")
    box(ax, 0.2, 1.15, 1.7, 0.75, "policy\ntrained", "policy", bold=True)
    rows = (("reference, frozen", "frozen", "KL: how far from the start?", True),
            ("reward model, frozen", "reward", "score: how good is the whole answer?", True),
            ("critic, trained", "policy", "value: what was to be expected here?", False))
    for i, (name, tone, gives, frozen) in enumerate(rows):
        y = 2.2 - 0.95 * i
        box(ax, 3.05, y, 1.9, 0.6, name, tone, 10.5, dashed=frozen)
        arrow(ax, (1.94, 1.62 - 0.1 * i), (3.01, y + 0.3), "answer" if i == 0 else "", at=(2.3, 2.25))
        note(ax, 5.1, y + 0.3, gives, ha="left", size=10.5)
    note(ax, 0.2, 0.35, "solid edge: trained\ndashed edge: frozen", ha="left", size=9.5)
    return fig


def answer_tree(paths: dict, values: dict | None = None, *, alt=""):
    """A tree of tokens: paths {"b.": .3} (answer: its probability); values {prefix: words under that node}."""
    leaves = sorted(paths)
    nodes = sorted({a[:i] for a in leaves for i in range(len(a) + 1)}, key=lambda p: (len(p), p))
    depth, row = max(map(len, leaves)), 0.34
    height = 0.35 + row * len(leaves)
    fig, ax = canvas(1.0 + 1.45 * depth + 1.6, height, alt or f"Drawing of a tree: each branch adds one token, {len(leaves)} "
                     "leaves are the possible answers with their probabilities; probabilities multiply along a path")
    place = {leaf: height - row * (i + 0.75) for i, leaf in enumerate(leaves)}
    for node in reversed(nodes):
        under = [place[n] for n in nodes if len(n) == len(node) + 1 and n.startswith(node)]
        place.setdefault(node, sum(under) / max(1, len(under)))
        if under:
            place[node] = sum(under) / len(under)
    for node in nodes:
        x, y = 0.55 + 1.45 * len(node), place[node]
        if node:
            ax.plot([x - 1.45 + 0.28, x - 0.28], [place[node[:-1]], y], color="#9aa0aa", linewidth=1.1, zorder=0)
        box(ax, x - 0.26, y - 0.13, 0.52, 0.26, node[-1] if node else "start", "good" if node in paths else "plain", 9.5)
        if node in paths:
            note(ax, x + 0.35, y, f"{node}   {paths[node]:.2f}", ha="left", color=BLACK)
        if values and node in values:
            note(ax, x, y - 0.24, str(values[node]), size=9)
    return fig


def token_strip(tokens: list, counts, *, title="", alt=""):
    """Tokens of a conversation; counts: 1 where the loss counts one, 0 where not, or {name: such a list} for several rows."""
    rows = counts if isinstance(counts, dict) else {"": counts}
    if wrong := [name for name, mask in rows.items() if len(mask) != len(tokens)]:
        raise ValueError(f"counts {wrong[0]!r} has {len(rows[wrong[0]])} entries for {len(tokens)} tokens")
    left = 0.2 + 0.1 * max(map(len, rows))
    lines = _lines(tokens, 6.6 - left)
    top, block = (0.5 if title else 0.15), 0.5 * len(rows) + 0.12
    fig, ax = canvas(6.8, top + block * len(lines) + 0.35, alt or "Strip of tokens, one box each; green boxes count in the loss, "
                     f"white ones do not. Rows: {', '.join(filter(None, rows)) or 'one'}. {title}")
    high = fig.get_figheight()
    if title:
        note(ax, 0.15, high - 0.28, title, 12, "left", bold=True, color=BLACK)
    for k, (first, last) in enumerate(lines):
        for i, (name, mask) in enumerate(rows.items()):
            y = high - top - k * block - 0.5 * (i + 1) + 0.1
            note(ax, 0.15, y + 0.18, name, ha="left", size=10.5, color=BLACK)
            strip(ax, left, y, tokens[first:last], ["good" if m else "plain" for m in mask[first:last]])
    box(ax, left, 0.1, 0.2, 0.2, "", "good")
    note(ax, left + 0.28, 0.2, "counts in the loss", ha="left", size=9.5)
    return fig


def _lines(tokens, width, size=10.5):
    """[(first, last)] of the lines into which a strip of tokens is broken."""
    lines, first, used = [], 0, 0.0
    for i, token in enumerate(tokens):
        w = token_width(token, size) + 0.06
        if used + w > width and i > first:
            lines.append((first, i))
            first, used = i, 0.0
        used += w
    return [*lines, (first, len(tokens))]


def label_shift(tokens: list, alt=""):
    """What the model reads, and below it what it is to predict there: the next token."""
    labels = [*tokens[1:], "none"]
    wide = [max(token_width(t), token_width(n)) + 0.12 for t, n in zip(tokens, labels, strict=True)]
    middles = [0.95 + sum(wide[:i]) + wide[i] / 2 for i in range(len(tokens))]
    fig, ax = canvas(1.1 + sum(wide), 1.75, alt or "Drawing of two rows of tokens: the model reads the upper row; the label of "
                     "each position, in the lower row, is the token that comes next")
    note(ax, 0.15, 1.43, "reads", ha="left", color=BLACK, size=11)
    note(ax, 0.15, 0.38, "label", ha="left", color=BLACK, size=11)
    for x, token, following in zip(middles, tokens, labels, strict=True):
        w = token_width(token)
        box(ax, x - w / 2, 1.25, w, 0.36, token, "policy", 10.5)
        if following != "none":
            w = token_width(following)
            box(ax, x - w / 2, 0.2, w, 0.36, following, "good", 10.5)
            arrow(ax, (x, 1.22), (x, 0.6))
    note(ax, middles[-1], 0.38, "none", italic=True)
    for left, right in zip(middles, middles[1:], strict=False):  # the same token, one place further left
        ax.plot([right, left], [1.25, 0.56], color="#c9cdd4", linewidth=1.2, linestyle=":", zorder=0)
    return fig


def timeline(events: list, alt=""):
    """Events [(year, name, note)] along a line, from the top down; narrow, so that its words can be read on a phone."""
    row = 0.74
    fig, ax = canvas(5.2, 0.2 + row * len(events), alt or "Timeline from the top down: "
                     + "; ".join(f"{year} {name}" for year, name, *_ in events))
    high = fig.get_figheight()
    ax.plot([0.75, 0.75], [0.25, high - 0.25], color="#9aa0aa", linewidth=2, zorder=0)
    for i, (year, name, *rest) in enumerate(events):
        y = high - 0.1 - row * (i + 0.5)
        ax.plot(0.75, y, "o", color=BLUE, markersize=9)
        note(ax, 0.6, y, str(year), ha="right", bold=True, color=BLACK, size=11)
        words = textwrap.wrap(textwrap.shorten(rest[0], 100, placeholder=" …"), 52) if rest and rest[0] else []
        note(ax, 0.95, y + 0.11 * len(words), name, ha="left", bold=True, color=BLACK, size=11)
        if words:
            note(ax, 0.95, y + 0.11 * len(words) - 0.11 - 0.09 * len(words), "\n".join(words), ha="left", size=10.5)
    return fig


def two_by_two(columns, rows, cells, *, alt=""):
    """Four cases: two columns, two rows, and in each box a case. cells[row][column]: (name, words below it, tone)."""
    left, wide, tall = 1.25, 1.9, 0.85
    fig, ax = canvas(left + 2 * wide + 0.35, 2 * tall + 0.85, alt or "Drawing of four cases: " + "; ".join(
        f"{rows[i]}, {columns[k]}: {cells[i][k][0]}" for i in (0, 1) for k in (0, 1)))
    high = fig.get_figheight()
    for k, name in enumerate(columns):
        note(ax, left + (wide + 0.12) * k + wide / 2, high - 0.2, name, 12, color=BLACK, bold=True)
    for i, name in enumerate(rows):
        low = high - 0.45 - tall - (tall + 0.12) * i
        note(ax, 0.1, low + tall / 2, name, 12, "left", color=BLACK, bold=True)
        for k, (case, words, tone) in enumerate(cells[i]):
            x = left + (wide + 0.12) * k
            box(ax, x, low, wide, tall, "", tone)
            note(ax, x + wide / 2, low + tall * 0.66, case, 12, color=BLACK, bold=True)
            note(ax, x + wide / 2, low + tall * 0.3, words, 12, color=BLACK)
    return fig


GOODHART = (  # name, words, true reward at each proxy before and under pressure, how far the points scatter
    ("regressional", "A high score is partly luck:\nless than promised, still a gain.", lambda x: 0.5 * x, lambda x: 0.5 * x, 0.35),
    ("extremal", "The link was learned where answers\nare usual; far out it breaks.",
     lambda x: x - 0.8 * max(0, x) ** 2, lambda x: x - 0.8 * max(0, x) ** 2, 0.18),
    ("causal", "Pushed is something that goes along\nwith quality but does not cause it.",
     lambda x: 0.9 * x, lambda x: 0.2, 0.22),
    ("adversarial", "Somebody who gains from the score\nlooks for its holes.", lambda x: x, lambda x: x if x < 1.3 else -1.2, 0.18),
)


def goodhart(alt=""):
    """The four kinds of Goodhart's law: true value against proxy, as four sketched clouds with made-up points."""
    import random

    rng = random.Random(0)
    fig, ax = canvas(6.8, 6.2, alt or "Drawing of four sketched clouds, true reward against proxy. Regressional: a line that is "
                     "less steep. Extremal: it bends down at the right. Causal: flat when pushed. Adversarial: a hole far right")
    for k, (name, words, before, after, wide) in enumerate(GOODHART):
        left, low, w, h = 0.35 + 3.3 * (k % 2), 4.2 - 2.95 * (k // 2), 2.8, 1.45
        note(ax, left + w / 2, low + h + 0.25, name, 13, bold=True, color=BLACK)
        arrow(ax, (left, low), (left + w, low))
        arrow(ax, (left, low), (left, low + h))
        note(ax, left + w, low - 0.14, "proxy", 10.5, "right")
        note(ax, left + 0.08, low + h - 0.02, "true reward", 10.5, "left")
        for i in range(70):
            x = -2 + 4 * i / 69 if name != "adversarial" or i % 5 == 0 else min(1.2, rng.gauss(-0.3, 0.8))
            y = (after if x > 1 else before)(x) + rng.gauss(0, wide)
            ax.plot(left + w * (x + 2.2) / 4.5, low + h * (max(y, -2.3) + 2.4) / 4.8, "o",
                    color=ORANGE if x > 1 else BLUE, markersize=3, alpha=0.8)
        note(ax, left + w / 2, low - 0.62, words, 11)
    note(ax, 3.4, 0.14, "blue: before anybody pushes; amber: what is reached by pushing the proxy", 11)
    return fig


def answers(prompts: list, texts: dict, scores: dict | None = None, *, title="", note_below="", alt="",
            card: float | None = None):
    """Answers of models to the same prompts, {model: [text]}, as cards with the true reward {model: [number]} in a corner.

    The picture of a first screen: without `scores` it leaves open which answer is better. One or two models stand side by
    side, under each prompt; more than two stand under each other, and then the prompts (at most two) side by side.
    card: width of a card in inches; 2.4 can still be read on a phone.
    """
    names, turned = list(texts), len(texts) > 2
    if turned and len(prompts) > 2:
        raise ValueError(f"{len(texts)} models and {len(prompts)} prompts: more than two models take at most two prompts")
    heads, sides = (prompts, names) if turned else (names, prompts)
    wide = card or (3.1 if len(heads) > 1 else 6.3)
    cells = [[_said(texts, scores, *((side, k) if turned else (head, i)), wide) for k, head in enumerate(heads)]
             for i, side in enumerate(sides)]
    tall = [0.24 + 0.19 * max(len(lines) + (score is not None) for lines, score in row) for row in cells]
    heads = ["\n".join(textwrap.wrap(head, int(wide * 9))) for head in heads]
    top = 0.25 + 0.2 * max(head.count("\n") + 1 for head in heads) + (0.32 if title else 0)
    fig, ax = canvas(0.3 + len(heads) * (wide + 0.12), top + sum(tall) + 0.4 * len(tall) + (0.3 if note_below else 0.05),
                     alt or f"Answers of {', '.join(names)} to the same {len(prompts)} requests, as cards"
                     + (" with the true reward of each" if scores else ""))
    y = fig.get_figheight() - 0.12
    if title:
        note(ax, 0.15, y, title, 13, "left", "top", bold=True, color=BLACK)
    for k, head in enumerate(heads):
        note(ax, 0.2 + k * (wide + 0.12), y - (0.32 if title else 0), head, 11.5, "left", "top", bold=True, color=BLACK)
    y -= top - 0.12
    for i, side in enumerate(sides):
        note(ax, 0.2, y - 0.14, textwrap.shorten(side, int(len(heads) * wide * 11), placeholder=" …"), 11, "left", color=BLACK,
             italic=not turned, bold=turned)
        y -= 0.3
        for k, (lines, score) in enumerate(cells[i]):
            _card(ax, 0.15 + k * (wide + 0.12), y - tall[i] + 0.04, wide, tall[i], lines, score)
        y -= tall[i] + 0.1
    if note_below:
        note(ax, fig.get_figwidth() - 0.15, 0.16, note_below, 9.5, "right")
    return fig


def answer_rows(prompts: list, texts: dict, *, note_below="", alt=""):
    """Answers of models to the same prompts, {model: [text]}, in one column: under each prompt a row for each model.

    The picture of a first screen that stays readable on a phone: narrow, with the model's name to the left of its answer.
    ValueError where a model has fewer answers than there are prompts.
    """
    if short_ones := [name for name, said in texts.items() if len(said) < len(prompts)]:
        raise ValueError(f"{', '.join(short_ones)}: fewer answers than the {len(prompts)} prompts; give one for each")
    left, wide, row = 1.3, 3.85, 0.52
    heads = ["\n".join(textwrap.wrap(textwrap.shorten(prompt, 96, placeholder=" …"), 50)) for prompt in prompts]
    head = 0.22 + 0.2 * max(text.count("\n") + 1 for text in heads)
    each = head + row * len(texts)
    fig, ax = canvas(left + wide + 0.3, each * len(prompts) + (0.32 if note_below else 0.08),
                     alt or f"Answers of {', '.join(texts)} to the same {len(prompts)} requests, a row for each")
    y = fig.get_figheight()
    for i, text in enumerate(heads):
        note(ax, 0.15, y - 0.02 - head / 2, text, 11.5, "left", color=BLACK, bold=True)
        for k, (name, said) in enumerate(texts.items()):
            low = y - head - row * (k + 1)
            note(ax, 0.15, low + row / 2, name, 11, "left", color=BLACK)
            box(ax, left + 0.15, low + 0.04, wide, row - 0.08, "")
            words = textwrap.wrap(textwrap.shorten(" ".join(said[i].split()), 84, placeholder=" …") or "(nothing)", 44)
            note(ax, left + 0.27, low + row / 2, "\n".join(words), 10.5, "left", color="#111111")
        y -= each
    if note_below:
        note(ax, fig.get_figwidth() - 0.15, 0.16, note_below, 9.5, "right")
    return fig


def trimmed(prompts: list, rows: list, *, marker="\nUser:", title="", alt=""):
    """A narrow first screen: under each prompt the answers of some models, the part from `marker` on in grey.

    rows: [(name, texts, true rewards)], one text and one number for each prompt. What stands before the first `marker` is
    the answer; the rest, where there is one, is drawn on a line of its own. Raises ValueError where lengths differ.
    """
    if wrong := [name for name, texts, scores in rows if not len(texts) == len(scores) == len(prompts)]:
        raise ValueError(f"{wrong[0]!r}: expected one text and one score for each of {len(prompts)} prompts")
    wide, blocks = 4.9, []
    for i, prompt in enumerate(prompts):
        for k, (name, texts, scores) in enumerate(rows):
            first, found, rest = texts[i].strip().partition(marker)
            rest = textwrap.shorten(" ".join((found + rest).split()), 76, placeholder=" …")
            blocks.append((prompt if k == 0 else None, name, textwrap.wrap(" ".join(first.split()), 50) or ["(nothing)"],
                           textwrap.wrap(rest, 50), float(scores[i])))
    tall = [0.42 + 0.2 * (len(first) + len(rest)) for _, _, first, rest, _ in blocks]
    heads = [0.42 if prompt else 0.0 for prompt, *_ in blocks]
    top = 0.4 if title else 0.05
    fig, ax = canvas(wide + 0.2, top + sum(tall) + sum(heads) + 0.1 * len(blocks), alt or short(
        f"Two requests or more, each answered by {' and '.join(name for name, *_ in rows)}, as cards with the true reward; "
        "what follows after the first answer is grey"))
    y = fig.get_figheight()
    if title:
        note(ax, 0.1, y - 0.2, title, 12.5, "left", bold=True, color=BLACK)
    y -= top
    for (prompt, name, first, rest, score), high, head in zip(blocks, tall, heads, strict=True):
        if prompt:
            note(ax, 0.1, y - 0.24, prompt, 12, "left", bold=True, color=BLACK)
        y -= head + high
        tone = "good" if score >= 2 else "bad" if score < 0 else "middle"
        box(ax, 0.1, y, wide, high, "", "plain")
        note(ax, 0.22, y + high - 0.18, name, 10.5, "left")
        note(ax, wide - 0.02, y + high - 0.18, f"true reward {score:.1f}".replace("-", "−"), 10.5, "right", bold=True,
             color=WORDS[tone])
        note(ax, 0.22, y + high - 0.34, "\n".join(first), 11, "left", "top", color="#111111")
        if rest:
            note(ax, 0.22, y + high - 0.35 - 0.2 * len(first), "\n".join(rest), 11, "left", "top", color="#7a828e")
        y -= 0.1
    return fig


def forms(rows=THREE_FORMS, *, title="", alt=""):
    """The strings that models read, one row each: [(name, [(text, tone)], words at the right)].

    The pieces of a row are boxes in reading order, broken into lines where they do not fit; a tone is one of TONES.
    """
    wide = 5.4
    broken = []
    for name, pieces, below in rows:
        lines, used = [[]], 0.0
        for text, tone in pieces:
            w = token_width(text, 9.5) + 0.06
            if used + w > wide - 0.2 and lines[-1]:
                lines.append([])
                used = 0.0
            lines[-1].append((text, tone))
            used += w
        broken.append((name, lines, below))
    top = 0.4 if title else 0.1
    fig, ax = canvas(wide, top + sum(0.62 + 0.38 * len(lines) for _, lines, _ in broken), alt or short(
        f"Drawing of one conversation as {', '.join(name for name, *_ in rows)}: rows of boxes for request, marks and answer"))
    y = fig.get_figheight() - top
    if title:
        note(ax, 0.1, y + 0.16, title, 12.5, "left", bold=True, color=BLACK)
    for name, lines, below in broken:
        note(ax, 0.1, y - 0.14, name, 11.5, "left", bold=True, color=BLACK)
        note(ax, wide - 0.1, y - 0.14, below, 10.5, "right")
        y -= 0.28
        for line in lines:
            y -= 0.38
            strip(ax, 0.1, y, [text for text, _ in line], [tone for _, tone in line], 0.33, 9.5)
        y -= 0.34
    return fig


def surprise(rows: list, *, worst=-8.0, title="", alt=""):
    """How much each token was expected: [(name, tokens, log-probabilities in nats)], a strip of boxes for each row.

    White: expected (0 nats); the redder, the less expected, full red at `worst`. The number stands under its token, the
    sum beside the name.
    """
    if wrong := [name for name, tokens, logp in rows if len(tokens) != len(logp)]:
        raise ValueError(f"{wrong[0]!r}: expected one log-probability for each token")
    if not worst < 0:
        raise ValueError(f"worst is {worst}: expected a negative number of nats")
    step = 0.62
    width = max(4.4, 0.2 + step * max(len(tokens) for _, tokens, _ in rows))
    top = 0.42 if title else 0.08
    fig, ax = canvas(width, top + 1.08 * len(rows), alt or short(
        f"Drawing of the tokens of one answer as read by {', '.join(name for name, *_ in rows)}: the redder a box, the less "
        "expected its token"))
    y = fig.get_figheight() - top
    if title:
        note(ax, 0.1, y + 0.18, title, 12.5, "left", bold=True, color=BLACK)
    for name, tokens, logp in rows:
        note(ax, 0.1, y - 0.14, f"{name}: about {sum(map(float, logp)):.0f} in all".replace("-", "−"), 11, "left", bold=True,
             color=BLACK)
        for k, (token, value) in enumerate(zip(tokens, map(float, logp), strict=True)):
            red = min(1.0, max(0.0, value / worst))
            ax.add_patch(FancyBboxPatch((0.1 + step * k, y - 0.68), step - 0.07, 0.38, edgecolor="#8a93a0", linewidth=1.2,
                                        boxstyle="round,pad=0,rounding_size=0.06",
                                        facecolor=tuple(1 - red * (1 - c) for c in (0.96, 0.55, 0.36))))
            ax.text(0.1 + step * (k + 0.5) - 0.035, y - 0.49, token, ha="center", va="center", fontsize=10.5, color="#111111")
            note(ax, 0.1 + step * (k + 0.5) - 0.035, y - 0.83, f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−"), 10.5)
        y -= 1.08
    return fig


def two_logs(logs: dict, prompt: str, texts: dict, *, title="", alt=""):
    """Training losses {name: values} of two runs on top; under them one prompt and the answer {name: text} of each."""
    fig, ax = canvas(6.6, 5.2, alt or f"Two training logs, {' and '.join(logs)}, over steps; under them one request and the "
                     f"answer of each model. {title}")
    looks = dict(zip(logs, ((VERMILLION, "-"), (BLUE, "--")), strict=True))
    note(ax, 0.1, 4.98, title, 14, "left", bold=True, color=BLACK)
    side = fig.add_axes((0.1, 0.52, 0.8, 0.36))
    for name, values in logs.items():
        side.plot(range(1, len(values) + 1), values, color=looks[name][0], linestyle=looks[name][1], linewidth=2)
    top = max(max(values[8:]) for values in logs.values())
    side.set_ylim(0, 1.05 * top)
    low, high = sorted(logs, key=lambda name: sum(logs[name][-10:]))
    for name, up in ((low, 0.02), (high, 0.16)):  # apart, since the ends nearly touch
        side.text(1.02, max(0.02, sum(logs[name][-10:]) / 10 / (1.05 * top)) + up - 0.02, name, transform=side.transAxes,
                  fontsize=14, fontweight="bold", color=looks[name][0])
    side.set_title("training loss, nats per token", fontsize=12, fontweight="normal", color="#444b57")
    side.set_xlabel("step", fontsize=12)
    side.tick_params(labelsize=12)
    box(ax, 0.1, 1.52, 6.4, 0.4, textwrap.shorten(prompt, 68, placeholder=" …"), "data", 12.5, bold=True)
    for i, (name, text) in enumerate(texts.items()):
        y = 0.8 - 0.74 * i
        note(ax, 0.3, y + 0.33, name, 15, "center", bold=True, color=looks[name][0])
        box(ax, 0.6, y, 5.9, 0.66, "", "bad" if name == low else "good")
        words = textwrap.wrap(textwrap.shorten(" ".join(text.split()), 96, placeholder=" …") or "(nothing)", 50)
        note(ax, 0.75, y + 0.33, "\n".join(words[:2]), 12.5, "left", color="#111111")
    return fig


def answers_over_bars(prompt: str, texts: dict, bars: dict, *, title="", alt="", span=None):
    """One prompt with its answers under each other {name: text}, below them panels of bars {title: {name: (value, half width)}}.

    The second bar is the one that matters; the first and those below it are there to compare with. span: the ends of every
    x axis, where the panels have one unit.
    """
    fig, ax = canvas(7.4, 5.6, alt or "One request with the answers of "
                     f"{', '.join(name.split(':')[0] for name in texts)} under each other; below them bars with "
                     "intervals: " + "; ".join(bars))
    if title:
        note(ax, 0.1, 5.38, title, 14, "left", bold=True, color=BLACK)
    lines = textwrap.wrap(prompt, 56)
    box(ax, 0.1, 5.08 - 0.3 * len(lines), 7.2, 0.16 + 0.27 * len(lines), "\n".join(lines), "data", 14, bold=True)
    top = 4.96 - 0.3 * len(lines)
    step = (top - 2.1) / len(texts)
    for i, (name, text) in enumerate(texts.items()):
        low = top - step * (i + 1)
        words = textwrap.wrap(textwrap.shorten(" ".join(text.split()), 145, placeholder=" …") or "(nothing)", 66)
        note(ax, 0.15, low + step - 0.14, name, 12.5, "left", bold=True, color=QUIET)
        box(ax, 0.1, low + 0.06, 7.2, step - 0.38, "", "plain")
        note(ax, 0.25, low + 0.06 + (step - 0.38) / 2, "\n".join(words[:3]), 13.5, "left", color="#111111")
    each = 6.0 / len(bars)
    for k, (head, values) in enumerate(bars.items()):
        names = list(values)
        side = fig.add_axes(((1.25 + each * k) / 7.4, 0.36 / 5.6, (each - 0.3) / 7.4, 1.3 / 5.6))
        side.barh(range(len(names))[::-1], [v for v, _ in values.values()], xerr=[h for _, h in values.values()], capsize=4,
                  color=[GREY, BLUE, *[QUIET] * (len(names) - 2)], alpha=0.9, height=0.62, ecolor=BLACK)
        side.axvline(0, color="#9aa0aa", linewidth=0.8)
        side.set_title(head, fontsize=12.5, fontweight="normal")
        side.set_yticks(range(len(names))[::-1], names if k == 0 else [""] * len(names), fontsize=12.5)
        side.tick_params(length=0, labelsize=12)
        if span is not None:
            low, high = span
            side.set_xlim(low, high)
            ticks = low, (low + high) / 2, high
            side.set_xticks(ticks, [f"{x:g}" for x in ticks])
    return fig


def _said(texts, scores, name, i, wide):
    """(lines of answer i of a model, its true reward or None), broken for a card of this width."""
    words = textwrap.shorten(" ".join(texts[name][i].split()), 100, placeholder=" …") or "(nothing)"
    return textwrap.wrap(words, int(wide * 11.5)), scores[name][i] if scores else None


def _card(ax, x, y, w, h, lines, score):
    tone = "plain" if score is None else "good" if score >= 2 else "bad" if score < 0 else "middle"
    box(ax, x, y, w, h, "", tone)
    note(ax, x + 0.1, y + h - 0.1, "\n".join(lines), 10.5, "left", "top", color="#111111")
    if score is not None:
        note(ax, x + w - 0.1, y + 0.14, f"true reward {score:.1f}".replace("-", "−"), 9.5, "right", bold=True, color=WORDS[tone])
