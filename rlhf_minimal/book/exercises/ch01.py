"""Checks of chapter 1: a loss that counts the prompt too, which stage wrote a log, whether a difference is safe."""

import math

import numpy

from . import Misconception
from .answers import number, tensors


def prompt_loss(answer, rng):
    """1.1: negative log-likelihood per token, where a prompt token counts `weight` and an answer token counts 1."""
    cases = []
    for _ in range(24):
        rows, width = int(rng.integers(1, 5)), int(rng.integers(4, 9))
        logp = -rng.exponential(1.0, (rows, width))
        mask = (numpy.arange(width) >= rng.integers(1, width, (rows, 1))).astype(float)
        weight = float(rng.uniform(0.05, 0.9))
        cases.append((logp, mask, weight, number(answer(*tensors(logp, mask), weight), "the loss")))

    def is_(rule):
        return all(math.isclose(got, rule(-logp, mask, mask + weight * (1 - mask)), rel_tol=1e-5)
                   for logp, mask, weight, got in cases)

    if is_(lambda x, m, w: (x * w).sum() / w.sum()):
        return
    if is_(lambda x, m, w: -(x * w).sum() / w.sum()):
        raise Misconception("the sign is wrong: log-probabilities are negative, and a loss falls as they rise",
                            "the sign of a loss")
    if is_(lambda x, m, w: (x * w).mean()):
        raise Misconception("the weighted sum is divided by the number of tokens; divide by the sum of the weights, or a smaller "
                            "weight also makes the step smaller", "a token that counts less still counts in the divisor")
    if is_(lambda x, m, w: (x * w).sum() / m.sum()):
        raise Misconception("the divisor holds the answer's tokens only, the sum holds the prompt's as well",
                            "the prompt's tokens have no share in the divisor")
    if is_(lambda x, m, w: (x * m).sum() / m.sum()):
        raise Misconception("this is the usual loss: the prompt does not count at all", "the prompt never counts")
    if is_(lambda x, m, w: x.mean()):
        raise Misconception("every token counts the same; a prompt token should count `weight`", "pretraining's loss")
    if is_(lambda x, m, w: ((x * w).sum(1) / w.sum(1)).mean()):
        raise Misconception("each row was averaged first: a token in a short row then counts more", "the mean of means is the mean")
    raise Misconception("expected the weighted mean of -logp with weight 1 on the mask and `weight` elsewhere", "another loss")


STAGES = ("pretraining", "sft", "preference", "reinforcement")


def stage(answer, rng):
    """1.2: the stage that wrote a log, from its first losses, its rewards (or None) and the size of the vocabulary."""
    cases = []
    for k in range(24):
        vocabulary, kind = int(rng.integers(500, 60_000)), STAGES[k % 4]
        first = {"pretraining": math.log(vocabulary) + rng.uniform(-0.1, 0.1), "sft": rng.uniform(1.0, 3.0),
                 "preference": math.log(2) + rng.uniform(-1e-4, 1e-4), "reinforcement": rng.uniform(-0.4, 0.4)}[kind]
        losses = [first, *(first * 0.9 ** numpy.arange(1, 12) + rng.normal(0, 0.02, 11)).tolist()]
        rewards = rng.uniform(0, 1, 12).tolist() if kind == "reinforcement" else None
        cases.append((kind, answer(list(losses), rewards, vocabulary)))
    if wrong := [got for _, got in cases if got not in STAGES]:
        raise Misconception(f"the answer is {wrong[0]!r:.40}, expected one of {', '.join(STAGES)}", "the wrong kind of answer")
    found = {kind: {got for k, got in cases if k == kind} for kind in STAGES}
    if found["reinforcement"] != {"reinforcement"}:
        raise Misconception("only reinforcement learning logs a reward of sampled answers; its loss has no meaning of its own",
                            "every stage has a loss worth reading")
    if found["preference"] != {"preference"}:
        raise Misconception("a loss on pairs starts at log 2 = 0.693: policy and reference are the same model",
                            "a first loss says nothing")
    if found["pretraining"] != {"pretraining"}:
        raise Misconception("an untrained model gives every token the same probability: the first loss is the logarithm of "
                            "the vocabulary", "the vocabulary has nothing to do with it")
    if found["sft"] != {"sft"}:
        raise Misconception("finetuning starts from a model that can speak: its first loss lies well below the logarithm of "
                            "the vocabulary", "finetuning starts from nothing")


def difference(answer, rng):
    """1.3: mean of paired differences and half of its 95 % interval."""
    cases = []
    for _ in range(24):
        n = int(rng.integers(5, 40))
        theirs = rng.normal(0, 2, n)
        ours = theirs + rng.normal(rng.uniform(0.2, 1), 0.7, n)
        got = answer(*tensors(ours, theirs))
        try:
            mean, half = got
        except (TypeError, ValueError):
            raise Misconception("expected two numbers, the mean and the half width", "the wrong kind of answer") from None
        cases.append((ours, theirs, number(mean, "the mean"), number(half, "the half width")))

    def means(rule):
        return all(math.isclose(mean, rule(x, y), rel_tol=1e-5, abs_tol=1e-9) for x, y, mean, _ in cases)

    def is_(rule):
        return all(math.isclose(half, rule(x, y), rel_tol=1e-5) for x, y, _, half in cases)

    if means(lambda x, y: (y - x).mean()):
        raise Misconception("the sign is wrong: above 0 should mean that ours is better", "theirs minus ours")
    if not means(lambda x, y: (x - y).mean()):
        raise Misconception("the first number should be the mean of ours minus theirs", "another mean")
    if is_(lambda x, y: 1.96 * (x - y).std(ddof=1) / len(x) ** 0.5):
        return
    if is_(lambda x, y: 1.96 * ((x.var(ddof=1) + y.var(ddof=1)) / len(x)) ** 0.5):
        raise Misconception("this treats the two as independent; the requests are the same: take the variance of the differences",
                            "two separate samples")
    if is_(lambda x, y: 1.96 * (x - y).std(ddof=1)):
        raise Misconception("this is about one request; the mean of n varies less, by the square root of n",
                            "the standard deviation is the standard error")
    if is_(lambda x, y: 1.96 * (x - y).std(ddof=1) / len(x)):
        raise Misconception("divide the standard deviation by the square root of n, not by n", "divided by n")
    if is_(lambda x, y: 1.96 * (x - y).std() / len(x) ** 0.5):
        raise Misconception("the variance divides by n - 1: one degree of freedom went into the mean", "n in the variance")
    if is_(lambda x, y: (x - y).std(ddof=1) / len(x) ** 0.5):
        raise Misconception("one standard error covers some 68 %; 95 % needs 1.96 of them", "one standard error")
    if is_(lambda x, y: 2 * 1.96 * (x - y).std(ddof=1) / len(x) ** 0.5):
        raise Misconception("this is the whole width of the interval; half of it was asked", "the whole width")
    raise Misconception("expected 1.96 times the standard error of the mean difference", "another width")


CHECKS = {"1.1": prompt_loss, "1.2": stage, "1.3": difference}
