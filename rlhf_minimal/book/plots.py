"""One palette (Okabe–Ito, safe for colour-blind readers) and the standard plots, each a figure for `show(fig, alt)`.

A curve's role decides colour, line style and marker together, in the whole book: no meaning hangs on colour alone.
"""

import math

import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from .records import running_means

BLACK, ORANGE, SKY, GREEN, BLUE = "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILLION, PURPLE, GREY = "#D55E00", "#CC79A7", "#666666"
YELLOW = "#F0E442"  # for areas only: too pale for a line
ROLES = {
    "gold": {"color": BLACK, "linestyle": "--", "marker": "o"},
    "proxy": {"color": ORANGE, "linestyle": "-", "marker": "s"},
    "policy": {"color": BLUE, "linestyle": "-", "marker": "D"},
    "reference": {"color": GREY, "linestyle": ":", "marker": "x"},
    "chosen": {"color": GREEN, "linestyle": "-", "marker": "^"},
    "rejected": {"color": VERMILLION, "linestyle": "-.", "marker": "v"},
    "other": {"color": PURPLE, "linestyle": (0, (5, 1)), "marker": "P"},
    "other2": {"color": SKY, "linestyle": (0, (3, 1, 1, 1)), "marker": "*"},
}
STYLE = {"figure.figsize": (6.2, 3.8), "figure.dpi": 100, "savefig.dpi": 200, "font.size": 12, "axes.titlesize": 13,
         "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.edgecolor": "#9aa0aa", "axes.spines.top": False,
         "axes.spines.right": False, "font.family": "DejaVu Sans", "svg.hashsalt": "rlhf"}
plt.rcParams.update(STYLE)


def style(label, roles=None):
    """The look of a curve: its role from `roles` {label: role}, or the role that its label is or begins with."""
    role = (roles or {}).get(label) or next((r for r in ROLES if label.split(" ")[0].rstrip(",:") == r), None)
    if role is not None and role not in ROLES:
        raise ValueError(f"role {role!r} of {label!r}: expected one of {', '.join(ROLES)}")
    return ROLES[role] if role else None


def said(label):
    """A label without the role in front: "policy: best of 8" is shown as "best of 8"."""
    role, _, rest = label.partition(": ")
    return rest if rest and role in ROLES else label


def _styles(labels, roles):
    """A style for each label; labels without a role take unused ones, in a fixed order."""
    known = {label: style(label, roles) for label in labels}
    spare = [s for s in ROLES.values() if s not in known.values()][::-1]
    for label in labels:
        if known[label] is None and not spare:
            raise ValueError(f"{len(labels)} curves in one plot: at most {len(ROLES)} look different; make two plots")
        known[label] = known[label] or spare.pop(0)
    return known


def spread(heights, gap):
    """Move heights apart to at least `gap`, keeping their order and as little as needed: places for labels."""
    order = sorted(range(len(heights)), key=lambda i: (heights[i], i))
    groups = []  # [sum of heights - offsets, members]: pool neighbours that would touch
    for i in order:
        groups.append([heights[i], [i]])
        while len(groups) > 1:
            (a, first), (b, second) = groups[-2:]
            bottom = a / len(first) - gap * (len(first) - 1) / 2
            top = b / len(second) - gap * (len(second) - 1) / 2
            if top - bottom >= gap * len(first) - 1e-12:
                break
            groups[-2:] = [[a + b, first + second]]
    placed = list(heights)
    for total, members in groups:
        for k, i in enumerate(members):
            placed[i] = total / len(members) + gap * (k - (len(members) - 1) / 2)
    return placed


