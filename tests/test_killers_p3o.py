"""Corners of p3o.py that its other tests pass by, by hand; found by mutation testing."""

import pytest
import torch

from rlhf_minimal.p3o import FORMS, p3o_loss, step
from rlhf_minimal.sampling import sample


def test_stats_of_two_pairs_by_hand():
    """One pair's gap grew by 0.5, clipped to 0.2 under the weight e^0.5, held at 1.2; the other pair stayed."""
    old, logp = torch.full((4, 1), -1.0), torch.tensor([[-0.5], [-1.0], [-1.0], [-1.0]])
    loss, stats = p3o_loss(logp, old, torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.ones(4, 1), form="joint")
    assert stats["clip_frac"] == 0.5 and stats["weight"].item() == pytest.approx((1.2 + 1) / 2)
    assert loss.item() == pytest.approx(-(1.2 * 0.2 + 0) / 2 / 2)


@pytest.mark.parametrize("form", FORMS)
def test_D12_old_samples_and_stats_carry_no_graph_and_a_clip_of_one_is_allowed(form):
    logp, old = (torch.full((2, 3), x).requires_grad_() for x in (-1.0, -1.1))
    loss, stats = p3o_loss(logp, old, torch.tensor([1.0, 0.0]), torch.ones(2, 3), clip=1.0, form=form)
    slope, none = torch.autograd.grad(loss, [logp, old], allow_unused=True)
    assert none is None and slope.abs().min() > 0 and not any(x.requires_grad for x in stats.values())


def test_a_step_reports_means_over_rows_with_dropout_off(tiny_gpt2):
    """Scores (1, 0, 0, 1), a KL of 0.3 a token: means, not sums; in training mode two steps of rate 0 agree (B7)."""
    model = tiny_gpt2(n_layer=1)
    rollout = sample(model, [[3, 4], [5, 6]], n=2, max_new_tokens=4, eos_id=0,
                     generator=torch.Generator().manual_seed(1))
    model.train()
    still, score = torch.optim.SGD(model.parameters(), lr=0.0), torch.tensor([1.0, 0.0, 0.0, 1.0])
    ref, kl = rollout.logp_old - 0.3 * rollout.mask, 0.3 * rollout.mask.sum(1).mean()
    one, two = (step(model, still, rollout, score, logp_ref=ref, beta=0.1) for _ in range(2))
    assert one["loss"] == two["loss"] and one["score"] == 0.5 and torch.allclose(one["kl"], kl)
    assert torch.allclose(one["reward"], 0.5 - 0.1 * kl)
