"""P3O: RLOO's gradient at G = 2, exact off-policy gradients, and both forms of clipping by loops."""

import math

import pytest
import torch

from rlhf_minimal.evaluate.exact import World, compare, exact_model, expected_loss_gradient, gradient
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.p3o import P3O_MODES, p3o_loss, step
from rlhf_minimal.ppo import policy_loss
from rlhf_minimal.rloo import rloo_loss
from rlhf_minimal.sampling import sample

EQUAL = 1e-10


@pytest.fixture(scope="module")
def bench():
    world, model, other = World(horizon=2), exact_model(0, horizon=2), exact_model(1, horizon=2)
    reward = torch.randn(len(world), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return world, model, other, reward, gradient(world.expected(model, reward), model)


@pytest.fixture
def batch():
    """Two pairs in float64: ratios inside and outside the clip, on both sides."""
    torch.manual_seed(3)
    old = -torch.rand(4, 5, dtype=torch.float64) * 3 - 0.1
    logp = (old + 0.3 * torch.randn(4, 5, dtype=torch.float64)).requires_grad_()
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]])
    return logp, old, torch.tensor([1.0, 0.0, 0.5, 2.0], dtype=torch.float64), mask


def grad(loss, x):
    return torch.autograd.grad(loss, x, retain_graph=True)[0]


@pytest.mark.parametrize("mode", P3O_MODES)
@pytest.mark.parametrize("clip", [None, 0.2])
def test_at_ratio_one_it_is_rloo_with_two_samples(batch, mode, clip):
    logp, _, score, mask = batch
    got = grad(p3o_loss(logp, logp.detach(), score, mask, clip=clip, mode=mode)[0], logp)
    assert torch.allclose(got, grad(rloo_loss(logp, score, mask, group_size=2)[0], logp), atol=1e-14)
    by_hand = torch.zeros_like(logp)
    for first in (0, 2):  # 1/2 (r1 - r2) grad log pi(y1) / pi(y2), mean over pairs
        gap = (score[first] - score[first + 1]) / 2
        by_hand[first], by_hand[first + 1] = -gap * mask[first] / 2, gap * mask[first + 1] / 2
    assert torch.allclose(got, by_hand, atol=1e-14)


@pytest.mark.parametrize("mode", P3O_MODES)
def test_expected_gradient_equals_grad_J(bench, mode):
    world, model, _, reward, exact = bench

    def loss(logp, i):
        return p3o_loss(logp, logp.detach(), reward[i], world.mask[i], mode=mode)[0]

    assert compare(-expected_loss_gradient(world, model, loss, group_size=2), exact)["error"] < EQUAL


@pytest.mark.parametrize("mode", P3O_MODES)
def test_unclipped_it_is_unbiased_on_another_policys_samples_and_clipped_it_is_not(bench, mode):
    world, model, other, reward, exact = bench
    old = world.logps(other).detach()

    def error(clip):
        def loss(logp, i):
            return p3o_loss(logp, old[i], reward[i], world.mask[i], clip=clip, mode=mode)[0]

        return compare(-expected_loss_gradient(world, model, loss, group_size=2, sampler=other), exact)["error"]

    assert error(None) < EQUAL and error(0.2) > 0.05


def test_joint_form_without_its_importance_weight_is_biased(bench):
    """The mutant: 1/2 (r1 - r2) grad of the gap on old samples, not weighted by rho_1 rho_2."""
    world, model, other, reward, exact = bench

    def loss(logp, i):
        seq = logp.sum(1)
        return -(reward[i][0] - reward[i][1]) / 2 * (seq[0] - seq[1])

    assert compare(-expected_loss_gradient(world, model, loss, group_size=2, sampler=other), exact)["error"] > 0.05


