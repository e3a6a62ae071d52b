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
# # 7 · Reward modeling
#
# **What does a model trained on comparisons know, and where does its score stop meaning anything?**
#
# ![A short answer, and below it the same answer with one to four sentences added that say nothing; bars of its score grow with every sentence, while the true reward beside them stays the same](figures/07_hero.png)
#
# A *reward model* learned from thousands of comparisons which answers are good. Then four sentences that say nothing raise its score by <!-- out rise --> standard deviations (average over 32 answers that it had not seen), while the true reward does not move. On this page you build that model, find out who taught it this, and why a usual test would not have told you.
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Logarithms and gradients; chapter 6 says where comparisons come from. <!-- costs -->. Nothing is downloaded. Model: <code>village-3m-sft</code>, three million parameters, GPT-2 architecture, with 8,192 stored answers, four to each prompt: stories, facts, sums, requests for harm and others. The <i>true reward</i> of an answer is a formula of this toy world: 3 for a perfect answer, less for errors, below 0 for broken text. Length does not count. People see the true reward; the models see only what people chose. Every fourth prompt is kept for the test. ± is half of a 95 % interval over test prompts. Seed 0; the penalty of the head (0.1) was not tuned.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import torch.nn.functional as F
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, plots, quote, scores, show
from rlhf_minimal.evaluate import comparisons, metrics, sums
run = begin(7)

# %% tags=["hide-input"] rlhf={"part": "predict"}
asked = ("Two people compare answers; each picks the truly better one in three of four "
         "pairs. One errs at random; one is sure, and likes long answers. A reward "
         "model learns from 8,000 labels of each. Which picks better on new prompts?")
rlhf.book.predict(
    asked, a="that of the sure person: its labels contradict each other less",
    b="that of the person who errs at random",
    c="no difference: both kinds of labels are right equally often")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## Two teachers, equally right
#
# A person compares two answers to one prompt. Their *utilities* $u_1$ and $u_2$ say what the answers are worth to this person, and the noise, or *temperature* τ, says how often the person slips: the first answer is chosen with probability $\sigma\big((u_1-u_2)/\tau\big)$, where $\sigma(x)=1/(1+e^{-x})$.
#
# To our *noisy* person an answer is worth its true reward, but the noise is large. The *wordy* person has little noise, and adds a bonus: ten words more are worth 2.5 points. Here is a pair that the wordy one got wrong. <!-- fact -->

# %% rlhf={"show": true}
some = comparisons.stored()                        # answers, training and test pairs
model, tokenizer = rlhf.models.load("village-3m-sft")
noisy = rlhf.village.Annotator(name="noisy", temperature=1.5)
wordy = rlhf.village.Annotator(name="wordy", temperature=0.25, length_bias=2.5)
people = (noisy, wordy)
labels = {person.name: some.label(person, len(some.train), run.fresh(person.name))
          for person in people}                    # (8045, 2): chosen, rejected
for person in people:
    print(f"{person.name}: picks the better answer in {some.agreement(person):.1%}")
cards(*some.show(some.mistake(labels["wordy"]), tokenizer))

# %% [markdown] rlhf={"part": "loop"}
# ## The whole method
#
# A reward model is a language model with another head. It reads prompt and answer; its last hidden state at the end of the answer (here 192 numbers) goes through one linear layer, and out comes one number, the *score* $r$. The loss asks that the chosen answer scores above the rejected one; idea 1 derives it. We keep the language model fixed and train the head alone: its states are stored, so that this takes seconds. (The deeper notebook trains the whole network.)

# %%
def train(labels, steps=300):
    chosen, rejected = (some.states[rows] for rows in labels.T)
    scale = (chosen - rejected).square().mean(0).sqrt()
    head = torch.nn.Linear(192, 1, bias=False, dtype=torch.float64)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(steps):
        r_chosen, r_rejected = head(chosen / scale), head(rejected / scale)
        loss = -F.logsigmoid(r_chosen - r_rejected).mean()
        loss += 0.05 * head.weight.square().sum()  # a small penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.weight.detach()[0] / scale


