"""Metrics, with their uncertainty: a difference without an interval is a rumour."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from ..tensors import check_no_nan, check_shapes, masked_mean

Numbers = Sequence[float] | Tensor


def check_paired(a: Numbers, b: Numbers) -> tuple[Tensor, Tensor]:
    """Two equally long lists of numbers as float64 (N,). Raises ValueError unless N >= 1 and there is no NaN."""
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    check_shapes(a=a, b=b)
    check_no_nan(a=a, b=b)
    if a.dim() != 1 or not len(a):
        raise ValueError(f"shape {tuple(a.shape)}: give one number per item, shape (N,) with N >= 1")
    return a, b


# ---- accuracy of repeated samples ----

def check_samples(n: int, correct: int, k: int) -> None:
    """Raise ValueError unless 0 <= correct <= n and 1 <= k <= n."""
    if not (0 <= correct <= n and 1 <= k <= n):
        raise ValueError(f"n={n}, correct={correct}, k={k}: need 0 <= correct <= n and 1 <= k <= n samples")


def elementwise(fn: Callable, *args: float | Tensor) -> float | Tensor:
    """fn of plain whole numbers; over tensors of one (broadcast) shape if any of the arguments is one."""
    if not any(torch.is_tensor(x) for x in args):
        return fn(*(int(x) for x in args))
    args = torch.broadcast_tensors(*[torch.as_tensor(x) for x in args])
    out = [fn(*(int(x) for x in items)) for items in zip(*[x.flatten().tolist() for x in args], strict=True)]
    return torch.tensor(out, dtype=torch.float64).reshape(args[0].shape)


def pass_at_k(n: int | Tensor, correct: int | Tensor, k: int | Tensor) -> float | Tensor:
    """pass@k: the chance that at least one of k of the n samples is correct, 1 - C(n - c, k) / C(n, k).

    Numbers, or tensors of one shape. Unbiased, where 1 - (1 - c/n)^k is too low on average. Returns a number or a float64
    tensor. Raises ValueError unless 0 <= correct <= n and 1 <= k <= n. Chen et al. 2021, https://arxiv.org/abs/2107.03374

    >>> pass_at_k(4, 1, 2)  # 1 - 3/6
    0.5
    """
    def chance(n: int, c: int, k: int) -> float:
        check_samples(n, c, k)
        return (math.comb(n, k) - math.comb(n - c, k)) / math.comb(n, k)  # whole numbers until the division

    return elementwise(chance, n, correct, k)


def pass_hat_k(n: int | Tensor, correct: int | Tensor, k: int | Tensor) -> float | Tensor:
    """pass^k: the chance that *all* of k of the n samples are correct, C(c, k) / C(n, k), unbiased.

    Takes, returns and raises as `pass_at_k`.

    >>> round(pass_hat_k(4, 2, 2), 4)  # 1/6
    0.1667
    """
    def chance(n: int, c: int, k: int) -> float:
        check_samples(n, c, k)
        return math.comb(c, k) / math.comb(n, k)

    return elementwise(chance, n, correct, k)


# ---- wins and differences, with intervals ----

def wilson(rate: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval (95 %) of a rate over n items: (low, high).

    It lies inside 0 to 1, is mirror symmetric, and has some width even where the rate is 0 or 1.
    """
    def upper(p: float) -> float:
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return min(1.0, (centre + half) / (1 + z * z / n))

    return 1 - upper(1 - rate), upper(rate)


def win_rate(a: Numbers, b: Numbers) -> tuple[float, float, float]:
    """The share of items on which a beats b, ties counted half, with Wilson's 95 % interval.

    a, b: N numbers each, item by item. Ties count as coin flips: with many of them the interval is too wide, never too
    narrow. Returns (rate, low, high). Raises ValueError for lists of unequal or no length and for a NaN.

    >>> rate, low, high = win_rate([1, 1, 0, 0], [0, 0, 0, 1])  # two wins, a tie, a loss
    >>> rate, 0 < low < rate < high < 1
    (0.625, True)
    """
    a, b = check_paired(a, b)
    rate = ((a > b).sum().item() + (a == b).sum().item() / 2) / len(a)
    return rate, *wilson(rate, len(a))


