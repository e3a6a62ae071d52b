"""GRPO and its relatives: a loop in float64, wrong variants that differ, which groups teach and what length costs."""

import math

import pytest
import torch

from rlhf_minimal.advantages import group_normalize
from rlhf_minimal.aggregate import aggregate
from rlhf_minimal.grpo import cispo_loss, grpo_loss, gspo_loss, informative_rows, overlong_penalty, truncated_importance
from rlhf_minimal.kl import k3
from rlhf_minimal.ppo import policy_loss


def test_D6_two_equal_scores_of_three_are_no_equal_group():
    zero = torch.zeros(6, 2)
    score = torch.tensor([1.0, 1.0, 0.0, 2.0, 2.0, 2.0])
    assert grpo_loss(zero, zero, score, torch.ones(6, 2), group_size=3)[1]["equal_groups"] == 0.5


def test_a_ratio_at_the_bound_is_not_clipped():
    """exp(0) is 1 exactly, and 1 is not above 1 + 0."""
    zero = torch.zeros(2, 3)
    stats = cispo_loss(zero, zero, torch.tensor([1.0, 0.0]), torch.ones(2, 3), group_size=2, clip_high=0.0)[1]
    assert stats["clip_frac"] == 0


def test_importance_weights_are_detached_from_both_policies():
    live = [torch.zeros(1, 2, requires_grad=True) for _ in range(2)]
    for learner, sampler in (live, [live[0].detach(), live[1]], [live[0], live[1].detach()]):
        assert not truncated_importance(learner, sampler, torch.ones(1, 2)).requires_grad


def test_a_buffer_of_one_token_warns_of_the_last_alone():
    assert overlong_penalty(torch.tensor([8, 9, 10, 11]), limit=10, buffer=1).tolist() == [0, 0, -1, -1]


@pytest.fixture
def four():
    torch.manual_seed(0)
    return [(-10 - 3 * torch.rand(5, dtype=torch.float64)).requires_grad_() for _ in range(4)]


def rows_of_four(four):
    return list(zip(*[x.tolist() for x in four], strict=True))


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
    for rows_of_four in (torch.arange(8), keep):
        x = logp.clone().requires_grad_()
        loss, _ = grpo_loss(x[rows_of_four], logp[rows_of_four], score[rows_of_four], mask[rows_of_four], group_size=4)
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


def grad(loss, x):
    return torch.autograd.grad(loss, x, retain_graph=True)[0]


def clipped(logp, old, adv, mask, mode):
    """-min(rho A, clip(rho, 0.8, 1.2) A) for each token, then reduced."""
    ratio, adv = (logp - old).exp(), adv[:, None]
    return aggregate(-torch.minimum(ratio * adv, ratio.clamp(0.8, 1.2) * adv), mask, mode)


def one(x):
    return torch.tensor([[x]], dtype=torch.float64)


def test_D6_equal_scores_give_exactly_zero_and_are_counted(policy_batch):
    logp, old, _, mask = policy_batch
    for value in (0.7, 1000.1, 1e-3):
        loss, stats = grpo_loss(logp, old, torch.full((4,), value), mask, group_size=4)
        assert loss == 0 and stats["equal_groups"] == 1
    score = torch.full((7,), 0.7)
    naive = (score - score.mean()) / (score.std() + 1e-8)
    assert (group_normalize(score, 7) == 0).all()
    assert naive.abs().max() > 0.3  # the noise of one rounding, blown up
    mixed = torch.tensor([0.3, 0.3, 0.3, 0.4])
    assert grpo_loss(logp, old, mixed, mask, group_size=2)[1]["equal_groups"] == 0.5


