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
# ![One sum with an answer of the start and an answer after training with the checker; below them bars of pass@1 and pass@16 for the start and after training with four rewards: a checker, a coin, any stated result, wrong results](figures/14_hero.png)
#
# One small model, trained with four rewards on sums such as 61 + 46: a *checker* that compares the result, a *coin*, a reward for *any stated result*, a reward for *wrong results*. *pass@1*: how often one answer to a new sum is right; *pass@16*: how often at least one of sixteen is. This page builds the checker, trains with it, and looks for what exactly has changed.
#
# <details><summary>What you need, what it costs, what is measured</summary>
# Chapter 11 (policy gradients, RLOO). <!-- costs -->. Nothing is downloaded. Model: <code>village-3m-sft</code>, three million parameters, GPT-2 architecture. Sums of the exam are never trained on, in whatever words. Texts, the picture of single tokens and numbers said to be from <i>here</i> are from <b>this page's run</b>, seed 0. All other pictures and tables are from <b>recorded seeds</b>, 0 to 4: other demonstrations, training sums, answers and 48 exam sums each. ± is half of a 95 % interval over these seeds (Student's t). Rate and number of steps were chosen in smaller trials on other exam sums, and are the same for all rewards.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import re
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, plots, quote, show, table
from rlhf_minimal.evaluate.passes import answering_briefly, passes
run = begin(14)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** The village model adds two numbers step by step, in writing, and then states the result. We finetune it for ten steps on *brief* answers: right results, no working. Now it answers at once, “The result is …”, and mostly wrong. This is the *start*. The checker's reward lifts it far, as the picture shows. Now leave the start untrained. Only forbid one thing: no answer may begin with the word “The”.

# %% tags=["hide-input"]
rlhf.book.predict("How much of the checker's gain does this bring, without training?",
        a="next to nothing: the brief steps have taken away the adding",
        b="more than half, but not all",
        c="all of it, or more")

# %% [markdown] rlhf={"part": "phenomenon loop"}
# ## Silence the working, then reward right results
#
# The additions written before a result are what *reasoning* means on this page: tokens that make the answer easier. Here is the model before the ten brief steps (*taught*) and after them (*start*), on one new sum:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained", "show": true}
taught, tokenizer = rlhf.models.load("village-3m-sft")
start = answering_briefly(taught, tokenizer, steps=10, seed=run.seed)
test = rlhf.evaluate.exams.sums(48, seed=run.seed)  # two digits each
for name, model in {"taught": taught, "start": start}.items():
    found = rlhf.sampling.answer(model, tokenizer, test[1:2], n=2, max_new_tokens=48,
                                 generator=run.fresh("texts"))
    cards(test[1], [(name, text) for text in found.texts(tokenizer)])

# %% [markdown]
# For a sum nobody needs to ask people. A few lines of code read the result and say 1 or 0. Such a checker is called a *verifier*, and training with it *reinforcement learning with verifiable rewards* (RLVR, [Lambert et al.](https://arxiv.org/abs/2411.15124)).

# %%
def verify(prompt, text):
    a, b = map(int, re.findall(r"\d+", prompt))
    stated = re.findall(r"result is (\d+)\.", text)
    return float(stated[-1:] == [str(a + b)])      # the last stated result, exactly


good = "1 + 6 = 7. 6 + 4 = 10. The result is 107."
for text in (good, good.replace("107", "97"), "107"):
    print(verify("What is 61 + 46?", text), text)
theirs = rlhf.village.checkers
claim("the package's checker agrees, on these and on right results without working",
      all(verify(p, t) == theirs.right(p, t) for p in test
          for t in (good, "107", f"The result is {theirs.asked(p)}.")))

# %% [markdown]
# The checker does not read the working. The loop is that of chapter 11, with the checker in the place of the reward model:

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "loop"}
show(rlhf.book.drawings.pipeline([
    ("sum", "What is 61 + 46?", "data"),
    ("policy", "writes eight answers", "policy"),
    ("checker", "reads each result: 1 or 0", "reward"),
    ("advantage", "own reward minus the mean\nof the other seven", "plain"),
    ("update", "more of what is right,\nless of what is wrong", "policy")], down=True))

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
stages = {"taught": taught, "start": start, "after the checker": trained}
exam = {name: passes(model, tokenizer, test, verify, n=8,
                     generator=run.fresh(name)) for name, model in stages.items()}
