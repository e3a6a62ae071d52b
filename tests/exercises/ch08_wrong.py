"""Answers to the exercises of chapter 8: right ones, written in two ways, and wrong ones with the message they earn."""

import torch
import torch.nn.functional as F

from rlhf_minimal.kl import exact_kl, k1, k2, k3


def _var(logp, x):
    p = logp.exp()
    return (p * x**2).sum() - (p * x).sum() ** 2


def needed_moments(logp, logq, width):
    return [(_var(logp, k(logp, logq)) / width**2).item() for k in (k1, k3)]


def needed_centred(logp, logq, width):
    out = []
    for x in (logp - logq, (logq - logp).exp() - 1 + logp - logq):
        mean = (logp.exp() * x).sum()
        out.append((logp.exp() * (x - mean) ** 2).sum() / width**2)
    return torch.stack(out)


def needed_reference(logp, logq, width):
    return [(_var(logq, k(logp, logq)) / width**2).item() for k in (k1, k3)]


def term_rho_k3(logp, logp_ref):
    return (logp - logp.detach()).exp() * k3(logp, logp_ref)


def term_two_parts(logp, logp_ref):
    pull = k2(logp, logp_ref)
    return k1(logp, logp_ref).detach() + pull - pull.detach()


def term_rho_k1(logp, logp_ref):
    return (logp - logp.detach()).exp() * (logp - logp_ref)


def kl_repaired(logits, logits_ref, mask):
    each = F.kl_div(logits_ref.log_softmax(-1), logits.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    return (each * mask).sum() / mask.sum()


def kl_exact(logits, logits_ref, mask):
    return exact_kl(logits[mask.bool()], logits_ref[mask.bool()]).mean().item()


def _div(logits, logits_ref, **how):
    return F.kl_div(logits_ref.log_softmax(-1), logits.log_softmax(-1), log_target=True, **how)


def bug_error(kl):
    return bool(kl.mean() < -3 * kl.std() / len(kl) ** 0.5)


def bug_t(kl):
    n, mean = len(kl), sum(kl.tolist()) / len(kl)
    variance = sum((v - mean) ** 2 for v in kl.tolist()) / (n - 1)
    return mean / (variance / n) ** 0.5 < -2.5


RIGHT = {
    "8.4": [needed_moments, needed_centred],
    "8.2": [lambda beta, length, sd: beta * sd / length, lambda beta, length, sd: sd * (beta / length)],
    "8.1": [term_rho_k3, term_two_parts],
    "8.5": [kl_repaired, kl_exact],
    "8.3": [bug_error, bug_t],
}

WRONG = {  # {exercise: {the misconception's name: answer}}
    "8.4": {
        "k3 is always better": lambda p, q, w: [needed_moments(p, q, w)[0], min(needed_moments(p, q, w))],
        "the wrong order": lambda p, q, w: needed_moments(p, q, w)[::-1],
        "the samples come from the reference": needed_reference,
        "a second moment is a variance": lambda p, q, w: [(p.exp() @ k(p, q) ** 2 / w**2).item() for k in (k1, k3)],
        "the error falls like one over n": lambda p, q, w: [(_var(p, k(p, q)) ** 0.5 / w).item() for k in (k1, k3)],
        "k3 upside down": lambda p, q, w: [(_var(p, x) / w**2).item() for x in (k1(p, q), k3(q, p))],
        "all answers are equally likely": lambda p, q, w: [(k(p, q).var() / w**2).item() for k in (k1, k3)],
        "another noise was computed": lambda p, q, w: [(_var(p, k(p, q)) / w).item() for k in (k1, k3)],
        "the wrong kind of answer": lambda p, q, w: 3.0,
    },
    "8.2": {
        "beta transfers": lambda beta, length, sd: beta,
        "the scale of the reward does not matter": lambda beta, length, sd: beta / length,
        "sum and mean are the same": lambda beta, length, sd: beta * sd,
        "multiplied by the length": lambda beta, length, sd: beta * length * sd,
        "the reward's scale upside down": lambda beta, length, sd: beta / (length * sd),
        "another price was found": lambda beta, length, sd: beta * sd / length**0.5,
        "the wrong kind of answer": lambda beta, length, sd: "small",
    },
    "8.1": {
        "unbiased value means unbiased gradient": k1,
        "k3 pulls on the KL that it measures": k3,
        "the right gradient means the right value": k2,
        "a detached term pulls": lambda logp, logp_ref: k1(logp, logp_ref).detach(),
        "the gradient is counted twice": lambda logp, logp_ref: k1(logp, logp_ref) ** 2,
        "the log-ratio upside down": lambda logp, logp_ref: term_rho_k1(logp, logp_ref) * -1,
        "another term": lambda logp, logp_ref: k3(logp_ref, logp),
        "the wrong kind of answer": lambda logp, logp_ref: k1(logp, logp_ref).sum(),
    },
    "8.5": {
        "batchmean is the mean over tokens": lambda p, q, m: _div(p, q, reduction="batchmean"),
        "padding belongs to the mean": lambda p, q, m: exact_kl(p, q).mean(),
        "the arguments in the order of the formula": lambda p, q, m: kl_repaired(q, p, m),
        "the target is a log-probability by default": lambda p, q, m: F.kl_div(
            q.log_softmax(-1), p.log_softmax(-1), reduction="batchmean"),
        "a mean of means": lambda p, q, m: ((exact_kl(p, q) * m).sum(1) / m.sum(1)).mean(),
        "mean over the vocabulary": lambda p, q, m: _div(p, q, reduction="mean"),
        "sum for mean": lambda p, q, m: (exact_kl(p, q) * m).sum(),
        "another mean": lambda p, q, m: 0.5 * kl_repaired(p, q, m),
        "the wrong kind of answer": lambda p, q, m: exact_kl(p, q),
    },
    "8.3": {
        "KL estimates cannot be negative": lambda kl: bool(kl.mean() < 0),
        "negative means are always noise": lambda kl: bool(kl.mean() < -3 * kl.std()),
        "a detector that always rings": lambda kl: True,
        "most samples must be positive": lambda kl: bool((kl < 0).double().mean() > 0.5),
        "the detector upside down": lambda kl: not bug_error(kl),
        "far from zero is suspicious": lambda kl: bool(kl.mean().abs() > 3 * kl.std() / len(kl) ** 0.5),
        "another threshold": lambda kl: bool(kl.mean() < -0.8 * kl.std() / len(kl) ** 0.5),
        "the wrong kind of answer": lambda kl: kl,
    },
}
