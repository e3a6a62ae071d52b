"""Measured rates of the annotators against the exact ones."""

import math
import subprocess
import sys

import pytest

from rlhf_minimal import village
from rlhf_minimal.village.rates import check_rates


def test_check_rates_is_deterministic_and_within_three_sigma():
    rows = check_rates()
    assert len(rows) >= 30 and max(abs(r["z"]) for r in rows) < 3
    assert check_rates(n=50) == check_rates(n=50) != check_rates(seed=1, n=50)
    row = next(r for r in rows if r["knob"] == "position_bias 0.8")
    forgotten = village.Annotator().probability("", 0.0, 0.5)      # the formula without the bias
    assert abs(row["rate"] - forgotten) / math.sqrt(forgotten * (1 - forgotten) / 4000) > 10
    with pytest.raises(ValueError, match="n is 0"):
        check_rates(n=0)


def test_the_report_runs_without_a_warning():
    done = subprocess.run([sys.executable, "-W", "error", "-m", "rlhf_minimal.village.rates"], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr
    assert "position_bias 0.8" in done.stdout and "largest |z|" in done.stdout
