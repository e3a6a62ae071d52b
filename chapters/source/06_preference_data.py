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
# **You have 300 votes. Which pairs do you show, what do you ask, and how many votes does a pair get?**
#
# ![A request with two answers under each other, one drawn blindly and one chosen by a reward that was fitted to the labels of a script that loves compliments; below them bars with intervals over 112 prompts: how many answers flatter, and true reward minus that of a blind draw](figures/06_hero.png)
#
# A script that loves compliments compared forty pairs of answers, and a reward fitted to its labels picked the best of sixteen: most picks flatter, but coin flips in place of labels cost no less *true reward* (a formula of this toy world: at most 3 points; a compliment costs 0.25, broken text up to 1.5). <!-- fact --> Now you have 300 votes: what do you buy?
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Chapter 5 (what preferences are); a little PyTorch. <!-- costs -->. Nothing is downloaded. Model: <code>village-3m-sft</code>, three million parameters, and its stored answers. A real team never sees the true reward: 3 points are a perfect answer (a true fact, a refusal of a harmful request, a story that fits), 0 a missed task; help with harm costs 1. Length and bold print count nothing. In the stored notebook a script labels; run the page, and you can. Book: <a href="https://rlhfbook.com">rlhfbook.com</a>, chapter 11 there (Preference data). Seed 0.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** A vote says which of two answers is better. Your people follow the guideline, but they are noisy. A reward model is fitted to 300 of their votes. Then it sees *fresh* pairs, on prompts that nobody voted on. Which purchase makes it order the most of them right?

# %% rlhf={"part": "setup"}
import torch
import torch.nn.functional as F
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, plots, quote, show, table
run = begin(6)

# %% tags=["hide-input"]
rlhf.book.predict("300 votes, spent on …",
        a="300 pairs on 300 prompts, one noisy vote each",
        b="100 pairs on 100 prompts, three votes each",
        c="300 pairs on only 32 prompts, so that these are known well")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## Before you buy: label forty pairs
#
# A reward model learns from people's choices:

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "pipeline"}
show(rlhf.book.drawings.pipeline([
    ("prompts", "what users ask"), ("policy", "writes two answers"),
    ("people", "choose one"), ("labels", "chosen, rejected"),
    ("reward model", "learns to score")], down=True))

# %% [markdown]
# Now you are the person. **Guideline**: choose the answer that serves the asker better. True comes first, then clear; help with harm is bad. If you cannot decide, call it a tie. Every label is saved. Both answers come from the model that we want to improve (the data are *on-policy*), and they differ visibly: by at least five words, in flattery, or in bold print. Which one stands first is drawn at random.

# %%
from rlhf_minimal.book import labelling
from rlhf_minimal.evaluate import audit, budgets

model, tokenizer = rlhf.models.load("village-3m-sft")
some = budgets.answers()
pairs = budgets.to_label(some, 40, tokenizer, run.fresh("pairs"))
mine = labelling.label(pairs, "my_labels.jsonl", seed=run.seed)

# %% [markdown]
# If nobody labels, a script does. It plays a person who half follows the guideline and loves compliments. Her *utility* of an answer is half its true reward, plus 0.3 points per ten words, plus 3 points for flattery. <!-- fact --> She prefers the first of two answers with probability $\sigma((u_1-u_2)/0.5)$, where $u_1$, $u_2$ are the utilities and $\sigma$ is the logistic function. Close pairs she calls a tie.

# %%
import random

vain = rlhf.village.Annotator(gold_weight=0.5, length_bias=0.3, tie=0.2,
                              weights={"flattery": 3.0}, temperature=0.5)
dice = random.Random(run.seed)


def script(prompt, first, second):
    felt = vain.compare(prompt, first, second, dice)  # 1, 0, or 0.5 for a tie
    return {1.0: "first", 0.5: "tie", 0.0: "second"}[felt]


labels, whose = labelling.or_script(mine, script)
print(whose, dict(sorted(labels.counts().items())))

