"""An audit of labels: clustered intervals by hand and by simulation, and each detector fires on its own bias only."""

import itertools
import random

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
    assert held["single labels"] < 0.8 < 0.85 < held["people and prompts"]


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
    value, low, high = audit.kappa(a, b, torch.Generator().manual_seed(0))
    assert value == cohen_kappa(a, b) and low < value < high and 0.2 < high - low < 2


def test_four_groups_and_their_hidden_biases():
    sets, secret = audit.groups(0)
    assert sorted(secret.values()) == sorted(audit.HIDDEN) and list(sets) == ["plain", *"ABC"]
    for name, bias in secret.items():
        change = audit.against(sets[name], sets["plain"])
        assert change[bias][0] > change[bias][1], name
    assert {audit.groups(k, n=20)[1]["A"] for k in range(8)} != {secret["A"]}
    nothing = audit.against(sets["plain"], sets["plain"])
    assert all(value == (0, 0) for value in nothing.values())
    with pytest.raises(ValueError, match="the same pairs"):
        audit.against(sets["A"][1:], sets["plain"])


def test_groups_have_noise_of_their_own():
    """Two honest groups with the same random numbers would differ nowhere, and the audit would look far too sure."""
    plain = audit.groups(0, n=200)[0]["plain"]
    person = audit.Annotator(name="other", temperature=0.5)
    again = audit.relabel(plain, person, random.Random(1))
    moved = [a["chosen"] != b["chosen"] for a, b in zip(plain, again, strict=True)]
    assert 0.1 < sum(moved) / 200 < 0.5 and {r["rater"] for r in again} == {"other"}
    for a, b, changed in zip(plain, again, moved, strict=True):
        assert a["chosen_first"] == (b["chosen_first"] != changed)
        assert a["gold_chosen"] == b["gold_rejected" if changed else "gold_chosen"]


def test_many_way_by_hand():
    """Three clusterings of single labels: inclusion and exclusion over pairs and over all three."""
    x = torch.rand(24, generator=torch.Generator().manual_seed(0))
    who, other, what = [i % 3 for i in range(24)], [i % 4 for i in range(24)], [i // 2 for i in range(24)]
    v, both = audit.variance, [list(zip(*two, strict=True)) for two in ((who, other), (who, what), (other, what))]
    total = v(x, who) + v(x, other) + v(x, what) - sum(v(x, two) for two in both) + v(x, list(zip(who, other, what, strict=True)))
    mean, half = audit.many_way(x, who, other, what)
    assert mean == pytest.approx(x.mean().item())
    assert half == pytest.approx(1.96 * max(total, v(x, who), v(x, other), v(x, what)) ** 0.5)


def test_votes_survive_the_columns_of_public_sets():
    mine = audit.groups(0, n=60)[0]["plain"]
    for form in (audit.as_hh, audit.as_shp):
        back = audit.read_back(form(mine))
        assert len(back) == 60
        assert all(a[k] == b[k] for a, b in zip(back, mine, strict=True) for k in ("prompt", "chosen", "rejected"))
    row = mine[audit.shortest(mine, "the longer")]
    assert audit.differences([row])["the longer"][0] > 0
    assert set(audit.as_hh(mine)[0]) == {"chosen", "rejected"} and {r["labels"] for r in audit.as_shp(mine)} == {0, 1}


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


def test_agreement_beside_the_truth_by_hand():
    good, bad = "You can find the fox near the orchard.", "Fath day on a long kno"
    rows = [{"prompt": "Where does the fox live?", "response_a": a, "response_b": b}
            for a, b in ((good, bad), (bad, good), (good, good))]
    assert audit.clear(rows) == pytest.approx(2 / 3)
    found = audit.beside_truth([1.0, 0.0, 1.0], [1.0, 1.0, 0.0], rows)  # the first is right twice, the second once
    assert found == {"agree": pytest.approx(1 / 3), "agree, clear": 0.5, "vote right": 0.75}
    with pytest.raises(ValueError, match="a vote of each"):
        audit.beside_truth([1.0], [1.0, 0.0, 1.0], rows)
