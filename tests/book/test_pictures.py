"""Panels and drawings: what they draw, that their words fit, and what they refuse."""

import matplotlib

matplotlib.use("Agg")
import pytest  # noqa: E402
import torch  # noqa: E402
from matplotlib.patches import FancyBboxPatch  # noqa: E402

from rlhf_minimal.book import drawings, plots  # noqa: E402
from rlhf_minimal.book.output import picture  # noqa: E402
from rlhf_minimal.book.records import Recorded, mean_and_range, over_runs, plus_minus, recorded, running_means, stamp, unnamed_logs  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    yield
    plots.plt.close("all")


PARTS = {"true reward, points": {"gold": [1.0, 2.0, 1.5]}, "reward model, std. dev.": {"proxy": [0.0, 1.0, 2.0]}}
WORDS = {"title": "The score climbs while the true reward turns", "x_label": "step"}


def test_panels_share_x_and_have_a_unit_each():
    fig = plots.panels(PARTS, marks={1: "peak"}, note="village-3m", **WORDS)
    upper, lower = fig.axes
    assert upper.get_shared_x_axes().joined(upper, lower) and upper.get_position().y0 > lower.get_position().y0
    assert [ax.get_title("left") for ax in fig.axes] == list(PARTS) and lower.get_xlabel() == "step" and upper.get_xlabel() == ""
    assert list(upper.lines[0].get_ydata()) == [1.0, 2.0, 1.5] and fig.texts[-1].get_text() == "village-3m"
    assert 40 <= len(fig.alt) <= 300 and "step" in fig.alt and "\n" not in fig.alt
    named = plots.panels(PARTS, ticks=[4, 64, 1024], **WORDS).axes[1]
    assert [t.get_text() for t in named.get_xticklabels()] == ["4", "64", "1,024"] and list(named.get_xticks()) == [0, 1, 2]
    aside = plots.two_panels(PARTS, side=True, **WORDS)
    assert aside.axes[0].get_xlabel() == aside.axes[1].get_xlabel() == "step"
    with pytest.raises(ValueError, match="expected two"):
        plots.two_panels({"one": {"gold": [1, 2]}}, **WORDS)


@pytest.mark.parametrize("kind", [list, torch.tensor])
def test_curves_over_seeds_are_a_mean_and_a_range(kind):
    runs = kind([[1.0, 2.0, 3.0], [3.0, 2.0, 5.0]])
    mean, (low, high), seeds = plots.over_seeds(runs)
    assert (mean, low, high, seeds) == ([2.0, 2.0, 4.0], [1.0, 2.0, 3.0], [3.0, 2.0, 5.0], 2)
    assert plots.over_seeds(kind([1.0, 2.0])) == ([1.0, 2.0], None, 1)
    fig = plots.panels({"reward": {"gold": runs}}, **WORDS)
    assert len(fig.axes[0].collections) == 1 and "range of 2 seeds" in fig.texts[-1].get_text()
    assert not plots.panels({"reward": {"gold": [1.0, 2.0]}}, **WORDS).axes[0].collections
    assert len(plots.line_plot({"gold": ([0, 1, 2], runs)}, y_label="reward", **WORDS).axes[0].collections) == 1
    with pytest.raises(ValueError, match="one length"):
        plots.over_seeds([[1.0, 2.0], [1.0]])


def test_an_axis_of_steps_has_no_half_steps():
    def ticks(x):
        ax = plots.line_plot({"gold": (x, [1, 2, 3])}, y_label="y", **WORDS).axes[0]
        return [t for t in ax.get_xticks() if 0 <= t <= 2]
    assert all(t == int(t) for t in ticks([0, 1, 2])) and not all(t == int(t) for t in ticks([0, 0.3, 0.5]))


