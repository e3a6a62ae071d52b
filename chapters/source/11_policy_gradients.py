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
# Three methods and one language model, so small that everything it can say fits into a list: the mean over *all* batches (orange) is a sum, not an estimate. By the end of this page you can put a name on each panel, say where the tilt comes from, and know what it did and did not cost in a real run.
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
# Here is all of it, on the village. Half of the requests ask for help with harm, the others (*look-alikes*) only sound like it. `answer` samples eight answers to each of four requests, `true_rewards` scores them, `completion_logps` gives the log-probability of every sampled token.
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
# One run is one run. So here are five recorded seeds, each with other training requests, answers and 128 requests of the exam. *Best of 8* does not train: it answers eight times and keeps the best by true reward, which nobody has in practice. It shows what there is to find. (GRPO is the subject of idea 4.)

# %%
record = rlhf.book.recorded("11_village")
kinds = {"harmful": "harmful", "lookalike": "look-alikes"}
arms = {"start": "start", "RLOO": "RLOO 0.0001", "GRPO": "GRPO 0.0001",
        "copy the best": "copy the best 0.0001",
        "one refusal for all": "one refusal", "best of 8, untrained": "best of 8"}
rows = record.interval_rows(arms, kinds)
rlhf.book.table({name: {c: row[c] for c in (*kinds.values(), "both kinds")}
                 for name, row in rows.items()},
                note="true reward, ± 95 % over five seeds")

# %% tags=["hide-input"]
over_runs = rlhf.book.records.over_runs
worth = {name: record.arm(arm, kinds).mean(0) for name, arm in arms.items()}
gap = over_runs(worth["copy the best"] - worth["RLOO"])
quote("gap", "{:.2f} ± {:.2f}".format(*gap))
claim("on all five seeds RLOO and GRPO end above the start, and copying above RLOO",
      all((worth[high] > worth[low]).all() for high, low in
          (("RLOO", "start"), ("GRPO", "start"), ("copy the best", "RLOO"))), kind="T")

# %% [markdown] rlhf={"part": "idea"}
# All three work. And the cheap rival wins: copying ends <!-- out gap --> above RLOO. Keep that in mind, for of the two RLOO will turn out to be the one with the *right* gradient. We come back to it with controls.
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
# On paper: a coin with one weight θ says "heads" with probability σ(θ). Heads scores 1, tails 3.

# %%
theta, score = torch.tensor(0.5, requires_grad=True), torch.tensor([1.0, 3.0])
p = torch.stack([torch.sigmoid(theta), torch.sigmoid(-theta)])
push = torch.stack([torch.autograd.grad(logp, theta, retain_graph=True)[0]
                    for logp in p.log()])

uphill, = torch.autograd.grad(p @ score, theta)
print(f"directly {uphill:.4f}, as an average {(p * score * push).sum():.4f}")

# %% [markdown]
# Now a real GPT-2 with three tokens, `a`, `b` and a full stop that ends the answer, and room for three: fifteen possible answers, drawn with their probabilities. Each gets a random mark around 3, as a rater might give.

# %%
world, policy = exact.World(), exact.exact_model(run.seed)
luck = torch.Generator().manual_seed(run.seed)
score = 3 + torch.randn(15, generator=luck, dtype=torch.float64)
p = world.seq_logp(policy).exp().detach()
push = bench.pushes(world, policy).sum(1)          # (15, parameters)
true = exact.gradient(world.expected(policy, score), policy)
words = ["".join(".ab"[t] for t in row[mask]) for row, mask in
         zip(world.completions, world.mask.bool(), strict=True)]
show(rlhf.book.drawings.answer_tree(dict(zip(words, p.tolist(), strict=True))))
claim("the average of score × push is ∇J, to ten digits",
      exact.compare((p * score) @ push, true)["error"] < 1e-10)

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** Sample, score, push. The *average* is exact; a single batch is not.
#
# ## Idea 2: a baseline is free
#
# With marks around 3 every push goes up, and the direction is hidden in small differences between large pushes. So subtract what was to be expected, a *baseline* $b$. This does not bend the direction, because pushes without a score average to nothing:
#
# $$\sum_y\pi(y)\,\nabla\log\pi(y)=\sum_y\nabla\pi(y)=\nabla\sum_y\pi(y)=\nabla 1=0$$

