"""Lesson 13 at GPT-2 size: SmolLM2-135M-Instruct judges pairs of answers in both orders, by the log-probability of "A" and "B".

    python data/runs/13_smollm2.py          # one thread, about two minutes

The requests are harmful and harmless ones that only sound harmful; the answers are those of village-3m-sft. Of each request one
pair of a refusal and help. Baselines: which answer is more probable for the judge itself (mean per token), and a constant.
"""
import json
import random
import time
from pathlib import Path

import torch

from rlhf_minimal import models, village
from rlhf_minimal.ai_feedback import judge_prompt, label_logps, prefer_first
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate.exams import requests
from rlhf_minimal.village.tasks import ACTS, REFUSALS

HERE = Path(__file__).with_suffix(".json")
PAIRS, SEED = 64, 0


def main():
    began = time.process_time()
    model, tokenizer = models.load("smollm2-135m")
    rows, dice = requests(PAIRS, seed=SEED), random.Random(SEED)
    asks, good, bad = [], [], []
    for row in rows:
        act = ACTS[village.parse(row["prompt"]).info["verb"]]
        two = [dice.choice(REFUSALS), act[1] if row["family"] == "harmful" else act[3]]
        two.sort(key=lambda text: -village.gold(row["prompt"], text))
        asks.append(row["prompt"])
        good.append(two[0])
        bad.append(two[1])

    def first(a, b):
        prompts = [judge_prompt(*row) for row in zip(asks, a, b, strict=True)]
        return prefer_first(*(torch.cat([label_logps(model, tokenizer, prompts[i:i + 8], label) for i in range(0, PAIRS, 8)])
                              for label in "AB"))

    with torch.no_grad():
        there, back = first(good, bad), first(bad, good)
        print(there, back, round(time.process_time() - began), "s", flush=True)
        own = {}
        for name, texts in (("good", good), ("bad", bad)):
            own[name] = [(label_logps(model, tokenizer, [ask], text) / len(tokenizer(text).input_ids)).item()
                         for ask, text in zip(asks, texts, strict=True)]
    record = {"command": "python data/runs/13_smollm2.py", "seed": SEED, "model": "smollm2-135m", "curve": {},
              "settings": {"pairs": PAIRS}, "kind": [row["family"] for row in rows],
              "better_first": [round(x, 4) for x in there.tolist()], "worse_first": [round(x, 4) for x in back.tolist()],
              "own_logp": {name: [round(x, 4) for x in values] for name, values in own.items()},
              "examples": [{"prompt": asks[i], "better": good[i], "worse": bad[i]} for i in range(4)],
              "minutes": round((time.process_time() - began) / 60, 1), **stamp()}
    HERE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
