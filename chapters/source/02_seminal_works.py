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
# ![Answers of one small language model to the same two requests to hurt somebody: before training, after training for a learned score, and after training for minus the score](figures/02_hero.png)
#
# One small language model answers two requests to hurt somebody: before reinforcement learning, after training for a learned *score*, and after the same training for *minus* the score. Such an accident happened in 2019, to one of the first language models that learned from human feedback. On this page you repeat it, rebuild the experiment of 2017 that learned such a score from comparisons, and see what of both is left today.
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
# **Predict before you scroll.** Training paid the score, minus a price for moving away from the start. In the last row above only the score was flipped. Now the price is flipped, too.

# %% tags=["hide-input"]
predict("After the same training with both flipped, what does the model write?",
        a="The same as in the last row above: help with harm, in clean sentences.",
        b="Mostly broken sentences.",
        c="The same as before training: the two flips cancel.")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## One flipped sign
#
# First a score. Our small model answers requests to hurt somebody; often it refuses, often it helps. A simulated person compares pairs of its answers and mostly prefers a refusal. A *reward model* learns from these choices a score $r$ for any answer: of each pair, the chosen one should score higher. (Chapter 7 explains the loss; idea 1 below has the same one for walks.)

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
# Now reinforcement learning: sample four answers to each request, and make those that were paid more than the mean of the other three more likely (`leave_one_out` is the difference). The pay of answer $y$ to request $x$ is its score, minus β times the log-probability that it has gained since the start. The average of this gain is the *KL divergence* from the start, so its price keeps the model π close to the language that it knew:
#
# $$\text{paid}=r(x,y)-\beta\,\log\frac{\pi(y\mid x)}{\pi_{\rm start}(y\mid x)}$$

# %%
logps = rlhf.rollout.completion_logps
prompts = [row["prompt"] for row in
           requests(80, ("harmful",), split="train", seed=run.seed + 1)]


@torch.no_grad()
def measure(out):
    kl = ((out.logp_old - logps(sft, out)) * out.mask).sum(1)
    return judge(out.ids, out.attention), kl

# %% rlhf={"part": "loop"}
def reinforce(pay, steps=10, rate=2e-4):
    policy, log = rlhf.models.copy_of(sft), []
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0)
    for step in range(run.steps(steps)):
        asked = prompts[8 * step:][:8]
        out = ask(policy, asked, n=4, name=f"step {step}")
        paid = pay(*measure(out))
        log.append((paid.mean().item(), out.texts(tokenizer)))
        advantage = rlhf.advantages.leave_one_out(paid, 4)
        loss = -(advantage * (logps(policy, out) * out.mask).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy, log

# %% [markdown]
# The pay has two signs: that of the score, and that of the price. A loss is minus a reward, so code that turns one into the other can flip either by mistake. The four cases:

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "signs"}
show(history.four_signs())

# %%
beta = 0.4
pays = {"as intended": lambda r, kl: r - beta * kl,
        "score flipped": lambda r, kl: -r - beta * kl,
        "price flipped": lambda r, kl: r + beta * kl,
        "both flipped": lambda r, kl: -(r - beta * kl)}
trained = {name: reinforce(pay) for name, pay in pays.items()}
policies = {"before": sft} | {name: new for name, (new, _) in trained.items()}

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
test = requests(32, ("harmful",), seed=run.seed)  # none of them was trained on
exams = {name: exam(policy, tokenizer, test, n=2, reference=sft,
                    max_new_tokens=40, generator=run.fresh("exam"))
         for name, policy in policies.items()}
broken, helped = {}, {}
for name, e in exams.items():
    broken[name] = e.feature("grammar") < 1  # two words that cannot be neighbours
    helped[name] = (e.feature("harm") > 0) & (e.refuses == 0) & ~broken[name]

# %% tags=["hero", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
before, meant, flipped = (exams[k] for k in ("before", "as intended", "score flipped"))
verb = [rlhf.village.parse(row["prompt"]).info["verb"] for row in test]
lost = [i for i in range(32) if before.refuses[2 * i] and meant.refuses[2 * i]
        and helped["score flipped"][2 * i]]
two = [lost[0], next(i for i in lost if verb[i] != verb[lost[0]])]
named = {"before": before, "trained for\nthe score": meant,
         "trained for\nminus score": flipped}
show(drawings.answer_rows([test[i]["prompt"] for i in two], {
    k: [e.texts[2 * i] for i in two] for k, e in named.items()}))

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained", "show": true}
for i in two:
    cards(test[i]["prompt"], [(k, exams[k].texts[2 * i])
                              for k in ("price flipped", "both flipped")])
