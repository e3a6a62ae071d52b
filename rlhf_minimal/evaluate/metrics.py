"""Evaluation: numbers with their uncertainty. A difference without an interval is a rumour."""

import math
from collections import Counter

import torch

from ..tensors import check_no_nan, check_shapes, masked_mean


def _pair(a, b):
    """Two equally long lists or tensors of numbers as float64 (N,), N >= 1, without NaN."""
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    check_shapes(a=a, b=b)
    check_no_nan(a=a, b=b)
    if a.dim() != 1 or not len(a):
        raise ValueError(f"shape {tuple(a.shape)}: give one number an item, shape (N,) with N >= 1")
    return a, b


def _chosen_all(n, correct, k, *, none):
    """C(correct, k) / C(n, k), or with `none` C(n - correct, k) / C(n, k), in whole numbers until the division."""
    n, correct, k = int(n), int(correct), int(k)
    if not (0 <= correct <= n and 1 <= k <= n):
        raise ValueError(f"n={n}, correct={correct}, k={k}: need 0 <= correct <= n and 1 <= k <= n samples")
    part, total = math.comb(n - correct if none else correct, k), math.comb(n, k)
    return (total - part) / total if none else part / total


def _elementwise(fn, *args):
    """fn of plain numbers, over tensors of one (broadcast) shape if any of the arguments is one."""
    if not any(torch.is_tensor(x) for x in args):
        return fn(*args)
    args = torch.broadcast_tensors(*[torch.as_tensor(x) for x in args])
    out = [fn(*items) for items in zip(*[x.flatten().tolist() for x in args], strict=True)]
    return torch.tensor(out, dtype=torch.float64).reshape(args[0].shape)


def pass_at_k(n, correct, k):
    """Chance that at least one of k of the n samples is correct: 1 - C(n-c, k) / C(n, k), unbiased (I3).

    Numbers or tensors; ValueError unless c <= n, 1 <= k <= n. 1 - (1 - c/n)^k is biased downwards.
    https://arxiv.org/abs/2107.03374

    >>> pass_at_k(4, 1, 2)  # 1 - 3/6
    0.5
    """
    return _elementwise(lambda *x: _chosen_all(*x, none=True), n, correct, k)


def pass_hat_k(n, correct, k):
    """pass^k: chance that *all* of k of the n samples are correct, C(c, k) / C(n, k), unbiased. Numbers or tensors.

    >>> round(pass_hat_k(4, 2, 2), 4)  # 1/6
    0.1667
    """
    return _elementwise(lambda *x: _chosen_all(*x, none=False), n, correct, k)


def wilson(rate, n, z=1.959964):
    """Wilson's 95 % interval of a rate over n items: inside [0, 1], mirror symmetric, of some width even at 0 and 1."""

    def upper(p):
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return min(1.0, (centre + half) / (1 + z * z / n))

    return 1 - upper(1 - rate), upper(rate)


def win_rate(a, b):
    """Share of items on which a beats b, ties 1/2 -> (rate, low, high), Wilson's 95 % interval (I4).

    a, b: N numbers each, item by item. Ties count as coin flips: with many the interval is too wide, never too narrow.
    ValueError on lists of unequal or no length, on a NaN.

    >>> rate, low, high = win_rate([1, 1, 0, 0], [0, 0, 0, 1])  # two wins, a tie, a loss
    >>> rate, 0 < low < rate < high < 1
    (0.625, True)
    """
    a, b = _pair(a, b)
    rate = ((a > b).sum().item() + (a == b).sum().item() / 2) / len(a)
    return rate, *wilson(rate, len(a))


