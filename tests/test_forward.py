"""The forward pass behind the log-probabilities: hidden states under padding, batches taken into pieces."""

import copy
from types import SimpleNamespace

import pytest
import torch

from rlhf_minimal import forward, logprobs, models
from rlhf_minimal.forward import hidden_states, pieces
from rlhf_minimal.logprobs import token_entropy, token_logps
from rlhf_minimal.models import frozen_copy
from rlhf_minimal.reward_model import RewardModel
from rlhf_minimal.tensors import pad_left, pad_right
from tests.laws.test_families import longrope
from tools.families import tiny

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


# ---- which places are computed, and what the model is called with ----


def heads_of(model):
    """The numbers of columns in which the model's head computes logits, as they come."""
    seen = []
    model.lm_head.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0].shape[1]))
    return seen


def test_logits_are_computed_only_in_columns_that_hold_a_wanted_place(tiny_gpt2, small):
    model = tiny_gpt2()
    seen, (ids, attention) = heads_of(model), pad_left([[3, 1, 4, 1, 5], [9, 2]])
    scored = torch.zeros(2, 4, dtype=torch.bool)
    scored[:, 3] = True  # the last token of each row: columns 3 and 0, once both stand at the left
    want = token_logps(model, ids, attention)
    seen.clear()
    (logits, tokens, (rows, columns)), = forward.next_token_logits(model, ids, attention, scored)
    assert seen == [2] and logits.shape == (2, 20) and logits.dtype == torch.float32
    assert tokens[rows.argsort()].tolist() == [5, 2] and columns.tolist() == [3, 3]
    got = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    assert torch.allclose(got, want[rows, columns], atol=1e-5)
    small(False)
    assert len(list(forward.next_token_logits(model, ids, attention, scored))) == 1 and seen == [2, 5]  # the batch as it is


@pytest.mark.parametrize("place", [0, 1, 2, 3])
@pytest.mark.parametrize("apart", [True, False])
def test_one_wanted_place_is_scored_and_no_other(tiny_gpt2, small, place, apart):
    small(apart)
    ids, attention = pad_right([[3, 1, 4, 1, 5], [9, 2]])
    scored = torch.arange(4).expand(2, 4) == place
    found = list(forward.next_token_logits(tiny_gpt2(), ids, attention, scored))
    rows, columns = (torch.cat(x).tolist() for x in zip(*(found_at for _, _, found_at in found), strict=True))
    assert sorted(zip(rows, columns, strict=True)) == [(0, place), (1, place)][:2 if place == 0 else 1]