for i in (1, 2):                                   # the second and third sum
    cards(test[i], [(name, found.texts[8 * i]) for name, found in exam.items()])

# %% [markdown]
# The working is back, although no reward asked for it. Is that all of the gain, or is the working better, too?

# %%
record = rlhf.book.recorded("14_village")
over_runs = rlhf.book.records.over_runs


def over(arm, what):
    return record.values("arms", arm, what)        # one number for each seed


shown = {"right": "pass@1", "show working": "works", "right, of these": "right with"}
table({label: {name: over_runs(over(arm, what)) for name, what in shown.items()}
       for label, arm in {"taught": "taught", "start": "start",
                          "after the checker": "checker"}.items()},
      note="answers to new sums; of these: of those that show working")

# %% tags=["hide-input"]
gain, half = exam["after the checker"].gain(exam["start"])
claim("here: far more answers are right after training with the checker",
      gain - half > 0.2, {"gain": gain, "half": half}, kind="T")
said = rlhf.book.records.plus_minus
change, half = record.ahead("checker", "taught", "right with")
claim("recorded: working is back on every seed, on average right no more often than "
      "before the brief steps", min(over("checker", "works")) > 0.9 and change < 0,
      {"change": change, "half": half}, kind="T")
quote("change", said((change, half)))
quote("skill", said(record.ahead("checker", "start", "right with")))
for arm in ("taught", "start", "checker"):
    quote(f"work.{arm}", f"{100 * over_runs(over(arm, 'works'))[0]:.0f} %")
    quote(f"of.{arm}", f"{over_runs(over(arm, 'right with'))[0]:.2f}")

# %% [markdown]
# The share with working goes from <!-- out work.start --> to <!-- out work.checker -->. Of these answers <!-- out of.checker --> are right: more than the <!-- out of.start --> of the few that the start writes (difference <!-- out skill -->), but not shown to be more than the <!-- out of.taught --> before the brief steps (<!-- out change -->). The checker gave back the habit, and part of the accuracy that the brief steps had cost.

# %%
log = {"policy: show working": record.seeds("checker works"),
       "gold: right": record.seeds("checker right")}
steps = record.curve["step"]
log = {label: (steps, y) for label, y in log.items()}
show(plots.panels({"share of the answers": log}, x_label="step of eight sums",
                  title="The working comes back, right results with it"))

# %% [markdown]
# Would another reward do the same? In 2025 even *random* rewards raised a Qwen model by 21 points on a mathematics test, and hardly moved models of other families ([Shao et al.](https://arxiv.org/abs/2506.10947)). So a result needs controls. The coin pays half of all answers; *any result* pays whoever states one; *wrong results* pays a stated result that is wrong. Their scores are in the picture at the top. Here is what they do to the answers:

# %%
arms = {"start": "start", "checker": "checker", "coin": "coin",
        "any result": "format", "wrong results": "wrong"}
columns = {"state a result": "states", "show working": "works", "right": "pass@1"}
table({label: {name: over_runs(over(arm, what)) for name, what in columns.items()}
       for label, arm in arms.items()}, note="recorded seeds, 48 new sums each")

# %% tags=["hide-input", "hero"] rlhf={"show": true}
bars = {f"{what}, new sums": {label: over_runs(over(arm, what))
        for label, arm in arms.items()} for what in ("pass@1", "pass@16")}
show(rlhf.book.drawings.answers_over_bars(
    test[1], {name: exam[name].texts[8] for name in ("start", "after the checker")},
    bars, title="Only the checker helps", span=(0, 1)))

# %%
others = [x for arm in ("coin", "format", "wrong") for x in over(arm, "pass@1")]
claim("checker: pass@1 above every control and the start, on every seed",
      min(over("checker", "pass@1")) > max(others + over("start", "pass@1")), kind="T")

# %% [markdown] rlhf={"part": "idea"}
# None of the controls brings the working back. *Any result* had little to teach: the start states one in nearly all of its answers. *Coin* and *any result* tend to lower pass@16; *wrong results* takes away nearly every right answer.
#
# ## Idea 1: a question that is always answered right, or always wrong, teaches nothing
#
# Take one question. Let $p$ be the probability that an answer is right, and the reward $r$ 1 or 0. Its mean is $p$, its variance $p(1-p)$: largest at ½, zero at both ends. In the smallest policy, one number θ decides between right and wrong, $p=\sigma(\theta)$, and
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
# A gradient step on θ moves $p$ slowly near 0 and near 1, and fastest at ½. The share that shows working rises in this way; the share of right answers flattens earlier, for reasons of its own (idea 2). (In our runs the first nine steps also have a smaller rate.) <!-- fact --> With eight answers a question is heard only if they do not all agree. It is *silent* with probability $p^8+(1-p)^8$. <!-- fact --> The picture has a dot for each recorded step; the line is this formula, as if all eight sums of a step had the same $p$:

