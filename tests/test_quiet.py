"""Quiet and offline: what `settle` switches off, and that it reaches libraries imported before."""

import os
import sys
import warnings
from types import SimpleNamespace

import pytest

from rlhf_minimal import quiet


@pytest.fixture
def switches(monkeypatch):
    """The environment and the warning filters as they were, after the test."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with warnings.catch_warnings():
        yield monkeypatch


def test_libraries_imported_earlier_are_switched_off_too(switches):
    calls = []
    library = SimpleNamespace(disable_progress_bar=lambda: calls.append("bar"), set_verbosity_error=lambda: None)
    switches.setitem(sys.modules, "transformers.utils.logging", library)
    switches.setitem(sys.modules, "huggingface_hub.constants", hub := SimpleNamespace(HF_HUB_OFFLINE=False))
    quiet.settle(quiet=False, offline=False)
    assert not calls and hub.HF_HUB_OFFLINE is False
    quiet.settle()
    assert calls == ["bar"] and hub.HF_HUB_OFFLINE is True


def test_each_switch_is_set_only_where_it_is_asked_for(switches):
    for name in (*quiet.QUIET, *quiet.OFFLINE):
        os.environ.pop(name, None)
    quiet.settle(quiet=False, offline=False)
    assert not {*quiet.QUIET, *quiet.OFFLINE} & os.environ.keys()
    quiet.settle(quiet=True, offline=False)
    assert {*quiet.QUIET} <= os.environ.keys() and not {*quiet.OFFLINE} & os.environ.keys()
    quiet.settle()
    assert {*quiet.OFFLINE} <= os.environ.keys()


def test_a_known_harmless_warning_is_silent_and_another_is_not(switches):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        quiet.settle(quiet=False, offline=False)
        warnings.warn("IProgress not found. Please update jupyter", stacklevel=1)
        warnings.warn("the loss is strange", stacklevel=1)
    assert [str(w.message) for w in seen] == ["the loss is strange"]
