"""Pictures of camps with opposite tastes: squares, a circle of majorities, rules of voting, and one explorer.

Happy is blue, sad is orange-red and quiet is grey in all of them; every square and bar has its name or its number beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from ..evaluate import votes
from .drawings import QUIET, box, canvas, note
from .explorers import Explorer
from .plots import BLACK, BLUE, VERMILLION, short

COLOURS = {"happy": BLUE, "sad": VERMILLION, "quiet": "#7d7d7d"}


def squares(panels: Sequence[tuple[str, str, float | None]], *, title: str = "", alt: str = ""):
    """Panels (heading, what is below, share of happy ends or None) of a hundred squares each; None hides the answer."""
    width = 3.0 * len(panels) + 0.3
    fig, ax = canvas(width, 3.75 + (0.35 if title else 0), alt or (
        "Panels of one hundred squares, blue for happy and orange for sad ends: " + "; ".join(head for head, *_ in panels)))
    if title:
        note(ax, 0.15, fig.get_figheight() - 0.25, title, 14, "left", bold=True, color=BLACK)
    for k, (head, below, share) in enumerate(panels):
        left, size = 0.15 + 3.05 * k, 0.24
        note(ax, left, 3.5, head, 12, "left", bold=True, color=BLACK)
        happy = None if share is None else round(100 * share)
        for i in range(100):
            x, y = left + size * 1.1 * (i % 10), 3.0 - size * 1.1 * (i // 10)
            face = "#e4e4e4" if happy is None else COLOURS["happy"] if i < happy else COLOURS["sad"]
            ax.add_patch(FancyBboxPatch((x, y), size, size, boxstyle="round,pad=0,rounding_size=.05", linewidth=0, facecolor=face))
        if happy is None:
            note(ax, left + 1.3, 1.95, "?", 60, bold=True, color=BLACK)
            note(ax, left, 0.38, "happy or sad?", 12, "left", bold=True, color=BLACK)
        else:
            note(ax, left, 0.38, f"{happy} happy", 12.5, "left", bold=True, color=COLOURS["happy"])
            note(ax, left + 2.6, 0.38, f"{100 - happy} sad", 12.5, "right", bold=True, color="#a34200")
        note(ax, left, 0.12, below, 10.5, "left")
    return fig


def circle(ballots: votes.Ballots, alt: str = ""):
    """Camps with their orders on the left; on the right the options in a circle, each arrow from a majority's choice."""
    share, names = votes.majorities(ballots), votes.options(ballots)
    held = {order: n for order, n in ballots.items() if n}
    people = sum(held.values())
    fig, ax = canvas(8.4, 3.5, alt or "Drawing. Left: camps, each with a clear order of the endings. Right: arrows from the "
                     "ending that a majority prefers to the one it beats; they go round in a circle")
    note(ax, 0.15, 3.28, "Each camp has a clear order", 12, "left", bold=True, color=BLACK)
    for i, (order, n) in enumerate(held.items()):
        y = 2.4 - 0.95 * i
        note(ax, 0.15, y + 0.26, f"{100 * n / people:.0f} %", 12, "left", bold=True, color=BLACK)
        for k, name in enumerate(order):
            _chip(ax, 0.85 + 1.12 * k, y, name)
            if k:
                note(ax, 0.75 + 1.12 * k, y + 0.26, ">", 12)
    note(ax, 4.75, 3.28, "The majority goes round", 12, "left", bold=True, color=BLACK)
    at = dict(zip(names, ((6.3, 2.45), (7.6, 0.45), (5.0, 0.45)), strict=True))
    for (a, b), part in share.items():
        if part > 0.5:
            (x, y), (u, v) = at[a], at[b]
            ax.add_patch(FancyArrowPatch((x, y), (u, v), arrowstyle="-|>", mutation_scale=18, linewidth=2, color=BLACK,
                                         shrinkA=27, shrinkB=28))
            side = 0.45 if x + u > 12.9 else -0.45 if x + u < 12.3 else 0
            note(ax, (x + u) / 2 + side, (y + v) / 2 + (0 if side else -0.2), f"{float(100 * part):.0f} %", 12, color=BLACK)
    for name, (x, y) in at.items():
        _chip(ax, x - 0.46, y - 0.26, name)
    return fig


def _chip(ax, x, y, name):
    ax.add_patch(FancyBboxPatch((x, y), 0.92, 0.52, boxstyle="round,pad=0,rounding_size=.1", linewidth=0, facecolor=COLOURS[name]))
    note(ax, x + 0.46, y + 0.25, name, 11.5, bold=True, color="white")


