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
# # 8 · Regularization, deeper
#
# The [lesson](../08_regularization.ipynb) shows what k1, k2 and k3 measure, which gradient each has in a loss and in the reward, and what β buys. This notebook adds the rest: where k3's run ends, per token or per answer, sum or mean, the optimum reached from samples, penalty and trust region, budgets and controllers, forward and reverse KL, old text, who forgets more, and a failure gallery. The penalty is called a *leash* here.
#
# Companion to [Regularization](https://rlhfbook.com/c/15-regularization) (chapter 15 of today's book) in
# Nathan Lambert's *Reinforcement Learning from Human Feedback*.
#
# <!-- edition -->
#
# <!-- nav -->

# %% [markdown]
# > **You need** the [lesson](../08_regularization.ipynb).
# >
# > **You will be able to** say what a per-token penalty misses · steer a KL to a target · compare a trained policy with
# > the exact optimum · measure forgetting · recognise five bugs by one number.
# >
# > **Costs**: <!-- costs -->. **Models** behind the stored outputs: the exact world (a real GPT-2 with 15 possible
# > answers), `village-3m-sft` made by `make models`, and `smollm2-135m` in
# > [At GPT-2 size](#At-GPT-2-size).

# %%
import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from rlhf_minimal import data, direct_alignment, optim, rloo, sft, village
from rlhf_minimal.advantages import leave_one_out
from rlhf_minimal.book import available, begin, check, claim, recorded, show, show_source
from rlhf_minimal.book.plots import ROLES, frontier, line_plot, new, recorded_plot
from rlhf_minimal.evaluate import distinct_n, spearman
from rlhf_minimal.evaluate.exact import World, compare, exact_model, fit_table
from rlhf_minimal.evaluate.exact import free_energy, gradient, tilted
from rlhf_minimal.evaluate.exact import expected_loss_gradient as expected_gradient
from rlhf_minimal.evaluate.proofs import kl_estimators
from rlhf_minimal.kl import AdaptiveKL, FixedKL, exact_kl, k1, k2, k3, penalized
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import adapters_off, load, lora
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import sample
from rlhf_minimal.tensors import masked_sum

run = begin(8)

# %% [markdown]
# ## The question
#
# **What do the four decisions behind "we add a KL penalty" change: direction, estimator, place, and token or text?**
#
# One prompt, four possible answers: the numbers of the lesson's table, which later cells use. The **log-ratio** of an
# answer is $\ell=\log\pi-\log\pi_{\mathrm{ref}}$, and
#
# $$k_1=\ell,\qquad k_2=\tfrac12\ell^2,\qquad k_3=e^{-\ell}-1+\ell$$

# %%
f64 = {"dtype": torch.float64}
policy = torch.log_softmax(torch.tensor([0.5, -0.3, 0.2, -0.4], **f64), 0)
reference = torch.tensor([0.1, 0.4, 0.3, 0.2], **f64).log()
p = policy.exp()
exact = (p * (policy - reference)).sum()
print("answer   policy   reference      k1       k2       k3")
for i in range(4):
    values = [k(policy, reference)[i].item() for k in (k1, k2, k3)]
    print(f"{i}        {p[i]:.4f}   {reference.exp()[i]:.4f}    "
          + " ".join(f"{v:+8.4f}" for v in values))
averages = [(p * k(policy, reference)).sum() for k in (k1, k2, k3)]
print("average over the policy's answers " + " ".join(f"{v.item():+8.5f}" for v in averages))
print(f"KL(policy || reference), exactly    {exact.item():.5f}")

# %% [markdown]
# ## 8.1 One divergence, three estimators
#
# A reward model is trusted near the texts that it was trained on. A policy pushed hard against it leaves that region,
# so recipes subtract something from the reward,
# [eq:rl_start](https://rlhfbook.com/c/15-regularization#eq:rl_start), and nearly always it is the KL to the model
# that training started from, [eq:kl_standard](https://rlhfbook.com/c/15-regularization#eq:kl_standard):
#
# $$r=r_\theta-\lambda\,r_{\mathrm{reg}},\qquad
#   r=r_\theta-\beta\,\mathcal D_{\mathrm{KL}}\big(\pi(y\mid x)\,\|\,\pi_{\mathrm{ref}}(y\mid x)\big)$$
#
# *Said aloud: the score, minus β for every nat of distance.* (A nat is the unit of natural logarithms. The book writes
# $\lambda_{\mathrm{KL}}$ for our β.)
# The divergence is defined by a sum
# ([eq:kl_distance_regularization](https://rlhfbook.com/c/15-regularization#eq:kl_distance_regularization)),
# which is the same as an average over samples of $P$
# ([eq:kl_expectation](https://rlhfbook.com/c/15-regularization#eq:kl_expectation)):
#
# $$\mathcal D_{\mathrm{KL}}(P\,\|\,Q)=\sum_xP(x)\log\frac{P(x)}{Q(x)}=\mathbb E_{x\sim P}\big[\log P(x)-\log Q(x)\big]$$
#
# *Said aloud: draw from P, and ask how much more likely the draw was for P than for Q, in logarithms.* The sum
# over all texts is out of reach for a language model. The average is not: sample, and read off two log-probabilities.
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $P=\pi$ | the policy in training; it draws the samples | `policy`, logs | (4,) |
# | $Q=\pi_{\mathrm{ref}}$ | where training started, frozen | `reference`, logs | (4,) |
# | $\ell$ | log-ratio of what was sampled | `k1(policy, reference)` | (4,) |
# | $\mathcal D_{\mathrm{KL}}$ | exact sum over the vocabulary, nats | `exact_kl(logits, logits_ref)` | one number |
# | $\beta$ | price of a nat, in units of reward | `beta` | one number |

# %%
show_source(k1, k2, k3, exact_kl)

# %% [markdown]
# For the exercise on the number of samples: the exact noise of an estimator.

# %%
def spread(logp, logq, k):
    """Exact standard deviation of an estimator under samples of logp."""
    x, w = k(logp, logq), logp.exp()
    return ((w * x * x).sum() - (w * x).sum() ** 2).sqrt().item()


loud = {k.__name__: spread(policy, reference, k) for k in (k1, k2, k3)}
print("standard deviation of one sample:", {n: round(v, 3) for n, v in loud.items()})
claim("here k3 is the quietest of the three, and k1 has the largest standard deviation",
      loud["k3"] < loud["k2"] < loud["k1"])

# %% [markdown]
# The [lesson](../08_regularization.ipynb) shows how this changes with the distance. Now with sampled answers instead of
# exact sums.

# %%
draws = torch.multinomial(p, 200 * 64, replacement=True, generator=run.fresh("dice"))
batches = {k.__name__: k(policy, reference)[draws].view(200, 64).mean(1) for k in (k1, k2, k3)}
ends = {n: ((x.mean() - exact) / (x.std() / 200**0.5)).item() for n, x in batches.items()}
claim("over 200 batches of 64 samples, k1 and k3 agree with the KL within three standard errors",
      abs(ends["k1"]) < 3 and abs(ends["k3"]) < 3, ends, kind="S")
claim("k2 does not: it estimates something else", ends["k2"] > 3, kind="S")
claim("no batch of k3 is negative, even of one sample", k3(policy, reference).min().item() >= 0)

# %% [markdown]
# ## 8.2 A value is not a gradient
#
# The lesson's table says whose gradient each term has when it stands in a loss. Here is the same machinery for the two
# forms that are upside down (failure 1).
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\nabla$ | gradient in the logits of the policy | `pull(...)` | (4,) |
# | $\rho$ | $\pi/\mathrm{stopgrad}(\pi)$, value one | `(lp - lp.detach()).exp()` | (4,) |
# | $\mathcal D_{\mathrm{KL}}(\pi_{\mathrm{ref}}\Vert\pi)$ | the *other* divergence | `exact_kl(reference, logits)` | one number |
#

# %%
def rho_k3(logp, logq):
    """k3 weighted by a ratio that is 1 in value: its gradient sees that the policy also draws."""
    return (logp - logp.detach()).exp() * k3(logp, logq)


TERMS = {"k1": k1, "k2": k2, "k3": k3, "rho k3": rho_k3,
         "k1 upside down": lambda a, b: k1(b, a), "k3 upside down": lambda a, b: k3(b, a)}
logits = policy.clone().requires_grad_()
targets = {"KL(pi || ref)": exact_kl(logits, reference),
           "KL(ref || pi)": exact_kl(reference, logits),
           "half chi^2(pi || ref)": ((logits.softmax(0) ** 2 / reference.exp()).sum() - 1) / 2}
known = {n: torch.autograd.grad(t, logits)[0] for n, t in targets.items()}


def pull(term):
    """Exact expected gradient of a term in a loss: samples weighted by their fixed probability."""
    lp = torch.log_softmax(logits, 0)
    return torch.autograd.grad((lp.detach().exp() * term(lp, reference)).sum(), logits)[0]


print(f"{'term':<16}{'average':>10}   {'its gradient is that of':<24}{'direction':>28}")
found = {}
for name, term in TERMS.items():
    g, value = pull(term), (p * term(policy, reference)).sum().item()
    same = [n for n, t in known.items() if (g - t).norm() < 1e-12]
    found[name] = same[0] if same else "nothing" if g.norm() < 1e-12 else "?"
    shown = " ".join(f"{x + 0.0:+.3f}" for x in (g * (g.abs() > 1e-12)).tolist())
    print(f"{name:<16}{value:>10.5f}   {found[name]:<24}{shown:>28}")
claim("upside down, too, k1 in the loss pulls on nothing", found["k1 upside down"] == "nothing")

# %% [markdown]
# **By hand**, with the coin: $\pi=(\tfrac12,\tfrac12)$ over logits, $\pi_{\mathrm{ref}}=(\tfrac34,\tfrac14)$.
# The gradient of $\log\pi(y)$ in the first logit is $\tfrac12$ for the first answer and $-\tfrac12$ for the second.
# k2 multiplies it by ℓ: $\tfrac12\cdot\tfrac12\log\tfrac23-\tfrac12\cdot\tfrac12\log2=-\tfrac14\log3$. k3
# multiplies by $1-e^{-\ell}=1-\pi_{\mathrm{ref}}/\pi$: $\tfrac14(1-\tfrac32)-\tfrac14(1-\tfrac12)=-\tfrac14$. Both say
# "raise the first answer", and disagree on how hard.

