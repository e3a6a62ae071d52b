"""Rewards below the whole answer: outcome models (one label for all its tokens) and process models (a label a step)."""

import torch
import torch.nn.functional as F

from .aggregate import aggregate
from .equations import implements
from .tensors import as_float, check_mask, check_shapes, last_index

IGNORE = -100


def _binary(logits, target, mask, mode):
    """Binary cross-entropy on the mask (B, T), reduced, and the usual stats; a logit of 0 says 'wrong'."""
    logits, m = check_mask(logits, mask, "logits")
    loss = aggregate(F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none"), m, mode)
    hit = ((logits.detach() > 0) == (target > 0.5)).float() * m
    return loss, {"loss": loss.detach(), "accuracy": hit.sum() / m.sum(), "labels": m.sum()}


@implements("eq:orm_token_loss")
def outcome_loss(logits, label, mask):
    """Outcome model: every completion token predicts the answer's one outcome -> (loss, stats).

    logits, mask (B, T); label (B,) 0/1. Mean within a row, then over rows, as in the equation; a mean over all tokens
    of the batch would let long answers count for more (F8, K37). ValueError on shapes, on labels other than 0 and 1, on
    an empty mask. https://arxiv.org/abs/2110.14168

    >>> logits, mask = torch.tensor([[0.0, 0.0], [2.0, 9.0]]), torch.tensor([[1, 1], [1, 0]])
    >>> round(outcome_loss(logits, torch.tensor([1, 0]), mask)[0].item(), 4)  # (log 2 + log(1 + e^2)) / 2
    1.41
    """
    if label.dim() != 1 or label.shape[0] != logits.shape[0]:
        raise ValueError(f"label {tuple(label.shape)} for logits {tuple(logits.shape)}; give one label a row, (B,)")
    if not ((label == 0) | (label == 1)).all():
        raise ValueError(f"labels {label.unique().tolist()[:8]}: give 0 or 1")
    return _binary(logits, label[:, None].expand(logits.shape), mask, "sequence_mean")


@implements("eq:prm_loss")
def process_loss(logits, labels):
    """Process model: binary cross-entropy at step ends, mean over all labelled steps -> (loss, stats).

    logits, labels (B, T); labels 0/1 at the last token of a step, -100 elsewhere. ValueError on other labels, or none.
    https://arxiv.org/abs/2305.20050

    >>> loss, _ = process_loss(torch.tensor([[0.0, 9.0, 2.0]]), torch.tensor([[1, -100, 0]]))
    >>> round(loss.item(), 4)  # (log 2 + log(1 + e^2)) / 2
    1.41
    """
    check_shapes(logits=logits, labels=labels)
    mask = labels != IGNORE
    if (mask & (labels != 0) & (labels != 1)).any():
        raise ValueError(f"labels {labels.unique().tolist()[:8]}: give 0 or 1 at step ends and {IGNORE} elsewhere")
    return _binary(logits, torch.where(mask, labels, 0), mask, "token_mean")


def answer_score(logits, mask, how="min"):
    """One score an answer from its steps' probabilities: min, mean, product (falls with length) or last -> (B,).

    logits, mask (B, T), mask 1 at the step ends; every row needs one.

    >>> answer_score(torch.tensor([[0.0, 9.0, 0.0]]), torch.tensor([[1, 0, 1]]), "product").item()  # 1/2 * 1/2
    0.25
    """
    logits, m = check_mask(logits, mask, "logits")
    last = last_index(m)  # also refuses rows without steps
    prob, on = torch.sigmoid(as_float(logits)), m.bool()
    if how == "min":
        return torch.where(on, prob, 1.0).amin(1)
    if how == "mean":
        return (prob * m).sum(1) / m.sum(1)
    if how == "product":
        return torch.where(on, F.logsigmoid(logits), 0.0).sum(1).exp()
    if how == "last":
        return prob.gather(1, last[:, None])[:, 0]
    raise ValueError(f"how={how!r}: give 'min', 'mean', 'product' or 'last'")
