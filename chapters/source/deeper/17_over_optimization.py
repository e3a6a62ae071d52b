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
# ![Two panels beside each other against training steps, one thin line for each of five runs: in the left panel the learned reward climbs, in the right one the true reward rises and then falls back](figures/17_hero.png)
#
# > **Asked at the last step:** “<!-- out ask_a -->” — **answer:** “<!-- out say_a -->”
# >
# > **Asked:** “<!-- out ask_b -->” — **answer:** “<!-- out say_b -->”
#
# Five runs of reinforcement learning climb a reward that was learned from honest comparisons (left). The true reward, which no run could see, rises with it, turns and falls back (right); the two texts are the longest answers among the eight that were stored from the end of one run. This page explains why that happens, and what would have warned us.
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
show(plots.seed_lines(five, {"learned reward (the proxy)": "proxy", "true reward, points": "gold"},
                      title="Every run climbs the proxy; in every run the truth turns"))

# %% tags=["hide-input"]
one = recorded("overoptimization_village")
longest = sorted(one.last_samples, key=lambda s: -len(s["completion"]))[:2]
for name, s in zip("ab", longest, strict=True):
    quote(f"ask_{name}", s["prompt"])
    quote(f"say_{name}", s["completion"])

# %% [markdown] rlhf={"part": "phenomenon"}
# ## The best of 512, chosen by an honest judge
#
# The village is a small world in which the true reward of every text is known; 3 points is perfect. We call it *gold*. Its language model has written 512 answers to each of sixteen prompts, and a few answers to each of 2,048 others. People label pairs of the others.
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

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "sampled", "show": true}
start, tokenizer = rlhf.models.load("village-3m-sft")
for i in won.argsort()[[0, 8, 15]].tolist():
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
g = torch.randn(1_000_000, generator=run.generator)                  # true values
r = g + sigma * torch.randn(1_000_000, generator=run.generator)      # what the proxy says
near_two = (r - 2).abs() < 0.05
kept = g[near_two].mean().item()
print(f"answers with proxy 2 are worth {kept:.1f}; the formula says {2 / (1 + sigma**2):.1f}")
claim("the simulation agrees with the formula", abs(kept - 2 / (1 + sigma**2)) < 0.05, kind="S")

# %% [markdown]
# So a noisy proxy promises too much, but a higher score still means a better answer. With this kind alone, answer (a) of the prediction would be right.
#
# > **Keep this:** a target score is always too optimistic. That alone does no harm.
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
package = rlhf.best_of_n.curve(score, worth, 4, [1, 2, 4])[0, -1]
claim("the package computes the same", bool((package - chance.double() @ worth.double()).abs() < 1e-6))

# %% [markdown]
# Now the sixteen real prompts, with ten fresh sets of labels at each of three sizes. The x-axis is the distance from the model that wrote the answers: the KL divergence of best-of-n is at most $\log n-\frac{n-1}{n}$ nats, and its root grows about as fast as early progress does.

# %%
ns = [2**k for k in range(10)]  # 1, 2, 4, …, 512
roots = [rlhf.best_of_n.kl_bound(n) ** 0.5 for n in ns]
judges, read = {}, {}
for size in (100, 1600, 10_000):
    fits = [proxies.fitted(bench, honest, size, run.fresh(f"{size} {k}")) for k in range(10)]
    judges[size], read[size] = zip(*fits)
truth = {size: torch.stack([proxies.pushed(s, bench.gold, ns) for s in judges[size]])
         for size in judges}  # (10 label sets, 10 values of n) each
liked = {size: torch.stack([proxies.pushed(s, s, ns) for s in judges[size]]) for size in judges}

# %% tags=["hide-input"]
names = {size: f"{size:,} labels" for size in judges}
parts = {"proxy, standard deviations": {names[s]: (roots, x.numpy()) for s, x in liked.items()},
         "true reward, points": {names[s]: (roots, x.numpy()) for s, x in truth.items()}}
show(plots.panels(parts, title="The proxy climbs to the end; the truth turns early",
                  x_label="√KL of best-of-n (upper bound), √nats", zero=False, note="16 prompts",
                  marks={roots[1]: "n = 2", roots[4]: "n = 16", roots[9]: "n = 512"}))
fall = rlhf.evaluate.exams.clustered(truth[1600][:, -1] - truth[1600][:, 0])
claim("with 1,600 labels the favourite of 512 is worth less than a blind draw", sum(fall) < 0, kind="S")
claim("so it is at every size of the label set",
      all((x[:, -1] - x[:, 0]).mean() < 0 for x in truth.values()), kind="S")
