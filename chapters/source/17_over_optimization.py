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
# ![Two panels beside each other against training steps, one thin line for each of five runs: in the left panel the learned reward climbs, in the right one the true reward rises a little and then falls below its start](figures/17_hero.png)
#
# > **Asked at the last step:** “<!-- out ask_a -->” — **answer:** “<!-- out say_a -->”
# >
# > **Asked:** “<!-- out ask_b -->” — **answer:** “<!-- out say_b -->”
#
# Five runs of reinforcement learning climb a reward that was learned from honest comparisons (left). The true reward, which no run could see, rises a little, turns and falls below its start (right); the two texts are the longest of eight answers that one run left at its end. This page explains why that happens, and what would have warned us.
#
# <details><summary>What you need · what it costs</summary>
# Chapters 7 (reward models), 10 (best-of-n) and 11 (policy gradients). Costs: <!-- costs -->. Models: village-3m-sft and its stored answers; two recorded runs, one of them of SmolLM2-135M. Book: <a href="https://rlhfbook.com/c/14-over-optimization">Over-optimization</a> (chapter 14 there). Seed 0.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** Now nothing is trained but a small judge, and nobody cheats. People compare pairs of answers; they make random mistakes, but they prefer the better answer more often than not. We fit a *reward model* to 1,600 of their labels: the **proxy**. Then, for new prompts, we draw n answers and keep the one that the proxy likes best. As n grows to 512, what does the *true* reward of the kept answer do?

# %% rlhf={"part": "setup"}
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, drawings, explorers, plots
from rlhf_minimal.book import predict, quote, recorded, settled, show, table
from rlhf_minimal.evaluate import proxies
run = begin(17)

# %% tags=["hide-input"]
predict("The true reward of the best of n by an honest proxy, as n grows:",
        a="It rises and levels off. The errors are random, so more choice cannot hurt.",
        b="It rises, then returns to where it started: in the end we pick noise.",
        c="It rises, then falls far below an answer drawn blindly.")

# %% tags=["hide-input", "hero"]
five = recorded("overoptimization_seeds")
parts = {"learned reward (the proxy)": "proxy", "true reward, points": "gold"}
show(plots.seed_lines(
    five, parts, title="Every run climbs the proxy; in every run the truth turns"))
one = recorded("overoptimization_village")
long = sorted(one.last_samples, key=lambda s: -len(s["completion"]))[:2]
for name, s in zip("ab", long, strict=True):
    quote(f"ask_{name}", s["prompt"])
    quote(f"say_{name}", s["completion"])

# %% [markdown] rlhf={"part": "phenomenon"}
# ## The best of 512, chosen by an honest judge
#
# The village is a small world in which the true reward of every text is known; 3 points is perfect. We call it *gold*. Its language model has written 512 answers to each of sixteen prompts, and four answers to each of about two thousand others. People label pairs of the others.
#
# Our annotator is honest: she feels the true value plus random noise. Of two answers that differ by one point she prefers the better one in 73 % of cases. The proxy is a *linear head on frozen states*: one weight for each coordinate of the model's last hidden state (chapter 7).

# %%
bench = proxies.bench()
honest = rlhf.village.Annotator(name="honest", temperature=1.0)
labels = bench.labels(honest, 1600, run.fresh("labels"))
weight = rlhf.reward_model.fit_head(*bench.states(labels), l2=0.03)
proxy = proxies.standardised(bench.state @ weight.float())  # (16, 512)
best = proxy.argmax(1)
won = bench.gold.gather(1, best[:, None])[:, 0]

# %% [markdown]
# A comparison says nothing about a prompt's level, so scores are centred within each prompt; their unit is one standard deviation. Here are three of the sixteen winners: the worst, the median and the best by true reward. Beside each stands the answer that was drawn first.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled", "show": true}
start, tokenizer = rlhf.models.load("village-3m-sft")
shown = won.argsort()[[0, 8, 15]].tolist()
for i in shown:
    pair = {"drawn first": 0, f"best of 512, proxy {proxy[i].max():.1f}": best[i]}
    cards(bench.prompt(i), [(name, bench.text(i, j, tokenizer), bench.gold[i, j].item())
                            for name, j in pair.items()])
