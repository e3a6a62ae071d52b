"""The exact world: a real GPT-2 so small that all its completions can be listed.

With vocabulary 3 (token 0 ends a text) and at most 3 tokens there are 15 completions. Their probabilities sum to 1, so the
expected reward J, the KL, the best policy and every gradient are sums, not samples: an estimator is right to 1e-10, or it
is something else.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from ..equations import implements
from ..logprobs import token_logps


def exact_model(
    seed: int = 0, vocab: int = 3, horizon: int = 3, width: int = 8, scale: float = 0.3,
) -> GPT2LMHeadModel:
    """A random GPT-2 of one layer, in float64 and without dropout; `scale` is the spread of its weights.

    The default makes its distributions far from uniform. The global random generator is left alone.
    """
    size = dict(vocab_size=vocab, n_positions=horizon + 8, n_embd=width, n_layer=1, n_head=2)
    config = GPT2Config(
        **size, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, use_cache=False,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        model = GPT2LMHeadModel(config).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():  # tied embeddings come once
            if weight.dim() > 1:
                weight.copy_(scale * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return model


def enumerate_completions(vocab: int, horizon: int, eos_id: int) -> tuple[Tensor, Tensor]:
    """All completions of at most `horizon` tokens; nothing follows an end-of-sequence token.

    Returns ids (int64) and mask (float32), (N, T) each. Raises ValueError unless horizon >= 1 and 0 <= eos_id < vocab.
    """
    if not (horizon >= 1 and 0 <= eos_id < vocab):
        raise ValueError(f"vocab {vocab}, horizon {horizon}, eos_id {eos_id}; give horizon >= 1, 0 <= eos_id < vocab")
    words = [i for i in range(vocab) if i != eos_id]
    rows = [(*body, eos_id) for n in range(horizon) for body in itertools.product(words, repeat=n)]
    rows += list(itertools.product(words, repeat=horizon))  # cut off by the horizon, without EOS
    ids = torch.tensor([[*row, *[eos_id] * (horizon - len(row))] for row in rows])
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (horizon - len(row)) for row in rows])
    return ids, mask


@dataclass
class World:
    """One prompt and all N completions of it. `reward` arguments are (N,), one number per completion."""

    vocab: int = 3
    horizon: int = 3
    eos_id: int = 0
    prompt: tuple[int, ...] = (1, 2)
    completions: Tensor = field(init=False)  # (N, T)
    mask: Tensor = field(init=False)  # (N, T)
    ids: Tensor = field(init=False)  # (N, P+T)
    attention: Tensor = field(init=False)  # (N, P+T)

    def __post_init__(self):
        self.completions, self.mask = enumerate_completions(self.vocab, self.horizon, self.eos_id)
        prompt = torch.tensor(self.prompt).expand(len(self.mask), -1)
        self.ids = torch.cat([prompt, self.completions], 1)
        self.attention = torch.cat([torch.ones_like(prompt, dtype=torch.float32), self.mask], 1)

    def __len__(self) -> int:
        return len(self.mask)

    def logps(self, model: nn.Module) -> Tensor:
        """(N, T) log-probabilities of the completions' tokens, 0 off the mask."""
        return token_logps(model, self.ids, self.attention)[:, len(self.prompt) - 1 :]

    def seq_logp(self, model: nn.Module) -> Tensor:
        """(N,) log-probabilities of the completions."""
        return self.logps(model).sum(1)

    @implements("eq:rl_opt_int")
    def expected(self, model: nn.Module, reward: Tensor) -> Tensor:
        """The expected reward, J = sum_y p(y) r(y). Equation `eq:rl_opt_int`."""
        return (self.seq_logp(model).exp() * reward).sum()

    @implements("eq:def_kl")
    def kl(self, model: nn.Module, reference: nn.Module) -> Tensor:
        """KL(model || reference) of whole completions, with gradient into `model` only. Equation `eq:def_kl`."""
        logp = self.seq_logp(model)
        return (logp.exp() * (logp - self.seq_logp(reference).detach())).sum()


@implements("eq:dpo_opt_policy", "eq:dpo_partition")
def tilted(logp_ref: Tensor, reward: Tensor, beta: float) -> Tensor:
    """Log-probabilities (N,) of the best policy, pi* = pi_ref exp(r / beta) / Z. logp_ref, reward (N,).

    Equations `eq:dpo_opt_policy`, `eq:dpo_partition`.
    """
    return torch.log_softmax(logp_ref + reward / beta, -1)


def free_energy(logp_ref: Tensor, reward: Tensor, beta: float) -> Tensor:
    """beta log Z: the largest value of E[r] - beta KL(pi || pi_ref) over all policies, which pi* reaches."""
    return beta * torch.logsumexp(logp_ref + reward / beta, -1)


