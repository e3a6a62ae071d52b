"""Evaluation: unbiased by enumeration, intervals that cover, and the shortcuts that don't."""

import itertools
import math

import pytest
import torch

from rlhf_minimal.evaluate import (
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
    win_rate,
)
from rlhf_minimal.evaluate.metrics import base_rate_shift, ranks, reliability


def test_I3_pass_at_k_is_the_share_of_subsets_with_a_hit():
    for n, c in ((5, 2), (6, 0), (6, 6), (4, 3)):
        right = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            subsets = list(itertools.combinations(right, k))
            assert abs(pass_at_k(n, c, k) - sum(map(any, subsets)) / len(subsets)) < 1e-12
            assert abs(pass_hat_k(n, c, k) - sum(map(all, subsets)) / len(subsets)) < 1e-12
    assert round(pass_at_k(10, 3, 5), 5) == 0.91667 and round(1 - 0.7**5, 5) == 0.83193


def test_I3_pass_at_k_is_unbiased_and_the_plug_in_is_not():
    p, n, k = 0.2, 6, 3
    weight = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    truth = 1 - (1 - p) ** k
    assert abs(sum(w * pass_at_k(n, c, k) for c, w in enumerate(weight)) - truth) < 1e-12
    assert truth - sum(w * (1 - (1 - c / n) ** k) for c, w in enumerate(weight)) > 0.02


def test_pass_at_k_is_stable_and_takes_tensors():
    big = pass_at_k(10_000, 1, 5000)
    assert abs(big - 0.5) < 1e-12
    got = pass_at_k(10, torch.tensor([[0, 3], [5, 10]]), 5)
    want = [[pass_at_k(10, c, 5) for c in row] for row in ([0, 3], [5, 10])]
    assert torch.equal(got, torch.tensor(want, dtype=torch.float64))
    assert pass_at_k(torch.tensor([10, 4]), torch.tensor([3, 2]), torch.tensor([5, 2])).shape == (2,)
    for bad in ((5, 6, 1), (5, -1, 1), (5, 2, 6), (5, 2, 0)):
        with pytest.raises(ValueError, match="5"):
            pass_at_k(*bad)


def test_I4_win_rate():
    a, b = [1.0, 2, 3, 4], [0.0, 2, 5, 1]
    rate, low, high = win_rate(a, b)
    assert rate == 2.5 / 4 and 0 <= low < rate < high <= 1
    mirror = win_rate(b, a)
    assert mirror[0] == 1 - rate and mirror[1] == pytest.approx(1 - high) and mirror[2] == pytest.approx(1 - low)
    never = win_rate([0.0] * 20, [1.0] * 20)
    assert never[0] == never[1] == 0 and 0.1 < never[2] < 0.2  # the normal interval would be 0 wide
    always = win_rate(torch.ones(20), torch.zeros(20))
    assert always[2] == 1 and always[1] == pytest.approx(1 - never[2])
    assert win_rate([1.0], [1.0])[0] == 0.5
    for wrong in (([1.0], [1.0, 2.0]), ([], []), ([math.nan], [1.0]), ([[1.0]], [[1.0]])):
        with pytest.raises(ValueError):
            win_rate(*wrong)


def test_I4_interval_covers():
    """Exact coverage over all outcomes of n = 30, at several true rates."""
    n, ones = 30, torch.arange(30)
    intervals = [win_rate((ones < c).double(), torch.full((n,), 0.5)) for c in range(n + 1)]
    for p in (0.1, 0.3, 0.5, 0.8):
        chance = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
        cover = sum(x for x, (_, low, high) in zip(chance, intervals, strict=True) if low <= p <= high)
        assert 0.92 < cover < 0.99
    assert sum(low <= 0.02 <= high for _, low, high in intervals) < 5


def test_paired_bootstrap():
    torch.manual_seed(0)
    item, noise = 5 * torch.randn(200), 0.5 * torch.randn(200)
    diff, low, high = paired_bootstrap(item + 0.2 + noise, item)
    assert low < diff < high and low > 0 and abs(diff - (0.2 + noise.mean())) < 1e-5
    se = (noise.std() / 200**0.5).item()
    assert abs((high - low) / (2 * 1.96 * se) - 1) < 0.1  # the spread of the items themselves does not enter
    assert paired_bootstrap(item, item + noise, seed=1) == paired_bootstrap(item, item + noise, seed=1)
    assert paired_bootstrap(item, item) == (0, 0, 0)


