"""The one place where an optimizer steps: the norm is clipped once, and a gradient that is not finite moves nothing."""

import math

import pytest
import torch

from rlhf_minimal.optim import update


def test_E15_the_norm_is_clipped_once_and_over_all_weights():
    a, b = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    norm = update(3 * a + 4 * b, torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=1.0), max_norm=1.0)
    assert abs(norm - 5) < 1e-6 and abs(a.item() + 0.6) < 1e-5 and abs(b.item() + 0.8) < 1e-5
    update(0.3 * a, torch.optim.SGD([a], lr=1.0), max_norm=1.0)  # nothing left over, nothing scaled up
    assert abs(a.item() + 0.9) < 1e-5


def test_a_gradient_that_is_not_finite_moves_nothing():
    a = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="nan"):
        update((a * math.nan).sum(), torch.optim.SGD([a], lr=1.0))
    assert torch.equal(a.detach(), torch.ones(2))


def test_by_default_the_norm_is_clipped_at_one():
    a = torch.nn.Parameter(torch.zeros(1))
    norm = update(1.5 * a, torch.optim.SGD([a], lr=1.0))
    assert norm == 1.5 and not norm.requires_grad and abs(a.item() + 1) < 1e-5
