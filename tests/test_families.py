"""What is asked of a model before it is used: is chance switched off, does a token see those after it, how long may a row be."""

import copy

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
