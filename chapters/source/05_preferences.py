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
# Six in ten readers like a story that ends happily, four in ten like a sad end. A *reward model* learns from their choices and then picks the best of sixteen stories for every request. On this page you fit it, see which endings are left, and find out when many tastes can be one number at all.
#
# <details><summary>What you need, what it costs, how quality is known</summary>
# Probabilities and log-odds (chapter 3), a little PyTorch. <!-- costs -->. Nothing is downloaded, and nothing is trained but a linear layer. Model: <code>village-3m-sft</code>, three million parameters, GPT-2 architecture, with its stored stories. The <i>true reward</i> of a story is a formula of this toy world: 3 for a story on its topic, in one piece and of the length and mood that the request asks for, less for slips, below 0 for broken text. Where the request leaves the mood open, it does not see how a story ends. ± is half of a 95 % interval over the twelve requests. Settings (20,000 labels, the penalty 0.2) were chosen on other, stored stories.
# </details>
#
# <!-- edition -->
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
# Our small language model tells stories. If the request leaves the mood open, some end happily, some sadly, some quietly (we set the quiet ones aside for now). Two perfect answers to one request:

# %% rlhf={"show": true}
model, tokenizer = rlhf.models.load("village-3m-sft")
read = tastes.stored(tokenizer)                    # stories that readers will compare
cards(*tastes.example(read))
for end in ("happy", "sad"):
    gold = read.gold[[i for i, e in enumerate(read.ends) if e == end]]
    print(f"{end:5}  {len(gold)} stories, mean true reward {gold.mean():.2f}")

# %% [markdown]
# Both are equally good; which one you like is *taste*. Now readers compare, 20,000 times, a happy and a sad story. Each label comes from one reader, drawn from a crowd in which 60 % like happy ends. Nobody lies, nobody is careless: `temperature` is the noise of a choice, and at 0.1 nobody is in doubt. <!-- fact -->

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
# A *reward model* gives each story $i$ one number $r_i$. Here it is a linear layer on the language model's last hidden state. The *Bradley–Terry* model says that story $i$ is preferred to story $j$ with probability $\sigma(r_i-r_j)$, where $\sigma(x)=1/(1+e^{-x})$. Fitting makes the observed choices likely; the small penalty keeps the weights from fitting noise.

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
both = torch.stack([old.states @ weight, old.states @ theirs])
claim("the package fits the same reward (correlation of the scores above 0.99)",
      torch.corrcoef(both)[0, 1] > 0.99)

# %% [markdown]
# Now the model answers twelve new requests that leave the mood open. For each we keep its first sixteen stories with a happy or a sad end.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
new = tastes.write(model, tokenizer, tastes.open_requests(15), requests=12,
                   draws=46, generator=run.fresh("stories")).standardised(read)
base = new.happy.mean().item()
print(f"{len(new)} stories; one try ends happily in {base:.0%}")

# %% tags=["hide-input", "hero", "nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
show(camps.squares([("What readers like", "100 readers", 0.6),
                    ("Stories before", "one try of the model", base),
                    ("Stories after", "best of 16 by the fitted reward", None)]))

# %% [markdown]
# *Best-of-16* returns the story with the highest reward. The first three requests, with the first try and the pick:

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled", "show": true}
score = new.states @ weight
first = torch.arange(0, len(new), 16)              # the first try of each request
best = first + score.view(12, 16).argmax(1)
for i, j in list(zip(first.tolist(), best.tolist(), strict=True))[:3]:
    tries = (("first try", i), ("best of 16", j))
    shown = [(f"{k}: {new.ends[t]} end", new.texts[t]) for k, t in tries]
    cards(new.requests[i], shown)
ns, seeds = (1, 2, 4, 8, 16), run.seeds(5)         # five sets of labels now
pooled = tastes.scores(old, new, people, seeds)    # (5, 192)
curve = torch.stack([tastes.best_of(new, s, 16, ns) for s in pooled])
after = curve[:, :, -1].mean().item()
show(camps.squares([("Before: one try", "", base), ("After: best of 16", "", after)]))

