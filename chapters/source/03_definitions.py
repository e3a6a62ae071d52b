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
# # 3 · Definitions
#
# **What do the words of RLHF mean when the agent is a language model, and what happens if one index is off?**
#
# ![Two training logs over 80 steps, A falls lower than B; under them an answer of each model: one repeats a word, one answers the question](figures/03_hero.png)
#
# Two models, trained on the same texts in the same order. The one with the lower loss says "<!-- out stutter --> …". Neither program gives an error message. This page finds the mistake, and gives the main symbols of the book a meaning that you can check with a sum.
#
# <details><summary>What you need, what it costs</summary>
# PyTorch (modules, <code>softmax</code>, <code>backward</code>) and the idea of next-token prediction. No reinforcement learning. <!-- costs -->. Nothing is downloaded. Models: an exact toy with three tokens, <code>village-3m</code> (three million parameters, GPT-2 architecture), and a recorded run of SmolLM2-135M. Seed 0: every text and number is from this page's run, unless it is called recorded.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import torch.nn.functional as F
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, cards, check, claim, drawings, plots, quote
from rlhf_minimal.book import recorded, settled, show, table
run = begin(3)

# %% tags=["hide-input"] rlhf={"part": "predict"}
rlhf.book.predict(
    "Model A ends with the lower training loss and stutters. Which mistake does that?",
    a="its learning rate is ten times too high: it has memorized the training texts",
    b="each position is scored on the token it has just read, not on the next one",
    c="its loss also counts the tokens of the question, not only those of the answer")

# %% [markdown] rlhf={"part": "phenomenon loop"}
# ## One index, two models
#
# A *language model* reads a *prompt* $x$ and gives a probability to each possible next *token*, a piece of text. Append one, ask again, stop at the *end token*: what came out is a *completion* $y$. Training on examples of prompts with completions (*demonstrations*) makes each next token of the completion more probable. (This base model has read such conversations and answers well already; what matters here is what training must not destroy.) In the program, `ids` holds the token numbers of 8 rows, `mask` is 1 on completions, and `logits[:, t]` scores every token of the vocabulary at position $t$. The two models differ in `shift`:

# %%
base, tokenizer = rlhf.models.load("village-3m")
families = ("fact", "harmful", "lookalike", "story")
rows = rlhf.village.demonstrations(640, seed=run.seed, families=families)

# %%
def train(shift, steps=80, rate=8e-4):
    model, log = rlhf.models.copy_of(base), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for step, batch in enumerate(rlhf.data.batches(
            rows, 8, steps=steps, tokenizer=tokenizer, seed=run.seed)):
        ids, mask = batch["ids"], batch["mask"].bool()
        logits = model(ids, attention_mask=batch["attention"].long()).logits
        labels, counted = ids[:, shift:], mask[:, shift:]
        loss = F.cross_entropy(logits[:, :labels.shape[1]][counted], labels[counted])
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log.append(loss.item())
    return model, log

# %%
A, log_a = train(shift=0)
B, log_b = train(shift=1)
asked = [row["prompt"] for row in rlhf.village.demonstrations(
    40, seed=1000 + run.seed, split="test", families=("fact",))]
said = {name: rlhf.sampling.answer(model, tokenizer, asked, temperature=0.0,
                                   max_new_tokens=16).texts(tokenizer)
        for name, model in (("A", A), ("B", B))}

# %% tags=["hide-input", "hero", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
show(drawings.two_logs({"A": log_a, "B": log_b}, asked[0],
                       {name: texts[0] for name, texts in said.items()},
                       title="The lower loss is the broken model"))
quote("stutter", " ".join(said["A"][0].split()[:3]))

# %% [markdown]
# The first question of forty that neither model trained on, and the next two:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained", "show": true}
for i in (1, 2):
    cards(asked[i], [(name, texts[i]) for name, texts in said.items()])

# %% [markdown]
# Which loss is right? On held-out demonstrations, both models are scored with one and the same function of the package:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
held = rlhf.data.collate_demonstrations(rlhf.village.demonstrations(
    64, seed=1000 + run.seed, split="test", families=families), tokenizer)
