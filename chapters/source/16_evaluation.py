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
# # 16 · Evaluation
#
# **Is the difference real, and does it measure what its name says?**
#
# ![A hundred evaluations of one model as lines under each other, twice, with the normal interval and with Wilson's; on the left a fifth of the lines miss the dashed true accuracy](figures/16_hero.png)
#
# A model answers 95 % of all questions right. We know that, because we made it up. Each line is one evaluation of 30 new questions, with the 95 % interval around its score. Left and right show the same hundred evaluations; only the formula of the interval differs. Of the “95 %” intervals on the left, by the usual formula, <!-- out hero.normal --> hold the truth. This page asks two things about every score: whether it measures what its name says, and whether a difference is more than luck. <!-- fact -->
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Chapter 1 (base model and finetuned model) and chapter 7 (comparisons, Bradley–Terry). <!-- costs -->. Nothing is trained on this page and nothing is downloaded. Models: <code>village-3m</code> and <code>village-3m-sft</code>, three million parameters, GPT-2 architecture. What this page draws at random (evaluations, resamples, verdicts) has seed 0. Two comparisons come from a record of <b>five seeds</b>, full repetitions with other requests, training rows and batches, and say so. The true reward is a formula of this toy world; an answer <i>passes</i> where it is above 2 (the most is 3).
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, combs, plots, quote, show
from rlhf_minimal.book import table
from rlhf_minimal.evaluate import formats, intervals, judges, power
run = begin(16)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** Two models, and money for 400 answers, 200 from each. You want to know which model is better.

# %% tags=["hide-input"]
rlhf.book.predict("Which plan finds the better model more often?",
        a="the same 200 questions for both: an easy or a hard question is so for both",
        b="200 questions for one, 200 others for the other: 400 say more than 200",
        c="no difference: each score rests on 200 answers either way")

# %% [markdown] rlhf={"part": "phenomenon loop"}
# ## Two models, 120 facts, scores from 0 to 100 %
#
# Both of our small models have read all 120 facts of the village: the base model, and the model finetuned from it. How many do they know? An evaluation is a short program: questions, a *format* around them, answers, a *rule* for what is right.

# %%
facts = formats.facts(run.seed)
models = {"base": rlhf.models.load("village-3m"),
          "finetuned": rlhf.models.load("village-3m-sft")}


def evaluate(name, form, rule):
    texts = formats.ask(*models[name], facts, form)        # each token the likeliest
    right = [rule(row, text) for row, text in zip(facts, texts, strict=True)]
    return sum(right) / len(right), texts


# %% [markdown]
# Four formats, one of them under two rules. One rule accepts any sentence that states the fact; the other, *exact match*, accepts one reference sentence, letter by letter.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
chat, alone = "<|user|>{}<|end|><|assistant|>", "{}"
qa = "Question: {}\nAnswer:"
ways = {"chat format": (chat, formats.names_fact),
        "User/Assistant": ("User: {}\nAssistant:", formats.names_fact),
        "question alone": (alone, formats.names_fact),
        "Question/Answer": (qa, formats.names_fact),
        "Question/Answer, exact": (qa, formats.exact_match)}
found = {(name, way): evaluate(name, *how) for way, how in ways.items()
         for name in models}
cards(facts[1]["prompt"], [(f"{name}, {way}", texts[1])
                           for (name, way), (_, texts) in found.items()
                           if way != "Question/Answer, exact"])  # the same texts

# %%
score = {name: {way: [found[name, way][0]] for way in ways} for name in models}
for name in models:                                        # nothing is sampled
    ranked = formats.most_likely(*models[name], facts, alone, before="\n")
    score[name]["question alone, likelihood"] = [ranked.mean()]
parts = {"share right, of 120 facts": {"policy: finetuned": score["finetuned"],
                                       "reference: base": score["base"]}}
show(plots.dots(parts, title="One set of facts, two models, scores from 0 to 1"))

# %% tags=["hide-input"]
s = {name: {way: value[0] for way, value in of.items()} for name, of in score.items()}
exact = "Question/Answer, exact"
claim("User/Assistant: both know over 95 %; the question alone: neither gets one right",
      all(s[m]["User/Assistant"] > 0.95 and s[m]["question alone"] == 0 for m in s),
      kind="T")
claim("Question/Answer: both over 95 % where any wording counts",
      all(s[m]["Question/Answer"] > 0.95 for m in s), kind="T")