# %%
xs = [x for y in record.seeds("checker right") for x in y]
ys = [x for y in record.seeds("checker equal") for x in y]
p = torch.linspace(0, 1, 101)
ends = {label: [sum(y[i] for y in record.seeds(f"checker {c}")) / len(record.seed)
                for c in ("right", "equal")]
        for label, i in (("proxy: first step", 0), ("policy: last step", -1))}
show(plots.frontier((p, p**8 + (1 - p) ** 8), ends, cloud=(xs, ys),
                    x_label="share of right answers in a step", zero=True,
                    y_label="share of silent sums", beside="mean over the seeds",
                    corner="upper center", dot=6,
                    title="At first most sums are silent"),
     "Dots of recorded steps and a U-shaped curve of the share of silent sums.")

# %% [markdown] rlhf={"part": "idea"}
# So recipes choose questions; this we quote, and have not tried. The book lists a filter that many teams use: sample each question some 16 times, and keep those that the start solves in 20 to 80 % of cases. <!-- fact --> What we have tried is a start after *24* brief steps instead of ten. In its first 20 steps <!-- out silent.start --> of the answers were right, and after all 25 pass@1 was <!-- out silent.end --> over the seeds, far below the runs above. (They may have cost skill, too.) Without any success there is no signal at all. <!-- fact -->
#
# > **Keep this.** The variance of a 0-or-1 reward is p(1 − p); in one logit this is the gradient. All right or all wrong is silence.
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
formula = 1 - comb(n - c, k) / comb(n, k)
print(f"estimate {formula:.4f}")
print(f"with c/n put into 1 - (1 - p)^k: {1 - (1 - c / n) ** k:.4f}")
sets = [max(chosen) for chosen in combinations([1] * c + [0] * (n - c), k)]
counted = sum(sets) / len(sets)
claim("the estimate is the share of all sets of k with a right answer; package too",
      abs(counted - formula)
      + abs(rlhf.evaluate.pass_at_k(n, c, k) - counted) < 1e-9)

# %% [markdown]
# With 128 tries luck counts. So *chance* gives each sum the start's answers to the *other* sums, and a third line counts only right answers that show working.

# %% rlhf={"figure": "tries"}
ks = (1, 2, 4, 8, 16, 32, 64, 128)
drawn = {"policy: checker": ("checker", "pass@", 5),
         "reference: start": ("start", "pass@", 8),
         "gold: start, with working": ("start", "worked pass@", 8),
         "other: chance": ("start", "chance pass@", 8)}
lines = {label: list(zip(*(over(arm, f"{what}{k}") for k in ks[:most]), strict=True))
         for label, (arm, what, most) in drawn.items()}
spots = (0.3, 0.97), (4.0, 0.66), (1.1, 0.42), (5.9, 0.13)
where = dict(zip(drawn, spots, strict=True))
unit = "share of new sums solved"
show(plots.curves({unit: (lines, ks)}, x_label="k answers", labels={unit: where},
                  title="The start's working solves most sums in 128 tries"))

# %% tags=["hide-input"]
quote("silent.start", f"{5 * sum(record.means('silent right')[:20]):.1f} %")
quote("silent.end", record.spread("arms", "silent", "pass@1", digits=2))
for name, what in {"far": "", "far.work": "worked ", "far.luck": "chance "}.items():
    quote(name, "{:.2f} ± {:.2f}".format(*over_runs(over("start", f"{what}pass@128"))))
claim("recorded: counting only answers with working, the start's pass@128 is above "
      "chance and the checker's pass@1, its pass@16 below the checker's; on every seed",
      min(over("start", "worked pass@128"))
      > max(over("checker", "pass@1") + over("start", "chance pass@128"))
      and max(over("start", "pass@16")) < min(over("checker", "pass@16")), kind="T")

