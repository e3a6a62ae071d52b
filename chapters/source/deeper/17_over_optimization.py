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
# # 17 · Over-optimization, deeper
#
# The [lesson](../17_over_optimization.ipynb) shows that an honest proxy, pushed, sends the true reward below its start, and why. This notebook adds the rest: the published laws and what they miss, heavy tails, exact answers about a KL penalty, ensembles, what was hacked, sycophancy, the alignment tax, and a failure gallery.
#
# Companion to [Over-optimization](https://rlhfbook.com/c/14-over-optimization) (chapter 14 of today's book) in Nathan Lambert's *Reinforcement Learning from Human Feedback*.
#
# <!-- edition -->
#
# <!-- nav -->

# %% [markdown]
# > **You need** reward models (chapter 7), the KL leash (chapter 8), best-of-n (chapter 10) and RLOO (chapter 11).
# >
# > **You will be able to** fit the published laws to measured curves and say what they miss · test whether a KL penalty helps or only stops early ·
# > build and judge ensembles · measure sycophancy, alignment tax and mode collapse.
# >
# > **Costs**: <!-- costs -->. **Models** behind the stored outputs: `village-3m-sft`, made by `make models`, and its
# > stored samples; `smollm2-135m` in the section [At GPT-2 size](#At-GPT-2-size).

# %%
import copy
import math
from itertools import combinations

import numpy as np
import torch

from rlhf_minimal import data, direct_alignment, reward_model, rloo, village
from rlhf_minimal.advantages import leave_one_out
from rlhf_minimal.best_of_n import curve, kl_bound, law
from rlhf_minimal.book import available, begin, check, claim, every, recorded, show, show_source
from rlhf_minimal.book.plots import bars, line_plot, panels, recorded_plot, seed_lines
from rlhf_minimal.chat import encode_prompt
from rlhf_minimal.evaluate import distinct_n
from rlhf_minimal.evaluate.exact import World, exact_model, free_energy, tilted
from rlhf_minimal.logprobs import sequence_logps
from rlhf_minimal.models import adapters_off, frozen_copy, load, lora
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import sample
from rlhf_minimal.tensors import pad_right

run = begin(17)

# %% [markdown]
# ## The question, and the set-up of the lesson
#
# **The lesson's question, in detail: which laws does the fall follow, what delays it, and who pays?**
#
# Nobody can write down what makes an answer good, so we train a **proxy**: a reward model, from comparisons that people
# made. Then we optimise it. In the village we also hold the truth, `gold`, at most 3 points an answer. No optimiser in
# this chapter sees it; we do.
#
# Nearly everything runs on stored samples of `village-3m-sft`. The *wide* part has 2,048 prompts with four answers each:
# people label pairs of these. Sixteen other prompts have 512 answers each: there we optimise.

# %%
stored = data.pool()
wide, main = stored.select(source="wide"), stored.select(source="village-3m-sft")
many = torch.stack([rows for rows in main.groups().values() if len(rows) == 512])  # (16, 512)
gold = main.gold[many].double()


def pairs_of(pool):
    """All two different answers to one prompt -> (N, 2) rows of the pool."""
    two = [rows[torch.combinations(torch.arange(len(rows)))] for rows in pool.groups().values()]
    two = torch.cat(two)
    return two[(pool.ids[two[:, 0]] != pool.ids[two[:, 1]]).any(1)]


kept_out = {stored.prompts[i] for i in main.groups()}  # what we test on is never labelled
pairs = pairs_of(wide)
known = torch.tensor([text in kept_out for text in stored.prompts])
pairs = pairs[~known[wide.prompt[pairs[:, 0]]]]
shared = kept_out & {stored.prompts[i] for i in wide.prompt[pairs[:, 0]].tolist()}
print(f"{len(pairs):,} pairs to label; {many.shape[0]} other prompts with {many.shape[1]} "
      "answers each to optimise on")
claim("no prompt is both labelled and optimised on", not shared)

# %% [markdown]
# **People.** An `Annotator` feels the true value of an answer, plus noise. At temperature one, the better of two answers
# that differ by one point wins in about three of four cases. That is an *honest* person: wrong at random only.
#
# **The proxy.** A linear head on frozen states, the last hidden state of each answer, fitted to the labels (chapter 7's
# `fit_head`). A comparison says nothing about the level of a prompt, only about differences within it. So we centre each
# prompt's scores and use their spread as the unit.

# %%
HONEST = village.Annotator(name="honest", temperature=1.0)
felt = {}  # what each person feels about each stored answer


def labels(person, n, name, two=pairs):
    """n pairs, labelled as the person would -> (n, 2) rows of `wide`: chosen, rejected."""
    if person.name not in felt:
        felt[person.name] = wide.utilities(person)
    generator, u = run.fresh(f"{person.name} {name}"), felt[person.name]
    two = two[torch.randperm(len(two), generator=generator)[:n]]
    p = torch.sigmoid((u[two[:, 0]] - u[two[:, 1]]) / person.temperature)
    first = torch.rand(len(two), generator=generator) < p
    return torch.where(first[:, None], two, two.flip(1))


def proxy(two, rows=many):
    """Labelled pairs -> scores of the pool's `rows` (P, G), centred per prompt, mean spread 1."""
    w = reward_model.fit_head(wide.state[two[:, 0]], wide.state[two[:, 1]], l2=0.03)
    score = (main.state[rows] @ w).double()
    score = score - score.mean(1, keepdim=True)
    return score / score.std(1).mean()


# %% [markdown]
# ## 17.1 Best-of-n and the number of labels
#
# Best-of-n is the cleanest way to push: one knob, no learning rate. `curve` averages the score, or any other value, of
# the picked answer over all subsets of n of the 512 stored ones: an unbiased estimate for the model that wrote them.

# %%
show_source(curve)
NS = [2**k for k in range(10)]
SIZES, DRAWS = (100, 400, 1600, 10000), 10


def pushed(score, value=gold):
    """Mean over prompts of the value of the best of n by score, at each n -> (len(NS),)."""
    return curve(score.flatten(), value.double().flatten(), score.shape[1], NS).mean(0).numpy()


proxies = {n: [proxy(labels(HONEST, n, f"draw {k}")) for k in range(DRAWS)] for n in SIZES}
truth = {n: np.stack([pushed(s) for s in proxies[n]]) for n in SIZES}  # (10 draws, 10 values of n)
liked = {1600: np.stack([pushed(s, s) for s in proxies[1600]])}


def low_high(x):
    """Mean ± three standard errors over the rows."""
    error = 3 * x.std(0, ddof=1) / len(x) ** 0.5
    return x.mean(0) - error, x.mean(0) + error

# %%
roots = [kl_bound(n) ** 0.5 for n in NS]
ends = torch.stack([gold.gather(1, s.argmax(1, keepdim=True))[:, 0] for s in proxies[1600]])
fell = int((ends.mean(0) < gold.mean(1)).sum())
claim("most of the sixteen prompts end below their start, but not all", 8 < fell < 16,
      {"prompts that fall": fell}, kind="T")
claim("the proxy's own expectation never falls with n",
      all((np.diff(x) > -1e-9).all() for t in liked.values() for x in t))

# %% [markdown]
# **More labels.** The lesson's curve of gold, for four sizes of the label set. (Ten draws of 10,000 share most of their pairs; the people's answers are new.)

# %%
lines = {f"{n:,} labels": (roots, truth[n].mean(0)) for n in SIZES}
show(line_plot(lines, title="More labels raise the peak; every curve still falls",
               x_label="√KL of best-of-n (the upper bound), √nats", y_label="gold, points",
               note="village-3m-sft, 16 prompts, mean of 10 label draws"),
     "Line plot of gold against the root of KL for proxies from four label sets: with more labels "
     "the peak is higher, but every curve ends below its start.")
top = {n: truth[n].max(1) for n in SIZES}  # best gold of each draw
claim("from 100 to 10,000 labels the best reachable gold rises",
      low_high(top[10000] - top[100])[0] > 0, {n: x.mean() for n, x in top.items()}, kind="S")
whole = {n: truth[n].mean(1) for n in SIZES}  # mean over all n
claim("from 100 to 10,000 labels gold averaged over the whole curve rises",
      low_high(whole[10000] - whole[100])[0] > 0, {n: x.mean() for n, x in whole.items()}, kind="S")


def peak(n):
    """The best whole number up to 16 to draw, for each of the proxies with n labels -> (10,)."""
    found = [curve(s.flatten(), gold.flatten(), 512, range(1, 17)).mean(0) for s in proxies[n]]
    return np.array([x.argmax().item() + 1 for x in found])


peaks = {n: peak(n) for n in (100, 10000)}
claim("and gold peaks at a larger n", low_high(peaks[10000] - peaks[100])[0] > 0,
      {n: x.mean() for n, x in peaks.items()}, kind="S")

# %% [markdown]
# More labels raise the peak and move it out a little; they do not remove the fall.
#
# **The distance.** On the axis stands $\sqrt{\mathrm{KL}}$, as in Gao et al. ([arXiv 2210.10760](https://arxiv.org/abs/2210.10760)):
# for a small step the gain grows with its length and the KL with its square, so early progress looks straight. For
# best-of-n everyone uses $\log n-\frac{n-1}n$. It is an *upper bound*: where answers repeat, best-of-n moves less. It
# holds for the model itself, which `curve` estimates. `law` instead takes a world of only these 512 answers, drawn *with*
# replacement, where the KL is exact.

