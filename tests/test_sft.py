"""Supervised fine-tuning: against transformers' own loss, the mask, the end token, accumulation."""

import math

import pytest
import torch

from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.sft import sft_loss, step


def test_H1_token_mean_by_hand():
    logp = torch.tensor([[-1.0, -2.0, -9.0], [-3.0, -9.0, -9.0]], requires_grad=True)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    loss, stats = sft_loss(logp, mask)
    assert loss.item() == 2.0 and stats["tokens"] == 3 and stats["perplexity"].item() == pytest.approx(math.exp(2))
    assert torch.allclose(torch.autograd.grad(loss, logp)[0], -mask / 3)
    assert (1.5 + 3) / 2 != loss.item()  # the mean of row means


def test_H1_E14_denominator_of_the_whole_step():
    logp, mask = -torch.rand(4, 5), torch.ones(4, 5)
    mask[0, 1:] = 0
    whole = sft_loss(logp, mask)[0]
    parts = [sft_loss(logp[r], mask[r], denominator=mask.sum())[0] for r in (slice(0, 1), slice(1, 4))]
    assert torch.allclose(sum(parts), whole)
    means = (sft_loss(logp[:1], mask[:1])[0] + sft_loss(logp[1:], mask[1:])[0]) / 2
    assert abs(means - whole) > 1e-3
    with pytest.raises(ValueError, match="empty"):
        sft_loss(logp, mask * 0)
    zero = sft_loss(logp.requires_grad_(), mask * 0, denominator=3)
    assert zero[0] == 0 and zero[0].requires_grad and math.isfinite(zero[1]["perplexity"])


@pytest.mark.parametrize("junk", [math.nan, math.inf])
def test_E11_junk_off_the_mask(junk):
    mask = torch.tensor([[1, 0]])
    logp = torch.tensor([[-1.0, junk]], requires_grad=True)
    loss, _ = sft_loss(logp, mask)
    assert loss == 1 and torch.equal(torch.autograd.grad(loss, logp)[0], torch.tensor([[-1.0, 0.0]]))
    with pytest.raises(ValueError, match="NaN"):
        sft_loss(torch.tensor([[math.nan, -1.0]]), mask)


def test_H3_labels_shift_once(tiny_gpt2):
    model, ids = tiny_gpt2(), torch.randint(0, 20, (3, 6))
    ours = sft_loss(token_logps(model, ids, torch.ones(3, 6)), torch.ones(3, 5))[0]
    assert abs(ours - model(ids, labels=ids).loss) < 1e-5
    assert abs(ours - model(ids, labels=ids.roll(-1, 1)).loss) > 0.1  # shifted twice


def test_H2_masked_loss_has_no_gradient_from_prompt_targets(tiny_gpt2):
    model, ids = tiny_gpt2(), torch.tensor([[3, 4, 5, 6, 0]])
    attention, mask = torch.ones(1, 5), torch.tensor([[0, 0, 0, 1, 1]])
    logp = token_logps(model, ids, attention)
    loss, _ = sft_loss(logp, mask[:, 1:])
    assert torch.autograd.grad(loss, logp)[0][0].tolist() == [0, 0, -0.5, -0.5]


def greedy(model, ids, n):
    for _ in range(n):
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    return ids


def test_A5_the_end_is_learned_only_if_the_mask_has_it(tiny_gpt2):
    ids, attention = torch.tensor([[3, 4, 5, 6, 0]]), torch.ones(1, 5)
    ends = {}
    for end in (1, 0):
        model = tiny_gpt2()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        mask = torch.tensor([[0, 0, 1, 1, end]])
        losses = [step(model, optimizer, {"ids": ids, "attention": attention, "mask": mask})["loss"] for _ in range(30)]
        assert losses[-1] < 0.1 < losses[0]
        model.eval()
        ends[end] = greedy(model, ids[:, :2], 3)[0].tolist()
    assert ends[1] == ids[0].tolist() and ends[0][:4] == [3, 4, 5, 6] and ends[0][4] != 0


def test_stats_are_detached_and_say_the_nll_a_token():
    logp = torch.tensor([[-1.0, -2.0], [-6.0, -9.0]], requires_grad=True)
    loss, stats = sft_loss(logp, torch.tensor([[1, 1], [1, 0]]), denominator=6)  # half of a step of 6 tokens
    assert loss.item() == 1.5 and stats["nll"] == 3 and stats["loss"] == 1.5 and stats["tokens"] == 3
    assert all(not x.requires_grad and x.dim() == 0 for x in stats.values())


def test_one_token_is_divided_by_one():
    """-log(1/4) = 1.3863 nats, perplexity 4, whatever the denominator of the step."""
    logp = torch.tensor([[0.25, 0.9]]).log()
    stats = sft_loss(logp, torch.tensor([[1, 0]]), denominator=8)[1]
    assert stats["nll"].item() == pytest.approx(math.log(4)) and stats["perplexity"].item() == pytest.approx(4)
