"""The papers that a history of RLHF names, from one data file: year, unit of feedback, loss, and what survives."""

import csv

from .. import SHIPPED
from . import drawings

COLUMNS = ("year", "paper", "feedback", "loss", "what survives", "drawn", "source")


def papers() -> list[dict]:
    """The rows of `data/timeline.csv`, in the order of the years: {column: text}. ValueError where a row is not whole."""
    with open(SHIPPED / "timeline.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="|"))
    for row in rows:
        if tuple(row) != COLUMNS or None in row.values() or not all(row[c] for c in COLUMNS if c != "drawn"):
            raise ValueError(f"timeline.csv: {row.get('paper')!r} has the columns {row}; expected a text in {', '.join(COLUMNS)}")
    return sorted(rows, key=lambda row: int(row["year"]))


def timeline():
    """The marked rows as a drawing: year, paper, unit of feedback, loss."""
    rows = [row for row in papers() if row["drawn"]]
    return drawings.timeline([(row["year"], row["paper"], f"{row['feedback']} → {row['loss']}") for row in rows],
                             alt="Timeline from the top down, with the unit of feedback of each paper: "
                                 + "; ".join(f"{row['year']} {row['paper']}" for row in rows))
