"""The training loop: one for every algorithm.

`run` checks what is asked for, loads it, goes through the steps and saves the result. What a step is stands in `steps.py`,
how algorithms differ in `algorithms.py`.
"""

import json
import logging
import math
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .. import files, quiet
from . import checkpoint
from .algorithms import settings_of
from .settings import FREE, MEMORY, Value, check_places, check_settings

if TYPE_CHECKING:  # they import torch, which --help and a wrong call do without
    from accelerate import Accelerator

    from .job import Job


def run(algorithm: str, *, model: str, data: Any, steps: int, out: str, seed: int = 0, **settings: Any) -> dict[str, Any]:
    """Train, and return what run.json says: command, seed, settings, versions, hardware, date, curve, and `out`.

    settings: those of `train ALGORITHM --help`, with underscores. data: what --data takes, or rows (a list of dicts, a
    datasets.Dataset). reward: what --reward takes, or a function, a list of functions, {function: weight}; see
    `train/rewards.py`. ValueError or OSError, before anything is written, on
    an unknown algorithm or setting, data or models that cannot be had, sizes that do not divide, or a folder `out` that
    holds something else. Step k of the metrics is measured just before the k-th update.
    """
    known, own = settings_of(algorithm), {}
    if "reward" in known and not isinstance(settings.get("reward", ""), str):
        from .rewards import named
        settings["reward"], own = named(settings["reward"])
    s, folder = check_settings(algorithm, known, settings), Path(out)
    check_places(model, data, steps, out, seed, s.families)
    shown = str(data) if isinstance(data, (str, Path)) else MEMORY
    asked = {"algorithm": algorithm, "model": str(model), "data": shown, "steps": steps, "seed": seed,
             "settings": vars(s).copy()}
    before = None if s.plan else earlier_run(folder, asked)  # a plan writes nothing, whatever is there
    if before and before["finished"] and before["steps"] == steps:
        return before | {"out": str(out)}
    if before:
        s.micro_batch = before.get("micro_batch", s.micro_batch)  # also where other processes go on with it
    open_writer = tensorboard(folder) if s.tensorboard else None

    from ..data import fingerprint
    from .job import build
    accelerator = start_accelerator(s)
    count = accelerator.num_processes
    accelerator.print(f"{count} process{'es' * (count > 1)} on {accelerator.device.type}", file=sys.stderr)
    job = build(algorithm, accelerator, model=model, data=data, settings=s, seed=seed, own=own)
    accelerator.print(f"{len(job.rows)} rows of {shown}; {job.lengths}", file=sys.stderr)
    if s.plan:
        from .plan import lines
        accelerator.print("\n".join(lines(job, steps)))
        return asked | {"out": str(out), "finished": False, "curve": {}}
    fingerprint.compare(folder, before, job.fingerprints)
    record = asked | {"command": command(asked, out, settings)} | checkpoint.about(job.accelerator)
    record |= {"micro_batch": s.micro_batch, "fingerprints": job.fingerprints, "lengths": str(job.lengths), "finished": False}
    record["curve"] = {}
    job.accelerator.wait_for_everyone()  # all have looked at `out` before the first one writes there
    if job.accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write_json(folder / "run.json", record)
    loop(job, folder, steps, open_writer)
    export(job, folder)
    rows = checkpoint.read_log(folder / "metrics.jsonl")
    record |= {"finished": True, "minutes": round(sum(r["seconds"] for r in rows) / 60, 2), "curve": checkpoint.curve(rows)}
    if job.accelerator.is_main_process:
        checkpoint.write_json(folder / "run.json", record)
    job.accelerator.wait_for_everyone()
    job.accelerator.free_memory()
    return record | {"out": str(out)}


