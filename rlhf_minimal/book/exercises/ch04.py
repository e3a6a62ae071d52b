"""Checks of chapter 4: the reward of a token, beta, a result to judge; then budgets, the frontier, discounts, memory."""

import numpy
import torch

from . import Misconception
from .answers import array, letter, number, tensors

SIZES = (3, 5, 8, 15, 30)  # how many answers the little worlds of the checks have


def _world(rng, n):
    """Log-probabilities of a reference and rewards of n answers, one clearly the best; float64 arrays."""
    logits, reward = rng.normal(0, 1.2, n), rng.normal(0, 1.0, n)
    reward[reward.argmax()] += 0.4
    return logits - numpy.log(numpy.exp(logits).sum()), reward


def _optimum(ref, reward, beta):
    """log of ref * exp(reward / beta) / Z; safe for tiny beta."""
    logits = ref + reward / beta
    logits = logits - logits.max()
    return logits - numpy.log(numpy.exp(logits).sum())


def _kl(p, q):
    return float((numpy.exp(p) * (p - q)).sum())


def _beta(ref, reward, budget, kl=lambda best, ref: _kl(best, ref)):
    """The beta whose optimum spends `budget` nats: KL falls as beta rises, so bisect on its logarithm."""
    low, high = -9.0, 9.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if kl(_optimum(ref, reward, numpy.exp(middle)), ref) > budget else (low, middle)
    return float(numpy.exp(low))


def leash_per_token(answer, rng):
    """4.1: the KL penalty on every token of one answer, the score on the last."""
    cases = []
    for _ in range(24):
        n, beta = int(rng.integers(2, 9)), float(rng.uniform(0.02, 0.5))
        logp, ref, score = -rng.exponential(1.0, n), -rng.exponential(1.0, n), float(rng.normal(0, 2))
        got = array(answer(score, *tensors(logp, ref), beta), (n,), "the answer")
        cases.append((score, logp, ref, beta, got))

    def is_(formula):
        return all(numpy.allclose(got, formula(s, p - q, b, numpy.eye(len(p))[-1]), atol=1e-6) for s, p, q, b, got in cases)

    if is_(lambda s, gap, b, last: s * last - b * gap):
        return
    if is_(lambda s, gap, b, last: s * last + b * gap):
        raise Misconception("the penalty has the wrong sign: a token that became more likely must pay",
                            "the leash pulls away")
    if is_(lambda s, gap, b, last: s - b * gap):
        raise Misconception("every token gets the whole score: the rewards of an answer then sum to more than it earned",
                            "a score for every token")
    if is_(lambda s, gap, b, last: (s - b * gap.sum()) * last):
        raise Misconception("the whole penalty sits on the last token; each token pays for itself",
                            "the penalty comes at the end")
    if is_(lambda s, gap, b, last: s * last - b * gap * (1 - last)):
        raise Misconception("the last token pays no penalty; it gets the score and pays as well", "the last token is free")
    if is_(lambda s, gap, b, last: s * last - gap):
        raise Misconception("beta is missing: each nat costs beta", "a nat costs one")
    if is_(lambda s, gap, b, last: s * last[::-1] - b * gap):
        raise Misconception("the score sits on the first token; it is known when the answer ends",
                            "the score comes before the answer")
    raise Misconception("the rewards are not -beta (logp - logp_ref), with the score added to the last one",
                        "another reward")


def beta_for_refusals(answer, rng):
    """4.2: the beta at which the best of two answers' policies refuses with a given probability."""
    cases = []
    for _ in range(24):
        p, gap = float(rng.uniform(0.05, 0.6)), float(rng.uniform(0.2, 3))
        share = float(rng.uniform(p + 0.1, 0.97))
        cases.append((share, p, gap, number(answer(share, p, gap), "beta")))

    def is_(formula):
        return all(abs(got - formula(s / (1 - s), p / (1 - p), gap)) < 1e-4 * abs(got) for s, p, gap, got in cases)

    if is_(lambda wanted, had, gap: gap / numpy.log(wanted / had)):
        return
    if is_(lambda wanted, had, gap: numpy.log(wanted / had) / gap):
        raise Misconception("upside down: this is 1 / beta", "reward times beta")
    if is_(lambda wanted, had, gap: gap / numpy.log(wanted)):
        raise Misconception("the odds under the reference are missing: the formula multiplies them",
                            "the reference does not matter")
    if is_(lambda wanted, had, gap: gap / numpy.log(wanted / (1 + wanted) * (1 + had) / had)):
        raise Misconception("beta multiplies odds, p / (1 - p), not probabilities", "probabilities for odds")
    raise Misconception("at this beta the best policy refuses with another probability", "other odds")


