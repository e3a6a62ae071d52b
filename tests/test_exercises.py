"""The checks of every chapter accept what is right, reject what is wrong, and say which idea was behind it.

A chapter's answers stand in tests/exercises/chNN_wrong.py; those of chapter 3 have another form and a file of their own.
"""

import ast
import importlib
import inspect
import runpy
from pathlib import Path

import pytest

from rlhf_minimal.book.exercises import verdict

FILES = [p for p in sorted((Path(__file__).parent / "exercises").glob("ch*_wrong.py")) if p.name != "ch03_wrong.py"]
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
