"""A run that is killed, at any moment, goes on to the same weights, bit for bit; half a checkpoint is none (H9)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_minimal.train import checkpoint
from tests.fixtures import train_small

SCRIPT = Path(train_small.__file__)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return train_small.make(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def deaths(home):
    env = os.environ | {"PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(SCRIPT), "killed", str(home), str(home / "runs")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((home / "runs/deaths.json").read_text())


def same_log(a, b):
    a, b = ([{k: v for k, v in row.items() if k != "seconds"} for row in checkpoint.read_log(p)] for p in (a, b))
    return a == b and len(a) > 0


@pytest.mark.parametrize("name", train_small.KILLED)
@pytest.mark.parametrize("how", ["killed", "inside"])
def test_H9_killed_and_resumed_equals_uninterrupted(home, deaths, name, how):
    assert -9 in deaths[name][:3] and deaths[name][3:] == [-9, -9, -9]
    whole, other = home / "runs" / name / "whole", home / "runs" / name / how
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (whole / file).read_bytes() == (other / file).read_bytes(), file
    assert same_log(whole / "metrics.jsonl", other / "metrics.jsonl")
    assert same_log(whole / "samples.jsonl", other / "samples.jsonl")
    steps = [row["step"] for row in checkpoint.read_log(other / "metrics.jsonl")]
    assert steps == list(range(1, train_small.STEPS + 1))  # nothing twice, nothing missing
    assert json.loads((other / "run.json").read_text())["finished"]
    assert [p.name for p in (other / "checkpoints").iterdir()] == [f"step-{train_small.STEPS:08d}"]


@pytest.fixture(scope="module")
def short(home):
    """A whole run of four steps, checkpoints after two and four: both kept, for the tests to break one."""
    out = home / "short"
    train_small.call(home, "sft", out, steps=2, save_every=2)
    first = home / "first"
    shutil.copytree(out / "checkpoints", first)
    train_small.call(home, "sft", out, steps=4, save_every=2, resume=True)
    shutil.copytree(first / "step-00000002", out / "checkpoints/step-00000002")
    return out


def spoil_nothing(folder):
    pass


def spoil_mark(folder):
    (folder / "whole.json").unlink()


def spoil_mark_text(folder):
    (folder / "whole.json").write_text('{"step": 4, "fi')


def spoil_weights(folder):
    os.truncate(folder / "model.safetensors", 100)


def spoil_optimizer(folder):
    (folder / "optimizer.bin").unlink()


@pytest.mark.parametrize("spoil", [spoil_nothing, spoil_mark, spoil_mark_text, spoil_weights, spoil_optimizer])
def test_half_a_checkpoint_is_none(short, tmp_path, spoil):
    out = tmp_path / "run"
    shutil.copytree(short, out)
    spoil(out / "checkpoints/step-00000004")
    assert checkpoint.latest(out).name == ("step-00000004" if spoil is spoil_nothing else "step-00000002")


def test_going_on_from_the_checkpoint_before_gives_the_same(home, short, tmp_path):
    whole = home / "whole4"
    train_small.call(home, "sft", whole, steps=4, save_every=2)
    assert (whole / "model.safetensors").read_bytes() == (short / "model.safetensors").read_bytes()  # two more, by resuming
    out = tmp_path / "run"
    shutil.copytree(short, out)
    spoil_weights(out / "checkpoints/step-00000004")
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(record | {"finished": False}))
    (out / "model.safetensors").unlink()
    with open(out / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "lo')  # a line that was being written
    train_small.call(home, "sft", out, steps=4, save_every=2, resume=True)
    assert (whole / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    assert [r["step"] for r in checkpoint.read_log(out / "metrics.jsonl")] == [1, 2, 3, 4]


def test_a_finished_run_is_not_run_again(home, short):
    before = {p: p.stat().st_mtime_ns for p in short.rglob("*")}
    record = train_small.call(home, "sft", short, steps=4, save_every=2, resume=True)
    assert record["finished"] and record["curve"]["step"] == [1, 2, 3, 4]
    assert before == {p: p.stat().st_mtime_ns for p in short.rglob("*")}


def test_other_settings_are_refused(home, short):
    for change, word in ((dict(lr=1e-5), "lr"), (dict(seed=1), "seed"), (dict(steps=3), "steps")):
        with pytest.raises(ValueError, match=f"other settings: {word}"):
            train_small.call(home, "sft", short, **dict(steps=4, save_every=2, resume=True) | change)
