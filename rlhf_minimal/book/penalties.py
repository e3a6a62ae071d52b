"""Pictures of a KL penalty: two runs and what they write, the place where the penalty stands, the slopes of the estimators."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

from .drawings import QUIET, arrow, box, canvas, note
from .explorers import Explorer
from .plots import BLACK, BLUE, PURPLE, VERMILLION, _styles, plt, said, short, spread
from .tables import number

RUNS = ((VERMILLION, "#a34200", "-"), (BLUE, "#00507d", "--"))  # line, words, style
TERMS = {"k1": (VERMILLION, "-."), "k2": (BLUE, "-"), "k3": (PURPLE, (0, (5, 1)))}


def two_runs(curves: Mapping[str, Sequence[float]], requests: Sequence[str], texts: Mapping[str, Sequence[str]], *,
             y_label: str, note_below: str = "", alt: str = ""):
    """The log of two runs {name: one value for each step} on top; below it requests with the answer of each run.

    texts {name: one answer for each request}. Raises ValueError unless there are two runs and an answer for each request.
    """
    if len(curves) != 2 or list(texts) != list(curves) or any(len(said) != len(requests) for said in texts.values()):
        raise ValueError(f"curves of {', '.join(curves)} and {len(requests)} requests: give two runs, and texts "
                         "{the same names: one answer for each request}")
    wide, each, top = 5.6, 1.92, 2.75
    low = 0.3 if note_below else 0.05
    fig, ax = canvas(wide, top + low + each * len(requests), alt or (
        f"Line plot of {y_label} against the training steps of two runs, {' and '.join(curves)}; below it "
        f"{len(requests)} requests with the answer of each run"))
    high = fig.get_figheight()
    side = fig.add_axes((0.56 / wide, 1 - (top - 0.5) / high, (wide - 1.6) / wide, (top - 0.85) / high))
    for (name, values), (color, words, style) in zip(curves.items(), RUNS, strict=True):
        steps = range(1, len(values) + 1)
        side.plot(steps, values, color=color, linestyle=style, linewidth=2.2)
        side.annotate(name, (steps[-1], values[-1]), (6, 0), textcoords="offset points", va="center", fontsize=13,
                      fontweight="bold", color=words)
    side.set_title(y_label, fontsize=12.5, fontweight="normal", color="#444b57")
    side.set_xlabel("training step", fontsize=12)
    side.tick_params(labelsize=12)
    side.xaxis.get_major_locator().set_params(integer=True)
    y = high - top
    for i, prompt in enumerate(requests):
        asked = textwrap.wrap(textwrap.shorten(prompt, 92, placeholder=" …"), 48)
        box(ax, 0.05, y - 0.6, wide - 0.1, 0.56, "\n".join(asked), "data", 12, bold=True)
        for k, (name, (_, words, _)) in enumerate(zip(texts, RUNS, strict=True)):
            at = y - 1.22 - 0.62 * k
            note(ax, 0.1, at + 0.28, name, 12.5, "left", bold=True, color=words)
            box(ax, 0.9, at, wide - 0.95, 0.56, "", "plain")
            said = textwrap.shorten(" ".join(texts[name][i].split()), 90, placeholder=" …") or "(nothing)"
            note(ax, 1.02, at + 0.28, "\n".join(textwrap.wrap(said, 46)[:2]), 12, "left", color="#111111")
        y -= each
    if note_below:
        note(ax, wide / 2, 0.14, note_below, 11, color=QUIET)
    return fig


def seeds_log(steps: Sequence[float], arms: Mapping[str, Sequence[Sequence[float]]], *, title: str, y_label: str,
              x_label: str = "training step", least: float = 0.1, note_below: str = "", alt: str = ""):
    """Runs over seeds on a logarithmic axis: arms {label: one curve for each seed}, thin lines, and their median, thick.

    Values below `least` are drawn at `least`: a KL estimate may be negative. Raises ValueError for curves of another length
    than `steps`.
    """
    if wrong := [label for label, rows in arms.items() if any(len(row) != len(steps) for row in rows)]:
        raise ValueError(f"{wrong[0]!r}: a curve has another length than the {len(steps)} steps")
    fig, ax = plt.subplots(figsize=(6.2, 4.0), layout="constrained")
    looks, ends = _styles(list(arms), None), {}
    for label, rows in arms.items():
        rows = [[max(float(v), least) for v in row] for row in rows]
        for row in rows:
            ax.plot(steps, row, color=looks[label]["color"], alpha=0.35, linewidth=1)
        middle = [sorted(column)[len(column) // 2] for column in zip(*rows, strict=True)]
        ax.plot(steps, middle, color=looks[label]["color"], linestyle=looks[label]["linestyle"], linewidth=2.6)
        ends[label] = math.log10(middle[-1])
    ax.set_yscale("log")
    ax.set_ylim(bottom=least)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_title(y_label, fontsize=12, fontweight="normal", color="#444b57")
    ax.set_xlabel(x_label)
    ax.xaxis.get_major_locator().set_params(integer=True)
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    high = math.log10(ax.get_ylim()[1] / least)
    for label, place in zip(ends, spread(list(ends.values()), 0.085 * high), strict=True):
        ax.annotate(said(label), (steps[-1], 10**place), (8, 0), textcoords="offset points", va="center", fontsize=12,
                    color=looks[label]["color"] if looks[label]["color"] != "#E69F00" else "#8a5a00", fontweight="bold")
    if note_below:
        ax.set_xlabel(f"{x_label}\n{note_below}")
    fig.alt = short(alt or f"Line plot, logarithmic axis, of {y_label} against {x_label}; one thin line for each seed, a thick one "
                    f"for their median: {', '.join(map(said, arms))}. {title}")
    return fig


def two_places(alt: str = ""):
    """Where a penalty stands: in the reward, as a number, or in the loss, where autograd differentiates it."""
    wide = 5.6
    fig, ax = canvas(wide, 3.9, alt or "Drawing of two places for a KL penalty. In the reward: the log-ratio of an answer, as a "
                     "number, is subtracted from its score, and the result weighs the gradient of the log-probability. In the "
                     "loss: the estimator is added and autograd takes its slope.")
    for top, name, first, then, last, tone in (
            (3.75, "in the reward", "score − β · k1,\na plain number", "advantage", "advantage ×\ngradient of log π", "reward"),
            (1.8, "in the loss", "+ β · k(log π),\na function", "autograd", "β · slope of k ×\ngradient of log π", "policy")):
        note(ax, 0.1, top - 0.14, name, 13.5, "left", bold=True, color=BLACK)
        box(ax, 0.1, top - 1.12, 1.75, 0.75, first, tone, 12)
        arrow(ax, (1.85, top - 0.745), (3.45, top - 0.745), then, size=12)
        box(ax, 3.45, top - 1.12, 2.05, 0.75, last, tone, 12)
    note(ax, 0.1, 2.36, "the factor on an answer holds its log-ratio ℓ", 12, "left")
    note(ax, 0.1, 0.22, "only the slope reaches the weights:\nk1: 1     k2: ℓ     k3: 1 − exp(−ℓ)", 12.5, "left", color="#111111")
    return fig


def slopes(log_ratio: float) -> dict[str, tuple[float, float]]:
    """{"k1", "k2", "k3": (value, slope in the policy's log-probability)} of one sample with this log-ratio, in nats.

    >>> {name: [round(x, 3) for x in pair] for name, pair in slopes(math.log(2)).items()}
    {'k1': [0.693, 1.0], 'k2': [0.24, 0.693], 'k3': [0.193, 0.5]}
    """
    x = float(log_ratio)
    return {"k1": (x, 1.0), "k2": (x * x / 2, x), "k3": (math.expm1(-x) + x, -math.expm1(-x))}


def slopes_explorer(drifts: Sequence[float] = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)) -> Explorer:
    """Move the log-ratio of one sample: values of k1, k2 and k3, and how hard each pushes its log-probability down."""
    def compute(drift):
        return {"at": drift} | slopes(drift)

    def draw(data, ax):
        x = [-1.6 + 0.05 * i for i in range(95)]
        ax.axhline(0, color="#c9cdd4", linewidth=1, zorder=0)
        ax.axvline(0, color="#c9cdd4", linewidth=1, zorder=0)
        for name, (color, style) in TERMS.items():
            ax.plot(x, [slopes(v)[name][1] for v in x], color=color, linestyle=style, linewidth=2)
            ax.plot(data["at"], data[name][1], "o", color=color, markersize=8)
        for name, place in (("k1", (-1.5, 1.35)), ("k2", (2.15, 2.55)), ("k3", (2.3, 0.45))):
            ax.text(*place, name, color=TERMS[name][0], fontweight="bold")
        ax.set(xlim=(-1.6, 3.1), ylim=(-3.9, 3.2), xlabel="log-ratio ℓ of the sampled answer, nats", ylabel="push down (slope)")

    def say(data):
        return "; ".join(f"{name}: value {number(data[name][0])}, push {number(data[name][1])}" for name in TERMS)

    return Explorer(compute, draw, say, title="the drift ℓ of one sample (its log-ratio), and how hard each term pushes it down",
                    size=(5.4, 3.1), drift=[float(v) for v in drifts], start={"drift": 1.0},
                    alt="Line plots of the slope of k1, k2 and k3 against the log-ratio: k1 is flat at one, k2 is a straight "
                        "line through zero, k3 bends through zero and levels off at one; dots mark three settings")

