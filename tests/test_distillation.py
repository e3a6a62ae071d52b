"""Distillation: loops, F.kl_div, and which loss has the gradient of which KL, by enumeration."""

import math

import pytest
import torch
import torch.nn.functional as F

from rlhf_minimal.distillation import (
    MIXTURE_MODES,
    full_vocabulary_loss,
    mixed_logps,
    multi_teacher_loss,
    on_policy_loss,
    reverse_kl_advantage,
    sequence_level_loss,
    step,
    word_level_loss,
)
from rlhf_minimal.evaluate.exact import World, compare, exact_model, expected_loss_gradient, gradient
from rlhf_minimal.kl import k1
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.sampling import sample
from rlhf_minimal.sft import sft_loss

EQUAL = 1e-10


@pytest.fixture(scope="module")
def bench():
    """world, student, teacher, KL(student || teacher) and KL(teacher || student) as gradients in the student."""
    world, student, teacher = World(), exact_model(0), exact_model(1)
    q, p = world.seq_logp(teacher).detach(), world.seq_logp(student)
    forward = gradient((q.exp() * (q - p)).sum(), student)
    return world, student, teacher, gradient(world.kl(student, teacher), student), forward


def logits_of(world, model):
    """(N, T, V) logits behind the completions' tokens."""
    return model(input_ids=world.ids, attention_mask=world.attention.long()).logits[:, len(world.prompt) - 1: -1]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    student, teacher = (2 * torch.randn(2, 4, 5, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher, torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0]])


# ---- the teacher's texts ----


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_word_level_equals_a_loop_over_places_and_vocabulary(batch, temperature):
    student, teacher, mask = batch
    total = 0.0
    for b, t in mask.nonzero().tolist():
        q, p = ((x[b, t] / temperature).softmax(0).tolist() for x in (teacher, student))
        total -= sum(a * math.log(c) for a, c in zip(q, p, strict=True))
    loss, stats = word_level_loss(student, teacher, mask, temperature=temperature)
    assert abs(loss.item() - temperature**2 * total / 4) < 1e-12
    chosen = teacher.argmax(-1, keepdim=True)  # the mutant: no sum over the vocabulary (K57)
    one = (-teacher.softmax(-1) * student.log_softmax(-1)).gather(2, chosen)[..., 0]
    assert abs((one * mask).sum().item() / 4 - loss.item()) > 0.1
    a, b = ((x / temperature).log_softmax(-1)[mask.bool()] for x in (student, teacher))
    assert torch.allclose(stats["kl"], F.kl_div(a, b, log_target=True, reduction="batchmean"))
    with pytest.raises(AssertionError):  # K4: without log_target the same call is something else
        assert torch.allclose(stats["kl"], F.kl_div(a, b, reduction="batchmean"))


def test_word_level_gradient_is_that_of_the_forward_kl_and_0_in_the_teacher(batch):
    student, teacher, mask = batch
    teacher = teacher.clone().requires_grad_()
    got, none = torch.autograd.grad(word_level_loss(student, teacher, mask)[0], [student, teacher], allow_unused=True)
    q, p = teacher.detach().softmax(-1), student.detach().softmax(-1)
    assert none is None and torch.allclose(got, (p - q) * mask[..., None] / 4, atol=1e-14)


def test_temperature_squared_keeps_the_size_of_the_gradient(batch):
    """Exercise 21.3: at high temperature the gradient of the loss settles; without the factor it would vanish."""
    student, teacher, mask = batch
    norms = [torch.autograd.grad(word_level_loss(student, teacher, mask, temperature=t)[0], student)[0].norm().item()
             for t in (50.0, 100.0)]
    assert abs(norms[0] / norms[1] - 1) < 0.05 and norms[1] > 0.1


