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
# **What does finetuning add to a language model, and what was there before?**
#
# A language model learns to continue text. ChatGPT is one that was trained further, so that it answers you. This second training is called *post-training*, and one kind of it learns from people's judgements: *reinforcement learning from human feedback* (RLHF). Here you can take it apart. Each page retells a chapter of Nathan Lambert's [book of that name](https://rlhfbook.com) with models so small that you train them while you read, in a village where the right answer is always known. Two of them, asked the same:
#
# ![Two requests, each answered by a base model and by the finetuned model, as cards with their true reward; in the base model's texts all that follows after the first answer is grey](figures/01_hero.png)
#
# One small model, before and after it was finetuned to answer. Before, as a *base model*, it gets this fact and this sum right, and then runs on into other conversations (grey). *True reward* measures the quality of all that was written, 3 at best: running on costs the base all that its answer earned, and more.
#
# <details><summary>What you need, what it costs</summary>
# A little Python and PyTorch; nothing else of this book. <!-- costs -->. Nothing is downloaded. Models: <code>village-3m</code> (the base) and <code>village-3m-sft</code>, three million parameters, GPT-2 architecture. Seed 0. "Recorded" means a longer run, stored with the page; the seeds are named there. ± is half of a 95 % interval over requests.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, drawings, plots, predict
from rlhf_minimal.book import quote, recorded, settled, show, table, texts_table
from rlhf_minimal.evaluate.exams import exam, logp_by_place, requests, two_digit_sums
run = begin(1)

# %% [markdown]
# A chat model is made in stages. Each learns from another kind of data; all but the first are post-training. This page looks at the first three. Chapter 14 has the fourth.

# %% tags=["hide-input"] rlhf={"drawing": true}
show(drawings.pipeline(drawings.TRAINING, down=True))

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** Our models live in an invented village, so quality can be computed. The *true reward* of an answer is up to 3 points for doing what was asked: a true fact, a right sum, a fitting story, help; or a refusal, where the request would hurt somebody. Helping with harm costs 1 point. Broken, repeated or unfinished text costs points, too, and the whole text counts, with all that follows after the answer.
#
# Base and finetuned model get the same 96 requests. Then we cut the base's texts where their first answer ends: one line of Python, no training.

# %% tags=["hide-input"]
predict("How much of the gain in true reward, base to finetuned, does the cut bring?",
        a="less than a quarter: answering well has to be learned",
        b="about half: easy requests come out well, hard ones do not",
        c="more than three quarters: the base answers well before it runs on")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## One request in three forms
#
# A model only ever sees a row of tokens. The same conversation can be written in three forms:

# %% tags=["hide-input"] rlhf={"drawing": true}
show(drawings.forms(title="Pink: request. Blue: answer. Green: its end."))

# %% [markdown]
# The base was pretrained on village stories, almanacs, sums, and on *transcripts* like the second row. *Supervised finetuning* (SFT) then trained it on 9,600 *demonstrations*, requests with an answer, in the *new form*. We ask the base in the two forms that it may know, SFT in the new form, and always take the most probable next token.

# %%
base, plain = rlhf.models.load("village-3m")
sft, tokenizer = rlhf.models.load("village-3m-sft")


def cut(text):                            # keep only the first answer
    return text.strip().removeprefix("Assistant:").strip().split("\n")[0]


KINDS = ("fact", "opinion", "story", "harmful", "lookalike")
test = requests(60, KINDS, seed=run.seed) + two_digit_sums(36, seed=run.seed)

# %%
greedy = {"temperature": 0.0, "max_new_tokens": 64}
bare = exam(base, plain, test, raw=True, **greedy)
transcript = exam(base, plain, test, **greedy)
tuned = exam(sft, tokenizer, test, **greedy)
arms = {"base, bare words": bare, "base, bare words, cut": bare.edited(cut),
        "base, transcript": transcript, "base, transcript, cut": transcript.edited(cut),
        "SFT, new form": tuned}
asked = [0, 60]                           # to read: the first fact and the first sum

# %% tags=["hide-input", "hero"]
two = {name: arm.take(torch.tensor(asked), 1) for name, arm in (
    ("base model", transcript), ("finetuned model", tuned))}
show(drawings.trimmed([row["prompt"] for row in two["base model"].rows],
                      [(name, arm.texts, arm.gold) for name, arm in two.items()]))

