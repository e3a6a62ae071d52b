"""The checks of every chapter accept what is right, reject what is wrong, and say which idea was behind it.

A chapter's answers stand in tests/exercises/chNN_wrong.py; those of chapter 3 have another form and a file of their own.
"""

import ast
import importlib
import inspect
import os
import random
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch

from rlhf_minimal.book import exercises, notebook
from rlhf_minimal.book.exercises import Misconception, answers, verdict

FILES = [p for p in sorted((Path(__file__).parents[1] / "exercises").glob("ch*_wrong.py")) if p.name != "ch03_wrong.py"]
MODULES = [importlib.import_module(f"rlhf_minimal.book.exercises.{p.name[:4]}") for p in FILES]
ANSWERS = [runpy.run_path(str(p)) for p in FILES]
CHECKS = {exercise: fn for module in MODULES for exercise, fn in module.CHECKS.items()}
RIGHT, WRONG = ({exercise: x for answers in ANSWERS for exercise, x in answers[side].items()} for side in ("RIGHT", "WRONG"))
CODES = ["", "spring", "autumn", "x", "y"]


def stub(*args):
    raise NotImplementedError


def test_every_chapter_has_its_answers():
    package = Path(inspect.getfile(verdict)).parent
    assert {p.stem for p in package.glob("ch*.py")} - {"ch03"} == {p.name[:4] for p in FILES}
    assert len(CHECKS) == sum(len(module.CHECKS) for module in MODULES), "an exercise stands in two chapters"


@pytest.mark.parametrize("exercise", CHECKS)
def test_every_exercise_has_two_right_and_three_wrong_answers(exercise):
    assert len(RIGHT[exercise]) >= 2 and len(WRONG[exercise]) >= 3


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("exercise", CHECKS)
def test_right_answers_pass_with_every_variant(exercise, code, monkeypatch):
    monkeypatch.setenv("RLHF_VARIANT", code)
    assert [verdict(exercise, answer) for answer in RIGHT[exercise]] == ["solved", "solved"]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("exercise", "name"), [(e, name) for e, answers in WRONG.items() for name in answers])
def test_wrong_answers_get_their_own_message(exercise, name, code, monkeypatch):
    monkeypatch.setenv("RLHF_VARIANT", code)
    said = verdict(exercise, WRONG[exercise][name])
    assert said.startswith("not yet — ") and said.endswith(f"({name})")


@pytest.mark.parametrize("exercise", CHECKS)
def test_stub_is_to_do_and_lazy_answers_are_rejected(exercise):
    assert verdict(exercise, stub) == "to do"
    assert verdict(exercise, None) == "to do"
    for lazy in (lambda *a: 1.0, lambda *a: a[0], lambda *a: a[-1], lambda *a: None, lambda *a: a):
        assert verdict(exercise, lazy).startswith("not yet — ")


@pytest.mark.parametrize("exercise", CHECKS)
def test_an_answer_that_breaks_is_reported_with_its_line(exercise):
    def broken(*args):
        return 1 / 0

    assert "ZeroDivisionError in line" in verdict(exercise, broken)


@pytest.mark.parametrize("exercise", CHECKS)
def test_every_message_is_earned_by_some_wrong_answer(exercise):
    calls = [c for c in ast.walk(ast.parse(inspect.getsource(CHECKS[exercise]))) if isinstance(c, ast.Call)]
    names = {c.args[1].value for c in calls if getattr(c.func, "id", "") == "Misconception"}
    assert names <= set(WRONG[exercise]), f"{exercise}: no wrong answer earns {names - set(WRONG[exercise])}"


def double(answer, rng):
    for x in rng.standard_normal(20):
        torch.rand(1), numpy.random.random(), random.random()
        if answer(float(x)) != 2 * x:
            raise Misconception("not twice", "squares")