# %% tags=["hide-input"]
claim("more than 80 % of the best of 16 end happily (five sets of labels)",
      after > 0.8, {"share": after}, kind="T")
rlhf.book.settled("c", "More than 80 % end happily; four in ten like sad ends.")

# %% [markdown] rlhf={"part": "idea"}
# ## Choosing the best forgets how large the majority was
#
# The reward knows that the camps are nearly equal. Ideally its margin is the log-odds of the labels, $r_{\rm happy}-r_{\rm sad}=\log\frac{.6}{.4}=.41$: a small number. But best-of-n asks only *which* story scores higher, never by how much. Any positive margin wins, whenever there is a happy story among the sixteen. <!-- fact -->
#
# Training with a KL penalty (chapters 4 and 8) does ask by how much. Its best policy is the reference $\pi_{\rm ref}$, the model before, *tilted* by the reward: $\pi(y)\propto\pi_{\rm ref}(y)\,e^{r(y)/\beta}$, where β is the weight of the penalty. Divide the probability of happy ends by that of sad ones:
#
# $$\underbrace{\frac{\pi(\text{happy})}{\pi(\text{sad})}}_{\text{odds after}}=\underbrace{\frac{\pi_{\rm ref}(\text{happy})}{\pi_{\rm ref}(\text{sad})}}_{\text{odds before}}\cdot\Big(\underbrace{\frac{.6}{.4}}_{\text{odds in the labels}}\Big)^{1/\beta}$$
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
# The same on the real stories, beside three controls: a crowd of 90 to 10; readers of 60 to 40 who are less certain and *also* judge how well the story is told (they add the true reward to their taste); and labels that are coin flips.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
def camp(likes, **traits):
    return Reader(group=likes[0], likes=likes, **traits)


judging = dict(temperature=1.0, gold_weight=1.0)
fussy = [camp(c.likes, **judging) for c in (happy, sad)]
crowds = {"90 / 10": Crowd((happy, sad), (0.9, 0.1)),
          "60 / 40, quality counts": Crowd(tuple(fussy), (0.6, 0.4)),
          "coin flips": Crowd((Reader(group="blind"),), (1.0,))}
curves = {"60 / 40": curve}
for name, crowd in crowds.items():
    found = tastes.scores(old, new, crowd, seeds)
    curves[name] = torch.stack([tastes.best_of(new, s, 16, ns) for s in found])

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
looks = {"60 / 40": "policy", "90 / 10": "chosen", "coin flips": "reference",
         "60 / 40, quality counts": "gold", "formula": "reference"}
ends_at, β = {name: c[:, :, -1] for name, c in curves.items()}, (1, 0.5, 0.3, 0.2, 0.1)
unit = "share of happy ends"
show(plots.panels({unit: {k: c.mean(1).tolist() for k, c in curves.items()}}, ticks=ns,
                  title="The majority takes over, large or small",
                  x_label="n, best of n", roles=looks))
table({name: tastes.spread(c) for name, c in ends_at.items()}, corner="labels",
      note="Share of happy ends. ±: 95 % interval over the 12 requests.")
tilts = torch.stack([torch.stack([tastes.tilted_share(new, s, 16, b).mean()
                                  for b in β]) for s in pooled])
exact, measured = [after_tilt(base, 0.6, b) for b in β], tilts.mean(0).tolist()
show(plots.panels({unit: {"formula": exact, "policy: measured": tilts.tolist()}},
                  title="A smaller β amplifies the majority", x_label="β", roles=looks,
                  ticks=[f"{b:g}" for b in β]))
gaps = [s[new.happy > 0].mean() - s[new.happy < 1].mean() for s in pooled]
rlhf.book.quote("margin", f"{sum(gaps) / 5:.2f}")

