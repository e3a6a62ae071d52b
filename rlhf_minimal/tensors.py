"""Masks, means, positions, padding, and the checks that every loss shares.

A mask is bool, int or float, of zeros and ones; 1 marks what counts. Entries off the mask are *replaced* by 0, never
multiplied by it, since nan * 0 is nan. All functions raise ValueError for shapes that do not fit, for a mask that holds
other values, and for a NaN where the mask is 1.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# ---- checks: each raises ValueError, with what was given, what was expected and what to do ----

def check_shapes(**tensors: Tensor) -> None:
    """Raise ValueError unless all tensors have one shape. Nothing is ever broadcast by accident."""
    if len({tuple(x.shape) for x in tensors.values()}) > 1:
        sizes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in tensors.items())
        raise ValueError(f"shapes differ: {sizes}; give tensors of one shape (nothing is broadcast)")


def check_no_nan(**tensors: Tensor) -> None:
    """Raise ValueError if any of the tensors holds a NaN."""
    for name, x in tensors.items():
        if torch.isnan(x).any():
            count = int(torch.isnan(x).sum())
            raise ValueError(f"{name} {tuple(x.shape)} holds {count} NaN; look at where it was made")


def check_finite(**tensors: Tensor) -> None:
    """Raise ValueError if any of the tensors holds a NaN or an infinite number."""
    for name, x in tensors.items():
        bad = ~torch.isfinite(x)
        if bad.any():
            raise ValueError(f"{int(bad.sum())} of {x.numel()} {name}s are NaN or infinite; look at where they were made")


def check_answers(*, denominator: float | None = None, **tensors: Tensor) -> None:
    """Raise ValueError unless the tensors hold one number per answer, (B,), all of one length and without NaN.

    B = 0 is accepted only with a denominator: a process that happens to hold no rows still takes part in the update.
    """
    check_shapes(**tensors)
    name, x = next(iter(tensors.items()))
    if x.dim() != 1 or (len(x) == 0 and denominator is None):
        raise ValueError(f"{name} is {tuple(x.shape)}; give one number per row, (B,), B >= 1")
    check_no_nan(**tensors)


def check_groups(group_size: int, *, smallest: int = 2, **tensors: Tensor) -> None:
    """Raise ValueError unless the tensors, (B,) each, B >= 1, split into groups of `group_size` rows, `smallest` or more."""
    check_shapes(**tensors)
    name, x = next(iter(tensors.items()))
    if x.dim() != 1 or isinstance(group_size, bool) or not hasattr(group_size, "__index__"):
        raise ValueError(f"{name} is {tuple(x.shape)}, group_size {group_size!r}; give (B,) and an int")
    if group_size < smallest or len(x) == 0 or len(x) % group_size:
        raise ValueError(f"{name} is {tuple(x.shape)}, {len(x)} rows in groups of {group_size}; a group needs {smallest} or "
                         "more and must divide them: give B, a multiple of it")


def check_positive(**numbers: float) -> None:
    """Raise ValueError unless every number is finite and above 0."""
    for name, x in numbers.items():
        if not (x > 0 and math.isfinite(x)):
            raise ValueError(f"{name} is {x}; give a finite number above 0")


def check_share(**numbers: float) -> None:
    """Raise ValueError unless every number lies between 0 and 1, both included."""
    for name, x in numbers.items():
        if not 0 <= x <= 1:
            raise ValueError(f"{name} is {x}; give a number from 0 to 1")


def check_not_empty(mask: Tensor) -> None:
    """Raise ValueError if no entry of the mask is 1."""
    if not mask.any():
        raise ValueError(f"the mask {tuple(mask.shape)} is empty; leave such batches out (truncation too short?)")


def check_mask(x: Tensor, mask: Tensor, name: str = "x") -> tuple[Tensor, Tensor]:
    """Clean values and a clean mask: x with 0 off the mask, and the mask in float32. x, mask: one shape, any.

    Whatever stands off the mask (NaN, infinity, 1e30) reaches neither a value nor a gradient. `name` is what a message
    calls x. Raises ValueError for unequal shapes, for a mask of other values than 0 and 1, and for a NaN on the mask.
    """
    check_shapes(**{name: x, "mask": mask})
    m = as_mask(mask)
    x = as_float(x)
    x = torch.where(m.bool(), x, torch.zeros_like(x))
    check_no_nan(**{f"{name} on the mask": x})
    return x, m


# ---- numbers and masks as they should be ----

def as_float(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 where it already is: half precision never enters a reduction."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def as_mask(mask: Tensor, name: str = "mask") -> Tensor:
    """A mask of any dtype as float32. Raises ValueError for values other than 0 and 1."""
    m = mask.float()
    if ((m != 0) & (m != 1)).any():
        raise ValueError(f"{name} {tuple(mask.shape)} holds values other than 0 and 1; give 1 for entries that count")
    return m


# ---- sums and means over a mask ----

def masked_sum(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Sum over the mask, of everything or along `dim`. x, mask: one shape, any. An empty mask sums to 0.

    >>> masked_sum(torch.tensor([[1.0, 2.0], [3.0, 9.0]]), torch.tensor([[1, 1], [1, 0]]), dim=1).tolist()
    [3.0, 3.0]
    """
    x, _ = check_mask(x, mask)
    return x.sum() if dim is None else x.sum(dim)


