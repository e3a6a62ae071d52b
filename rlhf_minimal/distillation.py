"""Distillation: a student copies its teacher's probabilities, its texts, or is corrected on texts of its own.

Who *samples* sets the direction: teacher's text gives the forward KL(teacher || student), the student's the reverse.
All logits are at the completion's places (see `trpo.completion_logits`), both models of one vocabulary.
"""

import torch

from .aggregate import aggregate
from .equations import implements
from .kl import exact_kl, k1
from .logprobs import check_temperature
from .models import disable_dropout
from .optim import update
from .reinforce import reinforce_loss
from .rollout import completion_logps
from .tensors import as_float, check_mask, check_shapes, masked_sum

FORMS = ("immediate", "cumulative")
MIXTURES = ("arithmetic", "geometric")


def _pair(student_logits, teacher_logits, mask, temperature=1.0):
    """Both as float logits / temperature (B, T, V), 0 off the mask *before* any softmax (E11); the teacher detached."""
    check_shapes(student_logits=student_logits, teacher_logits=teacher_logits)
    check_temperature(temperature)
    if student_logits.dim() != 3:
        raise ValueError(f"logits are {tuple(student_logits.shape)}; give (B, T, V), and a mask (B, T)")
    wide = mask[..., None].expand(*mask.shape, student_logits.shape[-1])
    s, _ = check_mask(student_logits, wide, "student_logits")
    t, _ = check_mask(teacher_logits, wide, "teacher_logits")
    return s / temperature, t.detach() / temperature


@implements("eq:word_kd", "eq:kd_cross_entropy", "eq:kd_forward_kl", "eq:knowledge_distillation")
def word_level_loss(student_logits, teacher_logits, mask, *, temperature=1.0, denominator=None):
    """-sum_v q_v log p_v a token, mean over tokens, times temperature^2 -> (loss, stats); q teacher, p student.

    logits (B, T, V), mask (B, T) of the *completion*: neither prompt nor padding is distilled (K5). The sum over v is
    the point (K57): without it only the written token counts. Its gradient is that of KL(q || p), stats "kl"; the rest,
    the teacher's entropy, is constant. temperature^2 keeps the gradient's size. Hinton et al. 2015; Kim & Rush 2016,
    https://arxiv.org/abs/1606.07947. ValueError on unequal vocabularies, an empty mask, a NaN on it.

    >>> q, p = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]).log(), torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]).log()
    >>> loss, stats = word_level_loss(p, q, torch.ones(1, 2))
    >>> [round(x, 4) for x in (loss.item(), stats["kl"].item())]  # log 2; (0 + 0.3681) / 2
    [0.6931, 0.184]
    """
    s, t = _pair(student_logits, teacher_logits, mask, temperature)
    logp, logq = s.log_softmax(-1), t.log_softmax(-1)
    q = logq.exp()
    cross = -(q * torch.where(q > 0, logp, 0)).sum(-1)
    loss = temperature**2 * aggregate(cross, mask, "token_mean", denominator=denominator)
    with torch.no_grad():
        kl = exact_kl(t, s) * mask
    return loss, {"loss": loss.detach(), "kl": kl.sum() / mask.sum().clamp(min=1)}


def mixed_logps(logits, weights=None, *, how="arithmetic"):
    """Log-probabilities (..., V) of K teachers' mixture: logits a list of K (..., V), weights K numbers, sum made 1.

    "arithmetic": sum_k w_k q_k, likely where *any* teacher finds it so; it minimises sum_k w_k KL(q_k || p).
    "geometric": prod_k q_k^w_k / Z, likely where *all* do; it minimises sum_k w_k KL(p || q_k). Default: equal weights.

    >>> a, b = torch.tensor([0.8, 0.2]).log(), torch.tensor([0.5, 0.5]).log()
    >>> [[round(x, 4) for x in mixed_logps([a, b], how=h).exp().tolist()] for h in MIXTURES]  # 0.65; 2 / (2 + 1)
    [[0.65, 0.35], [0.6667, 0.3333]]
    """
    if how not in MIXTURES:
        raise ValueError(f"how is {how!r}; choose one of {', '.join(MIXTURES)}")
    weights = [1.0] * len(logits) if weights is None else [float(w) for w in weights]
    if not logits or len(weights) != len(logits) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise ValueError(f"{len(logits)} teachers, weights {weights}; give one weight a teacher, 0 or more, not all 0")
    check_shapes(**{f"teacher {k}": x for k, x in enumerate(logits)})
    used = [(w / sum(weights), x) for w, x in zip(weights, logits, strict=True) if w]  # 0 * log 0 is nan
    logq = torch.stack([as_float(x).log_softmax(-1) for _, x in used])
    w = torch.tensor([w for w, _ in used], dtype=logq.dtype, device=logq.device).view(-1, *[1] * (logq.dim() - 1))
    return (logq + w.log()).logsumexp(0) if how == "arithmetic" else (w * logq).sum(0).log_softmax(-1)


def multi_teacher_loss(
    student_logits, teacher_logits, mask, *, weights=None, how="arithmetic", temperature=1.0, denominator=None,
):
    """`word_level_loss` against the mixture of K teachers -> (loss, stats). teacher_logits: a list of K (B, T, V).

    Each teacher is softened by the temperature, then mixed (`mixed_logps`); no gradient reaches one. In the student's
    logits z the gradient of a token is temperature * (p - q). The arithmetic mixture has the gradient of the weighted
    mean of the K teachers' own losses; the geometric one is another target. Hinton et al. 2015 name both,
    https://arxiv.org/abs/1503.02531

    >>> a, b = torch.tensor([[[0.8, 0.2]]]).log(), torch.tensor([[[0.5, 0.5]]]).log()
    >>> [round(multi_teacher_loss(b, [a, b], torch.ones(1, 1), how=h)[1]["kl"].item(), 4) for h in MIXTURES]
    [0.0457, 0.0566]
    """
    teachers = [_pair(student_logits, t, mask, temperature)[1] for t in teacher_logits]
    mixed = temperature * mixed_logps(teachers, weights, how=how)  # word_level_loss divides by it again
    return word_level_loss(student_logits, mixed, mask, temperature=temperature, denominator=denominator)


