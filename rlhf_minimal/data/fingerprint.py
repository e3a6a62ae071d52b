"""Fingerprints: short names of contents, so that a run that goes on knows whether its data and weights are still the same.

They are the first 16 hexadecimal digits of a SHA-256 sum. The reference of a run is its starting model: one fingerprint.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn


def of_rows(rows: Iterable[dict]) -> str:
    """Of all rows in their order, every column.

    >>> of_rows([{"prompt": "a"}]) == of_rows([{"prompt": "a"}]) != of_rows([{"prompt": "b"}])
    True
    """
    total = hashlib.sha256()
    for row in rows:
        total.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
    return total.hexdigest()[:16]


@torch.no_grad()
def of_weights(model: nn.Module) -> str:
    """Of all weights and buffers that are saved: their names, types, shapes and bits."""
    total = hashlib.sha256()
    for name, x in sorted(model.state_dict().items()):
        total.update(f"{name} {x.dtype} {tuple(x.shape)}\n".encode())
        total.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()[:16]


def of_tokenizer(tokenizer: Any) -> str:
    """Of what makes ids of a text: vocabulary, added and special tokens, chat template."""
    added = {str(i): str(token) for i, token in sorted(tokenizer.added_tokens_decoder.items())}
    parts = [sorted(tokenizer.get_vocab().items()), added, tokenizer.chat_template, tokenizer.eos_token, tokenizer.bos_token]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


ROLES = {"policy": "the weights of policy and reference (--model)", "judge": "the weights of the judge (--reward)",
         "data": "the rows (--data)", "tokenizer": "the tokenizer (--model)",
         "judge's tokenizer": "the judge's tokenizer (--reward)"}


def compare(out: Path, before: dict | None, now: dict[str, str]) -> None:
    """Compare with the run that began in the folder `out`; before: its run.json, None where there is none.

    Raises ValueError if data, weights or tokenizers are no longer those that it began with, and names all that changed.
    """
    then = (before or {}).get("fingerprints", {})
    changed = [f"{ROLES.get(name, name)}: {x}, now {now.get(name)}" for name, x in then.items() if now.get(name) != x]
    if changed:
        raise ValueError(f"{out} began with other contents: {'; '.join(changed)}. Put them back, or give another --out")
    if before and not then:
        warnings.warn(f"run.json in {out} has no fingerprints, so data and weights are not compared", stacklevel=3)
