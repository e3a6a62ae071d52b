"""Rows of `make bench` without a peer: the share of the machine's peak, and the gate on what is learned.

The peak is what a large float32 matrix product reaches in the same minute on the same threads. Useful work is counted
on real tokens: 6 N FLOPs a token for N weights that multiply (the tied head once, position table not), and 12 d T² a
layer and row for attention over T tokens; work spent on padding is not useful, and work saved counts as done.
"""

import time

import torch
import torch.nn.functional as F

from benchmarks.speed_rows import row
from benchmarks.speed_trainers import adamw, demonstrations, dpo_step, epoch, packed, pair_batch, pairs
from rlhf_minimal import models, optim, reward_model, sft
from rlhf_minimal.tensors import positions

SEEDS = (0, 1, 2)
SLACK = 0.002  # nats: rounding of another order of summation, over an epoch


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
     0.27, 0.40, kind="share", seconds=15, why="short rows make small products, and the shortest pieces only a few of them")
def short(s):
    model, tokenizer = models.load("village-3m-sft")
    rows, generator, optimizer = demonstrations(tokenizer, 160), torch.Generator().manual_seed(0), adamw(model)
    return share(model, lambda: epoch(rows, 32, generator, lambda some: sft.step(model, optimizer, packed(some))),
                 flops(model, [len(ids) for ids, _ in rows])), None


def logits_of(model, batch):
    """The whole padded batch at once, all logits, (B, L, V)."""
    return model(input_ids=batch["ids"], attention_mask=batch["attention"].long(), position_ids=positions(batch["attention"]),
                 use_cache=False).logits


def plain_sft(model, batch, _):
    """The SFT loss as a textbook loop has it: cross-entropy over all logits."""
    labels = torch.where(batch["mask"].bool(), batch["ids"], -100)
    return F.cross_entropy(logits_of(model, batch)[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def plain_reward(model, batch, _):
    """-log sigmoid of the difference of the scores at the last real tokens."""
    hidden = model.base_model(input_ids=batch["ids"], attention_mask=batch["attention"].long(),
                              position_ids=positions(batch["attention"]), use_cache=False).last_hidden_state
    last = batch["attention"].long().cumsum(1).argmax(1)
    chosen, rejected = model.model.score(hidden[torch.arange(len(hidden)), last]).chunk(2)
    return -F.logsigmoid(chosen - rejected).mean()


def plain_dpo(model, batch, reference, beta=0.1):
    """The DPO loss from the log-softmax of all logits, policy and reference alike."""
    def sums(m):
        logp = logits_of(m, batch)[:, :-1].log_softmax(-1).gather(2, batch["ids"][:, 1:, None]).squeeze(2)
        return (logp * batch["mask"][:, 1:]).sum(1)

    with torch.no_grad():
        ref = sums(reference)
    chosen, rejected = (sums(model) - ref).chunk(2)
    return -F.logsigmoid(beta * (chosen - rejected)).mean()


KINDS = {  # name: (model, rows for the whole, batch, learning rate, rows -> batch, the plain loss, our step)
    "SFT": ("village-3m", 320, 32, 1e-3, packed, plain_sft, lambda m, o, b, _: sft.step(m, o, b)),
    "reward model": ("village-3m-sft", 160, 16, 1e-3, pair_batch, plain_reward, lambda m, o, b, _: reward_model.step(m, o, b)),
    "DPO": ("village-3m-sft", 160, 16, 1e-4, pair_batch, plain_dpo, dpo_step),
}


def held_out(s, kind, seed, ours):
    """Held-out loss after one epoch on random batches, by our step or by the plain loop."""
    name, n, size, rate, collate, plain, step = KINDS[kind]
    model, tokenizer = models.load(name)
    rows = (demonstrations if kind == "SFT" else pairs)(tokenizer, s.rows(n))
    test, rows = rows[: len(rows) // 5], rows[len(rows) // 5:]
    reference = models.frozen_copy(model)
    model = reward_model.RewardModel(model) if kind == "reward model" else model
    optimizer = adamw(model, rate=rate)

    def learn(some):
        batch = collate(some)
        if ours:
            step(model, optimizer, batch, reference)
        else:
            optim.update(plain(model, batch, reference), optimizer)

    epoch(rows, size, torch.Generator().manual_seed(seed), learn)
    with torch.no_grad():
        return float(plain(model, collate(test), reference))


def gate(kind):
    """A build: the held-out losses of all seeds, ours and the plain loop's."""
    return lambda s: tuple(lambda ours=ours: [held_out(s, kind, seed, ours) for seed in SEEDS] for ours in (True, False))


for _kind, (_name, _n, _size, *_) in KINDS.items():
    row(f"held-out {_kind} loss after an epoch", f"{_name}, {_n - _n // 5} rows in batches of {_size}, seeds 0, 1, 2",
        "plain loop, random batches", "loss", SLACK, 0.0, kind="gate", seconds=60)(gate(_kind))
