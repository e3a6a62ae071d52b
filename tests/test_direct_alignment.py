"""Direct alignment: stock numbers, formulas in plain Python, exact limits, and the variants mistaken for them."""

import itertools
import math

import pytest
import torch

from rlhf_minimal import direct_alignment
from rlhf_minimal import direct_alignment as da
from rlhf_minimal.direct_alignment import (
    apo_down_loss,
    apo_zero_loss,
    cpl_loss,
    cpo_loss,
    dpo_loss,
    dpo_nll_loss,
    hinge_loss,
    ipo_loss,
    kto_loss,
    length_dpo_loss,
    log1mexp,
    online_pairs,
    orpo_loss,
    pair_logps,
    rdpo_loss,
    simpo_loss,
    step,
)
from rlhf_minimal.evaluate.exact import World, exact_model, tilted
from rlhf_minimal.logprobs import sequence_logps
from rlhf_minimal.models import frozen_copy
from rlhf_minimal.reward_model import uncertainty_weighted

PAIRED = (dpo_loss, rdpo_loss, ipo_loss, hinge_loss)


def t(*values):
    return torch.tensor(values, dtype=torch.float64)


STOCK = (t(-10), t(-14), t(-11), t(-13))  # pi_c, pi_r, ref_c, ref_r: a margin of 2


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.fixture
def rows():
    torch.manual_seed(0)
    return [-(5 * torch.rand(6, dtype=torch.float64)) for _ in range(4)]


def test_G2_dpo_stock_number_and_start():
    loss, stats = dpo_loss(*STOCK, beta=0.1)
    assert abs(loss.item() - 0.598139) < 1e-6 and abs(stats["margin"].item() - 0.2) < 1e-12
    chosen = t(-10).requires_grad_()
    start = dpo_loss(chosen, t(-14), t(-10), t(-14), beta=0.1)[0]
    assert abs(start.item() - math.log(2)) < 1e-12
    start.backward()
    assert abs(chosen.grad.item() + 0.1 / 2) < 1e-12
    swapped = dpo_loss(STOCK[1], STOCK[0], STOCK[3], STOCK[2], beta=0.1)[0]
    no_reference = dpo_loss(*STOCK[:2], t(0), t(0), beta=0.1)[0]
    assert abs(swapped - loss) > 0.1 and abs(no_reference - loss) > 0.05


@pytest.mark.parametrize("e", [0.0, 0.1, 0.3])
def test_G3_paired_losses_equal_their_formulas(rows, e):
    beta = 0.4
    want = dict.fromkeys((f.__name__ for f in PAIRED), 0.0)
    for c, r, rc, rr in zip(*[x.tolist() for x in rows], strict=True):
        h = (c - rc) - (r - rr)

        def both(f, h=h):
            return (1 - e) * f(h) + e * f(-h)

        def bt(x):
            return -math.log(sigmoid(beta * x))

        want["dpo_loss"] += both(bt) / 6
        want["rdpo_loss"] += ((1 - e) * bt(h) - e * bt(-h)) / (1 - 2 * e) / 6
        want["ipo_loss"] += both(lambda x: (x - 1 / (2 * beta)) ** 2) / 6
        want["hinge_loss"] += both(lambda x: max(0.0, 1 - beta * x)) / 6
    for f in PAIRED:
        assert abs(f(*rows, beta=beta, label_smoothing=e)[0].item() - want[f.__name__]) < 1e-12


def test_G3_cdpo_is_not_rdpo():
    c = dpo_loss(*STOCK, beta=0.1, label_smoothing=0.1)[0].item()
    r = rdpo_loss(*STOCK, beta=0.1, label_smoothing=0.1)[0].item()
    assert abs(c - 0.618139) < 1e-6 and abs(r - c) > 0.03


def test_G3_cdpo_minimiser():
    """Its optimum is at beta * margin = log((1 - e) / e) = 2.197; plain DPO has none."""
    zero, at = t(0), math.log(9)
    for label_smoothing, slope in ((0.1, 0.0), (0.0, sigmoid(-at))):
        chosen = t(at / 0.5).requires_grad_()
        dpo_loss(chosen, zero, zero, zero, beta=0.5, label_smoothing=label_smoothing)[0].backward()
        assert abs(chosen.grad.item() + 0.5 * slope) < 1e-12


def test_G3_rdpo_is_unbiased_under_flips(rows):
    e, (c, r, rc, rr) = 0.2, rows
    clean = dpo_loss(*rows)[0]
    for loss, unbiased in ((rdpo_loss, True), (dpo_loss, False)):
        kept, flipped = loss(c, r, rc, rr, label_smoothing=e)[0], loss(r, c, rr, rc, label_smoothing=e)[0]
        assert (abs((1 - e) * kept + e * flipped - clean) < 1e-12) == unbiased
    with pytest.raises(ValueError, match="1/2"):
        rdpo_loss(*rows, label_smoothing=0.5)


