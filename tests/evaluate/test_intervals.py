import math
import random

import pytest
import torch

from rlhf_minimal.evaluate import intervals
from rlhf_minimal.evaluate.metrics import wilson


@pytest.mark.parametrize(("n", "p"), [(1, 0.3), (7, 0.5), (30, 0.95), (300, 0.02)])
def test_binomial_by_hand(n, p):
    naive = [math.comb(n, k) * p ** k * (1 - p) ** (n - k) for k in range(n + 1)]
    assert torch.allclose(intervals.binomial(n, p), torch.tensor(naive, dtype=torch.float64), atol=1e-12)
    assert abs(intervals.binomial(n, p).sum().item() - 1) < 1e-12


def test_binomial_at_its_ends():
    assert intervals.binomial(3, 0.0).tolist() == [1, 0, 0, 0] and intervals.binomial(3, 1.0).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("name", list(intervals.METHODS))
def test_every_method_is_ordered_and_mirrors(name):
    low, high = intervals.METHODS[name](20)
    assert low.shape == high.shape == (21,) and (low <= high).all() and (low.diff() >= -0.07).all()
    step = 1 / 20 + 1e-9 if name == "bootstrap" else 1e-3  # a quantile of a discrete distribution is not symmetric
    assert ((1 - high.flip(0)) - low).abs().max() < step


def test_wilson_is_that_of_the_metrics():
    low, high = intervals.wilson_all(12)
    assert [(a.item(), b.item()) for a, b in zip(low, high, strict=True)] == [wilson(k / 12, 12) for k in range(13)]


def test_beta_against_integration_and_a_table():
    low, high = intervals.beta(10)
    assert abs(high[0].item() - 0.2172) < 2e-4 and abs(low[10].item() - 0.7828) < 2e-4  # Beta(0.5, 10.5)
    grid = torch.linspace(0, 1, 400_001, dtype=torch.float64)[1:-1]
    for k in (2, 5, 9):
        density = grid ** (k - 0.5) * (1 - grid) ** (10 - k - 0.5)
        below = density.cumsum(0) / density.sum()
        assert abs(grid[(below < 0.025).sum()] - low[k]) < 3e-4 and abs(grid[(below < 0.975).sum()] - high[k]) < 3e-4


def test_bootstrap_against_drawn_resamples():
    low, high = intervals.bootstrap(30)
    answers = torch.tensor([1.0] * 24 + [0.0] * 6)
    drawn = answers[torch.randint(30, (40_000, 30), generator=torch.Generator().manual_seed(0))].mean(1)
    ends = torch.quantile(drawn, torch.tensor([0.025, 0.975]))
    assert abs(ends[0] - low[24]) < 0.035 and abs(ends[1] - high[24]) < 0.035
    assert low[30] == high[30] == 1


@pytest.mark.parametrize("name", list(intervals.METHODS))
def test_coverage_against_simulation(name):
    low, high = intervals.METHODS[name](30)
    rng, p = random.Random(0), 0.9
    held = 0
    for _ in range(8000):
        k = sum(rng.random() < p for _ in range(30))
        held += low[k].item() <= p <= high[k].item()
    assert abs(held / 8000 - intervals.coverage(low, high, p)) < 0.015


def test_expected_counts_add_up():
    counts = intervals.expected_counts(30, 0.95)
    assert len(counts) == 100 and counts == sorted(counts, reverse=True) and counts.count(30) in (21, 22)


def test_clusters_of_identical_answers_count_as_one():
    passes = torch.cat([torch.ones(60, 8), torch.zeros(40, 8)])  # every question is always right or always wrong
    held = intervals.of_questions(passes, 30, 8, torch.Generator().manual_seed(0), times=400)
    assert held["answers"] < 0.6 and held["questions"] > 0.9


def test_independent_answers_need_no_clusters():
    passes = (torch.rand(400, 16, generator=torch.Generator().manual_seed(0)) < 0.6).double()
    held = intervals.of_questions(passes, 30, 4, torch.Generator().manual_seed(1), times=400)
    assert held["answers"] > 0.9 and held["questions"] > 0.88


def test_stored_passes():
    passes = intervals.stored_passes(16)
    assert passes.shape == (144, 16) and set(passes.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("call", [
    lambda: intervals.normal(0), lambda: intervals.wilson_all(2.5), lambda: intervals.binomial(3, 1.2),
    lambda: intervals.coverage(torch.zeros(3), torch.zeros(4), 0.5), lambda: intervals.stored_passes(65),
    lambda: intervals.of_questions(torch.ones(3, 4), 3, 5, torch.Generator())])
def test_bad_input(call):
    with pytest.raises(ValueError):
        call()
