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

# %% [markdown]
# # 4 · Training overview, deeper
#
# The [lesson](../04_training_overview.ipynb) trains a village model by SFT, PPO and DPO and shows what its log hides. This notebook adds what stands behind it: the loop of reinforcement learning in two classical problems, values against policies, the proof that "one answer" and "one token after another" are the same problem, an algorithm that climbs to the exact frontier, whether PPO obeys the formula of the best policy, one PPO batch by hand, what all the networks cost, the sizes of real recipes, and two more bugs.
#
# Companion to [Training Overview](https://rlhfbook.com/c/03-training-overview) (chapter 3 of today's book) in Nathan Lambert's *Reinforcement Learning from Human Feedback*.
#
# <!-- edition -->
#
# <!-- nav -->

# %% [markdown]
# > **You need** the lesson.
# >
# > **You will be able to** name the parts of a reinforcement learning problem in any task · say when a discount matters for an answer · judge a policy against the exact optimum · compute a PPO batch on paper · count the memory that a set-up takes.
# >
# > **Costs**: <!-- costs -->. **Models** behind the stored outputs: `village-3m-sft`, three million parameters, made by `make models`; `smollm2-135m` in the section [At GPT-2 size](#At-GPT-2-size).

# %%
import copy

import numpy as np
import torch

from rlhf_minimal import data, direct_alignment, ppo, reward_model, rloo
from rlhf_minimal.advantages import gae, leave_one_out, returns_to_go
from rlhf_minimal.best_of_n import law
from rlhf_minimal.book import available, begin, check, claim, recorded, show
from rlhf_minimal.book import show_source
from rlhf_minimal.book.plots import frontier, line_plot, two_panels
from rlhf_minimal.evaluate.exact import World, compare, exact_model, free_energy
from rlhf_minimal.evaluate.exact import expected_loss_gradient as expected_gradient
from rlhf_minimal.evaluate.exact import gradient, tilted
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import adapters_off, frozen_copy, load, lora
from rlhf_minimal.sampling import sample
from rlhf_minimal.tensors import last_index, masked_whiten, pad_right

run = begin(4)

# %% [markdown]
# ## 4.1 The loop: a thermostat and a pole
#
# Reinforcement learning has five parts. An agent sees a **state** $s_t$, chooses an **action** $a_t$ by its
# **policy** $\pi(a_t\mid s_t)$, the world answers by its **dynamics** $p(s_{t+1}\mid s_t,a_t)$, and a **reward**
# $r(s_t,a_t)$ says how good that was.
#
# The book's first example is a thermostat: the state is the room's temperature, the actions are *heater on* and
# *heater off*, the reward is one while the room is within two degrees of the target. The rule on its wall is a
# policy, [eq:thermostat_policy](https://rlhfbook.com/c/03-training-overview#eq:thermostat_policy):
#
# $$\pi(\text{on}\mid s)=\begin{cases}1 & s<70\,°\mathrm F\\ 0 & \text{otherwise}\end{cases}$$
#
# *Said aloud: below the target the heater runs, otherwise it does not.*
#
# How likely is a whole evening? The start, then a policy and a dynamics factor for every step,
# [eq:rl_dynam](https://rlhfbook.com/c/03-training-overview#eq:rl_dynam); how good a policy is, the expected sum
# of rewards, later ones discounted, [eq:rl_opt](https://rlhfbook.com/c/03-training-overview#eq:rl_opt):
#
# $$p_\pi(\tau)=\rho_0(s_0)\prod_{t=0}^{T-1}\pi(a_t\mid s_t)\,p(s_{t+1}\mid s_t,a_t),\qquad
#   J(\pi)=\mathbb E_{\tau\sim p_\pi}\Big[\sum_{t=0}^{T-1}\gamma^t\,r(s_t,a_t)\Big]$$
#
# *Said aloud: multiply what the agent chose by what the world did; then average the discounted rewards over all
# possible evenings.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $s$ | temperature, 60 to 80 °F | `degrees` | (21,) |
# | $a$ | 0 off, 1 on | `action` | one number |
# | $p$ | dynamics: off, one degree down; on, two up; one time in five only 0 or 1 | `dynamics` | (2, 21, 21) |
# | $\pi$ | probability of *on* at each temperature | `wall_rule`, `heat` | (21,) |
# | $r$ | 1 within two degrees of 70, else 0 | `comfort` | (21,) |
# | $\rho_0$ | any start is equally likely | `1 / 21` | one number |
# | $T,\gamma$ | 24 steps, no discount | `24`, 1 | one number |

# %%
degrees = np.arange(60, 81)
dynamics = np.zeros((2, 21, 21))
for action, outcomes in ((0, ((-1, 0.8), (0, 0.2))), (1, ((2, 0.8), (1, 0.2)))):
    for i in range(21):
        for change, probability in outcomes:
            dynamics[action, i, min(max(i + change, 0), 20)] += probability
comfort = (abs(degrees - 70) <= 2) * 1.0


def value(heat):
    """Exact J of policies (..., 21), probabilities of heating -> (...)."""
    v = np.zeros(heat.shape)
    for _ in range(24):
        v = comfort + heat * (v @ dynamics[1].T) + (1 - heat) * (v @ dynamics[0].T)
    return v.mean(-1)


best = np.zeros(21)
for _ in range(24):
    best = comfort + (dynamics @ best).max(0)  # the better action in every state
wall_rule = (degrees < 70) * 1.0
print(
    f"comfortable steps of 24: coin flip {value(np.full(21, 0.5)):.4f}   "
    f"rule {value(wall_rule):.4f}   best possible {best.mean():.4f}"
)
claim(
    "in this room the rule of eq:thermostat_policy is optimal",
    abs(value(wall_rule) - best.mean()) < 1e-12,
)

# %% [markdown]
# **By hand.** An evening of two steps that starts at 68: the rule heats, the room warms by two; at 70 it is off and
# the room cools by one. Its probability is $\tfrac1{21}\cdot1\cdot0.8\cdot1\cdot0.8$.

# %%
likely = 1 / 21
for here_is, action, leads_to in (
    (68, 1, 70),
    (70, 0, 69),
):  # state, action, next state
    chosen_by = wall_rule[here_is - 60] if action else 1 - wall_rule[here_is - 60]
    moved_by = dynamics[action, here_is - 60, leads_to - 60]
    likely *= chosen_by * moved_by
    print(
        f"{here_is} °F, heater {'on ' if action else 'off'} -> {leads_to} °F   "
        f"policy {chosen_by:.1f} × dynamics {moved_by:.1f}"
    )
print(f"probability of the evening {likely:.6f}, by hand {0.8 * 0.8 / 21:.6f}")
coin = dynamics.mean(0)  # one step of a coin-flipping thermostat
total_chance = (np.full(21, 1 / 21) @ np.linalg.matrix_power(coin, 5)).sum()
claim(
    "eq:rl_dynam by hand and by table agree, and all evenings sum to one",
    abs(likely - 0.8 * 0.8 / 21) < 1e-15 and abs(total_chance - 1) < 1e-12,
)

# %% [markdown]
# **Learning it by trial and error.** Suppose we may not look into `dynamics`. REINFORCE needs only samples: live
# an evening, then make each action more likely in proportion to the reward that came *after* it, compared with
# the average. Ten independent runs, so that luck shows.


# %%
def live(logits, dice, episodes=32):
    """Sampled evenings: a list over time of state, action, π(on), each (runs, E)."""
    state, seen = dice.integers(21, size=(len(logits), episodes)), []
    for _ in range(24):
        p = 1 / (1 + np.exp(-np.take_along_axis(logits, state, 1)))
        act = dice.random(state.shape) < p
        seen.append((state, act, p))
        sure = dice.random(state.shape) < 0.8
        change = np.where(act, np.where(sure, 2, 1), np.where(sure, -1, 0))
        state = np.clip(state + change, 0, 20)
    return seen


