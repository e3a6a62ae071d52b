"""The people who label, alone and in crowds, and a judge with little noise and its own bias.

`Annotator` (one person, see `rater.py`) and `Crowd` answer the same questions. `RATERS` are ready-made people by name.
`python -m rlhf_minimal.village.rates` checks every knob: empirical rate, formula, z-score.
"""
from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .annotator import EFFORT, Annotator, Drift

__all__ = ["EFFORT", "RATERS", "Annotator", "Crowd", "Drift", "ai_judge", "panel", "swap_average"]


@dataclass(frozen=True)
class Crowd:
    """Annotators with shares; each label comes from one of them, drawn by its share."""
    annotators: tuple[Annotator, ...]
    shares: tuple[float, ...]

    def __post_init__(self):
        if not self.annotators or len(self.annotators) != len(self.shares):
            raise ValueError(f"{len(self.annotators)} annotators, {len(self.shares)} shares; give one share for each")
        if min(self.shares) < 0 or not 0 < sum(self.shares) < math.inf:
            raise ValueError(f"shares are {self.shares}; give numbers not below 0 with a sum above 0")

    def draw(self, rng: random.Random) -> Annotator:
        """Who gives the next label: `crowd.draw(rng).compare(...)`."""
        return rng.choices(self.annotators, weights=self.shares)[0]

    def compare(self, prompt: str, a, b, rng: random.Random, *, date: float = 0) -> float:
        """A comparison by somebody."""
        return self.draw(rng).compare(prompt, a, b, rng, date=date)

    def probability(self, prompt: str, a, b, date: float = 0) -> float:
        """P(a, shown first, is preferred) = Σ_k share_k · P_k: no Bradley-Terry of any utility, unless all agree."""
        pairs = zip(self.annotators, self.shares, strict=True)
        return sum(w * x.probability(prompt, a, b, date) for x, w in pairs) / sum(self.shares)


def ai_judge(**knobs) -> Annotator:
    """A judge with little noise and its own bias: long, marked-up, flattering answers, and whatever it reads first."""
    return replace(Annotator(name="ai judge", group="ai", temperature=0.25, length_bias=0.15, position_bias=0.6,
                             weights={"markup": 0.5, "flattery": 0.5}, price=0.01, minutes=0.0), **knobs)


def _rater(name: str, **knobs) -> Annotator:
    return Annotator(name=name, group=name, **knobs)


RATERS = {r.name: r for r in (
    _rater("expert", temperature=0.4, price=5.0, minutes=3.0), _rater("ordinary"),
    _rater("hurried", temperature=2.5, minutes=0.4), _rater("careless", flip=0.2), _rater("wordy", length_bias=0.5),
    _rater("first", position_bias=1.0), _rater("vain", weights={"flattery": 1.0, "agrees_wrongly": 3.0}),
    _rater("typographer", weights={"markup": 1.0}),
    _rater("plain", weights={"markup": -1.0, "flattery": -1.0}), _rater("undecided", tie=0.75),
)} | {"ai": ai_judge()}


def panel(members: Iterable[str | Annotator] | Mapping[str, float], shares: Sequence[float] | None = None) -> Crowd:
    """A crowd of annotators or names in `RATERS`, in equal shares, in `shares`, or as {name: share}."""
    if isinstance(members, str):
        raise ValueError(f"members is the text {members!r}; give a list of names or annotators")
    if isinstance(members, Mapping):
        members, shares = tuple(members), tuple(members.values())
    members = tuple(members)
    unknown = [m for m in members if not isinstance(m, Annotator) and m not in RATERS]
    if unknown:
        raise ValueError(f"no rater is called {unknown}; expected Annotators or some of {', '.join(RATERS)}")
    chosen = tuple(m if isinstance(m, Annotator) else RATERS[m] for m in members)
    return Crowd(chosen, tuple(shares) if shares is not None else (1.0,) * len(chosen))


def swap_average(judge: Annotator, prompt: str, a, b, rng: random.Random, *, date: float = 0,
                 greedy: bool = False) -> float:
    """The verdict of both orders, averaged: 1.0 a, 0.0 b, ½ where the two disagree (with ties also ¼ and ¾).

    Swapping a and b turns its expectation x into 1 − x: the position bias is gone, the other biases and the noise stay.
    """
    there = judge.compare(prompt, a, b, rng, date=date, greedy=greedy)
    back = judge.compare(prompt, b, a, rng, date=date, greedy=greedy)
    return (there + 1 - back) / 2
