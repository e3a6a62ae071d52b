"""Filtering: which sampled answers go on to fine-tuning. All functions return row numbers of the whole batch.

Most of what is called rejection sampling is a filter; `accept` is the statistical method of that name (K60).
"""

import math

import torch

from .equations import implements
from .tensors import as_mask, check_groups, check_no_nan


def _count(k, most, what):
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most:
        raise ValueError(f"k is {k!r} of {most} {what}; give an int from 1 to {most}")


def _scores(score):
    if score.dim() != 1 or not len(score):
        raise ValueError(f"score is {tuple(score.shape)}; give one number a row, (B,), B >= 1")
    check_no_nan(score=score)


@implements("eq:rs_selection_per_prompt")
def top_per_prompt(score, group_size, k=1):
    """The k best rows of each prompt: (B,) prompt-major -> (B/G * k,) in falling order a prompt; ties: the first (I1).

    k = 1 is `best_of_n.select`. No prompt is lost, however hard.

    >>> top_per_prompt(torch.tensor([0.1, 0.9, 5.0, 4.0]), 2).tolist()
    [1, 2]
    """
    check_groups(group_size, smallest=1, score=score)
    check_no_nan(score=score)
    groups = score.reshape(-1, group_size)
    _count(k, group_size, "samples a prompt")
    best = groups.argsort(dim=1, descending=True, stable=True)[:, :k]
    return (best + torch.arange(len(groups), device=score.device)[:, None] * group_size).flatten()


@implements("eq:rs_topk_selection")
def top_overall(score, k):
    """The k best rows of all, whatever their prompt: (B,) -> (k,), falling; ties: the first (I1). The generous prompts win.

    >>> top_overall(torch.tensor([0.1, 0.9, 5.0, 4.0]), 2).tolist()
    [2, 3]
    """
    _scores(score)
    _count(k, len(score), "rows")
    return score.argsort(descending=True, stable=True)[:k]


def random_per_prompt(rows, group_size, k=1, *, generator=None):
    """k random rows of each prompt, the matched control of `top_per_prompt`; `rows`: how many there are, B."""
    return top_per_prompt(torch.rand(rows, generator=generator), group_size, k)


def accept(score, beta, *, highest, generator=None):
    """True rejection sampling: each row stays with probability exp((r - highest) / beta) -> rows (at most B,).

    What stays is distributed *exactly* as pi_ref exp(r / beta) / Z, if highest >= every possible score; a share
    Z exp(-highest / beta) of the samples stays. RSO puts the batch's own maximum there: then it is only nearly so.
    ValueError on a score above `highest`. https://arxiv.org/abs/2309.06657

    >>> accept(torch.tensor([1.0, -1000.0, 1.0]), 0.5, highest=1.0).tolist()
    [0, 2]
    """
    chance = acceptance(score, beta, highest=highest)
    uniform = torch.rand(len(score), generator=generator, dtype=torch.float64)  # below 1: probability 1 always stays
    return (uniform.to(chance.device) < chance).nonzero()[:, 0]


def acceptance(score, beta, *, highest):
    """exp((r - highest) / beta), the chance that a row stays: (B,) -> (B,) float64.

    >>> [round(x, 4) for x in acceptance(torch.tensor([0.0, 1.0]), 1.0, highest=1.0).tolist()]
    [0.3679, 1.0]
    """
    _scores(score)
    if not (beta > 0 and math.isfinite(beta)):
        raise ValueError(f"beta is {beta}; give a finite number above 0")
    if not score.max() <= highest < math.inf:
        raise ValueError(f"score {score.max().item()}, highest {highest}; give a finite one that no score exceeds")
    return ((score.double() - highest) / beta).exp()


def above(score, threshold):
    """Rows whose score is at least `threshold`, in order: ReST's filter; may be empty. https://arxiv.org/abs/2308.08998

    >>> above(torch.tensor([0.2, 0.9, 0.5]), 0.5).tolist()
    [1, 2]
    """
    _scores(score)
    if math.isnan(threshold):
        raise ValueError("threshold is NaN; give a number")
    return (score >= threshold).nonzero()[:, 0]


def thresholds(score, keep):
    """Thresholds that keep at least the shares `keep` of this batch, for ReST's improve steps: rising as shares fall.

    >>> thresholds(torch.tensor([1.0, 2.0, 3.0, 4.0]), [1.0, 0.5, 0.25])
    [1.0, 3.0, 4.0]
    """
    _scores(score)
    wrong = [share for share in keep if not 0 < share <= 1]
    if wrong:
        raise ValueError(f"keep has {wrong}; give shares above 0 and up to 1")
    falling = score.sort(descending=True)[0]
    return [falling[math.ceil(share * len(score)) - 1].item() for share in keep]


def correct_only(correct, group_size, *, k=None):
    """Expert iteration and STaR: (rows that are right, prompts without any), the first k a prompt or all of them.

    correct (B,) 0/1, prompt-major. SFT on all of them, divided by all B rows sampled, is REINFORCE with reward 0/1 and
    no baseline; k cuts the easy prompts' weight. STaR asks the unsolved again, with the answer as a hint.
    https://arxiv.org/abs/2203.14465

    >>> [x.tolist() for x in correct_only(torch.tensor([1, 1, 0, 0]), 2, k=1)]
    [[0], [1]]
    """
    right = as_mask(correct, "correct")
    check_groups(group_size, smallest=1, correct=right)
    groups = right.reshape(-1, group_size)
    if k is not None:
        _count(k, group_size, "samples a prompt")
        groups = groups * (groups.cumsum(1) <= k)
    return groups.flatten().nonzero()[:, 0], (groups.sum(1) == 0).nonzero()[:, 0]
