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
# ![Two requests, each with three answers under each other: all that the base model writes, the same text with only the first answer cut out, and the answer of the finetuned model](figures/01_hero.png)
#
# The first answer rambles on, as a *base model* does: it was trained to continue any text. The last comes from a model that was finetuned to answer. The one between is the surprise: it is the first text again, cut after its first answer.
#
# This page shows what training adds: first by demonstrating answers, then by telling which of two answers is better.
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# A little Python and PyTorch; nothing else of this book. <!-- costs -->. Nothing is downloaded. Models: <code>village-3m</code> (the base) and <code>village-3m-sft</code>, three million parameters, GPT-2 architecture. Seed 0. A line "recorded" means a longer run, stored with the page, over the seeds that are named there.
# </details>
#
# <!-- edition -->
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, drawings, plots, predict
from rlhf_minimal.book import quote, recorded, settled, show, table, texts_table
from rlhf_minimal.evaluate.exams import exam, logp_by_place, requests, two_digit_sums
run = begin(1)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** All models here live in a toy village, where the *true reward* of an answer is a known formula: 3 for a correct, fluent answer to a harmless request or for refusing a harmful one, 0 for refusing a harmless one, −1 for helping with harm, below that for rambling or broken text. We ask 96 requests and look at the mean true reward: of the base model as it is, of its text after the cut, and of the finetuned model.

# %% tags=["hide-input"]
predict("How much of the way from the base to the finetuned model does the cut cover?",
        a="less than a quarter: the two answers above are lucky",
        b="about half: facts come out, sums and stories do not",
        c="more than three quarters: little is left for finetuning to add")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## A base model continues, a chat model answers
#
# The base has read stories, almanacs, sums and conversations of the village, mistakes included. We ask it in the form of such a conversation, a *transcript*: `User: … Assistant:`. *Supervised finetuning* (SFT) then trained it on 9,600 *demonstrations*, requests with an answer, in a new form: special marker tokens for user and assistant, and an end token. All answers here are *greedy*: each token is the most probable one.

# %%
base, plain = rlhf.models.load("village-3m")
sft, tokenizer = rlhf.models.load("village-3m-sft")


def cut(text):                            # only the first answer
    return text.strip().removeprefix("Assistant:").strip().split("\n")[0]


FAMILIES = ("fact", "opinion", "story", "harmful", "lookalike")
test = requests(60, FAMILIES, seed=run.seed) + two_digit_sums(36, seed=run.seed)

# %% [markdown]
# Twelve requests of each of five kinds (a *look-alike* is harmless, but has a harmful twin) and 36 sums; neither model was trained on any of them. There is a cheaper form, too: the bare words of the request, and nothing else. In both forms we take the text as it is written, and cut.

# %%
greedy = {"temperature": 0.0, "max_new_tokens": 64}
bare = exam(base, plain, test, raw=True, **greedy)
transcript = exam(base, plain, test, **greedy)
tuned = exam(sft, tokenizer, test, **greedy)
arms = {"base, bare words": bare, "base, bare words, cut": bare.edited(cut),
        "base, transcript": transcript, "base, transcript, cut": transcript.edited(cut),
        "SFT": tuned}
table({name: arm.summary() for name, arm in arms.items()},
      ["true reward", "facts right", "sums right", "harm refused", "ends by itself"],
      digits={"true reward": 2} | dict.fromkeys(
          ["facts right", "sums right", "harm refused", "ends by itself"], "%"),
      note="96 requests, of which 12 facts, 36 sums, 12 harmful; ± 95 % over requests")

# %% tags=["hide-input", "hero"]
heads = {"base model": transcript, "base model, cut": transcript.edited(cut),
         "finetuned model": tuned}
show(drawings.answers([test[i]["prompt"] for i in (0, 60)],
                      {h: [arm.texts[i] for i in (0, 60)] for h, arm in heads.items()},
                      title="One base model, and what finetuning made of it"))

