"""ILQL: Q-learning from a fixed set of texts, without ever asking for the value of a token that nobody wrote.

V is an upper expectile of Q over the tokens in the data; at sampling time the policy is tilted by exp(eta (Q - V)).
Snell et al. 2022, https://arxiv.org/abs/2206.11871
"""

import copy

import torch
from torch import nn

from .advantages import gae
from .aggregate import aggregate
from .forward import check_ids, hidden_states
from .models import ScalarHead, backbone, disable_dropout, unwrap
from .optim import update
from .tensors import as_float, check_mask, check_no_nan, check_shapes


def expectile(diff, tau):
    """|tau - 1[diff < 0]| diff^2, elementwise: tau = 1/2 is half a square, tau -> 1 looks at the best outcomes alone.

    diff = target - estimate, any shape. ValueError unless 0 < tau < 1.

    >>> expectile(torch.tensor([2.0, -2.0]), 0.75).tolist()
    [3.0, 1.0]
    """
    if not 0 < tau < 1:
        raise ValueError(f"tau is {tau}; give a number between 0 and 1, 1/2 for the mean, above it for optimism")
    square = diff.square()  # where() of two plain numbers would be float32, in a float64 proof too
    return torch.where(diff < 0, (1 - tau) * square, tau * square)


def _at(q, ids, mask):
    """Q of the tokens that were written: (B, T, V), (B, T) -> (B, T); ids off the mask have no meaning."""
    ids = torch.where(mask.bool(), ids, 0)
    check_ids(ids, q.shape[-1])
    return q.gather(2, ids[..., None])[..., 0]


def ilql_loss(q, q_target, value, ids, reward, mask, *, tau=0.7, gamma=1.0, alpha=0.1):
    """Q loss + V loss + alpha * conservative term, each a mean over tokens -> (loss, stats).

    Q  1/2 (r_t + gamma V(s_(t+1)) - Q(s_t, a_t))^2      V  expectile_tau(Q_target(s_t, a_t) - V(s_t))
    conservative  -log softmax(Q(s_t, .))(a_t): it pushes down what nobody wrote.
    q, q_target (B, T, V); value, ids, reward, mask (B, T); value[:, t] is V *before* token t, it is 0 after the last
    masked one, gaps are skipped (D1). The target of each is detached. ValueError on shapes, a NaN on the mask, tau.

    >>> q, one = torch.tensor([[[0.0, 1.0], [2.0, 0.0]]]), torch.ones(1, 2)
    >>> value, ids, reward = torch.tensor([[0.5, 1.0]]), torch.tensor([[1, 0]]), torch.tensor([[0.0, 3.0]])
    >>> loss, stats = ilql_loss(q, q, value, ids, reward, one, tau=0.7, alpha=0.0)
    >>> [round(stats[k].item(), 4) for k in ("q_loss", "v_loss")]  # 1/2 (0, 1), 0.7 (0.25, 1), means
    [0.25, 0.4375]
    """
    check_shapes(value=value, ids=ids, reward=reward, mask=mask)
    check_shapes(q=q, q_target=q_target)
    if q.dim() != 3 or q.shape[:2] != ids.shape:
        raise ValueError(f"q {tuple(q.shape)} for ids {tuple(ids.shape)}; give (B, T, V) for (B, T)")
    if not alpha >= 0:
        raise ValueError(f"alpha is {alpha}; give a number of at least 0")
    on = mask.bool()
    q = torch.where(on[..., None], as_float(q), 0)  # before the softmax: junk off the mask has no gradient (E11)
    taken, _ = check_mask(_at(q, ids, mask), mask, "q")
    best, _ = check_mask(_at(q_target.detach(), ids, mask), mask, "q_target")
    value, m = check_mask(value, mask, "value")
    target = gae(reward, value, mask, gamma=gamma, lam=0.0)[1]  # r + gamma * V of the next masked place
    rows = {
        "q_loss": 0.5 * (target - taken).square(),
        "v_loss": expectile(best - value, tau),
        "cql_loss": -_at(q.log_softmax(-1), ids, mask),
    }
    parts = {name: aggregate(x, mask, "token_mean") for name, x in rows.items()}
    loss = parts["q_loss"] + parts["v_loss"] + alpha * parts["cql_loss"]
    means = {name: (x.detach() * m).sum() / m.sum() for name, x in (("q", taken), ("value", value))}
    return loss, {name: x.detach() for name, x in parts.items()} | means | {"loss": loss.detach()}


def tilted_logits(logits, q, value, *, eta=1.0):
    """log pi_beta + eta (Q - V): (..., V), (..., V), (...) -> (..., V) logits to sample from; eta = 0 is pi_beta.

    V shifts all of a position's logits alike, so it changes no probability; it keeps the numbers small.

    >>> logits, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0])
    >>> [round(x, 4) for x in tilted_logits(logits, q, torch.tensor(0.5), eta=2.0).softmax(-1).tolist()]
    [0.8808, 0.1192]
    """
    check_shapes(logits=logits, q=q)
    check_shapes(logits=logits[..., 0], value=value)
    check_no_nan(logits=logits, q=q, value=value)
    return as_float(logits).log_softmax(-1) + eta * (q - value[..., None])


class Heads(nn.Module):
    """Q, its slow target and V on a trunk of their own (a copy); all start at exactly 0."""

    def __init__(self, model):
        super().__init__()
        self.trunk = disable_dropout(copy.deepcopy(backbone(model)))
        size, vocab = self.trunk.config.hidden_size, unwrap(model).get_input_embeddings().weight.shape[0]
        self.q, self.v = nn.Linear(size, vocab), ScalarHead(size)
        for weight in self.q.parameters():
            nn.init.zeros_(weight)
        self.q_target = copy.deepcopy(self.q).requires_grad_(False)
        self.to(next(self.trunk.parameters()).device)
        self.eval()

    def forward(self, ids, attention):
        """(B, L), (B, L) -> q, q_target (B, L, V), value (B, L); entry t is about the token at t+1."""
        hidden = hidden_states(self.trunk, ids, attention).to(self.q.weight.dtype)
        return self.q(hidden), self.q_target(hidden), self.v(hidden)

    @torch.no_grad()
    def follow(self, rate=0.005):
        """Move the target a little towards Q: target += rate (q - target)."""
        for slow, fast in zip(self.q_target.parameters(), self.q.parameters(), strict=True):
            slow.lerp_(fast, rate)


def step(heads, optimizer, batch, *, rate=0.005, max_norm=1.0, **settings):
    """One ILQL update -> stats. batch: ids, attention, mask, reward (B, L), the reward on the token that earns it."""
    q, slow, value = (x[:, :-1] for x in heads(batch["ids"], batch["attention"]))  # place t judges token t+1
    ids, reward, mask = (batch[name][:, 1:] for name in ("ids", "reward", "mask"))
    loss, stats = ilql_loss(q, slow, value, ids, reward, mask, **settings)
    norm = update(loss, optimizer, max_norm=max_norm)
    heads.follow(rate)
    return stats | {"grad_norm": norm}
