"""Wrong calls: each raises ValueError (OSError for a model that cannot be had) at once, and its message says what was
given, with the sizes as numbers, and what to do.
"""

import re
import time

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_minimal import data, kl, models
from rlhf_minimal import direct_alignment as da
from rlhf_minimal.advantages import gae, group_normalize, leave_one_out, returns_to_go
from rlhf_minimal.aggregate import aggregate
from rlhf_minimal.best_of_n import curve, kl_bound, select
from rlhf_minimal.equations import implements
from rlhf_minimal.evaluate import pass_at_k, win_rate
from rlhf_minimal.grpo import grpo_loss
from rlhf_minimal.logprobs import sequence_logps, token_logps
from rlhf_minimal.ppo import policy_loss, rewards, value_loss
from rlhf_minimal.process_reward import answer_score, outcome_loss, process_loss
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.reward_model import RewardModel, finish_score, pairwise_loss, plackett_luce_loss
from rlhf_minimal.rloo import rloo_loss
from rlhf_minimal.rollout import Rollout
from rlhf_minimal.sampling import sample
from rlhf_minimal.sft import sft_loss
from rlhf_minimal.tensors import (
    last_index,
    mask_through_first,
    masked_mean,
    masked_sum,
    masked_whiten,
    pad_left,
    pad_right,
    positions,
)

