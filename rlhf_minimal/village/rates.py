"""Does every knob of an annotator do what its formula says? Empirical rates against exact ones, with z-scores."""
from __future__ import annotations

import math
import random
from collections.abc import Iterator

from .crowd import Annotator, Drift, ai_judge, panel, swap_average

PROMPT = "What is 12 + 35?"
GOOD = "2 + 5 = 7. 1 + 3 = 4. The result is 47."
LONG = "2 + 5 = 7. 1 + 3 = 4. The result is 46. I am always happy to help. You can ask me again tomorrow."
BOLD = "**The result is 47.**"
DRIFT = Drift(10, {"markup": 2.0}, span=10)


def _pairs() -> Iterator[tuple[str, Annotator, str | float, str | float, float]]:
    """(knob, annotator, first, second, date) of the rows that compare two."""
    yield "temperature 0.5", Annotator(temperature=0.5), 1.0, 0.4, 0
    yield "temperature 2", Annotator(temperature=2.0), 1.0, 0.4, 0
    yield "temperature 0", Annotator(temperature=0.0), 1.0, 0.999, 0
    yield "temperature 0, equal", Annotator(temperature=0.0), 1.0, 1.0, 0
    yield "flip 0.2", Annotator(flip=0.2), 1.0, 0.0, 0
    yield "gold_weight 0.2", Annotator(gold_weight=0.2), GOOD, LONG, 0
    yield "length_bias 1", Annotator(length_bias=1.0), LONG, GOOD, 0
    yield "position_bias 0.8", Annotator(position_bias=0.8), 0.0, 0.5, 0
    yield "weights", Annotator(weights={"markup": 1.5}), BOLD, GOOD, 0
    yield "tie 0.75", Annotator(tie=0.75), 0.5, 0.0, 0
    mixed = Annotator(temperature=0.7, flip=0.1, length_bias=0.3, position_bias=-0.4, tie=0.3)
    yield "all together", mixed, GOOD, LONG, 0
    for date in (9, 15, 21):
        yield f"drift, day {date}", Annotator(drift=DRIFT), BOLD, GOOD, date


def _score(knob: str, hits: int, n: int, p: float) -> dict:
    sd = math.sqrt(p * (1 - p) / n)
    gap = hits / n - p
    z = gap / sd if sd > 1e-12 else 0.0 if abs(gap) < 1e-9 else math.inf
    return {"knob": knob, "rate": hits / n, "formula": p, "z": z}


def _others(rng: random.Random, n: int) -> Iterator[dict]:
    """Everything that is not one comparison."""
    who = Annotator(temperature=0.8, flip=0.1, position_bias=0.5, tie=0.4)
    for levels in (5, 8):
        exact = who.likert_probabilities(PROMPT, 0.9, 0.2, levels)
        said = [who.likert(PROMPT, 0.9, 0.2, rng, levels=levels) for _ in range(n)]
        yield from (_score(f"likert {k} of {levels}", said.count(k), n, exact[k - 1]) for k in range(1, levels + 1))
    said = [tuple(who.rank(PROMPT, (0.0, 1.0, 0.5), rng)) for _ in range(n)]
    yield from (_score(f"rank {r}", said.count(r), n, who.rank_probability(PROMPT, (0.0, 1.0, 0.5), r))
                for r in ((0, 1, 2), (1, 2, 0), (2, 0, 1)))
    fond = Annotator(scale=2.0, offset=1.0, flip=0.1)
    up = sum(fond.thumbs(PROMPT, 0.5, rng, threshold=1.5) for _ in range(n))
    yield _score("thumbs", up, n, fond.thumbs_probability(PROMPT, 0.5, threshold=1.5))
    mean = sum(fond.rate(PROMPT, 0.5, rng) for _ in range(n)) / n
    z = (mean - 2.0) / (2 * math.pi / math.sqrt(6 * n))
    yield {"knob": "rate: scale, offset", "rate": mean, "formula": 2.0, "z": z}
    crowd = panel({"ordinary": 2, "typographer": 1})
    hits = sum(crowd.compare(PROMPT, BOLD, GOOD, rng) == 1 for _ in range(n))
    yield _score("crowd 2 : 1", hits, n, crowd.probability(PROMPT, BOLD, GOOD))
    judge = ai_judge()
    there, back = judge.probability(PROMPT, 0.2, 0.0), judge.probability(PROMPT, 0.0, 0.2)
    both = sum(swap_average(judge, PROMPT, 0.2, 0.0, rng) == 1 for _ in range(n))
    yield _score("swap: both say first", both, n, there * (1 - back))


def check_rates(seed: int = 0, n: int = 4000) -> list[dict]:
    """[{"knob", "rate", "formula", "z"}]: n answers a knob against the exact probability, the same on every machine."""
    if n < 1:
        raise ValueError(f"n is {n}; give at least 1 answer a knob")
    rng, rows = random.Random(seed), []
    for knob, who, a, b, date in _pairs():
        said = [who.compare(PROMPT, a, b, rng, date=date) for _ in range(n)]
        exact = who.probabilities(PROMPT, a, b, date)
        rows.append(_score(knob, said.count(1.0), n, exact[0]))
        if who.tie:
            rows.append(_score(f"{knob}: ties", said.count(0.5), n, exact[1]))
    return rows + list(_others(rng, n))


def main() -> None:
    """Print the table."""
    rows = check_rates()
    print(f"{'knob':<24}{'rate':>9}{'formula':>9}{'z':>7}")
    for row in rows:
        print(f"{row['knob']:<24}{row['rate']:>9.4f}{row['formula']:>9.4f}{row['z']:>7.2f}")
    print(f"largest |z| of {len(rows)}: {max(abs(row['z']) for row in rows):.2f}")


if __name__ == "__main__":
    main()