dice, logits, learned = np.random.default_rng(run.seed), np.zeros((10, 21)), []
for _ in range(150):
    seen = live(logits, dice)
    to_go = np.cumsum([comfort[s] for s, _, _ in seen][::-1], 0)[
        ::-1
    ]  # reward from here on
    for (s, act, p), g in zip(seen, to_go, strict=True):
        push = (
            (g - g.mean(1, keepdims=True)) * (act - p) / 32
        )  # advantage × gradient of log π
        np.add.at(logits, (np.arange(10)[:, None], s), push)
    learned.append(value(1 / (1 + np.exp(-logits))) / best.mean())

# %%
final = learned[-1]
low = final.mean() - 3 * final.std(ddof=1) / 10**0.5
claim(
    "learned from samples alone, the thermostat is within two per cent of the optimum",
    low > 0.98,
    {"mean": final.mean(), "lower end of the interval": low, "worst": final.min()},
    kind="S",
)
heat = (1 / (1 + np.exp(-logits))).mean(0)
lines = {
    "policy, learned": (degrees, heat),
    "reference: the rule": (degrees, wall_rule),
}
show(
    line_plot(
        lines,
        title="Trial and error finds the rule on the wall",
        x_label="temperature, °F",
        y_label="probability of heating",
        note="mean of 10 runs",
    ),
    "Line plot of the probability of heating against temperature: the learned policy "
    "heats below seventy degrees and not above; it is least sure at the target",
)

# %% [markdown]
# (On one of five seeds a run went on heating at 80 °F: a place that a good policy hardly ever visits.)
#
# **CartPole** is the same loop with physics as dynamics. The state is the cart's place and speed and the pole's angle
# and turning speed ([eq:cartpole_state](https://rlhfbook.com/c/03-training-overview#eq:cartpole_state)), the action a
# push of ten newtons to the left or right, the reward one for every step that the pole stays up. The next cell is one
# step of time: the push and the swinging pole accelerate the cart, gravity tips the pole
# ([eq:cartpole_temp](https://rlhfbook.com/c/03-training-overview#eq:cartpole_temp),
# [eq:cartpole_angular_accel](https://rlhfbook.com/c/03-training-overview#eq:cartpole_angular_accel),
# [eq:cartpole_linear_accel](https://rlhfbook.com/c/03-training-overview#eq:cartpole_linear_accel)), and the old speeds
# carry everything on for a fiftieth of a second
# ([eq:cartpole_pos_update](https://rlhfbook.com/c/03-training-overview#eq:cartpole_pos_update),
# [eq:cartpole_angle_update](https://rlhfbook.com/c/03-training-overview#eq:cartpole_angle_update)).


# %%
def cartpole(s, right, mp=0.1, l=0.5, g=9.8, dt=0.02):
    """One Euler step of n carts of 1 kg, pushed by 10 N: (n, 4), (n,) -> (n, 4)."""
    x, speed, angle, turn = s.T
    temp = (np.where(right, 10, -10) + mp * l * turn**2 * np.sin(angle)) / (
        1 + mp
    )  # temporary
    turning = (g * np.sin(angle) - np.cos(angle) * temp) / (
        l * (4 / 3 - mp * np.cos(angle) ** 2 / (1 + mp))
    )
    push = temp - mp * l * turning * np.cos(angle) / (1 + mp)
    return s + dt * np.stack([speed, push, turn, turning], 1)


def balance(w, dice):
    """20 episodes of sigmoid(w · s): scores of log π (T, 20, 4), who stands (T, 20)."""
    s, up = dice.uniform(-0.05, 0.05, (20, 4)), np.ones(20, bool)
    scores, standing = [], []
    for _ in range(200):
        p = 1 / (1 + np.exp(-s @ w))
        right = dice.random(20) < p
        scores.append((right - p)[:, None] * s)
        standing.append(up * 1.0)
        s = np.where(up[:, None], cartpole(s, right), s)
        up = up & (abs(s[:, 0]) <= 2.4) & (abs(s[:, 2]) <= np.deg2rad(12))
    return np.array(scores), np.array(standing)


# %%
first = cartpole(np.zeros((1, 4)), np.array([True]))[0]
turning = -(10 / 1.1) / (
    0.5 * (4 / 3 - 0.1 / 1.1)
)  # at rest, upright: gravity has no lever
print("one push from rest:", first.round(5).tolist())
claim(
    "by hand: a push from rest turns the pole the other way and speeds the cart up",
    abs(first[3] - 0.02 * turning) < 1e-12
    and abs(first[1] - 0.02 * (10 / 1.1 - 0.05 * turning / 1.1)) < 1e-12,
)

# %%
scale, balanced = np.array([2.4, 2.0, 0.2, 2.0]), []
for _ in range(5):
    w, steps_up = np.zeros(4), []
    for _ in range(15):  # 15 updates × 20 episodes
        scores, standing = balance(w, dice)
        to_go = np.cumsum(standing[::-1], 0)[::-1]
        mean = (to_go * standing).sum(1, keepdims=True) / standing.sum(
            1, keepdims=True
        ).clip(1)
        advantage = (to_go - mean) * standing
        advantage /= advantage[standing > 0].std() + 1e-9  # all equal: nothing to learn
        w = w + (advantage[:, :, None] * scores).sum((0, 1)) / 20 / scale**2
        steps_up.append(standing.sum(0).mean())
    balanced.append(steps_up)
balanced = np.array(balanced)
worst = balanced[:, -3:].mean(1).min()
claim(
    "within 300 episodes the pole stays up for most of the 200 steps, in five runs",
    worst > 150,
    {"first batch": balanced[:, 0].mean(), "worst run at the end": worst},
    kind="T",
)

# %% [markdown]
# ## 4.2 Two ways to learn from it
#
# **Q-learning** asks how good each action is. It keeps a table $Q(s,a)$ and repairs it after every step, with
# Bellman's equation as the target:
#
# $$V^\star(s)=\max_a Q^\star(s,a),\qquad Q^\star(s,a)=\sum_{s'}p(s'\mid s,a)\,\big[r+\gamma V^\star(s')\big]$$
#
# *Said aloud: a state is worth its best action; an action its reward plus the discounted worth of the next state.*
#
# **Policy gradient** changes the policy directly, towards what went better than usual. That is what we did above,
# and what language models mostly get.
#
# A robot on a grid of 5 × 5 shall get from one corner to the other; one step in ten goes in a random direction.
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $s$ | one of 25 fields, the last is the goal | `here` | (runs,) |
# | $p$ | where a move leads | `grid` | (4, 25, 25) |
# | $V^\star$ | exact value, by iterating Bellman | `v_star` | (25,) |
# | $Q$ | learned table | `q` | (runs, 25, 4) |
# | $\gamma$ | discount, 0.95 <!-- fact --> | `0.95` | one number |

