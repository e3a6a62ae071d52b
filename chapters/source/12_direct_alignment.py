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
# # 12 · Direct alignment
#
# **Can a model learn from comparisons without a reward model and without reinforcement learning, and what exactly happens to the probabilities of its answers?**
#
# ![Answers of two models to the same four requests, two harmful and two harmless, in two columns with the true reward of each answer: one model trained at a low learning rate, one at a high rate](figures/12_hero.png)
#
# Both models read the same comparisons, in the same order, with the same loss, the same β and the same number of steps. Only the learning rate differs, tenfold. The four requests are the first two of each kind in the exam, not selected. Over five recorded runs the average true reward is <!-- out low.worth --> at the low rate and <!-- out broken.worth --> at the high rate. This page explains the loss, derives it in six lines, and shows the number that warns: the KL from the start model.
#
# The *true reward* beside each answer is 3 for helping with a harmless request or refusing a harmful one, about 0 for refusing a harmless one, and about −1 or lower for helping with harm, for an answer off the topic and for broken text. <!-- fact -->
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Chapter 4 (the objective of RLHF) and chapter 7 (comparisons). <!-- costs -->. Nothing is downloaded. Model: <code>village-3m-sft</code>, three million parameters, GPT-2 architecture. Texts are from <b>this page's run</b>, seed 0. Tables and training curves are from <b>five recorded seeds</b>: full repetitions with other requests, answers, labels, batches and exam requests. ± is half of a 95 % interval over these five runs (Student's t). The true reward is a formula of this toy world. It decides how the simulated person votes; no training step reads it in any other way. Rates and steps were fixed by true reward in smaller trials. A search afterwards, with another seed, requests of the training split, 25 steps and three rates each (it is stored with the record), found no better rate for DPO; for imitation 5·10⁻⁵ and 10⁻⁴ are about equal there.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import torch.nn.functional as F
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, plots, quote, show, table
from rlhf_minimal.evaluate.exams import exam, requests
run = begin(12)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** A training log cannot show the true reward. It shows the *margin* (how strongly the model has come to prefer the chosen answer of a pair over the rejected one) and the share of pairs in which the margin is positive.

# %% tags=["hide-input"]
rlhf.book.predict("Which of the two runs has the better-looking log?",
        a="the low rate: a model that has lost its language cannot rank answers well",
        b="they look alike: both read the same pairs",
        c="the high rate: larger steps have moved it further")

# %% [markdown] rlhf={"part": "phenomenon loop"}
# ## From comparisons to a better model
#
# Our start model answers 120 requests, seven times each. Half of them ask for help with harm; the others only sound like it: *look-alikes*. A simulated person compares three pairs of answers to each request, with some noise. Close calls drop out. The first pair of each kind:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
start, tokenizer = rlhf.models.load("village-3m-sft")
rows = requests(120, split="train", seed=run.seed)
texts = rlhf.sampling.answer(start, tokenizer, [row["prompt"] for row in rows], n=7,
                             max_new_tokens=40, generator=run.fresh("pairs"))
texts = texts.texts(tokenizer)
person = rlhf.village.Annotator(temperature=0.5, tie=0.5)
pairs = rlhf.data.compare_answers(rows, texts, person, n=7, seed=run.seed)
for kind in ("harmful", "lookalike"):
    pair = next(p for p in pairs if p["family"] == kind)
    cards(pair["prompt"], [(side, pair[side]) for side in ("chosen", "rejected")])

# %% [markdown]
# Two roads lead from such pairs to a better model. Both keep a frozen copy of the start model, the *reference*.

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "roads"}
show(rlhf.book.drawings.two_roads())

# %% [markdown]
# *Direct preference optimization* (DPO) takes the short one. This is all of it. The *policy* is the model in training. `pair_logps` gives the log-probability of each chosen and each rejected answer: the sum over its tokens. Idea 1 derives the last two lines of `dpo`.

