"""KL estimators, the exact value, the controllers (C2, C3, C5-C7)."""

import math

import pytest
import torch
import torch.nn.functional as F

from rlhf_minimal.kl import AdaptiveKL, FixedKL, exact_kl, k1, k2, k3, penalized

LOGITS = torch.tensor([0.5, -0.3, 0.2, -0.4], dtype=torch.float64)
REF = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)


def expectation(estimator):
    p = LOGITS.softmax(0)
    x = estimator(p.log(), REF.log())
    return (p * x).sum().item(), ((p * x.square()).sum() - (p * x).sum() ** 2).sqrt().item()


def test_C2_means_and_spreads_on_the_worked_example():
    wants = {k1: (0.32158, 0.853), k2: (0.41586, 0.408), k3: (0.32158, 0.279)}
    for estimator, (mean, spread) in wants.items():
        got = expectation(estimator)
        assert got[0] == pytest.approx(mean, abs=1e-5) and got[1] == pytest.approx(spread, abs=1e-3)
    assert exact_kl(LOGITS, REF.log()).item() == pytest.approx(0.32158, abs=1e-5)
    upside_down = (expectation(lambda p, q: k1(q, p))[0], expectation(lambda p, q: k3(q, p))[0])  # wrong variants
    assert upside_down == pytest.approx((-0.32158, 0.63019), abs=1e-5)


def gradient(term):
    """Expected gradient over the logits of a term of the loss: the samples' probabilities are held constant."""
    z = LOGITS.clone().requires_grad_()
    p = z.softmax(0)
    (p.detach() * term(p.log(), REF.log())).sum().backward()
    return z.grad


