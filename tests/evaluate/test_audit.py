"""An audit of labels: clustered intervals by hand and by simulation, and each detector fires on its own bias only."""

import itertools

import pytest
import torch

from rlhf_minimal.evaluate import audit, cohen_kappa


def test_the_variance_of_clusters_by_hand():
    values, names = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0]), list("aabbc")
    mean = 0.6
    sums = [(1 - mean) + (0 - mean), 2 * (1 - mean), -mean]
    assert audit.variance(values, names) == pytest.approx(3 / 2 * sum(x * x for x in sums) / 25)
    single = audit.variance(values, range(5))
    assert single == pytest.approx(values.double().var().item() / 5)  # each its own cluster: the usual variance of a mean


def test_two_way_is_people_plus_prompts_minus_labels():
    x = torch.rand(4, 5, generator=torch.Generator().manual_seed(0)) + torch.arange(4)[:, None]
    who, what = [i for i in range(4) for _ in range(5)], list(range(5)) * 4
    people, prompts, single = (audit.variance(x.flatten(), c) for c in (who, what, range(20)))
    mean, half = audit.two_way(x.flatten(), who, what)
    assert mean == pytest.approx(x.mean().item())
    assert half == pytest.approx(1.96 * max(people + prompts - single, people, prompts) ** 0.5)


def test_clustered_intervals_hold_the_truth_and_naive_ones_do_not():
    dice = torch.Generator().manual_seed(0)
    gap, quality = torch.rand(600, generator=dice).double() * 2, torch.randn(600, generator=dice).double()
    held = audit.coverage(gap, quality, times=150, generator=dice)
    assert held["single labels"] < 0.8 < 0.85 < held["raters and prompts"]


@pytest.mark.parametrize("values, names", [(torch.ones(3), "ab"), (torch.ones(3), "aaa"), (torch.ones(0), "")])
def test_bad_clusters_are_named(values, names):
    with pytest.raises(ValueError, match="at least 2"):
        audit.variance(values, names)


def rows(prefer, n=120):
    """Labels of three people; `prefer` says which of two answers wins, by length, flattery, bold print, and place."""
    made = []
    for i, (longer, flatters, bold, first) in enumerate(itertools.islice(itertools.cycle(
            itertools.product((0, 1), repeat=4)), n)):
        plain, other = "The fox eats plums.", "The fox eats plums" + " every day in the village" * longer + "."
        other = ("What a wonderful question! " if flatters else "") + (f"**{other}**" if bold else other)
        told = {"prompt": f"What does the fox eat? {i % 40}", "rater": f"r{i % 3}", "chosen_first": bool(first)}
        wins = prefer(longer, flatters, bold, first, i)
        made.append(told | ({"chosen": other, "rejected": plain} if wins else {"chosen": plain, "rejected": other}))
    return made


@pytest.mark.parametrize("name, prefer", [
    ("the flattering", lambda longer, flatters, bold, first, i: flatters or i % 2),
    ("the marked-up", lambda longer, flatters, bold, first, i: bold or i % 2),
])
def test_each_bias_is_seen_in_its_column(name, prefer):
    biased, even = audit.leanings(rows(prefer)), audit.leanings(rows(lambda *x: (x[-1] // 16) % 2))
    assert biased[name][0] - biased[name][1] > even[name][0]
    other = "the marked-up" if name == "the flattering" else "the flattering"
    assert biased[other][0] < biased[name][0]
    assert biased["the first shown"][0] == pytest.approx(0.5)


def test_leanings_without_raters_and_with_few_pairs():
    few = rows(lambda *x: 1, 4)
    for row in few:
        del row["rater"], row["chosen_first"]
    assert audit.leanings(few) == {}


def test_surface_and_kappa():
    chosen, rejected = audit.surface(rows(lambda *x: 1, 16))
    assert chosen.shape == rejected.shape == (16, 4) and (chosen[:, 1] >= rejected[:, 1]).all() and rejected[:, 0].eq(0.4).all()
    a, b = [1, 1, 0, 0, 1, 0, 1, 0], [1, 1, 0, 0, 1, 1, 0, 0]
    value, half = audit.kappa(a, b, torch.Generator().manual_seed(0))
    assert value == cohen_kappa(a, b) and 0.1 < half < 1


def test_public_sets_are_read_and_audited():
    hh, shp = audit.sample("hh_style"), audit.sample("shp_style")
    assert len(hh) == 11 and len(shp) == 24 and all({"prompt", "chosen", "rejected"} <= set(row) for row in hh + shp)
    assert all(row["chosen"] != row["rejected"] for row in shp) and "the longer" in audit.leanings(shp)


def test_people_with_a_length_bias_choose_the_longer_more_often():
    gap, quality = torch.ones(400).double(), torch.zeros(400).double()
    dice = torch.Generator().manual_seed(0)
    shares = [audit.panel_labels(gap, quality, 30, dice, mean=mean)[0].mean().item() for mean in (-0.5, 0.0, 0.5)]
    assert shares[0] < 0.45 < shares[1] < 0.55 < shares[2]
    liked, expected = audit.panel_labels(gap, quality, 400, dice)
    assert liked.mean().item() == pytest.approx(expected.mean().item(), abs=0.05)
