"""The table of estimators: expected gradient of each loss against the exact one, by full enumeration.

`python -m rlhf_minimal.evaluate.proofs` prints it, with `--store` it writes `proofs.md`. The words equal, proportional, biased
and zero hold for any weights and rewards; the cosines are those of this model.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path

import torch
from torch import Tensor, nn

from ..direct_alignment import dpo_loss, ipo_loss, rdpo_loss
from ..distillation import on_policy_loss
from ..filtering import correct_only
from ..grpo import cispo_loss, grpo_loss, gspo_loss
from ..kl import exact_kl, k1, k2, k3
from ..p3o import p3o_loss
from ..ppo import policy_loss
from ..reinforce import reinforce_loss
from ..reward_model import pairwise_loss
from ..rloo import rloo_loss
from ..sft import sft_loss
from ..trpo import trpo_loss
from .exact import World, compare, exact_model, expected_loss_gradient, fit_table, gradient, tilted

TIGHT = 1e-9
STORED = Path(__file__).with_name("proofs.md")
HEAD = """# What is proved, and what is biased

Made by `python -m rlhf_minimal.evaluate.proofs --store`; a test says when it is stale. The world has one prompt and 15 texts, all
listed, so an expectation is a sum and no number below has sampling noise (`exact.py`). Each estimator's expected
gradient is compared with the exact one. *equal*: to nine digits. *proportional*: another length, the same direction.
*biased*: another direction, however many samples. *zero*: no gradient at all. The words hold for any weights and
rewards; the cosines are those of this model. Biased is not wrong where it is the published algorithm.
"""
Estimator = tuple[str, int, Callable[[Tensor, Tensor], Tensor], str]  # name, group size, loss(logp, rows), why


def verdict(grad: Tensor, exact: Tensor) -> tuple[str, float, float]:
    """What relation one gradient vector has to another: the word, the cosine, the ratio of norms.

    The word is "equal", "proportional", "opposite", "zero" or "biased".
    """
    got = compare(grad, exact)
    if got["ratio"] < TIGHT:
        return "zero", float("nan"), 0.0
    if got["error"] < TIGHT:
        return "equal", 1.0, 1.0
    word = "proportional" if got["cosine"] > 1 - TIGHT else "opposite" if got["cosine"] < TIGHT - 1 else "biased"
    return word, got["cosine"], got["ratio"]


def policy_estimators(reward: Tensor, mask: Tensor, eos: Tensor) -> list[Estimator]:
    """The policy losses, on policy; each should be minus the gradient of J, the expected reward.

    reward (N,), mask and eos (N, T), of the world's completions. A loss takes logp (G, T) and the group's row numbers.
    """
    correct, base, length = (reward > 0).double(), reward.mean(), mask.sum(1)
    one, pair = dict(denominator=1), dict(group_size=2)

    def on_policy(loss_fn: Callable, **settings) -> Callable:
        return lambda lp, i: loss_fn(lp, lp.detach(), reward[i], mask[i], **settings)[0]

    def star(lp: Tensor, i: Tensor) -> Tensor:
        rows, _ = correct_only(correct[i], len(i))
        return sft_loss(lp[rows], mask[i][rows], denominator=len(i))[0]

    return [
        ("REINFORCE, sum over tokens", 1, lambda lp, i: reinforce_loss(lp, reward[i], mask[i])[0],
         "the score-function identity: grad log p of a whole text, weighted by its reward"),
        ("REINFORCE, constant baseline", 1, lambda lp, i: reinforce_loss(lp, reward[i] - base, mask[i])[0],
         "sum p grad log p is 0, so a constant adds nothing"),
        ("REINFORCE, mean over a row's tokens", 1, lambda lp, i: reinforce_loss(lp, (reward / length)[i], mask[i])[0],
         "each text is weighted by 1 / its length: it is grad of another J"),
        ("REINFORCE, EOS not in the mask", 1, lambda lp, i: reinforce_loss(lp, reward[i], mask[i] * ~eos[i], **one)[0],
         "the probability of stopping gets no gradient"),
        ("RLOO", 2, lambda lp, i: rloo_loss(lp, reward[i], mask[i], group_size=2)[0],
         "the other samples do not depend on this one: as good as a constant baseline"),
        ("P3O, separate clip", 2, on_policy(p3o_loss), "at ratio 1 nothing is clipped, and it is RLOO of two"),
        ("P3O, joint clip", 2, on_policy(p3o_loss, mode="joint"), "at ratio 1 nothing is clipped, and it is RLOO of two"),
        ("TRPO's surrogate", 1, on_policy(trpo_loss), "the gradient of a ratio at 1 is grad log p"),
        ("PPO, ratio 1, divisor fixed", 1, on_policy(policy_loss, **one),
         "the gradient of a ratio at 1 is grad log p; one divisor for all texts"),
        ("PPO, ratio 1, token mean of one row", 1, on_policy(policy_loss), "a batch of one row is divided by its own length"),
        ("group mean, no std, sum", 2, on_policy(grpo_loss, **pair, scale=False, mode="sequence_sum"),
         "the own score is in the baseline, which takes (G - 1) / G"),
        ("Dr. GRPO", 2, on_policy(grpo_loss, **pair, scale=False, mode="fixed"),
         "(G - 1) / G again, divided by one fixed number of tokens"),
        ("GRPO, no std, mean over a row's tokens", 2, on_policy(grpo_loss, **pair, scale=False), "the 1 / length of each row"),
        ("GRPO, std, sum", 2, on_policy(grpo_loss, **pair, mode="sequence_sum"), "each group is weighted by 1 / its own std"),
        ("GRPO as published", 2, on_policy(grpo_loss, **pair), "1 / length and 1 / std together"),
        ("DAPO's token mean, std", 2, on_policy(grpo_loss, **pair, mode="token_mean"),
         "1 / std, and 1 / the group's number of tokens"),
        ("GSPO", 2, on_policy(gspo_loss, **pair), "at ratio 1 the mean log-ratio has the gradient of a mean over tokens"),
        ("CISPO, divisor fixed, no std", 2, on_policy(cispo_loss, **pair, scale=False, denominator=2),
         "at ratio 1 the weight is 1 and the rest is the group mean's (G - 1) / G"),
        ("STaR, against grad P(correct)", 2, star, "SFT on the correct samples is REINFORCE with reward 0 or 1"),
    ]


def kl_estimators(ref: Tensor, kl: Tensor, mask: Tensor) -> list[Estimator]:
    """The ways to hold the policy near a reference; each should be the gradient of KL(pi || ref) of whole texts.

    ref, kl, mask (N, T): the reference's log-probabilities, and k1 of the policy against them.
    """
    cost = -kl.sum(1)

    def in_the_loss(estimator: Callable) -> Callable:
        return lambda lp, i: (estimator(lp, ref[i]) * mask[i]).sum()

    def in_the_score(estimator: Callable) -> Callable:
        return lambda lp, i: reinforce_loss(lp, -(estimator(lp.detach(), ref[i]) * mask[i]).sum(1), mask[i])[0]

    def distil(mode: str) -> Callable:
        return lambda lp, i: on_policy_loss(lp, ref[i], mask[i], mode=mode)[0]

    return [
        ("k1 in the score, summed", 1, lambda lp, i: reinforce_loss(lp, cost[i], mask[i])[0],
         "KL is the mean of k1, and grad of its own log p has mean 0"),
        ("k1 in the score, token mean", 1, lambda lp, i: reinforce_loss(lp, (cost / mask.sum(1))[i], mask[i])[0],
         "a text's KL is divided by its length: long drift is cheap"),
        ("k2 in the score, summed", 1, in_the_score(k2),
         "KL's gradient is the mean of k1 grad log p; half the square is another weight"),
        ("k3 in the score, summed", 1, in_the_score(k3),
         "it adds ref / p - 1, whose mean is 0; its product with grad log p has another"),
        ("on-policy distillation, cumulative", 1, distil("cumulative"), "k1 in the reward with reward-to-go"),
        ("on-policy distillation, immediate", 1, distil("immediate"),
         "today's token is not charged for the states that it leads to"),
        ("k1 in the loss", 1, in_the_loss(k1), "sum p grad log p is 0"),
        ("k2 in the loss", 1, in_the_loss(k2), "right at each place, blind to how today's token changes tomorrow's places"),
        ("k3 in the loss", 1, in_the_loss(k3), "at each place the gradient of the other divergence"),
        ("rho k3 in the loss", 1, in_the_loss(rho_k3), "as k2: right at each place, blind to tomorrow's"),
    ]


def rho_k3(logp: Tensor, ref: Tensor) -> Tensor:
    """k3 times pi / pi.detach(): the same value, another gradient."""
    return (logp - logp.detach()).exp() * k3(logp, ref)


AT_EACH_PLACE = {  # of three KL terms in a loss: which divergence's gradient each is at every single place, and why
    "k2 in the loss": ("pi || ref", r"grad k2 = k1 grad log p, whose mean is grad KL(pi \|\| ref) there"),
    "k3 in the loss": ("ref || pi", r"the mean of (1 - ref / p) grad log p is grad KL(ref \|\| pi) there"),
    "rho k3 in the loss": ("pi || ref", r"k3 grad log p + grad k3 = k1 grad log p: grad KL(pi \|\| ref) there"),
}


def at_each_place(world: World, model: nn.Module, reference: nn.Module) -> dict[str, Tensor]:
    """Gradients of the KL summed over places, the way to each place held constant, for "pi || ref" and "ref || pi"."""
    def logits(m: nn.Module) -> Tensor:
        return m(input_ids=world.ids, attention_mask=world.attention.long()).logits[:, len(world.prompt) - 1: -1]

    weight = world.seq_logp(model).detach().exp()[:, None] * world.mask
    pi, ref = logits(model), logits(reference).detach()
    both = {"pi || ref": exact_kl(pi, ref), "ref || pi": exact_kl(ref, pi)}
    return {name: gradient((weight * kl).sum(), model) for name, kl in both.items()}


def table(seed: int = 0) -> list[tuple]:
    """Rows (estimator, target, word, cosine, ratio, why) in a world of 15 texts; `seed` makes models and reward."""
    world, model, reference = World(), exact_model(seed), exact_model(seed + 1)
    reward = torch.randn(len(world), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ref, logp = world.logps(reference).detach(), world.logps(model).detach()
    up = {name: gradient(world.expected(model, r), model) for name, r in (("J", reward), ("P", (reward > 0).double()))}
    down = gradient(world.kl(model, reference), model)
    rows = []
    for name, size, loss, why in policy_estimators(reward, world.mask, world.completions == world.eos_id):
        target = "P" if name.startswith("STaR") else "J"
        got = -expected_loss_gradient(world, model, loss, group_size=size)
        rows.append((name, target, *verdict(got, up[target]), why))
    for name, size, loss, why in kl_estimators(ref, k1(logp, ref), world.mask):
        got = expected_loss_gradient(world, model, loss, group_size=size)
        rows.append((name, "KL", *verdict(got, down), why))
        if name in AT_EACH_PLACE:
            which, why = AT_EACH_PLACE[name]
            target = at_each_place(world, model, reference)[which]
            rows.append((f"{name}, a place at a time", f"KL({which})".replace("|", "\\|"), *verdict(got, target), why))
    return rows


def values(seed: int = 0) -> list[tuple]:
    """Rows (estimator, word, mean, KL, why): what each estimator's *value* is on average, whole texts, samples from pi."""
    world, model, reference = World(), exact_model(seed), exact_model(seed + 1)
    logp, ref = world.seq_logp(model).detach(), world.seq_logp(reference).detach()
    kl, p = world.kl(model, reference).item(), logp.exp()
    estimators = [
        ("k1", k1(logp, ref), "KL's own definition, as a mean"),
        ("k2", k2(logp, ref), "half the square of the log-ratio: near KL only where the two are near"),
        ("k3", k3(logp, ref), "adds ref / p - 1, whose mean is 0"),
        ("rho k3", rho_k3(logp, ref), "rho is 1 in value"),
        ("k1 upside down", k1(ref, logp), "the mean of log ref - log p is -KL"),
        ("k3 upside down", k3(ref, logp), "its mean is chi squared - KL: p / ref where k3 has ref / p"),
    ]
    means = [(name, (p * x).sum().item(), why) for name, x, why in estimators]
    return [(name, "equal" if abs(mean - kl) < TIGHT else "biased", mean, kl, why) for name, mean, why in means]