def test_expected_calibration_error():
    prob, label = [0.05, 0.05, 0.95, 0.95], [0, 0, 1, 1]
    assert expected_calibration_error(prob, label) == pytest.approx(0.05)
    assert expected_calibration_error(prob, [1, 1, 0, 0]) == pytest.approx(0.95)
    assert expected_calibration_error([0.3] * 10, [1, 1, 1] + [0] * 7) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error([0.0, 1.0], [0, 1]) == 0  # 1 belongs to the last bin
    opposite = [0.1, 0.9]
    assert expected_calibration_error(opposite, [1, 0], bins=1) == pytest.approx(0)  # one bin hides everything
    assert expected_calibration_error(opposite, [1, 0], bins=2) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="1.5"):
        expected_calibration_error([1.5], [1])


def test_spearman():
    x = torch.tensor([0.1, 3.0, 2.0, 9.0])
    assert spearman(x, x.exp()) == pytest.approx(1) and spearman(x, -x) == pytest.approx(-1)
    a, b = [1.0, 2, 3, 4, 5], [2.0, 1, 4, 3, 5]
    assert spearman(a, b) == pytest.approx(1 - 6 * 4 / (5 * 24))
    ranks = torch.tensor([[1.0, 2.5, 2.5, 4.0], [1.0, 2.0, 3.0, 4.0]])
    assert spearman([1.0, 2, 2, 3], [1.0, 2, 3, 4]) == pytest.approx(torch.corrcoef(ranks)[0, 1].item())
    with pytest.raises(ValueError, match="constant"):
        spearman([1.0, 1.0], [1.0, 2.0])


def test_I5_perplexity_is_token_weighted():
    logp = torch.tensor([[-1.0, -1.0, -1.0], [-4.0, math.nan, math.nan]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert perplexity(logp, mask) == pytest.approx(math.exp(7 / 4))
    assert perplexity(logp, mask) != pytest.approx(math.exp((1 + 4) / 2))


def test_distinct_n():
    assert distinct_n(["a b a b"], 1) == 0.5 and distinct_n(["a b a b"], 2) == pytest.approx(2 / 3)
    assert distinct_n(["a b", "a b"], 2) == 0.5 and distinct_n(["a"], 2) == 0
    assert distinct_n(["a b", "c d"], 2) == 1  # nothing spans two texts


def test_rouge_by_hand():
    assert rouge_n("the cat sat", "the cat ran off") == pytest.approx(2 * 2 / 7)
    assert rouge_n("the the the", "the cat") == pytest.approx(2 * 1 / 5)  # counted as often as in both
    assert rouge_n("the cat sat", "the cat ran", 2) == pytest.approx(0.5)
    assert rouge_l("a b c d", "a x c d") == pytest.approx(0.75) and rouge_l("d c", "c d") == pytest.approx(0.5)
    assert rouge_l("a", "b") == rouge_n("", "b") == 0 and rouge_l("a b", "a b") == 1


def test_cohen_kappa():
    a, b = ["y"] * 25 + ["n"] * 25, ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(a, b) == pytest.approx((0.7 - 0.5) / 0.5)
    assert cohen_kappa([0, 1], [0, 1]) == 1 and cohen_kappa([0, 1], [1, 0]) == -1
    with pytest.raises(ValueError, match="undefined"):
        cohen_kappa([1, 1], [1, 1])
    with pytest.raises(ValueError, match="2 and 1"):
        cohen_kappa([1, 1], [1])


def test_gold_table():
    rows = [{"family": "sum", "gold": 1.0}, {"family": "sum", "gold": 3.0}, {"family": "fact", "gold": 5}]
    assert gold_table(rows).splitlines() == [
        "| family | n | gold |", "|---|---:|---:|", "| sum | 2 | 2.00 ± 1.00 |", "| fact | 1 | 5.00 |",
        "| all | 3 | 3.00 ± 1.15 |",
    ]
    with pytest.raises(ValueError, match="0 rows"):
        gold_table([])


def test_wrong_input_of_the_other_functions():
    for prob in ([-0.1, 0.5], [0.5, 1.1]):
        with pytest.raises(ValueError, match="probabilities"):
            expected_calibration_error(prob, [0, 1])
    with pytest.raises(ValueError, match="0 and 0 labels"):
        cohen_kappa([], [])
    for a, b in (([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [3.0, 3.0])):
        with pytest.raises(ValueError, match="constant"):
            spearman(a, b)
    with pytest.raises(ValueError, match="shapes differ"):
        spearman([1.0, 2.0], [1.0])


def test_wilson_by_hand():
    """At 3 of 4: centre (p + z^2 / 2n) / (1 + z^2 / n), half width z sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n)."""
    z, p, n = 1.959964, 0.75, 4
    centre = (p + z**2 / 8) / (1 + z**2 / 4)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / 64) / (1 + z**2 / 4)
    rate, low, high = win_rate([1.0, 1, 1, 0], [0.0, 0, 0, 1])
    assert rate == p and low == pytest.approx(centre - half, abs=1e-9) and high == pytest.approx(centre + half, abs=1e-9)


def test_paired_bootstrap_takes_level_and_resamples():
    """For many items the percentiles are those of the normal distribution: +- 1.96 and +- 0.674 standard errors."""
    a = torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    se = (a.std() / 20).item()
    for level, z in ((0.95, 1.96), (0.5, 0.6745)):
        mean, low, high = paired_bootstrap(a, torch.zeros(400), level=level, resamples=8000)
        assert mean == pytest.approx(a.mean().item())
        assert low == pytest.approx(mean - z * se, abs=0.1 * se) and high == pytest.approx(mean + z * se, abs=0.1 * se)


def test_ranks_begin_at_one_and_are_shared():
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 9.0])).tolist() == [2.5, 1.0, 2.5, 4.0]
    assert ranks(torch.tensor([5.0])).tolist() == [1.0]


