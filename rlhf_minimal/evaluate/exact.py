"""The exact world: a real GPT-2 so small that all its completions can be listed.

With vocabulary 3 (EOS is token 0) and horizon 3 there are 15 completions. Their probabilities sum to 1, so J, KL, the
best policy and every gradient are sums, not samples: an estimator is right to 1e-10 or it is something else.
"""

import itertools
import math
from dataclasses import dataclass, field

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from ..equations import implements
from ..kl import k1
from ..logprobs import token_logps


def exact_model(seed=0, vocab=3, horizon=3, width=8, scale=0.3):
    """A one-layer GPT2LMHeadModel in float64 without dropout, far from uniform (`scale` is the weights' spread)."""
    size = dict(vocab_size=vocab, n_positions=horizon + 8, n_embd=width, n_layer=1, n_head=2)
    config = GPT2Config(
        **size, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, use_cache=False,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):  # the caller's global generator is left alone
        model = GPT2LMHeadModel(config).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():  # tied embeddings come once
            if weight.dim() > 1:
                weight.copy_(scale * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return model


def enumerate_completions(vocab, horizon, eos_id):
    """All completions of at most `horizon` tokens -> ids int64, mask float32, (N, T); nothing follows an EOS (A4)."""
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
    """One prompt and all N completions of it. `reward` arguments are (N,), one number a completion."""

    vocab: int = 3
    horizon: int = 3
    eos_id: int = 0
    prompt: tuple = (1, 2)
    completions: torch.Tensor = field(init=False)  # (N, T)
    mask: torch.Tensor = field(init=False)  # (N, T)
    ids: torch.Tensor = field(init=False)  # (N, P+T)
    attention: torch.Tensor = field(init=False)  # (N, P+T)

    def __post_init__(self):
        self.completions, self.mask = enumerate_completions(self.vocab, self.horizon, self.eos_id)
        prompt = torch.tensor(self.prompt).expand(len(self.mask), -1)
        self.ids = torch.cat([prompt, self.completions], 1)
        self.attention = torch.cat([torch.ones_like(prompt, dtype=torch.float32), self.mask], 1)

    def __len__(self):
        return len(self.mask)

    def logps(self, model):
        """(N, T) log-probabilities of the completions' tokens, 0 off the mask."""
        return token_logps(model, self.ids, self.attention)[:, len(self.prompt) - 1 :]

    def seq_logp(self, model):
        """(N,) log-probabilities of the completions."""
        return self.logps(model).sum(1)

    @implements("eq:rl_opt_int")
    def expected(self, model, reward):
        """J = sum_y p(y) r(y)."""
        return (self.seq_logp(model).exp() * reward).sum()

    @implements("eq:def_kl")
    def kl(self, model, reference):
        """KL(model || reference) of whole completions, with gradient into `model` only."""
        logp = self.seq_logp(model)
        return (logp.exp() * k1(logp, self.seq_logp(reference).detach())).sum()


@implements("eq:dpo_opt_policy", "eq:dpo_partition")
def tilted(logp_ref, reward, beta):
    """(N,) log-probabilities of the exact optimum pi* = pi_ref exp(r / beta) / Z."""
    return torch.log_softmax(logp_ref + reward / beta, -1)


def free_energy(logp_ref, reward, beta):
    """beta log Z, the largest value of E[r] - beta KL(pi || pi_ref) over all policies; pi* reaches it."""
    return beta * torch.logsumexp(logp_ref + reward / beta, -1)


def gradient(scalar, model):
    """Flat gradient vector of a scalar in all parameters of `model` (0 where one has no part in it)."""
    weights = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(scalar, weights, retain_graph=True, allow_unused=True)
    grads = [torch.zeros_like(p) if g is None else g for p, g in zip(weights, grads, strict=True)]
    return torch.cat([g.reshape(-1) for g in grads])


def compare(grad, exact):
    """Two gradient vectors -> dict: cosine, ratio of norms, relative error |grad - exact| / |exact|."""
    if grad.shape != exact.shape:
        raise ValueError(f"gradients of {tuple(grad.shape)} and {tuple(exact.shape)}: they must have one shape")
    norm, size = exact.norm().item(), grad.norm().item()
    cosine = torch.dot(grad, exact).item() / (size * norm) if size * norm > 0 else math.nan
    return dict(cosine=cosine, ratio=size / norm if norm else math.nan, error=(grad - exact).norm().item() / norm)


def expected_loss_gradient(world, model, loss, *, group_size=1, sampler=None):
    """Expected gradient of `loss(logp, rows)` over all N**G groups of completions, their probability held constant.

    loss: takes logp (G, T), with gradient, and the world's row numbers (G,) -> scalar. sampler: the model that draws
    the data, by default `model` itself. Returns the flat vector of `gradient`.
    """
    logp = world.logps(model)
    drawn = world.seq_logp(sampler or model).detach()
    leaf = logp.detach().requires_grad_()
    total = 0.0
    for group in itertools.product(range(len(world)), repeat=group_size):
        rows = torch.tensor(group)
        total = total + drawn[rows].sum().exp() * loss(leaf[rows], rows)
    slope = torch.autograd.grad(total, leaf)[0]  # one backward through the model for all the groups
    return gradient((logp * slope).sum(), model)


def fit_table(loss, logits, *, steps=300):
    """Minimise `loss(logp)` over a table of logits (N,), a policy without a network -> logp (N,) at the optimum."""
    table = logits.detach().clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [table], max_iter=steps, tolerance_grad=1e-13, tolerance_change=1e-16, history_size=50,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        value = loss(torch.log_softmax(table, -1))
        value.backward()
        return value

    optimizer.step(closure)
    return torch.log_softmax(table.detach(), -1)