# %% [markdown]
# The size of the majority is gone. Readers to whom quality counts, too, choose the happy end less often, need more tries, and arrive nearly as far. Sad ends that remain are mistakes of the reward, which the best of sixteen seeks out (chapter 17). And labels that know *nothing* do not leave the stories alone: single sets of coin flips drift to either side, because best-of-16 amplifies whatever direction the noise left behind.
#
# The measured shares lie below the formula because the fitted margin is <!-- out margin --> instead of .41: the penalty of the fit shrinks it. <!-- fact -->
#
# **Is that unfair? Count readers, not stories.** Suppose that every reader asks for a story, and gets what the policy gives. How many get the ending they like? The last row trains nothing: the reader *says* which mood is wanted.

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
labelled = chosen, rejected, who
own = {name: tastes.own_reward(old, new, *labelled, name) for name in ("happy", "sad")}
asked = tastes.told_when_asked(model, tokenizer, tastes.open_requests(12), n=4,
                               generator=run.fresh("asked"))
serve = {"one story, no choice": base, "one policy, β = 1": measured[0],
         "one policy, best of 16": after, "a reward for each camp, best of 16": own,
         "the request names the mood, one try": asked}
serve = {name: tastes.served(got, 0.6) for name, got in serve.items()}
table(serve, digits="%", corner="readers who get the ending they like",
      note="Stories with a happy or a sad end; this page's run, 12 requests.")

# %% tags=["hide-input"]
_, _, one, split, _ = serve.values()
apart = (ends_at["60 / 40"].mean() - ends_at["90 / 10"].mean()).abs()
claim("best of 16 from 60 / 40 and from 90 / 10 differ by less than 15 points",
      apart < 0.15, kind="T")
worse_off = min(split["sad camp"], split["happy camp"])
claim("one policy serves under 20 % of the sad camp, a reward for each over 80 %",
      one["sad camp"] < 0.2 and worse_off > 0.8, kind="T")

# %% [markdown] rlhf={"part": "idea"}
# This is uncomfortable. A policy (the model that answers) that repeats the vote *looks* fair and gives about half of all readers the wrong story, because it does not know who asks. Best-of-16 pleases more people in total and abandons the rest. What helps both camps is knowing *who is asking*, and pooled labels do not contain that. (Saying it in the request is the cheapest cure, but this small model hardly heeds the word.)
#
# *Keep this: β decides how far a majority is amplified; best-of-n ignores its size.*
#
# ## The firm outvote the many
#
# People differ in *what* they like and in *how firmly* they choose. If two endings differ by $d$ in utility for a reader, and $\tau$ is the noise of this reader's choices (the temperature), the better one is chosen with probability $\sigma(d/\tau)$. Pooled labels see only the mixture, with $w$ the share of the happy camp:
#
# $$P(\text{happy}\succ\text{sad})=w\,\sigma(d_1/\tau_1)+(1-w)\,\sigma(-d_2/\tau_2)$$

# %%
firm = torch.tensor([1 / 1.0, -1 / 0.3]).sigmoid()
share = 0.6 * firm[0] + 0.4 * firm[1]
print(f"60 x {firm[0]:.2f} + 40 x {firm[1]:.2f} = {100 * share:.0f} of 100 are happy")
unsure = camp(("happy", "sad"), temperature=1.0)
noise = Crowd((unsure, camp(("sad", "happy"), temperature=0.3)), (0.6, 0.4))
strong = camp(("sad", "happy"), temperature=1.0, strength=1 / 0.3)
cares = Crowd((unsure, strong), (0.6, 0.4))
request, (one, other) = tastes.example(read)
cards(request, (one, other))
p = [crowd.probability(request, one[1], other[1]) for crowd in (noise, cares)]
claim("both crowds of the next table choose a happy end with this probability",
      all(abs(x - share.item()) < 1e-6 for x in p))

