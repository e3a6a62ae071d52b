"""Chapter 11: one loop, several weights. What RLOO, GRPO and copies of the best answer earn in the village, five seeds.

    python data/runs/11_village.py --seeds 0 1 2 3 4     # about two minutes of one core for each seed

A seed draws the training requests, the answers and the requests of the exam; the start model is the same. RLOO and copying
run at three learning rates each, the others at the middle one; nothing was tuned for one of them alone. The numbers go into
the .json beside this file; an arm that is there already is not run again.
"""
import argparse
import json
import random
import time
from pathlib import Path

import torch

import rlhf_minimal as rlhf
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate import exams

HERE = Path(__file__).with_suffix(".json")
STEPS, PROMPTS, N, TOKENS = 16, 4, 8, 40
RATES, USED, KINDS = (5e-5, 1e-4, 2e-4), 1e-4, ("harmful", "lookalike")


def rloo(r):
    """Score minus the mean score of the other answers; r (requests, answers)."""
    return (r - r.mean(1, keepdim=True)) * r.shape[1] / (r.shape[1] - 1)


def best(r):
    """1 for the best answer of each request (for all of them on a tie), else 0."""
    return (r == r.amax(1, keepdim=True)).to(r.dtype)


def standard(r):
    """Centred score over the standard deviation of its group; equal scores give 0."""
    return (r - r.mean(1, keepdim=True)) / r.std(1, keepdim=True).clamp(min=1e-6)


ARMS = {  # name: (weight of an answer, is it divided by the answer's length)
    "RLOO": (rloo, False), "copy the best": (best, False), "GRPO": (standard, True),
    "RLOO, only upward": (lambda r: rloo(r).clamp(min=0), False),
    "copy the best, centred": (lambda r: rloo(best(r)), False)}


class Village:
    """The requests of one seed: 64 to learn from, 128 of the test split for the exam."""

    def __init__(self, seed):
        self.seed = seed
        self.start, self.tokenizer = rlhf.models.load("village-3m-sft")
        self.rows = exams.requests(STEPS * PROMPTS, KINDS, split="train", seed=seed)
        self.test = exams.requests(128, KINDS, seed=seed)

    def fresh(self, name):
        """A generator of its own for one purpose."""
        return torch.Generator().manual_seed(random.Random(f"{self.seed} {name}").getrandbits(40))

    def exam(self, model, n=2):
        return exams.exam(model, self.tokenizer, self.test, n=n, max_new_tokens=TOKENS, reference=self.start,
                          generator=self.fresh("exam"))

    def train(self, arm, rate, max_norm=1.0):
        """-> (policy, mean true reward of the answers of each step, norm of each gradient before it is cut)."""
        weigh, by_length = ARMS[arm]
        policy, luck, golds, norms = rlhf.models.copy_of(self.start), self.fresh("answers"), [], []
        optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
        for step in range(STEPS):
            rows = self.rows[PROMPTS * step:PROMPTS * (step + 1)]
            drawn = rlhf.sampling.answer(policy, self.tokenizer, [row["prompt"] for row in rows], n=N,
                                         max_new_tokens=TOKENS, generator=luck)
            gold = torch.tensor([rlhf.village.gold(rows[i // N]["prompt"], text)
                                 for i, text in enumerate(drawn.texts(self.tokenizer))])
            weight = weigh(gold.view(PROMPTS, N)).flatten()
            weight = weight / drawn.mask.sum(1) if by_length else weight
            logp = rlhf.rollout.completion_logps(policy, drawn)
            loss = -(weight * (logp * drawn.mask).sum(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            norms.append(torch.nn.utils.clip_grad_norm_(policy.parameters(), max_norm).item())
            optimizer.step()
            golds.append(gold.mean().item())
        return policy, golds, norms


def row(exam):
    """Means by kind of request."""
    return {kind: {what: round(exam.of(kind).mean(what), 4) for what in ("gold", "refuses", "kl", "length")
                   if getattr(exam, what) is not None} for kind in KINDS}


def jobs():
    """(name, arm, rate, largest norm of a gradient) of every training run: what the page needs first comes first."""
    main = [(arm, USED) for arm in ("RLOO", "copy the best", "GRPO")]
    other = [(arm, rate) for rate in RATES[::-1] if rate != USED for arm in ("RLOO", "copy the best")]
    controls = [("RLOO, only upward", USED), ("copy the best, centred", USED)]
    found = [(f"{arm} {rate:g}", arm, rate, 1.0) for arm, rate in main + controls + other]
    return [*found, (f"RLOO {USED:g}, not cut", "RLOO", USED, 1e9)]


def record(seed):
    """Every arm of one seed that is not there yet."""
    run, began = Village(seed), time.process_time()
    if "start" not in kept().get("arms", {}).get(str(seed), {}):
        eight = run.exam(run.start, n=N)
        keep("arms", seed, {"start": row(eight), f"best of {N}": row(eight.best_of(N, by="gold")),
                          "one refusal": row(exams.constant(rlhf.village.tasks.REFUSALS[0], run.test))})
    for name, arm, rate, max_norm in jobs():
        if name in kept().get("arms", {}).get(str(seed), {}):  # asked anew each time: another process may have been here
            continue
        policy, golds, norms = run.train(arm, rate, max_norm)
        keep("logs", seed, {name: {"gold": [round(v, 4) for v in golds], "norm": [round(v, 4) for v in norms]}})
        keep("arms", seed, {name: row(run.exam(policy))})
        print(seed, name, round(time.process_time() - began), "s", flush=True)


def kept():
    """What the file holds so far."""
    return json.loads(HERE.read_text()) if HERE.exists() else {}


def keep(part, seed, values):
    """Add values {name: …} to a part of the file, and bring the rest of it up to date."""
    found = kept()
    parts = found.setdefault(part, {})
    parts[str(seed)] = parts.get(str(seed), {}) | values
    curve = {f"{name} {what} {k}": log[what] for k, logs in sorted(found.get("logs", {}).items())
             for name, log in logs.items() for what in log}
    found |= {"curve": {"step": list(range(1, STEPS + 1))} | curve, "model": "village-3m-sft",
              "command": "python data/runs/11_village.py", "seed": sorted(map(int, found.get("arms", {}))),
              "settings": {"steps": STEPS, "requests a step": PROMPTS, "answers a request": N,
                           "exam": "128 requests, two answers each"}} | stamp()
    found["hardware"] = found["hardware"].replace("1 CPU thread", "1 thread")
    HERE.write_text(json.dumps(found, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    for seed in args.seeds:
        record(seed)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
