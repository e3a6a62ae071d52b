"""An audit of preference labels: what they favour, with intervals over the people who labelled and over the prompts.

A label is one row: prompt, chosen, rejected, and where it is known the rater and whether the chosen answer stood first.
"""

from __future__ import annotations

import itertools
import random
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from .. import SHIPPED
from ..data import load_data, save_jsonl
from ..village import Annotator, features, gold, panel
from .metrics import cohen_kappa

_features = lru_cache(maxsize=8192)(features)  # several groups may have labelled the same answers

LEANINGS = {"the longer": "words", "the flattering": "flattery", "the marked-up": "markup", "the broken": "ungrammatical"}

SEEN = ("ten more words", "flattery", "bold print", "broken text")


def variance(values: Tensor, clusters: Sequence) -> float:
    """Variance of the mean of values (N,) when those of one cluster may resemble each other.

    Sum over clusters of (sum of the deviations in it)^2, over N^2, with the factor C / (C - 1) for C clusters.

    >>> variance(torch.tensor([0.0, 0.0, 1.0, 1.0]), "aabb"), round(variance(torch.tensor([0.0, 0.0, 1.0, 1.0]), "abcd"), 3)
    (0.25, 0.083)
    """
    names = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    if len(names) < 2 or len(clusters) != len(values):
        raise ValueError(f"{len(values)} values, {len(clusters)} names of {len(names)} clusters; give a name for each, at least 2")
    values = values.double()
    place = torch.tensor([names[name] for name in clusters])
    sums = torch.zeros(len(names), dtype=torch.float64).index_add_(0, place, values - values.mean())
    return (sums.square().sum() / len(values) ** 2 * len(names) / (len(names) - 1)).item()


def two_way(values: Tensor, raters: Sequence, prompts: Sequence) -> tuple[float, float]:
    """(mean, half width of the 95 % interval) of labels (N,), clustered over raters and over prompts.

    The variance is that over raters plus that over prompts minus that over single labels, which both count; at least the
    larger of the two. Cameron, Gelbach & Miller 2011.

    >>> two_way(torch.tensor([1.0, 1.0, 0.0, 0.0]), "aabb", "xyxy")[0]
    0.5
    """
    over_raters, over_prompts = variance(values, raters), variance(values, prompts)
    both = over_raters + over_prompts - variance(values, range(len(values)))
    return values.double().mean().item(), 1.96 * max(both, over_raters, over_prompts) ** 0.5


def crossed(values: Tensor) -> tuple[float, float]:
    """(mean, half width of the 95 % interval) of a matrix (R, P): a row for each rater, a column for each prompt. As `two_way`.

    >>> crossed(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))[0]
    0.5
    """
    raters, prompts = values.shape
    return two_way(values.flatten(), [i for i in range(raters) for _ in range(prompts)], list(range(prompts)) * raters)


def many_way(values: Tensor, *clusterings: Sequence) -> tuple[float, float]:
    """(mean, half width of the 95 % interval) of values (N,), clustered in several ways at once.

    Inclusion and exclusion: variances over each way, minus those over what two share, plus those over what three share; at
    least the largest of the first. Cameron, Gelbach & Miller 2011.

    >>> many_way(torch.tensor([1.0, 1.0, 0.0, 0.0]), "aabb", "xyxy") == two_way(torch.tensor([1.0, 1.0, 0.0, 0.0]), "aabb", "xyxy")
    True
    """
    total = 0.0
    for size in range(1, len(clusterings) + 1):
        for some in itertools.combinations(clusterings, size):
            total += (-1) ** (size + 1) * variance(values, list(zip(*some, strict=True)))
    return values.double().mean().item(), 1.96 * max(total, *(variance(values, names) for names in clusterings)) ** 0.5


