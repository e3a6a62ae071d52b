"""Losses that are parts of a step, each with the denominator of the whole, add up to the whole."""

import inspect

import pytest
import torch

from rlhf_minimal import direct_alignment as da
from rlhf_minimal.advantages import group_normalize
from rlhf_minimal.grpo import grpo_loss, gspo_loss
from rlhf_minimal.p3o import p3o_loss
from rlhf_minimal.ppo import Critic, minibatch_loss, policy_loss, prepare, value_loss, values
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.sampling import sample

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
    lambda *x, **kw: p3o_loss(*x, **kw)[0], lambda *x, **kw: p3o_loss(*x, mode="joint", **kw)[0],
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
    frozen = prepare(values(critic, rollout).detach(), rollout, torch.randn(6))
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


def grad(loss, x):
    return torch.autograd.grad(loss, x, retain_graph=True)[0]


@pytest.mark.parametrize("name", ["policy", "reinforce", "grpo", "value"])
def test_E14_accumulation_divides_by_the_whole_step(policy_batch, name):
    logp, old, score, mask = policy_batch
    adv = group_normalize(score, 2)
    loss = {
        "policy": lambda r, d: policy_loss(logp[r], old[r], adv[r], mask[r], denominator=d)[0],
        "value": lambda r, d: value_loss(logp[r], old[r], old[r] + 0.5, mask[r], denominator=d)[0],
        "reinforce": lambda r, d: reinforce_loss(logp[r], score[r], mask[r], denominator=d)[0],
        "grpo": lambda r, d: grpo_loss(
            logp[r], old[r], score[r], mask[r], group_size=2, mode="token_mean", denominator=d
        )[0],
    }[name]
    count = 4 if name == "reinforce" else mask.sum().item()
    whole = grad(loss(slice(0, 4), None), logp)
    parts = [slice(0, 2), slice(2, 4)]
    assert torch.allclose(sum(grad(loss(r, count), logp) for r in parts), whole, atol=1e-12)
    means = sum(grad(loss(r, None), logp) for r in parts) / 2
    if name != "reinforce":  # 8 and 3 tokens: the mean of means is another gradient
        assert not torch.allclose(means, whole, rtol=1e-2)