weights = {name: train(two) for name, two in labels.items()}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
score = {name: some.states @ weight for name, weight in weights.items()}
everyone = {f"{name} person's model": s for name, s in score.items()} | {
    "longer answer": some.words, "more probable answer": some.logp}
seen = [some.confirmed(score[p.name], p) for p in people] + [None, None]
harm = some.of("harmful")
rlhf.book.table(
    {name: [share, some.interval(s), some.interval(s, harm)]
     for (name, s), share in zip(everyone.items(), seen, strict=True)}, digits="%",
    corner="how often it agrees with …",
    columns=["new labels of its teacher", "the truth", "truth, harmful requests"],
    note="1,899 test pairs, 127 of them of requests for harm; a coin: 50 %")
quote("alike", f"{100 * some.right(score['noisy'], some.of('lookalike')):.0f} %")

# %% tags=["hide-input"]
theirs = some.states @ rlhf.reward_model.fit_head(
    *(some.states[rows] for rows in labels["noisy"].T), l2=0.1)  # Newton's method
claim("the package fits the same head (difference below 5 % of the spread)",
      (score["noisy"] - theirs).std() < 0.05 * theirs.std())
true, bad = ([some.right(s, two) for s in everyone.values()] for two in (None, harm))
claim("the noisy person's model is ahead on the truth, and behind on new labels; on "
      "requests for harm it is far ahead of the log-probability",
      true[0] > true[1] + 0.05 and seen[1] > seen[0] + 0.02 and bad[0] > bad[3] + 0.15,
      {"truth": true, "new labels": seen[:2], "harm": bad}, kind="T")
rlhf.book.settled("b", "Its model is clearly better than a coin; the other one is not.")
names = ("noisy", "wordy", "long", "logp", "seen", "seen2", "learned", "usual")
for name, share in zip(names, true + seen[:2] + bad[::3], strict=True):
    quote(name, f"{100 * share:.0f} %")

# %% [markdown]
# The first column is what a project sees: accuracy on held-out labels of the same people. It recommends the wordy person's model (<!-- out seen2 --> against <!-- out seen -->). On the truth that model is right in <!-- out wordy --> of the pairs, and the noisy person's in <!-- out noisy -->.
#
# Do not overlook the cheapest rival. The *log-probability* of an answer under the model that wrote it (mean per token) needs no labels, and is right in <!-- out logp -->: more than both. Many faults in this world look like slips, and slips are improbable. It fails where the usual answer is not the wanted one: on requests for harm it is a coin (<!-- out usual -->), and the noisy person's model is right in <!-- out learned -->. But on requests that only *sound* harmful that model falls to <!-- out alike -->. It has learned to like refusals. So comparisons teach something that the log-probability lacks, and this head reads it coarsely.
#
# What has the wordy person's model learned? We add sentences that say nothing to 32 short test answers, and read the scores again. The change is counted in standard deviations of the model's scores over all answers.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
short, filler = some.short(32), comparisons.FILLER
prompts, plain = some.asked(short), some.answers.texts(short, tokenizer)
change, gold = {name: [] for name in weights}, []
for n in range(5):
    longer = [" ".join([text, *filler[:n]]) for text in plain]
    states = comparisons.states_of(model, tokenizer, prompts, longer)
    gold += [[rlhf.village.gold(p, t) for p, t in zip(prompts, longer, strict=True)]]
    for name, weight in weights.items():
        risen = states @ weight - score[name][short]
        change[name].append((risen / score[name].std()).tolist())
gold, change = torch.tensor(gold), {k: torch.tensor(x) for k, x in change.items()}

