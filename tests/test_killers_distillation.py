"""Corners of distillation.py that its other tests pass by, by hand; found by mutation testing."""

import math

import pytest
import torch

from rlhf_minimal.distillation import (
    full_vocabulary_loss,
    on_policy_loss,
    reverse_kl_advantage,
    sequence_level_loss,
    step,
    word_level_loss,
)
from rlhf_minimal.sampling import sample

P, Q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
KL_QP, KL_PQ = 0.9 * math.log(1.8) + 0.1 * math.log(0.2), 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(5)


def logits(x, rows, width=2):
    return x.expand(rows, width, 2).clone().requires_grad_()


@pytest.mark.parametrize("mask, tokens", [([[1, 1], [1, 0]], 3), ([[1, 0], [0, 0]], 1)])
def test_kl_of_the_stats_by_hand(mask, tokens):
    """At each place student (1/2, 1/2), teacher (.9, .1): a mean over tokens forward, over rows with tokens reverse."""
    mask = torch.tensor(mask)
    rows, student, teacher = int(mask.any(1).sum()), logits(P, 2), logits(Q, 2)
    word = word_level_loss(student, teacher, mask)[1]
    full = full_vocabulary_loss(student, teacher, mask)[1]
    logp, ref = (torch.full((2, 2), x).requires_grad_() for x in (-1.0, -1.5))
    own = on_policy_loss(logp, ref, mask)[1]
    assert word["kl"].item() == pytest.approx(KL_QP, rel=1e-5)
    assert full["kl"].item() == pytest.approx(KL_PQ * tokens / rows, rel=1e-5)
    assert own["kl"].item() == pytest.approx(0.5 * tokens / rows)
    for stats in (word, full, own, sequence_level_loss(logp, mask)[1]):
        assert not any(x.requires_grad for x in stats.values())


def test_J5_stats_of_a_batch_without_tokens_are_finite():
    none, logp = torch.zeros(2, 2), torch.full((2, 2), -1.0)
    for _, stats in (
        word_level_loss(logits(P, 2), logits(Q, 2), none, denominator=4),
        full_vocabulary_loss(logits(P, 2), logits(Q, 2), none, denominator=4),
        on_policy_loss(logp, logp, none, form="immediate", denominator=4),
    ):
        assert stats["kl"] == 0


def test_a_token_that_both_rule_out_costs_nothing():
    """0 log 0 = 0: student and teacher both say (1, 0)."""
    sure = torch.tensor([[[0.0, -math.inf]]])
    assert word_level_loss(sure, sure, torch.ones(1, 1))[0] == 0


def test_two_vocabularies_are_told_as_logits():
    with pytest.raises(ValueError, match=r"student_logits \(1, 2, 2\), teacher_logits \(1, 2, 3\)"):
        word_level_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3), torch.ones(1, 2))


def test_D12_immediate_advantages_are_detached_from_both_models():
    logp, ref = (torch.full((1, 2), x).requires_grad_() for x in (-1.0, -1.5))
    for a, b in ((logp, ref.detach()), (logp.detach(), ref)):
        got = reverse_kl_advantage(a, b, torch.ones(1, 2), form="immediate")
        assert got.tolist() == [[-0.5, -0.5]] and not got.requires_grad


def test_a_step_has_its_dropout_off(tiny_gpt2):
    """In training mode two steps of rate 0 agree (B7)."""
    model = tiny_gpt2(n_layer=1)
    rollout = sample(model, [[3, 4]], n=4, max_new_tokens=3, eos_id=0, generator=torch.Generator().manual_seed(0))
    still = torch.optim.SGD(model.train().parameters(), lr=0.0)
    one, two = (step(model, still, rollout, rollout.logp_old - 0.3 * rollout.mask)["loss"] for _ in range(2))
    assert one == two