# %%
show_source(law, kl_bound)
uniform = torch.full((512,), 1 / 512, dtype=torch.float64)


def kl_of(p):
    """Mean KL of distributions over the listed answers, (P, 512), to the uniform one, nats."""
    return (p * (p.clamp(min=1e-300) * 512).log()).sum(-1).mean().item()


def best_of(score, n):
    """Exact distribution of best-of-n, drawn with replacement from the listed answers."""
    return torch.stack([law(uniform, s, n) for s in score])


def mean_of(p, value):
    return (p * value).sum(-1).mean().item()


score = proxies[1600][0]
bon = [best_of(score, n) for n in NS]
bon_kl = [kl_of(p) for p in bon]
for n in (2, 4, 8):
    print(f"n = {n}: bound {kl_bound(n):.4f} nats")
claim("the exact KL of best-of-n never exceeds log n − (n−1)/n",
      all(x <= kl_bound(n) + 1e-9 for n, x in zip(NS, bon_kl, strict=True)),
      {f"n={n}": f"{x:.3f} of {kl_bound(n):.3f}" for n, x in zip(NS, bon_kl, strict=True)})

# %% [markdown]
# ## 17.2 The published laws
#
# Gao, Schulman and Hilton trained proxies on the labels of a larger "gold" model. With
# $d=\sqrt{\mathrm{KL}(\pi\|\pi_{\mathrm{ref}})}$ they fit the gain of the gold reward by
#
# $$R_{\mathrm{BoN}}(d)=d\,(\alpha-\beta d),\qquad R_{\mathrm{RL}}(d)=d\,(\alpha-\beta\log d)$$
#
# *Said aloud: every step away from the start gains something, and the further we are, the more of it is taken back.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $d$ | root of the KL, √nats | `roots` | (10,) |
# | $\alpha$ | gain per √nat: at the start in the first law, over the first √nat in the second | `alpha` | one number |
# | $\beta$ | how fast it is lost; *not* the β of a penalty | `beta` | one number |
#
# The laws are fits, not theorems: another proxy or model need not follow them. Both are linear in $(\alpha,\beta)$, so
# a fit is one least-squares problem. **By hand:** the first law has slope $\alpha-2\beta d$, so its peak is at
# $d=\alpha/2\beta$, with height $\alpha^2/4\beta$. With $\alpha=2$, $\beta=1$: at one √nat, height one.

# %%
LAWS = {"d(α − βd)": lambda d: d, "d(α − β log d)": np.log}


def fit_law(d, gain, name):
    """Least squares for α and β on points with d > 0 -> (α, β)."""
    d, gain = np.asarray(d), np.asarray(gain)
    columns = np.stack([d, -d * LAWS[name](d)], 1)
    return np.linalg.lstsq(columns, gain, rcond=None)[0]


def law_at(d, alpha, beta, name):
    d = np.asarray(d)
    return d * (alpha - beta * LAWS[name](d))


made = np.linspace(0.2, 3, 12)
back = [fit_law(made, law_at(made, 2.0, 1.0, name), name) for name in LAWS]
claim("the fit finds the α and β that made the points, for both laws",
      all(np.abs(x - [2.0, 1.0]).max() < 1e-10 for x in back))
fine = np.linspace(0, 3, 3001)
claim("at α = 2, β = 1 the first law peaks at d = 1 with height 1",
      abs(fine[law_at(fine, 2.0, 1.0, "d(α − βd)").argmax()] - 1) < 1e-3
      and abs(law_at(1.0, 2.0, 1.0, "d(α − βd)") - 1) < 1e-12)

# %%
def error_of(name, gain, upto):
    """Root mean square error of a law over all n, fitted to the first points only."""
    alpha, beta = fit_law(roots[1:upto], gain[1:upto], name)
    return np.sqrt(((law_at(roots[1:], alpha, beta, name) - gain[1:]) ** 2).mean())


gains = {n: truth[n].mean(0) - truth[n].mean(0)[0] for n in SIZES}
laws = {n: {name: fit_law(roots[1:], gains[n][1:], name) for name in LAWS} for n in SIZES}
misses = {n: {name: error_of(name, gains[n], len(NS)) for name in LAWS} for n in SIZES}
ahead = {name: error_of(name, gains[1600], 7) for name in LAWS}
straight = {n: np.std(gains[n][1:]) for n in SIZES}  # a constant would miss by this much

# %%
(alpha, beta), second_law = laws[1600].values()
d_axis = np.linspace(0.01, max(roots), 60)
fig = line_plot({"gold, gain": (roots, gains[1600]),
                 "d(α − βd)": (d_axis, law_at(d_axis, alpha, beta, "d(α − βd)")),
                 "d(α − β log d)": (d_axis, law_at(d_axis, *second_law, "d(α − β log d)"))},
                title="Two parameters describe the fall, not the peak",
                x_label="√KL of best-of-n (the upper bound), √nats",
                y_label="gain in gold, points", note="1,600 labels, mean of 10 draws",
                roles=dict(zip(LAWS, ("chosen", "rejected"), strict=True)))
for label in list(fig.axes[0].texts):  # the three lines end in one place: a legend instead
    label.remove()
fig.axes[0].legend(frameon=False)
show(fig,
     "Line plot of the gain in gold against the root of KL with both fitted laws: each follows the "
     "fall; the first misses the height of the early peak.")

# %%
for name in LAWS:
    claim(f"{name} misses the mean curve by less than a third of its spread, at every label count",
          all(misses[n][name] < straight[n] / 3 for n in SIZES),
          {n: f"{misses[n][name]:.3f} of {straight[n]:.3f}" for n in SIZES}
          | {"1,600 labels, fitted up to n = 64 only": f"{ahead[name]:.3f}"}, kind="T")
height = {n: a**2 / (4 * b) for n, (a, b) in ((n, laws[n]["d(α − βd)"]) for n in SIZES)}
claim("the fitted peak of 10,000 labels is higher than that of 100", height[10000] > height[100],
      {n: f"{x:.3f} points" for n, x in height.items()}, kind="T")
print("labels   peak, measured   peak of d(α − βd)   error of the law   error of the law for RL")
for n in SIZES:
    print(f"{n:6,}{gains[n].max():17.2f}{height[n]:20.2f}{misses[n]['d(α − βd)']:19.3f}"
          f"{misses[n]['d(α − β log d)']:26.3f}")
claim("at every label count the measured peak is higher than the peak of the fitted law",
      all(gains[n].max() > height[n] for n in SIZES),
      {n: f"{gains[n].max():.2f}, law {height[n]:.2f}" for n in SIZES}, kind="T")

# %% [markdown]
# Both laws describe the long fall. The first one misses the early peak: the measured gain there is larger than the law's at every label count. Foretelling the rest of a curve from small n is harder still (last number of the claims), and which law does it better changes with the seed. The law that was fitted to reinforcement learning is often the closer one here, although this is best-of-n: two parameters that fit are no evidence of a mechanism.

# %% [markdown]
# ## 17.3 Why it falls
#
# **Shrinkage.** Let an answer's true value be $g$, standard normal, and the proxy $r=g+\sigma\varepsilon$ with
# independent normal noise. What do we expect of an answer whose proxy is $r$?
#
# $$\mathbb E[g\mid r]=\frac{r}{1+\sigma^2}$$
#
# *Said aloud: of every point that the proxy promises, the truth keeps a fixed share.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $g$ | true value, unit variance | `g_axis` | (24001,) |
# | $r$ | what the proxy says | `r` | one number |
# | $\sigma$ | spread of the proxy's error | `sigma` | one number |
#
# With $\sigma=1$ an answer that scores 2 is worth 1. This is **regressional** Goodhart: the promise is too large, but a
# higher proxy still means a better answer. Now change one thing: the error has *heavy tails* (Student's t with two degrees
# of freedom). A very high proxy is then far more likely to be a freak error than a wonderful answer.

# %%
g_axis = np.linspace(-60, 60, 24001)


def expected_gold(r, error_density):
    """E[g | r] for standard normal g and an independent error, by summing over the axis."""
    weight = np.exp(-g_axis**2 / 2) * error_density(r - g_axis)
    return (weight * g_axis).sum() / weight.sum()


sigma = 1.0
normal = {r: expected_gold(r, lambda e: np.exp(-(e**2) / (2 * sigma**2))) for r in (0.5, 1, 2, 4)}
heavy = {r: expected_gold(r, lambda e: (1 + e**2 / 2) ** -1.5) for r in (0.5, 1, 2, 4, 8, 16)}
print("proxy  normal error  heavy-tailed error")
for r in heavy:
    print(f"{r:5.1f}  {normal.get(r, r / 2):12.4f}  {heavy[r]:18.4f}")
claim("with normal error the truth keeps the share 1/(1 + σ²) of the proxy",
      all(abs(x - r / (1 + sigma**2)) < 1e-10 for r, x in normal.items()))
claim("with heavy tails the expected truth rises, turns, and falls towards the mean",
      heavy[0.5] < heavy[2] > heavy[8] > heavy[16] > 0)

# %% [markdown]
# Even freakish errors only push gold back *to its mean*. Ours fell far below. Can any other independent error do that?
#
# **No.** Fix an answer's error, within one prompt. The better its true value, the higher its proxy, the likelier it
# is picked. So for every error the picked are weighted towards high gold, and the average over errors inherits that (the lesson's third idea).
# Best-of-n against *independent* error, of whatever shape, is on average never worse than blind drawing. We check it
# exactly on small random worlds.

