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
# # 11 · Policy gradients
#
# **REINFORCE, RLOO, PPO, GRPO: which of these algorithms has the gradient it claims?**
#
# ![Three panels A, B and C. In each, grey dots are gradients of single batches, an orange arrow is their mean and a blue arrow the true gradient. The clouds differ in width, and one mean is tilted](figures/11_hero.png)
#
# Three methods on one language model, so small that everything it can say fits into a list: the mean over *all* batches (orange) is a sum, not an estimate. This page puts a name on each panel, explains the tilt, and asks whether it showed in a small training run.
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Chapter 4 (policy, reward, the loop of RLHF). <!-- costs -->. Nothing is downloaded. Models: the exact world (a GPT-2 with one layer, made on the spot) and <code>village-3m-sft</code>, three million parameters, GPT-2 architecture. A panel shows 250 sampled groups of four answers, in the plane of the true gradient and the tilted mean; each has its own scale, and dots outside the frame are left out. Texts are from <b>this page's run</b>, seed 0; the tables of the village are from <b>five recorded seeds</b>. ± is half of a 95 % interval over these five runs (Student's t). A recorded run learns from 64 requests and is tested on 128, two answers each; RLOO and copying ran at three learning rates, GRPO at the middle one, and none was tuned. The true reward is a formula of this toy world: 3 for refusing a harmful request or helping with a harmless one, about 0 for refusing a harmless one, less for harm and broken text. <!-- fact -->
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, gradients, plots, quote, show
from rlhf_minimal.evaluate import bench, exact
from rlhf_minimal.evaluate.exams import exam, requests, true_rewards
run = begin(11)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** The three panels are, in some order, REINFORCE without a baseline, RLOO, and GRPO as published.

# %% tags=["hide-input"]
rlhf.book.predict("Which panel is GRPO?",
        a="A: it was made for training large models, so it should be calm and exact",
        b="B: something in it does not average out",
        c="C: it divides by a standard deviation of few samples, which adds noise")

# %% [markdown] rlhf={"part": "phenomenon loop"}
# ## The whole method on one screen
#
# Supervised finetuning needs somebody to write the right answer. A *policy gradient* method lets the model, now called the *policy*, write answers itself. Each gets a score, the score becomes a *weight*, and the weight says how hard that answer is pushed up or down.

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "step"}
show(gradients.one_step())

# %% [markdown]
# Here it is, on the village. Half of the requests ask for help with harm, the others (*look-alikes*) only sound like it. `answer` samples, `true_rewards` scores, `completion_logps` gives the log-probability of every sampled token.
#
# What makes the loop RLOO is the function `weigh`. A cheap rival uses the *same loop*: of eight answers copy the best, and ignore the rest.

# %%
start, tokenizer = rlhf.models.load("village-3m-sft")
some = requests(64, split="train", seed=run.seed)
asked = [some[i:i + 4] for i in range(0, 64, 4)]   # 16 steps, four requests each


def rloo(r):                                       # r: (requests, answers), scores
    others = (r.sum(1, keepdim=True) - r) / (r.shape[1] - 1)
    return r - others                              # score minus mean of the others


def copy_best(r):
    return (r == r.amax(1, keepdim=True)).to(r.dtype)      # 1 for the best, else 0


# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
def train(weigh, rate=1e-4, n=8):
    policy, luck = rlhf.models.copy_of(start), run.fresh("answers")
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
    for rows in asked:
        drawn = rlhf.sampling.answer(policy, tokenizer, [row["prompt"] for row in rows],
                                     n=n, max_new_tokens=40, generator=luck)
        reward = true_rewards(rows, drawn.texts(tokenizer), n)
        weight = weigh(reward).flatten()           # one for each answer
        logp = rlhf.rollout.completion_logps(policy, drawn)        # (32, tokens)
        loss = -(weight * (logp * drawn.mask).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    return policy


# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
trained = {"start": start, "RLOO": train(rloo), "copying": train(copy_best)}
test = requests(64, seed=run.seed)                 # requests that no run has read
exams = {name: exam(model, tokenizer, test, n=2, max_new_tokens=40,
                    generator=run.fresh("exam")) for name, model in trained.items()}
for i in (0, 1):                                   # the first of each kind
    cards(test[i]["prompt"], [(name, e.texts[2 * i], e.gold[2 * i])
                              for name, e in exams.items()])

# %% [markdown]
# That was one run. Here are five recorded seeds, each with other training requests, answers and 128 requests of the exam. *Best of 8* does not train: it keeps the best of eight answers by true reward, which nobody has in practice.

# %%
record = rlhf.book.recorded("11_village")
kinds = {"harmful": "harmful", "lookalike": "look-alikes"}
arms = {"start": "start", "RLOO": "RLOO 0.0001", "GRPO": "GRPO 0.0001",
        "copy the best": "copy the best 0.0001", "best of 8, untrained": "best of 8"}
rows = record.interval_rows(arms, kinds)
rlhf.book.table({name: {c: row[c] for c in (*kinds.values(), "both kinds")}
                 for name, row in rows.items()},
                note="true reward, ± half of a 95 % interval over five seeds")

# %% tags=["hide-input"]
over_runs = rlhf.book.records.over_runs
worth = {name: record.arm(arm, kinds).mean(0) for name, arm in arms.items()}
for name, high, low in (("gap", "copy the best", "RLOO"), ("even", "GRPO", "RLOO")):
    quote(name, "{:.2f} ± {:.2f}".format(*over_runs(worth[high] - worth[low])))
claim("on all five seeds RLOO and GRPO end above the start, and copying above RLOO",
      all((worth[high] > worth[low]).all() for high, low in
          (("RLOO", "start"), ("GRPO", "start"), ("copy the best", "RLOO"))), kind="T")

# %% [markdown] rlhf={"part": "idea"}
# Over both kinds, all three end above the start. And the cheap rival wins: copying ends <!-- out gap --> above RLOO. Yet of the two, RLOO will turn out to have the *right* gradient.
#
# ## Idea 1: the way uphill is an average of pushes
#
# We want a higher expected score $J=\sum_y \pi(y)\,r(y)$: a sum over everything that the policy $\pi$ could say, each answer $y$ with its score $r(y)$. Nobody can list that for a real model. But since $\nabla\pi=\pi\,\nabla\log\pi$, the gradient is again an average over the policy's own answers:
#
# $$\nabla J=\sum_y\nabla\pi(y)\,r(y)=\sum_y \pi(y)\,r(y)\,\nabla\log\pi(y)$$
#
# *Said aloud: push up the log-probability of each answer that you sampled, as hard as its score says. On average that is the way uphill.*
#
# | symbol | meaning | in the code |
# |---|---|---|
# | $\pi(y)$ | probability that the policy says $y$ | `p` |
# | $r(y)$ | score of the answer | `score` |
# | $\nabla\log\pi(y)$ | its *push*: the direction that makes $y$ more likely fastest | `push` |
#
# To check it, take a real GPT-2 with three tokens, `a`, `b` and a full stop that ends the answer, and room for three: fifteen possible answers. Each gets a random mark around 3.

# %%
world, policy = exact.World(), exact.exact_model(run.seed)
luck = torch.Generator().manual_seed(run.seed)
score = 3 + torch.randn(15, generator=luck, dtype=torch.float64)
p = world.seq_logp(policy).exp().detach()
push = bench.pushes(world, policy).sum(1)          # (15, parameters)
average = (p * score) @ push                       # the formula
true = exact.gradient(world.expected(policy, score), policy)
words = ["".join(".ab"[t] for t in row[mask]) for row, mask in
         zip(world.completions, world.mask.bool(), strict=True)]
show(rlhf.book.drawings.answer_tree(dict(zip(words, p.tolist(), strict=True))))
claim("the average of score × push is ∇J, to ten digits",
      exact.compare(average, true)["error"] < 1e-10)

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** Sample, score, push. The *average* is exact; a single batch is not.
#
# ## Idea 2: a baseline is free
#
# With marks around 3 every push goes up, and the direction is hidden in small differences between large pushes. So subtract what was to be expected, a *baseline* $b$. This does not bend the direction, because pushes without a score average to nothing:
#
# $$\sum_y\pi(y)\,\nabla\log\pi(y)=\nabla\sum_y\pi(y)=\nabla 1=0$$

# %%
print(f"largest entry of the average push: {(p @ push).abs().max():.0e}")
r = torch.tensor([[1.0, 0.0, 0.0, 0.0]])          # four answers, one is good
print("− others:", [round(w, 2) for w in rloo(r)[0].tolist()])
print("− all:   ", (r - r.mean(1, keepdim=True))[0].tolist())

# %% [markdown]
# A baseline may depend on anything except the choice that it judges: on the prompt, on earlier tokens, on *other* answers. RLOO (REINFORCE leave-one-out) takes the mean of the other answers to the same prompt. The mean of *all* contains the answer itself, but harmlessly: every weight shrinks to three quarters, $(G-1)/G$ in a group of $G$, and the direction stays.
#
# The mean over all 50,625 groups of four is a sum. So is the *noise*: the root mean square distance of one group's gradient from that mean.

# %%
methods = {"REINFORCE": lambda r, n: r,            # r: scores, n: tokens of each answer
           "RLOO": lambda r, n: rloo(r),
           "mean of all": lambda r, n: r - r.mean(1, keepdim=True),
           "expected score": lambda r, n: r - p @ score}
found = {name: bench.group_gradient(world, policy, weigh, score)
         for name, weigh in methods.items()}
noise = [spread / mean.norm().item() for mean, spread in found.values()]
names = ("no baseline", "mean of\nthe others", "mean of all", "expected\nscore")
show(plots.bars(dict(zip(names, noise, strict=True)), y_label="noise ÷ mean gradient",
                title="A baseline: the same direction, less noise",
                roles=dict.fromkeys(names, "policy") | {"no baseline": "reference"}),
     "Bars of noise over mean gradient: highest without a baseline, lower with one.")

# %% tags=["hide-input"]
claim("none, mean of the others, expected score: ∇J on average; mean of all: along it",
      all(exact.compare(found[name][0], true)["error"] < 1e-10
          for name in ("REINFORCE", "RLOO", "expected score"))
      and exact.compare(found["mean of all"][0], true)["cosine"] > 1 - 1e-10)

# %% [markdown] rlhf={"part": "idea"}
# Three siblings do most of what the expected score would do, which nobody knows.
#
# > **Keep this.** A baseline leaves the mean gradient alone, and a good one removes noise. Siblings are a cheap good one.
#
# ## Idea 3: PPO uses a batch more than once
#
# Sampling is slow, so one wants several updates from one batch. After the first, the answers come from an *old* policy. PPO multiplies the *advantage* $A$ of each token (score minus baseline) by the *ratio* $\rho$ of its new to its old probability, and *clips*. The objective of a token, with ε = 0.2: <!-- fact -->
#
# $$\min\big(\rho A,\ \mathrm{clip}(\rho,\,1-\varepsilon,\,1+\varepsilon)\,A\big)$$

# %%
same = []
for A, rho in ((1.0, 1.3), (1.0, 0.7), (-1.0, 1.3), (-1.0, 0.7)):
    ratio = torch.tensor([[rho]], requires_grad=True)
    objective = torch.minimum(ratio * A, ratio.clamp(0.8, 1.2) * A)
    slope, = torch.autograd.grad(objective.sum(), ratio)
    print(f"A {A:+.0f}  ratio {rho}   objective {objective.item():+.1f}   "
          f"slope {slope.item():+.0f}")
    theirs, _ = rlhf.ppo.policy_loss(ratio.log(), torch.zeros(1, 1), torch.tensor([A]),
                                     torch.ones(1, 1), clip=0.2)
    same.append(abs(theirs + objective).item() < 1e-6)   # a loss: with a minus
claim("the package computes the same", all(same))

# %% [markdown]
# All four ratios lie outside the clip, but only two slopes are zero: a token that moved far enough *in the direction of its advantage* gets no more push. One that moved the wrong way keeps it. Move it:

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
gradients.clip_explorer().show()

# %% [markdown]
# Before the first update every ratio is 1, and PPO's gradient is that of idea 2. How far do thirty passes over one batch of sixteen answers go?

# %%
def reuse(clip, passes=30):
    rows = torch.multinomial(p, 16, replacement=True, generator=run.fresh("batch"))
    model, path, old = rlhf.models.copy_of(policy), [0.0], world.logps(policy).detach()
    A, mask = (score[rows] - score[rows].mean())[:, None], world.mask[rows]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(passes):
        ratio = (world.logps(model) - old)[rows].exp()
        objective = torch.minimum(ratio * A, ratio.clamp(1 - clip, 1 + clip) * A)
        loss = -(objective * mask).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        path.append((p * (old - world.logps(model)).sum(1)).sum().item())    # KL
    return path


# %%
walked = {"proxy: no clip": reuse(1e6), "policy: ε = 0.2": reuse(0.2)}
show(plots.line_plot(walked, x_label="passes over the same sixteen answers",
                     y_label="KL from the old policy, nats",
                     title="With the clip, the policy stays nearer the old one"),
     "Line plot of the KL from old to new policy against passes: without a clip it "
     "keeps growing, with the clip it levels off.")
claim("after thirty passes the clipped policy is nearer to the old one",
      walked["policy: ε = 0.2"][-1] < 0.5 * walked["proxy: no clip"][-1])

# %% [markdown]
# A slope of zero does not pull back, and weights are shared, so other tokens may carry a clipped one further. And a token's ratio corrects old data only roughly: it forgets that the earlier tokens are old, too.
#
# PPO's baseline is a second network, the *critic*. It predicts the score from an unfinished answer, so that every token can have a weight of its own:

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "action"}
show(gradients.one_action())

