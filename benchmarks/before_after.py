"""Is this checkout slower than another one? `python -m benchmarks.before_after PATH_OF_THE_OTHER_CHECKOUT`

Each checkout runs in a process of its own; the two take turns, row by row, so that other load on the machine falls on
both. Printed for every row: time of the other ÷ time of this one, from the minima and from the medians (1 is as before).
Both load the village's models from their own checkout.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROWS = ("sampling 64 rows", "sampling 256 rows", "scoring 256 rows", "SFT step", "reward model step", "DPO step", "GRPO step",
        "PPO step")


def work():
    """{row: function that does its work once}, on whatever checkout is imported."""
    import torch

    from rlhf_minimal import data, direct_alignment, grpo, models, ppo, reward_model, sft
    from rlhf_minimal.logprobs import token_logps
    from rlhf_minimal.sampling import sample

    model, tokenizer = models.load("village-3m-sft")
    told = list(data.load_data("village", "demonstrations", n=32))
    pairs = list(data.load_data("templates", "pairs", n=16))
    ids = data.prompts_ids(list(data.load_data("village", "prompts", n=64)), tokenizer)
    demos, both = data.collate_demonstrations(told, tokenizer), data.collate_pairs(pairs, tokenizer)
    policies = {name: models.frozen_copy(model).requires_grad_(True) for name in ("sft", "dpo", "grpo", "ppo")}
    judge, reference, critic = reward_model.RewardModel(model), models.frozen_copy(model), ppo.Critic(model)

    def adam(*some):
        return torch.optim.AdamW([p for m in some for p in m.parameters()], lr=1e-6)

    optimizers = {name: adam(policy) for name, policy in policies.items()}
    optimizers |= {"ppo": adam(policies["ppo"], critic), "judge": adam(judge)}

    def draw(policy, n=8, count=8, new=64):
        return sample(policy, ids[:count], n=n, max_new_tokens=new, eos_id=tokenizer.eos_token_id,
                      generator=torch.Generator().manual_seed(0))

    fixed = draw(model, 4, 64)
    score = torch.arange(64.0) % 7

    def dpo():
        with torch.no_grad():
            both["ref_chosen"], both["ref_rejected"] = direct_alignment.pair_logps(reference, both)
        direct_alignment.step(policies["dpo"], optimizers["dpo"], both)

    return dict(zip(ROWS, (
        lambda: draw(model), lambda: draw(model, 4, 64), lambda: token_logps(reference, fixed.ids, fixed.attention),
        lambda: sft.step(policies["sft"], optimizers["sft"], demos),
        lambda: reward_model.step(judge, optimizers["judge"], both), dpo,
        lambda: grpo.step(policies["grpo"], optimizers["grpo"], draw(policies["grpo"]), score, group_size=8),
        lambda: ppo.step(policies["ppo"], optimizers["ppo"], draw(policies["ppo"]), score, critic=critic, epochs=2),
    ), strict=True))


def worker():
    """Read the name of a row from standard input, do its work, answer with seconds; until the input ends."""
    rows = work()
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        rows[line.strip()]()
        print(time.perf_counter() - start, flush=True)


def start(checkout):
    """A worker process on a checkout, ready."""
    env = os.environ | {"PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen([sys.executable, str(Path(__file__).resolve()), "--worker"], cwd=checkout, env=env, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if process.stdout.readline().strip() != "ready":
        raise SystemExit(f"{checkout} cannot run these rows")
    return process


def seconds(process, name):
    """How long a worker takes for a row."""
    process.stdin.write(name + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", nargs="?", type=Path, help="a checkout of another commit (git worktree add PATH COMMIT)")
    parser.add_argument("--reps", type=int, default=9)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker()
    if args.other is None or not (args.other / "rlhf_minimal").is_dir():
        parser.error("give the path of another checkout of this repository")
    sides = {"before": start(args.other.resolve()), "now": start(Path(__file__).resolve().parents[1])}
    print(f"{'row':<20}{'of minima':>10}{'of medians':>12}   (above 1: faster than before)")
    found = {}
    for name in ROWS:
        for side in sides.values():
            seconds(side, name)  # warm-up
        times = {side: [] for side in sides}
        for i in range(args.reps):
            for side in list(sides)[:: 1 if i % 2 else -1]:
                times[side].append(seconds(sides[side], name))
        found[name] = [min(times["before"]) / min(times["now"]),
                       statistics.median(times["before"]) / statistics.median(times["now"])]
        print(f"{name:<20}{found[name][0]:>10.2f}{found[name][1]:>12.2f}", flush=True)
    print(json.dumps({k: [round(x, 3) for x in v] for k, v in found.items()}))


if __name__ == "__main__":
    main()
