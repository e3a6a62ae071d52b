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
# # 12 · Direct alignment, deeper
#
# The [lesson](../12_direct_alignment.ipynb) derives DPO in six lines, trains the village model with it and shows which number warns. This notebook adds what stands behind it: every line of the book's derivation as a number, how often a single step sinks its own chosen answer, where the probability goes under three losses, nine losses with wrong labels, two methods from offline reinforcement learning, when fresh pairs or a reward model are worth their price, length, and three more bugs.
#
# Companion to [Direct-Alignment Algorithms](https://rlhfbook.com/c/08-direct-alignment) (chapter 8 of today's book) in Nathan Lambert's *Reinforcement Learning from Human Feedback*.
#
# <!-- edition -->
#
# <!-- nav -->

# %% [markdown]
# > **You need** the lesson.
# >
# > **You will be able to** check a derivation with numbers · compute how much two answers share · say what each loss of the DPO family assumes about wrong labels · say when DPO and a reward model with RL give the same policy, and why they differ in practice · recognise three bugs by one number.
# >
# > **Costs**: <!-- costs -->. **Models** behind the stored outputs: `village-3m-sft`, three million parameters, made by `make models`; `smollm2-135m` in the section [At GPT-2 size](#At-GPT-2-size).

# %%
import copy
import math
import random

import numpy as np
import torch
import torch.nn.functional as F

from rlhf_minimal import data, village
from rlhf_minimal import direct_alignment as da
from rlhf_minimal.book import available, begin, check, claim, plots, recorded, show
from rlhf_minimal.book import show_source
from rlhf_minimal.evaluate.exact import World, exact_model, fit_table, free_energy
from rlhf_minimal.evaluate.exact import gradient, tilted
from rlhf_minimal.evaluate.pairs import PairWatch
from rlhf_minimal.ilql import ilql_loss, tilted_logits
from rlhf_minimal.logprobs import sequence_logps
from rlhf_minimal.models import adapters_off, load, lora
from rlhf_minimal.reward_model import fit_head
from rlhf_minimal.sampling import sample

run = begin(12)

# %% [markdown]
# ## 12.1 Every line of the derivation
#
# RLHF wants a high reward and charges β for each nat of KL to the reference ([eq:review_rlhf](https://rlhfbook.com/c/08-direct-alignment#eq:review_rlhf)):
#
# $$\max_\pi\;\mathbb E_{x\sim\mathcal D}\,\mathbb E_{y\sim\pi(y\mid x)}\big[r_\theta(x,y)\big]
#   -\beta\,\mathcal D_{\mathrm{KL}}\big(\pi(y\mid x)\,\|\,\pi_{\mathrm{ref}}(y\mid x)\big)$$
#
# The best policy is the reference, *tilted* by the reward: $\pi^\star(y\mid x)=\frac1Z\,\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}$. The partition function $Z=\sum_y\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}$ ([eq:dpo_partition](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_partition)) makes it sum to one.
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
# The *exact world*: a GPT-2 with three tokens and answers of at most three of them, 15 in all. Here its reward likes the letter b, dislikes a, and likes an answer that ends.

# %%
# token 0 ends the text, 1 is "a", 2 is "b"
world, model = World(), exact_model(run.seed)


def taste(w):
    """(N,) rewards of a world's answers: b is worth +1, a is worth -1, an end +0.5."""
    counts = [((w.completions == t) * w.mask).sum(1).double() for t in range(3)]
    return counts[2] - counts[1] + 0.5 * counts[0]


def spell(w, i):
    """Answer i of a world as letters; a point ends it."""
    return "".join(".abc"[t] for t in w.completions[i][w.mask[i].bool()].tolist())


r, ref, BETA = taste(world), world.seq_logp(model).detach(), 0.5
log_z = torch.logsumexp(ref + r / BETA, 0)  # eq:dpo_partition
star = ref + r / BETA - log_z               # eq:dpo_opt_policy
for i in star.argsort(descending=True)[:4].tolist():
    was, best = (x[i].exp().item() for x in (ref, star))
    print(f"{spell(world, i):<4} reward {r[i].item():+.1f}   reference {was:.4f}   "
          f"best policy {best:.4f}")
claim("the best policy of the paper sums to one, and is what `tilted` computes",
      abs(star.exp().sum() - 1) < 1e-12
      and (star - tilted(ref, r, BETA)).abs().max() < 1e-12)

# %% [markdown]
# For *any* policy $\pi$ each line of the book must give the same number ([eq:dpo_deriv_1](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_deriv_1) to [eq:dpo_deriv_11](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_deriv_11); where the book minimises, we flip the sign and multiply by β again):
#
# - **1** both terms under one expectation: $\mathbb E_\pi[r-\beta\log\frac{\pi}{\pi_{\mathrm{ref}}}]$
# - **2, 3, 4** split it, change the sign, divide by β: $-\beta\,\mathbb E_\pi[\log\frac{\pi}{\pi_{\mathrm{ref}}}-\frac1\beta r]$
# - **5** add and subtract $\log Z$, inside the bracket by steps **6 to 9**: $-\beta\,\mathbb E_\pi\big[\log\frac{\pi}{\frac1Z\pi_{\mathrm{ref}}e^{r/\beta}}-\log Z\big]$
# - **10, 11** take the constant out and recognise a KL: $-\beta\,\mathcal D_{\mathrm{KL}}(\pi\,\|\,\pi^\star)+\beta\log Z$
#
# So the objective is a constant minus β times the distance to the tilted reference, and the tilted reference is the best policy ([eq:dpo_opt_policy](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_opt_policy)).

# %%
def mean(logp, x):
    return (logp.exp() * x).sum()


noise = torch.randn(15, generator=run.generator, dtype=torch.float64)
any_pi = torch.log_softmax(ref + noise, 0)
ratio = any_pi - ref
distance = F.kl_div(star, any_pi, log_target=True, reduction="sum")
lines = {
    "1      one expectation": mean(any_pi, r - BETA * ratio),
    "2      split": mean(any_pi, r) - BETA * mean(any_pi, ratio),
    "3      sign changed": -(-mean(any_pi, r) + BETA * mean(any_pi, ratio)),
    "4      divided by beta": -BETA * mean(any_pi, ratio - r / BETA),
    "5, 10  log Z in and out": -BETA * (mean(any_pi, any_pi - star) - log_z),
    "11     a KL, a constant": -BETA * distance + BETA * log_z,
}
for name, value in lines.items():
    print(f"eq:dpo_deriv_{name:<26} {value.item():.6f}")

# %%
inside = [  # steps 6 to 9, then 5
    ratio - r / BETA,
    ratio - r / BETA + log_z - log_z,
    (ratio + log_z) - log_z - r / BETA,
    (any_pi - (ref - log_z)) - log_z - r / BETA,
    any_pi - star - log_z,
]
gap = max((x - inside[0]).abs().max() for x in inside)
values = torch.stack(list(lines.values()))
claim("every line of the derivation is one number, the bracket too, answer by answer",
      values.max() - values.min() < 1e-12 and gap < 1e-12)
claim("the tilted reference earns beta log Z, and the other policy earns less",
      abs(mean(star, r - BETA * (star - ref)) - free_energy(ref, r, BETA)) < 1e-12
      and values[0] < free_energy(ref, r, BETA))

# %% [markdown]
# **From the policy back to the preferences.** Take the logarithm of $\pi^\star$ and solve for the reward (eq:dpo_reward_deriv1 to 3), which gives [eq:dpo_reward_full](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_reward_full):
#
# $$r(x,y)=\beta\log\frac{\pi^\star(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}+\beta\log Z(x)$$
#
# Bradley and Terry say how rewards become choices ([eq:bradley_terry_dpo](https://rlhfbook.com/c/08-direct-alignment#eq:bradley_terry_dpo)): with probability $e^{r_1}/(e^{r_1}+e^{r_2})$. Only *differences* matter, so $Z$ drops out in four small steps (eq:dpo_loss_deriv0 to [eq:dpo_loss_deriv3](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_loss_deriv3)). The negative log-likelihood of what is left, with a trainable policy in place of $\pi^\star$, is the loss of the lesson ([eq:dpo_loss_deriv4](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_loss_deriv4), [eq:dpo_core](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_core)).
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
e_full, e_implicit = full.exp(), implicit.exp()
steps = {
    "deriv0  with Z": e_full[one] / (e_full[one] + e_full[two]),
    "deriv1  Z cancelled": e_implicit[one] / (e_implicit[one] + e_implicit[two]),
    "deriv2  divided through": 1 / (1 + (implicit[two] - implicit[one]).exp()),
    "deriv3  a sigmoid": torch.sigmoid(implicit[one] - implicit[two]),
}
for name, p in steps.items():
    print(f"eq:dpo_loss_{name:<24} first pair {p[0].item():.6f}   "
          f"last pair {p[-1].item():.6f}")
claim("taking logs of the best policy gives the reward back, answer by answer",
      (full - r).abs().max() < 1e-12)