# %%
GOAL = 24
NEXT = np.array(
    [
        [
            5 * min(max(s // 5 + di, 0), 4) + min(max(s % 5 + dj, 0), 4)
            for di, dj in ((-1, 0), (1, 0), (0, -1), (0, 1))
        ]
        for s in range(25)
    ]
)
grid = np.zeros((4, 25, 25))
for s in range(GOAL):  # the goal has no way out
    for move in range(4):
        for other in range(4):
            grid[move, s, NEXT[s, other]] += 0.9 * (move == other) + 0.1 / 4
arrive = grid[:, :, GOAL]  # (4, 25): reward 1 on arrival
v_star = np.zeros(25)
for _ in range(300):
    v_star = (arrive + 0.95 * grid @ v_star).max(0)


# %%
def grid_value(chance):
    """Exact value of the start under policies (runs, 25, 4): a linear system."""
    step = np.einsum("rsa,ast->rst", chance, grid)
    income = np.einsum("rsa,as->rs", chance, arrive)
    return np.linalg.solve(np.eye(25) - 0.95 * step, income[:, :, None])[:, 0, 0]


print(f"exact value of the start: {v_star[0]:.4f}")
claim(
    "v_star solves Bellman's equation",
    abs(v_star - (arrive + 0.95 * grid @ v_star).max(0)).max() < 1e-12,
)

# %%
runs = np.arange(10)
q, here, q_curve = np.zeros((10, 25, 4)), np.zeros(10, int), []
for step in range(4000):
    greedy = (q[runs, here] + 1e-9 * dice.random((10, 4))).argmax(1)  # ties at random
    move = np.where(dice.random(10) < 0.2, dice.integers(4, size=10), greedy)
    there = NEXT[here, np.where(dice.random(10) < 0.1, dice.integers(4, size=10), move)]
    target = (there == GOAL) + 0.95 * (there != GOAL) * q[runs, there].max(1)
    q[runs, here, move] += 0.3 * (
        target - q[runs, here, move]
    )  # one step towards Bellman
    here = np.where(there == GOAL, 0, there)
    if step % 200 == 199:
        q_curve.append(grid_value(np.eye(4)[q.argmax(2)]) / v_star[0])

# %%
def walk(chance):
    """20 walks of 50 moves in every run: a list of (place, move, going, arrives)."""
    here, path = np.zeros((10, 20), int), []
    for _ in range(50):
        going, dices = here != GOAL, dice.random((10, 20, 1))
        move = (chance[runs[:, None], here].cumsum(2) < dices).sum(2).clip(0, 3)
        astray = dice.random((10, 20)) < 0.1
        drift = np.where(astray, dice.integers(4, size=(10, 20)), move)
        there = np.where(going, NEXT[here, drift], here)
        path.append((here, move, going, going & (there == GOAL)))
        here = there
    return path


# %%
table, used, pg_curve, moves_made = np.zeros((10, 25, 4)), 0.0, [], []
for update in range(80):
    chance = np.exp(table) / np.exp(table).sum(2, keepdims=True)
    path, back = walk(chance), np.zeros((10, 20))
    for at_, move, going, arrived in path[::-1]:
        back = arrived + 0.95 * back  # discounted reward to go
        count = going.sum(1, keepdims=True).clip(1)
        better = (back - (back * going).sum(1, keepdims=True) / count) * going
        slope = np.eye(4)[move] - chance[runs[:, None], at_]  # gradient of log π
        np.add.at(table, (runs[:, None], at_), 0.3 * better[:, :, None] * slope)
        used += going.sum() / 10
    if update % 4 == 3:
        chance = np.exp(table) / np.exp(table).sum(2, keepdims=True)
        pg_curve.append(grid_value(chance) / v_star[0])
        moves_made.append(used)

# %%
for name, end in (("Q-learning", q_curve[-1]), ("policy gradient", pg_curve[-1])):
    low = end.mean() - 3 * end.std(ddof=1) / 10**0.5
    claim(
        f"{name} comes within five per cent of the exact value",
        low > 0.95,
        {"mean": end.mean(), "lower end of the interval": low},
        kind="S",
    )
# %%
q_mean, pg_mean = ([c.mean() for c in curve] for curve in (q_curve, pg_curve))
q_moves = range(200, 4001, 200)
arrived_at = {
    name: next((m for m, v in zip(moves, mean, strict=True) if v > 0.9), np.inf)
    for name, moves, mean in (
        ("Q-learning", q_moves, q_mean),
        ("policy gradient", moves_made, pg_mean),
    )
}
claim(
    "Q-learning passes nine tenths of the optimum with less than half of the moves",
    2 * arrived_at["Q-learning"] < arrived_at["policy gradient"],
    arrived_at,
    kind="T",
)
# %%
fig = line_plot(
    {"Q-learning": (q_moves, q_mean), "policy gradient": (moves_made, pg_mean)},
    title="Both arrive; the table needs fewer moves here",
    x_label="moves made",
    y_label="value, share of the optimum",
    roles={"Q-learning": "other"},
    note="5 × 5 grid, mean of 10 runs",
)
for label in list(fig.axes[0].texts):  # the lines end far apart: a legend instead
    label.remove()
fig.axes[0].legend(frameon=False, loc="lower right")
show(
    fig,
    "Line plot of the share of the optimal value against moves: Q-learning jumps up "
    "after some hundred moves, policy gradient takes thousands, both end close to one",
)

# %% [markdown]
# A table for a language model would need an entry for every *text*. What such a model has is a policy that is
# *already good*, and improving it a little is what policy gradients do.
#
# ## 4.3 From a loop to one turn
#
# For a language model the state is the prompt $x$, the action a whole completion $y$, and then it is over: no
# next state, nothing to plan for. So the sum over time in `eq:rl_opt` has one term, no discount, and a learned
# reward, [eq:rl_opt_int](https://rlhfbook.com/c/03-training-overview#eq:rl_opt_int):
#
# $$J(\pi)=\mathbb E_{x\sim\mathcal D,\;y\sim\pi(\cdot\mid x)}\big[r_\theta(x,y)\big]$$
#
# *Said aloud: the average score of the answers that the policy would give.* One choice, one reward: a **bandit**.
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $x,\mathcal D$ | the prompt and where prompts come from; here there is one | `world.prompt` | one prompt |
# | $y$ | one of 15 completions | `world.completions` | (15, 3) |
# | $\pi(y\mid x)$ | their probabilities | `world.seq_logp(model).exp()` | (15,) |
# | $r_\theta(x,y)$ | reward of each; θ are the weights of a learned one, here it is fixed | `liking` | (15,) |
# | $J$ | expected reward | `world.expected(model, liking)` | one number |
#
# But a completion is written token by token, and one may as well call each token an action and the text so far
# its state: the **token MDP** (Markov decision process, as in 4.1), with the reward at the last token. Two problems,
# or one? Compare their gradients.
#
# The *exact world* is a real GPT-2, so small (three tokens, at most three of them) that all its completions can be
# listed. Its reward likes the letter *b*, dislikes *a*, and likes an answer that ends.

# %%
world, model = (
    World(),
    exact_model(run.seed),
)  # token 0 ends the text, 1 is "a", 2 is "b"
n_a, n_b, n_end = (((world.completions == t) * world.mask).sum(1) for t in (1, 2, 0))
liking = (n_b - n_a + 0.5 * n_end).double()
for i, p in enumerate(world.seq_logp(model).exp().tolist()):
    letters = "".join(
        ".ab"[t] for t in world.completions[i][world.mask[i].bool()].tolist()
    )
    print(f"{letters:<4} probability {p:.4f}   reward {liking[i].item():+.1f}")
claim(
    "the probabilities of all completions sum to one",
    abs(world.seq_logp(model).exp().sum() - 1) < 1e-12,
)

# %%
show_source(World.expected, returns_to_go)

# %%
exact = gradient(
    world.expected(model, liking), model
)  # the bandit: autograd of eq:rl_opt_int
finish = last_index(world.mask)
token_reward = torch.zeros_like(world.logps(model)).scatter(
    1, finish[:, None], liking[:, None]
)


def token_view(gamma):
    """The token MDP: log π of every token times its reward-to-go, in expectation."""
    to_go = returns_to_go(token_reward, world.mask, gamma=gamma)
    chance = world.seq_logp(model).detach().exp()
    return gradient((chance[:, None] * to_go * world.logps(model)).sum(), model)


print("gamma   cosine   size    relative error")
for gamma in (1.0, 0.9, 0.5):
    c = compare(token_view(gamma), exact)
    print(f"{gamma:<6}  {c['cosine']:.4f}   {c['ratio']:.4f}   {c['error']:.4f}")
claim(
    "bandit and token MDP have one and the same gradient when nothing is discounted",
    compare(token_view(1.0), exact)["error"] < 1e-12,
)
claim(
    "with gamma 0.9 the gradient is another one",
    compare(token_view(0.9), exact)["error"] > 1e-3,
)

# %% [markdown]
# **By hand.** Why does γ matter where there is only one turn? Because the *reward-to-go* of a token is the score
# times γ for each step that is left. With score 2, three tokens and γ = ½ the last token is credited with 2, the one
# before with 1, the first with ½. So RLHF usually sets γ to one; then "bandit" or "token MDP" is a choice of words.

# %%
by_hand = returns_to_go(torch.tensor([[0.0, 0.0, 2.0]]), torch.ones(1, 3), gamma=0.5)
print("reward-to-go:", by_hand.tolist())
claim(
    "by hand: a token's credit is the score times gamma to the number of steps left",
    by_hand.tolist() == [[2 * 0.5**2, 2 * 0.5, 2.0]],
)

# %% [markdown]
# The same world tests the algorithms of this book: take *all* batches that could be drawn, weigh them by their
# probability, and compare the expected gradient of the loss with the exact one. A loss is right to ten digits or it is
# something else.

# %%
show_source(ppo.policy_loss, rloo.rloo_loss)

# %%
frozen, on = world.logps(model).detach(), world.mask


def ppo_first(logp, y, divide_by):
    return ppo.policy_loss(logp, frozen[y], liking[y], on[y], denominator=divide_by)[0]


first_step = {
    "RLOO, pairs": (
        2,
        lambda logp, y: rloo.rloo_loss(logp, liking[y], on[y], group_size=2)[0],
    ),
    "PPO, first step": (1, lambda logp, y: ppo_first(logp, y, 1)),
    "PPO, mean over own tokens": (1, lambda logp, y: ppo_first(logp, y, None)),
}
errors = {}
for name, (size, loss) in first_step.items():
    c = compare(-expected_gradient(world, model, loss, group_size=size), exact)
    errors[name] = c["error"]
    print(f"{name:<28} cosine {c['cosine']:.4f}   relative error {c['error']:.4f}")
claim(
    "the expected gradients of RLOO and of PPO's first step are the exact gradient",
    max(errors["RLOO, pairs"], errors["PPO, first step"]) < 1e-10,
)
claim(
    "dividing each answer by its own length is another objective",
    errors["PPO, mean over own tokens"] > 1e-2,
)

# %% [markdown]
# ## 4.4 The leash and the frontier
#
# The lesson used the objective with a leash, [eq:rlhf_opt_eq](https://rlhfbook.com/c/03-training-overview#eq:rlhf_opt_eq):
#
# $$J(\pi)=\mathbb E_{y\sim\pi}\big[r_\theta(x,y)\big]-\beta\,\mathcal D_{\mathrm{KL}}\big(\pi(\cdot\mid x)\,\|\,\pi_{\mathrm{ref}}(\cdot\mid x)\big)$$
#
# *Said aloud: the average score, minus β for every nat (a factor of e in probability) by which the policy makes its own
# answers likelier, on average, than the model we started from.*
#
# The best policy re-weighs the reference (chapter 12 builds on it):
#
# $$\pi^\star_\beta(y)=\frac{\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}}{Z},\qquad
#   Z=\sum_y\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta},\qquad \max_\pi J=\beta\log Z$$
#
# *Said aloud: keep the reference's opinion, and multiply the odds of an answer by e for every β of reward.*
#
# | symbol | name here | variable | shape |
# |---|---|---|---|
# | $\pi_{\mathrm{ref}}$ | where training started, frozen | `reference`, `logp_ref` | (15,) |
# | $\beta$ | price of a nat, in units of reward | `beta` | one number |
# | $\mathcal D_{\mathrm{KL}}$ | $\mathbb E_\pi[\log\pi-\log\pi_{\mathrm{ref}}]$, whole answers | `world.kl(model, reference)` | one number |
# | $\pi^\star_\beta$ | the best policy | `tilted(logp_ref, liking, beta)` | (15,) |
# | $\beta\log Z$ | the best value of $J$ | `free_energy(...)` | one number |

# %%
show_source(tilted, free_energy)

# %% [markdown]
# **By hand.** Two answers, equally likely, with rewards 0 and 1, and β = 1: $\pi^\star=(1,e)/(1+e)$.

# %%
even, zero_one = (
    torch.tensor([0.5, 0.5]).double().log(),
    torch.tensor([0.0, 1.0]).double(),
)
for beta in (0.01, 1.0, 100.0):
    p = tilted(even, zero_one, beta).exp()
    print(f"beta {beta:<6} -> probabilities {p[0].item():.4f} {p[1].item():.4f}")
p, e = tilted(even, zero_one, 1.0).exp(), np.e
spent = (p * (p.log() - even)).sum()
print(f"by hand       -> probabilities {1 / (1 + e):.4f} {e / (1 + e):.4f}")
claim(
    "the optimum equals the hand computation, and its value is exactly beta log Z",
    abs(p[1] - e / (1 + e)) < 1e-12
    and abs(p @ zero_one - spent - free_energy(even, zero_one, 1.0)) < 1e-12,
)
claim(
    "a small beta leaves only the best answer, a large one gives the reference back",
    tilted(even, zero_one, 0.01).exp()[1] > 1 - 1e-12
    and abs(tilted(even, zero_one, 1e8).exp()[0] - 0.5) < 1e-8,
)

# %% [markdown]
# Slide β from large to small and $\pi^\star_\beta$ draws a curve: the most reward that any policy can have at
# each KL. That is the **frontier**. An algorithm can waste KL and fall below it; nothing gets above.
#
# The lesson drew random policies below it. Here are best-of-4 of the reference and RLOO with β = ½,
# trained from samples by the `rloo.step` that trains larger models as well.

# %%
reference, learner = frozen_copy(model), copy.deepcopy(model)
logp_ref = world.seq_logp(reference)
betas = torch.logspace(-1.1, 1.5, 12, dtype=torch.float64).tolist()


def place(logp):
    """(N,) log-probabilities -> (KL to the reference, expected reward)."""
    return (logp.exp() * (logp - logp_ref)).sum().item(), (logp.exp() @ liking).item()


fine = torch.logspace(1.5, -1.1, 80, dtype=torch.float64).tolist()  # for a smooth line
curve = [place(tilted(logp_ref, liking, b)) for b in fine]
# %%
row_of = {tuple(c): i for i, c in enumerate(world.completions.tolist())}
optimizer, path = torch.optim.Adam(learner.parameters(), lr=0.03), [place(logp_ref)]
for step in range(60):
    optimizer.param_groups[0]["lr"] = 0.04 * (1 - step / 60)
    drawn = sample(
        learner,
        [list(world.prompt)],
        n=64,
        max_new_tokens=3,
        eos_id=0,
        generator=run.generator,
    )
    rows = [
        row_of[tuple(c + [0] * (3 - len(c)))] for c in drawn.completion_ids.tolist()
    ]
    with torch.no_grad():
        ref = drawn.on_completion(token_logps(reference, drawn.ids, drawn.attention))
    rloo.step(
        learner, optimizer, drawn, liking[rows], group_size=64, logp_ref=ref, beta=0.5
    )
    path.append(place(world.seq_logp(learner).detach()))

# %%
tried = [*path, place(law(logp_ref.exp(), liking, 4).log())]
excess = max(
    reward - b * kl - free_energy(logp_ref, liking, b).item()
    for kl, reward in tried
    for b in betas
)
claim(
    "neither RLOO, at any step, nor best-of-4 crosses the frontier, at twelve betas",
    excess < 1e-9,
)
begun, ended_at = (reward - 0.5 * kl for kl, reward in (path[0], path[-1]))
closed = (ended_at - begun) / (free_energy(logp_ref, liking, 0.5).item() - begun)
claim(
    "RLOO closes at least nine tenths of the gap to the optimum at its beta",
    closed > 0.9,
    {"share of the gap": closed},
    kind="T",
)
# %%
marks = {
    "reference": path[0],
    "RLOO, 10 steps": path[10],
    "RLOO, 60 steps": path[-1],
    "best of 4": tried[-1],
}
roles = dict(zip(marks, ("reference", "policy", "chosen", "other"), strict=True))
show(
    frontier(
        list(zip(*curve, strict=True)),
        marks,
        roles=roles,
        title="RLOO climbs to the frontier, nothing crosses it",
        note="exact world, 15 completions",
    ),
    "Curve of the best expected reward at each KL, concave; the reference at its "
    "left end, RLOO on the curve at the end of training, best of four close to it.",
)

# %% [markdown]
# β is the *price* of KL, not the KL you get; how much KL a price buys depends on the rewards (exercise 4.4). And a
# frontier is drawn for the *proxy*: what a policy can earn from the reward model, not what the answers are worth.
#
# **Does PPO obey the formula?** The lesson recorded its pipeline on five seeds: PPO with four values of β, all else
# equal. For each seed, take the SFT model's answers as a world of four (help, the favourite refusal, other refusals,
# the rest), with their shares and mean scores, and compute from $\pi^\star_\beta$ how often the best policy refuses.
# The dotted lines are these predictions, averaged over the seeds; the marks are what PPO did.

# %%
lesson, betas = recorded("04_village"), (0.05, 0.5, 1.0, 2.0)
kinds = {"harmful": "harmful requests", "lookalike": "look-alikes"}
looks = {"harmful requests": "policy", "look-alikes": "rejected"}


def over_betas(arm, kind, what):  # one list over beta for each seed
    return lesson.values("arms", [f"{arm} {b:g}" for b in betas], kind, what)


golds, shares = {}, {}
for kind, label in kinds.items():
    golds[label] = betas, over_betas("PPO", kind, "gold")
    shares[label] = betas, over_betas("PPO", kind, "refuses")
    guess = torch.tensor(over_betas("formula", kind, "refuses")).mean(0)
    shares[f"reference: formula, {label}"] = betas, guess.tolist()

# %%
show(
    two_panels(
        {"true reward, at most 3": golds, "share that refuses": shares},
        x_label="β",
        roles=looks,
        title="Five recorded seeds: larger β, fewer refusals",
    ),
    "Two line plots against beta: true reward and share of refusals for harmful "
    "requests and look-alikes, with the formula's predictions as dotted lines",
)
real, exact = (
    torch.tensor([over_betas(arm, kind, "refuses") for kind in kinds])
    for arm in ("PPO", "formula")
)
gap = (real - exact).mean(1).abs().max().item()
most = (real - exact).abs().max().item()
claim(
    "averaged over seeds, PPO refuses as often as the formula says, within 10 points",
    gap < 0.1,
    {"largest gap of means": gap, "largest gap in one seed": most},
    kind="T",
)

# %% [markdown]
# Roughly, yes, on average; in a single seed the gap can be more than twice as large. PPO takes only twelve steps, both
# kinds of request share its weights, and real answers are more than four.

# %% [markdown]
# ## 4.5 What it costs
#
# PPO keeps four networks: the **policy** that writes, the **reference** that holds the leash, the **reward model** that
# judges, and the **critic** that says how much reward to expect. A number in float32 takes four bytes, a *trained* one
# four times that: the weight, its gradient, and Adam's two running averages.
#
# | set-up | policy | reference | reward model | critic |
# |---|---|---|---|---|
# | full | trained | frozen copy | frozen | trained |
# | LoRA | frozen + adapters | the same, adapters off | frozen | frozen + adapters |
# | shared trunk (Hydra) | one frozen trunk + adapters | the same, adapters off | + adapters, frozen | + adapters |
#
# **Predict**: by which factor does LoRA shrink this memory? (The activations are *not* in the table: exercise 4.7.)


# %%
def bytes_held(*models, optimizer=None):
    """Bytes of the weights, gradients and Adam moments that exist, each once."""
    weights = {id(p): p for m in models for p in m.parameters()}.values()
    held = [*weights, *(p.grad for p in weights if p.grad is not None)]
    states = optimizer.state.values() if optimizer else ()
    held += [x for s in states for name, x in s.items() if name.startswith("exp_avg")]
    return sum(x.numel() * x.element_size() for x in held)


def step_once(*models):
    """One step on a loss that touches every trained number -> the optimizer."""
    trained = [p for m in models for p in m.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(trained, lr=0.0)
    sum(p.sum() for p in trained).backward()
    adam.step()
    return adam


# %%
start, _ = load("village-3m-sft")
judge_size = reward_model.RewardModel(start).requires_grad_(False)
full_policy, full_critic = copy.deepcopy(start), ppo.Critic(start)
held_full = bytes_held(
    full_policy,
    frozen_copy(start),
    judge_size,
    full_critic,
    optimizer=step_once(full_policy, full_critic),
)
thin_policy = lora(copy.deepcopy(start))
thin_critic = ppo.Critic(
    lora(copy.deepcopy(start))
)  # frozen trunk, adapters, a trained head
held_lora = bytes_held(
    thin_policy, judge_size, thin_critic, optimizer=step_once(thin_policy, thin_critic)
)

# %%
N = sum(p.numel() for p in start.parameters())
A = sum(p.numel() for p in thin_policy.parameters() if p.requires_grad)
H = start.config.hidden_size  # a scalar head
memory = {
    "full": 16 * N + 4 * N + 4 * (N + H) + 16 * (N + H),
    "LoRA": 2 * (4 * N + 16 * A) + 16 * H + 4 * (N + H),
    "shared trunk": 4 * N + 2 * 16 * A + 4 * A + 4 * H + 16 * H,
}
print(f"weights {N:,}   adapters {A:,}")
for name, size in memory.items():
    print(f"PPO, {name:<13} {size / 1e6:7.1f} MB here   {size / N:5.1f} bytes a weight")
claim(
    "the table from parameter counts equals the bytes held, full and LoRA",
    memory["full"] == held_full and memory["LoRA"] == held_lora,
)

# %% [markdown]
# Of 16 + 4 + 4 + 16 = 40 bytes a weight, LoRA leaves three frozen networks of 4 bytes, and the adapters. It removes
# the *optimizer's* memory and one copy of the model, not the frozen weights. One shared trunk (counted here, not built)
# leaves little more than one model's weights.
#
# How much data do real recipes take? The book's round numbers, beside those of the papers:
#
# | recipe | imitation | preferences | reinforcement | source |
# |---|---|---|---|---|
# | InstructGPT, as the book rounds it (it notes 33K and 31K, too) | 10K examples | 100K pairs | 100K prompts | book, *Canonical Training Recipes* |
# | InstructGPT, in its paper | 13K prompts | 33K prompts, 4 to 9 answers ranked | 31K prompts | [arXiv 2203.02155](https://arxiv.org/abs/2203.02155) |
# | Tülu 3 ([arXiv 2411.15124](https://arxiv.org/abs/2411.15124)), as the book rounds it | 1M examples | 1M pairs, DPO | 10K prompts, verifiable | book, same section |
# | DeepSeek R1 ([arXiv 2501.12948](https://arxiv.org/abs/2501.12948)), as the book rounds it | 100K and more, "cold start" | with the last RL stage | long, verifiable; then sampled again for SFT | book, same section |
# | the lesson | 9.6K examples, read three times | a few hundred pairs | 576 prompts | `make models`, the lesson |
#
# Nor is once enough: many recipes go **round and round**, each time with fresh samples of the newest model
# (Touvron et al. 2023, [arXiv 2307.09288](https://arxiv.org/abs/2307.09288)). Recorded here: eight answers a prompt, one
# of them (the best by gold, or any) kept to finetune on, and again (chapter 10).

# %%
record = recorded("ch10_rounds").curve
rounds = {}  # (arm, seed) -> gold on unseen prompts, round by round
for arm, which, level in zip(
    record["arm"], record["seed"], record["gold"], strict=True
):
    rounds.setdefault((arm, which), []).append(level)
# %%
mean_gold = {
    label: np.mean([x for (arm, _), x in rounds.items() if arm == kept], 0)
    for label, kept in (("policy: best of 8", "best"), ("reference: random", "random"))
}
fig = line_plot(
    mean_gold,
    title="Round after round, it is the choice that raises gold",
    x_label="round",
    y_label="gold, points",
    note="recorded, village-3m, 2 seeds",
)
fig.axes[0].set_xticks(range(5))
show(
    fig,
    "Line plot of mean gold on unseen prompts against rounds of finetuning: "
    "with the best of eight kept it climbs, with a random one it falls.",
    data=mean_gold,
)
claim(
    "recorded, each seed: rounds on the best answer raise gold, on a random one not",
    all((x[-1] > x[0]) == (arm == "best") for (arm, _), x in rounds.items()),
    kind="T",
)

# %% [markdown]
# ## Once, by hand, on one batch
#
# Two answers, of four and three tokens, every number given, so that you can check each line on paper.
#
# 1. the reward model gave each *answer* a score;
# 2. every *token* pays β for its log-ratio to the reference; the score arrives at the last token;
# 3. what is still to come, minus what the critic expected, is the **advantage** (chapter 11 derives it); what the
#    critic should have said is the **return**;
# 4. advantages are put on one scale (*whitened*: mean 0, spread 1);
# 5. the loss raises the log-probability of tokens with positive advantage, and the clip stops a token that has
#    moved too far.

# %%
f64 = {"dtype": torch.float64}
hand_mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
hand_score = torch.tensor([2.0, -1.0], **f64)
logp_old = torch.tensor([[-1.0, -0.5, -2.0, -0.1], [-0.7, -1.2, -0.3, 0.0]], **f64)
logp_start = torch.tensor([[-1.5, -0.5, -1.0, -0.1], [-0.7, -2.2, -0.3, 0.0]], **f64)
expected = torch.tensor([[0.5, 0.5, 1.0, 1.5], [0.0, 0.0, -0.5, 0.0]], **f64)

token_pay = ppo.rewards(hand_score, logp_old, logp_start, hand_mask, 0.1)
advantage, returns = gae(token_pay, expected, hand_mask, gamma=1.0, lam=1.0)
white = masked_whiten(advantage, hand_mask)
parts = {
    "log-ratio": logp_old - logp_start,
    "reward": token_pay,
    "advantage": advantage,
    "return": returns,
    "whitened": white,
}
for name, x in parts.items():
    rounded = [[round(v, 3) + 0.0 for v in row] for row in x.tolist()]
    print(f"{name:<10} {tuple(x.shape)}  {rounded}")
# %%
claim(
    "each row of rewards sums to its score minus beta times its KL",
    (token_pay.sum(1) - (hand_score - 0.1 * (logp_old - logp_start).sum(1))).abs().max()
    < 1e-12,
)
claim(
    "by hand: the first answer's advantage at its first token is 2 + 0.05 - 0.5",
    abs(advantage[0, 0] - (2 + 0.1 * (-0.5 + 1.0) - 0.5)) < 1e-12,
)

# %%
logp = logp_old.clone().requires_grad_()
loss, stats = ppo.policy_loss(logp, logp_old, white, hand_mask, clip=0.2)
loss.backward()
print(
    f"before any step: loss {abs(loss.item()):.4f}, ratio {stats['ratio'].item():.1f}, "
    f"gradient of the last token of answer 2: {logp.grad[1, 2].item():+.4f}"
)
# %%
moved = logp_old + torch.tensor([[0.3, 0.0, 0.0, 0.0], [0.0, 0.3, 0.0, 0.0]], **f64)
moved.requires_grad_()
clipped, after = ppo.policy_loss(moved, logp_old, white, hand_mask, clip=0.2)
clipped.backward()
print(
    f"two tokens raised by 0.3: loss {clipped.item():.4f}, "
    f"share clipped {after['clip_frac'].item():.4f}"
)
claim(
    "the first loss is zero and its gradient is not",
    abs(loss.item()) < 1e-12 and logp.grad.abs().max() > 0.1,
)
claim(
    "the clip stops the good token that has moved far enough, not the raised bad one",
    moved.grad[0, 0] == 0
    and white[0, 0] > 0
    and moved.grad[1, 1] > 0
    and white[1, 1] < 0,
)

# %% [markdown]
# ## Failure gallery
#
# The lesson shows the reference that is an alias of the policy. Here are two more mistakes that run without an error. Each has a detector of one line; log it in every run.
#
# **Failure 1: a discount under a group baseline.** GRPO and RLOO compare the answers to one prompt.
# Somebody brings γ = 0.9 <!-- fact --> along from classic RL, and discounts each score to the answer's start.
#
# ```python
# advantage = leave_one_out(score * gamma ** length, group_size)     # wrong: hides a length term
# advantage = leave_one_out(score, group_size)                       # right
# ```
#
# What one sees: with positive scores answers get shorter, with negative ones longer, whatever their quality.
# Detector: equal scores must give no advantage.

# %%
equal, length = torch.ones(4, **f64), torch.tensor([5, 10, 20, 40])
discounted = leave_one_out(equal * 0.9 ** length.double(), 4)
print("four answers, equal score, lengths", length.tolist())
print("advantages with gamma 0.9:", [round(v, 4) for v in discounted.tolist()])
print("advantages with gamma 1:  ", leave_one_out(equal, 4).tolist())
claim(
    "detector: equal scores give advantages of zero, but not with a discount",
    leave_one_out(equal, 4).abs().max() == 0 and discounted.abs().max() > 0.1,
)
claim(
    "the discount favours short answers if scores are positive, long ones if not",
    discounted.argmax() == 0
    and leave_one_out(-equal * 0.9 ** length.double(), 4).argmax() == len(length) - 1,
)

# %% [markdown]
# **Failure 2: the reward on every token.** A broadcast hands the answer's score to each token.
#
# ```python
# reward = score[:, None] * mask - beta * kl                # wrong: a row sums to length × score
# reward = ppo.rewards(score, logp, logp_ref, mask, beta)   # right: the score once, at the last token
# ```
#
# What one sees: answers with positive scores grow longer. In the exact world the best leashed policy for either
# reward is known.

# %%
everywhere = hand_score[:, None] * hand_mask - 0.1 * (logp_old - logp_start)
owed = hand_score - 0.1 * (logp_old - logp_start).sum(1)
sums = {"owed": owed, "last token": token_pay.sum(1), "every token": everywhere.sum(1)}
for name, x in sums.items():
    print(f"{name:<12} rows sum to {[round(v, 3) for v in x.tolist()]}")
words = world.mask.sum(1).double()
lengths = {
    name: (tilted(logp_ref, r, 1.0).exp() @ words).item()
    for name, r in (("once", liking + 1), ("every token", (liking + 1) * words))
}
claim(
    "detector: the rows of the token rewards must sum to score minus beta times KL",
    (token_pay.sum(1) - owed).abs().max() < 1e-12
    and (everywhere.sum(1) - owed).abs().max() > 1,
)
claim(
    "paid per token, the best policy writes longer answers than the one paid once",
    lengths["every token"] > lengths["once"] + 0.1,
    lengths,
)

# %% [markdown]
# ## At GPT-2 size
#
# The same calls on SmolLM2-135M-Instruct, a model of the size of GPT-2. The person is now somebody who dislikes *commas*: a taste that can be measured in answers of any length. A few comparisons, then one pass of DPO with LoRA: adapters of rank 8 on the attention. It checks that the calls do not depend on the village; it is *not* a recipe. Without that model the rest is skipped.

# %%
SUBJECTS = ("rain", "honey", "the moon", "bread", "salt", "an owl", "music")
if available("smollm2-135m"):
    small, small_tokenizer = load("smollm2-135m")
    small_policy = lora(small, r=8)
    small_rows = [{"prompt": f"What is {s}?"} for s in SUBJECTS]
    small_ids = data.prompts_ids(small_rows, small_tokenizer)
    trained = sum(p.numel() for p in small_policy.parameters() if p.requires_grad)
    total = sum(p.numel() for p in small_policy.parameters())
    print(
        f"{total:,} weights, of which {trained:,} are trained; 16 bytes each: "
        f"{16 * trained / 1e6:.1f} MB, the rest {4 * (total - trained) / 1e6:.1f} MB"
    )
    ids, attention = pad_right(small_ids[:2])
    with torch.no_grad():
        on_now = token_logps(small_policy, ids, attention)
        with adapters_off(small_policy):
            off_now = token_logps(small_policy, ids, attention)
    claim(
        "before the first step the reference, adapters off, is the policy",
        (on_now - off_now).abs().max() == 0,
    )
    claim(
        "policy and reference together hold four bytes a weight",
        bytes_held(small_policy) == 4 * total,
    )

# %%
if available("smollm2-135m"):

    def small_answers(n, name, ids):
        """Texts and rollout of n answers a prompt, at most 24 tokens."""
        out = sample(
            small_policy,
            ids,
            n=n,
            max_new_tokens=24,
            eos_id=small_tokenizer.eos_token_id,
            generator=run.fresh(name),
        )
        return out.texts(small_tokenizer), out

    small_texts, _ = small_answers(4, "small pairs", small_ids[:4])
    rows_of = []
    for i in range(0, len(small_texts), 2):
        fewer, more = sorted(small_texts[i : i + 2], key=lambda text: text.count(","))
        if fewer.count(",") < more.count(","):  # of two equals none is better
            rows_of.append(
                {
                    "prompt": small_rows[i // 4]["prompt"],
                    "chosen": fewer,
                    "rejected": more,
                }
            )
    print(f"{len(rows_of)} comparisons")

# %%
if available("smollm2-135m"):
    new_ids = small_ids[4:]
    early_texts, _ = small_answers(3, "before", new_ids)
    small_optimizer = torch.optim.AdamW(
        [p for p in small_policy.parameters() if p.requires_grad], lr=1e-3
    )
    for batch in data.batches(rows_of, 2, generator=run.fresh("small dpo")):
        batch = data.collate_pairs(batch, small_tokenizer)
        with torch.no_grad(), adapters_off(small_policy):
            before_it = direct_alignment.pair_logps(small_policy, batch)
        batch["ref_chosen"], batch["ref_rejected"] = before_it
        direct_alignment.step(small_policy, small_optimizer, batch, beta=0.1)
    late_texts, _ = small_answers(3, "after", new_ids)

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
if available("smollm2-135m"):
    for name, texts in (("before", early_texts), ("after", late_texts)):
        commas = sum(text.count(",") for text in texts) / len(texts)
        print(f"{name:<7} {commas:.2f} commas in an answer of at most 24 tokens")
    for k in (0, 3):
        print(f"PROMPT  {small_rows[4 + k // 3]['prompt']}")
        for name, texts in (("before", early_texts), ("after", late_texts)):
            print(f"  {name:<7} {' / '.join(texts[k].split(chr(10)))[:140]}")

# %%
if available("smollm2-135m"):
    seen = data.collate_pairs(rows_of, small_tokenizer)
    with torch.no_grad():
        chosen_now, rejected_now = direct_alignment.pair_logps(small_policy, seen)
        with adapters_off(small_policy):
            chosen_then, rejected_then = direct_alignment.pair_logps(small_policy, seen)
    moved_apart = ((chosen_now - chosen_then) - (rejected_now - rejected_then)).mean()
    claim(
        "DPO moved chosen answers up against rejected ones, on the pairs it read",
        moved_apart > 0.05,
        {"nats": moved_apart.item()},
        kind="T",
    )

# %% [markdown]
# That these pairs were learned is certain. Whether *new* questions are answered with fewer commas, so few comparisons and
# answers cannot tell. A longer run belongs to chapter 12.

# %% [markdown]
# ## Exercises
#
# Each check says *which* idea was behind a wrong answer.
#
# ### Exercise 4.4 · What does a nat cost? · difficulty 3 of 5 · 15 minutes (estimated) · needs: 4.4
#
# A manager says: "Spend at most one nat." Write the function that finds the β at which the best policy spends
# exactly a given budget: $\mathrm{KL}(\pi^\star_\beta\|\pi_{\mathrm{ref}})=$ `budget`. You have `tilted`. Before
# you write: does KL rise or fall with β? What is left of the reference as β goes to zero?


# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex04-4", "locked": false, "schema_version": 3, "solution": true, "task": false}
def beta_for_budget(logp_ref, reward, budget):
    """(N,), (N,), nats -> the beta whose optimum is `budget` nats away."""
    ### BEGIN SOLUTION
    low, high = 1e-4, 1e4
    for _ in range(100):
        middle = (low * high) ** 0.5
        p = tilted(logp_ref, reward, middle)
        if (p.exp() * (p - logp_ref)).sum() > budget:
            low = middle  # too far away: make the nat dearer
        else:
            high = middle
    return low
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex04-4-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("4.4", beta_for_budget)
### BEGIN HIDDEN TESTS
check("4.4", beta_for_budget, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# KL falls as β rises: a dear nat is spent rarely. So you can search: too much KL means β is too small.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Start with a tiny and a huge β and take the geometric mean $\sqrt{\beta_1\beta_2}$ again and again.
#
# </details>
#
# *You should now be able to say* why β is a price and not a distance, and where β → 0 leads.
#
# <!-- solution 4.4 -->
#
# ### Exercise 4.5 · Somebody planted a bug · difficulty 2 of 5 · 10 minutes (estimated) · needs: 4.3
#
# Bandit and token MDP have the same gradient *if the reward is in the right place*. This function runs, and is
# wrong:
#
# ```python
# def token_rewards(score, mask):
#     return score[:, None] * mask / mask.sum(1, keepdim=True)
# ```
#
# Repair it: at every token whose mask is 1, the reward-to-go (γ = 1) must be its answer's score; where the mask is
# 0, the reward is 0. Masks may have gaps, where a tool's output was pasted in.


# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex04-5", "locked": false, "schema_version": 3, "solution": true, "task": false}
def token_rewards(score, mask):
    """(B,), (B, T) -> (B, T) rewards of tokens."""
    ### BEGIN SOLUTION
    out = torch.zeros_like(mask)
    out[torch.arange(len(mask)), last_index(mask)] = score
    return out
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex04-5-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("4.5", token_rewards)
### BEGIN HIDDEN TESTS
check("4.5", token_rewards, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# Write down the reward-to-go of the planted version for one answer of three tokens and score 3.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# One place a row is not zero. `last_index` finds it, under any padding.
#
# </details>
#
# *You should now be able to say* why "bandit" and "token MDP" are two views of one problem.
#
# <!-- solution 4.5 -->
#
# ### Exercise 4.6 · Too good to be true · difficulty 4 of 5 · 20 minutes (estimated) · needs: 4.4
#
# A paper reports a policy with KL `kl` and mean reward `reward`, on a problem whose reference and rewards you
# know. Write the detector that says `True` if *no policy whatever* could have these two numbers.


# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex04-6", "locked": false, "schema_version": 3, "solution": true, "task": false}
def too_good(kl, reward, logp_ref, r):
    """Two numbers, (N,), (N,) -> True if (kl, reward) is above the frontier."""
    ### BEGIN SOLUTION
    betas = torch.logspace(-2, 2, 400, dtype=torch.float64).tolist()
    return any(reward - b * kl > free_energy(logp_ref, r, b) + 1e-9 for b in betas)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex04-6-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
check("4.6", too_good)
### BEGIN HIDDEN TESTS
check("4.6", too_good, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# For every policy and *every* β: reward − β·KL ≤ β log Z. What does a point above the frontier violate?
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Try many β. One violated inequality is enough.
#
# </details>
#
# *You should now be able to say* why no optimiser, however clever, beats the frontier.
#
# <!-- solution 4.6 -->
#
# ### Exercise 4.7 · Will it fit? · difficulty 2 of 5 · 10 minutes (estimated) · needs: 4.5
#
# PPO in float32 on this set-up: **one** frozen trunk of `n` numbers carries two sets of `a` trained adapters, one
# for the policy, one for the critic; the reference is the trunk with its adapters off; the reward model is
# another frozen network of `n` numbers. The activations of the backward pass take `activations` bytes without
# LoRA, and nearly as much with it: count them in full. How many bytes in all, Adam included?


# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex04-7", "locked": false, "schema_version": 3, "solution": true, "task": false}
def lora_bytes(n, a, activations):
    """Numbers in the trunk and in one set of adapters, bytes -> bytes."""
    ### BEGIN SOLUTION
    frozen_weights = 4 * n + 4 * n  # the trunk and the reward model
    adapters = (
        2 * a * (4 + 4 + 8)
    )  # weight, gradient, two moments, for policy and critic
    return frozen_weights + adapters + activations
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex04-7-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("4.7", lora_bytes)
### BEGIN HIDDEN TESTS
check("4.7", lora_bytes, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# List all tensors: whose weights, whose gradients, whose moments? The reference adds none.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Frozen: four bytes a number. Trained: sixteen. Two trunks, two sets of adapters.
#
# </details>
#
# *You should now be able to say* what LoRA saves, and what it does not.
#
# <!-- solution 4.7 -->
#
# ### Exercise 4.8 · A small discount · difficulty 1 of 5 · 5 minutes (estimated) · needs: 4.3
#
# An answer of `length` tokens gets one score, at its last token. With discount γ, by which factor does the score
# reach each of the tokens? On paper first: what does the first of 30 tokens see at γ = 0.9? <!-- fact -->


# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex04-8", "locked": false, "schema_version": 3, "solution": true, "task": false}
def discount_weights(length, gamma):
    """A number of tokens, a discount -> `length` factors, first token first."""
    ### BEGIN SOLUTION
    return [gamma ** (length - 1 - t) for t in range(length)]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex04-8-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("4.8", discount_weights)
### BEGIN HIDDEN TESTS
check("4.8", discount_weights, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1: where to look</summary>
#
# The last token earns the score on the spot.
#
# </details>
# <details><summary>Hint 2: the step</summary>
#
# Count the steps from a token to the end of the answer.
#
# </details>
#
# *You should now be able to say* why RLHF sets γ to one although its episodes are short.
#
# <!-- solution 4.8 -->
#
# ## Questionnaire
#
# 1. Which three things change for a language model, and into what?
# 2. Why is a table of Q-values no option for completions?
# 3. When do the bandit view and the token view have the same gradient?
# 4. What does β multiply, and in which unit is KL measured?
# 5. Write down $\pi^\star_\beta$. Where does it go as β → 0, and as β → ∞?
# 6. What does it mean to be *on* the frontier, and for which reward is it drawn?
# 7. Which four networks does PPO keep, and which two of them does DPO not need?
# 8. What does LoRA save, and what does it leave?
#
# <details><summary>Answers</summary>
#
# 1. The reward becomes a learned model; the dynamics vanish (the prompt is the only state); a reward comes once an
# answer, not once a step. 2. It would need an entry for every text. 3. At γ = 1, with the score at the last token.
# 4. The KL to the reference, in nats, over whole answers. 5. $\pi_{\mathrm{ref}}e^{r/\beta}/Z$; to the answer with the
# highest reward, and to the reference. 6. No policy with the same KL has more reward; it is drawn for the proxy.
# 7. Policy, reference, reward model, critic; DPO needs neither reward model nor critic. 8. Gradients and optimizer
# states of the frozen weights, and the copy for the reference; it leaves the weights and the activations.
#
# </details>
#
# ## Where the book and its code differ
#
# - **A dangling index.** [eq:rl_opt_int](https://rlhfbook.com/c/03-training-overview#eq:rl_opt_int) and
#   [eq:rlhf_opt_eq](https://rlhfbook.com/c/03-training-overview#eq:rlhf_opt_eq) drop the sum over time but keep
#   $r_\theta(s_t,a_t)$ and $\pi(\cdot\mid s_t)$: no $t$ is left to sum over. We write $r_\theta(x,y)$, with the
#   expectation over prompts as well.
# - **"No state transitions"** here, and a token-level MDP in the policy-gradient chapter. Both are right at γ = 1
#   (section 4.3).
# - **Sizes of recipes** (table in 4.5). R1's cold start is "thousands" of samples in its paper; the
#   [published prompts](https://huggingface.co/datasets/allenai/RLVR-GSM-MATH-IF-Mixed-Constraints) of Tülu 3's RL are
#   about 30K.
# - The larger Qwen 3 has 235B weights, not 225B ([arXiv 2505.09388](https://arxiv.org/abs/2505.09388)).
#
# ## Summary
#
# Reinforcement learning for language models keeps the policy and changes the rest: the dynamics vanish, the reward
# is learned, and it comes once an answer: a bandit or, at γ = 1 just as well, an MDP over tokens. With a leash the
# best policy is known, and no algorithm crosses the frontier. PPO spends four networks on getting there, DPO two. What
# all of them climb is a proxy, so measure something that nobody optimised.
#
# **Functions you now know**: `advantages.returns_to_go`, `advantages.gae`, `ppo.rewards`, `ppo.policy_loss`, `rloo.step`,
# `direct_alignment.step`, `exact.tilted`, `exact.free_energy`, `models.lora`.
#
# **Further reading**: Ouyang et al. 2022, [arXiv 2203.02155](https://arxiv.org/abs/2203.02155), this loop with people
# in it; Gao et al. 2022, [arXiv 2210.10760](https://arxiv.org/abs/2210.10760), what
# happens to the truth when the proxy is pushed further; Rafailov et al. 2023,
# [arXiv 2305.18290](https://arxiv.org/abs/2305.18290), why DPO solves the same problem.
#
# <!-- nav -->
