"""The settings that a training run can have: their defaults, meanings and bounds, and the checks. No torch in here."""

import difflib
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

Value = int | float | str | bool | None


@dataclass(frozen=True)
class Setting:
    """A default, the kind of its value, what it means (shown by --help), and its bounds or choices."""

    default: Value
    kind: type
    meaning: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Value) -> Value:
        """The value, a whole number turned into a float where one is meant. ValueError if it is of another kind or outside."""
        if value is None and self.default is None:
            return value
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind is float and is_number:
            value = float(value)
        good = isinstance(value, self.kind) and (is_number or self.kind not in (int, float))
        if not good or self.kind is float and not math.isfinite(value):
            words = {int: "a whole number", float: "a finite number", str: "a text", bool: "True or False"}
            raise ValueError(f"{name} is {value!r}; give {words[self.kind]}")
        if self.choices and value not in self.choices:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(self.choices)}")
        if is_number and not self.low <= value <= self.high:
            bounds = f"from {self.low:g} on" if self.high == math.inf else f"from {self.low:g} to {self.high:g}"
            raise ValueError(f"{name} is {value}; give a number {bounds}")
        return value


TINY = 1e-6
MEMORY = "rows in memory"  # the name of data that came as rows
COMMON = {  # of every algorithm
    "batch_size": Setting(8, int, "rows (prompts, pairs, demonstrations) per optimizer step, all processes together", 1),
    "micro_batch": Setting(None, int, "rows per forward and backward pass; the gradient is that of the whole batch whatever it "
                           "is. Processes share whole micro-batches, so the same value gives the same weights on any number "
                           "of them (default: half a batch, or a process's share)", 1),
    "lr": Setting(1e-4, float, "learning rate of AdamW; fits the village's 3M model, take a tenth for 100M and more", 0.0),
    "warmup": Setting(0, int, "steps over which the learning rate rises from 0", 0),
    "schedule": Setting("constant", str, "the learning rate after the warm-up", choices=("constant", "linear", "cosine")),
    "weight_decay": Setting(0.0, float, "of matrices; biases and norms never decay", 0.0),
    "max_norm": Setting(1.0, float, "the gradient's norm is clipped to this, once per step", TINY),
    "max_len": Setting(None, int, "tokens per row; a longer prompt loses its left end but for BOS and the head of its last turn, "
                       "a pair keeps one prompt for both answers; how many are cut is said before step 1 (default: the model's "
                       "context)", 2),
    "columns": Setting(None, str, "names of your columns, ours=theirs: prompt=instruction,completion=output; or label=rating>=4"),
    "split": Setting("train", str, "of the village, of a hub dataset, or of a file with a column split"),
    "rows": Setting(None, int, "at most so many rows of the data (default: all; 1,000 of the village)", 1),
    "families": Setting(None, str, "of the village, with commas: story,fact (default: all)"),
    "dtype": Setting("float32", str, "of the arithmetic; trained weights and optimizer stay float32 (float64: for proofs)",
                     choices=("float32", "bfloat16", "float64")),
    "lora": Setting(0, int, "rank of LoRA adapters; 0 trains all weights. Saved merged", 0),
    "save_every": Setting(100, int, "steps between checkpoints", 1),
    "sample_every": Setting(25, int, "steps between tables in samples.jsonl; 0 for none", 0),
    "eval_data": Setting(None, str, "rows that it does not learn from, in the columns of --data (a file, a hub id): measured into "
                         "eval.jsonl, with 95 % intervals over rows"),
    "eval_every": Setting(50, int, "steps between two such measurements; the finished model is always measured", 1),
    "eval_rows": Setting(64, int, "at most so many of these rows", 2),
    "plan": Setting(False, bool, "print weights, memory by part and tokens per step, and train nothing (one forward pass)"),
    "resume": Setting(False, bool, "go on from the last whole checkpoint in --out"),
    "tensorboard": Setting(False, bool, "also write for TensorBoard, in --out (pip install tensorboard)"),
    "progress": Setting(True, bool, "show a bar with an estimate of the time left"),
    "cpu": Setting(False, bool, "run on the CPU even where there is a GPU"),
}
FREE = ("save_every", "sample_every", "eval_data", "eval_every", "eval_rows",  # may differ when a run goes on
        "plan", "resume", "tensorboard", "progress")

