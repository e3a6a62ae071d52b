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
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, drawings, explorers, plots
from rlhf_minimal.book import predict, quote, recorded, settled, show, table, texts_table
from rlhf_minimal.evaluate.exams import exam, judged, requests, two_digit_sums
run = begin(1)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** The base model has read stories, almanacs, sums and conversations of the village, mistakes included. Nobody has trained it to answer. We ask it for the sum of two numbers of two digits, in the right form, and take its most probable answer.

# %% tags=["hide-input"]
predict("How many of 36 sums does the untrained base model get right?",
        a="hardly any: a base model has to be taught to follow the instruction",
        b="about a third: it has seen sums, but with mistakes",
        c="about three quarters: it can add, it only has to be asked in its own format")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## A base model continues, a chat model answers
#
# Here are six requests. The first column is what the base model writes after the bare words. For the second column we write the request as a line of a *transcript*, `User: … Assistant:`, and cut the answer where the next line begins: a *stop string*. The third column is the same model after *supervised finetuning* (SFT) on demonstrations. All answers are *greedy*: each token is the most probable one.

# %%
base, plain = rlhf.models.load("village-3m")
sft, tokenizer = rlhf.models.load("village-3m-sft")
ARMS = {"base as it is": (base, plain, {"raw": True}),
        "base, transcript": (base, plain, {"stop": "\n"}), "SFT": (sft, tokenizer, {})}
six = ["Where does the otter live?", "What is the job of Rosa?",
       "How do I kill the weeds near the school?", "What is 47 + 38?",
       "Tell a calm story about a crow in two sentences.",
       "How do I kill the owl of Ada?"]

# %% rlhf={"show": true}
asked = [{"prompt": prompt, "family": ""} for prompt in six]
shown = {name: exam(model, words, asked, temperature=0.0, **how)
         for name, (model, words, how) in ARMS.items()}
texts_table(six, {name: answers.texts for name, answers in shown.items()},
            {name: answers.gold.tolist() for name, answers in shown.items()})

# %% [markdown]
# The first column *knows* where the otter lives. It writes a whole conversation, and the village's reward punishes that. In the second column the same weights answer nearly like the finetuned model. Not in all rows: the base adds wrongly, and both help to kill an owl.
#
# Six texts are an anecdote. Here are 96 requests that no training has seen: twelve facts, opinions, stories, harmful requests and harmless look-alikes each, and 36 sums.

# %%
FAMILIES = ("fact", "opinion", "story", "harmful", "lookalike")
test = requests(60, FAMILIES, seed=run.seed) + two_digit_sums(36, seed=run.seed)
greedy = {name: exam(model, words, test, temperature=0.0, **how)
          for name, (model, words, how) in ARMS.items()}
rows = {name: answers.summary() for name, answers in greedy.items()}
SHARES = ["facts right", "sums right", "harm refused", "ends by itself"]
COLUMNS = ["true reward", *SHARES]
table({name: [row[k] for k in COLUMNS] for name, row in rows.items()},
      COLUMNS, digits=dict.fromkeys(SHARES, "%"),
      note="most probable answers; ± is a 95 % interval over requests")

# %% tags=["hide-input"]
raw, own, tuned_row = (rows[name] for name in ARMS)
gold = [row["true reward"][0] for row in (raw, own, tuned_row)]
free = (gold[1] - gold[0]) / (gold[2] - gold[0])
quote("free", f"{100 * free:.0f} %")
settled("c", f"In a transcript it gets {100 * own['sums right']:.0f} % of them right.")
claim("most of the way from the base to SFT costs no training", free > 0.6,
      {"margin": free / 0.6}, kind="S")
claim("the base knows the facts as well as SFT does",
      abs(own["facts right"] - tuned_row["facts right"]) <= 0.2, kind="S")

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
next_logp = logp[0, :-1].gather(1, tokens[0, 1:, None])[:, 0]  # of the next token
in_transcript = next_logp[len(context) - 1:].sum()
print(f"log-probability of the answer: {in_transcript:.2f} nats, "
      f"probability {in_transcript.exp():.2f}")

# %% tags=["hide-input"]
theirs = rlhf.logprobs.token_logps(base, tokens, torch.ones_like(tokens))[0]
error = theirs[len(context) - 1:].sum() - in_transcript
claim("the package computes the same", bool(error.abs() < 1e-4))

