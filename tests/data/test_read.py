"""Files as people have them are read, or refused with their name and what to do; rows count from 1."""

import codecs
import gzip
import json

import datasets
import pytest

from rlhf_minimal import data
from rlhf_minimal.data.read import local_rows

ROWS = [{"prompt": "How much is it?", "completion": 'Two, "exactly"\nand ünusual.'}, {"prompt": "q", "completion": "b;c,d"}]
LINES = "\n".join(json.dumps(r) for r in ROWS)


def parquet(path):
    datasets.Dataset.from_list(ROWS).to_parquet(str(path))


def table(separator):
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    writer.writerows([list(ROWS[0]), *(list(r.values()) for r in ROWS)])
    return text.getvalue()


FORMS = {
    "lines.jsonl": LINES,
    "windows.jsonl": LINES.replace("\n{", "\r\n\r\n{"),
    "bom.jsonl": codecs.BOM_UTF8 + LINES.encode(),
    "array.json": json.dumps(ROWS),
    "indented.json": json.dumps(ROWS, indent=2),
    "array.jsonl": json.dumps(ROWS),
    "wrapped.json": json.dumps({"version": 1, "data": ROWS}),
    "lines.json": LINES,
    "lines.ndjson": LINES,
    "noname": LINES,
    "columns.json": json.dumps({k: [r[k] for r in ROWS] for k in ROWS[0]}),
    "pandas.json": json.dumps({k: {str(i): r[k] for i, r in enumerate(ROWS)} for k in ROWS[0]}),
    "table.csv": table(","),
    "semicolon.csv": table(";"),
    "table.tsv": table("\t"),
    "bom.csv": codecs.BOM_UTF8 + table(",").encode(),
    "zipped.jsonl.gz": gzip.compress(LINES.encode()),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_file_is_the_same_rows(tmp_path, name):
    content = FORMS[name]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    assert local_rows(tmp_path / name, "train") == ROWS
    assert data.load_data(tmp_path / name, "demonstrations").to_list() == ROWS


def test_parquet_and_a_saved_dataset(tmp_path):
    parquet(tmp_path / "rows.parquet")
    assert local_rows(tmp_path / "rows.parquet", "train") == ROWS
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "saved"))
    assert local_rows(tmp_path / "saved", "train") == ROWS
    with pytest.raises(ValueError, match="split is 'test', but .*saved has train"):
        local_rows(tmp_path / "saved", "test")


def test_a_path_that_exists_is_no_hub_id(tmp_path, monkeypatch):
    (tmp_path / "train.json").write_text(json.dumps(ROWS))
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner/name").write_text(LINES)
    monkeypatch.chdir(tmp_path)
    for name in ("train.json", "owner/name"):
        assert len(data.load_data(name, "demonstrations")) == 2
    for name in ("none.json", "./none", "data/none.parquet", "none.csv"):
        with pytest.raises(OSError, match="there is no file"):
            data.load_data(name, "demonstrations")


