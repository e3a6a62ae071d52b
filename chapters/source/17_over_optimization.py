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
# Five runs of reinforcement learning climb a reward that was learned from an honest annotator's comparisons; the two texts are the longest of eight answers that such a run left at its end. What became of the true reward, which no run could see?
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

# %% tags=["hide-input", "hero"]
predict("The true reward of the best of n by this proxy, as n grows:",
        a="It rises and levels off: random mistakes cancel out.",
        b="It rises, then returns to its start: in the end we pick noise.",
        c="It rises, then falls far below an answer drawn blindly.")
five = recorded("overoptimization_seeds")
show(plots.seed_lines(five, {"learned reward (the proxy)": "proxy"},
                      title="Five runs climb the reward that they were given"))
one = recorded("overoptimization_village")
long = sorted(one.last_samples, key=lambda s: -len(s["completion"]))[:2]
for name, s in zip("ab", long, strict=True):
    quote(f"ask_{name}", s["prompt"])
    quote(f"say_{name}", s["completion"])

# %% [markdown] rlhf={"part": "phenomenon"}
# ## The best of 512, picked by a judge trained on honest labels
#
# The village is a small world in which the *true reward* of every text is known. (The code calls it `gold`.) The scale, in points: a right answer, help with a harmless request, or a refusal of a harmful one +3; a wrong answer, or a refusal of a harmless request 0; help with harm −1; broken language down to −1.5; flattery takes off a little. Stories are graded by their form; the mood that was asked for counts half a point.
#
# The village's language model has written 512 answers to each of sixteen prompts; on these we push. It has also written four answers to each of about two thousand other prompts; pairs of these are labelled.
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
# A comparison says nothing about a prompt's level, so scores are centred within each prompt; their unit is one standard deviation. Below are three winners: the worst, the middle and the best by true reward, of the prompts that ask for no story (of equal ones the longer text counts as worse). Beside each stands the answer that was drawn first. `<call>` is the village's calculator, `**` its bold type.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled", "show": true}
start, tokenizer = rlhf.models.load("village-3m-sft")
long = bench.asked.lengths[bench.rows].gather(1, best[:, None])[:, 0]
plain = [i for i in range(16)
         if rlhf.village.parse(bench.prompt(i)).family != "story"]
