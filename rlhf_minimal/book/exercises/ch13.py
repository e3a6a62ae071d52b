"""Checks of chapter 13: a verdict of both orders, the price of the crossing, four judges."""

import numpy

from . import Misconception
from .answers import array, letter, number, tensors


def both_orders(answer, rng):
    """13.1: 1 or 0 where both orders agree, one half where they do not."""
    cases = []
    for k in range(24):
        there, back = rng.uniform(0.02, 0.98, (2, (1, 5, 12, 40)[k % 4]))
        there, back = (numpy.where(abs(x - 0.5) < 1e-3, 0.6, x) for x in (there, back))
        cases.append(((there, back), array(answer(*tensors(there, back)), there.shape, "the answer")))

    def like(formula):
        return all(numpy.allclose(got, formula(*two), atol=1e-6) for two, got in cases)

    if like(lambda t, b: ((t > 0.5) * 1.0 + (b < 0.5)) / 2):
        return
    if like(lambda t, b: (t + 1 - b) / 2):
        raise Misconception("this is the average of two probabilities; a verdict is 1, 0 or ½", "soft labels")
    if like(lambda t, b: (t + 1 - b > 1) * 1.0):
        raise Misconception("where the two orders contradict each other, this still picks a winner", "never a tie")
    if like(lambda t, b: (t > 0.5) * 1.0):
        raise Misconception("this reads one order only; whatever stands first keeps its advantage", "one order")
    if like(lambda t, b: ((t > 0.5) * 1.0 + (b > 0.5)) / 2):
        raise Misconception("`back` is the probability of the answer that stands first, which is the *other* one there",
                            "the same answer first twice")
    if like(lambda t, b: ((t > 0.5) & (b < 0.5)) * 1.0):
        raise Misconception("a disagreement counts as a loss here; it is a tie", "a tie is a loss")
    raise Misconception("1 where both orders prefer our answer, 0 where both prefer the other, else ½: this differs",
                        "another verdict")


def crossing(answer, rng):
    """13.2: the money at which two kinds of labels have the same squared error."""
    cases = []
    for _ in range(24):
        bias, people, judge = rng.uniform(0.2, 3), rng.uniform(2, 5), rng.uniform(0.3, 1.5)
        prices = rng.uniform(0.5, 2), rng.uniform(0.05, 0.4)
        given = tuple(float(x) for x in (bias, people, judge, *prices))
        cases.append((given, number(answer(*given), "the answer")))

    def like(formula):
        return all(numpy.isclose(got, formula(*given), rtol=1e-5) for given, got in cases)

    if like(lambda b, s, t, p, q: (s**2 * p - t**2 * q) / b**2):
        return
    if like(lambda b, s, t, p, q: s**2 * p / b**2):
        raise Misconception("the judge has some noise as well, and pays for its labels", "the judge is free of noise")
    if like(lambda b, s, t, p, q: (s * p - t * q) / b) or like(lambda b, s, t, p, q: (s * p - t * q) / b**2):
        raise Misconception("errors add in squares: noise² and bias²", "noise for variance")
    if like(lambda b, s, t, p, q: (s**2 * p - t**2 * q) / b):
        raise Misconception("the bias enters squared", "bias without its square")
    if like(lambda b, s, t, p, q: (s**2 - t**2) / b**2):
        raise Misconception("this counts labels; money buys fewer labels of a dear kind", "labels are money")
    if like(lambda b, s, t, p, q: (s**2 * p + t**2 * q) / b**2):
        raise Misconception("the judge's noise delays nothing: it makes the judge worse, so people pass it earlier", "wrong side")
    raise Misconception("put N = money / price into both errors and set them equal; this is not the result", "another balance")


def four_judges(answer, rng):
    """13.3: the judge that prefers our answers most once both orders are averaged."""
    found = letter(answer, "A")
    if found == "B":
        return
    if found == "A":
        raise Misconception("it wins only while it is listed first; over both orders it has 52 %", "the first column")
    if found == "C":
        raise Misconception("56 % over both orders; another judge gives more", "a good middle")
    if found == "D":
        raise Misconception("it hardly reads the answers: 97 % when listed first and 9 % when second average to 53 %",
                            "the largest number")
    raise Misconception('return "A", "B", "C" or "D"', "no such judge")


CHECKS = {"13.1": both_orders, "13.2": crossing, "13.3": four_judges}
