"""Advantages of GRPO and RLOO, and the losses of RLOO and REINFORCE, against TRL."""

from collections import defaultdict
from types import SimpleNamespace

import torch

from rlhf_minimal import advantages, kl, reinforce, rloo

from .oracle_policy import logps, mask_of, rollout_inputs
from .oracle_rows import Table, lay_out, pull, row
from .oracle_trl import GRPOTrainer, RLOOTrainer, bare


def trl_advantages(cls, batch, score, *, group_size, beta=0.0, **settings):
    """TRL's side: _generate_and_score_completions with the generation and the reward function replaced."""
    rows = len(score)
    lists = [[x[m.bool()].tolist() for x, m in zip(*pair, strict=True)] for pair in (
        (batch.ids[:, :batch.P], batch.attention[:, :batch.P]), (batch.ids[:, batch.P:], batch.attention[:, batch.P:]))]
    texts = ["" for _ in range(rows)]
    generated = (*lists, texts) if cls is RLOOTrainer else (*lists, None, texts, None, {}, None, None)
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=1, batch_decode=lambda ids, **_: texts)
    args = {"per_device_train_batch_size": rows, "per_device_eval_batch_size": rows, "steps_per_generation": 1,
            "gradient_accumulation_steps": 1}
    trainer = bare(
        cls, args=args, _generate=lambda prompts: generated, _tokenizer=tokenizer, processing_class=tokenizer,
        pad_to_multiple_of=None, mask_truncated_completions=False, model_kwarg_keys=set(), temperature=1.0, beta=beta,
        num_generations_eval=group_size, num_generations=group_size, num_iterations=1, reward_weights=torch.ones(1),
        reward_funcs=[None], reward_func_names=["f"], reward_clip_range=None, normalize_advantages=False,
        multi_objective_aggregation="sum_then_normalize", scale_rewards="group",
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
    reward, _ = kl.penalized(score, logps(batch, batch.old), logps(batch, batch.ref), mask_of(batch), 0.1)
    return advantages.leave_one_out(reward, group_size)


advantage_row("RLOO advantages, KL in the score, beta 0.1", "kl.penalized", RLOOTrainer, _with_kl, beta=0.1)
advantage_row("group mean alone (Dr. GRPO)", "advantages.group_normalize", GRPOTrainer,
              lambda s, g, b: advantages.group_normalize(s, g, scale=False), trl={"scale_rewards": "none"})


def _with_epsilon(score, group_size, batch):
    """Ours, times std / (std + 1e-4): TRL's epsilon put in by hand."""
    std = score.view(-1, group_size).std(1, keepdim=True).expand(-1, group_size).flatten()
    return advantages.group_normalize(score, group_size) * std / (std + 1e-4)


advantage_row("group-normalised scores, TRL's epsilon put in", "advantages.group_normalize", GRPOTrainer, _with_epsilon,
              tolerance=1e-6)  # TRL's n / (n - 1) is a float32, whatever the scores are
advantage_row("group-normalised scores of spread 0.001", "advantages.group_normalize", GRPOTrainer,
              lambda s, g, b: advantages.group_normalize(s, g), spread=1e-3, item="D6",
              why="TRL adds 1e-4 to the std, which shrinks the advantages of a reward of small spread; ours tests equality instead")


@row("group-normalised scores, population std", "advantages.group_normalize", "torch (x - mean) / std(correction=0)", item="D7",
     why="GRPO-Zero's std divides by n; ours and TRL's by n - 1")
def population(case):
    group_size = {2: 2, 4: 4, 6: 8}[case.shape[0]]
    score = scores(case, group_size)
    groups = score.view(-1, group_size)
    theirs = (groups - groups.mean(1, keepdim=True)) / groups.std(1, keepdim=True, correction=0)
    return (advantages.group_normalize(score, group_size), []), (theirs.flatten(), [])


@row("a group of equal scores", "advantages.group_normalize", "GRPOTrainer._generate_and_score_completions", item="D6",
     why="the mean of equal floats is not always that float, and TRL divides the rounding by 1e-4; ours is exactly 0")
def equal_scores(case):
    group_size = (3, 5, 7)[case.seed]
    score = torch.full((3 * group_size,), 1000.1, dtype=case.dtype)
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