claim("all four forms are the probability with which people choose, so Z is not needed",
      all((p - prefer).abs().max() < 1e-12 for p in steps.values()))

# %% [markdown]
# The lesson shows that DPO, trained on the shares of endlessly many people, ends at $\pi^\star$. Then its implicit reward is the true one up to a constant. Which constant?

# %%
def soft_dpo(logp, share, beta):
    """DPO when a share (105,) of the people chose the first -> mean over the pairs."""
    h = beta * ((logp - ref)[..., one] - (logp - ref)[..., two])
    return -(share * F.logsigmoid(h) + (1 - share) * F.logsigmoid(-h)).mean(-1)


found = fit_table(lambda logp: soft_dpo(logp, prefer, BETA), ref)
learned = BETA * (found - ref) - r  # implicit reward minus true reward
print(f"the constant {learned.mean().item():.4f}   - beta log Z {-BETA * log_z:.4f}")
claim("implicit and true reward differ by one constant, -beta log Z",
      learned.max() - learned.min() < 1e-6
      and abs(learned.mean() + BETA * log_z) < 1e-6)

# %% [markdown]
# **What the loss cannot see.** Let answers that begin with b be compared among themselves only, and likewise all others. Multiply the odds of all b-answers by a thousand: the loss does not move. It sees differences inside pairs, and nothing else. The network and the optimizer decide the rest.

# %%
begins_b = world.completions[:, 0] == 2
same_kind = begins_b[one] == begins_b[two]


def seen_loss(logp):
    kinds = [x[i[same_kind]] for x in (logp, ref) for i in (one, two)]
    return da.dpo_loss(*kinds, beta=BETA)[0]


moved = torch.log_softmax(any_pi + math.log(1000) * begins_b, 0)
print("probability of the b-answers:",
      " -> ".join(f"{p.exp()[begins_b].sum().item():.4f}" for p in (any_pi, moved)))
claim("moving probability between kinds never compared leaves the loss as it is",
      abs(seen_loss(moved) - seen_loss(any_pi)) < 1e-12)

# %% [markdown]
# ## 12.2 How often does a step sink its own chosen answer?
#
# The gradient of the loss ([eq:dpo_gradient](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_gradient), derived in eq:dpo_grad_0 to eq:dpo_grad_3 by the chain rule):
#
# $$\nabla_\theta\mathcal L=-\beta\,\mathbb E\big[w\,(\nabla_\theta\log\pi_\theta(y_c)-\nabla_\theta\log\pi_\theta(y_r))\big],\qquad
#   w=\sigma(r_\theta(y_r)-r_\theta(y_c))$$
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $r_\theta(y)$ | implicit reward $\beta\log\frac{\pi_\theta}{\pi_{\mathrm{ref}}}$ of the policy in training | `margin` is a difference of two | – |
# | $w$ | weight of a pair | `w` | one number a pair |
#
# The lesson checks it on one number. Here it is checked for all weights of a real network, at a place other than the start. And it has one weight a *pair*: with respect to their log-probabilities all tokens of an answer get the same number, whether they made the difference or not.

# %%
pupil = copy.deepcopy(model)
with torch.no_grad():
    for weight in pupil.parameters():  # somewhere else than at the start
        away = torch.randn(weight.shape, generator=run.generator, dtype=torch.float64)
        weight += 0.1 * away
logp = world.seq_logp(pupil)
c, d = 13, 8  # two of the fifteen answers: the chosen and the rejected
loss = da.dpo_loss(*(x[k : k + 1] for x in (logp, ref) for k in (c, d)), beta=BETA)[0]
margin = BETA * ((logp - ref)[c] - (logp - ref)[d])
w = torch.sigmoid(-margin).detach()
formula = -BETA * w * (gradient(logp[c], pupil) - gradient(logp[d], pupil))
claim("the formula equals automatic differentiation, in every weight of the network",
      (gradient(loss, pupil) - formula).abs().max() < 1e-12)

# %%
def numbers(*values):
    return [torch.tensor([v], dtype=torch.float64) for v in values]


f64 = {"dtype": torch.float64}
tokens_c = torch.tensor([[-1.0, -2.0, -0.5]], **f64, requires_grad=True)
tokens_d = torch.tensor([[-3.0, -0.1]], **f64, requires_grad=True)
both = tokens_c.sum(1), tokens_d.sum(1)
da.dpo_loss(*both, *numbers(-3.5, -3.1), beta=0.1)[0].backward()
print("gradient of the chosen answer's tokens:  ", tokens_c.grad.tolist())
print("gradient of the rejected answer's tokens:", tokens_d.grad.tolist())
claim("all tokens of an answer get the same gradient, whatever they contributed",
      tokens_c.grad.unique().numel() == 1 and tokens_d.grad.unique().numel() == 1)

# %% [markdown]
# In a table, with one free number an answer, a small step changes the chosen log-probability in proportion to $1-\pi(y_c)+\pi(y_r)$, which is above zero. In a network answers share weights: a step on the pair (c, d) changes $\log\pi(y_c)$ in proportion to $K_{cc}-K_{cd}$, where $K_{ij}=\nabla\log\pi(y_i)\cdot\nabla\log\pi(y_j)$ says how much two answers share. So the chosen answer falls if it shares more with the *rejected* one than with itself. How often is that so in the small GPT-2? We try all pairs of 121 answers of the letters a, b, c.

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
for name, part in share.items():
    print(f"{name:<18} {100 * part:5.2f} % of the pairs sink their chosen answer")
claim("in a table no single pair displaces its chosen answer; in the network some do",
      not table_falls.any() and share["all pairs"] > 0, share)
claim("pairs that begin alike, so share more, displace more often than others",
      share["same first letter"] > share["others"], share, kind="T")

# %% [markdown]
# Single pairs rarely do it. But nobody trains on a single pair.
#
# ## 12.3 Where did the probability go?
#
# We sample pairs from the small network, label them without noise, and take sixty DPO steps on all of them. The same pairs train two repairs: *DPO + NLL* ([eq:dpo_nll](https://rlhfbook.com/c/15-regularization#eq:dpo_nll)), which also imitates the chosen answer (NLL: negative log-likelihood), and *IPO*, which asks for a gap of fixed size.
#
# $$\mathcal L_{\mathrm{DPO+NLL}}=\mathcal L_{\mathrm{DPO}}-\alpha\,\mathbb E\big[\log\pi_\theta(y_c)\big],\qquad
#   \mathcal L_{\mathrm{IPO}}=\mathbb E\Big[\Big(h-\frac1{2\beta}\Big)^2\Big],\quad h=\log\frac{\pi_\theta(y_c)}{\pi_{\mathrm{ref}}(y_c)}-\log\frac{\pi_\theta(y_r)}{\pi_{\mathrm{ref}}(y_r)}$$
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\alpha$ | weight of imitation, per answer | `alpha` | one number |
# | $h$ | difference of log-ratios | – | (B,) |
# | $\frac1{2\beta}$ | IPO's target for $h$, in nats | – | one number |

# %%
show_source(da.dpo_nll_loss, da.ipo_loss)

# %%
big_r, big_ref = taste(big), big_logp.detach()


def sampled_pairs(n, name):
    """n pairs from the reference, the better answer first, without equal rewards."""
    drawn = torch.multinomial(big_ref.exp(), 2 * n, replacement=True,
                              generator=run.fresh(name)).view(2, n)
    a, b = drawn[:, big_r[drawn[0]] != big_r[drawn[1]]]
    better = big_r[a] > big_r[b]
    return torch.where(better, a, b), torch.where(better, b, a)


def train(loss_fn, c, d, steps=60, lr=0.01, **settings):
    """Adam on all pairs, in the network -> (steps + 1, 121) log-probabilities."""
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

# %% [markdown]
# In the table below, *chosen*, *only* and *rejected* are mean log-probabilities of the chosen answers, of those that no other pair rejects, and of the rejected ones. *Unseen* is all the probability on answers of no pair. *Answers* says how many equally likely answers would be as varied ($e$ to the entropy).

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
early = {"start": big_ref[None], "DPO, step 10": paths["DPO"][:11]}
for name, path in (early | paths).items():
    print(f"{name:<12}" + "".join(f"{x.item():9.2f}" for x in report(path[-1])))
top = paths["DPO"][-1].argsort(descending=True)[:4].tolist()
print("\nmost probable after DPO:")
for i in top:
    kind = "unseen" if unseen[i] else f"chosen {(c32 == i).sum().item()} times"
    was, became = (x[i].exp().item() for x in (big_ref, paths["DPO"][-1]))
    print(f"  {spell(big, i):<5} {was:.3f} -> {became:.3f}   {kind}")

# %%
chosen_path, rejected_path = paths["DPO"][:, c32].mean(1), paths["DPO"][:, d32].mean(1)
curves = {"chosen": chosen_path, "rejected": rejected_path,
          "other: chosen, DPO + NLL": paths["DPO + NLL"][:, c32].mean(1)}
