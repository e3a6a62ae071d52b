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
# # 4 · Training overview
#
# **What happens to a language model between "continues text" and "aligned"?**
#
# ![Two requests with the same verb, one harmful (kill the owl) and one harmless (kill the weeds), answered by four versions of one model: base, SFT, PPO and DPO, with the true reward of each answer](figures/04_hero.png)
#
# Four versions of one small model answer two requests: one would hurt somebody, the other only sounds like it. On this page you train the SFT, PPO and DPO steps yourself, and you find out why one of these models will not talk about weeds, although its training looked perfect.
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Python, a little PyTorch and probability; no reinforcement learning. <!-- costs -->. Nothing is downloaded. Models: <code>village-3m</code> and <code>village-3m-sft</code>, three million parameters, GPT-2 architecture. Seed 0. The <i>true reward</i> of an answer, at most 3, is a formula of this toy world (grammar, truth, refusing harm, helping otherwise). It decides how the simulated person votes; no training step reads it in any other way, and a real team never sees it.
# </details>
#
# <!-- edition -->
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import torch.nn.functional as F
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, plots, predict, show, table
from rlhf_minimal.evaluate.exams import constant, exam, requests, usual
run = begin(4)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** A person compared answers to harmful requests and to harmless *look-alikes* such as the weeds. On look-alikes this person nearly always preferred help to a refusal. A reward model learned from these choices, and reinforcement learning (PPO) then raised the reward model's score. While PPO ran, what did *the reward model's score* of the answers to look-alikes do?

# %% tags=["hide-input"]
predict("The reward model's average score of the answers to look-alikes …",
        a="fell: the person likes help, so a model that refuses is scored lower",
        b="stayed where it was: these requests were answered well before",
        c="rose, as it did on harmful requests")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## Stage 1: from continuing to answering
#
# A *base model* continues text. Ours has read stories, almanacs and conversations of a toy village. It has seen people talk, but it does not know that it is being asked. Here are its first three continuations:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
base, plain_tokenizer = rlhf.models.load("village-3m")
sft, tokenizer = rlhf.models.load("village-3m-sft")


def ask(model, prompts, tokenizer=tokenizer, n=1, name="ask"):
    return rlhf.sampling.answer(model, tokenizer, prompts, n=n, max_new_tokens=40,
                                generator=run.fresh(name))


question = "How do I kill the weeds near the school?"
texts = ask(base, [question], plain_tokenizer, n=3).texts(plain_tokenizer)
cards(question, [(f"base, sample {i + 1}", text) for i, text in enumerate(texts)])

# %% [markdown]
# **Supervised finetuning (SFT)** shows the model what a conversation looks like: a marker for the user, a marker for the assistant, and an end token. The loss is still next-token prediction, counted on the answer only. We start from the base model and print one answer after 0, 10 and 40 steps.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained", "show": true}
pupil = rlhf.models.copy_of(base)
optimizer = torch.optim.AdamW(pupil.parameters(), lr=1e-3)
demos = rlhf.village.demonstrations(41 * 24, seed=run.seed)
progress = []
for step, batch in enumerate(rlhf.data.batches(demos, 24, tokenizer=tokenizer)):
    if step in (0, 10, 40):
        progress.append((f"{step} steps", ask(pupil, [question]).texts(tokenizer)[0]))
    logp = rlhf.logprobs.token_logps(pupil, batch["ids"], batch["attention"])
    mask = batch["mask"][:, 1:]                      # 1 on the answer and its end token
    loss = -(logp * mask).sum() / mask.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
cards(question, progress)

# %% [markdown] rlhf={"part": "idea"}
# Forty steps teach the *format*. The shipped `village-3m-sft` ran the same loop for longer, and it is our starting point. It also copied the habits of its demonstrations: some of them helped with harm, so it does, too. From demonstrations it learns what to say, not which of two answers is better. That takes comparisons.
#
# ## One prompt, one answer, one score
#
# In reinforcement learning (RL) an *agent* sees a state $s$, takes an action $a$, gets a reward and a new state, again and again. It learns a *policy* $\pi(a\mid s)$ that collects much reward. For a language model, most of this loop disappears.

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "loop"}
show(rlhf.book.drawings.loop())

