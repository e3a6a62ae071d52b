"""Active learning: which pairs to have labelled next. `margin`: reward of one answer minus that of the other."""

import torch

from .tensors import as_float, check_no_nan


def _most(value, k):
    """Rows of the k largest values, falling; ties: the first."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= len(value):
        raise ValueError(f"k is {k!r} of {len(value)} pairs; give an int from 1 to {len(value)}")
    return value.argsort(descending=True, stable=True)[:k]


def _members(margins):
    if margins.dim() != 2 or len(margins) < 2 or not margins.shape[1]:
        raise ValueError(f"margins is {tuple(margins.shape)}; give (M, N), a row for each of M >= 2 models")
    check_no_nan(margins=margins)
    return as_float(margins)


def closest(margin, k):
    """The k pairs with the smallest |margin|: (N,) -> (k,) rows. Those of a Bradley-Terry model's highest entropy.

    Close pairs are also those where raters are noisiest: at high flip rates this arm chases noise.

    >>> closest(torch.tensor([2.0, -0.1, 0.5]), 2).tolist()
    [1, 2]
    """
    if margin.dim() != 1 or not len(margin):
        raise ValueError(f"margin is {tuple(margin.shape)}; give (N,), one number a pair")
    check_no_nan(margin=margin)
    return _most(-margin.abs(), k)


def disagreement(margins):
    """Spread of M models' margins, the unbiased standard deviation: (M, N) -> (N,); 0 where all agree.

    >>> disagreement(torch.tensor([[1.0, 3.0], [1.0, -3.0]])).tolist()[0]
    0.0
    """
    margins = _members(margins)
    return (margins - margins[:1]).std(0)  # relative to the first: equal numbers give exactly 0


def information(margins):
    """H(mean_m p_m) - mean_m H(p_m) nats, p = sigmoid(margin): (M, N) -> (N,), >= 0: what a label tells of the models.

    Noise that all models agree on (all margins 0) is worth nothing here, unlike in `closest`. BALD, Houlsby et al.,
    https://arxiv.org/abs/1112.5745

    >>> [round(x, 4) for x in information(torch.tensor([[0.0, 20.0], [0.0, -20.0]])).tolist()]  # noise; a dispute
    [0.0, 0.6931]
    """
    p = torch.sigmoid(_members(margins))

    def entropy(p):
        return torch.special.entr(p) + torch.special.entr(1 - p)

    return (entropy(p.mean(0)) - entropy(p).mean(0)).clamp(min=0)


def most_disputed(margins, k, *, by=disagreement):
    """The k pairs with the largest `by(margins)` (`disagreement` or `information`): (M, N) -> (k,) rows.

    >>> most_disputed(torch.tensor([[0.0, 2.0, 1.0], [0.0, -2.0, 2.0]]), 2).tolist()
    [1, 2]
    """
    return _most(by(margins), k)
