"""Corners of decoding.py that its other tests pass by; by mutation testing."""

from types import SimpleNamespace

import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from rlhf_minimal import decoding
from rlhf_minimal.sampling import sample

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
