"""Checks of chapter 16: a bootstrap over questions with several answers, how many questions a difference needs, four reports."""

from functools import partial

import numpy
import torch

from . import Misconception
from .answers import array, letter, like, number

_like = partial(like, atol=1e-9)


def resampled_gaps(answer, rng):
    """16.1: (b.mean(1) - a.mean(1))[rows].mean(1)."""
    cases = []
    for k in range(24):
        questions, answers, times = (3, 5, 8)[k % 3], (2, 3, 4, 6)[k % 4], (4, 7)[k % 2]
        a, b = (rng.integers(0, 2, (questions, answers)).astype(float) for _ in range(2))
        rows = rng.integers(0, questions, (times, questions))
        got = answer(torch.as_tensor(a), torch.as_tensor(b), torch.as_tensor(rows))
        cases.append(((a, b, rows), array(got, (times,), "the answer")))
    if _like(cases, lambda a, b, rows: (b - a).mean(1)[rows].mean(1)):
        return
    if _like(cases, lambda a, b, rows: (a - b).mean(1)[rows].mean(1)):
        raise Misconception("the sign is turned round: b minus a is wanted", "a minus b")
    if _like(cases, lambda a, b, rows: (b - a)[:, 0][rows].mean(1)):
        raise Misconception("only the first answer to each question is used; a drawn question brings all of its answers",
                            "one answer stands for all")
    if _like(cases, lambda a, b, rows: (b - a).reshape(-1)[rows].mean(1)):
        raise Misconception("the drawn numbers were used as numbers of answers; they are numbers of questions",
                            "answers are the unit")
    if _like(cases, lambda a, b, rows: (b - a).sum(1)[rows].mean(1)):
        raise Misconception("summed over the answers of a question; their mean is wanted", "a sum for a mean")
    if _like(cases, lambda a, b, rows: (b - a).mean(1)[rows].sum(1)):
        raise Misconception("summed over the drawn questions; their mean is wanted", "a sum for a mean")
    if _like(cases, lambda a, b, rows: numpy.full(len(rows), (b - a).mean())):
        raise Misconception("every resample gives the same difference: the drawn questions were not used", "no resampling")
    if _like(cases, lambda a, b, rows: b.mean(1)[rows].mean(1) - a.mean()):
        raise Misconception("only b was resampled; a drawn question brings the answers of both models", "one side is drawn")
    raise Misconception("the numbers are not the mean differences of the drawn questions", "another resample")


def questions_needed(answer, rng):
    """16.2: variance (2.8 / gap)^2."""
    cases = []
    for _ in range(24):
        gap, variance = float(rng.uniform(0.005, 0.2)), float(rng.uniform(0.05, 0.5))
        cases.append(((gap, variance), number(answer(gap, variance), "the number of questions")))

    def near(formula, least=1e-9):
        return all(abs(got - formula(*args)) <= max(1.01, 2e-3 * formula(*args)) for args, got in cases)

    if near(lambda g, v: v * (2.8 / g) ** 2):  # rounded up is right too, and so is 1.96 + 0.8416
        return
    if near(lambda g, v: v * (1.96 / g) ** 2):
        raise Misconception("with 1.96 standard errors the interval clears 0 in half of the evaluations only; 2.8 for 80 %",
                            "significance is power")
    if near(lambda g, v: v * 2.8 / g) or near(lambda g, v: v * 2.8 ** 2 / g):
        raise Misconception("the gap enters as a square: half the gap takes four times as many questions",
                            "questions go as 1 / gap")
    if near(lambda g, v: v * 2.8 / g ** 2):
        raise Misconception("2.8 has to be squared as well", "the factor is not squared")
    if near(lambda g, v: v ** 0.5 * (2.8 / g) ** 2):
        raise Misconception("the variance was rooted, and not the whole standard error", "a standard deviation for a variance")
    if near(lambda g, v: (v * 2.8 / g) ** 2):
        raise Misconception("the variance was squared: it is a square already", "a variance for a standard deviation")
    if near(lambda g, v: 2 * v * (2.8 / g) ** 2):
        raise Misconception("doubled: the variance given is that of the difference already", "both models counted twice")
    if near(lambda g, v: v * (0.84 / g) ** 2):
        raise Misconception("0.84 alone leaves out the half width of the interval, 1.96", "power without an interval")
    raise Misconception("at the right n the gap is 2.8 times the square root of variance / n", "another number")


def believable(answer, rng):
    """16.3: report B."""
    chosen = letter(answer, "A")
    if chosen == "B":
        return
    if chosen == "A":
        raise Misconception("the difference is 3 points, its standard error about 4: luck of the questions explains it",
                            "any difference is real")
    if chosen == "C":
        raise Misconception("the best of 30 on the set that chose it: identical checkpoints would gain as much",
                            "the best is better")
    if chosen == "D":
        raise Misconception("the difference is real, but not in quality: an AI judge may reward length alone",
                            "a win rate measures quality")
    raise Misconception("give one of A, B, C, D", "no such option")


CHECKS = {"16.1": resampled_gaps, "16.2": questions_needed, "16.3": believable}
