"""One step of a policy-gradient algorithm: sample -> score -> give credit -> learn, over any number of processes.

Each process samples its share of the prompts; then all of them hold the whole batch, which is small. So baselines,
whitening and the KL are plain arithmetic over all rows, and only the forward and backward passes are shared again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import ppo
from ..chat import end_ids
from ..data import prompts_ids
from ..kl import penalized
from ..models import unwrap
from ..reward_model import finish_score
from ..rollout import Rollout, completion_logps
from ..sampling import sample
from .job import Job, call_loss, gather_object, learn
from .rewards import true_reward


@dataclass
class Samples:
    """B completions and what is known of each before learning begins."""

    rollout: Rollout
    prompts: list[str]
    texts: list[str]
    scores: dict[str, Tensor]  # {name: (B,)}: every reward by itself
    score: Tensor           # (B,) their weighted sum
    logp_ref: Tensor        # (B, T)
    value: Tensor | None    # (B, T), PPO alone
    gold: Tensor | None     # (B,) the village's true reward, where the prompts are the village's


# some rows to learn from: their rollout, and the columns of the loss that are fixed for the whole step, (b,) or (b, T) each
Part = tuple[Rollout, dict[str, Tensor]]


def policy_step(job: Job, step: int) -> tuple[dict[str, float], list[dict]]:
    """Sample, score, give credit over the whole batch, learn from it in micro-batches -> (stats, rows for samples.jsonl)."""
    s, samples = job.settings, draw(job, step)
    rollout = samples.rollout
    columns, reward, kl = credit(job, samples)
    history = []
    for rows in minibatches(job, step, len(rollout)):
        parts = [select(rollout, columns, some) for _, some in job.share(rows, s.micro_batch * s.group_size)]
        history.append(learn(job, parts, lambda part, total: policy_loss(job, part, total), lambda part: terms(job, part)))
    stats = {name: sum(h[name] for h in history) / len(history) for name in history[0]}
    stats |= {"score": samples.score.mean(), "reward": reward.mean(), "kl": kl.mean(), "beta": job.control.beta,
              "ended": rollout.ended.float().mean(), "length": rollout.mask.sum(1).mean(), "tokens": rollout.mask.sum()}
    stats |= {} if samples.gold is None else {"gold": samples.gold.mean()}
    stats |= {f"score/{name}": x.mean() for name, x in samples.scores.items()} if len(samples.scores) > 1 else {}
    if job.critic is not None:
        stats["explained_variance"] = ppo.explained_variance(columns["value"], columns["ret"], rollout.mask)
    job.control.update(kl.mean().item(), len(rollout))
    if job.algorithm.name == "reinforce":  # after its use: a baseline that knew these samples would bias them
        keep, new = s.baseline_decay, reward.mean().item()
        job.baseline = new if step == 0 else keep * job.baseline + (1 - keep) * new
    table = [{"prompt": p, "completion": x, "score": round(v, 4)}
             for p, x, v in zip(samples.prompts, samples.texts, samples.score.tolist(), strict=True)]
    return stats, table[::s.group_size][:4]


# ---- from prompts to scored samples ----

@torch.no_grad()
def draw(job: Job, step: int) -> Samples:
    """The step's samples, scored: the same whole batch on every process, each row drawn by one of them."""
    parts = [draw_some(job, step, number, rows) for number, rows in job.share(job.batch(step))]
    return join(gather_object(parts), job.settings.group_size, job.device)


def draw_some(job: Job, step: int, number: int, rows: list[dict]) -> Samples:
    """The samples of one micro-batch. Its random numbers are its own, so who draws it changes nothing."""
    s = job.settings
    ids = prompts_ids(rows, job.tokenizer, s.max_len - s.max_new_tokens)
    with job.precision():
        rollout = sample(job.model, ids, n=s.group_size, max_new_tokens=s.max_new_tokens, temperature=s.temperature,
                         eos_id=end_ids(job.tokenizer, job.model), generator=job.generator("sample", step, number))
        if s.dtype == "bfloat16":  # the cached forward rounds otherwise; a ratio is to start at 1
            rollout.logp_old = completion_logps(unwrap(job.model), rollout, temperature=s.temperature)
        with job.frozen_reference() as reference:
            logp_ref = completion_logps(reference, rollout, temperature=s.temperature)
        value = None if job.critic is None else ppo.values(unwrap(job.critic), rollout).cpu()
    texts = rollout.texts(job.tokenizer)
    columns = {name: [r[name] for r in rows for _ in range(s.group_size)] for name in rows[0]}
    prompts = columns.pop("prompt")
    scores = job.reward.each(prompts, texts, rollout, columns)
    score = finish_score(job.reward.total(scores), rollout.ended.cpu(), clip=s.score_clip, missing=s.missing_eos)
    gold = true_reward(prompts, texts) if job.data == "village" else None
    on_cpu = {name: x.cpu() if torch.is_tensor(x) else x for name, x in vars(rollout).items()}
    return Samples(Rollout(**on_cpu), prompts, texts, scores, score.cpu(), logp_ref.cpu(), value, gold)