# %%
print(f"largest entry of the average push: {(p @ push).abs().max():.0e}")
r = torch.tensor([[1.0, 0.0, 0.0, 0.0]])          # four answers, one is good
print("score − mean of the others:", [round(w, 2) for w in rloo(r)[0].tolist()])
print("score − mean of all:       ", (r - r.mean(1, keepdim=True))[0].tolist())

# %% [markdown]
# A baseline may depend on anything except the choice that it judges: on the prompt, on earlier tokens, on *other* answers. RLOO (REINFORCE leave-one-out) takes the mean of the other answers to the same prompt. The mean of *all* contains the answer itself, but harmlessly: every weight shrinks to three quarters, $(G-1)/G$ in a group of $G$, and the direction stays.
#
# The mean over all 50,625 groups of four is a sum. So is the *noise*: the root mean square distance of one group's gradient from that mean.

# %%
methods = {"REINFORCE": lambda r, n: r,            # r: scores, n: tokens of each answer
           "RLOO": lambda r, n: rloo(r),
           "Dr. GRPO": lambda r, n: r - r.mean(1, keepdim=True),
           "PPO (exact critic)": lambda r, n: r - p @ score}
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
          for name in ("REINFORCE", "RLOO", "PPO (exact critic)"))
      and exact.compare(found["Dr. GRPO"][0], true)["cosine"] > 1 - 1e-10)

# %% [markdown] rlhf={"part": "idea"}
# Three siblings do most of what the expected score would do, and nobody knows the expected score. (It is a good baseline, not the best possible one; and a bad baseline can add noise.)
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
# All four ratios lie outside the clip, and two of the four slopes are zero: a token that has moved far enough *in the direction of its advantage* gets no more push. One that moved the wrong way keeps its full push. Move it:

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
gradients.clip_explorer().show()

# %% [markdown]
# How far do thirty passes over one batch of sixteen answers go? Before the first update every ratio is 1, and PPO's gradient is that of idea 2. Afterwards:

# %%
def reuse(clip, passes=30):
    rows = torch.multinomial(p, 16, replacement=True, generator=run.fresh("batch"))
    model, path, old = rlhf.models.copy_of(policy), [], world.logps(policy).detach()
    A, mask = (score[rows] - score[rows].mean())[:, None], world.mask[rows]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(passes):
        logp = world.logps(model)
        path.append((p * (old - logp.detach()).sum(1)).sum().item())     # KL(old, new)
        ratio = (logp - old)[rows].exp()
        objective = torch.minimum(ratio * A, ratio.clamp(1 - clip, 1 + clip) * A)
        loss = -(objective * mask).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return path


# %%
walked = {"proxy: no clip": reuse(1e6), "policy: ε = 0.2": reuse(0.2)}
show(plots.line_plot(walked, x_label="passes over the same sixteen answers",
                     y_label="KL from the old policy, nats",
                     title="With the clip, the policy stays near the old one"),
     "Line plot of the KL from old to new policy against passes: without a clip it "
     "keeps growing, with the clip it levels off.")
claim("after thirty passes the clipped policy is nearer to the old one",
      walked["policy: ε = 0.2"][-1] < 0.5 * walked["proxy: no clip"][-1])

# %% [markdown]
# A flat piece is not a wall: it does not pull back, and weights are shared, so other tokens may carry a clipped one further. And a ratio of single tokens corrects old data only roughly, because it forgets that the earlier tokens are old, too.
#
# PPO's baseline is a second network, the *critic*. It predicts the score from an unfinished answer, so that every token can have a weight of its own:

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "action"}
show(gradients.one_action())

# %% [markdown]
# (The numbers are made up.) With one score at the end and no discount, both readings have the same mean gradient, provided that the critic is right. A wrong critic that is believed bends the direction. We let one learn in the exact world, by averaging the scores of the answers that it has seen:

# %%
sizes = (3, 10, 30, 100, 300, 1000)
learned = bench.learning_critic(world, policy, score, sizes,
                                generator=run.fresh("critic"))