def optima(seed: int = 0, n: int = 4, beta: float = 0.5, flips: float = 0.2) -> list[tuple]:
    """Rows (loss, word, distance, why): where preference losses end on a table of n texts with infinitely many labels.

    The target is pi_ref exp(r / beta) / Z, for reward models r itself; the distance is the largest error of a
    log-probability (of r, its mean taken off).
    """
    draw = torch.randn(2, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ref, reward = draw[0].log_softmax(0), draw[1] - draw[1].mean()
    a, b = torch.tensor(list(permutations(range(n), 2))).T
    prefer = torch.sigmoid(reward[a] - reward[b])  # the share of labels that say a
    noisy = (1 - flips) * prefer + flips * (1 - prefer)

    def policy(loss_fn: Callable, labels: Tensor, **settings) -> Tensor:
        def loss(logp: Tensor) -> Tensor:  # a pair at a time: a batch would weigh all of them alike
            four = (logp[a], logp[b], ref[a], ref[b])
            each = [loss_fn(*(x[i: i + 1] for x in four), beta=beta, **settings)[0] for i in range(len(a))]
            return (labels * torch.stack(each)).mean()

        return fit_table(loss, ref, steps=80)

    def reward_model(**settings) -> Tensor:
        def loss(logp: Tensor) -> Tensor:  # log-probabilities, too, are rewards up to a constant
            each = [pairwise_loss(logp[i: i + 1], logp[j: j + 1], **settings)[0] for i, j in zip(a, b, strict=True)]
            return (prefer * torch.stack(each)).mean()

        found = fit_table(loss, ref, steps=80)
        return found - found.mean()

    best, ipo, smooth = tilted(ref, reward, beta), policy(ipo_loss, prefer), dict(label_smoothing=flips)
    wins = torch.zeros(n, dtype=torch.float64).index_add(0, a, prefer) / n  # against itself a half: a constant
    found = [
        ("DPO, soft labels", policy(dpo_loss, prefer), best,
         "labels of sigmoid(r - r') make the implicit reward r, up to a constant a prompt"),
        ("DPO, flipped labels", policy(dpo_loss, noisy), best, "it fits the flipped labels' margins"),
        ("rDPO, labels flipped with known rate", policy(rdpo_loss, noisy, **smooth), best, "unbiased for the clean labels' loss"),
        ("cDPO, clean labels smoothed", policy(dpo_loss, prefer, **smooth), best,
         "its optimum has a bounded margin: it expects flips"),
        ("IPO, soft labels", ipo, best, "it fits the share of wins, not the reward"),
        ("IPO, against exp(share of wins / beta)", ipo, tilted(ref, wins, beta),
         "least squares on (2 P - 1) / (2 beta) is solved by the mean over rivals"),
        ("Bradley-Terry reward model, soft labels", reward_model(), reward,
         "the maximum likelihood is where sigmoid of the gap is the share of wins"),
        ("Bradley-Terry reward model, smoothed", reward_model(**smooth), reward, "smoothing asks for smaller gaps"),
    ]
    far = [(name, (x - want).abs().max().item(), why) for name, x, want, why in found]
    return [(name, "equal" if x < 1e-5 else "biased", x, why) for name, x, why in far]


def markdown(rows: Sequence[tuple]) -> str:
    """The table's rows as Markdown, each with its reason."""
    head = ["| estimator | of | relation | cosine | ratio of norms | why |", "|---|---|---|---:|---:|---|"]
    return "\n".join(head + [f"| {name} | {of} | {word} | {number(cosine)} | {number(ratio)} | {why} |"
                             for name, of, word, cosine, ratio, why in rows])


def number(x: float) -> str:
    """Three decimals; a dash for NaN; no minus zero."""
    return "–" if x != x else f"{round(x, 3) + 0.0:.3f}"


def page(rows: Sequence[tuple], seed: int = 0) -> str:
    """The text of `proofs.md` from the table's rows: gradients, values, optima."""
    means = [f"| {name} | {word} | {number(x)} | {number(kl)} | {why} |" for name, word, x, kl, why in values(seed)]
    ends = [f"| {name} | {word} | {number(x)} | {why} |" for name, word, x, why in optima(seed)]
    return "\n".join([
        HEAD, "## Expected gradients", "", "J: grad of the expected reward. P: of the share of correct texts. KL: of",
        "KL(pi \\|\\| ref) of whole texts; with its arguments: summed over places, the way there held constant.", "",
        markdown(rows), "", "## Expected values of the KL estimators", "",
        "| estimator | relation | mean | KL | why |", "|---|---|---:|---:|---|", *means, "",
        "## Where preference losses end", "", "Infinitely many Bradley-Terry labels on a table of four texts; the target",
        "is pi_ref exp(r / beta) / Z, or r itself. A fifth of the labels is flipped, or smoothed, where it says so.", "",
        "| loss | relation | largest error | why |", "|---|---|---:|---|", *ends, ""])


def facts(text: str) -> dict[str, tuple[str, str]]:
    """{row: (relation, cosine or other first number)} of a page: what must not change unnoticed."""
    cells = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in text.splitlines() if line.startswith("| ")]
    words = ("equal", "proportional", "opposite", "biased", "zero")
    at = [(row, next((i for i, cell in enumerate(row) if cell in words), None)) for row in cells]
    return {row[0]: (row[i], row[i + 1]) for row, i in at if i}


def differing(stored: str, fresh: str) -> list[str]:
    """Names of the rows whose relation or number is another, or that only one of two pages has."""
    old, new = facts(stored), facts(fresh)
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def main(argv: Sequence[str] | None = None) -> None:
    """The command line: print the page, or store it beside this file."""
    parser = argparse.ArgumentParser(prog="python -m rlhf_minimal.evaluate.proofs", description=__doc__.split("\n")[0])
    parser.add_argument("--store", action="store_true", help=f"write {STORED.name} beside the package's files")
    if parser.parse_args(argv).store:
        STORED.write_text(page(table()), encoding="utf-8")
    else:
        print(page(table()))


if __name__ == "__main__":
    main()
