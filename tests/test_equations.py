"""@implements says which equation a function computes, and does nothing else."""

import pytest

from rlhf_minimal import equations


def test_implements_sets_an_attribute_and_nothing_else():
    def fn(x):
        return x

    assert equations.implements("eq:a", "eq:b")(fn) is fn and fn.__equations__ == ("eq:a", "eq:b")
    for labels in ((), ("dpo",), (fn,)):
        with pytest.raises(ValueError, match="eq:"):
            equations.implements(*labels)
