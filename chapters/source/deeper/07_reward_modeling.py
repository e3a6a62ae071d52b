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
# # 7 · Reward modeling
#
# **Promise.** You will teach reward models from comparisons in a world where the true reward is known, and so see
# what such a score means, what it never learns, and where it stops meaning anything.
#
# Companion to [Reward Models](https://rlhfbook.com/c/05-reward-models) (chapter 5 of today's book) in Nathan
# Lambert's *Reinforcement Learning from Human Feedback*.
#
# <!-- edition -->
#
# <!-- nav -->

# %% [markdown]
# > **You need** logarithms, gradients, and to know that a language model turns tokens into hidden states. Chapter 6
# > says where comparisons come from; nothing else is assumed.
# >
# > **You will be able to** derive the loss of a reward model and say what it cannot see · tell noise, which more
# > data removes, from bias, which it does not · find the token that a score is read from · train and calibrate outcome
# > and process reward models · decide when a score should not be trusted.
# >
# > **Costs**: <!-- costs -->. **Models** behind the stored outputs: `village-3m-sft`, three million parameters, and
# > the stored samples in `data/pool`, both made by `make models`; `smollm2-135m` in the section
# > [At GPT-2 size](#At-GPT-2-size).

# %%
import copy
import math
import random

import torch

from rlhf_minimal import data, process_reward, reward_model, village
from rlhf_minimal.best_of_n import select
from rlhf_minimal.book import available, begin, check, claim, recorded, show, show_source
from rlhf_minimal.book.plots import line_plot, recorded_plot
from rlhf_minimal.chat import encode_completion, encode_prompt
from rlhf_minimal.evaluate import expected_calibration_error, spearman, wilson
from rlhf_minimal.forward import hidden_states
from rlhf_minimal.models import load
from rlhf_minimal.reward_model import RewardModel, fit_head, pairwise_loss
from rlhf_minimal.tensors import last_index, pad_left, pad_right

run = begin(7)
f64 = {"dtype": torch.float64}

# %% [markdown]
# ## The question
#
# **What does a model trained on comparisons know, and where does its score stop meaning anything?**
#
# People cannot write down a reward, but they can say which of two answers they like better. A **reward model** is
# trained on such comparisons, and its score is what all of RLHF then climbs. Our prompts come from the *village*, a
# small invented world, so we also have the truth: `gold`, a number from rules, for every answer. What learns from
# comparisons sees it only through the people who compare.
#
# The material: all pairs of different answers of `village-3m-sft` to one prompt; every fourth prompt is held out.

# %%
stored = data.pool()
wide = stored.select(source="wide")
gold = wide.gold.double()
words = wide.features[:, wide.feature_names.index("words")].double()


def pairs_of(pool):
    """All two different answers to one prompt -> (N, 2) rows of the pool."""
    two = [rows[torch.combinations(torch.arange(len(rows)))] for rows in pool.groups().values()]
    two = torch.cat(two)
    return two[(pool.ids[two[:, 0]] != pool.ids[two[:, 1]]).any(1)]


pairs = pairs_of(wide)
is_test = wide.prompt[pairs[:, 0]] % 4 == 3
train, test = pairs[~is_test], pairs[is_test]
test = test[gold[test[:, 0]] != gold[test[:, 1]]]  # where the truth has an opinion
print(f"{len(wide):,} answers to {len(wide.groups()):,} prompts: {len(train):,} pairs to learn "
      f"from, {len(test):,} of held-out prompts to test on")

# %%
NOISY = village.Annotator(name="noisy", temperature=2.0)  # honest, often wrong
WORDY = village.Annotator(name="wordy", temperature=0.25, length_bias=2.5)  # likes long answers
tastes = {person: wide.utilities(person).double() for person in (NOISY, WORDY)}


def label(two, person, generator):
    """(N, 2) rows -> (N, 2): chosen, rejected, drawn as the person would."""
    u = tastes[person]
    p = torch.sigmoid((u[two[:, 0]] - u[two[:, 1]]) / person.temperature)
    first = torch.rand(len(two), generator=generator, **f64) < p
    return torch.where(first[:, None], two, two.flip(1))


def accuracy(score, two=test):
    """Share of pairs that a score (of all rows of `wide`) orders as gold; a tie is wrong (F5)."""
    gap = score[two[:, 0]] - score[two[:, 1]]
    return (gap * (gold[two[:, 0]] - gold[two[:, 1]]) > 0).double().mean().item()


agree = {}
for person in (NOISY, WORDY):
    chosen, rejected = label(test, person, run.fresh(f"agreement {person.name}")).T
    agree[person] = (gold[chosen] > gold[rejected]).double().mean().item()
claim("both people beat a coin, and are wrong about every fifth pair or more",
      0.55 < min(agree.values()) and max(agree.values()) < 0.8,
      {person.name: x for person, x in agree.items()}, kind="T")

# %% [markdown]
# Two people label. One is *noisy*: honest, but often wrong, at random. The other is *wordy*: sure of every answer,
# and fond of long ones. The claim shows how often each picks the truly better answer.
#
# **Predict before you scroll.** We give thousands of labels of one person to a model that is able to see what
# matters. On pairs that nobody labelled, how often will it agree with the *truth*? (Settled in section 7.2.)
#
# - **(a)** at most as often as its teacher: a student cannot know more than the labels
# - **(b)** more often than its teacher, whoever that is: with enough data the errors average out
# - **(c)** far more often than its teacher if that is the noisy one, about as often if it is the wordy one

# %% [markdown]
# ## 7.1 From a comparison to a loss
#
# Give each answer a positive *strength* $p$. Bradley and Terry's rule of 1952: an answer wins in proportion to its
# strength, [eq:bradterry](https://rlhfbook.com/c/05-reward-models#eq:bradterry). A network's output may be negative, so write $p=e^{r}$
# ([eq:bradterry_unbounded](https://rlhfbook.com/c/05-reward-models#eq:bradterry_unbounded),
# [eq:bradterryrm](https://rlhfbook.com/c/05-reward-models#eq:bradterryrm)). Dividing by the numerator leaves the logistic function
# $\sigma(x)=1/(1+e^{-x})$ of a difference
# ([eq:bradterryrm_sigmoid](https://rlhfbook.com/c/05-reward-models#eq:bradterryrm_sigmoid)):
#
# $$P(i\succ j)=\frac{p_i}{p_i+p_j}=\frac{e^{r_i}}{e^{r_i}+e^{r_j}}=\sigma(r_i-r_j)$$
#
# *Said aloud: the chance that one answer beats another depends only on how far apart their scores are.*
#
# Maximum likelihood over labelled pairs ([eq:bradterryrm_deriv](https://rlhfbook.com/c/05-reward-models#eq:bradterryrm_deriv)) is
# the loss of nearly every reward model ([eq:rewardmodeling1](https://rlhfbook.com/c/05-reward-models#eq:rewardmodeling1),
# [eq:rewardmodeling2](https://rlhfbook.com/c/05-reward-models#eq:rewardmodeling2)):
#
# $$\mathcal L=-\log\sigma\big(r(x,y_c)-r(x,y_r)\big)=\log\big(1+e^{\,r(x,y_r)-r(x,y_c)}\big)$$
#
# *Said aloud: pay for every pair in which the chosen answer does not score clearly above the rejected one.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $x$ | prompt | `wide.prompts` | text |
# | $y_c,y_r$ | chosen, rejected answer | columns of `label(...)` | (N,) rows |
# | $r$ | reward: one number an answer | `chosen`, `rejected` | (N,) |
# | $p$ | strength, $e^r$ | `strength` | (N,) |
# | $\sigma$ | logistic function | `torch.sigmoid` | – |

# %%
show_source(pairwise_loss)

# %%
c, r = torch.tensor([1.5], **f64), torch.tensor([0.5], **f64)
strength = torch.cat([c, r]).exp()
by_hand = math.log(1 + math.exp(0.5 - 1.5))
loss, _ = pairwise_loss(c, r)
win = (strength[0] / strength.sum()).item()
print(f"P(chosen wins): strengths {win:.6f}, difference {torch.sigmoid(c - r).item():.6f}")
print(f"loss by hand {by_hand:.6f}   package {loss.item():.6f}")
claim("strengths, scores and both forms of the loss are one model",
      abs(loss.item() - by_hand) < 1e-12 and abs(win - torch.sigmoid(c - r).item()) < 1e-12
      and abs(loss.item() - 0.313262) < 1e-6)

# %% [markdown]
# **What the loss cannot see.** Only differences within a prompt enter. So add any number $c(x)$ to all answers of a
# prompt: the loss, its gradient and every ranking stay. A score of 3 is not "good"; it is better than a score of 2
# *for the same prompt*.

# %%
scores = torch.tensor([[1.5, 0.5], [-0.2, 0.4], [3.0, 0.0]], **f64)  # chosen, rejected
shift = torch.tensor([[100.0], [-7.0], [0.3]], **f64)  # one number a prompt
plain, moved = pairwise_loss(*scores.T)[0], pairwise_loss(*(scores + shift).T)[0]
doubled = pairwise_loss(*(2 * scores).T)[0]
print(f"loss {plain.item():.6f}, shifted prompt by prompt {moved.item():.6f}, "
      f"doubled {doubled.item():.6f}")
claim("a number added to all answers of a prompt leaves the loss unchanged",
      abs(plain - moved) < 1e-12)
claim("the scale is seen: doubled scores have another loss", abs(plain - doubled) > 0.01)

# %% [markdown]
# **What it recovers.** Suppose a person chooses by Bradley–Terry with a true reward $r^\star$ and temperature $\tau$
# (how noisy they are), that we had infinitely many labels, and that every answer has a score of its own. The minimum
# should be $r^\star/\tau$, up to a constant that no gradient moves. Newton's method tries it from two starts. (Look at
# `slope`: the fit is done when each answer wins as often as predicted.)

