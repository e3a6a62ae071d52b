"""`make oracle`: our losses beside TRL, transformers and torch on the same inputs -> benchmarks/oracle.json, oracle.md.

Runs in an environment of its own (oracle-requirements.txt), on the CPU, in about a minute. Exits with 1 if a row that
should agree does not, or if a documented disagreement is no longer there.
"""

import hashlib
import importlib
import json
import platform
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = tuple(f"oracle_{name}" for name in ("basics", "models", "preference", "policy", "advantages", "ppo"))
COMPARED = ("advantages", "aggregate", "direct_alignment", "grpo", "kl", "logprobs", "models", "ppo", "process_reward", "reinforce",
            "reward_model", "rloo", "sft", "tensors")


def hashes():
    """{file of the package: sha256} of what is compared."""
    names = [f"rlhf_minimal/{name}.py" for name in COMPARED]
    return {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in names}


def versions():
    """{library: version} behind the numbers."""
    named = {name: importlib.import_module(name).__version__.split("+")[0] for name in ("torch", "transformers", "trl")}
    return named | {"python": platform.python_version()}


def short(pair):
    """The float64 and the float32 number of a record, as text."""
    return "–" if pair is None else f"{pair['float64']:.0e} / {pair['float32']:.0e}"


def table(record):
    """The rows as Markdown, agreements first."""
    lines = []
    for row in sorted(record["rows"], key=lambda r: r["expected"]):
        verdict = "agrees" if row["expected"] == "agrees" else f"differs ({row['item']}): {row['why']}"
        cells = (row["name"], f"`{row['ours']}`", row["outside"], row["cases"], short(row["loss"]), short(row["gradient"]),
                 short(row["tolerance"]), verdict)
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return lines


def page(record):
    """oracle.md."""
    v = record["versions"]
    agree = sum(row["expected"] == "agrees" for row in record["rows"])
    head = [
        "# Agreement with outside implementations", "",
        f"Written by `make oracle`, with torch {v['torch']}, transformers {v['transformers']}, TRL {v['trl']}, "
        f"Python {v['python']}, on the CPU. {agree} rows agree; {len(record['rows']) - agree} are documented disagreements, "
        "measured on the same inputs.", "",
        "Each case is a random batch with ragged prompts, completions and padding. Differences are the largest over the cases, "
        "in float64 / in float32: of a loss relative to the larger of 1 and itself, of a gradient (in every logit, or weight, "
        "value or score) relative to its largest entry. A tolerance holds for both. A dash: nothing to differentiate. Where an "
        "outside function computes in float32 whatever it is given, the float64 case is held to float32's tolerance.", "",
        "| comparison | ours | outside | cases | loss or value | gradient | tolerance | verdict |", "|---" * 8 + "|",
    ]
    files = ["", "## Files", "",
             "What `data.save_jsonl` writes, read by `datasets` and given to TRL's trainers unchanged, one step each:", "",
             *(f"- {name}: {x['rows']}.jsonl ({', '.join(x['columns'][:4])}, …), loss {x['loss']:.4f}"
               for name, x in record["files"].items())]
    return "\n".join(head + table(record) + files) + "\n"


def main():
    """Measure every row, write both files, say what went wrong."""
    warnings.filterwarnings("ignore")
    for name in MODULES:
        importlib.import_module(f"benchmarks.{name}")
    from benchmarks import oracle_files
    from benchmarks.oracle_rows import ROWS, measure

    rows, broken = [], []
    for spec in ROWS:
        record = measure(spec)
        rows.append(record)
        if record["within"] != (record["expected"] == "agrees"):
            broken.append(record["name"])
            print(f"NOT AS EXPECTED ({record['expected']}): {spec.name}: loss {short(record['loss'])}, "
                  f"gradient {short(record['gradient'])}, tolerance {short(record['tolerance'])}")
    record = {"versions": versions(), "sources": hashes(), "rows": rows, "files": oracle_files.measure()}
    (ROOT / "benchmarks/oracle.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    (ROOT / "benchmarks/oracle.md").write_text(page(record))
    print(f"{len(rows)} rows, {sum(r['cases'] for r in rows)} cases, {len(broken)} not as expected; benchmarks/oracle.md")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
