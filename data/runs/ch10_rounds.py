"""Chapter 10: expert iteration. Sample, keep one answer a prompt, fine-tune on it, and again, from the model just made.

    python data/runs/ch10_rounds.py         # two seeds, one thread, a few minutes; writes the .json beside it

Two arms that differ in one line: the kept answer is the best of 8 by the true reward, or a random one of the 8. Each
round's samples of 40 unseen prompts are measured before its training: round 0 is the model we start from.
"""
import argparse
import copy
import json
import platform
import time
from datetime import date
from pathlib import Path

import torch

from rlhf_minimal import best_of_n, data, sft, village
from rlhf_minimal.filtering import random_per_prompt
from rlhf_minimal.models import load
from rlhf_minimal.sampling import sample

HERE = Path(__file__).with_suffix("")
FAMILIES = ("story", "opinion", "harmful", "sum")


def questions(n, split, seed):
    """n prompts, a quarter of each family."""
    return [row for f in FAMILIES for row in village.prompts(n // 4, split=split, families=(f,), seed=seed, distinct=False)]


def grow(policy, tokenizer, rows, n, generator):
    """n samples a prompt -> (texts, rollout, gold), prompt-major."""
    drawn = sample(policy, data.prompts_ids(rows, tokenizer), n=n, max_new_tokens=56, eos_id=tokenizer.eos_token_id,
                   generator=generator)
    asked, texts = [row["prompt"] for row in rows for _ in range(n)], drawn.texts(tokenizer)
    return texts, drawn, torch.tensor([village.gold(p, t) for p, t in zip(asked, texts, strict=True)])


def improve(policy, tokenizer, lessons, generator, *, lr, epochs, batch):
    """SFT on the kept answers, the learning rate falling to 0."""
    optimizer, step = torch.optim.AdamW(policy.parameters(), lr=lr, weight_decay=0.0), 0
    steps = epochs * -(-len(lessons) // batch)
    for _ in range(epochs):
        for some in data.batches(lessons, batch, generator=generator):
            optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
            sft.step(policy, optimizer, data.collate_demonstrations(some, tokenizer))
            step += 1


def measure(texts, drawn, gold, n):
    """Gold of an answer and of the best of n; entropy in nats an answer; how many of n answers are different."""
    groups = [texts[i:i + n] for i in range(0, len(texts), n)]
    different = sum(len(set(group)) for group in groups) / len(groups)
    return {"gold": gold.mean().item(), "best": gold.view(-1, n).amax(1).mean().item(), "different": different,
            "entropy": -(drawn.logp_old * drawn.mask).sum(1).mean().item()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("seeds", 2), ("rounds", 4), ("prompts", 48), ("n", 8), ("epochs", 3), ("batch", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lr", type=float, default=2e-4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    start, tokenizer = load("village-3m-sft")
    began, columns = time.perf_counter(), {}
    for seed in range(args.seeds):
        held_out = questions(40, "test", seed)
        for arm in ("best", "random"):
            policy, generator = copy.deepcopy(start), torch.Generator().manual_seed(seed)
            for turn in range(args.rounds + 1):
                row = {"arm": arm, "seed": seed, "round": turn}
                row |= measure(*grow(policy, tokenizer, held_out, args.n, generator), args.n)
                for name, x in row.items():
                    columns.setdefault(name if name != "best" else "best of n", []).append(
                        round(x, 5) if isinstance(x, float) else x)
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
                if turn == args.rounds:
                    break
                asked = questions(args.prompts, "train", 100 * seed + turn + 1)
                texts, _, gold = grow(policy, tokenizer, asked, args.n, generator)
                kept = (best_of_n.select(gold, args.n) if arm == "best"
                        else random_per_prompt(len(gold), args.n, generator=generator)).tolist()
                lessons = [{"prompt": asked[i // args.n]["prompt"], "completion": texts[i]} for i in kept]
                improve(policy, tokenizer, lessons, generator, lr=args.lr, epochs=args.epochs, batch=args.batch)
        write(columns, args, seed, time.perf_counter() - began)


def write(columns, args, last_seed, seconds):
    """The record so far: after every seed, so that an interrupted run leaves whole seeds."""
    import transformers
    record = {"curve": columns, "command": "python data/runs/ch10_rounds.py", "seed": list(range(last_seed + 1)),
              "versions": {"python": platform.python_version(), "torch": torch.__version__,
                           "transformers": transformers.__version__},
              "hardware": "1 thread of a server processor", "date": str(date.today()), "model": "village-3m-sft",
              "settings": vars(args), "seconds": round(seconds)}
    HERE.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
