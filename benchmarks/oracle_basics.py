"""Log-probabilities, cross-entropies, KL, means and whitening, against torch and TRL's helpers."""

import torch
import torch.nn.functional as F
from torch.distributions import Categorical, kl_divergence
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

from rlhf_minimal import kl
from rlhf_minimal.aggregate import aggregate
from rlhf_minimal.logprobs import entropy, sequence_logps, token_logps
from rlhf_minimal.process_reward import outcome_loss, process_loss
from rlhf_minimal.reward_model import rating_loss
from rlhf_minimal.sft import sft_loss
from rlhf_minimal.tensors import masked_mean, masked_whiten

from .oracle_rows import Table, lay_out, pull, row
from .oracle_trl import GRPOTrainer, bare


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
