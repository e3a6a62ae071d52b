"""Whatever stands in a file: rows come out, or ValueError with a message of ours; and no row disappears without being counted.

RLHF_FUZZ=2000 python -m pytest tests/data/test_fuzz.py      the slow lane: 2,000 cases in all; 100 without it
"""

import json
import os
import re
import tempfile
import warnings
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlhf_minimal import chat, data
from rlhf_minimal.data.columns import KINDS

TESTS = 15  # that draw cases, each kind of rows and each name of a file counted
CASES = -(-int(os.environ.get("RLHF_FUZZ", "100")) // TESTS)
fuzz = partial(settings, derandomize=True, deadline=None, database=None, max_examples=CASES)

ODD = [
    "",
    " ",
    "\n",
    "\x00",
    "\ufeff",
    "\u2028",
    "\ud800",
    "\x85",
    "a\rb",
    "<|end|>",
    "\n\nHuman: q\n\nAssistant: a",
    "ü" * 30,
    "1",
    "nan",
]
TEXT = st.one_of(st.sampled_from(["q", "a", "b", *ODD]), st.text(max_size=12))
NUMBER = st.one_of(
    st.integers(-2, 2), st.sampled_from([2**63, -(2**63) - 1, 10**30, 0.5, float("nan"), float("inf"), True, False, None])
)
ROLE = st.sampled_from(["user", "assistant", "system", "human", "gpt", "tool", "developer", "critic", "", None, 3])
PART = st.one_of(TEXT, st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}), st.just({"type": "image"}))
CONTENT = st.one_of(TEXT, st.lists(PART, max_size=2), NUMBER)
EXTRA = {"weight": NUMBER, "tool_calls": st.lists(NUMBER, max_size=1), "reasoning_content": TEXT}
TURN = st.one_of(
    st.fixed_dictionaries({"role": ROLE, "content": CONTENT}, optional=EXTRA),
    st.fixed_dictionaries({"from": ROLE, "value": CONTENT}),
    NUMBER,
    TEXT,
)
GOOD_TALK = st.lists(TEXT, min_size=1, max_size=5).map(
    lambda x: [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(x)]
)
VALUE = st.one_of(TEXT, TEXT, GOOD_TALK, st.lists(TURN, max_size=4), NUMBER, TURN, st.lists(TEXT, max_size=3))
NAMES = [
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "label",
    "messages",
    "conversations",
    "instruction",
    "input",
    "output",
    "question",
    "response",
    "answer",
    "system",
    "history",
    "response_a",
    "response_b",
    "winner",
    "score_a",
    "score_b",
    "rating",
    "responses",
    "ratings",
    "human_ref_A",
    "human_ref_B",
    "labels",
    "margin",
    "weight",
    "split",
    "family",
    "x",
    "data",
    "",
]
ROW = st.dictionaries(st.sampled_from(NAMES), VALUE, max_size=6)
SHAPED = {
    "prompts": {"prompt": VALUE},
    "demonstrations": {"prompt": VALUE, "completion": VALUE},
    "pairs": {"prompt": VALUE, "chosen": VALUE, "rejected": VALUE},
    "unpaired": {"prompt": VALUE, "completion": VALUE, "label": st.one_of(NUMBER, TEXT)},
    "messages": {"messages": VALUE},
}
FOREIGN = re.compile(
    r"Traceback|pyarrow|Arrow|object has no attribute|NoneType|unhashable|subscriptable|not supported between|codec can't"
)


