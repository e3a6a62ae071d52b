"""From numbers per token to one scalar: the only place where a loss is reduced. Every variant has a name."""

import math

import torch
from torch import Tensor

from .equations import implements
from .tensors import check_mask, check_not_empty, check_positive

MODES = ("token_mean", "sequence_mean", "sequence_sum", "fixed")


@implements("eq:loss_per_token", "eq:loss_per_sequence", "eq:loss_fixed_length")
def aggregate(x: Tensor, mask: Tensor, mode: str, *, denominator: float | Tensor | None = None) -> Tensor:
    """Reduce one number per token to a scalar. x, mask (B,T).

    token_mean     sum over all masked tokens / their number                     SFT, PPO, DAPO
    sequence_mean  mean over rows of each row's masked mean                      GRPO as published, outcome models
    sequence_sum   mean over rows of each row's masked sum                       REINFORCE, RLOO
    fixed          sum over all masked tokens / (B*T), empty rows included       Dr. GRPO

    A row with an empty mask adds 0 and is not counted. `denominator` replaces the outermost divisor: a number of tokens for
    token_mean and fixed, of rows for the other two. With the number of the *whole* optimizer step, micro-batches and
    processes add up to the gradient of one big batch.

    Returns a scalar. Raises ValueError for an empty mask, unless there is a denominator: then the result is a 0 that
    gradients can flow through. Equations `eq:loss_per_token`, `eq:loss_per_sequence`, `eq:loss_fixed_length`.

    >>> x, mask = torch.tensor([[1.0, 1.0], [3.0, 0.0]]), torch.tensor([[1, 1], [1, 0]])
    >>> {mode: round(aggregate(x, mask, mode).item(), 4) for mode in MODES}  # 5/3, (1 + 3)/2, (2 + 3)/2, 5/4
    {'token_mean': 1.6667, 'sequence_mean': 2.0, 'sequence_sum': 2.5, 'fixed': 1.25}
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; choose one of {', '.join(MODES)}")
    x, m = check_mask(x, mask)
    if x.dim() != 2:
        raise ValueError(f"x is {tuple(x.shape)}; give one value per token, (B,T)")
    if denominator is None:
        check_not_empty(m)
    else:
        check_positive(denominator=float(denominator))

    per_row, length = x.sum(1), m.sum(1)
    if mode == "sequence_mean":
        per_row = per_row / length.clamp_min(1)
    if denominator is None:
        denominator = {"token_mean": m.sum(), "fixed": m.numel()}.get(mode, (length > 0).sum())
    return per_row.sum() / denominator


def mean_over_rows(x: Tensor, *, denominator: float | Tensor | None = None) -> Tensor:
    """Mean of one number per row, (B,) -> a scalar: `aggregate` where every row has a single token.

    >>> mean_over_rows(torch.tensor([1.0, 4.0])).item(), mean_over_rows(torch.tensor([1.0, 4.0]), denominator=10).item()
    (2.5, 0.5)
    """
    return aggregate(x[:, None], torch.ones_like(x)[:, None], "sequence_sum", denominator=denominator)


def merge_stats(parts: list[tuple[float, dict[str, float]]]) -> dict[str, float]:
    """[(terms, stats)] of all micro-batches -> stats of the batch.

    Losses are parts of the whole and add up; everything else is a mean over a micro-batch and is weighed by its terms.
    """
    out = {"loss": 0.0}
    for name in dict.fromkeys(name for _, stats in parts for name in stats):
        some = [(n, stats[name]) for n, stats in parts if name in stats and n > 0]
        if name.endswith("loss"):
            out[name] = sum(x for _, x in some)
        else:
            out[name] = sum(n * x for n, x in some) / max(sum(n for n, _ in some), 1e-12)
    out.pop("tokens", None)  # counted elsewhere, in all algorithms alike
    if "perplexity" in out:
        out["perplexity"] = math.exp(out["nll"])  # the mean of perplexities is none
    return out