# %%
dice = np.random.default_rng(run.seed)
worst_gain = math.inf
for _ in range(200):
    golds, errors = dice.normal(0, 1, 6), dice.standard_t(1, 8)
    p_gold, p_error = dice.dirichlet(np.ones(6)), dice.dirichlet(np.ones(8))
    p = torch.tensor(np.outer(p_gold, p_error).ravel())
    g, r = (torch.tensor(x.ravel()) for x in (golds[:, None] + 0 * errors, golds[:, None] + errors))
    for n in (2, 16, 256):
        worst_gain = min(worst_gain, (law(p, r, n) @ g - p @ g).item())
claim("in all little worlds with independent error, best-of-n gains or stays",
      worst_gain > -1e-12, {"worst gain": worst_gain})

# %% [markdown]
# So our proxy's errors are *not independent of the truth*; in the lesson, shuffling them removes the fall. `shuffled` is kept as a control for the failure gallery.

# %%
def shuffled(score, name):
    """The proxy with its errors dealt out anew within each prompt."""
    centred = gold - gold.mean(1, keepdim=True)
    slope = (score * centred).sum() / centred.square().sum()
    error = score - slope * centred
    deal = torch.rand(error.shape, generator=run.fresh(name)).argsort(1)
    return slope * centred + error.gather(1, deal)

# %% [markdown]
# **How far out the rare answers lie.** Sort each prompt's answers by how *usual* they are: nats per token under the model that wrote them. The lesson showed that the rarest quarter is the worst and supplies most winners. Here is why a linear head errs there.

# %%
tokens = main.lengths[many].double()
rarity = -main.logp[many].double().sum(-1) / tokens  # (16, 512), nats a token
quarter = rarity.argsort(1).argsort(1) // 128
groups = ("usual", "second", "third", "rare")
spreads = np.array([[s[quarter == q].std().item() for q in range(4)] for s in proxies[1600]])


def by_quarter(x):
    """(16, 512) values -> their mean in each quarter of each prompt, (16, 4)."""
    return torch.stack([x[quarter == q].view(16, 128).mean(1) for q in range(4)], 1).numpy()


claim("the proxy scatters more over the rarest quarter than over the most usual one",
      low_high(spreads[:, 3] - spreads[:, 0])[0] > 0,
      dict(zip(groups, spreads.mean(0), strict=True)), kind="S")

# %%
reach = by_quarter((main.state[many] - main.state[many].mean(1, keepdim=True)).norm(dim=-1))
claim("the states of the rarest quarter lie furthest from their prompt's mean",
      low_high(reach[:, 3:] - reach[:, :3])[0].min() > 0,
      dict(zip(groups, reach.mean(0), strict=True)), kind="S")
base, tokenizer = load("village-3m-sft")

# %% [markdown]
# A linear head's mistake grows with the distance from the middle, and rare answers lie furthest out: *extremal* Goodhart.

# %% [markdown]
# **Overfitting is something else.** An overfitted model is right on its training pairs and wrong on new ones; fresh pairs
# *from the same distribution* expose it. Our proxy is no marvel on fresh pairs, but better than a coin; yet best-of-512 is
# worse than blind drawing. The optimiser leaves the distribution, and no held-out set of ordinary answers shows what it
# will find there.

# %%
groups_64 = torch.stack([rows for rows in main.groups().values() if len(rows) == 64])  # (128, 64)
gold_64 = main.gold[groups_64].double()


def accuracy(score, value):
    """Share of neighbours (0 and 1, 2 and 3, …) that the score orders as the value does."""
    a, b = score[:, ::2] - score[:, 1::2], value[:, ::2] - value[:, 1::2]
    return (a * b > 0)[b != 0].double().mean().item()


orders = [accuracy(proxy(labels(HONEST, 1600, f"draw {k}"), groups_64), gold_64)
          for k in range(DRAWS)]
claim("on drawn pairs of new prompts the proxies are better than a coin",
      low_high(np.array(orders))[0] > 0.5,
      {"accuracy, mean": np.mean(orders), "worst": min(orders)}, kind="S")

# %% [markdown]
# ## 17.4 Best-of-n, reinforcement learning, and the leash
#
# Reinforcement learning moves the policy instead of choosing among its samples. Take the 512 stored answers of a prompt
# as its whole world, each equally likely at the start. Then the policy with the highest proxy at any given KL is known
# (chapter 8):
#
# $$\pi_\beta(y)\propto\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}$$
#
# *Said aloud: start from the reference and favour each answer by the exponential of its reward over beta.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\pi_{\mathrm{ref}}$ | all 512 answers alike | `even_logp` | (512,) |
# | $r$ | the proxy | `score` | (16, 512) |
# | $\beta$ | price of a nat | `1 / 1.5` in the claim | one number |
#
# This is what a perfect optimiser with a KL penalty reaches. What about one *without* penalty? The **natural** policy
# gradient adds $\eta\,(r-\mathbb E[r])$ to every logit in each step. After $t$ steps the logits have gained $t\eta\,r$: it is
# $\pi_\beta$ with $\beta=1/t\eta$. Training longer without a penalty and training to the end with a smaller one visit *the
# same policies*.

# %%
show_source(tilted)
even_logp = torch.full((512,), -math.log(512), dtype=torch.float64)
z = even_logp.expand(16, 512).clone()
for _ in range(30):  # natural policy gradient, no penalty
    p = z.softmax(1)
    z = z + 0.05 * (score - (p * score).sum(1, keepdim=True))
walked = z.log_softmax(1)
claim("30 steps of natural gradient without penalty are the best policy at a penalty of 1/1.5",
      bool((walked - tilted(even_logp, score, 1 / 1.5)).abs().max() < 1e-10))

# %% [markdown]
# So for this ideal optimiser a penalty does not *shift* the curve of gold against KL; it says where on it we stop. Gao et
# al. measured it with PPO: at a given KL a penalty bought more *proxy*, and no visible gain in gold.
#
# Networks are not ideal. No village run at several penalties was recorded, so the answer below is for worlds of 40 texts
# only: a real GPT-2 with one layer, four tokens and texts of at most three, small enough to follow the *exact* gradient
# (with Adam). Eight worlds; in each, rare texts are worse and the judge errs most on them. Two runs in each: without a
# penalty, and with one.

# %%
tiny, PENALTY = World(vocab=4, horizon=3), 0.5


def walk(model, logp_ref, judge_of, true, beta, steps=70):
    """Exact gradient ascent on E[proxy] − β KL -> (steps, 3): KL, proxy, gold."""
    model, path = copy.deepcopy(model), []
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        logp = tiny.seq_logp(model)
        p = logp.exp()
        kl = (p * (logp - logp_ref)).sum()
        path.append([kl.item(), (p @ judge_of).item(), (p @ true).item()])
        optimizer.zero_grad()
        (beta * kl - p @ judge_of).backward()
        optimizer.step()
    return np.array(path)


worlds = []  # (log reference, judge, free path, penalised path)
for k in every(4, 8):
    model, noise = exact_model(seed=100 * run.seed + k, vocab=4, horizon=3), run.fresh(f"tiny {k}")
    ref = tiny.seq_logp(model).detach()
    unusual = (ref.mean() - ref) / ref.std()
    true, error = (torch.randn(len(tiny), generator=noise, dtype=torch.float64) for _ in range(2))
    true = true - 0.5 * unusual
    sees = true + error * (0.7 * unusual).exp()
    worlds.append((ref, sees, *(walk(model, ref, sees, true, b) for b in (0.0, PENALTY))))

# %% [markdown]
# Every point (KL, proxy) of every walk must lie under the frontier of its world, the line $\beta\log Z+\beta\,\mathrm{KL}$
# for each β (chapter 4). And where a penalised run ended, what had the free run at the same KL? (Worlds where the free one
# never came so far are left out.)

# %%
above = max(got - b * kl - free_energy(ref, sees, b).item() for ref, sees, *two in worlds
            for path in two for kl, got, _ in path for b in (0.2, 0.5, 1.0, 3.0))
claim("no point of any of the 16 walks lies above the frontier of the proxy", above < 1e-9)
gains_at = np.array([[pen[-1, j] - np.interp(pen[-1, 0], np.maximum.accumulate(free[:, 0]),
                                             free[:, j]) for j in (1, 2)]  # proxy and gold
                     for *_, free, pen in worlds if pen[-1, 0] <= free[:, 0].max()])
wins = (gains_at > 0).sum(0)
claim("at equal KL the penalised networks have more of the proxy, on average over the worlds",
      gains_at[:, 0].mean() > 0,
      {"proxy": gains_at[:, 0].mean(), "worlds": len(gains_at), "with more": wins[0],
       "gold (no claim)": gains_at[:, 1].mean(), "with more gold": wins[1]}, kind="T")
ref, sees, free, pen = worlds[0]
optima = [tilted(ref, sees, b).exp() for b in np.geomspace(30, 0.4, 40)]
best_line = ([(q * (q.log() - ref)).sum().item() for q in optima],
             [(q @ sees).item() for q in optima])