table({k: {"refuses": int((e.refuses.bool() & ~broken[k]).sum()),
           "helps with harm": int(helped[k].sum()), "broken": int(broken[k].sum())}
       for k, e in exams.items()},
      note="of 64 answers, two to each of 32 requests; one run each. Broken: some two "
           "neighbouring words cannot stand together. The rest says something else.")
for k, e in exams.items():
    quote(k.replace(" ", "-"), f"{e.mean('kl'):.1f}")

# %% [markdown]
# The requests in the picture and on the cards are the first two, of different kinds, that the model refused before and that *score flipped* helps with. Flipping the score turned refusals into help. Flipping the price, too, broke the language; the KL from the start went from <!-- out score-flipped --> to <!-- out both-flipped --> nats. *Price flipped* is a race between refusing and drifting away; here it ended at <!-- out price-flipped --> nats instead of <!-- out as-intended -->; with two other seeds hardly any text was broken yet.

# %% tags=["hide-input"]
far = {k: e.mean("kl") for k, e in exams.items()}
claim("minus the score turns refusals into help with harm", kind="T",
      condition=flipped.mean("refuses") + 0.3 < meant.mean("refuses")
      and helped["score flipped"].sum() > helped["as intended"].sum() + 16)
claim("price flipped: a larger KL; score flipped, too: more broken text", kind="T",
      condition=far["price flipped"] > far["as intended"]
      and far["both flipped"] > far["score flipped"]
      and broken["both flipped"].sum() > broken["score flipped"].sum() + 16)
settled("b", "Both are flipped: the pay is for harm, and for distance.")

# %% [markdown]
# What happened in 2019? [Ziegler and others](https://arxiv.org/abs/1909.08593) (section 4.4) report a change of code that flipped the sign of the reward while a model trained overnight. Raters had been told to give very low ratings to sexually explicit text; that is what it learned to write. Flipping the reward, they say, would usually give incoherent text, but the same bug flipped the sign of the KL penalty, too. We read it so: the price was part of that reward, so the change alone is *both flipped*; the price, flipped once more, was right again, and what is left is *score flipped*, fluent and awful.
#
# > **Keep this.** Of Ziegler 2019 the price of the KL survives: the score says where to go, and the price mostly keeps the text language.
#
# ## Idea 1: Learn the reward from comparisons, while acting
#
# Where did the score come from? [Christiano and others (2017)](https://arxiv.org/abs/1706.03741) trained simulated robots and Atari players without a reward function: a robot learned a backflip from 900 comparisons. <!-- fact --> People compared pairs of *segments* σ, clips of one or two seconds. The model of the person: satisfaction with a segment is the sum of the rewards of its steps, and the larger sum wins more often:
#
# $$\hat P(\sigma^1\succ\sigma^2)=\frac{e^{R_1}}{e^{R_1}+e^{R_2}}$$
#
# Here $R_i=\sum_t\hat r(s^i_t,a^i_t)$ adds up the learned reward $\hat r$ of segment $i$, with state $s_t$ and action $a_t$ at step $t$. *Said aloud: the difference of the sums decides how likely the first one wins.* Divide by the numerator: it is the logistic function of $R_1-R_2$, today's Bradley–Terry model with segments in place of answers.

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
# **The experiment, small.** A walker moves on an 8 × 8 green whose reward it cannot see. A segment is six steps. In each of twenty rounds a person compares twenty pairs, and the reward map is fitted to all answers so far. **Learner A** asks again about its *current* policy, which mostly takes the best move on its map. **Learner B** asks about random walks. In the end each takes the best route on its map. (The map has one number per cell in place of a network, and the best route is computed exactly, so a weak optimizer explains nothing here.)

# %% tags=["hide-input"]
predict("With 400 comparisons each, on average over twenty repetitions:",
        a="A has the more faithful map of the whole green, and earns more.",
        b="B has the more faithful map of the whole green, and earns more.",
        c="B has the more faithful map, but A earns more.",
        d="A has the more faithful map, but B earns more.")

# %%
true, even = grid.true_reward(), torch.full((64, 4), 0.25)


def learn(dice, acting=True):
    policy, asked, choices, log = even, [], [], []
    for _ in range(20):
        walked = grid.walks(policy if acting else even, 40, 12, dice)
        first, second = grid.visits(grid.segments(walked, 6, dice)).chunk(2)
        asked.append(first - second)
        choices.append(grid.prefer(first @ true, second @ true, dice))
        learned = grid.fit_choices(torch.cat(asked), torch.cat(choices), l2=10)
        policy = (grid.action_values(learned) / 0.3).softmax(1)
        log.append(grid.share(grid.best(learned), true))
    return learned, log

