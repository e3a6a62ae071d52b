"""Chapter 14: sums with a checker as the reward, and the rewards that should teach nothing, five seeds.

    python data/runs/14_village.py                 # about four minutes of one core for each seed

A seed draws the training sums, the answers and the sums of the exam, which nobody has trained on. All arms have the same
start, steps, rate and number of samples. The numbers go into the .json beside this file; an arm that is there already is
not run again.
"""
import argparse
import json
import random
import time
from pathlib import Path

import torch

from rlhf_minimal import models
from rlhf_minimal.advantages import leave_one_out
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate.exams import sums
from rlhf_minimal.evaluate.passes import passes, ranks
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import answer
from rlhf_minimal.village import checkers

HERE = Path(__file__).with_suffix(".json")
STEPS, PROMPTS, GROUP, RATE, WARM, TOKENS = 40, 8, 8, 1e-4, 10, 48
REWARDS = {"checker": checkers.right, "imitation": checkers.right, "format": checkers.states_a_result, "wrong": checkers.wrong,
           "hole": checkers.no_wrong_step, "closed": checkers.every_step_right, "mixed": checkers.right, "coin": None}
DIGITS = {"mixed": (2, 1)}
ASKED = {"two digits": ((2, 2), 48), "two and one": ((2, 1), 32)}


class Village:
    """Start, exam and training of one seed."""

    def __init__(self, seed):
        self.seed = seed
        self.start, self.tokenizer = models.load("village-3m-sft")

    def fresh(self, name):
        """A generator of its own for one purpose."""
        return torch.Generator().manual_seed(random.Random(f"{self.seed} {name}").getrandbits(40))

    def exam(self, model, n=16):
        """What 48 sums of two digits and 32 of two and one digit say, at temperature 1 and 0."""
        out = {}
        for name, (digits, count) in ASKED.items():
            prompts = sums(count, digits, seed=self.seed)
            found = passes(model, self.tokenizer, prompts, checkers.right, n=n, max_new_tokens=TOKENS, generator=self.fresh("exam"))
            greedy = passes(model, self.tokenizer, prompts, checkers.right, n=1, max_new_tokens=TOKENS, temperature=0)
            some = found.rollout.select(slice(0, None, 4))
            rank, mask = ranks(self.start, some), some.mask.bool()
            out[name] = {f"pass@{k}": found.at(k)[0] for k in (1, 2, 4, 8, 16)} | {
                f"vote {k}": found.vote(k)[0] for k in (4, 16)} | {
                "greedy": greedy.right.mean().item(), "tokens": found.tokens.mean().item(),
                "all 4": found.all_of(4)[0], "top 1": (rank[mask] == 1).double().mean().item(),
                "top 5": (rank[mask] <= 5).double().mean().item(),
                "steps": sum(bool(checkers.equations(t)) for t in found.texts) / len(found.texts),
                "states": sum(checkers.states_a_result("", t) for t in found.texts) / len(found.texts)}
            out[name] = {k: round(v, 4) for k, v in out[name].items()}
            if name == "two digits":
                out["texts"] = [[p, found.texts[n * i]] for i, p in enumerate(prompts[:3])]
        return out

    def train(self, arm):
        """(policy, log): one arm, from a fresh copy of the start."""
        policy, log, check = models.copy_of(self.start), [], REWARDS[arm]
        optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
        drawn, coin = self.fresh("train"), self.fresh("coin")
        asked = sums(STEPS * PROMPTS, DIGITS.get(arm, (2, 2)), split="train", seed=self.seed)
        for step in range(STEPS):
            prompts = asked[step * PROMPTS:(step + 1) * PROMPTS]
            rollout = answer(policy, self.tokenizer, prompts, n=GROUP, max_new_tokens=TOKENS, generator=drawn)
            texts = rollout.texts(self.tokenizer)
            asks = [p for p in prompts for _ in range(GROUP)]
            truth = torch.tensor([checkers.right(p, t) for p, t in zip(asks, texts, strict=True)])
            reward = (torch.rand(len(texts), generator=coin) < 0.5).float() if check is None else torch.tensor(
                [check(p, t) for p, t in zip(asks, texts, strict=True)])
            adv = reward if arm == "imitation" else leave_one_out(reward, GROUP)
            logp = completion_logps(policy, rollout)
            loss = -(adv[:, None] * logp * rollout.mask).sum() / len(texts)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / WARM)
            optimizer.step()
            groups = reward.view(-1, GROUP)
            log.append({"reward": reward.mean().item(), "right": truth.mean().item(),
                        "equal": (groups == groups[:, :1]).all(1).double().mean().item(),
                        "tokens": rollout.mask.sum(1).mean().item(),
                        "steps": sum(bool(checkers.equations(t)) for t in texts) / len(texts)})
        return policy, log


def kept():
    """What the file holds so far."""
    return json.loads(HERE.read_text()) if HERE.exists() else {}


def keep(seed, arm, exam, log):
    """Add one arm of one seed to the file, and bring the rest of it up to date."""
    found = kept()
    texts = exam.pop("texts")
    found.setdefault("arms", {}).setdefault(str(seed), {})[arm] = exam
    found.setdefault("texts", {}).setdefault(str(seed), {})[arm] = texts
    found.setdefault("logs", {}).setdefault(str(seed), {})[arm] = {k: [round(one[k], 4) for one in log] for k in (log or [{}])[0]}
    curve = {f"{arm} {what} {k}": values for k, arms in sorted(found["logs"].items()) for arm, log in arms.items()
             for what, values in log.items()}
    found |= {"curve": {"step": list(range(1, STEPS + 1))} | curve, "command": "python data/runs/14_village.py",
              "model": "village-3m-sft", "seed": sorted(map(int, found["arms"])),
              "settings": {"steps": STEPS, "prompts": PROMPTS, "group": GROUP, "rate": RATE, "warm-up": WARM}, **stamp()}
    HERE.write_text(json.dumps(found, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="*", default=["checker", "coin", "wrong", "format", "hole", "imitation", "mixed"])
    args = parser.parse_args()
    for arm in ["start", *args.arms]:
        for seed in args.seeds:
            if arm in kept().get("arms", {}).get(str(seed), {}):
                continue
            run, began = Village(seed), time.process_time()
            policy, log = (run.start, []) if arm == "start" else run.train(arm)
            exam = run.exam(policy)
            print(seed, arm, exam["two digits"], exam["two and one"], round(time.process_time() - began), "s", flush=True)
            keep(seed, arm, exam, log)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
