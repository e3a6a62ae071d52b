"""Lesson 5 at GPT-2 size: a reward fitted on the states of SmolLM2-135M, and the best of its own sixteen stories.

    python data/runs/05_smollm2.py          # one thread, some ten minutes

The model with the village adapter reads stored stories, 20,000 comparisons between readers who like happy and readers who
like sad ends give a linear reward on its states, and it writes new stories, from which best-of-16 picks. Five sets of
labels; settings as on the page, none of them tuned here.
"""
import json
import platform
from datetime import date
from pathlib import Path

import torch

from rlhf_minimal import data, models, reward_model
from rlhf_minimal.book import scales
from rlhf_minimal.evaluate import tastes
from rlhf_minimal.village import Crowd, Reader

HERE = Path(__file__).parent
NS, SETS, LABELS, L2, KEEP = (1, 2, 4, 8, 16), 5, 20_000, 0.2, 16


def camps(share):
    """A crowd in which this share likes happy ends; nobody is in doubt."""
    happy = Reader(group="happy", likes=("happy", "sad"), temperature=0.1)
    sad = Reader(group="sad", likes=("sad", "happy"), temperature=0.1)
    return Crowd((happy, sad), (share, 1 - share))


def states(model, tokenizer, some):
    """Last hidden states of requests with stories, (N, H)."""
    parts = []
    for i in range(0, len(some), 32):
        rows = [{"prompt": p, "completion": c} for p, c in zip(some.requests[i:i + 32], some.texts[i:i + 32], strict=True)]
        batch = data.collate_demonstrations(rows, tokenizer)
        parts.append(reward_model.last_states(model, batch["ids"], batch["attention"]))
    return torch.cat(parts)


def main():
    model, tokenizer = scales.start("smollm2")
    old = tastes.stored(models.load("village-3m-sft")[1])
    old = old.take(range(0, len(old), 2))
    old = tastes.stories(old.requests, old.texts, states(model, tokenizer, old), old.gold)
    print(len(old), "stored stories read", flush=True)
    new = tastes.write(model, tokenizer, tastes.open_requests(20), keep=KEEP, draws=40, requests=16,
                       generator=torch.Generator().manual_seed(0))
    new = tastes.stories(new.requests, new.texts, states(model, tokenizer, new), new.gold)
    old, new = old.standardised(old), new.standardised(old)
    crowds = {"60 / 40": camps(0.6), "90 / 10": camps(0.9), "coin flips": Crowd((Reader(group="blind"),), (1.0,))}
    curve, requests, score = {"n": list(NS)}, {"before": new.happy.view(-1, KEEP).mean(1).tolist()}, {}
    for name, crowd in crowds.items():
        shares = []
        for k in range(SETS):
            chosen, rejected, _ = tastes.compare(old, crowd, LABELS, seed=k)
            score[name, k] = new.states @ reward_model.fit_head(old.states[chosen], old.states[rejected], l2=L2)
            shares.append(tastes.best_of(new, score[name, k], KEEP, NS))
            curve[f"{name} {k}"] = [round(x, 4) for x in shares[-1].mean(0).tolist()]
        requests[name] = [round(x, 4) for x in torch.stack(shares)[:, :, -1].mean(0).tolist()]
        print(name, curve[f"{name} 0"], flush=True)
    first = torch.arange(0, 4 * KEEP, KEEP)
    best = first + score["60 / 40", 0].view(-1, KEEP)[:4].argmax(1)
    shown = {when: [{"prompt": new.requests[i], "completion": new.texts[i], "gold": round(new.gold[i].item(), 3),
                     "end": new.ends[i]} for i in rows.tolist()] for when, rows in (("before", first), ("after", best))}
    record = {"command": "python data/runs/05_smollm2.py", "seed": 0, "curve": curve, "requests": requests,
              "settings": {"labels": LABELS, "sets": SETS, "l2": L2, "stories_read": len(old), "stories_for_a_request": KEEP},
              "held_out": {when: {"texts": texts} for when, texts in shown.items()},
              "versions": {"python": platform.python_version(), "torch": torch.__version__},
              "hardware": f"1 CPU thread, {platform.machine()}", "date": str(date.today())}
    (HERE / "05_smollm2.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
