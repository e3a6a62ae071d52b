"""P3O, pairwise PPO: two answers per prompt, of which only the difference of scores is used.

Not the off-policy method of the same name. Adding any number to both scores of a prompt changes nothing.
"""

import math

import torch
from torch import Tensor, nn

from .advantages import leave_one_out
from .aggregate import aggregate
from .kl import penalized
from .models import disable_dropout
from .optim import update
from .ppo import ratio_stats
from .rollout import Rollout, completion_logps
from .tensors import check_mask

P3O_MODES = ("separate", "joint")


def p3o_loss(
    logp: Tensor, logp_old: Tensor, score: Tensor, mask: Tensor, *, clip: float | None = 0.2, mode: str = "separate",
    denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Pairwise policy gradient: the better answer of a pair is made likelier, the worse one less likely, up to a clip.

    logp, logp_old, mask (B, T), in nats; score (B,), the two answers to one prompt next to each other.
    `mode="separate"` (the paper's first variant) clips each answer's ratio, as PPO does; `"joint"`, its second, clips the
    gap of the two log-ratios and weighs the pair by the product of its ratios, without gradient and clipped too.
    clip=None: no clip at all. `denominator`: the rows of the whole optimizer step.

    At logp == logp_old the gradient is RLOO's with two samples. Without a clip both modes have the right expected gradient
    for old samples too; the paper weighs a pair by both ratios, "separate" leaves the *other* answer's out (its mean is
    1: less noise). How the paper combines clip and weight was compared with summaries of it, not with its text.

    Returns the loss, averaged over answers, and `clip_frac` with the statistics of the ratio ("separate") or `weight`
    ("joint"). Raises ValueError for an odd B, another mode, a clip outside 0 to 1.
    Wu et al. 2023, https://arxiv.org/abs/2310.00212

    >>> logp, old = torch.tensor([[-1.0], [-2.0]]), torch.tensor([[-1.1], [-1.9]])  # ratios e^0.1, e^-0.1
    >>> pair, ones = torch.tensor([1.0, 0.0]), torch.ones(2, 1)
    >>> [round(p3o_loss(logp, old, pair, ones, clip=None, mode=mode)[0].item(), 4) for mode in P3O_MODES]
    [-0.1002, -0.1]
    """
    adv = leave_one_out(score, 2)  # r_1 - r_2 and r_2 - r_1
    check_p3o(mode, clip)
    logp, m = check_mask(logp, mask, "logp")
    logp_old, _ = check_mask(logp_old.detach(), mask, "logp_old")
    answered = m.any(1).to(m.dtype)
    low, high = (1.0, math.inf) if clip is None else (clip, clip)

    log_ratio = logp.sum(1) - logp_old.sum(1)  # (B,)
    if mode == "separate":
        ratio = log_ratio.exp()
        losses = -torch.minimum(ratio * adv, ratio.clamp(1 - low, 1 + high) * adv)
        loss = aggregate(losses[:, None], answered[:, None], "sequence_sum", denominator=denominator)
        return loss, ratio_stats(log_ratio, adv, answered, low=low, high=high) | {"loss": loss.detach()}

    first, second = log_ratio.view(-1, 2).unbind(1)  # (B/2,): one number per pair
    gap, adv = first - second, adv[::2]
    weight = (first + second).detach().exp().clamp(1 - low, 1 + high)
    clipped = gap if clip is None else gap.clamp(-clip, clip)
    losses = -weight * torch.minimum(gap * adv, clipped * adv)
    rows = len(score) if denominator is None else denominator  # a pair stands for two rows
    loss = aggregate(losses[:, None], torch.ones_like(losses)[:, None], "sequence_sum", denominator=rows)
    clip_frac = (clipped * adv < gap * adv).float().mean()
    return loss, {"loss": loss.detach(), "clip_frac": clip_frac, "weight": weight.mean()}


def check_p3o(mode: str, clip: float | None) -> None:
    """Raise ValueError for an unknown mode, or a clip that is neither None nor above 0 and at most 1."""
    if mode not in P3O_MODES:
        raise ValueError(f"mode is {mode!r}; choose one of {', '.join(P3O_MODES)}")
    if clip is not None and not 0 < clip <= 1:
        raise ValueError(f"clip is {clip}; give a number above 0 and up to 1, or None for no clipping")


def step(
    policy: nn.Module, optimizer: torch.optim.Optimizer, rollout: Rollout, score: Tensor, *, logp_ref: Tensor | None = None,
    beta: float = 0.0, epochs: int = 1, temperature: float = 1.0, max_norm: float = 1.0, **settings,
) -> dict[str, Tensor]:
    """One P3O update, or several on the same rollout of two samples per prompt. Returns the mean of their statistics.

    score (B,). beta times the KL to the reference, whose log-probabilities are `logp_ref` (B, T), is subtracted from it.
    `temperature`: the one the rollout was sampled with. `settings` go to `p3o_loss`: clip, mode.
    """
    disable_dropout(policy)  # with dropout the ratios would not be 1 before the first update
    reward, kl = penalized(score, rollout.logp_old, logp_ref, rollout.mask, beta)
    history = []
    for _ in range(epochs):
        logp = completion_logps(policy, rollout, temperature=temperature)
        loss, stats = p3o_loss(logp, rollout.logp_old, reward, rollout.mask, **settings)
        history.append(stats | {"grad_norm": update(loss, optimizer, max_norm=max_norm)})
    stats = {name: torch.stack([h[name] for h in history]).mean() for name in history[0]}
    return stats | {"score": score.mean(), "reward": reward.mean(), "kl": kl.mean()}
