"""Filtering: which sampled answers go on to fine-tuning. All functions return row numbers of the whole batch.

Most of what is called rejection sampling is a filter: it keeps the best answers, or those that are good enough. `accept` is
the statistical method of that name. Everywhere score (B,) is one number per answer, and where there is a `group_size`,
the answers to one prompt stand next to each other.
"""

import math

import torch
from torch import Tensor

from .equations import implements
from .tensors import as_mask, check_answers, check_groups, check_no_nan, check_positive


@implements("eq:rs_selection_per_prompt")
def top_per_prompt(score: Tensor, group_size: int, k: int = 1) -> Tensor:
    """The k best answers to each prompt. No prompt is lost, however hard it is.

    score (B,). Returns (B / group_size * k,) row numbers, for each prompt the best first; of equal scores the first in the
    batch. With k = 1 this is `best_of_n.select`. Raises ValueError for a NaN, a group_size that does not divide B, a k
    outside 1 to group_size. Equation `eq:rs_selection_per_prompt`.

    >>> top_per_prompt(torch.tensor([0.1, 0.9, 5.0, 4.0]), 2).tolist()
    [1, 2]
    """
    check_groups(group_size, smallest=1, score=score)
    check_no_nan(score=score)
    check_count(k, group_size, "samples per prompt")
    groups = score.view(-1, group_size)
    best = groups.argsort(dim=1, descending=True, stable=True)[:, :k]
    first_row = torch.arange(0, len(score), group_size, device=score.device)
    return (first_row[:, None] + best).flatten()


@implements("eq:rs_topk_selection")
def top_overall(score: Tensor, k: int) -> Tensor:
    """The k best answers of all, whatever their prompt. Prompts with generous scores win.

    score (B,). Returns (k,) row numbers, the best first; of equal scores the first in the batch. Raises ValueError for a
    NaN and for a k outside 1 to B. Equation `eq:rs_topk_selection`.

    >>> top_overall(torch.tensor([0.1, 0.9, 5.0, 4.0]), 2).tolist()
    [2, 3]
    """
    check_answers(score=score)
    check_count(k, len(score), "rows")
    return score.argsort(descending=True, stable=True)[:k]


def random_per_prompt(rows: int, group_size: int, k: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
    """k random answers to each prompt: what `top_per_prompt` has to beat. `rows` is the size of the batch, B.

    Returns and raises as `top_per_prompt`.
    """
    return top_per_prompt(torch.rand(rows, generator=generator), group_size, k)


def accept(score: Tensor, beta: float, *, highest: float, generator: torch.Generator | None = None) -> Tensor:
    """True rejection sampling: each answer stays with probability exp((r - highest) / beta).

    score (B,) is r. What stays is distributed *exactly* as pi_ref exp(r / beta) / Z, if `highest` is at least every
    possible score; a share Z exp(-highest / beta) of the samples stays. RSO puts the batch's own maximum there: then it is
    only nearly so. Returns row numbers, at most B. Raises ValueError as `acceptance`.
    Liu et al. 2023, https://arxiv.org/abs/2309.06657

    >>> accept(torch.tensor([1.0, -1000.0, 1.0]), 0.5, highest=1.0).tolist()
    [0, 2]
    """
    chance = acceptance(score, beta, highest=highest)
    uniform = torch.rand(len(score), generator=generator, dtype=torch.float64)  # below 1: probability 1 always stays
    return (uniform.to(chance.device) < chance).nonzero()[:, 0]


def acceptance(score: Tensor, beta: float, *, highest: float) -> Tensor:
    """exp((r - highest) / beta), the chance that an answer stays in `accept`: (B,) -> (B,) float64.

    Raises ValueError for a NaN, a score above `highest`, a beta that is not above 0.

    >>> [round(x, 4) for x in acceptance(torch.tensor([0.0, 1.0]), 1.0, highest=1.0).tolist()]
    [0.3679, 1.0]
    """
    check_answers(score=score)
    check_positive(beta=beta)
    if not score.max() <= highest < math.inf:
        raise ValueError(f"score {score.max().item()}, highest {highest}; give a finite one that no score exceeds")
    return ((score.double() - highest) / beta).exp()


def above(score: Tensor, threshold: float) -> Tensor:
    """The answers whose score is at least `threshold`: the filter of ReST.

    score (B,). Returns row numbers in order, possibly none. Raises ValueError for a NaN.
    Gulcehre et al. 2023, https://arxiv.org/abs/2308.08998

    >>> above(torch.tensor([0.2, 0.9, 0.5]), 0.5).tolist()
    [1, 2]
    """
    check_answers(score=score)
    if math.isnan(threshold):
        raise ValueError("threshold is NaN; give a number")
    return (score >= threshold).nonzero()[:, 0]


def thresholds(score: Tensor, keep: list[float]) -> list[float]:
    """For each share in `keep`, the threshold that keeps at least that share of the batch: ReST's rising filter.

    score (B,). Raises ValueError for a NaN and for a share that is not above 0 and at most 1.

    >>> thresholds(torch.tensor([1.0, 2.0, 3.0, 4.0]), [1.0, 0.5, 0.25])
    [1.0, 3.0, 4.0]
    """
    check_answers(score=score)
    wrong = [share for share in keep if not 0 < share <= 1]
    if wrong:
        raise ValueError(f"keep has {wrong}; give shares above 0 and up to 1")
    falling = score.sort(descending=True)[0]
    return [falling[math.ceil(share * len(score)) - 1].item() for share in keep]


def correct_only(correct: Tensor, group_size: int, *, k: int | None = None) -> tuple[Tensor, Tensor]:
    """Expert iteration and STaR: keep the answers that are right, all of them or the first k per prompt.

    correct (B,), 0 or 1. Returns the row numbers of the right answers, and the numbers of the prompts without any: STaR asks
    those again, with the answer as a hint. SFT on all right answers, divided by all B rows that were sampled, is REINFORCE
    with reward 0 or 1 and no baseline; k reduces the weight of easy prompts. Raises ValueError as `top_per_prompt`.
    Zelikman et al. 2022, https://arxiv.org/abs/2203.14465

    >>> [x.tolist() for x in correct_only(torch.tensor([1, 1, 0, 0]), 2, k=1)]
    [[0], [1]]
    """
    right = as_mask(correct, "correct")
    check_groups(group_size, smallest=1, correct=right)
    groups = right.view(-1, group_size)
    if k is not None:
        check_count(k, group_size, "samples per prompt")
        groups = groups * (groups.cumsum(1) <= k)
    return groups.flatten().nonzero()[:, 0], (groups.sum(1) == 0).nonzero()[:, 0]


def check_count(k: int, most: int, what: str) -> None:
    """Raise ValueError unless k is an int from 1 to `most`."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most:
        raise ValueError(f"k is {k!r} of {most} {what}; give an int from 1 to {most}")