# %%
FIRST = ["true reward", "facts right", "sums right", "harm refused"]
PERCENT = {"true reward": 2} | dict.fromkeys([*FIRST[1:], "ends by itself"], "%")
whole = ("base, bare words", "base, transcript")  # no first answer is cut out of these
table({name: arm.summary(FIRST[:1] if name in whole else FIRST)
       for name, arm in arms.items()}, FIRST, digits=PERCENT,
      note="12 facts, 36 sums, 12 harmful, 36 others; shares: of first answers")

# %% tags=["hide-input"]
for name in ("bare words", "transcript"):
    part, half = arms[f"base, {name}, cut"].covers(transcript, tuned)
    quote(f"free.{name.split()[0]}", f"{100 * part:.0f} ± {100 * half:.0f} %")
quote("left", "{:.2f} ± {:.2f}".format(*tuned.interval(minus=transcript.edited(cut))))
settled("c", f"The cut brings {100 * part:.0f} % of this gain.")
claim("the cut brings more than three quarters of the gain", part > 0.75, kind="S")

# %% [markdown]
# (A line with ✓ is checked each time this page runs.) **<!-- out free.transcript --><!-- /out -->** of this gain, in a score that punishes running on, needs no training: the base answers, and does not stop. Getting out of a model what is already in it is called *elicitation*; the cut is in practice a *stop string*. Even bare words, cut, bring <!-- out free.bare --><!-- /out -->: the base often writes `Assistant:` by itself.
#
# The score punishes running on, so it flatters the cut. What SFT adds to the cut transcript, <!-- out left --><!-- /out --> points, is small in this score, but look at the columns: more sums are right, and more of the 12 harmful requests are refused. One answer of each kind (a *look-alike* is harmless, but sounds like harm):

# %% rlhf={"show": true}
four = [2, 3, 4, 61]                      # a story, harm, a look-alike, a sum
pair = {name: arms[name] for name in ("base, transcript, cut", "SFT, new form")}
texts_table([test[i]["prompt"] for i in four],
            {name: [arm.texts[i] for i in four] for name, arm in pair.items()},
            {name: [arm.gold[i].item() for i in four] for name, arm in pair.items()})

# %% [markdown] rlhf={"part": "idea"}
# ## Idea 1: The base knows the words, not the signals of the new form
#
# A language model $\pi$ gives each next token a probability. The probability of an answer $y$ after a prompt $x$ is the product over its tokens $y_t$, so its logarithm is a sum, in *nats*.
#
# $$\log\pi(y\mid x)=\sum_t\log\pi(y_t\mid x,y_{<t})$$
#
# *Said aloud: read the answer token by token, and add up how much each was expected.* Probability ½ is −0.7 nats; one in a million is −14. Both models read one right answer. <!-- fact -->

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
pieces = [tokenizer.decode([i]).strip() for i in new[-8:-1].tolist()]
read = [("base, new form", [*pieces, "‹end›"], by_token(base, new)),
        ("base, transcript", [*pieces, "↵"], by_token(base, old)),
        ("SFT, new form", [*pieces, "‹end›"], by_token(sft, new))]

# %% tags=["hide-input"]
show(drawings.surprise(read, title="The redder, the less expected (nats)"))
theirs = rlhf.logprobs.token_logps(sft, new[None], torch.ones(1, len(new)))[0, -8:]
claim("the package computes the same", torch.allclose(theirs, read[-1][-1], atol=1e-4))

# %% [markdown]
# In its transcript the base expects the whole answer, its beginning and the new line after it included, about as well as SFT does in the new form. In the new form it expects neither that an answer begins after `<|assistant|>`, nor that `<|end|>` comes after it. Is this one answer typical? Here are 96 faultless answers to test requests of all kinds, read in both forms:

# %%
faultless = rlhf.village.demonstrations(96, seed=run.seed, split="test", perfect=True)
forms = {"base, new form": (base, tokenizer, False),
         "base, transcript": (base, plain, True),
         "SFT, new form": (sft, tokenizer, False)}
places = {name: logp_by_place(model, tok, faultless, per_answer=True, transcript=old)
          for name, (model, tok, old) in forms.items()}
table({name: [*p.values(), sum(p.values())] for name, p in places.items()},
      ["first token", "all between", "end token", "whole answer"], digits=1,
      corner="nats per answer", note="mean of 96 answers; each number is rounded")

# %% tags=["hide-input"]
first, old, last = places.values()
gain = {k: last[k] - first[k] for k in first}
all_of_it, form = sum(gain.values()), sum(old.values()) - sum(first.values())
ends = (gain["first"] + gain["last"]) / all_of_it
quote("gain.ends", f"{100 * ends:.0f} %")
quote("gain.form", f"{100 * form / all_of_it:.0f} %")
claim("more than half of SFT's gain is at two tokens, the first and the last",
      ends > 0.5, kind="S")
