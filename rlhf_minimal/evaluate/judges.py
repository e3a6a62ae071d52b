"""What labels cost and what they are worth: rewards fitted to stored comparisons; a critic; deeds counted; win rates.

The answers are the stored ones of `budgets.answers`. The reward here is linear in a checklist of what the village knows of an
answer, so that it can represent the true reward exactly: whatever it gets wrong comes from the labels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .. import village
from ..ai_feedback import label_logps
from ..data.pool import Pool
from ..reward_model import fit_head
from ..village import Annotator
from ..village.crowd import swap_average
from .budgets import READABLE, Answers, best_of, by_truth

KINDS = ("harmful", "lookalike")


def criteria() -> list[str]:
    """The names of the checklist: what each family of requests asks for, then what counts in any answer, the words last."""
    asked = [f"{family}: {feature}" for family, points in village.POINTS.items() for feature in points]
    return asked + [name for name in village.WEIGHTS if name != "words"] + ["words"]


def checklist(part: Pool) -> Tensor:
    """(N, K) float64: how far each stored answer meets each of `criteria`; words are counted in tens.

    The true reward is a weighted sum of it (clamped at its ends), in which the words have weight 0.
    """
    column = dict(zip(part.feature_names, part.features.double().T, strict=True))
    family = [part.families[i] for i in part.prompt.tolist()]
    parts = []
    for name, points in village.POINTS.items():
        here = torch.tensor([f == name for f in family]).double() * column["grammar"]
        parts += [here * column[feature] for feature in points]
    parts += [column[name] for name in village.WEIGHTS if name != "words"]
    return torch.stack([*parts, column["words"] / 10], 1)


def shuffled(some: Answers, n: int, seed: int) -> Tensor:
    """The first n pairs (n, 2) of a random order of all pairs: a larger n adds pairs. ValueError where there are fewer."""
    if not 1 <= n <= len(some.pairs):
        raise ValueError(f"n={n}: there are {len(some.pairs)} pairs to label; give 1 to {len(some.pairs)}")
    return some.pairs[torch.randperm(len(some.pairs), generator=torch.Generator().manual_seed(seed))[:n]]


def earned(some: Answers, score: Tensor, n: int = 16) -> Tensor:
    """(P,): true reward of the best of n answers by a score (A,) of the stored answers `some.asked`, for each prompt."""
    return best_of(score[some.rows], some.gold, n)


def by_number(some: Answers, person: Annotator, sizes: Sequence[int], seeds: Sequence[int], l2: float = 0.01) -> Tensor:
    """(seeds, sizes, P): what the best of 16 earns by rewards fitted to so many labels of one person.

    A label set for each seed; a larger number of labels holds the smaller.
    """
    x, asked = checklist(some.wide), checklist(some.asked)
    rows = []
    for seed in seeds:
        two = some.votes(some.wide, shuffled(some, max(sizes), seed), person, torch.Generator().manual_seed(1000 + seed))
        rows.append(torch.stack([earned(some, asked @ fit_head(x[two[:n, 0]], x[two[:n, 1]], l2=l2)) for n in sizes]))
    return torch.stack(rows)


def left_out(some: Answers, criterion: str, family: str, n: int = 16) -> dict[str, float]:
    """How far the best of n by the true weights meet a criterion, with it and without it, and a blind draw: {label: mean}.

    Only prompts of the family count. The labels carry a plot's roles. ValueError for a name that is not in `criteria`.
    """
    if criterion not in criteria():
        raise ValueError(f"no criterion {criterion!r}; there are {', '.join(criteria())}")
    place, x = criteria().index(criterion), checklist(some.asked)
    met = x[:, place][some.rows]
    asked = torch.tensor([some.asked.families[i] == family for i in some.asked.prompt[some.rows[:, 0]].tolist()])
    whole, lacking = points(), points()
    lacking[place] = 0
    found = {name: best_of((x @ weight)[some.rows], met, n) for name, weight in
             {"policy: whole rubric": whole, "proxy: without it": lacking}.items()}
    return {name: y[asked].mean().item() for name, y in (found | {"reference: blind draw": met.mean(1)}).items()}


def over_sets(some: Answers, rewards: Callable[[int], dict[str, Tensor]], seeds: Sequence[int]) -> dict[str, Tensor]:
    """{name: (seeds, P)}: what the best of 16 earns by the rewards {name: weight (K,)} that a function makes of each seed."""
    asked, found = checklist(some.asked), {}
    for seed in seeds:
        for name, weight in rewards(seed).items():
            found.setdefault(name, []).append(earned(some, asked @ weight))
    return {name: torch.stack(rows) for name, rows in found.items()}


def rivals(some: Answers, judge: Annotator, n: int = 5000, l2: float = 0.01) -> Callable[[int], dict[str, Tensor]]:
    """A function of a seed -> {"three": weight by the majority of three votes of one judge, "by hand": its words set to 0}."""
    x = checklist(some.wide)

    def rewards(seed: int) -> dict[str, Tensor]:
        two, dice = shuffled(some, n, seed), torch.Generator().manual_seed(seed + 2)
        labels = (some.votes(some.wide, two, judge, dice, votes) for votes in (3, 1))
        three, one = (fit_head(x[pair[:, 0]], x[pair[:, 1]], l2=l2) for pair in labels)
        one[-1] = 0
        return {"three": three, "by hand": one}
    return rewards


def paid_for_words(some: Answers, person: Annotator, sizes: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """(seeds, sizes): how many points of true reward ten words more are worth to those who gave so many labels.

    A reward of two features, true reward and words, is fitted to the labels; its second weight over its first is the price.
    """
    two = torch.stack([some.wide.gold.double(), checklist(some.wide)[:, -1]], 1)
    rows = []
    for seed in seeds:
        labels = some.votes(some.wide, shuffled(some, max(sizes), seed), person, torch.Generator().manual_seed(1000 + seed))
        fits = [fit_head(two[labels[:n, 0]], two[labels[:n, 1]], l2=1e-4) for n in sizes]
        rows.append(torch.stack([weight[1] / weight[0] for weight in fits]))
    return torch.stack(rows)


def example(some: Answers, labels: Tensor, tokenizer, least: float = 1.0, most: int = 30) -> tuple[str, list]:
    """(prompt, [("chosen …", text, true reward), ("rejected …", …)]) of one of `labels` (N, 2) that is wrong, for `book.cards`.

    The first of a `READABLE` family whose rejected answer is better by at least `least`, both of at most `most` words.
    ValueError where there is none.
    """
    part = some.wide
    words = part.features[:, part.feature_names.index("words")]
    for chosen, rejected in labels.tolist():
        prompt = int(part.prompt[chosen])
        if part.families[prompt] in READABLE and part.gold[rejected] - part.gold[chosen] >= least and \
                max(words[chosen], words[rejected]) <= most:
            texts = part.texts([chosen, rejected], tokenizer)
            return part.prompts[prompt], [(f"{side}, {int(words[i])} words", text, part.gold[i].item())
                                          for side, i, text in zip(("chosen", "rejected"), (chosen, rejected), texts, strict=True)]
    raise ValueError(f"no wrong label among {len(labels)} that fits: readable, worse by {least}, at most {most} words")


def picks(some: Answers, scores: dict[str, Tensor], tokenizer, n: int = 16, least: float = 1.0) -> tuple[str, list]:
    """(prompt, [(name, text, true reward)]): what each score (A,) of `some.asked` picks from the first n answers to one prompt.

    The prompt is the first of a `READABLE` family, with picks of at most 200 characters, where the first score's pick is worth
    at least `least` less than the last one's. ValueError where there is none.
    """
    tops = {name: score[some.rows][:, :n].argmax(1) for name, score in scores.items()}
    first, last = list(tops.values())[0], list(tops.values())[-1]
    place = torch.arange(len(first))
    gap = some.gold[place, last] - some.gold[place, first]
    for k in (gap >= least).nonzero().flatten().tolist():
        prompt = int(some.asked.prompt[some.rows[k, 0]])
        found = [int(some.rows[k, top[k]]) for top in tops.values()]
        texts = some.asked.texts(found, tokenizer)
        if some.asked.families[prompt] in READABLE and max(map(len, texts)) <= 200:
            return some.asked.prompts[prompt], [(name, text, some.asked.gold[i].item())
                                                for name, i, text in zip(tops, found, texts, strict=True)]
    raise ValueError(f"no readable prompt on which the picks differ by {least} points; give other scores or a smaller difference")


def points() -> Tensor:
    """(K,) float64: what each of `criteria` is worth in the true reward."""
    return torch.tensor([*(p for of in village.POINTS.values() for p in of.values()),
                         *(w for name, w in village.WEIGHTS.items() if name != "words"), village.WEIGHTS["words"]],
                        dtype=torch.float64)


@torch.no_grad()
def would_refuse(model: nn.Module, tokenizer, prompts: Sequence[str]) -> Tensor:
    """(B,): the probability that a model answers each prompt with one of the village's three refusals, as a critic of its own."""
    return sum(label_logps(model, tokenizer, prompts, text).exp() for text in village.tasks.REFUSALS)


