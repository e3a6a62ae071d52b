"""What makes sampling quick changes no number: the cache in place, the short GPT-2 step, rows that move."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.pytorch_utils import Conv1D

from rlhf_minimal import decoding, sampling
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import lora
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import draw_tokens, sample
from tools.families import tiny

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


# ---- whether a cache can be used: asked on a few tokens, and again on what was drawn ----


def drawn_from(model, temperature=1.0):
    """Nine rows of 12 places from prompts of 1, 3 and 7 ids, and `model` as one whose cache was found to agree."""
    drawn = sample(model, PROMPTS, n=3, max_new_tokens=5, eos_id=0, temperature=temperature, generator=seeded())
    assert drawn.ids.shape == (9, 12)
    decoding._CACHES[model] = True
    return drawn


def off_by(drawn, delta, rows=slice(None)):
    logp = drawn.logp_old.clone()
    logp[rows] += delta * drawn.mask[rows]
    return replace(drawn, logp_old=logp)


def told(model, drawn, temperature=1.0, before=0):
    """What is said of a rollout after one of `before` places was tried."""
    decoding._CACHES[model], decoding._TRIED[model] = True, before
    wrong = decoding.cache_was_wrong(model, drawn, temperature)
    assert decoding._CACHES[model] is not wrong
    return wrong


@pytest.mark.parametrize("delta, wrong", [(0.0, False), (7e-4, False), (-7e-4, False), (1.5e-3, True), (-1.5e-3, True)])
def test_a_cache_is_wrong_from_a_thousandth_per_token(tiny_gpt2, delta, wrong):
    model = tiny_gpt2().train()  # its dropout does not speak
    drawn = drawn_from(model)
    assert told(model, off_by(drawn, delta)) is wrong and model.training


@pytest.mark.parametrize("delta, wrong", [(0.04, False), (0.15, True)])
def test_in_half_precision_a_cache_is_wrong_from_a_tenth(tiny_gpt2, delta, wrong):
    model = tiny_gpt2(initializer_range=0.1).bfloat16()
    drawn = drawn_from(model)
    drawn = replace(drawn, logp_old=completion_logps(model, drawn).detach())
    assert told(model, off_by(drawn, delta)) is wrong


def test_the_shortest_and_the_longest_prompt_are_scored(tiny_gpt2):
    model = tiny_gpt2()
    drawn = drawn_from(model)
    assert drawn.group.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert [told(model, off_by(drawn, 1.0, slice(3 * k, 3 * k + 3))) for k in range(3)] == [False, True, True]


@pytest.mark.parametrize("temperature", [0, 2.0])
def test_a_rollout_is_scored_at_its_own_temperature(tiny_gpt2, temperature):
    model = tiny_gpt2()
    drawn = drawn_from(model, temperature)
    assert told(model, drawn, temperature) is False
    assert told(model, drawn, 0.5) is True  # control: another temperature


def test_a_rollout_is_scored_where_it_is_twice_as_long_as_those_before(tiny_gpt2):
    model = tiny_gpt2()
    bad = off_by(drawn_from(model), 1.0)
    assert told(model, bad, before=6) is True and told(model, bad, before=7) is False
    assert told(model, bad) is True and decoding._TRIED[model] == 12


@pytest.mark.parametrize("before", [False, None])
def test_a_cache_that_is_not_used_is_not_asked_about(tiny_gpt2, before):
    model = tiny_gpt2()
    bad = off_by(drawn_from(model), 1.0)
    decoding._CACHES[model] = before
    assert decoding.cache_was_wrong(model, bad, 1.0) is False and decoding._CACHES[model] is before


@pytest.mark.parametrize("kind", ["tiny_gpt2", "tiny_llama"])
def test_a_cache_that_goes_on_as_each_row_alone_agrees(request, kind):
    assert decoding.cache_agrees(request.getfixturevalue(kind)()) is True


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("row", [0, -1])
def test_one_wrong_row_of_one_call_is_found(tiny_llama, monkeypatch, call, row):
    true, calls = decoding.cached_forward, []

    def wrong(*args, **more):
        out = true(*args, **more)
        if len(calls) == call:
            out.logits = out.logits.clone()
            out.logits[row, -1] += torch.arange(20) / 5
        calls.append(1)
        return out

    monkeypatch.setattr(decoding, "cached_forward", wrong)
    assert decoding.cache_agrees(tiny_llama()) is False and len(calls) == 2


@pytest.mark.parametrize("setting", [dict(layer_types=["full_attention", "chunked_attention"]), dict(index_topk=4)])
def test_attention_that_a_few_tokens_do_not_show_is_not_trusted(tiny_llama, setting):
    model = tiny_llama()
    for name, x in setting.items():
        setattr(model.config, name, x)
    assert decoding.cache_agrees(model) is False


def test_only_caches_of_known_layers_are_trusted(tiny_llama, monkeypatch):
    model = tiny_llama(use_cache=True)
    assert decoding.cache_agrees(model, (DynamicLayer,)) is True and decoding.cache_agrees(model, ()) is False
    true = decoding.cached_forward

    class Other(DynamicLayer):
        """A kind of layer of which nothing is known here."""

    class OtherCache(DynamicCache):
        """A kind of cache of which nothing is known here."""

    def with_layer(*args, **more):
        out = true(*args, **more)
        out.past_key_values.layers[-1].__class__ = Other
        return out

    def with_cache(*args, **more):
        out = true(*args, **more)
        out.past_key_values.__class__ = OtherCache
        return out

    for wrong in (with_layer, with_cache):
        monkeypatch.setattr(decoding, "cached_forward", wrong)
        assert decoding.cache_agrees(model) is False


def longrope(switch=16):
    """A model that says of itself that its rotary frequencies change at a length; nothing else is asked of it."""
    model = torch.nn.Module()
    rope = {"rope_type": "longrope", "original_max_position_embeddings": switch}
    model.config = SimpleNamespace(rope_parameters=rope)
    return model


@pytest.mark.parametrize("lengths, steps, fits", [
    ((3, 10), 6, True), ((3, 10), 7, False), ((17, 20), 6, True), ((16, 20), 6, False), ((17, 17), 1, True), ((3, 17), 1, False),
])
def test_rows_on_one_side_of_a_change_of_frequencies_may_use_a_cache(lengths, steps, fits):
    attention = (torch.arange(20) < torch.tensor(lengths)[:, None]).float()
    assert decoding.has_cache(longrope(), attention, steps) is fits


def test_a_model_is_asked_once_and_one_that_is_known_never(tiny_gpt2, monkeypatch):
    asked, answers = [], iter([True, False])
    monkeypatch.setattr(decoding, "cache_agrees", lambda model: asked.append(model) or next(answers))
    ones, unknown = torch.ones(2, 3), [tiny("mistral", num_hidden_layers=1) for _ in range(3)]
    assert decoding.has_cache(tiny_gpt2(), ones, 2) is True and decoding.has_cache(torch.nn.Linear(1, 1), ones, 2) is True
    assert asked == []
    assert [decoding.has_cache(model, ones, 2) for model in unknown[:2] * 2] == [True, False, True, False]
    assert asked == unknown[:2]
    assert decoding.has_cache(unknown[2], ones, 2) is False  # the question itself fails: no more answers


def test_a_model_without_a_cache_samples_the_same(tiny_gpt2, monkeypatch):
    model, kwargs = tiny_gpt2(vocab=12), dict(n=4, max_new_tokens=8, eos_id=[0, 3])
    want = sample(model, PROMPTS, **kwargs, generator=seeded())
    monkeypatch.setattr(sampling, "has_cache", lambda *_: False)
    monkeypatch.setattr(sampling, "Decoder", None)
    got = sample(model, PROMPTS, **kwargs, generator=seeded())
    assert torch.equal(got.ids, want.ids) and torch.allclose(got.logp_old, want.logp_old, atol=1e-5)


@pytest.mark.parametrize("room, rows, dead, drops", [
    (False, 16, 3, False), (False, 16, 4, True), (False, 3, 1, True), (False, 3, 0, False),
    (True, 16, 1, True), (True, 32, 1, False), (True, 32, 2, True), (True, 16, 0, False),
])
def test_rows_are_dropped_where_it_pays(monkeypatch, room, rows, dead, drops):
    """A cache is copied from a quarter of dead rows on; where rows move in place, from a sixteenth on."""
    dropped = []
    monkeypatch.setattr(decoding, "in_place", lambda cache: room)
    monkeypatch.setattr(decoding, "drop", lambda cache, live: dropped.append(int(live.sum())) or live.nonzero().flatten())
    monkeypatch.setattr(decoding, "cached_forward", lambda model, ids, *_, past_key_values: SimpleNamespace(
        logits=torch.arange(len(ids)).view(-1, 1, 1).float(), past_key_values=past_key_values))
    decoder = decoding.Decoder(torch.nn.Linear(1, 1), SimpleNamespace(), torch.ones(rows, 2), 3)
    live = torch.arange(rows) >= dead
    logits = decoder(torch.zeros(rows, dtype=torch.long), live)
    assert dropped == [rows - dead] * drops
    assert logits[:, 0].tolist() == [float(i if drops else i + dead) for i in range(rows - dead)]


class Head(torch.nn.Linear):
    """A head of another class."""


class Norm(torch.nn.LayerNorm):
    """A norm of another class."""


class Embedding(torch.nn.Embedding):
    """An embedding of another class."""


class Linear(Conv1D):
    """A layer of another class."""


def kind(place, other):
    """Make the module at `place` one of another class, of which nothing is known."""
    def spoil(model):
        part = model.get_submodule(place)
        part.__class__ = other or type("Other", (type(part),), {})
    return spoil


def without_bias(place):
    def spoil(model):
        model.get_submodule(place).bias = None
    return spoil


def with_setting(name, x):
    return lambda model: setattr(model.config, name, x)


LAYERS = [f"transformer.h.1.{x}" for x in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")]
SPOILED = {
    **{f"kind of {x}": kind(x, Linear) for x in LAYERS}, **{f"bias of {x}": without_bias(x) for x in LAYERS},
    **{f"kind of {x}": kind(f"transformer.{x}", Norm) for x in ("ln_f", "h.0.ln_1", "h.1.ln_2")},
    **{f"kind of {x}": kind(f"transformer.{x}", Embedding) for x in ("wte", "wpe")},
    **{f"kind of {x}": kind(x, None) for x in ("transformer", "transformer.h.1", "transformer.h.0.attn", "transformer.h.1.mlp")},
    "head": kind("lm_head", Head), "model": lambda model: setattr(model, "__class__", type("Other", (type(model),), {})),
    **{name: with_setting(name, x) for name, x in (
        ("scale_attn_weights", False), ("scale_attn_by_inverse_layer_idx", True), ("add_cross_attention", True))},
    "norm of words": lambda model: setattr(model.transformer.wte, "max_norm", 0.1),
    "norm of places": lambda model: setattr(model.transformer.wpe, "max_norm", 0.1),
    "bias of head": lambda model: setattr(model.lm_head, "bias", torch.nn.Parameter(torch.zeros(20))),
    "scale": lambda model: setattr(model.transformer.h[1].attn, "scaling", 0.2),
    "dtype": lambda model: model.transformer.ln_f.double(),
    "hook": lambda model: model.transformer.h[1].attn.register_forward_hook(lambda *_: None),
    "hook before": lambda model: model.transformer.drop.register_forward_pre_hook(lambda *_: None),
    "forward": lambda model: setattr(model.transformer.h[0].mlp, "forward", lambda x: x),
}


@pytest.mark.parametrize("name", SPOILED)
def test_whatever_is_replaced_is_noticed(tiny_gpt2, name):
    model = tiny_gpt2()
    cache = decoding.with_room(cache_of(model), 2)
    assert decoding.is_plain_gpt2(model, cache)
    SPOILED[name](model)
    assert not decoding.is_plain_gpt2(model, cache)


def test_the_short_step_needs_its_own_cache_and_no_autocast(tiny_gpt2):
    model = tiny_gpt2()
    assert not decoding.is_plain_gpt2(model, cache_of(model))
    cache = decoding.with_room(cache_of(model), 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not decoding.is_plain_gpt2(model, cache)
    assert decoding.is_plain_gpt2(model, cache)
