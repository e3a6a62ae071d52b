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
# # 8 · Regularization
#
# **Which KL is penalized, by which estimator, and what does it buy?**
#
# ![Line plot of the logged KL of two runs, A and B, against training steps: one stays low, the other climbs; below it two requests with the answer of each run](figures/08_hero.png)
#
# Two runs of reinforcement learning: the same start model, the same requests, the same score to climb, the same price β for each unit of KL, and the same formula for the KL in the log. One of them stays near its start. The code of the two differs in one place, and this page explains why that place decides.
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Chapter 4 (the objective of RLHF) and chapter 11 (policy gradients, RLOO). <!-- costs -->. Nothing is downloaded. Model: <code>village-3m-sft</code>, three million parameters, GPT-2 architecture. The picture above is the first of <b>five recorded seeds</b> (requests not selected), and so are tables and curves of the village, unless they say <b>this page's run</b> (seed 0, other random numbers). The five are full repetitions with other labels, requests, answers and exam requests. ± is half of a 95 % interval over these five runs (Student's t), where nothing else is said. Learning rate, β and the number of steps come from a few short trials with other sizes (seeds 0 to 2, with the penalty and without); all runs share them, except where a row of the table says otherwise. The <i>true reward</i> is a formula of this toy world: 3 for refusing a harmful request or helping with a harmless one, about 0 for refusing a harmless one, less for harm and broken text. The simulated person judges by it, with noise; no training step reads it. <!-- fact -->
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, penalties, plots, quote
from rlhf_minimal.book import show, table
from rlhf_minimal.evaluate import exact, exams, proxies
run = begin(8)

# %% [markdown] rlhf={"part": "predict"}
# **Predict before you scroll.** Both runs compute one number for each sampled answer: the log-ratio, by how much the answer has become more likely since the start. One run subtracts β times it from that answer's reward. The other adds β times its average to the loss, where autograd differentiates it.

# %% tags=["hide-input"]
rlhf.book.predict("Which of the two is run A, the one that left its start?",
        a="the one with the penalty in the reward: a reward is a plain number, "
          "so no gradient of the penalty reaches the weights",
        b="the one with the penalty in the loss, "
          "although its gradient reaches the weights",
        c="neither place decides: both are the same penalty on average, "
          "and with another seed the two could change places")

# %% [markdown] rlhf={"part": "phenomenon loop"}
# ## Two runs, one choice apart
#
# The policy climbs the score of a *judge*: a linear head on the start model's last hidden state, fitted to 1,600 comparisons by an honest simulated person (chapter 7). The unit of its score is the standard deviation over answers to one request. Half of the requests ask for help with harm, the others (*look-alikes*) only sound like it. The method is RLOO: of four answers to a request, those with more reward than the mean of the other three become more likely.

# %%
start, tokenizer = rlhf.models.load("village-3m-sft")
start.requires_grad_(False)                        # the reference stays as it is
person = rlhf.village.Annotator(name="honest", temperature=1.0)
judge = proxies.judge(proxies.bench(), start, person, 1600, run.fresh("labels"))
steps = run.steps(20)
rows = exams.requests(6 * steps, split="train", seed=run.seed + 70)
asked = [[row["prompt"] for row in rows[i:i + 6]] for i in range(0, 6 * steps, 6)]
logps = rlhf.rollout.completion_logps              # of each sampled token

# %%
def loss_and_kl(policy, drawn, place, beta=0.2):
    logp, reward = logps(policy, drawn), judge(drawn)
    with torch.no_grad():
        logp_ref = logps(start, drawn)
    kl = ((logp - logp_ref) * drawn.mask).sum(1)   # one number for each answer
    if place == "reward":
        reward = reward - beta * kl.detach()
    advantage = rlhf.advantages.leave_one_out(reward, 4)
    loss = -(advantage * (logp * drawn.mask).sum(1)).mean()
    if place == "loss":
        loss = loss + beta * kl.mean()
    return loss, kl.mean().item()


