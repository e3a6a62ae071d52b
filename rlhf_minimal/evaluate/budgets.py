"""The same number of labels, spent in different ways: which pairs, whose answers, how many votes, comparisons or edits.

Everything is read from the stored answers of the village's models, so that a label costs microseconds. The prompts on which the
fitted rewards are tried are never labelled.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import models
from ..best_of_n import curve
from ..data.collate import collate_demonstrations
from ..data.pool import Pool, pool
from ..reward_model import fit_head, last_states
from ..village import Annotator
from .exams import clustered

READABLE = ("fact", "opinion", "harmful", "lookalike", "story", "summary")  # families whose answers a person can judge at sight
EACH = 64  # stored answers to a prompt on which a reward is tried


@dataclass
class Answers:
    """Answers to pick from, and pairs of answers to other prompts to label.

    wide: the policy's own answers, four to each of about two thousand prompts; pairs (N, 2): places in it. few: answers of
    the policy and of the base model to the same 32 prompts. asked, rows (P, 64): the answers that a reward picks from.
    """

    wide: Pool
    pairs: Tensor
    few: dict[str, Pool]
    asked: Pool
    rows: Tensor
    _worth: dict = field(default_factory=dict, repr=False)

    @property
    def state(self) -> Tensor:
        """(P, 64, H): last hidden states of the policy on prompt and answer."""
        return self.asked.state[self.rows]

    @property
    def gold(self) -> Tensor:
        """(P, 64): the true reward."""
        return self.asked.gold[self.rows].double()

    def worth(self, part: Pool, person: Annotator) -> Tensor:
        """(N,): what each answer is worth to this person."""
        key = id(part), repr(person)
        if key not in self._worth:
            self._worth[key] = part.utilities(person)
        return self._worth[key]

    def votes(self, part: Pool, two: Tensor, person: Annotator, generator: torch.Generator, votes: int = 1) -> Tensor:
        """Pairs (N, 2) by the majority of an odd number of votes: chosen, rejected."""
        worth = self.worth(part, person)[two]
        p = torch.sigmoid((worth[:, 0] - worth[:, 1]) / person.temperature)
        first = (torch.rand(len(two), votes, generator=generator) < p[:, None]).double().mean(1) > 0.5
        return torch.where(first[:, None], two, two.flip(1))


def answers(path=None) -> Answers:
    """The stored answers, split: the prompts to pick on are neither labelled nor among the 32 of the base model."""
    stored = pool(path)
    own, wide = stored.select(source="village-3m-sft"), stored.select(source="wide")
    base = stored.select(source="village-3m")
    shared = set(base.prompt.tolist())
    known = torch.tensor([i in shared for i in range(len(stored.prompts))])
    few = {"its own answers": own.take(known[own.prompt]), "the base model's answers": base}
    groups = [rows[:EACH] for i, rows in own.groups().items() if i not in shared and len(rows) >= EACH]
    reserved = {stored.prompts[i] for i in own.prompt.unique().tolist()}
    two = torch.cat([g[torch.combinations(torch.arange(len(g)))] for g in wide.groups().values()])
    two = two[(wide.ids[two[:, 0]] != wide.ids[two[:, 1]]).any(1)]
    taken = torch.tensor([text in reserved for text in stored.prompts])
    return Answers(wide, two[~taken[wide.prompt[two[:, 0]]]], few, own, torch.stack(groups))


def one_each(prompt: Tensor, two: Tensor, generator: torch.Generator) -> Tensor:
    """Pairs in a random order, only the first of each prompt: (N, 2), prompt of each place -> (M, 2).

    >>> one_each(torch.tensor([0, 0, 1, 1]), torch.tensor([[0, 1], [1, 0], [2, 3]]), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 2])
    """
    two = two[torch.randperm(len(two), generator=generator)]
    seen, keep = set(), []
    for i, asked in enumerate(prompt[two[:, 0]].tolist()):
        if asked not in seen:
            seen.add(asked)
            keep.append(i)
    return two[keep]


def of_few(part: Pool, n: int, generator: torch.Generator) -> Tensor:
    """n pairs of different answers, the prompts of a small pool in turn -> (n, 2) places in it."""
    groups, found = list(part.groups().values()), []
    while len(found) < n:
        group = groups[len(found) % len(groups)]
        i, j = group[torch.randperm(len(group), generator=generator)[:2]].tolist()
        if part.ids[i].tolist() != part.ids[j].tolist():
            found.append((i, j))
    return torch.tensor(found)


def to_label(some: Answers, n: int, tokenizer, generator: torch.Generator, *, differ: bool = True) -> list[dict]:
    """n pairs for a person, one for each prompt of the `READABLE` families: rows with prompt, response_a, response_b.

    differ: only pairs that differ in what can be seen at once: flattery, bold print, or at least five words.
    """
    part = some.wide
    seen = part.features[:, [part.feature_names.index(name) for name in ("words", "flattery", "markup")]]
    gap = (seen[some.pairs[:, 0]] - seen[some.pairs[:, 1]]).abs()
    fit = torch.tensor([family in READABLE for family in part.families])[part.prompt[some.pairs[:, 0]]]
    if differ:
        fit &= (gap >= torch.tensor([5.0, 0.5, 0.5])).any(1)
    two = one_each(part.prompt, some.pairs[fit], generator)[:n]
    texts = [part.texts(side.tolist(), tokenizer) for side in two.T]
    return [{"prompt": part.prompts[int(part.prompt[i])], "response_a": a, "response_b": b}
            for i, a, b in zip(two[:, 0].tolist(), *texts, strict=True)]


def seen_in(some: Answers) -> Tensor:
    """(P, 64, 4): the surface features (`audit.SEEN`) of the answers that a reward picks from."""
    places = [some.asked.feature_names.index(name) for name in ("words", "flattery", "markup", "ungrammatical")]
    return some.asked.features[some.rows][..., places] * torch.tensor([0.1, 1.0, 1.0, 1.0])


def best_of(score: Tensor, value: Tensor, n: int = 16) -> Tensor:
    """(P,): expected value of the best of n answers by a score, for each prompt; score, value (P, G).

    >>> best_of(torch.tensor([[0.0, 1.0]]), torch.tensor([[5.0, 7.0]]), 2).tolist()
    [7.0]
    """
    return curve(score.flatten(), value.double().flatten(), score.shape[1], [n])[:, 0]


def picked(some: Answers, score: Tensor, n: int = 16) -> dict[str, Tensor]:
    """What the best of n answers by a score (P, 64) is like, (P,) each: does it flatter, its words, its true reward."""
    seen = seen_in(some)
    return {name: best_of(score, value, n) for name, value in
            {"flatters": seen[..., 1], "words": 10 * seen[..., 0], "true reward": some.gold}.items()}


def mean_pick(picks: list[dict[str, Tensor]]) -> dict[str, tuple[float, float]]:
    """Several `picked`, averaged prompt by prompt -> {what: (mean, half width of the 95 % interval over prompts)}."""
    return {name: clustered(torch.stack([one[name] for one in picks]).mean(0)) for name in picks[0]}


def edits(some: Answers, two: Tensor, person: Annotator, seed: int) -> tuple[Tensor, Tensor]:
    """States of edited answers and of the originals, (M, H) each: the person improves the first of each pair, if she can."""
    model, tokenizer = models.load(some.asked.meta["model"])
    rng, rows, places = random.Random(seed), [], []
    for place in two[:, 0].tolist():
        prompt = some.wide.prompts[int(some.wide.prompt[place])]
        before = some.wide.texts([place], tokenizer)[0]
        after = person.edit(prompt, before, rng)
        if after != before:
            rows.append({"prompt": prompt, "completion": after})
            places.append(place)
    return states(model, tokenizer, rows), some.wide.state[places]


def states(model, tokenizer, rows: list[dict]) -> Tensor:
    """Last hidden states (N, H) of rows with prompt and completion; short rows go together, so that little is padded."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["prompt"]) + len(rows[i]["completion"]))
    found = []
    for k in range(0, len(order), 64):
        batch = collate_demonstrations([rows[i] for i in order[k:k + 64]], tokenizer)
        found.append(last_states(model, batch["ids"], batch["attention"]))
    return torch.cat(found)[torch.tensor(order).argsort()]


