"""Corners of advantages.py that its other tests pass by; found by mutation testing."""

import pytest
import torch

from rlhf_minimal.advantages import gae, group_normalize


def test_D6_a_spread_of_1e_8_is_a_spread():
    """1.5e-8 and 0 have the standard deviation 1.06e-8 (n-1), above the floor of 1e-8: advantages +- 1/sqrt 2."""
    got = group_normalize(torch.tensor([1.5e-8, 0.0]), 2)
    assert got.tolist() == pytest.approx([0.5**0.5, -(0.5**0.5)], rel=1e-4)


def test_all_three_shapes_are_told_at_once():
    with pytest.raises(ValueError, match=r"reward \(2, 3\), value \(2,\), mask \(2, 3\)"):
        gae(torch.zeros(2, 3), torch.zeros(2), torch.ones(2, 3))
