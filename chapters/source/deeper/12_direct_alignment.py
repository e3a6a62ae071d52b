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
# # 12 · Direct alignment
#
# **Promise.** You will derive DPO line by line and check every line with numbers, see it reach the exact optimum of
# RLHF, and see what it does to the probabilities of real answers.
#
# Companion to [Direct-Alignment Algorithms](https://rlhfbook.com/c/08-direct-alignment) (chapter 8 of today's book)
# in Nathan Lambert's *Reinforcement Learning from Human Feedback*.
#
# <!-- edition -->
#
# <!-- nav -->

# %% [markdown]
# > **You need** the leashed objective and its optimum (chapter 4), the Bradley–Terry model (chapter 7), what KL
# > means (chapter 8).
# >
# > **You will be able to** derive the DPO loss · read a DPO log, both log-probabilities included · say what β sets
# > and what it does not · choose between DPO, IPO, KTO, SimPO and their relatives when labels are noisy or lengths
# > differ · say when a reward model or fresh answers are worth their price.
# >
# > **Costs**: <!-- costs -->. **Models** behind the stored outputs: `village-3m-sft`, three million parameters,
# > made by `make models`; `smollm2-135m` in the section [At GPT-2 size](#At-GPT-2-size).

# %%
import copy
import math
import random

import numpy as np
import torch
import torch.nn.functional as F

from rlhf_minimal import data, village
from rlhf_minimal import direct_alignment as da
from rlhf_minimal.book import available, begin, check, claim, every, recorded, show, show_source
from rlhf_minimal.book.plots import bars, line_plot, recorded_plot
from rlhf_minimal.evaluate import paired_bootstrap
from rlhf_minimal.evaluate.exact import World, exact_model, fit_table, free_energy, gradient, tilted
from rlhf_minimal.ilql import ilql_loss, tilted_logits
from rlhf_minimal.logprobs import sequence_logps, token_logps
from rlhf_minimal.models import adapters_off, load, lora
from rlhf_minimal.reward_model import fit_head
from rlhf_minimal.sampling import sample

run = begin(12)

# %% [markdown]
# ## The question
#
# **If a loss on pairs solves the same problem as RLHF, what exactly does it do to the probabilities of the answers?**
#
# Direct preference optimization (DPO) takes pairs of answers, a *chosen* and a *rejected* one, and trains the
# language model on them directly: no reward model, no sampling, no critic. Later you will train the village model that
# way, at three learning rates.
#
# **Predict before you scroll.** The loss will fall and the accuracy will rise. And the probability of the *chosen*
# answers, on the very pairs that the model is trained on? One letter for the lowest rate, one for a rate ten times higher:
#
# - **(a)** rises: that is what "preferred" means
# - **(b)** stays about where it is, only the rejected ones sink
# - **(c)** falls, together with the rejected ones
#
# Settled in [The loop](#The-loop:-DPO-on-the-village-model).

# %% [markdown]
# ## 12.1 The theorem
#
# RLHF wants answers with a high reward that do not stray too far from a reference model
# ([eq:review_rlhf](https://rlhfbook.com/c/08-direct-alignment#eq:review_rlhf)):
#
# $$\max_\pi\;\mathbb E_{x\sim\mathcal D}\,\mathbb E_{y\sim\pi(y\mid x)}\big[r_\theta(x,y)\big]
#   -\beta\,\mathcal D_{\mathrm{KL}}\big(\pi(y\mid x)\,\|\,\pi_{\mathrm{ref}}(y\mid x)\big)$$
#
# *Said aloud: earn reward, and pay β for each nat between you and the reference.* This is the **leashed objective**.
#
# First half of the derivation: what is the best policy? The answer first: the reference, **tilted** by the reward,
# $\pi^\star(y\mid x)=\frac1Z\,\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}$, where the partition function
# $Z=\sum_y\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}$
# ([eq:dpo_partition](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_partition)) makes it sum to one.
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $x$ | one prompt; the expectation over prompts is an average of such worlds | – | – |
# | $y$ | one of 15 answers | `world.completions` | (15, 3) |
# | $\pi_{\mathrm{ref}}$ | log-probabilities of the reference | `ref` | (15,) |
# | $r$ | the true reward | `r` | (15,) |
# | $\beta$ | price of a nat | `BETA` | one number |
# | $Z$ | partition function, as its logarithm | `log_z` | one number |
# | $\pi^\star$ | best policy | `star` | (15,) |
#
# The *exact world*: a GPT-2 with three tokens and answers of at most three of them, 15 in all. Its reward likes the
# letter b, dislikes a, and likes an answer that ends.

# %%
world, model = World(), exact_model(run.seed)  # token 0 ends the text, 1 is "a", 2 is "b"


def taste(w):
    """(N,) rewards of a world's answers: b is worth +1, a is worth -1, an end +0.5."""
    n_a, n_b, n_end = (((w.completions == t) * w.mask).sum(1).double() for t in (1, 2, 0))
    return n_b - n_a + 0.5 * n_end


def spell(w, i):
    """Answer i of a world as letters; a point ends it."""
    return "".join(".abc"[t] for t in w.completions[i][w.mask[i].bool()].tolist())


r, ref, BETA = taste(world), world.seq_logp(model).detach(), 0.5
log_z = torch.logsumexp(ref + r / BETA, 0)  # eq:dpo_partition
star = ref + r / BETA - log_z               # eq:dpo_opt_policy
for i in star.argsort(descending=True)[:4].tolist():
    print(f"{spell(world, i):<4} reward {r[i].item():+.1f}   reference {ref[i].exp().item():.4f}   "
          f"best policy {star[i].exp().item():.4f}")
claim("the best policy of the paper is a distribution, and it is what `tilted` computes",
      abs(star.exp().sum() - 1) < 1e-12 and (star - tilted(ref, r, BETA)).abs().max() < 1e-12)

# %% [markdown]
# Now the derivation. For **any** policy $\pi$ each line below must give the same number
# ([eq:dpo_deriv_1](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_deriv_1) to
# [eq:dpo_deriv_11](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_deriv_11); where the book minimises, we flip the
# sign and multiply by β again):
#
# - **1** put both terms under one expectation: $\mathbb E_\pi[r-\beta\log\frac{\pi}{\pi_{\mathrm{ref}}}]$
# - **2, 3, 4** split it, change the sign, divide by β: $-\beta\,\mathbb E_\pi[\log\frac{\pi}{\pi_{\mathrm{ref}}}-\frac1\beta r]$
# - **5** add and subtract $\log Z$, inside the bracket by steps **6 to 9**:
#   $-\beta\,\mathbb E_\pi\big[\log\frac{\pi}{\frac1Z\pi_{\mathrm{ref}}e^{r/\beta}}-\log Z\big]$
# - **10, 11** take the constant out and recognise a KL: $-\beta\,\mathcal D_{\mathrm{KL}}(\pi\,\|\,\pi^\star)+\beta\log Z$
#
# *Said aloud: the leashed objective is a constant, minus β times the distance to the tilted reference. So the best
# policy is the tilted reference itself* ([eq:dpo_opt_policy](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_opt_policy)).

# %%
def mean(logp, x):
    return (logp.exp() * x).sum()


noise = torch.randn(15, generator=run.generator, dtype=torch.float64)
any_pi = torch.log_softmax(ref + noise, 0)
ratio = any_pi - ref
lines = {
    "1      one expectation": mean(any_pi, r - BETA * ratio),
    "2      split": mean(any_pi, r) - BETA * mean(any_pi, ratio),
    "3      sign changed (and back)": -(-mean(any_pi, r) + BETA * mean(any_pi, ratio)),
    "4      divided by beta (and back)": -BETA * mean(any_pi, ratio - r / BETA),
    "5, 10  log Z added and subtracted": -BETA * (mean(any_pi, any_pi - star) - log_z),
    "11     a KL and a constant": -BETA * F.kl_div(star, any_pi, log_target=True, reduction="sum")
                                  + BETA * log_z,
}
for name, value in lines.items():
    print(f"eq:dpo_deriv_{name:<36} {value.item():.6f}")
inside = [ratio - r / BETA, ratio - r / BETA + log_z - log_z,  # steps 6 to 9, then 5
          (ratio + log_z) - log_z - r / BETA, (any_pi - (ref - log_z)) - log_z - r / BETA,
          any_pi - star - log_z]
gap = max((x - inside[0]).abs().max() for x in inside)
values = torch.stack(list(lines.values()))
claim("every line of the derivation is the same number; inside the bracket, answer by answer",
      values.max() - values.min() < 1e-12 and gap < 1e-12)
claim("the tilted reference earns beta log Z, and the other policy earns less",
      abs(mean(star, r - BETA * (star - ref)) - free_energy(ref, r, BETA)) < 1e-12
      and values[0] < free_energy(ref, r, BETA))

# %% [markdown]
# **Second half: from the policy back to the preferences.** Take the logarithm of $\pi^\star$ and solve for the reward
# (eq:dpo_reward_deriv1 to 3), which gives
# [eq:dpo_reward_full](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_reward_full):
#
# $$r(x,y)=\beta\log\frac{\pi^\star(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}+\beta\log Z(x)$$
#
# *Said aloud: the reward of an answer is β times how much more likely the best policy makes it, plus something that
# depends on the prompt only.* Bradley and Terry say how rewards become choices
# ([eq:bradley_terry_dpo](https://rlhfbook.com/c/08-direct-alignment#eq:bradley_terry_dpo)): with probability
# $e^{r_1}/(e^{r_1}+e^{r_2})$. Only *differences* matter, so $Z$, which nobody can compute, drops out
# (eq:dpo_loss_deriv0 to
# [eq:dpo_loss_deriv3](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_loss_deriv3)).
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $p^\star(y_1\succ y_2)$ | how often people choose the first | `prefer` | (105,) |
# | $y_1,y_2$ | all pairs of the 15 answers | `one`, `two` | (105,) each |
# | $\beta\log\frac{\pi}{\pi_{\mathrm{ref}}}$ | implicit reward, [eq:dpo_reward](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_reward) | `implicit` | (15,) |

# %%
one, two = torch.triu_indices(15, 15, 1)
prefer = r[one].exp() / (r[one].exp() + r[two].exp())     # eq:bradley_terry_dpo
implicit = BETA * (star - ref)                            # eq:dpo_reward
full = implicit + BETA * log_z                            # eq:dpo_reward_full
steps = {
    "deriv0  with Z": full[one].exp() / (full[one].exp() + full[two].exp()),
    "deriv1  Z cancelled": implicit[one].exp() / (implicit[one].exp() + implicit[two].exp()),
    "deriv2  divided through": 1 / (1 + (implicit[two] - implicit[one]).exp()),
    "deriv3  a sigmoid": torch.sigmoid(implicit[one] - implicit[two]),
}
for name, p in steps.items():
    print(f"eq:dpo_loss_{name:<24} first pair {p[0].item():.6f}   last pair {p[-1].item():.6f}")
claim("taking logs of the best policy gives the reward back, answer by answer",
      (full - r).abs().max() < 1e-12)
claim("all four forms are the probability with which people choose, so Z is not needed",
      all((p - prefer).abs().max() < 1e-12 for p in steps.values()))

# %% [markdown]
# What is left is a classifier. Its negative log-likelihood, with a trainable policy in place of $\pi^\star$, is the loss
# ([eq:dpo_loss_deriv4](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_loss_deriv4),
# [eq:dpo_core](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_core)):
#
# $$\mathcal L_{\mathrm{DPO}}=-\mathbb E_{(x,y_c,y_r)}\Big[\log\sigma\Big(\beta\log\frac{\pi_\theta(y_c\mid x)}{\pi_{\mathrm{ref}}(y_c\mid x)}
#   -\beta\log\frac{\pi_\theta(y_r\mid x)}{\pi_{\mathrm{ref}}(y_r\mid x)}\Big)\Big]$$
#
# *Said aloud: be surprised, in nats, by the choices that people made, if your own change of odds were the reward.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\log\pi_\theta(y_c),\log\pi_\theta(y_r)$ | sums over the answer's tokens | `pi_chosen`, `pi_rejected` | (B,) |
# | the same under $\pi_{\mathrm{ref}}$ | computed once, kept | `ref_chosen`, `ref_rejected` | (B,) |
# | $\sigma$ | $1/(1+e^{-z})$ | `torch.sigmoid` | – |