# %%
coin, biased = torch.tensor([0.5, 0.5], **f64).log(), torch.tensor([0.75, 0.25], **f64).log()
two = coin.clone().requires_grad_()
lp = torch.log_softmax(two, 0)
slopes = {}
for k in (k2, k3):
    loss = (lp.detach().exp() * k(lp, biased)).sum()
    slopes[k.__name__] = torch.autograd.grad(loss, two, retain_graph=True)[0][0].item()
print(f"first logit, by hand: k2 {-math.log(3) / 4:.6f}  k3 {-0.25:.6f}")
print("first logit, autograd:", " ".join(f"{n} {v:.6f}" for n, v in slopes.items()))
claim("by hand: the pull of k2 is a quarter of log 3, that of k3 a quarter",
      abs(slopes["k2"] + math.log(3) / 4) < 1e-12 and abs(slopes["k3"] + 0.25) < 1e-12)

# %% [markdown]
# **Where k3's run ends.** In the lesson, a run with k3 in the loss stops beside the best policy. It follows its *expected*
# gradient, policy gradient plus β times its term. For which objective is its end the best place?

# %%
reward, beta = torch.tensor([1.0, 0.0, -1.0, 0.5], **f64), 0.5
star = tilted(reference, reward, beta)
arrived = {}
for name in ("k3",):
    guess = reference.clone().requires_grad_()
    adam = torch.optim.Adam([guess], lr=0.04)
    for _ in range(1000):
        lp = torch.log_softmax(guess, 0)
        w = lp.detach().exp()
        loss = (w * (beta * TERMS[name](lp, reference) - (reward - w @ reward) * lp)).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    arrived[name] = torch.log_softmax(guess.detach(), 0)
for name, end in [("the optimum", star), *arrived.items()]:
    print(f"{name:<12}", " ".join(f"{x:.4f}" for x in end.exp().tolist()))

# %% [markdown]
# Is k3's end a bad place? It is the exact optimum of *another* objective, $\mathbb E[r]-\beta\,
# \mathcal D_{\mathrm{KL}}(\pi_{\mathrm{ref}}\|\pi)$. Set its derivative to zero and you get
# $\pi(y)=\beta\,\pi_{\mathrm{ref}}(y)/(\lambda-r(y))$, with λ such that the sum is one: probabilities fall like one
# over the missing reward, not exponentially in it. GRPO's published loss has this term. A choice, not a bug; but
# not the KL(policy‖reference) that the paper writes.

# %%
low, high = reward.max().item(), reward.max().item() + beta
for _ in range(200):
    lam = (low + high) / 2
    low, high = (lam, high) if (beta * reference.exp() / (lam - reward)).sum() > 1 else (low, lam)
hyperbola = beta * reference.exp() / (lam - reward)
print("closed form ", " ".join(f"{x:.4f}" for x in hyperbola.tolist()))
claim("the run with k3 ended at the optimum of the other divergence",
      (arrived["k3"].exp() - hyperbola).abs().max() < 1e-5)

# %% [markdown]
# ## 8.3 In the reward or in the loss, per token or per text
#
# So k1 is useless? Only in a loss. Put it into the *reward*, detached (as a plain number), and the policy gradient
# multiplies each sample's $\nabla\log\pi$ by what that sample cost:
#
# $$\nabla\,\mathcal D_{\mathrm{KL}}(\pi\|\pi_{\mathrm{ref}})=\mathbb E_{y\sim\pi}\big[\ell(y)\,\nabla\log\pi(y)\big]$$
#
# *Said aloud: texts that became likelier than the reference thinks fit are made less likely, in proportion.* That
# is also the gradient of k2, $\ell\,\nabla\ell$: for a *whole* text, "k1 in the reward" and "k2 in the loss" are one
# and the same.
#
# A language model writes token by token, so ℓ of a text is the sum of its tokens' log-ratios. By the chain rule
# the KL of texts is the expected *sum* of the KLs of next-token distributions at the prefixes that the policy visits:
#
# $$\mathcal D_{\mathrm{KL}}(\pi\|\pi_{\mathrm{ref}})=\mathbb E_{y\sim\pi}\sum_t\ell_t
#   =\mathbb E_{y\sim\pi}\sum_t\mathcal D_{\mathrm{KL}}\big(\pi(\cdot\mid x,y_{<t})\,\|\,\pi_{\mathrm{ref}}(\cdot\mid x,y_{<t})\big)$$
#
# *Said aloud: walk along your own texts and add up how far apart the next-token opinions are.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\ell_t$ | log-ratio of token t | `k1(logps, ref_logps)` | (15, 3) |
# | $\sum_t\ell_t$ | log-ratio of a text | `.sum(1)` | (15,) |
# | inner KL | exact, over the vocabulary, at each prefix | `step_kl` | (15, 3) |
#
# To check it without noise we use the *exact world*: a real GPT-2 with three tokens (one of them ends the text)
# and at most three of them, so that all 15 answers can be listed.

# %%
world, model, anchor = World(), exact_model(run.seed), exact_model(run.seed + 1)
logps, ref_logps = (world.logps(m).detach() for m in (model, anchor))
chance = logps.sum(1).exp()
with torch.no_grad():
    at = slice(len(world.prompt) - 1, -1)  # the logits that choose the completion's tokens
    step_kl = exact_kl(model(world.ids).logits[:, at], anchor(world.ids).logits[:, at]) * world.mask
by_text, by_step = k1(logps, ref_logps).sum(1), step_kl.sum(1)
print(f"KL of texts {world.kl(model, anchor).item():.6f}   from one log-ratio a text "
      f"{(chance @ by_text).item():.6f}   from exact steps {(chance @ by_step).item():.6f}")
sd = [(chance @ x**2 - (chance @ x) ** 2).sqrt().item() for x in (by_text, by_step)]
print(f"standard deviation a text: sampled tokens {sd[0]:.4f}, exact steps {sd[1]:.4f}")
claim("the KL of texts is the mean of the summed log-ratios, and of the summed KLs of the steps",
      abs(chance @ by_step - world.kl(model, anchor)) < 1e-10
      and abs(chance @ by_text - chance @ by_step) < 1e-10)
claim("summing over the vocabulary at each step is less noisy", sd[1] < sd[0],
      {"sampled tokens": sd[0], "exact steps": sd[1]}, kind="T")

# %% [markdown]
# Nine ways to put the penalty into training, against $\nabla$KL of whole texts: expected gradients in all the weights of
# the little GPT-2, by enumeration.

# %%
target = gradient(world.kl(model, anchor), model)
whole = ("k2 of whole texts in the loss", 1,
         lambda lp, rows: k2(lp.sum(1), ref_logps[rows].sum(1)).sum())
relation, pulls = {}, {}
for name, size, loss, *_ in [*kl_estimators(ref_logps, k1(logps, ref_logps), world.mask), whole]:
    g = pulls[name] = expected_gradient(world, model, loss, group_size=size)
    c = compare(g, target) if g.norm() > 1e-10 else {"cosine": 0.0, "ratio": 0.0, "error": 1.0}
    relation[name] = c
    if "distillation" not in name:
        print(f"{name:<30} cosine {c['cosine']:+.3f}   size {c['ratio']:.3f}   "
              + ("equal" if c["error"] < 1e-9 else "another gradient" if c["ratio"] else "zero"))
claim("k2 in the loss is the gradient of the KL of texts, if taken of the whole text's log-ratio",
      relation[whole[0]]["error"] < 1e-9)
claim("k1 in the loss is zero for a language model too", relation["k1 in the loss"]["ratio"] == 0)

# %%
cosines = {"k2": [], "k3": []}
for seed in run.seeds(12):  # other weights
    a, b = exact_model(seed), exact_model(seed + 500)
    texts, slope = world.seq_logp(a), gradient(world.kl(a, b), a)
    for k in (k2, k3):
        cost = k(world.logps(a), world.logps(b)).sum(1)
        g = gradient((texts.exp() * cost).detach() @ texts, a)
        cosines[k.__name__].append(compare(g, slope)["cosine"])
for name, values in cosines.items():
    print(f"{name} in the score, twelve models:", " ".join(f"{c:+.2f}" for c in sorted(values)))
claim("k2 or k3 in the score pulls forwards for some weights, backwards for others",
      max(min(v) for v in cosines.values()) < 0 < min(max(v) for v in cosines.values()),
      {f"{n}, {f.__name__}": f(v) for n, v in cosines.items() for f in (min, max)}, kind="T")

# %% [markdown]
# Per token, k2 misses one thing: today's token decides which prefixes will be visited tomorrow, and what *they*
# cost. The reward sees it, because a token is credited with all that comes after. k2 or k3 in the *score* can point
# anywhere, even backwards; it depends on the weights. A score is multiplied by $\nabla\log\pi$, and only ℓ is the right
# factor.
#
# **Sum or mean?** What if the log-ratios of a text are averaged instead of summed, so that a long text pays no more than
# a short one? We stay in the exact world, where the best policy under either penalty can be computed: optimise a table
# of 15 probabilities. The reward likes the letter *b*, dislikes *a*, and likes an answer that ends.

# %%
n_a, n_b, n_end = (((world.completions == t) * world.mask).sum(1) for t in (1, 2, 0))
liking, length = (n_b - n_a + 0.5 * n_end).double(), world.mask.sum(1).double()
logp_ref = world.seq_logp(model).detach()  # from here on the model itself is the reference


def best_under(divisor):
    """The best policy when the log-ratio of a text is divided by `divisor` (15,); beta is 1."""
    return fit_table(lambda q: -(q.exp() * (liking - (q - logp_ref) / divisor)).sum(), logp_ref)


def place(q):
    """(15,) log-probabilities -> (KL to the reference, expected reward)."""
    return (q.exp() @ (q - logp_ref)).item(), (q.exp() @ liking).item()