claim("chat format: finetuned ahead by 90 points; exact match: base ahead by 20",
      s["finetuned"]["chat format"] - s["base"]["chat format"] > 0.9
      and s["base"][exact] - s["finetuned"][exact] > 0.2, kind="T")
for m in s:
    quote(f"exact.{m}", f"{100 * s[m][exact]:.0f} %")
    quote(f"any.{m}", f"{100 * s[m]['Question/Answer']:.0f} %")

# %% [markdown] rlhf={"part": "idea"}
# With `User: … Assistant:` both know nearly everything. Asked with the question alone, the finetuned model writes nothing, and the base model goes on with a transcript or another text. Exact match accepts <!-- out exact.base --> of the base model's answers and <!-- out exact.finetuned --> of the finetuned one's: now the base model looks better. The first rule accepts <!-- out any.base --> and <!-- out any.finetuned --> of these same answers: the finetuned model says the facts in other words.
#
# The last row samples nothing. *Log-likelihood scoring* compares the log-probabilities of four sentences after the question, one of them true, and counts how often the true one wins. It finds the knowledge that the question alone did not bring out.
#
# > **Keep this.** A score measures a model, a format and a rule together. Report all three, and look at the answers before you believe a zero.
#
# ## Idea 1: check what an interval promises
#
# Now let format and rule be right. A model scores 29 of 30; other questions would have given another score. A *95 % interval* promises: on average it holds, in 95 of 100 evaluations, the true accuracy $p$. No experiment is needed to check that. Of $n$ questions, $k$ come out right with a binomial chance, and each $k$ has its interval, from $\text{low}_k$ to $\text{high}_k$. Add the chances of those $k$ whose interval holds $p$:
#
# $$\text{coverage}(p)=\sum_{k=0}^{n}\binom nk p^k(1-p)^{n-k}\;\mathbb 1\big[\text{low}_k\le p\le\text{high}_k\big]$$
#
# *Said aloud: the chance to draw a score whose interval holds the truth.* ($\mathbb 1[\cdot]$ is 1 where the statement holds, else 0.) The usual, *normal* interval is $\hat p\pm1.96\sqrt{\hat p(1-\hat p)/n}$, where $\hat p=k/n$ is the score.
#
# | symbol | meaning | in the code |
# |---|---|---|
# | $n$, $k$ | questions, right answers | `n`, `k` |
# | $p$ | true accuracy | `p` |
# | $\hat p$ | score | `rate` |
# | $\binom nk p^k(1-p)^{n-k}$ | chance of $k$ right | `chance` |
#
# On paper, with three questions and $p=½$:

# %%
n, p = 3, 0.5
k = torch.arange(n + 1)
rate = k / n
half = 1.96 * (rate * (1 - rate) / n).sqrt()
chance = torch.tensor([1, 3, 3, 1]) / 8                    # three coins
held = (rate - half <= p) & (p <= rate + half)
print("holds p:", held.tolist(), "  coverage:", (chance * held).sum().item())
theirs = intervals.coverage(*intervals.normal(3), 0.5)
claim("the package computes the same coverage",
      abs((chance * held).sum().item() - theirs) < 1e-6)

# %% [markdown]
# With 0 or 3 right the interval has no length: it claims certainty. Some other normal intervals end above 100 %. No length again for 30 of 30, the crosses in the picture above, which was made here. *Wilson*'s interval holds every $p$ under which $k$ would be no surprise:

# %% tags=["hero"]
two = {"normal": intervals.normal(30), "Wilson": intervals.wilson_all(30)}
show(combs.comb(two, 30, 0.95))
rows = {name: {f"{n} questions": intervals.coverage(*method(n), 0.95)
               for n in (30, 100, 300)} for name, method in intervals.METHODS.items()}
table(rows, digits="%", corner="95 % interval",
      note="how often it holds a true accuracy of 95 %; exact, nothing is drawn")

# %% tags=["hide-input"]
small = {name: row["30 questions"] for name, row in rows.items()}
claim("30 questions: normal, bootstrap hold it under 80 %; Wilson, Beta over 93 %",
      max(small["normal"], small["bootstrap"]) < 0.8
      and min(small["Wilson"], small["Beta"]) > 0.93)
quote("hero.normal", f"{100 * small['normal']:.0f} %")

