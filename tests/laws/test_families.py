"""Families of language models in transformers: each keeps the laws or is refused with a reason; docs/models.md says which."""

import copy

import pytest
import torch

from rlhf_minimal import decoding, forward, models
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.reward_model import RewardModel
from rlhf_minimal.sampling import sample
from rlhf_minimal.tensors import pad_left, pad_right
from tools import families
from tools.families import ROWS, alone, tiny

TESTED = (  # of each kind of architecture, dropout and cache some; `python -m tools.families` tries them all
    "gpt2", "gpt_neo", "gpt_neox", "gpt_bigcode", "gptj", "codegen", "opt", "bloom", "biogpt", "xglm", "falcon", "mpt", "ctrl",
    "bart", "openai-gpt", "llama", "llama4_text", "mistral", "mixtral", "ministral3", "qwen2", "qwen3", "qwen3_moe", "qwen3_next",
    "gemma", "gemma2", "gemma3_text", "gemma3n_text", "gemma4_text", "phi", "phi3", "olmo2", "olmoe", "cohere", "cohere2",
    "deepseek_v3",
    "glm4", "granite", "granitemoehybrid", "stablelm", "starcoder2", "smollm3", "gpt_oss", "modernbert-decoder", "mamba", "mamba2",
    "rwkv", "jamba", "falcon_h1", "lfm2", "recurrent_gemma", "bert", "roberta", "xlnet", "phimoe",
)


@pytest.fixture(scope="module")
def page():
    return families.stored()


@pytest.mark.parametrize("family", TESTED)
def test_a_family_keeps_the_laws_or_is_refused_as_the_page_says(family, page):
    row = families.verdict(family)
    assert "fails" not in row.values(), row["note"]
    assert {k: row[k] for k in families.COLUMNS} == {k: page[family][k] for k in families.COLUMNS}
    assert row["note"] == page[family]["note"]


def test_the_page_has_every_family_and_no_failure(page):
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert set(page) == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert sum(row["saved and loaded"] == "exact" for row in page.values()) >= 100
    assert not [name for name, row in page.items() if "fails" in row.values()]


@pytest.mark.parametrize("family", ["opt", "biogpt", "xglm", "gpt_bigcode", "falcon", "bloom", "bart", "mpt", "ctrl", "jetmoe"])
def test_dropout_written_in_any_way_is_off(family):
    """Layers, functions with an attribute, and whole layers that are skipped."""
    model = tiny(family).train()
    assert not models.is_steady(copy.deepcopy(model)) or family in ("bloom", "mpt", "ctrl")
    state = torch.get_rng_state()
    assert models.disable_dropout(model) is model and models.is_steady(model) and model.training
    assert torch.equal(state, torch.get_rng_state())


def test_chance_that_no_dropout_explains_is_refused():
    model = tiny("qwen2")
    layer = model.model.layers[0].mlp
    layer.register_forward_hook(lambda module, _, out: out + torch.randn_like(out) if module.training else out)
    with pytest.raises(ValueError, match="draws random numbers in training mode"):
        models.disable_dropout(model)


def longrope(switch=16):
    n = 4
    rope = {"rope_type": "longrope", "short_factor": [1.0] * n, "long_factor": [1.0, 2.0, 5.0, 9.0], "factor": 4.0,
            "rope_theta": 10000.0, "original_max_position_embeddings": switch}
    return tiny("phi3", rope_parameters=rope, original_max_position_embeddings=switch, sliding_window=None)


@pytest.mark.parametrize("pad", [pad_left, pad_right])
def test_longrope_a_row_beside_a_longer_one_is_the_row_alone(pad):
    model = longrope()
    assert models.switch_length(model) == 16 and models.switch_length(tiny("phi3")) is None
    ids, attention = pad(ROWS)
    with torch.no_grad():
        got = token_logps(model, ids, attention)
        hidden = forward.hidden_states(model, ids, attention)
    plain = model(input_ids=pad_right(ROWS)[0]).logits  # the wrong variant: all rows with the long row's frequencies
    assert (plain[0, :len(ROWS[0])] - model(input_ids=torch.tensor([ROWS[0]])).logits[0]).abs().max() > 0.05
    for k, row in enumerate(ROWS):
        start = ids.shape[1] - len(row) if pad is pad_left else 0
        assert torch.allclose(got[k, start:start + len(row) - 1], alone(model, row), atol=1e-4)
        want = model.model(input_ids=torch.tensor([row])).last_hidden_state[0]
        assert torch.allclose(hidden[k, start:start + len(row)], want, atol=1e-4)