# %%
truth = torch.tensor([0.0, 0.5, 1.2, 2.0, 2.1, 3.0], **f64)
chance = torch.sigmoid((truth[:, None] - truth[None, :]) / 2.0)  # P(row beats column), τ = 2


def newton(score, chance, steps=30):
    """Minimise the expected loss over all ordered pairs, (K,), (K, K) -> (K,)."""
    for _ in range(steps):
        p = torch.sigmoid(score[:, None] - score[None, :])
        slope, bend = (p - chance).sum(1), p * (1 - p)  # predicted wins minus real wins
        score = score - torch.linalg.pinv(bend.sum(1).diag() - bend, rtol=1e-9) @ slope
    return score


from_zero, from_five = (newton(torch.full((6,), s, **f64), chance) for s in (0.0, 5.0))
print("true reward / 2 :", [f"{v:.4f}" for v in (truth / 2).tolist()])
print("found from 0    :", [f"{v:.4f}" for v in from_zero.tolist()])
print("found from 5    :", [f"{v:.4f}" for v in from_five.tolist()])
claim("the minimum of the expected loss is the true reward over the temperature, up to a constant",
      (from_zero - from_zero.mean() - (truth - truth.mean()) / 2).abs().max() < 1e-9)
claim("the constant is whatever the start put there: no comparison can move it",
      abs(from_zero.mean()) < 1e-9 and abs(from_five.mean() - 5) < 1e-9)

# %% [markdown]
# **What if people are not like that?** Three answers; rock beats scissors, scissors beat paper, paper beats rock,
# each nine times in ten. No reward can say so. Bradley–Terry does not complain: it finds three equal scores and a
# loss of $\log 2$, the same as for a person who tosses coins. A high loss does not say whether the *people* are noisy
# or the *model* is wrong.

# %%
cycle = torch.tensor([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]], **f64)
flat = newton(torch.tensor([0.4, -0.1, 0.2], **f64), cycle)
gaps = flat[:, None] - flat[None, :]
paid = -(cycle * torch.nn.functional.logsigmoid(gaps)).sum() / cycle.sum()
print(f"largest gap between the three scores {gaps.abs().max().item():.4f}, loss {paid.item():.6f}")
claim("a strong but circular preference becomes three equal scores",
      gaps.abs().max() < 1e-9 and abs(paid - math.log(2)) < 1e-9)

# %% [markdown]
# ## 7.2 Noise averages out, bias does not
#
# First the best case: a *linear* reward on the features that gold is made of (is the fact true, is it rude ...) and the
# number of words, which gold does not count. The student has to find one weight for each, from labels alone, by
# `fit_head`: the loss above with a small quadratic penalty, solved to the minimum.

# %%
def true_features(pool):
    """What gold is a weighted sum of, and words -> (N, F) float64, and the weights of gold."""
    column = dict(zip(pool.feature_names, pool.features.double().T, strict=True))
    family = [pool.families[i] for i in pool.prompt.tolist()]
    x, weight = [], []
    for f, points in village.POINTS.items():
        here = torch.tensor([name == f for name in family]).double() * column["grammar"]
        x += [here * column[name] for name in points]
        weight += points.values()
    x += [column[name] for name in village.WEIGHTS]
    return torch.stack(x, 1), torch.tensor([*weight, *village.WEIGHTS.values()], **f64)


features, gold_weights = true_features(wide)
claim("gold is linear in these features (it is stored in half precision)",
      (features @ gold_weights - gold).abs().max() < 5e-3)
show_source(fit_head)

# %% [markdown]
# Five sets of labels for each size and teacher; the test is always agreement with *gold* on held-out prompts.

# %%
def students(x, person, sizes, l2, n_seeds):
    """Accuracy on the truth of heads on x, by number of labels -> (n_seeds, len(sizes))."""
    rows = []
    for seed in range(n_seeds):
        dice = run.fresh(f"students {person.name} {seed}")
        labels = label(train[torch.randperm(len(train), generator=dice)], person, dice)
        heads = [fit_head(*(x[side] for side in labels[:n].T), l2=l2) for n in sizes]
        rows.append([accuracy(x @ w) for w in heads])
    return torch.tensor(rows)


SIZES = [32, 128, 512, 2048, len(train)]
learned = {person: students(features, person, SIZES, 1e-3, 5) for person in (NOISY, WORDY)}
powers = [math.log2(n) for n in SIZES]

# %%
curves = {"noisy: student": (powers, learned[NOISY].mean(0)),
          "noisy: teacher": (powers, [agree[NOISY]] * len(powers)),
          "wordy: student": (powers, learned[WORDY].mean(0)),
          "wordy: teacher": (powers, [agree[WORDY]] * len(powers))}
roles = {"noisy: student": "policy", "noisy: teacher": "reference", "wordy: student": "proxy",
         "wordy: teacher": "other"}
show(line_plot(curves, roles=roles, zero=False, title="Noise averages out; bias is learned",
               x_label="number of labels, log₂ (5 is 32)", y_label="agreement with the truth",
               note="linear reward on true features, 5 label sets"),
     "Line plot of agreement with the truth on held-out pairs against the number of labels: the "
     "noisy teacher's student climbs far above its teacher, the wordy one's stays near its own.")
claim("the student of the noisy teacher is right far more often than its teacher",
      learned[NOISY][:, -1].min() > agree[NOISY] + 0.1,
      {"teacher": agree[NOISY], "student": learned[NOISY][:, -1].mean().item()}, kind="T")
claim("the student of the wordy teacher is not: it stays near its teacher",
      (learned[WORDY][:, -1] - agree[WORDY]).abs().max() < 0.05,
      {"teacher": agree[WORDY], "student": learned[WORDY][:, -1].mean().item()}, kind="T")

# %% [markdown]
# <details><summary>The prediction settled</summary>
#
# **(c)**. The noisy teacher's errors point in no direction: with thousands of labels they cancel, and a student that
# can see what matters becomes better than its teacher. The wordy teacher is *consistent*, so there is nothing to
# average, and more data does not help. Section 7.7 looks for a cure against bias.
#
# </details>
#
# **How far apart?** What climbs the score later (chapter 8) weighs distances too. Section 7.1 promised $r^\star/\tau$ up
# to a constant. So regress the student's differences on the true differences: the slope should be $1/\tau$. Beside it
# the student that a real project has: it reads no true features but the 192 numbers of `village-3m-sft`'s hidden state
# at the last token of each answer, a linear head on a frozen network. And ask how often each agrees with *new labels* of
# its teacher. Ten sets of labels.

# %%
states, HEAD_L2, N_LABELS = wide.state.double(), 0.1, 4096
true_gap = gold[test[:, 0]] - gold[test[:, 1]]
slopes, hits = {"features": [], "states": []}, {"features": [], "states": [], "truth": []}
for seed in range(10):
    dice = run.fresh(f"slope {seed}")
    labels = label(train[torch.randperm(len(train), generator=dice)[:N_LABELS]], NOISY, dice)
    first = label(test, NOISY, dice)[:, 0] == test[:, 0]  # new labels
    hits["truth"].append(((true_gap > 0) == first).double().mean().item())
    for name, x, l2 in (("features", features, 1e-5), ("states", states, HEAD_L2)):
        r_hat = x @ fit_head(x[labels[:, 0]], x[labels[:, 1]], l2=l2)
        r_gap = r_hat[test[:, 0]] - r_hat[test[:, 1]]
        slopes[name].append((true_gap @ r_gap / (true_gap @ true_gap)).item() * NOISY.temperature)
        hits[name].append(((r_gap > 0) == first).double().mean().item())
slopes, hits = ({name: torch.tensor(x) for name, x in y.items()} for y in (slopes, hits))
half = (3 * slopes["features"].std() / 10**0.5).item()
claim("slope times temperature is one within ten per cent: the true reward, in units of the noise",
      abs(slopes["features"].mean() - 1) + half < 0.1,
      {"mean": slopes["features"].mean().item(), "3 standard errors": half}, kind="S")
claim("the head on frozen states has a far smaller slope", slopes["states"].max() < 0.5,
      {"times temperature, mean": slopes["states"].mean().item()}, kind="T")
