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
# # 13 · AI feedback
#
# **When is a cheap, consistent, biased judge better than an expensive, noisy, fair one?**
#
# ![True reward of the chosen answers against the money spent on labels, on a logarithmic axis: three judges at one cent a label and people at one dollar a label](figures/13_hero.png)
#
# A reward is learned from comparisons and picks the best of 16 answers. The comparisons come from people, who are noisy and cost one dollar each, or from an AI judge, who is consistent and costs one cent. Two of the three judges like long answers. People are fair here by construction; real annotators like length too. (Thin lines only lead to the names: a judge gave at most 10,000 labels, for 100 dollars.) Below <!-- out blind -->, dotted, a reward is worse than a blind draw: 100 dollars of people's labels are still too few. This page explains the crossings, and how a little human money repairs a judge.
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Chapters 6 and 7 (comparisons, reward models). <!-- costs -->. Nothing is downloaded. Model: <code>village-3m-sft</code>, three million parameters, GPT-2 architecture, with its stored answers: comparisons of answers to 2,000 prompts, and 64 answers to each of 112 other prompts, among which the reward picks. The <i>true reward</i> is a formula of this toy world: 3 for a perfect answer, less for faults; length does not count. People and judges are simulated: they see it through their noise and bias, and the fitted rewards see only their choices. ± is half of a 95 % interval; each table says over what. Ideas 1 to 3 are computed on this page with five sets of labels; idea 4 has five recorded runs. The prices are assumptions of the right order: the book names one dollar or more for a human comparison and less than one cent for one by an AI. <!-- fact -->
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import torch.nn.functional as F
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, plots, quote, show, table
from rlhf_minimal.evaluate import budgets, judges
run = begin(13)

# %% tags=["hide-input"] rlhf={"part": "predict"}
asked = ("A judge that likes long answers has labelled 5,000 pairs. There is money for "
         "250 comparisons by people, fair but noisy. Where do they help most?")
rlhf.book.predict(
    asked, a="on the pairs where the judge is least sure",
    b="on random pairs, where they replace the judge's labels",
    c="on random pairs, only to estimate how much the judge overpays length")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## Two labellers
#
# Our *person* values an answer by its true reward, but with much noise. The *judge* has little noise and adds a bonus: 4 points for ten words more. Here is a pair that the judge got wrong, and how often each names the better answer: <!-- fact -->

# %% rlhf={"show": true}
some = budgets.answers()                           # stored answers, and pairs of them
model, tokenizer = rlhf.models.load("village-3m-sft")
person = rlhf.village.Annotator(name="person", temperature=4.0)
judge = rlhf.village.Annotator(name="judge", temperature=0.25, length_bias=4.0)
two = judges.shuffled(some, 5000, run.seed)
labels = {who.name: some.votes(some.wide, two, who, run.fresh(who.name))
          for who in (person, judge)}              # (5000, 2): chosen, rejected
cards(*judges.example(some, labels["judge"], tokenizer))
right = {who.name: budgets.accuracy(some, who, some.pairs)[0]
         for who in (person, judge)}
print({name: f"{share:.0%} right" for name, share in right.items()})

# %% [markdown] rlhf={"part": "loop"}
# ## From labels to a choice
#
# The reward is a weighted *checklist*: is the fact true, is the story on its topic, does it flatter, how many words? Such a list is also called a *rubric*; here its weights are learned. The true reward is one setting of these weights, so what goes wrong does not come from the model's form. The loss is chapter 7's.

# %%
x = judges.checklist(some.wide)                    # (answers, criteria)


def train(labels, steps=300):
    gap = x[labels[:, 0]] - x[labels[:, 1]]        # chosen minus rejected
    scale = gap.square().mean(0).sqrt().clamp(min=1e-6)
    weight = torch.zeros(len(scale), dtype=gap.dtype, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.05)
    for _ in range(steps):
        loss = -F.logsigmoid(gap / scale @ weight).mean()
        loss += 0.005 * weight.square().sum()      # a small penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight.detach() / scale


# %%
candidates = judges.checklist(some.asked)          # answers to other prompts
scores = {f"from the {name}'s labels": candidates @ train(labels[name])
          for name in ("judge", "person")}
cards(*judges.picks(some, scores, tokenizer))


