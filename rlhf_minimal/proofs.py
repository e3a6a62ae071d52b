"""The table of estimators: expected gradient of each loss against the exact one, by full enumeration.

`python -m rlhf_minimal.proofs` prints it. The words equal, proportional, biased and zero hold for any weights and
rewards; the cosines are those of this model.
"""

import torch

from .distillation import on_policy_loss
from .exact import World, compare, exact_model, expected_loss_gradient, gradient
from .filtering import correct_only
from .grpo import cispo_loss, grpo_loss, gspo_loss
from .kl import k1, k2, k3
from .p3o import p3o_loss
from .ppo import policy_loss
from .reinforce import reinforce_loss
from .rloo import rloo_loss
from .sft import sft_loss
from .trpo import trpo_loss

TIGHT = 1e-9


def verdict(grad, exact):
    """("equal" | "proportional" | "opposite" | "zero" | "biased", cosine, ratio of norms) of two gradient vectors."""
    got = compare(grad, exact)
    if got["ratio"] < TIGHT:
        return "zero", float("nan"), 0.0
    if got["error"] < TIGHT:
        return "equal", 1.0, 1.0
    word = "proportional" if got["cosine"] > 1 - TIGHT else "opposite" if got["cosine"] < TIGHT - 1 else "biased"
    return word, got["cosine"], got["ratio"]


def policy_estimators(reward, mask, eos):
    """[(name, G, loss(logp (G, T), rows))] of the policy losses, on policy; each should be -grad J."""
    correct, base, length = (reward > 0).double(), reward.mean(), mask.sum(1)
    one, pair = dict(denominator=1), dict(group_size=2)

    def on(fn, **settings):
        return lambda lp, i: fn(lp, lp.detach(), reward[i], mask[i], **settings)[0]

    def star(lp, i):
        rows, _ = correct_only(correct[i], len(i))
        return sft_loss(lp[rows], mask[i][rows], denominator=len(i))[0]

    return [
        ("REINFORCE, sum over tokens", 1, lambda lp, i: reinforce_loss(lp, reward[i], mask[i])[0]),
        ("REINFORCE, constant baseline", 1, lambda lp, i: reinforce_loss(lp, reward[i] - base, mask[i])[0]),
        ("REINFORCE, mean over a row's tokens", 1, lambda lp, i: reinforce_loss(lp, (reward / length)[i], mask[i])[0]),
        ("REINFORCE, EOS not in the mask", 1, lambda lp, i: reinforce_loss(lp, reward[i], mask[i] * ~eos[i], **one)[0]),
        ("RLOO", 2, lambda lp, i: rloo_loss(lp, reward[i], mask[i], group_size=2)[0]),
        ("P3O, separate clip", 2, on(p3o_loss)),
        ("P3O, joint clip", 2, on(p3o_loss, form="joint")),
        ("TRPO's surrogate", 1, on(trpo_loss)),
        ("PPO, ratio 1, divisor fixed", 1, on(policy_loss, **one)),
        ("PPO, ratio 1, token mean of one row", 1, on(policy_loss)),
        ("group mean, no std, sum", 2, on(grpo_loss, **pair, scale=False, mode="sequence_sum")),
        ("Dr. GRPO", 2, on(grpo_loss, **pair, scale=False, mode="fixed")),
        ("GRPO, no std, mean over a row's tokens", 2, on(grpo_loss, **pair, scale=False)),
        ("GRPO, std, sum", 2, on(grpo_loss, **pair, mode="sequence_sum")),
        ("GRPO as published", 2, on(grpo_loss, **pair)),
        ("DAPO's token mean, std", 2, on(grpo_loss, **pair, mode="token_mean")),
        ("GSPO", 2, on(gspo_loss, **pair)),
        ("CISPO, divisor fixed, no std", 2, on(cispo_loss, **pair, scale=False, denominator=2)),
        ("STaR, against grad P(correct)", 2, star),
    ]


def kl_estimators(ref, kl, mask):
    """[(name, G, loss)] of the ways to hold the policy near a reference; each should be grad KL(pi || ref) of texts."""
    cost = -kl.sum(1)

    def term(fn):
        return lambda lp, i: (fn(lp, ref[i]) * mask[i]).sum()

    def opd(**form):
        return lambda lp, i: on_policy_loss(lp, ref[i], mask[i], **form)[0]

    return [
        ("k1 in the score, summed", 1, lambda lp, i: reinforce_loss(lp, cost[i], mask[i])[0]),
        ("k1 in the score, token mean", 1, lambda lp, i: reinforce_loss(lp, (cost / mask.sum(1))[i], mask[i])[0]),
        ("on-policy distillation, cumulative", 1, opd()),
        ("on-policy distillation, immediate", 1, opd(form="immediate")),
        ("k1 in the loss", 1, term(k1)),
        ("k2 in the loss", 1, term(k2)),
        ("k3 in the loss", 1, term(k3)),
        ("rho k3 in the loss", 1, term(lambda lp, r: (lp - lp.detach()).exp() * k3(lp, r))),
    ]


def table(seed=0):
    """[(estimator, target, word, cosine, ratio)] in a world of 15 texts; `seed` makes model, reference, reward."""
    world, model, reference = World(), exact_model(seed), exact_model(seed + 1)
    reward = torch.randn(len(world), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ref, logp = world.logps(reference).detach(), world.logps(model).detach()
    up = {name: gradient(world.expected(model, r), model) for name, r in (("J", reward), ("P", (reward > 0).double()))}
    down = gradient(world.kl(model, reference), model)
    rows = []
    for name, size, loss in policy_estimators(reward, world.mask, world.completions == world.eos_id):
        target = "P" if name.startswith("STaR") else "J"
        got = -expected_loss_gradient(world, model, loss, group_size=size)
        rows.append((name, target, *verdict(got, up[target])))
    for name, size, loss in kl_estimators(ref, k1(logp, ref), world.mask):
        rows.append((name, "KL", *verdict(expected_loss_gradient(world, model, loss, group_size=size), down)))
    return rows


def markdown(rows):
    """The table's rows as Markdown."""
    head = ["| estimator | of | relation | cosine | ratio of norms |", "|---|---|---|---:|---:|"]
    return "\n".join(head + [f"| {name} | {of} | {word} | {c:.3f} | {r:.3f} |" for name, of, word, c, r in rows])


if __name__ == "__main__":
    print(markdown(table()))
