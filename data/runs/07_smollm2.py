"""Lesson 7 at GPT-2 size: two teachers, a linear reward on the states of SmolLM2-135M, and four empty sentences.

    python data/runs/07_smollm2.py          # one thread, some six minutes; a run that was broken off goes on
    python data/runs/07_smollm2.py 3        # only its next parts, so many of them

The model with the village adapter reads stored answers and held-out ones with filler; a linear head on its last states is
fitted to the labels of two people. Five sets of labels; the penalty of the head is that of the page, not tuned here.
"""
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from rlhf_minimal import models, reward_model, village
from rlhf_minimal.book import scales
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate import comparisons

HERE = Path(__file__).parent
HOME = HERE.parents[1] / "build/07_smollm2"
TRAIN, TEST, SETS, L2, SHORT, PART = 200, 80, 5, 0.1, 20, 40
PEOPLE = {"noisy": village.Annotator(name="noisy", temperature=1.5),
          "wordy": village.Annotator(name="wordy", temperature=0.25, length_bias=2.5)}


def smaller():
    """The first prompts of both parts, the answers to them (their places in the pool), and the short ones to be filled up."""
    some = comparisons.stored()

    def first(two, n):
        prompts = some.answers.prompt[two[:, 0]]
        return two[torch.isin(prompts, prompts.unique()[:n])]

    some = replace(some, train=first(some.train, TRAIN), test=first(some.test, TEST))
    return some, torch.cat([some.train.flatten(), some.test.flatten()]).unique(), some.short(SHORT)


def main():
    began, left = time.process_time(), int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    HOME.mkdir(parents=True, exist_ok=True)
    some, rows, short = smaller()
    village_tokenizer = models.load("village-3m-sft")[1]
    plain = some.answers.texts(short, village_tokenizer)
    filled = [" ".join([text, *comparisons.FILLER[:k]]) for k in range(5) for text in plain]
    asked = some.asked(rows) + 5 * some.asked(short)
    texts = some.answers.texts(rows, village_tokenizer) + filled
    parts, loaded = range(0, len(texts), PART), None
    todo = [k for k in parts if not (HOME / f"{k}.pt").exists()]
    for k in todo[:left]:
        loaded = loaded or scales.start("smollm2")
        torch.save(comparisons.states_of(*loaded, asked[k:k + PART], texts[k:k + PART]), HOME / f"{k}.pt")
        print(k, len(texts), round(time.process_time() - began), "s", flush=True)
    if len(todo) > left:
        return print(f"{len(todo) - left} parts are left")
    read = torch.cat([torch.load(HOME / f"{k}.pt") for k in parts])
    states = torch.zeros(len(some.answers), read.shape[1], dtype=torch.float64)
    states[rows], longer = read[:len(rows)], read[len(rows):].view(5, SHORT, -1)
    right = {"teacher": {name: round(some.agreement(person), 4) for name, person in PEOPLE.items()},
             "length": round(some.right(some.words), 4), "log-probability": round(some.right(some.logp), 4)}
    curve, students, shown = {"fillers": list(range(5))}, {name: {} for name in PEOPLE}, []
    for name, person in PEOPLE.items():
        for k in range(SETS):
            labels = some.label(person, len(some.train), torch.Generator().manual_seed(k))
            weight = reward_model.fit_head(states[labels[:, 0]], states[labels[:, 1]], l2=L2)
            score, change = states @ weight, (longer - longer[0]) @ weight  # a difference of scores: log-odds
            curve[f"{name} {k}"] = [round(x, 4) for x in change.mean(1).tolist()]
            students[name][str(k)] = {"right": round(some.right(score), 4), "longer": round(some.longer(score), 4)}
            if k == 0:
                shown.append(change[-1])
        print(name, students[name], curve[f"{name} 0"], flush=True)
    shown = [{"prompt": p, "plain": a, "filled": b, "gold": [round(village.gold(p, t), 3) for t in (a, b)],
              "change": {name: round(x[i].item(), 3) for name, x in zip(PEOPLE, shown, strict=True)}}
             for i, (p, a, b) in enumerate(zip(some.asked(short), plain, filled[4 * SHORT:], strict=True))]
    gold = [sum(village.gold(p, t) for p, t in zip(some.asked(short), filled[k * SHORT:(k + 1) * SHORT], strict=True)) / SHORT
            for k in range(5)]
    record = {"command": "python data/runs/07_smollm2.py", "seed": 0, "curve": curve | {"gold": [round(g, 4) for g in gold]},
              "right": right, "students": students, "shown": shown[:6],
              "settings": {"labels": len(some.train), "test_pairs": len(some.test), "sets": SETS, "l2": L2, "filled": SHORT},
              "model": "smollm2-135m + smollm2-135m-village", **stamp()}
    (HERE / "07_smollm2.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