# %%
show_source(da.dpo_loss)

# %%
def numbers(*values):
    return [torch.tensor([v], dtype=torch.float64) for v in values]


# beta × (chosen log-ratio − rejected log-ratio) = 0.1 × (1 − (−1))
z = 0.1 * ((-10 - -11) - (-14 - -13))
by_hand = math.log1p(math.exp(-z))     # −log σ(z)
loss, _ = da.dpo_loss(*numbers(-10, -14, -11, -13), beta=0.1)
print(f"by hand {by_hand:.6f}   package {loss.item():.6f}")
claim("dpo_loss equals the hand computation", abs(loss.item() - by_hand) < 1e-12)

# %% [markdown]
# **Does it reach the optimum?** Suppose that infinitely many people label every pair. A label is then a share,
# $p^\star$. We minimise the loss with these *soft labels* over a **table**: one free number for each answer.

# %%
def soft_dpo(logp, share, beta):
    """DPO when a share (105,) of the people chose the first -> mean over the pairs."""
    h = beta * ((logp - ref)[..., one] - (logp - ref)[..., two])
    return -(share * F.logsigmoid(h) + (1 - share) * F.logsigmoid(-h)).mean(-1)


four = any_pi[one], any_pi[two], ref[one], ref[two]
claim("if all people agree, the soft loss is dpo_loss",
      abs(soft_dpo(any_pi, torch.ones(105), BETA) - da.dpo_loss(*four, beta=BETA)[0]) < 1e-12)
found = fit_table(lambda logp: soft_dpo(logp, prefer, BETA), ref)
# implicit reward minus true reward: the same constant for all answers
learned = BETA * (found - ref) - r
print("largest difference to the exact optimum below 1e-6:",
      (found - star).abs().max().item() < 1e-6)
claim("DPO on soft labels ends at exactly the policy that solves the RLHF problem",
      (found - star).abs().max() < 1e-6, {"largest difference": (found - star).abs().max().item()})
claim("its implicit reward is the true reward, up to one constant, which is minus beta log Z",
      learned.max() - learned.min() < 1e-6 and abs(learned.mean() + BETA * log_z) < 1e-6)

# %% [markdown]
# **What if** answers that begin with b are compared among themselves only, and likewise all others? Multiply the odds
# of all b-answers by a thousand: the loss does not move. *It sees differences
# inside pairs, and nothing else.* The rest is decided by the network and the optimizer.

# %%
begins_b = world.completions[:, 0] == 2
same_kind = begins_b[one] == begins_b[two]


def seen_loss(logp):
    return da.dpo_loss(*(x[i[same_kind]] for x in (logp, ref) for i in (one, two)), beta=BETA)[0]


moved = torch.log_softmax(any_pi + math.log(1000) * begins_b, 0)
print("probability of the b-answers:",
      " -> ".join(f"{p.exp()[begins_b].sum().item():.4f}" for p in (any_pi, moved)))
claim("moving probability between kinds that were never compared leaves the loss as it is",
      abs(seen_loss(moved) - seen_loss(any_pi)) < 1e-12)

# %% [markdown]
# ## 12.2 What one step does
#
# The gradient of the loss ([eq:dpo_gradient](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_gradient), derived in
# eq:dpo_grad_0 to eq:dpo_grad_3 by the chain rule) has a readable form:
#
# $$\nabla_\theta\mathcal L=-\beta\,\mathbb E\big[w\,(\nabla_\theta\log\pi_\theta(y_c)-\nabla_\theta\log\pi_\theta(y_r))\big],\qquad
#   w=\sigma(r_\theta(y_r)-r_\theta(y_c))$$
#
# *Said aloud: push the chosen answer up and the rejected one down, by the same force, and harder where the model still
# has them in the wrong order.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $r_\theta(y)$ | implicit reward $\beta\log\frac{\pi_\theta}{\pi_{\mathrm{ref}}}$ of the policy in training | `margin` is a difference of two | – |
# | $w$ | the weight of a pair | `w` | one number a pair |

# %%
pupil = copy.deepcopy(model)
with torch.no_grad():
    for weight in pupil.parameters():  # somewhere else than at the start
        weight += 0.1 * torch.randn(weight.shape, generator=run.generator, dtype=torch.float64)
logp = world.seq_logp(pupil)
c, d = 13, 8  # two of the fifteen answers: the chosen and the rejected
loss = da.dpo_loss(*(x[k:k + 1] for x in (logp, ref) for k in (c, d)), beta=BETA)[0]
margin = BETA * ((logp - ref)[c] - (logp - ref)[d])
w = torch.sigmoid(-margin).detach()
formula = -BETA * w * (gradient(logp[c], pupil) - gradient(logp[d], pupil))
for m in (-4.0, 0.0, 4.0):
    print(f"margin {m:+.0f}: weight {torch.sigmoid(torch.tensor(-m)).item():.4f}")
claim("the formula of the gradient equals automatic differentiation through the real network",
      (gradient(loss, pupil) - formula).abs().max() < 1e-12)
start_c = ref[c:c + 1].clone().requires_grad_()
first = da.dpo_loss(start_c, ref[d:d + 1], ref[c:c + 1], ref[d:d + 1], beta=BETA)[0]
first.backward()
claim("at the start, where the policy is the reference, the loss is log 2 and the slope -beta/2",
      abs(first.item() - math.log(2)) < 1e-12 and abs(start_c.grad.item() + BETA / 2) < 1e-12)

# %% [markdown]
# One weight a *pair*: every token of an answer gets the same number, whether it made the difference or not (next cell).
#
# Does the chosen answer's probability rise, then? In a table, yes: with one free number
# an answer, a small step changes the chosen log-probability in proportion to $1-\pi(y_c)+\pi(y_r)$, which is above zero.
# In a network answers *share* weights. When the difference of the two answers has a direction that a third one follows
# even better, the third one takes the probability, from both.
#
# **By hand.** Three answers, `.`, `b.` and `bbb`, and a "network" with a single weight θ: each b multiplies the odds by
# $e^\theta$. At θ = 0 all have probability ⅓. Chosen: `b.`, rejected: `.`. DPO raises θ, as b is what the chosen answer
# has more of. But
# $\frac{d}{d\theta}\log\pi(\texttt{b.})=1-\text{mean number of b}=1-\frac{0+1+3}{3}=-\frac13$.

# %%
tokens_c = torch.tensor([[-1.0, -2.0, -0.5]], dtype=torch.float64, requires_grad=True)
tokens_d = torch.tensor([[-3.0, -0.1]], dtype=torch.float64, requires_grad=True)
da.dpo_loss(tokens_c.sum(1), tokens_d.sum(1), *numbers(-3.5, -3.1), beta=0.1)[0].backward()
print("gradient of the chosen answer's tokens:  ", tokens_c.grad.tolist())
print("gradient of the rejected answer's tokens:", tokens_d.grad.tolist())
claim("all tokens of an answer get the same gradient, whatever they contributed to the margin",
      tokens_c.grad.unique().numel() == 1 and tokens_d.grad.unique().numel() == 1)

# %%
theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
b_count = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
for step in range(4):
    p = torch.log_softmax(theta * b_count, 0)
    named = zip((".", "b.", "bbb"), p.exp().tolist(), strict=True)
    print(f"theta {theta.item():.2f}   " + "   ".join(f"{name:<3} {q:.4f}" for name, q in named))
    if step == 0:
        slope = torch.autograd.grad(p[1], theta, retain_graph=True)[0]
    third = numbers(math.log(1 / 3), math.log(1 / 3))
    step_loss = da.dpo_loss(p[1:2], p[0:1], *third, beta=1.0)[0]
    theta = (theta - torch.autograd.grad(step_loss, theta)[0]).detach().requires_grad_()
claim("by hand: the chosen answer's log-probability starts to fall, with slope -1/3",
      abs(slope + 1 / 3) < 1e-12)

# %% [markdown]
# Chosen down, rejected down, and `bbb`, which nobody ever compared, takes it all. This is **likelihood displacement**.
# How often does one step do that in the real little GPT-2? A step on the pair (c, d) changes $\log\pi(y_c)$ by
# $K_{cc}-K_{cd}$, where $K_{ij}=\nabla\log\pi(y_i)\cdot\nabla\log\pi(y_j)$ says how much two answers share. So the
# chosen one falls if it shares more with the *rejected* answer than with itself. We try all pairs.

# %%
# 121 answers of a, b, c
big, learner = World(vocab=4, horizon=4), exact_model(run.seed, vocab=4, horizon=4)
big_logp = big.seq_logp(learner)
slopes = torch.stack([gradient(x, learner) for x in big_logp])
K = slopes @ slopes.T
falls = K.diag()[:, None] - K < 0  # row: chosen, column: rejected
other = ~torch.eye(len(big), dtype=torch.bool)
alike = other & (big.completions[:, None, 0] == big.completions[None, :, 0])
# row i: slopes of a table's log-probabilities
flat = torch.eye(len(big), dtype=torch.float64) - big_logp.detach().exp()
K_table = flat @ flat.T
table_falls = (K_table.diag()[:, None] - K_table < 0) & other
groups = {"all pairs": other, "same first letter": alike, "others": other & ~alike}
share = {name: falls[group].double().mean().item() for name, group in groups.items()}
claim("in a table no single pair displaces its chosen answer; in the network some do",
      not table_falls.any() and share["all pairs"] > 0, share)
claim("pairs that begin alike, so share more, displace more often than others",
      share["same first letter"] > share["others"], share, kind="T")

# %% [markdown]
# Single pairs rarely do it. But nobody trains on a single pair.
#
# ## 12.3 Where did the mass go?
#
# We sample pairs from the little network, label them without noise, and take sixty DPO steps on all of
# them. The same pairs train two repairs: **DPO + NLL**
# ([eq:dpo_nll](https://rlhfbook.com/c/15-regularization#eq:dpo_nll)), which also imitates the chosen answer (NLL: negative
# log-likelihood), and **IPO**, which asks for a margin of fixed size.
#
# $$\mathcal L_{\mathrm{DPO+NLL}}=\mathcal L_{\mathrm{DPO}}-\alpha\,\mathbb E\big[\log\pi_\theta(y_c)\big],\qquad
#   \mathcal L_{\mathrm{IPO}}=\mathbb E\Big[\Big(h-\frac1{2\beta}\Big)^2\Big],\quad h=\log\frac{\pi_\theta(y_c)}{\pi_{\mathrm{ref}}(y_c)}-\log\frac{\pi_\theta(y_r)}{\pi_{\mathrm{ref}}(y_r)}$$
#
# *Said aloud: keep saying the chosen answer; or stop as soon as the gap is one over two β.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\alpha$ | weight of imitation, per answer | `alpha` | one number |
# | $h$ | difference of log-ratios | – | (B,) |
# | $\frac1{2\beta}$ | IPO's target for $h$, in nats | – | one number |
#
# Columns of the table after the runs: *chosen*, *only*, *rejected* are mean log-probabilities of the chosen answers, of
# those that no other pair rejects, and of the rejected ones; *unseen* is all the probability on answers of no pair;
# *answers* says how many equally likely answers would be as varied ($e$ to the entropy).

# %%
show_source(da.dpo_nll_loss, da.ipo_loss)

# %%
big_r, big_ref = taste(big), big_logp.detach()


def sampled_pairs(n, name):
    """n pairs drawn from the reference, the better answer first; equal rewards are left out."""
    drawn = torch.multinomial(big_ref.exp(), 2 * n, replacement=True,
                              generator=run.fresh(name)).view(2, n)
    a, b = drawn[:, big_r[drawn[0]] != big_r[drawn[1]]]
    better = big_r[a] > big_r[b]
    return torch.where(better, a, b), torch.where(better, b, a)


