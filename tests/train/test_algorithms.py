"""The table of algorithms: every line names a loss that is there and takes what the line hands to it."""

import importlib
import inspect
from dataclasses import replace

import pytest

from rlhf_minimal.train.algorithms import ALGORITHMS
from rlhf_minimal.train.settings import COMMON, SAMPLED, Setting

NOT_OF_THE_LOSS = {"epochs", "minibatches", "baseline_decay", "gamma", "lam"}  # settings of the step, in train/policy.py


def takes(a):
    """The names of the loss's arguments."""
    file, name = a.loss.split(".")
    return set(inspect.signature(getattr(importlib.import_module(f"rlhf_minimal.{file}"), name)).parameters)


def lost(a):
    """Settings of an algorithm that nobody reads: the loss has no argument of that name, nor the making of a batch."""
    elsewhere = {"demonstrations": {"turns"}, "prompts": NOT_OF_THE_LOSS}.get(a.rows, set())
    return set(a.settings) - takes(a) - set(COMMON) - set(SAMPLED) - elsewhere


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_setting_reaches_the_loss(name):
    assert not lost(ALGORITHMS[name])


def test_control_a_setting_that_the_loss_does_not_take_is_found():
    wrong = replace(ALGORITHMS["dpo"], settings=ALGORITHMS["dpo"].settings | {"betta": Setting(0.1, float, "")})
    assert lost(wrong) == {"betta"} and lost(replace(ALGORITHMS["dpo"], loss="direct_alignment.simpo_loss")) == {"label_smoothing"}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_loss_divides_by_the_terms_of_the_whole_step(name):
    assert "denominator" in takes(ALGORITHMS[name])


@pytest.mark.parametrize("name", [name for name, a in ALGORITHMS.items() if a.rows == "pairs"])
def test_pairs_are_compared_with_the_reference_where_the_loss_has_one(name):
    a = ALGORITHMS[name]
    assert a.reference == ("ref_chosen" in takes(a)) and a.average == (name == "ipo" or "avg_chosen" in takes(a))


def test_a_beta_on_the_reward_is_not_given_to_the_loss_too():
    """The KL is in the reward of all that sample but GRPO, whose loss holds it: then it counts once."""
    with_beta = {name for name, a in ALGORITHMS.items() if a.rows == "prompts" and "beta" in takes(a)}
    assert with_beta == {"grpo"}