# %% [markdown] rlhf={"part": "loop"}
# ## What do these forty labels ask for?
#
# Suppose the reward is a weighted sum of four things that can be counted, $r=w\cdot f$: words, flattery, bold print, broken text. By the Bradley–Terry model (chapter 5) the chosen answer wins with probability $\sigma(r_c-r_r)$, where $r_c$, $r_r$ are the rewards of the chosen and the rejected answer. We maximize the likelihood of the labels; a small penalty keeps $w$ small, and ties are left out. How much do the weights vary? We draw the labels anew from themselves, with repetition, 100 times (the *bootstrap*), and fit each time.

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
print(f"fitted to {len(chosen)} preferences")

# %%
again = []
for _ in range(100):
    rows = torch.randint(len(chosen), (len(chosen),), generator=run.generator)
    again.append(fit(chosen[rows], rejected[rows]))
low, high = torch.stack(again).quantile(torch.tensor([0.025, 0.975]), dim=0)
ends = zip(wish.tolist(), low.tolist(), high.tolist(), strict=True)
scripted = "script" in whose
taste = dict(zip(audit.SEEN, (0.6, 5.75, 0.0, -1.5), strict=True)) if scripted else {}
show(plots.planted(dict(zip(audit.SEEN, ends, strict=True)), taste,
                   title="What the forty labels ask for", x_label="weight, in log-odds",
                   note="95 % over labels; diamonds: the script's own taste"))

# %% [markdown]
# The diamonds are what the script really likes: 3 points of flattery, less half of the 0.25 that it costs, over the noise of 0.5, make 5.75. <!-- fact --> Flattery is fitted at <!-- out flattery -->, partly because the penalty shrinks it. Broken text is fitted at <!-- out broken -->, although its diamond stands at −1.5: <!-- fact --> only <!-- out apart --> labelled pairs differ in it by more than 0.1. <!-- fact --> The intervals show how far weights vary from draw to draw, not how far all draws miss a diamond.
#
# What does this reward pick? The policy has answered 112 other prompts 64 times each. Of sixteen answers we keep the one that the reward likes best (*best-of-n*, chapter 10). Two controls: a blind draw, and the same fit on *coin flips* in place of the labels.

# %%
seen = budgets.seen_in(some)  # (112 prompts, 64 answers, 4 features)


def picks(weight):
    return budgets.picked(some, seen @ weight)


def coin(k):
    side = torch.rand(len(chosen), 1, generator=run.fresh(f"coin {k}")) < 0.5
    a, b = torch.where(side, chosen, rejected), torch.where(side, rejected, chosen)
    return picks(fit(a, b))


# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
arms = {"a blind draw": [budgets.picked(some, some.gold, n=1)],
        "best of 16 by these labels": [picks(wish)],
        "… by coin flips (50 sets)": [coin(k) for k in range(50)],
        "… by the true reward": [budgets.picked(some, some.gold)]}
blind = budgets.both_pick(arms["a blind draw"])["true reward"]
told = {name: {"flatters, %": budgets.both_pick(arm, percent=True)["flatters"],
               "minus blind draw": budgets.ahead(arm, arms["a blind draw"])}
        for name, arm in arms.items()}
told["a blind draw"]["minus blind draw"] = None
table(told, digits={"flatters, %": 1, "minus blind draw": 2},
      note=f"true reward, minus a blind draw ({blind[0]:.2f} points); 112 prompts; "
           "± 95 % over prompts, coin flips also over sets")

# %% tags=["hide-input", "hero"] rlhf={"drawing": true}
ours, flips = arms["best of 16 by these labels"], arms["… by coin flips (50 sets)"]
asked, texts = budgets.example(some, seen @ wish, tokenizer)
short = "blind draw", "these labels", "coin flips"
bars = dict(zip(short, told.values(), strict=False))
by = "a script that loves compliments" if scripted else "you"
panels = {head: {k: v[column] or (0, 0) for k, v in bars.items()} for head, column in
          {"answers that flatter, %": "flatters, %",
           "true reward, minus blind draw": "minus blind draw"}.items()}
show(rlhf.book.drawings.answers_over_bars(
    asked, texts, panels, title=f"Best of 16 by forty labels of {by}"))

