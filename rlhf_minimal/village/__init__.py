"""The village: a small world in which the true reward of any text is known exactly. Pure Python; see `data/village.md`.

The files, in the order in which they build on each other: facts, grammar, tasks, gold, corpus, annotator, crowd, endings, rates,
checkers.
"""

from . import checkers
from .annotator import EFFORT, Annotator, Drift
from .corpus import demonstrations, documents, prompts, split_of
from .crowd import RATERS, Crowd, ai_judge, panel, swap_average
from .endings import MOODS, Reader, ending
from .facts import FACTS
from .gold import FEATURES, POINTS, WEIGHTS, features, gold, gold_of, refuses
from .tasks import FAMILIES, FAULTS, Task, answer, decorate, parse

__all__ = [
    "EFFORT", "FACTS", "FAMILIES", "FAULTS", "FEATURES", "MOODS", "POINTS", "RATERS", "WEIGHTS", "Annotator", "Crowd",
    "Drift", "Reader", "Task", "ai_judge", "answer", "checkers", "decorate", "demonstrations", "documents", "ending",
    "features", "gold", "gold_of", "panel", "parse", "prompts", "refuses", "split_of", "swap_average",
]
