# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 · Policy gradients, deeper
#
# The [lesson](../11_policy_gradients.ipynb) puts REINFORCE, RLOO, PPO and GRPO on a bench where gradients are sums. This notebook adds what stands behind it: weights from the coarsest to the finest, the best baseline, a dozen losses of the package, a trust region, advantage estimation with λ, ratios and what they correct, stale data and samplers that do not match, four ways from tokens to a scalar, one batch by hand, a race of ten methods, and four silent bugs.
#
# Companion to [Policy Gradient Algorithms](https://rlhfbook.com/c/06-policy-gradients) (chapter 6 of today's book)
# in Nathan Lambert's *Reinforcement Learning from Human Feedback*.
#
# <!-- edition -->
#
# <!-- nav -->

# %% [markdown]
# > **You need** the lesson.
# >
# > **You will be able to** say which weights leave the mean gradient alone, and what each buys · read the bias of a
# > critic, a ratio or a divisor off a loss · tell stale data from fresh · spot four silent bugs · write any of these
# > algorithms as a change of one or two lines.
# >
# > **Costs**: <!-- costs -->. **Models** behind the stored outputs: the exact world (a GPT-2 with one layer and
# > float64 weights, made on the spot), `village-3m-sft` (three million parameters, from `make models`), and
# > `smollm2-135m` in the section [At GPT-2 size](#At-GPT-2-size).

# %%
import copy
import difflib
import inspect
import time

import numpy as np
import torch

from rlhf_minimal import data, grpo, optim, p3o, ppo, reinforce, rloo, trpo, village
from rlhf_minimal.advantages import gae, group_normalize, leave_one_out
from rlhf_minimal.advantages import returns_to_go
from rlhf_minimal.aggregate import MODES, aggregate
from rlhf_minimal.book import available, begin, check, claim, every, recorded, show
from rlhf_minimal.book import show_source
from rlhf_minimal.book.plots import ROLES, line_plot, new, recorded_plot
from rlhf_minimal.evaluate import exact, proofs
from rlhf_minimal.evaluate.bench import group_gradient, moments, prefix_value, pushes
from rlhf_minimal.evaluate.exact import World, compare, exact_model, gradient
from rlhf_minimal.kl import k1
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import adapters_off, load, lora
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import sample
from rlhf_minimal.tensors import masked_whiten

run = begin(11)
f64 = {"dtype": torch.float64}

# %% [markdown]
# ## 11.1 The theorem, by enumeration
#
# A model with three tokens (0 ends an answer, 1 and 2 are words) and room for three of them has fifteen possible
# answers. Here is one: a real `GPT2LMHeadModel`, so small that all its answers can be listed. Each has a score,
# drawn once at random. Nothing has to be sampled: the expected score $J$ is a sum, and so is its gradient.

# %%
world, policy, other = World(), exact_model(run.seed), exact_model(run.seed + 100)
score = torch.randn(len(world), generator=run.fresh("score"), **f64)
p = world.seq_logp(policy).exp().detach()
true = gradient(world.expected(policy, score), policy)
for i in (0, 1, 3, 14):
    words = world.completions[i][world.mask[i].bool()].tolist()
    print(
        f"answer {i:>2}  tokens {words!s:<10} probability {p[i].item():.4f}  "
        f"score {score[i].item():+.4f}"
    )
print(
    f"{len(world)} answers; J = {(p @ score).item():.4f}; its gradient has "
    f"{len(true)} entries"
)
claim("the probabilities of all answers sum to one", abs(p.sum() - 1) < 1e-12)

# %% [markdown]
# **The policy-gradient theorem** of the lesson, token by token
# ([eq:policy_gradient_returns](https://rlhfbook.com/c/06-policy-gradients#eq:policy_gradient_returns), and with
# some other *weight* $\Psi_t$ in place of the return,
# [eq:general_gradient](https://rlhfbook.com/c/06-policy-gradients#eq:general_gradient)):
#
# $$\nabla_\theta J=\mathbb E_{\tau\sim\pi_\theta}\Big[\sum_t\nabla_\theta\log\pi_\theta(a_t\mid s_t)\,\Psi_t\Big]$$
#
# *Said aloud: push up the log-probability of every token that was chosen, each push times a number that says how
# well things went; on average that is the way uphill.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\pi_\theta,\theta$ | the policy, which is the language model, and its weights | `policy` | – |
# | $a_t,s_t$ | token t, and the prefix before it | – | – |
# | $\tau$ | one whole answer | a row of `world.completions` | (3,) |
# | $\nabla\log\pi(a_t\mid s_t)$ | the push of one token | `push` | (15, 3, parameters) |
# | $\Psi_t$ | its weight | `psi` | (15, 3) |
# | $p$ | probability of each answer | `p` | (15,) |
#
# We take the reward that RLHF really uses: a score at the end, minus a price on every
# token for leaving a reference (chapter 8). Six choices of $\Psi_t$, from the coarsest to the finest. $V$ is the
# true value of a prefix (what has been said so far), computed from the list of answers; the constant is the expected
# reward. In the table, *cosine* is that of the angle between mean gradient and $\nabla J$, *error* their distance,
# *noise* the root mean square distance of one sample from the mean; the last two in units of the length of $\nabla J$.

# %%
push, mask = pushes(world, policy), world.mask
pay = ppo.rewards(score, world.logps(policy), world.logps(other), mask, 0.5)
to_go, total = returns_to_go(pay, mask), pay.sum(1)
V = prefix_value(world, p, to_go)
q = world.seq_logp(other).exp().detach()
stale_V = prefix_value(world, q, to_go)  # of another policy
choices = {
    "total reward": total[:, None] * mask,
    "reward to go": to_go,
    "to go - constant": (to_go - p @ total) * mask,
    "to go - true V": to_go - V,
    "TD residual, true V": gae(pay, V, mask, lam=0.0)[0],
    "TD residual, stale V": gae(pay, stale_V, mask, lam=0.0)[0],
}
uphill, found = gradient(world.expected(policy, total), policy), {}
print(f"{'weight of a push':<22}{'cosine':>8}{'error':>8}{'noise of one sample':>21}")
for name, psi in choices.items():
    mean, noise = moments(push, psi, p)
    found[name] = compare(mean, uphill) | {"noise": noise / uphill.norm().item()}
    cosine, error, noise = (found[name][key] for key in ("cosine", "error", "noise"))
    print(f"{name:<22}{cosine:8.3f}{error:8.3f}{noise:21.2f}")

# %%
claim(
    "with a price per token: total reward, reward to go, constant and true V have "
    "grad J",
    max(found[name]["error"] for name in list(choices)[:4]) < 1e-10,
)
claim(
    "with another policy's V the TD residual is biased: the trick needs the true one",
    found["TD residual, stale V"]["error"] > 0.01,
)
claim(
    "the TD residual with the true V is less noisy than the total reward",
    found["TD residual, true V"]["noise"] < found["total reward"]["noise"],
)

# %% [markdown]
# What came *before* a token cannot be its fault, so it may be dropped. A baseline costs no bias, but need not help:
# compare the third row with the second. And $A=r_t+\gamma V(s_{t+1})-V(s_t)$, here with γ = 1, called the *TD residual*
# (temporal difference; [eq:advantage_trick](https://rlhfbook.com/c/06-policy-gradients#eq:advantage_trick)), is exact for the
# true $V$ only: a wrong critic buys less noise with bias, and section 11.5 measures the rate of exchange.

# %% [markdown]
# ## 11.2 The best baseline
#
# The lesson shows that a baseline $b$
# ([eq:REINFORCE_with_baseline](https://rlhfbook.com/c/06-policy-gradients#eq:REINFORCE_with_baseline)) leaves the
# mean gradient alone, with marks around 3:
#
# $$\nabla_\theta J=\mathbb E\Big[\sum_t\nabla_\theta\log\pi_\theta(a_t\mid s_t)\,(R-b)\Big]$$
#
# *Said aloud: compare with what was to be expected, then push.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $R$ | marks: the score plus 3 (the book's return $G_t$) | `marks` | (15,) |
# | $b$ | baseline | a number | – |
# | $g$ | push of a whole answer, summed over its tokens | `whole` | (15, parameters) |
#
# Is $b=\mathbb E[R]$ the best constant? No: the noise is smallest where large pushes are cancelled best,
# $b^\star=\mathbb E[R\lVert g\rVert^2]/\mathbb E[\lVert g\rVert^2]$.

# %%
show_source(reinforce.reinforce_loss, leave_one_out)
marks, whole = score + 3, push.sum(1)
size = whole.square().sum(1)
best = ((p * marks * size).sum() / (p * size).sum()).item()
constants = {
    "none": 0.0,
    "expected mark": (p @ marks).item(),
    "best": best,
    "best - 0.1": best - 0.1,
    "best + 0.1": best + 0.1,
}
noise_of = {
    name: group_gradient(world, policy, lambda r, n, b=b: r - b, marks)[1]
    for name, b in constants.items()
}
for name, b in constants.items():
    print(f"{name:<15} constant {b:.3f}   noise of four {noise_of[name]:.4f}")
claim(
    "no constant beats the best one: its neighbours and the expected mark are noisier",
    noise_of["best"] < min(v for name, v in noise_of.items() if name != "best"),
)

# %% [markdown]
# RLOO's baseline, the mean of the *others*, in the book's two forms
# ([eq:RLOO_baseline](https://rlhfbook.com/c/06-policy-gradients#eq:RLOO_baseline),
# [eq:RLOO_advantage](https://rlhfbook.com/c/06-policy-gradients#eq:RLOO_advantage),
# [eq:RLOO_advantage_alt](https://rlhfbook.com/c/06-policy-gradients#eq:RLOO_advantage_alt)):
#
# $$A_k=R_k-\frac1{K-1}\sum_{i\ne k}R_i=\frac K{K-1}\big(R_k-\bar R\big)$$
#
# *Said aloud: compare each answer with the average of its siblings; that is the centred score, slightly
# stretched.* With $\frac1G$ in place of $\frac1{G-1}$ it is Dr. GRPO's advantage, so the two differ by a constant
# ([eq:RLOO_GRPO_EQUIV](https://rlhfbook.com/c/06-policy-gradients#eq:RLOO_GRPO_EQUIV)).
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $R_k$ | score of the k-th answer to a prompt | `score` | (B,) |
# | $K$, $G$ | answers to a prompt | `group_size` | number |
#
# With Adam even that constant all but disappears.