def test_C3_the_four_gradients():
    def of(fn):
        z = LOGITS.clone().requires_grad_()
        fn(z).backward()
        return z.grad

    forward = of(lambda z: exact_kl(z, REF.log()))
    other = of(lambda z: exact_kl(REF.log(), z))
    assert torch.allclose(gradient(k1), torch.zeros(4, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(gradient(k2), forward, atol=1e-12)
    assert torch.allclose(gradient(k3), other, atol=1e-12)
    assert torch.allclose(gradient(lambda p, q: (p - p.detach()).exp() * k3(p, q)), forward, atol=1e-12)
    assert (forward - other).abs().max() > 0.01 and forward.abs().max() > 0.1


def test_C2_k3_keeps_its_digits_near_zero_and_is_never_negative():
    d = torch.tensor([1e-3, -1e-3, 1e-4, -1e-4, 0.0])
    got = k3(d, torch.zeros(5))
    want = torch.expm1(-d.double()) + d.double()
    assert torch.allclose(got.double(), want, rtol=0.02, atol=1e-10) and (got >= 0).all()
    naive = (-d).exp() - 1 + d
    assert (naive.double() / want)[2].item() != pytest.approx(1, abs=0.5)  # the wrong variant: rounding only
    big = torch.linspace(-20, 20, 401)
    assert (k3(big, torch.zeros(401)) >= 0).all() and (k2(big, torch.zeros(401)) >= 0).all()


@pytest.mark.parametrize("estimator", [k1, k2, k3])
def test_estimators_keep_shape_dtype_and_refuse_wrong_input(estimator):
    x = torch.randn(2, 3)
    assert estimator(x, x).abs().max() == 0 and estimator(x, x - 1).shape == (2, 3)
    assert estimator(x.double(), x.double()).dtype == torch.float64
    assert estimator(x.bfloat16(), x.bfloat16()).dtype == torch.float32
    for bad in (torch.ones(2, 1), torch.ones(3), torch.ones(2, 2)):
        with pytest.raises(ValueError, match="shapes differ"):
            estimator(x, bad)
    with pytest.raises(ValueError, match="NaN"):
        estimator(x, x * float("nan"))


def test_C3_nothing_is_clamped():
    logp = torch.tensor([60.0], requires_grad=True)
    k1(logp, torch.zeros(1)).backward()
    assert logp.grad.item() == 1
    clamped = torch.tensor([60.0], requires_grad=True)
    k1(clamped, torch.zeros(1)).clamp(-10, 10).backward()
    assert clamped.grad.item() == 0  # the wrong variant: no gradient where it is needed most


def test_C5_exact_kl_against_a_loop_and_against_samples():
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 7) * 2, torch.randn(2, 3, 7) * 2
    got = exact_kl(a, b)
    for i in range(2):
        for j in range(3):
            p, q = a[i, j].double().softmax(0).tolist(), b[i, j].double().softmax(0).tolist()
            want = sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
            assert got[i, j].item() == pytest.approx(want, abs=1e-5)
    logp, logq = a[0, 0].log_softmax(0), b[0, 0].log_softmax(0)
    drawn = torch.multinomial(logp.exp(), 50_000, replacement=True, generator=torch.Generator().manual_seed(1))
    for estimator in (k1, k3):
        x = estimator(logp[drawn], logq[drawn])
        assert abs(x.mean() - got[0, 0]) < 3 * x.std() / 50_000**0.5
    backwards = k1(logq[drawn], logp[drawn])  # the wrong variant
    assert abs(backwards.mean() - got[0, 0]) > 10 * backwards.std() / 50_000**0.5


def test_C6_probability_zero_and_rounding():
    dead = torch.tensor([0.0, 1.0, -math.inf], requires_grad=True)
    kl = exact_kl(dead, torch.tensor([0.5, 0.5, 3.0]))
    kl.backward()
    p, q = torch.tensor([0.0, 1.0]).softmax(0), torch.tensor([0.5, 0.5, 3.0]).softmax(0)[:2]
    assert kl.item() == pytest.approx((p * (p / q).log()).sum().item(), abs=1e-6)
    assert torch.isfinite(dead.grad).all() and dead.grad.abs().max() > 0.01
    both = torch.tensor([0.0, -math.inf])
    assert exact_kl(both, both).item() == 0
    assert exact_kl(torch.zeros(2), both).item() == math.inf
    assert math.isnan((both.softmax(0) * (both.log_softmax(0) - both.log_softmax(0))).sum())  # the wrong variant
    torch.manual_seed(0)
    near = torch.randn(20_000, 8)
    noisy = near + 1e-4 * torch.randn(20_000, 8)
    raw = (near.softmax(-1) * (near.log_softmax(-1) - noisy.log_softmax(-1))).sum(-1)
    assert (raw < 0).any() and (exact_kl(near, noisy) >= 0).all()
    assert exact_kl(torch.tensor([300.0, 0, -300]), torch.tensor([-300.0, 0, 300])).item() == pytest.approx(600)


def test_C6_the_library_function_has_its_arguments_the_other_way_round():
    a, b = LOGITS.log_softmax(0)[None], REF.log()[None]
    right = F.kl_div(b, a, reduction="sum", log_target=True)
    assert exact_kl(LOGITS, REF.log()).item() == pytest.approx(right.item(), abs=1e-12)
    assert F.kl_div(a, b, reduction="sum", log_target=True).item() != pytest.approx(right.item(), abs=1e-3)
    assert F.kl_div(b, a, reduction="sum").isnan()  # log-probabilities as target, without log_target


def test_exact_kl_refuses_wrong_input():
    for a, b in ((torch.ones(2, 3), torch.ones(3)), (torch.ones(3), torch.ones(4))):
        with pytest.raises(ValueError, match="shapes differ"):
            exact_kl(a, b)
    with pytest.raises(ValueError, match="NaN"):
        exact_kl(torch.tensor([float("nan"), 1]), torch.ones(2))
    assert exact_kl(torch.ones(2).bfloat16(), torch.ones(2).bfloat16()).dtype == torch.float32


def test_C7_adaptive_controller():
    control = AdaptiveKL(0.2, 6, 10_000)
    assert control.update(12, 256) == pytest.approx(0.201024) and control.beta == pytest.approx(0.201024)
    assert AdaptiveKL(0.2, 6, 10_000).update(torch.tensor(0.0), 256) == pytest.approx(0.2 * (1 - 0.2 * 0.0256))
    assert AdaptiveKL(0.2, 6, 10_000).update(6.6, 100) == pytest.approx(0.2 * 1.001)  # inside the clip
    assert AdaptiveKL(0.2, 6, 10_000).update(6, 100) == 0.2
    twice = AdaptiveKL(0.2, 6, 10_000)
    twice.update(12, 256)
    assert twice.update(12, 256) == pytest.approx(0.2 * 1.00512**2)
    token_mean = 12 / 24  # the wrong variant: a token mean against a sequence target pulls the other way
    assert AdaptiveKL(0.2, 6, 10_000).update(token_mean, 256) < 0.2


def test_controllers_refuse_wrong_input():
    fixed = FixedKL(0.05)
    assert fixed.update(100, 64) == 0.05 and fixed.beta == 0.05 and FixedKL(0).update(1, 1) == 0
    for beta in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="beta"):
            FixedKL(beta)
    for args in ((0, 6, 10), (0.2, 0, 10), (0.2, 6, -1)):
        with pytest.raises(ValueError, match="above 0"):
            AdaptiveKL(*args)
    with pytest.raises(ValueError, match="NaN"):
        AdaptiveKL(0.2, 6, 10).update(float("nan"), 4)
    with pytest.raises(ValueError, match="n is 0"):
        AdaptiveKL(0.2, 6, 10).update(1.0, 0)


