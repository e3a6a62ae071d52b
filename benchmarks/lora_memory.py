"""Bytes that one training step holds, all weights against LoRA: parameters, gradients, Adam's state, the reference.

    python -m benchmarks.lora_memory                       village-3m
    python -m benchmarks.lora_memory NAME ... --store      any names that `models.load` knows; writes lora_memory.md

Counted from the tensors after one real step of SFT, so it is exact and the same on every machine. Activations are not
in it: they depend on the batch, and LoRA hardly changes them.
"""

import argparse
from pathlib import Path

import torch

from rlhf_minimal import models, sft

KINDS = ("all weights", "LoRA")
PARTS = ("parameters", "gradients", "optimizer", "reference")
STORED = Path(__file__).with_name("lora_memory.md")
HEAD = f"""# Memory of a training step: all weights against LoRA

Made by `python -m benchmarks.lora_memory NAME ... --store`. MB of 10^6 bytes, float32, Adam, rank 8 on the layers that
`models.lora` takes by default. The reference of all-weights training is a frozen copy; that of LoRA is the same model
with its adapters off, so it costs nothing. Activations are not counted.

| model | trained | {" | ".join(PARTS)} | total |
|---|---|---:|---:|---:|---:|---:|"""


def size(tensors):
    """Bytes of tensors."""
    return sum(x.numel() * x.element_size() for x in tensors)


def measure(model, kind):
    """Bytes by part after one step on eight tokens, {part: bytes} and "total". kind: one of KINDS; changes the model."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; choose one of {', '.join(KINDS)}")
    policy = models.lora(model) if kind == "LoRA" else model.requires_grad_(True)
    reference = None if kind == "LoRA" else models.frozen_copy(policy)
    optimizer = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], lr=1e-4)
    ids = torch.arange(8)[None]
    sft.step(policy, optimizer, {"ids": ids, "attention": torch.ones(1, 8), "mask": torch.ones(1, 8)})
    state = [x for held in optimizer.state.values() for x in held.values() if torch.is_tensor(x)]
    found = {"parameters": size(policy.parameters()), "optimizer": size(state)}
    found["gradients"] = size(p.grad for p in policy.parameters() if p.grad is not None)
    found["reference"] = size(reference.parameters()) if reference is not None else 0
    return found | {"total": sum(found.values())}


def rows(name, model):
    """Both lines of the table for a model; it stays as it is."""
    lines = []
    for kind in KINDS:
        found = measure(models.frozen_copy(model), kind)
        lines.append(f"| {name} | {kind} | " + " | ".join(f"{found[part] / 1e6:.2f}" for part in (*PARTS, "total")) + " |")
    return lines


def main(argv=None):
    """The command line: the table on the screen, or in its file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lora_memory", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=["village-3m"], help="what models.load takes")
    parser.add_argument("--store", action="store_true", help=f"write {STORED.name}")
    args = parser.parse_args(argv)
    text = "\n".join([HEAD, *(line for name in args.names for line in rows(name, models.load(name)[0])), ""])
    if args.store:
        STORED.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
