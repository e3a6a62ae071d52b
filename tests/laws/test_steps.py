"""What every step() has in common, on a tiny GPT-2 and a real rollout: one update equals its parts, and it learns."""

import copy
import math

import pytest
import torch

from rlhf_minimal import grpo, ppo, reinforce, rloo
from rlhf_minimal.advantages import leave_one_out
from rlhf_minimal.models import frozen_copy
from rlhf_minimal.ppo import Critic
from rlhf_minimal.rollout import completion_logps
from tests.fixtures.rollouts import draw, flat, reward, sgd


def test_steps_move_as_autograd_of_the_formula_says(sampled):
    """REINFORCE, RLOO and GRPO: the parameters after one SGD step, recomputed by hand."""
    policy, rollout, score = sampled
    ref = rollout.logp_old - 0.3 * rollout.mask
    kl = 0.3 * rollout.mask.sum(1)
    runs = {
        reinforce: (score - 0.1 * kl - 0.2, dict(beta=0.1, baseline=0.2, logp_ref=ref)),
        rloo: (leave_one_out(score - 0.1 * kl, 4), dict(beta=0.1, group_size=4, logp_ref=ref)),
    }
    for module, (adv, settings) in runs.items():
        ours, by_hand = copy.deepcopy(policy), copy.deepcopy(policy)
        stats = module.step(ours, sgd(ours, lr=0.1), rollout, score, max_norm=1e9, **settings)
        logp = completion_logps(by_hand, rollout)
        loss = -(adv * (logp * rollout.mask).sum(1)).mean()
        grads = torch.autograd.grad(loss, list(by_hand.parameters()))
        want = torch.cat([(p - 0.1 * g).detach().flatten() for p, g in zip(by_hand.parameters(), grads, strict=True)])
        assert (flat(ours) - want).abs().max() < 1e-6
        assert torch.allclose(stats["kl"], kl.mean()) and torch.allclose(stats["reward"], (score - 0.1 * kl).mean())
        assert torch.allclose(stats["grad_norm"], torch.cat([g.flatten() for g in grads]).norm(), rtol=1e-4)


@pytest.mark.parametrize("name", ["reinforce", "rloo", "ppo", "grpo"])
def test_first_update_has_ratio_one_even_in_training_mode(sampled, name):
    """B7: dropout is off in the update. B4: and the sampling temperature is used."""
    policy, _, _ = sampled
    rollout = draw(policy, temperature=0.7)
    score = reward(rollout)
    policy.train()
    if name == "grpo":
        stats = grpo.step(policy, sgd(policy), rollout, score, group_size=4, temperature=0.7)
        assert abs(stats["approx_kl"]) < 1e-6 and abs(stats["ratio"] - 1) < 1e-4 and stats["clip_frac"] == 0
        wrong = grpo.step(policy, sgd(policy), rollout, score, group_size=4)  # scored at temperature 1
        assert wrong["approx_kl"] > 1e-3
    elif name == "ppo":
        critic = Critic(policy)
        stats = ppo.step(policy, sgd(policy, critic), rollout, score, critic=critic, temperature=0.7)
        assert abs(stats["approx_kl"]) < 1e-6 and stats["clip_frac"] == 0
    else:
        settings = dict(group_size=4) if name == "rloo" else {}
        module = {"reinforce": reinforce, "rloo": rloo}[name]
        two = [module.step(policy, sgd(policy), rollout, score, temperature=0.7, **settings)["loss"] for _ in range(2)]
        assert two[0] == two[1]  # dropout would make them differ


def test_logp_old_agrees_with_the_training_forward(sampled):
    policy, rollout, _ = sampled
    with torch.no_grad():
        assert (completion_logps(policy, rollout) - rollout.logp_old).abs().max() < 1e-4  # B6


