"""The bench of policy gradients: give every answer a weight, and see which way the mean gradient points, and how noisily.

At the first step on fresh samples many methods are one line, the weight of an answer: `weigh(score, length) -> weight`, all
of shape (groups, G), with the scores and token counts of the G answers of a group. In the exact world (`exact.World`) all
groups can be listed, so mean and noise of the gradient are sums, not estimates. Everything is float64 and without graph.
"""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..advantages import gae
from .exact import World, compare, exact_model, gradient

Weigh = Callable[[Tensor, Tensor], Tensor]


def pushes(world: World, model: nn.Module) -> Tensor:
    """(N, T, parameters): the gradient of each token's log-probability, 0 off the mask; its sum over T is an answer's."""
    logp = world.logps(model)
    first = gradient(logp[0, 0], model)
    out = torch.zeros(*logp.shape, len(first), dtype=first.dtype)
    for i, t in world.mask.nonzero().tolist():
        out[i, t] = gradient(logp[i, t], model)
    return out


def _setting(world, model):
    """(probabilities (N,), pushes of whole answers (N, parameters), tokens of each answer (N,))."""
    p = world.seq_logp(model).detach().exp()
    return p, pushes(world, model).sum(1), world.mask.sum(1).to(p.dtype)


def group_gradient(world: World, model: nn.Module, weigh: Weigh, score: Tensor, *, group_size: int = 4) -> tuple[Tensor, float]:
    """(mean, noise) of the gradient of one group, sum_i weight_i grad log p(y_i) / G, over all N**G groups.

    score (N,). The noise is the root mean square distance of one group's gradient from the mean: the root of the summed
    variances of its entries. Raises ValueError where the weights have not the shape (groups, G).
    """
    p, push, length = _setting(world, model)
    rows = torch.cartesian_prod(*[torch.arange(len(world))] * group_size).view(-1, group_size)
    chance, weight = p[rows].prod(1), weights(weigh, score, length, rows)
    flat = (chance[:, None] * weight).flatten()
    mean = torch.zeros_like(p).index_add(0, rows.flatten(), flat) @ push
    inner = push @ push.T  # pushes, two at a time
    square = sum((chance * weight[:, a] * weight[:, b] * inner[rows[:, a], rows[:, b]]).sum()
                 for a in range(group_size) for b in range(group_size))
    return mean, (square - mean @ mean).clamp(min=0).sqrt().item()


