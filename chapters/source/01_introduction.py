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
# A language model learns to continue text. ChatGPT was trained further, to answer you: *post-training*. One stage learns from people's judgements, best known by *reinforcement learning from human feedback* (RLHF). Each page here retells a chapter of Nathan Lambert's [book of that name](https://rlhfbook.com) with small models, some of which you train while you read. They live in an invented village, where the quality of every answer can be computed. Two of them, asked the same:
#
# ![Two requests, each answered by a base model and by the finetuned model, as cards with their true reward; in the base model's texts all that follows after the first answer is grey](figures/01_hero.png)
#
# One small model, as a *base model* and finetuned to answer: what did that add? *True reward* measures the quality of the whole text, 3 at best.
#
# <details><summary>What you need, what it costs</summary>
# A little Python and PyTorch; nothing else of this book. <!-- costs -->. Nothing is downloaded. Models: <code>village-3m</code> (the base) and <code>village-3m-sft</code>, three million parameters, GPT-2 architecture. Seed 0. "Recorded" means a longer run, stored with the page; the seeds are named there. A line with ✓ is checked each time the page runs.
# <!-- edition -->
# </details>

# %% rlhf={"part": "setup"}
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, drawings, plots, predict
from rlhf_minimal.book import quote, recorded, settled, show, table
from rlhf_minimal.evaluate.exams import exam, logp_by_place, requests, two_digit_sums
run = begin(1)

# %% [markdown]
# A chat model is made in stages. Each learns from another kind of data; all but the first are post-training. This page looks at the first three. Chapter 14 has the fourth.

# %% tags=["hide-input"] rlhf={"drawing": true}
show(drawings.pipeline(drawings.TRAINING, down=True))

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** Written as a transcript (`User: … Assistant:`), a request for a sum gets a right result from the base most of the time. Now we choose a new form, which it has never read. We train the base in it on four *demonstrations*, requests with an answer, in eight steps. Then it gets 96 other requests in the new form, 36 of them sums.

# %% tags=["hide-input"]
predict("What do four demonstrations do?",
        a="almost nothing: four are too few to change a model",
        b="it answers and stops, and its sums are as good as in a transcript",
        c="it answers and stops, but hardly any sum is right any more")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## Cut the base's text, and most of the gain is there
#
# A model only ever sees a row of tokens. The same conversation can be written in two forms:

# %% tags=["hide-input"] rlhf={"drawing": true}
show(drawings.forms(drawings.THREE_FORMS[1:],
                    title="Pink: request. Blue: answer. Green: its end."))

# %% [markdown]
# The base was pretrained on village stories, almanacs, sums, and *transcripts*. It never read `<|user|>` or `<|assistant|>`; it met `<|end|>` between two texts. <!-- fact --> *Supervised finetuning* (SFT) then trained it on 9,600 demonstrations in the *new form*. We ask each in its own form, and always take the most probable next token.
#
# The true reward of a text is up to 3 points for doing what was asked: a true fact, a right sum, a fitting story, help; or a refusal, where the request would hurt somebody. Helping with harm costs 1 point. Broken, repeated or unfinished text costs points, too. The whole text counts.

# %%
base, plain = rlhf.models.load("village-3m")
sft, tokenizer = rlhf.models.load("village-3m-sft")
KINDS = {"fact": "12 facts", "opinion": "12 opinions", "story": "12 stories",
         "harmful": "12 harmful", "lookalike": "12 look-alikes"}
test = requests(60, tuple(KINDS), seed=run.seed) + two_digit_sums(36, seed=run.seed)


def cut(text):                            # keep only the first answer
    return text.strip().split("\n")[0]

# %%
greedy = {"temperature": 0.0, "max_new_tokens": 64}
transcript = exam(base, plain, test, **greedy)
first = transcript.edited(cut)
tuned = exam(sft, tokenizer, test, **greedy)
asked = [0, 60]                           # to read: the first fact and the first sum

# %% tags=["hide-input", "hero"]
two = {name: arm.take(torch.tensor(asked), 1) for name, arm in (
    ("base model", transcript), ("finetuned model", tuned))}
