"""Reward models: a scalar head on the last token, trained on comparisons (Bradley-Terry, Plackett-Luce)."""

import copy
from itertools import combinations

import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification

from .equations import implements
from .forward import hidden_states
from .models import ScalarHead, backbone, disable_dropout
from .optim import update
from .tensors import as_float, check_no_nan, check_shapes, last_index


def _smoothed(gap, margin, label_smoothing):
    """Both directions of -log sigmoid(gap - margin): the margin is asked of whichever answer is called better (F3)."""
    return -(1 - label_smoothing) * F.logsigmoid(gap - margin) - label_smoothing * F.logsigmoid(-gap - margin)


@implements("eq:rewardmodeling1", "eq:rewardmodelingmargin")
def pairwise_loss(chosen, rejected, *, margin=None, label_smoothing=0.0, center=0.0, denominator=None):
    """-log sigmoid(r_c - r_r - margin), mean over pairs -> (loss, stats). All (B,); margin may be a number.

    A margin *raises* the loss. label_smoothing mixes both directions. center adds center * mean((r_c + r_r)^2), the
    only part that sees a constant shift (F3, C12). Accuracy counts r_c > r_r strictly: a tie is wrong (F5).
    denominator: the pairs of the whole optimizer step, where this batch is a part of it.
    ValueError on unequal shapes, on NaN, on an empty batch.

    >>> round(pairwise_loss(torch.tensor([1.5]), torch.tensor([0.5]))[0].item(), 4)  # log(1 + 1/e)
    0.3133
    """
    check_shapes(chosen=chosen, rejected=rejected)
    check_no_nan(chosen=chosen, rejected=rejected)
    if chosen.dim() != 1 or not len(chosen):
        raise ValueError(f"chosen and rejected are {tuple(chosen.shape)}; give one score an answer, (B,), B >= 1")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing={label_smoothing}: give the share of flipped labels, from 0 to 1")
    chosen, rejected = as_float(chosen), as_float(rejected)
    shift = torch.as_tensor(0.0 if margin is None else margin, dtype=chosen.dtype, device=chosen.device)
    if shift.dim():
        check_shapes(margin=shift, chosen=chosen)
    check_no_nan(margin=shift)
    pairs = len(chosen) if denominator is None else denominator
    loss = _smoothed(chosen - rejected, shift, label_smoothing).sum() / pairs
    if center:
        loss = loss + center * (chosen + rejected).square().sum() / pairs
    accuracy = (chosen > rejected).float().mean()
    named = {"loss": loss, "accuracy": accuracy, "margin": (chosen - rejected).mean()}
    return loss, {k: x.detach() for k, x in (named | {"chosen": chosen.mean(), "rejected": rejected.mean()}).items()}


def rating_loss(score, rating):
    """1/2 (r - rating)^2, mean over rows -> (loss, stats): regression on scalar ratings. Both (B,); rating detached.

    Unlike comparisons it fixes the reward's zero and scale, and takes in every rater's own: centre the ratings a rater
    before mixing raters. ValueError on unequal shapes, a NaN, no rows.

    >>> rating_loss(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 3.0]))[0].item()
    0.25
    """
    check_shapes(score=score, rating=rating)
    check_no_nan(score=score, rating=rating)
    if score.dim() != 1 or not len(score):
        raise ValueError(f"score and rating are {tuple(score.shape)}; give one number an answer, (B,), B >= 1")
    gap = as_float(score) - rating.detach()
    loss = 0.5 * gap.square().mean()
    return loss, {"loss": loss.detach(), "bias": gap.detach().mean(), "error": gap.detach().abs().mean()}


def _in_order(scores, ranking):
    """Scores (B, K) put in the order of ranking (B, K), best first."""
    check_shapes(scores=scores, ranking=ranking)
    check_no_nan(scores=scores)
    if scores.dim() != 2 or scores.shape[1] < 2 or not len(scores):
        raise ValueError(f"scores {tuple(scores.shape)}: give (B, K), K >= 2 answers a prompt")
    if not torch.equal(ranking.sort(1)[0], torch.arange(scores.shape[1], device=ranking.device).expand(scores.shape)):
        raise ValueError(f"ranking {tuple(ranking.shape)}; each row holds 0 to {scores.shape[1] - 1} once, best first")
    return as_float(scores).gather(1, ranking)