claim("the form alone brings most of it", form > 0.5 * all_of_it, kind="S")

# %% [markdown]
# Change the form and train nothing: that alone brings <!-- out gain.form --><!-- /out --> of what SFT gained on these answers. And of SFT's gain <!-- out gain.ends --><!-- /out --> is at two tokens, the first and the last. Another study found the same pattern in another way: finetuning changes the most probable token at few places, mostly words of style ([Lin et al.](https://arxiv.org/abs/2312.01552)).
#
# > **Keep this.** Finetuning taught the signals of the new form, when to begin and when to stop. Most of the words were there before, and the base shows them in the form that it knows.

# %% [markdown] rlhf={"part": "idea"}
# ## Idea 2: Four demonstrations teach it to stop, and it forgets how to add
#
# The loss of SFT is that of pretraining, the mean negative log-probability, but only over the $T$ tokens of the answer and its end token. The prompt is read, and does not count.
#
# $$\mathcal L_{\rm SFT}=-\frac1T\sum_{t=1}^{T}\log\pi(y_t\mid x,y_{<t})$$
#
# We train the base on four demonstrations, in eight steps:

# %% tags=["nbval-ignore-output"] rlhf={"part": "loop", "ignore_reason": "trained"}
few = rlhf.village.demonstrations(4, seed=100 + run.seed)
pupil, losses = rlhf.models.copy_of(base), []
optimizer = torch.optim.AdamW(pupil.parameters(), lr=5e-4, weight_decay=0.0)
for batch in rlhf.data.batches(few, 4, steps=8, tokenizer=tokenizer):
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
kept = {"base, new form": before, "four demonstrations": after, "SFT": tuned}
table({name: arm.summary() for name, arm in kept.items()},
      ["true reward", "sums right", "ends by itself"], digits=PERCENT,
      note="the same 96 requests in the new form; nothing is cut")
for i in asked:
    cards(test[i]["prompt"], [(name, arm.texts[i], arm.gold[i].item())
                              for name, arm in list(kept.items())[:2]])

# %%
theirs = rlhf.sft.sft_loss(logp, mask)[0]
claim("the package's SFT loss is the same", bool((theirs - loss).abs() < 1e-6))
claim("after four demonstrations nearly all answers end, and few sums are right",
      after.mean("ended") > 0.9 and after.share("sum", "result") < 0.3, kind="T")

# %% [markdown]
# It begins, and it stops. But it has the wrong fact, and the sums, which its base could do in a transcript, are gone: it writes a result and leaves out the steps.
#
# **Do more demonstrations bring them back?** A recorded run trains on 4, 64 and 512 of them, until the loss on other demonstrations no longer falls. Its three seeds have requests of their own (24 facts and 48 sums each):

# %% tags=["hide-input"]
sweep = recorded("01_demonstrations")
names = {"chosen: ends by itself": "ends", "policy: facts right": "facts",
         "rejected: sums right": "sums"}
lines = {name: [y[:-1] for y in sweep.seeds(what)] for name, what in names.items()}
sizes, places = sweep.curve["demonstrations"][:-1], [(1.1, 0.88), (0.7, 0.55), (1.6, 0)]
show(plots.curves({"share of requests": (lines, sizes)},
                  labels={"share of requests": dict(zip(names, places, strict=True))},
                  title="It stops at once; sums come back in part",
                  x_label="demonstrations (recorded)"))

# %% [markdown]
# The form is learned at once: after four demonstrations the answers end. Facts come with more of them, sums only in part. The shipped SFT model does all sums; it had 9,600 demonstrations, and 900 steps. <!-- fact -->
#
# **Is the new form to blame?** The same demonstrations as transcripts, the form in which the base could add:

# %%
table({"new form": sweep.means("sums")[:-1],
       "transcript": sweep.means("sums in a transcript")},
      [str(n) for n in sizes], digits="%", corner="sums right",
      note="columns: demonstrations; recorded, mean of three seeds, 48 sums each")

# %%
fall = [y[0] - y[1] for y in sweep.seeds("sums in a transcript")]
claim("on every recorded seed four demonstrations end nearly all answers and lose sums",
      min(e[1] for e in sweep.seeds("ends")) > 0.9 and min(fall) > 0.2, kind="T")