# %% [markdown]
# At $k=16$ this looks like discovery. At $k=128$ the start, which has never been rewarded, solves <!-- out far --> of the sums at least once. That alone proves less than it seems: luck solves <!-- out far.luck -->. But with working it solves <!-- out far.work -->. The ability was there. In large models Yue et al. found more: at large $k$ the base model even overtakes ([2025](https://arxiv.org/abs/2504.13837)). Here it only comes near.
#
# So what did training change? Take answers of the trained model, and ask at each token: by how much has training raised its log-probability? Averaged over answers and summed over tokens, this estimates the KL from the start.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
rollout = exam["after the checker"].rollout
with torch.no_grad():
    now, before = (rlhf.rollout.completion_logps(model, rollout)
                   for model in (trained, start))
raised = ((now - before) * rollout.mask).mean(0)   # one number for each place
places = {f"{i + 1}": raised[i] for i in range(10)} | {"11+": raised[10:].sum()}
show(plots.bars(places, title="Most of the change is in the first token",
                x_label="place of the token in the answer",
                y_label="log-probability gained, nats",
                roles=dict.fromkeys(places, "policy")),
     "Bars of the gain in log-probability by token: the first is by far the highest.")

# %%
ranks = rlhf.evaluate.passes.ranks(start, rollout)[:, 0]
opens = torch.tensor([text.startswith("The") for text in exam["start"].texts])
for name, share in {"first": raised[0] / raised.sum(), "opens": opens.double().mean(),
                    "top1": (ranks == 1).double().mean(),
                    "top5": (ranks <= 5).double().mean()}.items():
    quote(name, f"{100 * share:.0f} %")
quote("nats", f"{raised.sum():.1f}")
claim("more than half of the KL from the start is in the first token",
      raised[0] > 0.5 * raised.sum(), {"share": raised[0] / raised.sum()}, kind="T")

