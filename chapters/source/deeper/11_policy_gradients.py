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
# # 11 · Policy gradients
#
# **Promise.** A dozen algorithms carry a name and a paper. You will put each on the same bench, a world so small
# that its gradient is a sum and not a sample, and read off which ones point where they claim to point, how noisy
# they are, and what clips, ratios and divisors do. Then they race, with equal samples.
#
# Companion to [Policy Gradient Algorithms](https://rlhfbook.com/c/06-policy-gradients) (chapter 6 of today's book)
# in Nathan Lambert's *Reinforcement Learning from Human Feedback*.
#
# <!-- edition -->
#
# <!-- nav -->

# %% [markdown]
# > **You need** [chapter 4](04_training_overview.ipynb): policies, rewards, the loop, KL.
# >
# > **You will be able to** prove or refute that an estimator is unbiased · choose a baseline and say what it buys ·
# > read a clip, a ratio and a divisor off a loss and predict its bias · tell stale data from fresh · spot five silent
# > bugs · write any of these algorithms as a change of one or two lines.
# >
# > **Costs**: <!-- costs -->. **Models** behind the stored outputs: the exact world (a GPT-2 with one layer and
# > float64 weights, made on the spot), `village-3m-sft` (three million parameters, from `make models`), and
# > `smollm2-135m` in the section [At GPT-2 size](#At-GPT-2-size).

# %%
import copy
import difflib
import inspect
import time
from math import comb

import numpy as np
import torch

from rlhf_minimal import data, grpo, optim, p3o, ppo, reinforce, rloo, trpo, village
from rlhf_minimal.advantages import gae, group_normalize, leave_one_out, returns_to_go
from rlhf_minimal.aggregate import MODES, aggregate
from rlhf_minimal.book import available, begin, check, claim, every, recorded, show, show_source
from rlhf_minimal.book.plots import ROLES, bars, line_plot, new, recorded_plot
from rlhf_minimal.evaluate import exact, proofs
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
# ## The question
#
# All of them say: *raise the log-probability of what turned out well.* **Which ones have the gradient they claim?**
#
# **Predict before you scroll.** Take REINFORCE, RLOO, PPO's first step, GRPO as published, Dr. GRPO. Sum over an
# answer's tokens wherever the method leaves that open. Average each one's gradient over *everything that could be
# sampled*. Which averages point exactly along the gradient of the expected reward?
#
# - **(a)** all of them: they are all policy gradients, and differ only in noise
# - **(b)** all but GRPO as published, which divides by two things that it has measured on its own samples
# - **(c)** only REINFORCE without a baseline: whatever is subtracted biases the direction
#
# And a second one, for the race with equal samples: **(a)** PPO wins, it has a critic · **(b)** GRPO wins,
# everybody uses it · **(c)** the differences between methods are no larger than the noise of a small exam.

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
    print(f"answer {i:>2}  tokens {words!s:<10} probability {p[i].item():.4f}  "
          f"score {score[i].item():+.4f}")
print(f"{len(world)} answers; J = {(p @ score).item():.4f}; its gradient has {len(true)} entries")
claim("the probabilities of all answers sum to one", abs(p.sum() - 1) < 1e-12)

# %% [markdown]
# **The policy-gradient theorem** turns the gradient of an average into an average of gradients, so that samples
# will do. Why it holds fits in a line: $\nabla p=p\,\nabla\log p$. Then
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
# **By hand**, on a policy with two answers and one parameter: $p_1=\sigma(\theta)$. Directly,
# $\partial J/\partial\theta=p_1(1-p_1)(r_1-r_2)$. By the theorem, answer 1 pushes with $1-p_1$, answer 2 with
# $-p_1$.

# %%
p1, r1, r2 = 0.8, 1.0, 3.0
direct = p1 * (1 - p1) * (r1 - r2)
theorem = p1 * r1 * (1 - p1) + (1 - p1) * r2 * (-p1)
shifted = p1 * (r1 + 10) * (1 - p1) + (1 - p1) * (r2 + 10) * (-p1)
print(f"directly {direct:.4f}   by the theorem {theorem:.4f}   with 10 added to both {shifted:.4f}")
claim("by hand: the theorem gives the derivative; adding a number to all scores changes nothing",
      abs(direct - theorem) < 1e-12 and abs(shifted - direct) < 1e-12)

# %% [markdown]
# Now on the real little GPT-2, with the reward that RLHF really uses: a score at the end, minus a price on every
# token for leaving a reference (chapter 8). Six choices of $\Psi_t$, from the coarsest to the finest. $V$ is the
# true value of a prefix (what has been said so far), computed from the list of answers; the constant is the expected
# reward. In the table, *cosine* is that of the angle between mean gradient and $\nabla J$, *error* their distance,
# *noise* the spread of one sample; the last two in units of the length of $\nabla J$.

# %%
def pushes(model):
    """(N, T, parameters): the gradient of each token's log-probability."""
    logp = world.logps(model)
    out = torch.zeros(*logp.shape, len(true), **f64)
    for i, t in world.mask.nonzero().tolist():
        out[i, t] = gradient(logp[i, t], model)
    return out


def moments(psi, drawn, push):
    """Mean gradient of one sample, and its noise: the root of the summed variances."""
    each = (psi[:, :, None] * push).sum(1)
    mean = drawn @ each
    return mean, (drawn @ each.square().sum(1) - mean @ mean).clamp(min=0).sqrt().item()


def value_before(to_go, drawn):
    """(N, T): the true V of the prefix before each token, averaged over all its continuations."""
    value = torch.zeros_like(to_go)
    for t in range(world.horizon):
        past = world.completions[:, None, :t] == world.completions[None, :, :t]
        weight = past.all(2) * world.mask[:, t] * drawn
        value[:, t] = (weight @ to_go[:, t]) / weight.sum(1).clamp(min=1e-300)
    return value * world.mask

# %%
push, mask = pushes(policy), world.mask
pay = ppo.rewards(score, world.logps(policy), world.logps(other), mask, 0.5)
to_go, total = returns_to_go(pay, mask), pay.sum(1)
V = value_before(to_go, p)
stale_V = value_before(to_go, world.seq_logp(other).exp().detach())  # of another policy
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
    mean, noise = moments(psi, p, push)
    found[name] = compare(mean, uphill) | {"noise": noise / uphill.norm().item()}
    cosine, error, noise = (found[name][key] for key in ("cosine", "error", "noise"))
    print(f"{name:<22}{cosine:8.3f}{error:8.3f}{noise:21.2f}")

# %%
claim("total reward, reward to go, a constant baseline, the true V: all have the mean grad J",
      max(found[name]["error"] for name in list(choices)[:5]) < 1e-10)
claim("with another policy's V the TD residual is biased: the trick needs the true one",
      found["TD residual, stale V"]["error"] > 0.01)
claim("the TD residual with the true V is less noisy than the total reward",
      found["TD residual, true V"]["noise"] < found["total reward"]["noise"])

# %% [markdown]
# What came *before* a token cannot be its fault, so it may be dropped. A baseline costs no bias, but need not help:
# compare the third row with the second. And $A=r_t+\gamma V(s_{t+1})-V(s_t)$, here with γ = 1, called the *TD residual*
# (temporal difference; [eq:advantage_trick](https://rlhfbook.com/c/06-policy-gradients#eq:advantage_trick)), is exact for the
# true $V$ only: a wrong critic buys less noise with bias, and section 11.5 measures the rate of exchange.

# %% [markdown]
# ## 11.2 Baselines: the same direction, less noise
#
# Suppose raters give marks around 3. Every push then goes up, and the direction is hidden in small differences between
# large pushes. A **baseline** $b$ is subtracted first
# ([eq:REINFORCE_with_baseline](https://rlhfbook.com/c/06-policy-gradients#eq:REINFORCE_with_baseline)):
#
# $$\nabla_\theta J=\mathbb E\Big[\sum_t\nabla_\theta\log\pi_\theta(a_t\mid s_t)\,(R-b)\Big]$$
#
# *Said aloud: compare with what was to be expected, then push.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $R$ | marks: the score plus 3 (the book's return $G_t$) | `marks` | (15,) |
# | $b$ | baseline | subtracted in `tried` | a number, or one for each of four samples |
# | $g$ | push of a whole answer, summed over its tokens | `whole` | (15, parameters) |
#
# Is $b=\mathbb E[R]$ the best constant? No: the noise is smallest where large pushes are cancelled best,
# $b^\star=\mathbb E[R\lVert g\rVert^2]/\mathbb E[\lVert g\rVert^2]$. **Predict**: four samples have only *each
# other* for a baseline. Will they be nearer to "none" or to the best constant, which nobody knows in practice?

# %%
show_source(reinforce.reinforce_loss, leave_one_out)

# %%
marks, G = score + 3, 4
whole = push.sum(1)  # (15, parameters): the push of a whole answer
inner = whole @ whole.T
size = inner.diagonal()
best = (p * marks * size).sum() / (p * size).sum()
four = torch.cartesian_prod(*[torch.arange(len(world))] * G)  # all groups of four answers
chance = p[four].prod(1)