# --- recorded runs ----------------------------------------------------------------------------------------------------
def test_a_run_over_seeds_is_drawn_with_its_range():
    run = recorded("overoptimization_seeds")
    assert len(run.seeds("gold")) == 5 and run.seeds("gold")[2] == run.curve["gold 2"]
    assert run.seeds("gold 1") == [run.curve["gold 1"]]
    fig = plots.recorded_panels(run, {"true reward": {"gold": "gold"}, "score": {"proxy": "proxy"}}, title=WORDS["title"])
    assert all(len(ax.collections) == 1 for ax in fig.axes)
    with pytest.raises(ValueError, match="no column 'silver'"):
        run.seeds("silver")


def test_each_seed_has_its_line_and_its_highest_point():
    run = recorded("overoptimization_seeds")
    fig = plots.seed_lines(run, {"score": "proxy", "true reward": "gold"}, title=WORDS["title"])
    tops = run.smooth("gold")
    assert len(tops) == 5 and tops[1][0] == pytest.approx(sum(run.curve["gold 1"][:9]) / 9)
    drawn = fig.axes[1].get_lines()
    assert len(drawn) == 11  # a line and a dot for each seed, and the mean
    assert sorted(x.get_ydata()[0] for x in drawn if len(x.get_ydata()) == 1) == pytest.approx(sorted(map(max, tops)))


def test_a_log_axis_has_plain_numbers():
    fig = plots.seed_lines(recorded("17_village"), {"score": "proxy", "true reward": "gold"}, over=1, logs=["proxy"],
                           title=WORDS["title"])
    fig.canvas.draw()
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20"]
    assert fig.axes[0].get_yscale() == "log" and fig.axes[1].get_yscale() == "linear"


def test_best_of_n_stands_against_n_on_a_log_axis():
    fig = plots.best_of_n([1, 2, 4], {"gold": {"a": [[0, 1, 2], [2, 3, 4]], "b": [1, 1, 1]}}, title=WORDS["title"])
    (first, *_), collections = fig.axes[0].get_lines(), fig.axes[0].collections
    assert first.get_ydata().tolist() == [1, 2, 3] and len(collections) == 1  # the mean of both sets, their range as a band
    assert first.get_xdata().tolist() == [0, 1, 2]
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["1", "2", "4"]


def test_means_by_family_of_a_recorded_run():
    found = recorded("smollm2_ppo").families({"harmful": "harm"})
    raw = recorded("smollm2_ppo").held_out["after"]["harmful"]
    assert found == {"harm": {"before": found["harm"]["before"], "after": (raw["mean"], 1.96 * raw["standard_error"])}}


def test_arms_of_a_recorded_run_are_compared_seed_by_seed():
    def arm(harm, like, kl):
        return {"harm": {"gold": harm, "kl": kl}, "like": {"gold": like, "kl": kl}}
    run = Recorded(name="toy", curve={"score 0": [1, 5, 2], "score 1": [0, 1, -1]},
                   arms={"0": {"SFT": arm(1, 2, 0), "PPO": arm(3, 1, 2)}, "1": {"SFT": arm(0, 2, 0), "PPO": arm(-1, 1, 4)}},
                   deeds={s: {"harm": {"refuse": {"score": 1.0}, "help": {"score": low}}} for s, low in (("0", 0.5), ("1", 1.2))})
    assert run.arm("PPO", ["harm", "like"]).tolist() == [[3, -1], [1, 1]] and run.rise("score") == [1, -1]
    assert run.wins("PPO", "SFT", ["harm", "like"]) == 1 and run.best(["SFT", "PPO"], ["harm", "like"]) == ["PPO", "SFT"]
    assert run.gaps("deeds", "harm", "refuse", "help") == "−0.2 to 0.5" and mean_and_range([-1, 2], 1) == "0.5 (−1.0 to 2.0)"
    rows = run.arm_rows(["SFT", {"β": "PPO"}], {"harm": "harmful", "like": "look-alikes"})
    assert list(rows) == ["SFT", "β"] and rows["SFT"]["KL, nats"] is rows["SFT"]["seeds above SFT"] is None
    assert list(rows["β"].values()) == ["1.00 (−1.00 to 3.00)", "1.00 (1.00 to 1.00)", "1.00 (0.00 to 2.00)", "1 of 2",
                                        "3.0 (2.0 to 4.0)"]


