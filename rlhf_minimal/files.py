"""Files that are whole or not there, whatever moment a program ends at. Every file that the package writes goes through here."""

import os
from collections.abc import Mapping
from pathlib import Path


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
