"""Corners of ppo.py that its other tests pass by; found by mutation testing."""

import math

import pytest
import torch

from rlhf_minimal.ppo import explained_variance, rewards


def test_explained_variance_has_no_gradient():
    """1 - var(0, -1) / var(1, 3) = 1 - 0.5 / 2."""
    value, ret = torch.tensor([[1.0, 4.0]], requires_grad=True), torch.tensor([[1.0, 3.0]], requires_grad=True)
    got = explained_variance(value, ret, torch.ones(1, 2))
    assert got.item() == 0.75 and not got.requires_grad


def test_a_score_that_is_nan_is_refused():
    zero = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"score \(2,\) holds 1 NaN"):
        rewards(torch.tensor([1.0, math.nan]), zero, zero, torch.ones(2, 3), 0.1)
