"""Corners of logprobs.py that its other tests pass by, each by hand; found by mutation testing."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rlhf_minimal.logprobs import entropy, packed_logps, token_logps


class Says(nn.Module):
    """Logits from a function of the ids, nothing else."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.fn(input_ids))


def test_B4_a_temperature_of_exactly_two_divides_too():
    """Logits (0, 4) at temperature 2 are (0, 2): the second token has log-probability -log(1 + e^-2)."""
    model = Says(lambda ids: torch.tensor([0.0, 4.0]).expand(*ids.shape, 2))
    got = token_logps(model, torch.tensor([[0, 1]]), torch.ones(1, 2), temperature=2.0)
    assert got.item() == pytest.approx(-math.log1p(math.exp(-2)), abs=1e-6)


def test_A3_padding_is_an_id_of_every_vocabulary():
    """A vocabulary of one token has only the id 0: padding of any value must become that one."""
    model = Says(lambda ids: torch.zeros(*ids.shape, 1))
    got = token_logps(model, torch.tensor([[-100, 0, 0]]), torch.tensor([[0, 1, 1]]))
    assert got.tolist() == [[0.0, 0.0]]  # log 1


def test_one_negative_id_among_good_ones_is_refused():
    """The smallest id is looked at, not the largest alone."""
    model = Says(lambda ids: torch.zeros(*ids.shape, 5))
    with pytest.raises(ValueError, match="from -1 to 3"):
        token_logps(model, torch.tensor([[3, -1, 2]]), torch.ones(1, 3))


def test_entropy_refuses_nan():
    with pytest.raises(ValueError, match=r"logits \(2, 3\) holds 1 NaN"):
        entropy(torch.tensor([[0.0, math.nan, 1.0], [0.0, 0.0, 0.0]]))


def test_A9_padding_of_a_packed_row_is_not_scored(tiny_gpt2):
    """Two paddings in a row have one number, 0, and still are no document."""
    model = tiny_gpt2()
    got = packed_logps(model, torch.tensor([[3, 1, 4, 0, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0, 0]]))
    alone = token_logps(model, torch.tensor([[3, 1, 4]]), torch.ones(1, 3))
    assert torch.allclose(got[:, :2], alone, atol=1e-4) and (got[:, 2:] == 0).all()


def test_packed_rows_and_segments_of_other_widths_are_refused(tiny_gpt2):
    with pytest.raises(ValueError, match=r"shapes differ: ids \(1, 3\), segments \(1, 2\)"):
        packed_logps(tiny_gpt2(), torch.tensor([[3, 1, 4]]), torch.tensor([[1, 1]]))


def test_a_mask_of_what_is_wanted_that_would_only_broadcast_is_refused():
    model = Says(lambda ids: torch.zeros(*ids.shape, 4))
    ids = torch.tensor([[0, 1, 2], [1, 2, 3]])
    assert token_logps(model, ids, torch.ones(2, 3), wanted=torch.ones(2, 2)).shape == (2, 2)
    with pytest.raises(ValueError, match="wanted"):
        token_logps(model, ids, torch.ones(2, 3), wanted=torch.ones(1, 2))
