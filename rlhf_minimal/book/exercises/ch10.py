"""Checks of chapter 10: best of n, who is lost, how many questions; the slack of the bound, heat, and a lever found."""

import itertools
import math

import numpy
import torch

from . import Misconception
from .answers import number

ALIKE = 1e-6


def _tensor(x):
    return torch.as_tensor(x, dtype=torch.float64)


def _matches(cases, rule, tolerance=ALIKE):
    """Does a rule explain every answer? cases: (arguments, answer)."""
    return all(abs(said - rule(*given)) <= tolerance * max(1.0, abs(rule(*given))) for given, said in cases)


def _race(R, k, order=None):
    """Flat positions of the k largest, ties by position."""
    return numpy.argsort(-R.flatten() if order is None else order, kind="stable")[:k]


def best_of(answer, rng):
    """10.1: the mean of the best over all sets of n of G scores."""
    cases = []
    for k in range(28):
        size = (3, 4, 5, 7)[k % 4]
        n = int(rng.integers(1, size + 1)) if k > 8 else 2
        scores = rng.normal(0, 2, size) if k % 3 else rng.integers(0, 3, size) / 1.0  # with ties, and not sorted
        cases.append(((scores, n), number(answer(_tensor(scores), n), "the mean of the best")))

    def over(scores, n, of):
        return float(numpy.mean([of(scores[list(some)]) for some in itertools.combinations(range(len(scores)), n)]))

    def ranked(scores, weight, rising=True):
        order = numpy.sort(scores) if rising else numpy.sort(scores)[::-1]
        return float(sum(weight(i, len(scores)) * s for i, s in enumerate(order)))

    if _matches(cases, lambda s, n: over(s, n, numpy.max)):
        return
    if _matches(cases, lambda s, n: s.max()):
        raise Misconception("this is the best of all G scores, whatever n is", "n does not matter")
    if _matches(cases, lambda s, n: s[:n].max()):
        raise Misconception("only the first n scores are used; every set of n is as good as that one", "the first n will do")
    if _matches(cases, lambda s, n: over(s, n, numpy.mean)) or _matches(cases, lambda s, n: s.mean()):
        raise Misconception("the mean of the scores comes out; of each set only the highest one counts", "the mean of the set")
    if _matches(cases, lambda s, n: over(s, n, numpy.min)) or _matches(cases, lambda s, n: ranked(
            s, lambda i, g: math.comb(i, n - 1) / math.comb(g, n), rising=False)):
        raise Misconception("the lowest score of each set counts, not the highest: sort from low to high",
                            "the order is upside down")
    if _matches(cases, lambda s, n: ranked(s, lambda i, g: ((i + 1) ** n - i**n) / g**n)):
        raise Misconception("this draws with replacement: a set of n answers never holds one answer twice", "with replacement")
    if _matches(cases, lambda s, n: ranked(s, lambda i, g: math.comb(i, n - 1) / math.comb(g, n)) / n):
        raise Misconception("divided by n once more; the weights add up to 1 already", "the mean over n")
    if _matches(cases, lambda s, n: ranked(s, lambda i, g: math.comb(i, n - 1))):
        raise Misconception("the sum over all sets: divide by how many there are", "a sum for a mean")
    if _matches(cases, lambda s, n: ranked(s, lambda i, g: math.comb(i, n) / math.comb(g, n))):
        raise Misconception("the highest answer is in the set itself: only n - 1 others are chosen from those below",
                            "n others from below")
    raise Misconception("the mean over all sets of n is another number", "another mean")