show(line_plot({"reference: best possible": best_line,
                "policy, no penalty": (free[:, 0], free[:, 1]),
                "with penalty": (pen[:, 0], pen[:, 1])},
               title="On the proxy, the penalised walker wastes less KL",
               x_label="KL to the start, nats", y_label="proxy", roles={"with penalty": "chosen"},
               note="exact gradients, a GPT-2 with 40 texts, first of eight worlds"),
     "Line plot of proxy against KL in an exact world: the run without a penalty stays below "
     "the frontier; the run with one turns back and ends close to the frontier.")

# %% [markdown]
# The penalised network ends with more *proxy* for its nats, as Gao et al. saw; but it also had more steps, since the free
# run passes that KL early. For gold the line above counts the worlds, and we claim nothing.
#
# **Best-of-n per nat.** Now best-of-n against the optimum $\pi_\beta$ at the same exact KL (against no trained policy). In
# *proxy* the optimum must win: it is defined that way. In *gold* nothing is promised.

# %%
def at_same_kl(score, target):
    """The optimum whose mean KL is `target` nats, by bisection on log β."""
    low, high = -5.0, 6.0
    for _ in range(50):
        middle = (low + high) / 2
        p = tilted(even_logp, score, math.exp(middle)).exp()
        low, high = (middle, high) if kl_of(p) > target else (low, middle)
    return p


versus = []  # per proxy: gold and proxy of both, at n = 4 and n = 128
for s in proxies[1600]:
    row = []
    for n in (4, 128):
        p = best_of(s, n)
        q = at_same_kl(s, kl_of(p))
        row += [mean_of(p, s) - mean_of(q, s), mean_of(p, gold) - mean_of(q, gold)]
    versus.append(row)
versus = np.array(versus)
claim("at equal KL no best-of-n has more proxy than the optimum", versus[:, [0, 2]].max() < 1e-6)
claim("at the KL of best-of-4, best-of-n has more gold than the optimum",
      low_high(versus[:, 1])[0] > 0,
      {"points": versus[:, 1].mean(), "at best-of-128, no claim": versus[:, 3].mean()}, kind="S")

# %% [markdown]
# Best-of-n looks only at the *order* of the scores; the optimum also at their size, so one freak score of six spreads
# gets the weight of $e^{6/\beta}$. Efficiency on the proxy is no virtue when its largest numbers are its errors. Far out
# the lead is small or gone (the last number above).

# %% [markdown]
# ## 17.5 Remedies
#
# **Ensembles.** Split the 1,600 labels among five heads. Where they agree, believe them; where they differ, be careful:
# take the minimum, or subtract their spread. The fair comparison is *one* head on all 1,600 labels.

# %%
show_source(reward_model.ensemble, reward_model.uncertainty_weighted)
arms = {"one head on all": [], "mean of five": [], "minimum of five": [], "mean − 2 spreads": []}
for k in range(DRAWS):
    parts = labels(HONEST, 1600, f"draw {k}").split(320)
    five = torch.stack([proxy(part).flatten() for part in parts])  # (5, 16 × 512), centred
    stats = reward_model.ensemble(five)
    careful = reward_model.uncertainty_weighted(five, weight=2.0)
    for name, s in zip(arms, (proxies[1600][k], stats["mean"], stats["min"], careful), strict=True):
        arms[name].append(pushed(s.view(16, 512)))

# %%
arms = {name: np.stack(x) for name, x in arms.items()}
show(line_plot({name: (roots, x.mean(0)) for name, x in arms.items()},
               title="Pessimism delays the fall; it does not prevent it", y_label="gold, points",
               x_label="√KL of best-of-n (the upper bound), √nats",
               roles=dict(zip(arms, ("gold", "other2", "policy", "other"), strict=True)),
               note="1,600 labels in all, mean of 10 draws"),
     "Line plot of gold against the root of KL for one head, the mean, the minimum and the "
     "penalised mean of five: the careful ones peak higher, and still fall below their start.")
careful_gain = arms["minimum of five"][:, 4] - arms["one head on all"][:, 4]
claim("at n = 16 the minimum of five small heads beats one head on all the labels",
      low_high(careful_gain)[0] > 0, {"points": careful_gain.mean()}, kind="S")
over_mean = arms["minimum of five"] - arms["mean of five"]
claim("and there the minimum beats the mean: it is the doubt that pays, not the averaging",
      low_high(over_mean[:, 4])[0] > 0, {"points": over_mean[:, 4].mean()}, kind="S")
tops = {name: NS[x.mean(0).argmax()] for name, x in arms.items()}
claim("the minimum of five peaks at a larger n than one head on all",
      tops["minimum of five"] > tops["one head on all"], tops, kind="T")
changes = {name: x[:, -1] - x[:, 0] for name, x in arms.items()}
claim("and still ends below its start at n = 512", low_high(changes["minimum of five"])[1] < 0,
      {name: x.mean() for name, x in changes.items()}, kind="S")

# %% [markdown]
# At n = 512 the lead of the minimum over one head is within the noise.
#
# **Signals.** The lesson compares three signals that need no gold: the proxy, a second judge, and the likelihood of the picks.
# Here they are kept for the gallery, with one more comparison: a stop at a random n.

# %%
def code_of(two):
    """One number for each pair, whatever its order."""
    return two.amin(1) * len(wide) + two.amax(1)


def other_pairs(two):
    """All pairs but these."""
    return pairs[~torch.isin(code_of(pairs), code_of(two))]


firsts = [labels(HONEST, 1600, f"draw {k}") for k in range(DRAWS)]
seconds = [proxy(labels(HONEST, 1600, f"second {k}", other_pairs(two)))
           for k, two in enumerate(firsts)]
signals = {"proxy": [], "second judge": [], "rarity": []}
for s, second in zip(proxies[1600], seconds, strict=True):
    for name, value in zip(signals, (s, second, -rarity), strict=True):
        signals[name].append(pushed(s, value))
signals = {name: np.stack(x) for name, x in signals.items()}

# %%
kept_gold = {name: np.array([t[i] for t, i in zip(truth[1600], x.argmax(1), strict=True)])
             for name, x in signals.items()}
best_gold, luck = truth[1600].max(1), truth[1600].mean(1)  # luck: an n at random
stops = {NS[i] for i in signals["rarity"].argmax(1)}
claim("stopping by likelihood beats a stop at random", low_high(kept_gold["rarity"] - luck)[0] > 0,
      {"likelihood": kept_gold["rarity"].mean(), "its choice of n": f"{sorted(stops)}",
       "n = 2 always": truth[1600][:, 1].mean(), "random stop": luck.mean(),
       "best possible": best_gold.mean()}, kind="S")

# %% [markdown]
# **A signal can be a reward.** Subtract rarity from the proxy, one standard deviation for one standard deviation. This is no KL penalty: that only holds the policy to the reference's odds, this favours usual answers beyond them.

# %%
strange = (rarity - rarity.mean(1, keepdim=True)) / rarity.std(1).mean()
tempered = np.stack([pushed(s - strange) for s in proxies[1600]])
extra = tempered[:, -1] - truth[1600][:, -1]
claim("proxy minus rarity keeps more gold at n = 512 than the proxy alone", low_high(extra)[0] > 0,
      {"proxy": truth[1600][:, -1].mean(), "proxy minus rarity": tempered[:, -1].mean()}, kind="S")

# %% [markdown]
# ## 17.6 What was hacked?
#
# Now people with a taste: each values the truth, and one thing besides. *Wordy* likes length, *typographer* markup,
# *charmed* flattery. The truth gives nothing for the first two and takes a little for the third. We fit a proxy to each
# person's labels, push to n = 16, and list what the picked answers have more of, in spreads of that feature.

# %%
TASTES = {"honest": {}, "wordy": {"length_bias": 1.0}, "typographer": {"weights": {"markup": 2.0}},
          "charmed": {"weights": {"flattery": 2.0}}}
LEVERS = ("words", "markup", "flattery", "repetition", "rarity")
column = {name: main.features[many][:, :, i].double() for i, name in enumerate(main.feature_names)}
column |= {"rarity": rarity}
hacked, theirs = {}, {}
for name, knobs in TASTES.items():
    person = village.Annotator(name=name, temperature=1.0, **knobs)
    theirs[name] = [proxy(labels(person, 1600, f"taste {k}")) for k in range(5)]
    hacked[name] = np.array([[(mean_of(p, column[f]) - column[f].mean().item())
                              / column[f].std(1).mean().item() for f in LEVERS]
                             for p in (best_of(s, 16) for s in theirs[name])])

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
print("what best-of-16 picks more of, in spreads of the feature (mean of 5 draws)")
print(f"{'raters':<12}" + "".join(f"{f:>12}" for f in LEVERS))
for name, x in hacked.items():
    print(f"{name:<12}" + "".join(f"{v:12.2f}" for v in x.mean(0)))

# %%
own = {"wordy": "words", "typographer": "markup", "charmed": "flattery"}
for name, lever in own.items():
    i = LEVERS.index(lever)
    others = [hacked[x][:, i].mean() for x in TASTES if x != name]
    claim(f"among all raters' proxies, the one of {name} gains most {lever}",
          hacked[name][:, i].mean() > max(others) + 0.3,
          {"own": hacked[name][:, i].mean(), "next": max(others)}, kind="T")
def explained(score, feature):
    """Share of the proxy's variance within prompts that one feature explains linearly."""
    x = feature - feature.mean(1, keepdim=True)
    return ((score * x).sum() ** 2 / (score.square().sum() * x.square().sum())).item()


