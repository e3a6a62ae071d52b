"""Stories that differ in their ending, and what readers with different tastes say of them: comparisons, rankings, ratings, thumbs.

Nothing here learns. A label is made by drawing one reader from a crowd for every question, as labelling services do.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import data, village
from ..best_of_n import curve
from ..reward_model import last_states
from ..sampling import sample
from ..village import Crowd, ending

ENDS = ("happy", "sad")


@dataclass(frozen=True, eq=False)
class Stories:
    """N stories with a clear ending."""

    requests: list[str]
    texts: list[str]
    ends: list[str]  # "happy", "sad" or "quiet"
    states: Tensor  # (N, H) last hidden state of the language model after request and story
    gold: Tensor  # (N,) true reward

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def happy(self) -> Tensor:
        """(N,) 1.0 where the story ends happily."""
        return torch.tensor([float(end == "happy") for end in self.ends])

    def take(self, rows: Iterable[int]) -> Stories:
        """The stories of some rows."""
        rows = [int(i) for i in rows]
        return Stories(*([x[i] for i in rows] for x in (self.requests, self.texts, self.ends)), self.states[rows], self.gold[rows])

    def standardised(self, like: Stories) -> Stories:
        """The same stories, their states minus the mean and divided by the standard deviation of those of `like`, per entry."""
        states = (self.states - like.states.mean(0)) / like.states.std(0).clamp(min=1e-6)
        return Stories(self.requests, self.texts, self.ends, states, self.gold)


def stories(requests: list[str], texts: list[str], states: Tensor, gold: Tensor, ends: Iterable[str] = ENDS) -> Stories:
    """Those of N texts whose ending is clear and among `ends`."""
    found, wanted = [ending(text) for text in texts], set(ends)
    everything = Stories(list(requests), list(texts), found, states, torch.as_tensor(gold, dtype=torch.float32))
    return everything.take([i for i, end in enumerate(found) if end in wanted])


def stored(tokenizer, ends: Iterable[str] = ENDS) -> Stories:
    """The stories of the Pool that the finished village model wrote and that end clearly in one of `ends`.

    Their requests are training requests, some of which ask for a mood. tokenizer: of `village-3m-sft`.
    """
    pool = data.pool()
    rows = torch.tensor([family == "story" for family in pool.families])[pool.prompt] & (pool.source < 2)
    some = pool.take(rows)
    return stories([some.prompts[i] for i in some.prompt.tolist()], some.texts(range(len(some)), tokenizer), some.state, some.gold,
                   ends)


def open_requests(n: int = 20) -> list[dict]:
    """n different test requests for a story of two sentences that leave the mood open, with `prompt` and `family`."""
    rows = village.prompts(600, seed=5, split="test", families=("story",))
    some = [row for row in rows if not (info := village.parse(row["prompt"]).info)["mood"] and info["count"] == 2]
    if len(some) < n:
        raise ValueError(f"{n} requests asked for, the village has {len(some)} of this kind")
    return some[:n]


@torch.no_grad()
def write(
    model: nn.Module, tokenizer, rows: list[dict], *, keep: int = 16, draws: int = 42, requests: int | None = None,
    max_new_tokens: int = 56, generator: torch.Generator | None = None,
) -> Stories:
    """Let a model answer each request `draws` times; the first `keep` stories that end happily or sadly, request by request.

    A request with fewer such stories is left out; `requests`: stop after that many others. Returns Stories in which every
    `keep` rows answer one request. Raises ValueError where too few requests are left.
    """
    out = sample(model, data.prompts_ids(rows, tokenizer), n=draws, max_new_tokens=max_new_tokens,
                 eos_id=tokenizer.eos_token_id, generator=generator)
    texts, chosen = out.texts(tokenizer), []
    for k in range(len(rows)):
        good = [i for i in range(k * draws, (k + 1) * draws) if ending(texts[i]) in ENDS]
        chosen += good[:keep] if len(good) >= keep else []
    chosen = chosen[: keep * (requests or len(rows))]
    if len(chosen) < keep * (requests or 1):
        raise ValueError(f"{len(chosen) // keep} of {len(rows)} requests got {keep} happy or sad stories in {draws} draws, "
                         f"{requests or 1} are needed; raise draws or give more requests")
    asked = [rows[i // draws]["prompt"] for i in chosen]
    told = [texts[i] for i in chosen]
    gold = torch.tensor([village.gold(a, b) for a, b in zip(asked, told, strict=True)])
    return stories(asked, told, last_states(model, out.ids[chosen], out.attention[chosen]), gold)


# --- what readers say -------------------------------------------------------------------------------------------------
def pairs(some: Stories, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n pairs of a happy and a sad story, which is first by chance: two (n,) tensors of rows."""
    generator = torch.Generator().manual_seed(seed)
    sides = [[i for i, end in enumerate(some.ends) if end == name] for name in ENDS]
    if not all(sides):
        raise ValueError(f"{len(sides[0])} happy and {len(sides[1])} sad stories; a pair needs one of each")
    happy, sad = (torch.tensor(rows)[torch.randint(len(rows), (n,), generator=generator)] for rows in sides)
    swap = torch.rand(n, generator=generator) < 0.5
    return torch.where(swap, sad, happy), torch.where(swap, happy, sad)