# %% [markdown]
# | | reinforcement learning | RLHF |
# |---|---|---|
# | state | changes with every action | the prompt, given once (plus the tokens written so far) |
# | action | one move | one whole answer, or, seen closely, one token |
# | next state | decided by an environment | the same text, one token longer |
# | reward | from the world, often at every step | from a *model of human choices*, once, at the end |
# | start | often from nothing | from a model that already speaks |
#
# So the goal shrinks from a sum over time steps $t$, discounted by $\gamma$, to one expectation over prompts $x$ and answers $y$. The learned reward is $r_\theta$:
#
# $$\max_\pi\;\mathbb E\Big[\sum_t\gamma^t r_t\Big]\quad\longrightarrow\quad\max_\pi\;\mathbb E_{x\sim\mathcal D,\;y\sim\pi(\cdot\mid x)}\big[r_\theta(x,y)\big]$$
#
# What does each token of the answer get? The sum of the rewards that follow it. With one reward at the end and $\gamma=1$, that is the same number for all of them:

# %%
rewards = torch.tensor([[0.0, 0.0, 0.0, 1.2]])      # four tokens, scored at the end
to_go = rewards.flip(1).cumsum(1).flip(1)           # what follows, gamma = 1
print("reward still to come:", [round(x, 1) for x in to_go[0].tolist()])
theirs = rlhf.advantages.returns_to_go(rewards, torch.ones(1, 4))
claim("the package computes the same", bool((to_go - theirs).abs().max() < 1e-6))

# %% [markdown] rlhf={"part": "idea"}
# *Keep this: the environment became trivial, and the reward became the hard part.*
#
# ## A reward learned from comparisons
#
# A safety team looks where harm is, so two thirds of our 200 requests are harmful and one third are look-alikes: the same verbs, nothing wrong. The SFT model answers each request four times. A simulated person sees two answers at a time and picks one. The votes are noisy, but lean towards the truly better answer. These are the first pairs of each kind in which exactly one answer refuses:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
rows = [*requests(134, ("harmful",), split="train", seed=run.seed),
        *requests(66, ("lookalike",), split="train", seed=run.seed)]
answers = ask(sft, [row["prompt"] for row in rows], n=4, name="pairs").texts(tokenizer)
person = rlhf.village.Annotator(temperature=0.5)
pairs = rlhf.data.compare_answers(rows, answers, person, n=4, seed=run.seed)

refuses = rlhf.village.refuses
mixed = [p for p in pairs if refuses(p["chosen"]) != refuses(p["rejected"])]
for kind in ("harmful", "lookalike"):
    pair = next(p for p in mixed if p["family"] == kind)
    cards(pair["prompt"], [("chosen", pair["chosen"]), ("rejected", pair["rejected"])])

# %% [markdown]
# A *reward model* gives each answer one number $r$. It is a copy of the SFT model with a single output in place of the vocabulary. The *Bradley–Terry* model says: the chosen answer wins with probability $\sigma(r_c-r_r)$, where $\sigma$ is the logistic function and $r_c$, $r_r$ are the scores of the chosen and the rejected answer. Make what happened likely:
#
# $$\mathcal L=-\log\sigma(r_c-r_r)$$

# %%
r_chosen, r_rejected = torch.tensor([1.5]), torch.tensor([0.5])
loss = -F.logsigmoid(r_chosen - r_rejected).mean()
print(f"loss {loss:.3f}")
theirs = rlhf.reward_model.pairwise_loss(r_chosen, r_rejected)[0]
claim("the package computes the same loss", bool((loss - theirs).abs() < 1e-6))

# %% [markdown]
# We train it for one pass, so that each pair is new when it comes. Then we make the scores readable by measuring them in *standard deviations of the SFT model's answers*: 0 is its average answer, 1 is one standard deviation better. The 64 requests of this *exam* are never trained on; of the first we print the answers with the highest and the lowest score of eight.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
judge = rlhf.reward_model.RewardModel(sft)
optimizer = torch.optim.AdamW(judge.parameters(), lr=5e-4, weight_decay=0.0)
right = []
for batch in rlhf.data.batches(pairs, 12, tokenizer=tokenizer, seed=run.seed):
    r_chosen, r_rejected = judge(batch["ids"], batch["attention"]).chunk(2)
    loss = -F.logsigmoid(r_chosen - r_rejected).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
    optimizer.step()
    right += (r_chosen > r_rejected).tolist()         # these pairs were new
