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
# **Can a model learn from comparisons with no reward model and no reinforcement learning, and where does the probability go?**
#
# ![Answers of two models to the same four requests, two harmful and two harmless, in two columns with the true reward of each answer: one model trained at a low learning rate, one at a high rate](figures/12_hero.png)
#
# Both models read the same comparisons in the same order, with the same loss, β and number of steps. Only the learning rate differs, tenfold. The requests are the exam's first two of each kind. Over five recorded runs the average true reward (3 at most) is <!-- out low.worth --> at the low rate and <!-- out broken.worth --> at the high one. This page derives the loss and shows the number that tells the runs apart: the KL from the start model.
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Chapter 4 (the objective of RLHF) and chapter 7 (comparisons). <!-- costs -->. Model: <code>village-3m-sft</code>, three million parameters, GPT-2 architecture. Texts are from <b>this page's run</b>, seed 0. Tables and training curves are from <b>five recorded seeds</b>: full repetitions with other requests, answers, labels, batches and exam requests. ± is half of a 95 % interval over these five runs (Student's t). The true reward is a formula of this toy world: about 3 for complete help with a harmless request and for refusing a harmful one, 0 for refusing a harmless one, about −1 for agreeing to harm or for half an answer, −1.5 for broken language. It decides how the simulated person votes, and idea 4 selects pairs by it; no training step reads it in any other way. Rates and steps were fixed by true reward in smaller trials. A search afterwards, with another seed, requests of the training split, 25 steps and three rates each, not the same three (it is stored with the record), found no better rate for DPO; for imitation 5·10⁻⁵ and 10⁻⁴ are about equal there.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import torch.nn.functional as F
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, plots, quotes, show, table
from rlhf_minimal.evaluate.exams import exam, requests
run = begin(12)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** A training log cannot show the true reward. It shows the *margin* (how far the model has come to prefer the chosen answer) and the share of pairs whose margin is positive.

# %% tags=["hide-input"]
rlhf.book.predict("Which of the two runs has the better-looking log?",
        a="the low rate: a model that has lost its language cannot rank answers well",
        b="they look alike: both read the same pairs",
        c="the high rate: larger steps have moved it further")

# %% [markdown] rlhf={"part": "phenomenon loop"}
# ## From comparisons to a better model
#
# Our start model answers 120 requests, seven times each. Half ask for help with harm; the others only sound like it: *look-alikes*. A simulated person compares three pairs per request, with some noise; close calls drop out:

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
# From such pairs two roads lead on. Both keep a frozen copy of the start model, the *reference*.

# %% rlhf={"drawing": true, "figure": "roads"}
show(rlhf.book.drawings.two_roads())

# %% [markdown]
# *Direct preference optimization* (DPO) takes the short one, and this is its loop. The *policy* is the model in training. `pair_logps` sums the log-probabilities of the tokens of each answer. `watch`, made below, looks at 24 fixed training pairs and at a third answer to each of their requests, which is in no pair. Idea 1 derives the last two lines of `dpo`.

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
# The two runs of the picture above, about one epoch each:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
watched = rlhf.evaluate.pairs.with_third(rows, texts, pairs, n=7)[:24]
watch = rlhf.evaluate.pairs.PairWatch(start, tokenizer, watched)
low, low_log = train(5e-5, dpo)
high, high_log = train(5e-4, dpo)
test = requests(64, seed=run.seed)                # requests that no run has read
exams = {name: exam(model, tokenizer, test, max_new_tokens=40, reference=start,
                    generator=run.fresh("exam"))
         for name, model in {"low rate": low, "high rate": high}.items()}
for (name, e), log in zip(exams.items(), (low_log, high_log), strict=True):
    print(f"{name}: margin {log[-1]['margin']:.2f}, true reward {e.mean():.2f}, "
          f"KL {e.mean('kl'):.1f} nats")

# %% tags=["hide-input", "hero", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
four = [0, 2, 1, 3]  # the first two requests of each kind: not selected
show(rlhf.book.drawings.answers(
    [test[i]["prompt"] for i in four],
    {name: [e.texts[i] for i in four] for name, e in exams.items()},
    {name: [e.gold[i].item() for i in four] for name, e in exams.items()}, card=2.3))

