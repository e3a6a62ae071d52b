"""Lesson 6 at GPT-2 size: pairs whose order depends on one word of the prompt, scored with and without that word.

    python data/runs/06_smollm2.py          # one thread, some ten seconds

Twelve pairs of two-sentence stories about one hero, on one plot, in two moods. SmolLM2-135M, taught the village's manner, gives the
log-probability of either story after a prompt that asks for the first mood, for the second, and for none.
"""
import json
import random
import time
from pathlib import Path

import torch

from rlhf_minimal import data, village
from rlhf_minimal.book.records import stamp
from rlhf_minimal.book.scales import start
from rlhf_minimal.logprobs import sequence_logps
from rlhf_minimal.village import facts, grammar

HERE, PAIRS = Path(__file__).parent, 12


def pairs(rng):
    """Rows hero, two moods, two stories of the same plot."""
    found = []
    while len(found) < PAIRS:
        hero, moods = rng.choice(facts.PEOPLE), rng.sample(list(facts.MOODS), 2)
        plot = rng.choice(tuple(grammar.PLOTS))
        stories = [" ".join(grammar.story(hero, mood, 2, random.Random(len(found)), plot)[0]) for mood in moods]
        prompts = [f"Tell a {mood}story about {hero} in two sentences." for mood in (f"{moods[0]} ", f"{moods[1]} ", "")]
        if all(village.gold(p, s) > 2.9 for p, s in zip(prompts, stories, strict=False)):
            found.append({"hero": hero, "moods": moods, "stories": stories, "prompts": prompts})
    return found


def main():
    began, some = time.time(), pairs(random.Random(0))
    model, tokenizer = start("smollm2")
    rows = [{"prompt": p, "completion": s} for row in some for p in row["prompts"] for s in row["stories"]]
    logp = []
    for k in range(0, len(rows), 12):
        batch = data.collate_demonstrations(rows[k:k + 12], tokenizer)
        with torch.no_grad():
            logp += sequence_logps(model, batch["ids"], batch["attention"], batch["mask"]).tolist()
    margin = torch.tensor(logp).view(PAIRS, 3, 2)
    margin = margin[..., 0] - margin[..., 1]  # of the first story, in nats: asked for it, for the other, for none
    order = margin[:, 2].argsort().tolist()
    curve = {"pair": list(range(1, PAIRS + 1))} | {
        name: [round(x, 3) for x in margin[order, k].tolist()] for k, name in enumerate(("first mood", "second mood", "no mood"))}
    record = {"command": "python data/runs/06_smollm2.py", "seed": 0, "curve": curve, "pairs": [some[i] for i in order],
              "minutes": round((time.time() - began) / 60, 2),
              **stamp()}
    print(curve, record["minutes"])
    (HERE / "06_smollm2.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