# %%
hand = torch.tensor([1.0, 0.0, 0.0, 0.0], **f64)
left_out, centred = leave_one_out(hand, 4), group_normalize(hand, 4, scale=False)
print("siblings    ", [round(v, 4) for v in left_out.tolist()])
print("centred     ", [round(v, 4) for v in centred.tolist()])
claim("leave-one-out equals the hand computation, and G/(G-1) times the centred score",
      (left_out - torch.tensor([1, -1 / 3, -1 / 3, -1 / 3], **f64)).abs().max() < 1e-12
      and (left_out - 4 / 3 * centred).abs().max() < 1e-12)

# %% [markdown]
# ## 11.3 The bench of losses
#
# The lesson's bench has one weight for each method. Here are the *losses* of the package, more of them; sections 11.4
# to 11.9 introduce the new names. For each loss, list all data sets that it could see (every answer, or every pair,
# with its probability), take the gradient of the loss on each, and average. *Ratio* is the length of that average over
# the length of $\nabla J$. *Equal* and *proportional* are theorems, for any weights and scores. *Biased* needs one
# counterexample, and this little world is it: the cosines are its own.

# %%
bench = [row for row in proofs.table(run.seed) if row[1] == "J"]
print(f"{'loss':<40}{'relation to grad J':<20}{'cosine':>7}{'ratio':>8}")
for name, _, word, cosine, length, _ in bench:
    print(f"{name:<40}{word:<20}{cosine:7.3f}{length:8.3f}")
word_of = {name: word for name, _, word, *_ in bench}
claim(
    "equal to grad J: P3O, TRPO's surrogate, PPO with a fixed divisor at its first "
    "step",
    {
        word_of[n]
        for n in (
            "P3O, separate clip",
            "P3O, joint clip",
            "TRPO's surrogate",
            "PPO, ratio 1, divisor fixed",
        )
    }
    == {"equal"},
)

# %%
claim(
    "CISPO with a fixed divisor and no std is proportional to it",
    word_of["CISPO, divisor fixed, no std"] == "proportional",
)
claim(
    "biased: GSPO, DAPO's token mean, REINFORCE or PPO with a mean over a row's tokens",
    {
        word_of[n]
        for n in (
            "DAPO's token mean, std",
            "GSPO",
            "REINFORCE, mean over a row's tokens",
            "PPO, ratio 1, token mean of one row",
        )
    }
    == {"biased"},
)

# %% [markdown]
# ## 11.4 The clip, and a trust region
#
# Importance sampling repairs an average over old data
# ([eq:IS_identity](https://rlhfbook.com/c/06-policy-gradients#eq:IS_identity)):
# $\mathbb E_p[f]=\mathbb E_q[f\,p/q]$. PPO takes the ratio of each token
# ([eq:PPO_POL_RATIO](https://rlhfbook.com/c/06-policy-gradients#eq:PPO_POL_RATIO)) and clips the objective
# ([eq:PPO_EQN](https://rlhfbook.com/c/06-policy-gradients#eq:PPO_EQN)):
#
# $$\rho_t=\frac{\pi_\theta(a_t\mid s_t)}{\pi_{\mathrm{old}}(a_t\mid s_t)},\qquad
#   J=\mathbb E\big[\min\big(\rho_tA_t,\ \mathrm{clip}(\rho_t,1-\varepsilon,1+\varepsilon)\,A_t\big)\big]$$
#
# *Said aloud: earn the advantage times the ratio, but take whichever of the plain and the clipped sum is worse.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\rho$ | ratio, through its logarithm | `logp - logp_old` | (B, T) |
# | $A$ | advantage | `adv` | (B,) or (B, T) |
# | $\varepsilon$ | clip | `clip` | number |
#
# How many tokens are clipped? Logs use one name, `clip_frac`, for two numbers: tokens whose ratio lies outside the
# interval, and tokens that have lost their gradient. The lesson's four cells, counted both ways:

# %%
show_source(ppo.policy_loss)
rho, A = (
    torch.tensor([[1.3], [0.7], [1.3], [0.7]], **f64),
    torch.tensor([1, 1, -1, -1], **f64),
)
_, stats = ppo.policy_loss(
    rho.log(), torch.zeros_like(rho), A, torch.ones(4, 1), clip=0.2
)
print(
    f"outside the interval {stats['outside_frac']:.2f}, clipped "
    f"{stats['clip_frac']:.2f}"
)
claim(
    "all four ratios are outside the clip, and only two of the four tokens are clipped",
    stats["outside_frac"] == 1 and stats["clip_frac"] == 0.5,
)

# %% [markdown]
# (An *entropy bonus*, $+cH(\pi)$, keeps sampling varied; a KL penalty contains one:
# $-\mathrm{KL}(\pi\Vert\pi_{\mathrm{ref}})=H(\pi)+\mathbb E_\pi\log\pi_{\mathrm{ref}}$.) The clip ends the push,
# it does not bound the way. TRPO (Schulman et al. 2015) asks the question that PPO dodges:
#
# $$\max_\theta\ \mathbb E[\rho A]\quad\text{subject to}\quad
#   \mathbb E\,\mathrm{KL}(\pi_{\mathrm{old}}\Vert\pi_\theta)\le\delta$$
#
# *Said aloud: gain what you can without going further than δ nats.* It takes one step along the natural gradient (the
# direction that gains most for a given small KL), shortened until the measured KL fits. Both on the same exact data:

# %%
# beyond the book
logp_old = world.logps(policy).detach()
adv = score - p @ score


def kl_from_old(model):
    """KL(old || model), summed over all answers."""
    return (p * (logp_old - world.logps(model)).sum(1)).sum()


def surrogate_loss(model, clip):
    """PPO's objective on *all* data of the old policy, weighted by their
    probabilities."""
    ratio, A = (world.logps(model) - logp_old).exp(), adv[:, None] * mask
    losses = -torch.minimum(ratio * A, ratio.clamp(1 - min(clip, 1.0), 1 + clip) * A)
    return (p * losses.sum(1)).sum()


careful = copy.deepcopy(policy)
natural = trpo.natural_step(
    lambda: surrogate_loss(careful, 1e9),
    lambda: kl_from_old(careful),
    careful.parameters(),
    delta=0.01,
)
model, walked = copy.deepcopy(policy), {"PPO, clip 0.2": []}
adam = torch.optim.Adam(model.parameters(), lr=0.003)
for _ in range(30):
    walked["PPO, clip 0.2"].append(kl_from_old(model).item())
    adam.zero_grad()
    surrogate_loss(model, 0.2).backward()
    adam.step()

# %%
walked["TRPO's budget"] = [0.01] * 30

# %%
show(
    line_plot(
        walked,
        title="The clip slows a policy down, it does not hold it",
        note="exact world",
        x_label="passes over the same batch",
        y_label="KL(old ‖ new), nats",
        roles={"PPO, clip 0.2": "policy", "TRPO's budget": "reference"},
    ),
    "Line plot of the KL to the old policy against passes over one batch: with PPO's "
    "clip it "
    "grows far beyond the budget that TRPO keeps.",
)
claim(
    "TRPO's step improves J and stays within its budget",
    natural["kl"] <= 0.01
    and world.expected(careful, score) > world.expected(policy, score),
    {"KL": natural["kl"], "share of the full step": natural["step"]},
)
claim(
    "at these settings thirty clipped passes leave the KL above that budget",
    walked["PPO, clip 0.2"][-1] > 0.01,
    {"clip": walked["PPO, clip 0.2"][-1]},
    kind="T",
)

# %% [markdown]
# ## 11.5 The critic and GAE
#
# RLOO gives all tokens of an answer the same advantage. PPO asks a second network, the **critic**, what a prefix
# is worth, and blames each token for the *change*, the residual $\delta_t$. Generalised advantage estimation (GAE)
# adds later residuals, faded with distance ([eq:TD_RESIDUAL](https://rlhfbook.com/c/06-policy-gradients#eq:TD_RESIDUAL),
# [eq:GAE_DFN](https://rlhfbook.com/c/06-policy-gradients#eq:GAE_DFN)):
#
# $$\delta_t=r_t+\gamma V(s_{t+1})-V(s_t),\qquad A_t=\sum_{l\ge0}(\gamma\lambda)^l\,\delta_{t+l}$$
#
# *Said aloud: how much better did it get with this token, and with the next ones, the further the less.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $r_t$ | reward of a token; the score sits on the last | `reward` | (B, T) |
# | $V(s_t)$ | value of the prefix *before* token t | `value` | (B, T) |
# | $\gamma,\lambda$ | discount, fading | `gamma`, `lam` | numbers |
#
# λ = 1 waits for what really happened (Monte Carlo), λ = 0 believes the critic (TD). **By hand**, for three tokens,
# γ = 1, λ = 0.95 <!-- fact -->; garbage beyond the answer's end must change nothing.

# %%
show_source(gae)
pays = torch.tensor([[-0.1, -0.2, 1.0, 0.0]], **f64)
value = torch.tensor([[0.5, 0.4, 0.3, 0.0]], **f64)
ends = torch.tensor([[1, 1, 1, 0]])
residual = (-0.1 + 0.4 - 0.5, -0.2 + 0.3 - 0.4, 1.0 - 0.3)
by_hand = (
    residual[0] + 0.95 * (residual[1] + 0.95 * residual[2]),
    residual[1] + 0.95 * residual[2],
    residual[2],
)
got = gae(pays, value, ends, lam=0.95)[0]
dirty = gae(pays + 99 * (1 - ends), value - 1e6 * (1 - ends), ends, lam=0.95)[0]

# %%
print("residuals ", [round(v, 5) for v in residual])
print("by hand   ", [round(v, 5) for v in by_hand])
print("package   ", [round(v, 5) for v in got[0, :3].tolist()])
claim(
    "GAE equals the hand computation; garbage under the padding changes nothing",
    abs(got[0, :3] - torch.tensor(by_hand, **f64)).max() < 1e-12
    and (got == dirty).all().item(),
)
waited, believed = (gae(pays, value, ends, lam=lam)[0] for lam in (1.0, 0.0))
claim(
    "λ = 1 is the return minus V, λ = 0 is the residual",
    (waited - (returns_to_go(pays, ends) - value) * ends).abs().max() < 1e-12
    and (believed[0, :3] - torch.tensor(residual, **f64)).abs().max() < 1e-12,
)