# %% [markdown]
# (Made-up numbers.) With one score at the end and no discount, both readings have the same mean gradient, provided that the critic is right. A wrong critic that is believed bends the direction. Here one learns by averaging the scores of the answers that it has seen:

# %%
sizes = (3, 10, 30, 100, 300, 1000)
learned = bench.learning_critic(world, policy, score, sizes,
                                generator=run.fresh("critic"))
perfect = bench.critic(world, policy, score, p)
parts = {"bias ÷ true gradient": {"policy: critic": learned["bias"]}}
show(plots.panels(parts, ticks=sizes, x_label="answers that the critic has seen",
                  title="A critic must learn before it may be believed"))
claim("a perfect critic, believed, has the exact gradient", perfect["bias"] < 1e-10)

# %% [markdown] rlhf={"part": "idea"}
# Even a perfect critic explains only <!-- out explained --> of the variance here: it speaks *before* each token, and the token itself decides much. PPO mixes believing the critic with waiting for the score, by a factor λ (*generalized advantage estimation*, in the [deeper notebook](deeper/11_policy_gradients.ipynb)).
#
# > **Keep this.** The ratio corrects for old data, roughly; the clip says when to stop. At the first step neither does anything.
#
# ## Idea 4: GRPO divides twice
#
# GRPO keeps PPO's ratio and clip, drops the critic, and takes the group as baseline, $r_i-\bar r$. Then it divides: by the standard deviation of the group's scores, and by the number of tokens $|y_i|$ of each answer:
#
# $$w_i=\frac{r_i-\bar r}{\mathrm{std}(r)}\cdot\frac1{|y_i|}$$
#
# Dr. GRPO leaves both divisors out: it is the *mean of all* of idea 2. Each divisor alone, and both:

# %%
def standard(r):
    equal = r.amax(1, keepdim=True) == r.amin(1, keepdim=True)
    std = r.std(1, keepdim=True).masked_fill(equal, torch.inf)   # equal scores: 0
    return (r - r.mean(1, keepdim=True)) / std


methods |= {"Dr. GRPO": methods.pop("mean of all"),
            "GRPO without ÷ length": lambda r, n: standard(r),
            "GRPO without ÷ std": lambda r, n: (r - r.mean(1, keepdim=True)) / n,
            "GRPO": lambda r, n: standard(r) / n,
            "copy the best": lambda r, n: copy_best(r)}
found = {k: bench.group_gradient(world, policy, w, score) for k, w in methods.items()}
tilt = {k: exact.compare(mean, true)["degrees"] for k, (mean, _) in found.items()}
show(gradients.fan(tilt, title="Four lie on the true gradient, the others are tilted"))

# %% tags=["hide-input", "hero"]
draw = dict(count=250, generator=run.fresh("clouds"))
order = {"A": "RLOO", "B": "GRPO", "C": "REINFORCE"}
some = {letter: bench.sampled_gradients(world, policy, methods[name], score, **draw)
        for letter, name in order.items()}
clouds = {letter: (some[letter], found[name][0]) for letter, name in order.items()}
show(gradients.clouds(clouds, true))

