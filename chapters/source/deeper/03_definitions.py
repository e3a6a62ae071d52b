# %% [markdown]
# # 3 · Definitions, deeper
#
# Every symbol of the book, pinned down until a computer can check it: what a policy is, what a reward, a value and a
# KL divergence are when the agent is a language model, and which three indexing mistakes no error message will tell
# you about.
#
# Page of the book: [rlhfbook.com/c/appendix-a-definitions](https://rlhfbook.com/c/appendix-a-definitions), today its
# Appendix A.
# <!-- edition -->
#
# <!-- nav -->

# %% [markdown]
# ## In this chapter
# **You need** PyTorch (modules, `softmax`, `backward`) and the idea of next-token prediction. No reinforcement
# learning: it is built here, from one table of fifteen rows.
#
# **You will be able to**
# - *list* every answer of a language model with its probability, and check that they sum to one;
# - *translate* state, action, trajectory, return, value and advantage into tokens;
# - *say* which way round a KL divergence stands, and *predict* what changes when it is turned;
# - *compare* models with different tokenizers;
# - *detect* unshifted labels, wrong positions and a mask that swallows the end token, each in one line.
#
# **Costs**: <!-- costs -->. Models that made the stored outputs: an exact toy with three tokens, `village-3m`
# (GPT-2 architecture), and SmolLM2-135M-Instruct in the last section.

# %%
import json
import math
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import tensor

from rlhf_minimal import SHIPPED, village
from rlhf_minimal.advantages import returns_to_go
from rlhf_minimal.book import available, begin, check, claim, show, show_source
from rlhf_minimal.book.plots import bars, line_plot, new
from rlhf_minimal.chat import encode_pair
from rlhf_minimal.evaluate import perplexity
from rlhf_minimal.evaluate.exact import World, exact_model, fit_table, gradient
from rlhf_minimal.kl import exact_kl
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import load
from rlhf_minimal.sft import sft_loss
from rlhf_minimal.tensors import pad_right, positions

run = begin(3)

# %% [markdown]
# ## The question
# > **Does each symbol of the book have one meaning that a computer can check?**
#
# A definition that cannot be checked will be read in two ways, and the two readings will train two different models.
# So every line that begins with `claim` would stop the notebook if it were false. **E** marks an identity, **T** the
# outcome of a training run (later chapters add **S**, a statement about samples). Marks such as (B3) number rules of
# correctness that the package's tests enforce; you can read past them.

# %% [markdown]
# ## 3.1 Everything sums to one
# A **language model** reads a **prompt** and gives a probability to each possible next **token**. Take one token,
# append it, ask again, stop at the **end token**: what you have written is a **completion**. That is all there is to
# *autoregressive*: each choice is made with everything before it in view, nothing after it.
#
# So a language model is a probability distribution over whole texts that shows you one factor at a time.

# %% [markdown]
# $$P_\theta(x)=\prod_{t=1}^{T}P_\theta(x_t\mid x_{<t})$$
#
# Label in the book: [eq:llming](https://rlhfbook.com/c/appendix-a-definitions). Aloud: *the probability of a text is
# the product, token by token, of the probability of that token given all tokens before it.*
#
# | symbol | said as | name here | shape |
# |:---|:---|:---|:---|
# | $x$ | a text | `ids` | `(B, L)` |
# | $x_t$, $x_{<t}$ | token $t$; all tokens before it | `ids[:, t]`, `ids[:, :t]` | |
# | $P_\theta$ | one factor: probability of the next token | `logits.softmax(-1)` | `(B, L, V)` |
# | $\log P_\theta$ | its logarithm, in nats | `token_logps(…)` | `(B, L-1)` |
# | $T$ | number of tokens | `attention.sum(1)` | `(B,)` |
#
# Logarithms, because a product of hundreds of probabilities underflows and a sum of logarithms does not. The unit of
# a natural logarithm is the **nat**; one nat is a factor of $e$. One function of the package computes them, and every
# method of this book calls it.

# %%
show_source(token_logps)

# %% [markdown]
# ### A language of three tokens
# To check a statement about *all* completions, we must be able to list them. So here is a real GPT-2, with one layer,
# eight numbers a token, and a vocabulary of three: `ho`, `ha`, and the end token, written `.` below. At most three
# tokens may be produced (the **horizon**). Its weights are random: identities don't need a good model.

# %%
NAMES = [".", "ho", "ha"]  # token 0 ends the text
END, HO, HA = 0, 1, 2
world = World(vocab=3, horizon=3, eos_id=END, prompt=(HO, HA))  # the prompt is "ho ha"
policy, reference = (exact_model(seed) for seed in run.seeds(2))  # random weights

texts = [" ".join(NAMES[i] for i, m in zip(row, on, strict=True) if m)
         for row, on in zip(world.completions.tolist(), world.mask.tolist(), strict=True)]
p = world.seq_logp(policy).exp().detach()  # (15,) probability of each completion
for text, probability in zip(texts, p.tolist(), strict=True):
    print(f"{text:<10} {probability:.4f} {'█' * round(60 * probability)}")
print(f"sum        {p.sum():.12f}")
claim("the probabilities of all completions sum to one", abs(p.sum().item() - 1) < 1e-12)

# %% [markdown]
# ### By hand
# Take `ha ho .` from the list. Three questions to the model, three entries of a softmax, one product.

# %%
with torch.no_grad():
    product, context = 1.0, [HO, HA]
    for token in (HA, HO, END):
        row = policy(tensor([context])).logits[0, -1].softmax(-1)  # (V,) after the context
        print(f"{' '.join(NAMES[i] for i in context):<12} -> {NAMES[token]:<3} {row[token]:.6f}")
        product, context = product * row[token].item(), context + [token]
print(f"product of the three        {product:.6f}")
print(f"the row “ha ho .” above     {p[texts.index('ha ho .')]:.6f}")
claim("a completion's probability is the product of its softmax entries",
      abs(product - p[texts.index("ha ho .")].item()) < 1e-12)

# %% [markdown]
# ### What if the horizon is longer?
# Eight of the fifteen rows have no `.`: the horizon cut them off. Is it fair to count them? Let the horizon grow from
# one to eight and add up separately what has ended and what has not.

# %%
deep = exact_model(run.seed, horizon=8)
horizons, ended, open_ = range(1, 9), [], []
for horizon in horizons:
    longer = World(horizon=horizon, prompt=(HO, HA))
    mass = longer.seq_logp(deep).exp().detach()
    finished = (longer.completions.eq(END) & longer.mask.bool()).any(1)
    ended.append(mass[finished].sum().item())
    open_.append(mass[~finished].sum().item())
both = {"ended": (horizons, ended), "not yet ended": (horizons, open_)}
show(line_plot(both, roles={"ended": "policy", "not yet ended": "reference"},
               title="What has not ended yet is exactly what is missing",
               x_label="horizon, tokens", y_label="probability", note="exact toy"),
     "Line plot of probability against horizon: the mass of ended completions rises, the mass "
     "of those not yet ended falls, and the two mirror each other: they add up to one.",
     data=both)

