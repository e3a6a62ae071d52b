"""Answers to the exercises of chapter 17: right ones, written in two ways, and wrong ones with the message they earn."""

import math

import numpy as np
import torch


def truth_grid(r, mean, spread, noise):
    """The conditional mean by summing over a grid."""
    g = np.linspace(mean - 40, mean + 40, 40001)
    log_weight = -(((g - mean) / spread) ** 2) / 2 - ((r - g) / noise) ** 2 / 2
    weight = np.exp(log_weight - log_weight.max())
    return float((weight * g).sum() / weight.sum())


def peak_search(alpha, beta):
    low, high = 1e-9, 1e3
    for _ in range(200):  # the slope alpha - beta (log d + 1) falls with d
        d = math.sqrt(low * high)
        low, high = (d, high) if alpha - beta * (math.log(d) + 1) > 0 else (low, d)
    return d * d, d * (alpha - beta * math.log(d))


def _top(alpha, beta):
    return math.exp(alpha / beta - 1)


def stop_loop(first, second, patience):
    best, waited = 0, 0
    for i, x in enumerate(second[1:], 1):
        best, waited = (i, 0) if x > second[best] else (best, waited + 1)
        if waited == patience:
            return best
    return best


def stop_prefix(first, second, patience):
    s = torch.tensor(second, dtype=torch.float64)
    for end in range(1, len(s) + 1):
        best = int(s[:end].argmax())
        if end - 1 - best >= patience:
            return best
    return int(s.argmax())


def stop_alarm(first, second, patience):
    return min(stop_loop(first, second, patience) + patience, len(second) - 1)


def pessimist_loop(scores):
    rows = [[x - sum(row) / len(row) for x in row] for row in scores.tolist()]
    return [min(column) for column in zip(*rows, strict=True)]


def _centred(scores):
    return scores - scores.mean(1, keepdim=True)


def report_loop(table):
    n = len(table) // 2
    total = 0.0
    for choose, ask in ((table[:n], table[n:]), (table[n:], table[:n])):
        total += float(ask.mean(0)[choose.mean(0).argmax()])
    return total / 2


def report_mask(table):
    first = torch.arange(len(table)) < len(table) // 2
    a, b = table[first].mean(0), table[~first].mean(0)
    return 0.5 * (b[a.argmax()] + a[b.argmax()])


def _halves(table):
    return table[: len(table) // 2].mean(0), table[len(table) // 2:].mean(0)


def five_looks(proxy, kl, ask):
    d = torch.tensor(kl, dtype=torch.float64).sqrt()
    looks = [int((d - share * d[-1]).abs().argmin()) for share in (0.2, 0.4, 0.6, 0.8, 1.0)]
    return max(looks, key=lambda step: sum(ask(step, 20)))


def four_looks(proxy, kl, ask):
    roots = np.sqrt(kl)
    looks = np.searchsorted(roots, roots[-1] * np.array([0.2, 0.4, 0.6, 0.8]))
    means = [np.mean(ask(step, 25)) for step in looks]
    return int(looks[int(np.argmax(means))])


RIGHT = {
    "17.1": [five_looks, four_looks],
    "17.2": [lambda r, m, t, s: m + (r - m) * t * t / (t * t + s * s), truth_grid],
    "17.4": [lambda a, b: (_top(a, b) ** 2, b * _top(a, b)), peak_search],
    "17.5": [stop_loop, stop_prefix],
    "17.6": [lambda scores: _centred(scores).amin(0), pessimist_loop],
    "17.3": [report_loop, report_mask],
}

WRONG = {  # {exercise: {the misconception's name: answer}}
    "17.1": {
        "stop when the proxy stops": lambda proxy, kl, ask: int(np.argmax(proxy)),
        "more training is better": lambda proxy, kl, ask: len(kl) - 1 + 0 * len(ask(0, 1)),
        "any optimisation is harmful": lambda proxy, kl, ask: 0,
        "the distance knows the peak": lambda proxy, kl, ask: len(kl) // 2,
        "one look is enough": lambda proxy, kl, ask: len(kl) // 2 if sum(ask(len(kl) // 2, 100)) > 0 else 0,
        "labels are free": lambda proxy, kl, ask: max(range(len(kl)), key=lambda k: sum(ask(k, 10))),
        "the labels were spread badly": lambda proxy, kl, ask: max((1, 2, 3, 4, 5), key=lambda k: sum(ask(k, 20))),
        "no such checkpoint": lambda proxy, kl, ask: len(kl),
        "the wrong kind of answer": lambda proxy, kl, ask: kl,
    },
    "17.2": {
        "the best proxy is the best text": lambda r, m, t, s: r,
        "everything shrinks towards zero": lambda r, m, t, s: r * t**2 / (t**2 + s**2),
        "spreads add up": lambda r, m, t, s: m + (r - m) * t / (t + s),
        "noise makes a promise credible": lambda r, m, t, s: m + (r - m) * s**2 / (t**2 + s**2),
        "gold always has unit variance": lambda r, m, t, s: m + (r - m) / (1 + s**2),
        "a noisy proxy says nothing": lambda r, m, t, s: m,
        "another expectation": lambda r, m, t, s: t + s,
        "the wrong kind of answer": lambda r, m, t, s: [r, m],
    },
    "17.4": {
        "d is the KL": lambda a, b: (_top(a, b), b * _top(a, b)),
        "the order of the answer": lambda a, b: (b * _top(a, b), _top(a, b) ** 2),
        "one law fits every optimiser": lambda a, b: ((a / (2 * b)) ** 2, a**2 / (4 * b)),
        "the peak is where the gain is lost": lambda a, b: (math.exp(a / b) ** 2, 0.0),
        "at the peak nothing is lost yet": lambda a, b: (_top(a, b) ** 2, a * _top(a, b)),
        "the slope is zero elsewhere": lambda a, b: (a, b),
        "the wrong shape": lambda a, b: _top(a, b),
    },
    "17.5": {
        "stop when the proxy stops": lambda f, s, p: int(np.argmax(f)),
        "the future is known": lambda f, s, p: int(np.argmax(s)),
        "the alarm is the best step": stop_alarm,
        "every dip is a turn": lambda f, s, p: stop_loop(f, s, 1),
        "more training is better": lambda f, s, p: len(s) - 1,
        "another rule": lambda f, s, p: 0,
        "the wrong kind of answer": lambda f, s, p: s,
    },
    "17.6": {
        "all judges share a zero": lambda scores: scores.amin(0),
        "the mean is pessimistic": lambda scores: _centred(scores).mean(0),
        "the optimist": lambda scores: _centred(scores).amax(0),
        "centring over the judges": lambda scores: (scores - scores.mean(0)).amin(0),
        "another combination": lambda scores: scores.std(0),
        "the wrong shape": lambda scores: scores,
    },
    "17.3": {
        "the best number seen is the result": lambda t: t.mean(0).max(),
        "halves without crossing": lambda t: sum(x.max() for x in _halves(t)) / 2,
        "one checkpoint for each prompt": lambda t: t.amax(1).mean(),
        "the average checkpoint": lambda t: t.mean(),
        "one half is enough": lambda t: _halves(t)[1][_halves(t)[0].argmax()],
        "another report": lambda t: 0.0,
        "the wrong kind of answer": lambda t: t,
    },
}
