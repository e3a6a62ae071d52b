"""Checks of chapter 9: one loss for several parts, which tokens count, labels under pad = end, turns, templates, windows."""

import math

import numpy
import torch

from . import Misconception
from .answers import number, tensors

USER, ANSWER, END = "<|user|>", "<|assistant|>", "<|end|>"
WORDS = ("the", "fox", "eats", "cakes", "?", ".", "where", "two", "hats", "and")


def step_loss(answer, rng):
    """9.1: negative log-likelihood per counted token of one optimizer step, whose rows come in several parts."""
    cases = []
    for _ in range(24):
        parts = []
        for _ in range(int(rng.integers(2, 5))):
            shape = int(rng.integers(1, 5)), int(rng.integers(3, 9))
            mask = (numpy.arange(shape[1]) >= rng.integers(1, shape[1], (shape[0], 1))).astype(float)
            parts.append((-rng.exponential(1.0, shape), mask))
        cases.append((parts, number(answer([tuple(tensors(*part)) for part in parts]), "the loss")))

    def is_(rule):
        return all(math.isclose(got, rule(parts), rel_tol=1e-6) for parts, got in cases)

    def total(parts):
        return sum(-(x * m).sum() for x, m in parts)

    def count(parts):
        return sum(m.sum() for _, m in parts)

    if is_(lambda parts: total(parts) / count(parts)):
        return
    if is_(lambda parts: -total(parts) / count(parts)):
        raise Misconception("the sign is wrong: log-probabilities are negative, and a loss falls as they rise",
                            "the sign of a loss")
    if is_(lambda parts: numpy.mean([-(x * m).sum() / m.sum() for x, m in parts])):
        raise Misconception("each part was averaged first: a token in a part with few counted tokens then weighs more",
                            "the mean of means is the mean")
    if is_(lambda parts: sum(-(x * m).sum() / m.sum() for x, m in parts)):
        raise Misconception("the means of the parts were added: with more parts the step becomes larger", "means add up")
    if is_(total):
        raise Misconception("this is the sum; divide it once, by all counted tokens of the step", "the divisor is a learning rate")
    if is_(lambda parts: total(parts) / len(parts)):
        raise Misconception("the sum is divided by the number of parts; the loss is per counted token", "a part is the unit")
    if is_(lambda parts: total(parts) / sum(len(x) for x, _ in parts)):
        raise Misconception("the sum is divided by the number of rows; the loss is per counted token", "a row is the unit")
    if is_(lambda parts: total(parts) / sum(x.size for x, _ in parts)):
        raise Misconception("the divisor counts every token, prompts and padding too; only tokens on the mask are in the sum",
                            "a token that does not count still divides")
    if is_(lambda parts: sum(-x.sum() for x, _ in parts) / sum(x.size for x, _ in parts)):
        raise Misconception("every token counts here; the mask says which should", "pretraining's loss")
    raise Misconception("expected minus the sum of logp over all masked tokens, divided by their number, over all parts together",
                        "another loss")


def _turn_lengths(rng, turns):
    """[(words of the question, words of the answer)] of a conversation."""
    return [(int(rng.integers(1, 6)), int(rng.integers(1, 6))) for _ in range(turns)]


def _list(x, length, what):
    """The answer as a list of numbers of a length, or a Misconception."""
    x = x.tolist() if hasattr(x, "tolist") else x
    if not isinstance(x, (list, tuple)) or not all(isinstance(v, (bool, int, float, numpy.number)) for v in x):
        raise Misconception(f"{what} is a {type(x).__name__}, expected a list of numbers", "the wrong kind of answer")
    if len(x) != length:
        raise Misconception(f"{what} has {len(x)} numbers, expected {length}", "the wrong length")
    return [float(v) for v in x]


