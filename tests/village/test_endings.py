import random

import pytest

from rlhf_minimal import village
from rlhf_minimal.village import grammar
from rlhf_minimal.village.endings import ENDS, MOODS, Reader, ending


@pytest.mark.parametrize("end", ENDS)
def test_told_stories_end_as_they_were_told(end):
    rng, right, other = random.Random(0), 0, 0
    for _ in range(200):
        found = ending(" ".join(grammar.story("fox", MOODS[end], 2, rng)[0]))
        right, other = right + (found == end), other + (found not in (end, ""))
    assert right > 150 and other < 10  # an opening can hold another mood's word


@pytest.mark.parametrize("text", ["", "The fox eats plums.", "I am always happy to help.", "**The fox laughed.**",
                                  "The fox laughed and cried.", "You are so clever! The fox danced."])
def test_what_is_not_clear_has_no_ending(text):
    assert ending(text) == ""


def test_worth_is_spread_evenly_from_the_best_to_the_worst():
    reader = Reader(likes=("happy", "quiet", "sad"), strength=2.0)
    assert [reader.liking(end) for end in ("happy", "quiet", "sad")] == [1.0, 0.0, -1.0]
    assert Reader(likes=("sad", "happy")).liking("quiet") == 0.0
    assert Reader().liking("happy") == 0.0
    assert Reader(likes=("sad", "happy"), gold_weight=2.0).worth("sad", 1.5) == 3.5


def test_a_reader_answers_as_an_annotator():
    happy, sad = "Everybody laughed and danced.", "The fox cried alone in the dark."
    reader = Reader(likes=("sad", "happy"), temperature=0.5)
    assert abs(reader.probability("", sad, happy) - 1 / (1 + 2.718281828459045 ** -2)) < 1e-9
    assert reader.utility("", 0.25) == 0.25
    crowd = village.Crowd((reader, Reader(likes=("happy", "sad"), temperature=0.5)), (0.5, 0.5))
    assert abs(crowd.probability("", sad, happy) - 0.5) < 1e-9  # opposite tastes, equal shares


def test_quality_counts_only_with_a_weight():
    prompt = "What does the fox eat?"
    right = village.answer(village.parse(prompt), random.Random(0))
    assert Reader(likes=("sad", "happy")).utility(prompt, right) == 0.0
    assert Reader(likes=("sad", "happy"), gold_weight=1.0).utility(prompt, right) == village.gold(prompt, right) > 2.9


@pytest.mark.parametrize("knobs", [{"likes": "happy"}, {"likes": ("happy",)}, {"likes": ("happy", "happy")},
                                   {"likes": ("happy", "angry")}, {"strength": -1.0}, {"strength": float("nan")},
                                   {"temperature": -1.0}])
def test_bad_readers_are_refused(knobs):
    with pytest.raises(ValueError, match="reader|annotator"):
        Reader(**knobs)
