"""Defaults that a reader meets without asking for them: each is written down here, so that none changes unnoticed."""

import importlib.util
import inspect

import pytest

DEFAULTS = {
    "tensors.masked_whiten": "shift_mean=True",
    "tensors.pad_left": "value=0",
    "tensors.pad_right": "value=0",
    "tensors.check_groups": "smallest=2",
    "logprobs.token_logps": "temperature=1.0",
    "logprobs.token_entropy": "temperature=1.0",
    "logprobs.sequence_logps": "average=False",
    "advantages.returns_to_go": "gamma=1.0",
    "advantages.gae": "gamma=1.0, lam=0.95",
    "advantages.group_normalize": "scale=True",
    "sampling.sample": "n=1, temperature=1.0",
    "sampling.answer": "n=1, max_new_tokens=64, temperature=1.0",
    "optim.update": "max_norm=1.0",
    "sft.step": "max_norm=1.0",
    "rollout.completion_logps": "temperature=1.0",
    "reinforce.step": "beta=0.0, baseline=0.0, temperature=1.0, max_norm=1.0",
    "rloo.step": "beta=0.0, temperature=1.0, max_norm=1.0",
    "ppo.policy_loss": "clip=0.2",
    "ppo.value_loss": "clip=0.2",
    "ppo.prepare": "beta=0.0, gamma=1.0, lam=0.95, whiten=True",
    "ppo.minibatch_loss": "clip=0.2, value_clip=0.2, value_coef=0.5, temperature=1.0",
    "ppo.step": "beta=0.0, gamma=1.0, lam=0.95, epochs=2, minibatches=1, max_norm=1.0",
    "grpo.grpo_loss": "clip=0.2, scale=True, beta=0.0",
    "grpo.gspo_loss": "clip=0.0003, scale=True",
    "grpo.cispo_loss": "clip_high=0.2, scale=True",
    "grpo.truncated_importance": "cap=2.0",
    "grpo.step": "loss_fn=grpo_loss, beta=0.0, epochs=1, temperature=1.0, max_norm=1.0",
    "reward_model.pairwise_loss": "label_smoothing=0.0, center=0.0",
    "reward_model.last_states": "batch=64",
    "reward_model.fit_head": "margin=0.0, label_smoothing=0.0, l2=0.001, steps=50",
    "reward_model.uncertainty_weighted": "weight=1.0",
    "reward_model.finish_score": "penalty=0.0",
    "reward_model.step": "max_norm=1.0",
    "evaluate.wilson": "z=1.959964",
    "evaluate.paired_bootstrap": "seed=0, resamples=4000, level=0.95",
    "evaluate.expected_calibration_error": "bins=10",
    "evaluate.rouge_n": "n=1",
    "evaluate.ratings.newton": "tolerance=1e-10",
    "evaluate.ratings.bradley_terry": "prior=0.0, centre=1000.0, steps=100",
    "evaluate.ratings.online_elo": "k=16.0, start=1000.0",
    "evaluate.ratings.length_controlled_win_rate": "steps=50",
    "direct_alignment.dpo_loss": "beta=0.1, label_smoothing=0.0",
    "direct_alignment.rdpo_loss": "beta=0.1, label_smoothing=0.0",
    "direct_alignment.ipo_loss": "beta=0.1, label_smoothing=0.0",
    "direct_alignment.hinge_loss": "beta=0.1, label_smoothing=0.0",
    "direct_alignment.simpo_loss": "beta=2.0, gamma=1.0",
    "direct_alignment.cpo_loss": "beta=0.1, alpha=1.0, label_smoothing=0.0",
    "direct_alignment.orpo_loss": "beta=0.1",
    "direct_alignment.kto_loss": "beta=0.1, w_desirable=1.0, w_undesirable=1.0",
    "direct_alignment.cpl_loss": "alpha=0.1, gamma=1.0, lam=1.0",
    "direct_alignment.apo_zero_loss": "beta=0.1",
    "direct_alignment.apo_down_loss": "beta=0.1",
    "direct_alignment.dpo_nll_loss": "beta=0.1, label_smoothing=0.0, alpha=1.0",
    "direct_alignment.length_dpo_loss": "beta=0.1, lam=0.01",
    "direct_alignment.pair_logps": "average=False",
    "direct_alignment.step": "loss_fn=dpo_loss, average=False, max_norm=1.0",
    "trpo.conjugate_gradients": "steps=10, tolerance=1e-10",
    "trpo.fisher_product": "damping=0.0",
    "trpo.natural_step": "delta=0.01, damping=0.001, cg_steps=10, shrink=0.5, tries=10",
    "trpo.completion_logits": "temperature=1.0",
    "trpo.step": "beta=0.0, temperature=1.0",
    "p3o.p3o_loss": "clip=0.2",
    "p3o.step": "beta=0.0, epochs=1, temperature=1.0, max_norm=1.0",
    "ilql.ilql_loss": "tau=0.7, gamma=1.0, alpha=0.1",
    "ilql.tilted_logits": "eta=1.0",
    "ilql.Heads.follow": "rate=0.005",
    "ilql.step": "rate=0.005, max_norm=1.0",
    "distillation.word_level_loss": "temperature=1.0",
    "distillation.multi_teacher_loss": "temperature=1.0",
    "distillation.check_logits": "temperature=1.0",
    "distillation.step": "temperature=1.0, max_norm=1.0",
    "filtering.top_per_prompt": "k=1",
    "filtering.random_per_prompt": "k=1",
}


def module_of(path):
    """The longest part of a path that is a module: evaluate.ratings of evaluate.ratings.online_elo."""
    names = path.split(".")
    return next(x for i in range(len(names) - 1, 0, -1) if is_module(x := ".".join(names[:i])))


def is_module(path):
    try:
        return importlib.util.find_spec(f"rlhf_minimal.{path}") is not None
    except ModuleNotFoundError:  # its parent is no package
        return False


MODULES = sorted({module_of(path) for path in DEFAULTS})


def numbers(fn):
    """{parameter: default} of a function, those that are numbers, switches or functions."""
    found = {name: p.default for name, p in inspect.signature(fn).parameters.items()}
    return {name: x for name, x in found.items() if isinstance(x, (bool, int, float)) or inspect.isfunction(x)}


def look_up(path):
    module = module_of(path)
    found = importlib.import_module(f"rlhf_minimal.{module}")
    for name in path.removeprefix(f"{module}.").split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("path", DEFAULTS)
def test_default(path):
    fn = look_up(path)
    assert numbers(fn) == eval(f"dict({DEFAULTS[path]})", vars(importlib.import_module(fn.__module__)).copy())


@pytest.mark.parametrize("module", MODULES)
def test_none_is_left_out(module):
    found = importlib.import_module(f"rlhf_minimal.{module}")
    for name, fn in inspect.getmembers(found, inspect.isfunction):
        if fn.__module__ == found.__name__ and not name.startswith("_") and numbers(fn):
            assert f"{module}.{name}" in DEFAULTS, f"{module}.{name}: write its defaults down in {__name__}"


def test_nothing_changes_a_policy_gradient_unless_it_is_asked_for():
    """No penalty, no temperature and no discount by default, in any algorithm (B4, C3)."""
    for path in DEFAULTS:
        given = numbers(look_up(path))
        assert given.get("temperature", 1.0) == 1 and given.get("label_smoothing", 0.0) == 0
        if path.endswith("step") or "grpo" in path:
            assert given.get("beta", 0.0) == 0 and given.get("gamma", 1.0) == 1