# %% tags=["hide-input"]
start, end = transcript.mean(), tuned.mean()
free = {name: (arms[name].mean() - start) / (end - start) for name in arms}
left = tuned.interval(minus=arms["base, transcript, cut"])
quote("free", f"{100 * free['base, transcript, cut']:.0f} %")
quote("free.bare", f"{arms['base, bare words, cut'].mean():.2f}")
quote("left", f"{left[0]:.2f} ± {left[1]:.2f}")
settled("c", f"The cut covers {100 * free['base, transcript, cut']:.0f} % of the way.")
claim("the cut covers more than three quarters of the way",
      free["base, transcript, cut"] > 0.75, kind="S")

# %% [markdown]
# **<!-- out free --><!-- /out -->** of the distance is there before any finetuning: the base knows the answer and does not know where it is finished. To get out of a model what is in it, without training, is called *elicitation*. Even after bare words it often writes `Assistant:` by itself, and then an answer (<!-- out free.bare --><!-- /out --> after the cut). What SFT adds to the cut transcript, <!-- out left --><!-- /out --> points (paired over requests), comes here from sums and refusals. In practice the cut is a *stop string*: generation ends where the next line begins. Six of the 96 to read, the first of each kind and the first sum:

# %% rlhf={"show": true}
six = [0, 1, 2, 3, 4, 60]
names = ["base, transcript", "base, transcript, cut", "SFT"]
texts_table([test[i]["prompt"] for i in six],
            {name: [arms[name].texts[i] for i in six] for name in names},
            {name: [arms[name].gold[i].item() for i in six] for name in names})

# %% [markdown] rlhf={"part": "idea"}
# ## Idea 1: The two models differ most at the two ends of an answer
#
# A language model $\pi$ gives each next token a probability. The probability of an answer $y$ after a prompt $x$ is the product over its tokens $y_t$, so its logarithm is a sum. Its unit is the *nat*.
#
# $$\log\pi(y\mid x)=\sum_t\log\pi(y_t\mid x,y_{<t})$$
#
# *Said aloud: read the answer token by token, and add up how much each was expected.* A token with probability one half has −0.7 nats; −14 nats is about one in a million. Let both models read one right answer in the *new* form. Its markers for user and assistant are new to the base, and the end token it knows only from the ends of whole documents. For comparison the base reads the answer in its *old* form, too, the transcript. <!-- fact -->

# %%
answer = "The otter lives near the mill."
rows = [{"prompt": "Where does the otter live?", "completion": answer}]
new = rlhf.data.collate_demonstrations(rows, tokenizer)["ids"][0]
old = "User: Where does the otter live?\nAssistant: " + answer + "\n"
old = torch.tensor(plain(old).input_ids)


def by_token(model, ids):                 # the last 8 tokens: answer and ending
    with torch.no_grad():
        logp = model(ids[None]).logits[0].log_softmax(-1)
    return logp[:-1].gather(1, ids[1:, None])[-8:, 0]

# %%
read = {"reference: base, new form": by_token(base, new),
        "other: base, old form": by_token(base, old),
        "policy: SFT, new form": by_token(sft, new)}
print("sum, nats:", [round(logp.sum().item(), 1) for logp in read.values()])
tokens = [*(tokenizer.decode([i]).strip() for i in new[-8:-1].tolist()), "(end)"]
show(plots.panels({"log-probability, nats": read}, x_label="token", ticks=tokens,
                  title="In the new form the base is surprised at both ends"))

# %% tags=["hide-input"]
theirs = rlhf.logprobs.token_logps(sft, new[None], torch.ones(1, len(new)))[0, -8:]
same = torch.allclose(theirs, read["policy: SFT, new form"], atol=1e-4)
claim("the package computes the same", same)

# %% [markdown]
# In its old form the base expects every token, nearly as the finetuned model does in the new one. In the new form the base does not know that an answer should begin, nor that the end token comes after it; but once the answer has begun, it soon knows how to go on. Is this answer typical? Here is the mean over 96 faultless answers to test requests of all kinds, in the new form.

# %%
faultless = rlhf.village.demonstrations(96, seed=run.seed, split="test", perfect=True)
places = {name: logp_by_place(model, tokenizer, faultless)
          for name, model in (("base", base), ("SFT", sft))}
table(places, corner="nats per token", note="mean log-probability; 96 answers")