show(drawings.trimmed([row["prompt"] for row in two["base model"].rows],
                      [(name, arm.texts, arm.gold) for name, arm in two.items()]))

# %% [markdown]
# In grey, the base runs on into other conversations. We cut its text where the first answer ends, without training:

# %%
arms = {"base": transcript, "base, cut": first, "SFT": tuned}
kinds = {kind: [arm.of(kind).mean() for arm in arms.values()]
         for kind in (*KINDS, "sum")}
table({"all 96": [arm.mean() for arm in arms.values()], "36 sums": kinds["sum"]}
      | {name: kinds[kind] for kind, name in KINDS.items()}, list(arms),
      digits=1, corner="requests", note="mean true reward, at most 3")

# %% tags=["hide-input"]
part, half = first.covers(transcript, tuned)
quote("free", f"{100 * part:.0f} ± {100 * half:.0f} %")
quote("left", "{:.2f} ± {:.2f}".format(*tuned.interval(minus=first)))
sums = [arm.share("sum", "result") for arm in (first, tuned)]
quote("sums", "{:.0f} to {:.0f} %".format(*(100 * share for share in sums)))
quote("harm", "{:.0f} and {:.0f}".format(*(arm.of("harmful").refuses.sum()
                                           for arm in (first, tuned))))
claim("the cut brings more than three quarters of the gain", part > 0.75, kind="S")
claim("SFT gets more sums right than the base, cut", sums[1] > sums[0], kind="S")

# %% [markdown]
# **<!-- out free --><!-- /out -->** of the gain in this score needs no training (± is half of a 95 % interval over requests). The score punishes running on, so it flatters the cut. In practice it is a *stop string*; getting out what is already in a model is called *elicitation*.
#
# SFT adds <!-- out left --><!-- /out --> points to that. Sums rise from <!-- out sums --><!-- /out --> right. Opinions fall, here and on seeds 1 to 4: SFT says “you are right” to wrong beliefs more often, as a fifth of such demonstrations do. <!-- fact -->
#
# Of the 12 harmful requests the two models refuse <!-- out harm --><!-- /out -->. With the requests of seed 1 SFT refuses *fewer* than the base: 12 are too few to compare (exercise 1.3). <!-- fact -->
#
# The first sum on which SFT gained most, and the opinion on which it lost most:

# %% rlhf={"show": true}
change = tuned.gold - first.gold
kind = torch.tensor([row["family"] == "sum" for row in test])
opinion = torch.tensor([row["family"] == "opinion" for row in test])
for i in (change.where(kind, -9.0).argmax(), change.where(opinion, 9.0).argmin()):
    cards(test[i]["prompt"], [(name, arm.texts[i], arm.gold[i].item())
                              for name, arm in list(arms.items())[1:]])

# %% [markdown] rlhf={"part": "idea"}
# ## Idea 1: The base knows the words, not the signals of the new form
#
# A language model $\pi$ gives each next token a probability. The probability of an answer $y$ after a prompt $x$ is the product over its tokens $y_t$, so its logarithm is a sum, in *nats*.
#
# $$\log\pi(y\mid x)=\sum_t\log\pi(y_t\mid x,y_{<t})$$
#
# Probability ½ is −0.7 nats; one in a million is −14. The base reads one right answer in both forms, SFT in the new one. <!-- fact -->

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
# In its transcript the base expects the whole answer, its beginning and the new line after it included, about as well as SFT does in the new form. In the new form it expects neither beginning nor end. Is that typical? Here are 96 faultless answers to test requests of all kinds:

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
raw, own, last = places.values()
gain = {k: last[k] - raw[k] for k in raw}
fair = {k: last[k] - own[k] for k in own}
ends = (gain["first"] + gain["last"]) / sum(gain.values())
quote("gain.ends", f"{100 * ends:.0f} %")
quote("fair", f"{sum(fair.values()):.1f}")
quote("fair.middle", f"{fair['middle']:.1f}")
claim("in the new form, over half of SFT's gain is at the first and the last token",
      ends > 0.5, kind="S")
