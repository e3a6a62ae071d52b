"""Plots: roles fixed in colour, line style and marker; labels that do not overlap; sizes that lint demands."""

import itertools
import random

import matplotlib
import pytest
from matplotlib.colors import to_rgb

matplotlib.use("Agg")
from rlhf_minimal.book import plots  # noqa: E402
from rlhf_minimal.book.records import Recorded  # noqa: E402

WORDS = {"title": "Gold turns while proxy climbs", "x_label": "update", "y_label": "reward"}


@pytest.fixture(autouse=True)
def closed():
    yield
    plots.plt.close("all")


def test_roles_differ_in_colour_line_and_marker_together():
    for a, b in itertools.combinations(plots.ROLES.values(), 2):
        assert a["color"] != b["color"] and a["marker"] != b["marker"]
    styles = [s["linestyle"] for s in plots.ROLES.values()]
    assert plots.ROLES["gold"] == {"color": "#000000", "linestyle": "--", "marker": "o"}
    assert plots.ROLES["reference"]["linestyle"] == ":" and plots.ROLES["proxy"]["linestyle"] == "-"
    assert len(set(styles)) >= 5


def test_text_colours_have_contrast():
    def luminance(colour):
        parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
    for colour in (plots.BLACK, plots.GREY):  # the only two that text is set in
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5


def test_line_plot_puts_each_label_at_the_end_of_its_line_with_its_look():
    lines = {"gold": [0, 2, 1], "proxy": ([0, 5, 9], [0, 1, 2]), "gold, small model": [0, 0, 0.5]}
    fig = plots.line_plot(lines, **WORDS)
    ax = fig.axes[0]
    gold, proxy, small = ax.lines
    assert (gold.get_color(), gold.get_linestyle(), gold.get_marker()) == ("#000000", "--", "o")
    assert proxy.get_color() == plots.ORANGE and list(proxy.get_xdata()) == [0, 5, 9]
    assert small.get_color() == gold.get_color()  # the first word is the role
    assert [t.get_text() for t in ax.texts] == ["gold", "proxy", "gold, small model"] and ax.get_legend() is None
    assert ax.texts[0].xy == (2.0, 1.0) and ax.texts[1].xy == (9.0, 2.0)
    assert ax.get_title(loc="left") == WORDS["title"] and ax.get_ylabel() == "reward"


def test_labels_of_lines_that_end_together_do_not_overlap_and_stay_inside():
    names = ["gold", "proxy", "policy", "chosen"]
    fig = plots.line_plot({name: [0, 1 + 1e-3 * i] for i, name in enumerate(names)}, **WORDS)
    fig.canvas.draw()
    boxes = [matplotlib.text.Text.get_window_extent(t) for t in fig.axes[0].texts]  # without the pointers
    for a, b in itertools.combinations(boxes, 2):
        assert a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
    assert max(b.x1 for b in boxes) <= fig.bbox.x1 + 1


def test_more_than_five_lines_get_a_legend():
    fig = plots.line_plot({name: [0, i] for i, name in enumerate("abcdef")}, **WORDS)
    assert fig.axes[0].get_legend() is not None and not fig.axes[0].texts
    looks = {(line.get_color(), line.get_marker()) for line in fig.axes[0].lines}
    assert len(looks) == 6
    with pytest.raises(ValueError, match="at most 8"):
        plots.line_plot({name: [0, 1] for name in "abcdefghi"}, **WORDS)


def test_roles_can_be_named_and_unknown_ones_are_refused():
    fig = plots.line_plot({"mean of five seeds": [0, 1]}, roles={"mean of five seeds": "rejected"}, **WORDS)
    assert fig.axes[0].lines[0].get_color() == plots.VERMILLION
    with pytest.raises(ValueError, match="role 'silver'"):
        plots.line_plot({"x": [0, 1]}, roles={"x": "silver"}, **WORDS)


def test_spread_keeps_order_and_gap_and_moves_nothing_that_is_apart():
    assert plots.spread([0.0, 5.0, 2.0], 1.0) == [0.0, 5.0, 2.0]
    assert plots.spread([1.0, 1.0], 1.0) == [0.5, 1.5]
    rng = random.Random(1)
    for _ in range(200):
        heights = [rng.random() * 3 for _ in range(rng.randint(1, 7))]
        placed = plots.spread(heights, 0.4)
        order = sorted(range(len(heights)), key=heights.__getitem__)
        assert all(placed[b] - placed[a] >= 0.4 - 1e-9 for a, b in itertools.pairwise(order))
        assert abs(sum(placed) - sum(heights)) < 1e-9


