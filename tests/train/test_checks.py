"""What is checked before the first step: contents on resume, rows, lengths, launchers; and what rows ask for is done."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlhf_minimal import files, models, train
from rlhf_minimal.reward_model import RewardModel
from rlhf_minimal.train import loop
from tests.fixtures import train_small

Q, A, B = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b b"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return train_small.make(tmp_path_factory.mktemp("small"))


def write(path, *rows):
    path.write_text("\n".join(json.dumps(r) for r in rows))
    return str(path)


def go(home, name, out, data, steps=1, **settings):
    given = dict(model=str(home / "model"), steps=steps, out=str(out)) | train_small.QUIET | settings
    return train.run(name, data=str(data), **given)


def first(out, column="loss"):
    return files.read_log(Path(out) / "metrics.jsonl")[0][column]


# ---- rows: margins, weights, turns ----


def test_a_margin_of_five_costs_five(home, tmp_path):
    """The head starts at 0, so that the first loss is -log sigmoid(-margin)."""
    pair = {"prompt": "q", "chosen": "a", "rejected": "b"}
    for name, margin, loss in (("with", 5, 5.0067), ("without", None, math.log(2))):
        data = write(tmp_path / f"{name}.jsonl", *[pair if margin is None else pair | {"margin": margin}] * 8)
        go(home, "reward", tmp_path / name, data)
        assert first(tmp_path / name) == pytest.approx(loss, abs=1e-4)
    with pytest.warns(UserWarning, match="the column margin of 8 rows is not used"):
        go(home, "dpo", tmp_path / "dpo", tmp_path / "with.jsonl")


def test_all_turns_learn_but_those_of_weight_0(home, tmp_path):
    talk, quiet = [Q, A, Q, B], [Q, A | {"weight": 0}, Q, B]
    counts = {}
    for name, row, how in (
        ("all", {"messages": talk}, {}),
        ("last", {"messages": talk}, {"turns": "last"}),
        ("weight", {"messages": quiet}, {}),
        ("prompt", {"prompt": talk[:3], "completion": [B]}, {}),
    ):
        go(home, "sft", tmp_path / name, write(tmp_path / f"{name}.jsonl", *[row] * 8), **how)
        counts[name] = first(tmp_path / name, "tokens")
    assert counts["last"] == counts["weight"] == counts["prompt"] < counts["all"]


def test_what_is_cut_is_said_before_the_first_step(home, tmp_path, capsys):
    data = write(tmp_path / "long.jsonl", *[{"prompt": "q", "completion": "word " * 300}] * 20)
    with pytest.warns(UserWarning, match="20 of 20 rows cut to 64, 20 without their end, which do not teach to stop"):
        record = go(home, "sft", tmp_path / "run", data, max_len=64)
    said = capsys.readouterr().err
    assert "1 process on cpu" in said and "20 of 20 rows cut to 64, 20 without their end" in said
    assert record["lengths"] == "20 of 20 rows cut to 64, 20 without their end"
    with pytest.raises(ValueError, match="no row is left; raise max_len"):
        go(home, "sft", tmp_path / "none", data, max_len=64, long="leave_out")
    assert not (tmp_path / "none").exists()


BAD = {
    "system": (
        "sft",
        {"prompt": [{"role": "system", "content": "s"}, Q], "completion": "a"},
        "row 9: the chat template refuses turns",
    ),
    "answered": ("rloo", {"prompt": [Q, A]}, "row 9: column prompt ends in a turn of the assistant"),
    "equal": (
        "dpo",
        {"prompt": "q", "chosen": "a" * 400 + "b", "rejected": "a" * 400 + "c"},
        "row 9: columns chosen and rejected are equal",
    ),
    "label": ("kto", {"prompt": "q", "completion": "a", "label": "maybe"}, "row 9: label is 'maybe'"),
    "half": ("sft", {"prompt": "q", "completion": "\ud800"}, "row 9, column completion"),
    "lacks": ("sft", {"prompt": "q"}, "row 9: there is no column 'completion'"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_row_is_found_before_anything_is_written(home, tmp_path, name):
    algorithm, row, message = BAD[name]
    good = {"prompt": "q", "completion": "a", "chosen": "a", "rejected": "b", "label": True}
    good = {k: good[k] for k in (row if name != "lacks" else good)}
    data = write(tmp_path / "x.jsonl", *[good] * 8, row, *[good] * 8)
    more = {"reward": str(home / "judge"), "max_new_tokens": 8, "batch_size": 2} if algorithm == "rloo" else {}
    with pytest.raises(ValueError, match=message):
        go(home, algorithm, tmp_path / "run", data, max_len=48, **more)
    assert not (tmp_path / "run").exists()


def test_columns_and_split(home, tmp_path):
    rows = [{"q": "How?", "a": "So.", "split": s} for s in ("train", "test")] * 8
    with pytest.warns(UserWarning, match="'split train': 8"):
        go(home, "sft", tmp_path / "run", write(tmp_path / "x.jsonl", *rows), columns="prompt=q,completion=a", split="test")
    with pytest.raises(ValueError, match="columns is 'prompt'"):
        go(home, "sft", tmp_path / "no", tmp_path / "x.jsonl", columns="prompt")


# ---- resume: contents, not names ----


def start(home, tmp_path, name="dpo"):
    """A run of one step, and what to go on with: copies of data, model and judge, which a test may change."""
    for part in ("model", "judge"):
        shutil.copytree(home / part, tmp_path / part)
    data = shutil.copy(home / ("prompts.jsonl" if name == "rloo" else "pairs.jsonl"), tmp_path / "x.jsonl")
    more = dict(model=str(tmp_path / "model"))
    more |= train_small.RL | {"reward": str(tmp_path / "judge")} if name == "rloo" else {}
    go(home, name, tmp_path / "run", data, **more)
    return lambda: go(home, name, tmp_path / "run", data, steps=2, resume=True, **more)


def test_the_same_contents_go_on(home, tmp_path):
    assert start(home, tmp_path)()["finished"]
    assert set(json.loads((tmp_path / "run/run.json").read_text())["fingerprints"]) == {"data", "policy", "tokenizer"}


def test_other_data_are_refused_by_name(home, tmp_path):
    again = start(home, tmp_path)
    text = (tmp_path / "x.jsonl").read_text()
    (tmp_path / "x.jsonl").write_text("\n".join(text.rstrip("\n").split("\n")[::-1]))
    with pytest.raises(ValueError, match=r"began with other contents: the rows \(--data\): \w+, now \w+. Put them back"):
        again()
    (tmp_path / "x.jsonl").write_text(text)
    assert again()["finished"]


def test_other_weights_are_refused_by_name(home, tmp_path):
    again = start(home, tmp_path)
    model, _ = models.load(tmp_path / "model")
    with torch.no_grad():
        model.transformer.wte.weight[3] += 0.01
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="the weights of policy and reference") as error:
        again()
    assert "the rows" not in str(error.value)


def test_another_judge_is_refused_by_name(home, tmp_path):
    again = start(home, tmp_path, "rloo")
    torch.manual_seed(5)
    RewardModel(models.load(home / "model")[0], torch.randn(16)).save_pretrained(tmp_path / "judge")
    with pytest.raises(ValueError, match=r"the weights of the judge \(--reward\)"):
        again()


def test_another_template_is_refused_by_name(home, tmp_path):
    again = start(home, tmp_path)
    template = tmp_path / "model/chat_template.jinja"
    template.write_text(template.read_text().replace("add_generation_prompt %}", "add_generation_prompt %}{{ '' }}"))
    with pytest.raises(ValueError, match=r"the tokenizer \(--model\)"):
        again()


def test_a_folder_without_a_step_is_free(home, tmp_path, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "loop", dies)
        with pytest.raises(KeyboardInterrupt):
            go(home, "sft", tmp_path / "run", home / "demonstrations.jsonl")
    assert (tmp_path / "run/run.json").exists()
    assert go(home, "sft", tmp_path / "run", home / "demonstrations.jsonl", lr=1e-3)["finished"]
    with pytest.raises(ValueError, match="holds another run"):
        go(home, "sft", tmp_path / "run", home / "demonstrations.jsonl", lr=1e-3)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/run.json").write_text("{")
    with pytest.raises(ValueError, match="run.json is no JSON"):
        go(home, "sft", tmp_path / "bad", home / "demonstrations.jsonl")


# ---- launchers ----


@pytest.mark.parametrize("name", loop.WORLDS)
def test_fewer_processes_than_asked_are_refused(monkeypatch, name):
    monkeypatch.setenv(name, "2")
    with pytest.raises(ValueError, match=f"{name} is 2, but this run has 1 process; .*torchrun"):
        loop.check_processes(1)
    loop.check_processes(2)


def test_accelerate_launch_with_a_lost_process_is_refused(home, tmp_path):
    words = ["sft", "--model", str(home / "model"), "--data", str(home / "demonstrations.jsonl"), "--steps", "1", "--no-progress"]
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "-m",
        "rlhf_minimal.train",
        *words,
    ]
    env = os.environ | {"PYTHONPATH": str(Path(train.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--out", str(tmp_path / "run")], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode and "--num_processes is more than 1, but this run has 1 process" in done.stderr, done.stderr[-1500:]
    assert not (tmp_path / "run").exists()
