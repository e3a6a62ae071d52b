"""Edges that used to pass silently or to raise wrongly."""
import pytest
import torch

from rlhf_minimal.distillation import FORMS, full_vocabulary_loss, on_policy_loss
from rlhf_minimal.process_reward import outcome_loss
from rlhf_minimal.trpo import natural_step


@pytest.mark.parametrize("form", FORMS)
def test_on_policy_distillation_of_no_tokens_is_a_differentiable_zero_if_a_denominator_is_given(form):
    logp = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    loss, _ = on_policy_loss(logp, logp.detach() - 1, torch.zeros(1, 2), form=form, denominator=3)  # J5
    loss.backward()
    assert loss.item() == 0 and logp.grad.abs().sum() == 0


def test_full_vocabulary_loss_of_no_tokens_is_zero_if_a_denominator_is_given():
    logits = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss, _ = full_vocabulary_loss(logits, logits.detach() * 2, torch.zeros(1, 2), logp=torch.zeros(1, 2), denominator=3)
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().sum() == 0


def test_a_half_is_no_outcome():
    with pytest.raises(ValueError, match="give 0 or 1"):
        outcome_loss(torch.zeros(2, 3), torch.tensor([0.5, 1.0]), torch.ones(2, 3))


def test_natural_step_refuses_an_infinite_gradient():
    w = torch.tensor([1e-30], requires_grad=True)
    with pytest.raises(ValueError, match="diverged"):
        natural_step(lambda: (w.sqrt() / 1e-30).log().sum() * 1e38 * 1e10, lambda: ((w - 1e-30) ** 2).sum(), [w], delta=0.1)
