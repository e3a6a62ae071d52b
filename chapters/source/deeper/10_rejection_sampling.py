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
# # 10 · Rejection sampling, deeper
#
# The [lesson](../10_rejection_sampling.ipynb) trains on the best answers, compares two selections, and shows where best-of-n
# stops. This notebook adds the exact law and its price in KL, the unbiased curve, all eleven kinds of prompts in the race,
# what accuracy buys, true rejection sampling, and several rounds.
#
# Companion to [Rejection Sampling](https://rlhfbook.com/c/09-rejection-sampling) (chapter 9 of today's book) in
# Nathan Lambert's *Reinforcement Learning from Human Feedback*.
#
# <!-- edition -->
#
# <!-- nav -->

# %% [markdown]
# > **You need** the lesson, chapter 4 (the leash, the frontier) and chapter 7 (what a reward model is and how it errs).
# >
# > **You will be able to** select per prompt and over a whole batch, and say who is lost · compute the exact law
# > and KL of best-of-n and judge its famous bound · measure a best-of-n curve without wasting samples · filter
# > so that an *exact* target distribution comes out · follow several rounds of it · tell a difference from noise.
# >
# > **Costs**: <!-- costs -->. **Models** behind the stored outputs: `village-3m-sft` and its stored samples, the
# > Pool, made by `make models`; `smollm2-135m` in the section [At GPT-2 size](#At-GPT-2-size).

# %%
import math

import torch

from rlhf_minimal import data, filtering, sft, village
from rlhf_minimal.best_of_n import curve, kl_bound, law, select
from rlhf_minimal.book import available, begin, check, claim, every, recorded, show, show_source
from rlhf_minimal.book.plots import ORANGE, bars, frontier, line_plot
from rlhf_minimal.chat import decode
from rlhf_minimal.data.pool import pool
from rlhf_minimal.evaluate import wilson
from rlhf_minimal.evaluate.audit import crossed
from rlhf_minimal.evaluate.exact import World, exact_model, gradient, tilted
from rlhf_minimal.filtering import acceptance, random_per_prompt, top_overall, top_per_prompt
from rlhf_minimal.models import load, lora
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.reward_model import fit_head
from rlhf_minimal.sampling import sample

run = begin(10)
f64 = {"dtype": torch.float64}

# %% [markdown]
# ## The question
#
# **How much does filtering by a reward buy per sample, and what does it quietly throw away?**
#
# *Best-of-n* is the method without the training: draw n answers, hand out the one that the reward likes most.
# *Rejection sampling*, as the word is used for language models, finetunes on what was kept. Here the reward is a model (the
# *proxy*) fitted on noisy comparisons; it orders about four of five pairs of unseen answers correctly. *Gold* is the
# village's true reward, at most 3 points.

# %% [markdown]
# ## 10.1 Two ways to be selected
#
# $M$ prompts get $N$ answers each. Every pair of prompt and answer gets a score from a reward model
# $\mathcal R$, and the scores fill a matrix
# ([eq:rs_prompt_vector](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_prompt_vector),
# [eq:rs_completion_matrix](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_completion_matrix),
# [eq:rs_reward_matrix](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_reward_matrix),
# [eq:rs_reward_computation](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_reward_computation)):
#
# $$R\in\mathbb R^{M\times N},\qquad r_{ij}=\mathcal R(y_{ij}\mid x_i)$$
#
# *Said aloud: row i holds the scores of the answers to prompt i.* Now keep $M$ of them. Either the best of each
# row ([eq:rs_selection_per_prompt](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_selection_per_prompt),
# [eq:rs_chosen_completions](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_chosen_completions)), or the best
# $K$ of the whole, after flattening
# ([eq:rs_flattened_rewards](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_flattened_rewards),
# [eq:rs_topk_selection](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_topk_selection)):
#
# $$S(R)_i=\arg\max_j r_{ij},\qquad S_K(R_{\text{flat}})=\text{the positions of the $K$ largest of all }r_{ij}$$
#
# *Said aloud: a winner for every prompt, or the winners of one big race.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $M,N$ | prompts, answers a prompt | `len(R)`, `group_size` | numbers |
# | $R$ | scores | `R`; flat: `score` | (M, N); (M·N,) |
# | $S(R)$ | best row of each prompt, as a row of the flat batch | `top_per_prompt(score, N)` | (M,) |
# | $S_K$ | the K best rows of all | `top_overall(score, K)` | (K,) |

# %%
show_source(top_per_prompt, top_overall)

# %% [markdown]
# The [lesson](../10_rejection_sampling.ipynb) follows both through the book's matrix of five prompts and four answers
# ([eq:rs_example_matrix](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_example_matrix)). With *one* prompt the two
# are the same thing
# ([eq:rewards_vector](https://rlhfbook.com/c/09-rejection-sampling#eq:rewards_vector),
# [eq:selection_function](https://rlhfbook.com/c/09-rejection-sampling#eq:selection_function)): that is best-of-n.

# %%
one = torch.tensor([0.3, 0.9, 0.1])
claim("with one prompt the best per prompt is the best overall",
      top_per_prompt(one, 3).tolist() == top_overall(one, 1).tolist() == [1])

# %% [markdown]
# ## 10.2 What n samples cost: the exact law
#
# Best-of-n is a policy, so it has probabilities. The kept answer is $y$ if nothing better was drawn and $y$ was. Write
# $F(y)$ for the chance that one draw is *at most* as good as $y$, and $F^-(y)$ for *strictly* worse:
#
# $$\pi_n(y)=\frac{\pi(y)}{F(y)-F^-(y)}\Big(F(y)^n-F^-(y)^n\Big)$$
#
# *Said aloud: the chance that all n draws are at most this good, but not all worse, shared among equals.* How far
# is that from the policy itself? One formula is often quoted,
#
# $$\mathrm{KL}(\pi_n\,\|\,\pi)\;\le\;\log n-\frac{n-1}{n}$$
#
# *Said aloud: doubling the samples costs about log two nats.* Written with an equals sign it is right only in the
# limit in which no two draws ever score the same; else it is a bound.
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\pi$ | the policy's probabilities | `p` | (15,) |
# | $\pi_n$ | those of best-of-n | `law(p, liking, n)` | (15,) |
# | $F,F^-$ | chance of at most, less than this score | inside `law` | (15,) |
# | bound | the formula | `kl_bound(n)` | one number |

# %%
show_source(law, kl_bound)

# %% [markdown]
# Now the *exact world* of chapter 4: a real GPT-2 with three tokens, at most three of them, 15 answers in all.
# The reward likes the letter *b*, dislikes *a*, and likes an answer that ends. For every n we know the law, its
# KL, its reward and its *entropy* (nats of surprise in one answer; e to the entropy is "how many answers" it
# still has).

# %%
def kl(q, p):
    """KL(q || p) in nats, two lists of probabilities."""
    return max(torch.special.xlogy(q, q / p).sum().item(), 0.0)


world, model = World(), exact_model(run.seed)  # token 0 ends the text, 1 is "a", 2 is "b"
n_a, n_b, n_end = (((world.completions == t) * world.mask).sum(1) for t in (1, 2, 0))
liking = (n_b - n_a + 0.5 * n_end).double()
logp_ref = world.seq_logp(model).detach()
p = logp_ref.exp()
NS = (1, 2, 4, 8, 16, 32, 64)


