"""Masks, means, positions, padding (A1-A4, D4, E11)."""

import math

import pytest
import torch

from rlhf_minimal.tensors import (
    as_float,
    check_answers,
    check_finite,
    check_groups,
    check_mask,
    check_no_nan,
    check_positive,
    check_shapes,
    check_share,
    id_list,
    last_index,
    mask_through_first,
    masked_mean,
    masked_sum,
    masked_whiten,
    pad_left,
    pad_right,
    positions,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float32, torch.uint8, torch.bfloat16])
def test_means_by_hand_for_masks_of_every_dtype(kind):
    x = torch.tensor([[1.0, 2.0, 99.0], [5.0, 99.0, 99.0], [99.0, 99.0, 99.0]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]]).to(kind)
    assert masked_sum(x, mask).item() == 8 and masked_mean(x, mask).item() == pytest.approx(8 / 3)
    assert masked_mean(x, mask, 1).tolist() == [1.5, 5.0, 0.0]  # a row with an empty mask gives 0
    assert masked_mean(x, mask, 0).tolist() == [3.0, 2.0, 0.0]
    assert masked_sum(x, mask, dim=1).tolist() == [3.0, 5.0, 0.0]


def test_half_precision_is_summed_in_float32():
    x = torch.ones(1, 1000, dtype=torch.bfloat16)
    assert masked_sum(x, torch.ones(1, 1000)).dtype == torch.float32
    assert masked_sum(x, torch.ones(1, 1000)).item() == 1000
    running = torch.zeros((), dtype=torch.bfloat16)
    for one in x[0]:
        running = running + one
    assert running.item() == 256  # the wrong variant: 8 bits cannot count further
    assert as_float(x.double()).dtype == torch.float64


@pytest.mark.parametrize("garbage", [NAN, INF, -INF, 1e30])
@pytest.mark.parametrize("reduce", [masked_sum, masked_mean, masked_whiten])
def test_E11_garbage_off_the_mask_reaches_neither_value_nor_gradient(reduce, garbage):
    x = torch.tensor([[1.0, 2.0, garbage, 4.0]], requires_grad=True)
    clean = torch.tensor([[1.0, 2.0, 0.0, 4.0]], requires_grad=True)
    mask, weights = torch.tensor([[1, 1, 0, 1]]), torch.tensor([[1.0, 3.0, 5.0, 7.0]])
    outs = [(reduce(z, mask) * weights).sum() for z in (x, clean)]
    outs[0].backward(), outs[1].backward()
    assert outs[0].item() == outs[1].item() and torch.equal(x.grad, clean.grad)
    assert x.grad[0, 2] == 0 and torch.isfinite(x.grad).all()
    if garbage != 1e30:  # the wrong variant multiplies
        assert torch.isnan((x.detach() * mask).sum())


def test_nan_on_the_mask_and_odd_masks_raise():
    x = torch.tensor([[1.0, NAN]])
    with pytest.raises(ValueError, match="1 NaN"):
        masked_mean(x, torch.ones(1, 2))
    assert masked_mean(x, torch.tensor([[1, 0]])).item() == 1
    for mask in ([[0.5, 1.0]], [[2, 0]], [[-1, 1]], [[NAN, 1.0]]):
        with pytest.raises(ValueError, match="0 and 1"):
            check_mask(torch.ones(1, 2), torch.tensor(mask))


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 1), (3, 2)])
def test_nothing_is_broadcast(shape):
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        masked_mean(torch.ones(2, 3), torch.ones(shape))
    with pytest.raises(ValueError, match="nothing is broadcast"):
        check_shapes(a=torch.ones(2, 3), b=torch.ones(shape))


def test_empty_masks():
    x, none = torch.ones(2, 3), torch.zeros(2, 3)
    for call in (lambda: masked_mean(x, none), lambda: masked_mean(x, none, 1), lambda: masked_whiten(x, none)):
        with pytest.raises(ValueError, match="empty"):
            call()
    assert masked_sum(x, none).item() == 0


