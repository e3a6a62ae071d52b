"""Distillation: a student copies its teacher's probabilities or its texts, or is corrected on texts of its own.

Who *samples* sets the direction: on the teacher's texts a student learns the forward KL(teacher || student), on its own
texts the reverse. All logits are those at the completion's tokens (see `trpo.completion_logits`), and both models have
one vocabulary. Shapes: logits (B, T, V), log-probabilities and masks (B, T). Log-probabilities and KL are in nats.
"""

import torch
from torch import Tensor, nn

from .aggregate import aggregate
from .equations import implements
from .kl import exact_kl
from .logprobs import check_temperature
from .models import disable_dropout
from .optim import update
from .rollout import Rollout, completion_logps
from .tensors import as_float, check_mask, check_shapes

CREDIT_MODES = ("immediate", "cumulative")
MIXTURE_MODES = ("arithmetic", "geometric")


# ---- off policy: the teacher's probabilities, several teachers, the teacher's texts ----

@implements("eq:word_kd", "eq:kd_cross_entropy", "eq:kd_forward_kl", "eq:knowledge_distillation")
def word_level_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, *, temperature: float = 1.0,
    denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Word-level distillation: the cross-entropy -sum_v q_v log p_v per token, q the teacher's distribution, p the student's.

    logits (B, T, V), divided by the temperature here; mask (B, T) of the *completion*: neither prompt nor padding is
    distilled. The sum over v is the point; without it only the written token counts. Times temperature^2, which keeps
    the gradient's size. `denominator`: the tokens of the whole optimizer step.

    Returns the loss, averaged over tokens, and the statistics `loss` and `kl`, the mean KL(q || p): that is the loss less
    the teacher's entropy, which no student changes. Raises ValueError for vocabularies that differ, a mask that is empty
    everywhere, a NaN where it is 1. Equations `eq:word_kd`, `eq:kd_cross_entropy`, `eq:kd_forward_kl`,
    `eq:knowledge_distillation`; Hinton et al. 2015; Kim & Rush 2016, https://arxiv.org/abs/1606.07947

    >>> q, p = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]).log(), torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]).log()
    >>> loss, stats = word_level_loss(p, q, torch.ones(1, 2))
    >>> [round(x, 4) for x in (loss.item(), stats["kl"].item())]  # log 2; (0 + 0.3681) / 2
    [0.6931, 0.184]
    """
    student, teacher = check_logits(student_logits, teacher_logits, mask, temperature)

    logp, logq = student.log_softmax(-1), teacher.log_softmax(-1)
    q = logq.exp()
    losses = -(q * torch.where(q > 0, logp, 0)).sum(-1)  # 0 log 0 is 0
    loss = temperature**2 * aggregate(losses, mask, "token_mean", denominator=denominator)
    with torch.no_grad():
        kl = exact_kl(teacher, student) * mask
    return loss, {"loss": loss.detach(), "kl": kl.sum() / mask.sum().clamp(min=1)}


def mixed_logps(logits: list[Tensor], weights: list[float] | None = None, *, mode: str = "arithmetic") -> Tensor:
    """The mixture of K teachers, as log-probabilities.

    logits: K tensors (..., V); weights: K numbers, brought to the sum 1, equal by default. "arithmetic", sum_k w_k q_k, is
    likely where *any* teacher finds it so, and minimises sum_k w_k KL(q_k || p) over p. "geometric", prod_k q_k^w_k / Z,
    is likely where *all* do, and minimises sum_k w_k KL(p || q_k).

    Returns (..., V). Raises ValueError for another mode, shapes that differ, weights that are negative or all 0.

    >>> a, b = torch.tensor([0.8, 0.2]).log(), torch.tensor([0.5, 0.5]).log()
    >>> [[round(x, 4) for x in mixed_logps([a, b], mode=mode).exp().tolist()] for mode in MIXTURE_MODES]  # 0.65; 2 / (2 + 1)
    [[0.65, 0.35], [0.6667, 0.3333]]
    """
    if mode not in MIXTURE_MODES:
        raise ValueError(f"mode is {mode!r}; choose one of {', '.join(MIXTURE_MODES)}")
    weights = [1.0] * len(logits) if weights is None else [float(w) for w in weights]
    if not logits or len(weights) != len(logits) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise ValueError(f"{len(logits)} teachers, weights {weights}; give one weight per teacher, 0 or more, not all 0")
    check_shapes(**{f"teacher {k}": x for k, x in enumerate(logits)})
    used = [(w / sum(weights), x) for w, x in zip(weights, logits, strict=True) if w]  # 0 * log 0 is nan

    logq = torch.stack([as_float(x).log_softmax(-1) for _, x in used])
    w = torch.tensor([w for w, _ in used], dtype=logq.dtype, device=logq.device).view(-1, *[1] * (logq.dim() - 1))
    if mode == "arithmetic":
        return (logq + w.log()).logsumexp(0)
    return (w * logq).sum(0).log_softmax(-1)


def multi_teacher_loss(
    student_logits: Tensor, teacher_logits: list[Tensor], mask: Tensor, *, weights: list[float] | None = None,
    mode: str = "arithmetic", temperature: float = 1.0, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`word_level_loss` against the mixture of K teachers.

    teacher_logits: K tensors (B, T, V); each is softened by the temperature, then they are mixed by `mixed_logps`. No
    gradient reaches a teacher. The arithmetic mixture has the gradient of the weighted mean of the teachers' own losses;
    the geometric one is another target. Returns and raises as `word_level_loss` and `mixed_logps`.
    Hinton et al. 2015 name both, https://arxiv.org/abs/1503.02531

    >>> a, b = torch.tensor([[[0.8, 0.2]]]).log(), torch.tensor([[[0.5, 0.5]]]).log()
    >>> [round(multi_teacher_loss(b, [a, b], torch.ones(1, 1), mode=m)[1]["kl"].item(), 4) for m in MIXTURE_MODES]
    [0.0457, 0.0566]
    """
    teachers = [check_logits(student_logits, teacher, mask, temperature)[1] for teacher in teacher_logits]
    mixed = temperature * mixed_logps(teachers, weights, mode=mode)  # word_level_loss divides by the temperature again
    return word_level_loss(student_logits, mixed, mask, temperature=temperature, denominator=denominator)


