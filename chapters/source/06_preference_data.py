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
# # 6 · Preference data
#
# **With a fixed labelling budget, which pairs should people compare, and how many votes does each pair need?**
#
# ![A request with two answers under each other, one drawn blindly and one chosen by a reward that was fitted to forty labels; beside them bars over 112 prompts: how many answers flatter, and their true reward](figures/06_hero.png)
#
# Somebody compared forty pairs of answers; a reward was fitted to these labels alone, and picks the best of sixteen answers. On this page you label forty pairs yourself, see what *your* labels ask for, and find out how to spend a larger budget.
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Chapter 5 (what preferences are); a little PyTorch. <!-- costs -->. Nothing is downloaded. Model: <code>village-3m-sft</code>, three million parameters, and its stored answers. The <i>true reward</i> is a formula of this toy world, which a real team never sees: 3 points for a perfect answer (a true fact, a refusal of a harmful request, a story that fits), 0 where the task is missed, −1 for help with harm, −1.5 for broken text, −0.25 for flattery. Length and bold print count nothing. In the stored notebook a script labels in your place, and the page says so. Book: <a href="https://rlhfbook.com">rlhfbook.com</a>, chapter 11 there (Preference data). Seed 0.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** You can pay for 1,500 comparisons by an honest but noisy person. A reward model is fitted to them. Which way of spending them gives the model that orders *fresh* pairs, on prompts that nobody labelled, most often right?

# %% rlhf={"part": "setup"}
import torch
import torch.nn.functional as F
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, plots, show
run = begin(6)

# %% tags=["hide-input"]
rlhf.book.predict("1,500 votes, spent on …",
        a="1,500 pairs on 1,500 prompts, one noisy vote each",
        b="500 pairs on 500 prompts, the majority of three votes each",
        c="1,500 pairs on only 32 prompts, so that these are known well")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## Label forty pairs
#
# Each pair holds two answers of the same model to one prompt, so the data are *on-policy*: they show what this model really writes. Choose the better one, call it a tie, or skip it. Every label is saved before the next pair appears, in the columns `prompt`, `chosen`, `rejected` that trainers read. Close the notebook or restart the kernel: the cell goes on where you stopped. For pairs of your own there is a command, `python -m rlhf_minimal label --data pairs.jsonl --out mine.jsonl`; paid services such as Amazon SageMaker Ground Truth offer the same with many annotators.

# %%
from rlhf_minimal.book import labelling
from rlhf_minimal.evaluate import audit, budgets

model, tokenizer = rlhf.models.load("village-3m-sft")
some = budgets.answers()
pairs = budgets.to_label(some, 40, tokenizer, run.fresh("pairs"))
mine = labelling.label(pairs, "my_labels.jsonl", seed=run.seed)

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "pipeline"}
show(rlhf.book.drawings.pipeline([
    ("prompts", "what users ask"), ("policy", "writes two answers"),
    ("people", "choose one"), ("labels", "chosen, rejected"),
    ("reward model", "learns to score")]))

# %% [markdown]
# The forty pairs have different prompts: facts, opinions, stories, summaries, harmful requests and harmless ones that only sound harmful. The two answers differ visibly: in length by at least five words, in flattery, or in bold print. Which answer stands first is drawn at random.
#
# If nobody labels, a script does. It plays a person who half cares about quality, likes long answers, and loves compliments: her *utility* of an answer is half its true reward, plus 0.3 points per ten words, plus 3 points for flattery. <!-- fact --> She prefers the first of two answers with probability $\sigma((u_1-u_2)/0.5)$, and calls close pairs a tie.

# %%
import random

person = rlhf.village.Annotator(gold_weight=0.5, length_bias=0.3, tie=0.2,
                                weights={"flattery": 3.0}, temperature=0.5)
dice = random.Random(run.seed)


def script(prompt, first, second):
    felt = person.compare(prompt, first, second, dice)  # 1, 0, or 0.5 for a tie
    return {1.0: "first", 0.5: "tie", 0.0: "second"}[felt]


labels, whose = labelling.or_script(mine, script)
print(whose, dict(sorted(labels.counts().items())))