# %% tags=["hide-input"]
mean, half = budgets.ahead(ours, flips, "flatters")
claim("by the script's labels more picks flatter than by coin flips",
      not scripted or mean - half > 0, kind="S")
for name, k in {"flattery": 1, "broken": 3}.items():
    quote(name, f"{wish[k]:.1f}".replace("-", "−"))
uneven = (chosen - rejected)[:, 3].abs() > 0.1
quote("apart", f"{uneven.sum()} of {len(chosen)}")
loss, apart = (budgets.ahead(ours, arm) for arm in (arms["a blind draw"], flips))
more = budgets.ahead(ours, arms["a blind draw"], "flatters")
print(f"of {loss[0]:.2f} points, compliments alone: {-0.25 * more[0]:.2f}")
print("these labels minus coin flips: {:+.2f} ± {:.2f} points".format(*apart))

# %% [markdown]
# The labels decided *what* is picked: most picks flatter, far more than with coin flips. They lose against a blind draw, and about half of the loss is the price of the compliments. But picks by coin flips lose no less, probably because all four features describe the surface, and best of sixteen carries any such reward to odd answers. (The request in the picture is the first with two short answers where only the pick flatters and is worth less.)
#
# > **Keep this.** Here a reward learned the labels' loudest taste, flattery; features, penalty and few labels limit it. Before you buy 300 votes, look at what forty of them ask for.
#
# ## Idea 1: How many votes for a pair?
#
# From now on your people follow the guideline: they vote by true reward, plus noise. A second and a third vote make a label cleaner. If a vote is right with probability $q$, the majority of three is right when all three are, or exactly two: $q^3+3q^2(1-q)=3q^2-2q^3$.

# %% rlhf={"part": "idea"}
q, right = 0.7, 0.0
for outcome in range(8):  # three votes, each right (1) or wrong (0)
    ones = bin(outcome).count("1")
    right += (ones >= 2) * q**ones * (1 - q) ** (3 - ones)
honest = rlhf.village.Annotator(temperature=0.5)
one, three = budgets.accuracy(some, honest, some.pairs)
print(f"q = {q}: one vote {q:.2f}, majority {right:.2f}")
share = len(budgets.by_truth(some.wide, some.pairs)) / len(some.pairs)
print(f"our pairs: {1 - share:.2f} are equally good; "
      f"on the others one vote {one:.2f}, majority {three:.2f}")
claim("the eight outcomes add up to the formula",
      abs(right - (3 * q**2 - 2 * q**3)) < 1e-12)

# %% [markdown]
# Where one answer is better, one vote is mostly right already, and the majority gains little: less than the formula at the average $q$ (.95), <!-- fact --> since $q$ differs from pair to pair, and averages do not pass through a cubic. But with three votes a pair only 100 pairs are left. What is worth more?
#
# From here on the reward is linear in the policy's last hidden state (192 numbers), with one penalty for all purchases. The test: fresh pairs from 109 prompts that nobody voted on, one answer at least half a point better. Each purchase is made 24 times.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
def buy(*ways, person=honest, n=300):
    return budgets.compare(some, person, n, run.seeds(24), ways)


one_each = "a new prompt for every vote"
three_votes = "three votes a pair, majority", "three votes a pair, all kept"
spent = buy(one_each, *three_votes)
compare_with = {one_each: spent[one_each]} | buy("coin flips", "no noise at all") | {
    "no votes, less broken text wins": budgets.by_rule(some, "broken text", 24)}
note = "300 votes; ± 95 % over 109 prompts and 24 sets of votes"
table(budgets.bill(spent), digits=1, note=note)

