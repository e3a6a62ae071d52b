"""The village's sums as material for outcome and process models: hidden states of every token, and which steps are right.

A sum is worked out digit by digit; each sentence is a step. A step is right if correct column addition has that sentence in
this place, and an answer is right if its result is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import village
from ..chat import encode_completion, encode_prompt
from ..data.pool import Pool
from ..forward import hidden_states
from ..process_reward import IGNORE
from ..reward_model import fit_head
from ..tensors import pad_right


@dataclass(frozen=True, eq=False)
class Worked:
    """B answers to requests for a sum, read by a model: prompt and answer in one padded row each."""

    states: Tensor  # (B, L, H) last hidden states
    mask: Tensor  # (B, L) bool, the answer's own tokens, its end included
    steps: Tensor  # (B, L) 1 or 0 at the last token of a step, IGNORE elsewhere
    right: Tensor  # (B,) 1 where the result is right

    @property
    def ends(self) -> Tensor:
        """(B, L) bool: where a step ends. An answer without any step is judged at its prompt's first token."""
        ends = self.steps != IGNORE
        ends[~ends.any(1), 0] = True
        return ends

    def tokens(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values (B, L) and the outcome of their answer, for all tokens of all answers: (N,), (N,) float64."""
        return values[self.mask], self.right[:, None].expand(self.mask.shape)[self.mask].double()


def labelled(prompt: str, ids: list[int], pieces: list[str]) -> tuple[list[int], int]:
    """Labels of the tokens of one answer -> (a label or IGNORE for each id, 1 if the result is right)."""
    info = village.parse(prompt).info
    expected, total = village.tasks.working(info["a"], info["b"])
    steps, text, n, right = [IGNORE] * len(ids), "", 0, 0
    for t, token in enumerate(ids):
        text += pieces[token]
        if text.endswith("."):
            said, text = text.strip(), ""
            if "=" in said:
                steps[t], n = int(said in expected[n:n + 1]), n + 1
            elif "result is" in said:
                steps[t] = right = int(said == f"The result is {total}.")
    return steps, right


@torch.no_grad()
def read(model: nn.Module, tokenizer, prompts: list[str], answers: list[list[int]], *, batch: int = 64) -> Worked:
    """Hidden states and labels of answers, given as ids with their end token."""
    pieces = [tokenizer.decode([i]) for i in range(len(tokenizer))]
    heads = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    found = [labelled(p, ids, pieces) for p, ids in zip(prompts, answers, strict=True)]
    ids, on = pad_right([h + a for h, a in zip(heads, answers, strict=True)], tokenizer.eos_token_id)
    states = torch.cat([hidden_states(model, *x) for x in zip(ids.split(batch), on.split(batch), strict=True)])
    mask = pad_right([[0] * len(h) + [1] * len(a) for h, a in zip(heads, answers, strict=True)])[0].bool()
    steps = pad_right([[IGNORE] * len(h) + s for h, (s, _) in zip(heads, found, strict=True)], IGNORE)[0]
    return Worked(states, mask, steps, torch.tensor([right for _, right in found]))


def read_pool(model: nn.Module, tokenizer, pool: Pool) -> Worked:
    """`read` for the stored answers of a Pool of sums."""
    prompts = [pool.prompts[i] for i in pool.prompt.tolist()]
    return read(model, tokenizer, prompts, [pool.ids[i, :pool.lengths[i]].tolist() for i in range(len(pool))])


def read_texts(model: nn.Module, tokenizer, prompts: list[str], texts: list[str]) -> Worked:
    """`read` for answers as text."""
    return read(model, tokenizer, prompts, [encode_completion(tokenizer, text)[0] for text in texts])


def total(pool: Pool) -> Tensor:
    """(B,) the result that each answer of a Pool of sums should have."""
    info = [village.parse(pool.prompts[i]).info for i in pool.prompt.tolist()]
    return torch.tensor([x["a"] + x["b"] for x in info])


def logistic(x: Tensor, label: Tensor, l2: float = 0.03) -> Tensor:
    """Logistic regression, (N, H), (N,) 0/1 -> weights and, last, a bias, (H + 1,) float64.

    It is Bradley-Terry against an opponent whose score is always zero, and so `reward_model.fit_head` solves it.
    """
    x = torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64)], 1) * (2 * label.double()[:, None] - 1)
    return fit_head(x, torch.zeros_like(x), l2=l2)


def logit(x: Tensor, weight: Tensor) -> Tensor:
    """What `logistic` predicts, before the sigmoid: (..., H), (H + 1,) -> (...)."""
    return x.double() @ weight[:-1] + weight[-1]
