"""A judge compares two lists of answers to the same prompts: verdicts, in both orders, for a win rate."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from ..village.annotator import Annotator
from ..village.crowd import swap_average


def verdicts(judge: Annotator, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], seed: int = 0) -> Tensor:
    """(N,) float64: 1 where the judge prefers the answer of `first`, 0 where that of `second`, ½ where its two verdicts differ.

    Each pair is shown in both orders, so that a bias for the first place cancels. Raises ValueError for unequal lengths.
    """
    if not len(prompts) == len(first) == len(second) or not len(prompts):
        raise ValueError(f"{len(prompts)} prompts, {len(first)} and {len(second)} answers: give one of each, at least one")
    rng = random.Random(f"{seed} verdicts")
    return torch.tensor([swap_average(judge, p, a, b, rng) for p, a, b in zip(prompts, first, second, strict=True)],
                        dtype=torch.float64)


def stored_answers(tokenizer, n: int, seed: int = 0, path=None) -> tuple[list[str], list[str]]:
    """n prompts of the pool, drawn by a seed, and the first stored answer of `village-3m-sft` to each. ValueError above 2,048."""
    from ..data.pool import pool

    wide = pool(path).select(source="wide")
    groups = list(wide.groups().values())
    if not 1 <= n <= len(groups):
        raise ValueError(f"{n} prompts: the pool has {len(groups)}; give 1 to that many")
    rows = [int(rows[0]) for rows in random.Random(f"{seed} stored").sample(groups, n)]
    return [wide.prompts[int(wide.prompt[row])] for row in rows], wide.texts(rows, tokenizer)
