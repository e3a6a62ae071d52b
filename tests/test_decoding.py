"""What makes sampling quick changes no number: the cache in place, the short GPT-2 step, rows that move."""

from types import SimpleNamespace

import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from rlhf_minimal import decoding
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import lora
from rlhf_minimal.sampling import draw_tokens, sample

IDS = torch.tensor([[3, 1, 4], [1, 5, 9], [2, 6, 5]])


def cache_of(model):
    return model(input_ids=IDS, use_cache=True).past_key_values


def test_two_tokens_at_once_are_written_where_they_belong(tiny_gpt2):
    plain, quick = cache_of(tiny_gpt2()), decoding.with_room(cache_of(tiny_gpt2()), 4)
    new = torch.randn(3, 2, 2, 16, generator=torch.Generator().manual_seed(0))
    for cache in (plain, quick):
        cache.layers[1].update(new, 2 * new)
    assert torch.equal(plain.layers[1].keys, quick.layers[1].keys) and torch.equal(plain.layers[1].values, quick.layers[1].values)


def test_only_a_plain_growing_cache_is_given_room(tiny_gpt2):
    class Other(DynamicLayer):
        """A kind of layer of which nothing is known here."""

    mixed = cache_of(tiny_gpt2())
    mixed.layers[1].__class__ = Other
    for cache in (mixed, DynamicCache(), SimpleNamespace(layers=mixed.layers[:1])):
        kept = list(cache.layers)
        assert decoding.with_room(cache, 4).layers == kept and not decoding.in_place(cache)
    assert not decoding.in_place(SimpleNamespace()) and not decoding.in_place(SimpleNamespace(layers=None))


def test_rows_of_any_other_cache_are_selected_in_order(tiny_gpt2):
    cache = cache_of(tiny_gpt2())
    old = cache.layers[0].keys.clone()
    assert decoding.drop(cache, torch.tensor([False, True, True])).tolist() == [1, 2]
    assert torch.equal(cache.layers[0].keys, old[1:])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_each_weight_has_its_own_place_in_the_short_step(tiny_gpt2, temperature):
    """Fresh norms are all alike; trained ones are not."""
    model = tiny_gpt2()
    for i, weight in enumerate(model.parameters()):
        torch.nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.3, generator=torch.Generator().manual_seed(i))
    drawn = sample(model, [[3, 1, 4], [1]], n=3, max_new_tokens=6, eos_id=0, temperature=temperature,
                   generator=torch.Generator().manual_seed(0))
    logits = model(input_ids=drawn.ids, attention_mask=drawn.attention.long(),
                   position_ids=(drawn.attention.cumsum(1) - 1).clamp(min=0).long()).logits / temperature
    logp = logits.log_softmax(2)[:, :-1].gather(2, drawn.ids[:, 1:, None])[:, drawn.prompt_len - 1:, 0]
    on = drawn.mask.bool()
    assert torch.allclose(drawn.logp_old[on], logp[on], atol=1e-4)


PROMPTS = [[3, 1, 4], [1, 5, 9, 2, 6, 5, 3], [8]]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


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
    again = out.on_completion(token_logps(model, out.ids, out.attention)).detach()
    assert torch.allclose(again, out.logp_old, atol=1e-4)
    bare = out.on_completion(token_logps(tiny_gpt2(), out.ids, out.attention)).detach()
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
    again = wrong.on_completion(token_logps(model, wrong.ids, wrong.attention)).detach()
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
    want = draw_tokens(logits.expand(len(u), -1), 1.0, u)
    monkeypatch.setattr(decoding, "WIDE", 0)
    got = draw_tokens(logits.expand(len(u), -1), 1.0, u)
    assert torch.equal(got[0], want[0]) and torch.allclose(got[1], want[1])
    assert got[0].max() == 699 and not ((got[0] >= 256) & (got[0] < 512)).any() and got[0].unique().numel() > 150