def first_question(answer, rng):
    """4.3: which one measurement would have found the over-refusal?"""
    chosen = letter(answer)
    if chosen == "c":
        return
    if chosen == "a":
        raise Misconception("more raters on the same prompts measure the wrong thing better", "more of the same")
    if chosen == "b":
        raise Misconception("the held-out score rose in our run, too", "a proxy checks itself")
    if chosen == "d":
        raise Misconception("in our run the KL was a few nats, and the look-alikes were refused", "a small KL means no harm")
    raise Misconception("give one of a, b, c, d", "no such option")


def beta_for_budget(answer, rng):
    """4.4: the beta whose best policy spends exactly the budget."""
    cases = []
    for k in range(25):
        ref, reward = _world(rng, SIZES[k % len(SIZES)])
        budget = float(rng.uniform(0.05, 0.8) * -ref[reward.argmax()])
        cases.append((ref, reward, budget, number(answer(*tensors(ref, reward), budget), "beta")))
    spent = [_kl(_optimum(ref, r, max(b, 1e-4)), ref) if b > 0 else -1.0 for ref, r, _, b in cases]
    if all(abs(s - c[2]) < 1e-3 * c[2] for s, c in zip(spent, cases, strict=True)):
        return

    def always(test):
        return all(test(*case) for case in cases)

    if always(lambda ref, r, budget, b: b <= 0):
        raise Misconception("beta must be above 0", "beta is a reward, not a price")
    if len({round(c[3], 6) for c in cases}) == 1:
        raise Misconception("the same beta comes out for every budget", "beta does not depend on the budget")
    if always(lambda ref, r, budget, b: abs(b * _beta(ref, r, budget) - 1) < 1e-2):
        raise Misconception("beta comes out upside down: with reward * beta, small beta means the reference; the best "
                            "policy has reward / beta", "beta to 0 recovers the reference")
    if always(lambda ref, r, budget, b: abs(_kl(ref, _optimum(ref, r, b)) - budget) < 1e-2 * budget):
        raise Misconception("this spends the budget in KL(reference || policy); the leash is KL(policy || reference), "
                            "an average over what the *policy* writes", "KL is a distance")
    if always(lambda ref, r, budget, b: abs(_kl(_optimum(ref, r, b), ref) / numpy.log(2) - budget) < 1e-2 * budget):
        raise Misconception("the budget is in nats, this spends it in bits", "bits for nats")
    if always(lambda ref, r, budget, b: not 1e-2 < b / _beta(ref, r, budget) < 1e2):
        raise Misconception("the search runs to its end: where KL is above the budget, beta has to *rise*",
                            "a larger beta allows more KL")
    raise Misconception("the best policy at this beta does not spend the budget", "another quantity was matched")


