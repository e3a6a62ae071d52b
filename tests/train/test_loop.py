"""The training loop in one process: every algorithm runs, reports and saves; the same seed gives the same bytes."""

import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rlhf_minimal import models, train
from rlhf_minimal.book import notebook, records
from rlhf_minimal.train.algorithms import ALGORITHMS, settings_of
from rlhf_minimal.train.checkpoint import read_log
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


@pytest.mark.parametrize("name", ALGORITHMS)
def test_runs_reports_and_saves(home, tmp_path, name):
    out = tmp_path / "run"
    record = go(home, name, out, sample_every=1)
    rows = read_log(out / "metrics.jsonl")
    assert [r["step"] for r in rows] == [1, 2] and all(math.isfinite(r["loss"]) for r in rows)
    assert all(r["tokens"] > 0 and r["grad_norm"] > 0 and r["seconds"] >= 0 for r in rows)
    assert record == json.loads((out / "run.json").read_text()) | {"out": str(out)}
    assert record["finished"] and record["curve"]["loss"] == [r["loss"] for r in rows]
    assert {r["step"] for r in read_log(out / "samples.jsonl")} == {1, 2, 3}  # before update 1, before update 2, after it
    kind = AutoModelForSequenceClassification if name == "reward" else AutoModelForCausalLM
    model, info = kind.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    before, _ = models.load(home / "model")
    assert not torch.equal(model.transformer.h[0].mlp.c_fc.weight, before.transformer.h[0].mlp.c_fc.weight)
    assert AutoTokenizer.from_pretrained(out).eos_token_id == before.config.eos_token_id


def settings(name, given):
    return SimpleNamespace(**{k: x.default for k, x in settings_of(name).items()} | given)


def test_same_seed_same_bytes_other_seed_other_bytes(home, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        go(home, "rloo", tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / x / "model.safetensors").read_bytes() for x in "abc")
    assert a == b != c


def test_a_run_can_be_recorded_and_drawn(home, tmp_path, monkeypatch):
    go(home, "rloo", tmp_path / "run", model="village-3m-sft", data="village", batch_size=2, rows=10, reward="gold")
    (tmp_path / "runs").mkdir()
    (tmp_path / "run/run.json").rename(tmp_path / "runs/mine.json")
    monkeypatch.setattr(records, "SHIPPED", tmp_path)
    run = notebook.recorded("mine")
    assert run.curve["step"] == [1, 2] and len(run.curve["gold"]) == 2 and run.seed == 0
    assert run.command.startswith("python -m rlhf_minimal.train rloo --model village-3m-sft --data village --steps 2")
    assert str(tmp_path) not in json.dumps(vars(run))


def test_tensorboard_gets_every_number_and_goes_on_where_the_run_does(home, tmp_path, monkeypatch):
    written, opened = [], []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            opened.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            written.append((step, name, value))

        def close(self):
            opened.append("closed")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter))
    out = tmp_path / "run"
    go(home, "sft", out, tensorboard=True)
    go(home, "sft", out, steps=3, tensorboard=True, resume=True)
    assert opened == [(str(out / "tensorboard"), 1), "closed", (str(out / "tensorboard"), 3), "closed"]
    rows = read_log(out / "metrics.jsonl")
    assert len(rows) == 3 and written == [(r["step"], k, v) for r in rows for k, v in r.items() if k != "step" and v is not None]
