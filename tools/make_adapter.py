"""Train the village adapter of SmolLM2-135M: `python -m tools.make_adapter` (part of `make models`, about 20 minutes on 2 cores).

LoRA of rank 8 on every linear layer, trained on the village's demonstrations until the model answers in the village's
manner. Written in half precision to data/models/smollm2-135m-village, with a card and the held-out true reward before and
after. `rlhf_minimal.book.scales.start("smollm2")` merges it into the weights.
"""

import argparse
import json
import math
import os
import platform
import statistics
import time
from datetime import date
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from rlhf_minimal import SHIPPED, village
from rlhf_minimal.data import batches, collate_demonstrations, prompts_ids
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import load, lora
from rlhf_minimal.optim import update
from rlhf_minimal.sampling import sample
from rlhf_minimal.sft import sft_loss

LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FAMILIES = ("story", "fact", "sum", "harmful", "lookalike")
# SmolLM2's own template without the system turn that it adds by itself: 20 tokens less in every row
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@torch.no_grad()
def held_out(model, tokenizer, n=96) -> dict[str, dict]:
    """True reward of one answer to each of n held-out prompts, by family."""
    rows = village.prompts(n, families=FAMILIES, split="test", seed=1)
    texts = []
    for i in range(0, n, 16):
        drawn = sample(model, prompts_ids(rows[i:i + 16], tokenizer), max_new_tokens=72, eos_id=tokenizer.eos_token_id,
                       generator=torch.Generator().manual_seed(i))
        texts += drawn.texts(tokenizer)
    scores = [village.gold(r["prompt"], t) for r, t in zip(rows, texts, strict=True)]
    out = {}
    for family in ("all", *FAMILIES):
        some = [s for r, s in zip(rows, scores, strict=True) if family in ("all", r["family"])]
        out[family] = {"mean": round(statistics.fmean(some), 3), "n": len(some),
                       "standard_error": round(statistics.stdev(some) / len(some) ** 0.5, 3)}
    shown = list(zip(rows, texts, scores, strict=True))[:12]
    return out | {"texts": [{"prompt": r["prompt"], "completion": t, "gold": round(s, 2)} for r, t, s in shown]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4000, help="demonstrations (default %(default)s)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bfloat16", action="store_true", help="autocast; quicker where the processor has such units")
    parser.add_argument("--go-on", type=Path, help="start from the adapter in this folder, with other demonstrations")
    parser.add_argument("--out", type=Path, default=SHIPPED / "models" / "smollm2-135m-village")
    args = parser.parse_args()
    model, tokenizer = load("smollm2-135m")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(args.seed)
    policy = lora(model, r=8, targets=LAYERS, alpha=16)
    if args.go_on:
        load_adapter(policy, args.go_on)
    before = held_out(policy, tokenizer)
    print({k: v["mean"] for k, v in before.items() if k != "texts"}, flush=True)
    weights = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=args.lr, weight_decay=0.0)
    rows = village.demonstrations(args.rows, seed=args.seed, families=FAMILIES)
    curve, began, steps = {"step": [], "loss": []}, time.time(), args.rows // args.batch
    policy.train()
    bar = tqdm(batches(rows, args.batch, seed=args.seed, drop_last=True), total=steps, unit="step", mininterval=30)
    for step, some in enumerate(bar):
        rate = min((step + 1) / 10, 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate
        batch = collate_demonstrations(some, tokenizer, max_len=160)
        mask = batch["mask"][:, 1:]
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            logp = token_logps(policy, batch["ids"], batch["attention"], wanted=mask)
        loss, _ = sft_loss(logp, mask)
        update(loss, optimizer)
        curve["step"].append(step + 1)
        curve["loss"].append(round(loss.item(), 4))
        bar.set_postfix(loss=f"{loss.item():.3f}")
        if (step + 1) % 50 == 0 or step + 1 == steps:
            write(policy, tokenizer, args.out)
    minutes = (time.time() - began) / 60
    after = held_out(policy.eval(), tokenizer)
    print({k: v["mean"] for k, v in after.items() if k != "texts"}, flush=True)
    about = {"command": f"python -m tools.make_adapter --rows {args.rows} --batch {args.batch} --lr {args.lr:g}"
             + " --bfloat16" * args.bfloat16,
             "seed": args.seed, "date": date.today().isoformat(), "minutes": round(minutes, 1),
             "hardware": f"{os.cpu_count()} CPU cores ({platform.machine()})",
             "versions": {"torch": torch.__version__.split("+")[0]}, "dtype": "bfloat16" if args.bfloat16 else "float32",
             "curve": curve, "before": before, "after": after}
    if args.go_on:
        earlier = json.loads((args.go_on / "training.json").read_text(encoding="utf-8"))
        about["earlier"] = [*earlier.get("earlier", ()), f"{earlier['command']} (seed {earlier['seed']}, {earlier['dtype']})"]
    (args.out / "training.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    card(args.out, about)


def load_adapter(policy, folder: Path) -> None:
    """Put stored adapter weights into a model that has adapters of the same shape."""
    from peft import set_peft_model_state_dict

    stored = load_file(folder / "adapter_model.safetensors")
    found = set_peft_model_state_dict(policy, {k: v.float() for k, v in stored.items()})
    if found.unexpected_keys:
        raise ValueError(f"{folder} holds other adapters: {found.unexpected_keys[:3]}")


def write(policy, tokenizer, folder: Path) -> None:
    """peft's layout, in half precision, and the template beside it."""
    policy.save_pretrained(folder)
    path = folder / "adapter_model.safetensors"
    save_file({k: v.half().contiguous() for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
    (folder / "README.md").unlink(missing_ok=True)


def card(folder: Path, about: dict) -> None:
    """README.md: what it is, what it can do, how to rebuild it."""
    lines = ["# smollm2-135m-village", "", "LoRA (rank 8, every linear layer) for SmolLM2-135M-Instruct, trained on the village's",
             f"demonstrations; half precision. Made by `{about['command']}`",
             f"in {about['minutes']:.0f} minutes on {about['hardware']}" + (", going on from:" if about.get("earlier") else "."),
             *(["", *(f"- `{part}`" for part in about["earlier"]), ""] if about.get("earlier") else ()),
             "The base model is Apache-2.0, the adapter is under the MIT licence of this repository.", "",
             "True reward of one sampled answer to held-out prompts (temperature 1, n in brackets, ± standard error):", "",
             "| family | before | after |", "|---|---:|---:|"]
    for family, x in about["after"].items():
        if family != "texts":
            was = about["before"][family]
            both = (f"{y['mean']:.2f} ± {y['standard_error']:.2f}" for y in (was, x))
            lines.append(f"| {family} ({x['n']}) | {' | '.join(both)} |")
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
