"""Direct alignment: losses that train on preferences themselves, without a reward model and without sampling.

**Arguments.** Most losses take one log-probability per answer, (B,) in nats, for the chosen and the rejected answer of B
pairs: the sum over the answer's tokens, as `sequence_logps` returns it. Prompt tokens do not count. Where a name begins
with `avg`, it is the mean per token instead (`sequence_logps(..., average=True)`).

**Every loss reads the same way**: one line that checks, the formula, the mean over pairs, the statistics. The mean
divides by B, or by `denominator` if it is given: the number of pairs in the *whole* optimizer step, so that micro-batches
and processes add up to the gradient of one big batch.

**Statistics** are detached scalars under the field's usual names: `loss`, `rewards/chosen`, `rewards/rejected`,
`margin`, `accuracy`, `logps/chosen`, `logps/rejected`. Watch the last two: both may fall while the margin grows.

**Errors.** Every loss raises ValueError for tensors of different shapes, for a NaN, for a `beta` that is not above 0, and
for an empty batch. An empty batch with a `denominator` is allowed and gives a zero that gradients can flow through: a
process that happens to hold no pairs must still take part in the backward pass.
"""

import inspect
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .aggregate import aggregate
from .equations import implements
from .logprobs import sequence_logps
from .models import disable_dropout
from .optim import update
from .tensors import check_answers, check_groups, check_positive, check_shapes, check_share, masked_sum

LossAndStats = tuple[Tensor, dict[str, Tensor]]


# ---- what all the losses share: the checks, the mean over pairs, the statistics ----

