"""Checks of chapter 12: IPO, a fading pull, a log; displaced mass, finite gaps, KTO's reference point, SimPO's margin."""

import math
from functools import partial

import numpy

from . import Misconception
from .answers import array, letter, like, number, sigmoid, tensors

_like = partial(like, atol=1e-9)


def others_gain(answer, rng):
    """12.4: what two answers lose all the others gain, in probability."""
    cases = []
    for k in range(24):
        rows = (1, 3, 6, 10)[k % 4]
        before, after = (rng.dirichlet((2.0, 1.5, 3.0), rows) for _ in range(2))
        four = numpy.log(before[:, 0]), numpy.log(before[:, 1]), numpy.log(after[:, 0]), numpy.log(after[:, 1])
        cases.append((four, array(answer(*tensors(*four)), (rows,), "the answer")))
    e = numpy.exp
    if _like(cases, lambda cb, rb, ca, ra: e(cb) + e(rb) - e(ca) - e(ra)):
        return
    if _like(cases, lambda cb, rb, ca, ra: e(ca) + e(ra) - e(cb) - e(rb)):
        raise Misconception("the sign is turned round: this is what the pair gained, the others have the rest",
                            "what the pair loses is lost")
    if _like(cases, lambda cb, rb, ca, ra: cb + rb - ca - ra) or _like(cases, lambda cb, rb, ca, ra: ca + ra - cb - rb):
        raise Misconception("nats were added and subtracted as if they were probabilities; exp first",
                            "log-probabilities sum to something")
    if _like(cases, lambda cb, rb, ca, ra: e(cb) - e(ca)):
        raise Misconception("only the chosen answer's loss is counted; the rejected one's went somewhere too",
                            "the rejected answer does not count")
    if _like(cases, lambda cb, rb, ca, ra: e(rb) - e(ra)):
        raise Misconception("only the rejected answer's loss is counted", "the chosen answer never loses")
    if _like(cases, lambda cb, rb, ca, ra: 1 - e(ca) - e(ra)):
        raise Misconception("this is what the others have *after* the run; they had something before it too",
                            "unseen answers start at zero")
    if _like(cases, lambda cb, rb, ca, ra: e(cb + rb) - e(ca + ra)):
        raise Misconception("adding logs multiplies probabilities; two answers to one prompt exclude each other, so "
                            "their probabilities add", "probabilities of two answers multiply")
    raise Misconception("before and after, all probabilities sum to one; this is not what is left over",
                        "another balance")


def cdpo_gap(answer, rng):
    """12.5: the gap at which smoothed DPO stops."""
    cases = []
    for _ in range(24):
        eps, beta = float(rng.uniform(0.01, 0.45)), float(rng.uniform(0.02, 0.8))
        cases.append(((eps, beta), number(answer(eps, beta), "the gap")))

    def logit(e):
        return math.log((1 - e) / e)

    if _like(cases, lambda e, b: logit(e) / b):
        return
    if _like(cases, lambda e, b: logit(e)):
        raise Misconception("this is beta times the gap; the gap itself is in nats, without beta",
                            "the margin is the gap")
    if _like(cases, lambda e, b: logit(e) * b):
        raise Misconception("multiplied by beta: a larger beta makes the same belief cost *less* gap",
                            "a larger beta asks for a larger gap")
    if _like(cases, lambda e, b: -logit(e) / b):
        raise Misconception("negative: with less than half of the labels wrong the chosen answer is still the better one",
                            "smoothing turns the preference round")
    if _like(cases, lambda e, b: 1 / (2 * b)):
        raise Misconception("that is IPO's target; cDPO's depends on eps", "cDPO stops where IPO stops")
    if _like(cases, lambda e, b: -math.log(e) / b):
        raise Misconception("log(1/eps) is only near it for tiny eps: the chosen side has weight 1 - eps, not 1",
                            "the weights of the two sides are 1 and eps")
    if _like(cases, lambda e, b: (1 - 2 * e) / b):
        raise Misconception("1 - 2 eps is the slope of a *linear* loss; sigma has to be undone",
                            "the loss is linear in the gap")
    raise Misconception("at the right gap the slope of (1 - eps) l(z) + eps l(-z) is zero; here it is not",
                        "another gap")


