"""Answers to the exercises of chapter 6: right ones, written in two ways, and wrong ones with the message they earn."""

import torch


def kappa_counts(a, b):
    """Expected disagreement from the counts of the three labels."""
    levels = torch.tensor([0, 0.5, 1], dtype=a.dtype)
    share = [torch.stack([(x == v).double().mean() for v in levels]) for x in (a, b)]
    apart = (levels[:, None] - levels).abs()
    return 1 - (a - b).abs().mean() / (share[0] @ apart @ share[1])


def _plain(a, b):
    expected = sum((a == v).double().mean() * (b == v).double().mean() for v in (0, 0.5, 1))
    return ((a == b).double().mean() - expected) / (1 - expected)


def longer_loop(chosen, rejected):
    pairs = [(c, r) for c, r in zip(chosen.tolist(), rejected.tolist(), strict=True) if c != r]
    return sum(c > r for c, r in pairs) / len(pairs)


RIGHT = {
    "6.1": [lambda a, b: 1 - (a - b).abs().mean() / (a[:, None] - b[None]).abs().mean(), kappa_counts],
    "6.2": [lambda m, q: m * q + (1 - m) * (1 - q), lambda m, q: 1 - m - q + 2 * m * q],
    "6.3": [lambda c, r: (c > r)[c != r].double().mean(), longer_loop],
}

WRONG = {  # {exercise: {the misconception's name: answer}}
    "6.1": {
        "all disagreements are alike": _plain,
        "agreement is kappa": lambda a, b: 1 - (a - b).abs().mean(),
        "quadratic weights": lambda a, b: 1 - (a - b).square().mean() / (a[:, None] - b[None]).square().mean(),
        "the ratio is kappa": lambda a, b: (a - b).abs().mean() / (a[:, None] - b[None]).abs().mean(),
        "another coefficient": lambda a, b: a.mean() + 7,
        "the wrong kind of answer": lambda a, b: a,
    },
    "6.2": {
        "agreeing means being right": lambda m, q: m * q,
        "the smaller share decides": min,
        "labels are the truth": lambda m, q: m,
        "every model is perfect": lambda m, q: q,
        "another sum": lambda m, q: m + q,
    },
    "6.3": {
        "no difference is a difference": lambda c, r: (c > r).double().mean(),
        "equal pairs say one half": lambda c, r: (c > r).double().mean() + 0.5 * (c == r).double().mean(),
        "upside down": lambda c, r: (c < r)[c != r].double().mean(),
        "another share": lambda c, r: 3.0,
        "the wrong kind of answer": lambda c, r: c,
    },
}
