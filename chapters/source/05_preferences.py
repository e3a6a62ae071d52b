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
# # 5 · What are preferences?
#
# **When can the likes of many people be one number, and whose number is it?**
#
# ![Three panels of a hundred squares: what readers like, 60 happy and 40 sad; stories of the language model before; and stories after, hidden behind a question mark](figures/05_hero.png)
#
# Six in ten readers like a story that ends happily, four in ten like a sad end (one square is 1 %). A *reward model* learns from their choices and then picks the best of sixteen stories for every request. On this page you see which endings are left, and when many tastes can be one number at all.
#
# <details><summary>What you need, what it costs</summary>
# Probabilities and log-odds (chapter 3), a little PyTorch. <!-- costs -->. Nothing is downloaded, and nothing is trained but a linear layer. Model: <code>village-3m-sft</code>, three million parameters, GPT-2 architecture, with its stored stories. Settings (20,000 labels, the penalty 0.2) were chosen on other, stored stories.
# <!-- edition -->
# </details>
#
# <!-- nav -->

# %% rlhf={"part": "setup"}
import torch
import torch.nn.functional as F
import rlhf_minimal as rlhf
from rlhf_minimal.book import begin, camps, cards, check, claim, plots, show, table
from rlhf_minimal.evaluate import tastes, votes
run = begin(5)

# %% tags=["hide-input"] rlhf={"part": "predict"}
asked = ("60 % of the labels prefer the happy end. Of the stories that the fitted "
         "reward picks as best of sixteen, how many end happily?")
rlhf.book.predict(asked, a="about as many as labels: 50 to 65 %",
                  b="more, but not nearly all: 65 to 80 %",
                  c="more than 80 %",
                  d="fewer than half")

# %% [markdown] rlhf={"part": "phenomenon"}
# ## A taste is not a mistake
#
# Our small language model tells stories. If the request leaves the mood open, some end happily, some sadly, some quietly (the quiet ones come later).
#
# The *true reward* of a story is a formula: 3 for a complete story on its topic, of the length and mood that the request asks for; less for slips, repetitions or a missing end; below 0 for broken text. If the mood is open, the formula does not look at the ending. <!-- fact -->

# %% rlhf={"show": true}
model, tokenizer = rlhf.models.load("village-3m-sft")
read = tastes.stored(tokenizer)                    # stories that readers will compare
cards(*tastes.example(read))
for end in ("happy", "sad"):
    true = read.gold[[i for i, e in enumerate(read.ends) if e == end]]
    print(f"{end:5}  {len(true)} stories, mean true reward {true.mean():.2f}")

# %% [markdown]
# The cards show two perfect answers to one request: which one you like is *taste*. Now readers compare, 20,000 times, a happy and a sad story. Each label comes from one reader, drawn from a crowd in which 60 % like happy ends. Nobody is careless: `temperature` is the noise of a choice, and 0.1 is little. <!-- fact -->

# %%
Crowd, Reader = rlhf.village.Crowd, rlhf.village.Reader
happy = Reader(group="happy", likes=("happy", "sad"), temperature=0.1)
sad = Reader(group="sad", likes=("sad", "happy"), temperature=0.1)
people = Crowd((happy, sad), (0.6, 0.4))
chosen, rejected, who = tastes.compare(read, people, 20_000, seed=run.seed)
labels = read.happy[chosen].mean().item()
print(f"the happy story was chosen in {labels:.1%} of the comparisons")

# %% [markdown] rlhf={"part": "loop"}
# ## The whole method
#
# A *reward model* gives each story $i$ one number $r_i$. Here it is a linear layer on the language model's last hidden state. The *Bradley–Terry* model says that story $i$ is preferred to story $j$ with probability $\sigma(r_i-r_j)$, where $\sigma(x)=1/(1+e^{-x})$. Fitting makes the observed choices likely. The penalty on the weights keeps them from fitting noise; it also shrinks most differences of reward.

# %%
old = read.standardised(read)


