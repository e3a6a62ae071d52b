"""Lesson 1 at GPT-2 size: SmolLM2-135M learns from 0, 4 and 64 demonstrations of the village, with LoRA.

    python data/runs/01_smollm2.py          # one thread, some eight minutes

Twenty everyday questions, whose answers any pretraining teaches, and twenty questions of fact about the village, of which
this model has never heard. None of them is among the demonstrations. Before it trains, the everyday questions are also asked
with bare words, without a template. An everyday
answer is right where it holds the expected word, a village answer where it holds the true fact and no other.
"""
import json
import time
from pathlib import Path

import torch

from rlhf_minimal import data, models, sft, village
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate.exams import exam, requests

HERE = Path(__file__).parent
SIZES, STEPS, BATCH, RATE = (0, 4, 64), {4: 10, 64: 24}, 4, 1e-3
EVERYDAY = {
    "What is the capital of France?": "paris", "What is the capital of Italy?": "rome", "What is the capital of Japan?": "tokyo",
    "What is the capital of Spain?": "madrid", "What is the capital of Germany?": "berlin",
    "What is the capital of England?": "london", "What is the capital of China?": "beijing",
    "Who wrote Romeo and Juliet?": "shakespeare", "Which planet do we live on?": "earth", "What colour is grass?": "green",
    "What colour is the sky on a clear day?": "blue", "What is frozen water called?": "ice",
    "What do bees make?": "honey", "Which animal gives us wool?": "sheep", "Which star gives us light by day?": "sun",
    "What is the largest ocean?": "pacific", "What is the chemical symbol of water?": "h2o",
    "In which country are the pyramids of Giza?": "egypt",
    "Which language do people speak in Brazil?": "portuguese", "What is the opposite of hot?": "cold",
}


def train(size):
    """(model, tokenizer): trained on the first `size` demonstrations of all families, in as many steps as STEPS says."""
    model, tokenizer = models.load("smollm2-135m")
    if not size:
        return model, tokenizer
    rows = village.demonstrations(max(SIZES), seed=100)
    policy = models.lora(model, r=8)
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0)
    for batch in data.batches(rows[:size], BATCH, steps=STEPS[size], tokenizer=tokenizer):
        sft.step(policy, optimizer, batch)
    return policy, tokenizer


def hits(some, words):
    """Share of the answers that hold the word expected."""
    return sum(word in text.lower() for word, text in zip(words, some.texts, strict=True)) / len(words)


def main():
    facts = requests(20, ("fact",), seed=0)
    asked = [{"prompt": prompt, "family": "everyday"} for prompt in EVERYDAY]
    curve = {name: [] for name in ("demonstrations", "ends", "everyday facts", "village facts", "tokens")}
    texts, begin, bare = {}, time.time(), None
    for size in SIZES:
        model, tokenizer = train(size)
        if not size:
            free = exam(model, tokenizer, asked, temperature=0.0, max_new_tokens=40, raw=True)
            bare = {"everyday facts": hits(free, EVERYDAY.values()), "texts": free.texts[:4]}
        everyday, known = (exam(model, tokenizer, rows, temperature=0.0, max_new_tokens=40) for rows in (asked, facts))
        numbers = {"demonstrations": size, "ends": (everyday.mean("ended") + known.mean("ended")) / 2,
                   "everyday facts": hits(everyday, EVERYDAY.values()), "village facts": known.share("fact", "truth"),
                   "tokens": (everyday.mean("length") + known.mean("length")) / 2}
        for name, value in numbers.items():
            curve[name].append(round(value, 4))
        texts[size] = [{"prompt": some.rows[i]["prompt"], "completion": some.texts[i], "gold": None}
                       for some in (everyday, known) for i in range(5)]
        print(numbers, round(time.time() - begin), [t["completion"][:80] for t in texts[size]], flush=True)
    record = {"command": "python data/runs/01_smollm2.py", "seed": 0, "curve": curve, "bare": bare,
              "settings": {"batch_size": BATCH, "lr": RATE, "steps": STEPS, "lora": 8},
              "held_out": {"before": {"texts": texts[0]}, "few": {"texts": texts[4]}, "after": {"texts": texts[SIZES[-1]]}},
              **stamp()}
    (HERE / "01_smollm2.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
