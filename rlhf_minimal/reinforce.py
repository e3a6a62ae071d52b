"""REINFORCE: the log-probability of what was sampled, weighted by how good it was."""

from .advantages import per_token
from .aggregate import aggregate
from .equations import implements
from .kl import penalized
from .models import disable_dropout
from .optim import update
from .rollout import completion_logps
from .tensors import check_mask


@implements("eq:REINFORCE_with_baseline")
def reinforce_loss(logp, adv, mask, *, denominator=None):
    """-mean over rows of sum_t adv log p -> (loss, stats). logp, mask (B, T); adv (B,) or (B, T), detached here.

    Sums over tokens: only then is its expected gradient -grad J, with any baseline that ignores the sample. A mean over
    tokens, as in the book's code, is another, biased objective (E8). denominator: rows of the whole optimizer step.
    ValueError on shapes that do not fit, an empty mask, a NaN on it.

    >>> import torch
    >>> reinforce_loss(torch.tensor([[-1.0, -2.0]]), torch.tensor([2.0]), torch.ones(1, 2))[0].item()  # -2 (-1 - 2)
    6.0
    """
    adv = per_token(adv, mask)
    logp, _ = check_mask(logp, mask, "logp")  # before the product: 0 * nan is nan (E11)
    loss = aggregate(-adv * logp, mask, "sequence_sum", denominator=denominator)
    return loss, {"loss": loss.detach()}


def step(policy, optimizer, rollout, score, *, logp_ref=None, beta=0.0, baseline=0.0, temperature=1.0, max_norm=1.0):
    """One REINFORCE update from a rollout and its scores (B,) -> stats. baseline: a number or (B,), from other data."""
    disable_dropout(policy)  # or its log-probabilities are not those it sampled with (B7)
    reward, kl = penalized(score, rollout.logp_old, logp_ref, rollout.mask, beta)
    logp = completion_logps(policy, rollout, temperature=temperature)
    loss, stats = reinforce_loss(logp, reward - baseline, rollout.mask)
    norm = update(loss, optimizer, max_norm=max_norm)
    return stats | {"score": score.mean(), "reward": reward.mean(), "kl": kl.mean(), "grad_norm": norm}