def fit(chosen, rejected, steps=150):
    gap = old.states[chosen] - old.states[rejected]
    weight = torch.zeros(gap.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.05)
    for _ in range(steps):
        margin = gap @ weight                      # r(chosen) - r(rejected)
        loss = -F.logsigmoid(margin).mean() + 0.2 * weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight.detach()

# %%
weight = fit(chosen, rejected)
states = old.states[chosen], old.states[rejected]
theirs = rlhf.reward_model.fit_head(*states, l2=0.2)      # Newton's method
off = (old.states @ (weight - theirs)).abs().max()
claim("the package fits the same rewards (largest difference below 0.02)", off < 0.02)

# %% [markdown]
# Now the model answers thirty-two requests that leave the mood open, each about another subject; the readers saw no answer to them. For each we keep its first sixteen stories with a happy or a sad end. *Best-of-16* returns the one with the highest fitted reward.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
asked = tastes.unjudged_requests(read)             # each about another subject
new = tastes.write(model, tokenizer, asked, requests=32, draws=46,
                   generator=run.fresh("stories")).standardised(read)
about = tastes.subjects(new, 16)
base = new.happy.mean().item()
ns, seeds = (1, 2, 4, 8, 16), run.seeds(5)         # five sets of labels
print(f"{len(new)} stories, {len(set(about))} subjects; {base:.0%} end happily")

# %% tags=["hide-input", "hero", "nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
show(camps.squares([("What readers like", "100 readers", 0.6),
                    ("Stories before", "one try of the model", base),
                    ("Stories after", "best of 16 by the fitted reward", None)]))

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled", "show": true}
score = new.states @ weight
first = torch.arange(0, len(new), 16)              # the first try of each request
best = first + score.view(-1, 16).argmax(1)
changed = (new.happy[first] != new.happy[best]).int().argmax()
for k in (changed, new.gold[best].argmin()):
    tries = (("first try", first[k].item()), ("best of 16", best[k].item()))
    cards(new.requests[first[k]], [(f"{name}: {new.ends[i]} end", new.texts[i],
                                    new.gold[i].item()) for name, i in tries])
# for each set: draw 20,000 labels, fit as above, score the new stories
pooled = tastes.scores(old, new, people, seeds)    # (5, 512)
curve = torch.stack([tastes.best_of(new, s, 16, ns) for s in pooled])
after = curve[:, :, -1].mean().item()
show(camps.squares([("Before: one try", "", base), ("After: best of 16", "", after)]))

# %% tags=["hide-input"]
claim("more than 80 % of the best of 16 end happily (five sets of labels)", after > 0.8,
      {"share": after}, kind="T")
rlhf.book.quote("can", f"{int(new.happy.view(-1, 16).amax(1).sum())} of the 32")
for name, which in (("tries", first), ("picks", best)):
    rlhf.book.quote(name, f"{new.gold[which].mean():.2f}")
rlhf.book.settled("c", "More than 80 % end happily; four in ten like sad ends.")

# %% [markdown] rlhf={"part": "idea"}
# The squares show all thirty-two requests, with rewards fitted to five independent sets of labels. The cards show two: the first where the pick ends differently from the first try, and the one whose pick has the lowest true reward. Nothing in the labels rewards quality, since these readers judge endings alone; the mean true reward is <!-- out tries --> for the first tries and <!-- out picks --> for these picks.
#
# ## Choosing the best forgets how large the majority was
#
# Ideally the *margin*, the reward of a happy end minus that of a sad one, is the log-odds of the labels, $\log\frac{.6}{.4}=.41$: a small number, for the camps are nearly equal. But best-of-n asks only *which* story scores higher, never by how much. If the reward sees only the ending, any positive margin wins, whenever there is a happy story among the sixteen. Here <!-- out can --> requests have one. <!-- fact -->
#
# Training with a KL penalty (chapters 4 and 8) does ask by how much. Its best policy is the reference $\pi_{\rm ref}$, the model before, *tilted* by the reward: $\pi(y)\propto\pi_{\rm ref}(y)\,e^{r(y)/\beta}$, where β is the weight of the penalty. We train nothing here: we draw from the same sixteen stories with these weights. If all happy stories share one reward, and all sad ones another, divide the probability of happy ends by that of sad ones:
#
# $$\underbrace{\frac{\pi(\text{happy})}{\pi(\text{sad})}}_{\text{odds after}}=\underbrace{\frac{\pi_{\rm ref}(\text{happy})}{\pi_{\rm ref}(\text{sad})}}_{\text{odds before}}\cdot\underbrace{\left(\frac{.6}{.4}\right)^{1/\beta}}_{\text{labels}}$$
#
# *Said aloud: raise the odds in the labels to the power one over β, and multiply the odds before by it.*

