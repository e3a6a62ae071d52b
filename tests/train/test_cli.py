"""The command line of the trainer: its help teaches, and wrong use ends with one message."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlhf_minimal import models, train
from rlhf_minimal.train.algorithms import ALGORITHMS, settings_of
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


def test_help_of_an_algorithm_names_its_settings_and_no_others(capsys):
    for name in ("sft", "ppo", "dpo"):
        with pytest.raises(SystemExit) as end:
            train.main([name, "--help"])
        flags = set(re.findall(r"--([a-z][a-z-]*)", capsys.readouterr().out.split("options:")[1]))
        own = {key.replace("_", "-") for key in settings_of(name)}
        assert end.value.code == 0 and own <= flags
        others = {key.replace("_", "-") for a in ALGORITHMS for key in settings_of(a)} - own
        assert not {f for f in flags if f in others}, name


def test_help_of_an_algorithm_teaches_its_loss_and_where_to_read(capsys):
    for name, a in ALGORITHMS.items():
        file = a.loss.split(".")[0]
        source = (Path(models.__file__).parent / f"{file}.py").read_text(encoding="utf-8")
        assert a.paper in source or file in ("sft", "reward_model", "reinforce")
        with pytest.raises(SystemExit):
            train.main([name, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert f"Minimises {a.minimises}" in text and f"Chapter: {a.chapter}" in text and f"train {name} --steps" in text
        assert ("h = (log pi(chosen)" in text) == bool(re.search(r"\bh\b", a.minimises)), name


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in ALGORITHMS) and "torchrun" in text and "resume --out" in text


def test_command_line_runs_what_run_runs(home, tmp_path):
    words = ["sft", "--model", str(home / "model"), "--data", str(home / "demonstrations.jsonl"), "--steps", "2"]
    train.main([*words, "--out", str(tmp_path / "a"), "--batch-size", "4", "--no-progress", "--cpu"])
    go(home, "sft", tmp_path / "b", batch_size=4)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_a_wrong_command_line_ends_with_status_2_and_one_message(capsys, tmp_path):
    calls = [(["dop"], "invalid choice: 'dop'"), (["sft", "--steps", "0", "--out", str(tmp_path / "x")], "steps is 0"),
             (["sft", "--out", "x"], "required: --steps"), (["sft", "--steps", "1", "--out", "x", "--clip", "1"], "--clip")]
    for words, message in calls:
        with pytest.raises(SystemExit) as end:
            train.main(words)
        assert end.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
