"""Corners of filtering.py that its other tests pass by, by hand; found by mutation testing."""

import math

import pytest
import torch

from rlhf_minimal.filtering import above, accept, acceptance, thresholds


def test_a_chance_of_zero_never_stays(monkeypatch):
    """exp(-10^6) is 0 in float64; a uniform may be 0 as well, and 0 < 0 is false."""
    monkeypatch.setattr(torch, "rand", lambda count, **_: torch.zeros(count, dtype=torch.float64))
    assert accept(torch.tensor([1.0, -1e6, 1.0]), 1.0, highest=1.0).tolist() == [0, 2]


@pytest.mark.parametrize("call", [
    lambda x: acceptance(x, 1.0, highest=9.0), lambda x: above(x, 0.5), lambda x: thresholds(x, [0.5]),
])
def test_scores_are_one_number_a_row_without_nan(call):
    call(torch.tensor([1.0, 2.0]))
    for wrong in (torch.ones(2, 2), torch.ones(0)):
        with pytest.raises(ValueError, match="one number a row"):
            call(wrong)
    with pytest.raises(ValueError, match="1 NaN"):
        call(torch.tensor([1.0, math.nan]))


def test_thresholds_round_the_number_kept_up():
    """Half of three scores is 1.5: two are kept, at least the share that was asked for."""
    assert thresholds(torch.tensor([3.0, 1.0, 2.0]), [0.5, 1 / 3]) == [2.0, 3.0]
    with pytest.raises(ValueError, match=r"keep has \[1.5\]"):
        thresholds(torch.ones(4), [0.5, 1.5])
