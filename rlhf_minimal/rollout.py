"""What sampling gives and every algorithm takes: the one data type that matters."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .chat import decode
from .logprobs import token_logps
from .tensors import as_mask, check_shapes


@dataclass
class Rollout:
    """B sampled rows: prompts of width P (left-padded), completions of width T (right-padded), L = P + T.

    The mask is made where the tokens are made (A3): 1 on sampled tokens, EOS included (A4).
    """

    ids: Tensor  # (B,L) int64
    attention: Tensor  # (B,L) float32
    prompt_len: int  # P
    mask: Tensor  # (B,T) float32, equal to the attention of the completion
    logp_old: Tensor  # (B,T) log-probabilities at the sampling temperature, 0 off the mask
    group: Tensor  # (B,) int64 index of the prompt; rows of one prompt are adjacent
    ended: Tensor  # (B,) bool: stopped by an EOS, not by the length limit (B10)

    def __post_init__(self):
        check_shapes(ids=self.ids, attention=self.attention)
        check_shapes(mask=self.mask, logp_old=self.logp_old)
        check_shapes(group=self.group, ended=self.ended)
        rows, width = self.ids.shape
        if (len(self.mask), self.prompt_len + self.mask.shape[1], len(self.group)) != (rows, width, rows):
            raise ValueError(f"ids {rows} x {width}, prompt_len {self.prompt_len}, mask {tuple(self.mask.shape)}, "
                             f"group {len(self.group)}; widths must add up and rows agree")
        self.attention, self.mask = as_mask(self.attention, "attention"), as_mask(self.mask)
        if (self.attention[:, self.prompt_len:] != self.mask).any():
            raise ValueError("the attention of the completions differs from their mask; nothing follows the first EOS")

    def __len__(self):
        return len(self.ids)

    @property
    def completion_ids(self):
        """(B,T) ids of the completions."""
        return self.ids[:, self.prompt_len:]

    @property
    def full_mask(self):
        """(B,L) mask as wide as `ids`, 0 on prompts: for `sequence_logps`."""
        return torch.cat([self.mask.new_zeros(len(self), self.prompt_len), self.mask], 1)

    def completion_logps(self, logps):
        """(B,L-1) from `token_logps` -> (B,T): the columns that score the completion start at P-1 (B1)."""
        if logps.shape != (len(self), self.ids.shape[1] - 1):
            want = (len(self), self.ids.shape[1] - 1)
            raise ValueError(f"logps is {tuple(logps.shape)}; token_logps of this rollout is {want}")
        return logps[:, self.prompt_len - 1:]

    def select(self, rows):
        """The rollout of some rows (ids, a slice or a bool mask), in that order; `group` travels with its row (D9)."""
        rows = torch.as_tensor(rows, device=self.ids.device) if not isinstance(rows, slice) else rows
        return Rollout(self.ids[rows], self.attention[rows], self.prompt_len, self.mask[rows], self.logp_old[rows],
                       self.group[rows], self.ended[rows])

    def texts(self, tokenizer):
        """B completions as text: nothing after the first EOS, no special tokens but the calculator's tags."""
        rows = zip(self.completion_ids, self.mask.bool(), strict=True)
        return [decode(tokenizer, row[on].tolist()) for row, on in rows]


def completion_logps(model: nn.Module, rollout: Rollout, *, temperature: float = 1.0) -> Tensor:
    """Log-probabilities of a rollout's sampled tokens under `model`, at the temperature they were sampled with.

    Returns (B,T), in nats, 0 off the mask; gradients flow if they are switched on. Raises as `token_logps`.
    """
    logps = token_logps(model, rollout.ids, rollout.attention, temperature=temperature, wanted=rollout.full_mask[:, 1:])
    return rollout.completion_logps(logps)
