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
# # 7 · Reward modeling, deeper
#
# **Promise.** You will prove what a loss on comparisons finds and what it cannot see, compare rankings, margins and ties, read outcome and process models as what they are, and train a whole network until it beats a linear head.
#
# The lesson [Reward modeling](../07_reward_modeling.ipynb) tells the story: the head and its loss, the token that is read, noise against bias, four models that score. This page assumes it. Companion to [Reward Models](https://rlhfbook.com/c/05-reward-models) (chapter 5 of today's book) in Nathan Lambert's *Reinforcement Learning from Human Feedback*.
#
# <!-- edition -->
#
# <!-- nav -->

# %% [markdown]
# > **You need** the lesson.
# >
# > **You will be able to** say what the minimum of the loss is, and in which unit a reward model measures · choose between pairs, rankings and margins · tell an outcome model from a value function, and a calibrated one from one that is fit for choosing · find and remove a bias whose column you know · train the whole network.
# >
# > **Costs**: <!-- costs -->. **Models** behind the stored outputs: `village-3m-sft`, three million parameters, and the stored samples in `data/pool`, both made by `make models`; `smollm2-135m` in the section [At GPT-2 size](#At-GPT-2-size).

# %%
import copy
import math
import random

import torch
import torch.nn.functional as F

import rlhf_minimal as rlhf
from rlhf_minimal import data, process_reward, reward_model, village
from rlhf_minimal.best_of_n import select
from rlhf_minimal.book import available, begin, check, claim, recorded
from rlhf_minimal.book import show, show_source
from rlhf_minimal.book.plots import line_plot, recorded_plot
from rlhf_minimal.chat import encode_completion, encode_prompt
from rlhf_minimal.evaluate import comparisons, expected_calibration_error
from rlhf_minimal.evaluate import spearman, sums, wilson
from rlhf_minimal.evaluate.metrics import base_rate_shift, reliability
from rlhf_minimal.reward_model import RewardModel, fit_head, pairwise_loss
from rlhf_minimal.tensors import last_index, pad_right

run = begin(7)
f64 = {"dtype": torch.float64}

# %% [markdown]
# ## The question
#
# **What is a score, exactly: in which unit, up to what, and for which answers?**
#
# The material is that of the lesson: all pairs of different answers of `village-3m-sft` to one prompt, every fourth prompt held out, and people who see the true reward, `gold`, with noise or with a bias. Two of them are the lesson's kinds, a *noisy* and a *wordy* person (with a larger noise here). `label` draws what a person chooses.
#
# **Predict before you scroll.** A linear head on frozen states was fitted to some 760 comparisons of answers to requests for help. Now the *whole* network is trained on the same labels, once, starting from that head. On unseen pairs, will it agree with the truth (a) less often, because it overfits noisy labels; (b) as often; (c) more often? (Settled in [The loop](#The-loop:-one-whole-reward-model).)

# %%
some = comparisons.stored()
gold, words, states = some.gold, some.words, some.states
train, test = some.train, some.test
NOISY = village.Annotator(name="noisy", temperature=2.0)  # honest, often wrong
WORDY = village.Annotator(name="wordy", temperature=0.25, length_bias=2.5)
CAREFUL = village.Annotator(name="careful", temperature=1.0)


def label(two, person, dice):
    """(N, 2) places -> (N, 2): chosen, rejected, drawn as the person would."""
    first = torch.rand(len(two), generator=dice, **f64) < some.prefers(person, two)
    return torch.where(first[:, None], two, two.flip(1))


agree = {person: some.agreement(person) for person in (NOISY, WORDY)}
claim("both people beat a coin, and are wrong about every fifth pair or more",
      0.55 < min(agree.values()) and max(agree.values()) < 0.8,
      {person.name: x for person, x in agree.items()}, kind="T")

# %% [markdown]
# ## 7.1 What the loss recovers, and what it cannot say
#
# The lesson derives the loss from strengths ([eq:bradterry](https://rlhfbook.com/c/05-reward-models#eq:bradterry), [eq:bradterry_unbounded](https://rlhfbook.com/c/05-reward-models#eq:bradterry_unbounded), [eq:bradterryrm](https://rlhfbook.com/c/05-reward-models#eq:bradterryrm), [eq:bradterryrm_sigmoid](https://rlhfbook.com/c/05-reward-models#eq:bradterryrm_sigmoid), [eq:bradterryrm_deriv](https://rlhfbook.com/c/05-reward-models#eq:bradterryrm_deriv)). The book prints it twice ([eq:rewardmodeling1](https://rlhfbook.com/c/05-reward-models#eq:rewardmodeling1), [eq:rewardmodeling2](https://rlhfbook.com/c/05-reward-models#eq:rewardmodeling2)):
#
# $$\mathcal L=-\log\sigma\big(r(x,y_c)-r(x,y_r)\big)=\log\big(1+e^{\,r(x,y_r)-r(x,y_c)}\big)$$
#
# *Said aloud: pay for every pair in which the chosen answer does not score clearly above the rejected one.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $x$ | prompt | `some.asked(rows)` | text |
# | $y_c,y_r$ | chosen, rejected answer | columns of `label(...)` | (N,) places |
# | $r$ | reward: one number an answer | `chosen`, `rejected` | (N,) |
# | $\sigma$ | logistic function | `torch.sigmoid` | – |

# %%
show_source(pairwise_loss)

# %%
c, r = torch.tensor([1.5], **f64), torch.tensor([0.5], **f64)
strength = torch.cat([c, r]).exp()
win = (strength[0] / strength.sum()).item()
second = torch.log(1 + torch.exp(r - c)).item()
loss, _ = pairwise_loss(c, r)
sigma = torch.sigmoid(c - r).item()
print(f"P(chosen wins): strengths {win:.6f}, difference {sigma:.6f}")
print(f"second form {second:.6f}   package {loss.item():.6f}")
claim("strengths, scores and both forms of the loss are one model",
      abs(loss.item() - second) < 1e-12 and abs(win - sigma) < 1e-12
      and abs(loss.item() - 0.313262) < 1e-6)
scores = torch.tensor([[1.5, 0.5], [-0.2, 0.4], [3.0, 0.0]], **f64)
plain, doubled = (pairwise_loss(*x.T)[0] for x in (scores, 2 * scores))
print(f"loss {plain.item():.6f}, scores doubled {doubled.item():.6f}")
claim("the scale is seen: doubled scores have another loss",
      abs(plain - doubled) > 0.01)

# %% [markdown]
# A number for each prompt may be added (lesson); nothing may be multiplied.
#
# **What it recovers.** Suppose a person chooses by Bradley–Terry with a true reward $r^\star$ and temperature $\tau$ (how noisy they are), that we had infinitely many labels, and that every answer has a score of its own. The minimum should be $r^\star/\tau$, up to a constant that no gradient moves. Newton's method tries it from two starts. (Look at `slope`: the fit is done when each answer wins as often as predicted.)

# %%
truth = torch.tensor([0.0, 0.5, 1.2, 2.0, 2.1, 3.0], **f64)
chance = torch.sigmoid((truth[:, None] - truth) / 2.0)  # P(row beats column), τ = 2


def newton(score, chance, steps=30):
    """Minimise the expected loss over all ordered pairs, (K,), (K, K) -> (K,)."""
    for _ in range(steps):
        p = torch.sigmoid(score[:, None] - score[None, :])
        slope, curvature = (p - chance).sum(1), p * (1 - p)  # predicted minus real wins
        hessian = curvature.sum(1).diag() - curvature
        score = score - torch.linalg.pinv(hessian, rtol=1e-9) @ slope
    return score


zero, five = (newton(torch.full((6,), s, **f64), chance) for s in (0.0, 5.0))
print("true reward / 2 :", [f"{v:.4f}" for v in (truth / 2).tolist()])
print("found from 0    :", [f"{v:.4f}" for v in zero.tolist()])
print("found from 5    :", [f"{v:.4f}" for v in five.tolist()])
claim("the minimum of the expected loss is the true reward over the temperature, "
      "up to a constant",
      (zero - zero.mean() - (truth - truth.mean()) / 2).abs().max() < 1e-9)
claim("the constant is whatever the start put there: no comparison can move it",
      abs(zero.mean()) < 1e-9 and abs(five.mean() - 5) < 1e-9)

# %% [markdown]
# **What if people are not like that?** Three answers; rock beats scissors, scissors beat paper, paper beats rock,
# each nine times in ten. No reward can say so. Bradley–Terry does not complain: it finds three equal scores and a
# loss of $\log 2$, the same as for a person who tosses coins. A high loss does not say whether the *people* are noisy
# or the *model* is wrong.