# %% tags=["hide-input", "hero", "nbval-ignore-output"] rlhf={"ignore_reason": "trained", "drawing": true}
k = gold[0].argmax().item()                        # the first perfect answer
show(scores.grown(prompts[k], [plain[k], *filler], change["wordy"].mean(1), gold[:, k],
                  note_below="change in standard deviations, mean of 32 answers"))

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained", "figure": "filler"}
means = {name: x.mean(1).tolist() for name, x in change.items()}
lines = {"proxy: score, wordy": means["wordy"], "policy: score, noisy": means["noisy"],
         "gold: true reward": (gold.mean(1) - gold[0].mean()).tolist()}
show(plots.panels({"change": lines}, x_label="empty sentences added",
                  title="Filler pleases only the wordy person's model",
                  note="32 test answers; scores in standard deviations"))
quote("rise", f"{means['wordy'][-1]:.1f}")

# %% tags=["hide-input"]
claim("four empty sentences: over 2 standard deviations for the wordy person's model, "
      "less than 1 for the other; the true reward stays",
      means["wordy"][-1] > 2 and abs(means["noisy"][-1]) < 1
      and bool((gold == gold[0]).all()), means, kind="T")

# %% [markdown] rlhf={"part": "idea"}
# ## Idea 1: A difference of scores is a log-odds
#
# Where does the loss come from? Give every answer a positive *strength* $p$, and let an answer win in proportion to it. This is the model of Bradley and Terry (1952). A network may return negative numbers, so write $p=e^{r}$. For a chosen answer $y_c$ and a rejected one $y_r$:
#
# $$P(y_c\succ y_r)=\frac{p_c}{p_c+p_r}=\frac{e^{r_c}}{e^{r_c}+e^{r_r}}=\sigma(r_c-r_r)$$
#
# $$\mathcal L=-\log\sigma(r_c-r_r)$$
#
# *Said aloud: the probability of a choice depends on the difference of two scores, and the loss is small when the choices that people made are probable.* On paper: chosen 1.5, rejected 0.5, so a probability of .73 and a loss of .31. <!-- fact -->

# %%
r_chosen = torch.tensor([1.5, -0.2, 3.0], requires_grad=True)
r_rejected = torch.tensor([0.5, 0.4, 0.0])
losses = -F.logsigmoid(r_chosen - r_rejected)
print("loss of each pair:", [round(x, 3) for x in losses.tolist()])
print("push on the chosen:", [round(-x, 3) for x in
                              torch.autograd.grad(losses.sum(), r_chosen)[0].tolist()])
shift = torch.tensor([100.0, -7.0, 0.3])           # one number for each prompt
moved = -F.logsigmoid((r_chosen + shift) - (r_rejected + shift))
theirs, _ = rlhf.reward_model.pairwise_loss(r_chosen, r_rejected)
claim("the package computes the same loss", (losses.mean() - theirs).abs() < 1e-6)
claim("one number added to all answers of a prompt changes nothing",
      bool((moved - losses).abs().max() < 1e-5))

# %% [markdown]
# The *push* on a pair is $\sigma(r_r-r_c)$, the probability that the model gave to the other choice. A pair that the model had wrong pushes most, even where the label is the mistake.
#
# The last claim is the important one. Only differences *within a prompt* enter. So a score of 3 does not mean "good"; it means "better than a score of 2 for the same prompt". A comparison cannot tell which prompts got good answers, and an average score over different prompts has no meaning of its own.

# %%
gap = torch.linspace(-4, 4, 81)
show(plots.panels({"loss, and push (dashed)": {
    "policy: loss": (gap.tolist(), -F.logsigmoid(gap)),
    "other: push": (gap.tolist(), torch.sigmoid(-gap))}},
    x_label="chosen score minus rejected score",
    title="A pair that the model has wrong pushes most"))

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** A reward model is fitted to differences within a prompt. Compare scores within a prompt only.
#
# ## Idea 2: The score is read at one token
#
# A language model reads from left to right, so only the hidden state at the *last* token has seen the whole answer. In a batch, shorter rows are filled up with *padding*, and a mask, the *attention*, says which tokens are real. Here, as in GPT-2, the padding token is the end token itself, which is also the real last token of every answer. Four ways to find the last token, on one row that was padded on the left:

