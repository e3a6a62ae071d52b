"""Answers to the exercises of chapter 12: right ones, written in two ways, and wrong ones with the message they earn."""

import math

import torch
import torch.nn.functional as F


def gain_rest(cb, rb, ca, ra):
    return (1 - ca.exp() - ra.exp()) - (1 - cb.exp() - rb.exp())


def gain_expm1(cb, rb, ca, ra):
    return -cb.exp() * torch.expm1(ca - cb) - rb.exp() * torch.expm1(ra - rb)


def gap_bisect(eps, beta):
    """Bisect the slope of the smoothed loss."""
    low, high = 0.0, 1e4
    for _ in range(200):
        h = (low + high) / 2
        share = 0.5 * (1 + math.tanh(beta * h / 2))
        low, high = (h, high) if share < 1 - eps else (low, h)
    return low


def point_loop(table):
    n = len(table)
    seen = [float(table[i, j]) for i in range(n) for j in range(n) if i != j]
    return max(0.0, sum(seen) / len(seen))


def point_mask(table):
    return table[~torch.eye(len(table), dtype=torch.bool)].mean().clamp(min=0)


def simpo(z):
    return F.softplus(-z)


def simpo_loop(c, d, n, m, beta, ratio):
    return [math.log1p(math.exp(-beta * (float(x / k) - float(y / q)) + beta * ratio))
            for x, y, k, q in zip(c, d, n, m, strict=True)]


def letting_go_bisect(share, beta):
    """Bisect for the gap at which sigma(-beta h) is a share of one half."""
    low, high = 0.0, 1e4
    for _ in range(200):
        h = (low + high) / 2
        pull = 0.5 * (1 - math.tanh(beta * h / 2))
        low, high = (h, high) if pull > share / 2 else (low, h)
    return low


RIGHT = {
    "12.4": [gain_rest, gain_expm1],
    "12.5": [gap_bisect, lambda eps, beta: (math.log1p(-eps) - math.log(eps)) / beta],
    "12.6": [point_loop, point_mask],
    "12.7": [lambda c, d, n, m, b, g: -F.logsigmoid(b * (c / n - d / m - g)), simpo_loop],
    "12.1": [lambda pc, pr, rc, rr, b: F.mse_loss(pc - rc - pr + rr, torch.full_like(pc, 0.5 / b)),
             lambda pc, pr, rc, rr, b: sum((x - 0.5 / b) ** 2 for x in (pc - rc - pr + rr).tolist()) / len(pc)],
    "12.2": [letting_go_bisect, lambda s, b: (math.log(2 - s) - math.log(s)) / b],
    "12.3": [lambda: "B", lambda: " b "],
}

