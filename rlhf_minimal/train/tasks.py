"""For each algorithm: make a batch -> loss. `advance(job, step)` is one step of any of them -> stats.

Losses are those of the algorithms' own files; here they only get the denominator of the whole step. A mean over rows
of a micro-batch is turned into its part of the step's mean by the share of its rows.
"""

import torch

from .. import direct_alignment as da
from ..data import collate_demonstrations, collate_pairs, prompts_ids
from ..logprobs import sequence_logps, token_logps
from ..models import unwrap
from ..reward_model import pairwise_loss
from ..sampling import sample
from ..sft import sft_loss
from .job import NO_REFERENCE, learn
from .policy import policy_gradient
from .settings import ALGORITHMS

AVERAGE = ("ipo", "simpo", "orpo")  # these work on means a token (G4, G5, G6)
LOSSES = {"dpo": da.dpo_loss, "rdpo": da.rdpo_loss, "ipo": da.ipo_loss, "hinge": da.hinge_loss, "apo-zero": da.apo_zero_loss,
          "apo-down": da.apo_down_loss, "dpo-nll": da.dpo_nll_loss, "simpo": da.simpo_loss, "orpo": da.orpo_loss,
          "cpo": da.cpo_loss}


def advance(job, step):
    """One step, counted from 0 -> (stats, rows for samples.jsonl or None)."""
    if ALGORITHMS[job.algorithm].data == "prompts":
        return policy_gradient(job, step)
    make, loss, weigh = {"sft": (demonstrations, sft, tokens), "reward": (pairs, reward, rows_of_pairs),
                         "kto": (thumbs, kto, rows)}.get(job.algorithm, (pairs, preference, rows_of_pairs))
    batch = make(job, job.batch(step))
    stats = learn(job, batch, lambda piece, total: loss(job, piece, total), weigh)
    return stats | {"tokens": sum(job.gather([int(piece["mask"].sum()) for piece in batch]))}, None


def own(job):
    """The algorithm's own settings, as its loss takes them."""
    return {name: getattr(job.s, name) for name in ALGORITHMS[job.algorithm].own}


def on(job, batch):
    """A batch on this process's device."""
    return {name: x.to(job.device) for name, x in batch.items()}


# --- what a loss is a mean over ---------------------------------------------------------------------------------------
def tokens(piece):
    """Learned tokens; the first of a row has nothing before it."""
    return piece["mask"][:, 1:].sum()


def rows(piece):
    """Rows."""
    return len(piece["mask"])


def rows_of_pairs(piece):
    """Pairs: the chosen and the rejected answers stand in one batch (G10)."""
    return len(piece["mask"]) / 2


# --- demonstrations, pairs, thumbs --------------------------------------------------------------------------------------
def demonstrations(job, batch):
    """Rows of a step -> this process's micro-batches."""
    return [on(job, collate_demonstrations(x, job.tokenizer, job.s.max_len)) for _, x in job.mine(job.pieces(batch))]


def sft(job, piece, total):
    """Mean over all tokens of the step (H1)."""
    logp = token_logps(job.model, piece["ids"], piece["attention"])
    return sft_loss(logp, piece["mask"][:, 1:], denominator=total)


def pairs(job, batch):
    """Rows of a step -> micro-batches, with the reference's log-probabilities where the loss has them."""
    out = [on(job, collate_pairs(x, job.tokenizer, job.s.max_len)) for _, x in job.mine(job.pieces(batch))]
    if job.algorithm not in NO_REFERENCE:
        with job.referring() as reference, job.precision():
            for piece in out:
                logps = da.pair_logps(reference, piece, average=job.algorithm in AVERAGE)
                piece["ref_chosen"], piece["ref_rejected"] = logps
    return out


def reward(job, piece, total):
    """Bradley-Terry, mean over the pairs of the step."""
    chosen, rejected = job.model(piece["ids"], piece["attention"]).chunk(2)
    loss, stats = pairwise_loss(chosen, rejected, **own(job))
    return loss * (rows_of_pairs(piece) / total), stats


def preference(job, piece, total):
    """A direct-alignment loss, mean over the pairs of the step."""
    logps = [*da.pair_logps(job.model, piece, average=job.algorithm in AVERAGE)]
    if "ref_chosen" in piece:
        logps += [piece["ref_chosen"], piece["ref_rejected"]]
    more = {"lengths": piece["mask"].sum(1).chunk(2)[0]} if job.algorithm == "dpo-nll" else {}
    loss, stats = LOSSES[job.algorithm](*logps, **own(job), **more)
    return loss * (rows_of_pairs(piece) / total), stats


def thumbs(job, batch):
    """Rows of a step -> micro-batches; the KL estimate is one number for all of them, from mismatched rows (G7)."""
    other = [a | {"completion": b["completion"]} for a, b in zip(batch, batch[1:] + batch[:1], strict=True)]
    out, shifted = demonstrations(job, batch), demonstrations(job, other)
    ratios = []
    with job.referring() as reference, job.precision():
        for piece, wrong in zip(out, shifted, strict=True):
            piece["ref"] = sequence_logps(reference, piece["ids"], piece["attention"], piece["mask"])
            wrong["ref"] = sequence_logps(reference, wrong["ids"], wrong["attention"], wrong["mask"])
    with torch.no_grad(), job.precision():
        for wrong in shifted:
            logp = sequence_logps(unwrap(job.model), wrong["ids"], wrong["attention"], wrong["mask"])
            ratios += (logp - wrong["ref"]).tolist()
    z0 = torch.tensor(job.gather(ratios), dtype=torch.float64)
    for piece, (_, some) in zip(out, job.mine(job.pieces(batch)), strict=True):
        piece["label"] = torch.tensor([int(r["label"]) for r in some], device=job.device)
        piece["kl"] = z0.to(job.device)
    return out


def kto(job, piece, total):
    """Single answers, mean over the rows of the step."""
    logp = sequence_logps(job.model, piece["ids"], piece["attention"], piece["mask"])
    loss, stats = da.kto_loss(logp - piece["ref"], piece["label"], piece["kl"], **own(job))
    return loss * (rows(piece) / total), stats


# --- tables -------------------------------------------------------------------------------------------------------------
@torch.no_grad()
def table(job, step, count=4):
    """Samples of the model as it is, for the algorithms that draw none; for a reward model, its scores of pairs."""
    rows = [job.rows[i] for i in range(min(count, len(job.rows)))]
    model = unwrap(job.model)
    if job.algorithm == "reward":
        batch = on(job, collate_pairs(rows, job.tokenizer, job.s.max_len))
        scores = model(batch["ids"], batch["attention"]).tolist()
        return [{"prompt": r["prompt"], "chosen": r["chosen"], "rejected": r["rejected"], "score_chosen": round(scores[i], 4),
                 "score_rejected": round(scores[i + len(rows)], 4)} for i, r in enumerate(rows)]
    new = min(64, job.s.max_len - 1)
    ids = prompts_ids(rows, job.tokenizer, job.s.max_len - new)
    rollout = sample(model, ids, max_new_tokens=new, eos_id=job.tokenizer.eos_token_id, generator=job.stream("table", step))
    return [{"prompt": r["prompt"], "completion": x} for r, x in zip(rows, rollout.texts(job.tokenizer), strict=True)]
