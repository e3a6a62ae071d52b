"""AI feedback: a model as judge, critic and reviser; a constitution; rubrics. Texts in, probabilities or texts out.

Prompts are made from templates, strings with named fields, which every function takes as an argument. The defaults below
are plain English; a model that was trained on other words wants those.
"""

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .chat import encode_completion, encode_prompt
from .logprobs import sequence_logps
from .tensors import as_float, check_no_nan, check_shapes, pad_right

COMPARE = "{principle}\nQuestion: {ask}\nAnswer A: {a}\nAnswer B: {b}\nWhich answer is better, A or B?"
CRITIQUE = "Criticize this answer. {principle}\nQuestion: {ask}\nAnswer: {text}"
REVISE = "Revise this answer. {principle}\nQuestion: {ask}\nAnswer: {text}"
BETTER = "Which answer is better?"  # the principle where none is given


# ---- a judge ----

def prefer_first(logp_a: Tensor, logp_b: Tensor) -> Tensor:
    """The judge's probability that answer A is better, e^a / (e^a + e^b), from the log-probabilities of its two labels.

    logp_a, logp_b (B,), in nats; all other tokens are left out. It is a probability, where the first letter of a generated
    verdict would have no degrees, and would depend on the format. Returns (B,). Raises ValueError for a NaN.

    >>> round(prefer_first(torch.tensor([-1.0]), torch.tensor([-2.0])).item(), 4)
    0.7311
    """
    check_shapes(logp_a=logp_a, logp_b=logp_b)
    check_no_nan(logp_a=logp_a, logp_b=logp_b)
    return torch.sigmoid(as_float(logp_a) - as_float(logp_b))


def both_orders(there: Tensor, back: Tensor) -> Tensor:
    """The preference for an answer, averaged over both places: (there + 1 - back) / 2.

    there (B,): the judge's probability for whatever stands first, with this answer first; back (B,): the same with this
    answer second. A judge that sees the place alone comes out at exactly 1/2; biases that are not about the place stay.
    Returns (B,). Raises ValueError for values outside 0 to 1.

    >>> both_orders(torch.tensor([0.9, 0.75]), torch.tensor([0.9, 0.25])).tolist()  # all place; all answer
    [0.5, 0.75]
    """
    check_shapes(there=there, back=back)
    for name, p in (("there", there), ("back", back)):
        if not ((p >= 0) & (p <= 1)).all():
            raise ValueError(f"{name} {tuple(p.shape)} holds values outside [0, 1] or NaN; give probabilities")
    return (there + 1 - back) / 2


def judge_prompt(ask: str, a: str, b: str, *, principle: str = BETTER, template: str = COMPARE) -> str:
    """The question put to a judge. The template has the fields principle, ask, a and b.

    >>> print(judge_prompt("Where?", "Here.", "There.", principle="Be honest.").splitlines()[2])
    Answer A: Here.
    """
    return template.format(principle=principle, ask=ask, a=a, b=b)


def label_logps(model: nn.Module, tokenizer, prompts: Sequence, label: str) -> Tensor:
    """Log-probability of answering each prompt with `label`: all its tokens, without an end-of-sequence token.

    prompts: B texts or lists of messages. Returns (B,), in nats. Raises ValueError for a label without tokens.
    """
    answer, _ = encode_completion(tokenizer, label, eos=False)
    if not answer:
        raise ValueError(f"the label {label!r} has no tokens; give a short text such as 'A'")
    before = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    ids, attention = pad_right([row + answer for row in before])
    mask = torch.zeros_like(attention)
    for i, row in enumerate(before):
        mask[i, len(row): len(row) + len(answer)] = 1
    device = next(model.parameters()).device
    return sequence_logps(model, *(x.to(device) for x in (ids, attention, mask)))