@pytest.mark.parametrize("kind", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("pad", [pad_left, pad_right])
def test_the_next_tokens_logits_are_those_of_each_row_alone(request, kind, pad, small):
    model = request.getfixturevalue(kind)()
    rows = [[3, 1, 4, 1, 5], [9, 2], [6], [5, 3, 5]]
    ids, attention = pad(rows)
    ids, attention = torch.cat([ids, ids[:1]]), torch.cat([attention, attention[:1]])
    attention[4] = torch.tensor([1, 0, 1, 0, 0])  # gaps too
    want = torch.stack([model(input_ids=torch.tensor([row])).logits[0, -1] for row in [*rows, [3, 4]]])
    seen = heads_of(model)
    for apart in (True, False):
        small(apart)
        assert torch.allclose(forward.next_logits(model, ids, attention), want, atol=1e-5)
    assert max(seen) <= 4 and len(seen) == 2  # of five columns those that hold a row's last token


def test_padding_is_an_id_of_every_vocabulary(tiny_gpt2, small):
    """With one token in it, padding of any id becomes 0."""
    model, ids, attention = tiny_gpt2(vocab=1), torch.tensor([[0, 0], [0, -100]]), torch.tensor([[1, 1], [1, 0]])
    for apart in (True, False):
        small(apart)
        assert hidden_states(model, ids, attention).shape == (2, 2, 32)
        assert forward.next_logits(model, ids, attention).shape == (2, 1)


def test_hidden_states_tell_shapes_that_differ(tiny_gpt2):
    with pytest.raises(ValueError, match=r"ids \(1, 5\), attention \(1, 4\)"):
        hidden_states(tiny_gpt2(), IDS, ONES[:, :4])


def test_values_of_pieces_are_put_back_and_the_rest_is_0():
    place = (torch.tensor([1, 0]), torch.tensor([2, 0]))
    got = forward.put_back([(place, torch.tensor([[5.0, 6.0], [7.0, 8.0]]))], (2, 3))
    assert got.shape == (2, 3, 2) and got[1, 2].tolist() == [5, 6] and got[0, 0].tolist() == [7, 8] and got.sum() == 26


@pytest.mark.parametrize("rows, width, count", [
    (32, 32, 4), (31, 33, None), (64, 16, 4), (80, 16, 4), (17, 64, 2), (15, 69, 1), (4, 300, 1), (24, 50, 3)])
def test_the_number_of_pieces(tiny_gpt2, rows, width, count):
    """Eight rows or more in each, four at most; a batch of fewer than 1,024 places is not worth it."""
    real = torch.ones(rows, width, dtype=torch.bool)
    real[0, 1:] = False
    parts = pieces(tiny_gpt2(), real)
    assert (parts if parts is None else len(parts)) == count
    if parts is not None:
        assert all((attended == 1).all() and attended.dtype == torch.long for *_, attended in parts)
        assert [on.shape[1] for _, _, on, _ in parts] == [width] * count and sum(len(x) for x, *_ in parts) == rows


def test_a_row_without_tokens_leaves_the_batch_as_it_is(tiny_gpt2):
    real = torch.ones(32, 40, dtype=torch.bool)
    real[3] = False
    assert pieces(tiny_gpt2(), real) is None
    real[3, 0] = True
    assert len(pieces(tiny_gpt2(), real)) == 4


def test_a_model_that_is_not_known_gets_every_batch_from_the_left():
    model = tiny("mistral", num_hidden_layers=1)
    for real, width in ((torch.tensor([[0, 1, 1], [0, 0, 1]]), 2), (torch.ones(2, 3), 3), (torch.zeros(2, 3), 1)):
        (rows, columns, on, attended), = pieces(model, real.bool())
        assert on.shape == (2, width) and (attended == 1).all() and on.sum() == real.sum()
        assert torch.equal(on.sum(1), real.bool().sum(1)[rows]) and columns.shape == on.shape


@pytest.mark.parametrize("lengths, sides", [((16, 17), [[16], [17]]), ((16, 15), [[15, 16]]), ((17, 18), [[17, 18]])])
def test_rows_on_either_side_of_a_change_of_frequencies_are_apart(lengths, sides):
    model, real = longrope(16), torch.arange(18) < torch.tensor(lengths)[:, None]
    assert [sorted(on.sum(1).tolist()) for _, _, on, _ in pieces(model, real)] == sides
    wrapped = torch.nn.DataParallel(model)
    if len(sides) == 1:
        assert len(pieces(wrapped, real)) == 1
    else:
        with pytest.raises(ValueError, match="16 to 17 tokens.*longrope.*set max_len to 16"):
            pieces(wrapped, real)


def test_a_row_may_fill_the_context_and_no_more(tiny_gpt2):
    model = tiny_gpt2(n_positions=6, n_layer=1)
    ids, ones = torch.arange(1, 8)[None], torch.ones(1, 7)
    assert forward.next_logits(model, ids[:, :6], ones[:, :6]).shape == (1, 20)
    assert forward.next_logits(model, ids, torch.tensor([[0, 1, 1, 1, 1, 1, 1]])).shape == (1, 20)
    with pytest.raises(ValueError, match="a row has 7 tokens, the model's context is 6"):
        forward.next_logits(model, ids, ones)


@pytest.mark.parametrize("ids, size, fits", [
    ([0, 4], 5, True), ([4, 4], 5, True), ([0, 5], 5, False), ([-1, 2], 5, False), ([7, 9], 5, False), ([7, -9], None, True),
    ([], 5, True), ([-2, -1], 5, False)])
def test_ids_lie_in_the_vocabulary(ids, size, fits):
    ids = torch.tensor(ids, dtype=torch.long)
    if fits:
        forward.check_ids(ids, size)
    else:
        with pytest.raises(ValueError, match=f"ids run from {min(ids.tolist())} to {max(ids.tolist())}, the vocabulary has 5"):
            forward.check_ids(ids, size)


def test_a_model_that_does_not_tell_its_vocabulary_is_asked_afterwards():
    def model(input_ids, attention_mask, position_ids, use_cache):
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 5))

    ones = torch.ones(1, 3, dtype=torch.long)
    assert forward.model_logits(model, 4 * ones, ones, ones).shape == (1, 3, 5)
    with pytest.raises(ValueError, match="the vocabulary has 5"):
        forward.model_logits(model, 5 * ones, ones, ones)


def test_what_a_known_model_is_called_with():
    def model(**given):
        return given

    ids, mask = torch.tensor([[3, 1, 4]]), torch.tensor([[0, 1, 1]])
    given = forward.run(model, ids, mask)
    assert given["use_cache"] is False and given["position_ids"].tolist() == [[0, 0, 1]] and given["input_ids"] is ids
    other = torch.tensor([[5, 6, 7]])
    assert forward.run(model, ids, mask, other, more=1) == dict(
        input_ids=ids, attention_mask=mask, position_ids=other, use_cache=False, more=1)


def test_any_other_model_is_called_as_plainly_as_transformers_does(monkeypatch):
    """Its own positions, unless several documents stand in a row; no cache, where it takes the word."""
    monkeypatch.setattr(forward, "is_known", lambda model: False)
    ids, mask, places = torch.tensor([[3, 1]]), torch.ones(1, 2), torch.tensor([[0, 0]])

    def caches(input_ids, use_cache=None, **more):
        return {"use_cache": use_cache, **more}

    def plain(input_ids, attention_mask, position_ids=None):
        return position_ids

    assert forward.run(caches, ids, mask, places) == {"use_cache": False, "attention_mask": mask}
    assert forward.run(plain, ids, mask, places) is None and forward.run(plain, ids, mask[..., None], places) is places