# %%
def train(place):
    policy, log, luck = rlhf.models.copy_of(start), [], run.fresh("answers")
    optimizer = torch.optim.AdamW(policy.requires_grad_(True).parameters(), lr=4e-4,
                                  weight_decay=0.0)
    for prompts in asked:
        drawn = rlhf.sampling.answer(policy, tokenizer, prompts, n=4,
                                     max_new_tokens=36, generator=luck)
        loss, kl = loss_and_kl(policy, drawn, place)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        log.append(kl)
    return policy, log


# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
runs = {"run A": train("loss"), "run B": train("reward")}
test = exams.requests(64, seed=run.seed)           # requests that no run has read


def examine(model, name="exam"):
    return exams.exam(model, tokenizer, test, max_new_tokens=36, reference=start,
                      generator=run.fresh(name))


ends = {name: examine(policy) for name, (policy, _) in runs.items()}
for name, e in ends.items():
    print(f"{name}: KL {e.mean('kl'):.1f} nats per answer on 64 new requests")

# %% tags=["hero"]
record = rlhf.book.recorded("08_village")
names = {"run A": "k1 in the loss", "run B": "k1 in the reward"}
said = {name: record.texts["0"][arm][:2] for name, arm in names.items()}
show(penalties.two_runs(
    {name: record.curve[f"{arm} kl 0"] for name, arm in names.items()},
    [x["prompt"] for x in said["run A"]],
    {name: [x["completion"] for x in row] for name, row in said.items()},
    y_label="logged KL, nats per answer",
    note_below="recorded seed 0; the first request of each kind"))

# %% [markdown]
# That is the picture at the top: recorded runs, with other random numbers than this page's run, and the KL of the training log, not of the exam just printed. All five recorded seeds, with a third arm, no penalty:

# %%
arms = {"rejected: k1 in the loss": "k1 in the loss", "reference: no penalty": "none",
        "policy: k1 in the reward": "k1 in the reward"}
lines = {label: record.seeds(f"{arm} kl") for label, arm in arms.items()}
show(penalties.seeds_log(record.curve["step"], lines,
                         y_label="logged KL, nats per answer",
                         note_below="thin: five recorded seeds; thick: their median",
                         title="From the reward, k1 holds; from the loss, it does not"))
kinds, over_runs = ("harmful", "lookalike"), rlhf.book.records.over_runs
far = {arm: record.arm(arm, kinds, "kl").mean(0) for arm in arms.values()}

# %% tags=["hide-input"]
for name, arm in (("loss", "k1 in the loss"), ("reward", "k1 in the reward"),
                  ("none", "none")):
    quote(f"kl.{name}", f"{far[arm].min():.0f} to {far[arm].max():.0f}")
ratio = far["k1 in the loss"] / far["k1 in the reward"]
quote("kl.ratio", f"{ratio.min():.1f} to {ratio.max():.0f}")
claim("k1 in the loss: over twice as far as in the reward, on all five seeds",
      bool((ratio > 2).all()), kind="T")
rlhf.book.settled(
    "b", "Its gradient reaches the weights, and on average it is zero. "
    "Idea 2 shows why, and what the plain number in the reward does instead.")

# %% [markdown] rlhf={"part": "idea"}
# After twenty steps, on new requests, the five seeds lie <!-- out kl.loss --> nats from the start with the penalty in the loss, <!-- out kl.none --> without any penalty, and <!-- out kl.reward --> with the penalty in the reward. Seed by seed, k1 in the loss goes <!-- out kl.ratio --> times as far as k1 in the reward. Against no penalty the seeds disagree. (Gradients are clipped, so the noise of k1 in the loss also shortens the useful step.)
#
# ## Idea 1: the KL is an average, and there is more than one way to estimate it
#
# Write $\pi$ for the policy, $\pi_{\rm ref}$ for the frozen start model (the *reference*), and $\ell(y)=\log\pi(y)-\log\pi_{\rm ref}(y)$ for the log-ratio of an answer $y$. The KL divergence is its average over the policy's own answers. Its unit is the *nat*, the unit of natural logarithms:
#
# $$\mathrm{KL}(\pi\,\|\,\pi_{\rm ref})=\mathbb E_{y\sim\pi}[\ell(y)]$$
#
# From samples one reads three estimators: $k_1=\ell$, $\;k_2=\tfrac12\ell^2$ and $k_3=e^{-\ell}-1+\ell$. On paper: the policy is a fair coin, the reference shows heads three times in four.

