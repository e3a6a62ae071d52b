"""Rewards of the trainer: a judge that is loaded, padded rows, another template."""

import copy
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rlhf_minimal import models, reward_model, train
from rlhf_minimal.data import collate_demonstrations, load_data, prompts_ids
from rlhf_minimal.sampling import sample
from rlhf_minimal.train.algorithms import ALGORITHMS, settings_of
from rlhf_minimal.train.rewards import reads_alike, reward_function
from tests.fixtures import train_small

RL = train_small.RL
KIND = {name: a.rows for name, a in ALGORITHMS.items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return train_small.make(tmp_path_factory.mktemp("small"))


def go(home, name, out, steps=2, **settings):
    settings = ({"reward": str(home / "judge")} | RL | settings) if KIND[name] == "prompts" else settings
    given = dict(model=str(home / "model"), data=str(home / f"{KIND[name]}.jsonl"), steps=steps, out=str(out))
    return train.run(name, **given | train_small.QUIET | settings)


def test_a_reward_model_is_loaded_and_optimised(home, tmp_path):
    go(home, "reward", tmp_path / "rm", steps=3, lr=1e-2)
    judge = reward_model.RewardModel.from_pretrained(tmp_path / "rm")
    policy, tokenizer = models.load(home / "model")
    rows = load_data(str(home / "prompts.jsonl"), "prompts")
    asked = rows["prompt"][:4]
    rollout = sample(policy, prompts_ids(rows.select(range(4)), tokenizer), max_new_tokens=8, eos_id=tokenizer.eos_token_id)
    texts = rollout.texts(tokenizer)
    found = reward_function(str(tmp_path / "rm"), rows, tokenizer, 192, "cpu")(asked, texts, rollout)
    assert torch.allclose(found, judge(rollout.ids, rollout.attention)) and len(set(found.tolist())) == 4
    batch = collate_demonstrations([{"prompt": p, "completion": x} for p, x in zip(asked, texts, strict=True)], tokenizer)
    again = reward_function(str(tmp_path / "rm"), rows, tokenizer, 500, "cpu")(asked, texts, rollout)  # tokenized anew, ended
    assert torch.allclose(again, judge(batch["ids"], batch["attention"]), atol=1e-5)
    record = go(home, "rloo", tmp_path / "rl", steps=2, reward=str(tmp_path / "rm"))
    assert all(abs(x) < 100 and x != -2 for x in record["curve"]["score"])  # -2 is the gold of all that it says


def test_F1_a_saved_judge_scores_padded_rows_right_in_plain_transformers(home, tmp_path):
    """Its own padding token is not EOS; with EOS, as the models have it, the same class reads another token."""
    go(home, "reward", tmp_path / "rm", steps=3, lr=1e-2)
    ours, theirs = (kind.from_pretrained(tmp_path / "rm") for kind in (reward_model.RewardModel,
                                                                      AutoModelForSequenceClassification))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "rm")
    rows = [{"prompt": p, "completion": x} for p, x in (("Who?", "The owl."), ("What does the owl eat at noon?", "Two plums."))]
    batch = collate_demonstrations(rows, tokenizer)
    texts = [tokenizer.decode(ids[on.bool()]) for ids, on in zip(batch["ids"], batch["attention"], strict=True)]
    read = tokenizer(texts, padding=True, padding_side="right", add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        score = ours(batch["ids"], batch["attention"])
        assert torch.allclose(theirs(**read).logits[:, 0], score, atol=1e-5) and not read["attention_mask"].all()
        theirs.config.pad_token_id = tokenizer.eos_token_id
        assert not torch.allclose(theirs(**read).logits[:, 0], score, atol=1e-3)


def test_C10_a_judge_with_another_template_reads_the_text_anew(home):
    policy, tokenizer = models.load(home / "model")
    other = copy.deepcopy(tokenizer)
    assert reads_alike(tokenizer, other)
    other.chat_template = "{{ messages[0]['content'] }}"
    changed = copy.deepcopy(tokenizer)
    changed.eos_token = "<|user|>"
    assert not reads_alike(tokenizer, changed) and not reads_alike(tokenizer, other)


def settings(name, given):
    return SimpleNamespace(**{k: x.default for k, x in settings_of(name).items()} | given)
