"""One training step of any algorithm: rows -> micro-batches -> loss -> update.

Given answers (demonstrations, pairs, thumbs) are here, sampled ones in `policy.py`. The losses are those of the
algorithms' own files.
"""

import torch
from torch import Tensor

from .. import direct_alignment
from ..chat import end_ids
from ..data import collate_demonstrations, collate_pairs, prompts_ids
from ..logprobs import sequence_logps, token_logps
from ..models import unwrap
from ..sampling import sample
from .job import Job, call_loss, gather_object, learn
from .policy import policy_step

Batch = dict[str, Tensor]
LossAndStats = tuple[Tensor, dict[str, Tensor]]


def train_step(job: Job, step: int) -> tuple[dict[str, float], list[dict] | None]:
    """One step, counted from 0 -> (stats, rows for samples.jsonl or None)."""
    if job.algorithm.rows == "prompts":
        return policy_step(job, step)
    batches_of, loss_of = {"demonstrations": (demonstration_batches, demonstration_loss), "pairs": (pair_batches, pair_loss),
                           "unpaired": (thumb_batches, thumb_loss)}[job.algorithm.rows]
    batches = batches_of(job, job.batch(step))
    stats = learn(job, batches, lambda batch, total: loss_of(job, batch, total), lambda batch: terms(job, batch))
    return stats | {"tokens": sum(gather_object([int(batch["mask"].sum()) for batch in batches]))}, None


def terms(job: Job, batch: Batch) -> float:
    """How many terms the mean of the loss has: learned tokens, pairs or rows."""
    mask = batch["mask"]  # of a pair both answers are in it
    return {"tokens": mask[:, 1:].sum(), "pairs": len(mask) / 2, "rows": len(mask)}[job.algorithm.mean_over]


def to_device(job: Job, batch: Batch) -> Batch:
    """A batch on this process's device."""
    return {name: x.to(job.device) for name, x in batch.items()}


# ---- demonstrations ----

def demonstration_batches(job: Job, rows: list[dict]) -> list[Batch]:
    """This process's micro-batches of a step's rows."""
    s = job.settings
    return [to_device(job, collate_demonstrations(some, job.tokenizer, s.max_len, turns=getattr(s, "turns", "last")))
            for _, some in job.share(rows)]


def demonstration_loss(job: Job, batch: Batch, total: float) -> LossAndStats:
    """Supervised fine-tuning: the mean over all learned tokens of the step."""
    logp = token_logps(job.model, batch["ids"], batch["attention"])
    return call_loss(job, logp, batch["mask"][:, 1:], denominator=total)


# ---- pairs ----

def pair_batches(job: Job, rows: list[dict]) -> list[Batch]:
    """This process's micro-batches, with the reference's log-probabilities where the loss has a reference."""
    batches = [to_device(job, collate_pairs(some, job.tokenizer, job.settings.max_len)) for _, some in job.share(rows)]
    if job.algorithm.reference:
        with job.frozen_reference() as reference, job.precision():
            for batch in batches:
                chosen, rejected = direct_alignment.pair_logps(reference, batch, average=job.algorithm.average)
                batch |= {"ref_chosen": chosen, "ref_rejected": rejected}
    return batches


def pair_loss(job: Job, batch: Batch, total: float) -> LossAndStats:
    """A reward model's loss or one of direct alignment: the mean over the pairs of the step."""
    if job.algorithm.head == "score":
        chosen, rejected = job.model(batch["ids"], batch["attention"]).chunk(2)
    else:
        chosen, rejected = direct_alignment.pair_logps(job.model, batch, average=job.algorithm.average)
    reference = {name: batch[name] for name in ("ref_chosen", "ref_rejected", "margin") if name in batch}
    lengths = batch["mask"].sum(1).chunk(2)[0]  # of the chosen answers
    return call_loss(job, chosen, rejected, **reference, lengths=lengths, denominator=total)


# ---- single answers with thumbs ----

def thumb_batches(job: Job, rows: list[dict]) -> list[Batch]:
    """This process's micro-batches; the KL estimate is one for all of them, from each prompt with the next row's answer."""
    others = [a | {"completion": b["completion"]} for a, b in zip(rows, rows[1:] + rows[:1], strict=True)]
    batches, mismatched = demonstration_batches(job, rows), demonstration_batches(job, others)
    with job.frozen_reference() as reference, job.precision():
        for batch in batches + mismatched:
            batch["ref"] = answer_logps(reference, batch)
    with torch.no_grad(), job.precision():
        ratios = [x for batch in mismatched for x in (answer_logps(unwrap(job.model), batch) - batch["ref"]).tolist()]
    kl_reference = torch.tensor(gather_object(ratios), dtype=torch.float64).to(job.device)
    for batch, (_, some) in zip(batches, job.share(rows), strict=True):
        batch["desirable"] = torch.tensor([int(r["label"]) for r in some], device=job.device)
        batch["kl_reference"] = kl_reference
    return batches


def thumb_loss(job: Job, batch: Batch, total: float) -> LossAndStats:
    """KTO: the mean over the rows of the step."""
    logratio = answer_logps(job.model, batch) - batch["ref"]
    return call_loss(job, logratio, batch["desirable"], batch["kl_reference"], denominator=total)


def answer_logps(model: torch.nn.Module, batch: Batch) -> Tensor:
    """The log-probability of each row's answer, (B,)."""
    return sequence_logps(model, batch["ids"], batch["attention"], batch["mask"])


# ---- tables ----

@torch.no_grad()
def table(job: Job, step: int, count: int = 4) -> list[dict]:
    """Samples of the model as it is, scored where the run has a reward; for a reward model, its scores of some pairs."""
    rows = [job.rows[i] for i in range(min(count, len(job.rows)))]
    model = unwrap(job.model)
    if job.algorithm.head == "score":
        batch = to_device(job, collate_pairs(rows, job.tokenizer, job.settings.max_len))
        chosen, rejected = model(batch["ids"], batch["attention"]).chunk(2)
        return [{"prompt": r["prompt"], "chosen": r["chosen"], "rejected": r["rejected"], "score_chosen": round(x, 4),
                 "score_rejected": round(y, 4)} for r, x, y in zip(rows, chosen.tolist(), rejected.tolist(), strict=True)]
    new = min(getattr(job.settings, "max_new_tokens", 64), job.settings.max_len - 1)
    ids = prompts_ids(rows, job.tokenizer, job.settings.max_len - new)
    rollout = sample(model, ids, max_new_tokens=new, eos_id=end_ids(job.tokenizer, model), generator=job.generator("table", step))
    found = [{"prompt": r["prompt"], "completion": x} for r, x in zip(rows, rollout.texts(job.tokenizer), strict=True)]
    if job.reward is not None:
        columns = {name: [r[name] for r in rows] for name in rows[0]}
        prompts, texts = columns.pop("prompt"), [row["completion"] for row in found]
        scores = job.reward(prompts, texts, rollout, columns)
        found = [row | {"score": round(x, 4)} for row, x in zip(found, scores.tolist(), strict=True)]
    return found