quote("blind", f"{bench.gold.mean():.2f}")
quote("won", f"{won.mean():.2f}")

# %% [markdown]
# Over all sixteen prompts, an answer drawn blindly is worth <!-- out blind --> points, the favourite of 512 only <!-- out won -->. Some winners are fine. Others are broken, and the judge is delighted with them.
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
g = torch.randn(1_000_000, generator=run.generator)              # true values
r = g + sigma * torch.randn(1_000_000, generator=run.generator)  # what the proxy says
kept = g[(r - 2).abs() < 0.05].mean().item()
formula = 2 / (1 + sigma**2)
print(f"answers with proxy 2 are worth {kept:.1f}; the formula says {formula:.1f}")
claim("the simulation agrees with the formula", abs(kept - formula) < 0.05, kind="S")

# %% [markdown]
# So a noisy proxy promises too much, but a higher score still means a better answer. With this kind alone, answer (a) of the prediction would be right.
#
# > **Keep this:** a score that was selected is too optimistic. With independent noise, that alone does no harm.
#
# ## Idea 2: The proxy climbs, the truth turns
#
# *Best-of-n* is the cleanest way to push: one knob, no training. We need its expected truth for every n, without drawing again and again. Sort the G stored answers of a prompt by proxy, $y_{(1)}$ worst. The best of n drawn answers is $y_{(i)}$ when $y_{(i)}$ is drawn and the other n − 1 come from the i − 1 below it:
#
# $$\mathbb E[\text{gold of the best of }n]=\sum_{i=1}^{G}\frac{\binom{i-1}{n-1}}{\binom{G}{n}}\,\text{gold}(y_{(i)}).$$

# %% rlhf={"part": "idea"}
from math import comb
score = torch.tensor([0.2, 0.9, 1.4, 2.0])  # four answers, sorted by proxy
worth = torch.tensor([0.0, 2.0, 3.0, 1.0])  # their true reward: the favourite is a fake
for n in (1, 2, 4):
    chance = torch.tensor([comb(i, n - 1) / comb(4, n) for i in range(4)])
    print(f"best of {n}: proxy {chance @ score:.2f}   gold {chance @ worth:.2f}")
package = rlhf.best_of_n.curve(score, worth, 4, [4])[0, 0].item()
claim("the package computes the same", abs(package - (chance @ worth).item()) < 1e-6)

# %% [markdown]
# Now the sixteen real prompts, with ten fresh sets of labels at each of three sizes. The x-axis is the distance from the model that wrote the answers: the KL divergence of best-of-n is at most $\log n-\frac{n-1}{n}$ nats, and its root grows about as fast as early progress does.

# %%
ns = [2**k for k in range(10)]  # 1, 2, 4, …, 512
judges, read, truth, liked = {}, {}, {}, {}
for size in (100, 1600, 10_000):
    dice = [run.fresh(f"{size} labels, set {k}") for k in range(10)]
    judges[size], read[size] = proxies.fits(bench, honest, size, dice)
    truth[size] = proxies.pushed(judges[size], bench.gold, ns)  # (10 sets, 10 n)
    liked[size] = torch.stack([proxies.pushed(s, s, ns) for s in judges[size]])

# %%
show(plots.best_of_n(ns, {
    "proxy, standard deviations": {f"{k:,} labels": x for k, x in liked.items()},
    "true reward, points": {f"{k:,} labels": x for k, x in truth.items()}},
    title="The proxy climbs to the end; the truth turns early", note="16 prompts"))

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
fall, error = rlhf.evaluate.exams.clustered(truth[1600][:, -1] - truth[1600][:, 0])
claim("with 1,600 labels the best of 512 is worth less than a blind draw",
      fall + error < 0, kind="S")
claim("at every size of the label set gold ends below its start",
      all((x[:, -1] - x[:, 0]).mean() < 0 for x in truth.values()), kind="S")
