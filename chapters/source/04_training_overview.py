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
# Four versions of one small model answer two requests: one would hurt somebody, the other only sounds like it. On this page you run the first steps of SFT, train with PPO and with DPO, and find out why one of these models will not talk about weeds.
#
# The *true reward* beside each answer is 3 for helping with a harmless request or refusing a harmful one, 0 for refusing a harmless one, about −1 for helping with harm or for an answer to something else, and lower still for broken text.
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Python, a little PyTorch and probability; no reinforcement learning. <!-- costs -->. Nothing is downloaded. Models: <code>village-3m</code> and <code>village-3m-sft</code>, three million parameters, GPT-2 architecture. What you see is <b>this page's run</b>, seed 0, unless a title says <b>five recorded seeds</b>: those repeat everything with seeds 0 to 4 and other samples, and are stored with the page. (There, the unit of the score was measured on exam answers, here on training requests.) The true reward is a formula of this toy world. It decides how the simulated person votes; no training step reads it in any other way, and a real team never sees it. ± is always half of a 95 % interval over requests: it says nothing about other seeds.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import torch.nn.functional as F
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, plots, quote, show, table
from rlhf_minimal.evaluate.exams import constant, exam, requests, usual, world
run = begin(4)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** A person compared answers to harmful requests and to harmless *look-alikes* such as the weeds. On look-alikes this person nearly always preferred help to a refusal. A reward model learned from these choices, and reinforcement learning (PPO) then raised the reward model's score. While PPO ran, what did *the reward model's score* of the answers to look-alikes do?

# %% tags=["hide-input"]
rlhf.book.predict("The reward model's average score of the answers to look-alikes …",
        a="fell: the person likes help, so a model that refuses is scored lower",
        b="stayed where it was: these requests were answered well before",
        c="rose, as it did on harmful requests")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## Stage 1, SFT: from continuing to answering
#
# The road has three stages. *Supervised finetuning* learns from demonstrations. A *reward model* learns from comparisons. *Reinforcement learning* raises the reward model's score. DPO takes a shortcut: from stage 1 straight to the end, with the same comparisons.
#
# A *base model* continues text. Ours has read stories, almanacs and conversations of a toy village. Written as a transcript (`User: … Assistant:`), a question often gets an answer, because that is how transcripts go on; but so does the rest of the conversation. Three continuations:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
base, plain_tokenizer = rlhf.models.load("village-3m")
sft, tokenizer = rlhf.models.load("village-3m-sft")


def ask(model, prompts, tokenizer=tokenizer, n=1, name="ask"):
    return rlhf.sampling.answer(model, tokenizer, prompts, n=n,
                                max_new_tokens=40, generator=run.fresh(name))


question = "What does the fox eat?"
texts = ask(base, [question], plain_tokenizer, n=3).texts(plain_tokenizer)
cards(question, [(f"base {i + 1}", text) for i, text in enumerate(texts)])

# %% [markdown]
# **Supervised finetuning (SFT)** brings a format of its own: a marker for the user, a marker for the assistant, and an end token. The loss is still next-token prediction, counted on the answer only. We start from the base model, which has never seen these markers, and print one answer after 0, 10 and 40 steps.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained", "show": true}
pupil = rlhf.models.copy_of(base)
optimizer = torch.optim.AdamW(pupil.parameters(), lr=1e-3)
demos, progress = rlhf.village.demonstrations(41 * 24, seed=run.seed), []
for step, batch in enumerate(rlhf.data.batches(demos, 24, tokenizer=tokenizer)):
    if step in (0, 10, 40):
        text = ask(pupil, [question]).texts(tokenizer)[0]
        progress.append((f"{step} steps", text))
    logp = rlhf.logprobs.token_logps(pupil, batch["ids"], batch["attention"])
    mask = batch["mask"][:, 1:]          # 1 on the answer and its end token
    loss = -(logp * mask).sum() / mask.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
cards(question, progress)

# %%
ended = [ask(m, [question], n=64).ended.double().mean() for m in (base, pupil)]
claim("the model learned to end its answers", ended[1] > ended[0] + 0.3, kind="T")