def mark(answer, rng):
    """9.2: 1 on every token of a rendered chat that the loss sees."""
    cases = []
    for k in range(24):
        tokens, about = [], []  # about: (role, what, number of the turn)
        lengths = _turn_lengths(rng, 1 + k % 4)
        for i, (asked, said) in enumerate(lengths):
            for role, n in ((USER, asked), (ANSWER, said)):
                tokens += [role, *rng.choice(WORDS, n).tolist(), END]
                about += [(role, "tag", i)] + [(role, "word", i)] * n + [(role, "end", i)]
        for turns in ("last", "all"):
            got = _list(answer(list(tokens), turns), len(tokens), "the answer")
            cases.append((about, turns, len(lengths) - 1, got))

    def is_(rule, turns_matter=True):
        def keep(role, what, i, turns, last):
            return rule(role, what) and (i == last or turns == "all" or not turns_matter)
        return all(got == [float(keep(*a, turns, last)) for a in about] for about, turns, last, got in cases)

    def right(role, what):
        return role == ANSWER and what != "tag"

    if is_(right):
        return
    if is_(lambda role, what: True, False):
        raise Misconception("everything is marked: the model reads the prompt through its attention anyway, the mask only "
                            "says what it is trained to *write*", "the loss must cover the prompt so that the model sees it")
    if is_(lambda role, what: role == ANSWER and what == "word"):
        raise Misconception("the end of the answer is not marked: whoever learns from this never learns to stop",
                            "the end token belongs to the template")
    ends_too = [[float((right(r, w) and (i == last or turns == "all")) or w == "end") for r, w, i in about]
                for about, turns, last, _ in cases]
    if is_(lambda role, what: right(role, what) or what == "end") or [got for *_, got in cases] == ends_too:
        raise Misconception("the user's end tokens are marked too; the user closes these turns, not the model",
                            "every end token is an answer's")
    if is_(lambda role, what: role == ANSWER):
        raise Misconception("the assistant's tag is marked: it is part of the prompt, the template writes it",
                            "the role tag is part of the answer")
    if is_(right, False):
        raise Misconception("all answers are marked although only the last was asked for", "one mask for both")
    if all(got == [float(right(r, w) and i == last) for r, w, i in about] for about, turns, last, got in cases):
        raise Misconception("with turns='all' the earlier answers are trained as well: each is a demonstration",
                            "turns count once either way")
    if is_(lambda role, what: role == USER and what != "tag"):
        raise Misconception("the user's turns are marked: this model learns to ask", "the roles are swapped")
    shifted = [[0.0] + got[:-1] for *_, got in cases]
    if all(row == [float(right(r, w) and (i == last or turns == "all")) for r, w, i in about]
           for row, (about, turns, last, _) in zip(shifted, cases, strict=True)):
        raise Misconception("the marks stand one place early, where the tokens are predicted *from*; the loss shifts by "
                            "itself, the mask names the tokens", "the shift belongs to the mask")
    raise Misconception("other tokens are marked than the answer's words and its end", "another set of tokens")


