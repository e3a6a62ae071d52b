"""A proxy fitted to comparisons of stored answers, and what becomes of the true reward when it is pushed.

The stored answers of `village-3m-sft` come in two parts that share no prompt: one is labelled, the other one is where a
proxy is pushed. Nothing is sampled here, so that best-of-512 costs milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..best_of_n import curve, kl_bound
from ..data.pool import Pool, pool
from ..reward_model import fit_head, last_state


@dataclass
class Bench:
    """P prompts with G stored answers each, and pairs of answers to other prompts for people to label."""

    asked: Pool  # the P * G answers to push on
    rows: Tensor  # (P, G) their places in `asked`
    wide: Pool  # the answers that are labelled
    pairs: Tensor  # (N, 2) places in `wide` of two different answers to one prompt
    gold: Tensor  # (P, G) float64, true reward
    state: Tensor  # (P, G, H) last hidden states of the model that wrote them
    surprise: Tensor  # (P, G) float64, minus the mean log-probability per token, in nats
    _felt: dict = field(default_factory=dict, repr=False)

    def labels(self, person, n: int, generator: torch.Generator, *, without: Tensor | None = None) -> Tensor:
        """n pairs as this person would label them -> (n, 2) places in `wide`: chosen, rejected.

        without (M, 2): pairs that must not be among them. Raises ValueError where fewer than n pairs are left.
        """
        pairs = self.pairs if without is None else self.pairs[~torch.isin(self._code(self.pairs), self._code(without))]
        if not 1 <= n <= len(pairs):
            raise ValueError(f"n={n}: there are {len(pairs)} pairs to label; give 1 to {len(pairs)}")
        if person.name not in self._felt:
            self._felt[person.name] = self.wide.utilities(person)
        two = pairs[torch.randperm(len(pairs), generator=generator)[:n]]
        worth = self._felt[person.name][two]
        first = torch.rand(n, generator=generator) < torch.sigmoid((worth[:, 0] - worth[:, 1]) / person.temperature)
        return torch.where(first[:, None], two, two.flip(1))

    def neighbours(self, person, generator: torch.Generator) -> Tensor:
        """Pairs of the very answers to push on, as this person would label them -> (n, 2) places in `gold.flatten()`.

        Each answer is in one pair at most, with another one to its prompt; pairs of equal answers are left out.
        """
        worth = self.asked.utilities(person)[self.rows]  # (P, G)
        deal = torch.rand(worth.shape, generator=generator).argsort(1)
        two = deal[:, :deal.shape[1] // 2 * 2] + torch.arange(len(worth))[:, None] * worth.shape[1]
        two, rows = two.reshape(-1, 2), self.rows.flatten()
        two = two[(self.asked.ids[rows[two[:, 0]]] != self.asked.ids[rows[two[:, 1]]]).any(1)]
        more = worth.flatten()[two[:, 0]] - worth.flatten()[two[:, 1]]
        first = torch.rand(len(two), generator=generator) < torch.sigmoid(more / person.temperature)
        return torch.where(first[:, None], two, two.flip(1))

    def states(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states of the chosen and of the rejected answers, (n, H) each."""
        return self.wide.state[labels[:, 0]], self.wide.state[labels[:, 1]]

    def text(self, prompt: int, answer: int, tokenizer) -> str:
        """One of the answers as text."""
        return self.asked.texts([self.rows[prompt, answer]], tokenizer)[0]

    def prompt(self, i: int) -> str:
        """The i-th prompt as text."""
        return self.asked.prompts[int(self.asked.prompt[self.rows[i, 0]])]

    def _code(self, two: Tensor) -> Tensor:
        """One number for each pair, whatever its order."""
        return two.amin(1) * len(self.wide) + two.amax(1)


def bench(each: int = 512, path=None) -> Bench:
    """The prompts of the stored pool that have `each` answers, and all pairs of answers to *other* prompts.

    Raises ValueError where no prompt has so many.
    """
    stored = pool(path)
    asked, wide = stored.select(source="village-3m-sft"), stored.select(source="wide")
    groups = [rows for rows in asked.groups().values() if len(rows) == each]
    if not groups:
        raise ValueError(f"no prompt has {each} answers; the pool has {sorted({len(x) for x in asked.groups().values()})}")
    rows, reserved = torch.stack(groups), {stored.prompts[i] for i in asked.groups()}
    two = torch.cat([g[torch.combinations(torch.arange(len(g)))] for g in wide.groups().values()])
    two = two[(wide.ids[two[:, 0]] != wide.ids[two[:, 1]]).any(1)]
    known = torch.tensor([text in reserved for text in stored.prompts])
    surprise = -asked.logp[rows].double().sum(-1) / asked.lengths[rows]
    return Bench(asked, rows, wide, two[~known[wide.prompt[two[:, 0]]]], asked.gold[rows].double(), asked.state[rows], surprise)