def ways(some: Answers, person: Annotator, n: int, seed: int, *, edited: bool = True) -> Iterator[tuple[str, Tensor, Tensor]]:
    """n labels, spent in six ways -> (name, states of the chosen, states of the rejected answers).

    An edit costs as much as four comparisons (`village.EFFORT`), so there are n / 4 of them; `edited=False` leaves them out.
    """
    def fresh() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    wide, two = some.wide, one_each(some.wide.prompt, some.pairs, fresh())
    for name, pairs, votes in (("one vote a pair", two[:n], 1), ("three votes a pair", two[:n // 3], 3)):
        chosen = some.votes(wide, pairs, person, fresh(), votes)
        yield name, wide.state[chosen[:, 0]], wide.state[chosen[:, 1]]
    for name, part in some.few.items():
        chosen = some.votes(part, of_few(part, n, fresh()), person, fresh())
        yield f"32 prompts: {name}", part.state[chosen[:, 0]], part.state[chosen[:, 1]]
    if edited:
        yield ("edits", *edits(some, two[:n // 4], person, seed))
    coin = torch.rand(n, generator=fresh()) < 0.5
    chosen = torch.where(coin[:, None], two[:n], two[:n].flip(1))
    yield "coin flips", wide.state[chosen[:, 0]], wide.state[chosen[:, 1]]


def fresh_pairs(some: Answers, each: int = 200, seed: int = 0, apart: float = 0.5) -> list[Tensor]:
    """For each prompt that is never labelled: pairs (M, 2) of its answers, the truly better one first, at least `apart` better."""
    dice, found = torch.Generator().manual_seed(seed), []
    for gold in some.gold:
        two = torch.randint(len(gold), (each, 2), generator=dice)
        two = torch.where((gold[two[:, 0]] >= gold[two[:, 1]])[:, None], two, two.flip(1))
        found.append(two[gold[two[:, 0]] - gold[two[:, 1]] >= apart])
    return found


def right(some: Answers, weight: Tensor, fresh: list[Tensor], least: int = 20) -> Tensor:
    """For each prompt with `least` fresh pairs: the share of them that a linear reward orders as the true reward does."""
    score = some.state @ weight.to(some.state.dtype)
    return torch.stack([(row[two[:, 0]] > row[two[:, 1]]).double().mean()
                        for row, two in zip(score, fresh, strict=True) if len(two) >= least])


def compare(some: Answers, person: Annotator, n: int, seeds, fit: Callable = fit_head) -> dict[str, Tensor]:
    """{way: (seeds, P) share of fresh pairs ordered right}; the ridge penalty is 0.03 for all.

    Edits have to be read by the model, which takes longest: there is one set of them, of the first seed.
    """
    fresh, found = fresh_pairs(some), {}
    for k, seed in enumerate(seeds):
        for name, chosen, rejected in ways(some, person, n, seed, edited=k == 0):
            found.setdefault(name, []).append(right(some, fit(chosen, rejected, l2=0.03), fresh))
    return {name: torch.stack(rows) for name, rows in found.items()}


def over_prompts(shares: Tensor) -> tuple[float, float]:
    """(mean, half width of the 95 % interval over prompts) of (seeds, P), each prompt averaged over the label sets."""
    return clustered(shares.mean(0))


def mean_of(picks: list[dict[str, Tensor]], what: str) -> Tensor:
    """(P,): one column of several `picked`, averaged."""
    return torch.stack([one[what] for one in picks]).mean(0)


def lengths(some: Answers, generator: torch.Generator, least: int = 3) -> tuple[Tensor, Tensor]:
    """One pair for each prompt whose answers differ by `least` words -> (longer minus shorter in tens of words, in true reward)."""
    part = some.wide
    words, two = part.features[:, part.feature_names.index("words")], one_each(part.prompt, some.pairs, generator)
    gap = words[two[:, 0]] - words[two[:, 1]]
    two, gap = two[gap.abs() >= least], gap[gap.abs() >= least]
    two = torch.where((gap > 0)[:, None], two, two.flip(1))
    return gap.abs().double() / 10, (part.gold[two[:, 0]] - part.gold[two[:, 1]]).double()
