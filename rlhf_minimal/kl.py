"""How far the policy has moved: KL(policy || reference), estimated or exact, and what controls its coefficient.

**Estimators.** logp and logp_ref are the log-probabilities, in nats, that the policy and the reference give to the *same*
tokens, sampled from the policy: any shape, and the result has it too. Nothing is clamped.

**Values and gradients are two things.** k1 and k3 have the KL as their mean. As a term of a *loss*, each has the gradient
of something else: k1's is 0 in expectation, k2's is that of KL(policy || reference), k3's that of KL(reference || policy).

All raise ValueError for shapes that differ and for a NaN. Schulman 2020, http://joschu.net/blog/kl-approx.html
"""

import math

import torch
from torch import Tensor

from .equations import implements
from .tensors import as_float, check_mask, check_no_nan, check_positive, check_shapes, masked_sum


@implements("eq:kl_expectation")
def k1(logp: Tensor, logp_ref: Tensor) -> Tensor:
    """The log-ratio, log pi - log ref, per token: its mean is the KL, single values may be negative.

    Use it in the reward, detached: as a term of a loss it has no gradient in expectation. logp, logp_ref: one shape, nats.
    Equation `eq:kl_expectation`.

    >>> [round(x, 4) for x in k1(torch.tensor([0.5, 0.25]).log(), torch.tensor([0.25, 0.5]).log()).tolist()]  # log 2
    [0.6931, -0.6931]
    """
    check_shapes(logp=logp, logp_ref=logp_ref)
    check_no_nan(logp=logp, logp_ref=logp_ref)
    return as_float(logp) - as_float(logp_ref)


def k2(logp: Tensor, logp_ref: Tensor) -> Tensor:
    """Half the squared log-ratio, per token, never negative: its mean is not the KL, but its gradient is the KL's.

    logp, logp_ref: one shape, nats. The gradient is that of KL(policy || reference), in expectation.

    >>> [round(x, 4) for x in k2(torch.tensor([0.5, 0.25]).log(), torch.tensor([0.25, 0.5]).log()).tolist()]
    [0.2402, 0.2402]
    """
    check_shapes(logp=logp, logp_ref=logp_ref)
    check_no_nan(logp=logp, logp_ref=logp_ref)
    log_ratio = as_float(logp) - as_float(logp_ref)
    return log_ratio.square() / 2


def k3(logp: Tensor, logp_ref: Tensor) -> Tensor:
    """ref/pi - 1 - log(ref/pi), per token, never negative: its mean is the KL, with less noise than k1.

    logp, logp_ref: one shape, nats. As a term of a loss it has the gradient of KL(reference || policy): the other direction.

    >>> k = k3(torch.tensor([0.5, 0.25]).log(), torch.tensor([0.25, 0.5]).log())
    >>> [round(x, 4) for x in k.tolist()]  # 1/2 - 1 + log 2, 2 - 1 - log 2
    [0.1931, 0.3069]
    """
    check_shapes(logp=logp, logp_ref=logp_ref)
    check_no_nan(logp=logp, logp_ref=logp_ref)
    log_ratio = as_float(logp) - as_float(logp_ref)
    return torch.expm1(-log_ratio) + log_ratio  # exp(-x) - 1 would lose all its digits near 0


@implements("eq:def_kl")
def exact_kl(logits: Tensor, logits_ref: Tensor) -> Tensor:
    """The KL itself, sum_v p log(p / q) over the vocabulary: what k1 estimates, without its noise.

    logits, logits_ref (..., V), already divided by the sampling temperature. Returns (...), in nats, 0 or above; infinite
    only where q is 0 and p is not. F.kl_div takes its arguments the other way round. Equation `eq:def_kl`.

    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
    >>> round(exact_kl(p.log(), q.log()).item(), 4)  # 1/2 log 5/9 + 1/2 log 5
    0.5108
    """
    check_shapes(logits=logits, logits_ref=logits_ref)
    check_no_nan(logits=logits, logits_ref=logits_ref)
    logp, logq = as_float(logits).log_softmax(-1), as_float(logits_ref).log_softmax(-1)
    p = logp.exp()
    kl = (p * torch.where(p > 0, logp - logq, 0)).sum(-1)  # 0 log 0 is 0
    return kl + torch.where(kl < 0, -kl, 0).detach()  # rounding below 0 goes, the gradient stays


class FixedKL:
    """A KL coefficient that stays as it is: `.beta` holds it, `.update(kl, n)` returns it.

    >>> FixedKL(0.1).update(12.0, 256)
    0.1
    """

    def __init__(self, beta: float):
        if not (math.isfinite(beta) and beta >= 0):
            raise ValueError(f"beta is {beta}; give a finite number, 0 or above")
        self.beta = beta

    def update(self, kl: float, n: int) -> float:
        """Return `.beta` unchanged."""
        return self.beta


class AdaptiveKL:
    """A KL coefficient that steers the KL of a whole sequence towards `target`, in nats.

    horizon: in sequences; the larger it is, the slower the coefficient moves. Raises ValueError unless all three numbers
    are above 0. Ziegler et al. 2019, https://arxiv.org/abs/1909.08593

    >>> round(AdaptiveKL(0.2, 6.0, 10000).update(12.0, 256), 6)  # 0.2 (1 + 0.2 * 256 / 10000)
    0.201024
    """

    def __init__(self, beta: float, target: float, horizon: float):
        check_positive(beta=beta, target=target, horizon=horizon)
        self.beta, self.target, self.horizon = beta, target, horizon

    def update(self, kl: float, n: int) -> float:
        """Move beta by what `n` sequences have shown, and return it. kl: their mean KL in nats, *summed* over tokens.

        Raises ValueError for a NaN and for n below 1.
        """
        check_positive(n=n)
        kl = float(kl)
        if math.isnan(kl):
            raise ValueError("kl is NaN; look at the log-probabilities it was made of")
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.beta *= 1 + error * n / self.horizon
        return self.beta


def penalized(
    score: Tensor, logp_old: Tensor, logp_ref: Tensor | None, mask: Tensor, beta: float,
) -> tuple[Tensor, Tensor]:
    """The KL penalty inside the reward: score - beta * KL, where the KL of a sequence is the *sum* of k1 over its tokens.

    score (B,); logp_old, logp_ref, mask (B, T), in nats. Returns the reward and the KL, (B,) each, detached; without
    logp_ref the score and zeros. Raises ValueError for a beta without logp_ref.

    >>> old, ref, score = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -2.5]]), torch.tensor([1.0])
    >>> [x.tolist() for x in penalized(score, old, ref, torch.ones(1, 2), 0.5)]  # KL 1/2 + 1/2
    [[0.5], [1.0]]
    """
    if logp_ref is None:
        if beta:
            raise ValueError(f"beta={beta} without logp_ref: give the reference's log-probabilities (B, T), or beta=0")
        return score.detach(), score.new_zeros(score.shape)
    logp_old, _ = check_mask(logp_old.detach(), mask, "logp_old")
    logp_ref, _ = check_mask(logp_ref.detach(), mask, "logp_ref")
    kl = masked_sum(k1(logp_old, logp_ref), mask, dim=1)
    return score.detach() - beta * kl, kl