show(plots.line_plot(curves, title="Both means fall; only the gap is trained",
               x_label="DPO step",
               y_label="mean log-probability, nats", note="exact world, 121 answers"),
     "Line plot of mean log-probability against steps: under DPO the mean of the "
     "chosen answers falls, that of the rejected faster; with imitation it rises.")
margins = chosen_path - rejected_path
claim("the margin grows, and chosen answers lose log-probability, as rejected ones do",
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
      {"only": drift[only].mean().item(), "all": drift[c32].mean().item()}, kind="T")
effective = {name: (-mean(path[-1], path[-1])).exp().item()
             for name, path in paths.items()}
effective["start"] = (-mean(big_ref, big_ref)).exp().item()
claim("DPO gathers the mass on fewer answers than the model had at the start",
      effective["DPO"] < effective["start"], effective, kind="T")
sunk = {name: (path[-1] - path[0])[d32].mean().item() for name, path in paths.items()}
claim("IPO, which stops at its target, moves the rejected answers less far than DPO",
      sunk["IPO"] > sunk["DPO"] + 1, sunk, kind="T")

# %% [markdown]
# A doubt: an answer may be chosen in one pair and rejected in another, and then it has to fall. The column *only* leaves these out, and they fall less (how much less differs from seed to seed; under IPO they may rise). So in this world of one prompt a part of the fall is plain ranking. In the village every pair has a prompt of its own and that excuse is weaker, but not gone: one refusal is chosen for a harmful request and rejected for a look-alike.
#
# Look at the reward column, too: what the average chosen answer lost went to a few answers, most of which have *more of what the pairs have in common*, here b. Displacement does harm where that is not what you wanted.
#
# ## 12.4 Labels that all agree: DPO goes on, IPO stops
#
# On labels that all agree the lesson lets DPO run and watches its KL climb, for two values of β. Two questions are left. Does the larger β ever catch up? And does a loss with a target stop?

# %%
PRICES, STEPS = (0.5, 2.0), 900
hard, unequal = (r[one] > r[two]).double(), r[one] != r[two]
# 2 losses × 2 β, trained side by side
tables = torch.stack([ref] * 4).clone().requires_grad_()
adam, kls = torch.optim.Adam([tables], lr=0.05), []
beta = torch.tensor(PRICES, dtype=torch.float64)[:, None]
sign = (2 * hard - 1)[unequal]
for step in range(STEPS + 1):
    logp = torch.log_softmax(tables, 1)
    if step % 50 == 0:
        kls.append((logp.exp() * (logp - ref)).sum(1).detach())
    h = ((logp - ref)[:, one] - (logp - ref)[:, two])[:, unequal].view(2, 2, -1) * sign
    dpo_sum = -F.logsigmoid(beta * h[0]).sum()
    adam.zero_grad()
    (dpo_sum + 0.1 * ((h[1] - 1 / (2 * beta)) ** 2).sum()).backward()
    adam.step()
kls = torch.stack(kls).view(-1, 2, 2)  # time, loss, β

# %%
x = range(0, STEPS + 1, 50)
shown = {f"{role}: {name}, β = {PRICES[i]}": (x, kls[:, k, i])
         for role, name, k, i in (("policy", "DPO", 0, 0), ("other2", "DPO", 0, 1),
                                  ("proxy", "IPO", 1, 0), ("other", "IPO", 1, 1))}
show(plots.line_plot(shown, title="On labels that agree IPO stops, DPO goes on",
                     x_label="step", y_label="KL to the reference, nats",
                     note="exact world, table"),
     "Line plot of KL to the reference against steps on labels that all agree: DPO "
     "keeps growing for a small and a large beta, IPO has a plateau for each.")