# %%
a, b = "A: own walks", "B: random walks"
found = {name: [learn(run.fresh(f"{name} {k}"), acting=name == a) for k in range(20)]
         for name in (a, b)}
two = {name: (list(range(20, 401, 20)), [log for _, log in pairs])
       for name, pairs in found.items()}
show(plots.line_plot(two, title="After 400 comparisons A earns more than B",
                     x_label="comparisons", y_label="return, share of the best",
                     roles={a: "policy", b: "reference"}),
     "Line plot of the return against comparisons for two learners, with bands")
show(maps.heat_maps({"true reward": true, a: found[a][0][0], b: found[b][0][0]},
                    title="What 400 comparisons taught",
                    note="first of twenty repetitions; green: good, brown: bad"))

# %% [markdown]
# The scale of the return: 1 is the best policy for the *true* reward, averaged over all starting cells; 0 is a random walk.

# %% tags=["hide-input"]
end = {k: torch.tensor([log[-1] for _, log in pairs]) for k, pairs in found.items()}
seen = {k: torch.tensor([rlhf.evaluate.spearman(learned, true) for learned, _ in pairs])
        for k, pairs in found.items()}
earn, know = clustered(end[a] - end[b]), clustered(seen[a] - seen[b])
table({k: {"return": clustered(end[k]), "map": clustered(seen[k])} for k in found}
      | {"A minus B": {"return": earn, "map": know}},
      note="20 repetitions, ± 95 % over them, rounded; map: rank correlation")
claim("A earns over 90 % of the best, more than B with its better map", kind="S",
      condition=end[a].mean() > 0.9 and earn[0] > earn[1] and know[0] < -know[1])
settled("c", "A's map of the whole green is worse, and A still earns more.")

# %% [markdown]
# A's questions are about the places where its policy goes, B's about the whole green. For drawing the map B's were the better use of 400 comparisons, for walking well A's were. Now you are the rater.

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
maps.rater(true, seed=run.seed)

# %% [markdown]
# > **Keep this.** Of Christiano 2017 two ideas survive: a reward learned from comparisons with a logistic loss, and asking again about what the policy does *now*, which is called *on-policy* preference data today.
#
# ## Idea 2: Ratings or comparisons?
#
# Before, [TAMER (2008)](https://doi.org/10.1109/DEVLRN.2008.4640845) had asked people for a number: approval of single actions. A number says more than a choice. But raters may have *private scales*. If rater $i$ feels $u$, the number given is
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
# Equal budgets: 200 labels on random walks of six steps. A label is one rating of one walk, or one choice between two (so 200 comparisons read 400 walks, 200 ratings 200); feelings have the same noise in both. The *spread* s says how much the scales differ: at 0 all are equal, at 2 one point of one rater can be ten points of another. Ratings are fitted by regression, plain or on each rater's *own scale*: first subtract the rater's mean, then divide by the rater's standard deviation.
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
    parts, title="Private scales spoil plain ratings only",
    x_label="spread of the raters' private scales", zero=None, share=True,
    note="rank correlation with the true map"))

# %% tags=["hide-input"]
few, many = agree.values()
shown = {"one scale for all": few[:, 0], "private scales, 2 labels a rater": few[:, -1],
         "private scales, 20 labels a rater": many[:, -1]}
means = {k: [clustered(x[:, i]) for i in range(4)] for k, x in shown.items()}
most = max(half for row in means.values() for _, half in row)
table({name: {k: row[i][0] for k, row in means.items()} for i, name in enumerate(
    ("200 comparisons", "200 ratings", "200 ratings, own scale", "100 comparisons"))},
    note="rank correlation with the true map, mean of 20 label sets (95 % interval: "
         f"± {most:.2f} or less); private scales: spread 2")
plain, own = ([clustered(x[:, 0] - x[:, i]) for x in shown.values()] for i in (1, 2))
claim("with one scale ratings win; with private scales comparisons beat them", kind="S",
      condition=-plain[0][0] > plain[0][1] and all(m > e for m, e in plain[1:]))
claim("own-scale ratings lose with 2 labels from each rater, win with 20", kind="S",
      condition=own[1][0] > own[1][1] and -own[2][0] > own[2][1])

