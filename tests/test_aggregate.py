"""The only reduction from tokens to a scalar (E6, E11, E14, J1, J5)."""

import math

import pytest
import torch

from rlhf_minimal.aggregate import MODES, aggregate, mean_over_rows, merge_stats
from rlhf_minimal.ppo import policy_loss
from rlhf_minimal.reinforce import reinforce_loss

X = torch.tensor([[1.0] * 2 + [9.0] * 8, [3.0] * 8 + [9.0] * 2])
MASK = torch.tensor([[1] * 2 + [0] * 8, [1] * 8 + [0] * 2])
WANT = {"token_mean": 2.6, "sequence_mean": 2.0, "sequence_sum": 13.0, "fixed": 1.3}


def naive(x, mask, mode, denominator=None):
    rows = [[v for v, on in zip(r, m, strict=True) if on] for r, m in zip(x.tolist(), mask.tolist(), strict=True)]
    full = [r for r in rows if r]
    if mode in ("token_mean", "fixed"):
        count = sum(map(len, rows)) if mode == "token_mean" else x.numel()
        return sum(map(sum, rows)) / (denominator or count)
    per_row = [sum(r) / (len(r) if mode == "sequence_mean" else 1) for r in full]
    return sum(per_row) / (denominator or len(full))


@pytest.mark.parametrize("mode", MODES)
def test_E6_by_hand(mode):
    for mask in (MASK, MASK.bool(), MASK.float()):
        assert aggregate(X, mask, mode).item() == pytest.approx(WANT[mode])
    assert len({round(v, 6) for v in WANT.values()}) == 4  # the example separates all four


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("denominator", [None, 7, 3.5, torch.tensor(5.0)])
def test_E6_against_a_loop_with_gaps_and_empty_rows(mode, denominator):
    torch.manual_seed(1)
    x, mask = torch.randn(5, 6, dtype=torch.float64), (torch.rand(5, 6) < 0.5).long()
    mask[3] = 0
    want = naive(x, mask, mode, None if denominator is None else float(denominator))
    assert aggregate(x, mask, mode, denominator=denominator).item() == pytest.approx(want, abs=1e-12)


