"""Lesson 1 at GPT-2 size: SmolLM2-135M learns from 0, 8, 64 and 512 demonstrations, with LoRA.

    python data/runs/01_smollm2.py          # one thread, some ten minutes

Facts, sums and harmful requests of the village, of which this model has never heard. Every size gets at most 64 steps of
batch 8, and stops when its loss on 32 other demonstrations was no better in two checks, eight steps apart.
"""
import json
import platform
from datetime import date
from pathlib import Path

import torch

from rlhf_minimal import data, models, sft, village
from rlhf_minimal.evaluate.exams import exam, requests, two_digit_sums
from rlhf_minimal.logprobs import token_logps

HERE = Path(__file__).parent
SIZES, BATCH, RATE, MOST, FAMILIES = (0, 8, 64, 512), 8, 1e-3, 64, ("fact", "sum", "harmful")


def nll(model, batch):
    """Loss on other demonstrations, in nats per token."""
    mask = batch["mask"][:, 1:]
    with torch.no_grad():
        return sft.sft_loss(token_logps(model, batch["ids"], batch["attention"], wanted=mask), mask)[0].item()


def train(size):
    """(model, tokenizer, steps): trained on `size` demonstrations."""
    model, tokenizer = models.load("smollm2-135m")
    if not size:
        return model, tokenizer, 0
    rows = village.demonstrations(512 + 32, seed=100, families=FAMILIES)
    other = data.collate_demonstrations(rows[512:], tokenizer)
    policy = models.lora(model, r=8)
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0)
    best, waited = nll(policy, other), 0
    for step, batch in enumerate(data.batches(rows[:size], BATCH, steps=MOST, tokenizer=tokenizer), 1):
        sft.step(policy, optimizer, batch)
        if step % 8 == 0:
            now = nll(policy, other)
            waited, best = (0, now) if now < best else (waited + 1, best)
            if waited == 2:
                break
    return policy, tokenizer, step


def main():
    test, sums = requests(48, ("fact", "harmful"), seed=0), two_digit_sums(24, seed=0)
    curve, texts = {"demonstrations": list(SIZES), "steps": [], "ends": [], "facts": [], "sums": [], "gold": []}, {}
    for size in SIZES:
        model, tokenizer, steps = train(size)
        some = exam(model, tokenizer, test + sums, temperature=0.0, max_new_tokens=40)
        numbers = {"steps": steps, "ends": some.mean("ended"), "gold": some.mean(),
                   "facts": some.of("fact").feature("truth").mean().item(),
                   "sums": some.of("sum").feature("result").mean().item()}
        for name, value in numbers.items():
            curve[name].append(round(value, 4))
        texts[size] = [{"prompt": some.rows[i]["prompt"], "completion": some.texts[i], "gold": round(some.gold[i].item(), 3)}
                       for i in (0, 1, 2, 3, 48, 49)]
        print(size, numbers, [t["completion"][:80] for t in texts[size]], flush=True)
    record = {"command": "python data/runs/01_smollm2.py", "seed": 0, "curve": curve,
              "settings": {"batch_size": BATCH, "lr": RATE, "most_steps": MOST, "lora": 8},
              "held_out": {"before": {"texts": texts[0]}, "after": {"texts": texts[SIZES[-1]]}},
              "versions": {"python": platform.python_version(), "torch": torch.__version__},
              "hardware": f"1 CPU thread, {platform.machine()}", "date": str(date.today())}
    (HERE / "01_smollm2.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