summed, averaged = best_under(torch.ones(15, **f64)), best_under(length)
for name, q in (("reference", logp_ref), ("sum", summed), ("mean", averaged)):
    print(f"{name:<10} length {(q.exp() @ length).item():.3f}   KL a text {place(q)[0]:.3f}")
claim("under the sum the best policy is the closed form of section 8.4",
      (summed.exp() - tilted(logp_ref, liking, 1).exp()).abs().max() < 1e-6)
claim("at the same beta, the averaged penalty lets the policy write longer and drift further",
      averaged.exp() @ length > summed.exp() @ length + 0.02
      and place(averaged)[0] > place(summed)[0],
      {"longer by": (averaged.exp() @ length - summed.exp() @ length).item()}, kind="T")
none = torch.zeros(15, **f64)
_, once = penalized(none, logps, ref_logps, world.mask, 1.0)
_, twice = penalized(none, *(torch.cat([x, x], 1) for x in (logps, ref_logps, world.mask)), 1.0)
claim("in the package's reward the same tokens twice cost twice (C4)",
      (twice - 2 * once).abs().max() < 1e-12 and (once - by_text).abs().max() < 1e-12)

# %% [markdown]
# ## 8.4 What the leash buys: the optimum in closed form
#
# Write the objective with its penalty, [eq:objective_regularization](https://rlhfbook.com/c/15-regularization#eq:objective_regularization)
# (with the KL in it, [eq:rl_objective_retaining](https://rlhfbook.com/c/15-regularization#eq:rl_objective_retaining)),
# divide by −β ([eq:rl_min_form](https://rlhfbook.com/c/15-regularization#eq:rl_min_form)), and complete it to a
# divergence ([eq:rl_kl_form](https://rlhfbook.com/c/15-regularization#eq:rl_kl_form)):
#
# $$J(\pi)=\mathbb E_{y\sim\pi}[r]-\beta\,\mathcal D_{\mathrm{KL}}(\pi\|\pi_{\mathrm{ref}})
#   =-\beta\,\mathcal D_{\mathrm{KL}}(\pi\|\pi^\star)+\beta\log Z$$
#
# with ([eq:optimal_policy_retaining](https://rlhfbook.com/c/15-regularization#eq:optimal_policy_retaining))
#
# $$\pi^\star(y\mid x)=\frac{\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}}{Z(x)},\qquad
#   Z(x)=\sum_y\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}$$
#
# *Said aloud: whatever the reward, leashed RL is the wish to come close to one fixed policy, in reverse KL.* All
# that is lost by not being there is β times that distance. The proof is one line: solve the definition of $\pi^\star$
# for the reward, $r=\beta\log(\pi^\star/\pi_{\mathrm{ref}})+\beta\log Z$, and put it into $J$.
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\pi^\star$ | the best leashed policy | `tilted(logp_ref, liking, beta)` | (15,) |
# | $\beta\log Z$ | the best value of $J$ | `free_energy(...)` | one number |
# | $J$ | reward minus β·KL | `mean - beta * kl` | one number |
#
# The lesson has two answers by hand. Here 500 random policies at three prices:

# %%
show_source(tilted, free_energy)

# %%
noise = torch.randn(500, 15, generator=run.fresh("policies"), **f64)
worst = 0.0
for beta in (0.2, 1.0, 5.0):
    q_star = tilted(logp_ref, liking, beta)
    for q in torch.log_softmax(logp_ref + 2 * noise, 1):
        kl, mean = place(q)
        lost = beta * (q.exp() @ (q - q_star))
        best = free_energy(logp_ref, liking, beta)
        worst = max(worst, abs(mean - beta * kl + lost - best).item())
claim("for any policy, what it lacks to the best value is beta times its KL to the optimum",
      worst < 1e-10)

# %% [markdown]
# **From samples.** Does an algorithm get there? RLOO (policy gradient; "above average" means above the mean of the other
# samples, chapter 11) with k1 in the score, on the little GPT-2, at three betas. It only draws 64
# texts a step.

# %%
row_of = {tuple(c): i for i, c in enumerate(world.completions.tolist())}


def steer(controller, steps, name, lr=0.03):
    """RLOO from samples -> (end policy (15,), exact KL at every step, beta at every step)."""
    pupil, kls, betas = copy.deepcopy(model), [], []
    adam = torch.optim.Adam(pupil.parameters(), lr=lr)
    dice = run.fresh(name)
    for _ in range(steps):
        drawn = sample(pupil, [list(world.prompt)], n=64, max_new_tokens=3, eos_id=0,
                       generator=dice)
        rows = [row_of[tuple(c + [0] * (3 - len(c)))] for c in drawn.completion_ids.tolist()]
        with torch.no_grad():
            ref = drawn.on_completion(token_logps(model, drawn.ids, drawn.attention))
        stats = rloo.step(pupil, adam, drawn, liking[rows], group_size=64, logp_ref=ref,
                          beta=controller.beta)
        controller.update(stats["kl"], 64)  # the mean over texts of the summed k1 (C7)
        kls.append(world.kl(pupil, model).item())
        betas.append(controller.beta)
    return world.seq_logp(pupil).detach(), kls, betas


ends = {b: steer(FixedKL(b), 45, f"beta {b}") for b in (2.0, 1.0, 0.5)}

# %%
prices = torch.logspace(-0.9, 1.5, 60, **f64).tolist()
curve = [place(tilted(logp_ref, liking, b)) for b in sorted(prices, reverse=True)]
marks = {"reference": place(logp_ref)}
marks |= {f"{role}: beta {b}": place(ends[b][0])
          for b, role in ((2.0, "policy"), (1.0, "other"), (0.5, "chosen"))}
show(frontier(list(zip(*curve, strict=True)), marks, note="exact world, 15 answers",
              title="Smaller beta, further along one and the same curve"),
     "Curve of the best expected reward at each KL to the reference; the ends of three RLOO runs "
     "lie on it or just below, the one with the smallest beta furthest out.")
closed = {}
for b, (q, _, _) in ends.items():
    origin, top = logp_ref.exp() @ liking, free_energy(logp_ref, liking, b)
    kl, mean = place(q)
    closed[f"beta {b}"] = ((mean - b * kl - origin) / (top - origin)).item()
claim("at each beta RLOO closes most of the gap between the reference and the best value",
      min(closed.values()) > 0.7, closed, kind="T")
reached = {f"beta {b}": place(q)[0] for b, (q, _, _) in ends.items()}
claim("a smaller beta ends at a larger KL",
      reached["beta 2.0"] < reached["beta 1.0"] < reached["beta 0.5"], reached, kind="T")

# %% [markdown]
# **Penalty or trust region?** TRPO and PPO (chapter 11) have a leash to the policy of the *previous* step. Take the
# ideal trust-region step, "most reward at price η for moving away from where I am now": it multiplies the present
# policy by $e^{r/\eta}$.

# %%
walker, drift = logp_ref, []
for n in range(1, 9):
    walker = tilted(walker, liking, 4.0)  # leash to the previous policy, price 4
    gap = (walker - tilted(logp_ref, liking, 4.0 / n)).abs().max().item()
    drift.append((place(walker)[0], gap))
print("KL to the reference after each step:", " ".join(f"{kl:.3f}" for kl, _ in drift))
claim("n such steps are the optimum of one leash to the reference, at an n-th of the price",
      max(gap for _, gap in drift) < 1e-10)
claim("and nothing stops that walk: the KL to the reference grows at every step",
      all(a[0] < b[0] for a, b in zip(drift, drift[1:], strict=False)))

# %% [markdown]
# ## 8.5 A price or a budget
#
# β is a price. What one usually *wants* is a budget: "stay within this many nats a text". Which price buys which
# KL depends on the reward. OpenAI's first RLHF paper on language models
# ([arXiv 1909.08593](https://arxiv.org/abs/1909.08593)) lets, in its code, a controller find the price:
#
# $$\beta\leftarrow\beta\,\Big(1+\mathrm{clip}\big(\tfrac{\mathrm{KL}}{\mathrm{target}}-1,\;-\tfrac15,\;\tfrac15\big)\cdot\tfrac{n}{\mathrm{horizon}}\Big)$$
#
# *Said aloud: too far out, make nats dearer; too close, make them cheaper; never by more than a fifth of n over
# the horizon at a time.* The KL in it is the mean over texts of the *summed* log-ratio.
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | KL | measured on this step's samples, nats a text | `stats["kl"]` | one number |
# | target | the budget | `target` | one number |
# | $n$ | texts in this step | `64` | one number |
# | horizon | texts over which β may change by about a fifth | `horizon` | one number |

# %%
show_source(AdaptiveKL)

# %%
half_way = AdaptiveKL(0.2, 6.0, 10_000).update(3.0, 256)
print(f"beta 0.2, target 6: KL 3 gives {half_way:.6f}")
claim("by hand: at half the target, a fifth of 256 / 10,000 down",
      abs(half_way - 0.2 * (1 - 0.2 * 0.0256)) < 1e-12)
doubled, tenfold = math.log(2) / math.log1p(0.2 * 0.0256), math.log(10) / math.log1p(0.2 * 64 / 320)
print(f"steps to double the price: {doubled:.0f}\n"
      f"steps to make it tenfold with the settings of the next cell: {tenfold:.0f}")
claim("with these numbers a doubling takes over a hundred steps", doubled > 100)

# %% [markdown]
# So a controller needs a run that is long against its horizon, here five steps of 64 texts. Ours starts from two wrong
# prices, far too cheap and far too dear; a third run keeps the cheap one. The target: a quarter of a nat.

# %%
def with_legend(fig, where):
    """Labels at the ends of lines that end together cannot be read: a legend instead."""
    for written in list(fig.axes[0].texts):
        written.remove()
    fig.axes[0].legend(frameon=False, loc=where)
    return fig


