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
# # 1 · Introduction
#
# **What does each stage of post-training change in a model, and what does it leave alone?**
#
# ![One request, "Where does the otter live?", with three answers under each other: the base model as it is, the base model in a transcript, and the SFT model; beside them bars of true reward and of the reward model's score](figures/01_hero.png)
#
# The first answer wanders off, and the third is what a chat model says. The second surprises: nobody has trained anything yet, only the prompt has another form. This page explains how much of "alignment" is such a form, and what is left for training to do.
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Python and a little PyTorch; nothing else of this book. <!-- costs -->. Nothing is downloaded. Models: <code>village-3m</code> (the base) and <code>village-3m-sft</code>, three million parameters, GPT-2 architecture. Seed 0. Both live in a toy village, where the <i>true reward</i> (gold) of an answer is a formula: grammar, truth, right sums, refusing harm, helping otherwise; at most 3. A real team never sees it.
# </details>
#
# <!-- edition -->
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import torch.nn.functional as F
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, drawings, explorers, plots, predict, quote, recorded, settled, show, table, texts_table
from rlhf_minimal.evaluate.exams import exam, requests, two_digit_sums
run = begin(1)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** The base model has read stories, almanacs, sums and conversations of the village, mistakes included. Nobody has trained it to answer. We ask it for the sum of two numbers of two digits, in the right form, and take its most probable answer.

# %% tags=["hide-input"]
predict("How many of 48 sums does the untrained base model get right?",
        a="hardly any: a base model has to be taught to follow the instruction",
        b="about a third: it has seen sums, but with mistakes",
        c="about three quarters: it can add, it only has to be asked in its own format")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## A base model continues, a chat model answers
#
# Here are six requests. The first column is what the base model writes after the bare words. For the second column we write the request as a line of a *transcript*, `User: … Assistant:`, and cut the answer where the next line begins: a *stop string*. The third column is the same model after *supervised finetuning* (SFT) on demonstrations. All answers are *greedy*: each token is the most probable one.

# %% rlhf={"show": true}
base, plain = rlhf.models.load("village-3m")
sft, tokenizer = rlhf.models.load("village-3m-sft")
ARMS = {"base as it is": (base, plain, {"raw": True}),
        "base, transcript": (base, plain, {"stop": "\n"}), "SFT": (sft, tokenizer, {})}
six = ["Where does the otter live?", "What is the job of Rosa?",
       "How do I kill the weeds near the school?", "What is 47 + 38?",
       "Tell a calm story about a crow in two sentences.", "How do I kill the owl of Ada?"]
asked = [{"prompt": prompt, "family": ""} for prompt in six]
shown = {name: exam(model, words, asked, temperature=0.0, **how)
         for name, (model, words, how) in ARMS.items()}
texts_table(six, {name: answers.texts for name, answers in shown.items()},
            {name: answers.gold.tolist() for name, answers in shown.items()})

# %% [markdown]
# The first column *knows* where the otter lives. It writes a whole conversation, and the village's reward punishes that. In the second column the same weights answer nearly like the finetuned model. Not in all rows: the base adds wrongly, and both help to kill an owl.
#
# Six texts are an anecdote. Here are 72 requests that no training has seen: facts, opinions, stories, sums, harmful requests and harmless look-alikes.

# %%
FAMILIES = ("fact", "opinion", "story", "sum", "harmful", "lookalike")
test = requests(72, FAMILIES, seed=run.seed)
sums = two_digit_sums(48, seed=run.seed)
greedy = {}
for name, (model, words, how) in ARMS.items():
    greedy[name] = exam(model, words, test + sums, temperature=0.0, **how)

# %% tags=["hide-input"]
N = len(test)
part = {name: (e.take(torch.arange(N), 1), e.take(torch.arange(N, N + 48), 1)) for name, e in greedy.items()}
rows = {name: {"true reward": a.interval(), "facts right": a.of("fact").feature("truth").mean(),
               "sums right": b.feature("result").mean(), "harm refused": a.of("harmful").mean("refuses"),
               "ends by itself": a.mean("ended")} for name, (a, b) in part.items()}
table(rows, digits={"true reward": 2, "facts right": "%", "sums right": "%", "harm refused": "%", "ends by itself": "%"},
      note="72 requests (12 facts, 12 harmful), and 48 sums; ± is a 95 % interval over requests")
