"""Best-of-n: draw n answers to a prompt, keep the one the reward likes most. No training, a strong baseline.

Scores are (B,), with the `group_size` answers of one prompt next to each other.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .equations import implements
from .tensors import check_groups, check_no_nan, check_shapes


@implements("eq:rs_selection_per_prompt", "eq:selection_function")
def select(score: Tensor, group_size: int) -> Tensor:
    """Row number of each prompt's best answer: (B,) -> (B / group_size,) int64, counted in the whole batch.

    Of equal scores the first one wins. Raises ValueError for a group size that does not divide B and for a NaN. Equations
    `eq:rs_selection_per_prompt`, `eq:selection_function`.

    >>> select(torch.tensor([0.1, 0.9, 5.0, 4.0]), 2).tolist()
    [1, 2]
    """
    check_groups(group_size, smallest=1, score=score)
    check_no_nan(score=score)
    groups = score.reshape(-1, group_size)
    first_row = torch.arange(len(groups), device=score.device) * group_size
    return groups.argmax(1) + first_row


def kl_bound(n: int) -> float:
    """log n - (n - 1) / n, in nats: an upper bound on KL(best-of-n || policy).

    The KL itself is lower wherever answers can repeat. Raises ValueError for n below 1. Beirami et al. 2024,
    https://arxiv.org/abs/2401.01879

    >>> round(kl_bound(2), 4)  # log 2 - 1/2
    0.1931
    """
    if n < 1:
        raise ValueError(f"n={n}: give at least 1")
    return math.log(n) - (n - 1) / n


def curve(score: Tensor, value: Tensor, group_size: int, ns: Sequence[int]) -> Tensor:
    """Expected `value` of the answer with the best `score` among n, for each n in `ns`, without bias.

    score, value (B,). All subsets of size n of a prompt's answers count equally: the answer of rank i (from 0, rising) is
    the best of n, drawn without replacement, with probability C(i, n-1) / C(group_size, n). Of equal scores any may win.

    Returns (B / group_size, len(ns)) in float64: average over dim 0 for the curve. Raises ValueError for an n outside 1 to
    group_size. Nakano et al. 2021, https://arxiv.org/abs/2112.09332 (appendix)

    >>> curve(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]), 2, [1, 2]).tolist()
    [[0.5, 1.0]]
    """
    check_groups(group_size, smallest=1, score=score, value=value)
    check_no_nan(score=score, value=value)
    wrong = [n for n in ns if not 1 <= n <= group_size]
    if wrong:
        raise ValueError(f"n={wrong} of {group_size} samples per prompt: give n from 1 to {group_size}")
    subsets = [math.comb(group_size, n) for n in ns]  # in whole numbers, so that nothing overflows or cancels
    chance = [[math.comb(i, n - 1) / total for n, total in zip(ns, subsets, strict=True)] for i in range(group_size)]
    chance = torch.tensor(chance, dtype=torch.float64).view(group_size, len(subsets))
    scores, order = score.reshape(-1, group_size).sort(1)
    values = value.reshape(-1, group_size).double().gather(1, order)
    tied = (scores[:, :, None] == scores[:, None, :]).double()  # (B/G, G, G)
    mean_of_tied = (tied @ values[:, :, None])[:, :, 0].div(tied.sum(2))
    return mean_of_tied @ chance


def law(probability: Tensor, score: Tensor, n: int) -> Tensor:
    """The exact distribution of best-of-n over N listed answers: (N,) probabilities, (N,) scores -> (N,), sums to 1.

    The best of n scores at most s with probability F(s)^n, so that an answer's level of score gets F(s)^n - F(below s)^n.
    Answers of one level share it in proportion to their own probabilities.

    >>> law(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1.0]), 2).tolist()
    [0.25, 0.75]
    """
    check_shapes(probability=probability, score=score)
    higher, equal = score[None, :] > score[:, None], score[None, :] == score[:, None]
    at_most = 1 - (probability * higher).sum(1)
    level = (probability * equal).sum(1)
    below = (at_most - level).clamp(min=0)
    return (at_most**n - below**n) * probability / level
