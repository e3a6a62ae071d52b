"""Checks of chapter 7: what a score means, ties, the token it is read from, steps, confidence, the price of a word, margins."""

import numpy
import torch

from . import Misconception
from .answers import array, letter, like, sigmoid


def _tensor(x, dtype=torch.float64):
    return torch.as_tensor(x, dtype=dtype)


def _number(x, what):
    """The answer as one finite float, or a Misconception."""
    try:
        value = float(x)
    except (TypeError, ValueError, RuntimeError):
        said = f"{what} is a {type(x).__name__} that is not one number"
        raise Misconception(said, "the wrong kind of answer") from None
    if not numpy.isfinite(value):
        raise Misconception(f"{what} is {value}, expected a finite number", "the wrong kind of answer")
    return value


def _per_prompt(score, prompt, fn):
    """fn of each prompt's scores, spread over its rows."""
    return numpy.array([fn(score[prompt == p]) for p in prompt])


def canonical(answer, rng):
    """7.1: a form of scores that is equal for reward models which no comparison tells apart, and keeps the rest."""
    cases = []
    for k in range(24):
        n_prompts = int(rng.integers(2, 6))
        prompt = rng.permutation(numpy.repeat(numpy.arange(n_prompts), rng.integers(2, 6, n_prompts)))
        if k % 3 == 2:
            prompt = prompt * 7 + 3  # numbers of prompts need not be 0, 1, 2, ...
        score = rng.normal(0, 2, len(prompt))
        shifted = score + _per_prompt(prompt * 1.0, prompt, lambda p: numpy.sin(5 * p[0]) * 10)
        both = [array(answer(_tensor(s), _tensor(prompt, torch.int64)), score.shape, "the answer") for s in (score, shifted)]
        cases.append((score, prompt, *both))

    def always(test):
        return all(test(*case) for case in cases)

    def differences(score, prompt):
        return score - _per_prompt(score, prompt, lambda x: x[0])

    def close(a, b):
        return numpy.allclose(a, b, atol=1e-8)

    keeps = always(lambda s, p, a, b: close(differences(a, p), differences(s, p)))
    if keeps and always(lambda s, p, a, b: close(a, b)):
        return
    if always(lambda s, p, a, b: close(a, s)):
        raise Misconception("nothing was removed: a number added to all answers of a prompt is still there",
                            "the score is absolute")
    if always(lambda s, p, a, b: close(a - a[0], s - s[0])):
        raise Misconception("one number was taken off all scores; each prompt has a free number of its own",
                            "one constant for all prompts")
    if always(lambda s, p, a, b: close(a, b)) and always(
            lambda s, p, a, b: close(numpy.sign(differences(a, p)), numpy.sign(differences(s, p)))):
        raise Misconception("the order is kept, the distances are not: they are what the loss sees", "scale is free too")
    raise Misconception("two models that agree on every difference within a prompt must come out equal, with those "
                        "differences kept", "another quantity was removed")