def end_labels(ax, ends, styles):
    """Write each label beside the end (x, y) of its line, apart where they would touch; above 5 lines a legend.

    A thin pointer joins a label to an end that is not just beside it.
    """
    if len(ends) > 5:
        return ax.legend(frameon=False)
    ax.figure.draw_without_rendering()  # the layout decides how high a panel is
    low, high = ax.get_ylim()
    inches = ax.get_position().height * ax.figure.get_figheight()  # a line of text needs a fifth of an inch
    places = spread([y for _, y in ends.values()], max(0.062, 0.22 / inches) * (high - low))
    right, span = max(x for x, _ in ends.values()), ax.get_xlim()[1] - ax.get_xlim()[0]
    for (label, (x, y)), place in zip(ends.items(), places, strict=True):
        away = abs(place - y) > 1e-9 or x < right - 0.02 * span
        pointer = {"arrowstyle": "-", "color": styles[label]["color"], "lw": 0.6} if away else None
        ax.annotate(said(label), xy=(x, y), xytext=(right + 0.02 * span, place), va="center", color=BLACK,
                    arrowprops=pointer, annotation_clip=False)


def new(title, x_label, y_label, note=""):
    """An empty figure: title (a sentence that says the message), axes with units, model and size in the corner."""
    fig, ax = plt.subplots(layout="constrained")
    ax.set_title(title, loc="left")
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    _corner(fig, note)
    return fig, ax


def over_seeds(y):
    """A curve, or one curve a seed -> (mean, (lowest, highest) or None, number of seeds)."""
    many = len(y) and (isinstance(y[0], (list, tuple)) or getattr(y[0], "ndim", 0) == 1)
    rows = [[float(v) for v in row] for row in (y if many else [y])]
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"curves of one label have {sorted({len(row) for row in rows})} points; give one length")
    columns = list(zip(*rows, strict=True))
    band = ([min(c) for c in columns], [max(c) for c in columns]) if len(rows) > 1 else None
    return [sum(c) / len(c) for c in columns], band, len(rows)


