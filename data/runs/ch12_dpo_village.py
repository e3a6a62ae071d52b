"""Four DPO runs on the village model with equal numbers of labels: three learning rates on stored pairs, one on fresh pairs.

    python data/runs/ch12_dpo_village.py            # about 3 minutes of one core; writes the .json beside it
"""
import argparse
import copy
import json
import os
import platform
import random
import sys
import time
from datetime import date
from pathlib import Path

import torch

from rlhf_minimal import data, village
from rlhf_minimal import direct_alignment as da
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import load
from rlhf_minimal.sampling import sample

HERE, KINDS = Path(__file__).with_suffix(""), ("story", "opinion", "harmful", "lookalike", "summary", "followup")
ARMS = {"offline, rate 1e-5": (1e-5, False), "offline, rate 1e-4": (1e-4, False), "offline, rate 1e-3": (1e-3, False),
        "online, rate 1e-4": (1e-4, True)}


def questions(n, split, seed):
    """n prompts, the six kinds in turn."""
    kinds = [village.prompts(n // 6, split=split, families=(f,), seed=seed, distinct=False) for f in KINDS]
    return [row for six in zip(*kinds, strict=True) for row in six]


def labelled(model, tokenizer, rows, person, luck, generator):
    """Two answers of the model to each prompt, compared; equal texts are left out."""
    texts = sample(model, data.prompts_ids(rows, tokenizer), n=2, max_new_tokens=56, eos_id=tokenizer.eos_token_id,
                   generator=generator).texts(tokenizer)
    pairs = []
    for row, a, b in zip(rows, texts[::2], texts[1::2], strict=True):
        if a != b:
            won = person.compare(row["prompt"], a, b, luck) == 1
            pairs.append({"prompt": row["prompt"], "chosen": a if won else b, "rejected": b if won else a})
    return pairs


@torch.no_grad()
def look(policy, start, tokenizer, test, probe, seed):
    """True reward and KL of fresh answers; change of both log-probabilities on pairs that are never read."""
    out = sample(policy, data.prompts_ids(test, tokenizer), max_new_tokens=56, eos_id=tokenizer.eos_token_id,
                 generator=torch.Generator().manual_seed(seed))
    ref = out.completion_logps(token_logps(start, out.ids, out.attention))
    gold = [village.gold(q["prompt"], t) for q, t in zip(test, out.texts(tokenizer), strict=True)]
    now, then = da.pair_logps(policy, probe), da.pair_logps(start, probe)
    chosen, rejected = ((a - b).mean().item() for a, b in zip(now, then, strict=True))
    kl = ((out.logp_old - ref) * out.mask).sum(1).mean().item()
    return {"gold": sum(gold) / len(gold), "KL": kl, "chosen": chosen, "rejected": rejected}


def run(*, seed, steps, batch, every):
    start, tokenizer = load("village-3m-sft")
    person, test = village.Annotator(temperature=0.5), questions(156, "test", seed)
    train = questions(-(-steps * batch // 6) * 6, "train", seed + 1)
    generator, luck = torch.Generator().manual_seed(seed), random.Random(seed)
    stored = labelled(start, tokenizer, train, person, luck, generator)
    probe = data.collate_pairs(labelled(start, tokenizer, questions(84, "test", seed + 2), person, luck, generator), tokenizer)
    curve = {key: [] for key in ("arm", "labels", "gold", "KL", "chosen", "rejected")}
    for arm, (rate, online) in ARMS.items():
        policy, used, seen = copy.deepcopy(start), 0, 0
        optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
        for step in range(steps + 1):
            if step % every == 0:
                row = {"arm": arm, "labels": used} | look(policy, start, tokenizer, test, probe, seed)
                for key, value in row.items():
                    curve[key].append(round(value, 4) if isinstance(value, float) else value)
                print(row, flush=True)
            if step == steps:
                break
            rows = train[step * batch:(step + 1) * batch]
            pairs = labelled(policy, tokenizer, rows, person, luck, generator) if online else stored[seen:seen + batch]
            seen += batch
            if not pairs:
                continue
            used += len(pairs)
            packed = data.collate_pairs(pairs, tokenizer)
            with torch.no_grad():
                packed["ref_chosen"], packed["ref_rejected"] = da.pair_logps(start, packed)
            da.step(policy, optimizer, packed, beta=0.1)
    return curve


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name, value in (("seed", 0), ("steps", 56), ("batch", 16), ("every", 14)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = vars(parser.parse_args())
    begun = time.time()
    found = run(**given)
    import transformers
    about = {"curve": found, "command": " ".join(["python", "data/runs/ch12_dpo_village.py", *sys.argv[1:]]), **given,
             "model": "village-3m-sft", "versions": {"python": platform.python_version(), "torch": torch.__version__,
                                                     "transformers": transformers.__version__},
             "hardware": f"{os.cpu_count()} cores, {platform.machine()}", "date": date.today().isoformat(),
             "seconds": round(time.time() - begun)}
    HERE.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
