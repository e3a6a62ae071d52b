"""Lesson 5 at GPT-2 size: a reward fitted on the states of SmolLM2-135M, and the best of its own eight stories.

    python data/runs/05_smollm2.py          # one thread, some five minutes; a run that was broken off goes on
    python data/runs/05_smollm2.py 1        # only its next parts, so many of them

The model with the village adapter reads stored stories, 10,000 comparisons between readers who like happy and readers who
like sad ends give a linear reward on its states, and it writes new stories, from which best-of-8 picks. Five sets of
labels; settings as on the page, none of them tuned here.
"""
import json
import sys
from pathlib import Path

import torch

from rlhf_minimal import data, models, reward_model
from rlhf_minimal.book import scales
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate import tastes
from rlhf_minimal.village import Crowd, Reader

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NS, SETS, LABELS, L2, KEEP, DRAWS, READ = (1, 2, 4, 8), 5, 10_000, 0.2, 8, 40, 110


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


def parts(old):
    """{name: function of (model, tokenizer)}: stories for one request, or states of some stored stories, at a time."""
    def write(k):
        def make(model, tokenizer):
            generator = torch.Generator().manual_seed(k)
            try:
                return tastes.write(model, tokenizer, tastes.open_requests(20)[k:k + 1], keep=KEEP, draws=DRAWS,
                                    generator=generator)
            except ValueError:  # too few of its stories end clearly: the request is left out
                return None
        return make

    def read(k):
        return lambda model, tokenizer: states(model, tokenizer, old.take(range(READ * k, min(READ * k + READ, len(old)))))

    return {f"new {k}": write(k) for k in range(7)} | {f"old {k}": read(k) for k in range(-(-len(old) // READ))}


def main():
    old = tastes.stored(models.load("village-3m-sft")[1])
    old = old.take(range(0, len(old), 5))
    home, left = ROOT / "build/05_smollm2", int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    home.mkdir(parents=True, exist_ok=True)
    todo, loaded = {name: make for name, make in parts(old).items() if not (home / name).exists()}, None
    for name in list(todo)[:left]:
        loaded = loaded or scales.start("smollm2")
        torch.save(todo.pop(name)(*loaded), home / name)
        print(name, flush=True)
    if todo:
        return print(f"{len(todo)} parts are left")
    done = {name: torch.load(home / name, weights_only=False) for name in parts(old)}
    read = torch.cat([x for name, x in done.items() if name.startswith("old")])
    old = tastes.Stories(old.requests, old.texts, old.ends, read, old.gold)
    new = [x for name, x in done.items() if name.startswith("new") and x is not None]
    texts = {what: [t for x in new for t in getattr(x, what)] for what in ("requests", "texts", "ends")}
    new = tastes.Stories(**texts, states=torch.cat([x.states for x in new]), gold=torch.cat([x.gold for x in new]))
    old, new = old.standardised(old), new.standardised(old)
    crowds = {"60 / 40": camps(0.6), "coin flips": Crowd((Reader(group="blind"),), (1.0,))}
    curve, requests, score = {"n": list(NS)}, {"before": new.happy.view(-1, KEEP).mean(1).tolist()}, {}
    for name, crowd in crowds.items():
        shares = []
        for k in range(SETS):
            kept = home / f"score {name.replace(' / ', '-')} {k}"
            if not kept.exists():
                if left == 0:
                    return print("not all rewards are fitted")
                chosen, rejected, _ = tastes.compare(old, crowd, LABELS, seed=k)
                torch.save(new.states @ reward_model.fit_head(old.states[chosen], old.states[rejected], l2=L2), kept)
                left -= 1
            score[name, k] = torch.load(kept)
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
              **stamp()}
    (HERE / "05_smollm2.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