# %%
alive, prefixes = [], {(HO, HA): 1.0}  # texts that have not ended, step by step
with torch.no_grad():
    for _ in horizons:
        rows = deep(tensor(list(prefixes))).logits[:, -1].softmax(-1)
        prefixes = {(*old, token): mass * row[token].item() for (old, mass), row
                    in zip(prefixes.items(), rows, strict=True) for token in (HO, HA)}
        alive.append(sum(prefixes.values()))
claim("what is missing from the ended completions is the chance of not having ended",
      max(abs(1 - e - a) for e, a in zip(ended, alive, strict=True)) < 1e-12)

# %% [markdown]
# A truncated completion is therefore a real event with a real probability. Drop those rows and the rest is no
# distribution any more.

# %% [markdown]
# ## 3.2 The words of reinforcement learning, said in tokens
# Reinforcement learning speaks of an **agent** that sees a **state**, picks an **action**, and gets a **reward**; a
# rule for picking is a **policy**. For a language model the dictionary is short:
#
# | reinforcement learning | language model | in our toy |
# |:---|:---|:---|
# | state $s_t$ | prompt and all tokens so far | `ho ha · ha` |
# | action $a_t$ | the next token | `ho` |
# | policy $\pi_\theta(a\mid s)$ | the softmax over the vocabulary | three numbers |
# | transition | append the token: no chance in it | |
# | trajectory $\tau$ | one whole completion $y$ | `ha ho .` |
# | reward $r$ | a number for the finished text, 0 before its end | see below |
# | reference $\pi_{\rm ref}$ | a frozen copy that the policy must stay near | the second model |
# | chosen $y_c$, rejected $y_r$ | two completions; somebody liked the first more, $y_c\succ y_r$ | |

# %% [markdown]
# ### The return
# $$J(\pi_\theta)=\mathbb E_{\tau\sim\pi_\theta}\Big[\sum_{t=0}^{T-1}\gamma^t r_t\Big]
# \qquad\text{and, with } T\to\infty,\qquad \max_\theta\ \mathbb E\Big[\sum_{t=0}^{\infty}\gamma^t r_t\Big]$$
#
# Labels in the book: [eq:finite_horizon_return](https://rlhfbook.com/c/appendix-a-definitions) and
# [eq:expect_reward_opt](https://rlhfbook.com/c/appendix-a-definitions). Aloud: *write many completions, add up each
# one's rewards, later ones shrunk a little more, and take the average; training is the search for the weights with
# the largest such average.* (With $T$ actions the last is number $T-1$; the book's page counts to $T$.)
#
# | symbol | said as | name here | shape |
# |:---|:---|:---|:---|
# | $r_t$ | reward for action $t$ | `reward` | `(B, T)` |
# | $\gamma$ | discount, between 0 and 1; 1 in nearly all of RLHF | `gamma` | number |
# | $G_t$ | return from $t$ on: what is still to come | `returns_to_go(reward, mask, gamma)` | `(B, T)` |
# | $J$ | expected return of the policy | `world.expected(policy, reward)` | number |

# %%
show_source(returns_to_go)

# %% [markdown]
# By hand, on two completions of at most four tokens. The second one ended after three: its last place is padding, and
# the mask keeps whatever stands there (here a 9) out of every sum.

# %%
reward_2x4 = tensor([[0.0, 0.0, 0.0, 1.0], [0.5, 0.0, -1.0, 9.0]], dtype=torch.float64)
mask_2x4 = tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
by_hand = [[0.9**3, 0.9**2, 0.9, 1.0], [0.5 + 0.9 * 0 + 0.9**2 * -1, 0.9 * -1, -1.0, 0.0]]
G = returns_to_go(reward_2x4, mask_2x4, gamma=0.9)
for name, rows in (("by hand", by_hand), ("package", G.tolist())):
    print(name, [[round(x, 4) + 0.0 for x in row] for row in rows])
claim("returns_to_go equals the hand computation",
      (G - tensor(by_hand, dtype=torch.float64)).abs().max().item() < 1e-12)

# %% [markdown]
# ### Value, action value, advantage
# How good is it to *be* somewhere? The **value** $V(s)$ is the expected return from state $s$ on. The **action value**
# $Q(s,a)$ is the same after also fixing the next token. Their difference, the **advantage** $A(s,a)=Q(s,a)-V(s)$, says
# how much better this token is than what the policy would have done on average.
#
# In a language model the next state is the old one plus the token, so $Q(s,a)=V(s+a)$. And in a world that can be
# listed, a value is a weighted average over the rows that begin with the prefix. Let the reward be the number of `ha`
# in the completion, minus one if it did not end.

# %%
has_ended = tensor([text.endswith(".") for text in texts])
reward = world.completions.eq(HA).sum(1).double() - (~has_ended).double()


def value(prefix):
    """V of prompt + these tokens: the mean reward of the rows that begin with them."""
    inside = (world.completions[:, : len(prefix)] == tensor(prefix).long()).all(1)
    return ((p * reward)[inside].sum() / p[inside].sum()).item()


for prefix in ((), (HA,), (HA, HA), (HA, HA, END)):
    print(f"V(ho ha · {' '.join(NAMES[i] for i in prefix):<7}) = {value(prefix):+.4f}")
claim("the value of the prompt is J, the expected reward of the policy",
      abs(value(()) - world.expected(policy, reward).item()) < 1e-12)

# %% [markdown]
# Two consequences. First: averaged over what the policy itself would do, the advantage is zero, at every prefix. *On
# average you are as good as your average.* Second: along one completion the advantages are the steps of the value, so
# they add up to how much better the completion turned out than was to be expected at the prompt.

# %%
worst, rows = 0.0, []
for prefix in [(), (HO,), (HA,), (HO, HO), (HO, HA), (HA, HO), (HA, HA)]:
    with torch.no_grad():
        pi = policy(tensor([[HO, HA, *prefix]])).logits[0, -1].softmax(-1).tolist()
    A = [value((*prefix, a)) - value(prefix) for a in (END, HO, HA)]
    rows.append((" ".join(NAMES[i] for i in prefix) or "(nothing)", pi, A))
    worst = max(worst, abs(sum(w * a for w, a in zip(pi, A, strict=True))))
print("prefix       π(.)  π(ho)  π(ha)     A(.)   A(ho)   A(ha)")
for name, pi, A in rows:
    print(f"{name:<10}" + "".join(f"{x:7.3f}" for x in pi) + "  "
          + "".join(f"{a:+8.3f}" for a in A))
claim("under the policy the advantage averages to zero at every prefix", worst < 1e-12)

# %%
paths = {}
for text in ("ha ha .", "ha ho ha", "ho ha .", "ho ho ho"):
    ids = [NAMES.index(word) for word in text.split()]
    paths[text] = [value(tuple(ids[:t])) for t in range(len(ids) + 1)]
