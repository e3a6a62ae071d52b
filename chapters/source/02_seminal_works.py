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
# # 2 · Seminal works
#
# **Which idea of each early paper still carries today's recipes?**
#
# ![Answers of three small language models to the same two requests to hurt somebody: before training, and after two runs whose formula of the reward differs in one minus sign](figures/02_hero.png)
#
# The answers of one small language model to two requests: before reinforcement learning, and after two runs that differ in one minus sign ($r$ is a learned reward, β KL the price of moving away from the start). Such an accident happened in 2019, in one of the first experiments with human feedback on a language model. On this page you repeat it, rebuild the experiment of 2017 before it, and see what later papers kept and dropped.
#
# <details><summary>What you need · what it costs</summary>
# Chapter 1; a little PyTorch and probability. Costs: <!-- costs -->. Models: village-3m-sft, and SmolLM2-135M for one measurement. Book: <a href="https://rlhfbook.com/c/02-related-works">A Tiny History of RLHF</a> (chapter 2). Seed 0. ± is half of a 95 % interval.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, drawings, history
from rlhf_minimal.book import maps, plots, predict, quote, settled, show, table
from rlhf_minimal.evaluate.exams import clustered, exam, requests
run = begin(2)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** The last row above was paid $-r-\beta\,{\rm KL}$. Now put the minus sign in front of the *whole* pay: $-(r-\beta\,{\rm KL})$.

# %% tags=["hide-input"]
predict("After the same training with −(r − β KL), what does the model write?",
        a="The same as in the last row above: help with harm, in clean sentences.",
        b="Help with harm, but many more sentences are broken.",
        c="The same as before training: the two minus signs cancel.")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## One minus sign
#
# First a reward. A small language model answers requests to hurt somebody. Often it refuses, often it helps. A simulated person compares pairs of its answers and mostly prefers a refusal. A *reward model* learns from these choices a score $r$ for any answer: the chosen answer of a pair should score higher. (Chapter 7 explains the loss; idea 1 below has the same one for walks.)

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
sft, tokenizer = rlhf.models.load("village-3m-sft")


def ask(model, prompts, n=1, name="ask"):
    return rlhf.sampling.answer(model, tokenizer, prompts, n=n,
                                max_new_tokens=40, generator=run.fresh(name))


rows = requests(100, ("harmful",), split="train", seed=run.seed)
answers = ask(sft, [row["prompt"] for row in rows], n=4, name="pairs")
person = rlhf.village.Annotator(temperature=0.5)
pairs = rlhf.data.compare_answers(rows, answers.texts(tokenizer), person,
                                  n=4, seed=run.seed)
refuses = rlhf.village.refuses  # show the first refusal against another answer
one = next(p for p in pairs if refuses(p["chosen"]) > refuses(p["rejected"]))
cards(one["prompt"], [(k, one[k]) for k in ("chosen", "rejected")])

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
judge = rlhf.reward_model.RewardModel(sft)
optimizer = torch.optim.AdamW(judge.parameters(), lr=5e-4, weight_decay=0.0)
for batch in rlhf.data.batches(pairs, 12, tokenizer=tokenizer, seed=run.seed):
    chosen, rejected = judge(batch["ids"], batch["attention"]).chunk(2)
    loss = -torch.sigmoid(chosen - rejected).log().mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
    optimizer.step()

# %% tags=["hide-input"]
with torch.no_grad():
    rated = judge(answers.ids, answers.attention)
refused = torch.tensor([bool(refuses(text)) for text in answers.texts(tokenizer)])
claim("refusals score higher than the other answers that were compared", kind="T",
      condition=rated[refused].mean() > rated[~refused].mean())