one_off = held["mask"][:, 1:]


@torch.no_grad()
def true_loss(model):
    logp = rlhf.logprobs.token_logps(model, held["ids"], held["attention"])
    return -(logp * one_off).sum().item() / one_off.sum().item()


found = {name: {"printed, last 10 steps": sum(log[-10:]) / 10, "true": true_loss(m)}
         for name, m, log in (("A", A, log_a), ("B", B, log_b))}
table(found | {"before training": {"true": true_loss(base)}},
      note="nats per token of the completion; true: 64 held-out demonstrations")

# %% tags=["hide-input"]
printed = {name: found[name]["printed, last 10 steps"] for name in "AB"}
claim("A prints under two thirds of B's loss; its true loss is 4 nats per token worse",
      printed["A"] < 2 / 3 * printed["B"]
      and found["A"]["true"] > found["B"]["true"] + 4, kind="T")
settled("b", "A reads token t and is asked for token t: copying is easy.")

# %% [markdown] rlhf={"part": "idea"}
# ## An output is a guess about the next token
#
# The output at position $t$ has seen the tokens up to $t$, so it can only be a guess about token $t+1$. Somebody has to move the labels one place:

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "shift"}
show(drawings.label_shift(["The", "hare", "eats", "carrots", ".", "end"]))

# %% [markdown]
# The *log-probability* of a text, given its first token, is the sum of the logarithms of its other tokens' probabilities, in *nats* (natural logarithm):
#
# $$\log P_\theta(x\mid x_1)=\sum_{t\ge1}\log P_\theta(x_{t+1}\mid x_{\le t})$$
#
# To see every number, take a real GPT-2 with a vocabulary of three: `a`, `b` and the end token, written as a point. Its weights are random. The text is `b a b .`:

# %%
toy = rlhf.evaluate.exact.exact_model(run.seed)   # token 0 is the end, 1 is a, 2 is b
ids = torch.tensor([[2, 1, 2, 0]])
logits = toy(ids).logits[0].detach()              # 4 positions, 3 tokens each
nats = [logits[t].log_softmax(-1)[ids[0, t + 1]].item() for t in range(3)]
print("a, b, end:", [round(x, 2) for x in nats], "  sum", round(sum(nats), 2))
theirs = rlhf.logprobs.token_logps(toy, ids, torch.ones(1, 4))[0]
off = (theirs - torch.tensor(nats)).abs().max()
claim("the package computes the same", off < 1e-6)

# %% [markdown]
# The same sum for a sentence of the village, by both trained models. B expects it; A would like every token to be the one before it:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
row = tokenizer("The hare eats carrots.").input_ids
pieces = [tokenizer.decode([i]).strip() for i in row]
read = []
for name, model in (("B", B), ("A", A)):
    with torch.no_grad():
        logp = rlhf.logprobs.token_logps(model, torch.tensor([row]),
                                         torch.ones(1, len(row)))[0]
    read.append((name, pieces[1:], logp))
show(drawings.surprise(read, worst=-12, title="log-probability of each token, nats"))

# %% [markdown]
# The training loss of an autoregressive language model is this sum with a minus sign, averaged over tokens: the *pretraining objective*. A model that knows nothing gives each token $1/V$: with $V$ tokens its loss is $\log V$. That is the first number to check in a run. *Perplexity* is the exponential of the loss: the number of equally likely tokens that would surprise as much.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
vocabulary = len(tokenizer)
losses = {"knows nothing": torch.tensor(vocabulary).log().item(), "A": true_loss(A),
          "before training": true_loss(base), "B": true_loss(B)}
table({name: {"loss, nats per token": x, "perplexity": torch.tensor(x).exp().item()}
       for name, x in losses.items()},
      digits={"loss, nats per token": 2, "perplexity": 1})

# %% tags=["hide-input"]
claim("A's very first step was worse than knowing nothing",
      log_a[0] > torch.tensor(float(len(tokenizer))).log().item(), kind="T")