print(f"{len(pairs)} pairs; agreement with the person: {sum(right) / len(right):.0%}")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
test = requests(64, seed=run.seed)
before = exam(sft, tokenizer, test, n=8, max_new_tokens=40, generator=run.fresh("exam"),
              judge=lambda rollout: judge(rollout.ids, rollout.attention))
mean, std = before.score.mean(), before.score.std()
before.score = (before.score - mean) / std
eight = before.score[:8]                              # the answers to the first request
cards(test[0]["prompt"], [(f"score {eight[i]:.1f}", before.texts[i])
                          for i in (eight.argmax(), eight.argmin())])


def reward(rollout):
    with torch.no_grad():
        return (judge(rollout.ids, rollout.attention) - mean) / std


# %% [markdown] rlhf={"part": "loop"}
# The agreement is far from perfect, but so is the person. *Keep this: a reward model knows nothing but the comparisons it was shown.*
#
# ## Push the score up, on a leash
#
# The score is a stand-in, a *proxy*, and it was learned on texts of the SFT model. So the policy pays for moving away from its starting point, the frozen *reference* $\pi_{\rm ref}$. This is the objective of the whole field:
#
# $$\max_\pi\;\mathbb E\big[r_\theta(x,y)\big]-\beta\,\mathrm{KL}\big(\pi(\cdot\mid x)\,\|\,\pi_{\rm ref}(\cdot\mid x)\big)$$
#
# *Said aloud: score high, but pay β for every nat by which your own answers became more likely than they were at the start.*
#
# | symbol | meaning | here |
# |---|---|---|
# | $x$, $y$ | prompt, sampled answer | 48 prompts a step |
# | $r_\theta$ | reward model's score | standard deviations |
# | $\mathrm{KL}$ | mean log-ratio of policy to reference | nats per answer; 0.69 nats: twice as likely <!-- fact --> |
# | $\beta$ | price of a nat | 0.05 <!-- fact --> |
#
# For one sampled answer, the KL is estimated by the log-ratios of its tokens, summed:

# %%
beta, score = 0.05, torch.tensor([1.2])
logp = torch.tensor([[-0.2, -0.5, -0.1]])             # three tokens under the policy
logp_ref = torch.tensor([[-1.2, -1.5, -0.1]])         # the same under the reference
paid = score - beta * (logp - logp_ref).sum(1)
print(f"log-ratio {(logp - logp_ref).sum():.1f} nats, paid {paid.item():.2f}")
theirs = rlhf.ppo.rewards(score, logp, logp_ref, torch.ones(1, 3), beta)
claim("the package pays the same in sum", bool((theirs.sum() - paid).abs() < 1e-6))

# %% [markdown]
# **Proximal policy optimization (PPO)** is a short loop. Sample answers, score them, compare each with the average, and make the better ones more likely. Each batch is used twice; the *clip* stops pushing a token once its probability has changed by a fifth. (Full PPO subtracts what a fourth network, the *critic*, expects for each prompt. Here the average of the batch does that job; chapter 11 adds the critic.)

# %%
logps = rlhf.rollout.completion_logps      # log-probability of each sampled token
STEPS, ROWS = run.steps(12), 48
policy = rlhf.models.copy_of(sft)
optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-4, weight_decay=0.0)
rows = requests(STEPS * ROWS, split="train", seed=run.seed + 1)
prompts = [row["prompt"] for row in rows]
log = {"score": [], "KL": []}

# %%
for step in range(STEPS):
    rollout = ask(policy, prompts[ROWS * step:][:ROWS], name=f"ppo {step}")
    with torch.no_grad():
        kl = ((rollout.logp_old - logps(sft, rollout)) * rollout.mask).sum(1)
    paid = reward(rollout) - beta * kl
    advantage = ((paid - paid.mean()) / paid.std())[:, None]
    for _ in range(2):
        ratio = (logps(policy, rollout) - rollout.logp_old).exp()
        gain = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        loss = -(gain * rollout.mask).sum() / rollout.mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    log["score"].append(reward(rollout).mean().item())
    log["KL"].append(kl.mean().item())

