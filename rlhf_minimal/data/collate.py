"""From rows to batches: ids, attention and masks, made together through `chat.py`."""

import os
import random
from collections.abc import Iterator, Sequence

import torch

from ..chat import Messages, encode_pair, encode_prompt, to_messages
from ..models import Tokenizer
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


# ---- one row: ids and mask, cut where it is too long ----

def answer_turns(tokenizer: Tokenizer, prompt: str | Messages, ids: list[int]) -> list[int]:
    """Mask over a prompt's ids: 1 on the answers in it that are to be learned, those of the assistant without weight 0.

    Each is found by encoding the conversation up to it; where a template writes earlier answers otherwise once the
    conversation goes on, that answer is not in the ids as it was said, and is not learned.
    """
    mask = [0] * len(ids)
    if isinstance(prompt, str):
        return mask
    for i, turn in enumerate(prompt):
        if turn["role"] == "assistant" and turn.get("weight") != 0 and i and prompt[i - 1]["role"] == "user":
            part, learned = encode_pair(tokenizer, plain_prompt(prompt[:i]), turn["content"])
            same = next((k for k, (x, y) in enumerate(zip(part, ids, strict=False)) if x != y), min(len(part), len(ids)))
            if same >= len(part) - 1:  # the end of a turn may be another one inside a conversation
                mask[:same] = [max(x, y) for x, y in zip(mask[:same], learned[:same], strict=True)]
    return mask


def plain_prompt(prompt):
    """The turns without marks such as weight, as a template is to see them."""
    return prompt if isinstance(prompt, str) else [{"role": m["role"], "content": m["content"]} for m in prompt]


def turn_head(tokenizer: Tokenizer) -> list[int]:
    """What stands before the text of a first user's turn: BOS, the role, a default system turn where a template has one."""
    some = [encode_prompt(tokenizer, [{"role": "user", "content": text}]) for text in ("a", "1", "?")]
    return list(os.path.commonprefix(some))


def cut_prompt(tokenizer: Tokenizer, prompt: str | Messages, ids: list[int], room: int) -> list[int]:
    """Which of a prompt's ids stay where only `room` tokens fit, as places: the last ones, after BOS.

    Where the cut falls into the last turn, that turn keeps its head (BOS, the role). A room that holds no more than the head
    keeps the last ids alone.
    """
    if len(ids) <= room:
        return list(range(len(ids)))
    head = turn_head(tokenizer)
    last = encode_prompt(tokenizer, plain_prompt(to_messages(prompt))[-1:])
    bos = 1 if head[:1] == [tokenizer.bos_token_id] and ids[:1] == head[:1] else 0
    keep = bos
    if room - bos < len(last) - bos and last[:len(head)] == head:  # the cut falls into the last turn
        keep = len(head)
    if keep >= room - 1:
        keep = bos if room > 2 else 0
    front = list(range(keep)) if ids[:keep] == head[:keep] else list(range(len(ids) - len(last), len(ids) - len(last) + keep))
    return front + list(range(len(ids) - (room - keep), len(ids)))


def encode_row(
    tokenizer: Tokenizer, prompt: str | Messages, answers: list[str], max_len: int | None = None, turns: str = "last",
) -> tuple[list[tuple[list[int], list[int]]], bool, bool]:
    """A prompt and one or more answers to it as (ids, mask) each, whether something was cut, whether an answer lost its end.

    All answers stand after the *same* prompt, cut on its left to what the longest answer leaves (`cut_prompt`). An answer
    that does not fit within max_len loses its right end, and its end token with it: neither is on the mask. turns="all"
    also learns the earlier answers of the prompt. Raises ValueError for a max_len below 2.
    """
    if max_len is not None and max_len < 2:
        raise ValueError(f"max_len is {max_len}; a pair needs 2 tokens or more")
    before = encode_prompt(tokenizer, plain_prompt(prompt))
    known = answer_turns(tokenizer, prompt, before) if turns == "all" else [0] * len(before)
    pairs = [encode_pair(tokenizer, plain_prompt(prompt), answer) for answer in answers]
    after = [(ids[len(before):], mask[len(before):]) for ids, mask in pairs]
    longest = max(len(ids) for ids, _ in after)
    if max_len is None or len(before) + longest <= max_len:
        return [(before + ids, known + mask) for ids, mask in after], False, False
    limit = longest
    if longest > max_len - 1:  # cut in any case: the prompt then keeps the head of its turn and what opens the answer
        empty = len(encode_prompt(tokenizer, [{"role": "user", "content": "a"}]))
        limit = max_len - max(1, min(empty, len(before), max_len // 2))
    places = cut_prompt(tokenizer, prompt, before, max_len - limit)
    before, known = [before[i] for i in places], [known[i] for i in places]
    return [(before + ids[:limit], known + mask[:limit]) for ids, mask in after], True, longest > limit


# ---- batches ----

def collate_demonstrations(
    rows: Sequence[dict], tokenizer: Tokenizer, max_len: int | None = None, *, turns: str = "last",
) -> dict[str, torch.Tensor]:
    """Rows -> {"ids" int64, "attention", "mask" float32}, (B,L), right-padded; mask 1 on the completion and its EOS.

    turns="all": also on the earlier answers of the prompt, but for those of weight 0. Longer rows are cut as `encode_row`
    says.
    """
    _need(rows, "prompt", "completion")
    return _pack([encode_row(tokenizer, r["prompt"], [r["completion"]], max_len, turns)[0][0] for r in rows])


def collate_pairs(rows: Sequence[dict], tokenizer: Tokenizer, max_len: int | None = None) -> dict[str, torch.Tensor]:
    """B rows -> {"ids", "attention", "mask"}, all (2B,L): the B chosen, then the B rejected, for one forward.

    `chosen, rejected = x.chunk(2)`. Both sides of a row keep the same tokens of the prompt. A column `margin` comes along as
    (B,). Raises ValueError where truncation left both sides equal: a loss of log 2 for ever.
    """
    _need(rows, "prompt", "chosen", "rejected")
    both = [encode_row(tokenizer, r["prompt"], [r["chosen"], r["rejected"]], max_len)[0] for r in rows]
    equal = [i for i, (a, b) in enumerate(both) if a == b]
    if equal:
        raise ValueError(f"chosen and rejected of rows {equal[:8]} are equal within max_len={max_len} tokens; "
                         "raise it, or leave the rows out")
    batch = _pack([a for a, _ in both] + [b for _, b in both])
    if all(r.get("margin") is not None for r in rows):
        batch["margin"] = torch.tensor([float(r["margin"]) for r in rows])
    return batch


def prompts_ids(rows: Sequence[dict], tokenizer: Tokenizer, max_len: int | None = None) -> list[list[int]]:
    """Rows -> lists of prompt ids for `sample`; beyond max_len a prompt loses its left end, but for BOS and the head of its
    last turn (`cut_prompt`)."""
    _need(rows, "prompt")
    if max_len is not None and max_len < 1:
        raise ValueError(f"max_len is {max_len}; a prompt needs at least 1 token")
    ids = [encode_prompt(tokenizer, plain_prompt(r["prompt"])) for r in rows]
    if max_len is None:
        return ids
    return [[x[i] for i in cut_prompt(tokenizer, r["prompt"], x, max_len)] for r, x in zip(rows, ids, strict=True)]


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