@implements("eq:sequence_kd")
def sequence_level_loss(
    logp: Tensor, mask: Tensor, *, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sequence-level distillation: the negative log-likelihood of the teacher's own text, summed over its tokens.

    logp, mask (B, T): the student's log-probabilities of the teacher's samples. `denominator`: the number of texts of the
    whole optimizer step. It is SFT on those samples but for the reduction. Over samples its expected gradient is that of
    KL(teacher || student) of whole texts; on a beam's best text alone it is not.

    Returns the loss, averaged over texts, and the statistics `loss` and `nll`. Raises ValueError as `aggregate`.
    Equation `eq:sequence_kd`; Kim & Rush 2016, https://arxiv.org/abs/1606.07947

    >>> round(sequence_level_loss(torch.tensor([[0.5, 0.25]]).log(), torch.ones(1, 2))[0].item(), 4)  # log 8
    2.0794
    """
    loss = aggregate(-logp, mask, "sequence_sum", denominator=denominator)
    return loss, {"loss": loss.detach(), "nll": loss.detach()}


# ---- on policy: the student's own texts, corrected by the teacher ----

@implements("eq:opd_kl_advantage")
def reverse_kl_advantage(logp: Tensor, logp_teacher: Tensor, mask: Tensor, *, mode: str = "cumulative") -> Tensor:
    """Advantages of the student's own tokens: how much likelier the teacher finds them.

    logp, logp_teacher, mask (B, T). "immediate": A_t = log pi_teacher - log pi at that token alone, as the book prints it;
    this is a discount of 0. "cumulative": the sum of these gaps from t on, so that a token also answers for the states
    it leads to. Only the second gives the gradient of minus KL(pi || pi_teacher) of whole texts.

    Returns (B, T), detached, 0 off the mask. Raises ValueError for another mode, shapes that differ, a NaN where the mask
    is 1. Equation `eq:opd_kl_advantage`.

    >>> student, teacher = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -1.0]])
    >>> [reverse_kl_advantage(student, teacher, torch.ones(1, 2), mode=mode).tolist() for mode in CREDIT_MODES]
    [[[-0.5, 1.0]], [[0.5, 1.0]]]
    """
    if mode not in CREDIT_MODES:
        raise ValueError(f"mode is {mode!r}; choose one of {', '.join(CREDIT_MODES)}")
    logp, m = check_mask(logp.detach(), mask, "logp")
    logp_teacher, _ = check_mask(logp_teacher.detach(), mask, "logp_teacher")
    gap = logp_teacher - logp
    return gap if mode == "immediate" else sum_from_here(gap) * m


@implements("eq:opd_reverse_kl")
def on_policy_loss(
    logp: Tensor, logp_teacher: Tensor, mask: Tensor, *, mode: str = "cumulative", denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """On-policy distillation: REINFORCE on the *student's* samples, with `reverse_kl_advantage` as advantage.

    logp, logp_teacher, mask (B, T). `denominator`: the rows of the whole optimizer step. Differentiating the sampled KL
    itself, instead, gives 0 in expectation.

    Returns the loss, summed over tokens and averaged over rows, and the statistics `loss` and `kl`, the sampled
    KL(pi || pi_teacher) per text. Raises ValueError as `reverse_kl_advantage`.
    Equation `eq:opd_reverse_kl`; Agarwal et al. 2023, https://arxiv.org/abs/2306.13649

    >>> student, teacher = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -1.0]])
    >>> loss, stats = on_policy_loss(student, teacher, torch.ones(1, 2))
    >>> loss.item(), stats["kl"].item()  # -(0.5 * -1 + 1.0 * -2); 0.5 - 1.0
    (2.5, -0.5)
    """
    adv = reverse_kl_advantage(logp, logp_teacher, mask, mode=mode)
    logp, m = check_mask(logp, mask, "logp")
    logp_teacher, _ = check_mask(logp_teacher.detach(), mask, "logp_teacher")

    losses = -adv * logp
    loss = aggregate(losses, mask, "sequence_sum", denominator=denominator)
    kl = (logp.detach() - logp_teacher).sum() / m.any(1).sum().clamp(min=1)
    return loss, {"loss": loss.detach(), "kl": kl}


@implements("eq:opd_reverse_kl")
def full_vocabulary_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, *, logp: Tensor | None = None,
    denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """On-policy distillation over the whole vocabulary: KL(student || teacher), exact after each prefix of a student's text.

    logits (B, T, V), mask (B, T). `denominator`: the rows of the whole optimizer step. The value is KL(pi || pi_teacher) of
    whole texts, with less noise than the sampled one. Its gradient takes the prefixes as given, and so is that of the
    *immediate* advantage. With `logp` (B, T) of the sampled tokens, log p times the KL of the later tokens joins the
    gradient (not the value), which then is the whole one.

    Returns the loss, summed over tokens and averaged over rows, and the statistics `loss` and `kl`. Raises ValueError as
    `word_level_loss`. Equation `eq:opd_reverse_kl`.

    >>> p, q = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]).log(), torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]).log()
    >>> round(full_vocabulary_loss(p, q, torch.ones(1, 2))[0].item(), 4)
    0.3681
    """
    student, teacher = check_logits(student_logits, teacher_logits, mask)

    kl, m = check_mask(exact_kl(student, teacher), mask, "kl")  # sum_v p_v log(p_v / q_v), per token
    losses = kl
    if logp is not None:
        logp, _ = check_mask(as_float(logp), mask, "logp")
        kl_later = sum_from_here(kl.detach()) * m - kl.detach()
        losses = kl + kl_later * (logp - logp.detach())  # the second term is 0 in value
    loss = aggregate(losses, mask, "sequence_sum", denominator=denominator)
    return loss, {"loss": loss.detach(), "kl": kl.detach().sum() / m.any(1).sum().clamp(min=1)}


def sum_from_here(x: Tensor) -> Tensor:
    """At each place the sum of x from there to the end of the row: (B, T) -> (B, T).

    >>> sum_from_here(torch.tensor([[1.0, 2.0, 4.0]])).tolist()
    [[7.0, 6.0, 4.0]]
    """
    return x.flip(1).cumsum(1).flip(1)


def check_logits(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Both logits as floats, divided by the temperature, the teacher's detached; 0 off the mask *before* any softmax.

    Raises ValueError unless both are (B, T, V), the mask (B, T), and no NaN stands where it is 1.
    """
    check_shapes(student_logits=student_logits, teacher_logits=teacher_logits)
    check_temperature(temperature)
    if student_logits.dim() != 3:
        raise ValueError(f"logits are {tuple(student_logits.shape)}; give (B, T, V), and a mask (B, T)")
    wide = mask[..., None].expand(*mask.shape, student_logits.shape[-1])
    student, _ = check_mask(student_logits, wide, "student_logits")
    teacher, _ = check_mask(teacher_logits, wide, "teacher_logits")
    return student / temperature, teacher.detach() / temperature


def step(
    student: nn.Module, optimizer: torch.optim.Optimizer, rollout: Rollout, logp_teacher: Tensor, *,
    mode: str = "cumulative", temperature: float = 1.0, max_norm: float = 1.0,
) -> dict[str, Tensor]:
    """One update of on-policy distillation. Returns the statistics.

    The rollout is the student's own, logp_teacher (B, T) the teacher's log-probabilities of its tokens. `temperature`: the
    one the rollout was sampled with.
    """
    disable_dropout(student)  # with dropout its log-probabilities are not those that it sampled with
    logp = completion_logps(student, rollout, temperature=temperature)
    loss, stats = on_policy_loss(logp, logp_teacher, rollout.mask, mode=mode)
    return stats | {"grad_norm": update(loss, optimizer, max_norm=max_norm)}