def fit(labels):
    """The same minimum by Newton's method, in milliseconds."""
    return rlhf.reward_model.fit_head(x[labels[:, 0]], x[labels[:, 1]], l2=0.01)


# %% tags=["hide-input"]
claim("the package's fit earns the same, within 0.02", all(
    abs(judges.earned(some, score).mean() - judges.earned(some, candidates @ fit(
        labels[name])).mean()) < 0.02
    for name, score in zip(("judge", "person"), scores.values(), strict=True)))

# %% [markdown]
# These are two picks from the same 16 answers, after 5,000 labels of each kind. What does each number of labels earn, and what does it cost? The true reward of a pick is averaged over the 112 prompts and over all ways to draw 16 of the 64 answers. An answer drawn blindly is worth <!-- out blind -->; the truly best of 16 is worth <!-- out oracle -->.

# %%
sizes = [10, 30, 100, 300, 1000, 3000, 10000]
who = {"policy: people": person, "proxy: judge, bias 4": judge}
for name, bias in (("other: judge, bias 2", 2.0),
                   ("chosen: judge, no bias", 0.0)):
    who[name] = rlhf.village.Annotator(temperature=0.25, length_bias=bias)
sets = run.seeds(5)
earned = {name: judges.by_number(some, w, sizes, sets).mean(-1)
          for name, w in who.items()}             # (5 label sets, 7 sizes)
spent = torch.tensor(sizes).log10() + 1            # 0 is 10 cents

# %% tags=["hide-input", "hero"]
MONEY = ["10 ¢", "$1", "$10", "$100", "$1,000", "$10,000"]
lines = {name: ((spent + (0 if "people" in name else -2)).tolist(), y.tolist())
         for name, y in earned.items()}
lines["reference: blind draw"] = ([0.0, 5.0], [some.gold.mean().item()] * 2)
show(plots.panels({"true reward of the best of 16": lines}, zero=False,
                  x_label="money spent on labels", ticks=MONEY,
                  title="Judges start early; people go on"))

# %% tags=["hide-input"]
people, four = (earned[k] for k in ("policy: people", "proxy: judge, bias 4"))
claim("on average the judge of bias 4 leads at 10 dollars, people at 1,000; at 3,000 "
      "people lead in every label set", (four[:, 4] - people[:, 0]).mean() > 0.2
      and people[:, 4].mean() > four.max()
      and bool((people[:, 5] > four[:, -1]).all()), kind="T")
claim("without bias, 10 dollars for the judge match 10,000 for people at least",
      earned["chosen: judge, no bias"][:, 4].mean() > people[:, -1].mean(), kind="T")
for k, y in ("blind", some.gold), ("oracle", budgets.best_of(some.gold, some.gold)):
    quote(k, f"{y.mean():.2f}")
for name, share in right.items():
    quote(f"right.{name}", f"{100 * share:.0f} %")

# %% [markdown] rlhf={"part": "idea"}
# The judge of bias 4 names the better answer more often than people do (<!-- out right.judge --> against <!-- out right.person -->), yet people's reward is about equal at 300 dollars and ahead from 1,000 on average (in every label set at 3,000). Without bias, 10 dollars for the judge earn at least as much as 10,000 dollars for people. So neither the price nor the share of agreement settles the question.
#
# ## Idea 1: noise averages out, bias does not
#
# Suppose that $n$ independent labels are averaged to estimate one number. *Noise* $s$ is the standard deviation of a single label; *bias* $b$ is the error that all labels share. The expected squared error is
#
# $$\mathrm{error}^2=b^2+\frac{s^2}{n}$$
#
# More labels shrink the second term only. On paper: people with $b=0$, $s=4$ and a judge with $b=0.5$, $s=1$. At 64 labels the people's error² is 0.25, which the judge approaches but never reaches: <!-- fact -->

# %%
n = torch.tensor([16.0, 64.0, 256.0])
bias, noise = torch.tensor([[0.0], [0.5]]), torch.tensor([[4.0], [1.0]])
error2 = bias ** 2 + noise ** 2 / n                # rows: people, judge
print(error2)
theirs = rlhf.ai_feedback.label_error(bias, noise, n)
claim("the package computes the same", (error2 - theirs).abs().max() < 1e-6)

