"""The step() of every algorithm on a tiny GPT-2 and a real rollout: one update equals its parts, and it learns."""

import copy
import math

import pytest
import torch

from rlhf_minimal import grpo, ppo, reinforce, rloo
from rlhf_minimal.advantages import gae, leave_one_out
from rlhf_minimal.kl import k1
from rlhf_minimal.models import frozen_copy
from rlhf_minimal.ppo import Critic, values
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import sample
from rlhf_minimal.tensors import masked_sum, masked_whiten

PROMPTS = [[3, 4], [5, 6, 7, 8]]


@pytest.fixture
def setup(tiny_gpt2):
    policy = tiny_gpt2()
    rollout = draw(policy)
    return policy, rollout, reward(rollout)


def draw(policy, n=4, seed=0, temperature=1.0):
    generator = torch.Generator().manual_seed(seed)
    return sample(policy, PROMPTS, n=n, max_new_tokens=6, eos_id=0, temperature=temperature, generator=generator)


def reward(rollout):
    """Share of even ids among the sampled tokens."""
    even = (rollout.completion_ids % 2 == 0).float() * rollout.mask
    return even.sum(1) / rollout.mask.sum(1)


def sgd(*models, lr=0.0):
    return torch.optim.SGD([p for m in models for p in m.parameters()], lr=lr)


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_steps_move_as_autograd_of_the_formula_says(setup):
    """REINFORCE, RLOO and GRPO: the parameters after one SGD step, recomputed by hand."""
    policy, rollout, score = setup
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
def test_first_update_has_ratio_one_even_in_training_mode(setup, name):
    """B7: dropout is off in the update. B4: and the sampling temperature is used."""
    policy, _, _ = setup
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


def test_logp_old_agrees_with_the_training_forward(setup):
    policy, rollout, _ = setup
    with torch.no_grad():
        assert (completion_logps(policy, rollout) - rollout.logp_old).abs().max() < 1e-4  # B6


@pytest.mark.parametrize("name", ["reinforce", "rloo", "ppo", "grpo"])
def test_learns_and_the_reference_stays(setup, name):
    """C11, C12: a few updates raise the reward and the KL to the frozen reference; the reference keeps its bits."""
    policy, rollout, score = setup
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


