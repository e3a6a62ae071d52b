"""Answers to the exercises of chapter 10: right ones, written in two ways, and wrong ones with the message they earn."""

import itertools
import math

import torch

from rlhf_minimal.best_of_n import curve, kl_bound, law, select
from rlhf_minimal.filtering import top_overall


def sets(scores, n, of=max):
    """The mean of `of` over all sets of n scores."""
    some = list(itertools.combinations(scores.tolist(), n))
    return sum(map(of, some)) / len(some)


def ranks(weight):
    """A sum over the sorted scores with weight(rank from 0, how many, n)."""
    return lambda s, n: sum(weight(i, len(s), n) * x for i, x in enumerate(sorted(s.tolist())))


def lost_package(R, k):
    return len(R) - (top_overall(R.flatten(), k) // R.shape[1]).unique().numel()


def lost_loop(R, k):
    """Without a sort over tensors: pairs (-score, position)."""
    flat = sorted((-v, i) for i, v in enumerate(R.flatten().tolist()))[:k]
    return len(R) - len({i // R.shape[1] for _, i in flat})


def lost_rising(R, k):
    return len(R) - len({int(i) // R.shape[1] for i in R.flatten().argsort(stable=True)[:k]})


def variances(p, q):
    return p * (1 - p) + q * (1 - q)


def kl(q, p):
    return torch.special.xlogy(q, q / p).sum()


def slack_package(p, r, n):
    return kl_bound(n) - kl(law(p, r, n), p)


def slack_levels(p, r, n):
    """KL level by level: within a level best-of-n keeps the proportions."""
    total = 0.0
    for level in r.unique():
        most, less, here = p[r <= level].sum(), p[r < level].sum(), p[r == level].sum()
        now = most**n - less**n
        total += now * torch.log(now / here)
    return math.log(n) - 1 + 1 / n - total


def reverse_slack(p, r, n):
    q = law(p, r, n)
    return kl_bound(n) - (p * (p / q).log()).sum()


def heat(value):
    """The temperature whose policy has the largest value(policy, r, n)."""
    return lambda logp, r, n, temperatures: max(
        temperatures, key=lambda t: float(value((logp / t).softmax(0), r, n)))


def heat_loop(logp, r, n, temperatures):
    """E max = sum over levels of level * (F^n - F_less^n)."""
    found = []
    for t in temperatures:
        p = torch.log_softmax(logp / t, 0).exp()
        found.append(sum(float(v * (p[r <= v].sum() ** n - p[r < v].sum() ** n)) for v in r.unique()))
    return temperatures[found.index(max(found))]


def heat_inverse(logp, r, n, temperatures):
    return max(temperatures, key=lambda t: float(law((logp * t).softmax(0), r, n) @ r))


def shift(score, feature, size):
    return feature[select(score, size)] - feature.view(-1, size).mean(1)


def z(d):
    return d.mean() / (d.std() / len(d) ** 0.5)


def drift_loop(score, feature, size):
    d = []
    for i in range(0, len(score), size):
        best = max(range(i, i + size), key=lambda j: float(score[j]))
        d.append(float(feature[best]) - sum(feature[i:i + size].tolist()) / size)
    mean = sum(d) / len(d)
    return mean / math.sqrt(sum((x - mean) ** 2 for x in d) / (len(d) - 1) / len(d))


RIGHT = {
    "10.1": [sets, lambda s, n: curve(s, s, len(s), [n]).item()],
    "10.2": [lost_package, lost_loop],
    "10.3": [lambda p, q, zs: zs**2 * variances(p, q) / (p - q) ** 2,
             lambda p, q, zs: math.ceil((zs * math.sqrt(p - p * p + q - q * q) / (p - q)) ** 2)],
    "10.4": [slack_package, slack_levels],
    "10.5": [heat(lambda p, r, n: law(p, r, n) @ r), heat_loop],
    "10.6": [lambda s, f, size: z(shift(s, f, size)), drift_loop],
}

WRONG = {  # {exercise: {the misconception's name: answer}}
    "10.1": {
        "n does not matter": lambda s, n: s.max(),
        "the first n will do": lambda s, n: s[:n].max(),
        "the mean of the set": lambda s, n: s.mean(),
        "the order is upside down": lambda s, n: sets(s, n, min),
        "with replacement": ranks(lambda i, g, n: ((i + 1) ** n - i**n) / g**n),
        "the mean over n": ranks(lambda i, g, n: math.comb(i, n - 1) / math.comb(g, n) / n),
        "a sum for a mean": ranks(lambda i, g, n: math.comb(i, n - 1)),
        "n others from below": ranks(lambda i, g, n: math.comb(i, n) / math.comb(g, n)),
        "another mean": lambda s, n: s.median(),
        "the wrong kind of answer": lambda s, n: s,
    },
    "10.2": {
        "the two selections differ only in size": lambda R, k: 0,
        "the complement": lambda R, k: len(R) - lost_package(R, k),
        "a rising sort puts the best first": lost_rising,
        "columns taken for rows": lambda R, k: len(R) - (top_overall(R.flatten(), k) % R.shape[1]).unique().numel(),
        "the wrong width": lambda R, k: len(R) - (top_overall(R.flatten(), k) // len(R)).unique().numel(),
        "another count": lambda R, k: k,
        "the wrong kind of answer": lambda R, k: R,
    },
    "10.3": {
        "the higher mean works": lambda p, q, zs: 1,
        "the rival has no noise": lambda p, q, zs: zs**2 * p * (1 - p) / (p - q) ** 2,
        "standard errors add":
            lambda p, q, zs: (zs * (math.sqrt(p * (1 - p)) + math.sqrt(q * (1 - q))) / (p - q)) ** 2,
        "one standard error is enough": lambda p, q, zs: variances(p, q) / (p - q) ** 2,
        "twice as sure costs twice as much": lambda p, q, zs: zs * variances(p, q) / (p - q) ** 2,
        "n falls with the difference": lambda p, q, zs: zs**2 * variances(p, q) / (p - q),
        "another number of questions": lambda p, q, zs: zs / (p - q),
        "the wrong kind of answer": lambda p, q, zs: "many",
    },
    "10.4": {
        "the formula is an equality": lambda p, r, n: 0.0,
        "the bound is below": lambda p, r, n: -slack_package(p, r, n),
        "best-of-n costs log n": lambda p, r, n: math.log(n) - kl(law(p, r, n), p),
        "KL is a distance": reverse_slack,
        "bits for nats": lambda p, r, n: kl_bound(n) - kl(law(p, r, n), p) / math.log(2),
        "the KL is the answer": lambda p, r, n: kl(law(p, r, n), p),
        "another difference": lambda p, r, n: kl_bound(n),
        "the wrong kind of answer": lambda p, r, n: p,
    },
    "10.5": {
        "hotter is always better": lambda logp, r, n, temperatures: temperatures[-1],
        "colder is always better": lambda logp, r, n, temperatures: temperatures[0],
        "n does not matter": heat(lambda p, r, n: p @ r),
        "temperature multiplies": heat_inverse,
        "another temperature": lambda logp, r, n, temperatures: 1.0,
        "the wrong kind of answer": lambda logp, r, n, temperatures: 0.123,
    },
    "10.6": {
        "filtering cannot be hacked": lambda s, f, size: 0.0,
        "a difference needs no interval": lambda s, f, size: shift(s, f, size).mean(),
        "a standard deviation is a standard error":
            lambda s, f, size: shift(s, f, size).mean() / shift(s, f, size).std(),
        "the shift upside down": lambda s, f, size: -z(shift(s, f, size)),
        "the feature selects": lambda s, f, size: z(shift(f, f, size)),
        "the control is not matched": lambda s, f, size: z(f[select(s, size)] - f.mean()),
        "the biased variance": lambda s, f, size: z(shift(s, f, size)) * (len(s) / (len(s) - size)) ** 0.5,
        "another statistic": lambda s, f, size: f.mean(),
        "the wrong kind of answer": lambda s, f, size: f,
    },
}
