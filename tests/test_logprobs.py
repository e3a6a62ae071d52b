"""token_logps and its relatives (A2, A3, A9, B1-B4, B7, B8, E10, E11, J5)."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rlhf_minimal.kl import exact_kl
from rlhf_minimal.logprobs import entropy, packed_logps, sequence_logps, token_entropy, token_logps
from rlhf_minimal.tensors import pad_left, positions


class Says(nn.Module):
    """A stand-in for a model: logits (V,) or (B,L,V) from a function of the ids; takes no unknown arguments."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, input_ids, attention_mask, position_ids, use_cache):
        assert use_cache is False
        return SimpleNamespace(logits=self.fn(input_ids))


def padded(row, left, right, pad=0):
    ids = torch.tensor([[pad] * left + row + [pad] * right])
    return ids, torch.tensor([[0] * left + [1] * len(row) + [0] * right])


def naive(model, row, temperature=1.0):
    """One row alone, log-softmax in float64, one token at a time."""
    logits = model(input_ids=torch.tensor([row])).logits[0].double() / temperature
    return [logits[t].log_softmax(0)[row[t + 1]].item() for t in range(len(row) - 1)]


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.5])
def test_against_a_naive_loop(tiny_gpt2, temperature):
    model, row = tiny_gpt2(), [3, 1, 4, 1, 5, 9, 2, 6]
    logp = token_logps(model, *padded(row, 0, 0), temperature=temperature)
    assert logp.shape == (1, 7) and logp.dtype == torch.float32
    assert logp[0].tolist() == pytest.approx(naive(model, row, temperature), abs=1e-4)