def test_longrope_samples_stay_on_one_side_or_are_refused():
    model = longrope()
    for prompts in (ROWS[:2], [ROWS[2], ROWS[2][:18]], [ROWS[1], ROWS[2]]):
        drawn = sample(model, prompts, n=2, max_new_tokens=6, eos_id=2, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            scored = drawn.on_completion(token_logps(model, drawn.ids, drawn.attention))
        assert torch.allclose(scored, drawn.logp_old, atol=1e-4)
    with pytest.raises(ValueError, match="prompt of 7 ids with max_new_tokens 12 grows past 16 tokens.*longrope"):
        sample(model, ROWS[:1], max_new_tokens=12, eos_id=2)


def test_dynamic_rope_never_leaves_its_context():
    model = tiny("llama", max_position_embeddings=16, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})
    with pytest.raises(ValueError, match="23 tokens, the model's context is 16"):
        token_logps(model, *pad_right(ROWS))
    with pytest.raises(ValueError, match="exceeds the context of 16"):
        sample(model, ROWS[:1], max_new_tokens=12, eos_id=2)


def spoil_head(model):
    model.lm_head.bias = torch.nn.Parameter(torch.randn(families.VOCAB) * 3)


def spoil_activation(model):
    model.transformer.h[0].mlp.forward = lambda x: x * 0.5


def spoil_norm(model):
    model.transformer.ln_f = torch.nn.RMSNorm(32)


def spoil_scale(model):
    model.transformer.h[1].attn.scaling = 1.0


def spoil_embedding(model):
    model.transformer.wte.max_norm = 0.1


@pytest.mark.parametrize("spoil", [spoil_head, spoil_activation, spoil_norm, spoil_scale, spoil_embedding])
def test_the_short_step_is_not_taken_where_it_would_differ(spoil):
    model = tiny("gpt2", tie_word_embeddings=False)
    assert decoding.is_plain_gpt2(model, decoding.with_room(model(torch.tensor([[3]]), use_cache=True).past_key_values, 2))
    spoil(model)
    assert not decoding.is_plain_gpt2(model, decoding.with_room(model(torch.tensor([[3]]), use_cache=True).past_key_values, 2))
    families.sampling_law(model)


def test_a_cache_that_only_long_rows_show_to_be_wrong_is_found(monkeypatch):
    model, calls = tiny("mistral"), []
    true = decoding.cached_forward

    def wrong(model, ids, attention, position_ids, **more):
        calls.append(1)
        out = true(model, ids, attention, position_ids, **more)
        out.logits = out.logits.flip(-1) if attention.shape[1] > 12 else out.logits
        return out

    monkeypatch.setattr(decoding, "cached_forward", wrong)
    families.sampling_law(model)
    assert calls and decoding.has_cache(model, torch.ones(1, 3), 2) is False


@pytest.mark.parametrize("family, kind", [("gpt2", "GPT2"), ("qwen3", "Qwen3"), ("gemma2", "Gemma2"), ("jamba", "Jamba")])
def test_a_reward_model_of_a_family_scores_a_row_in_a_batch_as_alone(family, kind, tmp_path):
    model = RewardModel(tiny(family))
    torch.nn.init.normal_(model.model.score.weight, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = torch.cat([model(torch.tensor([row]), torch.ones(1, len(row))) for row in ROWS])
        for pad in (pad_left, pad_right):
            assert torch.allclose(model(*pad(ROWS)), want, atol=1e-4)
        model.save_pretrained(tmp_path)
        assert type(model.model).__name__ == kind + "ForSequenceClassification"
        assert torch.allclose(RewardModel.from_pretrained(tmp_path)(*pad_left(ROWS)), want, atol=1e-4)


def test_the_shape_of_opt_350m():
    model = tiny("opt", word_embed_proj_dim=16)
    families.training_law(model)
    assert RewardModel(model)(*pad_right(ROWS)).shape == (3,) and models.hidden_size(model) == 16


@pytest.mark.parametrize("family", ["mamba", "granite"])
def test_a_family_without_a_classifier_cannot_be_a_reward_model(family):
    with pytest.raises(ValueError, match="no class for sequence classification.*GPT-2, Llama"):
        RewardModel(tiny(family))


@pytest.mark.parametrize("family, labels, message", [
    ("gpt2", 2, "GPT2ForSequenceClassification with 2 labels; a reward model has one"),
    ("bert", 1, "BertForSequenceClassification has no plain `score` head"),
    ("deberta-v2", 1, "no plain `score` head"), ("t5", 1, "no plain `score` head")])
def test_judges_of_other_kinds_are_refused_by_name(family, labels, message, tmp_path):
    from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, d_model=16, d_ff=16,
                 num_layers=1, num_heads=2, d_kv=8, n_embd=16, n_layer=1, n_head=2)
    kind = CONFIG_MAPPING[family]
    config = kind(vocab_size=32, num_labels=labels, **{k: v for k, v in sizes.items() if k in kind().to_dict()})
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        RewardModel.from_pretrained(tmp_path)


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
    families.forward_law(decoder)  # positions that begin at 2
    families.sampling_law(decoder)


def test_a_model_of_two_sides_is_refused_by_name(tmp_path):
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="T5ForConditionalGeneration, which transformers does not load as a causal"):
        models.load(tmp_path)