TARGET = 0.25
cheap = steer(AdaptiveKL(0.2, TARGET, 320), 100, "cheap", lr=0.02)
dear = steer(AdaptiveKL(8.0, TARGET, 320), 100, "dear", lr=0.02)
fixed = steer(FixedKL(0.2), 100, "cheap", lr=0.02)
fig = line_plot({"started cheap": cheap[1], "started dear": dear[1], "fixed, cheap": fixed[1],
                 "reference: target": [TARGET] * 100},
                title="Two controllers find the target, one only after a long overshoot",
                x_label="RLOO step", y_label="KL to the reference, nats a text",
                note="exact world, KL computed exactly",
                roles={"started cheap": "rejected", "started dear": "policy",
                       "fixed, cheap": "other"})
show(with_legend(fig, "center right"),
     "Line plot of the exact KL against training steps. Started dear falls below the dotted "
     "target at once and climbs to it. Started cheap overshoots far for half of the run, then "
     "drops to it. A fixed cheap price stays far out.")
settled = {"started cheap": np.mean(cheap[1][-20:]), "started dear": np.mean(dear[1][-20:])}
claim("over the last twenty steps both controllers keep the KL within a third of the target",
      all(abs(v / TARGET - 1) < 1 / 3 for v in settled.values()), settled, kind="T")
lost = sum(kl > 4 * TARGET for kl in cheap[1])
claim("the cheap start spends over fifteen of its hundred steps beyond four times the target",
      lost > 15, {"steps": lost}, kind="T")

# %%
right_price = {n: run_[2][-1] for n, run_ in (("cheap", cheap), ("dear", dear))}
low, high = 1e-2, 1e2
for _ in range(60):
    middle = (low * high) ** 0.5
    too_far = place(tilted(logp_ref, liking, middle))[0] > TARGET
    low, high = (middle, high) if too_far else (low, middle)
claim("both found the price at which the best policy spends the budget, within a factor of two",
      all(0.5 < b / low < 2 for b in right_price.values()),
      right_price | {"exact price": low}, kind="T")
fig = line_plot({"started cheap": cheap[2], "started dear": dear[2],
                 "reference: exact price": [low] * 100},
                title="Each price walks to the right one, at a limited speed",
                x_label="RLOO step", y_label="beta, logarithmic", note="exact world", zero=False,
                roles={"started cheap": "rejected", "started dear": "policy"})
fig.axes[0].set_yscale("log")
fig.axes[0].set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
fig.axes[0].minorticks_off()
show(with_legend(fig, "lower right"),
     "Line plot on a logarithmic axis of beta against training steps: one line climbs steadily "
     "from far below, one falls from above, and both level off near the dotted exact price.")

# %% [markdown]
# A tenfold wrong price takes as many steps to repair as printed above, and for most of them there is hardly a leash.
#
# ## 8.6 Forward or reverse
#
# KL is not symmetric, and the two directions ask different questions. **Reverse**, KL(π‖target): samples come from
# the policy; putting mass where the target has none is punished. **Forward**, KL(target‖π): samples come from the
# target; *missing* mass where the target has some is punished. Forward is what imitation minimises
# ([eq:sft_forward_kl](https://rlhfbook.com/c/15-regularization#eq:sft_forward_kl)):
#
# $$\mathcal D_{\mathrm{KL}}(\pi_\star\|\pi_\theta)=\underbrace{-H(\pi_\star)}_{\text{constant}}+\mathcal L_{\mathrm{SFT}}(\theta),
#   \qquad\mathcal L_{\mathrm{SFT}}(\theta)=-\mathbb E_{y\sim\pi_\star}[\log\pi_\theta(y)]$$
#
# *Said aloud: the SFT loss is the forward KL to whoever wrote the demonstrations, up to a number that training
# cannot change.* Leashed RL is the reverse KL to $\pi^\star$, as section 8.4 showed.
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\pi_\star$ | the target, two humps on a line | `hills` | (481,) |
# | $\pi_\theta$ | the model, one hump with a mean and a width | `bells` | (…, 481) |
# | $H$ | entropy of the target | `entropy_of_hills` | one number |
#
# If the model *can* be the target, both directions end there. Here it cannot: one hump against two. All means and widths
# are tried.

# %%
x = torch.linspace(-6, 6, 481, **f64)
hills = torch.logsumexp(torch.stack([math.log(0.65) - (x + 1.8) ** 2 / (2 * 0.7**2),
                                     math.log(0.35) - (x - 1.8) ** 2 / (2 * 0.7**2)]), 0)
hills = torch.log_softmax(hills, 0)
means, widths = torch.linspace(-3, 3, 61, **f64), torch.linspace(0.4, 3, 53, **f64)
bells = torch.log_softmax(-(x - means[:, None, None]) ** 2 / (2 * widths[:, None] ** 2), -1)
forward = (hills.exp() * (hills - bells)).sum(-1)
reverse = (bells.exp() * (bells - hills)).sum(-1)
fits = {}
for name, kl in (("forward", forward), ("reverse", reverse)):
    i, j = divmod(kl.argmin().item(), len(widths))
    fits[name] = bells[i, j]
    print(f"{name:<8} best mean {means[i].item():+.2f}   best width {widths[j].item():.2f}")
mean_of_hills = (hills.exp() @ x).item()
width_of_hills = (hills.exp() @ (x - mean_of_hills) ** 2).sqrt().item()
print(f"target   mean {mean_of_hills:+.2f}        width {width_of_hills:.2f}")

# %%
fig, ax = new("Forward covers both hills, reverse climbs one", "x", "probability",
              "grid of 481 points")
for name, bell, look, spot, nudge in (("target", hills, "gold", 2.6, 0.15),
                                      ("forward", fits["forward"], "other", -3.4, -1.35),
                                      ("reverse", fits["reverse"], "policy", -1.2, 0.15)):
    style = {k: ROLES[look][k] for k in ("color", "linestyle")}
    ax.plot(x, bell.exp(), linewidth=1.8, **style)
    ax.text(spot + nudge, bell[(x - spot).abs().argmin()].exp(), name)
show(fig,
     "Line plot of a target with two humps and two fits with one hump each: the forward fit is "
     "wide, lies over both and peaks between them; the reverse fit sits on the higher hump.")
peak_forward, peak_reverse = (fits[n].argmax() for n in ("forward", "reverse"))
second = (x - 1.8).abs().argmin()
claim("the forward fit copies the target's mean and width, and peaks in the valley",
      abs(x[peak_forward] - mean_of_hills) < 0.06 and hills[peak_forward] < hills.max() - 1)
claim("the reverse fit sits on the higher hill and ignores the other",
      abs(x[peak_reverse] + 1.8) < 0.2 and fits["reverse"][second] < hills[second] - 1)
entropy_of_hills = -(hills.exp() @ hills)
sft_losses = -(hills.exp() * bells).sum(-1)
claim("SFT loss and forward KL differ by the target's entropy, the same number for every model",
      (sft_losses - entropy_of_hills - forward).abs().max() < 1e-10)

# %% [markdown]
# ## 8.7 Keep what you knew: old texts, old answers
#
# The KL guards the answers to *training* prompts. To guard what else the model knew, InstructGPT mixes
# old text into every update ("PPO-ptx"), [eq:objective_pretraining](https://rlhfbook.com/c/15-regularization#eq:objective_pretraining):
#
# $$J(\theta)=\mathbb E_{y\sim\pi_\theta}\big[r_\theta(x,y)-\lambda\,r_{\mathrm{reg}}\big]
#   +\gamma\,\mathbb E_{x\sim\mathcal D_{\mathrm{pretrain}}}\big[\log\pi_\theta(x)\big]$$
#
# *Said aloud: earn reward, and keep finding the old texts likely.* In code: add γ times `sft_loss` of old text to the
# loss. By section 8.6 that is a forward KL to the old data.
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\mathcal D_{\mathrm{pretrain}}$ | answers of the start model to two *other* prompts | `old[:2]` | (15,) each |
# | $\gamma$ | weight of the old text | `ptx` | one number |
# | forgetting | mean KL(start‖policy) on the three other prompts | `forgot` | one number |
#
# We stay in the exact world, because one short village run cannot tell the arms apart (the loop below shows it). It has
# four prompts for one little network. We train the answers to one. Two others serve as "pretraining text", and a fourth
# is shown to nobody.

# %%
olds = [World(prompt=words) for words in ((2, 1), (1, 1), (2, 2))]


def kl_of(a, b):
    """KL of two lists of log-probabilities (15,), in nats."""
    return (a.exp() @ (a - b)).item()


def beta_for(start, taste, goal):
    """The beta at which the best leashed policy earns `goal`."""
    low, high = 1e-2, 1e3
    for _ in range(30):
        middle = (low * high) ** 0.5
        rich = tilted(start, taste, middle).exp() @ taste > goal
        low, high = (middle, high) if rich else (low, middle)
    return low


# %%
def learn(begin_with, loss, taste, goal, old=(), ptx=0.0):
    """Full-gradient Adam until the expected reward is exactly `goal` -> what has changed."""
    pupil, first = copy.deepcopy(begin_with), world.seq_logp(begin_with).detach()
    adam = torch.optim.Adam(pupil.parameters(), lr=0.006)
    for _ in range(200):
        q = world.seq_logp(pupil)
        if q.detach().exp() @ taste >= goal:
            break
        before = parameters_to_vector(pupil.parameters()).detach()
        total = loss(q)
        if ptx:
            total = total - ptx * sum((o.exp() @ w.seq_logp(pupil)) / 2 for o, w in old[:2])
        adam.zero_grad()
        total.backward()
        adam.step()
    after, low, high = parameters_to_vector(pupil.parameters()).detach(), 0.0, 1.0
    with torch.no_grad():
        for _ in range(10):  # the last step went too far: bisect it
            middle = (low + high) / 2
            vector_to_parameters(torch.lerp(before, after, middle), pupil.parameters())
            over = world.seq_logp(pupil).exp() @ taste >= goal
            low, high = (low, middle) if over else (middle, high)
        q = world.seq_logp(pupil)
        forgot = [kl_of(o, w.seq_logp(pupil)) for o, w in old]
    return {"over goal": (q.exp() @ taste).item() - goal, "drift": kl_of(first, q),
            "leash": kl_of(q, first), "entropy": -(q.exp() @ q).item(),
            "forgot": sum(forgot) / 3, "unseen": forgot[2]}