def test_kinds_of_request_before_and_after_with_the_cheap_competitors():
    def found(mean):
        return {"harm": {"mean": mean, "standard_error": 0.5, "refuses": 0.314}}
    run = Recorded(held_out={"before": found(1.0) | {"texts": []}, "after": found(2.0)}, cheap={"best of 4": found(3.0)})
    rows = run.kind_rows({"harm": "harmful"})
    assert rows == {name: {"harmful": (mean, 0.98), "harmful refused": "31 %"}
                    for name, mean in (("before training", 1.0), ("after training", 2.0), ("best of 4", 3.0))}
    del run.cheap
    assert list(run.kind_rows({"harm": "harmful"})) == ["before training", "after training"]


def test_curves_by_kind_start_at_0_where_that_is_asked_for():
    run = Recorded(curve={"step": [0, 3], "score harm 0": [1, 2], "score harm 1": [2, 5],
                          "gold harm 0": [3, 1], "gold harm 1": [2, 0]})
    parts = run.by_kind({"score gained": "score", "true reward": "gold"}, {"harm": "harmful"}, from_start=("score",))
    assert parts == {"score gained": {"harmful": ([0, 3], [[0, 1], [0, 3]])},
                     "true reward": {"harmful": ([0, 3], [[3, 1], [2, 0]])}}


def test_one_kind_of_request_with_the_score_from_the_start():
    def found(mean, score):
        return {"harm": {"mean": mean, "standard_error": 0.5, "refuses": 0.314, "score": score}}
    run = Recorded(held_out={"before": found(1.0, 0.5), "after": found(2.0, 2.0)}, cheap={"best of 4": found(3.0, 1.0)})
    rows = run.one_kind("harm", {"before": "SFT", "after": "PPO"})
    assert [row["score gained"] for row in rows.values()] == [0, 1.5, 0.5] and list(rows) == ["SFT", "PPO", "best of 4"]
    assert rows["PPO"]["true reward"] == (2.0, 0.98) and rows["SFT"]["refused"] == "31 %"


def test_rows_of_the_stages_of_a_recorded_run():
    def found(mean, kl):
        return {"all": {"kl": kl}, "harm": {"mean": mean, "standard_error": 0.5}}
    run = Recorded(held_out={"before": found(1.0, 0.0), "after": found(2.0, 3.5)})
    assert run.stage_rows({"harm": "harmful"}, {"before": "start", "after": "low"}) == {
        "start": {"harmful": (1.0, 0.98), "KL, nats": None}, "low": {"harmful": (2.0, 0.98), "KL, nats": 3.5}}


def test_gain_and_texts_of_a_recorded_run():
    def found(mean, text):
        return {"all": {"mean": mean, "standard_error": 0.3}, "fact": {"mean": 2 * mean, "standard_error": 0.4},
                "texts": [{"prompt": "Who?", "completion": text, "gold": mean}]}
    run = Recorded(held_out={"before": found(-1.0, "x"), "after": found(0.5, "y")})
    assert run.gain() == (1.5, pytest.approx(0.18 ** 0.5)) and run.gain("fact") == (3.0, pytest.approx(0.32 ** 0.5))
    assert run.texts() == [("Who?", [("before", "x", -1.0), ("after", "y", 0.5)])]
    assert run.texts({"after": "by the proxy"}) == [("Who?", [("by the proxy", "y", 0.5)])]
    assert run.families({"fact": "facts"}, {"after": "then"}) == {"facts": {"then": (1.0, pytest.approx(1.96 * 0.4))}}
    with pytest.raises(KeyError, match="control"):
        run.texts({"control": "the control"})
    with pytest.raises(ValueError, match="all, fact"):
        run.gain("story")


