"""Pictures of a selection among many answers: how many of each kind are kept, and which scores of a matrix."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from .drawings import QUIET, TONES, box, canvas, note
from .plots import BLACK, BLUE, ORANGE, short
from .tables import number

HATCHES = ("", "///")


def kept_and_dropped(counts: Mapping[str, Mapping[str, int]], texts: Sequence[tuple], *, title: str = "", alt: str = ""):
    """How many answers of each kind two selections keep, {selection: {kind: number}}; under the bars one text for each heading.

    texts: (heading, prompt, answer, words below it, such as score and true reward). Narrow, so that it can be read on a phone.
    ValueError unless there are two selections over the same kinds.
    """
    names = list(counts)
    kinds = list(counts[names[0]])
    if len(names) != 2 or list(counts[names[1]]) != kinds:
        raise ValueError(f"{len(names)} selections over {', '.join(kinds)}; give two, with the same kinds")
    wide, row, most = 6.0, 0.56, max(v for of in counts.values() for v in of.values())
    lines = [textwrap.wrap(f"“{answer}”", 62) for *_, answer, _ in texts]
    asks = [textwrap.wrap(prompt, 62) for _, prompt, *_ in texts]
    tall = [0.78 + 0.215 * (len(a) + len(q)) for a, q in zip(lines, asks, strict=True)]
    head = 0.75 if title else 0.4
    fig, ax = canvas(wide, head + row * len(kinds) + sum(tall) + 0.15 * len(tall) + 0.1, alt or short(
        f"Bars of how many answers of each kind ({', '.join(kinds)}) are kept by {' and by '.join(names)}; below them "
        f"{' and '.join(heading for heading, *_ in texts)}, with request and answer"))
    y = fig.get_figheight()
    if title:
        note(ax, 0.1, y - 0.22, title, 13, "left", bold=True, color=BLACK)
    colours = BLUE, ORANGE
    for k, name in enumerate(names):
        x = 1.35 + 2.35 * k
        ax.barh(y - head + 0.15, 0.26, left=x, height=0.17, color=colours[k], hatch=HATCHES[k], edgecolor="white")
        note(ax, x + 0.34, y - head + 0.15, name, 11.5, "left", color=BLACK)
    for i, kind in enumerate(kinds):
        middle = y - head - row * (i + 0.5)
        note(ax, 1.25, middle, kind, 12, "right", color=BLACK)
        for k, name in enumerate(names):
            at, value = middle + (0.12 if k == 0 else -0.12), counts[name][kind]
            ax.barh(at, 3.9 * value / most, left=1.35, height=0.21, color=colours[k], hatch=HATCHES[k], edgecolor="white")
            note(ax, 1.42 + 3.9 * value / most, at, str(value), 11.5, "left", color=BLACK, bold=value == 0)
    ax.plot([1.35, 1.35], [y - head, y - head - row * len(kinds)], color="#9aa0aa", linewidth=1)
    y -= head + row * len(kinds) + 0.12
    for (heading, _, _, below), ask, said, high in zip(texts, asks, lines, tall, strict=True):
        box(ax, 0.1, y - high, wide - 0.2, high, "", "plain")
        note(ax, 0.24, y - 0.2, heading, 12, "left", bold=True, color=BLACK)
        note(ax, 0.24, y - 0.4, "\n".join(ask), 11.5, "left", "top", color=QUIET, italic=True)
        note(ax, 0.24, y - 0.46 - 0.215 * len(ask), "\n".join(said), 12, "left", "top", color="#111111")
        note(ax, wide - 0.24, y - high + 0.17, below, 11, "right", color=QUIET)
        y -= high + 0.15
    return fig


def score_matrix(scores: Sequence[Sequence[float]], selections: Mapping[str, Sequence[int]], *, title: str = "", alt: str = ""):
    """A matrix of scores, a prompt a row, once for each selection {name: flat positions}: the kept cells are filled.

    A row of which nothing is kept says so. ValueError for a position outside the matrix.
    """
    rows, columns = len(scores), len(scores[0])
    for name, kept in selections.items():
        if wrong := [k for k in kept if not 0 <= k < rows * columns]:
            raise ValueError(f"{name}: position {wrong[0]}; the matrix has positions 0 to {rows * columns - 1}")
    cell, high, wide = 0.52, 0.4, 0.52 * columns + 1.0
    fig, ax = canvas(0.75 + wide * len(selections), (0.95 if title else 0.6) + high * rows, alt or short(
        f"A matrix of scores, {rows} prompts by {columns} answers, with the cells kept by {' and by '.join(selections)}; "
        "a prompt of which nothing is kept is marked"))
    top = fig.get_figheight()
    if title:
        note(ax, 0.1, top - 0.2, title, 13, "left", bold=True, color=BLACK)
    top -= 0.35 if title else 0
    for k, (name, kept) in enumerate(selections.items()):
        left = 0.8 + wide * k
        note(ax, left, top - 0.25, name, 12, "left", bold=True, color=BLACK)
        for i in range(rows):
            y = top - 0.5 - high * (i + 1)
            if k == 0:
                note(ax, 0.12, y + high / 2, f"$x_{i + 1}$", 12, "left", color=BLACK)
            for j in range(columns):
                on = i * columns + j in kept
                box(ax, left + cell * j + 0.03, y + 0.03, cell - 0.06, high - 0.06, number(scores[i][j], 1), "policy" if on
                    else "plain", bold=on)
            if not any(i * columns + j in kept for j in range(columns)):
                note(ax, left + cell * columns + 0.06, y + high / 2, "nothing", 11, "left", color=TONES["bad"][0], bold=True)
    return fig
