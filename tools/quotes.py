"""What the build takes out of stored outputs: quoted texts and numbers for Markdown, and pictures for chapters/figures/."""

from __future__ import annotations

import base64
import re

import nbformat

from .chapters import kind, number

OUT = re.compile(r"<!-- out ([\w.-]+) -->(?:.*?<!-- /out -->)?", re.DOTALL)
MINUS = re.compile(r"(?<![\w.)\]-])-(?=\.?\d)")  # a number's sign, not a hyphen


def quotes(nb) -> dict[str, str]:
    """{name: text} of all calls of `quote` in an executed notebook. Raises SystemExit where a name is used twice."""
    found: dict[str, str] = {}
    for cell in nb.cells:
        for out in cell.get("outputs", []):
            quoted = out.get("metadata", {}).get("rlhf", {}).get("quote")
            if not quoted:
                continue
            if found.get(quoted["name"], quoted["text"]) != quoted["text"]:
                raise SystemExit(f"quote {quoted['name']!r} is produced twice with different texts; give each its own name")
            found[quoted["name"]] = quoted["text"]
    return found


def fill_quotes(nb, values: dict[str, str], *, missing: str = "refuse") -> None:
    """Put the quoted texts between `<!-- out NAME -->` and `<!-- /out -->`; `missing="keep"` leaves unknown names empty.

    Raises SystemExit for an unknown name, and for a marker that begins a line but is not alone on it: Markdown would
    take that whole line for HTML.
    """
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = fill(cell.source, values, missing=missing)


def fill(text: str, values: dict[str, str], *, missing: str = "refuse") -> str:
    """One Markdown text with its quotes filled in."""
    def put(match):
        begins = match.start() == 0 or text[match.start() - 1] == "\n"
        alone = begins and (match.end() == len(text) or text[match.end()] == "\n")
        if begins and not alone:
            raise SystemExit(f"<!-- out {match[1]} --> begins a line and is not alone on it: put a word before it")
        if match[1] not in values:
            if missing == "keep":
                return f"<!-- out {match[1]} --><!-- /out -->"
            raise SystemExit(f"<!-- out {match[1]} -->: no cell quotes that; there are: {', '.join(values) or 'none'}")
        gap = "\n" if alone else ""
        value = values[match[1]] if alone else MINUS.sub("−", values[match[1]])  # in a sentence, as a typesetter would
        return f"<!-- out {match[1]} -->{gap}{value}{gap}<!-- /out -->"
    return OUT.sub(put, text)


def png_of(cell) -> bytes | None:
    """The first picture that a cell shows, decoded."""
    found = (o.data["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {}))
    picture = next(found, None)
    return None if picture is None else base64.b64decode(picture)


def figures(nb, source) -> dict[str, bytes]:
    """{file name in chapters/figures: PNG}: of the cell tagged `hero`, and of cells with rlhf={"figure": "name"}."""
    found = {}
    for cell in nb.cells:
        figure = "hero" if "hero" in cell.metadata.get("tags", []) else cell.metadata.get("rlhf", {}).get("figure")
        if figure and (picture := png_of(cell)) is not None:
            found[f"{number(source):02d}_{'deeper_' if kind(source) == 'deeper' else ''}{figure}.png"] = picture
    return found


def attach_figures(nb, folder) -> None:
    """Turn `![alt](figures/x.png)` into attachments of the cell, so that the notebook can travel alone."""
    for cell in nb.cells:
        if cell.cell_type != "markdown":
            continue
        for target in set(re.findall(r"!\[[^\]]*\]\(((?:\.\./)?figures/[\w.-]+\.png)\)", cell.source)):
            file = folder / target
            if file.exists():
                cell.setdefault("attachments", nbformat.from_dict({}))[file.name] = {
                    "image/png": base64.b64encode(file.read_bytes()).decode()}
                cell.source = cell.source.replace(f"({target})", f"(attachment:{file.name})")
