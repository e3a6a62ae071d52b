"""Rewards below the whole answer: outcome models (one label for all its tokens), process models (one label per step)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .aggregate import aggregate
from .equations import implements
from .tensors import as_float, check_mask, check_shapes, last_index

IGNORE = -100  # the label of a token that ends no step
SCORE_MODES = ("min", "mean", "product", "last")


@implements("eq:orm_token_loss")
def outcome_loss(
    logits: Tensor, label: Tensor, mask: Tensor, *, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Outcome model: every token of an answer predicts whether the whole answer is right. Binary cross-entropy.

    logits, mask (B, T); label (B,), 0 or 1. The mean is taken within an answer, then over answers, as in the equation; one
    mean over all tokens of the batch would let long answers count for more. denominator: the answers of the whole step.

    Returns the loss and the statistics `accuracy` (per token) and `labels`, the number of tokens. Raises ValueError for
    shapes that do not fit, for other labels, for an empty mask and a NaN on it. Equation `eq:orm_token_loss`;
    Cobbe et al. 2021, https://arxiv.org/abs/2110.14168

    >>> logits, mask = torch.tensor([[0.0, 0.0], [2.0, 9.0]]), torch.tensor([[1, 1], [1, 0]])
    >>> round(outcome_loss(logits, torch.tensor([1, 0]), mask)[0].item(), 4)  # (log 2 + log(1 + e^2)) / 2
    1.41
    """
    if label.dim() != 1 or label.shape[0] != logits.shape[0]:
        raise ValueError(f"label {tuple(label.shape)} for logits {tuple(logits.shape)}; give one label per row, (B,)")
    if not ((label == 0) | (label == 1)).all():
        raise ValueError(f"labels {label.unique().tolist()[:8]}: give 0 or 1")
    logits, m = check_mask(logits, mask, "logits")
    target = label[:, None].expand(logits.shape).to(logits.dtype)

    losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = aggregate(losses, m, "sequence_mean", denominator=denominator)
    return loss, {"loss": loss.detach()} | label_stats(logits, target, m)


@implements("eq:prm_loss")
def process_loss(
    logits: Tensor, labels: Tensor, *, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Process model: the last token of every step predicts whether the step is right. Binary cross-entropy.

    logits, labels (B, T); labels 0 or 1 at the last token of a step, -100 elsewhere. The mean is over all labelled steps.
    denominator: the labelled steps of the whole optimizer step.

    Returns the loss and the statistics `accuracy` and `labels`, the number of steps. Raises ValueError for shapes that
    differ, for other labels, for a batch without any. Equation `eq:prm_loss`; Lightman et al. 2023,
    https://arxiv.org/abs/2305.20050

    >>> loss, _ = process_loss(torch.tensor([[0.0, 9.0, 2.0]]), torch.tensor([[1, -100, 0]]))
    >>> round(loss.item(), 4)  # (log 2 + log(1 + e^2)) / 2
    1.41
    """
    check_shapes(logits=logits, labels=labels)
    mask = labels != IGNORE
    if (mask & (labels != 0) & (labels != 1)).any():
        raise ValueError(f"labels {labels.unique().tolist()[:8]}: give 0 or 1 at step ends and {IGNORE} elsewhere")
    logits, m = check_mask(logits, mask, "logits")
    target = torch.where(mask, labels, 0).to(logits.dtype)

    losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = aggregate(losses, m, "token_mean", denominator=denominator)
    return loss, {"loss": loss.detach()} | label_stats(logits, target, m)


def label_stats(logits: Tensor, target: Tensor, m: Tensor) -> dict[str, Tensor]:
    """Share of labels guessed right, and their number; all (B, T). A logit of 0 guesses "wrong"."""
    right = ((logits.detach() > 0) == (target > 0.5)).float() * m
    return {"accuracy": right.sum() / m.sum().clamp(min=1), "labels": m.sum()}


def answer_score(logits: Tensor, mask: Tensor, mode: str = "min") -> Tensor:
    """One score per answer, from the probabilities of its steps: their minimum, mean, product, or the last one.

    logits, mask (B, T), with mask 1 at the step ends. A product falls with every further step. Returns (B,), from 0 to 1.
    Raises ValueError for another mode and for a row without steps.

    >>> answer_score(torch.tensor([[0.0, 9.0, 0.0]]), torch.tensor([[1, 0, 1]]), "product").item()  # 1/2 * 1/2
    0.25
    """
    if mode not in SCORE_MODES:
        raise ValueError(f"mode is {mode!r}; choose one of {', '.join(SCORE_MODES)} (such as 'product')")
    logits, m = check_mask(logits, mask, "logits")
    last = last_index(m)  # also refuses rows without steps
    probability, is_step = torch.sigmoid(as_float(logits)), m.bool()
    if mode == "min":
        return torch.where(is_step, probability, 1.0).amin(1)
    if mode == "mean":
        return (probability * m).sum(1) / m.sum(1)
    if mode == "product":
        return torch.where(is_step, F.logsigmoid(logits), 0.0).sum(1).exp()
    return probability.gather(1, last[:, None])[:, 0]