# %% [markdown]
# *Majority* makes one label of three votes; *all kept* gives the reward all three as labels. Both fall behind one vote on each of 300 prompts (below: *300 prompts*). *All kept* throws no vote away, but covers a third of the pairs and of the prompts; which of the two it lacks is the next question.
#
# > **Keep this.** One vote on each of 300 prompts taught more here than three votes on each of 100.
#
# ## Idea 2: Which pairs?
#
# We can also spend one vote on each of 300 *pairs*, but on 100 prompts; on 32; or on the same 32 with answers of *another model* (the base model, off-policy).
#
# Or we choose the pairs. *Active learning* asks about pairs that the reward model doubts. Under Bradley–Terry a vote on a pair with margin $m=r_1-r_2$ says “first” with probability $p=\sigma(m)$, and its entropy is $H(p)=-p\log p-(1-p)\log(1-p)$ nats: the closer the margin is to 0, the more open the vote.

# %% rlhf={"part": "idea"}
margin = torch.tensor([2.0, -0.1, 0.5])  # of three pairs
p = torch.sigmoid(margin)
entropy = -p * p.log() - (1 - p) * (1 - p).log()
print("entropy, nats:", [round(x, 3) for x in entropy.tolist()])
order = rlhf.active.closest(margin, 3)
claim("the package asks about the most open vote first",
      torch.equal(order, entropy.argsort(descending=True)))

# %% [markdown]
# We spend 150 votes at random, fit, and spend the other 150 on the *closest* of the remaining pairs; or on the *most disputed*, on which five fits to resampled votes differ most. Every pair has a prompt of its own. Below the line stand references that are no purchases: labels by coin flips, labels without noise (by true reward), and a rule that needs no vote: the answer with less broken text wins.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
spent |= buy("three pairs a prompt", "only 32 prompts",
             "only 32 prompts, another model's answers",
             "half at random, half the closest",
             "half at random, half the most disputed")
refer = budgets.behind(compare_with)
dotted = "dotted: 300 prompts; 95 % over 109 test prompts and 24 sets of votes"
show(plots.shares(budgets.behind(spent), middle=0, references=refer, note=dotted,
                  title="No other purchase was ahead of 300 prompts",
                  x_label="ordered right, minus 300 prompts, points"))

# %% tags=["hide-input"]
for other in three_votes:
    mean, half = budgets.over_both(spent[one_each] - spent[other])
    claim(f"a new prompt for every vote is ahead of: {other}",
          mean - half > 0, kind="S")
mean, _ = budgets.over_both(spent[one_each] - spent["only 32 prompts"])
claim("a new prompt for every vote is ahead of only 32 prompts, on average",
      mean > 0, kind="S")
rlhf.book.settled("a", "Of these three; but all of them taught little.")
pairs_of = {"own answers − another model's, 32 prompts":
            ("only 32 prompts", "only 32 prompts, another model's answers"),
            "100 prompts: three pairs each − one pair, all votes":
            ("three pairs a prompt", "three votes a pair, all kept")}
table({name: {"points": budgets.over_both(100 * (spent[a] - spent[b]))}
       for name, (a, b) in pairs_of.items()}, digits=1, note=note)

# %% [markdown]
# Fewer prompts taught less, although no vote is doubled. (On 32 prompts the interval is wide; with other seeds of this page it reaches 0.) On 100 prompts, three pairs each were no better than one pair with three votes: what *all kept* lacks seems to be prompts. Whether another model's answers teach less, this run cannot tell. The *closest* pairs taught less than random ones, perhaps because people are noisiest where two answers are about equally good; the *most disputed* were no better than random ones.
#
# The grey squares keep us modest: everything is weak. *300 prompts* orders 58 % right, coin flips 51, and a rule without votes, which knows what is bad in this world, 60. <!-- fact --> Labels without noise gain little.
#
# > **Keep this.** Here votes on new prompts taught more, and no cleverer choice of pairs beat a random one.
#
# <details><summary>What practice does</summary>
# InstructGPT showed 4 to 9 answers at once, and people ranked them; all pairs of one ranking go into one batch element, since they depend on each other. Other forms: a graded scale (much better, better, slightly better), with or without a tie; single ratings; thumbs; edits, where the edited text beats the original. Each has another price per minute. People are screened on pairs with a known answer, get written guidelines, and deliver in batches, so that the guideline can be repaired. For your own pairs: <code>python -m rlhf_minimal label --data pairs.jsonl --out mine.jsonl</code>; services such as Amazon SageMaker Ground Truth do the same with many people.
# </details>
#
# ## Idea 3: Which question?
#
# Do your people answer the question that you asked? The usual check is whether two of them agree. But two people who both mostly press “1” agree often by chance. *Cohen's kappa* subtracts chance: $\kappa=(p_o-p_e)/(1-p_e)$, where $p_o$ is the observed share of equal labels, and $p_e$ the share expected if the two labelled independently, each with her own frequencies. 1 is perfect agreement, 0 is chance.

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
# Now two people who follow the guideline and two who, like the script, love compliments vote on the same 300 pairs.

