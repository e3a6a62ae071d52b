"""Reward models: a scalar head on the last token, trained on comparisons (Bradley-Terry, Plackett-Luce) or ratings.

Scores are one number per answer. Every loss takes a `denominator`: the pairs, rankings or ratings of the *whole* optimizer
step, where this batch is a part of it. An empty batch raises ValueError unless there is a denominator.
"""

import copy
from itertools import combinations
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from .aggregate import mean_over_rows
from .equations import implements
from .families import check_causal
from .forward import hidden_states
from .models import ScalarHead, backbone, disable_dropout
from .optim import update
from .tensors import as_float, check_answers, check_no_nan, check_shapes, check_share, last_index

LossAndStats = tuple[Tensor, dict[str, Tensor]]


@implements("eq:rewardmodeling1", "eq:rewardmodelingmargin")
def pairwise_loss(
    chosen: Tensor, rejected: Tensor, *, margin: float | Tensor | None = None, label_smoothing: float = 0.0,
    center: float = 0.0, denominator: float | None = None,
) -> LossAndStats:
    """Bradley-Terry: -log sigmoid(r_chosen - r_rejected - margin), averaged over pairs.

    chosen, rejected (B,); margin (B,) or a number: how far apart the two should be, so that it *raises* the loss. With
    `label_smoothing` e, a share e of the labels is taken to be flipped; the margin is asked of whichever answer is called
    better. Only differences are seen: a shift of all scores costs nothing, unless `center` > 0 adds center times the mean
    of (r_chosen + r_rejected)^2.

    Returns the loss and the statistics `accuracy` (a tie counts as a mistake), `margin`, `chosen`, `rejected`: means of this
    batch. Raises ValueError for shapes that differ, a NaN, a label_smoothing outside 0 to 1. Equations
    `eq:rewardmodeling1`, `eq:rewardmodelingmargin`.

    >>> round(pairwise_loss(torch.tensor([1.5]), torch.tensor([0.5]))[0].item(), 4)  # log(1 + 1/e)
    0.3133
    """
    check_answers(chosen=chosen, rejected=rejected, denominator=denominator)
    check_share(label_smoothing=label_smoothing)
    chosen, rejected = as_float(chosen), as_float(rejected)
    margin = torch.as_tensor(0.0 if margin is None else margin, dtype=chosen.dtype, device=chosen.device)
    if margin.dim():
        check_shapes(margin=margin, chosen=chosen)
    check_no_nan(margin=margin)

    r = chosen - rejected
    losses = -(1 - label_smoothing) * F.logsigmoid(r - margin) - label_smoothing * F.logsigmoid(-r - margin)
    loss = mean_over_rows(losses, denominator=denominator)
    if center:
        loss = loss + center * mean_over_rows((chosen + rejected).square(), denominator=denominator)
    stats = {"accuracy": (chosen > rejected).float(), "margin": r, "chosen": chosen, "rejected": rejected}
    return loss, {"loss": loss.detach()} | row_means(stats)


def rating_loss(score: Tensor, rating: Tensor, *, denominator: float | None = None) -> LossAndStats:
    """Regression on ratings: half the squared error, averaged over answers.

    score, rating (B,); the rating is detached. Unlike comparisons, ratings fix the zero and the scale of the reward, and
    with them those of every single rater: centre the ratings per rater before you mix raters.

    Returns the loss and the statistics `bias` and `error`, the mean and the mean absolute difference. Raises ValueError for
    shapes that differ and for a NaN.

    >>> rating_loss(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 3.0]))[0].item()
    0.25
    """
    check_answers(score=score, rating=rating, denominator=denominator)
    error = as_float(score) - rating.detach()
    loss = 0.5 * mean_over_rows(error.square(), denominator=denominator)
    return loss, {"loss": loss.detach()} | row_means({"bias": error, "error": error.abs()})