def test_D7_standard_deviation_is_unbiased(policy_batch):
    logp, old, _, mask = policy_batch
    score = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    right = torch.tensor([1.5, -0.5, -0.5, -0.5], dtype=torch.float64)
    got = grpo_loss(logp, old, score, mask, group_size=4)[0]
    want = clipped(logp, old, right, mask, "sequence_mean")
    biased = right * math.sqrt(4 / 3)
    other = clipped(logp, old, biased, mask, "sequence_mean")
    assert torch.allclose(got, want) and not torch.allclose(got, other)


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
def test_grpo_equals_a_loop(policy_batch, mode, scale, high, beta):
    logp, old, score, mask = policy_batch
    ref, x = old - 0.3, logp.detach()
    same = dict(clip=0.1, beta=beta, scale=scale, mode=mode)
    got, stats = grpo_loss(x, old, score, mask, group_size=2, clip_high=high, logp_ref=ref, **same)
    want = grpo_loop(x, old, score, mask, ref, high=0.1 if high is None else high, **same)
    assert torch.allclose(got, want, atol=1e-12)
    if beta:
        assert torch.allclose(stats["kl_ref"], (k3(x, ref) * mask).sum() / 4)


def test_grpo_wants_a_reference_and_a_known_mode(policy_batch):
    logp, old, score, mask = policy_batch
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


def test_E7_dr_grpo_is_two_changes(policy_batch):
    logp, old, score, mask = policy_batch
    args = (logp, old, score, mask)
    dr = grpo_loss(*args, group_size=2, scale=False, mode="fixed")[0]
    centred = score - score.view(2, 2).mean(1).repeat_interleave(2)
    by_hand = clipped(logp, old, centred, mask, "fixed")
    assert torch.allclose(dr, by_hand)
    for half in (dict(scale=False), dict(mode="fixed")):
        assert not torch.allclose(dr, grpo_loss(*args, group_size=2, **half)[0], rtol=1e-3)


def test_truncated_importance(policy_batch):
    logp, old, _, mask = policy_batch
    got = truncated_importance(logp, old, mask, cap=1.1)
    want = (logp - old).exp().clamp(max=1.1).detach() * mask
    assert torch.allclose(got, want) and not got.requires_grad and got.max() == 1.1


def test_E5_gspo_equals_a_loop_with_an_empty_row(policy_batch):
    logp, old, score, mask = policy_batch
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


def test_kl_ref_counts_rows_that_have_tokens(policy_batch):
    logp, old, score, mask = policy_batch
    ref = old - 0.3
    for keep in ([0, 1, 2], [1]):
        part = torch.zeros_like(mask)
        part[keep] = mask[keep]
        stats = grpo_loss(logp, old, score, part, group_size=2, logp_ref=ref, beta=0.1)[1]
        assert torch.allclose(stats["kl_ref"], (k3(logp.detach(), ref) * part).sum() / len(keep))


def test_the_penalty_is_never_minus_zero():
    from rlhf_minimal.grpo import overlong_penalty

    got = overlong_penalty(torch.tensor([0, 6]), limit=10, buffer=4)
    assert got.tolist() == [0, 0] and not torch.signbit(got).any()


@pytest.mark.parametrize("loss_fn", [grpo_loss, gspo_loss, cispo_loss])
def test_the_old_policy_gets_no_gradient(policy_batch, loss_fn):
    logp, old, score, mask = policy_batch
    old = old.clone().requires_grad_()
    got = torch.autograd.grad(loss_fn(logp, old, score, mask, group_size=2)[0], [logp, old], allow_unused=True)
    assert got[0].abs().sum() > 0 and got[1] is None


def test_the_share_of_clipped_tokens_of_one_token_and_of_none():
    new, old = torch.tensor([[0.6, 0.9], [0.4, 0.4]]).log(), torch.tensor([[0.4, 0.1], [0.4, 0.4]]).log()
    score = torch.tensor([1.0, 0.0])
    for mask, want in (([[1, 0], [0, 0]], 1.0), ([[1, 1], [1, 1]], 0.5), ([[0, 0], [1, 0]], 0.0), ([[0, 0], [0, 0]], 0.0)):
        assert cispo_loss(new, old, score, torch.tensor(mask), group_size=2, denominator=4)[1]["clip_frac"] == want
