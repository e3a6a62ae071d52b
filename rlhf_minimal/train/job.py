"""What a training run holds, and the one way in which its gradients are made.

A step's batch is cut into micro-batches whose content depends on the seed and the step alone; the processes share them.
So one process and many add up the same terms, over the same denominators (E14, J1).
"""

import math
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from accelerate.utils import gather_object

from .. import models
from ..data import load_data
from ..kl import AdaptiveKL, FixedKL
from ..ppo import Critic
from ..reward_model import RewardModel
from .rewards import scorer
from .settings import ALGORITHMS

NO_REFERENCE = ("sft", "reward", "simpo", "orpo", "cpo")


@dataclass
class Job:
    """All that a step needs. `control.beta` and `baseline` change as it goes and are in every checkpoint."""

    algorithm: str
    accelerator: object
    model: object
    tokenizer: object
    rows: object  # a datasets.Dataset
    s: SimpleNamespace
    seed: int
    data: str
    optimizer: object = None
    critic: object = None
    reference: object = None  # None: the model without its adapters
    score: object = None  # (prompts, rollout) -> (B,)
    control: object = field(default_factory=lambda: FixedKL(0.0))
    baseline: float = 0.0
    params: list = field(default_factory=list)

    @property
    def device(self):
        """Where this process computes."""
        return self.accelerator.device

    def stream(self, *names):
        """A generator of its own for each purpose, step and micro-batch, the same on whatever process (B11)."""
        return torch.Generator().manual_seed(zlib.crc32(" ".join(str(x) for x in (self.seed, *names)).encode()))

    def batch(self, step):
        """The rows of a step, counted from 0: the data in a new order each epoch, no row left over between two."""
        size, n, rows = self.s.batch_size, len(self.rows), []
        for place in range(step * size, (step + 1) * size):
            if not rows or place % n == 0:
                order = torch.randperm(n, generator=self.stream("order", place // n)).tolist()
            rows.append(self.rows[order[place % n]])
        return rows

    def pieces(self, rows, size=None):
        """A step's rows (anything with a length and slices) cut into micro-batches."""
        size = size or self.s.micro_batch
        return [rows[i:i + size] for i in range(0, len(rows), size)]

    def mine(self, pieces):
        """[(number, piece)] of this process: whole micro-batches, as many as every other one has."""
        a = self.accelerator
        each = len(pieces) // a.num_processes
        return list(enumerate(pieces))[a.process_index * each:(a.process_index + 1) * each]

    def gather(self, objects):
        """The lists of all processes in one, in the order of the processes."""
        return gather_object(list(objects))

    def precision(self):
        """bfloat16 in the forwards, float32 weights (H4); with adapters the frozen weights are bfloat16 themselves."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.s.dtype == "bfloat16" and not self.s.lora)

    @contextmanager
    def referring(self):
        """The frozen starting model: a copy, or the policy with its adapters off (C11)."""
        with torch.no_grad(), ExitStack() as stack:
            if self.reference is None:
                stack.enter_context(models.adapters_off(self.model))
            yield models.unwrap(self.model) if self.reference is None else self.reference


def learn(job, pieces, loss, weigh):
    """One optimizer step -> stats. pieces: this process's micro-batches; weigh(piece): what its loss is a mean over.

    loss(piece, total) -> (this piece's part of the mean over `total`, stats). Total and gradient are those of all
    pieces of all processes; DDP averages gradients, hence the factor (J1). The gradient is clipped once (E15).
    """
    weights = [float(weigh(piece)) for piece in pieces]
    total, parts = sum(job.gather(weights)), []
    for i, piece in enumerate(pieces):
        with ExitStack() as stack:
            for model in (job.model, job.critic) if i < len(pieces) - 1 else ():
                if model is not None:
                    stack.enter_context(job.accelerator.no_sync(model))  # processes meet after their last piece
            with job.precision():
                x, stats = loss(piece, total)
            job.accelerator.backward(x * job.accelerator.num_processes)
        parts.append((weights[i], x.item(), {k: float(v) for k, v in stats.items()}))
    norm = float(job.accelerator.clip_grad_norm_(job.params, job.s.max_norm))
    stats = merged(job.gather(parts))
    if not math.isfinite(norm):
        raise ValueError(f"the gradient's norm is {norm} at loss {stats['loss']}; lower the learning rate")
    job.optimizer.step()
    job.optimizer.zero_grad()
    return stats | {"grad_norm": norm}


def merged(parts):
    """[(weight, part of the loss, stats)] of all micro-batches -> stats of the batch: means by weight (J6)."""
    out = {}
    for name in dict.fromkeys(name for _, _, stats in parts for name in stats):
        some = [(w, stats[name]) for w, _, stats in parts if name in stats and w > 0]
        out[name] = sum(w * x for w, x in some) / max(sum(w for w, _ in some), 1e-12)
    out.pop("tokens", None)  # counted elsewhere, in all algorithms alike
    if "perplexity" in out:
        out["perplexity"] = math.exp(out["nll"])
    return {"loss": sum(x for _, x, _ in parts)} | {k: v for k, v in out.items() if k != "loss"}


def cut(s, processes):
    """Rows of a micro-batch, such that every process has whole ones. ValueError where the sizes do not divide."""
    steps = getattr(s, "minibatches", 1)
    parts = math.lcm(2, processes) * steps  # half a batch also with one process: then two processes do the same sums
    if s.micro_batch is None and processes == 1 and s.batch_size % parts:
        parts = steps
    size = s.micro_batch or max(1, s.batch_size // parts)
    if s.batch_size % (size * processes * steps):
        raise ValueError(f"a batch of {s.batch_size} in micro-batches of {size} is not divisible among {processes} processes"
                         f"{f' x {steps} minibatches' if steps > 1 else ''}; choose batch_size and micro_batch so that it is")
    return size


def build(algorithm, accelerator, *, model, data, s, seed):
    """Load data and models, check that they fit, hand them to Accelerate -> Job. Writes nothing."""
    a = ALGORITHMS[algorithm]
    if a.data == "prompts" and accelerator.distributed_type.name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise ValueError(f"{algorithm} samples, which needs whole weights; launch it without {accelerator.distributed_type.name}")
    s.micro_batch = cut(s, accelerator.num_processes)
    rows = load_data(data, a.data, n=s.rows, seed=seed, families=s.families.split(",") if s.families else None)
    torch.manual_seed(seed)  # adapters start at random
    policy, tokenizer = models.load(model)
    limit = models.context_length(policy) or 1_000_000
    s.max_len = min(s.max_len or limit, limit)
    if a.data == "prompts" and s.max_new_tokens >= s.max_len:
        raise ValueError(f"max_new_tokens {s.max_new_tokens} leave no room for a prompt within {s.max_len} tokens; lower them")
    job = Job(algorithm, accelerator, models.disable_dropout(policy), tokenizer, rows, s, seed, str(data))
    _weights(job)
    if a.data == "prompts":
        job.score = scorer(s.reward, rows, tokenizer, s.max_len, job.device)
        job.control = AdaptiveKL(s.beta, s.kl_target, s.kl_horizon) if s.kl_target else FixedKL(s.beta)
    _prepare(job)
    return job


def _weights(job):
    """Types, adapters, reference, heads: all that is made of the loaded model."""
    s = job.s
    kind = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16 if s.lora else torch.float32}
    job.model.to(job.device, kind[s.dtype])
    if s.dtype == "bfloat16" and job.device.type == "cpu":
        job.model.set_attn_implementation("eager")  # the backward pass of the CPU's fused attention is slow in bfloat16
    if s.lora:
        job.model = models.lora(job.model, r=s.lora, alpha=2 * s.lora)
    elif job.algorithm not in NO_REFERENCE:
        job.reference = models.frozen_copy(job.model)
    if job.algorithm == "ppo":
        job.critic = Critic(job.model)
    if job.algorithm == "reward":
        job.model = RewardModel(job.model)
    for head in (job.critic, job.model if job.algorithm == "reward" else None):
        if head is not None and s.dtype == "float64":
            head.double()


def _prepare(job):
    """The optimizer over all that learns, in two groups (H5), and everything handed to Accelerate."""
    trained = [job.model] + ([job.critic] if job.critic is not None else [])
    for model in trained:
        model.train()  # dropout is 0 everywhere
    learned = [p for model in trained for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in learned if p.dim() > 1], "weight_decay": job.s.weight_decay},
              {"params": [p for p in learned if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=job.s.lr)
    job.optimizer, job.model, *rest = job.accelerator.prepare(optimizer, *trained)
    job.critic = rest[0] if rest else None
    job.params = [p for model in (job.model, *rest) for p in model.parameters()]


def plain(model):
    """The model without wrapper and with its adapters merged in, as transformers knows it; changes it in place."""
    model = models.unwrap(model)
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    found = [(name, part) for name, part in model.named_modules() if hasattr(part, "base_layer") and hasattr(part, "merge")]
    if found:
        model.float()  # a small change added in bfloat16 would be rounded away
    for name, part in found:
        part.merge()
        home, _, last = name.rpartition(".")
        setattr(model.get_submodule(home), last, part.base_layer)
    return model
