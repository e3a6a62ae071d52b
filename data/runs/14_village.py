"""Chapter 14: a model that was taught to answer briefly, and what five rewards make of it. Five seeds.

    python data/runs/14_village.py                 # about three minutes of one core for each seed

A seed draws the brief demonstrations, the training sums, the answers and the sums of the exam, which nobody has trained on.
All arms have the same start, steps, rate and number of samples; "hole" alone starts from `village-3m-sft`, before the brief
demonstrations, and "silent" after 24 steps of them instead of 10. "not The" and "digit" are the start itself, without any
training: the first token of its answers is drawn from all tokens but "The", or from the ten digits. An arm that is in the
.json already is not run again.
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
from rlhf_minimal.data import collate_demonstrations
from rlhf_minimal.evaluate.exams import sums
from rlhf_minimal.evaluate.passes import Passes, by_chance, passes, ranks
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import answer
from rlhf_minimal.village import checkers

HERE = Path(__file__).with_suffix(".json")
STEPS, PROMPTS, GROUP, RATE, WARM, TOKENS, BRIEF, SILENT = 25, 8, 8, 1e-4, 10, 48, 10, 24
KS = (1, 2, 4, 8, 16, 32, 64, 128)
REWARDS = {"checker": checkers.right, "imitation": checkers.right, "format": checkers.states_a_result, "wrong": checkers.wrong,
           "coin": None, "silent": checkers.right, "hole": checkers.no_wrong_step}


def share(values):
    """Mean of some 0s and 1s, or None where there are none."""
    values = list(values)
    return round(sum(values) / len(values), 4) if values else None


class Village:
    """Start, exam and training of one seed."""

    def __init__(self, seed):
        self.seed = seed
        self.taught, self.tokenizer = models.load("village-3m-sft")
        self.start = self.brief(BRIEF)

    def fresh(self, name):
        """A generator of its own for one purpose."""
        return torch.Generator().manual_seed(random.Random(f"{self.seed} {name}").getrandbits(40))

    def brief(self, steps):
        """`village-3m-sft` after so many steps on eight right answers each that state the result and nothing else."""
        model, asked = models.copy_of(self.taught), sums(8 * steps, split="train", seed=1000 + self.seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
        for i in range(0, 8 * steps, 8):
            rows = [{"prompt": p, "completion": f"The result is {checkers.asked(p)}."} for p in asked[i:i + 8]]
            batch = collate_demonstrations(rows, self.tokenizer)
            mask = batch["mask"][:, 1:]
            loss = -(token_logps(model, batch["ids"], batch["attention"]) * mask).sum() / mask.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return model

    def first(self, arm):
        """The ids that the first token of an answer may have, or None where all of them may."""
        the, = self.tokenizer.encode("The")
        digits = [i for digit in "0123456789" for i in self.tokenizer.encode(digit)]
        return {"not The": [i for i in range(len(self.tokenizer)) if i != the], "digit": digits}.get(arm)

    def exam(self, model, n=16, reference=None, first=None):
        """What 48 new sums say: n answers at temperature 1, one at temperature 0."""
        prompts = sums(48, seed=self.seed)
        found = passes(model, self.tokenizer, prompts, checkers.right, n=n, max_new_tokens=TOKENS, first=first,
                       generator=self.fresh("exam"))
        greedy = passes(model, self.tokenizer, prompts, checkers.right, n=1, max_new_tokens=TOKENS, temperature=0,
                        first=first)
        right = found.right.flatten().tolist()
        works = [bool(checkers.equations(text)) for text in found.texts]
        out = {f"pass@{k}": round(found.at(k)[0], 4) for k in KS if k <= n} | {
            "vote 16": round(found.vote(16)[0], 4), "greedy": round(greedy.right.mean().item(), 4),
            "greedy works": share(bool(checkers.equations(t)) for t in greedy.texts), "works": share(works),
            "right with": share(r for r, w in zip(right, works, strict=True) if w),
            "right without": share(r for r, w in zip(right, works, strict=True) if not w),
            "tokens": round(found.tokens.double().mean().item(), 2),
            "states": share(checkers.states_a_result("", t) for t in found.texts)}
        if n > 16:  # of the right answers those with working; and what the results would score on each other's sums
            worked = Passes(prompts, found.texts, found.right * torch.tensor(works, dtype=torch.float32).view(-1, n), found.tokens)
            out |= {f"worked pass@{k}": round(worked.at(k)[0], 4) for k in KS} | {
                f"chance pass@{k}": round(by_chance(found, k), 4) for k in KS}
        if reference is not None:
            some = found.rollout.select(slice(0, None, 4))
            rank = ranks(reference, some)[some.mask.bool()]
            out |= {"top 1": round((rank == 1).double().mean().item(), 4), "top 5": round((rank <= 5).double().mean().item(), 4)}
        return out, [[p, found.texts[n * i], greedy.texts[i]] for i, p in enumerate(prompts[:4])]

    def train(self, arm):
        """(policy, log): one arm."""
        start = {"hole": self.taught}.get(arm, self.start) if arm != "silent" else self.brief(SILENT)
        policy, log, check = models.copy_of(start), [], REWARDS[arm]
        optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARM, total_iters=WARM - 1)
        drawn, coin = self.fresh("train"), self.fresh("coin")
        steps = STEPS + 10 * (arm == "hole")
        asked = sums(steps * PROMPTS, split="train", seed=self.seed)
        for step in range(steps):
            prompts = asked[step * PROMPTS:(step + 1) * PROMPTS]
            rollout = answer(policy, self.tokenizer, prompts, n=GROUP, max_new_tokens=TOKENS, generator=drawn)
            texts = rollout.texts(self.tokenizer)
            asks = [p for p in prompts for _ in range(GROUP)]
            truth = [checkers.right(p, t) for p, t in zip(asks, texts, strict=True)]
            reward = (torch.rand(len(texts), generator=coin) < 0.5).float() if check is None else torch.tensor(
                [check(p, t) for p, t in zip(asks, texts, strict=True)])
            adv = reward if arm == "imitation" else leave_one_out(reward, GROUP)
            loss = -(adv * completion_logps(policy, rollout).sum(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            warm.step()
            groups = reward.view(-1, GROUP)
            log.append({"reward": share(reward.tolist()), "right": share(truth),
                        "equal": share((groups == groups[:, :1]).all(1).tolist()),
                        "works": share(bool(checkers.equations(t)) for t in texts),
                        "tokens": round(rollout.mask.sum(1).mean().item(), 2)})
        return policy, log


def kept(path):
    """What the file holds so far."""
    return json.loads(path.read_text()) if path.exists() else {}


def keep(path, seed, arm, exam, texts, log):
    """Add one arm of one seed to the file, and bring the rest of it up to date."""
    found = kept(path)
    found.setdefault("arms", {}).setdefault(str(seed), {})[arm] = exam
    found.setdefault("texts", {}).setdefault(str(seed), {})[arm] = texts
    if log:
        found.setdefault("logs", {}).setdefault(str(seed), {})[arm] = {what: [one[what] for one in log] for what in log[0]}
    curve = {f"{arm} {what} {k}": values for k, arms in sorted(found.get("logs", {}).items()) for arm, log in arms.items()
             for what, values in log.items()}
    found |= {"curve": {"step": list(range(1, STEPS + 1))} | curve, "command": "python data/runs/14_village.py",
              "model": "village-3m-sft", "seed": sorted(map(int, found["arms"])),
              "settings": {"steps": STEPS, "prompts": PROMPTS, "group": GROUP, "rate": RATE, "warm-up": WARM, "brief": BRIEF,
                           "silent": SILENT}, **stamp()}
    path.write_text(json.dumps(found, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="*", default=["taught", "start", "not The", "digit", *REWARDS])
    parser.add_argument("--into", type=Path, default=HERE, help="the file that the numbers go to")
    args = parser.parse_args()
    for arm in args.arms:
        for seed in args.seeds:
            if arm in kept(args.into).get("arms", {}).get(str(seed), {}):
                continue
            run, began = Village(seed), time.process_time()
            model = {"taught": run.taught, "start": run.start, "not The": run.start, "digit": run.start}.get(arm)
            policy, log = run.train(arm) if model is None else (model, [])
            exam, texts = run.exam(policy, 128 if arm == "start" else 16, None if log == [] and arm != "start" else run.start,
                                   run.first(arm))
            print(seed, arm, exam, round(time.process_time() - began), "s", flush=True)
            keep(args.into, seed, arm, exam, texts, log)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
