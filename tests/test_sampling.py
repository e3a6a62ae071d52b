"""sample() and Rollout (A1, A2, A4, B4-B12)."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rlhf_minimal import decoding, sampling
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.sampling import draw_tokens, sample

PROMPTS = [[3, 1, 4], [1, 5, 9, 2, 6, 5, 3], [8]]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rescored(model, out, temperature=1.0):
    return out.on_completion(token_logps(model, out.ids, out.attention, temperature=temperature)).detach()


def greedy_alone(model, prompt, steps, eos):
    """Greedy decoding of one row by full forwards, without cache, padding or batch."""
    row = list(prompt)
    for _ in range(steps):
        row.append(model(input_ids=torch.tensor([row])).logits[0, -1].argmax().item())
        if row[-1] in eos:
            break
    return row[len(prompt):]


def completions(out):
    return [row[on].tolist() for row, on in zip(out.completion_ids, out.mask.bool(), strict=True)]


@pytest.mark.parametrize("kind", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_A1_B12_greedy_in_a_batch_equals_each_row_alone(request, kind, attn):
    finishes = set()
    for seed in range(2):
        model = request.getfixturevalue(kind)(vocab=12, seed=seed, attn_implementation=attn)
        for eos in ([0], [2, 7], [5, 11]):
            out = sample(model, PROMPTS, n=2, max_new_tokens=9, eos_id=eos, temperature=0)
            alone = [greedy_alone(model, p, 9, eos) for p in PROMPTS for _ in range(2)]
            assert completions(out) == alone
            assert out.ended.tolist() == [row[-1] in eos for row in alone]
            assert out.mask.shape[1] == max(map(len, alone))  # T is what was used
            finishes.update(map(len, alone))
    assert len(finishes) > 3  # rows did finish at different times, so the cache was compacted


def test_A1_the_wrong_padding_side_differs(tiny_gpt2):
    model = tiny_gpt2(vocab=12)
    ids = torch.tensor([[3, 1, 4, 0, 0, 0, 0], PROMPTS[1]])
    attention = torch.tensor([[1, 1, 1, 0, 0, 0, 0], [1] * 7])
    wrong = model(input_ids=ids, attention_mask=attention).logits[:, -1]
    right = model(input_ids=torch.tensor([[3, 1, 4]])).logits[0, -1]
    assert (wrong[0] - right).abs().max() > 0.5  # it continues after the pads


@pytest.mark.parametrize("kind", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_B4_B6_old_logps_equal_a_training_forward_at_the_same_temperature(request, kind, temperature):
    model = request.getfixturevalue(kind)()
    out = sample(model, PROMPTS, n=8, max_new_tokens=12, eos_id=[0, 3], temperature=temperature, generator=seeded())
    new = rescored(model, out, temperature)
    assert out.ended.any() and not out.ended.all() and out.mask.sum(1).unique().numel() > 3
    assert (new - out.logp_old).abs().max() < 1e-4
    if temperature != 1:
        assert (rescored(model, out) - out.logp_old).abs().max() > 0.05  # the wrong variant scores at 1


def test_greedy_scores_at_temperature_one(tiny_gpt2):
    model = tiny_gpt2()
    out = sample(model, PROMPTS, max_new_tokens=6, eos_id=0, temperature=0)
    assert (rescored(model, out) - out.logp_old).abs().max() < 1e-4 and out.logp_old.min() < -0.01


def test_B5_chi_square_over_the_whole_vocabulary(tiny_gpt2):
    model, n = tiny_gpt2(vocab=60), 20_000
    for temperature in (1.0, 1.5):
        out = sample(model, [[3, 1]], n=n, max_new_tokens=1, eos_id=0, temperature=temperature, generator=seeded(1))
        p = (model(input_ids=torch.tensor([[3, 1]])).logits[0, -1].double() / temperature).softmax(0)
        seen = torch.bincount(out.completion_ids[:, 0], minlength=60).double()
        enough = p * n >= 5
        assert enough.sum() > 40
        chi = ((seen - n * p).square() / (n * p))[enough].sum().item()
        dof = enough.sum().item() - 1
        assert abs(chi - dof) < 5 * (2 * dof) ** 0.5
        top = p.sort(descending=True).indices[20:]
        assert seen[top].sum() > 0  # a top-k of 20 never draws these
        q = torch.where(p >= p.sort().values[-20], p, 0)
        q = q / q.sum()
        assert ((seen - n * q).square() / (n * q).clamp_min(1e-9))[enough].sum() > 100 * dof  # the wrong variant


def test_draw_by_inverse_cdf_at_its_edges():
    dead = float("-inf")
    logits = torch.tensor([[dead, 0.0, dead, 0.0, dead]]).expand(5, 5)
    u = torch.tensor([0.0, 0.499, 0.501, 1 - 2**-53, 1 - 2**-53], dtype=torch.float64)
    token, logp = draw_tokens(logits, 1.0, u)
    assert token.tolist() == [1, 1, 3, 3, 3]  # never a token of probability 0, never V
    assert logp.tolist() == pytest.approx([-0.693147] * 5)
    torch.manual_seed(0)
    many = torch.randn(2000, 50) * 4
    token, logp = draw_tokens(many, 1.0, torch.full((2000,), 1 - 2**-53, dtype=torch.float64))
    assert token.max() < 50 and torch.isfinite(logp).all()
    one = torch.tensor([[5.0, 1.0, 3.0]])
    assert draw_tokens(one, 1e-6, torch.tensor([0.999], dtype=torch.float64))[0].item() == 0
    with pytest.raises(ValueError, match="NaN"):
        draw_tokens(one * float("nan"), 1.0, torch.zeros(1, dtype=torch.float64))


def test_B7_dropout_off_and_every_mode_restored(tiny_gpt2):
    model = tiny_gpt2()
    clean = sample(model, PROMPTS, n=2, max_new_tokens=8, eos_id=0, generator=seeded())
    model.train()
    model.transformer.h[1].eval()
    before = [m.training for m in model.modules()]
    out = sample(model, PROMPTS, n=2, max_new_tokens=8, eos_id=0, generator=seeded())
    assert torch.equal(out.ids, clean.ids) and torch.equal(out.logp_old, clean.logp_old)
    assert [m.training for m in model.modules()] == before and True in before and False in before
    model.lm_head.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sample(model, PROMPTS, max_new_tokens=2, eos_id=0)
    assert [m.training for m in model.modules()] == before


def test_B8_no_gradients_but_ordinary_tensors(tiny_gpt2):
    out = sample(tiny_gpt2(), PROMPTS, max_new_tokens=3, eos_id=0, generator=seeded())
    assert not out.logp_old.requires_grad and not out.logp_old.is_inference()
    (out.logp_old * torch.ones(1, requires_grad=True)).sum().backward()  # may be saved for a backward


def test_B9_finished_rows_are_padding(tiny_gpt2):
    model = tiny_gpt2()
    out = sample(model, PROMPTS, n=8, max_new_tokens=10, eos_id=[0, 3], generator=seeded(2))
    off = out.mask == 0
    assert off.any() and (out.logp_old[off] == 0).all() and (out.completion_ids[off] == 0).all()
    assert torch.equal(out.attention[:, out.prompt_len:], out.mask)
    other = out.ids.clone()
    other[:, out.prompt_len:][off] = 17  # ids there change nothing
    assert torch.equal(token_logps(model, other, out.attention), token_logps(model, out.ids, out.attention))


def test_B9_nan_of_a_finished_row_is_ignored_and_of_a_live_one_raises(tiny_gpt2, monkeypatch):
    model = tiny_gpt2(vocab=12, seed=1)
    kwargs = dict(n=4, max_new_tokens=8, eos_id=[0, 3, 5], generator=None)
    monkeypatch.setattr(decoding, "COMPACT", 0.0)  # finished rows stay in the cache
    want = sample(model, PROMPTS, **{**kwargs, "generator": seeded()})
    assert want.mask.sum(1).min() < want.mask.shape[1]

    poisoned = []

    def poison(module, args, kw, output):
        if "past_key_values" in kw:
            dead = kw["attention_mask"][:, -1] == 0
            output.logits[dead] = float("nan")
            poisoned.append(int(dead.sum()))
        return output

    hook = model.register_forward_hook(poison, with_kwargs=True)
    got = sample(model, PROMPTS, **{**kwargs, "generator": seeded()})
    assert sum(poisoned) > 0 and torch.equal(got.ids, want.ids) and torch.equal(got.logp_old, want.logp_old)
    hook.remove()
    model.lm_head.weight.data[4] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        sample(model, [[3]], max_new_tokens=2, eos_id=0)


def test_A4_B10_eos_is_kept_and_ended_tells(tiny_gpt2):
    model = tiny_gpt2(vocab=6)
    for eos in (2, [2, 4]):
        out = sample(model, PROMPTS[:1], n=40, max_new_tokens=6, eos_id=eos, generator=seeded())
        stops = [eos] if isinstance(eos, int) else eos
        for row, ended in zip(completions(out), out.ended.tolist(), strict=True):
            assert ended == (row[-1] in stops) and not set(row[:-1]) & set(stops)
            assert ended or len(row) == 6
        assert out.ended.any() and not out.ended.all()


def test_B11_seeds(tiny_gpt2):
    model = tiny_gpt2()
    kwargs = dict(n=4, max_new_tokens=8, eos_id=0)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    a, b, c = (sample(model, PROMPTS, **kwargs, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(a.ids, b.ids) and torch.equal(a.logp_old, b.logp_old) and a.ids.tolist() != c.ids.tolist()
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    rows = completions(a)
    assert rows[0] != rows[1]  # two rows of one prompt differ
    torch.manual_seed(5)
    first = sample(model, PROMPTS, **kwargs).ids
    torch.manual_seed(5)
    assert torch.equal(first, sample(model, PROMPTS, **kwargs).ids)


def test_B11_a_row_does_not_depend_on_when_the_others_finish(tiny_gpt2, monkeypatch):
    model = tiny_gpt2()
    kwargs = dict(n=6, max_new_tokens=10, eos_id=[0, 3])
    want = sample(model, PROMPTS, **kwargs, generator=seeded())
    for share in (0.0, 0.5, 1.0):  # never, seldom, at every chance
        monkeypatch.setattr(decoding, "COMPACT", share)
        got = sample(model, PROMPTS, **kwargs, generator=seeded())
        assert torch.equal(got.ids, want.ids) and torch.allclose(got.logp_old, want.logp_old, atol=1e-5)
    never = sample(model, PROMPTS, **{**kwargs, "eos_id": 19}, generator=seeded())
    for row, long in zip(completions(want), completions(never), strict=True):
        shared = min(len(row), len(long))
        assert long[:shared] == row[:shared]


@pytest.mark.parametrize("kind", ["tiny_gpt2", "tiny_llama"])
def test_B12_the_order_of_the_prompts_changes_nothing(request, kind):
    model = request.getfixturevalue(kind)()
    order = [2, 0, 1]
    a = sample(model, PROMPTS, max_new_tokens=8, eos_id=0, temperature=0)
    b = sample(model, [PROMPTS[i] for i in order], max_new_tokens=8, eos_id=0, temperature=0)
    assert [completions(a)[i] for i in order] == completions(b)


def test_B12_a_wrong_cache_entry_would_show(tiny_gpt2, monkeypatch):
    from transformers import DynamicCache

    model = tiny_gpt2(vocab=12)
    right = sample(model, PROMPTS, n=3, max_new_tokens=8, eos_id=0, temperature=0)
    monkeypatch.setattr(DynamicCache, "batch_repeat_interleave",  # the wrong variant tiles: 0 1 2 0 1 2 ...
                        lambda self, n: self.batch_select_indices(torch.arange(3).repeat(n)))
    wrong = sample(model, PROMPTS, n=3, max_new_tokens=8, eos_id=0, temperature=0)
    assert (rescored(model, right) - right.logp_old).abs().max() < 1e-4
    assert (rescored(model, wrong) - wrong.logp_old).abs().max() > 0.1


def test_layout(tiny_gpt2):
    out = sample(tiny_gpt2(), PROMPTS, n=2, max_new_tokens=4, eos_id=0, generator=seeded())
    assert out.prompt_len == 7 and len(out) == 6 and out.group.tolist() == [0, 0, 1, 1, 2, 2]  # minimal width, D9
    assert out.ids[0, :7].tolist() == [0, 0, 0, 0, 3, 1, 4] and out.attention[0, :7].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert out.ids.dtype == torch.int64 and out.mask.dtype == torch.float32 and out.ended.dtype == torch.bool
    assert out.logp_old.dtype == torch.float32 and out.group.dtype == torch.int64
    assert torch.equal(torch.cat([out.ids[:, :7], out.completion_ids], 1), out.ids)
    alone = sample(tiny_gpt2(), PROMPTS[:1], max_new_tokens=4, eos_id=0, generator=seeded())
    assert alone.prompt_len == 3


def test_float64_and_bfloat16_models(tiny_gpt2):
    model = tiny_gpt2().double()
    out = sample(model, PROMPTS, n=2, max_new_tokens=6, eos_id=0, generator=seeded())
    assert out.logp_old.dtype == torch.float64 and (rescored(model, out) - out.logp_old).abs().max() < 1e-10
    half = sample(model.bfloat16(), PROMPTS, n=2, max_new_tokens=6, eos_id=0, generator=seeded())
    assert half.logp_old.dtype == torch.float32 and (half.logp_old <= 0).all()


def test_wrong_input_raises(tiny_gpt2):
    model = tiny_gpt2()
    good = dict(max_new_tokens=4, eos_id=0)
    for prompts in ([], "abc", ["abc"], [3, 1], torch.ones(2, 2)):
        with pytest.raises(ValueError, match="list of lists"):
            sample(model, prompts, **good)
    with pytest.raises(ValueError, match="prompt 1 of 2 is empty"):
        sample(model, [[1], []], **good)
    for bad in ([[20]], [[-1]]):
        with pytest.raises(ValueError, match="vocabulary has 20"):
            sample(model, bad, **good)
    wrongs = (dict(n=0), dict(n=1.5), dict(max_new_tokens=0), dict(temperature=-0.1), dict(temperature=float("nan")),
              dict(temperature=float("inf")), dict(eos_id=None), dict(eos_id=[]), dict(eos_id=20))
    for wrong in wrongs:
        with pytest.raises(ValueError):
            sample(model, [[1]], **{**good, **wrong})
    with pytest.raises(ValueError, match="context of 128"):
        sample(model, [[1] * 120], max_new_tokens=9, eos_id=0)
    out = sample(model, [[1] * 120], max_new_tokens=8, eos_id=19, temperature=0)  # fits to the last place
    assert out.ids.shape[1] <= 128


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
    assert draw_tokens(logits, 1.0, u)[0].tolist() == [0, 0, 1, 1, 2, 2]


def test_draw_reaches_a_last_token_of_tiny_probability_whatever_the_rounding():
    """Probabilities in float32 sum to 1 up to 1e-7; u just below 1 is still the last token, here of p near 2e-9."""
    logits = torch.randn(500, 40, generator=torch.Generator().manual_seed(0))
    logits[:, -1] = -17.0
    top = torch.full((500,), 1 - 2**-53, dtype=torch.float64)
    total = logits.log_softmax(1).double().exp().cumsum(1)
    assert (total[:, -2] > 1).any() and (total[:, -1] < 1).any()  # the rounding does go both ways
    assert (draw_tokens(logits, 1.0, top)[0] == 39).all()


def test_wrong_prompts_among_good_ones_are_refused(tiny_gpt2):
    """One text among lists of ids; the longest prompt counts for the context of 128."""
    with pytest.raises(ValueError, match="list of lists of ids"):
        sample(tiny_gpt2(), [[1], "ab"], max_new_tokens=2, eos_id=0)
    with pytest.raises(ValueError, match="prompt of 120 ids plus max_new_tokens 9"):
        sample(tiny_gpt2(), [[1], [1] * 120], max_new_tokens=9, eos_id=0)


def test_a_single_row_with_nan_is_refused():
    logits = torch.tensor([[0.0, 1.0], [float("nan"), 1.0]])
    with pytest.raises(ValueError, match="NaN"):
        draw_tokens(logits, 1.0, torch.tensor([0.5, 0.5]).double())


def test_blocks_of_a_wide_vocabulary_start_where_the_last_one_ended(monkeypatch):
    logits = torch.randn(1, 1024, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = (torch.arange(1000).double() + 0.5) / 1000
    want = draw_tokens(logits.expand(1000, -1), 1.0, u)[0]
    monkeypatch.setattr("rlhf_minimal.decoding.WIDE", 0)
    assert torch.equal(draw_tokens(logits.expand(1000, -1), 1.0, u)[0], want)


def test_a_temperature_divides_the_logits():
    logits = torch.tensor([[0.0, 3.0]])
    logp = draw_tokens(logits, 2.0, torch.tensor([0.999]).double())[1]
    assert logp.item() == pytest.approx((logits / 2).log_softmax(1)[0, 1].item())


@pytest.mark.parametrize("own", [True, False])
def test_a_second_draw_uses_the_same_chance(tiny_gpt2, monkeypatch, own):
    """Where the cache was found to be wrong the rollout is drawn again: with the numbers of the first time."""
    model, kwargs = tiny_gpt2(), dict(n=4, max_new_tokens=6, eos_id=0)

    def drawn():
        torch.manual_seed(5)
        return sample(model, PROMPTS, **kwargs, generator=seeded(3) if own else None)

    want, times = drawn(), []
    monkeypatch.setattr(sampling, "cache_was_wrong", lambda *given: times.append(given) or True)
    got = drawn()
    assert torch.equal(got.ids, want.ids) and torch.equal(got.logp_old, want.logp_old) and len(times) == 1
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)  # control: other numbers, another rollout
    assert own or not torch.equal(drawn().ids, want.ids)