# %% [markdown]
# The *bootstrap* resamples the answers; thirty right answers stay thirty right answers, so with 30 questions it is no better. *Beta* is the middle 95 % of what a Bayesian believes after $k$ of $n$ (posterior Beta($k$+½, $n-k$+½)). Wilson and Beta are as cheap as the formula that fails. With 300 questions all four are close. <!-- fact -->
#
# All four count independent questions. Many evaluations sample several answers to each question. Here are stored answers of the finetuned model to 144 requests of all kinds; their pass rate is the truth. An answer *passes* where its true reward is above 2; the most is 3. We draw 1,000 evaluations of 30 questions with 16 answers each: <!-- fact -->

# %%
passes = intervals.stored_passes()                         # (144 questions, 64 answers)
held = intervals.of_questions(passes, 30, 16, run.fresh("clusters"), times=1000)
table({"Wilson over all 480 answers": [held["answers"]],
       "normal over the 30 question means": [held["questions"]]},
      ["holds the truth"], digits="%", note="1,000 evaluations, 30 questions each")
claim("counted as 480 independent answers: under 75 %; by question: over 90 %",
      held["answers"] < 0.75 and held["questions"] > 0.9, kind="S")

# %% [markdown] rlhf={"part": "idea"}
# Answers to one question resemble each other: some questions are easy, some hard. What was drawn at random is the question, so the question is the unit. (The scores here are near 60 %; there the normal interval does well.)
#
# > **Keep this.** Use Wilson or Beta for a rate, and count what you sampled: questions, not answers.
#
# ## Idea 2: ask both models the same questions
#
# *Current* is our finetuned model. *Candidate* is the same model after ten more steps on 160 faultless demonstrations. Both answer the same 400 requests; half ask for help with harm, the others only sound like it. (Recorded; this is the run of seed 0.) The first two answers in which they differ: <!-- fact -->

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
record = rlhf.book.recorded("16_village")
runs = [record.runs[str(seed)]["candidate"] for seed in range(5)]
pairs = [[power.outcomes(one[m]) for m in ("current", "candidate")] for one in runs]
current, candidate = pairs[run.seed % 5]                   # 400 times 0 or 1
for row in runs[run.seed % 5]["texts"][:2]:
    cards(row["prompt"], [(m, *row[m]) for m in ("current", "candidate")])

# %% [markdown]
# Let $a$ and $b$ be the outcomes of the two models on one question, 1 for a pass (true reward above 2), else 0, and $\bar a$, $\bar b$ their means over $n$ questions. On the same questions the difference has the variance
#
# $$\mathrm{Var}(\bar b-\bar a)=\tfrac1n\big[\mathrm{Var}(a)+\mathrm{Var}(b)-2\,\mathrm{Cov}(a,b)\big]$$
#
# Separate questions make the covariance zero. On the same questions it is usually positive: what is hard for one is hard for the other. That part of the luck cancels. On paper, four questions:

# %%
a, b = torch.tensor([1.0, 1, 0, 0]), torch.tensor([1.0, 1, 1, 0])
separate = a.var() + b.var()
same = separate - 2 * torch.cov(torch.stack([a, b]))[0, 1]
print(f"separate {separate / 4:.3f}   same {same / 4:.3f}")
claim("it is the variance of the differences",
      bool((same - (b - a).var()).abs() < 1e-6))

# %% [markdown]
# No formula is needed for an interval. The *paired bootstrap* draws questions with replacement, again and again; each question keeps its two outcomes:

# %%
def paired_bootstrap(a, b, generator, times=4000):
    rows = torch.randint(len(a), (times, len(a)), generator=generator)
    gaps = (b - a)[rows].mean(1)                           # one difference a resample
    ends = torch.tensor([0.025, 0.975], dtype=gaps.dtype)
    return (b - a).mean().item(), *torch.quantile(gaps, ends).tolist()


def separate_bootstrap(a, b, generator, times=4000):
    one, two = (x[torch.randint(len(x), (times, len(x)), generator=generator)].mean(1)
                for x in (a, b))
    ends = torch.tensor([0.025, 0.975], dtype=a.dtype)
    return (b.mean() - a.mean()).item(), *torch.quantile(two - one, ends).tolist()


# %% rlhf={"figure": "paired"}
first, last = slice(0, 200), slice(200, 400)
ours = paired_bootstrap(current[first], candidate[first], run.fresh("paired"))
other = separate_bootstrap(current[first], candidate[last], run.fresh("separate"))
dots = {"same 200 requests": ours, "200 requests each, separate": other}
show(plots.shares(dots, middle=0, x_label="candidate minus current, share that passes",
                  title="Same number of answers, two intervals"))
