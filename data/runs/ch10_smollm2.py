"""Chapter 10: one round of rejection sampling on SmolLM2-135M-Instruct, and the same number of answers taken at random.

    python data/runs/ch10_smollm2.py        # one thread, some ten minutes; begins where data/runs/smollm2.py sft ended

Eight answers to each of 48 requests; the best by the true reward, or any one of the eight, is learned from in 24 steps of
SFT with LoRA. Then held-out requests, as in data/runs/smollm2.py.
"""
import json
import platform
import random
import statistics
from pathlib import Path

import torch
from smollm2 import HERE, ROOT, TWO, gold

from rlhf_minimal import data, village
from rlhf_minimal.models import load
from rlhf_minimal.sampling import sample
from rlhf_minimal.train import run

OUT, N, PROMPTS = ROOT / "build/gpt2", 8, 48
SETTINGS = {"lora": 16, "batch_size": 8, "lr": 5e-4, "warmup": 3, "schedule": "linear", "save_every": 1000, "sample_every": 0}


@torch.no_grad()
def candidates(model, tokenizer):
    """(prompts, texts (PROMPTS, N), their true rewards)."""
    rows, texts = village.prompts(PROMPTS, families=TWO.split(","), seed=3, distinct=False), []
    for i in range(0, PROMPTS, 8):
        drawn = sample(model, data.prompts_ids(rows[i:i + 8], tokenizer), n=N, max_new_tokens=24, eos_id=tokenizer.eos_token_id,
                       generator=torch.Generator().manual_seed(i))
        texts += drawn.texts(tokenizer)
    prompts, texts = [r["prompt"] for r in rows], [texts[i:i + N] for i in range(0, len(texts), N)]
    return prompts, texts, [[village.gold(p, t) for t in some] for p, some in zip(prompts, texts, strict=True)]


def main():
    start = OUT / "sft"
    prompts, texts, scores = candidates(*load(str(start)))
    luck = random.Random(0)
    kept = {"best": [max(range(N), key=s.__getitem__) for s in scores], "random": [luck.randrange(N) for _ in scores]}
    held_out, curve, drawn = {"before": gold(*load(str(start)), TWO)}, {}, {}
    for name, rows in kept.items():
        where = OUT / f"ch10_{name}"
        file = OUT / f"ch10_{name}.jsonl"
        file.write_text("".join(json.dumps({"prompt": p, "completion": some[i]}) + "\n"
                                for p, some, i in zip(prompts, texts, rows, strict=True)), encoding="utf-8")
        drawn[name] = round(statistics.fmean(s[i] for s, i in zip(scores, rows, strict=True)), 4)
        record = run("sft", model=str(start), data=str(file), steps=24, out=where, resume=True, **SETTINGS)
        curve |= {"step": record["curve"]["step"], f"loss, {name}": record["curve"]["loss"]}
        held_out["after" if name == "best" else name] = gold(*load(str(where)), TWO)
        print(name, drawn[name], {k: v for k, v in held_out.items() if k != "texts"}, flush=True)
    kept = {k: record[k] for k in ("seed", "settings", "versions", "date")}
    kept |= {"command": "python data/runs/ch10_smollm2.py", "hardware": record["hardware"] + ", " + platform.machine(),
             "curve": curve, "kept": drawn | {"all": round(statistics.fmean(x for s in scores for x in s), 4)},
             "held_out": held_out}
    Path(HERE / "ch10_smollm2.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