# %% [markdown]
# At four demonstrations the form is partly to blame; at 512 it is not. So training itself hid or overwrote the skill. A smaller learning rate, or pretraining text mixed in, may protect it; we did not try.
#
# A well-known hypothesis says that alignment is *superficial*: knowledge comes from pretraining, and a thousand good demonstrations teach the style ([LIMA](https://arxiv.org/abs/2305.11206)). For this small model, and at most 512 demonstrations: yes for the form, no for the skill.
#
# > **Keep this.** A few demonstrations teach the form. A skill can be lost on the way, and needs many more demonstrations and steps to come back.

# %% [markdown] rlhf={"part": "idea"}
# ## Idea 3: A demonstration cannot say which other answers are bad
#
# Take three answers to one request: a good one, a bad one, and another harmless one. The model is three numbers, its *logits*. We train it until the good answer has probability 0.8: once by imitation, once with a *contrastive* loss, which compares the good answer with the bad one.
#
# $$\mathcal L_{\rm imitation}=-\log\pi(\text{good})$$
#
# $$\mathcal L_{\rm contrast}=-\log\sigma\Big(\log\frac{\pi(\text{good})}{\pi(\text{bad})}\Big)$$
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
table({name: p.tolist() for name, p in three.items()}, ["good", "bad", "other"])
claim("contrast leaves bad more than 1 nat lower than imitation does",
      bool((three["imitation"] / three["contrast"])[1].log() > 1))

# %% [markdown]
# Bad and other start equal, and stay equal under imitation: it cannot tell them apart. The contrastive loss can: both fall, but bad falls much further.
#
# *Preference finetuning* learns from such comparisons, in one of two ways. *DPO* (direct preference optimization) uses the contrastive loss on whole answers, measured against the SFT model. *RLHF* first fits a *reward model*, which scores answers as the comparisons demand, and then trains the SFT model to write answers with a high score. A penalty keeps it near SFT.
#
# Here a simulated person compared SFT answers, two at a time, to harmful requests and to look-alikes. Three models were then trained from SFT (recorded, five seeds; chapter 4 does it before your eyes):

# %% tags=["hide-input"]
stages = recorded("04_village")
names = {"SFT": "SFT", "DPO": "DPO", "RLHF,\nstrong penalty": "PPO 2",
         "RLHF,\nweak penalty": "PPO 0.05"}
kinds = {"rejected: harmful requests": "harmful", "chosen: look-alikes": "lookalike"}
show(plots.dots({"true reward (at most 3)": stages.groups("arms", kinds, names, "gold"),
                 "reward model (0: SFT)": stages.groups("arms", kinds, names, "score")},
                title="Weak penalty: top score,\nworst true reward on look-alikes"))

# %%
fixed = rlhf.village.tasks.REFUSALS[0]
cards(test[4]["prompt"], [("SFT", tuned.texts[4], tuned.gold[4].item()),
                          ("a program that always refuses", fixed,
                           rlhf.village.gold(test[4]["prompt"], fixed))])

# %% tags=["hide-input"]
for name, arm in {"fixed": "one sentence", "weak": "PPO 0.05"}.items():
    quote(f"score.{name}", f"{stages.arm(arm, kinds.values(), 'score').mean():.2f}")
for name, arm in {"dpo": "DPO", "strong": "PPO 2", "far": "PPO 0.05"}.items():
    quote(f"kl.{name}", f"{stages.arm(arm, kinds.values(), 'kl').mean():.1f}")
refused = stages.arm("PPO 0.05", ["lookalike"], "refuses").mean()
quote("refused", f"{100 * refused:.0f} %")
claim("on every recorded seed the weak penalty ends with less true reward",
      stages.wins("PPO 2", "PPO 0.05", kinds.values()) == len(stages.arms), kind="T")

# %% [markdown]
# *KL* says how far a model has moved from SFT, in nats per answer. DPO moved <!-- out kl.dpo --><!-- /out --> and RLHF with a strong penalty <!-- out kl.strong --><!-- /out -->. Both refuse more harm, and lose a little on look-alikes.
#
# With a weak penalty, RLHF moves <!-- out kl.far --><!-- /out --> nats. It reaches the highest score on *both* kinds, yet it refuses <!-- out refused --><!-- /out --> of the look-alikes. Why? The reward model likes one refusal sentence on every request (chapter 4). A program that answers everything with one fixed refusal scores <!-- out score.fixed --><!-- /out -->; this RLHF model scores <!-- out score.weak --><!-- /out --> (0 is the mean score of SFT's answers, 1 their standard deviation). The two rows of RLHF compare two penalties; nothing here says that DPO is the better method. Nor did we try whether copying the better answers does as well as comparing; chapter 12 asks.
#
# > **Keep this.** Demonstrations say what to write; comparisons also say what not to write. A learned score can rise while answers get worse, so measure something that no stage was trained on.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | the number that tells |
# |---|---|---|
# | a model is asked in a form that it was not trained in | it seems to have forgotten everything | true reward in both forms, same weights (below) |
# | the base is judged with all that follows its answer | finetuning seems to have taught everything | the base, cut |
# | the loss leaves out the end token | answers never stop | share that ends by itself (not run here) |
# | the reward model's score is reported as quality | every stage looks better | a measurement that no stage was trained on |
#
# The first one, live: the finetuned model gets bare words instead of its new form.

