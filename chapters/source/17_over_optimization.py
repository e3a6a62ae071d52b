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
# **How far can a proxy be pushed before the thing it stands for gets worse?**
#
# ![Lines against training steps, a thin one for each of five runs and a thick one for their mean: the learned reward climbs in every run](figures/17_hero.png)
#
# > **Asked at the last step:** “<!-- out ask_a -->” — **answer:** “<!-- out say_a -->”
# >
# > **Asked:** “<!-- out ask_b -->” — **answer:** “<!-- out say_b -->”
#
# Five runs of reinforcement learning climb a reward that was learned from honest comparisons; the two texts are the longest of eight answers that such a run left at its end. What became of the true reward, which no run could see?
#
# <details><summary>What you need · what it costs</summary>
# Chapters 7 (reward models), 10 (best-of-n) and 11 (policy gradients). Costs: <!-- costs -->. Models: village-3m-sft and its stored answers; two recorded runs, one of them of SmolLM2-135M. Book: <a href="https://rlhfbook.com/c/14-over-optimization">Over-optimization</a> (chapter 14 there). Seed 0.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** Now a simpler experiment. The language model stays fixed; we train only a small judge, and the people who label are honest. They compare pairs of answers; they make random mistakes, but they prefer the better answer more often than not. We fit a *reward model* to 1,600 of their labels: the **proxy**. Then, for new prompts, we draw n answers and keep the one that the proxy likes best. As n grows to 512, what does the *true* reward of the kept answer do?

# %% rlhf={"part": "setup"}
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, drawings, explorers
from rlhf_minimal.book import plots, predict, quote, recorded, settled
from rlhf_minimal.book import show, table
run = begin(17)

# %% tags=["hide-input"]
predict("The true reward of the best of n by an honest proxy, as n grows:",
        a="It rises and levels off: honest mistakes cancel out.",
        b="It rises, then returns to its start: in the end we pick noise.",
        c="It rises, then falls far below an answer drawn blindly.")

# %% tags=["hide-input", "hero"]
five = recorded("overoptimization_seeds")
show(plots.seed_lines(five, {"learned reward (the proxy)": "proxy"},
                      title="Five runs climb the reward that they were given"))
one = recorded("overoptimization_village")
long = sorted(one.last_samples, key=lambda s: -len(s["completion"]))[:2]
for name, s in zip("ab", long, strict=True):
    quote(f"ask_{name}", s["prompt"])
    quote(f"say_{name}", s["completion"])

# %% [markdown] rlhf={"part": "phenomenon"}
# ## The best of 512, chosen by an honest judge
#
# The village is a small world in which the true reward of every text is known; 3 points is perfect. (The code calls it `gold`.) Its language model has written 512 answers to each of sixteen prompts, and four answers to each of about two thousand others. People label pairs of the others.
#
# Our annotator is honest: her choices are random, and lean to the better answer. Of two answers that differ by one point she prefers the better one in 73 % of cases. The proxy is a *linear head on frozen states*: one weight for each coordinate of the model's last hidden state (chapter 7).

# %%
from rlhf_minimal.evaluate import proxies

bench = proxies.bench()
honest = rlhf.village.Annotator(name="honest", temperature=1.0)
labels = bench.labels(honest, 1600, run.fresh("labels"))
weight = rlhf.reward_model.fit_head(*bench.states(labels), l2=0.03)
proxy = proxies.standardised(bench.state @ weight.float())  # (16, 512)
best = proxy.argmax(1)
won = bench.gold.gather(1, best[:, None])[:, 0]

# %% [markdown]
# A comparison says nothing about a prompt's level, so scores are centred within each prompt; their unit is one standard deviation. Here are three of the sixteen winners: the worst, the ninth and the best by true reward. Beside each stands the answer that was drawn first.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled", "show": true}
start, tokenizer = rlhf.models.load("village-3m-sft")
shown = won.argsort()[[0, 8, 15]].tolist()
for i in shown:
    top = f"best of 512, proxy {proxy[i].max():.1f}"
    pair = {"drawn first": 0, top: best[i]}
    texts = {name: bench.text(i, j, tokenizer) for name, j in pair.items()}
    cards(bench.prompt(i), [(name, texts[name], bench.gold[i, j].item())
                            for name, j in pair.items()])

