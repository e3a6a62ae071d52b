"""A corner of rloo.py that its other tests pass by; found by mutation testing."""

import pytest
import torch

from rlhf_minimal.rloo import rloo_loss


def test_adv_std_by_hand():
    """Scores (3, 1) and (1, 1) give advantages 2, -2, 0, 0: their standard deviation with n-1 is sqrt(8/3)."""
    stats = rloo_loss(torch.zeros(4, 2), torch.tensor([3.0, 1.0, 1.0, 1.0]), torch.ones(4, 2), group_size=2)[1]
    assert stats["adv_std"].item() == pytest.approx((8 / 3) ** 0.5)