@torch.no_grad()
def judge(
    model: nn.Module, tokenizer, asks: Sequence[str], first: Sequence[str], second: Sequence[str], *,
    principle: str = BETTER, labels: tuple[str, str] = ("A", "B"), template: str = COMPARE,
) -> Tensor:
    """The probability that the first answer is better than the second, by a generative judge, averaged over both orders.

    asks, first, second: B texts each. `labels`: what the judge is to answer. Returns (B,). Raises ValueError for lists of
    unequal or no length and for two labels that are the same. Lee et al. 2023, https://arxiv.org/abs/2309.00267
    """
    if not len(asks) == len(first) == len(second) or not len(asks):
        raise ValueError(f"{len(asks)} questions, {len(first)} and {len(second)} answers; give lists of one length")
    if len(set(labels)) != 2:
        raise ValueError(f"labels are {labels!r}; give two different ones")

    def prefer_what_stands_first(a: Sequence[str], b: Sequence[str]) -> Tensor:
        prompts = [judge_prompt(*row, principle=principle, template=template) for row in zip(asks, a, b, strict=True)]
        return prefer_first(*(label_logps(model, tokenizer, prompts, label) for label in labels))

    return both_orders(prefer_what_stands_first(first, second), prefer_what_stands_first(second, first))


def label_error(bias: float | Tensor, noise: float | Tensor, n: float | Tensor) -> Tensor:
    """Expected squared error of the mean of n labels: bias^2 + noise^2 / n.

    bias: what all labels of one source have in common beside the truth; noise: the standard deviation of a single label, drawn
    independently. Numbers or tensors that broadcast. Returns a float64 tensor. Raises ValueError for n below 1, a negative
    noise, a NaN.

    >>> label_error(0.5, 4.0, torch.tensor([16.0, 64.0])).tolist()
    [1.25, 0.5]
    """
    bias, noise, n = (torch.as_tensor(x, dtype=torch.float64) for x in (bias, noise, n))
    if not (n >= 1).all() or not (noise >= 0).all() or bias.isnan().any():
        raise ValueError(f"bias {bias.tolist()}, noise {noise.tolist()}, n {n.tolist()}; give numbers, a noise of 0 or more and "
                         "n of 1 or more")
    return bias ** 2 + noise ** 2 / n


# ---- a constitution: critique and revision ----

def critique_prompt(ask: str, text: str, *, principle: str, template: str = CRITIQUE) -> str:
    """Ask what is wrong with an answer under a principle. The template has the fields principle, ask and text.

    Bai et al. 2022, https://arxiv.org/abs/2212.08073
    """
    return template.format(principle=principle, ask=ask, text=text)


def revision_prompt(
    ask: str, text: str, *, principle: str, critique: str | None = None, template: str = REVISE,
) -> str:
    """Ask for a better answer. The template has the fields principle, ask and text; a critique follows it, if there is one.

    >>> print(revision_prompt("Where?", "Go away.", principle="Be kind.", critique="Rude."))
    Revise this answer. Be kind.
    Question: Where?
    Answer: Go away.
    Critique: Rude.
    """
    return template.format(principle=principle, ask=ask, text=text) + (f"\nCritique: {critique}" if critique else "")


def draw_principles(constitution: Sequence[str], n: int, *, rng: random.Random) -> list[str]:
    """n principles for n rounds of revision, each drawn anew and with equal chance.

    A constitution is drawn from, not obeyed as a whole: two of its principles may contradict each other. Raises ValueError
    for an empty constitution or a negative n.
    """
    constitution = list(constitution)
    if isinstance(n, bool) or not isinstance(n, int) or n < 0 or not constitution:
        raise ValueError(f"{len(constitution)} principles, n is {n!r}; give at least one principle and n of 0 or more")
    return [rng.choice(constitution) for _ in range(n)]


# ---- rubrics ----

def rubric_score(passed: Tensor, weights: Tensor, *, normalize: bool = False) -> Tensor:
    """A score from a rubric: the weighted sum of the criteria that an answer meets, sum_k w_k c_k.

    passed (B, K), each from 0 to 1; weights (K,). With `normalize`, the sum is divided by the sum of |w|. Returns (B,).
    Raises ValueError for shapes that do not fit and values out of range.
    Gunjal et al. 2025, https://arxiv.org/abs/2507.17746

    >>> rubric_score(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([2.0, -1.0])).tolist()
    [2.0, 1.0]
    """
    passed, weights = as_float(passed), as_float(weights)
    if passed.dim() != 2 or passed.shape[1:] != weights.shape:
        raise ValueError(f"passed {tuple(passed.shape)}, weights {tuple(weights.shape)}; give (B, K) and (K,)")
    if not ((passed >= 0) & (passed <= 1)).all() or not torch.isfinite(weights).all() or not weights.any():
        raise ValueError("a criterion lies outside [0, 1], or the weights are not finite or all 0; check the rubric")
    return F.linear(passed, weights) / (weights.abs().sum() if normalize else 1)
