"""Places of policies on the plot of reward against KL: the frontier is beta log Z, and nothing lies above it."""

import torch

from rlhf_minimal.evaluate.exact import free_energy, frontier, place


def test_the_frontier_is_the_best_that_any_policy_reaches():
    g = torch.Generator().manual_seed(0)
    p = torch.rand(5, generator=g, dtype=torch.float64)
    p, reward = p / p.sum(), torch.randn(5, generator=g, dtype=torch.float64)
    kl, top = frontier(p, reward, (0.3, 1.0, 4.0))
    for beta, k, r in zip((0.3, 1.0, 4.0), kl, top, strict=True):
        assert torch.isclose(r - beta * k, free_energy(p.log(), reward, beta))
    some = torch.softmax(3 * torch.randn(200, 5, generator=g, dtype=torch.float64), 1)
    spent, gained = place(some, p, reward)
    assert (gained - spent <= free_energy(p.log(), reward, 1.0) + 1e-12).all()
    assert (gained - 2 * spent > free_energy(p.log(), reward, 2.0) - 20).all()  # negative control: a bound that is not tight
    assert place(p, p, reward)[0].abs() < 1e-12