def standardised(score: Tensor) -> Tensor:
    """Scores (P, G), centred within each prompt, in units of their mean standard deviation within a prompt.

    Comparisons say nothing about a prompt's level, so only differences within a prompt have a meaning.

    >>> [round(x, 3) for x in standardised(torch.tensor([[1.0, 3.0]]))[0].tolist()]
    [-0.707, 0.707]
    """
    centred = score.double() - score.double().mean(1, keepdim=True)
    return centred / centred.std(1).mean()


def fitted(bench: Bench, person, n: int, generator: torch.Generator, *, without: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A linear head fitted to n labels of a person -> (its standardised scores (P, G), the labels (n, 2) that it read)."""
    labels = bench.labels(person, n, generator, without=without)
    weight = fit_head(*bench.states(labels), l2=0.03)
    return standardised(bench.state @ weight.to(bench.state.dtype)), labels


def judge(bench: Bench, model, person, n: int, generator: torch.Generator):
    """A judge of sampled answers, fitted to n labels of a person -> a function: Rollout -> scores (B,), no gradient.

    A linear head on the last hidden states of `model`, which must be the model that wrote the stored answers. Its unit is
    the mean standard deviation of its scores of the stored answers to one prompt; only differences within a prompt mean
    something. Raises ValueError where there are fewer than n pairs to label.
    """
    weight = fit_head(*bench.states(bench.labels(person, n, generator)), l2=0.03).float()
    weight = weight / (bench.state.float() @ weight).std(1).mean()

    def score(rollout) -> Tensor:
        with torch.no_grad():
            return last_state(model, rollout.ids, rollout.attention) @ weight

    return score


def fits(bench: Bench, person, n: int, generators, *, without=None) -> tuple[list[Tensor], list[Tensor]]:
    """`fitted` once for each generator -> (scores, labels). without: for each of them, labels whose pairs it must not read."""
    done = [fitted(bench, person, n, generator, without=without and without[k]) for k, generator in enumerate(generators)]
    return [score for score, _ in done], [labels for _, labels in done]


def pushed(score: Tensor | list[Tensor], value: Tensor, ns, pool: Tensor | None = None) -> Tensor:
    """Expected value of the best of n by score, mean over prompts: (P, G), (P, G) -> (len(ns),) float64.

    A list of scores gives a row for each: (len(score), len(ns)). pool (P, G) bool: the answers to choose from, equally many
    for each prompt (ValueError else); all without it.

    >>> pushed(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0]]), [1, 2]).tolist()
    [0.5, 1.0]
    """
    if isinstance(score, list):
        return torch.stack([pushed(one, value, ns, pool) for one in score])
    if pool is not None:
        if pool.shape != value.shape or len(pool.sum(1).unique()) > 1:
            raise ValueError(f"pool of shape {tuple(pool.shape)}; give {tuple(value.shape)}, with equally many answers in each row")
        score, value = (x[pool].view(len(pool), -1) for x in (score, value))
    return curve(score.flatten(), value.double().flatten(), score.shape[1], list(ns)).mean(0)


def dealt_out_anew(bench: Bench, score: Tensor, generator: torch.Generator) -> Tensor:
    """A score (P, G) whose errors are dealt out at random among the answers of each prompt -> (P, G) float64.

    The error is what a straight line in the true reward, centred within each prompt, does not explain. The part that it
    explains stays.
    """
    centred = bench.gold - bench.gold.mean(1, keepdim=True)
    slope = (score * centred).sum() / centred.square().sum()
    error = score - slope * centred
    return slope * centred + error.gather(1, torch.rand(error.shape, generator=generator).argsort(1))


def gao_fit(ns, value: Tensor) -> tuple[float, float, float]:
    """The law value(d) - value(0) = d (alpha - beta d) fitted by least squares -> (alpha, beta, largest miss).

    d is the root of the KL bound of best-of-n; value (len(ns),), its first n is 1. Gao, Schulman and Hilton 2022,
    https://arxiv.org/abs/2210.10760

    >>> root = torch.tensor([kl_bound(n) for n in (1, 2, 8)], dtype=torch.float64).sqrt()
    >>> [round(x, 3) for x in gao_fit([1, 2, 8], 5 + root * (2 - 3 * root))]
    [2.0, 3.0, 0.0]
    """
    ns = list(ns)
    if ns[:1] != [1] or len(ns) < 3 or len(ns) != len(value):
        raise ValueError(f"{ns} with {len(value)} values: give at least three n, 1 first, and a value for each")
    root = torch.tensor([kl_bound(n) for n in ns], dtype=torch.float64).sqrt()
    law, change = torch.stack([root, -root**2], 1), value.double() - value[0].double()
    fit = torch.linalg.lstsq(law, change[:, None]).solution[:, 0]
    return *fit.tolist(), (law @ fit - change).abs().max().item()


def reaching(score: Tensor, value: Tensor, level: float) -> tuple[int, float]:
    """The smallest n whose best of n has a mean score of at least `level`, and its mean value: (P, G), (P, G) -> (n, value).

    Where none has, the largest n.

    >>> reaching(torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 2.0]]), 0.7)
    (2, 2.0)
    """
    ns = range(1, score.shape[1] + 1)
    n = min(int((pushed(score, score, ns) < level).sum()) + 1, len(ns))
    return n, pushed(score, value, [n]).item()


def most_apart(prompts: list[str], logs: dict) -> tuple[str, list]:
    """The answer at the last step whose true reward differs most between two runs -> (prompt, answers) for `cards`.

    logs {name of the reward: [(scores, texts) of each step]}, scores["true"] of shape (prompts, answers to each).
    """
    (a, b), n = ([log[-1][0]["true"].flatten() for log in logs.values()], next(iter(logs.values()))[-1][0]["true"].shape[1])
    i = int((a - b).abs().argmax())
    return prompts[i // n], [(f"last step, {name} reward", log[-1][1][i], log[-1][0]["true"].flatten()[i].item())
                             for name, log in logs.items()]


def by_quarter(bench: Bench, scores: list[Tensor], quarter: Tensor, names) -> dict[str, dict[str, Tensor]]:
    """What the answers of each quarter (numbers 0 to 3, (P, G)) are worth, how proxies score them, and who wins.

    A row for each name: true reward, mean and standard deviation of the scores (mean over the proxies), the share of the
    best answers by proxy, and the mean true reward of these (nan where a quarter has none).
    """
    best = [score.argmax(1, keepdim=True) for score in scores]
    place = torch.stack([quarter.gather(1, x) for x in best])
    won = torch.stack([bench.gold.gather(1, x) for x in best])
    spread = [torch.stack([score[quarter == q].std() for score in scores]).mean() for q in range(4)]
    return {name: {"true reward": bench.gold[quarter == q].mean(),
                   "proxy": torch.stack(scores).mean(0)[quarter == q].mean(), "spread of the proxy": spread[q],
                   "share of the best-of-512": (place == q).double().mean(),
                   "true reward of those": won[place == q].mean()}
            for q, name in enumerate(names)}


def agreement(score: Tensor | list[Tensor], labels: Tensor) -> float:
    """Share of labels (n, 2: places of chosen, rejected) that a score orders alike; a tie counts one half.

    A score of any shape is read row by row: (N,) or (P, G). A list of scores gives the mean of their shares.

    >>> agreement(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([[0, 1], [1, 2]]))
    0.75
    """
    if isinstance(score, list):
        return sum(agreement(one, labels) for one in score) / len(score)
    chosen, rejected = score.flatten()[labels].T
    return ((chosen > rejected).double() + 0.5 * (chosen == rejected)).mean().item()


def accuracy(bench: Bench, read: list[Tensor], fresh: Tensor) -> float:
    """Share of fresh labels (M, 2) that heads fitted to label sets `read`, (n, 2) each, order alike: mean over the sets."""
    state = bench.wide.state.double()
    return agreement([state @ fit_head(*bench.states(labels), l2=0.03).double() for labels in read], fresh)


def told_the_truth(bench: Bench, strength: float) -> Tensor:
    """A linear head fitted by least squares to the true rewards themselves -> its weight (H,) float64.

    It reads every answer that could be labelled, centred within its prompt; no labels and no noise. strength: of the
    ridge penalty, in units of the mean variance of a coordinate.
    """
    rows = bench.pairs.unique()
    _, group = bench.wide.prompt[rows].unique(return_inverse=True)
    x, y = bench.wide.state[rows].double(), bench.wide.gold[rows].double()
    x, y = (v - torch.zeros(int(group.max()) + 1, v.shape[1], dtype=v.dtype).index_add_(0, group, v)[group]
            / group.bincount()[group][:, None] for v in (x, y[:, None]))
    square = x.T @ x
    ridge = strength * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
    return torch.linalg.solve(square + ridge, x.T @ y)[:, 0]