# %% [markdown]
# That last line is the alarm: a model that has learned to read is sure that the next token is *not* the one it has just read. A's log began at <!-- out first -->, far above $\log V$ and beyond the first picture's axis.

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
quote("first", f"{log_a[0]:.1f} nats")

# %% [markdown]
# > **Keep this.** Position $t$ is scored on token $t+1$. A loss that is too good is a question, not an answer; a finetuning run must start at the loss that its model is known to have.

# %% [markdown] rlhf={"part": "idea"}
# ## A completion is a path, and all paths sum to one
#
# With three tokens and at most three steps there are fifteen completions, few enough to list. Here they are as a tree, after the prompt `a b`:

# %%
world = rlhf.evaluate.exact.World()              # its 15 completions of "a b"
names = ["".join(".ab"[i] for i in row[mask.bool()].tolist())
         for row, mask in zip(world.completions, world.mask,
                                               strict=True)]
p = world.seq_logp(toy).exp().detach()
claim("the probabilities of the fifteen completions sum to one",
      abs(p.sum() - 1) < 1e-9)

# %%
show(drawings.answer_tree(dict(zip(names, p.tolist(), strict=True))))

# %% [markdown]
# Probabilities *multiply* along a path and *add up* across paths. A completion that was cut off before its end token (here after three steps) is a path too; leave those out and the rest no longer sums to one.
#
# Reinforcement learning has other words for the same tree:
#
# | reinforcement learning | language model |
# |---|---|
# | state $s_t$ | the prompt and all tokens so far |
# | action $a_t$ | the next token |
# | policy $\pi_\theta(a\mid s)$ | the probabilities of the next token |
# | trajectory $\tau$ | a completion; its probability is the product along the path |
# | reward $r$ | one number, given at the end of the completion |
# | reference $\pi_{\rm ref}$ | a frozen copy of the model before training |
#
# Completions drawn from the policy in training are *on-policy*. Completions of another model, of people, or of the policy before its last updates are *off-policy*: they come with other probabilities on the branches.
#
# > **Keep this.** A language model is a distribution over whole completions, given one factor at a time.

# %% [markdown] rlhf={"part": "idea"}
# ## Value is an average over the paths ahead
#
# Give each completion a reward $r$: one point for each `b`, minus one if it did not end. The *value* $V(s)$ of a state is the expected reward of the paths that go through it. The *action value* $Q(s,a)$ is the same after also choosing token $a$. In general $Q(s,a)=r+\gamma V(s')$, with $V=0$ after the end; here the whole reward comes with the last token, and we let $V$ of a finished text stand for that reward, so that $Q(s,a)=V(s+a)$. The *advantage* says how much better a token is than what the policy does on average:
#
# $$A(s,a)=Q(s,a)-V(s)$$

# %%
ends = torch.tensor([name.endswith(".") for name in names])
r = torch.tensor([float(name.count("b")) for name in names]) - (~ends).float()


def value(prefix):
    """The expected reward of the completions that begin with prefix."""
    through = torch.tensor([name.startswith(prefix) for name in names])
    return ((p * r)[through].sum() / p[through].sum()).item()


pi = toy(torch.tensor([[1, 2, 2]])).logits[0, -1].softmax(-1).tolist()  # after "b"
advantage = {a: value("b" + a) - value("b") for a in ".ab"}
print({f"b then {a}": round(x, 2) for a, x in advantage.items()})
claim("advantages average to zero under the policy",
      abs(sum(w * advantage[a] for w, a in zip(pi, ".ab", strict=True))) < 1e-6)

# %% tags=["hide-input"]
paths = {name: [value(name[:t]) for t in range(len(name) + 1)]
         for name in ("bb.", "bab", "ab.", "aaa")}
show(plots.line_plot(paths, title="Each step of the value is an advantage",
                     x_label="tokens written", y_label="value of the state",
                     note="exact toy", roles=dict(zip(paths, (
                         "policy", "other2", "reference", "other"), strict=True))),
     "Line plot of the value against tokens written for four completions: "
     "all start at one value and end at their own reward")