# %% [markdown]
# Ten little models, ten random tastes. The goal: close 40 % of the way to the best possible reward; every arm stops
# exactly there (a model on which an arm gets stuck below it is left out). Here are all the arms of this section and the
# next; read the first two now.
#
# - **RL**: maximise the expected reward, no leash
# - **RL + old text**: the same with γ = 1
# - **RL + leash**: the reward minus β·KL, at a β whose optimum lies just above the goal
# - **SFT near**: imitate demonstrations drawn from that optimum
# - **SFT far**: imitate a stranger, *another* network made good enough at the task in the same way
# - **SFT own**: imitate one's own samples that reach the goal (filtered on-policy SFT)
#
# **Predict**: does RL, or imitating a stranger, forget more?

# %%
results = {name: [] for name in ("RL", "RL + old text", "RL + leash", "SFT near", "SFT far",
                                 "SFT own")}
for seed in run.seeds(10):
    young, stranger = exact_model(seed), exact_model(seed + 500)
    taste = torch.randn(15, generator=run.fresh(f"taste {seed}"), **f64)
    q0, other = (world.seq_logp(m).detach() for m in (young, stranger))
    old = [(w.seq_logp(young).detach(), w) for w in olds]
    now = (q0.exp() @ taste).item()
    goal = now + 0.4 * (taste.max().item() - now)
    mark = goal + 0.05 * (taste.max().item() - goal)  # teachers are a little above the goal
    dear_, dear_far = beta_for(q0, taste, mark), beta_for(other, taste, mark)
    near, far = tilted(q0, taste, dear_).exp(), tilted(other, taste, dear_far).exp()
    losses = {"RL": lambda q, r=taste: -(q.exp() @ r),
              "RL + leash": lambda q, r=taste, b=dear_, s=q0: -(q.exp() @ (r - b * (q - s))),
              "SFT near": lambda q, t=near: -(t @ q), "SFT far": lambda q, t=far: -(t @ q),
              "SFT own": lambda q, good=taste >= goal: -((q.exp() * good).detach() @ q)}
    for name, loss in losses.items():
        results[name].append(learn(young, loss, taste, goal, old))
    results["RL + old text"].append(learn(young, losses["RL"], taste, goal, old, ptx=1.0))

# %%
raw = {n: {k: torch.tensor([row[k] for row in rows], **f64) for k in rows[0]}
       for n, rows in results.items()}
there = {n: rows["over goal"].abs() < 0.01 for n, rows in raw.items()}
kept = torch.stack(list(there.values())).all(0)
table = {n: {k: values[kept] for k, values in rows.items()} for n, rows in raw.items()}


def times(a, b, key="forgot"):
    """Geometric mean of a ratio over the models, and its interval of three standard errors."""
    d = (table[a][key] / table[b][key]).log()
    return tuple(math.exp(d.mean() + k * d.std() / len(d) ** 0.5) for k in (0, -3, 3))


claim("on at least seven of ten models all arms stop at the same reward", kept.sum() >= 7,
      {"models": kept.sum().item()}
      | {f"{n} stuck": 10 - x.sum().item() for n, x in there.items() if not x.all()}, kind="T")
with_text, held_out = times("RL", "RL + old text"), times("RL", "RL + old text", "unseen")
claim("RL without old text forgets more than RL with it, on average over the models",
      with_text[1] > 1, dict(zip(("times", "from", "to"), with_text, strict=True)), kind="S")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
print(f"forgetting, RL over RL + old text: {with_text[0]:.2f} times on all three old prompts;\n"
      f"on the one that nobody trained {held_out[0]:.2f} times, "
      f"interval {held_out[1]:.2f} to {held_out[2]:.2f}")

# %% [markdown]
# Does old text protect what it does *not* show? Only if the second interval lies above one.
#
# **DPO + NLL.** DPO (chapter 12) only looks at the *difference* between chosen and rejected: both may become unlikely.
# Adding the negative log-likelihood of the chosen answer keeps that one up, [eq:dpo_nll](https://rlhfbook.com/c/15-regularization#eq:dpo_nll), written out in
# [eq:dpo_nll_expanded](https://rlhfbook.com/c/15-regularization#eq:dpo_nll_expanded):
#
# $$\mathcal L=-\log\sigma\Big(\beta\log\frac{\pi_\theta(y_c)}{\pi_{\mathrm{ref}}(y_c)}
#   -\beta\log\frac{\pi_\theta(y_r)}{\pi_{\mathrm{ref}}(y_r)}\Big)-\alpha\,\frac{\log\pi_\theta(y_c)}{|y_c|}$$
#
# *Said aloud: prefer the chosen answer, and besides keep it likely.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\alpha$ | weight of the likelihood | `alpha` | one number |
# | $\lvert y_c\rvert$ | tokens of the chosen answer | `lengths` | (B,) |
#
# **By hand**: log-probabilities −10 and −14, reference −11 and −13, β a tenth, five tokens. The margin is
# $\tfrac1{10}(1-(-1))=\tfrac15$; the likelihood costs $10/5$.
#
# Then the exact world, full gradient: chosen *bba*, rejected *bbb*. **Predict**: after forty DPO steps, is the chosen
# answer likelier than before?

# %%
show_source(direct_alignment.dpo_nll_loss)

# %%
four = [torch.tensor([v], **f64) for v in (-10, -14, -11, -13)]
package, _ = direct_alignment.dpo_nll_loss(*four, beta=0.1, lengths=torch.tensor([5]))
print(f"by hand {math.log1p(math.exp(-0.2)) + 2:.6f}   package {package.item():.6f}")
claim("dpo_nll_loss equals the hand computation",
      abs(package.item() - math.log1p(math.exp(-0.2)) - 2) < 1e-12)
c, r = [world.completions.tolist().index(words) for words in ([2, 2, 1], [2, 2, 2])]
moved = {}
for name, alpha in (("DPO", 0.0), ("DPO + NLL", 0.1)):
    pupil = copy.deepcopy(model)
    sgd = torch.optim.SGD(pupil.parameters(), lr=0.25)
    for _ in range(40):
        q = world.seq_logp(pupil)
        loss, _ = direct_alignment.dpo_nll_loss(q[[c]], q[[r]], logp_ref[[c]], logp_ref[[r]],
                                                beta=0.3, alpha=alpha, lengths=torch.tensor([3]))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    q = world.seq_logp(pupil).detach() - logp_ref
    moved[name] = (q[c].item(), q[r].item())
    if name == "DPO":
        places = (world.logps(pupil) - world.logps(model)).detach()

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
for name, (up, down) in moved.items():
    print(f"{name:<10} change of log-probability: chosen answer {up:+.2f}, rejected {down:+.2f}")
print(f"DPO, by token: the shared bb {places[c, :2].sum().item():+.2f}, "
      f"then a {places[c, 2].item():+.2f} or b {places[r, 2].item():+.2f}")

# %%
claim("DPO's loss sees the last token alone: the change of the margin is the change there",
      abs((moved["DPO"][0] - moved["DPO"][1]) - (places[c, 2] - places[r, 2]).item()) < 1e-9)
claim("DPO made the chosen answer less likely than at the start, and still widened the margin",
      moved["DPO"][0] < -1 and moved["DPO"][0] > moved["DPO"][1],
      dict(zip(("chosen", "rejected"), moved["DPO"], strict=True)), kind="T")
claim("with the likelihood term it became likelier", moved["DPO + NLL"][0] > 0,
      dict(zip(("chosen", "rejected"), moved["DPO + NLL"], strict=True)), kind="T")

# %% [markdown]
# The two answers share their first two tokens, and shared tokens *cancel* in the margin: the loss asks for nothing but
# an *a* instead of a *b* at the third place, and gets it. But one network computes all three places. What makes *b* less
# likely at the third place makes it less likely at the first two, and with them both answers sink. Nothing in the loss
# holds the shared tokens; the likelihood term does.
#
# A margin regularises the reward model instead, [eq:margin_loss](https://rlhfbook.com/c/15-regularization#eq:margin_loss):
# [chapter 7](07_reward_modeling.ipynb) has it with formula and numbers.
#
# ## 8.8 Who forgets more?
#
# Does RL forget less than SFT? The book reports two papers that say so, and a law,
# [eq:rl_razor_forgetting](https://rlhfbook.com/c/15-regularization#eq:rl_razor_forgetting):
#
# $$\text{forgetting}\approx f\Big(\mathbb E_{x\sim\tau}\big[\mathcal D_{\mathrm{KL}}(\pi_0(\cdot\mid x)\,\|\,\pi(\cdot\mid x))\big]\Big)$$
#
# *Said aloud: tell me how far your answers to the new prompts have moved, and I tell you what happened to the rest.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\pi_0$ | the model before training | `young`, `q0` | (15,) |
# | $\tau$ | prompts of the new task | the first prompt | 1 |
# | inside f | drift, KL(start‖policy) | `table[...]["drift"]` | (models,) |
# | leash | KL(policy‖start) | `table[...]["leash"]` | (models,) |

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
columns = ("drift", "leash", "entropy", "forgot")
print(f"geometric means of {kept.sum()} models\n" + " " * 14 + "".join(f"{k:>9}" for k in columns))
for name, rows in table.items():
    print(f"{name:<14}" + "".join(f"{rows[k].log().mean().exp().item():9.3f}" for k in columns))
for a, b in (("SFT far", "SFT near"), ("RL", "SFT near"), ("SFT far", "RL"), ("SFT own", "RL")):
    mid, lo, hi = times(a, b)
    print(f"{a} over {b}: forgets {mid:.2f} times as much, interval {lo:.2f} to {hi:.2f}")

# %%
far_near, away = times("SFT far", "SFT near"), times("RL", "SFT near", "drift")
claim("over the models, imitating a stranger forgets more than imitating the nearest policy that "
      "does the task", far_near[0] > 1,
      dict(zip(("times", "from", "to"), far_near, strict=True)), kind="T")
claim("at the same reward, RL without a leash has drifted further than SFT near", away[0] > 1,
      dict(zip(("times", "from", "to"), away, strict=True)), kind="T")
