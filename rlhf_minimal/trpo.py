"""TRPO: the largest step along the natural gradient that stays within `delta` nats of the policy that drew the data.

PPO's clip bounds nothing by itself; here the KL after the step is measured, and the step shortened until it fits.
"""

from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from .advantages import leave_one_out, per_token
from .aggregate import aggregate
from .forward import next_token_logits, put_back
from .kl import exact_kl, penalized
from .logprobs import check_temperature, places_to_score
from .models import disable_dropout
from .rollout import completion_logps
from .tensors import check_mask


def trpo_loss(logp, logp_old, adv, mask, *, denominator=None):
    """-mean over rows of sum_t rho_t A_t, rho = pi / pi_old, not clipped -> (loss, stats).

    logp, logp_old, mask (B, T); adv (B,) or (B, T), detached here. At logp == logp_old its gradient is REINFORCE's,
    -grad J in expectation (E3). denominator: rows. ValueError as `aggregate`. https://arxiv.org/abs/1502.05477

    >>> one, half = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.5, 0.5]])
    >>> loss, stats = trpo_loss(torch.tensor([[0.6, 0.5]]).log(), half.log(), torch.tensor([2.0]), one)
    >>> round(loss.item(), 4)  # -(1.2 + 1.0) * 2
    -4.4
    """
    adv = per_token(adv, mask)
    (logp, m), (old, _) = check_mask(logp, mask, "logp"), check_mask(logp_old.detach(), mask, "logp_old")
    ratio = (logp - old).exp()  # 0 off the mask *before* exp (E11)
    loss = aggregate(-ratio * adv, mask, "sequence_sum", denominator=denominator)
    return loss, {"loss": loss.detach(), "ratio": (ratio.detach() * m).sum() / m.sum().clamp(min=1)}


def conjugate_gradients(product, b, *, steps=10, tolerance=1e-10):
    """x with A x = b, from products A v alone, A symmetric and not negative: (n,) -> (n,), exact after rank(A) steps.

    >>> A = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> [round(x, 4) for x in conjugate_gradients(lambda v: A @ v, torch.tensor([3.0, 4.0])).tolist()]
    [1.0, 1.0]
    """
    x, rest = torch.zeros_like(b), b.clone()
    direction, size = rest.clone(), rest @ rest
    stop = tolerance**2 * size
    for _ in range(steps):
        image = product(direction)
        bend = direction @ image
        if size <= stop or bend <= 0:
            break
        move = size / bend
        x, rest = x + move * direction, rest - move * image
        new = rest @ rest
        direction, size = rest + new / size * direction, new
    return x