def test_sequence_level_and_word_level_have_the_gradient_of_the_forward_kl_of_texts(bench):
    """Over the teacher's samples both equal grad KL(q || p); on the student's samples word-level does not."""
    world, student, teacher, _, forward = bench

    def texts(logp, i):
        return sequence_level_loss(logp, world.mask[i])[0]

    assert compare(expected_loss_gradient(world, student, texts, sampler=teacher), forward)["error"] < EQUAL
    assert compare(expected_loss_gradient(world, student, texts), forward)["error"] > 0.1
    s, t = logits_of(world, student), logits_of(world, teacher).detach()

    def words(weights):
        rows = [w * word_level_loss(s[i:i + 1], t[i:i + 1], world.mask[i:i + 1], denominator=1)[0]
                for i, w in enumerate(weights)]
        return compare(gradient(sum(rows), student), forward)["error"]

    assert words(world.seq_logp(teacher).detach().exp()) < EQUAL
    assert words(world.seq_logp(student).detach().exp()) > 0.1


def test_sequence_level_is_sft_but_for_the_reduction(batch):
    logp, mask = -torch.rand(2, 4, dtype=torch.float64), batch[2]
    loss, _ = sequence_level_loss(logp, mask)
    assert abs(loss + (logp * mask).sum() / 2) < 1e-12 and abs(loss - sft_loss(logp, mask)[0] * 4 / 2) < 1e-12


# ---- the student's own texts ----


def test_advantages_by_hand():
    logp, teacher = torch.tensor([[-1.0, -2.0, -9.0, -0.5]]), torch.tensor([[-2.0, -1.5, math.nan, -1.5]])
    mask = torch.tensor([[1, 1, 0, 1]])
    now = reverse_kl_advantage(logp, teacher, mask, mode="immediate")
    assert torch.allclose(now, torch.tensor([[-1.0, 0.5, 0.0, -1.0]]))
    later = reverse_kl_advantage(logp.requires_grad_(), teacher, mask)
    assert torch.allclose(later, torch.tensor([[-1.5, -0.5, 0.0, -1.0]])) and not later.requires_grad
    with pytest.raises(ValueError, match="immediate, cumulative"):
        reverse_kl_advantage(logp, teacher, mask, mode="later")


def test_K62_only_the_cumulative_advantage_is_the_gradient_of_the_texts_reverse_kl(bench):
    world, student, teacher, exact, forward = bench
    ref = world.logps(teacher).detach()
    got = {mode: expected_loss_gradient(world, student, lambda lp, i, f=mode: on_policy_loss(
        lp, ref[i], world.mask[i], mode=f)[0]) for mode in ("immediate", "cumulative")}
    assert compare(got["cumulative"], exact)["error"] < EQUAL
    assert 0.3 < compare(got["immediate"], exact)["cosine"] < 0.999
    assert compare(got["cumulative"], forward)["error"] > 0.1  # who samples sets the direction
    old = expected_loss_gradient(world, student, lambda lp, i: on_policy_loss(lp, ref[i], world.mask[i])[0],
                                 sampler=teacher)
    assert compare(old, exact)["error"] > 0.1
    through = expected_loss_gradient(world, student, lambda lp, i: (k1(lp, ref[i]) * world.mask[i]).sum())
    assert through.norm() < 1e-10 * exact.norm()  # differentiate the estimate itself: nothing


def weighted(world, student, teacher, *, later):
    """Expected gradient of full_vocabulary_loss over the student's own texts, their probability held constant."""
    s, t, p = logits_of(world, student), logits_of(world, teacher), world.seq_logp(student).detach().exp()
    logp, total = world.logps(student), 0.0
    for i, w in enumerate(p):
        row = slice(i, i + 1)
        total += w * full_vocabulary_loss(s[row], t[row], world.mask[row], logp=logp[row] if later else None)[0]
    return total, gradient(total, student)


def test_full_vocabulary_is_the_immediate_gradient_and_with_logp_the_whole_one(bench):
    world, student, teacher, exact, _ = bench
    ref = world.logps(teacher).detach()
    immediate = expected_loss_gradient(world, student, lambda lp, i: on_policy_loss(
        lp, ref[i], world.mask[i], mode="immediate")[0])
    value, got = weighted(world, student, teacher, later=False)
    assert abs(value - world.kl(student, teacher)) < 1e-12  # C5: the chain rule
    assert compare(got, immediate)["error"] < EQUAL and compare(got, exact)["error"] > 0.02
    value, whole = weighted(world, student, teacher, later=True)
    assert abs(value - world.kl(student, teacher)) < 1e-12 and compare(whole, exact)["error"] < EQUAL


