"""Checks of chapter 11: two bounds of the clip, the spread, who was compared with whom, siblings, the first gradient, its sides."""

import numpy
import torch

from . import Misconception
from .answers import array, number


def _tensors(*arrays):
    return [torch.as_tensor(a) for a in arrays]


def _number(x, what):
    """`number`, but a tensor with a dimension is none, even of one element."""
    if torch.is_tensor(x) and x.dim():
        raise Misconception(f"{what} has shape {tuple(x.shape)}, expected one number", "the wrong kind of answer")
    return number(x, what)


def _masks(rng, k):
    """A right-padded mask (B, T): some rows short, some batches square, one batch with a single row."""
    rows, width = (1, 5) if k == 0 else (4, 4) if k % 4 == 3 else (int(rng.integers(2, 7)), int(rng.integers(3, 9)))
    length = rng.integers(1, width + 1, rows)
    length[0] = max(1, width - 1)  # some padding everywhere
    return (numpy.arange(width) < length[:, None]).astype(float)


def signal(answer, rng):
    """11.5: the norm of the gradient of PPO's loss at ratio 1."""
    cases = []
    for k in range(24):
        mask = _masks(rng, k)
        adv = rng.normal(0, 1, len(mask))
        if len(mask) > 1:
            adv -= adv.mean()
        got = _number(answer(*_tensors(adv, mask)), "the signal")
        cases.append((adv, mask, adv[:, None] * mask, got))

    def is_(formula):
        return all(abs(got - formula(a, m, x)) < 1e-6 * (1 + abs(got)) for a, m, x, got in cases)

    if is_(lambda a, m, x: (x**2).sum() ** 0.5 / m.sum()):
        return
    if is_(lambda a, m, x: abs(x.sum() / m.sum())) or is_(lambda a, m, x: -x.sum() / m.sum()):
        raise Misconception("this is the loss's value; with centred advantages it is near 0 whatever there is to learn",
                            "the loss is the signal")
    if is_(lambda a, m, x: (a[:, None].repeat(m.shape[1], 1) ** 2).sum() ** 0.5 / m.size):
        raise Misconception("padding has been counted: those places have no gradient and are not in the divisor",
                            "padding is part of the answer")
    if is_(lambda a, m, x: (x**2).sum() / m.sum() ** 2):
        raise Misconception("the sum of squares without its root is not a norm", "squared norm")
    if is_(lambda a, m, x: (x**2).sum() ** 0.5):
        raise Misconception("the divisor is missing: the loss is a mean over all masked tokens", "sum for mean")
    if is_(lambda a, m, x: ((x / m.sum(1, keepdims=True)) ** 2).sum() ** 0.5 / len(a)):
        raise Misconception("each row has been divided by its own length; PPO's mean is over all tokens of the batch",
                            "mean of row means")
    if is_(lambda a, m, x: abs(x).sum() / m.sum()):
        raise Misconception("the mean size of an advantage is not the norm of the gradient: many small pushes in "
                            "different places add up by their squares", "mean size for norm")
    raise Misconception("this is not the norm of the gradient at ratio 1", "another quantity was measured")


def _centred(score, group, own=True):
    """Score minus the mean of its group (or of the others in it)."""
    out = numpy.zeros_like(score)
    for g in set(group.tolist()):
        on = group == g
        n = on.sum()
        out[on] = score[on] - score[on].mean()
        if not own and n > 1:
            out[on] *= n / (n - 1)
    return out


def _layout(rng, k):
    """Scores (prompts differ in difficulty) and groups; every third case shuffled, every fourth ragged."""
    prompts, size = int(rng.integers(2, 5)), int(rng.integers(2, 6))
    group = numpy.repeat(numpy.arange(prompts), size)
    if k % 4 == 1:
        group = numpy.repeat(numpy.arange(prompts), rng.integers(2, 6, prompts))
    score = rng.normal(0, 1, len(group)) + 3.0 * group
    if k % 3 == 2:
        order = rng.permutation(len(group))
        group, score = group[order], score[order]
    return score, group, prompts, size


