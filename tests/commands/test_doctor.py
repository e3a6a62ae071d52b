"""The doctor prints versions and models."""

import os
import random

import numpy
import pytest
import torch

from rlhf_minimal.commands import doctor


@pytest.fixture
def switches(monkeypatch):
    """No RLHF_ switch set; the process's environment and random states restored afterwards."""
    states = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    kept = dict(os.environ)
    for name in [n for n in os.environ if n.startswith("RLHF_")]:
        monkeypatch.delenv(name)
    yield monkeypatch
    os.environ.clear()
    os.environ.update(kept)
    random.setstate(states[0])
    numpy.random.set_state(states[1])
    torch.set_rng_state(states[2])


def test_doctor_prints_versions_and_models(capsys):
    doctor.main([])
    out = capsys.readouterr().out
    assert torch.__version__ in out and "village-3m" in out and "switches" in out