def labels(answer, rng):
    """9.3: labels for a trainer that ignores -100, where the padding id is the end token's id 0."""
    cases = []
    for k in range(24):
        rows, width = int(rng.integers(1, 5)), int(rng.integers(9, 14))
        ids, attention = numpy.zeros((rows, width), int), numpy.zeros((rows, width), int)
        start = numpy.zeros(rows, int)
        for i in range(rows):
            asked, said = int(rng.integers(2, 4)), int(rng.integers(1, 4))
            cut = (i + k) % 3 == 0  # this answer was too long and lost its end
            body = [*rng.integers(2, 9, asked), 0, 1, *rng.integers(2, 9, said), *([] if cut else [0])]
            ids[i, :len(body)], attention[i, :len(body)], start[i] = body, 1, asked + 2
        given = [torch.tensor(x) for x in (ids, attention, start)]
        got = answer(*given)
        if not torch.is_tensor(got) or got.shape != given[0].shape:
            raise Misconception(f"the answer is {getattr(got, 'shape', type(got).__name__)}, expected a tensor of the shape "
                                "of ids", "the wrong kind of answer")
        cases.append((ids, attention > 0, numpy.arange(width) >= start[:, None], got.numpy()))

    def is_(rule, fill=-100):
        return all((got == numpy.where(rule(ids, real, after), ids, fill)).all() for ids, real, after, got in cases)

    def first_end(ids, real, after):
        ends = (ids == 0) & after
        return after & (ends.cumsum(1) - ends == 0)

    if is_(lambda ids, real, after: real & after):
        return
    if is_(lambda ids, real, after: (ids != 0) & after) or is_(lambda ids, real, after: ids != 0):
        raise Misconception("every 0 is hidden, the end tokens among them: a stop string or a length limit only cuts what this "
                            "model goes on to write", "generation length is a sampling setting")
    if is_(lambda ids, real, after: after):
        raise Misconception("the padding is a target: the model is trained to write end tokens after the end",
                            "padding is text")
    if is_(lambda ids, real, after: real):
        raise Misconception("the prompt is a target; the model reads it anyway",
                            "the loss must cover the prompt so that the model sees it")
    if is_(first_end):
        raise Misconception("an answer that was cut off gets its first pad as an end: it did not end there; ask the "
                            "attention, not the ids", "the first pad is an end token")
    if is_(lambda ids, real, after: real & after, 0):
        raise Misconception("0 is a token like any other, here the end token; what is ignored must be -100",
                            "zero means ignore")
    moved = [(ids, numpy.roll(got, 1, 1)) for ids, *_, got in cases]
    if all((m[:, 1:] == numpy.where(real & after, ids, -100)[:, 1:]).all()
           for (ids, m), (_, real, after, _) in zip(moved, cases, strict=True)):
        raise Misconception("the labels stand one place early; the trainer shifts once by itself",
                            "the shift belongs to the labels")
    raise Misconception("labels must be the ids of the answer with its end, and -100 elsewhere", "another set of labels")


def tokens_read(answer, rng):
    """9.4: tokens that go through the model, unrolled into one row a turn and as one row."""
    cases = []
    for k in range(24):
        turns = [(int(rng.integers(3, 40)), int(rng.integers(3, 40))) for _ in range(2 + k % 5)]
        cases.append((turns, tuple(_list(answer(list(turns)), 2, "the answer"))))

    def is_(rule):
        return all(got == rule(numpy.array(turns)) for turns, got in cases)

    def once(t):
        return t.sum()

    def unrolled(t):
        return t.sum(1).cumsum().sum()

    if is_(lambda t: (unrolled(t), once(t))):
        return
    if is_(lambda t: (once(t), once(t))):
        raise Misconception("both numbers are the same: an unrolled copy repeats all the turns before its own",
                            "turns count once either way")
    if is_(lambda t: (once(t), unrolled(t))):
        raise Misconception("the two numbers are swapped: first unrolled, then in one row", "the two are swapped")
    if is_(lambda t: (t[:, 0].cumsum().sum() + t[:, 1].sum(), once(t))):
        raise Misconception("the copies leave out the earlier answers, which are part of their prompts",
                            "earlier answers are not in the prompt")
    if is_(lambda t: (unrolled(t) - t[:, 1].sum(), once(t))):
        raise Misconception("each copy ends with its question: the answer to be learned is read as well",
                            "the answer is not read")
    if is_(lambda t: (t[:, 1].cumsum().sum(), t[:, 1].sum())):
        raise Misconception("only answers are counted; the questions go through the model too", "what is masked is free")
    if is_(lambda t: (len(t) * once(t), once(t))):
        raise Misconception("each copy is as long as the whole conversation; it ends with its own turn",
                            "a copy sees the turns after it")
    raise Misconception("copy k holds the turns 1 to k, question and answer; add the copies up", "another count")