over = hits["features"] - hits["truth"]
claim("on new labels of the noisy person no student beats the truth itself: that is the ceiling",
      over.mean() - 3 * over.std() / 10**0.5 < 0
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
heads = {}
for tau in levels:
    person = village.Annotator(name=f"tau {tau}", temperature=tau)
    tastes[person] = gold
    heads[tau] = students(states, person, HEAD_SIZES, HEAD_L2, 3)
head_powers = [math.log2(n) for n in HEAD_SIZES]
show(line_plot({levels[tau]: (head_powers, heads[tau].mean(0)) for tau in levels}, zero=False,
               roles={"τ = ¼": "policy", "τ = 1": "proxy", "τ = 4": "rejected"},
               title="More labels help; the noisiest labels stay behind",
               x_label="number of labels, log₂ (7 is 128)", y_label="agreement with the truth",
               note="linear head on village-3m-sft, 3 label sets"),
     "Line plot of agreement with the truth on held-out pairs against the number of labels, for "
     "three noise levels of the labeller: all three rise, the noisiest labels stay lowest.")

# %%
best_head, best_features = heads[1.0][:, -1].mean().item(), learned[NOISY][:, -1].mean().item()
final = {tau: heads[tau].mean(0)[-1].item() for tau in levels}
claim("more labels help the heads of the two less noisy people; the noisiest one's ends last",
      all(heads[tau][:, -1].mean() > heads[tau][:, 0].mean() for tau in (0.25, 1.0))
      and final[4.0] < min(final[0.25], final[1.0]) - 0.01,
      {f"tau {tau}": x for tau, x in final.items()}, kind="T")
claim("with all labels it knows less than the right features with a noisier teacher",
      best_head < best_features - 0.05,
      {"states": best_head, "features": best_features}, kind="T")

# %% [markdown]
# *Noise* costs labels. *Representation* costs accuracy, however many labels there are: if the frozen network never worked
# out whether a fact is true, no linear map finds it in the state. (The curves still rise at their right end, so the plot
# does not show that ceiling.) Training the whole network *can* help; [The loop](#The-loop:-one-whole-reward-model) tries it.
#
# ## 7.3 Which token holds the score?
#
# The score is read from one hidden state, at the last *real* token: only that one has seen the whole answer. Missing it
# is a bug that is reported again and again. GPT-2, and the village's models, have no padding token: batches are padded
# with the end token, which is also the real last token of each answer.
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $L$ | width of a padded batch | `ids.shape[1]` | one number |
# | – | 1 on real tokens, 0 on padding | `attention` | (B, L) |
# | $t^\star$ | column of the last real token | `last_index(attention)` | (B,) |
# | $h_{t}$ | hidden state at a column | `hidden_states(...)` | (B, L, H) |

# %%
show_source(last_index, reward_model.last_state)

# %%
start, tokenizer = load("village-3m-sft")
EOS = tokenizer.eos_token_id
careful = next(person for person in tastes if person.name == "tau 1.0")
labels = label(train, careful, run.fresh("judge"))
frozen_head = fit_head(states[labels[:, 0]], states[labels[:, 1]], l2=HEAD_L2)
judge = RewardModel(start, frozen_head.float())

QUESTION = "What does the fox eat?"
REPLIES = ("It eats cakes.", "Go away.", "You are so clever! It eats cakes.")
rows = [encode_prompt(tokenizer, QUESTION) + encode_completion(tokenizer, text)[0]
        for text in REPLIES]
right_ids, right_on = pad_right(rows, EOS)
left_ids, left_on = pad_left(rows, EOS)
junk = torch.randint(5, 90, right_ids.shape, generator=run.fresh("junk"))
junk_ids = torch.where(right_on.bool(), right_ids, junk)
with torch.no_grad():
    by_side = {"right": judge(right_ids, right_on), "left": judge(left_ids, left_on),
               "junk after the end": judge(junk_ids, right_on),
               "alone": torch.cat([judge(*pad_right([row])) for row in rows])}
difference = max((by_side[k] - by_side["alone"]).abs().max().item() for k in by_side)
size = by_side["alone"].abs().max().clamp(min=1).item()
claim("a score does not depend on the side of the padding, junk behind the end, or neighbours",
      difference < 1e-5 * size, {"largest difference": difference})

# %% [markdown]
# Public code has three other ways: `attention.sum() - 1` (right only if the padding is on the right), the last column
# (only if it is on the left), and "the rightmost id that is not the padding id" (takes a *real* end token for padding, F1).

# %%
def readings(ids, attention):
    """Four opinions on which column holds an answer's last token: {name: (B,)}."""
    column = torch.arange(ids.shape[1])
    return {"last_index": last_index(attention),
            "sum - 1": attention.sum(1).long() - 1,
            "last column": column[-1].expand(len(ids)),
            "not pad": ((ids != EOS) * column).amax(1)}


for side, ids, on in (("right", right_ids, right_on), ("left", left_ids, left_on)):
    for name, column in readings(ids, on).items():
        read = [tokenizer.decode([ids[i, k]]) for i, k in enumerate(column)]
        real = [bool(on[i, k]) for i, k in enumerate(column)]
        print(f"padded {side:<6} {name:<12} reads {read}"
              + ("" if all(real) else "   <- padding, not the answer"))
correct = {side: readings(ids, on) for side, ids, on in
           (("right", right_ids, right_on), ("left", left_ids, left_on))}
agreeing = [name for name in correct["left"] if all(
    torch.equal(correct[side][name], correct[side]["last_index"]) for side in correct)]
claim("only last_index finds the last real token under padding on either side",
      agreeing == ["last_index"])

# %% [markdown]
# Now real pairs, padded on the left as for generation: first the head that was trained at the right place, then heads
# trained and used at the same wrong place.

# %%
@torch.no_grad()
def states_at(pool, rows, batch=16):
    """Left-padded answers of the pool -> {reading: (N, H)}: one forward, four places."""
    found = {}
    for some in rows.split(batch):
        texts = [encode_prompt(tokenizer, pool.prompts[pool.prompt[i]])
                 + pool.ids[i, : pool.lengths[i]].tolist() for i in some]
        ids, on = pad_left(texts, EOS)
        h = hidden_states(start, ids, on)
        for name, column in readings(ids, on).items():
            found.setdefault(name, []).append(h[torch.arange(len(ids)), column])
    return {name: torch.cat(parts).double() for name, parts in found.items()}


learn_on, test_on = labels[torch.randperm(len(labels), generator=run.fresh("few"))[:192]], test[
    torch.randperm(len(test), generator=run.fresh("few test"))[:192]]
needed, place = torch.cat([learn_on, test_on]).unique(return_inverse=True)
learn_at, test_at = place[: len(learn_on)], place[len(learn_on):]
at = states_at(wide, needed)


# %%
def ordered(score, two, rows):
    """Pairs (positions `two` in the list `rows`): share ordered as gold does, share of ties."""
    gap, real = score[two[:, 0]] - score[two[:, 1]], gold[rows[two[:, 0]]] - gold[rows[two[:, 1]]]
    tie = gap.abs() < 1e-4 * score.std()  # a tie but for rounding
    return ((gap * real > 0) & ~tie).double().mean().item(), tie.double().mean().item()


read_wrong, trained_wrong, ties = {}, {}, {}
for name, x in at.items():
    read_wrong[name], ties[name] = ordered(x @ frozen_head, test_at, needed)
    own = fit_head(x[learn_at[:, 0]], x[learn_at[:, 1]], l2=HEAD_L2)
    trained_wrong[name], _ = ordered(x @ own, test_at, needed)
claim("left padding: the last column is the last token, so that reading is the right one here",
      torch.equal(at["last column"], at["last_index"]))
claim("a good head that reads at sum - 1 under left padding orders pairs worse than at last_index",
      read_wrong["sum - 1"] < read_wrong["last_index"] - 0.02, read_wrong, kind="T")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
print(f"{'reading':<14}{'trained right, read here':>26}{'trained and read here':>24}{'ties':>8}")
for name in at:
    print(f"{name:<14}{read_wrong[name]:>26.3f}{trained_wrong[name]:>24.3f}{ties[name]:>8.3f}")

# %% [markdown]
# Under left padding `sum - 1` lands on padding, in the prompt or inside the answer, as the length has it; some of the pairs
# tie (a tie counts as wrong), the rest are at best a coin. Nothing crashes, and one loss looks like another: that is why
# these bugs live for years. The token *before* the end (`not pad`) is a special case: an answer's full stop has also seen
# nearly everything. It breaks when training and use differ, or when a long answer was cut and has no end token.
#
# ## 7.4 Rankings, margins and two small dials
#
# **Rankings.** InstructGPT's labellers ranked 4 to 9 answers at once. Two losses fit: all pairs of a prompt, averaged
# within the prompt
# ([eq:rewardmodelinginstructgpt](https://rlhfbook.com/c/05-reward-models#eq:rewardmodelinginstructgpt)), or the
# Plackett–Luce model: choose the best, then the best of the rest
# ([eq:kwise_rm](https://rlhfbook.com/c/05-reward-models#eq:kwise_rm)):
#
# $$\mathcal L_{\text{pairs}}=-\binom K2^{-1}\sum_{i\succ j}\log\sigma(r_i-r_j),\qquad
#   \mathcal L_{\text{PL}}=-\log\prod_{k=1}^{K}\frac{e^{r_{(k)}}}{\sum_{j\ge k}e^{r_{(j)}}}$$
#
# *Said aloud: every pair is a comparison, or the ranking is a race that is run again after each winner has left.*
#
# **Margins.** If the labeller also said *how much* better, Llama 2 asked the scores to be that far apart
# ([eq:rewardmodelingmargin](https://rlhfbook.com/c/05-reward-models#eq:rewardmodelingmargin)):
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
race = -(math.log(math.e**2 / (1 + math.e + math.e**2)) + math.log(math.e / (1 + math.e)))
all_three = (2 * math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-2))) / 3  # gaps 1, 1 and 2
race_here, pairs_here = (loss_of(three, order)[0].item() for loss_of in
                         (reward_model.plackett_luce_loss, reward_model.all_pairs_loss))
print(f"Plackett–Luce by hand {race:.6f}   package {race_here:.6f}")
print(f"all pairs by hand     {all_three:.6f}   package {pairs_here:.6f}")
claim("both losses equal the hand computation",
      abs(race_here - race) < 1e-12 and abs(pairs_here - all_three) < 1e-12)
two = torch.randn(20, 2, generator=run.generator, **f64)
first_best = torch.tensor([[0, 1]]).expand(20, 2)
claim("with two answers Plackett–Luce is Bradley–Terry",
      abs(reward_model.plackett_luce_loss(two, first_best)[0] - pairwise_loss(*two.T)[0]) < 1e-12)
with_margin = pairwise_loss(c, r, margin=1.0)[0].item()
claim("a margin raises the loss: a gap of one that must be one costs as much as a tie",
      abs(with_margin - math.log(2)) < 1e-12)

# %% [markdown]
# What is a ranking worth? The noisy person ranks the four answers of 192 prompts. Three students see one pair of each
# ranking, all six pairs, or the whole ranking by Plackett–Luce. Ten repetitions.

