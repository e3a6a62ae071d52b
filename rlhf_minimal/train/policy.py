"""Policy gradients in the training loop: draw a batch -> credit -> loss, over any number of processes."""

import torch
import torch.nn.functional as F

from .. import grpo, ppo
from ..kl import penalized
from ..reinforce import reinforce_loss
from ..rloo import rloo_loss
from ..rollout import Rollout, completion_logps
from .draw import draw
from .job import learn


def credit(job, rollout, columns):
    """What each row (B,) or token (B,T) is worth, from the whole batch, and fixed from here on (D5, E16)."""
    score, ref, beta = columns["score"], columns["logp_ref"], job.control.beta
    reward, kl = penalized(score, rollout.logp_old, ref, rollout.mask, beta)
    if job.algorithm == "ppo":
        value = F.pad(columns["value"], (rollout.prompt_len - 1, 1))  # back to the places of a critic's output
        frozen = ppo.prepare(lambda ids, attention: value, rollout, score, logp_ref=ref, beta=beta, gamma=job.s.gamma,
                             lam=job.s.lam)
        return {name: frozen[name] for name in ("value", "adv", "ret")}, reward, kl
    if job.algorithm == "reinforce":
        return {"adv": reward - job.baseline}, reward, kl
    if job.algorithm == "rloo":
        return {"score": reward}, reward, kl
    return {"score": score if job.algorithm == "grpo" else reward, "logp_ref": ref}, reward, kl


def policy_loss(job, piece, total):
    """The algorithm's own loss of some rows, as a part of the step's."""
    rollout, x = piece
    logp, old, mask, s = completion_logps(job.model, rollout, temperature=job.s.temperature), rollout.logp_old, rollout.mask, job.s
    if job.algorithm == "reinforce":
        return reinforce_loss(logp, x["adv"], mask, denominator=total)
    if job.algorithm == "rloo":
        return rloo_loss(logp, x["score"], mask, group_size=s.group_size, denominator=total)
    if job.algorithm == "ppo":
        loss, stats = ppo.policy_loss(logp, old, x["adv"], mask, clip=s.clip, denominator=total)
        value = ppo.values(job.critic, rollout)
        loss_v, stats_v = ppo.value_loss(value, x["value"], x["ret"], mask, clip=s.value_clip, denominator=total)
        shares = {"policy_loss": loss, "value_loss": loss_v}
        rescale = total / max(float(mask.sum()), 1.0)  # stats are means of this piece, losses parts of the step's
        return loss + s.value_coef * loss_v, stats | stats_v | {k: v.detach() * rescale for k, v in shares.items()}
    if job.algorithm == "gspo":
        loss, stats = grpo.gspo_loss(logp, old, x["score"], mask, group_size=s.group_size, clip=s.clip, clip_high=s.clip_high,
                                     scale=s.scale)
        return loss * (len(mask) / total), stats
    if job.algorithm == "cispo":
        return grpo.cispo_loss(logp, old, x["score"], mask, group_size=s.group_size, clip_high=s.clip_high, scale=s.scale,
                               denominator=total)
    return grpo.grpo_loss(logp, old, x["score"], mask, group_size=s.group_size, clip=s.clip, clip_high=s.clip_high,
                          scale=s.scale, mode=s.mode, logp_ref=x["logp_ref"], beta=job.control.beta, denominator=total)


def weight(job, piece):
    """What the policy loss is a mean over."""
    rollout, mode = piece[0], {"ppo": "token_mean", "cispo": "token_mean"}.get(job.algorithm, getattr(job.s, "mode", ""))
    if mode == "fixed":
        return len(rollout) * job.s.max_new_tokens  # a number that no batch changes (E7)
    return rollout.mask.sum() if mode == "token_mean" else len(rollout)


def minibatches(job, step, n):
    """Lists of row numbers, one an optimizer step; the rows of a prompt stay together (D9), prompts are shuffled."""
    epochs, count, size = getattr(job.s, "epochs", 1), getattr(job.s, "minibatches", 1), job.s.group_size
    for epoch in range(epochs):
        order = torch.arange(n // size)
        if count > 1:
            order = torch.randperm(n // size, generator=job.stream("minibatches", step, epoch))
        for some in order.chunk(count):
            yield (some[:, None] * size + torch.arange(size)).flatten()


def narrow(rollout, columns, rows):
    """Some rows, without the padding that all of them share."""
    part = rollout.select(rows.to(rollout.ids.device))
    first = int(part.attention.any(0).nonzero()[0])
    width = int(part.mask.any(0).nonzero()[-1]) + 1
    end = rollout.prompt_len + width
    cut = Rollout(part.ids[:, first:end], part.attention[:, first:end], rollout.prompt_len - first, part.mask[:, :width],
                  part.logp_old[:, :width], part.group, part.ended)
    rows = rows.to(rollout.ids.device)
    return cut, {k: x[rows] if x.dim() == 1 else x[rows, :width] for k, x in columns.items()}


def policy_gradient(job, step):
    """Sample, score, give credit over the whole batch, learn from it in micro-batches -> (stats, samples)."""
    rollout, columns, asked, texts, true = draw(job, step)
    frozen, reward, kl = credit(job, rollout, columns)
    history = []
    for some in minibatches(job, step, len(rollout)):
        cut = job.pieces(some, job.s.micro_batch * job.s.group_size)
        pieces = [narrow(rollout, frozen, rows) for _, rows in job.mine(cut)]
        history.append(learn(job, pieces, lambda p, total: policy_loss(job, p, total), lambda p: weight(job, p)))
    stats = {name: sum(h[name] for h in history) / len(history) for name in history[0]}
    stats |= {"score": columns["score"].mean(), "reward": reward.mean(), "kl": kl.mean(), "beta": job.control.beta,
              "ended": rollout.ended.float().mean(), "length": rollout.mask.sum(1).mean(), "tokens": rollout.mask.sum()}
    stats |= {} if true is None else {"gold": true.mean()}
    if job.algorithm == "ppo":
        stats["explained_variance"] = ppo.explained_variance(frozen["value"], frozen["ret"], rollout.mask)
    job.control.update(kl.mean().item(), len(rollout))
    if job.algorithm == "reinforce":  # after its use: a baseline that knew these samples would bias them
        old, new = job.s.baseline_decay, reward.mean().item()
        job.baseline = new if step == 0 else old * job.baseline + (1 - old) * new
    table = [{"prompt": p, "completion": x, "score": round(v, 4)}
             for p, x, v in zip(asked, texts, columns["score"].tolist(), strict=True)]
    return stats, table[::job.s.group_size][:4]