def loop(job: "Job", out: Path, steps: int, open_writer: Callable | None) -> None:
    """From the last whole checkpoint, or the beginning, to the end: a step, its lines, now and then a checkpoint."""
    from tqdm import tqdm

    from .steps import table, train_step
    main = job.accelerator.is_main_process
    start, state = checkpoint.restore(job.accelerator, out)
    if state:
        job.control.beta, job.baseline = state["beta"], state["baseline"]
    if main:
        for log in checkpoint.LOGS:
            files.trim_log(out / log, start)
    writer = open_writer(start + 1) if open_writer and main else None
    bar = tqdm(range(start, steps), initial=start, total=steps, desc=job.algorithm.name, unit="step",
               disable=not (main and job.settings.progress))
    for step in bar:
        began = time.perf_counter()
        lr = learning_rate(job.settings, step, steps)
        for group in job.optimizer.param_groups:
            group["lr"] = lr
        if main and job.held and step % job.settings.eval_every == 0:
            measure(job, out, step)
        stats, samples = train_step(job, step)
        stats |= {"lr": lr, "seconds": round(time.perf_counter() - began, 4)}
        if main:
            report(job, out, step, {name: files.json_number(x) for name, x in stats.items()}, samples, bar, writer)
        if (step + 1) % job.settings.save_every == 0 or step + 1 == steps:
            checkpoint.save(job.accelerator, out, step + 1, {"beta": job.control.beta, "baseline": job.baseline})
    if writer:
        writer.close()
    if main and job.held:
        measure(job, out, steps)
    if main and job.settings.sample_every:  # step k's table is older than update k: this one shows the finished model
        for row in table(job, steps):
            checkpoint.append(out / "samples.jsonl", {"step": steps + 1} | row)


def learning_rate(s: SimpleNamespace, step: int, steps: int) -> float:
    """Of a step counted from 0: up to lr during the warm-up, then constant or down to 0 at the end."""
    if step < s.warmup:
        return s.lr * (step + 1) / s.warmup
    done = (step - s.warmup) / max(steps - s.warmup, 1)
    return s.lr * {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[s.schedule]


def report(job: "Job", out: Path, step: int, stats: dict, samples: list[dict] | None, bar: Any, writer: Any) -> None:
    """A step's line in metrics.jsonl, now and then a table in samples.jsonl."""
    from .steps import table
    checkpoint.append(out / "metrics.jsonl", {"step": step + 1} | stats)
    shown = {k: stats[k] for k in ("loss", "score", "gold", "kl", "accuracy") if stats.get(k) is not None}
    bar.set_postfix({k: f"{x:.3g}" for k, x in shown.items()})
    if job.settings.sample_every and step % job.settings.sample_every == 0:
        for row in samples or table(job, step):
            checkpoint.append(out / "samples.jsonl", {"step": step + 1} | row)
    for name, x in stats.items() if writer else ():
        if x is not None:
            writer.add_scalar(name, x, step + 1)


def measure(job: "Job", out: Path, step: int) -> None:
    """A line in eval.jsonl: the model before update `step` + 1 on the rows that it does not learn from."""
    from ..models import eval_mode, unwrap
    from .evaluation import during
    model, reference = unwrap(job.model), job.frozen_reference if job.algorithm.reference else None
    with eval_mode(model), job.precision():
        found = during(model, reference, job.tokenizer, job.held, job.algorithm.rows, job.settings, job.reward)
    checkpoint.append(out / "eval.jsonl", {"step": step + 1} | {name: files.json_number(x) for name, x in found.items()})


# ---- the end: the trained model in transformers' own layout ----

def export(job: "Job", out: Path) -> None:
    """The trained model, adapters merged, and its tokenizer: all of it or nothing, config.json last."""
    from .. import families, models
    state = job.accelerator.get_state_dict(job.model) if not job.settings.lora else None  # with FSDP all processes take part
    if job.accelerator.is_main_process:
        new = out / "checkpoints" / "model"
        shutil.rmtree(new, ignore_errors=True)
        model = models.merge_adapters(job.model)
        if job.algorithm.head == "score":
            model, state = model.model, state and {name.removeprefix("model."): x for name, x in state.items()}
            families.mark_padding(model, job.tokenizer)
        model.save_pretrained(new, state_dict=state)
        job.tokenizer.save_pretrained(new)
        files.put_in_place(new, out)
    job.accelerator.wait_for_everyone()


# ---- the beginning: what is there already, how it was asked for, where it runs ----

RECORD = {"algorithm", "model", "data", "seed", "settings", "steps", "finished"}


def earlier_run(out: Path, asked: dict) -> dict | None:
    """The run.json of the run to be resumed, None for a new run. ValueError where `out` is something else.

    A folder of a run that died before its first step counts as free.
    """
    found = [p for p in out.iterdir() if not p.name.endswith(".tmp")] if out.exists() else []
    path = out / "run.json"
    if not found:
        return None
    if not path.exists():
        raise ValueError(f"out is {out}, which holds {found[0].name} and no run; give a folder that is new or empty")
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); give another --out") from error
    ours = isinstance(old, dict) and RECORD <= old.keys()
    no_step = {p.name for p in found} <= {"run.json", "checkpoints", *checkpoint.LOGS} and not checkpoint.latest(out)
    if ours and no_step and not files.read_log(out / "metrics.jsonl") and not old["finished"]:
        return None
    if not asked["settings"]["resume"]:
        raise ValueError(f"out is {out}, which holds another run; go on with it by --resume, or give another --out")
    if not ours:
        raise ValueError(f"{path} lacks {', '.join(sorted(RECORD - set(old)))}, it was not written here; give another --out")
    then, now = ({k: v for k, v in (r["settings"] | {k: r[k] for k in ("algorithm", "model", "data", "seed")}).items()
                  if k not in FREE} for r in (old, asked))
    differ = [f"{k} {then.get(k)!r}, now {v!r}" for k, v in now.items() if then.get(k) != v]
    if old["steps"] != asked["steps"] and (now["schedule"] != "constant" or asked["steps"] < old["steps"]):
        differ.append(f"steps {old['steps']}, now {asked['steps']} (only more, and only at a constant learning rate)")
    if differ:
        raise ValueError(f"{out} holds a run with other settings: {'; '.join(differ)}. Resume with its own, or give another --out")
    return old