# %%
four = torch.stack([rows for rows in wide.groups().values()
                    if len(wide.ids[rows].unique(dim=0)) == 4 and wide.prompt[rows[0]] % 4 != 3])


def felt(u, tau, generator):
    """Utility plus Gumbel noise: sorted, a draw from Plackett–Luce; for two, Bradley–Terry."""
    return u - tau * (-torch.rand(u.shape, generator=generator, **f64).log()).log()


def fit_ranking(x, l2=1e-3):
    """The linear reward that minimises Plackett–Luce; x (B, K, F) sorted, best first -> (F,)."""
    spread = (x - x.mean(1, keepdim=True)).square().mean((0, 1)).sqrt().clamp(min=1e-6)
    w = torch.zeros(x.shape[-1], requires_grad=True, **f64)
    ranking = torch.arange(x.shape[1]).expand(x.shape[:2])
    search = torch.optim.LBFGS([w], max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        search.zero_grad()
        total = reward_model.plackett_luce_loss((x / spread) @ w, ranking)[0] + l2 / 2 * w @ w
        total.backward()
        return total
    search.step(closure)
    return (w / spread).detach()


# %%
worth = {"one pair": [], "six pairs": [], "ranking": []}
for seed in range(10):
    dice = run.fresh(f"rankings {seed}")
    some = four[torch.randperm(len(four), generator=dice)[:192]]
    best_first = some.gather(1, felt(gold[some], 2.0, dice).argsort(1, descending=True))
    six = best_first[:, torch.combinations(torch.arange(4))]  # (B, 6, 2), chosen before rejected
    one = six[torch.arange(len(six)), torch.randint(6, (len(six),), generator=dice)]
    for name, two in (("one pair", one), ("six pairs", six.flatten(0, 1))):
        worth[name].append(accuracy(features @ fit_head(features[two[:, 0]], features[two[:, 1]])))
    worth["ranking"].append(accuracy(features @ fit_ranking(features[best_first])))
worth = {name: torch.tensor(x) for name, x in worth.items()}
gain = worth["ranking"] - worth["one pair"]
claim("a ranking of four teaches more than one pair of it",
      gain.mean() - 3 * gain.std() / 10**0.5 > 0,
      {name: x.mean().item() for name, x in worth.items()}, kind="S")

# %% [markdown]
# Which loss on whole rankings is ahead, we do not claim: both are right for a labeller who ranks by Plackett–Luce.
# InstructGPT reports that pairs of one prompt should stay in one batch: shuffled, each answer is read three times in
# one "epoch", and the network overfits. That is not run here (a head solved to its minimum has no batches).
#
# Now margins. 512 labels of the noisy person; a careful second rater says how far apart the two answers are (here: the
# true distance). Three students: no margin, this one, and the same margins dealt out at random. **Predict**: do those harm?

# %%
with_m = {"none": [], "rated": [], "random": []}
for seed in range(10):
    dice = run.fresh(f"margins {seed}")
    some = label(train[torch.randperm(len(train), generator=dice)[:512]], NOISY, dice)
    rated = (gold[some[:, 0]] - gold[some[:, 1]]).abs()
    dealt = rated[torch.randperm(len(rated), generator=dice)]
    for name, m in (("none", 0.0), ("rated", rated), ("random", dealt)):
        w = fit_head(features[some[:, 0]], features[some[:, 1]], margin=m, l2=1e-2)
        with_m[name].append(accuracy(features @ w))
with_m = {name: torch.tensor(x) for name, x in with_m.items()}
gain, harm = with_m["rated"] - with_m["none"], with_m["random"] - with_m["none"]
claim("margins that say how far apart two answers are make a better student of the same labels",
      gain.mean() - 3 * gain.std() / 10**0.5 > 0,
      {name: x.mean().item() for name, x in with_m.items()}
      | {"random - none": harm.mean().item(), "3 errors of it": 3 * harm.std().item() / 10**0.5},
      kind="S")

# %% [markdown]
# The true margins are extra information, nearly a rating. Your prediction: compare "random - none" with its three errors.
# Random margins do little either way to a *linear* student: a margin is as good as the rating behind it.
#
# **Two dials.** *Label smoothing* ε says "this share of the labels is wrong" and keeps the gap finite: its minimum
# is where $\sigma(\Delta)=1-\varepsilon$. *Centring* adds $c\,(r_c+r_r)^2$, the only term that sees the constant of
# section 7.1, and so fixes it at zero.

# %%
gap = torch.linspace(0, 6, 601, **f64)
nil = torch.zeros(1, **f64)
smooth = torch.stack([pairwise_loss(g[None], nil, label_smoothing=0.1)[0] for g in gap])
print(f"smoothing 0.1: the loss is least at a gap of {gap[smooth.argmin()].item():.2f}")
shifts = torch.linspace(-3, 3, 61, **f64)
centred = torch.stack([pairwise_loss(c + s, r + s, center=0.01)[0] for s in shifts])
best_shift = shifts[centred.argmin()].item()
print(f"centring 0.01: scores 1.5 and 0.5 are cheapest when shifted by {best_shift:.2f}")
claim("label smoothing of a tenth puts the best gap at log 9",
      abs(gap[smooth.argmin()].item() - math.log(9)) < 0.01)
claim("with centring a constant shift is no longer free, and the cheapest one centres the pair",
      abs(best_shift + 1) < 1e-9)

# %% [markdown]
# ## 7.5 Outcomes and steps
#
# Some answers need no labeller: a sum is right or wrong. An **outcome reward model** (ORM) learns to predict that, at
# *every* token of the answer
# ([eq:orm_token_loss](https://rlhfbook.com/c/05-reward-models#eq:orm_token_loss)). A **process reward model** (PRM)
# gets a label for each *step*, at its last token ([eq:prm_loss](https://rlhfbook.com/c/05-reward-models#eq:prm_loss)).
# Both are binary classifiers; with $z\in\{0,1\}$ and $s_t=\sigma(\text{logit}_t)$:
#
# $$\mathcal L_{\text{ORM}}=-\frac1{|y|}\sum_{t\in y}\big[z\log s_t+(1-z)\log(1-s_t)\big],\qquad
#   \mathcal L_{\text{PRM}}=-\frac1{|S|}\sum_{t\in S}\big[z_t\log s_t+(1-z_t)\log(1-s_t)\big]$$
#
# *Said aloud: the outcome model asks of every token "will this end well?"; the process model asks of every step
# "was this one right?".*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $z$ | outcome: is the result right? | `ok` | (B,) |
# | $z_t$ | label of the step that ends at t, else −100 | `steps` | (B, L) |
# | $S$ | the ends of steps | `steps != -100` | (B, L) |
# | $s_t$ | predicted probability | `torch.sigmoid(logits)` | (B, L) |

# %%
show_source(process_reward.outcome_loss, process_reward.process_loss)

# %% [markdown]
# **By hand**, and three losses that are all called "the ORM loss": the mean within an answer and then over answers
# (the equation, and ours); one mean over all tokens of the batch, in which long answers count for more; and one
# sigmoid of the mean logit ([eq:orm_loss](https://rlhfbook.com/c/05-reward-models#eq:orm_loss)).

# %%
logits = torch.tensor([[0.0, 2.0, 4.0, 6.0], [2.0, 0.0, 0.0, 0.0]], **f64)
ok, on = torch.tensor([1, 0]), torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
row_one = sum(math.log(1 + math.exp(-v)) for v in (0.0, 2.0, 4.0, 6.0)) / 4
row_two = math.log(1 + math.exp(2.0))
token_loss = process_reward.outcome_loss(logits, ok, on)[0].item()
over_all = (4 * row_one + row_two) / 5
of_mean = (math.log(1 + math.exp(-3.0)) + row_two) / 2
print(f"mean in the answer first {token_loss:.6f}   by hand {(row_one + row_two) / 2:.6f}")
print(f"mean over all tokens     {over_all:.6f}   sigmoid of the mean logit {of_mean:.6f}")
claim("outcome_loss is the mean within an answer, then over answers",
      abs(token_loss - (row_one + row_two) / 2) < 1e-12)
claim("the three losses are three numbers",
      min(abs(token_loss - over_all), abs(token_loss - of_mean), abs(over_all - of_mean)) > 0.01)
step_labels = torch.tensor([[-100, 1, -100, 0], [1, -100, -100, -100]])
by_hand = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(6)) + math.log(1 + math.exp(-2))) / 3
claim("process_loss is the mean over all labelled steps",
      abs(process_reward.process_loss(logits, step_labels)[0].item() - by_hand) < 1e-12)

# %% [markdown]
# Now on the village's sums, as `village-3m-sft` writes them: digit by digit, with carries, and often wrong. Each
# sentence is a step; it is right if correct column addition has that sentence in this place. Both models are linear
# heads on frozen states: logistic regression, which `fit_head` also solves, because it is Bradley–Terry against an
# opponent whose score is always zero. Held-out and training sums share no result.

# %%
pieces = [tokenizer.decode([i]) for i in range(len(tokenizer))]


def worked(prompt, ids):
    """A sum and an answer's ids -> what the two models learn from."""
    info = village.parse(prompt).info
    expected, total = village.tasks.working(info["a"], info["b"])
    steps, text, n, right = [-100] * len(ids), "", 0, 0
    for t, token in enumerate(ids):
        text += pieces[token]
        if text.endswith("."):
            said, text = text.strip(), ""
            if "=" in said:
                steps[t], n = int(said in expected[n : n + 1]), n + 1
            elif "result is" in said:
                steps[t] = right = int(said == f"The result is {total}.")
    return {"prompt": encode_prompt(tokenizer, prompt), "ids": ids, "steps": steps, "ok": right}