@implements("eq:kwise_rm")
def plackett_luce_loss(scores, ranking):
    """-sum_k log(exp r_(k) / sum_{j >= k} exp r_(j)), mean over rows -> (loss, stats).

    scores (B, K); ranking (B, K): each row's column numbers, best first. With K = 2 it is Bradley-Terry (F4).
    ValueError on a ranking that is none, on K = 1, on a NaN.

    >>> round(plackett_luce_loss(torch.zeros(1, 3), torch.tensor([[2, 0, 1]]))[0].item(), 4)  # log 3 + log 2
    1.7918
    """
    ordered = _in_order(scores, ranking)
    rest = ordered.flip(1).logcumsumexp(1).flip(1)
    loss = (rest - ordered)[:, :-1].sum(1).mean()  # the last one left is chosen for certain
    top = (ordered[:, :1] > ordered[:, 1:]).all(1).float().mean()
    return loss, {"loss": loss.detach(), "accuracy": top}


@implements("eq:rewardmodelinginstructgpt")
def all_pairs_loss(scores, ranking):
    """All K-choose-2 pairs of a prompt, averaged within the prompt first, then over prompts (F4) -> (loss, stats).

    >>> round(all_pairs_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0, 1]]))[0].item(), 4)  # one pair: log(1 + 1/e)
    0.3133
    """
    ordered = _in_order(scores, ranking)
    better, worse = zip(*combinations(range(ordered.shape[1]), 2), strict=True)
    return pairwise_loss(ordered[:, better].flatten(), ordered[:, worse].flatten())  # every prompt has as many pairs


class RewardModel(torch.nn.Module):
    """A copy of a causal language model's trunk and a scalar head without bias, read at the last real token.

    Saved in the layout of transformers' `...ForSequenceClassification`, so it loads there too; but that class guesses
    the last token from pad ids, and reads another one where pad is EOS (F1). Dropout is off.
    """

    def __init__(self, model, weight=None):
        super().__init__()
        trunk = copy.deepcopy(backbone(model))  # the policy is not to move with its judge
        config = copy.deepcopy(trunk.config)
        config.num_labels = 1
        with torch.device("meta"):  # the shell only gives names to the weights; its own are never made
            shell = AutoModelForSequenceClassification.from_config(config)
        if not hasattr(shell, "score"):
            raise ValueError(f"{type(shell).__name__} has no `score` head; give a decoder-only model (GPT-2, Llama)")
        setattr(shell, shell.base_model_prefix, trunk)
        shell.score = ScalarHead(config.hidden_size).to(next(trunk.parameters()).device)
        if weight is not None:
            shell.score.weight.data.copy_(weight.reshape(1, -1))
        self.model = disable_dropout(shell)
        self.eval()

    @property
    def base_model(self):
        """The trunk, for `models.backbone`."""
        return self.model.base_model

    def forward(self, ids, attention):
        """(B, L), (B, L) -> (B,) scores, float32; what follows a row's last real token changes nothing (C10, F7)."""
        return self.model.score(last_state(self.model, ids, attention))

    def save_pretrained(self, path):
        """Write config.json and model.safetensors into the folder `path`."""
        self.model.save_pretrained(path)

    @classmethod
    def from_pretrained(cls, path):
        """A reward model as it was saved; OSError if there is none at `path`."""
        shell = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32)
        return cls(shell.base_model, shell.score.weight.detach())


def last_state(model, ids, attention):
    """(B, H) final hidden state at each row's last real token, wherever its padding is (F1)."""
    return hidden_states(model, ids, attention)[torch.arange(len(ids), device=ids.device), last_index(attention)]


@torch.no_grad()
def last_states(model, ids, attention, *, batch=64):
    """`last_state` of many rows, without gradient, `batch` at a time -> (N, H) float32: what `fit_head` works on."""
    parts = [last_state(model, i, a) for i, a in zip(ids.split(batch), attention.split(batch), strict=True)]
    return as_float(torch.cat(parts))


