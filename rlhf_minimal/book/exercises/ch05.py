"""Checks of chapter 5: the choice probabilities of a crowd, the beta that amplifies a majority, a result to judge."""

import numpy

from . import Misconception
from .answers import array, letter, number, sigmoid, tensors


def crowd(answer, rng):
    """5.1: Bradley-Terry probabilities of a mixture of camps."""
    cases = []
    for k in range(24):
        camps, n = 2 + k % 4, 2 + k % 5
        u, tau, w = rng.normal(0, 1, (camps, n)), rng.uniform(0.2, 3, camps), rng.uniform(0.1, 1, camps)
        w = w / w.sum()
        cases.append((u, tau, w, array(answer(*tensors(u, tau, w)), (n, n), "the answer")))

    def is_(formula):
        return all(numpy.allclose(got, formula(u[:, :, None] - u[:, None, :], t[:, None, None], w[:, None, None]), atol=1e-6)
                   for u, t, w, got in cases)

    if is_(lambda gap, t, w: (w * sigmoid(gap / t)).sum(0)):
        return
    if is_(lambda gap, t, w: sigmoid((w * gap / t).sum(0))) or is_(lambda gap, t, w: sigmoid((w * gap).sum(0))):
        raise Misconception("utilities were averaged before the sigmoid: that is one person with a mean taste, not a crowd",
                            "a crowd is one average person")
    if is_(lambda gap, t, w: (w * sigmoid(gap)).sum(0)):
        raise Misconception("the temperatures are missing: how firmly a camp chooses changes its part of the labels",
                            "everybody is equally firm")
    if is_(lambda gap, t, w: (w * sigmoid(gap * t)).sum(0)):
        raise Misconception("a high temperature is noise: divide by it", "temperature is firmness")
    if is_(lambda gap, t, w: sigmoid(gap / t).mean(0)):
        raise Misconception("every camp counts the same; weigh it by its share", "camps instead of people")
    if is_(lambda gap, t, w: (w * sigmoid(-gap / t)).sum(0)):
        raise Misconception("this is P(j is preferred to i): the matrix is transposed", "rows and columns swapped")
    raise Misconception("the matrix is not the sum over camps of share times sigmoid((u_i - u_j) / tau)", "another probability")


def beta_for(answer, rng):
    """5.2: the beta at which a tilted policy has a given share."""
    cases = []
    for _ in range(24):
        before, labels = float(rng.uniform(0.2, 0.6)), float(rng.uniform(0.55, 0.9))
        after = float(rng.uniform(before + 0.1, 0.97))
        cases.append((before, labels, after, number(answer(before, labels, after), "beta")))

    def odds(p):
        return p / (1 - p)

    def is_(formula):
        return all(abs(got - formula(*case)) < 1e-4 * max(1, abs(got)) for *case, got in cases)

    log = numpy.log
    if is_(lambda b, p, a: log(odds(p)) / log(odds(a) / odds(b))):
        return
    if is_(lambda b, p, a: log(odds(a) / odds(b)) / log(odds(p))):
        raise Misconception("upside down: this is 1 / beta, the power of the odds in the labels", "beta is the power")
    if is_(lambda b, p, a: log(odds(p)) / log(odds(a))):
        raise Misconception("the odds before are missing: the labels multiply them", "the reference does not matter")
    if is_(lambda b, p, a: log(p) / log(a / b)) or is_(lambda b, p, a: log(p / 0.5) / log(a / b)):
        raise Misconception("the formula multiplies odds, p / (1 - p), not probabilities", "probabilities for odds")
    raise Misconception("at this beta another share of the outputs ends happily", "other odds")


def judgement(answer, rng):
    """5.3: 60 % right where two people agree in 52 % of the cases."""
    chosen = letter(answer)
    if chosen == "b":
        return
    if chosen == "a":
        raise Misconception("more labels of the same people have the same ceiling: nobody can predict who will answer",
                            "more data fixes it")
    if chosen == "c":
        raise Misconception("solve p^2 + (1 - p)^2 = 0.52: at p = 0.6 the best guess is right in 60 %, as expected",
                            "agreement is a ceiling")
    if chosen == "d":
        raise Misconception("a larger model knows no better who will be asked", "size fixes it")
    raise Misconception("give one of a, b, c, d", "no such option")


CHECKS = {"5.1": crowd, "5.2": beta_for, "5.3": judgement}
