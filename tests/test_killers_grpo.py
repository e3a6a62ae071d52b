"""Corners of grpo.py that its other tests pass by, by hand; found by mutation testing."""

import torch

from rlhf_minimal.grpo import cispo_loss, grpo_loss, overlong_penalty, truncated_importance


def test_D6_two_equal_scores_of_three_are_no_equal_group():
    zero = torch.zeros(6, 2)
    score = torch.tensor([1.0, 1.0, 0.0, 2.0, 2.0, 2.0])
    assert grpo_loss(zero, zero, score, torch.ones(6, 2), group_size=3)[1]["equal_groups"] == 0.5


def test_a_ratio_at_the_bound_is_not_clipped():
    """exp(0) is 1 exactly, and 1 is not above 1 + 0."""
    zero = torch.zeros(2, 3)
    stats = cispo_loss(zero, zero, torch.tensor([1.0, 0.0]), torch.ones(2, 3), group_size=2, clip_high=0.0)[1]
    assert stats["clip_frac"] == 0


def test_importance_weights_are_detached_from_both_policies():
    live = [torch.zeros(1, 2, requires_grad=True) for _ in range(2)]
    for learner, sampler in (live, [live[0].detach(), live[1]], [live[0], live[1].detach()]):
        assert not truncated_importance(learner, sampler, torch.ones(1, 2)).requires_grad


def test_a_buffer_of_one_token_warns_of_the_last_alone():
    assert overlong_penalty(torch.tensor([8, 9, 10, 11]), limit=10, buffer=1).tolist() == [0, 0, -1, -1]
