"""Properties that hold for any input: padding, order, pad ids, lengths, empty rows, extreme logits, low precision.

Hypothesis draws the cases; derandomized, so that every run checks the same ones.
"""

import math
from functools import partial

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_minimal import direct_alignment as da
from rlhf_minimal.advantages import gae, group_normalize, leave_one_out, returns_to_go
from rlhf_minimal.aggregate import MODES, aggregate
from rlhf_minimal.best_of_n import select
from rlhf_minimal.evaluate import pass_at_k, win_rate
from rlhf_minimal.grpo import cispo_loss, grpo_loss, gspo_loss
from rlhf_minimal.kl import exact_kl, k1, k2, k3
from rlhf_minimal.logprobs import entropy, sequence_logps, token_logps
from rlhf_minimal.ppo import policy_loss, value_loss
from rlhf_minimal.process_reward import outcome_loss
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.reward_model import RewardModel, pairwise_loss, plackett_luce_loss
from rlhf_minimal.rloo import rloo_loss
from rlhf_minimal.sampling import sample
from rlhf_minimal.sft import sft_loss
from rlhf_minimal.tensors import last_index, mask_through_first, masked_mean, masked_whiten, pad_left, pad_right, positions

VOCAB = 12
common = partial(settings, derandomize=True, deadline=None, database=None)
few, many = common(max_examples=12), common(max_examples=60)


def make(dtype=torch.float32):
    torch.manual_seed(0)
    size = dict(vocab_size=VOCAB, n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3)
    return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0)).to(dtype).eval()


MODEL, HALF = make(), make(torch.bfloat16)
JUDGE = RewardModel(MODEL)
torch.nn.init.normal_(JUDGE.model.score.weight)

token = st.integers(0, VOCAB - 1)
row = st.lists(token, min_size=1, max_size=6)
rows = st.lists(row, min_size=1, max_size=4)
seeds = st.integers(0, 10**6)
sizes = st.tuples(st.integers(1, 4), st.integers(1, 5))


def masks(draw, b, t, *, empty=True):
    """(B, T) masks of any kind: gaps, single tokens, empty rows, but never empty everywhere."""
    bits = draw(st.lists(st.lists(st.booleans(), min_size=t, max_size=t), min_size=b, max_size=b))
    mask = torch.tensor(bits).float()
    if not empty:
        mask[mask.sum(1) == 0, 0] = 1
    assume(mask.any())
    return mask


@st.composite
def batch(draw, *, empty=True, group=1):
    """(logp, logp_old, number a row, mask): B rows of T tokens, B a multiple of the group."""
    b, t = draw(st.integers(1, 3)) * group, draw(st.integers(1, 5))
    mask, seed = masks(draw, b, t, empty=empty), draw(seeds)
    g = torch.Generator().manual_seed(seed)
    logp, old = (-3 * torch.rand(b, t, generator=g) for _ in range(2))
    return logp, old, torch.randn(b, generator=g), mask


@st.composite
def padded(draw):
    """(rows, ids, attention): the rows with any padding on both sides and any ids there."""
    some = draw(rows)
    before = draw(st.lists(st.integers(0, 3), min_size=len(some), max_size=len(some)))
    width = max(b + len(r) for b, r in zip(before, some, strict=True)) + draw(st.integers(0, 2))
    ids = torch.full((len(some), width), draw(st.sampled_from([0, 1, VOCAB - 1, -100, 10**6])))
    attention = torch.zeros(len(some), width)
    for i, (b, r) in enumerate(zip(before, some, strict=True)):
        ids[i, b:b + len(r)], attention[i, b:b + len(r)] = torch.tensor(r), 1
    return some, ids, attention


