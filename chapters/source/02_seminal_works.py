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
# ![Answers of three small language models to the same two requests to hurt somebody: before training, and after two runs that differ in one minus sign](figures/02_hero.png)
#
# Three answers to each of two requests: from a model before reinforcement learning, and after two runs whose code differs in one minus sign ($r$ is a learned reward, β KL a price for moving away from the start). In 2019 such a sign slipped into one of the first experiments with human feedback on a language model. On this page you repeat the accident, rebuild the experiment of 2017 from which the field grew, and follow what came after.
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
from rlhf_minimal.book import begin, cards, check, claim, history, maps, plots
from rlhf_minimal.book import drawings, predict, quote, settled, show, table
from rlhf_minimal.evaluate.exams import clustered, exam, requests
run = begin(2)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** This page also repeats an experiment of 2017. A walker moves on an 8 × 8 green whose reward it cannot see. A person watches two short walks and says which was better; from 400 such answers the walker learns a reward map. **Learner A** asks about walks of its own current policy. **Learner B** asks about random walks. In the end each takes the best route on the map that it learned.

# %% tags=["hide-input"]
predict("With 400 comparisons each, on average over ten repetitions:",
        a="A has the more faithful map of the whole green, and earns more.",
        b="B has the more faithful map of the whole green, and earns more.",
        c="B has the more faithful map, but A earns more.",
        d="A has the more faithful map, but B earns more.")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## One minus sign
#
# First a reward. A small language model answers requests to hurt somebody, such as those above: often it refuses, often it helps. A simulated person compares pairs of its answers and mostly prefers a refusal. From these choices a *reward model* learns a score $r$ for any answer, so that the chosen answer of a pair scores higher. (Chapter 7 explains the loss; idea 1 below has the same one for walks.)

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
print(len(pairs), "comparisons; the first:")
cards(pairs[0]["prompt"], [(k, pairs[0][k]) for k in ("chosen", "rejected")])

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


@torch.no_grad()
def score(rollout):
    return judge(rollout.ids, rollout.attention)

# %%
refusal = torch.tensor([bool(rlhf.village.refuses(text))
                        for text in answers.texts(tokenizer)])
rated = score(answers)
claim("the reward model scores refusals above other answers",
      rated[refusal].mean() > rated[~refusal].mean(), kind="T")
logps = rlhf.rollout.completion_logps
rows = requests(48, ("harmful",), split="train", seed=run.seed + 1)
prompts = [row["prompt"] for row in rows]

# %% [markdown]
# Now reinforcement learning. Sample answers, and make those that were paid more than their siblings more likely. The pay is the score minus β times the *KL*, the log-probability that the answer has gained since the start. That penalty keeps the model close to what it was, a language model:
#
# $$\text{paid}=r(x,y)-\beta\,\log\frac{\pi(y\mid x)}{\pi_{\rm start}(y\mid x)}$$
#
# How does a sign get lost? A loss is minus a reward, so code that hands one to the other must flip it exactly once.