WRONG = {  # {exercise: {the misconception's name: answer}}
    "12.4": {
        "what the pair loses is lost": lambda cb, rb, ca, ra: ca.exp() + ra.exp() - cb.exp() - rb.exp(),
        "log-probabilities sum to something": lambda cb, rb, ca, ra: cb + rb - ca - ra,
        "the rejected answer does not count": lambda cb, rb, ca, ra: cb.exp() - ca.exp(),
        "the chosen answer never loses": lambda cb, rb, ca, ra: rb.exp() - ra.exp(),
        "unseen answers start at zero": lambda cb, rb, ca, ra: 1 - ca.exp() - ra.exp(),
        "probabilities of two answers multiply": lambda cb, rb, ca, ra: (cb + rb).exp() - (ca + ra).exp(),
        "another balance": lambda cb, rb, ca, ra: cb.exp() + rb.exp() + ca.exp() + ra.exp(),
        "the wrong shape": lambda cb, rb, ca, ra: (cb.exp() + rb.exp() - ca.exp() - ra.exp()).sum(),
        "the wrong kind of answer": lambda cb, rb, ca, ra: "more",
    },
    "12.5": {
        "the margin is the gap": lambda e, b: math.log((1 - e) / e),
        "a larger beta asks for a larger gap": lambda e, b: b * math.log((1 - e) / e),
        "smoothing turns the preference round": lambda e, b: math.log(e / (1 - e)) / b,
        "cDPO stops where IPO stops": lambda e, b: 1 / (2 * b),
        "the weights of the two sides are 1 and eps": lambda e, b: math.log(1 / e) / b,
        "the loss is linear in the gap": lambda e, b: (1 - 2 * e) / b,
        "another gap": lambda e, b: e / b,
        "the wrong kind of answer": lambda e, b: math.inf,
    },
    "12.6": {
        "an estimate of a KL may be negative": lambda t: t[~torch.eye(len(t), dtype=torch.bool)].mean(),
        "every entry is a KL": lambda t: t[~torch.eye(len(t), dtype=torch.bool)].clamp(min=0).mean(),
        "rolling the batch makes mismatched pairs": lambda t: t.diagonal().roll(1).mean().clamp(min=0),
        "all entries are mismatched": lambda t: t.mean().clamp(min=0),
        "a sum for a mean": lambda t: t[~torch.eye(len(t), dtype=torch.bool)].sum().clamp(min=0),
        "one mismatch a prompt is all there is": lambda t: t.roll(1, dims=1).diagonal().mean().clamp(min=0),
        "another reference point": lambda t: t.max(),
        "the wrong kind of answer": lambda t: t,
    },
    "12.7": {
        "gamma is gamma / beta": lambda c, d, n, m, b, g: simpo(b * (c / n - d / m) - g),
        "the target margin is scale-free": lambda c, d, n, m, b, g: simpo(b * (c / n - d / m) - g / b),
        "a margin eases the task": lambda c, d, n, m, b, g: simpo(b * (c / n - d / m) + b * g),
        "sum for mean": lambda c, d, n, m, b, g: simpo(b * (c - d) - b * g),
        "one length for both answers": lambda c, d, n, m, b, g: simpo(b * (c - d) / (n + m) - b * g),
        "the pair upside down": lambda c, d, n, m, b, g: simpo(b * (d / m - c / n) - b * g),
        "a loss is a log-likelihood": lambda c, d, n, m, b, g: -simpo(b * (c / n - d / m) - b * g),
        "another loss": lambda c, d, n, m, b, g: c / n - d / m,
        "the wrong shape": lambda c, d, n, m, b, g: simpo(b * (c / n - d / m) - b * g).mean(),
        "the wrong kind of answer": lambda c, d, n, m, b, g: "loss",
    },
    "12.1": {
        "the target is for the margin": lambda pc, pr, rc, rr, b: ((b * (pc - rc - pr + rr) - 0.5 / b) ** 2).mean(),
        "the target is one over beta": lambda pc, pr, rc, rr, b: ((pc - rc - pr + rr - 1 / b) ** 2).mean(),
        "a larger beta asks for a larger gap": lambda pc, pr, rc, rr, b: ((pc - rc - pr + rr - b / 2) ** 2).mean(),
        "IPO has no reference": lambda pc, pr, rc, rr, b: ((pc - pr - 0.5 / b) ** 2).mean(),
        "a distance without a square": lambda pc, pr, rc, rr, b: (pc - rc - pr + rr - 0.5 / b).mean(),
        "a sum for a mean": lambda pc, pr, rc, rr, b: ((pc - rc - pr + rr - 0.5 / b) ** 2).sum(),
        "IPO is DPO": lambda pc, pr, rc, rr, b: -F.logsigmoid(b * (pc - rc - pr + rr)).mean(),
        "another target": lambda pc, pr, rc, rr, b: ((pc - rc - pr + rr) ** 2).mean(),
        "the wrong kind of answer": lambda pc, pr, rc, rr, b: "loss",
    },
    "12.2": {
        "the pull begins at one": lambda s, b: math.log(1 / s - 1) / b,
        "the margin is the gap": lambda s, b: math.log(2 / s - 1),
        "a larger beta pulls longer": lambda s, b: b * math.log(2 / s - 1),
        "the pull grows with the gap": lambda s, b: -math.log(2 / s - 1) / b,
        "the weight is exponential": lambda s, b: -math.log(s) / b,
        "another gap": lambda s, b: s / b,
        "the wrong kind of answer": lambda s, b: math.inf,
    },
    "12.3": {
        "the largest margin is the best run": lambda: "A",
        "a flat loss is a calm run": lambda: "c",
        "a first loss is noise": lambda: "D",
        "no such option": lambda: "E",
        "the wrong kind of answer": lambda: 2,
    },
}