def alone(ids, model=MODEL):
    """log p of a row's tokens from the second on, by the model itself: no padding, no package."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0] if len(ids) > 1 else torch.zeros(0)


# ---- padding, order, pad ids ----


@few
@given(padded())
@example(([[3]], torch.tensor([[9, 3]]), torch.tensor([[0.0, 1.0]])))  # a single token: nothing to score
def test_log_probabilities_do_not_see_padding(case):
    """Side, amount and id of the padding, and the other rows, change nothing; off the row it is exactly 0 (A2, A3)."""
    some, ids, attention = case
    with torch.no_grad():
        got = token_logps(MODEL, ids, attention)
    real = attention[:, :-1] * attention[:, 1:]
    assert (got[real == 0] == 0).all() and (got <= 0).all() and got.dtype == torch.float32
    for i, r in enumerate(some):
        assert torch.allclose(got[i][real[i].bool()], alone(r), atol=1e-5)


@few
@given(padded(), st.randoms(use_true_random=False))
def test_batch_order_only_permutes(case, random):
    _, ids, attention = case
    order = list(range(len(ids)))
    random.shuffle(order)
    with torch.no_grad():
        for fn in (partial(token_logps, MODEL), JUDGE):
            assert torch.allclose(fn(ids, attention)[order], fn(ids[order], attention[order]), atol=1e-5)


@few
@given(padded(), token)
def test_reward_does_not_see_padding_nor_its_id(case, pad):
    """F1, F7: also where the pad id is a real token of the row, or its EOS."""
    some, ids, attention = case
    with torch.no_grad():
        got = JUDGE(ids, attention)
        other = JUDGE(torch.where(attention.bool(), ids, pad), attention)
        each = torch.cat([JUDGE(torch.tensor([r]), torch.ones(1, len(r))) for r in some])
    assert torch.equal(got, other) and torch.allclose(got, each, atol=1e-5) and got.dtype == torch.float32


@few
@given(st.lists(row.filter(lambda r: len(r) > 1), min_size=1, max_size=4), st.booleans())
def test_sequence_sums_and_means(some, average):
    """Mixed lengths, right-padded, an empty mask among them: the naive sum, and 0 for the empty one."""
    ids, attention = pad_right([*some, [1, 2]])
    mask = attention.clone()
    mask[:, 0] = 0
    mask[-1] = 0
    with torch.no_grad():
        got = sequence_logps(MODEL, ids, attention, mask, average=average)
    want = [alone(r).mean() if average else alone(r).sum() for r in some]
    assert torch.allclose(got[:-1], torch.stack(want), atol=1e-4) and got[-1] == 0


@few
@given(st.lists(row, min_size=1, max_size=3), st.integers(1, 2), st.integers(1, 4), token)
def test_greedy_samples_do_not_see_the_batch(prompts, n, steps, eos):
    """A1, B12: each row is what the prompt gives alone, cut after its first EOS; the mask says so (A4)."""
    got = sample(MODEL, prompts, n=n, max_new_tokens=steps, eos_id=eos, temperature=0)
    assert torch.equal(got.mask, mask_through_first(got.completion_ids, eos) * got.attention[:, got.prompt_len:])
    assert torch.equal(got.ended, ((got.completion_ids == eos) * got.mask).any(1)) and 1 <= got.mask.shape[1] <= steps
    for i in range(len(got)):
        text = list(prompts[i // n])
        for _ in range(int(got.mask[i].sum())):
            with torch.no_grad():
                text.append(int(MODEL(torch.tensor([text])).logits[0, -1].argmax()))
        assert got.completion_ids[i][got.mask[i].bool()].tolist() == text[len(prompts[i // n]):]
        assert torch.allclose(got.logp_old[i][got.mask[i].bool()], alone(text)[len(prompts[i // n]) - 1:], atol=1e-4)


@many
@given(rows, token)
def test_padding_and_its_inverse(some, pad):
    for fn, left in ((pad_left, True), (pad_right, False)):
        ids, attention = fn(some, pad)
        assert [r[a.bool()].tolist() for r, a in zip(ids, attention, strict=True)] == some
        edge = attention[:, -1] if left else attention[:, 0]
        assert edge.all() and (ids[attention == 0] == pad).all()


# ---- masks ----


@many
@given(st.data(), sizes)
def test_masks_against_loops(data, size):
    b, t = size
    ids = torch.tensor(data.draw(st.lists(st.lists(st.integers(0, 3), min_size=t, max_size=t), min_size=b, max_size=b)))
    eos = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    for r, got in zip(ids.tolist(), mask_through_first(ids, eos).tolist(), strict=True):
        first = next((i for i, x in enumerate(r) if x in eos), t)
        assert got == [float(i <= first) for i in range(t)]
    mask = masks(data.draw, b, t, empty=False)
    for r, last, places in zip(mask.tolist(), last_index(mask).tolist(), positions(mask).tolist(), strict=True):
        assert last == max(i for i, x in enumerate(r) if x)
        assert places == [max(int(sum(r[:i + 1])) - 1, 0) for i in range(t)]
    for dtype in (torch.bool, torch.int64, torch.bfloat16):
        assert torch.equal(last_index(mask.to(dtype)), last_index(mask))
        assert torch.equal(positions(mask.to(dtype)), positions(mask))


@many
@given(batch())
def test_whitening(case):
    x, _, _, mask = case
    on = mask.bool()
    white = masked_whiten(x, mask)
    assert (white[~on] == 0).all() and abs(masked_mean(white, mask)) < 1e-4 and torch.isfinite(white).all()
    if on.sum() > 1 and x[on].std() > 1e-3:
        assert abs(white[on].std() - 1) < 1e-3
        assert torch.allclose(masked_whiten(3 * x + 5, mask), white, atol=1e-3)
    assert (masked_whiten(torch.full_like(x, 1e3 / 3), mask) == 0).all()  # constant: no rounding is amplified


# ---- reductions and losses ----


def token_losses(old, number, mask, group):
    """{name: loss(logp)} of everything that reduces tokens."""
    two = dict(group_size=group)
    return {
        "sft": lambda lp: sft_loss(lp, mask), "reinforce": lambda lp: reinforce_loss(lp, number, mask),
        "ppo": lambda lp: policy_loss(lp, old, number, mask), "value": lambda lp: value_loss(lp, old, old + 1, mask),
        "rloo": lambda lp: rloo_loss(lp, number, mask, **two),
        "grpo": lambda lp: grpo_loss(lp, old, number, mask, **two, logp_ref=old, beta=0.1),
        "dr_grpo": lambda lp: grpo_loss(lp, old, number, mask, **two, scale=False, mode="fixed"),
        "gspo": lambda lp: gspo_loss(lp, old, number, mask, **two),
        "cispo": lambda lp: cispo_loss(lp, old, number, mask, **two),
        "outcome": lambda lp: outcome_loss(lp, (number > 0).long(), mask),
    }


def with_gradient(loss, logp):
    logp = logp.clone().requires_grad_()
    value, stats = loss(logp)
    value.backward()
    return value.detach(), logp.grad, stats


@many
@given(batch())
def test_aggregate_against_loops(case):
    """E6, with gaps, single tokens and empty rows; and the sum of its parts with the whole's denominator (E14)."""
    x, _, _, mask = case
    each = [[v for v, m in zip(r, k, strict=True) if m] for r, k in zip(x.tolist(), mask.tolist(), strict=True)]
    some, everything = [r for r in each if r], [v for r in each for v in r]
    want = {
        "token_mean": sum(everything) / len(everything),
        "sequence_mean": sum(sum(r) / len(r) for r in some) / len(some),
        "sequence_sum": sum(map(sum, some)) / len(some), "fixed": sum(everything) / x.numel(),
    }
    whole = {"token_mean": len(everything), "fixed": x.numel()}
    for mode in MODES:
        got = aggregate(x, mask, mode)
        count = whole.get(mode, len(some))
        parts = sum(aggregate(x[i:i + 1], mask[i:i + 1], mode, denominator=count) for i in range(len(x)))
        assert math.isclose(got, want[mode], rel_tol=1e-5, abs_tol=1e-6)
        assert math.isclose(got, parts, rel_tol=1e-5, abs_tol=1e-6)


