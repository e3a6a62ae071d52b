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
# **What do my labels ask for, and how do I buy them well?**
#
# ![A request with two answers under each other, one drawn blindly and one chosen by a reward that was fitted to forty labels; below them bars with intervals over 112 prompts: how many answers flatter, and their true reward](figures/06_hero.png)
#
# Forty pairs of answers were compared. A reward was fitted to these forty labels alone, and picks the best of sixteen answers. On this page you label forty pairs yourself, see what *your* labels ask for, and learn how to buy more of them.
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Chapter 5 (what preferences are); a little PyTorch. <!-- costs -->. Nothing is downloaded. Model: <code>village-3m-sft</code>, three million parameters, and its stored answers. The <i>true reward</i> is a formula of this toy world, which a real team never sees: 3 points for a perfect answer (a true fact, a refusal of a harmful request, a story that fits), 0 where the task is missed, −1 for help with harm, −1.5 for broken text, −0.25 for flattery. Length and bold print count nothing. In the stored notebook a script labels in your place. Book: <a href="https://rlhfbook.com">rlhfbook.com</a>, chapter 11 there (Preference data). Seed 0.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** You can pay for 1,500 votes. A vote says which of two answers is better; the people are honest but noisy. A reward model is fitted to the votes. Then it sees *fresh* pairs, on prompts that nobody labelled. Which purchase makes it order the most of them right?

# %% rlhf={"part": "setup"}
import torch
import torch.nn.functional as F
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, plots, show, table
run = begin(6)

# %% tags=["hide-input"]
rlhf.book.predict("1,500 votes, spent on …",
        a="1,500 pairs on 1,500 prompts, one noisy vote each",
        b="500 pairs on 500 prompts, the majority of three votes each",
        c="1,500 pairs on only 32 prompts, so that these are known well")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## Label forty pairs
#
# This is the road that every label takes. The policy writes two answers to a prompt; a person chooses one; a reward model learns from the choices.

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "pipeline"}
show(rlhf.book.drawings.pipeline([
    ("prompts", "what users ask"), ("policy", "writes two answers"),
    ("people", "choose one"), ("labels", "chosen, rejected"),
    ("reward model", "learns to score")]))

# %% [markdown]
# Now you are the person. **Guideline**: choose the answer that serves the asker better. True comes first, then clear; help with harm is bad. If you cannot decide, call it a tie. Every label is saved before the next pair appears, and the cell goes on where you stopped.
#
# Both answers come from the model that we want to improve: the data are *on-policy*. They differ visibly: by at least five words, in flattery, or in bold print. Which one stands first is drawn at random.

# %%
from rlhf_minimal.book import labelling
from rlhf_minimal.evaluate import audit, budgets

model, tokenizer = rlhf.models.load("village-3m-sft")
some = budgets.answers()
pairs = budgets.to_label(some, 40, tokenizer, run.fresh("pairs"))
mine = labelling.label(pairs, "my_labels.jsonl", seed=run.seed)

# %% [markdown]
# If nobody labels, a script does. It plays a person who ignores the guideline: she half cares about quality and loves compliments. Her *utility* of an answer is half its true reward, plus 0.3 points per ten words, plus 3 points for flattery. <!-- fact --> She prefers the first of two answers with probability $\sigma((u_1-u_2)/0.5)$, where $u_1$, $u_2$ are the utilities and $\sigma$ is the logistic function. Close pairs she calls a tie.

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
# ## What do these labels ask for?
#
# Suppose the reward is a weighted sum of four things that can be counted, $r=w\cdot f$: words, flattery, bold print, broken text. By the Bradley–Terry model (chapter 5) the chosen answer wins with probability $\sigma(r_c-r_r)$, where $r_c$, $r_r$ are the rewards of the chosen and the rejected answer. We make what happened likely. A small penalty on $w$ keeps so few labels from carrying huge weights. Ties are left out here.

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

# %% [markdown]
# How sure are these weights? We draw the labels anew from themselves, with repetition, 100 times (the *bootstrap*), and fit each time.

# %%
again = []
for _ in range(100):
    rows = torch.randint(len(chosen), (len(chosen),), generator=run.generator)
    again.append(fit(chosen[rows], rejected[rows]))
low, high = torch.stack(again).quantile(torch.tensor([0.025, 0.975]), dim=0)
ends = zip(wish.tolist(), low.tolist(), high.tolist(), strict=True)
scripted = "script" in whose
taste = {"ten more words": 0.6, "flattery": 5.75, "bold print": 0.0} if scripted else {}
show(plots.planted(dict(zip(audit.SEEN, ends, strict=True)), taste,
                   title="What the forty labels ask for", x_label="weight, in log-odds",
                   note="95 % over labels; diamonds: the script's own taste"))

