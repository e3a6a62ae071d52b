"""Answers to the exercises of chapter 13: right ones, written in two ways, and wrong ones with the message they earn."""

import torch


def verdict_by_cases(there, back):
    ours, theirs = (there > 0.5) & (back < 0.5), (there < 0.5) & (back > 0.5)
    return torch.where(ours, 1.0, torch.where(theirs, 0.0, 0.5))


RIGHT = {
    "13.1": [lambda t, b: ((t > 0.5).double() + (b < 0.5).double()) / 2, verdict_by_cases],
    "13.2": [lambda b, s, t, p, q: (s**2 * p - t**2 * q) / b**2, lambda b, s, t, p, q: (s / b) ** 2 * p - (t / b) ** 2 * q],
    "13.3": [lambda: "B", lambda: "(b)"],
}

WRONG = {  # {exercise: {the misconception's name: answer}}
    "13.1": {
        "soft labels": lambda t, b: (t + 1 - b) / 2,
        "never a tie": lambda t, b: (t + 1 - b > 1).double(),
        "one order": lambda t, b: (t > 0.5).double(),
        "the same answer first twice": lambda t, b: ((t > 0.5).double() + (b > 0.5).double()) / 2,
        "a tie is a loss": lambda t, b: ((t > 0.5) & (b < 0.5)).double(),
        "another verdict": lambda t, b: t * 0 + 0.5,
        "the wrong shape": lambda t, b: t.mean(),
    },
    "13.2": {
        "the judge is free of noise": lambda b, s, t, p, q: s**2 * p / b**2,
        "noise for variance": lambda b, s, t, p, q: (s * p - t * q) / b,
        "bias without its square": lambda b, s, t, p, q: (s**2 * p - t**2 * q) / b,
        "labels are money": lambda b, s, t, p, q: (s**2 - t**2) / b**2,
        "wrong side": lambda b, s, t, p, q: (s**2 * p + t**2 * q) / b**2,
        "another balance": lambda b, s, t, p, q: s * t,
        "the wrong kind of answer": lambda b, s, t, p, q: "much",
    },
    "13.3": {
        "the first column": lambda: "A",
        "a good middle": lambda: "C",
        "the largest number": lambda: "D",
        "no such judge": lambda: "E",
        "the wrong kind of answer": lambda: 2,
    },
}