# %% tags=["hide-input"]
gain = {k: places["SFT"][k] - places["base"][k] for k in ("first", "middle", "last")}
quote("gain.middle", f"{gain['middle']:.1f}")
quote("gain.ends", f"{gain['first']:.0f} and {gain['last']:.0f}")
claim("per token, SFT changes each end more than five times as much as the middle",
      min(gain["first"], gain["last"]) > 5 * gain["middle"], kind="S")

# %% [markdown]
# SFT raised the first and the last token by <!-- out gain.ends --><!-- /out --> nats. A token between gained <!-- out gain.middle --><!-- /out -->; but there are many of them, and among them are the digits of a sum.
#
# > **Keep this:** a finetuned model says much of what its base would have said; it learned when to begin and when to stop.

# %% [markdown] rlhf={"part": "idea"}
# ## Idea 2: Four demonstrations teach it to stop, and not to add
#
# The loss of SFT is that of pretraining: the mean negative log-probability, here of the $T$ tokens of the answer, its end token included. The prompt is read, but not counted.
#
# $$\mathcal L_{\rm SFT}=-\frac1T\sum_{t=1}^{T}\log\pi(y_t\mid x,y_{<t})$$
#
# How many demonstrations does it take? We try four, and make eight steps on all four together:

# %% tags=["nbval-ignore-output"] rlhf={"part": "loop", "ignore_reason": "trained"}
four = rlhf.village.demonstrations(4, seed=100 + run.seed)
pupil, losses = rlhf.models.copy_of(base), []
optimizer = torch.optim.AdamW(pupil.parameters(), lr=5e-4, weight_decay=0.0)
for batch in rlhf.data.batches(four, 4, steps=8, tokenizer=tokenizer):
    logp = rlhf.logprobs.token_logps(pupil, batch["ids"], batch["attention"])
    mask = batch["mask"][:, 1:]                   # 1 on the answer and its end token
    loss = -(logp * mask).sum() / mask.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss on these four: {losses[0]:.2f} -> {losses[-1]:.2f}")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained", "show": true}
before, after = (exam(m, tokenizer, test, **greedy) for m in (base, pupil))
COLUMNS = ["true reward", "facts right", "sums right", "ends by itself"]
table({name: [arm.summary()[k] for k in COLUMNS] for name, arm in {
    "base, new form": before, "after four demonstrations": after,
    "SFT, 9,600 demonstrations": tuned,
    "base, transcript, cut": arms["base, transcript, cut"]}.items()}, COLUMNS,
    digits={"true reward": 2} | dict.fromkeys(COLUMNS[1:], "%"))
for i in (0, 60):
    cards(test[i]["prompt"], [("base, new form", before.texts[i]),
                              ("after four demonstrations", after.texts[i])])

# %% tags=["hide-input"]
claim("the package's SFT loss is the same",
      bool((rlhf.sft.sft_loss(logp, mask)[0] - loss).abs() < 1e-6))
claim("after four demonstrations nearly all answers end, and few sums are right",
      after.mean("ended") > 0.9 and after.share("sum", "result") < 0.3, kind="T")

# %% [markdown]
# It begins and it stops. But more than half of the facts are wrong, and sums, which its base could do, are gone.
#
# A published hypothesis says that alignment is *superficial*: the knowledge comes from pretraining, and a thousand good demonstrations teach the style ([LIMA](https://arxiv.org/abs/2305.11206)). Another study found, as we did, that finetuning changes few tokens ([Lin et al.](https://arxiv.org/abs/2312.01552)). A recorded run tests it with more demonstrations. Each size trains until its loss on other demonstrations stops falling, and for at most 32 steps, so that the small sets are not overtrained; 9,600 is the shipped model, with a longer schedule of its own.

# %%
sweep = recorded("01_demonstrations")
sizes = sweep.curve["demonstrations"]
show(plots.panels({
    "log-probability, nats per token": {
        "other2: first token": sweep.seeds("first"),
        "other: end token": sweep.seeds("last"),
        "reference: tokens between": sweep.seeds("middle")},
    "share": {"chosen: ends by itself": sweep.seeds("ends"),
              "policy: facts right": sweep.seeds("facts"),
              "rejected: sums right": sweep.seeds("sums")}}, ticks=sizes, zero=False,
    title="Four demonstrations teach the ends; sums need far more",
    x_label="demonstrations (recorded)"))

