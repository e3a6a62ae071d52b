"""Which function computes which equation of the book: an attribute, nothing else."""

from collections.abc import Callable


def implements(*labels: str) -> Callable[[Callable], Callable]:
    """Decorator that notes the book's labels (`"eq:dpo_core"`, ...) on `fn.__equations__`; `fn` itself stays as it is."""
    wrong = [label for label in labels if not (isinstance(label, str) and label.startswith("eq:"))]
    if wrong or not labels:
        raise ValueError(f"implements() got {labels!r}; it wants one or more labels such as 'eq:dpo_core'")

    def mark(fn: Callable) -> Callable:
        fn.__equations__ = labels
        return fn

    return mark