fig = line_plot(paths, title="An advantage is a step of the value; the last value is the reward",
                roles=dict(zip(paths, ("policy", "other2", "reference", "other"), strict=True)),
                x_label="tokens written", y_label="value of the prefix", note="exact toy")
fig.axes[0].set_xticks(range(4))
show(fig, "Line plot of the value of the prefix against tokens written, for four completions: all "
     "start at one value, part with each token, and end at the completion's own reward.",
     data=paths)
gaps = []
for text, R in zip(texts, reward.tolist(), strict=True):  # all fifteen
    ids = [NAMES.index(word) for word in text.split()]
    A = [value(tuple(ids[: t + 1])) - value(tuple(ids[:t])) for t in range(len(ids))]
    gaps.append(abs(sum(A) - (R - value(()))))
claim("a completion's advantages add up to its reward minus the value of the prompt",
      max(gaps) < 1e-12)

# %% [markdown]
# ### KL divergence, and which way round
# RLHF keeps the policy near a reference, so it needs a number for *how far apart are two distributions*.
#
# $$\mathcal D_{\rm KL}(P\,\|\,Q)=\sum_x P(x)\,\log\frac{P(x)}{Q(x)}$$
#
# Label in the book: [eq:def_kl](https://rlhfbook.com/c/appendix-a-definitions). Aloud: *draw from $P$, and see by how
# many nats, on average, $Q$ would have found the draw more surprising than $P$ did.* The first argument does the
# drawing. In this companion it is always the policy: $\mathrm{KL}(\pi\|\pi_{\rm ref})$.
#
# | symbol | said as | name here | shape |
# |:---|:---|:---|:---|
# | $P$ | the distribution that draws; the policy | `logits` | `(…, V)` |
# | $Q$ | the one it is compared with; the reference | `logits_ref` | `(…, V)` |
# | $\mathcal D_{\rm KL}$ | divergence, in nats, never negative | `exact_kl(logits, logits_ref)` | `(…)` |

# %%
show_source(exact_kl)

# %%
P, Q, R = (tensor(x, dtype=torch.float64) for x in ([0.5, 0.5], [0.9, 0.1], [0.99, 0.01]))
by_hand = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
pq, qp, qr, pr = (exact_kl(a.log(), b.log()).item()
                  for a, b in ((P, Q), (Q, P), (Q, R), (P, R)))
print(f"KL(P‖Q) by hand {by_hand:.6f}   package {pq:.6f}")
print(f"KL(Q‖P)         {qp:.6f}   the other way round")
print(f"KL(P‖R)         {pr:.6f}   the detour KL(P‖Q) + KL(Q‖R): {pq + qr:.6f}")
claim("KL is not a distance: it is not symmetric, and a detour can be shorter",
      abs(pq - by_hand) < 1e-12 and abs(pq - qp) > 0.1 and pr > pq + qr)
a, b = torch.randn(2, 1000, 5, generator=run.fresh("pairs of rows"), dtype=torch.float64)
claim("KL is never negative, on a thousand random pairs, and zero from a row to itself",
      exact_kl(a, b).min().item() >= -1e-12 and exact_kl(a, a).abs().max().item() < 1e-12
      and exact_kl(a, b).max().item() > 1)

# %% [markdown]
# So the direction is a decision. $\mathrm{KL}(\pi\|\pi_{\rm ref})$ lets the policy *drop* things the reference would
# say, cheaply (leaving out half of it costs one $\log 2$), and makes it pay dearly for saying what the reference never
# would.
#
# ### KL of whole texts is a sum over positions
# There are too many texts to sum over, but the KL of two language models splits: draw completions from the policy, and
# at each prefix you pass, add the KL of the two next-token distributions. This is the **chain rule**, and it is why a
# KL penalty can be paid token by token.

# %%
with torch.no_grad():
    start = len(world.prompt) - 1
    logits, logits_ref = (m(world.ids).logits[:, start:-1] for m in (policy, reference))
    per_position = exact_kl(logits, logits_ref) * world.mask  # (15, 3), 0 after the end
    chain = (p * per_position.sum(1)).sum().item()
    direct = world.kl(policy, reference).item()
print(f"over 15 whole completions      {direct:.10f} nats")
print(f"expected sum over positions    {chain:.10f} nats")
claim("the KL of whole completions is the expected sum of the KLs at each position",
      abs(direct - chain) < 1e-10)
wrong = (p * per_position.sum(1) / world.mask.sum(1)).sum().item()
print(f"mean over positions instead    {wrong:.10f} nats: not the KL of anything")

# %% [markdown]
# ### The gradient of an expectation
# To *improve* the policy we need the gradient of $J=\mathbb E_{y\sim\pi_\theta}[R(y)]$. The weights $\theta$ sit inside
# the distribution that we average over, so we can't just differentiate the reward: it doesn't depend on $\theta$. The
# way out is $\nabla\pi=\pi\,\nabla\log\pi$, and it turns the gradient back into an average over samples:
# $\nabla J=\mathbb E[R\,\nabla\log\pi_\theta(y)]$. Put $R=1$ and the left side is the gradient of a constant, hence
# $\mathbb E[\nabla\log\pi_\theta]=0$: *no* constant added to the reward changes the gradient.
#
# Chapter 11 lives on these two lines. Here they are checked with all fifteen rows and every weight of the model.

# %%
logp = world.seq_logp(policy)
direct = gradient(world.expected(policy, reward), policy)  # autograd through J itself
scores = torch.stack([gradient(one, policy) for one in logp])  # (15, weights): ∇ log π(y)
trick = ((p * reward)[:, None] * scores).sum(0)
baseline = ((p * (reward - 7))[:, None] * scores).sum(0)
print(f"{len(scores)} completions, {scores.shape[1]} weights, |∇J| = {direct.norm():.6f}")
zero = (p[:, None] * scores).sum(0)
for name, error in (("E[∇ log π]", zero), ("E[R ∇ log π] - ∇J", trick - direct),
                    ("E[(R - 7) ∇ log π] - ∇J", baseline - direct)):
    print(f"{name:<24} largest entry {error.abs().max().item():.10f}")
claim("E[∇ log π] is 0; E[R ∇ log π] is the gradient of J, also after a constant is taken from R",
      zero.abs().max().item() < 1e-10 and (trick - direct).abs().max().item() < 1e-10
      and (baseline - direct).abs().max().item() < 1e-10
      and direct.norm().item() > 1e-3)

# %% [markdown]
# ## 3.3 The transformer by hand
# Where do the logits come from? From a **decoder-only transformer**. Its one unusual part is **attention**: each token
# makes a *query*, a *key* and a *value* (no relation to $Q$ and $V$ above).
# A token's query is compared with the keys of all tokens up to itself, the comparisons become weights that sum to one,
# and the token takes home the weighted mean of the values.
#
# "Up to itself" is the **causal mask**: if a token could see its successor, predicting it would be no prediction. The
# book gives no equation here, so the definition is the code: attention first, then all of GPT-2 around it. The last line
# is the **LM head**, a linear map from the state to one logit for each token of the vocabulary; chapter 7 unscrews it
# and puts a reward there.