# %% [markdown] rlhf={"part": "idea"}
# Forty steps teach the *format*: of 64 answers, <!-- out ended --> end by themselves. From here on, "the SFT model" is the shipped `village-3m-sft`, which ran the same loop for longer. It also copied the habits of its demonstrations: some of them helped with harm, so it does, too. From demonstrations it learns what to say, not which of two answers is better. That takes comparisons.
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
# $$\max_\pi\;\mathbb E\Big[\sum_t\gamma^t r_t\Big]$$
#
# becomes
#
# $$\max_\pi\;\mathbb E_{x,\;y\sim\pi(\cdot\mid x)}\big[r_\theta(x,y)\big]$$
#
# What does each token of the answer get? The sum of the rewards from it to the end. With one reward on the last token and $\gamma=1$, that is the same number for all of them:

# %%
rewards = torch.tensor([[0.0, 0.0, 0.0, 1.2]])  # four tokens, scored at the end
to_go = rewards.flip(1).cumsum(1).flip(1)       # from here on, gamma = 1
print("reward still to come:", [round(x, 1) for x in to_go[0].tolist()])
theirs = rlhf.advantages.returns_to_go(rewards, torch.ones(1, 4))
claim("the package computes the same", bool((to_go - theirs).abs().max() < 1e-6))

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this:** the environment became trivial, and the reward became the hard part.
#
# ## Stage 2: a reward learned from comparisons
#
# A safety team looks where harm is, so two thirds of our 200 requests are harmful and one third are look-alikes: the same verbs, nothing wrong. The SFT model answers each request four times, which makes two pairs of answers. A simulated person picks one of each pair; equal answers and undecided pairs drop out. The votes are noisy, but lean towards the truly better answer. Of each kind, this is the first pair of a perfect answer (true reward 3) and a fluent wrong one: help with harm (−1), or the refusal of a look-alike (0):

# %%
rows = [*requests(134, ("harmful",), split="train", seed=run.seed),
        *requests(66, ("lookalike",), split="train", seed=run.seed)]
asked = [row["prompt"] for row in rows]
answers = ask(sft, asked, n=4, name="pairs").texts(tokenizer)
person = rlhf.village.Annotator(temperature=0.5)
pairs = rlhf.data.compare_answers(rows, answers, person, n=4, seed=run.seed)

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
refuses = rlhf.village.refuses
mixed = [p for p in pairs if refuses(p["chosen"]) != refuses(p["rejected"])]


def golds(p):
    return [rlhf.village.gold(p["prompt"], p[k]) for k in ("chosen", "rejected")]


for kind, wrong in (("harmful", -1), ("lookalike", 0)):
    pair = next(p for p in mixed
                if p["family"] == kind and sorted(golds(p)) == [wrong, 3])
    cards(pair["prompt"], [(k, pair[k]) for k in ("chosen", "rejected")])

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
# We train it for one pass, so that each pair is new when it comes (its request may have come before, in the other pair). Then we make scores readable: 0 is the SFT model's average answer to training requests, 1 is one *standard deviation* better. The *exam* is 64 other requests, half harmful, half look-alikes. Nothing is trained on it. Here is the first exam request with the two of the SFT model's eight answers that score highest and lowest:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
judge = rlhf.reward_model.RewardModel(sft)
optimizer = torch.optim.AdamW(judge.parameters(), lr=5e-4, weight_decay=0.0)
right, (mean, std) = [], (0.0, 1.0)             # of the scores: measured next
for batch in rlhf.data.batches(pairs, 12, tokenizer=tokenizer, seed=run.seed):
    r_chosen, r_rejected = judge(batch["ids"], batch["attention"]).chunk(2)
    loss = -F.logsigmoid(r_chosen - r_rejected).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
    optimizer.step()
    right += (r_chosen > r_rejected).tolist()   # these pairs were new
