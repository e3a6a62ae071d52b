"""Answers to the exercises of chapter 5: right ones, written in two ways, and wrong ones with the message they earn."""

import math

import torch


def crowd_loop(u, tau, w):
    n = u.shape[1]
    out = torch.zeros(n, n, dtype=u.dtype)
    for k in range(len(w)):
        for i in range(n):
            for j in range(n):
                out[i, j] += w[k] / (1 + torch.exp(-(u[k, i] - u[k, j]) / tau[k]))
    return out


def _gap(u):
    return u[:, :, None] - u[:, None, :]


def _of(x):
    return x[:, None, None]


def _logit(p):
    return torch.tensor(p).double().logit()


def odds(p):
    return p / (1 - p)


RIGHT = {
    "5.1": [lambda u, tau, w: (_of(w) * (_gap(u) / _of(tau)).sigmoid()).sum(0), crowd_loop],
    "5.2": [lambda b, p, a: math.log(odds(p)) / math.log(odds(a) / odds(b)),
            lambda b, p, a: _logit(p) / (_logit(a) - _logit(b))],
    "5.3": [lambda: "b", lambda: "(B)"],
}
WRONG = {  # {exercise: {the misconception's name: answer}}
    "5.1": {
        "a crowd is one average person": lambda u, tau, w: (_of(w) * _gap(u) / _of(tau)).sum(0).sigmoid(),
        "everybody is equally firm": lambda u, tau, w: (_of(w) * _gap(u).sigmoid()).sum(0),
        "temperature is firmness": lambda u, tau, w: (_of(w) * (_gap(u) * _of(tau)).sigmoid()).sum(0),
        "camps instead of people": lambda u, tau, w: (_gap(u) / _of(tau)).sigmoid().mean(0),
        "rows and columns swapped": lambda u, tau, w: (_of(w) * (-_gap(u) / _of(tau)).sigmoid()).sum(0),
        "another probability": lambda u, tau, w: torch.full((u.shape[1], u.shape[1]), 0.5),
        "the wrong shape": lambda u, tau, w: w,
    },
    "5.2": {
        "beta is the power": lambda b, p, a: math.log(odds(a) / odds(b)) / math.log(odds(p)),
        "the reference does not matter": lambda b, p, a: math.log(odds(p)) / math.log(odds(a)),
        "probabilities for odds": lambda b, p, a: math.log(p) / math.log(a / b),
        "other odds": lambda b, p, a: 0.3,
        "the wrong kind of answer": lambda b, p, a: "a",
    },
    "5.3": {
        "more data fixes it": lambda: "a",
        "agreement is a ceiling": lambda: "c",
        "size fixes it": lambda: "d",
        "no such option": lambda: "e",
        "the wrong kind of answer": lambda: 2,
    },
}
