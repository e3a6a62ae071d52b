"""Policy losses: hand numbers, loops in float64, and wrong variants that differ."""

import math

import pytest
import torch

from rlhf_minimal import ppo
from rlhf_minimal.advantages import gae, group_normalize, leave_one_out
from rlhf_minimal.aggregate import aggregate
from rlhf_minimal.grpo import cispo_loss, grpo_loss, gspo_loss, truncated_importance
from rlhf_minimal.kl import k3, penalized
from rlhf_minimal.logprobs import token_entropy
from rlhf_minimal.ppo import explained_variance, policy_loss, rewards, surrogate, value_loss
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.reward_model import finish_score
from rlhf_minimal.rloo import rloo_loss
from rlhf_minimal.tensors import masked_whiten

NAN = float("nan")


@pytest.fixture
def batch():
    """4 rows, 5 wide, in float64: logp near logp_old, uneven masks, scores of two groups."""
    torch.manual_seed(0)
    old = -torch.rand(4, 5, dtype=torch.float64) * 3 - 0.1
    logp = (old + 0.3 * torch.randn(4, 5, dtype=torch.float64)).requires_grad_()
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]])
    score = torch.tensor([1.0, 0.0, 0.5, 2.0], dtype=torch.float64)
    return logp, old, score, mask


def grad(loss, x):
    return torch.autograd.grad(loss, x, retain_graph=True)[0]


def one(x):
    return torch.tensor([[x]], dtype=torch.float64)


# ---- REINFORCE and RLOO ----


def test_E8_reinforce_is_a_masked_sum_over_tokens(batch):
    logp, _, score, mask = batch
    loss, stats = reinforce_loss(logp, score, mask)
    naive = -sum(score[b] * logp[b, t] for b in range(4) for t in range(5) if mask[b, t]) / 4
    assert torch.allclose(loss, naive) and not stats["loss"].requires_grad
    mean = aggregate(-score[:, None] * logp, mask, "sequence_mean")
    assert abs(loss - mean) > 0.1


def test_D8_rloo_is_reinforce_with_the_others_mean(batch):
    logp, _, score, mask = batch
    adv = torch.tensor([1.0, -1.0, -1.5, 1.5], dtype=torch.float64)
    assert torch.allclose(rloo_loss(logp, score, mask, group_size=2)[0], reinforce_loss(logp, adv, mask)[0])
    got = leave_one_out(torch.tensor([1.0, 0, 0, 0]), 4)
    assert torch.allclose(got, torch.tensor([1.0, -1 / 3, -1 / 3, -1 / 3])) and abs(got.sum()) < 1e-6
    with pytest.raises(ValueError):
        rloo_loss(logp, score, mask, group_size=1)
    with pytest.raises(ValueError, match="3"):
        rloo_loss(logp, score, mask, group_size=3)


def test_C12_a_constant_in_the_score_matters_to_reinforce_alone(batch):
    logp, old, score, mask = batch
    for loss in (
        lambda s: rloo_loss(logp, s, mask, group_size=2)[0],
        lambda s: grpo_loss(logp, old, s, mask, group_size=2)[0],
    ):
        assert torch.allclose(loss(score), loss(score + 7))
    assert abs(reinforce_loss(logp, score, mask)[0] - reinforce_loss(logp, score + 7, mask)[0]) > 1


def test_D9_prompt_major_layout(batch):
    """Permuting prompts permutes advantages; the (k, N) reshape mixes prompts and still sums to zero."""
    logp, old, score, mask = batch
    swap = torch.tensor([2, 3, 0, 1])
    assert torch.equal(leave_one_out(score[swap], 2), leave_one_out(score, 2)[swap])
    a = grpo_loss(logp, old, score, mask, group_size=2)[0]
    assert torch.allclose(a, grpo_loss(logp[swap], old[swap], score[swap], mask[swap], group_size=2)[0])
    wrong = (score.view(2, 2) - score.view(2, 2).flip(0)).flatten()
    assert wrong.sum() == 0 and not torch.allclose(wrong, leave_one_out(score, 2))