def place(q: Tensor, p: Tensor, reward: Tensor) -> tuple[Tensor, Tensor]:
    """Where policies lie on a plot of reward against KL: q (..., N), p (N,), reward (N,) -> KL(q || p) in nats, E_q[reward].

    >>> kl, mean = place(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5]), torch.tensor([0.0, 3.0]))
    >>> round(kl.item(), 4), mean.item()  # log 2
    (0.6931, 3.0)
    """
    return (q * (q.clamp_min(torch.finfo(q.dtype).tiny) / p).log()).sum(-1), q @ reward


def frontier(p: Tensor, reward: Tensor, betas) -> tuple[Tensor, Tensor]:
    """The most reward at each KL: the `place` of the best policy for every beta -> (KL, reward), (len(betas),) each."""
    return place(torch.stack([tilted(p.log(), reward, float(beta)).exp() for beta in betas]), p, reward)


def gradient(scalar: Tensor, model: nn.Module) -> Tensor:
    """Flat gradient vector of a scalar in all parameters of `model` (0 where one has no part in it)."""
    weights = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(scalar, weights, retain_graph=True, allow_unused=True)
    grads = [torch.zeros_like(p) if g is None else g for p, g in zip(weights, grads, strict=True)]
    return torch.cat([g.reshape(-1) for g in grads])


def compare(grad: Tensor, exact: Tensor) -> dict[str, float]:
    """Compare two gradient vectors: their `cosine`, the `ratio` of norms, the relative `error` |grad - exact| / |exact|.

    `degrees` is the angle between them, from 0 to 180. Raises ValueError for shapes that differ.
    """
    if grad.shape != exact.shape:
        raise ValueError(f"gradients of {tuple(grad.shape)} and {tuple(exact.shape)}: they must have one shape")
    norm, size = exact.norm().item(), grad.norm().item()
    cosine = torch.dot(grad, exact).item() / (size * norm) if size * norm > 0 else math.nan
    degrees = math.degrees(math.acos(max(-1.0, min(1.0, cosine)))) if cosine == cosine else math.nan
    return dict(cosine=cosine, ratio=size / norm if norm else math.nan, error=(grad - exact).norm().item() / norm,
                degrees=degrees)


def recognise(found: dict[str, Tensor], known: dict[str, Tensor], tolerance: float = 1e-9) -> dict[str, str]:
    """{name: the name of the known vector that it equals}, "?" where none is within `tolerance` of it (Euclidean).

    Raises ValueError where a vector has another shape than the known ones.

    >>> recognise({"a": torch.tensor([0.0, 2.0]), "b": torch.ones(2)}, {"double": torch.tensor([0.0, 2.0])})
    {'a': 'double', 'b': '?'}
    """
    for name, vector in found.items():
        if wrong := [tuple(of.shape) for of in known.values() if of.shape != vector.shape]:
            raise ValueError(f"{name!r} has shape {tuple(vector.shape)}, a known vector {wrong[0]}: they must have one shape")
    return {name: next((label for label, of in known.items() if (vector - of).norm() < tolerance), "?")
            for name, vector in found.items()}


def expected_loss_gradient(
    world: World, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], *, group_size: int = 1,
    sampler: nn.Module | None = None,
) -> Tensor:
    """The expected gradient of a loss over all N**G groups of completions that could be sampled.

    loss: takes logp (G, T), with gradient, and the world's row numbers (G,), and gives a scalar. The probability of a group
    is held constant. sampler: the model that draws the data, by default `model` itself. Returns the flat vector of
    `gradient`.
    """
    logp = world.logps(model)
    drawn = world.seq_logp(sampler or model).detach()
    free = logp.detach().requires_grad_()
    total = 0.0
    for group in itertools.product(range(len(world)), repeat=group_size):
        rows = torch.tensor(group)
        total = total + drawn[rows].sum().exp() * loss(free[rows], rows)
    slope = torch.autograd.grad(total, free)[0]  # then one backward pass through the model, for all groups together
    return gradient((logp * slope).sum(), model)


def fit_table(loss: Callable[[Tensor], Tensor], logits: Tensor, *, steps: int = 300) -> Tensor:
    """Minimise `loss(logp)` over a table of logits (N,): a policy without a network. Returns logp (N,) at the optimum."""
    table = logits.detach().clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [table], max_iter=steps, tolerance_grad=1e-13, tolerance_change=1e-16, history_size=50,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(torch.log_softmax(table, -1))
        value.backward()
        return value

    optimizer.step(closure)
    return torch.log_softmax(table.detach(), -1)