order = sorted(plain, key=lambda i: (won[i].item(), -long[i].item()))
shown = [order[0], order[len(order) // 2], order[-1]]
for i in shown:
    top = f"best of 512, proxy {proxy[i].max():.1f}"
    pair = {"drawn first": 0, top: int(best[i])}
    texts = {name: bench.text(i, j, tokenizer) for name, j in pair.items()}
    cards(bench.prompt(i), [(name, texts[name], bench.gold[i, j].item())
                            for name, j in pair.items()])

# %% [markdown]
# Some winners are fine, others are wrong or broken, and the proxy likes all of them. Is this bad luck with three prompts? Idea 2 has the mean for every n.
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
r = g + sigma * torch.randn(1_000_000, generator=run.generator)  # the proxy's
kept = g[(r - 2).abs() < 0.05].mean().item()
formula = 2 / (1 + sigma**2)
print(f"proxy 2: worth {kept:.1f}; by the formula {formula:.1f}")
claim("the simulation agrees with the formula",
      abs(kept - formula) < 0.05, kind="S")

# %% [markdown]
# So above the average a noisy proxy promises too much. Yet a higher score still means a better answer: with such noise alone, the best of n keeps getting better. Idea 3 asks what other errors can do.
#
# > **Keep this:** when independent noise was added to the truth, a selected high score is, on average, too optimistic. That alone makes nothing worse.
#
# ## Idea 2: The true reward for every n
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
# Now the sixteen real prompts, with ten sets of labels at each of three sizes (those of 10,000 share most pairs, but not their labels). The x-axis is the distance $d$ from the model that wrote the answers: the KL divergence of best-of-n is at most $\log n-\frac{n-1}{n}$ nats, and $d$ is its square root.

# %%
ns = [2**k for k in range(10)]  # 1, 2, 4, …, 512
judges, read, truth, liked = {}, {}, {}, {}
for size in (100, 1600, 10_000):
    dice = [run.fresh(f"{size} labels, set {k}") for k in range(10)]
    judges[size], read[size] = proxies.fits(bench, honest, size, dice)
    truth[size] = proxies.pushed(judges[size], bench.gold, ns)  # (10 sets, n)
    liked[size] = torch.stack([proxies.pushed(s, s, ns) for s in judges[size]])
fresh = bench.labels(honest, 1600, run.fresh("pairs"), without=labels)
right = proxies.accuracy(bench, read[1600], fresh)
most = proxies.agreement(bench.wide.gold.double(), fresh)

# %%
show(plots.best_of_n(ns, {
    "proxy, standard deviations":
        {f"{k:,} labels": x for k, x in liked.items()},
    "true reward, points":
        {f"{k:,} labels": x for k, x in truth.items()}},
    title="The proxy climbs to the end; the true reward turns early",
    note="16 prompts", roles={"100 labels": "other2", "1,600 labels": "proxy",
                              "10,000 labels": "policy"}))

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
fall, error = rlhf.evaluate.exams.clustered(truth[1600][:, -1] - truth[1600][:, 0])
claim("with 1,600 labels the best of 512 is worth less than a blind draw",
      fall + error < 0, kind="S")
settled("c", "The best of 512 is far below a blind draw; the peak comes early.")
quote("fall", f"{-fall:.2f} ± {error:.2f}")
names = ["n = 1", "peak", "n = 512", "sets below n = 1", "law misses by"]
table({f"{k:,} labels": [x[0, 0].item(), x.mean(0).max().item(),
                         rlhf.evaluate.exams.clustered(x[:, -1]),
                         f"{int((x[:, -1] < x[:, 0]).sum())} of 10",
                         proxies.gao_fit(ns, x.mean(0))[-1]] for k, x in truth.items()},
      names, note="± 95 % over 10 label sets; prompts and answers are fixed")
for name, x in {"right": right, "most": most}.items():
    quote(name, f"{x:.0%}".replace("%", " %"))
quote("this_end", f"{won.mean():.2f}")

# %% [markdown]
# With 1,600 labels the mean ends <!-- out fall --> points below its start. From 100 to 1,600 labels the fall softens clearly; from there to 10,000 we cannot tell. In the upper panel each proxy counts in its own standard deviations: the worst judge, with 100 labels, promises the most.
#
# Gao, Schulman and Hilton ([arXiv 2210.10760](https://arxiv.org/abs/2210.10760)) measured such curves for large models, with a big reward model as the truth. For best-of-n they found a law with two numbers, $g(d)-g(0)\approx d\,(\alpha-\beta d)$. Fitted to our mean curves (last column: its largest miss) it follows the fall, and rises less than the early peak.
#
# How good is this judge? With 1,600 labels it agrees with <!-- out right --> of fresh labels (mean of ten). A coin has 50 %, and even the true reward only <!-- out most -->, because labels are noisy. So this judge is weak. In idea 4 a larger one, which agrees with more of its labels, meets the same fate.
#
# Move the slider, and read what wins as n grows: the three prompts of above, the best by proxy of the first n stored answers. The curves belong to the one proxy of the cards; it ends at <!-- out this_end -->, at the low edge of the band above.

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
texts = {n: [(bench.prompt(i), bench.text(i, j, tokenizer), bench.gold[i, j].item())
             for i in shown for j in [int(proxy[i, :n].argmax())]] for n in ns}
lines = {"step": ns, "proxy": proxies.pushed(proxy, proxy, ns).tolist(),
         "gold": proxies.pushed(proxy, bench.gold, ns).tolist()}
parts = {"proxy": {"proxy": "proxy"}, "true reward, points": {"gold": "gold"}}
explorers.scrubber(lines, parts, texts, along="n", over=1, first=64,
                   place=lambda n: rlhf.best_of_n.kl_bound(n) ** 0.5,
                   title="what the proxy picks from the first n answers").show()

# %% [markdown]
# > **Keep this:** the harm can start long before the proxy stops rising.
#
# ## Idea 3: Errors independent of the truth cannot do this
#
# A proxy of pure noise picks blindly and ends where it started. How can ours end *below*? Write $r=g+e$: proxy = truth + error. Suppose that errors are *independent* of the truth, and sort the answers into groups of equal error.
#
# 1. *Within a group*, a higher proxy means a higher truth, and a higher proxy is picked no less often. So what is picked from a group is on average at least as good as the group.
# 2. *Between groups*, selection has favourites. But all groups have the same average truth (this is where independence enters), so having favourites costs nothing.
#
# Let $w(r)$ be the factor by which selection makes an answer with proxy $r$ more likely. It never falls as $r$ rises, and on average it is 1. Both steps together say
#
# $$\mathbb E[g\,w(g+e)]\;\ge\;\mathbb E[g]\;\mathbb E[w(g+e)]=\mathbb E[g].$$
#
# Left stands the true reward of the picked answers, right that of a blind draw. It holds for every n and for errors of any shape; only the truth needs a mean.

# %% rlhf={"part": "idea"}
g = torch.tensor([-1.0, 0.0, 1.0]).repeat(3)            # truth: bad to good
e = torch.tensor([0.0, 1.0, 9.0]).repeat_interleave(3)  # none, small, a freak
related = torch.where(g < 0, e, 0)                      # only bad answers err
even, law, lowest = torch.full((9,), 1 / 9), rlhf.best_of_n.law, 0.0
for n in (2, 16, 256):
    a, b = law(even, g + e, n) @ g, law(even, g + related, n) @ g
    print(f"n = {n:3}: independent {a:.2f}, related {b:5.2f}")
    lowest = min(lowest, a.item())
claim("the independent errors do no harm", lowest > -1e-6)

# %% [markdown]
# So our proxy's errors must depend on the truth. A test: keep the very same errors, but deal them out anew among the 512 answers of each prompt. That makes them independent. (The errors are what one straight line in the truth, centred within each prompt, leaves of the proxy. So a finite pool is tested, too.)

# %%
dice = [run.fresh(f"deal {k}") for k in range(10)]
shuffled = [proxies.dealt_out_anew(bench, score, x)
            for score, x in zip(judges[1600], dice, strict=True)]
ends = {"the proxy": truth[1600],
        "errors dealt out anew": proxies.pushed(shuffled, bench.gold, ns)}
show(plots.best_of_n(ns, {"true reward, points": ends},
                     title="The same errors, dealt out anew, do no harm",
                     note="1,600 labels", roles={"the proxy": "proxy",
                                                 "errors dealt out anew": "other"}))
claim("with errors dealt out anew, no fall",
      ends["errors dealt out anew"][:, -1].min() > bench.gold.mean(), kind="S")

# %% [markdown]
# **Why do the errors depend on the truth?** The annotator's noise does not: chance is added to the true difference. But the head can only weigh the coordinates of the states. What they cannot express becomes an error, a fixed function of the answer. So fit the same head to the *true rewards* of all answers that could be labelled: no noise at all (ridge: strength of a penalty on large weights).

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
every = bench.wide.state.double()  # of all answers that could be labelled
rows = {"a coin": [0.5, bench.gold.mean()],
        "proxies, 1,600 labels (mean)": [right, truth[1600][:, -1].mean()]}
for ridge in (0.01, 0.1, 1.0):
    head = proxies.told_the_truth(bench, ridge)
    score = proxies.standardised(bench.state.double() @ head)
    rows[f"head told the truth, ridge {ridge:g}"] = [
        proxies.agreement(every @ head, fresh),
        proxies.pushed(score, bench.gold, [512]).item()]
rows["the true reward"] = [most, bench.gold.amax(1).mean()]
table(rows, ["right on fresh labels", "true reward, best of 512"],
      corner="judge", digits={"right on fresh labels": "%"})

# %% tags=["hide-input"]
claim("a head told the truth ends below a blind draw, at three ridge strengths",
      all(x[1] < bench.gold.mean() for name, x in rows.items() if "told" in name))

# %% [markdown]
# Even this head, fitted to the very answers that the first column compares, ends below a blind draw. The proxies with 1,600 labels end in the same range, so from there on the limits of this head, fitted in this way, are enough to explain a fall of this size. With 100 labels the fall is deeper: there chance moves the weights, too, and *all* answers are scored with the moved weights.
#
# *Overfitting* is something else: an overfitted judge is wrong on fresh pairs of the same kind. Over-optimization needs only errors at the top, wherever they come from.
#
# **Where does the harm sit?** Sort each prompt's answers by *surprise*: minus the log-probability per token under the model that wrote them, in nats.

# %%
rank = bench.surprise.argsort(1).argsort(1)  # 0 is the most usual of the 512
names = ("most usual", "second", "third", "rarest")
rows = proxies.by_quarter(bench, judges[1600], rank // 128, names)
table(rows, digits={name: "%" if "share" in name else 2 for name in rows["second"]},
      corner="quarter", note="10 proxies, 1,600 labels; spread: standard deviation")
usual = sum(row["true reward"] * row["share of the best-of-512"]
            for row in rows.values())  # if winners were average for their quarter
quote("usual", f"{usual:.2f}")
quote("ten", f"{truth[1600][:, -1].mean():.2f}")

# %%
few = [*ns[:-1], 384]
chance = torch.rand(rank.shape, generator=run.fresh("quarter")).argsort(1)
pools = {"all 512": rank >= 0, "a random quarter out": chance < 384,
         "the rarest quarter out": rank < 384}
left = {name: proxies.pushed(judges[1600], bench.gold, few, pool).mean(0)
        for name, pool in pools.items()}
show(plots.best_of_n(few, {"true reward, points": left},
                     title="Without the rarest quarter most of the fall is gone",
                     roles={"all 512": "proxy"}, note="mean of 10 label sets"))
fall, _, rest = (x[0] - x[-1] for x in left.values())
claim("without the rarest quarter less than half of the fall is left",
      rest < fall / 2, kind="S")

# %% [markdown]
# On average the proxy knows that the rarest answers are worse. But its scores scatter most there, and scatter brings them to the top: that is *extremal* Goodhart in the words of the table. *Which quarter wins* is the main thing: if each quarter's winners were as good as their quarter's average, the best of 512 would end at <!-- out usual -->; it ends at <!-- out ten -->. The small rest comes from within the rarest quarter, where the highest scores are no better than the average ones. (The rarest answers are also the worst; which of the two does the harm, this cannot tell.)
#
# > **Keep this:** errors independent of the truth do no harm on average. A judge's errors depend on the answer. Here most of the harm comes through rare answers, where its scores scatter most.
#
# ## Idea 4: Reinforcement learning climbs whatever it is given
#
# Best-of-n chooses among answers that the model would write anyway. Reinforcement learning changes what it writes. The whole method is REINFORCE with a leave-one-out baseline (RLOO, chapter 11). Each of four answers to a prompt is compared with the mean score of the other three; the inner sum runs over those three, the outer one over all N answers:
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
# **The loop.** The very same proxy, the twelve prompts that ask for no story, four answers to each, no KL penalty. Beside it a *control*: same start, rate and steps, but rewarded by the true reward. If rough steps alone broke the text, they would break it there, too.

# %%
def rloo_steps(model, steps, reward, dice, rate=3e-4):
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0)
    for _ in range(steps + 1):
        out = rlhf.sampling.answer(model, tokenizer, asked, n=4,
                                   max_new_tokens=40, generator=dice)
        scores = measure(out)
        yield scores, out.texts(tokenizer)
        r = scores[reward]  # (12, 4)
        advantage = r - (r.sum(1, keepdim=True) - r) / 3
        logp = rlhf.rollout.completion_logps(model, out)
        loss = -(advantage.flatten() * (logp * out.mask).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

# %%
start.requires_grad_(False)
asked = [bench.prompt(i) for i in plain]
raw = bench.state @ weight.float()
level, unit = raw[plain].mean(1, keepdim=True), raw.std(1).mean()

def measure(out):  # proxy in the units of above, true reward, log-ratio: (12, 4)
    state = rlhf.reward_model.last_state(start, out.ids, out.attention)
    proxy = ((state @ weight.float()).view(-1, 4) - level) / unit
    true = torch.tensor([rlhf.village.gold(asked[i // 4], text)
                         for i, text in enumerate(out.texts(tokenizer))])
    logp = rlhf.rollout.completion_logps(start, out)
    kl = ((out.logp_old - logp) * out.mask).sum(1)
    return {"proxy": proxy, "true": true.view(-1, 4), "kl": kl.view(-1, 4)}

# %%
logs = {reward: list(rloo_steps(rlhf.models.copy_of(start).requires_grad_(True),
                                run.steps(8), reward, run.fresh("live")))
        for reward in ("proxy", "true")}
units = {"proxy, standard deviations": "proxy", "true reward, points": "true",
         "KL to the start, nats per answer": "kl"}
names = {"proxy": "proxy: by the proxy", "true": "gold: the control"}
live = {key: {names[reward]: [scores[key].mean().item() for scores, _ in log]
              for reward, log in logs.items()} for key in units.values()}
show(plots.panels({unit: live[key] for unit, key in units.items()}, zero=None,
                  title="One live run: the same loop, pushed by two rewards",
                  x_label="RLOO step", note="each point: 48 answers"))

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
(up, _), (down, control), (far, near) = (
    [sum(y[-3:]) / 3 for y in live[key].values()] for key in units.values())
n, bon = proxies.reaching(proxy[plain], bench.gold[plain], up)
start_up, start_true = (live[key][names["proxy"]][0] for key in ("proxy", "true"))
claim("pushed by the proxy, the proxy rises", up > start_up, kind="T")
claim("at the end the control has the higher true reward",
      control > down, kind="T")
told = {"start": start_true, "up": up, "down": down, "control": control, "bon": bon,
        "far": far, "near": near, "kl": rlhf.best_of_n.kl_bound(n)}
for name, x in told.items():
    quote(f"live_{name}", f"{x:.1f}".replace("-", "−"))
quote("live_n", n)
cards(*proxies.most_apart(asked, logs))

# %% [markdown]
# The true reward starts at <!-- out live_start -->. Pushed by the proxy it ends at <!-- out live_down -->, in the control at <!-- out live_control --> (means of the last three points). In this one run, with 48 answers a point, the same loop does no harm when it climbs the truth. The texts are the pair furthest apart at the last step.
#
# Now best-of-n, on the same prompts and with the same proxy. RLOO ends at a proxy of <!-- out live_up -->. The best of <!-- out live_n --> reaches that, too, and its true reward is <!-- out live_bon -->. It is nearer to the start: at most <!-- out live_kl --> nats, where RLOO has moved <!-- out live_far --> (the control <!-- out live_near -->). That is one run, and no rule. Gao and colleagues found that reinforcement learning needs far more KL for the same score.

# %% tags=["hide-input"] rlhf={"figure": "both"}
show(plots.seed_lines(
    five, {"learned reward (the proxy)": "proxy", "true reward, points": "gold"},
    title="Every run climbs its proxy; in every run the true reward turns"))
quote("accurate", f"{one.reward_model_accuracy:.0%}".replace("%", " %"))
gold = five.smooth("gold")
for name, x in {"top": [max(y) for y in gold], "last": [y[-1] for y in gold]}.items():
    quote(f"rl_{name}", f"{min(x):.1f} to {max(x):.1f}".replace("-", "−"))
claim("in all five recorded runs the proxy ends above, the true reward below its start",
      all(y[-1] > y[0] for y in five.smooth("proxy"))
      and all(y[-1] < y[0] < max(y) for y in gold), kind="T")

# %% [markdown]
# The five recorded runs of the first picture are longer (90 steps of 64 answers), and their judge is larger: a whole reward model, finetuned on about 700 honestly labelled pairs of answers to requests. In the one run whose record kept it, that judge agreed with <!-- out accurate --> of labels that it had not seen. (Other pairs than above, so its ceiling is another.) It did not help: in all five the true reward peaks at <!-- out rl_top --> points and ends at <!-- out rl_last -->, below its start (means over nine steps).
#
# In practice:
#
# - **Chat tics.** “I am always happy to help” is the village's “as an AI language model”: if the judge likes a phrase in every answer, it soon ends up in every answer.
# - **Objective mismatch.** The reward model is trained to order pairs, and then it is maximised.
# - **A KL penalty** limits how far the policy goes. None of the runs above had one; [lesson 4](04_training_overview.ipynb) compares four strengths.
#
# > **Keep this:** the loop climbs whatever reward it is given. When that reward is a proxy, the true reward can turn while the curve that you see still rises.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong: warnings without the truth
#
# In practice nobody sees the true reward. Three signals do not need it. For each we stop at the n where it peaks, and see what true reward that leaves us. A *second judge* is a head fitted to 1,600 other labels of other pairs. *Likelihood* is minus the surprise of the picked answers.

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
chosen = {name: sorted({ns[i] for i in x.tolist()}) for name, x in stops.items()}
rows = {name: {"n chosen": ", ".join(map(str, chosen[name])),
               "true reward kept": x[0] if name == "a blind draw"
               else rlhf.evaluate.exams.clustered(x)}
        for name, x in kept.items()}
table(rows, corner="stop by",
      note="10 label sets; n chosen: by any of them; ± 95 % over label sets")
more = (kept["likelihood"] - kept["a second judge"]).mean()
lead = (kept["likelihood"] - kept["always n = 2"]).mean()
claim("likelihood keeps more than the second judge, but no more than n = 2",
      more > 0.3 and lead < 0.05, kind="S")

# %%
mean = {name: x.mean(0) for name, x in signals.items()}
like = mean.pop("likelihood")
show(plots.best_of_n(ns, {"score, standard deviations": mean,
                          "likelihood, nats per token": {"likelihood": like},
                          "true reward, points": {"gold: true reward":
                                                  truth[1600].mean(0)}},
                     title="The second judge approves to the end; likelihood turns",
                     note="mean of 10 label sets of 1,600",
                     roles={"the proxy": "proxy", "a second judge": "reference",
                            "likelihood": "chosen"}))
quote("kept_proxy", f"{kept['the proxy'].mean():.2f}")
quote("kept_second", f"{kept['a second judge'].mean():.2f}")

# %% [markdown]
# The second judge has its own labels, yet it approves of what the first one picks. Both read *the same states*, and a second opinion helps only if it makes different mistakes. The likelihood knows nothing of quality, but here the harm comes with unusual answers. Yet “always n = 2” does as well; we chose this signal while we could see the truth; and the last row of the table picks and reports on the same numbers.
#
# | trap | what you see | what happened here |
# |---|---|---|
# | ship the best proxy | a curve that only rises | <!-- out kept_proxy --> points are left |
# | a second judge on the same backbone | two curves that agree | <!-- out kept_second --> points are left |
# | trust accuracy on fresh pairs | <!-- out accurate --> for a finetuned judge | its run, too, ends below its start (idea 4) |
# | choose and report on the same prompts | a fine number | exercise 17.3 repairs it |

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# The same loop on SmolLM2-135M, recorded: a proxy fitted to some 300 honest labels, eight requests, sixteen steps, and the control beside it. Half of the requests are harmful; the others are *look-alikes*, which only sound harmful.

# %%
large = recorded("17_smollm2")
names = {"proxy: by the proxy": "", "gold: the control": " control"}
parts = {"proxy, standard deviations": "proxy", "true reward, points": "gold",
         "share of answers that refuse": "refused"}
parts = {unit: {name: column + end for name, end in names.items()}
         for unit, column in parts.items()}
show(plots.recorded_panels(large, parts, zero=None, over=3,
                           title="135M, sixteen steps: both rise and refuse more"))
stages = {"before": "before", "after": "by the proxy", "control": "the control"}
cards(*large.texts(stages)[1])
table(large.families({"harmful": "harmful requests", "lookalike": "look-alikes"},
                     stages), note="true reward, 32 held-out requests each, ± 95 %")

# %% [markdown]
# After these few steps we cannot tell the two runs apart on the held-out requests. *How* both rise is a warning: at the end both refuse most requests. That earns 3 points for a harmful one and 0 for a look-alike, more than the broken answers of before.

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
# A colleague measured the true reward on a set of prompts at every checkpoint: `table` has a row for each prompt (an even number) and a column for each checkpoint. She ships the best column and reports its mean, so the luck of the choice is in the number. The picture shows this for checkpoints of which none is better than another.

# %%
noise = torch.randn(16, 12, generator=run.fresh("colleague"))
show(plots.panels({"measured true reward": {"mean of 16 prompts": noise.mean(0)}},
                  title="All twelve are worth 0, but one looks best",
                  x_label="checkpoint"))

# %% [markdown]
# Repair the report: choose on the first half of the prompts and report on the second, swap, and average the two.
#
# <details><summary>Hint</summary>
# Two vectors of column means, one for each half. The best column of each is looked up in the other.
# </details>

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
# We trained a judge on honest labels and picked the answers it liked best: its score rose to the end, and the true reward rose a little, turned, and fell on average below a blind draw. Errors independent of the truth cannot do that: among answers with the same error the better ones are picked no less often, and no error marks out a worse group. The errors of our judge depend on the answer, and even a head that was told the truth falls; most of the harm came through rare answers, where its scores scatter most. Reinforcement learning against such judges spoiled the answers in all five recorded runs; one live run with the true reward did not. A second judge that reads the same states approved; how unusual the answers become was a better warning here.
#
# In the book: chapter 14, Over-optimization. Next: chapter 18, Style and information. Proofs, the published laws, ensembles, sycophancy and the alignment tax are in the [deeper notebook](deeper/17_over_optimization.ipynb).
#
# <!-- nav -->