def tie_loss(answer, rng):
    """7.2: Rao-Kupper, the mean negative log-likelihood with ties."""
    cases = []
    for _ in range(24):
        n = int(rng.integers(6, 40))
        gap, t = rng.normal(0, 1.5, n), float(rng.uniform(0.1, 1.5))
        outcome = rng.permutation(numpy.resize([0.0, 0.5, 1.0], n))
        got = _number(answer(_tensor(gap), _tensor(outcome), t), "the loss")
        cases.append((gap, outcome, t, got))

    def nll(gap, outcome, first, second, tie):
        return -numpy.log(numpy.where(outcome == 1, first, numpy.where(outcome == 0, second, tie)))

    def model(gap, outcome, t):
        first, second = sigmoid(gap - t), sigmoid(-gap - t)
        return nll(gap, outcome, first, second, 1 - first - second)

    def is_(formula):
        with numpy.errstate(all="ignore"):
            return all(abs(got - formula(g, o, t)) < 1e-6 for g, o, t, got in cases)

    if is_(lambda g, o, t: model(g, o, t).mean()):
        return
    if is_(lambda g, o, t: model(g, o, t).sum()):
        raise Misconception("this is the sum over rows; the mean was asked for", "sum for mean")
    if is_(lambda g, o, t: model(g, o, t)[o != 0.5].mean()) or is_(
            lambda g, o, t: (model(g, o, t) * (o != 0.5)).mean()):
        raise Misconception("ties are left out: but that somebody could not decide says that the gap is small",
                            "a tie is no information")
    if is_(lambda g, o, t: nll(g, o, sigmoid(g + t), sigmoid(-g + t), numpy.abs(1 - sigmoid(g + t)
                                                                                 - sigmoid(-g + t))).mean()):
        raise Misconception("the threshold makes winning *harder*: subtract it inside sigma; the three probabilities "
                            "must sum to one", "subtracting a margin eases the task")
    if is_(lambda g, o, t: (-o * numpy.log(sigmoid(g)) - (1 - o) * numpy.log(sigmoid(-g))).mean()):
        raise Misconception("this counts a tie as half a win and half a loss, and the threshold does not enter",
                            "a tie is half a win")
    if is_(lambda g, o, t: (-o * numpy.log(sigmoid(g - t)) - (1 - o) * numpy.log(sigmoid(-g - t))).mean()):
        raise Misconception("a tie is an outcome with its own probability, not half of each other one",
                            "a tie is half a win")
    if is_(lambda g, o, t: -model(g, o, t).mean()):
        raise Misconception("this is the log-likelihood; a loss is its negative", "the sign is upside down")
    raise Misconception("the three probabilities are sigma(gap - t), sigma(-gap - t) and what is left",
                        "another model of ties")


def _read_cases(rng):
    """Rows with prompts that hold end tokens, padding on either side, and text after the end: (ids, on, P, eos, truth)."""
    for k in range(24):
        rows, eos = int(rng.integers(2, 6)), int(rng.integers(0, 9))
        before, after = int(rng.integers(3, 7)), int(rng.integers(4, 9))
        width = before + after
        ids, on = rng.integers(10, 30, (rows, width)), numpy.ones((rows, width), int)
        truth = numpy.zeros(rows, int)
        for i in range(rows):
            left = int(rng.integers(0, before - 1)) if (i + k) % 2 else 0
            length = int(rng.integers(2, after + 1))
            ids[i, left] = eos if (i + k) % 3 == 0 else ids[i, left]  # the end of an earlier turn
            on[i, :left], ids[i, :left] = 0, eos
            on[i, before + length:], ids[i, before + length:] = 0, eos
            truth[i] = before + length - 1
            if i % 3 != 2:  # it ended, and in every other case went on
                truth[i] = before + int(rng.integers(0, length if i % 2 else max(1, length - 1)))
                ids[i, truth[i]] = eos
                if truth[i] + 2 < before + length and k % 2:
                    ids[i, before + length - 1] = eos
        yield ids, on, before, eos, truth


def read_at(answer, rng):
    """7.3: the first end token of the answer, else the last real token."""
    cases = []
    for ids, on, before, eos, truth in _read_cases(rng):
        got = answer(_tensor(ids, torch.int64), _tensor(on, torch.int64), before, eos)
        cases.append((ids, on, before, eos, truth, array(got, truth.shape, "the answer")))
    if all((got == truth).all() for *_, truth, got in cases):
        return

    def like(rule):
        return all((got == rule(ids, on, before, eos, numpy.arange(ids.shape[1]) + 0 * ids)).all()
                   for ids, on, before, eos, _, got in cases)

    def last(on, column):
        return (on * column).max(1)

    def first(hit, on, column):
        return numpy.where(hit.any(1), hit.argmax(1), last(on, column))

    if like(lambda ids, on, p, e, col: on.sum(1) - 1):
        raise Misconception("the sum of the attention is a number of tokens, not a column, as soon as padding stands on "
                            "the left", "padding is always on the right")
    if like(lambda ids, on, p, e, col: 0 * on.sum(1) + ids.shape[1] - 1):
        raise Misconception("the last column is padding in rows that are shorter", "the last column is the last token")
    if like(lambda ids, on, p, e, col: last(on, col)):
        raise Misconception("what was sampled after the end is read too: a score must not depend on it",
                            "the last real token is the end")
    if like(lambda ids, on, p, e, col: ((ids != e) * col).max(1)):
        raise Misconception("every end token was taken for padding, the real one as well", "the end token is padding")
    if like(lambda ids, on, p, e, col: first((ids == e) & (on == 1), on, col)):
        raise Misconception("the first end token may close an earlier turn, in the prompt",
                            "the first end token anywhere")
    if like(lambda ids, on, p, e, col: first((ids == e) & (col >= p), on, col)):
        raise Misconception("padding holds end tokens too: without the attention a cut answer seems to end in it",
                            "padding is the end")
    raise Misconception("some rows are read at another column than the answer's first end token, or its last real "
                        "token if it has none", "another token is read")


