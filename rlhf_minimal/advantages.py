"""Advantages: how much better a token, or a whole answer, turned out than expected.

All are detached: a loss weighs log-probabilities with them and sends no gradient through them. They raise ValueError for
shapes or groups that do not fit, an empty mask, a NaN on it, and for gamma or lam outside 0 to 1.

In groups, the `group_size` samples of one prompt stand next to each other.
"""

import torch
from torch import Tensor

from .equations import implements
from .tensors import as_float, check_finite, check_groups, check_mask, check_not_empty, check_shapes, check_share


@implements("eq:finite_horizon_return")
def returns_to_go(reward: Tensor, mask: Tensor, gamma: float = 1.0) -> Tensor:
    """The discounted sum of what follows: G_t = r_t + gamma * G_(t+1), where t+1 is the next token on the mask.

    reward, mask (B,T). Places off the mask, gaps included, neither add nor discount. Returns (B,T), detached, 0 off the
    mask. Equation `eq:finite_horizon_return`.

    >>> returns_to_go(torch.tensor([[1.0, 4.0]]), torch.ones(1, 2), gamma=0.5).tolist()  # 1 + 4/2
    [[3.0, 4.0]]
    """
    check_share(gamma=gamma)
    reward, m = check_tokens(reward, mask, "reward")

    returns = torch.zeros_like(reward)
    following = returns.new_zeros(len(returns))
    for t in reversed(range(returns.shape[1])):
        counts = m[:, t].bool()
        following = torch.where(counts, reward[:, t] + gamma * following, following)
        returns[:, t] = torch.where(counts, following, 0)
    return returns


@implements("eq:GAE_DFN", "eq:TD_RESIDUAL")
def gae(
    reward: Tensor, value: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95,
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation: a discounted sum of surprises, from the last token backwards.

    delta_t = r_t + gamma V_(t+1) - V_t, and A_t = delta_t + gamma lam A_(t+1). reward, value, mask (B,T); `value[:, t]`
    is V *before* token t. t+1 is the next token on the mask; after the last one V and A are 0, so that a truncated row
    counts as ended.

    Returns the advantages and the returns A + V that a value model is fitted to, both (B,T), detached, 0 off the mask. Take
    the returns from here: once whitened, advantages no longer give them. Equations `eq:GAE_DFN`, `eq:TD_RESIDUAL`;
    Schulman et al. 2016, https://arxiv.org/abs/1506.02438

    >>> adv, ret = gae(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25]]), torch.ones(1, 2), lam=0.5)
    >>> adv.tolist(), ret.tolist()  # deltas -0.25, 0.75; -0.25 + 0.75 / 2 = 0.125
    ([[0.125, 0.75]], [[0.625, 1.0]])
    """
    check_shapes(reward=reward, value=value, mask=mask)
    check_share(gamma=gamma, lam=lam)
    reward, m = check_tokens(reward, mask, "reward")
    value, _ = check_tokens(value, mask, "value")

    adv = torch.zeros_like(reward + value)
    next_value = next_adv = adv.new_zeros(len(adv))
    for t in reversed(range(adv.shape[1])):
        counts = m[:, t].bool()
        delta = reward[:, t] + gamma * next_value - value[:, t]
        next_adv = torch.where(counts, delta + gamma * lam * next_adv, next_adv)
        next_value = torch.where(counts, value[:, t], next_value)
        adv[:, t] = torch.where(counts, next_adv, 0)
    return adv, adv + value


@implements("eq:RLOO_advantage", "eq:RLOO_advantage_alt", "eq:RLOO_baseline")
def leave_one_out(score: Tensor, group_size: int) -> Tensor:
    """Score minus the mean of the *other* scores of its prompt; written as G / (G - 1) times (score - mean of all).

    score (B,). Returns (B,) advantages, detached; a group's sum is 0. Raises ValueError unless the group size is 2 or more
    and divides B. Equations `eq:RLOO_advantage`, `eq:RLOO_advantage_alt`, `eq:RLOO_baseline`; Kool et al. 2019,
    https://openreview.net/forum?id=r1lgTGL5DE, Ahmadian et al. 2024, https://arxiv.org/abs/2402.14740

    >>> leave_one_out(torch.tensor([3.0, 1.0, 5.0, 5.0]), 2).tolist()  # 3 - 1, 1 - 3
    [2.0, -2.0, 0.0, 0.0]
    """
    check_groups(group_size, score=score)
    check_finite(score=score)
    groups = as_float(score.detach()).view(-1, group_size)
    groups = groups - groups[:, :1]  # so that equal scores, however large, give exactly 0
    adv = (groups - groups.mean(1, keepdim=True)) * (group_size / (group_size - 1))
    return adv.flatten()


@implements("eq:GRPO_ADV", "eq:DrGRPO_ADV")
def group_normalize(score: Tensor, group_size: int, *, scale: bool = True) -> Tensor:
    """Score minus the mean of its prompt's scores, divided by their standard deviation (n - 1) if `scale`.

    score (B,). Returns (B,) advantages, detached; a group of equal scores gives exactly 0. Without `scale` it is Dr. GRPO's
    advantage: dividing makes prompts count for more whose scores hardly differ. Raises ValueError unless the group size is
    2 or more and divides B. Equations `eq:GRPO_ADV`, `eq:DrGRPO_ADV`; Shao et al. 2024, https://arxiv.org/abs/2402.03300,
    Liu et al. 2025, https://arxiv.org/abs/2503.20783

    >>> adv = group_normalize(torch.tensor([3.0, 1.0, 5.0, 5.0]), 2)
    >>> [round(x, 4) for x in adv.tolist()]  # (3 - 2) / sqrt 2; equal scores: 0
    [0.7071, -0.7071, 0.0, 0.0]
    """
    check_groups(group_size, score=score)
    check_finite(score=score)
    groups = as_float(score.detach()).view(-1, group_size)
    groups = groups - groups[:, :1]  # so that equal scores, however large, give exactly 0
    adv = groups - groups.mean(1, keepdim=True)
    if scale:
        adv = adv / adv.std(1, keepdim=True).clamp_min(1e-8)
    return adv.flatten()


def per_token(adv: Tensor, mask: Tensor) -> Tensor:
    """Advantages as a loss needs them: one per token, (B,T), detached, 0 off the mask.

    adv (B,) or (B,T); (B,) means one per row, also where B happens to equal T.

    >>> per_token(torch.tensor([2.0, 3.0]), torch.tensor([[1, 1], [1, 0]])).tolist()
    [[2.0, 2.0], [3.0, 0.0]]
    """
    if adv.dim() == 1 and len(adv) == len(mask):
        adv = adv[:, None].expand(mask.shape)
    return check_mask(adv.detach(), mask, "adv")[0]


def check_tokens(x: Tensor, mask: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """`check_mask` for numbers per token, (B,T), detached, of which at least one counts."""
    x, m = check_mask(x.detach(), mask, name)
    if x.dim() != 2:
        raise ValueError(f"{name} is {tuple(x.shape)}; give (B,T)")
    check_not_empty(m)
    return x, m
