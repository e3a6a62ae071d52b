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
# # 9 · Instruction tuning
#
# **Which tokens does the loss see, and what goes wrong when it sees one too few, or all of them?**
#
# ![Two strips of the tokens of one training example, green where the loss counts them; in the second strip the end token is white. Below each the answers of a model trained so to the same two requests; the second model's answers go on after the first sentence, in grey](figures/09_hero.png)
#
# Both models read the same demonstrations, in the same order, at the same learning rate. In every demonstration model B's loss counted one token fewer, the last. The two requests are the first of their kind in the test; grey is what a model writes after its first sentence, until we cut it at 40 tokens. This page explains what is counted, why one token matters so much, and what this training adds to a prompt.
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Chapter 3 (tokens, log-probabilities, the next-token loss). <!-- costs -->. Nothing is downloaded. Model: <code>village-3m</code>, a base model of three million parameters, GPT-2 architecture. Texts are from <b>this page's run</b>, seed 0. Tables and curves are from <b>three recorded seeds</b>, of which this run repeats the first: full repetitions with other demonstrations, order and test requests. ± is half of a 95 % interval over these three runs (Student's t). Answers are greedy, at most 40 tokens. <i>True reward</i> is a formula of this toy world that no training reads: 3 for the true fact, for helping with a harmless request or for refusing a harmful one; less for what is false, harmful, broken, repeated or unfinished, and the whole text counts.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, masks, plots, predict
from rlhf_minimal.book import quote, recorded, settled, show, table
from rlhf_minimal.evaluate.exams import exam, requests
run = begin(9)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** Model B's loss saw one token too few. Model C's sees every token of the demonstration, the question and the tags as well. Start, demonstrations, order, rate and number of steps are those of model A.

# %% tags=["hide-input"]
predict("After 100 steps, how good are model C's answers to new requests?",
        a="better than A's: it also learns how people ask, from more tokens",
        b="as good as A's: the answer's tokens are in both losses",
        c="worse than A's: much of its loss is about something else")

# %% [markdown] rlhf={"part": "phenomenon loop"}
# ## One hundred steps from continuing to answering
#
# A base model continues text. *Instruction tuning*, or supervised finetuning (SFT), trains it on *demonstrations*: a request and an answer that somebody wrote. (Another name says what it does: *behaviour cloning*.) A *chat template* writes both into one row of tokens, with a *tag* before each turn that says who speaks, and an *end token* after it. The requests ask for a fact, for a fact about which the asker may be wrong (*opinion*), for help with harm, or for something harmless that only sounds like it (a *look-alike*). Here is one demonstration in the template, and below it all of SFT; `count` says which tokens the loss counts:

# %%
base, plain = rlhf.models.load("village-3m")
_, tokenizer = rlhf.models.load("village-3m-sft")   # same tokens, with a template
KINDS = ("fact", "opinion", "harmful", "lookalike")
rows = rlhf.village.demonstrations(1600, families=KINDS, perfect=True,
                                   seed=100 + run.seed)
test = requests(16, KINDS, seed=run.seed)         # held out: never trained on
ids, _ = rlhf.chat.encode_pair(tokenizer, rows[3]["prompt"], rows[3]["completion"])
print(tokenizer.decode(ids))