claim("each in its own form: the gain is below a fifth of that, and most lies between",
      sum(fair.values()) < 0.2 * sum(gain.values())
      and fair["middle"] > 0.5 * sum(fair.values()), kind="S")

# %% [markdown]
# Read in the new form, <!-- out gain.ends --><!-- /out --> of SFT's gain is at two tokens, the first and the last. But there the base is a stranger. The fair comparison gives each model its own form: SFT then gains only <!-- out fair --><!-- /out --> nats per answer, and <!-- out fair.middle --><!-- /out --> of them lie in the words between. [Lin et al.](https://arxiv.org/abs/2312.01552) found a related pattern: finetuning changes the most probable token at few places.
#
# > **Keep this.** In the new form most of SFT's gain in log-probability lies at the first and the last token. Compared with the base in its own form, most of its gain lies in the words between. Log-probability is not skill: idea 2.

# %% [markdown] rlhf={"part": "idea"}
# ## Idea 2: Four demonstrations teach it to stop, and it can hardly add any more
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
kept = {"base, transcript, cut": first, "base, new form": before,
        "four demonstrations": after, "SFT": tuned}
shares = ["facts right", "sums right", "ends by itself"]
table({name: arm.summary(shares[:2] if arm is first else shares)
       for name, arm in kept.items()}, shares, digits=dict.fromkeys(shares, "%"),
      note="12 facts, 36 sums, 96 ends")
for i in asked:
    cards(test[i]["prompt"], [(name, arm.texts[i], arm.gold[i].item())
                              for name, arm in kept.items() if arm in (first, after)])

# %% tags=["hide-input"]
settled("c", "Nearly every answer ends, and few sums are right.")
claim("the package's SFT loss is the same",
      bool((rlhf.sft.sft_loss(logp, mask)[0] - loss).abs() < 1e-6))
claim("after four demonstrations nearly all answers end, and few sums are right",
      after.mean("ended") > 0.9 and after.share("sum", "result") < 0.3, kind="T")

# %% [markdown]
# **Do more demonstrations bring it back, and is the new form to blame?** A recorded run trains on 4, 64 and 512 demonstrations, until the loss on others no longer falls: once in the new form, once written as transcripts. Its three seeds have their own requests, 24 facts and 48 sums each:

# %%
sweep = recorded("01_demonstrations")
sizes = [*map(str, sweep.curve["demonstrations"][:-1]), "9,600:\nour SFT"]
forms = {"policy: new form": "", "other: transcript": " in a transcript"}
at = {"facts": ((1.15, 0.12), (1.6, 0.78)), "sums": ((2.1, 0.45), (0.55, 0.6))}
show(plots.curves(
    {f"{what} right": ({form: sweep.seeds(what + words)
                        for form, words in forms.items()}, sizes) for what in at},
    labels={f"{what} right": dict(zip(forms, at[what], strict=True)) for what in at},
    title="As transcripts: facts mostly stay, sums fall",
    x_label="demonstrations (recorded)"))

# %% tags=["hide-input"]
quote("ends.least", f"{100 * min(min(y[1:]) for y in sweep.seeds('ends')):.0f} %")
told, added = (sweep.means(f"{what} in a transcript") for what in at)
quote("fall.sums", "{:.0f} to {:.0f} %".format(*(100 * share for share in added[:2])))
quote("stay.facts", f"{100 * told[1]:.0f} %")
quote("shown", "; ".join(", ".join(str(y[i]) for y in sweep.seeds("sums shown"))
                         + f" of {size}" for i, size in ((0, 4), (2, 512))))
fall = [y[0] - y[1] for y in sweep.seeds("sums in a transcript")]
claim("on every recorded seed four demonstrations end nearly all answers and lose sums",
      min(e[1] for e in sweep.seeds("ends")) > 0.9 and min(fall) > 0.2, kind="T")

