"""Log-probabilities, cross-entropies, KL and reading a score, against torch, transformers and TRL's helpers."""

import copy

import torch
import torch.nn.functional as F
from torch.distributions import Categorical, kl_divergence
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel
from trl.experimental.ppo.ppo_trainer import forward as ppo_forward
from trl.experimental.utils import get_reward
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

from rlhf_minimal import kl
from rlhf_minimal.aggregate import aggregate
from rlhf_minimal.logprobs import entropy, sequence_logps, token_logps
from rlhf_minimal.process_reward import outcome_loss, process_loss
from rlhf_minimal.reward_model import RewardModel, rating_loss
from rlhf_minimal.sft import sft_loss
from rlhf_minimal.tensors import masked_mean, masked_whiten

from .oracle_rows import Table, lay_out, pull, row
from .oracle_trl import GRPOTrainer, SFTTrainer, bare

VOCAB = 24


def tiny(case, cls=GPT2LMHeadModel, **config):
    """A random GPT-2 without dropout, 2 layers of 16, weights large enough that places and tokens matter."""
    sizes = {"vocab_size": VOCAB, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.4}
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


@row("token log-probabilities", "logprobs.token_logps", "trl.trainer.utils.selective_log_softmax")
def selective(case):
    b = lay_out(case, left=False)
    ours = pull(lambda z: token_logps(Table((b.ids, z)), b.ids, b.attention), b.logits)
    theirs = pull(lambda z: selective_log_softmax(z[:, :-1], b.ids[:, 1:]) * b.attention[:, 1:] * b.attention[:, :-1], b.logits)
    return ours, theirs


@row("token log-probabilities from bfloat16 logits", "logprobs.token_logps", "trl.trainer.utils.selective_log_softmax", item="B2",
     why="TRL takes the log-softmax in bfloat16, ours in float32")
def half(case):
    b = lay_out(case, left=False)
    logits, real = (4 * b.logits).bfloat16(), b.attention[:, 1:] * b.attention[:, :-1]
    theirs = selective_log_softmax(logits[:, :-1], b.ids[:, 1:]).float() * real
    return (token_logps(Table((b.ids, logits)), b.ids, b.attention), []), (theirs, [])


@row("sequence log-probabilities", "logprobs.sequence_logps", "torch F.cross_entropy, reduction='none'")
def sequences(case):
    b = lay_out(case, left=False)
    labels = torch.where(b.mask.bool(), b.ids, -100)[:, 1:]
    return (pull(lambda z: sequence_logps(Table((b.ids, z)), b.ids, b.attention, b.mask), b.logits),
            pull(lambda z: -F.cross_entropy(z[:, :-1].transpose(1, 2), labels, reduction="none").sum(1), b.logits))


@row("log-probabilities at temperature 0.7", "logprobs.token_logps", "GRPOTrainer._get_per_token_logps_and_entropies")
def temperature(case):
    b = lay_out(case)
    mask = b.mask[:, b.P:]

    def theirs(z):
        trainer = bare(GRPOTrainer, temperature=0.7, model_kwarg_keys=set())
        return trainer._get_per_token_logps_and_entropies(Table((b.ids, z)), b.ids, b.attention, b.T)[0] * mask

    return (pull(lambda z: token_logps(Table((b.ids, z)), b.ids, b.attention, temperature=0.7)[:, b.P - 1:] * mask, b.logits),
            pull(theirs, b.logits))


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
     why="TRL passes no position ids, so a left-padded row counts its padding as places (trl#6800)")
gpt2("GPT-2, left-padded prompts, PPO", TOKEN, PPO_FORWARD, text, _ppo_logps)
gpt2("GPT-2, an EOS in the prompt, pad = EOS, PPO", TOKEN, PPO_FORWARD, _eos_in_prompt, _ppo_logps, item="A3",
     why="TRL's PPO makes the attention from ids != pad, so a real EOS vanishes where pad is EOS")


@row("entropy", "logprobs.entropy", "trl.trainer.utils.entropy_from_logits")
def entropies(case):
    z = lay_out(case).logits
    return pull(entropy, z), pull(entropy_from_logits, z)


@row("SFT loss", "sft.sft_loss", "torch F.cross_entropy, ignore_index=-100")
def cross_entropy(case):
    b = lay_out(case, left=False)
    labels = torch.where(b.mask.bool(), b.ids, -100)[:, 1:]
    return (pull(lambda z: sft_loss(token_logps(Table((b.ids, z)), b.ids, b.attention), b.mask[:, 1:])[0], b.logits),
            pull(lambda z: F.cross_entropy(z[:, :-1].flatten(0, 1), labels.flatten()), b.logits))


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


