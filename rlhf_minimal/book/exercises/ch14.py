"""Checks of chapter 14: pass^k from counts, groups that teach nothing, a verifier without a hole."""

import math

import numpy

from . import Misconception
from .answers import number


def _cases(answer, draw, rng, n=24):
    """(arguments, the answer) of n random inputs."""
    found = [draw(rng) for _ in range(n)]
    return [(arguments, number(answer(*arguments), "the answer")) for arguments in found]


def _all(cases, formula):
    return all(numpy.isclose(got, float(formula(*arguments)), rtol=1e-5, atol=1e-7) for arguments, got in cases)


def _counts(rng):
    n = int(rng.integers(4, 20))
    k = int(rng.integers(2, n))
    c = int(rng.integers(k, n)) if rng.random() < 0.8 else int(rng.integers(0, k))
    return n, c, k


def all_right(answer, rng):
    """14.1: pass^k, the unbiased chance that k answers are all right."""
    cases = _cases(answer, _counts, rng)
    if _all(cases, lambda n, c, k: math.comb(c, k) / math.comb(n, k)):
        return
    if _all(cases, lambda n, c, k: 1 - math.comb(n - c, k) / math.comb(n, k)):
        raise Misconception("this is pass@k: at least one of the k is right", "one is enough")
    if _all(cases, lambda n, c, k: (c / n) ** k):
        raise Misconception("this draws the k answers with repetition; on average it is too high", "the plug-in")
    if _all(cases, lambda n, c, k: 1 - math.comb(c, k) / math.comb(n, k)):
        raise Misconception("this is the chance that at least one is wrong", "upside down")
    if _all(cases, lambda n, c, k: math.comb(n - c, k) / math.comb(n, k)):
        raise Misconception("this is the chance that all k are wrong", "all wrong")
    raise Misconception("sets of k right answers, divided by all sets of k answers, are not this", "another count")


def _group(rng):
    return float(rng.uniform(0.02, 0.98)), int(rng.integers(2, 17))


def silent(answer, rng):
    """14.2: the share of groups whose rewards are all equal."""
    cases = _cases(answer, _group, rng)
    if _all(cases, lambda p, g: p**g + (1 - p) ** g):
        return
    if _all(cases, lambda p, g: (1 - p) ** g):
        raise Misconception("a group of right answers only is silent as well", "only failure is silent")
    if _all(cases, lambda p, g: p**g):
        raise Misconception("a group of wrong answers only is silent as well", "only success is silent")
    if _all(cases, lambda p, g: 1 - p**g - (1 - p) ** g):
        raise Misconception("this is the share of groups that do teach something", "upside down")
    if _all(cases, lambda p, g: 1 - p * (1 - p)):
        raise Misconception("p(1 − p) is the size of the signal, not the chance that it is there", "size is chance")
    raise Misconception("all right, or all wrong: the two cases do not add up to this", "another share")


def _answer(rng):
    """(the right result, a text): right, wrong, with the right number as a step, as a part of a longer one, or nowhere."""
    a, b = (int(x) for x in rng.integers(10, 99, 2))
    c, other = a + b, int(rng.integers(10, 198))
    kind = int(rng.integers(6))
    last = f"The result is {c if kind == 0 else other if other != c else other + 1}."
    steps = f"{a % 10} + {b % 10} = {a % 10 + b % 10}. {a // 10} + {b // 10} = {a // 10 + b // 10}."
    text = {0: f"{steps} {last}", 1: f"{steps} {last}", 2: f"{steps} {c} would be nice. {last}", 3: f"The result is {c}7.",
            4: f"{steps} I do not know.", 5: f"The result is {c}. No. {last}"}[kind]
    return c, text


def exact_checker(answer, rng):
    """14.3: 1 where the last stated result is the right one."""
    def last(c, text):
        return text.split("result is ")[-1].split(".")[0] if "result is " in text else ""

    cases = _cases(answer, _answer, rng, n=60)
    if _all(cases, lambda c, t: last(c, t) == str(c)):
        return
    if _all(cases, lambda c, t: str(c) in t):
        raise Misconception("the right number may stand anywhere: in a step, in a guess, inside a longer number", "it is in there")
    if _all(cases, lambda c, t: last(c, t).startswith(str(c))):
        raise Misconception("2037 begins with 203 and is not 203; read the number to its end", "a good beginning")
    if _all(cases, lambda c, t: f"result is {c}." in t):
        raise Misconception("an answer may state a second result; then any of its guesses would count", "any guess counts")
    if _all(cases, lambda c, t: last(c, t) != str(c)):
        raise Misconception("right and wrong are exchanged", "upside down")
    if len({got for _, got in cases}) == 1:
        raise Misconception("every answer gets the same reward, so that nothing can be learned", "one reward for all")
    raise Misconception("the reward differs from 'the last stated result is the right one'", "another checker")


CHECKS = {"14.1": all_right, "14.2": silent, "14.3": exact_checker}
