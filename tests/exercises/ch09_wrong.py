"""Answers to the exercises of chapter 9: right ones, written in two ways, and wrong ones with the message they earn."""

import re

import torch

USER, ANSWER, END = "<|user|>", "<|assistant|>", "<|end|>"


def _marks(tokens, turns, keep):
    """1 where keep(role, kind); with turns="last" only in the last turn."""
    last, role, turn, about = sum(t == USER for t in tokens), "", 0, []
    for t in tokens:
        role, turn = (t, turn + (t == USER)) if t in (USER, ANSWER) else (role, turn)
        kind = "tag" if t in (USER, ANSWER) else "end" if t == END else "word"
        about.append(int(keep(role, kind) and (turns == "all" or turn == last)))
    return about


def mark_backwards(tokens, turns):
    out, done, inside = [0] * len(tokens), False, False
    for i in range(len(tokens) - 1, -1, -1):
        if tokens[i] == END:
            inside = True
            start = next(j for j in range(i, -1, -1) if tokens[j] in (USER, ANSWER))
            inside = tokens[start] == ANSWER and not done
        if tokens[i] in (USER, ANSWER):
            done = done or (inside and turns == "last")
            inside = False
        out[i] = int(inside)
    return out


def mark_right(tokens, turns):
    return _marks(tokens, turns, lambda role, kind: role == ANSWER and kind != "tag")


def labels_where(ids, attention, start):
    after = torch.arange(ids.shape[1]) >= start[:, None]
    return torch.where((attention == 1) & after, ids, -100)


def labels_loop(ids, attention, start):
    out = torch.full_like(ids, -100)
    for i in range(len(ids)):
        end = int(attention[i].sum())
        out[i, start[i]:end] = ids[i, start[i]:end]
    return out


def labels_first_end(ids, attention, start):
    after = torch.arange(ids.shape[1]) >= start[:, None]
    ends = ((ids == 0) & after).long()
    return torch.where(after & (ends.cumsum(1) - ends == 0), ids, -100)


def _after(ids, start):
    return torch.arange(ids.shape[1]) >= start[:, None]


def read_sums(turns):
    return sum(sum(map(sum, turns[:k + 1])) for k in range(len(turns))), sum(map(sum, turns))


def read_weights(turns):
    n = len(turns)
    return [sum((n - i) * (a + b) for i, (a, b) in enumerate(turns)), sum(a + b for a, b in turns)]


def _letters(ids, user, assistant, end):
    return "".join({user: "U", assistant: "A", end: "E"}.get(i, "w") for i in ids)


def misfit_pattern(ids, user, assistant, end):
    return re.fullmatch("(Uw+EAw+E)*Uw+EA", _letters(ids, user, assistant, end)) is None


def misfit_walk(ids, user, assistant, end):
    want, words = "user", 0
    for i in ids:
        if want in ("user", "assistant"):
            if i != {"user": user, "assistant": assistant}[want]:
                return True
            want, words = "words of the " + want, 0
        elif i in (user, assistant):
            return True
        elif i == end:
            if not words:
                return True
            want = "assistant" if want.endswith("user") else "user"
        else:
            words += 1
    return not (want == "words of the assistant" and words == 0)


def misfit_squeezed(ids, user, assistant, end):
    return re.fullmatch("(U+w+EA+w+E)*U+w+EA+", _letters(ids, user, assistant, end)) is None


def misfit_one_turn(ids, user, assistant, end):
    return re.fullmatch("Uw+EA", _letters(ids, user, assistant, end)) is None


def _windows(counts, window, rule):
    return [v for i in range(0, len(counts), window) for v in rule(counts[i:i + window])]


def weights_lists(counts, window):
    return _windows(counts, window, lambda part: [c / sum(part) for c in part])


def weights_tensor(counts, window):
    counts = torch.tensor(counts, dtype=torch.float64)
    step = torch.arange(len(counts)) // window
    return counts / torch.zeros(int(step[-1]) + 1, dtype=torch.float64).index_add(0, step, counts)[step]


def step_once(parts):
    return -sum((x * m).sum() for x, m in parts) / sum(m.sum() for _, m in parts)


def step_joined(parts):
    return -torch.cat([x[m > 0] for x, m in parts]).mean()


def _sum(parts):
    return -sum((x * m).sum() for x, m in parts)


def _means(parts):
    return [-(x * m).sum() / m.sum() for x, m in parts]


RIGHT = {
    "9.1": [step_once, step_joined],
    "9.2": [mark_right, mark_backwards],
    "9.3": [labels_where, labels_loop],
    "9.4": [read_sums, read_weights],
    "9.5": [misfit_pattern, misfit_walk],
    "9.6": [weights_lists, weights_tensor],
}

