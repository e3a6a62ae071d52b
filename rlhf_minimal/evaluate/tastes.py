"""Stories that differ in their ending, and what readers with different tastes say of them: comparisons, rankings, ratings, thumbs.

Nothing here learns. A label is made by drawing one reader from a crowd for every question, as labelling services do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import data, village
from ..best_of_n import curve
from ..reward_model import fit_head, last_states, pairwise_loss, plackett_luce_loss, rating_loss
from ..sampling import sample
from ..village import Crowd, Reader, ending
from ..village.annotator import EULER
from ..village.grid import gumbel
from .metrics import wilson

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
    return _open(village.prompts(600, seed=5, split="test", families=("story",)), n)


def unjudged_requests(read: Stories, n: int = 40) -> list[dict]:
    """n requests as `open_requests`, each about another subject, for which `read` holds no story: no reader judged an answer.

    They are training requests, for the test requests of this kind are about five subjects only.
    """
    judged, found = set(read.requests), {}
    for row in village.prompts(3000, seed=5, split="train", families=("story",), distinct=False):
        if row["prompt"] not in judged and _is_open(row):
            found.setdefault(village.parse(row["prompt"]).info["hero"], row)
    return _open(list(found.values()), n)


def _is_open(row: dict) -> bool:
    info = village.parse(row["prompt"]).info
    return not info["mood"] and info["count"] == 2


def _open(rows: list[dict], n: int) -> list[dict]:
    some = [row for row in rows if _is_open(row)]
    if len(some) < n:
        raise ValueError(f"{n} requests asked for, the village has {len(some)} of this kind")
    return some[:n]


def subjects(some: Stories, keep: int) -> list[str]:
    """Whom each request of `write` asks about: one name for every `keep` stories."""
    return [village.parse(request).info["hero"] for request in some.requests[::keep]]


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


def example(some: Stories) -> tuple[str, list[tuple[str, str, float]]]:
    """A request that leaves the mood open, and a happy and a sad story for it, both perfect: for `book.cards`.

    Raises ValueError where no request got both.
    """
    found: dict[str, dict[str, tuple[str, str, float]]] = {}
    for request, text, end, gold in zip(some.requests, some.texts, some.ends, some.gold.tolist(), strict=True):
        if gold > 2.99 and end in ENDS and not village.parse(request).info["mood"]:
            found.setdefault(request, {}).setdefault(end, (f"a {end} end", text, gold))
            if len(found[request]) == 2:
                return request, [found[request][name] for name in ENDS]
    raise ValueError(f"none of {len(set(some.requests))} requests got a perfect story of both endings; give more stories")


# --- what readers say -------------------------------------------------------------------------------------------------
def _people(some: Stories, crowd: Crowd, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Who answers each of n questions (n,); what every story is worth to each member (members, N); their noise."""
    plain = all(r.tie == r.flip == r.position_bias == 0 and r.drift is None for r in crowd.annotators)
    if not plain or not all(isinstance(r, Reader) for r in crowd.annotators):
        raise ValueError("the crowd holds somebody who is no plain village.Reader; ties, flips, position bias and drift are for "
                         "Annotator.compare and its like")
    who = torch.multinomial(torch.tensor(crowd.shares, dtype=torch.float32), n, replacement=True, generator=generator)
    worth = torch.tensor([[r.worth(end, gold) for end, gold in zip(some.ends, some.gold.tolist(), strict=True)]
                          for r in crowd.annotators])
    noise = torch.tensor([max(r.temperature, 1e-9) for r in crowd.annotators])
    return who, worth, noise


