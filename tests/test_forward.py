"""The forward pass behind the log-probabilities: hidden states under padding, batches taken into pieces."""

import copy

import pytest
import torch

from rlhf_minimal import forward, logprobs, models
from rlhf_minimal.forward import hidden_states, pieces
from rlhf_minimal.logprobs import token_entropy, token_logps
from rlhf_minimal.models import frozen_copy
from rlhf_minimal.reward_model import RewardModel
from rlhf_minimal.tensors import pad_left, pad_right

IDS = torch.tensor([[3, 1, 4, 1, 5]])
ONES = torch.ones(1, 5)


@pytest.mark.parametrize("kind", ["tiny_gpt2", "tiny_llama"])
def test_A2_hidden_states_under_padding(request, kind):
    model = request.getfixturevalue(kind)()
    alone = forward.hidden_states(model, IDS, ONES)
    assert torch.allclose(model.get_output_embeddings()(alone), model(IDS).logits, atol=1e-5)
    ids, attention = torch.tensor([[99, 7, 3, 1, 4, 1, 5, 7]]), torch.tensor([[0, 0, 1, 1, 1, 1, 1, 0]])
    assert torch.allclose(forward.hidden_states(model, ids, attention)[:, 2:7], alone, atol=1e-4)
    assert torch.allclose(forward.hidden_states(models.backbone(model), IDS, ONES), alone)
    bare = models.backbone(model)(input_ids=ids.clamp_max(19), attention_mask=attention).last_hidden_state
    shifted = (bare[:, 2:7] - alone).abs().max() > 0.05
    assert shifted == (kind == "tiny_gpt2")  # rotary positions hide the bug, learned ones show it


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ragged(rows, longest, seed=0, pad=pad_right):
    """Rows of 2 to `longest` random ids."""
    g = seeded(seed)
    sizes = torch.randint(2, longest + 1, (rows,), generator=g).tolist()
    return pad([torch.randint(1, 20, (n,), generator=g).tolist() for n in sizes])


@pytest.fixture
def small(monkeypatch):
    """Take any batch apart; `small(False)` none."""
    def switch(on=True):
        monkeypatch.setattr(forward, "SMALL", 0 if on else 10**9)
    switch()
    return switch


def test_pieces_hold_every_real_token_once(tiny_gpt2, small):
    _, attention = ragged(20, 9, pad=pad_left)
    attention[3] = torch.tensor([1, 0, 1, 1, 0, 0, 0, 1, 0])[: attention.shape[1]]  # gaps too
    real, seen = attention.bool(), torch.zeros_like(attention)
    parts = pieces(tiny_gpt2(), real)
    assert len(parts) == 2 and sum(x[1].numel() for x in parts) < real.numel()
    for rows, columns, on, _ in parts:
        assert (on.long().diff(dim=1) <= 0).all()  # the real ones at the left
        seen[rows[:, None].expand_as(columns)[on], columns[on]] += 1
        for row, column, here in zip(rows, columns, on, strict=True):
            assert torch.equal(column[here], real[row].nonzero()[:, 0])
    assert torch.equal(seen, attention)


def test_pieces_only_where_they_save(tiny_gpt2, small):
    model, real = tiny_gpt2(), ragged(20, 9)[1].bool()
    assert pieces(model, torch.ones_like(real)) is None  # no padding
    assert len(pieces(torch.nn.DataParallel(model), real)) == 1  # wrapped: as many forwards in every process
    small(False)
    assert pieces(model, real) is None


@pytest.mark.parametrize("pad", [pad_left, pad_right])
@pytest.mark.parametrize("kind", ["tiny_gpt2", "tiny_llama"])
def test_values_and_gradients_are_the_same_in_pieces(request, kind, pad, small):
    """Log-probabilities, entropies, hidden states; of all tokens, and of wanted ones."""
    model = request.getfixturevalue(kind)().double()
    ids, attention = ragged(24, 14, pad=pad)
    wanted = (torch.rand(24, ids.shape[1] - 1, generator=seeded()) < 0.3).float()
    real = attention.bool()

    def everything():
        hidden = torch.where(real[..., None], hidden_states(model, ids, attention), 0)
        out = [token_logps(model, ids, attention, temperature=0.7), token_entropy(model, ids, attention), hidden,
               token_logps(model, ids, attention, wanted=wanted)]
        loss = sum((x * torch.cos(torch.arange(x.numel())).view(x.shape)).sum() for x in out)
        return out, torch.autograd.grad(loss, list(model.parameters()))

    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    got, got_grads = everything()
    small(False)
    apart = len(calls)
    want, want_grads = everything()
    assert apart == 3 * 3 and len(calls) == apart + 3
    for a, b in zip((*got, *got_grads), (*want, *want_grads), strict=True):
        assert torch.allclose(a, b, atol=1e-10)
    assert torch.equal(got[3] != 0, (wanted * attention[:, :-1] * attention[:, 1:]).bool())


def test_a_reward_model_scores_the_same_in_pieces(tiny_gpt2, small):
    model = RewardModel(tiny_gpt2())
    torch.nn.init.normal_(model.model.score.weight, generator=seeded())
    ids, attention = ragged(24, 14)
    got = model(ids, attention)
    small(False)
    assert torch.allclose(got, model(ids, attention), atol=1e-5)


def test_pieces_in_the_wrong_order_would_show(tiny_gpt2, small, monkeypatch):
    model, (ids, attention) = tiny_gpt2(), ragged(24, 14)
    want = token_logps(model, ids, attention)
    twin = frozen_copy(model)
    assert torch.equal(token_logps(twin, ids, attention), want.detach())
    back = forward.next_token_logits  # the order of the rows is lost on the way back
    monkeypatch.setattr(logprobs, "next_token_logits",
                        lambda *a: ((x, y, (row.flip(0), column)) for x, y, (row, column) in back(*a)))
    assert (token_logps(copy.deepcopy(twin), ids, attention) - want).abs().max() > 0.1
