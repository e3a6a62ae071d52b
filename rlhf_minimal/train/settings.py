"""What the training command can be told: the algorithms, their settings with defaults and meanings, the checks.

No torch in here, so that `--help` and a wrong call answer at once.
"""

import difflib
import math
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple


class Setting(NamedTuple):
    """A default, the kind of its value, what it means, and the bounds or choices within which it must lie."""

    default: object
    kind: type
    meaning: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple = ()


class Algorithm(NamedTuple):
    """The rows it learns from, one sentence, its own settings (handed to its loss), and other defaults than usual."""

    data: str
    sentence: str
    own: dict
    defaults: dict = {}


TINY = 1e-6
COMMON = {
    "batch_size": Setting(8, int, "rows (prompts, pairs, demonstrations) of one optimizer step, all processes together", 1),
    "micro_batch": Setting(None, int, "rows of one forward and backward; the gradient is that of the whole batch whatever it is. "
                           "Processes share whole micro-batches, so the same value gives the same weights on any number "
                           "of them (default: half a batch, or a process's share)", 1),
    "lr": Setting(1e-4, float, "learning rate of AdamW; fits the village's 3M model, take a tenth for 100M and more", 0.0),
    "warmup": Setting(0, int, "steps over which the learning rate rises from 0", 0),
    "schedule": Setting("constant", str, "the learning rate after the warm-up", choices=("constant", "linear", "cosine")),
    "weight_decay": Setting(0.0, float, "of matrices; biases and norms never decay", 0.0),
    "max_norm": Setting(1.0, float, "the gradient's norm is clipped to this, once a step", TINY),
    "max_len": Setting(None, int, "tokens of a row; prompts lose their left end (default: the model's context)", 2),
    "rows": Setting(None, int, "at most so many rows of the data (default: all; 1,000 of the village)", 1),
    "families": Setting(None, str, "of the village, with commas: story,fact (default: all)"),
    "dtype": Setting("float32", str, "of the arithmetic; trained weights and optimizer stay float32 (float64: for proofs)",
                     choices=("float32", "bfloat16", "float64")),
    "lora": Setting(0, int, "rank of LoRA adapters; 0 trains all weights. Saved merged", 0),
    "save_every": Setting(100, int, "steps between checkpoints", 1),
    "sample_every": Setting(25, int, "steps between tables in samples.jsonl; 0 for none", 0),
    "resume": Setting(False, bool, "go on from the last whole checkpoint in --out"),
    "tensorboard": Setting(False, bool, "also write for TensorBoard, in --out (pip install tensorboard)"),
    "progress": Setting(True, bool, "show a bar with an estimate of the time left"),
    "cpu": Setting(False, bool, "leave the accelerator alone"),
}
FREE = ("save_every", "sample_every", "resume", "tensorboard", "progress")  # may differ when a run goes on

SAMPLED = {
    "reward": Setting("gold", str, "what is to be maximised: gold (the village's true reward), or a folder or hub id of a "
                      "reward model, such as --out of `train reward`"),
    "group_size": Setting(8, int, "samples a prompt", 2),
    "max_new_tokens": Setting(64, int, "a completion is cut there", 1),
    "temperature": Setting(1.0, float, "of the samples and of every log-probability", 0.01),
    "beta": Setting(0.05, float, "weight of the KL to the starting model, in reward a nat", 0.0),
    "kl_target": Setting(None, float, "steer beta so that a completion's KL comes to this many nats (default: beta stays)", TINY),
    "kl_horizon": Setting(10000, int, "completions over which the steering works", 1),
    "missing_eos": Setting(None, float, "the score of a completion that did not end (default: as it was scored)"),
    "score_clip": Setting(None, float, "scores are clipped to plus and minus this", TINY),
}
CLIPPED = {
    "clip": Setting(0.2, float, "the ratio to the sampling policy counts from 1 - clip to 1 + clip", 0.0, 1.0),
    "epochs": Setting(1, int, "passes over a batch of samples", 1),
    "minibatches": Setting(1, int, "optimizer steps a pass", 1),
}
HIGH = {"clip_high": Setting(None, float, "upper clip, where it is another one (DAPO)", 0.0)}
SCALE = {"scale": Setting(True, bool, "divide by the group's standard deviation; Dr. GRPO does not")}
SMOOTH = {"label_smoothing": Setting(0.0, float, "share of labels taken to be flipped", 0.0, 0.5)}
DPO = {"beta": Setting(0.1, float, "how much a log-ratio to the reference is worth", TINY)}
PAIR = {"lr": 3e-5}
ALPHA = {"alpha": Setting(1.0, float, "weight of the chosen answer's own log-likelihood", 0.0)}

