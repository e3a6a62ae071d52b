"""GRPO and its relatives against TRL: losses, and gradients in every logit."""

from types import SimpleNamespace

import torch

from rlhf_minimal import advantages, grpo, ppo
from rlhf_minimal.logprobs import token_logps

from .oracle_rows import Table, lay_out, pull, row
from .oracle_trl import GRPOTrainer, bare


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


@row("PPO policy loss, advantages a token", "ppo.policy_loss", "GRPOTrainer._compute_loss, loss_type='bnpo', advantages (B, T)")
def token_advantages(case):
    batch = lay_out(case)
    adv = torch.randn(mask_of(batch).shape, generator=case.generator(), dtype=case.dtype)
    old = logps(batch, batch.old)
    return (pull(lambda z: ppo.policy_loss(logps(batch, z), old, adv, mask_of(batch))[0], batch.logits),
            pull(lambda z: trl_grpo(batch, z, adv, loss_type="bnpo"), batch.logits))