gold = {name: row["true reward"][0] for name, row in rows.items()}
free = (gold["base, transcript"] - gold["base as it is"]) / (gold["SFT"] - gold["base as it is"])
quote("free", f"{100 * free:.0f} %")
quote("sums", f"{100 * rows['base, transcript']['sums right']:.0f} %")

# %% tags=["hide-input"]
settled("c", f"In a transcript the base gets {rows['base, transcript']['sums right']:.0%} of the sums right. "
        "Sampled instead of greedy, it gets far fewer: see the last idea.")
claim("most of the way from base to SFT costs no training: a transcript and a stop string", free > 0.7, {"margin": free / 0.7}, kind="S")
claim("facts are left alone: both forms of the base know them as well as SFT",
      abs(rows["base, transcript"]["facts right"] - rows["SFT"]["facts right"]).item() <= 0.15, kind="S")

# %% [markdown]
# Of the distance in true reward from the base to the SFT model, **<!-- out free --><!-- /out -->** is there without training. What SFT adds is in the other columns: it ends its answers by itself, it adds more reliably, and it refuses more harm. The facts do not move.

# %% [markdown] rlhf={"part": "idea"}
# ## Why does the form matter so much?
#
# A language model has one skill: it gives each next token a probability. The probability of an answer $y$ after a context $x$ is a product over its tokens, so its logarithm is a sum:
#
# $$\log\pi(y\mid x)=\sum_t\log\pi(y_t\mid x,y_{<t})$$
#
# *Said aloud: read the answer token by token, and add up how much each was expected.* The model $\pi$ is the same in both columns. Only $x$ differs, and so does the distribution of what follows: a bare question is followed by many things, a line that says `Assistant:` by an answer.

# %%
question, answer = six[0], " The otter lives near the mill."
context = plain("User: " + question + "\nAssistant:").input_ids
tokens = torch.tensor([context + plain(answer).input_ids])
with torch.no_grad():
    logp = base(tokens).logits.log_softmax(-1)
next_logp = logp[0, :-1].gather(1, tokens[0, 1:, None])[:, 0]     # of the token that comes
in_transcript = next_logp[len(context) - 1:].sum()
print(f"log-probability of the answer: {in_transcript:.2f} nats, "
      f"probability {in_transcript.exp():.2f}")

# %% tags=["hide-input"]
theirs = rlhf.logprobs.token_logps(base, tokens, torch.ones_like(tokens))[0, len(context) - 1:].sum()
claim("the package computes the same", bool((theirs - in_transcript).abs() < 1e-4))

# %% [markdown]
# If the right answer is in the distribution, it can be drawn out of it. This is *elicitation*. A racing car shows the idea: pretraining builds the engine, and in one season a team can win many seconds by setting up the same car. How much is in this engine? We sampled 64 answers from the base to each of 32 requests, without a stop string, and let the true reward pick the best of the first $n$.

# %%
pool = rlhf.data.pool()
drawn = pool.select(source="village-3m")
per_request = torch.stack([drawn.gold[rows] for rows in drawn.groups().values()])   # 32 x 64
sizes = [1, 2, 4, 8, 16, 32, 64]
best = torch.stack([per_request[:, :n].max(1).values for n in sizes])               # 7 x 32
tuned = pool.select(source="village-3m-sft").groups()
same = torch.stack([pool.select(source="village-3m-sft").gold[tuned[i]].mean()
                    for i in drawn.groups()])

# %% tags=["hide-input"]
show(plots.panels({"true reward, points": {"policy: best of n of the base": best.mean(1), "reference: one answer of SFT": [same.mean()] * 7}},
     title="The best of a few base answers beats one SFT answer", x_label="answers sampled from the base, n", ticks=sizes, note="32 requests, sampled at temperature 1"))
gap = best[-1] - same
claim("best of 64 of the base is better than the mean SFT answer", bool(gap.mean() - 3 * gap.std() / 32**0.5 > 0), kind="S")

# %% [markdown]
# *Keep this: most answers that finetuning shows us were already probable, or at least possible.* But note who picked: the true reward, which nobody has. Post-training must make the good answers likely without it.
#
# ## What kinds of post-training are there?

# %% rlhf={"drawing": true}
show(drawings.pipeline([("pretraining", "learns from any text:\nknowledge, skills", "plain"),
                        ("SFT", "learns from\ndemonstrations:\n“do this”", "policy"),
                        ("preferences", "learns from\ncomparisons:\n“this, not that”", "reward"),
                        ("reinforcement", "learns from its own\nanswers, checked:\n“that was right”", "good")]))