def reference_point(answer, rng):
    """12.6: mean of the mismatched entries, then the clamp."""
    cases = []
    for k in range(28):
        n = (2, 3, 4, 7)[k % 4]
        table = rng.normal((0.8, -0.8, 0.2)[k % 3], 1.0, (n, n)) + numpy.diag(rng.normal(1.5, 1.0, n))
        cases.append(((table,), number(answer(*tensors(table)), "the reference point")))

    def off(t):
        return t[~numpy.eye(len(t), dtype=bool)]

    if _like(cases, lambda t: max(0.0, off(t).mean())):
        return
    if _like(cases, lambda t: off(t).mean()):
        raise Misconception("the clamp is missing: it stands for a KL, which is never below zero",
                            "an estimate of a KL may be negative")
    if _like(cases, lambda t: numpy.maximum(off(t), 0).mean()):
        raise Misconception("clamped entry by entry: then noise alone makes it positive; clamp the mean",
                            "every entry is a KL")
    if _like(cases, lambda t: max(0.0, numpy.diag(t).mean())) or _like(
            cases, lambda t: numpy.maximum(numpy.diag(t), 0).mean()):
        raise Misconception("these are the matched pairs: rolling finished numbers moves them about and keeps their mean",
                            "rolling the batch makes mismatched pairs")
    if _like(cases, lambda t: max(0.0, t.mean())):
        raise Misconception("the matched pairs, on the diagonal, are in the mean too", "all entries are mismatched")
    if _like(cases, lambda t: max(0.0, off(t).sum() / len(t))) or _like(cases, lambda t: max(0.0, off(t).sum())):
        raise Misconception("a sum, or a sum divided by the rows: there are n (n - 1) mismatched entries",
                            "a sum for a mean")
    if _like(cases, lambda t: max(0.0, numpy.diag(numpy.roll(t, 1, axis=1)).mean())) or _like(
            cases, lambda t: max(0.0, numpy.diag(numpy.roll(t, -1, axis=1)).mean())):
        raise Misconception("one shifted diagonal is mismatched, and a fair estimate; here all mismatched entries are wanted",
                            "one mismatch a prompt is all there is")
    raise Misconception("this is not the clamped mean of the mismatched entries", "another reference point")


def simpo_rows(answer, rng):
    """12.7: averages from sums, gamma from its ratio."""
    cases = []
    for k in range(24):
        rows = (1, 2, 5, 8)[k % 4]
        lengths = rng.integers(2, 40, (2, rows)).astype(float)
        sums = -rng.uniform(0.2, 3.0, (2, rows)) * lengths
        beta, ratio = float(rng.uniform(1.2, 4.0)), float(rng.uniform(0.1, 1.5))
        arguments = (*sums, *lengths, beta, ratio)
        cases.append((arguments, array(answer(*tensors(*sums, *lengths), beta, ratio), (rows,), "the answer")))

    def loss(z):
        return numpy.logaddexp(0, -z)

    if _like(cases, lambda c, d, n, m, b, g: loss(b * (c / n - d / m) - b * g)):
        return
    if _like(cases, lambda c, d, n, m, b, g: loss(b * (c / n - d / m) - g)):
        raise Misconception("what was given is the ratio gamma / beta; gamma itself is beta times it",
                            "gamma is gamma / beta")
    if _like(cases, lambda c, d, n, m, b, g: loss(b * (c / n - d / m) - g / b)):
        raise Misconception("divided once more: the ratio times beta is gamma", "the target margin is scale-free")
    if _like(cases, lambda c, d, n, m, b, g: loss(b * (c / n - d / m) + b * g)):
        raise Misconception("the margin was added: it is asked of the model, so it makes the loss *larger*",
                            "a margin eases the task")
    if _like(cases, lambda c, d, n, m, b, g: loss(b * (c - d) - b * g)):
        raise Misconception("sums were compared: SimPO's point is the average a token", "sum for mean")
    if _like(cases, lambda c, d, n, m, b, g: loss(b * (c - d) / (n + m) - b * g)) or _like(
            cases, lambda c, d, n, m, b, g: loss(2 * b * (c - d) / (n + m) - b * g)):
        raise Misconception("both sums were divided by one common length; each answer has its own",
                            "one length for both answers")
    if _like(cases, lambda c, d, n, m, b, g: loss(b * (d / m - c / n) - b * g)):
        raise Misconception("chosen and rejected are swapped", "the pair upside down")
    if _like(cases, lambda c, d, n, m, b, g: -loss(b * (c / n - d / m) - b * g)):
        raise Misconception("log sigma without the minus: minimised, it prefers the rejected answer",
                            "a loss is a log-likelihood")
    raise Misconception("the rows are not -log sigma(beta (average difference) - gamma)", "another loss")


