"""PPO: several small updates on one batch, kept near the policy that drew it; a value model judges each token.

Shapes: B rows, T tokens of the completion, L tokens of prompt and completion. Log-probabilities are in nats. A mask is 1
on sampled tokens, the end-of-sequence token included.
"""

import copy

import torch
from torch import Tensor, nn

from .advantages import gae, per_token
from .aggregate import aggregate
from .equations import implements
from .forward import hidden_states
from .models import ScalarHead, backbone, disable_dropout, hidden_size
from .optim import update
from .rollout import Rollout, completion_logps
from .tensors import check_mask, check_no_nan, last_index, masked_sum, masked_whiten


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
    adv = per_token(adv, mask)  # 0 off the mask, like all that follows
    logp, m = check_mask(logp, mask, "logp")
    logp_old, _ = check_mask(logp_old.detach(), mask, "logp_old")

    ratio = (logp - logp_old).exp()
    losses = -torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    loss = aggregate(losses, mask, "token_mean", denominator=denominator)
    return loss, ratio_stats(logp - logp_old, adv, m, low=clip, high=clip) | {"policy_loss": loss.detach()}


def value_loss(
    value: Tensor, value_old: Tensor, ret: Tensor, mask: Tensor, *, clip: float = 0.2, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """PPO's clipped value loss: half the squared error to the return, with a value that may not run away from its old one.

    value, value_old, ret, mask (B, T), the values now and when the batch was drawn, and the returns. Of the two errors, with
    the value as it is and with the value held within `clip` of the old one, the larger counts. `clip` is in the units of
    the value. `denominator`: the tokens of the whole optimizer step, where this batch is a part of it.

    Returns the loss, averaged over tokens, and the statistics `value_loss` and `value_clip_frac`. Raises ValueError for
    shapes that differ, a mask that is empty everywhere, a NaN where it is 1, a negative clip. The squared error is that of
    Schulman et al. 2017, https://arxiv.org/abs/1707.06347; the clip stands only in its authors' code.

    >>> value, old, ret = torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2), torch.tensor([[0.5, 1.0]])
    >>> value_loss(value, old, ret, torch.ones(1, 2))[0].item()  # (0.5^2 / 2 + 1^2 / 2) / 2
    0.3125
    """
    if not clip >= 0:
        raise ValueError(f"clip is {clip}; give a number of 0 or more, in the units of the value")
    value, m = check_mask(value, mask, "value")
    value_old, _ = check_mask(value_old.detach(), mask, "value_old")
    ret, _ = check_mask(ret.detach(), mask, "ret")

    value_clipped = value.clamp(value_old - clip, value_old + clip)
    error, error_clipped = (value - ret) ** 2, (value_clipped - ret) ** 2
    losses = 0.5 * torch.maximum(error, error_clipped)
    loss = aggregate(losses, mask, "token_mean", denominator=denominator)
    clip_frac = ((error_clipped > error) * m).sum() / m.sum().clamp(min=1)
    return loss, {"value_loss": loss.detach(), "value_clip_frac": clip_frac}


def check_clip(clip: float, clip_high: float | None = None) -> float:
    """The upper clip: `clip_high`, or `clip` where that is None.

    Raises ValueError unless `clip` lies between 0 and 1, and the upper clip is at least 0.
    """
    high = clip if clip_high is None else clip_high
    if not (0 <= clip <= 1 and high >= 0):
        raise ValueError(f"clip from 1 - {clip} to 1 + {high}; give a lower clip from 0 to 1, an upper one >= 0")
    return high


@torch.no_grad()
def ratio_stats(log_ratio: Tensor, adv: Tensor, mask: Tensor, *, low: float, high: float) -> dict[str, Tensor]:
    """What to log about importance ratios. log_ratio, adv, mask: all (B, T) or all (B,), the first two 0 off the mask.

    Returns means over the mask. `clip_frac`: where the clip decides, so that the gradient is 0. `outside_frac`: where the
    ratio is outside the clip at all; the two differ, and libraries report either. `approx_kl`: an estimate of
    KL(old || new), which is not the KL to the reference. `ratio`.
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


def explained_variance(value: Tensor, ret: Tensor, mask: Tensor) -> Tensor:
    """How well values predict returns: 1 - var(ret - value) / var(ret). 1 is perfect, 0 no better than a constant.

    value, ret, mask (B, T). Returns a detached scalar, NaN if the returns are constant. Raises ValueError for shapes that
    differ and for a NaN where the mask is 1.

    >>> round(explained_variance(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 3.0]]), torch.ones(1, 2)).item(), 4)
    0.75
    """
    value, m = check_mask(value.detach(), mask, "value")
    ret, _ = check_mask(ret.detach(), mask, "ret")
    real = m.bool()
    return 1 - (ret - value)[real].var() / ret[real].var()


def rewards(score: Tensor, logp: Tensor, logp_ref: Tensor, mask: Tensor, beta: float) -> Tensor:
    """The reward of each token: a price on leaving the reference at every token, and the score at the last one.

    score (B,); logp, logp_ref, mask (B, T). Per token -beta * (log pi - log ref), so that a row sums to its score minus
    beta times its summed KL. The score stands on the last sampled token; some trainers put it one place later.

    Returns (B, T), detached, 0 off the mask. Raises ValueError for shapes that do not fit and for a NaN.

    >>> logp, ref = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -2.5]])
    >>> rewards(torch.tensor([1.0]), logp, ref, torch.ones(1, 2), 0.5).tolist()  # -0.5 * 0.5 each, the score at the end
    [[-0.25, 0.75]]
    """
    logp, m = check_mask(logp.detach(), mask, "logp")
    logp_ref, _ = check_mask(logp_ref.detach(), mask, "logp_ref")
    if score.shape != m.shape[:1]:
        raise ValueError(f"score {tuple(score.shape)} for {len(m)} rows: give one score per row, shape (B,)")
    check_no_nan(score=score)

    reward = -beta * (logp - logp_ref)
    rows = m.any(1).nonzero()[:, 0]  # a row with an empty mask has no place for its score
    last = last_index(m[rows]) if len(rows) else rows
    return reward.index_put((rows, last), score.detach().to(reward.dtype)[rows], accumulate=True)


class Critic(nn.Module):
    """A value model: a copy of the policy's trunk, so that its loss moves no weight of the policy, and a scalar head."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.trunk = disable_dropout(copy.deepcopy(backbone(model)))
        device = next(self.trunk.parameters()).device
        self.head = ScalarHead(hidden_size(self.trunk)).to(device)  # zero at the start: every value is 0

    def forward(self, ids: Tensor, attention: Tensor) -> Tensor:
        """(B, L), (B, L) -> (B, L) float32; entry t is the value after token t is read, before token t+1 is chosen."""
        return self.head(hidden_states(self.trunk, ids, attention))


