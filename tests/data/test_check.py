"""Before the first step: what is cut is counted, what cannot be trained on is named by its row."""

import datasets
import pytest

from rlhf_minimal import chat, data
from tests.data.test_collate import tokenizer  # noqa: F401  (a fixture)

Q, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


def test_lengths_are_counted(tokenizer):  # noqa: F811
    rows = [{"prompt": "q", "completion": "a" * n} for n in (3, 10, 30, 40)]
    found = data.check_rows(rows, tokenizer, 14, kind="demonstrations")
    assert (found.rows, found.cut, found.endless, found.fits) == (4, 3, 2, (0, 1))
    assert str(found) == "3 of 4 rows cut to 14, 2 without their end"
    assert str(data.check_rows(rows, tokenizer, 100, kind="demonstrations")) == "0 of 4 rows cut to 100"
    prompts = data.check_rows([{"prompt": "q" * n} for n in (1, 50)], tokenizer, 20, kind="prompts")
    assert (prompts.cut, prompts.endless) == (1, 0)


def test_wrong_rows_are_named_by_their_number(tokenizer):  # noqa: F811
    long = "the same for a long time "
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": long + "a", "rejected": long + "b"}] * 2
    with pytest.raises(ValueError, match=r"x, row 7: .*equal within max_len=12.*2 of 4 rows are wrong; next, row 12"):
        data.check_rows(rows, tokenizer, 12, kind="pairs", numbers=[3, 7, 9, 12], source="x")
    with pytest.raises(ValueError, match="row 2: the prompt .* does not end in a user's turn"):
        data.check_rows([{"prompt": "q"}, {"prompt": [Q, A]}], tokenizer, 12, kind="prompts")
    with pytest.raises(ValueError, match="row 1: column prompt has the token .*, but the model knows 50 tokens"):
        data.check_rows([{"prompt": "q"}], tokenizer, 12, kind="prompts", vocabulary=50)


def test_a_template_that_refuses_a_role(tokenizer):  # noqa: F811
    strict = tokenizer
    strict.chat_template, kept = chat.VILLAGE_TEMPLATE, strict.chat_template
    try:
        rows = [{"prompt": "q", "completion": "a"}, {"prompt": [{"role": "system", "content": "s"}, Q], "completion": "a"}]
        with pytest.raises(ValueError, match="row 2: the chat template refuses turns system, user"):
            data.check_rows(rows, strict, 50, kind="demonstrations")
        with pytest.raises(ValueError, match="row 2 cannot be read by the judge J: the chat template refuses"):
            data.check_prompts([r["prompt"] for r in rows], strict, "the judge J")
        with pytest.warns(UserWarning, match="1 of 1 prompts are cut to 5 tokens where J reads them"):
            data.check_prompts(["a long question"], strict, "J", room=5)
    finally:
        strict.chat_template = kept


def test_ready_leaves_out_or_warns(tokenizer):  # noqa: F811
    rows = datasets.Dataset.from_list([{"prompt": "q", "completion": "a" * n, "margin": 1.0} for n in (3, 30)])
    with pytest.warns(UserWarning, match="1 of 2 rows cut to 14, 1 without their end, which do not teach to stop"):
        kept, _ = data.ready(rows, tokenizer, 14, kind="demonstrations", margin=True)
    assert len(kept) == 2
    kept, lengths = data.ready(rows, tokenizer, 14, kind="demonstrations", long="leave_out", margin=True)
    assert kept["completion"] == ["aaa"] and lengths.endless == 1
    with pytest.warns(UserWarning, match="the column margin of 2 rows is not used"):
        data.ready(rows, tokenizer, 50, kind="demonstrations")
    with pytest.raises(ValueError, match="no row is left; raise max_len"):
        data.ready(rows.select([1]), tokenizer, 14, kind="demonstrations", long="leave_out", margin=True)
