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
# ![A short answer, and below it the same answer with one to four sentences added that say nothing; bars of its score grow with every sentence added, while the true reward beside them stays the same](figures/07_hero.png)
#
# A *reward model* learned from 8,000 comparisons which answers one person prefers. Then four sentences that say nothing raise its score by <!-- out rise --> (average over 32 short answers that it had not seen): it gives odds of <!-- out odds --> to 1 that this person prefers the longer answer. The true reward does not move. On this page you build that model, and find out who taught it this and why the usual test hides it.
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
from rlhf_minimal.evaluate import comparisons
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
# A person compares two answers to one prompt. Their *utilities* $u_1$ and $u_2$ say what the answers are worth to this person, the noise, or *temperature*, τ how often the person slips: the first is chosen with probability $\sigma\big((u_1-u_2)/\tau\big)$, where $\sigma(x)=1/(1+e^{-x})$.
#
# To our *noisy* person an answer is worth its true reward, but the noise is large. The *wordy* person has little noise, and adds a bonus: ten words more are worth 2.5 points. A pair that this one got wrong: <!-- fact -->

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
# A reward model is a language model with another head. It reads prompt and answer; its hidden state at the end of the answer (here 192 numbers) goes through one linear layer, and out comes one number, the *score* $r$. The loss asks that the chosen answer scores above the rejected one (idea 1). We train the head alone, on stored states; the deeper notebook trains the whole network.

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

# %% tags=["hide-input"]
theirs = some.states @ rlhf.reward_model.fit_head(
    *(some.states[rows] for rows in labels["noisy"].T), l2=0.1)  # Newton's method
claim("the package fits the same head (difference below 5 % of the spread)",
      (score["noisy"] - theirs).std() < 0.05 * theirs.std())
true, bad = ([some.right(s, two) for s in everyone.values()] for two in (None, harm))
claim("the noisy person's model is ahead on the truth, and behind on new labels; on "
      "requests for harm it is far ahead of the log-probability",
      true[0] > true[1] + 0.05 and seen[1][0] > seen[0][0] + 0.02
      and bad[0] > bad[3] + 0.15,
      {"truth": true, "new labels": seen[:2], "harm": bad}, kind="T")
rlhf.book.settled("b", "Its model is clearly better than a coin; the other one is not.")
names = ("noisy", "wordy", "len", "logp", "learned", "usual", "seen", "seen2")
shares = true + bad[::3] + [share for share, _ in seen[:2]]
for name, share in zip(names, shares, strict=True):
    quote(name, f"{100 * share:.0f} %")
alike, half = some.interval(score["noisy"], some.of("lookalike"))
quote("alike", f"{100 * alike:.0f} ± {100 * half:.0f} %")
quote("ceiling", f"{100 * some.agreement(noisy):.0f} %")

# %% [markdown]
# The first column is what a project sees: accuracy on new labels of the same people. It recommends the wordy person's model (<!-- out seen2 --> against <!-- out seen -->; on the noisy person's labels even the truth gets only <!-- out ceiling -->). On the truth that model is right in <!-- out wordy -->, the noisy person's in <!-- out noisy -->.
#
# The cheapest rival, the *log-probability* of an answer under the model that wrote it (mean per token), needs no labels and beats both: <!-- out logp -->. Our reading: many faults in this world are slips, and slips are improbable. On requests for harm, where the usual answer is not the wanted one, it is a coin (<!-- out usual -->), and the noisy person's model is right in <!-- out learned -->. On requests that only *sound* harmful that model is no better than a coin (<!-- out alike --> of 89 pairs); perhaps it learned to like refusals.
#
# What has the wordy person's model learned? We add empty sentences to 32 short test answers, and read the scores again. A difference of two scores is a *log-odds* (idea 1): +3 means odds of $e^3\approx20$ to 1 for the longer answer.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
short, filler = some.short(32), comparisons.FILLER
prompts, plain = some.asked(short), some.answers.texts(short, tokenizer)
change, gold = {name: [] for name in weights}, []
for n in range(5):
    longer = [" ".join([text, *filler[:n]]) for text in plain]
    states = comparisons.states_of(model, tokenizer, prompts, longer)
    gold += [[rlhf.village.gold(p, t) for p, t in zip(prompts, longer, strict=True)]]
    for name, weight in weights.items():
        change[name].append((states @ weight - score[name][short]).tolist())
