"""Runs on disk: checkpoints that are whole or not there, logs that end where a checkpoint does, run.json, the result.

A checkpoint is written into a folder with another name, brought to the disk, given a list of its files and sizes as the
last of them, and renamed. Whatever moment the process dies at, the last whole one stays.
"""

import json
import os
import platform
import shutil
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import files
from ..files import append, curve, read_log

__all__ = ["about", "append", "curve", "is_whole", "latest", "read_log", "restore", "save", "write_json"]

MARK = "whole.json"
LOGS = ("metrics.jsonl", "samples.jsonl", "eval.jsonl")


def write_json(path: Path, content: dict) -> None:
    """The new file or the old one, never half of it."""
    files.write_atomically(path, json.dumps(content, indent=1) + "\n")


def is_whole(folder: Path) -> bool:
    """Does it hold every file of its list, at the size written there?"""
    try:
        sizes = json.loads((folder / MARK).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def latest(out: str | Path) -> Path | None:
    """The folder of the last whole checkpoint, or None."""
    found = [p for p in sorted((Path(out) / "checkpoints").glob("step-*"), reverse=True) if is_whole(p)]
    return found[0] if found else None


def save(accelerator: Any, out: Path, step: int, state: dict) -> None:
    """Model, optimizer, random numbers (Accelerate) and `state` (a dict for JSON) after `step` steps; older ones go."""
    home = Path(out) / "checkpoints"
    new, done = home / "tmp", home / f"step-{step:08d}"
    if accelerator.is_main_process:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(new))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        sizes = {str(p.relative_to(new)): p.stat().st_size for p in sorted(new.rglob("*")) if p.is_file()}
        for name in sizes:
            files.to_disk(new / name)
        for log in LOGS:
            if (Path(out) / log).exists():
                files.to_disk(Path(out) / log)
        write_json(new / MARK, {"step": step, "state": state, "processes": accelerator.num_processes, "files": sizes})
        shutil.rmtree(done, ignore_errors=True)
        os.replace(new, done)
        files.to_disk(home)
        for old in set(home.glob("step-*")) - {done}:
            (old / MARK).unlink(missing_ok=True)  # first of all: half a folder is none
            shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def restore(accelerator: Any, out: Path) -> tuple[int, dict | None]:
    """(step, state) of the last whole checkpoint, loaded into what the accelerator holds; (0, None) if there is none."""
    folder = latest(out)
    if folder is None:
        return 0, None
    accelerator.load_state(str(folder))
    kept = json.loads((folder / MARK).read_text(encoding="utf-8"))
    return kept["step"], kept["state"]


def about(accelerator: Any) -> dict:
    """versions, hardware and date, for run.json."""
    import torch
    device = accelerator.device
    where = torch.cuda.get_device_name(device) + ", " if device.type == "cuda" else ""
    return {
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "transformers", "accelerate", "datasets")},
        "hardware": f"{accelerator.num_processes} process{'es' * (accelerator.num_processes > 1)}, {where}"
                    f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads",
        "date": date.today().isoformat(),
    }
