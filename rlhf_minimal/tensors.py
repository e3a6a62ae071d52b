"""Masks, means, positions, padding: the only places where each of these is made.

A mask is bool, int or float of 0/1. Off-mask entries are *replaced* by 0, never multiplied: nan * 0 is nan (E11).
All raise ValueError on shapes that do not fit, on masks of other values and on a NaN where the mask is 1.
"""

import torch


def as_float(x):
    """`x` as float32, or as float64 where it already is: half precision never enters a reduction (B2)."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def check_shapes(**tensors):
    """Raise ValueError unless all tensors have one shape: accidental broadcasting is wrong input."""
    if len({tuple(x.shape) for x in tensors.values()}) > 1:
        sizes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in tensors.items())
        raise ValueError(f"shapes differ: {sizes}; give tensors of one shape (nothing is broadcast)")


def check_no_nan(**tensors):
    """Raise ValueError if any of the tensors holds a NaN."""
    for name, x in tensors.items():
        if torch.isnan(x).any():
            count = int(torch.isnan(x).sum())
            raise ValueError(f"{name} {tuple(x.shape)} holds {count} NaN; look at where it was made")


def as_mask(mask, name="mask"):
    """A 0/1 mask of any dtype as float32. Raises ValueError on any other value."""
    m = mask.float()
    if ((m != 0) & (m != 1)).any():
        raise ValueError(f"{name} {tuple(mask.shape)} holds values other than 0 and 1; give 1 for entries that count")
    return m


def check_mask(x, mask, name="x"):
    """(x with 0 off the mask, float32 mask), both of one shape (...): the door that every masked function goes through.

    Whatever stands off the mask (nan, inf, 1e30) reaches neither value nor gradient (E11).
    Raises ValueError on unequal shapes, on mask values other than 0/1 and on a NaN on the mask.
    """
    check_shapes(**{name: x, "mask": mask})
    m = as_mask(mask)
    x = as_float(x)
    x = torch.where(m.bool(), x, torch.zeros_like(x))
    check_no_nan(**{f"{name} on the mask": x})
    return x, m


def masked_sum(x, mask, dim=None):
    """Sum over the mask, of everything or along `dim`; an empty mask sums to 0. x, mask: one shape (...).

    >>> masked_sum(torch.tensor([[1.0, 2.0], [3.0, 9.0]]), torch.tensor([[1, 1], [1, 0]]), dim=1).tolist()
    [3.0, 3.0]
    """
    x, _ = check_mask(x, mask)
    return x.sum() if dim is None else x.sum(dim)


def masked_mean(x, mask, dim=None):
    """Mean over the mask, of everything or along `dim`. x, mask: one shape (...).

    With `dim`, a row with an empty mask gives 0; a mask that is empty everywhere raises ValueError (0/0 is nan).

    >>> masked_mean(torch.tensor([[1.0, 2.0], [3.0, 9.0]]), torch.tensor([[1, 1], [1, 0]])).item()  # (1 + 2 + 3) / 3
    2.0
    """
    x, m = check_mask(x, mask)
    check_not_empty(m)
    return x.sum() / m.sum() if dim is None else x.sum(dim) / m.sum(dim).clamp_min(1)


def check_not_empty(mask):
    """Raise ValueError if no entry of the mask is 1."""
    if not mask.any():
        raise ValueError(f"the mask {tuple(mask.shape)} is empty; leave such batches out (truncation too short?)")


def masked_whiten(x, mask, shift_mean=True):
    """(x - mean) / std over the mask (variance with n-1), 0 off it; `shift_mean=False` adds the mean back (D4).

    Constant input, or a single entry, gives 0 (or its own mean): everything is taken relative to the first masked
    value, so equal numbers differ by exactly 0 and no rounding is amplified. Raises ValueError on an empty mask.

    >>> white = masked_whiten(torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[1, 1, 0]]))  # mean 2, variance 2
    >>> [round(x, 4) for x in white[0].tolist()]
    [-0.7071, 0.7071, 0.0]
    """
    x, m = check_mask(x, mask)
    check_not_empty(m)
    on = m.bool()
    first = x[on][0]
    centred = torch.where(on, x - first, 0)
    offset = centred.sum() / m.sum()
    centred = torch.where(on, centred - offset, 0)
    var = centred.square().sum() / (m.sum() - 1).clamp_min(1)
    out = centred / var.clamp_min(1e-16).sqrt()
    return out if shift_mean else torch.where(on, out + first + offset, 0)


def id_list(eos_id):
    """An int, or a list of them, as a list of ints (B10). Raises ValueError on anything else."""
    ids = list(eos_id) if isinstance(eos_id, (list, tuple, set)) else [eos_id]
    if not ids or any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in ids):
        raise ValueError(f"eos_id is {eos_id!r}; give one token id or a non-empty list of them")
    return ids


def mask_through_first(ids, eos_id):
    """(B,T) ids -> (B,T) float32: 1 up to and including the first of any EOS, 0 after it (A4, B10).

    >>> mask_through_first(torch.tensor([[9, 9], [4, 5]]), 9).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    if ids.dim() != 2:
        raise ValueError(f"ids is {tuple(ids.shape)}; give completions as (B,T)")
    eos = torch.isin(ids, torch.tensor(id_list(eos_id), device=ids.device)).long()
    return (eos.cumsum(1) - eos == 0).float()


