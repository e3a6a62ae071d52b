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

# %% [markdown] rlhf={"part": "first"}
# # 14 · Reasoning
#
# **When the reward is a checker, what does reinforcement learning teach, and what does it merely sharpen?**
#
# ![Rows of dots in two panels, pass@1 and pass@16, for one model without training and after training with four rewards: a checker, a coin, any stated result, wrong results](figures/14_hero.png)
#
# One small model, trained four times on sums such as 61 + 46. Only the reward differs: a *checker* that compares the result, a *coin*, a reward for *any stated result*, a reward for *wrong results*. Above: how often one answer to a new sum is right (*pass@1*). Below: how often at least one of sixteen is (*pass@16*). This page builds the checker, trains with it, and finds out what the model could do before.
#
# <details><summary>What you need, what it costs, what is measured</summary>
# Chapter 11 (policy gradients, RLOO). <!-- costs -->. Nothing is downloaded. Model: <code>village-3m-sft</code>, three million parameters, GPT-2 architecture. Sums of the exam are never trained on, in whatever words. What is said of <i>here</i>, and all texts, are from <b>this page's run</b>, seed 0. Pictures with ranges and tables with ± are from <b>recorded seeds</b>: other demonstrations, training sums, answers and exam sums each; ± is half of a 95 % interval over the seeds (Student's t). Rate and number of steps were chosen in smaller trials on other exam sums.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import re
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, plots, quote, show, table
from rlhf_minimal.evaluate import passes as many
run = begin(14)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** The village model adds two numbers column by column, in words, and then states the result. We finetune it for ten steps on *brief* answers: right results, no working. Now it mostly answers at once, and mostly wrong. Then a checker rewards right results, and nothing else.

# %% tags=["hide-input"]
rlhf.book.predict("Many more answers are right after this training. Why?",
        a="the model still answers at once, and now knows more of the results",
        b="the working is back, and more often right than before the brief steps",
        c="the working is back, and right about as often as before them")

# %% [markdown] rlhf={"part": "phenomenon loop"}
# ## Silence the working, then reward right results
#
# The words before a result are what *reasoning* means on this page: tokens that make the answer easier. Here is the model before and after the ten brief steps, on the same new sum:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained", "show": true}
taught, tokenizer = rlhf.models.load("village-3m-sft")
start = many.answering_briefly(taught, tokenizer, steps=10, seed=run.seed)
test = rlhf.evaluate.exams.sums(48, seed=run.seed)  # two digits each
for name, model in {"taught": taught, "taught, then brief": start}.items():
    found = rlhf.sampling.answer(model, tokenizer, test[:1], n=3, max_new_tokens=48,
                                 generator=run.fresh("texts"))
    cards(test[0], [(name, text) for text in found.texts(tokenizer)])

# %% [markdown]
# For a sum nobody needs to be asked which answer is better. A few lines of code read the result and say 1 or 0. Such a checker is called a *verifier*, and training with it *reinforcement learning with verifiable rewards* (RLVR, [Lambert et al.](https://arxiv.org/abs/2411.15124)).

# %%
def verify(prompt, text):
    a, b = map(int, re.findall(r"\d+", prompt))
    stated = re.findall(r"result is (\d+)\.", text)
    return float(stated[-1:] == [str(a + b)])      # the last stated result, exactly


good = "1 + 6 = 7. 6 + 4 = 10. The result is 107."
for text in (good, good.replace("107", "97"), "107"):
    print(verify("What is 61 + 46?", text), text)
theirs = rlhf.village.checkers.right
claim("the package's checker agrees",
      all(verify(p, t) == theirs(p, t) for p in test for t in (good, "")))

# %% [markdown]
# The checker does not read the working. The loop is that of chapter 11, with the checker in the place of the reward model:

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "loop"}
show(rlhf.book.drawings.pipeline([
    ("sum", "What is 61 + 46?", "data"),
    ("policy", "writes eight answers", "policy"),
    ("checker", "reads each result: 1 or 0", "reward"),
    ("advantage", "own reward minus the mean\nof the other seven", "plain"),
    ("update", "more of what was right,\nless of what was wrong", "policy")],
    down=True))