def mixed_up(answer, rng):
    """11.3: were the advantages centred within prompts?"""
    cases = [(numpy.zeros(4), numpy.array([0, 0, 1, 1]), 2, 2, False)]  # a batch that teaches nothing, and is right
    for k in range(30):
        score, group, prompts, size = _layout(rng, k)
        good = _centred(score, group, own=k % 2 == 0)
        if k % 5 == 4:
            good = good / max(good.std(), 1e-6)
        cases.append((good, group, prompts, size, False))
        wrong = score - score.mean()  # the whole batch
        if len(group) == prompts * size and k % 4 != 1 and k % 3 != 2:
            table = score.reshape(size, prompts)  # the layout bug
            wrong = (table - table.mean(0)).flatten()
        if k % 6 == 5:
            wrong = good + (group == rng.integers(prompts))  # one prompt alone is off
        cases.append((wrong, group, prompts, size, True))
    said = []
    for adv, group, *_ in cases:
        verdict = answer(*_tensors(adv, group))
        if torch.is_tensor(verdict) and verdict.dim() == 0:
            verdict = verdict.item()
        if not isinstance(verdict, (bool, numpy.bool_)):
            raise Misconception(f"the verdict is a {type(verdict).__name__}, expected True or False",
                                "the wrong kind of answer")
        said.append(bool(verdict))
    truth = [t for *_, t in cases]
    if said == truth:
        return

    def says(rule):
        return said == [bool(rule(adv, group, prompts, size)) for adv, group, prompts, size, _ in cases]

    def adjacent(adv, group, prompts, size):
        n = len(adv) // prompts
        return len(adv) % n != 0 or abs(adv.reshape(-1, n).sum(1)).max() > 1e-6

    if all(said):
        raise Misconception("it always sounds, also for advantages that are right", "a detector that always rings")
    if not any(said) or says(lambda adv, *_: abs(adv.sum()) > 1e-6):
        raise Misconception("the wrong layout sums to 0 over the batch, too; sum within each prompt",
                            "advantages still sum to 0, so they are right")
    if [not s for s in said] == truth:
        raise Misconception("True and False are swapped", "the detector upside down")
    if says(lambda adv, group, *_: any(adv[group == g].sum() != 0 for g in set(group.tolist()))):
        raise Misconception("right advantages sum to 1e-16 and not to 0: floats need a tolerance", "float sums are exact")
    if any(says(lambda adv, group, *_, pick=pick: abs(adv[group == pick(group)].sum()) > 1e-6)
           for pick in (numpy.min, numpy.max, lambda group: group[0])):
        raise Misconception("one prompt was looked at; the mix-up may show in another", "one prompt stands for all")
    if all(s for s, t in zip(said, truth, strict=True) if t):
        raise Misconception("right advantages are refused where rows are shuffled or groups differ in size: use `group`",
                            "rows of a prompt are adjacent")
    missed = sum(t and not s for s, t in zip(said, truth, strict=True))
    raise Misconception(f"{missed} mixed-up batches go through", "another sign was looked for")


def clip_higher(answer, rng):
    """11.1: the clipped objective with two bounds."""
    cases = []
    for _ in range(24):
        low, high = float(rng.uniform(0.05, 0.3)), float(rng.uniform(0.05, 0.5))
        adv = rng.normal(0, 1, 12)
        ratio = numpy.exp(rng.normal(0, 0.5, 12))
        ratio[:4] = 1 - low - 0.1, 1 + high + 0.1, 1 - low - 0.1, 1 + high + 0.1
        adv[:4] = 1.0, 1.0, -1.0, -1.0
        got = array(answer(*_tensors(ratio, adv), low, high), adv.shape, "the objective")
        cases.append((ratio, adv, low, high, got))

    def is_(rule):
        return all(numpy.allclose(got, rule(r, a, lo, hi), atol=1e-6) for r, a, lo, hi, got in cases)

    def right(r, a, lo, hi):
        return numpy.minimum(r * a, numpy.clip(r, 1 - lo, 1 + hi) * a)

    if is_(right):
        return
    if is_(lambda r, a, lo, hi: -right(r, a, lo, hi)):
        raise Misconception("this is the loss; the objective is maximised", "loss for objective")
    if is_(lambda r, a, lo, hi: right(r, a, lo, lo)):
        raise Misconception("both bounds are `low`: the upper one is 1 + high", "one bound for both sides")
    if is_(lambda r, a, lo, hi: right(r, a, hi, lo)):
        raise Misconception("the bounds are swapped: `high` is above 1, `low` below", "low and high swapped")
    if is_(lambda r, a, lo, hi: numpy.clip(r, 1 - lo, 1 + hi) * a):
        raise Misconception("clipping alone also lets go of a token that moved the *wrong* way; take the smaller of plain and "
                            "clipped", "the clip alone")
    if is_(lambda r, a, lo, hi: numpy.maximum(r * a, numpy.clip(r, 1 - lo, 1 + hi) * a)):
        raise Misconception("the smaller of the two products, not the larger", "the minimum turned into a maximum")
    if is_(lambda r, a, lo, hi: numpy.minimum(r, numpy.clip(r, 1 - lo, 1 + hi)) * a):
        raise Misconception("the smaller of the two *products*: with a negative advantage the smaller ratio gives the larger one",
                            "the smaller ratio")
    if is_(lambda r, a, lo, hi: numpy.minimum(r * a, numpy.clip(r, lo, hi) * a)):
        raise Misconception("the bounds are 1 - low and 1 + high: the ratio is near 1", "bounds without the one")
    raise Misconception("this is not min(ratio A, clip(ratio, 1 - low, 1 + high) A)", "another objective")