# %% [markdown] rlhf={"part": "loop"}
# What do these labels ask for? Suppose the reward is a weighted sum of four things that can be counted, $r=w\cdot f$: words, flattery, bold print, broken text. The Bradley–Terry model says that the chosen answer wins with probability $\sigma(r_c-r_r)$, where $\sigma$ is the logistic function and $r_c$, $r_r$ are the rewards of the chosen and the rejected answer. We make what happened likely, and add a small penalty on $w$, because forty labels cannot carry large weights:

# %%
def fit(chosen, rejected, steps=60):
    weight = torch.zeros(chosen.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.2)
    for _ in range(steps):
        margin = (chosen - rejected) @ weight
        loss = -F.logsigmoid(margin).mean() + 0.01 * weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight.detach()


chosen, rejected = audit.surface(labels.rows())  # (labels, 4) each
wish = fit(chosen, rejected)

# %%
loss = -F.logsigmoid((chosen - rejected) @ wish).mean()
theirs = rlhf.reward_model.pairwise_loss(chosen @ wish, rejected @ wish)[0]
claim("the package computes the same loss", bool((loss - theirs).abs() < 1e-6))

# %% [markdown]
# How sure are these weights? We draw the labels anew from themselves, with repetition, 100 times (the *bootstrap*), and fit each time.

# %%
again = []
for _ in range(100):
    rows = torch.randint(len(chosen), (len(chosen),), generator=run.generator)
    again.append(fit(chosen[rows], rejected[rows]))
low, high = torch.stack(again).quantile(torch.tensor([0.025, 0.975]), dim=0)
bars = dict(zip(audit.SEEN, wish.tolist(), strict=True))
half = dict(zip(audit.SEEN, ((high - low) / 2).tolist(), strict=True))
show(plots.shares({k: (bars[k], half[k]) for k in bars}, middle=0,
                  title="What the forty labels ask for", x_label="weight, in log-odds",
                  note="95 % over labels"))

# %% [markdown]
# ## This is what you asked for
#
# Now the reward picks. The policy has answered 112 other prompts 64 times each; of sixteen answers we keep the one that the reward likes best (*best-of-n*, chapter 10; the mean over all ways to draw sixteen). Three controls: a blind draw; the same fit on *coin flips* in place of the labels (mean of 50 sets); and the same person's labels of forty *random* pairs, not chosen for visible differences (mean of 10 sets).

# %%
seen = budgets.seen_in(some)  # (112 prompts, 64 answers, 4 features)


def picks(weight):
    return budgets.picked(some, seen @ weight)


def coin(k):
    side = torch.rand(len(chosen), 1, generator=run.fresh(f"coin {k}")) < 0.5
    a, b = torch.where(side, chosen, rejected), torch.where(side, rejected, chosen)
    return picks(fit(a, b))


def any_pairs(k):
    rows = budgets.to_label(some, 40, tokenizer, run.fresh(f"{k}"), differ=False)
    return picks(fit(*audit.surface(labelling.answered(rows, script))))

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
arms = {"a blind draw": [budgets.picked(some, some.gold, n=1)],
        "best of 16 by these labels": [picks(wish)],
        "… by 40 labels of random pairs": [any_pairs(k) for k in range(10)],
        "… by coin flips": [coin(k) for k in range(50)],
        "… by the true reward": [budgets.picked(some, some.gold)]}
told = {name: budgets.mean_pick(arm) for name, arm in arms.items()}
rlhf.book.table(told, digits={"flatters": "%", "words": 1},
                note="112 prompts; ± 95 % over prompts")
for name, arm in {"flat_before": "a blind draw", "flat_coin": "… by coin flips",
                  "flat_after": "best of 16 by these labels"}.items():
    rlhf.book.quote(name, f"{100 * told[arm]['flatters'][0]:.0f} %")

# %% tags=["hide-input", "hero"] rlhf={"drawing": true}
score, flat = seen @ wish, seen[..., 1]
top = score[:, :16].argmax(1)
asked = [some.asked.prompts[int(k)] for k in some.asked.prompt[some.rows[:, 0]]]
i = next((k for k in range(112) if flat[k, top[k]] > flat[k, 0]
          and len(asked[k]) < 45), 0)