@pytest.mark.parametrize("kind", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_A2_padding_on_either_side_changes_nothing(request, kind, attn):
    model, row = request.getfixturevalue(kind)(attn_implementation=attn), [3, 1, 4, 1, 5]
    alone = token_logps(model, *padded(row, 0, 0))[0]
    for left, right in ((1, 0), (5, 0), (0, 5), (3, 2)):
        for pad in (0, 7):  # padding ids have no meaning
            logp = token_logps(model, *padded(row, left, right, pad))[0]
            assert torch.allclose(logp[left:left + 4], alone, atol=1e-4)
            assert logp.nonzero().flatten().tolist() == [left, left + 1, left + 2, left + 3]  # exactly 0 elsewhere


def test_A2_without_positions_gpt2_is_off_by_nats(tiny_gpt2):
    model, row = tiny_gpt2(), [3, 1, 4, 1, 5]
    ids, attention = padded(row, 5, 0)
    wrong = model(input_ids=ids, attention_mask=attention).logits.log_softmax(-1)
    wrong = wrong[:, :-1].gather(2, ids[:, 1:, None])[0, 5:, 0]
    assert (wrong - token_logps(model, ids, attention)[0, 5:]).abs().max() > 0.5


def test_A3_padding_ids_may_be_anything_even_outside_the_vocabulary(tiny_gpt2):
    model = tiny_gpt2()
    ids, attention = padded([3, 0, 4], 2, 2, pad=-100)  # 0 is EOS, inside the row: it stays
    want = token_logps(model, *padded([3, 0, 4], 2, 2))
    assert torch.equal(token_logps(model, ids, attention), want) and (want[0, 2:4] < 0).all()
    by_id = (padded([3, 0, 4], 2, 2)[0] != 0).long()  # the wrong variant: pad == eos loses the real EOS
    assert by_id[0].tolist() != attention[0].tolist()


def test_A3_a_gap_in_the_attention(tiny_gpt2):
    model = tiny_gpt2()
    ids, attention = torch.tensor([[3, 1, 8, 4, 5]]), torch.tensor([[1, 1, 0, 1, 1]])
    logp, alone = token_logps(model, ids, attention)[0], naive(model, [3, 1, 4, 5])
    assert logp[0].item() == pytest.approx(alone[0], abs=1e-4) and logp[3].item() == pytest.approx(alone[2], abs=1e-4)
    assert logp[1] == 0 and logp[2] == 0  # 4's neighbour is not real: not scored


def test_masks_of_every_dtype(tiny_gpt2):
    model = tiny_gpt2()
    ids, attention = padded([3, 1, 4], 2, 1)
    outs = [token_logps(model, ids, attention.to(d)) for d in (torch.bool, torch.int32, torch.int64, torch.float32)]
    assert all(torch.equal(outs[0], out) for out in outs)


def test_B1_shift_with_a_model_that_says_previous_plus_one():
    model = Says(lambda ids: 1e4 * nn.functional.one_hot((ids + 1) % 10, 10).float())
    right, wrong = torch.tensor([[2, 3, 4, 5]]), torch.tensor([[2, 3, 3, 4]])
    ones = torch.ones(1, 4)
    assert token_logps(model, right, ones).tolist() == [[0, 0, 0]]
    assert token_logps(model, wrong, ones).tolist() == [[0, -1e4, 0]]


def test_B2_float32_before_the_softmax(tiny_gpt2):
    model = tiny_gpt2().bfloat16()
    ids = torch.randint(0, 20, (2, 30), generator=torch.Generator().manual_seed(0))
    logits = model(input_ids=ids).logits
    assert logits.dtype == torch.bfloat16
    want = logits.double().log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    half = logits.log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    got = token_logps(model, ids, torch.ones_like(ids))
    assert got.dtype == torch.float32 and (got - want).abs().max() < 1e-5
    assert (half - want).abs().max() > 1e-3


def test_B2_float64_where_the_weights_are(tiny_gpt2):
    model, row = tiny_gpt2().double(), [3, 1, 4, 1, 5]
    logp = token_logps(model, *padded(row, 2, 0))
    assert logp.dtype == torch.float64 and logp[0, 2:].tolist() == pytest.approx(naive(model, row), abs=1e-12)


@pytest.mark.parametrize("gap", [40.0, 200.0, 3e4])
def test_B3_very_improbable_tokens_keep_value_and_gradient(gap):
    bias = torch.zeros(4, requires_grad=True)
    base = torch.tensor([gap, 0.0, 0.0, 0.0])
    model = Says(lambda ids: (base + bias).expand(*ids.shape, 4))
    token_logps(model, torch.tensor([[0, 1]]), torch.ones(1, 2)).sum().backward()
    with torch.no_grad():
        assert token_logps(model, torch.tensor([[0, 1]]), torch.ones(1, 2)).item() == pytest.approx(-gap, rel=1e-6)
    assert bias.grad.tolist() == pytest.approx([-1, 1, 0, 0], abs=1e-6)
    clamped = (base.softmax(0)[1].clamp_min(1e-20)).log()  # the wrong variant stops at -46 nats
    assert (clamped.item() == pytest.approx(-gap, rel=1e-4)) == (gap < 46)


def test_B4_one_temperature():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    model = Says(lambda ids: p.log().expand(*ids.shape, 4))
    row = torch.tensor([[0, 0, 1, 2, 3]])
    cool = p ** (1 / 0.7) / (p ** (1 / 0.7)).sum()
    assert token_logps(model, row, torch.ones(1, 5), temperature=0.7)[0].tolist() == pytest.approx(cool.log().tolist())
    spurious = (cool * (cool.log() - p.log())).sum()
    assert spurious.item() == pytest.approx(0.025, abs=5e-4)
    assert exact_kl(p.log() / 0.7, p.log() / 0.7).item() == 0


def test_B7_dropout_separates_a_model_from_itself(tiny_gpt2):
    model = tiny_gpt2()
    args = padded([3, 1, 4, 1, 5], 0, 0)
    assert torch.equal(token_logps(model, *args), token_logps(copy.deepcopy(model), *args))
    model.train()
    assert not torch.allclose(token_logps(model, *args), token_logps(model, *args), atol=1e-2)


def test_B8_gradients_are_those_of_the_library_loss(tiny_gpt2):
    model = tiny_gpt2()
    ids, attention = padded([3, 1, 4, 1, 5], 0, 0)
    twin = copy.deepcopy(model)
    loss = -token_logps(model, ids, attention).mean()
    loss.backward()
    want = twin(input_ids=ids, labels=ids).loss  # H3: labels shift once
    want.backward()
    assert loss.item() == pytest.approx(want.item(), abs=1e-5)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5)
    with torch.no_grad():
        assert not token_logps(model, ids, attention).requires_grad


def test_E11_nan_at_padding_reaches_nothing():
    weight = torch.ones(6, requires_grad=True)

    def logits(ids):
        out = weight.expand(*ids.shape, 6).clone()
        out[:, :2] = float("nan")
        return out

    ids, attention = padded([3, 1, 4], 2, 0)
    logp = token_logps(Says(logits), ids, attention)
    logp.sum().backward()
    assert logp[0].tolist() == pytest.approx([0, 0, -math.log(6), -math.log(6)])
    assert torch.isfinite(weight.grad).all() and weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="NaN at 1 of 3 real tokens"):
        token_logps(Says(logits), ids, torch.tensor([[0, 1, 1, 1, 1]]))
    with pytest.raises(ValueError, match="NaN"):
        token_entropy(Says(logits), ids, torch.ones(1, 5))


def test_J5_nothing_to_score_is_a_zero_that_depends_on_the_weights(tiny_gpt2):
    model = tiny_gpt2()
    logp = token_logps(model, torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3))
    assert (logp == 0).all()
    logp.sum().backward()
    assert all(p.grad is not None and (p.grad == 0).all() for p in model.parameters())


