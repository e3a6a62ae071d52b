"""Checks of chapter 8: a KL term for a loss, moving beta, negative KLs; deeper: noise of the estimators, F.kl_div."""

import numpy
import torch

from . import Misconception
from .answers import tensors

SIZES = (2, 3, 5, 9, 17)


def _distributions(rng, n, scale=1.0):
    """Two different distributions over n answers as logs, float64 arrays."""
    out = []
    for _ in range(2):
        logits = rng.normal(0, scale, n)
        out.append(logits - numpy.log(numpy.exp(logits).sum()))
    return out


def _numbers(x, n, what):
    """The answer as n finite floats, or a Misconception."""
    try:
        values = [float(v) for v in x] if n > 1 else float(x)
        x = numpy.asarray(values)
    except (TypeError, ValueError):
        raise Misconception(f"{what} is a {type(x).__name__}, expected {'one number' if n == 1 else f'{n} numbers'}",
                            "the wrong kind of answer") from None
    if x.shape not in ((n,), () if n == 1 else (n,)):
        raise Misconception(f"{what} has shape {x.shape}, expected {'one number' if n == 1 else f'{n} numbers'}",
                            "the wrong kind of answer")
    return x.reshape(-1)


def _variance(p, x):
    return float(p @ x**2 - (p @ x) ** 2)


def samples_needed(answer, rng):
    """8.4: how many samples until the standard error of k1, and of k3, is a given width?"""
    cases = []
    for k in range(30):
        logp, logq = _distributions(rng, SIZES[k % len(SIZES)], 0.5 + 0.5 * (k % 4))
        width = float(rng.uniform(0.01, 0.3))
        cases.append((logp, logq, width, _numbers(answer(*tensors(logp, logq), width), 2, "the answer")))

    def is_(rule):
        return all(numpy.allclose(got, rule(p, q, w), rtol=1e-6, atol=1e-9) for p, q, w, got in cases)

    def k13(p, q):
        d = p - q
        return d, numpy.exp(-d) - 1 + d

    def right(p, q, w):
        return [_variance(numpy.exp(p), x) / w**2 for x in k13(p, q)]

    if is_(right):
        return
    if is_(lambda p, q, w: [right(p, q, w)[0], min(right(p, q, w))]) or is_(
            lambda p, q, w: [max(right(p, q, w)), min(right(p, q, w))]):
        raise Misconception("k3 is never the noisier one here; but where the policy has left answers that the reference "
                            "likes, exp(-l) explodes and k3 needs more samples than k1", "k3 is always better")
    if is_(lambda p, q, w: right(p, q, w)[::-1]):
        raise Misconception("the two numbers are swapped: first k1, then k3", "the wrong order")
    if is_(lambda p, q, w: [_variance(numpy.exp(q), x) / w**2 for x in k13(p, q)]):
        raise Misconception("the average runs over the reference's answers; the policy draws the samples",
                            "the samples come from the reference")
    if is_(lambda p, q, w: [numpy.exp(p) @ x**2 / w**2 for x in k13(p, q)]):
        raise Misconception("that is the mean of the square; a variance also takes off the square of the mean",
                            "a second moment is a variance")
    if is_(lambda p, q, w: [_variance(numpy.exp(p), x) ** 0.5 / w for x in k13(p, q)]):
        raise Misconception("a standard error is sd / sqrt(n), so halving it takes four times the samples",
                            "the error falls like one over n")
    if is_(lambda p, q, w: [_variance(numpy.exp(p), x) / w**2 for x in (k13(p, q)[0], k13(q, p)[1])]):
        raise Misconception("k3 is computed from the log-ratio upside down: for samples of the policy it is "
                            "exp(-l) - 1 + l with l = log policy - log reference", "k3 upside down")
    if is_(lambda p, q, w: [numpy.var(x) / w**2 for x in k13(p, q)]) or is_(
            lambda p, q, w: [numpy.var(x, ddof=1) / w**2 for x in k13(p, q)]):
        raise Misconception("every answer counts the same here; weigh each one with the policy's probability",
                            "all answers are equally likely")
    raise Misconception("these are not the variances of k1 and k3 under the policy, over the width squared",
                        "another noise was computed")


