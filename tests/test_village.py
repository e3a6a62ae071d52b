"""The village: the same on every machine, its gold agrees with a reader, and nothing but the task pays."""

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from village_examples import GROUPS, disagreement

from rlhf_minimal import village as v
from rlhf_minimal.village import __main__ as report
from rlhf_minimal.village import facts as f
from rlhf_minimal.village import gold as _gold_function  # the package shows the function, not the file
from rlhf_minimal.village import grammar as g
from rlhf_minimal.village import tasks as t
from rlhf_minimal.village.gold import HIGH, LOW, _fitting, mood_score

ROOT = Path(__file__).parents[1]
# sha256 (12 digits) of what the world makes; if one changes, models and recorded runs no longer fit the text
CHECKSUMS = {"documents": "1b4deb13fd6e", "prompts": "895410eb3bb9", "demonstrations": "b0f1c79193b5",
             "perfect": "5cfb20be0d72", "features": "855ca4c12656"}
SCRIPT = """
import hashlib, itertools, json
from rlhf_minimal import village as v
def digest(x): return hashlib.sha256(json.dumps(x, sort_keys=True).encode()).hexdigest()[:12]
rows = v.demonstrations(300, seed=3)
scores = [{k: round(x, 9) for k, x in v.features(r["prompt"], r["completion"]).items()} for r in rows]
print(json.dumps({"documents": digest(list(itertools.islice(v.documents(7), 200))),
    "prompts": digest([v.prompts(200, seed=1, split=s) for s in ("train", "test")]), "demonstrations": digest(rows),
    "perfect": digest(v.demonstrations(100, perfect=True)), "features": digest(scores)}))
"""


# --- examples ---
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


# --- properties over random prompts ---
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


@settings(max_examples=60, deadline=None)
@given(st.text() | st.sampled_from([p for p, _ in GROUPS.values()]), st.text() | st.none() | st.floats())
def test_nothing_raises_whatever_the_text(prompt, completion):
    assert LOW <= v.gold(prompt, completion) <= HIGH
    assert v.parse(prompt).family in (*v.FAMILIES, "other")


def test_coherence_sees_order_cast_and_things():
    rng, plain, backwards = random.Random(5), [], []
    for i in range(300):
        plot, hero = rng.choice(tuple(g.PLOTS)), rng.choice(f.ANIMALS + f.PEOPLE)
        sentences, _ = g.story(hero, rng.choice(f.MOODS), 3 + i % 2, rng, plot)
        plain.append(_fitting(plot, sentences) / len(sentences))
        backwards.append(_fitting(plot, sentences[::-1]) / len(sentences))
    assert set(plain) == {1.0} and max(backwards) < 0.7
    assert mood_score("Ben was not afraid. All was quiet.", "calm") == 1
    assert mood_score("Ben was afraid. All was quiet.", "calm") == 0.5


# --- facts, corpus ---
def test_facts_are_complete_and_no_one_is_its_own_object():
    assert len(v.FACTS) == 120 and all(o in f.RELATIONS[r][1] and o != s for (r, s), o in v.FACTS.items())
    for (relation, subject), obj in v.FACTS.items():
        for form in range(3):
            assert t.read_statement(f.statement(relation, subject, obj, form)) == (relation, subject, obj)
            assert t.read_question(f.question(relation, subject, form)) == (relation, subject)
    rng = random.Random(0)
    assert all(f.false_object("fears", "owl", rng) not in ("owl", v.FACTS["fears", "owl"]) for _ in range(200))


def test_working_is_column_addition():
    rng = random.Random(6)
    for _ in range(300):
        a, b = rng.randint(0, 9999), rng.randint(0, 9999)
        steps, result = t.working(a, b)
        assert result == a + b and len(steps) == max(len(str(a)), len(str(b)))
        assert all(eval(s.split(" = ")[0]) == int(re.findall(r"= (\d+)", s)[0]) for s in steps)
    assert t.working(75, 48, carry=False)[1] == 113


def test_documents_are_endless_and_differ_by_seed():
    first = list(islice(v.documents(0), 3000))
    assert first[:50] == list(islice(v.documents(0), 50))
    assert len(set(first)) > 0.99 * len(first) and sum(len(x.split()) for x in first) > 200_000
    seeds = [tuple(islice(v.documents(s), 3)) for s in range(200)]
    assert len(set(seeds)) == 200 and len({x for docs in seeds for x in docs}) > 0.99 * 600