def batch_noise(adv):
    """Advantages of all groups (50625, 4) -> mean gradient and noise of the mean over the four."""
    weight = torch.zeros(len(world), **f64)
    weight = weight.index_add(0, four.flatten(), (chance[:, None] * adv).flatten()) / G
    second = sum((chance * adv[:, a] * adv[:, b] * inner[four[:, a], four[:, b]]).sum()
                 for a in range(G) for b in range(G)) / G**2
    mean = weight @ whole
    return mean, (second - mean @ mean).sqrt().item()

# %%
flat = marks[four].flatten()
tried = {"none": marks[four],
         "mean of all\n(own included)": group_normalize(flat, G, scale=False).view(-1, G),
         "mean of\nthe others": leave_one_out(flat, G).view(-1, G),
         "expected\nmark": marks[four] - p @ marks, "best\nconstant": marks[four] - best}
baseline = {}
for name, adv in tried.items():
    mean, noise = batch_noise(adv)
    baseline[name] = compare(mean, true) | {"noise": noise / mean.norm().item()}
# the squared noise is a parabola in the constant: a worse neighbour on either side settles it
beside = [batch_noise(marks[four] - best - d)[1] / true.norm().item() for d in (-0.1, 0.1)]
show(bars({name: x["noise"] for name, x in baseline.items()},
          title="A baseline removes noise, not signal",
          y_label="noise ÷ signal of four samples", note="exact world, all 50,625 groups"),
     "Bar chart of noise over signal of a gradient from four samples for five baselines: without "
     "one the noise is largest, the mean of the others does better, known constants best.")

# %%
ratio = {name.split("\n")[0]: x["ratio"] for name, x in baseline.items()}
claim("four baselines leave the mean gradient exactly as it is",
      max(x["error"] for name, x in baseline.items() if "own" not in name) < 1e-10)
claim("a mean that includes the own score keeps the direction and shrinks the length to (G-1)/G",
      abs(baseline["mean of all\n(own included)"]["cosine"] - 1) < 1e-10
      and abs(ratio["mean of all"] - (G - 1) / G) < 1e-10)
claim("no constant beats the best one, and every baseline beats none when the marks are far from 0",
      baseline["best\nconstant"]["noise"] < min(*beside, baseline["expected\nmark"]["noise"])
      and max(x["noise"] for n, x in baseline.items() if n != "none") < baseline["none"]["noise"],
      {name.replace("\n", " "): x["noise"] for name, x in baseline.items()})

# %% [markdown]
# Much nearer to the best constant. The mean of the *others* is RLOO's baseline, and it needs nothing but a few
# samples of the same prompt
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
print("siblings    ", [round(v, 4) for v in leave_one_out(hand, 4).tolist()])
print("centred     ", [round(v, 4) for v in group_normalize(hand, 4, scale=False).tolist()])
print("by hand     ", [round(v, 4) for v in (1 - 0, 0 - 1 / 3, 0 - 1 / 3, 0 - 1 / 3)])
left_out, centred = leave_one_out(hand, 4), group_normalize(hand, 4, scale=False)
claim("leave-one-out equals the hand computation, and G/(G-1) times the centred score",
      (left_out - torch.tensor([1, -1 / 3, -1 / 3, -1 / 3], **f64)).abs().max() < 1e-12
      and (left_out - 4 / 3 * centred).abs().max() < 1e-12)

# %% [markdown]
# ## 11.3 The bench
#
# Now everybody; sections 11.4 to 11.9 introduce the new names. For each loss, list *all* data sets that it could see
# (every answer, or every pair, with its probability), take the gradient of the loss on each, and average. *Ratio* is
# the length of that average over the length of $\nabla J$. *Equal* and *proportional* are theorems, for any weights
# and scores. *Biased* needs one counterexample, and this little world is it: the cosines are its own.

# %%
bench = [row for row in proofs.table(run.seed) if row[1] == "J"]
print(f"{'loss':<40}{'relation to grad J':<20}{'cosine':>7}{'ratio':>8}")
for name, _, word, cosine, length, _ in bench:
    print(f"{name:<40}{word:<20}{cosine:7.3f}{length:8.3f}")

# %%
word_of = {name: word for name, _, word, *_ in bench}
claim("equal to grad J: REINFORCE, RLOO, P3O, TRPO's surrogate, PPO with a fixed divisor "
      "at its first step",
      {word_of[n] for n in ("REINFORCE, sum over tokens", "REINFORCE, constant baseline", "RLOO",
                            "P3O, separate clip", "P3O, joint clip", "TRPO's surrogate",
                            "PPO, ratio 1, divisor fixed")} == {"equal"})
claim("Dr. GRPO and CISPO with a fixed divisor are proportional to it",
      {word_of[n] for n in ("Dr. GRPO", "CISPO, divisor fixed, no std")} == {"proportional"})
claim("biased: GRPO as published, DAPO, GSPO, any mean over a row, a mask without the end",
      {word_of[n] for n in ("GRPO as published", "DAPO's token mean, std", "GSPO",
                            "REINFORCE, mean over a row's tokens", "REINFORCE, EOS not in the mask",
                            "PPO, ratio 1, token mean of one row")} == {"biased"})

# %% [markdown]
# <details><summary>The first prediction settled</summary>
#
# **(b)**. GRPO divides by the standard deviation of the group and by the length of each answer. Both are *measured on
# the samples they divide*, and the mean of a quotient is not the quotient of the means. REINFORCE and PPO share the
# fate as soon as *they* divide by measured lengths: see their two biased rows. (PPO usually does; over a large batch
# little of that bias is left.)
#
# A bias is no bug when it is wanted: sections 11.7 to 11.9 ask what each one buys.
#
# </details>

# %% [markdown]
# ## 11.4 PPO: the same data, more than once
#
# Sampling is expensive, so one wants several updates from one batch. After the first, the data belong
# to the *old* policy. Importance sampling repairs an average
# ([eq:IS_identity](https://rlhfbook.com/c/06-policy-gradients#eq:IS_identity)):
# $\mathbb E_p[f]=\mathbb E_q[f\,p/q]$. So PPO weighs each token by the **ratio** $\rho$ of new and old probability
# ([eq:PPO_POL_RATIO](https://rlhfbook.com/c/06-policy-gradients#eq:PPO_POL_RATIO)), and stops paying once the
# ratio has moved by $\varepsilon$ in the paid direction
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
# **Predict**: a *good* token ($A>0$) has become *less* likely, $\rho=0.7$ <!-- fact -->. Is its gradient zero?

# %%
show_source(ppo.policy_loss)

# %%
print(f"{'advantage':>9}{'ratio':>7}{'loss':>7}{'slope':>7}   meaning")
cells = {}
for A, rho, meaning in ((1, 1.3, "good, far enough up: no more pay"),
                        (1, 0.7, "good, but went down: full push"),
                        (-1, 1.3, "bad, but went up: full push"),
                        (-1, 0.7, "bad, far enough down: enough")):
    now = torch.tensor([[rho]], **f64).requires_grad_()
    loss, stats = ppo.policy_loss(now.log(), torch.zeros(1, 1, **f64), torch.tensor([A], **f64),
                                  torch.ones(1, 1), clip=0.2)
    loss.backward()
    cells[A, rho] = (loss.item(), now.grad.item(), stats["clip_frac"], stats["outside_frac"])
    print(f"{A:>9}{rho:7.1f}{loss.item():7.2f}{now.grad.item() + 0.0:7.2f}   {meaning}")
claim("by hand: losses -1.2, -0.7, 1.3, 0.8 with slopes 0, -1, 1, 0",
      all(abs(cells[k][0] - loss) + abs(cells[k][1] - slope) < 1e-12 for k, loss, slope in
          (((1, 1.3), -1.2, 0), ((1, 0.7), -0.7, -1), ((-1, 1.3), 1.3, 1), ((-1, 0.7), 0.8, 0))))
claim("all four ratios are outside the clip, and only two of the four tokens are clipped",
      [int(c[2]) for c in cells.values()] == [1, 0, 0, 1]
      and all(c[3] == 1 for c in cells.values()))

# %%
ratios = torch.linspace(0.5, 1.5, 41, **f64)
objective = {}
for A, label in ((1, "good, A = +1"), (-1, "bad, A = −1")):
    objective[label] = (ratios, torch.minimum(ratios * A, ratios.clamp(0.8, 1.2) * A))
show(line_plot(objective, title="The clip stops what went too far in the paid direction",
               x_label="ratio of new to old probability", y_label="objective of one token",
               roles={"good, A = +1": "chosen", "bad, A = −1": "rejected"}),
     "Line plot of PPO's objective against the ratio: for a good token it rises and goes flat on "
     "the right; for a bad token it is flat on the left and falls after it.")

