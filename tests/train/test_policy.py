"""Precision and adapters of the trained policy."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_minimal import models, train
from rlhf_minimal.train.settings import ALGORITHMS, settings_of
from tests.fixtures import train_small

RL = train_small.RL
KIND = {name: a.data for name, a in ALGORITHMS.items()}


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