WRONG = {  # {exercise: {the misconception's name: answer}}
    "9.1": {
        "the sign of a loss": lambda parts: -step_once(parts),
        "the mean of means is the mean": lambda parts: sum(_means(parts)) / len(parts),
        "means add up": lambda parts: sum(_means(parts)),
        "the divisor is a learning rate": _sum,
        "a part is the unit": lambda parts: _sum(parts) / len(parts),
        "a row is the unit": lambda parts: _sum(parts) / sum(len(x) for x, _ in parts),
        "a token that does not count still divides": lambda parts: _sum(parts) / sum(x.numel() for x, _ in parts),
        "pretraining's loss": lambda parts: -torch.cat([x.flatten() for x, _ in parts]).mean(),
        "another loss": lambda parts: 0.5,
        "the wrong kind of answer": lambda parts: parts,
    },
    "9.2": {
        "the loss must cover the prompt so that the model sees it": lambda tokens, turns: [1] * len(tokens),
        "the end token belongs to the template":
            lambda tokens, turns: _marks(tokens, turns, lambda role, kind: role == ANSWER and kind == "word"),
        "every end token is an answer's":
            lambda tokens, turns: [int(a or t == END) for a, t in zip(mark_right(tokens, turns), tokens, strict=True)],
        "the role tag is part of the answer":
            lambda tokens, turns: _marks(tokens, turns, lambda role, kind: role == ANSWER),
        "one mask for both": lambda tokens, turns: mark_right(tokens, "all"),
        "turns count once either way": lambda tokens, turns: mark_right(tokens, "last"),
        "the roles are swapped":
            lambda tokens, turns: _marks(tokens, turns, lambda role, kind: role == USER and kind != "tag"),
        "the shift belongs to the mask": lambda tokens, turns: [*mark_right(tokens, turns)[1:], 0],
        "another set of tokens": lambda tokens, turns: [0] * len(tokens),
        "the wrong length": lambda tokens, turns: mark_right(tokens, turns)[1:],
        "the wrong kind of answer": lambda tokens, turns: tokens,
    },
    "9.3": {
        "generation length is a sampling setting":
            lambda ids, attention, start: torch.where((ids != 0) & _after(ids, start), ids, -100),
        "padding is text": lambda ids, attention, start: torch.where(_after(ids, start), ids, -100),
        "the loss must cover the prompt so that the model sees it":
            lambda ids, attention, start: torch.where(attention == 1, ids, -100),
        "the first pad is an end token": labels_first_end,
        "zero means ignore": lambda ids, attention, start: labels_where(ids, attention, start).clamp(min=0),
        "the shift belongs to the labels":
            lambda ids, attention, start: torch.cat([labels_where(ids, attention, start)[:, 1:],
                                                     torch.full((len(ids), 1), -100)], 1),
        "another set of labels": lambda ids, attention, start: ids,
        "the wrong kind of answer": lambda ids, attention, start: start,
    },
    "9.4": {
        "turns count once either way": lambda turns: (sum(map(sum, turns)),) * 2,
        "the two are swapped": lambda turns: read_sums(turns)[::-1],
        "earlier answers are not in the prompt":
            lambda turns: (sum(sum(a for a, _ in turns[:k + 1]) + turns[k][1] for k in range(len(turns))),
                           sum(map(sum, turns))),
        "the answer is not read":
            lambda turns: (read_sums(turns)[0] - sum(b for _, b in turns), read_sums(turns)[1]),
        "what is masked is free":
            lambda turns: read_sums([(0, b) for _, b in turns]),
        "a copy sees the turns after it": lambda turns: (len(turns) * sum(map(sum, turns)), sum(map(sum, turns))),
        "another count": lambda turns: (0, 0),
        "the wrong kind of answer": lambda turns: "many",
        "the wrong length": lambda turns: [1],
    },
    "9.5": {
        "templates are cosmetic": lambda *a: False,
        "a detector that always rings": lambda *a: True,
        "the detector upside down": lambda *a: not misfit_pattern(*a),
        "the generation prompt is all that matters": lambda ids, user, assistant, end: ids[-1] != assistant,
        "the start is all that matters": lambda ids, user, assistant, end: ids[0] != user,
        "a prompt has one turn": misfit_one_turn,
        "two start tokens do no harm": misfit_squeezed,
        "another grammar": lambda ids, user, assistant, end: end not in ids,
        "the wrong kind of answer": lambda ids, *a: ids[0],
    },
    "9.6": {
        "accumulation is exactly a bigger batch": lambda counts, window: [1 / window] * len(counts),
        "the mean of means is the mean":
            lambda counts, window: _windows(counts, window, lambda part: [1 / len(part)] * len(part)),
        "one denominator for everything": lambda counts, window: [c / sum(counts) for c in counts],
        "the divisor is a learning rate": lambda counts, window: counts,
        "divided twice": lambda counts, window: [1 / c for c in counts],
        "other factors": lambda counts, window: [1.0] * len(counts),
        "the wrong length": lambda counts, window: [1.0],
        "the wrong kind of answer": lambda counts, window: window,
    },
}