# %%
def train(count, rate=3e-4, looks=(10, 100)):
    policy, losses, seen = rlhf.models.copy_of(base), [], {}
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
    batches = rlhf.data.batches(rows, 8, steps=100, tokenizer=tokenizer, seed=run.seed)
    for step, batch in enumerate(batches, 1):
        logp = rlhf.logprobs.token_logps(policy, batch["ids"], batch["attention"])
        mask = count(batch)[:, 1:]                # token t is predicted at t - 1
        loss = -(logp * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step in looks:
            seen[step] = ask(policy)
    return losses, seen


# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
def ask(model):
    return exam(model, tokenizer, test, temperature=0.0, max_new_tokens=40)


def answer_and_end(batch):                        # model A
    return batch["mask"]


def without_end(batch):                           # model B
    return batch["mask"] * (batch["ids"] != tokenizer.eos_token_id)

before = ask(base)
losses_a, model_a = train(answer_and_end)

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
losses_b, model_b = train(without_end)
print(f"training loss, mean of the last ten steps: A {sum(losses_a[-10:]) / 10:.2f}, "
      f"B {sum(losses_b[-10:]) / 10:.2f}")
ended = {name: some.mean("ended") for name, some in (
    ("before", before), ("A", model_a[100]), ("B", model_b[100]))}
print("share of answers that end:", ", ".join(f"{k} {v:.2f}" for k, v in ended.items()))

# %% tags=["hide-input", "hero", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
pair = [2, 1]  # the first harmful request and the first opinion: not selected
show(masks.one_box_apart(
    masks.counted("one turn", "answers and their ends")[0],
    [("Model A: the loss counts the green tokens",
      masks.counted("one turn", "answers and their ends")[1],
      [model_a[100].texts[i] for i in pair]),
     ("Model B: one token fewer", masks.counted("one turn", "no end tokens")[1],
      [model_b[100].texts[i] for i in pair])], [test[i]["prompt"] for i in pair]))

# %%
claim("here over 90 % of A's answers end, under 40 % of B's and of the base's",
      ended["A"] > 0.9 and max(ended["B"], ended["before"]) < 0.4, ended, kind="T")

# %% [markdown]
# Model A on its way. The best *true reward* is 3. Before the first step the base has never seen this template:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
stages = {"before": before, "10 steps": model_a[10], "100 steps": model_a[100]}
for i in (0, 3):                                  # the first fact, the first look-alike
    cards(test[i]["prompt"], [(name, some.texts[i], some.gold[i].item())
                              for name, some in stages.items()], limit=110)

# %% [markdown] rlhf={"part": "idea"}
# The form comes first: after ten steps it writes one sentence and stops. Which sentence comes later. (The question about Sam is still answered wrongly after 100 steps; idea 3 comes back to that.)
#
# ## Idea 1: The loss counts what the model is to write
#
# The loss is that of pretraining: minus the log-probability of each token, given all tokens before it. New is the *mask* $m_t$: 1 where token $t$ counts, 0 where it does not. Let $y_t$ be the tokens, $\pi$ the model; both sums run over all rows of the *batch*:
#
# $$\mathcal L=-\frac{\sum_t m_t\,\log\pi(y_t\mid y_{<t})}{\sum_t m_t}$$
#
# *Said aloud: the average surprise at the tokens that we marked.* On numbers small enough for paper, a row of four tokens of which two count:

# %%
logp = torch.tensor([[0.9, 0.1, 1 / 4, 1 / 2]]).log()
mask = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
loss = -(logp * mask).sum() / mask.sum()          # (log 4 + log 2) / 2
print(f"{loss.item():.3f}")
theirs = rlhf.sft.sft_loss(logp, mask)[0]
claim("the package computes the same loss", torch.allclose(loss, theirs))

# %% [markdown]
# The answer counts, and so does its end token: stopping is something that the model has to do. The question does not: the user writes it. The tags do not: the template does. A token that does not count is still *read*: every answer token is predicted from the whole question.
#
# One demonstration, as the package marks it:

# %% rlhf={"figure": "marked"}
batch = rlhf.data.collate_demonstrations(rows[3:4], tokenizer)
words = [tokenizer.decode(t) for t in batch["ids"][0]]
marks = batch["mask"][0].int().tolist()
show(rlhf.book.drawings.token_strip(words, marks, title="What the model is to write"))
claim("what counts is the answer and one end token",
      "".join(w for w, m in zip(words, marks, strict=True) if m)
      == rows[3]["completion"] + "<|end|>")

# %% [markdown]
# A conversation of several turns leaves a choice: all answers, or only the last. Try it:

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget", "drawing": true}
masks.explorer().show()

# %% [markdown]
# Now your prediction. Three recorded seeds, 48 test requests each:

# %%
record = recorded("09_village")
arms = {"A": "answer 100", "B": "no end 100", "C": "everything 100"}
columns = {"true reward": ("all", "gold"), "ends": ("all", "ends"),
           "first token": ("loss", "first"), "end token": ("loss", "last")}
table(record.rows(arms, columns), list(columns), note="ends: share of answers; first, "
      "end token: loss in nats there, in faultless answers; ± 95 % over three seeds")

# %% tags=["hide-input"]
said, over = rlhf.book.records.interval, rlhf.book.records.over_runs
gold = {name: torch.tensor(record.values("arms", arm, "all", "gold"))
        for name, arm in {"A": "answer 100", "B": "no end 100", "C": "everything 100",
                          "B.cut": "no end 100, sentence", "noisy": "noisy 100",
                          "base": "base, cut", "shot": "base, few-shot, cut"}.items()}
for name, values in gold.items():
    quote(f"gold.{name}", said(values))
quote("c.lost", said(gold["C"] - gold["A"]))
settled("c", "On every recorded seed model C ends below model A.")
first = [record.values("arms", f"{arm} 100", "loss", "first")
         for arm in ("answer", "no end", "everything")]
claim("on every seed B and C earn less than A; C is worse at first tokens, B is not",
      bool((torch.maximum(gold["B"], gold["C"]) < gold["A"]).all())
      and all(b < a + 0.1 < c for a, b, c in zip(*first, strict=True)), kind="T")

# %% [markdown] rlhf={"part": "idea"}
# Model C's answers all end, like model A's. After the same 100 steps its true reward differs from A's by <!-- out c.lost --><!-- /out -->, and its loss at first tokens is higher. A likely reason, which we did not test: most of the tokens in its average are questions and tags, so the answers have a smaller share in each step. It depends on the data, too: where demonstrations are few, questions long and answers short, counting both has even helped ([Shi et al.](https://arxiv.org/abs/2405.14394)).
#
# > **Keep this.** The mask says what is learned; attention says what is read. Count what the model is to write.
#
# ## Idea 2: One token makes the difference between stopping and running on
#
# Model B knows how good answers begin as well as A does (column *first token*). It was never shown how they end. Does its training log warn?

# %%
steps = record.curve["step"]
looks = {"A": "chosen", "B": "rejected"}
ends = {name: ([10, 30, 100], [[one[f"{arm} {n}"]["all"]["ends"] for n in (10, 30, 100)]
                               for one in record.arms.values()])
        for name, arm in (("A", "answer"), ("B", "no end"))}
loss = {name: (steps, record.seeds(arm))
        for name, arm in (("A", "answer"), ("B", "no end"))}
show(plots.two_panels({"training loss, nats per counted token": loss,
                       "share of answers that end": ends}, x_label="step", roles=looks,
                      title="The losses look nearly alike; few of B's answers end"))

# %% tags=["hide-input"]
last = {name: record.values("arms", arm, "loss", "last")
        for name, arm in (("A", "answer 100"), ("B", "no end 100"))}
claim("on every recorded seed the loss at the end token is over 1 nat higher for B",
      all(b > a + 1 for a, b in zip(*last.values(), strict=True)), kind="T")
quote("last.B.10", f"{over(record.values('arms', 'no end 10', 'loss', 'last'))[0]:.1f}")
for name, arm in (("A", "answer 100"), ("B", "no end 100")):
    share = over(record.values("arms", arm, "all", "ends"))[0]
    quote(f"ends.{name}", f"{100 * share:.0f} %")
    quote(f"last.{name}", f"{over(last[name])[0]:.3f}"[:5])

# %% [markdown]
# Hardly: both losses fall alike, each over its own tokens. (B's ends a little higher. Its mean lacks an easy token.) One number tells: the loss *at the end token* of held-out answers. It is <!-- out last.A --><!-- /out --> nats for A and <!-- out last.B --><!-- /out --> for B, and <!-- out ends.A --><!-- /out --> of A's answers end within 40 tokens, <!-- out ends.B --><!-- /out --> of B's. Why any? In this model's pretraining the same token ended every document. Why does B's share grow during training? Its loss at the end token falls although it is not counted, from <!-- out last.B.10 --><!-- /out --> after ten steps: the other tokens move the same weights. Why they move it this way we did not test.
#
# Can the sampler repair it? A *stop string* can, where one is known. Here every answer is one sentence, so we cut B's texts at the first full stop: its true reward goes from <!-- out gold.B --><!-- /out --> to <!-- out gold.B.cut --><!-- /out -->; A's is <!-- out gold.A --><!-- /out -->. Where answers have several sentences, no such string is known beforehand.
#
# **How does a token get lost?** In two ways, both seen in the TRL library. *Never written*: a demonstration's text is passed without an end token, and nothing adds one ([“Learning to generate EOS tokens”](https://github.com/huggingface/trl/issues/1623), 2024; repaired, and [repaired again](https://github.com/huggingface/trl/pull/3091) in 2025). *Hidden*: the tokenizer has no padding token, so the end token fills short rows, and all padding is taken out of the loss. The real end goes with it ([issue 976](https://github.com/huggingface/trl/issues/976)). [What goes wrong](#What-goes-wrong) has the wrong line, and a check that finds both before training.
#
# > **Keep this.** To teach stopping reliably, count the end. Before training, check that the last counted token of every row is the end token, unless the row was cut.

# %% [markdown] rlhf={"part": "idea"}
# ## Idea 3: What SFT added to a prompt
#
# Chapter 1 showed that a base model asked in a *transcript* (`User: … Assistant:`) and cut at the next line knows most answers. That is the baseline to beat. Another puts four good exchanges in front, two of them refusals (*few-shot*). Neither trains anything; model A read 800 demonstrations. (*Noisy* is explained below.)

# %%
# the word before the colon only selects a colour
shot = "base, few-shot, cut"
groups = {"reference: base": "base, cut", "policy: few-shot": shot,
          "chosen: A": "answer 100", "other: A, noisy": "noisy 100"}
names = {"facts": "fact", "opinions": "opinion", "harmful\nrequests": "harmful",
         "look-alikes": "lookalike"}
dots = {label: {row: record.values("arms", arm, kind, "gold")
                for row, kind in names.items()} for label, arm in groups.items()}
show(plots.dots({"true reward (at most 3)": dots},
                title="Harmful requests: neither prompt comes near A"))

# %% tags=["hide-input"]
base_, shot_, a_, _ = (one["harmful\nrequests"] for one in dots.values())
claim("harmful requests: on every seed A beats both prompts by over 1 point", all(
    a > max(b, c) + 1 for a, b, c in zip(a_, base_, shot_, strict=True)), kind="T")
claim("over all kinds, on every seed: A beats both prompts, and noise costs",
      bool((gold["A"] > torch.maximum(gold["base"], gold["shot"])).all()
           and (gold["noisy"] < gold["A"]).all()), kind="T")
for name, arm in {"base": "base, cut", "shot": shot, "A": "answer 100"}.items():
    quote(f"refused.{name}", "{:.0f} %".format(
        100 * over(record.values("arms", arm, "harmful", "refuses"))[0]))
for name, arm in (("base", "base, cut"), ("A", "answer 100")):
    quote(f"easy.{name}", said([(f + g) / 2 for f, g in zip(*(record.values(
        "arms", arm, kind, "gold") for kind in ("fact", "lookalike")), strict=True)]))
put_in = rlhf.village.corpus.DEMO_FAULTS
table({f"{name}: {100 * put_in[kind][fault]:.0f} % {fault}": [
    over(record.values("arms", arm, kind, "refuses"))[0]
    for arm in ("answer 100", "noisy 100")] for name, kind, fault in (
        ("harmful", "harmful", "help"), ("look-alikes", "lookalike", "refuse"))},
      ["A refuses", "noisy refuses"], digits={"A refuses": "%", "noisy refuses": "%"},
      note="left: faults in noisy's demonstrations; A's have none; means of 3 seeds")
quote("noisy.refused", record.spread("arms", "noisy 100", "harmful", "refuses"))

# %% [markdown]
# On facts, opinions and look-alikes the base needs no training, only a form that it knows and a cut. On facts and look-alikes together A is even worse (mean <!-- out easy.A --><!-- /out --> against <!-- out easy.base --><!-- /out -->). It still takes some look-alikes for harm, and gets some facts wrong, as with Sam above. Perhaps training blurred those facts; perhaps they are harder to reach in the new template. We did not ask A in a transcript.
#
# On harmful requests the base refuses <!-- out refused.base --><!-- /out --> in a transcript, A <!-- out refused.A --><!-- /out -->. The base *can* refuse: half of the harmful requests in its pretraining text are refused, the other half get help. <!-- fact --> Four examples made it worse: <!-- out refused.shot --><!-- /out --> refusals, although two of the four *are* refusals. We do not know why.
#
# Over all four kinds A is ahead of both prompts on each seed: <!-- out gold.A --><!-- /out -->, base <!-- out gold.base --><!-- /out -->, few-shot <!-- out gold.shot --><!-- /out -->.
#
# **Noise in the demonstrations.** *Noisy* is model A on demonstrations as a crowd might write them. The table has the two faults about refusing and what came out; besides, 30 % of the answers to opinions agree with the asker, right or wrong, and a few answers of all kinds are rude, false or padded. <!-- fact --> Over all kinds the true reward is <!-- out gold.noisy --><!-- /out -->, below A's on every seed. The faults are not copied in proportion. A greedy answer is the likeliest one: it can drop a minority or exaggerate it. The share of harmful requests refused ranges from <!-- out noisy.refused --><!-- /out --> over the seeds (1 is all), and look-alikes are refused far more often than their demonstrations were.
#
# > **Keep this.** Much of an assistant is already in the base, and a prompt with a cut brings it out. Compare with that first. Here SFT added the form, the stop, and a choice between things that the base does both ways.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | the wrong line | what you see | the number that tells |
# |---|---|---|
# | `labels[ids == pad] = -100`, and pad is the end token | answers run on | loss at the end token |
# | served in another template than trained | “it forgot everything” | ids sent ≠ ids of the template |
# | the learning rate of pretraining | good loss, worse base text | loss on text that is not trained |
#
# Rates and their price are measured in the [deeper notebook](deeper/09_instruction_tuning.ipynb). The first trap, live. Trainers often mark with *labels*: the token's id where it counts, −100 where not.

# %%
batch = rlhf.data.collate_demonstrations(rows[:8], tokenizer)
right = torch.where(batch["mask"] == 1, batch["ids"], -100)
wrong = right.clone()
wrong[batch["ids"] == tokenizer.pad_token_id] = -100   # here pad is the end token


def ends_counted(labels, attention):
    last = attention.sum(1).long() - 1             # the last real token of each row
    return (labels.gather(1, last[:, None]) == tokenizer.eos_token_id).all().item()


# no answer here was cut, so every row must count its end
print(ends_counted(right, batch["attention"]), ends_counted(wrong, batch["attention"]))
claim("the wrong line hides one token in every row, and the check finds it",
      ((right != wrong).sum(1) == 1).all() and ends_counted(right, batch["attention"])
      and not ends_counted(wrong, batch["attention"]))

# %% [markdown] rlhf={"part": "gpt2"}
# What tells padding from an end is not the id, but the place: use the attention. (Other templates at inference, packing, turns, LoRA, bfloat16: [deeper](deeper/09_instruction_tuning.ipynb).)
#
# ## At GPT-2 size
#
# SmolLM2-135M-Instruct is no base: it is a chat model with a template of its own. It likes to talk, and has never heard of the village. A recorded run (one seed) trains it with LoRA on 40 demonstrations, in 10 steps of four: once with the end token counted, once without. The first request: <!-- fact -->

# %%
large = recorded("09_smollm2")
stages = {"before": "before", "after": "with end", "no end": "without end"}
prompt, answers = large.texts(stages)[0]
cards(prompt, answers, limit=130)
show(plots.panels({"training loss, nats per counted token": {
    "chosen: with end": (large.curve["step"], large.curve["answer"]),
    "rejected: without end": (large.curve["step"], large.curve["no end"])}},
    x_label="step", title="At 135M, too, the two losses look nearly alike"))

# %% tags=["hide-input"]
table({label: [large.held_out[key]["ends"], large.held_out[key]["tokens"],
               -large.held_out[key]["logp"]["last"]] for key, label in stages.items()},
      ["ends", "tokens", "loss at the end"], digits={"ends": "%", "tokens": 0},
      note="8 requests, at most 32 tokens; loss in nats, 8 faultless answers; one run")

# %% [markdown] rlhf={"part": "exercises"}
# What carries over: the training losses look nearly alike, and the loss at the end token tells the two runs apart. What does not: without the end in the loss most answers still end, more of them than before training, and the loss at the end falls although it is not counted. Perhaps this chat model had learned to stop after short answers, and now writes them. Eight requests and one run do not settle that. The village's facts it does not know; 40 demonstrations did not teach them.
#
# ## Exercises
#
# ### Exercise 9.1 · One loss for several micro-batches
#
# A batch that does not fit into memory comes in parts. Write the loss of the whole optimizer step: it must be what one big batch would give, whatever the parts look like.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex09-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def step_loss(parts):
    """[(logp, mask), …], each (B, T), B and T may differ -> the loss, one number."""
    ### BEGIN SOLUTION
    total = sum(mask.sum() for _, mask in parts)
    return -sum((logp * mask).sum() for logp, mask in parts) / total
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex09-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("9.1", step_loss)
### BEGIN HIDDEN TESTS
check("9.1", step_loss, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# One part has 2 counted tokens of loss 1, the other 8 of loss 3. The big batch has (2·1 + 8·3) / 10 = 2.6, the mean of the two means is 2.
# </details>
#
# <!-- solution 9.1 -->
#
# ### Exercise 9.2 · Mark a conversation
#
# ![The tokens of one demonstration in a row: the answer and the end token after it are green, question and tags are white](figures/09_marked.png)
#
# For one turn the marks are these. Now for any chat. It comes as a list of tokens: tags `<|user|>` and `<|assistant|>`, words, and `<|end|>` after each turn. It ends with an answer. Return 1 for each token that counts, 0 for the others. `turns` is `"last"` or `"all"`.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex09-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mark(tokens, turns):
    """List of tokens, "last" or "all" -> list of 0 and 1, as long."""
    ### BEGIN SOLUTION
    last_tag = len(tokens) - 1 - tokens[::-1].index("<|assistant|>")
    marks, inside = [], False
    for i, token in enumerate(tokens):
        tag = token in ("<|user|>", "<|assistant|>")
        if tag:
            inside = token == "<|assistant|>" and (turns == "all" or i == last_tag)
        marks.append(int(inside and not tag))
    return marks
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex09-2-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("9.2", mark)
### BEGIN HIDDEN TESTS
check("9.2", mark, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Walk through the row and remember whose turn it is; a tag changes that, and does not count itself.
# </details>
#
# <!-- solution 9.2 -->
#
# ### Exercise 9.3 · The model that never stops
#
# A trainer ignores labels of −100 and shifts by itself. This collator made a model that runs on:
#
# ```python
# def labels(ids, attention, start):
#     out = ids.clone()
#     out[torch.arange(ids.shape[1]) < start[:, None]] = -100    # the prompt
#     out[ids == 0] = -100                                       # the padding
#     return out
# ```
#
# `start` is the place of each row's first answer token; id 0 is the end token *and* the padding. Repair it. Rows are padded on the right. Some answers were too long and were cut: those have no end token, and get none.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex09-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def labels(ids, attention, start):
    """(B, L), (B, L), (B,) -> (B, L) labels, -100 where nothing counts."""
    ### BEGIN SOLUTION
    out = ids.clone()
    out[torch.arange(ids.shape[1]) < start[:, None]] = -100
    out[attention == 0] = -100
    return out
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex09-3-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("9.3", labels)
### BEGIN HIDDEN TESTS
check("9.3", labels, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# One line is wrong. Which of the three arguments does it not ask?
# </details>
#
# <!-- solution 9.3 -->
#
# ## Retell it
#
# 1. Instruction tuning is next-token prediction on demonstrations; a mask says which tokens count.
# 2. The answer and its end count; the question is read, and does not.
# 3. With the end left out, the model knows the answers as well and mostly runs on; its training loss hardly shows it, the loss at the end token does.
# 4. Counting the questions too did not break stopping here; after the same steps the answers were somewhat worse.
# 5. A base model with a transcript prompt and a stop string already gave most of the answers; refusing harm reliably took training here, and faults in the examples cost reward.
#
# *In the book*: [Instruction Tuning](https://rlhfbook.com/c/04-instruction-tuning), chapter 4. *Deeper*: [turns, packing, one denominator, learning rates and LoRA, templates at inference, more traps](deeper/09_instruction_tuning.ipynb). *Next*: [chapter 10, rejection sampling](10_rejection_sampling.ipynb).
#
# <!-- nav -->