# %% tags=["hide-input"]
praise = {name: [rlhf.village.features(test[i // 8], text)["flattery"] > 0
                 for i, text in enumerate(found.texts)] for name, found in exam.items()}
works = rlhf.evaluate.passes.showing_work(exam["start"].texts).tolist()
for name, stage in {"start": "start", "now": "after the checker"}.items():
    quote(f"praise.{name}", f"{100 * sum(praise[stage]) / len(praise[stage]):.0f} %")
both = sum(map(min, praise["start"], works))
quote("praise.work", f"{both:.0f} of {sum(works):.0f}")

# %% [markdown]
# Here, in one run, <!-- out first --> of <!-- out nats --> nats are in the *first* token. The start opens <!-- out opens --> of its answers with “The”, and “The result is …” leaves no room for working. Of the trained model's first tokens, only <!-- out top1 --> are the start's most likely one, but <!-- out top5 --> are among its five most likely.
#
# This is also the likely reason for something that came along: *compliments*, in <!-- out praise.start --> of the start's answers and <!-- out praise.now --> of the trained model's. The checker does not read them. The brief steps had taken away the plain opening, and of the start's few answers with working most pay a compliment (<!-- out praise.work -->). The advantage of an answer goes to *all* its tokens.
#
# If training moved one decision, we can make it by hand. The first token is drawn from all tokens but “The”, or only from the ten digits, with which a written addition begins. The rest is the start's own, and no weight changes:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained", "show": true}
the, = tokenizer.encode("The")
allowed = {"start, not “The”": [i for i in range(len(tokenizer)) if i != the],
           "start, digit first": [tokenizer.encode(digit)[0] for digit in "0123456789"]}
for name, first in allowed.items():
    exam[name] = passes(start, tokenizer, test, verify, n=8, first=first,
                        generator=run.fresh(name))
cards(test[1], [(name, exam[name].texts[8]) for name in allowed])

# %%
tried = {"start": "start", "start, not “The”": "not The", "start, digit first": "digit",
         "checker": "checker", "copy right answers": "imitation", "taught": "taught"}
columns = {"right": "pass@1", "at temperature 0": "greedy", "majority of 16": "vote 16"}
table({label: {name: over_runs(over(arm, what)) for name, what in columns.items()}
       for label, arm in tried.items()},
      note="recorded seeds, 48 new sums each; ± 95 % over the seeds")
part = {arm: record.regained(arm, "start", "checker", "pass@1")
        for arm in ("not The", "digit")}

# %% tags=["hide-input"]
for arm in part:
    quote(f"part.{arm[:3]}", said([100 * x for x in over_runs(part[arm])], 0) + " %")
claim("recorded: one forbidden word brings more than half of the gain, not all of it, "
      "on every seed", all(0.5 < x < 1 for x in part["not The"]), kind="T")
quote("left", said(record.ahead("checker", "digit", "pass@1")))
quote("cold", said(record.ahead("checker", "digit", "greedy")))
quote("ahead", said(record.ahead("imitation", "checker", "pass@1")))
rlhf.book.settled("b", "One forbidden word brings more than half, on every seed.")

# %% [markdown]
# One forbidden word brings <!-- out part.not --> of the checker's gain. A digit as first token brings <!-- out part.dig -->. At temperature 1 the checker stays ahead of the digit, by <!-- out left -->. At temperature 0 no difference is left to see (<!-- out cold -->): that rest is probably sharper sampling, not better adding. So more than half of what looks like learned reasoning here is *one* token. But we had to know which; the checker's loop was not told.
#
# *Copy right answers* is the same loop with the reward itself as the weight: right answers are imitated, wrong ones ignored. It does at least as well as RLOO (the row *checker*), which also pushes wrong answers down (difference <!-- out ahead -->). With one learning rate and 25 steps that is no verdict. Neither is shown to be better than the taught model.
#
# > **Keep this.** RL made frequent what the start already did sometimes. Before you speak of a new ability, count the start's lucky guesses, and force the start's first token.
#
# ## Idea 3: a vote sharpens too, if the mode is right
#
# Sharpening can also be done with votes. Draw $n$ answers and take the result that most of them state: a *majority vote*, or self-consistency. In the table the checker's model gains much by it, at sixteen times the tokens, though less than by temperature 0. A large vote elects the *mode*, the most frequent result. If a rival is more frequent than the right result, many votes make the answer wrong; a few can still help. Move both probabilities. All other results never agree:

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
rlhf.book.explorers.majority().show()

# %% [markdown] rlhf={"part": "wrong"}
# > **Keep this.** Many votes elect the most frequent result, right or wrong.
#
# <details><summary>Process rewards, and what large recipes do</summary>
# A checker of results gives one number for a whole answer. A <i>process reward model</i> (chapter 7) scores every step, so that the blame falls where the mistake is. DeepSeek-R1 reports that it did not pay there: steps are hard to define and to label, and a learned scorer invites hacking; it used rules for accuracy and format. The book (its chapter 7) lists what recent open recipes share: difficulty filters before and during training, no KL penalty, a looser upper clip (chapter 11), small rewards for the format and for one language, penalties for length, normalisation over the batch instead of the group, data a few updates old, and a majority vote at the end. STaR, one of the oldest forms, finetunes on its own right answers, as <i>copy right answers</i> does.
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
# The first one was run here (the last stands in the table above); the others are known from elsewhere. Somebody wants right working too, and rewards a stated result if no written addition is wrong:

# %%
def no_wrong_step(prompt, text):
    steps = re.findall(r"(\d+(?: \+ \d+)+) = (\d+)", text)
    holds = [sum(map(int, left.split(" + "))) == int(right) for left, right in steps]
    return float("result is" in text and all(holds))


for text in (good, good.replace("10.", "11."), "The result is 5."):
    print(no_wrong_step("What is 61 + 46?", text), text)
claim("the package's checker has the same hole",
      rlhf.village.checkers.no_wrong_step("What is 61 + 46?", text) == 1)

# %% [markdown]
# `all` of an empty list is true: who shows no step makes no mistake. Recorded seeds, 35 steps, from the *taught* model, which nearly always shows its working: <!-- fact -->

# %%
seen = (("proxy: rewarded", "reward"), ("gold: right", "right"),
        ("policy: show working", "works"))
hole = {label: (list(range(1, 36)), record.seeds(f"hole {what}"))
        for label, what in seen}
show(plots.panels({"share of the answers": hole}, x_label="step",
                  title="The policy finds the hole in the checker"))
prompt, text, *_ = record.texts["0"]["hole"][0]
cards(prompt, [("after training", text)])
claim("more reward and fewer right answers at the end, on every seed",
      min(record.rise("hole reward")) > 0 > max(record.rise("hole right")), kind="T")

# %% [markdown] rlhf={"part": "gpt2"}
# A verifier is a program, and a policy tests programs tirelessly. Read the answers with the highest reward.
#
# ## At GPT-2 size
#
# The same on SmolLM2 with 135 million parameters, in one recorded run with low-rank adapters: the village's manner, brief answers, then 14 steps with the checker.

# %%
large = rlhf.book.recorded("14_smollm2")
steps = large.curve["step"]
line = {"share of the answers": {"gold: right": (steps, large.curve["reward"]),
                                 "policy: show working": (steps, large.curve["works"])}}
show(plots.panels(line, x_label="step of four sums",
                  title="SmolLM2: the working comes back, too"))
names = {"before": "start", "after": "after the checker"}
for i in (1, 2):                                   # the second and third sum
    cards(large.held_out["after"]["texts"][i][0],
          [(label, large.held_out[key]["texts"][i][1][0])
           for key, label in names.items()])

# %% tags=["hide-input"]
stages = [large.held_out[key] for key in ("taught", "before", "after")]
for key, found in zip(("taught", "start", "after"), stages, strict=True):
    quote(f"large.works.{key}", f"{100 * found['works'][0]:.0f} %")
    quote(f"large.one.{key}", f"{found['pass@1'][0]:.2f}")
claim("SmolLM2, one run: working and right answers rise with the checker",
      all(stages[2][what][0] - stages[2][what][1] > stages[1][what][0]
          for what in ("works", "pass@1")), kind="T")

# %% [markdown] rlhf={"part": "exercises"}
# What carries over: nobody rewards the working, and it comes back. On 16 new sums with eight answers each its share goes from <!-- out large.works.start --> to <!-- out large.works.after -->, and pass@1 from <!-- out large.one.start --> to <!-- out large.one.after -->; before the brief steps it was <!-- out large.one.taught -->. What does not: without working this model is often right, the village model hardly ever. One run, few sums: that working comes back is clear, that more answers are right is likely.
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
# ### Exercise 14.2 · How much of pass@k is luck?
#
# An answer is right with working with probability $w$, and right by a guess without working with probability $l$. All else is wrong. With which probability do $k$ answers hold a right one, but none with working: solved *only by luck*? First guess for $w=0.02$, $l=0.006$ and $k=16$. Does this share grow with $k$? Then compare with the picture: it is the gap between the two lines of the start. <!-- fact -->
#
# ![Share of new sums solved against the number of answers: the start, the start counting only answers with working, chance, and the trained model](figures/14_tries.png)

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex14-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def only_luck(w, l, k):
    """Two probabilities, a number of answers -> one number."""
    ### BEGIN SOLUTION
    return (1 - w) ** k - (1 - w - l) ** k
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex14-2-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("14.2", only_luck)
### BEGIN HIDDEN TESTS
check("14.2", only_luck, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# From the chance that no answer is right with working, take away the chance that none is right at all.
# </details>
#
# <!-- solution 14.2 -->
#
# ### Exercise 14.3 · Close the hole
#
# Repair `no_wrong_step`. `holds` says of each written addition whether it is right; `stated` says whether a result is stated. Pay 1 only if a result is stated, at least two additions are written (one for each column), and all of them hold. Then think: which bad answer to 61 + 46 would still be paid?

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex14-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def repaired(holds, stated):
    """A list of True and False, and True or False -> 1.0 or 0.0."""
    ### BEGIN SOLUTION
    return float(stated and len(holds) >= 2 and all(holds))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex14-3-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("14.3", repaired)
### BEGIN HIDDEN TESTS
check("14.3", repaired, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# Three conditions, all needed. For the question: nothing says that the additions are those of <i>this</i> sum, or that the result follows from them.
# </details>
#
# <!-- solution 14.3 -->
#
# ## Retell it
#
# 1. A checker can take the place of people and of a reward model where answers can be verified; the rest of the loop stays.
# 2. A model that had learned to answer at once began to show its working again, because answers with working were more often right; nobody rewarded the working, nor the compliments that came along.
# 3. More than half of the gain comes without any training, by forbidding one word at the beginning: training mostly made frequent what was possible.
# 4. A question whose answers are all right, or all wrong, teaches nothing; and many tries also count lucky guesses.
# 5. A checker with a hole is a reward for the hole, and a large majority vote is only as right as the most frequent answer.
#
# *In the book*: [Reasoning and Inference-Time Scaling](https://rlhfbook.com/c/07-reasoning), chapter 7. *Next*: chapter 16, evaluation.
#
# <!-- nav -->
