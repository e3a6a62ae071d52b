"""Lesson 17 at GPT-2 size: RLOO on SmolLM2-135M with the village adapter, against a proxy learned from honest comparisons.

    python data/runs/17_smollm2.py          # one thread, some eight minutes

The start model answers requests twice each, an honest annotator compares the two answers, and a linear head on the frozen
last states is fitted to the labels: the proxy. Then two runs from the same start, on the same eight requests, with the
same rate, steps and random numbers: one is rewarded by the proxy, the other one (the control) by the true reward. No KL
penalty. The proxy counts standard deviations of its scores within a request; KL is per answer, to the start.
"""
import argparse
import json
import os
import platform
import random
import statistics
import time
from datetime import date
from pathlib import Path

import torch

from rlhf_minimal import models, village
from rlhf_minimal.book.scales import start
from rlhf_minimal.evaluate.exams import exam, requests
from rlhf_minimal.reward_model import fit_head, last_state
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import answer

HERE = Path(__file__).with_suffix(".json")
FAMILIES, LONGEST = ("harmful", "lookalike"), 24


def dice(seed, k):
    """A generator of its own for each part, so that the parts do not depend on each other."""
    return torch.Generator().manual_seed(1000 * seed + k)


def proxy(base, tokenizer, pairs, seed):
    """(weight of the head, in standard deviations within a request; mean score; number of pairs that differed)."""
    rows, states, texts = requests(pairs, FAMILIES, split="train", seed=seed + 50), [], []
    for i in range(0, pairs, 32):
        out = answer(base, tokenizer, [r["prompt"] for r in rows[i:i + 32]], n=2, max_new_tokens=LONGEST, generator=dice(seed, i))
        states.append(last_state(base, out.ids, out.attention))
        texts += out.texts(tokenizer)
    state, person, rng = torch.cat(states), village.Annotator(temperature=1.0), random.Random(seed)
    chosen = []
    for k, row in enumerate(rows):
        a, b = texts[2 * k:2 * k + 2]
        if a != b:
            first = person.compare(row["prompt"], a, b, rng) > 0.5
            chosen.append((2 * k, 2 * k + 1) if first else (2 * k + 1, 2 * k))
    better, worse = torch.tensor(chosen).T
    weight = fit_head(state[better], state[worse], l2=0.03).float()
    score = state @ weight
    unit = ((score[::2] - score[1::2]).square().mean() / 2).sqrt()
    return weight / unit, score.mean() / unit, len(chosen)


def train(policy, base, tokenizer, asked, judge, target, steps, rate, seed, n=4):
    """One run -> a row for each step: mean proxy, true reward, KL to the start and share of refusals of its answers."""
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=rate, weight_decay=0)
    rows, generator = [], dice(seed, 10_000)
    for step in range(steps + 1):  # the last answers are only measured
        out = answer(policy, tokenizer, asked, n=n, max_new_tokens=LONGEST, generator=generator)
        said = out.texts(tokenizer)
        true = torch.tensor([village.gold(asked[i // n], text) for i, text in enumerate(said)]).view(-1, n)
        score = judge(base, out).view(-1, n)
        with torch.no_grad():
            kl = ((out.logp_old - completion_logps(base, out)) * out.mask).sum(1).mean()
        rows.append({"proxy": score.mean().item(), "gold": true.mean().item(), "kl": kl.item(),
                     "refused": statistics.fmean(village.refuses(text) for text in said)})
        print(target, step, {k: round(v, 2) for k, v in rows[-1].items()}, said[step % len(said)][:80], flush=True)
        if step < steps:
            r = score if target == "proxy" else true
            advantage = r - (r.sum(1, keepdim=True) - r) / (n - 1)
            logp = completion_logps(policy, out)
            loss = -(advantage.flatten() * (logp * out.mask).sum(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
    return rows


def held_out(model, tokenizer, n=64):
    """{family: true reward of one answer to each of n requests that nothing was trained on; "texts": six of them}."""
    some = exam(model, tokenizer, requests(n, FAMILIES, seed=1), max_new_tokens=LONGEST, generator=torch.Generator().manual_seed(1))
    found = {}
    for name in ("all", *FAMILIES):
        gold = (some if name == "all" else some.of(name)).gold.tolist()
        found[name] = {"mean": round(statistics.fmean(gold), 4), "n": len(gold),
                       "standard_error": round(statistics.stdev(gold) / len(gold) ** 0.5, 4)}
    texts = [{"prompt": some.rows[i]["prompt"], "completion": some.texts[i], "gold": round(some.gold[i].item(), 3)}
             for i in range(6)]
    return found | {"texts": texts}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=320, help="requests with two answers each (default %(default)s)")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    began = time.time()
    base, tokenizer = start("smollm2")
    base.requires_grad_(False)
    weight, level, labels = proxy(base, tokenizer, args.pairs, args.seed)
    print(f"{labels} labels after {time.time() - began:.0f} s", flush=True)

    def judge(model, out):
        return last_state(model, out.ids, out.attention) @ weight - level

    asked = [r["prompt"] for r in requests(8, FAMILIES, split="train", seed=args.seed + 90)]
    curve, after = {"step": list(range(args.steps + 1))}, {}
    for target in ("proxy", "true reward"):
        torch.manual_seed(args.seed)  # the adapters start at random
        policy = models.lora(models.copy_of(base), r=8)
        rows = train(policy, base, tokenizer, asked, judge, target, args.steps, args.rate, args.seed)
        extra = "" if target == "proxy" else " control"
        curve |= {name + extra: [round(row[name], 4) for row in rows] for name in rows[0]}
        after[target] = held_out(policy, tokenizer)
        print(target, {k: v["mean"] for k, v in after[target].items() if k != "texts"}, f"{time.time() - began:.0f} s", flush=True)
    record = {"command": "python data/runs/17_smollm2.py", "seed": args.seed, "curve": curve, "labels": labels,
              "settings": {"pairs": args.pairs, "steps": args.steps, "lr": args.rate, "lora": 8, "answers": 4,
                           "prompts": len(asked), "max_new_tokens": LONGEST, "beta": 0.0},
              "held_out": {"before": held_out(base, tokenizer), "after": after["proxy"], "control": after["true reward"]},
              "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
              "hardware": f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, {platform.machine()}",
              "date": date.today().isoformat(), "minutes": round((time.time() - began) / 60, 1)}
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
