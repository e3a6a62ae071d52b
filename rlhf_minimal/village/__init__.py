"""The village: a small world in which the true reward of any text is known exactly. Pure Python; see `data/village.md`."""
from .corpus import demonstrations, documents, prompts, split_of
from .facts import FACTS
from .gold import FEATURES, POINTS, WEIGHTS, features, gold, gold_of
from .tasks import FAMILIES, FAULTS, Task, answer, decorate, parse

__all__ = ["FACTS", "FAMILIES", "FAULTS", "FEATURES", "POINTS", "WEIGHTS", "Task", "answer", "decorate", "demonstrations",
           "documents", "features", "gold", "gold_of", "parse", "prompts", "split_of"]
