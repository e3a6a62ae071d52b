"""Rows of `make bench`: a part of an epoch of SFT, of a reward model and of DPO against TRL's trainers.

Both sides start from tokens, take batches of the same size in random order, AdamW (fused) at the same rate, gradients
clipped at 1; TRL without gradient checkpointing, packing, logging, saving. Of TRL only the training loop is timed.
"""

import copy
import tempfile
import time
from functools import partial

import torch
from datasets import Dataset

from benchmarks.speed_rows import clocked, row
from rlhf_minimal import direct_alignment as da
from rlhf_minimal import models, reward_model, sft
from rlhf_minimal.chat import encode_pair
from rlhf_minimal.data import batches, load_data
from rlhf_minimal.tensors import pad_right

RATE = 1e-5
PRODUCTS = ("most of a step is matrix products near the machine's peak (where.md), which the peer needs too; what is saved is "
            "padding and logits that nobody wants")
TWICE = (PRODUCTS + ". More than half of a row is its prompt, read once with each answer here and there; reading it once for "
         "both would save a quarter of the tokens, and is not done")
PLAIN = dict(learning_rate=RATE, lr_scheduler_type="constant", num_train_epochs=1, gradient_checkpointing=False, bf16=False,
             logging_strategy="no", save_strategy="no", eval_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
             dataloader_pin_memory=False, weight_decay=0.0, max_grad_norm=1.0)


def adamw(*modules, rate=RATE):
    """The optimizer of both sides."""
    return torch.optim.AdamW([p for m in modules for p in m.parameters()], lr=rate, weight_decay=0.0, fused=True)


def loop(trainer, units):
    """A side: the trainer's own loop, from its first batch to its last step."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_begin(self, *_, **__):
            self.begin = time.perf_counter()

        def on_train_end(self, *_, **__):
            self.end = time.perf_counter()

    clock = Clock()
    trainer.add_callback(clock)

    def side():
        trainer.train()
        return clock.end - clock.begin, units

    return side


def config(kind, **more):
    """A trl config that writes nowhere that stays."""
    return kind(output_dir=tempfile.mkdtemp(prefix="bench-"), **PLAIN, **more)


def encoded(tokenizer, rows, side):
    """[(ids, mask), ...]."""
    return [encode_pair(tokenizer, r["prompt"], r[side]) for r in rows]


def packed(rows):
    """(ids, mask) pairs -> a batch, as `data.collate_demonstrations` makes it."""
    ids, attention = pad_right([ids for ids, _ in rows])
    return {"ids": ids, "attention": attention, "mask": pad_right([mask for _, mask in rows])[0].float()}


def pair_batch(pairs):
    """[(chosen, rejected), ...] -> a batch of 2B rows, the chosen first."""
    return packed([c for c, _ in pairs] + [r for _, r in pairs])


def epoch(data, size, generator, step):
    """One epoch in random order -> rows."""
    for some in batches(data, size, generator=generator):
        step(some)
    return len(data)


def demonstrations(tokenizer, n):
    """n rows of (ids, mask)."""
    return encoded(tokenizer, list(load_data("village", "demonstrations", n=n)), "completion")


@row("SFT", "village-3m-sft, a fifth of an epoch of 640 rows, batches of 32", "TRL `SFTTrainer`", "row", 1.3, 1.7,
     seconds=25, why=PRODUCTS)
def supervised(s):
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = models.load("village-3m-sft")
    twin, rows = copy.deepcopy(model), demonstrations(tokenizer, s.rows(128))
    optimizer, generator = adamw(model), torch.Generator().manual_seed(0)
    ours = partial(epoch, rows, 32, generator, lambda some: sft.step(model, optimizer, packed(some)))
    args = config(SFTConfig, per_device_train_batch_size=32, packing=False, completion_only_loss=True, max_length=None)
    data = Dataset.from_list([{"input_ids": ids, "completion_mask": mask} for ids, mask in rows])
    peer = SFTTrainer(model=twin, args=args, train_dataset=data, processing_class=tokenizer)
    return clocked(ours), loop(peer, len(rows))


def pairs(tokenizer, n):
    """n pairs ((ids, mask), (ids, mask))."""
    rows = list(load_data("village", "pairs", n=n))
    return list(zip(encoded(tokenizer, rows, "chosen"), encoded(tokenizer, rows, "rejected"), strict=True))


@row("reward model", "village-3m-sft, 96 of 512 pairs, batches of 16 pairs", "TRL `RewardTrainer`", "pair", 1.2, 1.6,
     seconds=35, why=TWICE)
def reward(s):
    from trl import RewardConfig, RewardTrainer

    base, tokenizer = models.load("village-3m-sft")
    model, data = reward_model.RewardModel(base), pairs(tokenizer, s.rows(96))
    twin = copy.deepcopy(model.model)
    twin.config.pad_token_id = tokenizer.pad_token_id
    optimizer, generator = adamw(model), torch.Generator().manual_seed(0)
    ours = partial(epoch, data, 16, generator, lambda some: reward_model.step(model, optimizer, pair_batch(some)))
    rows = Dataset.from_list([{"chosen_ids": c[0], "rejected_ids": r[0]} for c, r in data])
    args = config(RewardConfig, per_device_train_batch_size=16, max_length=None)
    peer = RewardTrainer(model=twin, args=args, train_dataset=rows, processing_class=tokenizer)
    return clocked(ours), loop(peer, len(data))


def dpo_step(model, optimizer, batch, reference):
    """A step of DPO, the reference's log-probabilities included."""
    with torch.no_grad():
        batch["ref_chosen"], batch["ref_rejected"] = da.pair_logps(reference, batch)
    da.step(model, optimizer, batch, beta=0.1)


@row("DPO", "village-3m-sft with its reference, 64 of 256 pairs, batches of 16 pairs", "TRL `DPOTrainer`", "pair", 1.4, 2.0,
     seconds=30, why=TWICE)
def dpo(s):
    from trl import DPOConfig, DPOTrainer

    model, tokenizer = models.load("village-3m-sft")
    twin, reference, data = copy.deepcopy(model), models.frozen_copy(model), pairs(tokenizer, s.rows(64))
    optimizer, generator = adamw(model), torch.Generator().manual_seed(0)

    rows = list(load_data("village", "pairs", n=len(data)))
    talks = [{"prompt": [{"role": "user", "content": r["prompt"]}],
              **{side: [{"role": "assistant", "content": r[side]}] for side in ("chosen", "rejected")}} for r in rows]
    args = config(DPOConfig, per_device_train_batch_size=16, max_length=None, beta=0.1)
    peer = DPOTrainer(model=twin, ref_model=models.frozen_copy(model), args=args, train_dataset=Dataset.from_list(talks),
                      processing_class=tokenizer)
    ours = partial(epoch, data, 16, generator, lambda some: dpo_step(model, optimizer, pair_batch(some), reference))
    return clocked(ours), loop(peer, len(data))
