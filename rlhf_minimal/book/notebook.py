"""How a notebook begins, what it claims, and how it counts its steps."""

import os
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy

from ..commands import doctor
from ..quiet import settle
from . import scales
from .exercises import check
from .output import measured, publish, show
from .questions import predict, settled
from .records import Recorded, recorded
from .source import show_source
from .tables import cards, table, texts_table

__all__ = ["Recorded", "Run", "available", "begin", "cards", "check", "claim", "every", "predict", "recorded", "settled",
           "show", "show_source", "shows_error", "table", "texts_table"]


@dataclass
class Run:
    """All randomness of a notebook comes from here (`generator` is a torch.Generator on the CPU), and its scale.

    A page asks for its model, steps and batch here, and so needs no branch on RLHF_SCALE.
    """

    chapter: int
    seed: int
    scale: str
    generator: object

    @property
    def village(self) -> bool:
        """Is this the default scale, the one that the page shows?"""
        return self.scale == "village"

    def seeds(self, n: int) -> list[int]:
        """n ≤ 1000 different seeds, other ones for another RLHF_SEED."""
        return list(range(1000 * self.seed, 1000 * self.seed + n))

    def fresh(self, name: str):
        """A generator of its own for one section: cells inserted above then change nothing in it."""
        return type(self.generator)().manual_seed(zlib.crc32(f"{self.seed} {name}".encode()))

    def start(self):
        """(model, tokenizer) that the main run starts from: it answers in the village's manner at every scale."""
        return scales.start(self.scale)

    model = start

    def steps(self, n: int) -> int:
        """n optimizer steps, or RLHF_STEPS where that is fewer."""
        return min(n, scales.most_steps() or n)

    def batch(self, n: int) -> int:
        """n rows a step for the village model, half as many for one that is forty times as large."""
        return n if self.village else max(1, n // 2)

    def measured(self, **values) -> None:
        """Print what depends on the machine, such as seconds: one line that tests do not compare."""
        print(measured(values))


def begin(chapter: int) -> Run:
    """Quiet and offline libraries (online if RLHF_SCALE=gpt2), seeds set, one stable line printed -> Run."""
    seed, scale = os.environ.get("RLHF_SEED") or "0", os.environ.get("RLHF_SCALE") or "village"
    if scale not in scales.SCALES or not seed.isdecimal():
        raise ValueError(f"RLHF_SCALE={scale}, RLHF_SEED={seed}: expected village, smollm2 or gpt2; a whole number")
    scales.most_steps()  # a switch that is no number is refused here, not in the middle of the page
    settle(quiet=os.environ.get("RLHF_PROGRESS") != "1", offline=scale != "gpt2")
    import torch

    for seeding in (random.seed, numpy.random.seed, torch.manual_seed):
        seeding(int(seed))
    print(f"chapter {int(chapter):02d} · scale {scale} · seed {seed} · book edition {doctor.EDITION}")
    print(measured(doctor.versions()))
    return Run(int(chapter), int(seed), scale, torch.Generator().manual_seed(int(seed)))


def every(n: int, total: int) -> Iterator[int]:
    """range(total) that prints "step 20 of 60" after each n-th step and the last (a bar if RLHF_PROGRESS=1)."""
    from tqdm import tqdm

    for step in tqdm(range(total), disable=os.environ.get("RLHF_PROGRESS") != "1"):
        yield step
        if (step + 1) % n == 0 or step + 1 == total:
            print(f"step {step + 1} of {total}")


def _one_bool(text: str, condition) -> bool:
    """The condition of a claim. A tuple, a method that was not called, NaN: Python takes each for true, we do not."""
    if getattr(condition, "shape", None) == () and str(getattr(condition, "dtype", "")) == "torch.bool":
        condition = condition.item()
    if not isinstance(condition, (bool, numpy.bool_)):
        raise TypeError(f"claim {text!r}: the condition is a {type(condition).__name__}, expected one bool (a < b)")
    return bool(condition)


def claim(text: str, condition, detail="", *, kind: str = "E") -> None:
    """Show "✓ text" if a sentence holds, raise AssertionError if not; kind E identity, S statistical, T outcome of training.

    `detail` (text, or {name: number}) does not stand on the page: it goes with the kind to the metadata of the output,
    where the table of claims reads it. At another RLHF_SCALE claims of kinds S and T are observations: "held: text" or
    "did not hold: text". Raises TypeError on a condition that is not one bool.
    """
    held = _one_bool(text, condition)
    if kind not in ("E", "S", "T") or not text.strip() or "\n" in text:
        raise ValueError(f"claim {text!r}, kind {kind!r}: expected one line of text, and kind E, S or T")
    found = measured(detail).removeprefix("  measured: ") if detail else ""
    observed = kind != "E" and (os.environ.get("RLHF_SCALE") or "village") != "village"
    if not held and not observed:
        raise AssertionError(f"claim {kind} fails: {text}" + (f" [{found}]" if found else ""))
    line = f"{'held' if held else 'did not hold'}: {text}" if observed else f"✓ {text}"
    publish(line, metadata={"rlhf": {"claim": {"kind": kind, "text": text, "detail": found, "held": held}}})


def shows_error(fn, *args, expect=ValueError, **kwargs) -> None:
    """Run fn, demand that error, print its kind and first line; AssertionError if nothing is raised."""
    try:
        fn(*args, **kwargs)
    except expect as error:
        return print(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    raise AssertionError(f"{getattr(fn, '__name__', fn)} raised nothing, expected {expect}")


def available(name: str) -> bool:
    """Can this model be had here? False prints how to get it; with RLHF_REQUIRE_MODELS=1 that is an OSError."""
    here, how = doctor.find(name)
    message = f"{name} is not here; to get it: {how}"
    if not here and os.environ.get("RLHF_REQUIRE_MODELS") == "1":
        raise OSError(message)
    return here or bool(print(message))