def test_beta_without_reference_raises(setup):
    policy, rollout, score = setup
    calls = [
        lambda: reinforce.step(policy, sgd(policy), rollout, score, beta=0.1),
        lambda: rloo.step(policy, sgd(policy), rollout, score, beta=0.1, group_size=4),
        lambda: grpo.step(policy, sgd(policy), rollout, score, beta=0.1, group_size=4),
        lambda: ppo.step(policy, sgd(policy), rollout, score, beta=0.1, critic=Critic(policy)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="logp_ref"):
            call()


# ---- PPO's parts ----


def test_D11_values_start_at_zero_and_do_not_see_the_action(setup):
    policy, rollout, _ = setup
    critic = Critic(policy)
    assert (values(critic, rollout) == 0).all()
    torch.nn.init.normal_(critic.head.weight)
    value = values(critic, rollout)
    assert value.dtype == torch.float32 and value.shape == rollout.mask.shape
    for t in range(rollout.mask.shape[1]):
        other = copy.deepcopy(rollout)
        other.ids[:, rollout.prompt_len + t] = (other.ids[:, rollout.prompt_len + t] + 1) % 20
        changed = values(critic, other)
        assert (changed - value)[:, : t + 1].abs().max() < 1e-5  # V_t and all before it stay
        later = rollout.mask[:, t + 1 :].bool()
        if later.any():
            assert ((changed - value)[:, t + 1 :][later]).abs().max() > 1e-3
    at_token = critic(rollout.ids, rollout.attention)[:, rollout.prompt_len :]  # read one place late: it leaks
    assert (at_token * rollout.mask - value).abs().max() > 1e-2


def test_D11_value_loss_moves_no_policy_weight(setup):
    policy, rollout, _ = setup
    critic, before = Critic(policy), flat(policy)
    torch.nn.init.normal_(critic.head.weight)
    values(critic, rollout).square().sum().backward()
    assert all(p.grad is None for p in policy.parameters()) and critic.trunk.wte.weight.grad.norm() > 0
    torch.optim.SGD(critic.parameters(), lr=1.0).step()
    assert torch.equal(flat(policy), before)


def test_D3_D5_D12_prepare(setup):
    """Whitened once over the whole batch; returns from the raw advantages; everything detached."""
    policy, rollout, score = setup
    critic = Critic(policy)
    torch.nn.init.normal_(critic.head.weight)
    ref = rollout.logp_old - 0.2 * rollout.mask
    got = ppo.prepare(critic, rollout, score, logp_ref=ref, beta=0.1, lam=0.9)
    per_token = ppo.rewards(score, rollout.logp_old, ref, rollout.mask, 0.1)
    raw, ret = gae(per_token, values(critic, rollout).detach(), rollout.mask, lam=0.9)
    assert torch.allclose(got["ret"], ret) and torch.allclose(got["adv"], masked_whiten(raw, rollout.mask))
    assert torch.equal(ppo.prepare(critic, rollout, score, logp_ref=ref, beta=0.1, lam=0.9, whiten=False)["ret"], got["ret"])
    on = rollout.mask.bool()
    assert abs(got["adv"][on].mean()) < 1e-5 and abs(got["adv"][on].std() - 1) < 1e-4
    assert abs(got["adv"][:4][on[:4]].mean()) > 1e-3  # not per minibatch
    assert not any(x.requires_grad for x in got.values())
    assert torch.allclose(got["kl"], masked_sum(k1(rollout.logp_old, ref), rollout.mask, dim=1))


def test_E16_minibatches_shuffle_rows_and_frozen_stays(setup, monkeypatch):
    policy, rollout, score = setup
    critic = Critic(policy)
    seen = []
    real = ppo.minibatch_loss

    def spy(policy, critic, part, frozen, **settings):
        seen.append((part, {k: v.clone() for k, v in frozen.items()}))
        return real(policy, critic, part, frozen, **settings)

    monkeypatch.setattr(ppo, "minibatch_loss", spy)
    want = ppo.prepare(critic, rollout, score)
    generator = torch.Generator().manual_seed(3)
    optimizer = sgd(policy, critic, lr=0.5)
    stats = ppo.step(policy, optimizer, rollout, score, critic=critic, epochs=2, minibatches=2, generator=generator)
    assert len(seen) == 4 and all(len(part) == 4 for part, _ in seen)
    order = torch.cat([torch.randperm(8, generator=torch.Generator().manual_seed(3))])
    assert order.tolist() != list(range(8))
    for epoch in (0, 1):
        ids = torch.cat([part.ids for part, _ in seen[2 * epoch : 2 * epoch + 2]])
        adv = torch.cat([frozen["adv"] for _, frozen in seen[2 * epoch : 2 * epoch + 2]])
        match = [(rollout.ids == row).all(1).nonzero()[0].item() for row in ids]
        if epoch == 0:
            assert torch.equal(ids, rollout.ids[order])
        assert sorted(ids.tolist()) == sorted(rollout.ids.tolist())  # every row once an epoch, whole
        assert torch.allclose(adv, want["adv"][match])  # and its advantages with it, from before the first update
    assert stats["approx_kl"] > 1e-6  # after the first update ratios differ from 1


def test_E16_the_second_epoch_has_other_ratios(setup):
    policy, rollout, score = setup
    for epochs, differs in ((1, False), (3, True)):
        model = copy.deepcopy(policy)
        stats = grpo.step(model, sgd(model, lr=0.3), rollout, score, group_size=4, epochs=epochs)
        assert (stats["approx_kl"] > 1e-5) == differs


def test_E15_ppo_clips_policy_and_value_together(setup):
    policy, rollout, score = setup
    critic, before = Critic(policy), flat(policy)
    start = flat(critic)
    settings = dict(critic=critic, epochs=1, max_norm=0.01)
    stats = ppo.step(policy, sgd(policy, critic, lr=1.0), rollout, score, **settings)
    moved = torch.cat([flat(policy) - before, flat(critic) - start]).norm()
    assert stats["grad_norm"] > 0.01 and abs(moved - 0.01) < 1e-4


def test_E14_row_order_does_not_matter(setup):
    """Prompts swapped, groups whole: one update gives the same weights."""
    policy, rollout, score = setup
    swap = torch.tensor([4, 5, 6, 7, 0, 1, 2, 3])
    for module in (rloo, grpo):
        a, b = copy.deepcopy(policy), copy.deepcopy(policy)
        module.step(a, sgd(a, lr=0.1), rollout, score, group_size=4)
        module.step(b, sgd(b, lr=0.1), rollout.select(swap), score[swap], group_size=4)
        assert (flat(a) - flat(b)).abs().max() < 1e-5


def test_stats_names(setup):
    policy, rollout, score = setup
    critic = Critic(policy)
    stats = ppo.step(policy, sgd(policy, critic, lr=0.01), rollout, score, critic=critic)
    wanted = "policy_loss value_loss loss clip_frac outside_frac approx_kl ratio score reward kl grad_norm explained_variance"
    assert set(wanted.split()) <= set(stats)
    assert all(v.dim() == 0 and not v.requires_grad for v in stats.values())


# ---- the numbers that a step reports ----


@pytest.mark.parametrize("name", ["reinforce", "rloo", "ppo", "grpo"])
def test_a_step_reports_means_over_rows(setup, name):
    policy, rollout, score = setup
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


def test_minibatch_loss_adds_value_coef_times_the_value_loss(setup):
    policy, rollout, score = setup
    critic = Critic(policy)
    torch.nn.init.normal_(critic.head.weight)
    frozen = ppo.prepare(critic, rollout, score)
    frozen["value"] = frozen["value"] + 0.3
    for settings, coef in (({}, 0.5), (dict(value_coef=2.0), 2.0)):
        total, stats = ppo.minibatch_loss(policy, critic, rollout, frozen, **settings)
        assert torch.allclose(total, stats["policy_loss"] + coef * stats["value_loss"]) and stats["value_loss"] > 0
        assert stats["loss"] == total and not stats["loss"].requires_grad


def test_ppo_reports_the_mean_over_updates_and_the_fit_before_them(setup):
    policy, rollout, score = setup
    critic = Critic(policy)
    torch.nn.init.normal_(critic.head.weight)
    frozen = ppo.prepare(critic, rollout, score)
    settings = dict(critic=critic, generator=torch.Generator().manual_seed(0))
    stats = ppo.step(policy, sgd(policy, critic), rollout, score, epochs=3, minibatches=2, **settings)  # lr 0
    each = [ppo.minibatch_loss(policy, critic, rollout.select(rows), {k: v[rows] for k, v in frozen.items()})[1]
            for rows in torch.randperm(8, generator=torch.Generator().manual_seed(0)).chunk(2)]
    assert torch.allclose(stats["value_clip_frac"], torch.zeros(()))
    assert stats["explained_variance"] == ppo.explained_variance(frozen["value"], frozen["ret"], rollout.mask)
    got = ppo.step(policy, sgd(policy, critic), rollout, score, epochs=1, minibatches=2, critic=critic,
                   generator=torch.Generator().manual_seed(0))
    assert torch.allclose(got["value_loss"], (each[0]["value_loss"] + each[1]["value_loss"]) / 2)