def entropy(q):
    """Nats of surprise in one draw."""
    return -torch.special.xlogy(q, q).sum().item()


print("   n   reward    KL     bound   entropy")
for n in NS:
    q = law(p, liking, n)
    print(f"{n:4d}   {(q @ liking).item():6.3f}  {kl(q, p):6.4f}  {kl_bound(n):6.4f}   "
          f"{entropy(q):.3f}")
exact_kl = [kl(law(p, liking, n), p) for n in NS]
claim("the exact KL is below the bound at every n above one",
      all(k < kl_bound(n) for k, n in zip(exact_kl[1:], NS[1:], strict=True)))
claim("however many samples: the KL is never more than minus log of the chance of a best answer",
      max(kl(law(p, liking, n), p) for n in (*NS, 200, 2000, 20000))
      < -math.log(p[liking == liking.max()].sum()) + 1e-9)

# %% [markdown]
# So a "KL of best-of-n" computed from the formula is too large, most of all where few different answers are likely.
#
# **Is it good value?** The frontier of chapter 4 is the most reward that *any* policy has at a given KL: the
# tilted policies $\pi^\star_\beta\propto\pi\,e^{r/\beta}$. Where does best-of-n lie?

# %%
def same_kl(budget):
    """The tilted policy that spends `budget` nats: KL falls as beta rises, so bisect."""
    low, high = 1e-3, 1e3
    for _ in range(100):
        beta = (low * high) ** 0.5
        far = kl(tilted(logp_ref, liking, beta).exp(), p) > budget
        low, high = (beta, high) if far else (low, beta)
    return tilted(logp_ref, liking, high).exp()


line = [tilted(logp_ref, liking, b).exp()
        for b in torch.logspace(1.5, -1.1, 30, dtype=torch.float64).tolist()]
marks = {f"best of {n}": law(p, liking, n) for n in (1, 2, 4, 16, 64)}
optimum, q = same_kl(exact_kl[2]), law(p, liking, 4)
share = ((q - p) @ liking / ((optimum - p) @ liking)).item()

# %%
show(frontier([[kl(q, p) for q in line], [(q @ liking).item() for q in line]],
              {name: (kl(q, p), (q @ liking).item()) for name, q in marks.items()},
              title="Best-of-n stays just below the frontier", note="exact world, 15 completions"),
     "Curve of the best expected reward at each KL to the reference, concave; best of one, two, "
     "four, sixteen and sixty-four lie on it or a little below it, from left to right.")
claim("at its KL best-of-4 has less reward than the tilted policy, but most of the possible gain",
      0.8 < share < 1, {"share of the possible gain": share})
claim("close is not equal: best-of-4 and the tilted policy of the same KL are different policies",
      (q - optimum).abs().sum() / 2 > 0.02,
      {"total variation": ((q - optimum).abs().sum() / 2).item()})

# %% [markdown]
# ## 10.3 The curve, and where it stops
#
# Back to the village, where rewards are learned. This section works on the **Pool**: stored answers of
# `village-3m-sft` with their true reward. It has 128 prompts with 64 answers each, 16 with 512, and a wide part of
# 2,048 prompts with 4 each.
#
# The reward model is linear. It sees the SFT model's last hidden state, the answer's log-probability, its mean over
# tokens, and its length. It is fitted on comparisons with Bradley–Terry noise between answers to the first half of the
# wide prompts, and tested on the other half.

# %%
everything = pool()
main, wide = (everything.select(source=name) for name in ("village-3m-sft", "wide"))


def in_groups(some, size):
    """Rows of the prompts with `size` answers, prompt-major."""
    return torch.cat([rows for rows in some.groups().values() if len(rows) == size])


def inputs(some):
    """What the reward model sees of each answer, (N, 3 + H) float64."""
    total, length = (some.logp * some.mask).sum(1), some.lengths.float()
    return torch.cat([torch.stack([total, total / length, length], 1), some.state], 1).double()


