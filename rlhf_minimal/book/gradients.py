"""Pictures of gradients: clouds of batches, a fan of methods, one step of the method, one action or many, and the clip.

Blue is the true gradient in all of them, orange-red the mean of a method, grey a single batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from .drawings import QUIET, arrow, box, canvas, note
from .explorers import Explorer
from .plots import BLACK, BLUE, GREEN, GREY, VERMILLION, plt, short, spread
from .tables import number

_DARK = {BLUE: "#00507d", VERMILLION: "#a34200"}  # for words in these colours


def _pointer(ax, tip, foot, color, width, head):
    """An arrow in the coordinates of the axes."""
    ax.annotate("", tip, foot, arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": width, "mutation_scale": head,
                                           "shrinkA": 0, "shrinkB": 0})


def clouds(panels: Mapping[str, tuple[Tensor, Tensor]], true: Tensor, *, title: str = "", alt: str = ""):
    """Panels {name: (gradients of single batches (count, parameters), their exact mean)} around one true gradient.

    All lie in the plane of `true` and of the mean that is tilted most. Every panel has its own scale: its mean is as long
    as `true`. What lies outside the frame is not drawn.
    """
    along = true / true.norm()
    off = [mean - (mean @ along) * along for _, mean in panels.values()]
    tilts = [(o.norm() / mean.norm()).item() for o, (_, mean) in zip(off, panels.values(), strict=True)]
    across = off[tilts.index(max(tilts))]
    across = across / across.norm()
    fig, axes = plt.subplots(1, len(panels), figsize=(6.4, 3.0), sharex=True, sharey=True)
    top = 0.16 if title else 0.1
    fig.subplots_adjust(0.01, 0.15, 0.99, 1 - top, wspace=0.04)
    for ax, (name, (single, mean)) in zip(axes, panels.items(), strict=True):
        size = mean.norm()
        ax.plot((single @ across / size).tolist(), (single @ along / size).tolist(), "o", color="#9aa2af", markersize=3.4,
                alpha=0.75, markeredgewidth=0)
        tip = (1.7 * (mean @ across / size).item(), 1.7 * (mean @ along / size).item())
        _pointer(ax, tip, (0, 0), VERMILLION, 5, 22)
        _pointer(ax, (0, 1.7), (0, 0), BLUE, 2, 14)
        ax.plot(0, 0, "o", color=BLACK, markersize=4)
        ax.set_title(name, fontsize=15, loc="center")
        ax.set(xlim=(-2.4, 2.4), ylim=(-2.0, 2.8), xticks=[], yticks=[], aspect="equal")
        for side in ax.spines.values():
            side.set(visible=True, color="#d0d5dd")
    marks = (("o", GREY, "one batch"), ("$\u2192$", VERMILLION, "mean over all batches"), ("$\u2192$", BLUE, "true gradient"))
    handles = [plt.Line2D([], [], linestyle="", marker=m, color=c, markersize=7 if m == "o" else 15) for m, c, _ in marks]
    fig.legend(handles, [words for *_, words in marks], loc="lower center", ncols=3, frameon=False, fontsize=11.5,
               handletextpad=0.3, columnspacing=1.4)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    fig.alt = alt or short(f"Panels {', '.join(panels)}: grey dots are gradients of single batches, an orange arrow is their mean, "
                           "a blue arrow the true gradient; the clouds differ in width, and one mean is tilted")
    return fig


def fan(degrees: Mapping[str, float], *, title: str, note_below: str = "", alt: str = ""):
    """Arrows of methods {name: angle to the true gradient in degrees}, each in its own plane; those at 0 share the blue one."""
    straight = [name for name, angle in degrees.items() if angle < 1e-3]
    tilted = dict(sorted(((n, a) for n, a in degrees.items() if a >= 1e-3), key=lambda pair: -pair[1]))
    fig, ax = plt.subplots(figsize=(6.4, 3.9))
    fig.subplots_adjust(0.01, 0.02, 0.99, 0.9)
    places = spread([math.sin(math.radians(a)) for a in tilted.values()], 0.092)
    for (name, angle), place in zip(tilted.items(), places, strict=True):
        x, y = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        _pointer(ax, (x, y), (0, 0), VERMILLION, 2, 15)
        ax.plot([x + 0.02, 1.08], [y, place], color="#c9cdd4", linewidth=0.8)
        ax.text(1.1, place, f"{angle:.0f}°  {name}", va="center", fontsize=12, color="#a34200")
    _pointer(ax, (1, 0), (0, 0), BLUE, 5, 22)
    ax.text(0.02, -0.09, "true gradient; exactly along it:", va="center", fontsize=12, color=BLUE, fontweight="bold")
    ax.text(0.02, -0.19, ", ".join(straight), va="center", fontsize=12, color=BLUE)
    if note_below:
        ax.text(0.02, -0.31, note_below, va="center", fontsize=10.5, color=QUIET)
    ax.plot(0, 0, "o", color=BLACK, markersize=5)
    ax.set(xlim=(-0.03, 1.85), ylim=(-0.36, max(0.3, max(places, default=0) + 0.06)))
    ax.axis("off")
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    fig.alt = alt or short(f"Fan of arrows from one point. Along the true gradient: {', '.join(straight)}. "
                           f"Tilted away, most first: {', '.join(tilted)}")
    return fig


def one_step(scores: Sequence[float] = (3, 0, 3, -2), alt: str = ""):
    """One step of the method: a prompt, answers, their scores, weights (score minus mean of the others) and pushes."""
    count = len(scores)
    each = [s - (sum(scores) - s) / (count - 1) for s in scores]
    fig, ax = canvas(6.4, 0.95 + 0.55 * count, alt or "Drawing of one step: a prompt goes to the policy, which writes "
                     "four answers; each has a score and a weight, its score minus the mean of the others; an arrow "
                     "makes it more or less likely")
    middle = 0.4 + 0.55 * count / 2
    box(ax, 0.08, middle - 0.28, 0.85, 0.56, "prompt", "data", 12)
    box(ax, 1.22, middle - 0.28, 0.85, 0.56, "policy", "policy", 12, bold=True)
    arrow(ax, (0.96, middle), (1.19, middle))
    for x, head in ((2.95, "answers"), (4.08, "score"), (4.85, "weight"), (5.78, "push")):
        note(ax, x, 0.62 + 0.55 * count, head, 12)
    for i, (score, weight) in enumerate(zip(scores, each, strict=True)):
        y = 0.4 + 0.55 * (count - 1 - i) + 0.27
        color = GREEN if weight > 0 else VERMILLION
        arrow(ax, (2.1, middle), (2.42, y), color="#9aa0aa")
        box(ax, 2.45, y - 0.19, 1.05, 0.38, f"answer {i + 1}", "plain", 11.5)
        note(ax, 4.08, y, number(score, 0), 12.5, color=BLACK)
        note(ax, 4.85, y, _signed(weight, 2), 12.5, bold=True, color="#00664a" if weight > 0 else "#a34200")
        _pointer(ax, (5.78 + 0.13 * weight, y), (5.78, y), color, 2.4, 15)
        ax.plot([5.78], [y], "o", color=BLACK, markersize=3.5)
    note(ax, 6.35, 0.22, "← less · more likely →", 10.5, "right")
    note(ax, 0.08, 0.22, "weight: score − mean of the other three", 10.5, "left")
    return fig


def _signed(x, digits=1):
    """A number with its sign."""
    return ("+" if x >= 0 else "") + number(x, digits)


def one_action(tokens: Sequence[str] = ("I", "will", "not", "help", "."),
               value: Sequence[float] = (1.2, 1.0, 1.1, 2.6, 2.9, 3.0), alt: str = ""):
    """One answer read as one action, and as one action for each token: what is compared with what."""
    fig, ax = canvas(6.4, 3.35, alt or "Drawing of one answer in two readings. Above, a bandit: the whole answer is one action "
                     "with one weight. Below, a Markov decision process: a critic predicts the score before each token, and each "
                     "token gets the change")
    left, wide = 0.85, 0.98
    note(ax, 0.1, 3.15, "Bandit: the answer is one action", 12.5, "left", bold=True, color=BLACK)
    for i, token in enumerate(tokens):
        box(ax, left + wide * i, 2.5, wide - 0.1, 0.38, token, "policy", 12)
    weight = value[-1] - value[0]
    note(ax, left + wide * len(tokens) / 2 - 0.05, 2.25, f"every token: score − baseline = {number(value[-1], 0)} − "
         f"{number(value[0], 1)} = {_signed(weight)}", 12, color="#00664a", bold=True)
    note(ax, 0.1, 1.8, "Markov decision process: each token is an action", 12.5, "left", bold=True, color=BLACK)
    for i, token in enumerate(tokens):
        box(ax, left + wide * i, 1.15, wide - 0.1, 0.38, token, "policy", 12)
        change = value[i + 1] - value[i]
        note(ax, left + wide * i + 0.44, 0.92, _signed(change), 12, bold=True,
             color="#00664a" if change >= 0 else "#a34200")
    for i, v in enumerate(value):
        note(ax, left + wide * i - 0.06, 0.5, number(v, 1), 12, color="#8a5a00")
    note(ax, 0.1, 0.5, "critic", 12, "left", color="#8a5a00")
    note(ax, 0.1, 0.92, "weight", 12, "left")
    note(ax, left, 0.2, "the critic's prediction before each token, and the score at the end", 10.5, "left")
    return fig


def clipped(ratio: float, advantage: float, low: float = 0.2, high: float = 0.2) -> dict[str, float]:
    """PPO's objective of one token, min(ratio A, clip(ratio) A), and its slope in the ratio. Equation `eq:PPO_EQN`.

    >>> clipped(1.3, 1.0)["slope"], clipped(0.7, 1.0)["slope"]
    (0.0, 1.0)
    """
    plain, cut = ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage
    stopped = (advantage > 0 and ratio > 1 + high + 1e-9) or (advantage < 0 and ratio < 1 - low - 1e-9)
    return {"ratio": ratio, "advantage": advantage, "plain": plain, "clipped": cut, "objective": min(plain, cut),
            "slope": 0.0 if stopped else float(advantage)}


def _clip_panel(ax, advantage, at=(), low=0.2, high=0.2):
    """The objective of one token against its ratio: the flat part is shaded; dots at `at`."""
    x = [0.4 + 0.02 * i for i in range(61)]
    ax.axvspan(*((1 + high, 1.6) if advantage > 0 else (0.4, 1 - low)), color="#e9ecf0", zorder=0)
    color = GREEN if advantage > 0 else VERMILLION
    ax.plot(x, [clipped(r, advantage, low, high)["objective"] for r in x], color=color, linewidth=2.4)
    ax.axvline(1, color="#c9cdd4", linewidth=1, zorder=0)
    for r in at:
        ax.plot(r, clipped(r, advantage, low, high)["objective"], "o", color=BLUE, markersize=10, zorder=3)
    ax.set(xlim=(0.4, 1.6), ylim=(-1.7, 1.7), xlabel="ratio: new ÷ old probability")


def clip_explorer() -> Explorer:
    """Move the ratio of one token, of a good or of a bad answer: its objective and its slope."""
    kinds = {"good answer, A = +1": 1.0, "bad answer, A = −1": -1.0}

    def compute(answer, ratio):
        return clipped(ratio, kinds[answer])

    def draw(data, ax):
        _clip_panel(ax, data["advantage"], [data["ratio"]])
        ax.set_ylabel("objective of one token")

    def say(data):
        why = ("moved far enough the right way: no push" if data["slope"] == 0 else
               "moved the wrong way: full push" if (data["ratio"] - 1) * data["advantage"] < -1e-9 else "full push")
        return (f"ratio × A = {number(data['plain'], 1)}, clipped {number(data['clipped'], 1)}, the smaller "
                f"{number(data['objective'], 1)}; slope {number(data['slope'], 0)}: {why}")

    def still():
        fig, axes = plt.subplots(1, 2, figsize=(6.4, 2.9), layout="constrained", sharey=True)
        for ax, (name, advantage) in zip(axes, kinds.items(), strict=True):
            _clip_panel(ax, advantage, (0.7, 1.3))
            ax.set_title(name, fontsize=11.5, fontweight="normal", color="#444b57")
            at = 1.4 if advantage > 0 else 0.6
            ax.text(at, -1.45, "no push", ha="center", fontsize=11, color=QUIET)
        axes[0].set_ylabel("objective of one token")
        fig.suptitle("Moved far enough the right way: no push", x=0.01, ha="left", fontsize=13, fontweight="bold")
        return fig

    return Explorer(compute, draw, say, title="one token and the clip (ε = 0.2)", size=(5.4, 2.8), still=still, answer=list(kinds),
                    ratio=[round(0.5 + 0.1 * i, 1) for i in range(11)], start={"answer": "good answer, A = +1", "ratio": 1.3},
                    alt="Two line plots of PPO's objective against the ratio. Good answer: rising, flat on the right. Bad answer: "
                        "flat on the left, then falling. Dots mark four ratios outside the clip; two lie on the flat parts")


def two_tilts(solved: Sequence[float], pulls: Mapping[str, Sequence[float]], climbs: Mapping[str, Sequence[tuple[float, float]]],
              most: float = 0.9, alt: str = ""):
    """Above: pulls {method: one for each success rate in `solved`}; below: climbs {method: [(J, mean tokens of wrong answers)]}."""
    fig, (above, below) = plt.subplots(2, 1, figsize=(5.6, 5.6), layout="constrained")
    for (name, y), color in zip(pulls.items(), (VERMILLION, BLUE), strict=True):
        above.plot(solved, y, color=color, linewidth=2.3)
        middle = len(y) // 2
        above.annotate(name, (solved[middle], y[middle]), xytext=(0, -7), textcoords="offset points", ha="center", va="top",
                       color=_DARK[color], fontweight="bold", fontsize=11)
    above.set(ylim=(0, None), xlabel="success rate of the prompt")
    above.set_title("pull ÷ true gradient, groups of eight", fontsize=11.5, fontweight="normal", color="#444b57")
    for k, ((name, path), color) in enumerate(zip(climbs.items(), (VERMILLION, BLUE), strict=True)):
        path = [point for point in path if point[0] <= most]
        below.plot([100 * j for j, _ in path], [n for _, n in path], color=color, linewidth=2.3)
        j, n = min(path, key=lambda point: abs(point[0] - 0.5))
        below.annotate(name, (100 * j, n), xytext=(10, 10) if k == 0 else (-10, -8), textcoords="offset points", fontsize=11,
                       ha="left" if k == 0 else "right", va="bottom" if k == 0 else "top", color=_DARK[color], fontweight="bold")
    below.margins(y=0.25)
    below.set_xlabel("right answers, per cent (training goes right)")
    below.set_title("mean tokens of the wrong answers", fontsize=11.5, fontweight="normal", color="#444b57")
    fig.suptitle("÷ std re-weighs prompts; at equal success,\n÷ length leaves longer mistakes", x=0.01, ha="left", fontsize=12.5,
                 fontweight="bold")
    fig.alt = alt or ("Two line plots. Above, pull over true gradient against success rate: flat for RLOO, a bowl for division by "
                      "the standard deviation. Below, length of wrong answers against success: longer with division by length")
    return fig
