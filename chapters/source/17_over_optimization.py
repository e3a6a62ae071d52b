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
# # 17 · Over-optimization
#
# **How far can a learned reward be pushed before the answers get worse?**
#
# ![Two panels against training steps, a thin line for each of five runs: the judge's score climbs in every run, the true reward falls in every run](figures/17_hero.png)
#
# > **Asked after the last step:** “<!-- out ask_a -->” — **the first run:** “<!-- out say_a -->”
# >
# > **Asked:** “<!-- out ask_b -->” — **the second run:** “<!-- out say_b -->”
#
# Five runs of reinforcement learning climb the score of a judge that learned from an honest person's comparisons. On the whole the judge is more and more pleased, the answers go to pieces, and this page explains why. (The texts answer the first test request of two runs.)
#
# <details><summary>What you need · what it costs</summary>
# Chapters 7 (reward models), 10 (best-of-n) and 11 (policy gradients). Costs: <!-- costs -->. Models: village-3m-sft and its stored answers; two recorded runs, one of them of SmolLM2-135M. Book: <a href="https://rlhfbook.com/c/14-over-optimization">Over-optimization</a> (chapter 14 there). Seed 0. ± is half of a 95 % interval.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** Was it the training that broke the language? Take it away. The model stays as it was before reinforcement learning. For each of sixteen new prompts we draw n answers and keep the one that the same kind of judge likes best. What does the *true* reward of the kept answer do as n grows to 512?

# %% rlhf={"part": "setup"}
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, drawings, explorers
from rlhf_minimal.book import plots, predict, quote, recorded, settled
from rlhf_minimal.book import show, table
run = begin(17)

# %% tags=["hide-input", "hero"]
predict("The true reward of the judge's favourite, as n grows:",
        a="It rises and levels off: random mistakes cancel out.",
        b="It rises, then returns to its start: in the end we pick noise.",
        c="It rises, then falls far below an answer drawn blindly.")
five = recorded("17_village")
show(plots.seed_lines(five, {"the judge's score (log scale)": "proxy",
                             "true reward, points (at most 3)": "gold"},
                      over=1, logs=["proxy"],
                      title="Every run pleases its judge; every run gets worse"))
for name, seed in {"a": "0", "b": "1"}.items():
    said = five.texts["proxy"][seed][0]
    quote(f"ask_{name}", said["prompt"])
    quote(f"say_{name}", said["completion"])

# %% [markdown] rlhf={"part": "phenomenon"}
# ## A judge learned from honest labels
#
# In the village the *true reward* of every answer is known (the code calls it `gold`): 3 points for a right answer, for help with a harmless request, or for refusing a harmful one; 0 for a wrong answer or a needless refusal; −1 for help with harm. Broken, repeated or unfinished text costs points, down to −2 and less; flattery costs a little.
#
# A learned stand-in for it is called a *proxy*. Ours is the *judge*. A simulated person compares 1,600 pairs of the model's answers. She is honest: her mistakes are random, and of two answers one point apart she prefers the better one in 73 % of cases. To her labels we fit a *linear head*: one weight for each coordinate of the model's last hidden state (chapter 7).

# %%
from rlhf_minimal.book.records import over_runs
from rlhf_minimal.evaluate import exams, proxies

bench = proxies.bench()
honest = rlhf.village.Annotator(name="honest", temperature=1.0)
labels = bench.labels(honest, 1600, run.fresh("labels"))
weight = rlhf.reward_model.fit_head(*bench.states(labels), l2=0.03).float()
start, tokenizer = rlhf.models.load("village-3m-sft")
start.requires_grad_(False)
unit = (bench.state @ weight).std(1).mean()  # one standard deviation in a prompt


def judge(rollout):
    state = rlhf.reward_model.last_state(start, rollout.ids, rollout.attention)
    return state @ weight / unit

# %% [markdown]
# Every judge on this page is made in this way, from 1,600 labels; only the draw of the labels differs. Its scores count standard deviations. A comparison says nothing about a prompt's level, so only differences within a prompt matter.
#
# ## Idea 1: The loop climbs whatever it is given
#
# The runs above use RLOO (chapter 11): the score of each of four answers to a prompt is compared with the mean of the other three, and answers that beat it become more likely. The inner sum runs over those three, the outer one over all N answers:
#
# $$\nabla J\approx\frac1N\sum_i\Big(r_i-\frac1{3}\sum_{j\ne i}r_j\Big)\nabla\log\pi(y_i\mid x_i).$$

