"""Rollout: its fields, its selections, its texts."""

import copy
import dataclasses

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rlhf_minimal.chat import VILLAGE_TEMPLATE, encode_completion
from rlhf_minimal.logprobs import sequence_logps, token_logps
from rlhf_minimal.rollout import Rollout
from rlhf_minimal.sampling import sample


def test_ended_has_one_entry_a_row():
    one = torch.ones
    good = dict(ids=one(2, 4, dtype=torch.long), attention=one(2, 4), prompt_len=1, mask=one(2, 3), logp_old=one(2, 3))
    assert len(Rollout(**good, group=torch.arange(2), ended=one(2))) == 2
    with pytest.raises(ValueError, match=r"group \(2,\), ended \(3,\)"):
        Rollout(**good, group=torch.arange(2), ended=one(3))


SPECIAL = ["<|user|>", "<|assistant|>", "<|end|>", "<call>", "</call>", "<out>", "</out>"]


def byte_tokenizer(special, *, merges=(), template=None, eos=None, bos=None):
    """A byte-level tokenizer, one token a character but for the merges."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet()) + [a + b for a, b in merges]
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(letters)}, list(merges)))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    if bos:
        core.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, pad_token=eos, bos_token=bos,
                                   chat_template=template)


@pytest.fixture(scope="module")
def village():
    return byte_tokenizer(SPECIAL, merges=[("a", "b")], template=VILLAGE_TEMPLATE, eos="<|end|>")


def test_rollout_texts_stop_at_the_first_eos(village):
    yes, eos = encode_completion(village, "yes")[0], village.eos_token_id
    junk = encode_completion(village, "junk")[0]
    ids = torch.tensor([[5, *yes, *junk[:2]], [5, *junk[:4], *junk[:2]]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    attention = torch.cat([torch.ones(2, 1), mask], 1)
    out = Rollout(ids, attention, 1, mask, torch.zeros(2, 6), torch.arange(2), mask[:, -1] == 0)
    assert out.texts(village) == ["yes", "junkju"] and yes[-1] == eos


PROMPTS = [[3, 1, 4], [1, 5, 9, 2, 6, 5, 3], [8]]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_rollout_select_and_masks(tiny_gpt2):
    model = tiny_gpt2()
    out = sample(model, PROMPTS, n=4, max_new_tokens=8, eos_id=[0, 3], generator=seeded())
    order = torch.tensor([9, 2, 5])
    part = out.select(order)
    assert part.group.tolist() == [2, 0, 1] and torch.equal(part.ids, out.ids[order])
    assert len(out.select(out.ended)) == int(out.ended.sum()) and len(out.select(slice(2, 5))) == 3
    assert torch.equal(out.select([1]).mask, out.mask[1:2])
    total = sequence_logps(model, out.ids, out.attention, out.full_mask)
    assert torch.allclose(total, out.logp_old.sum(1), atol=1e-3)
    shifted = token_logps(model, out.ids, out.attention)[:, out.prompt_len:]  # the wrong variant starts one late
    assert (shifted - out.logp_old[:, :-1]).abs().max() > 0.5


def test_rollout_refuses_what_does_not_fit(tiny_gpt2):
    out = sample(tiny_gpt2(), PROMPTS, n=2, max_new_tokens=4, eos_id=[0, 3], generator=seeded())
    flipped = out.mask.clone()
    flipped[0, 0] = 1 - flipped[0, 0]
    wrongs = dict(prompt_len=6, mask=out.mask[:, :-1], group=out.group[:3], logp_old=out.logp_old[:1])
    for name, value in {**wrongs, "attention": out.attention[:1]}.items():
        with pytest.raises(ValueError, match="shapes|widths"):
            dataclasses.replace(out, **{name: value})
    with pytest.raises(ValueError, match="differs from their mask"):
        dataclasses.replace(out, mask=flipped)
    with pytest.raises(ValueError, match="token_logps of this rollout"):
        out.on_completion(out.logp_old)
    assert isinstance(copy.copy(out), Rollout)
