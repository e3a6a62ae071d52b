"""Lesson 10: what a model learns from kept answers: the best of four, one of four at random, the best overall, five seeds.

    python data/runs/10_village.py            # under two minutes of one core for each seed; goes on where it was stopped

A seed draws the 256 requests (64 of each kind; 110 to 338 of a kind are stored), the person's labels on other requests, the
order of the batches and the requests of the exam. Every arm learns from 256 rows in 48 steps at one rate; both were tried once,
with seed 100, and not searched. "most probable of 4" is kept, but nothing learns from it. The numbers go into the .json beside
this file.
"""
import argparse
import json
import time
from pathlib import Path

import torch

import rlhf_minimal as rlhf
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate import candidates, exams
from rlhf_minimal.filtering import random_per_prompt, top_overall, top_per_prompt

HERE = Path(__file__).with_suffix(".json")
KINDS, STEPS, SIZE = ("story", "opinion", "harmful", "lookalike"), 48, 16
ARMS = ("random of 4", "best of 4", "best overall", "best overall, centred", "most probable of 4")
TRAINED, RATE = ARMS[:4], 5e-4


def finetune(start, tokenizer, rows, seed):
    """SFT on the kept answers, the rate falling to 0."""
    policy = rlhf.models.copy_of(start)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
    for step, batch in enumerate(rlhf.data.batches(rows, SIZE, steps=STEPS, tokenizer=tokenizer, seed=seed)):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        rlhf.sft.step(policy, optimizer, batch)
    return policy


def kept(some, score, generator):
    """{arm: places of the kept answers}"""
    (m, n), centred = some.shape, score.view(some.shape) - score.view(some.shape).mean(1, keepdim=True)
    return dict(zip(ARMS, (random_per_prompt(m * n, n, generator=generator), top_per_prompt(score, n), top_overall(score, m),
                           top_overall(centred.flatten(), m), top_per_prompt(some.logp, n)), strict=True))


def row(exam):
    """Means by kind of request."""
    return {kind: {what: round(exam.of(kind).mean(what), 4) for what in ("gold", "refuses", "length", "kl")
                   if getattr(exam, what) is not None} for kind in KINDS}


def texts(exam):
    """The first two answers of each kind."""
    return [{"prompt": exam.rows[i]["prompt"], "completion": exam.texts[i], "gold": round(exam.gold[i].item(), 3)}
            for i in range(2 * len(KINDS))]


def record(seed, arms):
    """One seed: what each arm keeps, and the exam of the model that learned from it."""
    start, tokenizer = rlhf.models.load("village-3m-sft")
    some, dice = candidates.candidates(KINDS, seed=seed), torch.Generator().manual_seed(seed)
    weight = some.judge(rlhf.village.Annotator(name="honest", temperature=1.0), dice)
    chosen = kept(some, some.score(weight), dice)
    test = exams.requests(160, KINDS, seed=seed)

    def exam(model, n=1):
        return exams.exam(model, tokenizer, test, n=n, max_new_tokens=56, reference=start if n == 1 else None,
                          generator=torch.Generator().manual_seed(1000 + seed))

    there = found().get("arms", {}).get(str(seed), {})
    if "start" not in there:
        keep("kept", seed, {name: {"gold": {k: round(some.gold[places][[some.families[i] == k for i in (places // 4).tolist()]]
                                               .mean().item(), 4) for k, many in some.count(places).items() if many},
                                   "mean": round(some.gold[places].mean().item(), 4), "rows": some.count(places),
                                   "unheard": some.unheard(places), "tokens": int(some.lengths[places].sum())}
                            for name, places in chosen.items()})
        first, four = exam(start), exam(start, n=4)
        four.score = some.score_new(weight, start, four.rollout)
        keep("texts", seed, {"start": texts(first)})
        keep("arms", seed, {"start": row(first), "choose 1 of 4, no training": row(four.best_of(4))})
    for name in arms:
        if name in there:
            continue
        began = time.process_time()
        done = exam(finetune(start, tokenizer, some.demonstrations(chosen[name], tokenizer), seed))
        keep("texts", seed, {name: texts(done)})
        keep("arms", seed, {name: row(done)})
        print(seed, name, round(done.mean(), 2), round(time.process_time() - began), "s", flush=True)


def found():
    """What the file holds so far."""
    return json.loads(HERE.read_text()) if HERE.exists() else {}


def keep(part, seed, values):
    """Add values {name: …} to a part of the file."""
    whole = found()
    parts = whole.setdefault(part, {})
    parts[str(seed)] = parts.get(str(seed), {}) | values
    whole |= {"curve": {}, "command": "python data/runs/10_village.py", "model": "village-3m-sft",
              "seed": sorted(map(int, whole.get("arms", {}))),
              "settings": {"steps": STEPS, "batch_size": SIZE, "lr": RATE, "prompts": 256, "answers": 4,
                           "exam": 160}} | stamp()
    HERE.write_text(json.dumps(whole, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    for arms in (TRAINED[:3], TRAINED):  # first what the page cannot do without
        for seed in args.seeds:
            record(seed, arms)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
