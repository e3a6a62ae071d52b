"""A corner of sft.py that its other tests pass by; found by mutation testing."""

import math

import pytest
import torch

from rlhf_minimal.sft import sft_loss


def test_one_token_is_divided_by_one():
    """-log(1/4) = 1.3863 nats, perplexity 4, whatever the denominator of the step."""
    logp = torch.tensor([[0.25, 0.9]]).log()
    stats = sft_loss(logp, torch.tensor([[1, 0]]), denominator=8)[1]
    assert stats["nll"].item() == pytest.approx(math.log(4)) and stats["perplexity"].item() == pytest.approx(4)