def test_D4_whitening_against_a_loop_in_float64():
    torch.manual_seed(0)
    x, mask = torch.randn(4, 7) * 3 + 10, (torch.rand(4, 7) < 0.6).long()
    picked = [x[i, j].item() for i in range(4) for j in range(7) if mask[i, j]]
    mean = sum(picked) / len(picked)
    std = (sum((v - mean) ** 2 for v in picked) / (len(picked) - 1)) ** 0.5
    for shift in (True, False):
        out = masked_whiten(x, mask, shift_mean=shift)
        for i in range(4):
            for j in range(7):
                want = ((x[i, j].item() - mean) / std + (0 if shift else mean)) if mask[i, j] else 0.0
                assert out[i, j].item() == pytest.approx(want, abs=2e-5)
    loud = torch.where(mask.bool(), x, 1e25)
    assert torch.equal(masked_whiten(loud, mask), masked_whiten(x, mask))
    whole = (x - x.mean()) / x.std()  # the wrong variant takes the padding in
    assert (whole - masked_whiten(x, mask)).abs()[mask.bool()].max() > 0.01


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1000.1, -7e6, 0.0])
def test_D4_constant_input_is_not_amplified(value):
    x, mask = torch.full((3, 7), value), torch.ones(3, 7)
    assert (masked_whiten(x, mask) == 0).all()
    assert torch.equal(masked_whiten(x, mask, shift_mean=False), x)
    one = torch.zeros(3, 7)
    one[1, 2] = 1
    assert (masked_whiten(x, one) == 0).all() and torch.equal(masked_whiten(x, one, False), x * one)


def test_D4_the_wrong_variant_amplifies_rounding():
    x = torch.full((7,), 0.1)
    naive = (x - x.sum() / 7) / (((x - x.sum() / 7) ** 2).sum() / 6 + 1e-20).sqrt()
    assert naive.abs().max() > 0.5
    small = 1000 + torch.tensor([[0.0, 0.03, 0.06]])  # a real, small spread is kept
    assert masked_whiten(small, torch.ones(1, 3))[0].tolist() == pytest.approx([-1, 0, 1], abs=2e-3)


def test_A4_B10_mask_through_first():
    ids = torch.tensor([[4, 9, 9, 7], [4, 5, 6, 7], [9, 4, 4, 4], [4, 7, 9, 1]])
    assert mask_through_first(ids, 9).tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]]
    assert mask_through_first(ids, [9, 7]).tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]]
    assert mask_through_first(ids, 9).dtype == torch.float32
    without_eos = (ids != 9).float()  # the wrong variant (pad == eos): the end is never learned
    assert without_eos[0].tolist() == [1, 0, 0, 1]
    for eos in (None, [], "9", -1, True, [1, None], 2.0):
        with pytest.raises(ValueError, match="eos_id"):
            id_list(eos)
    with pytest.raises(ValueError, match=r"\(B,T\)"):
        mask_through_first(ids[0], 9)


def test_F1_last_index_under_any_padding_and_gaps():
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]])
    for m in (mask, mask.bool(), mask.float()):
        assert last_index(m).tolist() == [3, 1, 2, 0] and last_index(m).dtype == torch.int64
    assert (mask.sum(1) - 1).tolist()[0] == 2  # the book's variant (K42) is right under right padding only
    assert last_index(torch.ones(2, 1)).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"rows \[1\]"):
        last_index(torch.tensor([[1, 0], [0, 0]]))


def test_A2_positions_count_real_tokens():
    attention = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1, 0, 1]])
    for a in (attention, attention.bool(), attention.float()):
        assert positions(a).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2], [0, 0, 1, 1, 2]]
        assert positions(a).dtype == torch.int64
    with pytest.raises(ValueError):
        positions(attention * 2)


