"""Judging what came out: metrics with intervals, ratings, contamination, exact enumeration and the table of proofs.

The metrics are here at once; `evaluate.exams`, `.ratings`, `.contamination`, `.exact`, `.bench`, `.judges`, `.pairs`, `.passes`,
`.proofs` and `.proxies` are loaded when they are named.
"""

import importlib

from .metrics import (
    cohen_kappa,
    distinct_n,
    expected_calibration_error,
    gold_table,
    paired_bootstrap,
    pass_at_k,
    pass_hat_k,
    perplexity,
    rouge_l,
    rouge_n,
    spearman,
    wilson,
    win_rate,
)

__all__ = ["cohen_kappa", "distinct_n", "expected_calibration_error", "gold_table", "paired_bootstrap", "pass_at_k", "pass_hat_k",
           "perplexity", "rouge_l", "rouge_n", "spearman", "wilson", "win_rate"]


def __getattr__(name: str):
    if name in ("bench", "contamination", "exact", "exams", "judges", "metrics", "pairs", "passes", "proofs", "proxies", "ratings"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
