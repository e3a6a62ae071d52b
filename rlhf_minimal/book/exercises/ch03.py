"""Checks of chapter 3, Definitions: lengths, shifts, perplexity, the direction of KL, discounting."""

import math

import torch

from . import Misconception

TWENTY = range(24)  # random inputs a check


def _near(a, b):
    return abs(a - b) <= 1e-6 * max(1.0, abs(b))


def _number(x):
    """An int, float or 0-dimensional tensor as a float; anything else is a wrong kind of answer."""
    if isinstance(x, (tuple, list)) or getattr(x, "shape", ()) != ():
        raise Misconception("the answer is not one number", "one number was asked for")
    return float(x)


def _uniform_gap(answer, rng):
    """gap(short, long, vocab) -> (how much log-probability the longer loses, how much of it per token), in nats."""
    for _ in TWENTY:
        short = int(rng.integers(1, 20))
        long, vocab = short + int(rng.integers(1, 40)), int(rng.integers(2, 5000))
        got = answer(short, long, vocab)
        if not (isinstance(got, (tuple, list)) and len(got) == 2):
            raise Misconception("two numbers are asked for: the gap of the sums, the gap of the means", "one answer")
        total, mean, right = _number(got[0]), _number(got[1]), (long - short) * math.log(vocab)
        if _near(total, right) and abs(mean) <= 1e-9:
            continue
        if not _near(total, right):
            if _near(total, -right):
                raise Misconception("each token multiplies the probability by less than 1, so more tokens lose",
                                    "a longer text is more probable")
            if _near(total, right / math.log(2)) or _near(total, right / math.log(10)):
                raise Misconception("log here is the natural one, the unit is the nat", "bits for nats")
            if _near(total, 0.0):
                raise Misconception("the sums differ, by log(vocab) an extra token", "all texts are equally likely")
            raise Misconception("the first number is not the gap of the two sums of log-probabilities", "wrong sum")
        raise Misconception("per token the two are equally likely: the whole gap is length", "likelihood is quality")


def _logits_for(rng, *, offset, vocab, rows, width, strength):
    """ids (B,L) and logits (B,L,V) that favour the token `offset` places ahead of each place."""
    ids = torch.from_numpy(rng.integers(0, vocab, (rows, width)))
    logits = torch.from_numpy(0.1 * rng.standard_normal((rows, width, vocab)))
    for t in range(width - offset):
        logits[torch.arange(rows), t, ids[:, t + offset]] += strength
    return logits, ids


def _mean_nll(logits, ids, k):
    logp = logits.double().log_softmax(-1)
    scores = [-logp[b, t, ids[b, t + k]] for b in range(len(ids)) for t in range(ids.shape[1] - k)]
    return sum(s.item() for s in scores) / len(scores)


def _offset(answer, rng):
    """offset(logits, ids) -> 0, 1 or 2: which token ahead the logits were trained to predict."""
    wrong = []
    for i in TWENTY:
        true = i % 3
        short = i < 15  # few places and weak logits: there a sum goes wrong, because a larger offset has fewer terms
        width, strength = (int(rng.integers(3, 5)), 0.9) if short else (int(rng.integers(4, 9)), rng.uniform(1.5, 4))
        logits, ids = _logits_for(rng, offset=true, vocab=int(rng.integers(30, 60)), rows=int(rng.integers(2, 6)),
                                  width=width, strength=float(strength))
        losses = [_mean_nll(logits, ids, k) for k in range(3)]
        best = min(range(3), key=losses.__getitem__)
        got = _number(answer(logits.clone(), ids.clone()))
        if got != best:
            wrong.append((got, best, losses, logits, ids))
    if not wrong:
        return
    if all(got == 1 for got, *_ in wrong):
        raise Misconception("some of these logits score their own input best: the run was never shifted, and its low "
                            "loss is the symptom", "a low loss is good news")
    if all(got == max(range(3), key=loss.__getitem__) for got, _, loss, *_ in wrong):
        raise Misconception("the offset with the highest loss came out, the lowest was asked for", "loss upside down")
    if all(got == min(range(3), key=lambda k: loss[k] * (ids.shape[1] - k)) for got, _, loss, _, ids in wrong):
        raise Misconception("a larger offset has fewer terms: compare means, not sums", "sum for mean")
    mirror = [(got, logits.flip(1), ids.flip(1)) for got, *_, logits, ids in wrong]
    if all(got == min(range(3), key=lambda k: _mean_nll(logits, ids, k)) for got, logits, ids in mirror):
        raise Misconception("logits at t + k were compared with the token at t: that looks back", "shift to the left")
    raise Misconception("the offset with the smallest mean loss did not come out", "another offset")


def _pooled(answer, rng):
    """pooled_perplexity(perplexities, tokens) -> perplexity of all texts together."""
    for i in TWENTY:
        n = (1, 2, 3, 7)[i % 4]
        ppl = torch.from_numpy(1 + 40 * rng.random(n))
        tokens = torch.from_numpy(rng.integers(1, 400, n))
        total = sum(int(t) * math.log(float(p)) for p, t in zip(ppl, tokens, strict=True))
        right, share = math.exp(total / int(tokens.sum())), tokens / tokens.sum()
        got = _number(answer(ppl.clone(), tokens.clone()))
        if _near(got, right):
            continue
        if _near(got, ppl.mean().item()):
            raise Misconception("a text of ten tokens weighed as much as one of four hundred",
                                "perplexity averages over texts")
        if _near(got, ppl.log().mean().exp().item()):
            raise Misconception("the mean of the logs is right, but each text counted once, not once a token",
                                "text-weighted for token-weighted")
        if _near(got, (share * ppl).sum().item()):
            raise Misconception("the weights are right, but it is the logs that are averaged",
                                "arithmetic for geometric mean")
        if _near(got, math.log(right)):
            raise Misconception("this is the loss in nats; its exponential is the perplexity", "loss for perplexity")
        raise Misconception("it is not exp(all nats / all tokens)", "another average")


