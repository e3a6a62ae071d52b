"""Intervals of a rate, and whether they keep their word: the coverage of each, computed exactly from the binomial distribution.

An evaluation asks n questions and counts the right answers, k. A method is a function of n that gives the interval of every
count at once: (low, high), two tensors (n + 1,) for k = 0, 1, …, n.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .metrics import wilson

Z = 1.959964  # 97.5 % of the normal distribution lie below


def _questions(n: int) -> Tensor:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n is {n!r}; give a number of questions, 1 or more")
    return torch.arange(n + 1, dtype=torch.float64)


def binomial(n: int, p: float) -> Tensor:
    """(n + 1,) float64: the chance of k right answers of n, for k = 0, 1, …, n, where each is right with chance p.

    Raises ValueError for n below 1 and for a p outside 0 to 1.

    >>> binomial(2, 0.5).tolist()
    [0.25, 0.5, 0.25]
    """
    k = _questions(n)
    if not 0 <= p <= 1:
        raise ValueError(f"p is {p}; a chance lies in [0, 1]")
    ways = torch.tensor([math.comb(n, int(i)) for i in k], dtype=torch.float64)
    return ways * torch.tensor(p, dtype=torch.float64) ** k * torch.tensor(1 - p, dtype=torch.float64) ** (n - k)


def normal(n: int) -> tuple[Tensor, Tensor]:
    """The interval of most papers, rate ± 1.96 standard errors, for every count: (low, high), (n + 1,) each."""
    rate = _questions(n) / n
    half = Z * (rate * (1 - rate) / n).sqrt()
    return rate - half, rate + half


def wilson_all(n: int) -> tuple[Tensor, Tensor]:
    """Wilson's interval (`metrics.wilson`) for every count: (low, high), (n + 1,) each."""
    low, high = zip(*(wilson(k / n, n) for k in range(len(_questions(n)))), strict=True)
    return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)


def bootstrap(n: int) -> tuple[Tensor, Tensor]:
    """The percentile bootstrap with endlessly many resamples, for every count: (low, high), (n + 1,) each.

    A resample of n answers of which k are right has Binomial(n, k / n) right ones, so nothing needs to be drawn.
    """
    low, high = [], []
    for k in range(len(_questions(n))):
        below = binomial(n, k / n).cumsum(0)
        low.append((below < 0.025).sum().item() / n)
        high.append((below < 0.975).sum().item() / n)
    return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)


def beta(n: int, grid: int = 20_001) -> tuple[Tensor, Tensor]:
    """The middle 95 % of the posterior Beta(k + ½, n − k + ½) (Jeffreys' prior) for every count: (low, high), (n + 1,) each.

    With the rate written as sin²φ this prior is flat in φ, so a grid over φ gives the quantiles, here to about four digits.
    Brown, Cai, DasGupta 2001, "Interval estimation for a binomial proportion".
    """
    k = _questions(n)
    rate = torch.linspace(0, math.pi / 2, grid, dtype=torch.float64).sin() ** 2
    log = torch.xlogy(k[:, None], rate) + torch.xlogy(n - k[:, None], 1 - rate)
    below = (log - log.amax(1, keepdim=True)).exp().cumsum(1)
    below = below / below[:, -1:]
    ends = [rate[(below < q).sum(1).clamp(max=grid - 1)] for q in (0.025, 0.975)]
    return ends[0], ends[1]


METHODS: dict[str, Callable[[int], tuple[Tensor, Tensor]]] = {
    "normal": normal, "bootstrap": bootstrap, "Wilson": wilson_all, "Beta": beta}


def coverage(low: Tensor, high: Tensor, p: float) -> float:
    """The chance that an interval holds the true rate p: the sum over k of Binomial(k; n, p) where low[k] <= p <= high[k].

    low, high (n + 1,): the intervals of all counts. Raises ValueError for unequal lengths and for a p outside 0 to 1.

    >>> round(coverage(*normal(3), 0.5), 4)  # only one or two right of three: 3/8 + 3/8
    0.75
    """
    if low.shape != high.shape or low.dim() != 1 or len(low) < 2:
        raise ValueError(f"low {tuple(low.shape)}, high {tuple(high.shape)}: give both ends for k = 0 … n, one shape (n + 1,)")
    return (binomial(len(low) - 1, p) * ((low <= p) & (p <= high))).sum().item()


def expected_counts(n: int, p: float, evaluations: int = 100) -> list[int]:
    """`evaluations` counts of right answers in the shares that the binomial distribution expects, the highest first.

    Largest remainders: the shares are rounded so that the numbers add up.

    >>> expected_counts(1, 0.75, 4)
    [1, 1, 1, 0]
    """
    share = binomial(n, p) * evaluations
    whole = share.floor()
    for k in (share - whole).argsort(descending=True)[: evaluations - int(whole.sum())]:
        whole[k] += 1
    return [k for k in range(n, -1, -1) for _ in range(int(whole[k]))]


def stored_passes(answers: int = 64, *, above: float = 2.0, path=None) -> Tensor:
    """(144, answers) of the pool's questions: 1 where a stored answer of `village-3m-sft` has a true reward above `above`.

    The questions are those with at least 64 stored answers. ValueError for more answers than every question has.
    """
    from ..data.pool import pool

    stock = pool(path).select(source="village-3m-sft")
    groups = list(stock.groups().values())
    if not 1 <= answers <= min(map(len, groups)):
        raise ValueError(f"{answers} answers: each question has {min(map(len, groups))}; give 1 to that many")
    return torch.stack([(stock.gold[rows[:answers]] > above).double() for rows in groups])


def of_questions(passes: Tensor, questions: int, answers: int, generator: torch.Generator, times: int = 1000) -> dict[str, float]:
    """How often an interval holds the truth where each question is answered several times: by the unit that was counted.

    passes (Q, K): 1 where an answer passes; its mean is the truth. An evaluation draws `questions` of the Q with replacement
    and `answers` of the K answers to each. "answers": Wilson's interval over all answers as if independent. "questions": mean
    ± 1.96 standard errors of the question means. Raises ValueError for more answers than there are.
    """
    total, most = passes.shape
    if not 1 <= answers <= most or questions < 2:
        raise ValueError(f"{questions} questions with {answers} answers of {most}: give 2 or more, and 1 to {most}")
    truth, held = passes.double().mean().item(), {"answers": 0, "questions": 0}
    for _ in range(times):
        rows = torch.randint(total, (questions,), generator=generator)
        columns = torch.rand(questions, most, generator=generator).argsort(1)[:, :answers]
        means = passes[rows].double().gather(1, columns).mean(1)
        low, high = wilson(means.mean().item(), questions * answers)
        half = Z * means.std().item() / questions ** 0.5
        held["answers"] += low <= truth <= high
        held["questions"] += abs(means.mean().item() - truth) <= half
    return {name: count / times for name, count in held.items()}