# %% [markdown]
# The diamonds are what the script really likes: 3 points of flattery, less half of the 0.25 that flattery costs, over the noise of 0.5, make 5.75. <!-- fact --> The fitted weight is far smaller: the penalty shrinks it, and so does what the four features leave out. The intervals show sampling noise only. Flattery is clearly found, its size is not.
#
# ## Your labels choose what the reward picks
#
# The policy has answered 112 other prompts 64 times each. Of sixteen answers we keep the one that the reward likes best (*best-of-n*, chapter 10). Two controls: a blind draw, and the same fit on *coin flips* in place of the labels.

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
told = {name: budgets.both_pick(arm) for name, arm in arms.items()}
for name, arm in list(arms.items())[1:]:
    told[name]["minus blind draw"] = budgets.ahead(arm, arms["a blind draw"])
table(told, digits={"flatters": "%"},
      note="112 prompts; ± 95 % over prompts, coin flips also over sets")

# %% tags=["hide-input", "hero"] rlhf={"drawing": true}
asked, text, best = budgets.example(some, seen @ wish, tokenizer)
both = {"blind draw": told["a blind draw"],
        "best of 16": told["best of 16 by these labels"]}
show(rlhf.book.drawings.answers_over_bars(
    asked, {"blind draw": text, "best of 16 by the forty labels": best},
    {"answers that flatter, %": {k: tuple(100 * x for x in v["flatters"])
                                 for k, v in both.items()},
     "true reward, points": {k: v["true reward"] for k, v in both.items()}},
    title="Forty labels, and what a reward fitted to them picks"))

# %% tags=["hide-input"]
ours, flips = arms["best of 16 by these labels"], arms["… by coin flips (50 sets)"]
mean, half = budgets.ahead(ours, flips, "flatters")
claim("by the script's labels more picks flatter than by coin flips",
      not scripted or mean - half > 0, kind="S")

# %% [markdown]
# The labels chose the direction: most picks flatter, far more than with coin flips. Is that good? The last column says it, prompt by prompt, in points of true reward: the picks are worse than blind draws. But that is not the labels' doing alone: picking by coin flips costs no less. Any weight is extreme, and best of sixteen takes what it likes wherever it is on offer. The script's person does value true answers. But none of the four features says whether an answer is true, so this reward cannot ask for it. (The picture shows the first short, readable prompt on which the pick flatters and the blind draw does not.)
#
# > **Keep this:** a reward learns what the labels favour *and* its features can say. The rest is lost.
#
# ## Idea 1: People who share a guideline agree more
#
# Before you buy more labels, ask whether two people agree. Raw agreement misleads: two people who both mostly press “1” agree often by chance. *Cohen's kappa* subtracts chance:
#
# $$\kappa=\frac{p_o-p_e}{1-p_e}.$$
#
# Here $p_o$ is the observed share of equal labels, and $p_e$ the share expected if the two labelled independently, each with her own frequencies. 1 is perfect agreement, 0 is chance.

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
# What do real people reach? In the InstructGPT paper (Ouyang et al. 2022, section 3.4) the labellers agreed with each other in 72.6 ± 1.5 % of cases, although they were screened and trained. <!-- fact --> In the summarization work before it, two researchers agreed in 73 ± 4 %. <!-- fact --> In Anthropic's HH data (Bai et al. 2022), researchers and crowdworkers agreed in about 63 %. <!-- fact --> With two equally frequent answers, chance alone gives 50 %.
#
# One reason is noise. Another is the *guideline*. Two teams of two label the same 300 pairs. All four are equally noisy and equally fond of the true reward. One team was told to prefer short answers, the other long ones.

# %%
def member(name, bias):
    return rlhf.village.Annotator(name=name, length_bias=bias, temperature=0.5)


team = {"brief 1": member("brief", -2.0), "brief 2": member("brief", -2.0),
        "long 1": member("long", 2.0), "long 2": member("long", 2.0)}
rows = budgets.to_label(some, 300, tokenizer, run.fresh("team"), differ=False)
votes = {name: [who.compare(r["prompt"], r["response_a"], r["response_b"], dice)
                for r in rows] for name, who in team.items()}

# %%
two = {"both brief": ("brief 1", "brief 2"), "both long": ("long 1", "long 2"),
       "one of each": ("brief 1", "long 1")}