def paired_bootstrap(
    a: Numbers, b: Numbers, *, seed: int = 0, resamples: int = 4000, level: float = 0.95,
) -> tuple[float, float, float]:
    """The mean of a - b over the same items, with the percentile interval over resampled items.

    a, b: N numbers each. Returns (difference, low, high). Raises ValueError as `win_rate`.
    """
    a, b = check_paired(a, b)
    rows = torch.randint(len(a), (resamples, len(a)), generator=torch.Generator().manual_seed(seed))
    means = (a - b)[rows].mean(1)
    low, high = torch.quantile(means, torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    return (a - b).mean().item(), low, high


# ---- calibration, rank correlation, perplexity ----

def expected_calibration_error(prob: Numbers, label: Numbers, bins: int = 10) -> float:
    """How far stated probabilities are from what happens: mean over items of |mean probability - share of 1s| in a bin.

    prob (N,) from 0 to 1; label (N,), 0 or 1. The bins have equal width. Raises ValueError for a probability outside 0 to
    1, and as `win_rate`.

    >>> round(expected_calibration_error([0.8, 0.8], [1, 0]), 4)
    0.3
    """
    prob, label = check_paired(prob, label)
    if prob.min() < 0 or prob.max() > 1:
        raise ValueError(f"probabilities from {prob.min().item()} to {prob.max().item()}; they lie in [0, 1]")
    where = (prob * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64).index_add(0, where, prob - label)
    return (gaps.abs().sum() / len(prob)).item()


def reliability(prob: Numbers, label: Numbers, bins: int = 8, least: int = 20) -> tuple[list[float], list[float]]:
    """A reliability curve: in each bin of equal width with at least `least` items, (mean probabilities, shares of ones).

    prob (N,) from 0 to 1; label (N,), 0 or 1. Where both lists agree, a predicted probability is one.

    >>> reliability([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], bins=2, least=2)
    ([0.1, 0.9], [0.0, 0.5])
    """
    prob, label = check_paired(prob, label)
    where = (prob * bins).long().clamp(max=bins - 1)
    full = [where == b for b in range(bins) if (where == b).sum() >= least]
    return [prob[b].mean().item() for b in full], [label[b].mean().item() for b in full]


def base_rate_shift(logit: Tensor, rate: float) -> float:
    """The one number to add to all logits (N,) so that their mean probability becomes `rate`, between 0 and 1.

    >>> round(base_rate_shift(torch.zeros(3), 0.75), 4)  # log 3
    1.0986
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate is {rate}; a mean probability lies between 0 and 1, both excluded")
    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if torch.sigmoid(logit.double() + middle).mean() < rate else (low, middle)
    return (low + high) / 2


def ranks(x: Tensor) -> Tensor:
    """Ranks from 1, (N,) -> (N,); equal values share their mean rank."""
    below, same = (x[None, :] < x[:, None]).sum(1), (x[None, :] == x[:, None]).sum(1)
    return below + (same + 1) / 2


def spearman(a: Numbers, b: Numbers) -> float:
    """Rank correlation of two lists of N numbers; equal numbers share their mean rank.

    Raises ValueError where one list is constant, and as `win_rate`.

    >>> round(spearman([1, 2, 3], [10, 30, 20]), 4)
    0.5
    """
    a, b = (ranks(x).double() for x in check_paired(a, b))
    a, b = a - a.mean(), b - b.mean()
    if not (a.any() and b.any()):
        raise ValueError(f"{len(a)} items of which one side is constant: a rank correlation needs two lists that vary")
    return (a @ b / (a.norm() * b.norm())).item()


def perplexity(logp: Tensor, mask: Tensor) -> float:
    """exp of the mean negative log-likelihood over all masked tokens. Long texts weigh more: it is no mean over texts.

    logp, mask (B, T), in nats. Raises ValueError as `masked_mean`.

    >>> round(perplexity(torch.tensor([[0.5, 0.5]]).log(), torch.ones(1, 2)), 4)
    2.0
    """
    return masked_mean(-logp, mask).exp().item()


# ---- texts ----

def word_ngrams(text: str, n: int) -> Counter:
    """How often each n-gram of words stands in a text."""
    words = text.split()
    return Counter(zip(*[words[i:] for i in range(n)], strict=False))


def distinct_n(texts: Iterable[str], n: int) -> float:
    """How varied texts are: the number of different n-grams of words / the number of all, over all the texts together.

    Returns 0 where there are no n-grams.

    >>> distinct_n(["a b", "a c"], 1)
    0.75
    """
    counts = sum((word_ngrams(text, n) for text in texts), Counter())
    return len(counts) / counts.total() if counts else 0.0


def rouge_n(candidate: str, reference: str, n: int = 1) -> float:
    """F1 of the n-grams of words that two texts share, each counted as often as in both.

    >>> rouge_n("the cat", "the dog")
    0.5
    """
    a, b = word_ngrams(candidate, n), word_ngrams(reference, n)
    shared = (a & b).total()
    return 2 * shared / (a.total() + b.total()) if shared else 0.0


def rouge_l(candidate: str, reference: str) -> float:
    """F1 of the longest common subsequence of words.

    >>> rouge_l("the cat sat", "sat the cat")
    0.6666666666666666
    """
    a, b = candidate.split(), reference.split()
    longest = [0] * (len(b) + 1)  # entry j: with the words of a so far and the first j words of b
    for word in a:
        before, longest = longest, [0]
        for j, other in enumerate(b):
            longest.append(before[j] + 1 if word == other else max(longest[j], before[j + 1]))
    return 2 * longest[-1] / (len(a) + len(b)) if longest[-1] else 0.0


def cohen_kappa(a: Sequence, b: Sequence) -> float:
    """Agreement of two raters beyond chance: (observed - expected) / (1 - expected).

    a, b: the labels that each gave to the same items. Raises ValueError for lists of unequal or no length, and where both
    gave one label to everything.

    >>> cohen_kappa("aabb", "aaab")  # observed 3/4, by chance 1/2
    0.5
    """
    a, b = list(a), list(b)
    if len(a) != len(b) or not a:
        raise ValueError(f"{len(a)} and {len(b)} labels: give two lists of one length, at least 1")
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
    count_a, count_b = Counter(a), Counter(b)
    expected = sum(count_a[x] * count_b[x] for x in count_a) / len(a) ** 2
    if expected == 1:
        raise ValueError("both raters gave one label to everything: agreement beyond chance is undefined")
    return (observed - expected) / (1 - expected)


def gold_table(rows: Iterable[dict]) -> str:
    """A Markdown table of means ± standard errors per family.

    rows: dicts with "family" and numbers, all with the same keys. Raises ValueError where there are no numbers.
    """
    rows = list(rows)
    columns = [key for key in rows[0] if key != "family"] if rows else []
    if not columns:
        raise ValueError(f"{len(rows)} rows with columns {columns}: give dicts with 'family' and at least one number")

    def cell(values: Iterable[float]) -> str:
        x = torch.tensor([float(v) for v in values], dtype=torch.float64)
        return f"{x.mean():.2f} ± {x.std() / len(x) ** 0.5:.2f}" if len(x) > 1 else f"{x.mean():.2f}"

    lines = ["| family | n | " + " | ".join(columns) + " |", "|---|" + "---:|" * (1 + len(columns))]
    for family in [*dict.fromkeys(row["family"] for row in rows), None]:
        part = [row for row in rows if family in (None, row["family"])]
        cells = [cell(row[key] for row in part) for key in columns]
        lines.append(f"| {'all' if family is None else family} | {len(part)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