# %%
p, ref = torch.tensor([0.5, 0.5]), torch.tensor([0.75, 0.25])
ell = p.log() - ref.log()
k1, k2, k3 = ell, ell**2 / 2, torch.exp(-ell) - 1 + ell
print("mean of k1, k2, k3:", *(f"{(p * k).sum():.4f}" for k in (k1, k2, k3)))
theirs = [k(p.log(), ref.log()) for k in (rlhf.kl.k1, rlhf.kl.k2, rlhf.kl.k3)]
claim("the package computes the same",
      torch.allclose(torch.stack((k1, k2, k3)), torch.stack(theirs), atol=1e-6))

# %% [markdown]
# k1 and k3 have the KL as their mean, k2 has not. k3 adds $e^{-\ell}-1$ to k1, a quantity whose mean is 0, and it is never negative. That makes it quieter than k1, but not everywhere. Take four answers, and move the policy away from the reference:

# %%
logits = torch.tensor([0.5, -0.3, 0.2, -0.4], dtype=torch.float64)
ref = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64).log()
away = torch.linspace(0.05, 4, 60, dtype=torch.float64)[:, None]
logp = (ref + away * (logits - ref)).log_softmax(1)          # 60 policies
distance, noise = rlhf.kl.exact_kl(logp, ref.expand_as(logp)), {}
for name, k in (("rejected: k1", rlhf.kl.k1), ("other: k3", rlhf.kl.k3)):
    x = k(logp, ref.expand_as(logp))
    mean = (logp.exp() * x).sum(1, keepdim=True)
    noise[name] = (distance, (logp.exp() * (x - mean) ** 2).sum(1).sqrt())
show(plots.panels({"standard deviation of one sample": noise},
                  x_label="KL from the reference, nats (four answers, exact)",
                  title="k3: less noise near the reference, more far from it"))

# %%
quiet, loud = (noise["other: k3"][1] - noise["rejected: k1"][1])[[0, -1]]
claim("k3: less noise than k1 near the reference, more far from it",
      bool(quiet < 0 < loud))

# %% [markdown]
# Far out, the policy has given up answers that the reference still likes. When such an answer is drawn after all, $e^{-\ell}=\pi_{\rm ref}/\pi$ is huge; while it is not drawn, k3 reads too low. The two runs of this page, with the terms of each token summed over the answer:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
terms = {"k1": rlhf.kl.k1, "k2": rlhf.kl.k2, "k3": rlhf.kl.k3}
meters = {name: {} for name in terms}
for which, e in ends.items():
    with torch.no_grad():
        now, then = (logps(model, e.rollout) for model in (runs[which][0], start))
    for name, k in terms.items():
        each = (k(now, then) * e.rollout.mask).sum(1)
        meters[name][which] = (each.mean(), 1.96 * each.std() / len(each) ** 0.5)
table(meters, digits=1, note="nats per answer, ± 95 % over requests; this page's run")

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
for which in meters["k1"]:
    low = 1 - meters["k3"][which][0] / meters["k1"][which][0]
    quote(f"low.{which[-1]}", f"{low:.0%}")

# %% tags=["hide-input"]
means = [(logp.exp() * k(logp, ref.expand_as(logp))).sum(1) for k in terms.values()]
claim("on the 60 policies above, k1 and k3 have the KL as their mean",
      torch.allclose(torch.stack(means[::2]), distance))

