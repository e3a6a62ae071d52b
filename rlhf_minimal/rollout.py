"""A rollout: what sampling gives and every algorithm takes. The one data type that matters."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .chat import decode
from .logprobs import token_logps
from .models import Tokenizer
from .tensors import as_mask, check_shapes


@dataclass
class Rollout:
    """B sampled rows: prompts of width P (left-padded), then completions of width T (right-padded); L = P + T.

    The mask is 1 on sampled tokens, the end token (EOS) included. It is made where the tokens are made, and never guessed
    from pad ids later: a model may well sample the id that pads.

    Raises ValueError for widths or rows that do not fit together, and for a mask that differs from the attention.
    """

    ids: Tensor  # (B,L) int64
    attention: Tensor  # (B,L) float32
    prompt_len: int  # P
    mask: Tensor  # (B,T) float32, equal to the attention of the completion
    logp_old: Tensor  # (B,T) log-probabilities at the sampling temperature, 0 off the mask
    group: Tensor  # (B,) int64 index of the prompt; rows of one prompt stand next to each other
    ended: Tensor  # (B,) bool: stopped by an EOS, not by the length limit

    def __post_init__(self) -> None:
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

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def completion_ids(self) -> Tensor:
        """The ids of the completions, (B,T)."""
        return self.ids[:, self.prompt_len:]

    @property
    def full_mask(self) -> Tensor:
        """The mask as wide as `ids`, (B,L), 0 on prompts: what `sequence_logps` takes."""
        return torch.cat([self.mask.new_zeros(len(self), self.prompt_len), self.mask], 1)

    def on_completion(self, x: Tensor) -> Tensor:
        """The part of x (B,L-1) that belongs to the completion, (B,T). x: what `token_logps` gives for this rollout.

        Entry t of x scores token t+1, so that the first one of the completion stands at P-1, not at P.
        """
        if x.shape != (len(self), self.ids.shape[1] - 1):
            want = (len(self), self.ids.shape[1] - 1)
            raise ValueError(f"x is {tuple(x.shape)}; token_logps of this rollout is {want}")
        return x[:, self.prompt_len - 1:]

    def select(self, rows: Tensor | Sequence[int] | slice) -> "Rollout":
        """The rollout of some rows (numbers, a slice or a bool mask), in that order; `group` travels with its row."""
        rows = torch.as_tensor(rows, device=self.ids.device) if not isinstance(rows, slice) else rows
        return Rollout(self.ids[rows], self.attention[rows], self.prompt_len, self.mask[rows], self.logp_old[rows],
                       self.group[rows], self.ended[rows])

    def texts(self, tokenizer: Tokenizer) -> list[str]:
        """The B completions as text: nothing after the first EOS, no special tokens but the calculator's tags."""
        rows = zip(self.completion_ids, self.mask.bool(), strict=True)
        return [decode(tokenizer, ids[sampled].tolist()) for ids, sampled in rows]


def completion_logps(model: nn.Module, rollout: Rollout, *, temperature: float = 1.0) -> Tensor:
    """Log-probabilities of a rollout's sampled tokens under `model`, at the temperature they were sampled with.

    Returns (B,T), in nats, 0 off the mask; gradients flow if they are switched on. Raises as `token_logps`.
    """
    logps = token_logps(model, rollout.ids, rollout.attention, temperature=temperature, wanted=rollout.full_mask[:, 1:])
    return rollout.on_completion(logps)
