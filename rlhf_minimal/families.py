"""Families: what a model of transformers is and does, asked and not assumed.

There are about two hundred families of causal language models. They write dropout in four ways, count positions in three, and
keep caches of ten kinds. So a model of a family that is not known by hand is run on a few tokens before it is used: does a token
see those after it, is anything left to chance in training mode? docs/models.md has the families and what was found.
"""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

# ---- sizes ----

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
    sizes = (getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len"))
    return next((n for n in sizes if n and n > 0), None)  # XLNet says -1


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


# ---- dropout ----

CHANCE = re.compile("drop|jitter", re.IGNORECASE)  # dropout, attn_pdrop, layerdrop, router_jitter_noise, ...


def check_steady(model: nn.Module) -> None:
    """Raise ValueError if a model of transformers whose dropout is switched off still draws random numbers in training mode."""
    family = base_of(model)
    if is_known(family) or family in _STEADY:
        return
    if not is_steady(family):
        configs = {id(x.config): x.config for x in family.modules() if hasattr(x, "config")}
        for config in configs.values():  # it stays as it is where nothing reads it: it is saved with the model
            switch_off_numbers(vars(config))
        if not is_steady(family):
            raise ValueError(f"{type(family).__name__} draws random numbers in training mode that no dropout setting explains "
                             "(a router that samples?); its log-probabilities are not reproducible, take another model")
    _STEADY.add(family)


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[nn.Module]:
    """Training or evaluation inside the block; afterwards every submodule has its own mode again, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield model
    finally:
        for module, before in modes:
            module.training = before


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
    try:
        with in_mode(model, training=True), torch.random.fork_rng(devices=[ids.device] if ids.device.type == "cuda" else []):
            for _ in range(times):
                outs.append(main_output(model(input_ids=ids, **zero_types(model, ids))).float())
    except Exception:
        return True
    return all(same_up_to(1e-4, outs[0], x) for x in outs)


# ---- what it computes ----

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
        with in_mode(model, training=False):
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
    """Whether two tensors differ by at most this share of the spread of the first one's finite numbers."""
    finite = a.detach()[a.isfinite()]
    spread = (finite - finite.mean()).square().mean().sqrt().nan_to_num()  # 0 where no number is finite
    return torch.allclose(b, a, atol=share * float(spread), rtol=0, equal_nan=True)


def noise(model: nn.Module) -> float:
    """How far two ways of computing the same logits may differ, in their standard deviations."""
    return 2e-3 if next(model.parameters()).dtype in (torch.float32, torch.float64) else 5e-2


def mark_padding(model: nn.Module, tokenizer: Any) -> None:
    """Give a reward model another special token than EOS to pad with.

    Transformers' own class scores the last id that is no pad: with pad = EOS, the token before the end. Without another
    special token (GPT-2) that class takes single rows only.
    """
    end = tokenizer.eos_token_id
    others = [t.content for i, t in sorted(tokenizer.added_tokens_decoder.items()) if t.special and i != end]
    if others:
        tokenizer.pad_token = others[0]
    model.config.pad_token_id = tokenizer.pad_token_id if others else None
