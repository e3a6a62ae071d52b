"""How a row of `make bench` is declared and timed: ours and the peer in turns, an uncounted warm-up each.

A row's `build(settings)` gives two functions without arguments; each call does the work once and returns (seconds,
units). So a peer's trainer may time its own loop alone, without the set-up that it repeats at every call.
"""

import statistics
import time
from dataclasses import dataclass
from types import SimpleNamespace

ROWS = []


@dataclass(frozen=True)
class Spec:
    """A row of the table. must, goal: ratios of the peer's time to ours, or shares of the peak (kind "share")."""

    name: str
    work: str
    against: str
    unit: str
    must: float
    goal: float
    kind: str
    seconds: int  # about, on two quiet cores with 7 repetitions
    build: object
    why: str = ""  # what keeps it from the goal, where something is known to


def row(name, work, against, unit, must, goal, *, seconds, kind="ratio", why=""):
    """Decorator: put a `build` into the table."""

    def add(build):
        ROWS.append(Spec(name, work, against, unit, must, goal, kind, seconds, build, why))
        return build

    return add


def settings(*, reps=7, threads=2, scale=1.0):
    """What a build is told. scale below 1 shrinks the work, for trying things out; such a record is not to be stored."""
    return SimpleNamespace(reps=reps, threads=threads, scale=scale, rows=lambda n: max(8, int(n * scale) // 8 * 8))


def clocked(fn):
    """fn() -> units, as a side: () -> (seconds, units)."""

    def side():
        start = time.perf_counter()
        units = fn()
        return time.perf_counter() - start, units

    return side


def in_turns(ours, peer, reps):
    """{"ours": [...], "peer": [...]}: seconds a unit of each repetition, the two sides taking turns at being first."""
    for side in (ours, peer):
        side()
    times = {"ours": [], "peer": []}
    for i in range(reps):
        for name, side in (("ours", ours), ("peer", peer))[:: 1 if i % 2 else -1]:
            seconds, units = side()
            times[name].append(seconds / units)
    return times


def summary(times):
    """Minimum and median of both sides, and their ratios; above 1 we are faster."""
    out = {name: {"min": min(x), "median": statistics.median(x)} for name, x in times.items()}
    out["ratio"] = {kind: out["peer"][kind] / out["ours"][kind] for kind in ("min", "median")}
    return out


def verdict(value, must, goal):
    """"met", or by how much a ratio or share falls short of the goal, and whether it reaches what it must."""
    if value >= goal:
        return "goal met"
    digits = 2 if goal - value >= 0.005 else 3
    short = f"{goal - value:.{digits}f} short of the goal"
    return f"met; {short}" if value >= must else f"{must - value:.2f} short; {short}"