# %% [markdown]
# Does this carry over from one number to a reward? We ask the labels of this page one question: how many points are ten words more worth to whoever gave them? (A reward of two features, true reward and words, is fitted to them; the price is the ratio of its weights.) The true answer is 0. <!-- fact -->

# %% rlhf={"figure": "words"}
more = sizes[2:]
paid = {name: judges.paid_for_words(some, w, more, sets) for name, w in who.items()
        if name != "chosen: judge, no bias"}
lines = {name: y.tolist() for name, y in paid.items()}
lines["gold: the truth"] = [0.0] * len(more)
show(plots.panels({"points for ten words, estimated": lines}, ticks=more,
                  x_label="number of labels",
                  title="More labels reduce noise, not bias"))

# %% tags=["hide-input"]
free, taken = paid["policy: people"], paid["proxy: judge, bias 4"]
claim("with 10,000 labels people's estimates lie closer together than with 100, and "
      "near 0; the judge's lie near its bias of 4",
      bool(free[:, -1].std() < free[:, 0].std() / 2 and abs(free[:, -1].mean()) < 0.5
           and abs(taken[:, -1].mean() - 4) < 0.2), kind="T")

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** More labels from the same labeller buy less noise, not less bias.
#
# ## Idea 2: spend human labels on the bias
#
# Nobody has to choose. The judge labels 5,000 pairs for 50 dollars, and people compare 250 (5 %) for 250 dollars. One proposal is *routing*: people get the pairs on which the judge is least sure (smallest *margin*; exact ties teach nothing and are left out). Another use: people's labels correct the judge's reward $r_J$ in a suspected direction, here the number of words $w$:
#
# $$r(y)=a\,r_J(y)+c\,w(y)$$
#
# The numbers $a$ and $c$ are fitted to people's labels with the loss that we know. On paper: with $a=1$ and $c=-0.4$ a word, an answer of 10 words with score 6 is worth 2; one of 2 words with score 5 is worth 4.2. <!-- fact -->

# %%
def corrected(reward, people):
    """A reward (K,), labels (N, 2) of people -> the reward, words at another price."""
    score = x @ reward
    scale = score.std()
    features = torch.stack([score / scale, x[:, WORDS]], 1)
    chosen, rejected = (features[side] for side in people.T)
    a, c = rlhf.reward_model.fit_head(chosen, rejected, l2=1e-3)
    reward = a / scale * reward
    reward[WORDS] += c
    return reward


WORDS = judges.criteria().index("words")
print("on paper:", torch.tensor([6.0, 5.0]) - 0.4 * torch.tensor([10.0, 2.0]))

# %%
def spend(seed, few=250):
    two = judges.shuffled(some, 5000, seed)
    dice = torch.Generator().manual_seed(seed + 1)
    people = some.votes(some.wide, two, person, dice)
    cheap = some.votes(some.wide, two, judge, dice)
    margin = some.worth(some.wide, judge)[two].diff(dim=1).abs().flatten()
    unsure = margin.where(margin > 1e-3, torch.inf).argsort()[:few]  # no ties
    routed, mixed = cheap.clone(), cheap.clone()
    routed[unsure], mixed[:few] = people[unsure], people[:few]
    return {"people": fit(people[:300]), "judge": fit(cheap), "routed": fit(routed),
            "mixed": fit(mixed), "unsure": corrected(fit(cheap), people[unsure]),
            "measured": corrected(fit(cheap), people[:few])}


# %%
spent = judges.over_sets(some, spend, sets)        # {name: (5 label sets, 112 prompts)}
spent |= judges.over_sets(some, judges.rivals(some, judge), sets)
rows = {"judge alone": ("judge", "50"), "people alone": ("people", "300"),
        "unsure pairs to people": ("routed", "300"),
        "random pairs to people": ("mixed", "300"),
        "measure, on random pairs": ("measured", "300"),
        "measure, on unsure pairs": ("unsure", "300"),
        "length set to 0 by hand": ("by hand", "50")}
table({label: {"true reward": budgets.over_both(spent[name]), "dollars": cost}
       for label, (name, cost) in rows.items()}, corner="how the money is spent",
      note="best of 16; ± 95 % over five label sets and 112 prompts; bias 4")

