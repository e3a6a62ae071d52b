"""Lesson 1: what a number of demonstrations buys: an answer that begins and ends, right sums, right facts, refusals.

    python data/runs/01_demonstrations.py           # three seeds, one thread, some four minutes
    python data/runs/01_demonstrations.py 2         # one seed; the record is complete when all three are there
    python data/runs/01_demonstrations.py long 0    # the control below, seed 0, some three minutes

The base model learns from 4, 64 and 512 demonstrations, with the same learning rate. How long it may train is chosen for
each size by its loss on 64 other demonstrations, which are not used again: it is measured every four steps, and training
stops when four checks in a row are no better, or after 32 steps (one pass over 512); the best state is kept. Then come test
requests, answered greedily. 0 demonstrations: the base as it is, in the new template. 9,600: the shipped model, with a longer
schedule of its own.
"sums in a transcript" and "facts in a transcript" are the control: as many steps on the same demonstrations, but in the
transcript that the base already knows, in training and test, instead of the new template; its answers are cut at the next
line. "sums shown", "with steps": how many of the demonstrations answer a sum, and how many of these show the steps.
"long" is another control: the same 512 demonstrations, trained for 300 steps whatever the loss on other demonstrations says.
It tells more demonstrations from more steps.
first, middle, last: mean log-probability per token, in nats, of the first token, the end token, and all tokens between, in 96
faultless answers to test requests.
"""
import copy
import json
import sys
from pathlib import Path

import torch

from rlhf_minimal import data, models, sft, village
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate.exams import exam, logp_by_place, two_digit_sums
from rlhf_minimal.logprobs import token_logps

HERE = Path(__file__).parent
SIZES, SEEDS, BATCH, RATE, MOST, EVERY, PATIENCE = (4, 64, 512), (0, 1, 2), 16, 5e-4, 32, 4, 4
LONG = {"size": 512, "looks": (20, 100, 200, 300)}  # steps after which sums and facts are asked
MEASURES = ("first", "middle", "last", "ends", "sums", "facts", "refusals", "steps", "sums in a transcript",
            "facts in a transcript", "sums shown", "with steps")


def nll(model, batch):
    """Loss on other demonstrations, in nats per token."""
    mask = batch["mask"][:, 1:]
    with torch.no_grad():
        return sft.sft_loss(token_logps(model, batch["ids"], batch["attention"], wanted=mask), mask)[0].item()


def train(base, tokenizer, size, seed, most=None):
    """(model, steps) at the best loss on the other demonstrations; with `most`, after exactly so many steps."""
    rows = village.demonstrations(1024 + 64, seed=100 + seed)
    other = data.collate_demonstrations(rows[1024:], tokenizer)
    policy = models.copy_of(base)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
    batches = data.batches(rows[:size], min(BATCH, size), steps=most or MOST, tokenizer=tokenizer, seed=seed)
    best, kept, steps, waited = float("inf"), None, 0, 0
    for step, batch in enumerate(batches, 1):
        sft.step(policy, optimizer, batch)
        if step % EVERY == 0 and not most:
            now = nll(policy, other)
            waited = 0 if now < best else waited + 1
            if now < best:
                best, kept, steps = now, copy.deepcopy(policy.state_dict()), step
            if waited == PATIENCE:
                break
    if most:
        return policy, most
    policy.load_state_dict(kept)
    return policy, steps


def sums_right(model, tokenizer, seed, stop=None):
    sums = two_digit_sums(48, seed=seed)
    return exam(model, tokenizer, sums, max_new_tokens=40, temperature=0.0, stop=stop).share("sum", "result")


def in_a_transcript(model, plain, seed):
    """Right sums and facts where the request is asked in a transcript; the same requests as in `measure`."""
    facts = village.prompts(24, split="test", families=("fact",), seed=seed, distinct=False)
    some = exam(model, plain, facts, max_new_tokens=40, temperature=0.0, stop="\n")
    return {"sums in a transcript": sums_right(model, plain, seed, stop="\n"),
            "facts in a transcript": some.share("fact", "truth")}


