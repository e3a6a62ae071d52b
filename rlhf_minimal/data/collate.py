"""From rows to batches: ids, attention and masks, made together through `chat.py`."""

import random
from collections.abc import Iterator

import torch

from ..chat import encode_pair, encode_prompt
from ..tensors import pad_right


def batches(
    rows, size: int, *, steps: int | None = None, tokenizer=None, seed: int = 0, generator: torch.Generator | None = None,
    shuffle: bool = True, drop_last: bool = False, max_len: int | None = None,
) -> Iterator:
    """`size` rows at a time, shuffled by the generator or the seed.

    One epoch, whose last batch may be shorter; or, with `steps`, exactly so many whole batches, through as many epochs as
    that takes. With a tokenizer a batch comes as tensors (`collate_pairs` or `collate_demonstrations`, by the rows'
    columns), without one as a list of rows. Raises ValueError for a size or steps below 1, and for more rows in a batch
    than there are.
    """
    for name, x in (("size", size), ("steps", 1 if steps is None else steps)):
        if isinstance(x, bool) or not isinstance(x, int) or x < 1:
            raise ValueError(f"{name} is {x!r}; give a whole number from 1 on")
    if steps and size > len(rows):
        raise ValueError(f"size is {size}, but there are {len(rows)} rows; take a smaller batch or more rows")
    generator = generator or torch.Generator().manual_seed(seed)
    done = 0
    while True:
        order = torch.randperm(len(rows), generator=generator).tolist() if shuffle else list(range(len(rows)))
        for start in range(0, len(order), size):
            some = [rows[i] for i in order[start:start + size]]
            if len(some) < size and (drop_last or steps):
                continue
            yield some if tokenizer is None else collate(some, tokenizer, max_len)
            done += 1
            if done == steps:
                return
        if steps is None:
            return


def collate(rows: list[dict], tokenizer, max_len: int | None = None) -> dict[str, torch.Tensor]:
    """Rows of pairs, or of demonstrations, by their columns, as tensors."""
    return (collate_pairs if "chosen" in rows[0] else collate_demonstrations)(rows, tokenizer, max_len)


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
    """B rows -> {"ids", "attention", "mask"}, all (2B,L): the B chosen, then the B rejected, for one forward.

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
    """Rows -> lists of prompt ids for `sample`; beyond max_len a prompt loses its left end."""
    _need(rows, "prompt")
    if max_len is not None and max_len < 1:
        raise ValueError(f"max_len is {max_len}; a prompt needs at least 1 token")
    ids = [encode_prompt(tokenizer, r["prompt"]) for r in rows]
    return [x if max_len is None else x[-max_len:] for x in ids]


def compare_answers(rows: list[dict], texts: list[str], annotator, *, n: int, seed: int = 0, skip_ties: bool = True) -> list[dict]:
    """Show an annotator the `n` answers to each prompt, two at a time -> rows of pairs: prompt, chosen, rejected, family.

    texts: n answers to each of `rows` (prompt, family), prompt-major. Equal answers are left out, and so is a tie, unless
    skip_ties=False decides it by a coin. Raises ValueError where the counts do not fit.
    """
    if n < 2 or len(texts) != n * len(rows):
        raise ValueError(f"{len(texts)} answers to {len(rows)} prompts, n is {n}; give n of 2 or more, and n answers to each")
    rng, pairs = random.Random(seed), []
    for i, row in enumerate(rows):
        for a, b in zip(texts[n * i:n * i + n:2], texts[n * i + 1:n * i + n:2], strict=False):
            verdict = annotator.compare(row["prompt"], a, b, rng) if a != b else 0.5
            if verdict == 0.5 and (a == b or skip_ties):
                continue
            first = verdict > 0.5 or verdict == 0.5 and rng.random() < 0.5
            pairs.append({"prompt": row["prompt"], "chosen": a if first else b, "rejected": b if first else a,
                          "family": row.get("family", "")})
    return pairs
