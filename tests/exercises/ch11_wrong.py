"""Answers to the exercises of chapter 11: right ones, written in two ways, and wrong ones with the message they earn."""

import torch

from rlhf_minimal import ppo


def signal_autograd(adv, mask):
    logp = torch.zeros_like(mask).requires_grad_()
    loss, _ = ppo.policy_loss(logp, logp.detach(), adv, mask)
    return torch.autograd.grad(loss, logp)[0].norm()


def signal_paper(adv, mask):
    return ((adv**2 * mask.sum(1)).sum() ** 0.5 / mask.sum()).item()


def mixed_loop(adv, group):
    return any(abs(adv[group == g].sum().item()) > 1e-6 for g in group.unique())


def mixed_table(adv, group):
    same = (group[:, None] == group).to(adv.dtype)
    return bool((same @ adv).abs().max() > 1e-7)


def mixed_adjacent(adv, group):
    n = len(adv) // len(group.unique())
    return len(adv) % n != 0 or bool(adv.view(-1, n).sum(1).abs().max() > 1e-6)


def slope_where(adv, ratio, low, high):
    stopped = ((adv > 0) & (ratio > 1 + high)) | ((adv < 0) & (ratio < 1 - low))
    return torch.where(stopped, torch.zeros_like(adv), adv)


def slope_autograd(adv, ratio, low, high):
    r = ratio.clone().requires_grad_()
    return torch.autograd.grad(torch.minimum(r * adv, r.clamp(1 - low, 1 + high) * adv).sum(), r)[0]


def higher_minimum(ratio, adv, low, high):
    return torch.minimum(ratio * adv, ratio.clamp(1 - low, 1 + high) * adv)


def higher_where(ratio, adv, low, high):
    stopped = ((adv > 0) & (ratio > 1 + high)) | ((adv < 0) & (ratio < 1 - low))
    return torch.where(stopped, ratio.clip(1 - low, 1 + high), ratio) * adv


def ragged_table(score, group):
    same = (group[:, None] == group).to(score.dtype)
    siblings = same.sum(1) - 1
    return torch.where(siblings > 0, score - (same @ score - score) / siblings.clamp(min=1), torch.zeros_like(score))


def ragged_loop(score, group):
    out = []
    for i in range(len(score)):
        others = [score[j] for j in range(len(score)) if group[j] == group[i] and j != i]
        out.append(float(score[i] - sum(others) / len(others)) if others else 0.0)
    return out


def ragged_raw(score, group):
    alone = torch.tensor([(group == g).sum() == 1 for g in group])
    return torch.where(alone, score, ragged_table(score, group))


def ragged_own(score, group):
    same = (group[:, None] == group).to(score.dtype)
    return score - same @ score / same.sum(1)


def ragged_adjacent(score, group):
    block = torch.cat([torch.zeros(1, dtype=torch.int64), (group[1:] != group[:-1]).long().cumsum(0)])
    return ragged_table(score, block)


def _spread(c, n):
    return (c * (n - c) / (n * (n - 1))) ** 0.5


def two_torch(c, n):
    score = torch.tensor([1.0] * c + [0.0] * (n - c), dtype=torch.float64)
    return score[0] - score.mean(), (score[0] - score.mean()) / score.std()


RIGHT = {
    "11.1": [higher_minimum, higher_where],
    "11.5": [signal_autograd, signal_paper],
    "11.3": [mixed_loop, mixed_table],
    "11.6": [slope_where, slope_autograd],
    "11.4": [ragged_table, ragged_loop],
    "11.2": [lambda c, n: (1 - c / n, (1 - c / n) / _spread(c, n)), two_torch],
}

