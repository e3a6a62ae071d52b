"""Small things that several tests share."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tests.fixtures.rollouts import draw, reward


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


@pytest.fixture
def policy_batch():
    """4 rows, 5 wide, in float64: logp near logp_old, uneven masks, scores of two groups."""
    torch.manual_seed(0)
    old = -torch.rand(4, 5, dtype=torch.float64) * 3 - 0.1
    logp = (old + 0.3 * torch.randn(4, 5, dtype=torch.float64)).requires_grad_()
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]])
    score = torch.tensor([1.0, 0.0, 0.5, 2.0], dtype=torch.float64)
    return logp, old, score, mask


@pytest.fixture
def sampled(tiny_gpt2):
    """(a tiny policy, its rollout of 2 prompts x 4, their rewards)."""
    policy = tiny_gpt2()
    rollout = draw(policy)
    return policy, rollout, reward(rollout)


def pytest_terminal_summary(terminalreporter):
    """The stored mutation score, as the last line of a report; `python -m tools.mutation --store` measures it."""
    from tools.mutation import report

    if report.SCORE.is_file():
        terminalreporter.write_line(report.line())
