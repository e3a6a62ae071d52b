"""Train with any algorithm of the package, on Hugging Face Accelerate, from the command line or from Python.

    python -m rlhf_minimal.train sft --data demonstrations.jsonl --steps 200 --out runs/sft
    python -m rlhf_minimal.train reward --model runs/sft --data village --steps 200 --out runs/rm
    python -m rlhf_minimal.train rloo --model runs/sft --reward runs/rm --steps 100 --out runs/rloo
    python -m rlhf_minimal.train grpo --model runs/sft --data sums.jsonl --reward checks.py:right --steps 100 --out runs/grpo
    python -m rlhf_minimal.train dpo --model runs/sft --data village --steps 100 --out runs/dpo
    accelerate launch -m rlhf_minimal.train ppo --steps 100 --out runs/ppo           # several accelerators
    ACCELERATE_USE_CPU=1 torchrun --nproc_per_node 2 -m rlhf_minimal.train grpo ...  # two processes on the CPU

`python -m rlhf_minimal.train ALGORITHM --help` lists what an algorithm takes, with defaults and meanings. --data is
village, a file (JSON Lines, JSON, CSV, TSV, parquet; a path that exists is a file) or a hub id; Alpaca, ShareGPT, SHP, two
answers with a winner and the like are recognised, other names are given by --columns prompt=question,completion=reply.
--model is village-3m, village-3m-sft, smollm2-135m, a folder or a hub id.
Before the first step, and before anything is written, all rows are read (errors name the row, counted from 1) and the
number of processes is printed, with how many rows are cut and how many of them lose their end.
Into --out come the model and its tokenizer (for transformers' from_pretrained), run.json (command, seed, versions, curve),
metrics.jsonl (a line per step), samples.jsonl and checkpoints. A run that died goes on with `resume --out RUN`, to the same
weights; it is refused where rows, weights or tokenizers are no longer the same. A folder of a run without a step counts as free.
"""

import argparse
import json
import os
import re
import sys
import textwrap
from pathlib import Path

from .. import files
from .algorithms import ALGORITHMS, settings_of
from .loop import run
from .settings import MEMORY, Setting

NEED = {  # what the rows of each kind have to hold
    "demonstrations": "prompt and completion (or messages; a turn of weight 0 is not learned)",
    "pairs": "prompt, chosen and rejected (or two transcripts); `reward` uses a margin too", "prompts": "prompt, no answer",
    "unpaired": "prompt, completion and label (true or false, 1 or -1, up or down)"}
H = "h = (log pi(chosen) - log ref(chosen)) - (log pi(rejected) - log ref(rejected))"


def main(args: list[str] | None = None) -> None:
    """The command line; a wrong call ends with status 2 and one message."""
    top = parser(__doc__)
    given = vars(top.parse_args(args))
    try:
        record = run(**(given if given["algorithm"] != "resume" else asked_before(given["out"])))
    except (ValueError, OSError) as error:
        top.exit(2, f"{top.prog} {given['algorithm']}: error: {error}\n")
    if not record["finished"]:  # it was only planned
        return
    last = {k: v[-1] for k, v in record["curve"].items() if k in ("step", "loss", "score", "gold", "kl", "accuracy")}
    if os.environ.get("RANK", "0") == "0":  # torchrun's processes all come here
        print(f"{record['out']}: " + ", ".join(f"{k} {v}" for k, v in last.items()), file=sys.stderr)
        print("\n".join(shown(Path(record["out"]))), file=sys.stderr)


def asked_before(out: str) -> dict:
    """What a run was asked for, out of its run.json. ValueError where there is none, or where it cannot be asked for again."""
    path = Path(out) / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        asked = {name: record[name] for name in ("algorithm", "model", "data", "steps", "seed")} | record["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"there is no run to go on with in {out} ({type(error).__name__}: {error}); "
                         "give the --out of a run") from error
    if asked["data"] == MEMORY:
        raise ValueError(f"the run in {out} read {MEMORY}; go on with it from Python, by the same call of `run` with resume=True")
    return asked | {"out": out, "resume": True}


def shown(out: Path, count: int = 3, width: int = 100) -> list[str]:
    """The first samples of the finished model, one line each."""
    rows = files.read_log(out / "samples.jsonl")
    lines = []
    for row in [row for row in rows if row["step"] == rows[-1]["step"]][:count]:
        asked = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"]
        said = " ".join(str(row.get("completion", row.get("chosen"))).split())
        score = next((f"  [score {row[name]}]" for name in ("score", "score_chosen") if name in row), "")
        line = f"{' '.join(asked.split())} -> {said or '(nothing)'}"
        lines.append("  " + textwrap.shorten(line, width, placeholder=" ...") + score)
    return lines


def parser(text: str) -> argparse.ArgumentParser:
    """One subcommand per algorithm, each with its own settings only."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="python -m rlhf_minimal.train", description=text, formatter_class=raw)
    commands = top.add_subparsers(dest="algorithm", required=True, metavar="ALGORITHM", title="algorithms")
    again = commands.add_parser("resume", help="go on with a run that died; all else is in its run.json",
                                description="Go on from the last whole checkpoint, with what run.json says, to the same weights.")
    again.add_argument("--out", required=True, help="folder of the run")
    for name, a in ALGORITHMS.items():
        sub = commands.add_parser(name, help=a.sentence, description=lesson(name), formatter_class=raw)
        sub.add_argument("--model", default="village-3m" if name == "sft" else "village-3m-sft",
                         help="a name, folder or hub id to start from; without a chat template it reads 'User: ...' and "
                         "'Assistant: ...', without a padding token it pads with its end token (default: %(default)s)")
        sub.add_argument("--data", default="village", help="village, a file or a hub id (default: %(default)s)")
        sub.add_argument("--steps", type=int, required=True, help="optimizer steps (for policy gradients: batches of samples)")
        sub.add_argument("--out", required=True, help="folder of the run, new or empty")
        sub.add_argument("--seed", type=int, default=0, help="of data order, adapters and samples (default: %(default)s)")
        for key, setting in settings_of(name).items():
            add_setting(sub, "--" + key.replace("_", "-"), setting)
    return top


def add_setting(sub: argparse.ArgumentParser, flag: str, x: Setting) -> None:
    """A flag that stays out of the result unless it is given: `run` knows the defaults."""
    meaning = x.meaning.replace("%", "%%")
    if x.kind is bool:
        sub.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS,
                         help=f"{meaning} (default: {'yes' if x.default else 'no'})")
        return
    sub.add_argument(flag, type=x.kind, choices=x.choices or None, metavar=None if x.choices else x.kind.__name__.upper(),
                     default=argparse.SUPPRESS, help=meaning + ("" if x.default is None else f" (default: {x.default})"))


def lesson(name: str) -> str:
    """What `train NAME --help` teaches: the loss, where to read it, a call to start from."""
    a = ALGORITHMS[name]
    where = "  " + H + "\n" if re.search(r"\bh\b", a.minimises) else ""
    paper = f"https://arxiv.org/abs/{a.paper}" if a.paper[0].isdigit() else a.paper
    return (f"{name}: {a.sentence}.\n\nMinimises  {a.minimises}\n{where}"
            f"Code: rlhf_minimal/{a.loss.split('.')[0]}.py   Chapter: {a.chapter}   Paper: {paper}\n\n"
            f"Each row of --data holds {NEED[a.rows]}.\n"
            f"To begin with: python -m rlhf_minimal.train {name} --steps 20 --out runs/{name}")