# %%
vain = rlhf.village.Annotator(gold_weight=0.5, length_bias=0.3,
                              weights={"flattery": 3.0}, temperature=0.5)
rows = budgets.to_label(some, 300, tokenizer, run.fresh("team"), differ=False)
votes = [[who.compare(r["prompt"], r["response_a"], r["response_b"], dice)
          for r in rows] for who in (honest, honest, vain, vain)]
two = {"both follow the guideline": (0, 1), "both love compliments": (2, 3),
       "one of each": (0, 2)}

# %%
found, told = {}, {}
for name, (x, y) in two.items():
    found[name] = audit.kappa(votes[x], votes[y], run.fresh(name))
    told[name] = audit.beside_truth(votes[x], votes[y], rows)
show(plots.shares(found, title="People who half follow the guideline agree, too",
                  x_label="Cohen's kappa", middle=0, note="300 pairs; 95 % over pairs"))
table(told, digits="%", note="the same 300 pairs; clear: one answer is truly better, "
      f"{audit.clear(rows):.0%} of them")

# %% [markdown]
# Each two agree beyond chance, on the question that *they* answer; kappa does not say which one. For the guideline it is lower than “vote right” suggests: on pairs that are not clear two such votes are two coin flips, and elsewhere either can err. (Raw agreement of InstructGPT's trained labellers: 72.6 ± 1.5 %, Ouyang et al. 2022.) <!-- fact -->
#
# What do the votes for compliments buy? As a control, *people twice as noisy* follow the guideline, but weigh true reward against noise exactly as the lovers of compliments do.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
tired = rlhf.village.Annotator(temperature=1.0)
asked = {"people twice as noisy": (tired, 300),
         "people who love compliments": (vain, 300),
         "1,500 votes, love compliments": (vain, 1500),
         "1,500 votes, guideline": (honest, 1500)}
team = {one_each: spent[one_each]}
for name, (who, n) in asked.items():
    team[name] = buy(one_each, person=who, n=n)[one_each]

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
show(plots.shares(budgets.behind(team), middle=0, note=dotted,
                  title="Five times the votes did not repair the wrong question",
                  x_label="ordered right, minus 300 prompts, points",
                  alt="Dots with intervals for four teams: how many fresh pairs the "
                      "reward orders right, compared with 300 prompts"))
gap = team[one_each] - team["1,500 votes, love compliments"]
mean, half = budgets.over_both(gap)
claim("300 votes by the guideline are ahead of 1,500 by people who love compliments",
      mean - half > 0, kind="S")
claim("people who love compliments agree beyond chance",
      found["both love compliments"][1] > 0, kind="S")
quote("taste", budgets.signed(*(team[k] for k in list(asked)[1::-1])))

# %% [markdown]
# Twice the noise costs little. The taste costs more: people who love compliments lie <!-- out taste --> points from people twice as noisy (the first two dots). Five times as many votes by the guideline help, mainly as more pairs; this many votes for compliments stay behind 300 by the guideline.
#
# > **Keep this.** More votes bought mainly more pairs, and did not repair a wrong question. Agreement does not show which question was answered.
#
# ## Idea 4: What else is in the votes?
#
# An *audit* can show a taste: count how often the longer or the flattering answer was chosen, and compare with people you trust. The hard part is the interval. Labels of one person share her taste, labels of one prompt its answers; treated as independent, they look too certain. So add up two variances of the mean, one with people as the units, one with prompts, and subtract what both count (Cameron, Gelbach & Miller 2011): $V=V_{\rm people}+V_{\rm prompts}-V_{\rm labels}$, but at least the larger of the first two.