def command(asked: dict, out: str, given: dict[str, Value]) -> str:
    """The command line of a call, as it can be given again; of a folder outside, its last part alone."""
    words = ["python", "-m", "rlhf_minimal.train", asked["algorithm"], "--model", asked["model"], "--data", asked["data"],
             "--steps", asked["steps"], "--seed", asked["seed"], "--out", Path(out).name if Path(out).is_absolute() else out]
    for name, x in given.items():
        if name not in ("resume", "progress") and x is not None:
            flag = "--" + name.replace("_", "-")
            words += [flag if x else flag.replace("--", "--no-", 1)] if isinstance(x, bool) else [flag, x]
    return shlex.join(str(word) for word in words)


def tensorboard(out: Path) -> Callable:
    """A function that opens a writer from a step on; ValueError at once where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("tensorboard is not installed; run `pip install tensorboard`, or leave --tensorboard out") from error
    return lambda start: SummaryWriter(str(out / "tensorboard"), purge_step=start)


LAUNCHED = {"ACCELERATE_MIXED_PRECISION": ("no", "--dtype"), "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1", "--micro-batch")}
WORLDS = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")  # of launchers


def start_accelerator(s: SimpleNamespace) -> "Accelerator":
    """Accelerate, quiet. ValueError for what a launcher was told in vain: settings of ours decide it, or processes are missing."""
    from accelerate import Accelerator
    for name, (usual, flag) in LAUNCHED.items():
        asked = os.environ.get(name, usual)
        if asked != usual and not (asked == "bf16" and s.dtype == "bfloat16"):
            raise ValueError(f"{name} is {asked}, which does nothing here; launch without it and give {flag}")
    quiet.settle(offline=False)
    logging.getLogger("accelerate").setLevel(logging.ERROR)  # it reports tied weights at every checkpoint
    accelerator = Accelerator(cpu=s.cpu, mixed_precision="no")  # bfloat16 is switched on around the forwards alone
    check_processes(accelerator.num_processes)
    return accelerator


def check_processes(count: int) -> None:
    """ValueError where a launcher was asked for more processes than those that work together."""
    asked = {name: os.environ[name] for name in WORLDS if os.environ.get(name, "1") not in ("1", "")}
    if "WORLD_SIZE" not in os.environ and "MASTER_ADDR" in os.environ and "ACCELERATE_MIXED_PRECISION" in os.environ:
        asked["accelerate launch --num_processes"] = "more than 1"  # with --cpu it sets an address and starts one process
    if wrong := [f"{name} is {x}" for name, x in asked.items() if x != str(count)]:
        raise ValueError(f"{wrong[0]}, but this run has {count} process{'es' * (count > 1)}; ask for as many, or launch on the CPU "
                         "with ACCELERATE_USE_CPU=1 torchrun --nproc_per_node 2 -m rlhf_minimal.train ...")
