"""Many answers to each question: pass@k and pass^k with intervals over questions, majority votes, and where two models differ."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor, nn

from .. import sft
from ..advantages import leave_one_out
from ..chat import encode_prompt, end_ids
from ..data import collate_demonstrations
from ..forward import next_token_logits, put_back
from ..models import copy_of
from ..rollout import Rollout, completion_logps
from ..sampling import answer, sample
from ..tensors import pad_left, positions
from ..village import checkers
from .exams import clustered, sums
from .metrics import pass_at_k, pass_hat_k


@dataclass
class Passes:
    """n answers to each of P questions: texts, question after question; which are right (P, n); tokens (P, n)."""

    prompts: list[str]
    texts: list[str]
    right: Tensor
    tokens: Tensor
    rollout: Rollout | None = None

    @property
    def n(self) -> int:
        return self.right.shape[1]

    def per_question(self, k: int = 1, fn: Callable = pass_at_k) -> Tensor:
        """(P,) the unbiased pass@k of each question (or pass^k, with fn=pass_hat_k)."""
        count = self.right.sum(1).long()
        return fn(torch.full_like(count, self.n), count, torch.full_like(count, k))

    def at(self, k: int = 1) -> tuple[float, float]:
        """(pass@k, half width of its 95 % interval over questions)."""
        return clustered(self.per_question(k))

    def all_of(self, k: int) -> tuple[float, float]:
        """(pass^k, half width of its 95 % interval over questions)."""
        return clustered(self.per_question(k, pass_hat_k))

    def gain(self, start: Passes, k: int = 1) -> tuple[float, float]:
        """(pass@k minus that of `start`, half width of the 95 % interval of the paired differences over questions)."""
        if self.prompts != start.prompts:
            raise ValueError("the two have different questions; give both the same prompts")
        return clustered(self.per_question(k) - start.per_question(k))

    def vote(self, k: int) -> tuple[float, float]:
        """(accuracy of the majority of the first k answers, half width of its 95 % interval over questions).

        What is counted is the last number that an answer states as its result; answers that state none do not vote. Of
        equally common results the first one wins.
        """
        if not 1 <= k <= self.n:
            raise ValueError(f"a vote of {k}: there are {self.n} answers to each question")
        found = []
        for i in range(len(self.prompts)):
            said = [stated(text) for text in self.texts[i * self.n:i * self.n + k]]
            counts = Counter(s for s in said if s)
            best = counts.most_common(1)[0][0] if counts else None
            found.append(self.right[i][said.index(best)].item() if best else 0.0)
        return clustered(torch.tensor(found))


def stated(text: str) -> str:
    """The last result that an answer states, "" where it states none.

    >>> stated("2 + 1 = 3. The result is 83.")
    '83'
    """
    return (re.findall(r"result is (\d+)\.", text) or [""])[-1]


def showing_work(texts: Sequence[str]) -> Tensor:
    """(N,) 1 where an answer writes at least one addition before its result.

    >>> showing_work(["1 + 6 = 7. The result is 7.", "The result is 7."]).tolist()
    [1.0, 0.0]
    """
    return torch.tensor([float(bool(checkers.equations(text))) for text in texts])


def answering_briefly(
    model: nn.Module, tokenizer, steps: int = 10, *, rate: float = 1e-4, size: int = 8, seed: int = 0,
) -> nn.Module:
    """A copy of a model after a few steps of supervised finetuning on right answers that show no working.

    Each step reads `size` sums of two numbers with two digits, of the training split, with the completion "The result is …".
    """
    pupil, asked = copy_of(model), sums(size * steps, split="train", seed=1000 + seed)
    optimizer = torch.optim.AdamW(pupil.parameters(), lr=rate, weight_decay=0.0)
    for i in range(0, size * steps, size):
        rows = [{"prompt": p, "completion": f"The result is {checkers.asked(p)}."} for p in asked[i:i + size]]
        sft.step(pupil, optimizer, collate_demonstrations(rows, tokenizer), max_norm=float("inf"))
    return pupil


def passes(
    model: nn.Module, tokenizer, prompts: Sequence[str], check: Callable[[str, str], float], *, n: int = 16,
    max_new_tokens: int = 48, temperature: float = 1.0, generator: torch.Generator | None = None,
    first: Sequence[int] | None = None,
) -> Passes:
    """Let a model answer each prompt n times; `check(prompt, text)` says 1 or 0.

    first: the ids that the first token of an answer is drawn from (default: all); the model then goes on freely, and the
    result has no rollout, because its answers were not drawn from the model alone.
    """
    prompts = list(prompts)
    if first is not None:
        texts, tokens = opened(model, tokenizer, prompts, first, n, max_new_tokens, temperature, generator)
        right = torch.tensor([check(prompts[i // n], text) for i, text in enumerate(texts)]).view(-1, n)
        return Passes(prompts, texts, right, tokens.view(-1, n))
    rollout = answer(model, tokenizer, prompts, n=n, max_new_tokens=max_new_tokens, temperature=temperature, generator=generator)
    texts = rollout.texts(tokenizer)
    right = torch.tensor([check(prompts[i // n], text) for i, text in enumerate(texts)]).view(-1, n)
    return Passes(prompts, texts, right, rollout.mask.sum(1).view(-1, n), rollout)


@torch.no_grad()
def opened(
    model: nn.Module, tokenizer, prompts: Sequence[str], first: Sequence[int], n: int, max_new_tokens: int, temperature: float,
    generator: torch.Generator | None,
) -> tuple[list[str], Tensor]:
    """(texts, their tokens): n answers to each prompt whose first token is drawn from the ids `first`, the rest freely."""
    asked = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    ids, attention = pad_left(asked)
    logits = model(ids, attention_mask=attention, position_ids=positions(attention)).logits[:, -1].float()
    barred = torch.ones(logits.shape[1], dtype=torch.bool)
    barred[list(first)] = False
    logits = logits.masked_fill(barred, -torch.inf)
    if temperature == 0:
        opening = logits.argmax(1, keepdim=True).expand(-1, n)
    else:
        opening = torch.multinomial((logits / temperature).softmax(1), n, replacement=True, generator=generator)
    rows = [[*ids, token] for ids, tokens in zip(asked, opening.tolist(), strict=True) for token in tokens]
    rest = sample(model, rows, max_new_tokens=max_new_tokens - 1, eos_id=end_ids(tokenizer, model), temperature=temperature,
                  generator=generator)
    ends = zip(opening.flatten().tolist(), rest.texts(tokenizer), strict=True)
    return [tokenizer.decode([token]) + text for token, text in ends], 1 + rest.mask.sum(1)


def by_chance(found: Passes, k: int) -> float:
    """pass@k of answers that do not know their question: each question is given the results stated for all the others.

    A question whose result is stated in a share q of the answers to other questions is solved with 1 - (1 - q)^k.
    """
    said = [stated(text) for text in found.texts]
    hits = []
    for i, prompt in enumerate(found.prompts):
        others = said[:i * found.n] + said[(i + 1) * found.n:]
        hits.append(others.count(str(checkers.asked(prompt))) / len(others))
    return sum(1 - (1 - q) ** k for q in hits) / len(hits)


@torch.no_grad()
def ranks(model: nn.Module, rollout: Rollout) -> Tensor:
    """(B, T) the rank that `model` gives to each sampled token, 1 for its most likely one; 0 off the mask."""
    wanted, found = rollout.full_mask[:, 1:].bool(), []
    for logits, token, place in next_token_logits(model, rollout.ids, rollout.attention, wanted):
        found.append((place, (logits > logits.gather(1, token[:, None])).sum(1) + 1))
    return rollout.on_completion(put_back(found, wanted.shape))


def gradient_norms(model: nn.Module, found: Passes) -> Tensor:
    """(P,) for each question the norm of the policy gradient that its own n answers give, with RLOO's advantage.

    The gradient of -mean over the answers of advantage times log-probability. A question whose answers are all right, or
    all wrong, gives exactly 0.
    """
    weights, norms = [w for w in model.parameters() if w.requires_grad], []
    for right, rows in zip(found.right, torch.arange(len(found.texts)).view(-1, found.n), strict=True):
        adv, some = leave_one_out(right, found.n), found.rollout.select(rows)
        loss = -(adv[:, None] * completion_logps(model, some) * some.mask).sum() / found.n
        grads = torch.autograd.grad(loss, weights, allow_unused=True)
        norms.append(sum(g.square().sum() for g in grads if g is not None).sqrt())
    return torch.stack(norms).detach()


def vote_accuracy(right: float, rival: float, n: int) -> float:
    """How often n votes elect the right answer: it has probability `right`, one rival `rival`, all others never agree.

    Exact. Of equally common answers one is drawn. With n votes, x for the right one and y for the rival:
    sum over x, y of the multinomial probability times 1 / (number of answers that share the first place).

    >>> round(vote_accuracy(0.6, 0.4, 1), 4), round(vote_accuracy(0.6, 0.4, 3), 4)  # 3 votes: p^3 + 3 p^2 (1 - p)
    (0.6, 0.648)
    """
    other = 1 - right - rival
    if min(right, rival) < 0 or other < -1e-9 or n < 1:
        raise ValueError(f"right {right}, rival {rival}, n {n}: need probabilities that sum to at most 1, and n of at least 1")
    total = 0.0
    for x in range(1, n + 1):
        for y in range(n - x + 1):
            rest = n - x - y
            if y > x:
                continue
            tied = 1 + (y == x) + (rest if x == 1 else 0)
            total += comb(n, x) * comb(n - x, y) * right**x * rival**y * max(other, 0.0)**rest / tied
    return total