def test_full_vocabulary_has_less_variance_than_the_sampled_gap(bench):
    """Second moments of single-text gradients around the same mean, exact."""
    world, student, teacher, exact, _ = bench
    p, ref, logp = world.seq_logp(student).detach().exp(), world.logps(teacher).detach(), world.logps(student)
    s, t = logits_of(world, student), logits_of(world, teacher)
    second = {"sampled": 0.0, "full": 0.0}
    for i, w in enumerate(p):
        row = slice(i, i + 1)
        one = on_policy_loss(logp[row], ref[row], world.mask[row])[0]
        full = full_vocabulary_loss(s[row], t[row], world.mask[row], logp=logp[row])[0]
        for name, loss in (("sampled", one), ("full", full)):
            second[name] += (w * (gradient(loss, student) - exact).square().sum()).item()
    assert second["full"] < 0.7 * second["sampled"]


def test_E11_padding_reaches_nothing_and_wrong_input_raises(batch):
    student, teacher, mask = batch
    wide = mask.bool()[..., None].expand_as(student)
    for fn in (word_level_loss, full_vocabulary_loss):
        clean = fn(student, teacher, mask)[0]
        for junk in (math.nan, math.inf, 1e30):
            x = torch.where(wide, student.detach(), junk).requires_grad_()
            loss, stats = fn(x, torch.where(wide, teacher, junk), mask)
            slope = torch.autograd.grad(loss, x)[0]
            assert torch.equal(loss, clean) and torch.isfinite(slope).all() and (slope[~wide] == 0).all()
            assert all(torch.isfinite(v) for v in stats.values())
        with pytest.raises(ValueError, match="shapes differ"):
            fn(student, teacher[..., :4], mask)  # two vocabularies
        with pytest.raises(ValueError, match="NaN"):
            fn(torch.where(wide, math.nan, student), teacher, mask)
        with pytest.raises(ValueError, match="empty"):
            fn(student, teacher, mask * 0)
    with pytest.raises(ValueError, match="temperature"):
        word_level_loss(student, teacher, mask, temperature=0)
    hard = torch.where(torch.arange(5) == 2, 0.0, -math.inf).expand(2, 4, 5).double()  # a sure teacher: q is 0 or 1
    assert torch.allclose(word_level_loss(student, hard, mask)[0], sft_loss(student.log_softmax(-1)[..., 2], mask)[0])


def test_step_draws_the_student_to_its_teacher(tiny_gpt2):
    student, teacher = tiny_gpt2(n_layer=1), tiny_gpt2(seed=1, n_layer=1)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    kl = []
    for i in range(12):
        rollout = sample(student, [[3, 4]], n=32, max_new_tokens=2, eos_id=0,
                         generator=torch.Generator().manual_seed(i))
        with torch.no_grad():
            ref = rollout.on_completion(token_logps(teacher, rollout.ids, rollout.attention))
        kl.append(step(student, optimizer, rollout, ref)["kl"].item())
    assert sum(kl[-3:]) / 3 < 0.65 * kl[0]


# ---- several teachers ----


@pytest.mark.parametrize("mode", MIXTURE_MODES)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_multi_teacher_gradient_equals_the_hand_formula(batch, mode, temperature):
    """temperature * (p - q) / tokens at each place, q mixed by loops; nothing in the teachers, garbage off the mask."""
    student, teacher, mask = batch
    teachers = [teacher.clone(), teacher.flip(-1).clone(), 3 * teacher]
    for x in teachers:
        x[mask == 0] = math.nan
        x.requires_grad_()
    weights = [2.0, 1.0, 1.0]
    loss, stats = multi_teacher_loss(student, teachers, mask, weights=weights, mode=mode, temperature=temperature)
    got, *none = torch.autograd.grad(loss, [student, *teachers], allow_unused=True)
    assert none == [None] * 3
    want, kl = torch.zeros_like(student), 0.0
    for b, t in mask.nonzero().tolist():
        qs, p = [(x.detach()[b, t] / temperature).softmax(0) for x in teachers], (student.detach()[b, t] / temperature).softmax(0)
        if mode == "arithmetic":
            q = sum(w / 4 * x for w, x in zip(weights, qs, strict=True))
        else:
            q = math.prod(x ** (w / 4) for w, x in zip(weights, qs, strict=True))
            q = q / q.sum()
        want[b, t] = temperature * (p - q) / 4
        kl += (q * (q / p).log()).sum().item() / 4
    assert torch.allclose(got, want, atol=1e-12) and abs(stats["kl"].item() - kl) < 1e-12