# %% tags=["hide-input"]
means = {k: s.mean(1) for k, s in spent.items()}
claim("measuring the bias earns over 0.2 more than routing and mixing in "
      "every label set, and more than people alone on average",
      all(bool((means["measured"] > means[k] + 0.2).all())
          for k in ("routed", "mixed", "judge"))
      and means["measured"].mean() > means["people"].mean() + 0.1, kind="T")
rlhf.book.settled("c", "250 labels replace too few of 5,000; they measure a bias.")
for k in ("routed", "by hand"):
    pair = budgets.over_both(spent["measured"] - spent[k])
    quote("gain." + k[:2], "{:+.2f} ± {:.2f}".format(*pair).replace("-", "−"))

# %% [markdown]
# Measuring the bias earns <!-- out gain.ro --> against routing (± 95 %, differences prompt by prompt). Both parts matter. Used as replacements, labels change little wherever they stand; used as a measurement on the unsure pairs, they earn anything between a failure and the full gain. The correction has the shape of the planted bias: the best case. (People alone earn less here than at 300 dollars above: other pairs, other draws.)
#
# There is a cheaper repair. Setting the price of length to 0 costs no human label, and measuring differs from it by only <!-- out gain.by -->. But this uses a fact of this world: length is worth nothing. Where length carries content, 0 is wrong as well (chapter 18). Both repairs need a suspect; a bias that nobody suspects stays.
#
# Why does routing do so little? A judge with noise errs where it is unsure. Is that so with bias? (Pairs as unsure as the last count, too. People, with their noise, are less often right where answers are close.)

# %%
share = {name: 100 * judges.found_by_routing(some, who[name], least=0.05)
         for name in ("proxy: judge, bias 4", "chosen: judge, no bias")}
show(plots.bars(share, title="Routing finds noise, not bias",
                y_label="% of the wrong labels that\nare among the 5 % least sure"),
     "Two bars: the share of a judge's wrong labels among its least sure pairs is "
     "small with bias and large without.")
claim("over half of the wrong labels without bias, under a quarter with it",
      share["chosen: judge, no bias"] > 50 and share["proxy: judge, bias 4"] < 25,
      kind="T")

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** Let the judge give the many labels, and let people measure the judge.
#
# ## Idea 3: ask in both orders
#
# A language model judges by the log-probabilities $\ell_A$ and $\ell_B$ of answering "A" or "B". Its preference for what stands first is
#
# $$p=\frac{e^{\ell_A}}{e^{\ell_A}+e^{\ell_B}}=\sigma(\ell_A-\ell_B)$$
#
# Many judges favour a place. Write $p_1$ for $p$ with our answer first, $p_2$ for $p$ with our answer second. *Swap and average*: $\tfrac12\,(p_1+1-p_2)$. Three answers, judged by one that cares only for the place, one that cares only for the answer, and one between:

# %%
logp_a = torch.tensor([[-0.1, -0.3, -0.2], [-0.1, -1.4, -0.6]])  # ours first, second
logp_b = torch.tensor([[-2.4, -1.4, -1.7], [-2.4, -0.3, -0.8]])
there, back = torch.sigmoid(logp_a - logp_b)
both = (there + 1 - back) / 2
print(f"first {there}\nsecond {back}\nboth orders {both}")
theirs = [rlhf.ai_feedback.prefer_first(logp_a[k], logp_b[k]) for k in (0, 1)]
claim("the package computes the same",
      torch.equal(both, rlhf.ai_feedback.both_orders(*theirs)))

# %% [markdown]
# What does a place do to an evaluation? We compare the village model with *itself*: two of its answers to each of about 2,000 prompts, each of them "ours" once. A fair win rate is exactly 50 %. For this judge the first place is worth one point. <!-- fact -->

# %% rlhf={"figure": "place"}
pairs = budgets.one_each(some.wide.prompt, some.pairs, run.fresh("pairs"))
worth = some.worth(some.wide, rlhf.village.Annotator())[pairs].double()
gap = (worth[:, 0] - worth[:, 1]) / 0.25
gap = torch.stack([gap, -gap])                     # each answer is "ours" once
first, second = torch.sigmoid(gap + 4), torch.sigmoid(-gap + 4)
coin = torch.rand(gap.shape, generator=run.fresh("place")) < 0.5
rate = {"ours always first": first, "ours always second": 1 - second,
        "place by a coin": torch.where(coin, first, 1 - second),
        "both orders, averaged": (first + 1 - second) / 2}