gold, change = torch.tensor(gold), {k: torch.tensor(x) for k, x in change.items()}
k = gold[0].argmax().item()                        # the first perfect answer

# %% tags=["hide-input", "hero", "nbval-ignore-output"] rlhf={"ignore_reason": "trained", "drawing": true}
most = change["wordy"][:, k]
show(scores.grown(prompts[k], [plain[k], *filler], most, gold[:, k], note_below=
                  f"score of one reward model: {most[-1]:+.1f} is odds of "
                  f"{most[-1].exp():.0f} to 1"))

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
means = {name: x.mean(1).tolist() for name, x in change.items()}
lines = {"proxy: wordy": means["wordy"], "policy: noisy": means["noisy"]}
show(plots.panels({"change of the score, log-odds": lines},
                  x_label="empty sentences added",
                  title="Filler pleases only the wordy person's model",
                  note="32 test answers; no true reward changed"))
quote("filled", longer[k])
quote("rise", f"{means['wordy'][-1]:.1f}")
quote("odds", f"{change['wordy'][-1].mean().exp():.0f}")

# %% tags=["hide-input"]
claim("four empty sentences: odds over 7 to 1 from the wordy person's model, below 2 "
      "to 1 from the other; the true reward stays",
      means["wordy"][-1] > 2 and means["noisy"][-1] < 0.69
      and bool((gold == gold[0]).all()), means, kind="T")

# %% [markdown] rlhf={"part": "idea"}
# ## Idea 1: A difference of scores is a log-odds
#
# Give every answer a positive *strength* $p$, and let it win in proportion (Bradley and Terry 1952). A network may return negative numbers, so write $p=e^{r}$. For a chosen answer $y_c$ and a rejected one $y_r$:
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
# The *push* on a pair is $\sigma(r_r-r_c)$, the probability of the other choice. A pair that the model had wrong pushes most, even where the label is the mistake.
#
# The last claim is the important one: only differences *within a prompt* enter. So a score of 3 does not mean "good"; it means "preferred to a score of 2 for the same prompt, with odds of $e^1\approx2.7$". (At best it is a utility divided by the noise τ: same taste, more noise, smaller scores.) A comparison cannot tell which prompts got good answers. Averages over *different* prompts cannot be compared; over the same prompts, as before and after filler, they can.

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** A reward model is fitted to differences within a prompt. Compare scores within a prompt only.
#
# ## Idea 2: The score is read at one token
#
# A language model reads from left to right, so only the state at the *last* token has seen the whole answer. In a batch, shorter rows are filled up with *padding*; a mask, the *attention*, says which tokens are real. As in GPT-2, the padding token is the end token itself, which is also the real last token of every finished answer. Four ways to find the last token, on one row that was padded on the left:

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
# Padding on the left shifts everything, so `sum − 1` lands too early. The last column is wrong under right padding. The last way takes the real end token for padding. Only the first is right on both sides. What does a wrong place cost the noisy person's head? We read all test pairs, and those in which an answer was cut at 64 tokens. A cut answer has no end token of its own; it gets one, except in the last row:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
judge = rlhf.reward_model.RewardModel(model, weights["noisy"].float())
found, at_cut = (some.read_at(model, tokenizer, two, weights["noisy"])
                 for two in (some.test, some.cut))
as_cut = some.read_at(model, tokenizer, some.cut, weights["noisy"], close=False)
rows = {name: [found[name], at_cut[name]] for name in found}
rows["last real, no end added"] = [None, as_cut["last real"]]
rlhf.book.table({name: [x and [100 * v for v in x] for x in two]
                 for name, two in rows.items()},
                [f"{len(some.test):,} test pairs", f"{len(some.cut)} with a cut one"],
                digits=1, corner="where the score is read",
                note="agrees with the truth, in per cent")