# %% rlhf={"part": "idea"}
x = torch.tensor([[1., 1, 1, 0], [1, 0, 1, 1], [0, 0, 1, 0]])  # 3 people, 4 prompts
away = x - x.mean()  # 1: this label chose the longer answer
people = 3 / 2 * away.sum(1).square().sum() / 12**2  # sum per person, squared
prompts = 4 / 3 * away.sum(0).square().sum() / 12**2
single = 12 / 11 * away.square().sum() / 12**2
half = 1.96 * (people + prompts - single).sqrt()
print(f"{x.mean():.2f} ± {half:.2f}; as if independent ± {1.96 * single.sqrt():.2f}")
theirs = audit.two_way(x.flatten(), [0] * 4 + [1] * 4 + [2] * 4, [0, 1, 2, 3] * 3)[1]
claim("the package computes the same", abs(half.item() - theirs) < 1e-6)

# %% [markdown]
# **A riddle.** Four teams of eight people labelled the same 300 pairs, one vote per pair and team. One team, *plain*, is trusted. Each of the others has one hidden taste: for length, for compliments, or for the answer shown first. Who loves compliments? The first row is the share of *plain* votes for the answer with more of the feature; the others say by how much a team differs on the same pairs.

# %%
sets, secret = audit.groups(run.seed, n=300)
report = {"plain": audit.leanings(sets["plain"])}
for name in "ABC":
    report[name] = audit.against(sets[name], sets["plain"])
table({name: {k.removeprefix("the ") + ", %": tuple(100 * x for x in row[k])
              for k in audit.HIDDEN} for name, row in report.items()}, digits=0,
      note="A to C: minus plain. ± 95 % over people of both teams and prompts")

# %% tags=["hide-input"]
changed = [report[k][v] for k, v in secret.items()]
claim("each hidden taste raises its own column",
      all(m > 0 for m, _ in changed), kind="S")
quote("who", ", ".join(f"{k} likes {v}" for k, v in secret.items()))
loves = next(k for k, v in secret.items() if v == "the flattering")

# %% [markdown]
# <details><summary>Who is who</summary>
# Here <!-- out who -->. A taste may raise a second column: flattery adds words. To separate the two, fit all features at once, as with your forty labels.
# </details>
#
# Public sets are audited in the same way. Anthropic's HH stores two whole transcripts, Stanford's SHP a Reddit post and two comments, of which the preferred one was written *later*, since early comments collect votes. Here is one vote of the team that loves compliments, in either form; with a network, `rlhf.data.load_data("Anthropic/hh-rlhf", "pairs", n=1000)` loads the real sets.

# %%
short = audit.shortest(sets[loves], "the flattering")  # the number of a short row
for name, form in {"HH": audit.as_hh, "SHP": audit.as_shp}.items():
    row = form(sets[loves])[short]
    cards(f"one row in the columns of {name}", {k: str(v) for k, v in row.items()})

# %% [markdown]
# Neither set says who voted, so one variance is missing: if people differ, intervals are too short.
#
# > **Keep this.** Audit votes against a trusted team on the same pairs, with intervals over people and prompts, before you train on them.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | the number that tells |
# |---|---|---|
# | the better answer always stands first | who always presses 1 agrees perfectly | kappa after the order is drawn anew |
# | both answers equal after truncation | loss stays at log 2 on these pairs | share of identical pairs |
# | only the majority is stored | no disagreement at all | votes for each pair |
# | ties dropped and not reported | people look decisive | share of ties |
# | test prompts among the labelled ones | high accuracy | prompts in both sets |
#
# The first one live. Somebody who reads nothing presses “1” on all pairs of the plain team, whose votes are taken to be right:

# %%
drawn = [float(row["chosen_first"]) for row in sets["plain"]]
both = {"right answer always first": [1.0] * len(drawn), "order drawn": drawn}
for name, truth in both.items():
    p_o = sum(truth) / len(truth)  # share of labels that equal her "1"
    p_e = p_o                      # she says nothing else: by chance it is the same
    kappa = "0/0" if p_e == 1 else f"{(p_o - p_e) / (1 - p_e):.2f}"
    print(f"{name}: agreement {p_o:.2f}, kappa {kappa}")

# %% [markdown] rlhf={"part": "gpt2"}
# > **Keep this.** Draw the order anew for every pair.
#
# ## At GPT-2 size: could a raw log-probability vote for free?
#
# Both stories below are good; asked for a *gloomy* story the first is right, asked for a *calm* one the second. A recorded measurement on SmolLM2-135M, finetuned on demonstrations of the village: for twelve such pairs, the log-probability of the first story minus that of the second. Above 0 the model votes for the first.

# %%
large = rlhf.book.recorded("06_smollm2")
one = large.pairs[0]
cards(f"{one['prompts'][0]} ({one['moods'][1]}: the second)",
      [("first story", one["stories"][0]), ("second story", one["stories"][1])])

# %%
first, second = (torch.tensor(large.curve[k]) for k in ("first mood", "second mood"))
show(plots.moved(list(zip(first.tolist(), second.tolist(), strict=True)),
                 ("asked for the first story", "asked for the second"),
                 title="One word moves the margin; the order stays",
                 x_label="margin of the first story, nats",
                 note="SmolLM2-135M, 12 pairs"))
mean, half = rlhf.evaluate.exams.clustered(first - second)
quote("by_change", f"{int((first > second).sum())} of 12")
quote("flips", f"{int((first * second < 0).sum())} of 12")
quote("nats", f"{mean:.1f} ± {half:.1f}")

# %% [markdown]
# The word moves the margin the right way in <!-- out by_change --> pairs, by <!-- out nats --> nats on average (95 % over pairs), but turns the order in <!-- out flips -->: of the two requests, one always gets the wrong story. Twelve pairs of one model are few.
#
# > **Keep this.** Here a raw log-probability was no vote: it ordered the stories in one way, whichever was asked for.
#
# ## Exercises
#
# ### Exercise 6.1 · Kappa that gives half credit
#
# Labels may be 0 (second), 0.5 (tie) or 1 (first). <!-- fact --> Confusing a tie with a preference is half as bad as confusing the two preferences. *Weighted kappa* is $\kappa_w=1-D_o/D_e$, where $D_o$ is the observed mean of $|a-b|$ over the items, and $D_e$ its mean over all combinations of a label of the one with a label of the other.

# %% tags=["exercise"] rlhf={"part": "exercises"} nbgrader={"grade": false, "grade_id": "ex6-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
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
# The *measured accuracy* of a reward model is the share of test labels that it reproduces. The model names the truly better answer in a share `model` of the pairs, a label does so in a share `label`, independently. What is the measured accuracy? First say it for a perfect model and labels that are right in 73 % <!-- fact --> of the pairs; then say whether a model with a measured accuracy of 0.68 <!-- fact --> can be a good one.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex6-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def measured_accuracy(model, label):
    """Two shares -> the measured accuracy."""
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
# The model reproduces the label when both are right, and when both are wrong.
# </details>
#
# <!-- solution 6.2 -->
#
# ### Exercise 6.3 · Find the bug in the audit
#
# A colleague's audit says that labels hardly favour length: `(chosen > rejected).mean()`. Many pairs have equal lengths, such as this one. Repair it: the share of labels that chose the longer answer, among the pairs where one is longer.

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
# A reward fitted to forty labels picks what they favour most; features, penalty and few labels limit it. With 300 votes, one noisy vote on each of 300 prompts taught another reward more than three votes on each of 100, and, less surely, more than 300 pairs on 32 prompts. Asking about the closest pairs was worse than random choice, about the most disputed no better. People who love compliments agree, too, but 1,500 of their votes taught less than 300 by the guideline. An audit against a trusted team, with intervals over people and prompts, shows what else is in the votes.
#
# In the book: chapter 11, Preference data. Chapter 7 here fits reward models to such votes.
#
# <!-- nav -->
