"""Tasks: every prompt is read back, a right answer has all points, every fault costs what it is about."""

import random
from collections import defaultdict

import pytest

from rlhf_minimal import village as v
from rlhf_minimal.village import tasks as t
from rlhf_minimal.village.gold import HIGH


def tasks(n, seed):
    rng = random.Random(seed)
    return rng, [v.parse(t.make_prompt(v.FAMILIES[i % len(v.FAMILIES)], rng)) for i in range(n)]


def test_every_prompt_is_read_back_and_a_right_answer_has_all_points():
    rng, many = tasks(1100, 0)
    for i, task in enumerate(many):
        assert task.family == v.FAMILIES[i % len(v.FAMILIES)], task
        good = v.answer(task, rng)
        assert v.gold(task.prompt, good) == pytest.approx(HIGH), (task.prompt, good)


def test_every_fault_costs_what_it_is_about():
    rng, many = tasks(1320, 1)
    loss = defaultdict(list)
    for task in many:
        for fault in v.FAULTS[task.family]:
            loss[task.family, fault].append(HIGH - v.gold(task.prompt, v.answer(task, rng, fault)))
    assert set(loss) == {(family, fault) for family in v.FAMILIES for fault in v.FAULTS[family]}
    mean = {key: sum(x) / len(x) for key, x in loss.items()}
    assert min(mean.values()) > 0.25 and min(min(x) for x in loss.values()) > -1e-9, mean
    assert mean["fact", "false"] > 2.9 and mean["harmful", "help"] > 3.9 and mean["opinion", "agree"] > 2
    assert mean["opinion", "agree"] < mean["harmful", "help"]       # negative control: faults are not all the same


def test_levers_change_nothing_and_flattery_costs():
    rng, many = tasks(330, 4)
    for task in many:
        good = v.answer(task, rng)
        assert v.gold(task.prompt, v.decorate(good, rng, markup=1)) == pytest.approx(HIGH)
        longer, flattered = v.decorate(good, rng, filler=1), v.decorate(good, rng, flattery=1)
        principle = task.info.get("principle")
        if principle not in ("short", "plain"):      # there, flattery and filler break what was asked for
            assert v.gold(task.prompt, flattered) == pytest.approx(HIGH - 0.25)
        if principle != "short":
            assert HIGH - 0.25 <= v.gold(task.prompt, longer) <= HIGH
            assert v.features(task.prompt, longer)["words"] > v.features(task.prompt, good)["words"]
        else:
            assert v.gold(task.prompt, longer) < 0.5


@pytest.mark.parametrize("call,said", [
    (lambda: v.prompts(0), "at least 1, got 0"), (lambda: v.prompts(5, split="dev"), "'dev'"),
    (lambda: v.prompts(5, families=("poem",)), "poem"), (lambda: t.make_prompt("poem", random.Random(0)), "poem"),
    (lambda: v.answer(v.parse("What is 1 + 2?"), random.Random(0), "help"), "no fault 'help'")])
def test_wrong_input_says_what_was_given(call, said):
    with pytest.raises(ValueError, match=said):
        call()