@contextmanager
def twice_differentiable():
    """Inside, attention is computed by the plain kernel: the fused ones have no second derivative. Nothing to choose."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def fisher_product(divergence, weights, *, damping=0.0):
    """v -> (F + damping) v, F the Hessian of `divergence` (scalar, with graph) in `weights`, by a double backward.

    Of KL(pi_old || pi) at pi = pi_old that Hessian is the Fisher matrix. One backward a product, F is never stored.
    The forward that made `divergence` has to be run under `twice_differentiable`.
    """
    weights = list(weights)
    slope = flat_gradient(divergence, weights, create_graph=True)
    if not slope.requires_grad:
        raise ValueError("the divergence has no second derivative in the weights; make it of live log-probabilities")

    def product(v):
        return flat_gradient(slope @ v, weights, retain_graph=True) + damping * v

    return product


def flat_gradient(scalar, weights, **settings):
    """Gradient of a scalar in all `weights` as one vector, 0 where a weight has no part in it."""
    grads = torch.autograd.grad(scalar, weights, materialize_grads=True, **settings)
    return torch.cat([g.reshape(-1) for g in grads])


def natural_step(loss, divergence, weights, *, delta=0.01, damping=1e-3, cg_steps=10, shrink=0.5, tries=10):
    """Move `weights` in place by one TRPO step -> stats, floats: kl, improvement, step (share of the full one, or 0).

    loss, divergence: functions without arguments -> scalar at the present weights; divergence is KL(pi_old || pi), 0 at
    the start. The full step is sqrt(2 delta / x'Fx) x, F x = -grad loss. It is cut by `shrink` until the *measured* KL
    is <= delta and the loss has fallen; after `tries` cuts the old weights are put back.
    """
    if not (delta > 0 and damping >= 0 and 0 < shrink < 1 and cg_steps >= 1 and tries >= 1):
        raise ValueError(f"delta {delta}, damping {damping}, shrink {shrink}, cg_steps {cg_steps}, tries {tries}; give "
                         "delta > 0, damping >= 0, shrink between 0 and 1, cg_steps and tries of 1 or more")
    weights = [w for w in weights if w.requires_grad]
    with twice_differentiable():
        before = loss()
        slope = flat_gradient(before, weights)
        product = fisher_product(divergence(), weights, damping=damping)
        way = conjugate_gradients(product, -slope, steps=cg_steps)
        start, length = parameters_to_vector(weights).detach(), way @ product(way)
        if not torch.isfinite(length + slope.norm()):
            raise ValueError(f"x'Fx is {length.item()}, the gradient's norm {slope.norm().item()}; weights diverged?")
        full = way * (2 * delta / length).sqrt() if length > 0 else way * 0  # no signal: stay
        for k in range(tries if length > 0 else 0):
            _move(weights, start + shrink**k * full)
            with torch.no_grad():
                gain, kl = (before - loss()).item(), divergence().item()
            if gain > 0 and kl <= delta:
                return {"kl": kl, "improvement": gain, "step": shrink**k, "grad_norm": slope.norm().item()}
        _move(weights, start)
    return {"kl": 0.0, "improvement": 0.0, "step": 0.0, "grad_norm": slope.norm().item()}


@torch.no_grad()
def _move(weights, vector):
    vector_to_parameters(vector, weights)


def completion_logits(model, rollout, *, temperature=1.0):
    """(B, T, V) logits / temperature that a rollout's tokens were drawn from, 0 off the mask (B2, B4)."""
    check_temperature(temperature)
    scored = places_to_score(rollout.ids, rollout.attention, rollout.full_mask[:, 1:])
    found = [(place, logits / temperature)
             for logits, _, place in next_token_logits(model, rollout.ids, rollout.attention, scored)]
    return put_back(found, scored.shape)[:, rollout.prompt_len - 1:]


def step(policy, rollout, score, *, group_size, logp_ref=None, beta=0.0, temperature=1.0, **settings):
    """One TRPO update from a rollout and its scores (B,), prompt-major -> stats; no optimizer, the KL sets the step.

    Advantages are leave-one-out (the paper has a value net). The KL is that of a sequence: exact over the vocabulary at
    each sampled prefix, summed over tokens, mean over rows, nats. settings: delta, damping, ... of `natural_step`.
    """
    disable_dropout(policy)  # or the KL at the start is not 0 (B7)
    reward, kl = penalized(score, rollout.logp_old, logp_ref, rollout.mask, beta)
    adv = leave_one_out(reward, group_size)
    with torch.no_grad():
        old = completion_logits(policy, rollout, temperature=temperature)

    def loss():
        logp = completion_logps(policy, rollout, temperature=temperature)
        return trpo_loss(logp, rollout.logp_old, adv, rollout.mask)[0]

    def divergence():
        new = completion_logits(policy, rollout, temperature=temperature)
        return aggregate(exact_kl(old, new), rollout.mask, "sequence_sum")

    stats = natural_step(loss, divergence, policy.parameters(), **settings)
    stats["kl_old"] = stats.pop("kl")  # to the policy before the step; "kl" is to the reference, as elsewhere
    return stats | {"score": score.mean(), "reward": reward.mean(), "kl": kl.mean()}
