"""On a tiny GPT-2: positions, attention, the SFT loss in all weights, and which token a score is read at."""

import copy

import torch
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel
from trl.experimental.ppo.ppo_trainer import forward as ppo_forward
from trl.experimental.utils import get_reward
from trl.trainer.utils import selective_log_softmax

from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.reward_model import RewardModel
from rlhf_minimal.sft import sft_loss

from .oracle_rows import lay_out, row
from .oracle_trl import GRPOTrainer, SFTTrainer, bare

VOCAB = 24


def tiny(case, cls=GPT2LMHeadModel, **config):
    """A random GPT-2 without dropout, 2 layers of 16, weights large enough that places and tokens matter."""
    sizes = {"vocab_size": VOCAB, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.4}
    sizes |= {"bos_token_id": 1, "eos_token_id": 1}
    off = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    with torch.random.fork_rng():
        torch.manual_seed(case.seed)
        return cls(GPT2Config(**sizes, **off, **config)).to(case.dtype).eval()


def text(case, **more):
    """`lay_out` with ids of the tiny model's vocabulary."""
    return lay_out(type(case)((*case.shape[:3], VOCAB), case.dtype, case.seed), **more)


def of_weights(model, fn):
    """(value, gradients in all weights) of fn(model)."""
    model.zero_grad()
    value = fn(model)
    return value.detach(), list(torch.autograd.grad(value, list(model.parameters())))


def _grpo_logps(model, b):
    trainer = bare(GRPOTrainer, temperature=1.0, model_kwarg_keys=set())
    return trainer._get_per_token_logps_and_entropies(model, b.ids, b.attention, b.T)[0] * b.mask[:, b.P:]


def gpt2(name, ours_name, outside, batch, theirs, **more):
    """Declare a row on a tiny GPT-2: log-probabilities of the completions."""

    @row(name, ours_name, outside, **more)
    def compare(case):
        model, b = tiny(case), batch(case)
        with torch.no_grad():
            return (token_logps(model, b.ids, b.attention)[:, b.P - 1:] * b.mask[:, b.P:], []), (theirs(model, b), [])


def _no_left_padding(case):
    """Prompts of one length: nothing on the left."""
    b = text(case)
    b.ids[:, :b.P] = b.ids[:1, :b.P]
    b.attention[:, :b.P] = 1
    return b


def _eos_in_prompt(case):
    """Padding is id 0 and so is EOS, which stands at the start of every prompt too, as after an earlier turn."""
    b = text(case)
    b.ids[torch.arange(len(b.ids)), b.attention.argmax(1)] = 0
    return b


def _ppo_logps(model, b):
    logits = ppo_forward(model, b.ids, 0).logits[:, b.P - 1:-1]
    return selective_log_softmax(logits, b.ids[:, b.P:]) * b.mask[:, b.P:]


TOKEN, GRPO_LOGPS = "logprobs.token_logps", "GRPOTrainer._get_per_token_logps_and_entropies, GPT-2"
PPO_FORWARD = "trl.experimental.ppo.ppo_trainer.forward, GPT-2"
gpt2("GPT-2, prompts of one length", TOKEN, GRPO_LOGPS, _no_left_padding, _grpo_logps)
gpt2("GPT-2, left-padded prompts", TOKEN, GRPO_LOGPS, text, _grpo_logps, item="A2",
     why="TRL's GRPO passes no position ids, so a left-padded row counts its padding as positions; "
         "trl#6800 reports the same of Online DPO, XPO and Nash-MD")
gpt2("GPT-2, left-padded prompts, PPO", TOKEN, PPO_FORWARD, text, _ppo_logps)
gpt2("GPT-2, an EOS in the prompt, pad = EOS, PPO", TOKEN, PPO_FORWARD, _eos_in_prompt, _ppo_logps, item="A3",
     why="TRL's PPO makes the attention from ids != pad, so a real EOS vanishes where pad is EOS")


def _our_sft(b, mask):
    return lambda model: sft_loss(token_logps(model, b.ids, b.attention), mask[:, 1:])[0]


@row("SFT, all tokens, gradients in all weights", "sft.sft_loss", "GPT2LMHeadModel(ids, labels=ids).loss (in float32)",
     tolerance=1e-4)
def labels_are_ids(case):
    model, b = tiny(case), text(case, left=False)
    ids = torch.where(b.attention.bool(), b.ids, 1)[:, :b.P + b.T]
    full = torch.ones_like(ids)
    b.ids, b.attention = ids, full
    return of_weights(model, _our_sft(b, full)), of_weights(model, lambda m: m(ids, labels=ids).loss)


@row("SFT, completions, gradients in all weights", "sft.sft_loss", "SFTTrainer.compute_loss (in float32)", tolerance=1e-4)
def sft_trainer(case):
    model, b = tiny(case), text(case, left=False)

    def theirs(m):
        args = {"use_liger_kernel": False, "loss_type": "nll", "average_tokens_across_devices": False, "past_index": -1}
        trainer = bare(SFTTrainer, args=args, label_smoother=None, compute_loss_func=None, model_accepts_loss_kwargs=True,
                       num_virtual_tokens=0)
        inputs = {"input_ids": b.ids, "attention_mask": b.attention, "labels": torch.where(b.mask.bool(), b.ids, -100)}
        return trainer.compute_loss(m, inputs, num_items_in_batch=b.mask[:, 1:].sum())

    return of_weights(model, _our_sft(b, b.mask)), of_weights(model, theirs)


def _classifier(case, pad):
    """A sequence classifier of transformers and our reward model with the same weights."""
    shell = tiny(case, GPT2ForSequenceClassification, num_labels=1, pad_token_id=pad)
    model = RewardModel(copy.deepcopy(shell.transformer), shell.score.weight.detach())
    return shell, model.to(case.dtype)


def _ends_in(case, eos):
    """Preference rows that end in `eos`, padding 0 on the right."""
    b = text(case, left=False)
    last = b.attention.sum(1) - 1
    b.ids = torch.where((b.ids == eos) & b.attention.bool(), 2, b.ids)
    b.ids[torch.arange(len(last)), last] = eos
    return b


def reading(name, outside, eos, theirs, **more):
    """Declare a row: which token's hidden state is the score."""

    @row(name, "reward_model.RewardModel", outside, **more)
    def compare(case):
        b = _ends_in(case, eos)
        shell, model = _classifier(case, 0)
        with torch.no_grad():
            return (model(b.ids, b.attention), []), (theirs(shell, b), [])


def _shell_score(shell, b):
    return shell(b.ids, attention_mask=b.attention).logits[:, 0]


HF = "transformers GPT2ForSequenceClassification"
reading("score of the last token, padding of its own", HF, 1, _shell_score, tolerance=1e-4)
reading("score of the last token, pad = EOS", HF, 0, _shell_score, item="F1",
        why="that class reads the rightmost token that is not the pad id: with pad = EOS the one before EOS")
reading("score of the last token, padding of its own, PPO", "trl.experimental.utils.get_reward", 1,
        lambda shell, b: get_reward(shell, b.ids, 0, 0)[1], tolerance=1e-4)
