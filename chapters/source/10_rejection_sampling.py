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
# # 10 · Rejection sampling
#
# **How much does filtering by a reward buy, and what does it quietly throw away?**
#
# ![Bars: how many answers of each of four kinds two selections keep; below them one answer that the second selection keeps and one that it drops, each with its score and its true reward](figures/10_hero.png)
#
# A model answered 256 prompts four times each. A reward model scored all 1,024 answers, and two selections kept 256 of them for training: the best answer to each prompt, or the best of all. This page shows what a model learns from either. <!-- fact -->
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Chapter 7 (reward models) and chapter 9 (finetuning). <!-- costs -->. Nothing is downloaded. Model: <code>village-3m-sft</code>, three million parameters, and its stored answers. The <i>true reward</i> is at most 3: 3 for a right answer, a story as it was ordered, help with a harmless request, refusal of a harmful one; about 0 for a needless refusal or a wrong answer; below 0 for help with harm and for broken text. It decides how the simulated person votes; only the rows named “by the truth” use it otherwise. The two texts of the picture were chosen to show the difference: of the kept answers worth less than 1, and of the dropped stories worth 3, the one with the highest score. “This page's run” has its own draw of prompts and labels and is not one of the recorded runs. <b>Recorded</b> runs are five seeds: other prompts (drawn from 110 to 338 stored ones of each kind), labels, batches and exam prompts. Steps and rate were tried once with another seed, not searched. ± is half of a 95 % interval.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, plots, quote
from rlhf_minimal.book import selections, show, table
from rlhf_minimal.evaluate import audit, candidates, exams
run = begin(10)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** Three copies of the model are finetuned in the same number of steps on 256 rows each: *best per prompt* on the best answer to each prompt, *best overall* on the best 256 of all, and *1 of 4 at random*, the control, on one of the four answers drawn blindly. By true reward the rows of best overall are worth <!-- out best-overall --> on average here, those of best per prompt <!-- out best-per-prompt -->, those of the control <!-- out 1-of-4-at-random -->.

# %% tags=["hide-input"]
rlhf.book.predict("Which copy answers new prompts best, averaged over the four kinds?",
        a="best overall, clearly: its rows have the highest scores and are worth most",
        b="best per prompt, clearly: it reads rows for every prompt and every kind",
        c="no clear difference between these two: both train on good answers")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## Draw, score, keep
#
# The prompts come in four kinds. A *story* is ordered by mood and length. An *opinion* asks for a fact after stating a belief that may be wrong. A *harmful* prompt asks for help with harm; a *look-alike* only sounds like it. The reward model is linear (chapter 7): it reads the model's last hidden state, the log-probability of the answer and its length. One simulated person labelled pairs of answers to *other* prompts for it. The *true reward* is a formula of this toy world: 3 for a right answer, about 0 for a wrong answer or a needless refusal, below 0 for help with harm, and down to about −1.5 for broken text.

# %%
kinds = {"story": "stories", "opinion": "opinions", "harmful": "harmful",
         "lookalike": "look-alikes"}
some = candidates.candidates(kinds, each=64, seed=run.seed)
M, N = some.shape                                  # 256 prompts, 4 answers
person = rlhf.village.Annotator(name="honest", temperature=1.0)
score = some.score(some.judge(person, run.fresh("labels")))
R = score.view(M, N)                               # the scores, a prompt a row
start, tokenizer = rlhf.models.load("village-3m-sft")
for i in (64, 192):                                # the first opinion and look-alike
    cards(some.text(4 * i, tokenizer)[0],
          [(f"score {R[i, j]:.1f}", some.text(4 * i + j, tokenizer)[1],
            some.gold[4 * i + j].item()) for j in range(N)])

# %% [markdown]
# Now keep M answers. The answers stand in one long list, prompt after prompt, so answer $j$ to prompt $i$ has the place $4i+j$:

# %%
first = N * torch.arange(M)                        # place of each first answer
dice = torch.randint(N, (M,), generator=run.fresh("random"))
kept = {"1 of 4 at random": first + dice,
        "best per prompt": first + R.argmax(1),
        "best overall": score.argsort(descending=True, stable=True)[:M]}
table({name: {"true reward": some.gold[rows].mean(),
              "prompts without a row": some.unheard(rows),
              "tokens": int(some.lengths[rows].sum())}
       for name, rows in kept.items()}, corner="256 rows kept",
      note="this page's run")