def worked_rows(pool):
    """All answers of a Pool of sums."""
    return [worked(pool.prompts[pool.prompt[i]], pool.ids[i, : pool.lengths[i]].tolist())
            for i in range(len(pool))]


# %%
@torch.no_grad()
def token_states(rows):
    """Rows of `worked` -> states (B, L, H), mask of the answers (B, L), steps (B, L), ok (B,)."""
    ids, on = pad_right([r["prompt"] + r["ids"] for r in rows], EOS)
    h = torch.cat([hidden_states(start, *x) for x in zip(ids.split(64), on.split(64), strict=True)])
    mask = pad_right([[0] * len(r["prompt"]) + [1] * len(r["ids"]) for r in rows])[0]
    steps = pad_right([[-100] * len(r["prompt"]) + r["steps"] for r in rows], -100)[0]
    return h, mask, steps, torch.tensor([r["ok"] for r in rows])


def classifier(h, label, l2=0.03):
    """Logistic regression on states: (N, H), (N,) 0/1 -> weights and, last, a bias, (H + 1,)."""
    x = torch.cat([h.double(), torch.ones(len(h), 1, **f64)], 1) * (2 * label[:, None] - 1)
    return fit_head(x, torch.zeros_like(x), l2=l2)


def logit(h, w):
    return h.double() @ w[:-1] + w[-1]


# %%
def total(pool):
    """The result that each answer should have: (B,)."""
    info = [village.parse(pool.prompts[i]).info for i in pool.prompt.tolist()]
    return torch.tensor([x["a"] + x["b"] for x in info])


sums = stored.select(source="wide", family="sum")
many = stored.select(source="village-3m-sft", family="sum")
many = many.take(torch.cat([rows[:64] for rows in many.groups().values()]))
hold = torch.isin(total(sums), total(many)) | (total(sums) % 4 == 3)
h, mask, steps, ok = token_states(worked_rows(sums.take(~hold)))
some = mask.bool() & (torch.rand(mask.shape, generator=run.fresh("tokens")) < 0.3)  # enough
orm = classifier(h[some], ok[:, None].expand(mask.shape)[some])
prm = classifier(h[steps != -100], steps[steps != -100])
early = stored.select(source="sft-early", family="sum")
early = early.take(torch.arange(0, len(early), 2))
tests = {name: token_states(worked_rows(pool)) for name, pool in
         (("on-policy", sums.take(hold)), ("off-policy", early))}
guess = {name: torch.sigmoid(logit(x, orm)) for name, (x, *_) in tests.items()}
calibration = {}
for name, (_, m, _, z) in tests.items():
    p, y = guess[name][m.bool()], z[:, None].expand(m.shape)[m.bool()]
    calibration[name] = (p, y, expected_calibration_error(p, y))
p, y = torch.sigmoid(logit(tests["on-policy"][0], prm)), tests["on-policy"][2]
step_hit = ((p > 0.5) == (y == 1))[y != -100].double().mean().item()
believed = {word: p[y == label_].mean().item() for word, label_ in (("right", 1), ("wrong", 0))}
claim("on new sums the process model gives right steps a higher probability than wrong ones",
      believed["right"] > believed["wrong"], believed | {"accuracy": step_hit,
      "always right": (y[y != -100] == 1).double().mean().item()}, kind="T")

# %% [markdown]
# ("Always right" is the accuracy of calling every step right: the process model is only a little better.)
#
# **Is a predicted probability a probability?** Collect all tokens at which the ORM says "about 70 %"; of those
# answers, seven in ten should end well. A *reliability curve* draws that for each level; the *expected calibration
# error* (ECE) is the mean distance from the diagonal. On-policy means: answers of the model whose answers trained
# the ORM. Off-policy: answers of an early checkpoint, which is mostly wrong.

# %%
def reliability(p, y, bins=8, least=20):
    """Bins with at least `least` items -> (mean prediction, share of ones)."""
    where = (p * bins).long().clamp(max=bins - 1)
    full = [where == b for b in range(bins) if (where == b).sum() >= least]
    return [p[b].mean().item() for b in full], [y[b].double().mean().item() for b in full]


curves = {"on-policy": reliability(*calibration["on-policy"][:2]),
          "off-policy": reliability(*calibration["off-policy"][:2]), "perfect": ([0, 1], [0, 1])}
roles = {"on-policy": "policy", "off-policy": "rejected", "perfect": "reference"}
show(line_plot(curves, roles=roles,
               title="An outcome model is calibrated where it was trained",
               x_label="predicted probability of a right result", y_label="share that was right",
               note="linear ORM on village-3m-sft"),
     "Reliability curves of an outcome reward model, share of right results against predicted "
     "probability: on-policy near the diagonal, off-policy below it, which is overconfidence.")
on_error, off_error = calibration["on-policy"][2], calibration["off-policy"][2]
claim("on-policy the outcome model's calibration error is at most a tenth",
      on_error <= 0.1, {"ECE": on_error}, kind="T")
claim("off-policy it is worse",
      off_error > on_error + 0.1, {"on": on_error, "off": off_error}, kind="T")

# %% [markdown]
# **An ORM aims at a value function.** $V^\pi$ of a prefix is the reward to expect if the policy $\pi$ goes on from there.
# With a 0/1 reward at the end only, not discounted (γ = 1), that is "how likely is a right end from here?", the ORM's
# target on-policy. (A reward model scores whole answers, a process model steps, and a language model as a judge, chapter
# 13, is only asked.) The stored samples hold many answers to one sum: all that share a prefix are continuations of it, and
# their share of right results is an unbiased estimate of $V^\pi$(prefix).

# %%
many_h, many_on, many_steps, many_ok = token_states(worked_rows(many))
said, outcomes, opinion = torch.sigmoid(logit(many_h, orm)), {}, {}
for i in range(len(many)):
    ids, at_token = many.ids[i, : many.lengths[i]].tolist(), many_on[i].nonzero()[:, 0].tolist()
    for t in range(len(ids)):
        prefix = (many.prompt[i].item(), *ids[: t + 1])
        outcomes.setdefault(prefix, []).append(many_ok[i].item())
        opinion[prefix] = said[i, at_token[t]].item()
often = {k: sum(ends) / len(ends) for k, ends in outcomes.items() if len(ends) >= 16}
agreement = spearman([opinion[k] for k in often], list(often.values()))
within = []
for question in many.groups():
    value = {k: v for k, v in often.items() if k[0] == question}
    if len(set(value.values())) > 1:
        within.append(spearman([opinion[k] for k in value], list(value.values())))
within = sum(within) / len(within)
claim("prefixes from which the policy ends well more often get a higher probability from the ORM",
      agreement > 0.1, {"prefixes": len(often), "rank correlation": agreement}, kind="T")
claim("but that is mostly knowledge of which question is hard: within one question it is weaker",
      within < agreement - 0.1, {"within, mean": within, "pooled": agreement}, kind="T")

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
versions = {}
for fault in ("", "step"):
    texts = [village.answer(village.parse(q), luck, fault) for q in asked]
    versions[fault] = token_states([worked(q, encode_completion(tokenizer, text)[0])
                                    for q, text in zip(asked, texts, strict=True)])
print("perfect:", village.answer(village.parse(asked[0]), luck), "\nspoiled:", village.answer(
    village.parse(asked[0]), luck, "step"))
(_, _, s_good, ok_good), (_, _, s_bad, ok_bad) = versions.values()
claim("every spoiled answer has the right result and exactly one wrong step",
      bool(ok_good.all() and ok_bad.all() and ((s_bad == 0).sum(1) == 1).all())
      and not (s_good == 0).any().item())

# %% [markdown]
# **From steps to one score.** A chain is as good as its weakest link (`min`), or as its average, or its last step; or
# one multiplies the probabilities, and pays for every step.

# %%
steady = torch.full((1, 9), math.log(0.9 / 0.1), **f64)  # every step is right with probability 0.9
for n in (1, 3, 9):
    first_n = (torch.arange(9) < n).long()[None]
    one_score = {how: process_reward.answer_score(steady, first_n, how).item()
                 for how in ("min", "mean", "last", "product")}
    print(f"{n} equally good steps:", {how: round(x, 4) for how, x in one_score.items()})
claim("with equally good steps the product falls with their number; min, mean and last do not care",
      abs(one_score["product"] - 0.9**9) < 1e-12
      and max(abs(one_score[how] - 0.9) for how in ("min", "mean", "last")) < 1e-12)

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
ends = many_steps != -100
ends[~ends.any(1), 0] = True  # an answer without any step: judged by the state of its prompt
orm_last = process_reward.answer_score(logit(many_h, orm), many_on, "last")
picks = {"outcome model, last": orm_last}
for how in ("min", "mean", "product", "last"):
    picks[f"process model, {how}"] = process_reward.answer_score(logit(many_h, prm), ends, how)
sound = {}
for name, w, how in (("outcome model, last", orm, "last"), ("process model, min", prm, "min")):
    good, bad = (process_reward.answer_score(logit(x, w), m if w is orm else s != -100, how)
                 for x, m, s, _ in versions.values())
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
claim("every one of these choices is worse than a random answer, by three standard errors",
      max(gain + 3 * error for gain, error in gains.values()) < 0,
      {name: f"{gain:.2f} ± {error:.2f}" for name, (gain, error) in gains.items()}, kind="S")
claim("on planted errors neither head beats a coin by three standard errors",
      max(sound.values()) < 0.5 + 3 * 0.5 / len(asked) ** 0.5, sound, kind="S")
