"""`extract/plain.py`: the same numbers as the package's quick functions, on random models, texts and padding."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from rlhf_minimal import direct_alignment, forward, logprobs, models, rollout, sampling, tensors, trpo
from rlhf_minimal.extract import plain
from rlhf_minimal.extract.source import read


def gpt2(seed=0):
    torch.manual_seed(seed)
    size = dict(vocab_size=40, n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3)
    return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0)).eval()


def llama(seed=0):
    torch.manual_seed(seed)
    size = dict(vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    return LlamaForCausalLM(LlamaConfig(**size, max_position_embeddings=64, initializer_range=0.3)).eval()


def batch(seed, rows=40, width=48, left=False):
    """Random rows of 2 to `width` tokens, with junk at padding: -100 and an id outside the vocabulary. -> ids, attention, mask"""
    rng = torch.Generator().manual_seed(seed)
    length = torch.randint(2, width + 1, (rows, 1), generator=rng)
    length[0] = width
    place = torch.arange(width)[None]
    attention = ((place >= width - length) if left else (place < length)).float()
    ids = torch.where(attention.bool(), torch.randint(0, 40, (rows, width), generator=rng), -100)
    mask = (torch.rand(rows, width, generator=rng) < 0.6).float() * attention
    mask[:, 1] = attention[:, 1]
    return ids, attention, mask


def gradients(loss, model):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)])


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("seed, left, temperature", [(0, False, 1.0), (1, True, 1.0), (2, False, 0.7)])
def test_log_probabilities(make, seed, left, temperature):
    """Values and gradients; the batch is large enough for the package to take it apart."""
    model, (ids, attention, mask) = make(), batch(seed, left=left)
    for wanted in (None, mask[:, 1:]):
        ours = plain.token_logps(model, ids, attention, temperature=temperature, wanted=wanted)
        theirs = logprobs.token_logps(model, ids, attention, temperature=temperature, wanted=wanted)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)
        assert torch.equal(ours == 0, theirs == 0) and (theirs == 0).any() and (theirs != 0).any()
        weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(seed))
        ours, theirs = gradients((ours * weight).sum(), model), gradients((theirs * weight).sum(), model)
        assert (ours - theirs).norm() < 1e-4 * theirs.norm()


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("average", [False, True])
def test_sequences(make, average):
    model, (ids, attention, mask) = make(), batch(3)
    ours = plain.sequence_logps(model, ids, attention, mask, average=average)
    theirs = logprobs.sequence_logps(model, ids, attention, mask, average=average)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def test_hidden_states():
    model, (ids, attention, _) = gpt2(), batch(4, left=True)
    real = attention.bool()
    ours, theirs = plain.hidden_states(model, ids, attention), forward.hidden_states(model, ids, attention)
    torch.testing.assert_close(ours[real], theirs[real], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("temperature", [1.0, 0.8, 0.0])
@pytest.mark.parametrize("eos_id", [0, [0, 7]])
def test_samples_are_the_same_tokens(make, temperature, eos_id):
    """With the same generator: tokens, masks, log-probabilities, groups; some rows end early."""
    model = make()
    prompts = [[3], [4, 5, 6, 7, 8], [9, 10, 11]]
    settings = dict(n=8, max_new_tokens=20, eos_id=eos_id, temperature=temperature)
    ours = plain.sample(model, prompts, **settings, generator=torch.Generator().manual_seed(5))
    theirs = sampling.sample(model, prompts, **settings, generator=torch.Generator().manual_seed(5))
    for name in ("ids", "attention", "mask", "group", "ended", "prompt_len", "completion_ids", "full_mask"):
        assert torch.equal(torch.as_tensor(getattr(ours, name)), torch.as_tensor(getattr(theirs, name))), name
    torch.testing.assert_close(ours.logp_old, theirs.logp_old, rtol=1e-5, atol=1e-5)
    assert temperature == 0 or 0 < ours.ended.sum() < len(ours) == len(theirs) == 24


def test_a_rollout_and_its_logits():
    """Parts, texts, completion columns and whole logits of one rollout, in both classes."""
    model = gpt2()
    prompts = [[3], [4, 5, 6, 7, 8]]
    theirs = sampling.sample(model, prompts, n=4, max_new_tokens=9, eos_id=0, generator=torch.Generator().manual_seed(0))
    ours = plain.sample(model, prompts, n=4, max_new_tokens=9, eos_id=0, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([5, 0, 2])
    for name in ("ids", "attention", "mask", "logp_old", "group", "ended"):
        torch.testing.assert_close(getattr(ours.select(rows), name), getattr(theirs.select(rows), name))
    logps = torch.randn(8, ours.ids.shape[1] - 1)
    assert torch.equal(ours.on_completion(logps), theirs.on_completion(logps))
    a, b = (x.completion_logits(model, r, temperature=0.7) for x, r in ((plain, ours), (trpo, theirs)))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer(extra_ids=0)
    bytes_only = {"ids": torch.where(theirs.ids > 2, theirs.ids + 70, theirs.ids)}
    settings = {name: getattr(theirs, name) for name in ("attention", "prompt_len", "mask", "logp_old", "group", "ended")}
    texts = [cls(**bytes_only, **settings).texts(tokenizer) for cls in (plain.Rollout, rollout.Rollout)]
    assert texts[0] == texts[1] and any(texts[0])


def test_padding_positions_and_means():
    rows = [[3, 4], [5], [6, 7, 8]]
    for name in ("pad_left", "pad_right"):
        for ours, theirs in zip(getattr(plain, name)(rows, 9), getattr(tensors, name)(rows, 9), strict=True):
            assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype
    _, attention, _ = batch(6, left=True)
    assert torch.equal(plain.positions(attention), tensors.positions(attention))
    assert torch.equal(plain.last_index(attention), tensors.last_index(attention))
    model = gpt2()
    wrapped = torch.nn.Module()
    wrapped.module = model
    assert plain.unwrap(wrapped) is plain.unwrap(model) is models.unwrap(wrapped) is model
    x = torch.randn(7)
    for denominator in (None, 3.0):
        torch.testing.assert_close(plain.mean_over_pairs(x, denominator), direct_alignment.mean_over_pairs(x, denominator))


def test_every_plain_version_stands_for_one_of_the_package():
    """By name: what has no namesake would never be taken. `draw` is a part of `sample`."""
    homes = (direct_alignment, forward, logprobs, models, rollout, sampling, tensors, trpo)
    names = set(read("extract.plain").definitions)
    assert names - {name for name in names if any(hasattr(home, name) for home in homes)} == {"draw"}
    assert [x for x in dir(plain.Rollout) if x[0] != "_"] == [x for x in dir(rollout.Rollout) if x[0] != "_"]


def test_a_wrong_plain_version_is_found():
    """Negative control: without positions, left padding shifts every log-probability."""
    model, (ids, attention, _) = gpt2(), batch(1, left=True)
    right = logprobs.token_logps(model, ids, attention)
    model.forward = lambda input_ids, attention_mask, position_ids, use_cache, f=model.forward: f(
        input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)
    assert (plain.token_logps(model, ids, attention) - right).abs().max() > 1e-2