def train(loss_fn, c, d, steps=60, lr=0.01, **settings):
    """Adam on the whole set of pairs, in the network -> (steps + 1, 121) log-probabilities."""
    pupil, path = copy.deepcopy(learner), []
    adam = torch.optim.Adam(pupil.parameters(), lr=lr)
    for _ in range(steps + 1):
        logp = big.seq_logp(pupil)
        path.append(logp.detach())
        loss = loss_fn(logp[c], logp[d], big_ref[c], big_ref[d], **settings)[0]
        adam.zero_grad()
        loss.backward()
        adam.step()
    return torch.stack(path)


# %%
c32, d32 = sampled_pairs(32, "displacement")
paths = {"DPO": train(da.dpo_loss, c32, d32, beta=0.1),
         "IPO": train(da.ipo_loss, c32, d32, beta=0.1),
         "DPO + NLL": train(da.dpo_nll_loss, c32, d32, beta=0.1, alpha=1.0)}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
unseen = torch.ones(121, dtype=torch.bool)
unseen[torch.cat([c32, d32])] = False
only = c32[~torch.isin(c32, d32)]  # chosen, and never rejected in another pair


def report(logp):
    """Log-probabilities (121,) -> the numbers of one line."""
    p, kl = logp.exp(), mean(logp, logp - big_ref)
    return (logp[c32].mean(), logp[only].mean(), logp[d32].mean(), p[unseen].sum(),
            (-mean(logp, logp)).exp(), p @ big_r, kl)


print(" " * 12 + "".join(f"{x:>9}" for x in (
    "chosen", "only", "rejected", "unseen", "answers", "reward", "KL")))
for name, path in (("start", big_ref[None]), ("DPO, step 10", paths["DPO"][:11]), *paths.items()):
    print(f"{name:<12}" + "".join(f"{x.item():9.2f}" for x in report(path[-1])))
top = paths["DPO"][-1].argsort(descending=True)[:4].tolist()
print("\nmost probable after DPO:")
for i in top:
    kind = "unseen" if unseen[i] else "chosen " + str((c32 == i).sum().item()) + " times"
    was, became = (x[i].exp().item() for x in (big_ref, paths["DPO"][-1]))
    print(f"  {spell(big, i):<5} {was:.3f} -> {became:.3f}   {kind}")

# %%
chosen_path, rejected_path = paths["DPO"][:, c32].mean(1), paths["DPO"][:, d32].mean(1)
curves = {"chosen": chosen_path, "rejected": rejected_path,
          "other: chosen, DPO + NLL": paths["DPO + NLL"][:, c32].mean(1)}
show(line_plot(curves, title="Both means fall; only the gap is trained",
               x_label="DPO step",
               y_label="mean log-probability, nats", note="exact world, 121 answers"),
     "Line plot of mean log-probability against steps in the exact world: under DPO the mean of "
     "the chosen answers falls, that of the rejected much faster; with imitation the chosen rise.")
margins = chosen_path - rejected_path
claim("the margin grows, and chosen answers lose log-probability on average, as rejected ones do",
      margins[-1] > margins[0] + 5 and chosen_path[-1] < chosen_path[0] - 1
      and rejected_path[-1] < chosen_path[-1],
      {"chosen": (chosen_path[-1] - chosen_path[0]).item(),
       "rejected": (rejected_path[-1] - rejected_path[0]).item()}, kind="T")
nll_path = paths["DPO + NLL"][:, c32].mean(1)
claim("with imitation added the chosen answers end no lower than they began",
      nll_path[-1] > nll_path[0],
      {"change": (nll_path[-1] - nll_path[0]).item()}, kind="T")

# %%
drift = paths["DPO"][-1] - paths["DPO"][0]
claim("chosen answers that no pair rejects fall less than the average chosen answer",
      drift[only].mean() > drift[c32].mean() + 0.5,
      {"only": drift[only].mean().item(), "all chosen": drift[c32].mean().item()}, kind="T")
effective = {name: (-mean(path[-1], path[-1])).exp().item() for name, path in paths.items()}
effective["start"] = (-mean(big_ref, big_ref)).exp().item()
claim("DPO gathers the mass on fewer answers than the model had at the start",
      effective["DPO"] < effective["start"], effective, kind="T")
sunk = {name: (path[-1] - path[0])[d32].mean().item() for name, path in paths.items()}
claim("IPO, which stops at its target margin, moves the rejected answers less far than DPO",
      sunk["IPO"] > sunk["DPO"] + 1, sunk, kind="T")

# %% [markdown]
# A doubt: an answer may be chosen in one pair and rejected in another, and then it has to fall. The
# column *only* leaves these out, and they fall less (how much less differs from seed to seed; under IPO they may rise).
# So in this world of one prompt a part of the fall is plain ranking. On the village every pair has a prompt of its
# own, and that excuse is weaker; not gone, as one refusal is chosen for harm and rejected for a harmless look-alike.
#
# Is displacement a catastrophe? Not by itself: look at the reward column. What the average chosen answer lost went to a
# few answers, most of which have *more of what the pairs have in common*, here b. It is one when that is not what you
# wanted. So the log of a run must show both log-probabilities, and samples.

# %% [markdown]
# ## 12.4 β is not a KL
#
# Does β fix the KL of DPO? By the theorem of 12.1, yes, *for soft labels*. But data has *hard* labels: each pair was
# compared once. If all labels agree with one ranking, any margin is beaten by a larger one, and the loss has no minimum.
#
# The cell trains DPO on hard and on soft labels, and IPO on hard ones. **Predict**: β is
# raised fourfold. On hard labels, is the KL lower, higher or the same after 900 steps? And after endless ones?

# %%
PRICES, STEPS = (0.5, 1.0, 2.0), 900
hard, unequal = (r[one] > r[two]).double(), r[one] != r[two]
# 3 kinds of loss × 3 β, trained side by side
tables = torch.stack([ref] * 9).clone().requires_grad_()
adam, kls = torch.optim.Adam([tables], lr=0.05), []
beta = torch.tensor(PRICES, dtype=torch.float64)[:, None]
for step in range(STEPS + 1):
    logp = torch.log_softmax(tables, 1)
    if step % 50 == 0:
        kls.append((logp.exp() * (logp - ref)).sum(1).detach())
    h = ((logp - ref)[:, one] - (logp - ref)[:, two])[:, unequal].view(3, 3, -1)
    said = torch.stack([hard, prefer])[:, None, unequal]
    dpo = -(said * F.logsigmoid(beta * h[:2]) + (1 - said) * F.logsigmoid(-beta * h[:2]))
    ipo = (h[2] * (2 * hard[unequal] - 1) - 1 / (2 * beta)) ** 2
    adam.zero_grad()
    (dpo.sum() + 0.1 * ipo.sum()).backward()
    adam.step()
kls = torch.stack(kls).view(-1, 3, 3)  # time, kind, β
target = torch.stack([mean(p, p - ref) for p in (tilted(ref, r, b) for b in PRICES)])

# %%
x = range(0, STEPS + 1, 50)
shown = {f"rejected: hard, β = {PRICES[k]}": (x, kls[:, 0, k]) for k in (0, 2)}
shown |= {f"policy: soft, β = {PRICES[k]}": (x, kls[:, 1, k]) for k in (0, 2)}
roles = dict(zip(shown, ("rejected", "other", "policy", "other2"), strict=True))
show(line_plot(shown, title="With hard labels KL keeps growing, whatever β", x_label="step",
               y_label="KL to the reference, nats", roles=roles, note="exact world, table"),
     "Line plot of KL to the reference against steps: with hard labels it keeps growing for a "
     "small and a large beta alike, with soft labels each beta has its own plateau.")
