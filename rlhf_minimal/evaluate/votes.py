"""Rules that turn many orders of preference into one choice: majorities, plurality, Borda, Condorcet, lotteries.

Ballots are {order: number of people}, each order a tuple of all options, best first:

    {("happy", "quiet", "sad"): 60, ("sad", "quiet", "happy"): 40}

Every result is exact, in fractions. The lower half enumerates all small electorates with three options.
Brandt et al., Handbook of Computational Social Choice, 2016.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import combinations, permutations
from math import factorial, prod

import torch
from torch import Tensor

from .ratings import bradley_terry

Ballots = Mapping[tuple[str, ...], int]


def options(ballots: Ballots) -> list[str]:
    """The options, in the order of the first ballot. Raises ValueError for ballots that do not order the same options."""
    orders = list(ballots)
    if not orders or any(isinstance(order, str) or sorted(order) != sorted(set(orders[0])) for order in orders):
        raise ValueError(f"ballots for {orders}: give {{order: people}}, each order a tuple of the same options, each once")
    if any(isinstance(count, bool) or not isinstance(count, int) or count < 0 for count in ballots.values()) \
            or not sum(ballots.values()):
        raise ValueError(f"ballots of {list(ballots.values())} people: give whole numbers of at least 0, not all 0")
    return list(orders[0])


def majorities(ballots: Ballots) -> dict[tuple[str, str], Fraction]:
    """{(a, b): share of the people who prefer a to b} for every two different options.

    >>> majorities({("happy", "sad"): 60, ("sad", "happy"): 40})["happy", "sad"]
    Fraction(3, 5)
    """
    people = sum(ballots.values())
    return {(a, b): Fraction(sum(n for order, n in ballots.items() if order.index(a) < order.index(b)), people)
            for a, b in permutations(options(ballots), 2)}


def plurality(ballots: Ballots) -> dict[str, Fraction]:
    """{option: share of the people who put it first}.

    >>> plurality({("happy", "sad"): 60, ("sad", "happy"): 40})["sad"]
    Fraction(2, 5)
    """
    people = sum(ballots.values())
    return {a: Fraction(sum(n for order, n in ballots.items() if order[0] == a), people) for a in options(ballots)}


def borda(ballots: Ballots) -> dict[str, Fraction]:
    """{option: points per person}, a point for every option that a person puts below it.

    >>> borda({("happy", "quiet", "sad"): 1})["happy"]
    Fraction(2, 1)
    """
    share = majorities(ballots)
    return {a: sum((share[a, b] for b in options(ballots) if b != a), Fraction(0)) for a in options(ballots)}


def condorcet(ballots: Ballots) -> str | None:
    """The option that more than half of the people prefer to each other one, compared in pairs; None where there is none.

    >>> condorcet({("happy", "sad"): 60, ("sad", "happy"): 40})
    'happy'
    """
    share = majorities(ballots)
    return next((a for a in options(ballots) if all(share[a, b] > Fraction(1, 2) for b in options(ballots) if b != a)), None)


def winner(points: Mapping[str, Fraction]) -> str | None:
    """The option with the most points; None at a tie for the first place.

    >>> winner({"happy": Fraction(3, 5), "sad": Fraction(2, 5)})
    'happy'
    """
    first = max(points.values())
    best = [a for a, x in points.items() if x == first]
    return best[0] if len(best) == 1 else None


def has_cycle(ballots: Ballots) -> bool:
    """True where the strict majorities lead from some option back to it.

    >>> has_cycle({("a", "b", "c"): 1, ("b", "c", "a"): 1, ("c", "a", "b"): 1})
    True
    """
    share, left = majorities(ballots), set(options(ballots))
    while left:  # take away what nothing that is left beats
        top = {a for a in left if not any(share[b, a] > Fraction(1, 2) for b in left - {a})}
        if not top:
            return True
        left -= top
    return False


def score_exists(ballots: Ballots) -> bool:
    """True where some score r has r(a) > r(b) for every a that a strict majority prefers to b: all orders are tried.

    >>> score_exists({("happy", "sad"): 60, ("sad", "happy"): 40})
    True
    """
    share = majorities(ballots)
    return any(all(share[b, a] <= Fraction(1, 2) for a, b in combinations(order, 2)) for order in permutations(options(ballots)))


def random_ballot(ballots: Ballots) -> dict[str, Fraction]:
    """{option: its probability} where one person is drawn and gets the first choice: the shares of `plurality`.

    >>> random_ballot({("happy", "sad"): 60, ("sad", "happy"): 40})["happy"]
    Fraction(3, 5)
    """
    return plurality(ballots)


def maximal_lottery(ballots: Ballots) -> dict[str, Fraction]:
    """{option: its probability} of the mixture that no other mixture beats by majority: the Nash policy of "which is better?".

    With m(a, b) = P(a over b) - P(b over a), it is the p >= 0, sum p = 1, with sum_a p(a) m(a, b) >= 0 for every b. Where
    several are, the average of the extreme ones, so that no option is favoured for its name. It takes every choice of tight
    conditions, so at most 5 options. Raises ValueError for more.
    Fishburn 1984; for language models Munos et al. 2023, https://arxiv.org/abs/2312.00886

    >>> maximal_lottery({("a", "b", "c"): 1, ("b", "c", "a"): 1, ("c", "a", "b"): 1})["a"]
    Fraction(1, 3)
    """
    names, share = options(ballots), majorities(ballots)
    if (k := len(names)) > 5:
        raise ValueError(f"{k} options; the exact search takes at most 5, give fewer")
    margin = [[Fraction(0) if a == b else share[a, b] - share[b, a] for b in names] for a in names]
    limits = [[Fraction(int(i == j)) for j in range(k)] for i in range(k)]        # p(i) >= 0
    limits += [[margin[a][b] for a in range(k)] for b in range(k)]                # no b beats p
    ones, found = [Fraction(1)] * k, set()
    for tight in combinations(limits, k - 1):
        p = _solve([*tight, ones], [Fraction(0)] * (k - 1) + [Fraction(1)])
        if p and all(sum(c * x for c, x in zip(row, p, strict=True)) >= 0 for row in limits):
            found.add(tuple(p))
    return {a: sum((p[i] for p in found), Fraction(0)) / len(found) for i, a in enumerate(names)}


def _solve(rows: list[list[Fraction]], right: list[Fraction]) -> list[Fraction] | None:
    """The solution of square equations, exactly; None where there is no single one."""
    table, n = [[*row, value] for row, value in zip(rows, right, strict=True)], len(rows)
    for i in range(n):
        pivot = next((r for r in range(i, n) if table[r][i]), None)
        if pivot is None:
            return None
        table[i], table[pivot] = table[pivot], table[i]
        table[i] = [x / table[i][i] for x in table[i]]
        for r in range(n):
            if r != i and table[r][i]:
                table[r] = [x - table[r][i] * y for x, y in zip(table[r], table[i], strict=True)]
    return [row[-1] for row in table]


def rules(ballots: Ballots) -> dict[str, dict[str, Fraction]]:
    """{rule: {option: its probability}}: what five rules choose; one option with 1, a lottery, or {} where there is no winner.

    >>> rules({("happy", "sad"): 60, ("sad", "happy"): 40})["plurality"]
    {'happy': Fraction(1, 1)}
    """
    single = {"plurality": winner(plurality(ballots)), "Borda, Bradley–Terry": winner(borda(ballots)),
              "Condorcet": condorcet(ballots)}
    return {rule: {name: Fraction(1)} if name else {} for rule, name in single.items()} | {
        "maximal lottery": maximal_lottery(ballots), "random ballot": random_ballot(ballots)}


def told(chosen: Mapping[str, Fraction]) -> str:
    """What a rule chose, in words: one option, a lottery with its shares (largest first), or "nobody".

    >>> told({"happy": Fraction(2, 5), "sad": Fraction(3, 5), "quiet": Fraction(0)})
    'sad 60 %, happy 40 %'
    """
    some = sorted(((x, name) for name, x in chosen.items() if x), key=lambda pair: (-pair[0], pair[1]))
    return some[0][1] if len(some) == 1 else ", ".join(f"{name} {float(100 * x):.0f} %" for x, name in some) or "nobody"


def table(ballots: Ballots) -> Tensor:
    """(K, K) float64: the share of the people who prefer the row's option to the column's, 1/2 on the diagonal.

    >>> table({("happy", "sad"): 60, ("sad", "happy"): 40}).tolist()
    [[0.5, 0.6], [0.4, 0.5]]
    """
    names, share = options(ballots), majorities(ballots)
    return torch.tensor([[0.5 if a == b else float(share[a, b]) for b in names] for a in names], dtype=torch.float64)


def fits_borda(ballots: Ballots) -> bool:
    """True where Bradley-Terry, fitted to equally many comparisons of each pair, orders the options as Borda's points do.

    Needs a finite fit, so no option that everybody puts first or last.

    >>> fits_borda({("happy", "sad"): 60, ("sad", "happy"): 40})
    True
    """
    wins = table(ballots)
    fitted = bradley_terry(wins - wins.diag().diag())[0].tolist()
    points = list(borda(ballots).values())
    pairs = list(permutations(range(len(points)), 2))
    return all((fitted[i] > fitted[j] + 1e-3) == (points[i] > points[j]) for i, j in pairs)


# --- all small electorates with three options -------------------------------------------------------------------------
THREE = ("happy", "quiet", "sad")
ORDERS = tuple(permutations(THREE))


def electorates(voters: int) -> Iterator[dict[tuple[str, ...], int]]:
    """The ballots of every way in which so many people can hold the six orders of happy, quiet and sad."""
    for row in profiles(voters).tolist():
        yield dict(zip(ORDERS, row, strict=True))


def profiles(voters: int) -> Tensor:
    """The same as a tensor of counts, (N, 6), columns as in `ORDERS`. Raises ValueError for fewer than one person."""
    if voters < 1:
        raise ValueError(f"voters is {voters}; give at least 1")
    cuts = torch.tensor(list(combinations(range(voters + 5), 5)))
    edge = torch.ones(len(cuts), 1, dtype=torch.long)
    return torch.cat([-edge, cuts, edge * (voters + 5)], 1).diff(dim=1) - 1


def _shares(counts: Tensor) -> tuple[Tensor, Tensor]:
    """(how many prefer a to b (N, 3, 3), how many put a first (N, 3)) of profiles."""
    above = torch.tensor([[[order.index(a) < order.index(b) for b in THREE] for a in THREE] for order in ORDERS])
    first = torch.tensor([[order[0] == a for a in THREE] for order in ORDERS])
    return torch.einsum("nk,kab->nab", counts, above.long()), counts @ first.long()


def cycle_probability(voters: int) -> Fraction:
    """The chance of a majority cycle where each of an odd number of people picks one of the six orders at random.

    >>> cycle_probability(3)
    Fraction(1, 18)
    """
    counts = profiles(voters)
    beats = _shares(counts)[0] * 2 > voters
    cyclic = counts[(beats.sum(2) == 1).all(1)]
    ways = sum(factorial(voters) // prod(factorial(c) for c in row) for row in cyclic.tolist())
    return Fraction(ways, 6**voters)


def three_winners(voters: int) -> list[dict[tuple[str, ...], int]]:
    """The electorates in which plurality, Borda and Condorcet each have one winner and all three differ."""
    counts = profiles(voters)
    above, first = _shares(counts)
    points, wins = above.sum(2), (above * 2 > voters).sum(2)

    def single(x):
        return (x == x.max(1, keepdim=True)[0]).sum(1) == 1

    a, b, c = first.argmax(1), points.argmax(1), wins.argmax(1)
    keep = single(first) & single(points) & (wins == 2).any(1) & (a != b) & (b != c) & (a != c)
    return [dict(zip(ORDERS, row, strict=True)) for row in counts[keep].tolist()]