place = orm_last.view(n_questions, 64).argsort(1).argsort(1).flatten()  # 0 to 63 in its question
share = {name: many_ok[(place >= low) & (place < low + 8)].double().mean().item()
         for name, low in (("lowest eighth", 0), ("middle eighth", 28), ("highest eighth", 56))}
claim("within a question the right answers sit in the middle of the outcome model's scores",
      share["middle eighth"] > max(share["lowest eighth"], share["highest eighth"]) + 0.2,
      share, kind="T")

# %% [markdown]
# **Read this table against what you expected.** Papers train whole networks on step labels and find that process
# models catch such errors and choose better answers. Our linear heads do not: they are at best a coin on planted errors,
# and their choices are *worse* than a random answer. The last claim shows how. The right answers to a question are much
# alike and get middling scores; wrong ones go wrong in many ways, some score higher, and a maximum looks for just those.
# Why the head likes them we do not know. Calibration is an average over questions; best-of-n asks within one.
#
# ## 7.6 When not to believe a score
#
# **Calibration of comparisons.** $\sigma(r_i-r_j)$ claims to be a probability: that *the person* picks i. With few
# labels and little penalty a head makes bold claims. The cure: divide all scores by a temperature $T$ that is fitted on
# labels the head was not trained on. The ranking stays; only the boldness changes.

# %%
dice = run.fresh("calibration")
few = label(train[torch.randperm(len(train), generator=dice)[:2048]], careful, dice)
bold = states @ fit_head(states[few[:, 0]], states[few[:, 1]], l2=1e-3)
fresh = test[torch.randperm(len(test), generator=dice)]
won = (label(fresh, careful, dice)[:, 0] == fresh[:, 0]).double()
claimed = bold[fresh[:, 0]] - bold[fresh[:, 1]]
half_of = len(fresh) // 2
grid = torch.logspace(-1, 2, 200, **f64)
nll = torch.stack([torch.nn.functional.binary_cross_entropy_with_logits(
    claimed[:half_of] / T, won[:half_of]) for T in grid])
T = grid[nll.argmin()].item()
before, after = (torch.sigmoid(claimed[half_of:] / t) for t in (1.0, T))
seen = won[half_of:]
ece = {"before": expected_calibration_error(before, seen),
       "after": expected_calibration_error(after, seen)}
show(line_plot({"before": reliability(before, seen), "after": reliability(after, seen),
                "perfect": ([0, 1], [0, 1])},
               roles={"before": "rejected", "after": "chosen", "perfect": "reference"},
               title="A head with little data is bold; one temperature tames it",
               x_label="claimed probability that the person picks the first",
               y_label="share in which the first was picked", note="linear head, 2,048 labels"),
     "Reliability curves of a reward model on new pairs: before temperature scaling it is flatter "
     "than the diagonal, which is overconfidence; after it the claims stay nearer to one half.")
claim("dividing the scores by a temperature fitted elsewhere lowers the calibration error",
      T > 1 and ece["after"] < ece["before"], {"T": T} | ece, kind="T")

# %% [markdown]
# How much the calibration error falls depends on the sample: the outer bins hold few pairs.
#
# **Ensembles.** Five heads, each fitted on its own resample of the same labels. Where they disagree, the score is an
# accident of the sample. `ensemble` gives mean, minimum and spread; a pessimist optimises the minimum, or the mean minus
# the spread. Ten label sets.

# %%
show_source(reward_model.ensemble, reward_model.uncertainty_weighted)
dice, counts = run.fresh("ensemble"), []
for _ in range(10):
    base_labels = label(train[torch.randperm(len(train), generator=dice)[:1024]], NOISY, dice)
    five = []
    for _ in range(5):
        again = base_labels[torch.randint(len(base_labels), (len(base_labels),), generator=dice)]
        five.append(states @ fit_head(states[again[:, 0]], states[again[:, 1]], l2=HEAD_L2))
    gaps = torch.stack(five)[:, test[:, 0]] - torch.stack(five)[:, test[:, 1]]
    united = (gaps > 0).all(0) | (gaps < 0).all(0)
    hit = (reward_model.ensemble(gaps)["mean"] * true_gap > 0).double()
    counts.append([hit[united].mean(), hit[~united].mean(), 1 - united.double().mean()])
counts = torch.tensor(counts)
ahead = counts[:, 0] - counts[:, 1]
claim("pairs on which all five agree are ordered right more often than pairs that they dispute",
      ahead.mean() - 3 * ahead.std() / 10**0.5 > 0,
      dict(zip(("agree", "dispute", "share disputed"), counts.mean(0).tolist(), strict=True)),
      kind="S")

# %% [markdown]
# All five read the *same* states and the same person's labels: what the network cannot see, and what the person got
# consistently wrong, they get wrong together. That is the next section.
#
# ## 7.7 Length: the bias that everybody has
#
# Labellers, human or not, tend to like long answers; the wordy teacher of 7.2 has a known dose. How would you *notice*?
# Longer answers may really be better, so a bare correlation proves nothing. Hold the truth fixed: regress score
# differences on differences of gold *and* of words.

# %%
def length_slope(score, two=test):
    """Score for ten words at equal gold over score for a unit of gold, by least squares."""
    gap, tens = (x[two[:, 0]] - x[two[:, 1]] for x in (score, words / 10))
    x = torch.stack([gold[two[:, 0]] - gold[two[:, 1]], tens], 1)
    on_gold, on_words = torch.linalg.lstsq(x, gap[:, None]).solution[:, 0].tolist()
    return on_words / on_gold


detected, truth_kept = {}, {}
at_words = list(village.WEIGHTS).index("words") - len(village.WEIGHTS)  # its column, from the end
for person in (NOISY, WORDY):
    dice = run.fresh(f"length {person.name}")
    labels = label(train[torch.randperm(len(train), generator=dice)[:2048]], person, dice)
    w = fit_head(features[labels[:, 0]], features[labels[:, 1]])
    detected[person.name] = length_slope(features @ w)
    truth_kept[person.name] = accuracy(features @ w)
    w[at_words] = 0  # cure: let words explain what they explain, then do not pay for them
    detected[f"{person.name}, cured"] = length_slope(features @ w)
    truth_kept[f"{person.name}, cured"] = accuracy(features @ w)
claim("the detector finds the wordy teacher's dose in the student, and little in the noisy one's",
      abs(detected["wordy"] - WORDY.length_bias) < 0.5 and abs(detected["noisy"]) < 0.4,
      detected | {"dose": WORDY.length_bias}, kind="T")
claim("with words as a covariate that is dropped at scoring, the biased labels teach the truth",
      truth_kept["wordy, cured"] > truth_kept["wordy"] + 0.1, truth_kept, kind="T")

# %% [markdown]
# The cure worked because we *knew the column*. Real reward models have no column called words; there one balances
# the data instead: keep the pairs whose two answers are equally long within one word, at the price of labels. And what
# happens when somebody *uses* the liking for length? Add filler sentences to the test answers.

# %%
dice = run.fresh("balance")
wordy_labels = label(train[torch.randperm(len(train), generator=dice)], WORDY, dice)
balanced = wordy_labels[(words[wordy_labels[:, 0]] - words[wordy_labels[:, 1]]).abs() <= 1]
wordy_heads = {name: fit_head(states[two[:, 0]], states[two[:, 1]], l2=HEAD_L2)
               for name, two in (("all pairs", wordy_labels), ("balanced", balanced))}
slope_of = {name: length_slope(states @ w) for name, w in wordy_heads.items()}
right_of = {name: accuracy(states @ w) for name, w in wordy_heads.items()}
claim("on frozen states, too, pairs of equal length within one word leave a smaller slope on words",
      abs(slope_of["balanced"]) < abs(slope_of["all pairs"]),
      slope_of | {"pairs kept": len(balanced)}, kind="T")
claim("and the head on fewer, balanced pairs knows more of the truth",
      right_of["balanced"] > right_of["all pairs"], right_of, kind="T")

# %%
FILLER = ("That is what people say in the village.", "You can ask me again tomorrow.",
          "I have thought about it for a long time.", "There is much more to say about it.")
short_ones = [i for i in test[:, 0].unique().tolist() if words[i] <= 12 and wide.ended[i]][:32]
texts, padded = wide.texts(short_ones, tokenizer), {"gold": [], "wordy": [], "balanced": []}
for n in range(len(FILLER) + 1):
    longer = [" ".join([text, *FILLER[:n]]) for text in texts]
    asked_here = [wide.prompts[wide.prompt[i]] for i in short_ones]
    ids, on = pad_right([encode_prompt(tokenizer, q) + encode_completion(tokenizer, a)[0]
                         for q, a in zip(asked_here, longer, strict=True)], EOS)
    h = reward_model.last_states(start, ids, on).double()
    true = [village.gold(q, a) for q, a in zip(asked_here, longer, strict=True)]
    padded["gold"].append(sum(true) / len(true))
    for name, key in (("wordy", "all pairs"), ("balanced", "balanced")):
        spread = (states @ wordy_heads[key]).std()
        padded[name].append((h @ wordy_heads[key]).mean().item() / spread.item())
moved = {name: [v - line[0] for v in line] for name, line in padded.items()}
fig = line_plot(moved, roles={"gold": "gold", "wordy": "proxy", "balanced": "policy"},
                title="Filler leaves the truth alone; the wordy teacher's head rewards it",
                x_label="filler sentences added", y_label="change (heads: in standard deviations)",
                note="32 held-out answers")
fig.axes[0].set_xticks(range(len(FILLER) + 1))
show(fig,
     "Line plot of the change in gold and in the scores of two reward models against the number of "
     "filler sentences added: gold does not rise; the wordy teacher's head is above the balanced.",
     data=moved)