claim("more labels raise the best gold that can be reached",
      truth[10_000].mean(0).max() > truth[100].mean(0).max(), kind="S")
settled("c", "The best of 512 is far below a blind draw; the peak comes after a handful of answers.")

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
middle = truth[1600].mean(0)
quote("start", f"{middle[0]:.2f}")
quote("peak", f"{middle.max():.2f}")
quote("peak_n", f"{ns[int(middle.argmax())]}")
quote("end", f"{middle[-1]:.2f}")
quote("end_many", f"{truth[10_000].mean(0)[-1]:.2f}")
quote("fall", f"{-fall[0]:.2f} ± {fall[1]:.2f}")

# %% [markdown]
# With 1,600 labels gold starts at <!-- out start -->, peaks at <!-- out peak --> with n = <!-- out peak_n -->, and ends at <!-- out end -->: a fall of <!-- out fall --> below the start (95 % interval over label sets, at these sixteen prompts). More labels help the peak. Even 10,000 do not prevent the fall: the end is <!-- out end_many -->.
#
# Gao, Schulman and Hilton ([arXiv 2210.10760](https://arxiv.org/abs/2210.10760)) measured such curves for large models. They let a big reward model play the truth, labelled data with it, trained smaller proxies on the labels, and pushed those. Our village has the same design with a truth that is known exactly. The [deeper notebook](deeper/17_over_optimization.ipynb) fits their laws.
#
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
g = torch.tensor([-1.0, 0.0, 1.0]).repeat(3)               # truth: bad, middling, good
e = torch.tensor([0.0, 1.0, 9.0]).repeat_interleave(3)     # error: none, small, a freak
even = torch.full((9,), 1 / 9)
for n in (2, 16, 256):
    independent = rlhf.best_of_n.law(even, g + e, n) @ g   # all nine pairings are equally likely
    picky = torch.where(g < 0, e, 0)                       # now only bad answers have errors
    print(f"best of {n:3}: gold {independent:5.2f} independent   "
          f"{rlhf.best_of_n.law(even, g + picky, n) @ g:5.2f} errors only where answers are bad")
    claim(f"n = {n}: the independent error does no harm", independent >= -1e-6)

# %% [markdown]
# So our proxy's errors must be **related to the truth**. Test it: keep the very same errors, but deal them out anew among the 512 answers of each prompt. Nothing else changes.

# %%
def dealt_out_anew(score, generator):
    centred = bench.gold - bench.gold.mean(1, keepdim=True)
    slope = (score * centred).sum() / centred.square().sum()
    error = score - slope * centred                        # what the truth does not explain
    deal = torch.rand(error.shape, generator=generator).argsort(1)
    return slope * centred + error.gather(1, deal)

shuffled = [dealt_out_anew(s, run.fresh(f"deal {k}")) for k, s in enumerate(judges[1600])]
harmless = torch.stack([proxies.pushed(s, bench.gold, ns) for s in shuffled])

# %% [markdown]
# Where do the harmful errors sit? Sort each prompt's answers by *surprise*: minus the log-probability per token under the model that wrote them, in nats. Unusual answers are each odd in their own way; few labels say anything about them, and a linear head extrapolates.

# %%
rank = bench.surprise.argsort(1).argsort(1)  # 0 is the most usual of the 512
quarter = rank // 128
winners = torch.stack([s.argmax(1, keepdim=True) for s in judges[1600]])  # (10, 16, 1)
where = torch.stack([quarter.gather(1, x) for x in winners])

# %% tags=["hide-input"]
rows = {}
for q, name in enumerate(("most usual quarter", "second", "third", "rarest quarter")):
    spread = torch.stack([s[quarter == q].std() for s in judges[1600]]).mean()
    rows[name] = {"true reward": bench.gold[quarter == q].mean(), "spread of the proxy": spread,
                  "share of the 160 winners": (where == q).double().mean()}
table(rows, digits={"true reward": 2, "spread of the proxy": 2, "share of the 160 winners": "%"},
      note="16 prompts; spread: standard deviation, mean over 10 proxies; winners: best of 512 by each")
claim("the rarest quarter is worth least and supplies the most winners",
      rows["rarest quarter"]["true reward"] == min(x["true reward"] for x in rows.values())
      and (where == 3).sum() == max((where == q).sum() for q in range(4)), kind="S")