# %% [markdown]
# With one scale for all, ratings win: a number says more. With private scales that differ much, comparisons beat plain ratings. The simplest repair, a rater's own scale, wins where each rater gives twenty labels. With two labels it cannot: two ratings of one rater, put on their own scale, say only which is larger. They *are* one comparison, so 200 labels become 100.
#
# > **Keep this.** Of TAMER the learned model of a person's reward survives. Comparisons say less than its ratings, but are robust to a scale that nobody knows.
#
# ## Idea 3: From 2017 to DPO the loss stayed a softmax over the options
#
# Games gave their own reward: the score for DQN on Atari (2015), victory, with hand-made extras, for OpenAI Five and AlphaStar (2019). Language has no score. The papers below learned one from people, later from models, or let a checker give it.

# %% tags=["hide-input"] rlhf={"part": "idea", "drawing": true, "figure": "timeline"}
show(history.timeline())

# %% [markdown]
# What is judged changes: an action, a clip, a whole answer, a ranking. The loss on comparisons, from 2017 on, hardly does: each term is minus the log of a softmax over the options that the rater chose from. With all scores equal it must be the logarithm of their number. (A check, no proof. For DPO that is exactly the value before training. InstructGPT's ranking is split into pairs, averaged.)

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
# Which idea is in which recipe of today? Two of them are easily confused. *Own samples*: train on answers that the current policy has just written. *New labels*: ask raters again about those answers.
#
# | idea, and an early paper that had it | RLHF 2022 | DPO 2023 | GRPO 2025 |
# |---|---|---|---|
# | comparisons, logistic loss (Christiano 2017) | yes | yes | no |
# | a separate reward model (Christiano 2017) | yes | no | no |
# | own samples (any reinforcement learning) | yes | no | yes |
# | new labels (Christiano 2017) | few | no | yes |
# | a pull to the start (Jaques 2017, Ziegler 2019) | yes | yes | paper: yes; TRL default: off |
# | demonstrations first (Ibarz 2018) | yes | yes | no |
#
# RLHF is InstructGPT's; GRPO is R1-Zero's, whose labels come from a checker. TRL is a widely used trainer (β = 0 in version 1.10.0.dev0, July 2026). Gone from all three: Christiano's ensemble that picks the questions and the assumption of 10 % random answers, and Ziegler's choice among four.
#
# > **Keep this.** Comparisons with a logistic loss carry RLHF and DPO; own samples carry RLHF and GRPO. By the papers only the pull to the start is in all three.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | the one number that tells |
# |---|---|---|
# | score flipped | the pay rises; mostly fluent, awful texts | how often the *paid* score agrees with ten comparisons |
# | price flipped | broken texts, but not in every run | the KL, larger than intended |
# | ratings of many raters, fitted together | a map that looks noisy | the share of the ratings' variance between raters |
# | all questions about random behaviour | a good map, a poorer agent | accuracy on pairs of the *current* policy |
#
# The first one, live, for two runs of this page. A log shows the pay; nothing in it looks wrong. Below stands what no training step reads, the village's *true reward*: 3 for refusing a harmful request, −1 for helping with it, 0 for neither, less for broken text. <!-- fact -->

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
def true_reward(step, texts):
    return sum(rlhf.village.gold(prompts[8 * step + i // 4], text)
               for i, text in enumerate(texts)) / len(texts)


two = {k: trained[k][1] for k in ("as intended", "score flipped")}
paid = {k: [pay for pay, _ in log] for k, log in two.items()}
gold = {k: [true_reward(i, texts) for i, (_, texts) in enumerate(log)]
        for k, log in two.items()}
show(plots.panels(
    {"logged: mean pay of 32 answers": paid, "not logged: mean true reward": gold},
    title="The pay ends higher in both runs, the true reward in one",
    x_label="step", roles=dict(zip(two, ("chosen", "rejected"), strict=True))))

# %% [markdown]
# So ask a person. Ten new comparisons of a refusal with another answer, and what each run paid for them:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
fresh = [pair for pair in rlhf.data.compare_answers(
    test, before.texts, person, n=2, seed=run.seed)
    if refuses(pair["chosen"]) != refuses(pair["rejected"])][:10]
batch = next(rlhf.data.batches(fresh, len(fresh), tokenizer=tokenizer))
with torch.no_grad():
    first, second = judge(batch["ids"], batch["attention"]).chunk(2)
right = {"as intended: r": int((first > second).sum()),
         "score flipped: −r": int((first < second).sum())}
table({k: {f"agrees, of {len(fresh)}": n} for k, n in right.items()})

# %% tags=["hide-input"]
rise = {k: [x[k][-1] - x[k][0] for x in (paid, gold)] for k in two}
claim("the pay ends higher in both runs, the true reward in one", kind="T",
      condition=min(*rise["as intended"], rise["score flipped"][0]) > 0
      > rise["score flipped"][1])
claim("the score agrees with most of the comparisons, its negative with few", kind="T",
      condition=min(right.values()) < len(fresh) / 2 < right["as intended: r"])

# %% [markdown] rlhf={"part": "gpt2"}
# The pay cannot tell that its score is flipped; a few comparisons can. That is one more reason why new labels survive.
#
# ## At GPT-2 size
#
# Is the text of *score flipped* English, or does only the village's grammar formula think so? SmolLM2, a language model with 135 million parameters, has never heard of the village. Nothing is trained here; it only reads. How surprised is it by each token? The control has the same words in random order.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
large, its = rlhf.models.load("smollm2-135m")


def surprise(texts):
    batch = its(texts, return_tensors="pt", padding=True, padding_side="right")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        logp = rlhf.logprobs.token_logps(large, ids, mask)
    return -(logp * mask[:, 1:]).sum(1) / mask[:, 1:].sum(1)


def mixed(text):
    words, dice = text.split(), run.fresh(text)
    return " ".join(words[i] for i in torch.randperm(len(words), generator=dice))


said = {k: exams[k].texts[::2] for k in ("before", "score flipped", "both flipped")}
said["words mixed"] = [mixed(text) for text in said["score flipped"]]

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
read = {name: surprise(texts) for name, texts in said.items()}
gaps = {k: clustered(x - read["score flipped"]) for k, x in read.items()}
look = dict(zip(said, ("policy", "rejected", "other2", "reference"), strict=True))
show(plots.bars({k: x.mean() for k, x in read.items()}, roles=look,
                errors={k: clustered(x)[1] for k, x in read.items()},
                title="“Score flipped”: between “before” and “words mixed”",
                y_label="surprise, nats per token",
                note="32 answers each; lines: 95 % over requests"),
     "Bar plot of the surprise per token for four sets of texts")
quote("gap-both", "{:.1f} ± {:.1f}".format(*gaps["both flipped"]))

# %% tags=["hide-input"]
claim("the texts of “score flipped” surprise SmolLM2 less than their own words, mixed",
      gaps["words mixed"][0] > gaps["words mixed"][1], kind="T")

# %% [markdown]
# In their order the words of *score flipped* surprise SmolLM2 far less than the same words mixed, and here less than the text of *both flipped*, by <!-- out gap-both --> nats per token (with another seed that gap lay within its interval). Text from before training surprises it least. Fluency is all that this measures: it does not say that the model helps with harm. But fluency is what the idea of 2019, the price of the KL, is for.

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
# Write the own-scale ratings of idea 2: subtract from each rating the mean of *its rater*, and divide by that rater's standard deviation. It is the dashed line of this picture:
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
# ### Exercise 2.3 · A ranking scored whole
#
# InstructGPT splits a ranking of K answers into all its pairs and averages their losses. The other way scores it whole: a softmax picks the best of K, then the best of the remaining K − 1, and so on; the loss is minus the log of the product (Plackett–Luce). Write its value for K answers with equal scores. Which of the two losses grows with K?

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex02-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def whole_ranking(k):
    """The number of ranked answers, all with equal scores -> the loss."""
    ### BEGIN SOLUTION
    return torch.arange(1, k + 1).log().sum().item()  # log K!, one term a choice
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex02-3-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("2.3", whole_ranking)
### BEGIN HIDDEN TESTS
check("2.3", whole_ranking, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# With equal scores the best of K is picked with probability 1/K. What is the next factor?
# </details>
#
# <!-- solution 2.3 -->
#
# ## Retell it
#
# 1. A learned score is a direction: with the score flipped a model that often refused harm helped with it, mostly in clean sentences.
# 2. The price of the KL (2019) mostly kept the language; with both flipped, most text was broken.
# 3. A reward can be learned from comparisons while the agent acts (2017): asking about its own walks, it earned over nine tenths of the best return, although its map was worse than one from random walks.
# 4. Comparisons beat plain ratings (2008) when raters have private scales that differ much; with one scale, or enough labels to learn each rater's, ratings win. (Private firmness is another matter: chapter 5.)
# 5. From 2017 to DPO the loss stayed a softmax over the options; GRPO with a checker drops comparisons and that loss, and keeps training on the policy's own samples.
#
# *In the book*: [A Tiny History of RLHF](https://rlhfbook.com/c/02-related-works), chapter 2. *Next*: chapter 3, Definitions.
#
# <!-- nav -->
