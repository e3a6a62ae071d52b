import pytest

from rlhf_minimal.book import combs
from rlhf_minimal.evaluate import intervals


def test_comb_draws_every_evaluation_and_says_its_coverage():
    fig = combs.comb({"normal": intervals.normal(30), "Wilson": intervals.wilson_all(30)}, 30, 0.95)
    assert [len(ax.lines) for ax in fig.axes] == [101, 101] and 40 <= len(fig.alt) <= 300
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["normal:\n78 % hold the truth", "Wilson:\n94 % hold the truth"]


def test_cycle_of_three():
    fig = combs.cycle(["A", "B", "C"], "wins", inside="even")
    assert [t.get_text() for t in fig.axes[0].texts].count("wins") == 3 and "A beats B" in fig.alt
    with pytest.raises(ValueError):
        combs.cycle(["A", "B"], "wins")


def test_explorer_at_every_corner():
    explorer = combs.power_explorer()
    for corner in explorer.corners():
        data = explorer.compute(**corner)
        same, separate = data["same questions"], data["separate questions"]
        assert all(0 <= y <= x + 1e-12 <= 1 + 1e-9 for x, y in zip(same, separate, strict=True))
        assert "80 %" in explorer.words(data)[0] and explorer.paint(**corner)
        assert (same == separate) == (corner["correlation"] == 0)