@implements("eq:kwise_rm")
def plackett_luce_loss(scores: Tensor, ranking: Tensor, *, denominator: float | None = None) -> LossAndStats:
    """Plackett-Luce: the best is chosen from all, the next from the rest, and so on. -sum_k log softmax over what is left.

    scores (B, K); ranking (B, K): the column numbers of each row, best first. Per row the loss is the sum over ranks of
    -log(exp r_(k) / sum_{j >= k} exp r_(j)); with K = 2 it is Bradley-Terry's.

    Returns the loss, averaged over rows, and `accuracy`: how often the best has the highest score. Raises ValueError for
    rows that are no ranking, for K below 2, for a NaN. Equation `eq:kwise_rm`.

    >>> round(plackett_luce_loss(torch.zeros(1, 3), torch.tensor([[2, 0, 1]]))[0].item(), 4)  # log 3 + log 2
    1.7918
    """
    check_ranking(scores, ranking, denominator)
    r = as_float(scores).gather(1, ranking)  # best first
    log_sum_of_the_rest = r.flip(1).logcumsumexp(1).flip(1)
    losses = (log_sum_of_the_rest - r)[:, :-1].sum(1)  # the last one left is chosen for certain
    loss = mean_over_rows(losses, denominator=denominator)
    best_on_top = (r[:, :1] > r[:, 1:]).all(1).float()
    return loss, {"loss": loss.detach()} | row_means({"accuracy": best_on_top})


@implements("eq:rewardmodelinginstructgpt")
def all_pairs_loss(scores: Tensor, ranking: Tensor, *, denominator: float | None = None) -> LossAndStats:
    """A ranking taken as all its pairs: `pairwise_loss`, averaged within a prompt first, then over prompts.

    scores, ranking (B, K) as in `plackett_luce_loss`; there are K (K - 1) / 2 pairs per prompt. Returns the loss and the
    statistics of the pairs. Raises ValueError as `plackett_luce_loss`. Equation `eq:rewardmodelinginstructgpt`.

    >>> round(all_pairs_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0, 1]]))[0].item(), 4)  # one pair: log(1 + 1/e)
    0.3133
    """
    check_ranking(scores, ranking, denominator)
    r = as_float(scores).gather(1, ranking)  # best first
    better, worse = zip(*combinations(range(r.shape[1]), 2), strict=True)
    pairs = None if denominator is None else denominator * len(better)  # every prompt has as many
    return pairwise_loss(r[:, better].flatten(), r[:, worse].flatten(), denominator=pairs)


def check_ranking(scores: Tensor, ranking: Tensor, denominator: float | None = None) -> None:
    """Raise ValueError unless scores is (B, K), K >= 2, and each row of ranking (B, K) holds 0 to K - 1 once."""
    check_shapes(scores=scores, ranking=ranking)
    check_no_nan(scores=scores)
    if scores.dim() != 2 or scores.shape[1] < 2 or (not len(scores) and denominator is None):
        raise ValueError(f"scores {tuple(scores.shape)}: give (B, K), K >= 2 answers per prompt")
    if not torch.equal(ranking.sort(1)[0], torch.arange(scores.shape[1], device=ranking.device).expand(scores.shape)):
        raise ValueError(f"ranking {tuple(ranking.shape)}; each row holds 0 to {scores.shape[1] - 1} once, best first")


def row_means(per_row: dict[str, Tensor]) -> dict[str, Tensor]:
    """Statistics of a batch: the mean of each (B,), detached; 0 where B is 0."""
    return {name: mean_over_rows(x.detach(), denominator=max(len(x), 1)) for name, x in per_row.items()}