# %%
def after_tilt(before, labels, beta):
    odds = before / (1 - before) * (labels / (1 - labels)) ** (1 / beta)
    return odds / (1 + odds)


for beta in (1.0, 0.3, 0.1):
    print(f"β = {beta}: from 50 % happy to {after_tilt(0.5, 0.6, beta):.0%}")
r, ref = torch.tensor([[0.6, 0.4], [0.5, 0.5]], dtype=torch.float64).log()
theirs = rlhf.evaluate.exact.tilted(ref, r, 0.1).exp()[0]
claim("the package computes the same",
      bool((theirs - after_tilt(0.5, 0.6, 0.1)).abs() < 1e-9))

# %% [markdown]
# From even odds, β = 1 repeats the labels. At β = 0.1, a usual setting of DPO, the power is 10: $1.5^{10}\approx 58$, and the minority keeps 2 %. <!-- fact -->
#
# Now on the real stories, with two controls: a crowd of 90 to 10, and labels that are coin flips.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
crowds = {"90 / 10": Crowd((happy, sad), (0.9, 0.1)),
          "coin flips": Crowd((Reader(group="blind"),), (1.0,))}
curves = {"60 / 40": curve}
for name, crowd in crowds.items():
    found = tastes.scores(old, new, crowd, seeds)
    curves[name] = torch.stack([tastes.best_of(new, s, 16, ns) for s in found])
β = (0.1, 0.2, 0.3, 0.5, 1)
tilts = torch.stack([torch.stack([tastes.tilted_share(new, s, 16, b).mean()
                                  for b in β]) for s in pooled])
gaps = [s[new.happy > 0].mean() - s[new.happy < 1].mean() for s in pooled]
margin = sum(gaps).item() / 5                      # of the fitted rewards
shares = {k: c.mean(1).tolist() for k, c in curves.items()}

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
looks = {"60 / 40": "policy", "90 / 10": "chosen", "coin flips": "reference",
         "formula, odds .6/.4": "reference", "formula, fitted margin": "gold"}
unit, measured = "share of happy ends", tilts.mean(0).tolist()
show(camps.tinted(plots.panels({unit: shares}, ticks=ns, roles=looks,
                               x_label="n, best of n",
                               title="60 to 40 and 90 to 10: almost the same curve")))
table({k: tastes.share_of(c[:, :, -1], about) for k, c in curves.items()},
      corner="labels", note="Share of happy ends; interval over subjects.")
fitted = torch.tensor(margin).sigmoid().item()
tilted = {"formula, odds .6/.4": (β, [after_tilt(base, 0.6, b) for b in β]),
          "formula, fitted margin": (β, [after_tilt(base, fitted, b) for b in β]),
          "the stories, reweighted": (β, tilts.tolist())}
show(camps.tinted(plots.panels({unit: tilted}, roles=looks, zero=None,
                               title="A smaller β amplifies the majority",
                               x_label="β (left: weak penalty, right: strong)")))
rlhf.book.quote("margin", f"{margin:.2f}")