settled("c", "The best of 512 is far below a blind draw; the peak comes early.")
few, many = truth[1600].mean(0), truth[10_000].mean(0)
for name, x in {"start": few[0], "peak": few.max(), "end": few[-1],
                "top_100": truth[100].mean(0).max(), "end_many": many[-1]}.items():
    quote(name, f"{x:.2f}")
quote("peak_n", ns[int(few.argmax())])
quote("fall", f"{-fall:.2f} ± {error:.2f}")

# %% [markdown]
# With 1,600 labels gold starts at <!-- out start -->, peaks at <!-- out peak --> with n = <!-- out peak_n -->, and ends at <!-- out end -->: a fall of <!-- out fall --> below the start (95 % interval over label sets, at these sixteen prompts). With 100 labels the peak is only <!-- out top_100 -->. With 10,000 it is about as high as with 1,600, and gold still ends at <!-- out end_many -->.
#
# Gao, Schulman and Hilton ([arXiv 2210.10760](https://arxiv.org/abs/2210.10760)) measured such curves for large models. They let a big reward model play the truth, labelled data with it, trained smaller proxies on the labels, and pushed those. Our village has the same design with a truth that is known exactly. The [deeper notebook](deeper/17_over_optimization.ipynb) fits their laws.
#
# Move the slider, and read what wins as n grows: the three prompts of above, the best by proxy of the first n stored answers. (Curves: the proxy of above, mean over sixteen prompts.)

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
texts = {n: [(bench.prompt(i), bench.text(i, j, tokenizer), bench.gold[i, j].item())
             for i in shown for j in [int(proxy[i, :n].argmax())]] for n in ns}
lines = {"step": ns, "proxy": proxies.pushed(proxy, proxy, ns).tolist(),
         "gold": proxies.pushed(proxy, bench.gold, ns).tolist()}
parts = {"proxy": {"proxy": "proxy"}, "true reward, points": {"gold": "gold"}}
explorers.scrubber(lines, parts, texts, along="n", over=1, log=True,
                   title="what the proxy picks from the first n answers").show()

# %% [markdown]
# > **Keep this:** the harm starts long before the proxy stops rising.
#
# ## Idea 3: Independent errors cannot do this
#
# Why does gold fall *below* a blind draw? Noise would only make us pick at random, answer (b). Look at what best-of-n does. Write the proxy as truth plus error, $r=g+e$, and let $w(r)$ be how much more often than by chance an answer with proxy $r$ is picked. A higher proxy is picked more often, so $w$ never decreases. Fix an error $e$: among the answers with this error, the better ones are picked more. If errors are *independent* of the truth, this holds for each error alike, and on average
#
# $$\mathbb E[g\,w(g+e)]\;\ge\;\mathbb E[g]\;\mathbb E[w(g+e)]=\mathbb E[g].$$
#
# The left side is the gold of the picked answers, the right side that of a blind draw. This holds for every n and errors of any shape, heavy tails included.

# %% rlhf={"part": "idea"}
g = torch.tensor([-1.0, 0.0, 1.0]).repeat(3)            # truth: bad, middling, good
e = torch.tensor([0.0, 1.0, 9.0]).repeat_interleave(3)  # error: none, small, a freak
related = torch.where(g < 0, e, 0)                      # errors only for bad answers
even, law, lowest = torch.full((9,), 1 / 9), rlhf.best_of_n.law, 0.0
for n in (2, 16, 256):
    a, b = law(even, g + e, n) @ g, law(even, g + related, n) @ g
    print(f"best of {n:3}: gold {a:5.2f} independent errors   {b:5.2f} related errors")
    lowest = min(lowest, a.item())
claim("the independent errors do no harm", lowest > -1e-6)

# %% [markdown]
# So our proxy's errors must be **related to the truth**. Test it: keep the very same errors, but deal them out anew among the 512 answers of each prompt. Nothing else changes.

