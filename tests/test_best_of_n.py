"""Best-of-n: selection within a prompt, the unbiased curve by enumerating subsets, the KL bound by exact laws."""

import itertools
import math

import pytest
import torch

from rlhf_minimal.best_of_n import curve, kl_bound, law, select


def test_I1_select_picks_within_a_prompt():
    score = torch.tensor([0.1, 0.9, 0.3, 5.0, 4.0, 4.5])
    assert select(score, 3).tolist() == [1, 3] and select(score, 2).tolist() == [1, 3, 5]
    assert select(score, 1).tolist() == list(range(6))
    overall = score.topk(2).indices.tolist()
    assert sorted(overall) == [3, 5]  # top-k over all rows drops the first prompt
    tie = torch.tensor([0.2, 0.8, 0.8, 0.8])
    assert select(tie, 4).tolist() == [1]


def test_select_wants_groups_that_fit():
    for score, group in ((torch.ones(5), 2), (torch.ones(4), 0), (torch.ones(2, 2), 2), (torch.tensor([]), 1)):
        with pytest.raises(ValueError):
            select(score, group)
    with pytest.raises(ValueError, match="NaN"):
        select(torch.tensor([1.0, math.nan]), 2)


def test_curve_equals_the_mean_over_all_subsets():
    torch.manual_seed(0)
    score, value = torch.randn(12, dtype=torch.float64), torch.randn(12, dtype=torch.float64)
    got = curve(score, value, 6, range(1, 7))
    for g in range(2):
        s, v = score[6 * g : 6 * g + 6].tolist(), value[6 * g : 6 * g + 6].tolist()
        for n in range(1, 7):
            best = [v[max(sub, key=lambda i: s[i])] for sub in itertools.combinations(range(6), n)]
            assert abs(got[g, n - 1].item() - sum(best) / len(best)) < 1e-12
    assert torch.allclose(got[:, 0], value.view(2, 6).mean(1)) and got.shape == (2, 6)
    assert torch.allclose(got[:, 5], value[select(score, 6)])


def test_curve_gives_ties_the_average():
    score, value = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([4.0, 8.0, 100.0])
    assert torch.allclose(curve(score, value, 3, [3, 2]), torch.tensor([[6.0, 6.0]], dtype=torch.float64))
    shuffled = curve(score[[1, 2, 0]], value[[1, 2, 0]], 3, [2])
    assert torch.allclose(shuffled, torch.tensor([[6.0]], dtype=torch.float64))


def test_curve_at_512_is_finite_and_checks_n():
    score = torch.randn(512, generator=torch.Generator().manual_seed(0))
    got = curve(score, score, 512, [1, 256, 512])[0]
    assert torch.isfinite(got).all() and got[0] < got[1] < got[2] and abs(got[2] - score.max()) < 1e-6
    for ns in ([0], [3]):
        with pytest.raises(ValueError, match="from 1 to 2"):
            curve(score[:2], score[:2], 2, ns)
    with pytest.raises(ValueError):
        curve(score[:2], score[:4], 2, [1])


def test_law_equals_enumeration_of_draws():
    p, s = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    want = torch.zeros(3, dtype=torch.float64)
    for draw in itertools.product(range(3), repeat=3):
        top = max(s[i] for i in draw)
        winners = [i for i in draw if s[i] == top]
        for i in winners:
            want[i] += p[list(draw)].prod() / len(winners)
    assert torch.allclose(law(p, s, 3), want) and torch.allclose(law(p, s, 1), p)


def test_I2_kl_bound_is_an_upper_bound_strict_where_answers_repeat():
    assert [round(kl_bound(n), 3) for n in (1, 4, 16, 64)] == [0.0, 0.636, 1.835, 3.175]
    fine = torch.full((20000,), 1 / 20000, dtype=torch.float64)
    coarse = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    for n in (2, 4, 16):
        exact = []
        for p in (coarse, fine):
            score = torch.arange(len(p), dtype=torch.float64)
            # the score has no ties, so the law is a difference of powers; the big one would need a (N, N) table
            top = p.cumsum(0)
            q = top**n - (top - p).clamp(min=0) ** n
            if len(p) == 3:
                assert torch.allclose(q, law(p, score, n))
            exact.append((q * (q / p).clamp(min=1e-300).log()).sum().item())
        assert exact[0] < kl_bound(n) - 0.01
        assert exact[1] < kl_bound(n) and abs(exact[1] - kl_bound(n)) < 2e-3
    with pytest.raises(ValueError):
        kl_bound(0)


def test_wrong_input_of_law_and_groups():
    with pytest.raises(ValueError, match="shapes differ"):
        law(torch.ones(3) / 3, torch.ones(1), 2)
    for group in (-1, -2):
        with pytest.raises(ValueError, match=f"groups of {group}"):
            select(torch.ones(4), group)


@pytest.mark.parametrize("name", ["score", "value"])
def test_a_curve_of_what_is_not_a_number_is_refused(name):
    given = dict(score=torch.tensor([1.0, 0.0]), value=torch.tensor([1.0, 0.0]))
    given[name][0] = math.nan
    with pytest.raises(ValueError, match=f"{name} .*NaN"):
        curve(**given, group_size=2, ns=[1])