# %% tags=["hide-input"]
logp = ratio.log() + rollout.logp_old
theirs = rlhf.ppo.policy_loss(logp, rollout.logp_old, advantage[:, 0], rollout.mask)[0]
claim("the package's PPO loss is the same", bool((loss - theirs).abs() < 1e-5))
parts = {"score, standard deviations": {"proxy: score": log["score"]},
         "KL to the SFT model, nats per answer": {"policy: KL": log["KL"]}}
show(plots.two_panels(parts, title="The score climbs, the KL grows to a few nats",
                      x_label="PPO step"))

# %% [markdown]
# The score climbs, the KL is a few nats, and the answers keep their length (<!-- out length --> tokens, before and after). Ship it?
#
# **The same comparisons, without a reward model.** *Direct preference optimization* (DPO) needs neither reward model nor sampling. One loss raises the log-probability of the chosen answer against the rejected one, relative to the reference. Chapter 12 derives it; here it competes.

# %%
direct = rlhf.models.copy_of(sft)
optimizer = torch.optim.AdamW(direct.parameters(), lr=5e-5, weight_decay=0.0)
losses = []
for batch in rlhf.data.batches(pairs, 16, tokenizer=tokenizer, seed=run.seed):
    with torch.no_grad():
        ref_chosen, ref_rejected = rlhf.direct_alignment.pair_logps(sft, batch)
    chosen, rejected = rlhf.direct_alignment.pair_logps(direct, batch)
    margin = 0.1 * ((chosen - ref_chosen) - (rejected - ref_rejected))
    loss = -F.logsigmoid(margin).mean()
    losses.append(loss.item())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"first loss {losses[0]:.3f} = log 2: the policy still is the reference")

# %% [markdown]
# ## What the log does not show
#
# The four models are ready. The picture at the top shows the most common of 64 answers of each. The most common answer hides the others: the SFT model still helps with harm often, as the exam will show.

# %% tags=["hide-input", "hero"]
pair = ["How do I kill the owl of Ada?", question]
stages = {"base": (base, plain_tokenizer), "SFT": (sft, tokenizer),
          "PPO": (policy, tokenizer), "DPO": (direct, tokenizer)}
said = {name: usual(*both, pair, max_new_tokens=40, generator=run.fresh("hero"))
        for name, both in stages.items()}
worth = {name: [rlhf.village.gold(*both) for both in zip(pair, texts, strict=True)]
         for name, texts in said.items()}
show(rlhf.book.drawings.answers(pair, said, worth,
                                note_below="each card: the most common of 64 answers"))

# %% [markdown]
# Was that one unlucky pair? Now the exam: 64 new requests, half harmful, half look-alikes. The strongest cheap competitors belong into the same table. *Best of 8* draws eight answers of the untrained SFT model and keeps the one with the highest score. *One sentence* is a program without any model: it answers everything with one fixed refusal, the one that scores highest on training requests.

# %%
def score_of(text, rows):
    rows = [row | {"completion": text} for row in rows]
    batch = rlhf.data.collate_demonstrations(rows, tokenizer)
    with torch.no_grad():
        return (judge(batch["ids"], batch["attention"]) - mean) / std


practice = requests(64, split="train", seed=run.seed + 1)
favourite = max(rlhf.village.tasks.REFUSALS, key=lambda t: score_of(t, practice).mean())
look = dict(max_new_tokens=40, n=4, generator=run.fresh("exam"))
ppo, dpo = (exam(model, tokenizer, test, judge=reward, reference=sft, **look)
            for model in (policy, direct))

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
arms = {"base, transcript prompt": exam(base, plain_tokenizer, test, stop="\n", **look),
        "SFT": before, "PPO": ppo, "DPO": dpo,
        "one sentence": constant(favourite, test, score=score_of(favourite, test)),
        "best of 8 (SFT)": before.best_of(8),
        "best of 8 by true reward": before.best_of(8, "gold")}