def test_G4_ipo_works_on_what_it_is_given():
    """Sums of 10 and 20 tokens against averages: the same answers, two objectives."""
    chosen, rejected, ref = t(-10.0), t(-24.0), (t(-11.0), t(-22.0))
    sums = ipo_loss(chosen, rejected, *ref, beta=0.1)[0]
    averages = ipo_loss(chosen / 10, rejected / 20, ref[0] / 10, ref[1] / 20, beta=0.1)[0]
    assert abs(sums.item() - (3 - 5) ** 2) < 1e-12 and abs(averages.item() - (0.2 - 5) ** 2) < 1e-12


def test_G5_simpo_gamma_is_the_margin_itself():
    loss = simpo_loss(t(-1.2), t(-1.2), beta=2.0, gamma=1.0)[0].item()
    assert abs(loss - 1.313262) < 1e-6
    ratio_form = math.log1p(math.exp(2.0 * 1.0))  # beta (0 - gamma): the parameter taken as gamma / beta
    assert abs(loss - ratio_form) > 0.5
    assert abs(simpo_loss(t(-1.0), t(-2.0), beta=2.0, gamma=0.5)[0].item() + math.log(sigmoid(1.5))) < 1e-12


def test_G6_orpo_equals_the_odds_formula(rows):
    c, r = rows[0] / 3 - 0.05, rows[1] / 3 - 0.05
    want = 0.0
    for a, b in zip(c.tolist(), r.tolist(), strict=True):
        odds = (math.exp(a) / (1 - math.exp(a))) / (math.exp(b) / (1 - math.exp(b)))
        want += (-a + 0.3 * math.log1p(1 / odds)) / 6
    loss, stats = orpo_loss(c, r, beta=0.3)
    assert abs(loss.item() - want) < 1e-12 and abs(stats["nll"] + c.mean()) < 1e-12
    assert abs(loss - orpo_loss(20 * c, 20 * r, beta=0.3)[0]) > 1  # sums are another loss


@pytest.mark.parametrize("x", [-1e-30, -1e-9, -1e-4, -0.1, -0.6931, -0.6932, -3.0, -30.0, -200.0])
def test_G6_log1mexp_is_accurate_in_float32(x):
    value = torch.tensor(x, requires_grad=True)
    got = log1mexp(value)
    x64 = value.item()  # as float32 holds it
    want = math.log(-math.expm1(x64)) if x64 > -1 else math.log1p(-math.exp(x64))
    assert abs(got.item() - want) <= 1e-6 * abs(want) + 1e-37
    got.backward()
    assert math.isclose(value.grad.item(), -math.exp(x64) / -math.expm1(x64), rel_tol=1e-5, abs_tol=1e-37)


def test_G6_naive_forms_fail_where_ours_does_not():
    near, far = torch.tensor(-1e-9), torch.tensor(-30.0)
    assert torch.isinf(torch.log(1 - near.exp())) and torch.isfinite(log1mexp(near))
    assert torch.log(1 - far.exp()) == 0 and log1mexp(far) < 0


def test_G6_orpo_is_finite_at_both_ends_and_refuses_positive_averages():
    for c, r in ((0.0, -1.0), (-1.0, 0.0), (0.0, 0.0), (-300.0, -1e-12), (-1e-12, -300.0)):
        x, y = torch.tensor([c], requires_grad=True), torch.tensor([r], requires_grad=True)
        loss, _ = orpo_loss(x, y)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(x.grad).all() and torch.isfinite(y.grad).all()
    with pytest.raises(ValueError, match="average"):
        orpo_loss(t(-1.0), t(0.1))


def test_G7_kto_stock_number_and_formula():
    assert abs(kto_loss(t(1.0), torch.tensor([True]), t(0.2), beta=0.1)[0].item() - 0.480011) < 1e-6
    ratio, good = t(1.0, -2.0, 0.5), torch.tensor([1, 0, 1])
    kl = t(0.1, 0.5)
    want = [2 * (1 - sigmoid(0.3 * 0.7)), 3 * (1 - sigmoid(0.3 * 2.3)), 2 * (1 - sigmoid(0.3 * 0.2))]  # z0 = 0.3
    got = kto_loss(ratio, good, kl, beta=0.3, w_desirable=2.0, w_undesirable=3.0)[0].item()
    assert abs(got - sum(want) / 3) < 1e-12  # the mean over all rows, not a sum of two means
    assert abs(got - ((want[0] + want[2]) / 2 + want[1])) > 0.5


