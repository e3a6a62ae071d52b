"""GRPO, RLOO and PPO against TRL: advantages, losses, and gradients in every logit."""

from collections import defaultdict
from types import SimpleNamespace

import torch

from rlhf_minimal import advantages, grpo, kl, ppo, reinforce, reward_model, rloo
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.tensors import last_index, masked_whiten

from .oracle_rows import Table, lay_out, pull, row
from .oracle_trl import GRPOTrainer, RLOOTrainer, bare, ppo_run


def logps(batch, table):
    """(B,T) log-probabilities of the completions."""
    return token_logps(Table((batch.ids, table)), batch.ids, batch.attention)[:, batch.P - 1:]


def mask_of(batch):
    """(B,T) mask of the completions."""
    return batch.mask[:, batch.P:]


def rollout_inputs(batch, advantage, **more):
    """What TRL calls a generation batch."""
    ids, attention, p = batch.ids, batch.attention, batch.P
    named = {"prompt_ids": ids[:, :p], "prompt_mask": attention[:, :p], "completion_ids": ids[:, p:],
             "completion_mask": attention[:, p:], "advantages": advantage}
    return named | more


def trl_grpo(batch, z, advantage, *, loss_type, beta=0.0, high=0.2, level="token", correction=False, micro=None):
    """TRL's side: GRPOTrainer._compute_loss. micro: (micro-batches of a step, tokens of the step), in training mode."""
    steps, tokens = (1, mask_of(batch).sum()) if micro is None else micro
    trainer = bare(
        GRPOTrainer, args={"delta": None, "use_bias_correction_kl": correction, "steps_per_generation": steps},
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level=level, beta=beta, loss_type=loss_type,
        epsilon_low=0.2, epsilon_high=high, use_vllm=False, temperature=1.0, model_kwarg_keys=set(), _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=steps, max_completion_length=batch.T, model=Table().train(micro is not None),
    )
    more = {"old_per_token_logps": logps(batch, batch.old), "ref_per_token_logps": logps(batch, batch.ref)}
    return trainer._compute_loss(Table((batch.ids, z)), rollout_inputs(batch, advantage, num_items_in_batch=tokens, **more))


def grpo_row(name, loss_type, *, fn=grpo.grpo_loss, ours=None, theirs=None, why="", item="", clip=0.2):
    """Declare a GRPO row; the advantages are ours on both sides (they have rows of their own)."""
    ours, theirs = ours or {}, theirs or {}
    outside = f"GRPOTrainer._compute_loss, loss_type={loss_type!r}"

    @row(name, f"grpo.{fn.__name__}", outside, why=why, item=item)
    def compare(case):
        batch = lay_out(case)
        advantage = advantages.group_normalize(batch.score, 2, scale=ours.get("scale", True))
        ref = {"logp_ref": logps(batch, batch.ref)} if ours.get("beta") else {}
        clips = {} if fn is grpo.cispo_loss else {"clip": clip}

        def loss(z):
            old = logps(batch, batch.old)
            return fn(logps(batch, z), old, batch.score, mask_of(batch), group_size=2, **clips, **ours, **ref)[0]

        return (pull(loss, batch.logits),
                pull(lambda z: trl_grpo(batch, z, advantage, loss_type=loss_type, **theirs), batch.logits))


grpo_row("GRPO, mode sequence_mean", "grpo")
grpo_row("GRPO, mode token_mean", "bnpo", ours={"mode": "token_mean"})
grpo_row("DAPO, token_mean and clip-higher", "dapo", ours={"mode": "token_mean", "clip_high": 0.28}, theirs={"high": 0.28})
grpo_row("GRPO, mode sequence_sum", "luspo", ours={"mode": "sequence_sum"})
grpo_row("Dr. GRPO: no std, mode fixed", "dr_grpo", ours={"mode": "fixed", "scale": False})
grpo_row("GRPO with k3 to the reference, beta 0.1", "grpo", ours={"beta": 0.1}, theirs={"beta": 0.1})
grpo_row("GSPO", "grpo", fn=grpo.gspo_loss, theirs={"level": "sequence"})
grpo_row("CISPO, bound 1.2 on both sides", "cispo", fn=grpo.cispo_loss, theirs={"high": 1.2})
grpo_row("CISPO, epsilon_high 0.2 as given", "cispo", fn=grpo.cispo_loss, theirs={"high": 0.2}, item="E4",
         why="TRL's epsilon_high is the bound of the ratio itself, ours 1 + clip_high: 0.2 against 1.2")
