"""Checks of chapter 17: which checkpoint to ship, what a promise is worth, what to report, whom to believe, where a law peaks."""

import math

import numpy
import torch

from . import Misconception
from .answers import array, like, number


class Asked:
    """Gold labels of a simulated run's checkpoints, sold one by one."""

    def __init__(self, gold, rng, most=100):
        self.gold, self.rng, self.left, self.steps = gold, rng, most, []

    def __call__(self, step, n):
        """n labels of one checkpoint, as a list."""
        step, n = int(step), int(n)
        if not 0 <= step < len(self.gold):
            raise Misconception(f"checkpoint {step} does not exist; they are 0 to {len(self.gold) - 1}", "no such checkpoint")
        self.left -= n
        if self.left < 0:
            raise Misconception("more than 100 gold labels were asked for", "labels are free")
        self.steps.append(step)
        return (self.gold[step] + self.rng.normal(0, 1, n)).tolist()


def a_run(rng):
    """A simulated run -> proxy, KL and gold of every checkpoint; gold turns somewhere between a fifth and four fifths."""
    n = int(rng.integers(40, 80))
    distance = numpy.linspace(0, 1, n) ** rng.uniform(0.5, 2.5)
    peak, height = rng.uniform(0.2, 0.8), rng.uniform(1, 3)
    proxy = 3 * distance + rng.normal(0, 0.05, n)
    return proxy, (rng.uniform(1, 5) * distance) ** 2, height * distance / peak * (2 - distance / peak)


def keep(answer, rng):
    """17.1: which checkpoint to ship, by proxy, KL and at most 100 gold labels."""
    kept, lost = [], []
    for _ in range(30):
        proxy, kl, gold = a_run(rng)
        ask = Asked(gold, rng)
        step = number(answer(proxy.tolist(), kl.tolist(), ask), "the checkpoint")
        if step != int(step) or not 0 <= step < len(gold):
            raise Misconception(f"{step} is no checkpoint; they are 0 to {len(gold) - 1}", "no such checkpoint")
        kept.append((int(step), proxy, kl, ask))
        lost.append((gold.max() - gold[int(step)]) / gold.max())
    if all(step == int(numpy.argmax(proxy)) for step, proxy, *_ in kept):
        raise Misconception("this follows the proxy that was optimised; it climbs to the end", "stop when the proxy stops")
    if all(step == len(proxy) - 1 for step, proxy, *_ in kept):
        raise Misconception("this is the last checkpoint: the run is never stopped", "more training is better")
    if all(step == 0 for step, *_ in kept):
        raise Misconception("this ships the start: the first part of the way was worth walking", "any optimisation is harmful")
    if not any(ask.steps for *_, ask in kept):
        raise Misconception("no label was bought: proxy and KL say how far you are, not where the truth turned",
                            "the distance knows the peak")
    if all(len(set(ask.steps)) == 1 for *_, ask in kept):
        raise Misconception("all labels went to one checkpoint: there is nothing to compare it with", "one look is enough")
    if numpy.mean(lost) > 0.15:
        raise Misconception(f"on average {100 * numpy.mean(lost):.0f} % of the best gain is lost: spread the looks over the whole "
                            "way, evenly in the root of the KL, with enough labels at each", "the labels were spread badly")