WRONG = {
    "utf16.jsonl": (LINES.encode("utf-16"), "utf16.jsonl is UTF-16, expected UTF-8; convert it: iconv -f UTF-16"),
    "utf16-bare.jsonl": (LINES.encode("utf-16-le"), "utf16-bare.jsonl is UTF-16"),
    "utf32.csv": (LINES.encode("utf-32"), "utf32.csv is UTF-32"),
    "latin.jsonl": (
        '{"prompt": "q"}\n{"prompt": "\xfc"}'.encode("latin-1"),
        "latin.jsonl is not UTF-8 .byte 0xfc in line 2.*LATIN1",
    ),
    "half.json": ('[{"prompt": "q"},\n{"prompt"', "half.json, line 2 is no JSON"),
    "some.json": ('[{"prompt": "q"}, 3]', "some.json, row 2 is '3'; expected an object"),
    "gap.jsonl": ('{"prompt": "q"}\n\n{"prompt"', "row 2 in line 3 is no JSON"),
    "twice.jsonl": ('{"prompt": "q", "prompt": "r"}', "line 1 is no JSON: the column 'prompt' stands twice"),
    "deep.jsonl": ("[" * 100_000, "deep.jsonl, line 1 is no JSON"),
    "long.jsonl": ('{"prompt": "q", "id": ' + "1" * 5000 + "}", "line 1 is no JSON"),
    "cells.csv": ("prompt,completion\na,b\nc,d,e\n", "cells.csv, row 2 has 3 cells, the first line names 2 columns"),
    "names.csv": ("prompt,prompt\na,b\n", "names.csv has the column 'prompt' twice"),
    "quote.csv": ('prompt,completion\n"a,b\n', "quote.csv is no CSV file"),
    "cell.csv": ('messages,x\n"[{bad",1\n', "cell.csv, row 1, column messages looks like JSON and is none"),
    "broken.parquet": (b"PAR1 not really", "broken.parquet is no parquet file"),
    "broken.jsonl.gz": (b"\x1f\x8b123", "broken.jsonl.gz is no whole gzip file"),
    "book.txt": ("It was a dark night.", "book.txt is no file of rows; give one that ends in .jsonl"),
    "empty.csv": ("", "has no rows"),
    "head.csv": ("prompt,completion\n", "has no rows"),
    "empty.json": ("[]", "has no rows"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_refused_with_its_name_and_a_remedy(tmp_path, name):
    content, message = WRONG[name]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=message):
        data.load_data(tmp_path / name, "demonstrations")


def test_a_folder_is_refused_with_the_files_in_it(tmp_path):
    (tmp_path / "train.jsonl").write_text(LINES)
    with pytest.raises(ValueError, match="is the folder .* such as train.jsonl"):
        data.load_data(tmp_path, "demonstrations")


def test_a_column_split_decides(tmp_path):
    rows = [r | {"split": s} for r, s in zip(ROWS * 2, ("train", "train", "test", "test"), strict=True)]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    with pytest.warns(UserWarning, match="'split test': 2"):
        assert len(data.load_data(tmp_path / "x.jsonl", "demonstrations")) == 2
    with pytest.warns(UserWarning, match="'split train': 2"):
        assert len(data.load_data(tmp_path / "x.jsonl", "demonstrations", split="test")) == 2
    with pytest.raises(ValueError, match="split is 'dev', but the column split holds test, train"):
        data.load_data(tmp_path / "x.jsonl", "demonstrations", split="dev")


TYPES = {
    "two types": ([{"id": 1}, {"id": "one"}], "row 2, column id is str 'one', but int '1' stands in rows before; give one type"),
    "list and text": ([{"id": [1]}, {"id": "one"}], "row 2, column id is str 'one', but list"),
    "65 bits": ([{"id": 1}, {"id": 2**64 + 1}], "row 2, column id is int '18446744073709551617', which cannot be stored"),
    "surrogate": ([{}, {"completion": "a \ud800 b"}], r"row 2, column completion is str .*half of a character"),
    "surrogate elsewhere": ([{"id": "\udc00"}, {}], r"row 1, column id is str .*half of a character"),
    "mixed list": ([{"id": [1, "a"]}, {}], "row 1, column id is list .* cannot be stored"),
}


@pytest.mark.parametrize("name", TYPES)
def test_types_that_no_column_holds(tmp_path, name):
    extras, message = TYPES[name]
    rows = [r | x for r, x in zip(ROWS, extras, strict=True)]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    with pytest.raises(ValueError, match=message):
        data.load_data(tmp_path / "x.jsonl", "demonstrations")


def test_a_column_that_the_first_row_lacks_is_kept(tmp_path):
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(r) for r in (ROWS[0], ROWS[1] | {"id": 7})))
    assert data.load_data(tmp_path / "x.jsonl", "demonstrations")["id"] == [None, 7]