@pytest.fixture(scope="module")
def tokenizer():
    """One token a byte, and a template that refuses system turns."""
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(["<|end|>", "<|user|>", "<|assistant|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>", chat_template=chat.VILLAGE_TEMPLATE
    )


def attempt(name, content, kind, tokenizer, **how):
    """Read a file and check its rows as a run would -> (rows, what was said), or None where it was refused in our words."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            rows, numbers = data.load_numbered(path, kind, **how)
            if kind != "messages":
                data.check_rows(rows, tokenizer, 24, kind=kind, numbers=numbers, source=name, turns="all")
        except ValueError as error:
            assert type(error) is ValueError or type(error).__name__ == "_Unknown", type(error)
            assert name in str(error) or "split is" in str(error), str(error)
            assert not FOREIGN.search(str(error)), str(error)
            return None
        return rows, [str(w.message) for w in said]


def all_accounted(rows, said, total):
    left_out = sum(
        int(n) for text in said if "left out: {" in text for n in re.findall(r": (\d+)[,}]", text.split("left out: ")[1])
    )
    assert len(rows) + left_out == total, (len(rows), said, total)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_any_columns(tokenizer, kind):
    @fuzz()
    @given(
        st.lists(
            st.one_of(ROW, st.fixed_dictionaries(SHAPED[kind], optional={n: VALUE for n in ("margin", "system", "x")})),
            min_size=1,
            max_size=3,
        )
    )
    def check(rows):
        lines = "\n".join(json.dumps(r) for r in rows)
        found = attempt("x.jsonl", lines.encode(), kind, tokenizer)
        if found and not any("rating" in r or "data" in r for r in rows):  # rated rows become pairs, "data" may hold rows
            all_accounted(*found, len(rows))

    check()


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.tsv", "x.parquet", "x.jsonl.gz", "x"])
def test_bytes_of_any_kind(tokenizer, name):
    some = st.sampled_from(
        [
            b'{"prompt": "q"}',
            b"[",
            b"]",
            b"{",
            b"}",
            b",",
            b"\n",
            b"\r\n",
            b'"',
            b"prompt",
            b"\xff\xfe",
            b"\xef\xbb\xbf",
            b"\0",
            b"PAR1",
            b"\x1f\x8b",
            b":",
            b"[[",
            b"1e999",
            b"\xc3",
            b";",
            b"\t",
        ]
    )

    @fuzz()
    @given(st.lists(st.one_of(some, st.binary(max_size=6)), max_size=8).map(b"".join))
    def check(content):
        attempt(name, content, "prompts", tokenizer)

    check()


@fuzz()
@given(st.lists(st.lists(TEXT.filter(lambda x: "\ud800" not in x), min_size=2, max_size=2), min_size=1, max_size=4))
def test_a_csv_file_comes_back_cell_by_cell(cells):
    import csv
    import io

    cells = [[x.replace("\x00", "") for x in row] for row in cells]
    text = io.StringIO()
    csv.writer(text).writerows([["prompt", "x"], *cells])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.csv").write_bytes(text.getvalue().encode())
        found = data.read.local_rows(Path(folder) / "x.csv", "train")
    assert [[r["prompt"], r["x"]] for r in found] == cells


@fuzz()
@given(st.text(max_size=20) | st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=2) | NUMBER)
def test_columns_by_hand(columns):
    try:
        data.shapes.parse_columns(columns)
    except ValueError as error:
        assert "give ours=theirs" in str(error)


@fuzz()
@given(GOOD_TALK.filter(lambda x: len(x) % 2), TEXT, TEXT, st.integers(2, 40))
def test_a_pair_that_is_cut(tokenizer, talk, a, b, max_len):
    if "\ud800" in json.dumps([talk, a, b], ensure_ascii=False):  # refused where the rows are read
        return
    try:
        (one, two), cut, endless = data.encode_row(tokenizer, talk, [a, b], max_len, "all")
    except ValueError:
        return
    whole = data.encode_row(tokenizer, talk, [a, b])[0]
    prompt = len(chat.encode_prompt(tokenizer, talk))
    assert cut == (max(len(x[0]) for x in whole) > max_len) and max(len(one[0]), len(two[0])) <= max_len
    if cut and not endless:
        kept = [len(x[0]) - (len(w[0]) - prompt) for x, w in zip((one, two), whole, strict=True)]
        assert kept[0] == kept[1] > 0 and one[0][: kept[0]] == two[0][: kept[0]]


def test_negative_control_a_silent_drop_is_noticed():
    all_accounted([1, 2], ["x: 1 of 3 rows left out: {'an empty answer': 1}"], 3)
    with pytest.raises(AssertionError):
        all_accounted([1], ["x: 1 of 3 rows left out: {'an empty answer': 1}"], 3)