def test_zero_is_shown_or_its_absence_marked():
    shown = plots.line_plot({"gold": [5, 6]}, **WORDS).axes[0]
    assert shown.get_ylim()[0] <= 0 and "without 0" not in shown.get_ylabel()
    cut = plots.line_plot({"gold": [5, 6]}, zero=False, **WORDS).axes[0]
    assert cut.get_ylim()[0] > 0 and "without 0" in cut.get_ylabel()


def test_size_font_note_and_band():
    note = "village-3m, 3 M parameters"
    fig = plots.line_plot({"gold": [1, 2]}, bands={"gold": ([0, 1], [2, 3])}, note=note, **WORDS)
    assert tuple(fig.get_size_inches()) == (6.2, 3.8) and fig.dpi == 100 and len(fig.axes[0].collections) == 1
    texts = [t for t in fig.findobj(matplotlib.text.Text) if t.get_text()]
    assert min(t.get_fontsize() for t in texts) >= 11 and any(t.get_text() == note for t in texts)


def test_frontier_and_bars():
    fig = plots.frontier(([0, 1, 2], [0, 1, 1.5]), {"policy": (1, 0.5), "gold": (2, 1)}, title="Nothing lies above")
    assert len(fig.axes[0].lines) == 3 and "nats" in fig.axes[0].get_xlabel()
    fig = plots.frontier(([0, 1], [0, 1]), {"policy": (1, 0.5)}, title="With others", cloud=([0, 1, 1], [0, 0, 0.2]))
    assert list(fig.axes[0].lines[0].get_ydata()) == [0, 0, 0.2] and len(fig.axes[0].get_legend().get_texts()) == 1
    fig = plots.frontier(([0, 1], [0, 1]), {"policy": (1, 0.5)}, title="Large", cloud=([0], [0]), corner="upper center", dot=6)
    assert fig.axes[0].lines[0].get_markersize() == 6 and fig.axes[0].get_legend()._loc_real == 9
    errors = {"chosen": 0.1, "rejected": 0.2}
    fig = plots.bars({"chosen": 1.0, "rejected": -2.0}, title="Apart", y_label="nats", errors=errors)
    patches = fig.axes[0].patches
    assert [p.get_height() for p in patches] == [1.0, -2.0] and patches[0].get_hatch() != patches[1].get_hatch()
    assert fig.axes[0].get_ylim()[0] < 0 < fig.axes[0].get_ylim()[1]


def test_numbers_of_a_recorded_run_come_in_the_order_of_its_seeds():
    run = Recorded(name="made", arms={"10": {"PPO": {"gold": 3}}, "2": {"PPO": {"gold": 1}}})
    assert run.values("arms", "PPO", "gold") == [1, 3] and run.values("arms", ["PPO", "PPO"], "gold") == [[1, 1], [3, 3]]
    assert run.spread("arms", "PPO", "gold") == "1.0 to 3.0"
    with pytest.raises(ValueError, match="run made, arms: no 'DPO'; there are PPO"):
        run.values("arms", "DPO", "gold")


def test_a_recorded_run_is_drawn_as_running_means():
    run = Recorded(name="made", curve={"step": [1, 2, 3, 4], "gold": [0.0, 2.0, 4.0, 9.0]})
    words = {"title": "Gold rises", "y_label": "reward"}
    line = plots.recorded_plot(run, {"gold": "gold"}, over=2, **words).axes[0].lines[0]
    assert list(line.get_xdata()) == [1.5, 2.5, 3.5] and list(line.get_ydata()) == [1.0, 3.0, 6.5]
    for wrong in ({"over": 5}, {"over": 0}):
        with pytest.raises(ValueError, match="the run has 4 steps"):
            plots.recorded_plot(run, {"gold": "gold"}, **wrong, **words)
    with pytest.raises(ValueError, match="has no column 'golds'; it has gold, step"):
        plots.recorded_plot(run, {"gold": "golds"}, over=2, **words)


def test_panels_with_one_unit_can_have_one_scale():
    parts = {"low, nats": {"policy": [0.0, -1.0]}, "high, nats": {"policy": [0.0, -30.0]}}
    one, own = (plots.two_panels(parts, title="t", x_label="step", share=share) for share in (True, False))
    assert len({ax.get_ylim() for ax in one.axes}) == 1 and one.axes[0].get_ylim()[0] < -29
    assert own.axes[0].get_ylim()[0] > -3


