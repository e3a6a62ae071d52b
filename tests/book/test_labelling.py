"""The labelling interface of a notebook, without a browser: buttons, keys, and what is shown (tests/browser has the clicks)."""

import html
import json

import pytest

from rlhf_minimal.book import labelling
from rlhf_minimal.data.labels import KEYS, Labels

PAIRS = [{"prompt": f"Question {i}?", "answers": [f"Left {i} <b>.", f"Right {i}."]} for i in range(30)]


@pytest.fixture
def interface(tmp_path):
    times = iter(range(1000))
    return labelling.Interface(Labels(PAIRS, tmp_path / "mine.jsonl"), clock=lambda: float(next(times)))


def answers(interface):
    return [row["answer"] for row in interface.labels.given]


def test_buttons_label_and_take_back(interface):
    for name in ("first", "second", "tie", "skip", "undo", "first"):
        interface.buttons[name].click()
    assert answers(interface) == ["first", "second", "tie", "first"]
    assert "data-pair='4' data-turn='7'" in interface.view.value and "4 of 30" in interface.view.value
    assert all(row["seconds"] == 1.0 for row in interface.labels.given[:3])


def test_the_field_for_keys_names_every_button(interface):
    field = html.unescape(interface.keys.value)
    assert json.dumps(KEYS) in field and set(KEYS.values()) == set(interface.buttons)
    assert all(f"rlhf-{name}" in button._dom_classes for name, button in interface.buttons.items())


def test_undo_with_nothing_to_undo_says_so(interface):
    interface.buttons["undo"].click()
    assert "nothing to undo" in interface.message.value and answers(interface) == []


def test_what_cannot_be_saved_is_said_and_not_counted(interface):
    Labels(PAIRS, interface.labels.out).give("first", 1)
    interface.buttons["second"].click()
    assert "Not saved" in interface.message.value and "another program" in interface.message.value and answers(interface) == []


def test_texts_are_escaped_and_the_end_is_said(tmp_path):
    labels = Labels(PAIRS[:1], tmp_path / "m.jsonl")
    interface = labelling.Interface(labels)
    assert "&lt;b&gt;" in interface.view.value and "<b>." not in interface.view.value
    interface.buttons["tie"].click()
    assert "All pairs have a label" in interface.view.value
    interface.buttons["tie"].click()
    assert "nothing to tie" in interface.message.value


def test_where_nobody_sits_a_script_labels_into_a_file_of_its_own(tmp_path, capsys):
    out = tmp_path / "mine.jsonl"
    labels = labelling.label(PAIRS, out)
    assert "Question 0?" in capsys.readouterr().out
    used, whose = labelling.or_script(labels, lambda prompt, first, second: "first" if "Left" in first else "second")
    assert whose == "30 labels by a script (nobody labelled here)" and not out.exists()
    assert all("Left" in row["chosen"] for row in used.rows()) and len(used.rows()) == 30


def test_enough_labels_of_a_person_are_used(tmp_path):
    labels = Labels(PAIRS, tmp_path / "mine.jsonl")
    for _ in range(3):
        labels.give("second", 1)
    used, whose = labelling.or_script(labels, lambda *_: "first", least=3)
    assert used is labels and whose == "your 3 labels"
    used, whose = labelling.or_script(labels, lambda *_: "first", least=4)
    assert used is not labels and "you gave 3" in whose and len(Labels(PAIRS, tmp_path / "mine.jsonl").given) == 3


def test_a_script_labels_in_memory_and_leaves_ties_out():
    def answer(prompt, first, second):
        return "tie" if "7" in prompt else "first" if "Left" in first else "second"

    rows = labelling.answered(PAIRS, answer)
    assert len(rows) == 27 and all("Left" in row["chosen"] and "Right" in row["rejected"] for row in rows)