# %% [markdown]
# Now reinforcement learning. Sample four answers to each request, and make those that were paid more than the mean of the other three more likely (`leave_one_out` is the difference). The pay is the score, minus β times the log-probability that the answer has gained since the start. The average of this gain is the *KL divergence* to the start; the price keeps the model close to the language that it knew:
#
# $$\text{paid}=r(x,y)-\beta\,\log\frac{\pi(y\mid x)}{\pi_{\rm start}(y\mid x)}$$
#
# Here $x$ is the request, $y$ the answer, $\pi$ the model in training. The *true reward* of the village is a formula that no training step reads: 3 for a refusal of a harmful request, −1 for helping with the harm, 0 for neither. Broken or repeated text costs up to 1.5 each, an unfinished end 0.5. *Grammar* is 1 when every two neighbouring words can stand together in the village's language, 0 for garbage. <!-- fact -->

# %%
logps = rlhf.rollout.completion_logps
prompts = [row["prompt"] for row in
           requests(48, ("harmful",), split="train", seed=run.seed + 1)]


@torch.no_grad()
def measure(out, asked):
    r = judge(out.ids, out.attention)
    kl = ((out.logp_old - logps(sft, out)) * out.mask).sum(1)
    true = [rlhf.village.gold(asked[i // 4], text)
            for i, text in enumerate(out.texts(tokenizer))]
    return r, kl, sum(true) / len(true)

# %% rlhf={"part": "loop"}
def reinforce(pay, steps=6, rate=2e-4):
    policy, log = rlhf.models.copy_of(sft), []
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0)
    for step in range(run.steps(steps)):
        asked = prompts[8 * step:][:8]
        out = ask(policy, asked, n=4, name=f"step {step}")
        r, kl, true = measure(out, asked)
        paid = pay(r, kl)
        log.append((paid.mean().item(), true))
        advantage = rlhf.advantages.leave_one_out(paid, 4)
        loss = -(advantage * (logps(policy, out) * out.mask).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy, log

# %% [markdown]
# How does a sign get lost? A loss is minus a reward, so code that turns one into the other must flip it exactly once. Five runs: the intended pay, three with a minus sign, and a control whose scores are shuffled among the answers. Each model then answers 32 other harmful requests, twice each.

# %%
beta, dice = 0.4, run.fresh("shuffle")
pays = {"r − β KL": lambda r, kl: r - beta * kl,
        "−r − β KL": lambda r, kl: -r - beta * kl,
        "−r": lambda r, kl: -r,
        "−(r − β KL)": lambda r, kl: -(r - beta * kl),
        "shuffled r − β KL":
            lambda r, kl: r[torch.randperm(len(r), generator=dice)] - beta * kl}
trained = {name: reinforce(pay) for name, pay in pays.items()}
policies = {"before": sft} | {name: new for name, (new, _) in trained.items()}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
def score(rollout):
    return judge(rollout.ids, rollout.attention)


test = requests(32, ("harmful",), seed=run.seed)
exams = {name: exam(policy, tokenizer, test, n=2, judge=score, reference=sft,
                    max_new_tokens=40, generator=run.fresh("exam"))
         for name, policy in policies.items()}
grammar = {name: e.feature("grammar") for name, e in exams.items()}

# %% tags=["hero", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
before, meant, flipped, _, bracket, _ = exams.values()
verb = [rlhf.village.parse(row["prompt"]).info["verb"] for row in test]
lost = [i for i in range(32) if before.refuses[2 * i] and meant.refuses[2 * i]
        and flipped.gold[2 * i] == -1]
two = [lost[0], next(i for i in lost if verb[i] != verb[lost[0]])]
show(drawings.answer_rows(
    [test[i]["prompt"] for i in two],
    {k: [exams[k].texts[2 * i] for i in two] for k in list(exams)[:3]}))
quote("helped", int((flipped.gold[::2] == -1).sum()))
quote("broken", int((grammar["−r − β KL"][::2] < 1).sum()))
quote("bracket", int((grammar["−(r − β KL)"][::2] < 1).sum()))

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained", "show": true}
for i in two:
    cards(test[i]["prompt"], [(k, exams[k].texts[2 * i], exams[k].gold[2 * i].item())
                              for k in ("−r − β KL", "−(r − β KL)")])
table({k: {"true reward": e.interval(), "refuses": e.interval("refuses"),
           "grammar": clustered(grammar[k].view(-1, 2).mean(1)),
           "KL, nats": e.interval("kl")} for k, e in exams.items()},
      note="one run each; 32 requests, two answers each; ± 95 % over requests")

# %% [markdown]
# The picture and the cards show two requests: the first two, of different kinds, that the model refused before and that the run −r − β KL helps with (by its first answers). Of the 32 first answers of that run <!-- out helped --> help with the harm in a clean sentence and <!-- out broken --> have broken grammar; the rest refuse or say something else. With the whole pay negated <!-- out bracket --> are broken.

# %% tags=["hide-input"]
moved = {k: abs(e.mean("refuses") - before.mean("refuses")) for k, e in exams.items()}
neat = {k: grammar[k].mean() for k in ("−r − β KL", "−r", "−(r − β KL)")}
far = {k: exams[k].mean("kl") for k in neat}
claim("−r turns refusals into help; shuffled scores change the refusals less", kind="T",
      condition=flipped.mean("refuses") + 0.3 < meant.mean("refuses")
      and moved["shuffled r − β KL"] < min(moved["r − β KL"], moved["−r − β KL"]))
claim("the price of the KL keeps the grammar", kind="T",
      condition=max(neat, key=neat.get) == "−r − β KL" == min(far, key=far.get))
settled("b", "−(r − β KL) is −r + β KL: it pays for harm, and for distance.")

# %% [markdown]
# The optimizer follows the sign of the reward. It is the reward that does it: shuffled scores change the refusals less than either sign. And in these runs (one each) the price of the KL keeps the language: with $-r$ alone, or paid for distance, the grammar is worse and the KL larger. (On one of four other seeds the grammars did not come out in this order.)
#
# What happened in 2019? The [paper](https://arxiv.org/abs/1909.08593) (section 4.4) reports a change of code that flipped the reward while a model trained overnight. Its raters had been told to give very low ratings to sexually explicit text, and that is what the model learned to write. The bug had two parts. We read “flipping the reward” as negating the whole pay, which would pay for distance, too; the second flip restores the price of the KL:
#
# | the paper says | our run | what came out here |
# |---|---|---|
# | the reward, as intended | $r-\beta\,{\rm KL}$ | refusals |
# | flipping the reward usually gives incoherent text | $-(r-\beta\,{\rm KL})$ | many broken sentences |
# | the same bug flipped the sign of the KL penalty back | $-r-\beta\,{\rm KL}$ | mostly clean help with harm |
#
# A minus sign before the whole pay negates both terms. A second flip turns the KL term back into a price, so the text stayed fluent.
#
# > **Keep this:** a learned reward is a direction. The optimizer follows it, whichever way it points.
#
# ## Idea 1: Learn the reward from comparisons, while acting
#
# [Christiano and others (2017)](https://arxiv.org/abs/1706.03741) trained simulated robots and Atari players without a reward function. Some goals are hard to specify and easy to recognise: a robot learned a backflip from 900 comparisons. <!-- fact --> People compared pairs of *segments* σ, clips of one or two seconds. The model of the person: satisfaction with a segment is the sum of the rewards of its steps, and the larger sum wins more often:
#
# $$\hat P(\sigma^1\succ\sigma^2)=\frac{\exp\sum_t\hat r(s^1_t,a^1_t)}{\exp\sum_t\hat r(s^1_t,a^1_t)+\exp\sum_t\hat r(s^2_t,a^2_t)}$$
#
# *Said aloud: add up the rewards of each segment; the difference of the sums decides how likely the first one wins.* Here $\hat r$ is the learned reward, $s_t$ the state and $a_t$ the action at step $t$. Divide numerator and denominator by the numerator: it is the logistic function of the difference, today's Bradley–Terry model with segments in place of answers.

# %% rlhf={"part": "idea"}
from rlhf_minimal.village import grid

learned = torch.tensor([0.5, -1.0, 2.0, 0.0])  # a reward for each of 4 cells
first, second = torch.tensor([0, 2, 2]), torch.tensor([1, 3, 0])  # two walks
sums = learned[first].sum(), learned[second].sum()
p = sums[0].exp() / (sums[0].exp() + sums[1].exp())
print(f"sums {sums[0]:.1f} and {sums[1]:.1f}: the first wins with {p:.3f}")
visits = grid.visits(torch.stack([first, second]), 4)  # how often each cell
loss = rlhf.reward_model.pairwise_loss(*(visits @ learned.double())[:, None])[0]
claim("minus its logarithm is the package's loss on pairs of answers",
      abs(loss.item() + p.log().item()) < 1e-6)

# %% [markdown]
# **The experiment, small.** A walker moves on an 8 × 8 green whose reward it cannot see. A segment is six steps. In each of twenty rounds a person compares twenty pairs, and the reward map is fitted to all answers so far. **Learner A** shows walks of its own current policy, which mostly takes the best move on its map. **Learner B** shows random walks. In the end each takes the best route on its map. (The map has one number per cell in place of a network, and the best route is computed exactly, so a weak optimizer explains nothing here.)

# %% tags=["hide-input"]
predict("With 400 comparisons each, on average over ten repetitions:",
        a="A has the more faithful map of the whole green, and earns more.",
        b="B has the more faithful map of the whole green, and earns more.",
        c="B has the more faithful map, but A earns more.",
        d="A has the more faithful map, but B earns more.")

# %%
def learn(dice, acting=True, coin=0.0):
    policy, asked, choices, log = even, [], [], []
    for _ in range(20):
        walked = grid.walks(policy if acting else even, 40, 12, dice)
        first, second = grid.visits(grid.segments(walked, 6, dice)).chunk(2)
        asked.append(first - second)
        choices.append(grid.prefer(first @ true, second @ true, dice,
                                   careless=coin))
        learned = grid.fit_choices(torch.cat(asked), torch.cat(choices), l2=10)
        policy = (grid.action_values(learned) / 0.3).softmax(1)
        log.append(grid.share(grid.best(learned), true))
    return learned, log

# %%
true, even = grid.true_reward(), torch.full((64, 4), 0.25)


def ten(name, **how):
    found = [learn(run.fresh(f"{name} {k}"), **how) for k in range(10)]
    agree = [rlhf.evaluate.spearman(learned, true) for learned, _ in found]
    return found[0][0], [log for _, log in found], torch.tensor(agree)


kinds = {"A: own walks": {}, "B: random walks": {"acting": False},
         "A, coin tosses": {"coin": 1.0}}
found = {name: ten(name, **how) for name, how in kinds.items()}

# %%
x = [20 * (k + 1) for k in range(20)]
a, b = list(kinds)[:2]
two = {name: (x, found[name][1]) for name in (a, b)}
show(plots.line_plot(two, title="After 400 comparisons A earns more than B",
                     x_label="comparisons", y_label="return, share of the best",
                     roles=dict(zip(two, ("policy", "reference"), strict=True))),
     "Line plot of the return against comparisons for two learners, with bands")

# %% [markdown]
# The scale: 1 is the return of the best policy for the *true* reward, averaged over all starting cells; 0 is a random walk. The early part is close; at 400 comparisons A is ahead. A control, whose person tosses coins, stays near 0. And the maps?

# %%
show(maps.heat_maps(
    {"true reward": true, "A: own walks": found["A: own walks"][0],
     "B: random walks": found["B: random walks"][0],
     "A, coin tosses": found["A, coin tosses"][0]},
    title="What 400 answers taught",
    note="first of ten repetitions; green: good, brown: bad"))

# %% tags=["hide-input"]
end = {k: torch.tensor([log[-1] for log in logs]) for k, (_, logs, _) in found.items()}
seen = {k: agree for k, (_, _, agree) in found.items()}
earn, know = clustered(end[a] - end[b]), clustered(seen[a] - seen[b])
table({k: {"return": clustered(end[k]), "map": clustered(seen[k])} for k in found}
      | {"A minus B, paired": {"return": earn, "map": know}},
      note="ten repetitions, ± 95 % over them; map: rank correlation over 64 cells")
claim("A earns over 90 % of the best, more than B with its better map", kind="S",
      condition=end[a].mean() > 0.9 and earn[0] > 0 and know[0] < -know[1])
settled("c", "A's map of the whole green is worse, and A still earns more here.")

# %% [markdown]
# A asks about the places where its policy goes, B about the whole green. For drawing the map, B's questions were clearly the better use of 400 answers. For walking well, A's were, here; with other seeds that lead is positive, but within its interval. Today comparing the current model's own answers is called *on-policy* preference data.
#
# > **Keep this:** a reward must be right where the policy goes, and the policy moves. So ask there.
#
# Now you are the rater.

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
maps.rater(true, seed=run.seed)

# %% [markdown]
# ## Idea 2: Ratings or comparisons?
#
# [TAMER (2008)](https://doi.org/10.1109/DEVLRN.2008.4640845) asked people for a number: approval of single actions. Why did the field move to comparisons? A number says more than a choice. But raters have *private scales*. If rater $i$ feels $u$, the number given is
#
# $$\text{rating}=b_i+a_i\,u,\qquad a_i>0,$$
#
# with a private offset $b_i$ and scale $a_i$. A choice between two walks by the *same* rater cancels both: $a_iu_1+b_i>a_iu_2+b_i$ exactly when $u_1>u_2$.

# %% rlhf={"part": "idea"}
felt = torch.tensor([1.0, 3.0, 2.0, 2.5])  # what the raters feel
rater = torch.tensor([0, 0, 1, 1])  # whose rating it is
rating = torch.tensor([1, 0.2])[rater] * felt + torch.tensor([0, 5])[rater]
print("ratings", [round(v, 1) for v in rating.tolist()], "the best got 3.0")
choice = (rating[1] > rating[0], rating[3] > rating[2])
claim("every rater's own choices follow the feelings, whatever the scale",
      choice == (felt[1] > felt[0], felt[3] > felt[2]))

# %% [markdown]
# Equal budgets: 200 labels on random walks of six steps. A label is one rating of one walk, or one choice between two; feelings have the same noise in both. *Spread* s says how much the scales differ: at 0 all are equal, at 2 one point of one rater can be ten points of another. Ratings are fitted by regression, plain or on each rater's *own scale*: first subtract the rater's mean, then divide by the rater's standard deviation.
#
# <details><summary>The exact settings</summary>
# scale = exp(s · noise), offset = 3 s · noise, with standard normal noise. All three fits have the same penalty of 300 on the map; on five other label sets each had levelled off there.
# </details>

# %%
def four_maps(spread, raters, dice, n=200, l2=300):
    first, second = grid.visits(grid.walks(even, 2 * n, 6, dice)).chunk(2)
    felt = grid.feel(first @ true, dice), grid.feel(second @ true, dice)
    who, pair = torch.arange(n) % raters, (first - second, felt[0] > felt[1])
    a, b = torch.randn(2, raters, generator=dice, dtype=torch.float64)
    rating = (spread * a).exp()[who] * felt[0] + (3 * spread * b)[who]
    return [rlhf.evaluate.spearman(found, true) for found in (
        grid.fit_choices(*pair, l2),
        grid.fit_ratings(first, rating, l2),
        grid.fit_ratings(first, grid.standardised(rating, who), l2),
        grid.fit_choices(*(x[:n // 2] for x in pair), l2))]

# %% rlhf={"figure": "scales"}
spreads = (0, 0.5, 1, 1.5, 2)
sizes = {"2 labels each, 100 raters": 100, "20 labels each, 10 raters": 10}
agree = {unit: torch.tensor([[four_maps(s, raters, run.fresh(f"labels {k}"))
                              for s in spreads] for k in range(20)])
         for unit, raters in sizes.items()}  # (20 sets, spreads, 4 fits)
names = ("chosen: comparisons", "proxy: ratings", "other: own-scale ratings")
parts = {unit: {k: (spreads, x[:, :, i].tolist()) for i, k in enumerate(names)}
         for unit, x in agree.items()}
show(plots.panels(
    parts, title="Plain ratings suffer from private scales; comparisons do not",
    x_label="spread of the raters' private scales", zero=None, share=True,
    note="rank correlation with the true map"))

# %% tags=["hide-input"]
few, many = agree.values()
shown = {"equal scales": few[:, 0], "spread 2, 2 each": few[:, -1],
         "spread 2, 20 each": many[:, -1]}
table({name: {k: clustered(x[:, i]) for k, x in shown.items()} for i, name in enumerate(
    ("200 comparisons", "200 ratings", "200 own-scale ratings",
     "100 comparisons (equal walks)"))},
    note="rank correlation with the true map; ± 95 % over 20 label sets")
plain, own = ([clustered(x[:, 0] - x[:, i]) for x in shown.values()] for i in (1, 2))
claim("with equal scales ratings win; at spread 2 comparisons beat them", kind="S",
      condition=-plain[0][0] > plain[0][1] and all(m > e for m, e in plain[1:]))
claim("own-scale ratings lose with 2 labels from each rater, win with 20", kind="S",
      condition=own[1][0] > own[1][1] and -own[2][0] > own[2][1])

# %% [markdown]
# With equal scales ratings win: a number says more. With private scales that differ much, comparisons beat plain ratings. And the simplest repair, a rater's own scale, wins where each rater gives twenty labels. With two labels it cannot: two ratings of one rater, put on their own scale, say only which is larger. They *are* one comparison, so 200 labels become 100.
#
# > **Keep this:** comparisons are not richer than ratings. They are robust to a scale that nobody knows.
#
# ## Idea 3: From 2017 to DPO the loss stayed a softmax over the options
#
# Games gave their own reward: the score for DQN on Atari (2015), victory, with hand-made extras, for OpenAI Five and AlphaStar (2019). Language has no score. These papers learned one from people, later from models, or let a checker give it.

# %% tags=["hide-input"] rlhf={"part": "idea", "drawing": true, "figure": "timeline"}
show(history.timeline())

# %% [markdown]
# Read from top to bottom. What is judged changes: an action, a clip, a whole answer, a ranking. The loss on comparisons, from 2017 on, hardly does: at its core each term is minus the log of a softmax over the options that the rater chose from. With all scores equal it must be the logarithm of their number (a check, no proof). (For DPO that is exactly the value before training. InstructGPT's ranking is split into pairs, averaged.)

# %%
equal = torch.zeros(1, 4)
ranking, judging = torch.tensor([[0, 1, 2, 3]]), rlhf.reward_model
losses = {
    "Christiano 2017": judging.pairwise_loss(equal[:, 0], equal[:, 1])[0],
    "Ziegler 2019": -equal.log_softmax(1)[0, 0],  # the best of four is number 0
    "InstructGPT 2022": judging.all_pairs_loss(equal, ranking)[0],
    "DPO 2023": rlhf.direct_alignment.dpo_loss(*equal.T)[0]}
table({k: {"loss": x.item(), "options": round(x.exp().item())}
       for k, x in losses.items()}, digits=3, note="all scores equal")
options = torch.tensor([2.0, 4.0, 2.0, 2.0]).log()
claim("with equal scores each loss is the logarithm of the number of options",
      (torch.stack([*losses.values()]) - options).abs().max().item() < 1e-6)

# %% [markdown]
# So which idea of each paper is still there? We compared the papers with the source of TRL, a widely used trainer (1.10.0.dev0, commit f2cd57710, July 2026). The last column is “among others”.
#
# | paper | unit of feedback | loss on it | kept today | dropped |
# |---|---|---|---|---|
# | Christiano 2017 | pairs of clips | logistic | a reward from comparisons, in rounds | 10 % random answers in the model; the ensemble that picks what to ask |
# | Ziegler 2019 | best of four | softmax over four | the KL price | four options; the adaptive β |
# | InstructGPT 2022 | rankings of 4 to 9 | logistic, all pairs of a ranking in one batch element | demonstrations, reward model, RL | one batch per ranking; pretraining text mixed into PPO |
# | DPO 2023 | pairs | logistic on log-ratios | all of it | (dropped itself: reward model and fresh answers) |
# | R1-Zero 2025 | a checker's verdict | none | fresh answers, compared within a group | comparisons and the reward model; in TRL's default the KL price, too (β = 0) |
#
# > **Keep this:** four ideas: comparisons, a logistic loss, fresh answers of the current policy, a pull to the start. InstructGPT has all four, DPO three. GRPO on a checker, as in R1-Zero and as TRL runs it by default, has one: fresh answers.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | the one number that tells |
# |---|---|---|
# | the sign of the reward | the pay rises; fluent, awful texts | how often the *paid* score agrees with ten comparisons of a refusal with another answer |
# | the sign of reward *and* penalty | broken texts | the KL, much larger than in the intended run |
# | ratings of many raters, fitted together | a map that looks noisy | the share of the ratings' variance between raters |
# | all questions about random behaviour | a good map, a poorer agent | accuracy on pairs of the *current* policy |
#
# The first one, live, for two runs of this page. A log shows the pay, the upper panel: nothing looks wrong. Ten comparisons of a refusal with another answer, below, show the sign.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
logs = {k: [list(column) for column in zip(*trained[k][1], strict=True)]
        for k in ("r − β KL", "−r − β KL")}
units = ("logged: mean pay of 32 answers", "not logged: their mean true reward")
show(plots.panels(
    {u: {k: log[i] for k, log in logs.items()} for i, u in enumerate(units)},
    title="The pay ends higher in both runs, the true reward in one",
    x_label="step", roles=dict(zip(logs, ("chosen", "rejected"), strict=True))))

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
fresh = [pair for pair in rlhf.data.compare_answers(
    test, before.texts, person, n=2, seed=run.seed)
    if refuses(pair["chosen"]) != refuses(pair["rejected"])][:10]
batch = next(rlhf.data.batches(fresh, len(fresh), tokenizer=tokenizer))
with torch.no_grad():
    first, second = judge(batch["ids"], batch["attention"]).chunk(2)
right = {"r": int((first > second).sum()), "−r": int((first < second).sum())}
table({f"pay {k}": {f"agrees, of {len(fresh)}": n} for k, n in right.items()})

# %% tags=["hide-input"]
rise = {k: [column[-1] - column[0] for column in log] for k, log in logs.items()}
claim("the pay ends higher in both runs, the true reward in one", kind="T",
      condition=min(*rise["r − β KL"], rise["−r − β KL"][0]) > 0 > rise["−r − β KL"][1])
claim("the score agrees with most of the comparisons, its negative with few", kind="T",
      condition=right["r"] > len(fresh) / 2 > right["−r"])

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# Are the texts of the run −r − β KL English, or does only the village's grammar formula think so? SmolLM2, a language model with 135 million parameters, has never heard of the village. How surprised is it by each token? The control has the same words in random order.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
large, its = rlhf.models.load("smollm2-135m")


def surprise(texts):
    batch = its(texts, return_tensors="pt", padding=True, padding_side="right")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        logp = rlhf.logprobs.token_logps(large, ids, mask)
    return -(logp * mask[:, 1:]).sum(1) / mask[:, 1:].sum(1)


said = {k: exams[k].texts[::2][:16] for k in ("−r − β KL", "−(r − β KL)")}
said["its words mixed"] = [" ".join(text.split()[i] for i in torch.randperm(
    len(text.split()), generator=dice)) for text in said["−r − β KL"]]
read = {name: surprise(texts) for name, texts in said.items()}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
look = dict(zip(said, ("rejected", "other2", "reference"), strict=True))
show(plots.bars({name: x.mean() for name, x in read.items()}, roles=look,
                errors={name: clustered(x)[1] for name, x in read.items()},
                title="SmolLM2 tells sentences from mixed words",
                y_label="surprise, nats per token",
                note="16 answers each; lines: 95 % over requests"),
     "Bar plot of the surprise per token for three sets of texts")
gap, half = clustered(read["its words mixed"] - read["−r − β KL"])

# %% tags=["hide-input"]
claim("the texts of −r − β KL surprise SmolLM2 less than their own words, mixed",
      gap > half, kind="T")

# %% [markdown]
# Only in part: the words in their order surprise it less than the same words mixed, but so do those of the run with many broken sentences. Sixteen answers do not tell the two negated runs apart. And fluency is all that it measures: it does not say that the model helps with harm.

# %% [markdown] rlhf={"part": "exercises"}
# ## Exercises
#
# ### Exercise 2.1 · A rater who sometimes does not look
#
# Christiano and others assumed that with probability 10 % a person answers at random, by a fair coin. Write the probability that the first segment is chosen, for any such share `careless`. One or two lines. What is the largest loss that one single answer can now cause?

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex02-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def first_wins(first, second, careless=0.1):
    """Rewards of the steps, two (T,) tensors, and a share -> a probability."""
    ### BEGIN SOLUTION
    p = torch.sigmoid(first.sum() - second.sum())
    return (1 - careless) * p + careless / 2
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex02-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("2.1", first_wins)
### BEGIN HIDDEN TESTS
check("2.1", first_wins, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Two kinds of answer, each with its share. A coin chooses the first segment in half of its cases.
# </details>
#
# <!-- solution 2.1 -->
#
# ### Exercise 2.2 · A scale of one's own
#
# Write the own-scale ratings of idea 2: subtract from each rating the mean of *its rater*, and divide by that rater's standard deviation. It is the dashed line of this picture, seen before:
#
# ![Two line plots of the rank correlation of a learned map with the true one against the spread of private scales, for comparisons, ratings and own-scale ratings](figures/02_scales.png)

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex02-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def own_scale(rating, rater):
    """(n,) ratings and (n,) numbers of their raters -> (n,)."""
    ### BEGIN SOLUTION
    out = torch.zeros_like(rating)
    for k in rater.unique():
        mine = rating[rater == k]
        out[rater == k] = (mine - mine.mean()) / mine.std()
    return out
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex02-2-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("2.2", own_scale)
### BEGIN HIDDEN TESTS
check("2.2", own_scale, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# `rating[rater == k]` are the ratings of rater k; the same mask can stand on the left side.
# </details>
#
# <!-- solution 2.2 -->
#
# ### Exercise 2.3 · Which line was it?
#
# A colleague's model helps with harmful requests in clean sentences. The KL to the start is moderate, about 1 nat and not 4. Which line is in the code? (a) `r - beta * kl` (b) `-r - beta * kl` (c) `-(r - beta * kl)` (d) `r + beta * kl`. First find out what each of them pays for.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex02-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def which_line():
    """-> "a", "b", "c" or "d"."""
    ### BEGIN SOLUTION
    return "b"  # paid for harm, and still held at the start
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex02-3-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("2.3", which_line)
### BEGIN HIDDEN TESTS
check("2.3", which_line, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# Multiply out the bracket of (c). What does it pay for a large KL?
# </details>
#
# <!-- solution 2.3 -->
#
# ## Retell it
#
# 1. A learned reward is a direction: after one lost minus sign a model that often refused harm helped with it, mostly in clean sentences.
# 2. The price of the KL kept the language: without it, or where distance was paid for instead, the grammar fell.
# 3. A reward can be learned from comparisons while the agent acts; asked about its own walks, it earned over nine tenths of the best return, although its map was worse than one from random walks.
# 4. Comparisons beat plain ratings when raters have private scales; with one scale, or enough labels to learn each rater's, ratings win. (Private firmness is another matter: chapter 5.)
# 5. From 2017 to DPO the loss stayed a softmax over the options; with a checker, comparisons and that loss are gone, and asking the current policy again stays.
#
# *In the book*: [A Tiny History of RLHF](https://rlhfbook.com/c/02-related-works), chapter 2. *Next*: chapter 3, Definitions.
#
# <!-- nav -->
