"""The same budget spent in different ways: which pairs are made, what is measured, and that labels of the truth win."""

import pytest
import torch

from rlhf_minimal.evaluate import budgets
from rlhf_minimal.village import Annotator


@pytest.fixture(scope="module")
def some():
    return budgets.answers()


def test_prompts_that_are_labelled_are_never_asked(some):
    labelled = {some.wide.prompts[int(i)] for i in some.wide.prompt[some.pairs[:, 0]].unique()}
    asked = {some.asked.prompts[int(i)] for i in some.asked.prompt[some.rows[:, 0]]}
    few = {part.prompts[int(i)] for part in some.few.values() for i in part.prompt.unique()}
    assert not labelled & asked and not few & asked and len(few) == 32 and len(asked) == len(some.rows)
    assert (some.wide.prompt[some.pairs[:, 0]] == some.wide.prompt[some.pairs[:, 1]]).all()


def test_one_pair_for_each_prompt(some):
    two = budgets.one_each(some.wide.prompt, some.pairs, torch.Generator().manual_seed(1))
    prompts = some.wide.prompt[two[:, 0]].tolist()
    assert len(set(prompts)) == len(prompts) == some.wide.prompt[some.pairs[:, 0]].unique().numel()


def test_pairs_of_few_prompts_are_of_one_prompt_and_differ(some):
    part = some.few["its own answers"]
    two = budgets.of_few(part, 64, torch.Generator().manual_seed(0))
    assert (part.prompt[two[:, 0]] == part.prompt[two[:, 1]]).all() and (part.ids[two[:, 0]] != part.ids[two[:, 1]]).any(1).all()
    assert part.prompt[two[:, 0]].unique().numel() == 32


def test_votes_follow_the_person(some):
    two = some.pairs[:2000]
    sure = some.votes(some.wide, two, Annotator(temperature=1e-6), torch.Generator().manual_seed(0))
    gap = some.wide.gold[sure[:, 0]] - some.wide.gold[sure[:, 1]]
    assert (gap > -0.02).all() and (gap > 0.5).any()  # stored rewards are in half precision
    noisy = [(some.votes(some.wide, two, Annotator(temperature=2.0), torch.Generator().manual_seed(0), n) == sure).all(1)
             for n in (1, 9)]
    clear = gap.abs() > 1
    assert noisy[0][clear].double().mean() + 0.05 < noisy[1][clear].double().mean()


def test_pairs_to_label_are_texts_that_differ_visibly(some):
    from rlhf_minimal import models
    from rlhf_minimal.village import features
    tokenizer = models.load("village-3m-sft")[1]
    for row in budgets.to_label(some, 12, tokenizer, torch.Generator().manual_seed(0)):
        a, b = (features(row["prompt"], row[side]) for side in ("response_a", "response_b"))
        assert abs(a["words"] - b["words"]) >= 5 or a["flattery"] != b["flattery"] or a["markup"] != b["markup"]


def test_a_reward_told_the_truth_beats_a_coin(some):
    fresh = budgets.fresh_pairs(some, each=60)
    assert all((some.gold[i][two[:, 0]] >= some.gold[i][two[:, 1]] + 0.5).all() for i, two in enumerate(fresh))
    told = {}
    for name, chosen, rejected in budgets.ways(some, Annotator(temperature=0.1), 240, 0):
        told[name] = budgets.over_prompts(budgets.right(some, budgets.fit_head(chosen, rejected, l2=0.03), fresh)[None])
    assert set(told) == {"one vote a pair", "three votes a pair", "32 prompts: its own answers", "edits", "coin flips",
                         "32 prompts: the base model's answers"}
    assert told["one vote a pair"][0] > told["coin flips"][0] and 0.4 < told["coin flips"][0] < 0.6


def test_what_is_picked(some):
    best, blind = budgets.picked(some, some.gold), budgets.picked(some, some.gold, n=1)
    assert best["true reward"].mean() > blind["true reward"].mean() + 0.5
    assert blind["true reward"].mean().item() == pytest.approx(some.gold.mean().item(), abs=1e-6)
    assert budgets.mean_pick([best, best])["words"][0] == pytest.approx(best["words"].mean().item())
    assert budgets.mean_of([best, blind], "words").tolist() == pytest.approx(((best["words"] + blind["words"]) / 2).tolist())
    gap, _ = budgets.lengths(some, torch.Generator().manual_seed(0))
    assert gap.min() >= 0.3 and len(gap) > 500
