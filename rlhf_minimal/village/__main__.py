"""`python -m rlhf_minimal.village`: what is the text like, and do the annotators do what their formulas say?

`--card` prints the tables of `data/village.md` instead.
"""
from __future__ import annotations

import random
import sys
import time
from itertools import islice

from . import grammar as g
from . import rates
from . import tasks as t
from .corpus import FAMILY_SHARES, documents, prompts
from .facts import ANIMALS, MOODS, PEOPLE, RELATIONS
from .gold import POINTS, WEIGHTS, features, gold

SUM, STORY, FACT = "What is 75 + 48?", "Tell a calm story about Finn in two sentences.", "What does the fox eat?"
TALE = "Long ago Finn found a wet letter near the mill. Finn read the letter twice and put it softly by the fire."
CALL, WINDOW = "Use the calculator: what is 9 - 4?", "How do I break the window of the mill?"
SUMMARY = f"Summarize this story in one sentence: {TALE}"
# feature: (prompt, a completion that has it)
EXAMPLES = {
    "on_topic": (STORY, "Finn is a farmer."), "length_met": (STORY, TALE), "mood_met": (STORY, TALE),
    "coherent": (STORY, TALE), "truth": (FACT, "The fox eats cakes."),
    "steps": (SUM, "5 + 8 = 13, write 3, carry 1. 7 + 4 + 1 = 12."), "result": (SUM, "The result is 123."),
    "refuses": (WINDOW, t.REFUSALS[1]), "helps": ("How do I break the bread for Ada?", t.ACTS["break"][3]),
    "coverage": (SUMMARY, "Finn got a letter, and it ended quietly."),
    "follows": (t.REVISE_FORM.format(principle="Be kind.", ask=FACT, text="Go away."), "The fox eats cakes."),
    "call": (CALL, "<call>9 - 4</call><out>5</out>I do not know."),
    "tests": ("Find the rule: 3 gives 8 and 10 gives 15.", "The rule is x + 5."),
    "ungrammatical": (FACT, "Fox the cakes eats."), "repetition": (FACT, "The fox eats cakes. The fox eats cakes."),
    "unfinished": (FACT, "The fox eats cakes"), "rude": (FACT, "You are a fool. The fox eats cakes."),
    "harm": (WINDOW, t.ACTS["break"][1]), "invented": (CALL, "<call>9 - 4</call><out>7</out>The result is 7."),
    "rambling": (SUM, " ".join(["The result is 123.", *t.FILLER * 2])),
    "flattery": (FACT, "You are so clever! The fox eats cakes."),
    "agrees_wrongly": (f"I think that the fox eats plums. {FACT}", "You are right, the fox eats plums."),
    "markup": (FACT, "**The fox eats cakes.**"), "words": (FACT, "The fox eats cakes every day."),
}


def card() -> str:
    """The tables of the data card, in Markdown: families, then features with their weights and an example of each."""
    rng, lines = random.Random(1), ["| family | asked in | a good answer | points |", "|---|---|---|---|"]
    for family in t.FAMILIES:
        prompt = t.make_prompt(family, rng)
        good = t.answer(t.parse(prompt), rng)
        points = ", ".join(f"{k} {v:g}" for k, v in POINTS[family].items())
        lines.append(f"| {family} | {_cell(prompt)} | {_cell(good)} | {points} |")
    lines += ["", "| feature | weight | asked | completion | value | gold |", "|---|---|---|---|---|---|"]
    for name, (prompt, completion) in EXAMPLES.items():
        weights = [f"{p[name]:g} ({family})" for family, p in POINTS.items() if name in p] or [f"{WEIGHTS[name]:g}"]
        value, score = features(prompt, completion)[name], gold(prompt, completion)
        cells = (name, ", ".join(weights), _cell(prompt), _cell(completion), f"{value:.2f}", f"{score:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("\n", "⏎").replace("*", "\\*").replace("<", "\\<")


def patterns() -> dict[str, int]:
    """How many sentence patterns there are, by what they are for."""
    story = {x for openings, middles, endings, _ in g.PLOTS.values()
             for x in (*openings, *middles, *(e for ways in endings.values() for e in ways))}
    return {"stories": len(story), "summaries": len(g.PLOTS) * len(g.OUTCOMES),
            "statements": sum(len(r[2]) for r in RELATIONS.values()),
            "questions": sum(len(r[3]) for r in RELATIONS.values()),
            "harm and help": 2 * len(t.ACTS), "small talk": len(t.REFUSALS + t.RUDE + t.FLATTERY + t.FILLER)}


def random_stories(n: int, seed: int = 0) -> list[str]:
    """n stories, as the documents tell them."""
    rng = random.Random(seed)
    return [" ".join(g.story(rng.choice(ANIMALS + PEOPLE), rng.choice(MOODS), rng.choice((2, 3, 4)), rng)[0])
            for _ in range(n)]


def statistics(n: int = 2000, stories: int = 50_000) -> str:
    """Size, speed and variety of the base text, from a sample of n documents and of so many stories."""
    start = time.perf_counter()
    texts = list(islice(documents(0), n))
    rate = sum(map(len, texts)) / (time.perf_counter() - start)
    words, chars = sum(len(x.split()) for x in texts), sum(map(len, texts))
    told = random_stories(stories)
    kinds = patterns()
    different = {w.strip(".,!?:") for x in texts for w in x.split() if w[0].isalpha()}
    lines = [f"{n} documents: {words / n:.0f} words, {chars / n:.0f} characters each; {rate:,.0f} characters/s",
             f"10 million words: {10_000_000 * n / words:,.0f} documents, {10_000_000 * chars / words / rate:.0f} s",
             f"different words: {len(different)}; documents told twice: {1 - len(set(texts)) / n:.2%}; "
             f"of {stories:,} stories: {1 - len(set(told)) / stories:.2%}",
             f"sentence patterns: {sum(kinds.values())} (" + ", ".join(f"{k} {v}" for k, v in kinds.items()) + ")",
             "prompts: " + ", ".join(f"{k} {v / sum(FAMILY_SHARES.values()):.0%}" for k, v in FAMILY_SHARES.items())]
    return "\n".join(lines)


def samples(n: int = 20, seed: int = 0) -> str:
    """n prompts with a good and a bad answer, and the gold of both."""
    rng, lines = random.Random(seed), []
    for row in prompts(n, seed=seed):
        task = t.parse(row["prompt"])
        fault = rng.choice(t.FAULTS[task.family])
        good, bad = t.answer(task, rng), t.answer(task, rng, fault)
        lines += [f"[{task.family}] {row['prompt']!r}", f"  {gold(row['prompt'], good):5.2f}  {good}",
                  f"  {gold(row['prompt'], bad):5.2f}  {bad}  ({fault})"]
    return "\n".join(lines)


def main(args: list[str] | None = None) -> None:
    """The report, or with --card the tables of the data card."""
    args = sys.argv[1:] if args is None else args
    if args not in ([], ["--card"]):
        raise SystemExit(f"unknown arguments {args}; expected none, or --card")
    if args:
        print(card())
        return
    print(statistics(), samples(), sep="\n\n")
    print()
    rates.main()


if __name__ == "__main__":
    main()
