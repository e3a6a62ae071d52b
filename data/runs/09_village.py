"""Lesson 9: one base model, the same demonstrations; only the tokens that the loss counts differ.

    python data/runs/09_village.py          # three seeds, one thread, some six minutes of one core; resumes where it stopped
    python data/runs/09_village.py 2        # one seed

Arms: "answer" counts the answer and its end token, "no end" the answer without its end token, "everything" the prompt as
well; "noisy" is "answer" on demonstrations with the village's usual faults, "longer" (first seed only) is "answer" for 300
steps, one and a half times through its 1,600 demonstrations. AdamW, constant rate, 8 demonstrations a step. Looks after 10,
30 and 100 steps: 48 test requests of four kinds, answered greedily with at most 40 tokens, and the mean loss on 64 faultless
answers to other test requests, by place: "first" their first token, "last" the end token, "middle" all between.
The base is asked in a transcript; "few-shot" puts four faultless demonstrations before the request, two of them
refusals; "cut" keeps the text before the first new line, "sentence" the text up to the first full stop.
"""
import json
import sys
import time
from pathlib import Path

import torch

from rlhf_minimal import data, models, village
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate.exams import exam, few_shot, logp_by_place, requests
from rlhf_minimal.logprobs import token_logps

HERE = Path(__file__).with_suffix(".json")
KINDS, SEEDS, BATCH, RATE, TOKENS = ("fact", "opinion", "harmful", "lookalike"), (0, 1, 2), 8, 3e-4, 40
SHOTS = ("harmful", "lookalike", "fact", "harmful")
MASKS = {"no end": lambda batch, end: batch["mask"] * (batch["ids"] != end), "everything": lambda batch, end: batch["attention"]}
LOOKS = {"answer": (10, 30, 100), "no end": (10, 30, 100), "everything": (10, 30, 100), "noisy": (100,), "longer": (300,)}
ORDER = (("answer", "no end", "everything"), ("noisy", "longer"))
FIRST = ("base",)


def cut(text):
    """The first answer of a transcript that runs on."""
    return text.strip().split("\n")[0]


def sentence(text):
    """The text up to its first full stop."""
    return text.split(".")[0] + "."


def measured(some, places=None):
    """One look: {kind: {gold, refuses}} and, over all kinds, the share that ends, tokens, and losses by place."""
    out = {kind: {"gold": round(some.of(kind).mean(), 4), "refuses": round(some.of(kind).mean("refuses"), 4)} for kind in KINDS}
    out["all"] = {"gold": round(some.mean(), 4), "ends": round(some.mean("ended"), 4), "tokens": round(some.mean("length"), 2)}
    return out | ({"loss": {k: round(-v, 5) for k, v in places.items()}} if places else {})


def ask(model, tokenizer, rows, **how):
    return exam(model, tokenizer, rows, max_new_tokens=TOKENS, temperature=0.0, **how)


def bases(seed):
    """The base model in a transcript: as it runs on, cut, and after four demonstrations."""
    base, plain = models.load("village-3m")
    rows = requests(48, KINDS, seed=seed)
    shots = [village.demonstrations(1, families=(kind,), perfect=True, seed=300 + 10 * seed + i)[0] for i, kind in enumerate(SHOTS)]
    free, shot = ask(base, plain, rows), ask(base, plain, few_shot(rows, shots), raw=True)
    return {"base": measured(free), "base, cut": measured(free.edited(cut)), "base, few-shot, cut": measured(shot.edited(cut))}


def train(arm, seed):
    """({"arm steps": what was measured}, the loss by step) of one run."""
    base, _ = models.load("village-3m")
    _, tokenizer = models.load("village-3m-sft")
    last = max(LOOKS[arm])
    rows = village.demonstrations(BATCH * 200, seed=100 + seed, families=KINDS, perfect=arm != "noisy")
    test = requests(48, KINDS, seed=seed)
    faultless = village.demonstrations(64, seed=200 + seed, split="test", families=KINDS, perfect=True)
    policy, out, losses = models.copy_of(base), {}, []
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
    for step, batch in enumerate(data.batches(rows, BATCH, steps=last, tokenizer=tokenizer, seed=seed), 1):
        mask = MASKS.get(arm, lambda batch, end: batch["mask"])(batch, tokenizer.eos_token_id)[:, 1:].float()
        logp = token_logps(policy, batch["ids"], batch["attention"], wanted=mask)
        loss = -(logp * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(round(loss.item(), 4))
        if step in LOOKS[arm]:
            some = ask(policy, tokenizer, test)
            out[f"{arm} {step}"] = measured(some, logp_by_place(policy, tokenizer, faultless))
            if arm == "no end" and step == 100:
                out[f"{arm} {step}, cut"] = measured(some.edited(cut))
                out[f"{arm} {step}, sentence"] = measured(some.edited(sentence))
    return out, losses


def write(record):
    """The record so far, with the loss of each run in the curve."""
    record["curve"] = {"step": list(range(1, 101))} | {
        f"{arm} {seed}": losses[:100] for seed, runs in record["losses"].items() for arm, losses in runs.items()}
    HERE.write_text(json.dumps(record | stamp(), indent=1) + "\n", encoding="utf-8")


def main():
    empty = {"command": "python data/runs/09_village.py", "seed": list(SEEDS), "arms": {}, "losses": {},
             "settings": {"batch_size": BATCH, "lr": RATE, "tokens": TOKENS, "requests": 48, "kinds": KINDS}, "minutes": 0}
    record = json.loads(HERE.read_text(encoding="utf-8")) if HERE.exists() else empty
    for arms in (FIRST, *ORDER):
        for seed in [int(x) for x in sys.argv[1:]] or SEEDS:
            found, losses = (record[part].setdefault(str(seed), {}) for part in ("arms", "losses"))
            for arm in (arm for arm in arms if arm != "longer" or seed == SEEDS[0]):
                began = time.process_time()
                if arm == "base" and "base" not in found:
                    found |= bases(seed)
                elif arm != "base" and arm not in losses:
                    new, losses[arm] = train(arm, seed)
                    found |= new
                record["minutes"] = round(record["minutes"] + (time.process_time() - began) / 60, 2)
                print(seed, arm, {k: v["all"] for k, v in found.items() if k.startswith(arm)}, record["minutes"], flush=True)
                write(record)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