# %%
def attention(layer, x):
    """GPT-2's self-attention: (L, width) -> (L, width), and the weights (heads, L, L)."""
    length, width = x.shape
    q, k, v = layer.c_attn(x).split(width, dim=1)  # one matrix product makes all three
    q, k, v = (m.view(length, layer.num_heads, -1).transpose(0, 1) for m in (q, k, v))
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5  # (heads, L, L): query times key
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(future, -math.inf).softmax(-1)  # nothing to the right
    mixed = (weights @ v).transpose(0, 1).reshape(length, width)
    return layer.c_proj(mixed), weights


def gpt2_by_hand(model, ids):
    """(L,) ids -> (L, V) logits, and the attention weights of each layer."""
    body, kept = model.transformer, []
    x = body.wte(ids) + body.wpe(torch.arange(len(ids)))  # which token + where
    for block in body.h:
        out, weights = attention(block.attn, block.ln_1(x))
        x = x + out
        x = x + block.mlp(block.ln_2(x))
        kept.append(weights)
    return body.ln_f(x) @ body.wte.weight.T, kept  # LM head = embedding, transposed


# %%
base, tokenizer = load("village-3m")
sentence = "The fox lives near the river. The fox likes to eat fish."
ids = tensor(tokenizer(sentence).input_ids)
toy_ids = tensor([HO, HA, HA, HO, END])
with torch.no_grad():
    village_logits, village_weights = gpt2_by_hand(base, ids)
    theirs = base(ids[None]).logits[0]
    village_gap = ((village_logits - theirs).abs().max() / theirs.abs().max()).item()
    toy_logits, _ = gpt2_by_hand(policy, toy_ids)
    toy_gap = (toy_logits - policy(toy_ids[None]).logits[0]).abs().max().item()
claim("the hand-written GPT-2 equals the library's, for toy and village model",
      toy_gap < 1e-10 and village_gap < 1e-5,
      {"float64 toy": toy_gap, "float32 village, relative": village_gap})

# %% [markdown]
# The first model, `policy`, had random weights. The second, `village-3m`, was trained on the texts of a small invented
# [village](../../data/village.md), which a grammar makes: three million weights, six layers instead of one. Look at one of
# its heads.

# %%
LAYER, HEAD = 2, 3
words = [tokenizer.decode([i]).strip() or "␣" for i in ids]
weights = village_weights[LAYER][HEAD]
fig, ax = new("Each token looks back, never ahead",
              "token looked at (darker: more weight)", "token that looks",
              note=f"village-3m, layer {LAYER + 1}, head {HEAD + 1}")
ax.imshow(weights, cmap="Blues", vmin=0, vmax=1)
ax.set_xticks(range(len(words)), words, rotation=60, ha="right")
ax.set_yticks(range(len(words)), words)
fig.set_size_inches(7, 6.2)
show(fig, "Heat map of one attention head, rows are the tokens that look, columns the tokens "
     "looked at: all above the diagonal is empty, some earlier tokens draw most of the weight.")
claim("every token's attention sums to one, and none of it goes to a later token",
      (weights.sum(1) - 1).abs().max().item() < 1e-5
      and weights.triu(1).abs().max().item() == 0)

# %% [markdown]
# ### What if we change the future?
# If the mask works, replacing the last token must leave every earlier logit as it was. And if we take the mask away, it
# must not.

# %%
with torch.no_grad():
    other = torch.cat([toy_ids[:-1], tensor([HA])])
    nothing_hidden = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    changes = []
    for mask in (None, nothing_hidden):
        a, b = (policy(t[None], attention_mask=mask).logits[0, :-1] for t in (toy_ids, other))
        changes.append((a - b).abs().max().item())
print(f"largest change of an earlier logit: {changes[0]:.6f}, without the mask {changes[1]:.6f}")
claim("a new last token changes no earlier logit, unless the mask is taken away",
      changes[0] < 1e-12 and changes[1] > 1e-3)

# %% [markdown]
# ## 3.4 The pretraining objective
# How did the village model get its weights? By making the text it was shown probable. Probable means a small
# **negative log-likelihood**, so that is what is minimised, over a corpus $\mathcal D$:
#
# $$\mathcal L_{\rm LM}(\theta)=-\,\mathbb E_{x\sim\mathcal D}\Big[\sum_{t=1}^{T}\log P_\theta(x_t\mid x_{<t})\Big]$$
#
# Label in the book: [eq:nll](https://rlhfbook.com/c/appendix-a-definitions). Aloud: *the average, over texts, of how
# many nats of surprise the model felt while reading one.*
#
# | symbol | said as | name here | shape |
# |:---|:---|:---|:---|
# | $-\log P_\theta$ | surprise at one token, nats | `-logp` | `(B, L-1)` |
# | $\mathcal D$ | the corpus | `village.documents(seed)` | texts |
# | $\mathcal L_{\rm LM}$ | loss; here divided by the number of tokens | `sft_loss(logp, mask)` | number |

# %%
show_source(sft_loss)

# %% [markdown]
# The formula has the *sum* over a text, averaged over *texts*. The code divides by the number of *tokens*, as every
# library does. Over the whole corpus that is one constant factor, the mean length. And there is a third, tempting
# number: the mean of each text's own mean. By hand, on a text of four tokens and one of a single token:

# %%
logp_2x4 = tensor([[1 / 2, 1 / 4, 1 / 2, 1 / 4], [1 / 16, 1, 1, 1]]).double().log()
mask = tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
nats = [[math.log(2), math.log(4), math.log(2), math.log(4)], [math.log(16)]]
per_text = sum(sum(row) for row in nats) / 2
per_token = sum(sum(row) for row in nats) / 5
mean_of_means = sum(sum(row) / len(row) for row in nats) / 2
loss, stats = sft_loss(logp_2x4, mask)
print(f"per text (the formula)    {per_text:.6f} nats")
print(f"per token (the code)      {per_token:.6f} nats, package {loss.item():.6f}")
print(f"mean of the texts' means  {mean_of_means:.6f} nats")
claim("sft_loss is the formula over the mean length of a text, not the mean of means",
      abs(loss.item() - per_text / 2.5) < 1e-12 and abs(loss.item() - mean_of_means) > 0.1)

# %% [markdown]
# In the third, the one-token text counts four times as much a token as the other. That choice comes back, with
# consequences, in chapter 11.
#
# ### On real text
# Fresh documents of the village, from another seed than the training text. Each begins after an end token, as in
# training, so that the first word is predicted too.

# %%
stream = village.documents(seed=1000 + run.seed)
documents = [next(stream) for _ in range(24)]
rows = [[tokenizer.eos_token_id, *tokenizer(text).input_ids][:256] for text in documents]
print(documents[0][:300])