# %% [markdown]
# A flat piece is no wall. The clip removes the *reward* for going further; it does not pull back, and other tokens may
# drag a clipped one along. (An *entropy bonus*, $+cH(\pi)$, keeps sampling varied; a KL penalty contains one:
# $-\mathrm{KL}(\pi\Vert\pi_{\mathrm{ref}})=H(\pi)+\mathbb E_\pi\log\pi_{\mathrm{ref}}$.) So how far does PPO get on
# one batch? TRPO (Schulman et al. 2015) asks the question that PPO dodges:
#
# $$\max_\theta\ \mathbb E[\rho A]\quad\text{subject to}\quad
#   \mathbb E\,\mathrm{KL}(\pi_{\mathrm{old}}\Vert\pi_\theta)\le\delta$$
#
# *Said aloud: gain what you can within a walk of δ nats.* It takes one step along the natural gradient (the direction
# that gains most for a given small KL), shortened until the measured KL fits. Both on the same exact data:

# %%
# beyond the book
logp_old = world.logps(policy).detach()
adv = score - p @ score


def kl_from_old(model):
    """KL(old || model), summed over all answers."""
    return (p * (logp_old - world.logps(model)).sum(1)).sum()


def surrogate_loss(model, clip):
    """PPO's objective on *all* data of the old policy, weighted by their probabilities."""
    ratio, A = (world.logps(model) - logp_old).exp(), adv[:, None] * mask
    losses = -torch.minimum(ratio * A, ratio.clamp(1 - min(clip, 1.0), 1 + clip) * A)
    return (p * losses.sum(1)).sum()


careful = copy.deepcopy(policy)
natural = trpo.natural_step(lambda: surrogate_loss(careful, 1e9), lambda: kl_from_old(careful),
                            careful.parameters(), delta=0.01)
walked = {}
for label, clip in (("PPO, clip 0.2", 0.2), ("no clip", 1e9)):
    model, walked[label] = copy.deepcopy(policy), []
    adam = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(30):
        walked[label].append(kl_from_old(model).item())
        adam.zero_grad()
        surrogate_loss(model, clip).backward()
        adam.step()

# %%
walked["TRPO's budget"] = [0.01] * 30
show(line_plot(walked, title="The clip slows a policy down, it does not hold it",
               note="exact world", x_label="passes over the same batch",
               y_label="KL(old ‖ new), nats",
               roles={"PPO, clip 0.2": "policy", "no clip": "other", "TRPO's budget": "reference"}),
     "Line plot of the KL to the old policy against passes over one batch: without a clip it keeps "
     "growing; with PPO's clip it ends lower, but far beyond the budget that TRPO keeps.")
claim("TRPO's step improves J and stays within its budget",
      natural["kl"] <= 0.01 and world.expected(careful, score) > world.expected(policy, score),
      {"KL": natural["kl"], "share of the full step": natural["step"]})
clipped, free = walked["PPO, clip 0.2"], walked["no clip"]
claim("at these settings the clip lowers the KL of thirty passes, and leaves it above the budget",
      0.01 < clipped[-1] < free[-1], {"clip": clipped[-1], "no clip": free[-1]}, kind="T")

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
by_hand = (residual[0] + 0.95 * (residual[1] + 0.95 * residual[2]),
           residual[1] + 0.95 * residual[2], residual[2])
got = gae(pays, value, ends, lam=0.95)[0]
dirty = gae(pays + 99 * (1 - ends), value - 1e6 * (1 - ends), ends, lam=0.95)[0]
print("residuals ", [round(v, 5) for v in residual])
print("by hand   ", [round(v, 5) for v in by_hand])
print("package   ", [round(v, 5) for v in got[0, :3].tolist()])
claim("GAE equals the hand computation; garbage under the padding changes nothing",
      abs(got[0, :3] - torch.tensor(by_hand, **f64)).max() < 1e-12 and (got == dirty).all().item())
waited, believed = (gae(pays, value, ends, lam=lam)[0] for lam in (1.0, 0.0))
claim("λ = 1 is the return minus V, λ = 0 is the residual",
      (waited - (returns_to_go(pays, ends) - value) * ends).abs().max() < 1e-12
      and (believed[0, :3] - torch.tensor(residual, **f64)).abs().max() < 1e-12)

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
loss, _ = ppo.value_loss(there, torch.zeros(1, 1, **f64), torch.ones(1, 1, **f64),
                         torch.ones(1, 1), clip=0.2)
loss.backward()
print(f"V = 1, V_old = 0, target 1: loss {loss.item():.2f}, slope {there.grad.item():.2f}")
claim("a critic that is right but has moved past the clip is charged 0.32 and gets no gradient",
      abs(loss.item() - 0.32) < 1e-12 and there.grad.item() == 0)

# %%
lams, blind = np.linspace(0, 1, 11), torch.zeros_like(V)
sweep = {}
for name, critic in (("true V", V), ("V = 0", blind)):
    rows = [moments(gae(pay, critic, mask, lam=lam)[0], p, push) for lam in lams]
    sweep[name] = ([compare(mean, uphill)["error"] for mean, _ in rows],
                   [noise / uphill.norm().item() for _, noise in rows])
lines = {"bias, V = 0": (lams, sweep["V = 0"][0]), "noise, V = 0": (lams, sweep["V = 0"][1]),
         "noise, true V": (lams, sweep["true V"][1])}
show(line_plot(lines, title="λ buys less noise with bias, as long as the critic is wrong",
               x_label="λ", y_label="in units of the true gradient", note="exact world",
               roles={"bias, V = 0": "policy", "noise, V = 0": "proxy", "noise, true V": "gold"}),
     "Line plot against lambda: with a critic that knows nothing the bias falls to zero at lambda "
     "one; the noise is larger at one than at zero, with the true value, too.")
claim("the true V has no bias at any λ; with V = 0 it falls step by step to exactly 0 at λ = 1",
      max(sweep["true V"][0]) < 1e-10 and sweep["V = 0"][0][-1] < 1e-10
      and all(a > b for a, b in zip(sweep["V = 0"][0], sweep["V = 0"][0][1:], strict=False)))
claim("believing the critic (λ = 0) is less noisy than waiting for what happens (λ = 1), for both",
      all(noise[0] < noise[-1] for _, noise in sweep.values()),
      {f"{name}, λ = {i}": sweep[name][1][-i] for name in sweep for i in (0, 1)})

# %% [markdown]
# ## 11.6 Only differences: P3O
#
# A reward model is fixed up to a constant *for each prompt*: comparisons never say how one prompt's answers relate
# to another's. P3O (pairwise PPO, Wu et al. 2023) uses only what comparisons determine, the difference of two
# answers to the same prompt: $\frac12(r_1-r_2)\,\nabla\log\frac{\pi(y_1)}{\pi(y_2)}$. On fresh data that is RLOO
# with two samples; on old data it clips each answer's ratio (*separate* on the bench) or the gap of the two log-ratios
# (*joint*). *Whitening* over a whole batch (mean 0, spread 1), as PPO does with its advantages, sees more.
#
# Below, two prompts with two answers each, before and after a number is added to both scores of the second. A negative
# slope of the loss pushes the answer *up*.

# %%
# beyond the book
pair_logp = torch.tensor([[-1.0, -2.0], [-1.5, -0.5], [-0.7, -0.2], [-3.0, -0.1]], **f64)
pair_score, ones = torch.tensor([1.0, 0.0, 0.2, 0.5], **f64), torch.ones(4, 2)
offset = torch.tensor([0.0, 0.0, 5.0, 5.0], **f64)  # the second prompt's scores are shifted


def slope(loss, scores):
    """Gradient of loss(logp, scores) in the log-probabilities."""
    leaf = pair_logp.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, scores), leaf)[0]


pairwise = [slope(lambda lp, s: p3o.p3o_loss(lp, lp.detach(), s, ones)[0], s)
            for s in (pair_score, pair_score + offset)]
batchwise = [slope(lambda lp, s: ppo.policy_loss(
    lp, lp.detach(), masked_whiten(s, torch.ones(4)), ones)[0], s)
    for s in (pair_score, pair_score + offset)]
siblings = slope(lambda lp, s: rloo.rloo_loss(lp, s, ones, group_size=2)[0], pair_score)
print("P3O       ", [[round(v, 3) for v in g[:, 0].tolist()] for g in pairwise])
print("whitened  ", [[round(v, 3) for v in g[:, 0].tolist()] for g in batchwise])
claim("on fresh data P3O is RLOO with two samples, and ignores what is added to a prompt's scores",
      (pairwise[0] - siblings).abs().max() < 1e-12
      and (pairwise[0] - pairwise[1]).abs().max() < 1e-12)
claim("whitening over the batch does not: a shift of one prompt turns the other's good answer bad",
      batchwise[0][0, 0] < 0 < batchwise[1][0, 0])