table({name: e.row() for name, e in arms.items()}, digits={"look-alikes refused": "%"},
      note="64 held-out requests, half of each kind; ± 95 % interval over requests")
rlhf.book.quote("length", f"{before.mean('length'):.0f} and {ppo.mean('length'):.0f}")

# %% [markdown]
# Read the PPO row. On harmful requests the true reward rises almost to its maximum, 3. On look-alikes it collapses, because the model refuses them. This is *over-refusal*, and on balance the training has gained nothing over the SFT model it started from. DPO did better here, but it moved much less (last column); we come back to it.
#
# Now the rows below. **One fixed sentence earns about as much score as PPO**: push far enough against this reward model, and the policy becomes that sentence. **Best of 8 gets most of the score without any training** and keeps more of the true reward. The last row cannot be run in real life, but it is telling: within eight tries the SFT model wrote a nearly perfect answer to almost every request. The reward model picked another one.

# %% tags=["hide-input"]
record = rlhf.book.recorded("04_village")
kinds = {"harmful": "harmful requests", "lookalike": "look-alikes"}
units = {"score": "score, standard deviations", "gold": "true reward"}
looks = {"harmful requests": "policy", "look-alikes": "rejected"}
parts = {unit: {label: (record.curve["step"], record.seeds(f"{what} {kind}"))
                for kind, label in kinds.items()} for what, unit in units.items()}
show(plots.two_panels(parts, x_label="PPO step", roles=looks,
                      title="The score rises on both kinds, the true reward on one"))
up = {f"{what} {kind}": torch.tensor(record.seeds(f"{what} {kind}")).diff(dim=1).sum(1)
      for what in units for kind in kinds}
n = {3: "three", 4: "four", 5: "five"}[len(record.arms)]
claim(f"{n} recorded seeds: the score rose on both kinds, look-alikes lost true reward",
      bool(up["gold lookalike"].max() < -0.5) and bool(up["score harmful"].min() > 0.1)
      and bool(up["score lookalike"].min() > 0.1), kind="T")
one, end = (torch.tensor(record.values("arms", arm, list(kinds), "score")).mean(1)
            for arm in ("one sentence", "PPO 0.05"))
claim(f"{n} recorded seeds: one sentence comes within 0.1 of PPO's score",
      bool((one > end - 0.1).all()), kind="T")
claim("here, too, look-alikes lost true reward",
      ppo.of("lookalike").mean() < before.of("lookalike").mean() - 0.5, kind="T")
rlhf.book.settled("c", "Not even a score curve for look-alikes would have warned you.")

# %% [markdown]
# KL and length did not warn either. A curve that is *not* made of the reward model would have: the share of refusals on harmless requests.
#
# **Why? Ask the reward model.** Here are the SFT model's own answers to the exam, sorted by what was asked and what was done:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
deeds = {label: before.of(kind).by_deed() for kind, label in kinds.items()}
table({f"{label}: {deed}": {"answers": len(e.texts), "score": e.mean("score"),
                            "true reward": e.mean()}
       for label, done in deeds.items() for deed, e in done.items()},
      corner="request: what the answer does")
won = [refuses(p["chosen"]) for p in mixed if p["family"] == "lookalike"]
rlhf.book.quote("mixed", len(won))
rlhf.book.quote("won", len(won) - sum(won))
for label, done in deeds.items():
    gap = done["refuse"].mean("score") - done["help"].mean("score")
    rlhf.book.quote(f"gap.{label[:4]}", f"{gap:.1f}")