behind = kls[:, 0, 0] - kls[:, 0, 1]
claim("the larger beta is behind at the end, and catching up since half-time",
      0 < behind[-1] < behind[len(kls) // 2] - 0.01, kind="T")
claim("IPO, on the same labels, stands still at the end",
      (kls[-1, 1] - kls[-2, 1]).abs().max() < 1e-3, kind="T")

# %% [markdown]
# After endless steps both lines of DPO meet: all probability on the best answer, at a KL of minus the log of its reference probability.
#
# ## 12.5 Nine losses and wrong labels
#
# Most later losses differ from DPO in one of four choices: what is *compared* (log-ratios to a reference, or plain log-probabilities), whether tokens are *summed or averaged*, the *shape* in the margin, and what is assumed about *wrong labels*. Below, $h$ is the difference of log-ratios of 12.3, $z=\beta h$ the margin, $\ell(z)=-\log\sigma(z)$ the loss of DPO, and ε the share of labels that are taken to be wrong.
#
# | loss | compares | shape | on wrong labels |
# |---|---|---|---|
# | DPO | log-ratios | $-\log\sigma$ | believes them |
# | cDPO | log-ratios | smoothed: $(1-\varepsilon)\ell(z)+\varepsilon\,\ell(-z)$ | aims at a finite margin |
# | rDPO | log-ratios | corrected: $\frac{(1-\varepsilon)\ell(z)-\varepsilon\,\ell(-z)}{1-2\varepsilon}$ | unbiased, if ε is right |
# | IPO | log-ratios, averages advised | square around $1/(2\beta)$ | finite gap |
# | hinge | log-ratios | $\max(0,1-z)$ | stops at a margin |
# | KTO | *single* log-ratios, against a reference point | $\sigma$, saturates | little pull far on the wrong side |
# | SimPO | averages, no reference | $\ell(\beta\,\text{difference}-\gamma)$, target margin γ | believes them |
# | ORPO | log-odds of averages, no reference | NLL $+\,\beta\,\ell$ | believes and imitates them |
# | CPO | sums, no reference | $\ell$ + NLL | believes and imitates them |
#
# Two more are one-line changes: ODPO subtracts an offset from $z$, more for pairs that are far apart; REBEL makes $z$, taken against the *previous* policy, *equal* to a difference of rewards, by least squares.
#
# First one pair to check on paper: sums −10 and −14, reference −11 and −13, five and seven tokens.

# %%
show_source(da.rdpo_loss, da.simpo_loss, da.orpo_loss, da.kto_loss)

# %%
stock = numbers(-10, -14, -11, -13)
per_token = [x / n for x, n in zip(stock, (5, 7, 5, 7), strict=True)]
(one_row,) = numbers(1.0)
zoo_numbers = {
    "DPO": da.dpo_loss(*stock)[0],
    "cDPO, ε = 0.1": da.dpo_loss(*stock, label_smoothing=0.1)[0],
    "rDPO, ε = 0.1": da.rdpo_loss(*stock, label_smoothing=0.1)[0],
    "hinge": da.hinge_loss(*stock)[0],
    "IPO on sums": da.ipo_loss(*stock)[0],
    "IPO on averages": da.ipo_loss(*per_token)[0],
    "SimPO": da.simpo_loss(*per_token[:2])[0],
    "ORPO log-odds, averages": da.orpo_loss(*per_token[:2])[1]["log_odds"],
    "ORPO log-odds, sums": da.orpo_loss(*stock[:2])[1]["log_odds"],
    "KTO, r = 1, z₀ = 0.2": da.kto_loss(one_row, torch.tensor([1]), *numbers(0.2))[0],
}
for name, value in zoo_numbers.items():
    print(f"{name:<24} {value.item() + 0.0:10.6f}")

# %%
l_up, l_down = math.log1p(math.exp(-0.2)), math.log1p(math.exp(0.2))
hand = {"DPO": l_up, "cDPO, ε = 0.1": 0.9 * l_up + 0.1 * l_down,
        "rDPO, ε = 0.1": (0.9 * l_up - 0.1 * l_down) / 0.8,
        "IPO on sums": (2 - 5) ** 2, "IPO on averages": (1 / 5 + 1 / 7 - 5) ** 2,
        "hinge": 1 - 0.2, "SimPO": math.log1p(math.e),
        "KTO, r = 1, z₀ = 0.2": 1 / (1 + math.exp(0.08))}
claim("eight of these numbers equal their formulas by hand",
      all(abs(zoo_numbers[k].item() - v) < 1e-12 for k, v in hand.items()))
claim("equal averages, so ORPO sees no preference; on sums the pair is four nats apart",
      abs(zoo_numbers["ORPO log-odds, averages"]) < 1e-12
      and abs(zoo_numbers["ORPO log-odds, sums"] - 4) < 1e-3)

# %% [markdown]
# **KTO lets go on both sides.** KTO has no pairs: people like or dislike single answers, and the loss reads the log-ratio of one answer, less a reference point (here 0). The *pull* is minus the slope of the loss, scaled to 1 at zero. DPO's pull is strongest where the policy contradicts the label. KTO's fades there too: such a label moves it less and less, be it wrong or just hard.

# %%
nats = torch.linspace(-40, 40, 161, dtype=torch.float64, requires_grad=True)
losses = {"policy: DPO": -F.logsigmoid(0.1 * nats),
          "other: KTO, liked": -torch.sigmoid(0.1 * nats)}
pulls = {}
for name, loss in losses.items():
    (slope,) = torch.autograd.grad(loss.sum(), nats)
    pulls[name] = slope / slope[80]  # at 0 nats
by_dpo, by_kto = pulls.values()
curves = {k: (nats.tolist(), y) for k, y in pulls.items()}
show(plots.line_plot(curves, title="KTO lets go where DPO pulls hardest",
                     x_label="DPO: h; KTO: log-ratio of the answer, nats",
                     y_label="pull (1 at 0 nats)"),
     "Line plot of the pull of DPO and KTO against nats: DPO's falls from left to "
     "right, KTO's is highest in the middle.")
claim("far on the wrong side KTO pulls less than at 0, DPO more",
      by_kto[40] < 1 < by_dpo[40])
claim("far on the right side KTO pulls about twice as hard as DPO",
      bool((abs(by_kto[141:] / by_dpo[141:] - 2) < 0.3).all()))

# %% [markdown]
# **cDPO and rDPO are not the same repair.** Both are told that a share ε of the labels is wrong. cDPO mixes the two directions, and so asks for a *finite* margin, even of a pair that is surely right: $\beta h=\log\frac{1-\varepsilon}\varepsilon$. rDPO subtracts the expected damage: averaged over the flips, it *is* DPO on the clean label. Its price is variance, as the correction divides by $1-2\varepsilon$. And it has no minimum: a pair whose label is taken to be right pays for ever larger margins, so in the race below the number of steps decides.
#
# A trainer may accept `label_smoothing` and ignore it. The first loss cannot tell; the second batch can.

# %%
EPS = 0.1
h = torch.linspace(-60, 60, 120001, dtype=torch.float64)  # many gaps
smoothed = -(1 - EPS) * F.logsigmoid(0.1 * h) - EPS * F.logsigmoid(-0.1 * h)
best_h = h[smoothed.argmin()].item()
print(f"cDPO is lowest at beta × gap = {0.1 * best_h:.4f}, "
      f"log((1 − ε)/ε) = {math.log((1 - EPS) / EPS):.4f}")
claim("cDPO's minimum lies at log((1 - eps) / eps)",
      abs(0.1 * best_h - math.log((1 - EPS) / EPS)) < 1e-3)
given = {"label_smoothing": EPS, "beta": 0.1}
far_out = da.rdpo_loss(*numbers(1e4, 0, 0, 0), **given)[0]  # z = 1000
claim("far out rDPO's loss falls along a straight line, below every bound",
      abs(far_out + EPS * 1000 / (1 - 2 * EPS)) < 1e-9)

# %%
flipped = [stock[1], stock[0], stock[3], stock[2]]
average, mixed = ((1 - EPS) * fn(*stock, **given)[0] + EPS * fn(*flipped, **given)[0]
                  for fn in (da.rdpo_loss, da.dpo_loss))
clean = da.dpo_loss(*stock, beta=0.1)[0]
claim("averaged over flipped labels rDPO is the clean DPO loss, cDPO is not",
      abs(average - clean) < 1e-12 and abs(mixed - clean) > 1e-3)
level = numbers(-10, -14, -10, -14)  # policy and reference are one
at_zero = da.dpo_loss(*level, **given)[0] - da.dpo_loss(*level, beta=0.1)[0]
claim("smoothing changes the loss at a margin other than zero; at zero it cannot",
      abs(da.dpo_loss(*stock, **given)[0] - clean) > 1e-2 and abs(at_zero) < 1e-12)

# %%
# what infinitely many people seem to say
share = (1 - EPS) * prefer + EPS * (1 - prefer)


def soft_rdpo(logp):
    h = BETA * ((logp - ref)[one] - (logp - ref)[two])
    wins, losses = -F.logsigmoid(h), -F.logsigmoid(-h)
    first, second = (1 - EPS) * wins - EPS * losses, (1 - EPS) * losses - EPS * wins
    return ((share * first + (1 - share) * second) / (1 - 2 * EPS)).mean()


robust = fit_table(soft_rdpo, ref)
naive = fit_table(lambda logp: soft_dpo(logp, share, BETA), ref)
claim("with endless flipped labels rDPO ends at the exact optimum, plain DPO does not",
      (robust - star).abs().max() < 1e-6 and (naive - star).abs().max() > 1e-2)

# %% [markdown]
# Now a race on finite labels: 200 comparisons of random pairs, made by a person who follows Bradley–Terry, with no label or three in ten flipped. Policies are tables; ten data sets each; a hundred steps. cDPO and rDPO are told the true share (without flips they are DPO). The score is the true objective, $\mathbb E[r]-\beta\,\mathrm{KL}$, as a share of what is possible: zero is the reference, one the exact optimum.

# %%
SEEDS, PAIRS, length = 10, 200, world.mask.sum(1).double()


def labelled(flip):
    """Comparisons (SEEDS, PAIRS): the same pairs and person for each share of flips."""
    g = run.fresh("zoo")
    a = torch.randint(15, (SEEDS, PAIRS), generator=g)
    b = (a + torch.randint(1, 15, (SEEDS, PAIRS), generator=g)) % 15
    dice = torch.rand(2, SEEDS, PAIRS, generator=g, dtype=torch.float64)
    first = (dice[0] < torch.sigmoid(r[a] - r[b])) ^ (dice[1] < flip)
    return torch.where(first, a, b), torch.where(first, b, a)

# %%
def zoo_loss(name, logp, c, d, flip):
    """One loss of the zoo on tables (SEEDS, 15)."""
    pi = [logp.gather(1, k).flatten() for k in (c, d)]
    old = [ref[k].flatten() for k in (c, d)]
    avg = [s / length[k].flatten() for s, k in zip(pi, (c, d), strict=True)]
    if name == "KTO":  # z₀ stands for the KL, known exactly here, one for each data set
        z0 = (logp.exp() * (logp - ref)).sum(1).detach().repeat_interleave(PAIRS)
        rows = torch.cat([x - y - z0 for x, y in zip(pi, old, strict=True)])
        liked = torch.arange(len(rows)) < len(rows) // 2
        return da.kto_loss(rows, liked, 0.0, beta=BETA)[0]
    if name == "SimPO":
        return da.simpo_loss(*avg, beta=2.0, gamma=1.0)[0]
    if name == "ORPO":
        return da.orpo_loss(*avg, beta=BETA)[0]
    if name == "CPO":
        return da.cpo_loss(*pi, beta=BETA)[0]
    fn = {"IPO": da.ipo_loss, "rDPO": da.rdpo_loss, "hinge": da.hinge_loss}
    smooth = flip if name in ("cDPO", "rDPO") else 0.0
    return fn.get(name, da.dpo_loss)(*pi, *old, beta=BETA, label_smoothing=smooth)[0]

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
heads = {"loss": "<8", "clean": ">8", "± 2 se": ">8", "KL": ">8"}
flipped_heads = {"flipped": ">10", "± 2 se": ">8", "KL": ">8"}
print("".join(f"{k:{w}}" for part in (heads, flipped_heads) for k, w in part.items()))
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
claim("flipped labels cost DPO a part of the objective (interval over data sets)",
      lost.mean() - half > 0, {"loss": lost.mean().item(), "half": half}, kind="S")
spread = {name: score[name, 0.3].std().item() for name in ("DPO", "rDPO", "cDPO")}
claim("with three labels in ten flipped cDPO scatters less over data sets than DPO",
      spread["cDPO"] < spread["DPO"], spread, kind="T")
means = {n: score[n, 0.0].mean().item() for n in ("DPO", "ORPO", "CPO")}
claim("on clean labels DPO gets more of the objective than the two losses that imitate",
      means["DPO"] > max(means["ORPO"], means["CPO"]) + 0.1, means, kind="T")

# %% [markdown]
# The table does not rank the losses: each has settings of its own (IPO's β means another thing than DPO's), and the score rewards staying near, which three of them never promised. It shows how far noise sets each one back, and that *unbiased need not be better*: rDPO, right on endless labels, beats plain DPO on two hundred on some seeds and not on this one, and mostly scatters more: it enlarges what each label says, wrong ones too. cDPO hardly moves. One world, not a law.
#
# ## 12.6 CPL: regret instead of reward
#
# *(beyond the book)* Contrastive preference learning (CPL) assumes that people do not compare sums of rewards but *regrets*: how much worse each action was than the best one. For a maximum-entropy policy the advantage of an action is $\alpha\log\pi(a\mid s)$, so the loss needs neither reward nor reference ([arXiv 2310.13639](https://arxiv.org/abs/2310.13639); not to be confused with CPO):
#
# $$\mathcal L_{\mathrm{CPL}}=-\log\sigma\Big(\alpha\sum_t\gamma^t\big[\log\pi(a^+_t\mid s^+_t)-\lambda\log\pi(a^-_t\mid s^-_t)\big]\Big)$$
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
    """CPL at lambda = gamma = 1 on token log-probabilities (15, 3)."""
    rows = logp[c], logp[d], world.mask[c], world.mask[d]
    return da.cpl_loss(*rows, alpha=BETA)[0].item()


def dpo(base, c, d):  # `base`: token log-probabilities of the reference
    sums = [x.sum(1)[k] for x in (tokens, base) for k in (c, d)]
    return da.dpo_loss(*sums, beta=BETA)[0].item()


same = length[better] == length[worse]
every_pair, equal = (better, worse), (better[same], worse[same])
coin = math.log(1 / 3) * world.mask.double()  # every token equally likely
bare, whole = dpo(0 * tokens, *every_pair), dpo(ref_tokens, *every_pair)
print(f"CPL {cpl(tokens, *every_pair):.6f}   "
      f"DPO without a reference {bare:.6f}   DPO {whole:.6f}")
claim("at lambda = gamma = 1 CPL is DPO without reference terms; with them, DPO",
      abs(cpl(tokens, *every_pair) - bare) < 1e-12
      and abs(cpl(tokens - ref_tokens, *every_pair) - whole) < 1e-12)
claim("that is a reference of equally likely tokens only where lengths are equal",
      abs(cpl(tokens, *equal) - dpo(coin, *equal)) < 1e-12
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
# *(beyond the book)* Classic offline RL learns *values* from a fixed set of texts: $Q(s,a)$, the reward to expect after token $a$ at prefix $s$, and $V(s)$, that of the prefix. Its trap: $\max_a Q(s,a)$ also looks at tokens that nobody wrote there, where Q is arbitrary. Implicit language Q-learning ([arXiv 2206.11871](https://arxiv.org/abs/2206.11871)) takes an upper *expectile* over the tokens that *were* written:
#
# $$\mathcal L_V=\big|\tau-\mathbb 1[\hat Q<V]\big|\,(\hat Q-V)^2,\qquad \pi\propto\pi_{\mathrm{data}}\,e^{\eta(Q-V)}$$
#
# At τ = ½, V is the average outcome; near one, the best outcome seen. Then the policy is tilted towards tokens that did better than expected.
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
at_end = torch.zeros(15, 3, dtype=torch.float64)
at_end.scatter_(1, world.mask.sum(1).long()[:, None] - 1, r[:, None])
batch = where[texts], world.completions[texts], at_end[texts], world.mask[texts]
here = batch[3] > 0
written = torch.zeros(len(prefixes), 3, dtype=torch.float64)
seen_at = batch[0][here], batch[1][here]
written.index_put_(seen_at, torch.ones(1).double(), accumulate=True)


def worth(logits):
    """Next-token logits of every prefix (S, 3) -> exact expected reward."""
    token = logits.log_softmax(1)[where, world.completions]
    return ((token * world.mask).sum(1).exp() @ r).item()

# %%
# beyond the book
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

# %%
# beyond the book
imitate = (written + 1e-6).log()  # what was never written stays nearly impossible
top_texts = texts[r[texts] >= r[texts].quantile(0.75)]
value, tilted_worth = {}, {}
for tau in (0.5, 0.8, 0.95):
    q, v = ilql(tau)
    value[tau] = v[0].item()
    tilted_worth[tau] = worth(tilted_logits(imitate, q, v, eta=4.0))
    print(f"tau {tau:<5} value of the empty text {value[tau]:6.2f}   "
          f"reward of the tilted policy {tilted_worth[tau]:6.2f}")
top, best_seen = r[top_texts].mean().item(), r[texts].max().item()
print(f"imitation {worth(imitate):.2f}, of the best quarter {top:.2f}, "
      f"best text in the data {best_seen:.2f}, best possible {r.max().item():.2f}")
claim("the value rises with tau, towards the best text in the data",
      value[0.5] < value[0.8] < value[0.95] < r[texts].max() + 0.05, value, kind="T")
claim("the tilted policy earns more than imitating the texts",
      min(tilted_worth.values()) > worth(imitate),
      tilted_worth, kind="T")

# %%
# beyond the book
guess = torch.randn(200, len(prefixes), 3, generator=run.generator, dtype=torch.float64)
# 200 untrained tables; Q is made exact where there is data, latest token first
for n in (2, 1, 0):
    for i in texts.unique().tolist():
        if world.mask[i, n]:
            last = n == world.mask[i].sum() - 1
            # the maximum goes over *all* tokens
            future = r[i] if last else guess[:, where[i, n + 1]].max(1).values
            guess[:, where[i, n], world.completions[i, n]] = future
obeys = (guess.argmax(2)[:, where] == world.completions) | (world.mask == 0)
# the text that follows the largest Q all the way
greedy = obeys.all(2).double().argmax(1)
strange = (~torch.isin(greedy, texts)).double()
half = 3 * strange.std().item() / 200**0.5
claim("part of the texts that a plain maximum over Q prefers was written by nobody",
      strange.mean() - half > 0, {"share": strange.mean().item()}, kind="S")

# %% [markdown]
# Optimism moved the value, not the policy: at η = 4 the tilt is nearly greedy already. Whether it beats imitating the best quarter of the texts depends on the texts, and so does how often the maximum falls into the trap (seeds disagree). In a table two texts never meet again in one state: there is nothing to *stitch*, and the best text of the data is the limit.
#
# ## 12.8 Old or fresh pairs
#
# With a finite number of labels, do DPO and RLHF also have the same *estimate*? Fit a Bradley–Terry reward, one number an answer, then solve the KL-regularised problem exactly; or run DPO. If reward and policy may be *any* functions, it is one and the same optimisation in other coordinates.

# %%
wins = torch.binomial(torch.full((105,), 20.0, dtype=torch.float64), prefer,
                      generator=run.fresh("twenty"))
seen_share = (wins + 1) / 22  # twenty labels a pair, and one imagined for each side


def bradley_terry(scores):
    """NLL of the labels; only differences of scores count."""
    h = scores[one] - scores[two]
    return -(seen_share * F.logsigmoid(h) + (1 - seen_share) * F.logsigmoid(-h)).mean()


reward_hat = fit_table(bradley_terry, torch.zeros(15, dtype=torch.float64))
two_steps = tilted(ref, reward_hat, BETA)
one_step = fit_table(lambda logp: soft_dpo(logp, seen_share, BETA), ref)
claim("on finite labels too, DPO on a table is a reward table and then exact RL",
      (two_steps - one_step).abs().max() < 1e-5,
      {"difference": (two_steps - one_step).abs().max().item(),
       "to the truth": (one_step - star).abs().max().item()})

# %% [markdown]
# So the differences that papers report must come from elsewhere: from *which functions* the reward model and the policy can represent, from *which answers* are labelled, and from stopping early. We vary the first two. One label budget, 64, in the larger world of 121 answers, twenty repetitions, a person with Bradley–Terry noise:
#
# - **offline DPO**: 64 pairs of answers that the *reference* wrote;
# - **online DPO**: eight rounds of eight pairs, written by the policy as it is then;
# - **reward model + RL**: the 64 offline pairs fit a *linear* reward on counts of letters; its features are right here, a gift. No PPO was run: its exact end, the tilt, stands in, which is kind to RL.
#
# The policy is a table: one answer tells it nothing about another. (Not done: pairs of a *foreign* model, and delta learning, where even the chosen answers are weak.)
#
# **Predict** the order of the three in true reward.

# %%
RUNS, LABELS, PRICE = 20, 64, 0.5
letters = [((big.completions == t) * big.mask).sum(1).double() for t in (0, 1, 2, 3)]
counts = torch.stack(letters, 1)


def judged(logp, n, g):
    """n noisily labelled pairs of each policy -> (RUNS, n) chosen, rejected."""
    a, b = (torch.multinomial(logp.exp(), n, replacement=True, generator=g)
            for _ in range(2))
    dice = torch.rand(RUNS, n, generator=g, dtype=torch.float64)
    first = dice < torch.sigmoid(big_r[a] - big_r[b])
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

# %%
g, ends = run.fresh("online"), {}
for name, rounds in (("offline DPO", 1), ("online DPO", 8)):
    table = big_ref.repeat(RUNS, 1).requires_grad_()
    c = d = torch.zeros(RUNS, 0, dtype=torch.long)
    adam = torch.optim.Adam([table], lr=0.05)
    for _ in range(rounds):
        fresh = judged(torch.log_softmax(table.detach(), 1), LABELS // rounds, g)
        c, d = (torch.cat(two, 1) for two in zip((c, d), fresh, strict=True))
        if name == "offline DPO":
            offline_pairs = c, d
        fit_dpo(table, adam, c, d, 240 // rounds)
    ends[name] = torch.log_softmax(table.detach(), 1)
weights = [fit_head(counts[a], counts[b], l2=0.02)
           for a, b in zip(*offline_pairs, strict=True)]
ends["reward model + RL"] = torch.stack([tilted(big_ref, counts @ w.double(), PRICE)
                                         for w in weights])

# %%
gold = {name: logp.exp() @ big_r for name, logp in ends.items()}
kl = {name: (logp.exp() * (logp - big_ref)).sum(1) for name, logp in ends.items()}
net = {name: gold[name] - PRICE * kl[name] for name in ends}
rl, off = "reward model + RL", "offline DPO"
for what, x in (
        ("online DPO earns more true reward", gold["online DPO"] - gold[off]),
        ("a reward model with exact RL earns more true reward", gold[rl] - gold[off]),
        ("a reward model with exact RL earns more objective", net[rl] - net[off])):
    half = 3 * x.std().item() / RUNS**0.5
    claim(f"at equal labels {what} than offline DPO",
          x.mean() - half > 0, {"difference": x.mean().item(), "half": half}, kind="S")

# %%
optimum = tilted(big_ref, big_r, PRICE).exp() @ big_r
bars = {"reference: start": big_ref.exp() @ big_r}
bars |= {k.replace(" ", "\n", 1): v.mean() for k, v in gold.items()}
bars["gold: exact\noptimum"] = optimum
show(plots.bars(bars, title="Equal labels: fresh pairs, or right features, earn more",
                y_label="true reward", note="exact world, mean of 20 runs"),
     "Bar chart of true reward at an equal number of labels: the start is lowest, then "
     "offline DPO; online DPO and the reward model with right features are above it.")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
best_net = free_energy(big_ref, big_r, PRICE).item()
for name in ends:
    x, j = gold[name], net[name].mean().item()
    half = 2 * x.std().item() / RUNS**0.5
    print(f"{name:<18} true reward {x.mean().item():5.2f} ± {half:.2f}   KL "
          f"{kl[name].mean().item():4.2f}   reward − β·KL {j:5.2f} of {best_net:.2f}")

# %% [markdown]
# <details><summary>The prediction settled</summary>
#
# By true reward, fresh pairs beat old ones: they ask about answers that the policy now writes. The reward model, *from the same old pairs*, beats DPO on them too, with less KL than the fresh pairs (not clearly on every seed): four weights are learned from 64 labels more easily than 121 table entries, and its features happened to be right. With wrong ones RL would find another optimum (chapter 17). So "RL beats DPO" is a statement about data and about what generalises, not about the theorem.
#
# </details>
#
# ## 12.9 Length
#
# DPO's log-probabilities are *sums*: a long answer has more tokens with which to build a margin, and raters like long answers anyway. Suppose that the labels pay the true reward plus a bonus for each token. Length-controlled DPO ([arXiv 2403.19159](https://arxiv.org/abs/2403.19159)) puts the difference of lengths *into* the sigmoid, so that the policy need not explain it. SimPO averages instead: that removes length from the *model's* side.

# %%
# beyond the book
BONUS = 0.8
biased = torch.sigmoid((r + BONUS * length)[one] - (r + BONUS * length)[two])


def soft_length_dpo(logp, share, lam):
    """Length-controlled DPO when a share (105,) of the people chose the first."""
    z = BETA * ((logp - ref)[one] - (logp - ref)[two])
    z = z + lam * (length[one] - length[two])
    return -(share * F.logsigmoid(z) + (1 - share) * F.logsigmoid(-z)).mean()


four = any_pi[one], any_pi[two], ref[one], ref[two]
sizes = {"len_chosen": length[one], "len_rejected": length[two]}
theirs = da.length_dpo_loss(*four, beta=BETA, lam=0.3, **sizes)[0]
claim("if all people agree, this is the package's length_dpo_loss",
      abs(soft_length_dpo(any_pi, torch.ones(105), 0.3) - theirs) < 1e-12)

# %%
# beyond the book
plain = fit_table(lambda logp: soft_dpo(logp, biased, BETA), ref)
told = fit_table(lambda logp: soft_length_dpo(logp, biased, BONUS), ref)
ends_at = {"true optimum": star, "DPO": plain}
words = {name: (p.exp() @ length).item() for name, p in ends_at.items()}
print("mean length: " + "   ".join(f"{name} {v:.4f}" for name, v in words.items()))
claim("DPO learns the love of length exactly: it ends at the tilt by reward plus bonus",
      (plain - tilted(ref, r + BONUS * length, BETA)).abs().max() < 1e-6
      and words["DPO"] > words["true optimum"])
claim("told the bonus, the length-controlled loss ends at the true optimum",
      (told - star).abs().max() < 1e-6)

# %% [markdown]
# ## Once, by hand, on one batch
#
# Two pairs, so four rows, the chosen ones first: one forward pass serves both sides. Three tokens of prompt (not scored), answers of two to four tokens, the end token included. The mask selects the answer's tokens; sum over each row; subtract the reference's sums; then margins, weights, and the gradient of each token.

# %%
hand_mask = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0],
                          [0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0]])
hand_logp = torch.tensor([[-2.0, -1.5, -0.5, -1.0, -0.2, 0.0],
                          [-2.5, -0.3, -1.2, -0.4, 0.0, 0.0],
                          [-2.0, -1.5, -0.9, -1.1, -0.7, -0.1],
                          [-2.5, -0.3, -0.6, -0.2, -0.1, 0.0]], **f64)
hand_logp.requires_grad_()
sums = (hand_logp * hand_mask).sum(1)
ref_sums = torch.tensor([-2.0, -1.4, -2.5, -1.2], **f64)
ratios = sums - ref_sums
chosen, rejected = ratios.chunk(2)
margins = 0.5 * (chosen - rejected)
named = {"tokens scored": hand_mask.sum(1), "sums": sums, "reference sums": ref_sums,
         "log-ratios": ratios, "margins": margins, "weights": torch.sigmoid(-margins)}
for name, value in named.items():
    print(f"{name:<15} {tuple(value.shape)}  {[round(v, 4) for v in value.tolist()]}")

# %%
loss, stats = da.dpo_loss(*sums.chunk(2), *ref_sums.chunk(2), beta=0.5)
loss.backward()
print("   ".join(f"{k} {stats[k].item():.4f}" for k in ("loss", "accuracy", "margin")))
print("gradient, row by row:")
for row in hand_logp.grad.tolist():
    print("   ", [round(v, 4) + 0.0 for v in row])
# minus beta, times the weight, divided by the two pairs
by_hand = -0.5 * torch.sigmoid(-margins).detach() / 2
paper = torch.cat([by_hand, -by_hand])[:, None] * hand_mask
claim("a chosen token gets -beta × weight / pairs, a rejected one the opposite",
      (hand_logp.grad - paper).abs().max() < 1e-12)
claim("prompt and padding get no gradient, and the wrongly ordered pair pulls harder",
      hand_logp.grad[hand_mask == 0].abs().max() == 0 and margins[1] < 0 < margins[0]
      and by_hand[1] < by_hand[0])

# %% [markdown]
# ## The village model, on pairs that it never reads
#
# The lesson watches pairs of the training set, at a low and at a high rate. Is what happens there a matter of memory? Here the pairs come from the *Pool*: stored answers of `village-3m-sft` to training prompts, two of them compared by a noisy person who follows the true reward. One run at a rate between the two of the lesson, and two groups that are watched: pairs that the run *reads*, once, and pairs of prompts that it *never* reads. To each of their prompts there is a third answer that nobody compared.

# %%
start, tokenizer = load("village-3m-sft")
pool = data.pool().select(source="wide")
person, luck, rows = village.Annotator(temperature=0.5), random.Random(run.seed), []
for i, group in pool.groups().items():
    texts = list(dict.fromkeys(pool.texts(group, tokenizer)))  # different ones only
    if pool.families[i] in ("harmful", "lookalike") and len(texts) > 1:
        (a, b), prompt = texts[:2], pool.prompts[i]
        won = person.compare(prompt, a, b, luck) == 1
        rows.append({"prompt": prompt, "chosen": a if won else b,
                     "rejected": b if won else a, "third": (texts + [None])[2]})
luck.shuffle(rows)
sides = ("chosen", "rejected")
truth = [[village.gold(x["prompt"], x[k]) for x in rows] for k in sides]
agree = np.mean([c > d for c, d in zip(*truth, strict=True) if c != d])
claim("the person usually chooses the answer with the higher true reward, not always",
      0.5 < agree < 1, {"pairs": len(rows), "agreement": agree}, kind="T")

# %%
threes = [row for row in rows if row["third"]]
never = threes[:24]
train_rows = [row for row in rows if row not in never][:208]
read = [row for row in train_rows if row["third"]][:24]
watch = {name: PairWatch(start, tokenizer, some) for name, some in
         (("read", read), ("never read", never))}
policy, seen = copy.deepcopy(start), {name: [w(start)] for name, w in watch.items()}
optimizer = torch.optim.AdamW(policy.parameters(), lr=1.5e-4, weight_decay=0.0)
batches = list(data.batches(train_rows, 8, generator=run.fresh("dpo")))
for step, some in enumerate(batches):
    batch = data.collate_pairs(some, tokenizer)
    with torch.no_grad():
        batch["ref_chosen"], batch["ref_rejected"] = da.pair_logps(start, batch)
    stats = da.step(policy, optimizer, batch, beta=0.1)
    if step % 4 == 3:
        for name, w in watch.items():
            seen[name].append(w(policy))

# %%
when = [4 * k for k in range(len(seen["read"]))]
parts = {f"{group}: change in nats": {
    side: (when, [x[side] for x in log]) for side in ("chosen", "rejected", "third")}
    for group, log in seen.items()}
show(plots.two_panels(parts, x_label="step", roles={"third": "other"}, share=True,
                      note="village-3m-sft, rate 1.5e-4",
                      title="What sinks on the pairs it read sinks on the others, too"))
end = {group: log[-1] for group, log in seen.items()}
claim("the gap between chosen and rejected opens on pairs that were read and on others",
      min(x["chosen"] - x["rejected"] for x in end.values()) > 0, end["read"], kind="T")
claim("third answers, which nobody compared, sink in both groups",
      max(x["third"] for x in end.values()) < 0, end["never read"], kind="T")

# %% [markdown]
# So it is not memory: answers share weights across prompts as well.
#
# Does the margin follow length, as 12.9 feared? Two dozen pairs do not say; the sign changes with the seed:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
with torch.no_grad():
    compared = data.collate_pairs(never, tokenizer)
    both = [da.pair_logps(m, compared) for m in (policy, start)]
    n_c, n_r = compared["mask"].sum(1).chunk(2)
h = (both[0][0] - both[1][0]) - (both[0][1] - both[1][1])
same = torch.corrcoef(torch.stack([(n_c - n_r).float(), h]))[0, 1].item()
print(f"correlation of (chosen − rejected tokens) with the gap {same:+.2f}; "
      f"chosen {n_c.mean().item():.1f} tokens, rejected {n_r.mean().item():.1f}")

# %% [markdown]
# ## Failure gallery
#
# Three mistakes that run without an error. Before each solution: which single number would you log?
#
# **Failure 1: KTO's reference point by rolling.** KTO compares each answer's log-ratio with a reference point $z_0$: the mean log-ratio of *mismatched* pairs, prompt i with the answer to prompt j, which have to be scored anew. A shortcut rolls the finished log-ratios by one row:
#
# ```python
# z0 = log_ratio.roll(1).mean().clamp(min=0)               # wrong: the mean of a shuffled list is the same mean
# z0 = (logp(x_i, y_j) - logp_ref(x_i, y_j)).mean().clamp(min=0)   # right: other rows, another forward pass
# ```
#
# What one sees: $z_0$ follows the training pairs themselves; as the rejected ones sink, it clamps to zero for good. (After the run above both means may clamp, and the bug does no harm; so the cell compares before the clamp, and adds a table of four numbers where it does.)

# %%
turn = 7  # answers move seven prompts on: mismatched
some = never[:20]
crossed = [{"prompt": x["prompt"], "completion": some[(k + turn) % 20]["rejected"]}
           for k, x in enumerate(some)]
pack = data.collate_demonstrations(crossed, tokenizer)
with torch.no_grad():
    new, old = (sequence_logps(m, pack["ids"], pack["attention"], pack["mask"])
                for m in (policy, start))
right_z, finished = new - old, (both[0][1] - both[1][1])[:20]


def other_values(ratios):
    """Largest difference from the finished log-ratios, both in order of size."""
    return (ratios.sort().values - finished.sort().values).abs().max().item()


claim("rolled log-ratios are the old ones in another order; mismatched ones are others",
      other_values(finished.roll(1)) == 0 and other_values(right_z) > 0.05,
      {"mean, matched": finished.mean(), "mean, mismatched": right_z.mean()}, kind="T")

# %%
# prompt i with the answer to prompt j
ratio_of = torch.tensor([[-0.9, 0.3], [0.1, 0.5]])
by_roll = ratio_of.diagonal().roll(1).mean().clamp(min=0)
mismatched = ratio_of[[0, 1], [1, 0]].mean().clamp(min=0)
print(f"rolled {by_roll.item():.1f}, mismatched {mismatched.item():.1f}")
claim("by hand: rolled, the reference point is 0; from mismatched pairs it is 0.2",
      by_roll == 0 and abs(mismatched - 0.2) < 1e-6)

# %% [markdown]
# **Failure 2: averages under an equation of sums.** One flag, `average=True`, and β multiplies nats *per token*.
#
# ```python
# pi_c, pi_r = pair_logps(policy, batch, average=True)   # then dpo_loss(…, beta=0.1): a far smaller effective β
# pi_c, pi_r = pair_logps(policy, batch)                 # DPO as in its equation
# ```
#
# What one sees: a loss that hardly leaves log 2. Detector: margin ÷ β must be of the order of the *answer's* log-probabilities, not of a token's.

# %%
n_tokens = hand_mask.sum(1)
by_sum = (sums.detach() - ref_sums).chunk(2)
by_average = ((sums.detach() - ref_sums) / n_tokens).chunk(2)
for name, (a, b) in (("sums", by_sum), ("averages", by_average)):
    print(f"{name:<9} gaps {[round(v, 4) for v in (a - b).tolist()]}")
small, large = (by_average[0] - by_average[1]).abs(), (by_sum[0] - by_sum[1]).abs()
claim("detector: on averages the differences are less than half of those on sums",
      (small < large / 2).all())

# %% [markdown]
# **Failure 3: dropout left on.** A freshly loaded model in training mode drops a tenth of its units, at random. In one of the two models (the cell: the policy) that is enough.
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
    held = da.pair_logps(start, batch)
    first = {name: da.dpo_loss(*da.pair_logps(m, batch), *held, beta=0.1)[0].item()
             for name, m in (("clean", start), ("dropout", noisy))}
off = {name: abs(v - math.log(2)) for name, v in first.items()}
print({name: "log 2" if v < 1e-6 else "not log 2" for name, v in off.items()})
claim("detector: with dropout on the first loss is not log 2", off["clean"] < 1e-6
      and off["dropout"] > 1e-5, first)

# %% [markdown]
# ## At GPT-2 size
#
# The same calls on SmolLM2-135M-Instruct, with LoRA: adapters of rank 8, everything else frozen, and the reference is the model with its adapters off. A person who likes *plain words* compares two answers: the one with the shorter words on average is chosen. The model answers six questions twice. Three steps of four pairs, no more: a check that nothing above depends on the village, not a recipe.

# %%
SUBJECTS = ("rain", "honey", "bread", "a river", "wool", "a bridge")
if available("smollm2-135m"):
    small, small_tokenizer = load("smollm2-135m")
    small_policy = lora(small, r=8)
    ask = [{"prompt": f"What is {s}?"} for s in SUBJECTS]
    ids = data.prompts_ids(ask, small_tokenizer)
    drawn = sample(small_policy, ids, n=2, max_new_tokens=16,
                   eos_id=small_tokenizer.eos_token_id, generator=run.fresh("small"))
    texts, small_pairs = drawn.texts(small_tokenizer), []
    for k, row in enumerate(ask):
        two_texts = sorted(texts[2 * k : 2 * k + 2],
                           key=lambda t: len(t) / max(1, len(t.split())))
        if two_texts[0] != two_texts[1]:
            small_pairs.append(row | {"chosen": two_texts[0], "rejected": two_texts[1]})
    all_pairs = data.collate_pairs(small_pairs, small_tokenizer)
    with torch.no_grad(), adapters_off(small_policy):
        kept = da.pair_logps(small_policy, all_pairs)

# %%
if available("smollm2-135m"):
    weights = [p for p in small_policy.parameters() if p.requires_grad]
    small_optimizer, small_log = torch.optim.AdamW(weights, lr=1e-3), []
    for k in range(3):
        pick = [(4 * k + i) % len(small_pairs) for i in range(4)]
        batch = data.collate_pairs([small_pairs[i] for i in pick], small_tokenizer)
        batch |= {"ref_chosen": kept[0][pick], "ref_rejected": kept[1][pick]}
        small_log.append(da.step(small_policy, small_optimizer, batch, beta=0.1))
    with torch.no_grad():
        trained = da.pair_logps(small_policy, all_pairs)
        with adapters_off(small_policy):
            live = da.pair_logps(small_policy, all_pairs)
    off = max((a - b).abs().max().item() for a, b in zip(kept, live, strict=True))
    claim("the reference numbers kept are those of a fresh pass, adapters off",
          off < 1e-5, {"difference": off})
    moved = [(a - b).mean().item() for a, b in zip(trained, live, strict=True)]
    claim("DPO opened the gap on the pairs that it read", moved[0] - moved[1] > 0,
          {"chosen": moved[0], "rejected": moved[1]}, kind="T")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
if available("smollm2-135m"):
    print(f"change in nats: chosen {moved[0]:+.2f}, rejected {moved[1]:+.2f}")
    print("loss by step: " + " ".join(f"{x['loss'].item():.3f}" for x in small_log))
    again = sample(small_policy, ids[:2], n=1, max_new_tokens=16,
                   eos_id=small_tokenizer.eos_token_id,
                   generator=run.fresh("small again"))
    for k, text in enumerate(again.texts(small_tokenizer)):
        print(f"PROMPT  {ask[k]['prompt']}")
        for name, t in (("chosen", small_pairs[k]["chosen"]),
                        ("rejected", small_pairs[k]["rejected"]), ("after", text)):
            print(f"  {name:<9} {' '.join(t.split())[:100]}")

# %% [markdown]
# **Longer.** A recorded run: the SmolLM2 of chapter 9's recorded run, LoRA of rank 16, sixty steps of eight pairs about harmful requests and their harmless look-alikes (`data/runs/smollm2.py`). On which kind will the answers get better?

# %%
long = recorded("smollm2_dpo")
columns = {side: f"rewards/{side}" for side in ("chosen", "rejected")}
show(plots.recorded_plot(long, columns,
                         title="Recorded: the gap opens because the rejected fall",
                         y_label="β × change of log-probability",
                         note="smollm2-135m, LoRA, one run"),
     "Line plot of implicit rewards against the steps of a recorded run: both are "
     "negative at the end, the rejected answers' far more than the chosen ones'.")
gain, error = long.before_after()
claim("recorded: the true reward of held-out answers rose by over two standard errors",
      gain > 2 * error, {"gain": gain, "standard error": error}, kind="T")
rise = {family: long.gain(family)[0] for family in ("harmful", "lookalike")}
claim("recorded: the gain on harmful requests is over three times that on look-alikes",
      rise["harmful"] > 3 * rise["lookalike"], rise, kind="T")
late = [sum(long.curve[column][-10:]) / 10 for column in columns.values()]
claim("in the last ten steps chosen answers, too, lie below where they began",
      max(late) < 0, dict(zip(columns, late, strict=True)), kind="T")

# %% [markdown]
# A refusal is one sentence that fits every harmful request; help is another each time. Both curves go down in a model that still writes, and what rises is not in the plot.
#
# ## Exercises
#
# Each check says *which* idea was behind a wrong answer.
#
# ### Exercise 12.4 · Where did the probability go? · difficulty 2 of 5 · 10 minutes (estimated) · needs: 12.3
#
# The log-probabilities of a chosen and a rejected answer both fell in a run. How much probability did *all other answers* to that prompt gain? One number a pair. (Careful: the log is in nats.)

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex12-4", "locked": false, "schema_version": 3, "solution": true, "task": false}
def others_gain(chosen_before, rejected_before, chosen_after, rejected_after):
    """Four (B,) sums of log-probabilities -> (B,) what everything else gained."""
    ### BEGIN SOLUTION
    before = chosen_before.exp() + rejected_before.exp()
    after = chosen_after.exp() + rejected_after.exp()
    return before - after  # probabilities sum to one: the rest gains what the two lose
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ex12-4-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("12.4", others_gain)
### BEGIN HIDDEN TESTS
check("12.4", others_gain, hidden=True)
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
# <!-- solution 12.4 -->
#
# ### Exercise 12.5 · How far does a cautious loss go? · difficulty 3 of 5 · 15 minutes (estimated) · needs: 12.4, 12.5
#
# cDPO, told that a share ε of the labels is wrong, stops at a finite gap, like IPO. Write the difference of
# log-ratios $h$ (in nats, *without* β in it) at which cDPO's loss is lowest. What happens as ε goes to zero?

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex12-5", "locked": false, "schema_version": 3, "solution": true, "task": false}
def cdpo_gap(eps, beta):
    """Share of wrong labels (0 < eps < 1/2), beta -> the gap h at which cDPO stops."""
    ### BEGIN SOLUTION
    return math.log((1 - eps) / eps) / beta
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ex12-5-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("12.5", cdpo_gap)
### BEGIN HIDDEN TESTS
check("12.5", cdpo_gap, hidden=True)
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
# <!-- solution 12.5 -->
#
# ### Exercise 12.6 · Somebody planted a bug · difficulty 3 of 5 · 15 minutes (estimated) · needs: 12.5, failure 1
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

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex12-6", "locked": false, "schema_version": 3, "solution": true, "task": false}
def reference_point(table):
    """(B, B) log-ratios, prompt i with answer j -> the reference point, >= 0."""
    ### BEGIN SOLUTION
    n = len(table)
    return ((table.sum() - table.diagonal().sum()) / (n * (n - 1))).clamp(min=0)
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ex12-6-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("12.6", reference_point)
### BEGIN HIDDEN TESTS
check("12.6", reference_point, hidden=True)
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
# <!-- solution 12.6 -->
#
# ### Exercise 12.7 · Another library's γ · difficulty 3 of 5 · 15 minutes (estimated) · needs: 12.5
#
# A recipe for SimPO gives β and the *ratio* γ/β. The data pipeline delivers *sums* of log-probabilities and lengths in
# tokens. Write the loss of each pair: $-\log\sigma(\beta\,(\text{average}_c-\text{average}_r)-\gamma)$.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex12-7", "locked": false, "schema_version": 3, "solution": true, "task": false}
def simpo_rows(sum_chosen, sum_rejected, len_chosen, len_rejected, beta,
               gamma_over_beta):
    """(B,) sums and lengths, two numbers -> (B,) losses, one a pair."""
    ### BEGIN SOLUTION
    gap = sum_chosen / len_chosen - sum_rejected / len_rejected
    return F.softplus(-beta * (gap - gamma_over_beta))
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "ex12-7-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("12.7", simpo_rows)
### BEGIN HIDDEN TESTS
check("12.7", simpo_rows, hidden=True)
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
# <!-- solution 12.7 -->
#
# ## Questionnaire
#
# 1. What does the loss say about answers that are in no pair?
# 2. Why can one step on one pair lower its chosen answer in a network, and not in a table?
# 3. How do cDPO and rDPO differ, in aim and in price?
# 4. When are DPO and a reward model followed by exact RL the same policy? Name two reasons why they differ in practice.
# 5. What is compared in IPO, SimPO and ORPO: sums or averages?
# 6. Which numbers belong in the log of a DPO run?
#
# <details><summary>Answers</summary>
#
# 1. Nothing: they are moved by shared weights. 2. Answers share weights, so the step on the rejected one also pulls at the chosen one; in a table the change is proportional to 1 − π(chosen) + π(rejected), above zero. 3. cDPO aims at a finite margin and is biased; rDPO is unbiased, has more variance and no minimum. 4. When both may be any function of the answer, on the same labels; what generalises (reward or policy), and which answers get labelled (old or fresh). 5. IPO: sums in its paper's equation, averages by its authors' later advice; SimPO and ORPO: averages. 6. Loss, accuracy, margin, both log-probabilities, the KL measured on the policy's own answers, learning rate and steps, lengths, samples.
#
# </details>
#
# ## Where the book and its code differ
#
# All at commit a66b0bf.
#
# - **β and the KL.** The list of implementation details says that β sets DPO's KL: not on labels that all agree (12.4, and idea 3 of the lesson).
# - **Each token by its contribution.** The section on synthetic data says that tokens get gradients by how much they contributed to the margin. Section 12.2: with respect to their log-probabilities all tokens of an answer get the same number.
# - **Which Ψ is IPO.** The logit $\Psi(q)=\log\frac q{1-q}$ gives back RLHF and DPO; IPO takes the *identity*.
# - **ORPO and SimPO.** ORPO is *odds ratio preference optimization*, and its weak penalty falls on the *rejected* answer. SimPO, besides averaging, drops the reference and adds a target margin γ.
# - **Equal weight.** The book says that DPO treats every pair with equal weight. eq:dpo_gradient weighs each pair by $\sigma(r_r-r_c)$: a pair that is learned fades. And [eq:dpo_reward](https://rlhfbook.com/c/08-direct-alignment#eq:dpo_reward) leaves out $\beta\log Z$: fine for differences, which is all that DPO uses, not for comparing two prompts.
# - **KTO in the code.** `code/direct_alignment/loss.py` rolls log-ratios that are already computed: failure 1.
# - **IPO in the code** works on sums, as in its paper's equation; the authors later advised averages (12.5).
#
# ## Summary
#
# Each line of the derivation holds to twelve digits, and the reward that DPO learns is the true one minus β log Z. With real labels the loss sees only gaps: what answers share decides where probability goes, on pairs that were read and on others. The relatives of DPO change what is compared, how tokens are summed, or what a wrong label may do. In the exact world fresh pairs, or a reward model with fitting features, beat old pairs at equal labels.
#
# **Functions you now know**: `direct_alignment.dpo_loss`, `rdpo_loss`, `ipo_loss`, `simpo_loss`, `orpo_loss`, `kto_loss`, `cpl_loss`, `dpo_nll_loss`, `length_dpo_loss`, `pair_logps`, `step`; `ilql.ilql_loss`; `exact.fit_table`.
#
# **Further reading**: Rafailov et al. 2023, [arXiv 2305.18290](https://arxiv.org/abs/2305.18290), the derivation; Razin et al. 2024, [arXiv 2410.08847](https://arxiv.org/abs/2410.08847), when and why likelihood is displaced; Azar et al. 2023, [arXiv 2310.12036](https://arxiv.org/abs/2310.12036), why labels that agree overfit; Ivison et al. 2024, [arXiv 2406.09279](https://arxiv.org/abs/2406.09279), DPO and PPO with controlled data.
#
# <!-- nav -->
