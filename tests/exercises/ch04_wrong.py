"""Answers to the exercises of chapter 4: right ones, written in two ways, and wrong ones with the message they earn."""

import math

import torch

from rlhf_minimal.evaluate.exact import free_energy, tilted


def _kl(p, q):
    return (p.exp() * (p - q)).sum()


def _search(optimum, kl, budget, up=True):
    """Bisect log beta until kl(optimum(beta)) is the budget."""
    low, high = math.log(1e-3), math.log(1e3)
    for _ in range(70):
        middle = (low + high) / 2
        raise_beta = (kl(optimum(math.exp(middle))) > budget) == up
        low, high = (middle, high) if raise_beta else (low, middle)
    return math.exp(low)


def budget_bisect(logp_ref, reward, budget):
    return _search(lambda b: tilted(logp_ref, reward, b), lambda p: _kl(p, logp_ref), budget)


def budget_newton(logp_ref, reward, budget):
    """Newton in 1 / beta: d KL / d(1 / beta) = variance of the reward / beta."""
    x = 1e-3
    for _ in range(500):
        logp = torch.log_softmax(logp_ref + x * reward, -1)
        mean = (logp.exp() * reward).sum()
        slope = x * (logp.exp() * (reward - mean) ** 2).sum()
        x = max(x / 3, min(3 * x, x + float((budget - _kl(logp, logp_ref)) / slope)))
    return 1 / x


def budget_times(logp_ref, reward, budget):
    return _search(lambda b: tilted(logp_ref, reward, 1 / b), lambda p: _kl(p, logp_ref), budget, up=False)


def budget_reversed_kl(logp_ref, reward, budget):
    return _search(lambda b: tilted(logp_ref, reward, b), lambda p: _kl(logp_ref, p), budget)


def budget_wrong_way(logp_ref, reward, budget):
    return _search(lambda b: tilted(logp_ref, reward, b), lambda p: _kl(p, logp_ref), budget, up=False)


def budget_bits(logp_ref, reward, budget):
    return _search(lambda b: tilted(logp_ref, reward, b), lambda p: _kl(p, logp_ref) / math.log(2), budget)


def place_index(score, mask):
    out = torch.zeros_like(mask)
    for i, row in enumerate(mask):
        out[i, row.nonzero()[-1]] = score[i]
    return out


def place_cumsum(score, mask):
    after = mask.flip(1).cumsum(1).flip(1)
    return score[:, None] * ((after == 1) & (mask == 1))


def good_lines(kl, reward, logp_ref, r):
    return any(reward > free_energy(logp_ref, r, b) + b * kl + 1e-9 for b in torch.logspace(-2, 2, 300).tolist())


def good_budget(kl, reward, logp_ref, r):
    best = tilted(logp_ref, r, budget_bisect(logp_ref, r, kl))
    return bool(reward > (best.exp() * r).sum() + 1e-9)


def good_chord(kl, reward, logp_ref, r):
    start = (logp_ref.exp() * r).sum()
    return bool(reward > start + (r.max() - start) * kl / -logp_ref[r.argmax()])


def leash_loop(score, logp, logp_ref, beta):
    rewards = [-beta * (a - b) for a, b in zip(logp.tolist(), logp_ref.tolist(), strict=True)]
    rewards[-1] += score
    return rewards


def leash_whole(score, logp, logp_ref, beta):
    last = torch.arange(len(logp)) == len(logp) - 1
    return score * last - beta * (logp - logp_ref)


RIGHT = {
    "4.1": [leash_loop, leash_whole],
    "4.2": [lambda share, p, gap: gap / (math.log(share) - math.log(1 - share) - math.log(p) + math.log(1 - p)),
            lambda share, p, gap: gap / math.log(share * (1 - p) / (p * (1 - share)))],
    "4.3": [lambda: "c", lambda: "(C)"],
    "4.4": [budget_bisect, budget_newton],
    "4.5": [place_index, place_cumsum],
    "4.6": [good_lines, good_budget],
    "4.7": [lambda n, a, act: 4 * n * 2 + 2 * a * (4 + 4 + 8) + act,
            lambda n, a, act: sum([4 * n, 4 * n, *[4 * a] * 8, act])],
    "4.8": [lambda length, gamma: [gamma ** (length - 1 - t) for t in range(length)],
            lambda length, gamma: torch.tensor([1.0] + [gamma] * (length - 1), dtype=torch.float64).cumprod(0).flip(0)],
}

