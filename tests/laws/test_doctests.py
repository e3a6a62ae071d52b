"""The examples in docstrings run; every public loss, estimator, mask and mean has one to check on paper."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import rlhf_minimal

MODULES = sorted(
    m.name for m in pkgutil.walk_packages(rlhf_minimal.__path__, "rlhf_minimal.") if not m.name.endswith("__main__")
)
WITH_EXAMPLES = {
    "tensors": "masked_sum masked_mean masked_whiten mask_through_first last_index positions pad_left pad_right",
    "logprobs": "token_logps sequence_logps entropy",
    "kl": "k1 k2 k3 exact_kl FixedKL AdaptiveKL",
    "advantages": "returns_to_go gae leave_one_out group_normalize per_token",
    "aggregate": "aggregate",
    "sft": "sft_loss",
    "reward_model": "pairwise_loss plackett_luce_loss all_pairs_loss rating_loss",
    "process_reward": "outcome_loss process_loss answer_score",
    "best_of_n": "select kl_bound curve law",
    "reinforce": "reinforce_loss penalized",
    "rloo": "rloo_loss",
    "ppo": "policy_loss value_loss rewards",
    "grpo": "grpo_loss gspo_loss cispo_loss",
    "trpo": "trpo_loss",
    "p3o": "p3o_loss",
    "direct_alignment": "dpo_loss rdpo_loss ipo_loss hinge_loss simpo_loss cpo_loss orpo_loss kto_loss cpl_loss",
    "ilql": "ilql_loss expectile",
    "distillation": "word_level_loss sequence_level_loss on_policy_loss",
    "evaluate": "pass_at_k win_rate perplexity",
}


def examples(thing):
    return [e for t in doctest.DocTestFinder(recurse=False).find(thing, "x", globs={}) for e in t.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    """Each in a copy of its module's namespace: an example imports what its file does not."""
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0, f"{found.failed} of {found.attempted} examples in {name} fail; their report is above"


@pytest.mark.parametrize("module, name", [(m, name) for m, names in WITH_EXAMPLES.items() for name in names.split()])
def test_has_a_worked_example(module, name):
    """Two to seven lines, with a result that is not only a type or a shape."""
    found = examples(getattr(importlib.import_module(f"rlhf_minimal.{module}"), name))
    shown = [e.want for e in found if e.want]
    assert shown and any(c.isdigit() for c in "".join(shown)), f"{module}.{name} shows no number"
    assert sum(len((e.source + e.want).splitlines()) for e in found) <= 9, f"{module}.{name}: too long to take in"


def test_every_loss_has_a_worked_example():
    """New losses too, wherever they are."""
    for module in MODULES:
        if ".exercises." in module or ".train." in module:     # checks; what chooses among the losses
            continue
        for name, fn in inspect.getmembers(importlib.import_module(module), inspect.isfunction):
            if name.endswith("_loss") and fn.__module__ == module and name != "minibatch_loss":
                assert examples(fn), f"{module}.{name} has no example"


def test_a_wrong_example_is_found(capsys):
    """Negative control."""
    def wrong():
        """
        >>> 1 + 1
        3
        """

    test = doctest.DocTestFinder().find(wrong, "wrong", globs={})[0]
    assert doctest.DocTestRunner().run(test).failed == 1 and "Expected" in capsys.readouterr().out


DOCUMENTED = ("trpo", "p3o", "ilql", "distillation", "ai_feedback", "filtering", "active", "grpo", "direct_alignment",
              "reward_model")


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_worked_examples_in_the_docstrings_hold(name):
    result = doctest.testmod(importlib.import_module(f"rlhf_minimal.{name}"))
    assert result.failed == 0 and result.attempted >= 2