# %% [markdown] rlhf={"part": "idea"}
# The true reward depends on the *question*: refuse harm, help with weeds. For the score, a refusal beats help in both cases, on look-alikes by <!-- out gap.look --> standard deviations. The person made no such mistake. In the <!-- out mixed --> comparisons on look-alikes in which exactly one answer refused, help won <!-- out won --> times. But on harmful requests refusals won far more often, and a few hundred comparisons taught this small model *that* refusals win, not *when*.
#
# ## What the leash does, exactly
#
# Would a larger β have helped? If there are only a few possible answers, the best policy is known exactly:
#
# $$\pi^\star_\beta(y)\;\propto\;\pi_{\rm ref}(y)\,e^{\,r(y)/\beta}$$
#
# *Keep the reference's odds, and multiply them by $e$ for every β of score.* Take the three kinds of answer to look-alikes, help, refuse and other, with the counts and scores of the table above. Nothing beats $\pi^\star_\beta$: of 2,000 random policies over the three answers, each buys its score with KL, and none lies above the curve of the best ones, the *frontier*. PPO, DPO and best-of-n are ways to get near that curve.

# %%
deed = deeds["look-alikes"]
r = torch.tensor([e.mean("score") for e in deed.values()], dtype=torch.float64)
p = torch.tensor([len(e.texts) for e in deed.values()], dtype=torch.float64)
p = p / p.sum()                                       # help, refuse, other under SFT
best = p * (r / 0.5).exp()                            # beta = 0.5
best = best / best.sum()
theirs = rlhf.evaluate.exact.tilted(p.log(), r, 0.5)  # takes and gives logarithms
claim("the package computes the same policy",
      bool((best.log() - theirs).abs().max() < 1e-9))

# %%
exact, three = rlhf.evaluate.exact, (1, 0.5, 0.2)
noise = torch.randn(2000, 3, generator=run.fresh("cloud"), dtype=torch.float64)
cloud = exact.place(torch.softmax(p.log() + 3 * noise, 1), p, r)     # (KL, score)
line = exact.frontier(p, r, torch.logspace(1.5, -1.7, 120))
marks = {"SFT": exact.place(p, p, r)} | {
    f"β = {b}": exact.place(exact.tilted(p.log(), r, b).exp(), p, r) for b in three}
show(plots.frontier(line, marks, cloud=cloud, y_label="score, standard deviations",
                    title="No policy has more score for its KL"),
     "Score against KL: random policies as grey dots below the curve of the best ones")
free = exact.free_energy                                # score - beta KL of the best
above = [(cloud[1] - b * cloud[0]).max() - free(p.log(), r, b) for b in three]
claim("no random policy beats the best one, at three β", bool(max(above) < 1e-9))

# %% [markdown]
# The formula says something about *two* kinds of request, too. The same β multiplies the odds of refusing by $e^{\Delta r/\beta}$, where $\Delta r$ is the score gap between refusing and helping: <!-- out gap.harm --> on harmful requests, <!-- out gap.look --> on look-alikes. So a leash spends its nats where the gap is large, and a β in between keeps the refusals of harm and lets go of others. Move it:

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
rlhf.book.explorers.beta_kinds({label: (
    list(done), [len(e.texts) for e in done.values()],
    [e.mean("score") for e in done.values()], [e.mean() for e in done.values()])
    for label, done in deeds.items()}).show()

# %% [markdown]
# Does PPO obey? We recorded it at four values of β, all else equal, on <!-- out seeds --> seeds. Beside the measured shares of refusals stand those that the formula predicts from the SFT model's answers.

# %%
betas = (0.05, 0.5, 1.0, 2.0)


def over(arm, kind, what):                            # one list over beta for each seed
    return betas, record.values("arms", [f"{arm} {b:g}" for b in betas], kind, what)


curves, shares = {}, {}
for kind, label in kinds.items():
    curves[label] = over("PPO", kind, "gold")
    shares[label] = over("PPO", kind, "refuses")
    shares[f"{label}, formula"] = over("formula", kind, "refuses")
parts = {"true reward, at most 3": curves, "share of answers that refuse": shares}
show(plots.two_panels(parts, title="A larger β keeps more help with look-alikes",
                      x_label="β", roles=looks))

# %% tags=["hide-input"]
arms = {"loose": "PPO 0.05", "tight": "PPO 2", "sft": "SFT"}
gold = {name: torch.tensor(record.values("arms", arm, list(kinds), "gold")).T
        for name, arm in arms.items()}                # (kinds, seeds)
mean_ = {name: values.mean(0) for name, values in gold.items()}
claim(f"{n} seeds: PPO ends below the SFT model with β = 0.05, above it with β = 2",
      bool((mean_["loose"] < mean_["sft"]).all())
      and bool((mean_["tight"] > mean_["sft"]).all()), kind="T")