WRONG = {  # {exercise: {the misconception's name: answer}}
    "4.1": {
        "the leash pulls away": lambda score, logp, ref, beta: leash_whole(score, ref, logp, beta),
        "a score for every token": lambda score, logp, ref, beta: score - beta * (logp - ref),
        "the penalty comes at the end":
            lambda score, logp, ref, beta: [0.0] * (len(logp) - 1) + [score - beta * (logp - ref).sum()],
        "the last token is free": lambda score, logp, ref, beta: [*(-beta * (logp - ref))[:-1], score],
        "a nat costs one": lambda score, logp, ref, beta: leash_whole(score, logp, ref, 1.0),
        "the score comes before the answer":
            lambda score, logp, ref, beta: leash_whole(score, logp.flip(0), ref.flip(0), beta).flip(0),
        "another reward": lambda score, logp, ref, beta: logp,
        "the wrong shape": lambda score, logp, ref, beta: score,
    },
    "4.2": {
        "reward times beta": lambda share, p, gap: math.log(share * (1 - p) / (p * (1 - share))) / gap,
        "the reference does not matter": lambda share, p, gap: gap / math.log(share / (1 - share)),
        "probabilities for odds": lambda share, p, gap: gap / math.log(share / p),
        "other odds": lambda share, p, gap: gap,
        "the wrong kind of answer": lambda share, p, gap: "a lot",
    },
    "4.3": {
        "more of the same": lambda: "a",
        "a proxy checks itself": lambda: "b",
        "a small KL means no harm": lambda: "d",
        "no such option": lambda: "e",
        "the wrong kind of answer": lambda: 3,
    },
    "4.4": {
        "beta to 0 recovers the reference": budget_times,
        "KL is a distance": budget_reversed_kl,
        "a larger beta allows more KL": budget_wrong_way,
        "bits for nats": budget_bits,
        "beta does not depend on the budget": lambda logp_ref, reward, budget: 0.5,
        "beta is a reward, not a price": lambda logp_ref, reward, budget: -budget,
        "another quantity was matched": lambda logp_ref, reward, budget: budget,
        "the wrong kind of answer": lambda logp_ref, reward, budget: logp_ref,
    },
    "4.5": {
        "a reward for every token": lambda score, mask: score[:, None] * mask,
        "the score is divided among the tokens": lambda score, mask: score[:, None] * mask / mask.sum(1, keepdim=True),
        "the last column is the last token": lambda score, mask: score[:, None] * torch.eye(mask.shape[1])[-1],
        "the reward comes before the answer": lambda score, mask: score[:, None] * (mask.cumsum(1) == 1) * mask,
        "shift by one": lambda score, mask: place_index(score, mask).roll(1, dims=1),
        "the reward is in another place": lambda score, mask: mask,
        "the wrong shape": lambda score, mask: score,
    },
    "4.6": {
        "better optimisers beat the frontier": lambda kl, reward, logp_ref, r: bool(reward > r.max()),
        "reward without its price": lambda kl, reward, logp_ref, r: bool(reward > (logp_ref.exp() * r).sum()),
        "reward is proportional to KL": good_chord,
        "one beta draws the whole frontier":
            lambda kl, reward, logp_ref, r: bool(reward - kl > free_energy(logp_ref, r, 1.0)),
        "the detector upside down": lambda *args: not good_budget(*args),
        "a detector that always rings": lambda *args: True,
        "the wrong kind of answer": lambda kl, reward, logp_ref, r: kl,
        "the frontier is somewhere else": lambda kl, reward, logp_ref, r: bool(kl > 1),
    },
    "4.7": {
        "LoRA also frees the activations": lambda n, a, act: 8 * n + 32 * a,
        "the reference needs its own copy": lambda n, a, act: 12 * n + 32 * a + act,
        "the optimizer holds every weight": lambda n, a, act: 20 * n + 32 * a + act,
        "the critic comes for free": lambda n, a, act: 8 * n + 16 * a + act,
        "the judge comes for free": lambda n, a, act: 4 * n + 32 * a + act,
        "trained numbers cost as much as frozen ones": lambda n, a, act: 8 * n + 8 * a + act,
        "something is counted twice or not at all": lambda n, a, act: n,
    },
    "4.8": {
        "discount only affects long episodes": lambda length, gamma: [1.0] * length,
        "the discount counts from the first token": lambda length, gamma: [gamma**t for t in range(length)],
        "shift by one": lambda length, gamma: [gamma ** (length - t) for t in range(length)],
        "one discount for the whole answer": lambda length, gamma: [gamma**length] * length,
        "another discount": lambda length, gamma: [gamma] * length,
        "the wrong shape": lambda length, gamma: gamma,
    },
}