# %%
row = some.row(short[k], tokenizer)                # ids of prompt and answer
end = tokenizer.eos_token_id
ids = torch.tensor([[end] * 4 + row])              # four padding tokens on the left
attention = torch.tensor([[0] * 4 + [1] * len(row)])
column = torch.arange(ids.shape[1])
ways = {"last real": (column * attention).argmax(1),
        "sum − 1": attention.sum(1) - 1,
        "last column": column[-1:],
        "not padding": (column * (ids != end)).argmax(1)}

# %% rlhf={"drawing": true}
tail = slice(-9, None)
pieces = [tokenizer.decode([t]).strip(" <|>") for t in ids[0, tail].tolist()]
show(scores.where_labels(
    [piece or "␣" for piece in pieces],
    {name: ["read" if i == place.item() else "" for i in column[tail].tolist()]
     for name, place in ways.items()}, title="One row, four places",
    alt="Drawing of the last tokens of a row that is padded on the left; below them "
    "the place at which each of four ways reads the score"))

# %% [markdown]
# Padding on the left shifts everything, so `sum − 1` lands inside the answer. The last column is right here, and wrong under right padding. The last way takes the real end token for padding. Only the first is right on both sides. What does a wrong place cost? The noisy person's head, on real pairs padded on the left:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
judge = rlhf.reward_model.RewardModel(model, weights["noisy"].float())
few = some.test[torch.randperm(len(some.test), generator=run.fresh("few"))[:512]]
found = some.read_at(model, tokenizer, few, weights["noisy"])
rlhf.book.table({name: {"agrees with the truth": x} for name, x in found.items()},
                digits="%", corner="where the score is read",
                note="512 test pairs, left padding")

# %% tags=["hide-input"]
pads = rlhf.tensors.pad_left, rlhf.tensors.pad_right
both = [judge(*pad([some.row(i, tokenizer) for i in short[:4]])) for pad in pads]
claim("the package's score does not depend on the side of the padding",
      (both[0] - both[1]).abs().max() < 1e-4 * both[0].abs().max().clamp(min=1))
claim("read at sum − 1, the same head is worse",
      found["sum − 1"] < found["last real"] - 0.02, found, kind="T")

# %% [markdown] rlhf={"part": "idea"}
# Nothing crashes, and one loss looks like another. (The token before the end does well here: a full stop has seen nearly everything. It fails where an answer was cut.) So this bug lives long; it was reported in several libraries ([pytorch/rl](https://github.com/pytorch/rl/issues/3887), [transformers](https://github.com/huggingface/transformers/issues/35352), [OpenRLHF](https://github.com/OpenRLHF/OpenRLHF/issues/300)).
#
# > **Keep this.** Read the score at the last token whose attention is 1, and test it: pad on the left, pad on the right, compare.
#
# ## Idea 3: Noise averages out, bias is learned
#
# Both people are right in about three of four pairs. Why do their models differ? First the ideal pupil: its input is not a network's state but the very list of facts that the true reward is made of (is the fact true, is it rude, …), and the number of words. It only has to find the weights. Five sets of labels for each number of pairs: <!-- fact -->

# %%
sizes = [32, 128, 512, 2048, len(some.train)]
truth = some.truth()                               # (8192, features)
sets = run.seeds(5)
ideal = {p.name: some.students(p, sizes, x=truth, l2=1e-3, seeds=sets) for p in people}
real = {p.name: some.students(p, sizes, seeds=sets) for p in people}