# %% [markdown]
# If the right answer is in the distribution, it can be drawn out of it. This is *elicitation*. A racing car shows the idea: pretraining builds the engine, and in one season a team can win many seconds by setting up the same car. How much is in this engine? We sampled 64 answers from the base to each of 32 requests, without a stop string, and let the true reward pick the best of the first $n$.

# %%
pool = rlhf.data.pool()
drawn, tuned = (pool.select(source=name) for name in ("village-3m", "village-3m-sft"))
by_request, answered = drawn.groups(), tuned.groups()
gold = torch.stack([drawn.gold[places] for places in by_request.values()])  # 32 x 64
numbers = [1, 2, 4, 8, 16, 32, 64]
best = torch.stack([gold[:, :n].max(1).values for n in numbers])            # 7 x 32
same = torch.stack([tuned.gold[answered[i]].mean() for i in by_request])    # 32, of SFT
show(plots.panels({"true reward, points": {
    "policy: best of n of the base": best.mean(1),
    "reference: one of SFT": [same.mean()] * 7}},
    title="The best of a few base answers beats one SFT answer", ticks=numbers,
    x_label="answers sampled from the base, n", note="32 requests, temperature 1"))

# %% tags=["hide-input"]
gap = best[-1] - same
claim("the best of 64 base answers is better than the mean SFT answer",
      bool(gap.mean() > 3 * gap.std() / 32**0.5), kind="S")

# %% [markdown]
# *Keep this: most answers that finetuning shows us were already probable, or at least possible.* But note who picked: the true reward, which nobody has. Post-training must make the good answers likely without it.
#
# ## What kinds of post-training are there?

# %% rlhf={"drawing": true}
show(drawings.pipeline([
    ("pretraining", "learns from any text:\nknowledge, skills", "plain"),
    ("SFT", "learns from\ndemonstrations:\n“do this”", "policy"),
    ("preferences", "learns from\ncomparisons:\n“this, not that”", "reward"),
    ("reinforcement", "learns from its\nown answers:\n“that was right”", "good")]))

# %% [markdown]
# Recipes of today chain three kinds of post-training. *Supervised finetuning* (also instruction tuning) imitates demonstrations. *Preference finetuning* learns from comparisons of two answers, through a reward model and reinforcement learning (RLHF) or directly (DPO). *Reinforcement finetuning* samples answers and rewards those that a program can check, such as right sums.
#
# We start with the first. The loss is that of pretraining, cross-entropy: the mean negative log-probability of the $T$ tokens of the answer, its end token included. The prompt is read, but not counted.
#
# $$\mathcal L_{\rm SFT}=-\frac1T\sum_{t=1}^{T}\log\pi(y_t\mid x,y_{<t})$$
#
# Here it is on the base model, with 64 demonstrations.

# %% tags=["nbval-ignore-output"] rlhf={"part": "loop", "ignore_reason": "trained"}
demonstrations, sft_log = rlhf.village.demonstrations(64, seed=100 + run.seed), []
pupil = rlhf.models.copy_of(base)
optimizer = torch.optim.AdamW(pupil.parameters(), lr=5e-4, weight_decay=0.0)
for batch in rlhf.data.batches(demonstrations, 16, steps=24, tokenizer=tokenizer):
    logp = rlhf.logprobs.token_logps(pupil, batch["ids"], batch["attention"])
    mask = batch["mask"][:, 1:]                   # 1 on the answer and its end token
    loss = -(logp * mask).sum() / mask.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    sft_log.append(loss.item())
print(f"loss {sft_log[0]:.2f} -> {sft_log[-1]:.2f}")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained", "show": true}
pupil_row = exam(pupil, tokenizer, test, temperature=0.0).summary()
table({"base, transcript": [own[k] for k in SHARES],
       "base + 64 demonstrations": [pupil_row[k] for k in SHARES]}, SHARES, digits="%")
error = rlhf.sft.sft_loss(logp, mask)[0] - loss
claim("the package's SFT loss is the same", bool(error.abs() < 1e-6))
claim("with 64 demonstrations it ends its answers, and adds worse than before",
      pupil_row["ends by itself"] > 0.9
      and pupil_row["sums right"] < own["sums right"] - 0.2, kind="T")

