"""GRPO and its relatives: PPO without a value model. The samples of one prompt are each other's baseline.

Compare with `rloo.py`: the first line of each loss is its advantage, the rest is how that advantage is used. Arguments
are alike everywhere: logp, logp_old, mask (B, T), the log-probabilities (in nats) of the sampled tokens now and when they
were sampled; score (B,), one per sample, with the `group_size` samples of one prompt next to each other. `denominator`
replaces the outermost divisor, as in `aggregate`: give the count of the *whole* optimizer step where a batch is part of it.

All losses raise ValueError for shapes, groups or a clip that do not fit, for a mask that is empty everywhere (unless a
denominator is given), and for a NaN where the mask is 1.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .advantages import group_normalize, per_token
from .aggregate import aggregate
from .equations import implements
from .kl import k1, k3
from .models import disable_dropout
from .optim import update
from .ppo import check_clip, ratio_stats
from .rollout import Rollout, completion_logps
from .tensors import check_mask, masked_sum


@implements("eq:GRPO_token", "eq:GRPO_ADV", "eq:DrGRPO_ADV", "eq:grpo_loss_kl")
def grpo_loss(
    logp: Tensor, logp_old: Tensor, score: Tensor, mask: Tensor, *, group_size: int, clip: float = 0.2,
    clip_high: float | None = None, scale: bool = True, mode: str = "sequence_mean", logp_ref: Tensor | None = None,
    beta: float = 0.0, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Group relative policy optimization: PPO's clipped ratio, with a score normalized within its prompt as advantage.

    Per token: -min(ratio * adv, clip(ratio) * adv) + beta * k3. The KL term needs `logp_ref` (B, T), the reference's
    log-probabilities. `mode` says how tokens become a scalar (see `aggregate`). Two variants are settings:
    Dr. GRPO is `scale=False, mode="fixed"`; DAPO widens the upper clip alone, with `clip_high`.

    Two things to know. "sequence_mean", the published reduction, weighs the tokens of short answers more, so that the
    result is not the gradient of the expected score. And k3 as a term of a loss has the gradient of KL(ref || policy).

    Returns the loss and its statistics: those of the ratio, `equal_groups` (the share of prompts that teach nothing, since
    their scores are all equal) and, with a beta, `kl_ref`, in nats per sequence. Raises ValueError as the head of this
    file says, and for a beta without logp_ref. Equations `eq:GRPO_token`, `eq:GRPO_ADV`, `eq:DrGRPO_ADV`; Shao et al. 2024,
    https://arxiv.org/abs/2402.03300

    >>> old, new = torch.tensor([[0.4], [0.4]]).log(), torch.tensor([[0.6], [0.4]]).log()  # ratios 1.5, 1
    >>> loss, stats = grpo_loss(new, old, torch.tensor([1.0, 0.0]), torch.ones(2, 1), group_size=2, scale=False)
    >>> round(loss.item(), 4)  # advantages 0.5, -0.5: (-1.2 * 0.5 + 0.5) / 2
    -0.05
    """
    adv = group_normalize(score, group_size, scale=scale)  # (score - mean) / std, within each prompt
    adv = per_token(adv, mask)  # (B,) -> (B, T): every token of an answer has the answer's advantage
    clip_high = check_clip(clip, clip_high)
    logp, m = check_mask(logp, mask, "logp")
    logp_old, _ = check_mask(logp_old.detach(), mask, "logp_old")

    ratio = (logp - logp_old).exp()
    losses = -torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip_high) * adv)
    stats = ratio_stats(logp - logp_old, adv, m, low=clip, high=clip_high)
    if beta:
        if logp_ref is None:
            raise ValueError(f"beta={beta} without logp_ref: give the reference's log-probabilities (B, T), or beta=0")
        logp_ref, _ = check_mask(logp_ref.detach(), mask, "logp_ref")
        kl = k3(logp, logp_ref)  # per token: pi_ref / pi - 1 - log(pi_ref / pi)
        losses = losses + beta * kl
        stats["kl_ref"] = kl.detach().sum() / m.any(1).sum().clamp(min=1)
    loss = aggregate(losses, mask, mode, denominator=denominator)

    groups = score.detach().view(-1, group_size)
    equal_groups = (groups == groups[:, :1]).all(1).float().mean()
    return loss, stats | {"loss": loss.detach(), "equal_groups": equal_groups}


