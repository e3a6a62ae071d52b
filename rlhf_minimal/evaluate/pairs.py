"""What training on pairs of answers does to their log-probabilities: fixed pairs, watched from the first step on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..data import collate_demonstrations, collate_pairs
from ..direct_alignment import pair_logps
from ..logprobs import sequence_logps


def with_third(rows: list[dict], texts: list[str], pairs: list[dict], *, n: int) -> list[dict]:
    """One pair of each request, with a `third` answer to the same request that is in no pair at all.

    rows (requests), texts (n answers to each, prompt-major), pairs (as `data.compare_answers` makes them). Requests without
    a pair, or without such an answer, are left out. Raises ValueError where the counts do not fit.
    """
    if len(texts) != n * len(rows):
        raise ValueError(f"{len(texts)} answers to {len(rows)} requests, n is {n}; give n answers to each")
    found = []
    for i, row in enumerate(rows):
        here = [p for p in pairs if p["prompt"] == row["prompt"]]
        compared = {p[side] for p in here for side in ("chosen", "rejected")}
        spare = [t for t in texts[n * i:n * i + n] if t not in compared]
        if here and spare and row["prompt"] not in {r["prompt"] for r in found}:
            found.append(here[0] | {"third": spare[0]})
    return found


class PairWatch:
    """Log-probabilities of fixed pairs and of their third answers, as changes since a model's start.

    rows: at least one, with prompt, chosen, rejected, third. Called with a model it gives means over the rows: `chosen`,
    `rejected`, `third` (nats per answer, 0 at the start), `margin` (beta times chosen minus rejected) and `right`, the
    share of pairs with a margin above 0.
    """

    def __init__(self, start: nn.Module, tokenizer, rows: list[dict], *, beta: float = 0.1):
        if not rows:
            raise ValueError("no pair to watch; give rows with prompt, chosen, rejected and third")
        self.beta = beta
        self.pairs = collate_pairs(rows, tokenizer)
        self.others = collate_demonstrations([{"prompt": r["prompt"], "completion": r["third"]} for r in rows], tokenizer)
        self.begun = self.measure(start)

    @torch.no_grad()
    def measure(self, model: nn.Module) -> dict[str, Tensor]:
        """Log-probabilities (rows,) of the three kinds of answer, in nats."""
        chosen, rejected = pair_logps(model, self.pairs)
        third = sequence_logps(model, self.others["ids"], self.others["attention"], self.others["mask"])
        return {"chosen": chosen, "rejected": rejected, "third": third}

    def __call__(self, model: nn.Module) -> dict[str, float]:
        now = self.measure(model)
        moved = {name: now[name] - self.begun[name] for name in now}
        margin = self.beta * (moved["chosen"] - moved["rejected"])
        return {name: x.mean().item() for name, x in moved.items()} | {
            "margin": margin.mean().item(), "right": (margin > 0).float().mean().item()}
