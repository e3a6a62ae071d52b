"""PPO: several small steps on one batch, kept near the policy that drew it; a value model judges each token."""

import copy

import torch
from torch import Tensor

from .advantages import gae, per_token
from .aggregate import aggregate
from .equations import implements
from .forward import hidden_states
from .kl import k1
from .models import ScalarHead, backbone, disable_dropout
from .optim import update
from .rollout import completion_logps
from .tensors import check_mask, check_no_nan, last_index, masked_sum, masked_whiten


def check_clip(clip: float, clip_high: float | None = None) -> float:
    """The upper clip: `clip_high`, or `clip` where it is None. ValueError unless clip is in 0..1 and the upper one >= 0."""
    high = clip if clip_high is None else clip_high
    if not (0 <= clip <= 1 and high >= 0):
        raise ValueError(f"clip from 1 - {clip} to 1 + {high}; give a lower clip from 0 to 1, an upper one >= 0")
    return high


@torch.no_grad()
def ratio_stats(log_ratio: Tensor, adv: Tensor, mask: Tensor, *, low: float, high: float) -> dict[str, Tensor]:
    """What to log about importance ratios: means over the mask. log_ratio, adv, mask: one shape, clean off the mask.

    `clip_frac`: where the clip decides, so that the gradient is 0. `outside_frac`: where the ratio is outside at all; the
    two differ, and libraries report either. `approx_kl`: KL(old || new), not the KL to the reference. `ratio`.
    """
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - low, 1 + high)
    each = {
        "clip_frac": (clipped * adv < ratio * adv).float(),
        "outside_frac": ((ratio < 1 - low) | (ratio > 1 + high)).float(),
        "approx_kl": torch.expm1(log_ratio) - log_ratio,
        "ratio": ratio,
    }
    return {name: (x * mask).sum() / mask.sum().clamp(min=1) for name, x in each.items()}