def test_G7_kto_reference_point_is_clamped_and_detached():
    ratio, good = t(1.0, -1.0).requires_grad_(), torch.tensor([True, False])
    kl = t(-3.0, 1.0).requires_grad_()
    loss, stats = kto_loss(ratio, good, kl)
    assert stats["kl"] == 0 and torch.equal(loss, kto_loss(ratio, good, t(0.0))[0])
    assert torch.autograd.grad(loss, kl, allow_unused=True, retain_graph=True)[0] is None
    assert not torch.equal(loss, kto_loss(ratio, good, t(0.5))[0])
    finished = t(0.3, 0.7, -0.2)
    assert torch.allclose(finished.roll(1).mean(), finished.mean())  # rolling makes no mismatched pairs
    for one_kind in (torch.tensor([1, 1]), torch.tensor([0, 0])):
        one, named = kto_loss(t(1.0, -1.0), one_kind, t(0.2))
        assert torch.isfinite(one) and all(torch.isfinite(v) for v in named.values())
    with pytest.raises(ValueError, match="0 and 1"):
        kto_loss(t(1.0), torch.tensor([2]), t(0.2))


def test_G8_reference_free_means_a_ratio_of_zero(rows):
    c, r = rows[:2]
    zero = torch.zeros_like(c)
    dpo = dpo_loss(c, r, zero, zero, beta=0.3)[0]
    assert torch.allclose(cpo_loss(c, r, beta=0.3, alpha=0.0)[0], dpo)
    assert torch.allclose(cpo_loss(c, r, beta=0.3, alpha=2.0)[0], dpo - 2 * c.mean())


def test_cpl_at_one_is_dpo_without_reference_and_discounts_by_token():
    torch.manual_seed(1)
    c, r = -torch.rand(3, 4, dtype=torch.float64), -torch.rand(3, 5, dtype=torch.float64)
    mc, mr = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]), torch.ones(3, 5)
    sums = [(x * m).sum(1) for x, m in ((c, mc), (r, mr))]
    zero = torch.zeros(3, dtype=torch.float64)
    assert torch.allclose(cpl_loss(c, r, mc, mr, alpha=0.3)[0], dpo_loss(*sums, zero, zero, beta=0.3)[0])
    want = 0.0
    for b in range(3):
        plus = sum(0.9**i * c[b, i].item() for i in range(4) if mc[b, i])
        minus = sum(0.9**i * r[b, i].item() for i in range(5))
        want -= math.log(sigmoid(0.3 * (plus - 0.5 * minus))) / 3
    got = cpl_loss(c, r, mc, mr, alpha=0.3, gamma=0.9, lam=0.5)[0]
    assert abs(got.item() - want) < 1e-12
    left = torch.tensor([[0, 0, 1, 1]])  # t counts masked tokens, wherever the padding is
    same = cpl_loss(c[:1].roll(2, 1), r[:1], left, mr[:1], gamma=0.9)[0]
    assert torch.allclose(same, cpl_loss(c[:1], r[:1], mc[:1], mr[:1], gamma=0.9)[0])


@pytest.mark.parametrize("size", [50.0, 1e4])
def test_large_margins_stay_finite(size):
    x = [torch.tensor([v], requires_grad=True) for v in (-size, 0.0, 0.0, 0.0)]
    for f in PAIRED:
        loss = f(*x, beta=1.0)[0]
        assert torch.isfinite(loss) and torch.isfinite(torch.autograd.grad(loss, x[0])[0]).all()
    assert math.isinf(math.log1p(float(torch.tensor(size).exp()))) or size < 88  # log(1 + exp) in float32 is not


def test_wrong_input_raises(rows):
    c, r, rc, rr = rows
    for f in PAIRED:
        with pytest.raises(ValueError, match="6"):
            f(c, r[:3], rc, rr)
        with pytest.raises(ValueError, match="6"):
            f(c[:, None], r, rc, rr)  # would broadcast to (6, 6)
        with pytest.raises(ValueError, match="NaN"):
            f(torch.full_like(c, math.nan), r, rc, rr)
        for wrong in (dict(beta=0.0), dict(beta=-1.0), dict(label_smoothing=1.5)):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                f(*rows, **wrong)
    with pytest.raises(ValueError):
        kto_loss(c, torch.ones(5), rc)


def test_stats_are_detached_and_reference_gets_no_gradient(rows):
    c, r, rc, rr = (x.clone().requires_grad_() for x in rows)
    for f in PAIRED:
        loss, stats = f(c, r, rc, rr)
        assert all(v.dim() == 0 and not v.requires_grad for v in stats.values())
        assert {"loss", "accuracy", "margin", "rewards/chosen", "rewards/rejected"} <= set(stats)
        assert torch.autograd.grad(loss, rc, allow_unused=True)[0] is None
    assert dpo_loss(c, c, rc, rc)[1]["accuracy"] == 0  # a tie is not accurate


# ---- with a model ----