ALGORITHMS = {
    "sft": Algorithm("demonstrations", "supervised fine-tuning: learn the completion of each demonstration", {}),
    "reward": Algorithm("pairs", "a reward model: the chosen answer is to score higher", SMOOTH | {
        "center": Setting(0.0, float, "weight of the squared sum of both scores, which holds their zero", 0.0)}),
    "reinforce": Algorithm("prompts", "policy gradient with a running mean of earlier rewards as baseline", {
        "baseline_decay": Setting(0.9, float, "memory of that mean", 0.0, 1.0)}, {"group_size": 1, "batch_size": 32}),
    "rloo": Algorithm("prompts", "REINFORCE whose baseline is the mean of a prompt's other samples", {}),
    "grpo": Algorithm("prompts", "clipped ratio, scores normalised within a prompt's samples, KL in the loss", CLIPPED | HIGH
                      | SCALE | {"mode": Setting("sequence_mean", str, "from tokens to the loss; Dr. GRPO: fixed, DAPO: "
                                                 "token_mean", choices=("sequence_mean", "token_mean", "sequence_sum", "fixed"))}),
    "gspo": Algorithm("prompts", "GRPO with one ratio a sequence", CLIPPED | HIGH | SCALE
                      | {"clip": CLIPPED["clip"]._replace(default=3e-4)}),
    "cispo": Algorithm("prompts", "clipped importance weights; no token loses its gradient", {
        "clip_high": HIGH["clip_high"]._replace(default=0.2)} | SCALE | {k: CLIPPED[k] for k in ("epochs", "minibatches")}),
    "ppo": Algorithm("prompts", "clipped ratio, a value model judges each token, KL on every token's reward", CLIPPED | {
        "value_clip": Setting(0.2, float, "a value may move so far from its old self", 0.0),
        "value_coef": Setting(0.5, float, "weight of the value's loss", 0.0),
        "gamma": Setting(1.0, float, "discount a token", 0.0, 1.0),
        "lam": Setting(0.95, float, "GAE's lambda", 0.0, 1.0)}, {"group_size": 1, "batch_size": 32, "epochs": 2}),
    "dpo": Algorithm("pairs", "preferences without a reward model, against the starting model", DPO | SMOOTH, PAIR),
    "rdpo": Algorithm("pairs", "DPO, unbiased where a known share of labels is flipped", DPO | {
        "label_smoothing": SMOOTH["label_smoothing"]._replace(high=0.499)}, PAIR),
    "ipo": Algorithm("pairs", "a squared loss towards a fixed margin, on means a token", DPO | SMOOTH, PAIR),
    "hinge": Algorithm("pairs", "a hinge in place of DPO's logistic", DPO | SMOOTH, PAIR),
    "apo-zero": Algorithm("pairs", "chosen up, rejected down, each by itself", DPO, PAIR),
    "apo-down": Algorithm("pairs", "both down, the rejected one more", DPO, PAIR),
    "dpo-nll": Algorithm("pairs", "DPO, and the chosen answer's likelihood", DPO | SMOOTH | ALPHA, PAIR),
    "simpo": Algorithm("pairs", "mean log-probabilities with a margin, no reference", {
        "beta": Setting(2.0, float, "how much a nat a token is worth", TINY),
        "gamma": Setting(1.0, float, "the margin, inside the sigmoid")}, PAIR),
    "orpo": Algorithm("pairs", "fine-tuning on the chosen answer and an odds ratio, no reference", {
        "beta": Setting(0.1, float, "weight of the odds ratio", 0.0)}, PAIR),
    "cpo": Algorithm("pairs", "DPO without a reference, and the chosen answer's likelihood", DPO | SMOOTH | ALPHA, PAIR),
    "kto": Algorithm("unpaired", "single answers, each with thumbs up or down", DPO | {
        "w_desirable": Setting(1.0, float, "weight of thumbs up", 0.0),
        "w_undesirable": Setting(1.0, float, "weight of thumbs down", 0.0)}, PAIR),
}


