"""Later additions to files of the core: APO, DPO + NLL, length-aware DPO, online pairs, ratings, DAPO's helpers."""

import doctest
import importlib
import itertools
import math

import pytest
import torch

from rlhf_minimal import direct_alignment
from rlhf_minimal.advantages import group_normalize
from rlhf_minimal.direct_alignment import apo_down_loss, apo_zero_loss, dpo_loss, dpo_nll_loss, length_dpo_loss, online_pairs
from rlhf_minimal.evaluate.exact import World, exact_model, tilted
from rlhf_minimal.forward import hidden_states
from rlhf_minimal.grpo import grpo_loss, informative_rows, overlong_penalty
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import frozen_copy
from rlhf_minimal.ppo import SharedCritic
from rlhf_minimal.ppo import step as ppo_step
from rlhf_minimal.reward_model import rating_loss, uncertainty_weighted
from rlhf_minimal.sampling import sample

DOCUMENTED = ("trpo", "p3o", "ilql", "distillation", "ai_feedback", "filtering", "active", "grpo", "direct_alignment",
              "reward_model")


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_worked_examples_in_the_docstrings_hold(name):
    result = doctest.testmod(importlib.import_module(f"rlhf_minimal.{name}"))
    assert result.failed == 0 and result.attempted >= 2


@pytest.fixture
def four():
    torch.manual_seed(0)
    return [(-10 - 3 * torch.rand(5, dtype=torch.float64)).requires_grad_() for _ in range(4)]


def s(x):
    return 1 / (1 + math.exp(-x))


def rows(four):
    return list(zip(*[x.tolist() for x in four], strict=True))


# ---- preferences ----


def test_apo_losses_equal_loops(four):
    beta = 0.3
    zero = sum(1 - s(beta * (a - c)) + s(beta * (b - d)) for a, b, c, d in rows(four)) / 5
    down = sum(s(beta * (a - c)) + 1 - s(beta * ((a - c) - (b - d))) for a, b, c, d in rows(four)) / 5
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
                for (p, q, r, t), m, n in zip(rows(four), long.tolist(), short.tolist(), strict=True)) / 5
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


# ---- reward models ----


def test_rating_loss_is_half_the_mean_square_and_fixes_the_zero():
    score, rating = torch.tensor([1.0, 2.0, 4.0], requires_grad=True), torch.tensor([1.0, 3.0, 2.0], requires_grad=True)
    loss, stats = rating_loss(score, rating)
    assert abs(loss.item() - (0 + 1 + 4) / 6) < 1e-6 and stats["error"] == 1 and abs(stats["bias"] - 1 / 3) < 1e-6
    g = torch.autograd.grad(loss, [score, rating], allow_unused=True)
    assert g[1] is None and torch.allclose(g[0], torch.tensor([0.0, -1 / 3, 2 / 3]))
    assert rating_loss(score + 5, rating)[0] > loss + 5  # a comparison would not see the shift (C12)
    for bad in ((score, rating[:2]), (score, rating * math.nan), (score[:0], rating[:0]), (score[None], rating[None])):
        with pytest.raises(ValueError):
            rating_loss(*bad)


def test_uncertainty_weighted_is_the_mean_minus_the_spread():
    scores = torch.tensor([[1.0, 4.0], [2.0, 0.0], [3.0, 5.0]], dtype=torch.float64)
    spread = [1.0, math.sqrt((1 + 9 + 4) / 2)]
    got = uncertainty_weighted(scores, weight=0.5)
    assert torch.allclose(got, torch.tensor([2 - 0.5 * spread[0], 3 - 0.5 * spread[1]], dtype=torch.float64))
    assert scores.mean(0).argmax() == 1 and got.argmax() == 1 and uncertainty_weighted(scores, weight=1.0).argmax() == 0
    assert torch.equal(uncertainty_weighted(scores, weight=0.0), scores.mean(0))
    for bad in ((scores[:1], 1.0), (scores, -1.0), (scores * math.nan, 1.0)):
        with pytest.raises(ValueError):
            uncertainty_weighted(bad[0], weight=bad[1])


# ---- DAPO ----


def test_D6_dynamic_sampling_drops_the_groups_without_a_signal():
    score = torch.tensor([0.7, 0.7, 0.7, 1.0, 0.0, 0.0, 0.1 + 0.2, 0.3, 0.3], dtype=torch.float64)
    keep = informative_rows(score, 3)
    assert keep.tolist() == [3, 4, 5, 6, 7, 8]  # 0.1 + 0.2 is not 0.3, and its group counts
    same = torch.full((8,), 0.7)
    assert informative_rows(same, 8).tolist() == [] and (group_normalize(same, 8) == 0).all()
    for bad in ((score, 2), (score, 1), (score * math.nan, 3)):
        with pytest.raises(ValueError):
            informative_rows(*bad)


def test_dynamic_sampling_changes_the_divisor_and_not_the_direction():
    torch.manual_seed(0)
    logp, mask = -torch.rand(8, 3, dtype=torch.float64), torch.ones(8, 3)
    score = torch.tensor([1.0, 1, 1, 1, 1, 0, 0, 1], dtype=torch.float64)
    keep = informative_rows(score, 4)
    grads = []
    for rows in (torch.arange(8), keep):
        x = logp.clone().requires_grad_()
        loss, _ = grpo_loss(x[rows], logp[rows], score[rows], mask[rows], group_size=4)
        grads.append(torch.autograd.grad(loss, x)[0])
    assert keep.tolist() == [4, 5, 6, 7] and torch.allclose(grads[1], 2 * grads[0]) and grads[0].norm() > 0.01


def test_overlong_penalty_is_piecewise_linear():
    length = torch.tensor([0, 5, 6, 7, 8, 9, 10, 11, 1000])
    naive = [0.0 if n <= 6 else (6 - n) / 4 if n <= 10 else -1.0 for n in length.tolist()]
    assert overlong_penalty(length, limit=10, buffer=4).tolist() == naive
    assert overlong_penalty(torch.tensor([0]), limit=4, buffer=4).tolist() == [0.0]
    for bad in (dict(limit=10, buffer=0), dict(limit=3, buffer=4)):
        with pytest.raises(ValueError, match="buffer"):
            overlong_penalty(length, **bad)


# ---- PPO with one trunk ----


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


# ---- edges ----


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
