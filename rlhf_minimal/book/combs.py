"""Pictures of repeated evaluations: intervals under each other, a cycle of models, and how many questions a difference needs."""

import math

from ..evaluate.intervals import coverage, expected_counts
from ..evaluate.power import power
from .drawings import BLACK, QUIET, arrow, box, canvas, note
from .explorers import Explorer
from .plots import BLUE, GREY, VERMILLION, plt, short


def comb(methods: dict, n: int, truth: float, *, evaluations: int = 100, title="", alt=""):
    """Intervals of the same evaluations by several methods {name: (low, high) for every count}, a panel each, side by side.

    The counts stand in the shares that the binomial distribution expects, the highest on top. An interval that misses the
    truth is dashed and vermillion; one without length is a mark.
    """
    counts = expected_counts(n, truth, evaluations)
    fig, axes = plt.subplots(1, len(methods), figsize=(3.1 * len(methods), 4.6), layout="constrained", sharey=True, sharex=True,
                             squeeze=False)
    for ax, (name, (low, high)) in zip(axes.flat, methods.items(), strict=True):
        for i, k in enumerate(counts):
            a, b = float(low[k]), float(high[k])
            held = a <= truth <= b
            ax.plot([a, b], [-i, -i], color=BLUE if held else VERMILLION, linewidth=1.5 if held else 2,
                    marker="" if b > a else "x", markersize=4)
        ax.axvline(truth, color="black", linestyle="--", linewidth=1.3)
        ax.set_yticks([])
        ax.set_title(f"{name}:\n{100 * coverage(low, high, truth):.0f} % hold the truth", fontsize=12.5)
        ax.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    axes[0, 0].set_ylabel(f"{evaluations} evaluations of {n} questions", fontsize=11.5)
    fig.supxlabel("score and its “95 %” interval; dashed: the truth", fontsize=11.5)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    fig.alt = alt or short(f"Intervals of {evaluations} evaluations under each other, by {' and '.join(methods)}; those that miss "
                           "the true accuracy, a dashed line, stand out")
    return fig


def cycle(names: list, words: str, *, inside: str = "", alt=""):
    """Three models in a circle, each with an arrow to the one that it beats; `words` at each arrow."""
    if len(names) != 3:
        raise ValueError(f"{len(names)} names: a cycle is drawn of three")
    fig, ax = canvas(5.2, 3.3, alt or f"Drawing of a cycle: {names[0]} beats {names[1]}, {names[1]} beats {names[2]}, "
                     f"{names[2]} beats {names[0]}")
    spots = [(1.95, 2.5), (3.45, 0.3), (0.45, 0.3)]
    for name, (x, y) in zip(names, spots, strict=True):
        box(ax, x, y, 1.3, 0.62, name, "policy", 12, bold=True)
    arrow(ax, (3.0, 2.45), (4.0, 1.0), words, at=(4.05, 1.85), color=BLACK, size=11)
    arrow(ax, (3.4, 0.6), (1.85, 0.6), words, at=(2.62, 0.8), color=BLACK, size=11)
    arrow(ax, (1.2, 1.0), (2.2, 2.45), words, at=(1.15, 1.85), color=BLACK, size=11)
    if inside:
        note(ax, 2.6, 1.55, inside, 11, color=QUIET)
    return fig


def chances(difference: float, correlation: float, ns, rate: float = 0.7) -> dict[str, list[float]]:
    """{"same questions": …, "separate questions": …}: chance at each n that the better of two models is called better.

    Both are right in about `rate` of the questions, their outcomes have this correlation. By the normal approximation.
    """
    one = rate * (1 - rate)
    return {"same questions": [power(difference, 2 * one * (1 - correlation), n) for n in ns],
            "separate questions": [power(difference, 2 * one, n) for n in ns]}


def power_explorer(ns=(50, 100, 200, 400, 800, 1600, 3200, 6400)) -> Explorer:
    """The chance of a call against n, for a true difference and a correlation that the reader chooses."""
    def compute(difference, correlation):
        return {"ns": ns, "difference": difference} | chances(difference / 100, correlation, ns)

    def draw(data, ax):
        x = [math.log2(n) for n in data["ns"]]
        ax.plot(x, data["same questions"], color=BLUE, marker="D", markersize=4)
        ax.plot(x, data["separate questions"], color=GREY, linestyle="--", marker="o", markersize=4)
        ax.axhline(0.8, color="#9aa0aa", linewidth=0.8, linestyle=":")
        ax.set(ylim=(0, 1.03), ylabel="chance of the call", xlabel="questions for each model")
        ax.set_xticks(x, [f"{n:,}" for n in data["ns"]])

    def say(data):
        most = f"over {data['ns'][-1]:,}"
        found = {way: next((f"{n:,}" for n, p in zip(data["ns"], data[way], strict=True) if p >= 0.8), most)
                 for way in ("same questions", "separate questions")}
        return (f"Difference {data['difference']} points, first plotted size past 80 %: {found['same questions']} questions where "
                f"both models answer the same (blue), {found['separate questions']} where each has its own (grey).")

    return Explorer(compute, draw, say, title="how many questions does a difference need?", size=(5.6, 2.7),
                    difference=[1, 2, 5, 10], correlation=[0.0, 0.5, 0.8, 0.9], start={"difference": 5, "correlation": 0.5},
                    alt="Explorer at three settings of difference and correlation: the chance to call the better model against the "
                        "number of questions, on the same questions and on separate ones")