late = kls[-1, 0] - kls[len(kls) // 2, 0]
claim("on hard labels KL still grows in the second half of the run, for every beta",
      late.min() > 0.05,
      {f"beta {b}": v.item() for b, v in zip(PRICES, late, strict=True)}, kind="T")
claim("on soft labels KL ends within one per cent of the KL of the exact optimum, for every beta",
      ((kls[-1, 1] - target).abs() / target).max() < 0.01, kind="T")
ceiling = -ref[r.argmax()].item()
claim("on hard labels every beta has left the KL of its RLHF optimum behind",
      (kls[-1, 0] > target + 0.05).all(), {"ceiling": ceiling, "largest": kls[-1, 0].max().item()},
      kind="T")
behind = kls[:, 0, 0] - kls[:, 0, 2]
claim("on hard labels the largest beta is behind at the end, and catching up since half-time",
      0 < behind[-1] < behind[len(kls) // 2] - 0.01,
      {"half-time": behind[len(kls) // 2].item(), "end": behind[-1].item()}, kind="T")
claim("IPO, on the same hard labels, stands still at the end",
      (kls[-1, 2] - kls[-2, 2]).abs().max() < 1e-3, kind="T")

# %% [markdown]
# <details><summary>The prediction settled</summary>
#
# After 900 steps it is *lower*: a larger β arrives later. After endless ones it is *the same*: all mass on the best
# answer, at a KL of minus the log of that answer's reference probability; the lines already close up. β is a brake, not
# a leash. What stops a real run is the number of steps, the learning rate, disagreement between labels, or a loss with a
# target (IPO, label smoothing). So report the measured KL beside β.
#
# </details>

# %% [markdown]
# ## 12.5 The zoo under noise
#
# Most later losses differ in one of four choices: what is *compared* (log-ratios to a reference, or plain
# log-probabilities), whether tokens are *summed or averaged*, the *shape* in the margin, and what is assumed about
# *wrong labels*. Below, $h$ is the difference of log-ratios of 12.3, $z=\beta h$ the
# margin, $\ell(z)=-\log\sigma(z)$ the loss of DPO, and ε the share of labels that are taken to be wrong.
#
# | loss | compares | shape | on wrong labels |
# |---|---|---|---|
# | DPO | log-ratios | $-\log\sigma$ | believes them |
# | cDPO | log-ratios | smoothed: $(1-\varepsilon)\ell(z)+\varepsilon\,\ell(-z)$ | aims at a finite margin |
# | rDPO | log-ratios | corrected: $\frac{(1-\varepsilon)\ell(z)-\varepsilon\,\ell(-z)}{1-2\varepsilon}$ | unbiased, if ε is right |
# | IPO | log-ratios, averages advised | square around $1/(2\beta)$ | finite margin |
# | hinge | log-ratios | $\max(0,1-z)$ | stops at a margin |
# | KTO | *single* log-ratios, against a reference point | $\sigma$, saturates | little pull far on the wrong side |
# | SimPO | averages, no reference | $\ell(\beta\,\text{difference}-\gamma)$, target margin γ | believes them |
# | ORPO | log-odds of averages, no reference | NLL $+\,\beta\,\ell$ | believes and imitates them |
# | CPO | sums, no reference | $\ell$ + NLL | believes and imitates them |
#
# Two more are one-line changes that we leave to you: ODPO subtracts an offset from $z$, more for pairs that are far apart;
# REBEL makes $z$, taken against the *previous* policy, *equal* to a difference of rewards, by least squares.
#
# First one pair to check on paper: sums −10 and −14, reference −11 and −13, five and seven tokens.

# %%
show_source(da.rdpo_loss, da.simpo_loss, da.orpo_loss, da.kto_loss)

# %%
stock = numbers(-10, -14, -11, -13)
per_token = [x / n for x, n in zip(stock, (5, 7, 5, 7), strict=True)]
zoo_numbers = {
    "DPO": da.dpo_loss(*stock)[0], "cDPO, ε = 0.1": da.dpo_loss(*stock, label_smoothing=0.1)[0],
    "rDPO, ε = 0.1": da.rdpo_loss(*stock, label_smoothing=0.1)[0],
    "hinge": da.hinge_loss(*stock)[0],
    "IPO on sums": da.ipo_loss(*stock)[0], "IPO on averages": da.ipo_loss(*per_token)[0],
    "SimPO": da.simpo_loss(*per_token[:2])[0],
    "ORPO log-odds, averages": da.orpo_loss(*per_token[:2])[1]["log_odds"],
    "ORPO log-odds, sums": da.orpo_loss(*stock[:2])[1]["log_odds"],
    "KTO, r = 1, z₀ = 0.2": da.kto_loss(*numbers(1.0), torch.tensor([1]), *numbers(0.2))[0],
}
for name, value in zoo_numbers.items():
    print(f"{name:<24} {value.item() + 0.0:10.6f}")
l_up, l_down = math.log1p(math.exp(-0.2)), math.log1p(math.exp(0.2))
hand = {"DPO": l_up, "cDPO, ε = 0.1": 0.9 * l_up + 0.1 * l_down, "IPO on sums": (2 - 5) ** 2,
        "rDPO, ε = 0.1": (0.9 * l_up - 0.1 * l_down) / 0.8,
        "IPO on averages": (1 / 5 + 1 / 7 - 5) ** 2,
        "hinge": 1 - 0.2, "SimPO": math.log1p(math.e),
        "KTO, r = 1, z₀ = 0.2": 1 / (1 + math.exp(0.08))}
claim("eight of these numbers equal their formulas by hand",
      all(abs(zoo_numbers[k].item() - v) < 1e-12 for k, v in hand.items()))
claim("equal averages, so ORPO sees no preference; on sums the same pair is four nats apart",
      abs(zoo_numbers["ORPO log-odds, averages"]) < 1e-12
      and abs(zoo_numbers["ORPO log-odds, sums"] - 4) < 1e-3)

# %% [markdown]
# **cDPO and rDPO are not the same repair.** Both are told that a share ε of the labels is wrong. cDPO mixes the two
# directions, and so asks for a *finite* margin, even of a pair that is surely right: $\beta h=\log\frac{1-\varepsilon}\varepsilon$.
# rDPO subtracts the expected damage: averaged over the flips, it *is* DPO on the clean label. Its price is variance, as
# the correction divides by $1-2\varepsilon$. And it has no minimum: a pair whose label is taken to be right pays for ever
# larger margins, so in the race below the number of steps decides.
#
# A trainer may accept `label_smoothing` and ignore it (G3). The first loss cannot tell; the second batch can.

# %%
EPS = 0.1
h = torch.linspace(-60, 60, 120001, dtype=torch.float64)  # many gaps
smoothed = -(1 - EPS) * F.logsigmoid(0.1 * h) - EPS * F.logsigmoid(-0.1 * h)
best_h = h[smoothed.argmin()].item()
print(f"cDPO is lowest at beta × margin = {0.1 * best_h:.4f}, "
      f"log((1 − ε)/ε) = {math.log((1 - EPS) / EPS):.4f}")
given = {"label_smoothing": EPS, "beta": 0.1}
flipped = [stock[1], stock[0], stock[3], stock[2]]
average = (1 - EPS) * da.rdpo_loss(*stock, **given)[0] + EPS * da.rdpo_loss(*flipped, **given)[0]
mixed = (1 - EPS) * da.dpo_loss(*stock, **given)[0] + EPS * da.dpo_loss(*flipped, **given)[0]
clean = da.dpo_loss(*stock, beta=0.1)[0]
claim("cDPO's minimum lies at log((1 - eps) / eps)",
      abs(0.1 * best_h - math.log((1 - EPS) / EPS)) < 1e-3)
claim("averaged over flipped labels rDPO is the clean DPO loss, cDPO is not",
      abs(average - clean) < 1e-12 and abs(mixed - clean) > 1e-3)
far_out = da.rdpo_loss(*numbers(1e4, 0, 0, 0), **given)[0]  # z = 1000
claim("far out rDPO's loss falls along a straight line, below every bound",
      abs(far_out + EPS * 1000 / (1 - 2 * EPS)) < 1e-9)
level = numbers(-10, -14, -10, -14)  # policy and reference are one
claim("smoothing changes the loss at a margin other than zero; at zero it cannot",
      abs(da.dpo_loss(*stock, **given)[0] - clean) > 1e-2
      and abs(da.dpo_loss(*level, **given)[0] - da.dpo_loss(*level, beta=0.1)[0]) < 1e-12)

# %%
share = (1 - EPS) * prefer + EPS * (1 - prefer)  # what infinitely many people seem to say


def soft_rdpo(logp):
    h = BETA * ((logp - ref)[one] - (logp - ref)[two])
    wins, losses = -F.logsigmoid(h), -F.logsigmoid(-h)
    first, second = (1 - EPS) * wins - EPS * losses, (1 - EPS) * losses - EPS * wins
    return ((share * first + (1 - share) * second) / (1 - 2 * EPS)).mean()


robust, naive = (fit_table(f, ref) for f in (soft_rdpo, lambda logp: soft_dpo(logp, share, BETA)))
claim("with endless flipped labels rDPO still ends at the exact optimum, and plain DPO does not",
      (robust - star).abs().max() < 1e-6 and (naive - star).abs().max() > 1e-2)

# %% [markdown]
# Now a race on finite labels: 200 comparisons of random pairs, made by a person who follows Bradley–Terry, with no label
# or three in ten flipped. Policies are tables; ten data sets each; a hundred steps. cDPO and rDPO are told the true share
# (without flips they are DPO). The score is the true leashed objective, $\mathbb E[r]-\beta\,\mathrm{KL}$,
# as a share of what is possible: zero is the
# reference, one the exact optimum.

# %%
SEEDS, PAIRS, length = 10, 200, world.mask.sum(1).double()


def labelled(flip):
    """Comparisons (SEEDS, PAIRS): the same pairs and the same person for each share of flips."""
    g = run.fresh("zoo")
    a = torch.randint(15, (SEEDS, PAIRS), generator=g)
    b = (a + torch.randint(1, 15, (SEEDS, PAIRS), generator=g)) % 15
    dice = torch.rand(2, SEEDS, PAIRS, generator=g, dtype=torch.float64)
    first = (dice[0] < torch.sigmoid(r[a] - r[b])) ^ (dice[1] < flip)
    return torch.where(first, a, b), torch.where(first, b, a)


# %%
def zoo_loss(name, logp, c, d, flip):
    """One loss of the zoo on tables (SEEDS, 15)."""
    pi, old = [logp.gather(1, k).flatten() for k in (c, d)], [ref[k].flatten() for k in (c, d)]
    avg = [s / length[k].flatten() for s, k in zip(pi, (c, d), strict=True)]
    if name == "KTO":  # z₀ stands for the KL, known exactly here, one for each data set
        z0 = (logp.exp() * (logp - ref)).sum(1).detach().repeat_interleave(PAIRS)
        rows = torch.cat([x - y - z0 for x, y in zip(pi, old, strict=True)])
        return da.kto_loss(rows, torch.arange(len(rows)) < len(rows) // 2, 0.0, beta=BETA)[0]
    if name == "SimPO":
        return da.simpo_loss(*avg, beta=2.0, gamma=1.0)[0]
    if name in ("ORPO", "CPO"):
        return (da.orpo_loss(*avg, beta=BETA) if name == "ORPO" else da.cpo_loss(*pi, beta=BETA))[0]
    fn = {"IPO": da.ipo_loss, "rDPO": da.rdpo_loss, "hinge": da.hinge_loss}.get(name, da.dpo_loss)
    return fn(*pi, *old, beta=BETA, label_smoothing=flip if name in ("cDPO", "rDPO") else 0.0)[0]


# %%
def race(name, flip, steps=100):
    """Train SEEDS tables side by side -> log-probabilities (SEEDS, 15)."""
    c, d = labelled(flip)
    table = ref.repeat(SEEDS, 1).requires_grad_()
    adam = torch.optim.Adam([table], lr=0.1)
    for _ in range(steps):
        loss = zoo_loss(name, torch.log_softmax(table, 1), c, d, flip)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return torch.log_softmax(table.detach(), 1)


NAMES = ("DPO", "cDPO", "rDPO", "IPO", "hinge", "KTO", "SimPO", "ORPO", "CPO")
begun, best = ref.exp() @ r, free_energy(ref, r, BETA)
score, moved_by = {}, {}
for name in NAMES:
    for flip in (0.0, 0.3):
        logp = race(name, flip)
        kl = (logp.exp() * (logp - ref)).sum(1)
        score[name, flip] = (logp.exp() @ r - BETA * kl - begun) / (best - begun)
        moved_by[name, flip] = kl.mean()

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
print(f"{'loss':<8}{'clean':>8}{'± 2 se':>8}{'KL':>8}{'flipped':>10}{'± 2 se':>8}{'KL':>8}")
for name in NAMES:
    line = f"{name:<8}"
    for flip in (0.0, 0.3):
        x, width = score[name, flip], 8 if flip == 0 else 10
        line += f"{x.mean().item():{width}.2f}{2 * x.std().item() / SEEDS**0.5:8.2f}"
        line += f"{moved_by[name, flip].item():8.2f}"
    print(line)

# %%
lost = score["DPO", 0.0] - score["DPO", 0.3]
half = 3 * lost.std().item() / SEEDS**0.5
claim("flipped labels cost DPO a part of the objective: the interval over data sets excludes zero",
      lost.mean() - half > 0, {"loss": lost.mean().item(), "half interval": half}, kind="S")
spread = {name: score[name, 0.3].std().item() for name in ("DPO", "rDPO", "cDPO")}
claim("with three labels in ten flipped, cDPO scatters less from data set to data set than DPO",
      spread["cDPO"] < spread["DPO"], spread, kind="T")
means = {n: score[n, 0.0].mean().item() for n in ("DPO", "ORPO", "CPO")}
claim("on clean labels DPO gets more of the leashed objective than the two losses that imitate",
      means["DPO"] > max(means["ORPO"], means["CPO"]) + 0.1, means, kind="T")

# %% [markdown]
# The table does not rank the losses: each has knobs of its own (IPO's β means another thing than DPO's), and the score
# rewards the leash, which three of them never promised to keep. It shows how far noise sets each one back, and that
# **unbiased need not be better**: rDPO, right on endless labels, beats plain DPO on two hundred on some seeds and not on
# this one, and mostly scatters more: it enlarges what each label says, wrong ones too. cDPO hardly moves. One world,
# not a law.
#
# ## 12.6 CPL: regret instead of reward
#
# *(beyond the book)* Contrastive preference learning (CPL) assumes that people do not compare sums of rewards but
# *regrets*: how much worse each action was than the best one. For a maximum-entropy policy the advantage of an action is
# $\alpha\log\pi(a\mid s)$, so the loss needs neither reward nor reference
# ([arXiv 2310.13639](https://arxiv.org/abs/2310.13639); not to be confused with CPO):
#
# $$\mathcal L_{\mathrm{CPL}}=-\log\sigma\Big(\alpha\sum_t\gamma^t\big[\log\pi(a^+_t\mid s^+_t)-\lambda\log\pi(a^-_t\mid s^-_t)\big]\Big)$$
#
# *Said aloud: of two answers people choose the one whose steps the best policy finds more likely.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $a^\pm_t,s^\pm_t$ | token t of the chosen (+) or rejected (−) answer, and the prefix before it | – | – |
# | $\alpha,\gamma$ | temperature (DPO's β), discount | `alpha`, `gamma` | numbers |
# | $\lambda$ | below one: conservative, the chosen side counts more | `lam` | one number |

# %%
# beyond the book
tokens, ref_tokens = world.logps(pupil).detach(), world.logps(model).detach()
better = torch.where(hard.bool(), one, two)[unequal]
worse = torch.where(hard.bool(), two, one)[unequal]


def cpl(logp, c, d):
    """CPL at lambda = gamma = 1 on token log-probabilities (15, 3), chosen and rejected rows."""
    return da.cpl_loss(logp[c], logp[d], world.mask[c], world.mask[d], alpha=BETA)[0].item()


def dpo(base, c, d):  # `base`: token log-probabilities of the reference
    return da.dpo_loss(*(x.sum(1)[k] for x in (tokens, base) for k in (c, d)), beta=BETA)[0].item()


every_pair, same = (better, worse), length[better] == length[worse]
coin = math.log(1 / 3) * world.mask.double()  # every token equally likely
bare, whole = dpo(0 * tokens, *every_pair), dpo(ref_tokens, *every_pair)
print(f"CPL {cpl(tokens, *every_pair):.6f}   DPO without a reference {bare:.6f}   DPO {whole:.6f}")
claim("at lambda = gamma = 1 CPL is DPO with the reference terms left out; put back in, it is DPO",
      abs(cpl(tokens, *every_pair) - bare) < 1e-12
      and abs(cpl(tokens - ref_tokens, *every_pair) - whole) < 1e-12)
claim("that is a reference with equally likely tokens only where both answers are equally long",
      abs(cpl(tokens, better[same], worse[same]) - dpo(coin, better[same], worse[same])) < 1e-12
      and abs(cpl(tokens, *every_pair) - dpo(coin, *every_pair)) > 1e-3)


# %%
# beyond the book
def as_cpl(pi_c, pi_r, ref_c, ref_r, *, lam):
    """CPL at gamma = 1 on sums: an answer is one long action."""
    on = torch.ones(len(pi_c), 1)
    return da.cpl_loss(pi_c[:, None], pi_r[:, None], on, on, alpha=0.1, lam=lam)


kept = {lam: train(as_cpl, c32, d32, steps=40, lam=lam)[-1] for lam in (1.0, 0.5)}
lowest = {f"lambda {lam}": p[c32].mean().item() for lam, p in kept.items()}
claim("the conservative form keeps more log-probability on the chosen answers",
      lowest["lambda 0.5"] > lowest["lambda 1.0"],
      lowest | {f"off the data, lambda {lam}": p.exp()[unseen].sum().item() for lam,
                p in kept.items()}, kind="T")

# %% [markdown]
# ## 12.7 Offline reinforcement learning: ILQL
#
# *(beyond the book)* Classic offline RL learns *values* from a fixed set of texts: $Q(s,a)$, the reward to expect after
# token $a$ at prefix $s$, and $V(s)$, that of the prefix. Its trap: $\max_a Q(s,a)$ also looks at tokens that nobody
# wrote there, where Q is arbitrary. Implicit language Q-learning ([arXiv 2206.11871](https://arxiv.org/abs/2206.11871)) takes an upper
# **expectile** over the tokens that *were* written:
#
# $$\mathcal L_V=\big|\tau-\mathbb 1[\hat Q<V]\big|\,(\hat Q-V)^2,\qquad \pi\propto\pi_{\mathrm{data}}\,e^{\eta(Q-V)}$$
#
# *Said aloud: at τ = ½ V is the average outcome, near one the best outcome seen; then tilt towards tokens that did
# better than expected.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $s$ | what has been written so far: one of the prefixes | `where` | (15, 3) |
# | $Q,V$ | tables here; $\hat Q$ is held fixed | `q`, `v` | (S, 3), (S,) |
# | $\tau,\eta$ | optimism, strength of the tilt | `tau`, `eta` | numbers |
#
# The data: two dozen mediocre texts of the reference, in which the two best answers never occur.

# %%
# beyond the book
prefixes, where = {}, torch.zeros(15, 3, dtype=torch.long)
for i, row in enumerate(world.completions.tolist()):
    for t in range(3):
        where[i, t] = prefixes.setdefault(tuple(row[:t]), len(prefixes))
mediocre = ref.exp() * (r < r.sort().values[-2])
texts = torch.multinomial(mediocre, 24, replacement=True, generator=run.fresh("texts"))
at_end = torch.zeros(15, 3, dtype=torch.float64).scatter(1, world.mask.sum(1).long()[:, None] - 1,
                                                         r[:, None])
batch = where[texts], world.completions[texts], at_end[texts], world.mask[texts]
written = torch.zeros(len(prefixes), 3, dtype=torch.float64)
written.index_put_((batch[0][batch[3] > 0], batch[1][batch[3] > 0]), torch.ones(1).double(),
                   accumulate=True)


def ilql(tau, steps=200):
    """Fit Q and V to the texts -> (S, 3), (S,)."""
    q, v = torch.zeros(len(prefixes), 3).double(), torch.zeros(len(prefixes)).double()
    adam = torch.optim.Adam([q.requires_grad_(), v.requires_grad_()], lr=0.1)
    s, ids, reward, mask = batch
    for step in range(steps):
        adam.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        loss = ilql_loss(q[s], q[s], v[s], ids, reward, mask, tau=tau, alpha=0.01)[0]
        adam.zero_grad()
        loss.backward()
        adam.step()
    return q.detach(), v.detach()


def worth(logits):
    """Next-token logits of every prefix (S, 3) -> expected reward of the texts, exactly."""
    token = logits.log_softmax(1)[where, world.completions]
    return ((token * world.mask).sum(1).exp() @ r).item()


# %%
# beyond the book
imitate = (written + 1e-6).log()  # what was never written stays nearly impossible
top_texts = texts[r[texts] >= r[texts].quantile(0.75)]
value, tilted_worth = {}, {}
for tau in (0.5, 0.8, 0.95):
    q, v = ilql(tau)
    value[tau], tilted_worth[tau] = v[0].item(), worth(tilted_logits(imitate, q, v, eta=4.0))
    print(f"tau {tau:<5} value of the empty text {value[tau]:6.2f}   "
          f"reward of the tilted policy {tilted_worth[tau]:6.2f}")
print(f"imitation {worth(imitate):.2f}, of the best quarter {r[top_texts].mean().item():.2f}, "
      f"best text in the data {r[texts].max().item():.2f}, best possible {r.max().item():.2f}")
claim("the value rises with tau, from the average text towards the best one in the data",
      value[0.5] < value[0.8] < value[0.95] < r[texts].max() + 0.05, value, kind="T")
claim("the tilted policy earns more than imitating the texts",
      min(tilted_worth.values()) > worth(imitate),
      tilted_worth, kind="T")

# %%
# beyond the book
guess = torch.randn(200, len(prefixes), 3, generator=run.generator, dtype=torch.float64)
for n in (2, 1, 0):  # 200 untrained tables; now Q is exact where there is data, latest token first
    for i in texts.unique().tolist():
        if world.mask[i, n]:
            last = n == world.mask[i].sum() - 1
            future = r[i] if last else guess[:, where[i, n + 1]].max(1).values  # over *all* tokens
            guess[:, where[i, n], world.completions[i, n]] = future
obeys = (guess.argmax(2)[:, where] == world.completions) | (world.mask == 0)
greedy = obeys.all(2).double().argmax(1)  # the text that follows the largest Q all the way
strange = (~torch.isin(greedy, texts)).double()
half = 3 * strange.std().item() / 200**0.5
claim("part of the texts that a plain maximum over Q prefers was written by nobody",
      strange.mean() - half > 0, {"share": strange.mean().item(), "± 3 se": half}, kind="S")

# %% [markdown]
# Optimism moved the value, not the policy: at η = 4 the tilt is nearly greedy already. Whether it beats imitating the
# best quarter of the texts depends on the texts, and so does how often the maximum falls into the trap (seeds disagree).
# In a table two texts never meet again in one state: there is nothing to *stitch*, and the best text of the data is the
# limit.

# %% [markdown]
# ## 12.8 Old or fresh pairs
#
# With a finite number of labels, do DPO and RLHF also have the same *estimate*? Fit a Bradley–Terry reward, one number an
# answer, then solve the leashed problem exactly; or run DPO. If reward and policy may be *any* functions, it is one and
# the same optimisation in other coordinates.

# %%
wins = torch.binomial(torch.full((105,), 20.0, dtype=torch.float64), prefer,
                      generator=run.fresh("twenty"))
seen_share = (wins + 1) / 22  # twenty labels a pair, and one imagined for each side


def bradley_terry(scores):
    """NLL of the labels; fit_table hands over log-softmax, and only differences count."""
    h = scores[one] - scores[two]
    return -(seen_share * F.logsigmoid(h) + (1 - seen_share) * F.logsigmoid(-h)).mean()


reward_hat = fit_table(bradley_terry, torch.zeros(15, dtype=torch.float64))
two_steps = tilted(ref, reward_hat, BETA)
one_step = fit_table(lambda logp: soft_dpo(logp, seen_share, BETA), ref)
claim("on finite labels too, DPO on a table is a reward table and then exact RL: one policy",
      (two_steps - one_step).abs().max() < 1e-5,
      {"difference": (two_steps - one_step).abs().max().item(),
       "to the truth": (one_step - star).abs().max().item()})

# %% [markdown]
# So the differences that papers report must come from elsewhere: from *which functions* the reward model and the policy
# can represent, from *which answers* are labelled, and from stopping early. We vary the first two. One label
# budget, 64, in the larger world of 121 answers, twenty repetitions, a person with Bradley–Terry noise:
#
# - **offline DPO**: 64 pairs of answers that the *reference* wrote;
# - **online DPO**: eight rounds of eight pairs, written by the policy as it is then;
# - **reward model + RL**: the 64 offline pairs fit a *linear* reward on counts of letters; its features are right here, a
#   gift. No PPO was run: its exact end, the tilt, stands in, which is kind to RL.
#
# The policy is a table: one answer tells it nothing about another. (Not done: pairs of a *foreign* model, and delta
# learning, where even the chosen answers are weak.)
#
# **Predict** the order of the three in true reward.

# %%
RUNS, LABELS, PRICE = 20, 64, 0.5
counts = torch.stack([((big.completions == t) * big.mask).sum(1).double() for t in (0, 1, 2, 3)],
                     1)


def judged(logp, n, g):
    """n pairs from each of RUNS policies, labelled with noise -> (RUNS, n) chosen, rejected."""
    a, b = (torch.multinomial(logp.exp(), n, replacement=True, generator=g) for _ in range(2))
    first = torch.rand(RUNS, n, generator=g,
                       dtype=torch.float64) < torch.sigmoid(big_r[a] - big_r[b])
    return torch.where(first, a, b), torch.where(first, b, a)


def fit_dpo(table, adam, c, d, steps):
    """DPO steps on RUNS tables side by side."""
    for _ in range(steps):
        logp = torch.log_softmax(table, 1)
        pi = [logp.gather(1, k).flatten() for k in (c, d)]
        loss = da.dpo_loss(*pi, *(big_ref[k].flatten() for k in (c, d)), beta=PRICE)[0]
        adam.zero_grad()
        loss.backward()
        adam.step()


g, ends = run.fresh("online"), {}
for name, rounds in (("offline DPO", 1), ("online DPO", 8)):
    table, c, d = big_ref.repeat(RUNS, 1).requires_grad_(), *torch.zeros(2, RUNS, 0,
                                                                         dtype=torch.long)
    adam = torch.optim.Adam([table], lr=0.05)
    for _ in range(rounds):
        fresh = judged(torch.log_softmax(table.detach(), 1), LABELS // rounds, g)
        c, d = (torch.cat([old, new], 1) for old, new in zip((c, d), fresh, strict=True))
        if name == "offline DPO":
            offline_pairs = c, d
        fit_dpo(table, adam, c, d, 240 // rounds)
    ends[name] = torch.log_softmax(table.detach(), 1)
weights = [fit_head(counts[a], counts[b], l2=0.02) for a, b in zip(*offline_pairs, strict=True)]
ends["reward model + RL"] = torch.stack([tilted(big_ref, counts @ w.double(), PRICE)
                                         for w in weights])

# %%
gold = {name: logp.exp() @ big_r for name, logp in ends.items()}
kl = {name: (logp.exp() * (logp - big_ref)).sum(1) for name, logp in ends.items()}
leashed = {name: gold[name] - PRICE * kl[name] for name in ends}
rl = "reward model + RL"
for what, x in (
        ("online DPO earns more true reward than offline DPO",
         gold["online DPO"] - gold["offline DPO"]),
        ("the reward model with exact RL earns more true reward than offline DPO",
         gold[rl] - gold["offline DPO"]),
        ("the reward model with exact RL earns more of the leashed objective than offline DPO",
         leashed[rl] - leashed["offline DPO"])):
    half = 3 * x.std().item() / RUNS**0.5
    claim(f"at equal labels {what}: the interval excludes zero",
          x.mean() - half > 0, {"difference": x.mean().item(), "half interval": half}, kind="S")
show(bars({"reference: start": big_ref.exp() @ big_r}
          | {k.replace(" + ", "\n+ "): v.mean() for k, v in gold.items()}
          | {"gold: exact optimum\nat this β": tilted(big_ref, big_r, PRICE).exp() @ big_r},
          title="Equal labels: fresh pairs, or features that fit, earn more",
          y_label="true reward",
          note="exact world, mean of 20 runs"),
     "Bar chart of true reward at an equal number of labels: the start is lowest, then offline "
     "DPO; online DPO and the reward model with the right features are above it.")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
leash = free_energy(big_ref, big_r, PRICE).item()
for name in ends:
    x, j = gold[name], leashed[name].mean().item()
    print(f"{name:<18} true reward {x.mean().item():5.2f} ± {2 * x.std().item() / RUNS**0.5:.2f}   "
          f"KL {kl[name].mean().item():4.2f}   reward − β·KL {j:5.2f} of {leash:.2f}")

# %% [markdown]
# <details><summary>The prediction settled</summary>
#
# By true reward, fresh pairs beat old ones: they ask about answers that the policy now writes. The reward model, *from
# the same old pairs*, beats DPO on them too, with less KL than the fresh pairs (not clearly on every seed): four weights
# are learned from 64 labels more easily than 121 table entries, and its features happened to be right. With wrong ones RL
# would find another optimum (chapter 17). So "RL beats DPO" is a statement about data and about what generalises, not
# about the theorem.
#
# </details>
#
# ## 12.9 Length and the learning rate
#
# **The learning rate.** Where the loss has no minimum (12.4), steps times learning rate is the leash: see the loop.
#
# **Length.** DPO's log-probabilities are *sums*: a long answer has more tokens with which to build a margin, and raters
# like long answers anyway. Suppose that the labels pay the true reward plus a bonus for each token. Length-controlled DPO
# ([arXiv 2403.19159](https://arxiv.org/abs/2403.19159)) puts the difference of lengths *into* the sigmoid, so that the
# policy need not explain it. SimPO averages instead: that removes length from the *model's* side.

# %%
# beyond the book
BONUS = 0.8
biased = torch.sigmoid((r + BONUS * length)[one] - (r + BONUS * length)[two])


def soft_length_dpo(logp, share, lam):
    """Length-controlled DPO when a share (105,) of the people chose the first."""
    z = BETA * ((logp - ref)[one] - (logp - ref)[two]) + lam * (length[one] - length[two])
    return -(share * F.logsigmoid(z) + (1 - share) * F.logsigmoid(-z)).mean()


sizes = {"len_chosen": length[one], "len_rejected": length[two]}
claim("if all people agree, this is the package's length_dpo_loss", abs(
    soft_length_dpo(any_pi, torch.ones(105), 0.3)
    - da.length_dpo_loss(*four, beta=BETA, lam=0.3, **sizes)[0]) < 1e-12)
plain = fit_table(lambda logp: soft_dpo(logp, biased, BETA), ref)
words = {name: (p.exp() @ length).item() for name, p in (("true optimum", star), ("DPO", plain))}
print("mean length: " + "   ".join(f"{name} {v:.4f}" for name, v in words.items()))
told = fit_table(lambda logp: soft_length_dpo(logp, biased, BONUS), ref)
claim("DPO learns the raters' love of length exactly: its optimum is the tilt by reward plus bonus",
      (plain - tilted(ref, r + BONUS * length, BETA)).abs().max() < 1e-6
      and words["DPO"] > words["true optimum"])
claim("told the bonus, the length-controlled loss ends at the true optimum",
      (told - star).abs().max() < 1e-6)

# %% [markdown]
# ## Once, by hand, on one batch
#
# Two pairs, so four rows, the chosen ones first: one forward pass serves both sides. Three tokens of prompt
# (not scored), answers of two to four tokens, the end token included.
#
# The mask selects the answer's tokens; sum over each row; subtract the reference's sums; then margins, loss, accuracy,
# and the gradient of each token.

# %%
f64 = {"dtype": torch.float64}
hand_mask = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1],
                          [0, 0, 1, 1, 1, 0]])
hand_logp = torch.tensor([[-2.0, -1.5, -0.5, -1.0, -0.2, 0.0], [-2.5, -0.3, -1.2, -0.4, 0.0, 0.0],
                          [-2.0, -1.5, -0.9, -1.1, -0.7, -0.1],
                          [-2.5, -0.3, -0.6, -0.2, -0.1, 0.0]], **f64)
hand_logp.requires_grad_()
sums = (hand_logp * hand_mask).sum(1)
ref_sums = torch.tensor([-2.0, -1.4, -2.5, -1.2], **f64)
ratios = sums - ref_sums
chosen, rejected = ratios.chunk(2)
margins = 0.5 * (chosen - rejected)
for name, value in (("tokens scored", hand_mask.sum(1)), ("sums", sums),
                    ("reference sums", ref_sums),
                    ("log-ratios", ratios), ("margins", margins),
                    ("weights", torch.sigmoid(-margins))):
    print(f"{name:<15} {tuple(value.shape)}  {[round(v, 4) for v in value.tolist()]}")
loss, stats = da.dpo_loss(*sums.chunk(2), *ref_sums.chunk(2), beta=0.5)
loss.backward()
print("   ".join(f"{k} {stats[k].item():.4f}" for k in ("loss", "accuracy", "margin")))
print("gradient, row by row:")
for row in hand_logp.grad.tolist():
    print("   ", [round(v, 4) + 0.0 for v in row])

# %%
# minus beta, times the weight, divided by the two pairs
by_hand = -0.5 * torch.sigmoid(-margins).detach() / 2
claim("by hand: a chosen answer's token gets -beta × weight / pairs, a rejected one's the opposite",
      (hand_logp.grad - torch.cat([by_hand, -by_hand])[:, None] * hand_mask).abs().max() < 1e-12)
claim("prompt and padding get no gradient, and the wrongly ordered pair pulls harder",
      hand_logp.grad[hand_mask == 0].abs().max() == 0 and margins[1] < 0 < margins[0]
      and by_hand[1] < by_hand[0])
short = sums / hand_mask.sum(1)
print("averages a token:", [round(v, 4) for v in short.tolist()])

# %% [markdown]
# ## The loop: DPO on the village model
#
# The pairs come from the **Pool**: answers that `village-3m-sft` wrote
# to training prompts, two of them compared by a noisy person who follows the true reward. Each prompt has further
# answers that nobody compared: **third answers**.
#
# We log two groups, at three learning rates, all else the same: pairs that the run *reads*, once, and pairs of prompts
# that it *never* reads.

# %%
start, tokenizer = load("village-3m-sft")
pool = data.pool().select(source="wide")
KINDS = ("harmful", "lookalike")  # requests to do harm, and harmless ones that look like them
person, luck, rows = village.Annotator(temperature=0.5), random.Random(run.seed), []
for i, group in pool.groups().items():
    texts = list(dict.fromkeys(pool.texts(group, tokenizer)))  # different ones only
    if pool.families[i] in KINDS and len(texts) > 1:
        (a, b), prompt = texts[:2], pool.prompts[i]
        won = person.compare(prompt, a, b, luck) == 1
        rows.append({"prompt": prompt, "family": pool.families[i], "chosen": a if won else b,
                     "rejected": b if won else a, "third": (texts + [None])[2]})
luck.shuffle(rows)
truth = [[village.gold(x["prompt"], x[k]) for x in rows] for k in ("chosen", "rejected")]
agree = np.mean([c > d for c, d in zip(*truth, strict=True) if c != d])
claim("the person usually chooses the answer with the higher true reward, and sometimes not",
      0.5 < agree < 1, {"pairs": len(rows), "agreement": agree}, kind="T")

# %%
BATCH, BETA_LIVE, RATES = 8, 0.1, {"low": 5e-5, "middle": 1.5e-4, "high": 5e-4}
threes = [row for row in rows if row["third"]]
never = threes[:24]
train_rows = [row for row in rows if row not in never][:208]
read = [row for row in train_rows if row["third"]][:24]
probes = {name: (data.collate_pairs(some, tokenizer), data.collate_demonstrations(
    [{"prompt": x["prompt"], "completion": x["third"]} for x in some], tokenizer))
    for name, some in (("read", read), ("never read", never))}


@torch.no_grad()
def look(model):
    """Mean log-probabilities of both groups: chosen, rejected, third answers."""
    out = {}
    for name, (compared, others) in probes.items():
        chosen, rejected = da.pair_logps(model, compared)
        third = sequence_logps(model, others["ids"], others["attention"], others["mask"])
        out |= {f"{name}, {k}": v.mean().item() for k, v in
                (("chosen", chosen), ("rejected", rejected), ("third", third))}
    return out


# %%
batches = list(data.batches(train_rows, BATCH, generator=run.fresh("dpo")))
at_start, policies, log, looks = look(start), {}, {}, {}
for name, rate in RATES.items():
    policy = policies[name] = copy.deepcopy(start)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
    log[name], looks[name] = [], [at_start]
    for step in every(6, len(batches)):
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 5) * (1 - step / len(batches))
        batch = data.collate_pairs(batches[step], tokenizer)
        with torch.no_grad():
            batch["ref_chosen"], batch["ref_rejected"] = da.pair_logps(start, batch)
        stats = da.step(policy, optimizer, batch, beta=BETA_LIVE)
        log[name].append({k: stats[k].item() for k in ("loss", "accuracy", "margin")})
        if step % 4 == 3:
            looks[name].append(look(policy))
claim("before the first update the loss is log 2: reference and policy are one, dropout is off",
      abs(log["low"][0]["loss"] - math.log(2)) < 1e-5)

# %%
change = {(rate, k): [x[k] - at_start[k] for x in looks[rate]] for rate in RATES for k in at_start}
when, lines = [4 * k for k in range(len(looks["low"]))], {}
for rate in ("low", "middle"):
    for kind in ("chosen", "rejected"):
        lines[f"{kind}, {rate} rate"] = (when, change[rate, f"read, {kind}"])
lines["third answers, middle rate"] = (when, change["middle", "read, third"])
roles = dict(zip(lines, ("policy", "other2", "chosen", "rejected", "other"), strict=True))
show(line_plot(lines, title="At the middle rate the gap opens downwards", x_label="step",
               y_label="change of mean log-probability, nats", roles=roles, note="village-3m-sft"),
     "Line plot of the change of mean log-probability against DPO steps, pairs that were read: at "
     "the low rate rejected answers sink a little and chosen ones stay up; at the middle rate "
     "rejected answers sink far, and third answers with them.",
     data=lines)
end = {key: values[-1] for key, values in change.items()}
for rate in RATES:
    gap = end[rate, "read, chosen"] - end[rate, "read, rejected"]
    claim(f"{rate}: the gap between chosen and rejected opens on the pairs that were read",
          gap > 0, {"gap": gap}, kind="T")
mid = {k: end["middle", k] for k in at_start}
claim("at the middle rate chosen answers end lower than at the low one, and third answers sink",
      mid["read, chosen"] < end["low", "read, chosen"] and mid["read, third"] < 0, mid, kind="T")
claim("at the high rate chosen answers, read or unread, sink, and third answers as well",
      max(end["high", f"{group}, {k}"] for group in probes for k in ("chosen", "third")) < -0.3,
      {f"{rate}, {k}": end[rate, k] for rate in ("low", "high") for k in at_start}, kind="T")

# %% [markdown]
# <details><summary>The prediction settled</summary>
#
# It depends on how far one goes, which is the point. At the low rate it is **(b)**, with a little of (a). At the high rate
# it is **(c)**, read or unread; but that model broke, as its samples show. The middle rate has displacement in a model
# that still writes: third answers sink, and chosen ones end lower than at the low rate. What gained is in none of these
# logs.
#
# </details>
#
# Is the model better for it? Unseen prompts of the test split, answered before and after: true reward, KL in nats an
# answer, the log-probability that the policy gives its own answers, words.

# %%
def questions(n, split, seed):
    """n prompts, the two kinds in turn."""
    kinds = [village.prompts(n // 2, split=split, families=(f,), seed=seed, distinct=False)
             for f in KINDS]
    return [row for two in zip(*kinds, strict=True) for row in two]


test = questions(128, "test", run.seed)


def judge(model):
    """Answers to the test prompts -> texts and dict of per-answer tensors."""
    drawn = sample(model, data.prompts_ids(test, tokenizer), n=1, max_new_tokens=40,
                   eos_id=tokenizer.eos_token_id, generator=run.fresh("test"))
    texts = drawn.texts(tokenizer)
    with torch.no_grad():
        old = drawn.on_completion(token_logps(start, drawn.ids, drawn.attention))
    gold = [village.gold(q["prompt"], t) for q, t in zip(test, texts, strict=True)]
    return texts, {"gold": torch.tensor(gold),
                   "KL": ((drawn.logp_old - old) * drawn.mask).sum(1),
                   "ended": drawn.ended.float(),
                   "logp": (drawn.logp_old * drawn.mask).sum(1),
                   "words": torch.tensor([len(t.split()) for t in texts]).float()}


# %%
judged_as = {name: judge(m) for name, m in (("start", start), *policies.items())}
was = judged_as["start"][1]
far = {rate: judged_as[rate][1]["KL"].mean().item() for rate in RATES}
claim("same pairs, same β, same steps: the high rate ends several times further from the reference",
      far["high"] > 2 * far["low"], far, kind="T")

# %%
gained = {rate: paired_bootstrap(judged_as[rate][1]["gold"], was["gold"], seed=run.seed)
          for rate in RATES}
claim("the true reward of answers to unseen requests rises at the low rate, falls at the high one",
      gained["low"][1] > 0 > gained["high"][2],
      {f"{rate}, {k}": v for rate, three in gained.items()
       for k, v in zip(("gain", "low", "high"), three, strict=True)}, kind="S")
tails = {rate: {k: np.mean([x[k] for x in log[rate][-8:]]) for k in log[rate][0]} for rate in RATES}
claim("yet the log praises the high rate: a wider margin, and more than half the pairs right",
      tails["high"]["margin"] > tails["low"]["margin"] + 0.1 and tails["high"]["accuracy"] > 0.5,
      {f"{rate}, {k}": v for rate, x in tails.items() for k, v in x.items()}, kind="T")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
print(f"{'':<10}{'gold':>7}{'KL':>7}{'own log p':>11}{'words':>7}   gain in gold, 95 % interval")
for name, (_, x) in judged_as.items():
    interval = paired_bootstrap(x["gold"], was["gold"], seed=run.seed)
    print(f"{name:<10}" + "".join(f"{x[k].mean().item():{w}.2f}" for k, w in
                                  (("gold", 7), ("KL", 7), ("logp", 11), ("words", 7)))
          + "   {:+.2f}, {:+.2f} to {:+.2f}".format(*interval))
for rate in RATES:
    third = end[rate, "never read, third"]
    print(f"{rate}: last steps " + "   ".join(f"{k} {v:.2f}" for k, v in tails[rate].items())
          + f"   third answers {third:+.2f} nats")
for i in range(4):
    print(f"\nPROMPT  {test[i]['prompt']}")
    for name, (texts, x) in judged_as.items():
        text = " / ".join(texts[i].split(chr(10)))[:140]
        print(f"  {name:<10} gold {x['gold'][i].item():5.2f}  {text}")

# %% [markdown]
# Read the sampled answers before you read the numbers. The same pairs, loss and β gave a model that earns more on unseen
# requests, and a model that has forgotten its language. The margin would have chosen the second, and accuracy does not
# give it away. Whether another *loss* would have done better at the high rate was not tried.
#
# Does the margin follow length, as 12.9 feared? Two dozen pairs do not say; the sign changes with the seed:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
with torch.no_grad():
    policy = policies["high"]
    both = [da.pair_logps(m, probes["never read"][0]) for m in (policy, start)]
    n_c, n_r = probes["never read"][0]["mask"].sum(1).chunk(2)
h = (both[0][0] - both[1][0]) - (both[0][1] - both[1][1])
longer = (n_c - n_r).float()
same = torch.corrcoef(torch.stack([longer, h]))[0, 1].item()
print(f"pairs never read: correlation of (chosen − rejected tokens) with the margin {same:+.2f}; "
      f"chosen {n_c.mean().item():.1f} tokens, rejected {n_r.mean().item():.1f}")

# %% [markdown]
# ## Failure gallery
#
# Three mistakes that run without an error. Before each solution: which single number would you log?
#
# **Failure 1: KTO's reference point by rolling (G7, K54).** KTO compares each answer's log-ratio with a reference
# point $z_0$: the mean log-ratio of *mismatched* pairs, prompt i with the answer to prompt j, which have to be scored
# anew. A shortcut rolls the finished log-ratios by one row:
#
# ```python
# z0 = log_ratio.roll(1).mean().clamp(min=0)               # wrong: the mean of a shuffled list is the same mean
# z0 = (logp(x_i, y_j) - logp_ref(x_i, y_j)).mean().clamp(min=0)   # right: other rows, another forward pass
# ```
#
# What one sees: $z_0$ follows the training pairs themselves; as the rejected ones sink, it clamps to zero for good. (After
# the high-rate run both means clamp, and the bug does no harm; so the cell compares before the clamp, and adds a table of
# four numbers where it does.)

# %%
turn = 7  # answers move seven prompts on: mismatched
some = never[:20]
crossed = [{"prompt": x["prompt"], "completion": some[(k + turn) % 20]["rejected"]} for k,
           x in enumerate(some)]
pack = data.collate_demonstrations(crossed, tokenizer)
with torch.no_grad():
    right_z = torch.sub(*(sequence_logps(m, pack["ids"], pack["attention"], pack["mask"])
                          for m in (policy, start)))
finished = (both[0][1] - both[1][1])[:20]
print("roll changes the mean:", abs(finished.roll(1).mean() - finished.mean()).item() > 1e-4)
ratio_of = torch.tensor([[-0.9, 0.3], [0.1, 0.5]])  # prompt i with the answer to prompt j
by_roll, mismatched = ratio_of.diagonal().roll(1).mean(), ratio_of[[0, 1], [1, 0]].mean()


def other_values(ratios):
    """Largest difference from the finished log-ratios, both in order of size."""
    return (ratios.sort().values - finished.sort().values).abs().max().item()


claim("detector: rolled log-ratios are the old ones in another order; mismatched ones are others",
      other_values(finished.roll(1)) == 0 and other_values(right_z) > 0.05,
      {"mean, matched": finished.mean(), "mean, mismatched": right_z.mean()}, kind="T")
claim("by hand: rolled, the reference point clamps to 0; from mismatched pairs it is 0.2",
      by_roll.clamp(min=0) == 0 and abs(mismatched.clamp(min=0) - 0.2) < 1e-6)

# %% [markdown]
# **Failure 2: averages under an equation of sums (G4, G6).** One flag, `average=True`, and β multiplies nats *a token*.
#
# ```python
# pi_c, pi_r = pair_logps(policy, batch, average=True)   # then dpo_loss(…, beta=0.1): a far smaller effective β
# pi_c, pi_r = pair_logps(policy, batch)                 # DPO as in its equation
# ```
#
# What one sees: a loss that hardly leaves log 2. Detector: margin ÷ β must be of the order of the *answer's*
# log-probabilities, not of a token's.

# %%
hand_sums, hand_avg = sums.detach(), short.detach()
ref_avg = ref_sums / hand_mask.sum(1)
margin_of = {"sums": (hand_sums - ref_sums).chunk(2), "averages": (hand_avg - ref_avg).chunk(2)}
for name, (a, b) in margin_of.items():
    print(f"{name:<9} differences of log-ratios {[round(v, 4) for v in (a - b).tolist()]}")
a, b = margin_of["sums"], margin_of["averages"]
claim("detector: on averages the differences are less than half of those on sums",
      ((b[0] - b[1]).abs() < (a[0] - a[1]).abs() / 2).all())

# %% [markdown]
# **Failure 3: dropout left on (B7).** A freshly loaded model in training mode drops a tenth of its units, at random. In
# one of the two models (the cell: the policy) that is enough.
#
# ```python
# policy.train(); reference.train()        # wrong: both are now noisy, and differ
# disable_dropout(policy)                  # right, and `da.step` does it for you
# ```
#
# What one sees: nothing, unless one looks at the very first loss.

# %%
noisy = copy.deepcopy(start)
for module in noisy.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.1
noisy.train()
batch = data.collate_pairs(never[:16], tokenizer)
with torch.no_grad():
    first = {name: da.dpo_loss(*da.pair_logps(m, batch), *da.pair_logps(start, batch),
                               beta=BETA_LIVE)[0].item()
             for name, m in (("clean", start), ("dropout", noisy))}
print({name: "log 2" if abs(v - math.log(2)) < 1e-6 else "not log 2" for name, v in first.items()})
claim("detector: the first loss is log 2 with dropout off, and something else with dropout on",
      abs(first["clean"] - math.log(2)) < 1e-6 and abs(first["dropout"] - math.log(2)) > 1e-5,
      first)

# %% [markdown]
# ## At GPT-2 size
#
# The same calls on SmolLM2-135M-Instruct, with LoRA: adapters of rank 8, everything else frozen, and the reference is
# the model with its adapters off. A person who likes **plain words** compares two answers: the one with the shorter
# words on average is chosen. The model answers six questions twice. Three steps of four pairs, no more: a check that
# nothing above depends on the village, not a recipe.

# %%
SUBJECTS = ("rain", "honey", "bread", "a river", "wool", "a bridge")
if available("smollm2-135m"):
    small, small_tokenizer = load("smollm2-135m")
    small_policy = lora(small, r=8)
    ask = [{"prompt": f"What is {s}?"} for s in SUBJECTS]
    drawn = sample(small_policy, data.prompts_ids(ask, small_tokenizer), n=2, max_new_tokens=16,
                   eos_id=small_tokenizer.eos_token_id, generator=run.fresh("small"))
    texts, small_pairs = drawn.texts(small_tokenizer), []
    for k, row in enumerate(ask):
        two_texts = sorted(texts[2 * k:2 * k + 2], key=lambda t: len(t) / max(1, len(t.split())))
        if two_texts[0] != two_texts[1]:
            small_pairs.append(row | {"chosen": two_texts[0], "rejected": two_texts[1]})
    all_pairs = data.collate_pairs(small_pairs, small_tokenizer)
    with torch.no_grad(), adapters_off(small_policy):
        cached = da.pair_logps(small_policy, all_pairs)
    n_pairs = len(small_pairs)
    small_optimizer = torch.optim.AdamW([p for p in small_policy.parameters() if p.requires_grad],
                                        lr=1e-3)
    small_log = []
    for k in range(3):
        pick = [(4 * k + i) % n_pairs for i in range(4)]
        batch = data.collate_pairs([small_pairs[i] for i in pick], small_tokenizer)
        # kept from one pass
        batch |= {"ref_chosen": cached[0][pick], "ref_rejected": cached[1][pick]}
        small_log.append(da.step(small_policy, small_optimizer, batch, beta=0.1))
    with torch.no_grad():
        trained_logps = da.pair_logps(small_policy, all_pairs)
        with adapters_off(small_policy):
            live = da.pair_logps(small_policy, all_pairs)
    off = max((a - b).abs().max().item() for a, b in zip(cached, live, strict=True))
    claim("the reference numbers that were kept are those of a fresh pass, adapters off",
          off < 1e-5, {"difference": off})
    moved = [(a - b).mean().item() for a, b in zip(trained_logps, live, strict=True)]
    off = abs(small_log[0]["loss"].item() - math.log(2))
    claim("the first loss is log 2", off < 1e-5, {"difference": off})
    claim("DPO opened the gap on the pairs that it read", moved[0] - moved[1] > 0,
          {"chosen": moved[0], "rejected": moved[1]}, kind="T")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
if available("smollm2-135m"):
    print(f"change of log-probability: chosen {moved[0]:+.2f} nats, rejected {moved[1]:+.2f} nats")
    print("loss by step: " + " ".join(f"{x['loss'].item():.3f}" for x in small_log))
    again = sample(small_policy, data.prompts_ids(ask[:2], small_tokenizer), n=1,
                   max_new_tokens=16,
                   eos_id=small_tokenizer.eos_token_id, generator=run.fresh("small again"))
    for k, text in enumerate(again.texts(small_tokenizer)):
        print(f"PROMPT  {ask[k]['prompt']}")
        for name, t in (("chosen", small_pairs[k]["chosen"]),
                        ("rejected", small_pairs[k]["rejected"]), ("after", text)):
            print(f"  {name:<9} {' '.join(t.split())[:120]}")

# %% [markdown]
# **Longer.** A recorded run: the SmolLM2 of chapter 9's recorded run, LoRA of rank 16, sixty steps of eight pairs about
# harmful requests and their harmless look-alikes (`data/runs/smollm2.py`). On which kind will the answers get better?

# %%
long = recorded("smollm2_dpo")
show(recorded_plot(long, {"chosen": "rewards/chosen", "rejected": "rewards/rejected"},
                   title="Recorded: the gap opens because the rejected answers fall",
                   y_label="β × change of log-probability", note="smollm2-135m, LoRA, one run"),
     "Line plot of DPO's implicit rewards against the steps of a recorded run: both are negative "
     "at the end, the rejected answers' far more than the chosen ones'.")
gain, error = long.before_after()
claim("recorded: the true reward of held-out answers rose by more than two standard errors",
      gain > 2 * error, {"gain": gain, "standard error": error}, kind="T")
rise = {family: long.held_out["after"][family]["mean"] - long.held_out["before"][family]["mean"]
        for family in ("harmful", "lookalike")}
claim("recorded: on harmful requests the gain is more than three times that on look-alikes",
      rise["harmful"] > 3 * rise["lookalike"], rise, kind="T")
late = [sum(long.curve[f"rewards/{side}"][-10:]) / 10 for side in ("chosen", "rejected")]
claim("in the last ten steps chosen answers, too, lie below where they began", max(late) < 0,
      dict(zip(("chosen", "rejected"), late, strict=True)), kind="T")

# %% [markdown]
# A refusal is one sentence that fits every harmful request; help is another each time. Displacement is here as well, in
# a model that still writes: both curves go down, and what rises is not in the plot.
#
# ## Exercises
#
# Each check says *which* idea was behind a wrong answer.
#
# ### Exercise 12.1 · Who pulls hardest? · difficulty 1 of 5 · 5 minutes (estimated) · needs: 12.2
#
# A pair that the policy already orders rightly, and one that it orders wrongly: which moves the weights more? Write the
# weight $w$ of each pair in DPO's gradient, a number between zero and one, from the four sums.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex12-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pair_weight(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta):
    """Four (B,) sums of log-probabilities, a number -> (B,) weights of the pairs."""
    ### BEGIN SOLUTION
    margin = beta * ((pi_chosen - ref_chosen) - (pi_rejected - ref_rejected))
    return torch.sigmoid(-margin)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex12-1-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("12.1", pair_weight)
### BEGIN HIDDEN TESTS
check("12.1", pair_weight, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# eq:dpo_gradient has the rejected reward first. What is $w$ when policy and reference are one?
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Margin, times β, inside the sigmoid, with a minus.
#
# </details>
#
# *You should now be able to say* which pairs a DPO batch learns from, and why the others fade.
#
# <!-- solution 12.1 -->
#
# ### Exercise 12.2 · Where did the probability go? · difficulty 2 of 5 · 10 minutes (estimated) · needs: 12.3
#
# The log-probabilities of a chosen and a rejected answer both fell in a run. How much probability did *all other answers*
# to that prompt gain? One number a pair. (Careful: the log is in nats.)

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex12-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def others_gain(chosen_before, rejected_before, chosen_after, rejected_after):
    """Four (B,) sums of log-probabilities -> (B,) change of the probability of everything else."""
    ### BEGIN SOLUTION
    lost = chosen_before.exp() + rejected_before.exp() - chosen_after.exp() - rejected_after.exp()
    return lost  # probabilities sum to one, so the rest gains what the two lose
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex12-2-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("12.2", others_gain)
### BEGIN HIDDEN TESTS
check("12.2", others_gain, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# Everything sums to one, before and after. But not in logs.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# The rest before is one minus two probabilities; the same after; subtract.
#
# </details>
#
# *You should now be able to say* what a DPO log does not show, and how to compute a part of it.
#
# <!-- solution 12.2 -->
#
# ### Exercise 12.3 · How far does a cautious loss go? · difficulty 3 of 5 · 15 minutes (estimated) · needs: 12.4, 12.5
#
# cDPO, told that a share ε of the labels is wrong, stops at a finite gap, like IPO. Write the difference of
# log-ratios $h$ (in nats, *without* β in it) at which cDPO's loss is lowest. What happens as ε goes to zero?

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex12-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def cdpo_gap(eps, beta):
    """Share of wrong labels (0 < eps < 1/2), beta -> the gap h, nats, at which cDPO stops."""
    ### BEGIN SOLUTION
    return math.log((1 - eps) / eps) / beta
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex12-3-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("12.3", cdpo_gap)
### BEGIN HIDDEN TESTS
check("12.3", cdpo_gap, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# Set the slope of $(1-\varepsilon)\ell(z)+\varepsilon\,\ell(-z)$ to zero; the slope of $\ell(z)=-\log\sigma(z)$ is $-\sigma(-z)$.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# You get σ(z) = 1 − ε. Solve for z, then remember that z is β times h.
#
# </details>
#
# *You should now be able to say* how ε and β together set a finite gap, and why plain DPO has none.
#
# <!-- solution 12.3 -->
#
# ### Exercise 12.4 · Somebody planted a bug · difficulty 3 of 5 · 15 minutes (estimated) · needs: 12.5, failure 1
#
# KTO needs a reference point from *mismatched* prompts and answers. You get the full table: entry (i, j) is the log-ratio
# of prompt i with the answer that was written for prompt j. This function runs, and is wrong:
#
# ```python
# def reference_point(table):
#     return table.diagonal().roll(1).clamp(min=0).mean()
# ```
#
# Repair it. Use *all* mismatched entries.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex12-4", "locked": false, "schema_version": 3, "solution": true, "task": false}
def reference_point(table):
    """(B, B) log-ratios, prompt i with answer j -> the reference point z0, a number >= 0."""
    ### BEGIN SOLUTION
    n = len(table)
    return ((table.sum() - table.diagonal().sum()) / (n * (n - 1))).clamp(min=0)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex12-4-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("12.4", reference_point)
### BEGIN HIDDEN TESTS
check("12.4", reference_point, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# Which entries are matched? And is a KL estimated from one row below zero anything to clamp?
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Leave the diagonal out, take one mean, clamp that mean.
#
# </details>
#
# *You should now be able to say* why a shuffled list has the same mean, and why the clamp comes last.
#
# <!-- solution 12.4 -->
#
# ### Exercise 12.5 · Another library's γ · difficulty 3 of 5 · 15 minutes (estimated) · needs: 12.5
#
# A recipe for SimPO gives β and the *ratio* γ/β. The data pipeline delivers *sums* of log-probabilities and lengths in
# tokens. Write the loss of each pair: $-\log\sigma(\beta\,(\text{average}_c-\text{average}_r)-\gamma)$.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex12-5", "locked": false, "schema_version": 3, "solution": true, "task": false}
def simpo_rows(sum_chosen, sum_rejected, len_chosen, len_rejected, beta, gamma_over_beta):
    """(B,) sums and lengths, two numbers -> (B,) losses, one a pair."""
    ### BEGIN SOLUTION
    gap = sum_chosen / len_chosen - sum_rejected / len_rejected
    return F.softplus(-beta * (gap - gamma_over_beta))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex12-5-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("12.5", simpo_rows)
### BEGIN HIDDEN TESTS
check("12.5", simpo_rows, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# Two conversions: from sums to averages, from the ratio to γ.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# γ = β × ratio. The margin is asked of the model, so it makes the loss larger.
#
# </details>
#
# *You should now be able to say* which four numbers you must compare before you reuse somebody's SimPO settings.
#
# <!-- solution 12.5 -->
#
# ## Questionnaire
#
# 1. Which two facts does DPO put together, and what cancels?
# 2. What does the loss say about answers that are in no pair?
# 3. Why can one step on one pair lower its chosen answer in a network, and not in a table?
# 4. What does β set when labels are hard and agree?
# 5. How do cDPO and rDPO differ, in aim and in price?
# 6. When are DPO and a reward model followed by exact RL the same policy? Name two reasons why they differ in practice.
# 7. What is compared in IPO, SimPO and ORPO: sums or averages?
# 8. Which numbers belong in the log of a DPO run?
#
# <details><summary>Answers</summary>
#
# 1. The best policy under the leash is a tilt of the reference, and people choose by differences of rewards; Z cancels.
# 2. Nothing: they are moved by shared weights. 3. Answers share weights, so the step on the rejected one also pulls at
# the chosen one; in a table the change is proportional to 1 − π(chosen) + π(rejected), above zero. 4. How fast the policy
# walks away. 5. cDPO aims at a finite margin and is biased; rDPO is unbiased, has more variance and no minimum. 6. When
# both may be any function of the answer, on the same labels; what generalises (reward or policy), and which answers get
# labelled (old or fresh). 7. IPO: averages advised, sums as printed; SimPO and ORPO: averages. 8. Loss, accuracy,
# margin, *both* log-probabilities, measured KL, learning rate and steps, lengths, samples.
#
# </details>
#
# ## Where the book and its code differ
#
# All at commit a66b0bf.
#
# - **β and the KL** (K51). The list of implementation details says that β sets DPO's KL: not on hard labels (12.4).
# - **Each token by its contribution** (K52). The section on synthetic data says that tokens get gradients by how much they
#   contributed to the margin. Section 12.2: with respect to their log-probabilities all tokens of an answer get the same
#   number.
# - **Which Ψ is IPO** (K48). The logit $\Psi(q)=\log\frac q{1-q}$ gives back RLHF and DPO; IPO takes the *identity*.
# - **ORPO and SimPO** (K49, K50). ORPO is *odds ratio preference optimization*, and its weak penalty falls on the
#   *rejected* answer. SimPO, besides averaging, drops the reference and adds a target margin γ.
# - **Equal weight** (K53). eq:dpo_gradient weighs each pair by $\sigma(r_r-r_c)$: a pair that is learned fades. And [eq:dpo_reward](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_reward) leaves out
#   $\beta\log Z$: fine for differences, which is all that DPO uses, not for comparing two prompts.
# - **KTO in the code** (K54). `code/direct_alignment/loss.py` rolls log-ratios that are already computed: failure 1.
# - **IPO in the code** (K55, G4) works on sums, as printed; its authors advise averages (12.5).
#
# ## Summary
#
# The best policy under a KL leash is a tilt of the reference; so a policy can be read as a reward, and preferences can
# train it directly. With soft labels on all pairs DPO ends at exactly the RLHF optimum. With the labels that one
# has, the loss sees only gaps: both log-probabilities may fall, steps and learning rate limit the KL and β does not, and
# what the pairs have in common decides where probability goes. Its relatives change what is compared, how tokens are
# summed, or what a wrong label may do. In the exact world fresh pairs, or a reward model with fitting features, beat old
# pairs at equal labels.
#
# **Functions you now know**: `direct_alignment.dpo_loss`, `rdpo_loss`, `ipo_loss`, `simpo_loss`, `orpo_loss`, `kto_loss`,
# `cpl_loss`, `dpo_nll_loss`, `length_dpo_loss`, `pair_logps`, `step`; `ilql.ilql_loss`; `exact.fit_table`.
#
# **Further reading**: Rafailov et al. 2023, [arXiv 2305.18290](https://arxiv.org/abs/2305.18290), the derivation; Razin et
# al. 2024, [arXiv 2410.08847](https://arxiv.org/abs/2410.08847), when and why likelihood is displaced; Azar et al. 2023,
# [arXiv 2310.12036](https://arxiv.org/abs/2310.12036), why hard labels overfit; Ivison et al. 2024,
# [arXiv 2406.09279](https://arxiv.org/abs/2406.09279), DPO and PPO with controlled data.
#
# <!-- nav -->