# %% [markdown]
# ## 11.7 GRPO: what dividing by the spread does
#
# GRPO keeps PPO's ratio and clip, drops the critic, and takes the group as baseline. Its advantage is the centred
# score *divided by the group's standard deviation*
# ([eq:GRPO_ADV](https://rlhfbook.com/c/06-policy-gradients#eq:GRPO_ADV)), and each answer is a mean over its tokens
# ([eq:GRPO](https://rlhfbook.com/c/06-policy-gradients#eq:GRPO),
# [eq:GRPO_token](https://rlhfbook.com/c/06-policy-gradients#eq:GRPO_token)). Dr. GRPO drops both divisions
# ([eq:DrGRPO_ADV](https://rlhfbook.com/c/06-policy-gradients#eq:DrGRPO_ADV)):
#
# $$A_i^{\mathrm{GRPO}}=\frac{r_i-\bar r}{\mathrm{std}(r)},\qquad A_i^{\mathrm{Dr.}}=r_i-\bar r,\qquad
#   J=\frac1G\sum_i\frac1{|a_i|}\sum_t\big[\min(\rho_{i,t}A_i,\mathrm{clip}(\rho_{i,t})A_i)-\beta\,k_{3,i,t}\big]$$
#
# *Said aloud: how many spreads above its siblings is this answer? Then PPO, averaged within each answer first.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $r_i$ | score of the i-th answer | `score` | (B,) |
# | $G$ | group size | `group_size` | number |
# | $\lvert a_i\rvert$ | tokens of the answer | `mask.sum(1)` | (B,) |
# | $\beta\,k_3$ | KL to the reference in the loss ([eq:grpo_loss_kl](https://rlhfbook.com/c/06-policy-gradients#eq:grpo_loss_kl), chapter 8) | `beta`, `logp_ref` | number, (B, T) |
#
# Take right-or-wrong scores and a prompt that is solved with probability $p$. Its true gradient has size
# $p(1-p)$, times the difference between the mean pushes of right and wrong answers. **Predict**: does the division
# make hard prompts ($p$ near 0) count more, or less, *relative to medium ones*?

# %%
show_source(grpo.grpo_loss)

# %%
def pull(p, scale, G=8):
    """How hard a group of G pulls a prompt of success rate p, averaged over all groups."""
    total = 0.0
    for c in range(1, G):  # c right answers; at 0 and G there is no signal
        adv = group_normalize(torch.tensor([1.0] * c + [0.0] * (G - c), **f64), G, scale=scale)
        total += comb(G, c) * p**c * (1 - p) ** (G - c) * (adv[:c].sum() / G).item()
    return total


rates = np.linspace(0.02, 0.98, 49)
true_size = rates * (1 - rates)
curves = {"GRPO, ÷ std": (rates, [pull(p, True) for p in rates] / true_size),
          "RLOO": (rates, [pull(p, False) * 8 / 7 for p in rates] / true_size),
          "Dr. GRPO": (rates, [pull(p, False) for p in rates] / true_size)}
show(line_plot(curves, title="Dividing by the spread lifts hard and easy prompts",
               x_label="success rate of the prompt", y_label="pull ÷ size of the true gradient",
               roles={"GRPO, ÷ std": "proxy", "RLOO": "policy", "Dr. GRPO": "reference"},
               note="groups of 8, exact"),
     "Line plot of a prompt's average pull, relative to the true gradient, against success rate: "
     "flat for RLOO and Dr. GRPO, bowl-shaped with high ends for GRPO.")
relative = [pull(p, True) / (p * (1 - p)) for p in (0.05, 0.5)]
claim("the centred score, times G/(G-1), pulls with exactly p(1-p)",
      max(abs(np.array(curves["RLOO"][1]) - 1)) < 1e-12)
claim("relative to the true gradient, GRPO weighs a hard prompt more than a medium one",
      relative[0] > 1.2 * relative[1], {"at 0.05": relative[0], "at 0.5": relative[1]})

# %%
one_of_eight = torch.tensor([1.0] + [0.0] * 7, **f64)
centred = group_normalize(one_of_eight, 8, scale=False)[0].item()
divided = group_normalize(one_of_eight, 8)[0].item()
print(f"one of eight right: advantage {centred:.3f} centred, {divided:.3f} divided by std")
claim("for right-or-wrong scores dropping std makes advantages smaller, not larger",
      abs(centred - 7 / 8) < 1e-12 and abs(divided - (7 / 8) / (1 / 8) ** 0.5) < 1e-12
      and centred < divided)

# %% [markdown]
# The division is a *re-weighting of prompts*. It also makes the scale of the reward irrelevant, and turns a group whose
# scores differ by a hair into a full-size lesson. GRPO, RLOO and Dr. GRPO order siblings alike; they disagree about how
# prompts and lengths are weighed.
#
# ## 11.8 Which ratio? GSPO, CISPO, DAPO
#
# Over a long answer the token ratios multiply. If the log-ratios are independent and normal, with spread σ and a mean
# that keeps $\mathbb E\rho=1$, the product has variance $e^{T\sigma^2}-1$. GSPO takes the geometric mean instead
# ([eq:GSPO_ratio](https://rlhfbook.com/c/06-policy-gradients#eq:GSPO_ratio)); CISPO keeps token ratios but clips
# the *weight* and not the objective
# ([eq:CISPO_objective](https://rlhfbook.com/c/06-policy-gradients#eq:CISPO_objective); the book writes both bounds,
# we keep the upper one):
#
# $$\rho_i^{\mathrm{GSPO}}=\Big(\frac{\pi_\theta(a_i)}{\pi_{\mathrm{old}}(a_i)}\Big)^{1/|a_i|},\qquad
#   J_{\mathrm{CISPO}}=\frac1{\sum_i|a_i|}\sum_{i,t}\mathrm{sg}\big(\min(\rho_{i,t},1+\varepsilon)\big)\,A_i\log\pi_\theta$$
#
# *Said aloud: one modest ratio for the whole answer; or a weight that may be cut but never to zero.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\rho_i$ | ratio of an answer | inside `gspo_loss` | (B,) |
# | sg | stop-gradient | `.detach()` | – |
# | $\sigma,T$ | scatter of a log-ratio, tokens | `0.1`, `T` | numbers |

# %%
lengths = (8, 32, 128, 512)
luck = 0.1 * torch.randn(20000, 512, generator=run.fresh("ratios")) - 0.005  # so that E[ratio] = 1
product = {T: np.expm1(0.01 * T) for T in lengths}
seen = {}
for T in (8, 32):  # variance of the product, and three standard errors of that estimate
    drawn = luck[:, :T].sum(1).exp().double()
    seen[T] = (drawn.var().item(), 3 * (drawn - drawn.mean()).square().std().item() / 20000**0.5)
print(f"{'tokens':>7}{'variance of the product':>25}{'of the geometric mean':>23}")
for T in lengths:
    print(f"{T:>7}{product[T]:25.3f}{np.exp(-0.01 * (1 - 1 / T)) * np.expm1(0.01 / T):23.6f}")
claim("at the two shorter lengths twenty thousand draws are within three errors of exp(T σ²) − 1",
      all(abs(seen[T][0] - product[T]) < seen[T][1] for T in seen),
      {f"{T}, {what}": v for T in seen for what, v in zip(("seen", "±"), seen[T], strict=True)},
      kind="S")

# %%
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
two_new = two_old + torch.tensor([[0.24, 0.0, 0.0], [0.0] * 3], **f64)  # one ratio of 1.27
verdict, full = torch.tensor([1.0, 0.0], **f64), torch.ones(2, 3)
reads = {}
for name, loss_fn, settings in (
        ("GRPO, clip 0.2", grpo.grpo_loss, {}), ("GSPO, clip 0.2", grpo.gspo_loss, {"clip": 0.2}),
        ("GSPO, own clip", grpo.gspo_loss, {}),
        ("DAPO, upper 0.28", grpo.grpo_loss, {"clip_high": 0.28, "mode": "token_mean"}),
        ("CISPO, upper 0.2", grpo.cispo_loss, {})):
    leaf = two_new.clone().requires_grad_()
    loss, _ = loss_fn(leaf, two_old, verdict, full, group_size=2, **settings)
    reads[name] = -torch.autograd.grad(loss, leaf)[0]
    print(f"{name:<18} push on the three tokens of the good answer "
          f"{[round(v + 0.0, 4) for v in reads[name][0].tolist()]}")
claim("GRPO drops the token that has moved too far; DAPO's wider bound and CISPO's weight keep it",
      reads["GRPO, clip 0.2"][0, 0] == 0 and reads["DAPO, upper 0.28"][0, 0] > 0
      and reads["CISPO, upper 0.2"][0, 0] > 0)
claim("GSPO treats all tokens of an answer alike: one push for all, or, with its own bound, none",
      reads["GSPO, clip 0.2"][0].std() < 1e-12 and reads["GSPO, clip 0.2"][0, 0] > 0
      and reads["GSPO, own clip"][0].abs().max() == 0)

# %%
right = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0])
kept = grpo.informative_rows(right, 2).tolist()
punished = grpo.overlong_penalty(torch.tensor([80, 90, 100, 120]), limit=100, buffer=20).tolist()
print("scores", right.tolist(), "in pairs -> rows that teach", kept)
print("lengths 80, 90, 100, 120, limit 100 -> added to the score", punished)
claim("dynamic sampling keeps exactly the rows whose group disagrees", kept == [2, 3])
claim("the punishment starts a buffer before the limit and ends at minus one",
      punished == [0, -0.5, -1, -1])

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
hand_modes = {"token_mean": (2 * 1 + 8 * 3) / 10, "sequence_mean": (1 + 3) / 2,
              "sequence_sum": (2 + 24) / 2, "fixed": (2 + 24) / 20}