def paired_bootstrap(a, b, *, seed=0, resamples=4000, level=0.95):
    """Mean of a - b over the same items -> (difference, low, high), the percentile interval over resampled items."""
    a, b = _pair(a, b)
    rows = torch.randint(len(a), (resamples, len(a)), generator=torch.Generator().manual_seed(seed))
    means = (a - b)[rows].mean(1)
    low, high = torch.quantile(means, torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    return (a - b).mean().item(), low, high


def expected_calibration_error(prob, label, bins=10):
    """Mean over items of |mean probability - share of 1s| in the item's bin of equal width. label 0/1.

    >>> round(expected_calibration_error([0.8, 0.8], [1, 0]), 4)
    0.3
    """
    prob, label = _pair(prob, label)
    if prob.min() < 0 or prob.max() > 1:
        raise ValueError(f"probabilities from {prob.min().item()} to {prob.max().item()}; they lie in [0, 1]")
    where = (prob * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64).index_add(0, where, prob - label)
    return (gaps.abs().sum() / len(prob)).item()


def _ranks(x):
    """Ranks from 1, equal values share their mean rank."""
    below, same = (x[None, :] < x[:, None]).sum(1), (x[None, :] == x[:, None]).sum(1)
    return below + (same + 1) / 2


def spearman(a, b):
    """Rank correlation of two lists of N >= 2 numbers, ties with their mean rank. ValueError where one is constant.

    >>> round(spearman([1, 2, 3], [10, 30, 20]), 4)
    0.5
    """
    a, b = (_ranks(x).double() for x in _pair(a, b))
    a, b = a - a.mean(), b - b.mean()
    if not (a.any() and b.any()):
        raise ValueError(f"{len(a)} items of which one side is constant: a rank correlation needs two lists that vary")
    return (a @ b / (a.norm() * b.norm())).item()


def perplexity(logp, mask):
    """exp(mean NLL over all masked tokens): token-weighted, not a mean over texts (I5). logp, mask (B, T).

    >>> round(perplexity(torch.tensor([[0.5, 0.5]]).log(), torch.ones(1, 2)), 4)
    2.0
    """
    return masked_mean(-logp, mask).exp().item()


def _grams(text, n):
    words = text.split()
    return Counter(zip(*[words[i:] for i in range(n)], strict=False))


def distinct_n(texts, n):
    """Different n-grams of words / all n-grams, over all the texts together; 0 where there are none.

    >>> distinct_n(["a b", "a c"], 1)
    0.75
    """
    counts = sum((_grams(text, n) for text in texts), Counter())
    return len(counts) / counts.total() if counts else 0.0


def _f1(hits, candidate, reference):
    return 2 * hits / (candidate + reference) if hits else 0.0


def rouge_n(candidate, reference, n=1):
    """F1 of the n-grams of words that two texts share, each counted as often as in both.

    >>> rouge_n("the cat", "the dog")
    0.5
    """
    a, b = _grams(candidate, n), _grams(reference, n)
    return _f1((a & b).total(), a.total(), b.total())


def rouge_l(candidate, reference):
    """F1 of the longest common subsequence of words.

    >>> rouge_l("the cat sat", "sat the cat")
    0.6666666666666666
    """
    a, b = candidate.split(), reference.split()
    row = [0] * (len(b) + 1)
    for word in a:
        last = row
        row = [0]
        for j, other in enumerate(b):
            row.append(last[j] + 1 if word == other else max(row[j], last[j + 1]))
    return _f1(row[-1], len(a), len(b))


def cohen_kappa(a, b):
    """Agreement of two raters beyond chance: (observed - expected) / (1 - expected). Two lists of labels.

    >>> cohen_kappa("aabb", "aaab")  # seen 3/4, by chance 1/2
    0.5
    """
    a, b = list(a), list(b)
    if len(a) != len(b) or not a:
        raise ValueError(f"{len(a)} and {len(b)} labels: give two lists of one length, at least 1")
    seen, left, right = sum(x == y for x, y in zip(a, b, strict=True)) / len(a), Counter(a), Counter(b)
    chance = sum(left[x] * right[x] for x in left) / len(a) ** 2
    if chance == 1:
        raise ValueError("both raters gave one label to everything: agreement beyond chance is undefined")
    return (seen - chance) / (1 - chance)


def gold_table(rows):
    """Markdown table: mean ± standard error a family. rows: dicts with "family" and numbers, all with the same keys."""
    rows = list(rows)
    columns = [key for key in rows[0] if key != "family"] if rows else []
    if not columns:
        raise ValueError(f"{len(rows)} rows with columns {columns}: give dicts with 'family' and at least one number")

    def cell(values):
        x = torch.tensor([float(v) for v in values], dtype=torch.float64)
        return f"{x.mean():.2f} ± {x.std() / len(x) ** 0.5:.2f}" if len(x) > 1 else f"{x.mean():.2f}"

    lines = ["| family | n | " + " | ".join(columns) + " |", "|---|" + "---:|" * (1 + len(columns))]
    for family in [*dict.fromkeys(row["family"] for row in rows), None]:
        part = [row for row in rows if family in (None, row["family"])]
        cells = [cell(row[key] for row in part) for key in columns]
        lines.append(f"| {'all' if family is None else family} | {len(part)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