# %%
pads = rlhf.tensors.pad_left, rlhf.tensors.pad_right
both = [judge(*pad([some.row(i, tokenizer) for i in short[:4]])) for pad in pads]
claim("the package's score does not depend on the side of the padding",
      (both[0] - both[1]).abs().max() < 1e-4 * both[0].abs().max().clamp(min=1))
claim("read again, the head is right as often as on its stored states",
      abs(found["last real"][0] - some.right(score["noisy"])) < 0.005)
claim("at sum − 1 it is worse, and on a cut answer that got no end token",
      found["sum − 1"][0] < found["last real"][0] - 0.02
      and as_cut["last real"][0] < at_cut["last real"][0] - 0.05, rows, kind="T")
for name, read in ("closed", at_cut), ("open", as_cut):
    quote(name, f"{100 * read['last real'][0]:.0f} %")

# %% [markdown] rlhf={"part": "idea"}
# Nothing crashes. The last row is the most treacherous: the head learned to read end tokens. Read at the token where an answer was cut, it is right in <!-- out open --> of these pairs instead of <!-- out closed -->; they are few, so an average hides it. (An earlier version of our code did this.) Reading the wrong token was reported in several libraries ([pytorch/rl](https://github.com/pytorch/rl/issues/3887), [transformers](https://github.com/huggingface/transformers/issues/35352), [OpenRLHF](https://github.com/OpenRLHF/OpenRLHF/issues/300)).
#
# > **Keep this.** Give a cut answer its end token. Read the score at the last token whose attention is 1, and test it: pad on the left, pad on the right, compare.
#
# ## Idea 3: More labels remove noise, not bias
#
# Why do the models of two equally good teachers differ? First an ideal student: it sees the very facts that the true reward is made of (is it true, is it rude, …) and the number of words, and has only to find their weights. Five sets of labels for each number of pairs: <!-- fact -->

# %%
sizes = [32, 128, 512, 2048, len(some.train)]
truth = some.truth()                               # (8192, features)
sets = run.seeds(5)
ideal = {p.name: some.students(p, sizes, x=truth, l2=1e-3, seeds=sets) for p in people}
real = {p.name: some.students(p, sizes, seeds=sets) for p in people}

# %%
wins, loses = labels["wordy"][some.gold[labels["wordy"]].diff()[:, 0] > 0].T
longer = (some.words[wins] > some.words[loses]).double().mean()
quote("same", f"{100 * longer:.0f} %")             # of the wordy person's errors
both = {"a student that sees the facts": ideal, "a head on the network's state": real}
looks = {"noisy person": "policy", "wordy person": "proxy", "teachers": "reference"}
show(plots.panels(
    {what: {f"{name} person": y.tolist() for name, y in of.items()}
     | {"teachers": [some.agreement(noisy)] * len(sizes)} for what, of in both.items()},
    roles=looks, ticks=sizes, share=True, zero=None, x_label="number of labelled pairs",
    note="agreement with the truth",
    title="More labels remove noise; bias sets the ceiling"))

# %% tags=["hide-input"]
ends = [of[name][:, -1] for of in (ideal, real) for name in ("noisy", "wordy")]
claim("facts: over 90 % from the noisy person, near the teacher's share from the wordy "
      "one; network's state: each noisy set ends above each wordy set",
      ends[0].mean().item() > 0.9 and bool(ends[2].min() > ends[3].max())
      and abs(ends[1].mean().item() - some.agreement(wordy)) < 0.05, kind="T")
for name, share in zip(("ideal", "ideal2", "real", "real2"), ends, strict=True):
    quote(name, f"{100 * share.mean():.0f} %")

# %% [markdown]
# The noisy person's slips cancel, and the ideal student becomes far better than its teacher: <!-- out ideal -->. In <!-- out same --> of the wordy person's errors the longer answer was chosen. There is little to average: the student ends where its teacher is (<!-- out ideal2 -->).
#
# Bias explains a ceiling near the teacher, not why the real model stops at <!-- out real2 -->. Ask the head itself two questions, with labels that contain no error: <!-- fact -->

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
exact = rlhf.village.Annotator(name="exact", temperature=0.01)
ruler = rlhf.village.Annotator(name="ruler", temperature=0.01, gold_weight=0.0,
                               length_bias=1.0)    # cares for nothing but words
