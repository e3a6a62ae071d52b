"""Active learning: which pairs to have labelled next.

A margin is a model's reward for one answer of a pair minus its reward for the other.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .filtering import check_count
from .tensors import as_float, check_no_nan


def closest(margin: Tensor, k: int) -> Tensor:
    """The k pairs that one model finds hardest: those with the smallest |margin|, where Bradley-Terry's entropy is highest.

    margin (N,). Returns (k,) row numbers, the closest pair first; of equal ones the first. Close pairs are also those on
    which raters are noisiest: where many labels are wrong, this rule chases noise. Raises ValueError for a NaN and for a k
    outside 1 to N.

    >>> closest(torch.tensor([2.0, -0.1, 0.5]), 2).tolist()
    [1, 2]
    """
    if margin.dim() != 1 or not len(margin):
        raise ValueError(f"margin is {tuple(margin.shape)}; give (N,), one number per pair")
    check_no_nan(margin=margin)
    check_count(k, len(margin), "pairs")
    return margin.abs().argsort(stable=True)[:k]


def disagreement(margins: Tensor) -> Tensor:
    """How much M models disagree about each pair: the unbiased standard deviation of their margins.

    margins (M, N), one row per model. Returns (N,), exactly 0 where all agree. Raises ValueError for M < 2 and for a NaN.

    >>> disagreement(torch.tensor([[1.0, 3.0], [1.0, -3.0]])).tolist()[0]
    0.0
    """
    margins = check_margins(margins)
    return (margins - margins[:1]).std(0)  # relative to the first model: equal numbers give exactly 0


def information(margins: Tensor) -> Tensor:
    """How much a label would tell about the models, in nats: H(mean_m p_m) - mean_m H(p_m), with p = sigmoid(margin).

    margins (M, N), one row per model. Returns (N,), 0 or more. Noise that all models agree on (all margins 0) is worth
    nothing here, unlike in `closest`. Raises ValueError for M < 2 and for a NaN.
    BALD, Houlsby et al. 2011, https://arxiv.org/abs/1112.5745

    >>> [round(x, 4) for x in information(torch.tensor([[0.0, 20.0], [0.0, -20.0]])).tolist()]  # noise; a dispute
    [0.0, 0.6931]
    """
    p = torch.sigmoid(check_margins(margins))

    def entropy(p: Tensor) -> Tensor:
        return torch.special.entr(p) + torch.special.entr(1 - p)

    return (entropy(p.mean(0)) - entropy(p).mean(0)).clamp(min=0)


def most_disputed(margins: Tensor, k: int, *, by: Callable[[Tensor], Tensor] = disagreement) -> Tensor:
    """The k pairs that several models dispute most, by `disagreement` or `information`.

    margins (M, N), one row per model. Returns (k,) row numbers, the most disputed pair first; of equal ones the first.
    Raises ValueError for M < 2, a NaN, a k outside 1 to N.

    >>> most_disputed(torch.tensor([[0.0, 2.0, 1.0], [0.0, -2.0, 2.0]]), 2).tolist()
    [1, 2]
    """
    dispute = by(margins)
    check_count(k, len(dispute), "pairs")
    return dispute.argsort(descending=True, stable=True)[:k]


def check_margins(margins: Tensor) -> Tensor:
    """Margins as float32 or float64; ValueError unless they are (M, N), M >= 2, without NaN."""
    if margins.dim() != 2 or len(margins) < 2 or not margins.shape[1]:
        raise ValueError(f"margins is {tuple(margins.shape)}; give (M, N), one row for each of M >= 2 models")
    check_no_nan(margins=margins)
    return as_float(margins)
