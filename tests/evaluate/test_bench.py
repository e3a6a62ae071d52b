"""The bench of weights: mean and noise against the package's losses, against samples, and against what is known on paper."""

import itertools

import pytest
import torch

from rlhf_minimal.advantages import group_normalize
from rlhf_minimal.evaluate import bench, exact
from rlhf_minimal.grpo import grpo_loss
from rlhf_minimal.rloo import rloo_loss


def centred(r, n=None):
    return r - r.mean(1, keepdim=True)


def rloo(r, n=None):
    return centred(r) * r.shape[1] / (r.shape[1] - 1)


def grpo(r, n):
    return group_normalize(r.flatten(), r.shape[1]).view_as(r) / n


@pytest.fixture(scope="module")
def setting():
    world, model = exact.World(horizon=2), exact.exact_model(0, horizon=2)
    score = torch.randn(len(world), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return world, model, score, exact.gradient(world.expected(model, score), model)


def test_pushes_add_up_to_the_gradient_of_the_answer(setting):
    world, model, *_ = setting
    push, logp = bench.pushes(world, model), world.seq_logp(model)
    assert torch.allclose(push.sum(1)[3], exact.gradient(logp[3], model)) and (push[world.mask == 0] == 0).all()
    assert (logp.exp().detach() @ push.sum(1)).abs().max() < 1e-12  # without a score they average to nothing


def test_the_mean_is_that_of_the_package_losses(setting):
    world, model, score, true = setting
    losses = {rloo: lambda lp, i: rloo_loss(lp, score[i], world.mask[i], group_size=2)[0],
              grpo: lambda lp, i: grpo_loss(lp, lp.detach(), score[i], world.mask[i], group_size=2)[0]}
    for weigh, loss in losses.items():
        mean, _ = bench.group_gradient(world, model, weigh, score, group_size=2)
        assert exact.compare(mean, -exact.expected_loss_gradient(world, model, loss, group_size=2))["error"] < 1e-10
    assert exact.compare(bench.group_gradient(world, model, rloo, score, group_size=3)[0], true)["error"] < 1e-10
    assert exact.compare(bench.group_gradient(world, model, grpo, score, group_size=3)[0], true)["degrees"] > 1  # control


def test_the_tilt_of_a_seed_is_its_own():
    assert bench.tilt(rloo, 1) < 1e-4 and bench.tilt(grpo, 0) > 10
    assert bench.tilt(grpo, 0, group_size=3) != bench.tilt(grpo, 1, group_size=3)
    assert bench.measured(rloo, [0], group_size=2)["noise"] < bench.measured(lambda r, n: r, [0], group_size=2)["noise"]


def test_the_slope_of_a_group_average_is_the_push_weighted_by_it(setting):
    world, model, score, true = setting
    assert exact.compare(exact.gradient(bench.group_average(world, model, lambda r: r.mean(1), score, group_size=2), model),
                         true)["error"] < 1e-10
    marks = score.round()  # ties: the share that is best is no longer constant
    share = exact.gradient(bench.group_average(
        world, model, lambda r: (r == r.amax(1, keepdim=True)).double().mean(1), marks, group_size=2), model)
    mean, _ = bench.group_gradient(
        world, model, lambda r, n: (r == r.amax(1, keepdim=True)).double().mean(1, keepdim=True).expand_as(r), marks,
        group_size=2)
    assert share.norm() > 1e-3 and exact.compare(2 * mean, share)["error"] < 1e-10


def test_mean_and_noise_against_a_loop_and_against_samples(setting):
    world, model, score, _ = setting
    mean, noise = bench.group_gradient(world, model, grpo, score, group_size=2)
    p, push, length = world.seq_logp(model).exp().detach(), bench.pushes(world, model).sum(1), world.mask.sum(1).double()
    first, second = 0.0, 0.0
    for group in itertools.product(range(len(world)), repeat=2):
        i = torch.tensor(group)
        g = (grpo(score[i][None], length[i][None])[0][:, None] * push[i]).sum(0) / 2
        first, second = first + p[i].prod() * g, second + p[i].prod() * g @ g
    assert torch.allclose(mean, first) and noise == pytest.approx((second - first @ first).sqrt().item())
    drawn = bench.sampled_gradients(world, model, grpo, score, count=4000, group_size=2, generator=torch.Generator().manual_seed(0))
    assert (drawn.mean(0) - mean).norm() < 4 * noise / 4000**0.5
    assert drawn.var(0).sum().sqrt().item() == pytest.approx(noise, rel=0.1)
    with pytest.raises(ValueError, match="groups, G"):
        bench.group_gradient(world, model, lambda r, n: r[:, 0], score, group_size=2)


def test_climb_raises_J_and_knows_the_length_of_wrong_answers(setting):
    world, model, *_ = setting
    right = (world.completions[:, 0] == 1).double()
    path = bench.climb(world, model, centred, right, steps=8)
    assert len(path) == 8 and all(a[0] < b[0] for a, b in itertools.pairwise(path))
    p, length = world.seq_logp(model).exp().detach(), world.mask.sum(1).double()
    assert path[0] == pytest.approx(((p @ right).item(), ((p * (1 - right)) @ length / (p @ (1 - right))).item()))
    longer = [(j, n + 0.1) for j, n in path]
    assert bench.longer_at_equal_success(longer, path) and not bench.longer_at_equal_success(path, longer)


def test_leave_one_out_pulls_with_the_true_size_and_dividing_lifts_both_ends():
    for q in (0.02, 0.5, 0.9):
        assert bench.pull(rloo, q) == pytest.approx(1)
        assert bench.pull(centred, q, group_size=4) == pytest.approx(0.75)
    bowl = [bench.pull(lambda r, n: grpo(r, n), q) for q in (0.05, 0.5, 0.95)]
    assert bowl[0] == pytest.approx(bowl[2]) and bowl[0] > 1.2 * bowl[1]
    with pytest.raises(ValueError, match="between 0 and 1"):
        bench.pull(rloo, 1.0)


def test_the_value_of_a_beginning_is_the_mean_of_what_follows(setting):
    world, model, score, _ = setting
    p = world.seq_logp(model).exp().detach()
    value = bench.prefix_value(world, p, score)
    assert torch.allclose(value[:, 0], (p @ score).expand(len(p)))
    i = int((world.completions[:, 0] == 1).nonzero()[0])
    same = world.completions[:, 0] == 1
    assert value[i, 1] == pytest.approx(((p * same) @ score / (p * same).sum()).item())
    one = torch.zeros_like(p)
    one[i] = 3.0  # one answer, seen three times: what was never seen has its score too
    assert (bench.prefix_value(world, one, score)[world.mask.bool()] == score[i]).all()


def test_a_true_critic_is_exact_and_a_young_one_is_not(setting):
    world, model, score, _ = setting
    p = world.seq_logp(model).exp().detach()
    true = bench.critic(world, model, score, p)
    flat = bench.moments(bench.pushes(world, model), (score - p @ score)[:, None] * world.mask, p)
    goal = exact.gradient(world.expected(model, score), model)
    assert true["bias"] < 1e-10 and true["noise"] < flat[1] / goal.norm() and exact.compare(flat[0], goal)["error"] < 1e-10
    found = bench.learning_critic(world, model, score, (3, 300), critics=5, generator=torch.Generator().manual_seed(0))
    assert found["bias"][0] > found["bias"][1] > 1e-3 and found["explained"][0] < found["explained"][1] < true["explained"] + 0.05