grpo_row("GRPO, the KL term as TRL has it by default", "grpo", ours={"beta": 0.1}, item="C3",
         theirs={"beta": 0.1, "correction": True},
         why="TRL multiplies k3 by the ratio (use_bias_correction_kl=True); ours is the paper's plain k3")


@row("GRPO, a row without completion tokens", "grpo.grpo_loss", "GRPOTrainer._compute_loss, loss_type='grpo'",
     item="A7", why="TRL counts the empty row in the mean over rows, ours does not")
def empty_row(case):
    batch = lay_out(case)
    batch.mask[-1] = 0
    batch.attention[-1, batch.P:] = 0
    batch.ids[-1, batch.P:] = 0
    advantage = advantages.group_normalize(batch.score, 2)
    args = (batch.score, mask_of(batch))
    return (pull(lambda z: grpo.grpo_loss(logps(batch, z), logps(batch, batch.old), *args, group_size=2)[0], batch.logits),
            pull(lambda z: trl_grpo(batch, z, advantage, loss_type="grpo"), batch.logits))


def micro_batches(name, loss_type, **more):
    """Declare a row: one row a micro-batch on TRL's side, the whole batch at once on ours."""

    @row(name, "grpo.grpo_loss", f"GRPOTrainer._compute_loss, loss_type={loss_type!r}, one row a micro-batch", **more)
    def compare(case):
        batch = lay_out(case)
        advantage, rows, tokens = advantages.group_normalize(batch.score, 2), len(batch.ids), mask_of(batch).sum()
        old, scored = logps(batch, batch.old), (batch.score, mask_of(batch))

        def theirs(z):
            total = 0
            for i in range(rows):
                part = SimpleNamespace(**{k: v[i:i + 1] if torch.is_tensor(v) else v for k, v in vars(batch).items()})
                total = total + trl_grpo(part, z[i:i + 1], advantage[i:i + 1], loss_type=loss_type, micro=(rows, tokens))
            return total

        def ours(z):
            return grpo.grpo_loss(logps(batch, z), old, *scored, group_size=2, mode="token_mean")[0]

        return pull(ours, batch.logits), pull(theirs, batch.logits)


micro_batches("accumulated micro-batches, whole-step denominator", "dapo")
micro_batches("accumulated micro-batches, mean of means", "bnpo", item="E14",
              why="TRL's bnpo averages the means of the micro-batches; a step has one mean, whatever its parts")


def trl_advantages(cls, batch, score, *, group_size, beta=0.0, **settings):
    """TRL's side: _generate_and_score_completions with the generation and the reward function replaced."""
    rows = len(score)
    lists = [[x[m.bool()].tolist() for x, m in zip(*pair, strict=True)] for pair in (
        (batch.ids[:, :batch.P], batch.attention[:, :batch.P]), (batch.ids[:, batch.P:], batch.attention[:, batch.P:]))]
    texts = ["" for _ in range(rows)]
    generated = (*lists, texts) if cls is RLOOTrainer else (*lists, None, texts, batch.mask.sum(), None, {}, None, None)
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=1, batch_decode=lambda ids, **_: texts)
    args = {"per_device_train_batch_size": rows, "per_device_eval_batch_size": rows, "steps_per_generation": 1,
            "gradient_accumulation_steps": 1}
    trainer = bare(
        cls, args=args, _generate=lambda prompts: generated, _tokenizer=tokenizer, processing_class=tokenizer,
        pad_to_multiple_of=None, mask_truncated_completions=False, model_kwarg_keys=set(), temperature=1.0, beta=beta,
        num_generations_eval=group_size, num_generations=group_size, num_iterations=1, reward_weights=torch.ones(1), reward_funcs=[None], reward_func_names=["f"],
        reward_clip_range=None, normalize_advantages=False, multi_objective_aggregation="sum_then_normalize", scale_rewards="group",
        model=Table((batch.ids, batch.old)).eval(), ref_model=Table((batch.ids, batch.ref)), use_vllm=False,
        environment_factories=None, tools=None, environments=None, rollout_func=None, _is_vlm=False, _pending_extra_logs={},
        _pending_metrics={}, _calculate_rewards=lambda *_: score[:, None],
        _logs=defaultdict(list, rewards=defaultdict(list), extra=defaultdict(list)),
    )
    trainer.__dict__.update(settings)
    return trainer._generate_and_score_completions([{"prompt": ""} for _ in range(rows)])["advantages"]


def scores(case, group_size, *, spread=1.0):
    """Scores of three prompts."""
    g = case.generator()
    return spread * torch.randn(3 * group_size, generator=g, dtype=torch.float64).to(case.dtype)


