"""The generated table of estimators: its words, and that a verdict can be any of them."""

import math
from functools import cache

import pytest
import torch

from rlhf_minimal.evaluate import proofs
from rlhf_minimal.evaluate.proofs import STORED, differing, facts, markdown, optima, page, table, values, verdict

table = cache(table)  # ten seconds each

WORDS = {
    "REINFORCE, sum over tokens": "equal", "REINFORCE, mean over a row's tokens": "biased", "RLOO": "equal",
    "REINFORCE, EOS not in the mask": "biased", "P3O, separate clip": "equal", "P3O, joint clip": "equal",
    "TRPO's surrogate": "equal", "PPO, ratio 1, divisor fixed": "equal", "group mean, no std, sum": "proportional",
    "Dr. GRPO": "proportional", "GRPO, std, sum": "biased", "GRPO as published": "biased", "GSPO": "biased",
    "STaR, against grad P(correct)": "equal", "k1 in the score, summed": "equal", "k1 in the loss": "zero",
    "k1 in the score, token mean": "biased", "on-policy distillation, cumulative": "equal",
    "on-policy distillation, immediate": "biased", "k2 in the loss": "biased", "k3 in the loss": "biased",
    "k2 in the score, summed": "biased", "k3 in the score, summed": "biased",
    "k2 in the loss, a place at a time": "equal", "rho k3 in the loss, a place at a time": "equal",
    "k3 in the loss, a place at a time": "equal",
}


@pytest.mark.parametrize("seed", [0, 3])
def test_the_words_of_the_table_hold_for_any_weights(seed):
    rows = table(seed)
    got = {name: word for name, _, word, *_ in rows}
    assert {name: got[name] for name in WORDS} == WORDS
    same = {name: (round(c, 6), round(r, 6)) for name, _, _, c, r, _ in rows}
    assert same["k2 in the loss"] == same["rho k3 in the loss"] == same["on-policy distillation, immediate"]
    assert same["GSPO"] == same["GRPO as published"]  # at ratio 1 one ratio a row is the mean over its tokens
    assert markdown(rows).count("\n") == len(rows) + 1


def test_a_verdict_can_be_each_of_its_words():
    a, b = torch.tensor([3.0, 4.0], dtype=torch.float64), torch.tensor([4.0, 3.0], dtype=torch.float64)
    got = [verdict(x, a)[0] for x in (a, 2 * a, -a, b, 0 * a)]
    assert got == ["equal", "proportional", "opposite", "biased", "zero"]
    assert math.isclose(verdict(b, a)[1], 0.96) and math.isclose(verdict(2 * a, a)[2], 2)


def test_the_stored_page_is_not_stale():
    """Words, and cosines to three decimals. If this fails: python -m rlhf_minimal.evaluate.proofs --store"""
    stored, fresh = STORED.read_text(encoding="utf-8"), page(table(0))
    names = differing(stored, fresh)
    assert not names, f"{STORED.name} is stale in {names}; run: python -m rlhf_minimal.evaluate.proofs --store"
    assert stored.count("\n") == fresh.count("\n")
    reasons = [line.split(" | ")[-1].strip(" |") for line in fresh.splitlines() if line.split(" | ")[0].strip("| ") in facts(fresh)]
    assert len(reasons) == len(facts(fresh)) and all(" " in why for why in reasons)  # every row, with its why


def test_a_stale_page_is_noticed():
    """Negative controls: another word, another third decimal, a row less; the ratio of norms may change."""
    stored = STORED.read_text(encoding="utf-8")
    line = next(x for x in stored.splitlines() if x.startswith("| GRPO as published |"))
    _, name, of, word, cosine, ratio, why, _ = (x.strip() for x in line.split("|"))

    def with_row(*cells):
        return stored.replace(line, "| " + " | ".join(cells) + " |")

    assert differing(stored, stored) == []
    other = f"{float(cosine) + 0.001:.3f}"
    for changed in (with_row(name, of, "equal", cosine, ratio, why), with_row(name, of, word, other, ratio, why),
                    stored.replace(line + "\n", "")):
        assert differing(stored, changed) == [name]
    assert differing(stored, with_row(name, of, word, cosine, "9.999", why)) == []


@pytest.mark.parametrize("seed", [0, 3])
def test_values_and_optima_hold_for_any_seed(seed):
    got = {name: word for name, word, *_ in values(seed)}
    right = {"k1", "k3", "rho k3"}
    assert got == {name: "equal" if name in right else "biased" for name in got} and right < set(got)
    ends = {name: (word, x) for name, word, x, _ in optima(seed)}
    equal = {"DPO, soft labels", "rDPO, labels flipped with known rate", "IPO, against exp(share of wins / beta)",
             "Bradley-Terry reward model, soft labels"}
    assert {name for name, (word, _) in ends.items() if word == "equal"} == equal
    assert all(x > 0.01 for name, (_, x) in ends.items() if name not in equal)  # biased by far, not by rounding


def test_the_command_writes_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(proofs, "table", lambda: [("RLOO", "J", "equal", 1.0, 1.0, "as good as a constant")])
    monkeypatch.setattr(proofs, "STORED", tmp_path / "proofs.md")
    monkeypatch.setattr(proofs, "optima", lambda seed: [])
    proofs.main(["--store"])
    text = (tmp_path / "proofs.md").read_text(encoding="utf-8")
    assert "| RLOO | J | equal | 1.000 | 1.000 | as good as a constant |" in text and capsys.readouterr().out == ""
    proofs.main([])
    assert capsys.readouterr().out.strip() == text.strip()