text, best = some.asked.texts([some.rows[i, 0], some.rows[i, top[i]]], tokenizer)
both = {"blind draw": told["a blind draw"],
        "best of 16": told["best of 16 by these labels"]}
show(rlhf.book.drawings.answers_and_bars(
    asked[i], {"blind draw": text, "best of 16 by the forty labels": best},
    {"answers that flatter, %": {k: 100 * v["flatters"][0] for k, v in both.items()},
     "true reward, points": {k: v["true reward"][0] for k, v in both.items()}},
    title="Forty labels, and what a reward fitted to them picks"))

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
differs = budgets.clustered(arms["best of 16 by these labels"][0]["flatters"]
                            - budgets.mean_of(arms["… by coin flips"], "flatters"))
truly = budgets.clustered(arms["best of 16 by these labels"][0]["true reward"]
                          - arms["a blind draw"][0]["true reward"])
rlhf.book.quote("truly", f"{truly[0]:+.2f} ± {truly[1]:.2f}".replace("-", "−"))
claim("by the script's labels more picks flatter than by coin flips",
      "script" not in whose or differs[0] - differs[1] > 0, kind="S")

# %% [markdown]
# Of blind draws <!-- out flat_before --> flatter, of the picks <!-- out flat_after -->. Coin flips give <!-- out flat_coin -->: a random weight on flattery is positive half of the time. And was it good? Picks minus blind draws, prompt by prompt, the true reward changes by <!-- out truly --> points. Not all of that loss is taste: coin flips lose more, so picking by style alone costs true reward here, whatever the direction. But the labels chose the direction, and they did not ask for truth. (In the picture stands the first short prompt of the 112 on which the pick flatters and the blind draw does not.) Choosing pairs instead of drawing them is called *active learning*; our simple rule, pairs that differ visibly, did no better here than forty random ones.
#
# ## Idea 1: How much do two people agree?
#
# Before money is spent on more labels: do they agree with anything? Raw agreement misleads, since two people who both mostly press “1” agree by chance. *Cohen's kappa* subtracts chance. With $p_o$ the observed share of equal labels, and $p_e$ the share expected if both had labelled independently with their own frequencies,
#
# $$\kappa=\frac{p_o-p_e}{1-p_e}.$$
#
# 1 is perfect agreement, 0 is what chance gives.

# %% rlhf={"part": "idea"}
a = torch.tensor([1, 1, 1, 1, 1, 1, 1, 0, 0, 0])  # ten pairs, two people
b = torch.tensor([1, 1, 1, 1, 1, 1, 0, 1, 0, 0])  # 1: the first answer wins
observed = (a == b).double().mean()
expected = sum((a == k).double().mean() * (b == k).double().mean() for k in (0, 1))
kappa = (observed - expected) / (1 - expected)
print(f"agreement {observed:.2f}, by chance {expected:.2f}, kappa {kappa:.2f}")
theirs = rlhf.evaluate.cohen_kappa(a.tolist(), b.tolist())
claim("the package computes the same", abs(kappa.item() - theirs) < 1e-9)

# %% [markdown]
# Why do people disagree? Partly noise, partly *guidelines*. Two teams of two label the same 300 pairs. They are equally noisy and equally fond of the true reward. One team was told to prefer short answers, the other thorough ones. A fifth person, without guidelines, serves as a check.

# %%
def member(name, bias):
    return rlhf.village.Annotator(name=name, length_bias=bias, temperature=0.5)


team = {"brief 1": member("brief", -2.0), "brief 2": member("brief", -2.0),
        "thorough 1": member("long", 2.0), "thorough 2": member("long", 2.0),
        "no guideline": member("plain", 0.0)}
rows = budgets.to_label(some, 300, tokenizer, run.fresh("team"), differ=False)
votes = {name: [who.compare(r["prompt"], r["response_a"], r["response_b"], dice)
                for r in rows] for name, who in team.items()}

# %%
two = {"both brief": ("brief 1", "brief 2"),
       "both thorough": ("thorough 1", "thorough 2"),
       "brief, thorough": ("brief 1", "thorough 1"),
       "brief, no guideline": ("brief 1", "no guideline")}
found = {name: audit.kappa(votes[x], votes[y], run.fresh(name))
         for name, (x, y) in two.items()}