# %%
both = {"a pupil that sees the facts": ideal, "a head on the network's state": real}
looks = {"noisy person": "policy", "wordy person": "proxy", "teachers": "reference"}
show(plots.panels(
    {what: {f"{name} person": y.tolist() for name, y in of.items()}
     | {"teachers": [some.agreement(noisy)] * len(sizes)} for what, of in both.items()},
    roles=looks, ticks=sizes, share=True, zero=None, x_label="number of labelled pairs",
    note="agreement with the truth",
    title="More labels help against noise, not against bias"))

# %% tags=["hide-input"]
ends = [of[name][:, -1] for of in (ideal, real) for name in ("noisy", "wordy")]
claim("facts: over 90 % from the noisy person, near the teacher's share from the wordy "
      "one; network's state: each noisy set ends above each wordy set",
      ends[0].mean().item() > 0.9 and bool(ends[2].min() > ends[3].max())
      and abs(ends[1].mean().item() - some.agreement(wordy)) < 0.05, kind="T")
for name, share in zip(("ideal", "ideal2", "real", "real2"), ends, strict=True):
    quote(name, f"{100 * share.mean():.0f} %")

# %% [markdown]
# The noisy person's slips point in no direction. With enough pairs they cancel, and the pupil becomes far better than its teacher: <!-- out ideal -->. The wordy person's errors all point the same way. There is nothing to average; more labels only fix the error more firmly (<!-- out ideal2 -->).
#
# So bias explains a ceiling near the teacher. It does not explain why the real model stops at <!-- out real2 -->. For that ask the head itself two questions, with labels that contain no error at all: <!-- fact -->

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
exact = rlhf.village.Annotator(name="exact", temperature=0.01)
ruler = rlhf.village.Annotator(name="ruler", temperature=0.01, gold_weight=0.0,
                               length_bias=1.0)    # cares for nothing but words
head = {p.name: some.states @ some.head(p, run.seed) for p in (ruler, exact)}
read = {"easy": some.longer(head["ruler"]), "hard": some.right(head["exact"])}
longer = {name: some.longer(s) for name, s in score.items()}
rlhf.book.table({"taught length alone: picks the longer": [read["easy"]],
       "taught the exact truth: picks the better": [read["hard"]],
       "wordy person's model: picks the longer": [longer["wordy"]],
       "noisy person's model: picks the longer": [longer["noisy"]]}, ["new pairs"],
      digits="%", corner="a head on the network's state")

# %% tags=["hide-input"]
easy, hard = read.values()
claim("the state shows length far better than quality, and the wordy person's model "
      "prefers the longer answer in over 70 % of the pairs",
      easy > hard + 0.15 and longer["wordy"] > 0.7, read | longer, kind="T")
for name, x in (read | {"longer": longer["wordy"]}).items():
    quote(name, f"{100 * x:.0f} %")

# %% [markdown]
# Length is easy to read off the state (<!-- out easy -->), quality is hard (<!-- out hard -->). From labels that follow both, the head takes what it can read. The wordy person's model prefers the longer answer in <!-- out longer --> of the pairs of unequal length, while the longer answer is the better one in <!-- out long -->. *A person who is right three times in four taught a model that is right half of the time: what was right in the labels was mostly what the model could hardly read.* Now you: choose a teacher for the pupil that sees the facts. Bias is counted in points for ten words. <!-- fact -->

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
scores.teacher_and_student(some.lesson(run.seed), bias=[0.0, 2.5],
                           noise=[0.25, 1.5, 6.0], pairs=[64, 512, 4096]).show()

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** More labels cancel errors that point nowhere. Errors that point somewhere are learned, first of all those that are easy to read.
#
# ## Idea 4: Four models that score
#
# "Reward model" means several things. They have nearly the same network and differ in *which token gets which label*. An answer to 43 + 29 with the right result and one wrong step (the first column carries 1, so the second is 4 + 2 + 1):

# %% rlhf={"drawing": true}
tokens = ["3+9", "=12.", "4+2", "=6.", "Result", "is", "72.", "end"]
show(scores.where_labels(tokens, {
    "reward": [""] * 7 + ["r"], "outcome": ["1"] * 8,
    "process": ["", "1", "", "0", "", "", "1", ""], "value": ["V"] * 8},
    title="Who gets a label where"))

