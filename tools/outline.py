"""Where each topic of the book's outline is: docs/outline.csv and docs/outline.md from docs/source/outline.csv.

A row of the source names chapters, in the order in which to look, and words; the place is the section, of the first of these
notebooks that has one of the words, in which they stand most often. A topic whose notebooks do not exist yet, or do not
say any of the words, is planned. Instead of a chapter, "package" and a path may stand.
"""

import re
from urllib.parse import quote

from tools.equations import ROOT, as_csv, hand_written, notebooks, sections, table

COLUMNS = ("group", "topic", "notebook", "anchor", "status", "reason")
ABOUT = re.compile(r"in this chapter|questionnaire|summary|retell|exercise", re.IGNORECASE)


def place(chapters, words, read):
    """(notebook, heading) of the section with the most of the words, or None."""
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(word.strip())}" for word in words.split(",")), re.IGNORECASE)
    for chapter in chapters:
        best = (0, None)
        for path, inside in read.items():
            if path.name.startswith(f"{int(chapter):02d}_"):
                for heading, text in inside:
                    n = len(pattern.findall(text)) + 5 * len(pattern.findall(heading))
                    if heading and not ABOUT.search(heading) and n > best[0]:
                        best = (n, (path, heading))
        if best[1]:
            return best[1]
    return None


def rows(root=ROOT):
    """Rows of docs/outline.csv. ValueError for a path that does not exist."""
    read = {path: [(h, "\n".join(c["text"] for c in inside)) for h, inside in sections(path)] for path in notebooks(root)}
    out = []
    for row in hand_written("outline", root):
        status, reason, notebook, anchor = row["status"], row["reason"], "", ""
        if row["chapter"] == "package":
            notebook = row["word"]
            if not (root / notebook).exists():
                raise ValueError(f"docs/source/outline.csv, {row['topic']}: no {notebook}")
        else:
            chapters = row["chapter"].split(",")
            found = place(chapters, row["word"], read)
            if found:
                notebook, anchor = str(found[0].relative_to(root)), found[1]
            else:
                reason = f"to be {status} in chapter {chapters[0].strip()}" + (f"; {reason}" if reason else "")
                status = "planned"
        out.append(dict(zip(COLUMNS, (row["group"], row["topic"], notebook, anchor, status, reason), strict=True)))
    return out


def files(root=ROOT):
    """{path: text} of what is generated."""
    found = rows(root)
    n = {s: sum(row["status"] == s for row in found) for s in ("built", "shown", "discussed", "planned")}
    lines = [
        "# The outline, topic by topic", "",
        "Written by `python -m tools.pages` from `docs/source/outline.csv` and the notebooks; do not edit.", "",
        f"Of {len(found)} topics {n['built']} are *built* (the package computes them), {n['shown']} are *shown* (a notebook runs "
        f"them), {n['discussed']} are *discussed* only, each with its reason, and {n['planned']} are *planned* for chapters that "
        "are not here yet.", "",
    ]
    for group in dict.fromkeys(row["group"] for row in found):
        body = []
        for row in (r for r in found if r["group"] == group):
            link = f"[{row['anchor'] or row['notebook']}](../{quote(row['notebook'])}" if row["notebook"] else ""
            link += (f"#{quote(row['anchor'].replace(' ', '-'))})" if row["anchor"] else ")") if link else ""
            body.append((row["topic"], link, row["status"], row["reason"]))
        lines += [f"## {group}", "", *table(("topic", "place", "status", "reason"), body), ""]
    return {"docs/outline.csv": as_csv(COLUMNS, found), "docs/outline.md": "\n".join(lines)}