def wide(case, rows):
    """A rollout of as many rows as there are scores."""
    return lay_out(type(case)((rows, *case.shape[1:]), case.dtype, case.seed))


def advantage_row(name, ours_name, cls, ours, *, spread=1.0, beta=0.0, trl=None, **more):
    """Declare a row of advantages: groups of 2, 4 and 8 by shape."""
    outside = f"{cls.__name__}._generate_and_score_completions"

    @row(name, ours_name, outside + (f", {trl}" if trl else ""), **more)
    def compare(case):
        group_size = {2: 2, 4: 4, 6: 8}[case.shape[0]]
        score = scores(case, group_size, spread=spread)
        batch = wide(case, len(score))
        theirs = trl_advantages(cls, batch, score, group_size=group_size, beta=beta, **(trl or {}))
        return (ours(score, group_size, batch), []), (theirs, [])


advantage_row("RLOO advantages", "advantages.leave_one_out", RLOOTrainer, lambda s, g, b: advantages.leave_one_out(s, g))


def _with_kl(score, group_size, batch):
    reward, _ = reinforce.penalized(score, logps(batch, batch.old), logps(batch, batch.ref), mask_of(batch), 0.1)
    return advantages.leave_one_out(reward, group_size)


advantage_row("RLOO advantages, KL in the score, beta 0.1", "reinforce.penalized", RLOOTrainer, _with_kl, beta=0.1)
advantage_row("group mean alone (Dr. GRPO)", "advantages.group_normalize", GRPOTrainer,
              lambda s, g, b: advantages.group_normalize(s, g, scale=False), trl={"scale_rewards": "none"})


def _with_epsilon(score, group_size, batch):
    """Ours, times std / (std + 1e-4): TRL's epsilon put in by hand."""
    std = score.view(-1, group_size).std(1, keepdim=True).expand(-1, group_size).flatten()
    return advantages.group_normalize(score, group_size) * std / (std + 1e-4)


advantage_row("group-normalised scores, TRL's epsilon put in", "advantages.group_normalize", GRPOTrainer, _with_epsilon)
advantage_row("group-normalised scores of spread 0.001", "advantages.group_normalize", GRPOTrainer,
              lambda s, g, b: advantages.group_normalize(s, g), spread=1e-3, item="D6",
              why="TRL adds 1e-4 to the std, which shrinks the advantages of a reward of small spread; ours tests equality instead")


def _population(score, group_size, batch):
    groups = score.view(-1, group_size)
    return ((groups - groups.mean(1, keepdim=True)) / groups.std(1, keepdim=True, correction=0)).flatten()


advantage_row("group-normalised scores, population std", "advantages.group_normalize", GRPOTrainer, _population, item="D7",
              why="the left side is the population's std (n); TRL and ours divide by n - 1")


@row("a group of equal scores, float32", "advantages.group_normalize", "GRPOTrainer._generate_and_score_completions", item="D6",
     why="the float32 mean of equal scores is not always that score, and TRL divides the rounding by 1e-4; ours is exactly 0")
def equal_scores(case):
    group_size = (3, 5, 7)[case.seed]
    score = torch.full((3 * group_size,), 1000.1, dtype=torch.float32)
    theirs = trl_advantages(GRPOTrainer, wide(case, len(score)), score, group_size=group_size)
    return (advantages.group_normalize(score, group_size), []), (theirs, [])


def trl_rloo(batch, z, advantage, old):
    """TRL's side: RLOOTrainer._compute_loss."""
    trainer = bare(RLOOTrainer, temperature=1.0, model_kwarg_keys=set(), epsilon_low=0.2, epsilon_high=0.2)
    total = (logps(batch, old) * mask_of(batch)).sum(1)
    return trainer._compute_loss(Table((batch.ids, z)), rollout_inputs(batch, advantage, old_logps=total))


def _rloo(case, *, on_policy, values=True):
    batch = lay_out(case)
    adv = advantages.leave_one_out(batch.score, 2)
    old = batch.logits if on_policy else batch.old
    ours = pull(lambda z: rloo.rloo_loss(logps(batch, z), batch.score, mask_of(batch), group_size=2)[0], batch.logits)
    theirs = pull(lambda z: trl_rloo(batch, z, adv, old), batch.logits)
    return (ours, theirs) if values else ((0 * ours[0], ours[1]), (0 * theirs[0], theirs[1]))


row("RLOO, gradient on its own samples", "rloo.rloo_loss", "RLOOTrainer._compute_loss (ratio 1; gradient alone)")(
    lambda case: _rloo(case, on_policy=True, values=False))
