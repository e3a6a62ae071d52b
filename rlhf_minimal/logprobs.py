"""Log-probabilities of tokens: computed here and nowhere else."""

import inspect
import math

import torch

from .equations import implements
from .models import context_length, pieces, unwrap, vocab_size
from .tensors import as_float, as_mask, check_no_nan, check_not_empty, check_shapes, masked_sum, positions


def check_temperature(temperature):
    """Raise ValueError unless the temperature is a positive finite number."""
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature is {temperature}; a score needs a positive finite one (greedy samples: 1)")


def check_ids(ids, size):
    """Raise ValueError unless every id lies in a vocabulary of `size` (None: not known)."""
    if size is not None and ids.numel() and not (0 <= int(ids.min()) and int(ids.max()) < size):
        low, high = int(ids.min()), int(ids.max())
        raise ValueError(f"ids run from {low} to {high}, the vocabulary has {size}; is it this model's tokenizer?")


def _logits(model, ids, real, pairs, attention_mask, position_ids, temperature, keep=None):
    """(N,V) logits / temperature of the N places in `pairs` (B,L-1), in float32 *before* any softmax (B2).

    Only those rows are picked, so what a model says at padding reaches neither value nor gradient (E11). keep: columns
    outside of which there is none; a model that can leaves the others out.
    """
    check_temperature(temperature)
    longest, limit = int(position_ids.max()) + 1, context_length(model)
    if limit is not None and longest > limit:
        raise ValueError(f"a row has {longest} tokens, the model's context is {limit}; cut prompts from the left")
    ids = torch.where(real, ids, 0)  # ids at padding have no meaning, and -100 is in no embedding
    check_ids(ids, vocab_size(model))
    some = {} if keep is None else {"logits_to_keep": keep}
    logits = model(input_ids=ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False, **some).logits
    check_ids(ids, logits.shape[-1])
    picked = as_float(logits[:, :-1][pairs] if keep is None else logits[pairs[:, keep]])
    return picked if temperature == 1 else picked / temperature


def keeps_logits(model):
    """Whether the model's forward takes `logits_to_keep`: at which places to compute them."""
    model = unwrap(model)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(getattr(base, "forward", base)).parameters


def _pairs(ids, attention, wanted=None):
    """(real (B,L), pairs (B,L-1)), bool: `pairs` marks a real token whose next one is real too, and wanted."""
    check_shapes(ids=ids, attention=attention)
    if ids.dim() != 2 or 0 in ids.shape or ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"ids is {tuple(ids.shape)} {ids.dtype}; give (B,L) of int64")
    real = as_mask(attention, "attention").bool()
    pairs = real[:, :-1] & real[:, 1:]
    if wanted is not None:
        check_shapes(wanted=wanted, pairs=pairs)
        pairs = pairs & as_mask(wanted, "wanted").bool()
    return real, pairs


def _inputs(model, ids, attention, temperature):
    """(logits (N,V), pairs (B,L-1)) of a batch that goes through the model as it is."""
    real, pairs = _pairs(ids, attention)
    return _logits(model, ids, real, pairs, real.long(), positions(attention), temperature), pairs


def _score(model, ids, attention, wanted, temperature, fn):
    """fn(logits (N,V), next ids (N,)) -> (N,), at each real token whose next one is real, and wanted: (B,L-1), else 0.

    Large batches go through the model in `pieces`; their rows do not touch each other, so the result is the same.
    """
    real, pairs = _pairs(ids, attention, wanted)
    parts = pieces(model, real)
    if parts is None:
        logits = _logits(model, ids, real, pairs, real.long(), positions(attention), temperature)
        return _spread(fn(logits, ids[:, 1:][pairs].long()), pairs)
    values, places, keeps = [], [], keeps_logits(model)
    for rows, columns, on in parts:
        here = pairs[rows[:, None], columns[:, :-1].clamp_max(pairs.shape[1] - 1)] & on[:, 1:]
        x, all_on = ids[rows[:, None], columns], torch.ones_like(columns)
        keep = here.any(0).nonzero()[:, 0] if keeps else None
        logits = _logits(model, x, on, here, all_on, positions(all_on), temperature, keep)
        values.append(fn(logits, x[:, 1:][here].long()))
        places.append((rows[:, None] * pairs.shape[1] + columns[:, :-1])[here])
    back = torch.cat(places).argsort()  # in the order of `pairs`
    return _spread(torch.cat(values)[back], pairs)


