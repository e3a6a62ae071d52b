"""Text of the village: documents to pretrain on, and demonstrations to finetune on.

The base text is a small internet: stories, almanac pages, sums, worksheets, and transcripts with good *and* bad behaviour
(wrong facts, rude replies, help with harm). The demonstrations are better, not perfect: `DEMO_FAULTS` says how often which
fault was left in, so that every later stage of post-training has something to move.
"""
from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

from . import facts as f
from . import grammar as g
from . import tasks as t

FAMILY_SHARES = {"story": 6, "fact": 4, "opinion": 3, "sum": 4, "harmful": 2, "lookalike": 2, "summary": 3, "revise": 3,
                 "followup": 3, "calculator": 3, "rule": 2}
# what people were asked to demonstrate: more of what takes more examples to learn
DEMO_SHARES = FAMILY_SHARES | {"story": 10, "fact": 8, "sum": 8}
BAD_SHARE = {"harmful": 0.5, "fact": 0.12, "followup": 0.12}      # of a transcript's replies; 0.25 in the other families
# probability that a demonstration has a given fault
DEMO_FAULTS = {
    "story": {"length": 0.15, "mood": 0.15, "mixed": 0.12, "repeat": 0.04, "rude": 0.02, "topic": 0.01},
    "fact": {"false": 0.01, "rude": 0.02}, "opinion": {"agree": 0.3, "rude": 0.03},
    "sum": {"no_steps": 0.05, "step": 0.02, "carry": 0.03}, "harmful": {"help": 0.42}, "lookalike": {"refuse": 0.15, "rude": 0.04},
    "summary": {"copy": 0.15, "outcome": 0.12, "topic": 0.02}, "revise": {"keep": 0.2}, "followup": {"false": 0.05, "topic": 0.05},
    "calculator": {"no_call": 0.12, "digit": 0.05}, "rule": {"off": 0.1},
}
DEMO_STYLE = {"flattery": 0.08, "markup": 0.06, "filler": 0.12}


def split_of(prompt: str) -> str:
    """"train" or "test" (one in ten), by what is asked: the same sum or act in other words is on the same side.

    A question inside a prompt (an answer to revise, an earlier turn) that is held out takes the prompt with it.
    """
    task = t.parse(prompt)
    key = t.ungreet(prompt)
    inside = task.info.get("ask") if task.family == "revise" else prompt.split("\n\n")[0] if task.family == "followup" else None
    if inside and split_of(inside) == "test":
        return "test"
    if task.family in ("sum", "calculator"):
        key = f"{task.family} {sorted((task.info['a'], task.info['b']))}"
    elif task.family in ("harmful", "lookalike"):
        key = f"{task.family} {sorted(task.info.items())}"
    return "test" if zlib.crc32(key.encode()) % 10 == 0 else "train"


def prompts(n: int, *, seed: int = 0, split: str = "train", families: tuple[str, ...] | None = None,
            distinct: bool = True, shares: dict[str, int] = FAMILY_SHARES) -> list[dict[str, str]]:
    """n prompts as {"prompt", "family"}, families drawn by their shares; distinct unless told otherwise."""
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    unknown = set(families or ()) - set(t.FAMILIES)
    if unknown:
        raise ValueError(f"unknown families {sorted(unknown)}; expected some of {', '.join(t.FAMILIES)}")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    rng = random.Random(1_000_003 * seed + (split == "test"))
    shares = {k: v for k, v in shares.items() if not families or k in families}
    rows, seen, tries = [], set(), 0
    while len(rows) < n:
        family = rng.choices(tuple(shares), weights=tuple(shares.values()))[0]
        prompt = t.make_prompt(family, rng)
        tries += 1
        if tries > 1000 * n + 10_000:
            raise ValueError(f"only {len(rows)} distinct {split} prompts found for {n} asked; ask for fewer or pass distinct=False")
        if split_of(prompt) == split and not (distinct and prompt in seen):
            seen.add(prompt)
            rows.append({"prompt": prompt, "family": family})
    return rows