# %% [markdown]
# | model | question | label |
# |---|---|---|
# | reward | how good is the whole answer? | which of two was chosen |
# | outcome | will the result be right? | the result, at every token |
# | process | is this step right? | each step, at its end |
# | value | what will *this policy* still earn from here? | its own returns |
# | generative judge | which is better, and why? | none: it is asked in words (chapter 13) |
#
# The reward model has the loss of idea 1; the value function learns by squared error, the two between by *cross-entropy*. With a label $z\in\{0,1\}$ and a prediction $s=\sigma(\text{logit})$ it is $-z\log s-(1-z)\log(1-s)$. The outcome model takes its mean over all tokens of an answer, then over answers; the process model over the steps. (The book prints a second outcome loss, of the *mean* logit; a reader asked which is meant, [#505](https://github.com/natolambert/rlhf-book/issues/505). That a step's score depends on the steps before it was made clear in [#389](https://github.com/natolambert/rlhf-book/pull/389).)

# %%
logits = torch.tensor([[0.0, 2.0, 0.0, 2.0]])      # four tokens, two steps of two
z, steps = torch.tensor([1]), torch.tensor([[-100, 1, -100, 0]])  # -100: no label
each = F.softplus(-logits)                         # -log s, where the label is 1
outcome = each.mean()
process = (each[0, 1] + F.softplus(logits)[0, 3]) / 2
print(f"outcome {outcome:.3f}   process {process:.3f}")
orm = rlhf.process_reward.outcome_loss(logits, z, torch.ones(1, 4))[0]
prm = rlhf.process_reward.process_loss(logits, steps)[0]
claim("the package computes the same two losses",
      bool((orm - outcome).abs() < 1e-6) and bool((prm - process).abs() < 1e-6))

# %% [markdown]
# An outcome model gives a *probability*. Is it one? A *reliability curve* collects all tokens at which it says about 70 %, and asks whether 70 % of those answers end right. We train a linear outcome model on the sums that our model wrote, and test it on new sums: its own, and those of an early checkpoint that is mostly wrong. <!-- fact -->

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
pool, early = some.answers.select(family="sum"), comparisons.early_sums()
new = (sums.total(pool) % 4 == 3) | torch.isin(sums.total(pool), sums.total(early))
learn, test, other = (sums.read_pool(model, tokenizer, part) for part in
                      (pool.take(~new), pool.take(new), early))
states, z = learn.tokens(learn.states)
weight = sums.logistic(states[::3], z[::3])        # every third token is enough
own, own_z = test.tokens(sums.logit(test.states, weight))
far, far_z = other.tokens(sums.logit(other.states, weight))
shift = metrics.base_rate_shift(far, far_z.mean().item())
curves = {"policy: its own sums": (own, own_z), "rejected: early": (far, far_z),
          "chosen: early, shifted": (far + shift, far_z)}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
found = {name: metrics.reliability(logit.sigmoid(), y)
         for name, (logit, y) in curves.items()}
show(plots.line_plot(found | {"reference: perfect": ([0, 1], [0, 1])},
                     x_label="predicted probability of a right result",
                     y_label="share that was right",
                     title="One constant repairs most of it"),
     "Reliability curves of an outcome model: near the diagonal on sums of its own "
     "model, far below it on early ones, near it again after one shift.")

# %% tags=["hide-input"]
fine, bad, shifted = (metrics.expected_calibration_error(logit.sigmoid(), y)
                      for logit, y in curves.values())
claim("calibrated on its own sums, not on the early ones; a constant repairs over half",
      fine < 0.1 and bad > fine + 0.1 and shifted < bad / 2, kind="T")
for name, x in (("ece", fine), ("ece2", bad), ("ece3", shifted)):
    quote(name, f"{x:.2f}")