# %%
held_ids, held_attention = pad_right(rows)
with torch.no_grad():
    held_logp = token_logps(base, held_ids, held_attention)  # (24, L-1)
    held_mask = held_attention[:, 1:]
    ours = sft_loss(held_logp, held_mask)[0].item()
    labels = held_ids.masked_fill(held_attention == 0, -100)
    out = base(held_ids, attention_mask=held_attention.long(), labels=labels)
    theirs = out.loss.item()
    text_weighted = (held_logp.sum(1) / held_mask.sum(1)).neg().mean().item()
claim("with a mask of ones, sft_loss is the loss that the library computes",
      abs(ours - theirs) < 1e-5,
      {"token-weighted": ours, "library": theirs, "mean of means": text_weighted})

# %% [markdown]
# ### Where a loss starts, and where it ends
# Before training, *all tokens are equally likely*: a loss of $\log V$. That is the first number to check in any run.
# The curve below was stored when `village-3m` was made.

# %%
record = json.loads((SHIPPED / "models" / "village-3m" / "training.json").read_text())
steps, losses = zip(*record["curve"], strict=True)
uniform = math.log(len(tokenizer))
lines = {"loss": (steps, losses), "log V, knowing nothing": (steps, [uniform for _ in steps])}
fig = line_plot(lines, title="A language model starts at log V and goes down from there",
                roles={"loss": "policy", "log V, knowing nothing": "reference"},
                x_label="optimizer step", y_label="loss, nats a token",
                note="village-3m, stored curve")
show(fig, "Line plot of pretraining loss against steps: it starts at the level of a uniform "
     "guess, drops steeply, then slowly flattens far below it.", data=lines)
claim("the run starts within a fifth of a nat of log V and ends below a quarter of it",
      abs(losses[0] - uniform) < 0.2 and losses[-1] < uniform / 4, kind="T")

# %% [markdown]
# ### Bits per byte: a number that survives a change of tokenizer
# Two models that give a text the very same probability report different losses and different **perplexities** (the
# exponential of the loss) if one cuts it in two tokens and the other in four. Bytes don't depend on the tokenizer. So
# divide the nats of the whole text by its bytes, and by $\log 2$ to have bits. (A text can be cut in more than one way
# and we score only the tokenizer's own cut, so strictly this is an upper bound.)

# %%

def bits_per_byte(logp, mask, texts):
    """(B, L-1) twice, and the B texts that were scored in full -> bits a byte."""
    size = sum(len(text.encode()) for text in texts)
    return -(logp * mask).sum().item() / math.log(2) / size


# two models that both give "haha" the probability 1/16, one in two tokens, one in four
found = {}
for name, lp in (("ha|ha", torch.full((1, 2), 1 / 4)), ("h|a|h|a", torch.full((1, 4), 1 / 2))):
    lp, ones = lp.double().log(), torch.ones_like(lp)
    found[name] = perplexity(lp, ones), bits_per_byte(lp, ones, ["haha"])
    print(f"{name:<8} perplexity {found[name][0]:.4f}   bits per byte {found[name][1]:.4f}")
(ppl_2, bits_2), (ppl_4, bits_4) = found.values()
claim("two tokenizers, one probability: perplexities differ, bits per byte don't",
      abs(ppl_2 - ppl_4) > 1 and abs(bits_2 - bits_4) < 1e-12)

# %% [markdown]
# ## 3.5 Shift by one
# The output at position $t$ is a guess about position $t+1$. So somebody has to move logits or labels. In this package
# it happens once, inside `token_logps`, and its result is one shorter than the text. Test it with a model whose
# behaviour you can predict without a computer: one that counts.

# %%
class Counter(torch.nn.Module):
    """A language model over ten digits, sure of one thing: after n comes n + 1."""

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=50.0 * F.one_hot((input_ids + 1) % 10, 10).double())


def unshifted_logps(model, ids):
    """The mistake: position t is asked about token t."""
    return model(ids).logits.log_softmax(-1).gather(2, ids[:, :, None])[:, :, 0]


digits = tensor([[3, 4, 5, 6], [3, 4, 9, 0]])  # the second row jumps
shifted = token_logps(Counter(), digits, torch.ones_like(digits))
print("shifted  ", shifted.round().add(0.0).tolist())
print("unshifted", unshifted_logps(Counter(), digits).round().add(0.0).tolist())
claim("a model that counts finds 3 4 5 6 certain, and is surprised only by the jump",
      shifted[0].abs().max().item() < 1e-12
      and [round(x) for x in shifted[1].tolist()] == [0, -50, 0])

# %% [markdown]
# Here the mistake is loud: a perfect model looks terrible. In training it turns around: the
# [lesson](../03_definitions.ipynb) trains two models, one with this mistake, and its loss is the lower one.

# %% [markdown]
# ## 3.6 Padding and positions
# Texts differ in length; tensors don't. So rows are filled up with **padding**, on the right for training, on the left
# for sampling (where all rows must end at the same place). Two things travel with the ids to keep padding out of the
# arithmetic: the **attention mask**, 1 on real tokens, and the **position ids**, which count real tokens only.
#
# The mask everybody remembers. The positions are forgotten, because the library fills them in: 0, 1, 2, … from the
# left edge, padding included. GPT-2 *adds* a learned vector for each position, so a text that begins at place five is
# another text.

# %%
show_source(positions)
five = tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])  # two pads on the left; two on the right
print("attention      ", five.tolist())
print("positions      ", positions(five).tolist())
print("library default", torch.arange(5).expand(2, -1).tolist())

# %% [markdown]
# ### One text, many paddings
# Eight questions with their answers, each alone in its row, with more and more pads on the left. Whatever we pad with,
# their log-probabilities must not move. The second line forgets the position ids, and nothing else. The model is
# `village-3m-sft`: the same network after fine-tuning on such conversations (chapter 9).

# %%
def padded(row, left, right=0):
    """ids and attention (1, L) with pads on either side; the padding id is arbitrary."""
    ids = tensor([[7] * left + row + [7] * right])
    real = tensor([[0] * left + [1] * len(row) + [0] * right])
    return ids, real


def without_positions(model, ids, attention):
    """token_logps without position ids: the library counts from the left edge."""
    table = model(ids, attention_mask=attention).logits[:, :-1].log_softmax(-1)
    logp = table.gather(2, ids[:, 1:, None])[:, :, 0]
    return logp * attention[:, :-1] * attention[:, 1:]


def padding_error(model, row, score, left, right=0):
    """By how much padding changes each token's log-probability, nats: (1, L-1)."""
    with torch.no_grad():
        alone = token_logps(model, *padded(row, 0))
        scored = score(model, *padded(row, left, right))[:, left:left + len(row) - 1]
    return (scored - alone).abs()


