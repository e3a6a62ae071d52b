"""The command line of the training loop: one subcommand an algorithm, each with its own settings only. No torch here."""

import argparse
import shlex
from pathlib import Path

from .settings import ALGORITHMS, settings_of

NEED = {  # what the rows of each kind have to hold
    "demonstrations": "prompt and completion (or messages)", "pairs": "prompt, chosen and rejected (or two transcripts)",
    "unpaired": "prompt, completion and label (true or false)", "prompts": "prompt; the completions are sampled",
}


def command(asked, out, given):
    """The command line of a call, as it can be given again; of a folder outside, its last part alone."""
    words = ["python", "-m", "rlhf_minimal.train", asked["algorithm"], "--model", asked["model"], "--data", asked["data"],
             "--steps", asked["steps"], "--seed", asked["seed"], "--out", Path(out).name if Path(out).is_absolute() else out]
    for name, x in given.items():
        if name not in ("resume", "progress") and x is not None:
            flag = "--" + name.replace("_", "-")
            words += [flag if x else flag.replace("--", "--no-", 1)] if isinstance(x, bool) else [flag, x]
    return shlex.join(str(word) for word in words)


def parser(text):
    """The command line: one subcommand an algorithm, each with its own settings only."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="python -m rlhf_minimal.train", description=text, formatter_class=raw)
    commands = top.add_subparsers(dest="algorithm", required=True, metavar="ALGORITHM", title="algorithms")
    for name, a in ALGORITHMS.items():
        about = f"{name}: {a.sentence}.\n\nEach row of --data holds {NEED[a.data]}."
        sub = commands.add_parser(name, help=a.sentence, description=about, formatter_class=raw)
        sub.add_argument("--model", default="village-3m" if name == "sft" else "village-3m-sft",
                         help="a name, folder or hub id to start from (default: %(default)s)")
        sub.add_argument("--data", default="village", help="village, a .jsonl file or a hub id (default: %(default)s)")
        sub.add_argument("--steps", type=int, required=True, help="optimizer steps (for policy gradients: batches of samples)")
        sub.add_argument("--out", required=True, help="folder of the run, new or empty")
        sub.add_argument("--seed", type=int, default=0, help="of data order, adapters and samples (default: %(default)s)")
        for key, x in settings_of(name).items():
            _argument(sub, "--" + key.replace("_", "-"), x)
    return top


def _argument(sub, flag, x):
    if x.kind is bool:
        sub.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS,
                         help=f"{x.meaning} (default: {'yes' if x.default else 'no'})")
        return
    default = "" if x.default is None else f" (default: {x.default})"
    sub.add_argument(flag, type=x.kind, choices=x.choices or None, default=argparse.SUPPRESS, metavar=x.kind.__name__.upper()
                     if not x.choices else None, help=x.meaning.replace("%", "%%") + default)
