"""Data: prompts, demonstrations, preference pairs, thumbs and conversations behind one function, in the usual columns.

From the village (made from a seed), from files, or from the hub: `load_data(source, kind)` gives a
`datasets.Dataset`. The collators tokenize through `chat.py`, so that masks are made where the ids are.
"""

import json
import random
from collections import Counter
from itertools import count
from pathlib import Path

import pyarrow as pa
import torch
from datasets import Dataset, DatasetInfo

from .. import SHIPPED, village
from ..files import write_atomically
from ..village.corpus import imperfect_answer
from .columns import KINDS, READERS, standard
from .pool import pool
from .read import hub_rows, is_local, local_rows, memory_rows
from .shapes import parse_columns

SOURCES = ("village", "pool", "templates")
MEMORY = "rows in memory"
STYLE = {"flattery": 0.2, "markup": 0.15, "filler": 0.25}   # of the answers written for comparison


def load_data(
    source="village", kind="prompts", *, n=None, split="train", seed=0, families=None, annotator=None, columns=None,
) -> Dataset:
    """A `datasets.Dataset` of prompts, demonstrations, pairs, unpaired (thumbs) or messages.

    source: "village"; "pool" or "templates" (pairs and unpaired: answers sampled by the stored model, or written with
    faults; "village" takes the Pool where it has the split and families); a file (JSON Lines, JSON, CSV, TSV, parquet);
    rows in memory (a list of dicts, a `datasets.Dataset`); or a hub id. A path that exists is a file.
    Columns: prompt (+ completion | chosen, rejected | completion, label) or messages, then whatever else there is. Alpaca,
    ShareGPT, SHP, two answers with a winner or scores, answers with ratings and labels such as up and -1 are recognised;
    `columns` names others: "prompt=question,completion=reply".
    n: rows (village: 1,000 if not given). split: of the village or hub, and of a file with a column `split`. annotator: the
    Annotator or Crowd that labels pairs and thumbs (if not given, one of temperature 1); the column `rater` names who did.
    Left out, and counted in `info.description` or a warning: ties, pairs whose sides are equal, rows without exactly one
    answer after the last common turn. A warning also counts keys that ask for what is not done here, such as tool_calls.
    Raises ValueError on wrong arguments, columns or rows (numbered from 1), OSError where a file or the hub cannot be had.
    """
    return load_numbered(source, kind, n=n, split=split, seed=seed, families=families, annotator=annotator, columns=columns)[0]


def load_numbered(
    source="village", kind="prompts", *, n=None, split="train", seed=0, families=None, annotator=None, columns=None,
) -> tuple[Dataset, list[int]]:
    """`load_data`, and the number that each row has in its source, from 1."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise ValueError(f"n is {n!r}; give a number of rows from 1 on")
    columns = parse_columns(columns)
    if not isinstance(source, (str, Path)):
        rows, numbers, note = standard(memory_rows(source), kind, n, families, MEMORY, columns, "")
        return table(rows, numbers, MEMORY, note), numbers
    if columns and source in (*SOURCES, "village"):
        raise ValueError(f"columns is given, but the columns of {source} have their names; leave it out")
    labelled = source in SOURCES and kind in ("pairs", "unpaired")
    if annotator is not None and not labelled:
        raise ValueError(f"annotator is given, but {kind} from {source} are not labelled here; leave it out")
    numbers = None
    if labelled:
        rows, note = _labelled(source, kind, n or 1000, split, seed, families, annotator or village.Annotator())
    elif source == "village":
        rows, note = _village(kind, n or 1000, split, seed, families), "made by rlhf_minimal.village"
    elif source in SOURCES:
        raise ValueError(f"{source!r} gives pairs and unpaired; take {kind} from 'village'")
    else:
        local = is_local(source)
        given = local_rows(Path(source), split) if local else hub_rows(str(source), split)
        rows, numbers, note = standard(given, kind, n, families, str(source), columns, split if local else "")
    numbers = numbers or list(range(1, len(rows) + 1))
    return table(rows, numbers, str(source), note), numbers


def table(rows: list[dict], numbers: list[int], source: str, note: str) -> Dataset:
    """Rows as a Dataset with all columns of all rows. ValueError names the row and column of a value that has no place."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    for name, values in columns.items():
        if not _fits(values):
            low, high = 1, len(values)  # the shortest beginning of the column that does not fit
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if _fits(values[:middle]) else (low, middle)
            raise ValueError(f"{source}, row {numbers[low - 1]}, column {name} is {_about(values[low - 1])}{_why(values, low)}")
    return Dataset.from_dict(columns, info=DatasetInfo(description=note))


def _fits(values: list) -> bool:
    """Whether a column can be stored."""
    try:
        pa.array(values)
        return True
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False