def expected_truth(answer, rng):
    """17.2: the expected truth of an answer whose proxy is r, with any mean and any two spreads."""
    cases = []
    for _ in range(24):
        arguments = rng.normal(0, 3), rng.normal(0, 2), rng.uniform(0.3, 3), rng.uniform(0.3, 3)  # r, mean, spread, noise
        cases.append((arguments, number(answer(*map(float, arguments)), "the answer")))

    def is_(formula):
        return like(cases, formula)

    if is_(lambda r, m, t, s: m + (r - m) * t**2 / (t**2 + s**2)):
        return
    if is_(lambda r, m, t, s: r):
        raise Misconception("the proxy is taken at its word; what stands out has had luck too",
                            "the best proxy is the best text")
    if is_(lambda r, m, t, s: r * t**2 / (t**2 + s**2)):
        raise Misconception("it shrinks towards zero; what we know of an answer before we look is the mean",
                            "everything shrinks towards zero")
    if is_(lambda r, m, t, s: m + (r - m) * t / (t + s)):
        raise Misconception("independent errors add their variances, not their spreads", "spreads add up")
    if is_(lambda r, m, t, s: m + (r - m) * s**2 / (t**2 + s**2)):
        raise Misconception("upside down: more noise must mean more shrinking", "noise makes a promise credible")
    if is_(lambda r, m, t, s: m + (r - m) / (1 + s**2)):
        raise Misconception("this holds for gold of unit variance; here gold has a spread of its own",
                            "gold always has unit variance")
    if is_(lambda r, m, t, s: m):
        raise Misconception("the mean alone: a noisy proxy still says something", "a noisy proxy says nothing")
    raise Misconception("this is not the conditional mean of gold given the proxy", "another expectation")


def rl_peak(answer, rng):
    """17.4: KL and gain at the peak of d (alpha - beta log d), d the root of the KL."""
    cases = []
    for _ in range(24):
        beta = float(rng.uniform(0.2, 1.5))
        alpha = beta * float(rng.uniform(0.3, 2.0))
        cases.append(((alpha, beta), array(answer(alpha, beta), (2,), "the answer")))

    def is_(formula):
        return like(cases, formula)

    def top(a, b):
        return math.exp(a / b - 1)

    if is_(lambda a, b: (top(a, b) ** 2, b * top(a, b))):
        return
    if is_(lambda a, b: (top(a, b), b * top(a, b))):
        raise Misconception("this is d, the root; the question is at how many nats", "d is the KL")
    if is_(lambda a, b: (b * top(a, b), top(a, b) ** 2)):
        raise Misconception("the two numbers are swapped: first the KL, then the gain", "the order of the answer")
    if is_(lambda a, b: ((a / (2 * b)) ** 2, a**2 / (4 * b))):
        raise Misconception("this is the peak of the law for best-of-n", "one law fits every optimiser")
    if is_(lambda a, b: (math.exp(a / b) ** 2, 0.0)):
        raise Misconception("there the gain is back at zero: the peak comes earlier, where the slope is zero",
                            "the peak is where the gain is lost")
    if is_(lambda a, b: (top(a, b) ** 2, a * top(a, b))):
        raise Misconception("the gain left out what the logarithm takes away", "at the peak nothing is lost yet")
    raise Misconception("the slope of d (alpha - beta log d) is not zero there", "the slope is zero elsewhere")


def _stop(second, patience):
    best = 0
    for i in range(len(second)):
        if second[i] > second[best]:
            best = i
        elif i - best >= patience:
            break
    return best


def stop_step(answer, rng):
    """17.5: which checkpoint to keep, given the optimised proxy, a second judge and a patience."""
    cases = []
    for k in range(30):
        n, patience = int(rng.integers(14, 40)), int(rng.integers(2, 5))
        peak = int(rng.integers(3, n - patience - 5))
        first = numpy.linspace(0, 3, n) + rng.normal(0, 0.01, n)
        first[-2] += 0.3 * (k % 2)  # even the proxy may be noisy at the end
        second = -0.3 * numpy.abs(numpy.arange(n) - peak) + rng.normal(0, 0.02, n)
        second[peak - 1] = second[peak - 2] - 0.1  # a dip on the way up
        if k % 3 == 0:
            second[-1] = 4.0  # long after the alarm, the judge is fooled as well
        got = number(answer(first.tolist(), second.tolist(), patience), "the step")
        cases.append(((first, second, patience), got))

    def is_(rule):
        return all(got == rule(*arguments) for arguments, got in cases)

    def alarm(first, second, patience):
        best = _stop(second, patience)
        return min(best + patience, len(second) - 1)

    def dip(first, second, patience):
        return _stop(second, 1)

    if is_(lambda f, s, p: _stop(s, p)):
        return
    if is_(lambda f, s, p: int(numpy.argmax(f))):
        raise Misconception("this follows the proxy that was optimised; it climbs to the end", "stop when the proxy stops")
    if is_(lambda f, s, p: int(numpy.argmax(s))):
        raise Misconception("this looks at the whole curve: a run that was stopped has no later steps",
                            "the future is known")
    if is_(alarm):
        raise Misconception("this is the step of the alarm; keep the checkpoint at which the judge was happiest",
                            "the alarm is the best step")
    if is_(dip):
        raise Misconception("the first dip stops it: patience is not used", "every dip is a turn")
    if is_(lambda f, s, p: len(s) - 1):
        raise Misconception("this is the last step: the run is never stopped", "more training is better")
    raise Misconception("another checkpoint is kept than the best one seen before patience ran out", "another rule")