# %% [markdown]
# Six in ten people like happy ends, and the labels say *sad*. But is that wrong? The formula holds only the ratio $d/\tau$. So the other camp may be firm for two reasons: it chooses with **less noise** ($\tau_2=0.3$), or it **cares more** ($d_2=3.3$, with the same noise as everybody). We ask both crowds in five ways: <!-- fact -->
#
# | question | what one label says | loss for the score $r$ |
# |---|---|---|
# | comparison | this one of two | $-\log\sigma(r_i-r_j)$ |
# | ranking of four | an order | Plackett–Luce: choose the best of four, then of three, then of two |
# | thumb | up or down | $-\log\sigma(\pm r_i)$ |
# | rating, 1 to 5 or 1 to 8 | a number | $\frac12(r_i-\text{rating})^2$ |

# %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "sampled"}
rows = {}
for column, crowd in (("less noise", noise), ("cares more", cares)):
    for seed in seeds[:2]:
        for kind, (w, ties) in tastes.five_questions(old, crowd, 20_000, seed).items():
            got = tastes.best_of(new, new.states @ w, 16, [16]).mean().item()
            rows.setdefault(kind, {}).setdefault(column, []).append(got)
            rows[kind].setdefault("ties", ties)
for row in rows.values():
    row.update({k: sum(v) / 2 for k, v in row.items() if isinstance(v, list)})
table(rows, digits="%", corner="happy ends, best of 16, if the sad camp …",
      note="Two sets of 20,000 answers. Ties (first crowd): two equal ratings.")

# %% tags=["hide-input"]
told = [{k: row[c] for k, row in rows.items()} for c in ("less noise", "cares more")]
kinds = ("comparison", "ranking of four", "thumb")
blind = all(of[k] < 0.2 for of in told for k in kinds)
less, more = (of["rating, 1 to 8"] for of in told)
claim("ratings from 1 to 8 tell the crowds apart; comparisons, rankings, thumbs do not",
      blind and less > 0.5 and more < 0.2, kind="T")

# %% [markdown]
# Comparisons, rankings and thumbs cannot tell the two crowds apart, for any amount of data: in this model of choice their probabilities hold only $d/\tau$. Ratings can, as far as their scale reaches (here, utilities from −2 to 2 in equal steps), because noise averages out and strength does not. They have a price of their own: coarse scales make ties, and whoever uses the scale more widely counts more. <!-- fact -->
#
# Should those who care more win? That is a question to people, not to a loss. On questions with a right answer, less noise may come from care, and more weight is welcome. On a matter of taste it only makes firm people louder. Move the camps:

# %% tags=["hide-input", "nbval-ignore-output"] rlhf={"ignore_reason": "widget"}
camps.explorer().show()

# %% [markdown] rlhf={"part": "idea"}
# *Keep this: pooled comparisons weigh people by how firmly they choose.*
#
# ## When does a score exist at all?
#
# So far one score could at least describe what the majority says. Now let quiet endings back in, and a third camp.

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "circle"}
circle = {("happy", "sad", "quiet"): 40, ("sad", "quiet", "happy"): 35,
          ("quiet", "happy", "sad"): 25}
show(camps.circle(circle))

# %% [markdown]
# Each reader has a sensible order. The majority does not: it prefers happy to sad, sad to quiet, and quiet to happy. Condorcet described such a *cycle* in 1785. No score can agree with it: $r_{\rm happy}>r_{\rm sad}>r_{\rm quiet}>r_{\rm happy}$ is impossible. The converse holds as well: without a cycle, some score orders every pair as the majority does. We try all electorates of 3, 5 and 7 people, and all orders of the scores: <!-- fact -->

# %%
small = [e for people_ in (3, 5, 7) for e in votes.electorates(people_)]
print(len(small), "electorates,", sum(map(votes.has_cycle, small)), "with a cycle")
claim("a score that agrees with every majority exists exactly where there is no cycle",
      all(votes.score_exists(e) != votes.has_cycle(e) for e in small))
for n in (3, 5, 7, 9):
    print(f"{n} random orders: a cycle in {float(votes.cycle_probability(n)):.1%}")

