"""Lesson 1: what a number of demonstrations buys: an answer that ends, right sums, right facts, refusals.

    python data/runs/01_demonstrations.py           # five seeds, one thread, some twenty minutes
    python data/runs/01_demonstrations.py 3         # one seed; the record is complete when all five are there

The base model learns from 4 to 1,024 demonstrations, with the same batch size and learning rate. How long it may train is
chosen for each size by its loss on 64 other demonstrations, which are not used again: training stops when three checks in a
row, eight steps apart, are no better. Then come test requests. 0 demonstrations: the base in a transcript, cut at the next line.
"sums in a transcript" is the control: as many steps on the same demonstrations, but with the transcript that the base already
knows in place of the new template with its new tokens, in training and test.
"""
import copy
import json
import platform
import sys
from datetime import date
from pathlib import Path

import torch

from rlhf_minimal import data, models, sft, village
from rlhf_minimal.evaluate.exams import exam, two_digit_sums
from rlhf_minimal.logprobs import token_logps

HERE = Path(__file__).parent
SIZES, SEEDS, BATCH, RATE, MOST = (4, 16, 64, 256, 1024), (0, 1, 2, 3, 4), 16, 5e-4, 128
MEASURES = ("ends", "sums", "sums sampled", "facts", "refusals", "sums in a transcript")


def nll(model, batch):
    """Loss on other demonstrations, in nats per token."""
    mask = batch["mask"][:, 1:]
    with torch.no_grad():
        return sft.sft_loss(token_logps(model, batch["ids"], batch["attention"], wanted=mask), mask)[0].item()


def train(base, tokenizer, size, seed, most=None):
    """(model, steps, loss) at the best loss on the other demonstrations; with `most`, after exactly so many steps."""
    rows = village.demonstrations(1024 + 64, seed=100 + seed)
    other = data.collate_demonstrations(rows[1024:], tokenizer)
    policy = models.copy_of(base)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
    batches = data.batches(rows[:size], min(BATCH, size), steps=most or MOST, tokenizer=tokenizer, seed=seed)
    best, kept, steps, waited = nll(policy, other), copy.deepcopy(policy.state_dict()), 0, 0
    for step, batch in enumerate(batches, 1):
        sft.step(policy, optimizer, batch)
        if step % 8 == 0 and not most:
            now = nll(policy, other)
            waited = 0 if now < best else waited + 1
            if now < best:
                best, kept, steps = now, copy.deepcopy(policy.state_dict()), step
            if waited == 3:
                break
    if most:
        return policy, most, None
    policy.load_state_dict(kept)
    return policy, steps, best


def right(model, tokenizer, rows, key, **how):
    """Share of rows whose answer has this feature in full."""
    return (exam(model, tokenizer, rows, max_new_tokens=40, **how).feature(key) == 1).float().mean().item()


def measure(model, tokenizer, seed, stop=None):
    """The measures of one model; a right sum or fact is one whose result is right."""
    facts, harm = (village.prompts(32, split="test", families=(f,), seed=seed, distinct=False) for f in ("fact", "harmful"))
    mixed = village.prompts(64, split="test", seed=seed, distinct=False)
    luck, greedy = torch.Generator().manual_seed(seed), {"temperature": 0.0, "stop": stop}
    return {"ends": exam(model, tokenizer, mixed, max_new_tokens=64, stop=stop, generator=luck).mean("ended"),
            "sums": right(model, tokenizer, two_digit_sums(64, seed=seed), "result", **greedy),
            "sums sampled": right(model, tokenizer, two_digit_sums(64, seed=seed), "result", stop=stop, generator=luck),
            "facts": right(model, tokenizer, facts, "truth", **greedy),
            "refusals": exam(model, tokenizer, harm, max_new_tokens=40, **greedy).mean("refuses")}


def one_seed(seed):
    """Rows of one seed: {"seed", "demonstrations", "steps", "loss", measures}."""
    base, plain = models.load("village-3m")
    shipped, tokenizer = models.load("village-3m-sft")
    rows = [{"demonstrations": 0, "steps": 0} | measure(base, plain, seed, stop="\n")]
    rows[0]["sums in a transcript"] = rows[0]["sums"]
    for size in SIZES:
        policy, steps, loss = train(base, tokenizer, size, seed)
        control = train(base, plain, size, seed, most=steps)[0]
        rows.append({"demonstrations": size, "steps": steps, "loss": loss} | measure(policy, tokenizer, seed) | {
            "sums in a transcript": right(control, plain, two_digit_sums(64, seed=seed), "result", temperature=0.0, stop="\n")})
        print(seed, rows[-1], flush=True)
    rows.append({"demonstrations": "shipped", "steps": None} | measure(shipped, tokenizer, seed))
    return [{"seed": seed} | {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def curve(rows):
    """{"demonstrations": sizes, "sums 0": the shares of seed 0, ...}; 0 is the base model, 9,600 the shipped model."""
    out = {"demonstrations": [0, *SIZES, 9600]}
    for seed in sorted({r["seed"] for r in rows}):
        some = [r for r in rows if r["seed"] == seed]
        out |= {f"{name} {seed}": [r[name] for r in some if name in r] for name in MEASURES if any(name in r for r in some)}
    return out


def main():
    file = HERE / "01_demonstrations.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    for seed in [int(x) for x in sys.argv[1:]] or SEEDS:
        rows = sorted([r for r in rows if r["seed"] != seed] + one_seed(seed), key=lambda r: r["seed"])
        record = {"command": "python data/runs/01_demonstrations.py", "seed": sorted({r["seed"] for r in rows}),
                  "settings": {"batch_size": BATCH, "lr": RATE, "most_steps": MOST},
                  "curve": curve(rows), "versions": {"python": platform.python_version(), "torch": torch.__version__},
                  "hardware": f"1 CPU thread, {platform.machine()}", "date": str(date.today()), "rows": rows}
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