for mode in MODES:
    leaf = losses.clone().requires_grad_()
    value = aggregate(leaf, row_mask, mode)
    value.backward()
    print(f"{mode:<14} value {value.item():5.2f}, by hand {hand_modes[mode]:5.2f}   "
          f"weight of a token, short {leaf.grad[0, 0].item():.3f}, long "
          f"{leaf.grad[1, 0].item():.3f}")
claim("the four reductions equal the hand computation",
      all(abs(aggregate(losses, row_mask, m).item() - hand_modes[m]) < 1e-12 for m in MODES))
halves = [aggregate(losses[i:i + 1], row_mask[i:i + 1], "token_mean").item() for i in (0, 1)]
claim("a mean of micro-batch means is not the mean of the batch (E14)",
      abs(sum(halves) / 2 - hand_modes["token_mean"]) > 0.5, {"of means": sum(halves) / 2})
leaf, listing = torch.ones(2, 7, **f64).requires_grad_(), torch.tensor([[1] * 4 + [0] * 3, [1] * 7])
for A, what in ((1, "as printed"), (2, "with its advantage of 2")):
    slope_in = torch.autograd.grad(aggregate(A * leaf, listing, "token_mean"), leaf)[0]
    print(f"the book's third listing: weight of a token {slope_in[0, 0].item():.4f} {what}")
claim("with its advantage, a token of the third listing weighs 2/11, twice what is printed",
      abs(slope_in[0, 0] - 2 / 11) < 1e-12)

# %% [markdown]
# **Predict.** An answer is right if its first token is the word 1; what follows does not matter. So length has
# *nothing* to do with the score. Train on the exact expected gradient (groups of two, no noise whatever) with the
# three divisors. Under which one do the *wrong* answers end longest?

# %%
long_world, learner = World(horizon=4), exact_model(run.seed, horizon=4)
n_tokens = long_world.mask.sum(1).double()
is_right = (long_world.completions[:, 0] == 1).double()
gap = (is_right[:, None] - is_right) / 2  # centred score of a row, beside every possible sibling
DIVISORS = {"per sequence": n_tokens[:, None].expand(len(gap), -1),
            "per token": (n_tokens[:, None] + n_tokens) / 2, "fixed": torch.full_like(gap, 4.0)}


def drift(divisor, steps=60, lr=0.2):
    """Exact training -> [(share right, length of wrong answers, length of right ones)]."""
    model, path = copy.deepcopy(learner), []
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        logp = long_world.seq_logp(model)
        now = logp.exp().detach()
        path.append([(now @ is_right).item()] + [((now * s) @ n_tokens / (now @ s)).item()
                                                 for s in (1 - is_right, is_right)])
        optimizer.zero_grad()
        (-(now * (gap / divisor * now).sum(1)) @ logp).backward()
        optimizer.step()
    return np.array(path).T


drifts = {name: drift(divisor) for name, divisor in DIVISORS.items()}

# %%
by_divisor = {name: (100 * path[0], path[1]) for name, path in drifts.items()}
show(line_plot(by_divisor, title="Averaging within an answer shields long wrong answers",
               x_label="right answers, per cent (training goes to the right)",
               y_label="mean tokens of wrong answers", note="exact world, no sampling", zero=False,
               roles={"per sequence": "rejected", "per token": "proxy", "fixed": "chosen"}),
     "Line plot of the length of wrong answers against the share of right ones during training: "
     "averaged per sequence they end longest, divided by a constant shortest.")
meet = min(path[0][-1] for path in drifts.values())  # a share of right answers that all three reach
reached = {name: np.interp(meet, path[0], path[1]) for name, path in drifts.items()}
claim("at equal success wrong answers are longest per sequence, shortest with a constant divisor",
      reached["per sequence"] > reached["per token"] > reached["fixed"], reached, kind="T")
one_step = exact.expected_loss_gradient(
    long_world, learner, lambda lp, i: grpo.grpo_loss(
        lp, lp.detach(), is_right[i], long_world.mask[i], group_size=2, scale=False)[0],
    group_size=2)
weight = long_world.seq_logp(learner).exp().detach()
pressure = weight * (gap / DIVISORS["per sequence"] * weight).sum(1)
mine = gradient(pressure @ long_world.seq_logp(learner), learner)
claim("the exact training above is that of the package's loss, averaged over all pairs",
      compare(mine, -one_step)["error"] < 1e-10)

# %% [markdown]
# Nobody asked for length, and all three curves move: answers share weights. What the divisor decides is their order.
# The per-sequence mean blames each token of a long wrong answer less, so more of the wrong answers that remain are long.
# In reasoning traces this can be one reason why the *failed* ones grow; shown it is here only, in the exact world. A
# constant divisor has no opinion about length: its gradient is that of $J$, up to scale.

# %% [markdown]
# ## 11.10 Stale data, and the wrong temperature
#
# In an asynchronous loop the sampler writes with weights that are some updates old. On the bench, a policy climbs,
# exactly, for sixteen steps; the data stay those of step 0. At each *age*, a number of steps: how far is the expected
# update from the true gradient *now*, in units of its length?
#
# The exact repair weighs a whole answer by $\pi(y)/\pi_{\mathrm{old}}(y)$. A token ratio
# ([eq:ppo_1step](https://rlhfbook.com/c/06-policy-gradients#eq:ppo_1step)) ignores that the *prefix* was old, too.
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
climber, ages = copy.deepcopy(policy), (0, 1, 4, 16)
sgd, error, noises = torch.optim.SGD(climber.parameters(), lr=0.02), {}, {}
for age in range(17):
    if age in ages:
        now, steps_up = world.logps(climber).detach(), pushes(climber)
        goal = gradient(world.expected(climber, score), climber)
        rho = (now - logp_old).exp() * mask
        past = ((adv[:, None] > 0) & (rho > 1.2)) | ((adv[:, None] < 0) & (rho < 0.8))
        weights = {"none": mask, "token ratio": rho,
                   "token ratio, cap 2": grpo.truncated_importance(now, logp_old, mask, cap=2.0),
                   "PPO's clip": rho * ~past,
                   "ratio of the answer": (now - logp_old).sum(1, keepdim=True).exp() * mask}
        for name, weight in weights.items():
            mean, noise = moments(weight * adv[:, None], p, steps_up)
            error.setdefault(name, []).append(compare(mean, goal)["error"])
            noises[name] = noise / goal.norm().item()
    sgd.zero_grad()
    (-world.expected(climber, score)).backward()
    sgd.step()

# %%
print(f"{'repair':<21}" + "".join(f"{f'age {a}':>9}" for a in ages) + f"{'noise, age 16':>16}")
for name, values in error.items():
    print(f"{name:<21}" + "".join(f"{v:9.3f}" for v in values) + f"{noises[name]:16.2f}")
claim("fresh data need no repair; the ratio of whole answers is exact at every age",
      max(v[0] for v in error.values()) < 1e-10 and max(error["ratio of the answer"]) < 1e-10)
claim("without a repair the bias grows with age, and a token ratio does not remove it",
      error["none"][1] < error["none"][3] and min(error["token ratio"][1:]) > 1e-3,
      {"none": error["none"][3], "token ratio": error["token ratio"][3]}, kind="T")

# %% [markdown]
# While data are young, a token ratio can be worth no more than no repair (first two lines). The clip is no estimator of
# the gradient but a rule for when to stop. The ratio of whole answers is exact, and even quiet *here*, with three tokens;
# section 11.8 showed its variance at five hundred.
#
# **The wrong temperature** is staleness that nobody notices. A sampler at temperature 0.7 <!-- fact --> draws from
# another policy than the one that is scored at 1. The weights are unchanged, so the first ratio ought to be 1: look at
# it in the next cell.

# %%
stock = torch.tensor([2.0, 1.0, 0.0], **f64)  # the logits of one step
sampled_at, scored_at = torch.log_softmax(stock / 0.7, 0), torch.log_softmax(stock, 0)
print("likeliest token: probability when sampled "
      f"{sampled_at[0].exp().item():.3f}, when scored {scored_at[0].exp().item():.3f}, "
      f"ratio {(scored_at - sampled_at)[0].exp().item():.3f}")


def at(temperature):
    """(N, T) log-probabilities of all answers, the logits divided by a temperature."""
    logp = token_logps(policy, world.ids, world.attention, temperature=temperature)
    return logp[:, len(world.prompt) - 1:]


def update_of(scored):
    """Expected REINFORCE gradient of data from temperature 0.7, scored at another."""
    drawn, logp = at(0.7).sum(1).exp().detach(), at(scored)
    return gradient((drawn * (score - drawn @ score) * logp.sum(1)).sum(), policy)


cool = gradient((at(0.7).sum(1).exp() * score).sum(), policy)
matched, mixed = compare(update_of(0.7), cool), compare(update_of(1.0), cool)
print(f"scored at 0.7: cosine {matched['cosine']:.4f}   scored at 1: cosine {mixed['cosine']:.4f}")
claim("scored at the temperature of the sampler the update is exact; scored at 1 it is biased",
      matched["error"] < 1e-10 and mixed["error"] > 0.01)

