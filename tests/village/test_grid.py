"""The village green: exact values, fits that find a planted reward, and raters who answer as they should."""

import itertools
import math

import pytest
import torch

from rlhf_minimal.evaluate import spearman
from rlhf_minimal.village import grid


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def test_values_satisfy_bellmans_equation_and_the_best_policy_earns_them():
    reward = grid.true_reward()
    q = grid.action_values(reward)
    value = q.max(1).values
    assert (q - (reward + grid.DISCOUNT * value)[grid.neighbours()]).abs().max() < 1e-8
    best = grid.best(reward)
    for start in (0, 27, 63):
        assert grid.worth(best, reward, start) == pytest.approx(value[start].item(), abs=1e-7)


def test_no_policy_of_a_small_grid_beats_value_iteration():
    reward = torch.tensor([0.0, -1.0, 0.5, 1.0])
    every = [grid.worth(torch.eye(4)[list(moves)], reward, 0, 0.8) for moves in itertools.product(range(4), repeat=4)]
    found = grid.worth(grid.best(reward, 0.8), reward, 0, 0.8)
    assert found == pytest.approx(max(every)) and min(every) < found - 1


def test_worth_is_what_walks_collect():
    reward, policy = grid.true_reward(), torch.full((64, 4), 0.25)
    walks = grid.walks(policy, 4000, 100, dice(), start=27)
    seen = (reward[walks] * grid.DISCOUNT ** torch.arange(100)).sum(1)
    error = seen.std() / len(seen) ** 0.5
    assert abs(seen.mean() - grid.worth(policy, reward, 27)) < 4 * error


def test_share_is_0_for_a_random_walk_and_1_for_the_best():
    reward = grid.true_reward()
    assert grid.share(torch.full((64, 4), 0.25), reward) == pytest.approx(0, abs=1e-9)
    assert grid.share(grid.best(reward), reward) == pytest.approx(1)
    assert grid.share(grid.best(-reward), reward) < -0.5  # negative control
    with pytest.raises(ValueError, match="every policy"):
        grid.share(grid.best(reward), torch.ones(64))


def test_choices_and_ratings_lead_back_to_the_reward():
    reward = grid.true_reward()
    first, second = grid.visits(grid.walks(torch.full((64, 4), 0.25), 12_000, 6, dice())).chunk(2)
    chosen = grid.prefer(first @ reward, second @ reward, dice(1), temperature=0.3)
    assert spearman(grid.fit_choices(first - second, chosen), reward) > 0.9
    assert spearman(grid.fit_ratings(first, grid.feel(first @ reward, dice(2), 0.3)), reward) > 0.95
    coins = grid.prefer(first @ reward, second @ reward, dice(3), careless=1.0)
    assert abs(spearman(grid.fit_choices(first - second, coins, 10), reward)) < 0.5  # negative control


def test_the_fit_of_choices_is_a_minimum():
    difference, chosen = torch.randn(40, 9, generator=dice()).double(), torch.randint(2, (40,), generator=dice(1)).double()
    # without its centring: the gradient of the loss at r, for difference without a constant part
    difference = difference - difference.mean(1, keepdim=True)
    r = grid.fit_choices(difference, chosen, 0.7).requires_grad_()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(difference @ r, chosen, reduction="sum") + 0.7 * r.square().sum()
    loss.backward()
    assert r.grad.abs().max() < 1e-6


def test_a_rater_follows_bradley_and_terry():
    a, b = torch.full((40_000,), 1.0), torch.zeros(40_000)
    sure = grid.prefer(a, b, dice(), temperature=0.5).mean().item()
    assert sure == pytest.approx(1 / (1 + math.exp(-2)), abs=0.01)
    tired = grid.prefer(a, b, dice(), temperature=0.5, careless=0.4).mean().item()
    assert tired == pytest.approx(0.6 / (1 + math.exp(-2)) + 0.2, abs=0.01)
    felt = (grid.feel(a, dice(1), 0.5) > grid.feel(b, dice(2), 0.5)).double().mean().item()
    assert felt == pytest.approx(sure, abs=0.015)


def test_segments_are_stretches_of_their_walk():
    walk = torch.arange(20).repeat(7, 1)
    found = grid.segments(walk, 5, dice())
    assert found.shape == (7, 5) and (found.diff(dim=1) == 1).all()
    with pytest.raises(ValueError, match="give 1 to 20"):
        grid.segments(walk, 21, dice())


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="discount"):
        grid.action_values(torch.zeros(64), 1.0)
    with pytest.raises(ValueError, match="square"):
        grid.action_values(torch.zeros(63))


def test_the_largest_value_with_gumbel_noise_is_a_draw_from_the_softmax():
    worth = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    picked = (worth + grid.gumbel((20_000, 3), dice())).argmax(1)
    assert torch.allclose(picked.bincount(minlength=3) / 20_000, worth.softmax(0).float(), atol=0.015)
