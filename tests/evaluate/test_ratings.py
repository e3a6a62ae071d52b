"""Ratings: the maximum of the likelihood, what order does to Elo, a win rate at equal length; n-gram overlap."""

import math

import pytest
import torch

from rlhf_minimal.evaluate.ratings import POINTS, bradley_terry, expected_score, length_controlled_win_rate, online_elo, win_matrix


def play(true, number, seed=0):
    """Games between random pairs whose winner is drawn from Bradley-Terry at `true` Elo ratings."""
    generator = torch.Generator().manual_seed(seed)
    games = []
    for _ in range(number):
        i, j = torch.randperm(len(true), generator=generator)[:2].tolist()
        won = torch.rand((), generator=generator) < expected_score(true[i] - true[j])
        games.append((i, j, float(won)))
    return games


def test_elo_scale():
    assert expected_score(0) == 0.5 and math.isclose(expected_score(400), 10 / 11)
    assert math.isclose(expected_score(173.7), 1 / (1 + math.exp(-173.7 / POINTS)))


def test_bradley_terry_is_where_wins_are_as_expected():
    """The likelihood's gradient is 0: each player's wins equal the wins that the ratings expect. Ties count half."""
    games = play([1200, 1000, 1000, 800], 300) + [(0, 1, 0.5), (2, 3, 0.5)]
    wins = win_matrix(games, 4)
    assert wins.sum() == 302
    ratings, error = bradley_terry(wins)
    assert abs(ratings.mean().item() - 1000) < 1e-9
    for i in range(4):
        met = [(wins[i, j] + wins[j, i]).item() * expected_score((ratings[i] - ratings[j]).item()) for j in range(4) if j != i]
        assert abs(sum(met) - wins[i].sum().item()) < 1e-6
    assert ((ratings - torch.tensor([1200.0, 1000, 1000, 800])).abs() < 4 * error).all() and (error > 5).all()


def test_errors_of_ratings_are_those_of_repeated_tournaments():
    true = [1100, 1000, 900]
    found = [bradley_terry(win_matrix(play(true, 200, seed), 3)) for seed in range(60)]
    spread = torch.stack([r for r, _ in found]).std(0)
    said = torch.stack([e for _, e in found]).mean(0)
    assert (spread / said > 0.75).all() and (spread / said < 1.3).all()


def test_order_changes_elo_and_not_bradley_terry():
    games = play([1100, 1000, 900], 120)
    orders = [games, games[::-1], sorted(games)]
    elo = torch.stack([online_elo(x, 3) for x in orders])
    fit = torch.stack([bradley_terry(win_matrix(x, 3))[0] for x in orders])
    assert (elo.max(0).values - elo.min(0).values).max() > 5 and (fit - fit[0]).abs().max() < 1e-6
    assert torch.allclose(elo.mean(1), torch.full((3,), 1000.0, dtype=torch.float64))
    by_hand = [1000.0, 1000.0, 1000.0]
    for i, j, score in games:
        move = 16 * (score - 1 / (1 + 10 ** ((by_hand[j] - by_hand[i]) / 400)))
        by_hand[i] += move
        by_hand[j] -= move
    assert online_elo(games, 3).tolist() == pytest.approx(by_hand)


def test_no_maximum_raises_and_a_prior_helps():
    wins = torch.tensor([[0.0, 5.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="2 players are not linked"):
        bradley_terry(wins)
    strong, weak = (bradley_terry(wins, prior=p)[0] for p in (0.1, 2.0))
    assert strong[0] > weak[0] > 1000
    apart = torch.zeros(4, 4)
    apart[0, 1] = apart[1, 0] = apart[2, 3] = apart[3, 2] = 3.0
    with pytest.raises(ValueError, match="4 players"):
        bradley_terry(apart)
    for bad in ([(0, 0, 1.0)], [(0, 3, 1.0)], [(0, 1, 2.0)]):
        with pytest.raises(ValueError, match="of 3 players"):
            win_matrix(bad, 3)
    with pytest.raises(ValueError, match="diagonal"):
        bradley_terry(torch.eye(2))
    with pytest.raises(ValueError, match="k is 0"):
        online_elo([], 2, k=0)


def longer_wins(a, b, number=3000, seed=0, shift=30.0):
    """Wins from sigmoid(a + b tanh(gap / rms)); the first answer is `shift` longer on average."""
    generator = torch.Generator().manual_seed(seed)
    mine, other = (100 + 40 * torch.randn(number, generator=generator, dtype=torch.float64) for _ in range(2))
    mine = mine + shift
    gap = mine - other
    p = torch.sigmoid(a + b * torch.tanh(gap / gap.square().mean().sqrt()))
    return (torch.rand(number, generator=generator, dtype=torch.float64) < p).double(), mine, other


def test_length_controlled_win_rate_finds_the_rate_at_equal_length():
    """No better, only longer: the raw rate is far from a half, the controlled one is not; with a true edge it stays."""
    for a in (0.0, 0.7):
        win, mine, other = longer_wins(a, 2.0)
        got = length_controlled_win_rate(win, mine, other)
        true = 1 / (1 + math.exp(-a))
        assert got["low"] < true < got["high"] and got["high"] - got["low"] < 0.08
        assert got["raw"] > got["high"] and abs(got["length_effect"] - 2) < 0.4 and got["raw"] == win.mean().item()


def test_length_control_mirrors_and_does_nothing_without_lengths():
    win, mine, other = longer_wins(0.4, 1.0, number=200)
    there, back = length_controlled_win_rate(win, mine, other), length_controlled_win_rate(1 - win, other, mine)
    assert abs(there["rate"] + back["rate"] - 1) < 1e-9 and abs(there["low"] + back["high"] - 1) < 1e-9
    same = length_controlled_win_rate(win, mine, mine)
    assert abs(same["rate"] - same["raw"]) < 1e-9 and same["length_effect"] == 0
    grown = length_controlled_win_rate(win, 7 * mine, 7 * other)  # another unit of length
    assert abs(grown["rate"] - there["rate"]) < 1e-9
    with pytest.raises(ValueError, match="no finite fit"):
        length_controlled_win_rate([1, 1, 0, 0], [9, 8, 1, 2], [5, 5, 5, 5])
    with pytest.raises(ValueError, match="no finite fit"):
        length_controlled_win_rate([1, 1, 1, 1], [9, 8, 1, 2], [5, 5, 5, 5])
    with pytest.raises(ValueError, match="shapes differ"):
        length_controlled_win_rate([1, 0], [1, 2], [1, 2, 3])


def test_length_coverage():
    """95 % intervals hold the true rate about 95 times of 100."""
    inside = 0
    for seed in range(100):
        got = length_controlled_win_rate(*longer_wins(0.5, 1.0, number=150, seed=seed))
        inside += got["low"] < 1 / (1 + math.exp(-0.5)) < got["high"]
    assert 88 <= inside <= 100