rate = {k: rlhf.evaluate.exams.clustered(100 * y.mean(0)) for k, y in rate.items()}
show(plots.shares(rate, middle=50, x_label="win rate against itself, %",
                  note="± 95 % over prompts", title="Listed first wins; second loses"))

# %% tags=["hide-input"]
fixed, both = (rate[k][0] for k in ("ours always first", "both orders, averaged"))
claim("a fixed place moves the win rate by over 10 points; both orders: 50 % (algebra)",
      fixed > 60 and abs(both - 50) < 1e-6, kind="T")
quote("first", f"{fixed:.0f} %")

# %% [markdown] rlhf={"part": "idea"}
# A model that is as good as itself "wins" <!-- out first --> of the comparisons when it is always listed first. A coin turns this bias into noise. Both orders, for twice the price, give one half here for any judge: that is algebra. They favour no side, but a strong place bias still flattens what the judge knows (third example above). A taste for length survives both: it does not depend on the place.
#
# > **Keep this.** Ask in both orders and average. The result favours no place; other biases stay.
#
# ## Idea 4: revise your own answers
#
# *Constitutional AI* (Bai et al. 2022, [arXiv 2212.08073](https://arxiv.org/abs/2212.08073)) lets a model improve its own data under a list of written principles, the *constitution*. Its paper introduced the name *reinforcement learning from AI feedback* (RLAIF).

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "constitution"}
show(rlhf.book.drawings.constitution())

# %% [markdown]
# We watch the upper road. The village model can read *Revise this answer. Do no harm.* In the paper a critique reads the answer. Ours is only a *request filter*, which never sees the answer: the probability that the model itself would refuse the request $x$ in one of its three refusals $y_k$,
#
# $$c(x)=\textstyle\sum_k\pi(y_k\mid x)$$
#
# Live, the first two requests of each kind that got the help they asked for:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled", "show": true}
record = rlhf.book.recorded("13_village")
stored = record.texts_of["0"]
asks, before = judges.helped(stored["asked"], stored["drafts"]["no revision"])
prompts = [rlhf.ai_feedback.revision_prompt(rlhf.village.tasks.ungreet(ask), text,
           principle="Do no harm.") for ask, text in zip(asks, before, strict=True)]
after = rlhf.sampling.answer(model, tokenizer, prompts, max_new_tokens=32,
    temperature=0.5, generator=run.fresh("revise")).texts(tokenizer)
doubt = judges.would_refuse(model, tokenizer, asks).tolist()
for ask, old, new, p in zip(asks, before, after, doubt, strict=True):
    cards(f"{ask} (filter: {p:.2f})", [("answer", old, rlhf.village.gold(ask, old)),
                                       ("revised", new, rlhf.village.gold(ask, new))])

# %% [markdown]
# Half of the requests ask for help with harm. The others only sound like it: *look-alikes*. Refusing these is *over-refusal*. We revise up to three times, either all answers or only answers to flagged requests ($c$ over ¼, set by hand):

# %% rlhf={"figure": "rounds"}
looks = {"all answers": "rejected", "flagged answers": "policy"}
parts = {"harmful requests: help with harm": judges.by_round(record, "harmful", "harm"),
         "look-alikes: refused": judges.by_round(record, "lookalike", "refuses")}
show(plots.two_panels(parts, x_label="rounds of revision", roles=looks, share=True,
                      ticks=[0, 1, 2, 3],
                      title="Revising all answers also refuses the harmless"))

# %% [markdown]
# Then the model is finetuned on the texts after three rounds (32 steps), and sits an exam on 128 requests that no run has read. *No revision* is finetuned on its own first answers. The cheapest rival needs no revision: a fixed refusal of every flagged request.

# %%
arms = {"start": "start", "no revision": "no revision", "all revised": "all revised 3",
        "flagged revised": "flagged revised 3", "flagged refused": "flagged refused"}
columns = {"helps with harm, %": ("harmful", "harm", 100),
           "look-alikes refused, %": ("lookalike", "refuses", 100)}
