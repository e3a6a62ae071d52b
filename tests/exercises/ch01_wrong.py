"""Answers to the exercises of chapter 1: right ones, written in two ways, and wrong ones with the message they earn."""

import math


def _weights(mask, weight):
    return mask + weight * (1 - mask)


def loss_loop(logp, mask, weight):
    total = count = 0.0
    for row, marks in zip(logp.tolist(), mask.tolist(), strict=True):
        for x, m in zip(row, marks, strict=True):
            w = 1.0 if m else weight
            total, count = total - w * x, count + w
    return total / count


def loss_right(logp, mask, weight):
    w = _weights(mask, weight)
    return -(logp * w).sum() / w.sum()


def stage_right(losses, rewards, vocabulary):
    if rewards is not None:
        return "reinforcement"
    if abs(losses[0] - math.log(2)) < 0.01:
        return "preference"
    return "pretraining" if losses[0] > 0.9 * math.log(vocabulary) else "sft"


def stage_nearest(losses, rewards, vocabulary):
    if rewards:
        return "reinforcement"
    near = {"preference": abs(losses[0] - math.log(2)) * 20, "pretraining": abs(losses[0] - math.log(vocabulary)), "sft": 0.5}
    return min(near, key=near.get)


def difference_right(ours, theirs):
    change = ours - theirs
    return change.mean(), 1.96 * change.std() / len(change) ** 0.5


def difference_by_hand(ours, theirs):
    change = [a - b for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    n, mean = len(change), sum(change) / len(change)
    return mean, 1.96 * math.sqrt(sum((c - mean) ** 2 for c in change) / (n - 1) / n)


def _half(width):
    """A right mean with another half width, from the differences."""
    return lambda ours, theirs: ((ours - theirs).mean(), width(ours - theirs))


RIGHT = {"1.1": [loss_right, loss_loop], "1.2": [stage_right, stage_nearest], "1.3": [difference_right, difference_by_hand]}
WRONG = {
    "1.1": {
        "the sign of a loss": lambda logp, mask, weight: -loss_right(logp, mask, weight),
        "a token that counts less still counts in the divisor": lambda logp, mask, weight: -(logp * _weights(mask, weight)).mean(),
        "the prompt's tokens have no share in the divisor":
            lambda logp, mask, weight: -(logp * _weights(mask, weight)).sum() / mask.sum(),
        "the prompt never counts": lambda logp, mask, weight: -(logp * mask).sum() / mask.sum(),
        "pretraining's loss": lambda logp, mask, weight: -logp.mean(),
        "the mean of means is the mean":
            lambda logp, mask, weight: -((logp * _weights(mask, weight)).sum(1) / _weights(mask, weight).sum(1)).mean(),
        "another loss": lambda logp, mask, weight: -logp.sum(),
        "the wrong kind of answer": lambda logp, mask, weight: "a loss",
    },
    "1.2": {
        "every stage has a loss worth reading": lambda losses, rewards, v: stage_right(losses, None, v),
        "a first loss says nothing": lambda losses, rewards, v: "reinforcement" if rewards else "sft",
        "the vocabulary has nothing to do with it":
            lambda losses, rewards, v: stage_right(losses, rewards, v).replace("pretraining", "sft"),
        "finetuning starts from nothing":
            lambda losses, rewards, v: stage_right(losses, rewards, v).replace("sft", "pretraining"),
        "the wrong kind of answer": lambda losses, rewards, v: "dpo",
    },
    "1.3": {
        "theirs minus ours": lambda ours, theirs: difference_right(theirs, ours),
        "another mean": lambda ours, theirs: (ours.mean(), 1.0),
        "two separate samples":
            lambda ours, theirs: ((ours - theirs).mean(), 1.96 * ((ours.var() + theirs.var()) / len(ours)) ** 0.5),
        "the standard deviation is the standard error": _half(lambda d: 1.96 * d.std()),
        "divided by n": _half(lambda d: 1.96 * d.std() / len(d)),
        "n in the variance": _half(lambda d: 1.96 * d.std(correction=0) / len(d) ** 0.5),
        "one standard error": _half(lambda d: d.std() / len(d) ** 0.5),
        "the whole width": _half(lambda d: 2 * 1.96 * d.std() / len(d) ** 0.5),
        "another width": _half(lambda d: 3 * d.std()),
        "the wrong kind of answer": lambda ours, theirs: (ours - theirs).mean(),
    },
}