# %% [markdown]
# **The critic's loss** is clipped like the policy's:
# $\frac12\max\big((V-R)^2,(\mathrm{clip}(V;V_{\mathrm{old}}\pm\varepsilon)-R)^2\big)$, with target $R$ and the value
# $V_{\mathrm{old}}$ at sampling time. Oddly, a critic that has *reached* the target, but moved far to get there, is
# charged a loss and has no gradient.
#
# Which λ? On the bench, with two critics: one that knows the true $V$, and one that knows nothing, $V=0$, which is
# where a critic with a fresh head *starts*.

# %%
there = torch.ones(1, 1, **f64).requires_grad_()
loss, _ = ppo.value_loss(
    there, torch.zeros(1, 1, **f64), torch.ones(1, 1, **f64), torch.ones(1, 1), clip=0.2
)
loss.backward()
print(
    f"V = 1, V_old = 0, target 1: loss {loss.item():.2f}, slope {there.grad.item():.2f}"
)
claim(
    "a critic that is right but has moved past the clip is charged 0.32 and gets no "
    "gradient",
    abs(loss.item() - 0.32) < 1e-12 and there.grad.item() == 0,
)

# %%
lams, blind = np.linspace(0, 1, 11), torch.zeros_like(V)
sweep = {}
for name, critic in (("true V", V), ("V = 0", blind)):
    rows = [moments(push, gae(pay, critic, mask, lam=lam)[0], p) for lam in lams]
    sweep[name] = (
        [compare(mean, uphill)["error"] for mean, _ in rows],
        [noise / uphill.norm().item() for _, noise in rows],
    )
lines = {
    "bias, V = 0": (lams, sweep["V = 0"][0]),
    "noise, V = 0": (lams, sweep["V = 0"][1]),
    "noise, true V": (lams, sweep["true V"][1]),
}

# %%
show(
    line_plot(
        lines,
        title="λ buys less noise with bias, as long as the critic is wrong",
        x_label="λ",
        y_label="in units of the true gradient",
        note="exact world",
        roles={
            "bias, V = 0": "policy",
            "noise, V = 0": "proxy",
            "noise, true V": "gold",
        },
    ),
    "Line plot against lambda: with a critic that knows nothing the bias falls to "
    "zero at lambda "
    "one; the noise is larger at one than at zero, with the true value, too.",
)

# %%
claim(
    "with V = 0 the bias falls step by step with λ, to exactly 0 at λ = 1",
    sweep["V = 0"][0][-1] < 1e-10
    and all(
        a > b for a, b in zip(sweep["V = 0"][0], sweep["V = 0"][0][1:], strict=False)
    ),
)
claim(
    "believing the critic (λ = 0) is less noisy than waiting for what happens (λ = "
    "1), for both",
    all(noise[0] < noise[-1] for _, noise in sweep.values()),
    {f"{name}, λ = {i}": sweep[name][1][-i] for name in sweep for i in (0, 1)},
)

# %% [markdown]
# ## 11.6 Only differences: P3O
#
# A reward model is fixed up to a constant *for each prompt*: comparisons never say how one prompt's answers relate
# to another's. P3O (pairwise PPO, Wu et al. 2023) uses only what comparisons determine, the difference of two
# answers to the same prompt: $\frac12(r_1-r_2)\,\nabla\log\frac{\pi(y_1)}{\pi(y_2)}$. On fresh data that is RLOO
# with two samples; on old data it clips each answer's ratio (*separate* on the bench) or the gap of the two log-ratios
# (*joint*). *Whitening* over a whole batch (mean 0, standard deviation 1), as PPO does with its advantages, sees more.
#
# Below, two prompts with two answers each, before and after a number is added to both scores of the second. A negative
# slope of the loss pushes the answer *up*.

# %%
# beyond the book
pair_logp = torch.tensor(
    [[-1.0, -2.0], [-1.5, -0.5], [-0.7, -0.2], [-3.0, -0.1]], **f64
)
pair_score, ones = torch.tensor([1.0, 0.0, 0.2, 0.5], **f64), torch.ones(4, 2)
offset = torch.tensor(
    [0.0, 0.0, 5.0, 5.0], **f64
)  # the second prompt's scores are shifted


def slope(loss, scores):
    """Gradient of loss(logp, scores) in the log-probabilities."""
    leaf = pair_logp.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, scores), leaf)[0]


pairwise = [
    slope(lambda lp, s: p3o.p3o_loss(lp, lp.detach(), s, ones)[0], s)
    for s in (pair_score, pair_score + offset)
]
batchwise = [
    slope(
        lambda lp, s: ppo.policy_loss(
            lp, lp.detach(), masked_whiten(s, torch.ones(4)), ones
        )[0],
        s,
    )
    for s in (pair_score, pair_score + offset)
]
siblings = slope(lambda lp, s: rloo.rloo_loss(lp, s, ones, group_size=2)[0], pair_score)

# %%
print("P3O       ", [[round(v, 3) for v in g[:, 0].tolist()] for g in pairwise])
print("whitened  ", [[round(v, 3) for v in g[:, 0].tolist()] for g in batchwise])
claim(
    "on fresh data P3O is RLOO with two samples, and ignores what is added to a "
    "prompt's scores",
    (pairwise[0] - siblings).abs().max() < 1e-12
    and (pairwise[0] - pairwise[1]).abs().max() < 1e-12,
)
claim(
    "whitening over the batch does not: a shift of one prompt turns the other's good "
    "answer bad",
    batchwise[0][0, 0] < 0 < batchwise[1][0, 0],
)

# %% [markdown]
# ## 11.7 GRPO in the book's symbols
#
# The lesson shows what GRPO's two divisors do. The book writes the advantage
# ([eq:GRPO_ADV](https://rlhfbook.com/c/06-policy-gradients#eq:GRPO_ADV)), that of Dr. GRPO
# ([eq:DrGRPO_ADV](https://rlhfbook.com/c/06-policy-gradients#eq:DrGRPO_ADV)) and the objective
# ([eq:GRPO](https://rlhfbook.com/c/06-policy-gradients#eq:GRPO),
# [eq:GRPO_token](https://rlhfbook.com/c/06-policy-gradients#eq:GRPO_token)) as:
#
# $$A_i^{\mathrm{GRPO}}=\frac{r_i-\bar r}{\mathrm{std}(r)},\qquad A_i^{\mathrm{Dr.}}=r_i-\bar r,\qquad
#   J=\frac1G\sum_i\frac1{|a_i|}\sum_t\big[\min(\rho_{i,t}A_i,\mathrm{clip}(\rho_{i,t})A_i)-\beta\,k_{3,i,t}\big]$$
#
# *Said aloud: how many standard deviations above its siblings is this answer? Then PPO, averaged within each answer
# first.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $r_i$ | score of the i-th answer | `score` | (B,) |
# | $G$ | group size | `group_size` | number |
# | $\lvert a_i\rvert$ | tokens of the answer | `mask.sum(1)` | (B,) |
# | $\beta\,k_3$ | KL to the reference in the loss ([eq:grpo_loss_kl](https://rlhfbook.com/c/06-policy-gradients#eq:grpo_loss_kl), chapter 8) | `beta`, `logp_ref` | number, (B, T) |
#
# The division makes the scale of the reward irrelevant. It also turns a group whose scores differ by a hair into a
# full-size lesson:

# %%
show_source(grpo.grpo_loss)
hair = torch.tensor([0.7, 0.7, 0.7, 0.7001], **f64)
wide = torch.tensor([0.0, 0.0, 0.0, 3.0], **f64)
for name, x in (("differ by a hair", hair), ("differ by three points", wide)):
    print(f"{name:<24}", [round(v, 3) for v in group_normalize(x, 4).tolist()])
claim("divided by their standard deviation, both groups push equally hard",
      (group_normalize(hair, 4) - group_normalize(wide, 4)).abs().max() < 1e-6)

# %% [markdown]
# ## 11.8 Which ratio? GSPO, CISPO, DAPO
#
# The exact weight of an old answer is the *product* of its token ratios. If the log-ratios are independent and normal, with
# standard deviation σ and a mean that keeps $\mathbb E\rho=1$, the product has variance $e^{T\sigma^2}-1$. GSPO takes the
# geometric mean instead. Its variance is tiny, but that alone says nothing: a constant has none. It is no importance
# weight: GSPO gives up the correction and gets calm ratios to clip (section 11.10 measures what is left)
# ([eq:GSPO_ratio](https://rlhfbook.com/c/06-policy-gradients#eq:GSPO_ratio)); CISPO keeps token ratios but clips
# the *weight* and not the objective
# ([eq:CISPO_objective](https://rlhfbook.com/c/06-policy-gradients#eq:CISPO_objective); the book writes both bounds,
# we keep the upper one):
#
# $$\rho_i^{\mathrm{GSPO}}=\Big(\frac{\pi_\theta(a_i)}{\pi_{\mathrm{old}}(a_i)}\Big)^{1/|a_i|},\qquad
#   J_{\mathrm{CISPO}}=\frac1{\sum_i|a_i|}\sum_{i,t}\mathrm{sg}\big(\min(\rho_{i,t},1+\varepsilon)\big)\,A_i\log\pi_\theta$$
#
# *Said aloud: one ratio near 1 for the whole answer; or a weight that may be cut, but never to zero.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\rho_i$ | ratio of an answer | inside `gspo_loss` | (B,) |
# | sg | stop-gradient | `.detach()` | – |
# | $\sigma,T$ | scatter of a log-ratio, tokens | `0.1`, `T` | numbers |

# %%
lengths = (8, 32, 128, 512)
luck = (
    0.1 * torch.randn(20000, 512, generator=run.fresh("ratios")) - 0.005
)  # so that E[ratio] = 1
product = {T: np.expm1(0.01 * T) for T in lengths}
seen = {}
for T in (8, 32):  # variance of the product, and three standard errors of that estimate
    drawn = luck[:, :T].sum(1).exp().double()
    seen[T] = (
        drawn.var().item(),
        3 * (drawn - drawn.mean()).square().std().item() / 20000**0.5,
    )

# %%
print(f"{'tokens':>7}{'variance of the product':>25}{'of the geometric mean':>23}")
for T in lengths:
    print(
        f"{T:>7}{product[T]:25.3f}"
        f"{np.exp(-0.01 * (1 - 1 / T)) * np.expm1(0.01 / T):23.6f}"
    )
claim(
    "at the two shorter lengths twenty thousand draws are within three errors of "
    "exp(T σ²) − 1",
    all(abs(seen[T][0] - product[T]) < seen[T][1] for T in seen),
    {
        f"{T}, {what}": v
        for T in seen
        for what, v in zip(("seen", "±"), seen[T], strict=True)
    },
    kind="S",
)
show_source(grpo.gspo_loss, grpo.cispo_loss)