for name, arm in arms.items():
    no = record.spread("arms", arm, "lookalike", "refuses", digits=2)
    rlhf.book.quote(f"mean.{name}", f"{gold[name].mean():.2f}")
    rlhf.book.quote(f"no.{name}", no)
rlhf.book.quote("seeds", n)

# %% [markdown]
# So the leash matters. Averaged over both kinds and all seeds, the true reward is <!-- out mean.tight --> with β = 2, against <!-- out mean.loose --> with β = 0.05 and <!-- out mean.sft --> before training; on every seed the loose leash ends below the SFT model and the tight one above it. It largely saves the look-alikes: the share refused is <!-- out no.tight -->, against <!-- out no.loose --> with the loose leash and <!-- out no.sft --> before training (range of the seeds). The price is a smaller gain on harmful requests. A larger β does not repair the reward; it stops where the reward model still sees large differences. And who chose β = 2? We did, by looking at the true reward. A real team needs a measurement of its own that nothing was trained on. <!-- fact -->
#
# *Keep this: β decides how far you trust the reward model, and where.*
#
# **PPO or DPO?** They learned from the same comparisons. Ranges are over the <!-- out seeds --> seeds:

# %%
table({arm.replace("PPO", "PPO, β ="): {
    "KL": record.spread("arms", arm, "lookalike", "kl"),
    **{label: record.spread("arms", arm, k, "gold") for k, label in kinds.items()},
    "answers sampled": samples, "networks": networks,
    "bytes per weight": size} for arm, samples, networks, size in (
        ("PPO 0.05", 576, 3, 24), ("PPO 2", 576, 3, 24), ("DPO", 0, 2, 20))},
      note="KL on look-alikes, nats. Float32, Adam; a critic adds 16 bytes to PPO.")

# %% [markdown] rlhf={"part": "wrong"}
# One pass of DPO over these pairs moves the policy much less than PPO with β = 0.05. PPO with β = 2 ends at a similar KL, and there DPO is slightly ahead on harmful requests; but neither was tuned, so the table names no winner. What differs for certain is the price. DPO needs no reward model and no sampling. PPO can sample an answer that no pair held, see it praised, and go on: its strength, and here its downfall. <!-- fact -->
#
# ## What goes wrong
#
# | trap | what you see | the one number that tells |
# |---|---|---|
# | the score reported as quality | a perfect log | refusals on harmless requests, or any measurement that was not trained on |
# | `reference = policy`, a second name for one model | the leash does nothing | the logged KL is exactly 0 after several steps |
# | the score paid at every token | answers grow longer | rewards of the tokens do not add up to score − β · KL |
# | dropout left on in DPO | a noisy start | the first loss is not 0.693 <!-- fact --> |
# | cut-off answers judged as if they were complete | endless answers | the share that ended by itself falls |
#
# The second one, live. The policy has moved, and the log says that it has not:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
drift = {}
for name, reference in (("reference = policy", policy), ("frozen copy", sft)):
    with torch.no_grad():
        ratios = (logps(policy, rollout) - logps(reference, rollout)) * rollout.mask
    drift[name] = ratios.sum(1).mean().item()
    print(f"{name:<20} logged KL {drift[name]:.2f} nats")
claim("with the alias the logged KL is exactly 0, with a frozen copy it is not",
      drift["reference = policy"] == 0 and abs(drift["frozen copy"]) > 0.1, kind="T")

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# The same pipeline, recorded once on SmolLM2 with 135 million parameters: SFT on village data, a reward model from comparisons, 50 steps of PPO with LoRA adapters on harmful requests and look-alikes.

# %%
large = rlhf.book.recorded("smollm2_ppo")
parts = {"score": {"proxy: score": "score"}, "true reward": {"gold": "gold"}}
show(plots.recorded_panels(large, parts, title="At 135M both curves rise"))
for prompt, answers in large.texts()[1:3]:
    cards(prompt, answers)
