import math

import pytest
import torch

from rlhf_minimal.book import penalties
from rlhf_minimal.kl import k1, k2, k3


def words(fig):
    return " ".join(t.get_text() for ax in fig.axes for t in ax.texts)


def test_two_runs_shows_every_answer():
    fig = penalties.two_runs({"run A": [0.0, 5.0], "run B": [0.0, 1.0]}, ["Why?", "How?"],
                             {"run A": ["one", ""], "run B": ["three", "four"]}, y_label="KL, nats")
    said = words(fig)
    assert all(text in said for text in ("Why?", "How?", "one", "(nothing)", "three", "four", "run A", "run B"))
    assert 40 <= len(fig.alt) <= 300 and len(fig.axes[1].lines) == 2


def test_two_runs_needs_an_answer_for_each_request():
    with pytest.raises(ValueError, match="one answer for each request"):
        penalties.two_runs({"a": [0], "b": [0]}, ["Why?", "How?"], {"a": ["x"], "b": ["y", "z"]}, y_label="KL")
    with pytest.raises(ValueError, match="two runs"):
        penalties.two_runs({"a": [0]}, ["Why?"], {"a": ["x"]}, y_label="KL")


def test_seeds_on_a_log_axis_are_all_drawn():
    fig = penalties.seeds_log([1, 2], {"policy: low": [[-0.5, 2], [1, 3], [1, 4]], "rejected: high": [[1, 50]]},
                              title="t", y_label="KL, nats", note_below="n")
    ax = fig.axes[0]
    assert len(ax.lines) == 6 and ax.get_yscale() == "log" and min(ax.lines[0].get_ydata()) == 0.1
    assert list(ax.lines[3].get_ydata()) == [1, 3]  # the median
    assert "low" in words(fig) and "high" in words(fig) and "n" in ax.get_xlabel()
    with pytest.raises(ValueError, match="another length"):
        penalties.seeds_log([1, 2], {"a": [[1]]}, title="t", y_label="KL")


def test_two_places_names_both():
    said = words(penalties.two_places())
    assert "in the reward" in said and "in the loss" in said and "1 − exp(−ℓ)" in said


def test_the_explorer_holds_the_estimators_of_the_package_and_their_slopes():
    explorer = penalties.slopes_explorer()
    for values in explorer.settings():
        data = explorer.compute(**values)
        for name, k in (("k1", k1), ("k2", k2), ("k3", k3)):
            logp = torch.tensor([data["at"]], dtype=torch.float64, requires_grad=True)
            value = k(logp, torch.zeros(1, dtype=torch.float64))
            slope, = torch.autograd.grad(value.sum(), logp)
            assert data[name] == pytest.approx((value.item(), slope.item()))
    assert explorer.say(explorer.compute(drift=1.0)).startswith("k1: value 1.00, push 1.00")
    assert math.isclose(penalties.slopes(0.0)["k3"][1], 0.0)