# %%
sft, sft_tokenizer = load("village-3m-sft")
pairs = village.demonstrations(8, seed=1000 + run.seed, split="test")
talks = [encode_pair(sft_tokenizer, d["prompt"], d["completion"], max_len=200)[0] for d in pairs]
lefts, errors = (0, 1, 2, 5, 10, 20, 40), {}
for name, score in {"no position ids": without_positions,
                    "positions(attention)": token_logps}.items():
    errors[name] = (lefts, [sum(padding_error(sft, row, score, n).sum().item() for row in talks) / 8
                            for n in lefts])
show(line_plot(errors, title="Without position ids, every pad rewrites the text a little more",
               roles={"no position ids": "rejected", "positions(attention)": "chosen"},
               x_label="pads on the left", y_label="sum of errors in a text, nats",
               note="village-3m-sft, eight texts"),
     "Line plot of the summed errors of a text's log-probabilities against the number of left "
     "pads: with position ids they stay at zero, without them they grow with the padding.",
     data=errors)

# %%
kept = max(padding_error(sft, row, token_logps, left, right).max().item()
           for row in talks[:3] for left in (0, 1, 5, 40) for right in (0, 1, 5))
one, forty = errors["no position ids"][1][1], errors["no position ids"][1][-1]
claim("log-probabilities don't depend on how many pads stand left or right",
      kept < 1e-5, {"largest error of a token": kept})
claim("without position ids one pad costs a text more than a nat, forty cost more than six",
      one > 1 and forty > 6, {"one pad": one, "forty": forty}, kind="T")

# %% [markdown]
# Test prompts of equal length hide it altogether, as they need no padding; the batch with one long prompt does not. In
# chapter 11 the *ratio* of two such probabilities decides whether an update is clipped: an error of this size drowns the
# signal.

# %% [markdown]
# ## Once, by hand, on one batch
# Everything so far in one update of the weights, on fixed ids, with every intermediate on the table. Row 1 is prompt
# `ho` with completion `ha ha .`; row 2 is prompt `ho ha` with completion `.`. Only completions are learned.

# %%
student = exact_model(run.seed)
batch_ids, batch_attention = pad_right([[HO, HA, HA, END], [HO, HA, END]])
learn, _ = pad_right([[0, 1, 1, 1], [0, 0, 1]])  # 1 on completions, end token too
print("ids       ", tuple(batch_ids.shape), batch_ids.tolist())
print("attention ", tuple(batch_attention.shape), batch_attention.int().tolist())
print("positions ", tuple(batch_ids.shape), positions(batch_attention).tolist())
print("learn     ", tuple(learn.shape), learn.int().tolist())

# %% [markdown]
# Logits for every place, then log-probabilities of the token that *follows*. The result is one column shorter; its
# column $t$ speaks about token $t+1$, so the mask has to lose its *first* column to stay in step.

# %%
logits = student(batch_ids, attention_mask=batch_attention.long(),
                 position_ids=positions(batch_attention)).logits
logits.retain_grad()
logp = logits[:, :-1].log_softmax(-1).gather(2, batch_ids[:, 1:, None])[:, :, 0]
mask = learn[:, 1:]
print("logits    ", tuple(logits.shape))
print("logp      ", tuple(logp.shape), logp.detach().numpy().round(4).tolist())
print("mask      ", tuple(mask.shape), mask.int().tolist())
loss = -(logp * mask).sum() / mask.sum()
print(f"loss       {loss.item():.6f} nats a token, over {int(mask.sum())} tokens")
package = sft_loss(token_logps(student, batch_ids, batch_attention), mask)[0].item()
print(f"package    {package:.6f}")

# %% [markdown]
# Now backwards. The gradient of this loss in the logits has a form worth remembering: *probabilities minus one-hot*,
# divided by the number of learned tokens, and zero wherever the mask is zero. A step against it pushes the true token's
# logit up and all others down, each by its own probability.

# %%
loss.backward()
target = F.one_hot(batch_ids[:, 1:], 3).double()
by_hand = (logits[:, :-1].softmax(-1) - target) * mask[:, :, None] / mask.sum()
print("gradient in the logits of row 1, place by place (., ho, ha):")
for t, row in enumerate(logits.grad[0, :-1].tolist()):
    print(f"  after {NAMES[batch_ids[0, t]]:<3}" + "".join(f"{x:+9.4f}" for x in row))
claim("the gradient in the logits is probability minus one-hot, on the mask only",
      abs(loss.item() - package) < 1e-12
      and (logits.grad[:, :-1] - by_hand.detach()).abs().max().item() < 1e-12
      and logits.grad[:, -1].abs().max().item() == 0)
with torch.no_grad():
    for weight in student.parameters():
        weight -= 0.1 * weight.grad
after = sft_loss(token_logps(student, batch_ids, batch_attention), mask)[0].item()
print(f"loss before {loss.item():.6f}, after one step of gradient descent {after:.6f}")

# %% [markdown]
# ## The loop is in the lesson
# Eighty steps with labels that were shifted, and eighty with labels that were not: the
# [lesson](../03_definitions.ipynb) trains both, shows what they write, and measures both losses.

# %% [markdown]
# ## Failure gallery
# Three more ways to be wrong without an error message.
#
# ### The logarithm of a softmax
# Mathematically `softmax(x).log()` and `log_softmax(x)` are one thing. In float32 the softmax of an unlikely token
# rounds to zero, its logarithm is minus infinity, and the gradient is NaN. Clamping the probability first only hides
# it: then all unlikely tokens look *equally* unlikely, and none has a gradient (B3).

# %%
def unlikely(log_of_softmax):
    """log-probability of token 1 under logits (0, -120); its gradient in that logit."""
    x = tensor([0.0, -120.0], requires_grad=True)
    value = log_of_softmax(x)[1]
    value.backward()
    return value.item(), x.grad[1].item()


variants = {"softmax(x).log()": unlikely(lambda x: x.softmax(-1).log()),
            "softmax(x).clamp(1e-20).log()":
                unlikely(lambda x: x.softmax(-1).clamp(1e-20).log()),
            "log_softmax(x)": unlikely(lambda x: x.log_softmax(-1))}
for name, (value_, slope) in variants.items():
    print(f"{name:<30} value {value_:9.2f}   gradient {slope:5.2f}")
healthy = [math.isfinite(v) and math.isfinite(g) and g != 0 for v, g in variants.values()]
claim("“finite, with a gradient” passes log_softmax only", healthy == [False, False, True])

# %% [markdown]
# ### log-softmax in half precision
# bfloat16 keeps eight significant bits. Near twelve, neighbours are one sixteenth apart, and a log-probability of
# exactly that size is what an unlikely token has. Over a hundred of them the rounding can add up to nats (if they all
# round the same way). The fix is to cast *before* the softmax, as `token_logps` does (B2); the detector is a comparison
# with float64.

# %%
one = -12.34
half = tensor(one).bfloat16().item()
same = abs(100 * one - 100 * half)  # the worst case: one token a hundred times
noise = torch.randn(100, 1000, generator=run.fresh("half precision")) * 4
scores, token = noise.bfloat16(), torch.arange(100)[:, None]
exact, late, early = (
    x.log_softmax(-1).gather(1, token).double()
    for x in (scores.double(), scores, scores.float()))