def duel(answer, rng):
    """7.4: step probabilities on which mean and min disagree."""
    sizes, seen = [2, 3, *rng.integers(4, 40, 20).tolist()], []
    for n in sizes:
        two = answer(int(n))
        if not isinstance(two, (tuple, list)) or len(two) != 2:
            raise Misconception("expected two lists: the first and the second solution", "the wrong kind of answer")
        seen.append([array(x, (n,), "a solution") for x in two])
    for first, second in seen:
        both = numpy.concatenate([first, second])
        if not ((both >= 0) & (both <= 1)).all():
            raise Misconception("step probabilities lie from 0 to 1", "a score is not a probability")
    mean = [a.mean() - b.mean() for a, b in seen]
    least = [a.min() - b.min() for a, b in seen]
    edge = 0.05 - 1e-9
    if min(mean) >= edge and max(least) <= -edge:
        return
    if max(mean) <= -edge and min(least) >= edge:
        raise Misconception("the other way round: here min prefers the first and mean the second", "the duel is swapped")
    if all(m * x > 0 or m == x == 0 for m, x in zip(mean, least, strict=True)):
        raise Misconception("mean and min agree on these two; one right aggregation of steps does not exist, find where "
                            "they part", "one right aggregation of steps")
    if min(mean) > 0 and max(least) < 0:
        raise Misconception("the right idea, but some difference is below 0.05; n may be large or small",
                            "too close to call")
    raise Misconception("for some n mean does not prefer the first, or min does not prefer the second",
                        "it depends on the number of steps")


def boldness(answer, rng):
    """7.5: mean confidence minus share of right verdicts."""
    cases = []
    for k in range(24):
        n = int(rng.integers(20, 200))
        gap = rng.normal(0, 1.5, n)
        prob, won = sigmoid(gap * (3.0 if k % 2 else 0.4)), (rng.random(n) < sigmoid(gap)).astype(float)
        cases.append((prob, won, _number(answer(_tensor(prob), _tensor(won)), "the answer")))

    def is_(formula):
        return all(abs(got - formula(p, w)) < 1e-6 for p, w, got in cases)

    def confidence(p):
        return numpy.maximum(p, 1 - p).mean()

    def right(p, w):
        return ((p > 0.5) == (w == 1)).mean()

    if is_(lambda p, w: confidence(p) - right(p, w)):
        return
    if is_(lambda p, w: right(p, w) - confidence(p)):
        raise Misconception("the sign is turned: bold means more confidence than hits", "the sign is upside down")
    if is_(lambda p, w: (p - w).mean()) or is_(lambda p, w: p.mean() - right(p, w)):
        raise Misconception("a probability near 0 is a *confident* verdict for the second answer; in the mean of prob "
                            "the two kinds of confidence cancel", "confidence is the probability of the first")
    if is_(lambda p, w: abs(p - w).mean()) or is_(lambda p, w: ((p - w) ** 2).mean()):
        raise Misconception("this measures the error, which noise alone makes large, and it has no sign",
                            "an error is a miscalibration")
    if is_(lambda p, w: abs(confidence(p) - right(p, w))):
        raise Misconception("without its sign the detector cannot tell bold from timid", "the sign is dropped")
    if is_(lambda p, w: confidence(p) - w.mean()):
        raise Misconception("the verdict was right if it equals what happened, which is not always a win of the first",
                            "right means that the first won")
    if is_(lambda p, w: confidence(p)):
        raise Misconception("confidence alone is no fault: subtract how often the verdict was right",
                            "to be sure is to be bold")
    raise Misconception("it is not mean confidence minus the share of right verdicts", "another quantity")


