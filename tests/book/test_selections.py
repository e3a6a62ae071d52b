"""Pictures of a selection: what is counted, what is marked, and what they refuse."""

import matplotlib

matplotlib.use("Agg")
import pytest  # noqa: E402
from matplotlib.patches import FancyBboxPatch  # noqa: E402

from rlhf_minimal.book import plots, selections  # noqa: E402

COUNTS = {"per prompt": {"stories": 4, "facts": 4}, "overall": {"stories": 0, "facts": 8}}
TEXTS = [("Kept", "Who is Ada?", "Ada is a fox.", "score 1.0"), ("Dropped", "A story?", "Once upon a time. " * 6, "score 0.1")]


@pytest.fixture(autouse=True)
def closed():
    yield
    plots.plt.close("all")


def words(fig):
    return [t.get_text() for t in fig.axes[0].texts]


def test_bars_are_as_long_as_the_counts_and_the_texts_stand_below():
    fig = selections.kept_and_dropped(COUNTS, TEXTS, title="Who is heard")
    longest = max(patch.get_width() for patch in fig.axes[0].patches if not isinstance(patch, FancyBboxPatch))
    widths = [patch.get_width() for patch in fig.axes[0].patches if not isinstance(patch, FancyBboxPatch)]
    assert widths[2:] == pytest.approx([longest / 2, 0, longest / 2, longest])
    assert {"Who is heard", "Kept", "Dropped", "Who is Ada?", "“Ada is a fox.”", "0", "8"} <= set(words(fig))
    assert 40 <= len(fig.alt) <= 300 and "stories" in fig.alt


def test_two_selections_over_the_same_kinds():
    for wrong in ({"one": {"a": 1}}, {"one": {"a": 1}, "two": {"b": 1}}):
        with pytest.raises(ValueError, match="same kinds"):
            selections.kept_and_dropped(wrong, TEXTS)


def test_a_prompt_of_which_nothing_is_kept_says_so():
    scores = [[0.7, 0.3], [0.9, 0.8]]
    fig = selections.score_matrix(scores, {"per prompt": [0, 2], "overall": [2, 3]})
    assert words(fig).count("nothing") == 1 and words(fig).count("0.7") == 2
    bold = [t.get_text() for t in fig.axes[0].texts if t.get_fontweight() == "bold"]
    assert bold == ["per prompt", "0.7", "0.9", "overall", "nothing", "0.9", "0.8"]
    with pytest.raises(ValueError, match="position 4"):
        selections.score_matrix(scores, {"all": [4]})
