"""ILQL: Q-learning from a fixed set of texts, without ever asking for the value of a token that nobody wrote.

V is an upper expectile of Q over the tokens in the data. When sampling, the policy is tilted by exp(eta (Q - V)).
Snell et al. 2022, https://arxiv.org/abs/2206.11871
"""

import copy

import torch
from torch import Tensor, nn

from .advantages import gae
from .aggregate import aggregate
from .forward import check_ids, hidden_states
from .models import ScalarHead, backbone, disable_dropout, hidden_size, unwrap
from .optim import update
from .tensors import as_float, check_mask, check_no_nan, check_shapes


def expectile(diff: Tensor, tau: float) -> Tensor:
    """The expectile loss |tau - 1[diff < 0]| diff^2: a square that weighs errors above and below differently.

    diff (any shape) is target minus estimate. tau = 1/2 gives half a square and the mean; as tau nears 1, the estimate
    nears the best outcome. Returns the shape of diff. Raises ValueError unless 0 < tau < 1.

    >>> expectile(torch.tensor([2.0, -2.0]), 0.75).tolist()
    [3.0, 1.0]
    """
    if not 0 < tau < 1:
        raise ValueError(f"tau is {tau}; give a number between 0 and 1, 1/2 for the mean, above it for optimism")
    square = diff ** 2  # `where` of two plain numbers would be float32, in a float64 proof too
    return torch.where(diff < 0, (1 - tau) * square, tau * square)


