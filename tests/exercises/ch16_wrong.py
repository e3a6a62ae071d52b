"""Answers to the exercises of chapter 16: right ones, written in two ways, and wrong ones with the message they earn."""

import math

import torch


def gaps_loop(a, b, rows):
    return torch.stack([torch.stack([(b[i] - a[i]).mean() for i in line]).mean() for line in rows.tolist()])


def gaps_flat(a, b, rows):
    return (b - a)[rows].flatten(1).mean(1)


RIGHT = {
    "16.1": [gaps_loop, gaps_flat],
    "16.2": [lambda gap, variance: math.ceil(variance * (2.8 / gap) ** 2), lambda gap, variance: variance * 7.84 / gap ** 2],
    "16.3": [lambda: "B", lambda: "(b)"],
}

WRONG = {
    "16.1": {
        "a minus b": lambda a, b, rows: (a - b).mean(1)[rows].mean(1),
        "one answer stands for all": lambda a, b, rows: (b - a)[:, 0][rows].mean(1),
        "answers are the unit": lambda a, b, rows: (b - a).flatten()[rows].mean(1),
        "a sum for a mean": lambda a, b, rows: (b - a).sum(1)[rows].mean(1),
        "no resampling": lambda a, b, rows: (b - a).mean().expand(len(rows)),
        "one side is drawn": lambda a, b, rows: b.mean(1)[rows].mean(1) - a.mean(),
        "another resample": lambda a, b, rows: (b - a).mean(1)[rows].mean(1) ** 2,
        "the wrong shape": lambda a, b, rows: (b - a).mean(1)[rows],
        "the wrong kind of answer": lambda a, b, rows: "gaps",
    },
    "16.2": {
        "significance is power": lambda gap, variance: variance * (1.96 / gap) ** 2,
        "questions go as 1 / gap": lambda gap, variance: variance * 2.8 / gap,
        "the factor is not squared": lambda gap, variance: variance * 2.8 / gap ** 2,
        "a standard deviation for a variance": lambda gap, variance: variance ** 0.5 * (2.8 / gap) ** 2,
        "a variance for a standard deviation": lambda gap, variance: (variance * 2.8 / gap) ** 2,
        "both models counted twice": lambda gap, variance: 2 * variance * (2.8 / gap) ** 2,
        "power without an interval": lambda gap, variance: variance * (0.84 / gap) ** 2,
        "another number": lambda gap, variance: 1000.0,
        "the wrong kind of answer": lambda gap, variance: None,
    },
    "16.3": {
        "any difference is real": lambda: "A",
        "the best is better": lambda: "C",
        "a win rate measures quality": lambda: "D",
        "no such option": lambda: "E",
        "the wrong kind of answer": lambda: 2,
    },
}