claim("filler makes no answer truly better; the wordy head pays more for it than the balanced",
      max(moved["gold"]) <= 1e-9 and moved["wordy"][-1] > moved["balanced"][-1],
      {name: line[-1] for name, line in moved.items()}, kind="T")

# %% [markdown]
# ## Once, by hand, on one batch
#
# One update of a reward model, on paper: four pairs, eight scores. Each chosen score is pushed up, each rejected score
# down, by *how surprised the model is*.

# %%
chosen = torch.tensor([2.0, 0.5, -1.0, 1.0], requires_grad=True, **f64)
rejected = torch.tensor([0.0, 0.0, 1.0, 1.0], requires_grad=True, **f64)
loss, stats = pairwise_loss(chosen, rejected)
loss.backward()
gap = (chosen - rejected).detach()
table = {"gap": gap, "σ(gap)": torch.sigmoid(gap), "loss": -torch.nn.functional.logsigmoid(gap),
         "∂/∂chosen": chosen.grad, "∂/∂rejected": rejected.grad}
for name, x in table.items():
    print(f"{name:<11} {tuple(x.shape)}  {[f'{v:+.4f}' for v in x.tolist()]}")
print(f"loss {loss.item():.6f}   accuracy {stats['accuracy'].item():.2f} (the tie counts as wrong)")
claim("each gradient is minus the surprise, 1 - σ(gap), over the number of pairs",
      (chosen.grad + (1 - torch.sigmoid(gap)) / 4).abs().max() < 1e-12)
claim("what a pair gives to one side it takes from the other: the sum is never pushed",
      (chosen.grad + rejected.grad).abs().max() < 1e-15)

# %% [markdown]
# Read the third column. The model was sure of the wrong answer, and this pair pushes most, even if the *label* is the
# mistake. That is what makes label errors expensive.
#
# ## The loop: one whole reward model
#
# Now a copy of `village-3m-sft` with a scalar head is trained as a whole, with the labels of a person at temperature 1.
# To save time it reads only requests for help, harmful ones and harmless look-alikes: what is better there depends on
# the question. Is it better to read the *same* pairs a second time, or as many *new* ones once? Beside it: a linear
# head on frozen states.

# %%
show_source(RewardModel, reward_model.step)

# %%
dice = run.fresh("full")
asks_help = torch.tensor([f in ("harmful", "lookalike") for f in wide.families])[wide.prompt]
learn, judged = (two[asks_help[two[:, 0]]] for two in (train, test))
labels = label(learn[torch.randperm(len(learn), generator=dice)[:256]], careful, dice)
seen_first, seen_next = labels.chunk(2)
judged = judged[torch.randperm(len(judged), generator=dice)[:128]]
verdicts = label(judged, careful, dice)  # what the person says about the held-out pairs


def batch_of(two):
    """(N, 2) rows -> ids and attention (2N, L): the chosen answers first."""
    ids, on = pad_right([encode_prompt(tokenizer, wide.prompts[wide.prompt[i]])
                         + wide.ids[i, : wide.lengths[i]].tolist() for i in two.T.flatten()], EOS)
    return {"ids": ids, "attention": on}


@torch.no_grad()
def examine(model):
    """Held-out pairs -> agreement with the truth, loss on what the person says of them."""
    chosen, rejected = torch.cat([torch.stack(model(**batch_of(two)).chunk(2), 1)
                                  for two in verdicts.split(16)]).T
    real = gold[verdicts[:, 0]] - gold[verdicts[:, 1]]
    return {"accuracy": ((chosen - rejected) * real > 0).double().mean().item(),
            "held-out loss": pairwise_loss(chosen, rejected)[0].item()}


# %%
def one_pass(model, two, name):
    """Every pair once, 16 a step -> the losses of the steps."""
    adam = torch.optim.AdamW(
        [{"params": model.base_model.parameters(), "lr": 3e-4},
         {"params": model.model.score.parameters(), "lr": 3e-3}], weight_decay=0.0)
    return [reward_model.step(model, adam, batch_of(torch.tensor(some)))["loss"].item()
            for some in data.batches(two.tolist(), 16, generator=run.fresh(name))]


full = RewardModel(start)
log = {"first pass": one_pass(full, seen_first, "pass 1")}
exam = {"one pass, 128 pairs": examine(full)}
twice = copy.deepcopy(full)
log["same pairs again"] = one_pass(twice, seen_first, "pass 2")
exam["the same 128 again"] = examine(twice)
log["new pairs"] = one_pass(full, seen_next, "pass 2")
exam["128 new pairs"] = examine(full)
x = states @ fit_head(states[labels[:, 0]], states[labels[:, 1]], l2=HEAD_L2)
exam["frozen head, 256 pairs"] = {
    "accuracy": accuracy(x, judged), "held-out loss": pairwise_loss(*x[verdicts].T)[0].item()}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
for name, losses in log.items():
    print(f"{name:<20} training loss", " ".join(f"{v:.3f}" for v in losses))
for name, numbers in exam.items():
    low, high = wilson(numbers["accuracy"], len(verdicts))
    print(f"{name:<26} agrees with the truth {numbers['accuracy']:.3f} ({low:.2f} to {high:.2f})"
          f"   held-out loss {numbers['held-out loss']:.3f}")

# %%
claim("the whole reward model orders unseen pairs better than a coin",
      exam["128 new pairs"]["accuracy"] > 0.5, exam["128 new pairs"], kind="T")
claim("on the pairs it reads again the training loss is lower than on new ones",
      sum(log["same pairs again"]) < sum(log["new pairs"]),
      {name: sum(x) / len(x) for name, x in log.items()}, kind="T")
so_far = {name: [sum(x[:k]) / k for k in range(1, len(x) + 1)] for name, x in log.items()}
show(line_plot({name: (range(1, len(x) + 1), x) for name, x in so_far.items()},
               roles={"first pass": "reference", "same pairs again": "rejected",
                      "new pairs": "chosen"},
               title="The second reading looks like progress, on paper", x_label="step of a pass",
               y_label="training loss, mean so far", note="village-3m-sft, 16 pairs a step"),
     "Line plot of the mean training loss so far of a reward model: first pass, second pass over "
     "the same pairs, and a pass over new pairs; the second reading has the lowest loss.")

# %% [markdown]
# The training loss alone would recommend the second pass. Compare the *held-out* loss in the table above: here the second
# look neither helped nor hurt it visibly; new pairs lowered it more. In the last row, the frozen head is no worse off
# than the whole network, which has far more to fit. With so few held-out pairs one run is an anecdote, and we claim
# only what the training loss shows.
#
# ## Failure gallery
#
# **Failure 1: `log(1 + exp(...))` (F2).** The second form of the loss, as printed.
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
print(f"a gap of -100: as printed {naive.item():.1f}, gradient {naive_slope.item():.1f}; "
      f"logsigmoid {stable.item():.1f}, gradient {losing.grad.item():.1f}")
claim("detector: feed a gap of minus one hundred; loss and gradient must be finite",
      not math.isfinite(naive.item()) and math.isnan(naive_slope.item())
      and stable.item() == 100 and losing.grad.item() == -1)

# %% [markdown]
# **Failure 2: the end token taken for padding (F1, A3).** Section 7.3's last reading, in code.
#
# ```python
# attention = (ids != tokenizer.pad_token_id)      # wrong: pad is EOS, so every EOS vanishes
# ids, attention = pad_right(rows)                 # right: made where the lengths are known
# ```
#
# What one sees: nothing, until an answer that was cut off gets the same score as the finished one.

# %%
finished = encode_prompt(tokenizer, QUESTION) + encode_completion(tokenizer, "It eats cakes.")[0]
cut = finished[:-1]  # stopped by a length limit: no end token
ids, on = pad_right([finished, cut], EOS)
guessed = (ids != EOS).float()
with torch.no_grad():
    right_scores, wrong_scores = judge(ids, on), judge(ids, guessed)
print("attention given:   finished and cut get",
      "the same score" if right_scores[0] == right_scores[1] else "different scores")
print("attention guessed: finished and cut get",
      "the same score" if abs(wrong_scores[0] - wrong_scores[1]) < 1e-6 else "different scores")
claim("detector: with a guessed attention the finished and the cut answer cannot be told apart",
      abs(right_scores[0] - right_scores[1]) > 1e-3
      and abs(wrong_scores[0] - wrong_scores[1]) < 1e-5)