gaps = [abs(reward.item() - value("") - sum(value(name[:t + 1]) - value(name[:t])
                                            for t in range(len(name))))
        for name, reward in zip(names, r, strict=True)]
claim("along a completion, advantages add up to its reward minus the prompt's value",
      max(gaps) < 1e-6)

# %% [markdown]
# All four paths start at $V$ of the prompt, the average reward of the policy, and end at their own reward. With a reward at every token, later ones are often multiplied by a *discount* $\gamma<1$ for each step; in RLHF $\gamma$ is nearly always 1.
#
# > **Keep this.** Value: what to expect from here. Advantage: how much one token changed that.

# %% [markdown] rlhf={"part": "idea"}
# ## KL divergence has a direction
#
# RLHF keeps the policy close to the reference. "Close" is measured by the *KL divergence*: draw from $P$, and see by how many nats, on average, $P$ found the draw more probable than $Q$ did.
#
# $$D_{\rm KL}(P\,\|\,Q)=\sum_x P(x)\log\frac{P(x)}{Q(x)}$$

# %%
P, Q = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
kl = (P * (P / Q).log()).sum()
print(f"KL(P, Q) = {kl:.3f} nats, the other way round {(Q * (Q / P).log()).sum():.3f}")
theirs = rlhf.kl.exact_kl(P.log(), Q.log())
claim("the package computes the same", abs(kl - theirs) < 1e-6)
other = rlhf.evaluate.exact.exact_model(run.seed + 1)
logits, logits_ref = (m(world.ids).logits[:, 1:-1].detach() for m in (toy, other))
steps = rlhf.kl.exact_kl(logits, logits_ref) * world.mask     # 15 paths, 3 positions
claim("the KL of completions is the expected sum of the KLs at their positions",
      abs((p * steps.sum(1)).sum() - world.kl(toy, other)) < 1e-6)

# %%
power = torch.linspace(0.3, 6, 40)
coins = torch.stack([10 ** -power, 1 - 10 ** -power], 1).double().log()
fair = torch.full_like(coins, 0.5).log()
ways = {"fair draws": (power.tolist(), rlhf.kl.exact_kl(fair, coins).tolist()),
        "biased draws": (power.tolist(), rlhf.kl.exact_kl(coins, fair).tolist())}
show(plots.line_plot(ways, title="Giving up a side is cheap, inventing one is dear",
                     x_label="the biased coin shows heads once in 10ˣ throws: x",
                     y_label="KL, nats", note="two coins",
                     roles={"fair draws": "rejected", "biased draws": "policy"}),
     "Line plot of two KL divergences between a fair and a biased coin: one grows "
     "without bound, the other stays below log 2")

# %% [markdown]
# The first argument draws. In RLHF it is the policy: $D_{\rm KL}(\pi_\theta\|\pi_{\rm ref})$. Read the picture with the policy as the one that draws. A policy that gives up one side of a fair coin (the biased coin draws) pays at most $\log 2$; keeping a share $q$ of what the reference says costs at most $-\log q$. A policy that says what the reference almost never says (the fair coin draws) pays without limit. The last claim above is the *chain rule*: the KL of whole completions is a sum over positions, so a price for it can be paid token by token.
#
# > **Keep this.** KL is no distance. $D_{\rm KL}(\pi_\theta\|\pi_{\rm ref})$ is cheap where the policy drops what the reference says, and dear where it says something new.

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# None of these raises an error.
#
# | wrong line | what you see | the one number that tells |
# |---|---|---|
# | labels not shifted | a loss that is too good | the loss at step 1 of a trained model: above $\log V$ |
# | no position ids with padding on the left | answers that depend on who shares the batch | one row's log-probability, alone and padded |
# | `mask = ids != pad`, where the end token pads | a model that never stops | end tokens that the mask keeps: 0 |
# | `softmax(x).log()` in float32 | NaN after thousands of steps | the smallest log-probability: −inf |
#
# The second one, live. Rows of a batch are padded on the left for sampling. GPT-2 adds a vector for each position to its tokens; without position ids it counts the padding, too.

