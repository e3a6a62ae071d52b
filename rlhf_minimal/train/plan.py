"""What a run will take: weights, memory by part, tokens per step. `train ALGORITHM --plan` prints it and trains nothing.

Weights, gradients and optimizer are counted. Activations are measured: the widest micro-batch of the run goes forward once,
and what autograd keeps for the backward pass is added up, each storage once.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .. import families, models
from ..data import collate_demonstrations, collate_pairs, prompts_ids
from ..rollout import Rollout
from ..tensors import pad_left
from . import policy, steps
from .job import Job

MOST = 500  # steps whose batches are looked through for the widest micro-batch
ADAM = 2    # numbers that AdamW keeps for each weight that learns


@dataclass(frozen=True)
class Plan:
    """Counts of weights, and the bytes of one process by part."""

    total: int        # weights of the model that learns, a critic included: a number
    learning: int     # of them, those that learn: a number
    weights: int      # bytes of all of them
    frozen: int       # bytes of the reference and of reward models
    gradients: int
    optimizer: int
    activations: int  # what one micro-batch keeps for its backward pass
    moment: int       # what the backward pass holds beside that when it begins
    cache: int        # keys, values and logits of one micro-batch's samples
    later: bool       # that micro-batch comes after another one, whose gradients are there already

    @property
    def peak(self) -> int:
        """The most that a process holds at a time: when a backward pass begins, at the update, or while it samples."""
        backward = self.gradients * self.later + self.activations + self.moment
        return self.weights + self.frozen + self.optimizer + max(backward, self.gradients, self.cache)

    def sharded(self, processes: int) -> "Plan":
        """One process of so many under FSDP: its part of what learns. A layer being whole for a moment is not counted."""
        return replace(self, **{name: -(-getattr(self, name) // processes) for name in ("weights", "gradients", "optimizer")})

    def with_adapters(self, count: int, size: int) -> "Plan":
        """The same run with `count` weights of adapters of `size` bytes each: the rest is frozen and is its own reference."""
        return replace(self, total=self.total + count, learning=count, weights=self.weights + count * size, frozen=0,
                       gradients=count * size, optimizer=ADAM * count * size)


def plan(job: Job, count: int) -> tuple[Plan, int, tuple[int, int]]:
    """Measure a run of `count` steps that `build` made ready -> (its Plan, tokens of its widest step over all processes, the
    (rows, width) of the micro-batch that was measured). A forward pass or two; the weights stay as they are."""
    batches, loss_of, tokens, cache = (sampled if job.algorithm.rows == "prompts" else given)(job, count)
    frozen = [] if job.reference is None else [job.reference]
    frozen += [] if job.reward is None else job.reward.judges
    learning = [p for model in job.learning for p in model.parameters() if p.requires_grad]
    gradients = sum(p.numel() * p.element_size() for p in learning)
    total = sum(p.numel() for model in job.learning for p in model.parameters())
    plans = []
    for later, (batch, shape) in enumerate(batches):
        with kept([*job.learning, *frozen]) as found, job.precision():
            loss_of(batch)
        made = Plan(total, sum(p.numel() for p in learning), in_memory(job.learning), in_memory(frozen), gradients,
                    ADAM * gradients, sum(found), 2 * max(found, default=0), cache(shape), later > 0)
        plans.append((made, tokens, shape))
    return max(plans, key=lambda x: x[0].peak)


def lines(job: Job, count: int) -> list[str]:
    """The plan as text: what one process holds as the run was asked for, and in the other ways to run it."""
    made, tokens, (rows, width) = plan(job, count)
    ways = {"as asked": made}
    if not job.settings.lora:
        size = next(p for p in job.learning[0].parameters()).element_size()
        ways["LoRA, rank 8"] = made.with_adapters(adapter_weights(families.unwrap(job.model), 8), size)
    ways |= {f"FSDP, {n} processes": made.sharded(n) for n in (2, 8) if job.algorithm.rows != "prompts"}
    names = ("weights", "frozen", "gradients", "optimizer", "activations", "cache", "peak")
    head = f"{'MB of one process':20}" + "".join(f"{name:>12}" for name in names)
    table = [f"{way:20}" + "".join(f"{getattr(x, name) / 1e6:12,.1f}" for name in names) for way, x in ways.items()]
    n = job.accelerator.num_processes
    early = ", no completion ending early" if made.cache else ""
    return [f"{made.total:,} weights, {made.learning:,} of them learn",
            f"{tokens:,} tokens in the widest step, padding included",
            f"measured: a micro-batch of {rows} rows, {width} wide{early}", head, *table,
            f"Under DDP each of {n if n > 1 else 'N'} processes holds what one holds, with the same micro_batch. The peak comes",
            "when a backward pass begins, or while it samples. Not counted: torch itself and the program, some 300 MB."]


# ---- what is counted ----

def in_memory(models: Iterable[nn.Module]) -> int:
    """Bytes of all weights and buffers, shared ones once."""
    stores = (x.untyped_storage() for model in models for x in (*model.parameters(), *model.buffers()))
    return sum({store.data_ptr(): store.nbytes() for store in stores}.values())


@contextmanager
def kept(models: list[nn.Module]) -> Iterator[list[int]]:
    """While it is open, the bytes of each storage that autograd keeps for a backward pass; the models' own are left out."""
    seen = {x.untyped_storage().data_ptr() for model in models for x in (*model.parameters(), *model.buffers())}
    found, held = [], []

    def keep(x: Tensor) -> Tensor:
        store = x.untyped_storage()
        if store.data_ptr() not in seen:
            seen.add(store.data_ptr())
            found.append(store.nbytes())
            held.append(store)  # else its address could be given to another one
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        yield found