# %% [markdown]
# Some winners are fine. Others are broken, and the proxy scores them high. The story's 3.0 may look odd: its prompt asks for two sentences, and the answer has more. But the true reward sets stock sentences such as “I have thought about it for a long time” aside: they count neither as story nor as a fault, as long as they do not repeat and the answer stays short. What is left is the story that was asked for. Are the broken winners exceptions? Idea 2 has the mean for every n.
#
# ## Idea 1: When a measure becomes a target
#
# *Goodhart's law*: when a measure becomes a target, it ceases to be a good measure. A reward model is a measure; best-of-n and reinforcement learning make it a target. Manheim and Garrabrant ([arXiv 1803.04585](https://arxiv.org/abs/1803.04585)) tell four kinds apart.

# %% tags=["hide-input"]
show(drawings.goodhart())

# %% [markdown]
# | kind | in the village |
# |---|---|
# | regressional | the annotator was in a good mood: the favourite is good, but less good than its score |
# | extremal | labels came from ordinary sentences; a rare, broken one lands where the head only extrapolates |
# | causal | annotators like long answers, because long stories happened to be good; padding an answer then earns score, not quality |
# | adversarial | somebody who is paid by the score writes “great question!” before each answer, because that annotator likes flattery |
#
# The first kind has a formula. Let the true value $g$ be normal with mean 0 and variance 1, and let the proxy be $r=g+\sigma\varepsilon$ with independent normal noise $\varepsilon$. Of an answer that scores $r$ we expect
#
# $$\mathbb E[g\mid r]=\frac{r}{1+\sigma^2}.$$

# %% rlhf={"part": "idea"}
sigma = 1.0
dice = run.generator
g = torch.randn(1_000_000, generator=dice)              # true values
r = g + sigma * torch.randn(1_000_000, generator=dice)  # what the proxy says
kept = g[(r - 2).abs() < 0.05].mean().item()
formula = 2 / (1 + sigma**2)
print(f"proxy 2: worth {kept:.1f} on average; the formula says {formula:.1f}")
claim("the simulation agrees with the formula",
      abs(kept - formula) < 0.05, kind="S")

# %% [markdown]
# So above the average a noisy proxy promises too much, yet a higher score still means a better answer: with this kind alone, the best of n keeps getting better. Noise with a tail heavier than any exponential changes that, when the truth has a light tail: the very highest scores are then nearly all noise, and we end near a blind draw, as in (b). The code above does not show this case. Idea 3 asks whether noise can explain (c).
#
# > **Keep this:** when independent noise was added to the truth, a selected high score is, on average, too optimistic. That alone makes nothing worse.
#
# ## Idea 2: The proxy climbs, the truth turns
#
# *Best-of-n* is the cleanest way to push: one knob, no training. We need its expected true reward for every n, without drawing again and again. Sort the G stored answers of a prompt by proxy, $y_{(1)}$ worst. The best of n is $y_{(i)}$ when it is drawn and the other n − 1 come from the i − 1 below it:
#
# $$\mathbb E[g\mid n]=\sum_{i=1}^{G}\binom{i-1}{n-1}\,g(y_{(i)})\Big/\binom{G}{n}.$$

# %% rlhf={"part": "idea"}
from math import comb
score = torch.tensor([0.2, 0.9, 1.4, 2.0])  # four answers, sorted by proxy
worth = torch.tensor([0.0, 2.0, 3.0, 1.0])  # true reward
for n in (1, 2, 4):
    chance = torch.tensor([comb(i, n - 1) / comb(4, n) for i in range(4)])
    print(f"best of {n}: proxy {chance @ score:.2f}, true {chance @ worth:.2f}")
