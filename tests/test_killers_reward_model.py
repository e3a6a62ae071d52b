"""Corners of reward_model.py that its other tests pass by, by hand; found by mutation testing."""

import math

import pytest
import torch

from rlhf_minimal.reward_model import (
    RewardModel,
    ensemble,
    fit_head,
    last_states,
    plackett_luce_loss,
    rating_loss,
    uncertainty_weighted,
)


def test_one_ranking_among_good_ones_that_is_none():
    """A matrix whose columns hold 0 to K-1, but whose rows do not."""
    with pytest.raises(ValueError, match="once, best first"):
        plackett_luce_loss(torch.zeros(2, 2), torch.tensor([[0, 0], [1, 1]]))


def test_rating_loss_by_hand():
    """Gaps -1 and 3: half their mean square is 2.5, their mean 1, their mean size 2; the stats carry no graph."""
    score, rating = torch.tensor([1.0, 5.0], requires_grad=True), torch.tensor([2.0, 2.0], requires_grad=True)
    loss, stats = rating_loss(score, rating)
    assert (loss.item(), stats["loss"].item(), stats["bias"].item(), stats["error"].item()) == (2.5, 2.5, 1.0, 2.0)
    assert all(not x.requires_grad for x in stats.values())
    slopes = torch.autograd.grad(loss, [score, rating], allow_unused=True)
    assert slopes[0].tolist() == [-0.5, 1.5] and slopes[1] is None  # gap / 2, and nothing into the rating
    for bad in (torch.ones(0), torch.ones(2, 2)):
        with pytest.raises(ValueError, match="one number an answer"):
            rating_loss(bad, bad)
    with pytest.raises(ValueError, match="1 NaN"):
        rating_loss(torch.tensor([math.nan]), torch.ones(1))


def test_uncertainty_weighted_by_hand():
    """Scores 0 and 2: mean 1, deviation sqrt 2 (n-1); a weight of 0 is the mean, below 0 is refused."""
    scores = torch.tensor([[0.0], [2.0]])
    assert uncertainty_weighted(scores, weight=0.5).item() == pytest.approx(1 - 0.5 * 2**0.5)
    assert uncertainty_weighted(scores, weight=0.0).item() == 1.0
    with pytest.raises(ValueError, match="weight is -0.1"):
        uncertainty_weighted(scores, weight=-0.1)
    with pytest.raises(ValueError, match="scores .* holds 1 NaN"):
        uncertainty_weighted(torch.tensor([[0.0], [math.nan]]))
    three = ensemble(torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 7.0]]))  # M = 3 rows, 2 answers
    assert three["mean"].tolist() == [2.0, 3.0] and three["min"].tolist() == [0.0, 1.0]
    assert three["spread"].tolist() == pytest.approx([2.0, 12**0.5])


def test_fit_head_of_one_feature_solves_its_equation():
    """The slope of mean -log sigmoid(w) + l2/2 w^2 is -sigmoid(-w) + l2 w: 0 at w = 1 for l2 = sigmoid(-1)."""
    l2 = 1 / (1 + math.e)
    chosen, rejected = torch.ones(4, 1, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64)
    assert fit_head(chosen, rejected, l2=l2).item() == pytest.approx(1.0, abs=1e-9)
    assert fit_head(2 * chosen, rejected, l2=l2).item() == pytest.approx(0.5, abs=1e-9)  # units of the spread


def test_the_head_that_is_given_is_copied_and_learns(tiny_gpt2):
    weight = torch.arange(32.0, requires_grad=True)
    model = RewardModel(tiny_gpt2(), weight=weight.detach())
    assert model.model.score.weight.shape == (1, 32) and torch.equal(model.model.score.weight[0], weight)
    assert model.model.score.weight.requires_grad and not model.training


def test_fit_head_does_not_depend_on_units_down_to_1e_8():
    """Gaps of 1.5e-8 are a spread, above the floor of 1e-8: the weight is 1 over it."""
    chosen, rejected = torch.full((4, 1), 1.5e-8, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64)
    assert 1.5e-8 * fit_head(chosen, rejected, l2=1 / (1 + math.e)).item() == pytest.approx(1.0, abs=1e-6)


def test_rows_without_attention_are_not_dropped_in_silence(tiny_gpt2):
    """Seven rows in batches of three with an attention of three: not the states of the first three alone."""
    with pytest.raises(ValueError):
        last_states(tiny_gpt2(n_layer=1), torch.ones(7, 2, dtype=torch.long), torch.ones(3, 2), batch=3)