def prompts_lost(answer, rng):
    """10.2: how many prompts have no answer among the k best of all?"""
    cases = []
    for i in range(30):
        rows, width = int(rng.integers(3, 9)), int(rng.integers(2, 7))
        if rows == width:
            width += 1
        R = rng.integers(0, 12, (rows, width)) / 10 + rng.integers(0, 6, (rows, 1)) / 10  # ties on purpose
        k = rows if i % 2 else int(rng.integers(rows, rows * width // 2 + rows))
        k = min(k, rows * width - 1)
        cases.append(((R, k), number(answer(_tensor(R), k), "the number of prompts")))

    def lost(R, rows_of):
        return R.shape[0] - len(set(rows_of))

    def right(R, k):
        return lost(R, [p // R.shape[1] for p in _race(R, k)])

    if _matches(cases, right):
        return
    if _matches(cases, lambda R, k: 0):
        raise Misconception("zero comes out every time: with the race, a prompt can be left without any answer",
                            "the two selections differ only in size")
    if _matches(cases, lambda R, k: R.shape[0] - right(R, k)):
        raise Misconception("these are the prompts that are *kept*", "the complement")
    if _matches(cases, lambda R, k: lost(R, [p // R.shape[1] for p in _race(R, k, R.flatten())])):
        raise Misconception("the k smallest scores were kept: argsort rises", "a rising sort puts the best first")
    if _matches(cases, lambda R, k: lost(R, [p % R.shape[1] for p in _race(R, k)])):
        raise Misconception("position % N is the answer's column; the prompt is position // N", "columns taken for rows")
    if _matches(cases, lambda R, k: lost(R, [p // R.shape[0] for p in _race(R, k)])):
        raise Misconception("a row is N places long, not M: divide the flat position by the number of columns",
                            "the wrong width")
    raise Misconception("the count of prompts without any of the k best answers is another one", "another count")


def items_needed(answer, rng):
    """10.3: questions for each of two filters until their difference is z standard errors."""
    cases = []
    for _ in range(30):
        p1 = float(rng.uniform(0.3, 0.95))
        p2 = p1 - float(rng.uniform(0.01, 0.1))
        z = float(rng.choice([1.5, 2.0, 3.0]))
        cases.append(((p1, p2, z), number(answer(p1, p2, z), "the number of questions")))
    both = lambda p, q: p * (1 - p) + q * (1 - q)  # noqa: E731

    def is_(rule):  # rounding up is as good as not rounding
        return _matches(cases, rule, 1e-3) or all(said == math.ceil(rule(*given) - 1e-9) for given, said in cases)

    if is_(lambda p, q, z: z * z * both(p, q) / (p - q) ** 2):
        return
    if len({said for _, said in cases}) == 1:
        raise Misconception("one number for every case: how many it takes depends on the difference, squared",
                            "the higher mean works")
    if is_(lambda p, q, z: z * z * p * (1 - p) / (p - q) ** 2) or is_(lambda p, q, z: z * z * q * (1 - q) / (p - q) ** 2):
        raise Misconception("only one of the two rates has been given a variance", "the rival has no noise")
    if is_(lambda p, q, z: z * z * ((p * (1 - p)) ** 0.5 + (q * (1 - q)) ** 0.5) ** 2 / (p - q) ** 2):
        raise Misconception("standard errors were added; variances add, and the root comes after",
                            "standard errors add")
    if is_(lambda p, q, z: both(p, q) / (p - q) ** 2):
        raise Misconception("this is enough for one standard error; z asks for more", "one standard error is enough")
    if is_(lambda p, q, z: z * both(p, q) / (p - q) ** 2):
        raise Misconception("the standard error falls with the root of n, so n grows with z squared",
                            "twice as sure costs twice as much")
    if is_(lambda p, q, z: z * z * both(p, q) / (p - q)):
        raise Misconception("half the difference needs four times the questions, not twice", "n falls with the difference")
    raise Misconception("at this n the difference is not z standard errors", "another number of questions")


def _law(p, r, n):
    """Best-of-n, naively: share out every level of the score."""
    out = numpy.zeros_like(p)
    for level in set(r.tolist()):
        here = r == level
        most, less = p[r <= level].sum(), p[r < level].sum()
        out[here] = p[here] / p[here].sum() * (most**n - less**n)
    return out


def _kl(q, p):
    on = q > 0
    return float((q[on] * numpy.log(q[on] / p[on])).sum())


def _bound(n):
    return math.log(n) - (n - 1) / n


def slack(answer, rng):
    """10.4: the bound minus the exact KL of best-of-n."""
    cases = []
    for k in range(30):
        size = (3, 5, 8, 13)[k % 4]
        p = rng.dirichlet(numpy.ones(size))
        r = rng.integers(0, size // 2 + 2, size) / 1.0  # with ties
        p = (p + 0.01) / (p + 0.01).sum()
        n = int(rng.choice([2, 3, 4, 8, 16]))
        cases.append(((p, r, n), number(answer(_tensor(p), _tensor(r), n), "the slack")))
    if _matches(cases, lambda p, r, n: _bound(n) - _kl(_law(p, r, n), p)):
        return
    if _matches(cases, lambda p, r, n: 0):
        raise Misconception("zero every time: the formula is exact only if no answers ever tie or repeat",
                            "the formula is an equality")
    if _matches(cases, lambda p, r, n: _kl(_law(p, r, n), p) - _bound(n)):
        raise Misconception("negative: the bound is the larger one, so bound minus KL", "the bound is below")
    if _matches(cases, lambda p, r, n: math.log(n) - _kl(_law(p, r, n), p)):
        raise Misconception("the bound is log n minus (n - 1) / n; the second part is missing", "best-of-n costs log n")
    if _matches(cases, lambda p, r, n: _bound(n) - _kl(p, _law(p, r, n)), 1e-5):
        raise Misconception("this is KL(policy || best-of-n); the cost is averaged over what best-of-n hands out",
                            "KL is a distance")
    if _matches(cases, lambda p, r, n: _bound(n) - _kl(_law(p, r, n), p) / math.log(2)):
        raise Misconception("the KL is in bits and the bound in nats", "bits for nats")
    if _matches(cases, lambda p, r, n: _kl(_law(p, r, n), p)):
        raise Misconception("this is the KL itself; what was asked is how far the bound lies above it",
                            "the KL is the answer")
    raise Misconception("bound and exact KL do not differ by this number", "another difference")


def _heated(logp, t):
    z = logp / t
    z = numpy.exp(z - z.max())
    return z / z.sum()


def best_heat(answer, rng):
    """10.5: the temperature at which best-of-n has the highest expected reward."""
    cases = []
    heats = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0]
    while len(cases) < 40:
        size, n = int(rng.integers(4, 9)), int(rng.choice([2, 4, 8]))
        logp = rng.normal(0, 2, size)
        logp = logp - numpy.log(numpy.exp(logp).sum())
        r = rng.normal(0, 1, size) + 0.5 * logp  # likely answers are better on the whole, not always
        worth = [float(_law(_heated(logp, t), r, n) @ r) for t in heats]
        two = sorted(worth)[-2:]
        # half of the cases have their optimum inside, so that neither end is a good guess
        if two[1] - two[0] < 1e-3 or (len(cases) % 2 and heats[int(numpy.argmax(worth))] in (0.25, 3.0)):
            continue
        cases.append(((logp, r, n), number(answer(_tensor(logp), _tensor(r), n, list(heats)), "the temperature")))

    def best(value):
        return heats[int(numpy.argmax([value(t) for t in heats]))]

    if _matches(cases, lambda logp, r, n: best(lambda t: _law(_heated(logp, t), r, n) @ r)):
        return
    if any(said not in heats for _, said in cases):
        raise Misconception("the answer is not one of the temperatures that were offered", "the wrong kind of answer")
    if _matches(cases, lambda logp, r, n: heats[-1]):
        raise Misconception("the hottest wins every time; heat also makes bad answers likely, and n is finite",
                            "hotter is always better")
    if _matches(cases, lambda logp, r, n: heats[0]):
        raise Misconception("the coldest wins every time; n equal answers leave nothing to choose from",
                            "colder is always better")
    if _matches(cases, lambda logp, r, n: best(lambda t: _heated(logp, t) @ r)):
        raise Misconception("this is the best temperature for a single answer; with a choice among n it pays to vary more",
                            "n does not matter")
    if _matches(cases, lambda logp, r, n: best(lambda t: _law(_heated(logp, 1 / t), r, n) @ r)):
        raise Misconception("log-probabilities are *divided* by the temperature", "temperature multiplies")
    raise Misconception("at another temperature the kept answer is worth more", "another temperature")


def drift(answer, rng):
    """10.6: how many standard errors does a selection shift a feature, within prompts?"""
    cases = []
    for _ in range(30):
        prompts, size = int(rng.integers(5, 20)), int(rng.integers(2, 7))
        feature = rng.normal(0, 1, (prompts, size)) + rng.normal(0, 2, (prompts, 1)) + 5
        score = 0.5 * rng.normal() * feature + rng.normal(0, 1, (prompts, size))
        cases.append(((score, feature), number(answer(_tensor(score.flatten()), _tensor(feature.flatten()), size),
                                                "the drift")))

    def shift(score, feature):
        return feature[numpy.arange(len(score)), score.argmax(1)] - feature.mean(1)

    def z(d):
        return d.mean() / (d.std(ddof=1) / len(d) ** 0.5)

    if _matches(cases, lambda s, f: z(shift(s, f))):
        return
    if _matches(cases, lambda s, f: 0):
        raise Misconception("zero every time: whatever the score loves is selected, intended or not",
                            "filtering cannot be hacked")
    if _matches(cases, lambda s, f: shift(s, f).mean()):
        raise Misconception("this is the shift itself; without its standard error nobody can say whether it is noise",
                            "a difference needs no interval")
    if _matches(cases, lambda s, f: shift(s, f).mean() / shift(s, f).std(ddof=1)):
        raise Misconception("divided by the spread of one prompt's shift; the mean over M prompts is root M times surer",
                            "a standard deviation is a standard error")
    if _matches(cases, lambda s, f: -z(shift(s, f))):
        raise Misconception("the sign is turned round: kept minus average", "the shift upside down")
    if _matches(cases, lambda s, f: z(f.max(1) - f.mean(1))):
        raise Misconception("the largest feature of each prompt was taken; the *score* selects",
                            "the feature selects")
    if _matches(cases, lambda s, f: z(f[numpy.arange(len(s)), s.argmax(1)] - f.mean())):
        raise Misconception("compared with the mean of the whole batch: prompts that differ anyway blur the shift",
                            "the control is not matched")
    if _matches(cases, lambda s, f: z(shift(s, f)) * (len(s) / (len(s) - 1)) ** 0.5):
        raise Misconception("the variance divides by M; from M prompts it divides by M - 1", "the biased variance")
    raise Misconception("the mean within-prompt shift over its standard error is another number", "another statistic")


CHECKS = {"10.1": best_of, "10.2": prompts_lost, "10.3": items_needed, "10.4": slack, "10.5": best_heat, "10.6": drift}