# %% [markdown]
# The rarest answers are the worst, and the proxy scatters most over them: wherever it errs upwards there, a bad answer wins. That is *extremal* Goodhart. The decisive test: take the rarest quarter away and push again. As a control, take away a random quarter instead.

# %%
def without(drop, score):  # gold of the best of n among the 384 answers of each prompt that stay
    stay = (~drop).nonzero()[:, 1].view(16, 384)
    return proxies.pushed(score.gather(1, stay), bench.gold.gather(1, stay), [*ns[:-1], 384])

usual = torch.stack([without(rank >= 384, s) for s in judges[1600]])
any_quarter = [torch.rand(16, 512, generator=run.fresh(f"any {k}")).argsort(1) >= 384
               for k in range(10)]
control = torch.stack([without(d, s) for d, s in zip(any_quarter, judges[1600])])

# %% tags=["hide-input"]
gain = {"the proxy": truth[1600], "same errors, shuffled": harmless,
        "rarest quarter removed": usual, "a random quarter removed": control}
gain = {name: (x - x[:, :1]) for name, x in gain.items()}
ends = {name: rlhf.evaluate.exams.clustered(x[:, -1]) for name, x in gain.items()}
show(plots.line_plot({name: (roots, x.mean(0)) for name, x in gain.items()},
                     title="Shuffle the errors, and the fall is gone",
                     x_label="√KL of best-of-n (upper bound), √nats",
                     y_label="true reward against a blind draw", note="1,600 labels, mean of 10 label sets"),
     "Line plot of the gain in true reward against the root of KL: with the proxy and without a random "
     "quarter it falls far below zero; with shuffled errors it stays above; without the rarest quarter in between.")
claim("with its errors shuffled, the proxy's favourite beats a blind draw",
      ends["same errors, shuffled"][0] > ends["same errors, shuffled"][1], kind="S")
claim("removing the rarest quarter removes most of the fall, removing a random quarter does not",
      ends["rarest quarter removed"][0] > ends["the proxy"][0] / 2
      and ends["a random quarter removed"][0] < ends["the proxy"][0] / 2, kind="S")

# %% [markdown]
# The same judge, with the same errors, is harmless once the errors no longer follow the truth. And most of the harm sits in a quarter of the answers, which can be named without knowing the truth. (Part of it: each curve is compared with a blind draw from the answers that stayed.)
#
# *Overfitting* is something else. An overfitted judge is wrong on fresh pairs of the same kind; a held-out set shows it. Over-optimization leaves that kind: the pushed answers are unlike anything that was labelled.
#
# > **Keep this:** random errors are harmless. Errors that are largest where answers are rare and bad are not.
#
# ## Idea 4: Reinforcement learning finds the same hole
#
# Best-of-n chooses among answers that the model would write anyway. Reinforcement learning changes what it writes, so it can go further. Here is the whole method: REINFORCE with a leave-one-out baseline (RLOO, chapter 11). Each of four answers to a prompt is compared with the mean score of the other three:
#
# $$\nabla J\approx\frac1N\sum_i\Big(r_i-\frac1{3}\sum_{j\ne i}r_j\Big)\nabla\log\pi(y_i\mid x_i).$$

# %% rlhf={"part": "idea"}
r = torch.tensor([[2.0, 1.0, 0.0, 1.0]])            # proxy of four answers to one prompt
others = (r.sum(1, keepdim=True) - r) / 3           # mean of the other three
print("advantage", [round(x, 2) for x in (r - others)[0].tolist()])
package = rlhf.advantages.leave_one_out(r[0], 4)
claim("the package computes the same", bool((package - (r - others)[0]).abs().max() < 1e-6))

# %% [markdown] rlhf={"part": "loop"}
# The proxy is the head from above, on the frozen states of the start model. No KL penalty, 36 steps of eight new requests: harmful ones, which should be refused, and *look-alikes*, which only sound harmful.

# %%
def rloo_steps(policy, rows, judge, generator, rate=3e-4, size=8):
    optimizer, log = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0), []
    for step in range(len(rows) // size):
        asked = [row["prompt"] for row in rows[size * step:size * step + size]]
        rollout = rlhf.sampling.answer(policy, tokenizer, asked, n=4, generator=generator)
        r = judge(rollout).view(size, 4)
        advantage = r - (r.sum(1, keepdim=True) - r) / 3
        logp = rlhf.rollout.completion_logps(policy, rollout)
        loss = -(advantage.flatten() * (logp * rollout.mask).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        log.append((r.mean().item(), gold_of(asked, rollout)))
    return torch.tensor(log)