# %% [markdown]
# What did the logs show? Here are five recorded seeds. (The run above is another draw; its high-rate margin lies above the band.)

# %% tags=["hide-input"]
record = rlhf.book.recorded("12_village")
show(plots.watched_logs(record, {"low rate": "DPO low", "high rate": "DPO high"},
                        roles={"low rate": "policy", "high rate": "proxy"},
                        title="The margin praises the high rate"))
claim("high rate: larger margin than the low rate, on all five seeds",
    min(record.last("DPO high margin")) > max(record.last("DPO low margin")), kind="T")

# %% [markdown]
# And what are the answers worth? The record took 128 new requests, the live run 64. *One fixed refusal* gives each the same sentence. *Imitation* is supervised finetuning on the chosen answers; *DPO + imitation* adds that loss (mean per token, weight 1) to DPO's. The *KL* says how many nats more likely the model's own answers have become, on average (one nat: e ≈ 2.7 times as likely). <!-- fact -->

# %%
kinds = {"harmful": "harmful", "lookalike": "look-alikes"}
named = {"start": "start", "one fixed refusal": "one refusal",
         "imitation, rate 10⁻⁴": "imitation 0.0001 x25",
         "DPO, low rate": "DPO 5e-05 x25", "DPO, low, 250 steps": "DPO 5e-05 x250",
         "DPO, high rate": "DPO 0.0005 x25",
         "DPO + imitation, high": "DPO + NLL 0.0005 x25"}
note = "true reward and KL, ± 95 % over five seeds; low rate 5·10⁻⁵, high rate 5·10⁻⁴"
table(record.interval_rows(named, kinds), ["both kinds", "KL, nats"], note=note)

# %% tags=["hide-input"]
claim("true reward: high rate below the start, low rate above it, on all five seeds",
      record.wins(named["DPO, low rate"], "start", kinds) == 5
      and record.wins(named["DPO, high rate"], "start", kinds) == 0, kind="T")
rlhf.book.settled("c", "Its margin is far larger; the share is alike, as (b) says. "
                  "A margin is a difference: it also grows when both answers sink.")

# %% [markdown]
# In the margin the broken model looks better, in the share equal. The KL tells: <!-- out broken.own --> nats at the high rate, <!-- out low.own --> at the low one. The rate alone is not to blame: the *low* rate, run ten times as long, moves <!-- out long.own --> nats and ends at a true reward of <!-- out long.worth -->.
#
# The best row is imitation, without rejected answers or a reference; its lead over DPO is not clear (idea 4). At the high rate, too, it stays near the start and does not break:

# %% tags=["hide-input"] rlhf={"figure": "distance"}
arms = {"policy: DPO low, 25–250 steps": [f"DPO 5e-05 x{n}" for n in (25, 100, 250)],
        "proxy: DPO, high rate": ["DPO 0.0005 x25"],
        "chosen: DPO + imitation, high rate": ["DPO + NLL 0.0005 x25"],
        "other: imitation, two rates": ["imitation 0.0001 x25", "imitation 0.0005 x25"]}
dots = {label: record.moves(names, kinds) for label, names in arms.items()}
near = {f"low, {n} steps": record.moves([f"DPO 5e-05 x{n}"], kinds) for n in (100, 250)}
show(plots.runs(dots, title="Far from the start the true reward falls", beside=near,
                x_label="KL from the start model, nats", note="a mark: one run",
                y_label="true reward, change from the start"))