row("RLOO, value on its own samples", "rloo.rloo_loss", "RLOOTrainer._compute_loss", item="E2, E3",
    why="at ratio 1 TRL's clipped loss has the value -mean(A) = 0, REINFORCE's is -mean(A log p); the gradients are equal")(
        lambda case: _rloo(case, on_policy=True))
row("RLOO, old samples", "rloo.rloo_loss", "RLOOTrainer._compute_loss", item="E5",
    why="TRL weights and clips by the ratio of whole sequences, exp(sum); ours is REINFORCE, without a ratio")(
        lambda case: _rloo(case, on_policy=False))


@row("REINFORCE, gradient on its own samples", "reinforce.reinforce_loss", "RLOOTrainer._compute_loss (ratio 1; gradient alone)")
def plain(case):
    batch = lay_out(case)
    ours = pull(lambda z: reinforce.reinforce_loss(logps(batch, z), batch.score - 0.3, mask_of(batch))[0], batch.logits)
    theirs = pull(lambda z: trl_rloo(batch, z, batch.score - 0.3, batch.logits), batch.logits)
    return (0 * ours[0], ours[1]), (0 * theirs[0], theirs[1])


@row("PPO policy loss, advantages a token", "ppo.policy_loss", "GRPOTrainer._compute_loss, loss_type='bnpo', advantages (B, T)")
def token_advantages(case):
    batch = lay_out(case)
    adv = torch.randn(mask_of(batch).shape, generator=case.generator(), dtype=case.dtype)
    old = logps(batch, batch.old)
    return (pull(lambda z: ppo.policy_loss(logps(batch, z), old, adv, mask_of(batch))[0], batch.logits),
            pull(lambda z: trl_grpo(batch, z, adv, loss_type="bnpo"), batch.logits))


# PPO: everything below went through PPOTrainer.train itself

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


ppo_advantages("PPO rewards and GAE, rows of full width", "advantages.gae", full=True)
ppo_advantages("PPO rewards and GAE, gamma 0.9, lam 0.7, full width", "advantages.gae", full=True, gamma=0.9, lam=0.7)
ppo_advantages("GAE, score put where TRL puts it", "advantages.gae", trl_place=True, gamma=0.9, lam=0.7)
ppo_advantages("GAE, rows that end early, gamma = lam = 1", "advantages.gae", lam=1.0)
ppo_advantages("PPO rewards and GAE, rows that end early", "ppo.rewards", item="C1", gamma=0.9, lam=0.7,
               why="TRL puts the score one place after EOS (trl#3750), with a value of its own there; ours is on the last token")


@row("PPO whitening", "tensors.masked_whiten", PPO)
def whitening(case):
    batch, seen = ppo_batch(case)
    raw, white, mask = seen.advantage
    return (masked_whiten(raw, mask), []), (white * mask, [])


@row("PPO whitening around the kept mean", "tensors.masked_whiten", PPO + ", whiten_rewards=True")
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

    @row(name, "ppo.policy_loss", PPO, **more)
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




def metric(name, ours_name, key, ours, **more):
    """Declare a row: one of TRL's PPO metrics (float32) against our stats."""

    @row(name, ours_name, f"{PPO}, metric {key}", tolerance=1e-4, **more)
    def compare(case):
        batch, seen = ppo_batch(case, missing_eos_penalty=1.0)
        stats = ppo_loss(batch.logits, batch.value_new, batch, trl_place=True)[2]
        return (torch.as_tensor(ours(batch, stats)).float(), []), (torch.tensor(seen.metrics[key]).float(), [])


metric("PPO clip fraction", "ppo.policy_loss", "policy/clipfrac_avg", lambda b, s: s["clip_frac"])
metric("PPO approximate KL", "ppo.policy_loss", "policy/approxkl_avg", lambda b, s: s["approx_kl"], item="E12, K30",
       why="TRL: half the squared log-ratio, averaged over padding too; ours: k3, over the tokens")
metric("k2 over padding too", "kl.k2", "policy/approxkl_avg",
       lambda b, s: kl.k2(logps(b, b.logits) * mask_of(b), logps(b, b.old) * mask_of(b)).mean())
metric("summed k1 to the reference", "kl.k1", "objective/kl",
       lambda b, s: (kl.k1(logps(b, b.old), logps(b, b.ref)) * mask_of(b)).sum(1).mean())
metric("penalty for a missing EOS", "reward_model.finish_score", "objective/scores",
       lambda b, s: reward_model.finish_score(b.score, b.mask.sum(1) < b.T, penalty=1.0).mean())
