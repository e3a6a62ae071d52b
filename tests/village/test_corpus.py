"""The corpus: the same on every machine, endless, split without overlap."""

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from rlhf_minimal import village as v
from rlhf_minimal.village import __main__ as report
from rlhf_minimal.village import grammar as g

ROOT = Path(__file__).parents[2]


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