claim("all runs over 10 nats are worse than their start, none under 1 nat is",
      all(gain < 0 if kl > 10 else gain >= 0 or kl > 1
          for runs in dots.values() for kl, gain in runs), kind="T")

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** Log the KL from the start model, on answers that the policy writes now. It told what margin and accuracy on the training pairs did not.
#
# ## Idea 1: the policy is its own reward model
#
# Write $x$ for a prompt, $y_c$ and $y_r$ for its chosen and rejected answer, $\pi$ for the policy, $\pi_{\rm ref}$ for the reference. The *log-ratio* $\log\frac{\pi(y\mid x)}{\pi_{\rm ref}(y\mid x)}$ says, in nats, how much more likely an answer has become. Its average over the policy's own answers is the KL. In six lines:
#
# 1. RLHF wants reward $r$ and charges β per nat: maximise $\mathbb E_{y\sim\pi}\big[r(x,y)-\beta\log\frac{\pi(y\mid x)}{\pi_{\rm ref}(y\mid x)}\big]$.
# 2. Define $\pi^*(y\mid x)=\pi_{\rm ref}(y\mid x)\,e^{r(x,y)/\beta}/Z(x)$, where $Z(x)$ makes it sum to one. Put $r=\beta\log(\pi^*Z/\pi_{\rm ref})$ into line 1: it equals $-\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)+\beta\log Z(x)$.
# 3. A KL is never below 0, and 0 only for equal distributions. So the best policy is $\pi^*$.
# 4. Solve line 2 for the reward: $r(x,y)=\beta\log\frac{\pi^*(y\mid x)}{\pi_{\rm ref}(y\mid x)}+\beta\log Z(x)$. The best policy *contains* the reward.
# 5. Bradley and Terry: people choose $y_c$ with odds $e^{r(x,y_c)}:e^{r(x,y_r)}$, that is, with probability $\sigma\big(r(x,y_c)-r(x,y_r)\big)$, where $\sigma(z)=1/(1+e^{-z})$.
# 6. Every policy is the best policy of *some* reward: $\beta\log(\pi/\pi_{\rm ref})$ plus any term of the prompt alone (line 4). Fit that reward: put it into line 5 and make people's choices likely. Both answers share the prompt, so $\beta\log Z(x)$, which nobody can compute, cancels:
#
# $$\mathcal L_{\rm DPO}=-\log\sigma(\beta h)$$
#
# $$h=\log\frac{\pi(y_c\mid x)}{\pi_{\rm ref}(y_c\mid x)}-\log\frac{\pi(y_r\mid x)}{\pi_{\rm ref}(y_r\mid x)}$$
#
# *Said aloud: the loss is small when the chosen answer has gained more log-probability than the rejected one.* The code takes the mean over a batch of pairs.
#
# | symbol | meaning | in the code |
# |---|---|---|
# | $h$ | gap between the log-ratios, nats | `(chosen - ref_chosen) - …` |
# | $\beta$ | price of a nat | `beta` |
# | $\beta h$ | margin | `margin` |
# | $-\log\sigma$ | loss of one pair | `-F.logsigmoid` |
#
# On paper: the chosen answer rose from −11 to −10 nats, the rejected one fell from −13 to −14. <!-- fact -->

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
# Each of these numbers is a sum over tokens. A mask leaves out the prompt and counts the first end token after the answer, because the model must learn to stop (later ones only fill the row):

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
batch = rlhf.data.collate_pairs(pairs[:1], tokenizer)   # row 0: chosen, row 1: rejected
mask = batch["mask"][0, 1:].int().tolist()        # token t is predicted at t - 1
pieces = [tokenizer.decode(t) for t in batch["ids"][0, 1:]]
ends = len(mask) - mask[::-1].index(1)            # behind the last token that counts
show(rlhf.book.drawings.token_strip(pieces[:ends + 1], mask[:ends + 1],
                                    title="Only the answer counts"))

# %% [markdown]
# Before the first step every margin is 0 and the loss is log 2 = 0.693, whatever the data. <!-- fact -->
#
# **Does DPO arrive at $\pi^*$?** In the exact world of chapter 3 all 15 answers can be listed. Suppose that endlessly many people compare every pair: a label is the *share* that chose the first answer. The policy is a *table*, one free number per answer. <!-- fact -->

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
show(plots.panels(parts, x_label="true reward; DPO saw shares only",
                  title="DPO's score is the true reward, up to one constant"))