def test_E6_a_row_with_an_empty_mask_is_not_counted():
    x, mask = torch.cat([X, X[:1]]), torch.cat([MASK, 0 * MASK[:1]])
    for mode in ("token_mean", "sequence_mean", "sequence_sum"):
        assert aggregate(x, mask, mode).item() == pytest.approx(WANT[mode])
    assert aggregate(x, mask, "fixed").item() == pytest.approx(26 / 30)  # B*T counts every row
    assert (x * mask).sum(1).mean().item() != pytest.approx(WANT["sequence_sum"])  # the wrong variant


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("mode", MODES)
def test_E11_garbage_off_the_mask(mode, garbage):
    x = torch.where(MASK.bool(), X, garbage).requires_grad_()
    out = aggregate(x, MASK, mode)
    out.backward()
    assert out.item() == pytest.approx(WANT[mode])
    assert torch.isfinite(x.grad).all() and (x.grad[~MASK.bool()] == 0).all() and (x.grad[MASK.bool()] > 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_E14_micro_batches_add_up_to_the_whole(mode):
    torch.manual_seed(2)
    x, mask = torch.randn(8, 5, dtype=torch.float64), (torch.rand(8, 5) < 0.6).long()
    mask[:, 0] = 1
    mask[6] = 0
    count = {"token_mean": mask.sum(), "fixed": mask.numel()}.get(mode, (mask.sum(1) > 0).sum())
    grads = []
    for size in (8, 3, 1):
        z = x.clone().requires_grad_()
        for i in range(0, 8, size):
            part = slice(i, i + size)
            aggregate(z[part], mask[part], mode, denominator=count).backward()
        grads.append(z.grad)
    assert torch.allclose(grads[0], grads[1], atol=1e-12) and torch.allclose(grads[0], grads[2], atol=1e-12)
    whole = x.clone().requires_grad_()
    aggregate(whole, mask, mode).backward()
    assert torch.allclose(whole.grad, grads[0], atol=1e-12)


def test_E14_the_wrong_variant_differs():
    parts = [aggregate(X[i:i + 1], MASK[i:i + 1], "token_mean").item() for i in (0, 1)]
    assert sum(parts) / 2 == pytest.approx(2.0)  # mean of means
    right = sum(aggregate(X[i:i + 1], MASK[i:i + 1], "token_mean", denominator=10).item() for i in (0, 1))
    assert right == pytest.approx(2.6)


@pytest.mark.parametrize("mode", MODES)
def test_J5_nothing_to_learn(mode):
    x, none = X.clone().requires_grad_(), torch.zeros_like(X)
    with pytest.raises(ValueError, match="empty"):
        aggregate(x, none, mode)
    out = aggregate(x, none, mode, denominator=10)
    assert out.item() == 0
    out.backward()
    assert (x.grad == 0).all()


def test_wrong_input_raises():
    with pytest.raises(ValueError, match="'mean'.*token_mean"):
        aggregate(X, MASK, "mean")
    with pytest.raises(ValueError, match=r"\(2, 10\).*\(2, 1\)"):
        aggregate(X, MASK[:, :1], "fixed")
    with pytest.raises(ValueError, match=r"\(B,T\)"):
        aggregate(X[0], MASK[0], "fixed")
    for bad in (0, -1, float("nan"), float("inf"), torch.tensor(0)):
        with pytest.raises(ValueError, match="denominator"):
            aggregate(X, MASK, "fixed", denominator=bad)
    with pytest.raises(ValueError, match="NaN"):
        aggregate(X * float("nan"), MASK, "fixed")
    assert aggregate(X.bfloat16(), MASK, "token_mean").dtype == torch.float32


def test_E6_reductions_on_the_stock_example():
    x = torch.cat([torch.full((1, 10), 1.0), torch.full((1, 10), 3.0)])
    mask = torch.zeros(2, 10)
    mask[0, :2], mask[1, :8] = 1, 1
    old = torch.zeros(2, 10)
    # at ratio 1 the PPO loss of advantages -x is the mean of x: 2.6; summed by rows it is 13
    assert abs(policy_loss(old, old, -x, mask)[0].item() - 2.6) < 1e-6
    assert abs(reinforce_loss(torch.ones(2, 10), -x, mask)[0].item() - (2 + 24) / 2) < 1e-6
    assert abs(aggregate(x, mask, "sequence_mean").item() - 2.0) < 1e-6


def test_mean_over_rows():
    x = torch.tensor([1.0, 4.0, 4.0], requires_grad=True)
    assert mean_over_rows(x).item() == 3 and mean_over_rows(x, denominator=2).item() == 4.5
    assert torch.autograd.grad(mean_over_rows(x, denominator=2), x)[0].tolist() == [0.5, 0.5, 0.5]
    empty = mean_over_rows(x[:0], denominator=2)
    assert empty.item() == 0 and empty.requires_grad
    with pytest.raises(ValueError, match="is empty"):
        mean_over_rows(x[:0])


def test_losses_of_micro_batches_add_up_and_other_statistics_are_weighed():
    parts = [(3, {"loss": 0.3, "policy_loss": 0.1, "kl": 2.0, "nll": 1.0, "perplexity": 9.0, "tokens": 3}),
             (1, {"loss": 0.2, "policy_loss": 0.4, "kl": 6.0, "nll": 3.0, "perplexity": 9.0, "tokens": 1}),
             (0, {"loss": 0.5, "kl": 100.0}), (4, {"loss": 0.1, "only_here": 7.0})]
    got = merge_stats(parts)
    assert got["loss"] == pytest.approx(0.6) and got["policy_loss"] == pytest.approx(0.5)  # the part without terms is left out
    assert got["kl"] == pytest.approx(3.0) and got["only_here"] == 7.0  # (3 * 2 + 1 * 6) / 4
    assert got["nll"] == pytest.approx(1.5) and got["perplexity"] == pytest.approx(math.exp(1.5)) and "tokens" not in got
    assert merge_stats([(0, {"kl": 5.0})]) == {"loss": 0.0, "kl": 0.0}
