"""Supervised fine-tuning: predict the next token, on the tokens that the mask names.

Whether these are the answer's tokens alone or the prompt's too is decided where the mask is made, never here.
"""

import torch
from torch import Tensor, nn

from .aggregate import aggregate
from .equations import implements
from .logprobs import token_logps
from .optim import update
from .tensors import check_mask


@implements("eq:nll")
def sft_loss(logp: Tensor, mask: Tensor, *, denominator: float | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Negative log-likelihood, averaged over tokens: -sum log p / number of tokens on the mask.

    logp, mask (B, T), in nats. denominator: the tokens of the *whole* optimizer step, where this batch is a part of it;
    a mean of the parts' means would weigh the tokens of short parts more.

    Returns the loss and the statistics `nll` (this batch's own mean, in nats per token), `perplexity` and `tokens`. Raises
    ValueError for shapes that differ, for an empty mask without a denominator, and for a NaN on the mask. Equation `eq:nll`.

    >>> loss, stats = sft_loss(torch.tensor([[0.5, 0.25]]).log(), torch.ones(1, 2))
    >>> round(loss.item(), 4), round(stats["perplexity"].item(), 4)  # (log 2 + log 4) / 2, 2 sqrt 2
    (1.0397, 2.8284)
    """
    loss = aggregate(-logp, mask, "token_mean", denominator=denominator)
    logp, m = check_mask(logp.detach(), mask, "logp")
    nll = -logp.sum() / m.sum().clamp(min=1)
    return loss, {"loss": loss.detach(), "nll": nll, "perplexity": nll.exp(), "tokens": m.sum()}


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], *, max_norm: float = 1.0,
    denominator: float | None = None,
) -> dict[str, Tensor]:
    """One SFT update. batch: `ids`, `attention`, `mask`, (B, L) each; the mask is 1 on what is learned, the end token too.

    Returns the loss's statistics and `grad_norm`.
    """
    mask = batch["mask"][:, 1:]  # the score at t is that of token t+1: the shift happens here, once
    logp = token_logps(model, batch["ids"], batch["attention"], wanted=mask)
    loss, stats = sft_loss(logp, mask, denominator=denominator)
    return stats | {"grad_norm": update(loss, optimizer, max_norm=max_norm)}
