"""RLOO: REINFORCE whose baseline is the mean score of the *other* samples of the same prompt."""

from .advantages import leave_one_out
from .equations import implements
from .kl import penalized
from .models import disable_dropout
from .optim import update
from .reinforce import reinforce_loss
from .rollout import completion_logps


@implements("eq:RLOO_baseline", "eq:RLOO_advantage")
def rloo_loss(logp, score, mask, *, group_size, denominator=None):
    """-mean over rows of (score - mean of the others) sum_t log p -> (loss, stats).

    logp, mask (B, T); score (B,), prompt-major, detached here. Its expected gradient is exactly -grad J; a mean that
    includes the sample's own score shrinks it by (G-1)/G.
    ValueError if group_size does not divide B or is 1 (no others). https://arxiv.org/abs/2402.14740

    >>> import torch
    >>> logp = torch.tensor([[-1.0, -2.0], [-0.5, -0.5]])
    >>> rloo_loss(logp, torch.tensor([1.0, 0.0]), torch.ones(2, 2), group_size=2)[0].item()  # (3 - 1) / 2
    1.0
    """
    adv = leave_one_out(score.detach(), group_size)
    loss, stats = reinforce_loss(logp, adv, mask, denominator=denominator)
    return loss, stats | {"adv_std": adv.std()}


def step(policy, optimizer, rollout, score, *, group_size, logp_ref=None, beta=0.0, temperature=1.0, max_norm=1.0):
    """One RLOO update from a rollout and its scores (B,), prompt-major -> stats. The KL lowers the score (C4)."""
    disable_dropout(policy)  # or its log-probabilities are not those it sampled with (B7)
    reward, kl = penalized(score, rollout.logp_old, logp_ref, rollout.mask, beta)
    logp = completion_logps(policy, rollout, temperature=temperature)
    loss, stats = rloo_loss(logp, reward, rollout.mask, group_size=group_size)
    norm = update(loss, optimizer, max_norm=max_norm)
    return stats | {"score": score.mean(), "reward": reward.mean(), "kl": kl.mean(), "grad_norm": norm}
