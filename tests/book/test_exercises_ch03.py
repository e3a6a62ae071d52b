"""The checks of chapter 3 accept what is right, however it is written, and name what is wrong."""

import importlib.util
from pathlib import Path

import pytest
import torch

from rlhf_minimal.book.exercises import verdict
from rlhf_minimal.book.exercises.ch03 import CHECKS

PATH = Path(__file__).parents[1] / "exercises" / "ch03_wrong.py"
SPEC = importlib.util.spec_from_file_location("ch03_wrong", PATH)
answers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(answers)
VARIANTS = ("", "spring-1", "spring-2", "autumn-1", "autumn-2")


def stub(*args):
    raise NotImplementedError


def test_every_exercise_has_answers():
    assert set(CHECKS) == set(answers.RIGHT) == set(answers.WRONG) == {f"3.{i}" for i in range(1, 7)}
    assert all(len(right) >= 2 for right in answers.RIGHT.values())
    assert all(len({name for name, _ in wrong}) >= 3 for wrong in answers.WRONG.values())


@pytest.mark.parametrize("code", VARIANTS)
@pytest.mark.parametrize("exercise", sorted(CHECKS))
def test_right_answers_pass_with_any_numbers(exercise, code, monkeypatch):
    monkeypatch.setenv("RLHF_VARIANT", code)
    assert [verdict(exercise, answer) for answer in answers.RIGHT[exercise]] == ["solved", "solved"]


@pytest.mark.parametrize("code", VARIANTS)
@pytest.mark.parametrize("exercise,name,answer", [(e, n, a) for e, wrong in answers.WRONG.items() for n, a in wrong])
def test_wrong_answers_are_told_their_misconception(exercise, name, answer, code, monkeypatch):
    monkeypatch.setenv("RLHF_VARIANT", code)
    line = verdict(exercise, answer)
    assert line.startswith("not yet — ") and line.endswith(f"({name})"), line


@pytest.mark.parametrize("exercise", sorted(CHECKS))
def test_stub_constant_identity_and_input_are_rejected(exercise):
    assert verdict(exercise, stub) == verdict(exercise, None) == "to do"
    for answer in (lambda *x: 0.0, lambda *x: 1.0, lambda *x: x, lambda *x: x[0], lambda *x: x[-1], lambda *x: "a", 3):
        assert verdict(exercise, answer).startswith("not yet"), (exercise, answer)


def test_inputs_of_a_check_cannot_be_spoiled():
    def spoils(perplexities, tokens):
        out = answers.RIGHT["3.6"][0](perplexities, tokens)
        perplexities.zero_()
        return out

    assert verdict("3.6", spoils) == "solved"
    before = torch.get_rng_state()
    verdict("3.2", lambda logits, ids: int(torch.rand(()) > 2))
    assert torch.equal(before, torch.get_rng_state())