package = rlhf.best_of_n.curve(score, worth, 4, [4])[0, 0].item()
claim("the package computes the same",
      abs(package - (chance @ worth).item()) < 1e-6)

# %% [markdown]
# Now the sixteen real prompts, with ten fresh sets of labels at each of three sizes. The x-axis is the distance from the model that wrote the answers: the KL divergence of best-of-n is at most $\log n-\frac{n-1}{n}$ nats. We plot its square root, because early gains grow roughly in a straight line with it.

# %%
ns = [2**k for k in range(10)]  # 1, 2, 4, …, 512
judges, read, truth, liked = {}, {}, {}, {}
for size in (100, 1600, 10_000):
    dice = [run.fresh(f"{size} labels, set {k}") for k in range(10)]
    judges[size], read[size] = proxies.fits(bench, honest, size, dice)
    truth[size] = proxies.pushed(judges[size], bench.gold, ns)  # (10 sets, n)
    liked[size] = torch.stack([proxies.pushed(s, s, ns) for s in judges[size]])

# %%
show(plots.best_of_n(ns, {
    "proxy, standard deviations":
        {f"{k:,} labels": x for k, x in liked.items()},
    "true reward, points":
        {f"{k:,} labels": x for k, x in truth.items()}},
    title="The proxy climbs to the end; the true reward turns early",
    note="16 prompts"))

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
fall, error = rlhf.evaluate.exams.clustered(truth[1600][:, -1] - truth[1600][:, 0])
claim("with 1,600 labels the best of 512 is worth less than a blind draw",
      fall + error < 0, kind="S")
claim("on average the end lies below the start at every size of the label set",
      all((x[:, -1] - x[:, 0]).mean() < 0 for x in truth.values()), kind="S")
settled("c", "The best of 512 is far below a blind draw; the peak comes early.")
quote("peak_n", ns[int(truth[1600].mean(0).argmax())])
quote("fall", f"{-fall:.2f} ± {error:.2f}")
names = ["start (n = 1)", "highest mean", "end (n = 512)", "sets that end below start"]
table({f"{k:,} labels": [x[0, 0].item(), x.mean(0).max().item(),
                         rlhf.evaluate.exams.clustered(x[:, -1]),
                         f"{int((x[:, -1] < x[:, 0]).sum())} of 10"]
       for k, x in truth.items()}, names, note="true reward; ± 95 % over label sets")

# %% [markdown]
# With 1,600 labels the mean peaks at n = <!-- out peak_n --> and ends <!-- out fall --> points below its start (95 % interval). More labels soften the fall clearly from 100 to 1,600; from there to 10,000 we cannot tell. Even 10,000 labels do not prevent it. All intervals here are over label sets; the sixteen prompts are fixed.
#
# Gao, Schulman and Hilton ([arXiv 2210.10760](https://arxiv.org/abs/2210.10760)) measured such curves for large models. They let a big reward model play the truth, labelled data with it, trained smaller proxies on the labels, and pushed those. Our village has a similar design. It is smaller, its judge is cruder, and its truth is known exactly; our fall is steeper than theirs.
#
# Move the slider, and read what wins as n grows: the three prompts of above, the best by proxy of the first n stored answers. (Curves: the one proxy of above, mean over sixteen prompts; the plot averages ten such proxies.)

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
texts = {n: [(bench.prompt(i), bench.text(i, j, tokenizer), bench.gold[i, j].item())
             for i in shown for j in [int(proxy[i, :n].argmax())]] for n in ns}
lines = {"step": ns, "proxy": proxies.pushed(proxy, proxy, ns).tolist(),
         "gold": proxies.pushed(proxy, bench.gold, ns).tolist()}
parts = {"proxy": {"proxy": "proxy"}, "true reward, points": {"gold": "gold"}}
explorers.scrubber(lines, parts, texts, along="n", over=1, log=True, first=64,
                   title="what the proxy picks from the first n answers").show()

