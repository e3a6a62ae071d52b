"""Plain versions of what the package does quickly: one pass for the whole batch, one loop that samples.

A file written by `extract` takes these in place of the package's functions of the same names. They give the same numbers,
pay for padding with time and memory, and check less.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..models import backbone
from ..tensors import as_float


@dataclass
class Rollout:
    """B sampled rows: prompts of width P (left-padded), completions of width T (right-padded), L = P + T."""

    ids: Tensor  # (B,L) int64
    attention: Tensor  # (B,L) float32
    prompt_len: int  # P
    mask: Tensor  # (B,T) float32, 1 on sampled tokens, the end token included
    logp_old: Tensor  # (B,T) log-probabilities at the sampling temperature, 0 off the mask
    group: Tensor  # (B,) int64 index of the prompt; rows of one prompt are adjacent
    ended: Tensor  # (B,) bool: stopped by an end token, not by the length limit

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def completion_ids(self) -> Tensor:
        """(B,T) ids of the completions."""
        return self.ids[:, self.prompt_len:]

    @property
    def full_mask(self) -> Tensor:
        """(B,L) mask as wide as `ids`, 0 on prompts."""
        return torch.cat([torch.zeros_like(self.attention[:, :self.prompt_len]), self.mask], 1)

    def on_completion(self, x: Tensor) -> Tensor:
        """(B,L-1) from `token_logps` -> (B,T): the columns that score the completion start at P-1."""
        return x[:, self.prompt_len - 1:]

    def select(self, rows: Tensor) -> Rollout:
        """The rollout of some rows, in that order."""
        return Rollout(self.ids[rows], self.attention[rows], self.prompt_len, self.mask[rows], self.logp_old[rows],
                       self.group[rows], self.ended[rows])

    def texts(self, tokenizer) -> list[str]:
        """B completions as text, without special tokens."""
        rows = zip(self.completion_ids, self.mask.bool(), strict=True)
        return [tokenizer.decode(ids[real], skip_special_tokens=True) for ids, real in rows]


def positions(attention: Tensor) -> Tensor:
    """(B,L) attention -> (B,L) int64 position ids: the count of real tokens so far minus 1, not below 0."""
    return (attention.long().cumsum(1) - 1).clamp_min(0)


def last_index(mask: Tensor) -> Tensor:
    """Index of the last 1 of each row: (B,L) -> (B,) int64. Every row needs one."""
    return (mask.long() * torch.arange(mask.shape[1], device=mask.device)).amax(1)


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DDP."""
    return getattr(model, "module", model)


def pad_left(rows: list[list[int]], value: int = 0) -> tuple[Tensor, Tensor]:
    """B lists of ids -> (ids int64, attention float32), both (B,L), padded on the left: for prompts."""
    ids = [torch.tensor(row) for row in rows]
    attention = pad_sequence([torch.ones(len(row)) for row in rows], batch_first=True, padding_side="left")
    return pad_sequence(ids, batch_first=True, padding_value=value, padding_side="left"), attention


def pad_right(rows: list[list[int]], value: int = 0) -> tuple[Tensor, Tensor]:
    """B lists of ids -> (ids int64, attention float32), both (B,L), padded on the right: for training batches."""
    ids = [torch.tensor(row) for row in rows]
    attention = pad_sequence([torch.ones(len(row)) for row in rows], batch_first=True)
    return pad_sequence(ids, batch_first=True, padding_value=value), attention


def mean_over_pairs(x: Tensor, denominator: float | None = None) -> Tensor:
    """x (B,) -> its mean, or its sum / denominator."""
    return as_float(x).sum() / (len(x) if denominator is None else denominator)


def token_logps(
    model: nn.Module, ids: Tensor, attention: Tensor, *, temperature: float = 1.0, wanted: Tensor | None = None,
) -> Tensor:
    """Log-probability of each token, given those before it: entry t is log p(ids[:, t+1] | ids[:, :t+1]).

    ids, attention (B,L), under any padding -> (B,L-1), in nats, 0 unless both tokens are real (and `wanted` (B,L-1) is 1).
    """
    real = attention.bool()
    scored = real[:, :-1] & real[:, 1:]
    if wanted is not None:
        scored = scored & wanted.bool()
    ids = torch.where(real, ids, 0)  # ids at padding have no meaning; -100 has no embedding
    out = model(input_ids=ids, attention_mask=attention.long(), position_ids=positions(attention), use_cache=False)
    logits = as_float(out.logits[:, :-1][scored]) / temperature  # (N,V)
    logp = logits.gather(1, ids[:, 1:][scored][:, None])[:, 0] - logits.logsumexp(1)
    if torch.isnan(logp).any():
        raise ValueError("the logits give NaN at real tokens; have the weights diverged?")
    return logp.new_zeros(scored.shape).masked_scatter(scored, logp)


