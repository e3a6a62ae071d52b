"""Batches without tokens, and numbers that are not finite: no silent NaN, no wrong error."""

import pytest
import torch

from rlhf_minimal.distillation import CREDIT_MODES, full_vocabulary_loss, on_policy_loss
from rlhf_minimal.grpo import cispo_loss, grpo_loss
from rlhf_minimal.ppo import policy_loss, value_loss
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.trpo import natural_step


@pytest.mark.parametrize("mode", CREDIT_MODES)
def test_on_policy_distillation_of_no_tokens_is_a_differentiable_zero_if_a_denominator_is_given(mode):
    logp = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    loss, _ = on_policy_loss(logp, logp.detach() - 1, torch.zeros(1, 2), mode=mode, denominator=3)  # J5
    loss.backward()
    assert loss.item() == 0 and logp.grad.abs().sum() == 0


def test_full_vocabulary_loss_of_no_tokens_is_zero_if_a_denominator_is_given():
    logits = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss, _ = full_vocabulary_loss(logits, logits.detach() * 2, torch.zeros(1, 2), logp=torch.zeros(1, 2), denominator=3)
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().sum() == 0


def test_natural_step_refuses_an_infinite_gradient():
    w = torch.tensor([1e-30], requires_grad=True)
    with pytest.raises(ValueError, match="diverged"):
        natural_step(lambda: (w.sqrt() / 1e-30).log().sum() * 1e38 * 1e10, lambda: ((w - 1e-30) ** 2).sum(), [w], delta=0.1)


def grad(loss, x):
    return torch.autograd.grad(loss, x, retain_graph=True)[0]


@pytest.mark.parametrize("name", ["reinforce", "policy", "value", "grpo"])
def test_empty_masks(policy_batch, name):
    """Convention 8, J5: an empty row is not counted; an empty batch raises, or is a live 0 with a denominator."""
    logp, old, score, mask = policy_batch
    calls = {
        "reinforce": lambda m, **k: reinforce_loss(logp, score, m, **k)[0],
        "policy": lambda m, **k: policy_loss(logp, old, score, m, **k)[0],
        "value": lambda m, **k: value_loss(logp, old, old, m, **k)[0],
        "grpo": lambda m, **k: grpo_loss(logp, old, score, m, group_size=2, **k)[0],
    }
    call = calls[name]
    with pytest.raises(ValueError, match="empty"):
        call(mask * 0)
    zero = call(mask * 0, denominator=8)
    assert zero == 0 and (grad(zero, logp) == 0).all()
    part = mask.clone()
    part[3] = 0
    if name in ("reinforce", "grpo"):  # rows are what is counted
        assert torch.allclose(call(part), call(part, denominator=3))


def test_J5_stats_of_a_batch_without_tokens_are_finite(policy_batch):
    logp, old, score, mask = policy_batch
    none = mask * 0
    for _, stats in (
        policy_loss(logp, old, score, none, denominator=8), value_loss(logp, old, old, none, denominator=8),
        cispo_loss(logp, old, score, none, group_size=2, denominator=8),
        grpo_loss(logp, old, score, none, group_size=2, logp_ref=old, beta=0.1, denominator=8),
    ):
        assert all(torch.isfinite(x) for x in stats.values())