# %% [markdown]
# > **Keep this:** the harm can start long before the proxy stops rising.
#
# ## Idea 3: Errors independent of the truth cannot do this
#
# A proxy of pure noise would pick blindly and end where it started. Why does ours end *below*? Write $r=g+e$, proxy = truth + error. Let $w(r)$ be the factor by which selection makes an answer with proxy $r$ more likely; on average $w$ is 1. A higher proxy is picked no less often, so $w$ does not decrease. Fix an error $e$: among the answers with this error, the better ones are picked no less often. So within each such group the picked answers are on average at least as good as the group, whether errors are independent or not. But selection also favours some groups over others. If errors are *independent* of the truth, every group has the same average $\mathbb E[g]$, and favouring one costs nothing:
#
# $$\mathbb E[g\,w(g+e)]\;\ge\;\mathbb E[g]\;\mathbb E[w(g+e)]=\mathbb E[g].$$
#
# The left side is the true reward of the picked answers, the right side that of a blind draw: for every n, and for errors of any shape, heavy tails included.

# %% rlhf={"part": "idea"}
g = torch.tensor([-1.0, 0.0, 1.0]).repeat(3)            # truth: bad to good
e = torch.tensor([0.0, 1.0, 9.0]).repeat_interleave(3)  # none, small, a freak
related = torch.where(g < 0, e, 0)                      # only bad answers err
even, law, lowest = torch.full((9,), 1 / 9), rlhf.best_of_n.law, 0.0
for n in (2, 16, 256):
    a, b = law(even, g + e, n) @ g, law(even, g + related, n) @ g
    print(f"best of {n:3}: independent errors {a:.2f}, related errors {b:5.2f}")
    lowest = min(lowest, a.item())
claim("the independent errors do no harm", lowest > -1e-6)

# %% [markdown]
# So our proxy's errors must depend on the truth. But the random part of the annotator's judgement, which is added to the true difference, did not. Between them stands the fit. In a finite number of labels this chance part moves each weight of the head a little, and *all* answers are scored with the moved weights: independent chance in the **labels** becomes errors of the **proxy** that are a fixed function of the answer, large where its state is unusual. Besides, a linear head on frozen states may be unable to express the truth at all.
#
# To see the theorem at work, keep the very same errors, but deal them out anew among the 512 answers of each prompt.

# %%
def dealt_out_anew(score, generator):
    centred = bench.gold - bench.gold.mean(1, keepdim=True)
    slope = (score * centred).sum() / centred.square().sum()
    error = score - slope * centred  # what the truth does not explain
    deal = torch.rand(error.shape, generator=generator).argsort(1)
    return slope * centred + error.gather(1, deal)

dice = [run.fresh(f"deal {k}") for k in range(10)]
shuffled = [dealt_out_anew(s, x)
            for s, x in zip(judges[1600], dice, strict=True)]
harmless = proxies.pushed(shuffled, bench.gold, ns)

# %% [markdown]
# Where does the harm sit? Sort each prompt's answers by *surprise*: minus the log-probability per token under the model that wrote them, in nats.

# %%
rank = bench.surprise.argsort(1).argsort(1)  # 0 is the most usual of the 512
quarter = rank // 128
names = ("most usual quarter", "second", "third", "rarest quarter")
rows = proxies.by_quarter(bench, judges[1600], quarter, names)
columns = rows["third"]
table(rows, digits={name: "%" if "share" in name else 2 for name in columns},
      note="10 proxies of 1,600 labels; spread: standard deviation")

# %% [markdown]
# On average the proxy knows that the rarest answers are worse. But its scores scatter most there, and scatter brings rare answers to the top. And the favourites among them are worse than the average of that quarter (last column against first): there the link between proxy and truth itself has turned, which is *extremal* Goodhart. Take the rarest quarter away and push again. As a control, take away as many of the *other* answers, partly matched: for each rare one, the nearest in true reward that is still left. Both curves start from the blind draw among their own 384 answers and end at n = 384.