class SharedCritic(nn.Module):
    """A value model on the policy's own trunk, without gradient into it: one trunk less in memory, only a head to train."""

    def __init__(self, policy: nn.Module):
        super().__init__()
        self.policy = (policy,)  # in a tuple, so that it is no submodule: an optimizer of both must hold no weight twice
        self.head = ScalarHead(hidden_size(policy)).to(next(policy.parameters()).device)

    def forward(self, ids: Tensor, attention: Tensor) -> Tensor:
        """As `Critic`. The trunk is the policy's as it is now, so the values drift with it between epochs."""
        with torch.no_grad():
            hidden = hidden_states(self.policy[0], ids, attention)
        return self.head(hidden)


def values(critic: nn.Module, rollout: Rollout) -> Tensor:
    """The values of a rollout's tokens, (B, T), 0 off the mask.

    Entry t is the value *before* completion token t, read at the token in front of it: the columns of the critic's
    output that score the completion are those of `token_logps`.
    """
    value = rollout.on_completion(critic(rollout.ids, rollout.attention)[:, :-1])
    return check_mask(value, rollout.mask, "value")[0]


@torch.no_grad()
def prepare(
    value: Tensor, rollout: Rollout, score: Tensor, *, logp_ref: Tensor | None = None, beta: float = 0.0,
    gamma: float = 1.0, lam: float = 0.95, whiten: bool = True,
) -> dict[str, Tensor]:
    """All that stays fixed while the policy is updated: rewards, values, advantages, returns.

    value (B, T), as `values` gives it; score (B,); logp_ref (B, T), the reference's log-probabilities, needed where beta is
    not 0. gamma and lam are those of generalized advantage estimation.

    Returns a dict: `reward`, `value`, `adv`, `ret`, (B, T) each, detached and 0 off the mask; `kl` (B,), the summed KL to
    the reference, in nats. Raises ValueError for a beta without logp_ref and for shapes that do not fit.
    """
    if logp_ref is None and beta:
        raise ValueError(f"beta={beta} without logp_ref: give the reference's log-probabilities (B, T), or beta=0")
    logp_ref = rollout.logp_old if logp_ref is None else logp_ref
    value, _ = check_mask(value, rollout.mask, "value")

    reward = rewards(score, rollout.logp_old, logp_ref, rollout.mask, beta)
    adv, ret = gae(reward, value, rollout.mask, gamma=gamma, lam=lam)  # ret = adv + value, with adv not yet whitened
    if whiten:
        adv = masked_whiten(adv, rollout.mask)  # once, over the whole batch: not per minibatch
    kl = masked_sum(rollout.logp_old - logp_ref, rollout.mask, dim=1)
    return {"reward": reward, "value": value, "adv": adv, "ret": ret, "kl": kl}


