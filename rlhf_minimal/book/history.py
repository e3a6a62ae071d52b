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
    return drawings.timeline([(row["year"], row["paper"].split(" (")[0], f"{row['feedback']} → {row['loss']}") for row in rows],
                             alt="Timeline from the top down, with the unit of feedback of each paper: "
                                 + "; ".join(f"{row['year']} {row['paper']}" for row in rows))


def four_signs():
    """The pay r − β KL with each of its two signs right or wrong, as a drawing of four cases."""
    return drawings.two_by_two(
        ("distance costs", "distance pays"), ("the score\npays", "minus the\nscore pays"),
        [[("as intended", "r − β KL", "good"), ("price flipped", "r + β KL", "middle")],
         [("score flipped", "−r − β KL", "bad"), ("both flipped", "−r + β KL", "bad")]],
        alt="Drawing of four runs: the score pays or minus the score pays, distance from the start costs or pays")
