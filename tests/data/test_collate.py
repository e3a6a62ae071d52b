"""Collators against rows encoded alone, and batches that lose no row."""

import pytest
import torch
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


ROWS = [{"prompt": "How much?", "completion": "Two.", "chosen": "Two.", "rejected": "Three, I think."},
        {"prompt": "And a longer question, is it?", "completion": "", "chosen": "It is.", "rejected": "No."},
        {"prompt": say((USER, "q"), (BOT, "a"), (USER, "r")), "completion": "b", "chosen": "b", "rejected": "c"}]


def same_rows(batch, encoded):
    for i, (ids, mask) in enumerate(encoded):
        k = len(ids)
        assert batch["ids"][i, :k].tolist() == ids and batch["mask"][i, :k].tolist() == mask
        assert batch["attention"][i].tolist() == [1.0] * k + [0.0] * (batch["ids"].shape[1] - k)
        assert not batch["mask"][i, k:].any()


def test_collate_demonstrations(tokenizer):
    batch = data.collate_demonstrations(ROWS, tokenizer)
    assert {k: x.dtype for k, x in batch.items()} == {"ids": torch.int64, "attention": torch.float32, "mask": torch.float32}
    same_rows(batch, [chat.encode_pair(tokenizer, r["prompt"], r["completion"]) for r in ROWS])
    assert batch["mask"].sum(1).tolist() == [5, 1, 2]                       # the letters and one EOS (A5, A6)
    short = data.collate_demonstrations(ROWS, tokenizer, 12)
    assert short["ids"].shape[1] == 12 and short["mask"].sum(1).tolist() == [5, 1, 2]    # the prompt is cut (A7)


def test_collate_pairs(tokenizer):
    batch = data.collate_pairs(ROWS, tokenizer)
    assert {x.shape[0] for x in batch.values()} == {6}
    for side, part in zip(("chosen", "rejected"), (0, 1), strict=True):
        half = {k: x.chunk(2)[part] for k, x in batch.items()}
        same_rows(half, [chat.encode_pair(tokenizer, r["prompt"], r[side]) for r in ROWS])
    alike = [{"prompt": "q", "chosen": "long and good", "rejected": "long and bad"}]
    assert data.collate_pairs(alike, tokenizer, 16)["mask"].sum(1).tolist() == [14, 13]
    with pytest.raises(ValueError, match=r"rows \[0\] are equal within max_len=10"):
        data.collate_pairs(alike, tokenizer, 10)


def test_collators_want_their_columns(tokenizer):
    for collate, missing in ((data.collate_pairs, "chosen, rejected"), (data.collate_demonstrations, "completion")):
        with pytest.raises(ValueError, match=f"row 1 of the batch has prompt; expected also {missing}"):
            collate([ROWS[0], {"prompt": "q"}], tokenizer)
        with pytest.raises(ValueError, match="0 rows"):
            collate([], tokenizer)


def test_prompts_ids(tokenizer):
    assert data.prompts_ids(ROWS, tokenizer) == [chat.encode_prompt(tokenizer, r["prompt"]) for r in ROWS]
    cut = data.prompts_ids(ROWS, tokenizer, 4)
    assert [x[-1] for x in cut] == [tokenizer.convert_tokens_to_ids("<|assistant|>")] * 3 and {len(x) for x in cut} == {4}
    with pytest.raises(ValueError, match="max_len is 0"):
        data.prompts_ids(ROWS, tokenizer, 0)


def test_batches():
    rows = data.load_data(n=23)
    epoch = list(data.batches(rows, 5, seed=1))
    assert [len(b) for b in epoch] == [5, 5, 5, 5, 3] and [len(b) for b in data.batches(rows, 5, drop_last=True)] == [5] * 4
    flat = [r["prompt"] for b in epoch for r in b]
    assert sorted(flat) == sorted(rows["prompt"]) and flat != list(rows["prompt"])
    assert list(data.batches(rows, 5, seed=1)) == epoch != list(data.batches(rows, 5, seed=2))
    assert [r for b in data.batches(rows, 5, shuffle=False) for r in b] == list(rows)
    generator, state = torch.Generator().manual_seed(1), torch.get_rng_state()
    assert list(data.batches(rows, 5, generator=generator)) == epoch != list(data.batches(rows, 5, generator=generator))
    assert torch.equal(torch.get_rng_state(), state)                        # B11
    with pytest.raises(ValueError, match="size is 0"):
        next(data.batches(rows, 0))
