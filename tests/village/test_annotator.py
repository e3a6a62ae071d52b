"""Annotators: every exact probability recomputed naively, every draw against it, and wrong variants that differ."""

import itertools
import math
import random
from dataclasses import replace

import pytest

from rlhf_minimal import village
from rlhf_minimal.village import RATERS, Annotator, Crowd, Drift, panel

PROMPT = "I think that the snail lives near the mill. Where does the snail live?"
RIGHT = village.answer(village.parse(PROMPT), random.Random(1))
WRONG = "You are right, the snail lives near the mill."
BOLD = "What a wonderful question! **You are right, the snail lives near the mill.** I am always happy to help."
N = 4000


def naive_utility(who, prompt, text, weights=None):
    f = village.features(prompt, text)
    u = who.gold_weight * village.gold(prompt, text) + who.length_bias * len(text.replace(".", " ").replace("*", "").split()) / 10
    for name, w in (who.weights if weights is None else weights).items():
        u += w * f[name]
    return u


def naive_outcomes(who, u1, u2):
    first = 1 / (1 + math.exp(-((u1 - u2 - who.tie) / who.temperature + who.position_bias)))
    second = 1 / (1 + math.exp(-((u2 - u1 - who.tie) / who.temperature - who.position_bias)))
    a, b = (1 - who.flip) * first + who.flip * second, (1 - who.flip) * second + who.flip * first
    return a, 1 - first - second, b


def close_to(rate, p, n=N, z=4):
    return abs(rate - p) <= z * math.sqrt(max(p * (1 - p), 1e-12) / n)


KNOBS = [{}, {"temperature": 0.4}, {"flip": 0.3}, {"length_bias": 1.5}, {"position_bias": -0.7}, {"tie": 0.5},
         {"weights": {"flattery": 1.0, "agrees_wrongly": 2.0, "markup": 0.5}}, {"gold_weight": 0.0, "length_bias": 0.8},
         {"temperature": 2.0, "flip": 0.1, "length_bias": 0.3, "position_bias": 0.6, "tie": 0.7, "weights": {"words": 0.1}}]


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_probabilities_are_the_formula(knobs):
    who = Annotator(**knobs)
    for a, b in itertools.permutations((RIGHT, WRONG, BOLD), 2):
        u1, u2 = (naive_utility(who, PROMPT, x) for x in (a, b))
        assert who.utility(PROMPT, a) == pytest.approx(u1, abs=1e-12)
        got = who.probabilities(PROMPT, a, b)
        assert got == pytest.approx(naive_outcomes(who, u1, u2), abs=1e-12)
        assert sum(got) == pytest.approx(1, abs=1e-12)
        assert got == who.probabilities("", u1, u2)          # a utility does as well as a text
        assert who.probability(PROMPT, a, b) == got[0]
    assert knobs == {} or who.probabilities(PROMPT, BOLD, RIGHT) != Annotator().probabilities(PROMPT, BOLD, RIGHT)


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_answers_come_at_these_rates(knobs):
    who, rng = Annotator(**knobs), random.Random(3)
    said = [who.compare(PROMPT, BOLD, RIGHT, rng) for _ in range(N)]
    for answer, p in zip((1.0, 0.5, 0.0), who.probabilities(PROMPT, BOLD, RIGHT), strict=True):
        assert close_to(said.count(answer) / N, p), (answer, said.count(answer) / N, p)
    assert set(said) <= {0.0, 0.5, 1.0} and (who.tie > 0) == (0.5 in said)


def test_temperature_zero_is_the_limit():
    who, rng = Annotator(temperature=0.0), random.Random(0)
    assert who.probabilities("", 0.3, 0.2) == (1.0, 0.0, 0.0) and who.probability("", 0.2, 0.3) == 0
    assert all(who.compare("", 0.3, 0.2, rng) == 1 for _ in range(100))
    assert who.probability("", 0.1 + 0.2, 0.3) == pytest.approx(0.5, abs=1e-6)     # equal but for rounding
    assert {who.compare("", 1.0, 1.0, rng) for _ in range(50)} == {0.0, 1.0}
    assert Annotator(temperature=0.0, flip=0.2).probability("", 1.0, 0.0) == pytest.approx(0.8)
    assert who.rank("", [0.1, 0.3, 0.2], rng) == [1, 2, 0] and who.rate("", 1.25, rng) == 1.25