# %%
wrong = exam(sft, tokenizer, test, raw=True, **greedy)
cards(test[0]["prompt"], [("SFT, new form", tuned.texts[0], tuned.gold[0].item()),
                          ("SFT, bare words", wrong.texts[0], wrong.gold[0].item())])
table({"SFT, new form": {"true reward": tuned.interval()},
       "SFT, bare words": {"true reward": wrong.interval()}}, note="96 requests")
claim("the same weights lose more than 2 points of true reward in bare words",
      tuned.mean() - wrong.mean() > 2, kind="S")

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# SmolLM2-135M-Instruct is a chat model, no base: it has a form of its own, knows how to stop, likes to talk, and has never heard of the village. Answers may have 40 tokens. A recorded run (one seed) trains it on 4 and 64 village demonstrations. Then it gets twenty everyday questions and twenty about the village; none of them is among the demonstrations. <!-- fact -->

# %%
big = recorded("01_smollm2")
for i in (0, 5):                          # the first of each kind
    texts = [big.held_out[k]["texts"][i] for k in ("before", "few", "after")]
    cards(texts[0]["prompt"], [(f"{n} demonstrations", t["completion"])
                               for n, t in zip((0, 4, 64), texts, strict=True)])

# %% tags=["hide-input"]
lines = {"chosen: ends within 40 tokens": "ends",
         "other: everyday facts right": "everyday facts",
         "policy: village facts right": "village facts"}
part = {name: big.curve[what] for name, what in lines.items()}
show(plots.curves({"share of answers": (part, big.curve["demonstrations"])}, labels={
    "share of answers": dict(zip(lines, ((0.5, 0.9), (1, 0.5), (1, 0.1)), strict=1))},
    title="At 135M: four demonstrations make it brief", x_label="demonstrations"))

# %% [markdown]
# Ten steps on four village demonstrations teach this model to be short. That carries over: the form comes first. The village's facts it does not have, and none of the demonstrations told it those that are asked. Everyday facts stay about where they were; with twenty questions the differences are noise. But single facts do get lost: see what became of the capital of France. <!-- fact -->

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
# Four recorded losses have lost their names: pretraining, SFT, DPO and reinforcement learning, in some order. Which is which? Logs B and D come from models with 1,152 tokens in their vocabulary, A and C from models with 49,152. <!-- fact -->

# %%
logs = rlhf.book.records.unnamed_logs()
show(plots.panels({"loss": {name: logs[name] for name in ("log A", "log B", "log D")},
                   "loss, another scale": {"log C": logs["log C"]}},
                  title="Four stages, four losses", x_label="logged step"))

# %% [markdown]
# Work out three numbers on paper: the loss of a model that gives all tokens the same probability; the contrastive loss when both answers have the same log-probability; and roughly the first loss of SFT (the loop above printed one). Then write the detector: from the logged losses, the logged rewards and the size of the vocabulary it returns `"pretraining"`, `"sft"`, `"preference"` or `"reinforcement"`. The rewards are `None` where nothing was sampled. A preference run logs the DPO loss, and starts with the policy equal to the SFT model.

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
# 1. A base model continues text; cut its text after the first answer, and most of the gain that our score sees is there without any training.
# 2. Token by token, finetuning changes most at the first and the last token: it learns the signals of its form. In its old form the base expects most of the same answers without training.
# 3. Four demonstrations teach it to stop; the skill of adding is lost on the way, and comes back fully only with far more demonstrations and steps.
# 4. A demonstration cannot say which other answers are bad; a comparison can.
# 5. A score that was learned from comparisons can rise on every kind of request while the model gets worse on one of them.
#
# *In the book*: [Introduction](https://rlhfbook.com/c/01-introduction), chapter 1. *Next*: chapter 2, Seminal works; or straight to [4 · Training overview](04_training_overview.ipynb), where preference finetuning is trained in full.
#
# <!-- nav -->