def test_both_forms_equal_a_loop(batch):
    logp, old, score, mask = batch
    clip, separate, joint = 0.2, 0.0, 0.0
    for first in (0, 2):
        change = [sum((logp - old)[b, t].item() for t in range(5) if mask[b, t]) for b in (first, first + 1)]
        gap = (score[first] - score[first + 1]).item()
        for delta, adv in zip(change, (gap, -gap), strict=True):
            ratio = math.exp(delta)
            separate -= min(ratio * adv, min(max(ratio, 1 - clip), 1 + clip) * adv) / 4
        weight = min(max(math.exp(sum(change)), 1 - clip), 1 + clip)
        move = change[0] - change[1]
        joint -= weight * min(gap * move, gap * min(max(move, -clip), clip)) / 2 / 2
    assert abs(p3o_loss(logp, old, score, mask, mode="separate")[0].item() - separate) < 1e-12
    assert abs(p3o_loss(logp, old, score, mask, mode="joint")[0].item() - joint) < 1e-12
    assert abs(separate - joint) > 1e-3


@pytest.mark.parametrize("move, kept", [(0.1, True), (0.5, False), (-0.5, True)])
def test_joint_clip_stops_the_gap_and_not_the_way_back(move, kept):
    """y1 is the better one: once the gap grew beyond the clip the gradient is 0; where it fell it is whole."""
    logp = torch.tensor([[-1.0 + move], [-1.0]], dtype=torch.float64, requires_grad=True)
    old, score, one = torch.full((2, 1), -1.0, dtype=torch.float64), torch.tensor([1.0, 0.0]), torch.ones(2, 1)
    loss, stats = p3o_loss(logp, old, score, one, clip=0.2, mode="joint")
    slope = grad(loss, logp).flatten().tolist()
    weight = min(max(math.exp(move), 0.8), 1.2)
    assert slope == pytest.approx([-weight / 2, weight / 2] if kept else [0.0, 0.0], abs=1e-12)
    assert stats["clip_frac"] == (not kept)


def test_joint_and_separate_clip_differ_where_both_moved_together():
    """Both answers 0.5 up: separately the better one is clipped, jointly the gap has not moved."""
    logp = torch.tensor([[-0.5], [-0.5]], dtype=torch.float64, requires_grad=True)
    old, score, one = torch.full((2, 1), -1.0, dtype=torch.float64), torch.tensor([1.0, 0.0]), torch.ones(2, 1)
    slopes = {mode: grad(p3o_loss(logp, old, score, one, mode=mode)[0], logp).flatten().tolist() for mode in P3O_MODES}
    assert slopes["separate"][0] == 0 and slopes["separate"][1] > 0.5 and slopes["joint"][0] < -0.5


@pytest.mark.parametrize("mode", P3O_MODES)
def test_a_prompts_reward_offset_changes_nothing_here_and_ppo_a_lot(batch, mode):
    logp, old, score, mask = batch
    offset = torch.tensor([8.0, 8.0, -3.0, -3.0], dtype=torch.float64)
    a, b = (p3o_loss(logp, old, s, mask, mode=mode)[0] for s in (score, score + offset))
    assert torch.allclose(grad(a, logp), grad(b, logp), atol=1e-12)
    a, b = (policy_loss(logp, old, s, mask)[0] for s in (score, score + offset))
    assert not torch.allclose(grad(a, logp), grad(b, logp), atol=0.1)


@pytest.mark.parametrize("mode", P3O_MODES)
def test_E11_and_errors(batch, mode):
    logp, old, score, mask = batch
    clean = p3o_loss(logp, old, score, mask, mode=mode)[0]
    for junk in (math.nan, math.inf, 1e30):
        x, o = (torch.where(mask.bool(), t.detach(), junk) for t in (logp, old))
        loss, stats = p3o_loss(x.requires_grad_(), o, score, mask, mode=mode)
        assert torch.equal(loss, clean) and torch.equal(grad(loss, x), grad(clean, logp))
        assert all(torch.isfinite(v) for v in stats.values())
    for bad in (dict(mode="both"), dict(clip=0.0), dict(clip=1.5)):
        with pytest.raises(ValueError):
            p3o_loss(logp, old, score, mask, **{"mode": mode} | bad)
    with pytest.raises(ValueError, match="3 rows"):
        p3o_loss(logp[:3], old[:3], score[:3], mask[:3], mode=mode)