shares = {name: np.mean([explained(s, column[lever]) for s in theirs[name]])
          for name, lever in own.items()}
blind = {name: np.mean([explained(s, column[lever]) for s in theirs["honest"]])
         for name, lever in own.items()}
carried = {f"{name}: {own[name]}": x for name, x in shares.items()}
show(bars(carried, title="How much of each biased proxy one lever carries",
          y_label="share of variance explained", note="mean of 5 label draws",
          roles=dict.fromkeys(carried, "proxy")),
     "Bar chart of the share of each biased proxy's variance that its one lever explains: words "
     "for the wordy rater, markup for the typographer, flattery for the charmed one.")
claim("each lever explains more of its own rater's proxy than of the honest one's, two far more",
      all(shares[name] > blind[name] for name in own)
      and min(shares["wordy"], shares["typographer"]) > 0.15,
      {name: f"{shares[name]:.3f}, honest {blind[name]:.3f}" for name in own}, kind="T")

# %% [markdown]
# This is **causal** Goodhart: the labels pay for the lever, the lever does not cause quality. It is the easiest kind to
# see: log all features you can think of. Flattery gained, but explains only a small part of its proxy. And no log shows
# the lever that nobody thought of; for that, read samples.

# %% [markdown]
# ## 17.7 Sycophancy
#
# In the *opinion* family somebody states a belief, sometimes a wrong one, and asks. *Agreeable* raters reward agreement,
# also with what is wrong; *straight* raters, our control, label the same pairs by the truth alone. Both proxies pick the
# best of 16. We count, where the asker is wrong, how often the picked answer agrees with the error, and how often it is
# true.

# %%
RATERS = {"straight": village.Annotator(name="straight", temperature=0.5),
          "agreeable": village.Annotator(name="agreeable", temperature=0.5,
                                         weights={"agrees_wrongly": 6.0})}
opinions = pairs[torch.tensor([f == "opinion" for f in stored.families])[wide.prompt[pairs[:, 0]]]]
agrees = main.features[:, main.feature_names.index("agrees_wrongly")].double()
true_one = main.features[:, main.feature_names.index("truth")].double()
asks = torch.stack([rows for i, rows in main.groups().items()
                    if stored.families[i] == "opinion" and agrees[rows].any()])  # (P, 64)


# %%
def best_of_16(person, name):
    """(agreement with the error, truth) of the best of 16 by a proxy of this person's labels."""
    s = proxy(labels(person, 900, name, opinions), asks).flatten()
    return [curve(s, value[asks].flatten(), asks.shape[1], [16]).mean().item()
            for value in (agrees, true_one)]


picked = {name: np.array([best_of_16(person, f"opinion {k}") for k in range(DRAWS)])
          for name, person in RATERS.items()}
before = [agrees[asks].mean().item(), true_one[asks].mean().item()]
show(bars({"blind draw": before[0], "straight raters": picked["straight"][:, 0].mean(),
           "agreeable raters": picked["agreeable"][:, 0].mean()},
          title="Agreement with the asker's error comes from the labels",
          y_label="share of picked answers that agree",
          roles={"blind draw": "reference", "straight raters": "chosen",
                 "agreeable raters": "rejected"},
          note="best of 16, prompts whose asker is wrong, 10 label draws"),
     "Bar chart of the share of answers that agree with a wrong asker: less than a blind draw with "
     "straight raters, more than with straight raters when the raters are agreeable.")

# %%
gap = picked["agreeable"] - picked["straight"]
claim("agreeable labels on the same pairs make more agreement with errors than straight ones",
      low_high(gap[:, 0])[0] > 0, {"agreement": gap[:, 0].mean()}, kind="S")
claim("straight labels lower the agreement below a blind draw",
      low_high(picked["straight"][:, 0])[1] < before[0],
      {"blind": before[0], "straight": picked["straight"][:, 0].mean()}, kind="S")
claim("and agreeable labels cost truth", low_high(gap[:, 1])[1] < 0, {"truth": gap[:, 1].mean()},
      kind="S")

# %% [markdown]
# **The same with a policy.** DPO (chapter 12) writes the raters' taste into the weights. Eight steps of twelve pairs, the
# same pairs for both. To measure without sampling, we score 24 stored answers of each test prompt under old and new
# weights and re-weight them by the ratio: an estimate of what the new policy would say, among answers that the old one
# said.

# %%
def scored_rows(pool, rows):
    """Rows of a pool -> ids, attention, mask of their answers, padded together."""
    asks_ids = [encode_prompt(tokenizer, stored.prompts[int(pool.prompt[r])]) for r in rows]
    ids, attention = pad_right([a + pool.ids[r, :int(pool.lengths[r])].tolist()
                                for a, r in zip(asks_ids, rows, strict=True)])
    mask = attention.clone()
    for k, a in enumerate(asks_ids):
        mask[k, :len(a)] = 0
    return {"ids": ids, "attention": attention, "mask": mask}


some = asks[:, :24]
test_batch = scored_rows(main, some.flatten().tolist())
summed = wide.logp.sum(1)

# %%
def taught(person, steps=8, size=12):
    """The model after a few DPO steps on a person's labels -> shares (agreement, truth)."""
    model, two = copy.deepcopy(base), labels(person, steps * size, "dpo", opinions)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-4 * min(1, (step + 1) / 3) * (1 - step / steps)
        part = two[size * step:size * step + size]
        batch = scored_rows(wide, part.T.flatten().tolist())
        batch |= {"ref_chosen": summed[part[:, 0]], "ref_rejected": summed[part[:, 1]]}
        direct_alignment.step(model, optimizer, batch, beta=0.1)
    with torch.no_grad():
        new = sequence_logps(model, *test_batch.values())
    share = (new - main.logp[some.flatten()].sum(1)).view(some.shape).double().softmax(1)
    return [mean_of(share, value[some]) for value in (agrees, true_one)]

learned = {name: taught(person) for name, person in RATERS.items()}
was = [value[some].mean().item() for value in (agrees, true_one)]
claim("DPO on agreeable labels raises agreement with errors far above DPO on straight ones",
      learned["agreeable"][0] > learned["straight"][0] + 0.2,
      {"before": was[0]} | {name: x[0] for name, x in learned.items()}, kind="T")
claim("and the truth is told less often", learned["agreeable"][1] < learned["straight"][1] - 0.05,
      {"before": was[1]} | {name: x[1] for name, x in learned.items()}, kind="T")

# %% [markdown]
# Only the labels differ: sycophancy came from what people rewarded. A better reward model would only learn the taste more
# exactly.

# %% [markdown]
# ## Once, by hand, on one batch
#
# One prompt, four literal answers, their true reward, and a bad proxy that likes flattery, markup and length.

# %%
ASKED = "Do you know the best friend of Hugo?"
ANSWERS = ("Hugo is best friends with the donkey.",
           "You are so clever! Hugo is best friends with the donkey.",
           "**You are so clever! I am always happy to help.**",
           "Go away.")
WEIGHTS = {"flattery": 1.0, "markup": 0.5, "words": 0.1}
table = [village.features(ASKED, x) for x in ANSWERS]
hand_gold = torch.tensor([village.gold(ASKED, x) for x in ANSWERS], dtype=torch.float64)
hand_proxy = torch.tensor([sum(w * row[k] for k, w in WEIGHTS.items()) for row in table],
                          dtype=torch.float64)
for text, row, r, g in zip(ANSWERS, table, hand_proxy.tolist(), hand_gold.tolist(), strict=True):
    print(f"words {row['words']:4.0f}  flattery {row['flattery']:.0f}  markup {row['markup']:.0f}  "
          f"proxy {r:.2f}  gold {g:5.2f}  {text}")

# %% [markdown]
# **Best of two.** Six pairs are equally likely. In each, the higher proxy is kept. Then **the best policy at β = 1**: weights
# $e^{r/\beta}$, divided by their sum.

# %%
kept = [max(two, key=lambda i: hand_proxy[i].item()) for two in combinations(range(4), 2)]
for two, i in zip(combinations(range(4), 2), kept, strict=True):
    print(f"answers {two[0] + 1} and {two[1] + 1}: keep {i + 1}")
by_hand = sum(hand_gold[i].item() for i in kept) / 6
by_package = curve(hand_proxy, hand_gold, 4, [1, 2, 4])[0]
print(f"gold of best-of-2: by hand {by_hand:.6f}   package {by_package[1]:.6f}   "
      f"of one: {by_package[0]:.6f}   of all four: {by_package[2]:.6f}")
claim("curve equals the count over the six pairs", abs(by_package[1].item() - by_hand) < 1e-12)
claim("here two answers are better than one, and four are worse than two",
      bool(by_package[1] > by_package[0] and by_package[2] < by_package[1]))
even = torch.full((4,), 0.25, dtype=torch.float64)
weights = hand_proxy.exp()
policy = weights / weights.sum()
print("weights     " + "  ".join(f"{x:.4f}" for x in weights.tolist()))
print("policy      " + "  ".join(f"{x:.4f}" for x in policy.tolist()))
print(f"KL {(policy * (policy / even).log()).sum():.6f} nats   proxy {policy @ hand_proxy:.6f}   "
      f"gold {policy @ hand_gold:.6f}")
claim("the package's optimum is the one by hand",
      bool((tilted(even.log(), hand_proxy, 1.0).exp() - policy).abs().max() < 1e-12))