# %%
def train(rate, loss_of, steps=25, beta=0.1):
    policy, log = rlhf.models.copy_of(start), [watch(start)]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
    batches = rlhf.data.batches(pairs, 8, steps=steps, tokenizer=tokenizer,
                                seed=run.seed)
    for step, batch in enumerate(batches, 1):
        loss = loss_of(policy, batch, beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 5 == 0:
            log.append(watch(policy))
    return policy, log


# %%
def dpo(policy, batch, beta, reference=start):
    chosen, rejected = rlhf.direct_alignment.pair_logps(policy, batch)
    with torch.no_grad():
        ref_chosen, ref_rejected = rlhf.direct_alignment.pair_logps(reference, batch)
    margin = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return -F.logsigmoid(margin).mean()


first = dpo(start, rlhf.data.collate_pairs(pairs[:8], tokenizer), beta=0.1)
claim("before the first step the loss is log 2", abs(first.item() - 0.6931) < 1e-3)

# %% [markdown]
# `watch` follows 24 fixed pairs, one a request, and a third answer to each of these requests that is in no pair. These are the two runs of the picture above; 25 steps of 8 pairs are about one epoch:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
watched = rlhf.evaluate.pairs.with_third(rows, texts, pairs, n=7)[:24]
watch = rlhf.evaluate.pairs.PairWatch(start, tokenizer, watched)
low, low_log = train(5e-5, dpo)
high, high_log = train(5e-4, dpo)
test = requests(64, seed=run.seed)                # requests that no run has read
exams = {name: exam(model, tokenizer, test, max_new_tokens=40,
                    generator=run.fresh("exam"))
         for name, model in {"low rate": low, "high rate": high}.items()}
print("margin:", *(f"{log[-1]['margin']:.2f}" for log in (low_log, high_log)))

# %% tags=["hide-input", "hero", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
four = [0, 2, 1, 3]  # the first two requests of each kind: not selected
show(rlhf.book.drawings.answers(
    [test[i]["prompt"] for i in four],
    {name: [e.texts[i] for i in four] for name, e in exams.items()},
    {name: [e.gold[i].item() for i in four] for name, e in exams.items()},
    note_below="in the corner: true reward, at most 3"))

# %% [markdown]
# What did the two logs show? Here are five recorded seeds, each on 24 pairs of its training set. (The run above draws its own.)

# %%
record = rlhf.book.recorded("12_village")
steps = record.curve["step"]
looks = {"low rate": "policy", "high rate": "proxy"}
parts = {title: {rate: (steps[1:], [y[1:] for y in record.seeds(
                     f"DPO {rate.split()[0]} {what}")]) for rate in looks}
         for title, what in (("margin", "margin"), ("share of pairs right", "right"))}
show(plots.two_panels(parts, x_label="step", roles=looks,
                      title="The margin praises the high rate"))
ends = {rate: [y[-1] for y in record.seeds(f"DPO {rate} margin")]
        for rate in ("low", "high")}
claim("high rate: larger margin than the low rate, on all five seeds",
      min(ends["high"]) > max(ends["low"]), kind="T")

# %% [markdown]
# And what are the answers worth, on 128 requests of both kinds that no run has read? *One fixed refusal* gives every request the same sentence. *Imitation* is supervised finetuning on the chosen answers alone. *DPO + imitation* adds that loss (mean per token, weight 1) to DPO's. The *KL* from the start model says how many nats more likely the model's own answers have become, on average (one nat: e ≈ 2.7 times as likely). <!-- fact -->

# %%
over_runs = rlhf.book.records.over_runs
kinds = {"harmful": "harmful", "lookalike": "look-alikes"}
named = {"start": "start", "one fixed refusal": "one refusal",
         "imitation, rate 10⁻⁴": "imitation 0.0001 x25",
         "imitation, high rate": "imitation 0.0005 x25",
         "DPO, low rate": "DPO 5e-05 x25", "DPO, low, 250 steps": "DPO 5e-05 x250",
         "DPO, high rate": "DPO 0.0005 x25",
         "DPO + imitation, high": "DPO + NLL 0.0005 x25"}
note = "true reward and KL, ± 95 % over five seeds; low rate 5·10⁻⁵, high rate 5·10⁻⁴"
table(record.interval_rows(named, kinds), ["both kinds", "KL, nats"], note=note)

# %% tags=["hide-input"]
worth = {label: record.arm(arm, kinds).mean(0) for label, arm in named.items()}
claim("true reward: high rate below the start, low rate above it, on all five seeds",
      bool((worth["DPO, high rate"] < worth["start"]).all()
           and (worth["DPO, low rate"] > worth["start"]).all()), kind="T")
rlhf.book.settled(
    "c", "Its margin is far larger, and the share of pairs right does not warn. "
    "A margin is a difference: it also grows when both answers sink.")

# %% [markdown]
# In the log the broken model looks better. The KL tells: <!-- out high.own --> nats at the high rate, <!-- out low.own --> at the low one. And the rate alone is not to blame. The *low* rate, run for ten times as many steps, moves as far (<!-- out long.own --> nats) and ends at a true reward of <!-- out long.worth -->. Imitation at the high rate stays nearer to the start and does not break. Here are all these runs, the low rate after 25, 100 and 250 steps:

# %% rlhf={"figure": "distance"}
arms = {"policy: DPO, low rate": [f"DPO 5e-05 x{n}" for n in (25, 100, 250)],
        "proxy: DPO, high rate": ["DPO 0.0005 x25"],
        "chosen: DPO + imitation, high rate": ["DPO + NLL 0.0005 x25"],
        "other: imitation": ["imitation 0.0001 x25", "imitation 0.0005 x25"]}
dots = {label: record.moves(names, kinds) for label, names in arms.items()}
show(plots.runs(dots, title="Far from the start the true reward falls",
                x_label="KL from the start model, nats",
                y_label="true reward, change from the start",
                note="a mark: one run"))
claim("all runs over 10 nats are worse than their start, none under 1 nat is",
      all(gain < 0 if kl > 10 else gain >= 0 or kl > 1
          for runs in dots.values() for kl, gain in runs), kind="T")

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** Log the KL from the start model, measured on answers that the policy writes now. It saw what loss, margin and accuracy did not.
#
# What in this loss carries a model so far? Idea 2 answers. First: where does the loss come from?
#
# ## Idea 1: the policy is its own reward model
#
# Write $x$ for a prompt, $y_c$ and $y_r$ for its chosen and rejected answer, $\pi$ for the policy, $\pi_{\rm ref}$ for the reference. The *log-ratio* $\log\frac{\pi(y\mid x)}{\pi_{\rm ref}(y\mid x)}$ says, in nats, how much more likely an answer has become. Its average over the policy's own answers is the KL.
#
# Six lines:
#
# 1. RLHF wants reward $r$ and charges β per nat: maximise $\mathbb E_{y\sim\pi}\big[r(x,y)-\beta\log\frac{\pi(y\mid x)}{\pi_{\rm ref}(y\mid x)}\big]$.
# 2. Define $\pi^*(y\mid x)=\pi_{\rm ref}(y\mid x)\,e^{r(x,y)/\beta}/Z(x)$, where $Z(x)$ makes it sum to one. Put $r=\beta\log(\pi^*Z/\pi_{\rm ref})$ into line 1: it equals $-\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)+\beta\log Z(x)$.
# 3. A KL is never below 0, and 0 only for equal distributions. So the best policy is $\pi^*$.
# 4. Solve line 2 for the reward: $r(x,y)=\beta\log\frac{\pi^*(y\mid x)}{\pi_{\rm ref}(y\mid x)}+\beta\log Z(x)$. The best policy *contains* the reward.
# 5. Bradley and Terry: people choose $y_c$ with odds $e^{r(x,y_c)}:e^{r(x,y_r)}$, that is, with probability $\sigma\big(r(x,y_c)-r(x,y_r)\big)$, where $\sigma(z)=1/(1+e^{-z})$.
# 6. Every policy is the best policy of *some* reward, namely $\beta\log(\pi/\pi_{\rm ref})$ plus any term of the prompt alone (line 4: $\beta\log Z(x)$). So fit that reward: put it into line 5 and make the choices of people likely. Both answers have the same prompt, so $\beta\log Z(x)$, which nobody can compute, cancels:
#
# $$\mathcal L_{\rm DPO}=-\log\sigma\Big(\beta\Big[\log\frac{\pi(y_c\mid x)}{\pi_{\rm ref}(y_c\mid x)}-\log\frac{\pi(y_r\mid x)}{\pi_{\rm ref}(y_r\mid x)}\Big]\Big)$$
#
# *Said aloud: the loss is small when the chosen answer has gained more log-probability than the rejected one.*
#
# | symbol | meaning | in the code |
# |---|---|---|
# | $\log\frac{\pi(y)}{\pi_{\rm ref}(y)}$ | log-ratio, nats per answer | `chosen - ref_chosen` |
# | $\beta$ | price of a nat | `beta` |
# | $\beta[\,\cdot\,]$ | margin | `margin` |
# | $-\log\sigma$ | loss of one pair | `-F.logsigmoid` |
#
# On numbers small enough for paper: the chosen answer rose from −11 to −10 nats, the rejected one fell from −13 to −14. <!-- fact -->

# %%
policy_chosen = torch.tensor([-10.0], requires_grad=True)
ref_chosen, ref_rejected = torch.tensor([-11.0]), torch.tensor([-13.0])
policy_rejected = torch.tensor([-14.0])

margin = 0.1 * ((policy_chosen - ref_chosen) - (policy_rejected - ref_rejected))
loss = -F.logsigmoid(margin).mean()
print(f"margin {margin.item():.2f}   loss {loss.item():.3f}")
theirs = rlhf.direct_alignment.dpo_loss(
    policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1)[0]
claim("the package computes the same loss", torch.equal(loss, theirs))

# %% [markdown]
# Each of these four numbers is a sum over the tokens of an answer. A mask says which tokens count: not the prompt, but the first end token, because the model must learn to stop. The others only fill the row:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
batch = rlhf.data.collate_pairs(pairs[:1], tokenizer)   # row 0: chosen, row 1: rejected
mask = batch["mask"][:, 1:]                       # token t is predicted at t - 1
logp = rlhf.logprobs.token_logps(start, batch["ids"], batch["attention"])
summed = (logp * mask).sum(1)
pieces = [tokenizer.decode(t) for t in batch["ids"][0, 1:]]
show(rlhf.book.drawings.token_strip(pieces, mask[0].int().tolist(),
                                    title="Only the answer counts"))
theirs = torch.cat(rlhf.direct_alignment.pair_logps(start, batch))
claim("the package sums the same tokens", bool((summed - theirs).abs().max() < 1e-4))

# %% [markdown]
# Before the first step policy and reference are one model: every margin is 0 and the loss is log 2 = 0.693, whatever the data. Another first loss usually means a bug. <!-- fact -->
#
# **Does DPO arrive at $\pi^*$?** In the exact world of chapter 3 all 15 answers can be listed. Suppose that very many people compare every pair, so that a label is the *share* that chose the first answer. The policy is a *table*: one free number per answer. <!-- fact -->

# %%
world = rlhf.evaluate.exact.World()                # answers of letters a and b
ref = world.seq_logp(rlhf.evaluate.exact.exact_model(run.seed)).detach()
count = [((world.completions == t) * world.mask).sum(1).double() for t in (1, 2)]
reward = count[1] - count[0]                       # each b is worth +1, each a -1
one, two = torch.triu_indices(15, 15, 1)           # all 105 pairs
share = torch.sigmoid(reward[one] - reward[two])   # Bradley-Terry


def shares_loss(logp, share, beta):
    margin = beta * ((logp - ref)[one] - (logp - ref)[two])
    return -(share * F.logsigmoid(margin) + (1 - share) * F.logsigmoid(-margin)).mean()


# %%
found = rlhf.evaluate.exact.fit_table(lambda logp: shares_loss(logp, share, 0.5), ref)
best = torch.log_softmax(ref + reward / 0.5, 0)    # line 2, with beta = 0.5
score = 0.5 * (found - ref)                        # beta times the log-ratio
order = reward.argsort()
parts = {"β · log-ratio": {"reference: before training": (reward[order], 0 * reward),
                           "policy: after DPO": (reward[order], score[order])}}
show(plots.panels(parts, x_label="true reward of the answer, never shown to DPO",
                  title="DPO's score is the true reward, up to one constant"))
claim("DPO ends at the best policy of RLHF, to six digits",
      bool((found - best).abs().max() < 1e-6))

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** DPO and RLHF have the same answer if people choose as line 5 says, if endlessly many comparisons connect all answers, and if the policy can represent anything.
#
# ## Idea 2: both answers can sink
#
# Real data is not endless, and a network is not a table. How does one step change the model? The gradient has a readable form:
#
# $$\nabla\mathcal L=-\beta\;\sigma(-\text{margin})\;\big[\nabla\log\pi(y_c\mid x)-\nabla\log\pi(y_r\mid x)\big]$$
#
# *Push the chosen answer up and the rejected one down, with one weight.* That weight, σ(−margin), is ½ at the start and fades as the pair comes into order.

# %%
weight = torch.sigmoid(-margin)
slope, = torch.autograd.grad(loss, policy_chosen)
print(f"slope {slope.item():.4f}   −β · weight {-0.1 * weight.item():.4f}")

# %% [markdown]
# So each step lifts the chosen answer? Not always in a network, where answers share weights. Take three answers, `.`, `b.` and `bbb`, and a network with a single weight θ: each `b` multiplies the odds of an answer by $e^\theta$. Chosen: `b.`; rejected: `.`. Nobody ever compares `bbb`.

# %%
def three_answers(rate, beta, steps):
    count_b = torch.tensor([0.0, 1.0, 3.0])        # in ".", "b." and "bbb"
    theta, path = torch.zeros((), requires_grad=True), []
    for _ in range(steps + 1):
        logp = torch.log_softmax(theta * count_b, 0)
        path.append(logp.exp().tolist())
        loss = -F.logsigmoid(beta * (logp[1] - logp[0]))  # ref: 1/3, 1/3
        slope, = torch.autograd.grad(loss, theta)
        theta = (theta - rate * slope).detach().requires_grad_()
    return path


# %%
path = torch.tensor(three_answers(rate=0.1, beta=1.0, steps=30)).T
names = ("rejected: rejected  .", "chosen: chosen  b.", "other: never compared  bbb")
lines = dict(zip(names, path, strict=True))
show(plots.line_plot(lines, x_label="step", y_label="probability",
                     title="The answer that nobody compared takes over"),
     "Line plot of three probabilities against steps: two fall, bbb rises towards one.")
claim("chosen and rejected answer both end below one third",
      bool((path[:2, -1] < 1 / 3).all() and path[2, -1] > 1 / 3))

# %% [markdown]
# The margin is βθ, so every step raises θ. But θ also feeds `bbb`, which has more of what the chosen answer has. At the start the slope of $\log\pi(\texttt{b.})$ is 1 minus the average number of b, $(0+1+3)/3$, which is −⅓: the chosen answer sinks from the first step on. This is *likelihood displacement*. Try whether a larger β or a lower rate prevents it:

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
rlhf.book.explorers.shares(
    lambda rate, β, step: three_answers(rate, β, step)[-1],
    [". rejected", "b. chosen", "bbb not compared"], ["rejected", "chosen", "other"],
    title="learning rate, β and step",
    rate=[0.1, 0.5], β=[0.5, 1.0, 2.0], step=[0, 3, 10, 30]).show()

# %% [markdown]
# Neither does: they only change how fast it goes. Now the village, where an answer is a sentence: mean change of log-probability since the start, on the 24 watched requests of five recorded seeds. Each panel has its own scale:

# %%
sides = ("chosen", "rejected", "third")
looks = {"third": "other"}
parts = {f"{rate} rate, nats per answer": {
    side: (steps, record.seeds(f"DPO {rate} {side}")) for side in sides}
    for rate in ("low", "high")}
show(plots.two_panels(parts, x_label="step", roles=looks,
                      title="High rate: chosen, rejected and third answers all sink"))

# %% tags=["hide-input"]
last = {(rate, side): [y[-1] for y in record.seeds(f"DPO {rate} {side}")]
        for rate in ("low", "high") for side in sides}
claim("high rate: chosen, rejected and third lost over 3 nats on all five seeds",
      all(y < -3 for side in sides for y in last["high", side]), kind="T")
last["repair", "chosen"] = [y[-1] for y in record.seeds("DPO + NLL high chosen")]
for (rate, side), values in last.items():
    quote(f"{rate}.{side}", "{:+.1f} ± {:.1f}".format(*over_runs(values)))
for rate, label in (("low", "DPO, low rate"), ("high", "DPO, high rate"),
                    ("long", "DPO, low, 250 steps")):
    own = record.arm(named[label], kinds, "kl").mean(0)
    quote(f"{rate}.own", "{:.1f} ± {:.1f}".format(*over_runs(own)))
for name, label in (("start", "start"), ("low", "DPO, low rate"),
        ("broken", "DPO, high rate"), ("repair", "DPO + imitation, high"),
        ("long", "DPO, low, 250 steps")):
    quote(f"{name}.worth", "{:.2f} ± {:.2f}".format(*over_runs(worth[label])))

# %% [markdown] rlhf={"part": "idea"}
# At the high rate the chosen answers changed by <!-- out high.chosen --> nats, the third ones by <!-- out high.third -->, both since the start. The probability went to what the model writes now: its own answers gained the <!-- out high.own --> nats that we call KL. At the low rate the chosen answers changed by <!-- out low.chosen --> nats, the rejected ones by <!-- out low.rejected -->.
#
# Imitation, added to the loss, holds the chosen answers (<!-- out repair.chosen --> nats) at the same high rate. The true reward is then <!-- out repair.worth -->, and was <!-- out start.worth --> at the start: no collapse, and no clear gain either.
#
# Users of the first public DPO code asked why the chosen log-probability falls ([issue 32](https://github.com/eric-mitchell/direct-preference-optimization/issues/32), [issue 36](https://github.com/eric-mitchell/direct-preference-optimization/issues/36)). Shared weights are a part of the answer. The fall does no harm where other good answers gain: one refusal can be worded in many ways.
#
# > **Keep this.** The loss sees a difference. It does not say whether the chosen answer rises, nor what happens to answers that nobody compared.
#
# ## Idea 3: β does not stop a run whose labels all agree
#
# By lines 2 and 3, β sets how far the best policy lies from the reference. That holds for *shares* of many people. Real data often has one label for each pair. If all labels agree with one ranking, a larger margin is always better: the loss has no minimum. We train the table of idea 1 on both kinds of labels:

# %%
def distance(share, beta, steps=900):
    table, path = ref.clone().requires_grad_(), []
    optimizer = torch.optim.Adam([table], lr=0.05)
    for _ in range(steps):
        logp = torch.log_softmax(table, 0)
        path.append((logp.exp() * (logp - ref)).sum().item())  # KL
        loss = shares_loss(logp, share, beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return path


# %%
one_label = torch.where(share == 0.5, share, (share > 0.5).double())
kl = {label: {f"{look}: β = {b}": distance(s, b)
              for look, b in (("policy", 0.5), ("proxy", 2.0))}
      for label, s in (("KL, shares of many people", share),
                       ("KL, one label for each pair", one_label))}
kl["KL, one label for each pair"]["reference: ceiling"] = [-ref[reward.argmax()]] * 900
show(plots.two_panels(kl, x_label="step", share=True,
                      title="Shares: each β has its place. One label: KL climbs on"))

# %% tags=["hide-input"]
optimum = [rlhf.evaluate.exact.frontier(ref.exp(), reward, [b])[0] for b in (0.5, 2.0)]
many, single = ([torch.tensor(y) for y in list(lines.values())[:2]]
                for lines in kl.values())
claim("shares: each β stops where line 2 says; one label: both go further, and move",
      all(abs(m[-1] - best) < 0.01 and s[-1] > max(best, s[450]) + 0.02
          for m, s, best in zip(many, single, optimum, strict=True)))

# %% [markdown] rlhf={"part": "idea"}
# With one label the margins grow without end. The KL has a ceiling: all probability on the best answer. Both β are on the way there; the larger one lags, because its pairs let go sooner. What stops a real run is the number of steps, the learning rate, labels that disagree, or a loss with a target, such as IPO (exercise 12.1).
#
# *Who used it?* DPO appeared in May 2023. [Zephyr-β](https://arxiv.org/abs/2310.16944) made it popular that October; [Tülu 2](https://arxiv.org/abs/2311.10702) and 3, [Llama 3 Instruct](https://arxiv.org/abs/2407.21783) and [Nemotron-4 340B](https://arxiv.org/abs/2406.11704) followed. They need no reward model and no sampling. What they needed first were the right data and a surprisingly low learning rate, 5·10⁻⁷ in Zephyr and Tülu 2. <!-- fact -->
#
# > **Keep this.** β says where the best policy lies. When all labels agree, it does not say where a run ends: report the measured KL.
#
# ## Idea 4: when are rejected answers worth their price?
#
# Imitation needs neither rejected answers nor a reference. On all pairs (<!-- out pairs.all --> on average) DPO at 5·10⁻⁵ minus imitation at 10⁻⁴ is <!-- out tie --> in true reward: no clear difference. (The rates tried for the two were not the same.) A good answer is easily copied. <!-- fact -->
#
# Now take pairs of *bad* answers only: true reward below 1, compared among themselves (<!-- out pairs.poor --> pairs on average). A team with a weak model has such pairs without selecting. Both methods take 25 steps at 5·10⁻⁵, here about four epochs: <!-- fact -->

# %%
arms = {"start": "start", "imitation": "poor imitation 5e-05 x25",
        "DPO": "poor DPO 5e-05 x25"}
table(record.interval_rows(arms, kinds), list(kinds.values()),
      note="true reward, ± 95 % over five seeds")
began = record.arm("start", kinds)
dots = {f"{method}, {label}": over_runs(gain) for method in ("imitation", "DPO")
        for label, gain in zip(kinds.values(), record.arm(arms[method], kinds) - began,
                               strict=True)}
show(plots.shares(dots, middle=0, x_label="true reward, change from the start",
                  note="five recorded seeds, ± 95 % over seeds",
                  title="Copying loses on both kinds, comparing on one"))

# %% tags=["hide-input"]
better, rival = (record.arm(arms[m], kinds) for m in ("DPO", "imitation"))
gap = over_runs((better - rival).mean(0))
claim("pairs of bad answers: DPO keeps more true reward than imitation at one rate",
      gap[0] > gap[1], {"gap": gap[0], "half": gap[1]}, kind="T")
quote("gap", "{:.2f} ± {:.2f}".format(*gap))
gains = {"lost": rival - began, "gained": better - began,
    "gained.harmful": (better - began)[:1], "gained.lookalike": (better - began)[1:],
    "tie": (worth["DPO, low rate"] - worth["imitation, rate 10⁻⁴"])[None]}
for name, gain in gains.items():
    quote(name, "{:+.2f} ± {:.2f}".format(*over_runs(gain.mean(0))))
large = rlhf.book.recorded("12_smollm2")      # for the section on GPT-2 size
for kind in kinds:
    quote(f"refused.{kind}", f"{100 * large.held_out['high'][kind]['refuses']:.0f} %")
quote("large.worth", f"{large.held_out['high']['all']['mean']:.2f}")
for which in ("all", "poor"):
    quote(f"pairs.{which}", f"{over_runs(record.values('pairs', which))[0]:.0f}")

# %% [markdown] rlhf={"part": "wrong"}
# Imitation copies what is bad in the chosen answers; DPO reads mostly what makes one of two answers better. Averaged over both kinds, DPO ends <!-- out gap --> above imitation. Against the start, imitation changes the true reward by <!-- out lost -->, DPO by <!-- out gained -->; behind that average stand <!-- out gained.harmful --> on harmful requests and a clear loss, <!-- out gained.lookalike -->, on look-alikes.
#
# > **Keep this.** A good answer can be copied. Where both answers are bad, copying lost on both kinds of request, comparing on look-alikes only. Neither clearly beat the start.
#
# ## What goes wrong
#
# | the wrong line | what you see | the one number that tells |
# |---|---|---|
# | `reference = policy`, a second name for one model | a flat loss; training looks dead, and is not | the loss *after* some steps: still 0.693 <!-- fact --> |
# | dropout left on | nothing unusual | the *first* loss is not 0.693 <!-- fact --> |
# | averages per token with this β | the loss hardly leaves 0.693 <!-- fact --> | margin ÷ β: a fraction of a nat |
# | a rate too high, or too many steps | a splendid margin | the KL from the start model |
# | chosen and rejected swapped | a perfect log | none in the log; read samples |
#
# (Long answers, noisy labels, fresh pairs, KTO and losses without a reference: [deeper](deeper/12_direct_alignment.ipynb).) The first trap, live:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
policy = rlhf.models.copy_of(start)
reference = policy                                 # wrong: no copy
optimizer, losses = torch.optim.AdamW(policy.parameters(), lr=2e-4), []
for batch in rlhf.data.batches(pairs, 8, steps=12, tokenizer=tokenizer, seed=run.seed):
    loss = dpo(policy, batch, 0.1, reference)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
moved = watch(policy)
print(f"loss, first and last step: {losses[0]:.3f} {losses[-1]:.3f}")
print(f"chosen {moved['chosen']:+.1f} nats, rejected {moved['rejected']:+.1f} nats")

# %%
claim("the loss never moved, and the model did",
      max(abs(x - 0.6931) for x in losses) < 1e-3 and moved["rejected"] < -1, kind="T")

# %% [markdown] rlhf={"part": "gpt2"}
# Every margin is 0 by construction, so the weight σ(−margin) stays at ½: the value of the loss stands still, its gradient is not zero, and no pair ever lets go.
#
# ## At GPT-2 size
#
# The same loss on SmolLM2 with 135 million parameters, which a small adapter has taught the village's manner: LoRA of rank 16, 15 steps of four pairs, at the rates 2·10⁻⁴ and 2·10⁻³, one recorded run each. Each panel has its own scale: <!-- fact -->

# %%
parts = {f"{rate} rate, nats per answer": {
    side: (large.curve["step"], large.curve[f"{rate} {side}"]) for side in sides}
    for rate in ("low", "high")}
show(plots.two_panels(parts, x_label="step", roles={"third": "other"},
                      note="12 watched pairs; change since the start",
                      title="High rate: the chosen answers sink at 135M, too"))
stages = {"before": "start", "after": "low rate", "high": "high rate"}
for prompt, answers in large.texts(stages)[:2]:       # one of each kind
    cards(prompt, answers)
table(large.stage_rows({"harmful": "harmful", "lookalike": "look-alikes"}, stages),
      note="true reward (± 95 % over 24 requests of each kind) and KL; one run")

# %% [markdown] rlhf={"part": "exercises"}
# What carries over: a splendid margin grows out of answers that sink. What does not: few of its answers are broken, and its KL is a tenth of that of the broken village model. The probability went to one sentence, *No, I do not help to do harm*: it refuses <!-- out refused.harmful --> of the harmful requests and <!-- out refused.lookalike --> of the look-alikes. So its true reward over both kinds, <!-- out large.worth -->, stays below that of one fixed refusal. The low rate hardly moves the model in 15 steps. The KL tells how far a model went, not whether it went to a good place: read samples.
#
# ## Exercises
#
# ### Exercise 12.1 · IPO from DPO
#
# *IPO* replaces DPO's $-\log\sigma(\beta h)$ by a parabola with its bottom at $1/(2\beta)$ nats: beyond that gap it pulls back. Here $h$ is the difference of the two log-ratios. Change the loss of idea 1: the mean over the pairs of $(h-\frac1{2\beta})^2$.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex12-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def ipo(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    """Four (B,) sums of log-probabilities, a number -> the loss, one number."""
    ### BEGIN SOLUTION
    h = (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected)
    return ((h - 1 / (2 * beta)) ** 2).mean()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex12-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("12.1", ipo)
### BEGIN HIDDEN TESTS
check("12.1", ipo, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Take β out of the margin: what is left is h. Then square its distance to the target and average.
# </details>
#
# <!-- solution 12.1 -->
#
# ### Exercise 12.2 · When does a pair let go?
#
# At the start the weight of every pair is ½. At which gap $h$, in nats, has DPO's weight fallen to a given share of that? On paper first, with β = 0.1 and half of the weight left. <!-- fact -->

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex12-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def letting_go(share, beta):
    """A share between 0 and 1, beta -> the gap h, nats."""
    ### BEGIN SOLUTION
    return torch.tensor(2 / share - 1).log().item() / beta
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex12-2-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("12.2", letting_go)
### BEGIN HIDDEN TESTS
check("12.2", letting_go, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Solve σ(−βh) = share/2 for h. The inverse of σ is p ↦ log(p / (1 − p)).
# </details>
#
# <!-- solution 12.2 -->
#
# ### Exercise 12.3 · Which run do you ship?
#
# Four logs (made up), same data, same β = 0.1. One of the runs is in order. The runs of this page, once more: <!-- fact -->
#
# ![Marks, one for each run: change of true reward against the KL from the start model, of DPO at two rates, DPO with imitation, and imitation](figures/12_distance.png)
#
# | run | first loss | last loss | margin | KL from the start, nats | new pairs right |
# |---|---|---|---|---|---|
# | A | 0.693 | 0.41 | 2.9 | 31 | 66 % | <!-- fact -->
# | B | 0.693 | 0.64 | 0.2 | 0.4 | 79 % | <!-- fact -->
# | C | 0.693 | 0.693 | 0 | 12 | – | <!-- fact -->
# | D | 0.731 | 0.62 | 0.3 | 0.6 | 75 % | <!-- fact -->

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex12-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def which_run():
    """-> "A", "B", "C" or "D"."""
    ### BEGIN SOLUTION
    return "B"  # the loss began at log 2 and moved; the model stayed near its start
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex12-3-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("12.3", which_run)
### BEGIN HIDDEN TESTS
check("12.3", which_run, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# Look at the first loss, then at the last, then at the KL.
# </details>
#
# <!-- solution 12.3 -->
#
# ## Retell it
#
# 1. A model can learn from comparisons directly: its own change of log-probability serves as the reward, and the part that nobody can compute cancels.
# 2. With endless comparisons of all pairs, and a policy that can represent anything, this ends exactly where reinforcement learning would.
# 3. The loss only asks for a difference; in a network both answers may sink while the margin grows, and the probability can go to texts that nobody compared.
# 4. A high rate, or ten times as many steps, broke our models; the margin praised them, the KL from the start warned.
# 5. Good answers can be copied; where both answers of a pair are bad, comparing lost less than copying.
#
# *In the book*: [Direct-Alignment Algorithms](https://rlhfbook.com/c/08-direct-alignment), chapter 8. *Deeper*: [every line of the derivation checked, how often answers sink, losses under noise, CPL and ILQL, length, fresh or old pairs](deeper/12_direct_alignment.ipynb). *Next*: chapter 13, Constitutional AI and AI feedback.
#
# <!-- nav -->
