"""The timeline's data file: whole, in order, and a broken row is named."""

import pytest

from rlhf_minimal.book import history


def test_the_timeline_is_whole_and_in_order():
    rows = history.papers()
    years = [int(row["year"]) for row in rows]
    assert years == sorted(years) and years[0] == 1952 and len(rows) >= 12
    assert all(row["source"].startswith("https://") for row in rows)
    assert "Christiano" in history.timeline().alt
    words = [text.get_text() for text in history.four_signs().axes[0].texts]
    assert all(pay in words for pay in ("r − β KL", "r + β KL", "−r − β KL", "−r + β KL"))


def test_a_broken_row_is_named(tmp_path, monkeypatch):
    (tmp_path / "timeline.csv").write_text("|".join(history.COLUMNS) + "\n2030|Nobody||loss|nothing|yes|https://x\n")
    monkeypatch.setattr(history, "SHIPPED", tmp_path)
    with pytest.raises(ValueError, match="Nobody"):
        history.papers()