def test_J6_a_wrapped_model_without_a_config(tiny_gpt2):
    class Wrapped(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *args, **kwargs):
            return self.module(*args, **kwargs)

    model, args = tiny_gpt2(), padded([3, 1, 4], 1, 0)
    wrapped = Wrapped(model)
    assert not hasattr(wrapped, "config") and torch.equal(token_logps(wrapped, *args), token_logps(model, *args))
    with pytest.raises(ValueError, match="vocabulary has 20"):
        token_logps(wrapped, *padded([3, 20], 0, 0))


def test_E10_entropy(tiny_gpt2):
    assert entropy(torch.zeros(4)).item() == pytest.approx(math.log(4))
    assert entropy(torch.tensor([0.0, -math.inf])).item() == 0
    model, temperature = tiny_gpt2(), 0.7
    ids, attention = padded([3, 1, 4], 2, 1)
    p = (model(input_ids=torch.tensor([[3, 1, 4]])).logits[0].double() / temperature).softmax(-1)
    got = token_entropy(model, ids, attention, temperature=temperature)[0]
    want = [-(q * q.log()).sum().item() for q in p[:2]]
    assert got.tolist() == pytest.approx([0, 0, *want, 0], abs=1e-4)
    assert got[2:4].tolist() != pytest.approx(token_entropy(model, ids, attention)[0, 2:4].tolist(), abs=1e-2)
    sharp = torch.tensor([0.0, -1e4], requires_grad=True)
    entropy(sharp).backward()
    assert torch.isfinite(sharp.grad).all()


def test_G1_sequence_logps_sums_the_completion_only(tiny_gpt2):
    model = tiny_gpt2()
    ids, attention = pad_left([[3, 1, 4, 1, 5], [9, 2, 6]])
    mask = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 1, 1]])
    rows = [naive(model, [3, 1, 4, 1, 5])[2:], naive(model, [9, 2, 6])]
    got = sequence_logps(model, ids, attention, mask)
    assert got.tolist() == pytest.approx([sum(r) for r in rows], abs=1e-4)
    average = sequence_logps(model, ids, attention, mask, average=True)
    assert average.tolist() == pytest.approx([sum(r) / 2 for r in rows], abs=1e-4)


def test_sequence_logps_first_token_and_empty_rows(tiny_gpt2):
    model = tiny_gpt2()
    ids, attention = pad_left([[3, 1, 4], [9, 2]])
    got = sequence_logps(model, ids, attention, attention, average=True)  # first tokens: neither scored nor counted
    assert got.tolist() == pytest.approx([sum(naive(model, [3, 1, 4])) / 2, naive(model, [9, 2])[0]], abs=1e-4)
    none = torch.tensor([[0, 0, 1], [0, 0, 0]])
    for average in (True, False):
        assert sequence_logps(model, ids, attention, none, average=average)[1] == 0
    with pytest.raises(ValueError, match="empty"):
        sequence_logps(model, ids, attention, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="attention 0"):
        sequence_logps(model, ids, attention, torch.ones(2, 3))
    with pytest.raises(ValueError, match="shapes differ"):
        sequence_logps(model, ids, attention, torch.ones(2, 2))


@pytest.mark.parametrize("kind", ["tiny_gpt2", "tiny_llama"])
def test_A9_packed_documents_equal_each_alone(request, kind):
    model = request.getfixturevalue(kind)()
    a, b = [3, 1, 4, 1, 5], [9, 2, 6]
    ids, segments = torch.tensor([a + b + [0]]), torch.tensor([[1] * 5 + [2] * 3 + [0]])
    got = packed_logps(model, ids, segments)[0].tolist()
    assert got == pytest.approx(naive(model, a) + [0] + naive(model, b) + [0], abs=1e-4)
    other = packed_logps(model, torch.tensor([[7, 7, 8, 8, 7] + b + [0]]), segments)[0].tolist()
    assert other[5:] == pytest.approx(got[5:], abs=1e-5)  # A does not leak into B
    leaky = token_logps(model, torch.tensor([a + b]), torch.ones(1, 8))[0].tolist()  # the wrong variant
    assert max(abs(x - y) for x, y in zip(leaky[5:], got[5:7], strict=True)) > 0.1