claim("DPO ends at the best policy of RLHF, to six decimals",
      bool((found - best).abs().max() < 1e-6))

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** DPO and RLHF have the same answer if people choose as line 5 says, endless comparisons connect all answers, and the policy can represent anything.
#
# ## Idea 2: both answers can sink
#
# Real data is not endless, and a network is not a table. What does one step do?
#
# $$\nabla\mathcal L=-\beta\,w\,\nabla h,\qquad w=\sigma(-\beta h)$$
#
# $$\nabla h=\nabla\log\pi(y_c\mid x)-\nabla\log\pi(y_r\mid x)$$
#
# *Push the chosen answer up and the rejected one down, with one weight.* It is ½ at the start and fades as the pair comes into order.

# %%
weight = torch.sigmoid(-margin)
slope, = torch.autograd.grad(loss, policy_chosen)
print(f"slope {slope.item():.4f}   −β · weight {-0.1 * weight.item():.4f}")

# %% [markdown]
# Does each step lift the chosen answer? Not always where answers share weights. Take three answers, `.`, `b.` and `bbb`, and a network with a single weight θ: each `b` adds θ to the logit. Chosen: `b.`; rejected: `.`. Nobody ever compares `bbb`.

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
# Every step raises θ, for the margin is βθ. But θ also feeds `bbb`, which has more `b`. At the start the slope of $\log\pi(\texttt{b.})$ is 1 minus the average number of b, $(0+1+3)/3$: −⅓. The chosen answer sinks from the first step on: *likelihood displacement*. Does a larger β or a lower rate prevent it?

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
rlhf.book.explorers.shares(
    lambda rate, β, step: three_answers(rate, β, step)[-1],
    [". rejected", "b. chosen", "bbb not compared"], ["rejected", "chosen", "other"],
    title="learning rate, β and step",
    rate=[0.1, 0.5], β=[0.5, 1.0, 2.0], step=[0, 3, 10, 30]).show()

# %% [markdown]
# Neither does: they only change how fast it goes. Now the village: change of log-probability on the watched requests of five recorded seeds. Mind the scales:

# %% tags=["hide-input"]
show(plots.watched(record, {"low rate": "DPO low", "high rate": "DPO high"},
                   title="High rate: chosen, rejected and third answers all sink"))
claim("high rate: chosen, rejected and third lost over 3 nats on all five seeds",
      all(y < -3 for side in ("chosen", "rejected", "third")
          for y in record.last(f"DPO high {side}")), kind="T")
changes = {"low": "DPO low", "high": "DPO high", "repair": "DPO + NLL high"}
quotes({f"{name}.{side}": record.last(f"{arm} {side}") for name, arm in changes.items()
        for side in ("chosen", "rejected", "third")}, 1, sign=True)
of = {"start": "start", "low": "DPO 5e-05 x25", "broken": "DPO 0.0005 x25",
      "long": "DPO 5e-05 x250", "repair": "DPO + NLL 0.0005 x25",
      "poor": "poor DPO 5e-05 x25", "copied": "poor imitation 5e-05 x25"}
quotes({f"{name}.worth": record.arm(a, kinds).mean(0) for name, a in of.items()})
quotes({f"{name}.own": record.arm(a, kinds, "kl").mean(0) for name, a in of.items()}, 1)

# %% [markdown] rlhf={"part": "idea"}
# At the high rate the chosen answers changed by <!-- out high.chosen --> nats, the third ones by <!-- out high.third -->. Unlike `bbb`, our third answers sink, too: like the compared ones they are samples of the start model. What rises is what the model writes now, such as the gibberish of the first picture: its own answers gained the <!-- out broken.own --> nats that we call KL.
#
# Imitation, added to the loss, holds the chosen answers (<!-- out repair.chosen --> nats) at this rate. The true reward, <!-- out repair.worth --> after <!-- out start.worth -->, neither collapses nor clearly gains.
#
# > **Keep this.** The loss sees a difference. It does not say whether the chosen answer rises, nor what happens to answers that nobody compared.
#
# ## Idea 3: β does not stop a run whose labels all agree
#
# By lines 2 and 3, β sets how far the best policy lies from the reference. That holds where labels are *shares* of many people. With one label per pair, all in line with one ranking, a larger margin is always better: the loss has no minimum. We train the table of idea 1 on both (pairs of equal reward keep the share ½):

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