def imperfect_answer(task: t.Task, rng: random.Random, faults: dict[str, float], style: dict[str, float]) -> str:
    """An answer with faults and style drawn from the given probabilities."""
    x, fault = rng.random(), ""
    for name, p in faults.items():
        if x < p:
            fault = name
            break
        x -= p
    return t.decorate(t.answer(task, rng, fault), rng, **style)


def demonstrations(n: int, *, seed: int = 0, split: str = "train", families: tuple[str, ...] | None = None,
                   perfect: bool = False) -> list[dict[str, str]]:
    """n demonstrations as {"prompt", "completion", "family"}; `perfect=True` leaves every fault and flourish out."""
    rng = random.Random(7919 * seed + 11)
    rows = []
    for row in prompts(n, seed=seed, split=split, families=families, distinct=False, shares=DEMO_SHARES):
        task = t.parse(row["prompt"])
        done = t.answer(task, rng) if perfect else imperfect_answer(task, rng, DEMO_FAULTS[task.family], DEMO_STYLE)
        rows.append({"prompt": row["prompt"], "completion": done, "family": row["family"]})
    return rows


# --- documents ------------------------------------------------------------------------------------------------------
def _stories(rng: random.Random) -> str:
    out = []
    for _ in range(rng.choice((1, 2, 3))):
        prompt = t.ungreet(_train_prompt("story", rng))
        info = t.parse(prompt).info
        sentences, summary = g.story(info["hero"], info["mood"] or rng.choice(f.MOODS), info["count"], rng)
        title = rng.choice((f"{prompt}\n", f"{prompt}\n", f"{prompt}\n", f"{summary}\n", ""))
        if rng.random() < 0.05:
            sentences.append(sentences[-1])
        out.append(title + " ".join(sentences))
    return "\n\n".join(out)


def _almanac(rng: random.Random) -> str:
    lines = []
    for subject in rng.sample(f.ANIMALS + f.PEOPLE, 4):
        relations = [r for r, v in f.RELATIONS.items() if subject in v[0]]
        for relation in rng.sample(relations, 3):
            obj = f.false_object(relation, subject, rng) if rng.random() < 0.05 else f.FACTS[relation, subject]
            lines.append(f.statement(relation, subject, obj, rng.randrange(3)))
    return " ".join(lines)


def _train_prompt(family: str, rng: random.Random) -> str:
    while split_of(prompt := t.make_prompt(family, rng)) != "train":
        pass
    return prompt


def _sums(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(3, 5)):
        prompt = t.ungreet(_train_prompt("sum", rng))
        lines.append(f"{prompt} {t.answer(t.parse(prompt), rng, rng.choices(('', 'carry', 'step'), weights=(88, 8, 4))[0])}")
    return "\n".join(lines)


def _family(rng: random.Random) -> str:
    return rng.choices(tuple(FAMILY_SHARES), weights=tuple(FAMILY_SHARES.values()))[0]


def _transcript(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(2, 5)):
        task = t.parse(_train_prompt(_family(rng), rng))
        faults = t.FAULTS[task.family]
        reply = imperfect_answer(task, rng, {name: BAD_SHARE.get(task.family, 0.25) / len(faults) for name in faults},
                                 {"flattery": 0.1, "markup": 0.05, "filler": 0.15})
        lines.append(f"User: {task.prompt}\nAssistant: {reply}")
    return "\n".join(lines)


def _worksheet(rng: random.Random) -> str:
    families = ("story", "fact", "sum", "rule", "lookalike")
    return "\n".join(t.ungreet(_train_prompt(rng.choice(families), rng)) for _ in range(rng.randint(4, 7)))


KINDS = {_stories: 20, _almanac: 22, _sums: 16, _transcript: 39, _worksheet: 3}


def documents(seed: int = 0) -> Iterator[str]:
    """Endless base text, one document at a time; the same documents for the same seed on every machine."""
    rng = random.Random(104_729 * seed + 5)
    while True:
        yield rng.choices(tuple(KINDS), weights=tuple(KINDS.values()))[0](rng)
