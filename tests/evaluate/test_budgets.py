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
    ways = [budgets.FREELY, "no noise at all", "coin flips"]
    told = budgets.compare(some, Annotator(temperature=0.1), 240, [0, 1], ways)
    share = {name: budgets.over_both(x)[0] for name, x in told.items()}
    assert list(told) == ways and all(x.shape[0] == 2 for x in told.values())
    assert share[budgets.FREELY] > share["coin flips"] and 0.4 < share["coin flips"] < 0.6
    rows = budgets.bill(told)
    assert rows[budgets.FREELY]["minus 300 prompts"] is None
    gap = rows["coin flips"]["minus 300 prompts"][0]
    assert gap == pytest.approx(100 * (share["coin flips"] - share[budgets.FREELY]))
    assert budgets.behind({"half, a": told["coin flips"], **told})["half,\na"] == rows["coin flips"]["minus 300 prompts"]


def test_each_way_buys_what_is_planned(some):
    for name, plan in budgets.planned(300).items():
        part, two = budgets.spend(some, Annotator(temperature=0.5), 300, 0, name)
        prompts = part.prompt[two[:, 0]].unique().numel()
        pairs = len({tuple(sorted(pair)) for pair in two.tolist()})
        assert (part.prompt[two[:, 0]] == part.prompt[two[:, 1]]).all()
        if name == "no noise at all":
            assert pairs < plan["pairs"] and (part.gold[two[:, 0]] > part.gold[two[:, 1]]).all()
            continue
        assert prompts == plan["prompts"] and (pairs == plan["pairs"] or name.startswith("only 32")), name
        assert len(two) == (300 if "majority" not in name else 100)
    with pytest.raises(ValueError, match="at most"):
        budgets.three_each(some, 5000, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="expected one of"):
        budgets.spend(some, Annotator(), 30, 0, "(a)")


def test_a_rule_without_votes(some):
    shares = budgets.by_rule(some, "broken text", 3)
    told = budgets.compare(some, Annotator(), 30, [0], ["coin flips"])["coin flips"]
    assert shares.shape == (3, told.shape[1]) and (shares[0] == shares[2]).all() and 0.55 < shares.mean() < 0.7
    assert budgets.over_both(shares)[0] == pytest.approx(shares[0].mean().item())


def test_active_choice_asks_about_small_margins(some):
    """The second half is closer, by the reward of the first half, than the pairs that were left."""
    two = budgets.one_each(some.wide.prompt, some.pairs, torch.Generator().manual_seed(0))
    person, state = Annotator(temperature=0.5), some.wide.state
    for by in ("closest", "disputed"):
        asked = budgets.actively(some, person, two, 200, by, seed=3)
        half, keys = {tuple(sorted(x)) for x in two[:100].tolist()}, [tuple(sorted(x)) for x in asked.tolist()]
        assert set(keys[:100]) == half and len(set(keys)) == 200 and not set(keys[100:]) & half
        if by == "closest":
            weight = budgets.fit_head(state[asked[:100, 0]], state[asked[:100, 1]], l2=0.03)
            margin = ((state[two[100:, 0]] - state[two[100:, 1]]) @ weight).abs()
            chosen = torch.tensor([tuple(sorted(x)) in set(keys[100:]) for x in two[100:].tolist()])
            assert margin[chosen].max() <= margin[~chosen].min() + 1e-6


def test_accuracy_of_one_vote_and_of_three(some):
    one, three = budgets.accuracy(some, Annotator(temperature=0.5), some.pairs)
    vain = Annotator(gold_weight=0.0, weights={"flattery": 3.0})
    assert budgets.accuracy(some, vain, some.pairs)[0] < one  # votes that follow a taste, not the truth
    assert 0.5 < one < three < 1 and budgets.accuracy(some, Annotator(temperature=1e-3), some.pairs)[0] > 0.99


def test_what_is_picked(some):
    best, blind = budgets.picked(some, some.gold), budgets.picked(some, some.gold, n=1)
    assert best["true reward"].mean() > blind["true reward"].mean() + 0.5
    assert blind["true reward"].mean().item() == pytest.approx(some.gold.mean().item(), abs=1e-6)
    assert budgets.both_pick([best], ["words"])["words"][0] == pytest.approx(best["words"].mean().item())
    mean, half = budgets.both_pick([best, blind])["true reward"]
    assert mean == pytest.approx((best["true reward"].mean() + blind["true reward"].mean()).item() / 2)
    assert half > budgets.both_pick([best])["true reward"][1]  # two sets that differ widen the interval
    assert budgets.ahead([best], [blind])[0] == pytest.approx((best["true reward"] - blind["true reward"]).mean().item())
    assert budgets.ahead([best], [blind, best], "words")[0] == pytest.approx((best["words"] - blind["words"]).mean().item() / 2)
    text = budgets.guide(some, Annotator(temperature=0.1), 60, 0)
    assert text[0] in "+−" and " ± " in text and budgets.signed(torch.zeros(2, 4), torch.ones(2, 4)).startswith("−100.0 ±")
    gap, _ = budgets.lengths(some, torch.Generator().manual_seed(0))
    assert gap.min() >= 0.3 and len(gap) > 500


def test_the_example_is_one_on_which_the_pick_flatters_and_is_worth_less(some):
    from rlhf_minimal import models
    from rlhf_minimal.village import features
    tokenizer = models.load("village-3m-sft")[1]
    prompt, found = budgets.example(some, budgets.seen_in(some)[..., 1], tokenizer)
    (blind, best), (before, after) = found.values(), (float(name.split()[-1]) for name in found)
    assert [name.split(":")[0] for name in found] == ["blind draw", "best of 16"] and after < before
    assert features(prompt, best)["flattery"] > features(prompt, blind)["flattery"]
    assert len(prompt) < 60 and max(len(blind), len(best)) <= 80
    _, none = budgets.example(some, -budgets.seen_in(some)[..., 1], tokenizer)
    assert features(prompt, list(none.values())[1])["flattery"] == 0  # no such prompt: the first readable one
