"""The village green: a small square grid with a hidden reward on its cells, in which walks are compared and rated.

Everything that a larger world must estimate is exact here: optimal values by value iteration, the worth of a policy by one
linear system. Cells are numbered row by row, 0 is the upper left one. A *segment* is a stretch of a walk, (T,) cell
numbers; its true reward is the sum over the cells that it enters.
"""

from functools import lru_cache

import torch
from torch import Tensor

SIZE, DISCOUNT = 8, 0.9
MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def neighbours(size: int = SIZE) -> Tensor:
    """Where each move leads: (size², 4) cell numbers, moves in the order of `MOVES`; a wall leaves the walker in place.

    >>> neighbours(2).tolist()
    [[0, 2, 0, 1], [1, 3, 0, 1], [0, 2, 2, 3], [1, 3, 2, 3]]
    """
    cell = torch.arange(size * size)
    row, column = cell // size, cell % size
    steps = [(row + dy).clamp(0, size - 1) * size + (column + dx).clamp(0, size - 1) for dy, dx in MOVES.values()]
    return torch.stack(steps, 1)


def true_reward(size: int = SIZE) -> Tensor:
    """The hidden reward of entering each cell, (size²,) in float64: meadows up to +1, a pond down to −1.

    A small meadow lies near the start (upper left), the best one in the far corner, the pond between them.
    """
    row, column = (torch.arange(size * size) // size).double(), (torch.arange(size * size) % size).double()

    def hill(y, x, width):
        return torch.exp(-((row - y * (size - 1)) ** 2 + (column - x * (size - 1)) ** 2) / (2 * width ** 2))

    return hill(0.9, 0.9, 1.2) + 0.35 * hill(0.15, 0.75, 0.9) - hill(0.5, 0.45, 1.3)


def action_values(reward: Tensor, discount: float = DISCOUNT, tolerance: float = 1e-10) -> Tensor:
    """Optimal value of each move, by value iteration: reward (N,) of entering a cell -> Q (N, 4).

    Q(s, a) = r(s′) + γ max Q(s′, ·) with s′ where the move leads. Iterated until no value moves by more than `tolerance`.
    Raises ValueError for a discount outside [0, 1) or a number of cells that is no square.

    >>> action_values(torch.tensor([0.0, 0.0, 0.0, 1.0]), 0.5).max(1).values.round(decimals=6).tolist()  # cell 3 again and again
    [1.0, 2.0, 2.0, 2.0]
    """
    to = _check(reward, discount)
    reward, value = reward.double(), torch.zeros(len(reward), dtype=torch.float64)
    while True:
        q = (reward + discount * value)[to]
        value, before = q.max(1).values, value
        if (value - before).abs().max() <= tolerance:
            return q


def greedy(q: Tensor) -> Tensor:
    """The policy that takes the best move: Q (N, 4) -> probabilities (N, 4). Of equal values the first move wins."""
    return torch.nn.functional.one_hot(q.argmax(1), q.shape[1]).double()


def best(reward: Tensor, discount: float = DISCOUNT) -> Tensor:
    """The best policy for a reward map (N,), exactly: probabilities (N, 4)."""
    return greedy(action_values(reward, discount))


def worth(policy: Tensor, reward: Tensor, start: int | None = None, discount: float = DISCOUNT) -> float:
    """Expected discounted return of a policy (N, 4), exactly: V = (I − γP)⁻¹ P r, P the policy's transitions.

    start: the cell of the first step; None: the mean over all cells.

    >>> worth(greedy(action_values(torch.tensor([0.0, 0.0, 0.0, 1.0]), 0.5)), torch.tensor([0.0, 0.0, 0.0, 1.0]), 0, 0.5)
    1.0
    """
    to = _check(reward, discount)
    cells = len(reward)
    chance = torch.zeros(cells, cells, dtype=torch.float64).scatter_add_(1, to, policy.double())
    value = torch.linalg.solve(torch.eye(cells, dtype=torch.float64) - discount * chance, chance @ reward.double())
    return (value.mean() if start is None else value[start]).item()


def share(policy: Tensor, reward: Tensor, start: int | None = None, discount: float = DISCOUNT) -> float:
    """Worth of a policy on a scale where 0 is moving at random and 1 the best policy for `reward`."""
    low, high = _ends(tuple(reward.tolist()), start, discount)
    if high - low < 1e-12:
        raise ValueError("every policy is worth the same under this reward; give one that differs between cells")
    return (worth(policy, reward, start, discount) - low) / (high - low)


@lru_cache(maxsize=16)
def _ends(reward: tuple, start: int | None, discount: float) -> tuple[float, float]:
    """Worth of moving at random and of the best policy."""
    known = torch.tensor(reward, dtype=torch.float64)
    even = torch.full((len(reward), 4), 0.25)
    return worth(even, known, start, discount), worth(best(known, discount), known, start, discount)


def walks(policy: Tensor, n: int, steps: int, generator: torch.Generator, start: int | None = None) -> Tensor:
    """n walks of a policy (N, 4) -> the cells that they enter, (n, steps). start None: each begins at a random cell."""
    to = neighbours(_side(len(policy)))
    cell = torch.full((n,), start) if start is not None else torch.randint(len(policy), (n,), generator=generator)
    seen = []
    for _ in range(steps):
        move = torch.multinomial(policy.double()[cell], 1, generator=generator)[:, 0]
        cell = to[cell, move]
        seen.append(cell)
    return torch.stack(seen, 1)


def segments(walk: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """One stretch of `length` steps at a random place of each walk: (n, steps) -> (n, length)."""
    if not 1 <= length <= walk.shape[1]:
        raise ValueError(f"length {length}: the walks have {walk.shape[1]} steps; give 1 to {walk.shape[1]}")
    first = torch.randint(walk.shape[1] - length + 1, (len(walk), 1), generator=generator)
    return walk.gather(1, first + torch.arange(length))


def visits(segment: Tensor, cells: int = SIZE * SIZE) -> Tensor:
    """How often each segment enters each cell: (n, T) -> (n, cells) in float64; times a reward map it is the sum of rewards.

    >>> visits(torch.tensor([[0, 1, 1]]), 4).tolist()
    [[1.0, 2.0, 0.0, 0.0]]
    """
    return torch.zeros(len(segment), cells, dtype=torch.float64).scatter_add_(1, segment, torch.ones(segment.shape).double())


def prefer(first: Tensor, second: Tensor, generator: torch.Generator, *, temperature: float = 1.0, careless: float = 0.0) -> Tensor:
    """A rater's choices: felt sums of two segments (n,) -> 1.0 where the first is chosen, else 0.0.

    P(first) = σ((first − second) / temperature), Bradley and Terry's model; with probability `careless` the answer is a fair
    coin instead (Christiano et al. 2017 assume 0.1).
    """
    p = torch.sigmoid((first - second) / temperature)
    return (torch.rand(len(p), generator=generator, dtype=torch.float64) < careless / 2 + (1 - careless) * p).double()


def gumbel(shape, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise in float64: of values with such noise the largest is a draw from their softmax."""
    return -(-torch.rand(shape, generator=generator, dtype=torch.float64).clamp(1e-12, 1 - 1e-12).log()).log()


def feel(sums: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
    """What a rater feels about segments with these sums of reward (n,): the sum plus Gumbel noise.

    The larger of two felt values is then Bradley and Terry's choice, so `feel` and `prefer` describe the same rater.
    """
    return sums + temperature * gumbel(len(sums), generator)


def standardised(rating: Tensor, rater: Tensor) -> Tensor:
    """Ratings (n,) less the mean of their rater (n,), over that rater's standard deviation; 0 for a rater without any.

    >>> standardised(torch.tensor([1.0, 3.0, 10.0, 10.0]), torch.tensor([0, 0, 1, 1])).tolist()
    [-1.0, 1.0, 0.0, 0.0]
    """
    one = torch.nn.functional.one_hot(rater).to(rating.dtype)
    count = one.sum(0).clamp(min=1)
    off = rating - ((one.T @ rating) / count)[rater]
    scale = ((one.T @ off.square()) / count).sqrt()[rater]
    return torch.where(scale > 0, off / scale.where(scale > 0, torch.ones_like(scale)), torch.zeros_like(off))


def fit_choices(difference: Tensor, chosen: Tensor, l2: float = 0.1) -> Tensor:
    """The reward map that makes choices likely: visits of the first minus the second (n, N), choices (n,) -> (N,), mean 0.

    Minimises Σ −log P(choice) + l2 Σ r² with P = σ(difference · r), by Newton's method: convex, so the minimum is the only
    one. Christiano et al. 2017, https://arxiv.org/abs/1706.03741, with a table in place of a network.
    """
    d, cells = difference.double(), difference.shape[1]
    sign = 2 * chosen.double() - 1
    r = torch.zeros(cells, dtype=torch.float64)
    for _ in range(50):
        p = torch.sigmoid(-sign * (d @ r))
        gradient = -(d.T @ (sign * p)) + 2 * l2 * r
        curvature = d.T @ (d * (p * (1 - p))[:, None]) + 2 * l2 * torch.eye(cells, dtype=torch.float64)
        step = torch.linalg.solve(curvature, gradient)
        r = r - step / max(1.0, step.abs().max().item() / 2)  # long first steps would overshoot
        if step.abs().max() < 1e-10:
            break
    return r - r.mean()


def fit_ratings(visited: Tensor, rating: Tensor, l2: float = 0.1) -> Tensor:
    """The reward map that explains ratings: visits (n, N), ratings (n,) -> (N,), mean 0; ridge regression with an offset.

    Minimises Σ (rating − offset − visits · r)² + l2 Σ r².
    """
    x = visited.double() - visited.double().mean(0)
    y = rating.double() - rating.double().mean()
    r = torch.linalg.solve(x.T @ x + l2 * torch.eye(x.shape[1], dtype=torch.float64), x.T @ y)
    return r - r.mean()


def _side(cells: int) -> int:
    side = round(cells ** 0.5)
    if side * side != cells:
        raise ValueError(f"{cells} cells: the grid is square; give size * size of them")
    return side


def _check(reward: Tensor, discount: float) -> Tensor:
    if not 0 <= discount < 1:
        raise ValueError(f"discount {discount}: give at least 0 and less than 1, or values may have no limit")
    return neighbours(_side(len(reward)))
