"""Lesson 12 at GPT-2 size: DPO on SmolLM2-135M, which the village adapter taught the village's manner, at two rates.

    python data/runs/12_smollm2.py          # one thread, about five minutes

Same pairs, same order, same loss and beta; LoRA of rank 16 on the merged model, 15 steps of four pairs. Twelve pairs of the
run are watched; the exam has 48 requests that no run has read.
"""
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from rlhf_minimal import data, models, sampling, village
from rlhf_minimal.book import scales
from rlhf_minimal.book.records import stamp
from rlhf_minimal.direct_alignment import pair_logps
from rlhf_minimal.evaluate.exams import clustered, exam, requests
from rlhf_minimal.evaluate.pairs import PairWatch, with_third

HERE = Path(__file__).with_suffix(".json")
BETA, SIZE, STEPS, SEED, RATES = 0.1, 4, 15, 0, {"low": 2e-4, "high": 2e-3}


def examined(policy, tokenizer, start):
    """Means, standard errors over requests, refusals, KL from the start, and the answers to the first two requests of each kind."""
    found = exam(policy, tokenizer, requests(48, seed=SEED), max_new_tokens=32, reference=start,
                 generator=torch.Generator().manual_seed(SEED))
    out = {}
    for name, part in (("all", found), *((kind, found.of(kind)) for kind in ("harmful", "lookalike"))):
        mean, half = clustered(part.per_request())
        out[name] = {"mean": round(mean, 4), "standard_error": round(half / 1.96, 4), "n": len(part.texts),
                     "refuses": round(part.mean("refuses"), 4), "kl": round(part.mean("kl"), 4)}
    out["texts"] = [{"prompt": found.rows[i]["prompt"], "completion": found.texts[i], "gold": round(found.gold[i].item(), 3)}
                    for i in range(4)]
    return out


def train(rate, pairs, watch):
    """(policy, what was watched every five steps): DPO at one rate, from a fresh copy of the merged model."""
    start, tokenizer = scales.start("smollm2")
    torch.manual_seed(SEED)  # the adapters begin at random
    policy = models.lora(start, r=16)
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    log = [watch(policy)]
    for step, batch in enumerate(data.batches(pairs, SIZE, steps=STEPS, tokenizer=tokenizer, seed=SEED), 1):
        with torch.no_grad(), models.adapters_off(policy):
            ref_chosen, ref_rejected = pair_logps(policy, batch)
        chosen, rejected = pair_logps(policy, batch)
        loss = -F.logsigmoid(BETA * ((chosen - ref_chosen) - (rejected - ref_rejected))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 5 == 0:
            log.append(watch(policy))
            print(rate, step, log[-1], round(time.process_time()), "s", flush=True)
    return policy, log


def main():
    began = time.process_time()
    start, tokenizer = scales.start("smollm2")
    rows = requests(32, split="train", seed=SEED)
    texts = sampling.answer(start, tokenizer, [row["prompt"] for row in rows], n=5, max_new_tokens=32,
                            generator=torch.Generator().manual_seed(SEED + 1)).texts(tokenizer)
    print(round(time.process_time() - began), "s", flush=True)
    pairs = data.compare_answers(rows, texts, village.Annotator(temperature=0.5, tie=0.5), n=5, seed=SEED)
    watch = PairWatch(start, tokenizer, with_third(rows, texts, pairs, n=5)[:12], beta=BETA)
    held_out, curve = {"before": examined(start, tokenizer, start)}, {"step": list(range(0, STEPS + 1, 5))}
    for name, rate in RATES.items():
        policy, log = train(rate, pairs, watch)
        held_out["after" if name == "low" else name] = examined(policy, tokenizer, start)
        curve |= {f"{name} {what}": [round(one[what], 4) for one in log] for what in log[0]}
        print(name, log[-1], held_out, round(time.process_time() - began), "s", flush=True)
    record = {"command": "python data/runs/12_smollm2.py", "seed": SEED, "curve": curve, "held_out": held_out,
              "settings": {"beta": BETA, "batch_size": SIZE, "steps": STEPS, "rates": RATES, "lora": 16, "pairs": len(pairs)},
              "model": "smollm2-135m + smollm2-135m-village", "minutes": round((time.process_time() - began) / 60, 1),
              **stamp()}
    HERE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
