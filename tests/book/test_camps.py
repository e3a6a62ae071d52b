import pytest

from rlhf_minimal.book import camps, plots
from rlhf_minimal.evaluate import votes
from rlhf_minimal.village import Crowd, Reader

CIRCLE = {("happy", "sad", "quiet"): 40, ("sad", "quiet", "happy"): 35, ("quiet", "happy", "sad"): 25}


def words(fig):
    return [t.get_text() for ax in fig.axes for t in ax.texts]


def test_squares_hide_what_is_not_given():
    fig = camps.squares([("before", "one try", 0.43), ("after", "best", None)])
    assert "43 happy" in words(fig) and "57 sad" in words(fig) and "?" in words(fig) and len(fig.axes[0].patches) == 200
    assert 40 <= len(fig.alt) <= 300


def test_the_circle_shows_camps_and_majorities():
    said = words(camps.circle(CIRCLE))
    assert {"40 %", "35 %", "25 %", "65 %", "75 %", "60 %"} <= set(said)


def test_rules_say_every_share_and_the_missing_winner():
    fig = camps.rules({"the circle": {"Condorcet": {}, "maximal lottery": votes.maximal_lottery(CIRCLE)}})
    assert {"no winner", "50 % happy", "30 % quiet", "20"} <= set(words(fig))
    assert "feelings" in words(camps.road())


def test_labels_get_the_colour_of_their_line():
    fig = plots.panels({"share": {"60 / 40": [0.5, 0.9], "coin flips": [0.5, 0.4]}}, title="t", x_label="n")
    before = {t.get_text(): t.get_color() for t in fig.axes[0].texts}
    after = {t.get_text(): t.get_color() for t in camps.tinted(fig).axes[0].texts}
    lines = {line.get_label(): line.get_color() for line in fig.axes[0].get_lines()}
    assert len(set(before.values())) == 1 and after["60 / 40"] == lines["60 / 40"] != after["coin flips"]


def test_the_explorer_computes_at_every_corner():
    explorer = camps.explorer()
    for values in explorer.corners():
        data, (people, other, beta) = explorer.compute(**values), values.values()
        assert 0 <= data["policy"] <= 1 and data["best"] in (0.0, 1.0)
        crowd = Crowd((Reader(likes=("happy", "sad")), Reader(likes=("sad", "happy"), temperature=other)),
                      (people / 100, 1 - people / 100))
        exact = sum(w * r.probability("", r.worth("happy"), r.worth("sad"))
                    for w, r in zip(crowd.shares, crowd.annotators, strict=True))
        assert data["labels"] == pytest.approx(exact)
        if beta == 1:
            assert data["policy"] == pytest.approx(data["labels"])