@implements("eq:PPO_EQN", "eq:PPO_POL_RATIO")
def policy_loss(
    logp: Tensor, logp_old: Tensor, adv: Tensor, mask: Tensor, *, clip: float = 0.2, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """PPO's clipped surrogate: raise what was better than expected, but never by more than the clip in one batch.

    logp, logp_old, mask (B, T), in nats; adv (B,) or (B, T), detached here. denominator: the tokens of the whole optimizer
    step, where this batch is a part of it.

    Returns the loss, averaged over tokens, and the statistics of the ratio. Before the first update logp == logp_old and
    the gradient is REINFORCE's, even where the loss itself is 0. Raises ValueError for shapes that do not fit, an empty
    mask, a NaN on it, a clip outside 0 to 1. Equations `eq:PPO_EQN`, `eq:PPO_POL_RATIO`; Schulman et al. 2017,
    https://arxiv.org/abs/1707.06347

    >>> old, new = torch.tensor([[0.4, 0.4]]).log(), torch.tensor([[0.6, 0.2]]).log()  # ratios 1.5, 0.5
    >>> round(policy_loss(new, old, torch.tensor([1.0]), torch.ones(1, 2))[0].item(), 4)  # -(1.2 + 0.5) / 2
    -0.85
    """
    check_clip(clip)
    adv = per_token(adv, mask)
    logp, m = check_mask(logp, mask, "logp")
    logp_old, _ = check_mask(logp_old.detach(), mask, "logp_old")

    ratio = (logp - logp_old).exp()
    losses = -torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    loss = aggregate(losses, mask, "token_mean", denominator=denominator)
    return loss, ratio_stats(logp - logp_old, adv, m, low=clip, high=clip) | {"policy_loss": loss.detach()}


def value_loss(value, value_old, ret, mask, *, clip=0.2, denominator=None):
    """1/2 max((V - R)^2, (clip(V; V_old +- clip) - R)^2), mean over tokens -> (loss, stats). All (B, T); E9.

    ValueError on shapes that differ, an empty mask, a NaN on it, a negative clip.

    >>> value, old, ret = torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2), torch.tensor([[0.5, 1.0]])
    >>> value_loss(value, old, ret, torch.ones(1, 2))[0].item()  # (0.125 + 0.5) / 2
    0.3125
    """
    if not clip >= 0:
        raise ValueError(f"clip is {clip}; give a number of 0 or more, in the units of the value")
    value, m = check_mask(value, mask, "value")
    old = check_mask(value_old.detach(), mask, "value_old")[0]
    ret = check_mask(ret.detach(), mask, "ret")[0]
    near = torch.minimum(torch.maximum(value, old - clip), old + clip)
    plain, clipped = (value - ret).square(), (near - ret).square()
    loss = aggregate(0.5 * torch.maximum(plain, clipped), mask, "token_mean", denominator=denominator)
    frac = ((clipped > plain).float() * m).sum() / m.sum().clamp(min=1)
    return loss, {"value_loss": loss.detach(), "value_clip_frac": frac}


def explained_variance(value, ret, mask):
    """1 - var(ret - value) / var(ret) over the mask: 1 perfect, 0 no better than a constant; nan if ret is constant.

    >>> round(explained_variance(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 3.0]]), torch.ones(1, 2)).item(), 4)
    0.75
    """
    (value, m), (ret, _) = check_mask(value.detach(), mask, "value"), check_mask(ret.detach(), mask, "ret")
    on = m.bool()
    return 1 - (ret - value)[on].var() / ret[on].var()


def rewards(score, logp, logp_ref, mask, beta):
    """Reward of each token (B, T), detached: -beta k1 on every token, the score (B,) on the last masked one (C1).

    A row sums to score - beta sum_t k1. TRL puts the score one place later (trl#3750).

    >>> logp, ref = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -2.5]])
    >>> rewards(torch.tensor([1.0]), logp, ref, torch.ones(1, 2), 0.5).tolist()  # -0.5 * 0.5 each, the score at the end
    [[-0.25, 0.75]]
    """
    (logp, m), (ref, _) = check_mask(logp.detach(), mask, "logp"), check_mask(logp_ref.detach(), mask, "logp_ref")
    if score.shape != m.shape[:1]:
        raise ValueError(f"score {tuple(score.shape)} for {len(m)} rows: give one score a row, shape (B,)")
    check_no_nan(score=score)
    reward = -beta * k1(logp, ref) * m
    rows = m.any(1).nonzero()[:, 0]  # a row with an empty mask has no place for its score
    place = last_index(m[rows]) if len(rows) else rows
    return reward.index_put((rows, place), score.detach().to(reward.dtype)[rows], accumulate=True)


class Critic(torch.nn.Module):
    """V before each token: a trunk of its own (a copy, so that its loss moves no policy weight) and a head (D11)."""

    def __init__(self, model):
        super().__init__()
        self.trunk = disable_dropout(copy.deepcopy(backbone(model)))
        self.head = ScalarHead(self.trunk.config.hidden_size)  # zero at the start, so V = 0
        self.head.to(next(self.trunk.parameters()).device)

    def forward(self, ids, attention):
        """(B, L), (B, L) -> (B, L) float32; entry t is V after reading token t, before token t+1 is chosen."""
        return self.head(hidden_states(self.trunk, ids, attention))


class SharedCritic(torch.nn.Module):
    """V from the policy's own trunk, detached: one trunk less in memory, and its loss moves the head alone (D11)."""

    def __init__(self, policy):
        super().__init__()
        self.policy = (policy,)  # in a tuple: no submodule, so that an optimizer of both holds no weight twice
        self.head = ScalarHead(backbone(policy).config.hidden_size).to(next(policy.parameters()).device)

    def forward(self, ids, attention):
        """As `Critic`; the trunk is the policy's as it is now, so V drifts with it between epochs."""
        with torch.no_grad():
            hidden = hidden_states(self.policy[0], ids, attention)
        return self.head(hidden)


def values(critic, rollout):
    """(B, T) values of a rollout; [:, t] is read at the token *before* completion token t (D11), 0 off the mask."""
    value = rollout.on_completion(critic(rollout.ids, rollout.attention)[:, :-1])  # the same columns
    return check_mask(value, rollout.mask, "value")[0]


@torch.no_grad()
def prepare(critic, rollout, score, *, logp_ref=None, beta=0.0, gamma=1.0, lam=0.95, whiten=True):
    """All that stays frozen during the epochs (E16) -> dict of (B, T): reward, value, adv, ret; and kl (B,)."""
    if logp_ref is None and beta:
        raise ValueError(f"beta={beta} without logp_ref: give the reference's log-probabilities (B, T), or beta=0")
    ref = rollout.logp_old if logp_ref is None else logp_ref
    reward = rewards(score, rollout.logp_old, ref, rollout.mask, beta)
    value = values(critic, rollout)
    adv, ret = gae(reward, value, rollout.mask, gamma=gamma, lam=lam)  # ret from raw advantages (D3)
    if whiten:
        adv = masked_whiten(adv, rollout.mask)  # once, over the whole batch (D5)
    kl = masked_sum(k1(rollout.logp_old, ref), rollout.mask, dim=1)
    return {"reward": reward, "value": value, "adv": adv, "ret": ret, "kl": kl}


def minibatch_loss(
    policy, critic, rollout, frozen, *, clip=0.2, value_clip=0.2, value_coef=0.5, temperature=1.0, denominator=None,
):
    """Policy loss + value_coef * value loss of some rows, with their part of `prepare`'s dict -> (loss, stats).

    denominator: tokens of the whole optimizer step, of both losses, where these rows are a part of it (E14).
    PPO-ptx (`eq:objective_pretraining`) is one line more: add gamma * `sft_loss` of a batch of pretraining text to the
    loss before its backward. InstructGPT, https://arxiv.org/abs/2203.02155
    """
    logp, value = completion_logps(policy, rollout, temperature=temperature), values(critic, rollout)
    loss, stats = policy_loss(logp, rollout.logp_old, frozen["adv"], rollout.mask, clip=clip, denominator=denominator)
    settings = dict(clip=value_clip, denominator=denominator)
    loss_v, stats_v = value_loss(value, frozen["value"], frozen["ret"], rollout.mask, **settings)
    total = loss + value_coef * loss_v
    return total, stats | stats_v | {"loss": total.detach()}


def step(
    policy, optimizer, rollout, score, *, critic, logp_ref=None, beta=0.0, gamma=1.0, lam=0.95, epochs=2, minibatches=1,
    max_norm=1.0, generator=None, **settings,
):
    """One PPO batch from a rollout and its scores (B,): `epochs` passes over shuffled rows -> mean stats.

    The optimizer holds policy and critic. settings: clip, value_clip, value_coef, temperature of `minibatch_loss`.
    """
    disable_dropout(policy)  # or ratios are not 1 with unchanged weights (B7)
    frozen = prepare(critic, rollout, score, logp_ref=logp_ref, beta=beta, gamma=gamma, lam=lam)
    history = []
    for _ in range(epochs):
        for rows in torch.randperm(len(score), generator=generator).chunk(minibatches):  # rows, never tokens (E16)
            part = {name: x[rows] for name, x in frozen.items()}
            loss, stats = minibatch_loss(policy, critic, rollout.select(rows), part, **settings)
            history.append(stats | {"grad_norm": update(loss, optimizer, max_norm=max_norm)})
    stats = {name: torch.stack([h[name] for h in history]).mean() for name in history[0]}
    fit = explained_variance(frozen["value"], frozen["ret"], rollout.mask)
    whole = {"score": score.mean(), "reward": frozen["reward"].sum(1).mean(), "kl": frozen["kl"].mean()}
    return stats | whole | {"explained_variance": fit}