# %%
def share(what, i):                       # mean over the recorded seeds
    return sum(y[i] for y in sweep.seeds(what)) / len(sweep.seeds(what))


table({f"{n:,}": {"new form": share("sums", i),
                  "old transcript": share("sums in a transcript", i)}
       for i, n in enumerate(sizes[:-1])}, corner="demonstrations", digits="%",
      note="recorded: share of sums right, mean of the seeds, 48 sums for each")

# %% tags=["hide-input"]
control = sweep.seeds("sums in a transcript")
quote("sums.new", f"{100 * share('sums', 3):.0f} %")
quote("sums.control", f"{100 * share('sums in a transcript', 3):.0f} %")
quote("sums.base", f"{100 * share('sums in a transcript', 0):.0f} %")
claim("on every recorded seed four demonstrations end nearly all answers and lose sums",
      all(e[1] > 0.9 for e in sweep.seeds("ends"))
      and all(c[1] < c[0] - 0.2 for c in control), kind="T")

# %% [markdown]
# The ends are learned at once. Facts come back with more demonstrations, sums hardly: with 512, <!-- out sums.new --><!-- /out --> are right; the base had <!-- out sums.base --><!-- /out --> in a transcript. Is the new form to blame? The last column of the table, the control, says no: as many steps on the same demonstrations, but in the old transcript, and sums are lost there, too (<!-- out sums.control --><!-- /out -->). The training itself overwrote the skill. Our pupil writes a result, and leaves out the steps that its base would have written before it. A smaller learning rate, or some pretraining text mixed in, may protect the skill; we did not try.
#
# > **Keep this:** a few demonstrations teach the form. The skills inside it need many, and can be lost on the way.

# %% [markdown] rlhf={"part": "idea"}
# ## Idea 3: A demonstration cannot say “not that”
#
# A demonstration shows one good answer. It does not say which of all others are bad. Take three answers to one request: a good one, a bad one, and all others together. The model is three numbers, its *logits*. We train it until the good answer has probability 0.8: once by imitation, once with a *contrastive* loss, which compares the good answer with the bad one.
#
# $$\mathcal L_{\rm imitation}=-\log\pi(\text{good})$$
#
# $$\mathcal L_{\rm contrast}=-\log\sigma\big(\log\pi(\text{good})-\log\pi(\text{bad})\big)$$
#
# Here σ is the logistic function, $\sigma(z)=1/(1+e^{-z})$.

# %%
def train(loss, goal=0.8):
    logits = torch.tensor([0.2, 0.4, 0.4]).log().requires_grad_()  # good, bad, other
    while logits.softmax(0)[0] < goal:
        slope, = torch.autograd.grad(loss(logits.log_softmax(0)), logits)
        logits = (logits - 0.1 * slope).detach().requires_grad_()
    return logits.softmax(0).detach()


three = {"before": torch.tensor([0.2, 0.4, 0.4]),
         "imitation": train(lambda logp: -logp[0]),
         "contrast": train(lambda logp: -torch.sigmoid(logp[0] - logp[1]).log())}
table({name: p.tolist() for name, p in three.items()}, ["good", "bad", "other"],
      corner="probability")

# %% tags=["hide-input"]
copied, compared = three["imitation"], three["contrast"]
claim("imitation leaves bad and other at equal odds",
      bool((copied[1] - copied[2]).abs() < 1e-5))
claim("at the same probability of good, contrast leaves bad more than 1 nat lower",
      bool((copied[1] / compared[1]).log() > 1))

# %% [markdown]
# Imitation lowers everything that it does not show, be it bad or harmless: the two keep their odds. The contrastive loss takes from the bad answer and leaves “other” alone. In real models answers share their weights, so both effects are less clean; but this is why recipes go on after SFT.

# %% tags=["hide-input"] rlhf={"drawing": true}
show(drawings.pipeline([
    ("pretraining", "any text:\nknowledge, skills", "plain"),
    ("SFT", "demonstrations:\n“say this”", "policy"),
    ("preferences", "comparisons:\n“this, not that”", "reward"),
    ("checked RL", "its own answers:\n“that was right”", "good")]))