LONG = {"long": Setting("cut", str, "an answer beyond max_len: cut loses its right end, and neither that nor the end token is "
                        "learned; leave_out drops the row", choices=("cut", "leave_out"))}
TURNS = {"turns": Setting("all", str, "which answers of a conversation (messages) are learned: all but those of weight 0, or the "
                          "last one; in rows of prompt and completion, the completion", choices=("all", "last"))}
SAMPLED = {  # of every algorithm that samples its own completions
    "reward": Setting("gold", str, "what is to be maximised: gold (the village's true reward), a function of yours as "
                      "FILE.py:FUNCTION, or a folder or hub id of a reward model, such as --out of `train reward`; several with "
                      "commas, each with =WEIGHT if it is not 1"),
    "group_size": Setting(8, int, "samples per prompt", 2),
    "max_new_tokens": Setting(64, int, "the longest completion, in tokens", 1),
    "temperature": Setting(1.0, float, "of the samples and of every log-probability", 0.01),
    "beta": Setting(0.05, float, "weight of the KL to the starting model, in reward per nat", 0.0),
    "kl_target": Setting(None, float, "adapt beta so that a completion's KL reaches this many nats (default: beta stays)", TINY),
    "kl_horizon": Setting(10000, int, "completions over which beta adapts", 1),
    "missing_eos": Setting(None, float, "the score of a completion that did not end (default: as it was scored)"),
    "score_clip": Setting(None, float, "scores are clipped to plus and minus this", TINY),
}


def check_settings(algorithm: str, known: dict[str, Setting], given: dict[str, Value]) -> SimpleNamespace:
    """All settings of an algorithm, the given ones checked, the others at their defaults. ValueError names what is wrong."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ValueError(f"{algorithm} takes no setting {name!r}{f', did you mean {near[0]}?' if near else ';'} "
                             f"it takes {', '.join(known)}")
    s = SimpleNamespace(**{name: x.check(name, given.get(name, x.default)) for name, x in known.items()})
    if s.micro_batch and s.batch_size % s.micro_batch:
        raise ValueError(f"batch_size {s.batch_size} is not divisible by micro_batch {s.micro_batch}")
    if s.batch_size % getattr(s, "minibatches", 1):
        raise ValueError(f"batch_size {s.batch_size} is not divisible into {s.minibatches} minibatches")
    if getattr(s, "kl_target", None) and not s.beta:
        raise ValueError("kl_target is given with beta 0; steering multiplies beta, start above 0")
    return s


def check_places(model: str | Path, data: object, steps: int, out: str | Path, seed: int, families: str | None) -> None:
    """Check what every run names. ValueError before anything is loaded or written."""
    for name, x, low in (("steps", steps, 1), ("seed", seed, 0)):
        if isinstance(x, bool) or not isinstance(x, int) or x < low:
            raise ValueError(f"{name} is {x!r}; give a whole number from {low} on")
    for name, x in (("model", model), ("out", out)):
        if not isinstance(x, (str, Path)) or not str(x):
            raise ValueError(f"{name} is {x!r}; give a text")
    if Path(out).is_file():
        raise ValueError(f"out is the file {out}; give a folder, new or empty")
    if isinstance(data, (str, Path)) and not str(data) or data is None or isinstance(data, (bool, int, float)):
        raise ValueError(f"data is {data!r}; give a text, or rows")
    elsewhere = isinstance(data, (str, Path)) and data not in ("village", "pool", "templates")
    if families and elsewhere and "/" in str(data) and not Path(data).exists():
        raise ValueError(f"families belong to the village, the data is {data}; leave them out")
