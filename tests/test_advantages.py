"""Returns, GAE, leave-one-out, group normalisation (D1-D10, D12, C12)."""

import pytest
import torch

from rlhf_minimal.advantages import gae, group_normalize, leave_one_out, per_token, returns_to_go
from rlhf_minimal.tensors import masked_whiten

NAN = float("nan")


def naive_gae(reward, value, mask, gamma, lam):
    """Squeeze the masked-out places away, run the textbook recursion, put the numbers back."""
    adv, ret = torch.zeros_like(reward), torch.zeros_like(reward)
    for b in range(len(reward)):
        at = [t for t in range(reward.shape[1]) if mask[b, t]]
        for i, t in enumerate(at):
            total = 0.0
            for j in range(i, len(at)):
                after = value[b, at[j + 1]].item() if j + 1 < len(at) else 0.0
                delta = reward[b, at[j]].item() + gamma * after - value[b, at[j]].item()
                total += (gamma * lam) ** (j - i) * delta
            adv[b, t], ret[b, t] = total, total + value[b, t].item()
    return adv, ret


def test_D1_by_hand():
    r, v, m = torch.tensor([[-0.1, -0.2, 1.0]]), torch.tensor([[0.5, 0.4, 0.3]]), torch.ones(1, 3)
    assert gae(r, v, m, gamma=1.0, lam=1.0)[1][0].tolist() == pytest.approx([0.7, 0.8, 1.0])
    assert gae(r, v, m, gamma=1.0, lam=0.0)[0][0].tolist() == pytest.approx([-0.2, -0.3, 0.7])
    assert returns_to_go(r, m)[0].tolist() == pytest.approx([0.7, 0.8, 1.0])
    assert returns_to_go(r, m, 0.5)[0].tolist() == pytest.approx([0.05, 0.3, 1.0])


@pytest.mark.parametrize("gamma, lam", [(1.0, 0.95), (0.9, 0.8), (0.5, 0.0), (0.7, 1.0), (0.0, 0.5)])
def test_D1_against_a_loop_under_padding_and_gaps(gamma, lam):
    torch.manual_seed(0)
    r, v = torch.randn(6, 9, dtype=torch.float64), torch.randn(6, 9, dtype=torch.float64)
    mask = (torch.rand(6, 9) < 0.6).long()
    mask[0], mask[1], mask[2] = 1, torch.tensor([0, 0, 1, 1, 1, 1, 0, 0, 0]), torch.tensor([1, 1, 0, 0, 0, 1, 1, 0, 0])
    mask[3] = 0  # an empty row
    adv, ret = gae(r, v, mask, gamma=gamma, lam=lam)
    want = naive_gae(r, v, mask, gamma, lam)
    assert torch.allclose(adv, want[0], atol=1e-12) and torch.allclose(ret, want[1], atol=1e-12)
    plain = naive_gae(r, torch.zeros_like(v), mask, gamma, 1.0)[0]
    assert torch.allclose(returns_to_go(r, mask, gamma), plain, atol=1e-12)


@pytest.mark.parametrize("garbage", [NAN, float("inf"), 1e30])
def test_D1_what_stands_off_the_mask_is_never_read(garbage):
    r, v = torch.tensor([[0.1, 0.0, 1.0, 0.0]]), torch.tensor([[0.5, 0.4, 0.3, 0.7]])
    mask = torch.tensor([[1, 0, 1, 0]])
    loud = [torch.where(mask.bool(), x, garbage) for x in (r, v)]
    for a, b in zip(gae(*loud, mask), gae(r, v, mask), strict=True):
        assert torch.equal(a, b) and (a[mask == 0] == 0).all()
    naive_last = r[0, 2] + v[0, 3] - v[0, 2]  # the wrong variant: V of the pad as bootstrap
    assert gae(r, v, mask, lam=0.0)[0][0, 2].item() != pytest.approx(naive_last.item())


def test_D1_a_gap_neither_discounts_nor_resets():
    r, v = torch.tensor([[0.0, 0.0, 0.0, 1.0]]), torch.zeros(1, 4)
    gap = torch.tensor([[1, 0, 0, 1]])
    assert gae(r, v, gap, gamma=0.9, lam=1.0)[0][0].tolist() == pytest.approx([0.9, 0, 0, 1.0])
    assert returns_to_go(r, gap, 0.9)[0].tolist() == pytest.approx([0.9, 0, 0, 1.0])
    assert returns_to_go(r, torch.ones(1, 4), 0.9)[0, 0].item() == pytest.approx(0.729)  # another thing


def test_D2_a_cut_row_counts_as_ended():
    r, v, m = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.2, 5.0]]), torch.ones(1, 2)
    assert gae(r, v, m, gamma=1.0, lam=0.5)[0][0, 1].item() == pytest.approx(1.0 - 5.0)  # no V after the last