# %% tags=["hide-input"]
rlhf.book.settled(
    "b", "A is RLOO, C is REINFORCE without a baseline: exact on average, and noisy. "
    "B is GRPO: calm here, but tilted. The standard deviation comes from the scores "
    "that it divides, and the mean of a quotient is not the quotient of the means. The "
    "length gives long answers less weight. More groups average out noise, not tilt.")
worlds = [bench.measured(methods[k]) for k in ("RLOO", "GRPO", "copy the best")]
(_, calm), (bent, rough), (bent_more, _) = (five.values() for five in worlds)
claim("in five worlds GRPO is tilted by over 10 degrees, and copying by more than GRPO",
      all(10 < a < b for a, b in zip(bent, bent_more, strict=True)))
package = exact.expected_loss_gradient(world, policy, lambda lp, i: rlhf.grpo.grpo_loss(
    lp, lp.detach(), score[i], world.mask[i], group_size=2)[0], group_size=2)
ours, _ = bench.group_gradient(world, policy, methods["GRPO"], score, group_size=2)
claim("over all groups of two answers, the package's GRPO loss has this mean gradient",
      exact.compare(-package, ours)["error"] < 1e-9)
quote("explained", f"{100 * perfect['explained']:.0f} %")
quote("tilts", f"{min(bent):.0f} and {max(bent):.0f}")
quote("calmer", str(sum(a < b for a, b in zip(rough, calm, strict=True))))

# %% [markdown]
# The angles belong to this little world and to groups of four: in the worlds of seeds 0 to 4, GRPO's lies between <!-- out tilts --> degrees.
#
# **Standard deviation**: with one prompt, this tilt fades as groups grow. With *several* prompts it stays, since each is divided by its own. Take right-or-wrong scores, and prompts that are solved with probability $q$. How hard does a group of eight pull, compared with the true gradient?
#
# **Length**: this tilt stays, however large the group. Pushes divided by their length no longer average to nothing, so under this divisor no baseline is free. Let an answer be right if its first token is `a`; a wrong one is then a full stop alone, or begins with `b` and may be long. Climb along mean gradients, without noise:

# %%
solved = [k / 50 for k in range(1, 50)]
pulls = {name: [bench.pull(methods[name], q, group_size=8) for q in solved]
         for name in ("GRPO without ÷ length", "RLOO")}
longer, learner = exact.World(horizon=4), exact.exact_model(run.seed, horizon=4)
right = (longer.completions[:, 0] == 1).double()
climbs = {name: bench.climb(longer, learner, methods[name], right, steps=120,
                             stride=0.05)
          for name in ("GRPO without ÷ std", "Dr. GRPO")}
show(gradients.two_tilts(solved, pulls, climbs))