# %% [markdown]
# That a score *exists* does not mean that Bradley–Terry finds it. It also demands sizes: log-odds must add up along every path. Take the two camps, with quiet ends in the middle for both: all three comparisons are 60 to 40. Then happy over sad should be $.41+.41$ in log-odds, which is 69 %, and the readers say 60 %. <!-- fact -->
#
# And from a *balanced* cycle, in which each majority is two thirds, one number per ending learns nothing. Two numbers would do, with the margin $u\times v=u_1v_2-u_2v_1$ in place of a difference:

# %%
i, j = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])      # each beats the next
start = torch.randn(3, 2, generator=run.fresh("start"))
losses = []
for margin in (lambda u: u[i, 0] - u[j, 0],
               lambda u: u[i, 0] * u[j, 1] - u[i, 1] * u[j, 0]):
    u = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([u], lr=0.02)
    for _ in range(1000):
        loss = -(2 * F.logsigmoid(margin(u)) + F.logsigmoid(-margin(u))).mean() / 3
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    losses.append(loss.item())

# %%
thirds = torch.tensor([2 / 3, 1 / 3])
entropy = -(thirds * thirds.log()).sum().item()
print(f"one number {losses[0]:.3f}, two {losses[1]:.3f}, possible {entropy:.3f}")
claim("one number: the loss of a coin, log 2; two numbers: the entropy of the labels",
      abs(losses[0] - 0.693147) < 1e-3 and abs(losses[1] - entropy) < 1e-3)

# %% [markdown] rlhf={"part": "idea"}
# Then why does every reward model use one number? Because one number can be maximised. With three options cycles are rare, as the counts above show; if orders are random, they become the rule as the number of options grows.
#
# *Keep this: a score that agrees with every majority exists exactly when the majorities do not go round.*
#
# ## Other rules, other winners
#
# "Fit Bradley–Terry, take the best" is one rule of voting among many. If all pairs are compared equally often, its order is that of the *Borda count*: a point for every option that a person puts below. *Plurality* counts first places. A *Condorcet winner* beats every other option by majority. Two rules answer with a lottery. The *random ballot* draws one person and follows that person's first choice. The *maximal lottery*, also called Nash policy, is the mixture that no other mixture beats by majority. It needs no score, and self-play finds it: options that beat the present mixture gain.

# %%
def self_play(P, rounds=20_000, rate=0.1):        # P[a, b]: share who prefer a to b
    play, mean = torch.ones(len(P)).double() / len(P), 0
    for _ in range(rounds):
        play = play * (rate * (P - P.T) @ play).exp()
        play = play / play.sum()
        mean = mean + play / rounds
    return mean

# %%
two = {("happy", "quiet", "sad"): 60, ("sad", "quiet", "happy"): 40}
answers, electorates = {}, {"two camps, 60 / 40": two, "the circle": circle,
                            "nineteen people": votes.three_winners(19)[0]}
for name, ballots in electorates.items():
    one = {"plurality": votes.winner(votes.plurality(ballots)),
           "Borda, Bradley–Terry": votes.winner(votes.borda(ballots)),
           "Condorcet": votes.condorcet(ballots)}
    mixed = {"maximal lottery": votes.maximal_lottery(ballots),
             "random ballot": votes.random_ballot(ballots)}
    answers[name] = {rule: {w: 1} if w else {} for rule, w in one.items()} | mixed
show(camps.rules(answers))

# %% tags=["hide-input"]
tables = {name: votes.table(ballots) for name, ballots in electorates.items()}
lotteries = [torch.tensor([float(x) for x in a["maximal lottery"].values()])
             for a in answers.values()]
off = [(self_play(P) - p).abs().max()
       for P, p in zip(tables.values(), lotteries, strict=True)]
like_borda = all(votes.fits_borda(ballots) for ballots in electorates.values())
claim("self-play finds the maximal lottery (to 0.02), Bradley–Terry orders as Borda",
      max(off) < 0.02 and like_borda)
