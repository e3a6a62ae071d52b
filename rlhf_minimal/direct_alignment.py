"""Direct alignment: losses on pairs of answers (or on single rated ones) instead of a reward model and RL.

Arguments are (B,) log-probabilities of the completions' tokens alone (G1): sums, as of `sequence_logps`, or where the
name says `avg`, means a token (`average=True`). Losses average the pairs; `denominator`, the pairs of the *whole*
optimizer step, replaces that divisor as in `aggregate` (E14, J1). A reference-free loss sets the reference ratio to 0
(G8). All raise ValueError on shapes that differ, a NaN, a beta that is not above 0, and on no rows (with a denominator
those give a differentiable 0: J5).
"""

import inspect
import math

import torch
import torch.nn.functional as F

from .aggregate import aggregate
from .equations import implements
from .logprobs import sequence_logps
from .models import disable_dropout
from .sft import update
from .tensors import check_no_nan, check_shapes, masked_sum


def _rows(denominator=None, **named):
    """Refuse anything but (B,) tensors of one length without NaN; none at all only where a denominator is given."""
    check_shapes(**named)
    name, x = next(iter(named.items()))
    if x.dim() != 1 or not len(x) and denominator is None:
        raise ValueError(f"{name} is {tuple(x.shape)}; give one number a row, (B,), B >= 1")
    check_no_nan(**named)


def _mean(x, denominator):
    """Mean of x (B,), or its sum / denominator: `aggregate` with one token a row."""
    return aggregate(x[:, None], torch.ones_like(x)[:, None], "sequence_sum", denominator=denominator)


def _above_zero(**named):
    for name, x in named.items():
        if not (x > 0 and math.isfinite(x)):
            raise ValueError(f"{name}={x}: give a finite number above 0")