# %%
cycle = torch.tensor([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]], **f64)
flat = newton(torch.tensor([0.4, -0.1, 0.2], **f64), cycle)
gaps = flat[:, None] - flat[None, :]
paid = -(cycle * F.logsigmoid(gaps)).sum() / cycle.sum()
print(f"largest gap {gaps.abs().max().item():.4f}, loss {paid.item():.6f}")
claim("a strong but circular preference becomes three equal scores",
      gaps.abs().max() < 1e-9 and abs(paid - math.log(2)) < 1e-9)

# %% [markdown]
# ## 7.2 In which unit does it measure?
#
# What climbs the score later (chapter 8) weighs distances, too. Section 7.1 promised $r^\star/\tau$ up to a constant. So regress a pupil's score differences on the true differences: the slope should be $1/\tau$. Two pupils, as in the lesson: one sees the facts that gold is made of, one is a linear head on the network's frozen states. And ask how often each agrees with *new labels* of its teacher. Ten sets of labels.

# %%
features, HEAD_L2, N_LABELS = some.truth(), 0.1, 4096
true_gap = gold[test[:, 0]] - gold[test[:, 1]]
slopes = {"features": [], "states": []}
hits = {"features": [], "states": [], "truth": []}
for seed in range(10):
    dice = run.fresh(f"slope {seed}")
    labels = some.label(NOISY, N_LABELS, dice)
    first = label(test, NOISY, dice)[:, 0] == test[:, 0]  # new labels
    hits["truth"].append(((true_gap > 0) == first).double().mean().item())
    for name, x, l2 in (("features", features, 1e-5), ("states", states, HEAD_L2)):
        r_hat = x @ fit_head(x[labels[:, 0]], x[labels[:, 1]], l2=l2)
        r_gap = r_hat[test[:, 0]] - r_hat[test[:, 1]]
        slope = (true_gap @ r_gap / (true_gap @ true_gap)).item()
        slopes[name].append(slope * NOISY.temperature)
        hits[name].append(((r_gap > 0) == first).double().mean().item())
slopes, hits = ({k: torch.tensor(x) for k, x in y.items()} for y in (slopes, hits))

# %%
half = (3 * slopes["features"].std() / 10**0.5).item()
claim("slope times temperature is one within ten per cent: the true reward, "
      "in units of the noise", abs(slopes["features"].mean() - 1) + half < 0.1,
      {"mean": slopes["features"].mean().item(), "3 standard errors": half}, kind="S")
claim("the head on frozen states has a far smaller slope", slopes["states"].max() < 0.5,
      {"times temperature, mean": slopes["states"].mean().item()}, kind="T")
over = hits["features"] - hits["truth"]
claim("on new labels of the noisy person no student beats the truth itself: "
      "that is the ceiling", over.mean() - 3 * over.std() / 10**0.5 < 0
      and hits["states"].mean() < hits["truth"].mean() - 0.02,
      {name: x.mean().item() for name, x in hits.items()}, kind="S")

# %% [markdown]
# So a reward model's *unit* is the labeller's noise. For the same truth, data from a careful person (small τ) gives large
# scores, data from a hurried one small scores, and a penalty weight β (chapter 8) tuned on one does not fit the other. The
# head's scores are flatter still: its penalty shrinks them, and they follow only what the states show of the truth.
#
# Read the last claim again: measured by a noisy person's labels, a nearly perfect student looks poor.
#
# The frozen head at three noise levels:

# %%
levels = {0.25: "τ = ¼", 1.0: "τ = 1", 4.0: "τ = 4"}
HEAD_SIZES = [128, 512, 2048, len(train)]
heads = {tau: some.students(village.Annotator(temperature=tau), HEAD_SIZES, l2=HEAD_L2,
                            seeds=run.seeds(3)) for tau in levels}
powers = [math.log2(n) for n in HEAD_SIZES]
roles = {"τ = ¼": "policy", "τ = 1": "proxy", "τ = 4": "rejected"}
show(line_plot({levels[tau]: (powers, heads[tau].mean(0)) for tau in levels},
               zero=False, roles=roles,
               title="More labels help; the noisiest labels stay behind",
               x_label="number of labels, log₂ (7 is 128)",
               y_label="agreement with the truth",
               note="linear head on village-3m-sft, 3 label sets"),
     "Line plot of agreement with the truth on held-out pairs against the number of "
     "labels, for three noise levels of the labeller: the noisiest labels stay lowest.")

# %%
final = {tau: heads[tau].mean(0)[-1].item() for tau in levels}
claim("more labels help the heads of the two less noisy people; "
      "the noisiest one's ends last",
      all(heads[tau][:, -1].mean() > heads[tau][:, 0].mean() for tau in (0.25, 1.0))
      and final[4.0] < min(final[0.25], final[1.0]) - 0.01,
      {f"tau {tau}": x for tau, x in final.items()}, kind="T")

# %% [markdown]
# *Noise* costs labels. *Representation* costs accuracy, however many labels there are. (The curves still rise at their right end, so the plot does not show that ceiling.) Training the whole network helps: see [The loop](#The-loop:-one-whole-reward-model).
#
# ## 7.3 Rankings, margins and two settings
#
# **Rankings.** InstructGPT's labellers ranked 4 to 9 answers at once. Two losses fit: all pairs of a prompt, averaged within the prompt ([eq:rewardmodelinginstructgpt](https://rlhfbook.com/c/05-reward-models#eq:rewardmodelinginstructgpt)), or the Plackett–Luce model: choose the best, then the best of the rest ([eq:kwise_rm](https://rlhfbook.com/c/05-reward-models#eq:kwise_rm)):
#
# $$\mathcal L_{\text{pairs}}=-\binom K2^{-1}\sum_{i\succ j}\log\sigma(r_i-r_j),\qquad
#   \mathcal L_{\text{PL}}=-\log\prod_{k=1}^{K}\frac{e^{r_{(k)}}}{\sum_{j\ge k}e^{r_{(j)}}}$$
#
# *Said aloud: every pair is a comparison, or the ranking is a race that is run again after each winner has left.*
#
# **Margins.** If the labeller also said *how much* better, Llama 2 asked the scores to be that far apart ([eq:rewardmodelingmargin](https://rlhfbook.com/c/05-reward-models#eq:rewardmodelingmargin); you wrote this loss in exercise 7.7 of the lesson):
#
# $$\mathcal L=-\log\sigma\big(r_c-r_r-m\big)$$
#
# *Said aloud: it is not enough to win, win by m.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $K$ | answers to one prompt | `4` | one number |
# | $r_{(k)}$ | score of the answer ranked k-th | `scores.gather(1, ranking)` | (B, K) |
# | $m$ | margin asked for | `margin` | (N,) or a number |

# %%
show_source(reward_model.plackett_luce_loss, reward_model.all_pairs_loss)

# %%
three = torch.tensor([[0.0, 1.0, 2.0]], **f64)
order = torch.tensor([[2, 1, 0]])  # the best first
e = math.e
race = -(math.log(e**2 / (1 + e + e**2)) + math.log(e / (1 + e)))
all_three = (2 * math.log(1 + 1 / e) + math.log(1 + 1 / e**2)) / 3  # gaps 1, 1 and 2
race_here, pairs_here = (loss_of(three, order)[0].item() for loss_of in
                         (reward_model.plackett_luce_loss, reward_model.all_pairs_loss))
print(f"Plackett–Luce by hand {race:.6f}   package {race_here:.6f}")
print(f"all pairs by hand     {all_three:.6f}   package {pairs_here:.6f}")
claim("both losses equal the hand computation",
      abs(race_here - race) < 1e-12 and abs(pairs_here - all_three) < 1e-12)
two = torch.randn(20, 2, generator=run.generator, **f64)
best = torch.tensor([[0, 1]]).expand(20, 2)
claim("with two answers Plackett–Luce is Bradley–Terry", abs(
    reward_model.plackett_luce_loss(two, best)[0] - pairwise_loss(*two.T)[0]) < 1e-12)
with_margin = pairwise_loss(c, r, margin=1.0)[0].item()
claim("a margin raises the loss: a gap of one that must be one costs as much as a tie",
      abs(with_margin - math.log(2)) < 1e-12)

# %% [markdown]
# What is a ranking worth? The noisy person ranks the four answers of 192 prompts. Three students see one pair of each
# ranking, all six pairs, or the whole ranking by Plackett–Luce. Ten repetitions.

# %%
wide = some.answers
four = torch.stack([
    rows for rows in wide.groups().values()
    if wide.prompt[rows[0]] % 4 != 3 and len(wide.ids[rows].unique(dim=0)) == 4])