fig, ax = new("Who drifts further on the new task forgets more of the old",
              "drift on the new task: KL(start || policy), nats", "forgetting, nats",
              "exact runs of five arms")
BLIND = {"RL": "policy", "RL + leash": "reference", "SFT near": "chosen", "SFT far": "rejected",
         "SFT own": "other"}
for name, look in BLIND.items():
    style = {k: ROLES[look][k] for k in ("color", "marker")}
    ax.plot(table[name]["drift"], table[name]["forgot"], linestyle="", label=name, **style)
ax.set(xscale="log", yscale="log")
ax.legend(frameon=False)
show(fig, "Scatter plot on logarithmic axes of forgetting on old prompts against drift on the new "
          "prompt for five ways of training: the points rise from lower left to upper right.")

# %%
pooled = {k: torch.stack([table[n][k] for n in BLIND]) for k in ("drift", "leash", "forgot")}
draw = run.fresh("models drawn again")
n = int(kept.sum())
again = [torch.randint(n, (n,), generator=draw) for _ in range(200)]
law = {}
for k in ("drift", "leash"):
    law[k] = spearman(pooled[k].flatten(), pooled["forgot"].flatten())
    spread_of = np.std([spearman(pooled[k][:, i].flatten(), pooled["forgot"][:, i].flatten())
                        for i in again])
    law[f"{k}, lower end"] = law[k] - 3 * spread_of
claim("drift on the new task orders the runs by what they forgot, measured either way round",
      min(law["drift, lower end"], law["leash, lower end"]) > 0, law, kind="S")

# %% [markdown]
# The *law* holds for the five ways that never see an old prompt (RL + old text forgets little for its drift: that is its
# purpose). The *teacher* matters: SFT near and SFT far are one algorithm. And "RL forgets less" is *not* what the table
# says without a condition: without a leash, even with exact gradients, RL gives up answers that the start model liked; with a leash it stays
# near. But RL does forget less than imitating a *stranger*: read the ratio "SFT far over RL" and its interval above.
# Filtered on-policy SFT is policy gradient on a reward of zero or one, and cannot be told from RL here. The papers
# see RL forget less in large models trained from sampled batches; their own explanation, *whose texts are learned from*,
# is what survives here.
#
# Your prediction: on average over these models the stranger's pupil forgets more; the interval of "SFT far over RL" says
# how sure that is.

# %% [markdown]
# ## Once, by hand, on one batch
#
# One leashed update. Two answers to one prompt, four token places; the last place of the second answer is padding. The
# score minus β times the summed k1 is the reward of a text; what the other answer got is its baseline (RLOO).

# %%
mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
logp_old = torch.tensor([[-1.0, -0.5, -2.0, -0.1], [-0.7, -1.2, -0.3, -9.0]], **f64)
logp_start = torch.tensor([[-1.5, -0.5, -1.0, -0.1], [-0.7, -2.2, -0.3, -1.0]], **f64)
score = torch.tensor([2.0, 1.0], **f64)
estimates = {k.__name__: k(logp_old, logp_start) * mask for k in (k1, k2, k3)}
for name, e in estimates.items():
    print(f"{name}  {tuple(e.shape)}  {[[round(v, 3) + 0.0 for v in row] for row in e.tolist()]}"
          f"   a text: {[round(v, 3) for v in e.sum(1).tolist()]}")
net, kl = penalized(score, logp_old, logp_start, mask, 0.5)
advantage = leave_one_out(net, 2)
for name, v in (("score", score), ("KL", kl), ("reward", net), ("advantage", advantage)):
    print(f"{name:<10}", [round(x, 4) for x in v.tolist()])
claim("by hand: the first text has drifted by 0.5 - 1, the second by 1, so the KLs are -0.5 and 1",
      (kl - torch.tensor([-0.5, 1.0], **f64)).abs().max() < 1e-12)
claim("by hand: rewards 2.25 and 0.5, advantages plus and minus 1.75",
      (advantage - torch.tensor([1.75, -1.75], **f64)).abs().max() < 1e-12)

# %% [markdown]
# One text's k1 is negative. That is no error: a *single* sample may well be likelier for the reference. Only the
# true average cannot be negative (exercise 8.3, in the lesson).

# %%
live = logp_old.clone().requires_grad_()
loss, _ = rloo.rloo_loss(live, net, mask, group_size=2)
in_reward = torch.autograd.grad(loss, live)[0]
in_loss = {}
for name, k in (("k2", k2), ("k3", k3)):
    plain, _ = rloo.rloo_loss(live, score, mask, group_size=2)
    both = plain + 0.5 * masked_sum(k(live, logp_start), mask, dim=1).mean()
    in_loss[name] = torch.autograd.grad(both, live)[0]
rows_of = {"k1 in the reward": in_reward} | {f"{n} in the loss": g for n, g in in_loss.items()}
for name, g in rows_of.items():
    print(f"{name:<17}", [[round(v, 3) + 0.0 for v in row] for row in g.tolist()])
claim("padding gets no gradient, wherever the penalty stands",
      all(g[1, 3] == 0 for g in (in_reward, *in_loss.values())))
claim("by hand, third token of text 1: -1/2 from the advantage, and -1/4 by k2, (1 - e)/4 by k3",
      abs(in_loss["k2"][0, 2] - (-0.5 - 0.25)) < 1e-12
      and abs(in_loss["k3"][0, 2] - (-0.5 + 0.25 * (1 - math.e))) < 1e-12)

# %% [markdown]
# ## The loop: three leashes in the village
#
# Now a language model with three million parameters, and the *true* reward, so that nothing can be hacked.
# `village-3m-sft` still helps with harm now and then and agrees with people who are wrong. RLOO on these two kinds of
# prompts, at three betas, and once without a leash but with old text in every update (γ = 1).

# %%
start, tokenizer = load("village-3m-sft")
TRAINED, OTHERS = ("harmful", "opinion"), ("story", "fact", "lookalike", "sum")
STEPS, ROWS, EACH = 12, 6, 4
train_rows = village.prompts(STEPS * ROWS, families=TRAINED, seed=run.seed, distinct=False)
test_rows = village.prompts(48, families=TRAINED, split="test", seed=run.seed, distinct=False)
elsewhere = data.collate_demonstrations(village.demonstrations(
    96, split="test", families=OTHERS, perfect=True, seed=run.seed), tokenizer)
old_text = village.demonstrations(16 * STEPS, families=OTHERS, seed=run.seed + 1)


def answers(model, rows, name, n, temperature=1.0):
    """n sampled answers to each prompt -> (texts, rollout, gold)."""
    drawn = sample(model, data.prompts_ids(rows, tokenizer), n=n, max_new_tokens=40,
                   eos_id=tokenizer.eos_token_id, temperature=temperature,
                   generator=run.fresh(name))
    texts = drawn.texts(tokenizer)
    asked = [row["prompt"] for row in rows for _ in range(n)]
    gold = [village.gold(a, t) for a, t in zip(asked, texts, strict=True)]
    return texts, drawn, torch.tensor(gold)


def old_loss(model, batch):
    """Nats a token on demonstrations."""
    logp = token_logps(model, batch["ids"], batch["attention"])
    return sft.sft_loss(logp, batch["mask"][:, 1:])[0]


# %%
def train(beta, gamma=0.0):
    """RLOO on gold at one beta, old text at weight gamma -> policy."""
    pupil = copy.deepcopy(start)
    adam = torch.optim.AdamW(pupil.parameters(), lr=1.5e-4, weight_decay=0.0)
    for step in range(STEPS):
        _, drawn, gold = answers(pupil, train_rows[ROWS * step:][:ROWS], f"train {step}", EACH)
        with torch.no_grad():
            ref = completion_logps(start, drawn)
        net, _ = penalized(gold, drawn.logp_old, ref, drawn.mask, beta)
        loss, _ = rloo.rloo_loss(completion_logps(pupil, drawn), net, drawn.mask, group_size=EACH)
        if gamma:  # the one line of eq:objective_pretraining
            loss = loss + gamma * old_loss(
                pupil, data.collate_demonstrations(old_text[16 * step:][:16], tokenizer))
        optim.update(loss, adam)
    return pupil


def report(model):
    """Held-out prompts of the trained kinds, demonstrations of the others -> dict of numbers."""
    texts, drawn, gold = answers(model, test_rows, "report", 2)
    with torch.no_grad():
        moved = k1(drawn.logp_old, completion_logps(start, drawn)) * drawn.mask
        loss = old_loss(model, elsewhere).item()
    return {"gold": gold.mean().item(), "KL": moved.sum(1).mean().item(), "loss elsewhere": loss,
            "distinct": distinct_n(texts, 2)}


ARMS = {"beta 0": (0.0, 0.0), "beta 1": (1.0, 0.0), "beta 5": (5.0, 0.0), "old text": (0.0, 1.0)}
village_runs = {}
for name, settings in ARMS.items():
    village_runs[name] = train(*settings)
    print(f"{name}: {STEPS} steps done")
reports = {"start": report(start)} | {n: report(m) for n, m in village_runs.items()}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
print(f"{'arm':<10}" + "".join(f"{k:>16}" for k in reports["start"]))
for name, numbers in reports.items():
    print(f"{name:<10}" + "".join(f"{v:>16.3f}" for v in numbers.values()))

# %%
fig, ax = new("A larger beta keeps the policy closer", "KL to the start, nats an answer",
              "gold on held-out prompts", "village-3m, one seed, held-out prompts")
for name, look in (("start", "reference"), ("beta 5", "chosen"), ("beta 1", "policy"),
                   ("beta 0", "rejected"), ("old text", "other")):
    style = {k: ROLES[look][k] for k in ("color", "marker")}
    ax.plot(reports[name]["KL"], reports[name]["gold"], linestyle="", markersize=8, label=name,
            **style)
ax.legend(frameon=False, loc="lower right")
show(fig, "Scatter plot of gold on held-out prompts against the KL to the start, for the start and "
          "four trained policies: the largest beta stays nearer to the start than no leash.")
claim("without a leash the true reward on held-out prompts rises",
      reports["beta 0"]["gold"] > reports["start"]["gold"] + 0.2,
      {n: r["gold"] for n, r in reports.items()}, kind="T")