def clip_slope(answer, rng):
    """11.6: the slope of the clipped objective in the ratio."""
    cases = []
    for _ in range(24):
        low, high = float(rng.uniform(0.05, 0.3)), float(rng.uniform(0.05, 0.5))
        adv = rng.normal(0, 1, 12)
        ratio = numpy.exp(rng.normal(0, 0.5, 12))
        ratio[:4] = 1 - low - 0.1, 1 + high + 0.1, 1 - low - 0.1, 1 + high + 0.1
        adv[:4] = 1.0, 1.0, -1.0, -1.0
        got = array(answer(*_tensors(adv, ratio), low, high), adv.shape, "the slope")
        cases.append((adv, ratio, low, high, got))

    def is_(rule):
        return all(numpy.allclose(got, rule(a, r, lo, hi), atol=1e-6) for a, r, lo, hi, got in cases)

    def right(a, r, lo, hi):
        return numpy.where(((a > 0) & (r > 1 + hi)) | ((a < 0) & (r < 1 - lo)), 0, a)

    if is_(right):
        return
    if is_(lambda a, r, lo, hi: numpy.where((r > 1 + hi) | (r < 1 - lo), 0, a)):
        raise Misconception("a good token that went *down*, or a bad one that went up, is outside the clip and keeps its "
                            "full slope: the minimum takes the worse of the two",
                            "clipping keeps the policy in the interval")
    if is_(lambda a, r, lo, hi: -right(a, r, lo, hi)):
        raise Misconception("this is the slope of the loss; the objective is maximised", "loss for objective")
    if is_(lambda a, r, lo, hi: a):
        raise Misconception("two of the four corners are flat", "the clip has no effect on the gradient")
    if is_(lambda a, r, lo, hi: numpy.minimum(r * a, numpy.clip(r, 1 - lo, 1 + hi) * a)):
        raise Misconception("this is the objective itself, not its slope", "value for slope")
    if is_(lambda a, r, lo, hi: numpy.where(((a > 0) & (r > 1 + lo)) | ((a < 0) & (r < 1 - hi)), 0, a)):
        raise Misconception("the bounds are swapped: `high` is above 1, `low` below", "low and high swapped")
    if is_(lambda a, r, lo, hi: numpy.where(((a > 0) & (r < 1 - lo)) | ((a < 0) & (r > 1 + hi)), 0, a)):
        raise Misconception("the wrong corners are flat: what stops is a token that has moved far in the *paid* direction",
                            "the minimum turned into a maximum")
    if is_(lambda a, r, lo, hi: a * r * (right(a, r, lo, hi) != 0)):
        raise Misconception("that is the slope in the log-probability; in the ratio it is A", "slope in the log-ratio")
    raise Misconception("the slopes do not agree with -min(ratio A, clip(ratio) A)", "another objective")