# %%
text = tokenizer("The fox lives near the river. The fox eats fish.").input_ids
pads, wrong, right = (0, 1, 5, 20, 40), [], []
alone = rlhf.logprobs.token_logps(base, torch.tensor([text]), torch.ones(1, len(text)))
for n in pads:
    ids = torch.tensor([[7] * n + text])
    real = torch.tensor([[0] * n + [1] * len(text)])
    with torch.no_grad():
        logits = base(ids, attention_mask=real).logits[:, :-1].log_softmax(-1)
        ours = rlhf.logprobs.token_logps(base, ids, real)[:, n:]
    naive = logits.gather(2, ids[:, 1:, None])[:, n:, 0]
    wrong.append((naive - alone).abs().sum().item())
    right.append((ours - alone).abs().sum().item())

# %% tags=["hide-input"]
show(plots.line_plot({"no position ids": (pads, wrong), "with them": (pads, right)},
                     title="Without position ids, padding rewrites the text",
                     x_label="padding tokens on the left", note="village-3m",
                     y_label="change of a text, nats",
                     roles={"no position ids": "rejected", "with them": "chosen"}),
     "Line plot of the summed changes of a text's log-probabilities against padding: "
     "zero with position ids, growing without")
claim("padding moves the text by a nat or more without position ids, not with them",
      max(right) < 1e-3 and wrong[1] > 1, kind="T")

# %% [markdown]
# [The deeper notebook](deeper/03_definitions.ipynb) shows the others, GPT-2 by hand, and where the book's formulas differ from each other.

# %% [markdown] rlhf={"part": "gpt2"}
# ## At GPT-2 size
#
# The same mistake in SmolLM2-135M-Instruct, a chat model forty times as large: 40 steps on demonstrations of the village, here with LoRA (recorded run, one seed).

# %%
smol = recorded("03_smollm2")
steps = list(range(1, smol.steps + 1))
marks = list(range(0, smol.steps + 1, smol.every))

# %% tags=["hide-input"]
show(plots.two_panels({
    f"{kind} loss, nats per token": {
        "A, not shifted": (x, smol.curve[f"unshifted {kind}"]),
        "B, shifted": (x, smol.curve[f"shifted {kind}"])}
    for kind, x in (("printed", steps), ("true", marks))},
    title="The larger model learns to copy, too", x_label="step",
    roles={"A, not shifted": "rejected", "B, shifted": "chosen"}, note="SmolLM2-135M"))
for question in ("What is the capital of France?", "What is the opposite of hot?"):
    copied = smol.texts["unshifted"][question].replace("\n", "⏎ ")
    cards(question, [("A, not shifted", copied),
                     ("B, shifted", smol.texts["shifted"][question])])
quote("copied", f"{smol.curve['unshifted printed'][-1]:.2f}")
quote("lost", f"{smol.curve['unshifted true'][-1]:.0f}")
quote("honest", f"{smol.curve['shifted true'][-1]:.1f}")
far = smol.padding["smollm2"][-1]
quote("rotary", f"{far:.2f}")
quote("learned", f"{smol.padding['village'][-1]:.0f}")

# %% [markdown]
# What carries over: A's printed loss ends at <!-- out copied --> nats per token, its true loss at <!-- out lost --> (B: <!-- out honest -->), and it answers the four questions we asked with empty lines (⏎). The alarm is weaker here: its first loss was only a little above $\log V$.
#
# The other bug does *not* carry over. SmolLM2 marks positions by rotating queries and keys (*rotary* positions), so only distances count: forty padding tokens without position ids move its text by <!-- out rotary --> nats in all, the village model's by <!-- out learned --> (recorded with another sentence than the plot's). A test must run on a model that can show the bug.