def test_stories_are_hardly_ever_told_twice():
    told = report.random_stories(50_000, seed=1)
    assert 1 - len(set(told)) / len(told) < 0.01
    assert sum(report.patterns().values()) >= 40 and report.patterns()["stories"] == 14 * 12
    assert all(g.plots_of(s) for text in told[:500] for s in g.split_sentences(text))


def test_splits_do_not_share_what_is_asked():
    train, test = v.prompts(1500, seed=2), v.prompts(500, seed=2, split="test")
    assert {r["family"] for r in train} == {r["family"] for r in test} == set(v.FAMILIES)
    assert len({r["prompt"] for r in train}) == 1500 and not {r["prompt"] for r in train} & {r["prompt"] for r in test}
    assert v.split_of("What is 12 + 30?") == v.split_of("Hello! Add 30 and 12.")
    lines = [x for doc in islice(v.documents(9), 800) for x in doc.split("\n")]
    asked = [x.removeprefix("User: ") for x in lines if v.parse(x.removeprefix("User: ")).family == "sum"]
    assert len(asked) > 100 and all(v.split_of(x) == "train" for x in asked)


def test_demonstrations_are_good_but_not_perfect():
    rows = v.demonstrations(1500, seed=4)
    scores = [v.gold(r["prompt"], r["completion"]) for r in rows]
    assert 1.5 < sum(scores) / len(scores) < 2.7
    assert all(v.gold(r["prompt"], r["completion"]) > 2.99 for r in v.demonstrations(300, perfect=True))


@pytest.mark.parametrize("call,said", [
    (lambda: v.prompts(0), "at least 1, got 0"), (lambda: v.prompts(5, split="dev"), "'dev'"),
    (lambda: v.prompts(5, families=("poem",)), "poem"), (lambda: t.make_prompt("poem", random.Random(0)), "poem"),
    (lambda: v.answer(v.parse("What is 1 + 2?"), random.Random(0), "help"), "no fault 'help'")])
def test_wrong_input_says_what_was_given(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# --- the same everywhere ---
def run(python, seed, *flags):
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    return subprocess.run([python, *flags, "-c", SCRIPT], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_world_has_not_changed_here_or_in_another_process(capsys):
    exec(SCRIPT, {})
    assert json.loads(capsys.readouterr().out) == CHECKSUMS
    done = run(sys.executable, "4711", "-S")        # other hashes; -S: no installed package is needed
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == CHECKSUMS


@pytest.mark.parametrize("python", ["python3.12", "python3.13"])
def test_other_pythons_make_the_same_world(python):
    try:
        there = subprocess.run([python, "--version"], capture_output=True, timeout=20).returncode == 0
    except OSError:
        there = False
    if not there:
        pytest.skip(f"{python} is not here")
    done = run(python, "1", "-S")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == CHECKSUMS


# --- report and card ---
def test_card_agrees_with_points_and_weights():
    text = (ROOT / "data" / "village.md").read_text(encoding="utf-8")
    families, feats = report.card().split("\n\n")
    assert families in text and feats in text, "paste `python -m rlhf_minimal.village --card` into data/village.md"
    rows = {c[1].strip(): c for line in text.splitlines() if len(c := re.split(r"(?<!\\)\|", line)) > 5}
    for family, points in v.POINTS.items():
        if family != "other":
            assert dict(x.split() for x in rows[family][4].split(",")) == {k: f"{w:g}" for k, w in points.items()}
            for name, w in points.items():
                assert f"{w:g} ({family})" in rows[name][2]
    for name, w in v.WEIGHTS.items():
        assert float(rows[name][2]) == w
    for name, (prompt, completion) in report.EXAMPLES.items():
        assert v.features(prompt, completion)[name] > 0
        assert float(rows[name][6]) == pytest.approx(v.gold(prompt, completion), abs=0.0051)
    assert set(report.EXAMPLES) == set(v.FEATURES) - {"grammar"}


def test_report_prints_agreement_statistics_and_samples(capsys):
    print(report.agreement(), report.statistics(50, 200), report.samples(20), sep="\n")
    out = capsys.readouterr().out
    total, agreeing = re.search(r"^all +(\d+) +(\d+)$", out, re.M).groups()
    assert int(total) == int(agreeing) == len(CASES)
    assert "10 million words" in out and len(re.findall(r"^\[", out, re.M)) == 20
    report.main(["--card"])
    assert capsys.readouterr().out.strip() == report.card()
    with pytest.raises(SystemExit, match="--nonsense"):
        report.main(["--nonsense"])
