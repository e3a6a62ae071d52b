from fractions import Fraction
from itertools import permutations, product
from random import Random

import pytest
import torch

from rlhf_minimal.evaluate import votes

CIRCLE = {("a", "b", "c"): 1, ("b", "c", "a"): 1, ("c", "a", "b"): 1}
SMALL = [ballots for voters in (1, 2, 3, 4, 5) for ballots in votes.electorates(voters)]


def people(ballots):
    """Every single voter's order."""
    return [order for order, n in ballots.items() for _ in range(n)]


def beats(ballots, a, b):
    """How many more people put a above b than below it, counted one by one."""
    return sum(1 if order.index(a) < order.index(b) else -1 for order in people(ballots))


def test_every_electorate_is_listed_once():
    for voters, count in ((1, 6), (2, 21), (3, 56), (4, 126)):
        found = list(votes.electorates(voters))
        assert len(found) == count == len({tuple(e.values()) for e in found}) and all(sum(e.values()) == voters for e in found)


def test_counts_agree_with_voters_one_by_one():
    for ballots in SMALL:
        n, names = len(people(ballots)), votes.options(ballots)
        for (a, b), share in votes.majorities(ballots).items():
            assert 2 * share - 1 == Fraction(beats(ballots, a, b), n)
        first, points = votes.plurality(ballots), votes.borda(ballots)
        for a in names:
            assert first[a] == Fraction(sum(order[0] == a for order in people(ballots)), n) == votes.random_ballot(ballots)[a]
            assert points[a] == Fraction(sum(2 - order.index(a) for order in people(ballots)), n)
        best = [a for a in names if all(beats(ballots, a, b) > 0 for b in names if b != a)]
        assert votes.condorcet(ballots) == (best[0] if best else None)


def test_cycles_and_scores_by_brute_force():
    for ballots in SMALL:
        names = votes.options(ballots)
        cycle = any(all(beats(ballots, x, y) > 0 for x, y in zip(way, (*way[1:], way[0]), strict=True))
                    for k in (2, 3) for way in permutations(names, k))
        scores = any(all(beats(ballots, a, b) <= 0 or r[a] > r[b] for a, b in permutations(names, 2))
                     for r in (dict(zip(names, values, strict=True)) for values in product(range(3), repeat=3)))
        assert votes.has_cycle(ballots) == cycle
        assert votes.score_exists(ballots) == scores == (not cycle)


def test_no_mixture_beats_the_maximal_lottery():
    rng, names = Random(0), "abcd"
    four = [{order: rng.randrange(4) for order in permutations(names)} for _ in range(30)]
    for ballots in [*SMALL, CIRCLE, *four]:
        p, options = votes.maximal_lottery(ballots), votes.options(ballots)
        assert sum(p.values()) == 1 and min(p.values()) >= 0
        assert all(sum(p[a] * beats(ballots, a, b) for a in options if a != b) >= 0 for b in options)
        top = votes.condorcet(ballots)
        assert top is None or p[top] == 1


def test_a_lottery_of_an_odd_electorate_is_the_only_one():
    """Compared with all mixtures on a grid: with an odd number of people no other one is unbeaten."""
    grid = [(Fraction(i, 12), Fraction(j, 12), Fraction(12 - i - j, 12)) for i in range(13) for j in range(13 - i)]
    for ballots in votes.electorates(3):
        names, p = votes.options(ballots), tuple(votes.maximal_lottery(ballots).values())
        unbeaten = [q for q in grid if all(sum(q[i] * beats(ballots, a, b) for i, a in enumerate(names) if a != b) >= 0
                                           for b in names)]
        assert unbeaten == [p]


def test_names_do_not_matter():
    for ballots in votes.electorates(4):
        swap = dict(zip(votes.THREE, (*votes.THREE[1:], votes.THREE[0]), strict=True))
        turned = {tuple(swap[a] for a in order): n for order, n in ballots.items()}
        p, q = votes.maximal_lottery(ballots), votes.maximal_lottery(turned)
        assert all(p[a] == q[swap[a]] for a in votes.THREE)


