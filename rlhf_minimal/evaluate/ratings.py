"""Ratings from comparisons: Bradley-Terry by maximum likelihood, Elo as it is updated online, and a win rate at equal length.

Ratings are on the Elo scale: 400 points are odds of 10 to 1. Only differences mean something (C12); the mean is put at
`centre`. A game is (i, j, score): players by number, score 1 where i won, 0 where j won, 1/2 for a tie.
"""

import math

import torch

from ..tensors import check_no_nan, check_shapes

POINTS = 400 / math.log(10)  # Elo points a unit of log-odds


def expected_score(gap):
    """Chance to win of who is `gap` Elo points ahead: 1 / (1 + 10^(-gap / 400)).

    >>> round(expected_score(400), 4)  # 10 / 11
    0.9091
    """
    return 1 / (1 + 10 ** (-gap / 400))


def win_matrix(games, players):
    """Games [(i, j, score)] -> wins (N, N) float64, [i, j] = how often i beat j, a tie half to each."""
    wins = torch.zeros(players, players, dtype=torch.float64)
    for i, j, score in games:
        if not (0 <= i < players and 0 <= j < players and i != j and 0 <= score <= 1):
            raise ValueError(f"game {(i, j, score)} of {players} players: give two of 0 to {players - 1}, score 0 to 1")
        wins[i, j] += score
        wins[j, i] += 1 - score
    return wins


def _connected(wins):
    """True if a chain of wins leads from every player to every other: only then has the likelihood a maximum."""
    reach = (wins > 0) | torch.eye(len(wins), dtype=torch.bool)
    for _ in range(len(wins)):
        reach = (reach.double() @ reach.double()) > 0
    return bool(reach.all())


def bradley_terry(wins, *, prior=0.0, centre=1000.0, steps=100):
    """Maximum-likelihood ratings of N players -> (ratings (N,), standard errors (N,)), Elo points, float64.

    wins (N, N), [i, j] = how often i beat j. P(i beats j) = sigmoid(r_i - r_j). The order of the games is not an input.
    prior: that many ties added to each pair, which shrinks ratings and lets the maximum exist. Errors are those of a
    rating against the mean of all. Newton's method. ValueError where no maximum exists: a group of players never lost to
    the rest, or never met it.

    >>> ratings, _ = bradley_terry(torch.tensor([[0.0, 3.0], [1.0, 0.0]]))
    >>> [round(x, 2) for x in ratings.tolist()]  # odds of 3: 400 log10 3 = 190.85 apart
    [1095.42, 904.58]
    """
    n, wins = len(wins), torch.as_tensor(wins, dtype=torch.float64)
    check_no_nan(wins=wins)
    if wins.shape != (n, n) or n < 2 or (wins < 0).any() or wins.diagonal().any() or not prior >= 0:
        raise ValueError(f"wins {tuple(wins.shape)}, prior {prior}: give (N, N) counts of 0 or more, 0 on the diagonal")
    wins = wins + prior / 2 * (1 - torch.eye(n, dtype=torch.float64))
    if not _connected(wins):
        raise ValueError(f"{n} players are not linked by wins both ways: no finite ratings; play more, or give a prior > 0")
    games, r = wins + wins.T, torch.zeros(n, dtype=torch.float64)
    flat = torch.full((n, n), 1.0 / n, dtype=torch.float64)  # fixes the mean, which the likelihood does not see

    def likelihood(r):
        return (wins * torch.nn.functional.logsigmoid(r[:, None] - r)).sum()

    for _ in range(steps):
        p = torch.sigmoid(r[:, None] - r)
        slope = (wins - games * p).sum(1)
        bend = games * p * (1 - p)
        move = torch.linalg.solve(torch.diag(bend.sum(1)) - bend + flat, slope)
        while likelihood(r + move) < likelihood(r) and move.norm() > 1e-9:  # a full Newton step may overshoot
            move = move / 2
        r = r + move
        if slope.norm() < 1e-10 * games.sum():
            break
    error = (torch.linalg.inv(torch.diag(bend.sum(1)) - bend + flat) - flat).diagonal().clamp(min=0).sqrt()
    return centre + POINTS * (r - r.mean()), POINTS * error


def online_elo(games, players, *, k=16.0, start=1000.0):
    """Elo ratings updated game by game, r += k (score - expected) -> (N,) float64. Depends on the *order* of the games.

    A running estimate for players who change. Models do not: then the same games in another order give other ratings,
    off by about k, and `bradley_terry` is the estimate. Zero-sum: the mean stays at `start`.

    >>> online_elo([(0, 1, 1.0)], 2, k=32).tolist()  # an even game won: half of k
    [1016.0, 984.0]
    """
    if not k > 0:
        raise ValueError(f"k is {k}; give the most points that one game moves, above 0")
    win_matrix(games, players)  # its checks
    ratings = [float(start)] * players
    for i, j, score in games:
        move = k * (score - expected_score(ratings[i] - ratings[j]))
        ratings[i], ratings[j] = ratings[i] + move, ratings[j] - move
    return torch.tensor(ratings, dtype=torch.float64)


def length_controlled_win_rate(win, length, length_other, *, steps=50):
    """Win rate at equal length -> dict: rate, low, high (95 %), raw rate, length_effect (log-odds a unit of x).

    win (N,) from 0 to 1, ties 1/2; lengths (N,) of the two answers, any unit. Logistic regression
    P(win) = sigmoid(a + b x), x = tanh(difference / its spread), in the spirit of AlpacaEval 2 (no term for the
    instruction); rate is sigmoid(a), at x = 0. The two answers swapped give 1 - rate. If better answers are longer for
    good reason, this takes away too much. ValueError where wins and lengths are separable. https://arxiv.org/abs/2404.04475

    >>> got = length_controlled_win_rate([1, 0, 1, 1, 0, 0, 1, 0], [9, 9, 9, 9, 5, 5, 5, 5], [5, 5, 5, 5, 9, 9, 9, 9])
    >>> round(got["raw"], 4), round(got["rate"], 4)  # 3 of 4 where longer, 1 of 4 where shorter
    (0.5, 0.5)
    """
    win, a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (win, length, length_other))
    check_shapes(win=win, length=a, length_other=b)
    check_no_nan(win=win, length=a, length_other=b)
    if win.dim() != 1 or not len(win) or win.min() < 0 or win.max() > 1:
        raise ValueError(f"win is {tuple(win.shape)}; give one number from 0 to 1 a comparison, (N,), N >= 1")
    gap = a - b
    x = torch.tanh(gap / gap.square().mean().sqrt()) if gap.any() else gap  # spread about 0: swapping flips the sign alone
    both = torch.stack([torch.ones_like(x), x], 1)[:, : 1 + bool(gap.any())]
    w = torch.zeros(both.shape[1], dtype=torch.float64)
    for _ in range(steps):
        p = torch.sigmoid(both @ w)
        bend = (both.T * (p * (1 - p))) @ both
        if w.abs().max() > 15 or torch.linalg.matrix_rank(bend) < len(w):
            raise ValueError(f"{len(win)} comparisons, {int((win > 0.5).sum())} won: length or the constant alone decides "
                             "them, so no finite fit exists; give more comparisons")
        w = w + torch.linalg.solve(bend, both.T @ (win - p))
    half = 1.959964 * torch.linalg.inv(bend)[0, 0].sqrt()
    low, rate, high = torch.sigmoid(torch.stack([w[0] - half, w[0], w[0] + half])).tolist()
    effect = w[1].item() if len(w) > 1 else 0.0
    return {"rate": rate, "low": low, "high": high, "raw": win.mean().item(), "length_effect": effect}