# %% [markdown] rlhf={"part": "idea"}
# k2's mean is not the KL. k1 and k3 have the same mean, but here k3 reads lower: by <!-- out low.A --> in run A and <!-- out low.B --> in run B. The answers that would make up the difference are rare.
#
# > **Keep this.** k1 and k3 have the same mean. On a few dozen answers k3 may still read well below k1, until a rare answer is drawn. In the world of four answers it is quieter near the reference and noisier far from it.
#
# ## Idea 2: a right value is not a right gradient
#
# Autograd takes the samples as fixed. It differentiates only the log-probabilities *inside* the term. For k1, each sample then has the same slope, 1, whatever its log-ratio:
#
# $$\mathbb E_{y\sim\pi}[\nabla k_1]=\sum_y\pi(y)\,\nabla\log\pi(y)=\nabla\sum_y\pi(y)=\nabla 1=0$$
#
# *Said aloud: every answer that was sampled is pushed down with the same force, and on average that pushes nowhere. The reference has dropped out.*
#
# The KL's own gradient has another factor, because the policy also decides what gets drawn: $\nabla\,\mathrm{KL}=\mathbb E_{y\sim\pi}[\ell(y)\,\nabla\log\pi(y)]$. An answer must be pushed down *in proportion to its log-ratio*. There are two ways to do that:

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "places"}
show(penalties.two_places())
# %% [markdown]
# In the reward, k1 itself is the factor. In the loss, the slope is the factor, and k2's slope is ℓ. Move the log-ratio of one sample: k1 never changes its push. k3's push levels off at 1 for answers that became likelier; for answers that became rarer it grows exponentially, and pulls them back up.

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
penalties.slopes_explorer().show()

# %% [markdown]
# Now exactly, on the four answers: the mean value of each term, and its expected gradient. One more candidate is $\rho\,k_3$, where $\rho=\pi/\mathrm{detach}(\pi)$ has the value 1 and a gradient of its own.

# %%
logits.requires_grad_()


def rho_k3(logp, ref):
    return (logp - logp.detach()).exp() * rlhf.kl.k3(logp, ref)


def in_loss(k):                                   # autograd sees the term
    logp = logits.log_softmax(0)
    return torch.autograd.grad((logp.detach().exp() * k(logp, ref)).sum(), logits)[0]


def in_reward(k):                                 # the term is a plain number
    logp = logits.log_softmax(0)
    factor = (logp.exp() * k(logp, ref)).detach()
    return torch.autograd.grad((factor * logp).sum(), logits)[0]


losses = terms | {"ρ · k3": rho_k3}


# %%
between, p = rlhf.kl.exact_kl, logits.detach().softmax(0)
pull, back = (torch.autograd.grad(x, logits)[0]
              for x in (between(logits, ref), between(ref, logits)))
known = {"0": 0 * p, "∇KL(π‖ref)": pull, "∇KL(ref‖π)": back,
         "their difference": pull - back}

# %% tags=["hide-input"]
placed = {f"{name}, loss": (k, in_loss(k)) for name, k in losses.items()}
placed |= {f"{name}, reward": (k, in_reward(k)) for name, k in terms.items()
           if name != "k2"}
whose = exact.recognise({name: grad for name, (_, grad) in placed.items()}, known)
table({name: {"mean value": (p * k(p.log(), ref)).sum(), "gradient": whose[name]}
       for name, (k, _) in placed.items()}, digits=3, corner="term, place",
      note=f"four answers, exact; KL(π‖ref) = {between(p.log(), ref):.3f}; "
      "their difference: ∇KL(π‖ref) − ∇KL(ref‖π)")
claim("k1 in the loss pulls nowhere; k2, ρ · k3, and k1 in the reward as the KL does",
      [whose[f"{name}, {place}"] for name, place in (("k1", "loss"), ("k2", "loss"),
       ("ρ · k3", "loss"), ("k1", "reward"))] == ["0"] + 3 * ["∇KL(π‖ref)"])
