"""The same number of labels, spent in different ways: which pairs, whose answers, how many votes for each pair.

Everything is read from the stored answers of the village's models, so that a label costs microseconds. The prompts on which the
fitted rewards are tried are never labelled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..active import closest, most_disputed
from ..best_of_n import curve
from ..data.pool import Pool, pool
from ..reward_model import fit_head
from ..village import Annotator
from .audit import SEEN, two_way
from .exams import clustered

READABLE = ("fact", "opinion", "harmful", "lookalike", "story", "summary")  # families whose answers a person can judge at sight
LEAST = 20  # fresh pairs of a prompt, or it is left out
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


def example(some: Answers, score: Tensor, tokenizer, n: int = 16) -> tuple[str, dict[str, str]]:
    """(prompt, {"blind draw: true reward …", "best of n: …": text}) for the best of n by a score (P, 64), chosen by a rule.

    The first `READABLE` prompt with two answers of at most 80 characters on which the pick flatters, the blind draw (the first
    stored answer) does not, and the pick is worth less. Where there is no such prompt, the first readable one.
    """
    flat, top = seen_in(some)[..., 1], score[:, :n].argmax(1)
    asked = some.asked.prompt[some.rows[:, 0]].tolist()
    readable = [k for k, i in enumerate(asked) if some.asked.families[i] in READABLE and len(some.asked.prompts[i]) < 60]

    def told(k: int) -> dict[str, str]:
        two = 0, int(top[k])
        texts = some.asked.texts([int(some.rows[k, j]) for j in two], tokenizer)
        names = (f"{who}: true reward {some.gold[k, j]:.2f}" for who, j in zip(("blind draw", f"best of {n}"), two, strict=True))
        return dict(zip(names, texts, strict=True))

    for k in readable:
        if flat[k, top[k]] > flat[k, 0] and some.gold[k, top[k]] < some.gold[k, 0]:
            found = told(k)
            if max(map(len, found.values())) <= 80:
                return some.asked.prompts[asked[k]], found
    return some.asked.prompts[asked[readable[0]]], told(readable[0])


WAYS = {  # (prompts, pairs, votes for each pair) as shares of the number of votes
    "a new prompt for every vote": (1, 1, 1), "three votes a pair, majority": (1 / 3, 1 / 3, 3),
    "three votes a pair, all kept": (1 / 3, 1 / 3, 3), "three pairs a prompt": (1 / 3, 1, 1), "only 32 prompts": (None, 1, 1),
    "only 32 prompts, another model's answers": (None, 1, 1), "half at random, half the closest": (1, 1, 1),
    "half at random, half the most disputed": (1, 1, 1), "no noise at all": (1, 1, 1), "coin flips": (1, 1, 1)}
FREELY = "a new prompt for every vote"


def planned(n: int) -> dict[str, dict[str, int]]:
    """What each way of spending n votes buys -> {way: {prompts, pairs, votes for each}}.

    >>> planned(300)["three votes a pair, majority"]
    {'prompts': 100, 'pairs': 100, 'votes for each': 3}
    """
    return {name: {"prompts": 32 if prompts is None else round(n * prompts), "pairs": round(n * pairs), "votes for each": votes}
            for name, (prompts, pairs, votes) in WAYS.items()}


def three_each(some: Answers, n: int, generator: torch.Generator) -> Tensor:
    """Three pairs of answers to each of n prompts that have as many -> (3 n, 2)."""
    two = some.pairs[torch.randperm(len(some.pairs), generator=generator)].tolist()
    groups: dict[int, list] = {}
    for pair in two:
        groups.setdefault(int(some.wide.prompt[pair[0]]), []).append(pair)
    enough = [group[:3] for group in groups.values() if len(group) >= 3]
    if len(enough) < n:
        raise ValueError(f"three pairs for each of {n} prompts; only {len(enough)} prompts have three: give at most as many")
    return torch.tensor(enough[:n]).flatten(0, 1)


def by_truth(part: Pool, two: Tensor) -> Tensor:
    """Pairs (N, 2), the one of higher true reward first; pairs of equal reward are left out."""
    gold = part.gold[two]
    two = torch.where((gold[:, 0] >= gold[:, 1])[:, None], two, two.flip(1))
    return two[(gold[:, 0] - gold[:, 1]).abs() > 0.02]  # stored in half precision


def actively(some: Answers, person: Annotator, two: Tensor, n: int, by: str, seed: int, l2: float = 0.03) -> Tensor:
    """n of the pairs (N, 2), one vote each -> chosen, rejected (n, 2). Half are the first, half are chosen by a first reward.

    by: "closest", the pairs on which that reward is least sure (`active.closest`), or "disputed", those on which five rewards,
    fitted to resamples of the first votes, differ most (`active.most_disputed`).
    """
    dice, half, state = torch.Generator().manual_seed(seed), n // 2, some.wide.state
    first, rest = some.votes(some.wide, two[:half], person, dice), two[half:]
    gap, apart = state[first[:, 0]] - state[first[:, 1]], state[rest[:, 0]] - state[rest[:, 1]]
    nothing = torch.zeros_like(gap)
    if by == "closest":
        keep = closest(apart @ fit_head(gap, nothing, l2=l2), n - half)
    else:
        draws = [torch.randint(half, (half,), generator=dice) for _ in range(5)]
        keep = most_disputed(torch.stack([apart @ fit_head(gap[d], nothing, l2=l2) for d in draws]), n - half)
    return torch.cat([first, some.votes(some.wide, rest[keep], person, dice)])


def spend(some: Answers, person: Annotator, n: int, seed: int, name: str) -> tuple[Pool, Tensor]:
    """n votes, spent in one of the `WAYS` -> (pool, places (M, 2) in it of the chosen and of the rejected answers).

    Where all three votes are kept, a pair stands there once for each vote. Without noise, pairs of equal reward are left out.
    The ways share the order of the prompts; each has random numbers of its own for the votes.
    """
    def fresh(k: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(seed + 7919 * k)

    if name not in WAYS:
        raise ValueError(f"no way {name!r} of spending votes; expected one of {', '.join(WAYS)}")
    wide, two = some.wide, one_each(some.wide.prompt, some.pairs, fresh())
    third = two[:n // 3]
    if name.startswith("only 32"):
        part = some.few["the base model's answers" if "another" in name else "its own answers"]
        return part, some.votes(part, of_few(part, n, fresh(8)), person, fresh(9))
    if name.startswith("half"):
        return wide, actively(some, person, two, n, "closest" if "closest" in name else "disputed", seed + 7919 * 11)
    if name == "three votes a pair, majority":
        return wide, some.votes(wide, third, person, fresh(2), 3)
    if name == "three votes a pair, all kept":
        return wide, torch.cat([some.votes(wide, third, person, fresh(k)) for k in (3, 4, 5)])
    if name == "three pairs a prompt":
        return wide, some.votes(wide, three_each(some, n // 3, fresh(6)), person, fresh(7))
    if name == "no noise at all":
        return wide, by_truth(wide, two[:n])
    if name == "coin flips":
        coin = torch.rand(n, generator=fresh(10)) < 0.5
        return wide, torch.where(coin[:, None], two[:n], two[:n].flip(1))
    return wide, some.votes(wide, two[:n], person, fresh(1))


def accuracy(some: Answers, person: Annotator, two: Tensor) -> tuple[float, float]:
    """How often one vote, and the majority of three, names the better of two answers that are not equally good."""
    worth = some.worth(some.wide, person)[by_truth(some.wide, two)].double()
    q = torch.sigmoid((worth[:, 0] - worth[:, 1]) / person.temperature)
    return q.mean().item(), (3 * q**2 - 2 * q**3).mean().item()


def fresh_pairs(some: Answers, each: int = 200, seed: int = 0, apart: float = 0.5) -> list[Tensor]:
    """For each prompt that is never labelled: pairs (M, 2) of its answers, the truly better one first, at least `apart` better."""
    dice, found = torch.Generator().manual_seed(seed), []
    for gold in some.gold:
        two = torch.randint(len(gold), (each, 2), generator=dice)
        two = torch.where((gold[two[:, 0]] >= gold[two[:, 1]])[:, None], two, two.flip(1))
        found.append(two[gold[two[:, 0]] - gold[two[:, 1]] >= apart])
    return found


def right(some: Answers, weight: Tensor, fresh: list[Tensor]) -> Tensor:
    """For each prompt with `LEAST` fresh pairs: the share of them that a linear reward orders as the true reward does."""
    score = some.state @ weight.to(some.state.dtype)
    return torch.stack([(row[two[:, 0]] > row[two[:, 1]]).double().mean()
                        for row, two in zip(score, fresh, strict=True) if len(two) >= LEAST])


def compare(some: Answers, person: Annotator, n: int, seeds: Sequence[int], names: Sequence[str] = tuple(WAYS), *,
            l2: float = 0.03, fit: Callable = fit_head) -> dict[str, Tensor]:
    """{way: (seeds, P) share of fresh pairs ordered right}, a set of labels for each seed; one ridge penalty for all ways."""
    fresh, found = fresh_pairs(some), {}
    for name in names:
        for seed in seeds:
            part, two = spend(some, person, n, seed, name)
            weight = fit(part.state[two[:, 0]], part.state[two[:, 1]], l2=l2)
            found.setdefault(name, []).append(right(some, weight, fresh))
    return {name: torch.stack(rows) for name, rows in found.items()}


def by_rule(some: Answers, what: str, sets: int) -> Tensor:
    """(sets, P), equal rows: the share of fresh pairs that a rule without votes orders right; equal answers count half.

    what: one of `audit.SEEN`; the answer with less of it wins.
    """
    score, shares = -seen_in(some)[..., SEEN.index(what)], []
    for row, two in zip(score, fresh_pairs(some), strict=True):
        if len(two) >= LEAST:
            gap = row[two[:, 0]] - row[two[:, 1]]
            shares.append(((gap > 0).double() + 0.5 * (gap == 0).double()).mean())
    return torch.stack(shares).expand(sets, -1)


def over_both(shares: Tensor) -> tuple[float, float]:
    """(mean, half width of the 95 % interval) of (sets, P), clustered over the sets of labels and over the prompts."""
    sets, prompts = shares.shape
    return two_way(shares.flatten(), torch.arange(sets).repeat_interleave(prompts).tolist(),
                   torch.arange(prompts).repeat(sets).tolist())


def bill(spent: dict[str, Tensor], first: str = FREELY) -> dict[str, dict]:
    """Rows of a table, in percent: {way: (sets, P) shares} -> {way: {"ordered right, %", "minus 300 prompts"}}, (mean, half)."""
    base = spent[first]
    return {name: {"ordered right, %": over_both(100 * x), "minus 300 prompts": None if x is base else over_both(100 * (x - base))}
            for name, x in spent.items()}


def behind(spent: dict[str, Tensor], first: str = FREELY) -> dict[str, tuple[float, float]]:
    """{way, broken at its comma: (difference to `first` in percentage points, half width)} of the other rows."""
    return {name.replace(", ", ",\n"): row["minus 300 prompts"] for name, row in bill(spent, first).items() if name != first}


def both_pick(
    picks: list[dict[str, Tensor]], columns: Sequence[str] = ("flatters", "true reward"), *, percent: bool = False,
) -> dict[str, tuple[float, float]]:
    """Several `picked` -> {what: (mean, half width)}, clustered over prompts and, where there are several, over them too.

    percent: everything times 100, for a share such as "flatters".
    """
    scale = 100 if percent else 1
    rows = {name: scale * torch.stack([one[name] for one in picks]) for name in columns}
    return {name: over_both(x) if len(x) > 1 else clustered(x[0]) for name, x in rows.items()}


def ahead(picks: list[dict[str, Tensor]], others: list[dict[str, Tensor]], what: str = "true reward") -> tuple[float, float]:
    """(mean, half width) of the difference of two arms in one column, prompt by prompt; one of the arms may have several sets."""
    sets = max(len(picks), len(others))
    first, second = (torch.stack([one[what] for one in (arm if len(arm) == sets else arm * sets)]) for arm in (picks, others))
    return over_both(first - second) if sets > 1 else clustered((first - second)[0])


def signed(first: Tensor, second: Tensor) -> str:
    """The difference of two ways of `compare` in percentage points, as text with its sign and interval."""
    return "{:+.1f} ± {:.1f}".format(*over_both(100 * (first - second))).replace("-", "−")


def guide(some: Answers, person: Annotator, n: int, seed: int) -> str:
    """True reward of the best of 16 by a reward fitted to n single votes, minus a blind draw: text with sign and interval."""
    part, two = spend(some, person, n, seed, FREELY)
    weight = fit_head(part.state[two[:, 0]], part.state[two[:, 1]], l2=0.03)
    best, blind = picked(some, some.state @ weight.to(some.state.dtype)), picked(some, some.gold, n=1)
    return "{:+.2f} ± {:.2f}".format(*ahead([best], [blind])).replace("-", "−")


def lengths(some: Answers, generator: torch.Generator, least: int = 3) -> tuple[Tensor, Tensor]:
    """One pair for each prompt whose answers differ by `least` words -> (longer minus shorter in tens of words, in true reward)."""
    part = some.wide
    words, two = part.features[:, part.feature_names.index("words")], one_each(part.prompt, some.pairs, generator)
    gap = words[two[:, 0]] - words[two[:, 1]]
    two, gap = two[gap.abs() >= least], gap[gap.abs() >= least]
    two = torch.where((gap > 0)[:, None], two, two.flip(1))
    return gap.abs().double() / 10, (part.gold[two[:, 0]] - part.gold[two[:, 1]]).double()
