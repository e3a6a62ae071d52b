"""PPO: the clipped loss, the value loss, rewards for each token, and the update with its critic."""

import copy
import math

import pytest
import torch

from rlhf_minimal import grpo, ppo
from rlhf_minimal.advantages import gae, group_normalize
from rlhf_minimal.aggregate import aggregate
from rlhf_minimal.forward import hidden_states
from rlhf_minimal.grpo import cispo_loss, grpo_loss, gspo_loss
from rlhf_minimal.kl import k1, penalized
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import frozen_copy
from rlhf_minimal.ppo import Critic, SharedCritic, explained_variance, policy_loss, rewards, value_loss, values
from rlhf_minimal.ppo import step as ppo_step
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.rloo import rloo_loss
from rlhf_minimal.sampling import sample
from rlhf_minimal.tensors import masked_sum, masked_whiten
from tests.fixtures.rollouts import flat, sgd


def test_explained_variance_has_no_gradient():
    """1 - var(0, -1) / var(1, 3) = 1 - 0.5 / 2."""
    value, ret = torch.tensor([[1.0, 4.0]], requires_grad=True), torch.tensor([[1.0, 3.0]], requires_grad=True)
    got = explained_variance(value, ret, torch.ones(1, 2))
    assert got.item() == 0.75 and not got.requires_grad


def test_a_score_that_is_nan_is_refused():
    zero = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"score \(2,\) holds 1 NaN"):
        rewards(torch.tensor([1.0, math.nan]), zero, zero, torch.ones(2, 3), 0.1)


def test_shared_critic_reads_the_policys_trunk_and_moves_its_head_alone(tiny_gpt2):
    policy = tiny_gpt2(n_layer=1)
    critic = SharedCritic(policy)
    ids, attention = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    assert (critic(ids, attention) == 0).all() and len(list(critic.parameters())) == 1  # no trunk of its own (D11)
    torch.nn.init.ones_(critic.head.weight)
    value = critic(ids, attention)
    assert torch.allclose(value, hidden_states(policy, ids, attention).sum(-1), atol=1e-5)
    value.sum().backward()
    assert critic.head.weight.grad.norm() > 0 and all(w.grad is None for w in policy.parameters())
    changed = ids.clone()
    changed[0, 2] = 11
    assert torch.equal(critic(changed, attention)[0, :2], value[0, :2])  # V before token t does not see token t


