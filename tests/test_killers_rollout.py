"""Corners of rollout.py that its other tests pass by; found by mutation testing."""

import pytest
import torch

from rlhf_minimal.rollout import Rollout


def test_ended_has_one_entry_a_row():
    one = torch.ones
    good = dict(ids=one(2, 4, dtype=torch.long), attention=one(2, 4), prompt_len=1, mask=one(2, 3), logp_old=one(2, 3))
    assert len(Rollout(**good, group=torch.arange(2), ended=one(2))) == 2
    with pytest.raises(ValueError, match=r"group \(2,\), ended \(3,\)"):
        Rollout(**good, group=torch.arange(2), ended=one(3))