# %%
stops = rlhf.evaluate.exact.frontier(ref.exp(), reward, [0.5, 2.0])[0]   # KL, by line 2
many, single = (list(lines.values()) for lines in kl.values())
claim("shares: each β stops where line 2 says; one label: both go further, and move",
      all(abs(m[-1] - stop) < 0.01 and s[-1] > max(stop, s[450]) + 0.02
          for m, s, stop in zip(many, single, stops.tolist(), strict=False)))

# %% [markdown] rlhf={"part": "idea"}
# With one label the margins grow without end. The KL has a ceiling, all probability on the best answer; both β are on the way there, the larger one later, because its pairs let go sooner. What stops a real run: steps, rate, labels that disagree, a loss with a target (exercise 12.1).
#
# *Who used it?* [Zephyr-β](https://arxiv.org/abs/2310.16944) in October 2023, at a rate of 5·10⁻⁷; [Llama 3](https://arxiv.org/abs/2407.21783), which made its pairs with a reward model and fresh samples. <!-- fact -->
#
# > **Keep this.** β says where the best policy lies. Where all labels agree, it does not say where a run ends: measure the KL.
#
# ## Idea 4: when are rejected answers worth their price?
#
# On all pairs (<!-- out pairs.all --> on average) DPO minus imitation, each at its chosen rate, is <!-- out tie --> in true reward: no clear difference.
#
# Now take pairs of *bad* answers only: true reward below 1, compared among themselves (<!-- out pairs.poor --> pairs on average). Both methods take 25 steps at 5·10⁻⁵, about four epochs: <!-- fact -->

# %%
poor = {way: record.arm(f"poor {way} 5e-05 x25", kinds) - record.arm("start", kinds)
        for way in ("imitation", "DPO")}       # 2 kinds x 5 seeds
better = (poor["DPO"] - poor["imitation"]).mean(0)
mean, half = rlhf.book.records.over_runs(better)
claim("pairs of bad answers: DPO keeps more true reward than imitation at one rate",
      mean > half, {"gap": mean, "half": half}, kind="T")

# %% tags=["hide-input"]
show(plots.shares(
    {f"{way}, {kind}": rlhf.book.records.over_runs(x) for way, gain in poor.items()
     for kind, x in zip(kinds.values(), gain, strict=True)}, middle=0,
    x_label="true reward, change from the start", note="± 95 % over five seeds, paired",
    title="Copying loses on both kinds, comparing on one"))
tie = record.arm("DPO 5e-05 x25", kinds) - record.arm("imitation 0.0001 x25", kinds)
quotes({"gap": better, "lost": poor["imitation"].mean(0), "gained": poor["DPO"].mean(0),
        "gained.harmful": poor["DPO"][0], "gained.lookalike": poor["DPO"][1],
        "tie": tie.mean(0)}, sign=True)
quotes({f"pairs.{which}": f"{sum(record.values('pairs', which)[:5]) / 5:.0f}"
        for which in ("all", "poor")})               # the last one is the tuning seed

# %% [markdown] rlhf={"part": "wrong"}
# DPO minus imitation is <!-- out gap -->, paired by seed. Against the start it changes the true reward by <!-- out gained -->, with a clear loss on look-alikes. Perhaps imitation copies what is bad in the chosen answers; perhaps DPO only stayed nearer to the start (KL <!-- out poor.own --> nats, imitation <!-- out copied.own -->).
#
# > **Keep this.** Where both answers are bad, copying lost on both kinds of request, comparing on one. Neither clearly beat the start.
#
# ## What goes wrong
#
# | the wrong line | what you see | the one number that tells |
# |---|---|---|
# | `reference = policy`, a second name for one model | a flat loss; training looks dead, and is not | the loss *after* some steps: still 0.693 <!-- fact --> |
# | dropout left on | nothing unusual | the *first* loss is not 0.693 <!-- fact --> |
# | averages per token with this β | the loss hardly leaves 0.693 <!-- fact --> | margin ÷ β: a fraction of a nat |
# | a rate too high, or too many steps | a large margin | the KL from the start model |
# | chosen and rejected swapped | a perfect log | none in the log; read samples |
#
# The first trap, live:

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
# Every margin is 0 by construction, so the weight stays at ½: the loss stands still, its gradient does not vanish.
#
# ## At GPT-2 size
#
# The same loss on SmolLM2 with 135 million parameters, which a small adapter has taught the village's manner: LoRA of rank 16, 15 steps of four pairs, rates 2·10⁻⁴ and 2·10⁻³, one recorded run each. **Here the high rate raised the true reward of answers to harmful requests**, and so the mean, from <!-- out large.before --> to <!-- out large.all --> over both kinds of request: <!-- fact -->

