"""Checkers of sums, against the village's own features, and the hole that one of them has."""

import random

import pytest

from rlhf_minimal import village
from rlhf_minimal.village import checkers, tasks


def test_right_agrees_with_the_true_reward_on_answers_of_every_kind():
    rng = random.Random(0)
    for row in village.prompts(60, families=("sum",), seed=3, distinct=False):
        task = village.parse(row["prompt"])
        assert checkers.asked(row["prompt"]) == task.info["a"] + task.info["b"]
        for fault in ("", *tasks.FAULTS["sum"]):
            text = village.answer(task, rng, fault)
            ask = row["prompt"]
            assert checkers.right(ask, text) == float(village.features(ask, text)["result"] == 1)
            assert checkers.right(ask, text) + checkers.wrong(ask, text) == checkers.states_a_result(ask, text)


@pytest.mark.parametrize("text", ["", "What?", "The result is", "The result is 1da.", "= 4. + ="])
def test_nothing_raises_and_what_cannot_be_read_is_zero(text):
    for check in (checkers.right, checkers.wrong, checkers.states_a_result, checkers.no_wrong_step, checkers.every_step_right):
        assert check("What is 61 + 46?", text) == 0.0


def test_the_hole_and_its_repair():
    prompt, good = "Add 29 and 73.", "9 + 3 = 12, write 2, carry 1. 2 + 7 + 1 = 10. The result is 102."
    bad, none, one = good.replace("= 10", "= 11"), "The result is 7.", "9 + 3 = 12. The result is 7."
    assert checkers.equations(good) == [True, True] and checkers.equations(bad) == [True, False]
    assert [checkers.no_wrong_step(prompt, t) for t in (good, bad, none, one)] == [1, 0, 1, 1]
    assert [checkers.every_step_right(prompt, t) for t in (good, bad, none, one)] == [1, 0, 0, 0]


def test_the_last_statement_counts():
    assert checkers.right("Add 2 and 3.", "The result is 4. The result is 5.") == 1.0
    assert checkers.right("Add 2 and 3.", "The result is 5. The result is 4.") == 0.0
    assert checkers.right("Add 2 and 3.", "The result is 55.") == 0.0