NAN = float("nan")
CONTEXT = 16
torch.manual_seed(0)
MODEL = GPT2LMHeadModel(
    GPT2Config(vocab_size=10, n_positions=CONTEXT, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
).eval()
BROKEN = GPT2LMHeadModel(MODEL.config).eval()  # weights that have diverged
torch.nn.init.constant_(BROKEN.transformer.ln_f.weight, NAN)


def z(*shape):
    return torch.zeros(shape)


def one(*shape):
    return torch.ones(shape)


def ids(*shape):
    return torch.ones(shape, dtype=torch.long)


def nan(*shape):
    """Zeros with a NaN at the first place."""
    x = torch.zeros(shape)
    x.view(-1)[0] = NAN
    return x


def draw(prompts=None, model=MODEL, **settings):
    return sample(model, [[1, 2]] if prompts is None else prompts, **{"max_new_tokens": 3, "eos_id": 0, **settings})


def rollout(**changes):
    good = dict(ids=ids(2, 5), attention=one(2, 5), prompt_len=2, mask=one(2, 3), logp_old=z(2, 3))
    return Rollout(**(good | dict(group=ids(2), ended=one(2)) | changes))


def dpo(fn=da.dpo_loss, a=None, b=None, c=None, d=None, **settings):
    return fn(*(z(3) if x is None else x for x in (a, b, c, d)), **settings)


SHAPES = ["shapes differ", "(2, 3)", "give tensors of one shape"]
EMPTY = ["is empty", "leave such batches out"]
NOT_01 = ["values other than 0 and 1", "give 1 for"]
GROUPS = ["6 rows in groups of 4", "must divide"]
NUMBERS = ["(2, 3)", "give one number per row", "(B,)"]


# name: (call, pieces of the message)
WRONG = {
    # tensors
    "masked_mean shapes": (lambda: masked_mean(z(2, 3), one(3)), [*SHAPES, "(3,)"]),
    "masked_mean empty": (lambda: masked_mean(z(2, 3), z(2, 3)), [*EMPTY, "(2, 3)"]),
    "masked_mean nan": (lambda: masked_mean(nan(2, 3), one(2, 3)), ["1 NaN", "(2, 3)", "look at"]),
    "masked_mean mask of 2": (lambda: masked_mean(z(2, 3), 2 * one(2, 3)), [*NOT_01, "(2, 3)"]),
    "masked_sum shapes": (lambda: masked_sum(z(2, 3), one(2, 1)), [*SHAPES, "(2, 1)"]),
    "masked_sum mask of 1/2": (lambda: masked_sum(z(2, 3), 0.5 * one(2, 3)), NOT_01),
    "masked_whiten empty": (lambda: masked_whiten(z(2, 3), z(2, 3)), [*EMPTY, "(2, 3)"]),
    "masked_whiten nan": (lambda: masked_whiten(nan(2, 3), one(2, 3)), ["1 NaN", "(2, 3)"]),
    "mask_through_first one row": (lambda: mask_through_first(ids(4), 0), ["(4,)", "(B,T)"]),
    "mask_through_first no eos": (lambda: mask_through_first(ids(2, 3), []), ["eos_id is []", "give one token id"]),
    "mask_through_first eos none": (lambda: mask_through_first(ids(2, 3), None), ["eos_id is None", "give one token"]),
    "mask_through_first eos text": (lambda: mask_through_first(ids(2, 3), "</s>"), ["eos_id is '</s>'", "give one"]),
    "last_index empty row": (lambda: last_index(torch.tensor([[1, 0], [0, 0]])), ["rows [1]", "(2, 2)", "drop them"]),
    "last_index one row": (lambda: last_index(one(4)), ["(4,)", "give (B,L)"]),
    "last_index mask of 3": (lambda: last_index(3 * one(2, 2)), [*NOT_01, "(2, 2)"]),
    "positions one row": (lambda: positions(one(4)), ["(4,)", "give (B,L)"]),
    "positions of ids": (lambda: positions(5 * ids(1, 3)), ["attention (1, 3)", *NOT_01]),
    "pad_left nothing": (lambda: pad_left([]), ["0 rows", "at least one"]),
    "pad_right empty rows": (lambda: pad_right([[], []]), ["2 rows", "at least one"]),
    # logprobs
    "token_logps shapes": (lambda: token_logps(MODEL, ids(2, 3), one(2, 4)), [*SHAPES, "(2, 4)"]),
    "token_logps one row": (lambda: token_logps(MODEL, ids(3), one(3)), ["(3,)", "give (B,L)"]),
    "token_logps no tokens": (lambda: token_logps(MODEL, ids(2, 0), one(2, 0)), ["(2, 0)", "give (B,L)"]),
    "token_logps float ids": (lambda: token_logps(MODEL, z(2, 3), one(2, 3)), ["float32", "int64"]),
    "token_logps id too large": (lambda: token_logps(MODEL, 12 * ids(2, 3), one(2, 3)), ["12", "vocabulary has 10"]),
    "token_logps id -100": (lambda: token_logps(MODEL, -100 * ids(2, 3), one(2, 3)), ["-100", "vocabulary has 10"]),
    "token_logps temperature 0": (
        lambda: token_logps(MODEL, ids(2, 3), one(2, 3), temperature=0), ["temperature is 0", "positive"]),
    "token_logps temperature -1": (
        lambda: token_logps(MODEL, ids(2, 3), one(2, 3), temperature=-1.0), ["temperature is -1.0", "positive"]),
    "token_logps too long": (lambda: token_logps(MODEL, ids(1, 20), one(1, 20)), ["20 tokens", "context is 16", "cut"]),
    "token_logps attention of 2": (lambda: token_logps(MODEL, ids(2, 3), 2 * one(2, 3)), ["attention (2, 3)", *NOT_01]),
    "token_logps diverged": (lambda: token_logps(BROKEN, ids(2, 3), one(2, 3)), ["NaN at 4 of 4", "diverged"]),
    "sequence_logps mask of the completion": (
        lambda: sequence_logps(MODEL, ids(2, 5), one(2, 5), one(2, 3)), ["shapes differ", "mask (2, 3)", "ids (2, 5)"]),
    "sequence_logps empty mask": (lambda: sequence_logps(MODEL, ids(2, 3), one(2, 3), z(2, 3)), [*EMPTY, "(2, 3)"]),
    "sequence_logps scores padding": (
        lambda: sequence_logps(MODEL, ids(2, 3), torch.tensor([[1, 1, 0], [1, 1, 1]]), one(2, 3)),
        ["1 tokens", "attention 0", "score only real"]),
    # sampling
    "sample no prompts": (lambda: draw([]), ["list", "non-empty list of lists"]),
    "sample text": (lambda: draw("hello"), ["prompts is str", "list of lists of ids"]),
    "sample texts": (lambda: draw(["hello"]), ["give a non-empty list of lists of ids"]),
    "sample one prompt": (lambda: draw([1, 2, 3]), ["list of lists of ids"]),
    "sample a tensor": (lambda: draw(ids(2, 3)), ["prompts is Tensor", "list of lists"]),
    "sample empty prompt": (lambda: draw([[1], []]), ["prompt 1 of 2 is empty", "give at least one id"]),
    "sample too long": (lambda: draw([[1] * 12], max_new_tokens=5), ["12 ids", "context of 16", "cut the prompt"]),
    "sample id too large": (lambda: draw([[1, 10]]), ["10", "vocabulary has 10"]),
    "sample eos too large": (lambda: draw(eos_id=50256), ["50256", "vocabulary has 10"]),
    "sample eos -1": (lambda: draw(eos_id=-1), ["eos_id is -1", "give one token id"]),
    "sample eos none": (lambda: draw(eos_id=None), ["eos_id is None", "give one token id"]),
    "sample temperature -1": (lambda: draw(temperature=-1.0), ["temperature is -1.0", "give 0 (greedy)"]),
    "sample temperature nan": (lambda: draw(temperature=NAN), ["temperature is nan", "give 0 (greedy)"]),
    "sample n 0": (lambda: draw(n=0), ["n is 0", "1 or more"]),
    "sample no tokens": (lambda: draw(max_new_tokens=0), ["max_new_tokens is 0", "1 or more"]),
    "sample half tokens": (lambda: draw(max_new_tokens=2.5), ["max_new_tokens is 2.5", "give an int"]),
    "sample diverged": (lambda: draw(model=BROKEN), ["NaN", "diverged"]),
    "rollout widths": (lambda: rollout(prompt_len=3), ["2 x 5", "prompt_len 3", "(2, 3)", "must add up"]),
    "rollout rows": (lambda: rollout(group=ids(3), ended=one(3)), ["group 3", "rows agree"]),
    "rollout attention after EOS": (lambda: rollout(mask=torch.tensor([[1, 1, 0], [1, 1, 1]])), ["differs", "EOS"]),
    "rollout on_completion": (lambda: rollout().on_completion(z(2, 5)), ["(2, 5)", "(2, 4)"]),
    # kl
    "k1 shapes": (lambda: kl.k1(z(2, 3), z(3)), [*SHAPES, "(3,)"]),
    "k2 nan": (lambda: kl.k2(nan(2, 3), z(2, 3)), ["logp (2, 3)", "1 NaN", "look at"]),
    "k3 shapes": (lambda: kl.k3(z(2, 3), z(2, 1)), [*SHAPES, "(2, 1)"]),
    "exact_kl vocabularies": (lambda: kl.exact_kl(z(2, 3), z(2, 4)), [*SHAPES, "(2, 4)"]),
    "exact_kl nan": (lambda: kl.exact_kl(z(2, 3), nan(2, 3)), ["logits_ref (2, 3)", "1 NaN"]),
    "AdaptiveKL target 0": (lambda: kl.AdaptiveKL(0.1, 0.0, 100), ["target is 0.0", "above 0"]),
    "AdaptiveKL beta -1": (lambda: kl.AdaptiveKL(-1.0, 6.0, 100), ["beta is -1.0", "above 0"]),
    "AdaptiveKL kl nan": (lambda: kl.AdaptiveKL(0.1, 6.0, 100).update(NAN, 4), ["kl is NaN", "look at"]),
    "AdaptiveKL n 0": (lambda: kl.AdaptiveKL(0.1, 6.0, 100).update(1.0, 0), ["n is 0", "above 0"]),
    "FixedKL beta nan": (lambda: kl.FixedKL(NAN), ["beta is nan", "give"]),
    # advantages
    "returns_to_go gamma 2": (lambda: returns_to_go(z(2, 3), one(2, 3), gamma=2.0), ["gamma is 2.0", "0 to 1"]),
    "returns_to_go shapes": (lambda: returns_to_go(z(2, 3), one(3)), [*SHAPES, "(3,)"]),
    "gae one value a row": (lambda: gae(z(2, 3), z(2), one(2, 3)), [*SHAPES, "value (2,)"]),
    "gae value of T+1": (lambda: gae(z(2, 3), z(2, 4), one(2, 3)), [*SHAPES, "value (2, 4)"]),
    "gae lam -1": (lambda: gae(z(2, 3), z(2, 3), one(2, 3), lam=-1.0), ["lam is -1.0", "0 to 1"]),
    "gae empty": (lambda: gae(z(2, 3), z(2, 3), z(2, 3)), [*EMPTY, "(2, 3)"]),
    "gae nan": (lambda: gae(z(2, 3), nan(2, 3), one(2, 3)), ["value on the mask", "1 NaN"]),
    "gae flat": (lambda: gae(z(3), z(3), one(3)), ["(3,)", "give (B,T)"]),
    "leave_one_out 4 of 6": (lambda: leave_one_out(z(6), 4), GROUPS),
    "leave_one_out 1": (lambda: leave_one_out(z(6), 1), ["6 rows in groups of 1", "2 or more"]),
    "leave_one_out a score a token": (lambda: leave_one_out(z(2, 3), 2), ["(2, 3)", "give (B,)"]),
    "leave_one_out nothing": (lambda: leave_one_out(z(0), 2), ["0 rows", "must divide"]),
    "leave_one_out nan": (lambda: leave_one_out(nan(6), 2), ["1 of 6", "NaN"]),
    "group_normalize 4 of 6": (lambda: group_normalize(z(6), 4), GROUPS),
    "group_normalize half": (lambda: group_normalize(z(6), 2.0), ["group_size 2.0", "an int"]),
    # aggregate
    "aggregate mode": (lambda: aggregate(z(2, 3), one(2, 3), "mean"), ["mode is 'mean'", "token_mean", "sequence_sum"]),
    "aggregate no mode": (lambda: aggregate(z(2, 3), one(2, 3), None), ["mode is None", "token_mean"]),
    "aggregate empty": (lambda: aggregate(z(2, 3), z(2, 3), "fixed"), [*EMPTY, "(2, 3)"]),
    "aggregate denominator 0": (
        lambda: aggregate(z(2, 3), one(2, 3), "fixed", denominator=0), ["denominator is 0", "above 0"]),
    "aggregate denominator nan": (
        lambda: aggregate(z(2, 3), one(2, 3), "fixed", denominator=NAN), ["denominator is nan", "above 0"]),
    "aggregate one value a row": (lambda: aggregate(z(3), one(3), "token_mean"), ["(3,)", "(B,T)"]),
    # token losses
    "sft_loss shapes": (lambda: sft_loss(z(2, 3), one(2, 4)), [*SHAPES, "(2, 4)"]),
    "sft_loss empty": (lambda: sft_loss(z(2, 3), z(2, 3)), [*EMPTY, "(2, 3)"]),
    "sft_loss nan": (lambda: sft_loss(nan(2, 3), one(2, 3)), ["1 NaN", "(2, 3)"]),
    "reinforce_loss adv of other rows": (lambda: reinforce_loss(z(2, 3), z(4), one(2, 3)), ["adv (4,)", "(2, 3)"]),
    "reinforce_loss nan": (lambda: reinforce_loss(z(2, 3), nan(2), one(2, 3)), ["adv on the mask", "3 NaN"]),
    "rloo_loss 4 of 6": (lambda: rloo_loss(z(6, 2), z(6), one(6, 2), group_size=4), GROUPS),
    "rloo_loss scores of other rows": (
        lambda: rloo_loss(z(6, 2), z(4), one(6, 2), group_size=2), ["shapes differ", "(4,)", "(6, 2)"]),
    "policy_loss old of other width": (
        lambda: policy_loss(z(2, 3), z(2, 4), z(2), one(2, 3)), ["shapes differ", "logp_old (2, 4)", "(2, 3)"]),
    "policy_loss clip -1": (lambda: policy_loss(z(2, 3), z(2, 3), z(2), one(2, 3), clip=-1.0), ["-1.0", "clip from 0"]),
    "policy_loss empty": (lambda: policy_loss(z(2, 3), z(2, 3), z(2), z(2, 3)), EMPTY),
    "policy_loss nan": (lambda: policy_loss(z(2, 3), nan(2, 3), z(2), one(2, 3)), ["logp_old on the mask", "1 NaN"]),
    "value_loss shapes": (lambda: value_loss(z(2, 3), z(2, 3), z(2), one(2, 3)), ["ret (2,)", "mask (2, 3)"]),
    "value_loss clip -1": (
        lambda: value_loss(z(2, 3), z(2, 3), z(2, 3), one(2, 3), clip=-0.2), ["clip is -0.2", "0 or more"]),
    "rewards one a token": (
        lambda: rewards(z(2, 3), z(2, 3), z(2, 3), one(2, 3), 0.1), ["score (2, 3)", "2 rows", "shape (B,)"]),
    "grpo_loss 4 of 6": (lambda: grpo_loss(z(6, 2), z(6, 2), z(6), one(6, 2), group_size=4), GROUPS),
    "grpo_loss mode": (
        lambda: grpo_loss(z(2, 3), z(2, 3), z(2), one(2, 3), group_size=2, mode="dapo"), ["'dapo'", "token_mean"]),
    "grpo_loss no reference": (
        lambda: grpo_loss(z(2, 3), z(2, 3), z(2), one(2, 3), group_size=2, beta=0.1),
        ["beta=0.1", "logp_ref", "beta=0"]),
    "grpo_loss clip 2": (
        lambda: grpo_loss(z(2, 3), z(2, 3), z(2), one(2, 3), group_size=2, clip=2.0),
        ["2.0", "lower clip from 0 to 1"]),
    # reward models
    "pairwise_loss shapes": (lambda: pairwise_loss(z(3), z(4)), ["chosen (3,)", "rejected (4,)", "one shape"]),
    "pairwise_loss matrix": (lambda: pairwise_loss(z(2, 3), z(2, 3)), ["(2, 3)", "(B,)"]),
    "pairwise_loss no pairs": (lambda: pairwise_loss(z(0), z(0)), ["(0,)", "B >= 1"]),
    "pairwise_loss smoothing 2": (lambda: pairwise_loss(z(3), z(3), label_smoothing=2.0), ["2.0", "0 to 1"]),
    "pairwise_loss margins of other rows": (lambda: pairwise_loss(z(3), z(3), margin=z(4)), ["margin (4,)", "(3,)"]),
    "pairwise_loss nan": (lambda: pairwise_loss(nan(3), z(3)), ["chosen (3,)", "1 NaN"]),
    "plackett_luce_loss ranking from 1": (
        lambda: plackett_luce_loss(z(1, 3), torch.tensor([[1, 2, 3]])), ["(1, 3)", "0 to 2", "best first"]),
    "plackett_luce_loss shapes": (lambda: plackett_luce_loss(z(2, 3), ids(2, 2)), [*SHAPES, "(2, 2)"]),
    "plackett_luce_loss one answer": (lambda: plackett_luce_loss(z(2, 1), 0 * ids(2, 1)), ["(2, 1)", "K >= 2"]),
    "RewardModel shapes": (lambda: RewardModel(MODEL)(ids(2, 3), one(2, 4)), [*SHAPES, "(2, 4)"]),
    "RewardModel empty row": (
        lambda: RewardModel(MODEL)(ids(2, 3), torch.tensor([[1, 1, 1], [0, 0, 0]])), ["rows [1]", "drop them"]),
    "finish_score both": (
        lambda: finish_score(z(2), one(2), missing=-1.0, penalty=1.0), ["missing=-1.0", "penalty=1.0", "give one"]),
    "outcome_loss a label a token": (lambda: outcome_loss(z(2, 3), z(2, 3), one(2, 3)), ["label (2, 3)", "(B,)"]),
    "outcome_loss label 2": (lambda: outcome_loss(z(2, 3), torch.tensor([0, 2]), one(2, 3)), ["[0, 2]", "0 or 1"]),
    "process_loss no labels": (lambda: process_loss(z(2, 3), -100 * ids(2, 3)), [*EMPTY, "(2, 3)"]),
    "process_loss label 3": (lambda: process_loss(z(2, 3), 3 * ids(2, 3)), ["[3]", "-100 elsewhere"]),
    "process_loss shapes": (lambda: process_loss(z(2, 3), ids(2)), [*SHAPES, "(2,)"]),
    "answer_score how": (lambda: answer_score(z(2, 3), one(2, 3), "sum"), ["'sum'", "'product'"]),
    # direct alignment
    "dpo_loss lengths": (lambda: dpo(d=z(4)), ["ref_rejected (4,)", "pi_chosen (3,)", "one shape"]),
    "dpo_loss a number a token": (lambda: da.dpo_loss(*[z(2, 3)] * 4), NUMBERS),
    "dpo_loss no rows": (lambda: da.dpo_loss(*[z(0)] * 4), ["(0,)", "B >= 1"]),
    "dpo_loss beta 0": (lambda: dpo(beta=0.0), ["beta is 0.0", "above 0"]),
    "dpo_loss smoothing -1": (lambda: dpo(label_smoothing=-1.0), ["label_smoothing is -1.0", "0 to 1"]),
    "dpo_loss nan": (lambda: dpo(b=nan(3)), ["pi_rejected (3,)", "1 NaN"]),
    "rdpo_loss smoothing 1/2": (lambda: dpo(da.rdpo_loss, label_smoothing=0.5), ["0.5", "not 1/2"]),
    "ipo_loss beta nan": (lambda: dpo(da.ipo_loss, beta=NAN), ["beta is nan", "above 0"]),
    "hinge_loss beta -1": (lambda: dpo(da.hinge_loss, beta=-1.0), ["beta is -1.0", "above 0"]),
    "simpo_loss shapes": (lambda: da.simpo_loss(z(3), z(4)), ["(3,)", "(4,)", "one shape"]),
    "orpo_loss sums above 0": (lambda: da.orpo_loss(one(3), z(3)), ["1.0", "give means of log-probabilities"]),
    "kto_loss desirable 2": (lambda: da.kto_loss(z(3), 2 * ids(3), z(3)), ["desirable", "0 and 1", "[2]"]),
    "kto_loss no reference": (lambda: da.kto_loss(z(3), ids(3), z(0)), ["kl_reference is (0,)", "B >= 1"]),
    "kto_loss shapes": (lambda: da.kto_loss(z(3), ids(4), z(3)), ["(3,)", "(4,)", "one shape"]),
    "cpo_loss beta 0": (lambda: da.cpo_loss(z(3), z(3), beta=0.0), ["beta is 0.0", "above 0"]),
    "pair_logps odd rows": (
        lambda: da.pair_logps(MODEL, {"ids": ids(3, 4), "attention": one(3, 4), "mask": one(3, 4)}), ["3 rows", "2B"]),
    # best of n, evaluation
    "select 4 of 6": (lambda: select(z(6), 4), ["(6,)", "groups of 4", "multiple"]),
    "select nan": (lambda: select(nan(6), 3), ["1 NaN", "(6,)"]),
    "select nothing": (lambda: select(z(0), 2), ["(0,)", "multiple"]),
    "kl_bound 0": (lambda: kl_bound(0), ["n=0", "at least 1"]),
    "curve n beyond the group": (lambda: curve(z(4), z(4), 2, [1, 3]), ["[3]", "1 to 2"]),
    "pass_at_k k beyond n": (lambda: pass_at_k(4, 1, 5), ["n=4", "k=5", "1 <= k <= n"]),
    "pass_at_k more right than drawn": (lambda: pass_at_k(4, 5, 1), ["n=4", "correct=5", "<= n"]),
    "win_rate lengths": (lambda: win_rate([1, 2, 3], [1, 2]), ["(3,)", "(2,)", "one shape"]),
    "win_rate nothing": (lambda: win_rate([], []), ["(0,)", "N >= 1"]),
    "win_rate nan": (lambda: win_rate([NAN], [1.0]), ["a (1,)", "1 NaN"]),
    # data
    "load_data kind": (lambda: data.load_data(kind="pears"), ["kind is 'pears'", "pairs"]),
    "load_data n 0": (lambda: data.load_data(n=0), ["n is 0", "from 1 on"]),
    "load_data columns": (lambda: data.load_data("x.jsonl", columns="prompt"), ["columns is 'prompt'", "ours=theirs"]),
    "load_data columns of the village": (lambda: data.load_data(columns="prompt=q"), ["columns is given", "leave it out"]),
    "load_data source": (lambda: data.load_data("my data"), ["source is 'my data'", "hub id"]),
    "batches size 0": (lambda: next(data.batches([{}], 0)), ["size is 0", "from 1 on"]),
    "batches more than there are": (lambda: next(data.batches([{}], 2, steps=1)), ["size is 2", "1 rows", "smaller"]),
    "batches steps": (lambda: next(data.batches([{}], 1, steps=0)), ["steps is 0", "from 1 on"]),
    "encode_row max_len 1": (lambda: data.encode_row(None, "q", ["a"], 1), ["max_len is 1", "2 tokens or more"]),
    "compare_answers counts": (lambda: data.compare_answers([{}], ["a"], None, n=2), ["1 answers to 1 prompts", "n of 2"]),
    # models, labels
    "load nothing": (lambda: models.load(""), ["name is ''", "village-3m", "hub id"]),
    "load a number": (lambda: models.load(3), ["name is 3", "village-3m"]),
    "lora targets": (lambda: models.lora(MODEL, targets=["q_proj"]), ["q_proj", "c_attn"]),
    "adapters_off without": (lambda: models.adapters_off(MODEL).__enter__(), ["GPT2LMHeadModel", "frozen_copy"]),
    "implements no label": (lambda: implements("dpo"), ["'dpo'", "'eq:dpo_core'"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_raises_at_once_with_sizes_and_what_to_do(name):
    call, pieces = WRONG[name]
    with pytest.raises(ValueError) as error:
        call()
    text = str(error.value)
    assert type(error.value) is ValueError, f"{name}: {type(error.value).__name__}"
    for piece in pieces:
        assert piece in text, f"{name}: {piece!r} is not in {text!r}"
    assert 20 <= len(text) <= 300 and "\n" not in text


def test_there_are_enough_and_every_name_of_the_contract_has_some():
    from tests.laws.test_contract import CONTRACT

    assert len(WRONG) >= 120
    files = {}
    for path in CONTRACT:
        files.setdefault(path.split(".")[1], path)
    given = " ".join(WRONG)
    missing = [name for name in files if not re.search(rf"\b{name}\b", given)]
    assert not missing, missing


def test_the_same_calls_made_right_do_not_raise():
    """Negative control: it is the fault in each call that raises, not the rest of it."""
    masked_mean(z(2, 3), one(2, 3))
    token_logps(MODEL, ids(2, 3), one(2, 3))
    sequence_logps(MODEL, ids(2, 5), one(2, 5), one(2, 5))
    draw()
    draw([[1] * 12], max_new_tokens=4)
    rollout()
    gae(z(2, 3), z(2, 3), one(2, 3))
    leave_one_out(z(6), 3)
    aggregate(z(2, 3), z(2, 3), "fixed", denominator=1)
    policy_loss(z(2, 3), z(2, 3), z(2), one(2, 3))
    value_loss(z(2, 3), z(2, 3), z(2, 3), one(2, 3))
    grpo_loss(z(2, 3), z(2, 3), z(2), one(2, 3), group_size=2, beta=0.1, logp_ref=z(2, 3))
    pairwise_loss(z(3), z(3), margin=z(3))
    plackett_luce_loss(z(1, 3), torch.tensor([[1, 2, 0]]))
    RewardModel(MODEL)(ids(2, 3), one(2, 3))
    dpo()
    da.kto_loss(z(3), ids(3), z(3))
    pass_at_k(4, 1, 4)
    win_rate([1.0], [1.0])


@pytest.mark.parametrize("name, pieces", [
    ("village-3x", ["'village-3x'", "village-3m"]),
    ("no/such-model-anywhere", ["no/such-model-anywhere", "check spelling"]),
    ("EMPTY FOLDER", ["no config.json", "save_pretrained"]),
])
def test_a_model_that_cannot_be_had(name, pieces, tmp_path, monkeypatch):
    """OSError, in seconds also without a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    start = time.monotonic()
    with pytest.raises(OSError) as error:
        models.load(str(tmp_path) if name == "EMPTY FOLDER" else name)
    assert all(piece in str(error.value) for piece in pieces), str(error.value)
    assert time.monotonic() - start < 30


def test_a_shipped_model_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    with pytest.raises(OSError, match="village-3m is not in data/models; run `make models`"):
        models.load("village-3m")


def test_a_reward_model_that_is_missing(tmp_path):
    with pytest.raises(OSError):
        RewardModel.from_pretrained(str(tmp_path / "none"))


def test_wrong_input_changes_nothing():
    """The model keeps its mode and the global generator its state when a call is refused."""
    MODEL.train()
    try:
        state = torch.get_rng_state()
        with pytest.raises(ValueError):
            draw([[1], []])
        assert MODEL.training and torch.equal(state, torch.get_rng_state())
    finally:
        MODEL.eval()


def test_wrong_shapes_say_the_sizes(policy_batch):
    logp, old, score, mask = policy_batch
    for call in (
        lambda: policy_loss(logp, old[:, :4], score, mask),
        lambda: value_loss(logp, old, old[:3], mask),
        lambda: reinforce_loss(logp, score, mask[:, :4]),
        lambda: grpo_loss(logp, old, score[:2], mask, group_size=2),
    ):
        with pytest.raises(ValueError, match=r"\d"):
            call()
    with pytest.raises(ValueError, match="clip"):
        policy_loss(logp, old, score, mask, clip=-0.1)