# %% tags=["hide-input", "hero"] rlhf={"drawing": true}
claim("the package selects the same rows",
      torch.equal(kept["best per prompt"], rlhf.filtering.top_per_prompt(score, N))
      and torch.equal(kept["best overall"], rlhf.filtering.top_overall(score, M)))
for name, rows in kept.items():
    quote(name.replace(" ", "-"), f"{some.gold[rows].mean():.1f}")
inside = torch.isin(torch.arange(M * N), kept["best overall"])
good_story = some.of("story").repeat_interleave(N) & (some.gold > 2.99)
show(selections.kept_and_dropped(
    {name: some.count(kept[name], kinds) for name in list(kept)[1:]},
    [(f"{head} by “best overall”", *some.highest(score, among, tokenizer))
     for head, among in {"Kept": inside & (some.gold < 1),
                         "Dropped": ~inside & good_story}.items()],
    title="256 of 1,024 answers kept, in two ways"))

# %% [markdown] rlhf={"part": "loop"}
# The rest is supervised finetuning on the kept rows:

# %%
def finetune(rows, steps=48, rate=5e-4):
    policy = rlhf.models.copy_of(start)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
    batches = rlhf.data.batches(rows, 16, steps=steps, tokenizer=tokenizer,
                                seed=run.seed)
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        mask = batch["mask"][:, 1:]                # the answer and its end token
        logp = rlhf.logprobs.token_logps(policy, batch["ids"], batch["attention"])
        loss = -(logp * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    return policy

# %% [markdown]
# To save time we train two of the three copies now (all three are in the recorded runs below), and ask all three models the first story and the first harmful prompt of a new exam:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
test = exams.requests(96, tuple(kinds), seed=run.seed)  # prompts that no run has read
copies = {"start": start} | {
    name: finetune(some.demonstrations(kept[name], tokenizer), run.steps(48))
    for name in ("1 of 4 at random", "best overall")}
sat = {name: exams.exam(model, tokenizer, test, max_new_tokens=56,
                        generator=run.fresh("exam")) for name, model in copies.items()}
for i in (0, 2):
    cards(test[i]["prompt"], [(name, e.texts[i], e.gold[i].item())
                              for name, e in sat.items()])

# %%
refused = {name: e.of("harmful", "lookalike").mean("refuses")
           for name, e in sat.items()}
claim("the copy of best overall refuses more than the control, harmful prompts and "
      "look-alikes taken together",
      refused["best overall"] > refused["1 of 4 at random"], refused, kind="T")

# %% [markdown]
# What is it worth? Five recorded seeds, with 160 exam prompts each. *Choosing without training* lets the start model answer each exam prompt four times and hands out the answer with the highest score: *best-of-n*. *Most probable* needs no reward model: it keeps the answer with the highest mean log-probability per token (no copy was trained on these rows). The *KL* from the start model says how many nats more likely the model's own answers have become, on average. In this table and the text, ± is half of a 95 % interval over the five seeds. <!-- fact -->

# %%
record = rlhf.book.recorded("10_village")
arms = {"start": "start", "1 of 4 at random": "random of 4",
        "most probable of 4": "most probable of 4", "best per prompt": "best of 4",
        "best overall": "best overall",
        "choosing 1 of 4, no training": "choose 1 of 4, no training"}
table(record.selection_rows(arms, kinds),
      note="true reward of the kept rows and of the model trained on them; KL in nats; "
      "± over five seeds")

# %% tags=["hide-input"]
worth = {label: record.arm(arm, kinds).mean(0) for label, arm in arms.items()
         if not label.startswith("most")}
start_, control, best, race, choose = worth.values()
claim("on all five seeds: best per prompt ends above the control by over 0.3, the "
      "control ends below the start, and choosing without training is above all copies",
      bool((best > control + 0.3).all() and (control < start_).all()
           and (choose > torch.stack([start_, control, best, race])).all()), kind="T")
claim("best overall against best per prompt: the interval over seeds contains 0, and "
      "four of five seeds favour best per prompt",
      abs((race - best).mean().item()) < rlhf.book.records.over_runs(race - best)[1]
      and (race < best).sum().item() == 4, kind="T")
rlhf.book.settled("c", "Better rows did not make a better model: four of five seeds "
                  "favour best per prompt; the interval over seeds just includes 0.")
rlhf.book.records.quote_runs(
    {"choice": best - control, "random": control - start_, "start": best - start_,
     "free": choose - best, "race": race - best}, sign=True)
cut = {"probable": "most probable of 4", "best": "best of 4", "random": "random of 4"}
rlhf.book.records.quote_runs(
    {f"{key}.{kind}": record.values("kept", arm, "gold", kind)
     for key, arm in cut.items() for kind in list(kinds)[2:]}
    | {f"kl.{key}": record.arm(cut[key], kinds, "kl").mean(0) for key in list(cut)[1:]})

# %% [markdown] rlhf={"part": "idea"}
# Best overall minus best per prompt is <!-- out race -->, in spite of the better rows. And choosing *without* training ends <!-- out free --> above best per prompt. Finetuning stores only a part of what choosing buys; in return an answer costs one draw, not four.
#
# ## Idea 1: On average, only the choice teaches
#
# Against the start, best per prompt gained <!-- out start -->. Against the *matched control* (the same prompts, number of rows, steps and rate, but a random answer) it gained <!-- out choice -->, because the control itself changed by <!-- out random -->. Why does a model not gain from its own random answers?
#
# Let $\pi(y)$ be the probability of answer $y$, and draw $n$ answers. The best of them is $y$ if none is better and not all are worse. With $F(y)$ the probability that one draw scores at most as high as $y$, and $F^-(y)$ that it scores lower, best-of-n is a policy:
#
# $$\pi_n(y)=F(y)^n-F^-(y)^n$$
#
# (if different answers have different scores). *Said aloud: all n draws are at most this good, but not all are worse.* Take a model with one free number (a *logit*) per answer, and many kept answers: the mean log-likelihood then has the gradient $\pi_n(y)-\pi(y)$ in the logit of $y$. For random answers $\pi_n=\pi$: on average nothing moves. A finite sample still moves the model, in directions that no reward chose; this may be why the control lost, but no second sample size was tried. (The loop averages over tokens, so that long answers count more than here.) Three answers, best of two:

# %%
p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)  # scores rise from left to right
F = p.cumsum(0)                                    # at most this score
best_of_two = F**2 - (F - p)**2
logits = p.log().requires_grad_()
logp = torch.log_softmax(logits, 0)
for name, q in {"random": p, "best of two": best_of_two}.items():
    push, = torch.autograd.grad((q * logp).sum(), logits, retain_graph=True)
    print(f"{name:<12}", [round(x + 0.0, 2) for x in push.tolist()])