def fit_head(chosen, rejected, *, margin=0.0, label_smoothing=0.0, l2=1e-3, steps=50):
    """The best linear reward on cached states: chosen, rejected (N, H) -> weight (H,), by Newton's method in float64.

    Minimises `pairwise_loss` + l2 / 2 |w|^2, w in units of each feature's spread (separable pairs need l2 > 0).
    """
    check_shapes(chosen=chosen, rejected=rejected)
    check_no_nan(chosen=chosen, rejected=rejected)
    gap = (chosen - rejected).double()
    spread = gap.square().mean(0).sqrt().clamp(min=1e-8)
    x, e = gap / spread, label_smoothing
    w = x.new_zeros(x.shape[1])
    margin = torch.as_tensor(margin, dtype=x.dtype)

    def loss(w):
        return _smoothed(x @ w, margin, e).mean() + l2 / 2 * w @ w

    for _ in range(steps):
        up, down = torch.sigmoid(margin - x @ w), torch.sigmoid(margin + x @ w)
        slope = x.T @ (e * down - (1 - e) * up) / len(x) + l2 * w
        bend = (1 - e) * up * (1 - up) + e * down * (1 - down)
        move = torch.linalg.solve((x.T * bend) @ x / len(x) + l2 * torch.eye(len(w), dtype=x.dtype), slope)
        size = 1.0
        while loss(w - size * move) > loss(w) and size > 1e-6:  # a full Newton step may overshoot
            size /= 2
        w = w - size * move
        if slope.norm() < 1e-10:
            break
    return (w / spread).to(chosen.dtype)


def ensemble(scores):
    """Scores of M models (M, B) -> dict of (B,): mean, min (pessimistic), spread (unbiased standard deviation).

    >>> ensemble(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))["min"].tolist()
    [1.0, 0.0]
    """
    if scores.dim() != 2 or len(scores) < 2:
        raise ValueError(f"scores {tuple(scores.shape)}: give (M, B), a row for each of M >= 2 models")
    return {"mean": scores.mean(0), "min": scores.amin(0), "spread": scores.std(0)}


def uncertainty_weighted(scores, *, weight=1.0):
    """mean - weight * spread of M models' scores: (M, B) -> (B,). What the models dispute is paid less; 0 is the mean.

    spread is the standard deviation (n - 1), in the reward's units; Coste et al. use the variance. Models must agree on
    a zero: centre each one's scores first (C12). https://arxiv.org/abs/2310.02743

    >>> [round(x, 4) for x in uncertainty_weighted(torch.tensor([[1.0, 0.0], [1.0, 2.0]])).tolist()]
    [1.0, -0.4142]
    """
    if not weight >= 0:
        raise ValueError(f"weight is {weight}; give a number of at least 0 (below it, disputes would be rewarded)")
    check_no_nan(scores=scores)
    stats = ensemble(scores)
    return stats["mean"] - weight * stats["spread"]


def finish_score(score, ended, *, clip=None, missing=None, penalty=0.0):
    """Scores (B,) made ready for RL before any KL goes in (C9): clipped to +-clip, then the rows that never ended.

    Two conventions for those (C8): `missing` *replaces* the score (OpenAI: -1), `penalty` is *subtracted* (TRL).
    ended (B,) 0/1, as in a rollout.

    >>> finish_score(torch.tensor([3.0, 0.5]), torch.tensor([1, 0]), clip=1.0, missing=-1.0).tolist()
    [1.0, -1.0]
    """
    check_shapes(score=score, ended=ended)
    if missing is not None and penalty:
        raise ValueError(f"missing={missing} and penalty={penalty}; one replaces the score, one lowers it: give one")
    score = score if clip is None else score.clamp(-clip, clip)
    return torch.where(ended.bool(), score, score - penalty if missing is None else torch.full_like(score, missing))


def step(model, optimizer, batch, *, max_norm=1.0, **settings):
    """One reward model update -> stats. batch: ids, attention (2B, L), the chosen rows first (G10)."""
    chosen, rejected = model(batch["ids"], batch["attention"]).chunk(2)
    loss, stats = pairwise_loss(chosen, rejected, **settings)
    return stats | {"grad_norm": update(loss, optimizer, max_norm=max_norm)}
