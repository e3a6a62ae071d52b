"""One optimizer step: backward, clip, step. The last line of every algorithm."""

import torch
from torch import Tensor


def update(loss: Tensor, optimizer: torch.optim.Optimizer, *, max_norm: float = 1.0) -> Tensor:
    """Backward, clip the norm of the whole gradient, one optimizer step.

    loss: a scalar. The norm is taken over everything that the optimizer holds, policy and value model together, so that
    clipping changes the length of the step and not its direction.

    Returns the norm before clipping, a detached scalar. Raises ValueError, before any weight moves, if the norm is not
    finite.
    """
    optimizer.zero_grad()
    loss.backward()
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(weights, max_norm)
    if not torch.isfinite(norm):
        raise ValueError(f"the gradient's norm is {norm.item()} at loss {loss.item()}; lower the learning rate")
    optimizer.step()
    return norm.detach()