def test_D10_one_number_a_row_even_where_B_equals_T():
    logp, adv = torch.full((3, 3), -1.0), torch.tensor([1.0, 10.0, 100.0])
    mask = torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 1]])
    assert torch.allclose(reinforce_loss(logp, adv, mask)[0], torch.tensor((1 + 20 + 300) / 3))
    by_column = reinforce_loss(logp, adv.expand(3, 3), mask)[0]
    assert by_column != reinforce_loss(logp, adv, mask)[0]
    for bad in (torch.ones(4), torch.ones(3, 2), torch.ones(3, 1), torch.tensor(1.0)):
        with pytest.raises(ValueError):
            reinforce_loss(logp, bad, mask)
        with pytest.raises(ValueError):
            policy_loss(logp, logp, bad, mask)


@pytest.mark.parametrize("name", ["reinforce", "rloo", "policy", "grpo", "gspo", "cispo", "value"])
def test_E11_what_stands_off_the_mask_changes_neither_loss_nor_gradient(batch, name):
    logp, old, score, mask = batch
    adv = score[:, None].expand(4, 5)
    ref = old - 0.2
    calls = {
        "reinforce": lambda x, o, a, r: reinforce_loss(x, a, mask),
        "rloo": lambda x, o, a, r: rloo_loss(x, score, mask, group_size=2),
        "policy": lambda x, o, a, r: policy_loss(x, o, a, mask),
        "grpo": lambda x, o, a, r: grpo_loss(x, o, score, mask, group_size=2, logp_ref=r, beta=0.1),
        "gspo": lambda x, o, a, r: gspo_loss(x, o, score, mask, group_size=2),
        "cispo": lambda x, o, a, r: cispo_loss(x, o, score, mask, group_size=2),
        "value": lambda x, o, a, r: value_loss(x, o, a, mask),
    }
    clean, _ = calls[name](logp, old, adv, ref)
    for junk in (NAN, math.inf, -math.inf, 1e30):
        soiled = [torch.where(mask.bool(), x.detach(), junk) for x in (logp, old, adv, ref)]
        x = soiled[0].requires_grad_()
        loss, stats = calls[name](x, *soiled[1:])
        assert torch.equal(loss, clean) and torch.equal(grad(loss, x), grad(clean, logp))
        assert all(torch.isfinite(v) for v in stats.values())
        assert (grad(loss, x)[mask == 0] == 0).all()
    on = logp.detach().clone()
    on[0, 0] = NAN
    with pytest.raises(ValueError, match="NaN"):
        calls[name](on, old, adv, ref)
    soiled = torch.where(mask.bool(), logp.detach(), NAN)
    assert torch.isnan((soiled * mask).sum())  # the multiplied form


@pytest.mark.parametrize("name", ["reinforce", "policy", "value", "grpo"])
def test_empty_masks(batch, name):
    """Convention 8, J5: an empty row is not counted; an empty batch raises, or is a live 0 with a denominator."""
    logp, old, score, mask = batch
    calls = {
        "reinforce": lambda m, **k: reinforce_loss(logp, score, m, **k)[0],
        "policy": lambda m, **k: policy_loss(logp, old, score, m, **k)[0],
        "value": lambda m, **k: value_loss(logp, old, old, m, **k)[0],
        "grpo": lambda m, **k: grpo_loss(logp, old, score, m, group_size=2, **k)[0],
    }
    call = calls[name]
    with pytest.raises(ValueError, match="empty"):
        call(mask * 0)
    zero = call(mask * 0, denominator=8)
    assert zero == 0 and (grad(zero, logp) == 0).all()
    part = mask.clone()
    part[3] = 0
    if name in ("reinforce", "grpo"):  # rows are what is counted
        assert torch.allclose(call(part), call(part, denominator=3))


# ---- PPO ----


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


def test_E2_loss_zero_is_not_gradient_zero(batch):
    logp, _, score, _ = batch
    loss, _ = grpo_loss(logp, logp.detach(), score, torch.ones(4, 5), group_size=2)
    assert abs(loss) < 1e-12 and grad(loss, logp).norm() > 0.1


def test_E3_gradient_at_ratio_one_is_that_of_reinforce(batch):
    logp, _, score, mask = batch
    ppo_grad = grad(policy_loss(logp, logp.detach(), score, mask)[0], logp)
    same = grad(aggregate(-score[:, None] * logp, mask, "token_mean"), logp)
    assert torch.allclose(ppo_grad, same, atol=1e-15)
    other = grad(reinforce_loss(logp, score, mask)[0], logp)
    assert not torch.allclose(ppo_grad, other)