cells = {label: {column: scale * torch.tensor(record.values("arms", arm, *of))
         for column, (*of, scale) in columns.items()} for label, arm in arms.items()}
for label, arm in arms.items():
    cells[label]["true reward"] = record.arm(arm, judges.KINDS).mean(0)
over_runs = rlhf.book.records.over_runs
table({arm: {k: over_runs(y) for k, y in row.items()} for arm, row in cells.items()},
      digits=dict.fromkeys(columns, 0) | {"true reward": 2},
      note="after finetuning; ± 95 % over five recorded seeds")

# %% tags=["hide-input"]
(harm, over, worth), (harm0, over0, worth0) = (
    cells[k].values() for k in ("all revised", "no revision"))
claim("all revised: on average less harm than without, on every seed more over-refusal",
      harm.mean() < harm0.mean() and bool((over > over0 + 10).all()), kind="T")
looks = judges.second_looks(record)
claim("32 harmful demonstrations: over 20 points more harm than before them, on every "
      "seed", min(looks.pop("rise")) > 20, kind="T")
looks["gain"] = "{:+.2f} ± {:.2f}".format(*over_runs(worth - worth0)).replace("-", "−")
for name, text in looks.items():
    quote(f"c.{name}", text)

# %% [markdown] rlhf={"part": "wrong"}
# After revising everything the model helps less with harm and refuses far more look-alikes; the true reward over both kinds changes by <!-- out c.gain --> against no revision. An exam of harmful requests alone would only praise it. The filter makes the difference: it flags <!-- out c.harmful --> of the harmful requests and <!-- out c.lookalike --> of the look-alikes. With such a filter one fixed refusal does better than our small model's revisions. (It explains nothing; a larger model's revision can.) And was it the principle? Of the first answers <!-- out c.first --> help with harm; after one revision under *Do no harm* <!-- out c.safe -->, under the unrelated *Be short* <!-- out c.short -->. So this run does not show that a principle works: a second draft at temperature ½ without any is the missing control.
#
# > **Keep this.** Count over-refusal beside harm. For over-refusal, what you revise matters; rounds two and three added little.
#
# ## What goes wrong
#
# | what was done | what you see | the one number that tells |
# |---|---|---|
# | our answer always listed first | a proud win rate | the model against itself: not 50 % |
# | only harmful requests in the exam | harm falls, all is well | look-alikes refused |
# | a rubric lacks a criterion | its score is high | that criterion, measured apart |
# | safety tested once | attacks of that day fail | help with harm, before and after 32 demonstrations of it: <!-- out c.undone --> |
#
# The last row is from the recorded runs: eight more steps on 32 answers that help with harm raise it far above the start, too. This teaches harm; it does not only undo. So *red teaming*, the search for requests that break a model, is repeated after every training. The third trap, live: we pick the best of 16 stories by the *true* weights, with and without the wanted mood. (A forgotten criterion that conflicts with a rewarded one is traded away, not left to chance.)

# %%
share = judges.left_out(some, "story: mood_met", "story")
show(plots.bars(share, title="Here the forgotten mood is left to chance",
                y_label="stories in the wanted mood"),
     "Three bars: the picks of the whole rubric have the wanted mood; without this "
     "criterion they have it as rarely as a blind draw.")
whole, lacks, chance = share.values()
claim("without the criterion the mood is met hardly more often than by chance",
      lacks < chance + 0.1 and whole > chance + 0.3, share, kind="T")

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# SmolLM2 with 135 million parameters, an instruction model, judges 64 pairs of a refusal and a helping answer, half of the requests harmful, in both orders. One recorded run (each curve is sorted by itself, so one place is two different pairs):

# %%
large = rlhf.book.recorded("13_smollm2")
for pair in large.examples[:2]:
    cards(pair["prompt"], [("better", pair["better"]), ("worse", pair["worse"])])
lines = {"chosen: better answer first": sorted(large.better_first),
         "rejected: worse answer first": sorted(large.worse_first),
         "reference: no preference": [0.5] * 64}
show(plots.panels({"probability of “A”, the first answer": lines},
                  x_label="pair, sorted by this probability",
                  title="A 135M judge always says “A”"))
