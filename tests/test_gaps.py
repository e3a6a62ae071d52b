"""Denominators of losses that are parts of a step, float64 weights, TRPO and its kernel on the shipped model."""

import inspect
import time

import pytest
import torch

from rlhf_minimal import direct_alignment as da
from rlhf_minimal import models, trpo
from rlhf_minimal.evaluate.exact import World, compare, exact_model, expected_loss_gradient, gradient
from rlhf_minimal.grpo import gspo_loss
from rlhf_minimal.p3o import p3o_loss
from rlhf_minimal.ppo import Critic, minibatch_loss, prepare
from rlhf_minimal.sampling import sample

# ---- E14, J1: halves with the denominator of the whole add up to the whole ----

FOUR = [name for name, fn in inspect.getmembers(da, inspect.isfunction)
        if name.endswith("_loss") and "ref_chosen" in inspect.signature(fn).parameters]
CALLS = {name: lambda fn, i, x, **kw: fn(x[i, 0], x[i, 1], -x[i, 1].detach() - 3, x[i, 0].detach() * 0.3, **kw)
         for name in FOUR}
CALLS |= {name: lambda fn, i, x, **kw: fn(x[i, 0], x[i, 1], **kw) for name in ("simpo_loss", "cpo_loss", "orpo_loss")}
LENGTHS = torch.tensor([3, 9, 4, 5, 2, 8])


def kto(fn, i, x, **kw):
    return fn(x[i, 0] + 1, torch.tensor([1, 0, 0, 1, 1, 0])[i], torch.tensor([0.3, 0.1]), w_undesirable=0.7, **kw)


def cpl(fn, i, x, **kw):
    one = torch.ones(len(x[i]), 1)
    return fn(x[i, :1], x[i, 1:], one, one, **kw)


def longer(fn, i, x, **kw):
    return CALLS["dpo_loss"](fn, i, x, len_chosen=LENGTHS[i], len_rejected=LENGTHS.flip(0)[i], **kw)


def with_lengths(fn, i, x, **kw):
    return CALLS["dpo_loss"](fn, i, x, lengths=LENGTHS[i], **kw)


CALLS |= {"kto_loss": kto, "cpl_loss": cpl, "length_dpo_loss": longer, "dpo_nll_loss": with_lengths}


@pytest.fixture
def logps():
    torch.manual_seed(0)
    return (-3 * torch.rand(6, 2, dtype=torch.float64) - 0.1).requires_grad_()


def test_every_preference_loss_is_here():
    every = {name for name, fn in inspect.getmembers(da, inspect.isfunction) if name.endswith("_loss")}
    assert every == set(CALLS) and len(every) == 13
    assert all("denominator" in inspect.signature(getattr(da, name)).parameters for name in every)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_preference_losses_add_up_over_uneven_parts(logps, name):
    fn, call = getattr(da, name), CALLS[name]
    settings = {"label_smoothing": 0.1} if "label_smoothing" in inspect.signature(fn).parameters else {}
    whole, _ = call(fn, slice(0, 6), logps, **settings)
    want = torch.autograd.grad(whole, logps)[0]
    parts = [slice(0, 4), slice(4, 6)]
    got = [call(fn, i, logps, denominator=6, **settings)[0] for i in parts]
    assert abs(sum(got) - whole) < 1e-14
    assert torch.allclose(torch.autograd.grad(sum(got), logps)[0], want, atol=1e-14)
    means = sum(call(fn, i, logps, **settings)[0] for i in parts) / 2  # the mutant: a mean of means
    assert not torch.allclose(torch.autograd.grad(means, logps)[0], want, atol=1e-6)
    with pytest.raises(ValueError, match="denominator is 0"):
        call(fn, slice(0, 4), logps, denominator=0, **settings)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_J5_no_rows_with_a_denominator_are_a_differentiable_zero(logps, name):
    fn, call = getattr(da, name), CALLS[name]
    loss, stats = call(fn, slice(0, 0), logps, denominator=6)
    assert loss.item() == 0 and (torch.autograd.grad(loss, logps)[0] == 0).all()
    assert all(torch.isfinite(x) for x in stats.values())
    with pytest.raises(ValueError, match="B >= 1"):
        call(fn, slice(0, 0), logps)