def token_rewards(answer, rng):
    """4.5: one score an answer, placed so that every token's reward-to-go is that score."""
    seen = []
    for k in range(24):
        rows, width = int(rng.integers(1, 6)), int(rng.integers(2, 8))
        if k % 4 == 3:
            width = rows = 4  # a row number must not be taken for a column
        length = rng.integers(1, width + 1, rows)
        mask = (numpy.arange(width) < length[:, None]).astype(float)
        if k % 5 == 4 and width > 2:
            mask[:, 1:-1] *= rng.random((rows, width - 2)) > 0.5  # a tool's output was pasted in the middle
        score = rng.normal(0, 2, rows)
        got = array(answer(*tensors(score, mask)), mask.shape, "the answer")
        seen.append((score, mask, got))
    ordinal = [(m.cumsum(1) - 1, m.sum(1, keepdims=True)) for _, m, _ in seen]
    first = [((c == 0) & (m > 0)) for (_, m, _), (c, _) in zip(seen, ordinal, strict=True)]
    last = [((c == n - 1) & (m > 0)) for (_, m, _), (c, n) in zip(seen, ordinal, strict=True)]

    def like(places):
        return all(numpy.allclose(got, s[:, None] * p, atol=1e-6)
                   for (s, _, got), p in zip(seen, places, strict=True))

    if like(last):
        return
    masks, counts = [m for _, m, _ in seen], [n for _, n in ordinal]
    if like(masks):
        raise Misconception("every token gets the whole score: a row now sums to score x length, and long answers win",
                            "a reward for every token")
    if like([m / n for m, n in zip(masks, counts, strict=True)]):
        raise Misconception("the score is shared out, so the reward-to-go shrinks token by token; the last token would "
                            "be blamed for a fraction of what the answer did", "the score is divided among the tokens")
    if like([numpy.eye(m.shape[1])[-1] * numpy.ones_like(m) for m in masks]):
        raise Misconception("the score sits in the last column, which is padding in short rows",
                            "the last column is the last token")
    if like(first):
        raise Misconception("the score sits on the first token: what follows sees a reward-to-go of 0",
                            "the reward comes before the answer")
    if like([numpy.roll(p, 1, axis=1) for p in last]) or like([numpy.roll(p, -1, axis=1) for p in last]):
        raise Misconception("the score is one place off the last masked token", "shift by one")
    raise Misconception("the score is not on the last token whose mask is 1, and nowhere else",
                        "the reward is in another place")


def _top_reward(ref, reward, kl):
    """The frontier: the largest reward of any policy at this KL."""
    return float(numpy.exp(_optimum(ref, reward, _beta(ref, reward, kl))) @ reward)


def too_good(answer, rng):
    """4.6: which claimed (KL, reward) can no policy reach?"""
    cases = []  # (arguments, truth)
    for k in range(30):
        ref, reward = _world(rng, SIZES[k % len(SIZES)])
        start, kl = float(numpy.exp(ref) @ reward), float(rng.uniform(0.1, 0.7) * -ref[reward.argmax()])
        top = _top_reward(ref, reward, kl)
        gain = top - start
        chord = (reward.max() - start) * kl / -ref[reward.argmax()]
        for claim, truth in ((top + 0.04 * gain, True), (top - 0.04 * gain, False), (start + chord / 2, False),
                             (start - chord / 2, False), (reward.max() + gain, True)):
            cases.append(((kl, float(claim), ref, reward), truth))
        policy = _optimum(ref, reward + rng.normal(0, 0.5, len(ref)), rng.uniform(0.3, 2.0))
        cases.append(((_kl(policy, ref), float(numpy.exp(policy) @ reward), ref, reward), False))
    said = []
    for (kl, claim, ref, reward), _ in cases:
        verdict = answer(kl, claim, *tensors(ref, reward))
        if torch.is_tensor(verdict) and verdict.dim() == 0:
            verdict = verdict.item()
        if not isinstance(verdict, (bool, numpy.bool_)):
            raise Misconception(f"the verdict is a {type(verdict).__name__}, expected True or False",
                                "the wrong kind of answer")
        said.append(bool(verdict))
    if said == [truth for _, truth in cases]:
        return

    def says(rule):
        return said == [bool(rule(*arguments)) for arguments, _ in cases]

    def chord(kl, claim, ref, reward):
        start, best = float(numpy.exp(ref) @ reward), reward.max()
        return claim > start + (best - start) * kl / -ref[reward.argmax()]

    if not any(said) or says(lambda kl, claim, ref, reward: claim > reward.max()):
        raise Misconception("a point above the frontier goes through: at this KL no policy has that reward, whatever "
                            "trained it", "better optimisers beat the frontier")
    if all(said):
        raise Misconception("it always sounds, also for policies that exist", "a detector that always rings")
    if says(lambda kl, claim, ref, reward: claim > float(numpy.exp(ref) @ reward)):
        raise Misconception("it sounds at any improvement on the reference; the KL that was spent does not enter",
                            "reward without its price")
    if says(chord):
        raise Misconception("the straight line from the reference to the best answer is too strict: the frontier is "
                            "concave and lies above it", "reward is proportional to KL")
    if says(lambda kl, claim, ref, reward: claim - kl > _free(ref, reward, 1.0)):
        raise Misconception("one beta gives one straight line that bounds the region; the frontier is the lowest of "
                            "all these lines", "one beta draws the whole frontier")
    if [not s for s in said] == [truth for _, truth in cases]:
        raise Misconception("True and False are swapped", "the detector upside down")
    missed = sum(truth and not s for s, (_, truth) in zip(said, cases, strict=True))
    refused = sum(s and not truth for s, (_, truth) in zip(said, cases, strict=True))
    raise Misconception(f"{missed} impossible claims go through, {refused} possible ones are refused",
                        "the frontier is somewhere else")