found = {name: audit.kappa(votes[x], votes[y], run.fresh(name))
         for name, (x, y) in two.items()}
show(plots.shares(found, title="Inside a team people agree more than across teams",
                  x_label="Cohen's kappa", middle=0, note="300 pairs; 95 % over pairs"))

# %% tags=["hide-input"]
inside = min(found["both brief"][0], found["both long"][0])
claim("within a guideline agreement is higher than across guidelines",
      inside > found["one of each"][0], kind="S")

# %% [markdown]
# A low kappa across teams is no carelessness: each team does what it was told.
#
# > **Keep this:** agreement measures shared instructions, too, not only care. Write the guideline first, and measure kappa within it.
#
# ## Idea 2: Which 1,500 votes teach most?
#
# Now the prediction. A second and a third vote make a label cleaner. If a vote is right with probability $q$, the majority of three is right when all three are, or exactly two: $q^3+3q^2(1-q)=3q^2-2q^3$.

# %% rlhf={"part": "idea"}
q, right = 0.7, 0.0
for outcome in range(8):  # three votes, each right (1) or wrong (0)
    ones = bin(outcome).count("1")
    right += (ones >= 2) * q**ones * (1 - q) ** (3 - ones)
honest = rlhf.village.Annotator(temperature=0.5)
one, three = budgets.accuracy(some, honest, some.pairs)
print(f"q = {q}: one vote {q:.2f}, majority {right:.2f}")
print(f"our pairs: one vote {one:.2f}, majority {three:.2f}")
claim("the eight outcomes add up to the formula",
      abs(right - (3 * q**2 - 2 * q**3)) < 1e-12)

# %% [markdown]
# On our pairs one vote is already right in most cases (among pairs that are not equally good), and the majority gains little: on a close pair all three doubt. But three votes leave a third of the pairs. What is worth more?
#
# The reward model is linear in the policy's last hidden state (192 numbers), with one penalty for all. It is tested on fresh pairs from 109 prompts that nobody labelled; one answer is at least half a point better. Besides (a), (b), (c) there are five comparisons:
#
# - **(b), all votes kept**: the three votes enter the fit as three labels, not as one majority;
# - **three pairs a prompt**: as many pairs as (a), on a third of the prompts;
# - **(c), the base model's answers**: the same 32 prompts, another model writes;
# - **labels by true reward**: no noise at all (only pairs that are not equally good);
# - **coin flips**: no information at all.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
spent = budgets.compare(some, honest, 1500, run.seeds(12))
first, rows = spent["(a)"], {}
for name, plan in budgets.planned(1500).items():
    behind = None if name == "(a)" else budgets.over_both(spent[name] - first)
    rows[name] = {"ordered right": budgets.over_both(spent[name]),
                  "minus (a)": behind, **plan}
table(rows, digits=3, note="± 95 % over 109 prompts and 12 sets of labels")

# %% tags=["hide-input"]
for other in ("(b)", "(c)"):
    mean, half = budgets.over_both(first - spent[other])
    claim(f"(a) is ahead of {other}", mean - half > 0, kind="S")
checked = budgets.compare(some, honest, 1500, run.seeds(3), l2=0.3)
means = {k: x.mean().item() for k, x in checked.items()}
claim("with a penalty ten times as large (a) is still ahead of both", kind="S",
      condition=means["(a)"] > max(means["(b)"], means["(c)"]))
rlhf.book.settled("a", "One noisy vote on each of many prompts taught most.")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
counts = torch.tensor([300, 600, 900, 1200, 1500])
curves = budgets.grown(some, honest, counts.tolist(), run.seeds(6))
lines = {name: (counts / 1000, y) for name, y in curves.items()}
show(plots.line_plot(lines, title="One vote per pair teaches more", zero=False,
                     x_label="votes paid and kept, in thousands",
                     y_label="share ordered right", note="a seed: a set of labels"),
     alt="Two curves over the number of votes: share of fresh pairs ordered right "
     "with one vote for each pair and with three")
rlhf.book.quote("same", budgets.signed(spent["three pairs a prompt"],
                                       spent["(b), all votes kept"]))
rlhf.book.quote("foreign", budgets.signed(spent["(c)"], spent[list(spent)[5]]))
rlhf.book.quote("head", budgets.guide(some, honest, 1500, run.seed))