# %%
def attempt(policy, prompts, reward_of):
    rollout = rlhf.sampling.answer(policy, tokenizer, prompts, n=8, max_new_tokens=48,
                                   generator=run.generator)
    texts = rollout.texts(tokenizer)
    reward = [reward_of(prompts[i // 8], text) for i, text in enumerate(texts)]
    return rollout, torch.tensor(reward)


# %%
def train(reward_of, steps):
    policy = rlhf.models.copy_of(start)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-4, weight_decay=0.0)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=9)
    for step in range(steps):
        prompts = learning[8 * step:8 * step + 8]
        rollout, reward = attempt(policy, prompts, reward_of)
        advantage = rlhf.advantages.leave_one_out(reward, 8)
        logp = rlhf.rollout.completion_logps(policy, rollout).sum(1)
        loss = -(advantage * logp).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warm.step()
    return policy


# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained", "show": true}
learning = rlhf.evaluate.exams.sums(8 * 25, split="train", seed=run.seed)
trained = train(verify, steps=25)
stages = {"taught": taught, "then brief": start, "then the checker": trained}
exam = {name: many.passes(model, tokenizer, test, verify, n=8,
                          generator=run.fresh(name)) for name, model in stages.items()}
cards(test[0], [(name, found.texts[0]) for name, found in exam.items()])

# %% [markdown]
# The working is back, although no reward asked for it. How much of the gain is working, how much is better working? Split the right answers:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained", "show": true}
rows = {}
for name, found in exam.items():
    right, work = found.right.flatten(), many.showing_work(found.texts)
    rows[name] = {"right": found.at(1), "show working": work.mean(),
                  "right, of these": right[work > 0].mean()}
table(rows, digits={"show working": "%"},
      note="here: 48 new sums, eight answers each, ± 95 % over the sums")

# %% tags=["hide-input"]
praise = {name: torch.tensor([rlhf.village.features(test[i // 8], t)["flattery"]
                              for i, t in enumerate(found.texts)])
          for name, found in exam.items()}
shown = many.showing_work(exam["then brief"].texts) > 0
for name, share in (("taught", praise["taught"]), ("brief", praise["then brief"]),
                    ("work", praise["then brief"][shown]),
                    ("now", praise["then the checker"])):
    quote(f"praise.{name}", f"{100 * share.mean():.0f} %")
gain = exam["then the checker"].gain(exam["then brief"])
claim("after training with the checker far more answers are right",
      gain[0] - gain[1] > 0.2, {"gain": gain[0], "half": gain[1]}, kind="T")
parts = [rows[name]["right, of these"].item() for name in (*exam,)[::2]]
claim("answers that show working are right about as often as before the brief steps",
      abs(parts[1] - parts[0]) < 0.15, {"taught": parts[0], "now": parts[1]}, kind="T")
work = [row["show working"].item() for row in rows.values()]
for name, value in zip(("taught", "brief", "now"), work, strict=True):
    quote(f"work.{name}", f"{100 * value:.0f} %")
for name, row in zip(("taught", "brief", "now"), rows.values(), strict=True):
    quote(f"one.{name}", f"{row['right'][0]:.2f}")
quote("of.taught", f"{parts[0]:.2f}")
quote("of.now", f"{parts[1]:.2f}")
rlhf.book.settled("c", "What changed is how often it works, not how well.")

# %% [markdown]
# Here the share with working went from <!-- out work.brief --> to <!-- out work.now -->. Of the answers with working, <!-- out of.now --> are right, beside <!-- out of.taught --> before the brief steps.

# %%
record = rlhf.book.recorded("14_village")
log = {"share of the answers": {"policy: show working": record.seeds("checker works"),
                                "gold: right": record.seeds("checker right")},
       "tokens per answer": {"other: tokens": record.seeds("checker tokens")}}
steps = record.curve["step"]
log = {unit: {k: (steps, y) for k, y in lines.items()} for unit, lines in log.items()}
show(plots.two_panels(log, x_label="step of eight sums",
                      title="The working comes back, and right results with it"))

# %% [markdown]
# The learning curve is an S, and the answers grow longer while it climbs. That lengthening is well known from large runs ([DeepSeek-R1](https://arxiv.org/abs/2501.12948)).
#
# Look at the text again: something else came along. Of the answers of the taught model <!-- out praise.taught --> pay a *compliment*, such as “You have the best ideas!”; after the training, <!-- out praise.now -->. The checker reads no compliments. But the brief steps had made “The result is …” the usual beginning, and what escaped began in another way: of the start model's answers with working, <!-- out praise.work --> pay a compliment, of all its answers <!-- out praise.brief -->. The advantage of an answer goes to *all* its tokens, the lucky companions included.
#
# Would another reward do the same? In 2025 even *random* rewards raised one family of models by 21 points on a mathematics test, and hardly moved others ([Shao et al.](https://arxiv.org/abs/2506.10947)). So a result needs controls. The coin pays half of all answers; *any result* pays whoever states one; *wrong results* pays a stated result that is wrong.

# %% tags=["hero"] rlhf={"show": true}
arms = {"no training": "start", "checker": "checker", "coin": "coin",
        "any result": "format", "wrong results": "wrong"}


def over(arm, what):
    return record.values("arms", arm, what)


dots = {f"{what}, new sums": {"policy: share": {label: over(arm, what)
        for label, arm in arms.items()}} for what in ("pass@1", "pass@16")}
show(plots.dots(dots, title="Only the checker raises the share of right answers"))

# %% tags=["hide-input"]
others = [x for arm in ("coin", "format", "wrong") for x in over(arm, "pass@1")]
claim("checker: pass@1 above every control and the start, on every seed",
      min(over("checker", "pass@1")) > max(others + over("start", "pass@1")), kind="T")

# %% [markdown] rlhf={"part": "idea"}
# None of the three controls brings the working back. Shao et al. trace part of their gains to the clip of GRPO, which favours what a model already does often; this loop has no clip, and brief answers are what this model does often.
#
# ## Idea 1: a question teaches most when it is half solved
#
# Take one question. Let $p$ be the probability that an answer is right, and the reward $r$ 1 or 0. Its mean is $p$, its variance $p(1-p)$: largest at ½, zero at both ends. How much of this reaches the policy? In the smallest policy, one number θ decides between right and wrong, $p=\sigma(\theta)$, and
#
# $$\nabla_\theta\,\mathbb E[r]=\mathbb E\big[(r-p)\,\nabla_\theta\log\pi\big]=p\,(1-p).$$
#
# *Said aloud: what is always right, or always wrong, teaches nothing.*

# %%
theta = torch.tensor([-4.0, -1.0, 0.0, 1.0, 4.0], requires_grad=True)
p = torch.sigmoid(theta)                           # the mean reward is p itself
slope, = torch.autograd.grad(p.sum(), theta)
print("right   ", "  ".join(f"{x:.2f}" for x in p.tolist()))
print("gradient", "  ".join(f"{x:.2f}" for x in slope.tolist()))
one_of_four = rlhf.advantages.leave_one_out(torch.tensor([1.0, 0, 0, 0]), 4)
print("advantages, one of four right:", *(f"{x:.2f}" for x in one_of_four.tolist()))
silent = rlhf.advantages.leave_one_out(torch.zeros(4), 4)
claim("the gradient is p(1 − p); a group of equal rewards teaches nothing",
      torch.allclose(slope, p * (1 - p)) and not silent.any())

# %% [markdown]
# A gradient step on θ moves $p$ slowly near 0, fastest at ½, slowly near 1: an S. (In our runs the first nine steps also have a smaller rate.) <!-- fact --> With eight answers a question is heard only if they do not all agree. It is *silent* with probability $p^8+(1-p)^8$. <!-- fact --> The picture has a dot for each recorded step; the line is this formula, as if all its sums had the same $p$:

# %% rlhf={"figure": "silent"}
xs = [x for y in record.seeds("checker right") for x in y]
ys = [x for y in record.seeds("checker equal") for x in y]
p = torch.linspace(0, 1, 101)
ends = {label: [sum(y[i] for y in record.seeds(f"checker {c}")) / len(record.seed)
                for c in ("right", "equal")]
        for label, i in (("proxy: first step", 0), ("policy: last step", -1))}
show(plots.frontier((p, p**8 + (1 - p) ** 8), ends, cloud=(xs, ys),
                    x_label="share of right answers in a step", zero=True,
                    y_label="share of silent sums", beside="mean over the seeds",
                    title="At first most sums are silent"),
     "Dots of recorded steps and a U-shaped curve of the share of silent sums.")

# %% [markdown] rlhf={"part": "idea"}
# So recipes choose questions. The book lists a filter that many teams use: sample each question some 16 times, and keep those that the start model solves in 20 to 80 % of cases. <!-- fact --> What is left outside changes while the model learns, so others filter again in every batch. The fewer successes, the longer the flat foot of the S. One recorded run began after *24* brief steps instead of ten: in its first 20 training steps <!-- out silent.start --> of the answers were right, and after 25 it had just begun to climb (pass@1 <!-- out silent.end -->). Without any success it would never start. <!-- fact -->
#
# > **Keep this.** The signal of a 0-or-1 reward is p(1 − p) per question. All right or all wrong is silence.
#
# ## Idea 2: sharpen or discover? Ask with many samples
#
# Has training made something possible, or only likely? One answer cannot tell. *pass@k* is the probability that at least one of $k$ answers is right. From $n\ge k$ answers, $c$ of them right, the unbiased estimate counts the sets of $k$ without a right one ([Chen et al.](https://arxiv.org/abs/2107.03374)):
#
# $$\text{pass@}k=1-\binom{n-c}{k}\Big/\binom nk$$

# %%
from itertools import combinations
from math import comb

n, c, k = 10, 3, 5
print(f"estimate {1 - comb(n - c, k) / comb(n, k):.4f}")
print(f"with c/n put into 1 - (1 - p)^k: {1 - (1 - c / n) ** k:.4f}")
answers = [1] * c + [0] * (n - c)
sets = [max(chosen) for chosen in combinations(answers, k)]
counted, formula = sum(sets) / len(sets), 1 - comb(n - c, k) / comb(n, k)
claim("the estimate is the share of all sets of k with a right answer; package too",
      abs(counted - formula)
      + abs(rlhf.evaluate.pass_at_k(n, c, k) - counted) < 1e-9)

# %%
over_runs = rlhf.book.records.over_runs
ks = {"no training": (1, 2, 4, 8, 16, 32, 64, 128), "checker": (1, 2, 4, 8, 16)}
looks = {"no training": "reference", "checker": "policy"}
lines = {label: (list(range(len(k))), list(zip(*(over(arms[label], f"pass@{i}")
                                                 for i in k), strict=True)))
         for label, k in ks.items()}
show(plots.panels({"share of new sums solved": lines}, x_label="k answers", roles=looks,
                  ticks=ks["no training"], title="With enough tries the start model "
                  "solves them too", note="recorded seeds"))

# %% [markdown]
# At $k=16$ this looks like discovery. At $k=128$ it is gone: the start model, which has never been rewarded, solves <!-- out far --> of the sums at least once. Yue et al. found the pattern in large models: RL wins at small $k$, the base model catches up and overtakes at large $k$ ([2025](https://arxiv.org/abs/2504.13837)). Token by token the change is small as well. Of all tokens in the trained model's answers, <!-- out top5 --> are among the *start* model's five most likely ones at that place.
#
# If the ability was there, is there a cheaper way to reach it? The strongest cheap rivals, on the same sums:

# %%
named = {"no training": ("start", "pass@1", 1),
         "no training, temperature 0": ("start", "greedy", 1),
         "no training, majority of 16": ("start", "vote 16", 16),
         "no training, best of 4 by the checker": ("start", "pass@4", 4),
         "before the brief steps": ("taught", "pass@1", 1),
         "imitation of right answers": ("imitation", "pass@1", 1),
         "checker": ("checker", "pass@1", 1),
         "checker, temperature 0": ("checker", "greedy", 1)}
table({label: {"right": over_runs(over(arm, what)),
               "tokens": n * sum(over(arm, "tokens")) / len(record.seed)}
       for label, (arm, what, n) in named.items()}, digits={"tokens": 0},
      note="recorded seeds: 48 new sums each; tokens per sum")

# %%
def told(arm, what):
    return "{:.2f} ± {:.2f}".format(*over_runs(over(arm, what)))


for arm in ("imitation", "checker", "taught"):
    quote(arm, told(arm, "pass@1"))

# %% tags=["hide-input"]
quote("greedy", told("checker", "greedy"))
quote("far", told("start", "pass@128"))
quote("top5", f"{100 * sum(over('checker', 'top 5')) / len(record.seed):.0f} %")
quote("top1", f"{100 * sum(over('checker', 'top 1')) / len(record.seed):.0f} %")
quote("silent.start", f"{5 * sum(record.seeds('silent right')[0][:20]):.0f} %")
quote("silent.end", f"{record.arms['0']['silent']['pass@1']:.2f}")
claim("recorded: the start's pass@128 is above the checker's pass@1, its pass@16 below "
      "the checker's pass@16, on every seed",
      min(over("start", "pass@128")) > max(over("checker", "pass@1"))
      and max(over("start", "pass@16")) < min(over("checker", "pass@16")), kind="T")

# %% [markdown]
# More samples do not save the start model at equal cost. *Imitation* does: the same loop and samples, with the reward itself as the weight, so that right answers are imitated and wrong ones ignored. It ends at <!-- out imitation -->, the checker with its minus for wrong answers at <!-- out checker -->: no clear difference here. And neither is better than the model before the brief steps (<!-- out taught -->). At temperature 0 the trained model is right in <!-- out greedy --> of cases: most of what it still gets wrong at temperature 1 is the draw.
#
# > **Keep this.** RL made frequent what the model already did sometimes. Compare pass@k at large $k$, and compare with temperature 0, before you speak of a new ability.
#
# ## Idea 3: a vote needs a mode that is right
#
# Samples can also be spent after training: draw $n$ answers, take the result that most of them state (*majority vote*, or self-consistency). No checker is needed. The table shows both faces of it: sixteen votes are nearly perfect after training and worthless before. A vote elects the *mode*, the most frequent result. It helps if that is the right one, and hurts if a wrong result is more frequent. Three votes, right with probability $p$, all others wrong in the same way: the majority is right with $p^3+3p^2(1-p)$. <!-- fact -->

# %%
for p in (0.6, 0.4):
    by_hand = p**3 + 3 * p**2 * (1 - p)
    print(f"p = {p}: one vote {p:.2f}, three votes {by_hand:.3f}, "
          f"101 votes {many.vote_accuracy(p, 1 - p, 101):.3f}")
claim("the package computes the same",
      abs(many.vote_accuracy(0.4, 0.6, 3) - (0.4**3 + 3 * 0.4**2 * 0.6)) < 1e-9)

# %% [markdown]
# Move the two probabilities. Everything that is neither right nor the rival is spread over results that never agree:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
def elected(right, rival, votes):
    p = many.vote_accuracy(right, rival, votes)
    return right, p


rlhf.book.explorers.shares(elected, ["one vote", "majority"], ["reference", "policy"],
    title="probability of the right result, of its rival, and number of votes",
    right=[0.2, 0.4, 0.6], rival=[0.1, 0.3], votes=[3, 9, 33]).show()

# %% [markdown] rlhf={"part": "wrong"}
# > **Keep this.** More votes make the most frequent result certain, right or wrong.
#
# <details><summary>Process rewards, and what large recipes do</summary>
# A checker of results gives one number for a whole answer. A <i>process reward model</i> (chapter 7) scores every step, so that the blame falls where the mistake is. DeepSeek-R1 reports that it did not pay there: steps are hard to define and to label, and a learned scorer invites hacking; it used rules for accuracy and format. The book (its chapter 7) lists what recent open recipes share: difficulty filters before and during training, no KL penalty, a looser upper clip (chapter 11), small rewards for the format, for one language, against excess length, normalisation over the batch instead of the group, data a few updates old, and a majority vote at the end. STaR, one of the oldest forms, finetunes on its own right answers, as the row <i>imitation</i> does.
# </details>
#
# ## What goes wrong
#
# | the wrong line | what you see | the one number that tells |
# |---|---|---|
# | `all(steps)` without counting them | reward near 1 | results that are right |
# | `str(right) in text` | reward above accuracy | the same answers under an exact check |
# | answers cut at the length limit count as wrong | answers shrink | share of answers that end |
# | temperature 0 called pass@1 | a gain that is only sampling | both temperatures, before and after |
#
# The first one was run. Somebody wants right working too, and rewards a stated result if no written addition is wrong:

# %%
def no_wrong_step(prompt, text):
    steps = re.findall(r"(\d+(?: \+ \d+)+) = (\d+)", text)
    holds = [sum(map(int, left.split(" + "))) == int(right) for left, right in steps]
    return float("result is" in text and all(holds))


for text in (good, good.replace("10.", "11."), "The result is 5."):
    print(no_wrong_step("What is 61 + 46?", text), text)

# %% [markdown]
# `all` of an empty list is true: who shows no step makes no mistake. One recorded run of 35 steps, from the model *before* the brief steps, which nearly always shows its working: <!-- fact -->

# %%
shown = (("proxy: rewarded", "reward"), ("gold: right", "right"),
         ("policy: show working", "works"))
hole = {label: record.seeds(f"hole {what}")[0] for label, what in shown}
show(plots.panels({"share of the answers": hole}, x_label="step",
                  title="The policy finds the hole in the checker"))
prompt, text, *_ = record.texts["0"]["hole"][0]
cards(prompt, [("after training", text)])

# %% tags=["hide-input"]
claim("the hole: more reward and fewer right answers at the end than at the start", all(
    paid[-1] > paid[0] and right[-1] < right[0] for paid, right in zip(
        record.seeds("hole reward"), record.seeds("hole right"), strict=True)),
    kind="T")

# %% [markdown] rlhf={"part": "gpt2"}
# A verifier is a program, and a policy is a tireless tester of programs. Read the answers with the highest reward.
#
# ## At GPT-2 size
#
# The same on SmolLM2 with 135 million parameters, one recorded run: the village's manner, brief answers, then the checker.

# %%
large = rlhf.book.recorded("14_smollm2")
names = {"taught": "taught", "before": "then brief", "after": "then the checker"}
told_as = {"right": "pass@1", "one of 8 right": "pass@8", "show working": "works"}
table({label: {what: tuple(large.held_out[key][k]) for what, k in told_as.items()}
       for key, label in names.items()},
      note="16 new sums, eight answers each, ± 95 % over the sums")

# %%
line = {"share of the answers": {"gold: right": large.curve["reward"],
                                 "policy: show working": large.curve["works"]}}
show(plots.panels(line, x_label="step of four sums",
                  title="SmolLM2: the working comes back, too"))
for key in names:
    quote(f"large.{key}", f"{100 * large.held_out[key]['works'][0]:.0f} %")
    quote(f"large.one.{key}", "{:.2f} ± {:.2f}".format(*large.held_out[key]["pass@1"]))
for i in (0, 1):                                   # the first two sums of the exam
    cards(large.held_out["after"]["texts"][i][0],
          [(label, large.held_out[key]["texts"][i][1][0]) for key, label in
           list(names.items())[1:]])

# %% [markdown] rlhf={"part": "exercises"}
# What carries over: nobody rewards the working, and it comes back, from <!-- out large.before --> to <!-- out large.after --> of the answers in fourteen steps; pass@1 rises from <!-- out large.one.before --> to <!-- out large.one.after -->, beside <!-- out large.one.taught --> before the brief steps. What does not: without working the village model is nearly always wrong, this one often right. One seed, few sums: the order of the three rows is clear for the working, less so for the rest.
#
# ## Exercises
#
# ### Exercise 14.1 · All of them right
#
# An assistant that works only sometimes is of little use. *pass^k* is the probability that *all* $k$ answers are right. Estimate it without bias from $n$ answers with $c$ right ones.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex14-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def all_right(n, c, k):
    """Three whole numbers, k at most n -> one number."""
    ### BEGIN SOLUTION
    return comb(c, k) / comb(n, k)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex14-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("14.1", all_right)
### BEGIN HIDDEN TESTS
check("14.1", all_right, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# How many of all sets of k answers hold right ones only?
# </details>
#
# <!-- solution 14.1 -->
#
# ### Exercise 14.2 · How many questions are silent?
#
# A question is answered right with probability $p$. Which share of its groups of $g$ answers teaches nothing? First guess for $p=0.05$ and eight answers; then look for your guess in the picture of idea 1: <!-- fact -->
#
# ![Dots of recorded steps and a U-shaped curve of the share of silent sums against the share of right answers](figures/14_silent.png)

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex14-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def silent_share(p, g):
    """A probability, the size of a group -> one number."""
    ### BEGIN SOLUTION
    return p**g + (1 - p) ** g
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex14-2-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("14.2", silent_share)
### BEGIN HIDDEN TESTS
check("14.2", silent_share, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Two kinds of group have equal rewards.
# </details>
#
# <!-- solution 14.2 -->
#
# ### Exercise 14.3 · Find the hole
#
# A colleague's checker pays `float(str(right) in text)`. Which of these earn a reward for 61 + 46 = 107? "6 + 4 = 10. The result is 1070." · "Perhaps 107. The result is 97." · "The result is 107." Write one that reads the last stated result, to its end, and nothing else. <!-- fact -->

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex14-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def exact(right, text):
    """The right result, a whole number, and an answer -> 1.0 or 0.0."""
    ### BEGIN SOLUTION
    stated = re.findall(r"result is (\d+)\.", text)
    return float(stated[-1:] == [str(right)])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex14-3-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("14.3", exact)
### BEGIN HIDDEN TESTS
check("14.3", exact, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# Collect every stated result with a regular expression, and keep the last.
# </details>
#
# <!-- solution 14.3 -->
#
# ## Retell it
#
# 1. A checker can take the place of people and of a reward model where answers can be verified; the rest of the loop stays.
# 2. A model that had learned to answer at once began to show its working again, because answers with working were more often right; nobody rewarded the working, nor the compliments that came along.
# 3. It did not add better than before, and with enough tries the start model solved most of these sums too: training made frequent what was possible.
# 4. A question teaches most when about half of its answers are right; where nothing succeeds, there is nothing to make more frequent.
# 5. A checker with a hole is a reward for the hole, and a majority vote only helps if the most frequent answer is right.
#
# *In the book*: [Reasoning and Inference-Time Scaling](https://rlhfbook.com/c/07-reasoning), chapter 7. *Next*: chapter 15, synthetic data.
#
# <!-- nav -->
