"""Advantages: what a token, or a whole completion, was worth more than expected. All are detached (D12).

They raise ValueError on shapes or groups that do not fit, an empty mask, a NaN on it, gamma or lam outside 0 to 1.
"""

import torch

from .equations import implements
from .tensors import as_float, check_mask, check_not_empty, check_shapes


def _unit(**numbers):
    for name, x in numbers.items():
        if not 0 <= x <= 1:
            raise ValueError(f"{name} is {x}; give a number from 0 to 1")


def _tokens(x, mask, name):
    x, m = check_mask(x.detach(), mask, name)
    if x.dim() != 2:
        raise ValueError(f"{name} is {tuple(x.shape)}; give (B,T)")
    check_not_empty(m)
    return x, m


@implements("eq:finite_horizon_return")
def returns_to_go(reward, mask, gamma=1.0):
    """G_t = r_t + gamma * G_(next masked t): rewards (B,T), mask (B,T) -> (B,T), 0 off the mask.

    Masked-out places, gaps included, neither add nor discount (D1). `eq:finite_horizon_return`.

    >>> returns_to_go(torch.tensor([[1.0, 4.0]]), torch.ones(1, 2), gamma=0.5).tolist()  # 1 + 4/2
    [[3.0, 4.0]]
    """
    zero = torch.zeros_like(as_float(reward))
    return gae(reward, zero, mask, gamma=gamma, lam=1.0)[1]


@implements("eq:GAE_DFN", "eq:TD_RESIDUAL")
def gae(reward, value, mask, *, gamma=1.0, lam=0.95):
    """Generalized advantage estimation: reward, value, mask (B,T) -> (adv, ret) (B,T), detached, 0 off the mask.

    delta_t = r_t + gamma V_(t+1) - V_t,  A_t = delta_t + gamma lam A_(t+1),  ret = A + V (raw, before whitening: D3).
    value[:, t] is V *before* token t; t+1 is the next *masked* place, and after the last one V and A are 0: a
    truncated row counts as ended (D1, D2). `eq:GAE_DFN`. Schulman et al. 2016.

    >>> adv, ret = gae(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25]]), torch.ones(1, 2), lam=0.5)
    >>> adv.tolist(), ret.tolist()  # deltas -0.25, 0.75; -0.25 + 0.75 / 2 = 0.125
    ([[0.125, 0.75]], [[0.625, 1.0]])
    """
    check_shapes(reward=reward, value=value, mask=mask)
    _unit(gamma=gamma, lam=lam)
    (reward, m), (value, _) = _tokens(reward, mask, "reward"), _tokens(value, mask, "value")
    adv = torch.zeros_like(reward + value)
    next_value = next_adv = adv.new_zeros(adv.shape[0])
    for t in reversed(range(adv.shape[1])):
        on = m[:, t].bool()
        step = reward[:, t] + gamma * next_value - value[:, t] + gamma * lam * next_adv
        next_adv, next_value = torch.where(on, step, next_adv), torch.where(on, value[:, t], next_value)
        adv[:, t] = torch.where(on, step, 0)
    return adv, adv + value


def _groups(score, group_size):
    """Scores (B,) as (prompts, G), relative to each group's first: equal scores give exactly 0, at any size (D6)."""
    if score.dim() != 1 or isinstance(group_size, bool) or not isinstance(group_size, int):
        raise ValueError(f"score is {tuple(score.shape)}, group_size {group_size!r}; give (B,) and an int")
    if group_size < 2 or len(score) == 0 or len(score) % group_size:
        raise ValueError(f"{len(score)} rows in groups of {group_size}; a group needs 2 or more and must divide them")
    if not torch.isfinite(score).all():
        raise ValueError(f"{int((~torch.isfinite(score)).sum())} of {len(score)} scores are NaN or infinite")
    score = as_float(score.detach()).view(-1, group_size)  # rows of a prompt are adjacent (D9)
    return score - score[:, :1]


@implements("eq:RLOO_advantage", "eq:RLOO_advantage_alt", "eq:RLOO_baseline")
def leave_one_out(score, group_size):
    """Score minus the mean of the *other* scores of its prompt: (B,) -> (B,) advantages; a group sums to 0 (D8).

    Equals G/(G-1) times the centred score. Rows of a prompt are adjacent. ValueError unless G >= 2 divides B.
    `eq:RLOO_advantage`. Kool et al. 2019, Ahmadian et al. 2024.

    >>> leave_one_out(torch.tensor([3.0, 1.0, 5.0, 5.0]), 2).tolist()  # 3 - 1, 1 - 3
    [2.0, -2.0, 0.0, 0.0]
    """
    s = _groups(score, group_size)
    return ((s - s.mean(1, keepdim=True)) * (group_size / (group_size - 1))).flatten()


@implements("eq:GRPO_ADV", "eq:DrGRPO_ADV")
def group_normalize(score, group_size, *, scale=True):
    """Centred score, divided by the group's standard deviation (n-1, D7) if `scale`: (B,) -> (B,) advantages.

    A group of equal scores gives exactly 0 (D6). `scale=False` is the first half of Dr. GRPO (E7).
    ValueError unless G >= 2 divides B. `eq:GRPO_ADV`, `eq:DrGRPO_ADV`. Shao et al. 2024, Liu et al. 2025.

    >>> adv = group_normalize(torch.tensor([3.0, 1.0, 5.0, 5.0]), 2)
    >>> [round(x, 4) for x in adv.tolist()]  # (3 - 2) / sqrt 2; equal scores: 0
    [0.7071, -0.7071, 0.0, 0.0]
    """
    s = _groups(score, group_size)
    s = s - s.mean(1, keepdim=True)
    return (s / s.std(1, keepdim=True).clamp_min(1e-8) if scale else s).flatten()


def per_token(adv, mask):
    """Advantages (B,) or (B,T) -> (B,T), detached, 0 off the mask; (B,) is one a row, even where B = T (D10).

    >>> per_token(torch.tensor([2.0, 3.0]), torch.tensor([[1, 1], [1, 0]])).tolist()
    [[2.0, 2.0], [3.0, 0.0]]
    """
    if adv.dim() == 1 and len(adv) == len(mask):
        adv = adv[:, None].expand(mask.shape)
    return check_mask(adv.detach(), mask, "adv")[0]
