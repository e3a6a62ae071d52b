"""The training loop: every algorithm of the package, on Hugging Face Accelerate, from the command line or from Python.

    python -m rlhf_minimal.train sft --data demonstrations.jsonl --steps 200 --out runs/sft
    python -m rlhf_minimal.train reward --model runs/sft --data village --steps 200 --out runs/rm
    python -m rlhf_minimal.train rloo --model runs/sft --reward runs/rm --steps 100 --out runs/rloo
    python -m rlhf_minimal.train dpo --model runs/sft --data village --steps 100 --out runs/dpo
    accelerate launch -m rlhf_minimal.train ppo --steps 100 --out runs/ppo           # several accelerators
    ACCELERATE_USE_CPU=1 torchrun --nproc_per_node 2 -m rlhf_minimal.train grpo ...  # two processes on the CPU

`python -m rlhf_minimal.train ALGORITHM --help` lists what an algorithm takes, with defaults and meanings. --data is
village, a .jsonl file or a hub id; --model is village-3m, village-3m-sft, smollm2-135m, a folder or a hub id.
Into --out come the model and its tokenizer (for transformers' from_pretrained), run.json (command, seed, versions, curve),
metrics.jsonl (a line a step), samples.jsonl and checkpoints. A run that died goes on with --resume, to the same weights.
"""

import json
import logging
import math
import os
import shutil
import sys
import time
from pathlib import Path

from . import checkpoint
from .cli import command, parser
from .settings import FREE, check_places, check_settings


def run(algorithm, *, model, data, steps, out, seed=0, **settings):
    """Train, and return what run.json says: command, seed, settings, versions, hardware, date, curve, and `out`.

    settings: those of `train ALGORITHM --help`, with underscores. ValueError or OSError, before anything is written, on
    an unknown algorithm or setting, data or models that cannot be had, sizes that do not divide, or a folder `out` that
    holds something else. Step k of the metrics is measured just before the k-th update.
    """
    s = check_settings(algorithm, settings)
    check_places(model, data, steps, out, seed, s.families)
    asked = {"algorithm": algorithm, "model": str(model), "data": str(data), "steps": steps, "seed": seed,
             "settings": vars(s).copy()}
    before = _before(Path(out), asked)
    if before and before["finished"] and before["steps"] == steps:
        return before | {"out": str(out)}
    if before:
        s.micro_batch = before.get("micro_batch", s.micro_batch)  # also where other processes go on with it
    writer = _tensorboard(s, out)
    from .job import build
    job = build(algorithm, _accelerator(s), model=model, data=data, s=s, seed=seed)
    record = asked | {"command": command(asked, out, settings)} | checkpoint.about(job.accelerator)
    record |= {"micro_batch": s.micro_batch, "finished": False, "curve": {}}
    job.accelerator.wait_for_everyone()  # all have looked at `out` before the first one writes there
    if job.accelerator.is_main_process:
        Path(out).mkdir(parents=True, exist_ok=True)
        checkpoint.write_json(Path(out) / "run.json", record)
    _loop(job, Path(out), steps, writer)
    _export(job, Path(out))
    rows = checkpoint.read_log(Path(out) / "metrics.jsonl")
    record |= {"finished": True, "minutes": round(sum(r["seconds"] for r in rows) / 60, 2), "curve": checkpoint.curve(rows)}
    if job.accelerator.is_main_process:
        checkpoint.write_json(Path(out) / "run.json", record)
    job.accelerator.wait_for_everyone()
    job.accelerator.free_memory()
    return record | {"out": str(out)}


def _before(out, asked):
    """The run.json of the run to be resumed, None for a new run. ValueError where `out` is something else."""
    found = [p for p in out.iterdir() if not p.name.endswith(".tmp")] if out.exists() else []
    path = out / "run.json"
    if not found:
        return None
    if not path.exists():
        raise ValueError(f"out is {out}, which holds {found[0].name} and no run; give a folder that is new or empty")
    if not asked["settings"]["resume"]:
        raise ValueError(f"out is {out}, which holds another run; go on with it by --resume, or give another --out")
    old = json.loads(path.read_text(encoding="utf-8"))
    if lacks := {"algorithm", "model", "data", "seed", "settings", "steps", "finished"} - old.keys():
        raise ValueError(f"{path} lacks {', '.join(sorted(lacks))}, it was not written here; give another --out")
    then, now = ({k: v for k, v in (r["settings"] | {k: r[k] for k in ("algorithm", "model", "data", "seed")}).items()
                  if k not in FREE} for r in (old, asked))
    differ = [f"{k} {then.get(k)!r}, now {v!r}" for k, v in now.items() if then.get(k) != v]
    if old["steps"] != asked["steps"] and (now["schedule"] != "constant" or asked["steps"] < old["steps"]):
        differ.append(f"steps {old['steps']}, now {asked['steps']} (only more, and only at a constant learning rate)")
    if differ:
        raise ValueError(f"{out} holds a run with other settings: {'; '.join(differ)}. Resume with its own, or give another --out")
    return old


LAUNCHED = {"ACCELERATE_MIXED_PRECISION": ("no", "--dtype"), "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1", "--micro-batch")}