perfect = bench.critic(world, policy, score, p)
top = [perfect["explained"]] * len(sizes)
parts = {"variance of the score explained": {"policy: critic": learned["explained"],
                                             "reference: perfect": top},
         "bias ÷ true gradient": {"policy: critic": learned["bias"]}}
show(plots.two_panels(parts, ticks=sizes, x_label="answers that the critic has seen",
                      title="A critic must learn before it may be believed"))
claim("a perfect critic, believed, has the exact gradient", perfect["bias"] < 1e-10)

# %% [markdown] rlhf={"part": "idea"}
# Even a perfect critic explains only <!-- out explained --> of the variance here: it speaks *before* each token, and the token itself decides much. PPO mixes believing the critic with waiting for the score, by a factor λ (*generalized advantage estimation*, in the [deeper notebook](deeper/11_policy_gradients.ipynb)). Whether the KL to the reference is taken off the reward or added to the loss is a choice of its own: [chapter 8](deeper/08_regularization.ipynb).
#
# > **Keep this.** The ratio corrects for old data, roughly; the clip says when to stop. At the first step neither does anything.
#
# ## Idea 4: GRPO divides twice
#
# GRPO keeps PPO's ratio and clip, drops the critic, and takes the group as baseline, $r_i-\bar r$. Then it divides: by the standard deviation of the group's scores, and by the number of tokens $|y_i|$ of each answer:
#
# $$w_i=\frac{r_i-\bar r}{\mathrm{std}(r)}\cdot\frac1{|y_i|}$$
#
# Dr. GRPO leaves both divisors out. DAPO keeps the first and divides by the number of tokens of the whole batch (here: of the group). The bench so far:

# %%
def standard(r):                                   # a group of equal scores gives 0
    return (r - r.mean(1, keepdim=True)) / r.std(1, keepdim=True).clamp(min=1e-9)


methods |= {"GRPO without ÷ length": lambda r, n: standard(r),
            "DAPO": lambda r, n: standard(r) / n.sum(1, keepdim=True),
            "GRPO without ÷ std": lambda r, n: (r - r.mean(1, keepdim=True)) / n,
            "GRPO": lambda r, n: standard(r) / n,
            "copy the best": lambda r, n: copy_best(r)}
found = {k: bench.group_gradient(world, policy, w, score) for k, w in methods.items()}
tilt = {k: exact.compare(mean, true)["degrees"] for k, (mean, _) in found.items()}
show(gradients.fan(tilt, title="Four lie on the true gradient, the others are tilted",
                   note_below="groups of four; each arrow in a plane of its own"))

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
    "B is GRPO. Both divisors are measured on the samples that they divide, and the "
    "mean of a quotient is not the quotient of the means. More groups remove the "
    "noise, not the tilt.")
claim("GRPO is tilted by more than 10 degrees, copying by more than GRPO",
      10 < tilt["GRPO"] < tilt["copy the best"])
package = exact.expected_loss_gradient(world, policy, lambda lp, i: rlhf.grpo.grpo_loss(
    lp, lp.detach(), score[i], world.mask[i], group_size=2)[0], group_size=2)
ours, _ = bench.group_gradient(world, policy, methods["GRPO"], score, group_size=2)
claim("the package's GRPO loss, averaged over all pairs, has our weight's gradient",
      exact.compare(-package, ours)["error"] < 1e-9)
quote("explained", f"{100 * perfect['explained']:.0f} %")
others = [bench.tilt(methods["GRPO"], seed) for seed in range(5)]
quote("tilts", f"{min(others):.0f} and {max(others):.0f} degrees")