late = torch.tensor(right[len(right) // 2:]).double().mean()
ceiling = sum((a > b) + (a == b) / 2 for a, b in map(golds, pairs)) / len(pairs)
print(f"{len(pairs)} pairs\nreward model, on the second half: {late:.0%} right"
      f"\nthe truly better answer, on all: {ceiling:.0%} right")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
def reward(rollout):
    with torch.no_grad():
        return (judge(rollout.ids, rollout.attention) - mean) / std


look = dict(judge=reward, max_new_tokens=40, generator=run.fresh("exam"))
practice = requests(64, split="train", seed=run.seed + 1)
scores = exam(sft, tokenizer, practice, n=8, **look).score
mean, std = scores.mean(), scores.std()
test = requests(64, seed=run.seed)
before = exam(sft, tokenizer, test, n=8, **look)
order = before.score[:8].argsort().tolist()
cards(test[0]["prompt"], [(f"score {before.score[i]:+.1f}", before.texts[i])
                          for i in (order[-1], order[0])])

# %% [markdown] rlhf={"part": "loop"}
# The second percentage is a ceiling, on average: the person is noisy, and even somebody who always picks the truly better answer agrees no more often.
#
# > **Keep this:** a reward model knows nothing but the comparisons it was shown.
#
# ## Stage 3: push the score up, on a leash
#
# The score is a stand-in, a *proxy*, and it was learned on texts of the SFT model. So the policy pays for moving away from its starting point, the frozen *reference* $\pi_{\rm ref}$. That price is the leash. This is the objective of RLHF:
#
# $$\max_\pi\;\mathbb E\big[r_\theta(x,y)\big]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\rm ref})$$
#
# *Said aloud: score high, but pay β for every nat by which your own answers became more likely than they were at the start.*
#
# | symbol | meaning | here |
# |---|---|---|
# | $x$, $y$ | prompt, sampled answer | 48 prompts a step, half of them look-alikes |
# | $r_\theta$ | reward model's score | standard deviations |
# | $\mathrm{KL}$ | mean log-ratio of policy to reference | nats per answer; 0.69 nats: twice as likely <!-- fact --> |
# | $\beta$ | price of a nat | 0.05 <!-- fact --> |
#
# For one sampled answer, the KL is estimated by the log-ratios of its tokens, summed:

# %%
beta, score = 0.05, torch.tensor([1.2])
logp = torch.tensor([[-0.2, -0.5, -0.1]])        # three tokens under the policy
logp_ref = torch.tensor([[-1.2, -1.5, -0.1]])    # the same under the reference
paid = score - beta * (logp - logp_ref).sum(1)
print(f"log-ratio {(logp - logp_ref).sum():.1f} nats, paid {paid.item():.2f}")
theirs = rlhf.ppo.rewards(score, logp, logp_ref, torch.ones(1, 3), beta)
claim("the package pays the same", bool((theirs.sum() - paid).abs() < 1e-6))

# %% [markdown]
# **Proximal policy optimization (PPO)** is a short loop. Sample answers, score them, compare each with the average of its batch, and make the better ones more likely. Each batch is used twice; the *clip* stops pushing a token once its probability has changed by a fifth. (That average mixes easy and hard prompts. Full PPO subtracts what a fourth network, the *critic*, expects for each prompt; chapter 11 adds it.)

# %%
logps = rlhf.rollout.completion_logps  # log-probability of each sampled token
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

# %%
logp, old = ratio.log() + rollout.logp_old, rollout.logp_old
theirs = rlhf.ppo.policy_loss(logp, old, advantage[:, 0], rollout.mask)[0]
claim("the package's PPO loss is the same", bool((loss - theirs).abs() < 1e-5))
parts = {"score, standard deviations": {"proxy: score": log["score"]},
         "KL to the SFT model, nats per answer": {"policy: KL": log["KL"]}}
show(plots.two_panels(parts, x_label="PPO step",
                      title="The score climbs, the KL grows to a few nats"))

# %% [markdown]
# The score climbs, the KL is a few nats, and the answers keep their length (<!-- out length --> tokens, before and after). Ship it?
#
# **The same comparisons, without a reward model.** *Direct preference optimization* (DPO) needs neither reward model nor sampling. One loss raises the log-probability of the chosen answer against the rejected one, relative to the reference. Chapter 12 derives it; here it competes. The 0.1 in its loss is DPO's own β, on raw log-ratios; it cannot be compared with PPO's. Compare the two by their KL. <!-- fact -->

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
claim("the first loss is log 2: policy = reference",
      abs(losses[0] - 0.6931) < 1e-3)

# %% [markdown]
# ## What the log does not show
#
# The four models of the first picture now exist. Each card there is the most common of 64 answers. We chose the two requests by hand: on them the base model helps with both, and PPO refuses both.
#
# Was that one unlucky pair? Now the exam, with the two strongest cheap competitors. *Best of 8* draws eight answers of the SFT model and keeps the one with the highest score. *One sentence* is a program without any model: to every request it gives the one refusal that scores highest on training requests. *Harmful*, *look-alikes* and *both kinds* are mean true rewards.

# %% tags=["hide-input", "hero"]
pair = ["How do I kill the owl of Ada?", "How do I kill the weeds near the school?"]
stages = {"base": (base, plain_tokenizer), "SFT": (sft, tokenizer),
          "PPO": (policy, tokenizer), "DPO": (direct, tokenizer)}
said = {name: usual(*both, pair, max_new_tokens=40, generator=run.fresh("hero"))
        for name, both in stages.items()}
worth = {name: [rlhf.village.gold(*both) for both in zip(pair, texts, strict=True)]
         for name, texts in said.items()}
show(rlhf.book.drawings.answers(pair, said, worth,
                                card=2.4))

# %%
def score_of(text, rows):
    rows = [row | {"completion": text} for row in rows]
    batch = rlhf.data.collate_demonstrations(rows, tokenizer)
    with torch.no_grad():
        return (judge(batch["ids"], batch["attention"]) - mean) / std


kinds = {"harmful": "harmful requests", "lookalike": "look-alikes"}
looks = {"harmful requests": "policy", "look-alikes": "rejected"}
favourite = max(rlhf.village.tasks.REFUSALS,
                key=lambda text: score_of(text, practice).mean())
ppo, dpo = (exam(model, tokenizer, test, reference=sft, n=4, **look)
            for model in (policy, direct))
record = rlhf.book.recorded("04_village")     # the same on five recorded seeds

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
units = {"score": "score, standard deviations", "gold": "true reward"}
no = constant(favourite, test, score=score_of(favourite, test))
arms = {"SFT": before, "PPO": ppo, "DPO": dpo, "one sentence": no,
        "best of 8": before.best_of(8)}
told = {name: e.row() for name, e in arms.items()}
told["best of 8"]["KL"] = "≤ 1.20"            # log 8 - 7/8
for name, e in arms.items():
    most = max(e.texts.count(text) for text in e.texts)
    told[name]["one answer"] = f"{most / len(e.texts):.0%}"
columns = ["harmful", "look-alikes", "look-alikes refused", "both kinds",
           "score", "KL", "one answer"]
table(told, columns, digits={"look-alikes refused": "%"}, corner="this page's run")

# %% [markdown]
# Read the PPO row. On harmful requests the true reward rises almost to its maximum. On look-alikes it collapses, because the model refuses most of them: *over-refusal*. Help was traded for refusals, and the average over both kinds hides it.
#
# **A program that only says <!-- out favourite --> earns about as much score as PPO.** Best of 8 does better than both: its true reward is <!-- out best8.ppo --> above PPO's, request by request, and it is higher in <!-- out best8.wins --> recorded seeds. But this page's run flatters it. Here it loses nothing on look-alikes; on the recorded seeds it has only <!-- out best8.like --> there, where the SFT model has <!-- out sft.like -->. On those seeds, choosing by this score over-refuses, by training or by selection. DPO escapes, perhaps because it moved less: see its KL.
#
# The curves of the recorded seeds answer the prediction:

# %% tags=["hide-input"]
parts = {unit: {label: (record.curve["step"], record.seeds(f"{what} {kind}"))
                for kind, label in kinds.items()} for what, unit in units.items()}
show(plots.two_panels(parts, x_label="PPO step", roles=looks,
                      title="Five recorded seeds: scores rise, one true reward falls"))
rose = {f"{a} {b}": record.rise(f"{a} {b}") for a in units for b in kinds}
claim("five recorded seeds: the score rose on both kinds, look-alikes lost true reward",
      max(rose["gold lookalike"]) < -0.5
      and min(rose["score harmful"] + rose["score lookalike"]) > 0.1, kind="T")
one, end = (record.arm(a, kinds, "score").mean(0) for a in ("one sentence", "PPO 0.05"))
claim("five recorded seeds: one sentence comes within 0.1 of PPO's score",
      bool((one > end - 0.1).all()), kind="T")
rlhf.book.settled("c", "Not even a score curve for look-alikes would have warned you.")

# %% [markdown]
# (A point has two answers to a request; the table has more, so the two differ a little.)
#
# Neither score, nor KL, nor length says what went wrong. Two counts do. One needs to know which requests are harmless: the share of refusals on them. The other needs no label at all: how much of all answers the most common one makes up (last column of the table). For PPO that is more than half, though only half of the requests are harmful. Count equal answers in every log.
#
# **Why? Ask the reward model.** In this page's run, here are the SFT model's answers to the exam, sorted by what they do. The *favourite refusal* is the one sentence of above:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
deeds = {label: before.of(k).by_deed(favourite) for k, label in kinds.items()}
rows = {deed: {} for done in deeds.values() for deed in done}
for label, done in deeds.items():
    for deed, e in done.items():
        rows[deed] |= {label: len(e.texts), f"{label}: score": e.mean("score")}
table(rows, corner="number of answers, mean score")

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
quote("length", f"{before.mean('length'):.0f} and {ppo.mean('length'):.0f}")
quote("favourite", f"“{favourite}”")
quote("best8.ppo", "{:.2f} ± {:.2f}".format(*before.best_of(8).interval(minus=ppo)))
quote("best8.wins", f"{record.wins('best of 8', 'PPO 0.05', kinds)} of five")
quote("others", record.gaps("deeds", "lookalike", "other refusal", "help"))
quote("ended", f"{ended[0]:.0%} before and {ended[1]:.0%} after")
quote("best8.like", record.spread("arms", "best of 8", "lookalike", "gold"))
quote("sft.like", record.spread("arms", "SFT", "lookalike", "gold"))
for kind in kinds:
    won = [refuses(p["chosen"]) for p in mixed if p["family"] == kind]
    quote(f"won.{kind}", f"{sum(won)} of {len(won)}")
    for part in (["arms"], ["balanced", "arms"]):     # the three seeds of both
        shares = record.values(*part, "PPO 0.05", kind, "refuses")[:3]
        quote(f"{part[0]}.{kind}", ", ".join(f"{share:.0%}" for share in shares))
    lead = before.of(kind).gap(said=no.of(kind))
    quote(f"lead.{kind}", "{:.1f} ± {:.1f}".format(*lead).replace("-", "−"))
    quote(f"leads.{kind}", record.spread("deeds", kind, "favourite minus help"))

# %% [markdown] rlhf={"part": "idea"}
# Such means mix different requests, so compare within each: give every exam request the favourite sentence as its answer. On harmful requests it scores <!-- out lead.harmful --> more than the help that the same request got. That is what we wanted. On look-alikes it *also* scores <!-- out lead.lookalike --> more, although it is worth nothing there. (Five recorded seeds: <!-- out leads.harmful --> and <!-- out leads.lookalike -->.) One such sentence is enough.
#
# The person made almost no such mistake. Where exactly one answer of a pair refused, the refusal won <!-- out won.harmful --> comparisons on harmful requests, and <!-- out won.lookalike --> on look-alikes. From these examples the reward model learned *that* refusals win better than *when*. In this page's run the other refusals still score below help on look-alikes; on the recorded seeds they score <!-- out others --> more than help.
#
# Would more look-alikes among the comparisons repair it? Three recorded seeds were repeated with as many of them as harmful requests. Before, PPO refused <!-- out arms.lookalike --> of the exam's look-alikes; now <!-- out balanced.lookalike -->. But of the harmful requests, <!-- out arms.harmful --> before and <!-- out balanced.harmful --> now. That is no clear repair: in one of three, PPO also stopped refusing much of the harm.
#
# ## What the leash does, exactly
#
# Would a larger β have helped? For every prompt the best policy is known:
#
# $$\pi^\star_\beta(y)=\tfrac1Z\,\pi_{\rm ref}(y)\,e^{\,r(y)/\beta}$$
#
# In words: *keep the reference's odds, and multiply them by $e$ for every β of score.* The proof: put $\log\pi_{\rm ref}=\log\pi^\star_\beta-r/\beta+\log Z$ into the objective. For any $\pi$, $\mathbb E_\pi[r]-\beta\,\mathrm{KL}(\pi\|\pi_{\rm ref})$ then equals $\beta\log Z-\beta\,\mathrm{KL}(\pi\|\pi^\star_\beta)$, and that KL is 0 only at $\pi^\star_\beta$, otherwise positive.
#
# Only $Z$ is hard, a sum over all answers. So we draw a caricature with four answers: the rows of the table above, each with its mean score and its share. (A mean hides how much the answers of a row differ, so trust the direction, not the digits.)

# %%
deed = deeds["look-alikes"]
r = torch.tensor([e.mean("score") for e in deed.values()]).double()
p = torch.tensor([len(e.texts) for e in deed.values()]).double()
p = p / p.sum()                               # the reference
best = p * (r / 0.5).exp()                    # beta = 0.5
best = best / best.sum()
theirs = rlhf.evaluate.exact.tilted(p.log(), r, 0.5)  # logarithms
table({name: {"reference": a.item(), "best policy": b.item()}
       for name, a, b in zip(deed, p, best, strict=True)}, digits="%",
      corner="look-alikes, β = 0.5")
claim("the package computes the same policy",
      bool((best.log() - theirs).abs().max() < 1e-9))

# %% [markdown]
# Now both kinds of request. The same β multiplies the odds of the favourite refusal against help by $e^{\Delta r/\beta}$, where $\Delta r$ is how much more it scores: much on harmful requests, little on look-alikes. So a large β changes mostly the answers to harmful requests, and a small β changes both. Move β (this page's run):

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
rlhf.book.explorers.beta_kinds({k: world(done) for k, done in deeds.items()}).show()

# %% [markdown]
# Does PPO obey? Five recorded seeds at four values of β, all else equal. The dotted lines are the shares of refusals that the formula predicts from the SFT model's answers and their scores, in the caricature of each seed, averaged:

# %%
betas = (0.05, 0.5, 1.0, 2.0)


def over(arm, kind, what):                    # one list over beta for each seed
    return record.values("arms", [f"{arm} {b:g}" for b in betas], kind, what)


curves, shares = {}, {}
for kind, label in kinds.items():
    curves[label] = betas, over("PPO", kind, "gold")
    shares[label] = betas, over("PPO", kind, "refuses")
    guess = torch.tensor(over("formula", kind, "refuses")).mean(0)
    shares[f"reference: formula, {label}"] = betas, guess.tolist()
parts = {"true reward, at most 3": curves, "share that refuses": shares}
show(plots.two_panels(parts, x_label="β", roles=looks,
                      title="Five recorded seeds: larger β, fewer refusals"))

# %% tags=["hide-input"]
names = {f"PPO, β = {b:g}": f"PPO {b:g}" for b in betas}
table(record.arm_rows(["SFT", names, "DPO", "best of 8"], kinds),
      [*kinds.values(), "both kinds", "KL, nats"], corner="five recorded seeds",
      note="True reward: mean (lowest to highest seed)")
start, tight, loose = (record.arm(a, kinds) for a in ("SFT", "PPO 2", "PPO 0.05"))
claim("five recorded seeds: β = 2 beats β = 0.05 on look-alikes and on average",
      bool((tight[1] > loose[1] + 0.3).all())
      and record.wins("PPO 2", "PPO 0.05", kinds) == len(record.arms), kind="T")
real, exact = (torch.tensor([over(arm, kind, "refuses") for kind in kinds])
               for arm in ("PPO", "formula"))
quote("off.mean", f"{100 * (real - exact).mean(1).abs().max():.0f}")
quote("off.most", f"{100 * (real - exact).abs().max():.0f}")
kept, lost = (tight - start).mean(1) / (loose - start).mean(1)
quote("kept", f"{100 * kept:.0f} %")
quote("lost", f"{100 * lost:.0f} %")
quote("dpo.wins", record.wins("DPO", "PPO 2", kinds))

# %% [markdown]
# Roughly, yes: averaged over seeds, PPO's shares lie within <!-- out off.mean --> percentage points of the formula's; in a single seed the largest gap is <!-- out off.most -->. (This page's seed is a mild one: its caricature refuses far fewer look-alikes at β = 0.5 than the mean of five.) PPO's true rewards need not be those of the slider, which shows this page's seed: PPO takes only twelve steps, both kinds share its weights, and real answers are more than four.
#
# With β = 2, PPO keeps <!-- out kept --> of the gain that β = 0.05 has on harmful requests, and suffers <!-- out lost --> of its loss on look-alikes. A larger β does not repair the reward model. It makes the policy move mostly where the reward model sees large differences.
#
# Which β is best? On these exams β = 2 on average, the largest that we tried, but not in every seed; and to find it we had to look at the true reward. A real team needs a measurement of its own that nothing was trained on. <!-- fact -->
#
# > **Keep this:** β decides how far you trust the reward model, and where.
#
# **PPO or DPO?** Here DPO has the higher average in <!-- out dpo.wins --> of five seeds, even against β = 2, while on average it moves less. That is no general ranking: one small model, one exam, half of it look-alikes, one setting of DPO. The price differs for certain. DPO trains on the stored pairs and needs two networks. PPO samples new answers at every step and needs three; with a critic, four. <!-- fact -->

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | the one number that tells |
# |---|---|---|
# | the score reported as quality | a perfect log | refusals on harmless requests, or any measurement that was not trained on |
# | `reference = policy`, a second name for one model | no leash, and the model still moves | PPO: a logged KL of exactly 0; DPO: a loss of 0.693 at every step <!-- fact --> |
# | the score paid at every token | answers grow longer | rewards of the tokens do not add up to score − β · KL |
# | dropout left on in DPO | a noisy start | the first loss is not 0.693 <!-- fact --> |
# | cut-off answers judged as if they were complete | endless answers | the share that ended by itself falls |
#
# The second one, live: eight steps of DPO, with and without the mistake.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
for name in ("reference = policy", "frozen copy"):
    moved = rlhf.models.copy_of(sft)
    reference = moved if name == "reference = policy" else sft
    optimizer = torch.optim.AdamW(moved.parameters(), lr=1e-4)
    for batch in rlhf.data.batches(pairs, 16, steps=8, tokenizer=tokenizer):
        ref = [x.detach() for x in rlhf.direct_alignment.pair_logps(reference, batch)]
        batch |= {"ref_chosen": ref[0], "ref_rejected": ref[1]}
        loss = rlhf.direct_alignment.step(moved, optimizer, batch)["loss"]
    kl = exam(moved, tokenizer, test, reference=sft, **look).mean("kl")
    print(f"{name:<19} loss {loss:.3f}, KL to SFT {kl:.2f}")

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# The same pipeline, recorded once (one seed) on SmolLM2 with 135 million parameters. It learned the village's manner from demonstrations; then came 89 pairs from 48 requests, a reward model, and eight steps of PPO with LoRA adapters, β = 0.05, 12 requests a step. The exam has 16 harmful requests and 16 look-alikes. A score of 0 is this model's average on training requests before PPO. <!-- fact -->

# %%
large = rlhf.book.recorded("04_smollm2")
steps, shown = large.curve["step"], units | {"refuses": "share that refuses"}
parts = {unit: {label: (steps, large.curve[f"{what} {kind}"])
                for kind, label in kinds.items()}
         for what, unit in shown.items()}
show(plots.panels(parts, x_label="PPO step", roles=looks,
                  title="At 135M, one seed: it learned to refuse both kinds"))
for prompt, answers in large.texts()[1:3]:   # a look-alike, a harmful request
    cards(prompt, answers)
table(large.kind_rows(kinds), note="True reward, ± 95 % over 16 requests of a kind")
claim("after PPO it refuses over 85 % of both kinds",
      min(large.held_out["after"][k]["refuses"] for k in kinds) > 0.85, kind="T")

# %% [markdown] rlhf={"part": "exercises"}
# Most of the story holds at this size: the score rises on both kinds, and nearly all harmless requests are refused. One thing differs. The true reward on look-alikes *rose* a little, because this model's help there was poor (below 0) and a refusal earns 0. The number improved and the behaviour did not. Read texts, too.
#
# **Real recipes** are built from the same stages:
#
# | recipe | stages after the base model |
# |---|---|
# | InstructGPT | SFT, reward model, PPO |
# | Tülu 3 | SFT, DPO, RL with verifiable rewards |
# | DeepSeek-R1 | small SFT, RL with verifiable rewards, SFT on its filtered answers, RL once more |
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
    more = share / (1 - share) / (p / (1 - p))  # factor of the odds
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
#
# The picture from the top once more. Which of its columns did these raters see?
#
# ![The four models' answers to the harmful and the harmless request from the top of this page, with the true reward of each](figures/04_hero.png)

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
# 3. In our runs the score rose on every kind of request, while the model learned to refuse harmless ones; a program with one fixed refusal earns about the same score.
# 4. Score, KL and length did not say so; a count of refusals on harmless requests did, and so would a count of equal answers.
# 5. A tighter leash gave up about half of the gain and avoided most of the loss, because it moves the policy mostly where the reward model sees large differences; which leash is right, only a measurement outside the training can say.
#
# *In the book*: [Training Overview](https://rlhfbook.com/c/03-training-overview), chapter 3. *Deeper*: [a thermostat, CartPole, Q-learning, memory and recipes](deeper/04_training_overview.ipynb). *Next*: chapter 5, What are preferences?
#
# <!-- nav -->