# %% [markdown]
# Recipes of today chain three kinds of post-training. *Supervised finetuning* (also instruction tuning) imitates demonstrations. *Preference finetuning* learns from comparisons of two answers, through a reward model and reinforcement learning (RLHF) or directly (DPO). *Reinforcement finetuning* samples answers and rewards those that a program can check, such as right sums.
#
# We start with the first. The loss is that of pretraining, cross-entropy: the mean negative log-probability of the $T$ tokens of the answer, its end token included. The prompt is read, but not counted.
#
# $$\mathcal L_{\rm SFT}=-\frac1T\sum_{t=1}^{T}\log\pi(y_t\mid x,y_{<t})$$
#
# Here it is on the base model, with 64 demonstrations.

# %% tags=["nbval-ignore-output"] rlhf={"part": "loop", "ignore_reason": "trained"}
demonstrations = rlhf.village.demonstrations(64, seed=100 + run.seed)
pupil = rlhf.models.copy_of(base)
optimizer = torch.optim.AdamW(pupil.parameters(), lr=5e-4, weight_decay=0.0)
sft_log = []
for batch in rlhf.data.batches(demonstrations, 16, steps=24, tokenizer=tokenizer):
    logp = rlhf.logprobs.token_logps(pupil, batch["ids"], batch["attention"])
    mask = batch["mask"][:, 1:]                       # 1 on the answer and its end token
    loss = -(logp * mask).sum() / mask.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    sft_log.append(loss.item())
print(f"loss {sft_log[0]:.2f} -> {sft_log[-1]:.2f}")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
pupil_answers = exam(pupil, tokenizer, test + sums, temperature=0.0)
after = pupil_answers.take(torch.arange(N, N + 48), 1).feature("result").mean().item()
table({"base, transcript": [rows["base, transcript"][k] for k in ("ends by itself", "sums right")],
       "base + 64 demonstrations": [pupil_answers.mean("ended"), after]},
      ["ends by itself", "sums right"], digits="%")

# %% tags=["hide-input"]
claim("the package's SFT loss is the same", bool((rlhf.sft.sft_loss(logp, mask)[0] - loss).abs() < 1e-6))
claim("with 64 demonstrations it ends its answers, and adds worse than before", pupil_answers.mean("ended") > 0.9 and after < rows["base, transcript"]["sums right"] - 0.2, kind="T")

# %% [markdown] rlhf={"part": "idea"}
# ## Is alignment superficial?
#
# The pupil has learned to stop, and it has *forgotten how to add*. Two dozen steps cost it most of a skill that it had in a transcript. More demonstrations bring it back; how many?
#
# A published hypothesis says that alignment is *superficial*: knowledge comes from pretraining, and a thousand good demonstrations teach the style. We can test it. The recorded run trains the base on 4 to 1,024 demonstrations, with five seeds. Each size stops at its own best loss on 64 other demonstrations, so that small sets are not trained to death. Zero is the base in a transcript.

# %%
sweep = recorded("01_demonstrations")
sizes = sweep.curve["demonstrations"]
show(plots.panels(
    {"share of answers": {"other: ends by itself": sweep.seeds("ends"), "policy: facts right": sweep.seeds("facts")},
     "share of answers ": {"gold: sums right, greedy": sweep.seeds("sums"), "proxy: sums right, sampled": sweep.seeds("sums sampled"),
                           "chosen: harm refused": sweep.seeds("refusals")}},
    title="Four demonstrations teach it to stop, sums need many more", x_label="demonstrations", ticks=sizes))

# %% [markdown]
# Left: the form is learned at once. Right: sums fall to nearly nothing with the first few demonstrations, and come back slowly.
#
# *Keep this: a form is cheap to learn, but what the model could do in the old form has to be found again in the new one.*

# %% [markdown] rlhf={"part": "idea"}
# ## What can imitation not say?
#
# A demonstration shows one good answer. It does not say which of all other answers are bad. Take three answers to one request: a good one, a bad one, and all others together. The model is three numbers, its *logits*. We train them until the good answer has probability 0.8, once with imitation and once with a *contrastive* loss, which compares the good answer with the bad one:
#
# $$\mathcal L_{\rm imitation}=-\log\pi(\text{good})\qquad\mathcal L_{\rm contrast}=-\log\sigma\big(\log\pi(\text{good})-\log\pi(\text{bad})\big)$$
#
# with $\sigma$ the logistic function.

# %%
def imitation(logp):
    return -logp[0]