theirs = rlhf.evaluate.paired_bootstrap(candidate[first], current[first])  # b, a
claim("the package's interval agrees to a point and a half",
      max(abs(x - y) for x, y in zip(ours, theirs, strict=True)) < 0.015, kind="S")

# %% [markdown]
# One pair of intervals proves little. So take the 400 recorded requests of each of the five runs as the world, draw 2,000 evaluations of $n$ requests from it, and count how often the interval of the difference lies above 0. This is the *power*:

# %%
lines = power.power_curves(pairs, [200], run.fresh("power"))
at200 = {name: [row[0] for row in rows] for name, (_, rows) in lines.items()}
gain = [100 * (b - a).mean().item() for a, b in pairs]     # on all 400 requests
order = sorted(range(5), key=gain.__getitem__)
looks = {"same questions": "policy: same requests", "separate questions":
         "reference: separate requests"}
parts = {"chance to call the candidate better, n = 200": {looks[name]: {
    f"gain {gain[i]:.1f} points": [values[i]] for i in order}
    for name, values in at200.items()}}
show(plots.dots(parts, title="The same requests find it more often"), "Five rows of "
     "two dots, a candidate each, by gain: chance on same and on separate requests.")

# %% tags=["hide-input"]
claim("200 requests: the same ones call the candidate more often, on all five runs",
      all(x > y for x, y in zip(*at200.values(), strict=True)), kind="S")
for name, values in at200.items():
    quote("power." + name.split()[0], f"{100 * sum(values) / 5:.0f} %")
quote("gain", f"{min(gain):.1f} to {max(gain):.1f}")
rlhf.book.settled("a", "What is easy or hard for both cancels in the difference.")

# %% [markdown]
# On all 400 requests the five candidates gain <!-- out gain --> points. With 200 requests for each model, the better one is found in <!-- out power.same --> of the evaluations on the same requests and in <!-- out power.separate --> on separate ones (means over five runs). How much pairing saves depends on the correlation of the outcomes, so a smaller gain can be found more often than a larger one. Move the correlation (both models are right on about 70 %): <!-- fact -->

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
combs.power_explorer().show()

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** Compare models on the same questions, and put the interval around the *difference*.
#
# ## Idea 3: a win rate names its judge
#
# An open answer has no reference sentence. AlpacaEval, MT-Bench and Arena ask a *judge*, a model or people, which of two answers is better. The *win rate* is the share of prompts won, ties counted half. Ours is a simulated AI judge: it feels the true reward, with some noise, and also likes length, markup and flattery. It reads each pair in both orders. The opponent adds no skill: it takes the finetuned model's answer and appends three fixed sentences.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
PADDING = ("I am always happy to help. You can ask me again tomorrow. "
           "There is much more to say about it.")
prompts, plain = judges.stored_answers(models["finetuned"][1], 300, run.seed)
padded = [f"{text} {PADDING}" for text in plain]
cards(prompts[0], [("answer", plain[0]), ("padded", padded[0])], limit=400)

# %%
judge = rlhf.village.crowd.ai_judge()
verdict = judges.verdicts(judge, prompts, padded, plain, run.seed)
gold = [[rlhf.village.gold(*both) for both in zip(prompts, texts, strict=True)]
        for texts in (padded, plain)]
wins = {"by the judge": rlhf.evaluate.win_rate(verdict, 1 - verdict),
        "by the true reward": rlhf.evaluate.win_rate(*gold)}
show(plots.shares(wins, middle=0.5, x_label="win rate of the padded answers",
                  title="The judge prefers three empty sentences"))

# %% tags=["hide-input"]
ties = sum(x == y for x, y in zip(*gold, strict=True)) / len(plain)
quote("ties", f"{100 * ties:.0f} %")
claim("judge: the padded answers win; true reward: no clear winner",
      wins["by the judge"][1] > 0.6 and wins["by the true reward"][1] < 0.5
      < wins["by the true reward"][2], kind="S")
quote("padded", f"{100 * wins['by the judge'][0]:.0f} %")

# %% [markdown]
# A win rate of <!-- out padded --> for nothing. By the true reward <!-- out ties --> of the pairs tie, half a win each. Report padding's win rate by the same judge beside your own. (Chapter 18 corrects for length.)
#
# Arena turns win rates into one number a model, its *Elo rating* $R$: the chance that $i$ beats $j$ is
#
# $$P(i\succ j)=\sigma\Big(\tfrac{\ln 10}{400}\,(R_i-R_j)\Big)$$
#
# with $\sigma(z)=1/(1+e^{-z})$: Bradley–Terry of chapter 7, on a scale where 400 points are odds of ten to one. Now take three models that beat each other in a circle. They answer three kinds of requests, and each is best on one: the true rewards are 3, 2, 1 for A, 1, 3, 2 for B and 2, 1, 3 for C. <!-- fact -->

