"""RLHF_SCALE: the same page on the village model, on SmolLM2-135M, or on GPT-2.

The two larger models do not speak as the village does. A LoRA adapter, trained on the village's demonstrations, teaches
them; it is merged into the weights at load, so that the model has no adapter left that "adapters off" could remove.
"""

import os
import tempfile
from pathlib import Path

from .. import SHIPPED

SCALES = ("village", "smollm2", "gpt2")
ADAPTER = "smollm2-135m-village"  # shipped in data/models


def most_steps() -> int | None:
    """RLHF_STEPS, or None where it is not set. ValueError on anything but a whole number of at least 1."""
    text = os.environ.get("RLHF_STEPS") or ""
    if text and not (text.isdecimal() and int(text) >= 1):
        raise ValueError(f"RLHF_STEPS={text}: expected a whole number of at least 1")
    return int(text) if text else None


def start(scale: str):
    """(model, tokenizer) from which the main run of a page starts. OSError, with what to do, where a part is missing."""
    from ..models import load

    if scale == "village":
        return load("village-3m-sft")
    if scale == "smollm2":
        return with_adapter(*load("smollm2-135m"), SHIPPED / "models" / ADAPTER)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlhf-minimal" / "gpt2-village"
    model, tokenizer = load("gpt2")
    if not (folder / "adapter_config.json").exists():
        print("teaching GPT-2 the village's manner, once; this takes some minutes")
        train_adapter(model, tokenizer, folder)
        model, tokenizer = load("gpt2")
    return with_adapter(model, tokenizer, folder)


def with_adapter(model, tokenizer, folder: Path):
    """`model` with the LoRA adapter of a folder merged into its weights, in float32 and eval mode, and the tokenizer.

    A chat template beside the adapter becomes the tokenizer's: the adapter has seen no other.
    """
    if not (folder / "adapter_config.json").exists():
        raise OSError(f"no adapter in {folder.name} of data/models; run `make models` in the repository to make it")
    from peft import PeftModel

    if (folder / "chat_template.jinja").exists():
        tokenizer.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload().float().eval(), tokenizer


def train_adapter(model, tokenizer, folder: Path, *, steps: int = 300, size: int = 16, rate: float = 1e-3) -> None:
    """Train a LoRA adapter on the village's demonstrations and write it, in half precision, whole or not at all."""
    import torch

    from .. import data, models, sft, village

    rows = village.demonstrations(steps * size, seed=0)
    policy = models.lora(model, r=8).train()
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    for batch in data.batches(rows, size, seed=0):
        sft.step(policy, optimizer, data.collate_demonstrations(batch, tokenizer))
    for weight in policy.parameters():
        if weight.requires_grad:
            weight.data = weight.data.half()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        policy.save_pretrained(Path(place) / "done")
        try:
            os.replace(Path(place) / "done", folder)
        except OSError:  # another process was faster
            if not (folder / "adapter_config.json").exists():
                raise
