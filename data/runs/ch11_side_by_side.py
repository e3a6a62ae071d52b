"""Ten policy gradients on one task with equal samples, three seeds: the race of chapter 11.

    python data/runs/ch11_side_by_side.py            # one core, some minutes; writes the .json beside it

Every method gets the same prompts, the same first batch, 32 fresh answers a step and two updates on them (TRPO one). The
row "start" is the model before.
"""
import argparse
import copy
import json
import os
import platform
import time
from datetime import date
from pathlib import Path

import torch

from rlhf_minimal import data, grpo, p3o, ppo, reinforce, rloo, trpo, village
from rlhf_minimal.kl import k1
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import load
from rlhf_minimal.optim import update
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import sample

GROUP, PROMPTS, LENGTH = 8, 4, 40
LOSSES = {
    "REINFORCE": lambda lp, old, s, m: reinforce.reinforce_loss(lp, s - s.mean(), m),
    "RLOO": lambda lp, old, s, m: rloo.rloo_loss(lp, s, m, group_size=GROUP),
    "P3O": lambda lp, old, s, m: p3o.p3o_loss(lp, old, s, m),
    "GRPO": lambda lp, old, s, m: grpo.grpo_loss(lp, old, s, m, group_size=GROUP),
    "Dr. GRPO": lambda lp, old, s, m: grpo.grpo_loss(lp, old, s, m, group_size=GROUP, scale=False, mode="fixed"),
    "DAPO": lambda lp, old, s, m: grpo.grpo_loss(lp, old, s, m, group_size=GROUP, clip_high=0.28, mode="token_mean"),
    "GSPO": lambda lp, old, s, m: grpo.gspo_loss(lp, old, s, m, group_size=GROUP),
    "CISPO": lambda lp, old, s, m: grpo.cispo_loss(lp, old, s, m, group_size=GROUP),
}
METHODS = ("start", *LOSSES, "PPO", "TRPO")


def questions(n, families, split, seed):
    """n prompts, the families in turn."""
    kinds = [village.prompts(n // len(families), split=split, families=(f,), seed=seed, distinct=False) for f in families]
    return [row for one_each in zip(*kinds, strict=True) for row in one_each]


def golds(rows, texts):
    """(rows * n,) true rewards of n texts a row, prompt-major."""
    n = len(texts) // len(rows)
    return torch.tensor([village.gold(rows[i // n]["prompt"], text) for i, text in enumerate(texts)])


def answers(model, tokenizer, rows, n, seed):
    """n answers a row -> (rollout, their gold)."""
    drawn = sample(model, data.prompts_ids(rows, tokenizer), n=n, max_new_tokens=LENGTH, eos_id=tokenizer.eos_token_id,
                   generator=torch.Generator().manual_seed(seed))
    return drawn, golds(rows, drawn.texts(tokenizer))


def learn(name, policy, critic, optimizer, drawn, score, seed):
    """Two updates (TRPO: one) on one batch."""
    if name == "PPO":
        ppo.step(policy, optimizer, drawn, score, critic=critic, epochs=1, minibatches=2,
                 generator=torch.Generator().manual_seed(seed))
    elif name == "TRPO":
        trpo.step(policy, drawn, score, group_size=GROUP, delta=0.05)
    else:
        for half in torch.arange(len(score)).chunk(2):  # whole groups
            part = drawn.select(half)
            loss, _ = LOSSES[name](completion_logps(policy, part), part.logp_old, score[half], part.mask)
            update(loss, optimizer, max_norm=1.0)


def race(name, *, seed, steps, lr, families):
    """One method, one seed -> gold of each step's fresh samples, and gold, KL, words of held-out answers at the end."""
    start, tokenizer = load("village-3m-sft")
    policy, critic = copy.deepcopy(start), None
    weights = [{"params": policy.parameters(), "lr": lr}]
    if name == "PPO":
        critic = ppo.Critic(start)
        weights += [{"params": critic.trunk.parameters(), "lr": 3 * lr}, {"params": critic.head.parameters(), "lr": 100 * lr}]
    optimizer = torch.optim.AdamW(weights, weight_decay=0.0)
    rows, climb, spent = questions(steps * PROMPTS, families, "train", seed), [], 0.0
    for step in range(0 if name == "start" else steps):
        began = time.process_time()
        drawn, score = answers(policy, tokenizer, rows[PROMPTS * step:][:PROMPTS], GROUP, 1000 * seed + step)
        learn(name, policy, critic, optimizer, drawn, score, step)
        spent += time.process_time() - began
        climb.append(score.mean().item())
    with torch.no_grad():
        drawn, gold = answers(policy, tokenizer, questions(64, families, "test", seed), 2, 7 + seed)
        ref = drawn.on_completion(token_logps(start, drawn.ids, drawn.attention))
    kl = (k1(drawn.logp_old, ref) * drawn.mask).sum(1).mean().item()
    return {"climb": climb, "gold": gold.mean().item(), "kl": kl, "tokens": drawn.mask.sum(1).mean().item(),
            "seconds": spent / steps}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--families", nargs="+", default=["harmful", "lookalike"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    began, curve, final = time.process_time(), {"step": list(range(args.steps))}, []
    for seed in args.seeds:
        for name in args.methods:
            out = race(name, seed=seed, steps=args.steps, lr=args.lr, families=args.families)
            climb = [round(v, 4) for v in out.pop("climb")]
            curve |= {f"{name}, seed {seed}": climb} if climb else {}
            final.append({"method": name, "seed": seed} | {k: round(v, 4) for k, v in out.items()})
            print(final[-1], flush=True)
    arguments = f" --steps {args.steps} --lr {args.lr:g} --families {' '.join(args.families)}"
    record = {
        "command": "python data/runs/ch11_side_by_side.py" + arguments, "seed": args.seeds, "date": date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
        "hardware": f"{os.cpu_count()} CPU cores, 1 thread", "minutes of one core": round((time.process_time() - began) / 60, 1),
        "model": "village-3m-sft", "final": final, "curve": curve,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