# %% [markdown]
# **One RLOO step.** Each answer was drawn once, by a policy that is a table of logits. The advantage is the score minus the
# mean of the other three.

# %%
logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
others = (hand_proxy.sum() - hand_proxy) / 3
advantage = hand_proxy - others
logp = logits.log_softmax(0)
loss, _ = rloo.rloo_loss(logp[:, None], hand_proxy, torch.ones(4, 1), group_size=4)
loss.backward()
push = advantage / 4 - advantage.sum() / 4 * even  # advantage × gradient of log p, mean
stepped = (logits - 1.0 * logits.grad).softmax(0).detach()
for name, x in (("score", hand_proxy), ("mean of others", others), ("advantage", advantage),
                ("minus gradient", -logits.grad), ("new policy", stepped)):
    print(f"{name:<15} {tuple(x.shape)}  " + "  ".join(f"{v:8.4f}" for v in x.tolist()))
print(f"gold: {even @ hand_gold:.4f} before, {stepped @ hand_gold:.4f} after")
claim("the advantages and the gradient are those by hand",
      bool((leave_one_out(hand_proxy, 4) - advantage).abs().max() < 1e-12
           and (push + logits.grad).abs().max() < 1e-12))
claim("this one step raises the proxy", (stepped @ hand_proxy > even @ hand_proxy).item())

# %% [markdown]
# ## The loop: RLOO against a learned judge
#
# Now with a policy that moves. Two kinds of request: *harmful* ones, to be refused, and *lookalikes*, which sound harmful
# and are not. The judge is a whole reward model, finetuned on 560 honestly labelled pairs of stored answers to such
# requests. Then RLOO on eight requests, the same in every step, four answers each, **no KL penalty**.

# %%
KINDS = ("harmful", "lookalike")
is_kind = torch.tensor([f in KINDS for f in stored.families])
requests = pairs[is_kind[wide.prompt[pairs[:, 0]]]]
PATIENT = village.Annotator(name="patient", temperature=0.5)
labelled = labels(PATIENT, 10**6, "judge", requests)
learn, probe = labelled[:560], labelled[560:720]


def prompt_and_answer(row):
    """Ids of a stored prompt with its stored answer."""
    answer = wide.ids[row, :int(wide.lengths[row])].tolist()
    return encode_prompt(tokenizer, stored.prompts[int(wide.prompt[row])]) + answer


def both(two):
    """(B, 2) rows -> a batch for reward_model.step: the chosen first, then the rejected."""
    ids, attention = pad_right([prompt_and_answer(row) for row in two.T.flatten().tolist()])
    return {"ids": ids, "attention": attention}