claim("k3 in the loss has the gradient of the other direction, KL(ref‖π)",
      whose["k3, loss"] == "∇KL(ref‖π)")

# %% [markdown]
# *Keep this table.* It holds for any answer drawn as a whole, with ℓ summed over its tokens. So **[should RLOO take the quieter k3?](https://github.com/huggingface/trl/issues/7086)** It charges in the *reward*, where only ℓ is the right factor. With k3 there, the gradient is a difference of two KLs' gradients, which nearly cancel near the reference.
#
# ### Per token, the table is only nearly true
#
# In a loss, code often takes k2 or k3 of each *token*. GRPO's published loss does so with k3; TRL's default is now ρ·k3 ([PR 6503](https://github.com/huggingface/trl/pull/6503)). The term of one token does not see that this token also decides which tokens can follow. In a language of three tokens and fifteen possible answers:

# %%
world, model, other = exact.World(), *(exact.exact_model(run.seed + i) for i in (0, 1))
true = exact.gradient(world.kl(model, other), model)   # KL of whole answers
turned, logp_ref = {}, world.logps(other).detach()
for name in ("k2", "k3", "ρ · k3"):                    # summed over tokens, in the loss
    turned[name] = exact.compare(exact.expected_loss_gradient(
        world, model, lambda logp, i, k=losses[name]: k(logp, logp_ref[i]).sum()), true)
turned["k2 of the sum"] = exact.compare(exact.expected_loss_gradient(
    world, model, lambda logp, i: rlhf.kl.k2(logp.sum(), logp_ref[i].sum())), true)
logp = world.seq_logp(model)
ell = (logp - logp_ref.sum(1)).detach()                # k1 of an answer, in the reward
paid = exact.gradient((logp.exp().detach() * ell * logp).sum(), model)
turned["k1 in the reward"] = exact.compare(paid, true)

# %% tags=["hide-input"]
for name in ("k2", "k3"):
    quote(f"cos.{name}", f"{turned[name]['cosine']:.2f}")
claim("k1 in the reward, and k2 of the summed ℓ: exactly the gradient of the KL",
      max(turned[x]["error"] for x in ("k1 in the reward", "k2 of the sum")) < 1e-9)
claim("per token, ρ · k3 and k2 have one gradient in the loss, and not the KL's",
      abs(turned["ρ · k3"]["cosine"] - turned["k2"]["cosine"]) < 1e-9
      and turned["k2"]["error"] > 1e-3)

# %% [markdown]
# The cosine to the true gradient is <!-- out cos.k2 --> for k2 and ρ·k3 per token in the loss, <!-- out cos.k3 --> for k3 (this little language, seed 0). It is 1 for k1 in the reward and for k2 of the answer's *summed* log-ratio. In the village, where k2 and k3 are charged per token and summed, five recorded seeds at β = 0.2: <!-- fact -->

# %%
drift = {"no penalty": "none"} | {name: name for name in (
    "k1 in the loss", "k3 in the loss", "k2 in the loss", "k1 in the reward")}
drift = {label: record.arm(arm, kinds, "kl").mean(0).tolist()
         for label, arm in drift.items()}
fig = plots.dots({"KL from the start, nats per answer": {"five seeds": drift}},
                 title="Same β: k1 in the loss lets go, k2 holds")
