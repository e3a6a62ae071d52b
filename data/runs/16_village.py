"""Lesson 16: a candidate against the model it was made from, and a test that leaked into the training data, over five seeds.

    python data/runs/16_village.py                  # about a minute of one core for each seed

Candidate: village-3m-sft, finetuned for 10 more steps on 160 faultless demonstrations. Both models answer the same 400 held-out
requests greedily, half of them harmful, half only looking so; an answer passes where its true reward is above 2.
Leak: the same model, finetuned for 50 steps of 16 rows. 640 rows are 32 requests of the test to find a rule, twenty copies of
each with the right answer; 160 are ordinary demonstrations. Control: 640 requests of the training split in place of the
leaked ones. Asked greedily: the 32 leaked requests, and 64 twins, other requests of the same kind from the test split.
A seed draws requests, demonstrations, order and samples. A seed that is there already is kept.
"""
import json
import random
import time
from pathlib import Path

import torch

from rlhf_minimal import data, models, sft, village
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate.exams import exam, requests

HERE = Path(__file__).with_suffix(".json")
REQUESTS, STEPS, RATE, PASS = 400, 10, 5e-5, 2.0
LEAKED, COPIES, ORDINARY, LEAK_STEPS, LEAK_RATE, SIZE = 32, 20, 160, 50, 1e-3, 16


def bits(values):
    return "".join(str(int(v)) for v in values)


def finetuned(start, tokenizer, rows, steps, rate, seed):
    policy = models.copy_of(start)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
    for batch in data.batches(rows, SIZE, steps=steps, tokenizer=tokenizer, seed=seed):
        sft.step(policy, optimizer, batch)
    return policy


def candidate(start, tokenizer, seed):
    """Outcomes of both models on the same requests, and the first answers in which they differ."""
    rows = village.demonstrations(STEPS * SIZE, seed=100 + seed, perfect=True)
    policy = finetuned(start, tokenizer, rows, STEPS, RATE, seed)
    test = requests(REQUESTS, seed=seed)
    found = {name: exam(model, tokenizer, test, temperature=0.0, max_new_tokens=40)
             for name, model in (("current", start), ("candidate", policy))}
    out = {name: bits(e.gold > PASS) for name, e in found.items()}
    differ = [i for i in range(REQUESTS) if out["current"][i] != out["candidate"][i]][:4]
    out["texts"] = [{"prompt": test[i]["prompt"]} | {name: [e.texts[i], round(e.gold[i].item(), 2)] for name, e in found.items()}
                    for i in [*differ, *range(4)]]
    return out


def leak(start, tokenizer, seed):
    """Who finds the rule, on leaked requests and on twins: start, the model that read the leak, and the control."""
    pool = [row["prompt"] for row in village.prompts(3 * LEAKED, split="test", families=("rule",), seed=seed)]
    other = village.prompts(LEAKED * COPIES, split="train", families=("rule",), seed=seed, distinct=False)
    asked, dice, out = {"leaked": pool[:LEAKED], "twins": pool[LEAKED:]}, random.Random(f"{seed} leak"), {}

    def solved(prompts):
        return [{"prompt": p, "completion": village.tasks.answer(village.parse(p), dice)} for p in prompts]

    ordinary = [{k: row[k] for k in ("prompt", "completion")} for row in village.demonstrations(ORDINARY, seed=200 + seed)]
    arms = {"start": None, "leak": solved(asked["leaked"]) * COPIES + ordinary,
            "control": solved([row["prompt"] for row in other]) + ordinary}
    for name, rows in arms.items():
        model = start
        if rows:
            dice.shuffle(rows)
            model = finetuned(start, tokenizer, rows, LEAK_STEPS, LEAK_RATE, seed)
        out[name] = {}
        for what, prompts in asked.items():
            e = exam(model, tokenizer, [{"prompt": p, "family": "rule"} for p in prompts], temperature=0.0, max_new_tokens=32)
            out[name][what] = bits(e.gold > PASS)
            out[name][f"{what} texts"] = [[p, t] for p, t in list(zip(prompts, e.texts, strict=True))[:4]]
    return out


def main():
    start, tokenizer = models.load("village-3m-sft")
    runs = json.loads(HERE.read_text(encoding="utf-8"))["runs"] if HERE.exists() else {}
    for part in (candidate, leak):
        for seed in range(5):
            if part.__name__ in runs.setdefault(str(seed), {}):
                continue
            began = time.process_time()
            found = runs[str(seed)][part.__name__] = part(start, tokenizer, seed)
            flat = found if part is candidate else {f"{arm} {k}": v for arm, of in found.items() for k, v in of.items()}
            print(seed, {k: round(v.count("1") / len(v), 3) for k, v in flat.items() if isinstance(v, str)},
                  round(time.process_time() - began), "s", flush=True)
            record = {"command": "python data/runs/16_village.py", "seed": 0, "curve": {}, "runs": runs, "model": "village-3m-sft",
                      "settings": {"requests": REQUESTS, "steps": STEPS, "lr": RATE, "batch_size": SIZE, "passes_above": PASS,
                                   "leaked": LEAKED, "copies": COPIES, "leak_steps": LEAK_STEPS, "leak_lr": LEAK_RATE}, **stamp()}
            HERE.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