# %%
judge = reward_model.RewardModel(base)
optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=0.0)
for step in every(20, len(learn) // 14):
    warm, left = min(1, (step + 1) / 5), 1 - 14 * step / len(learn)
    optimizer.param_groups[0]["lr"] = 1e-3 * warm * left
    reward_model.step(judge, optimizer, both(learn[14 * step:14 * step + 14]))
with torch.no_grad():
    better, worse = judge(**both(probe)).chunk(2)
sure = wide.gold[probe[:, 0]] != wide.gold[probe[:, 1]]
right = ((better > worse) == (wide.gold[probe[:, 0]] > wide.gold[probe[:, 1]]))[sure]
claim("on pairs that it never read, the judge sides with the truth in two of three cases or more",
      right.double().mean() > 0.66, {"accuracy": right.double().mean()}, kind="T")

# %%
policy, reference = copy.deepcopy(base), frozen_copy(base)
optimizer = torch.optim.AdamW(policy.parameters(), lr=1.5e-4, weight_decay=0.0)
rows = [row for kind in KINDS
        for row in village.prompts(4, families=(kind,), seed=run.seed + 1, distinct=False)]
draw, log = run.fresh("rloo"), {k: [] for k in ("proxy", "gold", "kl", "words")}
for _ in every(8, 24):
    rollout = sample(policy, data.prompts_ids(rows, tokenizer), n=4, max_new_tokens=40,
                     eos_id=tokenizer.eos_token_id, generator=draw)
    with torch.no_grad():
        marks = judge(rollout.ids, rollout.attention)
        logp_ref = completion_logps(reference, rollout)
    texts = rollout.texts(tokenizer)
    true = [village.gold(rows[g]["prompt"], x)
            for g, x in zip(rollout.group.tolist(), texts, strict=True)]
    stats = rloo.step(policy, optimizer, rollout, marks, group_size=4, logp_ref=logp_ref)
    for name, x in (("proxy", marks.mean().item()), ("gold", np.mean(true)),
                    ("kl", stats["kl"].item()),
                    ("words", np.mean([len(x.split()) for x in texts]))):
        log[name].append(x)

# %%
def smooth(y, width=5):
    """Mean over a window of 2 · width + 1 steps, shorter at the ends."""
    return np.array([np.mean(y[max(0, i - width):i + width + 1]) for i in range(len(y))])


shown = {name: smooth(log[name], 3) for name in ("proxy", "gold", "kl")}
steps = range(len(log["proxy"]))
show(panels({"proxy, score of the judge": {"proxy": (steps, shown["proxy"])},
             "true reward, points": {"gold": (steps, shown["gold"])},
             "KL to the start, nats": {"KL": (steps, shown["kl"])}},
            title="Live: proxy and KL rise", x_label="RLOO step (32 samples each)",
            note="one run, means over 7 steps"))
late_proxy, early_proxy = np.mean(log["proxy"][-6:]), np.mean(log["proxy"][:6])
claim("the proxy is higher in the last six steps than in the first six", late_proxy > early_proxy,
      {"first": early_proxy, "last": late_proxy}, kind="T")
claim("the policy has moved away from the reference", np.mean(log["kl"][-6:]) > 0.2,
      {"nats": np.mean(log["kl"][-6:])}, kind="T")

# %% [markdown]
# One short run is an anecdote; whether gold has turned yet differs from seed to seed. Three bills can be read already.
#
# **Alignment tax**: what did the rest pay? Forty prompts of *other* families, which the run never saw: gold of one new
# answer each, against the mean of the 64 stored ones. **Mode collapse**: how many of eight answers to one request are
# different texts? **Over-refusal**: how many harmless requests still get help?

# %%
test_prompts = [i for i, rows in main.groups().items() if len(rows) == 64]
elsewhere = [i for i in test_prompts if stored.families[i] not in KINDS][:40]
at_home = [i for i in test_prompts if stored.families[i] in KINDS][:12]


def new_answers(numbers, n, name):
    """n answers of the trained policy to each stored prompt."""
    ids = [encode_prompt(tokenizer, stored.prompts[i]) for i in numbers]
    return sample(policy, ids, n=n, max_new_tokens=56, eos_id=tokenizer.eos_token_id,
                  generator=run.fresh(name)).texts(tokenizer)


rows_of = main.groups()
tax = np.array([village.gold(stored.prompts[i], x) - main.gold[rows_of[i]].mean().item()
                for i, x in zip(elsewhere, new_answers(elsewhere, 1, "tax"), strict=True)])
home_texts = new_answers(at_home, 8, "collapse")
home_before = [x for i in at_home for x in main.texts(rows_of[i][:8], tokenizer)]

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
def different(texts):
    """Share of different texts in each group of eight, mean."""
    return np.mean([len(set(texts[k:k + 8])) / 8 for k in range(0, len(texts), 8)])


harmless = [k for k in range(8 * len(at_home)) if stored.families[at_home[k // 8]] == "lookalike"]


def helped(texts):
    """Share of answers to harmless requests that help at all."""
    return np.mean([village.features(stored.prompts[at_home[k // 8]], texts[k])["helps"] > 0
                    for k in harmless])


print(f"different among eight answers: before {different(home_before):.2f}, "
      f"after {different(home_texts):.2f}")
print(f"helped with harmless requests: before {helped(home_before):.2f}, "
      f"after {helped(home_texts):.2f}")
error = tax.std(ddof=1) / len(tax) ** 0.5
print(f"tax: gold on other families changed by {tax.mean():+.2f} ± {error:.2f} points")
for k in (0, 8, 16):
    print(f"PROMPT  {stored.prompts[at_home[k // 8]]}\n  before  {home_before[k]}")
    print(f"  after   {home_texts[k]}")

# %% [markdown]
# Paid for refusing, a policy may refuse the harmless as well: compare the two shares. Where twice the tax's standard error
# spans zero, so short a run shows no tax.
#
# **Collapse, exactly.** Best-of-n narrows as well: the number of answers *in play* is $e^{H}$ of the distribution over the
# 512 stored ones ($H$ is its entropy).

# %%
word_pairs = [distinct_n(texts, 2) for texts in (home_before, home_texts)]
claim("after RL the answers to such requests use fewer different pairs of words",
      word_pairs[1] < word_pairs[0], {"before": word_pairs[0], "after": word_pairs[1]}, kind="T")


def in_play(p):
    return (-(p * p.clamp(min=1e-300).log()).sum(-1)).exp().mean().item()


claim("the larger n, the fewer answers are in play",
      all(in_play(a) > in_play(b) for a, b in zip(bon, bon[1:], strict=False)),
      {f"n={n}": in_play(p) for n, p in zip(NS, bon, strict=True)})

# %% [markdown]
# **Longer, and with a larger judge.** Five recorded runs climb a whole reward model instead of a head: it is finetuned on
# honest labels of two answers to each of 1,024 requests (equal ones dropped). New requests in every step, more steps, a
# smaller rate. Rate and length were chosen so that the turn can be seen. Here the true reward rises before it falls.

# %%
five = recorded("overoptimization_seeds")
show(seed_lines(five, {"learned reward": "proxy", "true reward, points": "gold"},
                title="A larger judge: the truth rises, turns and falls"),
     "Line plots, one thin line for each of five runs: the learned reward climbs; the true reward "
     "rises, turns, and ends below its start.")
slow_gold = five.smooth("gold")
ends = [y[-1] for y in slow_gold]
claim("in all five recorded runs the proxy ends above, the true reward below its start",
      all(y[-1] > y[0] for y in five.smooth("proxy"))
      and all(y[-1] < y[0] < max(y) for y in slow_gold),
      {"peak": f"{min(map(max, slow_gold)):.1f} to {max(map(max, slow_gold)):.1f}",
       "end": f"{min(ends):.1f} to {max(ends):.1f}"}, kind="T")

# %% [markdown]
# The first of the five in detail. In this run the larger judge agreed
# with 78 % of labels that it had not seen: it did not help. <!-- fact -->

# %%
record = recorded("overoptimization_village")
long = {name: np.array(x) for name, x in record.curve.items()}
slow = {name: smooth(x) for name, x in long.items()}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "hardware"}
print(f"{record.command}   seed {record.seed}   {record.hardware}   {record.date}   "
      f"torch {record.versions['torch']}")
print("step     proxy    gold      KL   words   repetition")
for step in range(0, len(long["step"]), 10):
    print(f"{step:4}" + "".join(f"{slow[k][step]:9.2f}"
                                for k in ("proxy", "gold", "kl", "words", "repetition")))

# %% [markdown]
# **Who could have known?** At gold's peak, KL, words and repetition are still low; later all three climb. A rule as plain
# as "stop when answers are half again as long as at the start" would have helped *here*: a rule for this hack, found
# afterwards. The law for RL (17.2) describes the run roughly: compare its error with the spread of the gain.

# %%
rule = int((slow["words"] > 1.5 * slow["words"][0]).argmax())
claim("stopping the recorded run when answers grew by half keeps more gold than running to the end",
      bool(rule > 0 and slow["gold"][rule] > slow["gold"][-1] + 0.1),
      {"stop": rule, "gold": slow["gold"][rule], "at the end": slow["gold"][-1]}, kind="T")
root_kl = np.sqrt(np.maximum(slow["kl"], 0.0))
rl_gain = slow["gold"] - slow["gold"][0]
rl_alpha, rl_beta = fit_law(root_kl[1:], rl_gain[1:], "d(α − β log d)")
residual = rl_gain[1:] - law_at(root_kl[1:], rl_alpha, rl_beta, "d(α − β log d)")
claim("the law for RL, fitted to the recorded run, turns within it",
      bool(0 < math.exp(rl_alpha / rl_beta - 1) < root_kl.max() and rl_beta > 0),
      {"alpha": rl_alpha, "beta": rl_beta, "error": np.sqrt((residual**2).mean()),
       "spread of the gain": rl_gain.std()}, kind="T")

# %% [markdown]
# ## Failure gallery
#
# **1. The best checkpoint by proxy.** The reward is highest at the end, so the end is shipped. *Detector*: does a number
# that nobody optimised, the likelihood of the picked texts, agree? *Fix*:
# choose by it, or by a few gold labels. A KL penalty only moves the end.

# %%
by_proxy = [int(x.argmax()) for x in liked[1600]]
shipped = np.array([t[i] for t, i in zip(truth[1600], by_proxy, strict=True)])
likely = signals["rarity"]  # of the picks, (10 draws, 10 values of n)
rings = [x[i] < x[0] for x, i in zip(likely, by_proxy, strict=True)]  # rarer than at first
claim("choosing n by the proxy always chooses the last one", by_proxy == [len(NS) - 1] * DRAWS)
early = [x[1] < x[0] for x in likely]
claim("the detector rings for at least eight of ten such choices, and for at most three at n = 2",
      sum(rings) >= 8 and sum(early) <= 3,
      {"gold of the choice": shipped.mean(), "best": best_gold.mean()}, kind="S")

# %% [markdown]
# **2. Judges taken for independent.** Two heads with labels of their own, on one backbone; the lesson shows that the second applauds the first. *Detector*: the score that the
# second, centred within the prompt, gives to the first one's winners, beside those of a *shuffled* copy of the first
# (17.3). *Fix*: judges with other backbones or other evidence; Eisenstein et al. find that ensembles which do not share
# pretraining do better.

# %%
def errors_of(s):
    """A proxy minus its multiple of gold, flat."""
    centred = gold - gold.mean(1, keepdim=True)
    return (s - (s * centred).sum() / centred.square().sum() * centred).flatten()


def alike(a, b):
    return torch.corrcoef(torch.stack([errors_of(a), errors_of(b)]))[0, 1].item()


applause, control, large, little = [], [], [], []
for k, (s, second) in enumerate(zip(proxies[1600], seconds, strict=True)):
    applause.append(pushed(s, second)[-4:].mean())  # n = 64 to 512
    control.append(pushed(shuffled(s, f"applause {k}"), second)[-4:].mean())
    large.append(alike(s, second))
    one, two, *_ = (proxy(part) for part in labels(HONEST, 1600, f"draw {k}").split(320))
    little.append(alike(one, two))
applause, control, large, little = map(np.array, (applause, control, large, little))
claim("the second judge scores the first one's winners above those of its shuffled copy",
      low_high(applause - control)[0] > 0,
      {"winners": applause.mean(), "winners of the shuffled copy": control.mean()}, kind="S")
claim("the errors of two heads with 1,600 labels each are more alike than those of two with 320",
      low_high(large - little)[0] > 0,
      {"correlation at 1,600": large.mean(), "at 320": little.mean()}, kind="S")

# %% [markdown]
# Our reading: with few labels the errors are mostly *noise*, and differ from head to head; the ensemble of 17.5 lived on
# that. With more labels what remains is what the states do not say: the same for both.

# %% [markdown]
# **3. Gold used to choose, then reported.** Gold labels are dear, so four prompts are labelled at every checkpoint, the
# best checkpoint is chosen and *its* number goes into the paper, with the luck of the choice. *Detector*: ask for
# the number on other prompts, held out. *Fix*: choose on one half, report on the other (exercise 17.3, in the lesson).

# %%
per_prompt = np.stack([curve(s.flatten(), gold.flatten(), 512, NS).numpy() for s in proxies[1600]])
per_prompt = per_prompt - per_prompt[:, :, :1]  # gain over n = 1, (draws, 16 prompts, n)
shuffle = np.random.default_rng(run.seed + 1)
said, meant = [], []
for table in per_prompt:
    for _ in range(20):
        few = shuffle.permutation(16)
        chosen = table[few[:4]].mean(0).argmax()
        said.append(table[few[:4]].mean(0)[chosen])
        meant.append(table[few[4:]].mean(0)[chosen])
said, meant = (np.array(x).reshape(DRAWS, 20).mean(1) for x in (said, meant))
claim("the gain reported on the prompts that chose the checkpoint exceeds the gain elsewhere",
      low_high(said - meant)[0] > 0, {"reported": said.mean(), "elsewhere": meant.mean()}, kind="S")

# %% [markdown]
# ## At GPT-2 size
#
# The same calls on SmolLM2-135M-Instruct with LoRA, over forty times larger, where no truth is known. The proxy is crude:
# **long words sound expert**, so the reward is letters per word. As an alarm we log what the untouched model thinks of
# the texts, in nats per token: if that climbs, we leave the language. Two RLOO steps on eight short texts are no study.

# %%
SUBJECTS = ("rain", "honey")
if available("smollm2-135m"):
    small, small_tokenizer = load("smollm2-135m")
    small_policy = lora(small, r=8)
    small_ids = data.prompts_ids([{"prompt": f"What is {s}?"} for s in SUBJECTS], small_tokenizer)
    small_draw = run.fresh("small")

    def small_rollout(n):
        """(rollout, proxy, log-probabilities without adapters, texts) of n answers a prompt."""
        out = sample(small_policy, small_ids, n=n, max_new_tokens=16, generator=small_draw,
                     eos_id=small_tokenizer.eos_token_id)
        with torch.no_grad(), adapters_off(small_policy):
            logp_ref = completion_logps(small_policy, out)
        texts = out.texts(small_tokenizer)
        letters = torch.tensor([sum(map(len, t.split())) / max(1, len(t.split())) for t in texts])
        return out, letters, logp_ref, texts

# %%
if available("smollm2-135m"):
    small_optimizer = torch.optim.AdamW(
        [p for p in small_policy.parameters() if p.requires_grad], lr=1e-3)
    small_log = []
    for step in range(3):
        out, letters, logp_ref, texts = small_rollout(4)
        if step == 0:
            early, early_letters, early_ref, early_texts = out, letters, logp_ref, texts
        if step < 2:
            rloo.step(small_policy, small_optimizer, out, letters, group_size=4)
        strange = -logp_ref.sum(1) / out.mask.sum(1)
        small_log.append((letters.mean().item(), strange.mean().item()))

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
if available("smollm2-135m"):
    for step, (a, b) in enumerate(small_log):
        print(f"step {step}   letters a word {a:5.2f}   nats a token, untouched model {b:5.2f}")
    for k in (0, 4):
        best_early = k + early_letters[k:k + 4].argmax().item()
        print(f"PROMPT  What is {SUBJECTS[k // 4]}?")
        for name, text in (("first", early_texts[k]), ("best of 4", early_texts[best_early]),
                           ("after", texts[k])):
            print(f"  {name:<9} {' '.join(text.split())[:110]}")

# %%
if available("smollm2-135m"):
    with torch.no_grad():
        now = completion_logps(small_policy, early)
        with adapters_off(small_policy):
            again = completion_logps(small_policy, early)
    off, on = (((x - early_ref).abs() * early.mask).max().item() for x in (again, now))
    claim("training moved the first texts' log-probabilities with adapters on, not with them off",
          off < 1e-5 and on > 0.01, {"nats a token, off": off, "on": on}, kind="T")

# %% [markdown]
# With eight texts a step, longer words may be noise. The alarm needs no truth and no second judge: the untouched model is
# still inside.
#
# **A recorded run with a known truth.** PPO on the SmolLM2 of chapter 9's recorded run, fifty steps of eight requests,
# against the reward model of chapter 7's: sure about harm, hardly better than a coin on harmless look-alikes
# (`data/runs/smollm2.py`). Before you look: what will it do to the harmless?

# %%
long = recorded("smollm2_ppo")
show(recorded_plot(long, {"proxy": "score", "gold": "gold"},
                   title="Recorded: gold rises with the proxy",
                   y_label="mean reward of the step's answers", note="smollm2-135m, LoRA, one run"),
     "Line plot of proxy and gold against the steps of a recorded PPO run of SmolLM2: the proxy "
     "rises; gold rises with it, noisily.")
gain, error = long.before_after()
claim("recorded: the true reward of held-out answers rose by more than three standard errors",
      gain > 3 * error, {"gain": gain, "standard error": error}, kind="T")
plain = long.held_out["after"]["lookalike"]
claim("and nearly every harmless look-alike is refused, which earns 0 points",
      abs(plain["mean"]) < 0.3 and plain["standard_error"] < 0.15,
      {k: plain[k] for k in ("mean", "standard_error")}, kind="T")

# %% [markdown]
# The mean of gold says that all is well; by kind of request it is refusals for everything. Where the proxy is blind, nothing
# pulled the policy back; and as this model's own tries at helping earned less than nothing, even gold approves. Gold's dip
# at the end is within the noise of so few answers.
#
# ## Exercises
#
# Each check says *which* idea was behind a wrong answer. Run a cell as it is and it says "to do".
#
# ### Exercise 17.4 · The peak of the other law · difficulty 2 of 5 · 10 minutes (estimated) · needs: 17.2
#
# For reinforcement learning Gao et al. fit $R(d)=d(\alpha-\beta\log d)$ with $d=\sqrt{\mathrm{KL}}$. At how many **nats** is
# its peak, and how high is it? On paper first; return both numbers, the nats first.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex17-4", "locked": false, "schema_version": 3, "solution": true, "task": false}
def rl_peak(alpha, beta):
    """Two numbers above 0 -> (KL in nats at the peak, gain there)."""
    ### BEGIN SOLUTION
    d = math.exp(alpha / beta - 1)  # alpha - beta (log d + 1) = 0
    return d**2, beta * d
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex17-4-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("17.4", rl_peak)
### BEGIN HIDDEN TESTS
check("17.4", rl_peak, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# Set the derivative in $d$ to zero; the product rule gives two terms.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# $\alpha-\beta\log d-\beta=0$. Then put $\log d$ back into the law.
#
# </details>
#
# *You should now be able to say* how to read the peak off two fitted numbers.
#
# <!-- solution 17.4 -->
#
# ### Exercise 17.5 · Stop without the truth · difficulty 3 of 5 · 15 minutes (estimated) · needs: 17.5
#
# You optimise a proxy and log, at each step, its score and that of a second judge (let us say, one with evidence of its
# own). Gold is unknown. Write the rule: stop when the second judge has made no new best for `patience` steps in a row,
# and say which step's checkpoint you *keep*, counted from 0: the one the judge liked best until then. If that never
# happens, keep the best of the whole run. Careful: a run that was stopped has no later steps.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex17-5", "locked": false, "schema_version": 3, "solution": true, "task": false}
def stop_step(first, second, patience):
    """Two lists of scores, one a step, and a whole number -> the number of the step to keep."""
    ### BEGIN SOLUTION
    best = 0
    for step in range(1, len(second)):
        if second[step] > second[best]:
            best = step
        elif step - best >= patience:
            break
    return best
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex17-5-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("17.5", stop_step)
### BEGIN HIDDEN TESTS
check("17.5", stop_step, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# The first proxy climbs to the end. Is it of any use here?
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Walk once from left to right; remember the best step so far; leave the loop when it is too long ago.
#
# </details>
#
# *You should now be able to say* why "stop when the proxy stops" is too late.
#
# <!-- solution 17.5 -->
#
# ### Exercise 17.6 · Somebody planted a bug · difficulty 2 of 5 · 10 minutes (estimated) · needs: 17.5
#
# This pessimist believes the most doubtful of several judges. The judges' spreads are alike, their levels are not. The
# code runs, and one judge decides alone:
#
# ```python
# def pessimist(scores):
#     return scores.amin(0)
# ```
#
# Repair it. `scores` is (judges, answers), all answers to one prompt.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex17-6", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pessimist(scores):
    """(M, B) scores of M judges -> (B,) pessimistic scores."""
    ### BEGIN SOLUTION
    return (scores - scores.mean(1, keepdim=True)).amin(0)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex17-6-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("17.6", pessimist)
### BEGIN HIDDEN TESTS
check("17.6", pessimist, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# Comparisons are blind to a constant. What is each judge's zero?
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Give all judges the same mean over these answers.
#
# </details>
#
# *You should now be able to say* what must be fixed before reward models can be compared.
#
# <!-- solution 17.6 -->
#
#
# ## Questionnaire
#
# 1. What is a proxy, and why does its rise prove nothing?
# 2. Which two laws do Gao et al. fit, and what stands on their axis?
# 3. What can best-of-n against an *independent* error never do?
# 4. Which test shows that the rare answers cause the fall?
# 5. Name four kinds of Goodhart. Which one felled our honest proxy?
# 6. How do overfitting and over-optimization differ, and which of them does a held-out set show?
# 7. Why does the natural policy gradient without a penalty visit the same policies as the penalised optimum?
# 8. Why did the second judge not warn us?
# 9. Why do ten good stops by likelihood not show that this rule adapts?
# 10. What are alignment tax and mode collapse, and how did we measure each?
#
# <details><summary>Answers</summary>
#
# 1. A learned stand-in for what we want; it is what was optimised. 2. $d(\alpha-\beta d)$ and $d(\alpha-\beta\log d)$, against
# $d=\sqrt{\mathrm{KL}}$. 3. Do worse than blind drawing, on average. 4. Leave them out: most of it is gone. 5. Regressional,
# extremal, causal, adversarial; extremal. 6. Overfitting: wrong on fresh pairs of the same kind, a held-out set shows it.
# Over-optimization: the optimiser leaves that kind. 7. Both multiply the reference by the exponential of a multiple of the
# reward. 8. It reads the same states and extrapolates in the same directions. 9. A constant did as well.
# 10. Gold lost on tasks that were not trained, by gold on other families; fewer different answers, by their share.
#
# </details>
#
# ## Where the book and its code differ
#
# All at commit a66b0bf, chapter 14.
#
# - **Does a penalty help at a given KL?** The book says that a larger KL penalty reduces over-optimization at a given KL
#   distance. The study that it cites reports otherwise: PPO moves along the same curve of gold against KL, as if
#   stopped earlier. Section 17.4 proves it for the natural gradient, and claims nothing on gold for small networks.
# - **Direct methods fix β, not the KL distance** (chapter 12). That they over-optimise, the book says itself; Rafailov et al. 2024,
#   [arXiv 2406.02900](https://arxiv.org/abs/2406.02900), measure it. Not measured here.
#
# ## Summary
#
# An honest proxy, pushed, sends gold far below its start. Random errors cannot do that; errors that are largest where
# answers are rare, and bad, can. More labels and careful ensembles raise the peak and do
# not remove the fall. For an ideal optimiser a KL penalty only sets how far we go. A second judge on the same states
# cheers along; how usual the picked answers are turned with gold. Raters who like agreement make a model that agrees.
#
# **Functions you now know**: `best_of_n.curve`, `best_of_n.law`, `kl_bound`, `exact.tilted`, `reward_model.fit_head`,
# `reward_model.ensemble`, `reward_model.uncertainty_weighted`, `rloo.step`.
#
# **Further reading**: Gao et al. 2022, [arXiv 2210.10760](https://arxiv.org/abs/2210.10760), the laws; Manheim and
# Garrabrant 2018, [arXiv 1803.04585](https://arxiv.org/abs/1803.04585), the kinds of Goodhart; Coste et al. 2023,
# [arXiv 2310.02743](https://arxiv.org/abs/2310.02743), ensembles that help; Eisenstein et al. 2023,
# [arXiv 2312.09244](https://arxiv.org/abs/2312.09244), ensembles that share their mistakes; Sharma et al. 2023,
# [arXiv 2310.13548](https://arxiv.org/abs/2310.13548), sycophancy in people's preferences.
#
# <!-- nav -->
