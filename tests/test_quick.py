"""What makes things quick changes no number: the cache in place, the short GPT-2 step, batches taken into pieces."""

import copy

import pytest
import torch

from rlhf_minimal import decoding, forward, logprobs
from rlhf_minimal.forward import hidden_states, pieces
from rlhf_minimal.logprobs import token_entropy, token_logps
from rlhf_minimal.models import frozen_copy, lora
from rlhf_minimal.reward_model import RewardModel
from rlhf_minimal.sampling import _draw, sample
from rlhf_minimal.tensors import pad_left, pad_right

PROMPTS = [[3, 1, 4], [1, 5, 9, 2, 6, 5, 3], [8]]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ragged(rows, longest, seed=0, pad=pad_right):
    """Rows of 2 to `longest` random ids."""
    g = seeded(seed)
    sizes = torch.randint(2, longest + 1, (rows,), generator=g).tolist()
    return pad([torch.randint(1, 20, (n,), generator=g).tolist() for n in sizes])


# --- sampling ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("prompts", [PROMPTS, [[3, 1], [4, 1]]])
def test_the_short_step_samples_what_the_models_own_forward_does(tiny_gpt2, monkeypatch, dtype, prompts):
    model, calls = tiny_gpt2(vocab=12).to(dtype), []
    kwargs = dict(n=8, max_new_tokens=12, eos_id=[0, 3])
    own = model.forward
    monkeypatch.setattr(model, "forward", lambda *args, **kw: calls.append(1) or own(*args, **kw))
    want = sample(model, prompts, **kwargs, generator=seeded())
    assert len(calls) == want.mask.shape[1] > 5
    monkeypatch.undo()
    got = sample(model, prompts, **kwargs, generator=seeded())
    assert torch.equal(got.ids, want.ids) and torch.equal(got.mask, want.mask) and want.mask.sum(1).unique().numel() > 3
    assert torch.allclose(got.logp_old, want.logp_old, atol=1e-5)


def test_the_short_step_is_for_plain_gpt2_alone(tiny_gpt2, tiny_llama):
    def quick(model):
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        out = base(input_ids=torch.tensor([[3, 1]]), use_cache=True)
        return decoding.gpt2_step(model, decoding.with_room(out.past_key_values, 4), torch.ones(1, 2)) is not None

    assert quick(tiny_gpt2()) and not quick(tiny_llama()) and not quick(lora(tiny_gpt2()))
    hooked, adapted, replaced = tiny_gpt2(), tiny_gpt2(), tiny_gpt2()
    hooked.transformer.h[0].mlp.register_forward_hook(lambda *_: None)
    lora(adapted)  # in place: what is given back is a wrapper
    replaced.config.scale_attn_weights = False
    assert not quick(hooked) and not quick(adapted) and not quick(replaced)


def test_adapters_are_sampled_with(tiny_gpt2):
    model = lora(tiny_gpt2())
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5, generator=seeded())
    out = sample(model, PROMPTS, n=4, max_new_tokens=8, eos_id=0, generator=seeded())
    again = out.completion_logps(token_logps(model, out.ids, out.attention)).detach()
    assert torch.allclose(again, out.logp_old, atol=1e-4)
    bare = out.completion_logps(token_logps(tiny_gpt2(), out.ids, out.attention)).detach()
    assert (bare - out.logp_old).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["tiny_gpt2", "tiny_llama"])
def test_rows_move_into_gaps_with_all_that_is_theirs(request, kind, monkeypatch):
    model, moved = request.getfixturevalue(kind)(vocab=12), []
    kwargs = dict(n=8, max_new_tokens=12, eos_id=[0, 3])
    monkeypatch.setattr(decoding, "COMPACT", 0.0)  # never
    want = sample(model, PROMPTS, **kwargs, generator=seeded())
    move = decoding.Slots.move
    monkeypatch.setattr(decoding.Slots, "move", lambda self, *args: moved.append(len(args[0])) or move(self, *args))
    for share in (0.5, 0.75, 1.0):
        monkeypatch.setattr(decoding, "COMPACT", share)
        got = sample(model, PROMPTS, **kwargs, generator=seeded())
        assert torch.equal(got.ids, want.ids) and torch.allclose(got.logp_old, want.logp_old, atol=1e-5)
    assert max(moved) > 0
    monkeypatch.setattr(decoding.Slots, "move", lambda self, to, source, rows: move(self, to[:0], source[:0], rows))
    wrong = sample(model, PROMPTS, **kwargs, generator=seeded())  # the order changes, the cache does not follow
    again = wrong.completion_logps(token_logps(model, wrong.ids, wrong.attention)).detach()
    assert (again - wrong.logp_old).abs().max() > 0.01


def test_drop_fills_the_gaps_from_the_end(tiny_gpt2):
    out = tiny_gpt2()(input_ids=torch.arange(1, 7)[:, None].repeat(1, 2), use_cache=True)
    old = out.past_key_values.layers[0].keys.clone()
    cache = decoding.with_room(out.past_key_values, 1)
    order = decoding.drop(cache, torch.tensor([1, 0, 1, 0, 1, 1]).bool())
    assert order.tolist() == [0, 4, 2, 5] and torch.equal(cache.layers[0].keys, old[order])


def test_a_wide_vocabulary_is_drawn_from_as_it_is(monkeypatch):
    """In two steps, and still every token by its own share, the last and lonely one too."""
    logits = torch.randn(1, 700, generator=seeded(), dtype=torch.float64) * 2
    logits[0, 256:512] = float("-inf")  # a whole block
    u = torch.cat([(torch.arange(4000) + 0.5) / 4000, torch.tensor([0.0, 1 - 2**-53])]).double()
    want = _draw(logits.expand(len(u), -1), 1.0, u)
    monkeypatch.setattr(decoding, "WIDE", 0)
    got = _draw(logits.expand(len(u), -1), 1.0, u)
    assert torch.equal(got[0], want[0]) and torch.allclose(got[1], want[1])
    assert got[0].max() == 699 and not ((got[0] >= 256) & (got[0] < 512)).any() and got[0].unique().numel() > 150


# --- pieces -----------------------------------------------------------------------------------------------------------
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