def ragged_leave_one_out(answer, rng):
    """11.4: leave-one-out with groups of any size, rows in any order."""
    cases = []
    for k in range(26):
        sizes = rng.integers(1, 6, int(rng.integers(2, 6)))
        if k % 2:
            sizes[0] = 1
        group = numpy.repeat(rng.permutation(50)[: len(sizes)], sizes)
        score = rng.normal(1, 1, len(group))
        if k % 3:
            order = rng.permutation(len(group))
            group, score = group[order], score[order]
        cases.append((score, group, answer(*_tensors(score, group))))
    cases = [(s, g, array(got, s.shape, "the answer")) for s, g, got in cases]

    def truth(score, group):
        return _centred(score, group, own=False)

    def is_(rule, where=lambda s, g: numpy.ones(len(s), bool)):
        return all(numpy.allclose(got[where(s, g)], rule(s, g)[where(s, g)], atol=1e-6, equal_nan=True)
                   for s, g, got in cases)

    def with_siblings(score, group):
        return numpy.array([(group == g).sum() > 1 for g in group])

    if is_(truth):
        return
    if is_(truth, with_siblings):
        raise Misconception("answers without siblings must get 0: there is nobody to compare with, and a raw score or a "
                            "nan is no comparison", "a group of one is compared with zero")
    if is_(lambda s, g: _centred(s, g), with_siblings):
        raise Misconception("the own score is in the mean: the direction is right, the length is (n-1)/n",
                            "the own score belongs in the baseline")
    if is_(lambda s, g: (len(s) * s - s.sum()) / (len(s) - 1)) or is_(lambda s, g: s - s.mean()):
        raise Misconception("compared with the whole batch: prompts differ in difficulty, siblings do not",
                            "the batch is the group")

    def adjacent(s, g):
        change = numpy.concatenate([[0], (g[1:] != g[:-1]).cumsum()])
        return _centred(s, change, own=False)

    if is_(adjacent):
        raise Misconception("right only where the rows of a prompt stand together: use `group`, not the order",
                            "rows of a prompt are adjacent")
    if is_(lambda s, g: s - truth(s, g), with_siblings):
        raise Misconception("this is the baseline; the advantage is the score minus it", "baseline for advantage")
    if is_(lambda s, g: -truth(s, g), with_siblings):
        raise Misconception("the sign is turned: a better answer must come out positive", "the sign is turned")
    raise Misconception("this is not the score minus the mean of the other scores of its prompt", "another baseline")


def two_advantages(answer, rng):
    """11.2: the advantages of a right answer, centred and divided by the spread."""
    cases = []
    for _ in range(24):
        size = int(rng.integers(2, 17))
        c = int(rng.integers(1, size))
        got = answer(c, size)
        if not isinstance(got, (tuple, list)) or len(got) != 2:
            raise Misconception(f"the answer is a {type(got).__name__}, expected two numbers", "the wrong kind of answer")
        cases.append((c, size, *(_number(x, "an advantage") for x in got)))

    def is_(first, second):
        return all(abs(a - first(c, n)) < 1e-6 and abs(b - second(c, n)) < 1e-6 for c, n, a, b in cases)

    def centred(c, n):
        return 1 - c / n

    def divided(c, n):
        return (1 - c / n) / (c * (n - c) / (n * (n - 1))) ** 0.5

    if is_(centred, divided):
        return
    if is_(divided, centred):
        raise Misconception("the two are swapped: without the division the advantage is the *smaller* one",
                            "dropping the spread scales up")
    if is_(centred, lambda c, n: (1 - c / n) / (c * (n - c)) ** 0.5 * n):
        raise Misconception("the spread divides by n here; we take n - 1, as torch.std does", "n for n - 1")
    if is_(lambda c, n: -c / n, lambda c, n: -c / n / (c * (n - c) / (n * (n - 1))) ** 0.5):
        raise Misconception("these are the advantages of a *wrong* answer", "the wrong answer's advantage")
    if is_(lambda c, n: (n - c) / (n - 1), divided):
        raise Misconception("the first is RLOO's: Dr. GRPO leaves the own score in the mean", "RLOO for Dr. GRPO")
    if is_(centred, lambda c, n: (1 - c / n) / (c * (n - c) / (n * (n - 1)))):
        raise Misconception("divided by the variance: its root is missing", "variance for standard deviation")
    if is_(centred, centred):
        raise Misconception("GRPO divides by the spread of the group, which depends on c", "the spread is harmless")
    raise Misconception("these are not the centred and the divided score of a right answer", "another advantage")


CHECKS = {"11.1": clip_higher, "11.2": two_advantages, "11.3": mixed_up, "11.4": ragged_leave_one_out, "11.5": signal,
          "11.6": clip_slope}