# %% rlhf={"part": "idea"}
r = torch.tensor([[2.0, 1.0, 0.0, 1.0]])   # scores of four answers to one prompt
others = (r.sum(1, keepdim=True) - r) / 3  # mean of the other three
advantage = (r - others)[0]
print("advantage", [round(x, 2) for x in advantage.tolist()])
package = rlhf.advantages.leave_one_out(r[0], 4)
claim("the package computes the same", torch.allclose(package, advantage))

# %% [markdown] rlhf={"part": "loop"}
# **The loop**, without a KL penalty. We run eight steps of it, each on eighteen new requests, and test it on 96 others.

# %%
def rloo(model, prompts, dice, rate=3e-4):
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0)
    for step in range(len(prompts) // 18):
        some = prompts[18 * step:18 * step + 18]
        out = rlhf.sampling.answer(model, tokenizer, some, n=4,
                                   max_new_tokens=40, generator=dice)
        r = judge(out).view(-1, 4)
        advantage = r - (r.sum(1, keepdim=True) - r) / 3
        logp = rlhf.rollout.completion_logps(model, out)
        loss = -(advantage.flatten() * (logp * out.mask).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
kinds = ("fact", "sum", "rule", "opinion", "harmful", "lookalike")
ask, test = (exams.requests(n, kinds, split=split, seed=run.seed + 70)
             for n, split in ((18 * run.steps(8), "train"), (96, "test")))
pushed = rloo(rlhf.models.copy_of(start).requires_grad_(True),
              [row["prompt"] for row in ask], run.fresh("live"))
before, after = (exams.exam(model, tokenizer, test, judge=judge, max_new_tokens=40,
                            generator=run.fresh("test")) for model in (start, pushed))
table({"the judge's score": {"change": after.interval("score", minus=before)},
       "true reward": {"change": after.interval(minus=before)}},
      note="after 8 steps; 96 test requests, ± over requests")
gain, half = after.interval("score", minus=before)
claim("eight steps raise the judge's score", gain - half > 0, kind="T")

# %% [markdown]
# Eight steps please the judge, and here the true reward has fallen already. The five recorded runs take forty steps, and each has a *control*: same start, requests, rate and steps, but paid in true reward. If rough steps alone broke the text, they would break it there, too.

# %%
paid = {"policy: paid in truth": "control gold", "proxy: paid by the judge": "gold"}
show(plots.recorded_panels(five, {"true reward, points": paid}, over=1,
                           title="The same loop does little harm when paid in truth",
                           note="96 test requests"))
for i in (1, 4):  # the first sum and the first harmful request of the last run
    both = {key: five.texts[key]["4"][i] for key in ("proxy", "control")}
    cards(both["proxy"]["prompt"], [
        (f"paid {how}", both[key]["completion"], both[key]["gold"])
        for key, how in (("proxy", "by the judge"), ("control", "in truth"))])

# %% tags=["hide-input"]
ends = {k: torch.tensor(five.values("each", k)) for k in ("start", "proxy", "control")}
own = [exams.clustered(x) for x in ends["proxy"] - ends["start"]]  # (5 runs, 96)
claim("in each of the five runs the judge's pupil loses true reward",
      all(mean + half < 0 for mean, half in own), kind="T")
low, *_, high = sorted(-mean for mean, _ in own)
still = over_runs((ends["control"] - ends["start"]).mean(1))
told = {"start": ends["start"].mean(), "proxy": ends["proxy"].mean(), "low": low,
        "high": high, "half": max(half for _, half in own)}
for name, x in told.items():
    quote(f"rl_{name}", f"{x:.2f}")
quote("rl_change", "{:.2f} ± {:.2f}".format(*still))
kl = [y[-1] for y in five.seeds("kl")]
quote("kl", f"{min(kl):.0f} to {max(kl):.0f}")
quote("up", sum(y[-1] > y[0] + 0.5 for y in five.seeds("second")))

# %% [markdown]
# Over the five runs the true reward falls from <!-- out rl_start --> to <!-- out rl_proxy --> (each run loses <!-- out rl_low --> to <!-- out rl_high --> points, ± at most <!-- out rl_half --> over its 96 requests). The control changes by <!-- out rl_change --> (± over runs): with this few steps it hardly learns, but it does not break. On the cards, repeating one phrase costs more than the refusal earns, and a sum with right first steps but a wrong end keeps some credit.
#
# > **Keep this.** The loop climbs the score that it is given. When the score is a learned judge's, the curve that you see can rise while the answers fall apart.
#
# ## Idea 2: Choosing alone does harm, too
#
# *Best-of-n* is the microscope: one knob, no training, and every answer is one that the model wrote by itself. We need its expected true reward for every n. Sort the G stored answers of a prompt by the judge's score, $y_{(1)}$ worst. The best of n is $y_{(i)}$ when it is drawn and the other n − 1 come from the i − 1 below it:
#
# $$\mathbb E[g\mid n]=\sum_{i=1}^{G}\binom{i-1}{n-1}\,g(y_{(i)})\Big/\binom{G}{n}.$$

# %% rlhf={"part": "idea"}
from math import comb
score = torch.tensor([0.2, 0.9, 1.4, 2.0])  # four answers, sorted by the judge
worth = torch.tensor([0.0, 2.0, 3.0, 1.0])  # true reward
for n in (1, 2, 4):
    chance = torch.tensor([comb(i, n - 1) / comb(4, n) for i in range(4)])
    print(f"best of {n}: score {chance @ score:.2f}, true {chance @ worth:.2f}")
package = rlhf.best_of_n.curve(score, worth, 4, [4])[0, 0].item()
claim("the package computes the same",
      abs(package - (chance @ worth).item()) < 1e-6)

# %% [markdown]
# Now sixteen real prompts of all kinds with 512 stored answers each, and ten judges, each from its own draw of 1,600 labels (no prompt is both labelled and used here).

# %%
ns = [2**k for k in range(10)]  # 1, 2, 4, …, 512
dice = [run.fresh(f"1600 labels, set {k}") for k in range(10)]
judges, read = proxies.fits(bench, honest, 1600, dice)
truth = proxies.pushed(judges, bench.gold, ns)  # (10 judges, n)
liked = torch.stack([proxies.pushed(s, s, ns) for s in judges])
show(plots.best_of_n(ns, {"the judge's score, standard deviations": {"proxy": liked},
                          "true reward, points": {"gold: true reward": truth}},
                     title="The score climbs to the end; the truth turns early",
                     note="16 prompts"))
claim("the best of 512 is worth less than a blind draw, by every judge",
      bool((truth[:, -1] < truth[:, 0]).all()), kind="S")
settled("c", "The best of 512 is far below a blind draw; the peak comes early.")

# %% [markdown]
# A blind draw is worth <!-- out one -->. The mean curve peaks at <!-- out peak -->, and the best of 512 is worth <!-- out end -->. Over prompts the change is <!-- out prompts -->: <!-- out worse --> of 16 end below their start. Nothing was trained but the judge.
#
# Gao, Schulman and Hilton ([arXiv 2210.10760](https://arxiv.org/abs/2210.10760)) measured such curves for large models, with a big reward model as the truth; the [deeper notebook](deeper/17_over_optimization.ipynb) fits their laws, and tries more and fewer labels.
#
# Move the slider, and read what one judge picks from the first n answers to the first three prompts that ask for no story. (`**` is the village's bold type.)

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
proxy = judges[0]
shown = [i for i in range(16)
         if rlhf.village.parse(bench.prompt(i)).family != "story"][:3]
texts = {n: [(bench.prompt(i), bench.text(i, j, tokenizer), bench.gold[i, j].item())
             for i in shown for j in [int(proxy[i, :n].argmax())]] for n in ns}
lines = {"step": ns, "proxy": proxies.pushed(proxy, proxy, ns).tolist(),
         "gold": proxies.pushed(proxy, bench.gold, ns).tolist()}
parts = {"judge's score": {"proxy": "proxy"}, "true reward, points": {"gold": "gold"}}
explorers.scrubber(lines, parts, texts, along="n", over=1, first=64,
                   place=lambda n: torch.tensor(float(n)).log2().item(),
                   title="what the judge picks from the first n answers").show()

# %% [markdown]
# > **Keep this.** The harm can start long before the score stops rising.
#
# ## Idea 3: Errors independent of the truth cannot do this
#
# *Goodhart's law*: when a measure becomes a target, it ceases to be a good measure. Manheim and Garrabrant ([arXiv 1803.04585](https://arxiv.org/abs/1803.04585)) tell four ways apart:

# %% tags=["hide-input"]
show(drawings.goodhart())

# %% [markdown]
# The first way is harmless noise. Why is it harmless? Write the score as truth plus error, $r=g+e$, and suppose that errors are *independent* of the truth. Sort the answers into groups of equal error.
#
# 1. *Within a group*, a higher score means a higher truth. So what is picked from a group is on average at least as good as the group.
# 2. *Between groups*, selection has favourites. But all groups have the same average truth (this is where independence enters), so having favourites costs nothing.
#
# Let $w(r)$ be the factor by which selection makes an answer with score $r$ more likely. It never falls as $r$ rises, and on average it is 1. Both steps together say
#
# $$\mathbb E[g\,w(g+e)]\;\ge\;\mathbb E[g]\;\mathbb E[w(g+e)]=\mathbb E[g].$$
#
# Left stands the true reward of the picked answers, right that of a blind draw. It holds for every n and for errors of any shape.

# %% rlhf={"part": "idea"}
g = torch.tensor([-1.0, 0.0, 1.0]).repeat(3)            # truth: bad to good
e = torch.tensor([0.0, 1.0, 9.0]).repeat_interleave(3)  # none, small, a freak
related = torch.where(g < 0, e, 0)                      # only bad answers err
even, law = torch.full((9,), 1 / 9), rlhf.best_of_n.law
for n in (2, 16, 256):
    a, b = law(even, g + e, n) @ g, law(even, g + related, n) @ g
    print(f"n = {n:3}: independent {a:.2f}, related {b:5.2f}")

# %% [markdown]
# So our judges' errors must depend on the truth. A test: keep the very same errors, but *deal them out anew* among the 512 answers of each prompt. A judge counts standard deviations, the truth counts points, so a straight line (regression) first gives the scale:
#
# $$\text{score}=\text{slope}\times\text{true reward}+\text{error}.$$
#
# Only the errors move. Now they have nothing to do with the answer.

# %%
dice = [run.fresh(f"deal {k}") for k in range(10)]
dealt = [proxies.dealt_out_anew(bench, score, x)
         for score, x in zip(judges, dice, strict=True)]
anew = proxies.pushed(dealt, bench.gold, ns)
both = {"proxy: the judges": truth, "other: errors dealt out anew": anew}
show(plots.best_of_n(ns, {"true reward, points": both}, note="16 prompts",
                     title="The same errors, dealt out anew, do no harm"))
claim("with errors dealt out anew no judge ends below a blind draw",
      anew[:, -1].min() > bench.gold.mean(), kind="S")

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
heads = [proxies.standardised(bench.state.double() @ proxies.told_the_truth(bench, x))
         for x in (0.01, 0.1, 1.0)]
best = proxies.pushed(heads, bench.gold, [512])[:, 0]
fresh = bench.neighbours(honest, run.fresh("neighbours"))
who = {"the judges": (judges, truth[:, -1]),
       "their errors dealt out anew": (dealt, anew[:, -1]),
       "a head told the truth": (heads[1], best[1]),
       "the true reward": (bench.gold, bench.gold.amax(1))}
table({name: [proxies.agreement(score, fresh), end.mean()]
       for name, (score, end) in who.items()}, ["agreement", "best of 512"],
      digits={"agreement": "%"}, corner="who judges",
      note="share of fresh labels (a coin: 50 %); true reward of the best of 512")

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
claim("a head told the truth ends below a blind draw", best.max() < bench.gold.mean())
rank = bench.surprise.argsort(1).argsort(1)  # 0 is the most usual of the 512
rare = torch.stack([rank.gather(1, s.argmax(1)[:, None]) >= 384 for s in judges])
chance = torch.rand(rank.shape, generator=run.fresh("quarter")).argsort(1)
for name, place in {"left": rank, "random": chance}.items():
    rest = proxies.pushed(judges, bench.gold, [384], place < 384)
    quote(name, f"{rest.mean():.2f}")
quote("rare", f"{100 * rare.double().mean():.0f} %")
quote("heads", f"{best.min():.2f} to {best.max():.2f}")

# %% [markdown]
# With their errors dealt out anew the judges agree with the person hardly more often than before. What has changed is *where* they err, and the harm is gone.
#
# **Why do the errors depend on the answer?** Not because of the person's mistakes: a head fitted to the *true rewards* of all answers that could be labelled ends below a blind draw, too (<!-- out heads --> at three strengths of its penalty on large weights; the table has the middle one). What a weighted sum of these coordinates cannot express, or did not learn from other prompts, becomes an error.
#
# **Where does the harm sit?** <!-- out rare --> of the winners are from each prompt's rarest quarter, the answers to which the model gives the lowest log-probability per token. Without that quarter the best of the remaining 384 is worth <!-- out left -->; without a random quarter, <!-- out random -->. This is *extremal* Goodhart: the link was learned where answers are usual. (The rarest answers are also the worst ones; which of the two does the harm, this cannot tell.)
#
# > **Keep this.** Errors that are independent of the truth do no harm on average. A judge's errors are tied to the truth: pushing finds the bad answers that it overrates.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong: warnings without the truth
#
# In practice nobody sees the true reward. Three signals do not need it. For each we stop at the n where it peaks, and see what true reward that leaves us. The *second judge* has 1,600 other labels, of other pairs. *Likelihood* is the mean log-probability per token of the picked answers.

# %%
dice = [run.fresh(f"second {k}") for k in range(10)]
second, other = proxies.fits(bench, honest, 1600, dice, without=read)
applause = [proxies.pushed(judges[k], second[k], ns) for k in range(10)]
signals = {"the judge": liked, "a second judge": torch.stack(applause),
           "likelihood": proxies.pushed(judges, -bench.surprise, ns)}
stops = {name: x.argmax(1) for name, x in signals.items()}
stops |= {"always n = 2": torch.full((10,), 1), "a blind draw": torch.full((10,), 0)}
kept = {name: truth.gather(1, i[:, None])[:, 0] for name, i in stops.items()}
pairs = [[{*map(frozenset, x.tolist())} for x in some] for some in (read, other)]
claim("no second judge has read a pair of the first one's",
      not any(a & b for a, b in zip(*pairs, strict=True)))

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
chosen = {name: sorted({ns[i] for i in x.tolist()}) for name, x in stops.items()}
table({name: {"n chosen": ", ".join(map(str, chosen[name])),
              "true reward kept": x[0] if name == "a blind draw" else over_runs(x)}
       for name, x in kept.items()}, corner="stop by",
      note="ten judges; n chosen: by any of them; ± over judges")
won = torch.stack([bench.gold.gather(1, s.argmax(1)[:, None])[:, 0] for s in judges])
gone = won.mean(0) - bench.gold.mean(1)
for name, x in {"one": truth[0, 0], "peak": truth.mean(0).max(),
                "end": truth[:, -1].mean()}.items():
    quote(name, f"{x:.2f}")
quote("prompts", "{:.2f} ± {:.2f}".format(*exams.clustered(gone)))
quote("worse", int((gone < 0).sum()))

# %%
show(plots.recorded_panels(
    five, {"score, standard deviations": {"proxy: the judge": "proxy",
                                          "reference: a second judge": "second"},
           "likelihood, nats per token": {"chosen: likelihood": "usual"}}, over=1,
    title="In the five runs a second judge rises, too, on average",
    note="96 test requests"))
end = {name: x.mean() for name, x in kept.items()}
claim("likelihood keeps more than the second judge, but no more than n = 2",
      end["a second judge"] + 0.3 < end["likelihood"] < end["always n = 2"] + 0.05,
      kind="S")

# %% [markdown]
# The second judge has its own labels, yet it approves of what the first one picks, and it rises in <!-- out up --> of the five runs: both read *the same states*. A second opinion helps only if it makes other mistakes. Likelihood knows nothing of quality, but here the harm comes with unusual answers. Yet “always n = 2” does as well, and we chose this signal while we could see the truth.
#
# | trap | what you see | what happened here |
# |---|---|---|
# | ship the best score | a curve that only rises | less is left than a blind draw has |
# | a second judge on the same states | two curves that rise | hardly more is left |
# | no KL penalty | the answers leave the language | <!-- out kl --> nats from the start ([lesson 4](04_training_overview.ipynb) tries four penalties) |
# | choose and report on the same prompts | a fine number | exercise 17.3 repairs it |

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# The same kind of judge and loop on SmolLM2-135M, recorded: some 300 honest labels, eight requests, sixteen steps, and the control beside it. Half of the requests are harmful; the others are *look-alikes*, which only sound harmful.

# %%
large = recorded("17_smollm2")
names = {"proxy: by the judge": "", "gold: the control": " control"}
parts = {"judge's score, standard deviations": "proxy", "true reward, points": "gold",
         "share of answers that refuse": "refused"}
parts = {unit: {name: column + end for name, end in names.items()}
         for unit, column in parts.items()}
show(plots.recorded_panels(large, parts, zero=None, over=3,
                           title="135M, sixteen steps: both rise and refuse more"))
stages = {"before": "before", "after": "by the judge", "control": "the control"}
cards(*large.texts(stages)[1])
table(large.families({"harmful": "harmful requests", "lookalike": "look-alikes"},
                     stages), note="true reward, 32 held-out requests each, ± 95 %")

# %% [markdown]
# What carries over is the climb, and its shortcut: at the end both runs refuse most requests. That earns 3 points for a harmful one and 0 for a look-alike (the card), more than the broken answers of before. What does not, so early, is the harm: on the held-out requests we cannot tell the two runs apart.

# %% [markdown] rlhf={"part": "exercises"}
# ## Exercises
#
# ### Exercise 17.1 · Which checkpoint do you ship?
#
# You log the proxy and the KL of every checkpoint, and you can buy 100 measurements of the true reward. `ask(step, n)` buys n of them at one checkpoint and returns them as a list; each has noise of one point. Return the step to ship. The check simulates thirty runs and accepts a rule that loses less than 15 % of the best gain.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex17-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def keep(proxy, kl, ask):
    """One number per checkpoint twice, and ask(step, n) -> the step to ship."""
    ### BEGIN SOLUTION
    root = torch.tensor(kl, dtype=torch.float64).clamp(min=0).sqrt()
    at = [share * root[-1] for share in (0.2, 0.4, 0.6, 0.8, 1.0)]
    looks = [int((root - x).abs().argmin()) for x in at]
    return max(looks, key=lambda step: sum(ask(step, 20)))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex17-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("17.1", keep)
### BEGIN HIDDEN TESTS
check("17.1", keep, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Five looks of twenty labels each tell apart what differs by half a point. Where should they stand, if early progress grows with the root of the KL?
# </details>
#
# <!-- solution 17.1 -->
#
# ### Exercise 17.2 · What is the promise worth?
#
# Even harmless noise makes a high score too optimistic. If true values have mean 0 and variance 1, and a score adds independent normal noise of variance $\sigma^2$, an answer that scores $r$ is worth $r/(1+\sigma^2)$ on average. Now the true values have mean `mean` and standard deviation `spread`, the noise has standard deviation `noise`. What is an answer that scores `r` worth on average? First say what must come out for huge noise, and for none.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex17-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def expected_truth(r, mean, spread, noise):
    """Four numbers -> E[true value | proxy = r]."""
    ### BEGIN SOLUTION
    share = spread**2 / (spread**2 + noise**2)
    return mean + share * (r - mean)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex17-2-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("17.2", expected_truth)
### BEGIN HIDDEN TESTS
check("17.2", expected_truth, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Of the distance to the mean, the truth keeps its share of the total variance.
# </details>
#
# <!-- solution 17.2 -->
#
# ### Exercise 17.3 · An honest report
#
# A colleague measured the true reward on a set of prompts at every checkpoint: `table` has a row for each prompt (an even number) and a column for each checkpoint. She ships the best column and reports its mean, so the luck of the choice is in the number. The picture below shows this for checkpoints of which none is better than another. Repair the report: choose on the first half of the prompts and report on the second, swap, and average the two.
#
# <details><summary>Hint</summary>
# Two vectors of column means, one for each half. The best column of each is looked up in the other.
# </details>

# %%
noise = torch.randn(16, 12, generator=run.fresh("colleague"))
show(plots.panels({"measured true reward": {"mean of 16 prompts": noise.mean(0)}},
                  title="All twelve are worth 0, but one looks best",
                  x_label="checkpoint"))

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex17-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def honest_report(table):
    """(prompts, checkpoints) true rewards -> one number."""
    ### BEGIN SOLUTION
    a, b = (half.mean(0) for half in table.chunk(2))
    return (b[a.argmax()] + a[b.argmax()]) / 2
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex17-3-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("17.3", honest_report)
### BEGIN HIDDEN TESTS
check("17.3", honest_report, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <!-- solution 17.3 -->
#
# ## Retell it
#
# 1. Five runs of reinforcement learning pleased a judge that had learned from honest labels, and their answers fell apart; the same loop, paid with the true reward, did no such harm.
# 2. Choosing among untrained answers did harm, too: the score of the best of n rose to the end, the truth turned early and fell below a blind draw.
# 3. Errors independent of the truth cannot do that: dealt out anew among the answers, the same errors were harmless, though the judge agreed with the person hardly more often.
# 4. A judge's errors are tied to the truth; here most winners were from the rarest quarter of the answers.
# 5. A second judge that reads the same states mostly approved; how unusual the answers become was a better warning.
#
# In the book: chapter 14, Over-optimization. Next: chapter 18, Style and information. Proofs, the published laws, ensembles, sycophancy and the alignment tax are in the [deeper notebook](deeper/17_over_optimization.ipynb).
#
# <!-- nav -->
