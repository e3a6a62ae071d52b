import random

import pytest
import torch

from rlhf_minimal import data, models, village
from rlhf_minimal.chat import encode_prompt
from rlhf_minimal.evaluate import sums
from rlhf_minimal.process_reward import IGNORE


@pytest.fixture(scope="module")
def loaded():
    return models.load("village-3m-sft")


def test_a_planted_error_is_one_wrong_step_with_a_right_result(loaded):
    asked = [row["prompt"] for row in village.prompts(6, split="test", families=("sum",), seed=0)]
    luck = random.Random(0)
    good, bad = (sums.read_texts(*loaded, asked, [village.answer(village.parse(q), luck, fault) for q in asked])
                 for fault in ("", "step"))
    assert good.right.all() and bad.right.all()
    assert not (good.steps == 0).any() and ((bad.steps == 0).sum(1) == 1).all()
    assert (good.ends.sum(1) >= 2).all()


def test_labels_stand_at_the_ends_of_steps(loaded):
    tokenizer = loaded[1]
    pieces = [tokenizer.decode([i]) for i in range(len(tokenizer))]
    prompt = next(r["prompt"] for r in village.prompts(40, split="test", families=("sum",), seed=0)
                  if village.parse(r["prompt"]).info["a"] + village.parse(r["prompt"]).info["b"] < 1000)
    steps, total = village.tasks.working(*(village.parse(prompt).info[k] for k in "ab"))
    text = f"{steps[0]} The result is {total + 1}."
    ids = tokenizer(text).input_ids
    labels, right = sums.labelled(prompt, ids, pieces)
    assert right == 0 and [x for x in labels if x != IGNORE] == [1, 0] and labels[-1] == 0


def test_read_pool_agrees_with_the_stored_rows(loaded):
    pool = data.pool().select(source="wide", family="sum").take(torch.arange(3))
    read = sums.read_pool(*loaded, pool)
    assert read.mask.sum(1).tolist() == pool.lengths.tolist()
    head = len(encode_prompt(loaded[1], pool.prompts[pool.prompt[0]]))
    assert not read.mask[0, :head].any() and read.mask[0, head]
    last = head + int(pool.lengths[0]) - 1
    assert (read.states[0, last] - pool.state[0]).abs().max() < 0.05
    values, outcome = read.tokens(read.states)
    assert len(values) == len(outcome) == int(pool.lengths.sum())
    info = village.parse(pool.prompts[pool.prompt[1]]).info
    assert sums.total(pool)[1] == info["a"] + info["b"]


def test_logistic_regression_finds_the_log_odds():
    x = torch.zeros(100, 1)
    y = (torch.arange(100) < 75).long()
    weight = sums.logistic(x, y, l2=1e-9)
    assert sums.logit(x, weight)[0].item() == pytest.approx(torch.tensor(3.0).log().item(), abs=1e-3)
