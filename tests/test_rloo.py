"""RLOO: REINFORCE with the mean of the others as its baseline."""

import pytest
import torch

from rlhf_minimal.advantages import leave_one_out
from rlhf_minimal.grpo import grpo_loss
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.rloo import rloo_loss


def test_adv_std_by_hand():
    """Scores (3, 1) and (1, 1) give advantages 2, -2, 0, 0: their standard deviation with n-1 is sqrt(8/3)."""
    stats = rloo_loss(torch.zeros(4, 2), torch.tensor([3.0, 1.0, 1.0, 1.0]), torch.ones(4, 2), group_size=2)[1]
    assert stats["adv_std"].item() == pytest.approx((8 / 3) ** 0.5)


def test_D8_rloo_is_reinforce_with_the_others_mean(policy_batch):
    logp, _, score, mask = policy_batch
    adv = torch.tensor([1.0, -1.0, -1.5, 1.5], dtype=torch.float64)
    assert torch.allclose(rloo_loss(logp, score, mask, group_size=2)[0], reinforce_loss(logp, adv, mask)[0])
    got = leave_one_out(torch.tensor([1.0, 0, 0, 0]), 4)
    assert torch.allclose(got, torch.tensor([1.0, -1 / 3, -1 / 3, -1 / 3])) and abs(got.sum()) < 1e-6
    with pytest.raises(ValueError):
        rloo_loss(logp, score, mask, group_size=1)
    with pytest.raises(ValueError, match="3"):
        rloo_loss(logp, score, mask, group_size=3)


def test_D9_prompt_major_layout(policy_batch):
    """Permuting prompts permutes advantages; the (k, N) reshape mixes prompts and still sums to zero."""
    logp, old, score, mask = policy_batch
    swap = torch.tensor([2, 3, 0, 1])
    assert torch.equal(leave_one_out(score[swap], 2), leave_one_out(score, 2)[swap])
    a = grpo_loss(logp, old, score, mask, group_size=2)[0]
    assert torch.allclose(a, grpo_loss(logp[swap], old[swap], score[swap], mask[swap], group_size=2)[0])
    wrong = (score.view(2, 2) - score.view(2, 2).flip(0)).flatten()
    assert wrong.sum() == 0 and not torch.allclose(wrong, leave_one_out(score, 2))