def _curves(ax, lines, looks, bands):
    """Draw {label: y or (x, y)} with bands -> (ends {label: (x, y)}, the largest number of seeds in a curve)."""
    ends, most, whole = {}, 1, True
    for label, line in lines.items():
        x, y = line if isinstance(line, tuple) else (None, line)
        y, band, seeds = over_seeds(y)
        x = [float(v) for v in (range(len(y)) if x is None else x)]
        ax.plot(x, y, label=said(label), markersize=4, markevery=max(1, len(y) // 8), linewidth=1.8, **looks[label])
        band = [[float(v) for v in edge] for edge in bands[label]] if label in (bands or {}) else band
        if band:
            ax.fill_between(x, *band, color=looks[label]["color"], alpha=0.15, linewidth=0)
        ends[label], most = (x[-1], y[-1]), max(most, seeds)
        whole = whole and all(v == int(v) for v in x)
    if whole:  # no half steps on the axis
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ends, most


def _corner(fig, note, seeds=1):
    """Model and size in the corner, and what a band is."""
    parts = [note] if note else []
    parts += [f"line: mean, band: range of {seeds} seeds"] if seeds > 1 else []
    if parts:
        fig.text(0.995, 0.005, " · ".join(parts), ha="right", va="bottom", fontsize=11, color=GREY)
        fig.get_layout_engine().set(rect=(0, 0.3 / fig.get_figheight(), 1, 1 - 0.3 / fig.get_figheight()))


def line_plot(lines, *, title, x_label, y_label, note="", roles=None, bands=None, zero=True):
    """Curves {label: y or (x, y)}; y of shape (seeds, steps) is drawn as mean and range.

    bands {label: (low, high)} of the same length; zero=True keeps 0 on the y axis.
    """
    fig, ax = new(title, x_label, y_label)
    looks = _styles(list(lines), roles)
    ends, seeds = _curves(ax, lines, looks, bands)
    _corner(fig, note, seeds)
    _zero(ax, zero)
    end_labels(ax, ends, looks)
    return fig


def panels(parts, *, title, x_label, roles=None, bands=None, marks=None, side=False, note="", zero=True, alt="",
           ticks=None, share=False, places=None):
    """One x, several units: parts {y label with its unit: {curve: y or (x, y)}}, a panel each, one under the other.

    y of shape (seeds, steps) is drawn as mean and range. bands {y label: {curve: (low, high)}}. marks {x: text}: dotted
    vertical lines. side=True sets the panels beside each other. ticks: what the places 0, 1, 2, … on the x axis are called.
    share=True gives all panels the same y axis. One label has one look in all panels. places: the numbers on the x axis.
    """
    n = len(parts)
    shape, size = ((1, n), (4.4 * n, 3.6)) if side else ((n, 1), (6.2, 0.9 + (3.1 if n == 1 else 2.35 * n)))
    fig, axes = plt.subplots(*shape, figsize=size, layout="constrained", sharex=not side, sharey=share, squeeze=False)
    looks, most = _styles(list(dict.fromkeys(label for lines in parts.values() for label in lines)), roles), 1
    drawn = [_curves(ax, lines, looks, (bands or {}).get(unit))
             for ax, (unit, lines) in zip(axes.flat, parts.items(), strict=True)]
    for ax, unit, (ends, seeds) in zip(axes.flat, parts, drawn, strict=True):
        most = max(most, seeds)
        ax.set_title(unit, fontsize=11.5, fontweight="normal", color="#444b57")
        for i, (at, text) in enumerate((marks or {}).items()):
            ax.axvline(at, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
            if ax is axes.flat[0] or side:
                ax.annotate(text, (at, 0.98 - 0.1 * i), xycoords=("data", "axes fraction"), xytext=(4, 0),
                            textcoords="offset points", va="top", fontsize=10.5, color=GREY)
        _zero(ax, zero)
        end_labels(ax, ends, looks)
    for ax in axes.flat if side else axes[-1]:
        ax.set_xlabel(x_label)
        if ticks:
            ax.set_xticks(range(len(ticks)), [f"{t:,}" if isinstance(t, int) else str(t) for t in ticks])
        elif places:
            ax.set_xticks(places)
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    _corner(fig, note, most)
    fig.alt = alt or short(f"{n} line plots with one x axis, {x_label}: {'; '.join(parts)}. {title}.")
    return fig


def curves(parts, *, title, labels, x_label, note="", alt="", roles=None):
    """Narrow panels under each other, each with its own x axis: parts {y label: ({curve: y}, names of the places, x label)}.

    y of shape (seeds, places) is drawn as mean and range. labels {y label: {curve: (x, y)}}: where the words of a curve
    stand, in its colour; no label needs the end of a line. x_label is used where a part gives none.
    """
    fig, axes = plt.subplots(len(parts), 1, figsize=(5.0, 0.7 + 2.6 * len(parts)), layout="constrained", squeeze=False)
    looks, most = _styles(list(dict.fromkeys(name for lines, *_ in parts.values() for name in lines)), roles), 1
    for ax, (unit, (lines, places, *own)) in zip(axes.flat, parts.items(), strict=True):
        if lacks := [name for name in lines if name not in labels.get(unit, {})]:
            raise ValueError(f"{unit!r}: no place for the label of {lacks[0]!r}; give labels {{y label: {{curve: (x, y)}}}}")
        most = max(most, _curves(ax, lines, looks, None)[1])
        ax.set_title(unit, fontsize=11.5, fontweight="normal", color="#444b57")
        ax.set_xticks(range(len(places)), [f"{t:,}" if isinstance(t, int) else str(t) for t in places])
        ax.set_xlabel(own[0] if own else x_label)
        _zero(ax, True)
        for name in lines:
            ax.text(*labels[unit][name], said(name), color=_dark(looks[name]["color"]), fontweight="bold", fontsize=11)
    fig.suptitle(title, x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    _corner(fig, note, most)
    fig.alt = alt or short(f"Line plot against {x_label}: {'; '.join(parts)}. {title}.")
    return fig


def dots(parts, *, title, note="", alt="", roles=None):
    """Unordered alternatives as rows of dots: parts {x label with unit: {group: {row: one value for each seed}}}.

    A dot is the mean, its line the range over the seeds. All groups have the same rows; a legend names them.
    """
    first = next(iter(parts.values()))
    names = list(next(iter(first.values())))
    if any(list(values) != names for groups in parts.values() for values in groups.values()):
        raise ValueError(f"each group needs the rows {', '.join(names)}")
    looks = _styles(list(dict.fromkeys(g for groups in parts.values() for g in groups)), roles)
    fig, axes = plt.subplots(len(parts), 1, figsize=(5.0, 1.1 + (0.75 + 0.42 * len(names)) * len(parts)),
                             layout="constrained", squeeze=False)
    seeds = 1
    for ax, (unit, groups) in zip(axes.flat, parts.items(), strict=True):
        for k, (group, values) in enumerate(groups.items()):
            for i, row in enumerate(names):
                found = [float(v) for v in values[row]]
                y, seeds = -i - 0.22 * (k - (len(groups) - 1) / 2), max(seeds, len(found))
                ax.plot([min(found), max(found)], [y, y], color=looks[group]["color"], linewidth=2)
                ax.plot(sum(found) / len(found), y, linestyle="", marker=looks[group]["marker"], markersize=8,
                        color=looks[group]["color"], label=said(group) if i == 0 else None)
        ax.set_yticks([-i for i in range(len(names))], names)
        ax.set_ylim(-len(names) + 0.4, 0.6)
        ax.axvline(0, color="#9aa0aa", linewidth=0.8, zorder=0)
        ax.grid(axis="x", color="#e3e6ea", zorder=0)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.set_title(unit, fontsize=11.5, fontweight="normal", color="#444b57", loc="center")
    fig.suptitle(title, x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=min(len(looks), 2 if len(looks) > 3 else 3),
               frameon=False, fontsize=11)
    if seeds > 1 or note:
        axes[-1, 0].set_xlabel(note or f"mark: mean, line: range of {seeds} seeds", fontsize=10.5, color=GREY)
    fig.alt = alt or short(f"Rows of dots for {', '.join(names)}: {'; '.join(parts)}. {title}.")
    return fig


def _dark(color, share=0.72):
    """A colour of the palette, darker, so that words in it can be read on white."""
    from matplotlib.colors import to_rgb

    return tuple(share * c for c in to_rgb(color))


def two_panels(parts, **look):
    """`panels` with exactly two quantities in different units: never one axis for both."""
    if len(parts) != 2:
        raise ValueError(f"{len(parts)} parts: expected two, {{y label: {{curve: values}}}}; panels(...) takes any number")
    return panels(parts, **look)


def short(text, most=300):
    """An alt text of at most `most` characters, cut at a word."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[:most - 1].rsplit(" ", 1)[0] + "…"


def _smooth(run, column, over):
    """(middle of each window, one list of means over `over` steps for each seed) of a recorded column."""
    steps = run.curve["step"]
    if not 1 <= over <= len(steps):
        raise ValueError(f"over is {over}, the run has {len(steps)} steps; give 1 to {len(steps)}")
    every = run.smooth(column, over)
    return running_means(steps, over), every if len(every) > 1 else every[0]


def recorded_plot(run, columns, *, title, y_label, over=9, note="", roles=None, zero=True):
    """Curves {label: column} of a recorded run (`recorded(name)`) against its steps, each a mean over `over` steps.

    A run over seeds (columns "gold 0", "gold 1", …) is drawn as mean and range of its column "gold".
    """
    lines = {label: _smooth(run, column, over) for label, column in columns.items()}
    return line_plot(lines, title=title, x_label=f"step (each point is a mean over {over})", y_label=y_label, note=note,
                     roles=roles, zero=zero)


def recorded_panels(run, parts, *, title, over=9, **look):
    """`panels` of a recorded run: parts {y label: {label: column}}."""
    found = {unit: {label: _smooth(run, column, over) for label, column in columns.items()} for unit, columns in parts.items()}
    told = "step" if over == 1 else f"step (each point is a mean over {over})"
    return panels(found, title=title, x_label=told, **look)


def watched(run, arms, *, title, note=""):
    """A panel for each of `arms` {label: how its columns begin}: change of log-probability of watched pairs (`PairWatch`).

    The chosen, the rejected and the third answers, since the start, of a recorded run or of several seeds.
    """
    steps = run.curve["step"]
    parts = {f"{label}, nats per answer": {side: (steps, _one_or_many(run.seeds(f"{arm} {side}")))
                                           for side in ("chosen", "rejected", "third")} for label, arm in arms.items()}
    return panels(parts, title=title, x_label="step", roles={"third": "other"}, note=note, places=steps)


def watched_logs(run, arms, *, title, roles=None, note=""):
    """What a training log shows of watched pairs: margin and share of pairs right; `arms` as in `watched`.

    The first point is left out: before the first step every margin is 0.
    """
    steps = run.curve["step"][1:]
    parts = {unit: {label: (steps, _one_or_many([y[1:] for y in run.seeds(f"{arm} {column}")])) for label, arm in arms.items()}
             for unit, column in {"margin": "margin", "share of pairs right": "right"}.items()}
    return panels(parts, title=title, x_label="step", roles=roles, note=note, places=steps)


def _one_or_many(rows):
    """A single row is a curve, not a band."""
    return rows if len(rows) > 1 else rows[0]


def best_of_n(ns, parts, *, title, note="", **look):
    """`panels` of best-of-n against n, on a log axis: parts {y label: {label: one value for each n}}.

    A row for each set of labels, shape (sets, len(ns)), is drawn as mean and range over the sets.
    """
    logs, placed, bands, sets = [math.log2(n) for n in ns], {}, {}, 1
    for unit, lines in parts.items():
        for label, y in lines.items():
            mean, band, rows = over_seeds(y.tolist() if hasattr(y, "tolist") else y)
            placed.setdefault(unit, {})[label] = (logs, mean)
            bands.setdefault(unit, {}).update({label: band} if band else {})
            sets = max(sets, rows)
    told = [note] if note else []
    told += [f"line: mean, band: range of {sets} label sets"] if sets > 1 else []
    fig = panels(placed, title=title, x_label="n, the number of answers to choose from", note=" · ".join(told),
                 zero=None, bands=bands, **look)
    for ax in fig.axes:
        ax.set_xticks(logs, [str(n) for n in ns])
    return fig


def seed_lines(run, parts, *, title, over=9, note="", alt="", logs=()):
    """A recorded run over seeds, a panel under the other: parts {y label: column}; one thin line a seed, a dot at its top.

    The thick line is the mean over the seeds; every point is a mean over `over` steps. logs: columns with a log axis.
    """
    fig, axes = plt.subplots(len(parts), 1, figsize=(6.2, 1 + 2.3 * len(parts)), layout="constrained", sharex=True, squeeze=False)
    for ax, (unit, column) in zip(axes.flat, parts.items(), strict=True):
        x, rows = _smooth(run, column, over)
        color = ROLES.get(column, ROLES["policy"])["color"]
        for y in rows:
            ax.plot(x, y, color=color, alpha=0.5, linewidth=1.1)
            top = max(range(len(y)), key=y.__getitem__)
            ax.plot(x[top], y[top], "o", color=color, markersize=6)
        ax.plot(x, over_seeds(rows)[0], color=color, linewidth=3)
        if column in logs:
            low, high = min(map(min, rows)), max(map(max, rows))
            ax.set_yscale("log")
            ax.set_yticks([y for y in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low / 1.5 < y < 1.5 * high])
            ax.yaxis.set_major_formatter("{x:g}")
            ax.minorticks_off()
        ax.set_title(unit, fontsize=11.5, fontweight="normal", color="#444b57")
    axes[-1, 0].set_xlabel(f"step (means over {over})" if over > 1 else "step")
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    _corner(fig, note or f"thin: {len(rows)} seeds, dot: highest point; thick: their mean")
    fig.alt = alt or short(f"Line plots, one thin line a seed: {', '.join(parts)}. {title}.")
    return fig


def frontier(curve, points, *, title, x_label="KL to the reference, nats", y_label="reward", note="", roles=None,
             zero=False, cloud=None, beside="line: nothing lies above it", corner="lower right", dot=2.5):
    """The best reward at each KL as a line, curve = (kl, reward), and policies as marks {label: (kl, reward)}.

    cloud = (kl, reward) of many other policies: grey dots of size `dot`. `beside`: the title of the legend, which stands in
    `corner`, a place that matplotlib knows.
    """
    fig, ax = new(title, x_label, y_label, note)
    if cloud is not None:
        ax.plot(*([float(v) for v in values] for values in cloud), linestyle="", marker=".", markersize=dot, color="#b9bec7",
                rasterized=True, zorder=0)
    ax.plot(*([float(v) for v in values] for values in curve), color=BLACK, linewidth=1.8, linestyle="-")
    looks = _styles(list(points), roles)
    for label, (kl, reward) in points.items():
        ax.plot(float(kl), float(reward), linestyle="", marker=looks[label]["marker"], color=looks[label]["color"],
                markersize=8, label=said(label))
    _zero(ax, zero)
    ax.legend(frameon=False, loc=corner, title=beside)
    return fig


def runs(parts, *, title, x_label, y_label, note="", roles=None, alt="", beside=None):
    """A mark for each run: parts {group: [(x, y)]}, x above 0 on a logarithmic axis; a legend below the plot names the groups.

    beside {text: [(x, y)]}: these words stand to the left of the marks at these places.
    """
    if low := [label for label, points in parts.items() if any(x <= 0 for x, _ in points)]:
        raise ValueError(f"{low[0]!r} has an x of 0 or less: the x axis is logarithmic")
    fig, ax = plt.subplots(figsize=(6.2, 3.4 + 0.2 * len(parts)), layout="constrained")
    looks = _styles(list(parts), roles)
    for label, points in parts.items():
        ax.plot(*([float(v) for v in values] for values in zip(*points, strict=True)), linestyle="", markersize=7, alpha=0.85,
                marker=looks[label]["marker"], color=looks[label]["color"], label=said(label))
    for text, points in (beside or {}).items():
        first, middle = min(float(x) for x, _ in points), sum(float(y) for _, y in points) / len(points)
        ax.annotate(text, (first, middle), xytext=(-10, 0), textcoords="offset points", ha="right", va="center", fontsize=10.5,
                    color=GREY)
    ax.axhline(0, color=GREY, linestyle=":", linewidth=1.4, zorder=0)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel(x_label)
    ax.set_title(y_label, fontsize=11.5, fontweight="normal", color="#444b57")
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    fig.legend(loc="outside lower left", frameon=False, fontsize=11)
    if note:
        ax.annotate(note, (0.02, 0.03), xycoords="axes fraction", fontsize=10.5, color=GREY)
    fig.alt = alt or short(f"Marks, one for each run, {y_label} against {x_label}, of {', '.join(map(said, parts))}. {title}.")
    return fig


def bars(values, *, title, y_label, x_label="", note="", roles=None, errors=None):
    """A bar for each {label: value}, from zero, hatched as well as coloured; errors {label: half width of interval}."""
    fig, ax = new(title, x_label, y_label, note)
    hatches = dict(zip(ROLES, ("", "//", "..", "xx", "\\\\", "--", "++", "oo"), strict=True))
    looks = _styles(list(values), roles)
    for label, value in values.items():
        role = next(r for r, s in ROLES.items() if s == looks[label])
        ax.bar(said(label), float(value), color=looks[label]["color"], hatch=hatches[role], edgecolor="white",
               yerr=None if errors is None else float(errors[label]), capsize=4)
    ax.axhline(0, color=BLACK, linewidth=0.8)
    return fig


def shares(values, *, title, x_label, middle, references=None, note="", alt=""):
    """A dot for each {label: (share, half width of its interval) or (share, low, high)}, the first on top; dotted line at `middle`.

    references: rows of the same form, grey squares under a line: what the others are compared with. Where no share has an
    interval (all half widths 0) none is drawn.
    """
    rows, apart = {**values, **(references or {})}, 0.4 if references else 0
    fig, ax = plt.subplots(figsize=(6.2, 1.5 + 0.42 * (len(rows) + apart)), layout="constrained")
    places = [len(rows) - 1 - i + (apart if i < len(values) else 0) for i in range(len(rows))]
    for i, (row, place) in enumerate(zip(rows.values(), places, strict=True)):
        arms, plain = _arms(row), i < len(values)
        ax.errorbar([float(row[0])], [place], xerr=[[arms[0]], [arms[1]]], fmt="o" if plain else "s", color=BLUE if plain else GREY,
                    markersize=7, capsize=4 if any(arms) else 0)
    if references:
        ax.axhline(len(references) - 0.5 + apart / 2, color=GREY, linewidth=0.8)
    ax.axvline(middle, color=GREY, linestyle=":", linewidth=1.4, zorder=0)
    ax.set_yticks(places, list(rows))
    ax.set_ylim(-0.6, len(rows) - 0.4 + apart)
    ax.set_xlabel(x_label)
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    _corner(fig, note)
    fig.alt = alt or short(f"Dots with intervals, {x_label}, for {', '.join(rows)}. {title}.")
    return fig


def _arms(value):
    """Lengths of the two arms of an interval, from (mean, half width) or (mean, low, high)."""
    if len(value) == 2:
        return float(value[1]), float(value[1])
    mean, low, high = map(float, value)
    return max(mean - low, 0.0), max(high - mean, 0.0)


def planted(values, truth=None, *, title, x_label, note="", alt=""):
    """A lying bar from 0 for each {label: (value, low, high)}; a diamond where the truth {label: value} is known."""
    fig, ax = plt.subplots(figsize=(6.2, 1.5 + 0.48 * len(values)), layout="constrained")
    places = dict(zip(values, range(len(values) - 1, -1, -1), strict=True))
    ax.barh(list(places.values()), [float(v[0]) for v in values.values()], color=BLUE, height=0.55, alpha=0.75,
            xerr=list(zip(*(_arms(v) for v in values.values()), strict=True)), capsize=4)
    for label, value in (truth or {}).items():
        ax.plot(float(value), places[label], "D", color=BLACK, markersize=8, clip_on=False)
    ax.axvline(0, color=BLACK, linewidth=0.8)
    ax.set_yticks(list(places.values()), list(places))
    ax.set_xlabel(x_label)
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    _corner(fig, note)
    fig.alt = alt or short(f"Bars with intervals, {x_label}, for {', '.join(values)}. {title}.")
    return fig


def moved(pairs, names, *, title, x_label, note="", alt=""):
    """Two dots in each row (first, second), joined by a line; names: what the first and the second dot are."""
    fig, ax = plt.subplots(figsize=(6.2, 1.9 + 0.24 * len(pairs)), layout="constrained")
    for y, (first, second) in enumerate(pairs):
        ax.plot([float(first), float(second)], [y, y], color=GREY, linewidth=1.5, zorder=0)
    places = range(len(pairs))
    ax.plot([float(a) for a, _ in pairs], places, "o", color=BLUE, markersize=8, label=names[0])
    ax.plot([float(b) for _, b in pairs], places, "s", color=BLACK, markersize=6, markerfacecolor="white", label=names[1])
    ax.axvline(0, color=GREY, linestyle=":", linewidth=1.4, zorder=0)
    ax.set_yticks([])
    ax.set_xlabel(x_label)
    ax.legend(loc="lower right")
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    _corner(fig, note)
    fig.alt = alt or short(f"Two dots a row, {names[0]} and {names[1]}, {x_label}. {title}.")
    return fig


def _zero(ax, zero):
    low, high = ax.get_ylim()
    if zero and not low <= 0 <= high:
        ax.set_ylim(min(low, 0), max(high, 0))
    elif zero is not None and not low <= 0 <= high:
        ax.set_ylabel(ax.get_ylabel() + "\n(axis without 0)")