claim("the package computes the same law", torch.allclose(
    rlhf.best_of_n.law(p, torch.arange(3.0), 2), best_of_two))

# %% [markdown]
# No baseline, no negative examples: no term of the loss names an answer that was not kept. It falls all the same (the first number above), because the kept answers take its probability. The first step is the simplest policy gradient, with a reward of 1 for the kept rows and 0 for the rest (chapter 11); the later steps still read answers of the start model.
#
# *Most probable of 4* is the cheapest filter: it needs no labels, and its rows have about three quarters of what the reward model's rows gain over random ones. Whether a model would learn as much from them was not tried. It fails where the usual answer is not the wanted one: its rows for harmful prompts are worth <!-- out probable.harmful -->, those of the reward model <!-- out best.harmful -->.
#
# > **Keep this.** Compare a filter with a blind choice of as many rows for the same prompts, in as many steps.

# %% [markdown] rlhf={"part": "idea"}
# ## Idea 2: Scores of different prompts do not compare
#
# $M$ prompts with $N$ answers each give a [matrix of scores](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_reward_matrix) $R$, where [$r_{ij}=\mathcal R(y_{ij}\mid x_i)$](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_reward_computation) is the score of answer $j$ to prompt $x_i$. The two selections:
#
# $$S(R)_i=\arg\max_j r_{ij}$$
#
# $$S_K(R_{\rm flat})=\text{places of the }K\text{ largest }r_{ij}$$
#
# *Said aloud: a winner for every prompt, or the winners of one race.* The book's [example](https://rlhfbook.com/c/09-rejection-sampling#eq:rs_example_matrix), five prompts with four answers:

# %%
example = torch.tensor([[0.7, 0.3, 0.5, 0.2], [0.4, 0.8, 0.6, 0.5],
                        [0.9, 0.3, 0.4, 0.7], [0.2, 0.5, 0.8, 0.6],
                        [0.5, 0.4, 0.3, 0.6]])
per_prompt = 4 * torch.arange(5) + example.argmax(1)
overall = example.flatten().argsort(descending=True, stable=True)[:5]
show(selections.score_matrix(
    example.tolist(), {"best per prompt": per_prompt.tolist(),
                       "best overall": overall.tolist()},
    title="One place moves, and one prompt is gone"))

# %%
shifted = example + torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])[:, None]
race = shifted.flatten().argsort(descending=True)[:5]
print("best overall, prompts:", (overall // 4 + 1).tolist())
print("x5's scores plus 1:   ", (race // 4 + 1).tolist())
claim("one number added to all scores of a prompt: no winner per prompt changes, but "
      "that prompt now has four of five places in the race",
      torch.equal(shifted.argmax(1), example.argmax(1))
      and bool((race // 4 == 4).sum() == 4))

# %% [markdown]
# Which of the two rows of numbers is right? The labels do not say. The reward model was fitted to comparisons of answers to *one* prompt, and a number added to all answers of a prompt leaves its loss unchanged (chapter 7). So the loss gives no reason for the level of a prompt's scores to be right: the linear model extrapolates it, from features such as length. Here stories got low scores in all five fits and lose nearly every place in the race, however good they are.
#
# What becomes of the model, kind by kind? *Centred* runs the same race after subtracting from each score the mean of its prompt's four scores:

# %% rlhf={"figure": "kinds"}
shown = {"other: at random": "random of 4", "policy: per prompt": "best of 4",
         "proxy: overall": "best overall", "chosen: centred": "best overall, centred"}
change = {label: {name: (record.arm(arm, [k]) - record.arm("start", [k]))[0].tolist()
                  for k, name in kinds.items()} for label, arm in shown.items()}
show(plots.dots({"true reward of the model, change from the start": change},
                title="Best overall gains on harm, loses on look-alikes"))
cards(*record.texts_of({"start": "start", "best per prompt": "best of 4",
                        "best overall": "best overall"}, seed=0)[3])

# %% tags=["hide-input"]
race, best = change["proxy: overall"], change["policy: per prompt"]
claim("on all five seeds: after best overall, look-alikes are worse than at the start "
      "and than after best per prompt, harmful prompts better than at the start",
      min(race["harmful"]) > 0 and all(r < min(b, 0) for r, b in zip(
          race["look-alikes"], best["look-alikes"], strict=True)), kind="T")
rlhf.book.records.quote_runs(
    {f"refused.{key}": record.arm(arm, ["lookalike"], "refuses")[0]
     for key, arm in {"start": "start", "best": "best of 4", "race": "best overall",
                      "centred": "best overall, centred"}.items()}, percent=True)
rlhf.book.records.quote_runs({"centred": record.arm(
    "best overall, centred", kinds).mean(0) - worth["best overall"]}, sign=True)
for arm, key in {"best overall": "race", "best overall, centred": "centred"}.items():
    quote(f"stories.{key}", record.spread("kept", arm, "rows", "story", digits=0))
    quote(f"unheard.{key}", record.spread("kept", arm, "unheard", digits=0))

# %% [markdown] rlhf={"part": "idea"}
# Under the plot stand the answers to the first look-alike of the exam, seed 0. Of the look-alikes the start refuses <!-- out refused.start -->, the copy of best per prompt <!-- out refused.best -->, that of best overall <!-- out refused.race -->. The average hides it, because harmful prompts gain, from every filter. Measured against the control, the two races differ on look-alikes by less than the seeds vary.
#
# Centring brings the stories back: <!-- out stories.centred --> of their answers are kept, by the plain race <!-- out stories.race -->. The model shows no recovery: centred minus plain race is <!-- out centred --> in true reward, and <!-- out refused.centred --> of the look-alikes are refused. But the gap to best per prompt is small, and five seeds cannot exclude that all of it closed. Centred scores are highest where the answers to one prompt differ most, and <!-- out unheard.centred --> of 256 prompts still have no row (the plain race: <!-- out unheard.race -->). On stories the copy of best overall ends about where the control ends, although it read almost none; single stories do break, as the one above.
#
# > **Keep this.** Choose within a prompt, or count who is left before you train.
#
# ## Idea 3: The first few answers buy most, and then it stops
#
# Is four enough? For 128 stored prompts of eleven kinds there are 64 answers each, so best-of-n can be computed for every n up to 64, averaged over all sets of n answers (exercise 10.1). Five reward models, each from its own draw of labels:

# %%
many = candidates.candidates(n=64)
NS = [1, 2, 4, 8, 16, 32, 64]
curve = rlhf.best_of_n.curve
judges = [many.score(many.judge(person, run.fresh(f"labels {i}"))) for i in range(5)]
units = [(s - s.mean()) / s.view(128, 64).std(1).mean() for s in judges]
climb = torch.stack([curve(s, s, 64, NS) for s in units])
truth = torch.stack([curve(s, many.gold, 64, NS) for s in judges])
usual, ideal = (curve(s, many.gold, 64, NS) for s in (many.logp, many.gold))

# %%
show(plots.best_of_n(NS, {
    "score, standard deviations": {"proxy: reward model": climb.mean(1)},
    "true reward": {"gold: kept by the reward model": truth.mean(1),
                    "other: by log-probability": usual.mean(0),
                    "reference: by the truth": ideal.mean(0)}},
    title="The score climbs on; the true reward has stopped", note="128 prompts"))
look, at = many.of("lookalike"), {n: truth[..., i] for i, n in enumerate(NS)}
steps = {"step.1.4": at[4] - at[1], "step.4.8": at[8] - at[4],
         "step.8.64": at[64] - at[8], "rest": (at[64] - at[8])[:, ~look],
         "fall": (at[64] - at[2])[:, look]}
steps = {key: audit.crossed(change) for key, change in steps.items()}

# %% tags=["hide-input"]
for key, found in steps.items():
    quote(key, "{:+.2f} ± {:.2f}".format(*found).replace("-", "−"))
claim("from 1 to 4 answers the true reward gains over 0.3, from 8 to 64 less than a "
      "tenth of that", steps["step.1.4"][0] - steps["step.1.4"][1] > 0.3
      and steps["step.8.64"][0] < steps["step.1.4"][0] / 10, kind="S")
claim("look-alikes lose from best of 2 to best of 64, harmful prompts gain",
      sum(steps["fall"]) < 0 < (at[64] - at[2])[:, many.of("harmful")].mean().item(),
      kind="S")

# %% [markdown]
# From 1 to 4 answers the true reward changes by <!-- out step.1.4 -->, from 4 to 8 by <!-- out step.4.8 -->, from 8 to 64 by <!-- out step.8.64 --> (here ± is over prompts and reward models). The last interval contains 0: the climb has stopped, and a fall over all prompts is not shown. The maximum looks for whatever the reward model overrates, and among 64 answers there is more of it. Which kinds of prompts pay?

# %%
pair = {"harmful": "harmful", "lookalike": "look-alikes"}
by_kind = {f"true reward, {name}": {
    "gold: kept by the reward model": truth[:, many.of(k)].mean(1),
    "other: by log-probability": usual[many.of(k)].mean(0)} for k, name in pair.items()}
show(plots.best_of_n(NS, by_kind, note="10 harmful prompts, 13 look-alikes",
                     title="More choice: harmful prompts gain, look-alikes lose"))

# %% [markdown]
# The 13 look-alikes do fall: from 2 to 64 answers they change by <!-- out fall -->. Without them the change of the average from 8 to 64 is <!-- out rest -->. On harmful prompts the reward model learned that refusing is good; on look-alikes it likes refusals, too, and the more answers there are to choose from, the more often it finds one. So on look-alikes even the rows of *best per prompt* are no better than random ones: in the recorded runs they are worth <!-- out best.lookalike -->, random ones <!-- out random.lookalike -->, those of the log-probability <!-- out probable.lookalike -->. (The model trained on them loses less than the control, as Idea 2 showed.)
#
# How far from the model does a filter lead? If no two *draws* ever tie (continuous scores, each single answer infinitely rare), the KL of best-of-n equals the right side and depends on n alone. Real answers can be drawn twice; for them it is an upper bound:
#
# $$\mathrm{KL}(\pi_n\,\|\,\pi)\;\le\;\log n-\frac{n-1}n$$
#
# A fair coin, heads scores higher, two tosses: tails is kept in one case of four.

# %%
import math

coin, kept_two = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
kl = (kept_two * (kept_two / coin).log()).sum().item()
bound = math.log(2) - 1 / 2
print(f"KL of best of two {kl:.3f}   bound {bound:.3f}")
claim("the package computes the same bound, and the coin stays below it",
      abs(rlhf.best_of_n.kl_bound(2) - bound) < 1e-12 and kl < bound)
quote("bound.4", f"{rlhf.best_of_n.kl_bound(4):.2f}")

# %% [markdown]
# Best-of-4 costs at most <!-- out bound.4 --> nats. The copy trained on it moved <!-- out kl.best --> nats and is worth less; the control moved <!-- out kl.random --> nats and lost. KL says how far a model went, not what it got for it. Try other n, and other judges:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
coins = torch.rand(len(many.gold), generator=run.fresh("coin"))
sources = {"a coin": coins, "log-probability": many.logp, "reward model": judges[0],
           "the truth": many.gold}
groups = {"all 128": look | ~look} | {name: many.of(k) for k, name in kinds.items()}
rlhf.book.explorers.best_of({name: curve(s, many.gold, 64, NS[:6])
                             for name, s in sources.items()}, NS[:6], groups).show()

# %% [markdown]
# > **Keep this.** A few answers per prompt buy most of what a reward model can give; more of them find its mistakes.
#
# **What practice does.** The book names 10 to 30 answers per prompt, temperatures from 0.7 to 1.0, removal of duplicates, sometimes several source models; there is no agreed recipe. <!-- fact --> *The name* comes from statistics, where rejection sampling is another law ([deeper](deeper/10_rejection_sampling.ipynb)).

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | the wrong line | what you see | the one number that tells |
# |---|---|---|
# | `R.argmax(1)` taken for places in the flat list | the right number of rows, a falling loss | share of rows that belong to their prompt |
# | `score.argsort()[:k]`: a rising sort | fluent training on the worst answers | mean score of the kept, against that of all |
# | a race with ties (rewards 0 and 1) | the first prompts of the file fill all places | mean place of the kept: should be the middle |
#
# The first, live:

# %%
wrong = R.argmax(1)                                # columns 0 to 3, not places
belongs = (wrong // N == torch.arange(M)).double().mean().item()
print(f"{len(wrong)} rows, {len(set((wrong // N).tolist()))} prompt; "
      f"{100 * belongs:.1f} % belong to their prompt")
claim("all 256 rows belong to the first prompt", bool((wrong // N == 0).all()))

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# One recorded run on SmolLM2 with 135 million parameters, taught the village's manner first: eight answers to each of 48 prompts, the best *by the truth* or a random one kept, 24 steps with a LoRA adapter. The filter makes no mistakes here: this is the best case. The exam has 25 harmful prompts and 39 look-alikes; of the two texts, the first prompt is harmful, the second a look-alike. An answer outside the village's grammar gets −1.5. <!-- fact -->

# %%
large = rlhf.book.recorded("ch10_smollm2")
stages = {"before": "start", "random": "1 of 8 at random", "after": "best of 8"}
dots = {f"{stage}, {name}": large.families(pair, stages)[name][stage]
        for name in pair.values() for stage in stages.values()}
show(plots.shares(dots, middle=0, x_label="true reward of new prompts",
                  note="one run; ± 95 % over prompts",
                  title="At 135M the gain is mostly on harmful prompts"))
for prompt, answers in large.texts(stages)[1:3]:
    cards(prompt, answers)

# %%
of = {"kept": large.kept["best"]} | {
    key: large.held_out[key]["all"]["mean"] for key in stages}
spread = [large.held_out[key]["all"]["standard_error"] for key in ("random", "after")]
claim("recorded: best of 8 beats one of eight at random by over two standard errors",
      of["after"] - of["random"] > 2 * math.hypot(*spread), kind="T")
for key, value in of.items():
    quote(f"large.{key}", f"{value:.2f}".replace("-", "−"))

# %% [markdown] rlhf={"part": "exercises"}
# What carries over: the random copy ends at <!-- out large.random --> and gains nothing over the start, <!-- out large.before -->; the copy trained on the best ends at <!-- out large.after -->, far below the <!-- out large.kept --> of its own training rows. Most of its gain is on harmful prompts. And even this copy, taught by a perfect filter, refuses the look-alike above: needless refusals do not come from the reward model's mistakes alone. (These averages are over all 64 prompts.)
#
# ## Exercises
#
# ### Exercise 10.1 · Best of n from G answers
#
# The curves above use *all* sets of n among a prompt's 64 answers, not just the first n. Write that for one prompt: the mean, over all sets of n of its G scores, of the highest score in the set. With the scores sorted from low to high, the one with $i$ scores below it is the highest of $\binom{i}{n-1}$ of the $\binom{G}{n}$ sets.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex10-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def best_of(scores, n):
    """(G,) scores of one prompt, n -> mean of the best over all sets of n, a number."""
    ### BEGIN SOLUTION
    G = len(scores)
    chance = [math.comb(i, n - 1) / math.comb(G, n) for i in range(G)]
    return sum(w * s for w, s in zip(chance, sorted(scores.tolist()), strict=True))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex10-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("10.1", best_of)
### BEGIN HIDDEN TESTS
check("10.1", best_of, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# <code>math.comb(i, n - 1)</code> is 0 while fewer than n − 1 scores lie below. The weights add up to 1.
# </details>
#
# <!-- solution 10.1 -->
#
# ### Exercise 10.2 · Who is left out?
#
# Of the book's five prompts, how many have no answer among the best *four* of all? On paper first. Then count the prompts without a single answer among the k best. Ties go to the answer that stands first.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex10-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def prompts_lost(R, k):
    """(M, N) scores, places -> number of prompts of which nothing is kept."""
    ### BEGIN SOLUTION
    places = R.flatten().argsort(descending=True, stable=True)[:k]
    return len(R) - len((places // R.shape[1]).unique())
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex10-2-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("10.2", prompts_lost)
### BEGIN HIDDEN TESTS
check("10.2", prompts_lost, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# A place in the flat list hides prompt and answer: <code>place // N</code> is the prompt.
# </details>
#
# <!-- solution 10.2 -->
#
# ### Exercise 10.3 · Is the difference real?
#
# The plot of Idea 2 once more. On look-alikes the lines of the two races reach the control's, on harmful prompts they do not. Often there is no such line, only one run and one exam:
#
# ![Rows of dots for four kinds of prompts and four trained models: change of the true reward from the start, mean and range of five seeds](figures/10_kinds.png)
#
# Two filters train two models. The first answers 80 % of 200 questions, the second 77 %. The difference has the standard error $\sqrt{p_1(1-p_1)/n+p_2(1-p_2)/n}$. From how many questions each is it `z` standard errors? <!-- fact -->

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex10-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def items_needed(p1, p2, z):
    """Two shares, standard errors wanted -> questions for each (may be rounded up)."""
    ### BEGIN SOLUTION
    variance = p1 * (1 - p1) + p2 * (1 - p2)  # of the difference, one question each
    return math.ceil(z**2 * variance / (p1 - p2) ** 2)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex10-3-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("10.3", items_needed)
### BEGIN HIDDEN TESTS
check("10.3", items_needed, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# Set the difference equal to z times its standard error, square both sides, solve for n.
# </details>
#
# <!-- solution 10.3 -->
#
# ## Retell it
#
# 1. Rejection sampling is three steps: let the model answer each prompt several times, keep what a reward likes, finetune on it.
# 2. The fair comparison is a blind choice of as many answers to the same prompts: a model trained on its own random answers got worse here, so the start alone is the wrong yardstick.
# 3. Choosing one of four without any training was better than every trained copy; training makes a part of that gain permanent and cheap.
# 4. Scores of different prompts do not compare: a race between prompts dropped the stories and more than half of all prompts, and the model that learned from it refused more harmless requests than the model of best per prompt.
# 5. The first few answers buy most; with many more the filter finds what the reward model overrates.
#
# *In the book*: [Rejection Sampling](https://rlhfbook.com/c/09-rejection-sampling), chapter 9; lecture 2. *Deeper*: [the exact law and its price, all eleven kinds in the race, what accuracy buys, true rejection sampling, round after round](deeper/10_rejection_sampling.ipynb). *Next*: [chapter 11, policy gradients](11_policy_gradients.ipynb).
#
# <!-- nav -->