fig.axes[0].set(xscale="log", xlim=(1, 600))
fig.axes[0].xaxis.set_major_formatter("{x:g}")
show(fig)

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** The logged value says nothing about the gradient. Charge with k1 in the reward, or with k2 or ρ·k3 in the loss; k1 in the loss charges nothing on average. In the loss this is exact for one term per whole answer; per token it is near (cosine <!-- out cos.k2 --> here). (These choices, compared in large models: [arXiv 2512.21852](https://arxiv.org/abs/2512.21852).)
#
# ## Idea 3: β is a price, and the best policy is known
#
# What is a penalized run looking for? Let $r(y)$ be the reward of an answer. The objective can be rewritten exactly:
#
# $$\begin{aligned}J(\pi)&=\mathbb E_{y\sim\pi}[r(y)]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\rm ref})\\&=-\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)+\beta\log Z,\end{aligned}$$
#
# $$\pi^*(y)=\frac{\pi_{\rm ref}(y)\,e^{r(y)/\beta}}{Z}$$
#
# *Said aloud: there is one best policy. It multiplies each answer's old probability by $e^{r/\beta}$; what any other policy lacks is β times its KL to that one.* ($Z$ makes the probabilities sum to one.)
#
# | symbol | meaning | in the code |
# |---|---|---|
# | $\beta$ | price of a nat, in units of reward | `beta` |
# | $\pi^*$ | best policy at this price | `best` |
#
# On paper: two answers, equally likely at the start, rewards 0 and log 3, β = 1. The odds become 1 : 3, and $Z=2$. <!-- fact -->

# %%
even, r = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 3.0]).log()
best = (even + r / 1.0).log_softmax(0)
print("best policy:", *(f"{x:.2f}" for x in best.exp()))
claim("the package computes the same", torch.allclose(exact.tilted(even, r, 1.0), best))

# %% [markdown]
# Which of the terms leads there? The four answers again, with rewards 1, 0, −1 and 0.5, β = 0.5, and expected gradients:

# %%
reward, beta = torch.tensor([1.0, 0.0, -1.0, 0.5], dtype=torch.float64), 0.5
best = (ref + reward / beta).log_softmax(0)


