"""Before the first step: every row is read as training will read it, so that nothing can go wrong at its step.

What is cut is counted; what is wrong raises ValueError with the numbers of the rows, counted from 1 in their source.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from datasets import Dataset

from ..chat import Messages, encode_prompt, end_ids
from ..models import Tokenizer
from .collate import encode_row, plain_prompt


@dataclass(frozen=True)
class Lengths:
    """How many of the rows were cut, and how many answers lost their end; `fits`: the places of the rows whose end stays."""

    rows: int
    cut: int
    endless: int
    max_len: int
    fits: tuple[int, ...]

    def __str__(self) -> str:
        ends = f", {self.endless} without their end" if self.endless else ""
        return f"{self.cut} of {self.rows} rows cut to {self.max_len}{ends}"


def check_rows(
    rows: Sequence[dict], tokenizer: Tokenizer, max_len: int, *, kind: str, vocabulary: int | None = None,
    numbers: Sequence[int] | None = None, source: str = "the data", turns: str = "last",
) -> Lengths:
    """Encode every row as its collator does, and count what is cut to max_len (of prompts: what is left for the prompt).

    vocabulary: the number of tokens that the model knows. numbers: of the rows in their source. Raises ValueError, with all
    rows that are wrong counted and the first named, where a template refuses a turn, an id is none of the model's, both
    sides of a pair are equal once cut, or nothing of a row is left to learn.
    """
    cut, endless, fits, faults = 0, 0, [], []
    for place, row in enumerate(rows):
        try:
            was_cut, lost = check_row(row, tokenizer, max_len, kind, vocabulary, turns)
        except ValueError as error:
            faults.append(f"row {numbers[place] if numbers else place + 1}: {error}")
            continue
        cut, endless = cut + was_cut, endless + lost
        if not lost:
            fits.append(place)
    if faults:
        more = f" ({len(faults)} of {len(rows)} rows are wrong; next, {'; next, '.join(faults[1:3])})" if len(faults) > 1 else ""
        raise ValueError(f"{source}, {faults[0]}; correct the row or leave it out{more}")
    return Lengths(len(rows), cut, endless, max_len, tuple(fits))


def ready(
    rows: Dataset, tokenizer: Tokenizer, max_len: int, *, long: str = "cut", margin: bool = False, **how,
) -> tuple[Dataset, Lengths]:
    """The rows that are trained on, checked by `check_rows` (how: its arguments), and their lengths.

    long: "leave_out" drops the rows whose answer would lose its end. margin: whether the loss has one; a column margin is
    else not used, which a warning says. Raises ValueError where no row is left.
    """
    lengths = check_rows(rows, tokenizer, max_len, **how)
    if lengths.endless and long == "cut":
        warnings.warn(f"{how.get('source', 'the data')}: {lengths}, which do not teach to stop; raise max_len, or leave them out "
                      "(--long leave_out)", stacklevel=3)
    if "margin" in rows.column_names and not margin:
        warnings.warn(f"the column margin of {len(rows)} rows is not used: `train reward` alone has a margin", stacklevel=3)
    if long == "leave_out" and lengths.endless:
        if not lengths.fits:
            raise ValueError(f"{lengths}, and long is leave_out, so that no row is left; raise max_len")
        rows = rows.select(lengths.fits)
    return rows, lengths


def check_row(
    row: dict, tokenizer: Tokenizer, max_len: int, kind: str, vocabulary: int | None, turns: str,
) -> tuple[bool, bool]:
    """Whether one row is cut, and whether an answer loses its end. ValueError for a row that cannot be trained on."""
    if kind == "prompts":
        ids = encode_prompt(tokenizer, plain_prompt(row["prompt"]))
        known_ids(ids, vocabulary, "prompt")
        return len(ids) > max_len, False
    answers = [row[side] for side in ("chosen", "rejected")] if kind == "pairs" else [row["completion"]]
    encoded, was_cut, lost = encode_row(tokenizer, row["prompt"], answers, max_len, turns)
    for (ids, mask), name in zip(encoded, ("chosen", "rejected") if kind == "pairs" else ("completion",), strict=True):
        known_ids(ids, vocabulary, name)
        if not any(mask[1:]):
            raise ValueError(f"column {name} has nothing to learn within {max_len} tokens")
    if kind == "pairs" and encoded[0] == encoded[1]:
        raise ValueError(f"columns chosen and rejected are equal within max_len={max_len} tokens; raise max_len")
    return was_cut, lost


def known_ids(ids: list[int], vocabulary: int | None, column: str) -> None:
    """ValueError where an id is none of the model's vocabulary."""
    if vocabulary and max(ids, default=0) >= vocabulary:
        raise ValueError(f"column {column} has the token {max(ids)}, but the model knows {vocabulary} tokens; the tokenizer "
                         "belongs to another model, take the model's own")


def check_prompts(
    prompts: Sequence[str | Messages], tokenizer: Tokenizer, name: str, *, room: int | None = None,
    numbers: Sequence[int] | None = None,
) -> None:
    """Whether another model, such as a judge, reads all prompts. ValueError with the first row that its template refuses.

    room: tokens that it has for a prompt; how many are longer is said in a warning.
    """
    long = 0
    for place, prompt in enumerate(prompts):
        try:
            length = len(encode_prompt(tokenizer, plain_prompt(prompt)))
        except ValueError as error:
            raise ValueError(f"row {numbers[place] if numbers else place + 1} cannot be read by {name}: {error}") from error
        long += bool(room) and length > room
    if long:
        warnings.warn(f"{long} of {len(prompts)} prompts are cut to {room} tokens where {name} reads them", stacklevel=3)


def reads_alike(a: Tokenizer, b: Tokenizer) -> bool:
    """Whether two tokenizers make the same ids of a conversation: same vocabulary, end and template."""
    return (end_ids(a), a.chat_template) == (end_ids(b), b.chat_template) and a.get_vocab() == b.get_vocab()