def batch_of(seed=0):
    """Two pairs, chosen first, of unequal lengths, with the prompts' 2 tokens outside the mask."""
    ids = torch.randint(1, 20, (4, 7), generator=torch.Generator().manual_seed(seed))
    attention = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 5 + [0] * 2, [1] * 6 + [0]])
    mask = attention.clone()
    mask[:, :2] = 0
    return {"ids": ids, "attention": attention, "mask": mask}


def test_G1_prompt_tokens_do_not_enter(tiny_gpt2):
    model, batch = tiny_gpt2(), batch_of()
    alone = pair_logps(model, batch)
    wrong = pair_logps(model, batch | {"mask": batch["attention"]})  # prompt included
    assert (alone[0] - wrong[0]).abs().min() > 0.1


def test_G10_one_forward_equals_two(tiny_gpt2):
    model, batch = tiny_gpt2(), batch_of()
    together = torch.cat(pair_logps(model, batch))
    for i in range(4):
        n = batch["attention"][i].sum()
        alone = sequence_logps(model, *[batch[k][i : i + 1, :n] for k in ("ids", "attention", "mask")])
        assert (alone[0] - together[i]).abs() < 1e-5
    assert (pair_logps(model, batch, average=True)[1] * batch["mask"][2:].sum(1) - together[2:]).abs().max() < 1e-5
    with pytest.raises(ValueError, match="3 rows"):
        pair_logps(model, {k: v[:3] for k, v in batch.items()})


def test_G9_G12_step_with_cached_reference(tiny_gpt2):
    """The first loss is log 2 (B7: dropout off), cached = live reference bitwise, and the margin then grows."""
    model, batch = tiny_gpt2(), batch_of()
    reference = frozen_copy(model)
    with torch.no_grad():
        batch["ref_chosen"], batch["ref_rejected"] = pair_logps(reference, batch)
        again = pair_logps(reference, batch)
    assert torch.equal(batch["ref_chosen"], again[0]) and torch.equal(batch["ref_rejected"], again[1])
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    history = [step(model, optimizer, batch, beta=0.5) for _ in range(5)]
    assert history[0]["loss"].item() == pytest.approx(math.log(2), abs=1e-6)
    assert history[-1]["margin"] > history[0]["margin"] + 0.01 and history[-1]["accuracy"] == 1
    assert history[0]["grad_norm"] > 0
    assert torch.equal(pair_logps(reference, batch)[0], batch["ref_chosen"])  # the frozen copy stayed (C11)
    assert "nll" in step(model, optimizer, batch, loss_fn=orpo_loss, average=True, beta=0.1)


def test_G11_both_may_fall_while_the_margin_grows():
    """One weight, tokens of features 1 (chosen), 2 (rejected), 0, 0: DPO moves the mass to what nobody asked for."""
    feature = t(1.0, 2.0, 0.0, 0.0)
    weight = t(0.0).requires_grad_()
    start = torch.log_softmax(feature * weight.detach(), 0)
    for _ in range(50):
        logp = torch.log_softmax(feature * weight, 0)
        loss, stats = dpo_loss(logp[:1], logp[1:2], start[:1], start[1:2], beta=0.5)
        (slope,) = torch.autograd.grad(loss, weight)
        with torch.no_grad():
            weight -= slope
    moved = logp.detach() - start
    assert moved[0] < -0.1 and moved[1] < moved[0] and moved[2] > 0.1
    assert stats["margin"] > 0.5 and stats["accuracy"] == 1 and stats["logps/chosen"] < start[0]  # and the stats say so


# ---- what the stats say, and the edges of the arguments ----


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_stats_are_the_numbers_they_are_named_after(rows):
    c, r, rc, rr = rows
    beta, pairs = 0.4, list(zip(*[x.tolist() for x in rows], strict=True))
    with_reference = {
        "rewards/chosen": mean(beta * (a - x) for a, _, x, _ in pairs),
        "rewards/rejected": mean(beta * (b - y) for _, b, _, y in pairs),
        "margin": mean(beta * (a - x - b + y) for a, b, x, y in pairs),
        "accuracy": mean(a - x > b - y for a, b, x, y in pairs),
    }
    without = {
        "rewards/chosen": mean(beta * a for a, *_ in pairs), "rewards/rejected": mean(beta * b for _, b, *_ in pairs),
        "margin": mean(beta * (a - b) for a, b, *_ in pairs), "accuracy": mean(a > b for a, b, *_ in pairs),
    }
    logps = {"logps/chosen": mean(c.tolist()), "logps/rejected": mean(r.tolist())}
    ones = torch.ones(6, 1)
    for stats, want in (
        *((f(*rows, beta=beta)[1], with_reference) for f in PAIRED),
        (simpo_loss(c, r, beta=beta)[1], without), (cpo_loss(c, r, beta=beta)[1], without),
        (orpo_loss(c, r, beta=beta)[1], without),
        (cpl_loss(c[:, None], r[:, None], ones, ones, alpha=beta)[1], without),
    ):
        for name, value in (want | logps).items():
            assert stats[name].item() == pytest.approx(value, abs=1e-6), name
    assert cpo_loss(c, r)[1]["nll"].item() == pytest.approx(-mean(c.tolist()))
    odds = [math.log(math.expm1(-b) / math.expm1(-a)) for a, b in zip(c.tolist(), r.tolist(), strict=True)]
    assert orpo_loss(c, r)[1]["log_odds"].item() == pytest.approx(mean(odds))