claim("below nineteen people, plurality, Borda and Condorcet never have three winners",
      not any(votes.three_winners(n) for n in range(3, 19)))

# %% [markdown]
# Two things surprise. The maximal lottery keeps several answers **only where no option beats all others**. With two camps it is as one-sided as best-of-n: happy wins 60 to 40, so it is always happy. It cures cycles, not the silence of the minority. (A KL penalty softens it, as above.) The random ballot keeps every camp, at the price that we counted: many readers get the wrong story. And nineteen people are enough for three rules with three winners. <!-- fact -->
#
# Arrow proved in 1951 that this is no accident. With three or more options, no rule that makes one order out of many can follow every unanimous wish, judge each pair by that pair alone, and not be the order of one single person. *Keep this: "what people prefer" is a fact plus a rule, and Bradley–Terry has chosen the rule for you.* <!-- fact -->

# %% tags=["hide-input"] rlhf={"drawing": true, "figure": "road"}
show(camps.road())

# %% [markdown] rlhf={"part": "wrong"}
# ## What goes wrong
#
# | trap | what you see | the one number that tells |
# |---|---|---|
# | a reward model of a mixed crowd judged by pooled accuracy | 60 %, and more labels do not help <!-- fact --> | accuracy for each camp |
# | preferences that drift, or depend on context, taken for fixed | last year's reward model gets worse | accuracy on labels by date and by group |
# | ties dropped | hesitant people vanish from the data | labels for each *person*, before and after |
# | a margin read as agreement | "r = 3, so 95 % agree" <!-- fact --> | votes of different people on the same pair |
# | the scale of a rating mixed over people | generous raters decide | mean and spread for each rater |
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
# A perfect predictor of this crowd is right 60 % of the time: it cannot know who will answer. One pooled number near its ceiling hides a camp whose wish is predicted backwards. <!-- fact -->
#
# ## At GPT-2 size
#
# The same, recorded once with SmolLM2, 135 million parameters: it learned the village's manner from demonstrations, writes its own eight stories for each of six requests, and the reward is fitted to 10,000 comparisons on its own hidden states. No setting was tuned for it. <!-- fact -->

# %%
large = rlhf.book.recorded("05_smollm2")
lines = {name: large.seeds(name) for name in ("60 / 40", "coin flips")}
show(plots.panels({"share of happy ends": lines}, ticks=large.curve["n"], roles=looks,
                  title="135 million parameters: five sets of labels", x_label="n"))
tries = {"first try": "before", "best of 8": "after"}
for k in (0, 1):
    shown = {name: large.held_out[when]["texts"][k] for name, when in tries.items()}
    told = [(f"{name}: {t['end']} end", t["completion"]) for name, t in shown.items()]
    cards(shown["first try"]["prompt"], told)

# %% [markdown] rlhf={"part": "exercises"}
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
# A colleague reports: "Our reward model is right on only 60 % of the held-out comparisons. We need ten times more labels." You know that two different people who label the same pair agree in 52 % of the cases, on every pair. (a) Collect them. (b) The model may be at its ceiling; look at groups of people. (c) 60 % is too good; look for a leak. (d) The language model is too small. What such a label looks like, once more: <!-- fact -->

# %% tags=["hide-input"]
cards(*tastes.example(read))

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
# 2. Taking the best answer by that number turned a majority of six in ten into nine in ten stories; only a strong KL penalty repeats the vote, and only knowing who asks serves both camps.
# 3. Comparisons weigh people by how firmly they choose, and cannot say whether firm means certain or passionate.
# 4. Where majorities go round in a circle, no score agrees with them.
# 5. Every rule for pooling is a choice: Borda, plurality, Condorcet and lotteries can have different winners, and none is neutral.
#
# *In the book*: [What are preferences?](https://rlhfbook.com/c/10-preferences), on utility, Arrow's theorem and the history of the idea. *Next*: chapter 6, Preference data: which pairs to ask about, and whom.
#
# <!-- nav -->