def felt(u, tau, dice):
    """Utility plus Gumbel noise: sorted, a draw from Plackett–Luce."""
    return u - tau * (-torch.rand(u.shape, generator=dice, **f64).log()).log()


def fit_ranking(x, l2=1e-3):
    """The reward with least Plackett–Luce loss; x (B, K, F) best first -> (F,)."""
    scale = (x - x.mean(1, keepdim=True)).square().mean((0, 1)).sqrt().clamp(min=1e-6)
    w = torch.zeros(x.shape[-1], requires_grad=True, **f64)
    ranking = torch.arange(x.shape[1]).expand(x.shape[:2])
    search = torch.optim.LBFGS([w], max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        search.zero_grad()
        total = reward_model.plackett_luce_loss((x / scale) @ w, ranking)[0]
        (total + l2 / 2 * w @ w).backward()
        return total + l2 / 2 * w @ w
    search.step(closure)
    return (w / scale).detach()

# %%
worth = {"one pair": [], "six pairs": [], "ranking": []}
for seed in range(10):
    dice = run.fresh(f"rankings {seed}")
    kept = four[torch.randperm(len(four), generator=dice)[:192]]
    ranked = kept.gather(1, felt(gold[kept], 2.0, dice).argsort(1, descending=True))
    six = ranked[:, torch.combinations(torch.arange(4))]  # (B, 6, 2), chosen first
    one = six[torch.arange(len(six)), torch.randint(6, (len(six),), generator=dice)]
    for name, two in (("one pair", one), ("six pairs", six.flatten(0, 1))):
        w = fit_head(features[two[:, 0]], features[two[:, 1]])
        worth[name].append(some.right(features @ w))
    worth["ranking"].append(some.right(features @ fit_ranking(features[ranked])))
worth = {name: torch.tensor(x) for name, x in worth.items()}
gain = worth["ranking"] - worth["one pair"]
claim("a ranking of four teaches more than one pair of it",
      gain.mean() - 3 * gain.std() / 10**0.5 > 0,
      {name: x.mean().item() for name, x in worth.items()}, kind="S")

# %% [markdown]
# Which loss on whole rankings is ahead, we do not claim: both are right for a labeller who ranks by Plackett–Luce.
# InstructGPT reports that pairs of one prompt should stay in one batch: shuffled, each answer is read K − 1 times (three here) in
# one "epoch", and the network overfits. That is not run here (a head solved to its minimum has no batches).
#
# Now margins. 512 labels of the noisy person; a careful second rater says how far apart the two answers are (here: the
# true distance). Three students: no margin, this one, and the same margins dealt out at random. **Predict**: do those harm?

# %%
with_m = {"none": [], "rated": [], "random": []}
for seed in range(10):
    dice = run.fresh(f"margins {seed}")
    pairs = some.label(NOISY, 512, dice)
    rated = (gold[pairs[:, 0]] - gold[pairs[:, 1]]).abs()
    dealt = rated[torch.randperm(len(rated), generator=dice)]
    for name, m in (("none", 0.0), ("rated", rated), ("random", dealt)):
        w = fit_head(features[pairs[:, 0]], features[pairs[:, 1]], margin=m, l2=1e-2)
        with_m[name].append(some.right(features @ w))
with_m = {name: torch.tensor(x) for name, x in with_m.items()}
gain, harm = (with_m[name] - with_m["none"] for name in ("rated", "random"))
claim("margins that say how far apart two answers are make a better student "
      "of the same labels", gain.mean() - 3 * gain.std() / 10**0.5 > 0,
      {name: x.mean().item() for name, x in with_m.items()}
      | {"random - none": harm.mean().item(),
         "3 errors": 3 * harm.std().item() / 10**0.5}, kind="S")

# %% [markdown]
# The true margins are extra information, nearly a rating. Your prediction: compare "random - none" with its three errors. Random margins do little either way to a *linear* student: a margin is as good as the rating behind it.
#
# **Two settings.** *Label smoothing* ε says "this share of the labels is wrong" and keeps the gap finite: its minimum is where $\sigma(\Delta)=1-\varepsilon$. *Centring* adds $c\,(r_c+r_r)^2$, the only term that sees the constant of section 7.1, and so fixes it at zero.

# %%
gap = torch.linspace(0, 6, 601, **f64)
nil = torch.zeros(1, **f64)
smooth = torch.stack([pairwise_loss(g[None], nil, label_smoothing=0.1)[0] for g in gap])
print(f"smoothing 0.1: the loss is least at a gap of {gap[smooth.argmin()].item():.2f}")
shifts = torch.linspace(-3, 3, 61, **f64)
centred = torch.stack([pairwise_loss(c + s, r + s, center=0.01)[0] for s in shifts])
best_shift = shifts[centred.argmin()].item()
print(f"centring 0.01: 1.5 and 0.5 are cheapest when shifted by {best_shift:.2f}")
claim("label smoothing of a tenth puts the best gap at log 9",
      abs(gap[smooth.argmin()].item() - math.log(9)) < 0.01)
claim("with centring a constant shift is no longer free, and the cheapest one centres "
      "the pair", abs(best_shift + 1) < 1e-9)

# %% [markdown]
# ## 7.4 Outcomes and steps
#
# The lesson says which token gets which label. Here are the equations, with $z\in\{0,1\}$ and $s_t=\sigma(\text{logit}_t)$: an **outcome reward model** (ORM) predicts the result at *every* token ([eq:orm_token_loss](https://rlhfbook.com/c/05-reward-models#eq:orm_token_loss)), a **process reward model** (PRM) each *step* at its last token ([eq:prm_loss](https://rlhfbook.com/c/05-reward-models#eq:prm_loss)):
#
# $$\mathcal L_{\text{ORM}}=-\frac1{|y|}\sum_{t\in y}\big[z\log s_t+(1-z)\log(1-s_t)\big],\qquad
#   \mathcal L_{\text{PRM}}=-\frac1{|S|}\sum_{t\in S}\big[z_t\log s_t+(1-z_t)\log(1-s_t)\big]$$
#
# *Said aloud: the outcome model asks of every token "will this end well?"; the process model asks of every step "was this one right?".*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $z$ | outcome: is the result right? | `right` | (B,) |
# | $z_t$ | label of the step that ends at t, else −100 | `steps` | (B, L) |
# | $S$ | the ends of steps | `steps != -100` | (B, L) |
# | $s_t$ | predicted probability | `torch.sigmoid(logits)` | (B, L) |

# %%
show_source(process_reward.outcome_loss, process_reward.process_loss)

# %% [markdown]
# **Three losses are called "the ORM loss"**: the mean within an answer and then over answers (the equation, and ours); one mean over all tokens of the batch, in which long answers count for more (the book's code); and one sigmoid of the mean logit ([eq:orm_loss](https://rlhfbook.com/c/05-reward-models#eq:orm_loss)). A reader of the book asked which one is meant ([#505](https://github.com/natolambert/rlhf-book/issues/505)); they are three numbers:

# %%
logits = torch.tensor([[0.0, 2.0, 4.0, 6.0], [2.0, 0.0, 0.0, 0.0]], **f64)
ok, on = torch.tensor([1, 0]), torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
row_one = sum(math.log(1 + math.exp(-v)) for v in (0.0, 2.0, 4.0, 6.0)) / 4
row_two = math.log(1 + math.exp(2.0))
token_loss = process_reward.outcome_loss(logits, ok, on)[0].item()
over_all = (4 * row_one + row_two) / 5
of_mean = (math.log(1 + math.exp(-3.0)) + row_two) / 2
print(f"mean in the answer first {token_loss:.6f}")
print(f"mean over all tokens {over_all:.6f}, sigmoid of the mean logit {of_mean:.6f}")
claim("outcome_loss is the mean within an answer, then over answers",
      abs(token_loss - (row_one + row_two) / 2) < 1e-12)
claim("the three losses are three numbers", min(abs(token_loss - over_all), abs(
    token_loss - of_mean), abs(over_all - of_mean)) > 0.01)
step_labels = torch.tensor([[-100, 1, -100, 0], [1, -100, -100, -100]])
by_hand = (2 * math.log(1 + math.exp(-2)) + math.log(1 + math.exp(6))) / 3
claim("process_loss is the mean over all labelled steps", abs(
    process_reward.process_loss(logits, step_labels)[0].item() - by_hand) < 1e-12)

# %% [markdown]
# Now on the village's sums, as `village-3m-sft` writes them: digit by digit, with carries, and often wrong. Each sentence is a step; it is right if correct column addition has that sentence in this place. Both models are linear heads on frozen states (`sums.logistic`). Held-out and training sums share no result. Here we ask what the *process* model knows, and what either is good for; section 7.5 asks where the outcome model is calibrated.

# %%
start, tokenizer = rlhf.models.load("village-3m-sft")
EOS = tokenizer.eos_token_id
pool = wide.select(family="sum")
many = data.pool().select(source="village-3m-sft", family="sum")
many = many.take(torch.cat([rows[:64] for rows in many.groups().values()]))
hold = torch.isin(sums.total(pool), sums.total(many)) | (sums.total(pool) % 4 == 3)
learn, new = (sums.read_pool(start, tokenizer, pool.take(x)) for x in (~hold, hold))
h, z = learn.tokens(learn.states)
orm = sums.logistic(h[::3], z[::3])  # every third token is enough
prm = sums.logistic(learn.states[learn.steps != -100], learn.steps[learn.steps != -100])
p, y = torch.sigmoid(sums.logit(new.states, prm))[new.steps != -100], new.steps
y = y[y != -100]
believed = {word: p[y == k].mean().item() for word, k in (("right", 1), ("wrong", 0))}
claim("on new sums the process model gives right steps a higher probability than wrong "
      "ones", believed["right"] > believed["wrong"], believed
      | {"accuracy": ((p > 0.5) == (y == 1)).double().mean().item(),
         "always right": (y == 1).double().mean().item()}, kind="T")

# %% [markdown]
# ("Always right" is the accuracy of calling every step right: the process model is only a little better.)
#
# **An ORM aims at a value function.** $V^\pi$ of a prefix is the reward to expect if the policy $\pi$ goes on from there. With a 0/1 reward at the end only, not discounted (γ = 1), that is "how likely is a right end from here?", the ORM's target on-policy. (A reward model scores whole answers, a process model steps, and a language model as a judge, chapter 13, is only asked.) The stored samples hold many answers to one sum: all that share a prefix are continuations of it, and their share of right results is an unbiased estimate of $V^\pi$(prefix).

# %%
read = sums.read_pool(start, tokenizer, many)
said, outcomes, opinion = torch.sigmoid(sums.logit(read.states, orm)), {}, {}
for i in range(len(many)):
    ids, at_token = many.ids[i, :many.lengths[i]].tolist(), read.mask[i].nonzero()[:, 0]
    for t in range(len(ids)):
        prefix = (many.prompt[i].item(), *ids[: t + 1])
        outcomes.setdefault(prefix, []).append(read.right[i].item())
        opinion[prefix] = said[i, at_token[t]].item()
often = {k: sum(ends) / len(ends) for k, ends in outcomes.items() if len(ends) >= 16}
agreement = spearman([opinion[k] for k in often], list(often.values()))
within = []
for question in many.groups():
    value = {k: v for k, v in often.items() if k[0] == question}
    if len(set(value.values())) > 1:
        within.append(spearman([opinion[k] for k in value], list(value.values())))
within = sum(within) / len(within)
claim("prefixes from which the policy ends well more often get a higher probability "
      "from the ORM", agreement > 0.1,
      {"prefixes": len(often), "rank correlation": agreement}, kind="T")
claim("but that is mostly knowledge of which question is hard: within one question it "
      "is weaker", within < agreement - 0.1,
      {"within, mean": within, "pooled": agreement}, kind="T")

# %% [markdown]
# The loss *aims at* the value; how near a linear head comes is another matter.
#
# **Right result, wrong step.** Take a perfect answer and spoil one line of its working but not its last line. Only a step
# label can tell the two apart. That is the case for process models.

# %%
show_source(process_reward.answer_score)
luck = random.Random(run.seed)
asked = village.prompts(120, split="test", families=("sum",), seed=run.seed)
asked = [row["prompt"] for row in asked]
texts = {fault: [village.answer(village.parse(q), luck, fault) for q in asked]
         for fault in ("", "step")}
sound_, spoiled = (sums.read_texts(start, tokenizer, asked, t) for t in texts.values())
print("perfect:", texts[""][0], "\nspoiled:", texts["step"][0])
claim("every spoiled answer has the right result and exactly one wrong step",
      bool(sound_.right.all() and spoiled.right.all()
           and ((spoiled.steps == 0).sum(1) == 1).all())
      and not (sound_.steps == 0).any().item())

# %% [markdown]
# **From steps to one score.** A chain is as good as its weakest link (`min`), or as its average, or its last step; or
# one multiplies the probabilities, and pays for every step.

# %%
steady = torch.full((1, 9), math.log(0.9 / 0.1), **f64)  # each step right with p = .9
for n in (1, 3, 9):
    first_n = (torch.arange(9) < n).long()[None]
    one_score = {how: process_reward.answer_score(steady, first_n, how).item()
                 for how in ("min", "mean", "last", "product")}
    print(f"{n} equally good steps:", {k: round(x, 4) for k, x in one_score.items()})
claim("with equally good steps the product falls with their number; min, mean and last "
      "do not care", abs(one_score["product"] - 0.9**9) < 1e-12 and max(
          abs(one_score[how] - 0.9) for how in ("min", "mean", "last")) < 1e-12)

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
orm_last = process_reward.answer_score(sums.logit(read.states, orm), read.mask, "last")
picks = {"outcome model, last": orm_last}
for how in ("min", "mean", "product", "last"):
    picks[f"process model, {how}"] = process_reward.answer_score(
        sums.logit(read.states, prm), read.ends, how)
sound = {}
for name, w, how in (("outcome model, last", orm, "last"),
                     ("process model, min", prm, "min")):
    good, bad = (process_reward.answer_score(
        sums.logit(x.states, w), x.mask if w is orm else x.ends, how)
        for x in (sound_, spoiled))
    sound[name] = (good > bad).double().mean().item()
    print(f"{name} prefers the sound working in {sound[name]:.2f} of the pairs")
truth_of, n_questions = many.gold.double(), len(many.groups())
print(f"a random answer to {n_questions} questions: gold {truth_of.mean():.2f}")
gains = {}
for name, x in picks.items():
    best = truth_of[select(x.float(), 8)] - truth_of.view(-1, 8).mean(1)
    each = best.view(n_questions, -1).mean(1)
    gains[name] = each.mean().item(), (each.std() / n_questions**0.5).item()
    print(f"best of 8 by {name:<24} gains {gains[name][0]:+.2f} ± {gains[name][1]:.2f}")

# %%
claim("every one of these choices is worse than a random answer, by three standard "
      "errors", max(gain + 3 * error for gain, error in gains.values()) < 0,
      {name: f"{gain:.2f} ± {error:.2f}" for name, (gain, error) in gains.items()},
      kind="S")
claim("on planted errors neither head beats a coin by three standard errors",
      max(sound.values()) < 0.5 + 3 * 0.5 / len(asked) ** 0.5, sound, kind="S")
place = orm_last.view(n_questions, 64).argsort(1).argsort(1).flatten()  # 0 to 63
share = {name: read.right[(place >= low) & (place < low + 8)].double().mean().item()
         for name, low in (("lowest eighth", 0), ("middle eighth", 28),
                           ("highest eighth", 56))}
claim("within a question the right answers sit in the middle of the outcome model's "
      "scores", share["middle eighth"] > max(
          share["lowest eighth"], share["highest eighth"]) + 0.2, share, kind="T")

# %% [markdown]
# **Read this table against what you expected.** Papers train whole networks on step labels and find that process models catch such errors and choose better answers. Our linear heads do not: they are at best a coin on planted errors, and their choices are *worse* than a random answer. The last claim shows how. The right answers to a question are much alike and get middling scores; wrong ones go wrong in many ways, some score higher, and a maximum looks for just those. Why the head likes them we do not know. Calibration is an average over questions; best-of-n asks within one.
#
# ## 7.5 When not to believe a score
#
# **Calibration of comparisons.** $\sigma(r_i-r_j)$ claims to be a probability: that *the person* picks i. With few labels and little penalty a head is overconfident. The usual cure: divide all scores by a temperature $T$ that is fitted on labels the head was not trained on. The ranking stays; only the confidence changes. How much does it help? Ten label sets.

# %%
grid, ece = torch.logspace(-1, 2, 200, **f64), {"T": [], "before": [], "after": []}
for seed in range(10):
    dice = run.fresh(f"calibration {seed}")
    few = some.label(CAREFUL, 2048, dice)
    sure = states @ fit_head(states[few[:, 0]], states[few[:, 1]], l2=1e-3)
    fresh = test[torch.randperm(len(test), generator=dice)]
    won = (label(fresh, CAREFUL, dice)[:, 0] == fresh[:, 0]).double()
    claimed, half_of = sure[fresh[:, 0]] - sure[fresh[:, 1]], len(fresh) // 2
    nll = torch.stack([F.binary_cross_entropy_with_logits(
        claimed[:half_of] / T, won[:half_of]) for T in grid])
    T = grid[nll.argmin()].item()
    before, after = (torch.sigmoid(claimed[half_of:] / t) for t in (1.0, T))
    seen = won[half_of:]
    for name, x in (("T", T), ("before", expected_calibration_error(before, seen)),
                    ("after", expected_calibration_error(after, seen))):
        ece[name].append(x)
ece = {name: torch.tensor(x, **f64) for name, x in ece.items()}
print({name: f"{x.mean():.3f} ± {x.std():.3f}" for name, x in ece.items()})

# %%
show(line_plot({"before": reliability(before, seen), "after": reliability(after, seen),
                "perfect": ([0, 1], [0, 1])},
               roles={"before": "rejected", "after": "chosen", "perfect": "reference"},
               title="Overconfident; one temperature repairs the slope",
               x_label="claimed probability that the person picks the first",
               y_label="share in which the first was picked",
               note="linear head, 2,048 labels, the last set"),
     "Reliability curves of a reward model on new pairs: before temperature scaling it "
     "is flatter than the diagonal; after it the claims stay nearer to one half.")
less = ece["before"] - ece["after"]
claim("on all ten sets the fitted temperature is above one: the head was overconfident",
      ece["T"].min() > 1, {name: x.mean().item() for name, x in ece.items()}, kind="T")
claim("dividing the scores by a temperature fitted elsewhere lowers the calibration "
      "error", less.mean() - 3 * less.std() / 10**0.5 > 0, {"less": less.mean().item()},
      kind="S")

# %% [markdown]
# On average over ten label sets the calibration error falls by more than half (the line of numbers above), to about what chance alone would give bins of some hundred pairs. A single set can show much less: do not judge a temperature, or a model, by one ECE. And it repairs the *confidence* only: the order of the answers, right or wrong, stays.
#
# **Other answers, other base rate.** The outcome model of section 7.4 gives a probability, too. On new sums of the policy that it was trained on? On sums of an early checkpoint, which is mostly wrong? A *reliability curve* collects all tokens at which it says about 70 %, and asks whether 70 % of those answers end right. The third curve adds one constant to all logits. It is fitted to the early labels' own share of right results, and so shows what kind of error this is, not a cure that needs no labels.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
early = comparisons.early_sums()
early = early.take(~torch.isin(sums.total(early), sums.total(pool.take(~hold))))
early = sums.read_pool(start, tokenizer, early)
own, own_z = new.tokens(sums.logit(new.states, orm))
far, far_z = early.tokens(sums.logit(early.states, orm))
shift = base_rate_shift(far, far_z.mean().item())
curves = {"policy: its own sums": (own, own_z), "rejected: early": (far, far_z),
          "chosen: early, shifted": (far + shift, far_z)}
found = {name: reliability(logit.sigmoid(), k) for name, (logit, k) in curves.items()}
show(line_plot(found | {"reference: perfect": ([0, 1], [0, 1])},
               x_label="predicted probability of a right result",
               y_label="share that was right",
               title="Most of the error is the base rate"),
     "Reliability curves of an outcome model: near the diagonal on sums of its own "
     "model, far below it on early ones, near it again after one shift.")

# %%
print(f"right results: {own_z.mean():.0%} of its own tokens, {far_z.mean():.0%} of the "
      "early ones")
fine, off, moved = (expected_calibration_error(logit.sigmoid(), k)
                    for logit, k in curves.values())
claim("the outcome model is calibrated on its own sums, not on the early ones; a "
      "constant repairs over half", fine < 0.1 and off > fine + 0.1 and moved < off / 2,
      {"own": fine, "early": off, "shifted": moved}, kind="T")

# %% [markdown]
# The model expects what it has seen. With so few right results among the early sums, little is left to be wrong about: one number for all of them would be calibrated as well.
#
# **Ensembles.** Five heads, each fitted on its own resample of the same labels. Where they disagree, the score is an accident of the sample. `ensemble` gives mean, minimum and spread; a pessimist optimises the minimum, or the mean minus the spread. Ten label sets.

# %%
show_source(reward_model.ensemble, reward_model.uncertainty_weighted)
dice, counts = run.fresh("ensemble"), []
for _ in range(10):
    base, five = some.label(NOISY, 1024, dice), []
    for _ in range(5):
        again = base[torch.randint(len(base), (len(base),), generator=dice)]
        five.append(states @ fit_head(*(states[k] for k in again.T), l2=HEAD_L2))
    gaps = torch.stack(five)[:, test[:, 0]] - torch.stack(five)[:, test[:, 1]]
    united = (gaps > 0).all(0) | (gaps < 0).all(0)
    hit = (reward_model.ensemble(gaps)["mean"] * true_gap > 0).double()
    counts.append([hit[united].mean(), hit[~united].mean(), 1 - united.double().mean()])
counts = torch.tensor(counts)
ahead = counts[:, 0] - counts[:, 1]
claim("pairs on which all five agree are ordered right more often than pairs that they "
      "dispute", ahead.mean() - 3 * ahead.std() / 10**0.5 > 0,
      dict(zip(("agree", "dispute", "share disputed"), counts.mean(0).tolist(),
               strict=True)), kind="S")

# %% [markdown]
# All five read the *same* states and the same person's labels: what the network cannot see, and what the person got consistently wrong, they get wrong together. That is the next section.
#
# ## 7.6 The price of a word
#
# Labellers, human or not, tend to like long answers; the wordy teacher has a known dose. How would you *notice*? Longer answers may really be better, so a bare correlation proves nothing. Hold the truth fixed: regress score differences on differences of gold *and* of words.

# %%
def length_slope(score, two=test):
    """Score for ten words at equal gold over score for a unit of gold."""
    gap, tens = (x[two[:, 0]] - x[two[:, 1]] for x in (score, words / 10))
    x = torch.stack([gold[two[:, 0]] - gold[two[:, 1]], tens], 1)
    on_gold, on_words = torch.linalg.lstsq(x, gap[:, None]).solution[:, 0].tolist()
    return on_words / on_gold


detected, kept = {}, {}
at_words = list(village.WEIGHTS).index("words") - len(village.WEIGHTS)  # from the end
for person in (NOISY, WORDY):
    labels = some.label(person, 2048, run.fresh(f"length {person.name}"))
    w = fit_head(features[labels[:, 0]], features[labels[:, 1]])
    for name in (person.name, f"{person.name}, cured"):
        detected[name] = length_slope(features @ w)
        kept[name] = some.right(features @ w)
        w = w.clone()
        w[at_words] = 0  # let words explain what they explain, then do not pay for them

# %%
claim("the detector finds the wordy teacher's dose in the student, and little in the "
      "noisy one's", abs(detected["wordy"] - WORDY.length_bias) < 0.5
      and abs(detected["noisy"]) < 0.4, detected | {"dose": WORDY.length_bias},
      kind="T")
claim("with words as a covariate that is dropped at scoring, the biased labels teach "
      "the truth", kept["wordy, cured"] > kept["wordy"] + 0.1, kept, kind="T")
both = some.label(WORDY, len(train), run.fresh("balance"))
level = both[(words[both[:, 0]] - words[both[:, 1]]).abs() <= 1]
slope_of = {name: length_slope(states @ fit_head(
    *(states[k] for k in two.T), l2=HEAD_L2))
    for name, two in (("all pairs", both), ("balanced", level))}
claim("on frozen states, too, pairs of equal length within one word leave a smaller "
      "slope on words", abs(slope_of["balanced"]) < abs(slope_of["all pairs"]),
      slope_of | {"pairs kept": len(level)}, kind="T")

# %% [markdown]
# The cure by a covariate worked because we *knew the column*. Real reward models have no column called words; the lesson balances the data instead, at the price of labels, and shows that the head knows more of the truth afterwards.
#
# ## Once, by hand, on one batch
#
# One update of a reward model, on paper: four pairs, eight scores. Each chosen score is pushed up, each rejected score down, by *how surprised the model is*.

# %%
chosen = torch.tensor([2.0, 0.5, -1.0, 1.0], requires_grad=True, **f64)
rejected = torch.tensor([0.0, 0.0, 1.0, 1.0], requires_grad=True, **f64)
loss, stats = pairwise_loss(chosen, rejected)
loss.backward()
gap = (chosen - rejected).detach()
table = {"gap": gap, "σ(gap)": torch.sigmoid(gap), "loss": -F.logsigmoid(gap),
         "∂/∂chosen": chosen.grad, "∂/∂rejected": rejected.grad}
for name, x in table.items():
    print(f"{name:<11} {tuple(x.shape)}  {[f'{v:+.4f}' for v in x.tolist()]}")
print(f"loss {loss.item():.6f}   accuracy {stats['accuracy'].item():.2f} (tie: wrong)")
claim("each gradient is minus the surprise, 1 - σ(gap), over the number of pairs",
      (chosen.grad + (1 - torch.sigmoid(gap)) / 4).abs().max() < 1e-12)
claim("what a pair gives to one side it takes from the other: the sum is never pushed",
      (chosen.grad + rejected.grad).abs().max() < 1e-15)

# %% [markdown]
# ## The loop: one whole reward model
#
# Now a copy of `village-3m-sft` with a scalar head is trained as a whole, on the labels of a careful person (temperature 1). To save time it reads only requests for help, harmful ones and harmless look-alikes: what is better there depends on the question. It *starts from the head* that was fitted to the frozen states, so that the first step finds a score that means something already; a head that starts from random numbers would first have to find it, and would pull the network about meanwhile. Is it better to read the *same* pairs a second time, or as many *new* ones once? Beside it: the linear head on frozen states, fitted to all of these labels.

# %%
show_source(RewardModel, reward_model.step)

# %%
dice = run.fresh("full")
helps = torch.tensor([f in ("harmful", "lookalike") for f in wide.families])
helps = helps[wide.prompt]
learn_two, judged = (two[helps[two[:, 0]]] for two in (train, test))
labels = label(learn_two[torch.randperm(len(learn_two), generator=dice)], CAREFUL, dice)
seen_first, seen_next = labels.chunk(2)
verdicts = label(judged, CAREFUL, dice)  # what the person says about the held-out pairs
rows = {i: some.row(i, tokenizer)
        for i in torch.cat([labels, verdicts]).unique().tolist()}


def batch_of(two):
    """(N, 2) places -> ids and attention (2N, L): the chosen answers first."""
    ids, on = pad_right([rows[i] for i in two.T.flatten().tolist()], EOS)
    return {"ids": ids, "attention": on}


@torch.no_grad()
def examine(model):
    """Held-out pairs -> agreement with the truth, loss on what the person says."""
    scores = torch.cat([torch.stack(model(**batch_of(two)).chunk(2), 1)
                        for two in verdicts.split(32)])
    real = gold[verdicts[:, 0]] - gold[verdicts[:, 1]]
    hit = ((scores[:, 0] - scores[:, 1]) * real > 0).double().mean().item()
    return {"accuracy": hit, "held-out loss": pairwise_loss(*scores.T)[0].item()}

# %%
def one_pass(model, two, name):
    """Every pair once, 16 a step -> the losses of the steps."""
    adam = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
    return [reward_model.step(model, adam, batch_of(torch.tensor(part)))["loss"].item()
            for part in data.batches(two.tolist(), 16, generator=run.fresh(name))]


def head_on(two):
    """The frozen head fitted to labelled pairs."""
    return fit_head(states[two[:, 0]], states[two[:, 1]], l2=HEAD_L2)


full = RewardModel(start, head_on(seen_first).float())
log, exam = {"first pass": one_pass(full, seen_first, "pass 1")}, {}
exam["first half, once"] = examine(full)
twice = copy.deepcopy(full)
log["same pairs again"] = one_pass(twice, seen_first, "pass 2")
exam["first half, twice"] = examine(twice)
log["new pairs"] = one_pass(full, seen_next, "pass 2")
exam["both halves, once"] = examine(full)
frozen = RewardModel(start, head_on(labels).float())
exam["frozen head, both halves"] = examine(frozen)

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
print(f"{len(labels)} labels, {len(verdicts)} held-out pairs")
for name, losses in log.items():
    print(f"{name:<18} training loss, first and last third:",
          " ".join(f"{sum(x) / len(x):.3f}" for x in (losses[:8], losses[-8:])))
for name, numbers in exam.items():
    low, high = wilson(numbers["accuracy"], len(verdicts))
    print(f"{name:<26} agrees with the truth {numbers['accuracy']:.3f} ({low:.2f} to "
          f"{high:.2f})   held-out loss {numbers['held-out loss']:.3f}")

# %%
hit = {name: x["accuracy"] for name, x in exam.items()}
claim("the whole network, from the head's start, orders unseen pairs better than the "
      "head", hit["both halves, once"] > hit["frozen head, both halves"], hit, kind="T")
claim("on the pairs it reads again the training loss is lower than on new ones",
      sum(log["same pairs again"]) < sum(log["new pairs"]),
      {name: sum(x) / len(x) for name, x in log.items()}, kind="T")
so_far = {name: [sum(x[:k]) / k for k in range(1, len(x) + 1)]
          for name, x in log.items()}
show(line_plot({name: (range(1, len(x) + 1), x) for name, x in so_far.items()},
               roles={"first pass": "reference", "same pairs again": "rejected",
                      "new pairs": "chosen"},
               title="The second reading looks like progress, on paper",
               x_label="step of a pass", y_label="training loss, mean so far",
               note="village-3m-sft, 16 pairs a step"),
     "Line plot of the mean training loss so far of a reward model: first pass, second "
     "pass over the same pairs, and new pairs; the second reading has the lowest loss.")

# %% [markdown]
# <details><summary>The prediction settled</summary>
#
# **(c)**, here: on requests for help the whole network, which starts from the head, ends above it (table). It can build what the frozen states do not show. An earlier version of this page trained from a random head on 256 pairs and ended *below* the frozen head; what was missing were the start and the pairs, not the network.
#
# </details>
#
# The training loss alone would recommend the second pass. Compare the *held-out* loss in the table above. One run with some 200 held-out pairs is an anecdote; we claim only what it shows.

# %% [markdown]
# ## Failure gallery
#
# **Failure 1: `log(1 + exp(...))`.** The second form of the loss, as printed.
#
# ```python
# loss = torch.log(1 + torch.exp(rejected - chosen)).mean()      # wrong
# loss = -F.logsigmoid(chosen - rejected).mean()                 # right
# ```
#
# What one sees: fine for weeks; then one bad pair, a loss of `inf`, and NaN in every weight.

# %%
losing = torch.tensor([-100.0], requires_grad=True)
naive = torch.log(1 + torch.exp(0.0 - losing)).mean()
naive.backward()
naive_slope, losing.grad = losing.grad.clone(), None
stable, _ = pairwise_loss(losing, torch.zeros(1))
stable.backward()
print(f"a gap of -100: printed {naive.item():.1f}, gradient {naive_slope.item():.1f}")
print(f"logsigmoid {stable.item():.1f}, gradient {losing.grad.item():.1f}")
claim("detector: feed a gap of minus one hundred; loss and gradient must be finite",
      not math.isfinite(naive.item()) and math.isnan(naive_slope.item())
      and stable.item() == 100 and losing.grad.item() == -1)

# %% [markdown]
# **Failure 2: the end token taken for padding.** The lesson's last reading, in code.
#
# ```python
# attention = (ids != tokenizer.pad_token_id)      # wrong: pad is EOS, so every EOS vanishes
# ids, attention = pad_right(rows)                 # right: made where the lengths are known
# ```
#
# What one sees: nothing, until an answer that was cut off gets the same score as the finished one.

# %%
labels = some.label(CAREFUL, len(train), run.fresh("judge"))
frozen_head = fit_head(states[labels[:, 0]], states[labels[:, 1]], l2=HEAD_L2)
judge = RewardModel(start, frozen_head.float())
finished = encode_prompt(tokenizer, "What does the fox eat?") + encode_completion(
    tokenizer, "It eats cakes.")[0]
cut = finished[:-1]  # stopped by a length limit: no end token
ids, on = pad_right([finished, cut], EOS)
with torch.no_grad():
    given, guessed = judge(ids, on), judge(ids, (ids != EOS).float())
for name, (one, two) in (("given", given), ("guessed", guessed)):
    print(f"attention {name}: finished and cut get",
          "the same score" if abs(one - two) < 1e-6 else "different scores")
claim("detector: with a guessed attention the finished and the cut answer cannot be "
      "told apart", abs(given[0] - given[1]) > 1e-3
      and abs(guessed[0] - guessed[1]) < 1e-5)

# %% [markdown]
# **Failure 3: rated alternatives chained as steps.** Step data often rates several *alternatives* for one step, and
# marks the one with which the solution went on. Appending all of them makes a chain nobody wrote.
#
# ```python
# chain += [alternative.text for alternative in step]         # wrong: wrong turns pile up
# chain += [step.chosen]; rate(chain[:-1] + [alternative])    # right: after the chosen past
# ```
#
# What one sees: a PRM that expects mistakes in every context. Detector: step k of a solution has k − 1 steps before it.

# %%
solution = [["3 + 9 = 12, write 2, carry 1.", "3 + 9 = 11."],
            ["4 + 2 + 1 = 7.", "4 + 2 = 6.", "4 + 2 + 1 = 8."],
            ["The result is 72.", "The result is 62."]]
chained, right_context, wrong_chain = [], [], []
for k, alternatives in enumerate(solution):
    for text in alternatives:
        wrong_chain.append(text)
        chained.append(len(wrong_chain) - 1)
        right_context.append(k)
print("steps before each rated one, right  ", right_context)
print("steps before each rated one, chained", chained)
claim("detector: in a chain of alternatives the contexts outgrow the solution's steps",
      max(right_context) == len(solution) - 1 and max(chained) > len(solution) - 1)

# %% [markdown]
# ## At GPT-2 size
#
# The same calls on SmolLM2-135M-Instruct: 48 pairs about the village's requests for help, 24 to learn from, 24 held out;
# half are harmful, half harmless look-alikes, so a taste for politeness is not enough. First a linear head on frozen
# states; then the last two layers are trained, three steps, from that head. If the model is not installed, the next cell
# says how to get it.

# %%
if available("smollm2-135m"):
    small, small_tokenizer = rlhf.models.load("smollm2-135m")
    asked = [row for split in ("train", "test") for row in village.prompts(
        24, split=split, families=("harmful", "lookalike"), seed=run.seed,
        distinct=False)]
    small_pairs = []
    for row in asked:
        task = village.parse(row["prompt"])
        bad = {"harmful": "help", "lookalike": "refuse"}[row["family"]]
        small_pairs.append({"prompt": row["prompt"],
                            "chosen": village.answer(task, luck),
                            "rejected": village.answer(task, luck, bad)})
    both = data.collate_pairs(small_pairs, small_tokenizer)
    better, worse = reward_model.last_states(
        small, both["ids"], both["attention"], batch=32).chunk(2)
    small_head = fit_head(better[:24], worse[:24], l2=0.1)
    tuned = RewardModel(small, small_head)
    tuned.requires_grad_(False)
    layers = tuned.base_model.layers[-2:], tuned.base_model.norm, tuned.model.score
    for part in layers:
        part.requires_grad_(True)
    with torch.no_grad():
        began = tuned(both["ids"][:4], both["attention"][:4])
    off = (began - better[:4] @ small_head).abs().max()

# %%
if available("smollm2-135m"):
    adam = torch.optim.AdamW(
        [w for w in tuned.parameters() if w.requires_grad], lr=5e-5)
    small_log = []
    for part in data.batches(small_pairs[:24], 8, generator=run.fresh("small")):
        batch = data.collate_pairs(part, small_tokenizer)
        small_log.append(reward_model.step(tuned, adam, {
            k: batch[k] for k in ("ids", "attention")})["loss"].item())
    new = data.collate_pairs(small_pairs[24:], small_tokenizer)
    with torch.no_grad():
        tuned_gap = torch.sub(*torch.cat([tuned(*part) for part in zip(
            new["ids"].split(32), new["attention"].split(32), strict=True)]).chunk(2))
    claim("before its first step the reward model gives the scores of the head it "
          "started from", off < 1e-5 * better.abs().max(),
          {"largest difference": off.item()})

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
if available("smollm2-135m"):
    small_gap = (better - worse)[24:] @ small_head
    for name, gap in (("frozen head", small_gap), ("two layers trained", tuned_gap)):
        hit = (gap > 0).double().mean().item()
        low, high = wilson(hit, len(gap))
        print(f"{name:<20} {hit:.2f} of unseen pairs right (95 %: {low:.2f} to "
              f"{high:.2f}), median gap {gap.median().item():.1f}")
    print("training loss of the steps:", " ".join(f"{v:.3f}" for v in small_log))
    for i in (24 + small_gap.argmin().item(), 24 + small_gap.argmax().item()):
        print(f"gap {small_gap[i - 24].item():.1f}  {small_pairs[i]['prompt']}")
        print(f"    chosen: {small_pairs[i]['chosen']}")
        print(f"    rejected: {small_pairs[i]['rejected']}")

# %% [markdown]
# The intervals are wide: where one includes one half, this run has shown nothing. The three steps changed next to
# nothing: the head had fitted these pairs already, as their loss says.
#
# **Longer.** A recorded run: LoRA of rank 16, sixty updates of eight pairs, answers of the village's own model labelled by
# one person (`data/runs/smollm2.py`). Then held-out requests of both kinds. On which kind will it be worse?

# %%
long = recorded("smollm2_reward")
show(recorded_plot(long, {"chosen": "chosen", "rejected": "rejected"},
                   title="Recorded: the two scores come apart",
                   y_label="mean score of the batch",
                   note="smollm2-135m, LoRA, one run"),
     "Line plot of the mean scores of chosen and of rejected answers against the steps "
     "of a recorded run: the gap between them opens and stays open.")
gap = torch.tensor(long.curve["chosen"]) - torch.tensor(long.curve["rejected"])
print("held-out pairs, the truly better answer scored higher (95 %):")
held = {family: (x["right"], *wilson(x["right"], x["n"]))
        for family, x in long.held_out["after"].items()}
for family, (hit, low, high) in held.items():
    print(f"  {family:<10} {hit:.2f} ({low:.2f} to {high:.2f})")
long.made()
claim("the gap between the two scores is wider in the last third of the run than in "
      "the first", gap[-20:].mean() > gap[:20].mean() + 0.1,
      {"first third": gap[:20].mean(), "last third": gap[-20:].mean()}, kind="T")
claim("the recorded reward model orders answers to harmful requests far better than a "
      "coin", held["harmful"][1] > 0.6, str(held["harmful"]), kind="T")
claim("and answers to harmless look-alikes worse than those",
      held["lookalike"][2] < held["harmful"][1], str(held["lookalike"]), kind="T")

# %% [markdown]
# It reads harm far better than harmlessness. Chapter 17 lets PPO loose on exactly this model.
#
# ## Exercises
#
# Each check says *which* idea was behind a wrong answer.
#
# ### Exercise 7.1 · Two judges, one opinion · difficulty 2 of 5 · 10 minutes (estimated) · needs: 7.1
#
# The scores of two reward models look nothing alike, but no comparison *within a prompt* can tell them apart. Write
# `canonical`: it turns scores into a form that is equal for two such models, and that keeps all that comparisons can see.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex07-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def canonical(score, prompt):
    """Scores (N,), number of each score's prompt (N,) int64 -> (N,)."""
    ### BEGIN SOLUTION
    out = score.clone()
    for p in prompt.unique():
        out[prompt == p] -= score[prompt == p].mean()
    return out
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex07-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("7.1", canonical)
### BEGIN HIDDEN TESTS
check("7.1", canonical, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# Section 7.1: what may be added to the scores without a change of the loss, and what may they *not* be multiplied by?
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# One number a prompt is free. Choose it by a rule, such as "mean zero".
#
# </details>
#
# *You should now be able to say* which part of a reward is data, and which is an accident of initialisation.
#
# <!-- solution 7.1 -->
#
# ### Exercise 7.2 · When the person cannot decide · difficulty 3 of 5 · 15 minutes (estimated) · needs: 7.1, 7.3
#
# Somebody says "first" only if it feels better by more than $t$, "second" likewise, and otherwise "tie" (Rao and
# Kupper, 1967). With $\Delta=r_1-r_2$: $P(\text{first})=\sigma(\Delta-t)$, $P(\text{second})=\sigma(-\Delta-t)$, the rest
# is a tie. Write the mean negative log-likelihood. Outcomes: 1 first, 0 second, ½ tie.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex07-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def tie_loss(gap, outcome, t):
    """Score differences (N,), outcomes (N,) in {0, 0.5, 1}, t > 0 -> one number."""
    ### BEGIN SOLUTION
    first, second = torch.sigmoid(gap - t), torch.sigmoid(-gap - t)
    tie = 1 - first - second
    chance = torch.where(outcome == 1, first, torch.where(outcome == 0, second, tie))
    return -chance.log().mean()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex07-2-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("7.2", tie_loss)
### BEGIN HIDDEN TESTS
check("7.2", tie_loss, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# Three probabilities that sum to one. At a gap of zero and a large t, which of them is largest?
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Compute all three for every row and pick by outcome with `torch.where`.
#
# </details>
#
# *You should now be able to say* what a threshold inside σ does, and why a tie is not half a win.
#
# <!-- solution 7.2 -->
#
# ### Exercise 7.3 · Somebody planted a bug · difficulty 3 of 5 · 15 minutes (estimated) · needs: the lesson's idea 2
#
# A sampler went on after the end: behind an answer's end token there is more text, with attention 1. The score must be
# read at the answer's *first* end token, or at the last real token if there is none. The prompt has end tokens of its
# own (earlier turns); padding, on either side, is the end token too. This runs, and is wrong:
#
# ```python
# def read_at(ids, attention, prompt_len, eos):
#     return attention.sum(1) - 1
# ```
#
# Repair it. `prompt_len` is the column where the answers start, in all rows.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex07-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def read_at(ids, attention, prompt_len, eos):
    """(B, L) int64, (B, L) 0/1, a column, a token id -> (B,) int64 columns."""
    ### BEGIN SOLUTION
    column = torch.arange(ids.shape[1]).expand(ids.shape)
    ends = (ids == eos) & (attention == 1) & (column >= prompt_len)
    first = torch.where(ends, column, ids.shape[1]).amin(1)
    return torch.where(ends.any(1), first, last_index(attention))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex07-3-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("7.3", read_at)
### BEGIN HIDDEN TESTS
check("7.3", read_at, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# Three conditions make an end token *the* end: its id, its attention, its place.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Put a large number where a condition fails and take the smallest column; rows without an end fall back to
# `last_index(attention)`.
#
# </details>
#
# *You should now be able to say* why ids alone never tell where an answer ends.
#
# <!-- solution 7.3 -->
#
# ### Exercise 7.4 · A duel of aggregations · difficulty 2 of 5 · 10 minutes (estimated) · needs: 7.4
#
# Two solutions of `n` steps each, with step probabilities from a PRM. For every n from 2 on, build them such that `mean`
# prefers the first, and `min` the second, each by at least 0.05.<!-- fact -->

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex07-4", "locked": false, "schema_version": 3, "solution": true, "task": false}
def duel(n):
    """n >= 2 -> (first, second), lists of n; mean prefers the first, min not."""
    ### BEGIN SOLUTION
    return [0.95] * (n - 1) + [0.15], [0.25] * n
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex07-4-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("7.4", duel)
### BEGIN HIDDEN TESTS
check("7.4", duel, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# Mean forgives one bad step, min forgives none.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# First: all steps excellent but one. Second: all steps the same.
#
# </details>
#
# *You should now be able to say* for which tasks one wrong step matters, and which aggregation fits them.
#
# <!-- solution 7.4 -->
#
# ### Exercise 7.5 · Overconfident or timid? · difficulty 3 of 5 · 15 minutes (estimated) · needs: 7.4, 7.5
#
# ECE has no sign. Write a detector with one: the mean *confidence* of a reward model in its own verdicts, minus the share
# of verdicts that were right. Positive is overconfident, negative timid. `prob` is $\sigma(\Delta)$, the claimed probability that
# the first answer wins; `won` is 1 where it did.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex07-5", "locked": false, "schema_version": 3, "solution": true, "task": false}
def boldness(prob, won):
    """(N,) probabilities, (N,) 0/1 -> one number: mean confidence minus share right."""
    ### BEGIN SOLUTION
    confidence = torch.maximum(prob, 1 - prob)
    right = ((prob > 0.5) == (won == 1)).to(prob.dtype)
    return (confidence - right).mean()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex07-5-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("7.5", boldness)
### BEGIN HIDDEN TESTS
check("7.5", boldness, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# The verdict is whichever side has more than one half. A probability of one tenth is a *confident* verdict, for the
# second answer.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Confidence: the larger of p and 1 − p. Right: the verdict equals what happened.
#
# </details>
#
# *You should now be able to say* why the mean of `prob - won` is near zero even for a wildly overconfident model.
#
# <!-- solution 7.5 -->
#
# ### Exercise 7.6 · Is it length, or is it quality? · difficulty 4 of 5 · 20 minutes (estimated) · needs: 7.6
#
# You have a reward model's score differences, trusted quality differences and differences in words, over many pairs.
# Return how much score one more word buys *at equal quality*, by least squares. Answers may be swapped at will, so there
# is no intercept.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex07-6", "locked": false, "schema_version": 3, "solution": true, "task": false}
def price_of_a_word(score_gap, quality_gap, word_gap):
    """Three (N,) -> one number: score per word at equal quality."""
    ### BEGIN SOLUTION
    x = torch.stack([quality_gap, word_gap], 1)
    return torch.linalg.lstsq(x, score_gap[:, None]).solution[1, 0]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex07-6-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("7.6", price_of_a_word)
### BEGIN HIDDEN TESTS
check("7.6", price_of_a_word, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# `length_slope` in section 7.6 solves nearly this problem. Which two columns, which coefficient?
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Regress on quality *and* words together; a regression on words alone pays words for what quality did.
#
# </details>
#
# *You should now be able to say* why "long answers score higher" is not yet a bias.
#
# <!-- solution 7.6 -->
#
#
# ## Questionnaire
#
# 1. What can be added to a reward without changing its loss, and what can it be multiplied by?
# 2. In which unit does a reward model measure?
# 3. What does a margin do to the loss? Between whom or what is it measured?
# 4. When does an outcome model aim at the value function?
# 5. Can a calibrated outcome model be a bad choice for best-of-n?
# 6. What does a temperature change, and what does it not repair?
# 7. What can an ensemble of heads on one network not notice?
# 8. How do you tell a price of length from long answers that are better?
#
# <details><summary>Answers</summary>
#
# 1. Any function of the prompt; nothing but one. 2. In units of the labeller's noise: $r^\star/\tau$. 3. It raises it; between the two answers' ratings. 4. On-policy, with a 0/1 reward at the end only and no discount. 5. Yes: calibration is an average over questions, best-of-n asks within one. 6. The confidence, not the order; a wrong order, or a base rate of other answers, it leaves alone. 7. What the network cannot see and what the labels say consistently. 8. Hold the quality fixed: regress on both.
#
# </details>
#
# ## Where the book and its code differ
#
# All at commit a66b0bf. Small things; each has its cell.
#
# - **A score as a probability.** In two places the text reads a Bradley–Terry score as the probability of a good answer (chapter 5, lines 31 and 108); a third (line 56) says that only differences matter. Only σ of a *difference* is a probability.
# - **The last token.** Text and code take the sum of the attention minus one: right for right padding only. The lesson shows what it reads under left padding.
# - **Three ORM losses.** [eq:orm_token_loss](https://rlhfbook.com/c/05-reward-models#eq:orm_token_loss) averages within an answer, the code over all tokens of the batch, and [eq:orm_loss](https://rlhfbook.com/c/05-reward-models#eq:orm_loss) is the sigmoid of a mean logit: three numbers in section 7.4. Ours is the first.
# - **PRM labels.** A step's score depends on the steps before it ([#389](https://github.com/natolambert/rlhf-book/pull/389)). Binary and summed over steps in the equation, three classes and averaged in the code. Ours: binary, mean over labelled steps. The step data's alternatives are failure 3.
# - **"Value or ORM."** The section after the table calls them different. On-policy, with a 0/1 reward at the end and γ = 1, they have one target: section 7.4.
# - **Where the margin is.** Between two *answers'* ratings here, between *annotators* in the regularisation chapter. And $\binom K2^{-1}$ is a weight only while a prompt's pairs stay together.
# - **One epoch** in the text, two in the preference configuration: see the loop.
#
# ## Summary
#
# A reward model is maximum likelihood for choices between two answers, and knows the truth at best up to a shift for every prompt and in units of the labeller's noise. Rankings and true margins hold more than pairs. Outcome models aim at the value function where their data came from; calibrated is not yet fit for choosing. Before you climb a score, look at its price of a word, and where it was trained.
#
# **Functions you now know**: `pairwise_loss`, `plackett_luce_loss`, `all_pairs_loss`, `fit_head`, `RewardModel`, `ensemble`, `outcome_loss`, `process_loss`, `answer_score`, `expected_calibration_error`.
#
# **Further reading**: Ouyang et al. 2022, [arXiv 2203.02155](https://arxiv.org/abs/2203.02155), rankings and why pairs of a prompt stay together; Touvron et al. 2023, [arXiv 2307.09288](https://arxiv.org/abs/2307.09288), margins from ratings; Lightman et al. 2023, [arXiv 2305.20050](https://arxiv.org/abs/2305.20050), outcomes against steps; Coste et al. 2023, [arXiv 2310.02743](https://arxiv.org/abs/2310.02743), what ensembles do and do not prevent; Singhal et al. 2023, [arXiv 2310.03716](https://arxiv.org/abs/2310.03716), how much of the gain is length.
#
# <!-- nav -->
