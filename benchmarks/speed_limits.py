"""Rows of `make bench` without a peer: the share of the machine's peak, and the gate on what is learned.

The peak is what a large float32 matrix product reaches in the same minute on the same threads. Useful work is counted
on real tokens: 6 N FLOPs a token for N weights that multiply (the tied head once, position table not), and 12 d T² a
layer and row for attention over T tokens; work spent on padding is not useful, and work saved counts as done.
"""

import time

import torch
import torch.nn.functional as F

from benchmarks.speed_rows import row
from benchmarks.speed_trainers import adamw, demonstrations, epoch, packed
from rlhf_minimal import models, sft
from rlhf_minimal.tensors import positions

SEEDS = (0, 1, 2)
SLACK = 0.002  # nats a token: rounding of another order of summation, over an epoch


def peak(size=2048, tries=8):
    """FLOP/s of the best of some float32 matrix products."""
    a, b, best = torch.randn(size, size), torch.randn(size, size), 0.0
    for _ in range(tries):
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def flops(model, lengths):
    """FLOPs of a training step's forward and backward over rows of so many real tokens, a list."""
    weights = sum(p.numel() for p in model.parameters()) - model.transformer.wpe.weight.numel()
    attention = 12 * model.config.n_embd * model.config.n_layer
    return sum(6 * weights * n + attention * n * n for n in lengths)


def share(model, work, total):
    """A side: (seconds at the peak, seconds) of a piece of work of so many FLOPs, both measured now."""
    def side():
        top = peak()
        start = time.perf_counter()
        work()
        return total / top, time.perf_counter() - start
    return side


@row("share of the peak, full 32 × 128 batches", "village-3m-sft, SFT step", "large float32 matrix product", "share", 0.40, 0.55,
     kind="share", seconds=15)
def full(s):
    model, _ = models.load("village-3m-sft")
    ids = torch.randint(1, 1024, (32, 128), generator=torch.Generator().manual_seed(0))
    batch, optimizer = {"ids": ids, "attention": torch.ones(32, 128), "mask": torch.ones(32, 128)}, adamw(model)
    return share(model, lambda: sft.step(model, optimizer, batch), flops(model, [128] * 32)), None


@row("share of the peak, short SFT rows", "village-3m-sft, 160 rows in batches of 32", "large float32 matrix product", "share",
     0.27, 0.40, kind="share", seconds=15)
def short(s):
    model, tokenizer = models.load("village-3m-sft")
    rows, generator, optimizer = demonstrations(tokenizer, 160), torch.Generator().manual_seed(0), adamw(model)
    return share(model, lambda: epoch(rows, 32, generator, lambda some: sft.step(model, optimizer, packed(some))),
                 flops(model, [len(ids) for ids, _ in rows])), None


def plain_loss(model, batch):
    """The SFT loss as a textbook loop has it: the whole padded batch at once, all logits, cross-entropy."""
    logits = model(input_ids=batch["ids"], attention_mask=batch["attention"].long(),
                   position_ids=positions(batch["attention"]), use_cache=False).logits
    labels = torch.where(batch["mask"].bool(), batch["ids"], -100)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def held_out(s, seed, ours):
    """Held-out loss, nats a token, after one epoch of SFT of the base model on random batches."""
    model, tokenizer = models.load("village-3m")
    rows = demonstrations(tokenizer, s.rows(320))
    test, rows = rows[: len(rows) // 5], rows[len(rows) // 5:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)

    def plain(batch):
        sft.update(plain_loss(model, batch), optimizer)

    def step(some):
        sft.step(model, optimizer, packed(some)) if ours else plain(packed(some))

    epoch(rows, 32, torch.Generator().manual_seed(seed), step)
    with torch.no_grad():
        return float(plain_loss(model, packed(test)))


@row("held-out SFT loss after an epoch", "village-3m, 256 rows in batches of 32, seeds 0, 1, 2; nats a token",
     "plain loop, random batches", "loss", SLACK, 0.0, kind="gate", seconds=20)
def gate(s):
    return (lambda: [held_out(s, seed, True) for seed in SEEDS]), (lambda: [held_out(s, seed, False) for seed in SEEDS])
