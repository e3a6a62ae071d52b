"""Multiple choice by log-likelihood: which of several continuations does a model find most likely, and by which rule?"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..logprobs import token_logps
from ..tensors import pad_right

LETTERS = "ABCDEFGH"
RULES = ("sum", "per token")


@torch.no_grad()
def option_logps(model: nn.Module, tokenizer, prompts: Sequence[str], options: Sequence[Sequence[str]], *,
                 size: int = 64) -> tuple[Tensor, Tensor]:
    """Log-probabilities of K options after each of N prompts: (sum over the option's tokens, number of tokens), (N, K) each.

    prompts: texts as the model reads them; a template must be rendered beforehand. Prompt and option are tokenized apart, so
    an option brings its own leading space where it needs one. size: rows in a batch. In nats.
    Raises ValueError for unequal numbers of options and for an option without tokens.
    """
    counts = {len(row) for row in options}
    if len(prompts) != len(options) or len(counts) != 1:
        raise ValueError(f"{len(prompts)} prompts and {len(options)} rows of {sorted(counts)} options: give each prompt a row, "
                         "all rows of one length")
    rows = [(tokenizer(prompt).input_ids, tokenizer(text, add_special_tokens=False).input_ids)
            for prompt, row in zip(prompts, options, strict=True) for text in row]
    if empty := [i for i, (_, said) in enumerate(rows) if not said]:
        raise ValueError(f"option {empty[0] % counts.pop()} of prompt {empty[0] // len(options[0])} has no tokens; give a text")
    sums, tokens = [], torch.tensor([len(said) for _, said in rows])
    for start in range(0, len(rows), size):
        part = rows[start:start + size]
        ids, attention = pad_right([asked + said for asked, said in part])
        mask, _ = pad_right([[0] * len(asked) + [1] * len(said) for asked, said in part])
        sums.append((token_logps(model, ids, attention) * mask[:, 1:]).sum(1))
    return torch.cat(sums).view(len(prompts), -1), tokens.view(len(prompts), -1)


def chosen(logp: Tensor, tokens: Tensor, rule: str = "sum") -> Tensor:
    """Which option wins in each row, (N, K), (N, K) -> (N,): the highest sum, or the highest mean per token.

    The sum is the probability of the whole option and favours short ones; the mean does not. ValueError for another rule.

    >>> chosen(torch.tensor([[-3.0, -4.0]]), torch.tensor([[1, 2]])).item()
    0
    >>> chosen(torch.tensor([[-3.0, -4.0]]), torch.tensor([[1, 2]]), "per token").item()
    1
    """
    if rule not in RULES:
        raise ValueError(f"rule {rule!r}: expected one of {', '.join(RULES)}")
    return (logp if rule == "sum" else logp / tokens).argmax(1)


def lettered(question: str, options: Sequence[str]) -> str:
    """A question with lettered options under it, ending in "Answer:".

    >>> print(lettered("Where does the fox live?", ["mill", "barn"]))
    Question: Where does the fox live?
    A. mill
    B. barn
    Answer:
    """
    if not 2 <= len(options) <= len(LETTERS):
        raise ValueError(f"{len(options)} options: give 2 to {len(LETTERS)}")
    return "\n".join([f"Question: {question}", *(f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False)),
                      "Answer:"])