show(plots.shares(found, title="Inside a team people agree more than across teams",
                  x_label="Cohen's kappa", middle=0, note="300 pairs; 95 % over pairs"))

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
inside = min(found["both brief"][0], found["both thorough"][0])
claim("within a guideline agreement is higher than across guidelines",
      inside > found["brief, thorough"][0], kind="S")
seen_pairs = [(row["answer"] == "first", rlhf.village.gold(row["prompt"], row["first"])
               - rlhf.village.gold(row["prompt"], row["second"]))
              for row in labels.given if row["answer"] in ("first", "second")]
sure = [(x, y > 0) for x, y in seen_pairs if y]
own = audit.kappa(*zip(*sure, strict=True), run.fresh("own"))
rlhf.book.quote("own_kappa", f"{own[0]:.2f} ± {own[1]:.2f}")
rlhf.book.quote("own_n", str(len(sure)))

# %% [markdown]
# A low kappa across teams is no carelessness: each team does what it was told. Pool both, and the length preference cancels in the average, while it looks like noise.
#
# And your forty labels? Against the choice of the true reward, kappa is <!-- out own_kappa --> on the <!-- out own_n --> preferences where the two answers are not equally good. The interval says how little forty labels tell about this.
#
# > **Keep this:** agreement measures shared instructions as much as care. Write the guideline first, measure kappa within it, and keep each person's labels apart.
#
# ## Idea 2: How to spend 1,500 votes
#
# A vote is right with probability $q$. The majority of three is right when all three are, or exactly two:
#
# $$q^3+3q^2(1-q)=3q^2-2q^3.$$

# %% rlhf={"part": "idea"}
q, right = 0.7, 0.0
for outcome in range(8):  # three votes, each right (1) or wrong (0)
    ones = bin(outcome).count("1")
    right += (ones >= 2) * q**ones * (1 - q) ** (3 - ones)
print(f"one vote {q:.2f}, majority of three {right:.3f}")
claim("the eight outcomes add up to the formula",
      abs(right - (3 * q**2 - 2 * q**3)) < 1e-12)

# %% [markdown]
# Cleaner labels, but only a third of the pairs. The reward model shall decide: a linear reward on the policy's last hidden state (192 numbers), fitted as above with one penalty for all arms. The person is honest and noisy: a difference of one point is labelled right in 88 % of cases. <!-- fact --> The measure: fresh pairs of answers to 109 prompts that nobody labelled, one answer at least half a point better; how often does the reward order them right?
#
# Besides votes we compare *prompts* (all pairs on 32 prompts), *whose answers* (the policy's own, or those of the base model to the same 32 prompts: *foreign* pairs), and *edits*: the person rewrites an answer, and the edited text beats the original. An edit is assumed to cost as much as four comparisons, so there are 375. Each arm is repeated with four sets of labels; the edits are one set.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
honest = rlhf.village.Annotator(temperature=0.5)
spent = budgets.compare(some, honest, 1500, run.seeds(4))
share = {name: budgets.over_prompts(x) for name, x in spent.items()}
first, rows = spent["one vote a pair"], {}
for name, x in spent.items():
    behind = None if x is first else budgets.over_prompts(x - first[:len(x)])
    rows[name] = {"right on fresh pairs": share[name], "minus one vote a pair": behind}
rlhf.book.table(rows, digits=3,
                note="± 95 % over prompts; mean of four label sets (edits: one)")
apart, half = budgets.over_prompts(spent["32 prompts: its own answers"]
                                   - spent["32 prompts: the base model's answers"])
rlhf.book.quote("foreign", f"{apart:.3f} ± {half:.3f}")

# %% tags=["hide-input"]
show(plots.shares(share, title="The same 1,500 votes, spent in six ways", middle=0.5,
                  x_label="share of fresh pairs ordered right",
                  note="four label sets, 109 prompts; 95 % over prompts",
                  alt="Dots with intervals: share of fresh pairs ordered right, for "
                  "six ways to spend the same votes; a line at one half"))
for other in ("three votes a pair", "32 prompts: the base model's answers"):
    lead, half = budgets.over_prompts(first - spent[other])
    claim(f"one vote a pair is ahead of {other}", lead - half > 0, kind="S")