@pytest.mark.parametrize("name", ["reinforce", "rloo", "ppo", "grpo"])
def test_learns_and_the_reference_stays(sampled, name):
    """C11, C12: a few updates raise the reward and the KL to the frozen reference; the reference keeps its bits."""
    policy, rollout, score = sampled
    reference, before = frozen_copy(policy), flat(policy)
    critic = Critic(policy)
    models = (policy, critic) if name == "ppo" else (policy,)
    optimizer = torch.optim.Adam([p for m in models for p in m.parameters()], lr=3e-3)
    settings = {
        "reinforce": dict(baseline=0.5), "rloo": dict(group_size=16), "ppo": dict(critic=critic), "grpo": dict(group_size=16)
    }[name]
    module = {"reinforce": reinforce, "rloo": rloo, "ppo": ppo, "grpo": grpo}[name]
    seen, kls = [], []
    for seed in range(12):
        rollout = draw(policy, n=16, seed=seed)
        with torch.no_grad():
            ref = completion_logps(reference, rollout)
        stats = module.step(policy, optimizer, rollout, reward(rollout), logp_ref=ref, beta=0.001, **settings)
        assert all(math.isfinite(v) for v in stats.values())
        seen.append(stats["score"].item())
        kls.append(stats["kl"].item())
    assert sum(seen[-3:]) / 3 > sum(seen[:3]) / 3 + 0.1, seen
    assert abs(kls[0]) < 1e-4 and kls[-1] > 0.05
    assert torch.equal(flat(reference), before) and not torch.equal(flat(policy), before)


def test_beta_without_reference_raises(sampled):
    policy, rollout, score = sampled
    calls = [
        lambda: reinforce.step(policy, sgd(policy), rollout, score, beta=0.1),
        lambda: rloo.step(policy, sgd(policy), rollout, score, beta=0.1, group_size=4),
        lambda: grpo.step(policy, sgd(policy), rollout, score, beta=0.1, group_size=4),
        lambda: ppo.step(policy, sgd(policy), rollout, score, beta=0.1, critic=Critic(policy)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="logp_ref"):
            call()


def test_E14_row_order_does_not_matter(sampled):
    """Prompts swapped, groups whole: one update gives the same weights."""
    policy, rollout, score = sampled
    swap = torch.tensor([4, 5, 6, 7, 0, 1, 2, 3])
    for module in (rloo, grpo):
        a, b = copy.deepcopy(policy), copy.deepcopy(policy)
        module.step(a, sgd(a, lr=0.1), rollout, score, group_size=4)
        module.step(b, sgd(b, lr=0.1), rollout.select(swap), score[swap], group_size=4)
        assert (flat(a) - flat(b)).abs().max() < 1e-5


def test_stats_names(sampled):
    policy, rollout, score = sampled
    critic = Critic(policy)
    stats = ppo.step(policy, sgd(policy, critic, lr=0.01), rollout, score, critic=critic)
    wanted = "policy_loss value_loss loss clip_frac outside_frac approx_kl ratio score reward kl grad_norm explained_variance"
    assert set(wanted.split()) <= set(stats)
    assert all(v.dim() == 0 and not v.requires_grad for v in stats.values())


@pytest.mark.parametrize("name", ["reinforce", "rloo", "ppo", "grpo"])
def test_a_step_reports_means_over_rows(sampled, name):
    policy, rollout, score = sampled
    critic = Critic(policy)
    models = (policy, critic) if name == "ppo" else (policy,)
    settings = {"reinforce": {}, "rloo": dict(group_size=4), "ppo": dict(critic=critic), "grpo": dict(group_size=4)}[name]
    module = {"reinforce": reinforce, "rloo": rloo, "ppo": ppo, "grpo": grpo}[name]
    ref = rollout.logp_old - 0.3 * rollout.mask
    kl = 0.3 * rollout.mask.sum(1).mean()
    stats = module.step(policy, sgd(*models), rollout, score, logp_ref=ref, beta=0.1, **settings)
    assert torch.allclose(stats["score"], score.mean()) and torch.allclose(stats["kl"], kl, atol=1e-5)
    if name != "grpo":  # there the KL is a term of the loss
        assert torch.allclose(stats["reward"], score.mean() - 0.1 * kl, atol=1e-5)
    free = module.step(policy, sgd(*models), rollout, score, **settings)
    assert torch.allclose(free.get("reward", score.mean()), score.mean()) and free.get("kl", 0.0) == 0