def translate_beta(answer, rng):
    """8.2: a beta of a whitened, token-mean code base, in one that sums and does not whiten."""
    cases = []
    for _ in range(24):
        beta, length, sd = float(rng.uniform(0.01, 1)), int(rng.integers(2, 300)), float(rng.uniform(0.2, 5))
        cases.append((beta, length, sd, _numbers(answer(beta, length, sd), 1, "beta")[0]))

    def is_(rule):
        return all(abs(got - rule(b, n, s)) <= 1e-9 * abs(rule(b, n, s)) for b, n, s, got in cases)

    if is_(lambda b, n, s: b * s / n):
        return
    if is_(lambda b, n, s: b):
        raise Misconception("the same number means another leash: a sum over the text is `length` times a mean, and a "
                            "score in raw units is `sd` times a whitened one", "beta transfers")
    if is_(lambda b, n, s: b / n):
        raise Misconception("beta is a price in units of *reward*; one code base divides the score by its standard "
                            "deviation first", "the scale of the reward does not matter")
    if is_(lambda b, n, s: b * s):
        raise Misconception("the scale of the reward is right; a summed log-ratio is `length` times the mean",
                            "sum and mean are the same")
    if is_(lambda b, n, s: b * n * s) or is_(lambda b, n, s: b * n):
        raise Misconception("the sum is larger than the mean, so its price per nat must be smaller",
                            "multiplied by the length")
    if is_(lambda b, n, s: b / (n * s)) or is_(lambda b, n, s: b / s):
        raise Misconception("a score in raw units is sd times as large as a whitened one, so the price rises with sd",
                            "the reward's scale upside down")
    raise Misconception("set both rewards proportional to each other for a text of `length` tokens, and solve",
                        "another price was found")


def _in_a_loss(answer, logp, logq):
    """Mean of a term and its expected gradient in the logits, (n,), samples from logp held constant."""
    logits = torch.as_tensor(logp, dtype=torch.float64).clone().requires_grad_()
    lp = torch.log_softmax(logits, 0)
    term = answer(lp, torch.as_tensor(logq, dtype=torch.float64))
    if not torch.is_tensor(term) or term.shape != lp.shape:
        given = tuple(term.shape) if torch.is_tensor(term) else type(term).__name__
        raise Misconception(f"the term is {given}, expected one value a sample, {tuple(lp.shape)}",
                            "the wrong kind of answer")
    mean = (lp.detach().exp() * term).sum()
    if not mean.requires_grad:
        raise Misconception("nothing in this term has a gradient: it was all detached, so the loss cannot pull",
                            "a detached term pulls")
    slope = torch.autograd.grad(mean, logits, allow_unused=True)[0]
    return mean.item(), numpy.zeros(len(logp)) if slope is None else slope.numpy()


def kl_term(answer, rng):
    """8.1: a term whose mean is the KL *and* whose expected gradient is the KL's."""
    seen = []
    for k in range(25):
        logp, logq = _distributions(rng, SIZES[k % len(SIZES)])
        p, q = numpy.exp(logp), numpy.exp(logq)
        kl = float(p @ (logp - logq))
        known = {"kl": kl, "grad": p * (logp - logq - kl), "other": p - q, "k2": float(p @ (logp - logq) ** 2) / 2}
        seen.append((known, *_in_a_loss(answer, logp, logq)))

    def mean_is(rule):
        return all(abs(mean - rule(known)) < 1e-8 for known, mean, _ in seen)

    def slope_is(rule):
        return all(abs(slope - rule(known)).max() < 1e-8 for known, _, slope in seen)

    value_right, pull_right = mean_is(lambda k: k["kl"]), slope_is(lambda k: k["grad"])
    if value_right and pull_right:
        return
    if value_right and slope_is(lambda k: 0 * k["grad"]):
        raise Misconception("its mean is the KL, and its expected gradient is exactly zero: what you sampled is raised "
                            "and lowered in equal measure", "unbiased value means unbiased gradient")
    if value_right and slope_is(lambda k: k["other"]):
        raise Misconception("its mean is the KL, but it pulls along the gradient of KL(reference || policy)",
                            "k3 pulls on the KL that it measures")
    if pull_right and mean_is(lambda k: k["k2"]):
        raise Misconception("the pull is right, but the value is half the mean square of the log-ratio, not the KL",
                            "the right gradient means the right value")
    if slope_is(lambda k: 2 * k["grad"]):
        raise Misconception("it pulls twice as hard as the KL does", "the gradient is counted twice")
    if mean_is(lambda k: -k["kl"]) or slope_is(lambda k: -k["grad"]):
        raise Misconception("upside down: this pays for drift", "the log-ratio upside down")
    raise Misconception(f"its mean is {'right' if value_right else 'not the KL'}, its expected gradient is "
                        f"{'right' if pull_right else 'not that of KL(policy || reference)'}", "another term")