def test_step_prefers_the_better_answer(tiny_gpt2):
    model = tiny_gpt2()
    rollout = sample(model, [[3, 4], [5, 6]], n=2, max_new_tokens=5, eos_id=0,
                     generator=torch.Generator().manual_seed(1))
    score = torch.tensor([1.0, 0.0, 0.0, 1.0])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    stats = step(model, optimizer, rollout, score, logp_ref=rollout.logp_old, beta=0.1, epochs=3, mode="joint")
    now = rollout.on_completion(token_logps(model, rollout.ids, rollout.attention))
    again = (now - rollout.logp_old).sum(1)
    assert again[0] > again[1] and again[3] > again[2] and stats["kl"] == 0 and torch.isfinite(stats["grad_norm"])


def test_stats_of_two_pairs_by_hand():
    """One pair's gap grew by 0.5, clipped to 0.2 under the weight e^0.5, held at 1.2; the other pair stayed."""
    old, logp = torch.full((4, 1), -1.0), torch.tensor([[-0.5], [-1.0], [-1.0], [-1.0]])
    loss, stats = p3o_loss(logp, old, torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.ones(4, 1), mode="joint")
    assert stats["clip_frac"] == 0.5 and stats["weight"].item() == pytest.approx((1.2 + 1) / 2)
    assert loss.item() == pytest.approx(-(1.2 * 0.2 + 0) / 2 / 2)


@pytest.mark.parametrize("mode", P3O_MODES)
def test_D12_old_samples_and_stats_carry_no_graph_and_a_clip_of_one_is_allowed(mode):
    logp, old = (torch.full((2, 3), x).requires_grad_() for x in (-1.0, -1.1))
    loss, stats = p3o_loss(logp, old, torch.tensor([1.0, 0.0]), torch.ones(2, 3), clip=1.0, mode=mode)
    slope, none = torch.autograd.grad(loss, [logp, old], allow_unused=True)
    assert none is None and slope.abs().min() > 0 and not any(x.requires_grad for x in stats.values())


def test_a_step_reports_means_over_rows_with_dropout_off(tiny_gpt2):
    """Scores (1, 0, 0, 1), a KL of 0.3 a token: means, not sums; in training mode two steps of rate 0 agree (B7)."""
    model = tiny_gpt2(n_layer=1)
    rollout = sample(model, [[3, 4], [5, 6]], n=2, max_new_tokens=4, eos_id=0,
                     generator=torch.Generator().manual_seed(1))
    model.train()
    still, score = torch.optim.SGD(model.parameters(), lr=0.0), torch.tensor([1.0, 0.0, 0.0, 1.0])
    ref, kl = rollout.logp_old - 0.3 * rollout.mask, 0.3 * rollout.mask.sum(1).mean()
    one, two = (step(model, still, rollout, score, logp_ref=ref, beta=0.1) for _ in range(2))
    assert one["loss"] == two["loss"] and one["score"] == 0.5 and torch.allclose(one["kl"], kl)
    assert torch.allclose(one["reward"], 0.5 - 0.1 * kl)


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


def test_the_statistics_of_several_epochs_are_their_mean(tiny_gpt2):
    """With a learning rate of 0 all epochs are alike, and so is their mean."""
    model = tiny_gpt2(n_layer=1)
    rollout = sample(model, [[3, 4], [5]], n=2, max_new_tokens=3, eos_id=0, generator=torch.Generator().manual_seed(0))
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    one, three = (step(model, still, rollout, torch.arange(4.0), epochs=n) for n in (1, 3))
    assert one["grad_norm"] > 0 and one.keys() == three.keys()
    assert all(torch.allclose(one[name], three[name]) for name in one)
