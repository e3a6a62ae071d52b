"""The page that `make bench` writes, and what it says of the machine."""

import importlib
import os
import platform
from pathlib import Path

HEAD = """# Speed beside what a user would otherwise run

Written by `make bench` (`{command}`) on {date}: {cpu}, {threads} threads of {cores} cores, load {load} at the start; torch {torch},
transformers {transformers}, TRL {trl}, Python {python}, float32.

Same model (fused activation), data, batch sizes and settings on both sides, dropout off, no gradient checkpointing, no top-k. An
uncounted warm-up of each, then {reps} repetitions in turns; of TRL's trainers only the loop is timed, not what is set up before it.
The ratio is the peer's time for a unit of work over ours: above 1 we are faster. The verdict is on the smaller of the two ratios.

| work | peer | ours, best / median | peer's, best / median | ratio of best / of medians | must / goal | verdict |
|---|---|---:|---:|---:|---:|---|
"""
NOTES = """
Longer work is measured in parts: what the rows call a repetition is a part of an epoch, always the same rows in another order.

## Where the time goes

By operator, with each step's share of matrix products and their rate against the machine's peak: [where.md](where.md).

Sampling: prompts are read once for all their samples; a finished row gives its place in the cache to a live one; the cache is
written in place; GPT-2's step is its sums and nothing else; a draw inverts the CDF. What is left is matrix products of few rows,
which read all weights for every token, attention over the cache, and copies of what a layer hands on: memory is the next
limit, and more rows at once cost little.

Training: the rows of a batch lie sorted by length, in pieces without each other's padding and so without an attention mask, and
logits exist only in columns where one is wanted; the gradient is the same. The shares above are what is left to win: the last
steps to the peak are small layers (192 wide), and norms and activations that pass through memory.

*Batches* bucketed by length would be faster still and learn less, for length goes with the task: 0.70 nats a token held out against
0.56 in a trial. Batches are random here, and the last rows check that
the pieces change nothing that is learned. GRPO and PPO have no held-out loss; that their log-probabilities and gradients stay
what they were is tested (`tests/test_decoding.py`).
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


def amount(seconds, unit):
    """Seconds a unit, as people read it."""
    return f"{1 / seconds:,.0f} {unit}s/s" if seconds < 0.5 else f"{seconds:.2f} s a {unit}"


def line(row):
    """A row of the table."""
    later = f" (measured on {row['date']})" if "date" in row else ""
    if row["kind"] == "gate":
        ours, peer = (" ".join(f"{x:.4f}" for x in row["losses"][side]) for side in ("ours", "peer"))
        cells = (ours, peer, f"at most {row['worse']:+.4f}", f"not worse by {row['must']}")
    elif row["kind"] == "share":
        cells = (f"{row['share']['max']:.0%} / {row['share']['median']:.0%}", "100%", "–", f"{row['must']:.0%} / {row['goal']:.0%}")
    else:
        ours, peer = (" / ".join(amount(row[side][kind], row["unit"]) for kind in ("min", "median")) for side in ("ours", "peer"))
        cells = (ours, peer, f"{row['ratio']['min']:.2f} / {row['ratio']['median']:.2f}", f"{row['must']} / {row['goal']}")
    return "| " + " | ".join((f"**{row['name']}**: {row['work']}{later}", row["against"], *cells, row["verdict"])) + " |"


def page(record):
    """speed.md."""
    facts = {**record["machine"], **record["versions"], **{k: record[k] for k in ("command", "date", "threads", "reps")}}
    left = "".join(f"\nNot measured: {text}.\n" for text in record["left_out"])
    short = [f"- {row['name']}: {row['why']}" for row in record["rows"] if "short" in row["verdict"] and row.get("why")]
    reasons = "\n".join(["", "What keeps a row from its goal:", "", *short, ""]) if short else ""
    return HEAD.format(**facts) + "\n".join(line(row) for row in record["rows"]) + "\n" + reasons + left + NOTES


def left_out():
    """Rows that this machine cannot measure, and why."""
    from benchmarks.speed_sampling import has_bfloat16

    return [] if has_bfloat16() else ["smollm2-135m in bfloat16: this processor has no bfloat16 units (avx512_bf16, amx_bf16)"]