def test_G7_kto_stats():
    _, stats = kto_loss(t(1.0, -2.0, 0.5), torch.tensor([1, 0, 1]), t(0.1, 0.5), beta=0.3)
    assert stats["rewards/desirable"].item() == pytest.approx(0.3 * 0.75) and stats["kl"].item() == pytest.approx(0.3)
    assert stats["rewards/undesirable"].item() == pytest.approx(-0.6)
    one_kind = kto_loss(t(1.0), torch.tensor([1]), t(0.2))[1]
    assert "rewards/undesirable" not in one_kind and "rewards/desirable" in one_kind


def test_every_loss_of_one_pair_and_of_two_sides_is_detached_in_its_stats(rows):
    c, r = (x.clone().requires_grad_() for x in rows[:2])
    ones = torch.ones(6, 1)
    for loss, stats in (
        simpo_loss(c, r), cpo_loss(c, r), orpo_loss(c, r), kto_loss(c, torch.ones(6), r),
        cpl_loss(c[:, None], r[:, None], ones, ones),
    ):
        assert loss.requires_grad and all(not x.requires_grad and x.dim() == 0 for x in stats.values())


def test_edges_of_the_arguments(rows):
    c, r, rc, rr = rows
    for f in PAIRED:  # all labels flipped: the pairs turned round
        assert torch.allclose(f(*rows, label_smoothing=1.0)[0], f(r, c, rr, rc)[0])
        for wrong in (dict(beta=math.inf), dict(beta=math.nan), dict(label_smoothing=-0.1), dict(label_smoothing=1.1)):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                f(*rows, **wrong)
    assert torch.allclose(orpo_loss(c, r, beta=0.0)[0], -c.mean())  # NLL alone
    ones = torch.ones(6, 1)
    for call, word in (
        (lambda: simpo_loss(c, r, beta=0.0), "beta"), (lambda: cpo_loss(c, r[:1]), "shapes"),
        (lambda: orpo_loss(c, r[:1]), "shapes"), (lambda: orpo_loss(c, r, beta=-0.1), "beta"),
        (lambda: orpo_loss(t(0.1), t(-1.0)), "average"), (lambda: simpo_loss(c, r[:1]), "shapes"),
        (lambda: kto_loss(c, torch.ones(6), rc, beta=0.0), "beta"),
        (lambda: kto_loss(c, torch.ones(6), rc * math.nan), "NaN"),
        (lambda: cpl_loss(c[:, None], r[:1, None], ones, ones[:1]), "shapes"),
        (lambda: cpl_loss(c[:, None], r[:, None], ones, ones, alpha=0.0), "alpha"),
        (lambda: cpl_loss(c[:, None], r[:, None], ones, ones, gamma=0.0), "gamma"),
    ):
        with pytest.raises(ValueError, match=word):
            call()


def test_cpl_gamma_of_one_in_float_and_discounts_from_the_first_token():
    """At gamma 1/2 the tokens of a row weigh 1, 1/2, 1/4, ...: the first one is not discounted."""
    c, r, m = t(-1.0, -2.0, -4.0)[None], t(-3.0, -1.0, -2.0)[None], torch.ones(1, 3)
    loss, stats = cpl_loss(c, r, m, m, alpha=1.0, gamma=0.5)
    assert stats["logps/chosen"] == -3 and stats["logps/rejected"] == -4
    assert loss.item() == pytest.approx(-math.log(sigmoid(1.0)))


def test_kto_weights_are_not_rounded_to_float32():
    r, good = torch.tensor([0.3, -0.2], dtype=torch.float64), torch.tensor([1, 0])
    z0, beta = 0.05, 0.1
    loss, _ = da.kto_loss(r, good, torch.tensor([z0], dtype=torch.float64), w_desirable=0.1, w_undesirable=1 / 3)
    up, down = 1 - torch.sigmoid(beta * (r[0] - z0)), 1 - torch.sigmoid(beta * (z0 - r[1]))
    assert loss.dtype == torch.float64 and abs(loss - (0.1 * up + down / 3) / 2) < 1e-16
    rounded = (torch.tensor(0.1).double() * up + torch.tensor(1 / 3).double() * down) / 2  # as float32 constants
    assert abs(loss - rounded) > 1e-10


@pytest.fixture
def four():
    torch.manual_seed(0)
    return [(-10 - 3 * torch.rand(5, dtype=torch.float64)).requires_grad_() for _ in range(4)]