quote("rates", f"{own_z.mean():.0%} and {far_z.mean():.0%}".replace("%", " %"))

# %% [markdown] rlhf={"part": "wrong"}
# The mean distance from the diagonal is <!-- out ece --> on its own sums, <!-- out ece2 --> on the early ones, and <!-- out ece3 --> after one constant is added to all logits. So most of the error is a *base rate*: right results are <!-- out rates --> of the two. The model expects what it has seen. (With so few right results, little is left to be wrong about.)
#
# > **Keep this.** Ask of every score: which token, which label, and whose answers was it trained on?
#
# ## What goes wrong
#
# | the wrong line or habit | what you see | what tells |
# |---|---|---|
# | `log(1 + exp(r_r - r_c))` | fine for weeks, then `inf` | the loss at a gap of −100 |
# | `attention.sum(1) - 1` | nothing | one row, padded left and right |
# | a test on labels of the same people | a fine accuracy | accuracy on pairs of equal length |
# | a mean score over all prompts | a number that drifts | add a constant to one prompt: the loss stays |
# | a second epoch | a lower training loss | the loss on new pairs |
#
# The third, live, with its cure. We keep only pairs of equal length (within one word), and throw the other labels of the wordy person away:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
apart = (some.words[labels["wordy"][:, 0]] - some.words[labels["wordy"][:, 1]]).abs()
balanced = labels["wordy"][apart <= 1]
cured = some.states @ train(balanced)
both = {"all labels": (len(apart), some.interval(score["wordy"])),
        "pairs of equal length": (len(balanced), some.interval(cured))}
rlhf.book.table(both, ["pairs", "agrees with the truth"],
                digits={"agrees with the truth": "%"})

# %% tags=["hide-input"]
claim("fewer, balanced labels of the same person make a better model",
      some.right(cured) > some.right(score["wordy"]) + 0.03, kind="T")

# %% [markdown] rlhf={"part": "gpt2"}
# Throwing labels away made the model better. It works for a bias that you have guessed; a bias that nobody thinks of stays.
#
# ## At GPT-2 size
#
# The same two people and the same answers, read by SmolLM2 with 135 million parameters (taught the village's manner by a LoRA adapter). Fewer prompts, five sets of labels, one linear head on its states; recorded once, nothing tuned.

# %%
large = rlhf.book.recorded("07_smollm2")
lines = {"proxy: score, wordy": large.seeds("wordy"),
         "policy: score, noisy": large.seeds("noisy")}
show(plots.panels({"change of score, standard deviations": lines},
                  x_label="empty sentences added",
                  title="SmolLM2: filler pleases the wordy person's model, too"))

# %%
one = large.shown[3]
rise = one["change"]["wordy"]
cards(one["prompt"], [("as it is", one["plain"], one["gold"][0]),
                      (f"score {rise:+.1f}", one["filled"], one["gold"][1])])
rlhf.book.table({name: {"teacher": large.right["teacher"][name],
                        "its model": rlhf.book.records.over_runs(
                            [one["right"] for one in large.students[name].values()])}
                 for name in ("noisy", "wordy")},
                digits="%", corner="agrees with the truth",
                note="344 test pairs; ± over five sets of 1,070 labels")

# %% tags=["hide-input"]
for name in ("noisy", "wordy"):
    quote(f"large.{name}", f"{large.means(name)[-1]:.1f}")
quote("large.logp", f"{100 * large.right['log-probability']:.0f} %")

