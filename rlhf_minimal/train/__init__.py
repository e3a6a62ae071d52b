"""`python -m rlhf_minimal.train ALGORITHM`: every algorithm of the package, on Hugging Face Accelerate."""

from .loop import main, run

__all__ = ["main", "run"]
