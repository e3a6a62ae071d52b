"""A corner of reinforce.py that its other tests pass by; found by mutation testing."""

import torch

from rlhf_minimal.kl import penalized


def test_D12_a_score_with_a_graph_is_cut_off_without_a_reference_too():
    score = torch.tensor([1.0, 2.0], requires_grad=True)
    reward, kl = penalized(score, torch.zeros(2, 3), None, torch.ones(2, 3), 0.0)
    assert reward.tolist() == [1.0, 2.0] and not reward.requires_grad and not kl.requires_grad
