"""The picture on the front page: RLOO against a reward model that was fitted on noisy comparisons
of two answers to each of 1,024 requests (equal answers dropped).

    python data/runs/overoptimization_village.py              # 4 to 7 minutes on one core; writes the .json and .png beside it
    python data/runs/overoptimization_village.py --seed 1     # another seed: a .json in build/overoptimization/
    python data/runs/overoptimization_village.py --gather     # all seeds that lie there -> overoptimization_seeds.json
"""
import argparse
import json
import os
import platform
import random
import sys
import time
from datetime import date
from pathlib import Path

import torch

from rlhf_minimal import reward_model, rloo, village
from rlhf_minimal.book import plots
from rlhf_minimal.chat import encode_pair, encode_prompt
from rlhf_minimal.models import frozen_copy, load
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import sample
from rlhf_minimal.tensors import pad_right
from rlhf_minimal.village.crowd import Annotator

HERE = Path(__file__).with_suffix("")


def pairs(model, tokenizer, n, annotator, families, generator, rng):
    """n labelled pairs of fresh samples: [(prompt, chosen, rejected)]."""
    prompts = [r["prompt"] for r in village.prompts(n, seed=77, families=families, distinct=False)]
    texts = []
    for start in range(0, n, 128):
        ids = [encode_prompt(tokenizer, p) for p in prompts[start:start + 128]]
        texts += sample(model, ids, n=2, max_new_tokens=64, eos_id=tokenizer.eos_token_id, generator=generator).texts(tokenizer)
    rows = []
    for p, a, b in zip(prompts, texts[::2], texts[1::2], strict=True):
        if a != b:
            rows.append((p, a, b) if annotator.compare(p, a, b, rng) > 0.5 else (p, b, a))
    return rows


def fit_reward(policy, tokenizer, rows, generator, *, lr=1e-3, batch=12):
    """A full reward model after one epoch, and its accuracy on its last batches (seen once, before the update)."""
    model = reward_model.RewardModel(policy)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    order, accuracy = torch.randperm(len(rows), generator=generator).tolist(), []
    for start in range(0, len(order), batch):
        optimizer.param_groups[0]["lr"] = lr * min(1, (start / batch + 1) / 5) * (1 - start / len(order))
        some = [rows[i] for i in order[start:start + batch]]
        ids, attention = pad_right([encode_pair(tokenizer, p, c)[0] for p, c, _ in some] +
                                   [encode_pair(tokenizer, p, r)[0] for p, _, r in some])
        stats = reward_model.step(model, optimizer, {"ids": ids, "attention": attention})
        accuracy.append(stats["accuracy"].item())
    return model, sum(accuracy[-8:]) / len(accuracy[-8:])


def run(*, seed, steps, families, n_pairs, lr, beta, noise):
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    policy, tokenizer = load("village-3m-sft")
    reference, eos = frozen_copy(policy), tokenizer.eos_token_id
    labelled = pairs(policy, tokenizer, n_pairs, Annotator(temperature=noise), families, generator, rng)
    judge, accuracy = fit_reward(policy, tokenizer, labelled, generator)
    print(f"reward model: {len(labelled)} pairs, accuracy {accuracy:.2f} on labels it had not seen")
    prompts = [r["prompt"] for r in village.prompts(8 * steps, seed=seed + 1, families=families, distinct=False)]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=lr, weight_decay=0.0)
    curve = {k: [] for k in ("step", "proxy", "gold", "kl", "words", "repetition")}
    last = []
    for step in range(steps):
        some = prompts[8 * step:8 * step + 8]
        roll = sample(policy, [encode_prompt(tokenizer, p) for p in some], n=8, max_new_tokens=64, eos_id=eos, generator=generator)
        with torch.no_grad():
            score, logp_ref = judge(roll.ids, roll.attention), completion_logps(reference, roll)
        texts, asked = roll.texts(tokenizer), [some[g] for g in roll.group.tolist()]
        feats = [village.features(p, x) for p, x in zip(asked, texts, strict=True)]
        true = [village.gold(p, x) for p, x in zip(asked, texts, strict=True)]
        stats = rloo.step(policy, optimizer, roll, score, group_size=8, logp_ref=logp_ref, beta=beta)
        for name, x in (("step", step), ("proxy", score.mean().item()), ("gold", sum(true) / 64), ("kl", stats["kl"].item()),
                        ("words", sum(f["words"] for f in feats) / 64), ("repetition", sum(f["repetition"] for f in feats) / 64)):
            curve[name].append(round(x, 4))
        if step % 5 == 0 or step == steps - 1:
            print(" ".join(f"{k} {v[-1]:.2f}" for k, v in curve.items()), "|", texts[0][:90], flush=True)
        last = list(zip(asked, texts, strict=True))
    return curve, last, accuracy, len(labelled)


