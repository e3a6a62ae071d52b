"""Power: how often a true difference between two models is called, and how many questions that takes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .intervals import Z
from .metrics import wilson


def outcomes(text: str) -> Tensor:
    """A stored row of outcomes, "0110…" -> (N,) float64. Raises ValueError for other characters.

    >>> outcomes("011").tolist()
    [0.0, 1.0, 1.0]
    """
    if not text or set(text) - {"0", "1"}:
        raise ValueError(f"outcomes {text[:20]!r}: expected 0 and 1 alone, at least one")
    return torch.tensor([float(c) for c in text], dtype=torch.float64)


def spread(a: Tensor, b: Tensor, paired: bool) -> float:
    """The variance of one question's share in the difference of two means.

    a, b (N,): outcomes of the same questions. paired: both models answer one question, Var(b − a); else each gets its own,
    Var a + Var b. The two differ by twice the covariance. Raises ValueError for other shapes.

    >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])
    >>> spread(a, b, False), spread(a, b, True)
    (1.0, 0.0)
    """
    if a.shape != b.shape or a.dim() != 1 or len(a) < 2:
        raise ValueError(f"a {tuple(a.shape)}, b {tuple(b.shape)}: give the outcomes of the same questions, 2 or more")
    return ((b - a).var() if paired else a.var() + b.var()).item()


def power(gap: float, variance: float, n: int) -> float:
    """The chance that a 95 % interval of the difference lies above 0, by the normal approximation: Φ(gap √(n / variance) − 1.96).

    gap: the true difference; variance: that of one question (`spread`); n questions. Raises ValueError unless both are above 0.

    >>> round(power(0.05, 0.5, 39_200), 2), round(power(0.01, 0.5, 39_200), 2)
    (1.0, 0.8)
    """
    if not variance > 0 or n < 1:
        raise ValueError(f"variance {variance}, n {n}: give a variance above 0 and at least one question")
    return 0.5 * math.erfc(-(gap * (n / variance) ** 0.5 - Z) / 2 ** 0.5)


def called(a: Tensor, b: Tensor, n: int, *, paired: bool, generator: torch.Generator, times: int = 2000) -> float:
    """How often an evaluation of n questions calls b better, in `times` evaluations drawn from N questions with replacement.

    a, b (N,): outcomes of the same questions. paired: both models get the n questions; else b gets n others. b is called
    better where the difference is more than 1.96 of its standard errors above 0.
    """
    spread(a, b, paired)  # for its checks
    rows = torch.randint(len(a), (times, n), generator=generator)
    other = rows if paired else torch.randint(len(a), (times, n), generator=generator)
    x, y = a[rows], b[other]
    error = ((y - x).var(1) if paired else x.var(1) + y.var(1)).div(n).sqrt()
    return (y.mean(1) - x.mean(1) > Z * error).double().mean().item()


def power_curves(pairs: Sequence[tuple[Tensor, Tensor]], ns: Sequence[int], generator: torch.Generator,
                 names: tuple[str, str] = ("same questions", "separate questions")) -> dict[str, tuple]:
    """{name: (ns, one row of chances for each pair of models)} for `plots.panels`: `called` with and without pairing."""
    return {name: (list(ns), [[called(a, b, n, paired=paired, generator=generator) for n in ns] for a, b in pairs])
            for name, paired in zip(names, (True, False), strict=True)}


def luck(passes: Tensor, ks: Sequence[int], generator: torch.Generator, times: int = 400) -> tuple[list[float], list[float]]:
    """Choose the best of k "checkpoints" that are one and the same model, for each k -> (gains where chosen, gains elsewhere).

    passes (Q, K): K answers of one model to each question. Each time the answers to every question are shuffled, so that a
    checkpoint is a column; a random half of the questions chooses the best of k columns, the others test it. A gain is its score
    minus the model's own mean on the same questions: the model has not changed, so every gain is luck. Means over `times`.
    Raises ValueError for a k above K or below 1.
    """
    if wrong := [k for k in ks if not 1 <= k <= passes.shape[1]]:
        raise ValueError(f"best of {wrong[0]}: there are {passes.shape[1]} columns")
    above, found = passes.double() - passes.double().mean(1, keepdim=True), torch.zeros(2, len(ks), dtype=torch.float64)
    for _ in range(times):
        table = above.gather(1, torch.rand(above.shape, generator=generator).argsort(1))
        order = torch.randperm(len(above), generator=generator)
        half = len(above) // 2
        on_dev, on_test = table[order[:half]].mean(0), table[order[half:]].mean(0)
        for i, k in enumerate(ks):
            best = on_dev[:k].argmax()
            found[:, i] += torch.stack([on_dev[best], on_test[best]]) / times
    return found[0].tolist(), found[1].tolist()


def with_range(passed: Tensor) -> str:
    """Outcomes (N,) as a table's cell: the share with Wilson's 95 % interval, in per cent.

    >>> with_range(outcomes("0110"))
    '50 % (15–85)'
    """
    low, high = wilson(passed.mean().item(), len(passed))
    return f"{100 * passed.mean().item():.0f} % ({100 * low:.0f}–{100 * high:.0f})"