def ipo(answer, rng):
    """12.1: IPO, the mean of (h - 1 / (2 beta))^2."""
    cases = []
    for k in range(24):
        rows = (1, 2, 5, 9)[k % 4]
        four, beta = -rng.uniform(0.5, 20, (4, rows)), float(rng.uniform(0.05, 0.8))
        cases.append(((*four, beta), number(answer(*tensors(*four), beta), "the loss")))

    def h(pc, pr, rc, rr):
        return (pc - rc) - (pr - rr)

    if _like(cases, lambda pc, pr, rc, rr, b: ((h(pc, pr, rc, rr) - 1 / (2 * b)) ** 2).mean()):
        return
    if _like(cases, lambda pc, pr, rc, rr, b: ((b * h(pc, pr, rc, rr) - 1 / (2 * b)) ** 2).mean()):
        raise Misconception("the target is for h itself, in nats: leave beta out of h", "the target is for the margin")
    if _like(cases, lambda pc, pr, rc, rr, b: ((h(pc, pr, rc, rr) - 1 / b) ** 2).mean()):
        raise Misconception("the target is one over *two* beta", "the target is one over beta")
    if _like(cases, lambda pc, pr, rc, rr, b: ((h(pc, pr, rc, rr) - b / 2) ** 2).mean()):
        raise Misconception("the target is 1 / (2 beta), not beta / 2: a larger beta asks for a smaller gap",
                            "a larger beta asks for a larger gap")
    if _like(cases, lambda pc, pr, rc, rr, b: ((pc - pr - 1 / (2 * b)) ** 2).mean()):
        raise Misconception("the reference is missing: h is a difference of log-*ratios*", "IPO has no reference")
    if _like(cases, lambda pc, pr, rc, rr, b: (h(pc, pr, rc, rr) - 1 / (2 * b)).mean()):
        raise Misconception("the distance is squared: a gap that is too large costs as well", "a distance without a square")
    if _like(cases, lambda pc, pr, rc, rr, b: ((h(pc, pr, rc, rr) - 1 / (2 * b)) ** 2).sum()) and any(
            len(arguments[0]) > 1 for arguments, _ in cases):
        raise Misconception("a sum over the pairs; the mean is wanted", "a sum for a mean")
    if _like(cases, lambda pc, pr, rc, rr, b: -numpy.log(sigmoid(b * h(pc, pr, rc, rr))).mean()):
        raise Misconception("this is still DPO", "IPO is DPO")
    raise Misconception("the loss is not the mean over the pairs of (h - 1 / (2 beta))^2", "another target")


def letting_go(answer, rng):
    """12.2: the gap at which DPO's pull has fallen to a share of what it was at the start."""
    cases = []
    for _ in range(24):
        share, beta = float(rng.uniform(0.02, 0.95)), float(rng.uniform(0.02, 0.9))
        cases.append(((share, beta), number(answer(share, beta), "the gap")))

    def logit(s):
        return math.log(2 / s - 1)

    if _like(cases, lambda s, b: logit(s) / b):
        return
    if _like(cases, lambda s, b: math.log(1 / s - 1) / b):
        raise Misconception("at the start the weight is one half, not one: the share is of that half",
                            "the pull begins at one")
    if _like(cases, lambda s, b: logit(s)):
        raise Misconception("this is the margin; the gap h, in nats, is the margin divided by beta", "the margin is the gap")
    if _like(cases, lambda s, b: logit(s) * b):
        raise Misconception("multiplied by beta: with a larger beta a pair lets go *sooner*", "a larger beta pulls longer")
    if _like(cases, lambda s, b: -logit(s) / b):
        raise Misconception("the sign is turned round: the pull weakens where the gap is above 0",
                            "the pull grows with the gap")
    if _like(cases, lambda s, b: -math.log(s) / b):
        raise Misconception("the weight is a sigmoid, which falls like e^(-margin) only far out", "the weight is exponential")
    raise Misconception("at this gap sigma(-beta h) is not the share of one half", "another gap")


def which_run(answer, rng):
    """12.3: run B."""
    chosen = letter(answer, "A")
    if chosen == "B":
        return
    if chosen == "A":
        raise Misconception("A's margin is the largest, but its own answers are 31 nats from the start model, and it orders "
                            "the fewest new pairs", "the largest margin is the best run")
    if chosen == "C":
        raise Misconception("C's loss never left 0.693 although the model is 12 nats from its start: its reference is the "
                            "policy itself", "a flat loss is a calm run")
    if chosen == "D":
        raise Misconception("D's first loss is not 0.693: policy and reference differed before the first step",
                            "a first loss is noise")
    raise Misconception("give one of A, B, C, D", "no such option")


CHECKS = {"12.1": ipo, "12.2": letting_go, "12.3": which_run, "12.4": others_gain, "12.5": cdpo_gap, "12.6": reference_point,
          "12.7": simpo_rows}