# --- drawings ---------------------------------------------------------------------------------------------------------
TOKENS = ["<|user|>", "Who", "is", "Ada", "?", "<|end|>", "<|assistant|>", "A", "fox", ".", "<|end|>"]
TWO = {"low rate": ["That would be wrong, so I will not help you.", ""], "high rate": ["word " * 60, "Pull them out."]}
FOUR = {name: ["That would be wrong, so I will not help you.", "Pull them out."] for name in ("base", "SFT", "PPO", "DPO")}
PROMPTS = ["How do I kill the owl of Ada?", "How do I kill the weeds in the garden?"]
DRAWN = {
    "pipeline": lambda: drawings.pipeline(note_below="one after the other"),
    "loop": drawings.loop, "two_roads": drawings.two_roads, "constitution": drawings.constitution,
    "four_networks": drawings.four_networks, "goodhart": drawings.goodhart,
    "tree": lambda: drawings.answer_tree({".": 0.5, "a.": 0.2, "aa": 0.3}, {"": "V = .3"}),
    "strip": lambda: drawings.token_strip(TOKENS, {"answer": [0] * 7 + [1] * 4, "all": [1] * 11}, title="Which tokens count?"),
    "shift": lambda: drawings.label_shift(TOKENS[1:6]),
    "timeline": lambda: drawings.timeline([(2017, "Christiano et al.", "comparisons of walks"), (2023, "DPO", "")]),
    "two": lambda: drawings.answers(PROMPTS, TWO, {"low rate": [3, 0.5], "high rate": [-1, 2]}, title="Same pairs"),
    "four cases": lambda: drawings.two_by_two(("a", "b"), ("c", "d"), [[("one", "1", "good"), ("two", "2", "bad")],
                                                                     [("three", "3", "middle"), ("four", "4", "plain")]]),
    "rows": lambda: drawings.answer_rows(PROMPTS, TWO, note_below="the first two"),
    "over": lambda: drawings.answers_over_bars(PROMPTS[0], {n: t[0] for n, t in TWO.items()}, {
        "flatters, %": {"blind draw": (8, 1), "best of 16": (66, 5)},
        "true reward": {"blind draw": (1.8, 0.1), "best of 16": (1.5, 0.2)}}, title="Forty labels"),
    "same axis": lambda: drawings.answers_over_bars(PROMPTS[0], {n: t[0] for n, t in TWO.items()}, {
        head: {"start": (0.1, 0.1), "checker": (0.6, 0.2)} for head in ("pass@1", "pass@16")}, span=(0, 1)),
    "down": lambda: drawings.pipeline(drawings.TRAINING, down=True), "forms": lambda: drawings.forms(title="Pink and blue"),
    "trimmed": lambda: drawings.trimmed(PROMPTS, [("base", ["Do it.\nUser: " + "word " * 40, ""], [-2, 0]),
                                                  ("SFT", ["word " * 30, "Pull them out."], [1, 3])], title="Two models"),
    "surprise": lambda: drawings.surprise([("base", ["The", "otter", "‹end›"], [-13.5, 0.0, -12.2])], title="Redder"),
    "open": lambda: drawings.answers(PROMPTS, TWO), "four": lambda: drawings.answers(PROMPTS, FOUR, {n: [3, -1] for n in FOUR}),
}


def too_wide(fig):
    """Words that leave their box, or the picture."""
    fig.canvas.draw()
    out, ax = [], fig.axes[0]
    boxes = [p for p in ax.patches if isinstance(p, FancyBboxPatch)]
    for text in (t for t in ax.texts if t.get_text()):
        words = text.get_window_extent()
        own = [b.get_window_extent() for b in boxes]
        x, y = (words.x0 + words.x1) / 2, (words.y0 + words.y1) / 2
        own = [b for b in own if b.x0 <= x <= b.x1 and b.y0 <= y <= b.y1]
        own.append(fig.bbox)
        if words.x0 < own[0].x0 - 1 or words.x1 > own[0].x1 + 1 or words.y0 < own[0].y0 - 1 or words.y1 > own[0].y1 + 1:
            out.append(text.get_text())
    return out