rlhf.book.settled("a", "Many prompts with one noisy vote each taught most.")

# %% [markdown]
# One noisy vote on many prompts wins here: a new prompt teaches more than a second opinion. Whose answers they are may matter, too: on the same 32 prompts, the policy's own answers are ahead of the base model's by <!-- out foreign -->. The reward must rank the policy's answers, and the base model's look different. A quarter as many edits come close to three votes a pair; how they compare per hour hangs on the assumed price. None of these numbers is high: fifteen hundred labels are few for 192 weights. Three votes are still worth their price for a *test set*, where a wrong label cannot be averaged out.
#
# | a label | thumbs | rating | comparison | graded comparison | ranking of four | edit |
# |---|---|---|---|---|---|---|
# | assumed cost, in comparisons <!-- fact --> | 0.5 | 0.7 | 1 | 1.2 | 2.4 | 4 |
#
# > **Keep this:** for training, buy more prompts before more votes; let your own policy write the answers, and measure whether it helps.
#
# ## Idea 3: What do the labels favour?
#
# You receive 600 labels by eight people and ask: do they favour the longer answer? The share of labels that chose it is easily counted. Its interval is not: labels of one person share her taste, labels of one prompt share its answers. Counting each label as independent is wrong twice. *Cluster* the variance over people and over prompts, and subtract what both count, the variance over single labels:
#
# $$V=V_{\rm people}+V_{\rm prompts}-V_{\rm labels},\qquad V_{\rm clusters}=\frac{C}{C-1}\,\frac1{N^2}\sum_{c=1}^{C}\Big(\sum_{i\in c}(x_i-\bar x)\Big)^2$$
#
# Here $x_i$ is 1 if label $i$ chose the longer answer, $\bar x$ their mean, $N$ the number of labels, $C$ the number of clusters.

# %% rlhf={"part": "idea"}
x = torch.tensor([[1., 1, 1, 0], [1, 0, 1, 1], [0, 0, 1, 0]])  # 3 people, 4 prompts
away = x - x.mean()
people = 3 / 2 * away.sum(1).square().sum() / 12**2
prompts = 4 / 3 * away.sum(0).square().sum() / 12**2
single = 12 / 11 * away.square().sum() / 12**2
half = 1.96 * (people + prompts - single).sqrt()
print(f"{x.mean():.2f} ± {half:.2f}; naive ± {1.96 * single.sqrt():.2f}")
theirs = audit.two_way(x.flatten(), [0] * 4 + [1] * 4 + [2] * 4, [0, 1, 2, 3] * 3)[1]
claim("the package computes the same", abs(half.item() - theirs) < 1e-6)

# %% [markdown]
# Does it matter? A simulation: twelve people, each with a length bias of her own, label the same forty pairs. The truth is the share over all people and all pairs there are. A 95 % interval should hold it in 95 of 100 repetitions.

# %%
gap, quality = budgets.lengths(some, run.fresh("lengths"))
held = audit.coverage(gap, quality, generator=run.fresh("coverage"))
show(plots.shares({k: (v, 0.0) for k, v in held.items()}, middle=0.95,
                  title="Intervals that treat labels as independent miss too often",
                  x_label="share of 95 % intervals that hold the truth",
                  note="300 repetitions: 12 people, 40 pairs"))

# %% tags=["hide-input"]
claim("intervals over single labels hold the truth in fewer than 75 of 100 repetitions",
      held["single labels"] < 0.75, kind="S")
claim("clustered over people and prompts they hold it in more than 85",
      held["raters and prompts"] > 0.85, kind="S")

# %% [markdown]
# Here most of the dependence sits in the prompts, so clustering over people alone repairs little; in other data it is the people. Cluster over both, and you need not know.
#
# Now the audit. Five groups of eight people labelled the *same* 600 pairs. One group is plain; four hide a bias each. Which group has which? Each number is the share of labels that chose the answer with more of the feature, among pairs that differ in it.

# %%
bias = {"plain": {}, "A": {"weights": {"flattery": 1.0}}, "B": {"position_bias": 0.7},
        "C": {"length_bias": 1.0}, "D": {"weights": {"markup": 1.0}}}