def last_index(mask):
    """(B,L) mask -> (B,) int64: index of the last 1, under any padding and gaps (F1). ValueError on an empty row.

    >>> last_index(torch.tensor([[0, 1, 1], [1, 0, 0]])).tolist()
    [2, 0]
    """
    if mask.dim() != 2:
        raise ValueError(f"mask is {tuple(mask.shape)}; give (B,L)")
    m = as_mask(mask).long()
    empty = (m.sum(1) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"rows {empty[:8]} of the mask {tuple(mask.shape)} are empty, without a last entry; drop them")
    return (m * torch.arange(m.shape[1], device=m.device)).amax(1)


def positions(attention):
    """(B,L) attention -> (B,L) int64 position ids: the count of real tokens so far minus 1, not below 0 (A2).

    >>> positions(torch.tensor([[0, 1, 1], [1, 1, 0]])).tolist()  # padded on the left, on the right
    [[0, 0, 1], [0, 1, 1]]
    """
    if attention.dim() != 2:
        raise ValueError(f"attention is {tuple(attention.shape)}; give (B,L)")
    return (as_mask(attention, "attention").long().cumsum(1) - 1).clamp_min(0)


def _pad(rows, value, left):
    if not len(rows) or not any(len(row) for row in rows):
        raise ValueError(f"{len(rows)} rows without a single token; give at least one non-empty list of ids")
    rows = [torch.as_tensor(row, dtype=torch.long).flatten() for row in rows]
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), value, dtype=torch.long)
    attention = torch.zeros(len(rows), width)
    for i, row in enumerate(rows):
        span = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, span], attention[i, span] = row, 1.0
    return ids, attention


def pad_left(rows, value=0):
    """B lists of ids -> (ids int64, attention float32), both (B,L), padded on the left: for prompts (A1).

    >>> [x.tolist() for x in pad_left([[3, 4], [5]])]
    [[[3, 4], [0, 5]], [[1.0, 1.0], [0.0, 1.0]]]
    """
    return _pad(rows, value, left=True)


def pad_right(rows, value=0):
    """B lists of ids -> (ids int64, attention float32), both (B,L), padded on the right: for training batches.

    >>> [x.tolist() for x in pad_right([[3, 4], [5]])]
    [[[3, 4], [5, 0]], [[1.0, 1.0], [1.0, 0.0]]]
    """
    return _pad(rows, value, left=False)