def masked_mean(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean over the mask, of everything or along `dim`. x, mask: one shape, any.

    With `dim`, a row with an empty mask gives 0. Raises ValueError for a mask that is empty everywhere.

    >>> masked_mean(torch.tensor([[1.0, 2.0], [3.0, 9.0]]), torch.tensor([[1, 1], [1, 0]])).item()  # (1 + 2 + 3) / 3
    2.0
    """
    x, m = check_mask(x, mask)
    check_not_empty(m)
    return x.sum() / m.sum() if dim is None else x.sum(dim) / m.sum(dim).clamp_min(1)


def masked_whiten(x: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """(x - mean) / standard deviation over the mask, 0 off it; with `shift_mean=False` the mean is added back.

    x, mask: one shape, any. The variance divides by n - 1. Equal values, or a single one, give exactly 0 (or their own
    mean). Raises ValueError for an empty mask.

    >>> white = masked_whiten(torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[1, 1, 0]]))  # mean 2, variance 2
    >>> [round(x, 4) for x in white[0].tolist()]
    [-0.7071, 0.7071, 0.0]
    """
    x, m = check_mask(x, mask)
    check_not_empty(m)
    counts = m.bool()
    first = x[counts][0]  # relative to it equal values differ by exactly 0, and no rounding error is blown up
    centred = torch.where(counts, x - first, 0)
    mean = centred.sum() / m.sum()
    centred = torch.where(counts, centred - mean, 0)
    variance = centred.square().sum() / (m.sum() - 1).clamp_min(1)
    white = centred / variance.clamp_min(1e-16).sqrt()
    return white if shift_mean else torch.where(counts, white + first + mean, 0)


# ---- ends, positions, padding ----

def id_list(eos_id: int | Sequence[int]) -> list[int]:
    """One token id, or several, as a list of ints. Raises ValueError for anything else."""
    ids = list(eos_id) if isinstance(eos_id, (list, tuple, set)) else [eos_id]
    if not ids or any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in ids):
        raise ValueError(f"eos_id is {eos_id!r}; give one token id or a non-empty list of them")
    return ids


def mask_through_first(ids: Tensor, eos_id: int | Sequence[int]) -> Tensor:
    """1 up to and including the first end token of each row, 0 after it: (B,T) ids -> (B,T) float32.

    eos_id: one id or several. The end token counts, since a model has to learn to stop.

    >>> mask_through_first(torch.tensor([[9, 9], [4, 5]]), 9).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    if ids.dim() != 2:
        raise ValueError(f"ids is {tuple(ids.shape)}; give completions as (B,T)")
    eos = torch.isin(ids, torch.tensor(id_list(eos_id), device=ids.device)).long()
    return (eos.cumsum(1) - eos == 0).float()


def last_index(mask: Tensor) -> Tensor:
    """Index of the last 1 of each row, whatever the padding or the gaps: (B,L) -> (B,) int64.

    Never guess it from pad ids: where padding is the end token, that finds another place. Raises ValueError for an empty
    row.

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


def positions(attention: Tensor) -> Tensor:
    """Position ids, right under any padding: (B,L) attention -> (B,L) int64. A row's first real token has position 0.

    >>> positions(torch.tensor([[0, 1, 1], [1, 1, 0]])).tolist()  # padded on the left, on the right
    [[0, 0, 1], [0, 1, 1]]
    """
    if attention.dim() != 2:
        raise ValueError(f"attention is {tuple(attention.shape)}; give (B,L)")
    return (as_mask(attention, "attention").long().cumsum(1) - 1).clamp_min(0)


def pad_rows(rows: Sequence[Sequence[int]], value: int, *, left: bool) -> tuple[Tensor, Tensor]:
    """What `pad_left` and `pad_right` share."""
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


def pad_left(rows: Sequence[Sequence[int]], value: int = 0) -> tuple[Tensor, Tensor]:
    """Lists of ids, padded on the left, for prompts: B rows -> ids (B,L) int64 and attention (B,L) float32.

    On the left, because sampling goes on at the right end of every row.

    >>> [x.tolist() for x in pad_left([[3, 4], [5]])]
    [[[3, 4], [0, 5]], [[1.0, 1.0], [0.0, 1.0]]]
    """
    return pad_rows(rows, value, left=True)


def pad_right(rows: Sequence[Sequence[int]], value: int = 0) -> tuple[Tensor, Tensor]:
    """Lists of ids, padded on the right, for training batches: B rows -> ids (B,L) int64 and attention (B,L) float32.

    >>> [x.tolist() for x in pad_right([[3, 4], [5]])]
    [[[3, 4], [5, 0]], [[1.0, 1.0], [1.0, 0.0]]]
    """
    return pad_rows(rows, value, left=False)