head = {p.name: some.states @ some.head(p, run.seed) for p in (ruler, exact)}
read = {"easy": some.longer(head["ruler"]), "hard": some.right(head["exact"])}
longer = {name: some.longer(s) for name, s in score.items()}
longer["truth"] = some.longer(some.gold)
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
for name, x in (read | {"longer": longer["wordy"], "long": longer["truth"]}).items():
    quote(name, f"{100 * x:.0f} %")

# %% [markdown]
# Taught the exact truth, the head is right in <!-- out hard -->; the noisy labels taught it <!-- out noisy -->. So noise cost it little; what it cannot read off the state cost the rest. Length it reads easily (<!-- out easy -->), and takes that first. The wordy person's model prefers the longer answer in <!-- out longer --> of the pairs of unequal length, while the longer answer is the better one in <!-- out long -->. *A person who is right three times in four taught a model that is right half of the time: what the head could read of quality was drowned by length, which is easier to read.* (That it could read some, the cure below shows.) Now you: choose a teacher for the ideal student. Bias is in points for ten words. <!-- fact -->

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
scores.teacher_and_student(some.lesson(run.seed), bias=[0.0, 2.5],
                           noise=[0.25, 1.5, 6.0],
                           pairs=[64, 512, len(some.train)]).show()

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** More labels cancel errors that point nowhere. Errors that point somewhere are learned, first of all those that are easy to read.
#
# ## Four models that score
#
# Four models, one network: they differ in *which token gets which label*. An answer to 43 + 29 with the right result and one wrong step (the first column carries 1, so the second is 4 + 2 + 1):

# %% rlhf={"drawing": true}
tokens = ["3+9", "=12.", "4+2", "=6.", "Result", "is", "72.", "end"]
show(scores.where_labels(tokens, {
    "reward": [""] * 7 + ["won"], "outcome": ["1"] * 8,
    "process": ["", "1", "", "0", "", "", "1", ""], "value": ["R"] * 8},
    title="Which token gets which label"))

# %% [markdown]
# | model | question | label |
# |---|---|---|
# | reward | how good is the whole answer? | which of two was chosen |
# | outcome | will the result be right? | the result, at every token |
# | process | is this step right? | each step, at its end |
# | value | what will *this policy* still earn from here? | R, the return of this policy's own samples |
#
# (A *generative judge*, chapter 13, has no head: it is asked in words.) The reward model has the loss of idea 1, the value function learns by squared error, the other two by cross-entropy. The deeper notebook has these losses, and an outcome model that is calibrated on its own policy's answers and not on another's.

# %% [markdown] rlhf={"part": "wrong"}
# > **Keep this.** Ask of every score: which token, which label, and whose answers was it trained on?
#
# ## What goes wrong
#
# | the wrong line or habit | what you see | what tells |
# |---|---|---|
# | `log(1 + exp(r_r - r_c))` | fine for weeks, then `inf` | the loss at a gap of −100 |
# | a cut answer without its end token | a score like any other | accuracy on cut answers: <!-- out open --> |
# | one accuracy, on labels of the same people | a fine number | the same labels, split by length |
#
# The third, live, with its cure. We split the *new labels of the same person* into pairs of equal length (within one word) and others. Then we train on the wordy person's pairs of equal length only:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
balanced = labels["wordy"][some.level(labels["wordy"])]
cured = some.states @ train(balanced)
level = some.level(some.test)
rows = {p.name: (p, labels[p.name], score[p.name]) for p in people}
rows["wordy, equal"] = wordy, balanced, cured
split = {name: [len(two), *(some.confirmed(s, person, some.test[on])
                            for on in (level, ~level)), some.interval(s)]
         for name, (person, two, s) in rows.items()}
rlhf.book.table(split, columns := ["labels", "equal", "others", "truth"],
                corner="trained on", digits=dict.fromkeys(columns[1:], "%"),
                note="equal, others: new labels of its teacher, on test pairs of equal "
                "length and on the others; truth: on all")