def rules(shares: Mapping[str, Mapping[str, Mapping[str, float]]], alt: str = ""):
    """{electorate: {rule: {option: probability}}} as one bar for each rule, electorates under each other."""
    rows = sum(len(r) for r in shares.values())
    high = 0.55 + 0.36 * rows + 0.55 * len(shares)
    fig, ax = canvas(7.2, high, alt or "Stacked bars, one for each rule in each electorate, of the probability that a happy, a "
                     "quiet or a sad ending is chosen; the rules disagree")
    y = high - 0.1
    for electorate, by_rule in shares.items():
        y -= 0.3
        note(ax, 0.15, y, electorate, 12, "left", bold=True, color=BLACK)
        y -= 0.14
        for rule, chosen in by_rule.items():
            y -= 0.36
            note(ax, 2.55, y + 0.15, rule, 11, "right", color=BLACK)
            x = 2.7
            if not any(chosen.values()):
                note(ax, x, y + 0.14, "no winner", 10.5, "left")
            for name in COLOURS:
                part = float(chosen.get(name, 0))
                if part > 0:
                    ax.add_patch(Rectangle((x, y), 4.3 * part, 0.29, facecolor=COLOURS[name], edgecolor="white", linewidth=1.2))
                    label = f"{100 * part:.0f} % {name}" if part > 0.22 else f"{100 * part:.0f}"
                    note(ax, x + 2.15 * part, y + 0.14, label, 10.5, bold=True, color="white")
                    x += 4.3 * part
        y -= 0.1
    return fig


def road(alt: str = ""):
    """From a feeling to a policy: what each step assumes, and who studied or questioned it."""
    steps = ("feelings", "choices", "one score", "a policy")
    beside = ("have a strength: utility (Bentham 1789)", "of many people", "for every story", "")
    taken = (("A choice shows the feeling, with noise.", "Thurstone 1927, Bradley & Terry 1952"),
             ("Different people can be added up.", "questioned: Condorcet 1785, Arrow 1951"),
             ("The score is all that matters.", "questioned: chapter 17"))
    fig, ax = canvas(5.2, 4.6, alt or "Drawing from the top down: feelings, choices of many people, one score, a policy. Beside "
                     "each arrow stands what the step assumes, and who studied or questioned it")
    note(ax, 0.1, 4.38, "From a feeling to a policy: each step assumes something", 13, "left", bold=True, color=BLACK)
    for i, name in enumerate(steps):
        y = 3.5 - 1.1 * i
        box(ax, 0.1, y, 1.3, 0.54, name, "good" if i == 3 else "policy", 12.5, bold=True)
        note(ax, 1.55, y + 0.27, beside[i], 11.5, "left")
        if i < 3:
            ax.add_patch(FancyArrowPatch((0.75, y - 0.02), (0.75, y - 0.55), arrowstyle="-|>", mutation_scale=14, linewidth=1.6,
                                         color=QUIET))
            note(ax, 1.0, y - 0.16, taken[i][0], 12.5, "left", color=BLACK)
            note(ax, 1.0, y - 0.41, taken[i][1], 11.5, "left")
    return fig


def tinted(fig):
    """The same figure of `plots`, each label at the end of a line in the colour of its line."""
    for ax in fig.axes:
        colours = {line.get_label(): line.get_color() for line in ax.get_lines()}
        for text in ax.texts:
            if text.get_text() in colours:
                text.set(color=colours[text.get_text()], fontweight="bold")
    return fig


def labels(people: float, first: float, second: float) -> float:
    """Share of comparisons that a happy end wins: `people` like it, at this temperature; the others like the sad end.

    The endings differ by 1 in utility for everybody: people sigma(1/first) + (1 - people) sigma(-1/second).

    >>> round(labels(0.6, 1.0, 0.3), 2)
    0.45
    """
    return people / (1 + math.exp(-1 / first)) + (1 - people) / (1 + math.exp(1 / second))


def explorer(shares=(50, 60, 75), noise=(0.3, 1, 3), betas=(0.1, 1)) -> Explorer:
    """Move the share of people who like happy ends (at temperature 1), the temperature of the others, and beta."""
    names = ("people", "noise", "β")

    def compute(**at):
        people, other, beta = (at[name] for name in names)
        p = labels(people / 100, 1.0, other)
        odds = (p / (1 - p)) ** (1 / beta)
        return {"people": people / 100, "labels": p, "policy": odds / (1 + odds), "best": float(p > 0.5), "beta": beta,
                "other": other}

    def draw(data, ax):
        rows = ("people", "labels", f"from even odds, β = {data['beta']:g}", "best of many")
        for y, value in zip((3, 2, 1, 0), (data["people"], data["labels"], data["policy"], data["best"]), strict=True):
            ax.barh(y, value, color=COLOURS["happy"], height=0.62)
            ax.barh(y, 1 - value, left=value, color=COLOURS["sad"], height=0.62)
            for at, part, word in ((value / 2, value, "happy"), ((1 + value) / 2, 1 - value, "sad")):
                if part > 0.17:
                    ax.text(at, y, f"{100 * part:.0f} % {word}", ha="center", va="center", color="white", fontweight="bold")
        ax.set(xlim=(0, 1), xticks=[])
        ax.set_title(f"noise of the happy camp 1, of the sad camp {data['other']:g}", fontsize=11.5, loc="left")
        ax.set_yticks((3, 2, 1, 0), rows)
        ax.tick_params(length=0)
        for side in ("bottom", "left"):
            ax.spines[side].set_visible(False)

    return Explorer(compute, draw, title="people: % who like happy ends; noise: τ of the sad camp (small: firm)", size=(6.2, 2.7),
                    start=dict(zip(names, (60, 0.3, 0.1), strict=True)),
                    **dict(zip(names, (list(shares), list(noise), list(betas)), strict=True)),
                    alt=short("Bars at three settings: share of people, of labels, of a policy's stories and of the best of many "
                              "that are happy; the share of labels can be on the other side than the share of people"))
