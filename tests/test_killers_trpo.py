"""Corners of trpo.py that its other tests pass by: steps on one weight, by hand; found by mutation testing."""

import math

import pytest
import torch

from rlhf_minimal.sampling import sample
from rlhf_minimal.trpo import conjugate_gradients, natural_step, step, trpo_loss


def test_ratio_of_the_stats_by_hand():
    """Ratios 2, 1/2 and 1 on the mask, garbage off it: mean 7/6; one token is divided by 1; without tokens 0."""
    new, old = torch.tensor([[0.8, 0.1], [0.3, 0.9]]).log(), torch.tensor([[0.4, 0.2], [0.3, 0.1]]).log()
    new.requires_grad_()
    old.requires_grad_()
    mask = torch.tensor([[1, 1], [1, 0]])
    loss, stats = trpo_loss(new, old, torch.tensor([1.0, 2.0]), mask)
    assert stats["ratio"].item() == pytest.approx(7 / 6) and loss.item() == pytest.approx(-(2 + 0.5 + 2) / 2)
    assert not stats["ratio"].requires_grad and not stats["loss"].requires_grad
    assert torch.autograd.grad(loss, old, allow_unused=True)[0] is None  # D12
    single = trpo_loss(new, old, torch.ones(2), torch.tensor([[1, 0], [0, 0]]))[1]
    assert single["ratio"].item() == pytest.approx(2.0)
    assert trpo_loss(new, old, torch.ones(2), mask * 0, denominator=4)[1]["ratio"] == 0


def test_conjugate_gradients_do_not_depend_on_units():
    """The tolerance is relative: a right-hand side of 1e-12 is solved as well as one of 1e6."""
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    for unit in (1e-12, 1.0, 1e6):
        x = conjugate_gradients(lambda v: matrix @ v, unit * torch.tensor([3.0, 4.0], dtype=torch.float64))
        assert (x / unit).tolist() == pytest.approx([1.0, 1.0], rel=1e-9)


def one_weight(loss, divergence, **settings):
    """(stats, the weight) of a step from w = 0."""
    w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    stats = natural_step(lambda: loss(w).sum(), lambda: divergence(w).sum(), [w], damping=0.0, cg_steps=1, **settings)
    return stats, w.item()


def test_the_full_step_by_hand():
    """Loss -w, KL w^2 (so F = 2), delta 1/4: x = 1/2, x'Fx = 1/2, the full step is 1/2, its KL delta exactly."""
    stats, w = one_weight(lambda w: -w, lambda w: w**2, delta=0.25, tries=1)
    assert w == 0.5 and stats == {"kl": 0.25, "improvement": 0.5, "step": 1.0, "grad_norm": 1.0}


def test_the_step_is_cut_until_the_measured_kl_fits():
    """A wall at |w| = 0.2 that the Hessian at 0 does not know: 1/2 and 1/4 hit it, 1/8 does not."""
    def wall(w):
        return w**2 + 100 * torch.relu(w.abs() - 0.2)

    stats, w = one_weight(lambda w: -w, wall, delta=0.25, tries=3)
    assert w == 0.125 and stats == {"kl": 1 / 64, "improvement": 0.125, "step": 0.25, "grad_norm": 1.0}
    stats, w = one_weight(lambda w: -w, wall, delta=0.25, tries=2)
    assert w == 0 and stats == {"kl": 0.0, "improvement": 0.0, "step": 0.0, "grad_norm": 1.0}


def test_a_step_that_gains_nothing_is_cut_too():
    """Loss 2 w^2 - w is 0 again at w = 1/2: no gain; at 1/4 it is -1/8."""
    stats, w = one_weight(lambda w: 2 * w**2 - w, lambda w: w**2, delta=0.25)
    assert w == 0.25 and stats["step"] == 0.5 and stats["improvement"] == 0.125


def test_a_loss_that_is_nan_raises():
    with pytest.raises(ValueError, match="weights diverged"):
        one_weight(lambda w: w * math.nan, lambda w: w**2)


def test_a_step_reports_means_over_rows(tiny_gpt2):
    """Scores 0 to 3 have the mean 1.5; a KL of 0.3 a token; dropout is off in training mode (B7)."""
    model = tiny_gpt2(n_layer=1)
    rollout = sample(model, [[3, 4]], n=4, max_new_tokens=3, eos_id=0, generator=torch.Generator().manual_seed(0))
    ref, kl = rollout.logp_old - 0.3 * rollout.mask, 0.3 * rollout.mask.sum(1).mean()
    stats = step(model.train(), rollout, torch.arange(4.0), group_size=4, logp_ref=ref, beta=0.1)
    assert stats["score"] == 1.5 and torch.allclose(stats["kl"], kl) and torch.allclose(stats["reward"], 1.5 - 0.1 * kl)
    assert 0 < stats["kl_old"] <= 0.01 and stats["step"] > 0
