"""TRL's own trainer methods, called without a training run: a bare instance with just the attributes that they read."""

from collections import defaultdict
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from trl import DPOTrainer, GRPOTrainer, KTOTrainer, RewardTrainer, RLOOTrainer, SFTTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.experimental.ppo import PPOTrainer, ppo_trainer

from .oracle_rows import Table

__all__ = ["DPOTrainer", "GRPOTrainer", "KTOTrainer", "RewardTrainer", "RLOOTrainer", "SFTTrainer", "CPOTrainer",
           "ORPOTrainer", "PPOTrainer", "accelerator", "bare", "ppo_run"]


def accelerator(**more):
    """One process on the CPU: what gathers, gives back what it got."""
    def same(x, *_, **__):
        return x

    named = dict.fromkeys(("gather", "gather_for_metrics", "reduce", "unwrap_model"), same)
    return SimpleNamespace(device=torch.device("cpu"), num_processes=1, process_index=0, is_main_process=True,
                           sync_gradients=True, print=lambda *_: None, accumulate=lambda _: nullcontext(), **named, **more)


def bare(cls, **attributes):
    """An instance of a trainer that never ran __init__, with these attributes over harmless ones; model in eval mode."""
    trainer = object.__new__(cls)
    args = SimpleNamespace(gradient_checkpointing_kwargs=None, report_to=[], **attributes.pop("args", {}))
    common = {"accelerator": accelerator(), "args": args, "aux_loss_enabled": False, "_total_train_tokens": 0,
              "_metrics": {mode: defaultdict(list) for mode in ("train", "eval")}, "model": Table().eval()}
    trainer.__dict__.update(common | attributes)
    return trainer


def _ppo_self(case, batch, settings, seen):
    """The `self` that PPOTrainer.train reads."""
    rows = len(batch.ids)
    numbers = {"num_ppo_epochs": 1, "num_mini_batches": 1, "gradient_accumulation_steps": 1, "num_total_batches": 1,
               "batch_size": rows, "local_batch_size": rows, "local_mini_batch_size": rows, "total_episodes": rows,
               "per_device_train_batch_size": rows, "local_rollout_forward_batch_size": rows, "response_length": batch.T,
               "temperature": 1.0 - 1e-7, "num_sample_generations": 0, "ds3_gather_for_generation": False,
               "logging_steps": None, "eval_steps": None, "save_steps": None, "missing_eos_penalty": None,
               "kl_estimator": "k1", "kl_coef": 0.1, "whiten_rewards": False, "gamma": 1.0, "lam": 0.95,
               "cliprange": 0.2, "cliprange_value": 0.2, "vf_coef": 0.5}
    control = SimpleNamespace(should_save=False)
    handler = SimpleNamespace(on_train_begin=lambda *_: control, on_step_end=lambda *_: control, on_train_end=lambda *_: control)

    def backward(loss):
        seen["loss"] = loss.detach()
        seen["grads"] = torch.autograd.grad(loss, (seen["z"], seen["v"]))

    wrapper = SimpleNamespace(policy="policy", value_model="value", train=lambda: None)
    optimizer = SimpleNamespace(step=lambda: None, zero_grad=lambda: None)
    scheduler = SimpleNamespace(get_last_lr=lambda: [0.0], step=lambda: None)
    return SimpleNamespace(
        args=SimpleNamespace(**(numbers | settings)), accelerator=accelerator(backward=backward), optimizer=optimizer,
        model=wrapper, ref_model="reference", reward_model="reward", state=SimpleNamespace(), control=control,
        processing_class=SimpleNamespace(pad_token_id=0, eos_token_id=1), callback_handler=handler, lr_scheduler=scheduler,
        dataloader=[{"input_ids": batch.ids[:, :batch.P]}], train_dataset_len=rows, is_deepspeed_enabled=False,
        stop_token_id=1, log=lambda metrics: seen.update(metrics=metrics))


def ppo_run(case, batch, value, value_new, **settings):
    """PPOTrainer.train, one batch, one update, with the models replaced by tables -> what passed through it.

    batch.old drew the completions, batch.logits is the policy now, batch.ref the reference; value, value_new (B,L) the
    critic's then and now. Result: raw and white advantages, rewards (if whitened), policy and value loss, gradients in
    logits and values, metrics. EOS is id 1, padding id 0; the completions of `batch` end in EOS unless full.
    """
    seen = {"means": [], "z": batch.logits.clone().requires_grad_(), "v": value_new.clone().requires_grad_()}
    columns = slice(batch.P - 1, -1)

    def forward(model, *_):
        if model == "reference":
            return SimpleNamespace(logits=batch.ref.clone())
        return SimpleNamespace(logits=seen["z"] * 1.0), (seen["v"] * 1.0)[..., None]

    def get_reward(model, *_):
        return (value[..., None], None, None) if model == "value" else (None, batch.score.clone(), None)

    def whiten(x, mask, shift_mean=True):
        out = ppo_whiten(x, mask, shift_mean)
        seen["advantage" if shift_mean else "reward"] = (x.clone(), out.clone(), mask.clone())
        return out

    def mean(x, mask, axis=None):
        out = ppo_mean(x, mask, axis)
        seen["means"].append(out.detach())
        return out

    @contextmanager
    def unwrap(model, *_, **__):
        yield model

    ppo_whiten, ppo_mean = ppo_trainer.masked_whiten, ppo_trainer.masked_mean
    replaced = {"forward": forward, "get_reward": get_reward, "masked_mean": mean, "unwrap_model_for_generation": unwrap,
                "gc": SimpleNamespace(collect=lambda: None), "empty_cache": lambda: None,  # slow, and no part of the matter
                "masked_whiten": whiten, "batch_generation": lambda *_: (batch.ids.clone(), batch.old[:, columns].clone())}
    with mock.patch.multiple(ppo_trainer, **replaced), mock.patch("numpy.random.permutation", np.arange):
        PPOTrainer.train(_ppo_self(case, batch, settings, seen))
    seen["value_loss"], seen["policy_loss"] = (0.5 * seen["means"][-4], seen["means"][-2])
    return SimpleNamespace(**seen)
