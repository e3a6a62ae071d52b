"""Precision and adapters of the trained policy."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_minimal import models, train
from rlhf_minimal.train import policy
from rlhf_minimal.train.algorithms import ALGORITHMS, settings_of
from rlhf_minimal.train.job import build
from rlhf_minimal.train.loop import start_accelerator
from rlhf_minimal.train.settings import check_settings
from tests.fixtures import train_small

RL = train_small.RL
KIND = {name: a.rows for name, a in ALGORITHMS.items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return train_small.make(tmp_path_factory.mktemp("small"))


def go(home, name, out, steps=2, **settings):
    settings = ({"reward": str(home / "judge")} | RL | settings) if KIND[name] == "prompts" else settings
    given = dict(model=str(home / "model"), data=str(home / f"{KIND[name]}.jsonl"), steps=steps, out=str(out))
    return train.run(name, **given | train_small.QUIET | settings)


def settings(name, given):
    return SimpleNamespace(**{k: x.default for k, x in settings_of(name).items()} | given)


@pytest.mark.parametrize("name", ["sft", "dpo", "ppo", "reward"])
def test_lora_in_bfloat16_is_saved_merged(home, tmp_path, name):
    go(home, name, tmp_path / "run", lora=2, dtype="bfloat16", lr=1e-2, steps=3)
    load = AutoModelForSequenceClassification if name == "reward" else AutoModelForCausalLM
    model, info = load.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    before, _ = models.load(home / "model")
    delta = model.transformer.h[0].attn.c_attn.weight - before.transformer.h[0].attn.c_attn.weight.bfloat16().float()
    sizes = torch.linalg.svdvals(delta.detach().double())
    assert sizes[0] > 1e-3 and sizes[2] < 1e-5  # rank 2
    rest = model.transformer.h[0].mlp.c_fc.weight - before.transformer.h[0].mlp.c_fc.weight
    assert rest.abs().max() <= before.transformer.h[0].mlp.c_fc.weight.abs().max() / 128  # frozen, but for its rounding


def test_bfloat16_keeps_float32_weights(home, tmp_path):
    """H4: a step of 1e-5 on weights of 0.3 is below bfloat16's spacing of 1e-3, and is in the result all the same."""
    go(home, "sft", tmp_path / "run", dtype="bfloat16", lr=1e-5, steps=1)
    change = models.load(tmp_path / "run")[0].transformer.wpe.weight - models.load(home / "model")[0].transformer.wpe.weight
    assert 5e-6 < change.abs().max() < 2e-5


@pytest.mark.parametrize("name, more", [(name, {}) for name in ALGORITHMS if KIND[name] == "prompts"]
                         + [("grpo", {"mode": mode}) for mode in ("token_mean", "sequence_sum", "fixed")])
def test_the_parts_of_a_step_add_up_to_the_loss_of_the_batch(home, name, more):
    """Two parts over the terms of the whole batch; the control: over their own terms they end elsewhere."""
    given = RL | {"reward": str(home / "judge"), "dtype": "float64", "cpu": True} | more
    given |= {"group_size": 1} if name in ("ppo", "reinforce") else {}
    s = check_settings(name, settings_of(name), given)
    job = build(name, start_accelerator(s), model=str(home / "model"), data=str(home / "prompts.jsonl"), settings=s, seed=0)
    samples = policy.draw(job, 0)
    columns, _, _ = policy.credit(job, samples)
    n = len(samples.rollout)
    whole, *parts = (policy.select(samples.rollout, columns, torch.arange(a, b)) for a, b in ((0, n), (0, n // 2), (n // 2, n)))
    if job.critic is not None:
        torch.nn.init.normal_(models.unwrap(job.critic).head.weight)

    def loss(part, total):
        return policy.policy_loss(job, part, total)[0].item()

    expected, total = loss(whole, policy.terms(job, whole)), policy.terms(job, whole)
    assert sum(loss(part, total) for part in parts) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    terms = [float(policy.terms(job, part)) for part in parts]
    assert sum(terms) == float(total)
    own = sum(loss(part, x) for part, x in zip(parts, terms, strict=True))
    assert own == pytest.approx(expected * 2) if terms[0] == terms[1] else abs(own / 2 - expected) > 1e-9
