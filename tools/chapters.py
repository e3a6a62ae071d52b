"""Which notebooks there are: lessons in chapters/, deeper notebooks in chapters/deeper/, and their sources.

A word such as "04" means the lesson of chapter 4, "deeper/04" its deeper notebook. While a chapter has no lesson yet,
"04" means what there is of it.
"""

from __future__ import annotations

import re
from pathlib import Path

KINDS = ("lesson", "deeper")


def kind(path: Path) -> str:
    """"deeper" for a file in a folder of that name, else "lesson"."""
    return "deeper" if path.parent.name == "deeper" else "lesson"


def name(path: Path) -> str:
    """What the ledger and the claims call a notebook: "04_slug" or "deeper/04_slug"."""
    return f"deeper/{path.stem}" if kind(path) == "deeper" else path.stem


def number(path: Path) -> int:
    """The chapter's number."""
    return int(path.name[:2])


def find(folder: Path, ending: str) -> dict[tuple[int, str], Path]:
    """{(chapter, kind): path} of a folder and its subfolder `deeper`, lessons first."""
    found = {"lesson": sorted(folder.glob(f"[0-9][0-9]_*.{ending}")),
             "deeper": sorted((folder / "deeper").glob(f"[0-9][0-9]_*.{ending}"))}
    return {(number(p), k): p for k, paths in found.items() for p in paths}


def choose(found: dict[tuple[int, str], Path], words=(), *, deeper: bool = False, where: str = "chapters") -> list[Path]:
    """Those of the given words, or all; with `deeper` the deeper notebook of each chapter too.

    Raises SystemExit for a word that names nothing: it says what there is.
    """
    if not words:
        return list(found.values())
    chosen: list[Path] = []
    for word in map(str, words):
        parts = re.fullmatch(r"(deeper/)?(\d+)", word)
        at = int(parts[2]) if parts else -1
        kinds = ["deeper"] if parts and parts[1] else ["lesson", "deeper"] if deeper or (at, "lesson") not in found else ["lesson"]
        paths = [found[at, k] for k in kinds if (at, k) in found]
        if not paths:
            there = " ".join(f"{'deeper/' if k == 'deeper' else ''}{n:02d}" for n, k in found) or "none"
            raise SystemExit(f"no chapter {word} in {where}; there are: {there}")
        chosen += [p for p in paths if p not in chosen]
    return chosen


def sources(root: Path, words=(), *, deeper: bool = False) -> list[Path]:
    """Paths of the sources: chapters/source/NN_slug.py and chapters/source/deeper/NN_slug.py."""
    return choose(find(root / "chapters/source", "py"), words, deeper=deeper, where="chapters/source")


def notebooks(root: Path, words=(), *, deeper: bool = False) -> list[Path]:
    """Paths of the executed notebooks: chapters/NN_slug.ipynb and chapters/deeper/NN_slug.ipynb."""
    found = find(root / "chapters", "ipynb")
    if not found:
        raise SystemExit("no notebook in chapters/; to make one: make build CHAPTER=04")
    return choose(found, words, deeper=deeper, where="chapters")


def notebook_path(source: Path) -> Path:
    """chapters/source/[deeper/]NN_slug.py -> chapters/[deeper/]NN_slug.ipynb."""
    folder = source.parents[2] / "deeper" if kind(source) == "deeper" else source.parents[1]
    return folder / f"{source.stem}.ipynb"


def title(source: Path) -> str:
    """The first-level heading of a source."""
    found = re.search(r"^# # (.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else source.stem


def nav_line(source: Path, root: Path) -> str:
    """Links to the neighbours of the same kind, and between lesson and deeper notebook."""
    every = [s for s in sources(root) if kind(s) == kind(source)]
    at, links = every.index(source), []
    if at > 0:
        links.append(f"← [{title(every[at - 1])}]({every[at - 1].stem}.ipynb)")
    other = next((s for s in sources(root) if number(s) == number(source) and kind(s) != kind(source)), None)
    if other is not None:
        here = kind(source) == "lesson"
        links.append(f"[{'the deeper notebook' if here else 'the lesson'}]({'deeper' if here else '..'}/{other.stem}.ipynb)")
    if at + 1 < len(every):
        links.append(f"[{title(every[at + 1])}]({every[at + 1].stem}.ipynb) →")
    return " · ".join(links) or "the only chapter so far"
