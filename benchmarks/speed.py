"""`make bench`: our speed beside what a user would otherwise run -> benchmarks/speed.json, speed.md.

    python -m benchmarks.speed                                   every row, 7 repetitions, 2 threads; stores the record
    python -m benchmarks.speed --rows sampling,SFT --reps 3      rows whose name holds one of the words; stores nothing
    python -m benchmarks.speed --rows held-out --add             these rows anew, into the stored record of the others
    python -m benchmarks.speed --scale 0.1 --reps 1              less work, to see that it runs; stores nothing

Runs in the environment of `make oracle`, on the CPU. Meant for a quiet machine: other load shows in both sides, though
taking turns keeps the ratios. Set OMP_NUM_THREADS to the threads, as `make bench` does.
"""

import argparse
import gc
import importlib
import json
import logging
import os
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.speed_page import left_out, line, machine, page, versions
from benchmarks.speed_rows import ROWS, in_turns, settings, summary, verdict

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("sampling", "trainers", "policy", "limits")
COMMAND = "python -m benchmarks.speed"


def about(spec):
    """What a record says of a row before anything is measured."""
    return {name: getattr(spec, name) for name in ("name", "work", "against", "unit", "must", "goal", "kind", "why")}


def judged(row):
    """A measured row with its verdict: a ratio's is on the smaller of the two, a share's on the median."""
    if row["kind"] == "gate":
        return row | {"verdict": "met" if row["worse"] <= row["must"] else "NOT MET"}
    value = row["share"]["median"] if row["kind"] == "share" else min(row["ratio"].values())
    return row | {"verdict": verdict(value, row["must"], row["goal"])}


def measure(spec, s):
    """Time a row -> its record."""
    ours, peer = spec.build(s)
    if spec.kind == "gate":
        losses = {"ours": ours(), "peer": peer()}
        worse = max(a - b for a, b in zip(losses["ours"], losses["peer"], strict=True))
        return judged(about(spec) | {"losses": losses, "worse": worse})
    if spec.kind == "share":
        ours()
        found = sorted(a / b for a, b in (ours() for _ in range(s.reps)))
        return judged(about(spec) | {"shares": found, "share": {"max": found[-1], "median": found[len(found) // 2]}})
    times = in_turns(ours, peer, s.reps)
    return judged(about(spec) | {"times": times} | summary(times))


def added(old, new):
    """A stored record with the rows of a new one in their places; whys and verdicts of all as they are now."""
    if old["threads"] != new["threads"]:
        raise SystemExit(f"the record was measured with {old['threads']} threads, this with {new['threads']}; give --threads")
    rows = {row["name"]: row for row in old["rows"]} | {row["name"]: row | {"date": new["date"]} for row in new["rows"]}
    return old | {"rows": [judged(rows[spec.name] | {"why": spec.why}) for spec in ROWS if spec.name in rows]}


def arguments(argv):
    """The command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=7, help="repetitions of each side")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads")
    parser.add_argument("--rows", default="", help="words, separated by commas: only rows whose name holds one of them")
    parser.add_argument("--add", action="store_true", help="put the measured rows into the stored record, beside the others")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the work")
    parser.add_argument("--list", action="store_true", help="name the rows with the seconds each takes, measure nothing")
    return parser.parse_args(argv)


def quiet():
    """Libraries that keep talking."""
    warnings.filterwarnings("ignore")
    for name in ("transformers", "trl", "datasets", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
                   "ACCELERATE_USE_CPU": "1"}
    importlib.import_module("datasets").disable_progress_bars()
    importlib.import_module("transformers").logging.disable_progress_bar()


def main(argv=None):
    """Measure, print, and store what was a whole measurement."""
    args = arguments(argv)
    quiet()
    import torch

    torch.set_num_threads(args.threads)
    for name in MODULES:
        importlib.import_module(f"benchmarks.speed_{name}")
    words = [word.lower() for word in args.rows.split(",") if word]
    chosen = [spec for spec in ROWS if not words or any(word in spec.name.lower() for word in words)]
    if args.list or not chosen:
        print("\n".join(f"{spec.seconds:4d} s  {spec.name}" for spec in ROWS))
        return 0 if args.list else 2
    record = {"command": " ".join([COMMAND, *(sys.argv[1:] if argv is None else argv)]), "machine": machine(),
              "date": datetime.now(UTC).date().isoformat(), "versions": versions(), "threads": args.threads,
              "reps": args.reps, "scale": args.scale, "left_out": left_out(), "rows": []}
    for spec in chosen:
        start = time.time()
        record["rows"].append(measure(spec, settings(reps=args.reps, threads=args.threads, scale=args.scale)))
        print(line(record["rows"][-1]), f"[{time.time() - start:.0f} s]", flush=True)
        gc.collect()
    if args.scale != 1 or args.reps < 7 or (words and not args.add):
        print("nothing stored: that takes all rows (or --add), whole, 7 repetitions or more")
        return 0
    if args.add:
        record = added(json.loads((ROOT / "benchmarks/speed.json").read_text(encoding="utf-8")), record)
    (ROOT / "benchmarks/speed.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (ROOT / "benchmarks/speed.md").write_text(page(record), encoding="utf-8")
    print("stored in benchmarks/speed.json and speed.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
