"""What the limits of a lesson are counted by: cells, words, lines, claims, pictures, parts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PARTS = ("first", "predict", "setup", "phenomenon", "idea", "loop", "wrong", "gpt2", "exercises", "retell")
NO_WORDS = re.compile(
    r"\$\$.*?\$\$|\$[^$]*\$|```.*?```|^[ \t]*\|[^\n]*|!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)|<!-- out ([\w.-]+) -->.*?<!-- /out -->|"
    r"<!-- (edition|costs|nav|solution [\d.]+) -->.*?<!-- /\2 -->|<!--.*?-->|<[^>]+>", re.DOTALL | re.MULTILINE)
DETAILS = re.compile(r"<details>.*?</details>", re.DOTALL)
TEXTS = re.compile(r"""class=['"][^'"]*\brlhf-(?:cards|texts|explorer)\b""")
DRAWING = re.compile(r"\bdraw(?:ings?)?(?:[._]\w+)*\s*\(|\bdrawings?\.")


def words(text: str) -> int:
    """Words of Markdown, without tables, formulas, code blocks, generated parts and markup."""
    return len(re.findall(r"\w[\w’'.,-]*", NO_WORDS.sub(" ", text)))


def lines(code: str) -> int:
    """Lines of code that are neither blank nor comments only."""
    return sum(1 for line in code.splitlines() if line.strip() and not line.strip().startswith("#"))


def folded(cell) -> bool:
    """Is the cell's code hidden?"""
    return "hide-input" in cell.metadata.get("tags", [])


def parts(cell) -> list[str]:
    """The parts that begin with this cell."""
    return cell.metadata.get("rlhf", {}).get("part", "").split()


def shows_picture(cell) -> bool:
    """A picture among the outputs of a cell, or in its Markdown."""
    if cell.cell_type == "markdown":
        return "![" in cell.source
    return any({"image/png", "image/svg+xml"} & set(o.get("data", {})) for o in cell.get("outputs", []))


def shows_texts(cell) -> bool:
    """Something that a model wrote, quoted in Markdown or shown as cards or a table of texts."""
    if cell.cell_type == "markdown":
        return "<!-- out " in cell.source and bool(re.search(r"^(?:>|\|).*<!-- out ", cell.source, re.MULTILINE))
    return cell.metadata.get("rlhf", {}).get("show") is True or any(
        TEXTS.search(o.get("data", {}).get("text/html", "")) for o in cell.get("outputs", []))


def draws(cell) -> bool:
    """Does this cell show a drawing (and not a plot)?"""
    return cell.cell_type == "code" and shows_picture(cell) and (
        bool(DRAWING.search(cell.source)) or cell.metadata.get("rlhf", {}).get("drawing") is True)


def trains(cell) -> bool:
    """A training cell: it computes a gradient."""
    return ".backward(" in cell.source


@dataclass
class Counts:
    """The figures of one notebook."""

    cells: int = 0
    words: int = 0
    details: int = 0
    visible: int = 0
    folded: int = 0
    claims: int = 0
    pictures: int = 0
    drawings: int = 0
    exercises: int = 0
    ignored: int = 0
    code: int = 0
    gap: int = 0            # most cells in a row without a picture or a model's text
    gap_ends: int = 0       # the cell at which that row ends
    parts: list = field(default_factory=list)

    def __str__(self) -> str:
        return (f"{self.cells} cells, {self.words} words (and {self.details} in details), {self.visible} visible lines, "
                f"{self.folded} folded, {self.claims} claims, {self.pictures} pictures ({self.drawings} drawings), "
                f"{self.exercises} exercises, {self.ignored} of {self.code} code cells not compared, at most {self.gap} cells "
                f"without a picture or text")


def count(nb) -> Counts:
    """All figures of an executed notebook."""
    from .execute import claims
    c = Counts(cells=len(nb.cells), claims=len(claims(nb)))
    run = 0
    for at, cell in enumerate(nb.cells):
        c.parts += [(at, part) for part in parts(cell)]
        if cell.cell_type == "markdown":
            c.details += words(" ".join(DETAILS.findall(cell.source)))
            c.words += words(DETAILS.sub(" ", cell.source))
            c.exercises += len(re.findall(r"^### Exercise \d+\.\d+", cell.source, re.MULTILINE))
        else:
            c.code += 1
            c.ignored += "nbval-ignore-output" in cell.metadata.get("tags", [])
            c.folded += lines(cell.source) if folded(cell) else 0
            c.visible += 0 if folded(cell) else lines(cell.source)
        pictures = shows_picture(cell)
        c.pictures += pictures
        c.drawings += draws(cell)
        if not cell.metadata.get("rlhf", {}).get("generated"):  # a folded solution
            run = 0 if pictures or shows_texts(cell) else run + 1
        if run > c.gap:
            c.gap, c.gap_ends = run, at
    return c