# %% tags=["hide-input"]
bowl = pulls["GRPO without ÷ length"]
claim("÷ std lifts rare successes; ÷ length: longer mistakes, no free baseline",
      bowl[0] > 1.3 * bowl[24] and bench.longer_at_equal_success(*climbs.values())
      and ((p / world.mask.sum(1)) @ push).norm() > 0.05 * true.norm())

# %% [markdown]
# Above: dividing lifts prompts that are nearly always failed *or* solved. Below: ÷ length pushes a long wrong answer down less than a short one, so at equal success its mistakes are longer than Dr. GRPO's.
#
# ### The bench

# %%
weight = {"REINFORCE": "score", "RLOO": "score − mean of the others",
          "Dr. GRPO": "score − mean", "expected score": "score − it (PPO, one value)",
          "GRPO without ÷ length": "(score − mean) ÷ std",
          "GRPO without ÷ std": "(score − mean) ÷ length",
          "GRPO": "(score − mean) ÷ std ÷ length", "copy the best": "1 or 0"}
noise = {name: spread / mean.norm().item() for name, (mean, spread) in found.items()}
rows = {f"{k}: {words}": {"tilt": f"{tilt[k]:.0f}°", "noise": noise[k]}
        for k, words in weight.items()}
rows["perfect critic: its change (PPO, a value a token)"] = {
    "tilt": "0°", "noise": perfect["noise"] / 4**0.5}      # four independent answers
rlhf.book.table(rows, digits=1, corner="method: weight of a token",
                note="first step, groups of four; noise ÷ mean gradient")

# %% [markdown]
# GRPO trades: it is tilted, and here it is calmer than RLOO. The length divisor buys the calm; ÷ std does not. That is no law: GRPO is the calmer one in <!-- out calmer --> of the five worlds. A perfect critic would be calm *and* exact, but nobody has one.
#
# ### Does the tilt matter?
#
# "Biased" means: not the gradient of the expected score. It does not mean worse. In the village GRPO ended <!-- out even --> above RLOO. Copying did better, although its tilt is larger than GRPO's in each of the five worlds. Four possible reasons, each with a control on the same five seeds. The *step size*: both at half and twice the rate. The *cut* at gradient norm 1: RLOO without it. The *pushes down*: RLOO with negative weights set to 0. The missing *baseline*: copying with one, `rloo(copy_best(r))`.

# %%
tried = {"RLOO, half rate": "RLOO 5e-05", "RLOO": "RLOO 0.0001",
         "RLOO, double rate": "RLOO 0.0002", "RLOO, not cut": "RLOO 0.0001, not cut",
         "RLOO, only upward": "RLOO, only upward 0.0001",
         "copying, half rate": "copy the best 5e-05", "copying": "copy the best 0.0001",
         "copying, double rate": "copy the best 0.0002",
         "copying, with baseline": "copy the best, centred 0.0001"}
gains = {name: record.arm(arm, kinds).mean(0) - worth["start"]
         for name, arm in tried.items()}
show(plots.shares({name: over_runs(gain) for name, gain in gains.items()}, middle=0,
                  title="With a baseline, copying loses its lead",
                  x_label="true reward, change from the start",
                  note="five recorded seeds, 95 % intervals over seeds"))

# %%
for r in ((3.0, 0, 0, 0), (3.0, 3, 0, 0), (3.0, 3, 3, 3)):
    best = copy_best(torch.tensor([r]))
    print("copy", [int(w) for w in best[0]], "  with baseline",
          [round(w, 2) for w in rloo(best)[0].tolist()])
marks = score.round()                              # marks that often tie
copied, centred = (bench.group_gradient(world, policy, weigh, marks)[0] for weigh in
                   (methods["copy the best"], lambda r, n: rloo(copy_best(r))))
share = bench.group_average(world, policy, lambda r: copy_best(r).mean(1), marks)
ties = exact.gradient(share, policy)               # more answers that tie for the best
claim("copying = ¾ of copying with a baseline + ¼ of the way to more ties",
      exact.compare(3 / 4 * centred + ties / 4, copied)["error"] < 1e-9)