@many
@given(batch(group=2), st.sampled_from([math.nan, math.inf, -math.inf, 1e30]))
def test_nothing_off_the_mask_matters(case, junk):
    """E11: value, stats and gradient are those of a clean batch, and the gradient there is exactly 0."""
    logp, old, number, mask = case
    off = mask == 0
    dirty, dirty_old = logp.masked_fill(off, junk), old.masked_fill(off, junk)
    clean = token_losses(old, number, mask, 2)
    for name, loss in token_losses(dirty_old, number, mask, 2).items():
        want, want_grad, want_stats = with_gradient(clean[name], logp)
        got, grad, stats = with_gradient(loss, dirty)
        assert torch.equal(got, want) and torch.equal(grad, want_grad), name
        assert (grad[off] == 0).all() and torch.isfinite(grad).all(), name
        for key in stats:
            assert torch.allclose(stats[key], want_stats[key], rtol=0, atol=0, equal_nan=True), (name, key)


@many
@given(batch(group=2))
def test_an_empty_row_is_not_counted(case):
    """Conventions 8: a group of empty completions in the batch changes no loss but the one with a fixed divisor."""
    logp, old, number, mask = case
    more = [torch.cat([x, y]) for x, y in ((logp, -torch.ones(2, logp.shape[1])), (old, -torch.ones(2, logp.shape[1])),
                                           (number, torch.tensor([5.0, -5.0])), (mask, torch.zeros(2, logp.shape[1])))]
    clean = token_losses(old, number, mask, 2)
    for name, loss in token_losses(*more[1:], 2).items():
        want, got = clean[name](logp)[0], loss(more[0])[0]
        share = len(logp) / (len(logp) + 2) if name == "dr_grpo" else 1
        assert torch.allclose(got, want * share, rtol=1e-4, atol=1e-6), name


