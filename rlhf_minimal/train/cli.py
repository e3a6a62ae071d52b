"""The command line of the training loop: one subcommand an algorithm, each with its own settings only. No torch here."""

import argparse
import re
import shlex
from pathlib import Path

from .settings import ALGORITHMS, settings_of

NEED = {  # what the rows of each kind have to hold
    "demonstrations": "prompt and completion (or messages)", "pairs": "prompt, chosen and rejected (or two transcripts)",
    "unpaired": "prompt, completion and label (true or false)", "prompts": "prompt; the completions are sampled",
}

H = "h = (log pi(chosen) - log ref(chosen)) - (log pi(rejected) - log ref(rejected))"
READING = {  # (file, chapter): {algorithm: (what is minimised, paper)}; sums over the answer's tokens, "a token": their mean
    ("sft", 9): {"sft": ("-log pi(completion), mean over its tokens", "2203.02155")},
    ("reward_model", 7): {"reward": ("-log sigmoid(r(chosen) - r(rejected))", "2203.02155")},
    ("reinforce", 11): {"reinforce": ("-(r - beta KL - baseline) log pi(completion)", "Williams 1992")},
    ("rloo", 11): {"rloo": ("-(r - beta KL - mean of the others) log pi(completion)", "2402.14740")},
    ("grpo", 11): {
        "grpo": ("-min(rho A, clip(rho) A) + beta k3 a token; A = (r - mean) / std of the group", "2402.03300"),
        "gspo": ("-min(s A, clip(s) A); s = exp(mean log-ratio of the completion)", "2507.18071"),
        "cispo": ("-min(rho, 1 + clip_high) A log pi a token, no gradient through the weight", "2506.13585")},
    ("ppo", 11): {"ppo": ("-min(rho A, clip(rho) A) a token, A by GAE on r - beta KL, and a value loss", "1707.06347")},
    ("direct_alignment", 12): {
        "dpo": ("-log sigmoid(beta h)", "2305.18290"),
        "rdpo": ("(-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)) / (1 - 2e), e the share of flips", "2403.00409"),
        "ipo": ("(h - 1 / (2 beta))^2, with h of means a token", "2310.12036"),
        "hinge": ("max(0, 1 - beta h)", "2309.06657"),
        "apo-zero": ("1 - sigmoid(beta log-ratio(chosen)) + sigmoid(beta log-ratio(rejected))", "2408.06266"),
        "apo-down": ("sigmoid(beta log-ratio(chosen)) + 1 - sigmoid(beta h)", "2408.06266"),
        "dpo-nll": ("-log sigmoid(beta h) - alpha log pi(chosen) a token", "2404.19733"),
        "simpo": ("-log sigmoid(beta (log pi(chosen) - log pi(rejected)) a token - gamma)", "2405.14734"),
        "orpo": ("-log pi(chosen) a token - beta log sigmoid(log odds(chosen) - log odds(rejected))", "2403.07691"),
        "cpo": ("-log sigmoid(beta (log pi(chosen) - log pi(rejected))) - alpha log pi(chosen)", "2401.08417"),
        "kto": ("w (1 - sigmoid(+-(beta log-ratio - z))), + for thumbs up, z the mean log-ratio of mismatched rows",
                "2402.01306")},
}
LESSONS = {name: (loss, file, chapter, paper) for (file, chapter), some in READING.items()
           for name, (loss, paper) in some.items()}


def lesson(name):
    """What `train NAME --help` teaches: the loss, where to read it, a call to start from."""
    loss, file, chapter, paper = LESSONS[name]
    where = "  " + H + "\n" if re.search(r"\bh\b", loss) else ""
    paper = f"https://arxiv.org/abs/{paper}" if paper[0].isdigit() else paper
    need = NEED[ALGORITHMS[name].data]
    return (f"{name}: {ALGORITHMS[name].sentence}.\n\nMinimises  {loss}\n{where}"
            f"Code: rlhf_minimal/{file}.py   Chapter: {chapter}   Paper: {paper}\n\n"
            f"Each row of --data holds {need}.\n"
            f"To begin with: python -m rlhf_minimal.train {name} --steps 20 --out runs/{name}")


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
        sub = commands.add_parser(name, help=a.sentence, description=lesson(name), formatter_class=raw)
        sub.add_argument("--model", default="village-3m" if name == "sft" else "village-3m-sft",
                         help="a name, folder or hub id to start from; without a chat template it reads 'User: ...' and "
                         "'Assistant: ...', without a padding token it pads with its end token (default: %(default)s)")
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