def test_D3_returns_come_from_raw_advantages():
    torch.manual_seed(1)
    r, v, m = torch.randn(3, 5), torch.randn(3, 5), torch.ones(3, 5)
    adv, ret = gae(r, v, m)
    assert torch.allclose(ret, adv + v)
    kept = ret.clone()
    white = masked_whiten(adv, m)
    assert torch.equal(ret, kept) and not torch.allclose(ret, white + v, atol=0.1)


@pytest.mark.parametrize("size", [2, 3, 7, 64])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1000.1, 1e7, -0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_D6_equal_scores_give_exactly_zero(size, value, dtype):
    score = torch.full((2 * size,), value, dtype=dtype)
    assert (group_normalize(score, size) == 0).all() and (leave_one_out(score, size) == 0).all()


def test_D6_the_wrong_variant_gives_noise():
    s = torch.full((7,), 0.1)
    centred = s - s.sum() / 7
    assert (centred / (centred.square().sum() / 6).sqrt().add(1e-8)).abs().max() > 0.1


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_D6_a_real_spread_of_a_few_hundredths_survives(offset):
    s = offset + torch.tensor([0.00, 0.03, 0.06, 0.03])
    assert group_normalize(s, 4).std().item() == pytest.approx(1, abs=1e-3)
    coarse = (s - s.mean()) / (s.std() + 1e-1)  # a large epsilon flattens it
    assert coarse.std().item() < 0.5


def test_D7_and_D8_by_hand():
    s = torch.tensor([1.0, 0, 0, 0])
    assert group_normalize(s, 4).tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5])
    biased = (s - s.mean()) / s.std(unbiased=False)
    assert biased.tolist() == pytest.approx([1.732, -0.577, -0.577, -0.577], abs=1e-3)
    assert group_normalize(s, 4, scale=False).tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25])
    assert leave_one_out(s, 4).tolist() == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])


@pytest.mark.parametrize("size", [2, 3, 5])
def test_D8_leave_one_out_against_its_words(size):
    torch.manual_seed(size)
    s = torch.randn(4 * size, dtype=torch.float64) * 5 + 100
    got = leave_one_out(s, size)
    for i in range(len(s)):
        group = range(i // size * size, i // size * size + size)
        others = [s[j].item() for j in group if j != i]
        assert got[i].item() == pytest.approx(s[i].item() - sum(others) / len(others), abs=1e-9)
    assert torch.allclose(got.view(-1, size).sum(1), torch.zeros(4, dtype=torch.float64), atol=1e-9)
    centred = group_normalize(s, size, scale=False)
    assert torch.allclose(got, centred * size / (size - 1), atol=1e-9)


def test_D9_rows_of_a_prompt_are_adjacent():
    torch.manual_seed(0)
    s = torch.randn(12)
    order = torch.tensor([2, 0, 3, 1])
    rows = (order[:, None] * 3 + torch.arange(3)).flatten()
    for fn in (leave_one_out, group_normalize):
        assert torch.allclose(fn(s, 3)[rows], fn(s[rows], 3), atol=1e-6)
        mixed = fn(s.view(3, 4).t().reshape(-1), 3).view(4, 3).t().reshape(-1)  # the wrong variant: (k, N)
        assert mixed.sum().abs() < 1e-4 and not torch.allclose(mixed, fn(s, 3), atol=0.1)  # sums to 0 all the same


@pytest.mark.parametrize("shift", [1.0, -50.0, 1000.0])
def test_C12_a_constant_changes_no_advantage(shift):
    s = torch.tensor([1.0, 0.25, 0, -1, 0.5, 2])
    for fn in (leave_one_out, group_normalize):
        assert torch.allclose(fn(s + shift, 3), fn(s, 3), atol=1e-6)


def test_D10_one_number_a_row_goes_along_the_row():
    adv, mask = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 1]])  # B = T
    assert per_token(adv, mask).tolist() == [[1, 1, 0], [0, 2, 2], [0, 0, 3]]
    assert (adv * mask).tolist() != per_token(adv, mask).tolist()  # the wrong variant broadcasts along columns
    full = torch.arange(9.0).view(3, 3)
    assert torch.equal(per_token(full, mask), full * mask)
    for bad in (torch.ones(2), torch.ones(3, 1), torch.ones(1, 3), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="shapes differ"):
            per_token(bad, mask)
    assert torch.isfinite(per_token(torch.tensor([NAN, 1.0]), torch.tensor([[0, 0], [1, 0]]))).all()
    with pytest.raises(ValueError, match="NaN"):
        per_token(torch.tensor([NAN, 1.0]), torch.tensor([[0, 1], [1, 0]]))


