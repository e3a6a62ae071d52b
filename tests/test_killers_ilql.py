"""Corners of ilql.py that its other tests pass by, by hand; found by mutation testing."""

import math

import pytest
import torch

from rlhf_minimal.ilql import Heads, ilql_loss, step, tilted_logits

ONE = torch.ones(1, 2)


def small():
    """q, q_target, value, ids, reward, mask of two written tokens and one of padding."""
    q = torch.tensor([[[0.0, 2.0], [4.0, 0.0], [9.0, 9.0]]], requires_grad=True)
    value = torch.tensor([[1.0, 2.0, 9.0]], requires_grad=True)
    return [q, q.detach(), value, torch.tensor([[1, 0, 1]]), torch.tensor([[0.0, 5.0, 9.0]]), torch.tensor([[1, 1, 0]])]


def test_stats_by_hand():
    """Q of the written tokens is 2 and 4, V is 1 and 2; the mean is over the mask alone, and all is detached."""
    _, stats = ilql_loss(*small())
    assert stats["q"].item() == 3.0 and stats["value"].item() == 1.5
    assert all(not x.requires_grad and x.dim() == 0 for x in stats.values())


def test_shapes_are_told_by_name():
    q, slow, value, ids, reward, mask = small()
    with pytest.raises(ValueError, match=r"value \(1, 2\), ids \(1, 3\), reward \(1, 3\), mask \(1, 3\)"):
        ilql_loss(q, slow, value[:, :2], ids, reward, mask)
    wider = torch.zeros(1, 3, 5)  # a target over another vocabulary would be gathered from without a word
    with pytest.raises(ValueError, match=r"q \(1, 3, 2\), q_target \(1, 3, 5\)"):
        ilql_loss(q, wider, value, ids, reward, mask)


def test_A3_padding_is_an_id_of_every_vocabulary():
    """With one token in the vocabulary, padding of any id becomes 0; the conservative term is -log 1."""
    q, value = torch.zeros(1, 2, 1), torch.zeros(1, 2)
    mask, ids = torch.tensor([[1, 0]]), torch.tensor([[0, -100]])
    loss, stats = ilql_loss(q, q, value, ids, torch.tensor([[2.0, 0.0]]), mask)
    assert loss.item() == 2.0 and stats["cql_loss"] == 0  # 1/2 (2 - 0)^2


def test_tilted_logits_by_hand():
    """log pi + eta (Q - V): log 1/2 + 2 (3 - 1), log 1/2 + 2 (0 - 1); V keeps the numbers small."""
    got = tilted_logits(torch.zeros(2), torch.tensor([3.0, 0.0]), torch.tensor(1.0), eta=2.0)
    assert got.tolist() == pytest.approx([4 - math.log(2), -2 - math.log(2)])
    assert tilted_logits(torch.zeros(1), torch.tensor([3.0]), torch.tensor(1.0)).tolist() == [2.0]  # V = 1 token


def test_heads_cover_the_vocabulary_and_stay_in_eval_mode(tiny_gpt2):
    heads = Heads(tiny_gpt2(vocab=20).train())
    q, slow, value = heads(torch.tensor([[3, 4]]), ONE)
    assert q.shape == slow.shape == (1, 2, 20) and value.shape == (1, 2)
    assert not any(m.training for m in heads.modules())


def test_a_step_moves_the_target_by_its_rate(tiny_gpt2):
    """One SGD step from 0, then the target goes rate of the way: rate 1/4 leaves a quarter of Q in it."""
    heads = Heads(tiny_gpt2(n_layer=1))
    ids = torch.tensor([[3, 4, 5]])
    batch = dict(ids=ids, attention=torch.ones(1, 3), mask=torch.tensor([[0, 1, 1]]), reward=torch.ones(1, 3))
    step(heads, torch.optim.SGD([w for w in heads.parameters() if w.requires_grad], lr=1.0), batch, rate=0.25)
    assert heads.q.weight.abs().max() > 0.01 and torch.allclose(heads.q_target.weight, heads.q.weight / 4)
