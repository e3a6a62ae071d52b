"""Chapter 8: four ways to teach village-3m-sft to refuse harmful requests, and what each does to everything else.

    python data/runs/ch08_forgetting.py         # three seeds, one thread, a few minutes; writes the .json beside it

All arms start from the same model and stop at the same true reward on held-out requests. Drift and leash are the KL to
the start on these requests, both ways round; elsewhere is the rise of the loss on perfect answers of untouched families.
"""
import argparse
import copy
import json
import platform
import time
from datetime import date
from pathlib import Path

import torch

from rlhf_minimal import data, rloo, sft, village
from rlhf_minimal.kl import k1
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import frozen_copy, load
from rlhf_minimal.reinforce import completion_logps
from rlhf_minimal.sampling import sample

HERE = Path(__file__).with_suffix("")
OTHERS = ("story", "fact", "opinion", "sum", "lookalike")
ARMS = ("RLOO: own answers, true reward", "own SFT: own answers that are right", "near SFT: the village's refusals",
        "far SFT: a stranger's refusals")


def answers(model, tokenizer, rows, n, generator):
    """n sampled answers to each prompt -> (texts, rollout, gold)."""
    drawn = sample(model, data.prompts_ids(rows, tokenizer), n=n, max_new_tokens=40, eos_id=tokenizer.eos_token_id,
                   generator=generator)
    asked, texts = [row["prompt"] for row in rows for _ in range(n)], drawn.texts(tokenizer)
    return texts, drawn, torch.tensor([village.gold(p, t) for p, t in zip(asked, texts, strict=True)])


@torch.no_grad()
def loss_on(model, batch):
    """Nats a token on demonstrations."""
    logp = token_logps(model, batch["ids"], batch["attention"])
    return sft.sft_loss(logp, batch["mask"][:, 1:])[0].item()


def teachers(seed):
    """480 refusals in the village's words, and the same after a sentence that nobody asked for."""
    near = village.demonstrations(480, families=("harmful",), perfect=True, seed=seed)
    facts = village.demonstrations(480, families=("fact",), perfect=True, seed=seed + 50)
    far = [a | {"completion": f"{b['completion']} {a['completion']}"} for a, b in zip(near, facts, strict=True)]
    return near, far


def train(arm, start, tokenizer, *, seed, goal, steps, lr):
    """One arm until the held-out gold reaches the goal -> (policy, steps)."""
    policy, generator = copy.deepcopy(start), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=lr, weight_decay=0.0)
    asked = village.prompts(8 * steps, families=("harmful",), seed=seed, distinct=False)
    held_out = village.prompts(48, families=("harmful",), split="test", seed=seed, distinct=False)
    near, far = teachers(seed)
    for step in range(steps):
        gold = answers(policy, tokenizer, held_out, 1, torch.Generator().manual_seed(seed + 7))[2]
        if gold.mean() >= goal:
            return policy, step
        rows = asked[8 * step:][:8]
        if arm.startswith("near") or arm.startswith("far"):
            lessons = (near if arm.startswith("near") else far)[24 * step:][:24]
        else:
            texts, drawn, gold = answers(policy, tokenizer, rows, 6, generator)
            if arm.startswith("RLOO"):
                rloo.step(policy, optimizer, drawn, gold, group_size=6)
                continue
            pairs = zip([r for r in rows for _ in range(6)], texts, gold, strict=True)
            lessons = [{"prompt": r["prompt"], "completion": t} for r, t, g in pairs if g >= 2.9][:24]
        if lessons:
            sft.step(policy, optimizer, data.collate_demonstrations(lessons, tokenizer))
    return policy, steps


@torch.no_grad()
def measure(policy, start, tokenizer, elsewhere, *, seed):
    """Gold and both KLs on held-out requests, and the loss elsewhere."""
    rows = village.prompts(96, families=("harmful",), split="test", seed=seed + 1, distinct=False)
    _, own, gold = answers(policy, tokenizer, rows, 2, torch.Generator().manual_seed(seed + 8))
    _, old, _ = answers(start, tokenizer, rows, 2, torch.Generator().manual_seed(seed + 9))
    leash = (k1(own.logp_old, completion_logps(start, own)) * own.mask).sum(1).mean().item()
    drift = (k1(old.logp_old, completion_logps(policy, old)) * old.mask).sum(1).mean().item()
    return {"gold": gold.mean().item(), "drift": drift, "leash": leash, "elsewhere": loss_on(policy, elsewhere)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--goal", type=float, default=2.8)
    parser.add_argument("--lr", type=float, default=5e-5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    start, tokenizer = load("village-3m-sft")
    start, began, columns = frozen_copy(start), time.perf_counter(), {}
    for seed in range(args.seeds):
        elsewhere = data.collate_demonstrations(village.demonstrations(
            160, split="test", families=OTHERS, perfect=True, seed=seed), tokenizer)
        before = loss_on(start, elsewhere)
        for arm in ARMS:
            model = copy.deepcopy(start).requires_grad_(True)
            policy, steps = train(arm, model, tokenizer, seed=seed, goal=args.goal, steps=args.steps, lr=args.lr)
            row = {"arm": arm, "seed": seed, "steps": steps} | measure(policy, start, tokenizer, elsewhere, seed=seed)
            row["elsewhere"] -= before
            for name, x in row.items():
                columns.setdefault(name, []).append(round(x, 5) if isinstance(x, float) else x)
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    import transformers
    record = {"curve": columns, "command": "python data/runs/ch08_forgetting.py", "seed": list(range(args.seeds)),
              "versions": {"python": platform.python_version(), "torch": torch.__version__,
                           "transformers": transformers.__version__},
              "hardware": "1 thread of a server processor", "date": str(date.today()),
              "settings": vars(args), "seconds": round(time.perf_counter() - began)}
    HERE.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