def test_shares_are_dots_with_intervals_in_their_order():
    fig = plots.shares({"one": (0.6, 0.1), "two": (0.4, 0.05)}, title="One is ahead of two here", x_label="share", middle=0.5)
    ax, = fig.axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["one", "two"] and ax.get_yticks()[0] > ax.get_yticks()[1]
    bars = ax.collections[0].get_segments()
    assert [round(x, 6) for x in bars[0][:, 0]] == [0.5, 0.7] and 40 <= len(fig.alt) <= 300
    apart = plots.shares({"one": (0.6, 0.1)}, references={"coin": (0.5, 0.1)}, title="t", x_label="x", middle=0.5).axes[0]
    assert [t.get_text() for t in apart.get_yticklabels()] == ["one", "coin"]
    assert {"o", "s"} <= {line.get_marker() for line in apart.lines} and apart.get_yticks()[0] > 1 > apart.get_yticks()[1]
    assert not plots.shares({"one": (0.6, 0.0)}, title="t", x_label="x", middle=0.5).axes[0].lines[0].get_markersize() == 0


def test_panels_share_a_y_axis_only_when_asked():
    parts = {"first": {"policy": [0, 1]}, "second": {"policy": [0, 5]}}
    for share in (True, False):
        low, high = (ax.get_ylim() for ax in plots.panels(parts, title="Two", x_label="step", share=share).axes)
        assert (low == high) is share


def test_shares_and_planted_draw_the_ends_of_an_interval_where_they_are():
    fig = plots.shares({"one": (0.6, 0.5, 0.9)}, title="t", x_label="x", middle=0.5)
    ends = sorted(float(x) for line in fig.axes[0].lines for x in line.get_xdata() if line.get_marker() == "|")
    assert ends == pytest.approx([0.5, 0.9])
    fig = plots.planted({"one": (2.0, 1.5, 3.0), "two": (0.1, -0.2, 0.2)}, {"one": 6.0}, title="t", x_label="log-odds")
    assert [round(bar.get_width(), 3) for bar in fig.axes[0].patches] == [2.0, 0.1] and 40 <= len(fig.alt) <= 300
    assert [6.0] in [list(line.get_xdata()) for line in fig.axes[0].lines]


def test_moved_has_two_dots_in_each_row():
    fig = plots.moved([(1.0, -1.0), (2.0, 3.0)], ("asked for one", "asked for two"), title="One row changes sign", x_label="nats")
    dots = [line for line in fig.axes[0].lines if line.get_label() in ("asked for one", "asked for two")]
    assert [list(line.get_xdata()) for line in dots] == [[1.0, 2.0], [-1.0, 3.0]] and len(fig.alt) >= 40


def test_runs_draws_a_mark_for_each_run_on_a_logarithmic_axis():
    fig = plots.runs({"policy: DPO": [(0.5, 0.2), (40.0, -2.0)], "other: imitation": [(1.0, 0.1)]}, title="Far is worse here",
                     x_label="KL, nats", y_label="change", note="a mark: one run")
    ax = fig.axes[0]
    assert ax.get_xscale() == "log" and [list(line.get_ydata()) for line in ax.lines[:2]] == [[0.2, -2.0], [0.1]]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["DPO", "imitation"] and 40 <= len(fig.alt) <= 300
    with pytest.raises(ValueError, match="logarithmic"):
        plots.runs({"policy: DPO": [(0.0, 0.2)]}, title="t", x_label="x", y_label="y")


def test_runs_writes_words_beside_marks():
    fig = plots.runs({"policy: DPO": [(1.0, 0.2), (100.0, -2.0)]}, title="t", x_label="x", y_label="y",
                     beside={"250 steps": [(1.0, 0.2), (100.0, -2.0)]})
    (word,) = [text for text in fig.axes[0].texts if text.get_text() == "250 steps"]
    assert word.xy == (1.0, -0.9)


def test_watched_pairs_of_seeds_and_of_one_run():
    sides = ("chosen", "rejected", "third", "margin", "right")
    steps, y = [0, 5, 10], [0.0, 1.0, 3.0]
    many = Recorded(name="toy", curve={"step": steps} | {f"high {side} {seed}": y for side in sides for seed in (0, 1)})
    one = Recorded(name="toy", curve={"step": steps} | {f"high {side}": y for side in sides})
    for run, bands in ((many, 3), (one, 0)):
        fig = plots.watched(run, {"high rate": "high"}, title="t")
        assert [line.get_ydata()[-1] for line in fig.axes[0].lines[:3]] == [3.0] * 3
        assert len(fig.axes[0].collections) == bands and fig.axes[-1].get_xticks().tolist() == steps
    margin, share = plots.watched_logs(many, {"high rate": "high"}, title="t").axes
    assert margin.lines[0].get_xdata().tolist() == [5, 10] and share.get_xticks().tolist() == [5, 10]  # not the zeros of step 0
    assert many.last("high margin") == [3.0, 3.0]