WRONG = {  # {exercise: {the misconception's name: answer}}
    "11.1": {
        "loss for objective": lambda *a: -higher_minimum(*a),
        "one bound for both sides": lambda ratio, adv, low, high: higher_minimum(ratio, adv, low, low),
        "low and high swapped": lambda ratio, adv, low, high: higher_minimum(ratio, adv, high, low),
        "the clip alone": lambda ratio, adv, low, high: ratio.clamp(1 - low, 1 + high) * adv,
        "the minimum turned into a maximum":
            lambda ratio, adv, low, high: torch.maximum(ratio * adv, ratio.clamp(1 - low, 1 + high) * adv),
        "the smaller ratio":
            lambda ratio, adv, low, high: torch.minimum(ratio, ratio.clamp(1 - low, 1 + high)) * adv,
        "bounds without the one": lambda ratio, adv, low, high: torch.minimum(ratio * adv, ratio.clamp(low, high) * adv),
        "another objective": lambda ratio, adv, low, high: adv,
        "the wrong shape": lambda ratio, adv, low, high: low,
    },
    "11.5": {
        "the loss is the signal": lambda adv, mask: -(adv[:, None] * mask).sum() / mask.sum(),
        "padding is part of the answer":
            lambda adv, mask: (adv[:, None].expand(mask.shape) ** 2).sum() ** 0.5 / mask.numel(),
        "squared norm": lambda adv, mask: signal_paper(adv, mask) ** 2,
        "sum for mean": lambda adv, mask: (adv[:, None] * mask).norm(),
        "mean of row means": lambda adv, mask: (adv[:, None] * mask / mask.sum(1, keepdim=True)).norm() / len(adv),
        "mean size for norm": lambda adv, mask: (adv[:, None] * mask).abs().sum() / mask.sum(),
        "another quantity was measured": lambda adv, mask: adv.std(correction=0) + 1,
        "the wrong kind of answer": lambda adv, mask: adv[:, None] * mask,
    },
    "11.3": {
        "advantages still sum to 0, so they are right": lambda adv, group: bool(abs(adv.sum()) > 1e-6),
        "rows of a prompt are adjacent": mixed_adjacent,
        "a detector that always rings": lambda adv, group: True,
        "the detector upside down": lambda adv, group: not mixed_loop(adv, group),
        "float sums are exact": lambda adv, group: any(adv.numpy()[(group == g).numpy()].sum() != 0 for g in group.unique()),
        "one prompt stands for all": lambda adv, group: bool(adv[group == group.min()].sum().abs() > 1e-6),
        "another sign was looked for": lambda adv, group: bool(adv[0] > 0.5),
        "the wrong kind of answer": lambda adv, group: adv.sum(),
    },
    "11.6": {
        "clipping keeps the policy in the interval":
            lambda adv, ratio, low, high: adv * ((ratio >= 1 - low) & (ratio <= 1 + high)),
        "loss for objective": lambda *a: -slope_where(*a),
        "the clip has no effect on the gradient": lambda adv, ratio, low, high: adv,
        "value for slope":
            lambda adv, ratio, low, high: torch.minimum(ratio * adv, ratio.clamp(1 - low, 1 + high) * adv),
        "low and high swapped": lambda adv, ratio, low, high: slope_where(adv, ratio, high, low),
        "the minimum turned into a maximum": lambda adv, ratio, low, high: -slope_where(-adv, ratio, low, high),
        "slope in the log-ratio": lambda adv, ratio, low, high: ratio * slope_where(adv, ratio, low, high),
        "another objective": lambda adv, ratio, low, high: adv * 0,
        "the wrong shape": lambda adv, ratio, low, high: low,
    },
    "11.4": {
        "a group of one is compared with zero": ragged_raw,
        "the own score belongs in the baseline": ragged_own,
        "the batch is the group": lambda score, group: score - score.mean(),
        "rows of a prompt are adjacent": ragged_adjacent,
        "baseline for advantage": lambda score, group: score - ragged_table(score, group),
        "the sign is turned": lambda score, group: -ragged_table(score, group),
        "another baseline": lambda score, group: score,
        "the wrong shape": lambda score, group: score[None],
    },
    "11.2": {
        "dropping the spread scales up": lambda c, n: ((1 - c / n) / _spread(c, n), 1 - c / n),
        "n for n - 1": lambda c, n: (1 - c / n, (1 - c / n) / (c / n * (1 - c / n)) ** 0.5),
        "the wrong answer's advantage": lambda c, n: (-c / n, -c / n / _spread(c, n)),
        "RLOO for Dr. GRPO": lambda c, n: ((n - c) / (n - 1), (1 - c / n) / _spread(c, n)),
        "variance for standard deviation": lambda c, n: (1 - c / n, (1 - c / n) / _spread(c, n) ** 2),
        "the spread is harmless": lambda c, n: (1 - c / n, 1 - c / n),
        "another advantage": lambda c, n: (1.0, 1.0),
        "the wrong kind of answer": lambda c, n: 1 - c / n,
    },
}