def ilql_loss(
    q: Tensor, q_target: Tensor, value: Tensor, ids: Tensor, reward: Tensor, mask: Tensor, *, tau: float = 0.7,
    gamma: float = 1.0, alpha: float = 0.1, denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The Q loss plus the V loss plus alpha times a conservative term, each a mean over tokens.

    q, q_target (B, T, V): Q of every token that could be written at a place, and its slow copy; value (B, T): V *before*
    token t; ids, reward, mask (B, T): what was written and what it earned. Per token, with s_t the text before token t:

        Q              1/2 (r_t + gamma V(s_(t+1)) - Q(s_t, a_t))^2
        V              expectile of Q_target(s_t, a_t) - V(s_t)
        conservative   -log softmax(Q(s_t, .))(a_t): it pushes down what nobody wrote

    V is 0 after the last token; gaps in the mask are skipped; the target of each term is detached. `denominator`: the
    tokens of the whole optimizer step, where this batch is a part of it.

    Returns the loss and the statistics `loss`, `q_loss`, `v_loss`, `cql_loss` and the mean `q` and `value`. Raises
    ValueError for shapes that do not fit, a mask that is empty everywhere, a NaN where it is 1, a tau outside 0 to 1.

    >>> q, ones = torch.tensor([[[0.0, 1.0], [2.0, 0.0]]]), torch.ones(1, 2)
    >>> value, ids, reward = torch.tensor([[0.5, 1.0]]), torch.tensor([[1, 0]]), torch.tensor([[0.0, 3.0]])
    >>> loss, stats = ilql_loss(q, q, value, ids, reward, ones, tau=0.7, alpha=0.0)
    >>> [round(stats[k].item(), 4) for k in ("q_loss", "v_loss")]  # 1/2 (0, 1), 0.7 (0.25, 1), means
    [0.25, 0.4375]
    """
    check_ilql(q, q_target, value, ids, reward, mask, alpha)
    q = torch.where(mask.bool()[..., None], as_float(q), 0)  # before the softmax: what stands off the mask has no gradient
    q_taken, _ = check_mask(q_of(q, ids, mask), mask, "q")
    q_slow, _ = check_mask(q_of(q_target.detach(), ids, mask), mask, "q_target")
    value, m = check_mask(value, mask, "value")

    _, target = gae(reward, value, mask, gamma=gamma, lam=0.0)  # r_t + gamma V(s_(t+1)), detached
    q_losses = 0.5 * (target - q_taken) ** 2
    v_losses = expectile(q_slow - value, tau)
    cql_losses = -q_of(q.log_softmax(-1), ids, mask)
    q_loss, v_loss, cql_loss = (
        aggregate(x, mask, "token_mean", denominator=denominator) for x in (q_losses, v_losses, cql_losses))
    loss = q_loss + v_loss + alpha * cql_loss

    stats = {"loss": loss, "q_loss": q_loss, "v_loss": v_loss, "cql_loss": cql_loss}
    stats |= {name: (x * m).sum() / m.sum().clamp(min=1) for name, x in (("q", q_taken), ("value", value))}
    return loss, {name: x.detach() for name, x in stats.items()}


def q_of(q: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """q of the tokens that were written: (B, T, V), (B, T) -> (B, T). Ids off the mask have no meaning."""
    ids = torch.where(mask.bool(), ids, 0)
    check_ids(ids, q.shape[-1])
    return q.gather(2, ids[..., None])[..., 0]


def check_ilql(
    q: Tensor, q_target: Tensor, value: Tensor, ids: Tensor, reward: Tensor, mask: Tensor, alpha: float,
) -> None:
    """Raise ValueError for shapes that do not fit and for a negative alpha."""
    check_shapes(value=value, ids=ids, reward=reward, mask=mask)
    check_shapes(q=q, q_target=q_target)
    if q.dim() != 3 or q.shape[:2] != ids.shape:
        raise ValueError(f"q {tuple(q.shape)} for ids {tuple(ids.shape)}; give (B, T, V) for (B, T)")
    if not alpha >= 0:
        raise ValueError(f"alpha is {alpha}; give a number of at least 0")


def tilted_logits(logits: Tensor, q: Tensor, value: Tensor, *, eta: float = 1.0) -> Tensor:
    """The logits to sample from: log pi + eta (Q - V). eta = 0 is the policy itself.

    logits, q (..., V); value (...). Returns (..., V). V shifts all logits of a place alike, so it changes no probability;
    it keeps the numbers small. Raises ValueError for shapes that do not fit and for a NaN.

    >>> logits, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0])
    >>> [round(x, 4) for x in tilted_logits(logits, q, torch.tensor(0.5), eta=2.0).softmax(-1).tolist()]
    [0.8808, 0.1192]
    """
    check_shapes(logits=logits, q=q)
    check_shapes(logits=logits[..., 0], value=value)
    check_no_nan(logits=logits, q=q, value=value)
    return as_float(logits).log_softmax(-1) + eta * (q - value[..., None])


class Heads(nn.Module):
    """Q, its slow copy and V, on a copy of a model's trunk. All start at exactly 0."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.trunk = disable_dropout(copy.deepcopy(backbone(model)))
        size, vocab = hidden_size(self.trunk), unwrap(model).get_input_embeddings().weight.shape[0]
        self.q, self.v = nn.Linear(size, vocab), ScalarHead(size)
        for weight in self.q.parameters():
            nn.init.zeros_(weight)
        self.q_target = copy.deepcopy(self.q).requires_grad_(False)
        self.to(next(self.trunk.parameters()).device)
        self.eval()

    def forward(self, ids: Tensor, attention: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L), (B, L) -> q, q_target (B, L, V), value (B, L); entry t is about the token at t+1."""
        hidden = hidden_states(self.trunk, ids, attention).to(self.q.weight.dtype)
        return self.q(hidden), self.q_target(hidden), self.v(hidden)

    @torch.no_grad()
    def follow(self, rate: float = 0.005) -> None:
        """Move the slow copy a little towards Q: q_target += rate * (q - q_target)."""
        for slow, fast in zip(self.q_target.parameters(), self.q.parameters(), strict=True):
            slow.lerp_(fast, rate)


def step(
    heads: Heads, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], *, rate: float = 0.005,
    max_norm: float = 1.0, **settings,
) -> dict[str, Tensor]:
    """One ILQL update. Returns the statistics.

    batch: `ids`, `attention`, `mask`, `reward`, (B, L) each, the reward on the token that earns it. `rate`: how fast the
    slow copy of Q follows. `settings` go to `ilql_loss`.
    """
    q, q_target, value = (x[:, :-1] for x in heads(batch["ids"], batch["attention"]))  # entry t judges token t+1
    ids, reward, mask = (batch[name][:, 1:] for name in ("ids", "reward", "mask"))
    loss, stats = ilql_loss(q, q_target, value, ids, reward, mask, **settings)
    grad_norm = update(loss, optimizer, max_norm=max_norm)
    heads.follow(rate)
    return stats | {"grad_norm": grad_norm}
