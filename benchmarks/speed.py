"""`make bench`: our speed beside what a user would otherwise run -> benchmarks/speed.json, speed.md.

    python -m benchmarks.speed                                   every row, 7 repetitions, 2 threads; stores the record
    python -m benchmarks.speed --rows sampling,SFT --reps 3      rows whose name holds one of the words; stores nothing
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
import platform
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.speed_rows import ROWS, in_turns, settings, summary, verdict

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("sampling", "trainers", "policy", "limits")
COMMAND = "python -m benchmarks.speed"
HEAD = """# Speed beside what a user would otherwise run

Written by `make bench` (`{command}`) on {date}: {cpu}, {threads} threads of {cores} cores, load {load} at the start; torch {torch},
transformers {transformers}, TRL {trl}, Python {python}, float32.

Same model (fused activation), data, batch sizes and settings on both sides, dropout off, no gradient checkpointing, no top-k. An
uncounted warm-up of each, then {reps} repetitions in turns; of TRL's trainers only the loop is timed, not what is set up before it.
The ratio is the peer's time for a unit of work over ours: above 1 we are faster. The verdict is on the ratio of the medians.

| work | peer | ours, min / median | peer's, min / median | ratio, min / median | must / goal | verdict |
|---|---|---:|---:|---:|---:|---|
"""


def versions():
    """{library: version} behind the numbers."""
    named = {name: importlib.import_module(name).__version__.split("+")[0] for name in ("torch", "transformers", "trl")}
    return named | {"python": platform.python_version()}


def machine():
    """The processor, its cores, and how busy it is."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return {"cpu": cpu, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "system": platform.system()}


def about(spec):
    """What a record says of a row before anything is measured."""
    return {name: getattr(spec, name) for name in ("name", "work", "against", "unit", "must", "goal", "kind")}


def measure(spec, s):
    """Time a row -> its record."""
    ours, peer = spec.build(s)
    if spec.kind == "gate":
        losses = {"ours": ours(), "peer": peer()}
        worse = max(a - b for a, b in zip(losses["ours"], losses["peer"], strict=True))
        return about(spec) | {"losses": losses, "worse": worse, "verdict": "met" if worse <= spec.must else "NOT MET"}
    if spec.kind == "share":
        ours()
        found = sorted(a / b for a, b in (ours() for _ in range(s.reps)))
        middle = found[len(found) // 2]
        return about(spec) | {"shares": found, "share": {"max": found[-1], "median": middle},
                              "verdict": verdict(middle, spec.must, spec.goal)}
    times = in_turns(ours, peer, s.reps)
    out = summary(times)
    return about(spec) | {"times": times} | out | {"verdict": verdict(out["ratio"]["median"], spec.must, spec.goal)}


def amount(seconds, unit):
    """Seconds a unit, as people read it."""
    return f"{1 / seconds:,.0f} {unit}s/s" if seconds < 0.5 else f"{seconds:.2f} s a {unit}"


def line(row):
    """A row of the table."""
    if row["kind"] == "gate":
        ours, peer = (" ".join(f"{x:.4f}" for x in row["losses"][side]) for side in ("ours", "peer"))
        cells = (ours, peer, f"at most {row['worse']:+.4f}", f"not worse by {row['must']}")
    elif row["kind"] == "share":
        cells = (f"{row['share']['max']:.0%} / {row['share']['median']:.0%}", "100%", "–", f"{row['must']:.0%} / {row['goal']:.0%}")
    else:
        ours, peer = (" / ".join(amount(row[side][kind], row["unit"]) for kind in ("min", "median")) for side in ("ours", "peer"))
        cells = (ours, peer, f"{row['ratio']['min']:.2f} / {row['ratio']['median']:.2f}", f"{row['must']} / {row['goal']}")
    return "| " + " | ".join((f"**{row['name']}**: {row['work']}", row["against"], *cells, row["verdict"])) + " |"


def page(record):
    """speed.md."""
    facts = {**record["machine"], **record["versions"], **{k: record[k] for k in ("command", "date", "threads", "reps")}}
    left = "".join(f"\nNot measured: {text}.\n" for text in record["left_out"])
    return HEAD.format(**facts) + "\n".join(line(row) for row in record["rows"]) + "\n" + left + NOTES


NOTES = """
What makes the difference. Sampling: prompts are read once for all their samples, a finished row gives its place in the cache to a
live one, the cache is written in place, GPT-2's step asks for nothing but its sums, and a draw inverts the CDF. Training: rows of a
batch lie sorted by length, in pieces without each other's padding, and logits exist only where one is wanted; the gradient is the
same. *Batches* sorted by length would be faster still, and learn less; they are random here, which the last row checks.
"""


def left_out():
    """Rows that this machine cannot measure, and why."""
    from benchmarks.speed_sampling import has_bfloat16

    return [] if has_bfloat16() else ["smollm2-135m in bfloat16: this processor has no bfloat16 units (avx512_bf16, amx_bf16)"]


def arguments(argv):
    """The command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=7, help="repetitions of each side")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads")
    parser.add_argument("--rows", default="", help="words, separated by commas: only rows whose name holds one of them")
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
    if words or args.scale != 1 or args.reps < 7:
        print("nothing stored: that takes all rows, whole, 7 repetitions or more")
        return 0
    (ROOT / "benchmarks/speed.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (ROOT / "benchmarks/speed.md").write_text(page(record), encoding="utf-8")
    print("stored in benchmarks/speed.json and speed.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