late, early = ((x - exact).abs().max().item() for x in (late, early))
print(f"{one} becomes {half}; a hundred of these are off by {same:.2f} nats")
claim("casting to float32 before the softmax is a hundred times closer to float64",
      late > 100 * early, {"largest error of a token, bfloat16": late, "cast first": early})

# %% [markdown]
# ### A mask made from the ids
# GPT-2 has no padding token, so one borrows the end token. From then on `ids != pad` looks like an attention mask and
# is none: the *real* end token of each text is blanked together with the padding. The model is never shown where a
# text ends, and never stops (A3, A5). The detector counts.

# %%
pad = END  # borrowed
ids, attention_mask = pad_right([[HO, HA, END], [HA, HO, HA, HO, END]], value=pad)
guessed = (ids != pad).float()
print("ids            ", ids.tolist())
print("made with ids  ", attention_mask.int().tolist())
print("guessed        ", guessed.int().tolist())


def ends_seen(mask):
    """How many end tokens a loss with this mask would learn from."""
    return int((mask.bool() & (ids == END)).sum())


print(f"end tokens that are learned: {ends_seen(attention_mask)} of 2; "
      f"with the guess {ends_seen(guessed)} of 2")
claim("“is there one end token a row in the mask?” tells the two masks apart",
      ends_seen(attention_mask) == len(ids) and ends_seen(guessed) == 0)

# %% [markdown]
# ## At GPT-2 size
# SmolLM2-135M-Instruct (here without its chat template) is some forty times larger and has never heard of the village.
# It marks positions by **rotating** queries and keys (rotary embeddings) instead of adding a vector: attention then
# depends only on the *distance* of two tokens. Predict: does forgetting the position ids hurt? And who needs fewer bits
# for a byte of village text?

# %%
eight = [text for text in documents if len(tokenizer(text).input_ids) < 200][:8]


def score_texts(model, tokenizer, start):
    """-> (bits per byte, perplexity per token, tokens) of the eight texts."""
    ids, attention = pad_right([[start, *tokenizer(text).input_ids] for text in eight])
    with torch.no_grad():
        logp = token_logps(model, ids, attention)
    mask = attention[:, 1:]
    return bits_per_byte(logp, mask, eight), perplexity(logp, mask), int(mask.sum())


small = score_texts(base, tokenizer, tokenizer.eos_token_id)

# %%
if available("smollm2-135m"):
    smol, smol_tokenizer = load("smollm2-135m")
    smol_row = [smol_tokenizer.bos_token_id, *smol_tokenizer(eight[0]).input_ids][:48]
    hidden = max(padding_error(smol, smol_row, without_positions, n).max().item()
                 for n in (5, 40))
    kept = max(padding_error(smol, smol_row, token_logps, n).max().item() for n in (5, 40))
    claim("with rotary positions, forgotten position ids are all but invisible",
          hidden < 0.01, {"error without position ids": hidden, "with": kept}, kind="T")

# %%
if available("smollm2-135m"):
    large = score_texts(smol, smol_tokenizer, smol_tokenizer.bos_token_id)
    bits = {"village-3m\n3 M weights": small[0], "SmolLM2-135M\n135 M weights": large[0]}
    show(bars(bits, title="Forty times the weights don't replace having been there",
              y_label="bits per byte of village text",
              roles=dict(zip(bits, ("policy", "reference"), strict=True)),
              note="eight village texts"),
         "Bar chart of bits per byte on village text for two models: the small village model "
         "needs far fewer bits than the much larger general model.")
    claim("per byte, the village model is the better model of the village",
          large[0] > 1.5 * small[0],
          {"bits per byte": f"{small[0]:.3f} and {large[0]:.3f}",
           "perplexity": f"{small[1]:.2f} and {large[1]:.2f}",
           "tokens for the same bytes": f"{small[2]} and {large[2]}"}, kind="T")

# %% [markdown]
# A bug that one architecture hides is still a bug: the test for it must run on the model that shows it.

