import pytest
import torch

from rlhf_minimal.book import gradients
from rlhf_minimal.ppo import policy_loss


def words(fig):
    return [t.get_text() for ax in fig.axes for t in ax.texts]


def test_the_clouds_show_the_tilt_in_the_plane_of_the_tilted_mean():
    true, tilted = torch.tensor([0.0, 2.0, 0.0]), torch.tensor([3.0, 3.0, 0.0])
    fig = gradients.clouds({"A": (torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), 0.5 * true),
                            "B": (tilted[None], tilted)}, true)
    assert [ax.get_title() for ax in fig.axes] == ["A", "B"] and 40 <= len(fig.alt) <= 300
    x, y = fig.axes[1].lines[0].get_xydata()[0]
    assert (x, y) == pytest.approx((0.5**0.5, 0.5**0.5))  # the batch is the mean, at 45 degrees, as long as `true` is drawn


def test_the_fan_says_every_angle_and_who_is_straight():
    said = " ".join(words(gradients.fan({"RLOO": 0.0, "GRPO": 26.6, "copy": 33.7}, title="t", note_below="n")))
    assert "27°  GRPO" in said and "34°  copy" in said and "exactly along it" in said and "RLOO" in said and "0°  RLOO" not in said


def test_one_step_weighs_by_the_others():
    said = words(gradients.one_step((3, 0, 3, -2)))
    assert said.count("+2.67") == 2 and "−1.33" in said and "−4.00" in said


def test_one_answer_as_one_action_or_as_many():
    said = words(gradients.one_action(("a", "b"), (1.0, 2.0, 3.0)))
    assert said.count("+1.0") == 2 and any("+2.0" in s for s in said)  # the changes add up to score minus baseline


def test_two_tilts_name_their_curves():
    fig = gradients.two_tilts([0.1, 0.5, 0.9], {"÷ std": [2, 1, 2], "RLOO": [1, 1, 1]},
                              {"÷ length": [(0.2, 2.0), (0.5, 2.2)], "none": [(0.2, 2.0), (0.5, 1.9)]})
    assert {"÷ std", "RLOO", "÷ length", "none"} <= set(words(fig))


def test_the_explorer_is_the_loss_of_the_package():
    explorer = gradients.clip_explorer()
    for values in explorer.settings():
        data = explorer.compute(**values)
        ratio = torch.tensor([[data["ratio"]]], dtype=torch.float64).requires_grad_()
        loss, _ = policy_loss(ratio.log(), torch.zeros_like(ratio), torch.tensor([data["advantage"]], dtype=torch.float64),
                              torch.ones(1, 1), clip=0.2)
        slope, = torch.autograd.grad(-loss, ratio)
        assert data["objective"] == pytest.approx(-loss.item())
        if min(abs(data["ratio"] - edge) for edge in (0.8, 1.2)) > 1e-6:  # at a corner autograd takes the mean of both slopes
            assert data["slope"] == pytest.approx(slope.item())
    assert explorer.say(explorer.compute(answer="good answer, A = +1", ratio=1.3))[0]