@implements("eq:GSPO_ratio", "eq:GSPO_objective")
def gspo_loss(
    logp: Tensor, logp_old: Tensor, score: Tensor, mask: Tensor, *, group_size: int, clip: float = 3e-4,
    clip_high: float | None = None, scale: bool = True, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Group sequence policy optimization: GRPO with one ratio per answer, the geometric mean of its tokens' ratios.

    The score belongs to a whole answer, so the ratio does too; answers are clipped as a whole. Mean ratios stay much
    closer to 1 than those of single tokens, hence the small `clip`. logp, logp_old, mask (B, T); score (B,).

    Returns the loss, averaged over answers, and the statistics of the ratio. Raises ValueError as the head of this file
    says. Equation `eq:GSPO_ratio`; Zheng et al. 2025, https://arxiv.org/abs/2507.18071

    >>> old, new = torch.tensor([[0.2, 0.4], [0.4, 0.4]]).log(), torch.tensor([[0.8, 0.4], [0.4, 0.4]]).log()
    >>> loss, _ = gspo_loss(new, old, torch.tensor([1.0, 0.0]), torch.ones(2, 2), group_size=2, clip=0.2, scale=False)
    >>> round(loss.item(), 4)  # sqrt(4 * 1) = 2, clipped to 1.2: (-1.2 * 0.5 + 0.5) / 2
    -0.05
    """
    adv = group_normalize(score, group_size, scale=scale)
    clip_high = check_clip(clip, clip_high)
    logp, m = check_mask(logp, mask, "logp")
    logp_old, _ = check_mask(logp_old.detach(), mask, "logp_old")
    answered, length = m.any(1), m.sum(1).clamp(min=1)

    log_ratio = (logp - logp_old).sum(1) / length  # (B,)
    ratio = log_ratio.exp()
    losses = -torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip_high) * adv)
    loss = aggregate(losses[:, None], answered[:, None], "sequence_mean", denominator=denominator)
    stats = ratio_stats(log_ratio, adv, answered.to(m.dtype), low=clip, high=clip_high)
    return loss, stats | {"loss": loss.detach()}


@implements("eq:CISPO_objective")
def cispo_loss(
    logp: Tensor, logp_old: Tensor, score: Tensor, mask: Tensor, *, group_size: int, clip_high: float = 0.2,
    scale: bool = True, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """CISPO: REINFORCE with a clipped importance weight. Clipped tokens lose weight but, unlike in GRPO, keep a gradient.

    The weight min(ratio, 1 + clip_high) is a constant to the gradient; some trainers take the bound itself instead of
    `clip_high`. logp, logp_old, mask (B, T); score (B,).

    Returns the loss, averaged over all tokens, and `clip_frac`, the share of clipped tokens. Raises ValueError as the head
    of this file says. Equation `eq:CISPO_objective`; MiniMax 2025, https://arxiv.org/abs/2506.13585

    >>> old, new = torch.tensor([[0.4], [0.4]]).log(), torch.tensor([[0.6], [0.4]]).log()  # ratios 1.5, 1
    >>> loss, _ = cispo_loss(new, old, torch.tensor([1.0, 0.0]), torch.ones(2, 1), group_size=2, scale=False)
    >>> round(loss.item(), 4)  # (-1.2 * 0.5 log 0.6 + 0.5 log 0.4) / 2
    -0.0758
    """
    adv = group_normalize(score, group_size, scale=scale)
    adv = per_token(adv, mask)
    logp, m = check_mask(logp, mask, "logp")
    logp_old, _ = check_mask(logp_old.detach(), mask, "logp_old")

    ratio = (logp.detach() - logp_old).exp()
    losses = -ratio.clamp(max=1 + clip_high) * adv * logp
    loss = aggregate(losses, mask, "token_mean", denominator=denominator)
    clip_frac = ((ratio > 1 + clip_high) * m).sum() / m.sum().clamp(min=1)
    return loss, {"loss": loss.detach(), "clip_frac": clip_frac}


@implements("eq:tis_backend")
def truncated_importance(logp_learner: Tensor, logp_sampler: Tensor, mask: Tensor, *, cap: float = 2.0) -> Tensor:
    """Weights that correct for tokens drawn by another engine than the one that learns: min(learner / sampler, cap).

    All (B, T). Returns the weights, detached, 0 off the mask. Equation `eq:tis_backend`.

    >>> learner, sampler = torch.tensor([[0.8, 0.1]]).log(), torch.tensor([[0.2, 0.2]]).log()
    >>> [round(x, 4) for x in truncated_importance(learner, sampler, torch.ones(1, 2))[0].tolist()]  # 4, cut to 2; 1/2
    [2.0, 0.5]
    """
    learner, m = check_mask(logp_learner.detach(), mask, "logp_learner")
    sampler, _ = check_mask(logp_sampler.detach(), mask, "logp_sampler")
    return (learner - sampler).exp().clamp(max=cap) * m


def informative_rows(score: Tensor, group_size: int) -> Tensor:
    """DAPO's dynamic sampling: the rows of the prompts whose scores are not all equal, in order.

    score (B,). The other rows have advantage 0 and only dilute the batch: sample more prompts in their place. Returns row
    numbers, possibly none. Raises ValueError as `group_normalize`. Yu et al. 2025, https://arxiv.org/abs/2503.14476

    >>> informative_rows(torch.tensor([1.0, 1.0, 0.0, 1.0]), 2).tolist()
    [2, 3]
    """
    group_normalize(score, group_size)  # for its checks
    groups = score.detach().view(-1, group_size)
    mixed = (groups != groups[:, :1]).any(1)
    return mixed.repeat_interleave(group_size).nonzero()[:, 0]


def overlong_penalty(length: Tensor, *, limit: int, buffer: int) -> Tensor:
    """DAPO's soft punishment of long answers, to be added to the score: from 0 down to -1 over the last `buffer` tokens.

    length (B,), in tokens; `limit` is the longest that an answer may be. Returns (B,), float32. Raises ValueError unless
    0 < buffer <= limit.

    >>> overlong_penalty(torch.tensor([80, 90, 100, 120]), limit=100, buffer=20).tolist()
    [0.0, -0.5, -1.0, -1.0]
    """
    if not 0 < buffer <= limit:
        raise ValueError(f"limit {limit}, buffer {buffer}: give 0 < buffer <= limit, in tokens")
    return ((limit - buffer - length.float()) / buffer).clamp(-1, 0) + 0.0  # + 0.0 turns -0.0 into 0.0


def step(
    policy: nn.Module, optimizer: torch.optim.Optimizer, rollout: Rollout, score: Tensor, *, group_size: int,
    loss_fn: Callable = grpo_loss, logp_ref: Tensor | None = None, beta: float = 0.0, epochs: int = 1,
    temperature: float = 1.0, max_norm: float = 1.0, **settings,
) -> dict[str, Tensor]:
    """One update with a loss of this file, or several on the same rollout. Returns the mean of their statistics.

    score (B,), the samples of one prompt adjacent. `loss_fn`: `grpo_loss`, `gspo_loss` or `cispo_loss`; `settings` go to
    it. Only the first has a KL term: the others want beta = 0, and `logp_ref` (B, T) gives them the statistic `kl` alone.
    `temperature`: the one the rollout was sampled with. Raises ValueError as the loss does.
    """
    if loss_fn is grpo_loss:
        settings |= dict(logp_ref=logp_ref, beta=beta)
    elif beta:
        raise ValueError(f"beta={beta} with {loss_fn.__name__}, which has no KL term; give beta=0, or take grpo_loss")
    disable_dropout(policy)  # with dropout the ratios would not be 1 before the first update
    history = []
    for _ in range(epochs):
        logp = completion_logps(policy, rollout, temperature=temperature)
        loss, stats = loss_fn(logp, rollout.logp_old, score, rollout.mask, group_size=group_size, **settings)
        history.append(stats | {"grad_norm": update(loss, optimizer, max_norm=max_norm)})
    stats = {name: torch.stack([h[name] for h in history]).mean() for name in history[0]}
    if logp_ref is not None:
        stats["kl"] = masked_sum(k1(rollout.logp_old, logp_ref), rollout.mask, dim=1).mean()
    return stats | {"score": score.mean()}
