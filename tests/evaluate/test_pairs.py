"""Pairs that are watched while a model learns from others."""

import pytest
import torch

from rlhf_minimal import data, models
from rlhf_minimal.evaluate.pairs import PairWatch, with_third
from rlhf_minimal.logprobs import sequence_logps

ROWS = [{"prompt": "What does the fox eat?", "family": "fact"}, {"prompt": "Where does the owl live?", "family": "fact"}]
TEXTS = ["Fish.", "Hay.", "Eggs.", "A tree.", "A tree.", "A hole."]
PAIR = {"prompt": ROWS[0]["prompt"], "chosen": "Fish.", "rejected": "Hay.", "family": "fact"}


def test_the_third_answer_is_in_no_pair_of_its_request():
    other = {"prompt": ROWS[1]["prompt"], "chosen": "A tree.", "rejected": "A hole.", "family": "fact"}
    assert with_third(ROWS, TEXTS, [PAIR, other], n=3) == [PAIR | {"third": "Eggs."}]
    second = PAIR | {"rejected": "Eggs."}  # now all three answers are compared somewhere
    assert with_third(ROWS, TEXTS, [PAIR, second], n=3) == []
    assert with_third([ROWS[0], ROWS[0]], TEXTS, [PAIR], n=3) == [PAIR | {"third": "Eggs."}]


def test_counts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="6 answers to 2 requests, n is 4"):
        with_third(ROWS, TEXTS, [PAIR], n=4)


def test_a_watch_sees_what_moved():
    start, tokenizer = models.load("village-3m-sft")
    rows = [PAIR | {"third": "Eggs."}]
    watch = PairWatch(start, tokenizer, rows, beta=0.5)
    same = watch(start)
    assert {k: round(v, 4) for k, v in same.items()} == {"chosen": 0, "rejected": 0, "third": 0, "margin": 0, "right": 0}
    policy = models.copy_of(start)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.05)
    batch = data.collate_demonstrations([{"prompt": PAIR["prompt"], "completion": "Fish."}], tokenizer)
    logp = summed(policy, batch)
    (-logp).backward()
    optimizer.step()
    moved = watch(policy)
    assert moved["chosen"] == pytest.approx((summed(policy, batch) - logp).item(), abs=1e-3)
    assert moved["chosen"] > 0 and moved["right"] == float(moved["margin"] > 0)
    assert moved["margin"] == pytest.approx(0.5 * (moved["chosen"] - moved["rejected"]), abs=1e-4)


def summed(model, batch):
    return sequence_logps(model, batch["ids"], batch["attention"], batch["mask"])[0]


def test_nothing_to_watch_is_refused():
    with pytest.raises(ValueError, match="no pair to watch"):
        PairWatch(None, None, [])