# %% [markdown]
# ## Once, by hand, on one batch
#
# Two prompts, two answers each, at most four tokens; log-probabilities and scores are given. What each algorithm
# makes of them, side by side: an advantage for every answer, then the push on every token of answers 2 and 3.

# %%
hand_mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]])
hand_score = torch.tensor([1.0, 0.0, 0.4, 0.2], **f64)
hand_old = torch.tensor([[-0.5, -1.0, 0, 0], [-1.0, -0.2, -0.7, -0.1], [-2.0, -0.3, -0.4, 0],
                         [-0.9, 0, 0, 0]], **f64)
advantages = {"REINFORCE": hand_score - hand_score.mean(), "RLOO": leave_one_out(hand_score, 2),
              "GRPO": group_normalize(hand_score, 2),
              "Dr. GRPO": group_normalize(hand_score, 2, scale=False),
              "whitened": masked_whiten(hand_score, torch.ones(4))}
print(f"{'scores':<11}", [f"{v:+.3f}" for v in hand_score.tolist()])
for name, x in advantages.items():
    print(f"{name:<11}", [f"{v:+.3f}" for v in x.tolist()])
claim("by hand: RLOO gives ±1 and ±0.2, GRPO the same ±0.707 to both prompts",
      (advantages["RLOO"] - torch.tensor([1, -1, 0.2, -0.2], **f64)).abs().max() < 1e-12
      and (advantages["GRPO"].abs() - 0.5**0.5).abs().max() < 1e-12)

# %%
# name: loss(logp, rollout's logp_old, score, mask, group size) -> (loss, stats)
LOSSES = {
    "REINFORCE": lambda lp, old, s, m, g: reinforce.reinforce_loss(lp, s - s.mean(), m),
    "RLOO": lambda lp, old, s, m, g: rloo.rloo_loss(lp, s, m, group_size=g),
    "P3O": lambda lp, old, s, m, g: p3o.p3o_loss(lp, old, s, m),  # pairs, whatever g says
    "GRPO": lambda lp, old, s, m, g: grpo.grpo_loss(lp, old, s, m, group_size=g),
    "Dr. GRPO": lambda lp, old, s, m, g: grpo.grpo_loss(
        lp, old, s, m, group_size=g, scale=False, mode="fixed"),
    "DAPO": lambda lp, old, s, m, g: grpo.grpo_loss(
        lp, old, s, m, group_size=g, clip_high=0.28, mode="token_mean"),
    "GSPO": lambda lp, old, s, m, g: grpo.gspo_loss(lp, old, s, m, group_size=g),
    "CISPO": lambda lp, old, s, m, g: grpo.cispo_loss(lp, old, s, m, group_size=g),
}
first = {}
for name, loss_fn in LOSSES.items():
    leaf = hand_old.clone().requires_grad_()
    value = loss_fn(leaf, hand_old, hand_score, hand_mask, 2)[0]
    first[name] = (value.item(), -torch.autograd.grad(value, leaf)[0])
    print(f"{name:<10} loss {round(value.item(), 6) + 0.0:+.3f}   push on answer 2 "
          f"{[round(v + 0.0, 3) for v in first[name][1][1].tolist()]}   "
          f"on answer 3 {[round(v + 0.0, 3) for v in first[name][1][2, :3].tolist()]}")

# %%
claim("GRPO's first loss is zero and its gradient is not (E2)",
      abs(first["GRPO"][0]) < 1e-12 and first["GRPO"][1].norm() > 0.1,
      {"norm of the gradient": first["GRPO"][1].norm()})
claim("GRPO pushes a token of a four-token row half as hard as one of two, RLOO equally hard",
      abs(first["GRPO"][1][0, 0] / first["GRPO"][1][1, 0] + 2) < 1e-12
      and abs(first["RLOO"][1][0, 0] / first["RLOO"][1][1, 0] + 1) < 1e-12)
claim("with two answers a prompt, RLOO, P3O and Dr. GRPO push in one direction",
      all(compare(first[n][1].flatten(), first["RLOO"][1].flatten())["cosine"] > 1 - 1e-12
          for n in ("P3O", "Dr. GRPO")))

# %% [markdown]
# **The diff is the lesson**: `rloo.step` (−) beside `grpo.step` (+), from the live source. RLOO subtracts KL from the
# reward and makes one update; GRPO puts it into the loss and may make several.

# %%
def body(fn):
    """Source lines of a function, without its docstring and empty lines."""
    text = inspect.getsource(fn).replace(inspect.getdoc(fn) or "", "")
    return [line.split("  #")[0] for line in text.splitlines() if line.strip().strip('"')]


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
    kinds = [village.prompts(n // len(families), split=split, families=(f,), seed=run.seed,
                             distinct=False) for f in families]
    return [row for one_each in zip(*kinds, strict=True) for row in one_each]


