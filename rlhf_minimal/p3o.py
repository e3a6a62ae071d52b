"""P3O, pairwise PPO: two answers a prompt, and only the difference of their scores is used.

Not the off-policy method of the same name. A score that is shifted by any number a prompt changes nothing.
"""

import math

import torch

from .advantages import leave_one_out
from .aggregate import aggregate
from .kl import penalized
from .models import disable_dropout
from .optim import update
from .ppo import ratio_stats
from .rollout import completion_logps
from .tensors import check_mask

FORMS = ("separate", "joint")


def _joint(seq, old, adv, clip):
    """-w min(A g, A clip(g, -clip, clip)) / 2 a pair (B/2,), g = the change of log pi(y1) - log pi(y2), and its stats.

    w is the pair's importance weight rho_1 rho_2, detached and held in 1 +- clip.
    """
    change = (seq - old).view(-1, 2)
    gap, adv = change[:, 0] - change[:, 1], adv.view(-1, 2)[:, 0]
    weight = change.detach().sum(1).exp()
    if clip is None:
        plain = near = adv * gap
    else:
        weight, plain, near = weight.clamp(1 - clip, 1 + clip), adv * gap, adv * gap.clamp(-clip, clip)
    stats = {"clip_frac": (near < plain).float().mean(), "weight": weight.mean()}
    return -weight * torch.minimum(plain, near) / 2, stats


def p3o_loss(logp, logp_old, score, mask, *, clip=0.2, form="separate", denominator=None):
    """Pairwise policy gradient, mean over pairs -> (loss, stats). https://arxiv.org/abs/2310.00212

    logp, logp_old, mask (B, T); score (B,), detached here, the two rows of a prompt adjacent (D9). At
    logp == logp_old the gradient is -mean of 1/2 (r_1 - r_2) grad log pi(y_1) / pi(y_2): RLOO's at G = 2.
    form "separate" (the paper's V1): each answer's ratio rho = exp(sum of log-ratios) is clipped, -min(rho A, clip(rho)
    A); "joint" (V2): the *gap* of the two log-ratios is clipped, under the pair's weight rho_1 rho_2. clip=None: no clip
    at all; then both have grad J in expectation for old samples too. Where this differs: the paper's off-policy gradient
    weighs a pair by rho_1 rho_2. "separate" leaves the *other* answer's ratio out (its mean is 1: the same expectation
    with less noise), "joint" keeps both and clips their product, too. How the paper combines clip and weight inside V1
    and V2 was not compared with its text, only with summaries of it. denominator: rows of the whole optimizer step.
    ValueError on an odd B, another form, a negative clip.

    >>> logp, old = torch.tensor([[-1.0], [-2.0]]), torch.tensor([[-1.1], [-1.9]])
    >>> pair, one = torch.tensor([1.0, 0.0]), torch.ones(2, 1)
    >>> [round(p3o_loss(logp, old, pair, one, clip=None, form=f)[0].item(), 4) for f in FORMS]  # ratios e^.1, e^-.1
    [-0.1002, -0.1]
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; choose one of {', '.join(FORMS)}")
    if clip is not None and not 0 < clip <= 1:
        raise ValueError(f"clip is {clip}; give a number above 0 and up to 1, or None for no clipping")
    adv = leave_one_out(score.detach(), 2)  # r_1 - r_2, r_2 - r_1
    (logp, m), (old, _) = check_mask(logp, mask, "logp"), check_mask(logp_old.detach(), mask, "logp_old")
    seq, seq_old, some = logp.sum(1), old.sum(1), m.any(1).to(m.dtype)
    if form == "joint":
        x, stats = _joint(seq, seq_old, adv, clip)
        rows = len(score) if denominator is None else denominator
        loss = aggregate(2 * x[:, None], torch.ones_like(x)[:, None], "sequence_sum", denominator=rows)
    else:
        low, high = (1.0, math.inf) if clip is None else (clip, clip)
        ratio = (seq - seq_old).exp()
        x = -torch.minimum(ratio * adv, ratio.clamp(1 - low, 1 + high) * adv)
        loss = aggregate(x[:, None], some[:, None], "sequence_sum", denominator=denominator)
        stats = ratio_stats(seq - seq_old, adv, some, low=low, high=high)
    return loss, stats | {"loss": loss.detach()}


def step(
    policy, optimizer, rollout, score, *, logp_ref=None, beta=0.0, epochs=1, temperature=1.0, max_norm=1.0, **settings,
):
    """P3O update(s) from a rollout of two samples a prompt and scores (B,) -> last stats. settings: clip, form."""
    disable_dropout(policy)  # or ratios are not 1 with unchanged weights (B7)
    reward, kl = penalized(score, rollout.logp_old, logp_ref, rollout.mask, beta)
    for _ in range(epochs):
        logp = completion_logps(policy, rollout, temperature=temperature)
        loss, stats = p3o_loss(logp, rollout.logp_old, reward, rollout.mask, **settings)
        norm = update(loss, optimizer, max_norm=max_norm)
    return stats | {"score": score.mean(), "reward": reward.mean(), "kl": kl.mean(), "grad_norm": norm}
