"""Corners of process_reward.py that its other tests pass by; found by mutation testing."""

import pytest
import torch

from rlhf_minimal.process_reward import process_loss


def test_one_wrong_label_among_good_ones_is_refused():
    with pytest.raises(ValueError, match="give 0 or 1 at step ends"):
        process_loss(torch.zeros(1, 4), torch.tensor([[1, 0, 2, -100]]))


def test_labels_of_another_width_are_told_as_labels():
    """What the caller gave, not the mask that is made of it."""
    with pytest.raises(ValueError, match=r"logits \(3, 4\), labels \(3, 5\)"):
        process_loss(torch.zeros(3, 4), torch.ones(3, 5))