def smooth(y, width=5):
    return [sum(y[max(0, i - width):i + width + 1]) / len(y[max(0, i - width):i + width + 1]) for i in range(len(y))]


def draw(record, path):
    curve = record["curve"]
    fig = plots.line_plot({"proxy": (curve["step"], smooth(curve["proxy"])), "gold": (curve["step"], smooth(curve["gold"]))},
                          title="The learned reward climbs; the true reward rises, then falls",
                          x_label="RLOO step (64 samples each)",
                          y_label="mean reward", note=f"village-3m-sft, seed {record['seed']}, mean over 11 steps")
    fig.savefig(path, metadata={"Software": None})


def gather(folder, first):
    """The curves of all seeds in one record: "gold 1", "proxy 1", ..., and how many pairs each reward model read."""
    records = [json.loads(path.read_text()) for path in [first, *sorted(folder.glob("seed*.json"))]]
    columns = {"step": records[0]["curve"]["step"]}
    columns |= {f"{name} {r['seed']}": r["curve"][name] for r in records for name in ("proxy", "gold", "kl")}
    kept = {k: records[-1][k] for k in ("versions", "hardware", "date")}
    out = {"curve": columns, "command": "python data/runs/overoptimization_village.py --gather",
           "seed": [r["seed"] for r in records], "pairs": {r["seed"]: r["pairs"] for r in records if "pairs" in r}} | kept
    HERE.with_name("overoptimization_seeds.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=90)
    parser.add_argument("--pairs", type=int, default=1024)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--noise", type=float, default=0.5, help="temperature of the annotator")
    parser.add_argument("--families", nargs="*", default=["harmful", "lookalike"])
    parser.add_argument("--out", type=Path, help="the record's name without ending (default: here; another seed: in build/)")
    parser.add_argument("--gather", action="store_true", help="only put the records of all seeds into one")
    args = parser.parse_args()
    elsewhere = HERE.parents[2] / "build/overoptimization"
    if args.gather:
        gather(elsewhere, HERE.with_suffix(".json"))
        sys.exit()
    args.out = args.out or (elsewhere / f"seed{args.seed}" if args.seed else HERE)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    begin = time.time()
    curve, last, accuracy, n = run(seed=args.seed, steps=args.steps, families=tuple(args.families), n_pairs=args.pairs,
                                lr=args.lr, beta=args.beta, noise=args.noise)
    command = " ".join(["python data/runs/overoptimization_village.py", *sys.argv[1:]])
    record = {"curve": curve, "command": command, "seed": args.seed,
              "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
              "hardware": f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads", "date": date.today().isoformat(),
              "minutes": round((time.time() - begin) / 60, 1), "reward_model_accuracy": accuracy, "pairs": n,
              "last_samples": [{"prompt": p, "completion": x} for p, x in last[::8]]}
    args.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    draw(record, args.out.with_suffix(".png"))
    print(f"wrote {args.out.name}.json and .png after {record['minutes']} minutes")