def s(x):
    return 1 / (1 + math.exp(-x))


def rows_of_four(four):
    return list(zip(*[x.tolist() for x in four], strict=True))


def test_apo_losses_equal_loops(four):
    beta = 0.3
    zero = sum(1 - s(beta * (a - c)) + s(beta * (b - d)) for a, b, c, d in rows_of_four(four)) / 5
    down = sum(s(beta * (a - c)) + 1 - s(beta * ((a - c) - (b - d))) for a, b, c, d in rows_of_four(four)) / 5
    assert abs(apo_zero_loss(*four, beta=beta)[0].item() - zero) < 1e-12
    assert abs(apo_down_loss(*four, beta=beta)[0].item() - down) < 1e-12
    at_start = [four[0], four[1], four[0], four[1]]
    assert apo_zero_loss(*at_start)[0].item() == apo_down_loss(*at_start)[0].item() == 1.0  # 1/2 + 1/2


def test_apo_pulls_each_answer_its_own_way(four):
    """zero: chosen up, rejected down. down: both down, the rejected one more. DPO alone fixes no side."""
    at_start = [four[0], four[1], four[0].detach(), four[1].detach()]
    slopes = {f.__name__: [g.mean().item() for g in torch.autograd.grad(f(*at_start)[0], four[:2])]
              for f in (apo_zero_loss, apo_down_loss, dpo_loss)}
    chosen, rejected = slopes["apo_zero_loss"]
    assert chosen < 0 < rejected and abs(chosen + rejected) < 1e-12
    chosen, rejected = slopes["apo_down_loss"]  # at the start beta/4 for both terms of the chosen one: they cancel
    assert abs(chosen) < 1e-12 < rejected
    risen = [x + 2.0 * sign for x, sign in zip(four[:2], (1, -1), strict=True)]
    g = torch.autograd.grad(apo_down_loss(*risen, four[0].detach(), four[1].detach(), beta=1.0)[0], four[:2])
    assert g[0].mean() > 0 and g[1].mean() > 0  # once the margin is won the chosen one is pushed down as well


def test_dpo_nll_is_dpo_plus_alpha_times_the_nll(four):
    lengths = torch.tensor([3, 5, 2, 8, 4])
    base = dpo_loss(*four, beta=0.2, label_smoothing=0.1)[0].item()
    summed = base - 0.7 * sum(four[0].tolist()) / 5
    mean = base - 0.7 * sum(x / n for x, n in zip(four[0].tolist(), lengths.tolist(), strict=True)) / 5
    settings = dict(beta=0.2, label_smoothing=0.1, alpha=0.7)
    assert abs(dpo_nll_loss(*four, **settings)[0].item() - summed) < 1e-12
    loss, stats = dpo_nll_loss(*four, **settings, lengths=lengths)
    assert abs(loss.item() - mean) < 1e-12 and abs(mean - summed) > 1 and abs(stats["nll"] * 0.7 + base - mean) < 1e-6
    assert torch.equal(dpo_nll_loss(*four, alpha=0.0)[0], dpo_loss(*four)[0])
    for bad in (lengths[:3], lengths * 0):
        with pytest.raises(ValueError):
            dpo_nll_loss(*four, lengths=bad)


def test_G11_nll_keeps_the_chosen_answer_from_sinking():
    """12.3 on three answers: chosen and rejected share a weight, as similar texts do: both sink."""

    def train(loss_fn):
        weight, start = torch.zeros(2, dtype=torch.float64), torch.full((3,), -math.log(3), dtype=torch.float64)
        for _ in range(100):
            weight.requires_grad_()
            pi = torch.stack([weight[0] + 0.2 * weight[1], 2 * weight[0], 0 * weight[0]]).log_softmax(0)
            loss = loss_fn(pi[:1], pi[1:2], start[:1], start[1:2], beta=1.0)[0]
            weight = (weight - 0.5 * torch.autograd.grad(loss, weight)[0]).detach()
        return (pi - start).tolist()

    plain, kept = train(dpo_loss), train(dpo_nll_loss)
    assert plain[0] < -0.5 and plain[0] > plain[1] and plain[2] > 0.5  # the third answer gains
    assert kept[0] > 0 > kept[1]


