"""Lesson 3 at GPT-2 size: SmolLM2-135M learns the village's demonstrations with LoRA, once with labels shifted by one, once not.

    python data/runs/03_smollm2.py          # one thread, some eight minutes

Both runs see the same batches in the same order at the same rate. Every eight steps the loss is measured right, on held-out
demonstrations. Afterwards both answer everyday questions at temperature 0. And without training: how far do forgotten
position ids move the log-probabilities of a text that stands behind 0 to 40 padding tokens?
"""
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from rlhf_minimal import data, models, sampling, village
from rlhf_minimal.book.records import stamp
from rlhf_minimal.logprobs import token_logps

HERE = Path(__file__).parent
STEPS, BATCH, RATE, EVERY = 40, 4, 2e-3, 8
ASKED = ["What is the capital of France?", "What do bees make?", "What is the opposite of hot?", "What colour is grass?"]
FAMILIES = ("fact", "harmful", "lookalike")


def held_loss(model, batch):
    """Nats per answer token, computed right."""
    with torch.no_grad():
        logp, mask = token_logps(model, batch["ids"], batch["attention"]), batch["mask"][:, 1:]
    return (-(logp * mask).sum() / mask.sum()).item()


def train(shift, rows, held):
    """(model, tokenizer, printed losses, true losses)."""
    model, tokenizer = models.load("smollm2-135m")
    policy = models.lora(model, r=8)
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0)
    held = data.collate_demonstrations(held, tokenizer, 128)
    printed, true = [], [held_loss(policy, held)]
    for step, batch in enumerate(data.batches(rows, BATCH, steps=STEPS, tokenizer=tokenizer), 1):
        ids, mask = batch["ids"], batch["mask"].bool()
        logits = policy(ids, attention_mask=batch["attention"].long()).logits
        places = slice(0, ids.shape[1] - shift)
        labels, counted = ids[:, shift:], mask[:, shift:]
        loss = F.cross_entropy(logits[:, places][counted], labels[counted])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        printed.append(round(loss.item(), 4))
        if step % EVERY == 0:
            true.append(round(held_loss(policy, held), 4))
            print(shift, step, printed[-1], true[-1], flush=True)
    return policy, tokenizer, printed, true


def padded_errors(model, tokenizer, pads):
    """Sum of |changes| of a text's log-probabilities without position ids, nats, for each number of pads on the left."""
    row = tokenizer("The fox lives near the river. The fox likes to eat fish.").input_ids
    alone = token_logps(model, torch.tensor([row]), torch.ones(1, len(row)))
    out = []
    for n in pads:
        ids = torch.tensor([[tokenizer.eos_token_id] * n + row])
        attention = torch.tensor([[0] * n + [1] * len(row)])
        with torch.no_grad():
            table = model(ids, attention_mask=attention).logits[:, :-1].log_softmax(-1)
        logp = table.gather(2, ids[:, 1:, None])[:, n:, 0]
        out.append(round((logp - alone).abs().sum().item(), 4))
    return out


def main():
    begin = time.time()
    torch.manual_seed(0)
    rows = village.demonstrations(STEPS * BATCH, seed=100, families=FAMILIES)
    held = village.demonstrations(24, seed=1000, split="test", families=FAMILIES)
    curve, texts = {}, {}
    pads = [0, 1, 5, 20, 40]
    with torch.no_grad():
        errors = {"pads": pads, "smollm2": padded_errors(*models.load("smollm2-135m"), pads),
                  "village": padded_errors(*models.load("village-3m"), pads)}
    for name, shift in (("shifted", 1), ("unshifted", 0)):
        policy, tokenizer, printed, true = train(shift, rows, held)
        curve |= {f"{name} printed": printed, f"{name} true": true}
        said = sampling.answer(policy, tokenizer, ASKED, max_new_tokens=24, temperature=0.0).texts(tokenizer)
        texts[name] = dict(zip(ASKED, said, strict=True))
        print(texts[name], flush=True)
    record = {"command": "python data/runs/03_smollm2.py", "seed": 0, **stamp(), "minutes": round((time.time() - begin) / 60, 1),
              "steps": STEPS, "every": EVERY, "rate": RATE, "curve": curve, "texts": texts, "padding": errors}
    (HERE / "03_smollm2.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