claim("the largest beta keeps the policy nearer to the reference than no leash at all",
      reports["beta 5"]["KL"] < reports["beta 0"]["KL"],
      {n: r["KL"] for n, r in reports.items()}, kind="T")

# %% [markdown]
# The strong leash bought closeness and was paid for in reward. Since the reward here is the truth, a leash can only
# cost: it is an insurance against a wrong *reward*, and chapter 17 and the
# lesson make the reward wrong. The arms with little or no leash are ahead in gold, too close together for one seed to rank
# them; the loss elsewhere hardly moves in *any* arm. Read the last column too: the arms that walked furthest use fewer different word pairs; on one seed an
# observation.
#
# Three prompts where start and the unleashed policy differ, answered greedily (the likeliest token at every place), with
# gold.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
shown = {n: answers(m, test_rows[:20], "look", 1, temperature=0)
         for n, m in {"start": start, **village_runs}.items()}
differ = [i for i in range(20) if shown["start"][0][i] != shown["beta 0"][0][i]]
for i in differ[:3]:
    print(f"PROMPT    {test_rows[i]['prompt']}")
    for name, (texts, _, gold) in shown.items():
        print(f"  {name:<9} {gold[i]:+.1f}  {' / '.join(texts[i].split(chr(10)))[:90]}")

# %% [markdown]
# ## Failure gallery
#
# Five mistakes that run without an error. Each has a detector of one line.
#
# **Failure 1: the estimator upside down (C2, K1, K2).** At commit a66b0bf the book's code computes k1 and k3 from
# the negative log-ratio.
#
# ```python
# log_ratio = logp_ref - logp                  # wrong for samples of the policy
# log_ratio = logp - logp_ref                  # right: k1 is this
# ```
#
# What one sees: in the reward, k1 *pays* for drift, and a larger β drifts faster. k3 still looks healthy, never negative,
# and about right near the reference; far away it estimates $\chi^2-\mathrm{KL}$,
# and its $e^{\ell}$ grows without bound on answers that became likely. That fits the spikes that a reader of the book's code
# [reports](https://github.com/natolambert/rlhf-book/issues/489); that it is their cause is our inference.

# %%
upside = {n: (p * TERMS[n](policy, reference)).sum().item()
          for n in ("k1 upside down", "k3 upside down")}
chi = (p**2 / reference.exp()).sum().item() - 1
print(f"KL {exact.item():.5f}   " + "   ".join(f"{n} {v:+.5f}" for n, v in upside.items()))
claim("upside down, k1 averages minus the KL and k3 averages chi squared minus the KL",
      abs(upside["k1 upside down"] + exact) < 1e-12
      and abs(upside["k3 upside down"] - (chi - exact)) < 1e-12)
claim("the gradient of the upside-down k3 is half that of chi squared",
      found["k3 upside down"] == "half chi^2(pi || ref)")
claim("detector: the means of k1 and k3 must agree; upside down they differ by far",
      abs(averages[0] - averages[2]) < 1e-12
      and abs(upside["k1 upside down"] - upside["k3 upside down"]) > 2 * exact)

# %% [markdown]
# **Failure 2: `F.kl_div` as one would guess it (C6, K4).** PyTorch's function wants the *second* distribution first,
# in logs, and the first as a *probability*, unless told otherwise. And `batchmean` divides by the first dimension only.
#
# ```python
# F.kl_div(ref_logprobs, logprobs, reduction="batchmean")                        # printed: NaN
# F.kl_div(ref_logprobs, logprobs, reduction="none", log_target=True).sum(-1)    # right, per token
# ```
#
# The printed order of the arguments is right; without `log_target` it takes the logarithm of a negative number.

# %%
draw = run.fresh("logits")
here, there = (torch.randn(2, 5, 7, generator=draw, **f64).log_softmax(-1) for _ in range(2))
printed = F.kl_div(there, here, reduction="batchmean")
repaired = F.kl_div(there, here, reduction="none", log_target=True).sum(-1)
per_row = F.kl_div(there, here, reduction="batchmean", log_target=True)
print("as printed:", printed.item(), "  with log_target, batchmean:",
      "5 times the mean over tokens" if abs(per_row - 5 * repaired.mean()) < 1e-12 else "?")
claim("as printed the value is NaN", math.isnan(printed.item()))
claim("detector: compare with exact_kl on random logits; the repaired call agrees",
      (repaired - exact_kl(here, there)).abs().max() < 1e-12)
claim("batchmean is a sum over tokens and a mean over rows",
      abs(per_row - 5 * repaired.mean()) < 1e-12)

# %% [markdown]
# **Failure 3: a clamp where the leash is needed (C3).** "A huge penalty is an outlier; clamp the penalty." In a loss the
# clamp has a second effect (here it starts at a log-ratio of one, to keep numbers small):
#
# ```python
# kl = k2(logp, logp_ref).clamp(max=0.5)       # wrong: outside, the gradient is zero
# kl = k2(logp, logp_ref)                      # right: it grows with the distance
# ```
#
# What one sees: a few tokens run away for good, and the logged penalty stays modest.

# %%
far_off = torch.tensor([0.1, 1.0, 4.0], **f64).requires_grad_()
zero = torch.zeros(3, **f64)
free = torch.autograd.grad(k2(far_off, zero).sum(), far_off)[0]
clamped = torch.autograd.grad(k2(far_off, zero).clamp(max=0.5 + 1e-9).sum(), far_off)[0]
print("log-ratio            ", far_off.tolist())
print("pull of k2           ", free.tolist())
print("pull of k2, clamped  ", clamped.tolist())
claim("detector: the furthest token must feel the strongest pull; under the clamp it feels none",
      free.argmax() == 2 and clamped[2] == 0)

# %% [markdown]
# **Failure 4: a KL below zero (B4, B5).** The text was sampled with `top_k` or at another temperature, and scored
# with the full softmax. Then the samples are not from the policy, and $\mathbb E[\log\pi-\log\pi_{\mathrm{ref}}]$ is
# no KL at all. The classic sign is a *negative* KL curve.
#
# ```python
# ids = generate(..., do_sample=True, top_k=2)      # some libraries default to 50
# kl = k1(logp, logp_ref).sum(1)                    # of the full softmax: not the sampler's
# ```

# %%
mine = torch.tensor([0.4, 0.3, 0.2, 0.1], **f64)
theirs = torch.tensor([0.45, 0.35, 0.15, 0.05], **f64)
kept = torch.where(mine >= mine.sort().values[-2], mine, 0)
kept = kept / kept.sum()  # what top-2 sampling draws from
logged = (kept * k1(mine.log(), theirs.log())).sum().item()
truth = exact_kl(mine.log(), theirs.log()).item()
positive = (kept * k3(mine.log(), theirs.log())).sum().item()
print(f"true KL {truth:+.4f}   logged under top-2 sampling: k1 {logged:+.4f}  k3 {positive:+.4f}")
claim("with top-2 samples the average of k1 is negative, although no KL is", logged < 0 < truth)
claim("detector: k1 and k3 disagree on samples that are not the policy's; k3 alone hides it",
      abs(positive - logged) > 0.05 and positive > 0)

# %% [markdown]
# **Failure 5: prompt and padding inside the KL (K5).** The chapter's listing takes every place of the batch. But nobody
# chose the prompt, and padding is nothing at all.
#
# ```python
# kl = (logp - logp_ref).sum(1)                      # wrong: every place counts
# kl = masked_sum(k1(logp, logp_ref), mask, dim=1)   # right
# ```
#
# What one sees: a text's KL changes with the longest text beside it. The two texts from above, with two places of prompt
# in front and three pads behind:

# %%
pair = logp_old, logp_start
wider = [F.pad(x, (2, 3), value=v) for x, v in zip(pair, (-0.4, -0.9), strict=True)]
under = masked_sum(k1(*pair), mask, dim=1), masked_sum(k1(*wider), F.pad(mask, (2, 3)), dim=1)
without = k1(*pair).sum(1), k1(*wider).sum(1)
print("under the mask  ", *(x.tolist() for x in under))
print("without         ", *([round(v, 2) for v in x.tolist()] for x in without))
claim("detector: prompt and padding leave the KL under the mask as it was",
      under[0].equal(under[1]))
claim("without the mask they change the KL of every text",
      (without[0] - without[1]).abs().min() > 1)

# %% [markdown]
# ## At GPT-2 size
#
# Is k3 the better meter on a real language model? SmolLM2-135M-Instruct gets six steps of SFT on village answers, through
# LoRA (small trainable additions, *adapters*, beside the frozen weights), so large that it babbles. It writes 16 answers,
# and the KL to itself with the adapters off is measured three ways: k1, k3, and the exact KL over the whole vocabulary at
# every position, the judge.

# %%
if available("smollm2-135m"):
    small, small_tokenizer = load("smollm2-135m")
    small_policy = lora(small, r=8)
    lessons = village.demonstrations(24, families=("fact", "harmful", "lookalike"), seed=run.seed)
    batches = [data.collate_demonstrations(lessons[i:i + 4], small_tokenizer)
               for i in range(0, 24, 4)]
    adam = torch.optim.AdamW([w for w in small_policy.parameters() if w.requires_grad], lr=1.5e-3)
    first_loss = sft.step(small_policy, adam, batches[0])["loss"].item()
    for batch in batches[1:]:
        sft.step(small_policy, adam, batch)
    with torch.no_grad():
        last_loss = old_loss(small_policy, batches[0]).item()
    claim("six LoRA steps lower the SFT loss of the first batch", last_loss < first_loss - 0.2,
          {"before": first_loss, "after": last_loss}, kind="T")