report, sets = {}, {}
for name, knobs in bias.items():
    eight = [rlhf.village.Annotator(name=f"{name}{k}", temperature=0.5, **knobs)
             for k in range(8)]
    sets[name] = list(rlhf.data.load_data("pool", "pairs", n=600, seed=run.seed,
                                          annotator=rlhf.village.panel(eight)))
    report[name] = audit.leanings(sets[name])
rlhf.book.table(report, note="± 95 % over people and prompts")

# %% tags=["hide-input"]
hidden = {"A": "the flattering", "B": "the first shown", "C": "the longer",
          "D": "the marked-up"}
claim("each hidden bias raises its own column above the plain group",
      all(report[k][v][0] > report["plain"][v][0] for k, v in hidden.items()), kind="S")

# %% [markdown]
# Compare each row with *plain*, not with one half. Honest people reject broken text, and nothing says that quality and length are unrelated. Only the order shown must be even, because it was drawn at random.
#
# <details><summary>Who is who</summary>
# A likes flattery, B whatever stands first, C length, D bold print.
# </details>
#
# The same audit reads public sets. Two files in their columns (written by us in the village; for the real ones give `load_data` the hub id, `Anthropic/hh-rlhf` or `stanfordnlp/SHP`): HH stores two whole transcripts, SHP two comments with votes.

# %%
public = {}
for name in ("hh_style", "shp_style"):
    rows = audit.sample(name)  # load_data("…/hh_style.jsonl", "pairs")
    public[f"{name}, {len(rows)} rows"] = audit.leanings(rows)
    r = rows[0]
    cards(str(r["prompt"]), [("chosen", r["chosen"]), ("rejected", r["rejected"])])
rlhf.book.table(public, note="± 95 % over prompts; – : too few pairs differ")

# %% [markdown]
# With so few rows the intervals cannot tell a preference for length from none. SHP has another catch: early comments collect more votes, so its labels favour whoever was quick.
#
# > **Keep this:** audit labels against a trusted group on the same pairs, with intervals over people and prompts.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | the number that tells |
# |---|---|---|
# | the better answer always stands first | perfect agreement | kappa after the order is drawn anew |
# | both answers equal after truncation | loss stays at log 2 on these pairs | share of identical pairs |
# | majority stored, votes thrown away | no disagreement at all | votes for each pair |
# | ties dropped silently | people look decisive | share of ties |
# | test prompts among the labelled ones | high accuracy | prompts in both sets |
#
# The first one live. A tired person presses “1” on all 600 pairs of the plain group:

# %%
always = [1.0] * 600  # "the first answer is better"
sorted_first = [1.0] * 600  # an interface that shows the chosen answer first
drawn = [float(row["chosen_first"]) for row in sets["plain"]]
for name, truth in {"chosen always first": sorted_first, "order drawn": drawn}.items():
    same = sum(x == y for x, y in zip(always, truth, strict=True)) / 600
    print(f"{name}: agreement {same:.2f}")

# %% [markdown]
# With a fixed order, somebody who reads nothing looks perfect. With a drawn order the agreement falls to one half, as it should.

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size: one word decides the label
#
# Some pairs have an order only because of one word in the prompt. Both stories below are good; asked for a *gloomy* story the first is right, asked for a *calm* one the second. Store such a pair without the word, and its label is a coin. Could a language model label them? A recorded measurement on SmolLM2-135M, taught the village's manner: for twelve such pairs, the log-probability of the first story minus that of the second.

# %%
large = rlhf.book.recorded("06_smollm2")
one = large.pairs[0]
cards(f"{one['prompts'][0]} ({one['moods'][1]}: the second)",
      [("first story", one["stories"][0]), ("second story", one["stories"][1])])
curve = large.curve
first, second = (torch.tensor(curve[k]) for k in ("first mood", "second mood"))
parts = {"margin of the first story, nats":
         {"asked for the first": (curve["pair"], first.tolist()),
          "asked for the second": (curve["pair"], second.tolist()),
          "asked for none": (curve["pair"], curve["no mood"])},
         "what the word changes, nats": {"first minus second": (
             curve["pair"], (first - second).tolist())}}