@many
@given(batch(group=2, empty=False), st.randoms(use_true_random=False))
def test_order_of_prompts_changes_no_loss(case, random):
    """Groups travel whole (D9); the order of the rows inside a group does not matter either."""
    logp, old, number, mask = case
    groups = list(range(len(logp) // 2))
    random.shuffle(groups)
    order = [2 * g + i for g in groups for i in random.sample([0, 1], 2)]
    clean = token_losses(old, number, mask, 2)
    for name, loss in token_losses(old[order], number[order], mask[order], 2).items():
        assert torch.allclose(loss(logp[order])[0], clean[name](logp)[0], rtol=1e-4, atol=1e-6), name


@many
@given(batch(), st.integers(0, 3))
def test_width_of_the_padding_changes_no_loss(case, extra):
    """More masked columns on either side, but for the mode that divides by the width (GRPO's fixed)."""
    logp, old, number, mask = case
    for pad in ((0, extra), (extra, 0)):
        wide = [torch.nn.functional.pad(x, pad, value=v) for x, v in ((logp, 7.0), (old, -7.0), (mask, 0.0))]
        for mode in MODES:
            share = logp.shape[1] / (logp.shape[1] + extra) if mode == "fixed" else 1
            got, want = aggregate(wide[0], wide[2], mode), aggregate(logp, mask, mode)
            assert torch.allclose(got, share * want, rtol=1e-4, atol=1e-6)
        for a, b in zip(gae(wide[0], wide[1], wide[2]), gae(logp, old, mask), strict=True):
            assert torch.allclose(a[wide[2].bool()], b[mask.bool()], atol=1e-5)


@many
@given(batch(), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.9, 1.0]))
def test_gaps_neither_bootstrap_nor_discount(case, gamma, lam):
    """D1: each row equals the row with its gaps taken out."""
    reward, value, _, mask = case
    adv, ret = gae(reward, value, mask, gamma=gamma, lam=lam)
    later = returns_to_go(reward, mask, gamma)
    assert (adv[mask == 0] == 0).all() and (ret[mask == 0] == 0).all() and (later[mask == 0] == 0).all()
    for i, on in enumerate(mask.bool()):
        if on.any():
            r, v, one = reward[i, on][None], value[i, on][None], torch.ones(1, int(on.sum()))
            for got, want in ((adv, gae(r, v, one, gamma=gamma, lam=lam)[0]), (later, returns_to_go(r, one, gamma))):
                assert torch.allclose(got[i, on], want[0], atol=1e-5)


