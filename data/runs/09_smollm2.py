"""Lesson 9 at GPT-2 size: SmolLM2-135M-Instruct learns the village's manner, with and without the end token in the loss.

    python data/runs/09_smollm2.py          # one thread, some two minutes of one core

Both arms see the same 40 demonstrations in the same order: LoRA of rank 8, 10 steps of four. Then come 8 test requests of four
kinds, answered greedily with at most 32 tokens, and the mean log-probability of the end token after 8 faultless answers.
"""
import json
import time
from pathlib import Path

import torch

from rlhf_minimal import data, models, village
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate.exams import exam, logp_by_place, requests
from rlhf_minimal.logprobs import token_logps

HERE = Path(__file__).with_suffix(".json")
KINDS, STEPS, BATCH, RATE = ("fact", "opinion", "harmful", "lookalike"), 10, 4, 1e-3


def measured(model, tokenizer):
    """Share that ends, tokens, log-probability of words and end, and the answers to the first request of each kind."""
    some = exam(model, tokenizer, requests(8, KINDS, seed=0), temperature=0.0, max_new_tokens=32)
    faultless = village.demonstrations(8, seed=200, split="test", families=KINDS, perfect=True)
    places = logp_by_place(model, tokenizer, faultless)
    return {"ends": some.mean("ended"), "tokens": some.mean("length"), "logp": {k: round(v, 5) for k, v in places.items()},
            "texts": [{"prompt": some.rows[i]["prompt"], "completion": some.texts[i], "gold": round(some.gold[i].item(), 2)}
                      for i in range(4)]}


def train(keep_end):
    """(policy, tokenizer, loss by step)."""
    model, tokenizer = models.load("smollm2-135m")
    torch.manual_seed(0)  # the adapters begin at random
    policy = models.lora(model, r=8)
    rows = village.demonstrations(STEPS * BATCH, seed=100, families=KINDS, perfect=True)
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0)
    losses = []
    for batch in data.batches(rows, BATCH, steps=STEPS, tokenizer=tokenizer, seed=0):
        mask = batch["mask"] if keep_end else batch["mask"] * (batch["ids"] != tokenizer.eos_token_id)
        mask = mask[:, 1:]
        logp = token_logps(policy, batch["ids"], batch["attention"], wanted=mask)
        loss = -(logp * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(round(loss.item(), 4))
    return policy, tokenizer, losses


def main():
    began, curve = time.process_time(), {"step": list(range(1, STEPS + 1))}
    held_out = {"before": measured(*models.load("smollm2-135m"))}
    print(held_out, round(time.process_time() - began), flush=True)
    for name, keep_end in (("answer", True), ("no end", False)):
        policy, tokenizer, curve[name] = train(keep_end)
        held_out["after" if keep_end else name] = measured(policy, tokenizer)
        print(name, curve[name], list(held_out.items())[-1], round(time.process_time() - began), flush=True)
    record = {"command": "python data/runs/09_smollm2.py", "seed": 0, "curve": curve, "held_out": held_out,
              "settings": {"batch_size": BATCH, "lr": RATE, "steps": STEPS, "lora": 8}, "model": "smollm2-135m",
              "minutes": round((time.process_time() - began) / 60, 1), **stamp()}
    HERE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
