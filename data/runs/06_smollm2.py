"""Lesson 6 at GPT-2 size: the same labels, read through the states of SmolLM2-135M and of the village model.

    python data/runs/06_smollm2.py          # one thread, some four minutes

An honest, noisy person labels pairs of the village model's answers, one vote on each pair or three. A linear reward is fitted on
the last hidden states of either model, and orders fresh pairs of answers to 36 prompts that are never labelled.
"""
import json
import platform
import time
from datetime import date
from pathlib import Path

import torch

from rlhf_minimal.book.scales import start
from rlhf_minimal.evaluate import budgets
from rlhf_minimal.reward_model import fit_head
from rlhf_minimal.village import Annotator

HERE = Path(__file__).parent
LABELS, PROMPTS, GROUP, SETS = (60, 120, 240), 36, 6, 20


def rows_of(part, places, tokenizer):
    texts = part.texts(places, tokenizer)
    return [{"prompt": part.prompts[int(part.prompt[i])], "completion": text} for i, text in zip(places, texts, strict=True)]


def states(model, tokenizer, rows):
    """(N, H): 16 rows at a time, so that short ones are not padded to the longest of all."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["completion"]))
    out = [None] * len(rows)
    for k in range(0, len(order), 16):
        found = budgets.states(model, tokenizer, [rows[i] for i in order[k:k + 16]])
        for i, state in zip(order[k:k + 16], found, strict=True):
            out[i] = state
    return torch.stack(out)


def main():
    began, some = time.time(), budgets.answers()
    village = budgets.models.load("village-3m-sft")[1]
    large, tokenizer = start("smollm2")
    two = budgets.one_each(some.wide.prompt, some.pairs, torch.Generator().manual_seed(0))[:max(LABELS)]
    asked = some.rows[torch.randperm(len(some.rows), generator=torch.Generator().manual_seed(0))[:PROMPTS], :GROUP]
    gold = some.asked.gold[asked].double()
    read = {"village-3m-sft": (some.wide.state[two], some.asked.state[asked])}
    inside = states(large, tokenizer, rows_of(some.wide, two.flatten().tolist(), village)).view(*two.shape, -1)
    print("labelled pairs read", round(time.time() - began), flush=True)
    shown = rows_of(some.asked, asked.flatten().tolist(), village)
    read["SmolLM2-135M"] = inside, states(large, tokenizer, shown).view(*asked.shape, -1)
    print("answers read", round(time.time() - began), flush=True)
    person = Annotator(temperature=0.5)
    p = torch.sigmoid((lambda u: u[:, 0] - u[:, 1])(some.worth(some.wide, person)[two]) / person.temperature)
    i, j = torch.combinations(torch.arange(GROUP)).T
    gap = gold[:, i] - gold[:, j]
    clear = gap.abs() >= 0.5
    keep = clear.sum(1) > 0

    def right(weight, state):
        score = state @ weight.to(state.dtype)
        good = ((score[:, i] - score[:, j]) * gap.sign() > 0).double()
        return ((good * clear).sum(1) / clear.sum(1).clamp(min=1))[keep]

    curve, picked = {"labels": list(LABELS)}, None
    for name, (pairs, answers) in read.items():
        for votes in (1, 3):
            means, errors = [], []
            for n in LABELS:
                each = []
                for k in range(SETS):
                    dice = torch.Generator().manual_seed(k)
                    which = torch.randperm(len(two), generator=dice)[:n // votes]
                    first = (torch.rand(len(which), votes, generator=dice) < p[which, None]).double().mean(1) > 0.5
                    side = torch.where(first[:, None], torch.tensor([0, 1]), torch.tensor([1, 0]))
                    chosen, rejected = (pairs[which, side[:, s]] for s in (0, 1))
                    weight = fit_head(chosen, rejected, l2=0.03)
                    each.append(right(weight, answers))
                    if name == "SmolLM2-135M" and votes == 1 and n == max(LABELS) and k == 0:
                        picked = (answers @ weight.to(answers.dtype)).argmax(1)
                mean, half = budgets.clustered(torch.stack(each).mean(0))
                means.append(round(mean, 4))
                errors.append(round(half, 4))
            curve[f"{name}, votes {votes}"], curve[f"half {name}, votes {votes}"] = means, errors
            print(name, votes, means, errors, round(time.time() - began), flush=True)

    def told(place):
        return [{"prompt": shown[GROUP * a]["prompt"], "completion": shown[GROUP * a + int(place[a])]["completion"],
                 "gold": round(gold[a, int(place[a])].item(), 3)} for a in range(PROMPTS)]

    first = told(torch.zeros(PROMPTS, dtype=torch.long))
    record = {"command": "python data/runs/06_smollm2.py", "seed": 0, "curve": curve,
              "settings": {"label sets": SETS, "prompts": int(keep.sum()), "answers": GROUP, "ridge": 0.03, "temperature": 0.5},
              "held_out": {"before": {"texts": first[:12]}, "after": {"texts": told(picked)[:12]}},
              "true_reward": {"drawn first": round(gold[:, 0].mean().item(), 3), "mean": round(gold.mean().item(), 3),
                              "best of 8": round(gold.gather(1, picked[:, None]).mean().item(), 3)},
              "minutes": round((time.time() - began) / 60, 2),
              "versions": {"python": platform.python_version(), "torch": torch.__version__},
              "hardware": f"1 CPU thread, {platform.machine()}", "date": str(date.today())}
    (HERE / "06_smollm2.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