@pytest.mark.parametrize("loss", [
    lambda *x, **kw: gspo_loss(*x, group_size=2, clip=0.2, **kw)[0],
    lambda *x, **kw: p3o_loss(*x, **kw)[0], lambda *x, **kw: p3o_loss(*x, form="joint", **kw)[0],
], ids=["gspo", "p3o separate", "p3o joint"])
def test_group_losses_add_up_over_whole_groups(loss):
    torch.manual_seed(1)
    old = -2 * torch.rand(6, 3, dtype=torch.float64) - 0.1
    logp = (old + 0.05 * torch.randn(6, 3, dtype=torch.float64)).requires_grad_()
    score, mask = torch.randn(6, dtype=torch.float64), torch.tensor([[1, 1, 0], [1, 1, 1]] * 3)
    whole = loss(logp, old, score, mask)
    want = torch.autograd.grad(whole, logp)[0]
    parts = [slice(0, 4), slice(4, 6)]
    got = sum(loss(logp[i], old[i], score[i], mask[i], denominator=6) for i in parts)
    assert torch.allclose(got, whole, atol=1e-14) and torch.allclose(torch.autograd.grad(got, logp)[0], want, atol=1e-14)
    means = sum(loss(logp[i], old[i], score[i], mask[i]) for i in parts) / 2
    assert not torch.allclose(torch.autograd.grad(means, logp)[0], want, atol=1e-6)


def test_ppo_minibatches_add_up_to_the_batch(tiny_gpt2):
    policy = tiny_gpt2()
    critic = Critic(policy)
    torch.nn.init.normal_(critic.head.weight)
    rollout = sample(policy, [[3, 4], [5, 6, 7]], n=3, max_new_tokens=6, eos_id=[0, 12],
                     generator=torch.Generator().manual_seed(0))
    frozen = prepare(critic, rollout, torch.randn(6))
    tokens, weights = rollout.mask.sum(), [*policy.parameters(), *critic.head.parameters()]
    assert len(set(rollout.mask.sum(1).tolist())) > 1

    def grads(parts, **settings):
        losses = [minibatch_loss(policy, critic, rollout.select(i), {k: x[i] for k, x in frozen.items()}, **settings)[0]
                  for i in parts]
        return torch.cat([g.flatten() for g in torch.autograd.grad(sum(losses), weights)])

    rows = torch.arange(6)
    whole, parts = grads([rows]), [rows[:2], rows[2:]]
    assert torch.allclose(grads(parts, denominator=tokens), whole, atol=1e-5 * whole.abs().max())
    assert not torch.allclose(grads(parts) / 2, whole, atol=1e-2 * whole.abs().max())


# ---- float64 stays float64 ----


def test_kto_weights_are_not_rounded_to_float32():
    r, good = torch.tensor([0.3, -0.2], dtype=torch.float64), torch.tensor([1, 0])
    z0, beta = 0.05, 0.1
    loss, _ = da.kto_loss(r, good, torch.tensor([z0], dtype=torch.float64), w_desirable=0.1, w_undesirable=1 / 3)
    up, down = 1 - torch.sigmoid(beta * (r[0] - z0)), 1 - torch.sigmoid(beta * (z0 - r[1]))
    assert loss.dtype == torch.float64 and abs(loss - (0.1 * up + down / 3) / 2) < 1e-16
    rounded = (torch.tensor(0.1).double() * up + torch.tensor(1 / 3).double() * down) / 2  # as float32 constants
    assert abs(loss - rounded) > 1e-10


# ---- P3O: what is left out of the separate form has no part in the expectation ----


def test_p3o_without_the_other_answers_ratio_has_the_same_expectation_and_less_noise():
    """Off policy: weighing answer i by the *other's* ratio too, as the paper's theorem does, is unbiased as well."""
    world, model, other = World(horizon=2), exact_model(0, horizon=2), exact_model(1, horizon=2)
    reward = torch.randn(len(world), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact, old = gradient(world.expected(model, reward), model), world.logps(other).detach()

    def both(logp, i):
        ratio = (logp - old[i]).sum(1).exp()
        adv = torch.stack([reward[i][0] - reward[i][1], reward[i][1] - reward[i][0]])
        return -(adv * ratio.detach().flip(0) * ratio).mean()

    def separate(logp, i):
        return p3o_loss(logp, old[i], reward[i], world.mask[i], clip=None)[0]

    for loss in (both, separate):
        assert compare(-expected_loss_gradient(world, model, loss, group_size=2, sampler=other), exact)["error"] < 1e-10
    p, noise = world.seq_logp(other).detach().exp(), {}
    for name, loss in (("both", both), ("separate", separate)):
        leaf, total = world.logps(model).detach().requires_grad_(), 0.0
        for i in range(len(world)):
            for j in range(len(world)):
                rows = torch.tensor([i, j])
                total += p[i] * p[j] * torch.autograd.grad(loss(leaf[rows], rows), leaf)[0].square().sum()
        noise[name] = total.item()  # mean squared length of the gradient in the log-probabilities
    assert noise["separate"] < noise["both"]


# ---- TRPO on the shipped model ----


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
