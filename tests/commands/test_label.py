"""Labelling in the terminal: one key per label, resumed, and errors in one line."""

import json
import os
import subprocess
import sys

import pytest

from rlhf_minimal.__main__ import main as program
from rlhf_minimal.commands import label
from rlhf_minimal.data.labels import Labels

PAIRS = [{"prompt": f"Question {i}?", "response_a": f"Left {i}.", "response_b": f"Right {i}."} for i in range(4)]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    return path


def run(data, keys, *more):
    command = [sys.executable, "-m", "rlhf_minimal", "label", "--data", str(data), "--out", str(data.parent / "mine.jsonl"), *more]
    return subprocess.run(command, input=keys, capture_output=True, text=True)


def test_a_pipe_labels_and_a_second_run_goes_on(data):
    first = run(data, "1x\nt", "--rater", "Ada")
    assert first.returncode == 0 and "'x' means nothing here" in first.stdout and "2 of 4" in first.stdout
    second = run(data, "2u2sq")
    assert second.returncode == 0 and "Question 2?" in second.stdout and "Question 0?" not in second.stdout
    log = [json.loads(line) for line in (data.parent / "mine.log.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in log] == ["first", "tie", "second", "undo", "second", "skip"] and log[0]["rater"] == "Ada"
    rows = [json.loads(line) for line in (data.parent / "mine.jsonl").read_text().splitlines()]
    assert [(row["chosen"], row["rejected"]) for row in rows] == [(log[0]["first"], log[0]["second"]),
                                                                 (log[4]["second"], log[4]["first"])]


@pytest.mark.skipif(os.name == "nt", reason="a pseudo-terminal is asked for")
def test_a_terminal_takes_one_key_without_enter(data):
    import pty
    keyboard, terminal = pty.openpty()
    out = data.parent / "mine.jsonl"
    command = [sys.executable, "-m", "rlhf_minimal", "label", "--data", str(data), "--out", str(out)]
    running = subprocess.Popen(command, stdin=terminal, stdout=subprocess.PIPE, text=True)
    os.write(keyboard, b"12tuq")
    shown, _ = running.communicate(timeout=60)
    assert running.returncode == 0 and "2 of 4" in shown and len(out.read_text().splitlines()) == 2


def test_seconds_are_those_between_pair_and_key(tmp_path):
    labels, times = Labels(PAIRS, tmp_path / "m.jsonl"), iter([10.0, 12.5, 20.0, 20.25, 30.0])
    keys = iter("12q")
    label.session(labels, key=lambda: next(keys), clock=lambda: next(times))
    assert [row["seconds"] for row in labels.given] == [2.5, 0.25]


def test_after_the_last_pair_one_can_still_take_back(tmp_path, capsys):
    labels, keys = Labels(PAIRS, tmp_path / "m.jsonl"), iter("1212u1x")
    label.session(labels, key=lambda: next(keys))
    assert len(labels.given) == 4 and labels.given[-1]["answer"] == "first"
    assert "All pairs have a label" in capsys.readouterr().out


def test_ctrl_c_leaves_what_was_given(tmp_path):
    labels, keys = Labels(PAIRS, tmp_path / "m.jsonl"), iter("1")

    def key():
        try:
            return next(keys)
        except StopIteration:
            raise KeyboardInterrupt from None

    label.session(labels, key=key)
    assert len(Labels(PAIRS, tmp_path / "m.jsonl").given) == 1


def test_an_answer_cannot_paint_the_terminal(tmp_path):
    labels = Labels([{"prompt": "Who?", "answers": ["\x1b[2Jgone", "fine"]}], tmp_path / "m.jsonl")
    shown = label.page(labels.shown(), "")
    assert "\x1b" not in shown and "gone" in shown
    labels.give("first", 1)
    assert "\\u001b[2Jgone" in labels.out.read_text()  # the label keeps the text as it was


@pytest.mark.parametrize("write, message", [
    (lambda p: p.unlink(), "there is no file"),
    (lambda p: p.write_text(""), "no rows"),
    (lambda p: p.write_text('{"prompt": "a"}\n'), "pairs need"),
    (lambda p: p.write_text("not json\n"), "no JSON"),
])
def test_bad_input_ends_with_one_line(data, capsys, write, message):
    write(data)
    with pytest.raises(SystemExit) as ended:
        program(["label", "--data", str(data), "--out", str(data.parent / "mine.jsonl")])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and message in said and said.count("\n") == 1