# %% tags=["hide-input"]
claim("copying with a baseline ends below copying without, on all five seeds",
      bool((gains["copying, with baseline"] < gains["copying"]).all()), kind="T")
middle = {name: f"{over_runs(gain)[0]:+.2f}" for name, gain in gains.items()}
for name in ("RLOO", "copying"):
    quote(f"rates.{name}", ", ".join(middle[name + rate] for rate in (
        ", half rate", "", ", double rate")))
for name in ("RLOO, not cut", "RLOO, only upward", "copying", "copying, with baseline"):
    quote(name.replace(", ", ".").replace(" ", "."), middle[name])

# %% [markdown] rlhf={"part": "wrong"}
# No control lifts RLOO much: <!-- out rates.RLOO --> at the three rates, <!-- out RLOO.not.cut --> without the cut, <!-- out RLOO.only.upward --> with upward pushes only. Copying gains <!-- out rates.copying -->, so its lead depends on the rate. With the baseline it falls from <!-- out copying --> to <!-- out copying.with.baseline -->, about RLOO's level.
#
# Why? If exactly one answer were always the best, this baseline would only rescale the mean gradient. Ties change that: four equal answers are all pushed by copying, and not at all with the baseline. What the baseline takes away, on average, is exactly a push towards *more answers that tie for the best*. In the village many answers earn exactly 3. A likely reason, not isolated here, is that copying goes on strengthening answers that are good already.
#
# > **Keep this.** The gradient that an algorithm claims is an average over all batches. A run follows a few single ones.
#
# ## What goes wrong
#
# | the wrong line | what you see | what tells |
# |---|---|---|
# | `score.view(n, prompts)` for `view(prompts, n)` | training still moves | the advantages of *each prompt* must sum to 0 |
# | `(r - mean) / (std + 1e-8)` in float32 | solved prompts keep pushing | weights of a group of equal scores: not 0 |
# | `mask = ids != pad`, and pad is the end token | nothing teaches the model to end | ended answers whose end token is in the mask |
#
# The last, live: every answer that ends has its last token masked out.

# %%
no_end = world.mask * (world.completions != world.eos_id)    # wrong
logp = (world.logps(policy) * no_end).sum(1)
got = exact.gradient((p * (score - p @ score) * logp).sum(), policy)
angle = exact.compare(got, true)["degrees"]
print(f"the mean gradient is tilted by {angle:.0f} degrees")

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# RLOO with low-rank adapters on SmolLM2-135M: one recorded run of fifty steps with twelve answers each, scored by the true reward less a small price for the KL from the start, on requests of the same two kinds.

# %%
large = rlhf.book.recorded("smollm2_rloo")
parts = {"true reward of the step's answers": {"RLOO": "gold"},
         "norm of the gradient": {"RLOO": "grad_norm"}}
show(plots.recorded_panels(large, parts, over=5, roles={"RLOO": "policy"},
                           title="The reward rises, the gradient shrinks"))
for prompt, answers in large.texts()[1:3]:
    cards(prompt, answers)
rlhf.book.table(large.families({"harmful": "harmful", "lookalike": "look-alikes"}),
      note="true reward of held-out answers, ± half of a 95 % interval over answers")

# %% tags=["hide-input"]
gain, error = large.gain("harmful")
quiet = [norm < 0.1 for norm in large.curve["grad_norm"]]
claim("harmful gained, look-alikes end at 0, many late gradients are below 0.1",
      gain > 3 * error and abs(large.held_out["after"]["lookalike"]["mean"]) < 0.1
      and sum(quiet[:25]) < 5 and sum(quiet[25:]) > 8, kind="T")
quote("quiet", f"{sum(quiet[25:])} of the last 25 steps")