# %%
def dealt_out_anew(score, generator):
    centred = bench.gold - bench.gold.mean(1, keepdim=True)
    slope = (score * centred).sum() / centred.square().sum()
    error = score - slope * centred  # what the truth does not explain
    deal = torch.rand(error.shape, generator=generator).argsort(1)
    return slope * centred + error.gather(1, deal)

dice = [run.fresh(f"deal {k}") for k in range(10)]
shuffled = [dealt_out_anew(s, x) for s, x in zip(judges[1600], dice, strict=True)]
harmless = proxies.pushed(shuffled, bench.gold, ns)

# %% [markdown]
# Where do the harmful errors sit? Sort each prompt's answers by *surprise*: minus the log-probability per token under the model that wrote them, in nats. Unusual answers are each odd in their own way; few labels say anything about them, and a linear head extrapolates.

# %%
rank = bench.surprise.argsort(1).argsort(1)  # 0 is the most usual of the 512
quarter = rank // 128
winners = [s.argmax(1, keepdim=True) for s in judges[1600]]
where = torch.stack([quarter.gather(1, x) for x in winners])
names = ("most usual quarter", "second", "third", "rarest quarter")
spread = proxies.spread_by_quarter(judges[1600], quarter)
worth = [bench.gold[quarter == q].mean().item() for q in range(4)]
share = [(where == q).double().mean().item() for q in range(4)]
columns = ["true reward", "standard deviation of the proxy", "share of the winners"]
rows = {name: [worth[q], spread[q], share[q]] for q, name in enumerate(names)}
table(rows, columns, digits={columns[0]: 2, columns[1]: 2, columns[2]: "%"},
      note="16 prompts, 10 proxies of 1,600 labels; winners: best of 512")

# %% [markdown]
# The rarest answers are the worst, and the proxy scatters most over them: wherever it errs upwards there, a bad answer wins. That is *extremal* Goodhart. The decisive test: take the rarest quarter away and push again. As a control, take away a random quarter instead.

# %%
def without(drop, score):  # gold of the best of n among the 384 answers that stay
    stay = (~drop).nonzero()[:, 1].view(16, 384)
    score, gold = score.gather(1, stay), bench.gold.gather(1, stay)
    return proxies.pushed(score, gold, [*ns[:-1], 384])

some = [torch.rand(16, 512, generator=x).argsort(1) for x in dice]
usual = torch.stack([without(rank >= 384, s) for s in judges[1600]])
control = torch.stack([without(some[k] >= 384, judges[1600][k]) for k in range(10)])

# %%
gain = {"the proxy": truth[1600], "same errors, shuffled": harmless,
        "without the rarest quarter": usual, "without a random quarter": control}
gain = {name: x - x[:, :1] for name, x in gain.items()}
mean_gain = {name: x.mean(0) for name, x in gain.items()}
show(plots.best_of_n(ns, {"true reward against a blind draw, points": mean_gain},
                     title="Shuffle the errors, and the fall is gone",
                     note="mean of 10 label sets of 1,600"))

# %% tags=["hide-input"]
end = {name: x[-1].item() for name, x in mean_gain.items()}
claim("the rarest quarter is worth least and supplies the most winners",
      worth[3] == min(worth) and share[3] == max(share), kind="S")
low, half = rlhf.evaluate.exams.clustered(gain["same errors, shuffled"][:, -1])
claim("with errors shuffled, the favourite beats a blind draw", low > half, kind="S")
claim("without the rarest quarter, not without a random one, most of the fall is gone",
      end["without the rarest quarter"] > end["the proxy"] / 2
      > end["without a random quarter"], kind="S")

# %% [markdown]
# The same judge, with the same errors, is harmless once the errors no longer follow the truth. And most of the harm sits in a quarter of the answers, which can be named without knowing the truth. (Part of it: each curve is compared with a blind draw from the answers that stayed.)
#
# *Overfitting* is something else. An overfitted judge is wrong on fresh pairs of the same kind; a held-out set shows it. Over-optimization leaves that kind: the pushed answers are unlike most that were labelled.
#
# > **Keep this:** independent errors are harmless on average. Errors that are largest where answers are rare and bad are not.
#
# ## Idea 4: Reinforcement learning goes further
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
# **The loop.** The proxy is the head from above, on the frozen states of the start model. No KL penalty, 24 steps of eight new requests: harmful ones, which should be refused, and *look-alikes*, which only sound harmful. After every step, three unseen requests are answered for the slider below.