@many
@given(st.integers(1, 4), st.integers(2, 5), seeds, st.sampled_from([1e-2, 1.0, 1e3]))
def test_group_advantages(prompts, size, seed, scale):
    g = torch.Generator().manual_seed(seed)
    score = scale * torch.randn(prompts * size, generator=g)
    shift = torch.randn(prompts, generator=g).repeat_interleave(size) * scale  # any number a prompt (C12)
    for fn in (leave_one_out, group_normalize):
        adv = fn(score, size)
        assert torch.allclose(adv.view(-1, size).sum(1), torch.zeros(prompts), atol=1e-3 * max(scale, 1))
        assert torch.allclose(fn(score + shift, size), adv, rtol=1e-2, atol=1e-3 * max(scale, 1))
        assert (fn(shift, size) == 0).all()  # D6: exactly
    naive = [score[i] - sum(score[j] for j in range(i // size * size, i // size * size + size) if j != i) / (size - 1)
             for i in range(len(score))]
    assert torch.allclose(leave_one_out(score, size), torch.stack(naive), rtol=1e-4, atol=1e-4 * scale)
    assert torch.equal(select(score, size), score.view(-1, size).argmax(1) + size * torch.arange(prompts))


# ---- extreme numbers ----

extreme = st.sampled_from([0.0, 1.0, -1.0, 40.0, -40.0, 1e4, -1e4, 1e30, -1e30])


@many
@given(st.lists(extreme, min_size=2, max_size=6), st.data())
def test_extreme_logits(logits, data):
    other = data.draw(st.lists(st.floats(-30, 30, width=32), min_size=len(logits), max_size=len(logits)))
    p, q = torch.tensor(logits).requires_grad_(), torch.tensor(other)
    h, kl = entropy(p), exact_kl(p, q)
    assert -1e-6 <= h <= math.log(len(logits)) + 1e-5 and kl >= 0 and torch.isfinite(kl)
    (h + kl).backward()
    assert torch.isfinite(p.grad).all()
    assert exact_kl(p, p) == 0


@many
@given(st.lists(st.sampled_from([0.0, -1e-6, -1.0, -50.0, -88.0, -1e4]), min_size=2, max_size=6), seeds)
def test_extreme_log_probabilities(values, seed):
    """Preference losses and k1, k2 stay finite, with their gradients, however improbable a text is."""
    a = torch.tensor(values)
    b = a[torch.randperm(len(a), generator=torch.Generator().manual_seed(seed))]
    ref = torch.zeros_like(a) - 3
    fns = [
        lambda x: da.dpo_loss(x, b, ref, ref), lambda x: da.rdpo_loss(x, b, ref, ref, label_smoothing=0.2),
        lambda x: da.ipo_loss(x, b, ref, ref), lambda x: da.hinge_loss(x, b, ref, ref), lambda x: da.simpo_loss(x, b),
        lambda x: da.cpo_loss(x, b), lambda x: da.orpo_loss(x, b), lambda x: da.orpo_loss(b, x),
        lambda x: da.kto_loss(x, torch.arange(len(x)) % 2, ref), lambda x: pairwise_loss(x, b, margin=1.0),
        lambda x: pairwise_loss(1e4 * x, 1e4 * b), lambda x: plackett_luce_loss(x[None], torch.arange(len(x))[None]),
    ]
    for i, fn in enumerate(fns):
        x = a.clone().requires_grad_()
        loss, stats = fn(x)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(x.grad).all() and loss.dtype == torch.float32, i
        assert all(torch.isfinite(s) for s in stats.values()), i
    assert torch.isfinite(k1(a, b)).all() and (k2(a, b) >= 0).all() and (k3(a, b) >= 0).all()
    assert torch.equal(k1(a, b), -k1(b, a)) and (k3(a, a) == 0).all()


@few
@given(padded(), st.sampled_from([1e-3, 1.0, 1e3]))
def test_extreme_temperatures_and_weights(case, temperature):
    """Logits of 1e3 and more: finite log-probabilities and gradients, no clamp in the way (B3)."""
    _, ids, attention = case
    logp = token_logps(MODEL, ids, attention, temperature=temperature)
    grads = torch.autograd.grad(logp.sum(), list(MODEL.parameters()), allow_unused=True)
    assert torch.isfinite(logp).all() and (logp <= 0).all()
    assert all(torch.isfinite(x).all() for x in grads if x is not None)


# ---- low precision ----


@few
@given(padded())
def test_bfloat16_models_give_float32_numbers(case):
    """B2: the softmax of the model's own logits, taken in float32, and float32 losses with gradients on the weights."""
    some, ids, attention = case
    logp = token_logps(HALF, ids, attention)
    real = (attention[:, :-1] * attention[:, 1:]).bool()
    assert logp.dtype == torch.float32 and (logp <= 0).all()
    for i, r in enumerate(some):
        assert torch.allclose(logp[i][real[i]], alone(r, HALF), atol=0.15)  # padding moves bfloat16 sums a little
    if real.any():
        loss, stats = sft_loss(logp, real.float())
        assert loss.dtype == torch.float32 and all(s.dtype == torch.float32 for s in stats.values())
        grads = torch.autograd.grad(loss, list(HALF.parameters()), allow_unused=True)
        assert all(torch.isfinite(x).all() for x in grads if x is not None)


def test_bfloat16_softmax_would_be_coarser():
    """Negative control of B2: the same logits through a softmax in bfloat16 are rounded to 8 bits."""
    ids = torch.tensor([[3, 4, 5, 6, 7]])
    with torch.no_grad():
        right = token_logps(HALF, ids, torch.ones(1, 5))[0]
        logits = HALF(ids).logits[0, :-1]
    wrong = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].float()
    assert torch.allclose(right, alone(ids[0].tolist(), HALF), atol=1e-5)
    assert (wrong - right).abs().max() > 1e-4 and torch.equal(right.bfloat16().float() == right, torch.zeros(4).bool())


@pytest.mark.parametrize("given_as, want", [
    (torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float32, torch.float32),
    (torch.float64, torch.float64),
])
def test_losses_are_float32_whatever_they_are_given(given_as, want):
    """Half precision never enters a reduction; float64 stays for the proofs (conventions 6)."""
    g = torch.Generator().manual_seed(0)
    logp, old = (-torch.rand(4, 3, generator=g).to(given_as) for _ in range(2))
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 1], [1, 1, 0]])
    for name, loss in token_losses(old, torch.randn(4, generator=g).to(given_as), mask, 2).items():
        value, stats = loss(logp)
        assert value.dtype == want, name
        assert all(s.dtype in (want, torch.float32) for s in stats.values()), name
    assert pairwise_loss(logp[:, 0], old[:, 0])[0].dtype == want
    assert k3(logp, old).dtype == exact_kl(logp, old).dtype == entropy(logp).dtype == want