def price_of_a_word(answer, rng):
    """7.6: the coefficient of words at equal quality."""
    cases = []
    for _ in range(24):
        n = int(rng.integers(30, 200))
        quality, noise = rng.normal(0.2, 1.0, n), rng.normal(0, 0.3, n)
        words = 4 * rng.uniform(0.5, 2) * quality + rng.normal(1, 5, n)
        score = rng.uniform(0.5, 2) * quality + rng.normal(0, 0.1) * words + noise + 0.3
        cases.append((score, quality, words, _number(answer(*map(_tensor, (score, quality, words))), "the answer")))

    def solve(y, *x):
        return numpy.linalg.lstsq(numpy.stack(x, 1), y, rcond=None)[0]

    def is_(formula):
        return all(abs(got - formula(s, q, w)) < 1e-6 * (1 + abs(formula(s, q, w))) for s, q, w, got in cases)

    if is_(lambda s, q, w: solve(s, q, w)[1]):
        return
    if is_(lambda s, q, w: solve(s, w)[0]) or is_(lambda s, q, w: solve(s, w, numpy.ones_like(w))[0]):
        raise Misconception("quality is not held fixed: words are paid for what quality did",
                            "long answers score higher, so length is paid")
    if is_(lambda s, q, w: numpy.corrcoef(s, w)[0, 1]):
        raise Misconception("a correlation is no price: it has no unit, and quality is not held fixed",
                            "a correlation is an effect")
    if is_(lambda s, q, w: solve(s, q, w)[0]):
        raise Misconception("this is the price of quality; the other coefficient was asked for", "the other coefficient")
    if is_(lambda s, q, w: solve(s, q, w, numpy.ones_like(w))[1]):
        raise Misconception("with an intercept the result depends on which answer happens to stand first",
                            "the order of the two answers matters")
    if is_(lambda s, q, w: solve(w, q, s)[1]):
        raise Misconception("here words are explained by the score; it is the score that is to be explained",
                            "cause and effect are swapped")
    if is_(lambda s, q, w: solve(s - q, w)[0]):
        raise Misconception("the score's unit is not that of quality: its coefficient has to be fitted, not set to one",
                            "score and quality share a unit")
    raise Misconception("it is not the coefficient of words in score = a x quality + b x words", "another regression")


def margin_loss(answer, rng):
    """7.7: the mean of -log sigmoid(r_c - r_r - m)."""
    cases, wide = [], []
    for k in range(24):
        rows = (1, 2, 5, 9)[k % 4]
        chosen, rejected, margin = rng.normal(0, 1.5, rows), rng.normal(0, 1.5, rows), rng.uniform(0.1, 3, rows)
        got = _number(answer(*map(_tensor, (chosen, rejected, margin))), "the loss")
        cases.append(((chosen, rejected, margin), got))
    for far in (90.0, 300.0):  # in float32, as networks give them
        two = [_tensor([x], torch.float32) for x in (-far, far, 1.0)]
        wide.append((2 * far + 1, float(answer(*two))))

    def cost(gap):
        return numpy.logaddexp(0, -gap)

    def is_(formula):
        return like(cases, formula, atol=1e-6)

    if is_(lambda c, r, m: cost(c - r - m).mean()):
        if all(abs(got - want) < 1e-2 for want, got in wide):
            return
        raise Misconception("right on small gaps, but a gap of some hundreds overflows: there is a function in "
                            "torch.nn.functional that does not", "the formula is the code")
    if is_(lambda c, r, m: cost(c - r + m).mean()):
        raise Misconception("an added margin makes the loss smaller, as if the pair were easier; the chosen answer has to win "
                            "*by* m", "a margin helps the pair")
    if is_(lambda c, r, m: (cost(c - r) + m).mean()) or is_(lambda c, r, m: (cost(c - r) - m).mean()):
        raise Misconception("outside the sigmoid the margin is a constant and has no gradient", "a margin is added to the loss")
    if is_(lambda c, r, m: cost((c - r) * m).mean()) or is_(lambda c, r, m: (m * cost(c - r)).mean()):
        raise Misconception("this weighs the pairs; a margin is a distance, in units of the score", "a margin is a weight")
    if is_(lambda c, r, m: cost(c - r).mean()):
        raise Misconception("the margin does not enter", "the loss without a margin")
    if is_(lambda c, r, m: cost(r - c - m).mean()) or is_(lambda c, r, m: cost(r - c + m).mean()):
        raise Misconception("chosen and rejected are swapped", "the rejected answer is to win")
    if is_(lambda c, r, m: -cost(c - r - m).mean()):
        raise Misconception("this is the log-likelihood; a loss is its negative", "the sign is upside down")
    if is_(lambda c, r, m: cost(c - r - m).sum()):
        raise Misconception("a sum over the pairs; the mean is wanted", "sum for mean")
    raise Misconception("it is not the mean of -log sigmoid(chosen - rejected - margin)", "another loss")