@pytest.fixture
def chapter(monkeypatch):
    letter = {"a": Misconception("a tie costs log 2", "ties are free"), "b": None}

    def predict(answer, rng):
        if letter[answer]:
            raise letter[answer]
    monkeypatch.setitem(sys.modules, "rlhf_minimal.book.exercises.ch91",
                        SimpleNamespace(CHECKS={"91.1": double, "91.2": predict}))


def undone(x):
    raise NotImplementedError


def broken(x):
    return [][1]


@pytest.mark.parametrize("exercise, answer, line", [
    ("91.1", undone, "91.1: to do"), ("91.1", None, "91.1: to do"), ("91.2", ..., "91.2: to do"),
    ("91.1", lambda x: x + x, "91.1: solved"), ("91.1", lambda x: 2 * x, "91.1: solved"), ("91.2", "b", "91.2: solved"),
    ("91.1", lambda x: x * x, "91.1: not yet — not twice (squares)"),
    ("91.1", lambda x: x, "91.1: not yet — not twice (squares)"),
    ("91.2", "a", "91.2: not yet — a tie costs log 2 (ties are free)"),
])
def test_check_prints_one_stable_line(chapter, capsys, exercise, answer, line):
    notebook.check(exercise, answer)
    assert capsys.readouterr().out == line + "\n"


def test_check_reports_an_exception_with_its_line_and_no_path(chapter, capsys):
    notebook.check("91.1", broken)
    line = capsys.readouterr().out
    assert line.startswith("91.1: not yet — IndexError in line ") and "of broken" in line and os.sep not in line


def test_hidden_checks_raise(chapter, capsys):
    notebook.check("91.1", lambda x: 2 * x, hidden=True)
    for answer in (lambda x: x, undone, broken):
        with pytest.raises(AssertionError, match="91.1: "):
            notebook.check("91.1", answer, hidden=True)


def test_check_leaves_random_states_alone(chapter):
    states = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    notebook.check("91.1", lambda x: 2 * x)
    assert states == (random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_check_refuses_unknown_exercises(chapter):
    for exercise in ("91", "91.9", 91.1):
        with pytest.raises(ValueError, match="91"):
            notebook.check(exercise, None)


def test_variant_depends_on_exercise_and_course(monkeypatch):
    def draw():
        return exercises.variant("1.1").random(), exercises.variant("1.2").random()
    monkeypatch.delenv("RLHF_VARIANT", raising=False)
    plain = draw()
    assert plain == draw() and plain[0] != plain[1]
    monkeypatch.setenv("RLHF_VARIANT", "autumn")
    assert set(plain).isdisjoint(draw())


def test_before_after(capsys):
    def found(mean, text):
        return {"all": {"mean": mean, "standard_error": 0.3, "n": 8}, "fact": {"mean": mean - 1, "standard_error": 0.4, "n": 4},
                "texts": [{"prompt": "Who?", "completion": text, "gold": mean}]}
    run = notebook.Recorded(held_out={"before": found(-1.0, "a\nb"), "after": found(0.5, "c")}, command="train it",
                          hardware="one core", date="2026-01-01", versions={"torch": "2"})
    assert run.before_after() == (1.5, pytest.approx(0.18 ** 0.5))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "  all          8 answers   before -1.00 ± 0.30   after  0.50 ± 0.30"
    assert lines[2].split() == "fact 4 answers before -2.00 ± 0.40 after -0.50 ± 0.40".split()
    assert lines[3:6] == ["PROMPT  Who?", "  before  -1.00  a b", "  after    0.50  c"] and "train it" in lines[6]
    del run.held_out["before"]["fact"]
    with pytest.raises(KeyError):  # other families before and after: no comparison
        run.before_after()


def test_a_letter_is_read_in_the_case_of_its_example_and_nothing_else_is_a_letter():
    assert (answers.letter(lambda: " (B) "), answers.letter(lambda: "b", "A")) == ("b", "B")
    with pytest.raises(Misconception, match='such as "A"'):
        answers.letter(lambda: 2, "A")