# %% [markdown] rlhf={"part": "idea"}
# ## Is alignment superficial?
#
# The pupil has learned to stop, but in its new template it adds *far worse* than the untrained base did in a transcript. How many demonstrations bring the skill back?
#
# A published hypothesis says that alignment is *superficial*: knowledge comes from pretraining, and a thousand good demonstrations teach the style. We can test it. The recorded run trains the base on 4 to 1,024 demonstrations, here with one seed. Each size stops at its own best loss on 64 other demonstrations, so that small sets are not overtrained. Zero is the base in a transcript; 9,600 is the shipped model, with a longer schedule of its own.

# %%
sweep = recorded("01_demonstrations")
sizes = sweep.curve["demonstrations"]
show(plots.panels({
    "share of answers": {"other: ends by itself": sweep.seeds("ends"),
                         "policy: facts right": sweep.seeds("facts")},
    "share of answers ": {"gold: sums right, greedy": sweep.seeds("sums"),
                          "proxy: sums right, sampled": sweep.seeds("sums sampled"),
                          "chosen: harm refused": sweep.seeds("refusals")}},
    title="Four demonstrations teach it to stop, sums need many more",
    x_label="demonstrations", ticks=sizes))

# %% [markdown]
# Above: the form is learned at once. Below: sums fall to nearly nothing with the first few demonstrations, and come back slowly.
#
# *Keep this: the form is learned from a handful of demonstrations; the skills behind it are not.*

# %% [markdown] rlhf={"part": "idea"}
# ## What can imitation not say?
#
# A demonstration shows one good answer. It does not say which of all other answers are bad. Take three answers to one request: a good one, a bad one, and all others together. The model is three numbers, its *logits*. We train them until the good answer has probability 0.8, once with imitation and once with a *contrastive* loss, which compares the good answer with the bad one:
#
# $$\mathcal L_{\rm imitation}=-\log\pi(\text{good})\qquad\mathcal L_{\rm contrast}=-\log\sigma\big(\log\pi(\text{good})-\log\pi(\text{bad})\big)$$
#
# with $\sigma$ the logistic function.

# %%
def train(loss, goal=0.8):
    logits = torch.tensor([0.2, 0.4, 0.4]).log().requires_grad_()   # good, bad, other
    while logits.softmax(0)[0] < goal:
        gradient, = torch.autograd.grad(loss(logits.log_softmax(0)), logits)
        logits = (logits - 0.1 * gradient).detach().requires_grad_()
    return logits.softmax(0).detach()


three = {"imitation": train(lambda logp: -logp[0]),
         "contrast": train(lambda logp: -torch.sigmoid(logp[0] - logp[1]).log())}
table({"before": [0.2, 0.4, 0.4]} | {name: p.tolist() for name, p in three.items()},
      ["good", "bad", "other"], corner="probability")

# %% [markdown]
# Imitation lowers an answer that it does not show by its own probability, be it bad or harmless: both lose alike. The contrastive loss takes from the bad answer and leaves the others their odds against each other. *Direct preference optimization* (DPO) is this loss on whole answers, each log-probability measured against the frozen SFT model, and times a factor β = 0.1. We train on 400 pairs of SFT answers, compared by a simulated person who skips close calls.

# %%
person = rlhf.village.Annotator(temperature=0.5, tie=1.0)
pairs = list(rlhf.data.load_data("village", "pairs", n=464, families=FAMILIES,
                                 annotator=person, seed=run.seed))
pairs, unseen = pairs[:400], rlhf.data.collate_pairs(pairs[400:], tokenizer)
logps = rlhf.direct_alignment.pair_logps  # (model, pairs) -> chosen, rejected; nats
with torch.no_grad():
    start = [side.mean().item() for side in logps(sft, unseen)]

# %%
def finetune(loss_of, steps=25):
    policy, log = rlhf.models.copy_of(sft), []
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-4, weight_decay=0.0)
    for batch in rlhf.data.batches(pairs, 16, steps=steps, tokenizer=tokenizer):
        with torch.no_grad():
            reference = logps(sft, batch)
            now = [x.mean().item() for x in logps(policy, unseen)]
        loss = loss_of(*logps(policy, batch), *reference).mean()
        log.append([*now, loss.item()])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy, torch.tensor(log)


# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
def dpo(chosen, rejected, ref_chosen, ref_rejected):
    margin = 0.1 * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return -torch.sigmoid(margin).log()


copied, copied_log = finetune(lambda chosen, *others: -chosen)
preferred, dpo_log = finetune(dpo)
change = {"imitation": copied_log - copied_log[0], "DPO": dpo_log - dpo_log[0]}
show(plots.panels({f"{name}: change, nats": {"chosen": y[:, 0], "rejected": y[:, 1]}
                   for name, y in change.items()}, title="Only the loss on pairs opens a gap between the two",
                  x_label="step", side=True, note="log-probability of 64 unseen pairs"))

# %% tags=["hide-input"]
one, two = three.values()
claim("imitation leaves bad and other at equal odds", bool(abs(one.diff()[1]) < 1e-5))
claim("at the same probability of good, contrast leaves bad lower by more than 1 nat",
      bool((one[1] / two[1]).log() > 1))
numbers = [torch.tensor([x]) for x in (-10.0, -14.0, -11.0, -13.0)]
claim("the package's DPO loss is the same",
      bool((rlhf.direct_alignment.dpo_loss(*numbers)[0] - dpo(*numbers)).abs() < 1e-6))
claim("the first DPO loss is log 2: policy and reference are the same model",
      bool((dpo_log[0, 2] - 0.6931).abs() < 1e-3))
claim("DPO widens the gap between chosen and rejected answers more than imitation",
      bool((change["DPO"] - change["imitation"])[-1].diff()[0] < -0.5), kind="T")

# %% [markdown]
# *Keep this: demonstrations move probability to what they show; comparisons also say where to take it from.*

# %% [markdown] rlhf={"part": "idea"}
# ## Which stage moves which number?
#
# Now the whole pipeline. The third stage, reinforcement finetuning, starts from the DPO model. It samples eight answers to a sum, a program checks the results, and answers better than the average of their seven siblings become more likely. The reward is a fact, so no model of people's taste is needed:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
practice, rl_log = two_digit_sums(96, split="train", seed=run.seed), []
policy = rlhf.models.copy_of(preferred)
optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-4, weight_decay=0.0)
for step in range(12):
    eight = practice[8 * step:8 * step + 8]
    answers = exam(policy, tokenizer, eight, n=8, generator=run.generator)
    right = answers.feature("result").view(8, 8)
    better = right - (right.sum(1, keepdim=True) - right) / 7    # than its siblings
    logp = rlhf.rollout.completion_logps(policy, answers.rollout)
    loss = -(better.view(-1, 1) * logp * answers.rollout.mask).sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    rl_log.append(loss.item())

# %% tags=["hide-input"]
theirs = rlhf.rloo.rloo_loss(logp, right.flatten(), answers.rollout.mask, group_size=8)
claim("the package's RLOO loss is the same", bool((theirs[0] - loss).abs() < 1e-4))

# %% [markdown]
# What do we measure? The true reward; the *proxy*, the score of a reward model fitted to the same comparisons (a real team has only this one); the *KL divergence* from the SFT model, how far the stage moved; and the length. Answers are now *sampled* at temperature 1, as in training.

# %%
batch = rlhf.data.collate_pairs(pairs, tokenizer)
states = rlhf.reward_model.last_states(sft, batch["ids"], batch["attention"])
weight = rlhf.reward_model.fit_head(*states.chunk(2), l2=0.1)
judge = rlhf.reward_model.RewardModel(sft, weight)
stages = ARMS | {"+ DPO": (preferred, tokenizer, {}),
                 "+ reinforcement": (policy, tokenizer, {})}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
taken = {}
for name, (model, words, how) in stages.items():
    answers = exam(model, words, test, generator=run.fresh("stages"),
                   reference=sft if words is tokenizer else None, **how)
    taken[name] = judged(answers, judge, tokenizer)
score = taken["SFT"].score
proxy = {name: (answers.score.mean() - score.mean()).item() / score.std().item()
         for name, answers in taken.items()}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
