"""TRPO: the largest step along the natural gradient that stays within `delta` nats of the policy that drew the data.

PPO's clip bounds nothing by itself; here the KL after the step is measured, and the step shortened until it fits.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from .advantages import leave_one_out, per_token
from .aggregate import aggregate
from .forward import next_token_logits, put_back
from .kl import exact_kl, penalized
from .logprobs import check_temperature, places_to_score
from .models import disable_dropout
from .rollout import Rollout, completion_logps
from .tensors import check_mask


def trpo_loss(
    logp: Tensor, logp_old: Tensor, adv: Tensor, mask: Tensor, *, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """TRPO's surrogate: minus the importance ratio times the advantage, not clipped, summed over an answer.

    logp, logp_old, mask (B, T), in nats; adv (B,) or (B, T), detached here. `denominator`: the number of rows of the whole
    optimizer step, where this batch is a part of it.

    Returns the loss, averaged over answers, and the statistics `loss` and `ratio`. At logp == logp_old its gradient is
    REINFORCE's. Raises ValueError for shapes that do not fit, a mask that is empty everywhere, a NaN where it is 1.
    Schulman et al. 2015, https://arxiv.org/abs/1502.05477

    >>> old, new = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.6, 0.5]]).log()  # ratios 1.2, 1
    >>> round(trpo_loss(new, old, torch.tensor([2.0]), torch.ones(1, 2))[0].item(), 4)  # -(1.2 + 1.0) * 2
    -4.4
    """
    adv = per_token(adv, mask)
    logp, m = check_mask(logp, mask, "logp")  # 0 off the mask, before exp
    logp_old, _ = check_mask(logp_old.detach(), mask, "logp_old")

    ratio = (logp - logp_old).exp()
    losses = -ratio * adv
    loss = aggregate(losses, mask, "sequence_sum", denominator=denominator)
    return loss, {"loss": loss.detach(), "ratio": (ratio.detach() * m).sum() / m.sum().clamp(min=1)}


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], b: Tensor, *, steps: int = 10, tolerance: float = 1e-10,
) -> Tensor:
    """Solve A x = b by the conjugate gradient method, from products A v alone.

    product: v (n,) -> A v (n,), A symmetric with no negative eigenvalue; b (n,). Returns x (n,): exact after rank(A) steps,
    earlier an approximation.

    >>> A = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> [round(x, 4) for x in conjugate_gradients(lambda v: A @ v, torch.tensor([3.0, 4.0])).tolist()]
    [1.0, 1.0]
    """
    x, residual = torch.zeros_like(b), b.clone()
    direction, size = residual.clone(), residual @ residual
    stop = tolerance**2 * size
    for _ in range(steps):
        image = product(direction)
        curvature = direction @ image
        if size <= stop or curvature <= 0:
            break
        length = size / curvature
        x, residual = x + length * direction, residual - length * image
        new_size = residual @ residual
        direction, size = residual + new_size / size * direction, new_size
    return x


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Inside, attention is computed by the plain kernel: the fused ones have no second derivative."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def fisher_product(
    divergence: Tensor, weights: Iterable[Tensor], *, damping: float = 0.0,
) -> Callable[[Tensor], Tensor]:
    """The function v -> (F + damping) v, where F is the Hessian of `divergence` in `weights`.

    divergence: a scalar with its graph, computed under `twice_differentiable`. Of KL(pi_old || pi) at pi = pi_old, that
    Hessian is the Fisher matrix. Each product costs one backward pass; F itself is never stored. Raises ValueError if
    the divergence has no second derivative.
    """
    weights = list(weights)
    gradient = flat_gradient(divergence, weights, create_graph=True)
    if not gradient.requires_grad:
        raise ValueError("the divergence has no second derivative in the weights; make it of live log-probabilities")

    def product(v: Tensor) -> Tensor:
        return flat_gradient(gradient @ v, weights, retain_graph=True) + damping * v

    return product


def flat_gradient(scalar: Tensor, weights: list[Tensor], **settings) -> Tensor:
    """Gradient of a scalar in all `weights` as one vector, 0 where a weight has no part in it."""
    grads = torch.autograd.grad(scalar, weights, materialize_grads=True, **settings)
    return torch.cat([g.reshape(-1) for g in grads])


def natural_step(
    loss: Callable[[], Tensor], divergence: Callable[[], Tensor], weights: Iterable[Tensor], *, delta: float = 0.01,
    damping: float = 1e-3, cg_steps: int = 10, shrink: float = 0.5, tries: int = 10,
) -> dict[str, float]:
    """Move `weights` in place by one TRPO step.

    loss, divergence: functions without arguments that give a scalar at the present weights; the divergence is
    KL(pi_old || pi), 0 at the start. With g the gradient of the loss and F the Fisher matrix, x solves F x = -g, and the
    full step is sqrt(2 delta / x'Fx) x. It is shortened by `shrink` until the *measured* KL is at most delta and the loss
    has fallen; after `tries` attempts the old weights are put back.

    Returns floats: `kl`, `improvement`, `step` (the share of the full step that was taken, or 0), `grad_norm`. Raises
    ValueError for settings out of range and for weights that have diverged.
    """
    if not (delta > 0 and damping >= 0 and 0 < shrink < 1 and cg_steps >= 1 and tries >= 1):
        raise ValueError(f"delta {delta}, damping {damping}, shrink {shrink}, cg_steps {cg_steps}, tries {tries}; give "
                         "delta > 0, damping >= 0, shrink between 0 and 1, cg_steps and tries of 1 or more")
    weights = [w for w in weights if w.requires_grad]
    with twice_differentiable():
        before = loss()
        g = flat_gradient(before, weights)
        fisher = fisher_product(divergence(), weights, damping=damping)
        x = conjugate_gradients(fisher, -g, steps=cg_steps)
        start, x_F_x = parameters_to_vector(weights).detach(), x @ fisher(x)
        if not torch.isfinite(x_F_x + g.norm()):
            raise ValueError(f"x'Fx is {x_F_x.item()}, the gradient's norm {g.norm().item()}; weights diverged?")
        if x_F_x > 0:  # else there is no signal: stay
            full_step = x * (2 * delta / x_F_x).sqrt()
            for k in range(tries):
                set_weights(weights, start + shrink**k * full_step)
                with torch.no_grad():
                    improvement, kl = (before - loss()).item(), divergence().item()
                if improvement > 0 and kl <= delta:
                    return {"kl": kl, "improvement": improvement, "step": shrink**k, "grad_norm": g.norm().item()}
            set_weights(weights, start)
    return {"kl": 0.0, "improvement": 0.0, "step": 0.0, "grad_norm": g.norm().item()}


@torch.no_grad()
def set_weights(weights: list[Tensor], vector: Tensor) -> None:
    """Write one long vector into the weights, in place."""
    vector_to_parameters(vector, weights)


def completion_logits(model: nn.Module, rollout: Rollout, *, temperature: float = 1.0) -> Tensor:
    """The logits that a rollout's tokens were drawn from, divided by the temperature: (B, T, V), 0 off the mask.

    Raises ValueError as `token_logps`.
    """
    check_temperature(temperature)
    scored = places_to_score(rollout.ids, rollout.attention, rollout.full_mask[:, 1:])
    found = [(place, logits / temperature)
             for logits, _, place in next_token_logits(model, rollout.ids, rollout.attention, scored)]
    return put_back(found, scored.shape)[:, rollout.prompt_len - 1:]


def step(
    policy: nn.Module, rollout: Rollout, score: Tensor, *, group_size: int, logp_ref: Tensor | None = None,
    beta: float = 0.0, temperature: float = 1.0, **settings,
) -> dict[str, Tensor | float]:
    """One TRPO update from a rollout and its scores (B,), the samples of one prompt adjacent. There is no optimizer.

    The advantage is leave-one-out, where the paper has a value model. The KL that bounds the step is that of a whole answer:
    exact over the vocabulary after each sampled prefix, summed over tokens, averaged over rows, in nats. `settings` go to
    `natural_step`: delta, damping, ... Returns its statistics (`kl` under the name `kl_old`), `score`, `reward`, `kl`.
    """
    disable_dropout(policy)  # with dropout the KL would not be 0 at the start
    reward, kl = penalized(score, rollout.logp_old, logp_ref, rollout.mask, beta)
    adv = leave_one_out(reward, group_size)
    with torch.no_grad():
        logits_old = completion_logits(policy, rollout, temperature=temperature)

    def loss() -> Tensor:
        logp = completion_logps(policy, rollout, temperature=temperature)
        return trpo_loss(logp, rollout.logp_old, adv, rollout.mask)[0]

    def divergence() -> Tensor:
        logits = completion_logits(policy, rollout, temperature=temperature)
        return aggregate(exact_kl(logits_old, logits), rollout.mask, "sequence_sum")

    stats = natural_step(loss, divergence, policy.parameters(), **settings)
    stats["kl_old"] = stats.pop("kl")  # to the policy before the step; "kl" is to the reference, as elsewhere
    return stats | {"score": score.mean(), "reward": reward.mean(), "kl": kl.mean()}