def _spread(values, pairs):
    """(N,) values back to their places in (B,L-1), 0 elsewhere; part of the graph even where N is 0 (J5)."""
    if torch.isnan(values).any():
        bad = int(torch.isnan(values).sum())
        raise ValueError(f"the logits give NaN at {bad} of {len(values)} real tokens; have the weights diverged?")
    return values.new_zeros(pairs.shape).masked_scatter(pairs, values)


def _chosen(logits, following):
    """log-softmax at the next token, as logit - logsumexp: no second (N,V) tensor, no clamp (B3)."""
    return logits.gather(1, following[:, None])[:, 0] - logits.logsumexp(1)


@implements("eq:llming")
def token_logps(model, ids, attention, *, temperature=1.0, wanted=None):
    """log p(ids[:, t+1] | ids[:, :t+1]) in place t: (B,L), (B,L) -> (B,L-1) nats, float32 (float64 if the weights are).

    0 unless both tokens are real (A2, B1). The logits are divided by `temperature` (B4). `eq:llming`, in logs.
    wanted (B,L-1): 0 also where this mask is 0; it only saves work.
    `model` is a causal language model, wrapped (DDP) or not; gradients flow if they are switched on.
    Raises ValueError on shapes that differ, an id outside the vocabulary, temperature <= 0, NaN logits at a real token.

    >>> from types import SimpleNamespace
    >>> def model(input_ids, **_):  # all of four tokens are equally likely
    ...     return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 4))
    >>> [round(x, 4) for x in token_logps(model, torch.tensor([[1, 2, 3]]), torch.ones(1, 3))[0].tolist()]  # -log 4
    [-1.3863, -1.3863]
    """
    return _score(model, ids, attention, wanted, temperature, _chosen)


def entropy(logits):
    """-sum_v p log p: (...,V) logits -> (...), nats. Give logits already divided by the temperature (E10).

    >>> round(entropy(torch.zeros(4)).item(), 4)  # log 4
    1.3863
    """
    check_no_nan(logits=logits)
    logp = as_float(logits).log_softmax(-1)
    p = logp.exp()
    return -(p * torch.where(p > 0, logp, 0)).sum(-1)


def token_entropy(model, ids, attention, *, temperature=1.0):
    """Entropy in nats of the distribution each token came from, laid out as `token_logps`: (B,L) -> (B,L-1) (E10)."""
    return _score(model, ids, attention, None, temperature, lambda logits, _: entropy(logits))


def sequence_logps(model, ids, attention, mask, *, average=False):
    """Sum (or, with `average`, mean per token) of the log-probabilities of the tokens with mask 1: (B,L) x 3 -> (B,).

    `mask` has the width of `ids`: 1 on the tokens to be scored, so a prompt does not enter (G1). A row's first real
    token has nothing before it and is neither scored nor counted. A row with an empty mask gives 0.
    Raises ValueError on a mask that leaves the attention, or that is empty everywhere.

    >>> from types import SimpleNamespace
    >>> def model(input_ids, **_):  # all of four tokens are equally likely
    ...     return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 4))
    >>> ids, mask = torch.tensor([[1, 2, 3]]), torch.tensor([[0, 1, 1]])
    >>> round(sequence_logps(model, ids, torch.ones(1, 3), mask).item(), 4)  # -2 log 4
    -2.7726
    """
    check_shapes(ids=ids, attention=attention, mask=mask)
    m, real = as_mask(mask), as_mask(attention, "attention")
    check_not_empty(m)
    if (m > real).any():
        raise ValueError(f"{int((m > real).sum())} tokens have mask 1 and attention 0; score only real tokens")
    m = m[:, 1:] * real[:, :-1]
    total = masked_sum(token_logps(model, ids, attention, wanted=m), m, dim=1)
    return total / m.sum(1).clamp_min(1) if average else total


def packed_logps(model, ids, segments):
    """`token_logps` of rows that hold several documents: (B,L), (B,L) -> (B,L-1), equal to each document alone (A9).

    `segments` numbers the documents of a row 1, 2, ... (0: padding). Attention is block-diagonal, positions restart,
    and the seams score 0: no document is predicted from another.
    """
    check_shapes(ids=ids, segments=segments)
    same = (segments[:, :, None] == segments[:, None, :]).tril()  # (B,L,L), the diagonal included
    hidden = torch.finfo(next(model.parameters()).dtype).min
    mask = torch.zeros_like(same, dtype=next(model.parameters()).dtype).masked_fill(~same, hidden)[:, None]
    real = segments > 0
    pairs = real[:, 1:] & (segments[:, 1:] == segments[:, :-1])
    logits = _logits(model, ids, real, pairs, mask, same.sum(2) - 1, 1.0)
    return _spread(_chosen(logits, ids[:, 1:][pairs].long()), pairs)
