"""GRPO and its relatives: PPO's clipped ratio without a value model; a group of samples is each other's baseline."""

from .advantages import group_normalize, per_token
from .aggregate import aggregate
from .equations import implements
from .kl import k1, k3
from .models import disable_dropout
from .ppo import surrogate
from .reinforce import completion_logps
from .sft import update
from .tensors import check_mask, masked_sum


def _kl_to_reference(logp, logp_ref, mask, beta):
    """beta * k3 a token, gradient into `logp` alone, and the estimate of KL(pi || pi_ref) a sequence for the stats."""
    if logp_ref is None:
        raise ValueError(f"beta={beta} without logp_ref: give the reference's log-probabilities (B, T), or beta=0")
    (logp, m), (ref, _) = check_mask(logp, mask, "logp"), check_mask(logp_ref.detach(), mask, "logp_ref")
    kl = k3(logp, ref)
    rows = (m.sum(1) > 0).sum().clamp(min=1)
    return beta * kl, kl.detach().sum() / rows


@implements("eq:GRPO_token", "eq:GRPO_ADV", "eq:DrGRPO_ADV")
def grpo_loss(
    logp, logp_old, score, mask, *, group_size, clip=0.2, clip_high=None, scale=True, mode="sequence_mean",
    logp_ref=None, beta=0.0, denominator=None,
):
    """-min(rho A, clip(rho) A) + beta k3 a token, reduced by `mode` -> (loss, stats). https://arxiv.org/abs/2402.03300

    logp, logp_old, logp_ref, mask (B, T); score (B,), prompt-major. A = (score - group mean) / group std. The mean over
    a row's tokens is the published algorithm and not the gradient of J; Dr. GRPO is `scale=False, mode="fixed"`, both
    (E7); DAPO raises the upper clip alone, `clip_high` (E4). k3 is the paper's plain one: as a loss term its gradient
    is that of KL(pi_ref || pi) (C3). denominator: rows or tokens of the whole optimizer step, as in `aggregate`.
    ValueError on shapes, groups or a mode that do not fit, an empty mask, a NaN on it, beta without logp_ref.

    >>> import torch
    >>> old, new = torch.tensor([[0.4], [0.4]]).log(), torch.tensor([[0.6], [0.4]]).log()  # ratios 1.5, 1
    >>> loss, _ = grpo_loss(new, old, torch.tensor([1.0, 0.0]), torch.ones(2, 1), group_size=2, scale=False)
    >>> round(loss.item(), 4)  # A = 0.5, -0.5: (-1.2 * 0.5 + 0.5) / 2
    -0.05
    """
    adv = group_normalize(score.detach(), group_size, scale=scale)
    x, stats = surrogate(logp, logp_old, adv, mask, low=clip, high=clip if clip_high is None else clip_high)
    if beta:
        penalty, stats["kl_ref"] = _kl_to_reference(logp, logp_ref, mask, beta)
        x = x + penalty
    loss = aggregate(x, mask, mode, denominator=denominator)
    equal = (score == score.roll(1)).view(-1, group_size)[:, 1:].all(1).float().mean()  # they teach nothing (D6)
    return loss, stats | {"loss": loss.detach(), "equal_groups": equal}


@implements("eq:GSPO_ratio")
def gspo_loss(
    logp, logp_old, score, mask, *, group_size, clip=3e-4, clip_high=None, scale=True, denominator=None,
):
    """GRPO with one ratio a sequence, exp(mean log-ratio), mean over rows -> (loss, stats) (E5).

    denominator: rows of the whole optimizer step, as in `aggregate`. https://arxiv.org/abs/2507.18071

    >>> import torch
    >>> old, new = torch.tensor([[0.2, 0.4], [0.4, 0.4]]).log(), torch.tensor([[0.8, 0.4], [0.4, 0.4]]).log()
    >>> loss, _ = gspo_loss(new, old, torch.tensor([1.0, 0.0]), torch.ones(2, 2), group_size=2, clip=0.2, scale=False)
    >>> round(loss.item(), 4)  # sqrt(4 * 1) = 2, clipped to 1.2: (-1.2 * 0.5 + 0.5) / 2
    -0.05
    """
    adv = group_normalize(score.detach(), group_size, scale=scale)
    (logp, m), (old, _) = check_mask(logp, mask, "logp"), check_mask(logp_old.detach(), mask, "logp_old")
    size, some = m.sum(1).clamp(min=1), m.any(1).to(m.dtype)[:, None]
    seq, seq_old = ((x.sum(1) / size)[:, None] for x in (logp, old))
    x, stats = surrogate(seq, seq_old, adv, some, low=clip, high=clip if clip_high is None else clip_high)
    loss = aggregate(x, some, "sequence_mean", denominator=denominator)
    return loss, stats | {"loss": loss.detach()}


