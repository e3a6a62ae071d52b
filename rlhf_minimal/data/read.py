"""Reading files as people have them: JSON Lines, JSON, CSV, TSV and parquet, and datasets from the hub. Rows count from 1.

Text is UTF-8, with or without a byte order mark, plain or gzipped. A path that exists is a file, never the id of a dataset
on the hub. Whatever is wrong with a file raises ValueError with its name, the row or line, and what to do.
"""

import codecs
import csv
import gzip
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".jsonl", ".ndjson", ".json", *SEPARATORS, ".parquet")
WRAPPERS = ("data", "rows", "train", "examples", "instances", "items", "records")  # {"data": [row, row]}
WIDE = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
SPLITS = {"train", "test", "validation", "valid", "val", "dev", "eval"}


def is_local(source: str | Path) -> bool:
    """Whether a source is a path: it exists, or it is written like a path or like the name of a file."""
    path = Path(source).expanduser()
    return path.exists() or path.name.removesuffix(".gz").endswith(SUFFIXES) or str(source).startswith((".", "/", "~"))


def memory_rows(source: Any) -> list[dict]:
    """The rows of a list of dicts, or of a `datasets.Dataset`. ValueError for anything else."""
    if isinstance(source, dict):  # a DatasetDict is one, too
        raise ValueError(f"data is a {type(source).__name__} with the keys {', '.join(map(str, source))}; give one of its "
                         "splits, or a list of rows such as [{'prompt': 'Who are you?'}]")
    try:
        rows = list(source)
    except TypeError as error:
        raise ValueError(f"data is {source!r}; give a name, a path, a list of rows or a datasets.Dataset") from error
    for i, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"data, row {i} is {type(row).__name__} {str(row)[:40]!r}; give a dict such as "
                             "{'prompt': 'Who are you?'}")
    return rows


def local_rows(path: Path, split: str) -> list[dict]:
    """The rows of a file, or of a folder that `save_to_disk` of datasets wrote.

    A column `split` with values such as train and test decides which rows are taken. Raises FileNotFoundError, and
    ValueError for a file that cannot be read.
    """
    path = path.expanduser()
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    rows = folder_rows(path, split) if path.is_dir() else file_rows(path)
    names = {row.get("split") for row in rows if isinstance(row.get("split"), str)}
    if not path.is_dir() and split != "train" and not names & (SPLITS | {split}):
        raise ValueError(f"split is {split!r}, but {path.name} is one set of rows; give the path of the other file")
    return rows


def folder_rows(path: Path, split: str) -> list[dict]:
    """Rows of a folder written by `save_to_disk`. ValueError for any other folder, with the files that it holds."""
    import datasets

    if not any((path / x).exists() for x in ("state.json", "dataset_dict.json")):
        inside = [p.name for p in sorted(path.rglob("*")) if p.name.endswith(SUFFIXES)][:5]
        raise ValueError(f"data is the folder {path}; give a file" + (f" in it, such as {', '.join(inside)}" if inside else
                         f" ({', '.join(SUFFIXES)})"))
    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:
        raise ValueError(f"the folder {path} is no dataset that `save_to_disk` wrote ({error}); give a file") from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise ValueError(f"split is {split!r}, but {path} has {', '.join(found)}; give one of them")
        found = found[split]
    return found.to_list()


def file_rows(path: Path) -> list[dict]:
    """Rows of one file, by the end of its name; where that says nothing, by its first characters."""
    name = path.name.removesuffix(".gz")
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError) as error:
            raise ValueError(f"{path.name} is no whole gzip file ({error}); fetch or write it again") from error
    if name.endswith(".parquet") or raw[:4] == b"PAR1":
        return parquet_rows(path.name, raw)
    text = decoded(path.name, raw)
    if Path(name).suffix in SEPARATORS:
        return csv_rows(path.name, text, SEPARATORS[Path(name).suffix])
    if name.endswith(SUFFIXES) or text.lstrip()[:1] in ("{", "["):
        return json_rows(path.name, text)
    raise ValueError(f"{path.name} is no file of rows; give one that ends in {', '.join(SUFFIXES)}")


