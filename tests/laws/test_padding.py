"""What stands off the mask reaches no loss and no gradient, for every policy loss."""

import math

import pytest
import torch

from rlhf_minimal.grpo import cispo_loss, grpo_loss, gspo_loss
from rlhf_minimal.ppo import policy_loss, value_loss
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.rloo import rloo_loss

NAN = float("nan")


def grad(loss, x):
    return torch.autograd.grad(loss, x, retain_graph=True)[0]


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
def test_E11_what_stands_off_the_mask_changes_neither_loss_nor_gradient(policy_batch, name):
    logp, old, score, mask = policy_batch
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
