"""What a training run holds, and how its gradients are made.

The batch of a step is cut into micro-batches whose content depends on the seed and the step alone, and the processes share
them. Every loss divides by the same number, the terms of the whole batch, so one process and many add up the same gradient.
"""

import importlib
import inspect
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from .. import models
from ..aggregate import merge_stats
from ..data import fingerprint, load_numbered, ready
from ..kl import AdaptiveKL, FixedKL
from ..ppo import Critic
from ..reward_model import RewardModel
from .algorithms import ALGORITHMS, Algorithm
from .rewards import Reward, reward_function
from .settings import MEMORY


@dataclass
class Job:
    """All that a step needs. `control.beta` and `baseline` change as it goes and are in every checkpoint."""

    algorithm: Algorithm
    settings: SimpleNamespace
    accelerator: Accelerator
    model: nn.Module
    tokenizer: Any
    rows: Any  # a datasets.Dataset
    seed: int
    data: str
    lengths: Any = None  # of the rows: how many are cut
    fingerprints: dict[str, str] = field(default_factory=dict)  # of what it starts from
    optimizer: Any = None
    critic: nn.Module | None = None
    reference: nn.Module | None = None  # None: the model without its adapters
    reward: Reward | None = None
    control: FixedKL | AdaptiveKL = field(default_factory=lambda: FixedKL(0.0))
    baseline: float = 0.0
    held: list[dict] = field(default_factory=list)  # rows of eval_data

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.accelerator.device

    @property
    def learning(self) -> list[nn.Module]:
        """The models whose weights change."""
        return [self.model] if self.critic is None else [self.model, self.critic]

    def generator(self, *names: Any) -> torch.Generator:
        """Random numbers of their own for each purpose, step and micro-batch, the same on whatever process."""
        return torch.Generator().manual_seed(zlib.crc32(" ".join(str(x) for x in (self.seed, *names)).encode()))

    def batch(self, step: int) -> list[dict]:
        """The rows of a step, counted from 0: the data in a new order each epoch, none left out between two epochs."""
        size, n, rows = self.settings.batch_size, len(self.rows), []
        for place in range(step * size, (step + 1) * size):
            if not rows or place % n == 0:
                order = torch.randperm(n, generator=self.generator("order", place // n)).tolist()
            rows.append(self.rows[order[place % n]])
        return rows

    def share(self, rows: Sequence, size: int | None = None) -> list[tuple[int, Sequence]]:
        """This process's micro-batches of a step's rows, as (number, rows): whole ones, as many as every other has."""
        size = size or self.settings.micro_batch
        pieces = [(i // size, rows[i:i + size]) for i in range(0, len(rows), size)]
        each, rank = len(pieces) // self.accelerator.num_processes, self.accelerator.process_index
        return pieces[rank * each:(rank + 1) * each]

    def precision(self) -> torch.autocast:
        """bfloat16 in the forwards over float32 weights; with adapters the frozen weights are bfloat16 themselves."""
        enabled = self.settings.dtype == "bfloat16" and not self.settings.lora
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    @contextmanager
    def frozen_reference(self) -> Iterator[nn.Module]:
        """The starting model, without gradients: a copy, or the policy with its adapters off."""
        with torch.no_grad(), ExitStack() as stack:
            if self.reference is None:
                stack.enter_context(models.adapters_off(self.model))
            yield models.unwrap(self.model) if self.reference is None else self.reference


# ---- from a loss to an update ----

def call_loss(job: Job, *given: Tensor, **offered: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The algorithm's loss, given the tensors and, of the others and of the settings, those that its signature names."""
    file, name = job.algorithm.loss.split(".")
    loss = getattr(importlib.import_module(f"rlhf_minimal.{file}"), name)
    offered = vars(job.settings) | offered
    return loss(*given, **{name: offered[name] for name in inspect.signature(loss).parameters if name in offered})


def learn(job: Job, batches: list, loss_of: Callable, terms_of: Callable) -> dict[str, float]:
    """One optimizer step from this process's micro-batches -> stats of the whole batch.

    terms_of(batch): how many terms (tokens, pairs, rows) the mean of its loss has. loss_of(batch, total) -> (loss, stats),
    where the loss divides by `total`, the terms of all micro-batches of all processes. ValueError if the gradient is not
    finite; the weights are then as before.
    """
    terms = [float(terms_of(batch)) for batch in batches]
    total, parts = sum(gather_object(terms)), []
    for i, batch in enumerate(batches):
        with ExitStack() as stack:
            for model in job.learning if i < len(batches) - 1 else ():
                stack.enter_context(job.accelerator.no_sync(model))  # processes meet after their last micro-batch
            with job.precision():
                loss, stats = loss_of(batch, total)
            job.accelerator.backward(loss * job.accelerator.num_processes)  # since DDP averages the gradients
        parts.append((terms[i], {k: float(v) for k, v in stats.items()} | {"loss": loss.item()}))
    weights = [p for model in job.learning for p in model.parameters()]
    norm = float(job.accelerator.clip_grad_norm_(weights, job.settings.max_norm))  # once, of the whole gradient
    stats = merge_stats(gather_object(parts))
    if not math.isfinite(norm):
        raise ValueError(f"the gradient's norm is {norm} at loss {stats['loss']}; lower the learning rate")
    job.optimizer.step()
    job.optimizer.zero_grad()
    return stats | {"grad_norm": norm}


# ---- what a run starts from ----

def build(algorithm: str, accelerator: Accelerator, *, model: str, data: Any, settings: SimpleNamespace, seed: int,
          own: dict[str, Callable] | None = None) -> Job:
    """Load data and models, check that they fit, hand them to Accelerate. ValueError or OSError; nothing is written.

    own: reward functions that were given as such, by name.
    """
    a, s = ALGORITHMS[algorithm], settings
    sampled = a.rows == "prompts"
    if sampled and (kind := accelerator.distributed_type.name) in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise ValueError(f"{algorithm} samples, which needs whole weights; launch it without {kind}")
    s.micro_batch = micro_batch_size(s, accelerator.num_processes)
    families = s.families.split(",") if s.families else None
    shown = str(data) if isinstance(data, (str, Path)) else MEMORY
    rows, numbers = load_numbered(data, a.rows, n=s.rows, split=s.split, seed=seed, families=families, columns=s.columns)
    torch.manual_seed(seed)  # adapters start at random
    policy, tokenizer = models.load(model)
    limit = models.context_length(policy) or 1_000_000
    s.max_len = min(s.max_len or limit, limit)
    if sampled and s.max_new_tokens >= s.max_len:
        raise ValueError(f"max_new_tokens {s.max_new_tokens} leave no room for a prompt within {s.max_len} tokens; lower them")
    marks = {"data": fingerprint.of_rows(rows), "tokenizer": fingerprint.of_tokenizer(tokenizer),
             "policy": fingerprint.of_weights(policy)}
    room = s.max_len - (s.max_new_tokens if sampled else 0)
    rows, lengths = ready(rows, tokenizer, room, kind=a.rows, vocabulary=models.vocab_size(policy), numbers=numbers, source=shown,
                          turns=getattr(s, "turns", "last"), long=getattr(s, "long", "cut"), margin=a.head == "score")
    held = held_out(s, a, tokenizer, models.vocab_size(policy), room, families, accelerator)
    job = Job(a, s, accelerator, models.disable_dropout(policy), tokenizer, rows, seed, shown, lengths, marks, held=held)
    _make_models(job)
    if sampled:
        job.reward = reward_function(s.reward, rows, tokenizer, s.max_len, job.device, own)
        job.fingerprints |= job.reward.fingerprints
        job.control = AdaptiveKL(s.beta, s.kl_target, s.kl_horizon) if s.kl_target else FixedKL(s.beta)
    _make_optimizer(job)
    return job


def held_out(
    s: SimpleNamespace, a: Algorithm, tokenizer: Any, vocabulary: int, room: int, families: list | None, accelerator: Accelerator,
) -> list[dict]:
    """The rows of eval_data, checked as those of the training are; [] where there is none. ValueError for sharded weights."""
    if not s.eval_data:
        return []
    if (kind := accelerator.distributed_type.name) in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise ValueError(f"eval_data needs whole weights, which {kind} cuts; leave it out, and use `evaluate` after the run")
    rows, numbers = load_numbered(s.eval_data, a.rows, families=families, columns=s.columns)
    rows, _ = ready(rows.select(range(min(s.eval_rows, len(rows)))), tokenizer, room, kind=a.rows, vocabulary=vocabulary,
                    numbers=numbers, source=s.eval_data, margin=a.head == "score")
    return list(rows)


def micro_batch_size(s: SimpleNamespace, processes: int) -> int:
    """Rows per micro-batch, such that every process has whole ones. ValueError where the sizes do not divide."""
    steps = getattr(s, "minibatches", 1)
    parts = math.lcm(2, processes) * steps  # half a batch also with one process: then two processes do the same sums
    if s.micro_batch is None and processes == 1 and s.batch_size % parts:
        parts = steps
    size = s.micro_batch or max(1, s.batch_size // parts)
    if s.batch_size % (size * processes * steps):
        raise ValueError(f"a batch of {s.batch_size} in micro-batches of {size} is not divisible among {processes} processes"
                         f"{f' x {steps} minibatches' if steps > 1 else ''}; choose batch_size and micro_batch so that it is")
    return size


def _make_models(job: Job) -> None:
    """The types of the weights, adapters, reference, critic, reward model: all that is made of the loaded model."""
    s, head = job.settings, job.algorithm.head
    half = torch.bfloat16 if s.lora else torch.float32  # what learns stays float32
    job.model.to(job.device, {"float32": torch.float32, "float64": torch.float64, "bfloat16": half}[s.dtype])
    if s.dtype == "bfloat16" and job.device.type == "cpu":
        job.model.set_attn_implementation("eager")  # the backward pass of the CPU's fused attention is slow in bfloat16
    if s.lora:
        job.model = models.lora(job.model, r=s.lora, alpha=2 * s.lora)
    elif job.algorithm.reference:
        job.reference = models.frozen_copy(job.model)
    if head == "value":
        job.critic = Critic(job.model)
    if head == "score":
        job.model = RewardModel(job.model)
    if head and s.dtype == "float64":
        (job.critic or job.model).double()


def _make_optimizer(job: Job) -> None:
    """AdamW over all that learns, matrices and vectors in groups of their own, and everything handed to Accelerate."""
    for model in job.learning:
        model.train()  # dropout is 0 everywhere
    weights = [p for model in job.learning for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in weights if p.dim() > 1], "weight_decay": job.settings.weight_decay},
              {"params": [p for p in weights if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=job.settings.lr)
    job.optimizer, job.model, *critic = job.accelerator.prepare(optimizer, *job.learning)
    job.critic = critic[0] if critic else None
