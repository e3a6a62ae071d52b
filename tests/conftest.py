"""Small things that several tests share."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM


@pytest.fixture
def tiny_gpt2():
    """tiny_gpt2(vocab=20, seed=0): a random GPT-2 with clear-cut logits; its dropout (0.1) shows in training mode."""

    def make(vocab=20, seed=0, **settings):
        torch.manual_seed(seed)
        size = dict(vocab_size=vocab, n_positions=128, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3)
        ends = dict(bos_token_id=0, eos_token_id=0)
        return GPT2LMHeadModel(GPT2Config(**{**size, **ends, **settings})).eval()

    return make


@pytest.fixture
def tiny_llama():
    """tiny_llama(vocab=20, seed=0): the same with rotary positions and grouped keys."""

    def make(vocab=20, seed=0, **settings):
        torch.manual_seed(seed)
        size = dict(vocab_size=vocab, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3)
        ends = dict(bos_token_id=0, eos_token_id=0)
        return LlamaForCausalLM(LlamaConfig(**{**size, **ends, **settings})).eval()

    return make


def pytest_terminal_summary(terminalreporter):
    """The stored mutation score, as the last line of a report; `python -m tests.mutation --store` measures it."""
    sys.path.insert(0, str(Path(__file__).parent))
    import mutation_report

    if (mutation_report.HERE / "mutation_score.json").is_file():
        terminalreporter.write_line(mutation_report.line())
