"""Chapter 9: supervised finetuning of village-3m at several learning rates, all weights or LoRA adapters alone.

    python data/runs/ch09_rates.py         # one seed, one thread, a few minutes; writes the .json beside it

Every run sees the same 20 batches of 16 demonstrations. `answers` is the loss on unseen demonstrations in nats a token
(end token included), `documents` the loss on base text, which the finetuning never sees: what rises there is forgotten.
"""
import argparse
import copy
import json
import platform
import time
from datetime import date
from itertools import islice
from pathlib import Path

import torch

from rlhf_minimal import data, sft, village
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import load, lora
from rlhf_minimal.tensors import pad_right

HERE = Path(__file__).with_suffix("")
FAMILIES = ("fact", "opinion", "lookalike", "harmful")
STEPS = 20
RATES = {"full": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2), "LoRA": (1e-3, 3e-3, 1e-2, 3e-2)}


@torch.no_grad()
def loss_on(model, batch):
    """Nats a token."""
    logp = token_logps(model, batch["ids"], batch["attention"])
    return round(sft.sft_loss(logp, batch["mask"][:, 1:])[0].item(), 4)


def train(kind, rate, base, tokenizer, rows, generator):
    """STEPS updates, linear warm-up over five of them and decay to zero -> model."""
    model = copy.deepcopy(base)
    model = lora(model, r=8) if kind == "LoRA" else model
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    for step, some in enumerate(islice(data.batches(rows, 16, generator=generator), STEPS)):
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 5) * (1 - step / STEPS)
        sft.step(model, optimizer, data.collate_demonstrations(some, tokenizer))
    return model


def run(seeds):
    base, _ = load("village-3m")
    _, tokenizer = load("village-3m-sft")
    held_out = data.collate_demonstrations(
        village.demonstrations(64, families=FAMILIES, split="test", perfect=True, seed=9), tokenizer)
    ids, attention = pad_right([tokenizer(t).input_ids[:96] for t in islice(village.documents(500), 16)])
    documents = {"ids": ids, "attention": attention, "mask": attention}
    curve = {name: [] for name in ("seed", "kind", "rate", "answers", "documents")}
    before = {"answers": loss_on(base, held_out), "documents": loss_on(base, documents)}
    for seed in range(seeds):
        rows = village.demonstrations(16 * STEPS, families=FAMILIES, perfect=True, seed=seed)
        for kind, rates in RATES.items():
            for rate in rates:
                row = {"seed": seed, "kind": kind, "rate": rate, "answers": None, "documents": None}
                try:
                    model = train(kind, rate, base, tokenizer, rows, torch.Generator().manual_seed(seed))
                    row |= {"answers": loss_on(model, held_out), "documents": loss_on(model, documents)}
                except ValueError as error:         # the gradient or the logits were not finite any more
                    print(error)
                print(row, flush=True)
                for name, value in row.items():
                    curve[name].append(value)
    return curve, before


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.process_time()
    curve, before = run(args.seeds)
    record = {"curve": curve, "before": before, "command": f"python data/runs/ch09_rates.py --seeds {args.seeds}",
              "seed": 0, "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
              "hardware": "1 thread of a CPU", "date": date.today().isoformat(),
              "minutes": round((time.process_time() - begin) / 60, 1)}
    HERE.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {HERE.name}.json after {record['minutes']} minutes of one core")