def test_ppo_policy_loss_equals_a_loop(batch):
    logp, old, score, mask = batch
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


def test_E12_approx_kl_is_masked_and_about_the_old_policy(batch):
    logp, old, score, mask = batch
    got = policy_loss(logp, old, score, mask)[1]["approx_kl"]
    delta = (logp - old).detach()
    k3_all = (torch.expm1(delta) - delta).mean()
    half_square = delta.square().mean() / 2
    assert got >= 0 and min(abs(got - k3_all), abs(got - half_square)) > 1e-3
    assert policy_loss(old, old, score, mask)[1]["approx_kl"] == 0


def test_D12_no_gradient_into_targets(batch):
    logp, old, score, mask = batch
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


def test_value_loss_equals_a_loop_over_the_mask(batch):
    value, old, _, mask = batch
    ret = old + 0.5
    cells = []
    for b, t in mask.nonzero().tolist():
        v, o, r = value[b, t].item(), old[b, t].item(), ret[b, t].item()
        cells.append(0.5 * max((v - r) ** 2, (min(max(v, o - 0.1), o + 0.1) - r) ** 2))
    assert abs(value_loss(value, old, ret, mask, clip=0.1)[0].item() - sum(cells) / len(cells)) < 1e-12


def test_explained_variance(batch):
    _, old, _, mask = batch
    assert abs(explained_variance(old, old, mask) - 1) < 1e-12
    assert abs(explained_variance(torch.full_like(old, 3.0), old, mask)) < 1e-12
    assert explained_variance(-old, old, mask) < 0


def test_C1_score_on_the_last_masked_token_and_rows_add_up(batch):
    logp, old, score, mask = batch
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


def test_C1_position_matters_unless_gamma_and_lambda_are_one(batch):
    _, old, score, _ = batch
    mask, zero = torch.ones(4, 5), torch.zeros(4, 5, dtype=torch.float64)
    here = rewards(score, old, old, mask, 0.0)
    early = here.roll(-1, 1)
    assert torch.allclose(gae(here, zero, mask, lam=1.0)[1][:, 0], gae(early, zero, mask, lam=1.0)[1][:, 0])
    assert not torch.allclose(gae(here, zero, mask, lam=0.9)[0][:, 0], gae(early, zero, mask, lam=0.9)[0][:, 0])


def test_C4_sequence_kl_is_a_sum_and_twice_the_tokens_cost_twice(batch):
    _, old, score, mask = batch
    ref = old - 0.5
    reward, kl = penalized(score, old, ref, mask, 0.1)
    assert torch.allclose(kl, 0.5 * mask.sum(1).double()) and torch.allclose(reward, score - 0.1 * kl)
    twice = penalized(score, old.repeat(1, 2), ref.repeat(1, 2), mask.repeat(1, 2), 0.1)[1]
    assert torch.allclose(twice, 2 * kl)
    mean = ((old - ref) * mask).sum(1) / mask.sum(1)
    assert torch.allclose(mean, torch.full_like(mean, 0.5))  # the token mean costs the same at any length
    with pytest.raises(ValueError, match="logp_ref"):
        penalized(score, old, None, mask, 0.1)
    assert torch.equal(penalized(score, old, None, mask, 0.0)[0], score)


def test_C8_C9_missing_end_and_clip():
    score, ended = torch.tensor([3.0, 0.5, -7.0]), torch.tensor([True, False, True])
    assert finish_score(score, ended, missing=-1.0).tolist() == [3.0, -1.0, -7.0]
    assert finish_score(score, ended, penalty=1.0).tolist() == [3.0, -0.5, -7.0]
    assert finish_score(score, ended, clip=2.0).tolist() == [2.0, 0.5, -2.0]
    with pytest.raises(ValueError, match="give one"):
        finish_score(score, ended, missing=-1.0, penalty=1.0)
    # C9: the clip comes before the KL; the other order caps the penalty away
    kl = torch.tensor([0.0, 0.0, 10.0])
    right = finish_score(score, ended, clip=2.0) - kl
    assert right[2] == -12 and (score - kl).clamp(-2, 2)[2] == -2