def adapter_weights(model: nn.Module, rank: int) -> int:
    """How many weights LoRA of this rank adds to the layers that `models.lora` takes by default."""
    layers = [layer for name, layer in model.named_modules() if name.rsplit(".", 1)[-1] in models.ADAPTED]
    return sum(rank * sum(layer.weight.shape) for layer in layers)


# ---- the widest micro-batch ----

def widest(job: Job, count: int, encode: Callable[[list[dict]], Any], places: Callable[[Any], int]) -> tuple[list, int]:
    """Of the run's first steps, at most MOST -> ([the micro-batch of most places among those that come first in their step, and
    among the later ones, if there are any], the places of the widest step)."""
    size, best, whole = job.settings.micro_batch, {}, 0
    for step in range(min(count, MOST)):
        rows = job.batch(step)
        batches = [encode(rows[i:i + size]) for i in range(0, len(rows), size)]
        whole = max(whole, sum(map(places, batches)))
        for i, batch in enumerate(batches):  # a process has one micro-batch, or several one after the other
            late = i % (len(batches) // job.accelerator.num_processes) > 0
            best[late] = max(best.get(late, batch), batch, key=places)
    return [best[late] for late in sorted(best)], whole


def given(job: Job, count: int) -> tuple[list, Callable, int, Callable]:
    """Of given answers: (the widest micro-batches with their shapes, the loss of one, tokens of the widest step, no cache)."""
    s, kind = job.settings, job.algorithm.rows

    def encode(rows: list[dict]) -> dict[str, Tensor]:
        if kind == "pairs":
            return collate_pairs(rows, job.tokenizer, s.max_len)
        return collate_demonstrations(rows, job.tokenizer, s.max_len, turns=getattr(s, "turns", "last"))

    def loss_of(batch: dict[str, Tensor]) -> None:
        batch, nothing = steps.to_device(job, batch), torch.zeros(len(batch["ids"]), device=job.device)
        batch |= {"ref": nothing, "desirable": nothing.long(), "kl_reference": nothing}
        if job.algorithm.reference:
            batch |= {name: nothing[:len(nothing) // 2] for name in ("ref_chosen", "ref_rejected")}
        {"demonstrations": steps.demonstration_loss, "pairs": steps.pair_loss, "unpaired": steps.thumb_loss}[kind](job, batch, 1.0)

    batches, tokens = widest(job, count, encode, lambda batch: batch["ids"].numel())
    return [(batch, tuple(batch["ids"].shape)) for batch in batches], loss_of, tokens, lambda shape: 0


def sampled(job: Job, count: int) -> tuple[list, Callable, int, Callable]:
    """The same of samples, as if no completion ended before max_new_tokens, and the bytes that sampling so many takes."""
    s, new = job.settings, job.settings.max_new_tokens

    def shape(prompts: list[list[int]]) -> tuple[int, int]:
        return len(prompts) * s.group_size, max(map(len, prompts)) + new

    def loss_of(prompts: list[list[int]]) -> None:
        ids, attention = (x.to(job.device).repeat_interleave(s.group_size, 0) for x in pad_left(prompts))
        before, ones = ids.shape[1], torch.ones(len(ids), new, device=job.device)
        group = torch.arange(len(prompts), device=job.device).repeat_interleave(s.group_size)
        rollout = Rollout(torch.cat([ids, ids[:, -1:].expand(-1, new)], 1), torch.cat([attention, ones.long()], 1), before,
                          ones.long(), -ones, group, ones[:, 0] < 1)
        columns = {"ppo": {"value": ones, "adv": ones, "ret": ones}, "reinforce": {"adv": ones[:, 0]},
                   "grpo": {"score": ones[:, 0], "logp_ref": -ones}}.get(job.algorithm.name, {"score": ones[:, 0]})
        policy.policy_loss(job, (rollout, columns), 1.0)

    batches, tokens = widest(job, count, lambda rows: prompts_ids(rows, job.tokenizer, s.max_len - new),
                             lambda prompts: shape(prompts)[0] * shape(prompts)[1])
    return [(prompts, shape(prompts)) for prompts in batches], loss_of, tokens, lambda shape: cache_of(job, *shape)


@torch.no_grad()
def cache_of(job: Job, rows: int, width: int) -> int:
    """Bytes of the keys and values of so many rows, by what two tokens take, and of the logits of a token of each."""
    model = families.unwrap(job.model)
    out = model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=job.device), use_cache=True)
    layers = [x for layer in getattr(out.past_key_values, "layers", ()) for x in (layer.keys, layer.values) if x is not None]
    two = sum(x.numel() * x.element_size() for x in layers)
    return rows * (two // 2 * width + 4 * 4 * out.logits.shape[-1])  # logits, log-softmax, their sums in turn
