"""What is asked of a model before it is used: is chance switched off, does a token see those after it, how long may a row be."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch

from rlhf_minimal import families, models
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.sampling import sample
from rlhf_minimal.tensors import pad_right
from tools import families as laws
from tools.families import ROWS, tiny


@pytest.mark.parametrize("family", ["opt", "biogpt", "xglm", "gpt_bigcode", "falcon", "bloom", "bart", "mpt", "ctrl", "jetmoe"])
def test_dropout_written_in_any_way_is_off(family):
    """Layers, functions with an attribute, and whole layers that are skipped."""
    model = tiny(family).train()
    assert not families.is_steady(copy.deepcopy(model)) or family in ("bloom", "mpt", "ctrl")
    state = torch.get_rng_state()
    assert models.disable_dropout(model) is model and families.is_steady(model) and model.training
    assert torch.equal(state, torch.get_rng_state())


def test_chance_that_no_dropout_explains_is_refused():
    model = tiny("qwen2")
    layer = model.model.layers[0].mlp
    layer.register_forward_hook(lambda module, _, out: out + torch.randn_like(out) if module.training else out)
    with pytest.raises(ValueError, match="draws random numbers in training mode"):
        models.disable_dropout(model)


def test_an_encoder_is_refused_wherever_it_comes_in(tmp_path):
    model = tiny("roberta")
    ids, attention = pad_right(ROWS)
    for call in (lambda: token_logps(model, ids, attention), lambda: sample(model, ROWS, max_new_tokens=2, eos_id=2)):
        with pytest.raises(ValueError, match="RobertaForCausalLM a token sees those after it"):
            call()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="RobertaForCausalLM a token sees those after it"):
        models.load(tmp_path)
    decoder = tiny("roberta", is_decoder=True)
    laws.forward_law(decoder)  # positions that begin at 2
    laws.sampling_law(decoder)


def test_a_model_of_two_sides_is_refused_by_name(tmp_path):
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="T5ForConditionalGeneration, which transformers does not load as a causal"):
        models.load(tmp_path)


def test_sizes_are_those_of_the_language_model_inside():
    model = tiny("gemma4")
    assert families.text_config(model) is model.config.text_config and families.vocab_size(model) == 64
    assert families.context_length(model) == 128 and families.hidden_size(model) == 32
    assert families.context_length(tiny("mpt")) == 2048 and families.context_length(tiny("mamba")) is None


def test_a_value_that_depends_on_the_length_of_its_row_is_refused():
    model = tiny("qwen2")
    true = model.model.embed_tokens.forward
    model.model.embed_tokens.forward = lambda ids: true(ids) * ids.shape[1] / 12
    with pytest.raises(ValueError, match="depends on how long its row is"):
        families.check_causal(model)


def test_modes_come_back_after_an_error():
    model = tiny("gpt2")
    model.transformer.drop.train()
    with pytest.raises(KeyError), families.in_mode(model, training=True):
        assert all(module.training for module in model.modules())
        raise KeyError
    assert model.transformer.drop.training and not model.transformer.h[0].training and not model.training


# ---- what is asked, by models that answer as they are told ----


class Told(torch.nn.Module):
    """A language model of 64 tokens whose k-th forward returns the k-th answer (the last one from then on)."""

    def __init__(self, *answers):
        super().__init__()
        self.table, self.answers, self.modes = torch.nn.Embedding(64, 2), answers, []

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids):
        x = self.answers[min(len(self.modes), len(self.answers) - 1)]
        self.modes.append(self.training)
        if isinstance(x, Exception):
            raise x
        return SimpleNamespace(logits=x)


SPREAD = torch.tensor([[[9.0, 11.0], [9.0, 11.0]]])  # mean 10, deviation 1


def with_config(**settings):
    model = torch.nn.Module()
    model.config = SimpleNamespace(**settings)
    return model


def test_a_model_is_found_inside_its_wrappers():
    inner = torch.nn.Linear(2, 2)
    wrapped, adapted = torch.nn.DataParallel(inner), torch.nn.Module()
    twice = torch.nn.Module()
    twice._orig_mod = wrapped
    assert families.unwrap(inner) is families.unwrap(wrapped) is families.unwrap(twice) is inner
    adapted.get_base_model = lambda: inner
    outer = torch.nn.DataParallel(adapted)
    assert families.unwrap(outer) is adapted and families.base_of(outer) is inner and families.base_of(inner) is inner


def test_sizes_of_a_model_that_does_not_tell():
    bare = torch.nn.Linear(2, 2)
    assert families.vocab_size(bare) is families.context_length(bare) is families.text_config(bare) is None
    assert families.vocab_size(Told(SPREAD)) == 64


@pytest.mark.parametrize("settings, want", [
    (dict(max_position_embeddings=5, max_seq_len=7), 5), (dict(max_position_embeddings=-1, max_seq_len=7), 7),
    (dict(max_position_embeddings=0, max_seq_len=None), None), (dict(max_seq_len=1), 1), ({}, None)])
def test_the_context_is_the_first_length_above_0(settings, want):
    assert families.context_length(with_config(**settings)) == want


ROPE = {"rope_type": "longrope", "original_max_position_embeddings": 16}


@pytest.mark.parametrize("settings, want", [
    (dict(rope_parameters=ROPE), 16), (dict(rope_parameters=ROPE | {"rope_type": "default"}), None),
    (dict(rope_parameters=None), None), ({}, None),
    (dict(rope_parameters={"full": ROPE, "window": ROPE | {"original_max_position_embeddings": 8}, "theta": 1.0}), 8),
    (dict(rope_parameters={"full": ROPE, "window": {"rope_type": "default", "original_max_position_embeddings": 8}}), 16),
    (dict(rope_parameters={"rope_type": "longrope"}, original_max_position_embeddings=12), 12),
    (dict(rope_parameters={"rope_type": "longrope"}), None)])
def test_the_length_at_which_frequencies_change(settings, want):
    assert families.switch_length(with_config(**settings)) == want


def test_every_number_that_is_named_after_dropout_is_set_to_0_and_no_other():
    values = {"attn_pdrop": 0.1, "router_jitter_noise": 0.2, "Dropout": 0.3, "eps": 0.5, "drop_layers": 2, "dropout": "no"}
    families.switch_off_numbers(values)
    assert values == {"attn_pdrop": 0.0, "router_jitter_noise": 0.0, "Dropout": 0.0, "eps": 0.5, "drop_layers": 2, "dropout": "no"}
    model = torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Linear(2, 2), torch.nn.AlphaDropout(0.2))
    model[1].activation_dropout, model[1].p = 0.1, 0.7
    families.switch_off(model)
    assert (model[0].p, model[2].p, model[1].activation_dropout, model[1].p) == (0.0, 0.0, 0.0, 0.7)


@pytest.mark.parametrize("answers, steady", [
    ([SPREAD], True), ([SPREAD, SPREAD, SPREAD + 1], False), ([SPREAD + 1, SPREAD], False), ([RuntimeError()], True),
    ([SPREAD, SPREAD + 0.6e-4], True), ([SPREAD, SPREAD + 1.5e-4], False)])
def test_steady_is_a_model_whose_forwards_in_training_mode_agree(answers, steady):
    model = Told(*(x.double() if torch.is_tensor(x) else x for x in answers)).double().eval()
    assert families.is_steady(model) is steady
    assert all(model.modes) and len(model.modes) >= (1 if isinstance(answers[0], Exception) else 3) and not model.training


def test_numbers_of_the_configuration_are_set_to_0_only_where_they_are_read():
    """The number is saved with the model: it stays where a layer's own number was all that spoke."""
    model = tiny("qwen2")
    layer = model.model.layers[0].mlp
    model.config.my_dropout = layer.config.my_dropout = 0.5
    families.switch_off(model)
    families.check_steady(model)
    assert model.config.my_dropout == 0.5
    read = tiny("qwen2")
    layer = read.model.layers[0].mlp
    read.config.my_dropout = 0.5
    layer.register_forward_hook(lambda m, _, out: out + m.config.my_dropout * torch.randn_like(out) if m.training else out)
    families.switch_off(read)
    assert not families.is_steady(read)
    families.check_steady(read)
    assert read.config.my_dropout == 0.0 and families.is_steady(read)


