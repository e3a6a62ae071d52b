"""Gold agrees with a reader, and nothing but the task pays."""

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_minimal import village as v
from rlhf_minimal.village import facts as f
from rlhf_minimal.village import gold as _gold_function
from rlhf_minimal.village import grammar as g
from rlhf_minimal.village import tasks as t
from rlhf_minimal.village.gold import HIGH, LOW
from tests.village.examples import GROUPS, disagreement

CASES = [(label, name) for label, (_, cases) in GROUPS.items() for name in cases]


@pytest.mark.parametrize("label", GROUPS)
def test_gold_agrees_with_hand_written_examples(label):
    prompt, cases = GROUPS[label]
    assert v.parse(prompt).family == label.split(",")[0]
    wrong = {name: said for name in cases if (said := disagreement(prompt, cases, name))}
    assert not wrong


def test_there_are_enough_examples_and_they_can_disagree():
    count = Counter(label.split(",")[0] for label, _ in CASES)
    assert sum(count.values()) >= 130 and all(count[x] >= 10 for x in v.FAMILIES)
    cases = {"a": ("The fox eats cakes.", 2.9, {}), "b": ("The fox eats cakes.", "<a", {}),
             "c": ("The fox eats plums.", ">a", {"truth": 1})}
    assert all(disagreement("What does the fox eat?", cases, name) for name in cases)


@pytest.mark.parametrize("label,name", CASES[::3])
def test_gold_is_the_documented_sum(label, name):
    prompt, cases = GROUPS[label]
    feats, family = v.features(prompt, cases[name][0]), v.parse(prompt).family
    task = weights = 0.0
    for k, x in feats.items():
        task += v.POINTS[family].get(k, 0.0) * x
        weights += v.WEIGHTS.get(k, 0.0) * x
    assert v.gold(prompt, cases[name][0]) == pytest.approx(min(3.0, max(-6.75, feats["grammar"] * task + weights)))
    assert v.gold_of(family, feats) == v.gold(prompt, cases[name][0]) == _gold_function(prompt, cases[name][0])


def tasks(n, seed):
    rng = random.Random(seed)
    return rng, [v.parse(t.make_prompt(v.FAMILIES[i % len(v.FAMILIES)], rng)) for i in range(n)]


def garbage(task, good, rng):
    """(name, text): what nobody would take for a good answer."""
    words, kin = good.split(), {"revise": {"fact", "opinion", "followup", "harmful"}, "harmful": {"revise"}}
    mixed = words[:]
    rng.shuffle(mixed)
    others = [x for x in v.FAMILIES if x != task.family and x not in kin.get(task.family, set())]
    if task.family in ("fact", "opinion", "followup"):
        others = ["sum", "harmful", "lookalike", "calculator", "rule"]
    if task.family in ("sum", "calculator"):
        others = ["fact", "story", "harmful", "rule"]
    alien = v.answer(v.parse(t.make_prompt(rng.choice(others), rng)), rng)
    vocabulary = [*f.ANIMALS, *f.PEOPLE, *f.FOODS, *f.PLACES, *g.MOOD_WORDS["cheerful"], "the", "a", "eats", "12"]
    yield "random words", " ".join(rng.choice(vocabulary) for _ in range(rng.randint(3, 30))) + "."
    yield "shuffled words", " ".join(mixed)
    yield "repeated", " ".join([rng.choice(g.split_sentences(good))] * rng.randint(3, 9))
    yield "another task's answer", alien
    yield "two answers", f"{good} {alien} {good}"
    yield "cut", good[:rng.randint(0, len(good) - 2)].rstrip(" .!?")
    yield "empty", rng.choice(("", " ", "\n\n", "."))
    yield "bytes", rng.randbytes(40).decode("latin-1")
    yield "the prompt", task.prompt
    yield "all moods", " ".join(w for words in g.MOOD_WORDS.values() for w in words) + "."


def test_garbage_never_beats_a_plain_good_answer():
    rng, many = tasks(330, 2)
    best = defaultdict(lambda: -9.0)
    for task in many:
        good = v.answer(task, rng)
        for name, text in garbage(task, good, rng):
            score = v.gold(task.prompt, text)
            feats = v.features(task.prompt, text)
            assert LOW <= score <= HIGH and score == v.gold(task.prompt, text)
            assert set(feats) == set(v.FEATURES) and all(0 <= x <= 1 for k, x in feats.items() if k != "words")
            if text != good:
                assert score <= HIGH - 0.2, (name, task.prompt, text, feats)
                best[name] = max(best[name], score)
    assert best["random words"] < 0 and best["bytes"] < 0 and best["empty"] < 0 and best["shuffled words"] < 1.5, best


def test_a_shuffled_sentence_is_clearly_worse():
    rng, many = tasks(880, 3)
    drops = []
    for task in many:
        good = v.answer(task, rng)
        words = good.split()
        rng.shuffle(words)
        if words != good.split():
            drops.append(HIGH - v.gold(task.prompt, " ".join(words)))
    assert len(drops) > 700 and sum(drops) / len(drops) > 4 and min(drops) > 1.5


@settings(max_examples=60, deadline=None)
@given(st.text() | st.sampled_from([p for p, _ in GROUPS.values()]), st.text() | st.none() | st.floats())
def test_nothing_raises_whatever_the_text(prompt, completion):
    assert LOW <= v.gold(prompt, completion) <= HIGH
    assert v.parse(prompt).family in (*v.FAMILIES, "other")