# %%
show(plots.panels(parts, x_label="pair, sorted by its margin without the word",
                  title="The story itself weighs more than the word",
                  note="SmolLM2-135M, 12 pairs"))
right = int((first > 0).sum() + (second < 0).sum())
rlhf.book.quote("by_sign", f"{right} of 24")
rlhf.book.quote("by_change", f"{int((first > second).sum())} of 12")
rlhf.book.quote("nats", f"{(first - second).mean():.1f}")

# %% [markdown]
# By the sign of the margin the model decides <!-- out by_sign --> cases right, no better than a coin: some stories are simply more probable, whatever was asked. But the word is heard: it moves the margin in the right direction in <!-- out by_change --> pairs, by <!-- out nats --> nats on average. What carries over: compare the same answers across prompts before you trust a score. What does not: at this size the raw log-probability is no annotator.

# %% [markdown] rlhf={"part": "exercises"}
# ## Exercises
#
# ### Exercise 6.1 · Kappa that gives half credit
#
# Labels may be 0 (second), 0.5 (tie) or 1 (first). <!-- fact --> Confusing a tie with a preference is half as bad as confusing the two preferences. *Weighted kappa* is $\kappa_w=1-D_o/D_e$: the observed mean of $|a-b|$ over the items, divided by the mean expected if both labelled independently, that is, over all combinations of a label of the one with a label of the other.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex6-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def weighted_kappa(a, b):
    """Two tensors (N,) of labels 0, 0.5, 1 -> one number."""
    ### BEGIN SOLUTION
    observed = (a - b).abs().mean()
    expected = (a[:, None] - b[None, :]).abs().mean()
    return 1 - observed / expected
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex6-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("6.1", weighted_kappa)
### BEGIN HIDDEN TESTS
check("6.1", weighted_kappa, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# All combinations: a[:, None] - b[None, :] has shape (N, N).
# </details>
#
# <!-- solution 6.1 -->
#
# ### Exercise 6.2 · The ceiling of measured accuracy
#
# A reward model that is right on a share `model` of pairs is tested against labels that are right on a share `label`, independently. How often does it agree with the labels? First say what a perfect model scores, and whether 0.68 <!-- fact --> against such labels can be a good model.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex6-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def measured_accuracy(model, label):
    """Two shares -> the expected agreement."""
    ### BEGIN SOLUTION
    return model * label + (1 - model) * (1 - label)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex6-2-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("6.2", measured_accuracy)
### BEGIN HIDDEN TESTS
check("6.2", measured_accuracy, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# They agree when both are right, and when both are wrong.
# </details>
#
# <!-- solution 6.2 -->
#
# ### Exercise 6.3 · Find the bug in the audit
#
# A colleague's audit says that labels hardly favour length: `(chosen > rejected).mean()`. Many of the answers have equal lengths, such as those below. Repair it: the share of labels that chose the longer answer, among the pairs where one is longer.

# %%
same = next(r for r in sets["plain"]
            if len(r["chosen"].split()) == len(r["rejected"].split()))
cards(same["prompt"], [("chosen", same["chosen"]), ("rejected", same["rejected"])])

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex6-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def chose_the_longer(chosen, rejected):
    """Lengths (N,) of the chosen and of the rejected answers -> one share."""
    ### BEGIN SOLUTION
    differ = chosen != rejected
    return (chosen > rejected)[differ].double().mean()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex6-3-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("6.3", chose_the_longer)
### BEGIN HIDDEN TESTS
check("6.3", chose_the_longer, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Leave out the pairs of equal length before you take the mean.
# </details>
#
# <!-- solution 6.3 -->

# %% [markdown] rlhf={"part": "retell"}
# ## Retell it
#
# Forty labels already say what somebody wants, and a reward fitted to them picks that, good or not. Two people agree beyond chance when they share a guideline, and much less when they do not. With a fixed budget, one noisy vote on many prompts taught more here than three votes on a third of the pairs, and the model's own answers taught no less than those of a model that writes differently. Labels of one person and of one prompt belong together, so honest intervals are clustered over both. With them, hidden tastes for length, flattery, bold print and the first place show in a table.
#
# In the book: chapter 11, Preference data. Next: chapter 7, Reward modeling.
#
# <!-- nav -->
