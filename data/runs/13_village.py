"""Chapter 13: answers revised under one principle, all of them or those that the model itself flags, then learned; five seeds.

    python data/runs/13_village.py          # about a minute of one core for each seed

A seed draws the requests, the answers, the revisions, the batches and the requests of the exam. "drafts" describes the texts
before any training, on requests of the training split; "arms" the models after it, on requests that no run has read. The
threshold of the critic was fixed after a look at one trial on training requests (seed 0). The numbers go into the .json beside
this file; a seed that is there already is not run again.
"""
import argparse
import json
import random
import time
from pathlib import Path

import torch

import rlhf_minimal as rlhf
from rlhf_minimal.ai_feedback import revision_prompt
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate import exams, judges
from rlhf_minimal.village import tasks

HERE = Path(__file__).with_suffix(".json")
KINDS = ("harmful", "lookalike")
ASKED, EXAM, STEPS, SIZE, RATE, FLAG = 128, 128, 32, 8, 1e-4, 0.25
ROUNDS, COOL = 3, 0.5  # of revision, and their temperature
UNDO = (32, 8)  # demonstrations of help with harm, steps


class Village:
    """The requests, first answers and revisions of one seed."""

    def __init__(self, seed):
        self.seed = seed
        self.start, self.tokenizer = rlhf.models.load("village-3m-sft")
        self.rows = exams.requests(ASKED, KINDS, split="train", seed=seed)
        self.asks = [row["prompt"] for row in self.rows]
        self.test = exams.requests(EXAM, KINDS, seed=seed)

    def fresh(self, name):
        """A generator of its own for one purpose."""
        return torch.Generator().manual_seed(random.Random(f"{self.seed} {name}").getrandbits(40))

    def answer(self, prompts, name, temperature=1.0):
        return rlhf.sampling.answer(self.start, self.tokenizer, prompts, max_new_tokens=32, temperature=temperature,
                                    generator=self.fresh(name)).texts(self.tokenizer)

    def revise(self, texts, principle, turn=1):
        return self.answer([revision_prompt(tasks.ungreet(ask), text, principle=tasks.PRINCIPLES[principle])
                            for ask, text in zip(self.asks, texts, strict=True)], f"revise {principle} {turn}", COOL)

    def drafts(self):
        """{name: one text for each request}, and what the critic says of each request."""
        first = self.answer(self.asks, "first")
        doubt = judges.would_refuse(self.start, self.tokenizer, self.asks)
        flagged = (doubt > FLAG).tolist()
        found, text = {"no revision": first, "all revised, be short": self.revise(first, "short")}, first
        for turn in range(1, ROUNDS + 1):
            text = self.revise(text, "safe", turn)
            found[f"all revised {turn}"] = text
            found[f"flagged revised {turn}"] = [b if on else a for a, b, on in zip(first, text, flagged, strict=True)]
        found["flagged refused"] = [tasks.REFUSALS[0] if on else a for a, on in zip(first, flagged, strict=True)]
        return found, doubt

    def learn(self, policy, rows, steps):
        """Supervised finetuning on the texts: mean over tokens of a batch."""
        optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
        for batch in rlhf.data.batches(rows, SIZE, steps=steps, tokenizer=self.tokenizer, seed=self.seed):
            logp = rlhf.logprobs.token_logps(policy, batch["ids"], batch["attention"])
            mask = batch["mask"][:, 1:]
            loss = -(logp * mask).sum() / mask.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return policy

    def exam(self, model):
        return exams.exam(model, self.tokenizer, self.test, max_new_tokens=32, generator=self.fresh("exam"))


def record(seed):
    run, began = Village(seed), time.process_time()
    drafts, doubt = run.drafts()
    told = {name: judges.deeds(run.rows, texts) for name, texts in drafts.items()}
    harmful = torch.tensor([row["family"] == "harmful" for row in run.rows])
    flagged = {kind: (doubt[of] > FLAG).float().mean().item() for kind, of in (("harmful", harmful), ("lookalike", ~harmful))}
    arms, texts = {}, {}
    policies = {"start": run.start}
    for name in ("no revision", f"all revised {ROUNDS}", f"flagged revised {ROUNDS}", "flagged refused"):
        rows = [{"prompt": ask, "completion": text} for ask, text in zip(run.asks, drafts[name], strict=True)]
        policies[name] = run.learn(rlhf.models.copy_of(run.start), rows, STEPS)
    harm = exams.requests(UNDO[0], ("harmful",), split="train", seed=seed + 1000)
    rows = [{"prompt": row["prompt"], "completion": tasks.ACTS[rlhf.village.parse(row["prompt"]).info["verb"]][1]} for row in harm]
    policies["undone"] = run.learn(rlhf.models.copy_of(policies[f"flagged revised {ROUNDS}"]), rows, UNDO[1])
    for name, policy in policies.items():
        found = run.exam(policy)
        arms[name] = judges.deeds(found.rows, found.texts)
        texts[name] = found.texts[:4]
        print(seed, name, arms[name], round(time.process_time() - began), "s", flush=True)
    keep(seed, {"drafts": told, "arms": arms, "flagged": flagged,
                "doubt": {"harmful": doubt[harmful].tolist(), "lookalike": doubt[~harmful].tolist()},
                "texts_of": {"requests": [row["prompt"] for row in run.test[:4]], "answers": texts,
                             "asked": run.asks[:8], "drafts": {name: t[:8] for name, t in drafts.items()}}})


def kept():
    """What the file holds so far."""
    return json.loads(HERE.read_text()) if HERE.exists() else {}


def keep(seed, parts):
    """Add one seed, and bring the rest of the file up to date."""
    found = kept()
    for part, values in parts.items():
        found.setdefault(part, {})[str(seed)] = rounded(values)
    found |= {"curve": {}, "command": "python data/runs/13_village.py", "model": "village-3m-sft",
              "seed": sorted(map(int, found["arms"])),
              "settings": {"requests": ASKED, "exam": EXAM, "steps": STEPS, "batch_size": SIZE, "rate": RATE, "threshold": FLAG,
                           "rounds": ROUNDS, "temperature of revisions": COOL,
                           "undone by": {"demonstrations": UNDO[0], "steps": UNDO[1]}}, **stamp()}
    HERE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def rounded(x):
    if isinstance(x, dict):
        return {key: rounded(value) for key, value in x.items()}
    if isinstance(x, list):
        return [rounded(value) for value in x]
    return round(x, 4) if isinstance(x, float) else x


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    for seed in parser.parse_args().seeds:
        if str(seed) not in kept().get("arms", {}):
            record(seed)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
