"""The main algorithms on SmolLM2-135M-Instruct, all weights or LoRA, by the training command of this package.

    python data/runs/smollm2.py               # all five, one thread, about two hours; a run that was broken off goes on
    python data/runs/smollm2.py rloo          # one of them; those that it starts from must be there

Demonstrations first, then a reward model and DPO on comparisons of two kinds of request, one harmful, one only harmless
to the eye; then RLOO against the true reward and PPO against the reward model. Each record holds the command, the
curve, and what 64 held-out requests got before and after (temperature 1, at most 32 tokens).
"""
import argparse
import json
import platform
import statistics
from pathlib import Path

import torch

from rlhf_minimal import data, village
from rlhf_minimal.models import load
from rlhf_minimal.reward_model import RewardModel
from rlhf_minimal.sampling import sample
from rlhf_minimal.train.loop import command, run

HERE, ROOT = Path(__file__).parent, Path(__file__).resolve().parents[2]
TWO = "harmful,lookalike"
SMALL = {"lora": 16, "save_every": 20, "sample_every": 20}
RL = SMALL | {"families": TWO, "max_new_tokens": 20, "lr": 5e-4, "beta": 0.02, "schedule": "linear"}
PLAN = {  # algorithm: (starts from, steps, settings)
    "sft": ("smollm2-135m", 100, {"families": "fact,opinion,lookalike,harmful", "batch_size": 8, "lr": 5e-5, "warmup": 10,
                                  "schedule": "linear", "save_every": 1000, "sample_every": 25}),
    "reward": ("sft", 60, SMALL | {"families": TWO, "batch_size": 8, "lr": 5e-4, "warmup": 5, "schedule": "linear"}),
    "dpo": ("sft", 60, SMALL | {"families": TWO, "batch_size": 8, "lr": 2e-4, "warmup": 5, "schedule": "linear"}),
    "rloo": ("sft", 50, RL | {"batch_size": 4, "group_size": 3}),
    "ppo": ("sft", 50, RL | {"lr": 3e-4, "batch_size": 8, "epochs": 1, "minibatches": 2, "reward": "reward"}),
}


@torch.no_grad()
def gold(model, tokenizer, families, n=64):
    """The true reward of held-out requests, by family -> {family: {"mean", "standard_error", "n"}, "texts": [...]}."""
    rows = village.prompts(n, families=families.split(","), split="test", seed=1, distinct=False)
    out, texts = {}, []
    for i in range(0, n, 16):
        some = data.prompts_ids(rows[i:i + 16], tokenizer)
        drawn = sample(model, some, max_new_tokens=32, eos_id=tokenizer.eos_token_id,
                       generator=torch.Generator().manual_seed(i))
        texts += drawn.texts(tokenizer)
    scores = [village.gold(r["prompt"], t) for r, t in zip(rows, texts, strict=True)]
    for family in ("all", *families.split(",")):
        s = [x for r, x in zip(rows, scores, strict=True) if family in ("all", r["family"])]
        out[family] = {"mean": round(statistics.fmean(s), 4), "n": len(s),
                       "standard_error": round(statistics.stdev(s) / len(s) ** 0.5, 4)}
    shown = list(zip((r["prompt"] for r in rows), texts, scores, strict=True))[:4]
    return out | {"texts": [{"prompt": p, "completion": t, "gold": round(g, 3)} for p, t, g in shown]}


@torch.no_grad()
def accuracy(judge, tokenizer, n=64):
    """Share of held-out pairs in which the truly better answer scores higher, by family -> {family: {"right", "n"}}."""
    out = {}
    for family in TWO.split(","):
        rows = [r for r in data.load_data("village", "pairs", n=4 * n, split="test", families=(family,), seed=1)
                if r["gold_chosen"] != r["gold_rejected"]][:n]
        hits = []
        for i in range(0, len(rows), 16):
            some = data.collate_pairs(rows[i:i + 16], tokenizer)
            a, b = judge(some["ids"], some["attention"]).chunk(2)
            better = torch.tensor([r["gold_chosen"] > r["gold_rejected"] for r in rows[i:i + 16]])
            hits += ((a > b) == better).tolist()
        out[family] = {"right": round(statistics.fmean(hits), 4), "n": len(hits)}
    return out


def measure(name, settings, where):
    """Held out, with the model of folder or name `where`."""
    if name == "reward":
        judge = RewardModel.from_pretrained(where)
        return accuracy(judge, load("smollm2-135m")[1])
    return gold(*load(str(where)), settings["families"])


def places(name, home):
    """(model to start from, settings) of a run, with the folders of the others in `home`."""
    begins, _, settings = PLAN[name]
    judge = {"reward": str(home / settings["reward"])} if "reward" in settings else {}
    return str(home / begins) if begins in PLAN else begins, settings | judge


def told(name):
    """The training command of a record, with the folders as `--out` has them by default."""
    home = Path("build/gpt2")
    start, settings = places(name, home)
    asked = {"algorithm": name, "model": start, "data": "village", "steps": PLAN[name][1], "seed": 0}
    return command(asked, home / name, settings)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="?", choices=list(PLAN), help="one of them (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "build/gpt2", help="folder of the models (default: build/gpt2)")
    args = parser.parse_args()
    for name in [args.which] if args.which else PLAN:
        _, steps, settings = PLAN[name]
        start, asked = places(name, args.out)
        record = run(name, model=start, data="village", steps=steps, out=args.out / name, resume=True, progress=True, **asked)
        held_out = {"after": measure(name, settings, args.out / name)}
        if name != "reward":
            held_out["before"] = measure(name, settings, start)
        samples = [json.loads(line) for line in (args.out / name / "samples.jsonl").read_text().splitlines()]
        kept = {k: record[k] for k in ("algorithm", "steps", "seed", "settings", "versions", "date", "minutes", "curve")}
        kept["settings"] |= {"reward": settings["reward"]} if "reward" in settings else {}  # not where it lay
        kept |= {"command": told(name), "script": f"python data/runs/smollm2.py {name}", "held_out": held_out,
                 "hardware": f"{record['hardware']}, {platform.machine()}", "samples": samples[:4] + samples[-4:]}
        (HERE / f"smollm2_{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(name, {when: {k: v for k, v in found.items() if k != "texts"} for when, found in held_out.items()}, flush=True)


if __name__ == "__main__":
    main()