@row("exact KL", "kl.exact_kl", "torch.distributions.kl_divergence")
def distributions(case):
    b = lay_out(case)
    return (pull(kl.exact_kl, b.logits, b.ref),
            pull(lambda p, q: kl_divergence(Categorical(logits=p), Categorical(logits=q)), b.logits, b.ref))


def kl_div(input, target):
    """F.kl_div over the last dimension, from logits, in the order of its arguments."""
    return F.kl_div(input.log_softmax(-1), target.log_softmax(-1), reduction="none", log_target=True).sum(-1)


@row("exact KL against F.kl_div", "kl.exact_kl", "torch F.kl_div(log q, log p, log_target=True)")
def kl_div_right(case):
    b = lay_out(case)
    return pull(kl.exact_kl, b.logits, b.ref), pull(lambda p, q: kl_div(q, p), b.logits, b.ref)


@row("exact KL against F.kl_div as it reads", "kl.exact_kl", "torch F.kl_div(log p, log q, log_target=True)", item="C6",
     why="F.kl_div's first argument is the *second* distribution: as it reads, it is the other divergence")
def kl_div_reversed(case):
    b = lay_out(case)
    return pull(kl.exact_kl, b.logits, b.ref), pull(kl_div, b.logits, b.ref)


@row("masked mean", "tensors.masked_mean", "torch.Tensor.mean of the masked entries")
def mean(case):
    b = lay_out(case)
    x = b.logits[..., 0]
    return pull(lambda x: masked_mean(x, b.mask), x), pull(lambda x: x[b.mask.bool()].mean(), x)


@row("whitening", "tensors.masked_whiten", "torch std, mean of the masked entries")
def whiten(case):
    b = lay_out(case)
    x, on = b.logits[..., 0], b.mask.bool()
    return pull(lambda x: masked_whiten(x, b.mask)[on], x), pull(lambda x: (x[on] - x[on].mean()) / x[on].std(), x)


@row("whitening, population std", "tensors.masked_whiten", "torch std(correction=0) of the masked entries", item="D4",
     why="OpenAI and Huang divide by n, ours and TRL by n - 1")
def whiten_population(case):
    b = lay_out(case)
    x, on = b.logits[..., 0], b.mask.bool()
    return pull(lambda x: masked_whiten(x, b.mask)[on], x), pull(lambda x: (x[on] - x[on].mean()) / x[on].std(correction=0), x)


@row("aggregate, sequence_mean", "aggregate.aggregate", "torch nested rows, mean of means")
def sequence_mean(case):
    b = lay_out(case)
    x = b.logits[..., 0]
    return (pull(lambda x: aggregate(x, b.mask, "sequence_mean"), x),
            pull(lambda x: torch.stack([r[m].mean() for r, m in zip(x, b.mask.bool(), strict=True)]).mean(), x))


@row("rating loss", "reward_model.rating_loss", "torch 0.5 * F.mse_loss")
def rating(case):
    b = lay_out(case)
    target = 2 * b.score + 1
    return pull(lambda s: rating_loss(s, target)[0], b.score), pull(lambda s: 0.5 * F.mse_loss(s, target), b.score)


@row("process reward model", "process_reward.process_loss", "torch F.binary_cross_entropy_with_logits")
def process(case):
    b = lay_out(case)
    on = b.mask.bool()
    labels = torch.where(on, b.ids % 2, -100)
    return (pull(lambda z: process_loss(z[..., 0], labels)[0], b.logits),
            pull(lambda z: F.binary_cross_entropy_with_logits(z[..., 0][on], labels[on].to(z.dtype)), b.logits))


@row("outcome reward model", "process_reward.outcome_loss", "torch F.binary_cross_entropy_with_logits, mean a row")
def outcome(case):
    b = lay_out(case)
    label = (b.score > 0).to(b.score.dtype)

    def theirs(z):
        rows = zip(z[..., 0], label, b.mask.bool(), strict=True)
        return torch.stack([F.binary_cross_entropy_with_logits(r[m], y.expand(int(m.sum()))) for r, y, m in rows]).mean()

    return pull(lambda z: outcome_loss(z[..., 0], label, b.mask)[0], b.logits), pull(theirs, b.logits)


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
