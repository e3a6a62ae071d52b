"""Sampling completions: prefill once per prompt, share the cache among its samples, let finished rows go.

Nothing truncates the distribution (no top-k, no top-p: B5), and the temperature of the draw is that of the score (B4).
"""

import math

import torch
import torch.nn.functional as F

from .decoding import drop, gpt2_step, in_place, with_room
from .logprobs import check_ids, keeps_logits
from .models import context_length, eval_mode, unwrap, vocab_size
from .rollout import Rollout
from .tensors import as_float, id_list, pad_left, positions

COMPACT = 0.75  # copy the cache only when this share of its rows, or less, is still alive; rows move sooner
WIDE = 8192  # from this vocabulary on a token is drawn in two steps
BLOCK = 256


def _check(model, prompts, n, max_new_tokens, eos, temperature):
    if isinstance(prompts, (str, torch.Tensor)) or not len(prompts) or any(isinstance(p, (str, int)) for p in prompts):
        raise ValueError(f"prompts is {type(prompts).__name__}; give a non-empty list of lists of ids")
    lengths = [len(p) for p in prompts]
    if min(lengths) == 0:
        raise ValueError(f"prompt {lengths.index(0)} of {len(prompts)} is empty; give at least one id, such as EOS")
    for name, x in (("n", n), ("max_new_tokens", max_new_tokens)):
        if isinstance(x, bool) or not isinstance(x, int) or x < 1:
            raise ValueError(f"{name} is {x!r}; give an int of 1 or more")
    if not (temperature >= 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature is {temperature}; give 0 (greedy) or a positive finite number")
    limit = context_length(model)
    if limit is not None and max(lengths) + max_new_tokens > limit:
        raise ValueError(f"a prompt of {max(lengths)} ids plus max_new_tokens {max_new_tokens} exceeds the context of "
                         f"{limit}; cut the prompt from the left or sample fewer tokens")
    check_ids(torch.tensor([i for p in prompts for i in p] + eos), vocab_size(model))


def _draw(logits, temperature, uniform):
    """(R,V) logits, (R,) uniforms in [0,1) -> (tokens, log-probabilities), both (R,), by the inverse of the CDF."""
    logits = as_float(logits)
    logp = (logits if temperature in (0, 1) else logits / temperature).log_softmax(1)
    if torch.isnan(logp).any():
        raise ValueError("the model's logits hold NaN; the weights have diverged")
    if temperature == 0:
        token = logits.argmax(1, keepdim=True)
    elif logp.shape[1] < WIDE:
        token = _above(logp.double().exp().cumsum(1), uniform[:, None])[0]
    else:
        token = _draw_wide(logp, uniform)
    return token[:, 0], logp.gather(1, token)[:, 0]


def _above(cdf, share):
    """First place of a CDF (R,K), float64, above `share` (R,1) of its total -> (places (R,1), what is left there)."""
    total = cdf[:, -1:]
    # below the total, and the first place *above* it: neither K itself nor a place of probability 0 comes out
    point = torch.minimum(share * total, torch.nextafter(total, torch.zeros_like(total)))
    place = torch.searchsorted(cdf, point, right=True)
    before = F.pad(cdf, (1, 0)).gather(1, place)
    return place, point - before


def _draw_wide(logp, uniform):
    """`_draw` for a large vocabulary: a block of tokens by its sum, then a token of it. In float64 where it adds up."""
    p = F.pad(logp, (0, -logp.shape[1] % BLOCK), value=float("-inf")).exp_().view(len(logp), -1, BLOCK)
    block, left = _above(p.sum(2, dtype=torch.float64).cumsum(1), uniform[:, None])
    inner = p[torch.arange(len(p), device=p.device), block[:, 0]].double().cumsum(1)
    return block * BLOCK + _above(inner, left / inner[:, -1:])[0]


def _uniforms(count, generator):
    """(B,) uniforms, for *every* sample: a row's stream does not depend on when the others finish (B11)."""
    device = generator.device if generator is not None else "cpu"
    return torch.rand(count, generator=generator, dtype=torch.float64, device=device)


def _prefill(model, ids, attention, n):
    """Logits of the next token (B,V) and cache (B rows), from one forward over the prompts."""
    last = {"logits_to_keep": 1} if keeps_logits(model) else {}
    out = model(input_ids=ids, attention_mask=attention.long(), position_ids=positions(attention), use_cache=True,
                **last)
    if out.past_key_values is None:
        raise ValueError(f"{type(model).__name__} returns no cache; sampling needs past_key_values")
    out.past_key_values.batch_repeat_interleave(n)
    return out.logits[:, -1].repeat_interleave(n, 0), out.past_key_values


def _decode(model, ids, attention, n, steps, eos, temperature, generator):
    """Up to `steps` tokens a row -> tokens (B,T), log-probabilities (B,T), attention (B,P+T), ended (B,)."""
    width, start = ids.shape[1], attention.sum(1).long().repeat_interleave(n)
    logits, cache = _prefill(model, ids, attention, n)
    cache = with_room(cache, steps)
    rows = torch.arange(len(start), device=ids.device)  # which sample each row of the cache belongs to
    attention = torch.cat([attention.repeat_interleave(n, 0), attention.new_zeros(len(rows), steps)], 1)
    quick, slack = gpt2_step(model, cache, attention[:, :width]), (1 - COMPACT) ** (2 if in_place(cache) else 1)
    live = torch.ones_like(rows, dtype=torch.bool)
    tokens, logps = [], []
    for t in range(steps):
        u, on = _uniforms(len(live), generator).to(ids.device), live[rows]
        tokens.append(torch.zeros_like(start))
        logps.append(as_float(logits).new_zeros(len(live)))
        tokens[t][rows[on]], logps[t][rows[on]] = _draw(logits[on], temperature, u[rows[on]])
        attention[:, width + t] = live
        live = live & ~torch.isin(tokens[t], eos)
        if t == steps - 1 or not live.any():
            break
        if len(rows) - live.sum() >= max(slack * len(rows), 1):
            rows = rows[drop(cache, live[rows])]
        if quick:
            logits = quick(tokens[t][rows], start[rows] + t, rows)
            continue
        out = model(input_ids=tokens[t][rows, None], attention_mask=attention[rows, :width + t + 1].long(),
                    position_ids=(start[rows] + t)[:, None], past_key_values=cache, use_cache=True)
        logits, cache = out.logits[:, -1], out.past_key_values
    return torch.stack(tokens, 1), torch.stack(logps, 1), attention[:, :width + len(tokens)], ~live


@torch.no_grad()
def sample(model, prompts, *, n=1, max_new_tokens, eos_id, temperature=1.0, generator=None):
    """Sample `n` completions of each prompt (lists of ids) -> Rollout of B = prompts x n rows, prompt-major (D9):
    ids, attention (B,L), mask, logp_old (B,T), nats.

    Each row equals the row decoded alone: right cache entry, position and attention (B12). `eos_id`: an int or a list;
    the first of any ends a row (B10). `temperature=0` is greedy, with `logp_old` at temperature 1. T <= max_new_tokens.
    `generator` (CPU or the model's device; seed = base + rank with many processes, B11) leaves the global one alone.
    Dropout is off meanwhile and the model's mode restored (B7). ValueError: empty prompt, an id outside the
    vocabulary, prompt + max_new_tokens beyond the context, NaN logits.
    """
    eos = id_list(eos_id)
    model = unwrap(model)  # J4
    _check(model, prompts, n, max_new_tokens, eos, temperature)
    device = next(model.parameters()).device
    ids, attention = (x.to(device) for x in pad_left(prompts))
    group, width = torch.arange(len(prompts), device=device).repeat_interleave(n), ids.shape[1]
    with eval_mode(model):
        tokens, logp, attention, ended = _decode(model, ids, attention, n, max_new_tokens,
                                                 torch.tensor(eos, device=device), temperature, generator)
    ids = torch.cat([ids.repeat_interleave(n, 0), tokens], 1)
    return Rollout(ids, attention, width, attention[:, width:].clone(), logp, group, ended)
