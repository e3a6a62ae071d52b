"""AI feedback: a model as judge, critic and reviser, a constitution, rubrics. Texts in, probabilities or texts out."""

import torch
import torch.nn.functional as F

from .chat import encode_completion, encode_prompt
from .logprobs import sequence_logps
from .tensors import as_float, check_no_nan, check_shapes, pad_right
from .village.tasks import REVISE_FORM

COMPARE = "{principle}\nQuestion: {ask}\nAnswer A: {a}\nAnswer B: {b}\nWhich answer is better, A or B?"
CRITIQUE = "Criticize this answer. {principle}\nQuestion: {ask}\nAnswer: {text}"
BETTER = "Which answer is better?"


def prefer_first(logp_a, logp_b):
    """p_A = e^a / (e^a + e^b) of the labels' log-probabilities (B,), (B,) -> (B,); all other tokens are left out.

    A probability, not the first letter of a generated verdict: that has format and position bias and no degrees.

    >>> round(prefer_first(torch.tensor([-1.0]), torch.tensor([-2.0])).item(), 4)
    0.7311
    """
    check_shapes(logp_a=logp_a, logp_b=logp_b)
    check_no_nan(logp_a=logp_a, logp_b=logp_b)
    return torch.sigmoid(as_float(logp_a) - as_float(logp_b))


def both_orders(there, back):
    """Mean preference for an answer over both places: there = p_A with it first, back = p_A with it second.

    (there + 1 - back) / 2. Swapping the answers turns x into 1 - x, so one that sees the place alone comes out at
    exactly 1/2. Biases that are not about the place stay.

    >>> both_orders(torch.tensor([0.9, 0.75]), torch.tensor([0.9, 0.25])).tolist()  # all place; all answer
    [0.5, 0.75]
    """
    check_shapes(there=there, back=back)
    for name, p in (("there", there), ("back", back)):
        if not ((p >= 0) & (p <= 1)).all():
            raise ValueError(f"{name} {tuple(p.shape)} holds values outside [0, 1] or NaN; give probabilities")
    return (there + 1 - back) / 2


def judge_prompt(ask, a, b, *, principle=BETTER, form=COMPARE):
    """The question put to a judge; `form` has the fields principle, ask, a and b.

    >>> print(judge_prompt("Where?", "Here.", "There.", principle="Be honest.").splitlines()[2])
    Answer A: Here.
    """
    return form.format(principle=principle, ask=ask, a=a, b=b)


def label_logps(model, tokenizer, prompts, label):
    """(B,) log-probability of answering each prompt (str or messages) with `label`, all its tokens, no EOS."""
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
def judge(model, tokenizer, asks, first, second, *, principle=BETTER, labels=("A", "B"), form=COMPARE):
    """P(first is better than second) by a generative judge, mean over both orders: three lists of B texts -> (B,).

    https://arxiv.org/abs/2309.00267. ValueError on lists of unequal or no length, two labels that are the same.
    """
    if not len(asks) == len(first) == len(second) or not len(asks):
        raise ValueError(f"{len(asks)} questions, {len(first)} and {len(second)} answers; give lists of one length")
    if len(set(labels)) != 2:
        raise ValueError(f"labels are {labels!r}; give two different ones")

    def place(a, b):
        prompts = [judge_prompt(*row, principle=principle, form=form) for row in zip(asks, a, b, strict=True)]
        return prefer_first(*(label_logps(model, tokenizer, prompts, label) for label in labels))

    return both_orders(place(first, second), place(second, first))


def critique_prompt(ask, text, *, principle, form=CRITIQUE):
    """Ask for what is wrong with an answer under a principle. https://arxiv.org/abs/2212.08073"""
    return form.format(principle=principle, ask=ask, text=text)


def revision_prompt(ask, text, *, principle, critique=None, form=REVISE_FORM):
    """Ask for a better answer, in the village's words; a critique, if there is one, follows the answer.

    >>> print(revision_prompt("Where?", "Go away.", principle="Be kind.", critique="Rude."))
    Revise this answer. Be kind.
    Question: Where?
    Answer: Go away.
    Critique: Rude.
    """
    return form.format(principle=principle, ask=ask, text=text) + (f"\nCritique: {critique}" if critique else "")


def draw_principles(constitution, n, *, rng):
    """n principles for n rounds, each drawn anew with equal chance (with replacement); rng: a `random.Random`.

    A constitution is drawn from, not obeyed as a whole: two of its principles may pull apart.
    """
    constitution = list(constitution)
    if isinstance(n, bool) or not isinstance(n, int) or n < 0 or not constitution:
        raise ValueError(f"{len(constitution)} principles, n is {n!r}; give at least one principle and n of 0 or more")
    return [rng.choice(constitution) for _ in range(n)]


def rubric_score(passed, weights, *, normalize=False):
    """sum_k w_k c_k: passed (B, K), each from 0 to 1, weights (K,) -> (B,); divided by the sum of |w| if `normalize`.

    https://arxiv.org/abs/2507.17746

    >>> rubric_score(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([2.0, -1.0])).tolist()
    [2.0, 1.0]
    """
    passed, weights = as_float(passed), as_float(weights)
    if passed.dim() != 2 or passed.shape[1:] != weights.shape:
        raise ValueError(f"passed {tuple(passed.shape)}, weights {tuple(weights.shape)}; give (B, K) and (K,)")
    if not ((passed >= 0) & (passed <= 1)).all() or not torch.isfinite(weights).all() or not weights.any():
        raise ValueError("a criterion lies outside [0, 1], or the weights are not finite or all 0; check the rubric")
    return F.linear(passed, weights) / (weights.abs().sum() if normalize else 1)