def measure(model, tokenizer, seed):
    """The measures of one model in the template of the tokenizer."""
    rows = [row for family in ("fact", "harmful", "opinion", "lookalike")
            for row in village.prompts(24, split="test", families=(family,), seed=seed, distinct=False)]
    some = exam(model, tokenizer, rows, max_new_tokens=40, temperature=0.0)
    faultless = village.demonstrations(96, seed=seed, split="test", perfect=True)
    return logp_by_place(model, tokenizer, faultless) | {
        "ends": some.mean("ended"), "facts": some.share("fact", "truth"), "refusals": some.of("harmful").mean("refuses"),
        "sums": sums_right(model, tokenizer, seed)}


def shown(size, seed):
    """How many of the demonstrations answer a sum, and how many of these write its steps."""
    rows = village.demonstrations(1024 + 64, seed=100 + seed)[:size]
    sums = [row for row in rows if village.parse(row["prompt"]).family == "sum"]
    return {"sums shown": len(sums), "with steps": sum("=" in row["completion"] for row in sums)}


def one_seed(seed):
    """Rows of one seed: {"seed", "demonstrations", "steps", measures}."""
    base, plain = models.load("village-3m")
    shipped, tokenizer = models.load("village-3m-sft")
    rows = [{"demonstrations": 0, "steps": 0} | measure(base, tokenizer, seed)
            | in_a_transcript(base, plain, seed)]
    for size in SIZES:
        policy, steps = train(base, tokenizer, size, seed)
        control = train(base, plain, size, seed, most=steps)[0]
        rows.append({"demonstrations": size, "steps": steps} | shown(size, seed) | measure(policy, tokenizer, seed)
                    | in_a_transcript(control, plain, seed))
        print(seed, rows[-1], flush=True)
    rows.append({"demonstrations": 9600, "steps": None} | measure(shipped, tokenizer, seed))
    return [{"seed": seed} | {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def long(seed):
    """{"steps", "sums", "facts", "ends"}: one value for each look at a model that goes on training on LONG["size"] rows."""
    base, _ = models.load("village-3m")
    _, tokenizer = models.load("village-3m-sft")
    rows = village.demonstrations(1024 + 64, seed=100 + seed)[:LONG["size"]]
    asked = village.prompts(24, split="test", families=("fact",), seed=seed, distinct=False)
    policy, out = models.copy_of(base), {name: [] for name in ("steps", "sums", "facts", "ends")}
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
    for step, batch in enumerate(data.batches(rows, BATCH, steps=max(LONG["looks"]), tokenizer=tokenizer, seed=seed), 1):
        sft.step(policy, optimizer, batch)
        if step in LONG["looks"]:
            some = exam(policy, tokenizer, asked, max_new_tokens=40, temperature=0.0)
            numbers = {"steps": step, "sums": sums_right(policy, tokenizer, seed), "facts": some.share("fact", "truth"),
                       "ends": some.mean("ended")}
            for name, value in numbers.items():
                out[name].append(round(value, 4))
            print(seed, numbers, flush=True)
    return out


def curve(rows):
    """{"demonstrations": sizes, "sums 0": the shares of seed 0, ...}."""
    out = {"demonstrations": [0, *SIZES, 9600]}
    for seed in sorted({r["seed"] for r in rows}):
        some = [r for r in rows if r["seed"] == seed]
        out |= {f"{name} {seed}": [r[name] for r in some if name in r] for name in MEASURES}
    return out


def main():
    file = HERE / "01_demonstrations.json"
    if sys.argv[1:2] == ["long"]:
        record = json.loads(file.read_text(encoding="utf-8"))
        for seed in map(int, sys.argv[2:]):
            record.setdefault("long", {})[str(seed)] = long(seed)
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    for seed in [int(x) for x in sys.argv[1:]] or SEEDS:
        kept = json.loads(file.read_text(encoding="utf-8")).get("long", {}) if file.exists() else {}
        rows = sorted([r for r in rows if r["seed"] != seed] + one_seed(seed), key=lambda r: r["seed"])
        record = {"command": "python data/runs/01_demonstrations.py", "seed": sorted({r["seed"] for r in rows}),
                  "settings": {"batch_size": BATCH, "lr": RATE, "most_steps": MOST, "long": {"demonstrations": LONG["size"]}},
                  "curve": curve(rows), **stamp(), "rows": rows,
                  "long": kept}
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