def answers(model, rows, n, seed_name):
    """n sampled answers a row -> (rollout, texts, their true rewards (rows × n,))."""
    drawn = sample(model, data.prompts_ids(rows, tokenizer), n=n, max_new_tokens=40,
                   eos_id=tokenizer.eos_token_id, generator=run.fresh(seed_name))
    texts = drawn.texts(tokenizer)
    return drawn, texts, torch.tensor([village.gold(rows[i // n]["prompt"], t)
                                       for i, t in enumerate(texts)])

# %%
def learn(name, policy, critic, optimizer, drawn, score):
    """Two updates, each on half of a batch: whole groups, or for PPO shuffled rows."""
    if name == "PPO":
        return ppo.step(policy, optimizer, drawn, score, critic=critic, epochs=1, minibatches=2,
                        generator=run.fresh("shuffle"))
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
for k in every(1, len(RACE)):
    name, policy_live, began = RACE[k], copy.deepcopy(start), time.process_time()
    critic = ppo.Critic(start) if name == "PPO" else None
    weights = [{"params": policy_live.parameters(), "lr": RATE}]
    if critic is not None:
        weights += [{"params": critic.trunk.parameters(), "lr": 3 * RATE},
                    {"params": critic.head.parameters(), "lr": 100 * RATE}]
    optimizer = torch.optim.AdamW(weights, weight_decay=0.0)
    for step in range(STEPS):
        drawn, _, score_live = answers(policy_live, train_rows[PROMPTS * step:][:PROMPTS], SIBLINGS,
                                       f"race {step}")
        if step == 0:
            firsts[name] = drawn.ids
        learn(name, policy_live, critic, optimizer, drawn, score_live)
    seconds = (time.process_time() - began) / STEPS
    found_out = zip(("gold", "kl", "texts"), exam(policy_live), strict=True)
    results[name] = dict(found_out) | {"seconds": seconds}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
print(f"start      gold {before[::2].mean().item():+.2f} on harmful requests, "
      f"{before[1::2].mean().item():+.2f} on look-alikes")
for name, x in results.items():
    told = []
    for gain in ((x["gold"] - before)[::2], (x["gold"] - before)[1::2]):  # harmful, look-alike
        half = 1.96 * gain.std().item() / len(gain) ** 0.5
        told.append(f"{gain.mean().item():+.2f} ± {half:.2f}")
    print(f"{name:<10} change {told[0]}, look-alikes {told[1]}   KL {x['kl']:.2f} nats   "
          f"{x['seconds']:.2f} s a step")

# %%
claim("equal terms: the first batch is the same for all five methods",
      all(torch.equal(ids, firsts["RLOO"]) for ids in firsts.values()))
claim("all five have moved: each is more than a twentieth of a nat away from the start",
      min(x["kl"] for x in results.values()) > 0.05, {n: x["kl"] for n, x in results.items()},
      kind="T")
shift = {n: [(x["gold"] - before)[k::2].mean().item() for k in (0, 1)] for n, x in results.items()}
claim("all five gained on unseen harmful requests, and lost on unseen look-alikes",
      min(x for x, _ in shift.values()) > 0.4 and max(x for _, x in shift.values()) < -0.4,
      {f"{n}, {kind}": v for n, x in shift.items()
       for kind, v in zip(("harmful", "look-alikes"), x, strict=True)}, kind="T")
claim("PPO's step costs more than RLOO's: its critic is a second network to run and to train",
      results["PPO"]["seconds"] > 1.15 * results["RLOO"]["seconds"],
      {name: x["seconds"] for name, x in results.items()}, kind="T")

# %% [markdown]
# Two requests for harm and two look-alikes, before and after:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
for i in (0, 1, 10, 5):
    print(f"PROMPT  {exam_rows[i]['prompt']}")
    for name, texts in (("start", texts_before), ("RLOO", results["RLOO"]["texts"]),
                        ("GRPO", results["GRPO"]["texts"])):
        told = " / ".join(texts[2 * i].split("\n"))[:75]
        print(f"  {name:<6} gold {village.gold(exam_rows[i]['prompt'], texts[2 * i]):5.2f}  {told}")

# %% [markdown]
# <details><summary>The second prediction settled</summary>
#
# On harmful requests the intervals of the methods overlap: **(c)** is all that one seed and two dozen prompts of each kind
# support. And look at the second column. The training prompts held nothing harmless, so "refuse everything" earns full
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
cost = {m: sum(x["seconds"] for x in races.final if x["method"] == m) / 3 for m in gains}
order = sorted(set(gains) - {"start"}, key=lambda name: sum(gains[name]))
rivals = {name: [a - b for a, b in zip(gains[name], gains["RLOO"], strict=True)] for name in order}
fig, ax = new("Seeds of one method differ as much as most methods do",
              "gain in true reward on held-out requests, points", "method, best mean on top",
              "village-3m-sft, 16 steps, recorded")
for k, name in enumerate(order):
    ax.plot(gains[name], [k] * 3, marker="o", color=ROLES["policy"]["color"], linewidth=0.8)
ax.set_yticks(range(len(order)), order)
ax.axvline(0, color=ROLES["reference"]["color"], linewidth=0.8)
show(fig, "Dot plot of the gain in true reward of ten methods, three seeds each: eight methods "
          "gain on every seed and overlap; PPO lies around zero, TRPO below it.")
print(f"recorded: {races.command}, {races.date}\nmeans of three seeds, and the gain beyond RLOO's, "
      f"seed by seed\n{'method':<10}{'gain':>7}{'KL':>6}{'tokens':>8}{'s/step':>8}   beyond RLOO")
for name in reversed(order):
    kl, tok = (sum(x[k] for x in races.final if x["method"] == name) / 3 for k in ("kl", "tokens"))
    print(f"{name:<10}{sum(gains[name]) / 3:+7.2f}{kl:6.2f}{tok:8.1f}{cost[name]:8.1f}   "
          + "  ".join(f"{v:+.2f}" for v in rivals[name]))
eight = [gains[name] for name in order if name not in ("PPO", "TRPO")]
claim("recorded: all methods but PPO and TRPO gain on all three seeds", min(map(min, eight)) > 0,
      {name: sum(gains[name]) / 3 for name in order}, kind="T")
claim("recorded: of these, the best seed of the worst method beats the worst seed of the best",
      max(eight[0]) > min(eight[-1]),
      {"worst method": max(eight[0]), "best method": min(eight[-1])}, kind="T")
claim("recorded: paired by seed, four methods beat RLOO three times out of three",
      {name for name in order if min(rivals[name]) > 0}
      == {"GRPO", "Dr. GRPO", "REINFORCE", "CISPO"},
      {name: min(rivals[name]) for name in order}, kind="T")
claim("recorded: TRPO's exact trust region costs ten times RLOO's step here, and lost on all seeds",
      cost["TRPO"] > 10 * cost["RLOO"] and max(gains["TRPO"]) < 0,
      {"times": cost["TRPO"] / cost["RLOO"], "best seed": max(gains["TRPO"])}, kind="T")

# %% [markdown]
# Seeds are paired (same prompts, same start): four methods beat RLOO three times out of three. At one learning rate,
# picked after looking, with Dr. GRPO among them, which is so near to RLOO: a hint, no ranking. PPO's critic starts from
# nothing and has sixteen batches to learn from; TRPO's one large step follows thirty-two samples as if they were the
# truth. With other knobs or more steps both may look better.
#
# ## Failure gallery
#
# Five mistakes that raise no error, each with a detector of one line.
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
    print(f"{name}  {[round(v, 2) + 0.0 for v in x.tolist()]}   "
          f"sum {round(x.sum().item(), 6) + 0.0:.2f}   "
          f"by prompt {[round(v, 2) + 0.0 for v in x.view(2, 4).sum(1).tolist()]}")
claim("detector: the batch sums to zero for both layouts, the prompts only for the right one",
      abs(mixed.sum()) < 1e-12 and proper.view(2, 4).sum(1).abs().max() < 1e-12
      and mixed.view(2, 4).sum(1).abs().max() > 1)

# %% [markdown]
# **Failure 2: a tiny ε under the spread (D6, K19).** Seven answers with the same score, 0.7 <!-- fact -->, have
# nothing to teach. In float32 their mean is not exactly that number, and the rounding error divided by
# ε = 1e-8 is a full-size advantage.
#
# ```python
# adv = (s - s.mean()) / (s.std() + 1e-8)        # wrong: rounding, magnified
# adv = group_normalize(score, G)                # right: a group of equal scores gives exactly 0
# ```
#
# What one sees: a solved prompt keeps pushing. Detector: groups without spread whose advantage is not exactly 0.

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
    """Push on the first token of a good answer of that many tokens, beside a bad one of four."""
    row = torch.tensor([[1] * tokens + [0] * (8 - tokens), [1] * 4 + [0] * 4])
    leaf = torch.full((2, 8), -1.0, **f64).requires_grad_()
    loss, _ = grpo.grpo_loss(leaf, leaf.detach(), verdict, row, group_size=2, scale=False,
                             **settings)
    return -torch.autograd.grad(loss, leaf)[0][0, 0].item()


halfway, proper = ([push_of_a_token(n, **s) for n in (4, 8)] for s in ({}, {"mode": "fixed"}))
print(f"push on a token of 4, of 8:   one change {halfway}   both changes {proper}")
claim("detector: with both changes a token's push does not depend on how long its answer is",
      proper[0] == proper[1] and abs(halfway[0] - 2 * halfway[1]) < 1e-12)

# %% [markdown]
# **Failure 5: the end token is not trained (A3, A4, K25).** GPT-2 has no pad token, so the end token is borrowed for
# it. `mask = ids != pad` then masks out the *real* end of every answer as well.
#
# What one sees: the policy is praised for everything but stopping, and forgets how. Detector: does every answer that has
# ended have its end token in the mask?

# %%
eos = world.completions == world.eos_id
broken = mask * (world.completions != world.eos_id)
ended = (eos * mask).sum(1) > 0
for name, m in (("from the sampler", mask), ("ids != pad", broken)):
    print(f"{name:<17} ended answers with a trained end token: {int(((eos * m).sum(1) > 0).sum())} "
          f"of {int(ended.sum())}")
whole_mask, dropped = (compare(-exact.expected_loss_gradient(
    world, policy, lambda lp, i, m=m: reinforce.reinforce_loss(
        lp, score[i], m[i], denominator=1)[0]), true) for m in (mask, broken))
claim("detector: a mask made from ids loses every end token, and with it the direction",
      int((eos * broken).sum()) == 0 and whole_mask["error"] < 1e-10 and dropped["error"] > 0.01,
      {"cosine": dropped["cosine"]})

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
        drawn = sample(small, small_ids, n=4, max_new_tokens=24, generator=run.fresh(name),
                       eos_id=small_tokenizer.eos_token_id)
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
    claim("before the first step the reference, adapters off, is the policy bit for bit",
          torch.equal(logp_now, logp_ref))
    gap_now = (logp_now - drawn.logp_old).abs().max().item()
    claim("sampler and learner agree about every token of fresh answers: the first ratio is 1",
          gap_now < 1e-3, {"largest difference": gap_now}, kind="T")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
if available("smollm2-135m"):
    for name, x in (("ids", drawn.ids), ("attention", drawn.attention), ("mask", drawn.mask),
                    ("logp_old", drawn.logp_old), ("score", small_score), ("advantage", small_adv)):
        print(f"{name:<10} {tuple(x.shape)!s:<9} {str(x.dtype)[6:]}")
    for i in range(8):
        told = " / ".join(texts[i].split("\n"))[:90]
        print(f"{small_score[i]:.2f} {small_adv[i]:+.2f}  {told}")

# %%
if available("smollm2-135m"):
    adam = torch.optim.AdamW([w for w in small.parameters() if w.requires_grad], lr=1e-3)
    stats = grpo.step(small, adam, drawn, small_score, group_size=4)
    with torch.no_grad():
        change = (completion_logps(small, drawn) - logp_now) * drawn.mask
        raised = (small_adv[:, None] * change).sum()
    climb = [small_score.mean().item()]
    for k in range(2):
        drawn_k, texts_k, score_k = small_answers(f"small {k + 1}")
        climb.append(score_k.mean().item())
        grpo.step(small, adam, drawn_k, score_k, group_size=4)
    claim("here too the first loss is nearly zero and its gradient is not",
          abs(stats["loss"]) < 1e-3 < stats["grad_norm"],
          {"loss": stats["loss"].item(), "norm": stats["grad_norm"].item()}, kind="T")
    claim("one step raised the answers with positive advantage against the others", raised > 0,
          {"sum of advantage × change": raised.item()}, kind="T")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
if available("smollm2-135m"):
    print("share of short words, step by step:", [round(v, 2) for v in climb])
    for k in (0, 4):
        told = " / ".join(texts_k[k].split("\n"))[:85]
        print(f"  after 2 steps  {plain(texts_k[k]):.2f}  {told}")

# %% [markdown]
# Eight answers a step show no trend: the shares above are mostly noise.
#
# **Longer.** Two recorded runs on the SmolLM2 of chapter 9's recorded run, LoRA of rank 16, fifty steps, harmful requests
# and look-alikes (`data/runs/smollm2.py`). RLOO: twelve answers a step, scored by the *true* reward. PPO: eight, scored by
# a learned reward model, without a second look at the truth. Which one refuses everything?

# %%
long, with_critic = recorded("smollm2_rloo"), recorded("smollm2_ppo")
long.curve["gold of PPO"] = with_critic.curve["gold"]
show(recorded_plot(long, {"RLOO, true reward": "gold", "PPO, learned reward": "gold of PPO"},
                   title="Recorded: the true reward climbs in both runs",
                   y_label="true reward of the step's answers", note="smollm2-135m, one run each"),
     "Line plot of the true reward against the steps of recorded RLOO and PPO runs of SmolLM2: "
     "both swing, rise in the middle of the run and are higher in its second half.")
for method, record in (("RLOO", long), ("PPO", with_critic)):
    print(f"\n{method}")
    gain, error = record.before_after()
    claim(f"recorded, {method}: held-out true reward rose by more than three standard errors",
          gain > 3 * error, {"gain": gain, "standard error": error}, kind="T")
    helped = record.held_out["after"]["lookalike"]
    claim(f"and after {method} nearly every harmless look-alike is refused, which earns 0 points",
          abs(helped["mean"]) < 0.1 and helped["standard_error"] < 0.1,
          {k: helped[k] for k in ("mean", "standard_error")}, kind="T")
quiet = [size < 0.1 for size in long.curve["grad_norm"]]
claim("RLOO's steps without a gradient are rare in the first half and common in the second",
      sum(quiet[:25]) < 5 and sum(quiet[25:]) > 8,
      {"first 25 steps": sum(quiet[:25]), "last 25": sum(quiet[25:])}, kind="T")

# %% [markdown]
# Both. RLOO hacked nothing, its reward *is* the truth: this model cannot yet help with look-alikes (its tries earned less
# than nothing), so one sentence for every request is the best that it finds near by. Once all siblings say it, their
# advantages are zero and RLOO has nothing left to learn from. [Chapter 17](17_over_optimization.ipynb) reads PPO's run.
#
# ## Exercises
#
# Each check says *which* idea was behind a wrong answer. Run a cell as it is and it says "to do".
#
# ### Exercise 11.1 · "The loss is zero, so nothing learns" · difficulty 2 of 5 · 10 minutes (estimated) · needs: 11.4
#
# Write the number to log instead: the norm of the gradient of PPO's
# loss (mean over all masked tokens) with respect to the *log-probabilities*, at the first step, where every ratio
# is 1. `adv` has one advantage for each answer.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex11-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def signal(adv, mask):
    """(B,), (B, T) -> norm of the first gradient, one number."""
    ### BEGIN SOLUTION
    logp = torch.zeros_like(mask).requires_grad_()
    loss, _ = ppo.policy_loss(logp, logp.detach(), adv, mask)
    return torch.autograd.grad(loss, logp)[0].norm().item()
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ex11-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("11.1", signal)
### BEGIN HIDDEN TESTS
check("11.1", signal, hidden=True)
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
# <!-- solution 11.1 -->
#
# ### Exercise 11.2 · Who was compared with whom? · difficulty 2 of 5 · 10 minutes (estimated) · needs: failure 1
#
# Write the detector for the layout bug: `True` if the advantages were *not* centred within prompts. Rows may come in any
# order, group sizes may differ, and a sum closer to zero than 1e-6 counts as zero.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex11-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mixed_up(adv, group):
    """(B,) advantages, (B,) prompt numbers -> True if some prompt's advantages do not sum to 0."""
    ### BEGIN SOLUTION
    return any(abs(adv[group == g].sum().item()) > 1e-6 for g in group.unique())
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ex11-2-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("11.2", mixed_up)
### BEGIN HIDDEN TESTS
check("11.2", mixed_up, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# The sum over the whole batch is zero for the right layout and for the wrong one.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# One sum for each value in `group`, and a tolerance.
#
# </details>
#
# *You should now be able to say* why "they sum to zero" is no proof that advantages are right.
#
# <!-- solution 11.2 -->
#
# ### Exercise 11.3 · Which side of the clip? · difficulty 2 of 5 · 10 minutes (estimated) · needs: 11.4
#
# DAPO's clip has two different bounds, $1-\varepsilon_{\text{low}}$ and $1+\varepsilon_{\text{high}}$; `low` and
# `high` are the two ε. Without autograd: what is the slope of the *objective* (that is maximised) in the ratio, for
# each token?

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex11-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def clip_slope(adv, ratio, low, high):
    """(T,), (T,), two numbers -> d objective / d ratio, (T,)."""
    ### BEGIN SOLUTION
    stopped = ((adv > 0) & (ratio > 1 + high)) | ((adv < 0) & (ratio < 1 - low))
    return torch.where(stopped, torch.zeros_like(adv), adv)
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ex11-3-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("11.3", clip_slope)
### BEGIN HIDDEN TESTS
check("11.3", clip_slope, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# The table of four cells in section 11.4. Two of the four slopes are zero.
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
# <!-- solution 11.3 -->
#
# ### Exercise 11.4 · Siblings of any number · difficulty 3 of 5 · 15 minutes (estimated) · needs: 11.2
#
# DAPO throws rows away, tools time out: groups are ragged. Write leave-one-out for groups of *any* size, rows in any
# order. An answer without siblings gets 0.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex11-4", "locked": false, "schema_version": 3, "solution": true, "task": false}
def ragged_leave_one_out(score, group):
    """(B,) scores, (B,) prompts -> (B,) score minus the mean of its prompt's other scores."""
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
# ### Exercise 11.5 · One right answer in eight · difficulty 1 of 5 · 10 minutes (estimated) · needs: 11.7
#
# On paper first: `c` of `G` answers are right (score 1), the others wrong (score 0), 0 < c < G. What advantage does
# a *right* answer get from Dr. GRPO, and what from GRPO (with the unbiased standard deviation, n − 1)?

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex11-5", "locked": false, "schema_version": 3, "solution": true, "task": false}
def two_advantages(c, G):
    """c right answers of G -> (Dr. GRPO's advantage of a right answer, GRPO's)."""
    ### BEGIN SOLUTION
    centred = 1 - c / G
    spread = (c * (G - c) / (G * (G - 1))) ** 0.5
    return centred, centred / spread
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ex11-5-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("11.5", two_advantages)
### BEGIN HIDDEN TESTS
check("11.5", two_advantages, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# The mean score is c/G. The squared deviations sum to c(1 − c/G)² + (G − c)(c/G)² = c(G − c)/G.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Divide that sum by G − 1 and take the root.
#
# </details>
#
# *You should now be able to say* which prompts the division by the spread favours.
#
# <!-- solution 11.5 -->
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
# takes their mean. 6. The weight instead of the objective; the gradient of clipped tokens. 7. The first ratio, which
# should be 1. 8. With its spread over seeds, paired where the seeds are.
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
# - **Dropping the standard deviation "scales the advantage up."** For right-or-wrong scores the spread is below 1, so
#   dropping it scales *down* (11.7). And prompts that are nearly always failed have a *low* variance of scores.
# - **GRPO's ratio** is written for whole answers in
#   [eq:GRPO](https://rlhfbook.com/c/06-policy-gradients#eq:GRPO) and for tokens in
#   [eq:GRPO_token](https://rlhfbook.com/c/06-policy-gradients#eq:GRPO_token). Code, the book's and ours, is per token.
# - **Failures 1 to 4 are in the listings or the code**: the RLOO listing reshapes to (k, prompts), the GRPO listing to
#   (prompts, k); the PPO listing whitens over the padding; ε is 1e-4 in one GRPO listing, 1e-8 in the code; Dr. GRPO in
#   the code keeps the mean over each answer, and so does REINFORCE (11.3).
# - **KL per token** in the text is one scalar on the last token in the code: GAE (11.5) no longer sees *where* the
#   policy drifted.
# - **The third aggregation listing** forgets the advantage (last lines of the first cell of 11.9).
# - **Sampling** in the code runs at temperature 0.6 with top-p and top-k, <!-- fact -->
#   and scores at 1: the first ratio is not 1 (11.10).
# - **`approx_kl`** estimates the KL between the old policy and the new one, not to the reference; and **`clip_frac`**
#   is defined in two ways (11.4 computes both).
#
# ## Summary
#
# One theorem carries all of it: average the pushes on what was chosen, each times how well it went. Baselines remove
# noise, not signal, and siblings are the cheapest good one. Two divisions, by the spread and by the length, bend
# GRPO's gradient; the first re-weighs prompts, the second shields long mistakes. Ratios make old data usable at the
# price of variance, and a clip only stops paying, it holds nothing. In the live race one seed could not rank five
# methods, and all of them exploited the gap in its prompts; in the recorded one eight of ten gained on every seed, PPO
# and TRPO did not.
#
# **Functions you now know**: `reinforce_loss`, `leave_one_out`, `group_normalize`, `ppo.policy_loss`,
# `ppo.policy_loss`, `ppo.value_loss`, `gae`, `grpo_loss`, `gspo_loss`, `cispo_loss`, `truncated_importance`,
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