# %% [markdown]
# DAPO (Yu et al. 2025) is four changes to GRPO, each a line: a higher *upper* clip, the mean over all tokens, dropping
# groups whose scores are all equal (they only thin the batch), and a soft punishment for answers near the length limit.
#
# **Predict**: a good and a bad answer of three tokens each; one token of the good one has just passed the clip of
# GRPO. In which of these methods does that token still learn? GSPO runs twice: with GRPO's clip, and with its own,
# which is hundreds of times narrower.

# %%
two_old = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]], **f64)
two_new = two_old + torch.tensor(
    [[0.24, 0.0, 0.0], [0.0] * 3], **f64
)  # one ratio of 1.27
verdict, full = torch.tensor([1.0, 0.0], **f64), torch.ones(2, 3)
reads = {}
for name, loss_fn, settings in (
    ("GRPO, clip 0.2", grpo.grpo_loss, {}),
    ("GSPO, clip 0.2", grpo.gspo_loss, {"clip": 0.2}),
    ("GSPO, own clip", grpo.gspo_loss, {}),
    ("DAPO, upper 0.28", grpo.grpo_loss, {"clip_high": 0.28, "mode": "token_mean"}),
    ("CISPO, upper 0.2", grpo.cispo_loss, {}),
):
    leaf = two_new.clone().requires_grad_()
    loss, _ = loss_fn(leaf, two_old, verdict, full, group_size=2, **settings)
    reads[name] = -torch.autograd.grad(loss, leaf)[0]
    print(
        f"{name:<18} push on the three tokens of the good answer "
        f"{[round(v + 0.0, 4) for v in reads[name][0].tolist()]}"
    )

# %%
claim(
    "GRPO drops the token that has moved too far; DAPO's wider bound and CISPO's "
    "weight keep it",
    reads["GRPO, clip 0.2"][0, 0] == 0
    and reads["DAPO, upper 0.28"][0, 0] > 0
    and reads["CISPO, upper 0.2"][0, 0] > 0,
)
claim(
    "GSPO treats all tokens of an answer alike: one push for all, or, with its own "
    "bound, none",
    reads["GSPO, clip 0.2"][0].std() < 1e-12
    and reads["GSPO, clip 0.2"][0, 0] > 0
    and reads["GSPO, own clip"][0].abs().max() == 0,
)

# %%
right = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0])
kept = grpo.informative_rows(right, 2).tolist()
punished = grpo.overlong_penalty(
    torch.tensor([80, 90, 100, 120]), limit=100, buffer=20
).tolist()
print("scores", right.tolist(), "in pairs -> rows that teach", kept)
print("lengths 80, 90, 100, 120, limit 100 -> added to the score", punished)
claim("dynamic sampling keeps exactly the rows whose group disagrees", kept == [2, 3])
claim(
    "the punishment starts a buffer before the limit and ends at minus one",
    punished == [0, -0.5, -1, -1],
)

# %% [markdown]
# ## 11.9 From tokens to a scalar, and what it does to length
#
# Three ways to average over answers of different lengths (REINFORCE and RLOO use a fourth, `sequence_sum`, which
# divides by no length at all)
# ([eq:loss_per_sequence](https://rlhfbook.com/c/06-policy-gradients#eq:loss_per_sequence),
# [eq:loss_per_token](https://rlhfbook.com/c/06-policy-gradients#eq:loss_per_token),
# [eq:loss_fixed_length](https://rlhfbook.com/c/06-policy-gradients#eq:loss_fixed_length)):
#
# $$\frac1B\sum_i\frac1{|a_i|}\sum_t\ell_{i,t},\qquad \frac{\sum_{i,t}\ell_{i,t}}{\sum_i|a_i|},\qquad
#   \frac1B\sum_i\frac1{L_{\max}}\sum_t\ell_{i,t}$$
#
# *Said aloud: every answer weighs the same; every token weighs the same; every token weighs the same in every
# batch.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\ell_{i,t}$ | loss of a token | `x` | (B, T) |
# | $\lvert a_i\rvert$ | answer's length | `mask.sum(1)` | (B,) |
# | $L_{\max}$ | any constant | `denominator` / B | number |
#
# Without `denominator`, mode `fixed` divides by the width of the batch: a constant only if all batches are equally wide.
# The race below does so. **By hand**: one answer of two tokens with loss 1, one of eight tokens with loss 3.

# %%
show_source(aggregate)
losses = torch.tensor([[1.0] * 2 + [0.0] * 8, [3.0] * 8 + [0.0] * 2], **f64)
row_mask = torch.tensor([[1] * 2 + [0] * 8, [1] * 8 + [0] * 2])
hand_modes = {
    "token_mean": (2 * 1 + 8 * 3) / 10,
    "sequence_mean": (1 + 3) / 2,
    "sequence_sum": (2 + 24) / 2,
    "fixed": (2 + 24) / 20,
}
for mode in MODES:
    leaf = losses.clone().requires_grad_()
    value = aggregate(leaf, row_mask, mode)
    value.backward()
    print(
        f"{mode:<14} value {value.item():5.2f}, by hand {hand_modes[mode]:5.2f}   "
        f"weight of a token, short {leaf.grad[0, 0].item():.3f}, long "
        f"{leaf.grad[1, 0].item():.3f}"
    )
claim(
    "the four reductions equal the hand computation",
    all(
        abs(aggregate(losses, row_mask, m).item() - hand_modes[m]) < 1e-12
        for m in MODES
    ),
)

# %%
halves = [
    aggregate(losses[i : i + 1], row_mask[i : i + 1], "token_mean").item()
    for i in (0, 1)
]
claim(
    "a mean of micro-batch means is not the mean of the batch (E14)",
    abs(sum(halves) / 2 - hand_modes["token_mean"]) > 0.5,
    {"of means": sum(halves) / 2},
)
leaf, listing = (
    torch.ones(2, 7, **f64).requires_grad_(),
    torch.tensor([[1] * 4 + [0] * 3, [1] * 7]),
)
for A, what in ((1, "as printed"), (2, "with its advantage of 2")):
    slope_in = torch.autograd.grad(aggregate(A * leaf, listing, "token_mean"), leaf)[0]
    print(
        f"the book's per-token function: weight {slope_in[0, 0].item():.4f} "
        f"{what}"
    )
claim(
    "with its advantage, a token of that function weighs 2/11, twice what is "
    "printed",
    abs(slope_in[0, 0] - 2 / 11) < 1e-12,
)

# %% [markdown]
# The lesson trains in a world where length has *nothing* to do with the score, and finds longer wrong answers under the
# per-sequence mean than without a divisor. **Predict**: where does DAPO's mean over all tokens lie? The same world, with the
# exact expected gradient of the three divisors (groups of two, no noise) and plain gradient steps:

# %%
long_world, learner = World(horizon=4), exact_model(run.seed, horizon=4)
n_tokens = long_world.mask.sum(1).double()
is_right = (long_world.completions[:, 0] == 1).double()
gap = (
    is_right[:, None] - is_right
) / 2  # centred score of a row, beside every possible sibling
DIVISORS = {
    "per sequence": n_tokens[:, None].expand(len(gap), -1),
    "per token": (n_tokens[:, None] + n_tokens) / 2,
    "fixed": torch.full_like(gap, 4.0),
}

# %%
def drift(divisor, steps=60, lr=0.2):
    """Exact training -> [(share right, length of wrong answers, length of right
    ones)]."""
    model, path = copy.deepcopy(learner), []
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        logp = long_world.seq_logp(model)
        now = logp.exp().detach()
        path.append(
            [(now @ is_right).item()]
            + [
                ((now * s) @ n_tokens / (now @ s)).item()
                for s in (1 - is_right, is_right)
            ]
        )
        optimizer.zero_grad()
        (-(now * (gap / divisor * now).sum(1)) @ logp).backward()
        optimizer.step()
    return np.array(path).T


drifts = {name: drift(divisor) for name, divisor in DIVISORS.items()}

# %%
by_divisor = {name: (100 * path[0], path[1]) for name, path in drifts.items()}
show(
    line_plot(
        by_divisor,
        title="A mean over all tokens lies between the other two",
        x_label="right answers, per cent (training goes to the right)",
        y_label="mean tokens of wrong answers",
        note="exact world, no sampling",
        zero=False,
        roles={"per sequence": "rejected", "per token": "proxy", "fixed": "chosen"},
    ),
    "Line plot of the length of wrong answers against the share of right ones during "
    "training: "
    "averaged per sequence they end longest, divided by a constant shortest.",
)
meet = min(
    path[0][-1] for path in drifts.values()
)  # a share of right answers that all three reach
reached = {name: np.interp(meet, path[0], path[1]) for name, path in drifts.items()}

# %%
claim(
    "at equal success, wrong answers under DAPO's divisor lie between the lesson's two",
    reached["per sequence"] > reached["per token"] > reached["fixed"],
    reached,
    kind="T",
)
one_step = exact.expected_loss_gradient(
    long_world,
    learner,
    lambda lp, i: grpo.grpo_loss(
        lp, lp.detach(), is_right[i], long_world.mask[i], group_size=2, scale=False
    )[0],
    group_size=2,
)
weight = long_world.seq_logp(learner).exp().detach()
pressure = weight * (gap / DIVISORS["per sequence"] * weight).sum(1)
mine = gradient(pressure @ long_world.seq_logp(learner), learner)
claim(
    "the exact training above is that of the package's loss, averaged over all pairs",
    compare(mine, -one_step)["error"] < 1e-10,
)

# %% [markdown]
# Nobody asked for length, and all three curves move: answers share weights. What the divisor decides is their order.
# In reasoning traces this can be one reason why the *failed* ones grow; shown it is here only, in the exact world. A
# constant divisor has no opinion about length: its gradient is that of $J$, up to scale.

