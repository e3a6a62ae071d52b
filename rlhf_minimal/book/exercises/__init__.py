"""The machinery behind `check("12.3", answer)`.

Each chapter has a module chNN.py here that exposes CHECKS = {"12.3": fn, ...}. fn(answer, rng) gets the reader's answer
and a numpy Generator. It returns None when the answer is right, and raises Misconception(what is wrong, name of the
misconception) when it is not. The verdict comes from agreement with an independent computation on at least 20 random
inputs of several shapes; the known mistakes are looked for only afterwards, to find the right words.
"""

import importlib
import os
import random
import re
import sys
import traceback
import zlib
from contextlib import contextmanager

import numpy

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Misconception(Exception):
    """A wrong answer: what is wrong with it, and the name of the idea behind it."""

    def __init__(self, what, name):
        super().__init__(what, name)
        self.what, self.name = what, name


def variant(exercise, code=None):
    """A numpy Generator for the numbers of an exercise; with RLHF_VARIANT=course-code they are others."""
    code = os.environ.get("RLHF_VARIANT", "") if code is None else code
    return numpy.random.default_rng(zlib.crc32(f"{exercise} {code}".encode()))


@contextmanager
def _random_state_kept():
    torch = sys.modules.get("torch")
    kept = random.getstate(), numpy.random.get_state(), torch.get_rng_state() if torch else None
    try:
        yield
    finally:
        random.setstate(kept[0])
        numpy.random.set_state(kept[1])
        if torch:
            torch.set_rng_state(kept[2])


def _find(exercise):
    if not isinstance(exercise, str) or not re.fullmatch(r"\d{1,2}\.\d{1,2}", exercise):
        raise ValueError(f"check({exercise!r}): expected a chapter and a number, such as check(\"12.3\", answer)")
    module = importlib.import_module(f"{__name__}.ch{int(exercise.split('.')[0]):02d}")
    if exercise not in module.CHECKS:
        raise ValueError(f"check({exercise!r}): this chapter has {', '.join(module.CHECKS)}")
    return module.CHECKS[exercise]


def _broken(error):
    """Say where in the reader's code an exception came from; never a path, which differs between machines."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(PACKAGE)]
    own = [f for f in frames if "ipykernel" in f.filename or f.filename.startswith("<")] or frames
    where = f"in line {own[-1].lineno} of {own[-1].name}" if own else "when the check used what it got"
    message = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__} {where}: {message} (the answer does not run)"


def verdict(exercise, answer):
    """"to do", "solved" or "not yet — what is wrong (misconception)". Leaves every random state alone."""
    check_one = _find(exercise)
    if answer is None or answer is Ellipsis:
        return "to do"
    try:
        with _random_state_kept():
            check_one(answer, variant(exercise, code=f"check {os.environ.get('RLHF_VARIANT', '')}"))
    except NotImplementedError:
        return "to do"
    except Misconception as wrong:
        return f"not yet — {wrong.what} ({wrong.name})"
    except Exception as error:  # whatever the reader's code may raise
        return f"not yet — {_broken(error)}"
    return "solved"


def check(exercise, answer, hidden=False):
    """Print one stable line about an answer: "12.3: to do", "12.3: solved" or "12.3: not yet — …".

    A wrong answer raises nothing, unless hidden=True: automatic graders count exceptions.
    """
    line = f"{exercise}: {verdict(exercise, answer)}"
    if hidden and not line.endswith(": solved"):
        raise AssertionError(line)
    print(line)