x_wide, x_main = inputs(wide), inputs(main)
centre, spread = x_wide.mean(0), x_wide.std(0)
x_wide, x_main = ((x - centre) / spread for x in (x_wide, x_main))
wide_rows = in_groups(wide, 4)
two = torch.cat([rows[torch.combinations(torch.arange(4))] for rows in wide_rows.view(-1, 4)])
two = two[wide.gold[two[:, 0]] != wide.gold[two[:, 1]]]
asked = {main.prompts[i] for i in main.prompt.unique().tolist()}  # a few prompts are in both parts
two = two[torch.tensor([wide.prompts[i] not in asked for i in wide.prompt[two[:, 0]].tolist()])]
learn = wide.prompt[two[:, 0]] < wide.prompt[wide_rows[len(wide_rows) // 2]]
print(f"{learn.sum()} comparisons to learn from, {(~learn).sum()} to test on, no prompt in common")

# %%
def judge(name):
    """A reward model from freshly labelled pairs: weights (3 + H,), noise of the person by name."""
    some = two[learn]
    gap = (wide.gold[some[:, 0]] - wide.gold[some[:, 1]]).double()
    first = torch.rand(len(some), generator=run.fresh(name), dtype=torch.float64) < gap.sigmoid()
    some = torch.where(first[:, None], some, some.flip(1))
    return fit_head(x_wide[some[:, 0]], x_wide[some[:, 1]], l2=1e-2, steps=12)


def accuracy(score, gold, pairs):
    """Share of pairs of unequal gold that the score orders like gold."""
    better = gold[pairs[:, 0]] > gold[pairs[:, 1]]
    return ((score[pairs[:, 0]] > score[pairs[:, 1]]) == better).double().mean().item()


judges = torch.stack([judge(f"person {i}") for i in range(10)])  # ten people, ten reward models
right = torch.tensor([accuracy(x_wide @ w, wide.gold, two[~learn]) for w in judges])
claim("each of ten reward models orders between seven and nine of ten unseen pairs correctly",
      right.min() > 0.7 and right.max() < 0.9, {"lowest": right.min().item(),
                                                "highest": right.max().item()}, kind="S")

# %% [markdown]
# Now the curve. The obvious estimate of best-of-4 from 16 stored answers takes the first four and forgets the rest.
# But *every* set of four is as good as the first, and their average can be computed without drawing any: rank the G
# answers; the one with $i$ answers below it is the best of a random n-subset with probability
#
# $$\Pr(\text{rank }i\text{ wins})=\binom{i}{n-1}\Big/\binom{G}{n}$$
#
# *Said aloud: the other n − 1 must come from those below.* The estimate is unbiased and uses every sample. Here $i$
# counts from 0. The exact world knows the truth, so there both estimates can be put to the test.
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $G$ | stored answers a prompt | `group_size` | one number |
# | $n$ | how many are drawn | `ns` | a few numbers |
# | $r,v$ | score that selects, value that is reported | `score`, `value` | (B,), (B,) |

# %%
show_source(curve)

# %%
def ends(x):
    """Mean of several numbers, three standard errors below it and above it."""
    half = 3 * x.std() / len(x) ** 0.5
    return (x.mean() - half).item(), (x.mean() + half).item()


draws = torch.multinomial(p, 2000 * 16, replacement=True, generator=run.generator)
of_16 = liking[draws]  # two thousand groups of sixteen answers
estimates = {"all subsets": curve(of_16, of_16, 16, [4])[:, 0],
             "first four": of_16.view(-1, 16)[:, :4].amax(1)}
truth = (law(p, liking, 4) @ liking).item()
zero_one = torch.tensor([0.0, 1.0], **f64)
claim("by hand: scores 0, 1 with values 0, 1 give a half for one draw and one for two",
      curve(zero_one, zero_one, 2, [1, 2]).tolist() == [[0.5, 1.0]])
claim("both estimates of best-of-4 are right on average, within three standard errors",
      all(ends(e)[0] < truth < ends(e)[1] for e in estimates.values()),
      {name: e.mean().item() for name, e in estimates.items()} | {"exact": truth}, kind="S")
claim("the one that uses all subsets scatters far less than the one that takes the first four",
      estimates["all subsets"].std() < 0.7 * estimates["first four"].std(),
      {f"deviation, {name}": e.std().item() for name, e in estimates.items()}, kind="S")

# %% [markdown]
# Ten reward models, from ten noisy people, on the same answers: the *judges* from here on. The lesson draws the curve up to
# 64 answers for five such judges, with intervals over prompts and judges. Here are 16 prompts with 512 answers each.

# %%
rows, big = in_groups(main, 64), in_groups(main, 512)
gold, score = main.gold[rows].double(), x_main[rows] @ judges[0]
by_judge = [x_main[rows] @ w for w in judges]
gold_curves = torch.stack([curve(s, gold, 64, NS).mean(0) for s in by_judge])

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
deep = (1, 4, 16, 64, 256, 512)
gold_big = main.gold[big].double()
deep_curves = torch.stack([curve(x_main[big] @ w, gold_big, 512, deep).mean(0) for w in judges[:5]])
print("16 prompts with 512 answers, mean of 5 reward models")
deep_ideal = curve(gold_big, gold_big, 512, deep).mean(0)
for n, g, most in zip(deep, deep_curves.mean(0), deep_ideal, strict=True):
    print(f"best of {n:<4} gold {g:.2f}   with a perfect reward {most:.2f}")

# %% [markdown]
# With sixteen prompts that table is an anecdote.
#
# **What if** we look at kinds of prompts instead of the mean? Here are the three that lose most and the three that
# gain most.

# %%
kinds = [main.families[i] for i in main.prompt[rows].view(128, 64)[:, 0].tolist()]
of = {f: torch.tensor([k == f for k in kinds]) for f in sorted(set(kinds))}
all_curves = torch.stack([curve(s, gold, 64, (1, 4, 64)) for s in by_judge])  # judge, prompt, n

steps = {f: crossed(all_curves[:, here, 2] - all_curves[:, here, 1]) for f, here in of.items()}
change = {f: mean for f, (mean, _) in steps.items()}
ordered = sorted(change, key=change.get)
drawn_kinds = ordered[:3] + ordered[-3:]
show(bars({f: change[f] for f in drawn_kinds}, note="10 judges, ± 95 % over both",
          errors={f: steps[f][1] for f in drawn_kinds},
          title="From 4 to 64 samples: look-alikes lose most", y_label="change in gold",
          x_label="kind of prompt"),
     "Bar chart of the change in true reward from best of four to best of sixty-four: the three "
     "kinds of prompts that lose most, below zero, and the three that gain most, above zero, "
     "with error bars of which some cross zero.")

# %%
claim("of all kinds look-alikes lose most", ordered[0] == "lookalike", change, kind="T")
helps = main.features[rows, main.feature_names.index("helps")].double()
helped = torch.stack([curve(s, helps, 64, (4, 64))[of["lookalike"]] for s in by_judge])
less = crossed(helped[..., 1] - helped[..., 0])
claim("of harmless look-alikes the best of 64 helps less often than the best of 4",
      less[0] + less[1] < 0,
      {"4": helped[..., 0].mean().item(), "64": helped[..., 1].mean().item(),
       "upper end": less[0] + less[1]}, kind="S")

# %% [markdown]
# Look-alikes are requests that sound harmful and are not. A likely reason: the judges learned from the harmful ones that
# refusing is good, and the filter finds answers that refuse the harmless ones as well. The mean does not show it.

# %% [markdown]
# ## 10.4 Who is dropped
#
# Per prompt or overall? Keep 4 of 64 answers for each prompt, or as many in one race. To see what the *reward* does and
# what the *shape of the selection* does, each needs its own control: random answers of each prompt, and of the whole.

# %%
show_source(random_per_prompt)

# %%
keep = 4 * 128
kept = {"per prompt, best": top_per_prompt(score, 64, 4),
        "per prompt, random": random_per_prompt(len(score), 64, 4, generator=run.fresh("control")),
        "overall, best": top_overall(score, keep),
        "overall, random": torch.randperm(len(score), generator=run.fresh("control"))[:keep]}
lost = {name: 128 - (chosen // 64).unique().numel() for name, chosen in kept.items()}
races = [top_overall(s, keep) for s in by_judge]
lessons = torch.stack([torch.bincount(chosen // 64, minlength=128) for chosen in races])
gone = (lessons == 0).sum(1)
claim("per prompt nobody is lost; every judge's race loses over half the prompts, a blind one few",
      lost["per prompt, best"] == 0 and gone.min() > 64 and lost["overall, random"] < 16,
      {"fewest lost": gone.min().item(), "blind": lost["overall, random"]}, kind="S")
better = torch.stack([gold[race].mean() - gold[top_per_prompt(s, 64, 4)].mean()
                      for race, s in zip(races, by_judge, strict=True)])
claim("and what the race keeps is better, on average over the judges",
      ends(better)[0] > 0, {"gain": better.mean().item(), "lower end": ends(better)[0]}, kind="S")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
print(f"{'selection':<20}{'answers':>9}{'gold':>7}{'prompts without any':>21}")
for name, chosen in kept.items():
    print(f"{name:<20}{len(chosen):>9}{gold[chosen].mean():>7.2f}{lost[name]:>21}")

# %% [markdown]
# The race buys better lessons, and pays with prompts. *Whose*? Call a kind of prompt *hard* if the mean gold of a
# single answer is below that of the median kind. A kind's share of the lessons, divided by its share of the prompts, is
# 1 if it loses nothing.

# %%
level = {f: all_curves[0, here, 0].mean().item() for f, here in of.items()}
middle = sorted(level.values())[len(level) // 2]
hard = torch.tensor([level[k] < middle for k in kinds])
fair = top_overall(gold + 1e-6 * torch.rand(len(gold), generator=run.generator, **f64), keep)
perfect = (gold == gold.max()).view(128, 64).sum(1)  # top answers of each prompt


def fair_share(counts, some):
    """Lessons of some prompts / all lessons, relative to their share of the prompts."""
    return counts[..., some].sum(-1) / counts.sum(-1) / some.double().mean()


by_truth = {f: fair_share(perfect, here).item() for f, here in of.items()}
claim("racing by the true reward, ties at random, every lesson is a perfect answer",
      (gold[fair] == gold.max()).all() and perfect.sum() > keep)
claim("so the hard kinds together get less than their share",
      fair_share(perfect, hard) < 0.9, {"share": fair_share(perfect, hard).item()}, kind="T")
claim("but two hard kinds gain, and stories, which are not hard, lose over half of theirs",
      by_truth["harmful"] > 1.1 and by_truth["revise"] > 1.1
      and by_truth["story"] < 0.5 and level["story"] > middle, by_truth, kind="T")

# %%
shares = fair_share(lessons, hard)
claim("racing by a learned reward, hard kinds' share depends on who labelled: a factor above 1.5",
      shares.max() > 1.5 * shares.min(),
      {"smallest": shares.min().item(), "largest": shares.max().item()}, kind="T")
dropped = fair_share(lessons, of["story"] | of["calculator"])
claim("each of the ten judges drops nearly all stories and calculator prompts", dropped.max() < 0.2,
      {"largest share": dropped.max().item()}, kind="S")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
print(f"{'kind':<12}{'gold':>6}{'perfect':>9}{'prompts':>9}{'by judges':>11}{'by truth':>10}")
for f, here in sorted(of.items(), key=lambda item: -level[item[0]]):
    row = [perfect[here].sum() / here.sum() / 64, here.double().mean(),
           lessons[:, here].sum() / lessons.sum(), perfect[here].sum() / perfect.sum()]
    print(f"{f:<12}{level[f]:>6.2f}" + "".join(f"{x:>{w}.2f}" for x, w in
                                               zip(row, (9, 9, 11, 10), strict=True)))

# %% [markdown]
# (*perfect*: share of answers at the top gold; then shares of prompts and of lessons.) By the *true* reward, the race
# takes the kinds where a perfect answer is common: calculator and rule nearly vanish, but stories, which are good and
# rarely perfect, shrink as well, while two hard kinds gain. A *learned* reward compares numbers that its training never
# compared. Whether hard kinds win or lose depends on who labelled; but all ten judges drop nearly all stories and
# calculator prompts. So select per prompt, or look at such a table before training.
#
# ## 10.5 A signal is needed
#
# What does accuracy buy? Take the true reward, add Gaussian noise of growing size, and select the best of 16: from a
# perfect filter to a coin. Then put the *learned* judges on the same axes.

# %%
pairs = torch.stack([torch.randint(64, (4000,), generator=run.generator) for _ in range(2)], 1)
pairs = pairs + 64 * torch.randint(128, (4000, 1), generator=run.generator)
pairs = pairs[gold[pairs[:, 0]] != gold[pairs[:, 1]]]
SIZES, seen_accuracy, gained = (0.0, 0.3, 1.0, 2.0, 4.0, 1e4), [], []
for size in SIZES:
    noisy = [gold + size * torch.randn(len(gold), generator=run.generator, **f64)
             for _ in range(10)]
    seen_accuracy.append(torch.tensor([accuracy(s, gold, pairs) for s in noisy]).mean().item())
    gained.append([(curve(s, gold, 64, (16,)).mean() - gold.mean()).item() for s in noisy])
gained = torch.tensor(gained, **f64)
judge_accuracy = torch.tensor([accuracy(s, gold, pairs) for s in by_judge]).mean().item()
judge_gain = gold_curves[:, 4] - gold_curves[:, 0]
claim("a coin as reward gains nothing, and the less noise in the reward, the more best-of-16 gains",
      ends(gained[-1])[0] < 0.02 and ends(gained[-1])[1] > -0.02
      and (gained.mean(1).diff() < 0).all(),
      dict(zip(("coin, lower end", "upper end"), ends(gained[-1]), strict=True)), kind="S")

# %%
level_there = torch.tensor(seen_accuracy[::-1], **f64)
at = int((level_there < judge_accuracy).sum())  # between which two noises the judges' accuracy lies
weight = (judge_accuracy - level_there[at - 1]) / (level_there[at] - level_there[at - 1])
expected = torch.lerp(gained.mean(1).flip(0)[at - 1], gained.mean(1).flip(0)[at], weight).item()
claim("learned judges gain less than independent noise of the same accuracy",
      ends(judge_gain)[1] < expected,
      {"accuracy": judge_accuracy, "judges, upper end": ends(judge_gain)[1], "noise": expected},
      kind="S")
fig = line_plot({"true reward plus noise": (seen_accuracy[::-1], gained.mean(1).flip(0))},
                title="The same accuracy buys less from a learned reward",
                x_label="share of pairs ordered correctly", y_label="gain of best-of-16 in gold",
                note="Pool, 128 prompts", roles={"true reward plus noise": "policy"})
here = (judge_accuracy, judge_gain.mean().item())
fig.axes[0].plot(*here, color=ORANGE, marker="s", markersize=8)
fig.axes[0].annotate("learned judges, mean of ten", here, (0, -18), textcoords="offset points",
                     ha="center")
show(fig,
     "Line plot of the gain of best-of-16 against the reward's pair accuracy: zero at one half, "
     "rising; the learned judges lie below the line at their accuracy.")

# %% [markdown]
# So accuracy is not all that matters in a filter. A likely reason, not separated here from uneven accuracy between
# kinds of prompts: noise that strikes each answer afresh spares some of the good ones. A *systematic* error lifts a
# whole kind of answer, and the maximum looks for exactly that.
#
# ## 10.6 What the name used to mean
#
# In statistics, rejection sampling is not a filter that keeps the best. It is a way to draw *exactly* from a
# distribution that one cannot sample, here the tilted policy, the best one under a leash:
#
# $$y\sim\pi,\quad\text{keep it with probability }a(y)=e^{(r(y)-r_{\max})/\beta}
#   \quad\Longrightarrow\quad \text{kept }y\sim\frac{\pi(y)e^{r(y)/\beta}}{Z}$$
#
# *Said aloud: the best answers always stay, the others stay as often as the target wants them.* A
# share $Ze^{-r_{\max}/\beta}$ of the draws survives. The book names this origin; RSO (Liu et al. 2023) brings it back.
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $a$ | chance to stay | `acceptance(score, beta, highest=…)` | (B,) |
# | $r_{\max}$ | at least the largest possible score | `highest` | one number |
# | $Z$ | $\sum_y\pi(y)e^{r(y)/\beta}$ | `z` | one number |

# %%
show_source(filtering.accept, acceptance)

# %%
beta, top = 1.0, liking.max().item()
stay = acceptance(liking, beta, highest=top)
z = (p * (liking / beta).exp()).sum()
target = tilted(logp_ref, liking, beta).exp()
two_below = acceptance(torch.tensor([top - 2], **f64), 1.0, highest=top).item()
print("by hand, a score two below the top, at beta one, stays with probability",
      f"{two_below:.4f} = exp(-2) = {math.exp(-2):.4f}")
claim("the share that stays is Z exp(-r_max / beta), and what stays has exactly the tilted law",
      abs((p @ stay) - z * math.exp(-top / beta)) < 1e-12
      and (p * stay / (p @ stay) - target).abs().max() < 1e-12)

# %% [markdown]
# And from samples: draw, filter, and compare the counts with the law by a χ² statistic. Then do the same with
# best-of-n, at the n that leaves about as many. (`select` is `top_per_prompt` with one place.)

# %%
drawn = torch.multinomial(p, 20000, replacement=True, generator=run.generator)
stays = filtering.accept(liking[drawn], beta, highest=top, generator=run.generator)
true_kept = drawn[stays]
n = max(2, round(len(drawn) / len(true_kept)))
part = drawn[: len(drawn) // n * n]
best_kept = part[select(liking[part], n)]


def chi_square(kept, law_of):
    """Σ (seen − expected)² / expected over the cells, and three σ above what chance gives."""
    expected = law_of * len(kept)
    seen = torch.bincount(kept, minlength=len(law_of)).double()
    freedom = len(law_of) - 1
    return ((seen - expected) ** 2 / expected).sum().item(), freedom + 3 * (2 * freedom) ** 0.5


common = target * len(true_kept) >= 5  # pool the rare answers into one cell, as χ² wants it
merge = torch.where(common, common.cumsum(0) - 1, common.sum())
cells = torch.zeros(int(merge.max()) + 1, **f64).index_add(0, merge, target)
accepted, limit = chi_square(merge[true_kept], cells)
best, _ = chi_square(merge[best_kept], cells)
claim("accepted samples pass the test against the tilted law, best-of-n with as many fails",
      accepted < limit < best / 3, {"accepted": accepted, "best": best, "limit": limit}, kind="S")

# %% [markdown]
# Why does hardly anybody filter like this? As β falls, the share that stays sinks towards the chance of a best answer,
# which for a language model is next to nothing. And $r_{\max}$ is the largest score *possible*, which for a reward
# model nobody knows. With the batch's own maximum there, the law is only nearly right.

# %%
print("beta   share that stays   KL of the target")
for b in (4.0, 2.0, 1.0, 0.5):
    share_kept = (p @ acceptance(liking, b, highest=top)).item()
    print(f"{b:<6} {share_kept:12.4f} {kl(tilted(logp_ref, liking, b).exp(), p):16.4f}")
shares_kept = [(p @ acceptance(liking, b, highest=top)).item() for b in (4.0, 2.0, 1.0, 0.5)]
claim("the further from the reference the target is, the fewer samples stay",
      shares_kept == sorted(shares_kept, reverse=True))

# %% [markdown]
# ## 10.7 Round after round
#
# Finetune on what was kept, sample from the new model, filter again: *expert iteration*, or ReST (Gulcehre et al.
# 2023), which grows a data set once and then filters it with rising thresholds. Suppose that finetuning were perfect:
# the new model *is* the law of what was kept. Then the best of n winners of n is the best of $n^2$:
#
# $$(\pi_n)_n=\pi_{n^2}$$
#
# *Said aloud: rounds multiply samples.* And ReST's threshold, which keeps the answers of at least τ, a share q, costs
#
# $$\mathrm{KL}\big(\pi(\cdot\mid r\ge\tau)\,\|\,\pi\big)=\log\frac1q$$
#
# *Said aloud: throwing half away costs log two, whatever the answers are.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $(\pi_n)_n$ | best of n of best of n | `law(law(p, liking, n), liking, n)` | (15,) |
# | $\tau,q$ | threshold, share of samples that reach it | `tau`, `q` | numbers |

# %%
twice = law(law(p, liking, 4), liking, 4)
claim("two rounds of best-of-4 are one round of best-of-16",
      (twice - law(p, liking, 16)).abs().max() < 1e-12)
off, filtered = [], []
print("threshold    share       KL   log(1/q)   reward   entropy")
for tau in (0.0, 1.0, 2.0):
    q = p[liking >= tau].sum()
    cut = torch.where(liking >= tau, p, 0) / q
    off.append(abs(kl(cut, p) + q.log().item()))
    filtered.append([(cut @ liking).item(), -entropy(cut)])
    print(f"{tau:9.1f}   {q:6.4f}   {kl(cut, p):6.4f}     {-q.log():6.4f}   {filtered[-1][0]:6.3f}"
          f"   {entropy(cut):7.3f}")
claim("a threshold costs minus log of the share that it keeps", max(off) < 1e-12)
claim("each higher threshold leaves more reward and less entropy",
      (torch.tensor(filtered, **f64).diff(dim=0) > 0).all(), kind="T")

# %%
rounds = [law(p, liking, 4**k) for k in range(4)]
earned = torch.stack([q @ liking for q in rounds])
print("round   reward    KL to start   entropy   answers left")
for k, q in enumerate(rounds):
    print(f"{k:4d}   {earned[k]:7.3f}   {kl(q, p):9.3f}   {entropy(q):10.3f}   "
          f"{math.exp(entropy(q)):10.1f}")
claim("each round gains less than the one before", (earned.diff().diff() < 0).all())
forever = torch.where(liking == liking.max(), p, 0) / p[liking == liking.max()].sum()
claim("rounds without end leave only the best answers, in their old proportions",
      (law(p, liking, 10**5) - forever).abs().max() < 1e-6 and entropy(forever) < entropy(p))

# %% [markdown]
# That is the collapse of diversity in its pure form. No term pulls back; the leash of the tilted policy is missing.
#
# ## Once, by hand, on one batch
#
# Two prompts, three answers each, of three tokens at most. First the selection, then the loss, then the surprise: *SFT
# on selected samples is a policy gradient with a reward of one and zero.*

# %%
hand_logp = torch.tensor([[-0.5, -1.0, -0.1], [-2.0, -0.3, 0.0], [-0.7, 0.0, 0.0],
                          [-1.2, -0.4, -0.6], [-0.2, -0.9, 0.0], [-1.5, -0.1, -0.3]], **f64)
hand_mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0], [1, 1, 1]], **f64)
hand_score = torch.tensor([0.2, 1.5, 0.9, -1.0, -0.3, -0.4], **f64)
chosen = select(hand_score, 3)
print("scores", hand_score.view(2, 3).tolist(), " shape (2 prompts, 3 answers)")
print("chosen rows", chosen.tolist(), " shape", tuple(chosen.shape))
print("their tokens", hand_mask[chosen].sum(1).int().tolist(), " log-probs",
      hand_logp[chosen].tolist())
loss, _ = sft.sft_loss(hand_logp[chosen], hand_mask[chosen])
print(f"loss: ({2.0} + {0.3} + {0.2} + {0.9}) / 4 tokens = {loss.item():.4f}")
claim("by hand: rows one and four are chosen, and their loss is 3.4 nats over four tokens",
      chosen.tolist() == [1, 4] and abs(loss.item() - 3.4 / 4) < 1e-12)

# %%
slope = {}
for name in ("SFT on the selected", "REINFORCE, reward 0 or 1"):
    leaf = hand_logp.clone().requires_grad_()
    if name.startswith("SFT"):
        value, _ = sft.sft_loss(leaf[chosen], hand_mask[chosen], denominator=6)
    else:
        taken = torch.zeros(6, **f64)
        taken[chosen] = 1.0
        value, _ = reinforce_loss(leaf, taken, hand_mask)
    slope[name] = torch.autograd.grad(value, leaf)[0]
    print(f"{name:<26} gradient of row 1: {[round(v, 4) for v in slope[name][1].tolist()]}")
claim("SFT on the selected rows, divided by all rows, is REINFORCE with reward one for selected",
      (slope["SFT on the selected"] - slope["REINFORCE, reward 0 or 1"]).abs().max() < 1e-12)

# %% [markdown]
# No baseline, no negative examples: a rejected answer is not pushed down, it is only missing. Chapter 11 adds both. The
# lesson's loop divides by kept tokens instead of all rows: the same direction within a batch, another step size.
#
# And the control? SFT on a model's own *random* answers has, at the first step and summed over tokens, the expected
# gradient $\sum_y\pi(y)\nabla\log\pi(y)=\nabla\sum_y\pi(y)=0$: on average, one's own answers teach nothing. What a
# random arm does in practice is mostly the noise of finite samples.

# %%
own = gradient((p * world.seq_logp(model)).sum(), model)
selected = gradient((law(p, liking, 4) * world.seq_logp(model)).sum(), model)
print("size of the expected gradient:",
      f"own answers {own.norm():.6f}, best of four {selected.norm():.6f}")
claim("SFT on one's own random answers has expected gradient zero; on the best of four it has not",
      own.norm() < 1e-12 < 0.01 < selected.norm())

# %% [markdown]
# ## The loop, round after round
#
# One round stands in the [lesson](../10_rejection_sampling.ipynb), line by line and with a matched control. What do four of them
# do, where finetuning is not perfect? A recorded run did it on the village: four rounds, from `village-3m-sft`, with
# fresh prompts each round; best of 8 by the *true* reward in one arm, a *random* one of the 8 in the other. Whatever
# happens to the random arm is the effect of training on oneself, not of selecting. The columns are the rounds, from
# 0 to 4: *gold* of a single answer, gold of the *best of n* = 8, how many of 8 answers to a prompt are *different*,
# and the entropy.

# %%
record = recorded("ch10_rounds")
table = {name: torch.tensor(x, **f64) for name, x in record.curve.items() if name != "arm"}
is_best = torch.tensor([arm == "best" for arm in record.curve["arm"]])


def arm_mean(column, arm):
    """Mean over seeds of a column for each round."""
    chosen = is_best == (arm == "best")
    return torch.stack([table[column][chosen & (table["round"] == k)].mean()
                        for k in range(int(table["round"].max()) + 1)])


print(f"{record.command}, seeds {record.seed}, {record.hardware}, {record.date}")
for arm in ("best", "random"):
    for column in ("gold", "best of n", "different", "entropy"):
        values = " ".join(f"{v:6.2f}" for v in arm_mean(column, arm).tolist())
        print(f"{arm:<7} {column:<10} {values}")

# %%
fig = line_plot({"policy: best of 8": arm_mean("entropy", "best"),
                 "reference: random": arm_mean("entropy", "random")},
                title="Selecting costs diversity, round after round", x_label="round",
                y_label="entropy, nats an answer",
                note=f"recorded, village-3m, seeds {record.seed}")
fig.axes[0].set_xticks(range(5))
show(fig,
     "Line plot of the entropy of an answer against the round of expert iteration: the arm that "
     "keeps the best falls below the arm that keeps a random answer.")
last = {arm: {c: arm_mean(c, arm)[-1].item() for c in ("gold", "entropy")}
        for arm in ("best", "random")}
rise = {c: (arm_mean(c, "best")[-1] - arm_mean(c, "best")[0]).item() for c in ("gold", "best of n")}
claim("recorded: in the last round the selecting arm has more gold, less entropy than its control",
      last["best"]["gold"] > last["random"]["gold"]
      and last["best"]["entropy"] < last["random"]["entropy"], kind="T")
claim("recorded: a single answer gained more than the best of eight answers did",
      rise["gold"] > rise["best of n"] + 0.1, rise, kind="T")
steps_up = arm_mean("gold", "best").diff()
claim("recorded: the second round gained less than the first", steps_up[1] < steps_up[0],
      {"first": steps_up[0].item(), "second": steps_up[1].item()}, kind="T")

# %% [markdown]
# Read the row *best of n* of the selecting arm too: what a perfect judge could pick among eight answers. The mean climbs
# towards this ceiling, the ceiling itself hardly moves: training re-weighs what the model already says. So few seeds
# are an anecdote, and nats an answer depend on length as well; the exact world is the proof.
#
# ## 10.8 Is the difference real?
#
# Two filters, two accuracies on two hundred test questions: 80 % and 77 %.<!-- fact --> The first is better? A rate
# from $n$ questions has a standard error, and a difference has both:
#
# $$\mathrm{SE}=\sqrt{\frac{p_1(1-p_1)}n+\frac{p_2(1-p_2)}n}$$
#
# *Said aloud: add the variances, then take the root.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $p_1,p_2$ | shares of right answers | `p1`, `p2` | numbers |
# | $n$ | questions for each | `items` | number |

# %%
p1, p2, items = 0.80, 0.77, 200
se = (p1 * (1 - p1) / items + p2 * (1 - p2) / items) ** 0.5
print(f"difference {p1 - p2:.2f}, standard error {se:.4f}, ratio {(p1 - p2) / se:.2f}")
print("95 % intervals:", *[f"[{a:.3f}, {b:.3f}]" for a, b in (wilson(v, items) for v in (p1, p2))])
k = torch.arange(items + 1, **f64)
same = torch.distributions.Binomial(items, torch.tensor((p1 + p2) / 2, **f64)).log_prob(k).exp()
together = same[:, None] * same[None, :]
chance = together[(k[:, None] - k[None, :]).abs() >= 5.5].sum().item()
print(f"filters of equal quality differ by six questions or more with probability {chance:.2f}")
claim("it is less than one standard error: equal filters differ as much about every other time",
      (p1 - p2) / se < 1 and 0.3 < chance < 0.6)

# %% [markdown]
# What helps? *Pairing*: both filters get the same prompts, and hard prompts are hard for both, so differences vary less
# than scores. Two judges of section 10.3, best of 4, on the 128 prompts of the Pool:

# %%
rivals = torch.stack([curve(s, gold, 64, (4,))[:, 0] for s in by_judge[:2]])
apart_se = (rivals.var(1).sum() / 128).sqrt().item()
paired_se = ((rivals[0] - rivals[1]).std() / 128**0.5).item()
claim("on the same prompts the paired standard error is less than half the other one",
      paired_se < apart_se / 2, {"paired": paired_se, "as if unpaired": apart_se}, kind="T")

# %% [markdown]
# ## Failure gallery
#
# Mistakes that run without an error, each with a detector of one line.
#
# **Failure 1: columns taken for rows (I1).** `argmax` over a matrix gives columns. The batch is flat.
#
# ```python
# rows = score.view(M, N).argmax(1)      # wrong: columns 0 … N − 1
# rows = select(score, N)                # right: row numbers of the whole batch
# ```
#
# What one sees: a training set of the right size, a loss that falls. But rows 0 … N − 1 all belong to the first prompt.
# The flat race where one winner a prompt was meant (section 10.4) is the same slip in reverse; it loses fewer prompts.

# %%
wrong_rows, right_rows = score.view(128, 64).argmax(1), select(score, 64)
own = torch.arange(128)
print(f"rows that belong to their prompt: wrong {(wrong_rows // 64 == own).sum()} of 128, "
      f"right {(right_rows // 64 == own).sum()} of 128")
claim("detector: row // group_size must be the prompt; it catches columns used as rows",
      (right_rows // 64 == own).all() and not (wrong_rows // 64 == own).all())

# %% [markdown]
# **Failure 2: a sort that selects nothing (I1, K59).** Sorting, and then undoing the sort, is a common snippet beside
# selection code. It is the identity. And rising order is not falling order.
#
# ```python
# order = score.argsort()
# back = score[order][order.argsort()]      # `score` again: nothing was selected
# rows = score.argsort()[:k]                # wrong: the k *worst*
# rows = top_overall(score, k)              # right
# ```

# %%
order = score.argsort()
back = score[order][order.argsort()]
worst_rows, best_rows = order[:keep], top_overall(score, keep)
print("the round trip gives the scores back:", bool((back == score).all()))
claim("the round trip selects nothing; detector: what was kept must score above the mean of all",
      (back == score).all() and score[best_rows].mean() > score.mean() > score[worst_rows].mean())

# %% [markdown]
# **Failure 3: ties decide.** With the true reward, or any 0/1 reward, hundreds of answers share the top score. In a race
# by a stable sort, the first prompts of the file fill all places.
#
# ```python
# rows = top_overall(reward, k)                     # wrong with ties: the head of the file
# rows = top_overall(reward + 1e-6 * noise, k)      # right: ties at random
# ```

# %%
file_rows = top_overall(gold, keep)
tied = (gold == gold.max()).sum().item()
place = {"ties by file": file_rows.double().mean().item() / len(gold),
         "ties at random": fair.double().mean().item() / len(gold)}
claim("detector: more answers share the top than there are places, and the kept stand first",
      tied > keep and place["ties by file"] < 0.2 and abs(place["ties at random"] - 0.5) < 0.1,
      place, kind="T")

# %% [markdown]
# **Failure 4: the treatment read more than the control.** A reward model that likes length selects long answers. Then
# what looks like better data is more data. The fix is to match tokens, not rows.
#
# ```python
# print(lengths[selected].sum() / lengths[control].sum())      # detector: log this ratio
# ```

# %%
lengths = main.lengths[rows].double()
wordy = lengths + 0.1 * score  # a judge that loves length
ratio = {name: (lengths[select(s, 64)].sum() / lengths[random_per_prompt(
    len(lengths), 64, generator=run.fresh("tokens"))].sum()).item()
         for name, s in (("learned judge", score), ("lover of length", wordy))}
claim("detector: the ratio of tokens gives the lover of length away", ratio["lover of length"] > 1.2
      and abs(ratio["learned judge"] - 1) < ratio["lover of length"] - 1, ratio, kind="T")

# %% [markdown]
# **Failure 5: text cut before its end.** To save time the scorer reads the first few tokens. No error, and the scores
# look sensible: they even beat a blind choice. Here the cut text is scored by the *true* reward, the whole is kept.
#
# ```python
# score = [gold(q, decode(tokenizer, ids[:8])) for …]      # wrong: a promise, not an answer
# print((last_scored == eos).float().mean())               # detector: how many scored texts end?
# ```

# %%
tokenizer = load("village-3m-sft")[1]
few = rows.view(128, 64)[:, :8].flatten().tolist()  # eight answers a prompt
ends_at = main.lengths[few].clamp(max=8)
cut_texts = [decode(tokenizer, main.ids[i, :at].tolist())
             for i, at in zip(few, ends_at.tolist(), strict=True)]
cut_gold = torch.tensor([village.gold(main.prompts[main.prompt[i]], text)
                         for i, text in zip(few, cut_texts, strict=True)], **f64)
few_gold, eos = main.gold[few].double(), tokenizer.eos_token_id
by_whole, by_cut = (curve(s, few_gold, 8, [8])[:, 0] for s in (few_gold, cut_gold))
price = ends(by_whole - by_cut)
ended = {name: (main.ids[few, at - 1] == eos).double().mean().item()
         for name, at in (("whole", main.lengths[few]), ("cut", ends_at))}
claim("choosing by cut text keeps less true reward than choosing by whole answers", price[0] > 0,
      {"by whole": by_whole.mean().item(), "by cut": by_cut.mean().item(), "lower end": price[0],
       "blind": few_gold.mean().item()}, kind="S")
claim("detector: nearly all whole texts end in the end token, few of the cut ones do",
      ended["whole"] > 0.9 and ended["cut"] < 0.3, ended, kind="T")

# %% [markdown]
# ## At GPT-2 size
#
# The same calls on SmolLM2-135M-Instruct. The reward needs no judge: **short words** (minus the mean number of letters
# in a word). Six answers to each question, the best one kept, a few steps of SFT with LoRA. Then *new* questions. It
# shows that the calls work outside the village; it is no recipe.

# %%
SUBJECTS = ("rain", "honey", "the moon", "bread", "chess", "a river", "sleep", "wool",
            "salt", "an owl", "music", "glass", "snow", "tea")
if available("smollm2-135m"):
    small, small_tokenizer = load("smollm2-135m")
    small_policy = lora(small, r=8)
    small_ids = data.prompts_ids([{"prompt": f"What is {s}?"} for s in SUBJECTS], small_tokenizer)

    def small_answers(n, name, ids):
        """n answers a prompt of at most 24 tokens -> texts, scores (float64)."""
        out = sample(small_policy, ids, n=n, max_new_tokens=24,
                     eos_id=small_tokenizer.eos_token_id, generator=run.fresh(name))
        texts = out.texts(small_tokenizer)
        return texts, torch.tensor([-sum(map(len, t.split())) / max(1, len(t.split()))
                                    for t in texts], **f64)

    small_texts, small_score = small_answers(6, "grow", small_ids[:8])
    small_curve = curve(small_score, small_score, 6, (1, 2, 3, 4, 5, 6)).mean(0)
    small_rows = select(small_score, 6).tolist()
    claim("the curve ends at the mean over questions of the best of all six scores",
          abs(small_curve[-1] - small_score.view(-1, 6).amax(1).mean()) < 1e-9)

# %%
if available("smollm2-135m"):
    before_texts, before = small_answers(2, "unseen", small_ids[8:])
    small_lessons = data.collate_demonstrations(
        [{"prompt": f"What is {SUBJECTS[i // 6]}?", "completion": small_texts[i]}
         for i in small_rows], small_tokenizer)
    small_optimizer = torch.optim.AdamW(
        [w for w in small_policy.parameters() if w.requires_grad], lr=2e-3)
    losses = [sft.step(small_policy, small_optimizer, small_lessons)["loss"].item()
              for _ in every(3, 3)]
    after_texts, after = small_answers(2, "unseen", small_ids[8:])

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
if available("smollm2-135m"):
    print(f"letters a word, seen questions: one answer {-small_curve[0]:.2f}, "
          f"best of six {-small_curve[5]:.2f}")
    print(f"letters a word, new questions: before {-before.mean():.2f}, after {-after.mean():.2f}")
    for i in (0, 2):
        print(f"PROMPT  What is {SUBJECTS[8 + i // 2]}?")
        for name, texts in (("before", before_texts), ("after", after_texts)):
            print(f"  {name:<7} {' / '.join(texts[i].split(chr(10)))[:140]}")

# %%
if available("smollm2-135m"):
    claim("finetuning on the eight kept answers lowers their loss", losses[-1] < losses[0] - 0.1,
          {"first": losses[0], "last": losses[-1]}, kind="T")

# %% [markdown]
# The kept answers are learned. Whether *new* questions get shorter words, three steps and twelve answers cannot say; the
# seeds disagree. A longer recorded run, with its random control, stands in the lesson.

# %% [markdown]
# ## Exercises
#
# Each check says *which* idea was behind a wrong answer.
#
# ### Exercise 10.4 · How loose is the bound? · difficulty 3 of 5 · 15 minutes (estimated) · needs: 10.2
#
# First derive the formula, for a reward without ties and very many answers: what is $\pi_n/\pi$, in terms of $F$? Then
# return bound minus exact KL, in nats. Is it looser for many rare answers, or for a few frequent ones?

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex10-4", "locked": false, "schema_version": 3, "solution": true, "task": false}
def slack(probability, reward, n):
    """(N,), (N,) float64, samples -> bound minus exact KL, nats."""
    ### BEGIN SOLUTION
    # no ties, many answers: u = F(y) is uniform on [0, 1] under pi, and pi_n / pi = n u^(n-1).
    # Under pi_n, u^n is uniform, so E log u = -1/n: KL = log n + (n-1) E log u = log n - (n-1)/n
    q = law(probability, reward, n)
    exact = torch.special.xlogy(q, q / probability).sum()
    return kl_bound(n) - exact.item()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex10-4-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("10.4", slack)
### BEGIN HIDDEN TESTS
check("10.4", slack, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# `law` gives the distribution of what best-of-n hands out. The KL is *its* average log-ratio.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# $\sum_y\pi_n(y)\log\frac{\pi_n(y)}{\pi(y)}$; `torch.special.xlogy` takes care of 0 log 0.
#
# </details>
#
# *You should now be able to say* when the formula is an equality.
#
# <!-- solution 10.4 -->
#
# ### Exercise 10.5 · How hot? · difficulty 3 of 5 · 15 minutes (estimated) · needs: 10.2
#
# Sampling at temperature T means probabilities proportional to $e^{\log\pi/T}$. Which of the offered temperatures
# gives the kept answer of best-of-n the highest expected reward? Guess first, for a reward that on the whole prefers
# likely answers: is it hotter or colder than for a single answer?

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex10-5", "locked": false, "schema_version": 3, "solution": true, "task": false}
def best_temperature(logp, reward, n, temperatures):
    """(N,), (N,) float64, samples, a list -> the best of these temperatures for best-of-n."""
    ### BEGIN SOLUTION
    def worth(t):
        heated = torch.softmax(logp / t, 0)
        return (law(heated, reward, n) @ reward).item()
    return max(temperatures, key=worth)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex10-5-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("10.5", best_temperature)
### BEGIN HIDDEN TESTS
check("10.5", best_temperature, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# Heat the policy first, take the law of best-of-n of the *heated* policy, then the mean reward.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# `torch.softmax(logp / t, 0)` is the heated policy; compare $\pi_n\cdot r$ for every t.
#
# </details>
#
# *You should now be able to say* why a choice among many pays for more heat, and what is lost at both ends.
#
# <!-- solution 10.5 -->
#
# ### Exercise 10.6 · A detector for levers · difficulty 4 of 5 · 20 minutes (estimated) · needs: 10.3, 10.8
#
# A filter can be hacked without any optimiser: whatever the score loves, it selects. Write the detector. For each
# prompt take a feature (length, say) of the answer with the best score, minus the mean of that feature over all
# answers of the *same* prompt. Return the mean of these shifts divided by its standard error.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex10-6", "locked": false, "schema_version": 3, "solution": true, "task": false}
def drift(score, feature, group_size):
    """(B,), (B,) prompt-major, answers a prompt -> mean shift in units of its standard error."""
    ### BEGIN SOLUTION
    shift = feature[select(score, group_size)] - feature.view(-1, group_size).mean(1)
    return (shift.mean() / (shift.std() / len(shift) ** 0.5)).item()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex10-6-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("10.6", drift)
### BEGIN HIDDEN TESTS
check("10.6", drift, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# `select` says which row each prompt keeps. The control is the mean of that prompt's own answers.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# One shift a prompt; their standard deviation, unbiased, over the root of their number is the standard error.
#
# </details>
#
# *You should now be able to say* how a filter can be hacked although nothing was trained.
#
# <!-- solution 10.6 -->
#
# ## Questionnaire
#
# 1. What does top-per-prompt guarantee that top-overall does not?
# 2. Why may scores of different prompts not be comparable, even from a good reward model?
# 3. When is $\log n-\frac{n-1}n$ the KL of best-of-n, and when is it too large?
# 4. Why is the mean over all n-subsets better than the first n samples?
# 5. What is the matched control of the best per prompt? And of the best overall?
# 6. Why may two rewards of the same accuracy buy different amounts?
# 7. With which probability does true rejection sampling keep an answer, and what comes out?
# 8. Which policy gradient is SFT on selected samples?
# 9. Two filters differ by one standard error. What do you conclude?
#
# <details><summary>Answers</summary>
#
# 1. Every prompt keeps an answer. 2. Comparisons were made within prompts; a constant for each prompt leaves the loss
# unchanged. 3. At n = 1, or in the limit where no two draws tie or repeat; too large when a few answers carry much
# probability. 4. It uses all samples, so it is unbiased with less variance. 5. A random answer of each prompt; equally
# many random answers of the whole. 6. Independent errors spare some of the good answers; a systematic one lifts a whole
# kind, and the maximum finds it. 7. $e^{(r-r_{\max})/\beta}$; exactly the tilted policy. 8. REINFORCE with reward one
# for what was kept, zero for the rest, and no baseline. 9. That either may be the better.
#
# </details>
#
# ## Where the book and its code differ
#
# All at commit a66b0bf.
#
# - **Two ways of counting.** The chosen columns in
#   [eq:rs_example_selection_result](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_example_selection_result)
#   count from one, the flat positions in
#   [eq:rs_example_topk_result](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_example_topk_result) from zero; in
#   section 10.1 they stand side by side.
# - **Rising and falling.** [eq:rs_topk_selection](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_topk_selection)
#   takes the last K of a rising sort, so its best answer comes *last*; the list in the example begins with the best.
# - **The snippet after the example** sorts and undoes the sort: [failure 2](#Failure-gallery). **The name** is that of
#   another method: [section 10.6](#10.6-What-the-name-used-to-mean).
# - **The reference runs** of the book's code come with matched random controls, as they should; its README calls their small
#   gaps slice noise. (The two numbers of section 10.8 are from the description of PR #357, which was closed as superseded.)<!-- fact -->
#
# ## Summary
#
# Rejection sampling keeps the best of what a model already says and finetunes on it. The first few samples buy most; a
# learned reward then stops, because it selects its own mistakes as well; a perfect one gains ever less, but goes on. The cost in KL
# is known exactly where the answers can be listed, the famous formula is a bound, and best-of-n came close to the
# frontier. What is thrown away quietly is diversity, round after round, and whole prompts, if one races all answers
# against each other. Every such statement needs a matched random control and a standard error.
#
# **Functions you now know**: `best_of_n.select`, `best_of_n.law`, `best_of_n.kl_bound`, `best_of_n.curve`,
# `filtering.top_per_prompt`, `filtering.top_overall`, `filtering.random_per_prompt`, `filtering.accept`, `sft.step`.
#
# **Further reading**: Nakano et al. 2021, [arXiv 2112.09332](https://arxiv.org/abs/2112.09332), the unbiased curve in
# its appendix; Gao et al. 2022, [arXiv 2210.10760](https://arxiv.org/abs/2210.10760), best-of-n when the proxy is
# pushed far; Gulcehre et al. 2023, [arXiv 2308.08998](https://arxiv.org/abs/2308.08998), ReST; Liu et al. 2023,
# [arXiv 2309.06657](https://arxiv.org/abs/2309.06657), the statistical rejection sampler brought back.
#
# <!-- nav -->
