"""`python -m rlhf_minimal.train ALGORITHM`: every algorithm of the package, on Hugging Face Accelerate."""

from .cli import main
from .loop import run

__all__ = ["main", "run"]