def _smooth(loss, h, label_smoothing):
    """(1 - e) loss(h) + e loss(-h): a share e of the labels is taken to be flipped, as in cDPO (G3)."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing={label_smoothing}: give the share of flipped labels, from 0 to 1")
    return (1 - label_smoothing) * loss(h) + label_smoothing * loss(-h)


def _log_ratios(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator):
    """Both log-ratios to the reference (B,), (B,) and the stats all the paired losses share."""
    named = dict(pi_chosen=pi_chosen, pi_rejected=pi_rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    _rows(denominator, **named)
    _above_zero(beta=beta)
    chosen, rejected = pi_chosen - ref_chosen.detach(), pi_rejected - ref_rejected.detach()
    return chosen, rejected, _stats(beta * chosen, beta * rejected, pi_chosen, pi_rejected)


def _stats(reward_chosen, reward_rejected, pi_chosen, pi_rejected):
    """The usual numbers; both logps may fall while the margin grows (G11), so look at them. A tie is not accurate."""
    named = {"rewards/chosen": reward_chosen, "rewards/rejected": reward_rejected}
    named |= {"margin": reward_chosen - reward_rejected, "logps/chosen": pi_chosen, "logps/rejected": pi_rejected}
    named |= {"accuracy": (reward_chosen > reward_rejected).float()}
    return {name: _mean(x.detach(), max(len(x), 1)) for name, x in named.items()}


@implements("eq:dpo_core")
def dpo_loss(
    pi_chosen, pi_rejected, ref_chosen, ref_rejected, *, beta=0.1, label_smoothing=0.0, denominator=None,
):
    """-log sigmoid(beta [(pi_c - ref_c) - (pi_r - ref_r)]) -> (loss, stats). Four (B,) sums of log-probabilities.

    label_smoothing e gives cDPO, whose optimum is at beta * margin = log((1 - e) / e) (G3).
    https://arxiv.org/abs/2305.18290

    >>> four = [torch.tensor([x]) for x in (-10.0, -14.0, -11.0, -13.0)]
    >>> round(dpo_loss(*four)[0].item(), 4)  # -log s(0.1 (1 + 1))
    0.5981
    """
    chosen, rejected, stats = _log_ratios(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator)
    loss = _mean(_smooth(lambda z: -F.logsigmoid(z), beta * (chosen - rejected), label_smoothing), denominator)
    return loss, stats | {"loss": loss.detach()}


def rdpo_loss(
    pi_chosen, pi_rejected, ref_chosen, ref_rejected, *, beta=0.1, label_smoothing=0.0, denominator=None,
):
    """Robust DPO: [(1 - e) l(z) - e l(-z)] / (1 - 2e), unbiased if a share e of labels is flipped -> (loss, stats).

    Four (B,) sums. Not cDPO (G3): the weight of the flipped term is negative. ValueError at e = 1/2.
    https://arxiv.org/abs/2403.00409

    >>> four = [torch.tensor([x]) for x in (-10.0, -14.0, -11.0, -13.0)]
    >>> round(rdpo_loss(*four, label_smoothing=0.1)[0].item(), 4)  # (0.9 * 0.5981 - 0.1 * 0.7981) / 0.8
    0.5731
    """
    chosen, rejected, stats = _log_ratios(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator)
    e, z = label_smoothing, beta * (chosen - rejected)
    if not 0.0 <= e <= 1.0 or e == 0.5:
        raise ValueError(f"label_smoothing={e}; give the share of flipped labels, 0 to 1 but not 1/2: no signal")
    loss = _mean((-(1 - e) * F.logsigmoid(z) + e * F.logsigmoid(-z)) / (1 - 2 * e), denominator)
    return loss, stats | {"loss": loss.detach()}


def ipo_loss(
    pi_chosen, pi_rejected, ref_chosen, ref_rejected, *, beta=0.1, label_smoothing=0.0, denominator=None,
):
    """(h - 1 / (2 beta))^2 with h the difference of log-ratios -> (loss, stats). https://arxiv.org/abs/2310.12036

    Four (B,); works on what it is given. Recommended: averages a token (`sequence_logps(average=True)`), the authors'
    correction; sums are the equation as printed. They differ a lot for unequal lengths (G4).

    >>> four = [torch.tensor([x]) for x in (-10.0, -14.0, -11.0, -13.0)]
    >>> round(ipo_loss(*four)[0].item(), 4)  # (2 - 5)^2
    9.0
    """
    chosen, rejected, stats = _log_ratios(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator)
    loss = _mean(_smooth(lambda h: (h - 1 / (2 * beta)) ** 2, chosen - rejected, label_smoothing), denominator)
    return loss, stats | {"loss": loss.detach()}


def hinge_loss(
    pi_chosen, pi_rejected, ref_chosen, ref_rejected, *, beta=0.1, label_smoothing=0.0, denominator=None,
):
    """max(0, 1 - beta h), as SLiC with a reference -> (loss, stats). Four (B,) sums. https://arxiv.org/abs/2309.06657

    >>> four = [torch.tensor([x]) for x in (-10.0, -14.0, -11.0, -13.0)]
    >>> round(hinge_loss(*four)[0].item(), 4)  # 1 - 0.2
    0.8
    """
    chosen, rejected, stats = _log_ratios(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator)
    loss = _mean(_smooth(lambda z: F.relu(1 - z), beta * (chosen - rejected), label_smoothing), denominator)
    return loss, stats | {"loss": loss.detach()}


def simpo_loss(avg_chosen, avg_rejected, *, beta=2.0, gamma=1.0, denominator=None):
    """-log sigmoid(beta (avg_c - avg_r) - gamma) -> (loss, stats). No reference, length-normalised.

    avg (B,), nats a token; gamma is the margin itself, not gamma / beta (G5). https://arxiv.org/abs/2405.14734

    >>> round(simpo_loss(torch.tensor([-1.0]), torch.tensor([-1.0]))[0].item(), 4)  # -log s(-1)
    1.3133
    """
    _rows(denominator, avg_chosen=avg_chosen, avg_rejected=avg_rejected)
    _above_zero(beta=beta)
    loss = _mean(-F.logsigmoid(beta * (avg_chosen - avg_rejected) - gamma), denominator)
    return loss, _stats(beta * avg_chosen, beta * avg_rejected, avg_chosen, avg_rejected) | {"loss": loss.detach()}


def cpo_loss(pi_chosen, pi_rejected, *, beta=0.1, alpha=1.0, label_smoothing=0.0, denominator=None):
    """-log sigmoid(beta (pi_c - pi_r)) - alpha pi_c -> (loss, stats): DPO without a reference, plus the chosen NLL.

    Sums, as in the paper (trainers often average the NLL over tokens). https://arxiv.org/abs/2401.08417. Not CPL.

    >>> round(cpo_loss(torch.tensor([-10.0]), torch.tensor([-14.0]))[0].item(), 4)  # -log s(0.4) + 10
    10.513
    """
    _rows(denominator, pi_chosen=pi_chosen, pi_rejected=pi_rejected)
    _above_zero(beta=beta)
    preference = _smooth(lambda z: -F.logsigmoid(z), beta * (pi_chosen - pi_rejected), label_smoothing)
    loss = _mean(preference - alpha * pi_chosen, denominator)
    stats = _stats(beta * pi_chosen, beta * pi_rejected, pi_chosen, pi_rejected)
    return loss, stats | {"loss": loss.detach(), "nll": -stats["logps/chosen"]}


def log1mexp(x):
    """log(1 - e^x) for x <= 0, accurate near 0 and far below (G6); at 0 itself finite, without gradient.

    >>> round(log1mexp(torch.tensor([0.25]).log()).item(), 4)  # log 3/4
    -0.2877
    """
    x = x.clamp(max=-torch.finfo(x.dtype).tiny)
    near = x > -math.log(2)
    # each branch sees only arguments it can take: `where` alone would let the other one's gradient through as nan
    small = torch.log(-torch.expm1(torch.where(near, x, -1.0)))
    large = torch.log1p(-torch.exp(torch.where(near, -1.0, x)))
    return torch.where(near, small, large)


def orpo_loss(avg_chosen, avg_rejected, *, beta=0.1, denominator=None):
    """NLL of the chosen answer - beta log sigmoid(log odds ratio) -> (loss, stats). https://arxiv.org/abs/2403.07691

    avg (B,), nats a token, not above 0. odds = p / (1 - p) of that *average*: of a sum p is about 0, the term nearly
    linear in length (G6).

    >>> loss, stats = orpo_loss(torch.tensor([0.5]).log(), torch.tensor([0.25]).log())  # odds 1 and 1/3
    >>> round(loss.item(), 4), round(stats["log_odds"].item(), 4)  # log 2 + 0.1 log 4/3, log 3
    (0.7219, 1.0986)
    """
    _rows(denominator, avg_chosen=avg_chosen, avg_rejected=avg_rejected)
    worst = torch.cat([avg_chosen, avg_rejected]).max().item() if len(avg_chosen) else -math.inf
    if worst > 0:
        raise ValueError(f"an average log-probability of {worst}: none is above 0; give means of log-probabilities")
    if not beta >= 0:
        raise ValueError(f"beta={beta}: give a number of at least 0")
    odds = (avg_chosen - log1mexp(avg_chosen)) - (avg_rejected - log1mexp(avg_rejected))
    loss = _mean(-avg_chosen - beta * F.logsigmoid(odds), denominator)
    stats = _stats(beta * avg_chosen, beta * avg_rejected, avg_chosen, avg_rejected)
    log_odds = _mean(odds.detach(), max(len(odds), 1))
    return loss, stats | {"loss": loss.detach(), "nll": -stats["logps/chosen"], "log_odds": log_odds}


def kto_loss(
    logratio, desirable, kl_reference, *, beta=0.1, w_desirable=1.0, w_undesirable=1.0, denominator=None,
):
    """Single rated answers: mean of w_D (1 - s(beta (r - z0))) or w_U (1 - s(beta (z0 - r))) -> (loss, stats).

    logratio r (B,): log pi - log pi_ref. desirable (B,): 0/1. kl_reference: log-ratios of *mismatched* prompts and
    answers, any number, scored anew (rolling finished ratios changes no mean: G7); z0 = max(0, their mean), detached.
    https://arxiv.org/abs/2402.01306

    >>> loss, _ = kto_loss(torch.tensor([1.0, 0.2]), torch.tensor([1, 0]), torch.tensor([0.2]))
    >>> round(loss.item(), 4)  # (1 - s(0.08) + 1 - s(0)) / 2
    0.49
    """
    kl_reference = torch.as_tensor(kl_reference, dtype=logratio.dtype, device=logratio.device).detach().reshape(-1)
    _rows(denominator, logratio=logratio, desirable=desirable)
    _rows(kl_reference=kl_reference)
    _above_zero(beta=beta)
    if not ((desirable == 0) | (desirable == 1)).all():
        raise ValueError(f"desirable has values other than 0 and 1: {desirable.unique().tolist()[:5]}")
    good, z0 = desirable.bool(), kl_reference.mean().clamp(min=0)
    # as tensors: of two plain numbers `where` makes float32, whatever the log-ratios are
    up, down = (torch.as_tensor(w, dtype=logratio.dtype, device=logratio.device) for w in (w_desirable, w_undesirable))
    away = torch.where(good, z0 - logratio, logratio - z0)
    loss = _mean(torch.where(good, up, down) * torch.sigmoid(beta * away), denominator)  # 1 - s(x) = s(-x)
    reward = beta * logratio.detach()
    named = {"rewards/desirable": reward[good], "rewards/undesirable": reward[~good]}
    return loss, {k: x.mean() for k, x in named.items() if len(x)} | {"loss": loss.detach(), "kl": z0}


def cpl_loss(
    logp_chosen, logp_rejected, mask_chosen, mask_rejected, *, alpha=0.1, gamma=1.0, lam=1.0, denominator=None,
):
    """CPL: -log sigmoid(alpha sum_t gamma^t [log pi(a+_t) - lam log pi(a-_t)]), mean over pairs -> (loss, stats).

    logp, mask (B, T) of each side; T may differ. lam < 1 is the conservative form: it keeps mass on the data. At
    lam = gamma = 1 it is DPO with the reference terms left out. https://arxiv.org/abs/2310.13639

    >>> one, chosen, rejected = torch.ones(1, 2), torch.tensor([[-1.0, -1.0]]), torch.tensor([[-2.0, -2.0]])
    >>> round(cpl_loss(chosen, rejected, one, one)[0].item(), 4)  # -log s(0.1 * 2)
    0.5981
    """
    _above_zero(alpha=alpha, gamma=gamma)
    parts = []
    for logp, mask in ((logp_chosen, mask_chosen), (logp_rejected, mask_rejected)):
        step = (mask.to(logp.dtype).cumsum(1) - 1).clamp(min=0)  # t counts the masked tokens
        parts.append(masked_sum(logp, mask, dim=1) if gamma == 1 else masked_sum(logp * gamma**step, mask, dim=1))
    chosen, rejected = parts
    _rows(denominator, chosen=chosen, rejected=rejected)
    loss = _mean(-F.logsigmoid(alpha * (chosen - lam * rejected)), denominator)
    return loss, _stats(alpha * chosen, alpha * rejected, chosen, rejected) | {"loss": loss.detach()}


def apo_zero_loss(pi_chosen, pi_rejected, ref_chosen, ref_rejected, *, beta=0.1, denominator=None):
    """APO-zero: 1 - s(r_c) + s(r_r), r = beta * log-ratio -> (loss, stats): chosen up, rejected down, each by itself.

    For pairs whose chosen answer is better than the policy's own. https://arxiv.org/abs/2408.06266

    >>> four = [torch.tensor([x]) for x in (-10.0, -14.0, -11.0, -13.0)]
    >>> round(apo_zero_loss(*four)[0].item(), 4)  # s(-.1) + s(-.1)
    0.95
    """
    chosen, rejected, stats = _log_ratios(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator)
    loss = _mean(torch.sigmoid(-beta * chosen) + torch.sigmoid(beta * rejected), denominator)
    return loss, stats | {"loss": loss.detach()}


def apo_down_loss(pi_chosen, pi_rejected, ref_chosen, ref_rejected, *, beta=0.1, denominator=None):
    """APO-down: s(r_c) + 1 - s(r_c - r_r), r = beta * log-ratio -> (loss, stats): both down, the rejected one more.

    For pairs whose chosen answer is worse than the policy's own. https://arxiv.org/abs/2408.06266

    >>> four = [torch.tensor([x]) for x in (-10.0, -14.0, -11.0, -13.0)]
    >>> round(apo_down_loss(*four)[0].item(), 4)  # s(.1) + s(-.2)
    0.9751
    """
    chosen, rejected, stats = _log_ratios(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator)
    loss = _mean(torch.sigmoid(beta * chosen) + torch.sigmoid(-beta * (chosen - rejected)), denominator)
    return loss, stats | {"loss": loss.detach()}


@implements("eq:dpo_nll", "eq:dpo_nll_expanded")
def dpo_nll_loss(
    pi_chosen, pi_rejected, ref_chosen, ref_rejected, *, beta=0.1, label_smoothing=0.0, alpha=1.0, lengths=None,
    denominator=None,
):
    """DPO + alpha * NLL of the chosen answer, which keeps its log-probability from sinking (G11) -> (loss, stats).

    lengths (B,): tokens of the chosen answers; with them the NLL is a mean a token, as in the paper (which counts the
    prompt's too), else the sum: alpha does not carry over. https://arxiv.org/abs/2404.19733

    >>> four = [torch.tensor([x]) for x in (-10.0, -14.0, -11.0, -13.0)]
    >>> round(dpo_nll_loss(*four, lengths=torch.tensor([5]))[0].item(), 4)  # 0.5981 + 10 / 5
    2.5981
    """
    settings = dict(beta=beta, label_smoothing=label_smoothing, denominator=denominator)
    dpo, stats = dpo_loss(pi_chosen, pi_rejected, ref_chosen, ref_rejected, **settings)
    if lengths is not None:
        _rows(denominator, lengths=lengths, pi_chosen=pi_chosen)
        if not (lengths >= 1).all():
            raise ValueError(f"lengths from {lengths.min().item()}: a chosen answer has at least 1 token")
    nll = -pi_chosen if lengths is None else -pi_chosen / lengths
    loss = dpo + alpha * _mean(nll, denominator)
    return loss, stats | {"loss": loss.detach(), "nll": _mean(nll.detach(), max(len(nll), 1))}


def length_dpo_loss(
    pi_chosen, pi_rejected, ref_chosen, ref_rejected, *, len_chosen, len_rejected, beta=0.1, lam=0.01,
    denominator=None,
):
    """-log sigmoid(beta h + lam (|y_c| - |y_r|)), h the difference of log-ratios -> (loss, stats). Lengths (B,).

    At its optimum beta h is the labels' margin *minus* lam * difference of lengths: the policy of the reward
    r - lam |y|. So the term is added inside; subtracted, it would pay for length. https://arxiv.org/abs/2403.19159

    >>> four, n = [torch.tensor([x]) for x in (-10.0, -14.0, -11.0, -13.0)], torch.tensor([4])
    >>> round(length_dpo_loss(*four, len_chosen=n + 5, len_rejected=n, lam=0.1)[0].item(), 4)  # z = .2 + .5
    0.4032
    """
    chosen, rejected, stats = _log_ratios(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta, denominator)
    _rows(denominator, len_chosen=len_chosen, len_rejected=len_rejected)
    check_shapes(len_chosen=len_chosen, pi_chosen=pi_chosen)
    longer = (len_chosen - len_rejected).to(chosen.dtype)
    loss = _mean(-F.logsigmoid(beta * (chosen - rejected) + lam * longer), denominator)
    return loss, stats | {"loss": loss.detach(), "longer": _mean(longer, max(len(longer), 1))}


def online_pairs(score, group_size):
    """Fresh pairs for online DPO: each prompt's best and worst row -> (chosen, rejected), row numbers (at most B/G,).

    score (B,), prompt-major, of the present policy's own samples. A prompt whose scores are all equal gives no pair.
    https://arxiv.org/abs/2402.04792

    >>> [x.tolist() for x in online_pairs(torch.tensor([0.1, 0.9, 0.5, 2.0, 2.0, 2.0]), 3)]
    [[1], [0]]
    """
    _rows(score=score)
    if group_size < 2 or len(score) % group_size:
        raise ValueError(f"{len(score)} rows in groups of {group_size}; a group needs 2 or more and must divide them")
    groups = score.view(-1, group_size)
    best, worst = groups.max(1), groups.min(1)
    start = torch.arange(0, len(score), group_size, device=score.device)
    keep = best.values > worst.values
    return (start + best.indices)[keep], (start + worst.indices)[keep]


def pair_logps(model, batch, *, average=False):
    """Both sides in one forward (G10) -> chosen, rejected (B,). batch: ids, attention, mask (2B, L), chosen first."""
    if len(batch["ids"]) % 2:
        raise ValueError(f"{len(batch['ids'])} rows; give 2B: all the chosen, then the rejected in the same order")
    return sequence_logps(model, batch["ids"], batch["attention"], batch["mask"], average=average).chunk(2)


def step(policy, optimizer, batch, *, loss_fn=dpo_loss, average=False, max_norm=1.0, **settings):
    """One update on a `pair_logps` batch; a loss that names ref_chosen gets the batch's cached references (B,) (G9)."""
    disable_dropout(policy)  # or the first loss is not log 2 (B7)
    logps = [*pair_logps(policy, batch, average=average)]
    if "ref_chosen" in inspect.signature(loss_fn).parameters:
        logps += [batch["ref_chosen"], batch["ref_rejected"]]
    loss, stats = loss_fn(*logps, **settings)
    return stats | {"grad_norm": update(loss, optimizer, max_norm=max_norm)}