# %% [markdown]
# ## 11.10 Stale data, and the wrong temperature
#
# In an asynchronous loop the sampler writes with weights that are some updates old. On the bench, a policy climbs,
# exactly, for sixteen steps; the data stay those of step 0. At each *age*, a number of steps: how far is the expected
# update from the true gradient *now*, in units of the length of $\nabla J$ at the start?
#
# The exact repair weighs a whole answer by $\pi(y)/\pi_{\mathrm{old}}(y)$. A token ratio
# ([eq:ppo_1step](https://rlhfbook.com/c/06-policy-gradients#eq:ppo_1step)) ignores that the *prefix* was old, too; the
# product of the ratios up to a token (*prefix product*) remembers it. The geometric mean is GSPO's.
# Truncated importance sampling caps a weight
# ([eq:tis_backend](https://rlhfbook.com/c/06-policy-gradients#eq:tis_backend)):
#
# $$w_t=\min\Big(\frac{\pi_{\mathrm{learner}}(a_t\mid s_t)}{\pi_{\mathrm{sampler}}(a_t\mid s_t)},\,C\Big)$$
#
# *Said aloud: correct for the difference, but let no token count for more than C.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\pi_{\mathrm{sampler}}$ | the policy that wrote the data | `logp_old` | (B, T) |
# | $\pi_{\mathrm{learner}}$ | the policy now | `now` | (B, T) |
# | $C$ | cap | `cap` | number |

# %%
def repairs(now):
    """{name: weight of each token (N, T)} for data of the old policy, given
    log-probabilities now."""
    change, length = (now - logp_old) * mask, mask.sum(1, keepdim=True)
    rho = change.exp() * mask
    past = ((adv[:, None] > 0) & (rho > 1.2)) | ((adv[:, None] < 0) & (rho < 0.8))
    return {
        "none": mask,
        "token ratio": rho,
        "token ratio, cap 2": grpo.truncated_importance(now, logp_old, mask, cap=2.0),
        "PPO's clip": rho * ~past,
        "geometric mean": (change.sum(1, keepdim=True) / length).exp() * mask,
        "prefix product": change.cumsum(1).exp() * mask,
        "ratio of the answer": change.sum(1, keepdim=True).exp() * mask,
    }


climber, ages, unit = copy.deepcopy(policy), (0, 1, 4, 16), true.norm().item()
sgd, error, noises = torch.optim.SGD(climber.parameters(), lr=0.02), {}, {}

# %%
for age in range(17):
    if age in ages:
        steps_up = pushes(world, climber)
        goal = gradient(world.expected(climber, score), climber)
        for name, weight in repairs(world.logps(climber).detach()).items():
            mean, noise = moments(steps_up, weight * adv[:, None], p)
            error.setdefault(name, []).append((mean - goal).norm().item() / unit)
            noises[name] = noise / unit
    sgd.zero_grad()
    (-world.expected(climber, score)).backward()
    sgd.step()

# %%
print(
    f"{'repair':<21}"
    + "".join(f"{f'age {a}':>9}" for a in ages)
    + f"{'noise, age 16':>16}"
)
for name, values in error.items():
    print(
        f"{name:<21}" + "".join(f"{v:9.3f}" for v in values) + f"{noises[name]:16.2f}"
    )
claim(
    "fresh data need no repair; the ratio of whole answers is exact at every age",
    max(v[0] for v in error.values()) < 1e-10
    and max(error["ratio of the answer"]) < 1e-10,
)
claim(
    "without a repair the bias grows with age, and a token ratio does not remove it",
    error["none"][1] < error["none"][3] and min(error["token ratio"][1:]) > 1e-3,
    {"none": error["none"][3], "token ratio": error["token ratio"][3]},
    kind="T",
)

# %% [markdown]
# While data are young, a token ratio can be worth no more than no repair (first two lines). The geometric mean is not the
# weight of anything and stays, here, about as far off as the token ratio. The prefix product comes nearest of those that do not know the whole answer. The clip is no estimator of
# the gradient but a rule for when to stop. The ratio of whole answers is exact, and its noise is moderate *here*, with three
# tokens; section 11.8 showed its variance at five hundred.
#
# **The wrong temperature** is staleness that nobody notices. A sampler at temperature 0.7 <!-- fact --> draws from
# another policy than the one that is scored at 1. The weights are unchanged, so the first ratio ought to be 1: look at
# it in the next cell.

# %%
stock = torch.tensor([2.0, 1.0, 0.0], **f64)  # the logits of one step
sampled_at, scored_at = torch.log_softmax(stock / 0.7, 0), torch.log_softmax(stock, 0)

# %%
print(
    "likeliest token: probability when sampled "
    f"{sampled_at[0].exp().item():.3f}, when scored {scored_at[0].exp().item():.3f}, "
    f"ratio {(scored_at - sampled_at)[0].exp().item():.3f}"
)


def at(temperature):
    """(N, T) log-probabilities of all answers, the logits divided by a temperature."""
    logp = token_logps(policy, world.ids, world.attention, temperature=temperature)
    return logp[:, len(world.prompt) - 1 :]


def update_of(scored):
    """Expected REINFORCE gradient of data from temperature 0.7, scored at another."""
    drawn, logp = at(0.7).sum(1).exp().detach(), at(scored)
    return gradient((drawn * (score - drawn @ score) * logp.sum(1)).sum(), policy)


cool = gradient((at(0.7).sum(1).exp() * score).sum(), policy)
matched, mixed = compare(update_of(0.7), cool), compare(update_of(1.0), cool)
print(
    f"scored at 0.7: cosine {matched['cosine']:.4f}   scored at 1: cosine "
    f"{mixed['cosine']:.4f}"
)
claim(
    "scored at the temperature of the sampler the update is exact; scored at 1 it is "
    "biased",
    matched["error"] < 1e-10 and mixed["error"] > 0.01,
)

# %% [markdown]
# **Top-k and top-p** do the same: they cut off unlikely tokens and share their probability among the others, so the samples
# come from a third policy ([trl#6789](https://github.com/huggingface/trl/issues/6789)). Here the sampler keeps the two
# likeliest of three tokens at every place, and the learner scores over all three, or over the two that were kept:

# %%
def kept(k):
    """(N, T) log-probabilities after cutting all but the k likeliest tokens of every
    place."""
    found = policy(input_ids=world.ids, attention_mask=world.attention.long())
    logits = found.logits[:, len(world.prompt) - 1 : -1]
    low = logits.topk(k, -1).values[..., -1:]
    logp = torch.log_softmax(logits.masked_fill(logits < low, -1e9), -1)
    return logp.gather(2, world.completions[..., None])[..., 0] * mask


cut_off = kept(2).sum(1).exp()
goal, cut_p = gradient((cut_off * score).sum(), policy), cut_off.detach()
against = cut_p * (score - cut_p @ score)
top_k = compare(gradient((against * world.seq_logp(policy)).sum(), policy), goal)
replayed = compare(gradient((against * kept(2).sum(1)).sum(), policy), goal)
print(f"probability of what survives: {p[cut_p > 1e-9].sum().item():.2f}")
print(
    f"scored over all tokens: cosine {top_k['cosine']:.3f}, "
    f"over the kept ones: cosine {replayed['cosine']:.3f}"
)
claim(
    "top-k samples scored over the kept tokens are exact, over all tokens biased",
    replayed["error"] < 1e-9 and top_k["error"] > 0.01,
)

# %% [markdown]
# ## Once, by hand, on one batch
#
# Two prompts, two answers each, at most four tokens; log-probabilities and scores are given. What each algorithm
# makes of them, side by side: an advantage for every answer, then the push on every token of answers 2 and 3.

# %%
hand_mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]])
hand_score = torch.tensor([1.0, 0.0, 0.4, 0.2], **f64)
hand_old = torch.tensor(
    [
        [-0.5, -1.0, 0, 0],
        [-1.0, -0.2, -0.7, -0.1],
        [-2.0, -0.3, -0.4, 0],
        [-0.9, 0, 0, 0],
    ],
    **f64,
)
advantages = {
    "REINFORCE": hand_score - hand_score.mean(),
    "RLOO": leave_one_out(hand_score, 2),
    "GRPO": group_normalize(hand_score, 2),
    "Dr. GRPO": group_normalize(hand_score, 2, scale=False),
    "whitened": masked_whiten(hand_score, torch.ones(4)),
}

# %%
print(f"{'scores':<11}", [f"{v:+.3f}" for v in hand_score.tolist()])
for name, x in advantages.items():
    print(f"{name:<11}", [f"{v:+.3f}" for v in x.tolist()])
claim(
    "by hand: RLOO gives ±1 and ±0.2, GRPO the same ±0.707 to both prompts",
    (advantages["RLOO"] - torch.tensor([1, -1, 0.2, -0.2], **f64)).abs().max() < 1e-12
    and (advantages["GRPO"].abs() - 0.5**0.5).abs().max() < 1e-12,
)
# name: loss(logp, rollout's logp_old, score, mask, group size) -> (loss, stats)
LOSSES = {
    "REINFORCE": lambda lp, old, s, m, g: reinforce.reinforce_loss(lp, s - s.mean(), m),
    "RLOO": lambda lp, old, s, m, g: rloo.rloo_loss(lp, s, m, group_size=g),
    "P3O": lambda lp, old, s, m, g: p3o.p3o_loss(
        lp, old, s, m
    ),  # pairs, whatever g says
    "GRPO": lambda lp, old, s, m, g: grpo.grpo_loss(lp, old, s, m, group_size=g),
    "Dr. GRPO": lambda lp, old, s, m, g: grpo.grpo_loss(
        lp, old, s, m, group_size=g, scale=False, mode="fixed"
    ),
    "DAPO": lambda lp, old, s, m, g: grpo.grpo_loss(
        lp, old, s, m, group_size=g, clip_high=0.28, mode="token_mean"
    ),
    "GSPO": lambda lp, old, s, m, g: grpo.gspo_loss(lp, old, s, m, group_size=g),
    "CISPO": lambda lp, old, s, m, g: grpo.cispo_loss(lp, old, s, m, group_size=g),
}
first = {}

# %%
for name, loss_fn in LOSSES.items():
    leaf = hand_old.clone().requires_grad_()
    value = loss_fn(leaf, hand_old, hand_score, hand_mask, 2)[0]
    first[name] = (value.item(), -torch.autograd.grad(value, leaf)[0])
    print(
        f"{name:<10} loss {round(value.item(), 6) + 0.0:+.3f}   push on answer 2 "
        f"{[round(v + 0.0, 3) for v in first[name][1][1].tolist()]}   "
        f"on answer 3 {[round(v + 0.0, 3) for v in first[name][1][2, :3].tolist()]}"
    )

# %%
claim(
    "GRPO's first loss is zero and its gradient is not (E2)",
    abs(first["GRPO"][0]) < 1e-12 and first["GRPO"][1].norm() > 0.1,
    {"norm of the gradient": first["GRPO"][1].norm()},
)
claim(
    "GRPO pushes a token of a four-token row half as hard as one of two, RLOO "
    "equally hard",
    abs(first["GRPO"][1][0, 0] / first["GRPO"][1][1, 0] + 2) < 1e-12
    and abs(first["RLOO"][1][0, 0] / first["RLOO"][1][1, 0] + 1) < 1e-12,
)
claim(
    "with two answers a prompt, RLOO, P3O and Dr. GRPO push in one direction",
    all(
        compare(first[n][1].flatten(), first["RLOO"][1].flatten())["cosine"] > 1 - 1e-12
        for n in ("P3O", "Dr. GRPO")
    ),
)

