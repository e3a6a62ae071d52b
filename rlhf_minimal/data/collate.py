"""From rows to batches: ids, attention and masks, made together through `chat.py`."""

import torch

from ..chat import encode_pair, encode_prompt
from ..tensors import pad_right


def batches(dataset, size, *, seed=0, generator=None, shuffle=True, drop_last=False):
    """Lists of `size` rows, one epoch, shuffled by the generator or the seed; the last may be shorter."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"size is {size!r}; give a number of rows from 1 on")
    generator = generator or torch.Generator().manual_seed(seed)
    order = torch.randperm(len(dataset), generator=generator).tolist() if shuffle else list(range(len(dataset)))
    for start in range(0, len(order), size):
        some = order[start:start + size]
        if len(some) == size or not drop_last:
            yield [dataset[i] for i in some]


def _pack(encoded):
    ids, attention = pad_right([ids for ids, _ in encoded])
    return {"ids": ids, "attention": attention, "mask": pad_right([mask for _, mask in encoded])[0].float()}


def _need(rows, *columns):
    for i, row in enumerate(rows):
        if missing := [c for c in columns if c not in row]:
            raise ValueError(f"row {i} of the batch has {', '.join(row)}; expected also {', '.join(missing)}")


def collate_demonstrations(rows, tokenizer, max_len=None):
    """Rows -> {"ids" int64, "attention", "mask" float32}, (B,L), right-padded; mask 1 on the completion and its EOS."""
    _need(rows, "prompt", "completion")
    return _pack([encode_pair(tokenizer, r["prompt"], r["completion"], max_len=max_len) for r in rows])


def collate_pairs(rows, tokenizer, max_len=None):
    """B rows -> {"ids", "attention", "mask"}, all (2B,L): the B chosen, then the B rejected, for one forward (G10).

    `chosen, rejected = x.chunk(2)`. Raises ValueError where truncation left both sides equal: a loss of log 2 for ever.
    """
    _need(rows, "prompt", "chosen", "rejected")
    chosen, rejected = ([encode_pair(tokenizer, r["prompt"], r[side], max_len=max_len) for r in rows]
                        for side in ("chosen", "rejected"))
    equal = [i for i, (a, b) in enumerate(zip(chosen, rejected, strict=True)) if a == b]
    if equal:
        raise ValueError(f"chosen and rejected of rows {equal[:8]} are equal within max_len={max_len} tokens; "
                         "raise it, or leave the rows out")
    return _pack(chosen + rejected)


def prompts_ids(rows, tokenizer, max_len=None):
    """Rows -> lists of prompt ids for `sample`; beyond max_len a prompt loses its left end (A7)."""
    _need(rows, "prompt")
    if max_len is not None and max_len < 1:
        raise ValueError(f"max_len is {max_len}; a prompt needs at least 1 token")
    ids = [encode_prompt(tokenizer, r["prompt"]) for r in rows]
    return [x if max_len is None else x[-max_len:] for x in ids]