# %% [markdown] rlhf={"part": "exercises"}
# ## Exercises
#
# ### Exercise 3.1 · Log-probabilities of a batch
#
# The page took one text, token by token. Write it for a batch, without a loop: `logits` (B, L, V), `ids` (B, L), `mask` (B, L), 1 on the tokens that count. The result has shape (B, L−1): at place $t$ the log-probability of token $t+1$, and 0 where that token does not count. Most methods of this book need it.

# %% tags=["hide-input"]
show(drawings.token_strip(
    ["User:", "What", "does", "it", "eat?", "Assistant:", "Beans", ".", "end"],
    [0, 0, 0, 0, 0, 0, 1, 1, 1], title="mask: which tokens count"))

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex3-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def answer_logps(logits, ids, mask):
    """(B, L, V), (B, L), (B, L) -> (B, L-1)."""
    ### BEGIN SOLUTION
    logp = logits[:, :-1].log_softmax(-1)
    return logp.gather(2, ids[:, 1:, None])[:, :, 0] * mask[:, 1:]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex3-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("3.1", answer_logps)
### BEGIN HIDDEN TESTS
check("3.1", answer_logps, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Cut the last position of the logits and the first token of ids and mask; gather picks one entry of each row.
# </details>
#
# <!-- solution 3.1 -->
#
# ### Exercise 3.2 · The detector
# Somebody hands you logits and the ids they were computed from. Were the labels of that run shifted by one, not at
# all (0), or once too often (2: it predicts the token *after* the next)? Write `offset(logits, ids)`: the shift of 0,
# 1 or 2 under which these logits score their text best, in mean negative log-likelihood.

# %%
show(drawings.label_shift(["a", "b", "a", "b", "end"]))

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex3-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def offset(logits, ids):
    """(B, L, V), (B, L) -> 0, 1 or 2."""
    ### BEGIN SOLUTION
    logp, L = logits.log_softmax(-1), ids.shape[1]
    losses = [-logp[:, :L - k].gather(2, ids[:, k:, None]).mean() for k in range(3)]
    return int(torch.stack(losses).argmin())
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex3-2-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("3.2", offset)
### BEGIN HIDDEN TESTS
check("3.2", offset, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# With shift k the last k places have no label and the first k tokens no guess: cut both, then take a mean.
# </details>
#
# <!-- solution 3.2 -->
#
# ### Exercise 3.3 · The wrong samples
# You want $\mathrm{KL}(\pi\|\pi_{\rm ref})$ but all your samples were drawn from the *reference*. Write `terms`: one
# number a sample, such that their **mean over the reference's samples** is $\mathrm{KL}(\pi\|\pi_{\rm ref})$.
# The two arguments are the log-probabilities of the same samples under the policy and under the reference.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex3-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def terms(logp, logp_ref):
    """(N,), (N,) -> (N,)."""
    ### BEGIN SOLUTION
    log_ratio = logp - logp_ref
    return log_ratio.exp() * log_ratio  # weight π/π_ref: as if π had drawn the sample
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex3-3-check", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check("3.3", terms)
### BEGIN HIDDEN TESTS
check("3.3", terms, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Write the definition of KL as a sum over $x$, and make a factor $\pi_{\rm ref}(x)$ appear in front.
# </details>
#
# <!-- solution 3.3 -->

# %% [markdown] rlhf={"part": "retell"}
# ## Retell it
#
# 1. A language model is a distribution over whole texts, written one token at a time; each output is a guess about the next token.
# 2. A model that is asked for the token it has just read learns to copy: its loss ends lower than the honest one, and it stutters.
# 3. Reinforcement learning's words fit on the same tree: a state is the text so far, an action the next token, the reward comes at the end.
# 4. A value is the average reward of the paths ahead, an advantage one step of it.
# 5. KL has a direction: it charges the policy for saying what the reference would not say.
#
# *In the book*: [Appendix A, Definitions](https://rlhfbook.com/c/appendix-a-definitions), with all the symbols. *Next*: chapter 4, where these words train a model. *Deeper*: [the transformer by hand, every identity, and where the book's formulas differ](deeper/03_definitions.ipynb).
#
# <!-- nav -->
