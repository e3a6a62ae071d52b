"""Answers to the exercises of chapter 14: right ones, written in two ways, and wrong ones with the message they earn."""

import math
import re


def all_right_product(n, c, k):
    chance = 1.0
    for i in range(k):
        chance *= max(0, c - i) / (n - i)
    return chance


def last_by_split(right, text):
    return float(text.rpartition("result is ")[2].partition(".")[0] == str(right) and "result is " in text)


RIGHT = {
    "14.1": [lambda n, c, k: math.comb(c, k) / math.comb(n, k), all_right_product],
    "14.2": [lambda p, g: p**g + (1 - p) ** g, lambda p, g: sum(x**g for x in (p, 1 - p))],
    "14.3": [lambda right, text: float(re.findall(r"result is (\d+)\.", text)[-1:] == [str(right)]), last_by_split],
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
        "only failure is silent": lambda p, g: (1 - p) ** g,
        "only success is silent": lambda p, g: p**g,
        "upside down": lambda p, g: 1 - p**g - (1 - p) ** g,
        "size is chance": lambda p, g: 1 - p * (1 - p),
        "another share": lambda p, g: 0.5,
    },
    "14.3": {
        "it is in there": lambda right, text: float(str(right) in text),
        "a good beginning": lambda right, text: float(text.rpartition("result is ")[2].startswith(str(right))),
        "any guess counts": lambda right, text: float(f"result is {right}." in text),
        "upside down": lambda right, text: 1 - last_by_split(right, text),
        "one reward for all": lambda right, text: 1.0,
        "another checker": lambda right, text: float(len(text) % 2),
        "the wrong kind of answer": lambda right, text: text,
    },
}
