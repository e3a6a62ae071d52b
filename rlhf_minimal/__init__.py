"""rlhf_minimal: post-training of language models from scratch, small enough to read in an evening.

    import rlhf_minimal as rlhf
    model, tokenizer = rlhf.models.load("village-3m-sft")
    rollout = rlhf.sampling.sample(model, prompts, max_new_tokens=64, eos_id=tokenizer.eos_token_id)

Nothing is loaded here: a module is loaded when it is named, so that every call says where it lives. The files, in the
order in which data flows, are listed in the README beside this file; each imports only from those above it.
"""

import importlib
from pathlib import Path

__version__ = "0.2.0"

_HERE = Path(__file__).resolve().parent
# Models, Pool, samples and recorded runs: inside the package in a wheel, beside it in a checkout. The only place that asks.
SHIPPED = next((p for p in (_HERE / "shipped", _HERE.parent / "data") if (p / "village.md").exists()), _HERE / "shipped")

MODULES = (
    "equations", "files", "quiet", "tensors", "village", "models", "chat", "forward", "logprobs", "rollout", "decoding",
    "sampling", "kl",
    "advantages", "aggregate", "optim", "sft", "reward_model", "process_reward", "best_of_n", "filtering", "active",
    "reinforce", "rloo", "ppo", "grpo", "p3o", "trpo", "direct_alignment", "ilql", "distillation", "ai_feedback",
    "data", "evaluate", "train", "extract", "commands", "book",
)


def __getattr__(name: str):
    if name in MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its modules are {', '.join(MODULES)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *MODULES])
