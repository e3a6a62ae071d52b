"""Grammar: order, cast and things of a story; sums worked column by column."""

import random
import re

from rlhf_minimal.village import facts as f
from rlhf_minimal.village import grammar as g
from rlhf_minimal.village import tasks as t
from rlhf_minimal.village.gold import _fitting, mood_score


def test_coherence_sees_order_cast_and_things():
    rng, plain, backwards = random.Random(5), [], []
    for i in range(300):
        plot, hero = rng.choice(tuple(g.PLOTS)), rng.choice(f.ANIMALS + f.PEOPLE)
        sentences, _ = g.story(hero, rng.choice(f.MOODS), 3 + i % 2, rng, plot)
        plain.append(_fitting(plot, sentences) / len(sentences))
        backwards.append(_fitting(plot, sentences[::-1]) / len(sentences))
    assert set(plain) == {1.0} and max(backwards) < 0.7
    assert mood_score("Ben was not afraid. All was quiet.", "calm") == 1
    assert mood_score("Ben was afraid. All was quiet.", "calm") == 0.5


def test_working_is_column_addition():
    rng = random.Random(6)
    for _ in range(300):
        a, b = rng.randint(0, 9999), rng.randint(0, 9999)
        steps, result = t.working(a, b)
        assert result == a + b and len(steps) == max(len(str(a)), len(str(b)))
        assert all(eval(s.split(" = ")[0]) == int(re.findall(r"= (\d+)", s)[0]) for s in steps)
    assert t.working(75, 48, carry=False)[1] == 113