def decoded(name: str, raw: bytes) -> str:
    """The text of a file in UTF-8. ValueError with the remedy for any other encoding."""
    wide = next((x for mark, x in WIDE.items() if raw.startswith(mark)), "")
    if not wide and b"\0" in raw[:4]:
        wide = "UTF-16"
    if wide:
        raise ValueError(f"{name} is {wide}, expected UTF-8; convert it: iconv -f {wide} -t UTF-8 {name} > new-{name}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[:error.start].count(b"\n") + 1
        raise ValueError(f"{name} is not UTF-8 (byte {raw[error.start]:#04x} in line {line}); if it is Latin-1, convert it: "
                         f"iconv -f LATIN1 -t UTF-8 {name} > new-{name}") from error


# ---- JSON ----

def json_rows(name: str, text: str) -> list[dict]:
    """Rows of JSON Lines, of one JSON array, of {"data": [...]} or of {"column": [...]}."""
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        return []
    try:
        first = parse(lines[0][1])
    except ValueError:
        first = None
    if not isinstance(first, dict) or len(lines) == 1:
        whole = None
        try:
            whole = parse(text)
        except ValueError as error:
            if text.lstrip().startswith("[") and first is None:
                line = getattr(error, "lineno", 1)
                raise ValueError(f"{name}, line {line} is no JSON: {error}; write one object per line") from error
        if (rows := as_rows(name, whole)) is not None:
            return rows
    rows = []
    for number, line in lines:
        where = f"{name}, " + (f"row {len(rows) + 1} in " if number != len(rows) + 1 else "") + f"line {number}"
        try:
            rows.append(parse(line))
        except ValueError as error:
            raise ValueError(f"{where} is no JSON: {error}; write one object per line") from error
        if not isinstance(rows[-1], dict):
            raise ValueError(f"{where} is {str(rows[-1])[:40]!r}; expected an object with columns")
    return rows


def parse(text: str) -> Any:
    """A JSON value. ValueError for what is none, for a name that stands twice in an object, and for endless nesting."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("brackets are nested too deep") from error


def _object(pairs: list[tuple[str, Any]]) -> dict:
    out = dict(pairs)
    if len(out) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the column {next(x for x in names if names.count(x) > 1)!r} stands twice in one object")
    return out


def as_rows(name: str, x: Any) -> list[dict] | None:
    """A whole JSON file as rows; None where it is no table. ValueError where only some members of a list are objects."""
    if isinstance(x, dict) and name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return [x]
    if isinstance(x, dict):
        for key in WRAPPERS:
            if isinstance(x.get(key), list) and x[key] and all(isinstance(row, dict) for row in x[key]):
                return x[key]
        values = list(x.values())
        if values and all(isinstance(v, list) and len(v) == len(values[0]) for v in values) and not isinstance(
                next(iter(values[0]), {}), dict):
            return [dict(zip(x, row, strict=True)) for row in zip(*values, strict=True)]  # {"prompt": [a, b], ...}
        if values and all(isinstance(v, dict) and v and v.keys() == values[0].keys() and "0" in v for v in values):
            return [{key: v[i] for key, v in x.items()} for i in values[0]]              # pandas: {"prompt": {"0": a, ...}}
        return [x]
    if isinstance(x, list) and (not x or any(isinstance(row, dict) for row in x)):
        for i, row in enumerate(x, 1):
            if not isinstance(row, dict):
                raise ValueError(f"{name}, row {i} is {str(row)[:40]!r}; expected an object with columns")
        return x
    return None


# ---- CSV and parquet ----

def csv_rows(name: str, text: str, separator: str) -> list[dict]:
    """Rows of a CSV or TSV file, whose first line names the columns. Lists written as JSON are read as lists."""
    head = text.split("\n", 1)[0]
    if separator not in head:
        separator = next((x for x in (";", "\t", ",") if x in head), separator)
    csv.field_size_limit(2**31 - 1)
    try:
        table = [x for x in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True) if x]
    except csv.Error as error:
        raise ValueError(f"{name} is no CSV file: {error}; put texts with commas, quotes or line ends in double quotes") from error
    if not table:
        return []
    columns = [x.strip() for x in table[0]]
    if twice := [x for x in columns if columns.count(x) > 1]:
        raise ValueError(f"{name} has the column {twice[0]!r} twice; name each column once, in the first line")
    for i, cells in enumerate(table[1:], 1):
        if len(cells) != len(columns):
            raise ValueError(f"{name}, row {i} has {len(cells)} cells, the first line names {len(columns)} columns; put texts "
                             "with commas or line ends in double quotes")
    rows = [dict(zip(columns, cells, strict=True)) for cells in table[1:]]
    for column in columns:
        if rows and all(row[column].lstrip().startswith(("[{", '{"')) for row in rows):
            for i, row in enumerate(rows, 1):
                try:
                    row[column] = parse(row[column])
                except ValueError as error:
                    raise ValueError(f"{name}, row {i}, column {column} looks like JSON and is none: {error}; write it with "
                                     "json.dumps") from error
    return rows


def parquet_rows(name: str, raw: bytes) -> list[dict]:
    """Rows of a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(io.BytesIO(raw)).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{name} is no parquet file that can be read ({str(error)[:80]}); write it again") from error


# ---- the hub ----

def hub_rows(name: str, split: str) -> Iterable[dict]:
    """A split of a hub dataset, from the cache or the network; OSError, fast, if there is neither."""
    import datasets
    from huggingface_hub import HfApi

    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise ValueError(f"source is {name!r}; give 'village', a file ({', '.join(SUFFIXES)}) or a hub id (owner/name)")
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    cached = cache.is_dir() and any(x.name.lower() == name.lower().replace("/", "___") for x in cache.iterdir())
    try:
        if not cached:
            HfApi().dataset_info(name, timeout=5)   # one quick question instead of half a minute of retries
        return datasets.load_dataset(name, split=split)
    except ValueError:
        raise                                       # an unknown split or configuration: its message names what there is
    except Exception as error:
        raise OSError(f"no dataset {name!r}: not of the village, no file here, and the hub does not give it "
                      f"({type(error).__name__}); check spelling and network, or save the rows as .jsonl") from error