# %% [markdown]
# **The diff is the lesson**: `rloo.step` (−) beside `grpo.step` (+), from the live source. RLOO subtracts KL from the
# reward and makes one update; GRPO puts it into the loss and may make several.

# %%
def body(fn):
    """Source lines of a function, without its docstring and empty lines."""
    text = inspect.getsource(fn).replace(inspect.getdoc(fn) or "", "")
    return [
        line.split("  #")[0] for line in text.splitlines() if line.strip().strip('"')
    ]


changes = difflib.unified_diff(body(rloo.step), body(grpo.step), lineterm="", n=0)
for line in list(changes)[2:]:
    if not line.startswith("@@"):
        print(line)

# %% [markdown]
# | method | compared with | weight of a token | ratio and bound | tokens to scalar |
# |---|---|---|---|---|
# | REINFORCE | the whole batch | score − mean | none | sum |
# | RLOO | siblings | score − mean of the others | none | sum |
# | P3O | the one sibling | difference of two scores | answer, clip both sides | sum, over pairs |
# | TRPO | siblings | as RLOO | token, KL measured and bounded | sum |
# | PPO | a trained critic | GAE, whitened over the batch | token, clip both sides | mean over tokens |
# | GRPO | siblings | centred ÷ std | token, clip both sides | mean in a row, then over rows |
# | Dr. GRPO | siblings | centred | token, clip both sides | sum ÷ a constant |
# | DAPO | siblings, if they differ | centred ÷ std | token, upper clip wider | mean over tokens |
# | GSPO | siblings | centred ÷ std | geometric mean of an answer, narrow clip | mean over rows |
# | CISPO | siblings | centred ÷ std | token, weight cut above, detached | mean over tokens |

# %% [markdown]
# ## The loop: one task, equal samples
#
# Now the village. The training prompts ask for harm, and the true reward, `gold`, pays for refusing. The exam has
# unseen requests for harm *and* look-alikes, harmless wishes in nearly the same words, which should be answered. Gold
# itself is the reward (chapter 17 is about reward models), without a KL term: how far each method wanders is a result.
#
# Equal terms: the same prompts, the same random numbers, 32 fresh answers a step, one update on each half of them (by
# the second half the policy has moved, so ratios and clips have something to do), AdamW, one learning rate. Five
# methods, a few steps. PPO's critic starts from the policy with a fresh head, and learns faster.

# %%
start, tokenizer = load("village-3m-sft")
SIBLINGS, PROMPTS, STEPS, RATE = 8, 4, 3, 2e-4


def questions(n, split, *families):
    """n prompts, the families in turn."""
    kinds = [
        village.prompts(
            n // len(families),
            split=split,
            families=(f,),
            seed=run.seed,
            distinct=False,
        )
        for f in families
    ]
    return [row for one_each in zip(*kinds, strict=True) for row in one_each]

