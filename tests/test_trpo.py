"""TRPO: Fisher products and conjugate gradients against matrices, the step's KL by full enumeration."""

import math
import time

import pytest
import torch

from rlhf_minimal import models, trpo
from rlhf_minimal.evaluate.exact import World, compare, exact_model, expected_loss_gradient, gradient
from rlhf_minimal.kl import k3
from rlhf_minimal.models import frozen_copy
from rlhf_minimal.ppo import policy_loss
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.sampling import sample
from rlhf_minimal.trpo import completion_logits, conjugate_gradients, fisher_product, natural_step, step, trpo_loss

EQUAL = 1e-10


@pytest.fixture
def bench():
    world, model = World(), exact_model(0)
    reward = torch.randn(len(world), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return world, model, reward


def problem(world, model, reward):
    """(loss, divergence): -E_old[rho A] and KL(pi_old || pi) of whole completions, exact, at the present weights."""
    old = world.logps(model).detach()
    p = old.sum(1).exp()
    adv = p * (reward - (p * reward).sum())  # with the divisor 1 the sum over rows is the expectation

    def loss():
        return trpo_loss(world.logps(model), old, adv, world.mask, denominator=1)[0]

    return loss, lambda: (p * (old.sum(1) - world.seq_logp(model))).sum()


def test_trpo_loss_equals_a_loop_and_ignores_what_is_off_the_mask():
    torch.manual_seed(0)
    old = -torch.rand(3, 4, dtype=torch.float64) - 0.1
    logp, adv = old + 0.2 * torch.randn(3, 4, dtype=torch.float64), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
    naive = -sum(math.exp(logp[b, t] - old[b, t]) * adv[b].item() for b, t in mask.nonzero().tolist()) / 3
    soiled = torch.where(mask.bool(), logp, math.inf).requires_grad_()
    loss, stats = trpo_loss(soiled, old, adv, mask)
    assert abs(loss.item() - naive) < 1e-12 and not stats["loss"].requires_grad
    slope = torch.autograd.grad(loss, soiled)[0]
    assert torch.isfinite(slope).all() and (slope[mask == 0] == 0).all()
    mean = -sum(math.exp(logp[b, t] - old[b, t]) * adv[b].item() for b, t in mask.nonzero().tolist()) / 7
    assert abs(mean - naive) > 0.1  # a token mean is another number
    with pytest.raises(ValueError, match="shapes differ"):
        trpo_loss(logp, old[:, :3], adv, mask)
    with pytest.raises(ValueError, match="NaN"):
        trpo_loss(logp * math.nan, old, adv, mask)


def test_E3_gradient_at_the_old_policy_is_that_of_reinforce_and_of_J(bench):
    world, model, reward = bench

    def loss(logp, i):
        return trpo_loss(logp, logp.detach(), reward[i] - 0.3, world.mask[i])[0]

    got = -expected_loss_gradient(world, model, loss)
    assert compare(got, gradient(world.expected(model, reward), model))["error"] < EQUAL
    same = -expected_loss_gradient(world, model, lambda lp, i: reinforce_loss(lp, reward[i] - 0.3, world.mask[i])[0])
    assert compare(got, same)["error"] < EQUAL


def test_conjugate_gradients_solve_the_system_in_n_steps():
    torch.manual_seed(0)
    half = torch.randn(8, 8, dtype=torch.float64)
    matrix, b = half @ half.T + 0.1 * torch.eye(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    exact = torch.linalg.solve(matrix, b)
    assert torch.allclose(conjugate_gradients(lambda v: matrix @ v, b, steps=12), exact, atol=1e-8)
    assert (conjugate_gradients(lambda v: matrix @ v, b, steps=2) - exact).norm() > 1e-2 * exact.norm()
    low = half[:, :3] @ half[:, :3].T  # rank 3, b in its range: three steps, and nothing blows up after them
    b = low @ b
    x = conjugate_gradients(lambda v: low @ v, b, steps=30)
    assert torch.allclose(low @ x, b, atol=1e-8)
    assert (conjugate_gradients(lambda v: low @ v, b * 0) == 0).all()


def test_fisher_product_equals_the_enumerated_fisher_matrix(bench):
    """sum_y p grad log p grad log p^T v; from the exact KL and from k3 of the ratio, of the same Hessian."""
    world, model, _ = bench
    weights, logp = list(model.parameters()), world.seq_logp(model)
    old, p = logp.detach(), logp.detach().exp()
    scores = torch.stack([gradient(x, model) for x in logp])
    fisher = scores.T @ (p[:, None] * scores)
    v = torch.randn(len(fisher), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    divergences = {"exact": (p * (old - logp)).sum(), "k3": (p * k3(old, logp)).sum()}
    for name, kl in divergences.items():
        assert torch.allclose(fisher_product(kl, weights)(v), fisher @ v, atol=1e-10), name
        assert torch.allclose(fisher_product(kl, weights, damping=0.5)(v), fisher @ v + 0.5 * v, atol=1e-10)
    elsewhere = world.seq_logp(exact_model(1)).detach()  # away from pi_old the Hessian of the KL is no Fisher matrix
    wrong = fisher_product((elsewhere.exp() * (elsewhere - logp)).sum(), weights)(v)
    assert (wrong - fisher @ v).norm() > 0.1 * (fisher @ v).norm()
    with pytest.raises(ValueError, match="second derivative"):
        fisher_product(sum((w * 0.1).sum() for w in weights), weights)


def test_the_direction_is_the_natural_gradient(bench):
    """A tiny delta: the move is parallel to F^+ grad J, and its KL is delta to second order."""
    world, model, reward = bench
    logp = world.seq_logp(model)
    scores = torch.stack([gradient(x, model) for x in logp])
    fisher = scores.T @ (logp.detach().exp()[:, None] * scores)
    exact = gradient(world.expected(model, reward), model)
    natural = torch.linalg.pinv(fisher, rtol=1e-12) @ exact
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    stats = natural_step(*problem(*bench), model.parameters(), delta=1e-8, damping=0.0, cg_steps=30, shrink=0.999)
    move = torch.nn.utils.parameters_to_vector(model.parameters()).detach() - before
    assert compare(move, natural)["cosine"] > 1 - 1e-4
    assert compare(move, exact)["cosine"] < 0.9  # the plain gradient points elsewhere
    assert 0.97e-8 < stats["kl"] <= 1e-8


@pytest.mark.parametrize("delta", [1e-3, 1e-2, 0.1, 1.0])
def test_kl_after_the_step_is_at_most_delta_and_J_rises(bench, delta):
    world, model, reward = bench
    reference, before = frozen_copy(model), world.expected(model, reward).item()
    stats = natural_step(*problem(*bench), model.parameters(), delta=delta, cg_steps=20)
    measured = world.kl(reference, model).item()
    assert 0 < measured <= delta and abs(measured - stats["kl"]) < 1e-12
    assert world.expected(model, reward).item() > before and stats["step"] > 0


def test_without_the_line_search_the_full_step_leaves_the_region(bench):
    """The mutant: the quadratic model alone promises KL = delta, and the real KL is beyond it."""
    world, model, _ = bench
    reward = torch.randn(len(world), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    reference, delta = frozen_copy(model), 0.1
    loss, divergence = problem(world, model, reward)
    weights = list(model.parameters())
    product = fisher_product(divergence(), weights, damping=1e-3)
    way = conjugate_gradients(product, gradient(-loss(), model), steps=20)
    start = torch.nn.utils.parameters_to_vector(weights).detach()
    torch.nn.utils.vector_to_parameters(start + way * (2 * delta / (way @ product(way))).sqrt(), weights)
    assert world.kl(reference, model).item() > 2 * delta
    torch.nn.utils.vector_to_parameters(start, weights)
    assert natural_step(loss, divergence, weights, delta=delta, cg_steps=20)["step"] < 1
    assert world.kl(reference, model).item() <= delta


def test_ppo_overshoots_on_the_same_batch(bench):
    """11.3: clipping at 0.2 bounds no KL; twenty epochs on the same enumerated batch leave the region of 0.01."""
    world, model, reward = bench
    reference, old = frozen_copy(model), world.logps(model).detach()
    p = old.sum(1).exp()
    adv = (reward - (p * reward).sum()) * p
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(20):
        optimizer.zero_grad()
        policy_loss(world.logps(model), old, adv, world.mask, clip=0.2)[0].backward()
        optimizer.step()
    assert world.kl(reference, model).item() > 0.01


def test_no_step_leaves_the_weights_as_they_were(bench):
    world, model, reward = bench
    before = [w.detach().clone() for w in model.parameters()]
    loss, divergence = problem(*bench)
    refused = natural_step(loss, lambda: divergence() + 1.0, model.parameters(), delta=0.5)  # no step is short enough
    flat = natural_step(*problem(world, model, reward * 0), model.parameters())
    assert refused["step"] == flat["step"] == 0 and flat["grad_norm"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    for bad in (dict(delta=0.0), dict(damping=-1.0), dict(shrink=1.0), dict(cg_steps=0), dict(tries=0)):
        with pytest.raises(ValueError, match="delta"):
            natural_step(loss, divergence, model.parameters(), **bad)


def test_step_on_a_real_model_with_fused_attention_and_dropout(tiny_gpt2):
    model = tiny_gpt2(n_layer=1).train()
    rollout = sample(model, [[3, 4], [5, 6, 7]], n=4, max_new_tokens=4, eos_id=0,
                     generator=torch.Generator().manual_seed(0))
    score = (rollout.completion_ids == 9).float().sum(1) + torch.arange(8) / 8
    old = frozen_copy(model)
    stats = step(model, rollout, score, group_size=4, delta=0.02)
    with torch.no_grad():
        a, b = (completion_logits(m, rollout).log_softmax(-1) for m in (old, model))
        kl = ((a.exp() * (a - b)).sum(-1) * rollout.mask).sum() / 8
    assert stats["step"] > 0 and 0 < stats["kl_old"] <= 0.02 and abs(kl.item() - stats["kl_old"]) < 1e-5
    assert stats["improvement"] > 0 and stats["kl"] == 0


def test_completion_logits_are_those_behind_the_sampled_tokens(tiny_gpt2):
    model = tiny_gpt2()
    rollout = sample(model, [[3, 4], [5, 6, 7]], n=3, max_new_tokens=6, eos_id=[0, 12], temperature=0.7,
                     generator=torch.Generator().manual_seed(0))
    assert (rollout.mask == 0).any()
    logits = completion_logits(model, rollout, temperature=0.7)
    logp = logits.log_softmax(-1).gather(2, rollout.completion_ids[..., None])[..., 0] * rollout.mask
    assert logits.shape == (*rollout.mask.shape, 20) and torch.allclose(logp, rollout.logp_old, atol=1e-4)
    assert (logits[rollout.mask == 0] == 0).all()
    shifted = logits[:, :-1].log_softmax(-1).gather(2, rollout.completion_ids[:, 1:, None])[..., 0]  # by one (B1)
    assert not torch.allclose(shifted * rollout.mask[:, 1:], rollout.logp_old[:, 1:], atol=0.1)


def test_ratio_of_the_stats_by_hand():
    """Ratios 2, 1/2 and 1 on the mask, garbage off it: mean 7/6; one token is divided by 1; without tokens 0."""
    new, old = torch.tensor([[0.8, 0.1], [0.3, 0.9]]).log(), torch.tensor([[0.4, 0.2], [0.3, 0.1]]).log()
    new.requires_grad_()
    old.requires_grad_()
    mask = torch.tensor([[1, 1], [1, 0]])
    loss, stats = trpo_loss(new, old, torch.tensor([1.0, 2.0]), mask)
    assert stats["ratio"].item() == pytest.approx(7 / 6) and loss.item() == pytest.approx(-(2 + 0.5 + 2) / 2)
    assert not stats["ratio"].requires_grad and not stats["loss"].requires_grad
    assert torch.autograd.grad(loss, old, allow_unused=True)[0] is None  # D12
    single = trpo_loss(new, old, torch.ones(2), torch.tensor([[1, 0], [0, 0]]))[1]
    assert single["ratio"].item() == pytest.approx(2.0)
    assert trpo_loss(new, old, torch.ones(2), mask * 0, denominator=4)[1]["ratio"] == 0


def test_conjugate_gradients_do_not_depend_on_units():
    """The tolerance is relative: a right-hand side of 1e-12 is solved as well as one of 1e6."""
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    for unit in (1e-12, 1.0, 1e6):
        x = conjugate_gradients(lambda v: matrix @ v, unit * torch.tensor([3.0, 4.0], dtype=torch.float64))
        assert (x / unit).tolist() == pytest.approx([1.0, 1.0], rel=1e-9)


def one_weight(loss, divergence, **settings):
    """(stats, the weight) of a step from w = 0."""
    w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    stats = natural_step(lambda: loss(w).sum(), lambda: divergence(w).sum(), [w], damping=0.0, cg_steps=1, **settings)
    return stats, w.item()


def test_the_full_step_by_hand():
    """Loss -w, KL w^2 (so F = 2), delta 1/4: x = 1/2, x'Fx = 1/2, the full step is 1/2, its KL delta exactly."""
    stats, w = one_weight(lambda w: -w, lambda w: w**2, delta=0.25, tries=1)
    assert w == 0.5 and stats == {"kl": 0.25, "improvement": 0.5, "step": 1.0, "grad_norm": 1.0}


def test_the_step_is_cut_until_the_measured_kl_fits():
    """A wall at |w| = 0.2 that the Hessian at 0 does not know: 1/2 and 1/4 hit it, 1/8 does not."""
    def wall(w):
        return w**2 + 100 * torch.relu(w.abs() - 0.2)

    stats, w = one_weight(lambda w: -w, wall, delta=0.25, tries=3)
    assert w == 0.125 and stats == {"kl": 1 / 64, "improvement": 0.125, "step": 0.25, "grad_norm": 1.0}
    stats, w = one_weight(lambda w: -w, wall, delta=0.25, tries=2)
    assert w == 0 and stats == {"kl": 0.0, "improvement": 0.0, "step": 0.0, "grad_norm": 1.0}


def test_a_step_that_gains_nothing_is_cut_too():
    """Loss 2 w^2 - w is 0 again at w = 1/2: no gain; at 1/4 it is -1/8."""
    stats, w = one_weight(lambda w: 2 * w**2 - w, lambda w: w**2, delta=0.25)
    assert w == 0.25 and stats["step"] == 0.5 and stats["improvement"] == 0.125


def test_a_loss_that_is_nan_raises():
    with pytest.raises(ValueError, match="weights diverged"):
        one_weight(lambda w: w * math.nan, lambda w: w**2)


def test_a_step_reports_means_over_rows(tiny_gpt2):
    """Scores 0 to 3 have the mean 1.5; a KL of 0.3 a token; dropout is off in training mode (B7)."""
    model = tiny_gpt2(n_layer=1)
    rollout = sample(model, [[3, 4]], n=4, max_new_tokens=3, eos_id=0, generator=torch.Generator().manual_seed(0))
    ref, kl = rollout.logp_old - 0.3 * rollout.mask, 0.3 * rollout.mask.sum(1).mean()
    stats = step(model.train(), rollout, torch.arange(4.0), group_size=4, logp_ref=ref, beta=0.1)
    assert stats["score"] == 1.5 and torch.allclose(stats["kl"], kl) and torch.allclose(stats["reward"], 1.5 - 0.1 * kl)
    assert 0 < stats["kl_old"] <= 0.01 and stats["step"] > 0


def test_trpo_steps_on_the_village_model_within_delta_and_improves():
    """4 prompts x 4: no kernel to choose by the caller, KL measured again from outside, surrogate better. Prints time."""
    policy, tokenizer = models.load("village-3m")
    prompts = [tokenizer(text)["input_ids"] for text in ("Tell a story about a fox.", "What is 2 + 3?", "The", "A dog")]
    rollout = sample(policy, prompts, n=4, max_new_tokens=8, eos_id=tokenizer.eos_token_id,
                     generator=torch.Generator().manual_seed(0))
    score, old = torch.randn(16, generator=torch.Generator().manual_seed(1)), models.frozen_copy(policy)
    start, cpu = time.perf_counter(), time.process_time()
    stats = trpo.step(policy, rollout, score, group_size=4, delta=0.01)
    took, used = time.perf_counter() - start, time.process_time() - cpu
    print(f"\none TRPO step of village-3m, 16 rows of 8 tokens: {took:.1f} s, {used:.1f} s of the processor")
    with torch.no_grad():
        a, b = (trpo.completion_logits(m, rollout).log_softmax(-1) for m in (old, policy))
        kl = ((a.exp() * (a - b)).sum(-1) * rollout.mask).sum().item() / 16
        ratio = ((b - a).gather(2, rollout.completion_ids[..., None])[..., 0] * rollout.mask).exp()
        adv = trpo.leave_one_out(score, 4)[:, None] * rollout.mask
        gain = ((ratio - 1) * adv).sum().item() / 16
    assert stats["step"] > 0 and 0 < kl <= 0.01 * 1.01 and abs(kl - stats["kl_old"]) < 1e-4
    assert stats["improvement"] > 0 and abs(gain - stats["improvement"]) < 1e-3 * max(1, gain)
    assert kl > 0.001  # it used the room it had


def test_the_fused_kernel_has_no_second_derivative_and_the_plain_one_has(tiny_gpt2):
    """Negative control: outside the context the same product fails, so the context does something."""
    model, ids = tiny_gpt2(), torch.tensor([[1, 2, 3, 4, 5, 6]])
    assert model.config._attn_implementation == "sdpa"
    v = torch.ones(sum(p.numel() for p in model.parameters()))

    def product():
        return trpo.fisher_product(model(ids).logits.square().mean(), model.parameters())(v)

    with pytest.raises(RuntimeError, match="derivative"):
        product()
    with trpo.twice_differentiable():
        assert torch.isfinite(product()).all()


@pytest.mark.parametrize("ratio, stops", [(0.05, True), (0.3, False)])
def test_conjugate_gradients_stop_at_a_residual_of_the_tolerance_times_b(ratio, stops):
    """After one step the residual's square is `ratio` times that of b; the tolerance of 0.3 has the square 0.09."""
    root = math.sqrt(ratio)
    k = (1 + root) / (1 - root)
    diagonal, b = torch.tensor([1.0, k], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    x = conjugate_gradients(lambda v: diagonal * v, b, tolerance=0.3)
    one_step = torch.full((2,), 2 / (1 + k), dtype=torch.float64)
    assert torch.allclose(x, one_step if stops else 1 / diagonal, atol=1e-12)


def test_a_direction_without_curvature_is_not_followed():
    assert conjugate_gradients(lambda v: 0 * v, torch.ones(3)).tolist() == [0, 0, 0]
    flat = torch.tensor([1.0, 0.0])  # b leaves the range of A: the part in it is solved
    assert conjugate_gradients(lambda v: flat * v, torch.tensor([2.0, 0.0])).tolist() == [2, 0]


def test_a_weight_without_a_part_in_the_loss_has_the_gradient_0():
    a, b = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))
    assert trpo.flat_gradient((2 * a).sum(), [a, b]).tolist() == [2, 2, 0, 0, 0]


def test_a_step_that_is_never_shortened_is_refused():
    for shrink in (0.0, 1.0):
        with pytest.raises(ValueError, match="shrink between 0 and 1"):
            one_weight(lambda w: -w, lambda w: w**2, shrink=shrink)