@implements("eq:CISPO_objective")
def cispo_loss(logp, logp_old, score, mask, *, group_size, clip_high=0.2, scale=True, denominator=None):
    """-min(rho, 1 + clip_high).detach() A log p, mean over tokens -> (loss, stats). https://arxiv.org/abs/2506.13585

    Clipped tokens keep a gradient. The bound is 1 + clip_high; some trainers take it as the ratio itself (E4).

    >>> import torch
    >>> old, new = torch.tensor([[0.4], [0.4]]).log(), torch.tensor([[0.6], [0.4]]).log()  # ratios 1.5, 1
    >>> loss, _ = cispo_loss(new, old, torch.tensor([1.0, 0.0]), torch.ones(2, 1), group_size=2, scale=False)
    >>> round(loss.item(), 4)  # (-1.2 * 0.5 log 0.6 + 0.5 log 0.4) / 2
    -0.0758
    """
    adv = per_token(group_normalize(score.detach(), group_size, scale=scale), mask)
    (logp, m), (old, _) = check_mask(logp, mask, "logp"), check_mask(logp_old.detach(), mask, "logp_old")
    ratio = (logp.detach() - old).exp()
    loss = aggregate(-ratio.clamp(max=1 + clip_high) * adv * logp, mask, "token_mean", denominator=denominator)
    return loss, {"loss": loss.detach(), "clip_frac": ((ratio > 1 + clip_high) * m).sum() / m.sum().clamp(min=1)}


@implements("eq:tis_backend")
def truncated_importance(logp_learner, logp_sampler, mask, *, cap=2.0):
    """min(pi_learner / pi_sampler, cap), detached, 0 off the mask (B, T): weights of tokens another engine drew.

    >>> import torch
    >>> learner, sampler = torch.tensor([[0.8, 0.1]]).log(), torch.tensor([[0.2, 0.2]]).log()
    >>> [round(x, 4) for x in truncated_importance(learner, sampler, torch.ones(1, 2))[0].tolist()]  # 4, cut to 2; 1/2
    [2.0, 0.5]
    """
    new, m = check_mask(logp_learner.detach(), mask, "logp_learner")
    old, _ = check_mask(logp_sampler.detach(), mask, "logp_sampler")
    return (new - old).exp().clamp(max=cap) * m


def informative_rows(score, group_size):
    """Rows of the groups whose scores are not all equal: DAPO's dynamic sampling -> row numbers, in order.

    score (B,), prompt-major. The others have advantage exactly 0 (D6) and only thin the batch out: sample more prompts
    in their place. May be empty. https://arxiv.org/abs/2503.14476

    >>> import torch
    >>> informative_rows(torch.tensor([1.0, 1.0, 0.0, 1.0]), 2).tolist()
    [2, 3]
    """
    group_normalize(score, group_size)  # its checks
    groups = score.detach().view(-1, group_size)
    mixed = (groups != groups[:, :1]).any(1)
    return mixed.repeat_interleave(group_size).nonzero()[:, 0]


def overlong_penalty(length, *, limit, buffer):
    """DAPO's soft punishment, added to the score: 0 up to limit - buffer tokens, falling to -1 at `limit`, -1 beyond.

    length (B,) tokens -> (B,) float32. limit is the longest a row may be, buffer the stretch on which it is warned.

    >>> import torch
    >>> overlong_penalty(torch.tensor([80, 90, 100, 120]), limit=100, buffer=20).tolist()
    [0.0, -0.5, -1.0, -1.0]
    """
    if not 0 < buffer <= limit:
        raise ValueError(f"limit {limit}, buffer {buffer}: give 0 < buffer <= limit, in tokens")
    return ((limit - buffer - length.float()) / buffer).clamp(-1, 0) + 0.0  # + 0.0: no minus zero


def step(
    policy, optimizer, rollout, score, *, group_size, logp_ref=None, beta=0.0, epochs=1, temperature=1.0, max_norm=1.0,
    **settings,
):
    """GRPO update(s) from a rollout and its scores (B,), prompt-major -> last stats. settings: as `grpo_loss`."""
    disable_dropout(policy)  # or ratios are not 1 with unchanged weights (B7)
    settings = dict(group_size=group_size, logp_ref=logp_ref, beta=beta, **settings)
    for _ in range(epochs):
        logp = completion_logps(policy, rollout, temperature=temperature)
        loss, stats = grpo_loss(logp, rollout.logp_old, score, rollout.mask, **settings)
        norm = update(loss, optimizer, max_norm=max_norm)
    if logp_ref is not None:
        stats["kl"] = masked_sum(k1(rollout.logp_old, logp_ref), rollout.mask, dim=1).mean()
    return stats | {"score": score.mean(), "grad_norm": norm}
