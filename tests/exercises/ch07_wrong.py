"""Answers to the exercises of chapter 7: right ones, written in two ways, and wrong ones with the message they earn."""

import math

import torch
import torch.nn.functional as F


def minus_mean(score, prompt):
    out = score.clone()
    for p in prompt.unique():
        out[prompt == p] -= score[prompt == p].mean()
    return out


def minus_largest(score, prompt):
    same = prompt[:, None] == prompt[None, :]
    return score - torch.where(same, score[None, :], -torch.inf).amax(1)


def ranks(score, prompt):
    same = prompt[:, None] == prompt[None, :]
    return (same & (score[None, :] < score[:, None])).sum(1).double()


def tie_where(gap, outcome, t):
    first, second = torch.sigmoid(gap - t), torch.sigmoid(-gap - t)
    return -torch.where(outcome == 1, first, torch.where(outcome == 0, second, 1 - first - second)).log().mean()


def tie_loop(gap, outcome, t):
    total = 0.0
    for g, o in zip(gap, outcome, strict=True):
        a, b = F.sigmoid(g - t), F.sigmoid(-g - t)
        total = total - torch.log({1.0: a, 0.0: b, 0.5: 1 - a - b}[float(o)])
    return total / len(gap)


def tie_eased(gap, outcome, t):
    first, second = torch.sigmoid(gap + t), torch.sigmoid(-gap + t)
    tie = (1 - first - second).abs()
    return -torch.where(outcome == 1, first, torch.where(outcome == 0, second, tie)).log().mean()


def halves(gap, outcome, t):
    return -(outcome * F.logsigmoid(gap) + (1 - outcome) * F.logsigmoid(-gap)).mean()


def read_where(ids, attention, prompt_len, eos):
    column = torch.arange(ids.shape[1]).expand(ids.shape)
    ends = (ids == eos) & (attention == 1) & (column >= prompt_len)
    fallback = (attention * column).amax(1)
    return torch.where(ends.any(1), torch.where(ends, column, ids.shape[1]).amin(1), fallback)


def read_loop(ids, attention, prompt_len, eos):
    out = []
    for row, on in zip(ids.tolist(), attention.tolist(), strict=True):
        real = [t for t in range(len(row)) if on[t]]
        ends = [t for t in real if t >= prompt_len and row[t] == eos]
        out.append((ends or real[-1:])[0])
    return torch.tensor(out)


def read_first_anywhere(ids, attention, prompt_len, eos):
    return read_where(ids, attention, 0, eos)


def read_in_padding(ids, attention, prompt_len, eos):
    column = torch.arange(ids.shape[1]).expand(ids.shape)
    ends = (ids == eos) & (column >= prompt_len)
    return torch.where(ends.any(1), ends.long().argmax(1), (attention * column).amax(1))


def _last(ids, attention, prompt_len, eos):
    return (attention * torch.arange(ids.shape[1])).amax(1)


def bold(prob, won):
    return torch.maximum(prob, 1 - prob).mean() - ((prob > 0.5) == (won == 1)).double().mean()


def bold_loop(prob, won):
    total = 0.0
    for p, w in zip(prob.tolist(), won.tolist(), strict=True):
        total += max(p, 1 - p) - (w if p > 0.5 else 1 - w)
    return total / len(prob)


def solve(y, *x):
    return torch.linalg.lstsq(torch.stack(x, 1), y[:, None]).solution[:, 0]


def by_steps(score, quality, words):
    """Frisch-Waugh: what is left of words and score when quality has explained its part."""
    w = words - quality * (quality @ words) / (quality @ quality)
    return w @ score / (w @ w)


def words_solved(loss, per_ten, tau, p):
    return (loss + tau * math.log(p / (1 - p))) * 10 / per_ten


def words_bisect(loss, per_ten, tau, p):
    """Add words until the person chooses the worse answer often enough."""
    low, high = -1e3, 1e3
    for _ in range(200):
        n = (low + high) / 2
        low, high = (n, high) if 0.5 * (1 + math.tanh((per_ten * n / 10 - loss) / tau / 2)) < p else (low, n)
    return low


def cost(gap):
    """-log sigmoid, as a mean."""
    return -F.logsigmoid(gap).mean()


RIGHT = {
    "7.1": [minus_mean, minus_largest],
    "7.2": [tie_where, tie_loop],
    "7.3": [read_where, read_loop],
    "7.4": [lambda n: ([0.95] * (n - 1) + [0.15], [0.25] * n), lambda n: (torch.tensor([0.0] + [1.0] * (n - 1)), [0.1] * n)],
    "7.5": [bold, bold_loop],
    "7.6": [lambda s, q, w: solve(s, q, w)[1], by_steps],
    "7.7": [lambda c, r, m: -F.logsigmoid(c - r - m).mean(), lambda c, r, m: F.softplus(r + m - c).sum() / len(c)],
    "7.8": [words_solved, words_bisect],
    "7.9": [lambda: "b", lambda: " (B) "],
}