def test_arithmetic_mixture_has_the_gradient_of_the_mean_loss_and_geometric_another(batch):
    student, teacher, mask = batch
    two = [teacher, 2 * teacher.flip(-1)]
    single = torch.autograd.grad(sum(0.5 * word_level_loss(student, x, mask)[0] for x in two), student)[0]
    mixed = {mode: torch.autograd.grad(multi_teacher_loss(student, two, mask, mode=mode)[0], student)[0] for mode in MIXTURE_MODES}
    assert torch.allclose(mixed["arithmetic"], single, atol=1e-12)
    assert not torch.allclose(mixed["geometric"], single, atol=1e-3)


def test_each_mixture_minimises_its_own_divergence():
    """sum_k w_k KL(q_k || p) has its minimum at the arithmetic mixture, sum_k w_k KL(p || q_k) at the geometric one."""
    torch.manual_seed(0)
    qs, weights = list((2 * torch.randn(3, 4, dtype=torch.float64)).log_softmax(-1)), [0.5, 0.3, 0.2]
    for mode in MIXTURE_MODES:
        def total(z, mode=mode):
            p = z.log_softmax(-1)
            each = [(q.exp() * (q - p)).sum() if mode == "arithmetic" else (p.exp() * (p - q)).sum() for q in qs]
            return sum(w * x for w, x in zip(weights, each, strict=True))

        best, other = (mixed_logps(qs, weights, mode=h).requires_grad_() for h in (mode, MIXTURE_MODES[mode == MIXTURE_MODES[0]]))
        assert abs(best.exp().sum().item() - 1) < 1e-12
        assert torch.autograd.grad(total(best), best)[0].abs().max() < 1e-12
        assert torch.autograd.grad(total(other), other)[0].abs().max() > 1e-3


def test_a_token_one_teacher_rules_out_and_bad_weights():
    a, b = torch.tensor([0.5, 0.5, 0.0]).log(), torch.tensor([0.2, 0.3, 0.5]).log()
    assert torch.allclose(mixed_logps([a, b]).exp(), torch.tensor([0.35, 0.4, 0.25]))
    both = torch.tensor([0.1, 0.15, 0.0]).sqrt()  # all have to agree
    assert torch.allclose(mixed_logps([a, b], mode="geometric").exp(), both / both.sum())
    for mode in MIXTURE_MODES:  # a teacher of weight 0 is not asked
        assert torch.allclose(mixed_logps([a, b], [0.0, 3.0], mode=mode), b)
    for weights in ([1.0], [-1.0, 2.0], [0.0, 0.0], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="2 teachers"):
            mixed_logps([a, b], weights)
    with pytest.raises(ValueError, match="mode is 'mean'"):
        mixed_logps([a, b], mode="mean")
    with pytest.raises(ValueError, match="0 teachers"):
        mixed_logps([])
    with pytest.raises(ValueError, match="shapes differ"):
        mixed_logps([a, b[:2]])


P, Q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
KL_QP, KL_PQ = 0.9 * math.log(1.8) + 0.1 * math.log(0.2), 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(5)


def logits(x, rows, width=2):
    return x.expand(rows, width, 2).clone().requires_grad_()


