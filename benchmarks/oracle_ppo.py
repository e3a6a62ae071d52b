"""PPO against TRL: everything here went through PPOTrainer.train itself, with the models replaced by tables."""

from functools import cache

import torch

from rlhf_minimal import advantages, kl, ppo, reward_model
from rlhf_minimal.tensors import last_index, masked_whiten

from .oracle_policy import logps, mask_of
from .oracle_rows import lay_out, row
from .oracle_trl import ppo_run


@cache
def ppo_batch(case, *, full=False, **settings):
    """A batch in TRL's conventions (EOS 1, padding 0), the critic's values, and what PPOTrainer.train made of them."""
    batch = lay_out(case, full=full)
    batch.ids = torch.where(batch.ids == 1, 2, batch.ids)
    short = batch.mask.sum(1) < batch.T
    batch.ids[torch.arange(len(short)), last_index(batch.mask)] = torch.where(short, 1, 2)
    g = case.generator()
    value, change = (torch.randn(batch.ids.shape, generator=g, dtype=torch.float64) for _ in range(2))
    now = (value + 0.4 * change).to(case.dtype)
    seen = ppo_run(case, batch, value.to(case.dtype), now, **settings)
    batch.value, batch.value_new = value.to(case.dtype)[:, batch.P - 1:-1], now
    return batch, seen


def widened(mask):
    """The mask with one more token in each row, where there is room: the place that TRL gives the score."""
    return torch.maximum(mask, torch.nn.functional.pad(mask, (1, 0))[:, :-1])


def our_ppo(batch, *, trl_place, gamma=1.0, lam=0.95, beta=0.1):
    """(reward, adv, ret, mask of the values), with the score on the last token or, `trl_place`, one later."""
    mask = mask_of(batch)
    place = widened(mask) if trl_place else mask
    old, ref = logps(batch, batch.old) * mask, logps(batch, batch.ref) * mask
    reward = ppo.rewards(batch.score, old, ref, place, beta)
    return (reward, *advantages.gae(reward, batch.value, place, gamma=gamma, lam=lam), place)


PPO = "PPOTrainer.train (its own code, models replaced)"


def ppo_advantages(name, ours_name, *, full=False, trl_place=False, gamma=1.0, lam=0.95, **more):
    """Declare a row: raw advantages on the completions' tokens, score and KL in the rewards."""

    @row(name, ours_name, PPO, **more)
    def compare(case):
        batch, seen = ppo_batch(case, full=full, gamma=gamma, lam=lam)
        mask = mask_of(batch)
        adv = our_ppo(batch, trl_place=trl_place, gamma=gamma, lam=lam)[1]
        return (adv * mask, []), (seen.advantage[0] * mask, [])


ppo_advantages("PPO rewards and GAE, rows of full width", "ppo.rewards", full=True)
ppo_advantages("PPO rewards and GAE, gamma 0.9, lam 0.7, full width", "advantages.gae", full=True, gamma=0.9, lam=0.7)
ppo_advantages("GAE, score put where TRL puts it", "advantages.gae", trl_place=True, gamma=0.9, lam=0.7)
ppo_advantages("GAE, rows that end early, gamma = lam = 1", "advantages.gae", lam=1.0)
ppo_advantages("PPO rewards and GAE, rows that end early", "ppo.rewards", item="C1", gamma=0.9, lam=0.7,
               why="TRL puts the score one place after EOS (trl#3750), with a value of its own there; ours is on the last token")


NEAR = 1e-6  # TRL adds 1e-8 to the variance that it whitens with


@row("PPO whitening", "tensors.masked_whiten", PPO, tolerance=NEAR)
def whitening(case):
    batch, seen = ppo_batch(case)
    raw, white, mask = seen.advantage
    return (masked_whiten(raw, mask), []), (white * mask, [])


@row("PPO whitening around the kept mean", "tensors.masked_whiten", PPO + ", whiten_rewards=True", tolerance=NEAR)
def whitening_rewards(case):
    batch, seen = ppo_batch(case, whiten_rewards=True)
    raw, white, mask = seen.reward
    return (masked_whiten(raw, mask, shift_mean=False), []), (white * mask, [])


