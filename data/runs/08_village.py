"""Lesson 8: one loop, one beta, four ways to charge for the KL from the start, and no penalty; five seeds.

    python data/runs/08_village.py --seeds 0 1 2 3 4     # about two minutes of one core for each seed

RLOO climbs the score of a judge: a linear head on the start model's frozen last states, fitted to 1,600 comparisons of stored
answers by an honest person. A seed draws these labels, the requests, all sampled answers and the exam; the start model is the
same. The arms differ in the penalty alone; nothing was tuned for one of them. The curves are means over the 24 answers of each
training step; at the end the policy answers 64 requests of the
test split, and 48 facts and sums, which it was not trained on. Scores count standard deviations of the judge's scores within a
prompt, from the start's mean. The numbers go into the .json beside this file; an arm that is there already is not run again.
"""
import argparse
import json
import random
import time
from pathlib import Path

import torch

import rlhf_minimal as rlhf
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate import exams, proxies
from rlhf_minimal.kl import k1, k2, k3

HERE = Path(__file__).with_suffix(".json")
STEPS, PROMPTS, N, TOKENS, RATE, BETA = 20, 6, 4, 36, 4e-4, 0.2
KINDS, OTHERS = ("harmful", "lookalike"), ("fact", "sum")
logps = rlhf.rollout.completion_logps


IN_LOSS = {"k1": k1, "k2": k2, "k3": k3}
ARMS = {  # name: where the penalty stands, or its term in the loss
    "none": "none", "k1 in the reward": "reward", **{f"{name} in the loss": name for name in ("k1", "k2", "k3")}}


class Village:
    """The judge, the requests and the exams of one seed."""

    def __init__(self, seed):
        self.seed = seed
        self.start, self.tokenizer = rlhf.models.load("village-3m-sft")
        self.start.requires_grad_(False)
        bench, person = proxies.bench(), rlhf.village.Annotator(name="honest", temperature=1.0)
        labels = bench.labels(person, 1600, self.fresh("labels"))
        weight = rlhf.reward_model.fit_head(*bench.states(labels), l2=0.03).float()
        self.weight = weight / (bench.state.float() @ weight).std(1).mean()
        self.asked = [r["prompt"] for r in exams.requests(PROMPTS * STEPS, KINDS, split="train", seed=seed + 70)]
        self.test = exams.requests(64, KINDS, seed=seed)
        self.other = exams.requests(48, OTHERS, seed=seed)
        self.level = 0.0
        self.level = self.exam(self.start).mean("score")

    def fresh(self, name):
        """A generator of its own for one purpose."""
        return torch.Generator().manual_seed(random.Random(f"{self.seed} {name}").getrandbits(40))

    def judge(self, rollout):
        """Scores of sampled answers, in standard deviations, from the start's mean."""
        return rlhf.reward_model.last_state(self.start, rollout.ids, rollout.attention) @ self.weight - self.level

    def exam(self, model, rows=None):
        return exams.exam(model, self.tokenizer, rows or self.test, judge=self.judge, max_new_tokens=TOKENS,
                          reference=self.start, generator=self.fresh("exam"))

    def train(self, arm):
        """-> (policy, {column: one value for each step}): means over its answers, before the update."""
        place = ARMS[arm]
        policy, luck = rlhf.models.copy_of(self.start).requires_grad_(True), self.fresh("answers")
        optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.0)
        log = {"kl": [], "score": []}
        for step in range(STEPS):
            drawn = rlhf.sampling.answer(policy, self.tokenizer, self.asked[PROMPTS * step:PROMPTS * (step + 1)], n=N,
                                         max_new_tokens=TOKENS, generator=luck)
            with torch.no_grad():
                ref = logps(self.start, drawn)
            kl = ((drawn.logp_old - ref) * drawn.mask).sum(1)
            score = self.judge(drawn)
            reward = score - BETA * kl if place == "reward" else score
            logp, weight = logps(policy, drawn), rlhf.advantages.leave_one_out(reward, N)
            loss = -(weight * (logp * drawn.mask).sum(1)).mean()
            if place in IN_LOSS:
                loss = loss + BETA * (IN_LOSS[place](logp, ref) * drawn.mask).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            log["kl"].append(round(kl.mean().item(), 5))
            log["score"].append(round(score.mean().item(), 5))
        return policy, log


def row(exam):
    """Means by kind of request."""
    return {kind: {what: round(exam.of(kind).mean(what), 4) for what in ("gold", "refuses", "kl", "score", "length")}
            for kind in sorted({r["family"] for r in exam.rows})}


def record(seed, names):
    """Every arm of one seed that is not there yet."""
    began, run = time.process_time(), Village(seed)
    for arm in ("start", *names):
        if arm in kept().get("arms", {}).get(str(seed), {}):
            continue
        policy = run.start
        if arm != "start":
            policy, log = run.train(arm)
            keep("logs", seed, {arm: log})
        found = run.exam(policy)
        texts = [{"prompt": r["prompt"], "completion": t, "gold": round(g, 2)}
                 for r, t, g in list(zip(found.rows, found.texts, found.gold.tolist(), strict=True))[:6]]
        keep("texts", seed, {arm: texts})
        keep("arms", seed, {arm: row(found) | row(run.exam(policy, run.other))})
        print(seed, arm, {k: (round(found.mean(k), 2)) for k in ("kl", "score", "gold")}, texts[0]["completion"][:70], "|",
              texts[1]["completion"][:60], round(time.process_time() - began), "s", flush=True)


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
              "command": "python data/runs/08_village.py", "seed": sorted(map(int, found.get("arms", {}))),
              "settings": {"steps": STEPS, "requests a step": PROMPTS, "answers a request": N, "beta": BETA, "rate": RATE,
                           "exam": "64 requests, one answer each; 48 facts and sums"}} | stamp()
    found["hardware"] = found["hardware"].replace("1 CPU thread", "1 thread")
    HERE.write_text(json.dumps(found, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    args = parser.parse_args()
    for seed in args.seeds:
        record(seed, args.arms)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
