"""Chapter 12: what DPO, imitation and DPO + NLL earn, from all pairs and from pairs of bad answers, five seeds.

    python data/runs/12_village.py --tune --seeds 0 1 2 3 4     # about two minutes of one core for each seed

A seed draws the requests, the answers, the labels, the order of the batches and the requests of the exam. Rates and steps
are chosen by `--tune`: another seed, and an exam whose requests are not among those reported. The numbers go into the .json
beside this file; an arm that is there already is not run again.
"""
import argparse
import json
import platform
import random
import time
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers

import rlhf_minimal as rlhf
from rlhf_minimal.evaluate import exams
from rlhf_minimal.evaluate.pairs import PairWatch, with_third

HERE = Path(__file__).with_suffix(".json")
BETA, SIZE, SHORT, LONG, LOW, HIGH, TUNING = 0.1, 8, 25, 50, 5e-5, 5e-4, 100
TENFOLD = (100, 10 * SHORT)  # the low rate for ten times as many steps
RATES = {"DPO": (2e-5, 5e-5, 1e-4), "imitation": (5e-5, 1e-4, 2e-4)}
KINDS = ("harmful", "lookalike")


class Village:
    """The pairs and the exam of one seed. split: "test" for what is reported, "train" for what chooses settings."""

    def __init__(self, seed, split="test"):
        self.seed = seed
        self.start, self.tokenizer = rlhf.models.load("village-3m-sft")
        rows = exams.requests(120, KINDS, split="train", seed=seed)
        prompts = [row["prompt"] for row in rows]
        texts = rlhf.sampling.answer(self.start, self.tokenizer, prompts, n=7, max_new_tokens=40,
                                     generator=self.fresh("pairs")).texts(self.tokenizer)
        person = rlhf.village.Annotator(temperature=0.5, tie=0.5)
        self.pairs = rlhf.data.compare_answers(rows, texts, person, n=7, seed=seed)
        self.watch = PairWatch(self.start, self.tokenizer, with_third(rows, texts, self.pairs, n=7)[:24], beta=BETA)
        self.poor = []
        for i, row in enumerate(rows):  # the bad answers to each request, compared among themselves
            bad = list(dict.fromkeys(t for t in texts[7 * i:7 * i + 7] if rlhf.village.gold(row["prompt"], t) < 1))
            if len(bad) > 1:
                self.poor += rlhf.data.compare_answers([row], bad, person, n=len(bad), seed=1000 * seed + i)
        self.test = exams.requests(128, KINDS, split=split, seed=seed if split == "test" else seed + 1)

    def fresh(self, name):
        """A generator of its own for one purpose."""
        return torch.Generator().manual_seed(random.Random(f"{self.seed} {name}").getrandbits(40))

    def exam(self, model):
        return exams.exam(model, self.tokenizer, self.test, n=1, max_new_tokens=40, reference=self.start,
                          generator=self.fresh("exam"))

    def loss(self, method, policy, batch):
        if method == "imitation":
            half = {name: x[:len(x) // 2] for name, x in batch.items()}
            logp, mask = rlhf.logprobs.token_logps(policy, half["ids"], half["attention"]), half["mask"][:, 1:]
            return -(logp * mask).sum() / mask.sum()
        with torch.no_grad():
            ref_chosen, ref_rejected = rlhf.direct_alignment.pair_logps(self.start, batch)
        chosen, rejected = rlhf.direct_alignment.pair_logps(policy, batch)
        h = (chosen - ref_chosen) - (rejected - ref_rejected)
        extra = chosen.sum() / batch["mask"][:len(chosen)].sum() if method == "DPO + NLL" else 0
        return -F.logsigmoid(BETA * h).mean() - extra

    def train(self, method, rate, pairs, stops=(SHORT,), watch=False):
        """Yields (steps, policy, log of the watched pairs) at each of `stops`."""
        policy, log = rlhf.models.copy_of(self.start), [self.watch(self.start)] if watch else []
        optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
        batches = rlhf.data.batches(pairs, SIZE, steps=stops[-1], tokenizer=self.tokenizer, seed=self.seed)
        for step, batch in enumerate(batches, 1):
            loss = self.loss(method, policy, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if watch and step % 5 == 0:
                log.append(self.watch(policy))
            if step in stops:
                yield step, policy, log

    def row(self, exam):
        """Means by kind of request."""
        return {kind: {what: round(exam.of(kind).mean(what), 4) for what in ("gold", "refuses", "kl")
                       if getattr(exam, what) is not None} for kind in KINDS}


def jobs(tune):
    """(arm, method, rate, which pairs, steps at which there is an exam, name of its log or "") of every training run."""
    grid = [(method, rate) for method, rates in RATES.items() for rate in rates]
    if tune:
        return [("", method, rate, "all", (SHORT, LONG), "") for method, rate in grid]
    logged = {("DPO", LOW): "DPO low", ("DPO", HIGH): "DPO high", ("imitation", HIGH): "imitation high",
              ("DPO + NLL", HIGH): "DPO + NLL high"}
    plain = [("", method, rate, "all", (SHORT,), "") for method, rate in grid if (method, rate) not in logged]
    poor = [("poor ", method, rate, "poor", (SHORT,), "") for method in RATES for rate in RATES["DPO"]]
    main = ("imitation", 1e-4), ("DPO", LOW), ("imitation", LOW)  # first what the tables need, then the rest of the frontiers
    return ([("", *key, "all", (SHORT,), name) for key, name in logged.items()] + [("", "DPO", LOW, "all", TENFOLD, "")]
            + sorted(plain + poor, key=lambda job: job[1:3] not in main or job[:3] == ("", "imitation", LOW)))


def record(seed, tune=False, most=None):
    """Every arm of one seed that is not there yet: a run that was stopped goes on where it was. most: so many jobs only."""
    part, run, began = "tuning" if tune else "arms", Village(seed, "train" if tune else "test"), time.process_time()
    there = kept().get(part, {}).get(str(seed), {})
    if "start" not in there:
        golds = [[rlhf.village.gold(p["prompt"], p[side]) for side in ("chosen", "rejected")] for p in run.poor]
        keep(part, seed, {"start": run.row(run.exam(run.start)),
                          "one refusal": run.row(exams.constant(rlhf.village.tasks.REFUSALS[0], run.test))})
        keep("pairs", seed, {"all": len(run.pairs), "poor": len(run.poor), "poor chosen": sum(c for c, _ in golds) / len(golds),
                             "poor rejected": sum(r for _, r in golds) / len(golds)})
    for arm, method, rate, which, stops, name in jobs(tune)[:most]:
        if f"{arm}{method} {rate:g} x{stops[-1]}" in there:
            continue
        for step, policy, log in run.train(method, rate, run.poor if which == "poor" else run.pairs, stops, bool(name)):
            if name:
                keep("logs", seed, {name: [{k: round(v, 4) for k, v in one.items()} for one in log]})
            keep(part, seed, {f"{arm}{method} {rate:g} x{step}": run.row(run.exam(policy))})
            if step in TENFOLD and not tune:
                keep("watched", seed, {f"{arm}{method} {rate:g} x{step}": {k: round(v, 4) for k, v in run.watch(policy).items()}})
        print(seed, arm + method, rate, round(time.process_time() - began), "s", flush=True)


def kept():
    """What the file holds so far."""
    return json.loads(HERE.read_text()) if HERE.exists() else {}


def keep(part, seed, values):
    """Add values {name: …} to a part of the file, and bring the rest of it up to date."""
    found = kept()
    parts = found.setdefault(part, {})
    parts[str(seed)] = parts.get(str(seed), {}) | values
    curve = {f"{name} {what} {k}": [one[what] for one in log] for k, logs_of in sorted(found.get("logs", {}).items())
             for name, log in logs_of.items() for what in log[0]}
    found |= {"curve": {"step": list(range(0, SHORT + 1, 5))} | curve,
              "command": "python data/runs/12_village.py --tune --most 8", "model": "village-3m-sft",
              "seed": sorted(map(int, found.get("arms", {}))),
              "settings": {"beta": BETA, "batch_size": SIZE, "high rate": HIGH, "tuning seed": TUNING},
              "versions": {"python": platform.python_version(), "torch": torch.__version__,
                           "transformers": transformers.__version__},
              "hardware": f"1 thread, {platform.machine()}", "date": str(date.today())}
    HERE.write_text(json.dumps(found, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--most", type=int, default=None, help="only the first so many jobs of each seed")
    args = parser.parse_args()
    if args.tune:
        record(TUNING, tune=True)
    for seed in args.seeds:
        record(seed, most=args.most)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