def ppo_loss(z, v, batch, *, trl_place):
    """Policy and value loss of our functions, stacked."""
    reward, adv, ret, place = our_ppo(batch, trl_place=trl_place)
    mask = mask_of(batch)
    loss, stats = ppo.policy_loss(logps(batch, z), logps(batch, batch.old), masked_whiten(adv, mask), mask)
    loss_v, stats_v = ppo.value_loss(v[:, batch.P - 1:-1], batch.value, ret, place)
    return loss, loss_v, stats | stats_v


def ppo_losses(name, *, full=False, trl_place=False, **more):
    """Declare a row: policy and value loss, and the gradients of policy + value_coef * value in logits and values."""

    @row(name, "ppo.policy_loss", PPO, tolerance=NEAR, **more)
    def compare(case):
        batch, seen = ppo_batch(case, full=full)
        z, v = batch.logits.clone().requires_grad_(), batch.value_new.clone().requires_grad_()
        loss, loss_v, _ = ppo_loss(z, v, batch, trl_place=trl_place)
        grads = torch.autograd.grad(loss + 0.5 * loss_v, (z, v))
        return ((torch.stack([loss, loss_v]).detach(), list(grads)),
                (torch.stack([seen.policy_loss, seen.value_loss]), list(seen.grads)))


ppo_losses("PPO, all of an update, rows of full width", full=True)
ppo_losses("PPO, all of an update, score put where TRL puts it", trl_place=True)
ppo_losses("PPO, all of an update, rows that end early", item="C1",
           why="the score's place, and TRL's value loss counts the place after EOS")


@row("PPO value loss", "ppo.value_loss", PPO)
def values(case):
    batch, seen = ppo_batch(case)
    _, _, ret, place = our_ppo(batch, trl_place=True)
    v = batch.value_new.clone().requires_grad_()
    loss, stats = ppo.value_loss(v[:, batch.P - 1:-1], batch.value, ret, place)
    share = torch.tensor([float(loss.detach()), float(stats["value_clip_frac"])], dtype=torch.float64)
    theirs = torch.tensor([float(seen.value_loss), seen.metrics["val/clipfrac_avg"]], dtype=torch.float64)
    return (share.float(), [torch.autograd.grad(loss, v)[0]]), (theirs.float(), [2 * seen.grads[1]])




def metric(name, ours_name, key, ours, *, penalty=None, **more):
    """Declare a row: one of TRL's PPO metrics (float32) against our stats."""

    @row(name, ours_name, f"{PPO}, metric {key}", tolerance=1e-4, **more)
    def compare(case):
        batch, seen = ppo_batch(case, missing_eos_penalty=penalty)
        stats = ppo_loss(batch.logits, batch.value_new, batch, trl_place=True)[2]
        return (torch.as_tensor(ours(batch, stats)).float(), []), (torch.tensor(seen.metrics[key]).float(), [])


def finished(batch, **convention):
    """The mean score after `finish_score`; the rows shorter than T are those that ended by themselves."""
    return reward_model.finish_score(batch.score, batch.mask.sum(1) < batch.T, **convention).mean()


metric("PPO clip fraction", "ppo.policy_loss", "policy/clipfrac_avg", lambda b, s: s["clip_frac"])
metric("PPO approximate KL", "ppo.policy_loss", "policy/approxkl_avg", lambda b, s: s["approx_kl"], item="E12, K30",
       why="TRL: half the squared log-ratio, averaged over padding too; ours: k3, over the tokens")
metric("k2 over padding too", "kl.k2", "policy/approxkl_avg",
       lambda b, s: kl.k2(logps(b, b.logits) * mask_of(b), logps(b, b.old) * mask_of(b)).mean())
metric("summed k1 to the reference", "kl.k1", "objective/kl",
       lambda b, s: (kl.k1(logps(b, b.old), logps(b, b.ref)) * mask_of(b)).sum(1).mean())
metric("penalty for a missing EOS", "reward_model.finish_score", "objective/scores", lambda b, s: finished(b, penalty=1.0),
       penalty=1.0)
metric("score of -1 for a missing EOS", "reward_model.finish_score", "objective/scores", lambda b, s: finished(b, missing=-1.0),
       penalty=1.0, item="C8", why="OpenAI replaces the score, TRL subtracts from it; `finish_score` has both, by name")