def _kl_elsewhere(answer, rng):
    """terms(logp, logp_ref): their mean over samples of the *reference* must be KL(policy || reference)."""
    seen = []
    for i in TWENTY:
        n = (2, 3, 5, 9)[i % 4]
        logp, ref = (torch.from_numpy(1.5 * rng.standard_normal(n)).log_softmax(0) for _ in range(2))
        got = torch.as_tensor(answer(logp.clone(), ref.clone()))
        if got.shape != logp.shape:
            raise Misconception(f"one term a sample was asked for, shape {tuple(logp.shape)}", "already averaged")
        mean = (ref.exp() * got).sum().item()
        forward, back = ((a.exp() * (a - b)).sum().item() for a, b in ((logp, ref), (ref, logp)))
        tilted = (logp.exp() * got).sum().item()
        seen.append((mean, forward, back, tilted))
    if all(_near(mean, forward) for mean, forward, *_ in seen):
        return
    if all(_near(mean, back) for mean, _, back, _ in seen):
        raise Misconception("the mean of these terms is KL(reference || policy)", "KL is a distance")
    if all(_near(mean, -back) for mean, _, back, _ in seen):
        raise Misconception("the log-ratio is right for samples of the policy; here the reference drew them, and the "
                            "mean is minus the other KL", "any samples will do")
    if all(_near(mean, -forward) for mean, forward, *_ in seen):
        raise Misconception("the size is right, the sign is not: log policy minus log reference", "ratio upside down")
    if all(_near(tilted, forward) for *_, forward, _, tilted in seen):
        raise Misconception("these terms would be right for samples of the policy", "any samples will do")
    raise Misconception("the mean of the terms over the reference's samples is not KL(policy || reference)",
                        "wrong weights")


def _discount(answer, rng):
    """needed(reward, gamma, extra) -> reward that a text `extra` tokens longer must end with, to tie at the start."""
    for i in TWENTY:
        reward, gamma, extra = float(rng.uniform(0.5, 4)), float(rng.uniform(0.8, 1)), int(rng.integers(1, 60))
        gamma = 1.0 if i == 7 else gamma
        right, got = reward * gamma ** -extra, _number(answer(reward, gamma, extra))
        if abs(got - right) <= 1e-6 * right:
            continue
        near = {reward: ("with gamma below 1 the same reward is worth less when it comes later",
                         "gamma is harmless in one-turn tasks"),
                reward * gamma**extra: ("the longer text needs more reward, not less", "discount upside down"),
                reward * gamma ** -(extra + 1): ("count the extra steps only: the common ones cancel", "off by one"),
                reward * gamma ** -(extra - 1): ("count the extra steps only: the common ones cancel", "off by one"),
                reward * (1 + (1 - gamma) * extra): ("discounts multiply, they do not add", "linear discounting"),
                reward / gamma: ("every extra token discounts once more", "one discount a text")}
        for value, message in near.items():
            if abs(got - value) <= 1e-6 * right:
                raise Misconception(*message)
        raise Misconception("the two discounted returns at the first token are not equal", "no tie")


def _answer_logps(answer, rng):
    """answer_logps(logits, ids, mask) -> (B, L-1): log-probability of token t+1 at place t, 0 where token t+1 does not count."""
    for _ in TWENTY:
        rows, width, vocab = int(rng.integers(2, 5)), int(rng.integers(3, 8)), int(rng.integers(3, 9))
        ids = torch.from_numpy(rng.integers(0, vocab, (rows, width)))
        logits = torch.from_numpy(2 * rng.standard_normal((rows, width, vocab)))
        mask = torch.from_numpy((rng.random((rows, width)) < 0.6).astype("float32"))
        mask[:, -1], mask[0, :2] = 1.0, torch.tensor([1.0, 0.0])
        logp = logits.log_softmax(-1)
        right = logp[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
        got = torch.as_tensor(answer(logits.clone(), ids.clone(), mask.clone()))
        if got.shape == (rows,):
            raise Misconception("one number a token was asked for, not one a text", "already summed")
        if got.shape == ids.shape:
            raise Misconception("the last place has no next token, so the result is one column shorter", "a label for the end")
        if got.shape != right.shape:
            raise Misconception(f"shape {tuple(right.shape)} was asked for, this is {tuple(got.shape)}", "wrong shape")
        near = {name: torch.allclose(got.double(), x.double(), atol=1e-6) for name, x in {
            "right": right * mask[:, 1:], "unmasked": right, "mask of the place": right * mask[:, :-1],
            "same token": logp.gather(2, ids[..., None])[..., 0][:, :-1] * mask[:, 1:],
            "probability": right.exp() * mask[:, 1:], "loss": -right * mask[:, 1:]}.items()}
        if near["right"]:
            continue
        if near["same token"]:
            raise Misconception("place t is scored on token t, which it has just read", "labels not shifted")
        if near["mask of the place"]:
            raise Misconception("the mask moves with the labels: token t + 1 decides whether place t counts", "mask not shifted")
        if near["unmasked"]:
            raise Misconception("tokens that do not count are 0", "no mask")
        if near["probability"]:
            raise Misconception("probabilities; log-probabilities were asked for", "no logarithm")
        if near["loss"]:
            raise Misconception("the sign: a log-probability is never above 0", "loss for log-probability")
        raise Misconception("these are not the log-probabilities of the next tokens", "another number")


CHECKS = {"3.1": _answer_logps, "3.2": _offset, "3.3": _kl_elsewhere, "3.4": _uniform_gap, "3.5": _discount, "3.6": _pooled}