def check_pairs(
    pi_chosen: Tensor, pi_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float,
    denominator: float | None, label_smoothing: float | None = None,
) -> None:
    """All that a loss on pairs with a reference has to check. Raises ValueError."""
    tensors = dict(pi_chosen=pi_chosen, pi_rejected=pi_rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    check_answers(**tensors, denominator=denominator)
    check_positive(beta=beta)
    if label_smoothing is not None:
        check_share(label_smoothing=label_smoothing)


def mean_over_pairs(x: Tensor, denominator: float | None = None) -> Tensor:
    """x (B,) -> its mean, or its sum / denominator. It is `aggregate`, with one token per row."""
    return aggregate(x[:, None], torch.ones_like(x)[:, None], "sequence_sum", denominator=denominator)


def pair_stats(reward_chosen: Tensor, reward_rejected: Tensor, pi_chosen: Tensor, pi_rejected: Tensor) -> dict[str, Tensor]:
    """The statistics that all losses on pairs report; four (B,) -> detached scalars. A tie counts as a mistake."""
    per_pair = {
        "rewards/chosen": reward_chosen,
        "rewards/rejected": reward_rejected,
        "margin": reward_chosen - reward_rejected,
        "logps/chosen": pi_chosen,
        "logps/rejected": pi_rejected,
        "accuracy": (reward_chosen > reward_rejected).float(),
    }
    return {name: mean_over_pairs(x.detach(), max(len(x), 1)) for name, x in per_pair.items()}


# ---- losses on pairs, with a reference ----

@implements("eq:dpo_core")
def dpo_loss(
    pi_chosen: Tensor, pi_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, beta: float = 0.1,
    label_smoothing: float = 0.0, denominator: float | None = None,
) -> LossAndStats:
    """Direct preference optimization: logistic regression on pairs, whose logit is the difference of implicit rewards.

    The implicit reward of an answer is beta * log(pi / ref). Four (B,) sums of log-probabilities, in nats. With
    `label_smoothing` e, a share e of the labels is taken to be flipped (conservative DPO): the optimum is then no longer
    at infinity but at margin = log((1 - e) / e).

    Returns the loss, averaged over pairs, and the statistics. Raises ValueError as the head of this file says, and for a
    label_smoothing outside 0 to 1. Equation `eq:dpo_core`; Rafailov et al. 2023, https://arxiv.org/abs/2305.18290

    >>> two_tokens = [(-4.0, -6.0), (-6.0, -8.0), (-5.0, -6.0), (-6.0, -7.0)]  # policy, then reference: chosen, rejected
    >>> loss, stats = dpo_loss(*[torch.tensor([x]).sum(1) for x in two_tokens])
    >>> round(loss.item(), 4)  # log-ratios 1 and -1: -log sigmoid(0.1 * 2)
    0.5981
    """
    check_pairs(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator, label_smoothing)
    logratio_chosen = pi_chosen - ref_chosen.detach()
    logratio_rejected = pi_rejected - ref_rejected.detach()
    margin = beta * (logratio_chosen - logratio_rejected)
    losses = -F.logsigmoid(margin) * (1 - label_smoothing) - F.logsigmoid(-margin) * label_smoothing
    loss = mean_over_pairs(losses, denominator)
    stats = pair_stats(beta * logratio_chosen, beta * logratio_rejected, pi_chosen, pi_rejected)
    return loss, stats | {"loss": loss.detach()}


def rdpo_loss(
    pi_chosen: Tensor, pi_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, beta: float = 0.1,
    label_smoothing: float = 0.0, denominator: float | None = None,
) -> LossAndStats:
    """Robust DPO: the DPO loss, corrected so that its expectation is that of clean labels if a share e is flipped.

    Four (B,) sums of log-probabilities, in nats; `label_smoothing` is e. Conservative DPO (`dpo_loss` with label
    smoothing) *adds* the loss of the flipped label; this one *subtracts* it, and so has no bias, at the price of more
    variance. At e = 1/2 labels carry no signal.

    Returns the loss, averaged over pairs, and the statistics. Raises ValueError as the head of this file says, and for a
    label_smoothing outside 0 to 1, or of 1/2. Chowdhury et al. 2024, https://arxiv.org/abs/2403.00409

    >>> two_tokens = [(-4.0, -6.0), (-6.0, -8.0), (-5.0, -6.0), (-6.0, -7.0)]
    >>> loss, stats = rdpo_loss(*[torch.tensor([x]).sum(1) for x in two_tokens], label_smoothing=0.1)
    >>> round(loss.item(), 4)  # (0.9 * 0.5981 - 0.1 * 0.7981) / 0.8
    0.5731
    """
    check_pairs(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator, label_smoothing)
    if label_smoothing == 0.5:
        raise ValueError("label_smoothing=0.5; give the share of flipped labels, 0 to 1 but not 1/2: no signal")
    logratio_chosen = pi_chosen - ref_chosen.detach()
    logratio_rejected = pi_rejected - ref_rejected.detach()
    margin = beta * (logratio_chosen - logratio_rejected)
    losses = -F.logsigmoid(margin) * (1 - label_smoothing) + F.logsigmoid(-margin) * label_smoothing
    loss = mean_over_pairs(losses / (1 - 2 * label_smoothing), denominator)
    stats = pair_stats(beta * logratio_chosen, beta * logratio_rejected, pi_chosen, pi_rejected)
    return loss, stats | {"loss": loss.detach()}


def ipo_loss(
    pi_chosen: Tensor, pi_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, beta: float = 0.1,
    label_smoothing: float = 0.0, denominator: float | None = None,
) -> LossAndStats:
    """Identity preference optimization: a squared error that stops at a finite margin, where DPO's would go on growing.

    Four (B,) log-probabilities, in nats. The target of the difference of log-ratios is 1 / (2 beta), so `beta` has
    another meaning than in DPO. Give means per token (`average=True`), which the authors recommend. Sums are the equation
    as printed; for answers of unequal lengths the two differ a lot.

    Returns the loss, averaged over pairs, and the statistics. Raises ValueError as the head of this file says, and for a
    label_smoothing outside 0 to 1. Azar et al. 2023, https://arxiv.org/abs/2310.12036

    >>> two_tokens = [(-4.0, -6.0), (-6.0, -8.0), (-5.0, -6.0), (-6.0, -7.0)]
    >>> loss, stats = ipo_loss(*[torch.tensor([x]).sum(1) for x in two_tokens])
    >>> round(loss.item(), 4)  # (2 - 1 / 0.2)^2
    9.0
    """
    check_pairs(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator, label_smoothing)
    logratio_chosen = pi_chosen - ref_chosen.detach()
    logratio_rejected = pi_rejected - ref_rejected.detach()
    h = logratio_chosen - logratio_rejected
    target = 1 / (2 * beta)
    losses = (h - target) ** 2 * (1 - label_smoothing) + (-h - target) ** 2 * label_smoothing
    loss = mean_over_pairs(losses, denominator)
    stats = pair_stats(beta * logratio_chosen, beta * logratio_rejected, pi_chosen, pi_rejected)
    return loss, stats | {"loss": loss.detach()}


def hinge_loss(
    pi_chosen: Tensor, pi_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, beta: float = 0.1,
    label_smoothing: float = 0.0, denominator: float | None = None,
) -> LossAndStats:
    """SLiC's hinge on DPO's margin: max(0, 1 - margin). A pair that is right by a margin of 1 teaches nothing more.

    Four (B,) sums of log-probabilities, in nats. Returns the loss, averaged over pairs, and the statistics. Raises
    ValueError as the head of this file says, and for a label_smoothing outside 0 to 1.
    Liu et al. 2023, https://arxiv.org/abs/2309.06657

    >>> two_tokens = [(-4.0, -6.0), (-6.0, -8.0), (-5.0, -6.0), (-6.0, -7.0)]
    >>> loss, stats = hinge_loss(*[torch.tensor([x]).sum(1) for x in two_tokens])
    >>> round(loss.item(), 4)  # 1 - 0.1 * 2
    0.8
    """
    check_pairs(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator, label_smoothing)
    logratio_chosen = pi_chosen - ref_chosen.detach()
    logratio_rejected = pi_rejected - ref_rejected.detach()
    margin = beta * (logratio_chosen - logratio_rejected)
    losses = F.relu(1 - margin) * (1 - label_smoothing) + F.relu(1 + margin) * label_smoothing
    loss = mean_over_pairs(losses, denominator)
    stats = pair_stats(beta * logratio_chosen, beta * logratio_rejected, pi_chosen, pi_rejected)
    return loss, stats | {"loss": loss.detach()}


def apo_zero_loss(
    pi_chosen: Tensor, pi_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, beta: float = 0.1,
    denominator: float | None = None,
) -> LossAndStats:
    """Anchored preference optimization, "zero": push the chosen answer up and the rejected one down, each by itself.

    For pairs whose chosen answer is better than what the policy writes now. Four (B,) sums of log-probabilities, in nats.
    Returns the loss, averaged over pairs, and the statistics. Raises ValueError as the head of this file says.
    D'Oosterlinck et al. 2024, https://arxiv.org/abs/2408.06266

    >>> two_tokens = [(-4.0, -6.0), (-6.0, -8.0), (-5.0, -6.0), (-6.0, -7.0)]
    >>> loss, stats = apo_zero_loss(*[torch.tensor([x]).sum(1) for x in two_tokens])
    >>> round(loss.item(), 4)  # (1 - sigmoid(0.1)) + sigmoid(-0.1)
    0.95
    """
    check_pairs(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator)
    reward_chosen = beta * (pi_chosen - ref_chosen.detach())
    reward_rejected = beta * (pi_rejected - ref_rejected.detach())
    losses = torch.sigmoid(-reward_chosen) + torch.sigmoid(reward_rejected)  # 1 - sigmoid(x) = sigmoid(-x)
    loss = mean_over_pairs(losses, denominator)
    return loss, pair_stats(reward_chosen, reward_rejected, pi_chosen, pi_rejected) | {"loss": loss.detach()}


def apo_down_loss(
    pi_chosen: Tensor, pi_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, beta: float = 0.1,
    denominator: float | None = None,
) -> LossAndStats:
    """Anchored preference optimization, "down": push both answers down, the rejected one more.

    For pairs whose chosen answer is worse than what the policy writes now. Four (B,) sums of log-probabilities, in nats.
    Returns the loss, averaged over pairs, and the statistics. Raises ValueError as the head of this file says.
    D'Oosterlinck et al. 2024, https://arxiv.org/abs/2408.06266

    >>> two_tokens = [(-4.0, -6.0), (-6.0, -8.0), (-5.0, -6.0), (-6.0, -7.0)]
    >>> loss, stats = apo_down_loss(*[torch.tensor([x]).sum(1) for x in two_tokens])
    >>> round(loss.item(), 4)  # sigmoid(0.1) + (1 - sigmoid(0.2))
    0.9751
    """
    check_pairs(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator)
    logratio_chosen = pi_chosen - ref_chosen.detach()
    logratio_rejected = pi_rejected - ref_rejected.detach()
    losses = torch.sigmoid(beta * logratio_chosen) + torch.sigmoid(-beta * (logratio_chosen - logratio_rejected))
    loss = mean_over_pairs(losses, denominator)
    stats = pair_stats(beta * logratio_chosen, beta * logratio_rejected, pi_chosen, pi_rejected)
    return loss, stats | {"loss": loss.detach()}


@implements("eq:dpo_nll", "eq:dpo_nll_expanded")
def dpo_nll_loss(
    pi_chosen: Tensor, pi_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, beta: float = 0.1,
    label_smoothing: float = 0.0, alpha: float = 1.0, lengths: Tensor | None = None, denominator: float | None = None,
) -> LossAndStats:
    """DPO plus alpha times the chosen answer's negative log-likelihood, which keeps its log-probability from sinking.

    Four (B,) sums of log-probabilities, in nats. `lengths` (B,): the number of tokens of each chosen answer. With it the
    second term is a mean per token, as in the paper; without it, a sum. An `alpha` that suits one does not suit the other.

    Returns the loss, averaged over pairs, and the statistics with `nll`. Raises ValueError as `dpo_loss`, and for a
    length below 1. Equations `eq:dpo_nll`, `eq:dpo_nll_expanded`; Pang et al. 2024, https://arxiv.org/abs/2404.19733

    >>> two_tokens = [(-4.0, -6.0), (-6.0, -8.0), (-5.0, -6.0), (-6.0, -7.0)]
    >>> loss, stats = dpo_nll_loss(*[torch.tensor([x]).sum(1) for x in two_tokens], lengths=torch.tensor([2]))
    >>> round(loss.item(), 4)  # 0.5981 + 10 / 2
    5.5981
    """
    dpo, stats = dpo_loss(
        pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta=beta, label_smoothing=label_smoothing, denominator=denominator)
    if lengths is not None:
        check_answers(lengths=lengths, pi_chosen=pi_chosen, denominator=denominator)
        if not (lengths >= 1).all():
            raise ValueError(f"lengths from {lengths.min().item()}: a chosen answer has at least 1 token")
    nll = -pi_chosen if lengths is None else -pi_chosen / lengths
    loss = dpo + alpha * mean_over_pairs(nll, denominator)
    return loss, stats | {"loss": loss.detach(), "nll": mean_over_pairs(nll.detach(), max(len(nll), 1))}


def length_dpo_loss(
    pi_chosen: Tensor, pi_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, len_chosen: Tensor,
    len_rejected: Tensor, beta: float = 0.1, lam: float = 0.01, denominator: float | None = None,
) -> LossAndStats:
    """DPO that does not pay for length: lam times the difference of lengths stands beside the margin.

    Four (B,) sums of log-probabilities, in nats; len_chosen, len_rejected (B,), in tokens. The sign surprises: the term
    is *added*. It explains a part of each label by length alone, so at the optimum the policy's own margin is that of the
    reward r - lam * length. Subtracted, it would reward length.

    Returns the loss, averaged over pairs, and the statistics with `longer`, the mean difference of lengths. Raises
    ValueError as the head of this file says. Park et al. 2024, https://arxiv.org/abs/2403.19159

    >>> two_tokens = [(-4.0, -6.0), (-6.0, -8.0), (-5.0, -6.0), (-6.0, -7.0)]
    >>> lengths = dict(len_chosen=torch.tensor([7]), len_rejected=torch.tensor([2]))
    >>> loss, stats = length_dpo_loss(*[torch.tensor([x]).sum(1) for x in two_tokens], **lengths, lam=0.1)
    >>> round(loss.item(), 4)  # -log sigmoid(0.1 * 2 + 0.1 * 5)
    0.4032
    """
    check_pairs(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator)
    check_answers(len_chosen=len_chosen, len_rejected=len_rejected, denominator=denominator)
    check_shapes(len_chosen=len_chosen, pi_chosen=pi_chosen)
    logratio_chosen = pi_chosen - ref_chosen.detach()
    logratio_rejected = pi_rejected - ref_rejected.detach()
    longer = (len_chosen - len_rejected).to(pi_chosen.dtype)
    losses = -F.logsigmoid(beta * (logratio_chosen - logratio_rejected) + lam * longer)
    loss = mean_over_pairs(losses, denominator)
    stats = pair_stats(beta * logratio_chosen, beta * logratio_rejected, pi_chosen, pi_rejected)
    return loss, stats | {"loss": loss.detach(), "longer": mean_over_pairs(longer, max(len(longer), 1))}


# ---- losses on pairs, without a reference ----

def simpo_loss(
    avg_chosen: Tensor, avg_rejected: Tensor, *, beta: float = 2.0, gamma: float = 1.0, denominator: float | None = None,
) -> LossAndStats:
    """SimPO: DPO on mean log-probabilities per token instead of log-ratios, with a margin gamma that has to be reached.

    avg_chosen, avg_rejected (B,), nats per token. `gamma` is subtracted as it is; some trainers take gamma / beta.
    Returns the loss, averaged over pairs, and the statistics. Raises ValueError as the head of this file says.
    Meng et al. 2024, https://arxiv.org/abs/2405.14734

    >>> chosen, rejected = torch.tensor([[-0.5, -1.5]]).mean(1), torch.tensor([[-1.0, -1.0]]).mean(1)
    >>> round(simpo_loss(chosen, rejected)[0].item(), 4)  # equal means: -log sigmoid(-1)
    1.3133
    """
    check_answers(avg_chosen=avg_chosen, avg_rejected=avg_rejected, denominator=denominator)
    check_positive(beta=beta)
    losses = -F.logsigmoid(beta * (avg_chosen - avg_rejected) - gamma)
    loss = mean_over_pairs(losses, denominator)
    return loss, pair_stats(beta * avg_chosen, beta * avg_rejected, avg_chosen, avg_rejected) | {"loss": loss.detach()}


def cpo_loss(
    pi_chosen: Tensor, pi_rejected: Tensor, *, beta: float = 0.1, alpha: float = 1.0, label_smoothing: float = 0.0,
    denominator: float | None = None,
) -> LossAndStats:
    """CPO: DPO as if the reference were uniform, plus alpha times the chosen answer's negative log-likelihood.

    pi_chosen, pi_rejected (B,): sums of log-probabilities, in nats, in both terms as in the paper; trainers often take
    the mean per token in the second. Not to be confused with `cpl_loss`.

    Returns the loss, averaged over pairs, and the statistics with `nll`. Raises ValueError as the head of this file says,
    and for a label_smoothing outside 0 to 1. Xu et al. 2024, https://arxiv.org/abs/2401.08417

    >>> chosen, rejected = torch.tensor([[-4.0, -6.0]]).sum(1), torch.tensor([[-6.0, -8.0]]).sum(1)
    >>> round(cpo_loss(chosen, rejected)[0].item(), 4)  # -log sigmoid(0.1 * 4) + 10
    10.513
    """
    check_answers(pi_chosen=pi_chosen, pi_rejected=pi_rejected, denominator=denominator)
    check_positive(beta=beta)
    check_share(label_smoothing=label_smoothing)
    margin = beta * (pi_chosen - pi_rejected)
    losses = -F.logsigmoid(margin) * (1 - label_smoothing) - F.logsigmoid(-margin) * label_smoothing - alpha * pi_chosen
    loss = mean_over_pairs(losses, denominator)
    stats = pair_stats(beta * pi_chosen, beta * pi_rejected, pi_chosen, pi_rejected)
    return loss, stats | {"loss": loss.detach(), "nll": -stats["logps/chosen"]}


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, any shape, accurate both near 0 and far below. At 0 itself finite, without gradient.

    >>> round(log1mexp(torch.tensor([0.25]).log()).item(), 4)  # log 3/4
    -0.2877
    """
    x = x.clamp(max=-torch.finfo(x.dtype).tiny)
    near = x > -math.log(2)
    # Each branch sees only arguments that it can take: `where` alone would let the NaN gradient of the other through.
    small = torch.log(-torch.expm1(torch.where(near, x, -1.0)))
    large = torch.log1p(-torch.exp(torch.where(near, -1.0, x)))
    return torch.where(near, small, large)


def orpo_loss(
    avg_chosen: Tensor, avg_rejected: Tensor, *, beta: float = 0.1, denominator: float | None = None,
) -> LossAndStats:
    """ORPO: the chosen answer's negative log-likelihood, plus beta times a penalty on the odds ratio of the answers.

    avg_chosen, avg_rejected (B,), nats per token, not above 0. The odds p / (1 - p) are those of the *mean* per token: the
    probability of a whole answer is nearly 0, its odds nearly itself, and the term nearly proportional to length.

    Returns the loss, averaged over pairs, and the statistics with `nll` and `log_odds`. Raises ValueError as the head of
    this file says (beta = 0 is allowed), and for an average above 0. Hong et al. 2024, https://arxiv.org/abs/2403.07691

    >>> chosen, rejected = torch.tensor([[0.5, 0.5]]).log().mean(1), torch.tensor([[0.25, 0.25]]).log().mean(1)
    >>> loss, stats = orpo_loss(chosen, rejected)  # odds 1 and 1/3
    >>> round(loss.item(), 4), round(stats["log_odds"].item(), 4)  # log 2 + 0.1 log 4/3, log 3
    (0.7219, 1.0986)
    """
    check_answers(avg_chosen=avg_chosen, avg_rejected=avg_rejected, denominator=denominator)
    highest = torch.cat([avg_chosen, avg_rejected]).max().item() if len(avg_chosen) else -math.inf
    if highest > 0:
        raise ValueError(f"an average log-probability of {highest}: none is above 0; give means of log-probabilities")
    if not beta >= 0:
        raise ValueError(f"beta={beta}: give a number of at least 0")
    log_odds_chosen = avg_chosen - log1mexp(avg_chosen)
    log_odds_rejected = avg_rejected - log1mexp(avg_rejected)
    log_odds_ratio = log_odds_chosen - log_odds_rejected
    losses = -avg_chosen - beta * F.logsigmoid(log_odds_ratio)
    loss = mean_over_pairs(losses, denominator)
    stats = pair_stats(beta * avg_chosen, beta * avg_rejected, avg_chosen, avg_rejected)
    log_odds = mean_over_pairs(log_odds_ratio.detach(), max(len(log_odds_ratio), 1))
    return loss, stats | {"loss": loss.detach(), "nll": -stats["logps/chosen"], "log_odds": log_odds}


def cpl_loss(
    logp_chosen: Tensor, logp_rejected: Tensor, mask_chosen: Tensor, mask_rejected: Tensor, *, alpha: float = 0.1,
    gamma: float = 1.0, lam: float = 1.0, denominator: float | None = None,
) -> LossAndStats:
    """Contrastive preference learning: DPO for steps with a discount, in which no reference is needed.

    logp_*, mask_* (B, T): log-probabilities per token, in nats, and which tokens count; the two sides may differ in T.
    Token t is discounted by gamma^t. lam < 1 weakens the rejected side, which keeps the policy near the data. With
    gamma = lam = 1 this is DPO without its reference terms.

    Returns the loss, averaged over pairs, and the statistics. Raises ValueError as the head of this file says, for alpha
    as for beta. Hejna et al. 2023, https://arxiv.org/abs/2310.13639

    >>> chosen, rejected, mask = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-2.0, -2.0]]), torch.ones(1, 2)
    >>> round(cpl_loss(chosen, rejected, mask, mask)[0].item(), 4)  # -log sigmoid(0.1 * (-2 + 4))
    0.5981
    """
    check_positive(alpha=alpha, gamma=gamma)
    chosen = discounted_sum(logp_chosen, mask_chosen, gamma)
    rejected = discounted_sum(logp_rejected, mask_rejected, gamma)
    check_answers(chosen=chosen, rejected=rejected, denominator=denominator)
    losses = -F.logsigmoid(alpha * (chosen - lam * rejected))
    loss = mean_over_pairs(losses, denominator)
    return loss, pair_stats(alpha * chosen, alpha * rejected, chosen, rejected) | {"loss": loss.detach()}


def discounted_sum(logp: Tensor, mask: Tensor, gamma: float) -> Tensor:
    """sum_t gamma^t logp_t over the masked tokens: (B, T), (B, T) -> (B,). t counts masked tokens only, from 0."""
    if gamma == 1:
        return masked_sum(logp, mask, dim=1)
    t = (mask.to(logp.dtype).cumsum(1) - 1).clamp(min=0)
    return masked_sum(logp * gamma**t, mask, dim=1)


# ---- single answers, rated good or bad ----

def kto_loss(
    logratio: Tensor, desirable: Tensor, kl_reference: Tensor, *, beta: float = 0.1, w_desirable: float = 1.0,
    w_undesirable: float = 1.0, denominator: float | None = None,
) -> LossAndStats:
    """KTO: no pairs, only single answers with a thumb up or down, judged against what the policy gains on average.

    logratio (B,): log pi - log ref of each answer, in nats. desirable (B,): 1 for a good answer, 0 for a bad one.
    kl_reference (any number of values): log-ratios of prompts with *another* prompt's answer. Score those mismatched
    texts anew; shuffling the finished log-ratios would not change their mean. The reference point z0 is that mean, not
    below 0 and without gradient.

    Returns the loss, averaged over answers, and the statistics `rewards/desirable`, `rewards/undesirable`, `loss` and `kl`
    (z0). Raises ValueError as the head of this file says, and for labels other than 0 and 1.
    Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306

    >>> good, bad = (-1.0 - 1.0) - (-1.5 - 1.5), (-1.0 - 1.0) - (-1.1 - 1.1)  # two tokens each; log-ratios 1 and 0.2
    >>> loss, stats = kto_loss(torch.tensor([good, bad]), torch.tensor([1, 0]), torch.tensor([0.2]))
    >>> round(loss.item(), 4)  # (1 - sigmoid(0.1 * 0.8) + 1 - sigmoid(0)) / 2
    0.49
    """
    kl_reference = torch.as_tensor(kl_reference, dtype=logratio.dtype, device=logratio.device).detach().reshape(-1)
    check_answers(logratio=logratio, desirable=desirable, denominator=denominator)
    check_answers(kl_reference=kl_reference)
    check_positive(beta=beta)
    if not ((desirable == 0) | (desirable == 1)).all():
        raise ValueError(f"desirable has values other than 0 and 1: {desirable.unique().tolist()[:5]}")
    good = desirable.bool()
    z0 = kl_reference.mean().clamp(min=0)
    loss_good = w_desirable * torch.sigmoid(beta * (z0 - logratio))  # w (1 - sigmoid(x)) = w sigmoid(-x)
    loss_bad = w_undesirable * torch.sigmoid(beta * (logratio - z0))
    loss = mean_over_pairs(torch.where(good, loss_good, loss_bad), denominator)
    reward = beta * logratio.detach()
    rewards = {"rewards/desirable": reward[good], "rewards/undesirable": reward[~good]}
    return loss, {name: x.mean() for name, x in rewards.items() if len(x)} | {"loss": loss.detach(), "kl": z0}


# ---- from samples to pairs, and the update ----

def online_pairs(score: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """Fresh pairs for online DPO: the best and the worst sample of each prompt.

    score (B,), of the policy's own samples, with the rows of one prompt next to each other. Returns the row numbers of the
    chosen and of the rejected answers, at most (B / group_size,) each: a prompt whose scores are all equal gives no pair.
    Raises ValueError unless group_size is 2 or more and divides B. Guo et al. 2024, https://arxiv.org/abs/2402.04792

    >>> [x.tolist() for x in online_pairs(torch.tensor([0.1, 0.9, 0.5, 2.0, 2.0, 2.0]), 3)]
    [[1], [0]]
    """
    check_answers(score=score)
    check_groups(group_size, score=score)
    groups = score.view(-1, group_size)
    best, worst = groups.max(1), groups.min(1)
    first_row = torch.arange(0, len(score), group_size, device=score.device)
    differs = best.values > worst.values
    return (first_row + best.indices)[differs], (first_row + worst.indices)[differs]


def pair_logps(model: nn.Module, batch: dict[str, Tensor], *, average: bool = False) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the chosen and the rejected answers, (B,) each, from one pass through the model.

    batch: `ids`, `attention`, `mask`, (2B, L) each, all chosen answers first, then the rejected ones in the same order.
    Raises ValueError if the number of rows is odd.
    """
    if len(batch["ids"]) % 2:
        raise ValueError(f"{len(batch['ids'])} rows; give 2B: all the chosen, then the rejected in the same order")
    return sequence_logps(model, batch["ids"], batch["attention"], batch["mask"], average=average).chunk(2)


def step(
    policy: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], *, loss_fn: Callable = dpo_loss,
    average: bool = False, max_norm: float = 1.0, **settings,
) -> dict[str, Tensor]:
    """One update on a batch of pairs, laid out as for `pair_logps`. Returns the loss's statistics and `grad_norm`.

    A loss with a reference finds its log-probabilities in the batch, as `ref_chosen` and `ref_rejected`, (B,) each:
    computed once, before training, since the reference never changes. `settings` go to the loss.
    """
    disable_dropout(policy)  # policy and reference must agree at the start: the first loss is log 2, and no noise
    chosen, rejected = pair_logps(policy, batch, average=average)
    if "ref_chosen" in inspect.signature(loss_fn).parameters:
        loss, stats = loss_fn(chosen, rejected, batch["ref_chosen"], batch["ref_rejected"], **settings)
    else:
        loss, stats = loss_fn(chosen, rejected, **settings)
    return stats | {"grad_norm": update(loss, optimizer, max_norm=max_norm)}
