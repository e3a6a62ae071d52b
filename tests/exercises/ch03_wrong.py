"""Answers to the exercises of chapter 3: two right ones each, and wrong ones with the message they must get."""

import math

import torch


def nll(logits, ids, k, reduce=torch.mean):
    logp = logits.double().log_softmax(-1)[:, : ids.shape[1] - k]
    return reduce(-logp.gather(2, ids[:, k:, None]))


def backwards(logits, ids, k):
    return -logits.log_softmax(-1)[:, k:].gather(2, ids[:, : ids.shape[1] - k, None]).mean()


def best(loss):
    return lambda logits, ids: min(range(3), key=lambda k: loss(logits, ids, k).item())


def by_loops(logits, ids):
    means = []
    for k in (0, 1, 2):
        terms = [torch.logsumexp(logits[b, t], 0) - logits[b, t, ids[b, t + k]]
                 for b in range(ids.shape[0]) for t in range(ids.shape[1] - k)]
        means.append(float(sum(terms)) / len(terms))
    return means.index(min(means))


def next_logps(logits, ids, mask):
    return logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0] * mask[:, 1:]


def next_by_loops(logits, ids, mask):
    out = torch.zeros(ids.shape[0], ids.shape[1] - 1, dtype=torch.float64)
    for b in range(ids.shape[0]):
        for t in range(ids.shape[1] - 1):
            if mask[b, t + 1]:
                out[b, t] = logits[b, t, ids[b, t + 1]] - torch.logsumexp(logits[b, t], 0)
    return out


RIGHT = {
    "3.1": [next_logps, next_by_loops],
    "3.4": [lambda s, n, v: ((n - s) * math.log(v), 0.0),
            lambda s, n, v: (s * math.log(1 / v) - n * math.log(1 / v), math.log(1 / v) - math.log(1 / v))],
    "3.2": [best(nll), by_loops],
    "3.6": [lambda ppl, n: torch.exp((n * ppl.log()).sum() / n.sum()),
            lambda ppl, n: math.prod(float(p) ** (int(k) / int(n.sum())) for p, k in zip(ppl, n, strict=True))],
    "3.3": [lambda a, b: (a - b).exp() * (a - b),
            lambda a, b: (a - b).exp() * (a - b) - torch.expm1(a - b)],  # other terms, same mean
    "3.5": [lambda r, g, k: r / g**k, lambda r, g, k: math.exp(math.log(r) - k * math.log(g))],
}
WRONG = {
    "3.1": [("labels not shifted", lambda z, i, m: z.log_softmax(-1).gather(2, i[..., None])[:, :-1, 0] * m[:, 1:]),
            ("mask not shifted", lambda z, i, m: next_logps(z, i, torch.ones_like(m)) * m[:, :-1]),
            ("no mask", lambda z, i, m: next_logps(z, i, torch.ones_like(m))),
            ("no logarithm", lambda z, i, m: next_logps(z, i, torch.ones_like(m)).exp() * m[:, 1:]),
            ("loss for log-probability", lambda z, i, m: -next_logps(z, i, m)),
            ("already summed", lambda z, i, m: next_logps(z, i, m).sum(1)),
            ("a label for the end", lambda z, i, m: z.log_softmax(-1).gather(2, i[..., None])[..., 0] * m),
            ("wrong shape", lambda z, i, m: z.log_softmax(-1)),
            ("another number", lambda z, i, m: torch.zeros_like(next_logps(z, i, m)) - 7)],
    "3.4": [("a longer text is more probable", lambda s, n, v: ((s - n) * math.log(v), 0.0)),
            ("likelihood is quality", lambda s, n, v: ((n - s) * math.log(v), math.log(v))),
            ("likelihood is quality", lambda s, n, v: ((n - s) * math.log(v), (n - s) * math.log(v) / n)),
            ("bits for nats", lambda s, n, v: ((n - s) * math.log2(v), 0.0)),
            ("all texts are equally likely", lambda s, n, v: (0.0, 0.0)),
            ("wrong sum", lambda s, n, v: (n * math.log(v), 0.0)),
            ("wrong sum", lambda s, n, v: (math.nan, 0.0)),
            ("likelihood is quality", lambda s, n, v: ((n - s) * math.log(v), math.nan)),
            ("one answer", lambda s, n, v: (n - s) * math.log(v)),
            ("wrong sum", lambda s, n, v: (s, n))],
    "3.2": [("a low loss is good news", lambda logits, ids: 1),
            ("loss upside down", lambda logits, ids: max(range(3), key=lambda k: nll(logits, ids, k).item())),
            ("sum for mean", best(lambda *x: nll(*x, reduce=torch.sum))),
            ("shift to the left", best(backwards)),
            ("another offset", lambda logits, ids: 2),
            ("another offset", lambda logits, ids: best(nll)(logits, ids) + 1),
            ("one number was asked for", lambda logits, ids: logits)],
    "3.6": [("perplexity averages over texts", lambda ppl, n: ppl.mean()),
            ("text-weighted for token-weighted", lambda ppl, n: ppl.log().mean().exp()),
            ("arithmetic for geometric mean", lambda ppl, n: (n * ppl).sum() / n.sum()),
            ("loss for perplexity", lambda ppl, n: (n * ppl.log()).sum() / n.sum()),
            ("another average", lambda ppl, n: ppl.log().sum().exp()),
            ("another average", lambda ppl, n: math.nan),
            ("one number was asked for", lambda ppl, n: torch.stack([ppl, ppl]))],
    "3.3": [("KL is a distance", lambda a, b: b - a),
            ("any samples will do", lambda a, b: a - b),
            ("ratio upside down", lambda a, b: (a - b).exp() * (b - a)),
            ("wrong weights", lambda a, b: (b - a).exp() * (a - b)),
            ("already averaged", lambda a, b: ((a - b).exp() * (a - b)).mean()),
            ("wrong weights", lambda a, b: a),
            ("wrong weights", lambda a, b: torch.zeros_like(a)),
            ("wrong weights", lambda a, b: torch.full_like(a, math.nan))],
    "3.5": [("gamma is harmless in one-turn tasks", lambda r, g, k: r),
            ("discount upside down", lambda r, g, k: r * g**k),
            ("off by one", lambda r, g, k: r * g ** -(k + 1)),
            ("off by one", lambda r, g, k: r * g ** (1 - k)),
            ("linear discounting", lambda r, g, k: r * (1 + (1 - g) * k)),
            ("one discount a text", lambda r, g, k: r / g),
            ("no tie", lambda r, g, k: 1.0),
            ("no tie", lambda r, g, k: math.nan)],
}