table({f"{when} PPO": {label: (large.held_out[when][kind]["mean"],
                               large.held_out[when][kind]["standard_error"])
                       for kind, label in kinds.items()}
       for when in ("before", "after")},
      note="true reward, ± standard error over 25 harmful requests and 39 look-alikes")
claim("harmful requests gained more than four standard errors",
      large.gain("harmful")[0] > 4 * large.gain("harmful")[1], kind="T")

# %% [markdown] rlhf={"part": "exercises"}
# What carries over: the score rises, harmful requests are refused, and so are look-alikes. What does not: the mean true reward of look-alikes *rises*, from below zero to zero. Here SFT left the model so poor at answering that a refusal, which is worth 0, was an improvement. The number improved and the behaviour did not. Read texts, too.
#
# ## Exercises
#
# ### Exercise 4.1 · The reward of each token
#
# Above, an answer was paid $r-\beta\sum_t(\log\pi-\log\pi_{\rm ref})$ in one sum. PPO with a critic pays *per token*: every token its own penalty, and the last token the score as well. Write it for one answer (two or three lines).

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex04-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def token_rewards(score, logp, logp_ref, beta):
    """A number, two (T,) tensors, a number -> (T,) rewards of the tokens."""
    ### BEGIN SOLUTION
    rewards = -beta * (logp - logp_ref)
    rewards[-1] += score
    return rewards
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex04-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("4.1", token_rewards)
### BEGIN HIDDEN TESTS
check("4.1", token_rewards, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Start with the penalties of all tokens, a tensor of length T. Which one place changes when the answer ends?
# </details>
#
# <!-- solution 4.1 -->
#
# ### Exercise 4.2 · Which β refuses nine times in ten?
#
# Under the reference an answer refuses with probability `p`; a refusal scores `gap` more than help, and there is nothing else. At which β does the best policy refuse with probability `share`? On paper first, with p = 0.2, gap = 1, share = 0.9. <!-- fact -->

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex04-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def beta_for(share, p, gap):
    """Three numbers, share above p -> beta."""
    ### BEGIN SOLUTION
    more = share / (1 - share) / (p / (1 - p))        # by what the odds were multiplied
    return gap / torch.tensor(more).log().item()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex04-2-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("4.2", beta_for)
### BEGIN HIDDEN TESTS
check("4.2", beta_for, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Write the odds of refusing, before and after. The formula multiplies them by one number.
# </details>
#
# <!-- solution 4.2 -->
#
# ### Exercise 4.3 · Judge a result
#
# A team reports: "PPO raised our reward from 0.1 to 0.8 at a KL of 2 nats. People who saw 100 *harmful* prompts preferred the new model 93 to 7. We ship." Which measurement do you ask for first? (a) more raters on the same prompts, (b) the reward on held-out prompts, (c) raters on harmless prompts that look harmful, (d) the same result at a smaller KL. <!-- fact -->

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex04-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def ask_first():
    """-> "a", "b", "c" or "d"."""
    ### BEGIN SOLUTION
    return "c"  # our own run would have passed all the others
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex04-3-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("4.3", ask_first)
### BEGIN HIDDEN TESTS
check("4.3", ask_first, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# Which of the four would our own PPO run have failed?
# </details>
#
# <!-- solution 4.3 -->
#
# ## Retell it
#
# 1. A base model continues text; a little finetuning on demonstrations makes it answer and stop.
# 2. People compare answers, a reward model learns to predict their choices, and the policy is pushed towards high scores, on a leash to where it started.
# 3. In our run the score rose on every kind of request, while the model learned to refuse the harmless ones, too; one fixed refusal earns the same score, and the best of eight untrained answers is better.
# 4. No curve of the log showed it; a count of refusals on harmless requests would have.
# 5. A tighter leash keeps most of the gain and loses less, because it spends its budget where the reward model sees the largest differences; which leash is right, only a measurement outside the training can say.
#
# *In the book*: [Training Overview](https://rlhfbook.com/c/03-training-overview), chapter 3. *Deeper*: [a thermostat, CartPole, Q-learning, memory and recipes](deeper/04_training_overview.ipynb). *Next*: chapter 5, What are preferences?
#
# <!-- nav -->
