"""Direct alignment: stock numbers, formulas in plain Python, exact limits, and the variants mistaken for them."""

import math

import pytest
import torch

from rlhf_minimal.direct_alignment import (
    cpl_loss,
    cpo_loss,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    kto_loss,
    log1mexp,
    orpo_loss,
    pair_logps,
    rdpo_loss,
    simpo_loss,
    step,
)
from rlhf_minimal.logprobs import sequence_logps
from rlhf_minimal.models import frozen_copy

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
