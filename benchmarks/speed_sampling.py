"""Rows of `make bench`: `sampling.sample` against transformers' `generate`, in real tokens a second.

A real token is one up to and including a row's first EOS, counted alike on both sides. `generate` gets the same
prompts, padded on the left, `num_return_sequences` samples of each (it copies the prompts before it reads them, so
repeating them by hand costs it the same), no top-k, no top-p.
"""

import torch

from benchmarks.speed_rows import clocked, row
from rlhf_minimal import models
from rlhf_minimal.data import load_data, prompts_ids
from rlhf_minimal.sampling import sample
from rlhf_minimal.tensors import mask_through_first, pad_left

LARGE = "8 prompts × 8, at most 64 new tokens"
SMALL_STEP = "with 64 rows a step is hundreds of small operators, whose fixed costs vary more than our savings do"
WEIGHTS = "seven tenths of a step are products that read all weights for 64 rows (where.md), here and there"


def has_bfloat16():
    """Whether this CPU multiplies bfloat16 natively; without that it would only be slow."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return bool({"avx512_bf16", "amx_bf16"} & set(file.read().split()))
    except OSError:
        return False


def contest(name, prompts, n, new, dtype=torch.float32):
    """(ours, peer): n samples of each of the first `prompts` prompts, of at most `new` tokens."""
    model, tokenizer = models.load(name)
    model = model.to(dtype)
    ids = prompts_ids(list(load_data("village", "prompts", n=prompts)), tokenizer)
    eos, generator = tokenizer.eos_token_id, torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    padded, attention = pad_left(ids, tokenizer.pad_token_id)

    def ours():
        return int(sample(model, ids, n=n, max_new_tokens=new, eos_id=eos, generator=generator).mask.sum())

    def peer():
        with torch.no_grad():
            out = model.generate(input_ids=padded, attention_mask=attention.long(), do_sample=True, top_k=0, top_p=1.0,
                                 temperature=1.0, max_new_tokens=new, num_return_sequences=n, eos_token_id=eos,
                                 pad_token_id=tokenizer.pad_token_id)
        return int(mask_through_first(out[:, padded.shape[1]:], eos).sum())

    return clocked(ours), clocked(peer)


@row("sampling, 64 rows", "village-3m-sft, 8 prompts × 8, at most 64 new tokens", "transformers `generate`", "token", 1.8, 2.5,
     seconds=10, why=SMALL_STEP)
def sampling_64(s):
    return contest("village-3m-sft", 8, 8, 64)


@row("sampling, 256 rows", "village-3m-sft, 8 prompts × 32, at most 64 new tokens", "transformers `generate`", "token", 2.4, 3.0,
     seconds=30)
def sampling_256(s):
    return contest("village-3m-sft", 8, s.rows(32), 64)


@row("sampling, smollm2-135m", f"float32, {LARGE}", "transformers `generate`", "token", 1.6, 1.9,
     seconds=480, why=WEIGHTS)
def sampling_smollm2(s):
    return contest("smollm2-135m", 8, 8, max(4, int(64 * s.scale)))


if has_bfloat16():
    @row("sampling, smollm2-135m in bfloat16", LARGE, "transformers `generate`", "token",
         1.7, 2.1, seconds=300, why=WEIGHTS)
    def sampling_bfloat16(s):
        return contest("smollm2-135m", 8, 8, max(4, int(64 * s.scale)), torch.bfloat16)