# %% [markdown]
# *PPO (exact critic)* is PPO's first step with the true expected score as critic and a sum over tokens. As usually coded, PPO averages over the tokens of a batch and standardises its advantages there: divisors measured on samples, too, but a large batch makes them nearly constant. The angles belong to this little world and to groups of four: in the worlds of seeds 0 to 4, GRPO's lies between <!-- out tilts -->.
#
# The two divisors tilt in different ways. **Standard deviation**: with one prompt, this tilt fades as groups grow. What stays is a matter of *several* prompts, since each is divided by its own. Take right-or-wrong scores, and prompts that are solved with probability $q$. How hard does a group of eight pull, compared with the true gradient? **Length**: the tokens of a long answer are pushed less. Take answers that are right exactly if their first token is right, so that length has nothing to do with the score, and climb along mean gradients, without noise:

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
claim("÷ std lifts rare successes 1.3-fold or more; ÷ length leaves longer mistakes",
      bowl[0] > 1.3 * bowl[24] and bench.longer_at_equal_success(*climbs.values()))

# %% [markdown]
# Above: dividing lifts prompts that are nearly always failed *and* those nearly always solved. Below: a token of a long wrong answer is pushed down less, so the wrong answers that remain are longer.
#
# **Token or sequence?** GSPO gives the whole answer one ratio, the geometric mean of its tokens' ratios. That is calm. But it is no longer the ratio by which importance sampling corrects an average over answers: that ratio is the *product* over the tokens, exact and, for long answers, wild. The deeper notebook measures both.
#
# ### Does the tilt matter?
#
# "Biased" means: not the gradient of the expected score. It does not mean worse. In the village GRPO did about as well as RLOO, and copying, the most tilted on the bench, did better. Four possible reasons, each with a control on the same five seeds. The *step size*: both at half and at twice the rate. The *cut* at gradient norm 1, which shortens RLOO's gradients far more: RLOO without it. The *pushes down*: RLOO with its negative weights set to 0. The missing *baseline*: copying with one, `rloo(copy_best(r))`.

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
                  note="five recorded seeds, ± 95 % over seeds"))

# %% tags=["hide-input"]
claim("copying with a baseline ends below copying without, on all five seeds",
      bool((gains["copying, with baseline"] < gains["copying"]).all()), kind="T")
middle = {name: f"{over_runs(gain)[0]:+.2f}" for name, gain in gains.items()}
rates = (", half rate", "", ", double rate")
quote("flat", ", ".join(middle[f"RLOO{rate}"] for rate in rates))
for name in ("RLOO, not cut", "RLOO, only upward", "copying", "copying, with baseline"):
    quote(name.replace(", ", ".").replace(" ", "."), middle[name])

# %% [markdown] rlhf={"part": "wrong"}
# The first three do not explain it: RLOO gains <!-- out flat --> at the three rates, <!-- out RLOO.not.cut --> without the cut and <!-- out RLOO.only.upward --> with upward pushes only. The baseline matters: with it, copying falls from <!-- out copying --> to <!-- out copying.with.baseline -->, about RLOO's level. That is odd. Where exactly one answer is the best, this baseline subtracts a constant, and by idea 2 a constant leaves the mean direction alone. What it does take away is the push on requests whose answers tie for the best, and ties are frequent here, because many answers earn exactly 3. So a likely reason, which we have not isolated, is that copying goes on strengthening answers that are good already.
#
# > **Keep this.** The gradient that an algorithm claims is an average over all batches. A run follows a few single ones.
#
# ## The bench

# %%
weight = {"REINFORCE": "score", "RLOO": "score − mean of the others",
          "PPO (exact critic)": "(score − critic) × clipped ratio",
          "Dr. GRPO": "score − mean", "GRPO": "(score − mean) ÷ std ÷ length",
          "DAPO": "(score − mean) ÷ std ÷ all tokens",
          "copy the best": "1 for the best, else 0"}
noise = {name: spread / mean.norm().item() for name, (mean, spread) in found.items()}
rows = {f"{name}: {words}": {"tilt": f"{tilt[name]:.0f}°", "noise": noise[name]}
        for name, words in weight.items()}
rlhf.book.table(rows, digits=1, corner="method: weight of a token",
                note="exact world, first step, groups of four; noise ÷ mean gradient")