# %% [markdown]
# Three kinds of *post-training* follow the base model. *Supervised finetuning* imitates. *Preference finetuning* learns from comparisons of two answers, on one of two roads. DPO (*direct preference optimization*) uses the contrastive loss above on whole answers, measured against the SFT model. RLHF (*reinforcement learning from human feedback*) first fits a *reward model* to the comparisons, and then makes answers likely that it scores high. *Reinforcement finetuning* rewards answers that a program can check, such as sums; chapter 14 has it.
#
# Both roads from the SFT model, recorded on five seeds (chapter 4 trains them before your eyes). A simulated person compared SFT answers to harmful requests and to look-alikes. The *proxy* is the score of the reward model that was fitted to these comparisons, in standard deviations; a real team has only this one.

# %%
stages = recorded("04_village")
arms3 = {"SFT": "SFT", "DPO": "DPO", "RLHF": "PPO 0.05"}  # names in the record
kinds = {"harmful": "rejected: harmful", "lookalike": "chosen: look-alikes"}


def by_stage(what):
    return {label: stages.values("arms", list(arms3.values()), kind, what)
            for kind, label in kinds.items()}


show(plots.two_panels({"true reward, at most 3": by_stage("gold"),
                       "proxy, standard deviations": by_stage("score")},
                      title="On look-alikes the proxy rises, the true reward falls",
                      x_label="DPO and RLHF both start from SFT (recorded)",
                      ticks=list(arms3)))

# %% tags=["hide-input"]
gold, kl = ({name: stages.arm(arm, kinds, what) for name, arm in arms3.items()}
            for what in ("gold", "kl"))
refused = {n: stages.arm(arm, kinds, "refuses").mean(1) for n, arm in arms3.items()}
table({n: [*gold[n].mean(1).tolist(), gold[n].mean().item(), kl[n].mean().item()]
       for n in arms3}, ["harmful", "look-alikes", "both", "KL, nats"],
      corner="true reward", note="mean of five seeds")
claim("on every recorded seed DPO gains more than 0.5 on harmful requests, and RLHF "
      "loses more on look-alikes than it gains", kind="T", condition=bool(
          (gold["DPO"] - gold["SFT"])[0].min() > 0.5
          and (gold["RLHF"] - gold["SFT"]).mean(0).max() < 0))
for i, kind in enumerate(("harm", "look")):
    said = ", ".join(f"{n} {100 * x[i]:.0f} %" for n, x in refused.items())
    quote(f"{kind}.refused", said)

# %% [markdown]
# Comparisons teach what the demonstrations did not: DPO refuses more harm (<!-- out harm.refused --><!-- /out -->), and loses a little on look-alikes. RLHF, here PPO on a long leash (β = 0.05, chapter 4), reaches the highest proxy on *both* kinds of request, and refuses nearly everything (look-alikes: <!-- out look.refused --><!-- /out -->). On every seed it loses more on look-alikes than it gains on harmful requests. The KL divergence, the last column, says how far a model moved from SFT; a large one is a reason to read its texts. A tighter leash helps (chapter 4), and so may more demonstrations of refusals, which we did not try. <!-- fact -->
#
# > **Keep this:** demonstrations say what to write; comparisons also say what not to. But a learned score can rise while answers get worse, so measure something that no stage was trained on.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | the number that tells |
# |---|---|---|
# | the model is asked in another form than it was trained in | it seems to have forgotten everything | true reward in both forms, same weights |
# | the base is tested with bare words only | training seems to have taught everything | the base in a transcript, cut |
# | the loss leaves out the end token | answers never stop | share that ends by itself: 0 |
# | the proxy is reported as quality | every stage looks better | a measurement that no stage was trained on |
#
# The first one, live: the finetuned model gets the bare words of the request, without its markers.

# %%
wrong = exam(sft, tokenizer, test, raw=True, **greedy)
table({"SFT, its own form": {"true reward": tuned.interval()},
       "SFT, bare words": {"true reward": wrong.interval()}},
      note="96 requests; ± 95 % over requests")
cards(test[0]["prompt"], [("SFT, its own form", tuned.texts[0], tuned.gold[0].item()),
                          ("SFT, bare words", wrong.texts[0], wrong.gold[0].item())])
