"""Decoding one token at a time, quickly: a key-value cache that is written in place, and a plain GPT-2 step.

Nothing here is another model: the same weights, the same sums, without what a general forward asks at every token.
"""

import torch
import torch.nn.functional as F
from transformers import GPT2LMHeadModel
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.pytorch_utils import Conv1D


class Slots(DynamicLayer):
    """One layer's keys and values (R,H,L,D) in room made once: a new token, or a row that moves, is written in place."""

    def __init__(self, layer, steps):
        super().__init__()
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, True
        self.room = [F.pad(x, (0, 0, 0, steps)) for x in (layer.keys, layer.values)]
        self._show(*layer.keys.shape[0::2])

    def _show(self, rows, length):
        self.keys, self.values = (x[:rows, :, :length] for x in self.room)

    def update(self, key_states, value_states, *_, **__):
        """Write the next tokens, (R,H,n,D) each -> all keys and values so far."""
        rows, _, start, _ = self.keys.shape
        end = start + key_states.shape[2]
        self.room[0][:rows, :, start:end] = key_states
        self.room[1][:rows, :, start:end] = value_states
        self._show(rows, end)
        return self.keys, self.values

    def move(self, to, source, rows):
        """Rows `source` into the places `to`; the first `rows` stay."""
        length = self.keys.shape[2]
        for x in self.room:
            x[to, :, :length] = x[source, :, :length]
        self._show(rows, length)


def with_room(cache, steps):
    """A plain growing cache as Slots with room for `steps` more tokens; any other cache as it is."""
    if type(cache) is DynamicCache and cache.layers and all(type(x) is DynamicLayer for x in cache.layers):
        cache.layers = [Slots(layer, steps) for layer in cache.layers]
    return cache


def in_place(cache):
    """Whether rows of the cache move at little cost."""
    return bool(getattr(cache, "layers", None)) and isinstance(cache.layers[0], Slots)


def drop(cache, live):
    """Keep the rows where live (R,) -> their old places, in their new order: the last ones fill the gaps."""
    if not in_place(cache):
        keep = live.nonzero().flatten()
        cache.batch_select_indices(keep)
        return keep
    count = int(live.sum())
    order = torch.arange(count, device=live.device)
    to, source = (~live[:count]).nonzero().flatten(), count + live[count:].nonzero().flatten()
    order[to] = source
    for layer in cache.layers:
        layer.move(to, source, count)
    return order


def _plain(model, cache):
    """Whether `gpt2_step` computes what the model's own forward would: nothing adapted, hooked, replaced or autocast."""
    if type(model) is not GPT2LMHeadModel or not in_place(cache) or "forward" in vars(model):
        return False
    c, blocks = model.config, model.transformer.h
    linear = [x for b in blocks for x in (b.attn.c_attn, b.attn.c_proj, b.mlp.c_fc, b.mlp.c_proj)]
    return (c.scale_attn_weights and not c.scale_attn_by_inverse_layer_idx and not c.add_cross_attention
            and type(model.lm_head) is torch.nn.Linear and all(type(x) is Conv1D for x in linear)
            and not any(x._forward_hooks or x._forward_pre_hooks for x in model.modules())
            and not torch.is_autocast_enabled(model.device.type))


def gpt2_step(model, cache, attention):
    """A function (ids, positions, rows), (R,) each -> logits (R,V), one token a row through a plain GPT-2; else None.

    attention (B,P): that of the prompts, by sample; rows: which samples the R rows of the cache, `Slots`, belong to.
    """
    if not _plain(model, cache):
        return None
    trunk, heads = model.transformer, model.config.n_head
    blocks = [([_norm(b.ln_1), _norm(b.ln_2)], b.attn.c_attn, b.attn.c_proj, b.mlp.c_fc, b.mlp.c_proj, b.mlp.act) for b in trunk.h]
    blocks = [(norms, *((x.bias, x.weight) for x in linear), act) for norms, *linear, act in blocks]
    words, places, last, head = trunk.wte.weight, trunk.wpe.weight, _norm(trunk.ln_f), model.lm_head.weight
    bias = torch.zeros_like(attention, dtype=words.dtype).masked_fill_(attention == 0, float("-inf"))
    padded = bool((attention == 0).any())

    def step(ids, position, rows):
        x, width = words[ids] + places[position], cache.layers[0].keys.shape[2] + 1
        mask = F.pad(bias[rows], (0, width - bias.shape[1]))[:, None, None] if padded else None
        for layer, (norms, qkv, out, up, down, act) in zip(cache.layers, blocks, strict=True):
            h = torch.addmm(qkv[0], F.layer_norm(x, *norms[0]), qkv[1])
            q, k, v = h.view(len(h), 3, heads, 1, -1).unbind(1)  # (R,H,1,D) each
            h = F.scaled_dot_product_attention(q, *layer.update(k, v), attn_mask=mask)
            x = x + torch.addmm(out[0], h.reshape(len(h), -1), out[1])
            h = act(torch.addmm(up[0], F.layer_norm(x, *norms[1]), up[1]))
            x = x + torch.addmm(down[0], h, down[1])
        return F.linear(F.layer_norm(x, *last), head)

    return step


def _norm(layer):
    """What F.layer_norm takes after its input."""
    return layer.normalized_shape, layer.weight, layer.bias, layer.eps
