"""Best-of-n: draw n answers to a prompt, keep the one the reward likes most. No training, a strong baseline."""

import math

import torch

from .equations import implements
from .tensors import check_no_nan, check_shapes


def _groups(group_size, **named):
    """(B,) tensors, prompt-major, as (B/G, G); ValueError where that does not fit."""
    check_shapes(**named)
    check_no_nan(**named)
    rows = {x.shape for x in named.values()}.pop()
    if len(rows) != 1 or group_size < 1 or rows[0] == 0 or rows[0] % group_size:
        raise ValueError(f"{'/'.join(named)} {tuple(rows)} in groups of {group_size}; give (B,), B a multiple of it")
    return [x.reshape(-1, group_size) for x in named.values()]


@implements("eq:rs_selection_per_prompt", "eq:selection_function")
def select(score, group_size):
    """Row number, in the whole batch, of each prompt's best answer: (B,) -> (B/G,) int64; of equals the first (I1).

    ValueError unless G divides B; on a NaN.

    >>> select(torch.tensor([0.1, 0.9, 5.0, 4.0]), 2).tolist()
    [1, 2]
    """
    (groups,) = _groups(group_size, score=score)
    return groups.argmax(1) + torch.arange(len(groups), device=score.device) * group_size


def kl_bound(n):
    """log n - (n - 1) / n nats: an upper bound on KL(best-of-n || policy), strict where answers can repeat (I2).

    ValueError on n < 1.

    >>> round(kl_bound(2), 4)  # log 2 - 1/2
    0.1931
    """
    if n < 1:
        raise ValueError(f"n={n}: give at least 1")
    return math.log(n) - (n - 1) / n


def _best_of_weights(size, n):
    """(G,) chance that rank i = 0.., rising, is the best of n drawn without replacement: C(i, n-1) / C(G, n)."""
    total = math.comb(size, n)  # whole numbers, so nothing overflows or cancels
    return torch.tensor([math.comb(i, n - 1) / total for i in range(size)], dtype=torch.float64)


def curve(score, value, group_size, ns):
    """Unbiased best-of-n: expected `value` of the best by `score` of n of a prompt's G samples -> (B/G, len(ns)).

    All subsets of size n count equally (exact order statistics, without replacement); of equal scores any may win.
    score, value (B,), prompt-major. Average over dim 0 for the curve. https://arxiv.org/abs/2112.09332 (appendix)

    >>> curve(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]), 2, [1, 2]).tolist()
    [[0.5, 1.0]]
    """
    scores, values = _groups(group_size, score=score, value=value)
    wrong = [n for n in ns if not 1 <= n <= group_size]
    if wrong:
        raise ValueError(f"n={wrong} of {group_size} samples a prompt: give n from 1 to {group_size}")
    weights = torch.stack([_best_of_weights(group_size, n) for n in ns], 1)  # (G, len(ns))
    scores, order = scores.sort(1)
    values = values.double().gather(1, order)
    tied = (scores[:, :, None] == scores[:, None, :]).double()  # (B/G, G, G)
    return (tied @ values[:, :, None])[:, :, 0].div(tied.sum(2)) @ weights


def law(probability, score, n):
    """Exact distribution of best-of-n over N listed answers (ties at random): (N,), (N,) -> (N,), sums to 1.

    >>> law(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1.0]), 2).tolist()
    [0.25, 0.75]
    """
    check_shapes(probability=probability, score=score)
    above, level = score[None, :] > score[:, None], score[None, :] == score[:, None]
    top = 1 - (probability * above).sum(1)  # P(score <= mine)
    same = (probability * level).sum(1)
    return (top**n - (top - same).clamp(min=0) ** n) * probability / same