def pairs(some: Stories, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """n pairs of a happy and a sad story, which is first by chance: two (n,) tensors of rows. ValueError without one of each."""
    sides = [[i for i, end in enumerate(some.ends) if end == name] for name in ENDS]
    if not all(sides):
        raise ValueError(f"{len(sides[0])} happy and {len(sides[1])} sad stories; a pair needs one of each")
    happy, sad = (torch.tensor(rows)[torch.randint(len(rows), (n,), generator=generator)] for rows in sides)
    swap = torch.rand(n, generator=generator) < 0.5
    return torch.where(swap, sad, happy), torch.where(swap, happy, sad)


def compare(some: Stories, crowd: Crowd, n: int, seed: int) -> tuple[Tensor, Tensor, list[str]]:
    """n comparisons of a happy and a sad story, each by one reader of the crowd -> rows chosen, rows rejected (n,), who.

    The first is chosen with probability sigmoid((u1 - u2) / temperature), as `Reader.compare` does. who: the `group` of the
    reader. Raises ValueError where somebody in the crowd is no plain `village.Reader`.
    """
    generator = torch.Generator().manual_seed(seed)
    (first, second), (who, worth, noise) = pairs(some, n, generator), _people(some, crowd, n, generator)
    won = torch.rand(n, generator=generator) < ((worth[who, first] - worth[who, second]) / noise[who]).sigmoid()
    groups = [crowd.annotators[k].group for k in who.tolist()]
    return torch.where(won, first, second), torch.where(won, second, first), groups


def rank(some: Stories, crowd: Crowd, n: int, seed: int, *, size: int = 4) -> Tensor:
    """n rankings of `size` random stories, best first: (n, size) rows. Sorted by u / temperature + Gumbel noise (Plackett-Luce)."""
    generator = torch.Generator().manual_seed(seed)
    who, worth, noise = _people(some, crowd, n, generator)
    rows = torch.rand(n, len(some), generator=generator).topk(size, 1)[1]
    felt = worth[who[:, None], rows] / noise[who, None] + gumbel(rows.shape, generator)
    return rows.gather(1, felt.argsort(1, descending=True))


def rate(some: Stories, crowd: Crowd, n: int, seed: int, *, levels: int = 5, reach: float = 2.0) -> tuple[Tensor, Tensor]:
    """n readers, each rates a happy and a sad story from 1 to `levels` -> rows (n, 2), ratings (n, 2) float, in mixed order.

    Felt is the utility with noise, temperature times a centred Gumbel, as `Reader.rate`; -reach to reach is cut into levels of
    equal width, and what lies outside gets the lowest or the highest rating. Two equal ratings are a tie.
    """
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2:
        raise ValueError(f"levels is {levels!r}; give 5, 8, or any whole number > 1")
    generator = torch.Generator().manual_seed(seed)
    rows, (who, worth, noise) = torch.stack(pairs(some, n, generator), 1), _people(some, crowd, n, generator)
    felt = worth[who[:, None], rows] + noise[who, None] * (gumbel(rows.shape, generator) - EULER)
    scale, offset = (torch.tensor([getattr(r, k) for r in crowd.annotators])[who, None] for k in ("scale", "offset"))
    stars = 1 + ((offset + scale * felt + reach) / (2 * reach) * levels).floor()
    return rows, stars.clamp(1, levels).float()


def thumbs(some: Stories, crowd: Crowd, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n thumbs, up with probability sigmoid(u / temperature) -> rows (n,) of happy and sad stories, 1.0 for up, 0.0 for down."""
    generator = torch.Generator().manual_seed(seed)
    (rows, _), (who, worth, noise) = pairs(some, n, generator), _people(some, crowd, n, generator)
    up = torch.rand(n, generator=generator) < (worth[who, rows] / noise[who]).sigmoid()
    return rows, up.float()


def fit(states: Tensor, loss: Callable[[Tensor], Tensor], *, l2: float = 0.2, steps: int = 60) -> Tensor:
    """The linear reward that makes loss(scores of all N rows) + l2 |w|^2 smallest, with a constant that is not penalised.

    states (N, H), standardised; loss: scores (N,) -> a number, convex. Quasi-Newton (L-BFGS). Returns the weight (H,).
    """
    weight, constant = torch.zeros(states.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, constant], max_iter=steps, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        total = loss(states @ weight + constant) + l2 * weight.square().sum()
        total.backward()
        return total

    optimizer.step(closure)
    return weight.detach()


def four_questions(some: Stories, crowd: Crowd, n: int, seed: int, *, l2: float = 0.2) -> dict[str, tuple[Tensor, float | None]]:
    """One crowd asked in four ways, n answers each -> {question: (weight of the reward that fits best, share of ties)}.

    Comparisons: Bradley-Terry. Rankings of four: Plackett-Luce. Thumbs: logistic regression. Ratings from 1 to 8:
    least squares on the ratings in units of their standard deviation. A ranking counts as one answer, a rating as well.
    """
    x = some.states

    def bt(score, chosen, rejected):
        return pairwise_loss(score[chosen], score[rejected])[0]

    chosen, rejected, _ = compare(some, crowd, n, seed)
    order = rank(some, crowd, n, seed)
    liked, up = thumbs(some, crowd, n, seed)
    found = {"comparison": (fit(x, lambda s: bt(s, chosen, rejected), l2=l2), None),
             "ranking of four": (fit(x, lambda s: plackett_luce_loss(s[order], torch.arange(4).expand(n, 4))[0], l2=l2), None),
             "thumb": (fit(x, lambda s: F.binary_cross_entropy_with_logits(s[liked], up), l2=l2), None)}
    rows, stars = rate(some, crowd, n // 2, seed, levels=8)
    y = (stars - stars.mean()) / stars.std()
    weight = fit(x, lambda s: rating_loss(s[rows].flatten(), y.flatten())[0], l2=l2)
    found["rating, 1 to 8"] = weight, (stars[:, 0] == stars[:, 1]).double().mean().item()
    return found


# --- what becomes of it -----------------------------------------------------------------------------------------------
def scores(old: Stories, new: Stories, crowd: Crowd, seeds: Iterable[int], *, n: int = 20_000, l2: float = 0.2) -> Tensor:
    """The scores of `new` stories, (seeds, N): for each seed a linear reward fitted to n comparisons of `old` ones by a crowd."""
    found = []
    for seed in seeds:
        chosen, rejected, _ = compare(old, crowd, n, seed)
        found.append(new.states @ fit_head(old.states[chosen], old.states[rejected], l2=l2))
    return torch.stack(found)


def own_reward(old: Stories, new: Stories, chosen: Tensor, rejected: Tensor, who: list[str], camp: str) -> float:
    """How often a camp gets the ending it likes from the best of all stories by a reward fitted to its own labels alone.

    chosen, rejected, who: of `compare` on `old`; camp: "happy" or "sad". The stories of one request stand together in `new`.
    """
    rows = torch.tensor([group == camp for group in who])
    score = new.states @ fit_head(old.states[chosen[rows]], old.states[rejected[rows]], l2=0.2)
    keep = next((i for i, request in enumerate(new.requests) if request != new.requests[0]), len(new))
    happy = best_of(new, score, keep, [keep]).mean().item()
    return happy if camp == "happy" else 1 - happy


def served(got: float | dict[str, float], share: float) -> dict[str, float]:
    """Readers who get the ending they like, in each camp and together.

    got: how often everybody gets a happy end, or {"happy": …, "sad": …}, how often each camp gets its own. share: of the happy
    camp among all readers.
    """
    each = got if isinstance(got, dict) else {"happy": got, "sad": 1 - got}
    return {"happy camp": each["happy"], "sad camp": each["sad"], "all readers": share * each["happy"] + (1 - share) * each["sad"]}


def spread(shares: Tensor) -> dict[str, str]:
    """Shares (sets of labels, requests) in words: mean, its 95 % interval over requests, and the range over the sets.

    The interval is Wilson's over the requests, so it stays inside 0 to 100 %. It is meant for a request that ends either way;
    where several sets of labels are averaged the shares vary less than that, and it is too wide rather than too narrow.

    >>> spread(torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    {'best of 16': '75 %', '95 % interval': '20 to 97 %', 'five sets of labels': '50 to 100 %'}
    """
    mean, sets = shares.mean().item(), 100 * shares.mean(1)
    low, high = wilson(mean, shares.shape[1])
    return {"best of 16": f"{100 * mean:.0f} %", "95 % interval": f"{100 * low:.0f} to {100 * high:.0f} %",
            "five sets of labels": f"{sets.min():.0f} to {sets.max():.0f} %"}


def share_of(shares: Tensor, groups: list[str]) -> dict[str, str]:
    """Shares (sets of labels, requests) in words: the mean of all, and its 95 % interval over groups of requests.

    groups: one name for each request. Requests about one subject are alike, so the subject is the unit: with the residuals
    e of the G groups' sums, the variance of the mean of N requests is G / (G - 1) sum e^2 / N^2. ValueError for one group.

    >>> share_of(torch.tensor([[1.0, 1.0, 0.5, 1.0]]), ["a", "a", "b", "c"])
    {'best of 16': '88 %', '95 % interval': '59 to 100 %'}
    """
    names = list(dict.fromkeys(groups))
    if len(names) < 2:
        raise ValueError(f"{len(names)} group of requests; an interval needs at least 2")
    each = shares.double().mean(0)
    mean = each.mean().item()
    off = [sum(v - mean for v, name in zip(each.tolist(), groups, strict=True) if name == one) for one in names]
    half = 1.96 * (len(names) / (len(names) - 1) * sum(v * v for v in off)) ** 0.5 / len(groups)
    low, high = max(mean - half, 0.0), min(mean + half, 1.0)
    return {"best of 16": f"{100 * mean:.0f} %", "95 % interval": f"{100 * low:.0f} to {100 * high:.0f} %"}


def best_of(some: Stories, score: Tensor, keep: int, ns: Iterable[int]) -> Tensor:
    """Share of happy ends among the best of n by `score`: (requests, len(ns)), each n averaged over all subsets of the stories."""
    return curve(score, some.happy, keep, list(ns))


def tilted_share(some: Stories, score: Tensor, keep: int, beta: float) -> Tensor:
    """Share of happy ends under pi ∝ exp(score / beta) over the stories of each request: (requests,)."""
    weight = (score.double().view(-1, keep) / beta).softmax(1)
    return (weight * some.happy.double().view(-1, keep)).sum(1)
