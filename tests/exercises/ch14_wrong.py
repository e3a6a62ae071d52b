"""Answers to the exercises of chapter 14: right ones, written in two ways, and wrong ones with the message they earn."""

import math


def all_right_product(n, c, k):
    chance = 1.0
    for i in range(k):
        chance *= max(0, c - i) / (n - i)
    return chance


def by_counting(steps, stated):
    return 1.0 if stated and sum(1 for ok in steps if ok) == len(steps) > 1 else 0.0


RIGHT = {
    "14.1": [lambda n, c, k: math.comb(c, k) / math.comb(n, k), all_right_product],
    "14.2": [lambda w, luck, k: (1 - w) ** k - (1 - w - luck) ** k,
             lambda w, luck, k: (1 - (1 - w - luck) ** k) - (1 - (1 - w) ** k)],
    "14.3": [lambda steps, stated: float(stated and len(steps) >= 2 and all(steps)), by_counting],
}

WRONG = {  # {exercise: {the misconception's name: answer}}
    "14.1": {
        "one is enough": lambda n, c, k: 1 - math.comb(n - c, k) / math.comb(n, k),
        "the plug-in": lambda n, c, k: (c / n) ** k,
        "upside down": lambda n, c, k: 1 - math.comb(c, k) / math.comb(n, k),
        "all wrong": lambda n, c, k: math.comb(n - c, k) / math.comb(n, k),
        "another count": lambda n, c, k: c / n,
        "the wrong kind of answer": lambda n, c, k: "many",
    },
    "14.2": {
        "any luck": lambda w, luck, k: 1 - (1 - luck) ** k,
        "all of pass@k": lambda w, luck, k: 1 - (1 - w - luck) ** k,
        "the other part": lambda w, luck, k: 1 - (1 - w) ** k,
        "as if independent": lambda w, luck, k: (1 - w) ** k * (1 - (1 - luck) ** k),
        "upside down": lambda w, luck, k: (1 - w - luck) ** k - (1 - w) ** k,
        "one answer": lambda w, luck, k: luck,
        "another share": lambda w, luck, k: 0.5,
    },
    "14.3": {
        "the hole is open": lambda steps, stated: float(stated and all(steps)),
        "one step will do": lambda steps, stated: float(stated and len(steps) > 0 and all(steps)),
        "working without a result": lambda steps, stated: float(len(steps) >= 2 and all(steps)),
        "counted only": lambda steps, stated: float(stated and len(steps) >= 2),
        "any for all": lambda steps, stated: float(stated and len(steps) >= 2 and any(steps)),
        "two out of many": lambda steps, stated: float(stated and sum(steps) >= 2),
        "upside down": lambda steps, stated: 1 - by_counting(steps, stated),
        "one reward for all": lambda steps, stated: 1.0,
        "another checker": lambda steps, stated: float(len(steps) % 2),
        "the wrong kind of answer": lambda steps, stated: "paid",
    },
}
