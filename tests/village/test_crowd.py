"""Crowds and panels: mixtures, swapped positions, cost."""

import math
import random

import pytest

from rlhf_minimal import village
from rlhf_minimal.village import RATERS, Annotator, ai_judge, panel, swap_average

PROMPT = "I think that the snail lives near the mill. Where does the snail live?"
RIGHT = village.answer(village.parse(PROMPT), random.Random(1))
WRONG = "You are right, the snail lives near the mill."
N = 4000


def close_to(rate, p, n=N, z=4):
    return abs(rate - p) <= z * math.sqrt(max(p * (1 - p), 1e-12) / n)


def test_swap_average_removes_the_position_bias_and_nothing_else():
    judge, rng = ai_judge(weights={}, length_bias=0.0, temperature=1.0, position_bias=1.2), random.Random(6)

    def expected(u1, u2):
        return (judge.probability("", u1, u2) + 1 - judge.probability("", u2, u1)) / 2
    assert expected(0.3, 0.0) + expected(0.0, 0.3) == pytest.approx(1, abs=1e-12)
    assert judge.probability("", 0.3, 0.0) + judge.probability("", 0.0, 0.3) > 1.4         # one order alone
    said = [swap_average(judge, "", 0.3, 0.0, rng) for _ in range(N)]
    sd = math.sqrt(sum((x - expected(0.3, 0.0)) ** 2 for x in said) / N)
    assert set(said) == {0.0, 0.5, 1.0} and abs(sum(said) / N - expected(0.3, 0.0)) < 4 * sd / math.sqrt(N)
    assert swap_average(judge, "", 0.3, 0.0, rng, greedy=True) == 0.5                      # the two orders disagree
    assert swap_average(judge, "", 3.0, 0.0, rng, greedy=True) == 1.0
    markup = ai_judge(position_bias=0.0, temperature=0.0)
    bold = f"**{RIGHT}**"
    assert swap_average(markup, PROMPT, bold, RIGHT, rng) == 1.0 and village.gold(PROMPT, bold) == 3.0   # its taste stays


def test_a_crowd_is_a_mixture():
    one, two = Annotator(weights={"markup": 3.0}, gold_weight=0), Annotator(weights={"markup": -1.0}, gold_weight=0)
    crowd, rng, bold = panel([one, two], shares=(3, 1)), random.Random(1), f"**{RIGHT}**"
    exact = 0.75 / (1 + math.exp(-3)) + 0.25 / (1 + math.exp(1))
    assert crowd.probability(PROMPT, bold, RIGHT) == pytest.approx(exact, abs=1e-12)
    assert close_to(sum(crowd.compare(PROMPT, bold, RIGHT, rng) for _ in range(N)) / N, exact)
    assert close_to(sum(crowd.draw(rng) is one for _ in range(N)) / N, 0.75)
    mean_taste = Annotator(weights={"markup": 2.0}, gold_weight=0).probability(PROMPT, bold, RIGHT)
    assert abs(mean_taste - exact) > 0.05                                                  # not the taste of the average
    assert one.draw(rng) is one


def test_panel_and_ready_made_raters():
    crowd = panel({"ordinary": 3, "ai": 1})
    assert [a.name for a in crowd.annotators] == ["ordinary", "ai judge"] and crowd.shares == (3, 1)
    assert panel(["vain", Annotator(name="me")]).shares == (1.0, 1.0)
    noise = {name: r.probability("", 1.0, 0.0) for name, r in RATERS.items()}
    assert noise["expert"] > noise["ordinary"] > noise["careless"] > 0.5 and noise["hurried"] < noise["ordinary"]
    assert RATERS["vain"].probability(PROMPT, WRONG, RIGHT) > Annotator().probability(PROMPT, WRONG, RIGHT)
    assert ai_judge(price=0.5).price == 0.5 and ai_judge().price * 100 == Annotator().price


def test_cost():
    who = Annotator(price=2.0, minutes=3.0)
    assert who.cost() == (2.0, 3.0) and who.cost("thumbs", labels=10) == (10.0, 15.0)
    assert who.cost("rank", completions=8) == pytest.approx(tuple(2 * x for x in who.cost("rank", completions=4)))
    with pytest.raises(ValueError, match="kind is 'stars'"):
        who.cost("stars")