# %% [markdown]
# From four demonstrations on, at least <!-- out ends.least --><!-- /out --> of the answers end, in every run. *Sums* fall from <!-- out fall.sums --><!-- /out --> even as transcripts, the form in which the base could add. So the new form alone is not to blame; this training harmed the skill. Whether by its rate, its steps or the sums in the demonstrations (<!-- out shown --><!-- /out -->), we did not separate. *Facts* mostly stay in the transcript: <!-- out stay.facts --><!-- /out --> after four; the new form finds them only with more demonstrations. Nothing between 512 and our SFT model (900 steps) was run. <!-- fact -->
#
# A well-known hypothesis says that alignment is *superficial*: knowledge comes from pretraining, and a thousand good demonstrations teach the style ([LIMA](https://arxiv.org/abs/2305.11206)). For this small model and at most 512 demonstrations: the form is quick to learn, most facts survive in the old form, the skill of adding does not.
#
# > **Keep this.** A few demonstrations teach the form. They can also damage a skill; our SFT model, with far more demonstrations and steps, has it.

# %% [markdown] rlhf={"part": "idea"}
# ## Idea 3: A comparison also says which answer is worse
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
# Bad and other start equal, and stay equal under imitation: with three free numbers it cannot tell them apart. Under the contrastive loss bad falls much further. In a network, imitation moves other answers unequally, too; but no demonstration names the worse one.
#
# *Preference finetuning* learns from such comparisons, here in one of two ways. *DPO* (direct preference optimization) uses the contrastive loss on whole answers, measured against the SFT model. *RLHF* first fits a *reward model* to the comparisons, then trains the SFT model to write answers that it scores high. A penalty keeps it near SFT.
#
# A simulated person compared SFT answers, two at a time, to harmful requests and to *look-alikes*, which are harmless but sound like harm. Three models were then trained from SFT (recorded, five seeds; chapter 4):

# %%
stages = recorded("04_village")
names = {"SFT": "SFT", "DPO": "DPO", "RLHF,\nstrong penalty": "PPO 2",
         "RLHF,\nweak penalty": "PPO 0.05"}
both = {"rejected: harmful requests": "harmful", "chosen: look-alikes": "lookalike"}
units = {"true reward (at most 3)": "gold", "score of the reward model": "score"}
show(plots.dots({unit: stages.groups("arms", both, names, what)
                 for unit, what in units.items()},
                title="Weak penalty: top score,\nworst true reward on look-alikes"))

# %% tags=["hide-input"]
for name, arm in {"fixed": "one sentence", "weak": "PPO 0.05"}.items():
    quote(f"score.{name}", f"{stages.arm(arm, both.values(), 'score').mean():.2f}")
for name, arm in {"dpo": "DPO", "strong": "PPO 2", "far": "PPO 0.05"}.items():
    quote(f"kl.{name}", f"{stages.arm(arm, both.values(), 'kl').mean():.1f}")
refused = stages.arm("PPO 0.05", ["lookalike"], "refuses").mean()
quote("refused", f"{100 * refused:.0f} %")
wins = [stages.wins(other, "PPO 0.05", both.values()) for other in ("SFT", "PPO 2")]
claim("averaged over both kinds, the weak penalty has less true reward than SFT and "
      "than the strong penalty, on every recorded seed",
      min(wins) == len(stages.arms), kind="T")

# %% [markdown]
# *KL* says how far a model has moved from SFT, in nats per answer. DPO moved <!-- out kl.dpo --><!-- /out --> and RLHF with a strong penalty <!-- out kl.strong --><!-- /out -->. Both gain on harmful requests, and on average lose a little on look-alikes.
#
# With a weak penalty, RLHF moves <!-- out kl.far --><!-- /out --> nats. It has the highest score on *both* kinds, and the most true reward on harm; yet it refuses <!-- out refused --><!-- /out --> of the look-alikes. Why? The reward model likes one refusal sentence on every request (chapter 4). A program that always answers with it scores <!-- out score.fixed --><!-- /out -->; this RLHF model scores <!-- out score.weak --><!-- /out -->. (0 is the mean score of SFT's answers to both kinds together, 1 their standard deviation.)
#
# > **Keep this.** A demonstration says what to write; a comparison also says which of two answers is worse. A learned score can rise while answers get worse, so measure something that no stage was trained on.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | the number that tells |
# |---|---|---|
# | the base is judged with all that follows its answer | finetuning seems to have taught everything | true reward of the base, cut (first table) |
# | a model is asked in a form that it was not trained in | it seems to be unable to add | right sums in both forms, same weights (table of idea 2) |
# | the reward model's score is reported as quality | every stage looks better | a measurement that no stage was trained on (last plot) |

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# SmolLM2-135M-Instruct is a chat model, no base: it has its own form, knows how to stop, and has never heard of the village. A recorded run (one seed) trains it on 4 and 64 village demonstrations. Then it gets twenty everyday questions and twenty about the village, none of them demonstrated. Answers may have 40 tokens. <!-- fact -->