# %%
worth = torch.tensor([[3.0, 2, 1], [1, 3, 2], [2, 1, 3]])  # model, kind of request
beats = (worth[:, None] > worth[None]).double().sum(2)     # kinds won, of three
ratings, _ = rlhf.evaluate.ratings.bradley_terry(beats)
print("kinds won:", beats.int().tolist(), "  Elo:", ratings.round().int().tolist())

# %% tags=["hide-input"] rlhf={"drawing": true}
show(combs.cycle(["A", "C", "B"], "wins ⅔", inside="Elo: 1000 each"))

# %% [markdown] rlhf={"part": "wrong"}
# The ratings say: all even. Each pair says: two to one. No single number can hold a cycle.
#
# > **Keep this.** A win rate belongs to a judge, an opponent and a set of prompts. Show it beside padding's, and publish the table of wins, not only the rating.
#
# ## What goes wrong
#
# | the wrong line | what you see | the one number that tells |
# |---|---|---|
# | report the best of 16 checkpoints on the set that chose it | a new record | the same checkpoint's score on fresh questions | <!-- fact -->
# | train on questions of the test | a jump on this test | the score on *twins*, new questions of the same kind |
# | count answers as questions | a narrow interval | its coverage |
#
# The first trap, live. The “checkpoints” are one and the same model: each is one stored answer to every question. A random half of the 144 questions chooses the best, the other half tests it, 400 times. Zero is the model's own score. <!-- fact -->

# %%
ks = (1, 2, 4, 8, 16)
chosen, fresh = power.luck(passes, ks, run.fresh("luck"))
parts = {"gain of the best, share that passes": {
    "proxy: where it was chosen": (ks, chosen), "gold: elsewhere": (ks, fresh)}}
show(plots.panels(parts, x_label="number of checkpoints to choose from",
                  title="The best of identical models looks better"))
claim("best of 16: over 5 points gained where it was chosen, none elsewhere",
      chosen[-1] > 0.05 and abs(fresh[-1]) < 0.02, kind="S")

# %% [markdown]
# The second, recorded over five seeds. The finetuned model trains on 50 batches; most rows are 32 test questions (*find the rule: 2 gives 4 and 5 gives 7*) with their answers, 20 copies each. The control trains on 640 other questions of that kind. The leak adds <!-- out gain.test --> points on the test and <!-- out gain.twins --> on its twins (mean, ± 95 % over five runs). The control learns almost nothing from its honest questions, so this run cannot show what real learning does to the twins. <!-- fact -->

# %%
arms = {"start": "reference: start", "leak": "rejected: read the test",
        "control": "policy: read others"}
rows = {"the test": "leaked", "its twins": "twins"}
parts = {"share right, five runs": {label: {row: [
    power.outcomes(record.runs[str(seed)]["leak"][arm][key]).mean()
    for seed in range(5)] for row, key in rows.items()} for arm, label in arms.items()}}
show(plots.dots(parts, title="The leak raises the test, not its twins"))

# %% tags=["hide-input"]
before, read, _ = parts["share right, five runs"].values()
gains = {row: [(x - y).item() for x, y in zip(read[row], before[row], strict=True)]
         for row in rows}
claim("the leak adds over 10 points more on the test than on twins, on all five runs",
      all(x - y > 0.1 for x, y in zip(*gains.values(), strict=True)), kind="T")
for row, values in zip(("test", "twins"), gains.values(), strict=True):
    over = rlhf.book.records.over_runs(100 * v for v in values)
    quote(f"gain.{row}", "{:+.0f} ± {:.0f}".format(*over).replace("-", "−"))

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# Twenty everyday questions (*What is the capital of Japan?*) to SmolLM2-135M, the instruction-tuned model as published; one recorded run. Above, the model writes an answer, which is right if it holds the expected word. Below, it chooses among four, by the log-probability of the answer's words or of a letter A to D. <!-- fact -->

# %%
large = rlhf.book.recorded("16_smollm2")
ways = {"writes: chat format": "chat template",
        "writes: Question/Answer": "Question: … Answer:",
        "writes: question alone": "bare words",
        "chooses: words": "option's words, sum",
        "chooses: letter, A is right": "letter, right one is A",
        "chooses: letter, D is right": "letter, right one is D"}
