"""Ratings from comparisons: Bradley-Terry by maximum likelihood, Elo as it is updated online, and a win rate at equal length.

Ratings are on the Elo scale: 400 points are odds of 10 to 1. Only differences mean something; the mean is put at `centre`.
A game is (i, j, score): two players by number, and a score of 1 where i won, 0 where j won, 1/2 for a tie.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tensors import check_no_nan, check_shapes

POINTS = 400 / math.log(10)  # Elo points per unit of log-odds
Game = tuple[int, int, float]


def expected_score(gap: float) -> float:
    """The chance to win of a player who is `gap` Elo points ahead: 1 / (1 + 10^(-gap / 400)).

    >>> round(expected_score(400), 4)  # 10 / 11
    0.9091
    """
    return 1 / (1 + 10 ** (-gap / 400))


def win_matrix(games: Sequence[Game], players: int) -> Tensor:
    """How often each player beat each other one: (players, players) float64, a tie counted half for each.

    Entry [i, j] counts the wins of i over j. Raises ValueError for a player that is not known and a score outside 0 to 1.
    """
    wins = torch.zeros(players, players, dtype=torch.float64)
    for i, j, score in games:
        if not (0 <= i < players and 0 <= j < players and i != j and 0 <= score <= 1):
            raise ValueError(f"game {(i, j, score)} of {players} players: give two of 0 to {players - 1}, score 0 to 1")
        wins[i, j] += score
        wins[j, i] += 1 - score
    return wins


def linked_by_wins(wins: Tensor) -> bool:
    """True if a chain of wins leads from every player to every other: only then has the likelihood a maximum."""
    reach = (wins > 0) | torch.eye(len(wins), dtype=torch.bool)
    for _ in range(len(wins)):
        reach = (reach.double() @ reach.double()) > 0
    return bool(reach.all())


def newton(
    loss: Callable[[Tensor], Tensor], derivatives: Callable[[Tensor], tuple[Tensor, Tensor]], start: Tensor, *,
    steps: int, tolerance: float = 1e-10,
) -> tuple[Tensor, Tensor]:
    """The minimum of a smooth convex function, by Newton's method with step halving.

    loss: x (n,) -> scalar; derivatives: x -> gradient (n,), Hessian (n, n). Stops where the gradient's norm is below
    `tolerance`, or after `steps`. Returns the minimum (n,) and the Hessian of the last step (n, n).
    """
    x = start
    for _ in range(steps):
        gradient, hessian = derivatives(x)
        move = torch.linalg.solve(hessian, gradient)
        while loss(x - move) > loss(x) and move.norm() > 1e-9:  # a full Newton step may overshoot
            move = move / 2
        x = x - move
        if gradient.norm() < tolerance:
            break
    return x, hessian


def bradley_terry(
    wins: Tensor, *, prior: float = 0.0, centre: float = 1000.0, steps: int = 100,
) -> tuple[Tensor, Tensor]:
    """Maximum-likelihood ratings of N players, under P(i beats j) = sigmoid(r_i - r_j).

    wins (N, N), [i, j] = how often i beat j; the order of the games is not an input. prior: that many ties are added to
    each pair, which shrinks the ratings and makes sure that a maximum exists.

    Returns ratings and their standard errors, (N,) each, float64, in Elo points; the errors are those of a rating against
    the mean of all. Raises ValueError where no maximum exists: some players never lost to the rest, or never met them.

    >>> ratings, _ = bradley_terry(torch.tensor([[0.0, 3.0], [1.0, 0.0]]))
    >>> [round(x, 2) for x in ratings.tolist()]  # odds of 3: 400 log10 3 = 190.85 apart
    [1095.42, 904.58]
    """
    n, wins = len(wins), torch.as_tensor(wins, dtype=torch.float64)
    check_no_nan(wins=wins)
    if wins.shape != (n, n) or n < 2 or (wins < 0).any() or wins.diagonal().any() or not prior >= 0:
        raise ValueError(f"wins {tuple(wins.shape)}, prior {prior}: give (N, N) counts of 0 or more, 0 on the diagonal")
    wins = wins + prior / 2 * (1 - torch.eye(n, dtype=torch.float64))
    if not linked_by_wins(wins):
        raise ValueError(f"{n} players are not linked by wins both ways: no finite ratings; play more, or give a prior > 0")
    games = wins + wins.T
    flat = torch.full((n, n), 1.0 / n, dtype=torch.float64)  # fixes the mean, which the likelihood does not see

    def loss(r: Tensor) -> Tensor:
        return -(wins * F.logsigmoid(r[:, None] - r)).sum()

    def derivatives(r: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.sigmoid(r[:, None] - r)
        curvature = games * p * (1 - p)
        return (games * p - wins).sum(1), torch.diag(curvature.sum(1)) - curvature + flat

    r, hessian = newton(loss, derivatives, wins.new_zeros(n), steps=steps, tolerance=1e-10 * games.sum().item())
    error = (torch.linalg.inv(hessian) - flat).diagonal().clamp(min=0).sqrt()
    return centre + POINTS * (r - r.mean()), POINTS * error


def online_elo(games: Sequence[Game], players: int, *, k: float = 16.0, start: float = 1000.0) -> Tensor:
    """Elo ratings updated game by game: r += k (score - expected). They depend on the *order* of the games.

    A running estimate for players who change. Models do not: then the same games in another order give other ratings,
    off by about k, and `bradley_terry` is the estimate. The mean stays at `start`. Returns (players,) float64. Raises
    ValueError as `win_matrix`, and for a k that is not above 0.

    >>> online_elo([(0, 1, 1.0)], 2, k=32).tolist()  # an even game won: half of k
    [1016.0, 984.0]
    """
    if not k > 0:
        raise ValueError(f"k is {k}; give the most points that one game moves, above 0")
    win_matrix(games, players)  # for its checks
    ratings = [float(start)] * players
    for i, j, score in games:
        move = k * (score - expected_score(ratings[i] - ratings[j]))
        ratings[i], ratings[j] = ratings[i] + move, ratings[j] - move
    return torch.tensor(ratings, dtype=torch.float64)


def length_controlled_win_rate(
    win: Sequence[float], length: Sequence[float], length_other: Sequence[float], *, steps: int = 50,
) -> dict[str, float]:
    """The win rate that is left where both answers are equally long, by logistic regression.

    win (N,) from 0 to 1, ties 1/2; lengths (N,) of the two answers, in any unit. The model is P(win) = sigmoid(a + b x),
    with x = tanh(difference of lengths / its spread), in the spirit of AlpacaEval 2 (without its term for the
    instruction). The two answers swapped give 1 - rate. If better answers are longer for good reason, this takes away
    too much.

    Returns a dict: `rate`, which is sigmoid(a), with `low` and `high` (95 %), the `raw` rate, and `length_effect`, b, in
    log-odds. Raises ValueError where length or the constant alone decides the wins, so that no finite fit exists.
    Dubois et al. 2024, https://arxiv.org/abs/2404.04475

    >>> got = length_controlled_win_rate([1, 0, 1, 1, 0, 0, 1, 0], [9, 9, 9, 9, 5, 5, 5, 5], [5, 5, 5, 5, 9, 9, 9, 9])
    >>> round(got["raw"], 4), round(got["rate"], 4)  # 3 of 4 where longer, 1 of 4 where shorter
    (0.5, 0.5)
    """
    win, a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (win, length, length_other))
    check_shapes(win=win, length=a, length_other=b)
    check_no_nan(win=win, length=a, length_other=b)
    if win.dim() != 1 or not len(win) or win.min() < 0 or win.max() > 1:
        raise ValueError(f"win is {tuple(win.shape)}; give one number from 0 to 1 per comparison, (N,), N >= 1")
    gap = a - b
    x = torch.tanh(gap / gap.square().mean().sqrt()) if gap.any() else gap  # spread about 0: swapping flips the sign alone
    columns = torch.stack([torch.ones_like(x), x], 1)[:, : 1 + bool(gap.any())]

    def loss(w: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(columns @ w, win, reduction="sum")

    def derivatives(w: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.sigmoid(columns @ w)
        hessian = (columns.T * (p * (1 - p))) @ columns
        if w.abs().max() > 15 or torch.linalg.matrix_rank(hessian) < len(w):
            raise ValueError(f"{len(win)} comparisons, {int((win > 0.5).sum())} won: length or the constant alone decides "
                             "them, so no finite fit exists; give more comparisons")
        return columns.T @ (p - win), hessian

    w, hessian = newton(loss, derivatives, win.new_zeros(columns.shape[1]), steps=steps)
    half = 1.959964 * torch.linalg.inv(hessian)[0, 0].sqrt()
    low, rate, high = torch.sigmoid(torch.stack([w[0] - half, w[0], w[0] + half])).tolist()
    effect = w[1].item() if len(w) > 1 else 0.0
    return {"rate": rate, "low": low, "high": high, "raw": win.mean().item(), "length_effect": effect}