class RewardModel(nn.Module):
    """A copy of a language model's trunk and a scalar head without bias, read at the last real token. Dropout is off.

    It is saved in the layout of transformers' `...ForSequenceClassification`, and so loads there too. But that class
    guesses the last token from pad ids, and reads another one where padding is the end token.
    """

    def __init__(self, model: nn.Module, weight: Tensor | None = None):
        super().__init__()
        trunk = copy.deepcopy(backbone(model))  # the policy must not move with its judge
        shell = classifier_of(trunk)
        setattr(shell, shell.base_model_prefix, trunk)
        shell.score = ScalarHead(shell.score.in_features).to(next(trunk.parameters()).device)
        if weight is not None:
            shell.score.weight.data.copy_(weight.reshape(1, -1))
        self.model = disable_dropout(shell)
        self.eval()

    @property
    def base_model(self) -> nn.Module:
        """The trunk, for `models.backbone`."""
        return self.model.base_model

    def forward(self, ids: Tensor, attention: Tensor) -> Tensor:
        """Scores (B,) of ids and attention (B, L), float32. What follows a row's last real token changes nothing."""
        return self.model.score(last_state(self.model, ids, attention))

    def save_pretrained(self, path: str | Path) -> None:
        """Write config.json and model.safetensors into the folder `path`."""
        self.model.save_pretrained(path)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "RewardModel":
        """A reward model as it was saved.

        Raises OSError if there is none at `path`, and ValueError for a classifier that is no reward model: an encoder, several
        labels, a head that is more than a line.
        """
        config = AutoConfig.from_pretrained(path)
        if config.num_labels != 1:
            kinds = ", ".join(config.architectures or [type(config).__name__])
            raise ValueError(f"{path} holds {kinds} with {config.num_labels} labels; a reward model has one label, a number")
        try:
            shell = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32)
        except ValueError as error:
            raise ValueError(f"{path} holds {type(config).__name__}, which transformers does not load as a classifier") from error
        check_head(shell)
        check_causal(shell.base_model)
        return cls(shell.base_model, shell.score.weight.detach())


def classifier_of(trunk: nn.Module) -> nn.Module:
    """Transformers' classifier around a trunk, without weights: its head and names. ValueError where the family has none."""
    config = copy.deepcopy(trunk.config)
    config.num_labels = 1
    try:
        with torch.device("meta"):  # the shell only gives names to the weights; its own are never made
            shell = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise ValueError(f"{type(trunk).__name__}: transformers has no class for sequence classification of this family, in which "
                         "a reward model is saved; give another (GPT-2, Llama, Qwen, Gemma, Mistral, Phi, OPT)") from error
    check_head(shell)
    return shell


def check_head(shell: nn.Module) -> None:
    """Raise ValueError unless a classifier reads one position by a linear head without bias, named `score`."""
    head = getattr(shell, "score", None)
    if type(head) is not nn.Linear or head.bias is not None:
        raise ValueError(f"{type(shell).__name__} has no plain `score` head, as decoder-only models have it; give a decoder-only "
                         "reward model (GPT-2, Llama, Qwen, Gemma, Mistral, Phi, OPT)")


def last_state(model: nn.Module, ids: Tensor, attention: Tensor) -> Tensor:
    """Last hidden state at each row's last real token, wherever its padding is: (B, L), (B, L) -> (B, H)."""
    return hidden_states(model, ids, attention)[torch.arange(len(ids), device=ids.device), last_index(attention)]


@torch.no_grad()
def last_states(model: nn.Module, ids: Tensor, attention: Tensor, *, batch: int = 64) -> Tensor:
    """`last_state` of many rows, without gradient, `batch` at a time: (N, L), (N, L) -> (N, H) float32, for `fit_head`."""
    parts = [last_state(model, i, a) for i, a in zip(ids.split(batch), attention.split(batch), strict=True)]
    return as_float(torch.cat(parts))


def fit_head(
    chosen: Tensor, rejected: Tensor, *, margin: float | Tensor = 0.0, label_smoothing: float = 0.0, l2: float = 1e-3,
    steps: int = 50,
) -> Tensor:
    """The best linear reward on stored hidden states, by Newton's method in float64.

    chosen, rejected (N, H), as `last_states` gives them. It minimises `pairwise_loss` + l2 / 2 |w|^2, with w in units of
    each feature's spread; pairs that a line can separate need l2 > 0, or w grows for ever. Returns the weight (H,).
    """
    check_shapes(chosen=chosen, rejected=rejected)
    check_no_nan(chosen=chosen, rejected=rejected)
    difference = (chosen - rejected).double()
    spread = difference.square().mean(0).sqrt().clamp(min=1e-8)
    x, e = difference / spread, label_smoothing
    w = x.new_zeros(x.shape[1])
    margin = torch.as_tensor(margin, dtype=x.dtype)

    def loss(w: Tensor) -> Tensor:
        r = x @ w
        losses = -(1 - e) * F.logsigmoid(r - margin) - e * F.logsigmoid(-r - margin)
        return losses.mean() + l2 / 2 * w @ w

    for _ in range(steps):
        p_chosen, p_rejected = torch.sigmoid(margin - x @ w), torch.sigmoid(margin + x @ w)
        gradient = x.T @ (e * p_rejected - (1 - e) * p_chosen) / len(x) + l2 * w
        curvature = (1 - e) * p_chosen * (1 - p_chosen) + e * p_rejected * (1 - p_rejected)
        hessian = (x.T * curvature) @ x / len(x) + l2 * torch.eye(len(w), dtype=x.dtype)
        direction = torch.linalg.solve(hessian, gradient)
        size = 1.0
        while loss(w - size * direction) > loss(w) and size > 1e-6:  # a full Newton step may overshoot
            size /= 2
        w = w - size * direction
        if gradient.norm() < 1e-10:
            break
    return (w / spread).to(chosen.dtype)