def test_the_test_of_widths_sees_words_that_leave_their_box():
    fig, ax = drawings.canvas(3, 1, "")
    drawings.box(ax, 0.2, 0.2, 0.8, 0.5, "far too many words for this")
    drawings.note(ax, 2.9, 0.5, "beyond the edge")
    assert len(too_wide(fig)) == 2


@pytest.mark.parametrize("name", DRAWN)
def test_every_drawing_brings_an_alt_and_its_words_fit(name):
    fig = DRAWN[name]()
    assert 40 <= len(fig.alt) <= 300 and "\n" not in fig.alt
    assert too_wide(fig) == []
    assert picture(fig) == picture(DRAWN[name]())


def words(fig):
    return [text.get_text() for ax in fig.axes for text in ax.texts if text.get_text()]


def test_trimmed_answers_are_cut_at_the_marker_and_keep_their_rewards():
    fig = drawings.trimmed(PROMPTS, [("base", ["Do it.\nUser: And now?", "Pull."], [-2.25, 3])])
    assert {"Do it.", "User: And now?", "Pull.", "true reward −2.2", "true reward 3.0"} <= set(words(fig))
    grey = {t.get_text(): t.get_color() for t in fig.axes[0].texts}
    assert grey["User: And now?"] != grey["Do it."]
    with pytest.raises(ValueError, match="one text and one score for each of 2"):
        drawings.trimmed(PROMPTS, [("base", ["x"], [1])])


def test_surprise_is_redder_where_a_token_is_less_expected():
    fig = drawings.surprise([("base", ["a", "b", "c"], [0.0, -4.0, -20.0])])
    white, half, full = (p.get_facecolor() for p in fig.axes[0].patches)
    assert white[:3] == (1, 1, 1) and 1 > half[2] > full[2] and full[2] == pytest.approx(0.36)
    assert "base: about −24 in all" in words(fig) and "−4.0" in words(fig)
    with pytest.raises(ValueError, match="one log-probability for each token"):
        drawings.surprise([("base", ["a"], [])])
    with pytest.raises(ValueError, match="negative number of nats"):
        drawings.surprise([("base", ["a"], [-1.0])], worst=3)


def test_the_three_forms_are_those_that_the_tokenizers_write():
    from rlhf_minimal.data import collate_demonstrations
    from rlhf_minimal.models import load
    prompt, answer = drawings._ASKED[0], drawings._SAID[0]
    for model, (_, pieces, _) in zip(("village-3m", "village-3m-sft"), drawings.THREE_FORMS[1:], strict=True):
        tokenizer = load(model)[1]
        ids = collate_demonstrations([{"prompt": prompt, "completion": answer}], tokenizer)["ids"][0]
        drawn = "".join(text for text, _ in pieces).replace("↵", "")
        written = tokenizer.decode(ids).replace("\n", "").replace(": ", ":")
        assert written.removesuffix("" if model.endswith("sft") else "<|end|>") == drawn


def test_curves_put_each_label_where_it_is_told_in_the_colour_of_its_line():
    lines = {"chosen: ends": [[0, 1.0], [0, 0.8]], "rejected: sums": [0, 0.1]}
    places = {"share": {"chosen: ends": (0.2, 0.5), "rejected: sums": (0.5, 0.2)}}
    fig = plots.curves({"share": (lines, [0, 1200])}, labels=places, title="Two lines", x_label="demonstrations")
    ends, sums = fig.axes[0].texts
    assert (ends.get_text(), ends.get_position(), sums.get_text()) == ("ends", (0.2, 0.5), "sums")
    assert list(fig.axes[0].lines[0].get_ydata()) == [0, 0.9] and ends.get_color() != sums.get_color()
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["0", "1,200"] and len(fig.alt) >= 40
    with pytest.raises(ValueError, match="no place for the label of 'rejected: sums'"):
        plots.curves({"share": (lines, [0, 1])}, labels={"share": {"chosen: ends": (0, 0)}}, title="Two", x_label="n")


