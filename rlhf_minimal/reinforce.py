"""REINFORCE: the log-probability of what was sampled, weighted by how good it was."""

from .advantages import per_token
from .aggregate import aggregate
from .equations import implements
from .kl import k1
from .logprobs import token_logps
from .models import disable_dropout
from .sft import update
from .tensors import check_mask, masked_sum


def completion_logps(model, rollout, *, temperature=1.0):
    """(B, T) log-probabilities of a rollout's sampled tokens, at the temperature they were sampled with (B4)."""
    logps = token_logps(model, rollout.ids, rollout.attention, temperature=temperature, wanted=rollout.full_mask[:, 1:])
    return rollout.completion_logps(logps)


def penalized(score, logp_old, logp_ref, mask, beta):
    """score - beta * sum_t k1, and that KL, both (B,) and detached: the sequence's *sum*, not its mean (C4, K7).

    >>> import torch
    >>> old, ref, score = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -2.5]]), torch.tensor([1.0])
    >>> [x.tolist() for x in penalized(score, old, ref, torch.ones(1, 2), 0.5)]  # KL 1/2 + 1/2
    [[0.5], [1.0]]
    """
    if logp_ref is None:
        if beta:
            raise ValueError(f"beta={beta} without logp_ref: give the reference's log-probabilities (B, T), or beta=0")
        return score.detach(), score.new_zeros(score.shape)
    old = check_mask(logp_old.detach(), mask, "logp_old")[0]
    ref = check_mask(logp_ref.detach(), mask, "logp_ref")[0]
    kl = masked_sum(k1(old, ref), mask, dim=1)
    return score.detach() - beta * kl, kl


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