# %%
def without(drop, score):  # true reward of the best of n among the other 384
    stay = (~drop).nonzero()[:, 1].view(16, 384)
    score, gold = score.gather(1, stay), bench.gold.gather(1, stay)
    return proxies.pushed(score, gold, [*ns[:-1], 384])

rare = rank >= 384
alike = proxies.matched(bench.gold, rare)
usual = torch.stack([without(rare, s) for s in judges[1600]])
control = torch.stack([without(alike, s) for s in judges[1600]])
told = {x: proxies.pushed(proxies.told_the_truth(bench, x), bench.gold, ns)
        for x in (0.01, 0.1, 1.0)}  # least squares on true rewards

# %%
gain = {"the proxy": truth[1600], "same errors, shuffled": harmless,
        "without the rarest quarter": usual,
        "without a matched quarter": control}
gain = {name: x - x[:, :1] for name, x in gain.items()}
mean_gain = {name: x.mean(0) for name, x in gain.items()}
show(plots.best_of_n(ns, {"true reward minus a blind draw, points": mean_gain},
                     title="Most of the fall goes with the rarest quarter",
                     note="mean of 10 label sets of 1,600"))

# %% tags=["hide-input"]
end = {name: x[-1].item() for name, x in mean_gain.items()}
low, half = rlhf.evaluate.exams.clustered(gain["same errors, shuffled"][:, -1])
claim("with errors shuffled, the favourite beats a blind draw", low > half, kind="S")
claim("most of the fall goes with the rarest quarter, not with the matched one",
      end["without the rarest quarter"] > end["the proxy"] / 2
      > end["without a matched quarter"], kind="S")
claim("a head fitted to the true rewards falls too, at three ridge strengths",
      all(x[-1] < x[0] < x.max() for x in told.values()))
quote("lost_rare", f"{bench.gold[rare].mean():.2f}")
quote("lost_alike", f"{bench.gold[alike].mean():.2f}")
quote("told", f"{min(x[-1] for x in told.values()):.2f} to "
              f"{max(x[-1] for x in told.values()):.2f}")

# %% [markdown]
# The shuffle is the theorem in action. The quarter is the news: most of the fall goes with the rarest quarter, which can be named without knowing the truth (the curve without it still ends a little below zero). But this quarter is also the worst, and there are too few bad answers elsewhere to match it (the control drops answers worth <!-- out lost_alike --> on average, the rarest quarter is worth <!-- out lost_rare -->). So this control cannot separate “rare” from “bad”.
#
# Are the label mistakes to blame? Fit the same head to the *true rewards* of the labelled answers, without any label noise. The best of 512 still ends at <!-- out told --> (three strengths of the ridge penalty), below a blind draw. So label noise is not needed for the fall. Whether labels on rare answers, or other features, would repair it we did not test.
#
# *Overfitting* is something else. An overfitted judge is wrong on fresh pairs of the same kind; a held-out set shows it. Over-optimization needs no such failure: selection looks for the places where the judge errs upwards, however rare they are. We do not exclude overfitting here: how often our proxy agrees with fresh labels stands in the last table, beside the ceiling.
#
# > **Keep this:** errors independent of the truth do no harm on average. Errors that depend on the truth can. Here most harm goes with rare answers, which are worse on average.
#
# ## Idea 4: Reinforcement learning leaves the ordinary
#
# Best-of-n chooses among answers that the model would write anyway. Reinforcement learning changes what it writes, so it can go further. Here is the whole method: REINFORCE with a leave-one-out baseline (RLOO, chapter 11). Each of four answers to a prompt is compared with the mean score of the other three:
#
# $$\nabla J\approx\frac1N\sum_i\Big(r_i-\frac1{3}\sum_{j\ne i}r_j\Big)\nabla\log\pi(y_i\mid x_i).$$