def test_a_model_is_asked_once(monkeypatch, tiny_gpt2):
    model, asked = tiny("qwen2", num_hidden_layers=1), []
    families.switch_off(model)
    monkeypatch.setattr(families, "is_steady", lambda x: asked.append("steady") or True)
    out = families.main_output
    monkeypatch.setattr(families, "main_output", lambda x: asked.append("causal") or out(x))
    for _ in range(2):
        families.check_steady(model)
        families.check_causal(model)
    assert asked == ["steady", "causal", "causal", "causal"]
    families.check_steady(tiny_gpt2())  # known by hand
    families.check_causal(tiny_gpt2())
    assert len(asked) == 4


def test_known_are_two_families_and_whatever_is_not_of_transformers(tiny_gpt2, tiny_llama):
    assert families.is_known(tiny_gpt2()) and families.is_known(tiny_llama()) and families.is_known(torch.nn.Linear(2, 2))
    assert families.is_known(torch.nn.DataParallel(tiny_gpt2().transformer)) and not families.is_known(tiny("mistral"))
    changing = tiny_llama()
    changing.config.rope_parameters = ROPE
    assert not families.is_known(changing)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 9, 20, 64, 1000])
def test_the_ids_that_are_tried_are_of_every_vocabulary(size):
    model = Told(SPREAD)
    model.table = torch.nn.Embedding(size, 2)
    ids = families.probe_ids(model, 28)
    assert ids.shape == (1, 28) and ids.dtype == torch.long and 0 <= ids.min() and ids.max() < size
    if size >= 9:  # ordinary ones: not those at the ends, and not one alone
        assert ids.min() >= 3 and ids.max() < size - 1 and ids.unique().numel() >= min(size - 4, 12) > 1