def _accelerator(s):
    from accelerate import Accelerator

    from ..commands.doctor import settle
    for name, (usual, flag) in LAUNCHED.items():  # `accelerate launch` says so, nobody would listen
        asked = os.environ.get(name, usual)
        if asked != usual and not (asked == "bf16" and s.dtype == "bfloat16"):
            raise ValueError(f"{name} is {asked}, which does nothing here; launch without it and give {flag}")
    settle(offline=False)
    logging.getLogger("accelerate").setLevel(logging.ERROR)  # it reports tied weights at every checkpoint
    return Accelerator(cpu=s.cpu, mixed_precision="no")  # bfloat16 is switched on around the forwards alone


def _tensorboard(s, out):
    """A function that makes a writer, or None; ValueError at once where it is asked for and not installed."""
    if not s.tensorboard:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("tensorboard is not installed; run `pip install tensorboard`, or leave --tensorboard out") from error
    return lambda start: SummaryWriter(str(Path(out) / "tensorboard"), purge_step=start)


def learning_rate(s, step, steps):
    """Of a step counted from 0: up to lr during the warm-up, then constant or down to 0 at the end."""
    if step < s.warmup:
        return s.lr * (step + 1) / s.warmup
    done = (step - s.warmup) / max(steps - s.warmup, 1)
    return s.lr * {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[s.schedule]


def _loop(job, out, steps, writer):
    """From the last whole checkpoint, or the beginning, to the end: a step, its lines, now and then a checkpoint."""
    from tqdm import tqdm

    from .tasks import advance
    main = job.accelerator.is_main_process
    start, state = checkpoint.restore(job.accelerator, out)
    if state:
        job.control.beta, job.baseline = state["beta"], state["baseline"]
    if main:
        checkpoint.trim_logs(out, start)
    writer = writer(start + 1) if writer and main else None
    bar = tqdm(range(start, steps), initial=start, total=steps, desc=job.algorithm, unit="step",
               disable=not (main and job.s.progress))
    for step in bar:
        began = time.perf_counter()
        for group in job.optimizer.param_groups:
            group["lr"] = learning_rate(job.s, step, steps)
        stats, samples = advance(job, step)
        stats |= {"lr": learning_rate(job.s, step, steps), "seconds": round(time.perf_counter() - began, 4)}
        if main:
            _report(job, out, step, {k: _plain(v) for k, v in stats.items()}, samples, bar, writer)
        if (step + 1) % job.s.save_every == 0 or step + 1 == steps:
            checkpoint.save(job.accelerator, out, step + 1, {"beta": job.control.beta, "baseline": job.baseline})
    if writer:
        writer.close()


def _plain(x):
    """A number for JSON: 6 digits, None for what is none."""
    x = float(x)
    return None if not math.isfinite(x) else int(x) if x == int(x) and abs(x) < 1e15 else float(f"{x:.6g}")


def _report(job, out, step, stats, samples, bar, writer):
    """A step's line in metrics.jsonl, now and then a table in samples.jsonl."""
    from .tasks import table
    checkpoint.append(out / "metrics.jsonl", {"step": step + 1} | stats)
    shown = {k: stats[k] for k in ("loss", "score", "gold", "kl", "accuracy") if stats.get(k) is not None}
    bar.set_postfix({k: f"{v:.3g}" for k, v in shown.items()})
    if job.s.sample_every and (step % job.s.sample_every == 0):
        for row in samples or table(job, step):
            checkpoint.append(out / "samples.jsonl", {"step": step + 1} | row)
    for name, x in stats.items() if writer else ():
        if x is not None:
            writer.add_scalar(name, x, step + 1)


def _export(job, out):
    """The trained model in transformers' own layout, adapters merged, and its tokenizer: all of it, config.json last."""
    from .job import plain
    state = job.accelerator.get_state_dict(job.model) if not job.s.lora else None  # with FSDP all processes take part
    if job.accelerator.is_main_process:
        new = out / "checkpoints" / "model"
        shutil.rmtree(new, ignore_errors=True)
        model = plain(job.model)
        if job.algorithm == "reward":
            model, state = model.model, state and {k.removeprefix("model."): v for k, v in state.items()}
            _mark_padding(model, job.tokenizer)
        model.save_pretrained(new, state_dict=state)
        job.tokenizer.save_pretrained(new)
        checkpoint.put_in_place(new, out)
    job.accelerator.wait_for_everyone()


def _mark_padding(model, tokenizer):
    """Transformers' own class scores the last id that is no pad: with pad = EOS, the token before the end (F1).

    So a judge leaves with another special token to pad with; without one (GPT-2) that class takes single rows only.
    """
    end = tokenizer.eos_token_id
    others = [t.content for i, t in sorted(tokenizer.added_tokens_decoder.items()) if t.special and i != end]
    if others:
        tokenizer.pad_token = others[0]
    model.config.pad_token_id = tokenizer.pad_token_id if others else None


def main(args=None):
    """The command line; a wrong call ends with status 2 and one message."""
    top = parser(__doc__)
    given = vars(top.parse_args(args))
    try:
        record = run(**given)
    except (ValueError, OSError) as error:
        top.exit(2, f"{top.prog} {given['algorithm']}: error: {error}\n")
    last = {k: v[-1] for k, v in record["curve"].items() if k in ("step", "loss", "score", "gold", "kl", "accuracy")}
    if os.environ.get("RANK", "0") == "0":  # torchrun's processes all come here
        print(f"{record['out']}: " + ", ".join(f"{k} {v}" for k, v in last.items()), file=sys.stderr)

