"""The village: a small world in which the true reward of any text is known exactly. Pure Python; see `data/village.md`."""
from .corpus import demonstrations, documents, prompts, split_of
from .facts import FACTS
from .gold import FEATURES, POINTS, WEIGHTS, features, gold, gold_of, refuses
from .tasks import FAMILIES, FAULTS, Task, answer, decorate, parse

__all__ = ["FACTS", "FAMILIES", "FAULTS", "FEATURES", "POINTS", "WEIGHTS", "Task", "answer", "decorate", "demonstrations",
           "documents", "features", "gold", "gold_of", "parse", "prompts", "refuses", "split_of"]

_RATERS = ("RATERS", "Annotator", "Crowd", "Drift", "ai_judge", "panel", "swap_average")
__all__ += _RATERS


def __getattr__(name):  # on first use, so that `python -m rlhf_minimal.village.crowd` finds nothing half imported
    if name in _RATERS:
        from . import crowd as annotators
        return getattr(annotators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