WRONG = {  # {exercise: {the misconception's name: answer}}
    "7.1": {
        "the score is absolute": lambda score, prompt: score,
        "one constant for all prompts": lambda score, prompt: score - score.mean(),
        "scale is free too": ranks,
        "another quantity was removed": lambda score, prompt: score - prompt,
        "the wrong shape": lambda score, prompt: score.mean(),
        "the wrong kind of answer": lambda score, prompt: "zero",
    },
    "7.2": {
        "sum for mean": lambda gap, outcome, t: tie_where(gap, outcome, t) * len(gap),
        "a tie is no information": lambda gap, outcome, t: tie_where(gap[outcome != 0.5], outcome[outcome != 0.5], t),
        "subtracting a margin eases the task": tie_eased,
        "a tie is half a win": halves,
        "the sign is upside down": lambda gap, outcome, t: -tie_where(gap, outcome, t),
        "another model of ties": lambda gap, outcome, t: -F.logsigmoid(gap - t).mean(),
        "the wrong kind of answer": lambda gap, outcome, t: gap,
    },
    "7.3": {
        "padding is always on the right": lambda ids, attention, prompt_len, eos: attention.sum(1) - 1,
        "the last column is the last token":
            lambda ids, attention, prompt_len, eos: torch.full((len(ids),), ids.shape[1] - 1),
        "the last real token is the end": _last,
        "the end token is padding":
            lambda ids, attention, prompt_len, eos: ((ids != eos) * torch.arange(ids.shape[1])).amax(1),
        "the first end token anywhere": read_first_anywhere,
        "padding is the end": read_in_padding,
        "another token is read": lambda ids, attention, prompt_len, eos: read_where(ids, attention, prompt_len, eos) - 1,
        "the wrong shape": lambda ids, attention, prompt_len, eos: ids,
        "the wrong kind of answer": lambda ids, attention, prompt_len, eos: "the end",
    },
    "7.4": {
        "the duel is swapped": lambda n: ([0.25] * n, [0.95] * (n - 1) + [0.15]),
        "one right aggregation of steps": lambda n: ([0.9] * n, [0.5] * n),
        "too close to call": lambda n: ([0.5] * (n - 1) + [0.2], [0.22] * n),
        "it depends on the number of steps": lambda n: ([0.6] + [0.1] * (n - 1), [0.2] * n),
        "a score is not a probability": lambda n: ([9.0] * (n - 1) + [-9.0], [0.0] * n),
        "the wrong shape": lambda n: ([0.9], [0.1]),
        "the wrong kind of answer": lambda n: 0.5,
    },
    "7.5": {
        "the sign is upside down": lambda prob, won: -bold(prob, won),
        "confidence is the probability of the first": lambda prob, won: (prob - won).mean(),
        "an error is a miscalibration": lambda prob, won: (prob - won).abs().mean(),
        "the sign is dropped": lambda prob, won: bold(prob, won).abs(),
        "right means that the first won": lambda prob, won: torch.maximum(prob, 1 - prob).mean() - won.mean(),
        "to be sure is to be bold": lambda prob, won: torch.maximum(prob, 1 - prob).mean(),
        "another quantity": lambda prob, won: 0.1,
        "the wrong kind of answer": lambda prob, won: prob,
    },
    "7.6": {
        "long answers score higher, so length is paid": lambda s, q, w: solve(s, w)[0],
        "a correlation is an effect": lambda s, q, w: torch.corrcoef(torch.stack([s, w]))[0, 1],
        "the other coefficient": lambda s, q, w: solve(s, q, w)[0],
        "the order of the two answers matters": lambda s, q, w: solve(s, q, w, torch.ones_like(w))[1],
        "cause and effect are swapped": lambda s, q, w: solve(w, q, s)[1],
        "score and quality share a unit": lambda s, q, w: solve(s - q, w)[0],
        "another regression": lambda s, q, w: 0.0,
        "the wrong kind of answer": lambda s, q, w: s,
    },
    "7.7": {
        "the formula is the code": lambda c, r, m: (1 + (r + m - c).exp()).log().mean(),
        "a margin helps the pair": lambda c, r, m: cost(c - r + m),
        "a margin is added to the loss": lambda c, r, m: cost(c - r) + m.mean(),
        "a margin is a weight": lambda c, r, m: cost(m * (c - r)),
        "the loss without a margin": lambda c, r, m: cost(c - r),
        "the rejected answer is to win": lambda c, r, m: cost(r - c - m),
        "the sign is upside down": lambda c, r, m: -cost(c - r - m),
        "sum for mean": lambda c, r, m: cost(c - r - m) * len(c),
        "another loss": lambda c, r, m: (c - r - m).square().mean(),
        "the wrong kind of answer": lambda c, r, m: "loss",
    },
    "7.8": {
        "the unit of the bias": lambda d, b, t, p: words_solved(d, b, t, p) / 10,
        "enough for a tie": lambda d, b, t, p: 10 * d / b,
        "noise does not matter": lambda d, b, t, p: words_solved(d, b, 1, p),
        "noise makes it easier": lambda d, b, t, p: words_solved(d, b, 1 / t, p),
        "a higher probability is cheaper": lambda d, b, t, p: words_solved(d, b, -t, p),
        "being worse is an advantage": lambda d, b, t, p: words_solved(-d, b, t, p),
        "another number of words": lambda d, b, t, p: 3.0,
        "the wrong kind of answer": lambda d, b, t, p: math.inf,
    },
    "7.9": {
        "more of the same labels": lambda: "a",
        "a low loss is a true score": lambda: "c",
        "the score is absolute": lambda: "d",
        "no such option": lambda: "e",
        "the wrong kind of answer": lambda: 2,
    },
}
