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
# Move the slider, and read what wins as n grows: the three prompts of above, the best by proxy of the first n stored answers. (Curves: the proxy of above, mean over sixteen prompts.)

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
shown = won.argsort()[[0, 8, 15]].tolist()
picks = {n: [(i, proxy[i, :n].argmax()) for i in shown] for n in ns}
texts = {n: [(bench.prompt(i), bench.text(i, j, tokenizer), bench.gold[i, j].item()) for i, j in row]
         for n, row in picks.items()}
means = {name: proxies.pushed(proxy, x, ns).tolist() for name, x in (("proxy", proxy), ("gold", bench.gold))}
explorers.scrubber({"step": ns} | means,
                   {"proxy, standard deviations": {"proxy": "proxy"}, "true reward, points": {"gold": "gold"}},
                   texts, along="n", over=1, log=True, title="what the proxy picks from the first n answers").show()

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
# The proxy is the head from above, on the frozen states of the start model. No KL penalty, 24 steps of eight new requests: harmful ones, which should be refused, and *look-alikes*, which only sound harmful.

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

# %%
def judge(rollout):  # the proxy of an answer, in the units of above
    with torch.no_grad():
        state = rlhf.reward_model.last_state(start, rollout.ids, rollout.attention)
    return (state @ weight.float()) / unit