hits = judges.right_in_both(large)
table({k: {"right, %": rlhf.evaluate.exams.clustered(y)} for k, y in hits.items()},
      digits=0, corner="64 pairs", note="± 95 % over pairs; a coin: 50 %")

# %% tags=["hide-input"]
for name, y in hits.items():
    quote("a." + name.split()[0], f"{y.mean():.0f} %")

# %% [markdown] rlhf={"part": "exercises"}
# This judge says “A” in all 128 readings (place or letter: we did not test which). With the better answer always first it would be reported as <!-- out a.better --> right. Both orders, averaged, give <!-- out a.both -->: on this test, with this prompt, not distinguishable from a coin. The free baseline, which of the two answers the model itself finds more probable, reaches <!-- out a.more -->: no clear improvement. Larger judges do better, and must pass the same test. What carries over is the method, not the numbers.
#
# ## Exercises
#
# ### Exercise 13.1 · A verdict of both orders
#
# Averages of probabilities are soft. Write the hard rule that evaluations use: 1 where our answer is preferred in both orders, 0 where the other one is, ½ where the orders contradict each other.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex13-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def verdict(there, back):
    """(B,), (B,): P(first one), ours first and ours second -> (B,) 1, 0 or ½."""
    ### BEGIN SOLUTION
    return ((there > 0.5).double() + (back < 0.5).double()) / 2
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex13-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("13.1", verdict)
### BEGIN HIDDEN TESTS
check("13.1", verdict, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Each order gives one vote for ours. With ours second, a vote for ours is <code>back</code> below ½.
# </details>
#
# <!-- solution 13.1 -->
#
# ### Exercise 13.2 · The price of the crossing
#
# Set the errors of idea 1 equal, with $n$ = money ÷ price for each kind of label. At how much money do people catch up with the judge? On paper first: bias 0.5, noise 4 and 1, prices one dollar and one cent. <!-- fact -->

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex13-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def catch_up(bias, noise_people, noise_judge, price_people, price_judge):
    """Five numbers -> money, in dollars."""
    ### BEGIN SOLUTION
    people, judge = noise_people ** 2 * price_people, noise_judge ** 2 * price_judge
    return (people - judge) / bias ** 2
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex13-2-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("13.2", catch_up)
### BEGIN HIDDEN TESTS
check("13.2", catch_up, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Money M buys M ÷ price labels. So people have s²·price/M, and the judge has b² more than its own s²·price/M.
# </details>
#
# <!-- solution 13.2 -->
#
# ### Exercise 13.3 · Four judges
#
# Four judges compared our model with a rival on the same prompts (made up). Which of them prefers our answers most? The picture of idea 3, once more: <!-- fact -->
#
# ![Dots: win rate of a model against itself, always first, always second, placed by a coin, and in both orders](figures/13_place.png)
#
# | judge | ours wins when listed first | ours wins when listed second |
# |---|---|---|
# | A | 84 % | 20 % | <!-- fact -->
# | B | 62 % | 58 % | <!-- fact -->
# | C | 74 % | 38 % | <!-- fact -->
# | D | 97 % | 9 % | <!-- fact -->

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex13-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def which_judge():
    """-> "A", "B", "C" or "D"."""
    ### BEGIN SOLUTION
    return "B"  # 60 % over both orders; the others have 52, 56 and 53
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex13-3-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("13.3", which_judge)
### BEGIN HIDDEN TESTS
check("13.3", which_judge, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# Average the two columns: both count wins of ours.
# </details>
#
# <!-- solution 13.3 -->
#
# ## Retell it
#
# 1. Here people are noisy and fair, and two of three judges consistent and biased; more labels from the same labeller remove noise, not bias.
# 2. So a biased judge wins while money is short, and people win later; without bias the cheap judge stayed ahead.
# 3. A few human labels did little as replacements; used on random pairs to measure a suspected bias, they repaired the reward.
# 4. Both orders, averaged, favour no place; they leave every other bias as it is.
# 5. Revising everything lowered harm and bred over-refusal; count both, and revise answers to flagged requests only.
#
# *In the book*: [Synthetic Data & CAI](https://rlhfbook.com/c/12-synthetic-data), sections AI Feedback, Constitutional AI and Rubrics. *Next*: chapter 14, reasoning.
#
# <!-- nav -->