def test_wrong_input_raises(tiny_gpt2):
    model, ids = tiny_gpt2(), torch.tensor([[1, 2, 3]])
    for attention, match in ((torch.ones(1, 2), r"\(1, 3\)"), (torch.ones(3), "shapes"), (2 * ids, "0 and 1")):
        with pytest.raises(ValueError, match=match):
            token_logps(model, ids, attention)
    for temperature in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="temperature"):
            token_logps(model, ids, torch.ones(1, 3), temperature=temperature)
    for bad in (20, -1):
        with pytest.raises(ValueError, match="vocabulary has 20"):
            token_logps(model, torch.tensor([[1, bad]]), torch.ones(1, 2))
    with pytest.raises(ValueError, match="vocabulary has 5"):  # a model that does not tell its size beforehand
        token_logps(Says(lambda i: torch.zeros(*i.shape, 5)), torch.tensor([[1, 7]]), torch.ones(1, 2))
    with pytest.raises(ValueError, match="context is 128"):
        token_logps(model, torch.ones(1, 129, dtype=torch.long), torch.ones(1, 129))
    for wrong in (ids.float(), ids[0], ids[:, :0]):
        with pytest.raises(ValueError, match="give"):
            token_logps(model, wrong, torch.ones_like(wrong))


def test_a_row_as_wide_as_the_context_with_padding_beyond_it(tiny_gpt2):
    model = tiny_gpt2()
    ids, attention = padded([1] * 128, 3, 0)
    assert positions(attention).max() == 127
    assert token_logps(model, ids, attention).shape == (1, 130)


class SaysWhatever(nn.Module):
    """Logits from a function of the ids, nothing else."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.fn(input_ids))


def test_B4_a_temperature_of_exactly_two_divides_too():
    """Logits (0, 4) at temperature 2 are (0, 2): the second token has log-probability -log(1 + e^-2)."""
    model = SaysWhatever(lambda ids: torch.tensor([0.0, 4.0]).expand(*ids.shape, 2))
    got = token_logps(model, torch.tensor([[0, 1]]), torch.ones(1, 2), temperature=2.0)
    assert got.item() == pytest.approx(-math.log1p(math.exp(-2)), abs=1e-6)


def test_A3_padding_is_an_id_of_every_vocabulary():
    """A vocabulary of one token has only the id 0: padding of any value must become that one."""
    model = SaysWhatever(lambda ids: torch.zeros(*ids.shape, 1))
    got = token_logps(model, torch.tensor([[-100, 0, 0]]), torch.tensor([[0, 1, 1]]))
    assert got.tolist() == [[0.0, 0.0]]  # log 1


def test_one_negative_id_among_good_ones_is_refused():
    """The smallest id is looked at, not the largest alone."""
    model = SaysWhatever(lambda ids: torch.zeros(*ids.shape, 5))
    with pytest.raises(ValueError, match="from -1 to 3"):
        token_logps(model, torch.tensor([[3, -1, 2]]), torch.ones(1, 3))


def test_entropy_refuses_nan():
    with pytest.raises(ValueError, match=r"logits \(2, 3\) holds 1 NaN"):
        entropy(torch.tensor([[0.0, math.nan, 1.0], [0.0, 0.0, 0.0]]))


def test_A9_padding_of_a_packed_row_is_not_scored(tiny_gpt2):
    """Two paddings in a row have one number, 0, and still are no document."""
    model = tiny_gpt2()
    got = packed_logps(model, torch.tensor([[3, 1, 4, 0, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0, 0]]))
    alone = token_logps(model, torch.tensor([[3, 1, 4]]), torch.ones(1, 3))
    assert torch.allclose(got[:, :2], alone, atol=1e-4) and (got[:, 2:] == 0).all()


def test_packed_rows_and_segments_of_other_widths_are_refused(tiny_gpt2):
    with pytest.raises(ValueError, match=r"shapes differ: ids \(1, 3\), segments \(1, 2\)"):
        packed_logps(tiny_gpt2(), torch.tensor([[3, 1, 4]]), torch.tensor([[1, 1]]))


def test_a_mask_of_what_is_wanted_that_would_only_broadcast_is_refused():
    model = SaysWhatever(lambda ids: torch.zeros(*ids.shape, 4))
    ids = torch.tensor([[0, 1, 2], [1, 2, 3]])
    assert token_logps(model, ids, torch.ones(2, 3), wanted=torch.ones(2, 2)).shape == (2, 2)
    with pytest.raises(ValueError, match="wanted"):
        token_logps(model, ids, torch.ones(2, 3), wanted=torch.ones(1, 2))


def test_E10_entropy_is_of_the_tempered_distribution(tiny_gpt2):
    model = tiny_gpt2(vocab=4)
    ids = torch.tensor([[1, 2, 3, 1]])
    attention = torch.ones(1, 4)
    with torch.no_grad():
        logits = model(ids).logits[0, :-1]
    for tau in (0.5, 1.0):
        p = (logits / tau).softmax(1)
        got = token_entropy(model, ids, attention, temperature=tau)[0]
        assert torch.allclose(got, -(p * p.log()).sum(1), atol=1e-5)
    hot = token_entropy(model, ids, attention, temperature=1e6)
    assert torch.allclose(hot, torch.full_like(hot, math.log(4)), atol=1e-4)