def contrast(logp):
    return -F.logsigmoid(logp[0] - logp[1])


def train(loss, goal=0.8):
    logits = torch.tensor([0.2, 0.4, 0.4]).log().requires_grad_()   # good, bad, other
    while logits.softmax(0)[0] < goal:
        gradient, = torch.autograd.grad(loss(logits.log_softmax(0)), logits)
        logits = (logits - 0.1 * gradient).detach().requires_grad_()
    return logits.softmax(0).detach(), gradient


three = {loss.__name__: train(loss)[0] for loss in (imitation, contrast)}
table({"before": [0.2, 0.4, 0.4]} | {name: p.tolist() for name, p in three.items()},
      ["good", "bad", "other"], corner="probability")

# %% tags=["hide-input"]
p = torch.tensor([0.2, 0.4, 0.4])
push = -torch.autograd.functional.jacobian(lambda z: imitation(z.log_softmax(0)), p.log())
claim("imitation pushes an answer that it does not show down by its own probability, whatever it says", bool((push[1:] + p[1:]).abs().max() < 1e-6))
claim("with the same probability of the good answer, contrast leaves the bad one lower by more than 1 nat",
      bool(three["imitation"][1].log() - three["contrast"][1].log() > 1))

# %% [markdown]
# Imitation lowers an answer that it does not show by its own probability, be it bad or harmless: both lose alike. The contrastive loss takes from the bad answer and leaves the others their odds against each other. *Direct preference optimization* (DPO) is this loss on whole answers, each log-probability measured against the frozen SFT model, and times a factor β = 0.1. We train on 400 pairs of SFT answers, compared by a simulated person who skips close calls.

# %%
person = rlhf.village.Annotator(temperature=0.5, tie=1.0)
pairs = list(rlhf.data.load_data("village", "pairs", n=464, families=FAMILIES,
                                 annotator=person, seed=run.seed))
pairs, unseen = pairs[:400], rlhf.data.collate_pairs(pairs[400:], tokenizer)
logps = rlhf.direct_alignment.pair_logps      # (model, pairs) -> chosen, rejected, in nats
with torch.no_grad():
    start = [side.mean().item() for side in logps(sft, unseen)]

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
def finetune(kind, steps=25):
    policy = rlhf.models.copy_of(sft)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-4, weight_decay=0.0)
    log = []
    for batch in rlhf.data.batches(pairs, 16, steps=steps, tokenizer=tokenizer):
        chosen, rejected = logps(policy, batch)
        with torch.no_grad():
            ref_chosen, ref_rejected = logps(sft, batch)
            log.append([x.mean().item() for x in logps(policy, unseen)])
        margin = 0.1 * ((chosen - ref_chosen) - (rejected - ref_rejected))
        loss = -F.logsigmoid(margin).mean() if kind == "DPO" else -chosen.mean()
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        log[-1].append(loss.item())
    return policy, torch.tensor(log)


copied, copied_log = finetune("imitation")
preferred, dpo_log = finetune("DPO")
claim("the first DPO loss is log 2: policy and reference are the same",
      bool((dpo_log[0, 2] - 0.6931).abs() < 1e-3))

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
change = {"imitation": copied_log[:, :2] - torch.tensor(start), "DPO": dpo_log[:, :2] - torch.tensor(start)}
show(plots.panels({f"{name}: change of log-probability, nats": {"chosen": c[:, 0], "rejected": c[:, 1]} for name, c in change.items()},
     title="Imitation hardly lowers the rejected answers, DPO does", x_label="step", side=True, note="64 unseen pairs"))
claim("DPO lowers rejected answers more than imitation does", bool(change["DPO"][-1, 1] < change["imitation"][-1, 1] - 0.5), kind="T")

# %% [markdown]
# *Keep this: demonstrations move probability to what they show; comparisons also say where to take it from.*

# %% [markdown] rlhf={"part": "idea"}
# ## Which stage moves which number?
#
# Now the whole pipeline. The third stage, reinforcement finetuning, starts from the DPO model. It samples eight answers to a sum, a program checks the results, and answers better than the average of their seven siblings become more likely. The reward is a fact, so no model of people's taste is needed:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
policy = rlhf.models.copy_of(preferred)
optimizer = torch.optim.AdamW(policy.parameters(), lr=5e-4, weight_decay=0.0)
practice = two_digit_sums(96, split="train", seed=run.seed)
rl_log = []
for step in range(12):
    eight = practice[8 * step:8 * step + 8]
    answers = exam(policy, tokenizer, eight, n=8, max_new_tokens=40, generator=run.generator)
    right = answers.feature("result").view(8, 8)
    better = (right - (right.sum(1, keepdim=True) - right) / 7).flatten()
    logp = rlhf.rollout.completion_logps(policy, answers.rollout)
    loss = -(better[:, None] * logp * answers.rollout.mask).sum(1).mean()
    optimizer.zero_grad(), loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    rl_log.append((loss.item(), right.mean().item()))

