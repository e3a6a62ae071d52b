import pytest

from rlhf_minimal.book import scores


def words(fig):
    return [t.get_text() for ax in fig.axes for t in ax.texts]


def test_an_answer_grows_beside_its_score_and_true_reward():
    fig = scores.grown("Who is it?", ["The fox.", "You can ask me again."], [0.0, 1.26], [3.0, 3.0], note_below="mean")
    said = words(fig)
    assert {"as it is", "+1.3", "3.0", "The fox.", "+ You can ask me again."} <= set(said) and 40 <= len(fig.alt) <= 300
    with pytest.raises(ValueError, match="as many of each"):
        scores.grown("?", ["a"], [0.0, 1.0], [3.0])


def test_labels_stand_below_their_tokens():
    fig = scores.where_labels(["3+9", "=12.", "end"], {"process": ["", "0", ""], "outcome": ["1"] * 3}, title="Where")
    assert words(fig).count("1") == 3 and words(fig).count("0") == 1 and 40 <= len(fig.alt) <= 300
    with pytest.raises(ValueError, match="'process' has 1 labels for 2 tokens"):
        scores.where_labels(["a", "b"], {"process": ["1"]})


def test_the_explorer_at_every_corner():
    explorer = scores.teacher_and_student(lambda bias, noise, pairs: (0.74, 0.5 + bias / 10), bias=[0.0, 2.5],
                                          noise=[0.25, 6.0], pairs=[64, 4096])
    assert len(explorer.corners()) == 8
    for values in explorer.corners():
        assert explorer.words(explorer.compute(**values))[0].startswith("teacher right in 74 %")
    assert explorer.paint(**explorer.first)[:4] == b"\x89PNG"