def misfit(answer, rng):
    """9.5: is this prompt, as it was served, one that the template cannot have written?"""
    user, assistant, end, cases = 1, 2, 0, []
    for k in range(30):
        turns = [[user, *rng.integers(3, 9, a), end, assistant, *rng.integers(3, 9, b), end]
                 for a, b in _turn_lengths(rng, k % 3)]
        asked = rng.integers(3, 9, rng.integers(1, 6)).tolist()
        before = [int(x) for t in turns for x in t]
        good = before + [user, *asked, end, assistant]
        bad = {"no tag at the end": good[:-1], "no end": before + [user, *asked, assistant], "raw text": asked,
               "two starts": [user, *good], "two tags": [*good, assistant], "closed": [*good, end], "no start": good[1:],
               "wrong role": before + [assistant, *asked, end, assistant], "nothing asked": before + [user, end, assistant]}
        cases += [(good, "")] + [(ids, name) for name, ids in bad.items()]
    said = []
    for ids, _ in cases:
        verdict = answer(list(ids), user, assistant, end)
        if not isinstance(verdict, (bool, numpy.bool_)):
            raise Misconception(f"the verdict is a {type(verdict).__name__}, expected True or False",
                                "the wrong kind of answer")
        said.append(bool(verdict))
    truth = [bool(name) for _, name in cases]
    if said == truth:
        return

    def says(rule):
        return said == [rule(ids) for ids, _ in cases]

    if not any(said):
        raise Misconception("everything goes through: the model has only ever answered after one exact shape",
                            "templates are cosmetic")
    if all(said):
        raise Misconception("it rings at good prompts too", "a detector that always rings")
    if [not s for s in said] == truth:
        raise Misconception("True and False are swapped: True means misfit", "the detector upside down")
    if says(lambda ids: ids[-1] != assistant):
        raise Misconception("only the last token is looked at; an open or doubled turn goes through",
                            "the generation prompt is all that matters")
    if says(lambda ids: ids[0] != user):
        raise Misconception("only the first token is looked at; a prompt without the assistant's tag goes through",
                            "the start is all that matters")
    if all(s for s, t in zip(said, truth, strict=True) if t) and not any(
            s for s, (ids, name) in zip(said, cases, strict=True) if not name and ids.count(user) == 1):
        raise Misconception("it rings at good conversations of several turns", "a prompt has one turn")
    let = sorted({name for s, (_, name) in zip(said, cases, strict=True) if name and not s})
    if let and set(let) <= {"two starts", "two tags"}:
        raise Misconception("doubled tags go through: a tokenizer that adds its own start token makes them",
                            "two start tokens do no harm")
    raise Misconception(f"these misfits go through somewhere: {', '.join(let) or 'none, but a good prompt rings'}",
                        "another grammar")


def weights(answer, rng):
    """9.6: factors for micro-batch *means*, so that every optimizer step is the mean over its own tokens."""
    cases = []
    for k in range(24):
        window = 2 + k % 3
        counts = rng.integers(1, 60, window * int(rng.integers(1, 4)) + (1 + k % (window - 1) if window > 2 else k % 2))
        counts = [int(c) for c in counts]
        cases.append((counts, window, _list(answer(list(counts), window), len(counts), "the answer")))

    def is_(rule):
        def of(counts, window):
            return [v for i in range(0, len(counts), window) for v in rule(numpy.array(counts[i:i + window]), counts, window)]
        return all(numpy.allclose(got, of(counts, window), rtol=1e-6) for counts, window, got in cases)

    if is_(lambda part, counts, window: part / part.sum()):
        return
    if is_(lambda part, counts, window: numpy.ones(len(part)) / window):
        raise Misconception("every micro-batch weighs the same, also in the last, shorter window, whose step is then too "
                            "small: micro-batches differ in tokens", "accumulation is exactly a bigger batch")
    if is_(lambda part, counts, window: numpy.ones(len(part)) / len(part)):
        raise Misconception("a mean of means: a token in a short micro-batch weighs more than one in a long one",
                            "the mean of means is the mean")
    if is_(lambda part, counts, window: part / sum(counts)):
        raise Misconception("the tokens of the whole list are the divisor; the optimizer steps once a window",
                            "one denominator for everything")
    if is_(lambda part, counts, window: 1.0 * part):
        raise Misconception("sums instead of means: the step grows with the window", "the divisor is a learning rate")
    if is_(lambda part, counts, window: 1 / part):
        raise Misconception("the means were already divided by their own counts; multiply by the counts, then divide once",
                            "divided twice")
    raise Misconception("in each window the factors must be proportional to the counts and sum to 1", "other factors")


CHECKS = {"9.1": step_loss, "9.2": mark, "9.3": labels, "9.4": tokens_read, "9.5": misfit, "9.6": weights}