# %% [markdown] rlhf={"part": "exercises"}
# What carries over: four empty sentences buy <!-- out large.wordy --> standard deviations from the wordy person's model, and on the truth it is hardly better than a coin. The noisy person's model pays a little for them, too (<!-- out large.noisy -->); perhaps a thousand labels do not fix every direction of 576 numbers. Here as well the log-probability of the model that wrote the answers is the better judge of slips: <!-- out large.logp -->.
#
# ## Exercises
#
# ### Exercise 7.7 · The pairwise loss with a margin
#
# A person also says *how much* better the chosen answer is. Llama 2 asked the scores to be that far apart: the chosen answer must beat the rejected one by $m$. Change the loss of idea 1 so that a gap of exactly $m$ costs as much as a tie does there.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex07-7", "locked": false, "schema_version": 3, "solution": true, "task": false}
def margin_loss(chosen, rejected, margin):
    """Three (B,): scores, scores, wanted distances -> the loss, one number."""
    ### BEGIN SOLUTION
    return -F.logsigmoid(chosen - rejected - margin).mean()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex07-7-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("7.7", margin_loss)
### BEGIN HIDDEN TESTS
check("7.7", margin_loss, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# At a gap of m the argument of the sigmoid should be 0. And which function of torch survives a gap of −600?
# </details>
#
# <!-- solution 7.7 -->
#
# ### Exercise 7.8 · What does an error cost, in words?
#
# A person has a length bias of $b$ points for ten words and noise τ. One answer has $d$ points less true reward. How many words more does it need to be chosen with probability $p$? On paper first: how many words hide a wrong fact (3 points) from our wordy person, so that both answers are chosen equally often? The four empty sentences have 31 words.
#
# ![Line plot: the score of the wordy person's model rises with each empty sentence, that of the noisy person's model and the true reward do not](figures/07_filler.png)

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex07-8", "locked": false, "schema_version": 3, "solution": true, "task": false}
def words_needed(d, b, tau, p):
    """Four numbers -> words."""
    ### BEGIN SOLUTION
    log_odds = torch.tensor(p, dtype=torch.float64).logit().item()
    return 10 * (d + tau * log_odds) / b
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex07-8-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("7.8", words_needed)
### BEGIN HIDDEN TESTS
check("7.8", words_needed, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# The worse answer's utility minus the better one's is b · words / 10 − d. Divide by τ, put it into σ, and solve for the words.
# </details>
#
# <!-- solution 7.8 -->
#
# ### Exercise 7.9 · Judge a result
#
# A colleague reports: "Our reward model agrees with 84 % of held-out labels, and its answers have become longer and longer during RL. Is it biased, or are long answers better?" Which test can tell? (a) More held-out labels of the same people. (b) Its accuracy, by trusted experts, on pairs of equal length and on the others. (c) The training loss. (d) Its mean score before and after RL. <!-- fact -->

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex07-9", "locked": false, "schema_version": 3, "solution": true, "task": false}
def which_test():
    """-> "a", "b", "c" or "d"."""
    ### BEGIN SOLUTION
    return "b"  # the same people share the bias; length must be held fixed
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex07-9-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("7.9", which_test)
### BEGIN HIDDEN TESTS
check("7.9", which_test, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# Which of the four numbers would be the same for a model that learned the truth and for one that counts words?
# </details>
#
# <!-- solution 7.9 -->
#
# ## Retell it
#
# 1. A reward model is a language model with a linear head at the answer's last token, fitted so that the choices people made become probable.
# 2. It knows differences within a prompt; a score alone, or an average over prompts, says nothing.
# 3. Random errors of labellers average out, as far as the network shows what matters; consistent ones are learned, and first of all what is easy to read, such as length.
# 4. New labels of the same people cannot show this: there the biased model looked better than the honest one; on the truth it was a coin.
# 5. Outcome, process and value models differ in the label of each token, and their probabilities hold for answers like those they were trained on.
#
# *In the book*: [Reward Modeling](https://rlhfbook.com/c/05-reward-models), chapter 5. *Deeper*: [rankings, ties and margins, steps and outcomes, calibration, ensembles, the whole network trained](deeper/07_reward_modeling.ipynb). *Next*: chapter 8, on regularization: how far a policy may follow such a score.
#
# <!-- nav -->