def test_D12_everything_is_detached():
    s = torch.randn(4, requires_grad=True)
    r, v = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    m = torch.ones(2, 3)
    outs = [leave_one_out(s, 2), group_normalize(s, 2), returns_to_go(r, m), *gae(r, v, m), per_token(s[:2], m)]
    assert not any(out.requires_grad for out in outs)


def test_wrong_input_raises():
    s = torch.ones(6)
    for fn in (leave_one_out, group_normalize):
        for size in (1, 4, 0, -2, 12, 2.0, True):
            with pytest.raises(ValueError, match="6"):
                fn(s, size)
        for bad in (torch.ones(3, 2), torch.ones(0)):
            with pytest.raises(ValueError):
                fn(bad, 2)
        for odd in (NAN, float("inf")):
            with pytest.raises(ValueError, match="1 of 2 scores"):
                fn(torch.tensor([1.0, odd]), 2)
        assert fn(torch.tensor([1, 0]), 2).dtype == torch.float32
    r, m = torch.ones(2, 3), torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"value \(2, 2\)"):
        gae(r, torch.ones(2, 2), m)
    for bad in (dict(gamma=1.1), dict(lam=-0.1), dict(gamma=NAN)):
        with pytest.raises(ValueError, match="0 to 1"):
            gae(r, r, m, **bad)
    with pytest.raises(ValueError, match="0 to 1"):
        returns_to_go(r, m, 2.0)
    with pytest.raises(ValueError, match="empty"):
        gae(r, r, 0 * m)
    with pytest.raises(ValueError, match="NaN"):
        gae(r * NAN, r, m)
    with pytest.raises(ValueError, match="NaN"):
        returns_to_go(r * NAN, m)
    with pytest.raises(ValueError, match=r"\(B,T\)"):
        returns_to_go(r[0], m[0])


def test_D6_a_spread_of_1e_8_is_a_spread():
    """1.5e-8 and 0 have the standard deviation 1.06e-8 (n-1), above the floor of 1e-8: advantages +- 1/sqrt 2."""
    got = group_normalize(torch.tensor([1.5e-8, 0.0]), 2)
    assert got.tolist() == pytest.approx([0.5**0.5, -(0.5**0.5)], rel=1e-4)


def test_all_three_shapes_are_told_at_once():
    with pytest.raises(ValueError, match=r"reward \(2, 3\), value \(2,\), mask \(2, 3\)"):
        gae(torch.zeros(2, 3), torch.zeros(2), torch.ones(2, 3))


def test_D1_gae_by_hand_and_over_padding():
    r, v = torch.tensor([[-0.1, -0.2, 1.0]]), torch.tensor([[0.5, 0.4, 0.3]])
    mask = torch.ones(1, 3)
    assert torch.allclose(gae(r, v, mask, lam=1.0)[1], torch.tensor([[0.7, 0.8, 1.0]]))
    assert torch.allclose(gae(r, v, mask, lam=0.0)[0], torch.tensor([[-0.2, -0.3, 0.7]]))
    wide = [torch.cat([x, torch.full((1, 2), 9.0)], 1) for x in (r, v)]
    adv, ret = gae(*wide, torch.tensor([[1.0, 1, 1, 0, 0]]), lam=0.9)
    short = gae(r, v, mask, lam=0.9)
    assert torch.equal(adv[:, :3], short[0]) and torch.equal(ret[:, :3], short[1]) and (adv[:, 3:] == 0).all()


def test_D2_truncation_is_terminal_by_default():
    """A row cut by the limit has the same advantages as one that ended there: V behind it is 0, with C8's penalty."""
    r, v = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.5, 0.4, 7.0]])
    cut = gae(r[:, :2], v[:, :2], torch.ones(1, 2))[0]
    assert torch.equal(gae(r, v, torch.tensor([[1.0, 1, 0]]))[0][:, :2], cut)


def test_D3_whitened_advantages_give_other_returns():
    torch.manual_seed(0)
    r, v, mask = torch.randn(3, 4), torch.randn(3, 4), torch.ones(3, 4)
    adv, ret = gae(r, v, mask)
    assert torch.allclose(ret, adv + v)
    assert not torch.allclose(ret, masked_whiten(adv, mask) + v, atol=0.1)


def test_gae_tells_shapes_that_differ_by_name():
    with pytest.raises(ValueError, match=r"reward \(1, 2\), value \(1, 3\), mask \(1, 2\)"):
        gae(torch.ones(1, 2), torch.ones(1, 3), torch.ones(1, 2))


def test_a_spread_of_a_little_more_than_1e_8_is_a_spread():
    """Scores 0 and 2e-8 deviate by 1.4e-8: the advantages are those of any two scores; of 2e-9 they are cut short."""
    wide, narrow = (group_normalize(torch.tensor([0.0, x], dtype=torch.float64), 2) for x in (2e-8, 2e-9))
    assert wide.tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5]) and narrow.tolist() == pytest.approx([-0.1, 0.1])