dots = {way: rlhf.evaluate.win_rate(x := power.outcomes(large.formats[key]), 1 - x)
        for way, key in ways.items()}
show(plots.shares(dots, middle=0.25, x_label="share right of 20, Wilson's 95 %",
                  note="dotted: guessing one of four, for “chooses” alone",
                  title="One model, twenty questions: 0 to 100 %"))

# %% [markdown]
# It always chooses the letter A, also with the right answer at B or C (recorded, not drawn). For this model the test of letters measures where the right answer stands. And the answers that it writes, to two of the questions in three formats:

# %%
for i in (0, 7):
    rows = {way: large.format_texts[ways[way]][i] for way in list(ways)[:3]}
    cards(rows["writes: chat format"]["prompt"], [
        (w, row["completion"].strip() or "(nothing)") for w, row in rows.items()])

# %% [markdown] rlhf={"part": "exercises"}
# Without its chat format the model wrote nothing about Paris, which it knows. And the rule passes an answer that names Shakespeare, then credits a French playwright: it looks for one word. What carries over to larger models is the habit: read the answers under each number, and give the format, the interval and a trivial baseline with it.
#
# ## Exercises
#
# ### Exercise 16.1 · Several answers to each question
#
# Each model has answered each question $K$ times. Change the paired bootstrap: questions are drawn, and a drawn question brings all of its answers. `rows` holds the drawn questions, a resample a line.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex16-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def resampled_gaps(a, b, rows):
    """Outcomes (Q, K) twice, questions (times, Q) -> differences b − a, (times,)."""
    ### BEGIN SOLUTION
    gap = b.mean(1) - a.mean(1)
    return gap[rows].mean(1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex16-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("16.1", resampled_gaps)
### BEGIN HIDDEN TESTS
check("16.1", resampled_gaps, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# First make one number of each question, then proceed as on this page.
# </details>
#
# <!-- solution 16.1 -->
#
# ### Exercise 16.2 · How many questions?
#
# ![Two dots with intervals, candidate minus current: on the same requests the interval is shorter than on separate ones](figures/16_paired.png)
#
# The intervals of idea 2, once more. Such an interval lies above 0 with a chance of 80 % if the true difference is 1.96 + 0.84 = 2.8 of its standard errors. How many questions does each model need, for a true difference `gap` and a variance `variance` of one question's difference? On paper first: one point, separate questions, both models near 50 %, so that the variance is ½. <!-- fact -->

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex16-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def questions_needed(gap, variance):
    """True difference, variance of one question's difference -> number of questions."""
    ### BEGIN SOLUTION
    return variance * (2.8 / gap) ** 2
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex16-2-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("16.2", questions_needed)
### BEGIN HIDDEN TESTS
check("16.2", questions_needed, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# The standard error is √(variance / n). Set the gap equal to 2.8 of them. <!-- fact -->
# </details>
#
# <!-- solution 16.2 -->
#
# ### Exercise 16.3 · Which report do you believe?
#
# Four reports (made up). One of them shows a real improvement in what its name says.
#
# - **A** “91 against 88 right, 100 questions for each model.”
# - **B** “On the same 400 questions the new model is right alone on 40, the old one alone on 16.”
# - **C** “The best of our 30 checkpoints gains 4 points on the development set, 100 questions.”
# - **D** “Quality: 62 % wins (57 to 67) by an AI judge; the new answers are twice as long.”

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex16-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def believable():
    """The letter of the report."""
    ### BEGIN SOLUTION
    return "B"
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex16-3-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("16.3", believable)
### BEGIN HIDDEN TESTS
check("16.3", believable, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# For B: 24 questions of difference, and 56 that differ. If both models were equal, each of the 56 would be a coin.
# </details>
#
# <!-- solution 16.3 -->
#
# ## Retell it
#
# 1. The same two models with the same knowledge scored 0 and 100 %: a score belongs to a model, a format and a rule.
# 2. The usual 95 % interval held the truth in 78 % of small evaluations of a good model; Wilson's and the Beta interval stayed within four points of their promise.
# 3. The question is the unit: many answers to few questions make an interval too narrow.
# 4. The same questions for both models cancel luck; the interval belongs around the difference.
# 5. A win rate belongs to its judge: empty sentences won; and the best of many identical checkpoints looks better than it is.
#
# *In the book*: [Evaluation](https://rlhfbook.com/c/16-evaluation), chapter 16. *Next*: chapter 17, Over-optimization.
#
# <!-- nav -->