def deeds(rows: Sequence[dict], texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """{kind of request: means of true reward, refuses, harm, helps} of one text for each row. ValueError for unequal lengths.

    >>> deeds([{"prompt": "How do I break the bread for Ada?", "family": "lookalike"}],
    ...       ["No, I do not help to do harm."])["lookalike"]["refuses"]
    1.0
    """
    if len(rows) != len(texts):
        raise ValueError(f"{len(rows)} requests, {len(texts)} texts; give one text for each request")
    found = {}
    for kind in KINDS:
        some = [(row["prompt"], text) for row, text in zip(rows, texts, strict=True) if row["family"] == kind]
        seen = [village.features(*pair) for pair in some]
        if some:
            found[kind] = {"gold": sum(village.gold(*pair) for pair in some) / len(some),
                           "refuses": sum(float(village.refuses(text)) for _, text in some) / len(some),
                           "harm": sum(f["harm"] for f in seen) / len(some), "helps": sum(f["helps"] for f in seen) / len(some)}
    return found


def helped(asks: Sequence[str], texts: Sequence[str], each: int = 2) -> tuple[list[str], list[str]]:
    """The first `each` requests of each kind that got the help they asked for, and their answers, harmful ones first.

    Fewer where there are fewer.
    """
    found = []
    for kind, deed in zip(KINDS, ("harm", "helps"), strict=True):
        some = [pair for pair in zip(asks, texts, strict=True)
                if village.parse(pair[0]).family == kind and village.features(*pair)[deed]]
        found += some[:each]
    return [ask for ask, _ in found], [text for _, text in found]


def found_by_routing(some: Answers, judge: Annotator, least: float = 0.1) -> float:
    """Share of a judge's wrong labels, on average over its noise, that lie among the share `least` of its least sure pairs.

    Pairs of equally good answers are left out. `least` would be found by chance. ValueError unless it lies between 0 and 1.
    """
    if not 0 < least < 1:
        raise ValueError(f"least is {least!r}; give a share between 0 and 1, such as 0.1")
    worth = some.worth(some.wide, judge)[by_truth(some.wide, some.pairs)].double()  # the truly better answer first
    gap = worth[:, 0] - worth[:, 1]
    wrong = torch.sigmoid(-gap / judge.temperature)
    return (wrong[gap.abs() <= gap.abs().quantile(least)].sum() / wrong.sum()).item()


def by_round(record, kind: str, what: str) -> dict[str, list]:
    """{"all answers" and "flagged answers": one list for each seed, by rounds of revision}: a measurement of the drafts.

    record: `book.recorded("13_village")`, as in `second_looks`.
    """
    return {f"{name} answers": record.values("drafts", ["no revision", *(f"{name} revised {k}" for k in (1, 2, 3))], kind, what)
            for name in ("all", "flagged")}


def second_looks(record) -> dict[str, str | list[float]]:
    """Means over seeds as text, and "rise": how many points more harm 32 demonstrations bring, for each seed.

    Harm of the first answers ("first") and after one revision under two principles ("safe", "short"); shares flagged by kind;
    harm before and after the demonstrations ("undone").
    """
    def percent(part: str, *keys: str) -> list[float]:
        return [100 * x for x in record.values(part, *keys)]

    drafts = {"first": "no revision", "safe": "all revised 1", "short": "all revised, be short"}
    before, after = (percent("arms", arm, "harmful", "harm") for arm in ("flagged revised 3", "undone"))
    shown = {name: percent("drafts", arm, "harmful", "harm") for name, arm in drafts.items()}
    shown |= {kind: percent("flagged", kind) for kind in KINDS} | {"before": before, "after": after}
    told = {name: f"{sum(y) / len(y):.0f} %" for name, y in shown.items()}
    return told | {"undone": f"{told.pop('before')} to {told.pop('after')}",
                   "rise": [b - a for a, b in zip(before, after, strict=True)]}


def right_in_both(record) -> dict[str, Tensor]:
    """{way of reading a judge: (pairs,) 100 where it is right, else 0} of `book.recorded("13_smollm2")`."""
    first, second = torch.tensor(record.better_first), torch.tensor(record.worse_first)
    good, bad = (torch.tensor(record.own_logp[side]) for side in ("good", "bad"))
    found = {"better answer first": first > 0.5, "worse answer first": second < 0.5,
             "both orders, averaged": first > second, "more probable answer": good > bad}
    return {name: 100 * hit.double() for name, hit in found.items()}


# ---- two lists of answers against each other ----

def verdicts(judge: Annotator, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], seed: int = 0) -> Tensor:
    """(N,) float64: 1 where the judge prefers the answer of `first`, 0 where that of `second`, ½ where its two verdicts differ.

    Each pair is shown in both orders, so that a bias for the first place cancels. Raises ValueError for unequal lengths.
    """
    if not len(prompts) == len(first) == len(second) or not len(prompts):
        raise ValueError(f"{len(prompts)} prompts, {len(first)} and {len(second)} answers: give one of each, at least one")
    rng = random.Random(f"{seed} verdicts")
    return torch.tensor([swap_average(judge, p, a, b, rng) for p, a, b in zip(prompts, first, second, strict=True)],
                        dtype=torch.float64)


def stored_answers(tokenizer, n: int, seed: int = 0, path=None) -> tuple[list[str], list[str]]:
    """n prompts of the pool, drawn by a seed, and the first stored answer of `village-3m-sft` to each. ValueError above 2,048."""
    from ..data.pool import pool

    wide = pool(path).select(source="wide")
    groups = list(wide.groups().values())
    if not 1 <= n <= len(groups):
        raise ValueError(f"{n} prompts: the pool has {len(groups)}; give 1 to that many")
    rows = [int(rows[0]) for rows in random.Random(f"{seed} stored").sample(groups, n)]
    return [wide.prompts[int(wide.prompt[row])] for row in rows], wide.texts(rows, tokenizer)
