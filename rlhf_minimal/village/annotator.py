"""One annotator, who compares, ranks, rates and edits: the noise and the bias between true reward and label.

One model of taste is behind every kind of answer. A completion has the utility

    u = gold_weight · gold + length_bias · words / 10 + Σ_f weights[f] · feature_f

and is *felt* as u + τ · G, τ the temperature and G standard Gumbel, drawn anew each time. The difference of two Gumbels
is logistic, so the choice of two is Bradley-Terry, P(1 ≻ 2) = σ((u1 − u2) / τ), the ranking of K is Plackett-Luce, and
private ratings agree with both. Wherever a completion is asked for, its utility (a number, from `utility_of`) does as
well: stored features need no text. Every draw takes a `random.Random`.
Bradley & Terry 1952; Plackett 1975; Rao & Kupper 1967 (ties); McCullagh 1980 (ordered levels).
"""
from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from . import tasks as t
from .gold import FEATURES, features, gold_of

EULER = 0.5772156649015329          # mean of a standard Gumbel
TINY = 1e-9                         # temperature 0 is the limit: any difference decides, equality is left to chance
# work of a label as a multiple of one comparison (a ranking: for each completion); assumed, not measured
EFFORT = {"thumbs": 0.5, "rate": 0.7, "compare": 1.0, "likert": 1.2, "rank": 0.6, "edit": 4.0}
_features = lru_cache(maxsize=8192)(features)