def test_a_table_of_one_row_has_its_columns():
    assert gold_table([{"family": "sum", "gold": 1.5}]).splitlines()[-1] == "| all | 1 | 1.50 |"


def test_numbers_and_tensors_go_together_in_any_place():
    """The argument that is a tensor may be any of the three, and shapes are broadcast."""
    counts, ks = torch.tensor([[1], [2]]), torch.tensor([1, 2, 3])
    got = pass_at_k(4, counts, ks)
    assert got.shape == (2, 3) and got.dtype == torch.float64
    assert got.tolist() == [[pass_at_k(4, c, k) for k in (1, 2, 3)] for c in (1, 2)]
    assert pass_hat_k(torch.tensor([4, 5]), 2, 2).tolist() == [pass_hat_k(4, 2, 2), pass_hat_k(5, 2, 2)]


def test_by_default_there_are_ten_bins():
    """0.05 and 0.095 lie in the first of ten, whose mean is off by (0.145 - 1) / 2; 0.105 lies in the second."""
    assert expected_calibration_error([0.05, 0.095], [0, 1]) == pytest.approx(0.855 / 2)
    assert expected_calibration_error([0.05, 0.105], [0, 1]) == pytest.approx((0.05 + 0.895) / 2)


def test_a_reliability_curve_leaves_out_thin_bins():
    prob, label = torch.tensor([0.05] * 10 + [0.95] * 30), torch.tensor([0.0] * 10 + [1.0] * 15 + [0.0] * 15)
    assert reliability(prob, label, bins=4) == ([pytest.approx(0.95)], [0.5])
    assert reliability(prob, label, bins=4, least=10)[1] == [0.0, 0.5]


def test_one_constant_moves_the_mean_probability():
    logit = torch.randn(500, generator=torch.Generator().manual_seed(0))
    for rate in (0.02, 0.5, 0.9):
        moved = torch.sigmoid(logit.double() + base_rate_shift(logit, rate))
        assert moved.mean().item() == pytest.approx(rate, abs=1e-9)
    with pytest.raises(ValueError, match="rate is 0"):
        base_rate_shift(logit, 0)