# ---- advantages inside PPO ----


def test_D1_gae_by_hand_and_over_padding():
    r, v = torch.tensor([[-0.1, -0.2, 1.0]]), torch.tensor([[0.5, 0.4, 0.3]])
    mask = torch.ones(1, 3)
    assert torch.allclose(gae(r, v, mask, lam=1.0)[1], torch.tensor([[0.7, 0.8, 1.0]]))
    assert torch.allclose(gae(r, v, mask, lam=0.0)[0], torch.tensor([[-0.2, -0.3, 0.7]]))
    wide = [torch.cat([x, torch.full((1, 2), 9.0)], 1) for x in (r, v)]
    adv, ret = gae(*wide, torch.tensor([[1.0, 1, 1, 0, 0]]), lam=0.9)
    short = gae(r, v, mask, lam=0.9)
    assert torch.equal(adv[:, :3], short[0]) and torch.equal(ret[:, :3], short[1]) and (adv[:, 3:] == 0).all()


def test_D2_truncation_is_terminal_by_default():
    """A row cut by the limit has the same advantages as one that ended there: V behind it is 0, with C8's penalty."""
    r, v = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.5, 0.4, 7.0]])
    cut = gae(r[:, :2], v[:, :2], torch.ones(1, 2))[0]
    assert torch.equal(gae(r, v, torch.tensor([[1.0, 1, 0]]))[0][:, :2], cut)


def test_D3_returns_come_from_raw_advantages():
    torch.manual_seed(0)
    r, v, mask = torch.randn(3, 4), torch.randn(3, 4), torch.ones(3, 4)
    adv, ret = gae(r, v, mask)
    assert torch.allclose(ret, adv + v)
    assert not torch.allclose(ret, masked_whiten(adv, mask) + v, atol=0.1)


def test_D4_whitening_ignores_padding():
    x, mask = torch.tensor([[1.0, 2, 3, 1e9]]), torch.tensor([[1, 1, 1, 0]])
    assert torch.allclose(masked_whiten(x, mask), torch.tensor([[-1.0, 0, 1, 0]]))
    assert (masked_whiten(torch.full((2, 3), 0.7), torch.ones(2, 3)) == 0).all()


def test_D6_equal_scores_give_exactly_zero_and_are_counted(batch):
    logp, old, _, mask = batch
    for value in (0.7, 1000.1, 1e-3):
        loss, stats = grpo_loss(logp, old, torch.full((4,), value), mask, group_size=4)
        assert loss == 0 and stats["equal_groups"] == 1
    score = torch.full((7,), 0.7)
    naive = (score - score.mean()) / (score.std() + 1e-8)
    assert (group_normalize(score, 7) == 0).all()
    assert naive.abs().max() > 0.3  # the noise of one rounding, blown up
    mixed = torch.tensor([0.3, 0.3, 0.3, 0.4])
    assert grpo_loss(logp, old, mixed, mask, group_size=2)[1]["equal_groups"] == 0.5


def test_D7_standard_deviation_is_unbiased(batch):
    logp, old, _, mask = batch
    score = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    right = torch.tensor([1.5, -0.5, -0.5, -0.5], dtype=torch.float64)
    got = grpo_loss(logp, old, score, mask, group_size=4)[0]
    want = aggregate(surrogate(logp, old, right, mask, low=0.2, high=0.2)[0], mask, "sequence_mean")
    biased = right * math.sqrt(4 / 3)
    other = aggregate(surrogate(logp, old, biased, mask, low=0.2, high=0.2)[0], mask, "sequence_mean")
    assert torch.allclose(got, want) and not torch.allclose(got, other)


# ---- GRPO and its variants ----


