"""The village's facts as an examination in several formats: one question, other words around it, other rules for "right"."""

import random
from collections.abc import Callable, Sequence

import torch
from torch import nn

from .. import village
from ..village.facts import FACTS, RELATIONS, question, statement
from .choices import chosen, option_logps
from .exams import continue_text

Rule = Callable[[dict, str], bool]


def facts(seed: int = 0) -> list[dict]:
    """All 120 facts of the village, both models have read them: dicts with

    prompt (a question), family, word (the right object), reference (one right sentence), options (four sentences, the right one
    first; the three wrong objects depend on the seed).
    """
    rng, rows = random.Random(f"{seed} options"), []
    for (relation, subject), word in FACTS.items():
        wrong = rng.sample([x for x in RELATIONS[relation][1] if x not in (word, subject)], 3)
        rows.append({"prompt": question(relation, subject), "family": "fact", "word": word,
                     "reference": statement(relation, subject, word),
                     "options": [statement(relation, subject, x) for x in (word, *wrong)]})
    return rows


def names_fact(row: dict, text: str) -> bool:
    """Does the answer say the right fact, in any of the village's wordings, and no wrong one?"""
    return village.features(row["prompt"], text)["truth"] == 1


def exact_match(row: dict, text: str) -> bool:
    """Is the answer the one reference sentence, letter by letter?"""
    return text == row["reference"]


def ask(model: nn.Module, tokenizer, rows: Sequence[dict], form: str, *, max_new_tokens: int = 16) -> list[str]:
    """The first line of the most likely answer to each row's prompt; form: the text around it, with {} for the prompt.

    Raises ValueError for a form without {}.
    """
    if "{}" not in form:
        raise ValueError(f"form {form!r}: expected {{}} where the question goes")
    rollout = continue_text(model, tokenizer, [form.format(row["prompt"]) for row in rows], temperature=0.0,
                            max_new_tokens=max_new_tokens)
    return [(text.strip().splitlines() or [""])[0] for text in rollout.texts(tokenizer)]


def most_likely(model: nn.Module, tokenizer, rows: Sequence[dict], form: str, *, before: str = " ") -> torch.Tensor:
    """(N,) 1 where the right one of a row's four sentences has the highest log-probability after its prompt: nothing is sampled."""
    logp, tokens = option_logps(model, tokenizer, [form.format(row["prompt"]) for row in rows],
                                [[before + text for text in row["options"]] for row in rows])
    return (chosen(logp, tokens) == 0).double()