def compare(some: Stories, crowd: Crowd, n: int, seed: int) -> tuple[Tensor, Tensor, list[str]]:
    """n comparisons of a happy and a sad story, each by one reader of the crowd -> rows chosen, rows rejected (n,), who.

    who: the `group` of the reader. A tie is decided by chance.
    """
    rng, (first, second) = random.Random(seed), pairs(some, n, seed)
    quality, chose, who = some.gold.tolist(), [], []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        reader = crowd.draw(rng)
        answer = reader.compare("", *(reader.worth(some.ends[i], quality[i]) for i in (a, b)), rng)
        chose.append(rng.random() < 0.5 if answer == 0.5 else answer == 1.0)
        who.append(reader.group)
    won = torch.tensor(chose)
    return torch.where(won, first, second), torch.where(won, second, first), who


def rank(some: Stories, crowd: Crowd, n: int, seed: int, *, size: int = 4) -> Tensor:
    """n rankings of `size` random stories, best first: (n, size) rows."""
    rng, quality, lists = random.Random(seed), some.gold.tolist(), []
    for _ in range(n):
        rows, reader = rng.sample(range(len(some)), size), crowd.draw(rng)
        order = reader.rank("", [reader.worth(some.ends[i], quality[i]) for i in rows], rng)
        lists.append([rows[i] for i in order])
    return torch.tensor(lists)


def rate(some: Stories, crowd: Crowd, n: int, seed: int, *, levels: int = 5) -> tuple[Tensor, Tensor]:
    """n ratings of single stories from 1 to `levels` -> rows (n,), ratings (n,) float."""
    rng, quality, rows, stars = random.Random(seed), some.gold.tolist(), [], []
    for _ in range(n):
        i, reader = rng.randrange(len(some)), crowd.draw(rng)
        rows.append(i)
        stars.append(reader.stars(reader.worth(some.ends[i], quality[i]), rng, levels=levels))
    return torch.tensor(rows), torch.tensor(stars, dtype=torch.float32)


def thumbs(some: Stories, crowd: Crowd, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n thumbs, up for a felt utility above 0 -> rows (n,), 1.0 for up and 0.0 for down (n,)."""
    rng, quality, rows, up = random.Random(seed), some.gold.tolist(), [], []
    for _ in range(n):
        i, reader = rng.randrange(len(some)), crowd.draw(rng)
        rows.append(i)
        up.append(float(reader.thumbs("", reader.worth(some.ends[i], quality[i]), rng, threshold=0.0)))
    return torch.tensor(rows), torch.tensor(up)


# --- what becomes of it -----------------------------------------------------------------------------------------------
def best_of(some: Stories, score: Tensor, keep: int, ns: Iterable[int]) -> Tensor:
    """Share of happy ends among the best of n by `score`: (requests, len(ns)), each n averaged over all subsets of the stories."""
    return curve(score, some.happy, keep, list(ns))


def tilted_share(some: Stories, score: Tensor, keep: int, beta: float) -> Tensor:
    """Share of happy ends under pi ∝ exp(score / beta) over the stories of each request: (requests,)."""
    weight = (score.double().view(-1, keep) / beta).softmax(1)
    return (weight * some.happy.double().view(-1, keep)).sum(1)