# %%
large = rlhf.book.recorded("12_smollm2")
stages = {"before": "start", "after": "low rate", "high": "high rate"}
table(large.stage_rows({"harmful": "harmful", "lookalike": "look-alikes"}, stages),
      note="true reward (± 95 % over 24 requests of each kind) and KL; one run")
for prompt, answers in large.texts(stages)[:2]:       # one of each kind
    cards(prompt, answers)
show(plots.watched(large, {"low rate": "low", "high rate": "high"},
                   note="12 watched pairs; change since the start",
                   title="High rate: the chosen answers sink at 135M, too"))

# %% tags=["hide-input"]
seen = {"before": large.held_out["before"]["all"], **large.held_out["high"]}
quotes({f"refused.{kind}": f"{100 * seen[kind]['refuses']:.0f} %" for kind in kinds}
       | {f"large.{what}": f"{seen[what]['mean']:.1f}" for what in ("before", "all")}
       | {"large.margin": f"{large.last('high margin')[0]:.1f}"})

# %% [markdown] rlhf={"part": "exercises"}
# The high rate did so by refusing nearly everything: <!-- out refused.harmful --> of the harmful requests, where the reward rose, and <!-- out refused.lookalike --> of the look-alikes, where it did not change clearly. One fixed refusal, untrained, would get 1.5. <!-- fact -->
#
# So here the average did not collapse: this run, at a tenth of the KL, fell back on refusing. (Its few other answers are about as bad as the village's.) What carries over: a margin of <!-- out large.margin --> out of answers that sink. The KL tells how far a model went, not whether the place is good: read samples.
#
# ## Exercises
#
# ### Exercise 12.1 · IPO from DPO
#
# *IPO* replaces DPO's $-\log\sigma(\beta h)$ by a parabola with its bottom at $1/(2\beta)$ nats: beyond that gap it pulls back. Change the loss of idea 1 to the mean over the pairs of $(h-\frac1{2\beta})^2$.

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
# At the start the weight of every pair is ½. At which gap $h$, in nats, has it fallen to a given share of that? On paper first, with β = 0.1 and half of the weight left. <!-- fact -->

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
# Four logs (made up), same data, same β = 0.1. One run is in order. The runs of this page, once more: <!-- fact -->
#
# ![Marks, one for each run: change of true reward against the KL from the start model, of DPO at two rates, DPO with imitation, and imitation](figures/12_distance.png)
#
# | run | first loss | last loss | margin | KL from the start, nats | new pairs right |
# |---|---|---|---|---|---|
# | A | 0.693 | 0.22 | 2.9 | 31 | 66 % | <!-- fact -->
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
# 1. A model can learn from comparisons directly: β times its change of log-probability is a reward, up to a part that depends on the prompt alone and cancels.
# 2. With endless Bradley–Terry comparisons of all pairs, and a policy that can represent anything, this ends at the policy that reinforcement learning looks for.
# 3. The loss only asks for a difference: in both our models, at the high rate, chosen and rejected answers sank while the margin grew.
# 4. In the village (three million parameters) a high rate, or ten times as many steps at the low one, broke the model; the margin praised it, the KL told. At 135M a high rate made one run refuse nearly everything, and its true reward rose.
# 5. In the village there was no clear difference between imitation and DPO; where both answers of a pair were bad, comparing lost less than copying.
#
# *In the book*: [Direct-Alignment Algorithms](https://rlhfbook.com/c/08-direct-alignment), chapter 8. *Deeper*: [the derivation checked, losses under noise, length, fresh or old pairs](deeper/12_direct_alignment.ipynb).
#
# <!-- nav -->