def mean_kl(answer, rng):
    """8.5: KL(policy || reference), averaged over the masked tokens of a batch."""
    cases = []
    for k in range(24):
        rows, width, words = int(rng.integers(2, 5)), int(rng.integers(2, 7)), int(rng.integers(3, 8))
        mine, theirs = rng.normal(0, 1, (2, rows, width, words))
        lengths = rng.integers(1, width + 1, rows)
        lengths[0], lengths[1] = 1, width  # unequal rows: the kinds of mean differ
        mask = (numpy.arange(width) < lengths[:, None]) * 1.0
        if k % 3 == 0:
            mask = mask[:, ::-1].copy()  # padding on the left
        got = answer(*tensors(mine, theirs, mask))
        cases.append((mine, theirs, mask, _numbers(got, 1, "the answer")[0]))

    def log(x):
        return x - numpy.log(numpy.exp(x).sum(-1, keepdims=True))

    def each(p, q):
        return (numpy.exp(log(p)) * (log(p) - log(q))).sum(-1)

    def is_(rule):
        return all(abs(got - rule(p, q, m)) < 1e-8 for p, q, m, got in cases)

    if is_(lambda p, q, m: (each(p, q) * m).sum() / m.sum()):
        return
    if any(numpy.isnan(got) for *_, got in cases):
        raise Misconception("NaN: without log_target=True the target is taken for a probability, and its logarithm is "
                            "taken", "the target is a log-probability by default")
    if is_(lambda p, q, m: (each(q, p) * m).sum() / m.sum()):
        raise Misconception("this is KL(reference || policy): F.kl_div wants the *second* distribution first",
                            "the arguments in the order of the formula")
    if is_(lambda p, q, m: each(p, q).mean()) or is_(lambda p, q, m: (each(p, q) * m).mean()):
        raise Misconception("padding is counted as tokens, in the sum or in the divisor", "padding belongs to the mean")
    if is_(lambda p, q, m: each(p, q).sum() / len(m)) or is_(lambda p, q, m: (each(p, q) * m).sum() / len(m)):
        raise Misconception("that is a sum over tokens and a mean over rows: batchmean divides by the first dimension "
                            "only", "batchmean is the mean over tokens")
    if is_(lambda p, q, m: ((each(p, q) * m).sum(1) / m.sum(1)).mean()):
        raise Misconception("a mean of row means lets a token of a short row count more", "a mean of means")
    if is_(lambda p, q, m: each(p, q).mean() / p.shape[-1]) or is_(
            lambda p, q, m: (each(p, q) * m).sum() / m.sum() / p.shape[-1]):
        raise Misconception("divided by the vocabulary as well: a KL sums over the words", "mean over the vocabulary")
    if is_(lambda p, q, m: (each(p, q) * m).sum()):
        raise Misconception("a sum over all tokens, expected the mean over those that the mask names",
                            "sum for mean")
    raise Misconception("this is not the mean over masked tokens of KL(policy || reference)", "another mean")


def is_bug(answer, rng):
    """8.3: noise around a small KL, or samples that are not the policy's?"""
    cases = []
    for k in range(48):
        n, sd = int(rng.integers(32, 400)), float(rng.uniform(0.2, 3))
        x = rng.gamma(1.5, 1.0, n)  # skewed, as log-ratios of texts are: most lie below the mean
        x = (x - x.mean()) / x.std(ddof=1)  # mean 0 and sd 1 exactly
        errors = float((rng.uniform(-1.8, -0.2), rng.uniform(0.2, 8), rng.uniform(-9, -4.5))[k % 3])
        cases.append((sd * (x + errors / n**0.5), errors < -3))
    said = []
    for x, _ in cases:
        word = answer(tensors(x)[0])
        word = word.item() if torch.is_tensor(word) and word.dim() == 0 else word
        if not isinstance(word, (bool, numpy.bool_)):
            raise Misconception(f"the verdict is a {type(word).__name__}, expected True or False",
                                "the wrong kind of answer")
        said.append(bool(word))
    truth = [bug for _, bug in cases]
    if said == truth:
        return

    def says(rule):
        return said == [bool(rule(x)) for x, _ in cases]

    if all(said):
        raise Misconception("every run is called broken, also those with a clearly positive KL",
                            "a detector that always rings")
    if not any(said):
        raise Misconception("a mean that lies many standard errors below zero goes through: no KL is negative, so "
                            "samples, mask, temperature or sign are wrong", "negative means are always noise")
    if says(lambda x: x.mean() < 0):
        raise Misconception("a true KL near zero gives a negative *estimate* half of the time; ask how many standard "
                            "errors below zero it is", "KL estimates cannot be negative")
    if says(lambda x: (x < 0).mean() > 0.5) or says(lambda x: numpy.median(x) < 0):
        raise Misconception("most texts of a healthy run may have a negative log-ratio; only the *mean* cannot be below "
                            "zero", "most samples must be positive")
    if [not s for s in said] == truth:
        raise Misconception("True and False are swapped", "the detector upside down")
    if says(lambda x: abs(x.mean()) > 3 * x.std(ddof=1) / len(x) ** 0.5):
        raise Misconception("a mean far *above* zero is a KL, and no bug", "far from zero is suspicious")
    missed = sum(t and not s for s, t in zip(said, truth, strict=True))
    rang = sum(s and not t for s, t in zip(said, truth, strict=True))
    raise Misconception(f"{missed} broken runs go through, {rang} healthy ones are called broken; compare the mean with "
                        "its standard error, sd / sqrt(n)", "another threshold")


CHECKS = {"8.1": kl_term, "8.2": translate_beta, "8.3": is_bug, "8.4": samples_needed, "8.5": mean_kl}