def ensemble(scores: Tensor) -> dict[str, Tensor]:
    """Scores of M models on B answers, (M, B) -> `mean`, `min` (the pessimist's) and `spread`, (B,) each.

    The spread is the standard deviation over models (n - 1). Raises ValueError for fewer than two models.

    >>> ensemble(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))["min"].tolist()
    [1.0, 0.0]
    """
    if scores.dim() != 2 or len(scores) < 2:
        raise ValueError(f"scores {tuple(scores.shape)}: give (M, B), a row for each of M >= 2 models")
    return {"mean": scores.mean(0), "min": scores.amin(0), "spread": scores.std(0)}


def uncertainty_weighted(scores: Tensor, *, weight: float = 1.0) -> Tensor:
    """Mean minus weight times spread of M models' scores: what the models dispute is paid less. (M, B) -> (B,).

    The spread is a standard deviation, in the reward's units; Coste et al. use the variance. The models must agree on a
    zero: centre the scores of each one first. Raises ValueError for a weight below 0 and for a NaN.
    Coste et al. 2023, https://arxiv.org/abs/2310.02743

    >>> [round(x, 4) for x in uncertainty_weighted(torch.tensor([[1.0, 0.0], [1.0, 2.0]])).tolist()]
    [1.0, -0.4142]
    """
    if not weight >= 0:
        raise ValueError(f"weight is {weight}; give a number of at least 0 (below it, disputes would be rewarded)")
    check_no_nan(scores=scores)
    stats = ensemble(scores)
    return stats["mean"] - weight * stats["spread"]


def finish_score(
    score: Tensor, ended: Tensor, *, clip: float | None = None, missing: float | None = None, penalty: float = 0.0,
) -> Tensor:
    """Scores made ready for RL, before any KL goes in: clipped to [-clip, clip], and lowered where an answer never ended.

    score (B,); ended (B,), 0 or 1, as in a rollout. For answers without an end there are two conventions: `missing`
    *replaces* the score (OpenAI: -1), `penalty` is *subtracted* (TRL). Returns (B,). Raises ValueError if both are given.

    >>> finish_score(torch.tensor([3.0, 0.5]), torch.tensor([1, 0]), clip=1.0, missing=-1.0).tolist()
    [1.0, -1.0]
    """
    check_shapes(score=score, ended=ended)
    if missing is not None and penalty:
        raise ValueError(f"missing={missing} and penalty={penalty}; one replaces the score, one lowers it: give one")
    score = score if clip is None else score.clamp(-clip, clip)
    return torch.where(ended.bool(), score, score - penalty if missing is None else torch.full_like(score, missing))


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], *, max_norm: float = 1.0, **settings,
) -> dict[str, Tensor]:
    """One update of a reward model. batch: `ids`, `attention`, (2B, L) each, all chosen rows first, then the rejected.

    Both halves go through the model together, so that both see it in the same state. `settings` go to `pairwise_loss`.
    Returns the loss's statistics and `grad_norm`.
    """
    chosen, rejected = model(batch["ids"], batch["attention"]).chunk(2)
    loss, stats = pairwise_loss(chosen, rejected, **settings)
    return stats | {"grad_norm": update(loss, optimizer, max_norm=max_norm)}