def settings_of(algorithm):
    """{name: Setting} of all that an algorithm takes, with its own defaults."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm is {algorithm!r}; choose one of {', '.join(ALGORITHMS)}")
    a = ALGORITHMS[algorithm]
    known = COMMON | (SAMPLED if a.data == "prompts" else {}) | a.own
    if a.defaults.get("group_size") == 1:  # a baseline that needs no second sample
        known["group_size"] = known["group_size"]._replace(low=1)
    if algorithm == "kto":
        known["batch_size"] = known["batch_size"]._replace(low=2)
    return {name: s._replace(default=a.defaults.get(name, s.default)) for name, s in known.items()}


def _value(name, x, s):
    """One given value, checked."""
    if x is None and s.default is None:
        return x
    good = isinstance(x, s.kind) and not (s.kind is int and isinstance(x, bool))
    if s.kind is float and isinstance(x, int) and not isinstance(x, bool):
        x, good = float(x), True
    if not good or s.kind is float and not math.isfinite(x):
        words = {int: "a whole number", float: "a finite number", str: "a text", bool: "True or False"}
        raise ValueError(f"{name} is {x!r}; give {words[s.kind]}")
    if s.choices and x not in s.choices:
        raise ValueError(f"{name} is {x!r}; choose one of {', '.join(s.choices)}")
    if s.kind in (int, float) and not s.low <= x <= s.high:
        raise ValueError(f"{name} is {x}; give a number from {s.low:g}{'' if s.high == math.inf else f' to {s.high:g}'}"
                         f"{' on' if s.high == math.inf else ''}")
    return x


def check_settings(algorithm, given):
    """All settings of an algorithm, the given ones checked -> SimpleNamespace. ValueError names what is wrong."""
    known = settings_of(algorithm)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ValueError(f"{algorithm} takes no setting {name!r}{f', did you mean {near[0]}?' if near else ';'} "
                             f"it takes {', '.join(known)}")
    s = SimpleNamespace(**{name: _value(name, given.get(name, x.default), x) for name, x in known.items()})
    if s.micro_batch and s.batch_size % s.micro_batch:
        raise ValueError(f"batch_size {s.batch_size} is not divisible by micro_batch {s.micro_batch}")
    if s.batch_size % getattr(s, "minibatches", 1):
        raise ValueError(f"batch_size {s.batch_size} is not divisible into {s.minibatches} minibatches")
    if getattr(s, "kl_target", None) and not s.beta:
        raise ValueError("kl_target is given with beta 0; steering multiplies beta, start above 0")
    return s


def check_places(model, data, steps, out, seed, families):
    """What every run names: ValueError or OSError before anything is loaded or written."""
    for name, x, low in (("steps", steps, 1), ("seed", seed, 0)):
        if isinstance(x, bool) or not isinstance(x, int) or x < low:
            raise ValueError(f"{name} is {x!r}; give a whole number from {low} on")
    for name, x in (("model", model), ("data", data), ("out", out)):
        if not isinstance(x, (str, Path)) or not str(x):
            raise ValueError(f"{name} is {x!r}; give a text")
    if Path(out).is_file():
        raise ValueError(f"out is the file {out}; give a folder, new or empty")
    if families and data not in ("village", "pool", "templates") and not str(data).endswith(".jsonl"):
        raise ValueError(f"families belong to the village, the data is {data}; leave them out")
