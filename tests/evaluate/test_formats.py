"""The village's facts as an examination: one right sentence each, and a form that has a place for the question."""

import pytest

from rlhf_minimal.evaluate import formats
from rlhf_minimal.village import FACTS


def test_facts_have_one_right_sentence_each():
    rows = formats.facts()
    assert len(rows) == len(FACTS) == 120 and formats.facts(1) != rows
    for row in rows:
        assert formats.exact_match(row, row["reference"]) and row["options"][0] == row["reference"]
        assert [formats.names_fact(row, text) for text in row["options"]] == [True, False, False, False]
    assert not formats.exact_match(rows[0], rows[0]["reference"] + " ")


def test_a_form_without_a_place_is_refused():
    with pytest.raises(ValueError, match="where the question goes"):
        formats.ask(None, None, [], "no place")
