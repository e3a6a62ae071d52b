"""What each notebook costs: chapters/status/ledger.json, and ledger.md for people."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import time
from importlib.metadata import version as version_of
from pathlib import Path

import nbformat

from .chapters import kind, name
from .execute import Result, claims

HEAD = ("chapter", "kind", "seconds, 1 thread", "seconds, 2 threads", "peak GB", "cells", "claims", "MB", "slowest cells",
        "measured")
LIMITS = {"lesson": (60, 2.0), "deeper": (120, 3.0)}  # seconds with two threads, GB


def read_ledger(root: Path) -> dict[str, dict]:
    """{"04_slug" or "deeper/04_slug": what the last build measured}."""
    path = root / "chapters/status/ledger.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def costs_line(entry: dict | None) -> str:
    """Rounded to 10 s and 0.1 GB, so that it does not change with every build."""
    if not entry:
        return "not measured yet"

    def seconds(key):
        return max(10, 10 * round(entry[key] / 10))
    took = f"about {seconds('seconds')} s on one CPU core"
    if entry.get("seconds_two_threads"):
        took = f"about {seconds('seconds_two_threads')} s on two CPU cores"
    return f"{took}, {max(0.1, entry['peak_gb']):.1f} GB of memory, nothing downloaded"


def code_hash(nb) -> str:
    """A short digest of all code cells: a measurement is of this code."""
    text = "\n\n".join(c.source for c in nb.cells if c.cell_type == "code")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def record(root: Path, source: Path, nb, result: Result) -> None:
    """Write what this build took; seconds with two threads stay as long as the code is the same."""
    ledger, info = read_ledger(root), Path("/proc/cpuinfo")
    before = ledger.get(name(source), {})
    cpu = re.findall(r"^model name\s*: (.+)$", info.read_text() if info.exists() else "", re.MULTILINE)
    slow = sorted(result.per_cell.items(), key=lambda item: -item[1])[:3]
    entry = {
        "kind": kind(source), "seconds": round(result.seconds, 1), "slowest": [[cell, round(s, 1)] for cell, s in slow],
        "peak_gb": round(result.peak / 1e9, 2), "cells": len(nb.cells), "bytes": len(nbformat.writes(nb)),
        "claims": len(claims(nb)), "date": time.strftime("%Y-%m-%d"), "threads": 1, "code": code_hash(nb),
        "cpu": cpu[0] if cpu else platform.machine(),
        "versions": {p: version_of(p) for p in ("torch", "transformers", "numpy", "matplotlib")}
        | {"python": platform.python_version()}}
    if before.get("code") == entry["code"] and "seconds_two_threads" in before:
        entry["seconds_two_threads"] = before["seconds_two_threads"]
    ledger[name(source)] = entry
    write_ledger(root, ledger)


def record_two_threads(root: Path, source: Path, nb, seconds: float) -> str:
    """Add the seconds with two threads to the entry of the same code -> error text, or ""."""
    ledger = read_ledger(root)
    if ledger.get(name(source), {}).get("code") != code_hash(nb):
        return "its code is not what the last build measured; build it"
    ledger[name(source)]["seconds_two_threads"] = round(seconds, 1)
    write_ledger(root, ledger)
    return ""


def write_ledger(root: Path, ledger: dict[str, dict]) -> None:
    """ledger.json and ledger.md; notebooks that are gone leave the ledger."""
    folder = root / "chapters/status"
    ledger = {key: e for key, e in sorted(ledger.items()) if (root / f"chapters/source/{key}.py").exists()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ledger.json").write_text(json.dumps(ledger, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "ledger.md").write_text(page(ledger), encoding="utf-8")


def page(ledger: dict[str, dict]) -> str:
    """The table for people; over the limit of its kind stands ">"."""
    lines = ["# What each notebook costs", "", "Written by `tools.build`. Seconds with one thread come from the build, those with",
             "two from `python -m tools.build time 04`. A lesson may take 60 s with two threads and 2 GB, a deeper",
             "notebook 120 s and 3 GB; what is over its limit is marked with >.", "",
             "| " + " | ".join(HEAD) + " |", "|---|---|" + "---:|" * 6 + "---|---|"]
    for key in sorted(ledger, key=lambda k: (k.removeprefix("deeper/"), k)):
        e = ledger[key]
        seconds, memory = LIMITS[e["kind"]]
        two = e.get("seconds_two_threads")
        slowest = "; ".join(f"{cell} {s} s" for cell, s in e["slowest"])
        row = (key.removeprefix("deeper/"), e["kind"], e["seconds"],
               "–" if two is None else f"> {two}" if two > seconds else two,
               f"{'> ' if e['peak_gb'] > memory else ''}{e['peak_gb']}",
               e["cells"], e["claims"], f"{e['bytes'] / 1e6:.2f}", slowest, f"{e['date']}, {e['cpu']}")
        lines.append(f"| {' | '.join(map(str, row))} |")
    for k in ("lesson", "deeper"):
        if own := [e for e in ledger.values() if e["kind"] == k]:
            twos = [e["seconds_two_threads"] for e in own if "seconds_two_threads" in e]
            mean = f", {sum(twos) / len(twos):.0f} on average with two ({len(twos)} measured)" if twos else ""
            together = sum(e["seconds"] for e in own)
            lines += ["", f"{len(own)} notebooks of kind {k}: {together:.0f} s with one thread together{mean}."]
    return "\n".join(lines) + "\n"