# %%
if available("smollm2-135m"):
    asked = [{"prompt": f"What is {s}?"} for s in ("rain", "honey", "chess", "a river", "sleep",
                                                   "wool", "a bridge", "salt")]
    drawn = sample(small_policy, data.prompts_ids(asked, small_tokenizer), n=2, max_new_tokens=20,
                   eos_id=small_tokenizer.eos_token_id, generator=run.fresh("small"))
    real, chosen = drawn.mask.bool(), drawn.completion_ids
    seen = {"attention_mask": drawn.attention.long(), "use_cache": False,
            "logits_to_keep": chosen.shape[1] + 1}
    with torch.no_grad():
        now = small_policy(drawn.ids, **seen).logits[:, :-1][real]
        with adapters_off(small_policy):
            then = small_policy(drawn.ids, **seen).logits[:, :-1][real]
    logp, ref = (x.log_softmax(-1).gather(1, chosen[real][:, None])[:, 0] for x in (now, then))
    meters = {"k1": k1(logp, ref), "k3": k3(logp, ref), "exact steps": exact_kl(now, then)}
    by_text = {n: torch.zeros(real.shape).masked_scatter(real, x).sum(1)
               for n, x in meters.items()}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
if available("smollm2-135m"):
    print(f"{len(real)} answers, {int(real.sum())} tokens")
    for name, x in by_text.items():
        print(f"{name:<12} mean {x.mean().item():7.2f} nats an answer, standard error "
              f"{x.std().item() / len(x)**0.5:.2f}, median {x.quantile(0.5).item():.2f}")
    below = (meters["k3"] < meters["exact steps"]).double().mean().item()
    above = (meters["k3"] - meters["exact steps"]).max().item()
    print(f"k3 is below the exact KL of its place at {100 * below:.0f} % of the tokens, "
          f"above it by up to {above:.1f} nats")
    for row, text in zip(asked[:3], drawn.texts(small_tokenizer)[:6:2], strict=True):
        print(f"  {row['prompt']:<18} {' / '.join(text.split(chr(10)))[:90]}")

# %%
if available("smollm2-135m"):
    gap = by_text["k1"] - by_text["exact steps"]
    error = gap.std().item() / len(gap) ** 0.5
    claim("k1 agrees with the judge within three standard errors of their difference",
          abs(gap.mean().item()) < 3 * error,
          {n: x.mean().item() for n, x in by_text.items()} | {"error": error}, kind="S")
    claim("at most tokens k3 lies below the exact KL of the place", below > 0.5,
          {"share": below}, kind="T")

# %% [markdown]
# This far from the reference a typical draw of k3 lies below the truth, a rare one far above. The judge needs only logits
# that both forward passes have already made, and removes the noise of the
# sampled token. It cannot remove the other noise, *which* prefixes were visited and how long the answers are: compare
# the standard errors.
#
# **Longer.** A recorded run: RLOO on chapter 9's recorded SmolLM2, LoRA, the true reward on harmful
# requests and look-alikes, $\beta=0.02$ a nat (`data/runs/smollm2.py`). Before you look: a refusal of harm earns
# 3 points. How many nats can a leash at that price hold back?

# %%
long = recorded("smollm2_rloo")
show(recorded_plot(long, {"policy: KL to the start": "kl"},
                   title="Recorded: at this price the leash does not hold",
                   y_label="KL of an answer, nats (k1)", note="smollm2-135m, LoRA, one run"),
     "Line plot of the KL to the start against the steps of a recorded RLOO run: near zero at "
     "first, then it rises steeply, dips and rises again.")
gain, error = long.before_after()
paid = [b * kl for b, kl in zip(long.curve["beta"], long.curve["kl"], strict=True)]
price = sum(paid[-10:]) / 10
claim("at this β the leash costs less than a twentieth of what leaving the start has gained",
      price < 0.05 * gain, {"price": price, "gain": gain, "its error": error}, kind="T")
apart = [sum(long.curve["adv_std"][part]) / 10 for part in (slice(10), slice(-10, None))]
claim("at the end advantages are small, and so is the learning rate",
      apart[1] < apart[0] / 3 and long.curve["lr"][-1] < long.curve["lr"][0] / 10,
      {"advantages, first ten steps": apart[0], "last ten": apart[1]}, kind="T")

# %% [markdown]
# A price binds only where it is of the size of what can be won. The KL stopped growing for other reasons: the answers
# to a prompt became the same refusal, so advantages vanished, and the learning rate ran out.
#
# ## Exercises
#
# Exercises 8.1 to 8.3 are in the [lesson](../08_regularization.ipynb). Each check says *which* idea was behind a wrong answer.
#
# ### Exercise 8.4 · How many samples? · difficulty 2 of 5 · 10 minutes (estimated) · needs: 8.1
#
# You want the KL with a standard error of `width` nats. How many samples does k1 need, how many k3? Given are the
# log-probabilities of all answers under policy and reference, so both numbers are exact; do not round them.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex08-4", "locked": false, "schema_version": 3, "solution": true, "task": false}
def samples_needed(logp, logp_ref, width):
    """(V,), (V,), nats -> number of samples for k1, number of samples for k3."""
    ### BEGIN SOLUTION
    needed = []
    for k in (k1, k3):
        x = k(logp, logp_ref)
        mean = (logp.exp() * x).sum()
        needed.append((logp.exp() * (x - mean) ** 2).sum().item() / width**2)
    return needed
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex08-4-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("8.4", samples_needed)
### BEGIN HIDDEN TESTS
check("8.4", samples_needed, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# The standard error of a mean of n samples is the standard deviation over $\sqrt n$. Solve for n.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# The samples come from the policy: weigh each answer with `logp.exp()`, in the mean and in the variance.
#
# </details>
#
# *You should now be able to say* when k3 is the worse meter, and why.
#
# <!-- solution 8.4 -->
#
# ### Exercise 8.5 · Repair a call · difficulty 3 of 5 · 15 minutes (estimated) · needs: failure 2
#
# This was meant to be KL(policy‖reference) a token, averaged over the tokens that the mask names. It has three
# faults, and no mask:
#
# ```python
# F.kl_div(logits.log_softmax(-1), logits_ref.log_softmax(-1), reduction="batchmean")
# ```
#
# Repair it. Padding may stand on either side.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex08-5", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mean_kl(logits, logits_ref, mask):
    """(B, T, V), (B, T, V), (B, T) -> one number, nats a token."""
    ### BEGIN SOLUTION
    logq, logp = logits_ref.log_softmax(-1), logits.log_softmax(-1)
    each = F.kl_div(logq, logp, reduction="none", log_target=True).sum(-1)
    return (each * mask).sum() / mask.sum()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex08-5-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("8.5", mean_kl)
### BEGIN HIDDEN TESTS
check("8.5", mean_kl, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# Which distribution comes first? Is the target a probability? What is divided by what?
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Ask for `reduction="none"`, sum over the vocabulary, and take the masked mean yourself.
#
# </details>
#
# *You should now be able to say* what each of the three arguments of that call does.
#
# <!-- solution 8.5 -->
#
# ## Questionnaire
#
# 1. At the optimum of which objective does a run with k3 in the loss end?
# 2. What does per-token k2 in a loss miss, compared with k1 in the reward?
# 3. What changes when log-ratios are averaged over a text instead of summed?
# 4. By how much does a policy fall short of the best leashed value?
# 5. Forgetting in the exact world: what predicted it?
#
# <details><summary>Answers</summary>
#
# 1. Reward minus β·KL(reference‖policy). 2. That today's token decides which prefixes come tomorrow.
# 3. β shrinks with length, and the policy writes longer and drifts further. 4. By β times KL(policy‖optimum). 5. How far
# the answers to the new prompts had moved, and with it whose texts were learned from; not whether the method is called
# RL or SFT.
#
# </details>
#
# ## Where the book and its code differ
#
# All at commit a66b0bf; all are a line to fix.
#
# - **Inside a reward stands a sample.** [eq:kl_standard](https://rlhfbook.com/c/15-regularization#eq:kl_standard)
#   puts a divergence into the reward of one answer. What code subtracts is that answer's log-ratio, whose *mean* is the
#   divergence (section 8.1).
# - **k1 and k3 upside down** in `code/policy_gradients/loss.py`: failure 1 shows the means. The shipped configurations
#   have β = 0 and do not meet it.
# - **`kl_full`** in the chapter's listing is NaN without `log_target` (failure 2), and neither it nor `kl_approx` masks
#   prompt and padding (failure 5). The listing sums the
#   log-ratios of an answer; the code's reward averages them (`policy_gradients/utils.py`, line 180): a choice with
#   consequences (section 8.3).
# - **GRPO's k3** is read as KL(policy‖reference); as a term of a loss its gradient is that of the other direction
#   (section 8.2).
# - **"∝"** in [eq:sft_forward_kl](https://rlhfbook.com/c/15-regularization#eq:sft_forward_kl) and below means "equal up
#   to an added constant"; sections 8.4 and 8.6 show the constants. The $\log Z(x)$ there needs an average over prompts.
# - **Two directions.** The forgetting law is written with KL(start‖policy), the penalty is KL(policy‖start).
#
# ## Summary
#
# A KL penalty is four decisions: direction, estimator, place, and token or text. k1 in the reward, detached and
# summed, gives the gradient of KL(policy‖reference); in a loss it is k2 or ρ·k3, while k1 pulls on nothing and k3 on the
# other divergence. The leashed problem has one known optimum, and what a run lacks to it is β times a distance. β is a
# price; a controller turns it into a budget, slowly. What is forgotten elsewhere follows the drift on the new task, so
# choose near teachers, keep a leash, or mix in old text.
#
# **Functions you now know**: `kl.k1`, `kl.k2`, `kl.k3`, `kl.exact_kl`, `kl.AdaptiveKL`, `kl.penalized`,
# `exact.tilted`, `exact.free_energy`, `direct_alignment.dpo_nll_loss`.
#
# **Further reading**: Ziegler et al. 2019, [arXiv 1909.08593](https://arxiv.org/abs/1909.08593), the leash and its
# controller; Ouyang et al. 2022, [arXiv 2203.02155](https://arxiv.org/abs/2203.02155), old text in the update; Chen et
# al. 2025, [arXiv 2510.18874](https://arxiv.org/abs/2510.18874), and Shenfeld et al. 2025,
# [arXiv 2509.04259](https://arxiv.org/abs/2509.04259), who forgets less and why; Korbak et al. 2022,
# [arXiv 2205.11275](https://arxiv.org/abs/2205.11275), the leash as Bayesian inference.
#
# <!-- nav -->