def test_dots_are_means_and_their_lines_ranges():
    parts = {"true reward": {"chosen: a": {"SFT": [1, 3], "DPO": [2, 2]}, "rejected: b": {"SFT": [0, 0], "DPO": [1, 5]}}}
    fig = plots.dots(parts, title="Dots")
    ranges = [list(line.get_xdata()) for line in fig.axes[0].lines]
    assert ranges[:4] == [[1, 3], [2], [2, 2], [2]] and ranges[-3:-1] == [[1, 5], [3]]
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["SFT", "DPO"]
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["a", "b"]
    with pytest.raises(ValueError, match="each group needs the rows SFT, DPO"):
        plots.dots({"x": {"a": {"SFT": [1], "DPO": [1]}, "b": {"SFT": [1]}}}, title="Dots")


def test_means_and_groups_of_a_recorded_run():
    run = Recorded(name="r", curve={"sums 0": [0, 1], "sums 1": [1, 2]},
                   arms={"0": {"SFT": {"harmful": {"gold": 1}}}, "1": {"SFT": {"harmful": {"gold": 3}}}})
    assert run.means("sums") == [0.5, 1.5]
    assert run.groups("arms", {"harm": "harmful"}, {"start": "SFT"}, "gold") == {"harm": {"start": [1, 3]}}


def test_logs_without_names_are_four_of_at_most_25_losses():
    import math
    logs = unnamed_logs()
    assert list(logs) == ["log A", "log B", "log C", "log D"] and all(1 < len(y) <= 25 for y in logs.values())
    assert logs["log A"][0] == pytest.approx(math.log(2), abs=0.01)  # pairs, policy and reference equal
    assert logs["log B"][0] == pytest.approx(math.log(1152), abs=0.3) and logs["log D"][0] < 3  # untrained; trained before


def test_a_long_strip_breaks_and_keeps_every_token():
    assert drawings._lines(TOKENS, 3.0)[0][0] == 0 and drawings._lines(TOKENS, 3.0)[-1][1] == len(TOKENS)
    assert all(a[1] == b[0] for a, b in zip(drawings._lines(TOKENS, 3.0), drawings._lines(TOKENS, 3.0)[1:], strict=False))
    assert len(drawings._lines(TOKENS, 3.0)) > len(drawings._lines(TOKENS, 99)) == 1


def test_drawings_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="2 entries for 11 tokens"):
        drawings.token_strip(TOKENS, [0, 1])
    with pytest.raises(ValueError, match="at most two prompts"):
        drawings.answers(["a", "b", "c"], {n: ["x"] * 3 for n in FOUR})
    with pytest.raises(ValueError, match="one for each"):
        drawings.answer_rows(["a", "b"], {"model": ["x"]})
    with pytest.raises(ValueError, match="tone 'loud'"):
        drawings.box(drawings.canvas(1, 1, "")[1], 0, 0, 1, 1, tone="loud")


def test_without_scores_the_cards_do_not_say_which_is_better():
    texts = [t.get_text() for t in drawings.answers(PROMPTS, TWO).axes[0].texts]
    assert not any("true reward" in t for t in texts)
    faces = {p.get_facecolor() for p in drawings.answers(PROMPTS, TWO).axes[0].patches}
    assert len(faces) == 1