# %% [markdown]
# **Failure 3: rated alternatives chained as steps (K39).** Step data often rates several *alternatives* for one step, and
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
claim("detector: in a chain of alternatives the contexts outgrow the steps of the solution",
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
    small, small_tokenizer = load("smollm2-135m")
    asked = [row for split in ("train", "test") for row in village.prompts(
        24, split=split, families=("harmful", "lookalike"), seed=run.seed, distinct=False)]
    small_pairs = []
    for row in asked:
        task = village.parse(row["prompt"])
        bad = {"harmful": "help", "lookalike": "refuse"}[row["family"]]
        small_pairs.append({"prompt": row["prompt"], "chosen": village.answer(task, luck),
                            "rejected": village.answer(task, luck, bad)})
    both = data.collate_pairs(small_pairs, small_tokenizer)
    small_states = reward_model.last_states(small, both["ids"], both["attention"], batch=32)
    better, worse = small_states.chunk(2)
    small_head = fit_head(better[:24], worse[:24], l2=0.1)
    tuned = RewardModel(small, small_head)
    layers = tuned.base_model.layers
    tuned.requires_grad_(False)
    for part in (layers[-2:], tuned.base_model.norm, tuned.model.score):
        part.requires_grad_(True)
    with torch.no_grad():
        began = tuned(both["ids"][:4], both["attention"][:4])
    adam = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=5e-5)
    small_log = []
    for some in data.batches(small_pairs[:24], 8, generator=run.fresh("small")):
        batch = data.collate_pairs(some, small_tokenizer)
        small_log.append(reward_model.step(
            tuned, adam, {k: batch[k] for k in ("ids", "attention")})["loss"].item())
    new = data.collate_pairs(small_pairs[24:], small_tokenizer)
    with torch.no_grad():
        tuned_gap = torch.sub(*torch.cat([tuned(*some) for some in zip(
            new["ids"].split(32), new["attention"].split(32), strict=True)]).chunk(2))
    claim("before its first step the reward model gives the scores of the head it started from",
          (began - small_states[:4] @ small_head).abs().max() < 1e-5 * small_states.abs().max(),
          {"largest difference": (began - small_states[:4] @ small_head).abs().max().item(),
           "largest state": small_states.abs().max().item()})

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
if available("smollm2-135m"):
    small_gap = (better - worse)[24:] @ small_head
    for name, gap in (("frozen head", small_gap), ("two layers trained", tuned_gap)):
        hit = (gap > 0).double().mean().item()
        low, high = wilson(hit, len(gap))
        print(f"{name:<20} {hit:.2f} of unseen pairs right (95 %: {low:.2f} to {high:.2f}), "
              f"median gap {gap.median().item():.1f}")
    print("training loss of the steps:", " ".join(f"{v:.3f}" for v in small_log))
    for i in (24 + small_gap.argmin().item(), 24 + small_gap.argmax().item()):
        print(f"gap {small_gap[i - 24].item():.1f}  {small_pairs[i]['prompt']}")
        print(f"    chosen: {small_pairs[i]['chosen']}   rejected: {small_pairs[i]['rejected']}")

# %% [markdown]
# The intervals are wide: where one includes one half, this run has shown nothing. The three steps changed next to
# nothing: the head had fitted these pairs already, as their loss says.
#
# **Longer.** A recorded run: LoRA of rank 16, sixty updates of eight pairs, answers of the village's own model labelled by
# one person (`data/runs/smollm2.py`). Then held-out requests of both kinds. On which kind will it be worse?

# %%
long = recorded("smollm2_reward")
show(recorded_plot(long, {"chosen": "chosen", "rejected": "rejected"},
                   title="Recorded: the two scores come apart", y_label="mean score of the batch",
                   note="smollm2-135m, LoRA, one run"),
     "Line plot of the mean scores of chosen and of rejected answers against the steps of a "
     "recorded run: both rise for two thirds of it, then sink a little; the gap stays open.")
gap = torch.tensor(long.curve["chosen"]) - torch.tensor(long.curve["rejected"])
print("held-out pairs, the truly better answer scored higher (95 %):")
held = {family: (x["right"], *wilson(x["right"], x["n"]))
        for family, x in long.held_out["after"].items()}
for family, (hit, low, high) in held.items():
    print(f"  {family:<10} {hit:.2f} ({low:.2f} to {high:.2f})")
long.made()
claim("the gap between the two scores is wider in the last third of the run than in the first",
      gap[-20:].mean() > gap[:20].mean() + 0.1,
      {"first third": gap[:20].mean().item(), "last third": gap[-20:].mean().item()}, kind="T")
claim("the recorded reward model orders answers to harmful requests far better than a coin",
      held["harmful"][1] > 0.6, str(held["harmful"]), kind="T")
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
# ### Exercise 7.2 · When the person cannot decide · difficulty 3 of 5 · 15 minutes (estimated) · needs: 7.1, 7.4
#
# Somebody says "first" only if it feels better by more than $t$, "second" likewise, and otherwise "tie" (Rao and
# Kupper, 1967). With $\Delta=r_1-r_2$: $P(\text{first})=\sigma(\Delta-t)$, $P(\text{second})=\sigma(-\Delta-t)$, the rest
# is a tie. Write the mean negative log-likelihood. Outcomes: 1 first, 0 second, ½ tie.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex07-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def tie_loss(gap, outcome, t):
    """Score differences (N,), outcomes (N,) in {0, 0.5, 1}, threshold t > 0 -> one number."""
    ### BEGIN SOLUTION
    first, second = torch.sigmoid(gap - t), torch.sigmoid(-gap - t)
    chance = torch.where(outcome == 1, first, torch.where(outcome == 0, second, 1 - first - second))
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
# ### Exercise 7.3 · Somebody planted a bug · difficulty 3 of 5 · 15 minutes (estimated) · needs: 7.3
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
# ### Exercise 7.4 · A duel of aggregations · difficulty 2 of 5 · 10 minutes (estimated) · needs: 7.5
#
# Two solutions of `n` steps each, with step probabilities from a PRM. For every n from 2 on, build them such that `mean`
# prefers the first, and `min` the second, each by at least 0.05.<!-- fact -->

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex07-4", "locked": false, "schema_version": 3, "solution": true, "task": false}
def duel(n):
    """n >= 2 -> (first, second), lists of n probabilities; mean prefers the first, min not."""
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
# ### Exercise 7.5 · Bold or timid? · difficulty 3 of 5 · 15 minutes (estimated) · needs: 7.5, 7.6
#
# ECE has no sign. Write a detector with one: the mean *confidence* of a reward model in its own verdicts, minus the share
# of verdicts that were right. Positive is bold, negative timid. `prob` is $\sigma(\Delta)$, the claimed probability that
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
# *You should now be able to say* why the mean of `prob - won` is near zero even for a wildly bold model.
#
# <!-- solution 7.5 -->
#
# ### Exercise 7.6 · Is it length, or is it quality? · difficulty 4 of 5 · 20 minutes (estimated) · needs: 7.7
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
# `length_slope` in section 7.7 solves nearly this problem. Which two columns, which coefficient?
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
# ## Questionnaire
#
# 1. Write the Bradley–Terry probability with strengths and with scores.
# 2. What can be added to a reward without changing its loss, and what can it be multiplied by?
# 3. In which unit does a reward model measure?
# 4. Which errors of labellers do more labels cure, and which not?
# 5. Name three wrong ways to find the last token, and when each is right.
# 6. What does a margin do to the loss? Between whom or what is it measured?
# 7. When does an outcome model aim at the value function?
# 8. What does a reliability curve show, and what does a temperature change?
# 9. What can an ensemble of heads on one network not notice?
#
# <details><summary>Answers</summary>
#
# 1. $p_i/(p_i+p_j)$, $\sigma(r_i-r_j)$. 2. Any function of the prompt; nothing but one. 3. In units of the labeller's
# noise: $r^\star/\tau$. 4. Random ones; not consistent ones. 5. Attention sum minus one (padding on the right), last column
# (on the left), last id that is not pad (padding token of its own). 6. It raises it; between the two answers' ratings.
# 7. On-policy, with a 0/1 reward at the end only and no discount. 8. How often what was claimed with some probability
# came true; the boldness, not the order. 9. What the network cannot see and what the labels say consistently.
#
# </details>
#
# ## Where the book and its code differ
#
# All at commit a66b0bf. Small things; each has its cell.
#
# - **"Probability of being good."** In two places the text reads a Bradley–Terry score as a probability. Only σ of a
#   *difference* is one; section 7.1 shifts the scores and the loss does not move (K41).
# - **The last token.** Text and code take the sum of the attention minus one: right for right padding only. Section
#   7.3 prints what it reads under left padding (K42, F1).
# - **Three ORM losses.** [eq:orm_token_loss](https://rlhfbook.com/c/05-reward-models#eq:orm_token_loss) averages within an
#   answer, the code over all tokens of the batch, and [eq:orm_loss](https://rlhfbook.com/c/05-reward-models#eq:orm_loss) is
#   the sigmoid of a mean logit: three numbers in section 7.5. Ours is the first (K37).
# - **PRM labels.** Binary and summed over steps in the equation, three classes and averaged in the code (K38). Ours: binary,
#   mean over labelled steps. The step data's alternatives are failure 3 (K39).
# - **"Value or ORM."** The table calls them different. On-policy, with a 0/1 reward at the end and γ = 1, they have one
#   target: section 7.5 (K40).
# - **Where the margin is.** Between two *answers'* ratings here, between *annotators* in the regularisation chapter
#   (K44). And $\binom K2^{-1}$ is a weight only while a prompt's pairs stay together (K43).
# - **One epoch** in the text, two in the preference configuration (K45): see the loop.
#
# ## Summary
#
# A reward model is maximum likelihood for choices between two answers, and knows the truth at best up to a scale and a
# shift for every prompt. Random errors average out, as far as the network can represent the truth; consistent ones are
# learned like everything else. The score lives at one token, which attention finds and ids do not. Outcome models aim at
# the value function where their data came from, and can be overconfident elsewhere; calibrated is not yet fit for
# choosing. Before you climb a score, look at its calibration, its price of a word, and where it was trained.
#
# **Functions you now know**: `pairwise_loss`, `plackett_luce_loss`, `all_pairs_loss`, `fit_head`, `RewardModel`,
# `last_state`, `ensemble`, `outcome_loss`, `process_loss`, `answer_score`, `expected_calibration_error`.
#
# **Further reading**: Ouyang et al. 2022, [arXiv 2203.02155](https://arxiv.org/abs/2203.02155), rankings and why pairs of a
# prompt stay together; Touvron et al. 2023, [arXiv 2307.09288](https://arxiv.org/abs/2307.09288), margins from ratings;
# Lightman et al. 2023, [arXiv 2305.20050](https://arxiv.org/abs/2305.20050), outcomes against steps; Coste et al. 2023,
# [arXiv 2310.02743](https://arxiv.org/abs/2310.02743), what ensembles do and do not prevent; Singhal et al. 2023,
# [arXiv 2310.03716](https://arxiv.org/abs/2310.03716), how much of the gain is length.
#
# <!-- nav -->
