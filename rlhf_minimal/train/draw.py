"""Sampling over any number of processes: each draws its share of the prompts, then all hold the whole batch.

Ids are small; so baselines, whitening and the KL are plain arithmetic over all rows afterwards (J2).
"""

import torch
import torch.nn.functional as F

from .. import ppo
from ..data import prompts_ids
from ..models import unwrap
from ..reward_model import finish_score
from ..rollout import Rollout, completion_logps
from ..sampling import sample
from .rewards import gold


@torch.no_grad()
def draw(job, step):
    """The step's samples, scored: the same whole batch on every process, each row drawn by one of them.

    A micro-batch has random numbers of its own, so who draws it changes nothing.
    """
    parts, s = [], job.s
    for k, rows in job.mine(job.pieces(job.batch(step))):
        ids = prompts_ids(rows, job.tokenizer, s.max_len - s.max_new_tokens)
        with job.precision():
            rollout = sample(job.model, ids, n=s.group_size, max_new_tokens=s.max_new_tokens, temperature=s.temperature,
                             eos_id=job.tokenizer.eos_token_id, generator=job.stream("sample", step, k))
            if s.dtype == "bfloat16":  # the cached forward rounds otherwise; a ratio is to start at 1 (B6)
                rollout.logp_old = completion_logps(unwrap(job.model), rollout, temperature=s.temperature)
            with job.referring() as reference:
                logp_ref = completion_logps(reference, rollout, temperature=s.temperature)
            value = None if job.critic is None else ppo.values(unwrap(job.critic), rollout)
        asked = [r["prompt"] for r in rows for _ in range(s.group_size)]
        texts = rollout.texts(job.tokenizer)
        raw = job.score(asked, texts, rollout)
        part = {"score": finish_score(raw, rollout.ended.cpu(), clip=s.score_clip, missing=s.missing_eos), "logp_ref": logp_ref}
        part |= {} if value is None else {"value": value}
        parts.append((rollout, part, asked, texts, gold(asked, texts) if job.data == "village" else None))
    return together(job, job.gather(to_cpu(parts)))


def to_cpu(parts):
    """What processes exchange lies in main memory."""
    return [(Rollout(**{k: x.cpu() if torch.is_tensor(x) else x for k, x in vars(rollout).items()}),
             {k: x.cpu() for k, x in part.items()}, *rest) for rollout, part, *rest in parts]


def together(job, parts):
    """Micro-batches of unequal widths -> (rollout, {name: (B,) or (B,T)}, prompts, texts, gold or None)."""
    before = max(r.prompt_len for r, *_ in parts)
    after = max(r.mask.shape[1] for r, *_ in parts)

    def wide(x, left, right):
        return F.pad(x, (left, right)).to(job.device)

    def join(name, prompt):
        return torch.cat([wide(getattr(r, name), before - r.prompt_len if prompt else 0, after - r.mask.shape[1])
                          for r, *_ in parts])
    ended = torch.cat([r.ended for r, *_ in parts]).to(job.device)
    group = torch.arange(job.s.batch_size, device=job.device).repeat_interleave(job.s.group_size)
    rollout = Rollout(join("ids", True), join("attention", True), before, join("mask", False), join("logp_old", False),
                      group, ended)
    columns = {name: torch.cat([wide(p[name], 0, after - r.mask.shape[1]) if p[name].dim() > 1 else p[name].to(job.device)
                                for r, p, *_ in parts]) for name in parts[0][1]}
    asked, texts = (sum((part[i] for part in parts), []) for i in (2, 3))
    return rollout, columns, asked, texts, None if parts[0][4] is None else torch.cat([part[4] for part in parts])