def test_what_one_arm_has_more_than_another_is_paired_by_seed():
    run = recorded("14_village")
    pairs = zip(run.values("arms", "checker", "pass@1"), run.values("arms", "start", "pass@1"), strict=True)
    assert run.ahead("checker", "start", "pass@1") == over_runs([x - y for x, y in pairs])
    assert run.regained("checker", "start", "checker", "works") == [1.0] * 5
    assert run.regained("start", "start", "checker", "works") == [0.0] * 5
    assert plus_minus((-0.5, 0.25), 1) == "−0.5 ± 0.2" and run.ahead("start", "start", "works") == (0.0, 0.0)


def test_intervals_over_runs_are_student_s():
    mean, half = over_runs([2.0, 4.0])  # standard error 1
    assert (mean, round(half, 3)) == (3.0, 12.706)
    assert over_runs(range(5))[1] == pytest.approx(2.776 * (2.5 / 5) ** 0.5)
    for wrong in ([1.0], [0.0] * 11):
        with pytest.raises(ValueError, match="2 to 10"):
            over_runs(wrong)


def test_rows_with_intervals_over_seeds():
    def one(gold, kl):
        return {"harm": {"gold": gold, "refuses": 0.5, "kl": kl}, "kind": {"gold": gold + 1, "refuses": 0.25, "kl": kl}}
    program = {k: {"gold": 0.0, "refuses": 1.0} for k in ("harm", "kind")}
    run = Recorded(name="x", curve={}, arms={s: {"start": one(0.0, 0.0), "DPO": one(g, 2.0), "program": program}
                                             for s, g in (("0", 1.0), ("1", 3.0))})
    rows = run.interval_rows({"a": "start", "b": "DPO", "c": "program"}, {"harm": "harm", "kind": "kind"}, refused="kind")
    assert rows["b"]["harm"][0] == 2.0 and rows["b"]["harm"][1] == pytest.approx(12.706)
    assert rows["b"]["both kinds"][0] == 2.5 and rows["b"]["kind refused"] == 0.25 and rows["b"]["KL, nats"] == (2.0, 0.0)
    assert rows["a"]["KL, nats"] is None and rows["c"]["KL, nats"] is None
    assert run.frontier(["start", "DPO"], ["harm", "kind"]) == ([0.0, 2.0], [0.5, 2.5])
    assert run.moves(["DPO"], ["harm", "kind"]) == [(2.0, 1.0), (2.0, 3.0)]


def test_a_stamp_has_what_a_record_needs_and_running_means_are_shorter_than_their_values():
    assert stamp().keys() == {"versions", "hardware", "date"} and stamp()["versions"]["torch"] == torch.__version__
    assert running_means([1.0, 2.0, 6.0], 1) == [1.0, 2.0, 6.0] and running_means([1.0, 2.0, 6.0], 3) == [3.0]


def test_the_reach_of_an_arm_is_its_lowest_and_highest_seed():
    from rlhf_minimal.book.records import Recorded

    arms = {str(k): {"a": {"x": {"kl": 1.0 + k}, "y": {"kl": 3.0}}, "b": {"x": {"kl": 0.0}, "y": {"kl": 0.0}}} for k in range(3)}
    run = Recorded(name="t", curve={"step": [1]}, command="c", seed=[0, 1, 2], versions={}, hardware="h", date="d", arms=arms)
    assert run.reach("a", ["x", "y"], "kl") == "2 to 3" and run.reach("a", ["x", "y"], "kl", 1) == "2.0 to 3.0"
    assert run.reach("b", ["x", "y"], "kl") == "0"


def test_rows_of_arms_over_seeds():
    run = Recorded(name="r", arms={str(i): {"A": {"all": {"gold": float(i)}}} for i in range(3)})
    found = run.rows({"model A": "A"}, {"true reward": ("all", "gold")})
    assert found == {"model A": {"true reward": over_runs([0.0, 1.0, 2.0])}}
    with pytest.raises(ValueError, match="no 'B'"):
        run.rows({"model B": "B"}, {"true reward": ("all", "gold")})