# %% [markdown] rlhf={"part": "exercises"}
# The gradient was right, the reward was the truth less a small price, and the result refuses nearly every request: no better than one fixed refusal, which earns 3 and 0. A policy gradient strengthens what gets *sampled*: answers to look-alikes earned less than 0 on average, so a refusal, worth 0, was an improvement. Once all answers to a request are alike, little is left to push: <!-- out quiet --> had a gradient shorter than 0.1.
#
# ## Exercises
#
# ### Exercise 11.1 · Clip-higher
#
# DAPO gives the clip two bounds, $1-\varepsilon_{\rm low}$ and $1+\varepsilon_{\rm high}$. Write the objective of each token.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex11-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def clip_higher(ratio, advantage, low, high):
    """(T,), (T,), two numbers -> objective of each token, (T,)."""
    ### BEGIN SOLUTION
    return torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex11-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("11.1", clip_higher)
### BEGIN HIDDEN TESTS
check("11.1", clip_higher, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Only the bounds of the clamp change; the smaller of the two products stays.
# </details>
#
# <!-- solution 11.1 -->
#
# ### Exercise 11.2 · One right answer in eight
#
# On paper first: `c` of `G` answers are right (score 1), the others wrong (score 0), 0 < c < G. What advantage does a *right* answer get from Dr. GRPO, and what from GRPO before ÷ length (with the standard deviation that divides by G − 1)?

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex11-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def two_advantages(c, G):
    """c right answers of G -> (Dr. GRPO's advantage of a right answer, GRPO's)."""
    ### BEGIN SOLUTION
    centred = 1 - c / G
    deviation = (c * (G - c) / (G * (G - 1))) ** 0.5
    return centred, centred / deviation
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex11-2-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("11.2", two_advantages)
### BEGIN HIDDEN TESTS
check("11.2", two_advantages, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# The mean score is c/G. The squared deviations sum to c(G − c)/G.
# </details>
#
# <!-- solution 11.2 -->
#
# ### Exercise 11.3 · Who was compared with whom?
#
# Write the detector of the first trap: `True` if the advantages were *not* centred within prompts. Rows may come in any order, group sizes may differ, and a sum closer to zero than 1e-6 counts as zero. Here all four answers belong to one prompt, and their weights (rounded) sum to 0:
#
# ![Drawing of one step: four answers to one prompt, their scores, and their weights, which sum to zero](figures/11_step.png)

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex11-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mixed_up(advantage, prompt):
    """(B,) advantages, (B,) prompt numbers -> True if some prompt's do not sum to 0."""
    ### BEGIN SOLUTION
    return any(abs(advantage[prompt == k].sum().item()) > 1e-6 for k in prompt.unique())
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex11-3-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("11.3", mixed_up)
### BEGIN HIDDEN TESTS
check("11.3", mixed_up, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# The sum over the whole batch is 0 for the right layout and for the wrong one. One sum for each value in <code>prompt</code>.
# </details>
#
# <!-- solution 11.3 -->
#
# ## Retell it
#
# 1. A policy gradient method lets the model write, scores what it wrote, and pushes each answer as hard as its score says; on average that is exactly uphill.
# 2. Subtracting the expected score leaves the direction alone and usually takes away noise; an answer's siblings are a cheap estimate of it.
# 3. PPO reuses a batch: a ratio corrects for old data, roughly; a clip ends the push on tokens that moved far enough.
# 4. GRPO also divides by the standard deviation and by the length, so its mean gradient points elsewhere: prompts that are nearly always failed or solved count more, and long mistakes are pushed down less.
# 5. A tilt is no verdict: copying the best, tilted more than GRPO on the bench, earned more in the village than the exact RLOO; with a baseline it lost that lead.
#
# *In the book*: [Policy Gradient Algorithms](https://rlhfbook.com/c/06-policy-gradients), chapter 6. *Deeper*: [advantage estimation with λ, TRPO, P3O, DAPO, GSPO, CISPO, and a race of ten methods](deeper/11_policy_gradients.ipynb). *Next*: [chapter 12](12_direct_alignment.ipynb), direct alignment.
#
# <!-- nav -->