def grpo_loop(logp, old, score, mask, ref, *, clip, high, beta, scale, mode):
    rows = []
    for b in range(4):
        group = score[b // 2 * 2 : b // 2 * 2 + 2]
        a = (score[b] - group.mean()) / (group.std() if scale else 1.0)
        row = []
        for t in mask[b].nonzero()[:, 0].tolist():
            rho = (logp[b, t] - old[b, t]).exp()
            d = ref[b, t] - logp[b, t]
            row.append(-min(rho * a, min(max(rho, 1 - clip), 1 + high) * a) + beta * (d.exp() - 1 - d))
        rows.append(torch.stack(row))
    flat = torch.cat(rows)
    return {
        "token_mean": flat.mean(),
        "fixed": flat.sum() / 20,
        "sequence_sum": torch.stack([r.sum() for r in rows]).mean(),
        "sequence_mean": torch.stack([r.mean() for r in rows]).mean(),
    }[mode]


@pytest.mark.parametrize("mode", ["sequence_mean", "token_mean", "fixed", "sequence_sum"])
@pytest.mark.parametrize("scale, high, beta", [(True, None, 0.0), (False, 0.5, 0.2), (True, 0.05, 0.1)])
def test_grpo_equals_a_loop(batch, mode, scale, high, beta):
    logp, old, score, mask = batch
    ref, x = old - 0.3, logp.detach()
    same = dict(clip=0.1, beta=beta, scale=scale, mode=mode)
    got, stats = grpo_loss(x, old, score, mask, group_size=2, clip_high=high, logp_ref=ref, **same)
    want = grpo_loop(x, old, score, mask, ref, high=0.1 if high is None else high, **same)
    assert torch.allclose(got, want, atol=1e-12)
    if beta:
        assert torch.allclose(stats["kl_ref"], (k3(x, ref) * mask).sum() / 4)


def test_grpo_wants_a_reference_and_a_known_mode(batch):
    logp, old, score, mask = batch
    with pytest.raises(ValueError, match="logp_ref"):
        grpo_loss(logp, old, score, mask, group_size=2, beta=0.1)
    with pytest.raises(ValueError, match="seq"):
        grpo_loss(logp, old, score, mask, group_size=2, mode="seq")


def test_E4_clip_higher_moves_the_upper_bound_alone():
    both = torch.tensor([[1.35], [0.7]], dtype=torch.float64).log()
    zero, mask = torch.zeros(2, 1, dtype=torch.float64), torch.ones(2, 1)
    score = torch.tensor([1.0, 0.0], dtype=torch.float64)  # A = +-1/2 without scale
    settings = dict(group_size=2, scale=False)
    low = grpo_loss(both, zero, score, mask, **settings)[0]
    high = grpo_loss(both, zero, score, mask, clip_high=0.3, **settings)[0]
    assert abs(low.item() - (-1.2 * 0.5 + 0.8 * 0.5) / 2) < 1e-12
    assert abs(high.item() - (-1.3 * 0.5 + 0.8 * 0.5) / 2) < 1e-12  # not 0.7: the lower bound stayed
    # no dual clip: at A < 0 and a ratio of 5 the loss is 5 |A|
    assert abs(policy_loss(one(5.0).log(), one(1.0).log(), one(-1.0), one(1.0))[0].item() - 5) < 1e-12


def test_E4_cispo_keeps_a_gradient_where_ppo_has_none():
    logp = torch.tensor([[math.log(1.5)], [math.log(0.5)]], dtype=torch.float64, requires_grad=True)
    old, mask = torch.zeros(2, 1, dtype=torch.float64), torch.ones(2, 1)
    score = torch.tensor([1.0, 0.0], dtype=torch.float64)
    loss, stats = cispo_loss(logp, old, score, mask, group_size=2, clip_high=0.2, scale=False)
    assert torch.allclose(grad(loss, logp), torch.tensor([[-1.2 * 0.5 / 2], [0.5 * 0.5 / 2]], dtype=torch.float64))
    assert stats["clip_frac"] == 0.5
    ppo_loss = policy_loss(logp, old, torch.tensor([0.5, -0.5], dtype=torch.float64), mask)[0]
    assert grad(ppo_loss, logp)[0] == 0


def test_E5_sequence_ratio_is_the_mean_not_the_sum():
    old, score = torch.zeros(2, 4, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    logp = torch.tensor([[0.1] * 4, [0.0] * 4], dtype=torch.float64)
    loss, stats = gspo_loss(logp, old, score, mask, group_size=2, clip=0.5, scale=False)
    assert abs(stats["ratio"].item() - (math.exp(0.1) + 1) / 2) < 1e-12  # 1.105, where the sum has 1.492
    assert abs(loss.item() - (-math.exp(0.1) * 0.5 + 0.5) / 2) < 1e-12


def test_E7_dr_grpo_is_two_changes(batch):
    logp, old, score, mask = batch
    args = (logp, old, score, mask)
    dr = grpo_loss(*args, group_size=2, scale=False, mode="fixed")[0]
    centred = score - score.view(2, 2).mean(1).repeat_interleave(2)
    by_hand = aggregate(surrogate(logp, old, centred, mask, low=0.2, high=0.2)[0], mask, "fixed")
    assert torch.allclose(dr, by_hand)
    for half in (dict(scale=False), dict(mode="fixed")):
        assert not torch.allclose(dr, grpo_loss(*args, group_size=2, **half)[0], rtol=1e-3)


def test_truncated_importance(batch):
    logp, old, _, mask = batch
    got = truncated_importance(logp, old, mask, cap=1.1)
    want = (logp - old).exp().clamp(max=1.1).detach() * mask
    assert torch.allclose(got, want) and not got.requires_grad and got.max() == 1.1


# ---- reductions ----


def test_E6_reductions_on_the_stock_example():
    x = torch.cat([torch.full((1, 10), 1.0), torch.full((1, 10), 3.0)])
    mask = torch.zeros(2, 10)
    mask[0, :2], mask[1, :8] = 1, 1
    old = torch.zeros(2, 10)
    # at ratio 1 the PPO loss of advantages -x is the mean of x: 2.6; summed by rows it is 13
    assert abs(policy_loss(old, old, -x, mask)[0].item() - 2.6) < 1e-6
    assert abs(reinforce_loss(torch.ones(2, 10), -x, mask)[0].item() - (2 + 24) / 2) < 1e-6
    assert abs(aggregate(x, mask, "sequence_mean").item() - 2.0) < 1e-6


@pytest.mark.parametrize("name", ["policy", "reinforce", "grpo", "value"])
def test_E14_accumulation_divides_by_the_whole_step(batch, name):
    logp, old, score, mask = batch
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


def test_E10_entropy_is_of_the_tempered_distribution(tiny_gpt2):
    model = tiny_gpt2(vocab=4)
    ids = torch.tensor([[1, 2, 3, 1]])
    attention = torch.ones(1, 4)
    with torch.no_grad():
        logits = model(ids).logits[0, :-1]
    for tau in (0.5, 1.0):
        p = (logits / tau).softmax(1)
        got = token_entropy(model, ids, attention, temperature=tau)[0]
        assert torch.allclose(got, -(p * p.log()).sum(1), atol=1e-5)
    hot = token_entropy(model, ids, attention, temperature=1e6)
    assert torch.allclose(hot, torch.full_like(hot, math.log(4)), atol=1e-4)


def test_wrong_shapes_say_the_sizes(batch):
    logp, old, score, mask = batch
    for call in (
        lambda: policy_loss(logp, old[:, :4], score, mask),
        lambda: value_loss(logp, old, old[:3], mask),
        lambda: reinforce_loss(logp, score, mask[:, :4]),
        lambda: grpo_loss(logp, old, score[:2], mask, group_size=2),
    ):
        with pytest.raises(ValueError, match=r"\d"):
            call()
    with pytest.raises(ValueError, match="clip"):
        policy_loss(logp, old, score, mask, clip=-0.1)


def test_stats_are_detached_scalars(batch):
    logp, old, score, mask = batch
    every = [
        reinforce_loss(logp, score, mask), rloo_loss(logp, score, mask, group_size=2),
        policy_loss(logp, old, score, mask), value_loss(logp, old, old, mask),
        grpo_loss(logp, old, score, mask, group_size=2, logp_ref=old, beta=0.1),
        gspo_loss(logp, old, score, mask, group_size=2), cispo_loss(logp, old, score, mask, group_size=2),
    ]
    for loss, stats in every:
        assert loss.requires_grad and stats
        assert all(v.dim() == 0 and not v.requires_grad for v in stats.values())
    assert ppo.policy_loss.__equations__ == ("eq:PPO_EQN", "eq:PPO_POL_RATIO")


# ---- edges that a wrong comparison, divisor or default would move ----


def test_J5_stats_of_a_batch_without_tokens_are_finite(batch):
    logp, old, score, mask = batch
    none = mask * 0
    for _, stats in (
        policy_loss(logp, old, score, none, denominator=8), value_loss(logp, old, old, none, denominator=8),
        cispo_loss(logp, old, score, none, group_size=2, denominator=8),
        grpo_loss(logp, old, score, none, group_size=2, logp_ref=old, beta=0.1, denominator=8),
    ):
        assert all(torch.isfinite(x) for x in stats.values())


def test_clips_of_zero_and_one_are_allowed_and_the_edge_is_inside(batch):
    _, old, score, mask = batch
    for clip in (0.0, 1.0):
        stats = policy_loss(old, old, score, mask, clip=clip)[1]
        assert stats["outside_frac"] == stats["clip_frac"] == 0  # a ratio of exactly 1 is not outside 1 +- 0
    assert value_loss(old, old, old + 1, mask, clip=0.0)[1]["value_clip_frac"] == 0
    moved = value_loss(old + 1, old, old + 1, mask, clip=0.0)
    assert abs(moved[0].item() - 0.5) < 1e-12 and moved[1]["value_clip_frac"] == 1
    for low, high in ((-0.1, 0.2), (1.1, 0.2), (0.2, -0.1)):
        with pytest.raises(ValueError, match="clip"):
            surrogate(old, old, score, mask, low=low, high=high)


def test_stats_of_policy_losses_by_a_loop(batch):
    logp, old, score, mask = batch
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


def test_E5_gspo_equals_a_loop_with_an_empty_row(batch):
    logp, old, score, mask = batch
    mask = mask.clone()
    mask[3] = 0
    adv, rows, ratios = group_normalize(score, 2), [], []
    for b in range(3):
        n = mask[b].sum().item()
        rho = math.exp(sum(logp[b, t].item() - old[b, t].item() for t in range(n)) / n)
        rows.append(-min(rho * adv[b].item(), min(max(rho, 0.95), 1.1) * adv[b].item()))
        ratios.append(rho)
    loss, stats = gspo_loss(logp, old, score, mask, group_size=2, clip=0.05, clip_high=0.1)
    assert abs(loss.item() - sum(rows) / 3) < 1e-12 and abs(stats["ratio"].item() - sum(ratios) / 3) < 1e-12
    assert torch.isfinite(grad(loss, logp)).all() and (grad(loss, logp)[3] == 0).all()
    narrow = gspo_loss(logp, old, score, mask, group_size=2, clip=0.05)[0]
    assert torch.allclose(narrow, gspo_loss(logp, old, score, mask, group_size=2, clip=0.05, clip_high=0.05)[0])


def test_kl_ref_counts_rows_that_have_tokens(batch):
    logp, old, score, mask = batch
    ref = old - 0.3
    for keep in ([0, 1, 2], [1]):
        part = torch.zeros_like(mask)
        part[keep] = mask[keep]
        stats = grpo_loss(logp, old, score, part, group_size=2, logp_ref=ref, beta=0.1)[1]
        assert torch.allclose(stats["kl_ref"], (k3(logp.detach(), ref) * part).sum() / len(keep))


def test_penalized_without_a_reference_has_no_kl():
    score = torch.tensor([1.0, -2.0])
    reward, kl = penalized(score, torch.zeros(2, 3), None, torch.ones(2, 3), 0.0)
    assert torch.equal(reward, score) and kl.tolist() == [0, 0]


def test_a_row_without_tokens_gets_no_score():
    old = torch.zeros(2, 3)
    got = rewards(torch.tensor([5.0, 7.0]), old, old - 0.5, torch.tensor([[0, 0, 0], [1, 1, 0]]), 0.1)
    assert got.tolist() == [[0, 0, 0], pytest.approx([-0.05, 6.95, 0])]
    assert rewards(torch.tensor([5.0]), old[:1], old[:1], torch.zeros(1, 3), 0.1).tolist() == [[0, 0, 0]]


def test_the_penalty_is_never_minus_zero():
    from rlhf_minimal.grpo import overlong_penalty

    got = overlong_penalty(torch.tensor([0, 6]), limit=10, buffer=4)
    assert got.tolist() == [0, 0] and not torch.signbit(got).any()
