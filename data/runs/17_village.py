"""Lesson 17: reinforcement learning against the judge of the lesson, and against the true reward, five seeds.

    python data/runs/17_village.py --seeds 0 1 2 3 4     # two to three minutes of one core for each seed and reward

A seed draws the labels (two sets of 1,600, of different pairs), the requests and all answers. The judge is the lesson's:
a linear head on the frozen last states of the start model, fitted to an honest annotator's comparisons of stored answers.
RLOO without a KL penalty climbs it; the control climbs the true reward, with the same start, requests, rate and steps.
Every fourth step each policy answers the same 96 test requests: the curves are means over these. The judges count standard
deviations of their scores within a prompt, from the start's mean. The settings are those of an earlier loop on stored
prompts; none was chosen by these curves. A seed that is there already is not run again.
"""
import argparse
import json
import random
import time
from pathlib import Path

import torch

import rlhf_minimal as rlhf
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate import proxies
from rlhf_minimal.evaluate.exams import exam, requests

HERE = Path(__file__).with_suffix(".json")
FAMILIES, LONGEST = ("fact", "sum", "rule", "opinion", "harmful", "lookalike"), 40
STEPS, EVERY, PROMPTS, EACH, RATE, LABELS, TEST = 40, 4, 18, 4, 3e-4, 1600, 96


def fresh(seed, name):
    """A generator of its own for one purpose."""
    return torch.Generator().manual_seed(random.Random(f"{seed} {name}").getrandbits(40))


class Judges:
    """The judge, and a second one with labels of other pairs: scores of sampled answers, in standard deviations."""

    def __init__(self, start, tokenizer, seed, test):
        bench, person = proxies.bench(), rlhf.village.Annotator(name="honest", temperature=1.0)
        first = bench.labels(person, LABELS, fresh(seed, "labels"))
        second = bench.labels(person, LABELS, fresh(seed, "second labels"), without=first)
        self.start = start
        heads = [rlhf.reward_model.fit_head(*bench.states(x), l2=0.03).float() for x in (first, second)]
        self.heads = torch.stack([w / (bench.state.float() @ w).std(1).mean() for w in heads], 1)  # (H, 2)
        self.level = 0.0
        self.level = self(exam(start, tokenizer, test, max_new_tokens=LONGEST, generator=fresh(seed, "level")).rollout).mean(0)

    def __call__(self, rollout):
        """A rollout -> (answers, 2)."""
        return rlhf.reward_model.last_state(self.start, rollout.ids, rollout.attention) @ self.heads - self.level


def measure(policy, start, tokenizer, test, judges, seed):
    """One answer to each test request -> means, true reward of each, texts."""
    found = exam(policy, tokenizer, test, max_new_tokens=LONGEST, reference=start, generator=fresh(seed, "exam"))
    out, score = found.rollout, judges(found.rollout)
    with torch.no_grad():
        usual = (rlhf.rollout.completion_logps(start, out) * out.mask).sum(1) / out.mask.sum(1)
    means = {"proxy": score[:, 0], "second": score[:, 1], "usual": usual, "gold": found.gold, "kl": found.kl,
             "tokens": found.length}
    return {name: round(x.double().mean().item(), 4) for name, x in means.items()}, found


def train(target, seed, start, tokenizer, test, judges):
    """One run -> {column: values}, true rewards of the test answers before and after, some texts of the end."""
    policy, dice = rlhf.models.copy_of(start).requires_grad_(True), fresh(seed, "answers")
    asked = [r["prompt"] for r in requests(PROMPTS * STEPS, FAMILIES, split="train", seed=seed + 70)]
    optimizer, rows, each = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0), [], []
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            row, found = measure(policy, start, tokenizer, test, judges, seed)
            rows.append(row)
            each.append([round(x, 3) for x in found.gold.tolist()])
            print(seed, target, step, row, "|", found.texts[step % len(FAMILIES)][:80], flush=True)
        if step == STEPS:
            break
        some = asked[PROMPTS * step:PROMPTS * (step + 1)]
        out = rlhf.sampling.answer(policy, tokenizer, some, n=EACH, max_new_tokens=LONGEST, generator=dice)
        if target == "proxy":
            r = judges(out)[:, 0]
        else:
            r = torch.tensor([rlhf.village.gold(some[i // EACH], x) for i, x in enumerate(out.texts(tokenizer))])
        r = r.view(-1, EACH)
        advantage = r - (r.sum(1, keepdim=True) - r) / (EACH - 1)
        logp = rlhf.rollout.completion_logps(policy, out)
        loss = -(advantage.flatten() * (logp * out.mask).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    texts = [{"prompt": r["prompt"], "completion": x, "gold": round(g, 3)}
             for r, x, g in list(zip(test, found.texts, found.gold.tolist(), strict=True))[:2 * len(FAMILIES)]]
    return {name: [row[name] for row in rows] for name in rows[0]}, each, texts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--targets", nargs="*", default=["proxy", "control"])
    parser.add_argument("--parts", type=Path, default=HERE.parents[2] / "build/17_village", help="one file a run")
    args = parser.parse_args()
    args.parts.mkdir(parents=True, exist_ok=True)
    start, tokenizer = rlhf.models.load("village-3m-sft")
    start.requires_grad_(False)
    for seed in args.seeds:
        test = requests(TEST, FAMILIES, seed=seed)
        judges = Judges(start, tokenizer, seed, test)
        for target in args.targets:
            part, began = args.parts / f"{target}{seed}.json", time.time()
            if not part.exists():
                curve, each, texts = train(target, seed, start, tokenizer, test, judges)
                part.write_text(json.dumps({"curve": curve, "each": each, "texts": texts,
                                            "minutes": round((time.time() - began) / 60, 1)}))
    parts = {p.stem: json.loads(p.read_text()) for p in sorted(args.parts.glob("*.json"))}
    seeds = [s for s in range(5) if {f"proxy{s}", f"control{s}"} <= parts.keys()]
    if seeds:
        curve = {"step": list(range(0, STEPS + 1, EVERY))}
        for s in seeds:
            curve |= {f"{name} {s}": y for name, y in parts[f"proxy{s}"]["curve"].items()}
            curve |= {f"control {name} {s}": y for name, y in parts[f"control{s}"]["curve"].items()}
        each = {str(s): {"start": parts[f"proxy{s}"]["each"][0], "proxy": parts[f"proxy{s}"]["each"][-1],
                         "control": parts[f"control{s}"]["each"][-1]} for s in seeds}
        record = {"command": "python data/runs/17_village.py --seeds 0 1 2 3 4", "seed": seeds, "curve": curve,
                  "settings": {"steps": STEPS, "lr": RATE, "prompts": PROMPTS, "answers": EACH, "labels": LABELS,
                               "test requests": TEST, "max_new_tokens": LONGEST, "beta": 0.0},
                  "each": each, "texts": {t: {str(s): parts[f"{t}{s}"]["texts"] for s in seeds} for t in ("proxy", "control")},
                  "minutes": round(sum(parts[f"{t}{s}"]["minutes"] for t in ("proxy", "control") for s in seeds), 1)} | stamp()
        HERE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
