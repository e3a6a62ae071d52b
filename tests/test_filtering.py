"""Filtering: selections by hand, the exact law of rejection sampling, STaR as REINFORCE without minus."""

import itertools
import math

import pytest
import torch

from rlhf_minimal import best_of_n
from rlhf_minimal.evaluate.exact import World, compare, exact_model, expected_loss_gradient, gradient, tilted
from rlhf_minimal.filtering import (
    above,
    accept,
    acceptance,
    correct_only,
    random_per_prompt,
    thresholds,
    top_overall,
    top_per_prompt,
)
from rlhf_minimal.sft import sft_loss

EQUAL = 1e-10


@pytest.fixture(scope="module")
def bench():
    world, model = World(), exact_model(0)
    reward = torch.randn(len(world), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return world, model, reward


def test_I1_top_per_prompt_and_top_overall_by_hand():
    score = torch.tensor([0.6, 0.2, 0.6, 0.1, 0.3, 0.8, 0.5, 0.8, 0.1, 0.2, 0.3, 0.0])
    assert top_per_prompt(score, 4).tolist() == best_of_n.select(score, 4).tolist() == [0, 5, 10]
    assert top_per_prompt(score, 4, 2).tolist() == [0, 2, 5, 7, 10, 9]
    assert top_overall(score, 4).tolist() == [5, 7, 0, 2]  # falling, ties by row; the third prompt is lost
    everything = top_per_prompt(score, 4, 4), top_overall(score, 12)
    assert all(sorted(rows.tolist()) == list(range(12)) for rows in everything)
    rising = score.argsort()[-4:].tolist()  # the mutant: an argsort that is not turned round
    assert rising != [5, 7, 0, 2]


def test_top_rows_equal_sorting_with_python():
    torch.manual_seed(0)
    score = torch.randint(0, 5, (60,)).float()
    key = score.tolist()
    assert top_overall(score, 17).tolist() == sorted(range(60), key=lambda i: (-key[i], i))[:17]
    rows = [i for p in range(10) for i in sorted(range(6 * p, 6 * p + 6), key=lambda i: (-key[i], i))[:2]]
    assert top_per_prompt(score, 6, 2).tolist() == rows


def test_wrong_input_raises():
    score = torch.arange(6.0)
    calls = [lambda: top_per_prompt(score, 4), lambda: top_per_prompt(score, 3, 4), lambda: top_per_prompt(score, 3, 0),
             lambda: top_overall(score, 7), lambda: top_overall(score[:0], 1), lambda: top_overall(score.view(2, 3), 1),
             lambda: top_overall(score * math.nan, 1), lambda: accept(score, 0.0, highest=5.0),
             lambda: accept(score, 1.0, highest=4.0), lambda: accept(score, 1.0, highest=math.inf),
             lambda: above(score, math.nan), lambda: thresholds(score, [0.0]), lambda: correct_only(score, 3),
             lambda: correct_only(score > 2, 4), lambda: correct_only(score > 2, 3, k=4)]
    for call in calls:
        with pytest.raises(ValueError):
            call()


def test_random_rows_are_the_matched_control():
    rows = random_per_prompt(12, 4, 2, generator=torch.Generator().manual_seed(0))
    assert [r // 4 for r in rows.tolist()] == [0, 0, 1, 1, 2, 2] and len(set(rows.tolist())) == 6
    generator = torch.Generator().manual_seed(1)
    firsts = torch.cat([random_per_prompt(4, 4, generator=generator) for _ in range(2000)])
    counts = firsts.bincount(minlength=4)
    assert ((counts - 500).abs() < 4 * math.sqrt(2000 * 3 / 16)).all()


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_what_true_rejection_sampling_accepts_is_exactly_the_tilted_policy(bench, beta):
    """10.7, enumerated: the law of the accepted, the share accepted, and two laws that it is not."""
    world, model, reward = bench
    logp = world.seq_logp(model).detach()
    kept = logp.exp() * acceptance(reward, beta, highest=reward.max().item() + 0.5)
    best = tilted(logp, reward, beta).exp()
    partition = (logp.exp() * (reward / beta).exp()).sum()
    assert torch.allclose(kept / kept.sum(), best, atol=1e-12)
    assert abs(kept.sum() - partition * math.exp(-(reward.max().item() + 0.5) / beta)) < 1e-12
    capped = logp.exp() * ((reward - reward.median()) / beta).exp().clamp(max=1)  # a maximum that is none
    assert (capped / capped.sum() - best).abs().max() > 0.02
    for n in (2, 4, 16):
        assert (best_of_n.law(logp.exp(), reward, n) - best).abs().max() > 0.02  # best-of-n is another law


def test_accepted_samples_follow_the_tilted_policy(bench):
    """The draw itself: chi-square of the accepted of 40,000 samples, and their number within 4 standard deviations."""
    world, model, reward = bench
    generator, logp = torch.Generator().manual_seed(0), world.seq_logp(model).detach()
    drawn = torch.multinomial(logp.exp(), 40000, replacement=True, generator=generator)
    rows = accept(reward[drawn], 0.7, highest=reward.max().item(), generator=generator)
    share = (logp.exp() * acceptance(reward, 0.7, highest=reward.max().item())).sum().item()
    assert abs(len(rows) / 40000 - share) < 4 * math.sqrt(share * (1 - share) / 40000)
    counts = drawn[rows].bincount(minlength=len(world)).double()

    def chi2(law):
        return ((counts - len(rows) * law) ** 2 / (len(rows) * law)).sum().item()

    assert chi2(tilted(logp, reward, 0.7).exp()) < 36.2  # 14 degrees of freedom, p = .001
    assert chi2(tilted(logp, reward, 1.0).exp()) > 36.2
    assert accept(torch.full((5,), 2.0), 0.1, highest=2.0).tolist() == [0, 1, 2, 3, 4]


def test_rest_thresholds_rise_and_keep_their_share():
    torch.manual_seed(0)
    score, keep = torch.randn(200), [1.0, 0.5, 0.2, 0.01]
    levels = thresholds(score, keep)
    assert levels == sorted(levels) and levels[0] == score.min().item()
    assert [len(above(score, level)) for level in levels] == [200, 100, 40, 2]
    assert thresholds(torch.zeros(4), [0.5]) == [0.0] and len(above(torch.zeros(4), 0.0)) == 4  # ties stay: at least
    assert above(score, 99.0).tolist() == []


def test_correct_only_by_hand():
    correct = torch.tensor([1, 0, 1, 0, 0, 0, 1, 1, 1])
    rows, unsolved = correct_only(correct, 3)
    assert rows.tolist() == [0, 2, 6, 7, 8] and unsolved.tolist() == [1]
    rows, unsolved = correct_only(correct.bool(), 3, k=1)
    assert rows.tolist() == [0, 6] and unsolved.tolist() == [1]
    assert correct_only(correct * 0, 3)[0].tolist() == []


def star(world, logp, i, correct, *, k=None):
    """SFT, summed over tokens, on the rows that are right, divided by all rows sampled."""
    rows, _ = correct_only(correct[i], len(i), k=k)
    return sft_loss(logp[rows], world.mask[i][rows], denominator=len(i))[0]


def test_star_is_reinforce_with_reward_0_or_1(bench):
    """14.7: over all pairs of samples its gradient is that of P(correct); with one a prompt, or a mean, it is not."""
    world, model, reward = bench
    correct = (reward > 0.3).double()
    exact = gradient(world.expected(model, correct), model)

    def error(loss):
        return compare(-expected_loss_gradient(world, model, loss, group_size=2), exact)

    assert 0 < correct.sum() < len(world)
    assert error(lambda lp, i: star(world, lp, i, correct))["error"] < EQUAL
    assert error(lambda lp, i: star(world, lp, i, correct, k=1))["error"] > 0.02


def test_star_as_fine_tuning_is_the_same_direction_scaled_by_the_chance_to_be_right(bench):
    """On the right samples alone, as they come: grad log P(correct) = grad P / P."""
    world, model, reward = bench
    correct = (reward > 0.3).double()
    p = world.seq_logp(model).detach().exp()
    kept = p * correct / (p * correct).sum()
    got = gradient((kept * world.seq_logp(model)).sum(), model)
    exact = gradient(world.expected(model, correct), model)
    result = compare(got, exact)
    assert abs(result["cosine"] - 1) < EQUAL and abs(result["ratio"] - 1 / (p * correct).sum().item()) < 1e-9
    everything = gradient((p * world.seq_logp(model)).sum(), model)  # unfiltered self-imitation teaches nothing
    assert everything.norm() < 1e-10 * exact.norm()


def test_top_k_equals_trying_all_subsets():
    score = torch.tensor([0.3, 0.9, 0.1, 0.5])
    best = max(itertools.combinations(range(4), 2), key=lambda rows: sum(score[i].item() for i in rows))
    assert sorted(top_overall(score, 2).tolist()) == list(best)


def test_a_chance_of_zero_never_stays(monkeypatch):
    """exp(-10^6) is 0 in float64; a uniform may be 0 as well, and 0 < 0 is false."""
    monkeypatch.setattr(torch, "rand", lambda count, **_: torch.zeros(count, dtype=torch.float64))
    assert accept(torch.tensor([1.0, -1e6, 1.0]), 1.0, highest=1.0).tolist() == [0, 2]


@pytest.mark.parametrize("call", [
    lambda x: acceptance(x, 1.0, highest=9.0), lambda x: above(x, 0.5), lambda x: thresholds(x, [0.5]),
])
def test_scores_are_one_number_a_row_without_nan(call):
    call(torch.tensor([1.0, 2.0]))
    for wrong in (torch.ones(2, 2), torch.ones(0)):
        with pytest.raises(ValueError, match="one number per row"):
            call(wrong)
    with pytest.raises(ValueError, match="1 NaN"):
        call(torch.tensor([1.0, math.nan]))


def test_thresholds_round_the_number_kept_up():
    """Half of three scores is 1.5: two are kept, at least the share that was asked for."""
    assert thresholds(torch.tensor([3.0, 1.0, 2.0]), [0.5, 1 / 3]) == [2.0, 3.0]
    with pytest.raises(ValueError, match=r"keep has \[1.5\]"):
        thresholds(torch.ones(4), [0.5, 1.5])