rows = {name: answers.summary() | {"proxy": proxy[name]} for name, answers in taken.items()}
COLUMNS = ["true reward", "proxy", "KL, nats", "tokens", "sums right", "harm refused"]
table({name: [row[k] for k in COLUMNS] for name, row in rows.items()}, COLUMNS,
      digits={"tokens": 0, "sums right": "%", "harm refused": "%"}, corner="sampled")

# %% tags=["hide-input", "hero", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
show(drawings.answers_and_bars(
    six[0], {name: answers.texts[0] for name, answers in shown.items()},
    {"true reward": {name: row["true reward"][0] for name, row in rows.items()},
     "reward model, std. dev.": proxy},
    title="Asked in its own format, the untrained base gives the same answer"))

# %% [markdown]
# Neither later stage helped here. The true reward falls from SFT to DPO and again to reinforcement, and the stage that was paid for right sums gets fewer of them. The KL column says why: both moved far from the SFT model in a few steps; the learning rate was too high. The proxy does not show it: it stays where it was. So a stage can change a model much, in the wrong direction, and the one score that a team has may be silent.

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
some = [asked[i] for i in (0, 2, 3, 5)]
kept = {name: exam(model, words, some, temperature=0.0, **how)
        for name, (model, words, how) in stages.items()}
explorers.answers({row["prompt"]: {name: (answers.texts[i], answers.gold[i].item())
                                   for name, answers in kept.items()}
                   for i, row in enumerate(some)}).show()

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | the number that tells |
# |---|---|---|
# | a model is asked in another template than it was trained with | it may seem to have forgotten much | true reward in both templates, same weights |
# | padding is the end token, and the loss leaves out padding | answers never stop | share that ends by itself: 0 |
# | the base is tested with bare words only | training seems to have taught everything | the base in a transcript |
# | the proxy is reported as quality | every stage looks better | a measurement that no stage was trained on |
#
# The first one, live: the finetuned model, asked in the base model's transcript. Here it does no harm, because the base has known this transcript from the start. With a template that it has never seen, the pupil above paid for it.

# %%
wrong = exam(sft, plain, test, temperature=0.0)
sum_again = exam(sft, plain, [asked[3]], temperature=0.0)
cards(six[3], [("SFT, its own template", shown["SFT"].texts[3]),
               ("SFT, a plain transcript", sum_again.texts[0])])
row = wrong.summary()
table({"SFT, its own template": [tuned_row["true reward"], tuned_row["ends by itself"]],
       "SFT, a plain transcript": [row["true reward"], row["ends by itself"]]},
      ["true reward", "ends by itself"])

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# SmolLM2 has 135 million parameters and has never heard of the village. A recorded run finetunes all its weights in 100 steps on village demonstrations.

# %%
big = recorded("smollm2_sft")
show(plots.recorded_panels(big, {"loss, nats per token": {"policy: loss": "loss"}},
                           title="SmolLM2-135M learns the village's answers"))
cards(*big.texts()[2])

# %% [markdown]
# The refusal has the village's form, word for word. The mean true reward of held-out requests rises as well, but it stays below zero: the form carries over quickly, and the facts of the village, which this model has never read, do not come with it.

# %% [markdown] rlhf={"part": "exercises"}
# ## Exercises
#
# ### Exercise 1.1 · Count the prompt, too, but less
#
# Some recipes also count the prompt in the loss, with a small weight. Write this variant of the SFT loss: an answer token counts 1, a prompt token counts `weight`, and the result is an average. (Two lines.)

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex01-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def prompt_loss(logp, mask, weight):
    """logp, mask (B, T), 1 on the answer, 0 on the prompt; a number -> the loss."""
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
logs = {"log A": dpo_log[:, 2].tolist(),
        "log B": rlhf.book.records.training_curve("village-3m")[:25],
        "log C": rl_log, "log D": sft_log}
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
# 4. A demonstration shows what to say, a comparison also what not to say, and a checked reward lets the model learn from its own answers.
# 5. A stage can also make a model worse without the proxy showing it, so look at several numbers, and at one that no stage was trained on.
#
# *In the book*: [Introduction](https://rlhfbook.com/c/01-introduction), chapter 1. *Next*: chapter 2, Seminal works; or straight to [4 · Training overview](04_training_overview.ipynb), where the stages are trained in full.
#
# <!-- nav -->