# %% [markdown]
# Why does (b) lose? Two reasons. The majority throws votes away: kept as three labels they do no worse here, but stay behind (a). And it reaches fewer *prompts*: as many pairs as (a), but on 500 prompts, are behind (a) as well. On the same 500 prompts, are three pairs worth more than three votes on one pair? The difference is <!-- out same -->: this run cannot tell. Nor can it tell whose answers teach more: on the same 32 prompts, the policy's own minus the base model's is <!-- out foreign -->.
#
# Could cleaner labels help at all? The row *labels by true reward* has no noise, and is hardly ahead of (a). So noise is not what holds this reward back. It is weak in every row.
#
# Even trained on 1,500 votes it is no good guide: the best of sixteen by it, minus a blind draw, changes the true reward by <!-- out head --> points (one set of labels). Ordering most pairs right is not enough when a maximum is taken (chapter 17).
#
# > **Keep this:** here, where prompts are free and a vote is right in most cases, new prompts taught more than second votes. For a *test set* more votes help: wrong labels cap the score that a model can reach, and only a known noise rate lets you correct for it (exercise 6.2).
#
# <details><summary>What practice does</summary>
# InstructGPT showed 4 to 9 answers at once, and people ranked them; all pairs of one ranking go into one batch element, since they depend on each other. Other forms: a graded scale (much better, better, slightly better), with or without a tie; single ratings; thumbs; edits, where the edited text beats the original. Each has another price per minute. People are screened on pairs with a known answer, get written guidelines, and deliver in batches, so that the guideline can be repaired. Choosing the pairs that the reward model doubts most is called active learning. For your own pairs: <code>python -m rlhf_minimal label --data pairs.jsonl --out mine.jsonl</code>; services such as Amazon SageMaker Ground Truth do the same with many people.
# </details>
#
# ## Idea 3: Labels of one person belong together
#
# Do the labels favour longer answers? Count how often the longer one was chosen. The share is easy, its interval is not: labels of one person share her taste, and labels of one prompt share its answers. Treated as independent, they look more certain than they are. So add up two variances of the mean, one with people as the units, one with prompts, and subtract what both count (Cameron, Gelbach & Miller 2011): $V=V_{\rm people}+V_{\rm prompts}-V_{\rm labels}$. In a small sample $V$ can come out negative; the package then takes the larger of the first two.

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
# A simulation shows what is at stake. Twelve people, each with a length bias of her own, label the same forty pairs. The truth is the share over all people and all pairs there are. A 95 % interval should hold it in 95 of 100 repetitions.

# %%
gap, quality = budgets.lengths(some, run.fresh("lengths"))
held = audit.coverage(gap, quality, generator=run.fresh("coverage"))
show(plots.shares({k: (v, 1.96 * (v * (1 - v) / 300) ** 0.5) for k, v in held.items()},
                  title="Intervals that treat labels as independent miss too often",
                  x_label="share of 95 % intervals that hold the truth", middle=0.95,
                  note="300 repetitions, 95 % over them"))
table({"held the truth": held}, digits=2)
claim("over single labels they hold it in fewer than 75 of 100 repetitions, over "
      "people and prompts in more than 85", kind="S",
      condition=held["single labels"] < 0.75 and held["people and prompts"] > 0.85)

# %% [markdown]
# Here most of the dependence sits in the prompts; in other data it may sit in the people. Clustering over both is meant for either case; with few people it is still too short (a quantile of the t distribution helps).
#
# **A riddle.** Five groups of eight people labelled the same 600 pairs; in each group every pair was labelled once, by one of the eight. One group is plain. Each of the other four has a hidden bias: for length, flattery, bold print, or the answer shown first. Who has which? The first row is the share of *plain* labels that chose the answer with more of the feature. The other rows say by how much each group differs from it, pair by pair.

# %%
sets, secret = audit.groups(run.seed)
report = {"plain": audit.leanings(sets["plain"])}
for name in "ABCD":
    report[name] = audit.against(sets[name], sets["plain"])
table(report, note="A to D: minus plain. ± 95 % over people and prompts")

# %% tags=["hide-input"]
changed = [report[k][v] for k, v in secret.items()]
claim("each hidden bias raises its own column", kind="S",
      condition=all(mean - half > 0 for mean, half in changed))
rlhf.book.quote("who", ", ".join(f"{k} likes {v}" for k, v in secret.items()))

# %% [markdown]
# <details><summary>Who is who</summary>
# Here <!-- out who -->. A bias may raise a second column: flattery adds words, so whoever likes length also chooses flattery more often. To separate the two, fit all features at once, as with your forty labels.
# </details>
#
# Compare each group with *plain*, not with one half: plain people reject broken text, and quality and length need not be unrelated. Only the order shown must be even, because it was drawn at random.
#
# The same audit reads public sets, if you give `load_data` the hub id `Anthropic/hh-rlhf` or `stanfordnlp/SHP`. Two tiny files in their columns, written by us, ship with the package; they are too small for any rate. One pair of each:

# %%
for name in ("hh_style", "shp_style"):
    rows = audit.sample(name)  # load_data("…/hh_style.jsonl", "pairs")
    r = rows[0]
    cards(str(r["prompt"]), [("chosen", r["chosen"]), ("rejected", r["rejected"])])

# %% [markdown]
# (The rows above are ours: one turn, no Reddit.) HH stores two whole transcripts. SHP stores two Reddit comments, and keeps a pair only if the preferred comment was written *later* and still has more votes: an early comment wins votes by being early. This repairs one bias and leaves a trace: “chosen” also means “later”.
#
# > **Keep this:** audit labels against a trusted group on the same pairs, with intervals over people and prompts.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | the number that tells |
# |---|---|---|
# | the better answer always stands first | perfect agreement | kappa after the order is drawn anew |
# | both answers equal after truncation | loss stays at log 2 on these pairs | share of identical pairs |
# | only the majority is stored | no disagreement at all | votes for each pair |
# | ties dropped and not reported | people look decisive | share of ties |
# | test prompts among the labelled ones | high accuracy | prompts in both sets |
#
# The first one live. A tired person presses “1” on all 600 pairs of the plain group, who are taken to be right:

# %%
drawn = [float(row["chosen_first"]) for row in sets["plain"]]
both = {"right answer always first": [1.0] * 600, "order drawn": drawn}
for name, truth in both.items():
    p_o = sum(truth) / 600  # share of labels that equal her "1"
    p_e = p_o               # she says nothing else: by chance it is the same
    kappa = "0/0" if p_e == 1 else f"{(p_o - p_e) / (1 - p_e):.2f}"
    print(f"{name}: agreement {p_o:.2f}, kappa {kappa}")

# %% [markdown]
# With a fixed order, somebody who reads nothing agrees perfectly, and kappa is undefined: chance explains it all. With a drawn order agreement falls to one half, and kappa is 0.

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size: one word should decide the label
#
# Some pairs have an order only because of one word in the prompt. Both stories below are good; asked for a *gloomy* story the first is right, asked for a *calm* one the second. Could a language model label such pairs? A recorded measurement on SmolLM2-135M, taught the village's manner: for twelve pairs, the log-probability of the first story minus that of the second. Above 0 the model prefers the first story.

# %%
large = rlhf.book.recorded("06_smollm2")
one = large.pairs[0]
cards(f"{one['prompts'][0]} ({one['moods'][1]}: the second)",
      [("first story", one["stories"][0]), ("second story", one["stories"][1])])

# %%
first, second = (torch.tensor(large.curve[k]) for k in ("first mood", "second mood"))
show(plots.moved(list(zip(first.tolist(), second.tolist(), strict=True)),
                 ("asked for the first story", "asked for the second"),
                 title="The word moves the margin a little; the stories decide it",
                 x_label="margin of the first story, nats",
                 note="SmolLM2-135M, 12 pairs"))
rlhf.book.quote("by_change", f"{int((first > second).sum())} of 12")
rlhf.book.quote("flips", f"{int((first * second < 0).sum())} of 12")
rlhf.book.quote("nats", f"{(first - second).mean():.1f}")

# %% [markdown]
# The word is heard: it moves the margin the right way in <!-- out by_change --> pairs, by <!-- out nats --> nats on average. But it turns the order in <!-- out flips --> pairs. Where the order does not turn, one of the two requests gets the wrong story, whatever the model prefers. What carries over: compare the *same* answers across prompts before you trust a score. What does not: the raw order of the two log-probabilities. The *change* from one prompt to the other labels nearly all of these pairs right.

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
# A reward model that is right on a share `model` of pairs is tested against labels that are right on a share `label`, independently. How often does it agree with the labels? First say what a perfect model scores against labels that are right in 73 % <!-- fact --> of cases, and whether 0.68 <!-- fact --> against them can be a good model.

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
# Forty labels already say what somebody favours, and a reward fitted to them picks it, as far as its features can express it. Two people agree more when they share a guideline, and kappa says how far beyond chance. For the same number of votes, one noisy vote on each of many prompts taught this reward more than three votes on a third of them, and more than as many pairs on 32 prompts. Labels of one person and of one prompt belong together, so honest intervals are clustered over both. With them, hidden tastes for length, flattery, bold print and the first place show in a table.
#
# In the book: chapter 11, Preference data. Next: chapter 7, Reward modeling.
#
# <!-- nav -->