# %% [markdown]
# At n = 2 and n = 4 the curves of 60 to 40 and 90 to 10 are almost one: the size of the majority is almost gone. Single sets of coin flips move the share by some points up or down, no more than a blind choice of 32 stories would.
#
# In the second plot the shares of the reweighted stories lie below the formula with the odds of the labels. One reason: on new stories the fitted margin is <!-- out margin -->, not .41. The rest: stories with the same ending do not share one reward, and we have only sixteen for each request. <!-- fact -->
#
# **Is that unfair? Count readers, not stories.** Every reader asks for a story and gets what the policy gives. How many get the ending they like?

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
labelled = chosen, rejected, who
# fit on one camp's labels, pick the best of 16: how often has it the camp's ending?
own = {name: tastes.own_reward(old, new, *labelled, name) for name in ("happy", "sad")}
got = {"one story, no choice": base, "stories reweighted, β = 1": measured[-1],
       "best of 16, one reward": after, "best of 16, a reward for each camp": own}
# happy ends, turned into readers: 60 % want a happy one, 40 % a sad one
serve = {name: tastes.served(share, 0.6) for name, share in got.items()}
table(serve, digits="%", corner="readers who get the ending they like",
      note="32 requests. Rows 2, 3: mean of five sets of labels; row 4: one set.")

# %% tags=["hide-input"]
one, split = list(serve.values())[2:]
two = torch.tensor([shares["60 / 40"], shares["90 / 10"]]).mean(1)[:, 1:3]
claim("at n = 2 and n = 4, 60 / 40 and 90 / 10 differ by less than 5 points",
      (two[0] - two[1]).abs().max() < 0.05, kind="T")
claim("one reward serves under 20 % of the sad camp, a reward for each over 80 %",
      one["sad camp"] < 0.2 and min(split.values()) > 0.8, kind="T")

# %% [markdown] rlhf={"part": "idea"}
# The last row fits one reward to the labels of each camp, and each reader gets the pick of the own camp's reward. At β = 1 the stories end near even. That *looks* fair, and gives about half of all readers the wrong story, because it does not know who asks. Best-of-16 pleases more people in total and abandons the rest. What serves both is to know *who is asking*, and pooled labels do not say.
#
# > **Keep this.** With a KL penalty, the margin divided by β decides how far a majority is amplified; best-of-n almost ignores its size.
#
# ## A firm minority can outvote the majority
#
# People differ in *what* they like and in *how firmly* they choose. If two endings differ by $d$ in utility for a reader, and $\tau$ is the noise of this reader's choices (the temperature), the better one is chosen with probability $\sigma(d/\tau)$. Pooled labels see only the mixture. With $w$ the share of the happy camp, the happy end is chosen with probability
#
# $$p=w\,\sigma(d_1/\tau_1)+(1-w)\,\sigma(-d_2/\tau_2)$$
#
# Let both camps care equally, $d_1=d_2=1$. The happy camp is unsure, $\tau_1=1$; the sad camp is firm, $\tau_2=0.3$. Then $p=.6\cdot.73+.4\cdot.03=.45$: <!-- fact -->

# %%
firm = torch.tensor([1 / 1.0, 1 / 0.3]).sigmoid()   # P(own side): unsure, firm
share = 0.6 * firm[0] + 0.4 * (1 - firm[1])
for name, p in zip(("unsure", "firm"), firm, strict=True):
    print(f"{name}: own side {p:.2f}, other {1 - p:.2f}: {2 * p - 1:.2f} votes")
show(camps.squares([("What people like", "100 people", 0.6),
                    ("What they choose", "100 labels", share.item())]))

