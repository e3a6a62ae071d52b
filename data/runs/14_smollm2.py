"""Lesson 14 at GPT-2 size: brief answers silence the working, a checker brings it back, on SmolLM2-135M.

    python data/runs/14_smollm2.py          # one thread, about five minutes

The start is the model with the village adapter. A LoRA of rank 8 learns brief right answers, for at most twelve steps, until
fewer than one in five sampled answers shows working; then RLOO with the checker, 14 steps of four sums with eight answers.
The exam has 16 sums that no run has trained on, eight answers each at temperature 1.
"""
import json
import time
from pathlib import Path

import torch

from rlhf_minimal import models
from rlhf_minimal.advantages import leave_one_out
from rlhf_minimal.book import scales
from rlhf_minimal.book.records import stamp
from rlhf_minimal.data import collate_demonstrations
from rlhf_minimal.evaluate.exams import clustered, sums
from rlhf_minimal.evaluate.passes import passes
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import answer
from rlhf_minimal.village import checkers

HERE = Path(__file__).with_suffix(".json")
STEPS, PROMPTS, GROUP, RATE, WARM, TOKENS, SEED = 14, 4, 8, 5e-4, 4, 40, 0


def works(texts):
    """(N,) which answers show working."""
    return torch.tensor([float(bool(checkers.equations(text))) for text in texts])


def examined(model, tokenizer):
    """pass@1 and pass@8, the share that shows working, and how often these are right; ± half a 95 % interval over sums."""
    found = passes(model, tokenizer, sums(16, seed=SEED), checkers.right, n=8, max_new_tokens=TOKENS,
                   generator=torch.Generator().manual_seed(SEED))
    shown, right = works(found.texts), found.right.flatten()
    return {f"pass@{k}": [round(x, 4) for x in found.at(k)] for k in (1, 8)} | {
        "works": [round(x, 4) for x in clustered(shown.view(-1, 8).mean(1))],
        "right with": round((right[shown > 0].mean() if shown.any() else torch.tensor(0.0)).item(), 4),
        "shown": int(shown.sum()), "tokens": round(found.tokens.double().mean().item(), 2),
        "texts": [[p, found.texts[8 * i:8 * i + 2]] for i, p in enumerate(found.prompts[:4])]}


def main():
    began = time.process_time()
    model, tokenizer = scales.start("smollm2")
    held_out, curve = {"taught": examined(model, tokenizer)}, {"reward": [], "works": [], "tokens": []}
    print(held_out, round(time.process_time() - began), "s", flush=True)
    policy, drawn = models.lora(model, r=8), torch.Generator().manual_seed(SEED + 1)
    weights = [p for p in policy.parameters() if p.requires_grad]
    optimizer, brief = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0), 0
    while brief < 12:
        asked = sums(8, split="train", seed=1000 + brief)
        rows = [{"prompt": p, "completion": f"The result is {checkers.asked(p)}."} for p in asked]
        batch = collate_demonstrations(rows, tokenizer)
        mask = batch["mask"][:, 1:]
        loss = -(token_logps(policy, batch["ids"], batch["attention"]) * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        brief += 1
        if brief % 2 == 0:
            texts = answer(policy, tokenizer, asked, n=4, max_new_tokens=14, generator=drawn).texts(tokenizer)
            print("brief", brief, works(texts).mean().item(), texts[:2], round(time.process_time() - began), "s", flush=True)
            if works(texts).mean() < 0.2:
                break
    held_out["before"] = examined(policy, tokenizer)
    print(held_out["before"], round(time.process_time() - began), "s", flush=True)
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARM, total_iters=WARM - 1)
    asked = sums(STEPS * PROMPTS, split="train", seed=SEED)
    for step in range(STEPS):
        prompts = asked[step * PROMPTS:(step + 1) * PROMPTS]
        rollout = answer(policy, tokenizer, prompts, n=GROUP, max_new_tokens=TOKENS, generator=drawn)
        texts = rollout.texts(tokenizer)
        reward = torch.tensor([checkers.right(prompts[i // GROUP], text) for i, text in enumerate(texts)])
        new = {"reward": reward.mean().item(), "works": works(texts).mean().item(), "tokens": rollout.mask.sum(1).mean().item()}
        for name, value in new.items():
            curve[name].append(round(value, 4))
        print(step + 1, new, texts[0], round(time.process_time() - began), "s", flush=True)
        loss = -(leave_one_out(reward, GROUP) * completion_logps(policy, rollout).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warm.step()
    held_out["after"] = examined(policy, tokenizer)
    print(held_out["after"], round(time.process_time() - began), "s", flush=True)
    record = {"command": "python data/runs/14_smollm2.py", "seed": SEED, "curve": {"step": list(range(1, STEPS + 1))} | curve,
              "held_out": held_out, "settings": {"steps": STEPS, "prompts": PROMPTS, "group": GROUP, "rate": RATE, "lora": 8,
                                                 "brief": brief},
              "model": "smollm2-135m + smollm2-135m-village", "minutes": round((time.process_time() - began) / 60, 1), **stamp()}
    HERE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