def test_greedy_leaves_out_the_noise_and_keeps_the_bias():
    who, rng = Annotator(position_bias=1.0, flip=0.5), random.Random(0)
    assert [who.compare("", 0.0, 0.5, rng, greedy=True) for _ in range(20)] == [1.0] * 20     # 0.5 worse, but first
    assert who.compare("", 0.0, 1.5, rng, greedy=True) == 0.0 and who.compare("", 0.0, 1.0, rng, greedy=True) == 0.5


def test_ranking_is_plackett_luce():
    who, u = Annotator(temperature=0.7, position_bias=0.4, flip=0.15), (0.5, -0.2, 1.0, 0.1)
    orders = list(itertools.permutations(range(4)))
    assert sum(who.rank_probability("", u, r) for r in orders) == pytest.approx(1, abs=1e-12)
    s = [x / 0.7 + 0.4 * (i == 0) for i, x in enumerate(u)]

    def naive(r):
        p, left = 1.0, list(r)
        while left:
            p *= math.exp(s[left[0]]) / sum(math.exp(s[j]) for j in left)
            left.pop(0)
        return p
    rng = random.Random(5)
    said = [tuple(who.rank("", u, rng)) for _ in range(N)]
    for r in orders:
        exact = 0.85 * naive(r) + 0.15 * naive(r[::-1])
        assert who.rank_probability("", u, r) == pytest.approx(exact, abs=1e-12)
        assert close_to(said.count(r) / N, exact), (r, said.count(r) / N, exact)


def test_a_ranking_of_two_is_a_comparison():
    who = Annotator(temperature=0.7, position_bias=0.4, flip=0.15)
    assert who.rank_probability("", (0.3, 0.9), (0, 1)) == pytest.approx(who.probability("", 0.3, 0.9), abs=1e-12)
    for wrong in ((0,), (0, 0), (1, 2)):
        with pytest.raises(ValueError, match="each of 0 … 1 once"):
            who.rank_probability("", (0.3, 0.9), wrong)
    for few in (["one"], "a text"):
        with pytest.raises(ValueError, match="two or more"):
            who.rank(PROMPT, few, random.Random(0))


