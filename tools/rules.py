"""What a rule of the lint is: a function of a notebook that yields findings."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FORMS = ("lesson", "deeper", "old")
RULES: dict[int, tuple[Callable, tuple[str, ...]]] = {}


@dataclass
class Book:
    """A notebook as the rules see it: cells, syntax trees of code cells, and where it lies."""

    path: Path
    nb: object
    root: Path
    form: str = "lesson"

    def cells(self, kind: str) -> list[tuple[int, object]]:
        return [(i, c) for i, c in enumerate(self.nb.cells) if c.cell_type == kind]

    def trees(self) -> Iterator[tuple[int, ast.AST]]:
        for i, cell in self.cells("code"):
            try:
                yield i, ast.parse(cell.source)
            except SyntaxError:
                continue  # rule 12 says so


def rule(number: int, *forms: str) -> Callable:
    """Register a function Book -> iterator of (cell index or None, what to do), for notebooks of these forms (none: all)."""
    return lambda fn: RULES.setdefault(number, (fn, forms or FORMS))[0]