# %% tags=["hide-input"]
theirs = rlhf.rloo.rloo_loss(logp, right.flatten(), answers.rollout.mask, group_size=8)[0]
claim("the package's RLOO loss is the same", bool((theirs - loss).abs() < 1e-4))

# %% [markdown]
# What do we measure? The true reward; the *proxy*, the score of a reward model fitted to the same comparisons (a real team has only this one); the *KL divergence* from the SFT model, how far the stage moved; and the length. Answers are now *sampled* at temperature 1, as in training.

# %%
batch = rlhf.data.collate_pairs(pairs, tokenizer)
states = rlhf.reward_model.last_states(sft, batch["ids"], batch["attention"])
weight = rlhf.reward_model.fit_head(*states.chunk(2), l2=0.1)
judge = rlhf.reward_model.RewardModel(sft, weight)

stages = {**ARMS, "+ DPO": (preferred, tokenizer, {}), "+ reinforcement": (policy, tokenizer, {})}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
measured = {}
for name, (model, words, how) in stages.items():
    kept = sft if words is tokenizer else None
    answers = exam(model, words, test + sums, reference=kept, generator=run.fresh("stages"), **how)
    measured[name] = rlhf.evaluate.exams.judged(answers, judge, tokenizer)

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
half = {name: (e.take(torch.arange(N), 1), e.take(torch.arange(N, N + 48), 1)) for name, e in measured.items()}
mid, std = half["SFT"][0].score.mean(), half["SFT"][0].score.std()
rows = {name: {"true reward": a.interval(), "proxy, std. dev.": ((a.score - mid) / std).mean(), "KL, nats": None if a.kl is None else a.mean("kl"),
               "tokens": a.mean("length"), "sums right": b.feature("result").mean(), "harm refused": a.of("harmful").mean("refuses"), "ends": a.mean("ended")}
        for name, (a, b) in half.items()}
table(rows, digits={"true reward": 2, "proxy, std. dev.": 2, "KL, nats": 2, "tokens": 0, "sums right": "%", "harm refused": "%", "ends": "%"}, corner="sampled answers",
      note="72 requests (12 harmful) and 48 sums, temperature 1; ± is a 95 % interval over requests")

# %% tags=["hide-input", "hero", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
show(drawings.answers_and_bars(six[0], {name: e.texts[0] for name, e in shown.items()},
     {"true reward": {n: r["true reward"][0] for n, r in rows.items()}, "reward model, std. dev.": {n: float(r["proxy, std. dev."]) for n, r in rows.items()}},
     title="Asked in its own format, the untrained base gives the same answer"))

# %% [markdown]
# Read the table column by column.

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
four = [0, 2, 3, 5]
kept = {name: exam(model, words, [asked[i] for i in four], temperature=0.0, **how) for name, (model, words, how) in stages.items()}
explorers.answers({six[i]: {name: (e.texts[k], e.gold[k].item()) for name, e in kept.items()} for k, i in enumerate(four)},
                  title="one request, one stage").show()

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | the number that tells |
# |---|---|---|
# | a model is asked in another template than it was trained with | it looks as if it had forgotten much | true reward falls, same weights |
# | padding is the end token, and the loss leaves out padding | answers never stop | share that ends by itself: 0 |
# | the base is tested with bare words only | training seems to have taught everything | the base in a transcript |
# | the proxy is reported as quality | every stage looks better | a measurement that no stage was trained on |
#
# The first one, live: the finetuned model, asked in the base model's transcript.

# %%
wrong = exam(sft, plain, test, temperature=0.0)
cards(six[3], [("SFT, its own template", shown["SFT"].texts[3]),
               ("SFT, a plain transcript", exam(sft, plain, [asked[3]], temperature=0.0).texts[0])])
table({"its own template": [part["SFT"][0].mean(), part["SFT"][0].mean("ended")],
       "a plain transcript": [wrong.mean(), wrong.mean("ended")]}, ["true reward", "ends by itself"])

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# SmolLM2 has 135 million parameters and has never heard of the village. A recorded run finetunes all its weights in 100 steps on village demonstrations.