@pytest.mark.parametrize("mask, tokens", [([[1, 1], [1, 0]], 3), ([[1, 0], [0, 0]], 1)])
def test_kl_of_the_stats_by_hand(mask, tokens):
    """At each place student (1/2, 1/2), teacher (.9, .1): a mean over tokens forward, over rows with tokens reverse."""
    mask = torch.tensor(mask)
    rows, student, teacher = int(mask.any(1).sum()), logits(P, 2), logits(Q, 2)
    word = word_level_loss(student, teacher, mask)[1]
    full = full_vocabulary_loss(student, teacher, mask)[1]
    logp, ref = (torch.full((2, 2), x).requires_grad_() for x in (-1.0, -1.5))
    own = on_policy_loss(logp, ref, mask)[1]
    assert word["kl"].item() == pytest.approx(KL_QP, rel=1e-5)
    assert full["kl"].item() == pytest.approx(KL_PQ * tokens / rows, rel=1e-5)
    assert own["kl"].item() == pytest.approx(0.5 * tokens / rows)
    for stats in (word, full, own, sequence_level_loss(logp, mask)[1]):
        assert not any(x.requires_grad for x in stats.values())


def test_J5_stats_of_a_batch_without_tokens_are_finite():
    none, logp = torch.zeros(2, 2), torch.full((2, 2), -1.0)
    for _, stats in (
        word_level_loss(logits(P, 2), logits(Q, 2), none, denominator=4),
        full_vocabulary_loss(logits(P, 2), logits(Q, 2), none, denominator=4),
        on_policy_loss(logp, logp, none, mode="immediate", denominator=4),
    ):
        assert stats["kl"] == 0


def test_a_token_that_both_rule_out_costs_nothing():
    """0 log 0 = 0: student and teacher both say (1, 0)."""
    sure = torch.tensor([[[0.0, -math.inf]]])
    assert word_level_loss(sure, sure, torch.ones(1, 1))[0] == 0


def test_two_vocabularies_are_told_as_logits():
    with pytest.raises(ValueError, match=r"student_logits \(1, 2, 2\), teacher_logits \(1, 2, 3\)"):
        word_level_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3), torch.ones(1, 2))


def test_D12_immediate_advantages_are_detached_from_both_models():
    logp, ref = (torch.full((1, 2), x).requires_grad_() for x in (-1.0, -1.5))
    for a, b in ((logp, ref.detach()), (logp.detach(), ref)):
        got = reverse_kl_advantage(a, b, torch.ones(1, 2), mode="immediate")
        assert got.tolist() == [[-0.5, -0.5]] and not got.requires_grad


def test_a_step_has_its_dropout_off(tiny_gpt2):
    """In training mode two steps of rate 0 agree (B7)."""
    model = tiny_gpt2(n_layer=1)
    rollout = sample(model, [[3, 4]], n=4, max_new_tokens=3, eos_id=0, generator=torch.Generator().manual_seed(0))
    still = torch.optim.SGD(model.train().parameters(), lr=0.0)
    one, two = (step(model, still, rollout, rollout.logp_old - 0.3 * rollout.mask)["loss"] for _ in range(2))
    assert one == two


def test_the_whole_gradient_of_full_vocabulary_distillation_blames_a_token_for_what_comes_later():
    """KL is 0 at the first place and .9 log 1.8 + .1 log .2 at the second: the first token pays for the second place."""
    p = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]).log().requires_grad_()
    q = torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]).log()
    logp = torch.tensor([[math.log(0.5), math.log(0.9)]], requires_grad=True)
    loss, stats = full_vocabulary_loss(p, q, torch.ones(1, 2), logp=logp)
    later = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    got, = torch.autograd.grad(loss, logp)
    assert torch.allclose(got, torch.tensor([[later, 0.0]]), atol=1e-6)
    assert abs(stats["kl"].item() - later) < 1e-6


def test_kl_of_full_vocabulary_distillation_is_a_mean_over_the_rows_that_have_tokens():
    p = torch.tensor([[[0.9, 0.1]], [[0.9, 0.1]], [[0.9, 0.1]]]).log()
    q = torch.full((3, 1, 2), 0.5).log()
    one = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    _, stats = full_vocabulary_loss(p, q, torch.tensor([[1], [1], [0]]))
    assert abs(stats["kl"].item() - one) < 1e-6


def test_teachers_are_mixed_only_with_a_weight_each():
    logits = [torch.zeros(1, 1, 2), torch.ones(1, 1, 2)]
    with pytest.raises(ValueError):
        mixed_logps(logits, weights=[1.0])
    with pytest.raises(ValueError):
        mixed_logps(logits, weights=[1.0, math.inf])