# %% [markdown]
# ## What goes wrong
#
# | the wrong line | what you see | what tells |
# |---|---|---|
# | judging GRPO by its loss | it starts at 0: "nothing learns" ([asked](https://github.com/huggingface/trl/issues/2703) [often](https://github.com/huggingface/trl/issues/3452)) | the gradient norm: centred weights make the value 0, not the slope |
# | `score.view(n, prompts)` for `view(prompts, n)` | training still moves | the advantages of *each prompt* must sum to 0 |
# | `(r - mean) / (std + 1e-8)` in float32 | solved prompts keep pushing | weights of a group of equal scores: not 0 |
# | sampling with [top-p, top-k](https://github.com/huggingface/trl/issues/6789) or another temperature than scoring | nothing unusual | the *sampler's* log-probabilities against the learner's: the first ratio is not 1 (recomputed by the learner, it is 1 and hides it) |
# | `mask = ids != pad`, and pad is the end token | answers stop ending | ended answers whose end token is in the mask |
#
# The last, live. Every answer of the little world that ends has its last token masked out:

# %%
no_end = world.mask * (world.completions != world.eos_id)    # wrong
logp = (world.logps(policy) * no_end).sum(1)
got = exact.gradient((p * (score - p @ score) * logp).sum(), policy)
angle = exact.compare(got, true)["degrees"]
print(f"the mean gradient is tilted by {angle:.0f} degrees")
claim("without end tokens the mean gradient is tilted", angle > 1)

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# RLOO with low-rank adapters on SmolLM2-135M: one recorded run of fifty steps with twelve answers each, true reward less a small price for the KL from the start, requests of the same two kinds.

# %%
large = rlhf.book.recorded("smollm2_rloo")
parts = {"true reward of the step's answers": {"RLOO": "gold"},
         "norm of the gradient": {"RLOO": "grad_norm"}}
show(plots.recorded_panels(large, parts, over=5, roles={"RLOO": "policy"},
                           title="The reward rises, the gradient shrinks"))
for prompt, answers in large.texts()[1:3]:
    cards(prompt, answers)
rlhf.book.table(large.families({"harmful": "harmful", "lookalike": "look-alikes"}),
      note="true reward of held-out answers, ± half a 95 % interval over answers")

# %% tags=["hide-input"]
gain, error = large.gain("harmful")
quiet = [norm < 0.1 for norm in large.curve["grad_norm"]]
claim("harmful gained, look-alikes end at 0, late steps have no gradient",
      gain > 3 * error and abs(large.held_out["after"]["lookalike"]["mean"]) < 0.1
      and sum(quiet[:25]) < 5 and sum(quiet[25:]) > 8, kind="T")
quote("quiet", f"{sum(quiet[25:])} of the last 25 steps")

# %% [markdown] rlhf={"part": "exercises"}
# The gradient was right, the reward was the truth, and the result is a refusal to nearly every request. A policy gradient strengthens what gets *sampled*: this model's answers to look-alikes earned less than nothing on average, so a refusal, worth 0, was an improvement. Once all answers to a request are alike, their weights are 0: <!-- out quiet --> had no gradient at all.
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
# Write the detector of the second trap: `True` if the advantages were *not* centred within prompts. Rows may come in any order, group sizes may differ, and a sum closer to zero than 1e-6 counts as zero. In this picture all four answers belong to one prompt, and the weights are centred:
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
# 1. A policy gradient method lets the model write, scores what it wrote, and pushes each answer as hard as its score says; on average that is exactly the way uphill.
# 2. Subtracting what was to be expected leaves the direction alone and usually takes away noise; an answer's siblings are a cheap way to know what was to be expected.
# 3. PPO reuses a batch: a ratio corrects for old data, roughly, and a clip ends the push on tokens that have moved far enough.
# 4. GRPO also divides by two things that it measures on its own samples, so its mean gradient points elsewhere: rare successes count more, and long mistakes are treated gently.
# 5. A tilt is no verdict: copying the best of eight, the most tilted arrow on the bench, earned more in the village than the exact one; with a baseline it lost that lead.
#
# *In the book*: [Policy Gradient Algorithms](https://rlhfbook.com/c/06-policy-gradients), chapter 6. *Deeper*: [advantage estimation with λ, TRPO and P3O, GSPO and CISPO, stale data, averages over tokens, and a race of ten methods](deeper/11_policy_gradients.ipynb). *Next*: [chapter 12](12_direct_alignment.ipynb), direct alignment.
#
# <!-- nav -->