def pessimist(answer, rng):
    """17.6: the minimum of several judges, each on a level of its own."""
    cases = []
    for _ in range(24):
        m, b = int(rng.integers(2, 6)), int(rng.integers(3, 12))
        scores = rng.normal(0, 1, (m, b)) + rng.normal(0, 5, (m, 1))
        got = array(answer(torch.as_tensor(scores)), (b,), "the answer")
        cases.append(((scores,), got))

    def centred(s):
        return s - s.mean(1, keepdims=True)

    def is_(formula):
        return like(cases, formula)

    if is_(lambda s: centred(s).min(0)):
        return
    if is_(lambda s: s.min(0)):
        raise Misconception("the judge with the lowest level decides alone: comparisons fix no zero, so centre each judge's "
                            "scores first", "all judges share a zero")
    if is_(lambda s: centred(s).mean(0)) or is_(lambda s: s.mean(0)):
        raise Misconception("the mean lets one enthusiastic judge outvote the others' doubts", "the mean is pessimistic")
    if is_(lambda s: centred(s).max(0)) or is_(lambda s: s.max(0)):
        raise Misconception("the maximum believes whoever is fooled most", "the optimist")
    if is_(lambda s: (s - s.mean(0)).min(0)):
        raise Misconception("this centres each answer over the judges; what has no meaning is each *judge's* level",
                            "centring over the judges")
    raise Misconception("this is not the least that any centred judge gives", "another combination")


def honest_report(answer, rng):
    """17.3: choose a checkpoint and report its gold without counting the luck of the choice."""
    cases = []
    for k in range(24):
        n, steps = 2 * int(rng.integers(3, 12)), int(rng.integers(3, 9))
        table = rng.normal(0, 1, (n, steps)) + 0.3 * rng.normal(0, 1, steps)
        table[: n // 2, k % steps] += 0.4 * (k % 2)
        cases.append(((table,), number(answer(torch.as_tensor(table)), "the report")))

    def halves(t):
        n = len(t) // 2
        return t[:n].mean(0), t[n:].mean(0)

    def crossed(t):
        a, b = halves(t)
        return (b[a.argmax()] + a[b.argmax()]) / 2

    def is_(formula):
        return like(cases, formula)

    if is_(crossed):
        return
    if is_(lambda t: t.mean(0).max()):
        raise Misconception("chosen and reported on the same labels: the luck of the choice is in the number",
                            "the best number seen is the result")
    if is_(lambda t: sum(x.max() for x in halves(t)) / 2):
        raise Misconception("each half chooses for itself and is then asked again; the halves must swap",
                            "halves without crossing")
    if is_(lambda t: t.max(1).mean()):
        raise Misconception("a checkpoint for every prompt: you can ship only one", "one checkpoint for each prompt")
    if is_(lambda t: t.mean()):
        raise Misconception("the mean over all checkpoints: nothing was chosen", "the average checkpoint")
    if is_(lambda t: halves(t)[1][halves(t)[0].argmax()]):
        raise Misconception("honest, but half of the labels have not been used to report: swap and average",
                            "one half is enough")
    raise Misconception("this is not the crossed estimate", "another report")


CHECKS = {"17.1": keep, "17.2": expected_truth, "17.3": honest_report, "17.4": rl_peak, "17.5": stop_step, "17.6": pessimist}
