"""For notebooks only. A printed line starting with "  measured:" is for the reader; tests compare every other line."""

import base64
import inspect
import io
import json
import os
import random
import textwrap
import zlib
from dataclasses import dataclass
from types import SimpleNamespace

import numpy

from .. import SHIPPED
from ..commands import doctor
from ..quiet import settle
from .exercises import check

__all__ = ["available", "begin", "check", "claim", "every", "recorded", "show", "show_source", "shows_error"]


@dataclass
class Run:
    """All randomness of a notebook comes from here; `generator` is a torch.Generator on the CPU."""
    chapter: int
    seed: int
    scale: str
    generator: object

    def seeds(self, n):
        """n ≤ 1000 different seeds, other ones for another RLHF_SEED."""
        return list(range(1000 * self.seed, 1000 * self.seed + n))

    def fresh(self, name):
        """A generator of its own for one section: cells inserted above then change nothing in it."""
        return type(self.generator)().manual_seed(zlib.crc32(f"{self.seed} {name}".encode()))


def begin(chapter):
    """Quiet and offline libraries (online if RLHF_SCALE=gpt2), seeds set, one stable line printed -> Run."""
    seed, scale = os.environ.get("RLHF_SEED") or "0", os.environ.get("RLHF_SCALE") or "village"
    if scale not in ("village", "smollm2", "gpt2") or not seed.isdecimal():
        raise ValueError(f"RLHF_SCALE={scale}, RLHF_SEED={seed}: expected village, smollm2 or gpt2; a whole number")
    settle(quiet=os.environ.get("RLHF_PROGRESS") != "1", offline=scale != "gpt2")
    import torch
    for seeding in (random.seed, numpy.random.seed, torch.manual_seed):
        seeding(int(seed))
    print(f"chapter {int(chapter):02d} · scale {scale} · seed {seed} · book edition {doctor.EDITION}")
    print(_measured(doctor.versions()))
    return Run(int(chapter), int(seed), scale, torch.Generator().manual_seed(int(seed)))


def every(n, total):
    """range(total) that prints "step 20 of 60" after each n-th step and the last (a bar if RLHF_PROGRESS=1)."""
    from tqdm import tqdm
    for step in tqdm(range(total), disable=os.environ.get("RLHF_PROGRESS") != "1"):
        yield step
        if (step + 1) % n == 0 or step + 1 == total:
            print(f"step {step + 1} of {total}")


def _measured(detail):
    if isinstance(detail, dict):
        detail = ", ".join(f"{k} {v:.4g}" if isinstance(v, (int, float)) else f"{k} {v}" for k, v in detail.items())
    return "  measured: " + " ".join(str(detail).split())  # always one line: only one line is masked


def claim(text, condition, detail="", *, kind="E"):
    """Print that a sentence holds or raise AssertionError; kind E identity, S statistical, T outcome of training."""
    if getattr(condition, "shape", None) == () and str(getattr(condition, "dtype", "")) == "torch.bool":
        condition = condition.item()
    if not isinstance(condition, (bool, numpy.bool_)):  # a tuple, a method not called, NaN: Python takes each for true
        raise TypeError(f"claim {text!r}: the condition is a {type(condition).__name__}, expected one bool (a < b)")
    if kind not in ("E", "S", "T") or not text.strip() or "\n" in text:
        raise ValueError(f"claim {text!r}, kind {kind!r}: expected one line of text, and kind E, S or T")
    line = f"{text}\n{_measured(detail)}" if detail else text
    if not condition:
        raise AssertionError(f"claim {kind} fails: {line}")
    print(f"claim {kind} holds: {line}")


def show_source(fn, *more):
    """The live source of functions or classes of the package, highlighted, under the names of their modules."""
    from IPython.display import display
    found = [inspect.unwrap(f) for f in (fn, *more)]
    text = "\n\n\n".join(f"# {f.__module__}\n{inspect.getsource(f).rstrip()}" for f in found)
    display({"text/markdown": f"```python\n{text}\n```", "text/plain": text}, raw=True)


def show(fig, alt, data=None):
    """Show and close a figure; alt: plot, axes, message, nothing measured; data {label: y or (x, y)}."""
    import matplotlib.pyplot as plt
    from IPython.display import display
    if "\n" in alt or not 40 <= len(alt) <= 300:
        raise ValueError(f"alt of {len(alt)} characters: expected one line of 40–300: kind of plot, axes, message")
    fig.savefig(png := io.BytesIO(), format="png", metadata={"Software": None})
    plt.close(fig)
    picture = base64.b64encode(png.getvalue()).decode()
    display({"image/png": picture, "text/plain": alt}, metadata={"image/png": {"alt": alt}}, raw=True)
    for label, line in (data or {}).items():
        x, y = line if isinstance(line, tuple) else (range(len(line)), line)
        top, at = max((float(b), float(a)) for a, b in zip(x, y, strict=True))
        print(_measured(f"{label}: start {float(y[0]):.4g}, peak {top:.4g} at {at:.4g}, end {float(y[-1]):.4g}"))


def shows_error(fn, *args, expect=ValueError, **kwargs):
    """Run fn, demand that error, print its kind and first line; AssertionError if nothing is raised."""
    try:
        fn(*args, **kwargs)
    except expect as error:
        return print(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    raise AssertionError(f"{getattr(fn, '__name__', fn)} raised nothing, expected {expect}")


class Recorded(SimpleNamespace):
    """A run of data/runs/: curve {column: values}, command, seed, versions, hardware, date, name, and what else it holds."""

    def made(self):
        """Print how, where and when."""
        print(textwrap.fill(f"recorded: {self.command}", 100, subsequent_indent="    "))
        print(f"    {self.hardware}, {self.date}, torch {self.versions['torch']}")

    def before_after(self):
        """Print the true reward of held-out answers, and some of them -> (gain, its standard error)."""
        then, now = (self.held_out[when] for when in ("before", "after"))
        print("true reward of held-out answers, ± standard error")
        for family in (name for name in now if name != "texts"):
            was, x = then[family], now[family]
            print(f"  {family:<10}{x['n']:>4} answers   before {was['mean']:5.2f} ± {was['standard_error']:.2f}"
                  f"   after {x['mean']:5.2f} ± {x['standard_error']:.2f}")
        for a, b in zip(then["texts"], now["texts"], strict=True):
            print(f"PROMPT  {a['prompt']}")
            for name, x in (("before", a), ("after", b)):
                print(f"  {name:<7}{x['gold']:6.2f}  {' '.join(x['completion'].split())[:75]}")
        self.made()
        errors = (then["all"]["standard_error"], now["all"]["standard_error"])
        return now["all"]["mean"] - then["all"]["mean"], (errors[0] ** 2 + errors[1] ** 2) ** 0.5


def recorded(name):
    """data/runs/<name>.json -> Recorded. ValueError where a part is missing."""
    path, need = SHIPPED / f"runs/{name}.json", {"curve", "command", "seed", "versions", "hardware", "date"}
    raw = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if lacks := sorted(need - raw.keys()):
        known = sorted(p.stem for p in path.parent.glob("*.json"))
        raise ValueError(f"no complete recorded run {name!r}, it lacks {lacks}; data/runs has {known}")
    return Recorded(**{**raw, "name": name})


def available(name):
    """Can this model be had here? False prints how to get it; with RLHF_REQUIRE_MODELS=1 that is an OSError."""
    here, how = doctor.find(name)
    message = f"{name} is not here; to get it: {how}"
    if not here and os.environ.get("RLHF_REQUIRE_MODELS") == "1":
        raise OSError(message)
    return here or bool(print(message))