@implements("eq:sequence_kd")
def sequence_level_loss(logp, mask, *, denominator=None):
    """-log p(u | s) of the teacher's own text u: sum over tokens, mean over texts -> (loss, stats). logp, mask (B, T).

    SFT on the teacher's samples but for the reduction. Over samples u ~ q its expected gradient is that of KL(q || p)
    of whole texts; on a beam's best text alone it is not. https://arxiv.org/abs/1606.07947

    >>> round(sequence_level_loss(torch.tensor([[0.5, 0.25]]).log(), torch.ones(1, 2))[0].item(), 4)  # log 8
    2.0794
    """
    loss = aggregate(-logp, mask, "sequence_sum", denominator=denominator)
    return loss, {"loss": loss.detach(), "nll": loss.detach()}


def _to_go(x, mask):
    """Sum from each place to the end, (B, T); x is 0 off the mask, and rows without any place are allowed (J5)."""
    return x.flip(1).cumsum(1).flip(1) * mask


@implements("eq:opd_kl_advantage")
def reverse_kl_advantage(logp, logp_teacher, mask, *, form="cumulative"):
    """Advantages of the student's own tokens, (B, T) detached, 0 off the mask; logp, logp_teacher, mask (B, T).

    "immediate" A_t = log pi_T - log pi at the token alone, as the book prints: a discount of 0. "cumulative": the sum
    of the gaps from t on. Only the second is -grad KL(pi || pi_T) of whole texts (K62): a token answers for the states
    that it leads to, too.

    >>> student, teacher = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -1.0]])
    >>> [reverse_kl_advantage(student, teacher, torch.ones(1, 2), form=f).tolist() for f in FORMS]
    [[[-0.5, 1.0]], [[0.5, 1.0]]]
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; choose one of {', '.join(FORMS)}")
    logp, m = check_mask(logp.detach(), mask, "logp")
    gap = -k1(logp, check_mask(logp_teacher.detach(), mask, "logp_teacher")[0])
    return gap if form == "immediate" else _to_go(gap, m)


@implements("eq:opd_reverse_kl")
def on_policy_loss(logp, logp_teacher, mask, *, form="cumulative", denominator=None):
    """REINFORCE with `reverse_kl_advantage` on the *student's* samples -> (loss, stats). All arguments (B, T).

    Sum over tokens, mean over rows; stats "kl" is the sampled KL(pi || pi_T) of a text, nats. Differentiating that
    estimate itself, instead, gives 0 in expectation (C3). https://arxiv.org/abs/2306.13649

    >>> student, teacher = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -1.0]])
    >>> loss, stats = on_policy_loss(student, teacher, torch.ones(1, 2))
    >>> loss.item(), stats["kl"].item()  # -(0.5 * -1 + 1.0 * -2); 0.5 - 1.0
    (2.5, -0.5)
    """
    adv = reverse_kl_advantage(logp, logp_teacher, mask, form=form)
    loss, stats = reinforce_loss(logp, adv, mask, denominator=denominator)
    gap, m = check_mask(logp.detach() - logp_teacher.detach(), mask, "log-ratio")
    return loss, stats | {"kl": masked_sum(gap, mask) / m.any(1).sum().clamp(min=1)}


@implements("eq:opd_reverse_kl")
def full_vocabulary_loss(student_logits, teacher_logits, mask, *, logp=None, denominator=None):
    """sum_t KL(pi(. | s_t) || pi_T(. | s_t)), exact at each prefix of the student's own text -> (loss, stats).

    logits (B, T, V), mask (B, T). Mean over rows. Its value is KL(pi || pi_T) of whole texts with less noise (C5); its
    gradient takes the prefix as given and so is the expectation of the *immediate* advantage's. With `logp` (B, T) of
    the sampled tokens, log p times the later places' KL is added to the gradient, which then is the whole one (K62).

    >>> p, q = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]).log(), torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]).log()
    >>> round(full_vocabulary_loss(p, q, torch.ones(1, 2))[0].item(), 4)
    0.3681
    """
    kl = exact_kl(*_pair(student_logits, teacher_logits, mask))
    kl, m = check_mask(kl, mask, "kl")
    x = kl
    if logp is not None:
        later = _to_go(kl.detach(), m) - kl.detach()
        logp, _ = check_mask(as_float(logp), mask, "logp")
        x = kl + later * (logp - logp.detach())  # 0 in value
    loss = aggregate(x, mask, "sequence_sum", denominator=denominator)
    return loss, {"loss": loss.detach(), "kl": kl.detach().sum() / m.any(1).sum().clamp(min=1)}


def step(student, optimizer, rollout, logp_teacher, *, form="cumulative", temperature=1.0, max_norm=1.0):
    """One on-policy distillation update from the student's rollout, scored by the teacher (B, T) -> stats."""
    disable_dropout(student)  # or its log-probabilities are not those it sampled with (B7)
    logp = completion_logps(student, rollout, temperature=temperature)
    loss, stats = on_policy_loss(logp, logp_teacher, rollout.mask, form=form)
    return stats | {"grad_norm": update(loss, optimizer, max_norm=max_norm)}