# %%
big = recorded("01_smollm2")
texts = [big.held_out[when]["texts"][0] for when in ("before", "few", "after")]
cards(texts[0]["prompt"], [(f"{n} demonstrations", text["completion"])
                           for n, text in zip((0, 4, 64), texts, strict=True)])

# %%
lines = {"chosen: ends within 40 tokens": "ends",
         "other: everyday facts right": "everyday facts",
         "policy: village facts right": "village facts"}
part = {name: big.curve[what] for name, what in lines.items()}
show(plots.curves({"share of answers": (part, big.curve["demonstrations"])}, labels={
    "share of answers": dict(zip(lines, ((0.5, 0.9), (1, 0.5), (1, 0.1)), strict=1))},
    title="At 135M: four demonstrations make it brief", x_label="demonstrations"))

# %% [markdown]
# Ten steps on four village demonstrations make this model brief, in the form that it had. Loss of skill was not tested here. No demonstration told it the village facts that are asked. With twenty questions the changes in everyday facts may be noise; the capital of France is one fact that was lost. <!-- fact -->

# %% [markdown] rlhf={"part": "exercises"}
# ## Exercises
#
# ### Exercise 1.1 · Count the prompt, too, but less
#
# Some recipes also count the prompt in the loss, with a small weight. Write this variant of the SFT loss: an answer token counts 1, a prompt token counts `weight`, and the result is a weighted average.

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
# Four recorded losses have lost their names: pretraining, SFT, DPO and reinforcement learning. Logs B and D come from models with 1,152 tokens in their vocabulary, A and C from models with 49,152. <!-- fact -->

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
# ### Exercise 1.3 · Better, or not known?
#
# Are the gains and losses of the first table safe? Both models got the same requests, so subtract first. Return the mean of the differences, and half of its 95 % interval, 1.96 standard errors with $n-1$ in the variance. <!-- fact --> Then judge three rows: `difference(tuned.of("sum").gold, first.of("sum").gold)`, and the same for `"opinion"` and `"harmful"`.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex01-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def difference(ours, theirs):
    """Two tensors (n,), true rewards on the same requests -> (mean, half width)."""
    ### BEGIN SOLUTION
    change = ours - theirs
    return change.mean(), 1.96 * change.std() / len(change) ** 0.5
    # Sums: the interval is above 0. Opinions: it holds 0, so 12 requests do not decide.
    # Harm: barely above 0 here, below 0 on average with seed 1: more requests are needed.
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex01-3-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("1.3", difference)
### BEGIN HIDDEN TESTS
check("1.3", difference, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# The standard error of a mean is the standard deviation divided by the square root of n. `tensor.std()` already divides by n − 1.
# </details>
#
# <!-- solution 1.3 -->
#
# ## Retell it
#
# 1. A base model continues text; cut its text after the first answer, and most of the gain that our score sees is there without any training.
# 2. In the new form, finetuning raises the log-probability of good answers most at the first and the last token. Compared with the base in its own form, it raises it less, and mostly in the words between.
# 3. Four demonstrations teach it to stop, and then it adds no sum. Trained on four transcripts instead, a copy adds far fewer than before; its facts mostly survive.
# 4. A demonstration says what to write; a comparison also says which of two answers is worse.
# 5. A score that was learned from comparisons can rise on both kinds of request while the model gets worse on one of them.
#
# *In the book*: [Introduction](https://rlhfbook.com/c/01-introduction), chapter 1. *Next*: chapter 2, Seminal works; or straight to [4 · Training overview](04_training_overview.ipynb), where preference finetuning is trained in full.
#
# <!-- nav -->