def test_the_cycle_of_the_page():
    ballots = {("happy", "sad", "quiet"): 40, ("sad", "quiet", "happy"): 35, ("quiet", "happy", "sad"): 25}
    p = votes.maximal_lottery(ballots)
    assert [p[a] for a in ("happy", "quiet", "sad")] == [Fraction(1, 2), Fraction(3, 10), Fraction(1, 5)]
    assert votes.has_cycle(ballots) and votes.condorcet(ballots) is None
    assert votes.maximal_lottery({("happy", "quiet", "sad"): 60, ("sad", "quiet", "happy"): 40})["happy"] == 1
    assert votes.winner({"a": Fraction(1, 2), "b": Fraction(1, 2)}) is None


def test_cycle_probability_by_counting_all_ballots():
    cyclic = sum(votes.has_cycle({order: drawn.count(order) for order in votes.ORDERS})
                 for drawn in product(votes.ORDERS, repeat=3))
    assert votes.cycle_probability(3) == Fraction(cyclic, 6**3) == Fraction(1, 18)
    assert votes.cycle_probability(1) == 0


def test_nineteen_people_and_three_winners():
    assert not any(votes.three_winners(voters) for voters in range(1, 19))
    found = votes.three_winners(19)
    assert len(found) == 6
    for ballots in found:
        three = {votes.winner(votes.plurality(ballots)), votes.winner(votes.borda(ballots)), votes.condorcet(ballots)}
        assert len(three) == 3 and None not in three


def test_three_winners_misses_none():
    """The fast search and the slow rules agree on every electorate of seven, and on random ones of nineteen."""
    rng = Random(1)
    some, known = list(votes.electorates(7)), votes.three_winners(19)
    nineteen = [dict(zip(votes.ORDERS, row, strict=True)) for row in votes.profiles(19)[torch.tensor(
        [rng.randrange(42504) for _ in range(300)])].tolist()]
    for ballots, voters in [(b, 7) for b in some] + [(b, 19) for b in nineteen]:
        three = [votes.winner(votes.plurality(ballots)), votes.winner(votes.borda(ballots)), votes.condorcet(ballots)]
        slow = None not in three and len(set(three)) == 3
        assert slow == (voters == 19 and ballots in known)


def test_bradley_terry_orders_as_borda(monkeypatch):
    every = dict.fromkeys(votes.ORDERS, 1)          # nobody is unanimous, so that the fit is finite
    for ballots in votes.electorates(5):
        assert votes.fits_borda({order: n + every[order] for order, n in ballots.items()})
    monkeypatch.setattr(votes, "borda", votes.plurality)
    assert not votes.fits_borda(votes.three_winners(19)[0])   # the comparison can fail


@pytest.mark.parametrize("ballots", [{}, {"abc": 1}, {("a", "b"): 1, ("a", "c"): 1}, {("a", "a"): 1}, {("a", "b"): -1},
                                     {("a", "b"): 0}, {("a", "b"): 0.5}, {("a", "b"): True}])
def test_bad_ballots_are_refused(ballots):
    with pytest.raises(ValueError, match="ballots"):
        votes.majorities(ballots) if ballots and not isinstance(next(iter(ballots)), str) else votes.options(ballots)


def test_too_many_options_and_nobody_are_refused():
    with pytest.raises(ValueError, match="at most 5"):
        votes.maximal_lottery({tuple("abcdef"): 1})
    with pytest.raises(ValueError, match="at least 1"):
        votes.profiles(0)


def test_five_rules_and_their_words():
    nineteen = {order: n for order, n in votes.three_winners(19)[0].items() if n}
    found = votes.rules(nineteen)
    assert [votes.told(x) for x in found.values()] == ["quiet", "sad", "happy", "happy", "quiet 37 %, happy 32 %, sad 32 %"]
    assert votes.told(votes.rules(CIRCLE)["Condorcet"]) == "nobody" and votes.rules(CIRCLE)["Borda, Bradley–Terry"] == {}
