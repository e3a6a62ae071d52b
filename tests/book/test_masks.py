"""Pictures of masks: which tokens a rule counts, and what they refuse."""

import json

import matplotlib

matplotlib.use("Agg")
import pytest  # noqa: E402

from rlhf_minimal.book import masks  # noqa: E402
from rlhf_minimal.chat import encode_messages  # noqa: E402
from rlhf_minimal.models import load  # noqa: E402


def test_the_rules_count_what_they_say():
    tokens, counts = masks.counted("two turns", "answers and their ends")
    assert [t for t, m in zip(tokens, counts, strict=True) if m] == "The fox eats cakes. <|end|> The owl eats nuts. <|end|>".split()
    last = masks.counted("two turns", "the last answer only")[1]
    assert [t for t, m in zip(tokens, last, strict=True) if m] == "The owl eats nuts. <|end|>".split()
    assert all(masks.counted("two turns", "everything")[1])
    hidden = masks.counted("two turns", "no end tokens")[1]
    assert sum(counts) - sum(hidden) == 2 and hidden == masks.counted("two turns", "all but the padding's id")[1]
    one = masks.counted("one turn", "the last answer only")
    assert one == masks.counted("one turn", "answers and their ends")
    with pytest.raises(ValueError, match="expected one of"):
        masks.counted("three turns", "everything")


@pytest.mark.parametrize(("turns", "rule"), [("all", "answers and their ends"), ("last", "the last answer only")])
def test_the_strip_agrees_with_the_mask_of_the_package(turns, rule):
    _, tokenizer = load("village-3m-sft")
    chat = [{"role": role, "content": text} for turn in masks.CONVERSATIONS["two turns"]
            for role, text in zip(("user", "assistant"), turn, strict=True)]
    ids, mask = encode_messages(tokenizer, chat, turns=turns)
    trained = tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])
    tokens, counts = masks.counted("two turns", rule)
    assert trained.replace(" ", "") == "".join(t for t, m in zip(tokens, counts, strict=True) if m)


def test_every_setting_of_the_explorer_is_painted():
    explorer = masks.explorer()
    for values in explorer.corners():
        assert explorer.compute(**values) == explorer.compute(**values)
        assert explorer.paint(**values)[:4] == b"\x89PNG" and json.dumps(explorer.frame(values))
    assert "24 of 24 tokens" in explorer.words(explorer.compute(conversation="two turns", rule="everything"))[0]


def test_two_models_one_box_apart():
    tokens, counts = masks.counted("one turn", "answers and their ends")
    fig = masks.one_box_apart(tokens, [("A", counts, ["Red. And more."]), ("B", counts, [""])], ["Which hat?"])
    words = [t.get_text() for t in fig.axes[0].texts]
    assert {"A", "B", "Which hat?", "Red.", "And more.", "(nothing)"} - {w.strip() for w in words} <= {"(nothing)"}
    assert 40 <= len(fig.alt) <= 300
    with pytest.raises(ValueError, match="1 requests; give one for each"):
        masks.one_box_apart(tokens, [("A", counts, ["Red.", "Blue."])], ["Which hat?"])
