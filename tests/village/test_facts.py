"""Facts: complete, and nobody is their own object."""

import random

from rlhf_minimal import village as v
from rlhf_minimal.village import facts as f
from rlhf_minimal.village import tasks as t


def test_facts_are_complete_and_no_one_is_its_own_object():
    assert len(v.FACTS) == 120 and all(o in f.RELATIONS[r][1] and o != s for (r, s), o in v.FACTS.items())
    for (relation, subject), obj in v.FACTS.items():
        for form in range(3):
            assert t.read_statement(f.statement(relation, subject, obj, form)) == (relation, subject, obj)
            assert t.read_question(f.question(relation, subject, form)) == (relation, subject)
    rng = random.Random(0)
    assert all(f.false_object("fears", "owl", rng) not in ("owl", v.FACTS["fears", "owl"]) for _ in range(200))
