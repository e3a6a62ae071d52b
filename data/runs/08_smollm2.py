"""Lesson 8 at GPT-2 size: k1 in the reward and k1 in the loss at one beta, on SmolLM2-135M, one run each.

    python data/runs/08_smollm2.py          # one thread, about three minutes

The start is the model with the village adapter merged; a LoRA of rank 16 is trained by RLOO. The judge is lesson 8's, a head on
the village model's states: it reads the answers as text. The exam has 32 requests of the test split, one answer each.
"""
import json
import time
from pathlib import Path
from types import SimpleNamespace

import torch

from rlhf_minimal import data, models, rollout, sampling, village
from rlhf_minimal.advantages import leave_one_out
from rlhf_minimal.book import scales
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate import proxies
from rlhf_minimal.evaluate.exams import clustered, exam, requests

HERE = Path(__file__).with_suffix(".json")
STEPS, PROMPTS, N, TOKENS, RATE, BETA, SEED = 15, 4, 4, 24, 2e-3, 0.2, 0
KINDS = ("harmful", "lookalike")


def fresh(k):
    """A generator of its own for one purpose."""
    return torch.Generator().manual_seed(1000 * SEED + k)


class Judge:
    """Scores of answers as text, in standard deviations, by a head on the village model's states."""

    def __init__(self):
        self.model, self.tokenizer = models.load("village-3m-sft")
        self.model.requires_grad_(False)
        person = village.Annotator(name="honest", temperature=1.0)
        self.score = proxies.judge(proxies.bench(), self.model, person, 1600, fresh(1))

    def __call__(self, prompts, texts):
        rows = [{"prompt": p, "completion": t or "."} for p, t in zip(prompts, texts, strict=True)]
        batch = data.collate_demonstrations(rows, self.tokenizer)
        return self.score(SimpleNamespace(ids=batch["ids"], attention=batch["attention"]))


def examined(policy, start, tokenizer):
    """Means, standard errors over requests, KL from the start, and the answers to the first two requests of each kind."""
    found = exam(policy, tokenizer, requests(32, KINDS, seed=SEED), max_new_tokens=TOKENS, reference=start, generator=fresh(2))
    out = {}
    for name, part in (("all", found), *((kind, found.of(kind)) for kind in KINDS)):
        mean, half = clustered(part.per_request())
        out[name] = {"mean": round(mean, 4), "standard_error": round(half / 1.96, 4), "n": len(part.texts),
                     "refuses": round(part.mean("refuses"), 4), "kl": round(part.mean("kl"), 4)}
    out["texts"] = [{"prompt": found.rows[i]["prompt"], "completion": found.texts[i], "gold": round(found.gold[i].item(), 3)}
                    for i in range(4)]
    return out


def train(place, start, tokenizer, judge):
    """(policy, {column: one value for each step}): a LoRA on a copy of the start."""
    torch.manual_seed(SEED)  # the adapters begin at random
    policy, luck = models.lora(models.copy_of(start), r=16), fresh(3)
    weights = [p for p in policy.parameters() if p.requires_grad]
    optimizer, log = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0), {"kl": [], "score": []}
    asked = [row["prompt"] for row in requests(PROMPTS * STEPS, KINDS, split="train", seed=SEED + 70)]
    for step in range(STEPS):
        prompts = asked[PROMPTS * step:PROMPTS * (step + 1)]
        drawn = sampling.answer(policy, tokenizer, prompts, n=N, max_new_tokens=TOKENS, generator=luck)
        logp = rollout.completion_logps(policy, drawn)
        with torch.no_grad(), models.adapters_off(policy):
            ref = rollout.completion_logps(policy, drawn)
        kl = ((logp - ref) * drawn.mask).sum(1)
        score = judge([p for p in prompts for _ in range(N)], drawn.texts(tokenizer))
        reward = score - BETA * kl.detach() if place == "reward" else score
        loss = -(leave_one_out(reward, N) * (logp * drawn.mask).sum(1)).mean()
        if place == "k1":
            loss = loss + BETA * kl.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        log["kl"].append(round(kl.mean().item(), 4))
        log["score"].append(round(score.mean().item(), 4))
        print(place, step, log["kl"][-1], log["score"][-1], round(time.process_time()), "s", flush=True)
    return policy, log


def main():
    began, judge = time.process_time(), Judge()
    start, tokenizer = scales.start("smollm2")
    held_out, curve = {"before": examined(start, start, tokenizer)}, {"step": list(range(1, STEPS + 1))}
    for place in ("k1", "reward"):
        policy, log = train(place, start, tokenizer, judge)
        held_out[place] = examined(policy, start, tokenizer)
        curve |= {f"{place} {what}": values for what, values in log.items()}
        print(place, held_out[place], round(time.process_time() - began), "s", flush=True)
    record = {"command": "python data/runs/08_smollm2.py", "seed": SEED, "curve": curve, "held_out": held_out,
              "settings": {"beta": BETA, "steps": STEPS, "answers a step": PROMPTS * N, "rate": RATE, "lora": 16},
              "model": "smollm2-135m + smollm2-135m-village", "minutes": round((time.process_time() - began) / 60, 1),
              **stamp()}
    HERE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