def _free(ref, reward, beta):
    return float(beta * numpy.log(numpy.exp(ref + reward / beta).sum()))


def lora_bytes(answer, rng):
    """4.7: memory of PPO with LoRA on one trunk and a frozen reward model."""
    cases = []
    for _ in range(24):
        n = int(rng.integers(10**5, 10**9))
        a, activations = int(n * rng.uniform(0.001, 0.05)), int(n * rng.uniform(0.5, 8))
        cases.append((n, a, activations, number(answer(n, a, activations), "the number of bytes")))

    def is_(formula):
        return all(abs(got - formula(n, a, act)) <= 1e-9 * formula(n, a, act) + 0.5 for n, a, act, got in cases)

    if is_(lambda n, a, act: 8 * n + 32 * a + act):
        return
    if is_(lambda n, a, act: 8 * n + 32 * a):
        raise Misconception("the activations are missing: gradients still flow through the frozen layers to the "
                            "adapters, so what the layers computed is kept", "LoRA also frees the activations")
    if is_(lambda n, a, act: 12 * n + 32 * a + act):
        raise Misconception("the reference is counted as a model of its own; it is the same trunk with the adapters "
                            "switched off", "the reference needs its own copy")
    if is_(lambda n, a, act: 16 * n + 32 * a + act) or is_(lambda n, a, act: 20 * n + 32 * a + act):
        raise Misconception("frozen weights have been given gradients or Adam's two moments",
                            "the optimizer holds every weight")
    if is_(lambda n, a, act: 8 * n + 16 * a + act):
        raise Misconception("one set of adapters is missing: policy and critic have one each",
                            "the critic comes for free")
    if is_(lambda n, a, act: 4 * n + 32 * a + act):
        raise Misconception("the reward model is missing: it is a second model", "the judge comes for free")
    if is_(lambda n, a, act: 8 * n + 8 * a + act) or is_(lambda n, a, act: 8 * n + 24 * a + act):
        raise Misconception("adapters are trained: weight, gradient and two moments make 16 bytes for each number",
                            "trained numbers cost as much as frozen ones")
    raise Misconception("the bytes do not add up: list what each of the two trunks and the two sets of adapters keeps",
                        "something is counted twice or not at all")


def discount_weights(answer, rng):
    """4.8: by which factor does the score of the finished answer reach each of its tokens?"""
    cases = []
    for k in range(24):
        length, gamma = int(rng.integers(2, 12)), 1.0 if k == 0 else float(rng.uniform(0.3, 0.99))
        cases.append((length, gamma, array(answer(length, gamma), (length,), "the answer")))

    def is_(power):
        return all(numpy.allclose(got, power(n, g, numpy.arange(n)), atol=1e-6) for n, g, got in cases)

    if is_(lambda n, g, t: g ** (n - 1.0 - t)):
        return
    if is_(lambda n, g, t: numpy.ones(n)):
        raise Misconception("with gamma below 1 the first token of even a short answer sees less of the score than the "
                            "last", "discount only affects long episodes")
    if is_(lambda n, g, t: g ** (1.0 * t)):
        raise Misconception("turned round: the score comes at the *end*, so the last token sees all of it",
                            "the discount counts from the first token")
    if is_(lambda n, g, t: g ** (n - 1.0 * t)):
        raise Misconception("the last token earns the score itself, undiscounted: count the steps *between* token and "
                            "reward", "shift by one")
    if is_(lambda n, g, t: numpy.full(n, g**n)) or is_(lambda n, g, t: numpy.full(n, g ** (n - 1.0))):
        raise Misconception("every token has the same factor; the discount is counted from each token on",
                            "one discount for the whole answer")
    raise Misconception("the factors are not gamma to the number of steps from the token to the end",
                        "another discount")


CHECKS = {"4.1": leash_per_token, "4.2": beta_for_refusals, "4.3": first_question, "4.4": beta_for_budget,
          "4.5": token_rewards, "4.6": too_good, "4.7": lora_bytes, "4.8": discount_weights}
