"""For notebooks only: how a page begins, what it claims, its tables, pictures, questions and exercises.

    from rlhf_minimal.book import begin, cards, claim, drawings, panels, predict, settled, show, table

Pictures are loaded when they are named: plots (curves and bars), drawings (boxes and arrows), explorers (sliders).
"""

import importlib

from .exercises import check
from .notebook import (
    available,
    begin,
    cards,
    claim,
    every,
    predict,
    recorded,
    settled,
    show,
    show_source,
    shows_error,
    table,
    texts_table,
)
from .quote import quote
from .records import quotes

PICTURES = {"bars": "plots", "frontier": "plots", "line_plot": "plots", "panels": "plots", "recorded_panels": "plots",
            "recorded_plot": "plots", "two_panels": "plots", "Explorer": "explorers"}
__all__ = ["available", "begin", "cards", "check", "claim", "every", "predict", "quote", "quotes", "recorded", "settled",
           "show", "show_source", "shows_error", "table", "texts_table", "drawings", "explorers", "plots", *PICTURES]


def __getattr__(name: str):
    if name in ("drawings", "explorers", "plots"):
        return importlib.import_module(f"{__name__}.{name}")
    if name in PICTURES:
        return getattr(importlib.import_module(f"{__name__}.{PICTURES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