# %%
def rloo_steps(policy, rows, judge, dice, rate=3e-4, size=8):
    optimizer, log = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0), []
    for step in range(len(rows) // size):
        asked = [row["prompt"] for row in rows[size * step:size * step + size]]
        rollout = rlhf.sampling.answer(policy, tokenizer, asked, n=4, generator=dice)
        r = judge(rollout).view(size, 4)
        advantage = r - (r.sum(1, keepdim=True) - r) / 3
        logp = rlhf.rollout.completion_logps(policy, rollout)
        loss = -(advantage.flatten() * (logp * rollout.mask).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        log.append((r.mean().item(), gold_of(asked, rollout), look(policy)))
    return log

# %%
raw = bench.state @ weight.float()
unseen = rlhf.evaluate.exams.requests(3, seed=run.seed)

def judge(rollout):  # the proxy, zero at the mean of the stored answers
    with torch.no_grad():
        state = rlhf.reward_model.last_state(start, rollout.ids, rollout.attention)
    return (state @ weight.float() - raw.mean()) / raw.std(1).mean()

def gold_of(asked, rollout):  # for the log only; the loss never reads it
    texts = rollout.texts(tokenizer)
    true = [rlhf.village.gold(asked[i // 4], x) for i, x in enumerate(texts)]
    return sum(true) / len(true)

# %%
def look(policy):  # the answers to three unseen requests, always with the same dice
    dice = torch.Generator().manual_seed(run.seed)
    found = rlhf.evaluate.exams.exam(policy, tokenizer, unseen, generator=dice)
    asked = [row["prompt"] for row in unseen]
    return list(zip(asked, found.texts, found.gold.tolist(), strict=True))

rows = rlhf.evaluate.exams.requests(8 * run.steps(24), split="train", seed=run.seed + 1)
policy = rlhf.models.copy_of(start)
log = rloo_steps(policy, rows, judge, run.fresh("live"))

# %%
live = torch.tensor([row[:2] for row in log])
means = torch.stack([some.mean(0) for some in live.split(4)])
at = [4 * i + 2.5 for i in range(len(means))]
show(plots.two_panels({"proxy, standard deviations": {"proxy": (at, means[:, 0])},
                       "true reward, points": {"gold": (at, means[:, 1])}},
                      title="Live: the proxy climbs, the truth does not follow",
                      zero=False, x_label="RLOO step",
                      note="means over 4 steps of 32 answers"))

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
lines = {"step": list(range(1, len(log) + 1)), "proxy": live[:, 0].tolist(),
         "gold": live[:, 1].tolist()}
texts = {i + 1: log[i][2] for i in range(0, len(log), 2)}
explorers.scrubber(lines, parts, texts, over=1, title="the run, step by step").show()

# %% tags=["hide-input"]
claim("the live run climbs its proxy, and the truth does not follow",
      means[-1, 0] > means[0, 0] + 0.3 and means[-1, 1] < means[0, 1] + 0.2, kind="T")
gold, proxies_rise = five.smooth("gold"), [y[-1] > y[0] for y in five.smooth("proxy")]
tops, last = [max(y) for y in gold], [y[-1] for y in gold]
kl_top = [kl[y.index(max(y))] for y, kl in zip(gold, five.smooth("kl"), strict=True)]
kl_end = [kl[-1] for kl in five.smooth("kl")]
kept = {"rl_top": tops, "rl_last": last, "kl_top": kl_top, "kl_end": kl_end}
for name, x in kept.items():
    quote(name, f"{min(x):.1f} to {max(x):.1f}")
fell = [y[-1] < y[0] < max(y) for y in gold]
claim("in all five recorded runs the proxy ends above, gold below its start",
      all(proxies_rise) and all(fell), kind="T")

# %% [markdown]
# Compare the first and the last answers. This run is short, and its judge knows little about such requests: the proxy climbs, the truth gains nothing. The five recorded runs of the first picture are longer, 90 steps of 64 answers, and their judge is better: a whole reward model, finetuned on about 700 honestly labelled pairs of such requests. There gold peaks at <!-- out rl_top --> points and ends at <!-- out rl_last --> (means over nine steps). The peaks lie at a KL of <!-- out kl_top --> nats from the start, the ends at <!-- out kl_end -->: first the policy learns what the labels say, and when little is left to gain there, it finds sentences that the judge likes and nobody asked for.
#
# Four things to know about this in practice:
#
# - **Chat tics.** “I am always happy to help” is the village's “as an AI language model”: phrases that a judge rewards everywhere soon stand everywhere.
# - **Over-refusal.** A judge that is sure about harm and unsure about the rest teaches a policy to refuse the harmless, too. The run at GPT-2 size shows it.
# - **Objective mismatch.** The reward model is trained to order pairs, and then it is maximised. Good accuracy on pairs says little about its largest values.
# - **A KL penalty** limits how far the policy goes. It need not change what is found on the way; the deeper notebook tests this.
#
# > **Keep this:** an optimiser that changes the texts leaves those that the labels were about.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong: warnings without the truth
#
# In practice nobody can draw the gold curve. Three signals need no truth. Each proposes the n at which it is highest. A *second judge* is a head fitted to 1,600 other labels of other pairs. *Likelihood* is minus the surprise of the picked answers.

# %%
dice = [run.fresh(f"second {k}") for k in range(10)]
second, _ = proxies.fits(bench, honest, 1600, dice, without=read[1600])
applause = [proxies.pushed(judges[1600][k], second[k], ns) for k in range(10)]
signals = {"the proxy": liked[1600], "a second judge": torch.stack(applause),
           "likelihood": proxies.pushed(judges[1600], -bench.surprise, ns)}
stops = {name: x.argmax(1) for name, x in signals.items()}
stops |= {"always n = 2": torch.full((10,), 1), "a blind draw": torch.full((10,), 0),
          "the truth (not available)": truth[1600].argmax(1)}
kept = {name: truth[1600].gather(1, i[:, None])[:, 0] for name, i in stops.items()}

# %%
chosen = {name: sorted({ns[i] for i in x.tolist()}) for name, x in stops.items()}
rows = {name: {"n chosen": " ".join(map(str, chosen[name])),
               "true reward kept": rlhf.evaluate.exams.clustered(x)}
        for name, x in kept.items()}
table(rows, corner="stop by", note="10 label sets; ± 95 % interval over label sets")
more = (kept["likelihood"] - kept["a second judge"]).mean()
lead = (kept["likelihood"] - kept["always n = 2"]).mean()
claim("likelihood keeps more truth than the second judge, but no more than n = 2",
      more > 0.3 and lead < 0.05, kind="S")

# %%
scaled = {name: x.mean(0) for name, x in {**signals, "gold": truth[1600]}.items()}
scaled = {name: (x - x[0]) / (x.max() - x.min()) for name, x in scaled.items()}
show(plots.best_of_n(ns, {"change since n = 1, each curve in its own range": scaled},
                     title="A second judge cheers on; the likelihood turns with gold",
                     note="mean of 10 label sets of 1,600"))

# %% [markdown]
# The second judge has its own labels, yet applauds what the first one picks. Both read *the same states* and extrapolate alike: a second opinion must be able to be wrong elsewhere. The likelihood knows nothing of quality, but it sees the policy leave the ordinary, and here that is where the harm is. Be careful with the praise: “always n = 2” does as well, and we found the signal while holding the truth.
#
# | trap | what you see | the number that tells |
# |---|---|---|
# | ship the checkpoint with the best proxy | a curve that only rises | likelihood of its answers under the start model |
# | a second judge on the same backbone | two curves that agree | its score on answers picked by a proxy with *shuffled* errors |
# | choose the checkpoint by gold, report the same gold | a fine number | gold on prompts that did not choose (exercise 17.3) |
# | trust accuracy on held-out pairs | the judge is right on most pairs | spread of its scores over the rarest answers |

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# A recorded run of PPO on SmolLM2-135M: fifty steps against a reward model of the same size. That judge is sure about harmful requests and hardly better than a coin on harmless look-alikes.

# %%
large = recorded("smollm2_ppo")
parts = {"reward model's score": {"proxy": "score"}, "true reward": {"gold": "gold"}}
show(plots.recorded_panels(large, parts, title="At 135M score and truth rise"))
cards(*large.texts()[3])
table(large.families({"harmful": "harmful requests", "lookalike": "look-alikes"}),
      note="true reward of held-out answers, ± 95 % interval over requests")

# %% [markdown]
# The mean of gold says that all is well. By kind of request it is a refusal for everything, which earns 3 points on a harmful request and 0 on a harmless one. Where the judge is blind, nothing pulls the policy back. What carries over: the policy takes what the judge pays for. What does not: within fifty steps the true mean does not fall, because this model's own attempts to help were worth less than nothing.

# %% [markdown] rlhf={"part": "exercises"}
# ## Exercises
#
# ### Exercise 17.1 · Which checkpoint do you ship?
#
# You log the proxy and the KL of every checkpoint, and you can buy 100 gold labels. `ask(step, n)` buys n labels of one checkpoint and returns them as a list; each is the true reward plus noise of one point. Return the step to ship. The check simulates thirty runs and accepts a rule that loses less than 15 % of the best gain.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex17-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def keep(proxy, kl, ask):
    """Two lists, one number a checkpoint, and ask(step, n) -> the step to ship."""
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
# Idea 1 has gold with mean 0 and variance 1. Now true values have mean `mean` and standard deviation `spread`, the proxy adds independent noise of standard deviation `noise`, and an answer scores `r`. What is its true value on average? First say what must come out for huge noise, and for none.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex17-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def expected_truth(r, mean, spread, noise):
    """Four numbers -> E[gold | proxy = r]."""
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
# A colleague measured gold on a set of prompts at every checkpoint: `table` has a row for each prompt (an even number) and a column for each checkpoint. She ships the best column and reports its mean, so the luck of the choice is in the number. Repair the report: choose on the first half of the prompts and report on the second, swap, and average the two. Below: the lesson's proxy, its sixteen prompts in two halves.
#
# <details><summary>Hint</summary>
# Two vectors of column means, one for each half. The best column of each is looked up in the other.
# </details>
#
# <!-- solution 17.3 -->

# %%
each = rlhf.best_of_n.curve(proxy.flatten(), bench.gold.flatten(), 512, ns)  # (16, 10)
halves = {"first eight prompts": each[:8].mean(0), "last eight": each[8:].mean(0)}
show(plots.best_of_n(ns, {"true reward, points": halves},
                     title="Gold of the best of n on two halves of the prompts"))

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex17-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def honest_report(table):
    """(prompts, checkpoints) gold -> one number."""
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
# We trained a judge on honest comparisons and pushed it: the judge's score rose to the end, and the true reward rose, turned and fell below a blind draw. Random mistakes cannot do that, because among answers with the same mistake the better ones are still picked more often. When we shuffled the judge's mistakes, the fall was gone; they had been largest among rare answers, and rare answers were bad. Reinforcement learning writes answers that nobody labelled, and repeats what the judge likes. A second judge that sees the same states applauds; how unusual the answers become is a warning, and a few true labels at chosen moments tell more.
#
# In the book: chapter 14, Over-optimization. Next: chapter 18, Style and information. Proofs, the published laws, ensembles, sycophancy and the alignment tax are in the [deeper notebook](deeper/17_over_optimization.ipynb).
#
# <!-- nav -->
