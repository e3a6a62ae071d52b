"""Checks of chapter 2: a careless rater's choice, a scale for each rater, and a ranking scored whole."""

import math

import numpy
import torch

from . import Misconception
from .answers import array, like, number, sigmoid


def careless_choice(answer, rng):
    """2.1: the probability that the first of two segments is chosen, by a rater who sometimes tosses a coin."""
    cases = []
    for _ in range(24):
        steps, careless = int(rng.integers(2, 9)), float(rng.uniform(0.05, 0.6))
        first, second = rng.normal(0, 0.6, steps), rng.normal(0, 0.6, steps)
        got = number(answer(torch.as_tensor(first), torch.as_tensor(second), careless), "the probability")
        cases.append(((first, second, careless), got))

    def is_(formula):
        return like(cases, formula)

    def p(a, b):
        return sigmoid(a.sum() - b.sum())

    if is_(lambda a, b, c: (1 - c) * p(a, b) + c / 2):
        return
    if is_(lambda a, b, c: p(a, b)):
        raise Misconception("the careless share is not used: an answer at random would count as strong evidence",
                            "raters always look")
    if is_(lambda a, b, c: (1 - c) * p(a, b)):
        raise Misconception("the coin shows heads half of the time; that half is missing, and the two sides do not add to 1",
                            "a careless rater chooses nothing")
    if is_(lambda a, b, c: (1 - c) * p(a, b) + c):
        raise Misconception("the coin is fair: only half of the careless answers choose the first segment",
                            "a careless rater always takes the first")
    if is_(lambda a, b, c: (1 - c) * p(a, b) + c * (1 - p(a, b))):
        raise Misconception("this rater answers the opposite; a careless one answers without looking", "careless is contrary")
    if is_(lambda a, b, c: (1 - c) * sigmoid(a.mean() - b.mean()) + c / 2):
        raise Misconception("rewards are added up over the steps, not averaged", "the mean reward decides")
    if is_(lambda a, b, c: (1 - c) * sigmoid(a[-1] - b[-1]) + c / 2):
        raise Misconception("only the last step is used; the whole segment was watched", "only the end counts")
    if is_(lambda a, b, c: (1 - c) * p(b, a) + c / 2):
        raise Misconception("this is the probability of the second segment: the sign is flipped", "the order does not matter")
    raise Misconception("this is not the mixture of a choice by reward and a fair coin", "another probability")


def own_scale(answer, rng):
    """2.2: ratings on each rater's own scale."""
    cases = []
    for _ in range(24):
        raters, each = int(rng.integers(2, 6)), int(rng.integers(3, 8))
        who = numpy.repeat(numpy.arange(raters), each)
        rng.shuffle(who)
        rating = (rng.normal(0, 4, raters)[who] + rng.uniform(0.3, 3, raters)[who] * rng.normal(0, 1, len(who)))
        got = array(answer(torch.as_tensor(rating), torch.as_tensor(who)), (len(who),), "the answer")
        cases.append(((rating, who), got))

    def each_rater(rating, who, change):
        out = numpy.zeros_like(rating)
        for k in set(who.tolist()):
            out[who == k] = change(rating[who == k])
        return out

    def is_(change):
        return any(like(cases, lambda r, w, d=d: each_rater(r, w, lambda x: change(x, d))) for d in (0, 1))

    if is_(lambda x, ddof: (x - x.mean()) / x.std(ddof=ddof)):
        return
    if is_(lambda x, ddof: x):
        raise Misconception("these are the ratings as they came", "everybody means the same by a 7")
    if is_(lambda x, ddof: x - x.mean()):
        raise Misconception("the levels are equal now, but one rater's point is still worth more than another's",
                            "raters differ in level only")
    if is_(lambda x, ddof: x / x.std(ddof=ddof)):
        raise Misconception("the units are equal now, but friendly raters still rate everything higher",
                            "raters differ in unit only")
    if any(like(cases, lambda r, w, d=d: (r - r.mean()) / r.std(ddof=d)) for d in (0, 1)):
        raise Misconception("one mean and one standard deviation for all raters changes no order; each needs its own",
                            "one scale for all")
    raise Misconception("some rater's ratings do not have mean 0 and standard deviation 1", "another scale")


def whole_ranking(answer, rng):
    """2.3: the loss of a whole ranking (Plackett-Luce) of K answers with equal scores, log K!."""
    cases = [((k,), number(answer(k), "the loss")) for k in rng.permutation(range(2, 10)).tolist()]

    def is_(formula):
        return like(cases, formula)

    if is_(lambda k: math.lgamma(k + 1)):
        return
    if is_(lambda k: -math.lgamma(k + 1)):
        raise Misconception("this is the log-probability; a loss is minus that", "the loss is the log-probability")
    if is_(lambda k: math.log(2)):
        raise Misconception("this is the mean over pairs, InstructGPT's loss; here the ranking is scored whole",
                            "a ranking is a mean of pairs")
    if is_(lambda k: math.log(k)):
        raise Misconception("this is the first choice alone, the best of K; the rest is ranked, too", "only the best counts")
    if is_(lambda k: k * math.log(k)):
        raise Misconception("an answer that was picked is no option any more: the second choice has K − 1",
                            "every choice has K options")
    if is_(lambda k: k * (k - 1) / 2 * math.log(2)):
        raise Misconception("this is the sum over all pairs, as if each had been asked alone", "a ranking is a sum of pairs")
    if is_(lambda k: math.factorial(k)):
        raise Misconception("this is the number of orders; the loss is its logarithm", "the number of orders")
    raise Misconception("this is not minus the log of 1/K · 1/(K − 1) · … · 1", "another loss")


CHECKS = {"2.1": careless_choice, "2.2": own_scale, "2.3": whole_ranking}
