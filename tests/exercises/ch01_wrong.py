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


def enough_right(sizes, shares):
    return next(s for i, s in enumerate(sizes) if min(shares[i:]) >= 0.9 * shares[-1])


def enough_backwards(sizes, shares):
    best = sizes[-1]
    for size, share in zip(sizes[::-1], shares[::-1], strict=True):
        if share < 0.9 * shares[-1]:
            break
        best = size
    return best


RIGHT = {"1.1": [loss_right, loss_loop], "1.2": [stage_right, stage_nearest], "1.3": [enough_right, enough_backwards]}
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
        "once is always": lambda sizes, shares: next(s for s, x in zip(sizes, shares, strict=True) if x >= 0.9 * shares[-1]),
        "well formed in nine of ten": lambda sizes, shares: next((s for s, x in zip(sizes, shares, strict=True) if x >= 0.9), -1),
        "more is safer": lambda sizes, shares: sizes[-1],
        "another rule": lambda sizes, shares: sizes[0],
        "the wrong kind of answer": lambda sizes, shares: sizes,
    },
}
