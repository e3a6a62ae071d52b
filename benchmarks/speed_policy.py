"""Rows of `make bench`: a GRPO step and a PPO step against TRL's trainers, from prompts to updated weights.

Both sides sample at most 64 new tokens at temperature 1 without top-k, score, and update with AdamW (fused). GRPO: one
update a batch, no reference (beta 0), the score a cheap function of the text. PPO: a reference, a reward model and a
value model of the policy's size, four epochs over the whole batch.
"""

import copy

import torch
from datasets import Dataset

from benchmarks.speed_rows import clocked, row
from benchmarks.speed_trainers import RATE, adamw, config, loop
from rlhf_minimal import grpo, models, ppo
from rlhf_minimal.data import load_data, prompts_ids
from rlhf_minimal.reward_model import RewardModel
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import sample

NEW = 64


def variety(text):
    """Different words of a text: a score that costs nothing."""
    return float(len(set(text.split())))


def says(completion):
    """The text of a completion in TRL's chat format."""
    return completion[0]["content"]


@row("GRPO, a step of 8 × 8", "village-3m-sft, at most 64 new tokens; two steps a repetition", "TRL `GRPOTrainer`", "step",
     1.4, 2.0, seconds=35)
def grpo_step(s):
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer = models.load("village-3m-sft")
    twin, steps = copy.deepcopy(model), max(1, round(2 * s.scale))
    rows = list(load_data("village", "prompts", n=8))
    ids, optimizer, generator = prompts_ids(rows, tokenizer), adamw(model), torch.Generator().manual_seed(0)

    def ours():
        for _ in range(steps):
            rollout = sample(model, ids, n=8, max_new_tokens=NEW, eos_id=tokenizer.eos_token_id, generator=generator)
            score = torch.tensor([variety(text) for text in rollout.texts(tokenizer)])
            grpo.step(model, optimizer, rollout, score, group_size=8)
        return steps

    args = config(GRPOConfig, per_device_train_batch_size=64, num_generations=8, max_completion_length=NEW, temperature=1.0,
                  top_k=0, top_p=1.0, beta=0.0, loss_type="grpo", max_steps=steps)
    data = Dataset.from_list([{"prompt": [{"role": "user", "content": r["prompt"]}]} for r in rows])
    peer = GRPOTrainer(model=twin, args=args, train_dataset=data, processing_class=tokenizer,
                       reward_funcs=lambda completions, **_: [variety(says(c)) for c in completions])
    return clocked(ours), loop(peer, steps)


def judges(model, tokenizer):
    """A reward model of random preferences, as ours and as transformers' class, and a value model for TRL."""
    judge = RewardModel(model)
    torch.nn.init.normal_(judge.model.score.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    shells = [copy.deepcopy(judge.model) for _ in range(2)]
    for shell in shells:
        shell.config.pad_token_id = tokenizer.pad_token_id
        head = torch.nn.Linear(shell.config.hidden_size, 1, bias=False)
        head.weight.data.copy_(shell.score.weight.data)
        shell.score = head  # ours squeezes its last dimension; TRL's does not
    return judge, *shells


@row("PPO, a step of 64 rollouts, 4 epochs", "village-3m-sft, at most 64 new tokens, reward and value models of its size",
     "TRL `PPOTrainer` (experimental)", "step", 1.4, 2.0, seconds=130)
def ppo_step(s):
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    model, tokenizer = models.load("village-3m-sft")
    judge, reward, value = judges(model, tokenizer)
    twin, reference, critic = copy.deepcopy(model), models.frozen_copy(model), ppo.Critic(model)
    ids = prompts_ids(list(load_data("village", "prompts", n=s.rows(64))), tokenizer)
    size = len(ids)
    optimizer, generator = adamw(model, critic), torch.Generator().manual_seed(0)

    def ours():
        rollout = sample(model, ids, max_new_tokens=NEW, eos_id=tokenizer.eos_token_id, generator=generator)
        with torch.no_grad():
            score, ref = judge(rollout.ids, rollout.attention), completion_logps(reference, rollout)
        ppo.step(model, optimizer, rollout, score, critic=critic, logp_ref=ref, beta=0.05, epochs=4, generator=generator)
        return 1

    args = config(PPOConfig, per_device_train_batch_size=size, num_mini_batches=1, num_ppo_epochs=4, total_episodes=size,
                  local_rollout_forward_batch_size=size, response_length=NEW, stop_token="eos", temperature=1.0, kl_coef=0.05,
                  gradient_accumulation_steps=1, num_sample_generations=0)
    left = copy.deepcopy(tokenizer)
    left.padding_side = "left"
    data = Dataset.from_list([{"input_ids": x} for x in ids])
    peer = PPOTrainer(args, left, twin, models.frozen_copy(model), reward, data, value, eval_dataset=data.select(range(8)))
    assert RATE == args.learning_rate
    return clocked(ours), loop(peer, 1)