def follow(k):
    guess, path = ref.clone().requires_grad_(), []
    optimizer = torch.optim.Adam([guess], lr=0.04)
    for _ in range(300):
        logp = guess.log_softmax(0)
        p = logp.detach().exp()
        path.append(rlhf.kl.exact_kl(logp, best).item())
        advantage = reward - p @ reward
        loss = (p * (beta * k(logp, ref) - advantage * logp)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return path


# %%
looks = {"rejected: k1": "k1", "other: k3": "k3", "policy: k2, ρ · k3": "k2"}
paths = {label: follow(terms[name]) for label, name in looks.items()}
show(plots.panels({"KL to the best policy, nats": paths}, x_label="step",
                  title="Of these four terms in the loss, k2 and ρ · k3 arrive"))
claim("k2 and ρ · k3 arrive; k3 stops elsewhere; k1 runs past",
      max(follow(rho_k3)[-1], paths["policy: k2, ρ · k3"][-1]) < 1e-3
      and paths["other: k3"][-1] > 0.02 and paths["rejected: k1"][-1] > 0.3)

# %% [markdown]
# k3 ends at the best policy of another objective, that with $\mathrm{KL}(\pi_{\rm ref}\|\pi)$.
#
# What does the price buy in the village? The last column is the true reward on facts and sums, tasks that no run trained on:

# %%
named = {"start": "start", "no penalty": "none", "k1 in the loss": "k1 in the loss",
         "k3 in the loss": "k3 in the loss", "k2 in the loss": "k2 in the loss",
         "k1 in the reward": "k1 in the reward"}
worth, other = ({label: record.arm(arm, families).mean(0)
                 for label, arm in named.items()}
                for families in (kinds, ("fact", "sum")))
table({label: {"true reward": over_runs(worth[label]),
               "facts and sums": over_runs(other[label])} for label in named},
      digits=1, note="new requests; ± 95 % over the five recorded seeds")

# %% tags=["hide-input"]
claim("true reward: with k1 in the reward above no penalty, on all five seeds",
      bool((worth["k1 in the reward"] > worth["no penalty"]).all()), kind="T")
for name, arm in (("start", "start"), ("reward", "k1 in the reward")):
    quote(f"refused.{name}",
          f"{record.arm(arm, ['lookalike'], 'refuses').mean():.0%}")

# %% [markdown] rlhf={"part": "wrong"}
# The penalty limits the fall of the true reward. It does not turn it into a gain. Our reading: it cannot, because the judge stays wrong. With the penalty, <!-- out refused.reward --> of the harmless look-alikes are refused, <!-- out refused.start --> at the start (means of the five seeds).
#
# On other tasks it guards only in part: facts and sums fall less with it than without, but they fall, and five seeds do not settle how much is saved. InstructGPT also mixed old text into each update (measured in the deeper notebook).
#
# > **Keep this.** β is the price of a nat: it limits how far a wrong score is followed. It does not repair the score, and it guards other tasks only in part.
#
# ## What goes wrong
#
# | the wrong line | what you see | the one number that tells |
# |---|---|---|
# | `loss + beta * k1.mean()` | [a larger β does not lower the KL](https://github.com/allenai/open-instruct/issues/534) | a run with β = 0 goes about as far |
# | `reward - beta * (logp_ref - logp)` | the run is paid for drifting | the logged mean of `logp_ref - logp`: below 0 |
# | `(kl * mask).sum(1) / mask.sum(1)` | longer answers, more drift at the same β | the same tokens twice must cost twice |
# | `F.kl_div(logp, logp_ref)` | nan, or the other direction | two equal models must give 0; swap them and compare |
# | KL measured on stored answers of the start | a negative KL | its distance from 0 in standard errors |
#
# The last one, live. A KL is never negative. But answers that the *start* wrote give the average of ℓ under the wrong distribution, $-\mathrm{KL}(\pi_{\rm ref}\|\pi)$:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
old = examine(start, "old").rollout
with torch.no_grad():
    ratio = ((logps(runs["run A"][0], old) - logps(start, old)) * old.mask).sum(1)
error = ratio.std() / len(ratio) ** 0.5
print(f"run A on the start's answers: mean log-ratio {ratio.mean():.1f} nats, "
      f"{-ratio.mean() / error:.0f} standard errors below 0")

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# The penalty in the reward on SmolLM2 with 135 million parameters: PPO with LoRA of rank 16, fifty steps of eight answers, the score of a learned reward model, requests of the same two kinds, and k1 at β = 0.02. One recorded run without a second arm, so it cannot show what the penalty held back. Compare what is paid with what is gained: <!-- fact -->

# %%
large = rlhf.book.recorded("smollm2_ppo")
first = sum(large.curve["score"][:5]) / 5
curves = {"proxy: score gained": [score - first for score in large.curve["score"]],
          "policy: paid, β · KL": [b * kl for b, kl in zip(
              large.curve["beta"], large.curve["kl"], strict=True)]}
smooth = rlhf.book.records.running_means
show(plots.panels({"in units of the score, means over 10 steps": {
    label: (smooth(large.curve["step"], 10), smooth(values, 10))
    for label, values in curves.items()}}, x_label="training step",
    title="At this β, leaving costs far less than it gains"))
for prompt, answers in (large.texts()[0], large.texts()[2]):     # one of each kind
    cards(prompt, answers)

# %% tags=["hide-input"]
end = {label: sum(values[-10:]) / 10 for label, values in curves.items()}
claim("in the last ten steps the price is below a quarter of the gain",
      end["policy: paid, β · KL"] < 0.25 * end["proxy: score gained"], kind="T")
quote("large.kl", f"{sum(large.curve['kl'][-10:]) / 10:.1f}")
quote("large.paid", f"{end['policy: paid, β · KL']:.2f}")
quote("large.gained", f"{end['proxy: score gained']:.2f}")
quote("large.times", f"{end['proxy: score gained'] / end['policy: paid, β · KL']:.0f}")
quote("large.lookalike", " to ".join(
    f"{large.held_out[when]['lookalike']['mean']:.2f}".replace("-", "−")
    for when in ("before", "after")))

# %% [markdown] rlhf={"part": "exercises"}
# At the end the policy pays <!-- out large.paid --> per answer and has gained <!-- out large.gained -->, <!-- out large.times --> times as much. That suggests, but does not show, that β was low: what binds is the price of the *next* nat against what that nat gains. A KL says how far, not where to. A few nats (<!-- out large.kl --> here) were enough to turn help into refusals: the average true reward of held-out look-alikes went from <!-- out large.lookalike -->, and a refusal is worth 0.
#
# ## Exercises
#
# ### Exercise 8.1 · A term that is right twice
#
# Write a term for a *loss* whose average over the policy's answers is the KL **and** whose expected gradient is that of KL(π‖ref). ρ·k3 is one; find another, without k3.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex08-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def kl_term(logp, logp_ref):
    """(N,), (N,) log-probabilities of the policy's samples -> (N,) for a loss."""
    ### BEGIN SOLUTION
    k1, k2 = logp - logp_ref, (logp - logp_ref) ** 2 / 2
    return k1.detach() + k2 - k2.detach()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex08-1-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("8.1", kl_term)
### BEGIN HIDDEN TESTS
check("8.1", kl_term, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# One estimator has the right value, another the right gradient. <code>x - x.detach()</code> has the value 0 and the gradient of x.
# </details>
#
# <!-- solution 8.1 -->
#
# Your term stands in the lower half: the log reads its value, the weights feel its slope.
#
# ![Drawing of two places for a KL penalty, in the reward as a number and in the loss as a function](figures/08_places.png)
#
# ### Exercise 8.2 · Moving house
#
# Code base A trains on `score / sd − beta · (mean over the answer's tokens of the log-ratio)`. Code base B trains on `score − beta_B · (sum over the answer's tokens of the log-ratio)`. All your answers have `length` tokens. Which `beta_B` makes the two rewards proportional? On paper first.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex08-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def translate_beta(beta, length, sd):
    """A's beta, tokens per answer, standard deviation of the scores -> B's beta."""
    ### BEGIN SOLUTION
    return beta * sd / length
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex08-2-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("8.2", translate_beta)
### BEGIN HIDDEN TESTS
check("8.2", translate_beta, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Multiply A's reward by <code>sd</code>. A mean over the tokens is the sum over <code>length</code>.
# </details>
#
# <!-- solution 8.2 -->
#
# ### Exercise 8.3 · A negative KL
#
# Early in your run the logged KL is below zero. Should you stop it? Write the detector: given the log-ratios of N answers, summed over their tokens, say `True` if their mean lies more than three standard errors below zero, and `False` if it may be noise. `True` is strong evidence of a bug: another model's answers, another temperature, a wrong mask, a swapped sign. (At the very first step every log-ratio must be 0.)

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex08-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def is_bug(kl):
    """(N,) log-ratios of N answers -> True if their mean is too far below 0."""
    ### BEGIN SOLUTION
    standard_error = kl.std() / len(kl) ** 0.5
    return bool(kl.mean() < -3 * standard_error)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex08-3-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("8.3", is_bug)
### BEGIN HIDDEN TESTS
check("8.3", is_bug, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# The standard error of a mean is the standard deviation over √N.
# </details>
#
# <!-- solution 8.3 -->
#
# ## Retell it
#
# 1. Two runs logged the same formula at the same price; the one with the penalty in the loss drifted about as far as runs without one, within the seeds' spread, because a log-ratio in a loss pushes on nothing on average.
# 2. The KL is the average log-ratio of the policy's own answers; two estimators with the same mean can still read differently on a few dozen answers.
# 3. A right value is not a right gradient: an answer must be pushed down in proportion to its log-ratio, by the plain number in the reward or by a term whose slope is the log-ratio.
# 4. With a penalty there is one best policy, known in closed form; the price per nat decides how far away it lies.
# 5. A penalty limits how far a wrong score is followed. It does not make the score right, and it guards other tasks only in part.
#
# *In the book*: [Regularization](https://rlhfbook.com/c/15-regularization), chapter 15. *Deeper*: [per token or per answer, budgets and controllers, forward and reverse KL, old text, who forgets more](deeper/08_regularization.ipynb). *Next*: chapter 9, instruction tuning.
#
# <!-- nav -->