def test_the_output_is_logits_or_hidden_states():
    assert families.main_output(SimpleNamespace(last_hidden_state=3)) == 3
    assert families.main_output(SimpleNamespace(logits=None, last_hidden_state=3)) == 3
    assert families.main_output(SimpleNamespace(logits=2, last_hidden_state=3)) == 2


def test_a_model_that_also_sees_is_told_that_all_is_text():
    class Sees(torch.nn.Module):
        def forward(self, input_ids, token_type_ids=None):
            """Takes one of the two names."""

    model, ids = Sees(), torch.tensor([[3, 1]])
    text = SimpleNamespace()
    model.config = SimpleNamespace(get_text_config=lambda: text)
    told = families.zero_types(model, ids)
    assert list(told) == ["token_type_ids"] and told["token_type_ids"].tolist() == [[0, 0]]
    model.config = text
    assert families.zero_types(model, ids) == {} == families.zero_types(torch.nn.Linear(2, 2), ids)


def test_what_a_forward_takes():
    def named(ids, use_cache=None):
        """By name."""

    def any_name(ids, **more):
        """Any name: only use_cache is taken for one of them."""

    def neither(ids):
        """Neither."""

    asked = [[families.takes(f, name) for name in ("ids", "use_cache", "logits_to_keep")] for f in (named, any_name, neither)]
    assert asked == [[True, True, False], [True, True, False], [True, False, False]]


@pytest.mark.parametrize("leak, refused", [(0.0, False), (3e-4, True)])
def test_a_trace_of_the_next_token_is_found(leak, refused):
    """A tenth of what two ways of computing the same may differ by; the model's own dropout does not speak."""
    model = tiny("qwen2").train()
    inner = model.forward

    def seeing(input_ids, **more):
        out = inner(input_ids=input_ids, **more)
        later = input_ids.roll(-1, 1).float() / 64
        out.logits = out.logits + leak * out.logits.std() * 8 * later[..., None]
        return out

    model.forward = seeing
    if refused:
        with pytest.raises(ValueError, match="sees those after it"):
            families.check_causal(model)
    else:
        families.check_causal(model)


def test_a_short_context_is_not_left():
    model = tiny("gpt_neo", max_position_embeddings=16)
    families.check_causal(model)
    with pytest.raises(IndexError):
        model(input_ids=families.probe_ids(model, 28))  # control: it would have been


@pytest.mark.parametrize("off, share, same", [
    (0.15, 0.1, True), (0.25, 0.1, False), (0.9, 0.5, True), (1.1, 0.5, False), (0.0, 0.0, True)])
def test_tensors_are_the_same_up_to_a_share_of_their_spread(off, share, same):
    a = torch.tensor([1000.0, 1004.0, 1000.0, 1004.0])  # deviation 2
    b = a.clone()
    b[2] += off
    assert families.same_up_to(share, a, b) is same and families.same_up_to(share, a - 1000, b - 1000) is same


def test_what_is_not_finite_is_the_same_where_it_stands_in_both():
    """Logits of tokens that a model rules out are -inf; they belong to no spread."""
    a = torch.tensor([1.0, 3.0, -math.inf, math.nan])
    assert families.same_up_to(0.1, a, a) and families.same_up_to(0.1, a, a + 0.09) and not families.same_up_to(0.1, a, a + 0.11)
    assert not families.same_up_to(0.1, a[:2], a[2:]) and not families.same_up_to(0.1, a, a[[0, 1, 3, 2]])
    assert families.same_up_to(0.1, a[3:], a[3:])


@pytest.mark.parametrize("dtype, want", [
    (torch.float32, 2e-3), (torch.float64, 2e-3), (torch.bfloat16, 5e-2), (torch.float16, 5e-2)])
def test_how_far_two_ways_of_computing_may_differ(dtype, want):
    assert families.noise(torch.nn.Linear(2, 2).to(dtype)) == want


def token(text, special=True):
    return SimpleNamespace(content=text, special=special)


def test_a_reward_model_pads_with_the_first_special_token_that_is_not_the_end():
    model = with_config(pad_token_id=9)
    added = {7: token("<b>"), 1: token("<eos>"), 0: token("<x>", special=False), 3: token("<a>")}
    tokenizer = SimpleNamespace(eos_token_id=1, pad_token="<eos>", pad_token_id=3, added_tokens_decoder=added)
    families.mark_padding(model, tokenizer)
    assert tokenizer.pad_token == "<a>" and model.config.pad_token_id == 3
    lonely = SimpleNamespace(eos_token_id=1, pad_token="<eos>", pad_token_id=1, added_tokens_decoder={1: token("<eos>")})
    families.mark_padding(model, lonely)
    assert lonely.pad_token == "<eos>" and model.config.pad_token_id is None