def test_ppo_runs_with_a_shared_critic(tiny_gpt2):
    policy = tiny_gpt2(n_layer=1)
    critic, before = SharedCritic(policy), frozen_copy(policy)
    rollout = sample(policy, [[3, 4], [5, 6]], n=4, max_new_tokens=3, eos_id=0,
                     generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam([*policy.parameters(), *critic.parameters()], lr=1e-3)
    stats = ppo_step(policy, optimizer, rollout, rollout.completion_ids.float().mean(1), critic=critic, epochs=2)
    a, b = (token_logps(m, rollout.ids, rollout.attention) for m in (policy, before))
    assert all(torch.isfinite(v).all() for v in stats.values())
    assert critic.head.weight.norm() > 0 and not torch.equal(a, b)


def grad(loss, x):
    return torch.autograd.grad(loss, x, retain_graph=True)[0]


def one(x):
    return torch.tensor([[x]], dtype=torch.float64)


@pytest.mark.parametrize(
    "adv, ratio, loss, slope",
    [(1, 1.3, -1.2, 0), (1, 0.7, -0.7, -1), (1, 1.1, -1.1, -1),
     (-1, 1.3, 1.3, 1), (-1, 0.7, 0.8, 0), (-1, 0.9, 0.9, 1)],
)
def test_E1_ratio_and_clip_by_hand(adv, ratio, loss, slope):
    rho = one(ratio).requires_grad_()
    got, stats = policy_loss(rho.log(), one(1.0).log(), one(float(adv)), one(1.0), clip=0.2)
    assert abs(got.item() - loss) < 1e-12 and abs(grad(got, rho).item() - slope) < 1e-12
    assert stats["clip_frac"] == (slope == 0)
    assert stats["outside_frac"] == (not 0.8 <= ratio <= 1.2)
    if (adv, ratio) in ((1, 0.7), (-1, 1.3)):  # clip without the minimum takes the gradient where it is needed
        assert abs(-adv * min(max(ratio, 0.8), 1.2) - loss) > 0.05
        assert stats["outside_frac"] == 1 and stats["clip_frac"] == 0  # K29: two clip fractions


def test_E2_loss_zero_is_not_gradient_zero(policy_batch):
    logp, _, score, _ = policy_batch
    loss, _ = grpo_loss(logp, logp.detach(), score, torch.ones(4, 5), group_size=2)
    assert abs(loss) < 1e-12 and grad(loss, logp).norm() > 0.1


def test_E3_gradient_at_ratio_one_is_that_of_reinforce(policy_batch):
    logp, _, score, mask = policy_batch
    ppo_grad = grad(policy_loss(logp, logp.detach(), score, mask)[0], logp)
    same = grad(aggregate(-score[:, None] * logp, mask, "token_mean"), logp)
    assert torch.allclose(ppo_grad, same, atol=1e-15)
    other = grad(reinforce_loss(logp, score, mask)[0], logp)
    assert not torch.allclose(ppo_grad, other)


def test_ppo_policy_loss_equals_a_loop(policy_batch):
    logp, old, score, mask = policy_batch
    total = count = kl = 0
    for b in range(4):
        for t in range(5):
            if mask[b, t]:
                rho = math.exp(logp[b, t].item() - old[b, t].item())
                a = score[b].item()
                total -= min(rho * a, min(max(rho, 0.9), 1.1) * a)
                kl += rho - 1 - math.log(rho)
                count += 1
    loss, stats = policy_loss(logp, old, score, mask, clip=0.1)
    assert abs(loss.item() - total / count) < 1e-12
    assert abs(stats["approx_kl"].item() - kl / count) < 1e-12
    assert 0 < stats["clip_frac"] < 1


def test_E12_approx_kl_is_masked_and_about_the_old_policy(policy_batch):
    logp, old, score, mask = policy_batch
    got = policy_loss(logp, old, score, mask)[1]["approx_kl"]
    delta = (logp - old).detach()
    k3_all = (torch.expm1(delta) - delta).mean()
    half_square = delta.square().mean() / 2
    assert got >= 0 and min(abs(got - k3_all), abs(got - half_square)) > 1e-3
    assert policy_loss(old, old, score, mask)[1]["approx_kl"] == 0


def test_D12_no_gradient_into_targets(policy_batch):
    logp, old, score, mask = policy_batch
    leaves = {k: v.clone().requires_grad_() for k, v in {"old": old, "score": score, "ref": old - 0.1}.items()}
    o, s, r = leaves.values()
    losses = [
        reinforce_loss(logp, s, mask)[0], rloo_loss(logp, s, mask, group_size=2)[0], policy_loss(logp, o, s, mask)[0],
        grpo_loss(logp, o, s, mask, group_size=2, logp_ref=r, beta=0.1)[0],
        cispo_loss(logp, o, s, mask, group_size=2)[0],
        gspo_loss(logp, o, s, mask, group_size=2)[0], value_loss(logp, o, r, mask)[0],
    ]
    for loss in losses:
        assert all(g is None for g in torch.autograd.grad(loss, [o, s, r], allow_unused=True, retain_graph=True))
        assert grad(loss, logp).norm() > 0
    reward, kl = penalized(s, o, r, mask, 0.1)
    assert not reward.requires_grad and not kl.requires_grad and not rewards(s, o, r, mask, 0.1).requires_grad


def test_E9_value_loss_takes_the_larger_branch():
    v = one(1.0).requires_grad_()
    loss, _ = value_loss(v, one(0.0), one(0.5), one(1.0), clip=0.2)
    assert abs(loss.item() - 0.125) < 1e-12 and grad(loss, v).item() == 0.5
    v = one(1.0).requires_grad_()
    loss, stats = value_loss(v, one(0.0), one(1.0), one(1.0), clip=0.2)  # clipped branch: (0.2 - 1)^2 / 2
    assert abs(loss.item() - 0.32) < 1e-12 and grad(loss, v).item() == 0 and stats["value_clip_frac"] == 1
    minimum = 0.5 * min((1 - 1) ** 2, (0.2 - 1) ** 2)
    assert minimum != loss.item()


def test_value_loss_equals_a_loop_over_the_mask(policy_batch):
    value, old, _, mask = policy_batch
    ret = old + 0.5
    cells = []
    for b, t in mask.nonzero().tolist():
        v, o, r = value[b, t].item(), old[b, t].item(), ret[b, t].item()
        cells.append(0.5 * max((v - r) ** 2, (min(max(v, o - 0.1), o + 0.1) - r) ** 2))
    assert abs(value_loss(value, old, ret, mask, clip=0.1)[0].item() - sum(cells) / len(cells)) < 1e-12


def test_explained_variance(policy_batch):
    _, old, _, mask = policy_batch
    assert abs(explained_variance(old, old, mask) - 1) < 1e-12
    assert abs(explained_variance(torch.full_like(old, 3.0), old, mask)) < 1e-12
    assert explained_variance(-old, old, mask) < 0


def test_C1_score_on_the_last_masked_token_and_rows_add_up(policy_batch):
    logp, old, score, mask = policy_batch
    beta, ref = 0.3, old - 0.4 * torch.rand(4, 5, dtype=torch.float64)
    got = rewards(score, old, ref, mask, beta)
    kl = ((old - ref) * mask).sum(1)
    assert torch.allclose(got.sum(1), score - beta * kl)
    bare = rewards(score, old, ref, mask, 0.0)
    assert bare[0].tolist() == [0, 0, 1.0, 0, 0] and bare[3].tolist() == [0, 2.0, 0, 0, 0]  # not one place later
    assert (got[mask == 0] == 0).all()
    gap = torch.tensor([[1, 0, 1, 0]])  # a tool's output between two sampled spans
    assert rewards(score[:1], old[:1, :4], old[:1, :4], gap, 1.0).tolist() == [[0, 0, 1.0, 0]]
    with pytest.raises(ValueError, match="5"):
        rewards(torch.zeros(5), old, ref, mask, beta)


def test_C1_position_matters_unless_gamma_and_lambda_are_one(policy_batch):
    _, old, score, _ = policy_batch
    mask, zero = torch.ones(4, 5), torch.zeros(4, 5, dtype=torch.float64)
    here = rewards(score, old, old, mask, 0.0)
    early = here.roll(-1, 1)
    assert torch.allclose(gae(here, zero, mask, lam=1.0)[1][:, 0], gae(early, zero, mask, lam=1.0)[1][:, 0])
    assert not torch.allclose(gae(here, zero, mask, lam=0.9)[0][:, 0], gae(early, zero, mask, lam=0.9)[0][:, 0])


def test_clips_of_zero_and_one_are_allowed_and_the_edge_is_inside(policy_batch):
    _, old, score, mask = policy_batch
    for clip in (0.0, 1.0):
        stats = policy_loss(old, old, score, mask, clip=clip)[1]
        assert stats["outside_frac"] == stats["clip_frac"] == 0  # a ratio of exactly 1 is not outside 1 +- 0
    assert value_loss(old, old, old + 1, mask, clip=0.0)[1]["value_clip_frac"] == 0
    moved = value_loss(old + 1, old, old + 1, mask, clip=0.0)
    assert abs(moved[0].item() - 0.5) < 1e-12 and moved[1]["value_clip_frac"] == 1
    for low, high in ((-0.1, 0.2), (1.1, 0.2), (0.2, -0.1)):
        with pytest.raises(ValueError, match="clip"):
            grpo_loss(old, old, score, mask, group_size=2, clip=low, clip_high=high)


def test_stats_of_policy_losses_by_a_loop(policy_batch):
    logp, old, score, mask = policy_batch
    on = [(b, t) for b, t in mask.nonzero().tolist()]
    rho = {(b, t): math.exp(logp[b, t].item() - old[b, t].item()) for b, t in on}
    stats = policy_loss(logp, old, score, mask, clip=0.1)[1]
    assert abs(stats["ratio"].item() - sum(rho.values()) / len(on)) < 1e-12
    assert abs(stats["outside_frac"].item() - sum(not 0.9 <= r <= 1.1 for r in rho.values()) / len(on)) < 1e-6
    adv = group_normalize(score, 2)
    loss, stats = cispo_loss(logp, old, score, mask, group_size=2, clip_high=0.1)
    naive = -sum(min(rho[b, t], 1.1) * adv[b].item() * logp[b, t].item() for b, t in on) / len(on)
    assert abs(loss.item() - naive) < 1e-12
    assert abs(stats["clip_frac"].item() - sum(r > 1.1 for r in rho.values()) / len(on)) < 1e-6
    value, ret = logp.detach(), old + 0.5
    stats = value_loss(value, old, ret, mask, clip=0.1)[1]
    near = value.clamp(old - 0.1, old + 0.1)
    worse = ((near - ret).square() > (value - ret).square())[mask.bool()]
    assert abs(stats["value_clip_frac"].item() - worse.float().mean().item()) < 1e-6 and 0 < worse.sum() < len(on)
    spread = 1 - (ret - value)[mask.bool()].var() / ret[mask.bool()].var()
    assert torch.allclose(explained_variance(value, ret, mask), spread)


def test_a_row_without_tokens_gets_no_score():
    old = torch.zeros(2, 3)
    got = rewards(torch.tensor([5.0, 7.0]), old, old - 0.5, torch.tensor([[0, 0, 0], [1, 1, 0]]), 0.1)
    assert got.tolist() == [[0, 0, 0], pytest.approx([-0.05, 6.95, 0])]
    assert rewards(torch.tensor([5.0]), old[:1], old[:1], torch.zeros(1, 3), 0.1).tolist() == [[0, 0, 0]]


def test_D11_values_start_at_zero_and_do_not_see_the_action(sampled):
    policy, rollout, _ = sampled
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


def test_D11_value_loss_moves_no_policy_weight(sampled):
    policy, rollout, _ = sampled
    critic, before = Critic(policy), flat(policy)
    torch.nn.init.normal_(critic.head.weight)
    values(critic, rollout).square().sum().backward()
    assert all(p.grad is None for p in policy.parameters()) and critic.trunk.wte.weight.grad.norm() > 0
    torch.optim.SGD(critic.parameters(), lr=1.0).step()
    assert torch.equal(flat(policy), before)


def test_D3_D5_D12_prepare(sampled):
    """Whitened once over the whole batch; returns from the raw advantages; everything detached."""
    policy, rollout, score = sampled
    critic = Critic(policy)
    torch.nn.init.normal_(critic.head.weight)
    ref = rollout.logp_old - 0.2 * rollout.mask
    got = ppo.prepare(ppo.values(critic, rollout), rollout, score, logp_ref=ref, beta=0.1, lam=0.9)
    per_token = ppo.rewards(score, rollout.logp_old, ref, rollout.mask, 0.1)
    raw, ret = gae(per_token, values(critic, rollout).detach(), rollout.mask, lam=0.9)
    assert torch.allclose(got["ret"], ret) and torch.allclose(got["adv"], masked_whiten(raw, rollout.mask))
    raw = ppo.prepare(ppo.values(critic, rollout), rollout, score, logp_ref=ref, beta=0.1, lam=0.9, whiten=False)
    assert torch.equal(raw["ret"], got["ret"])
    on = rollout.mask.bool()
    assert abs(got["adv"][on].mean()) < 1e-5 and abs(got["adv"][on].std() - 1) < 1e-4
    assert abs(got["adv"][:4][on[:4]].mean()) > 1e-3  # not per minibatch
    assert not any(x.requires_grad for x in got.values())
    assert torch.allclose(got["kl"], masked_sum(k1(rollout.logp_old, ref), rollout.mask, dim=1))


def test_E16_minibatches_shuffle_rows_and_frozen_stays(sampled, monkeypatch):
    policy, rollout, score = sampled
    critic = Critic(policy)
    seen = []
    real = ppo.minibatch_loss

    def spy(policy, critic, part, frozen, **settings):
        seen.append((part, {k: v.clone() for k, v in frozen.items()}))
        return real(policy, critic, part, frozen, **settings)

    monkeypatch.setattr(ppo, "minibatch_loss", spy)
    want = ppo.prepare(ppo.values(critic, rollout), rollout, score)
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


def test_E16_the_second_epoch_has_other_ratios(sampled):
    policy, rollout, score = sampled
    for epochs, differs in ((1, False), (3, True)):
        model = copy.deepcopy(policy)
        stats = grpo.step(model, sgd(model, lr=0.3), rollout, score, group_size=4, epochs=epochs)
        assert (stats["approx_kl"] > 1e-5) == differs


def test_E15_ppo_clips_policy_and_value_together(sampled):
    policy, rollout, score = sampled
    critic, before = Critic(policy), flat(policy)
    start = flat(critic)
    settings = dict(critic=critic, epochs=1, max_norm=0.01)
    stats = ppo.step(policy, sgd(policy, critic, lr=1.0), rollout, score, **settings)
    moved = torch.cat([flat(policy) - before, flat(critic) - start]).norm()
    assert stats["grad_norm"] > 0.01 and abs(moved - 0.01) < 1e-4


def test_minibatch_loss_adds_value_coef_times_the_value_loss(sampled):
    policy, rollout, score = sampled
    critic = Critic(policy)
    torch.nn.init.normal_(critic.head.weight)
    frozen = ppo.prepare(ppo.values(critic, rollout), rollout, score)
    frozen["value"] = frozen["value"] + 0.3
    for settings, coef in (({}, 0.5), (dict(value_coef=2.0), 2.0)):
        total, stats = ppo.minibatch_loss(policy, critic, rollout, frozen, **settings)
        assert torch.allclose(total, stats["policy_loss"] + coef * stats["value_loss"]) and stats["value_loss"] > 0
        assert stats["loss"] == total and not stats["loss"].requires_grad


def test_ppo_reports_the_mean_over_updates_and_the_fit_before_them(sampled):
    policy, rollout, score = sampled
    critic = Critic(policy)
    torch.nn.init.normal_(critic.head.weight)
    frozen = ppo.prepare(ppo.values(critic, rollout), rollout, score)
    settings = dict(critic=critic, generator=torch.Generator().manual_seed(0))
    stats = ppo.step(policy, sgd(policy, critic), rollout, score, epochs=3, minibatches=2, **settings)  # lr 0
    each = [ppo.minibatch_loss(policy, critic, rollout.select(rows), {k: v[rows] for k, v in frozen.items()})[1]
            for rows in torch.randperm(8, generator=torch.Generator().manual_seed(0)).chunk(2)]
    assert torch.allclose(stats["value_clip_frac"], torch.zeros(()))
    assert stats["explained_variance"] == ppo.explained_variance(frozen["value"], frozen["ret"], rollout.mask)
    got = ppo.step(policy, sgd(policy, critic), rollout, score, epochs=1, minibatches=2, critic=critic,
                   generator=torch.Generator().manual_seed(0))
    assert torch.allclose(got["value_loss"], (each[0]["value_loss"] + each[1]["value_loss"]) / 2)
