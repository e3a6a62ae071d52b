"""A text or number that a notebook's Markdown repeats: produced by a cell, never typed."""

from __future__ import annotations

import re


def quote(name: str, text: object) -> None:
    r"""Give `text` a name under which the notebook's Markdown may repeat it.

    Nothing is seen in the notebook. The build copies the text between the markers `<!-- out NAME -->` and
    `<!-- /out -->` of the Markdown, and its check demands that both agree. Numbers are formatted by the caller. The
    text is compared like any output: in a cell with trained numbers, tag the cell `nbval-ignore-output`.

    name: letters, digits, `_`, `-` and `.`
    text: one or more lines of plain text, or Markdown

    Raises ValueError for a name with other characters, or for a text that holds an HTML comment.

    >>> quote("the gain", 0.31)
    Traceback (most recent call last):
        ...
    ValueError: quote name 'the gain': expected letters, digits, _, - and . only
    """
    from IPython.display import display
    text = str(text)
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"quote name {name!r}: expected letters, digits, _, - and . only")
    if "<!--" in text or "-->" in text:
        raise ValueError(f"quote {name!r}: the text holds an HTML comment, which would end the marker; leave it out")
    display({"text/html": f"<!-- quote {name} -->", "text/plain": f"{name}: {text}"},
            metadata={"rlhf": {"quote": {"name": name, "text": text}}}, raw=True)
