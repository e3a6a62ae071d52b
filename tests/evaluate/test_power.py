import pytest
import torch

from rlhf_minimal.evaluate import power

GEN = torch.Generator


def models(correlated, n=2000, seed=0):
    """Outcomes of two models, .7 and .8 right; correlated: the second is right wherever the first one is, almost."""
    g = GEN().manual_seed(seed)
    luck = torch.rand(n, generator=g)
    other = luck if correlated else torch.rand(n, generator=g)
    return (luck < 0.7).double(), (other < 0.8).double()


def test_spread_differs_by_twice_the_covariance():
    a, b = models(True)
    cov = ((a - a.mean()) * (b - b.mean())).sum() / (len(a) - 1)
    assert abs(power.spread(a, b, False) - power.spread(a, b, True) - 2 * cov.item()) < 1e-12
    assert abs(power.spread(*models(False), True) - power.spread(*models(False), False)) < 0.03


def test_power_of_known_cases():
    assert abs(power.power(0.0, 0.5, 100) - 0.025) < 1e-3  # no difference: called in one of forty, on this side
    assert abs(power.power(0.01, 0.5, 39_200) - 0.8) < 1e-3
    assert power.power(0.1, 0.5, 400) > power.power(0.1, 0.5, 200)


@pytest.mark.parametrize("paired", [True, False])
def test_called_agrees_with_the_formula(paired):
    a, b = models(True)
    gap = (b - a).mean().item()
    drawn = power.called(a, b, 100, paired=paired, generator=GEN().manual_seed(0))
    assert abs(drawn - power.power(gap, power.spread(a, b, paired), 100)) < (0.09 if paired else 0.06)


def test_curves_pairing_and_names():
    lines = power.power_curves([models(True), models(True, seed=1)], (50, 200), GEN().manual_seed(0))
    same, separate = lines["same questions"], lines["separate questions"]
    assert same[0] == [50, 200] and len(same[1]) == 2
    assert all(x > y for one, other in zip(same[1], separate[1], strict=True) for x, y in zip(one, other, strict=True))


def test_luck_is_gained_where_it_was_chosen_only():
    passes = (torch.rand(200, 32, generator=GEN().manual_seed(0)) < 0.6).double()
    chosen, fresh = power.luck(passes, (1, 4, 16), GEN().manual_seed(1))
    assert abs(chosen[0]) < 0.01 and chosen[0] < chosen[1] < chosen[2] and chosen[2] > 0.05
    assert max(map(abs, fresh)) < 0.03


def test_without_chance_nothing_is_gained():
    passes = torch.cat([torch.ones(50, 4), torch.zeros(50, 4)])
    assert power.luck(passes, (1, 4), GEN().manual_seed(0), times=20) == ([0.0, 0.0], [0.0, 0.0])


@pytest.mark.parametrize("call", [
    lambda: power.outcomes("01x"), lambda: power.outcomes(""), lambda: power.power(0.1, 0.0, 10),
    lambda: power.spread(torch.ones(3), torch.ones(4), True), lambda: power.luck(torch.ones(4, 3), (5,), GEN())])
def test_bad_input(call):
    with pytest.raises(ValueError):
        call()