def differences(rows: Iterable[dict]) -> dict[str, Tensor]:
    """For each leaning, chosen minus rejected of the feature that it is about, (N,); the text is all that is read."""
    both = [[_features(str(row["prompt"]), row[side]) for side in ("chosen", "rejected")] for row in rows]
    return {name: torch.tensor([a[key] - b[key] for a, b in both]) for name, key in LEANINGS.items()}


def sample(name: str) -> list[dict]:
    """Pairs of a shipped sample, in the columns of a public set: hh_style or shp_style. What cannot be used is left out quietly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(load_data(SHIPPED / f"samples/{name}.jsonl", "pairs"))


def surface(rows: Sequence[dict]) -> tuple[Tensor, Tensor]:
    """What can be counted in the chosen and in the rejected answers, (N, 4) each: `SEEN`, with words in tens."""
    sides = [[_features(str(row["prompt"]), row[side]) for row in rows] for side in ("chosen", "rejected")]
    chosen, rejected = (torch.tensor([[counted(f)[k] for k in SEEN] for f in side]).view(-1, len(SEEN)) for side in sides)
    return chosen, rejected


def counted(f: dict[str, float]) -> dict[str, float]:
    """The four surface features of an answer from its village features.

    >>> counted({"words": 20, "flattery": 1.0, "markup": 0.0, "ungrammatical": 0.5})
    {'ten more words': 2.0, 'flattery': 1.0, 'bold print': 0.0, 'broken text': 0.5}
    """
    return dict(zip(SEEN, (f["words"] / 10, f["flattery"], f["markup"], f["ungrammatical"]), strict=True))


def kappa(a: Sequence, b: Sequence, generator: torch.Generator, times: int = 400) -> tuple[float, float, float]:
    """(Cohen's kappa of two raters, ends of its 95 % interval): their common items drawn anew `times` times."""
    a, b = list(a), list(b)
    found = []
    for _ in range(times):
        some = torch.randint(len(a), (len(a),), generator=generator).tolist()
        pair = [a[i] for i in some], [b[i] for i in some]
        if len(set(pair[0]) | set(pair[1])) > 1:  # one label for everything has no kappa
            found.append(cohen_kappa(*pair))
    low, high = torch.tensor(found).quantile(torch.tensor([0.025, 0.975])).tolist()
    return cohen_kappa(a, b), low, high


def _ahead(rows: Sequence[dict]) -> list[float]:
    """How much the first answer (response_a) of each row is truly better; 0 where the two are equally good."""
    return [gold(row["prompt"], row["response_a"]) - gold(row["prompt"], row["response_b"]) for row in rows]


def clear(rows: Sequence[dict]) -> float:
    """Share of the pairs (prompt, response_a, response_b) of which one answer is truly better."""
    return sum(abs(x) > 0.02 for x in _ahead(rows)) / len(rows)


def beside_truth(a: Sequence[float], b: Sequence[float], rows: Sequence[dict]) -> dict[str, float]:
    """Votes of two people on the same pairs (1: the first answer wins) -> shares: how often they agree, and are right.

    "agree" counts all pairs; "agree, clear" and "vote right" (mean of the two) only those of which one answer is truly better.
    """
    ahead = _ahead(rows)
    if not len(a) == len(b) == len(ahead):
        raise ValueError(f"{len(a)} and {len(b)} votes on {len(ahead)} pairs: give a vote of each for every pair")
    on = [(x, y, float(gap > 0)) for x, y, gap in zip(a, b, ahead, strict=True) if abs(gap) > 0.02]
    n = max(1, len(on))
    return {"agree": sum(x == y for x, y in zip(a, b, strict=True)) / len(ahead), "agree, clear": sum(x == y for x, y, _ in on) / n,
            "vote right": sum((x == t) + (y == t) for x, y, t in on) / (2 * n)}


HIDDEN = {"the longer": {"length_bias": 1.5}, "the flattering": {"weights": {"flattery": 2.0}},
          "the first shown": {"position_bias": 0.7}}


def groups(seed: int, n: int = 600, people: int = 8) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """Four groups of people label the same n pairs -> (their rows by group, the hidden bias of each group but "plain").

    Each pair is labelled once in every group, by one of its people, with noise of that group's own. Which of A to C has which
    bias of `HIDDEN` is drawn from the seed.
    """
    secret = dict(zip("ABC", random.Random(f"{seed} hidden").sample(list(HIDDEN), len(HIDDEN)), strict=True))
    crowds = {name: panel([Annotator(name=f"{name} {k}", temperature=0.5, **HIDDEN.get(secret.get(name), {}))
                           for k in range(people)]) for name in ("plain", *secret)}
    sets = {"plain": list(load_data("pool", "pairs", n=n, seed=seed, annotator=crowds["plain"]))}
    return sets | {name: relabel(sets["plain"], crowds[name], random.Random(f"{seed} votes of {name}")) for name in secret}, secret


def relabel(rows: Sequence[dict], people, dice: random.Random) -> list[dict]:
    """The same pairs, shown in the same order, labelled anew by an `Annotator` or `Crowd`; no ties."""
    found = []
    for row in rows:
        first, second = ("chosen", "rejected") if row["chosen_first"] else ("rejected", "chosen")
        who = people.draw(dice)
        won = who.compare(row["prompt"], row[first], row[second], dice) == 1.0
        sides = dict(zip(("chosen", "rejected"), (first, second) if won else (second, first), strict=True))
        moved = {side: row[theirs] for side, theirs in sides.items()}
        gold = {f"gold_{side}": row[f"gold_{theirs}"] for side, theirs in sides.items() if f"gold_{theirs}" in row}
        found.append({**row, **moved, **gold, "rater": who.name, "chosen_first": won})
    return found


def shortest(rows: Sequence[dict], leaning: str) -> int:
    """The number of the row with the least text among those whose chosen answer has more of a leaning: one to show."""
    gap = _gaps(rows)[leaning].tolist()
    return min((i for i, more in enumerate(gap) if more > 0),
               key=lambda i: sum(len(str(rows[i][k])) for k in ("prompt", "chosen", "rejected")))


def as_hh(rows: Sequence[dict]) -> list[dict]:
    """Labels in the columns of Anthropic/hh-rlhf: chosen and rejected, each a whole transcript with the prompt in it."""
    return [{side: f"\n\nHuman: {row['prompt']}\n\nAssistant: {row[side]}" for side in ("chosen", "rejected")} for row in rows]


def as_shp(rows: Sequence[dict]) -> list[dict]:
    """Labels in columns of stanfordnlp/SHP: the post, two comments as they were shown, and labels, 1 where the first won."""
    found = []
    for row in rows:
        first, second = (row["chosen"], row["rejected"])[::1 if row["chosen_first"] else -1]
        found.append({"history": row["prompt"], "human_ref_A": first, "human_ref_B": second, "labels": int(row["chosen_first"])})
    return found


def read_back(rows: Sequence[dict]) -> list[dict]:
    """Rows in the columns of a public set, written as JSON Lines and read by `load_data`, as a downloaded set would be."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(load_data(save_jsonl(rows, Path(folder) / "rows.jsonl"), "pairs"))


def against(rows: Sequence[dict], plain: Sequence[dict]) -> dict[str, tuple[float, float]]:
    """{leaning: (share of `rows` minus share of `plain`, half width)}: two groups' labels of the same pairs in one order.

    The difference is taken pair by pair and clustered over the people of either group and over prompts.
    """
    if [{r["chosen"], r["rejected"]} for r in rows] != [{r["chosen"], r["rejected"]} for r in plain]:
        raise ValueError("the two groups labelled different pairs, or in another order: give both the same pairs")
    found, gaps = {}, _gaps(rows)
    for name, theirs in _gaps(plain).items():
        mine = gaps[name]
        keep = mine.abs().gt(1e-6).nonzero()[:, 0].tolist()
        change = (mine[keep] > 0).double() - (theirs[keep] > 0).double()
        found[name] = many_way(change, [rows[i]["rater"] for i in keep], [plain[i]["rater"] for i in keep],
                               [str(rows[i]["prompt"]) for i in keep])
    return found


def _gaps(rows: Sequence[dict]) -> dict[str, Tensor]:
    """`differences`, and +1 or -1 for the chosen answer shown first or second."""
    shown = {"the first shown": torch.tensor([2.0 * row["chosen_first"] - 1 for row in rows])} if "chosen_first" in rows[0] else {}
    return differences(rows) | shown


def leanings(rows: Sequence[dict]) -> dict[str, tuple[float, float]]:
    """{leaning: (share of the labels that chose that answer, half width)}, among pairs of which one answer has more of it.

    With a column `rater`, intervals are clustered over raters and prompts, otherwise over prompts alone. "the first shown" needs
    a column chosen_first. A leaning with fewer than 8 such pairs, or in fewer than 2 clusters, is left out.
    """
    found = {}
    for name, gap in _gaps(rows).items():
        keep = gap.abs().gt(1e-6).nonzero()[:, 0].tolist()
        liked = (gap[keep] > 0).double()
        prompts = [str(rows[i]["prompt"]) for i in keep]
        raters = [rows[i].get("rater") or "" for i in keep]
        if len(keep) < 8 or len(set(prompts)) < 2:
            continue
        found[name] = (two_way(liked, raters, prompts) if len(set(raters)) > 1
                       else (liked.mean().item(), 1.96 * variance(liked, prompts) ** 0.5))
    return found


def panel_labels(
    gap: Tensor, quality: Tensor, raters: int, generator: torch.Generator, *, mean: float = 0.3, spread: float = 0.4,
    temperature: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Labels of many people on the same pairs -> (chose the longer (raters, N), its mean over all people (N,)).

    gap (N,): length of the longer answer minus the shorter, in tens of words; quality (N,): their difference in true reward.
    Each person has a length bias of her own, normal with this mean and spread, in points per ten words.
    """
    def chance(bias: Tensor) -> Tensor:
        return torch.sigmoid((quality + bias[:, None] * gap) / temperature)

    bias = mean + spread * torch.randn(raters, generator=generator, dtype=torch.float64)
    everybody = mean + spread * torch.distributions.Normal(0, 1).icdf((torch.arange(200, dtype=torch.float64) + 0.5) / 200)
    p = chance(bias)
    return (torch.rand(p.shape, generator=generator, dtype=torch.float64) < p).double(), chance(everybody).mean(0)


def coverage(
    gap: Tensor, quality: Tensor, *, generator: torch.Generator, raters: int = 12, pairs: int = 40, times: int = 300,
) -> dict[str, float]:
    """How often a 95 % interval holds the truth, for four ways of counting -> {way: share}.

    gap, quality (N,): one pair for each of N prompts, all that there are. Each time, `raters` people label the same `pairs`
    of them. The truth is the mean over all pairs and all possible people.
    """
    hits = dict.fromkeys(("single labels", "prompts", "people", "people and prompts"), 0)
    for _ in range(times):
        some = torch.randperm(len(gap), generator=generator)[:pairs]
        liked, expected = panel_labels(gap, quality, raters, generator)
        truth, x = expected.mean().item(), liked[:, some].flatten()
        who = torch.arange(raters).repeat_interleave(pairs).tolist()
        what = torch.arange(pairs).repeat(raters).tolist()
        half = {"single labels": 1.96 * variance(x, range(len(x))) ** 0.5, "prompts": 1.96 * variance(x, what) ** 0.5,
                "people": 1.96 * variance(x, who) ** 0.5, "people and prompts": two_way(x, who, what)[1]}
        for name, width in half.items():
            hits[name] += abs(x.mean().item() - truth) <= width
    return {name: count / times for name, count in hits.items()}