def measured(weigh: Weigh, seeds: Sequence[int] = range(5), *, group_size: int = 4) -> dict[str, list[float]]:
    """In the world of each seed, `exact_model(seed)` with normal scores around 3: `degrees` between the mean gradient and
    grad J, and `noise`, in units of the length of that mean."""
    found = {"degrees": [], "noise": []}
    for seed in seeds:
        world, model = World(), exact_model(seed)
        score = 3 + torch.randn(len(world), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        mean, noise = group_gradient(world, model, weigh, score, group_size=group_size)
        found["degrees"].append(compare(mean, gradient(world.expected(model, score), model))["degrees"])
        found["noise"].append(noise / mean.norm().item())
    return found


def tilt(weigh: Weigh, seed: int, *, group_size: int = 4) -> float:
    """The `degrees` of `measured` for one seed."""
    return measured(weigh, (seed,), group_size=group_size)["degrees"][0]


def group_average(
    world: World, model: nn.Module, value: Callable[[Tensor], Tensor], score: Tensor, *, group_size: int = 4,
) -> Tensor:
    """The expected value of a group, `value(scores (groups, G)) -> (groups,)`, over all N**G groups; with a graph, so that
    its gradient is that of the policy's choice of answers."""
    rows = torch.cartesian_prod(*[torch.arange(len(world))] * group_size).view(-1, group_size)
    return (world.seq_logp(model)[rows].sum(1).exp() * value(score[rows])).sum()


def weights(weigh: Weigh, score: Tensor, length: Tensor, rows: Tensor) -> Tensor:
    """The weights of the groups `rows` (groups, G), divided by G. ValueError for another shape."""
    weight = weigh(score[rows], length[rows])
    if weight.shape != rows.shape:
        raise ValueError(f"weights of shape {tuple(weight.shape)} for {tuple(rows.shape)} answers (groups, G): give one each")
    return weight / rows.shape[1]


def sampled_gradients(
    world: World, model: nn.Module, weigh: Weigh, score: Tensor, *, count: int, group_size: int = 4,
    generator: torch.Generator | None = None,
) -> Tensor:
    """(count, parameters): the gradients of `count` sampled groups, of which `group_gradient` gives mean and noise."""
    p, push, length = _setting(world, model)
    rows = torch.multinomial(p, count * group_size, replacement=True, generator=generator).view(count, group_size)
    return (weights(weigh, score, length, rows)[:, :, None] * push[rows]).sum(1)


def climb(
    world: World, model: nn.Module, weigh: Weigh, score: Tensor, *, steps: int, stride: float = 0.1, group_size: int = 2,
) -> list[tuple[float, float]]:
    """Steps of equal length along exact mean gradients, from a copy of `model` -> [(J, mean tokens of answers with score 0)].

    No sampling, no optimizer: what remains is the direction of the weights alone. `steps` places, the first is the start.
    """
    model, path = copy.deepcopy(model), []
    length = world.mask.sum(1).to(score.dtype)
    rows = torch.cartesian_prod(*[torch.arange(len(world))] * group_size).view(-1, group_size)
    weight, wrong = weights(weigh, score, length, rows), (score == 0).to(score.dtype)
    for _ in range(steps):
        logp = world.seq_logp(model)
        p = logp.detach().exp()
        path.append(((p @ score).item(), ((p * wrong) @ length / (p @ wrong)).item()))
        mean = torch.zeros_like(p).index_add(0, rows.flatten(), (p[rows].prod(1)[:, None] * weight).flatten())
        step, at = gradient(mean @ logp, model), 0
        step = stride * step / step.norm()
        with torch.no_grad():
            for q in model.parameters():
                q.add_(step[at:at + q.numel()].view_as(q))
                at += q.numel()
    return path


def longer_at_equal_success(one: list[tuple[float, float]], other: list[tuple[float, float]], most: float = 0.9) -> bool:
    """Of two paths of `climb`: are the answers with score 0 longer on the first, at the last J that both reach, at most `most`?"""
    meet = min(one[-1][0], other[-1][0], most)

    def length(path):
        before = max((point for point in path if point[0] <= meet), default=path[0])
        after = min((point for point in path if point[0] >= meet), default=path[-1])
        share = (meet - before[0]) / (after[0] - before[0]) if after[0] > before[0] else 0.0
        return before[1] + share * (after[1] - before[1])

    return length(one) > length(other)


def pull(weigh: Weigh, q: float, *, group_size: int = 8) -> float:
    """How hard a group pulls at a prompt that is solved with probability q, in units of its true gradient's size, q (1 - q).

    Scores are 1 or 0, all answers have one length. The mean over all groups of the weights of the right answers / G; what
    a push is multiplied with, whatever the pushes are. Leave-one-out gives exactly 1.

    >>> round(pull(lambda r, n: r - r.mean(1, keepdim=True), 0.3, group_size=4), 6)  # (G - 1) / G
    0.75
    """
    if not 0 < q < 1:
        raise ValueError(f"q is {q}: expected a probability between 0 and 1; at 0 and 1 there is no gradient")
    total = 0.0
    for c in range(1, group_size):  # c right answers; a group of equal scores is left out
        score = torch.tensor([[1.0] * c + [0.0] * (group_size - c)], dtype=torch.float64)
        right = weigh(score, torch.ones_like(score))[0, :c].sum().item() / group_size
        total += math.comb(group_size, c) * q**c * (1 - q) ** (group_size - c) * right
    return total / (q * (1 - q))


def prefix_value(world: World, drawn: Tensor, score: Tensor) -> Tensor:
    """(N, T): what is to be expected before each token: the mean score of the answers in `drawn` that begin alike, 0 off the mask.

    drawn (N,): how often each answer was seen, or its probability, which gives the true value V. A beginning that was never
    seen has the mean of all. score (N,), or (N, T) where what is still to come differs from token to token.
    """
    to_go = (score[:, None] if score.dim() == 1 else score) * world.mask
    value = torch.zeros_like(to_go)
    for t in range(world.horizon):
        past = (world.completions[:, None, :t] == world.completions[None, :, :t]).all(2)
        weight = past * (world.mask[:, t] * drawn)
        total = weight.sum(1)
        overall = (drawn @ to_go[:, 0]) / drawn.sum()
        value[:, t] = torch.where(total > 0, (weight @ to_go[:, t]) / total.clamp(min=1e-300), overall)
    return value * world.mask


def moments(push: Tensor, weight: Tensor, drawn: Tensor) -> tuple[Tensor, float]:
    """(mean, noise) of the gradient of one answer whose tokens have weights (N, T).

    push: `pushes` of the model that learns; drawn (N,): the probabilities of the answers when they were sampled.
    """
    each = (weight[:, :, None] * push).sum(1)
    mean = drawn @ each
    return mean, (drawn @ each.square().sum(1) - mean @ mean).clamp(min=0).sqrt().item()


def critic(world: World, model: nn.Module, score: Tensor, drawn: Tensor, push: Tensor | None = None) -> dict[str, float]:
    """A critic that knows the answers `drawn` (N,), and is believed: each token is paid for the change of its prediction.

    Returns `explained`, the share of the scores' variance over the tokens that it predicts; `bias`, the distance of the mean
    gradient from grad J, and `noise`, both in units of the length of grad J. PPO with lambda = 0, `eq:advantage_trick`.
    """
    mask, p = world.mask.to(score.dtype), world.seq_logp(model).detach().exp()
    value, pay = prefix_value(world, drawn, score), torch.zeros_like(mask)
    pay[torch.arange(len(p)), mask.sum(1).long() - 1] = score
    on = p[:, None] * mask / (p @ mask).sum()

    def variance(x):
        return (on * x**2).sum() - (on * x).sum() ** 2

    goal = gradient(world.expected(model, score), model)
    push = pushes(world, model) if push is None else push
    mean, noise = moments(push, gae(pay, value, mask, lam=0.0)[0], p)
    explained = 1 - variance(score[:, None] * mask - value) / variance(score[:, None] * mask)
    return {"explained": explained.item(), "bias": compare(mean, goal)["error"], "noise": noise / goal.norm().item()}


def learning_critic(
    world: World, model: nn.Module, score: Tensor, sizes: tuple[int, ...], *, critics: int = 40,
    generator: torch.Generator | None = None,
) -> dict[str, list[float]]:
    """`critic` after so many sampled answers, averaged over `critics` of them: {"explained": one number a size, "bias": …, …}."""
    p, push, found = world.seq_logp(model).detach().exp(), pushes(world, model), {}
    for size in sizes:
        several = []
        for _ in range(critics):
            seen = torch.multinomial(p, size, replacement=True, generator=generator)
            several.append(critic(world, model, score, torch.bincount(seen, minlength=len(p)).to(p.dtype), push))
        for name in several[0]:
            found.setdefault(name, []).append(sum(one[name] for one in several) / critics)
    return found