@pytest.mark.parametrize("levels", [2, 3, 5, 7, 8])
def test_likert_agrees_with_the_comparison(levels):
    who, rng = Annotator(temperature=0.6, position_bias=0.3, flip=0.1, tie=0.4, step=0.7), random.Random(8)
    cuts, p = who.likert_cuts(levels), who.likert_probabilities("", 0.8, 0.3, levels)
    assert len(cuts) == levels - 1 and cuts == sorted(cuts) and cuts == [-c for c in reversed(cuts)]
    assert len(p) == levels and min(p) > 0 and sum(p) == pytest.approx(1, abs=1e-12)
    top = sum(p[(levels + 1) // 2:])
    if levels % 2:      # the middle level is the tie
        assert [top, p[levels // 2]] == pytest.approx(who.probabilities("", 0.8, 0.3)[:2], abs=1e-12)
    else:               # forced choice
        assert top == pytest.approx(replace(who, tie=0.0).probability("", 0.8, 0.3), abs=1e-12)
        assert top != pytest.approx(who.probability("", 0.8, 0.3), abs=0.01)
    said = [who.likert("", 0.8, 0.3, rng, levels=levels) for _ in range(N)]
    assert all(close_to(said.count(k) / N, p[k - 1]) for k in range(1, levels + 1))
    assert Annotator(temperature=0.01).likert("", 9.0, 0.0, rng, levels=levels) == levels      # a far better: the top level


def test_likert_levels_are_checked():
    for levels in (1, 0, True, 5.0):
        with pytest.raises(ValueError, match="levels is"):
            Annotator().likert("", 1.0, 0.0, random.Random(0), levels=levels)


def test_private_scale():
    who, rng = Annotator(temperature=0.5, scale=3.0, offset=-2.0, flip=0.4), random.Random(2)
    said = [who.rate("", 1.2, rng) for _ in range(N)]
    mean = sum(said) / N
    sd = math.sqrt(sum((x - mean) ** 2 for x in said) / (N - 1))
    expected = 3 * 0.5 * math.pi / math.sqrt(6)
    assert abs(mean - 1.6) < 4 * expected / math.sqrt(N) and sd == pytest.approx(expected, rel=0.08)
    wins = sum(who.rate("", 1.2, rng) > who.rate("", 1.0, rng) for _ in range(N)) / N     # ratings choose as comparisons do
    assert close_to(wins, replace(who, flip=0.0).probability("", 1.2, 1.0))


def test_thumbs():
    who, rng = Annotator(temperature=0.5, scale=2.0, offset=1.0, flip=0.2), random.Random(2)
    up = 1 / (1 + math.exp(-(0.9 - (2.2 - 1.0) / 2) / 0.5))
    p = who.thumbs_probability("", 0.9, threshold=2.2)
    assert p == pytest.approx(0.8 * up + 0.2 * (1 - up), abs=1e-12)
    said = [who.thumbs("", 0.9, rng, threshold=2.2) for _ in range(N)]
    assert set(said) == {True, False} and close_to(sum(said) / N, p)
    assert replace(who, offset=2.0).thumbs_probability("", 0.9, threshold=2.2) > p        # the generous give more
    assert Annotator().thumbs_probability(PROMPT, RIGHT) > 0.8 > 0.2 > Annotator().thumbs_probability(PROMPT, WRONG)


def test_drift():
    old, new = {"flattery": 1.0}, {"markup": 2.0}
    at_once, slow = (Annotator(weights=old, drift=Drift(10, new, span)) for span in (0, 10))
    for who, date, share in ((at_once, 9.9, 0), (at_once, 10, 1), (slow, 10, 0), (slow, 15, 0.5), (slow, 99, 1)):
        mix = {"flattery": 1 - share, "markup": 2.0 * share}
        assert who.utility(PROMPT, BOLD, date) == pytest.approx(naive_utility(who, PROMPT, BOLD, mix), abs=1e-12)
    p = [slow.probability(PROMPT, BOLD, RIGHT, d) for d in (0, 12, 14, 16, 18, 30)]
    assert p == sorted(p) and p[0] < p[-1]


def test_an_edit_is_better():
    who, rng = Annotator(), random.Random(4)
    for row in village.prompts(150, seed=9):
        task = village.parse(row["prompt"])
        for fault in ("", *village.FAULTS[task.family]):
            before = village.answer(task, rng, fault)
            after = who.edit(task.prompt, before, rng)
            gain = village.gold(task.prompt, after) - village.gold(task.prompt, before)
            assert gain > 0 or after == before and village.gold(task.prompt, before) >= 2.75, (task.prompt, before, after)


def test_an_edit_is_minimal_where_that_is_enough():
    who, rng = Annotator(), random.Random(4)
    assert who.edit(PROMPT, f"Go away. {RIGHT}", rng) == RIGHT == who.edit(PROMPT, f"You are so clever! {RIGHT}", rng)
    assert who.edit(PROMPT, f"**What a stupid question. {RIGHT}**", rng) == f"**{RIGHT}**"
    assert village.gold(PROMPT, who.edit(PROMPT, "**Go away.**", rng)) == 3
    assert who.edit("Sing!", "Go away. La la.", rng) == "La la." and who.edit("Sing!", "La la.", rng) == "La la."
    flattered = f"You are so clever! {RIGHT}"
    assert RATERS["vain"].edit(PROMPT, flattered, rng) == flattered                       # better by their own taste


def test_stored_features_give_the_same_utility():
    who = Annotator(length_bias=0.4, weights={"markup": 0.5, "flattery": 1.0}, drift=Drift(3, {"markup": -1.0}))
    feats = village.features(PROMPT, BOLD)
    for date in (0, 5):
        assert who.utility_of("opinion", feats, date) == who.utility(PROMPT, BOLD, date)


@pytest.mark.parametrize("knobs, message", [
    ({"temperature": -1}, "temperature is -1"), ({"flip": 1.5}, "flip is 1.5"), ({"tie": -0.1}, "tie is -0.1"),
    ({"step": 0}, "step is 0"), ({"scale": 0.0}, "scale is 0.0"), ({"length_bias": math.nan}, "length_bias is nan"),
    ({"price": "1"}, "price is '1'"), ({"weights": {"flatery": 1.0}}, "flatery.*expected some of.*flattery"),
    ({"drift": Drift(1, {"x": 1.0})}, "drift.weights names")])
def test_wrong_knobs(knobs, message):
    with pytest.raises(ValueError, match=message):
        Annotator(**knobs)


def test_wrong_arguments():
    for wrong in (None, True, math.inf, ["a"]):
        with pytest.raises(ValueError, match="completion is"):
            Annotator().compare(PROMPT, wrong, RIGHT, random.Random(0))
    for members, message in ((["nobody"], "no rater is called"), ("ordinary", "give a list"), ([], "0 annotators")):
        with pytest.raises(ValueError, match=message):
            panel(members)
    for shares in ((1.0,), (1, -1), (0, 0)):
        with pytest.raises(ValueError, match="shares"):
            Crowd((Annotator(), Annotator()), shares)