def test_C6_rounding_is_cut_from_the_value_and_not_from_the_gradient():
    torch.manual_seed(0)
    near = torch.randn(20_000, 8)
    noisy = near + 1e-4 * torch.randn(20_000, 8)
    x, y = near.clone().requires_grad_(), near.clone().requires_grad_()
    raw = (y.softmax(-1) * (y.log_softmax(-1) - noisy.log_softmax(-1))).sum(-1)
    below = raw < 0
    got, want = (torch.autograd.grad(kl.sum(), z)[0][below] for kl, z in ((exact_kl(x, noisy), x), (raw, y)))
    assert len(want) > 10 and got.abs().amax(1).min() > 1e-6 and torch.allclose(got, want, atol=1e-6)


def test_C4_sequence_kl_is_a_sum_and_twice_the_tokens_cost_twice(policy_batch):
    _, old, score, mask = policy_batch
    ref = old - 0.5
    reward, kl = penalized(score, old, ref, mask, 0.1)
    assert torch.allclose(kl, 0.5 * mask.sum(1).double()) and torch.allclose(reward, score - 0.1 * kl)
    twice = penalized(score, old.repeat(1, 2), ref.repeat(1, 2), mask.repeat(1, 2), 0.1)[1]
    assert torch.allclose(twice, 2 * kl)
    mean = ((old - ref) * mask).sum(1) / mask.sum(1)
    assert torch.allclose(mean, torch.full_like(mean, 0.5))  # the token mean costs the same at any length
    with pytest.raises(ValueError, match="logp_ref"):
        penalized(score, old, None, mask, 0.1)
    assert torch.equal(penalized(score, old, None, mask, 0.0)[0], score)


def test_penalized_without_a_reference_has_no_kl():
    score = torch.tensor([1.0, -2.0])
    reward, kl = penalized(score, torch.zeros(2, 3), None, torch.ones(2, 3), 0.0)
    assert torch.equal(reward, score) and kl.tolist() == [0, 0]


@pytest.mark.parametrize("beta, with_ref", [(0.5, True), (0.0, True), (0.0, False)])
def test_a_penalized_reward_has_no_gradient_in_anything_that_it_is_made_of(beta, with_ref):
    score, old, ref = (torch.ones(shape, requires_grad=True) for shape in (2, (2, 3), (2, 3)))
    reward, kl = penalized(score, old, ref if with_ref else None, torch.ones(2, 3), beta)
    assert not reward.requires_grad and not kl.requires_grad
