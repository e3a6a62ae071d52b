"""Two processes give the weights that one gives, with uneven token counts, for every way of learning (J1, J2, E14)."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rlhf_minimal.train import checkpoint
from rlhf_minimal.train import steps as train_steps
from tests.fixtures import train_small

SCRIPT = Path(train_small.__file__)


def launch(home, out, world, what="processes"):
    """`world` processes that talk through gloo, as torchrun would start them; `what`: a function of train_small."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    root = str(SCRIPT.parents[2])
    env = os.environ | {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": root,
                        "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": str(world)}
    command = [sys.executable, str(SCRIPT), what, str(home), str(out)]
    started = [subprocess.Popen(command, env=env | {"RANK": str(i), "LOCAL_RANK": str(i)}, stderr=subprocess.PIPE, text=True)
               for i in range(world)]
    for process in started:
        try:
            _, err = process.communicate(timeout=400)
        except subprocess.TimeoutExpired:
            for other in started:
                other.kill()
            raise
        assert process.returncode == (-9 if what == "dying" else 0), err[-2000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of the same runs on two processes (apart) and on one (here)."""
    home = train_small.make(tmp_path_factory.mktemp("small"))
    launch(home, home / "two", 2)
    train_small.processes(home, home / "one")
    return home


def weights(folder):
    return load_file(folder / "model.safetensors")


def distance(a, b):
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    return max((a[k].double() - b[k].double()).abs().max().item() for k in a)


@pytest.mark.parametrize("name", train_small.CASES)
def test_J1_two_processes_equal_one(runs, name):
    one, two = runs / "one" / name, runs / "two" / name
    assert distance(one, two) < 1e-6
    start = weights(runs / "model")
    moved = max((x - start[k]).abs().max().item() for k, x in weights(two).items() if k in start)
    assert moved > 2e-3  # three steps of at most 3e-3 are in it
    a, b = (checkpoint.read_log(p / "metrics.jsonl") for p in (one, two))
    assert len(a) == len(b) == 3
    for x, y in zip(a, b, strict=True):
        assert {k: pytest.approx(v, abs=2e-5, rel=1e-4) for k, v in x.items() if k != "seconds"} == {
            k: v for k, v in y.items() if k != "seconds"}


def test_two_processes_equal_one_bit_for_bit_where_each_has_one_micro_batch(runs):
    """The defaults, in float32: half a batch each."""
    assert (runs / "one/plain/model.safetensors").read_bytes() == (runs / "two/plain/model.safetensors").read_bytes()


def test_E14_the_mean_of_means_is_something_else(runs, monkeypatch):
    """The negative control: each micro-batch divided by its own tokens, as DDP does by itself, ends elsewhere."""
    def wrong(job, batch, total):
        loss, stats = right(job, batch, train_steps.terms(job, batch))
        return loss / 4, stats
    right = train_steps.demonstration_loss
    monkeypatch.setattr(train_steps, "demonstration_loss", wrong)
    train_small.call(runs, "sft", runs / "wrong", dtype="float64", lr=3e-3, **train_small.CASES["sft"])
    assert distance(runs / "wrong", runs / "one/sft") > 1e-4


def test_accelerate_launch_runs_the_command(runs):
    """One process, as `accelerate launch` starts it: the same file as from here."""
    words = ["sft", "--model", str(runs / "model"), "--data", str(runs / "demonstrations.jsonl"), "--steps", "3", "--no-progress"]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1",
               "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "rlhf_minimal.train", *words]
    env = os.environ | {"PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--out", str(runs / "launched")], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (runs / "one/plain/model.safetensors").read_bytes() == (runs / "launched/model.safetensors").read_bytes()


def test_two_processes_that_are_killed_go_on_to_the_same_weights(runs):
    """H9 with J1: both die after a checkpoint, two new ones resume, and end where two that lived do."""
    launch(runs, runs / "mortal", 2, "dying")
    assert checkpoint.latest(runs / "mortal/sft").name == "step-00000002" and not (runs / "mortal/sft/model.safetensors").exists()
    launch(runs, runs / "mortal", 2, "resumed")
    assert distance(runs / "mortal/sft", runs / "two/sft") == 0.0
    assert [r["step"] for r in checkpoint.read_log(runs / "mortal/sft/metrics.jsonl")] == [1, 2, 3]


def test_the_samples_were_uneven(runs):
    """Without that the tests above would show little."""
    for name in ("grpo", "ppo"):
        rows = checkpoint.read_log(runs / "two" / name / "metrics.jsonl")
        assert all(0 < r["ended"] < 1 and 1 < r["length"] < 10 and r["grad_norm"] > 0.01 for r in rows), name
    assert len({r["beta"] for r in rows}) == 3 and rows[-1]["kl"] != 0