# %% [markdown]
# Six in ten people like happy ends, and the labels say *sad*. Choices against the own taste cancel others, so an unsure reader counts for .46 of a vote and a firm one for .93. <!-- fact -->
#
# Is the result wrong? The formula holds only the ratio $d/\tau$. So the sad camp may be firm for two reasons: it chooses with **less noise** ($\tau_2=0.3$), or it **cares more** ($d_2=3.3$, with the noise of everybody else). We build both crowds and ask each in four ways: <!-- fact -->
#
# | question | what one label says | what is fitted |
# |---|---|---|
# | comparison | this one of two | Bradley–Terry, as above |
# | ranking of four | an order | the best of four, then the best of the three left, then of two |
# | thumb | up or down | $\sigma(r_i)$ is the probability of *up* |
# | rating, 1 to 8 | a number | $r_i$ is the mean rating |

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
unsure = Reader(likes=("happy", "sad"), temperature=1.0)
sure = Reader(likes=("sad", "happy"), temperature=0.3)
cares = Reader(likes=("sad", "happy"), temperature=1.0, strength=1 / 0.3)
two_crowds = {"less noise": Crowd((unsure, sure), (0.6, 0.4)),
              "cares more": Crowd((unsure, cares), (0.6, 0.4))}
rows = {}
for why, crowd in two_crowds.items():              # 20,000 answers, one fit a question
    for kind, (w, _) in tastes.four_questions(old, crowd, 20_000, seeds[0]).items():
        ends = tastes.best_of(new, new.states @ w, 16, [16])
        rows.setdefault(kind, {})[why] = ends.mean().item()
table(rows, digits="%", corner="happy ends, best of 16, if the sad camp …",
      note="32 requests; one set of 20,000 answers for each question.")

# %% tags=["hide-input"]
told = [{k: row[c] for k, row in rows.items()} for c in ("less noise", "cares more")]
kinds = ("comparison", "ranking of four", "thumb")
blind = all(of[k] < 0.2 for of in told for k in kinds)
less, more = (of["rating, 1 to 8"] for of in told)
p = [c.probability("", *(tastes.example(read)[1][k][1] for k in (0, 1)))
     for c in two_crowds.values()]
claim("in both crowds a happy end is chosen with the probability of the formula",
      all(abs(x - share.item()) < 1e-6 for x in p))
claim("ratings from 1 to 8 tell the crowds apart; comparisons, rankings, thumbs do not",
      blind and less > 0.5 and more < 0.2, kind="T")

# %% [markdown]
# Comparisons, rankings and thumbs give labels with the same probabilities in both crowds, so no amount of data tells them apart: in this logistic model (with a fixed zero, for thumbs) only $d/\tau$ enters. Ratings differ: on this set of answers, noise averages out over many readers and strength does not. (Few of these ratings reach the ends of the scale, where averaging fails.)
#
# But ratings rest on a stronger assumption: that one step on the scale means the same to everybody (chapter 2). Should those who care more win? No loss settles that. Move the camps (small noise means firm, a small β a weak penalty):

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
camps.explorer().show()

# %% [markdown] rlhf={"part": "idea"}
# > **Keep this.** Pooled comparisons count firm readers for more than unsure ones, and cannot say why they are firm.
#
# ## When does a score exist at all?
#
# So far one score could at least describe what most labels say. Now let quiet endings back in, and a third camp.

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "circle"}
circle = {("happy", "sad", "quiet"): 40, ("sad", "quiet", "happy"): 35,
          ("quiet", "happy", "sad"): 25}
show(camps.circle(circle))

# %% [markdown]
# The majority prefers happy to sad, sad to quiet, and quiet to happy. Condorcet described such a *cycle* in 1785. No score can agree with it. Conversely, if there is no cycle and no tie, some score orders every pair as the majority does. We try all electorates of 3, 5 and 7 people (an odd number cannot tie): <!-- fact -->

# %%
small = [e for people_ in (3, 5, 7) for e in votes.electorates(people_)]
print(len(small), "electorates,", sum(map(votes.has_cycle, small)), "with a cycle")
claim("a score that agrees with every majority exists exactly where there is no cycle",
      all(votes.score_exists(e) != votes.has_cycle(e) for e in small))
for n in (3, 9):
    print(f"{n} random orders: a cycle in {float(votes.cycle_probability(n)):.1%}")