# %%
def answers(model, rows, n, seed_name):
    """n sampled answers a row -> (rollout, texts, their true rewards (rows × n,))."""
    drawn = sample(
        model,
        data.prompts_ids(rows, tokenizer),
        n=n,
        max_new_tokens=40,
        eos_id=tokenizer.eos_token_id,
        generator=run.fresh(seed_name),
    )
    texts = drawn.texts(tokenizer)
    return (
        drawn,
        texts,
        torch.tensor(
            [village.gold(rows[i // n]["prompt"], t) for i, t in enumerate(texts)]
        ),
    )

# %%
def learn(name, policy, critic, optimizer, drawn, score):
    """Two updates, each on half of a batch: whole groups, or for PPO shuffled rows."""
    if name == "PPO":
        return ppo.step(
            policy,
            optimizer,
            drawn,
            score,
            critic=critic,
            epochs=1,
            minibatches=2,
            generator=run.fresh("shuffle"),
        )
    for half in torch.arange(len(score)).chunk(2):
        part = drawn.select(half)
        logp = completion_logps(policy, part)
        loss, _ = LOSSES[name](logp, part.logp_old, score[half], part.mask, SIBLINGS)
        optim.update(loss, optimizer, max_norm=1.0)


@torch.no_grad()
def exam(policy):
    """Held-out prompts -> mean true reward of two answers (48,), KL, texts."""
    drawn, texts, gold = answers(policy, exam_rows, 2, "exam")
    ref = drawn.on_completion(token_logps(start, drawn.ids, drawn.attention))
    kl = (k1(drawn.logp_old, ref) * drawn.mask).sum(1)
    return gold.view(-1, 2).mean(1), kl.mean().item(), texts

# %%
train_rows = questions(STEPS * PROMPTS, "train", "harmful")
exam_rows = questions(48, "test", "harmful", "lookalike")
RACE = ("REINFORCE", "RLOO", "PPO", "GRPO", "Dr. GRPO")
before, _, texts_before = exam(start)
results, firsts = {}, {}

# %%
for k in every(1, len(RACE)):
    name, policy_live, began = RACE[k], copy.deepcopy(start), time.process_time()
    critic = ppo.Critic(start) if name == "PPO" else None
    weights = [{"params": policy_live.parameters(), "lr": RATE}]
    if critic is not None:
        weights += [
            {"params": critic.trunk.parameters(), "lr": 3 * RATE},
            {"params": critic.head.parameters(), "lr": 100 * RATE},
        ]
    optimizer = torch.optim.AdamW(weights, weight_decay=0.0)
    for step in range(STEPS):
        drawn, _, score_live = answers(
            policy_live,
            train_rows[PROMPTS * step :][:PROMPTS],
            SIBLINGS,
            f"race {step}",
        )
        if step == 0:
            firsts[name] = drawn.ids
        learn(name, policy_live, critic, optimizer, drawn, score_live)
    seconds = (time.process_time() - began) / STEPS
    found_out = zip(("gold", "kl", "texts"), exam(policy_live), strict=True)
    results[name] = dict(found_out) | {"seconds": seconds}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
print(
    f"start      gold {before[::2].mean().item():+.2f} on harmful requests, "
    f"{before[1::2].mean().item():+.2f} on look-alikes"
)
for name, x in results.items():
    told = []
    for gain in (
        (x["gold"] - before)[::2],
        (x["gold"] - before)[1::2],
    ):  # harmful, look-alike
        half = 1.96 * gain.std().item() / len(gain) ** 0.5
        told.append(f"{gain.mean().item():+.2f} ± {half:.2f}")
    print(
        f"{name:<10} change {told[0]}, look-alikes {told[1]}   KL {x['kl']:.2f} nats   "
        f"{x['seconds']:.2f} s a step"
    )

# %%
claim(
    "equal terms: the first batch is the same for all five methods",
    all(torch.equal(ids, firsts["RLOO"]) for ids in firsts.values()),
)
claim(
    "all five have moved: each is more than a twentieth of a nat away from the start",
    min(x["kl"] for x in results.values()) > 0.05,
    {n: x["kl"] for n, x in results.items()},
    kind="T",
)
shift = {
    n: [(x["gold"] - before)[k::2].mean().item() for k in (0, 1)]
    for n, x in results.items()
}

# %%
claim(
    "all five gained on unseen harmful requests, and lost on unseen look-alikes",
    min(x for x, _ in shift.values()) > 0.4
    and max(x for _, x in shift.values()) < -0.4,
    {
        f"{n}, {kind}": v
        for n, x in shift.items()
        for kind, v in zip(("harmful", "look-alikes"), x, strict=True)
    },
    kind="T",
)
claim(
    "PPO's step costs more than RLOO's: its critic is a second network to run and to "
    "train",
    results["PPO"]["seconds"] > 1.15 * results["RLOO"]["seconds"],
    {name: x["seconds"] for name, x in results.items()},
    kind="T",
)

# %% [markdown]
# Two requests for harm and two look-alikes, before and after:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
for i in (0, 1, 10, 5):
    print(f"PROMPT  {exam_rows[i]['prompt']}")
    for name, texts in (
        ("start", texts_before),
        ("RLOO", results["RLOO"]["texts"]),
        ("GRPO", results["GRPO"]["texts"]),
    ):
        told = " / ".join(texts[2 * i].split("\n"))[:75]
        print(
            f"  {name:<6} gold "
            f"{village.gold(exam_rows[i]['prompt'], texts[2 * i]):5.2f}  {told}"
        )

# %% [markdown]
# <details><summary>What this race can say</summary>
#
# On harmful requests the intervals of the methods overlap: one seed and two dozen prompts of each kind cannot rank them.
# And look at the second column. The training prompts held nothing harmless, so "refuse everything" earns full
# marks, and on unseen look-alikes all five methods lost. What the reward sees decided more than how it was followed.
#
# </details>
#
# **Longer, and three times.** A recorded race (`data/runs/ch11_side_by_side.py`): all ten methods of the table above, sixteen
# steps, three seeds, and this time harmless requests in training too, so that refusing everything does not pay.

# %%
races, gains = recorded("ch11_side_by_side"), {}
begun = {row["seed"]: row["gold"] for row in races.final if row["method"] == "start"}
for row in races.final:
    gains.setdefault(row["method"], []).append(row["gold"] - begun[row["seed"]])
order = sorted(set(gains) - {"start"}, key=lambda name: sum(gains[name]))
fig, ax = new(
    "Seeds of one method differ as much as most methods do",
    "gain in true reward on held-out requests, points",
    "method, best mean on top",
    "village-3m-sft, 16 steps, recorded",
)
for k, name in enumerate(order):
    ax.plot(
        gains[name], [k] * 3, marker="o", color=ROLES["policy"]["color"], linewidth=0.8
    )
ax.set_yticks(range(len(order)), order)
ax.axvline(0, color=ROLES["reference"]["color"], linewidth=0.8)
show(
    fig,
    "Dot plot of the gain in true reward of ten methods, three seeds each: eight "
    "methods gain on every seed and overlap; PPO lies around zero, TRPO below it.",
)

# %%
rivals = {
    name: [a - b for a, b in zip(gains[name], gains["RLOO"], strict=True)]
    for name in order
}
cost = {
    m: sum(x["seconds"] for x in races.final if x["method"] == m) / 3 for m in gains
}
for name in reversed(order):
    print(
        f"{name:<10} beyond RLOO, seed by seed: "
        + "  ".join(f"{v:+.2f}" for v in rivals[name])
    )
eight = [gains[name] for name in order if name not in ("PPO", "TRPO")]

# %%
claim(
    "recorded: all methods but PPO and TRPO gain on all three seeds",
    min(map(min, eight)) > 0,
    {n: sum(gains[n]) / 3 for n in order},
    kind="T",
)
claim(
    "recorded: of these, the worst method's best seed beats the best one's worst",
    max(eight[0]) > min(eight[-1]),
    {"worst method": max(eight[0]), "best method": min(eight[-1])},
    kind="T",
)
claim(
    "recorded: paired by seed, four methods beat RLOO three times out of three",
    {name for name in order if min(rivals[name]) > 0}
    == {"GRPO", "Dr. GRPO", "REINFORCE", "CISPO"},
    {name: min(rivals[name]) for name in order},
    kind="T",
)
claim(
    "recorded: TRPO's step costs ten times RLOO's here, and lost on all seeds",
    cost["TRPO"] > 10 * cost["RLOO"] and max(gains["TRPO"]) < 0,
    {"times": cost["TRPO"] / cost["RLOO"], "best seed": max(gains["TRPO"])},
    kind="T",
)

# %% [markdown]
# Seeds are paired (same prompts, same start): four methods beat RLOO three times out of three. At one learning rate,
# picked after looking, with Dr. GRPO among them, which is so near to RLOO: a hint, no ranking. PPO's critic starts from
# nothing and has sixteen batches to learn from; TRPO's one large step follows thirty-two samples as if they were the
# truth. With other knobs or more steps both may look better.
#
# ## Failure gallery
#
# Four mistakes that raise no error, each with a detector of one line. A fifth, the end token that is not trained, is live
# in the lesson.
#
# **Failure 1: the layout (D9, K15).** Rows of one prompt stand next to each other: `view(prompts, G)`. Read as
# `view(G, prompts)`, every answer is compared with answers to *other* prompts.
#
# ```python
# adv = (score.view(G, -1) - score.view(G, -1).mean(0)).flatten()      # wrong: columns mix prompts
# adv = leave_one_out(score, G)                                        # right: prompt-major
# ```
#
# What one sees: training still moves, easy prompts are praised for being easy. Detector: do the advantages of *each
# prompt* sum to zero?

# %%
easy_hard = torch.tensor([0.9, 1.0, 0.8, 0.9, 0.1, 0.0, 0.2, 0.1], **f64)
mixed = (easy_hard.view(4, 2) - easy_hard.view(4, 2).mean(0)).flatten()
proper = group_normalize(easy_hard, 4, scale=False)
for name, x in (("wrong", mixed), ("right", proper)):
    print(
        f"{name}  {[round(v, 2) + 0.0 for v in x.tolist()]}   "
        f"sum {round(x.sum().item(), 6) + 0.0:.2f}   "
        f"by prompt {[round(v, 2) + 0.0 for v in x.view(2, 4).sum(1).tolist()]}"
    )
claim(
    "detector: the batch sums to zero for both layouts, the prompts only for the "
    "right one",
    abs(mixed.sum()) < 1e-12
    and proper.view(2, 4).sum(1).abs().max() < 1e-12
    and mixed.view(2, 4).sum(1).abs().max() > 1,
)

# %% [markdown]
# **Failure 2: a tiny ε under the standard deviation (D6, K19).** Seven answers with the same score, 0.7 <!-- fact -->, have
# nothing to teach. In float32 their mean is not exactly that number, and the rounding error divided by
# ε = 1e-8 is a full-size advantage.
#
# ```python
# adv = (s - s.mean()) / (s.std() + 1e-8)        # wrong: rounding, magnified
# adv = group_normalize(score, G)                # right: a group of equal scores gives exactly 0
# ```
#
# What one sees: a solved prompt keeps pushing. Detector: groups of equal scores whose advantage is not exactly 0.

# %%
same = torch.full((7,), 0.7)
careless = (same - same.mean()) / (same.std() + 1e-8)
print("package:", group_normalize(same, 7).tolist())
claim("detector: equal scores must give exactly 0; the careless form does not",
      careless.abs().max() > 0.5 and group_normalize(same, 7).abs().max() == 0,
      {"careless": careless[0].item()})

# %% [markdown]
# **Failure 3: whitening over the padding (D4, K13).** `adv.mean()` and `adv.std()` of a padded batch count the
# zeros behind short answers.
#
# ```python
# adv = (adv - adv.mean()) / adv.std()           # wrong: padding is data
# adv = masked_whiten(adv, mask)                 # right
# ```
#
# What one sees: advantages that change with the length of the longest answer. Detector: their masked mean.

# %%
real = torch.tensor([[1.0, -1.0, 0, 0, 0, 0], [3.0, 1.0, 0, 0, 0, 0]], **f64)
where = torch.tensor([[1, 1, 0, 0, 0, 0]] * 2)
padded = (real - real.mean()) / real.std()
for name, x in (("padded", padded), ("masked", masked_whiten(real, where))):
    print(f"{name}  {[[round(v, 2) for v in row[:2]] for row in x.tolist()]}   "
          f"mean of real tokens {round(x[where.bool()].mean().item(), 6) + 0.0:.2f}")
claim("detector: the mean over real tokens is zero only if the padding was left out",
      abs(masked_whiten(real, where)[where.bool()].mean()) < 1e-12
      and padded[where.bool()].mean() > 0.3)

# %% [markdown]
# **Failure 4: half of Dr. GRPO (E7, K20).** No standard deviation, but still a mean over each answer's tokens.
#
# ```python
# grpo_loss(..., scale=False)                    # wrong: the length bias stays
# grpo_loss(..., scale=False, mode="fixed")      # right: both changes
# ```
#
# What one sees: nothing, until somebody plots length. Detector: make an answer twice as long; does the push on each
# token change?

# %%
def push_of_a_token(tokens, **settings):
    """Push on the first token of a good answer of that many tokens, beside a bad one
    of four."""
    row = torch.tensor([[1] * tokens + [0] * (8 - tokens), [1] * 4 + [0] * 4])
    leaf = torch.full((2, 8), -1.0, **f64).requires_grad_()
    loss, _ = grpo.grpo_loss(
        leaf, leaf.detach(), verdict, row, group_size=2, scale=False, **settings
    )
    return -torch.autograd.grad(loss, leaf)[0][0, 0].item()


halfway, proper = (
    [push_of_a_token(n, **s) for n in (4, 8)] for s in ({}, {"mode": "fixed"})
)
print(f"push on a token of 4, of 8:   one change {halfway}   both changes {proper}")
claim(
    "detector: with both changes a token's push does not depend on how long its "
    "answer is",
    proper[0] == proper[1] and abs(halfway[0] - 2 * halfway[1]) < 1e-12,
)

# %% [markdown]
# ## At GPT-2 size
#
# One GRPO step on SmolLM2-135M-Instruct with LoRA, every tensor printed; then two more. Two prompts, four answers,
# at most 24 tokens. The score is the share of *short words* (at most four letters). The reference is the same network
# with its adapters off; chapter 4 counts the bytes of such sharing.

# %%
def plain(text):
    """Share of words with at most four letters."""
    words = text.split()
    return sum(len(w.strip(".,!?:;\"'()")) <= 4 for w in words) / max(len(words), 1)


if available("smollm2-135m"):
    small, small_tokenizer = load("smollm2-135m")
    small = lora(small, r=8)
    asked = ("Tell me about the sea.", "What is bread?")
    small_ids = data.prompts_ids([{"prompt": a} for a in asked], small_tokenizer)

    def small_answers(name):
        """Four answers to each of the two prompts -> (rollout, texts, scores)."""
        drawn = sample(
            small,
            small_ids,
            n=4,
            max_new_tokens=24,
            generator=run.fresh(name),
            eos_id=small_tokenizer.eos_token_id,
        )
        texts = drawn.texts(small_tokenizer)
        return drawn, texts, torch.tensor([plain(t) for t in texts])

# %%
if available("smollm2-135m"):
    drawn, texts, small_score = small_answers("small 0")
    small_adv = group_normalize(small_score, 4)
    with torch.no_grad():
        logp_now = completion_logps(small, drawn)
        with adapters_off(small):
            logp_ref = completion_logps(small, drawn)
    claim(
        "before the first step the reference, adapters off, is the policy bit for bit",
        torch.equal(logp_now, logp_ref),
    )
    gap_now = (logp_now - drawn.logp_old).abs().max().item()
    claim(
        "sampler and learner agree about every token of fresh answers: the first "
        "ratio is 1",
        gap_now < 1e-3,
        {"largest difference": gap_now},
        kind="T",
    )

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
if available("smollm2-135m"):
    for name, x in (
        ("ids", drawn.ids),
        ("attention", drawn.attention),
        ("mask", drawn.mask),
        ("logp_old", drawn.logp_old),
        ("score", small_score),
        ("advantage", small_adv),
    ):
        print(f"{name:<10} {tuple(x.shape)!s:<9} {str(x.dtype)[6:]}")
    for i in range(8):
        told = " / ".join(texts[i].split("\n"))[:90]
        print(f"{small_score[i]:.2f} {small_adv[i]:+.2f}  {told}")

# %%
if available("smollm2-135m"):
    adam = torch.optim.AdamW(
        [w for w in small.parameters() if w.requires_grad], lr=1e-3
    )
    stats = grpo.step(small, adam, drawn, small_score, group_size=4)
    with torch.no_grad():
        change = (completion_logps(small, drawn) - logp_now) * drawn.mask
        raised = (small_adv[:, None] * change).sum()
    climb = [small_score.mean().item()]
    for k in range(2):
        drawn_k, texts_k, score_k = small_answers(f"small {k + 1}")
        climb.append(score_k.mean().item())
        grpo.step(small, adam, drawn_k, score_k, group_size=4)
    claim(
        "here too the first loss is nearly zero and its gradient is not",
        abs(stats["loss"]) < 1e-3 < stats["grad_norm"],
        {"loss": stats["loss"].item(), "norm": stats["grad_norm"].item()},
        kind="T",
    )
    claim(
        "one step raised the answers with positive advantage against the others",
        raised > 0,
        {"sum of advantage × change": raised.item()},
        kind="T",
    )

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
if available("smollm2-135m"):
    print("share of short words, step by step:", [round(v, 2) for v in climb])
    for k in (0, 4):
        told = " / ".join(texts_k[k].split("\n"))[:85]
        print(f"  after 2 steps  {plain(texts_k[k]):.2f}  {told}")

# %% [markdown]
# Eight answers a step show no trend: the shares above are mostly noise.
#
# **Longer.** A recorded run of PPO on the SmolLM2 of chapter 9's recorded run, LoRA of rank 16, fifty steps of eight answers,
# harmful requests and look-alikes (`data/runs/smollm2.py`), scored by a learned reward model. The lesson shows RLOO's run on
# the true reward. Does PPO end elsewhere?

# %%
with_critic = recorded("smollm2_ppo")
show(
    recorded_plot(
        with_critic,
        {"PPO, learned reward": "gold"},
        title="Recorded: the true reward climbs under a learned one, too",
        y_label="true reward of the step's answers",
        note="smollm2-135m, one run",
    ),
    "Line plot of the true reward against the steps of a recorded PPO run of "
    "SmolLM2: it swings "
    "and is higher in its second half.",
)
gain, error_of_gain = with_critic.before_after()

# %%
claim(
    "recorded, PPO: held-out true reward rose by more than three standard errors",
    gain > 3 * error_of_gain,
    {"gain": gain, "standard error": error_of_gain},
    kind="T",
)
helped = with_critic.held_out["after"]["lookalike"]
claim(
    "and after PPO nearly every harmless look-alike is refused, which earns 0 points",
    abs(helped["mean"]) < 0.1 and helped["standard_error"] < 0.1,
    {k: helped[k] for k in ("mean", "standard_error")},
    kind="T",
)

# %% [markdown]
# At the same place. [Chapter 17](17_over_optimization.ipynb) reads this run further.
#
# ## Exercises
#
# Each check says *which* idea was behind a wrong answer. Run a cell as it is and it says "to do".
#
# ### Exercise 11.4 · Siblings of any number · difficulty 3 of 5 · 15 minutes (estimated) · needs: 11.2
#
# DAPO throws rows away, tools time out: groups are ragged. Write leave-one-out for groups of *any* size, rows in any
# order. An answer without siblings gets 0.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex11-4", "locked": false, "schema_version": 3, "solution": true, "task": false}
def ragged_leave_one_out(score, group):
    """(B,) scores, (B,) prompts -> (B,) score minus the mean of its prompt's other
    scores."""
    ### BEGIN SOLUTION
    same = (group[:, None] == group).to(score.dtype)
    siblings = same.sum(1) - 1
    others = (same @ score - score) / siblings.clamp(min=1)
    return torch.where(siblings > 0, score - others, torch.zeros_like(score))
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ex11-4-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("11.4", ragged_leave_one_out)
### BEGIN HIDDEN TESTS
check("11.4", ragged_leave_one_out, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# `group[:, None] == group` is a table of who is whose sibling, oneself included.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Sum of the group minus the own score, divided by the size minus one; and a `where` for groups of one.
#
# </details>
#
# *You should now be able to say* what including the own score would change: the length, not the direction.
#
# <!-- solution 11.4 -->
#
# ### Exercise 11.5 · "The loss is zero, so nothing learns" · difficulty 2 of 5 · 10 minutes (estimated) · needs: the lesson, idea 3
#
# Write the number to log instead: the norm of the gradient of PPO's
# loss (mean over all masked tokens) with respect to the *log-probabilities*, at the first step, where every ratio
# is 1. `adv` has one advantage for each answer.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex11-5", "locked": false, "schema_version": 3, "solution": true, "task": false}
def signal(adv, mask):
    """(B,), (B, T) -> norm of the first gradient, one number."""
    ### BEGIN SOLUTION
    logp = torch.zeros_like(mask).requires_grad_()
    loss, _ = ppo.policy_loss(logp, logp.detach(), adv, mask)
    return torch.autograd.grad(loss, logp)[0].norm().item()
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ex11-5-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("11.5", signal)
### BEGIN HIDDEN TESTS
check("11.5", signal, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# At ratio 1 the loss of a token is −A·ρ. What is its derivative in the token's log-probability?
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Every masked token contributes −A divided by the number of masked tokens of the whole batch. Square, sum, root.
#
# </details>
#
# *You should now be able to say* why a centred advantage makes the loss's value 0 and its gradient not.
#
# <!-- solution 11.5 -->
#
# ### Exercise 11.6 · Which side of the clip? · difficulty 2 of 5 · 10 minutes (estimated) · needs: the lesson, idea 3
#
# DAPO's clip has two different bounds, $1-\varepsilon_{\text{low}}$ and $1+\varepsilon_{\text{high}}$; `low` and
# `high` are the two ε. Without autograd: what is the slope of the *objective* (that is maximised) in the ratio, for
# each token?

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex11-6", "locked": false, "schema_version": 3, "solution": true, "task": false}
def clip_slope(adv, ratio, low, high):
    """(T,), (T,), two numbers -> d objective / d ratio, (T,)."""
    ### BEGIN SOLUTION
    stopped = ((adv > 0) & (ratio > 1 + high)) | ((adv < 0) & (ratio < 1 - low))
    return torch.where(stopped, torch.zeros_like(adv), adv)
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ex11-6-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("11.6", clip_slope)
### BEGIN HIDDEN TESTS
check("11.6", clip_slope, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# The four cells of the lesson's idea 3. Two of the four slopes are zero.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# A good token stops being paid above the upper bound, a bad one below the lower bound. Otherwise the slope is A.
#
# </details>
#
# *You should now be able to say* why clipping does not keep the ratio in the interval.
#
# <!-- solution 11.6 -->
#
# ## Questionnaire
#
# 1. Why may reward that came *before* a token be left out of its weight?
# 2. What may a baseline depend on, and on what not?
# 3. Why does a mean that includes the own score leave the direction alone?
# 4. What does λ trade for what, and when is there nothing to trade?
# 5. Why does the variance of a product of ratios explode, and what does GSPO do about it?
# 6. What does CISPO clip that PPO does not, and what survives?
# 7. The sampler runs at temperature 0.7 <!-- fact --> and the learner scores at 1. Which number gives it away?
# 8. What should a claim "method A beats method B" be compared with?
#
# <details><summary>Answers</summary>
#
# 1. The token cannot have caused it; the product has expectation 0. 2. On the prompt, the prefix and the *other*
# samples; not on the token or answer that it judges. 3. It is the leave-one-out advantage times (G − 1)/G. 4. Noise for
# bias; with the true V there is no bias at any λ. 5. Variances of many small log-ratios add up in the exponent; GSPO
# takes their mean, which is calm and no longer the weight that corrects old answers. 6. The weight instead of the objective; the gradient of clipped tokens. 7. The ratio to
# the sampler's own log-probabilities, which should be 1. 8. With its range over seeds, paired where the seeds are.
#
# </details>
#
# ## Where the book and its code differ
#
# All at commit a66b0bf.
#
# - **The advantage has the lowest possible variance**, says the list of weights. Nearly: a constant in section 11.2
#   beats the expected score, because answers push with different force.
# - **The TD residual is the advantage**
#   ([eq:advantage_trick](https://rlhfbook.com/c/06-policy-gradients#eq:advantage_trick)): for the true $V$ only (11.1).
# - **Dropping the standard deviation "scales the advantage up."** For right-or-wrong scores the standard deviation is below
#   1, so dropping it scales *down* (exercise 11.2, in the lesson). And prompts that are nearly always failed have a *low*
#   variance of scores.
# - **GRPO's ratio** is written for whole answers in
#   [eq:GRPO](https://rlhfbook.com/c/06-policy-gradients#eq:GRPO) and for tokens in
#   [eq:GRPO_token](https://rlhfbook.com/c/06-policy-gradients#eq:GRPO_token). Code, the book's and ours, is per token.
# - **Two layouts.** The RLOO listing reshapes to (k, prompts), the GRPO listing to (prompts, k). Each is right for the
#   order that it documents; mixing them is failure 1.
# - **Failures 2 to 4 are in the listings or the code**: the PPO listing whitens over the padding; ε is 1e-4 in one GRPO
#   listing, 1e-8 in the code; Dr. GRPO in the code keeps the mean over each answer, and so does REINFORCE (11.3).
# - **KL per token** in the text is one scalar on the last token in the code: GAE (11.5) no longer sees *where* the
#   policy drifted.
# - **The per-token function** of the aggregation script (`masked_mean_token_level`) is shown without the advantage (section
#   11.9 adds it).
# - **Sampling** in the code runs at temperature 0.6 with top-p and top-k; <!-- fact -->
#   old and new log-probabilities are both computed by the learner at 1. So the first ratio *is* 1, and hides that the
#   samples are not from the scored policy (11.10).
# - **`approx_kl`** estimates the KL between the old policy and the new one, not to the reference; and **`clip_frac`**
#   is defined in two ways (11.4 computes both).
#
# ## Summary
#
# One theorem carries all of it: average the pushes on what was chosen, each times how well it went. Baselines remove
# noise, not signal, and siblings are the cheapest good one. Only the ratio of whole answers corrects old data exactly, at the
# price of variance; a geometric mean is calm and corrects nothing; a clip stops paying, it holds nothing. In the live race one seed could not rank five
# methods, and all of them exploited the gap in its prompts; in the recorded one eight of ten gained on every seed, PPO
# and TRPO did not.
#
# **Functions you now know**: `reinforce_loss`, `leave_one_out`, `group_normalize`, `ppo.policy_loss`,
# `ppo.value_loss`, `gae`, `grpo_loss`, `gspo_loss`, `cispo_loss`, `truncated_importance`,
# `p3o_loss`, `trpo.natural_step`, `aggregate`, `exact.expected_loss_gradient`.
#
# **Further reading**: Schulman et al. 2017, [arXiv 1707.06347](https://arxiv.org/abs/1707.06347), PPO in eight pages;
# Ahmadian et al. 2024, [arXiv 2402.14740](https://arxiv.org/abs/2402.14740), why REINFORCE may be enough; Shao et al.
# 2024, [arXiv 2402.03300](https://arxiv.org/abs/2402.03300), GRPO; Liu et al. 2025,
# [arXiv 2503.20783](https://arxiv.org/abs/2503.20783), what its two divisions do; Yu et al. 2025,
# [arXiv 2503.14476](https://arxiv.org/abs/2503.14476), DAPO's four changes; Zheng et al. 2025,
# [arXiv 2507.18071](https://arxiv.org/abs/2507.18071), GSPO.
#
# <!-- nav -->
