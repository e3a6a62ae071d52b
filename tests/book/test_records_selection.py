"""Rows of a table of selections, quoted intervals over runs, and texts of one seed."""

import pytest

from rlhf_minimal.book import records
from rlhf_minimal.book.records import Recorded

KINDS = ("a", "b")


def made():
    def arm(x):
        return {k: {"gold": x + i, "kl": 2 * x} for i, k in enumerate(KINDS)}
    return Recorded(name="t", kept={str(s): {"best": {"mean": 2.0 + s}, "usual": {"mean": 1.0}} for s in (0, 1)},
                    arms={str(s): {"start": arm(1.0), "best": arm(2.0 + s)} for s in (0, 1)},
                    texts={"0": {"start": [{"prompt": "Who?", "completion": "A fox.", "gold": 3.0}],
                                 "best": [{"prompt": "Who?", "completion": "No.", "gold": 0.0}]}})


def test_what_was_kept_what_was_learned_and_how_far():
    rows = made().selection_rows({"as it is": "start", "the best": "best", "the usual": "usual"}, KINDS)
    assert rows["as it is"] == {"kept rows": None, "the model": (1.5, 0.0), "KL": None}
    assert [round(x[0], 6) for x in rows["the best"].values()] == [2.5, 3.0, 5.0]
    assert rows["the usual"] == {"kept rows": (1.0, 0.0), "the model": None, "KL": None}


def test_texts_of_one_seed_fit_cards():
    assert made().texts_of({"now": "start", "then": "best"}, 0) == [("Who?", [("now", "A fox.", 3.0), ("then", "No.", 0.0)])]
    with pytest.raises(ValueError, match="no texts of 'other'"):
        made().texts_of({"x": "other"}, 0)


def test_quoted_intervals(monkeypatch):
    said = {}
    monkeypatch.setattr(records, "quote", lambda name, text: said.update({name: text}))
    records.quote_runs({"up": [1.0, 1.0]}, sign=True)
    records.quote_runs({"down": [-1.0, -1.0]}, digits=1)
    records.quote_runs({"share": [0.25, 0.25]}, percent=True)
    assert said == {"up": "+1.00 ± 0.00", "down": "−1.0 ± 0.0", "share": "25 ± 0 %"}
