"""Checks of chapter 14: pass^k from counts, luck in pass@k, a checker whose hole is closed."""

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


def _two_ways(rng):
    w, luck = (float(x) for x in rng.uniform(0.01, 0.3, 2))
    return w, luck, int(rng.integers(2, 33))


def only_luck(answer, rng):
    """14.2: the chance that k answers hold a right one, but none with working."""
    cases = _cases(answer, _two_ways, rng)
    if _all(cases, lambda w, luck, k: (1 - w) ** k - (1 - w - luck) ** k):
        return
    if _all(cases, lambda w, luck, k: 1 - (1 - luck) ** k):
        raise Misconception("this counts every sum with a lucky answer, also those that working solves too", "any luck")
    if _all(cases, lambda w, luck, k: 1 - (1 - w - luck) ** k):
        raise Misconception("this is pass@k: right in either way", "all of pass@k")
    if _all(cases, lambda w, luck, k: 1 - (1 - w) ** k):
        raise Misconception("this is what working solves", "the other part")
    if _all(cases, lambda w, luck, k: (1 - w) ** k * (1 - (1 - luck) ** k)):
        raise Misconception("an answer is either worked or lucky: where none is worked, luck has the share l / (1 − w)",
                            "as if independent")
    if _all(cases, lambda w, luck, k: (1 - w - luck) ** k - (1 - w) ** k):
        raise Misconception("this is below zero: the two are exchanged", "upside down")
    if _all(cases, lambda w, luck, k: luck):
        raise Misconception("this is for one answer; k answers are drawn", "one answer")
    raise Misconception("no worked answer, minus no right answer at all, is not this", "another share")


def _written(rng):
    """(for each written addition whether it holds, whether a result is stated)."""
    share = float(rng.choice([0.5, 0.9, 1.0]))
    return [bool(x) for x in rng.random(int(rng.integers(0, 5))) < share], bool(rng.random() < 0.75)


def repaired_checker(answer, rng):
    """14.3: 1 where a result is stated, at least two additions are written, and all of them hold."""
    cases = _cases(answer, _written, rng, n=80)
    if _all(cases, lambda steps, stated: stated and len(steps) >= 2 and all(steps)):
        return
    if _all(cases, lambda steps, stated: stated and all(steps)):
        raise Misconception("an answer without any addition is still paid: all([]) is True", "the hole is open")
    if _all(cases, lambda steps, stated: stated and bool(steps) and all(steps)):
        raise Misconception("one easy addition is enough for this one; a column each makes at least two", "one step will do")
    if _all(cases, lambda steps, stated: len(steps) >= 2 and all(steps)):
        raise Misconception("an answer that never states its result is paid", "working without a result")
    if _all(cases, lambda steps, stated: stated and len(steps) >= 2):
        raise Misconception("additions are counted and not checked", "counted only")
    if _all(cases, lambda steps, stated: stated and len(steps) >= 2 and any(steps)):
        raise Misconception("one right addition among wrong ones is enough; all of them must hold", "any for all")
    if _all(cases, lambda steps, stated: stated and sum(steps) >= 2):
        raise Misconception("two right additions pay for any number of wrong ones", "two out of many")
    if _all(cases, lambda steps, stated: not (stated and len(steps) >= 2 and all(steps))):
        raise Misconception("paid and unpaid are exchanged", "upside down")
    if len({got for _, got in cases}) == 1:
        raise Misconception("every answer gets the same reward, so that nothing can be learned", "one reward for all")
    raise Misconception("the reward differs from 'a result, at least two additions, and all of them hold'", "another checker")


CHECKS = {"14.1": all_right, "14.2": only_luck, "14.3": repaired_checker}
