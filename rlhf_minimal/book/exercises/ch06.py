"""Checks of chapter 6: kappa with half credit, agreement with noisy labels, a preference for length."""

import numpy

from . import Misconception
from .answers import number, tensors


def _cases(answer, draw, rng, formula, n=24):
    """(arguments, the answer, the right one) of n random inputs."""
    found = []
    for _ in range(n):
        arguments = draw(rng)
        found.append((arguments, number(answer(*arguments), "the answer"), formula(*arguments)))
    return found


def _all(cases, formula):
    return all(numpy.isclose(got, formula(*arguments), rtol=1e-6, atol=1e-8) for arguments, got, _ in cases)


def _labels(rng):
    n = int(rng.integers(12, 60))
    a = rng.choice([0, 0.5, 1], n, p=rng.dirichlet([3, 2, 3]))
    b = numpy.where(rng.random(n) < 0.5, a, rng.choice([0, 0.5, 1], n, p=rng.dirichlet([3, 2, 3])))
    a[:2], b[:2] = (0, 1), (0, 0.5)  # never one label for everything
    return tensors(a, b)


def _kappa(a, b):
    levels = (0, 0.5, 1)
    observed = sum(abs(float(x) - float(y)) for x, y in zip(a, b, strict=True)) / len(a)
    expected = sum(abs(u - v) * float((a == u).double().mean()) * float((b == v).double().mean()) for u in levels for v in levels)
    return 1 - observed / expected


def _plain(a, b):
    expected = sum(float((a == u).double().mean()) * float((b == u).double().mean()) for u in (0, 0.5, 1))
    return (float((a == b).double().mean()) - expected) / (1 - expected)


def weighted_kappa(answer, rng):
    """6.1: kappa in which a tie is half a disagreement."""
    cases = _cases(answer, _labels, rng, _kappa)
    if _all(cases, _kappa):
        return
    if _all(cases, _plain):
        raise Misconception("this is the kappa of the page: a tie against a preference counts as a full disagreement",
                            "all disagreements are alike")
    if _all(cases, lambda a, b: 1 - float((a - b).abs().mean())):
        raise Misconception("this is agreement with half credit; what chance alone gives is not taken off", "agreement is kappa")
    if _all(cases, lambda a, b: 1 - float((a - b).square().mean()) / float((a[:, None] - b[None]).square().mean())):
        raise Misconception("the squares make a tie a quarter of a disagreement; here it is half", "quadratic weights")
    if _all(cases, lambda a, b: 1 - _kappa(a, b)):
        raise Misconception("this is the ratio of the disagreements; kappa is one minus it", "the ratio is kappa")
    raise Misconception("this is not one minus the ratio of observed to expected disagreement", "another coefficient")


def measured_accuracy(answer, rng):
    """6.2: how often a model agrees with noisy labels."""
    def right(m, q):
        return m * q + (1 - m) * (1 - q)

    cases = _cases(answer, lambda rng: (float(rng.uniform(0.5, 1)), float(rng.uniform(0.5, 1))), rng, right)
    if _all(cases, right):
        return
    if _all(cases, lambda m, q: m * q):
        raise Misconception("they also agree where both are wrong: of two answers there is only one wrong one",
                            "agreeing means being right")
    if _all(cases, min):
        raise Misconception("the labels are a ceiling only for a perfect model; below it, errors mix", "the smaller share decides")
    if _all(cases, lambda m, q: m):
        raise Misconception("this takes the labels for the truth", "labels are the truth")
    if _all(cases, lambda m, q: q):
        raise Misconception("this is the ceiling, what a perfect model would score", "every model is perfect")
    raise Misconception("both right, or both wrong: the two cases do not add up to this", "another sum")


def _lengths(rng):
    n = int(rng.integers(10, 80))
    chosen, rejected = rng.integers(1, 6, n), rng.integers(1, 6, n)
    chosen[:3], rejected[:3] = (2, 3, 4), (2, 1, 5)
    return tensors(chosen, rejected)


def chose_the_longer(answer, rng):
    """6.3: the share that chose the longer answer, where one is longer."""
    def right(c, r):
        return float((c > r).sum()) / float((c != r).sum())

    cases = _cases(answer, _lengths, rng, right)
    if _all(cases, right):
        return
    if _all(cases, lambda c, r: float((c > r).double().mean())):
        raise Misconception("pairs of equal length still count as 'chose the shorter'", "no difference is a difference")
    if _all(cases, lambda c, r: float((c >= r).double().mean())):
        raise Misconception("pairs of equal length now count as 'chose the longer'", "no difference is a difference")
    if _all(cases, lambda c, r: float((c > r).double().mean() + 0.5 * (c == r).double().mean())):
        raise Misconception("half a point for equal lengths pulls the share to one half; the question leaves these pairs out",
                            "equal pairs say one half")
    if _all(cases, lambda c, r: 1 - right(c, r)):
        raise Misconception("this is the share that chose the shorter answer", "upside down")
    raise Misconception("this is not the share among the pairs that differ", "another share")


CHECKS = {"6.1": weighted_kappa, "6.2": measured_accuracy, "6.3": chose_the_longer}
