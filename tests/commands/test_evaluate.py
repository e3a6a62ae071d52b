"""The commands evaluate and compare on small runs: what they print, what they write, what they refuse."""

import json
import re
import sys

import pytest

from rlhf_minimal import __main__ as top
from rlhf_minimal import train
from rlhf_minimal.commands import compare, evaluate
from tests.fixtures import train_small


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = train_small.make(tmp_path_factory.mktemp("small"))
    for name, beta in (("a", 0.1), ("b", 0.0)):
        train.run("rloo", model=str(home / "model"), data=str(home / "prompts.jsonl"), steps=5, out=str(home / name), beta=beta,
                  reward=str(home / "judge"), **train_small.QUIET, **train_small.RL)
    return home


def test_evaluate_writes_a_table_a_file_and_a_page(home, capsys):
    evaluate.main([str(home / "a"), "--data", str(home / "prompts.jsonl"), "--n", "2", "--rows", "6"])
    said = capsys.readouterr().out
    assert said.split()[:3] == ["start", "end", "difference"] and "win rate" in said and "6 rows" in said
    found = json.loads((home / "a/evaluation/evaluation.json").read_text())
    assert found["values"]["score"]["end"][1] < found["values"]["score"]["end"][0] < found["values"]["score"]["end"][2]
    page = (home / "a/evaluation/evaluation.html").read_text()
    assert "What training changed" in page and "<svg" in page and page.count("<td>") == 12  # six prompts, two answers
    assert not re.search(r"(src|href)=.https?:", page)  # it asks no other host for anything


def test_a_page_shows_markup_of_an_answer_as_text():
    found = {"run": "<b>", "against": "x", "kind": "prompts", "rows": 1, "data": "d", "values": {"score": {"end": [1.0, 0.5, 1.5]}},
             "samples": [{"prompt": "<i>", "start": ["<script>", 1.0], "end": ["", 0.0]}]}
    page = evaluate.page(found)
    assert "<script>" not in page and "&lt;script&gt;" in page and "(nothing)" in page and "<i>" not in page


def test_compare_names_what_differs_and_draws_the_curves(home, tmp_path, capsys):
    runs = [str(home / "a"), str(home / "b")]
    compare.main([*runs, "--data", str(home / "prompts.jsonl"), "--n", "2", "--rows", "4", "--out", str(tmp_path / "c")])
    said = capsys.readouterr().out
    assert re.search(r"^beta +0.1 +0.0$", said, re.MULTILINE) and "win rate" in said
    found = json.loads((tmp_path / "c/compare.json").read_text())
    assert found["differ"] == {"beta": [0.1, 0.0]} and set(found["last"]["score"]) == set(runs)
    page = (tmp_path / "c/compare.html").read_text()
    assert page.count("data:image/png;base64") == len(found["last"]) and (tmp_path / "c/evaluation.html").exists()
    compare.main([*runs, "--out", str(tmp_path / "d")])
    assert not (tmp_path / "d/evaluation.html").exists()


@pytest.mark.parametrize("module, args, message", [
    (evaluate, ["RUNS/no"], "holds no run.json"), (evaluate, ["RUNS/a", "--data", "no.jsonl"], "no file"),
    (evaluate, ["RUNS/a", "--data", "RUNS/prompts.jsonl", "--rows", "0"], "rows is 0"),
    (evaluate, ["RUNS/a", "--data", "RUNS/prompts.jsonl", "--temperature", "-1"], "temperature is -1"),
    (compare, ["RUNS/a"], "at least two"), (compare, ["RUNS/a", "RUNS/a"], "at least two different"),
    (compare, ["RUNS/a", "RUNS/b", "RUNS/c", "--data", "x"], "compares two runs, 3 were given"),
    (compare, ["RUNS/a", "RUNS/model"], "holds no run.json")])
def test_bad_input_ends_in_one_line(home, tmp_path, capsys, module, args, message):
    with pytest.raises(SystemExit) as stop:
        module.main([a.replace("RUNS", str(home)) for a in args] + ["--out", str(tmp_path / "out")])
    said = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and re.search(message, said) and "\n" not in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", top.COMMANDS)
def test_every_command_of_the_list_teaches_in_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        top.main([name, "--help"])
    assert not stop.value.code and len(capsys.readouterr().out) > 200


def test_without_a_command_there_is_a_list(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rlhf_minimal"])
    top.main()
    said = capsys.readouterr().out
    assert all(name in said for name in ("train", "evaluate", "compare", "chat", "label", "extract", "doctor"))
    with pytest.raises(SystemExit):
        top.main(["trian"])
    assert "no command 'trian'" in capsys.readouterr().err