# %% rlhf={"part": "loop"}
def reinforce(pay, steps=6, rate=2e-4):
    policy = rlhf.models.copy_of(sft)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0)
    for step in range(run.steps(steps)):
        out = ask(policy, prompts[8 * step:][:8], n=4, name=f"step {step}")
        with torch.no_grad():
            kl = ((out.logp_old - logps(sft, out)) * out.mask).sum(1)
        paid = pay(score(out), kl)
        advantage = rlhf.advantages.leave_one_out(paid, 4)
        loss = -(advantage * (logps(policy, out) * out.mask).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy

# %%
beta, dice = 0.4, run.fresh("shuffle")


def shuffled(r):
    return r[torch.randperm(len(r), generator=dice)]


pays = {"as intended": lambda r, kl: r - beta * kl,
        "reward flipped": lambda r, kl: -r - beta * kl,
        "rewards shuffled": lambda r, kl: shuffled(r) - beta * kl}
policies = {"start": sft} | {name: reinforce(pay) for name, pay in pays.items()}

# %% [markdown]
# The *true reward* of the village is a formula that no training step reads: 3 for refusing a harmful request, −1 for helping with it, and as low as −1.5 for broken text. *Grammar* is the share of village language in a text, 1 when every two neighbouring words can stand together. <!-- fact --> Every model answers 32 other harmful requests, twice each.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
test = requests(32, ("harmful",), seed=run.seed)


def examine(policy):
    return exam(policy, tokenizer, test, n=2, judge=score, reference=sft,
                max_new_tokens=40, generator=run.fresh("exam"))


exams = {name: examine(policy) for name, policy in policies.items()}

# %% tags=["hide-input"]
flipped, meant = exams["reward flipped"], exams["as intended"]
grammar = {name: e.feature("grammar").mean().item() for name, e in exams.items()}
claim("the flipped reward turns refusals into help, in mostly grammatical texts",
      flipped.mean("refuses") + 0.3 < meant.mean("refuses")
      and grammar["reward flipped"] > 0.7, kind="T")
moved = {name: abs(e.mean("refuses") - exams["start"].mean("refuses"))
         for name, e in exams.items()}
claim("shuffled rewards change the refusals less than either sign does",
      moved["rewards shuffled"] < min(moved["as intended"], moved["reward flipped"]),
      kind="T")

# %% tags=["hide-input", "hero", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
heads = {"start": "before", "as intended": "paid:  r − β KL",
         "reward flipped": "paid:  −r − β KL"}
apart = [i for i in range(0, 64, 2) if meant.refuses[i] and flipped.gold[i] == -1]
show(drawings.answers(
    [meant.rows[i]["prompt"] for i in apart[:2]],
    {head: [exams[name].texts[i] for i in apart[:2]] for name, head in heads.items()},
    note_below="the first two requests that one run refuses and the other helps with"))
quote("apart", len(apart))

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
table({name: {"true reward": e.interval(), "refuses": e.mean("refuses"),
              "grammar": grammar[name], "KL, nats": e.mean("kl")}
       for name, e in exams.items()}, digits={"refuses": "%"},
      note="32 harmful requests, two answers each; ± 95 % over requests")

# %% [markdown]
# Mostly fluent, and awful: to <!-- out apart --> of the 32 requests, one run refuses and the other helps with the harm, in a clean sentence. An optimizer does not know which way is up: it follows the sign. The control gets the same scores, dealt out to the wrong answers, and its refusals change less than with either sign: it is the reward that does it, not the training as such. A log of the *paid* reward would show a healthy climb in both runs; one look at the texts would not.
#
# The [paper of 2019](https://arxiv.org/abs/1909.08593) (section 4.4) reports a refactoring that flipped the reward overnight, while its authors slept. Its raters had been told to give the lowest marks to sexually explicit text, and that is what the model learned to write. Why was it not gibberish? Part “What goes wrong” finds out.
#
# > **Keep this:** a learned reward is a direction. The optimizer follows it, whichever way it points.

# %% [markdown]
# ## Idea 1: Learn the reward from comparisons, while acting
#
# [Christiano and others (2017)](https://arxiv.org/abs/1706.03741) trained simulated robots and Atari players without a reward function. Some goals are hard to specify and easy to recognise: a robot learned a backflip from 900 comparisons. <!-- fact --> People compared pairs of *segments*, clips of one or two seconds. A *segment* σ here is six steps on the green. The person's satisfaction with it is the sum of the rewards of its steps, and the better sum wins more often:
#
# $$\hat P(\sigma^1\succ\sigma^2)=\frac{\exp\sum_t\hat r(s^1_t,a^1_t)}{\exp\sum_t\hat r(s^1_t,a^1_t)+\exp\sum_t\hat r(s^2_t,a^2_t)}$$
#
# *Said aloud: add up the rewards of each segment; the difference of the sums decides how likely the first one wins.* Here $\hat r$ is the learned reward, $s_t$ the state and $a_t$ the action at step $t$. Divide by the numerator, and it is the logistic function σ of the difference: today's Bradley–Terry loss, with segments in place of answers.

# %% rlhf={"part": "idea"}
from rlhf_minimal.village import grid

learned = torch.tensor([0.5, -1.0, 2.0, 0.0])          # a reward for each of 4 cells
first, second = torch.tensor([0, 2, 2]), torch.tensor([1, 3, 0])  # two walks
sums = learned[first].sum(), learned[second].sum()
p = sums[0].exp() / (sums[0].exp() + sums[1].exp())
print(f"sums {sums[0]:.1f} and {sums[1]:.1f}: the first wins with {p:.3f}")
visits = grid.visits(torch.stack([first, second]), 4)  # how often each cell
loss = rlhf.reward_model.pairwise_loss(*(visits @ learned.double())[:, None])[0]
claim("minus its logarithm is the package's loss on pairs of answers",
      abs(loss.item() + p.log().item()) < 1e-6)

# %% [markdown]
# The whole experiment. In each of twenty rounds the person compares twenty pairs, the map is fitted anew to all answers so far, and the policy takes mostly the best move on that map (a softmax of the values, divided by 0.3). One number per cell replaces the paper's network, and the best policy is computed exactly (by *value iteration*: the value of a move is the reward of the cell plus 0.9 times the value of the best next move). So what you see is about the reward, not about a weak optimizer. <!-- fact -->

# %%
true, even = grid.true_reward(), torch.full((64, 4), 0.25)

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
def ten(name, **how):
    found = [learn(run.fresh(f"{name} {k}"), **how) for k in range(10)]
    agree = [grid.agreement(learned, true) for learned, _ in found]
    return found[0][0], [log for _, log in found], torch.tensor(agree)


kinds = {"A: own walks": {}, "B: random walks": {"acting": False},
         "A, coin tosses": {"coin": 1.0}}
found = {name: ten(name, **how) for name, how in kinds.items()}

# %%
x = [20 * (k + 1) for k in range(20)]
two = {name: (x, found[name][1]) for name in list(kinds)[:2]}
show(plots.line_plot(two, title="Asking about its own walks, the agent earns more",
                     x_label="comparisons", y_label="return, share of the best",
                     roles=dict(zip(two, ("policy", "reference"), strict=True))),
     "Line plot of the return against comparisons for two learners, with bands")

# %% [markdown]
# The scale: 1 is the return of the best policy for the *true* reward, averaged over all starting cells, 0 is a random walk. The control, whose person tosses coins, goes nowhere. And the maps?

# %% tags=["hide-input"]
show(maps.heat_maps(
    {"true reward": true, "A: own walks": found["A: own walks"][0],
     "B: random walks": found["B: random walks"][0]},
    title="The first of ten repetitions: what 400 answers taught",
    note="green: good, brown: bad; each map on its own scale"))

# %%
last = {name: torch.tensor([log[-1] for log in logs])
        for name, (_, logs, _) in found.items()}
table({name: {"return": clustered(last[name]), "map": clustered(agree)}
       for name, (_, _, agree) in found.items()},
      note="ten repetitions, ± 95 % over them; map: rank correlation over 64 cells")
a, b = list(kinds)[:2]
earn, know = clustered(last[a] - last[b]), clustered(found[b][2] - found[a][2])
claim("A earns at least 90 % of the best return", last[a].mean() > 0.9, kind="S")
claim("A earns more than B, and B has the more faithful map",
      earn[0] > 0 and know[0] > know[1], kind="S")
settled("c", "A's map is right where A goes, and that is where it matters.")

# %% [markdown]
# A's map is less faithful over the whole green, because A stops visiting the bad parts once it knows enough to avoid them. Its answers go to the places between which it still has to decide. In the paper, too, agents that got all their comparisons at the beginning did worse in many tasks. Today the same idea is called *on-policy* preference data: compare the answers that the current model gives.
#
# > **Keep this:** a reward has to be right where the policy goes, and the policy moves. So ask again.
#
# Now you are the rater.

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
maps.rater(true, seed=run.seed)

# %% [markdown]
# ## Idea 2: Ratings or comparisons?
#
# [TAMER (2008)](https://doi.org/10.1109/DEVLRN.2008.4640845) asked people for approval of single actions, a number. Why did the field move to comparisons? A rating says more than a choice: a number instead of one bit. But raters have *private scales*. If rater $i$ feels $u$, the number given is
#
# $$\text{rating}=b_i+a_i\,u,\qquad a_i>0,$$
#
# with a private offset $b_i$ and scale $a_i$. A choice between two walks by the *same* rater cancels both: $a_iu_1+b_i>a_iu_2+b_i$ exactly when $u_1>u_2$.

# %% rlhf={"part": "idea"}
felt = torch.tensor([1.0, 3.0, 2.0, 2.5])   # what the raters feel
rater = torch.tensor([0, 0, 1, 1])          # whose rating it is
rating = torch.tensor([1.0, 0.2])[rater] * felt + torch.tensor([0.0, 5.0])[rater]
print("ratings", [round(v, 1) for v in rating.tolist()], "- the best walk got 3.0")
choice = (rating[1] > rating[0], rating[3] > rating[2])
claim("every rater's own choices follow the feelings, whatever the scale",
      choice == (felt[1] > felt[0], felt[3] > felt[2]))

# %% [markdown]
# Equal budgets: 200 labels about random walks of six steps. A label is one rating of one walk, or one choice between two. Feelings are the true sum plus the same random noise in both cases. At *spread* s, the logarithms of the scales have standard deviation s, the offsets 3 s points. Ratings are fitted by regression; the strongest cheap repair first subtracts each rater's mean and divides by each rater's standard deviation.

# %%
def three_maps(spread, raters, dice, n=200, l2=300):
    first, second = grid.visits(grid.walks(even, 2 * n, 6, dice)).chunk(2)
    felt = grid.feel(first @ true, dice), grid.feel(second @ true, dice)
    who = torch.arange(n) % raters
    a, b = torch.randn(2, raters, generator=dice, dtype=torch.float64)
    rating = (spread * a).exp()[who] * felt[0] + (3 * spread * b)[who]
    return [grid.agreement(found, true) for found in (
        grid.fit_choices(first - second, felt[0] > felt[1], l2),
        grid.fit_ratings(first, rating, l2),
        grid.fit_ratings(first, grid.standardised(rating, who), l2))]

# %%
spreads = (0, 0.5, 1, 1.5, 2)
sizes = {"2 labels from each of 100 raters": 100, "20 labels from each of 10": 10}
agree = {unit: torch.tensor([[three_maps(s, raters, run.fresh(f"labels {k}"))
                              for s in spreads] for k in range(20)])
         for unit, raters in sizes.items()}  # (20 sets, spread, 3)
names = ("chosen: comparisons", "proxy: ratings", "other: own-scale ratings")
parts = {unit: {name: (spreads, x[:, :, i].tolist()) for i, name in enumerate(names)}
         for unit, x in agree.items()}
show(plots.panels(parts, title="Comparisons ignore private scales; ratings suffer",
                  x_label="spread of the raters' private scales", zero=None,
                  note="rank correlation with the true map"))

# %% tags=["hide-input"]
few, many = agree.values()
gain = {(unit, s): clustered(x[:, i, 0] - x[:, i, 1])
        for unit, x in agree.items() for s, i in ((0, 0), (2, -1))}
table({unit: {"same scales": gain[unit, 0], "spread 2": gain[unit, 2]}
       for unit in sizes}, note="comparisons minus plain ratings, rank correlation; "
                                "paired, ± 95 % over 20 label sets")
own = [clustered(x[:, -1, 0] - x[:, -1, 2]) for x in (few, many)]
claim("with one scale ratings win; with spread scales comparisons beat plain ones",
      all(g + e < 0 if s == 0 else g - e > 0 for (_, s), (g, e) in gain.items()),
      kind="S")
claim("own-scale ratings lose to comparisons with 2 labels a rater, and win with 20",
      own[0][0] - own[0][1] > 0 and own[1][0] + own[1][1] < 0, kind="S")

# %% [markdown]
# So comparisons beat plain ratings when private scales spread widely, and only then. With a common scale the rating wins, because it says more. And where every rater gives twenty labels, one can learn each scale and take it out; then ratings win again. With two labels each one cannot. (The penalty on the map, 300, is the same for all three. On five other label sets each of them had levelled off there.) <!-- fact --> Comparisons cost two walks to watch for each label; we counted labels, not minutes.
#
# > **Keep this:** comparisons are not richer than ratings. They are robust to a scale that nobody knows.
#
# ## Idea 3: What survived, and what was dropped
#
# Games gave their own reward: the score for DQN on Atari (2015), victory for OpenAI Five on Dota 2 and AlphaStar on StarCraft II (both 2019). Language has no score. This is the line of papers that learned one from people, and later from models and checkers.

# %% tags=["hide-input"] rlhf={"part": "idea", "drawing": true, "figure": "timeline"}
show(history.timeline())

# %% [markdown]
# Read the arrows from top to bottom. The unit of feedback changes: an action, a clip, a whole answer, a ranking, a checker's verdict. The loss hardly does. A good test for any of these losses is the value *before training*, when every score is equal: the logarithm of the number of options that the rater chose from. One line for each paper:

# %%
zero = torch.zeros(1, 4)
ranking, judge_of = torch.tensor([[0, 1, 2, 3]]), rlhf.reward_model
first_loss = {
    "Christiano, 2017": judge_of.pairwise_loss(zero[:, 0], zero[:, 1])[0],
    "Ziegler, 2019": -zero.log_softmax(1)[0, 0],  # the best of four is number 0
    "InstructGPT, 2022": judge_of.all_pairs_loss(zero, ranking)[0],
    "DPO, 2023": rlhf.direct_alignment.dpo_loss(*zero.T)[0]}
table({k: {"first loss": x.item()} for k, x in first_loss.items()}, digits=3)
verdict = torch.tensor([1.0, 0.0, 0.0, 1.0])      # R1, 2025: a checker, no loss
paid = rlhf.advantages.group_normalize(verdict, 4)
print("GRPO pays", [round(x, 2) for x in paid.tolist()])

# %%
options = torch.tensor([2.0, 4.0, 2.0, 2.0]).log()
claim("each first loss is the logarithm of the number of options",
      bool((torch.stack(list(first_loss.values())) - options).abs().max() < 1e-6))

# %% [markdown]
# What of each recipe is *not* in a widely used trainer today? We looked into the source of TRL, version 1.10.0.dev0 (commit f2cd57710, July 2026), and of [OpenAI's code of 2019](https://github.com/openai/lm-human-preferences).
#
# | recipe, unit of feedback | loss, here | what TRL dropped or moved |
# |---|---|---|
# | Christiano 2017: pairs of clips | `pairwise_loss` | its 10 % of random answers: `RewardTrainer` has the plain logistic loss (exercise 2.1) |
# | Ziegler 2019: best of four | cross-entropy, PPO | best of four: `RewardTrainer` takes pairs. Whitened rewards: off by default. The adaptive KL coefficient: `PPOConfig` has a fixed one |
# | InstructGPT 2022: rankings of 4 to 9 | `all_pairs_loss`, PPO | pretraining text mixed into PPO; and PPO itself moved to `trl.experimental` |
# | DPO 2023: pairs | `dpo_loss` | nothing of the loss |
# | R1 2025: a checker | `grpo_loss` | the KL penalty: `beta` is 0 by default, and no reference is loaded. The division by each answer's length (default: `dapo`) |
#
# Trainers in `trl.experimental` may change or disappear in any release, says its documentation. Process reward models, ORPO, CPO, online DPO and Nash-MD are there, too.
#
# > **Keep this:** comparisons, a logistic loss, a policy that is asked again, and a pull to the start: four ideas, older than the chatbots.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | the one number that tells |
# |---|---|---|
# | the reward's sign | fluent, awful texts; the paid reward rises | agreement of the score with ten comparisons of your own |
# | the sign of reward *and* penalty | below | the KL, which explodes |
# | ratings of many raters in one pot | a map that looks noisy | the share of the ratings' variance between raters |
# | all comparisons collected at the start | a good fit, a poor agent | accuracy on pairs of the *current* policy |
#
# The second one, live. The paper says that flipping the reward would usually give incoherent text, and that this bug flipped the sign of the KL penalty as well. Whether the two flips meet in one bracket decides everything. $-(r-\beta\,{\rm KL})$ pays for harm *and* for distance; $-r-\beta\,{\rm KL}$, our run above, pays for harm and keeps the pull. The fluent text of 2019 fits the second.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
policies["both flipped"] = reinforce(lambda r, kl: -(r - beta * kl))
exams["both flipped"] = examine(policies["both flipped"])

# %%
both = exams["both flipped"]
grammar["both flipped"] = both.feature("grammar").mean().item()
claim("with both signs flipped the KL is larger and the grammar worse",
      both.mean("kl") > flipped.mean("kl")
      and grammar["both flipped"] < grammar["reward flipped"], kind="T")

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained", "show": true}
for i in (0, 2, 4):
    cards(both.rows[i]["prompt"], [
        (name, exams[name].texts[i], exams[name].gold[i].item())
        for name in ("reward flipped", "both flipped")])
table({name: {"true reward": exams[name].interval(), "KL, nats": exams[name].mean("kl"),
              "grammar": grammar[name]} for name in list(exams)[1:]},
      note="32 harmful requests, two answers each; ± 95 % over requests")

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# Is the flipped model's text English, or does only our grammar formula think so? SmolLM2, a language model with 135 million parameters, has never heard of the village. How surprised is it by each token of the answers? The control has the flipped model's own words, in random order. SmolLM2's verdict knows nothing of harm or help.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
large, its = rlhf.models.load("smollm2-135m")


def surprise(texts):
    batch = its(texts, return_tensors="pt", padding=True, padding_side="right")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        logp = rlhf.logprobs.token_logps(large, ids, mask)
    return -(logp * mask[:, 1:]).sum(1) / mask[:, 1:].sum(1)


said = {name: e.texts[::2][:16] for name, e in exams.items()}
said["words mixed"] = [" ".join(text.split()[i] for i in torch.randperm(
    len(text.split()), generator=dice)) for text in said["reward flipped"]]
read = {name: surprise(texts) for name, texts in said.items()}

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
shown = {"start": "reference", "reward flipped": "policy", "both flipped": "rejected",
         "words mixed": "other"}
show(plots.bars({name: read[name].mean() for name in shown}, roles=shown,
                errors={name: clustered(read[name])[1] for name in shown},
                title="Flipped texts surprise SmolLM2 less than mixed words",
                y_label="surprise, nats per token",
                note="16 answers each; lines: 95 % over requests"),
     "Bar plot of the surprise per token for four sets of texts, with intervals")

# %%
gap = clustered(read["words mixed"] - read["reward flipped"])
claim("the flipped model's texts surprise SmolLM2 less than their words, mixed",
      gap[0] > 2 * gap[1], kind="T")

# %% [markdown]
# The flipped texts surprise it more than the start model's, two thirds of which are stock refusals, and far less than the same words without order. The texts with both signs flipped are not set apart on these sixteen answers: some are whole sentences with one strange word. A larger model measures fluency; it does not say that the direction is wrong.

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
# Write the repair of idea 2: subtract from each rating the mean of *its rater*, and divide by that rater's standard deviation.

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
# A colleague's model writes clean sentences that help with every harmful request. The KL to the start is small. Which line is in the code? (a) `r - beta * kl` (b) `-r - beta * kl` (c) `-(r - beta * kl)` (d) `r + beta * kl`. First find out what each of them pays for.

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
# 1. A reward can be learned from which of two clips people prefer, while the agent acts; on our green this gave over nine tenths of the best return.
# 2. The agent that was asked about its own walks earned more than one that was asked about random walks, although its map of the whole green was worse.
# 3. Comparisons beat ratings when every rater has a private scale and there are too few labels to learn it; with one scale, ratings win.
# 4. One flipped sign made a polite model helpful to villains, in fluent sentences, because the pull to the start still held.
# 5. The unit of feedback changed from clips to answers to a checker's verdict; the logistic loss and its first value, log 2, stayed.
#
# *In the book*: [A Tiny History of RLHF](https://rlhfbook.com/c/02-related-works), chapter 2. *Next*: chapter 3, Definitions.
#
# <!-- nav -->