# %% tags=["hide-input"]
claim("fewer, balanced labels of the same person make a better model; at equal length "
      "the old one agrees far less with its teacher",
      some.right(cured) > some.right(score["wordy"]) + 0.03
      and split["wordy"][1][0] < split["wordy"][2][0] - 0.08, kind="T")
for name, x in zip(("level", "other"), split["wordy"][1:3], strict=True):
    quote(name, f"{100 * x[0]:.0f} %")

# %% [markdown] rlhf={"part": "gpt2"}
# At equal length the wordy person's model agrees with its own teacher in <!-- out level -->, elsewhere in <!-- out other -->. Throwing labels away made it better. That works for a bias that you have guessed; a bias that nobody thinks of stays.
#
# ## At GPT-2 size
#
# The same two people and the same answers, read by SmolLM2 with 135 million parameters (with a LoRA adapter for the village's manner). Fewer prompts, five sets of labels, a linear head; recorded once, nothing tuned.

# %%
large = rlhf.book.recorded("07_smollm2")
lines = {"proxy: wordy": large.seeds("wordy"),
         "policy: noisy": large.seeds("noisy")}
show(plots.panels({"change of the score, log-odds": lines},
                  x_label="empty sentences added",
                  title="SmolLM2: filler pleases the wordy person's model most"))

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
                note="± over five sets of 1,070 labels; the 344 test pairs alone add "
                f"at least ± {100 * 1.96 * (0.25 / 344) ** 0.5:.0f} points")

# %% tags=["hide-input"]
for name in ("noisy", "wordy"):
    quote(f"large.{name}", f"{large.means(name)[-1]:.1f}")
quote("large.logp", f"{100 * large.right['log-probability']:.0f} %")

# %% [markdown] rlhf={"part": "exercises"}
# Four empty sentences raise the score of the wordy person's model by <!-- out large.wordy --> on average; on the truth it is hardly better than a coin. The noisy person's model pays a little, too (<!-- out large.noisy -->). Here as well the log-probability under the model that wrote the answers agrees with the truth more often: <!-- out large.logp -->.
#
# ## Exercises
#
# (7.1 to 7.6: deeper notebook.) <!-- fact -->
#
# ### Exercise 7.7 · The pairwise loss with a margin
#
# A person also says *how much* better the chosen answer is, and Llama 2 asked the scores to be that far apart: the chosen must beat the rejected one by $m$. Change the loss of idea 1 so that a gap of exactly $m$ costs as much as a tie does there.

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
# A person has a length bias of $b$ points for ten words and noise τ. One answer has $d$ points less true reward. How many words more does it need to be chosen with probability $p$? On paper first: how many words make our wordy person choose an answer with a wrong fact (3 points) equally often? The four empty sentences have 31 words:
#
# > <!-- out filled -->

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
# A colleague reports: "Our reward model agrees with 84 % of held-out labels, and the policy's answers have become longer during RL. Is it biased, or are long answers better?" Which test can tell? (a) More held-out labels of the same people. (b) Its accuracy, by trusted experts, on pairs of equal length and on the others. (c) The training loss. (d) Its mean score before and after RL. <!-- fact -->

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
# 1. A reward model is a language model with a linear head at the last token, fitted so that people's choices become probable.
# 2. It knows differences within a prompt; a score alone, or averages over different prompts, say nothing.
# 3. Random errors average out, as far as the network shows what matters; consistent ones are learned, first what is easy to read, such as length.
# 4. The average accuracy on new labels of the same people hid this: there the biased model looked better; on the truth it was a coin. Split by length, the same labels showed it.
# 5. Ask of a score where it is read, and which token got which label.
#
# *In the book*: [Reward Modeling](https://rlhfbook.com/c/05-reward-models), chapter 5. *Deeper*: [rankings, ties and margins, steps and outcomes, calibration, ensembles, the whole network trained](deeper/07_reward_modeling.ipynb). *Next*: how a policy climbs such a score (chapter 11), and how far it should (chapter 17).
#
# <!-- nav -->