# %% rlhf={"part": "idea"}
r = torch.tensor([[2.0, 1.0, 0.0, 1.0]])   # proxy of four answers to one prompt
others = (r.sum(1, keepdim=True) - r) / 3  # mean of the other three
advantage = (r - others)[0]
print("advantage", [round(x, 2) for x in advantage.tolist()])
package = rlhf.advantages.leave_one_out(r[0], 4)
claim("the package computes the same", torch.allclose(package, advantage))

# %% [markdown] rlhf={"part": "loop"}
# **The loop.** The very same proxy and sixteen prompts as above, so that the units are those of best-of-n: 0 is the average answer to a prompt. No KL penalty; 20 steps, in each four answers to eight of the prompts (even and odd ones in turn).

# %%
def rloo_steps(model, steps, judge, dice, rate=1e-3):
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0)
    for step in range(steps):
        which = torch.arange(step % 2, 16, 2)  # eight of the sixteen prompts
        asked = [bench.prompt(i) for i in which]
        out = rlhf.sampling.answer(model, tokenizer, asked, n=4, generator=dice)
        r = judge(out, which)  # (8, 4)
        advantage = r - (r.sum(1, keepdim=True) - r) / 3
        logp = rlhf.rollout.completion_logps(model, out)
        loss = -(advantage.flatten() * (logp * out.mask).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield seen(asked, out, r)

# %%
policy = rlhf.models.copy_of(start)
start.requires_grad_(False)
raw = bench.state @ weight.float()
level, unit = raw.mean(1, keepdim=True), raw.std(1).mean()

def judge(out, which):  # the proxy, centred within each prompt as above
    state = rlhf.reward_model.last_state(start, out.ids, out.attention)
    return ((state @ weight.float()).view(8, 4) - level[which]) / unit

def seen(asked, out, r):  # for the log only; the loss never reads it
    said, logp = out.texts(tokenizer), rlhf.rollout.completion_logps(start, out)
    true = [rlhf.village.gold(asked[i // 4], x) for i, x in enumerate(said)]
    rare = -((logp * out.mask).sum(1) / out.mask.sum(1)).mean().item()
    return r.mean().item(), sum(true) / 32, rare, asked[0], said[0], true[0]

# %%
log = list(rloo_steps(policy, run.steps(20), judge, run.fresh("live")))
live = torch.tensor([row[:3] for row in log]).unfold(0, 2, 2).mean(2)
at = [2 * i + 1.5 for i in range(len(live))]
parts = {"proxy, standard deviations": "proxy",
         "true reward, points": "gold: true reward",
         "surprise under the start, nats per token": "policy: surprise"}
show(plots.panels({name: {role: (at, live[:, k])}
                   for k, (name, role) in enumerate(parts.items())}, zero=None,
                  title="Live: the proxy climbs, the answers get unusual",
                  x_label="RLOO step", note="means over 2 steps of 32 answers"))

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
claim("the live run climbs its proxy, gets rarer, and the true reward falls",
      live[-1, 0] > live[0, 0] + 1 and live[-1, 1] < live[0, 1]
      and live[-1, 2] > live[0, 2], kind="T")
for i in range(0, len(log) - 1, 6):
    cards(log[i][3], [(f"step {i + 1}, first answer", log[i][4], log[i][5])])

# %% [markdown]
# The surprise tells where training goes: to texts that the start model would hardly ever write. But be careful: at this learning rate the text breaks early, before the proxy has risen much. One run cannot separate such rough steps from over-optimization. The recorded runs of the first picture are the better evidence.

# %% tags=["hide-input"]
show(plots.seed_lines(
    five, {"learned reward (the proxy)": "proxy", "true reward, points": "gold"},
    title="Every run climbs its proxy; in every run the true reward turns"))
gold, proxies_rise = five.smooth("gold"), [y[-1] > y[0] for y in five.smooth("proxy")]
tops, last = [max(y) for y in gold], [y[-1] for y in gold]
for name, x in {"rl_top": tops, "rl_last": last}.items():
    quote(name, f"{min(x):.1f} to {max(x):.1f}".replace("-", "−"))
fell = [y[-1] < y[0] < max(y) for y in gold]
claim("in all five recorded runs the proxy ends above, the true reward below its start",
      all(proxies_rise) and all(fell), kind="T")

# %% [markdown]
# These runs are longer (90 steps of 64 answers), and their judge is larger: a whole reward model, finetuned on about 700 honestly labelled pairs of answers. Their true reward still peaks (at <!-- out rl_top --> points) and ends at <!-- out rl_last --> (means over nine steps).
#
# Four things to know about this in practice:
#
# - **Chat tics.** “I am always happy to help” is the village's “as an AI language model”: if the judge likes a phrase in every answer, it soon ends up in every answer.
# - **Over-refusal.** A judge that is sure about harm and unsure about the rest teaches a policy to refuse the harmless, too. The run at GPT-2 size shows it.
# - **Objective mismatch.** The reward model is trained to order pairs, and then it is maximised. Good accuracy on pairs says little about its largest values.
# - **A KL penalty** limits how far the policy goes. The live run had none, so it cannot show how much one would help.
#
# > **Keep this:** selection is limited to what the model writes; training is not.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong: warnings without the truth
#
# In practice nobody can draw the curve of the true reward. Three signals need no truth. For each we stop at the n where it peaks, and see what true reward that leaves us. A *second judge* is a head fitted to 1,600 other labels of other pairs. *Likelihood* is minus the surprise of the picked answers.

# %%
dice = [run.fresh(f"second {k}") for k in range(10)]
second, _ = proxies.fits(bench, honest, 1600, dice, without=read[1600])
applause = [proxies.pushed(judges[1600][k], second[k], ns) for k in range(10)]
signals = {"the proxy": liked[1600], "a second judge": torch.stack(applause),
           "likelihood": proxies.pushed(judges[1600], -bench.surprise, ns)}
stops = {name: x.argmax(1) for name, x in signals.items()}
stops |= {"always n = 2": torch.full((10,), 1),
          "a blind draw": torch.full((10,), 0),
          "the true reward (not available)": truth[1600].argmax(1)}
kept = {name: truth[1600].gather(1, i[:, None])[:, 0]
        for name, i in stops.items()}

# %%
chosen = {name: sorted({ns[i] for i in x.tolist()})
          for name, x in stops.items()}
rows = {name: {"n chosen": ", ".join(map(str, chosen[name])),
               "true reward kept": rlhf.evaluate.exams.clustered(x)}
        for name, x in kept.items()}
table(rows, corner="stop by",
      note="10 label sets; n chosen: by any of them; ± 95 % over label sets")
more = (kept["likelihood"] - kept["a second judge"]).mean()
lead = (kept["likelihood"] - kept["always n = 2"]).mean()
claim("likelihood keeps more than the second judge, but no more than n = 2",
      more > 0.3 and lead < 0.05, kind="S")

# %%
scaled = {**signals, "gold: true reward": truth[1600]}
scaled = {name: x.mean(0) for name, x in scaled.items()}
scaled = {name: (x - x[0]) / (x.max() - x.min()) for name, x in scaled.items()}
show(plots.best_of_n(ns, {"change since n = 1, as share of own range": scaled},
                     title="A second judge cheers on; likelihood turns",
                     note="mean of 10 label sets of 1,600"))
quote("kept_proxy", f"{kept['the proxy'].mean():.2f}")
quote("kept_second", f"{kept['a second judge'].mean():.2f}")
fresh = bench.labels(honest, 1600, run.fresh("pairs"), without=labels)
all_scores = bench.wide.state @ weight.float()
for name, x in {"right": all_scores, "most": bench.wide.gold}.items():
    quote(name, f"{proxies.agreement(x, fresh):.0%}".replace("%", " %"))

# %% [markdown]
# The second judge has its own labels, yet applauds what the first one picks. Both read *the same states*, and a second opinion helps only if it makes different mistakes. The likelihood knows nothing of quality, but here the harm is where answers get unusual. Be careful with the praise: “always n = 2” does as well, we found the signal while holding the truth, and the last row of the table picks and reports on the same numbers.
#
# | trap | what you see | what happened here |
# |---|---|---|
# | ship the best proxy | a curve that only rises | <!-- out kept_proxy --> points are left |
# | a second judge on the same backbone | two curves that agree | <!-- out kept_second --> points are left |
# | trust accuracy on fresh pairs | the proxy agrees with <!-- out right --> of fresh labels; the ceiling, which the true reward itself reaches, is <!-- out most --> | the best of 512 is below a blind draw |
# | choose and report on the same prompts | a fine number | exercise 17.3 repairs it |

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# One recorded run of PPO on SmolLM2-135M: fifty steps against a reward model of the same size.

# %%
large = recorded("smollm2_ppo")
parts = {"reward model's score": {"proxy": "score"},
         "true reward, points": {"gold: true reward": "gold"}}
show(plots.recorded_panels(large, parts, zero=None,
                           title="135M: score climbs, true reward turns"))
cards(*large.texts()[3])
kinds = {"harmful": "harmful requests", "lookalike": "look-alikes"}
table(large.families(kinds),
      note="true reward of held-out answers, ± 95 % over requests")
line = large.smooth("gold")[0]
quote("big_top", f"{max(line):.1f}")
quote("big_end", f"{line[-1]:.1f}")

# %% [markdown]
# The true reward rises to <!-- out big_top -->; the last nine steps dip to <!-- out big_end -->. One run and one window cannot tell this dip from the mix of requests. The robust finding is the split by kind of request. *Look-alikes* are requests that only sound harmful. After training the model refuses almost everything: that earns 3 points on a harmful request and 0 on a look-alike. The mean could rise because before, both kinds were answered badly.

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
# Idea 1 has true values with mean 0 and variance 1. Now true values have mean `mean` and standard deviation `spread`, the proxy adds independent noise of standard deviation `noise`, and an answer scores `r`. What is its true value on average? First say what must come out for huge noise, and for none.

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
# A colleague measured the true reward on a set of prompts at every checkpoint: `table` has a row for each prompt (an even number) and a column for each checkpoint. She ships the best column and reports its mean, so the luck of the choice is in the number. Repair the report: choose on the first half of the prompts and report on the second, swap, and average the two. Below: the lesson's proxy, its sixteen prompts in two halves.
#
# <details><summary>Hint</summary>
# Two vectors of column means, one for each half. The best column of each is looked up in the other.
# </details>
#
# <!-- solution 17.3 -->

# %%
truths = bench.gold.flatten()
each = rlhf.best_of_n.curve(proxy.flatten(), truths, 512, ns)  # (16, 10)
halves = {"first eight prompts": each[:8].mean(0),
          "last eight": each[8:].mean(0)}
show(plots.best_of_n(ns, {"true reward, points": halves},
                     title="The same proxy on two halves of the prompts"))

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
# ## Retell it
#
# We trained a judge on honest comparisons and pushed it: the score rose to the end, and the true reward rose a little, turned, and fell on average below a blind draw. Errors independent of the truth cannot do that, because no error then marks out a worse group, and among answers with the same error the better ones are picked no less often. The errors of our judge depend on the answer; its scores scatter most over rare answers, which are worse on average, and even a head fitted to the true rewards falls. Reinforcement learning went to ever rarer answers in our live run; in all five recorded runs the true reward ended below its start. A second judge that sees the same states applauds; how unusual the answers become was a better warning here.
#
# In the book: chapter 14, Over-optimization. Next: chapter 18, Style and information. Proofs, the published laws, ensembles, sycophancy and the alignment tax are in the [deeper notebook](deeper/17_over_optimization.ipynb).
#
# <!-- nav -->
