"""REINFORCE: the log-probability of what was sampled, weighted by how good it was."""

import torch
from torch import Tensor, nn

from .advantages import per_token
from .aggregate import aggregate
from .equations import implements
from .kl import penalized
from .models import disable_dropout
from .optim import update
from .rollout import Rollout, completion_logps
from .tensors import check_mask


@implements("eq:REINFORCE_with_baseline")
def reinforce_loss(
    logp: Tensor, adv: Tensor, mask: Tensor, *, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """REINFORCE: minus the advantage times the log-probability of each sampled token, summed over an answer.

    logp, mask (B, T), in nats; adv (B,), one per answer, or (B, T), one per token, detached here. `denominator`: the
    number of rows of the whole optimizer step, where this batch is a part of it.

    Tokens are summed, not averaged: only then is the expected gradient that of minus the expected score, with any baseline
    that does not depend on the sample. A mean over tokens, as in the book's code, has another, biased objective.

    Returns the loss, averaged over answers, and it again as statistic `loss`. Raises ValueError for shapes that do not
    fit, a mask that is empty everywhere, a NaN where it is 1. Equation `eq:REINFORCE_with_baseline`; Williams 1992.

    >>> loss, stats = reinforce_loss(torch.tensor([[-1.0, -2.0]]), torch.tensor([2.0]), torch.ones(1, 2))
    >>> loss.item()  # -2 (-1 - 2)
    6.0
    """
    logp, _ = check_mask(logp, mask, "logp")  # 0 off the mask, before the product: 0 * nan is nan

    losses = -per_token(adv, mask) * logp
    loss = aggregate(losses, mask, "sequence_sum", denominator=denominator)
    return loss, {"loss": loss.detach()}


def step(
    policy: nn.Module, optimizer: torch.optim.Optimizer, rollout: Rollout, score: Tensor, *, logp_ref: Tensor | None = None,
    beta: float = 0.0, baseline: float | Tensor = 0.0, temperature: float = 1.0, max_norm: float = 1.0,
) -> dict[str, Tensor]:
    """One REINFORCE update from a rollout and its scores (B,). Returns the statistics.

    beta times the KL to the reference, whose log-probabilities are `logp_ref` (B, T), is subtracted from the score.
    `baseline`: a number or (B,), known before these samples. `temperature`: the one the rollout was sampled with.
    """
    disable_dropout(policy)  # with dropout its log-probabilities are not those that it sampled with
    reward, kl = penalized(score, rollout.logp_old, logp_ref, rollout.mask, beta)
    logp = completion_logps(policy, rollout, temperature=temperature)
    loss, stats = reinforce_loss(logp, reward - baseline, rollout.mask)
    grad_norm = update(loss, optimizer, max_norm=max_norm)
    return stats | {"score": score.mean(), "reward": reward.mean(), "kl": kl.mean(), "grad_norm": grad_norm}
