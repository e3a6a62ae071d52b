"""A corner of tensors.py that its other tests pass by; found by mutation testing."""

import pytest
import torch

from rlhf_minimal.tensors import masked_whiten


def test_D4_a_spread_of_1e_8_is_a_spread():
    """0 and 1.7e-8 have the variance 1.4e-16 (n-1), above the floor of 1e-16: white they are -+ 1/sqrt 2."""
    white = masked_whiten(torch.tensor([[0.0, 1.7e-8]]), torch.ones(1, 2))
    assert white[0].tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5], rel=1e-4)
