"""Columns: every form of a row becomes the same row, and useless pairs are counted."""

import json
import warnings

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlhf_minimal import chat, data

USER, BOT = "user", "assistant"


def say(*turns):
    return [{"role": role, "content": text} for role, text in turns]


@pytest.fixture(scope="module")
def tokenizer():
    """One token a byte, with the village's special tokens."""
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(["<|end|>", "<|user|>", "<|assistant|>", "<call>", "</call>", "<out>", "</out>"])
    template = ("{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
                "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>", chat_template=template)


def hh(*turns):
    return "".join(f"\n\n{'Human' if i % 2 == 0 else 'Assistant'}: {x}" for i, x in enumerate(turns))


@pytest.mark.parametrize("a, b, common, rests", [
    (("q", "yes"), ("q", "no"), 1, (1, 1)),
    (("q", "r", "s", "yes"), ("q", "r", "s", "no"), 3, (1, 1)),
    (("q", "r", "s", "t"), ("q", "no", "s", "t"), 1, (3, 3)),          # they part early, and then say the same again
    (("q", "r", "s", "t"), ("q", "r"), 1, (3, 1)),
    (("q", "r", "s", "t"), ("q", "r", "u", "t"), 1, (3, 3)),           # other questions: cut before the shared answer
    (("q", "r"), ("q", "r"), 1, (1, 1)), (("q", "r"), ("x", "r"), 0, (2, 2))])
def test_last_common_turn(a, b, common, rests):
    prompt, one, two = data.last_common_turn(hh(*a), hh(*b))
    assert len(prompt) == common and (len(one), len(two)) == rests
    assert [m["content"] for m in prompt + one] == list(a) and [m["content"] for m in prompt + two] == list(b)
    assert not prompt or prompt[-1]["role"] == USER
    assert data.last_common_turn(chat.to_messages(hh(*a)), chat.to_messages(hh(*b))) == (prompt, one, two)


def write(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in rows), encoding="utf-8")
    return path


Q = say((USER, "q"))
PAIRS = {
    "text": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "messages": {"prompt": Q, "chosen": say((BOT, "a")), "rejected": say((BOT, "b"))},
    "no prompt": {"chosen": Q + say((BOT, "a")), "rejected": Q + say((BOT, "b"))},
    "prompt twice": {"prompt": "q", "chosen": Q + say((BOT, "a")), "rejected": Q + say((BOT, "b"))},
    "transcript": {"chosen": hh("q", "a"), "rejected": hh("q", "b")},
}


@pytest.mark.parametrize("form", PAIRS)
def test_every_form_of_a_pair_is_the_same_pair(form, tmp_path, tokenizer):
    rows = data.load_data(write(tmp_path, PAIRS[form] | {"extra": 1}), "pairs")
    assert rows.column_names == ["prompt", "chosen", "rejected", "extra"]
    assert (rows[0]["chosen"], rows[0]["rejected"]) == ("a", "b")
    assert chat.encode_prompt(tokenizer, rows[0]["prompt"]) == chat.encode_prompt(tokenizer, "q")
    assert isinstance(rows[0]["prompt"], str) == (form in ("text", "prompt twice", "transcript"))


def test_conversational_demonstrations(tmp_path):
    talk = say((USER, "q"), (BOT, "a"), (USER, "r"), (BOT, "b"))
    rows = data.load_data(write(tmp_path, {"messages": talk}), "demonstrations")
    assert rows[0] == {"prompt": talk[:3], "completion": "b"}
    both = data.load_data(write(tmp_path, {"prompt": talk[:3], "completion": talk[3:]}), "messages")
    assert both[0]["messages"] == talk
    assert data.load_data(write(tmp_path, {"messages": talk}), "prompts")[0]["prompt"] == talk[:3]
    ends = write(tmp_path, {"messages": talk}, {"messages": talk[:3]})
    with pytest.warns(UserWarning, match="1 of 2 rows left out"):
        assert len(data.load_data(ends, "demonstrations")) == 1


def test_useless_pairs_are_left_out_and_counted(tmp_path):
    path = write(tmp_path, PAIRS["text"], PAIRS["text"] | {"rejected": "a"}, PAIRS["text"] | {"chosen": " "},
                 PAIRS["text"] | {"rejected": "a"})
    with pytest.warns(UserWarning, match="3 of 4 rows left out") as caught:
        rows = data.load_data(path, "pairs")
    assert len(rows) == 1 and "'chosen equals rejected': 2" in str(caught[0].message) and caught[0].filename == __file__
    strangers = write(tmp_path, PAIRS["transcript"], {"chosen": hh("q", "a"), "rejected": hh("p", "a")})
    with pytest.warns(UserWarning, match="no common turn"):
        assert len(data.load_data(strangers, "pairs")) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.load_data(write(tmp_path, PAIRS["text"]), "pairs")