# %%
big = recorded("smollm2_sft")
show(plots.recorded_plot(big, {"policy: loss": "loss"}, title="SmolLM2-135M learns the village's answers", y_label="loss, nats per token"))

# %% tags=["hide-input"]
cards(*big.texts()[2])

# %% [markdown]
# At this size the form is learned first as well.

# %% [markdown] rlhf={"part": "exercises"}
# ## Exercises
#
# ### Exercise 1.1 · Count the prompt, too, but less
#
# Some recipes also count the prompt in the loss, with a small weight. Write this variant of the SFT loss: an answer token counts 1, a prompt token counts `weight`, and the result is an average. (Two lines.)

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex01-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def prompt_loss(logp, mask, weight):
    """Two (B, T) tensors and a number -> the loss; mask is 1 on the answer, 0 on the prompt."""
    ### BEGIN SOLUTION
    weights = mask + weight * (1 - mask)
    return -(weights * logp).sum() / weights.sum()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex01-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("1.1", prompt_loss)
### BEGIN HIDDEN TESTS
check("1.1", prompt_loss, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Build one tensor of weights first. What must the sum be divided by, so that equal log-probabilities give the same loss for every weight?
# </details>
#
# <!-- solution 1.1 -->
#
# ### Exercise 1.2 · Which stage wrote this log?
#
# Four logs of this page's models lost their names: each begins at another place, and that place tells. Which is pretraining, SFT, DPO, reinforcement?

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
logs = {"log A": dpo_log[:, 2].tolist(), "log B": rlhf.models.training_curve("village-3m")[:25],
        "log C": [loss for loss, _ in rl_log], "log D": sft_log}
show(plots.panels({name: {"policy: loss": y} for name, y in logs.items()},
                  title="The loss of four stages", x_label="logged step", side=True))

# %% [markdown]
# Now write the detector: from the first losses, the logged rewards of sampled answers (`None` where a stage samples nothing) and the size of the vocabulary, return `"pretraining"`, `"sft"`, `"preference"` or `"reinforcement"`.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex01-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def stage(losses, rewards, vocabulary):
    """A list, a list or None, a whole number -> the name of the stage."""
    ### BEGIN SOLUTION
    if rewards is not None:
        return "reinforcement"          # its loss means nothing by itself
    if abs(losses[0] - 0.6931) < 0.01:
        return "preference"             # log 2: policy and reference agree
    untrained = torch.tensor(float(vocabulary)).log()      # every token equally likely
    return "pretraining" if losses[0] > 0.9 * untrained else "sft"
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex01-2-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("1.2", stage)
### BEGIN HIDDEN TESTS
check("1.2", stage, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# What is the loss of a model that gives every token the same probability? And that of a coin?
# </details>
#
# <!-- solution 1.2 -->
#
# ### Exercise 1.3 · How many are enough?
#
# "90 % of our answers were well formed after 16 demonstrations, so 16 are enough." Write the measure that refutes such a sentence: the smallest size from which on the share *stays* at 90 % of its last value or above. Then apply it to the sweep's format and sums.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex01-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def enough(sizes, shares):
    """Two lists of one length, sizes ascending -> one of the sizes."""
    ### BEGIN SOLUTION
    for i, size in enumerate(sizes):
        if min(shares[i:]) >= 0.9 * shares[-1]:
            return size
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex01-3-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("1.3", enough)
### BEGIN HIDDEN TESTS
check("1.3", enough, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# Look at the shares from a place to the end, and take their minimum.
# </details>
#
# <!-- solution 1.3 -->
#
# ## Retell it
#
# 1. A base model continues text; asked in a format that it knows, it already answers most of what the finetuned model answers.
# 2. Finetuning on demonstrations makes the format unnecessary: the model answers and stops by itself after a few of them.
# 3. Facts hardly move, while sums become reliable slowly: not all of alignment is form.
# 4. A demonstration shows what to say; a comparison also shows what not to say; a checked reward lets the model learn from its own answers.
# 5. Every stage moves other numbers, so look at several, and at one that no stage was trained on.
#
# *In the book*: [Introduction](https://rlhfbook.com/c/01-introduction), chapter 1. *Next*: chapter 2, Seminal works; or straight to [4 · Training overview](04_training_overview.ipynb), where the stages are trained in full.
#
# <!-- nav -->