# %% [markdown]
# ## Exercises
# Each check says *what* is wrong. Minutes are estimated. Hints and solution are folded below each check.
#
# ### Exercise 3.4 · Short is likely
# *difficulty 1 of 5 · 5 minutes · needs: 3.1*
#
# In a language where every token has probability $1/V$, two texts have `short` and `long` tokens. Write `gap`, which
# returns two numbers, in nats: how much *log-probability* the longer one has *less* than the shorter, and how much of
# it remains when both are divided by their own number of tokens. Then say whether $P(y_1)>P(y_2)$ tells you that $y_1$
# is the better text.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex3-4", "locked": false, "schema_version": 3, "solution": true, "task": false}
def gap(short, long, vocab):
    """Two lengths and V -> (log P(short) - log P(long), the same per token), nats."""
    ### BEGIN SOLUTION
    log_p_short, log_p_long = -short * math.log(vocab), -long * math.log(vocab)
    return log_p_short - log_p_long, log_p_short / short - log_p_long / long
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex3-4-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("3.4", gap)
### BEGIN HIDDEN TESTS
check("3.4", gap, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# The formula of 3.1 with all factors equal.
# </details>
# <details><summary>Hint 2: the step</summary>
#
# The logarithm of $V^{-n}$ is $-n\log V$. Divide it by $n$ and see what is left of $n$.
# </details>
#
# <!-- solution 3.4 -->
#
# You should now be able to say: *a sum of log-probabilities mostly measures length.*

# %% [markdown]
# ### Exercise 3.5 · The price of patience
# *difficulty 2 of 5 · 10 minutes · needs: 3.2*
#
# The reward comes once, at the end of the text. With a discount $\gamma<1$, seen from the first token, it is worth less
# the later the text ends. One text ends with reward `reward`. Another one is `extra` tokens longer. Write `needed`: the
# reward it must end with, for both to have the same return at the first token.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex3-5", "locked": false, "schema_version": 3, "solution": true, "task": false}
def needed(reward, gamma, extra):
    """Reward of the shorter text, discount, extra tokens -> reward of the longer text."""
    ### BEGIN SOLUTION
    return reward / gamma**extra
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex3-5-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("3.5", needed)
### BEGIN HIDDEN TESTS
check("3.5", needed, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# The first of the two rows computed by hand in *The return*.
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Set $\gamma^{n}r=\gamma^{n+k}r'$ and solve for $r'$.
# </details>
#
# <!-- solution 3.5 -->
#
# You should now be able to say: *with a reward at the end, a discount is a length penalty in disguise* (and, where the
# reward is negative, a premium on stalling).

# %% [markdown]
# ### Exercise 3.6 · One number for the corpus
# *difficulty 2 of 5 · 10 minutes · needs: 3.4*
#
# A table lists the perplexity of each text and its number of tokens. Write `pooled_perplexity`: the perplexity of all
# of them together, as if they had been scored at once.

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex3-6", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pooled_perplexity(perplexities, tokens):
    """(N,) floats, (N,) counts -> one number."""
    ### BEGIN SOLUTION
    nats = tokens * perplexities.log()  # each text's own total
    return (nats.sum() / tokens.sum()).exp()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex3-6-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("3.6", pooled_perplexity)
### BEGIN HIDDEN TESTS
check("3.6", pooled_perplexity, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# What can be added up: perplexities, losses per token, or nats?
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Undo the exponential, multiply by the number of tokens, add, divide by all tokens, redo the exponential.
# </details>
#
# <!-- solution 3.6 -->
#
# You should now be able to say: *perplexity is a geometric mean over tokens, never a mean over texts.*

# %% [markdown]
# ## Questionnaire
# 1. What do the probabilities of all completions sum to, and what is missing if you leave the truncated ones out?
#    <details><summary>Answer</summary>One. The probability of not having ended.</details>
# 2. For a language model, what are state, action, transition?
#    <details><summary>Answer</summary>Prompt plus tokens so far; the next token; appending it.</details>
# 3. What is the average of the advantage under the policy itself? What do advantages along one completion add up to?
#    <details><summary>Answer</summary>Zero, in every state; its reward minus the prompt's value (discount one).</details>
# 4. Which argument of KL does the drawing, and which direction can be infinite when the reference rules a token out?
#    <details><summary>Answer</summary>The first; KL(policy‖reference), if the policy says that token.</details>
# 5. Why may a constant be subtracted from the reward without changing the expected gradient?
#    <details><summary>Answer</summary>The expected gradient of log-probability is zero.</details>
# 6. Which loss should an untrained model have?
#    <details><summary>Answer</summary>About log V nats a token.</details>
# 7. Two models have different tokenizers. What do you compare?
#    <details><summary>Answer</summary>Bits per byte of the same text.</details>
# 8. Your fine-tuning loss falls below anything an honest run has reached. What do you check first?
#    <details><summary>Answer</summary>The shift of the labels, by a held-out loss computed independently.</details>
# 9. Which models show forgotten position ids, and which hide them?
#    <details><summary>Answer</summary>Learned absolute positions (GPT-2) show them; rotary ones hide them.</details>

# %% [markdown]
# ## Where the book and its code differ
# | place | what stands there | what we do |
# |:---|:---|:---|
# | [eq:knowledge_distillation](https://rlhfbook.com/c/appendix-a-definitions) | one term a position: the data token's NLL, weighted by the teacher's probability of it | add the sum over the vocabulary, as the book's own chapter on distillation does (eq:word_kd) |
# | [eq:def_kl](https://rlhfbook.com/c/appendix-a-definitions) | the text around it says "distance" | *divergence*: 3.2 shows the asymmetry and the detour |
# | returns and trajectories | sums to $T$ on this page, to $T-1$ on others; the reward of action $t$ is $r_t$ here, $r_{t+1}$ elsewhere | $T$ actions, $t=0,\dots,T-1$, and $r_t$ belongs to action $t$ |
# | [eq:nll](https://rlhfbook.com/c/appendix-a-definitions) | the sum over a text | per token, like every library; 3.4 shows the factor |
#
# The first row is the one that changes a result. **Distillation** trains a student $P_\theta$ on the *probabilities* of
# a teacher $P_\phi$. Let the data be drawn from the teacher, and ask both formulas for their best student.
#
# $$-\sum_t\sum_v P_\phi(v\mid x_{<t})\,\log P_\theta(v\mid x_{<t})
# \qquad\text{instead of}\qquad -\sum_t P_\phi(x_t\mid x_{<t})\,\log P_\theta(x_t\mid x_{<t})$$
#
# Aloud: *at each position, the cross-entropy between teacher and student over the whole vocabulary*, instead of *the
# student's surprise at the one token in the data, counted the more the likelier the teacher found it.*
#
# | symbol | said as | name here | shape |
# |:---|:---|:---|:---|
# | $P_\phi$ | the teacher | `teacher` | `(V,)` |
# | $P_\theta$ | the student | `logp.exp()` | `(V,)` |
# | $x_t$ | the data token, drawn from the teacher | the `teacher *` in front | |

# %%
teacher = tensor([0.6, 0.3, 0.1], dtype=torch.float64)
start = torch.zeros(3, dtype=torch.float64)
summed = fit_table(lambda logp: -(teacher * logp).sum(), start).exp()
printed = fit_table(lambda logp: -(teacher * (teacher * logp)).sum(), start).exp()
squared = teacher**2 / (teacher**2).sum()
for name, x in (("teacher", teacher), ("best student, sum over V", summed),
                ("best student, as printed", printed), ("teacher squared", squared)):
    print(f"{name:<26}", [round(v, 4) for v in x.tolist()])
claim("the best student is the teacher with the sum, its normalised square without",
      (summed - teacher).abs().max().item() < 1e-6
      and (printed - squared).abs().max().item() < 1e-6
      and (printed - teacher).abs().max().item() > 0.1)

# %% [markdown]
# The third row is about names only, as long as one counts consistently: a shift of the index multiplies *all* returns by
# the same $\gamma$. It matters the moment two formulas with different conventions meet in one program.

# %%
r, off = tensor([0.0, 0.5, 2.0], dtype=torch.float64), []
for gamma in (1.0, 0.9):
    from_zero = sum(gamma**t * r[t] for t in range(3)).item()
    from_one = sum(gamma ** (t + 1) * r[t] for t in range(3)).item()
    print(f"gamma {gamma}: from 0 {from_zero:.4f}, from 1 {from_one:.4f}, "
          f"ratio {from_one / from_zero:.4f}")
    off.append(abs(from_one - gamma * from_zero))
claim("counting rewards from one instead of zero multiplies the return by gamma", max(off) < 1e-12)

# %% [markdown]
# ## Summary
# A language model is a distribution over whole texts, given factor by factor, and all its completions, truncated ones
# included, sum to one. A state is a prefix, an action a token, a value an average over the rows that begin the same way,
# an advantage a step of the value. KL has a direction, splits over positions, and is no distance. A loss is a statement
# about *which* tokens, divided by *which* count. Three indices decide whether any of it is true in your program: the
# shift, the positions, the mask.
#
# **You now know** `token_logps`, `sft_loss`, `returns_to_go`, `exact_kl`, `positions`, `perplexity`, and the exact
# world (`World`, `exact_model`), in which every later chapter proves its formulas.
#
# **Further reading**
# - Radford et al., *Language models are unsupervised multitask learners* (GPT-2): the architecture that 3.3 rebuilds.
# - [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762): where attention in this form comes from.
# - [Schulman et al. 2016](https://arxiv.org/abs/1506.02438), section 2: value and advantage in half a page.
# - [Hinton et al. 2015](https://arxiv.org/abs/1503.02531): distillation, with the sum over the classes.
#
# <!-- nav -->
