"""Answers to the exercises of chapter 2: right ones, written in two ways, and wrong ones with the message they earn."""

import math

import torch


def _p(first, second):
    return torch.sigmoid(first.sum() - second.sum())


def choice_math(first, second, careless):
    share = 1 / (1 + math.exp(float(sum(second)) - float(sum(first))))
    return share - careless * (share - 0.5)


def scale_loop(rating, rater):
    out = torch.zeros_like(rating)
    for k in rater.unique():
        own = rating[rater == k]
        out[rater == k] = (own - own.mean()) / own.std()
    return out


def scale_matrix(rating, rater):
    one = torch.nn.functional.one_hot(rater).to(rating.dtype)
    off = rating - ((one.T @ rating) / one.sum(0))[rater]
    return off / ((one.T @ off.square()) / one.sum(0)).sqrt()[rater]


def _each(rating, rater, change):
    out = torch.zeros_like(rating)
    for k in rater.unique():
        out[rater == k] = change(rating[rater == k])
    return out


RIGHT = {
    "2.1": [lambda a, b, c: (1 - c) * _p(a, b) + c / 2, choice_math],
    "2.2": [scale_loop, scale_matrix],
    "2.3": [lambda k: math.lgamma(k + 1), lambda k: sum(math.log(i) for i in range(2, k + 1))],
}

WRONG = {  # {exercise: {the misconception's name: answer}}
    "2.1": {
        "raters always look": lambda a, b, c: _p(a, b),
        "a careless rater chooses nothing": lambda a, b, c: (1 - c) * _p(a, b),
        "a careless rater always takes the first": lambda a, b, c: (1 - c) * _p(a, b) + c,
        "careless is contrary": lambda a, b, c: (1 - c) * _p(a, b) + c * (1 - _p(a, b)),
        "the mean reward decides": lambda a, b, c: (1 - c) * torch.sigmoid(a.mean() - b.mean()) + c / 2,
        "only the end counts": lambda a, b, c: (1 - c) * torch.sigmoid(a[-1] - b[-1]) + c / 2,
        "the order does not matter": lambda a, b, c: (1 - c) * _p(b, a) + c / 2,
        "another probability": lambda a, b, c: 0.5,
        "the wrong kind of answer": lambda a, b, c: a,
    },
    "2.2": {
        "everybody means the same by a 7": lambda rating, rater: rating,
        "raters differ in level only": lambda rating, rater: _each(rating, rater, lambda x: x - x.mean()),
        "raters differ in unit only": lambda rating, rater: _each(rating, rater, lambda x: x / x.std()),
        "one scale for all": lambda rating, rater: (rating - rating.mean()) / rating.std(),
        "another scale": lambda rating, rater: 0 * rating,
        "the wrong shape": lambda rating, rater: rating[:2],
    },
    "2.3": {
        "the loss is the log-probability": lambda k: -math.lgamma(k + 1),
        "a ranking is a mean of pairs": lambda k: math.log(2),
        "only the best counts": lambda k: math.log(k),
        "every choice has K options": lambda k: k * math.log(k),
        "a ranking is a sum of pairs": lambda k: k * (k - 1) / 2 * math.log(2),
        "the number of orders": lambda k: math.factorial(k),
        "another loss": lambda k: 1.0,
        "the wrong kind of answer": lambda k: "b",
    },
}