def test_length_dpo_ends_at_the_policy_of_the_reward_minus_lam_times_length():
    """18.4 by the theorem of 12.1: soft labels of r, and only pi_ref exp((r - lam |y|) / beta) / Z is at rest."""
    world, beta, lam = World(), 0.7, 0.4
    ref = world.seq_logp(exact_model(1)).detach()
    reward = torch.randn(len(world), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    length = world.mask.sum(1).double()

    def pull(policy, sign=1):
        """Size of the loss's gradient at a policy; every pair comes both ways round, weighted by its soft label."""
        at, total = policy.clone().requires_grad_(), 0.0
        for i, j in itertools.permutations(range(len(world)), 2):
            a, b = slice(i, i + 1), slice(j, j + 1)
            loss, _ = length_dpo_loss(at[a], at[b], ref[a], ref[b], len_chosen=length[a], len_rejected=length[b],
                                      beta=beta, lam=sign * lam)
            total = total + torch.sigmoid(reward[i] - reward[j]) * loss
        return torch.autograd.grad(total, at)[0].abs().max().item()

    shorter, plain, longer = (tilted(ref, reward + k * lam * length, beta) for k in (-1, 0, 1))
    assert pull(shorter) < 1e-12 and pull(plain) > 0.1 and pull(longer) > 0.1
    assert pull(longer, sign=-1) < 1e-12  # the mutant: subtracted inside, the term pays for length
    mean = [(x.exp() * length).sum().item() for x in (shorter, plain, longer)]
    assert mean == sorted(mean) and mean[2] - mean[0] > 0.1


def test_length_dpo_equals_a_loop(four):
    long, short = torch.tensor([9, 4, 3, 7, 5]), torch.tensor([2, 8, 3, 1, 5])
    naive = sum(-math.log(s(0.2 * ((p - r) - (q - t)) + 0.05 * (m - n)))
                for (p, q, r, t), m, n in zip(rows_of_four(four), long.tolist(), short.tolist(), strict=True)) / 5
    loss, stats = length_dpo_loss(*four, len_chosen=long, len_rejected=short, beta=0.2, lam=0.05)
    assert abs(loss.item() - naive) < 1e-12 and stats["longer"] == (long - short).double().mean()
    assert torch.equal(length_dpo_loss(*four, len_chosen=long, len_rejected=short, lam=0.0)[0], dpo_loss(*four)[0])
    with pytest.raises(ValueError, match="shapes differ"):
        length_dpo_loss(*four, len_chosen=long[:2], len_rejected=short[:2])


@pytest.mark.parametrize("loss_fn", [apo_zero_loss, apo_down_loss, dpo_nll_loss, length_dpo_loss])
def test_D12_no_gradient_into_the_reference_and_wrong_input(four, loss_fn):
    more = dict(len_chosen=torch.ones(5), len_rejected=torch.ones(5)) if loss_fn is length_dpo_loss else {}
    loss, stats = loss_fn(*four, **more)
    grads = torch.autograd.grad(loss, four, allow_unused=True)
    assert grads[0].norm() > 0 and grads[1].norm() > 0 and grads[2] is None and grads[3] is None
    assert {"margin", "accuracy", "loss", "rewards/chosen"} <= set(stats) and not stats["loss"].requires_grad
    for bad in ([four[0][:2], *four[1:]], [four[0] * math.nan, *four[1:]], [x[:0] for x in four]):
        with pytest.raises(ValueError):
            loss_fn(*bad, **more)
    with pytest.raises(ValueError, match="beta"):
        loss_fn(*four, **more, beta=0.0)


@pytest.mark.parametrize("loss_fn", [apo_zero_loss, dpo_nll_loss, length_dpo_loss])
def test_step_hands_over_the_reference(tiny_gpt2, loss_fn):
    model = tiny_gpt2(n_layer=1)
    ids = torch.tensor([[3, 4, 5, 6], [3, 4, 7, 8]])
    batch = dict(ids=ids, attention=torch.ones(2, 4), mask=torch.tensor([[0, 0, 1, 1]] * 2))
    with torch.no_grad():
        batch["ref_chosen"], batch["ref_rejected"] = direct_alignment.pair_logps(model, batch)
    one = torch.ones(1)
    more = dict(len_chosen=one * 2, len_rejected=one * 2) if loss_fn is length_dpo_loss else {}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    first = direct_alignment.step(model, optimizer, batch, loss_fn=loss_fn, **more)
    second = direct_alignment.step(model, optimizer, batch, loss_fn=loss_fn, **more)
    assert abs(first["margin"]) < 1e-6 and second["margin"] > 1e-4 and second["loss"] < first["loss"]


def test_online_pairs_are_the_best_and_worst_of_a_prompt():
    score = torch.tensor([0.1, 0.9, 0.5, 2.0, 2.0, 2.0, 1.0, -1.0, 1.0])
    chosen, rejected = online_pairs(score, 3)
    assert chosen.tolist() == [1, 6] and rejected.tolist() == [0, 7]  # the tied prompt gives none
    assert (score[chosen] > score[rejected]).all() and (chosen // 3 == rejected // 3).all()
    assert [x.tolist() for x in online_pairs(torch.zeros(4), 2)] == [[], []]
    for bad in ((score, 2), (score, 1), (score * math.nan, 3)):
        with pytest.raises(ValueError):
            online_pairs(*bad)


def test_lengths_and_scores_that_do_not_fit(four):
    one = torch.ones(5)
    for call, word in (
        (lambda: length_dpo_loss(*four, len_chosen=one, len_rejected=one[:1]), "shapes"),
        (lambda: length_dpo_loss(*four, len_chosen=one[:1], len_rejected=one[:1]), "shapes"),
        (lambda: dpo_nll_loss(*four, lengths=one[:1]), "shapes"),
        (lambda: online_pairs(one[None], 5), "B >= 1"), (lambda: online_pairs(one, 2), "5 rows"),
        (lambda: online_pairs(torch.tensor([1.0, math.nan]), 2), "NaN"),
        (lambda: uncertainty_weighted(torch.tensor([[math.nan], [1.0]])), "NaN"),
    ):
        with pytest.raises(ValueError, match=word):
            call()
    assert dpo_nll_loss(*four, lengths=one)[0].item() == pytest.approx(dpo_nll_loss(*four)[0].item())  # 1 is allowed


def test_stats_of_dpo_nll_are_detached(four):
    stats = dpo_nll_loss(*four, lengths=torch.full((5,), 2))[1]
    assert stats["nll"].item() == pytest.approx(-sum(four[0].tolist()) / 10)
    assert all(not x.requires_grad for x in stats.values())


def test_one_wrong_label_among_right_ones_is_refused():
    with pytest.raises(ValueError):
        da.kto_loss(torch.zeros(2), torch.tensor([1.0, 0.5]), torch.zeros(2), beta=0.1)


def test_one_length_of_zero_among_others_is_refused():
    pairs = [torch.tensor([-1.0, -2.0])] * 4
    with pytest.raises(ValueError):
        da.dpo_nll_loss(*pairs, lengths=torch.tensor([3, 0]))


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
def test_cpo_by_hand_with_flipped_labels(smoothing):
    margin = 0.5 * (-3.0 - -5.0)
    want = -(1 - smoothing) * math.log(1 / (1 + math.exp(-margin))) - smoothing * math.log(1 / (1 + math.exp(margin))) + 0.3 * 3.0
    got, _ = da.cpo_loss(torch.tensor([-3.0]), torch.tensor([-5.0]), beta=0.5, alpha=0.3, label_smoothing=smoothing)
    assert got.item() == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("name", ["dpo_loss", "rdpo_loss", "ipo_loss", "hinge_loss", "apo_zero_loss", "apo_down_loss"])
def test_the_reference_gets_no_gradient(name):
    four = [torch.tensor([x], requires_grad=True) for x in (-3.0, -5.0, -3.5, -4.5)]
    getattr(da, name)(*four)[0].backward()
    assert all(x.grad is not None for x in four[:2]) and all(x.grad is None for x in four[2:])


def test_an_empty_part_of_a_step_gives_0_in_each_loss_without_a_reference():
    none = torch.zeros(0, requires_grad=True)
    for name in ("simpo_loss", "cpo_loss", "orpo_loss"):
        loss, stats = getattr(da, name)(none, none, denominator=3)
        loss.backward()
        assert loss.item() == 0 and {abs(x.item()) for x in stats.values()} == {0.0}, name


def test_the_two_statistics_of_length_are_means_over_the_pairs():
    """Of one pair, and of three."""
    for k in (1, 3):
        pairs = [torch.full((k,), x) for x in (-4.0, -6.0, -5.0, -6.0)]
        assert dpo_nll_loss(*pairs)[1]["nll"] == 4 and dpo_nll_loss(*pairs, lengths=torch.full((k,), 2))[1]["nll"] == 2
        stats = length_dpo_loss(*pairs, len_chosen=torch.full((k,), 7), len_rejected=torch.full((k,), 2))[1]
        assert stats["longer"] == 5


def test_any_discount_above_0_is_applied():
    """gamma = 2, though unusual: -1 - 2 * 1 against -2 - 2 * 2, and a gap in the mask is no step."""
    chosen, rejected = torch.tensor([[-1.0, -9.0, -1.0]]), torch.tensor([[-2.0, -2.0]])
    loss, stats = cpl_loss(chosen, rejected, torch.tensor([[1, 0, 1]]), torch.ones(1, 2), alpha=1.0, gamma=2.0)
    assert stats["margin"].item() == 3.0 and loss.item() == pytest.approx(math.log1p(math.exp(-3)), abs=1e-6)


def test_three_pairs_are_split_in_the_middle(tiny_gpt2):
    model, ids = tiny_gpt2(n_layer=1), torch.arange(1, 19).view(6, 3)
    batch = dict(ids=ids, attention=torch.ones(6, 3), mask=torch.tensor([[0, 1, 1]]).expand(6, 3))
    chosen, rejected = pair_logps(model, batch)
    whole = sequence_logps(model, ids, batch["attention"], batch["mask"])
    assert torch.equal(chosen, whole[:3]) and torch.equal(rejected, whole[3:])
