"""REINFORCE: a masked sum over tokens, and what a constant in the score does to it."""

import torch

from rlhf_minimal.aggregate import aggregate
from rlhf_minimal.grpo import grpo_loss
from rlhf_minimal.kl import penalized
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.rloo import rloo_loss


def test_D12_a_score_with_a_graph_is_cut_off_without_a_reference_too():
    score = torch.tensor([1.0, 2.0], requires_grad=True)
    reward, kl = penalized(score, torch.zeros(2, 3), None, torch.ones(2, 3), 0.0)
    assert reward.tolist() == [1.0, 2.0] and not reward.requires_grad and not kl.requires_grad


def test_E8_reinforce_is_a_masked_sum_over_tokens(policy_batch):
    logp, _, score, mask = policy_batch
    loss, stats = reinforce_loss(logp, score, mask)
    naive = -sum(score[b] * logp[b, t] for b in range(4) for t in range(5) if mask[b, t]) / 4
    assert torch.allclose(loss, naive) and not stats["loss"].requires_grad
    mean = aggregate(-score[:, None] * logp, mask, "sequence_mean")
    assert abs(loss - mean) > 0.1


def test_C12_a_constant_in_the_score_matters_to_reinforce_alone(policy_batch):
    logp, old, score, mask = policy_batch
    for loss in (
        lambda s: rloo_loss(logp, s, mask, group_size=2)[0],
        lambda s: grpo_loss(logp, old, s, mask, group_size=2)[0],
    ):
        assert torch.allclose(loss(score), loss(score + 7))
    assert abs(reinforce_loss(logp, score, mask)[0] - reinforce_loss(logp, score + 7, mask)[0]) > 1
