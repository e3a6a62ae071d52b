"""KL(policy || reference): three estimators, the exact value, and the controllers of its coefficient.

The sample comes from the policy. As a term of a *loss* each estimator has another gradient than its value suggests:
k1 has none in expectation, k2 that of KL(pi||ref), k3 that of KL(ref||pi). Nothing is clamped (C3). Units are nats.
ValueError on shapes that differ and on a NaN.
Schulman, "Approximating KL divergence", 2020.
"""

import math

import torch

from .equations import implements
from .tensors import as_float, check_mask, check_no_nan, check_shapes, masked_sum


def _log_ratio(logp, logp_ref):
    check_shapes(logp=logp, logp_ref=logp_ref)
    check_no_nan(logp=logp, logp_ref=logp_ref)
    return as_float(logp) - as_float(logp_ref)


@implements("eq:kl_expectation")
def k1(logp, logp_ref):
    """log pi - log ref, per token, any shape: mean KL, gradient 0 in expectation. For the reward, detached (C2, C3).

    >>> [round(x, 4) for x in k1(torch.tensor([0.5, 0.25]).log(), torch.tensor([0.25, 0.5]).log()).tolist()]  # log 2
    [0.6931, -0.6931]
    """
    return _log_ratio(logp, logp_ref)


def k2(logp, logp_ref):
    """Half the squared log-ratio, any shape, >= 0: its mean is not KL, its expected gradient is that of KL(pi||ref).

    >>> [round(x, 4) for x in k2(torch.tensor([0.5, 0.25]).log(), torch.tensor([0.25, 0.5]).log()).tolist()]
    [0.2402, 0.2402]
    """
    return _log_ratio(logp, logp_ref).square() / 2


def k3(logp, logp_ref):
    """ref/pi - 1 - log(ref/pi), any shape, >= 0: mean KL, less noise than k1; its gradient is that of KL(ref||pi).

    >>> k = k3(torch.tensor([0.5, 0.25]).log(), torch.tensor([0.25, 0.5]).log())
    >>> [round(x, 4) for x in k.tolist()]  # 1/2 - 1 + log 2, 2 - 1 - log 2
    [0.1931, 0.3069]
    """
    d = _log_ratio(logp, logp_ref)
    return torch.expm1(-d) + d  # expm1: exp(-d) - 1 loses all digits near 0 (C2)


@implements("eq:def_kl")
def exact_kl(logits, logits_ref):
    """sum_v p log(p/q) over the vocabulary: (...,V), (...,V) logits -> (...), nats, >= 0; k1 without its noise (C5).

    Finite where p is 0 (0 log 0 = 0), infinite only where q is 0 and p is not. Not F.kl_div, whose arguments stand the
    other way round (C6). Give logits already divided by the sampling temperature (B4).

    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
    >>> round(exact_kl(p.log(), q.log()).item(), 4)  # 1/2 log 5/9 + 1/2 log 5
    0.5108
    """
    check_shapes(logits=logits, logits_ref=logits_ref)
    check_no_nan(logits=logits, logits_ref=logits_ref)
    logp, logq = as_float(logits).log_softmax(-1), as_float(logits_ref).log_softmax(-1)
    p = logp.exp()
    kl = (p * torch.where(p > 0, logp - logq, 0)).sum(-1)
    return kl + torch.where(kl < 0, -kl, 0).detach()  # rounding below 0 goes, the gradient stays


def _positive(**numbers):
    for name, x in numbers.items():
        if not (math.isfinite(x) and x > 0):
            raise ValueError(f"{name} is {x}; give a finite number above 0")


class FixedKL:
    """A KL coefficient that stays. `.beta` is the coefficient; `.update(kl, n)` returns it.

    >>> FixedKL(0.1).update(12.0, 256)
    0.1
    """

    def __init__(self, beta):
        if not (math.isfinite(beta) and beta >= 0):
            raise ValueError(f"beta is {beta}; give a finite number, 0 or above")
        self.beta = beta

    def update(self, kl, n):
        """Return `.beta` unchanged."""
        return self.beta


class AdaptiveKL:
    """A KL coefficient that steers the KL to `target` nats a *sequence*. Ziegler et al. 2019.

    >>> round(AdaptiveKL(0.2, 6.0, 10000).update(12.0, 256), 6)  # 0.2 (1 + 0.2 * 256 / 10000)
    0.201024
    """

    def __init__(self, beta, target, horizon):
        _positive(beta=beta, target=target, horizon=horizon)
        self.beta, self.target, self.horizon = beta, target, horizon

    def update(self, kl, n):
        """beta *= 1 + clip(kl/target - 1, -0.2, 0.2) * n/horizon, for n sequences of mean *summed* KL `kl` (C7).

        ValueError on kl = NaN or n <= 0. kl in nats.
        """
        _positive(n=n)
        kl = float(kl)
        if math.isnan(kl):
            raise ValueError("kl is NaN; look at the log-probabilities it was made of")
        self.beta *= 1 + min(max(kl / self.target - 1, -0.2), 0.2) * n / self.horizon
        return self.beta


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
