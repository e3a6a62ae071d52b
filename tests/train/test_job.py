"""A job: its rows, its learning rate, its KL coefficient."""

from types import SimpleNamespace

import pytest

from rlhf_minimal import train
from rlhf_minimal.train.algorithms import ALGORITHMS, settings_of
from rlhf_minimal.train.checkpoint import read_log
from rlhf_minimal.train.job import Job
from rlhf_minimal.train.loop import learning_rate
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


def test_data_goes_round_without_leaving_rows_out(home):
    job = Job(ALGORITHMS["sft"], settings("sft", {"batch_size": 5}), None, None, None, list(range(7)), 0, "")
    seen = [x for step in range(7) for x in job.batch(step)]
    assert all(sorted(seen[i:i + 7]) == list(range(7)) for i in range(0, 35, 7))
    assert seen[:7] != seen[7:14]


def test_learning_rates(home):
    s = settings("sft", {"lr": 1.0, "warmup": 2, "schedule": "linear"})
    assert [learning_rate(s, i, 6) for i in range(6)] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    s.schedule = "cosine"
    assert [round(learning_rate(s, i, 6), 4) for i in range(2, 6)] == [1.0, 0.8536, 0.5, 0.1464]
    s.schedule, s.warmup = "constant", 0
    assert learning_rate(s, 0, 6) == learning_rate(s, 5, 6) == 1.0


def test_adaptive_kl_moves_beta(home, tmp_path):
    go(home, "rloo", tmp_path / "run", steps=3, kl_target=100.0, kl_horizon=10, lr=1e-2)
    betas = [r["beta"] for r in read_log(tmp_path / "run/metrics.jsonl")]  # KL far below the target: 0.8 times (1 - .2 * 8/10)
    assert betas == pytest.approx([0.05, 0.05 * 0.84, 0.05 * 0.84**2])
