"""Corners of sampling.py that its other tests pass by: what it asks of a model, and how often; by mutation testing."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rlhf_minimal.sampling import _draw, sample


class Cache:
    """As much of a key-value cache as sampling needs: which samples have a row in it."""

    def __init__(self, rows):
        self.rows, self.copies = list(range(rows)), []

    def batch_repeat_interleave(self, n):
        self.rows = [r for r in self.rows for _ in range(n)]

    def batch_select_indices(self, keep):
        self.rows = [self.rows[i] for i in keep.tolist()]
        self.copies.append(len(self.rows))


class Countdown(nn.Module):
    """Says the last id minus 1, so that a prompt [k] ends, at 0, after k tokens; it knows no `logits_to_keep`."""

    def __init__(self):
        super().__init__()
        self.weight, self.calls, self.cache = nn.Parameter(torch.zeros(1)), 0, None

    def forward(self, input_ids, attention_mask, position_ids, use_cache, past_key_values=None):
        self.calls += 1
        self.cache = past_key_values or Cache(len(input_ids))
        logits = 50.0 * nn.functional.one_hot((input_ids - 1).clamp_min(0), 12).float()
        return SimpleNamespace(logits=logits, past_key_values=self.cache if use_cache else None)


def count(lengths, steps=20):
    """(forwards, sizes that the cache was cut to) for prompts that end after so many tokens."""
    model = Countdown()
    out = sample(model, [[k] for k in lengths], max_new_tokens=steps, eos_id=0, temperature=0)
    assert out.mask.sum(1).tolist() == [min(k, steps) for k in lengths]
    return model.calls, model.cache.copies


def test_T_tokens_take_T_forwards():
    """One over the prompt and one for each token but the last, which nobody reads."""
    assert count([5, 2])[0] == 5
    assert count([9, 9], steps=4)[0] == 4
    assert count([1])[0] == 1


@pytest.mark.parametrize("lengths, want", [
    ([1, 2, 3, 9], [3, 2, 1]),  # 3 of 4 alive is 3/4 exactly: cut; then 2 of 3, then 1 of 2
    ([1] + [9] * 7, []),  # 7 of 8 are more than 3/4: the cache stays
    ([1, 2, 9, 9, 9, 9, 9, 9], [6]),  # 7 of 8 stay, 6 of 8 are cut out
    ([1] * 4 + [9], [1]),
])
def test_the_cache_is_copied_when_three_quarters_or_less_of_its_rows_are_alive(lengths, want):
    assert count(lengths)[1] == want


def test_only_the_last_logits_are_asked_of_a_model_that_can_keep_them(tiny_gpt2):
    """(B, P, V) logits of long prompts would not fit; one place is read."""
    model, kept = tiny_gpt2(), []
    model.register_forward_pre_hook(lambda _, args, kw: kept.append(kw.get("logits_to_keep")), with_kwargs=True)
    sample(model, [[3, 1, 4]], max_new_tokens=1, eos_id=0)
    assert kept == [1]


def test_draw_divides_the_unit_interval_among_all_tokens():
    """p = (1/4, 1/4, 1/2): u below 1/4, 1/2 and 1 give tokens 0, 1 and 2, the last one included."""
    logits = torch.tensor([[0.25, 0.25, 0.5]]).log().expand(6, 3)
    u = torch.tensor([0.0, 0.24, 0.26, 0.49, 0.51, 0.99], dtype=torch.float64)
    assert _draw(logits, 1.0, u)[0].tolist() == [0, 0, 1, 1, 2, 2]


def test_draw_reaches_a_last_token_of_tiny_probability_whatever_the_rounding():
    """Probabilities in float32 sum to 1 up to 1e-7; u just below 1 is still the last token, here of p near 2e-9."""
    logits = torch.randn(500, 40, generator=torch.Generator().manual_seed(0))
    logits[:, -1] = -17.0
    top = torch.full((500,), 1 - 2**-53, dtype=torch.float64)
    total = logits.log_softmax(1).double().exp().cumsum(1)
    assert (total[:, -2] > 1).any() and (total[:, -1] < 1).any()  # the rounding does go both ways
    assert (_draw(logits, 1.0, top)[0] == 39).all()


def test_wrong_prompts_among_good_ones_are_refused(tiny_gpt2):
    """One text among lists of ids; the longest prompt counts for the context of 128."""
    with pytest.raises(ValueError, match="list of lists of ids"):
        sample(tiny_gpt2(), [[1], "ab"], max_new_tokens=2, eos_id=0)
    with pytest.raises(ValueError, match="prompt of 120 ids plus max_new_tokens 9"):
        sample(tiny_gpt2(), [[1], [1] * 120], max_new_tokens=9, eos_id=0)


def test_a_single_row_with_nan_is_refused():
    logits = torch.tensor([[0.0, 1.0], [float("nan"), 1.0]])
    with pytest.raises(ValueError, match="NaN"):
        _draw(logits, 1.0, torch.tensor([0.5, 0.5]).double())


def test_blocks_of_a_wide_vocabulary_start_where_the_last_one_ended(monkeypatch):
    logits = torch.randn(1, 1024, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = (torch.arange(1000).double() + 0.5) / 1000
    want = _draw(logits.expand(1000, -1), 1.0, u)[0]
    monkeypatch.setattr("rlhf_minimal.decoding.WIDE", 0)
    assert torch.equal(_draw(logits.expand(1000, -1), 1.0, u)[0], want)


def test_a_temperature_divides_the_logits():
    logits = torch.tensor([[0.0, 3.0]])
    assert _draw(logits, 2.0, torch.tensor([0.999]).double())[1].item() == pytest.approx((logits / 2).log_softmax(1)[0, 1].item())