# %% [markdown]
# That a score *exists* does not mean that Bradley–Terry fits the data. It also demands *sizes*: log-odds must add up along every path. Take the two camps, with quiet ends in the middle for both: all three comparisons are 60 to 40. Happy over sad should be $.41+.41$ in log-odds, 69 %, and the readers say 60 %. <!-- fact -->

# %%
def bradley_terry(P, steps=1000):                  # P[i, j]: share who prefer i to j
    r = torch.zeros(len(P), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([r], lr=0.01)
    for _ in range(steps):
        loss = -(P * F.logsigmoid(r[:, None] - r)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return r.detach()


two = {("happy", "quiet", "sad"): 60, ("sad", "quiet", "happy"): 40}
P = votes.table(two)                               # happy, quiet, sad
r = bradley_terry(P)
for name, j in (("quiet", 1), ("sad", 2)):
    fit_says = (r[0] - r[j]).sigmoid()
    print(f"happy over {name}: readers {P[0, j]:.0%}, fit {fit_says:.0%}")

# %% [markdown] rlhf={"part": "idea"}
# Here it finds the right order with wrong sizes; in the next section it misses even the order. Reward models use one number all the same, because one number can be maximised directly.
#
# > **Keep this.** If no pair is tied, a score that agrees with every majority exists exactly when the majorities do not go round.
#
# ## Other rules, other winners
#
# A small election: nineteen people order the three endings. Which one wins depends on the rule:
#
# | rule | picks |
# |---|---|
# | plurality | the option with the most first places |
# | Borda | the option with the most points: one for every option that a person puts below it |
# | Condorcet | the option that beats each other one by majority |
# | maximal lottery | the mixture that none beats in expected votes |
# | random ballot | the first choice of one person, drawn at random |

# %%
ballots = votes.three_winners(19)[0].items()       # found by trying all electorates
nineteen = dict(sorted(((o, n) for o, n in ballots if n), key=lambda pair: -pair[1]))
table({" > ".join(order): {"people": n} for order, n in nineteen.items()},
      corner="order, best first")
table({rule: {"winner": votes.told(chosen)}
       for rule, chosen in votes.rules(nineteen).items()}, corner="rule")

# %% [markdown]
# Three winners among these rules. For the nineteen, *sad* comes first by Borda, although happy beats sad by 10 to 9. Why do Borda and Bradley–Terry share a row? Give each option one free number, without a penalty, and compare all pairs equally often. At the best fit, the slope of the loss is zero for the reward $r_i$ of every option $i$. In points per person, this says:
#
# $$\underbrace{\sum_{j\ne i}P(i\succ j)}_{\text{Borda points}}=\underbrace{\sum_{j\ne i}\sigma(r_i-r_j)}_{\text{predicted points}}$$
#
# *Said aloud: the fit gives every option exactly the points that it has.* And the option with the larger reward is predicted more points. So Bradley–Terry, fitted in this way, orders the options by Borda points (Siththaranjan et al., 2024). <!-- fact -->

# %%
names, P = votes.options(nineteen), votes.table(nineteen)
r = bradley_terry(P)
points = P.sum(1) - 0.5                            # the diagonal holds 1/2
predicted = torch.sigmoid(r[:, None] - r).sum(1) - 0.5
table({name: {"Borda points": points[i], "reward": r[i] - r.mean()}
       for i, name in enumerate(names)}, note="Points per person; mean reward 0.")
claim("the fit predicts the Borda points", (points - predicted).abs().max() < 1e-3)

# %% tags=["hide-input"]
show(camps.rules({"the circle": votes.rules(circle)}))
claim("Bradley–Terry orders all three electorates as Borda does",
      all(votes.fits_borda(electorate) for electorate in (two, circle, nineteen)))
claim("below nineteen people, plurality, Borda and Condorcet never have three winners",
      not any(votes.three_winners(n) for n in range(3, 19)))

# %% [markdown]
# The *maximal lottery* (Kreweras 1965, Fishburn 1984) needs no score; as *Nash learning* it trains language models (Munos et al., 2023; there a KL penalty softens it). It keeps several answers **only where no option beats all others**: with two camps of 60 and 40 it is always happy. It cures cycles, not the silence of the minority. The *random ballot* keeps every camp, and gives many readers the wrong story. <!-- fact -->
#
# Is there a perfect rule? Arrow proved (1951, in the form of 1963): with three or more options, no rule that turns *every* electorate into one order can (1) follow every unanimous wish, (2) order each pair by what people say about this pair alone, and (3) not simply copy one fixed person. Bradley–Terry gives up (2). In the circle it puts sad first; delete *quiet* from every ballot, and happy beats sad 65 to 35. <!-- fact -->
#
# > **Keep this.** “What people prefer” is a fact plus a rule. Bradley–Terry has chosen the rule for you: Borda, if all pairs are asked equally often and every option has a free number.
#
# The drawing below shows the whole way from a feeling to a policy.

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "road"}
show(camps.road())

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | what tells |
# |---|---|---|
# | a reward model of a mixed crowd judged by pooled accuracy | 60 %, which looks poor <!-- fact --> | accuracy for each camp |
# | a margin read as agreement | "margin 3, so 95 % of the people like it"; above, 60 % of the people gave 45 % of the labels <!-- fact --> | votes of different people on the same pair |
# | preferences that drift, taken for fixed | last year's reward model gets worse | accuracy on labels by date |
#
# The first one, live, on new labels for new stories:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
good, bad, group = tastes.compare(new, people, 4_000, seed=run.seed + 100)
right = (score[good] > score[bad]).float()
of = {c: right[torch.tensor([g == c for g in group])].mean() for c in ("happy", "sad")}
table({"accuracy": {"all": right.mean(), "ceiling": 0.6, "happy camp": of["happy"],
                    "sad camp": of["sad"]}}, digits="%")

# %% tags=["hide-input"]
claim("pooled accuracy is below 65 %, the sad camp's is worse than a coin's",
      right.mean() < 0.65 and of["sad"] < 0.3, kind="T")

# %% [markdown] rlhf={"part": "gpt2"}
# A perfect predictor of this crowd is right 60 % of the time: it cannot know who will answer. The two camps' accuracies, weighted by .6 and .4, make the pooled one. One pooled number hides a camp whose wish is predicted backwards. <!-- fact -->
#
# ## At GPT-2 size
#
# The same idea, smaller, recorded once with SmolLM2, 135 million parameters: it learned the village's manner from demonstrations, writes its own eight stories for each of six requests, and the reward is fitted to 10,000 comparisons on its own hidden states. No setting was tuned for it. <!-- fact -->

# %%
large = rlhf.book.recorded("05_smollm2")
lines = {name: large.seeds(name) for name in ("60 / 40", "coin flips")}
mean = {k: f"{100 * sum(s[-1] for s in sets) / 5:.0f} %" for k, sets in lines.items()}
show(camps.tinted(plots.panels({"share of happy ends": lines}, roles=looks,
    title=f"SmolLM2, six requests: {mean['60 / 40']} happy at n = 8",
    x_label="n, best of n", ticks=large.curve["n"])))
shown = {name: large.held_out[when]["texts"][0] for name, when in
         (("first try", "before"), ("best of 8", "after"))}
cards(shown["first try"]["prompt"],
      [(f"{name}: {t['end']} end", t["completion"]) for name, t in shown.items()])
for name, k in (("large", "60 / 40"), ("flips", "coin flips")):
    rlhf.book.quote(name, mean[k])

# %% [markdown] rlhf={"part": "exercises"}
# On average over five sets of labels, <!-- out large --> of the best of eight end happily after 60 to 40 labels, and <!-- out flips --> after coin flips; the plot begins at the single tries. All sets score the same 48 stories, and six requests are few: single sets of coin flips reach 100 %, so one set of labels alone would prove nothing here. <!-- fact -->
#
# ## Exercises
#
# ### Exercise 5.1 · A crowd of any size
#
# The page mixed two camps and two endings. Write the probability that a crowd prefers answer $i$ to answer $j$, for all pairs: K camps with utilities `u` (K, N), temperatures `tau` (K,) and shares `w` (K,) that sum to 1 (one or two lines).

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex05-1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def crowd_probability(u, tau, w):
    """(K, N), (K,), (K,) -> (N, N), entry [i, j]: P(i is preferred to j)."""
    ### BEGIN SOLUTION
    gap = (u[:, :, None] - u[:, None, :]) / tau[:, None, None]
    return (w[:, None, None] * torch.sigmoid(gap)).sum(0)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex05-1-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check("5.1", crowd_probability)
### BEGIN HIDDEN TESTS
check("5.1", crowd_probability, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# First the probability of one camp, (N, N), from differences of utilities. What is mixed, utilities or probabilities?
# </details>
#
# <!-- solution 5.1 -->
#
# ### Exercise 5.2 · Which β gives nine in ten?
#
# The model ends happily with probability `before`, the share `labels` of the labels is happy. At which β do the outputs end happily with probability `after`? On paper first: from even odds, labels 60 %, outputs 90 %. <!-- fact -->

# %% tags=["hide-input"]
show(camps.squares([("Labels", "", 0.6), ("Outputs, at which β?", "", 0.9)]))

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex05-2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def beta_for(before, labels, after):
    """Three probabilities -> beta."""
    ### BEGIN SOLUTION
    odds = torch.tensor([before, labels, after]).double().logit()
    return (odds[1] / (odds[2] - odds[0])).item()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex05-2-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("5.2", beta_for)
### BEGIN HIDDEN TESTS
check("5.2", beta_for, hidden=True)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
# Take the logarithm of the formula with the three odds.
# </details>
#
# <!-- solution 5.2 -->
#
# ### Exercise 5.3 · Judge a result
#
# A colleague reports: "Our reward model is right on only 60 % of the held-out comparisons. We need ten times more labels." You know that two different people who label the same pair agree in 52 % of the cases, on every pair. (a) Collect them. (b) The model may be at its ceiling; look at groups of people. (c) 60 % is too good; look for a leak. (d) The language model is too small. <!-- fact -->

# %% tags=["exercise"] nbgrader={"grade": false, "grade_id": "ex05-3", "locked": false, "schema_version": 3, "solution": true, "task": false}
def judgement():
    """-> "a", "b", "c" or "d"."""
    ### BEGIN SOLUTION
    return "b"  # p^2 + (1 - p)^2 = .52 gives p = .6: the best guess is right in 60 %
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ex05-3-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
check("5.3", judgement)
### BEGIN HIDDEN TESTS
check("5.3", judgement, hidden=True)
### END HIDDEN TESTS

# %% [markdown] rlhf={"part": "retell"}
# <details><summary>Hint</summary>
# If a share p of the people prefers one side, two of them agree with probability p² + (1 − p)².
# </details>
#
# <!-- solution 5.3 -->
#
# ## Retell it
#
# 1. A label is one person's choice, and a reward model squeezes the choices of many into one number.
# 2. Taking the best answer by that number turned a majority of six in ten into nine in ten stories; from an even start, a KL penalty with β near 1 stays close to the vote, and knowing who asks serves both camps.
# 3. Comparisons count firm readers for more, and cannot say whether firm means certain or passionate.
# 4. Where majorities go round in a circle, no score agrees with them.
# 5. Every rule for pooling is a choice: Bradley–Terry orders as Borda, plurality and Condorcet can have other winners, and none is the only right one.
#
# *In the book*: [What are preferences?](https://rlhfbook.com/c/10-preferences), on utility, Arrow's theorem and the history of the idea. *Next*: chapter 6, on preference data: which pairs to ask about, and whom.
#
# <!-- nav -->