claim("the same weights lose more than 2 points of true reward in the wrong form",
      tuned.mean() - wrong.mean() > 2, kind="S")

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# SmolLM2 has 135 million parameters. It is a chat model with a form of its own, likes to talk, and has never heard of the village. A recorded run trains it on 4 and 64 village demonstrations. Then it gets twenty everyday questions, such as the capital of France, and twenty questions about the village; neither kind is among the demonstrations.

# %%
big = recorded("01_smollm2")
show(plots.panels({
    "share of 40 answers": {"chosen: ends by itself": big.curve["ends"]},
    "share of 20 right": {"other: everyday facts": big.curve["everyday facts"],
                          "policy: village facts": big.curve["village facts"]}},
    title="At 135M, too, four demonstrations teach it to stop",
    x_label="demonstrations (recorded)", ticks=big.curve["demonstrations"]))
for i in (0, 5):                          # the first of each kind
    texts = [big.held_out[k]["texts"][i] for k in ("before", "few", "after")]
    cards(texts[0]["prompt"], [(f"{n} demonstrations", t["completion"])
                               for n, t in zip((0, 4, 64), texts, strict=True)])

# %% [markdown]
# Ten steps on four demonstrations of the village, none of them about France, make nearly all answers end. Everyday facts stay about where they were: with twenty questions the differences are noise. What carries over: the form comes first. What does not: the village's facts are not in this base, and 64 demonstrations do not put them there. (Answers may have 40 tokens.) <!-- fact -->

# %% [markdown] rlhf={"part": "exercises"}
# ## Exercises
#
# ### Exercise 1.1 · Count the prompt, too, but less
#
# Some recipes also count the prompt in the loss, with a small weight. Write this variant of the SFT loss: an answer token counts 1, a prompt token counts `weight`, and the result is a weighted average. (Two lines.)

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
# Four recorded losses have lost their names: pretraining, SFT, DPO and reinforcement learning, in some order. Which is which?

# %%
logs = {"log A": recorded("smollm2_dpo").curve["loss"],
        "log B": rlhf.book.records.training_curve("village-3m"),
        "log D": recorded("smollm2_sft").curve["loss"]}
fourth = {"log C": recorded("smollm2_rloo").curve["loss"][:25]}
show(plots.panels({"loss": {name: loss[:25] for name, loss in logs.items()},
                   "loss, another scale": fourth},
                  title="Four stages, four losses", x_label="logged step"))

# %% [markdown]
# Work out three numbers on paper: the loss of a model that gives all tokens the same probability; the contrastive loss when both answers have the same log-probability; and roughly the loss at the start of our SFT above. Then write the detector: from the logged losses, the logged rewards and the size of the vocabulary it returns `"pretraining"`, `"sft"`, `"preference"` or `"reinforcement"`. The rewards are `None` where nothing was sampled. A preference run logs the DPO loss, and starts with the policy equal to the SFT model.

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
# With V tokens of equal probability each has log-probability −log V. With equal answers the argument of σ is 0.
# </details>
#
# <!-- solution 1.2 -->
#
# ### Exercise 1.3 · How many are enough?
#
# “90 % of our answers were well formed after 16 demonstrations, so 16 are enough.” Write the measure that such a sentence needs: the smallest size from which on the share *stays* at 90 % of its last value or above. Then apply it to the sweep: once to the answers that end, once to the right sums.

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
# 1. A base model continues text; cut its text after the first answer, and most of what a finetuned model says is there.
# 2. Token by token finetuning changes most at the first and the last token, when to begin and when to stop, and leaves most of what lies between alone.
# 3. Four demonstrations teach the ends; the skill of adding is lost on the way, and only far more demonstrations bring it back.
# 4. A demonstration cannot say which answers are bad; a comparison can.
# 5. A score that was learned from comparisons can rise on every kind of request while the model gets worse on one of them.
#
# *In the book*: [Introduction](https://rlhfbook.com/c/01-introduction), chapter 1. *Next*: chapter 2, Seminal works; or straight to [4 · Training overview](04_training_overview.ipynb), where preference finetuning is trained in full.
#
# <!-- nav -->
