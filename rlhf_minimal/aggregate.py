"""From tokens to a scalar: the only reduction in the package, every variant with a name (E6)."""

import math

from .equations import implements
from .tensors import check_mask, check_not_empty

MODES = ("token_mean", "sequence_mean", "sequence_sum", "fixed")


@implements("eq:loss_per_token", "eq:loss_per_sequence", "eq:loss_fixed_length")
def aggregate(x, mask, mode, *, denominator=None):
    """Reduce x (B,T) over mask (B,T) to a scalar.

    token_mean     sum over all masked tokens / their number                     SFT, PPO, DAPO
    sequence_mean  mean over rows of each row's masked mean                      GRPO as published, outcome models
    sequence_sum   mean over rows of each row's masked sum                       REINFORCE, RLOO
    fixed          sum over all masked tokens / (B*T), empty rows included       Dr. GRPO

    A row with an empty mask adds 0 and is not counted. `denominator` (> 0) replaces the outermost divisor: tokens for
    token_mean and fixed, rows for the other two. With the count of the *whole* optimizer step, micro-batches (E14) and
    processes (J1) add up to the one big batch. ValueError on an empty batch, unless a denominator is given: then a
    differentiable 0 (J5). `eq:loss_per_token`, `eq:loss_per_sequence`, `eq:loss_fixed_length`.

    >>> import torch
    >>> x, mask = torch.tensor([[1.0, 1.0], [3.0, 0.0]]), torch.tensor([[1, 1], [1, 0]])
    >>> {mode: round(aggregate(x, mask, mode).item(), 4) for mode in MODES}  # 5/3, (1 + 3)/2, (2 + 3)/2, 5/4
    {'token_mean': 1.6667, 'sequence_mean': 2.0, 'sequence_sum': 2.5, 'fixed': 1.25}
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; choose one of {', '.join(MODES)}")
    x, m = check_mask(x, mask)
    if x.dim() != 2:
        raise ValueError(f"x is {tuple(x.shape)}; give one value a token, (B,T)")
    if denominator is None:
        check_not_empty(m)
    elif not (math.isfinite(float(denominator)) and float(denominator) > 0):
        raise ValueError(f"denominator is {float(denominator)}; give the global number of tokens or rows, above 0")
    lengths = m.sum(1)
    rows = x.sum(1)
    if mode == "sequence_mean":
        rows = rows / lengths.clamp_min(1)
    count = {"token_mean": m.sum(), "fixed": m.numel()}.get(mode, (lengths > 0).sum())
    return rows.sum() / (count if denominator is None else denominator)