@few
@given(st.lists(row, min_size=1, max_size=3), seeds)
def test_bfloat16_sampling(prompts, seed):
    got = sample(HALF, prompts, n=2, max_new_tokens=3, eos_id=0, generator=torch.Generator().manual_seed(seed))
    assert got.logp_old.dtype == torch.float32 and (got.logp_old[got.mask == 0] == 0).all()
    again = sample(HALF, prompts, n=2, max_new_tokens=3, eos_id=0, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(got.ids, again.ids)  # B11


# ---- evaluation ----


@many
@given(st.integers(1, 30), st.data())
def test_pass_at_k_and_win_rate(n, data):
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    value = pass_at_k(n, correct, k)
    assert 0 <= value <= 1 and value >= 1 - (1 - correct / n) ** k - 1e-12  # never below the biased one (I3)
    assert math.isclose(pass_at_k(n, correct, 1), correct / n, abs_tol=1e-12)
    a, b = (data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)) for _ in range(2))
    (rate, low, high), (other, other_low, other_high) = win_rate(a, b), win_rate(b, a)
    assert 0 <= low <= rate <= high <= 1 and low < high
    assert all(map(partial(math.isclose, abs_tol=1e-9), (rate, low, high), (1 - other, 1 - other_high, 1 - other_low)))