def sequence_logps(model: nn.Module, ids: Tensor, attention: Tensor, mask: Tensor, *, average: bool = False) -> Tensor:
    """Log-probability of each answer: the sum over its tokens or, with `average`, the mean per token.

    ids, attention, mask (B,L) -> (B,); the mask is 1 on the tokens to be scored, so that a prompt does not count.
    """
    scored = mask[:, 1:] * attention[:, :-1]  # a row's first real token has nothing before it
    total = token_logps(model, ids, attention, wanted=scored).sum(1)
    return total / scored.sum(1).clamp_min(1) if average else total


def disable_dropout(model: nn.Module) -> nn.Module:
    """Set every dropout to 0, in place: of layers, and the numbers that layers keep for themselves."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, x in list(vars(module).items()):
            if type(x) is float and "drop" in name:  # attention_dropout of Llama, layerdrop of OPT
                setattr(module, name, 0.0)
    return model


def hidden_states(model: nn.Module, ids: Tensor, attention: Tensor) -> Tensor:
    """Last hidden states of the trunk, (B,L), (B,L) -> (B,L,H), right under any padding. Do not read them at padding."""
    ids = torch.where(attention.bool(), ids, 0)
    out = backbone(model)(
        input_ids=ids, attention_mask=attention.long(), position_ids=positions(attention), use_cache=False)
    return out.last_hidden_state


def completion_logits(model: nn.Module, rollout: Rollout, *, temperature: float = 1.0) -> Tensor:
    """(B,T,V) logits / temperature that a rollout's tokens were drawn from, 0 off the mask."""
    ids, attention = torch.where(rollout.attention.bool(), rollout.ids, 0), rollout.attention
    out = model(input_ids=ids, attention_mask=attention.long(), position_ids=positions(attention), use_cache=False)
    logits = as_float(out.logits[:, rollout.prompt_len - 1:-1]) / temperature
    return torch.where(rollout.mask[:, :, None].bool(), logits, 0)


@torch.no_grad()
def sample(
    model: nn.Module, prompts: list[list[int]], *, n: int = 1, max_new_tokens: int, eos_id: int | list[int],
    temperature: float = 1.0, generator: torch.Generator | None = None,
) -> Rollout:
    """Sample n completions of each prompt: read the prompts once, then draw one token after another, until each has ended.

    prompts: lists of token ids. temperature 0 takes the most likely token. Returns B = len(prompts) * n rows, those of one
    prompt next to each other: ids and attention (B,L), mask and logp_old (B,T) in nats, with T at most max_new_tokens.
    """
    device = next(model.parameters()).device
    stop = torch.tensor([eos_id], device=device)  # one id, or several
    prompt_ids, attention = (x.to(device).repeat_interleave(n, 0) for x in pad_left(prompts))
    ids, width = prompt_ids, prompt_ids.shape[1]
    live = torch.ones(len(ids), dtype=torch.bool, device=device)
    logps, cache, new_ids, position = [], None, prompt_ids, positions(attention)
    training = model.training
    model.eval()  # no dropout while sampling
    for _ in range(max_new_tokens):
        out = model(input_ids=new_ids, attention_mask=attention.long(), position_ids=position,
                    past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logp = (as_float(out.logits[:, -1]) / (temperature or 1)).log_softmax(1)
        token = draw(logp, generator) if temperature else logp.argmax(1)
        token = torch.where(live, token, 0)
        logps.append(torch.where(live, logp.gather(1, token[:, None])[:, 0], 0))
        new_ids, position = token[:, None], attention.sum(1, keepdim=True).long()
        ids = torch.cat([ids, new_ids], 1)
        attention = torch.cat([attention, live[:, None].to(attention.dtype)], 1)  # a row's first end token counts
        live = live & ~torch.isin(token, stop)
        if not live.any():
            break
    model.train(training)
    group = torch.arange(len(prompts), device=device).repeat_interleave(n)
    return Rollout(ids, attention, width, attention[:, width:], torch.stack(logps, 1), group, ~live)


def draw(logp: Tensor, generator: torch.Generator | None) -> Tensor:
    """One token per row, by the inverse of the CDF: log-probabilities (B,V) -> (B,). Raises ValueError for NaN."""
    if torch.isnan(logp).any():
        raise ValueError("the model's logits hold NaN; the weights have diverged")
    cdf = logp.double().exp().cumsum(1)
    device = generator.device if generator is not None else "cpu"
    uniform = torch.rand(len(logp), generator=generator, dtype=torch.float64, device=device).to(logp.device)[:, None]
    total = cdf[:, -1:]
    point = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))  # below the total
    return torch.searchsorted(cdf, point, right=True)[:, 0]
