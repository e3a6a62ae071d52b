"""RLOO: REINFORCE whose baseline is the mean score of the *other* samples of the same prompt."""

import torch
from torch import Tensor, nn

from .advantages import leave_one_out, per_token
from .aggregate import aggregate
from .equations import implements
from .kl import penalized
from .models import disable_dropout
from .optim import update
from .rollout import Rollout, completion_logps
from .tensors import check_mask


@implements("eq:RLOO_baseline", "eq:RLOO_advantage")
def rloo_loss(
    logp: Tensor, score: Tensor, mask: Tensor, *, group_size: int, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """REINFORCE leave-one-out: an answer's advantage is its score minus the mean score of its prompt's other answers.

    logp, mask (B, T), in nats; score (B,), with the `group_size` samples of one prompt next to each other. `denominator`:
    the number of rows of the whole optimizer step, where this batch is a part of it.

    The expected gradient is exactly that of minus the expected score. A mean that includes the answer's own score
    would shrink it by (G - 1) / G.

    Returns the loss, averaged over answers, and the statistics `loss` and `adv_std`. Raises ValueError as
    `reinforce_loss`, and unless group_size is 2 or more and divides B. Equations `eq:RLOO_baseline`, `eq:RLOO_advantage`;
    Kool et al. 2019; Ahmadian et al. 2024, https://arxiv.org/abs/2402.14740

    >>> logp = torch.tensor([[-1.0, -2.0], [-0.5, -0.5]])
    >>> loss, stats = rloo_loss(logp, torch.tensor([1.0, 0.0]), torch.ones(2, 2), group_size=2)
    >>> loss.item()  # advantages 1, -1: (3 - 1) / 2
    1.0
    """
    adv = leave_one_out(score, group_size)
    logp, _ = check_mask(logp, mask, "logp")  # 0 off the mask, before the product: 0 * nan is nan

    losses = -per_token(adv, mask) * logp
    loss = aggregate(losses, mask, "sequence_sum", denominator=denominator)
    return loss, {"loss": loss.detach(), "adv_std": adv.std()}


def step(
    policy: nn.Module, optimizer: torch.optim.Optimizer, rollout: Rollout, score: Tensor, *, group_size: int,
    logp_ref: Tensor | None = None, beta: float = 0.0, temperature: float = 1.0, max_norm: float = 1.0,
) -> dict[str, Tensor]:
    """One RLOO update from a rollout and its scores (B,), the samples of one prompt adjacent. Returns the statistics.

    beta times the KL to the reference, whose log-probabilities are `logp_ref` (B, T), is subtracted from the score.
    `temperature`: the one the rollout was sampled with.
    """
    disable_dropout(policy)  # with dropout its log-probabilities are not those that it sampled with
    reward, kl = penalized(score, rollout.logp_old, logp_ref, rollout.mask, beta)
    logp = completion_logps(policy, rollout, temperature=temperature)
    loss, stats = rloo_loss(logp, reward, rollout.mask, group_size=group_size)
    grad_norm = update(loss, optimizer, max_norm=max_norm)
    return stats | {"score": score.mean(), "reward": reward.mean(), "kl": kl.mean(), "grad_norm": grad_norm}
