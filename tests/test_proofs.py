"""The generated table of estimators: its words, and that a verdict can be any of them."""

import math

import pytest
import torch

from rlhf_minimal.proofs import markdown, table, verdict

WORDS = {
    "REINFORCE, sum over tokens": "equal", "REINFORCE, mean over a row's tokens": "biased", "RLOO": "equal",
    "REINFORCE, EOS not in the mask": "biased", "P3O, separate clip": "equal", "P3O, joint clip": "equal",
    "TRPO's surrogate": "equal", "PPO, ratio 1, divisor fixed": "equal", "group mean, no std, sum": "proportional",
    "Dr. GRPO": "proportional", "GRPO, std, sum": "biased", "GRPO as published": "biased", "GSPO": "biased",
    "STaR, against grad P(correct)": "equal", "k1 in the score, summed": "equal", "k1 in the loss": "zero",
    "k1 in the score, token mean": "biased", "on-policy distillation, cumulative": "equal",
    "on-policy distillation, immediate": "biased", "k2 in the loss": "biased", "k3 in the loss": "biased",
}


@pytest.mark.parametrize("seed", [0, 3])
def test_the_words_of_the_table_hold_for_any_weights(seed):
    rows = table(seed)
    got = {name: word for name, _, word, _, _ in rows}
    assert {name: got[name] for name in WORDS} == WORDS
    same = {name: (round(c, 6), round(r, 6)) for name, _, _, c, r in rows}
    assert same["k2 in the loss"] == same["rho k3 in the loss"] == same["on-policy distillation, immediate"]
    assert same["GSPO"] == same["GRPO as published"]  # at ratio 1 one ratio a row is the mean over its tokens
    assert markdown(rows).count("\n") == len(rows) + 1


def test_a_verdict_can_be_each_of_its_words():
    a, b = torch.tensor([3.0, 4.0], dtype=torch.float64), torch.tensor([4.0, 3.0], dtype=torch.float64)
    got = [verdict(x, a)[0] for x in (a, 2 * a, -a, b, 0 * a)]
    assert got == ["equal", "proportional", "opposite", "biased", "zero"]
    assert math.isclose(verdict(b, a)[1], 0.96) and math.isclose(verdict(2 * a, a)[2], 2)
