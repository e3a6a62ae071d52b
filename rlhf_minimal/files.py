"""Files that are whole or not there, whatever moment a program ends at. Every file that the package writes goes through here."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_atomically(path: str | Path, content: str | bytes) -> Path:
    """Write one file: whoever reads it, also after a crash, finds the old content or the new one, never a part of either.

    Text is written as UTF-8, its line ends as they are. Returns the path. Raises OSError where it cannot be written; the
    old file then stays.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder) / "a.txt", "one line\\n").read_text()
    'one line\\n'
    """
    path = Path(path)
    write_together(path.parent, {path.name: content})
    return path


def write_together(folder: str | Path, contents: Mapping[str, str | bytes]) -> None:
    """Write several files of one folder, {name: content}: none takes its place before all of them are on the disk."""
    new = {Path(folder) / name: Path(folder) / f"{name}.{os.getpid()}.tmp" for name in contents}
    try:
        for temporary, content in zip(new.values(), contents.values(), strict=True):
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
            to_disk(temporary)
        for path, temporary in new.items():
            os.replace(temporary, path)
    except BaseException:
        for temporary in new.values():
            temporary.unlink(missing_ok=True)
        raise
    to_disk(folder)


def to_disk(path: str | Path) -> None:
    """Wait until a file, or a folder's list of names, has reached the disk."""
    if os.name == "nt" and Path(path).is_dir():
        return  # Windows has no handle of a folder
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_in_place(folder: Path, out: Path) -> None:
    """Move the files of a finished folder into `out`, config.json last: with it the model is there."""
    names = sorted((p.name for p in folder.iterdir()), key=lambda name: name == "config.json")
    for name in names:
        to_disk(folder / name)
        os.replace(folder / name, Path(out) / name)
    folder.rmdir()


# ---- logs: JSON Lines that grow by a line at a time ----

def read_log(path: str | Path) -> list[dict]:
    """Rows of a JSON Lines log, without a last line that was cut off; [] where there is none."""
    rows = []
    for line in Path(path).read_text(encoding="utf-8").split("\n") if Path(path).exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def append(path: str | Path, row: dict) -> None:
    """One more row of a log, as a line."""
    with open(path, "a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(row) + "\n")


def trim_log(path: str | Path, step: int) -> None:
    """Drop the rows of a log after `step`: a resumed run writes them again."""
    if Path(path).exists():
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in read_log(path) if row["step"] <= step))


def json_number(x: Any) -> float | int | None:
    """A number for JSON: 6 digits; None for what is not finite."""
    x = float(x)
    if not math.isfinite(x):
        return None
    return int(x) if x == int(x) and abs(x) < 1e15 else float(f"{x:.6g}")


def curve(rows: list[dict]) -> dict[str, list]:
    """Rows of numbers -> {column: values}, of the columns that every row has."""
    return {name: [row[name] for row in rows] for name in rows[0] if all(name in row for row in rows)} if rows else {}