def minibatch_loss(
    policy: nn.Module, critic: nn.Module, rollout: Rollout, frozen: dict[str, Tensor], *, clip: float = 0.2,
    value_clip: float = 0.2, value_coef: float = 0.5, temperature: float = 1.0, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The policy loss plus value_coef times the value loss, of some rows of a rollout.

    frozen: the same rows of what `prepare` returns. denominator: the tokens of the whole optimizer step, for both losses,
    where these rows are a part of it. Returns the loss and the statistics of both.

    PPO-ptx (`eq:objective_pretraining`) is one line more: before the backward pass, add gamma times `sft_loss` of a batch
    of pretraining text. InstructGPT, https://arxiv.org/abs/2203.02155
    """
    logp = completion_logps(policy, rollout, temperature=temperature)
    value = values(critic, rollout)
    loss_pi, stats_pi = policy_loss(logp, rollout.logp_old, frozen["adv"], rollout.mask, clip=clip, denominator=denominator)
    loss_v, stats_v = value_loss(value, frozen["value"], frozen["ret"], rollout.mask, clip=value_clip, denominator=denominator)
    loss = loss_pi + value_coef * loss_v
    return loss, stats_pi | stats_v | {"loss": loss.detach()}


def step(
    policy: nn.Module, optimizer: torch.optim.Optimizer, rollout: Rollout, score: Tensor, *, critic: nn.Module,
    logp_ref: Tensor | None = None, beta: float = 0.0, gamma: float = 1.0, lam: float = 0.95, epochs: int = 2,
    minibatches: int = 1, max_norm: float = 1.0, generator: torch.Generator | None = None, **settings,
) -> dict[str, Tensor]:
    """PPO on one rollout and its scores (B,): `epochs` passes over its rows, in shuffled minibatches.

    The optimizer holds the weights of policy and critic. `settings` go to `minibatch_loss`: clip, value_clip, value_coef,
    temperature. Returns the mean of the updates' statistics, and `score`, `reward`, `kl`, `explained_variance`.
    """
    disable_dropout(policy)  # with dropout the ratios would not be 1 before the first update
    with torch.no_grad():
        value = values(critic, rollout)
    frozen = prepare(value, rollout, score, logp_ref=logp_ref, beta=beta, gamma=gamma, lam=lam)
    history = []
    for _ in range(epochs):
        for rows in torch.randperm(len(score), generator=generator).chunk(minibatches):  # whole rows, never single tokens
            part = {name: x[rows] for name, x in frozen.items()}
            loss, stats = minibatch_loss(policy, critic, rollout.select(rows), part, **settings)
            history.append(stats | {"grad_norm": update(loss, optimizer, max_norm=max_norm)})
    stats = {name: torch.stack([h[name] for h in history]).mean() for name in history[0]}
    stats |= {"score": score.mean(), "reward": frozen["reward"].sum(1).mean(), "kl": frozen["kl"].mean()}
    return stats | {"explained_variance": explained_variance(frozen["value"], frozen["ret"], rollout.mask)}
