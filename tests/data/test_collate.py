"""Collators against rows encoded alone, and batches that lose no row."""

import copy

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


def bos_tokenizer(tokenizer):
    """The same with a BOS that its template writes."""
    other = copy.deepcopy(tokenizer)
    other.add_special_tokens({"bos_token": "<s>"})
    other.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    return other


def test_a_pair_that_is_cut_keeps_one_prompt(tokenizer):
    """F4: cut to what the longer answer leaves, so that the two sides differ in their answers alone."""
    rows = [{"prompt": "x" * 40 + "?", "chosen": "yes", "rejected": "no, and that at length"}]
    for bos in (False, True):
        use = bos_tokenizer(tokenizer) if bos else tokenizer
        batch = data.collate_pairs(rows, use, 40)
        chosen, rejected = (row[mask.cumsum(0) == 0].tolist() for row, mask in zip(batch["ids"], batch["mask"], strict=True))
        assert chosen == rejected and len(chosen) == 40 - 23
        head = ([use.bos_token_id] if bos else []) + [use.convert_tokens_to_ids("<|user|>")]
        assert chosen[:len(head)] == head and use.decode(chosen[-3:]) == "?<|end|><|assistant|>"
        assert batch["mask"].sum(1).tolist() == [4, 23]
    apart = [chat.encode_pair(tokenizer, rows[0]["prompt"], rows[0][side], max_len=40) for side in ("chosen", "rejected")]
    assert apart[0][1].index(1) != apart[1][1].index(1)      # negative control: cut one by one, the prompts differ


def test_a_cut_in_an_earlier_turn_keeps_bos_and_the_whole_last_turn(tokenizer):
    use = bos_tokenizer(tokenizer)
    prompt = say((USER, "x" * 50), (BOT, "y" * 50), (USER, "and now?"))
    whole = chat.encode_prompt(use, prompt)
    for room in (20, 60, 100):
        cut = data.prompts_ids([{"prompt": prompt}], use, room)[0]
        assert len(cut) == room and cut[0] == use.bos_token_id and cut[1:] == whole[-(room - 1):]
    short = data.prompts_ids([{"prompt": prompt}], use, 8)[0]
    assert short == [*chat.encode_prompt(use, "q")[:2], *whole[-6:]]
    assert [len(data.prompts_ids([{"prompt": prompt}], use, n)[0]) for n in range(1, 9)] == list(range(1, 9))


def test_an_answer_that_is_cut_loses_its_end_from_the_mask_too(tokenizer):
    (row,), cut, endless = data.encode_row(tokenizer, "q", ["a" * 50], 20)
    ids, mask = row
    assert cut and endless and len(ids) == 20 and tokenizer.eos_token_id not in ids[mask.index(1):]
    assert tokenizer.decode(ids[:mask.index(1)]) == "<|user|>q<|end|><|assistant|>" and all(mask[4:])
    with pytest.raises(ValueError, match="max_len is 1"):
        data.encode_row(tokenizer, "q", ["a"], 1)


def test_all_turns_learn_but_those_of_weight_0(tokenizer):
    talk = say((USER, "q"), (BOT, "ab"), (USER, "r"), (BOT, "cd"), (USER, "s"))
    row = {"prompt": talk, "completion": "ef"}

    def learned(row, **how):
        batch = data.collate_demonstrations([row], tokenizer, **how)
        return tokenizer.decode(batch["ids"][0][batch["mask"][0].bool()])
    assert learned(row, turns="all") == "ab<|end|>cd<|end|>ef<|end|>" and learned(row) == "ef<|end|>"
    silent = row | {"prompt": [m | {"weight": 0} if m["content"] == "ab" else m for m in talk]}
    assert learned(silent, turns="all") == "cd<|end|>ef<|end|>"
    assert learned(row, turns="all", max_len=14) == "cd<|end|>ef<|end|>"
    ids, mask = chat.encode_messages(tokenizer, [*talk, {"role": BOT, "content": "ef"}], turns="all")
    batch = data.collate_demonstrations([row], tokenizer, turns="all")
    assert batch["ids"][0].tolist() == ids and batch["mask"][0].tolist() == mask


def test_margins_come_along(tokenizer):
    rows = [r | {"margin": x} for r, x in zip(ROWS, (5, 0.5, 0), strict=True)]
    assert data.collate_pairs(rows, tokenizer)["margin"].tolist() == [5.0, 0.5, 0.0]
    assert "margin" not in data.collate_pairs(ROWS, tokenizer)
