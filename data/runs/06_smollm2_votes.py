"""Lesson 6 at GPT-2 size: what 300 votes teach a linear reward on the hidden states of SmolLM2-135M.

    python data/runs/06_smollm2_votes.py          # one thread, some five minutes

The answers are the village model's, stored in the pool; SmolLM2-135M, taught the village's manner, reads prompt and answer, and its
last hidden state is what the reward sees. Twelve sets of votes; every set votes on the same 300 prompts, with noise of its own.
"""
import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer

from rlhf_minimal import SHIPPED, data, reward_model
from rlhf_minimal.book.records import stamp
from rlhf_minimal.book.scales import start
from rlhf_minimal.evaluate import budgets
from rlhf_minimal.village import Annotator

HERE, VOTES, TESTED, EACH, SETS = Path(__file__).parent, 300, 56, 6, 12
PENALTIES = (0.03, 0.3)
HONEST = Annotator(temperature=0.5)
TASTE = Annotator(gold_weight=0.5, length_bias=0.3, weights={"flattery": 3.0}, temperature=0.5)


def read(model, tokenizer, part, rows, seen):
    """States {place: (H,)} of some places of a pool, added to `seen`."""
    village = AutoTokenizer.from_pretrained(SHIPPED / "models/village-3m-sft")
    texts = part.texts(rows, village)
    asked = [{"prompt": part.prompts[int(part.prompt[i])], "completion": text} for i, text in zip(rows, texts, strict=True)]
    order = sorted(range(len(rows)), key=lambda i: len(asked[i]["prompt"]) + len(texts[i]))
    for k in range(0, len(order), 12):
        places = order[k:k + 12]
        batch = data.collate_demonstrations([asked[i] for i in places], tokenizer)
        for i, state in zip(places, reward_model.last_states(model, batch["ids"], batch["attention"]), strict=True):
            seen[rows[i]] = state


def main(kept=None):
    """kept: a file where the states are stored, so that an interrupted run goes on."""
    began, some, dice = time.time(), budgets.answers(), torch.Generator().manual_seed(0)
    two = budgets.one_each(some.wide.prompt, some.pairs, dice)[:VOTES]
    few = budgets.of_few(some.few["its own answers"], VOTES, dice)
    few = few[:96].repeat(4, 1)[:VOTES]  # three pairs for each of 32 prompts, in turn
    tested = [rows[:EACH] for rows in some.rows if some.asked.gold[rows[:EACH]].std() > 0.7][:TESTED]
    work = {"test": (some.asked, torch.cat(tested)), "few": (some.few["its own answers"], few.flatten().unique()),
            "wide": (some.wide, two.flatten().unique())}
    states = torch.load(kept) if kept and Path(kept).exists() else {}
    print({name: len(rows) for name, (_, rows) in work.items()}, flush=True)
    if any(len(states.get(name, {})) < len(rows) for name, (_, rows) in work.items()):
        model, tokenizer = start("smollm2")
        for name, (part, rows) in work.items():
            seen = states.setdefault(name, {})
            left = [i for i in rows.tolist() if i not in seen]
            for k in range(0, len(left), 96):
                read(model, tokenizer, part, left[k:k + 96], seen)
                if kept:
                    torch.save(states, kept)
                print(name, len(seen), round(time.time() - began), flush=True)
    fit_and_write(some, two, few, tested, states, began)


def fit_and_write(some, two, few, tested, states, began):
    """Fit a reward to every set of votes, test it on fresh pairs, write the record."""
    def at(name, places):
        return torch.stack([states[name][i] for i in places.tolist()])

    def right(weight):
        shares = []
        for rows in tested:
            score, gold = at("test", rows) @ weight, some.asked.gold[rows]
            better, worse = (gold[:, None] - gold[None, :] >= 0.5).nonzero().T
            shares.append((score[better] > score[worse]).double().mean().item())
        return shares

    shares, weights = {}, {}
    for l2 in PENALTIES:
        for k in range(SETS):
            dice = torch.Generator().manual_seed(1000 + k)
            third = two[torch.randperm(VOTES, generator=dice)[:VOTES // 3]]
            coin = torch.rand(VOTES, generator=dice) < 0.5
            arms = {"a new prompt for every vote": ("wide", some.votes(some.wide, two, HONEST, dice)),
                    "three votes, all kept": ("wide", torch.cat([some.votes(some.wide, third, HONEST, dice) for _ in range(3)])),
                    "only 32 prompts": ("few", some.votes(some.few["its own answers"], few, HONEST, dice)),
                    "people who love compliments": ("wide", some.votes(some.wide, two, TASTE, dice)),
                    "coin flips": ("wide", torch.where(coin[:, None], two, two.flip(1)))}
            for name, (part, pair) in arms.items():
                weight = reward_model.fit_head(at(part, pair[:, 0]), at(part, pair[:, 1]), l2=l2)
                shares.setdefault(str(l2), {}).setdefault(name, []).append([round(x, 4) for x in right(weight)])
                if k == 0 and l2 == PENALTIES[0]:
                    weights[name] = weight
    first, examples = shares[str(PENALTIES[0])], []
    for rows in tested:  # what the rewards of the first set like best among the stored answers to a readable prompt
        liked = {name: int(rows[(at("test", rows) @ weights[name]).argmax()])
                 for name in ("a new prompt for every vote", "people who love compliments")}
        i = int(some.asked.prompt[rows[0]])
        if len(set(liked.values())) == 2 and some.asked.families[i] in budgets.READABLE and len(some.asked.prompts[i]) < 70:
            texts = some.asked.texts(list(liked.values()), AutoTokenizer.from_pretrained(SHIPPED / "models/village-3m-sft"))
            gold = [round(float(some.asked.gold[j]), 2) for j in liked.values()]
            examples.append({"prompt": some.asked.prompts[i], "texts": dict(zip(liked, texts, strict=True)), "gold": gold})
    for l2, arms in shares.items():
        base = torch.tensor(arms["a new prompt for every vote"])
        for name, x in arms.items():
            x = torch.tensor(x)
            print(l2, name, *("{:+.3f} ± {:.3f}".format(*budgets.over_both(y)) for y in (x, x - base)))
    record = {"command": "python data/runs/06_smollm2_votes.py", "seed": 0, "sets": SETS, "prompts": len(tested), "votes": VOTES,
              "curve": {name: [round(sum(x) / len(x), 4) for x in rows] for name, rows in first.items()}, "shares": shares,
              "examples": examples[:6],
              "minutes": round((time.time() - began) / 60, 2), **stamp()}
    (HERE / "06_smollm2_votes.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