def gold_of(asked, rollout):  # the log keeps it for us; the loss never reads it
    texts = rollout.texts(tokenizer)
    return sum(rlhf.village.gold(asked[i // 4], x) for i, x in enumerate(texts)) / len(texts)

unit = (bench.state @ weight.float()).std(1).mean()
requests = rlhf.evaluate.exams.requests(8 * run.steps(24), split="train", seed=run.seed + 1)
policy = rlhf.models.copy_of(start)
live = rloo_steps(policy, requests, judge, run.fresh("live"))

# %% tags=["hide-input"]
means = live[: len(live) // 6 * 6].view(-1, 6, 2).mean(1)
show(plots.panels({"proxy, standard deviations": {"proxy": (range(3, len(live), 6), means[:, 0])},
                   "true reward, points": {"gold": (range(3, len(live), 6), means[:, 1])}},
                  title="Live: the proxy climbs", x_label="RLOO step (means over 6 steps of 32 answers)",
                  zero=False, note="village-3m-sft, one run"))
claim("the live run climbs its proxy", means[-1, 0] > means[0, 0], kind="T")

# %% tags=["hide-input"]
gold, proxies_rise = five.smooth("gold"), [y[-1] > y[0] for y in five.smooth("proxy")]
tops, last = [max(y) for y in gold], [y[-1] for y in gold]
quote("rl_top", f"{min(tops):.1f} to {max(tops):.1f}")
quote("rl_last", f"{min(last):.1f} to {max(last):.1f}")
at_top = [kl[y.index(max(y))] for y, kl in zip(gold, five.smooth("kl"), strict=True)]
at_end = [kl[-1] for kl in five.smooth("kl")]
quote("kl_top", f"{min(at_top):.1f} to {max(at_top):.1f}")
quote("kl_end", f"{min(at_end):.0f} to {max(at_end):.0f}")
claim("in all five recorded runs the proxy ends above its start and gold below its start",
      all(proxies_rise) and all(y[-1] < y[0] < max(y) for y in gold), kind="T")

# %% [markdown]
# One short run is an anecdote, and whether gold has turned by then differs from seed to seed. The five recorded runs of the first picture are longer: 90 steps of 64 answers, against a whole reward model that was finetuned on about 700 honestly labelled pairs. There gold peaks at <!-- out rl_top --> points and ends at <!-- out rl_last --> (means over nine steps). The peaks lie at a KL of <!-- out kl_top --> nats from the start, the ends at <!-- out kl_end -->: first the policy learns what the labels say, and when little is left to gain there, it finds sentences that the judge likes and nobody asked for.
#
# Four things to know about this in practice:
#
# - **Chat tics.** “I am always happy to help” is the village's “as an AI language model”: phrases that a judge rewards everywhere soon stand everywhere.
# - **Over-refusal.** A judge that is sure about harm and unsure about the rest teaches a policy to refuse the harmless, too. Part 8 shows it.
# - **Objective mismatch.** The reward model is trained to order pairs, and then it is maximised. Good accuracy on pairs says little about its largest values.
# - **A KL penalty** limits how far the policy goes. It need not change what is found on the way; the deeper notebook tests this.
#
# > **Keep this:** the better the optimiser, the sooner it leaves the texts that the labels were about.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong: warnings without the truth
#
# In practice nobody can draw the gold curve. Three signals need no truth. Each proposes the n at which it is highest. A *second judge* is a head fitted to 1,600 other labels of other pairs. *Likelihood* is minus the surprise of the picked answers.

# %%
second = [proxies.fitted(bench, honest, 1600, run.fresh(f"second {k}"), without=labels)[0]
          for k, labels in enumerate(read[1600])]
signals = {"the proxy itself": liked[1600],
           "a second judge": torch.stack([proxies.pushed(s, x, ns) for s, x in zip(judges[1600], second)]),
           "likelihood": torch.stack([proxies.pushed(s, -bench.surprise, ns) for s in judges[1600]])}
stops = {name: x.argmax(1) for name, x in signals.items()}
stops |= {"always n = 2": torch.ones(10, dtype=int), "always n = 1, a blind draw": torch.zeros(10, dtype=int),
          "the truth (not available)": truth[1600].argmax(1)}
kept = {name: truth[1600].gather(1, i[:, None])[:, 0] for name, i in stops.items()}

# %% tags=["hide-input"]
table({name: {"n chosen": " ".join(str(ns[i]) for i in sorted(set(stops[name].tolist()))),
              "true reward kept": rlhf.evaluate.exams.clustered(x)} for name, x in kept.items()},
      corner="stop by", note="10 label sets, 16 prompts; ± 95 % interval over label sets")
claim("stopping by likelihood keeps more truth than stopping by the second judge",
      kept["likelihood"].mean() > kept["a second judge"].mean() + 0.3, kind="S")
claim("but always n = 2 does as well as likelihood",
      kept["always n = 2"].mean() > kept["likelihood"].mean() - 0.05, kind="S")

# %% tags=["hide-input"]
scaled = {name: x.mean(0) for name, x in signals.items()} | {"gold": truth[1600].mean(0)}
scaled = {name: (x - x[0]) / (x.max() - x.min()) for name, x in scaled.items()}
show(plots.line_plot({name: (roots, x) for name, x in scaled.items()},
                     title="A second judge keeps cheering; the likelihood turns with gold",
                     x_label="√KL of best-of-n (upper bound), √nats",
                     y_label="change, in units of each curve's own range", note="mean of 10 label sets"),
     "Line plot of four curves, each in its own range: proxy and second judge climb to the end, gold and "
     "the likelihood of the picked answers rise briefly and then fall together.")

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

# %% tags=["hide-input"]
large = recorded("smollm2_ppo")
show(plots.recorded_panels(large, {"reward model's score": {"proxy": "score"}, "true reward, points": {"gold": "gold"}},
                           title="At 135M: score and truth rise together", note="smollm2-135m, LoRA, one run"))
prompt, texts = large.texts()[3]
cards(prompt, texts)

# %% tags=["hide-input"]
rows = {}
for family, name in (("harmful", "harmful requests"), ("lookalike", "harmless look-alikes")):
    rows[name] = {when: (large.held_out[when][family]["mean"], 1.96 * large.held_out[when][family]["standard_error"])
                  for when in ("before", "after")}
table(rows, note="true reward of held-out answers, ± 95 % interval over requests")
claim("the mean rises while look-alikes end at the value of a refusal",
      large.gain()[0] > 0 and abs(rows["harmless look-alikes"]["after"][0]) < 0.3, kind="T")

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
    looks = [int((root - share * root[-1]).abs().argmin()) for share in (0.2, 0.4, 0.6, 0.8, 1)]
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
# A colleague measured gold on a set of prompts at every checkpoint: `table` has a row for each prompt (an even number) and a column for each checkpoint. She ships the best column and reports its mean, so the luck of the choice is in the number. Repair the report: choose on the first half of the prompts and report on the second, swap, and average the two.

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

# %% [markdown]
# <details><summary>Hint</summary>
# Two vectors of column means, one for each half. The best column of each is looked up in the other.
# </details>
#
# <!-- solution 17.3 -->

# %% [markdown] rlhf={"part": "retell"}
# ## Retell it
#
# We trained a judge on honest comparisons and pushed it: the judge's score rose to the end, and the true reward rose, turned and fell below a blind draw. Random mistakes cannot do that, because among answers with the same mistake the better ones are still picked more often. When we shuffled the judge's mistakes, the fall was gone; they had been largest among rare answers, and rare answers were bad. Reinforcement learning finds such answers by itself and repeats them. A second judge that sees the same states applauds; how unusual the answers become is a warning, and a few true labels at well chosen moments are the best one.
#
# In the book: chapter 14, Over-optimization. Next: [Style and information](https://rlhfbook.com/c/19-style). Proofs, the published laws, ensembles, sycophancy and the alignment tax are in the [deeper notebook](deeper/17_over_optimization.ipynb).
#
# <!-- nav -->
