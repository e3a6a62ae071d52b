"""The table of comparisons: how a row is declared, on what inputs it is measured, and what 'agrees' means.

A row is a function of one `Case` that returns two pairs (ours, theirs), each (value, gradients) from `pull` on the same
inputs. A row with `why` is a documented disagreement: it has to *differ*, and its measured size is what is recorded.
"""

from dataclasses import dataclass
from itertools import product
from types import SimpleNamespace

import torch

SHAPES = ((2, 3, 4, 7), (4, 1, 6, 11), (6, 5, 9, 5))  # rows (an even number), longest prompt, longest completion, vocabulary
DTYPES = (torch.float64, torch.float32)
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
ROWS = []


@dataclass(frozen=True)
class Case:
    """One set of random inputs."""

    shape: tuple
    dtype: torch.dtype
    seed: int

    def generator(self):
        """A fresh generator: two sides that draw from it draw the same."""
        return torch.Generator().manual_seed(1000 * self.seed + sum(self.shape))


CASES = [Case(*case) for case in product(SHAPES, DTYPES, range(3))]


def row(name, ours, outside, *, why="", item="", tolerance=None):
    """Decorator: put the function into the table. `ours` is module.function of rlhf_minimal, `item` a correctness id."""

    def add(fn):
        ROWS.append(SimpleNamespace(name=name, ours=ours, outside=outside, why=why, item=item, fn=fn, tolerance=tolerance))
        return fn

    return add


def pull(fn, *inputs):
    """(value, gradients) of fn at fresh copies of the inputs; a tensor's gradient is that of a fixed weighted sum."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = fn(*leaves)
    if not value.requires_grad:
        return value.detach(), []
    weights = torch.cos(torch.arange(value.numel(), dtype=value.dtype)).view(value.shape) if value.dim() else 1.0
    grads = torch.autograd.grad((value * weights).sum(), leaves, allow_unused=True)
    return value.detach(), [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True)]


def gap(a, b):
    """Largest difference, relative to the larger of 1 and the largest entry of b (a loss), as a float."""
    return float((a.double() - b.double()).abs().max() / max(1.0, float(b.double().abs().max()))) if a.numel() else 0.0


def grad_gap(a, b):
    """Largest difference of two gradients, relative to the largest entry of b; 0 where both are 0 everywhere."""
    size = max(float(b.double().abs().max()), float(a.double().abs().max()))
    return float((a.double() - b.double()).abs().max()) / size if size else 0.0


def measure(spec):
    """Run a row on all cases -> its record: the largest differences by dtype, and whether they fit the tolerance."""
    loss, grad = {str(d)[6:]: 0.0 for d in DTYPES}, {str(d)[6:]: 0.0 for d in DTYPES}
    has_grad = False
    for case in CASES:
        (ours, our_grads), (theirs, their_grads) = spec.fn(case)
        key = str(case.dtype)[6:]
        if ours.shape != theirs.shape or len(our_grads) != len(their_grads):
            raise ValueError(f"{spec.name}: {tuple(ours.shape)} against {tuple(theirs.shape)}, "
                             f"{len(our_grads)} gradients against {len(their_grads)}; compare like with like")
        loss[key] = max(loss[key], gap(ours, theirs))
        for a, b in zip(our_grads, their_grads, strict=True):
            has_grad, grad[key] = True, max(grad[key], grad_gap(a, b))
    tolerance = {key: max(least, spec.tolerance or 0.0) for key, least in TOLERANCE.items()}
    worst = {key: max(loss[key], grad[key]) for key in loss}
    within = all(worst[key] <= tolerance[key] for key in worst)  # a NaN is not within
    record = {k: getattr(spec, k) for k in ("name", "ours", "outside", "why", "item")}
    return record | {"cases": len(CASES), "loss": loss, "gradient": grad if has_grad else None, "tolerance": tolerance,
                     "within": within, "expected": "differs" if spec.why else "agrees"}


class Table(torch.nn.Module):
    """A 'model' whose logits are looked up: both sides get the same numbers, and gradients reach every one of them."""

    def __init__(self, *pairs):
        super().__init__()
        self.pairs, self.is_gradient_checkpointing = pairs, False

    def forward(self, input_ids=None, attention_mask=None, **_):
        """Logits of the ids that it was given, by content: (B,L) -> .logits (B,L,V)."""
        for ids, logits in self.pairs:
            if ids.shape == input_ids.shape and torch.equal(ids, input_ids):
                return SimpleNamespace(logits=logits * 1.0)
        raise ValueError(f"no logits for ids {tuple(input_ids.shape)}")


def sizes(case, rows):
    """Random numbers of tokens of prompts and completions, (rows,) each; the first row is the longest."""
    _, longest_prompt, longest, _ = case.shape
    g = case.generator()
    prompt = torch.randint(1, longest_prompt + 1, (rows,), generator=g)
    completion = torch.randint(1, longest + 1, (rows,), generator=g)
    prompt[0], completion[0] = longest_prompt, longest
    return prompt, completion


def lay_out(case, *, left=True, full=False):
    """A random batch: ids, attention, mask (B,L) (1 on completions), prompt_len P, logits, old, ref (B,L,V), score (B,).

    left: prompts padded on the left to P, completions on the right (rollouts); else all padding is on the right
    (preference data). Padding ids are 0, real ones above it. full: no completion is shorter than T.
    """
    rows, width_p, width_t, vocab = case.shape
    prompt, completion = sizes(case, rows)
    if full:
        completion = torch.full_like(completion, width_t)
    at = torch.arange(width_p + width_t)[None]
    start = (width_p - prompt if left else 0 * prompt)[:, None]
    edge = start + prompt[:, None]
    end = edge + completion[:, None]
    attention, mask = ((at >= start) & (at < end)).long(), ((at >= edge) & (at < end)).long()
    g = case.generator()
    ids = torch.randint(1, vocab, mask.shape, generator=g) * attention

    def table(scale):
        return scale * torch.randn(*mask.shape, vocab, generator=g, dtype=torch.float64)

    logits = table(2.0)
    old, ref = logits + table(0.3), logits + table(0.5)
    score = torch.randn(rows, generator=g, dtype=torch.float64)
    tensors = {"logits": logits, "old": old, "ref": ref, "score": score}
    return SimpleNamespace(ids=ids, attention=attention, mask=mask, P=width_p, T=width_t,
                           **{name: x.to(case.dtype) for name, x in tensors.items()})