def test_A1_padding_sides():
    ids, attention = pad_left([[5, 6, 7], [8]], value=3)
    assert ids.tolist() == [[5, 6, 7], [3, 3, 8]] and attention.tolist() == [[1, 1, 1], [0, 0, 1]]
    ids, attention = pad_right([[5, 6, 7], [8], []])
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0], [0, 0, 0]] and attention.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert ids.dtype == torch.int64 and attention.dtype == torch.float32
    for rows in ([], [[]]):
        with pytest.raises(ValueError, match="without a single token"):
            pad_left(rows)


def test_check_no_nan_names_the_tensor():
    with pytest.raises(ValueError, match=r"value \(2,\) holds 1 NaN"):
        check_no_nan(score=torch.ones(2), value=torch.tensor([NAN, 1]))


def test_D4_a_spread_of_1e_8_is_a_spread():
    """0 and 1.7e-8 have the variance 1.4e-16 (n-1), above the floor of 1e-16: white they are -+ 1/sqrt 2."""
    white = masked_whiten(torch.tensor([[0.0, 1.7e-8]]), torch.ones(1, 2))
    assert white[0].tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5], rel=1e-4)


def test_D4_whitening_ignores_padding():
    x, mask = torch.tensor([[1.0, 2, 3, 1e9]]), torch.tensor([[1, 1, 1, 0]])
    assert torch.allclose(masked_whiten(x, mask), torch.tensor([[-1.0, 0, 1, 0]]))
    assert (masked_whiten(torch.full((2, 3), 0.7), torch.ones(2, 3)) == 0).all()


def test_numbers_above_0_and_shares():
    check_positive(beta=1e-9, n=3, tensor=torch.tensor(2.0))
    check_share(low=0, high=1.0, middle=0.5)
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"beta is {wrong}; give a finite number above 0"):
            check_positive(alpha=1.0, beta=wrong)
    for wrong in (-1e-9, 1.0000001, math.nan):
        with pytest.raises(ValueError, match=f"gamma is {wrong}; give a number from 0 to 1"):
            check_share(lam=1.0, gamma=wrong)


def test_groups():
    six = torch.zeros(6)
    for size in (2, 3, 6):
        check_groups(size, score=six)
    check_groups(1, smallest=1, score=six)
    check_groups(torch.tensor(3).item(), score=six, value=six)
    four = "6 rows in groups of 4.*2 or more.*divide"
    for size, pieces in ((4, four), (1, "groups of 1"), (0, "groups of 0"), (7, "groups of 7")):
        with pytest.raises(ValueError, match=pieces):
            check_groups(size, score=six)
    for size in (2.0, True, "2", None):
        with pytest.raises(ValueError, match="give .B,. and an int"):
            check_groups(size, score=six)
    with pytest.raises(ValueError, match="groups of 0; a group needs 1 or more"):
        check_groups(0, smallest=1, score=six)
    with pytest.raises(ValueError, match="0 rows"):
        check_groups(2, score=six[:0])
    with pytest.raises(ValueError, match=r"score is \(2, 3\)"):
        check_groups(2, score=six.view(2, 3))
    with pytest.raises(ValueError, match=r"shapes differ: score \(6,\), value \(3,\)"):
        check_groups(3, score=six, value=six[:3])


def test_finite_numbers_and_numbers_per_answer():
    check_finite(score=torch.tensor([1e30, -1e30]))
    for wrong in (math.inf, -math.inf, math.nan):
        with pytest.raises(ValueError, match="1 of 2 scores are NaN or infinite"):
            check_finite(other=torch.ones(3), score=torch.tensor([1.0, wrong]))
    check_answers(a=torch.ones(2), b=torch.zeros(2))
    check_answers(a=torch.ones(0), denominator=3)
    for a, pieces in ((torch.ones(0), r"a is \(0,\).*B >= 1"), (torch.ones(1, 1), r"a is \(1, 1\).*\(B,\)"),
                      (torch.tensor([math.nan]), "1 NaN")):
        with pytest.raises(ValueError, match=pieces):
            check_answers(a=a)
    with pytest.raises(ValueError, match="shapes differ"):
        check_answers(a=torch.ones(2), b=torch.ones(1))