def sigmoid(x: float) -> float:
    """σ(x) without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _uniform(rng: random.Random) -> float:
    """A number strictly between 0 and 1 (`random()` may be 0, and log 0 is an error)."""
    return (rng.getrandbits(52) + 0.5) / 2**52


def _gumbel(rng: random.Random) -> float:
    return -math.log(-math.log(_uniform(rng)))


def _logistic(rng: random.Random) -> float:
    p = _uniform(rng)
    return math.log(p / (1 - p))


def _check_weights(weights: Mapping[str, float], what: str) -> None:
    unknown = sorted(set(weights) - set(FEATURES))
    if unknown:
        raise ValueError(f"{what} names {unknown}, which are no features; expected some of {', '.join(FEATURES)}")


# knob: the range it may have
LIMITS = dict.fromkeys(("gold_weight", "length_bias", "position_bias", "offset"), (-1e9, 1e9))
LIMITS |= dict.fromkeys(("temperature", "tie", "price", "minutes"), (0.0, 1e9)) | {"flip": (0.0, 1.0)}
LIMITS |= dict.fromkeys(("step", "scale"), (1e-6, 1e9))


@dataclass(frozen=True)
class Drift:
    """From `date` on other weights; with `span` > 0 they are reached in a straight line, at date + span."""
    date: float
    weights: Mapping[str, float] = field(hash=False)
    span: float = 0.0

    def share(self, date: float) -> float:
        """How much of the new weights holds at a date: 0 before, 1 after."""
        if self.span <= 0:
            return float(date >= self.date)
        return min(1.0, max(0.0, (date - self.date) / self.span))


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """Somebody who labels. Every knob's default is "not there"; temperature 1 is an ordinary, noisy, honest person."""
    name: str = "annotator"
    group: str = ""                 # subgroup, for crowds
    temperature: float = 1.0        # τ, in units of utility
    flip: float = 0.0               # probability of answering the opposite (compare, likert, rank, thumbs; not rate)
    gold_weight: float = 1.0        # 0: a taste that knows nothing of what is right
    length_bias: float = 0.0        # utility per 10 words
    position_bias: float = 0.0      # log-odds for whatever is shown first
    weights: Mapping[str, float] = field(default_factory=dict, hash=False)   # extra weights on village features
    drift: Drift | None = None
    tie: float = 0.0                # answers a tie when the felt difference is within ± this utility
    step: float = 0.5               # utility between neighbouring Likert levels
    scale: float = 1.0              # private rating = offset + scale · felt utility
    offset: float = 0.0
    price: float = 1.0              # of a comparison; see `cost`
    minutes: float = 1.0

    def __post_init__(self):
        for knob, (low, high) in LIMITS.items():
            x = getattr(self, knob)
            if isinstance(x, bool) or not isinstance(x, (int, float)) or not math.isfinite(x) or not low <= x <= high:
                raise ValueError(f"annotator {self.name!r}: {knob} is {x!r}; expected a number from {low} to {high}")
        _check_weights(self.weights, "weights")
        if self.drift:
            _check_weights(self.drift.weights, "drift.weights")

    # --- utility ----------------------------------------------------------------------------------------------------
    def taste(self, date: float = 0) -> dict[str, float]:
        """The weights that hold at a date."""
        new = self.drift.share(date) if self.drift else 0.0
        if not new:
            return dict(self.weights)
        late = self.drift.weights
        return {k: (1 - new) * self.weights.get(k, 0.0) + new * late.get(k, 0.0) for k in {**self.weights, **late}}

    def utility_of(self, family: str, feats: Mapping[str, float], date: float = 0) -> float:
        """u of features that were computed before (by `village.features`, or stored in the Pool)."""
        extra = sum(w * feats[k] for k, w in self.taste(date).items())
        return self.gold_weight * gold_of(family, feats) + self.length_bias * feats["words"] / 10 + extra

    def utility(self, prompt: str, completion: str | float, date: float = 0) -> float:
        """u of a completion; a number is returned as it is. Raises ValueError on anything else."""
        if isinstance(completion, str):
            return self.utility_of(t.parse(prompt).family, _features(prompt, completion), date)
        if isinstance(completion, bool) or not isinstance(completion, (int, float)) or not math.isfinite(completion):
            raise ValueError(f"completion is {completion!r}; give a text, or its utility as a finite number")
        return float(completion)

    # --- two completions --------------------------------------------------------------------------------------------
    def _difference(self, prompt, a, b, date) -> float:
        return self.utility(prompt, a, date) - self.utility(prompt, b, date)

    def _above(self, difference: float, cut: float) -> float:
        """P(felt difference > cut) = σ((u1 − u2 − cut) / τ + position_bias)."""
        return sigmoid((difference - cut) / max(self.temperature, TINY) + self.position_bias)

    def _felt(self, difference: float, rng: random.Random) -> float:
        return difference + max(self.temperature, TINY) * (self.position_bias + _logistic(rng))

    def probabilities(self, prompt: str, a, b, date: float = 0) -> tuple[float, float, float]:
        """(first preferred, tie, second preferred), exactly; a is shown first.

        Before flips: P(first) = σ((u1 − u2 − tie)/τ + b), P(second) = σ((u2 − u1 − tie)/τ − b), b the position bias,
        and a tie takes the rest (Rao-Kupper). A flip swaps first and second.
        """
        d, tau = self._difference(prompt, a, b, date), max(self.temperature, TINY)
        first = self._above(d, self.tie)
        second = sigmoid((-d - self.tie) / tau - self.position_bias)
        mixed = (1 - self.flip) * first + self.flip * second, (1 - self.flip) * second + self.flip * first
        return mixed[0], max(0.0, 1 - sum(mixed)) if self.tie else 0.0, mixed[1]

    def probability(self, prompt: str, a, b, date: float = 0) -> float:
        """P(`compare` answers 1.0: a, shown first, is preferred)."""
        return self.probabilities(prompt, a, b, date)[0]

    def compare(self, prompt: str, a, b, rng: random.Random, *, date: float = 0, greedy: bool = False) -> float:
        """1.0: a (shown first) is preferred, 0.0: b, 0.5: a tie.

        `greedy=True` leaves out noise and flips, as reading a judge at temperature 0 does: the biases stay.
        """
        d = self._difference(prompt, a, b, date)
        felt = d + self.temperature * self.position_bias if greedy else self._felt(d, rng)
        answer = 1.0 if felt > self.tie else 0.0 if felt < -self.tie else 0.5
        return 1.0 - answer if not greedy and rng.random() < self.flip else answer

    def likert_cuts(self, levels: int = 5) -> list[float]:
        """The levels − 1 cut points in utility. Odd: a middle level as wide as the ties (or one step); even: forced."""
        if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2:
            raise ValueError(f"levels is {levels!r}; give 5 (a tie in the middle), 8 (forced), or any whole number > 1")
        first = (self.tie or self.step / 2) if levels % 2 else 0.0
        right = [first + k * self.step for k in range(levels // 2)]
        return sorted({-c for c in right} | set(right))

    def likert_probabilities(self, prompt: str, a, b, levels: int = 5, date: float = 0) -> list[float]:
        """P(1: b far better) … P(levels: a far better). P(level > k) = σ((u1 − u2 − cut_k)/τ + b); a flip mirrors."""
        d = self._difference(prompt, a, b, date)
        above = [1.0, *(self._above(d, c) for c in self.likert_cuts(levels)), 0.0]
        p = [hi - lo for hi, lo in zip(above, above[1:], strict=False)]
        return [(1 - self.flip) * x + self.flip * y for x, y in zip(p, reversed(p), strict=True)]

    def likert(self, prompt: str, a, b, rng: random.Random, *, levels: int = 5, date: float = 0) -> int:
        """1 (b is far better) … levels (a is far better): where the felt difference falls among `likert_cuts`."""
        felt = self._felt(self._difference(prompt, a, b, date), rng)
        level = 1 + sum(felt > cut for cut in self.likert_cuts(levels))
        return levels + 1 - level if rng.random() < self.flip else level

    # --- one completion, or many --------------------------------------------------------------------------------------
    def rank(self, prompt: str, completions: Sequence, rng: random.Random, *, date: float = 0) -> list[int]:
        """Indices, best first: sorted by u/τ + Gumbel noise (+ b for the one shown first), which is Plackett-Luce.

        A flip turns the whole list round. Ties have no place in a ranking: `tie` is not used.
        """
        felt = [s + _gumbel(rng) for s in self._strengths(prompt, completions, date)]
        order = sorted(range(len(felt)), key=lambda i: -felt[i])
        return order[::-1] if rng.random() < self.flip else order

    def _strengths(self, prompt, completions, date) -> list[float]:
        if isinstance(completions, str) or len(completions) < 2:
            raise ValueError(f"completions is {completions!r}; give a list of two or more")
        out = [self.utility(prompt, c, date) / max(self.temperature, TINY) for c in completions]
        return [out[0] + self.position_bias, *out[1:]]

    def rank_probability(self, prompt: str, completions: Sequence, ranking: Sequence[int], date: float = 0) -> float:
        """P(`rank` answers r) = (1 − flip)·PL(r) + flip·PL(r reversed), PL(r) = Π_k e^{s_r(k)} / Σ_{j≥k} e^{s_r(j)}."""
        s = self._strengths(prompt, completions, date)
        if sorted(ranking) != list(range(len(s))):
            raise ValueError(f"ranking is {list(ranking)}; expected each of 0 … {len(s) - 1} once")

        def plackett_luce(r):
            return math.prod(1 / sum(math.exp(min(700.0, s[j] - s[i])) for j in r[k:]) for k, i in enumerate(r))
        order = list(ranking)
        return (1 - self.flip) * plackett_luce(order) + self.flip * plackett_luce(order[::-1])

    def rate(self, prompt: str, completion, rng: random.Random, *, date: float = 0) -> float:
        """A rating on the private scale: offset + scale·(u + τ·(G − γ)); mean offset + scale·u, sd scale·τ·π/√6."""
        felt = self.utility(prompt, completion, date) + self.temperature * (_gumbel(rng) - EULER)
        return self.offset + self.scale * felt

    def thumbs_probability(self, prompt: str, completion, *, threshold: float = 1.5, date: float = 0) -> float:
        """P(thumbs up) = σ((u − u*)/τ) before flips, u* = (threshold − offset)/scale of an answer in mind."""
        d = self.utility(prompt, completion, date) - (threshold - self.offset) / self.scale
        up = sigmoid(d / max(self.temperature, TINY))
        return (1 - self.flip) * up + self.flip * (1 - up)

    def thumbs(self, prompt: str, completion, rng: random.Random, *, threshold: float = 1.5, date: float = 0) -> bool:
        """True: thumbs up. `threshold` is on the private scale, so a generous offset gives more of them."""
        return rng.random() < self.thumbs_probability(prompt, completion, threshold=threshold, date=date)

    def edit(self, prompt: str, completion: str, rng: random.Random, *, date: float = 0) -> str:
        """The completion, improved: without rudeness and flattery if that is enough, else written anew.

        Better by this annotator's own utility, or returned unchanged: whoever loves flattery leaves it in.
        """
        task = t.parse(prompt)
        options = [_polite(completion)] + ([t.answer(task, rng)] if task.family != "other" else [])
        best = max((x for x in options if x), key=lambda x: round(self.utility(prompt, x, date), 6), default=completion)
        return best if self.utility(prompt, best, date) > self.utility(prompt, completion, date) + TINY else completion

    def cost(self, kind: str = "compare", *, labels: int = 1, completions: int = 4) -> tuple[float, float]:
        """(price, minutes) of labels of a kind in `EFFORT`; a ranking costs by the number of its completions."""
        if kind not in EFFORT:
            raise ValueError(f"kind is {kind!r}; expected one of {', '.join(EFFORT)}")
        effort = labels * EFFORT[kind] * (completions if kind == "rank" else 1)
        return self.price * effort, self.minutes * effort

    def draw(self, rng: random.Random) -> Annotator:
        """Itself: a crowd of one."""
        return self


def _polite(text: str) -> str:
    """Without rude and flattering sentences; "" if nothing else was there."""
    for phrase in (*t.RUDE, *t.FLATTERY):
        text = text.replace(f"{phrase} ", "").replace(f" {phrase}", "").replace(phrase, "")
    return text if any(c.isalnum() for c in text) else ""