def words_needed(answer, rng):
    """7.8: how many more words a worse answer needs to be chosen with probability p."""
    cases = []
    for _ in range(24):
        loss, per_ten, tau, p = (float(x) for x in (rng.uniform(0.2, 3), rng.uniform(0.5, 4), rng.uniform(0.1, 2),
                                                    rng.uniform(0.2, 0.95)))
        cases.append(((loss, per_ten, tau, p), _number(answer(loss, per_ten, tau, p), "the number of words")))

    def logit(p):
        return numpy.log(p / (1 - p))

    if like(cases, lambda d, b, t, p: 10 * (d + t * logit(p)) / b):
        return
    if like(cases, lambda d, b, t, p: (d + t * logit(p)) / b):
        raise Misconception("the bias is per *ten* words", "the unit of the bias")
    if like(cases, lambda d, b, t, p: 10 * d / b):
        raise Misconception("this many words make both equally likely; p asks for more, or for less", "enough for a tie")
    if like(cases, lambda d, b, t, p: 10 * (d + logit(p)) / b):
        raise Misconception("the noise is missing: the person compares utilities in units of the temperature",
                            "noise does not matter")
    if like(cases, lambda d, b, t, p: 10 * (d + logit(p) / t) / b):
        raise Misconception("a noisier person needs *more* utility for the same probability: multiply by the temperature",
                            "noise makes it easier")
    if like(cases, lambda d, b, t, p: 10 * (d - t * logit(p)) / b):
        raise Misconception("the sign is turned round: to be chosen more often than not takes more words than a tie",
                            "a higher probability is cheaper")
    if like(cases, lambda d, b, t, p: 10 * (t * logit(p) - d) / b):
        raise Misconception("the worse answer starts behind: its words must first make up for the true reward it lacks",
                            "being worse is an advantage")
    raise Misconception("put the difference of utilities, bias times words minus the loss of true reward, into the sigmoid, and "
                        "solve for the words", "another number of words")


def which_test(answer, rng):
    """7.9: pairs of equal length."""
    chosen = letter(answer)
    if chosen == "b":
        return
    if chosen == "a":
        raise Misconception("new labels of the same people carry the same bias, so they confirm it", "more of the same labels")
    if chosen == "c":
        raise Misconception("the training loss says how well the labels are fitted, the bias included",
                            "a low loss is a true score")
    if chosen == "d":
        raise Misconception("the mean rises in RL whether the score is right or biased; it is the score that must be tested",
                            "the score is absolute")
    raise Misconception("give one of a, b, c, d", "no such option")


CHECKS = {"7.1": canonical, "7.2": tie_loss, "7.3": read_at, "7.4": duel, "7.5": boldness, "7.6": price_of_a_word,
          "7.7": margin_loss, "7.8": words_needed, "7.9": which_test}