def join(parts: list[Samples], group_size: int, device: torch.device) -> Samples:
    """Micro-batches of unequal widths as one: prompts padded on the left, completions on the right."""
    rollouts = [part.rollout for part in parts]
    before, after = max(r.prompt_len for r in rollouts), max(r.mask.shape[1] for r in rollouts)

    def rows(tensors: list[Tensor], prompt: bool = False) -> Tensor:
        """One tensor of each part as one: (B,), (B, T), or (B, P + T) with the prompt."""
        lacks = [((before - r.prompt_len) * prompt, after - r.mask.shape[1]) for r in rollouts]
        return torch.cat([F.pad(x, lack) if x.dim() > 1 else x for x, lack in zip(tensors, lacks, strict=True)]).to(device)

    ids, attention = (rows([getattr(r, name) for r in rollouts], prompt=True) for name in ("ids", "attention"))
    mask, logp_old, ended = (rows([getattr(r, name) for r in rollouts]) for name in ("mask", "logp_old", "ended"))
    group = torch.arange(len(ids) // group_size, device=device).repeat_interleave(group_size)
    columns = {name: None if getattr(parts[0], name) is None else rows([getattr(part, name) for part in parts])
               for name in ("score", "logp_ref", "value", "gold")}
    prompts, texts = [p for part in parts for p in part.prompts], [x for part in parts for x in part.texts]
    scores = {name: rows([part.scores[name] for part in parts]) for name in parts[0].scores}
    return Samples(Rollout(ids, attention, before, mask, logp_old, group, ended), prompts, texts, scores, **columns)


# ---- from scored samples to a loss ----

def credit(job: Job, samples: Samples) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """What each row (B,) or token (B, T) is worth, from the whole batch and fixed from here on -> (columns, reward, KL)."""
    s, rollout, beta = job.settings, samples.rollout, job.control.beta
    reward, kl = penalized(samples.score, rollout.logp_old, samples.logp_ref, rollout.mask, beta)
    if job.algorithm.name == "ppo":
        columns = ppo.prepare(samples.value, rollout, samples.score, logp_ref=samples.logp_ref, beta=beta, gamma=s.gamma, lam=s.lam)
        return {name: columns[name] for name in ("value", "adv", "ret")}, reward, kl
    if job.algorithm.name == "reinforce":
        return {"adv": reward - job.baseline}, reward, kl
    if job.algorithm.name == "grpo":  # its KL is a part of the loss
        return {"score": samples.score, "logp_ref": samples.logp_ref}, reward, kl
    return {"score": reward}, reward, kl


def policy_loss(job: Job, part: Part, total: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The algorithm's own loss of some rows; it divides by `total`, so that the parts of a step add up."""
    rollout, columns = part
    if job.critic is not None:
        return call_loss(job, job.model, job.critic, rollout, columns, denominator=total)
    logp = completion_logps(job.model, rollout, temperature=job.settings.temperature)
    return call_loss(job, logp=logp, logp_old=rollout.logp_old, mask=rollout.mask, **columns, beta=job.control.beta,
                     denominator=total)


def terms(job: Job, part: Part) -> float:
    """How many terms the mean of the loss has: tokens, rows, or every place that a completion could have filled."""
    mask, mean_over = part[0].mask, job.algorithm.mean_over
    if mean_over == "mode":
        mean_over = {"token_mean": "tokens", "fixed": "places"}.get(job.settings.mode, "rows")
    return {"tokens": mask.sum(), "rows": len(mask), "places": len(mask) * job.settings.max_new_tokens}[mean_over]


def minibatches(job: Job, step: int, n: int) -> Iterator[Tensor]:
    """Row numbers for each optimizer step; the rows of a prompt stay together, prompts are shuffled."""
    epochs, count, size = getattr(job.settings, "epochs", 1), getattr(job.settings, "minibatches", 1), job.settings.group_size
    for epoch in range(epochs):
        order = torch.arange(n // size)
        if count > 1:
            order = torch.randperm(n // size, generator=job.generator("minibatches", step, epoch))
        for some in order.chunk(count):
            yield (some[:, None] * size + torch.arange(size)).flatten()


def select(rollout: Rollout, columns: dict[str, Tensor], rows: Tensor) -> Part:
    """Some rows, without the padding that all of them share."""
    rows = rows.to(rollout.ids.device)
    part = rollout.select(rows)
    first = int(part.attention.any(0).nonzero()[0])
    width = int(part.mask.any(0).nonzero()[-1]) + 1
    end = rollout.prompt_len + width
    narrow = replace(part, ids=part.ids[:, first:end], attention=part.attention[:, first:end],
                     prompt_len=rollout.prompt_len - first, mask=part.mask[:, :width], logp_old=part.logp_old[:, :width])
    return narrow, {k: x[rows] if x.dim() == 1 else x[rows, :width] for k, x in columns.items()}