def _about(x) -> str:
    return f"{type(x).__name__} {str(x)[:40].encode('ascii', 'backslashreplace').decode()!r}"


def _why(values: list, low: int) -> str:
    """What is wrong with the last of `low` values of a column, and what to do."""
    if not _fits(values[low - 1:low]):
        text = str(values[low - 1])
        if any("\ud800" <= c <= "\udfff" for c in text):
            return ", which holds half of a character (a lone surrogate); write the whole one, or leave the row out"
        return ", which cannot be stored (whole numbers have at most 64 bits, lists hold one type); write it as a text"
    first = next((x for x in values if x is not None), None)
    return f", but {_about(first)} stands in rows before; give one type in all rows, or leave the column out"


# --- the village ----------------------------------------------------------------------------------------------------
def _village(kind, n, split, seed, families):
    families = tuple(families) if families else None
    if kind == "prompts":
        return village.prompts(n, seed=seed, split=split, families=families)
    rows = village.demonstrations(n, seed=seed, split=split, families=families)
    return rows if kind == "demonstrations" else [READERS["messages"](r) | {"family": r["family"]} for r in rows]


def _labelled(source, kind, n, split, seed, families, annotator):
    """(rows, note). Texts and labels have random numbers of their own: another annotator sees the same texts."""
    village.prompts(1, split=split, families=families)     # raises on a wrong split or family
    texts, labels = random.Random(6007 * seed + 1), random.Random(6007 * seed + 2)
    some = _written(texts, seed, split, families)
    if source != "templates":
        try:
            some = _sampled(texts, split, families) or (some if source == "village" else None)
        except OSError:
            if source == "pool":
                raise
    if some is None:
        raise ValueError(f"the pool has no {split} prompts of {families or 'any family'}; take them from 'templates'")
    rows, left_out = [], Counter()
    for prompt, family, (a, b), origin in some:
        rater = annotator.draw(labels)
        about = {"family": family, "source": origin, "rater": rater.name, "group": rater.group}
        if kind == "unpaired":
            label = rater.thumbs(prompt, a, labels)
            rows.append({"prompt": prompt, "completion": a, "label": label, "gold": village.gold(prompt, a)} | about)
        elif a == b or (answer := rater.compare(prompt, a, b, labels)) == 0.5:
            left_out["equal pairs" if a == b else "ties"] += 1
        else:
            chosen, rejected = (a, b) if answer else (b, a)
            gold = {"gold_chosen": village.gold(prompt, chosen), "gold_rejected": village.gold(prompt, rejected)}
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected, **gold} | about
                        | {"chosen_first": answer == 1.0})
        if len(rows) == n:
            break
        if left_out.total() > 100 * n + 1000:
            raise ValueError(f"only {len(rows)} of {n} pairs, {dict(left_out)} left out; lower the annotator's tie")
    return rows, f"labelled by {getattr(annotator, 'name', 'a crowd')}; left out: {dict(left_out) or 'nothing'}"


def _written(rng, seed, split, families):
    """Endless (prompt, family, two answers with faults and flourishes, "templates")."""
    for turn in count():
        number = 100_003 * (seed + 1) + turn
        for row in village.prompts(64, seed=number, split=split, families=families, distinct=False):
            task = village.parse(row["prompt"])
            faults = {name: 0.5 / len(village.FAULTS[task.family]) for name in village.FAULTS[task.family]}
            two = [imperfect_answer(task, rng, faults, STYLE) for _ in range(2)]
            yield row["prompt"], row["family"], two, "templates"


def _sampled(rng, split, families):
    """Endless (prompt, family, two of its samples, name of their model), or None if the Pool has none of these."""
    from transformers import AutoTokenizer

    stored = pool()
    name = stored.meta["model"]
    same = torch.tensor([x in (name, "wide") for x in stored.source_names])    # "wide": many prompts, a few samples each
    stored = stored.take(same[stored.source]) if same.any() else stored
    groups = {i: rows for i, rows in stored.groups().items()
              if len(rows) > 1 and (not families or stored.families[i] in families)
              and village.split_of(stored.prompts[i]) == split}
    if not groups:
        return None
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / "models" / name)

    def endless():
        while True:
            i = rng.choice(list(groups))
            two = rng.sample(groups[i].tolist(), 2)
            yield stored.prompts[i], stored.families[i], stored.texts(two, tokenizer), name
    return endless()


# --- files and batches ----------------------------------------------------------------------------------------------
def save_jsonl(dataset, path):
    """Write rows (a Dataset, or dicts) as JSON Lines, all or nothing, and return the path. NaN raises ValueError."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in dataset]
    return write_atomically(path, "".join(line + "\n" for line in lines))
