"""Rewards of the trainer: a judge that is loaded, padded rows, another template."""

import copy
import json
import math
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rlhf_minimal import files, models, reward_model, train
from rlhf_minimal.data import collate_demonstrations, load_data, prompts_ids
from rlhf_minimal.sampling import sample
from rlhf_minimal.train.algorithms import ALGORITHMS, settings_of
from rlhf_minimal.train.rewards import checked, named, parsed, reads_alike, reward_function
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


# --- rewards of one's own -------------------------------------------------------------------------------------------

ROWS = [{"prompt": f"What is {a} plus {a}?", "answer": str(2 * a)} for a in range(1, 9)]
CHECKS = """
from beside import PREFERRED

def right(completions, answer):
    return [float(a in text) for text, a in zip(completions, answer)]

def brief(prompts, completions, **columns):
    assert set(columns) == {"answer"}
    return [-len(text) / 100 for text in completions]

def likes(completions):
    return [text.count(PREFERRED) for text in completions]

def wrong_count(completions):
    return [1.0]

def not_a_number(completions):
    return [float("nan") for _ in completions]

def fails(completions):
    return [1 / len(text) for text in completions]

def late(completions):
    return [1 / (text.count("") - 1 - len(text) + (len(text) == 0)) for text in completions]

def asks_more(completions, difficulty):
    return [0.0] * len(completions)

def no_texts(prompts):
    return [0.0] * len(prompts)
"""


@pytest.fixture(scope="module")
def checks(home):
    (home / "beside.py").write_text("PREFERRED = 'e'\n")
    (home / "checks.py").write_text(CHECKS)
    return str(home / "checks.py")


def test_a_function_of_a_file_is_what_the_policy_learns(home, checks, tmp_path):
    """The letter e: its count per answer rises; with the opposite sign it does not (control)."""
    grown = {}
    for sign in (1, -1):
        spec, out = f"{checks}:likes={sign}", tmp_path / f"run{sign}"
        record = go(home, "rloo", out, steps=12, reward=spec, data=ROWS, families=None, lr=2e-2, beta=0.0, group_size=8)
        found = [sign * x for x in record["curve"]["score"]]
        grown[sign] = sum(found[-3:]) - sum(found[:3])
        assert record["data"] == "rows in memory" and record["fingerprints"][f"reward {checks}:likes"]
    assert grown[1] > 1 and grown[1] > grown[-1] + 1, grown


def test_several_rewards_add_up_and_are_reported_apart(home, checks, tmp_path):
    reward = f"{checks}:right,{checks}:brief=0.5"
    rows = Dataset.from_list(ROWS)
    record = go(home, "grpo", tmp_path / "run", reward=reward, data=rows, families=None)
    curve = record["curve"]
    for whole, a, b in zip(curve["score"], curve[f"score/{checks}:right"], curve[f"score/{checks}:brief"], strict=True):
        assert whole == pytest.approx(a + 0.5 * b, abs=1e-5)
    last = files.read_log(tmp_path / "run/samples.jsonl")[-1]
    assert last["step"] == 3 and last["score"] == pytest.approx(-0.5 * len(last["completion"]) / 100, abs=1e-3)


def test_functions_are_given_from_python(home, tmp_path):
    def length(completions):
        return torch.tensor([len(x) for x in completions])

    record = go(home, "rloo", tmp_path / "run", reward={length: 0.1, str(home / "judge"): 1}, data=ROWS, families=None)
    assert record["settings"]["reward"] == f"length=0.1,{home / 'judge'}"
    assert set(record["fingerprints"]) >= {"reward length", "judge"} and len(record["curve"]["score/length"]) == 2
    two = [lambda completions: [1.0] * len(completions), lambda completions: [2.0] * len(completions)]
    record = go(home, "rloo", tmp_path / "two", reward=two, data=ROWS, families=None)
    assert record["curve"]["score"] == [3.0, 3.0]


def test_a_changed_reward_ends_a_run_that_goes_on(home, checks, tmp_path):
    spec = f"{checks}:likes"
    go(home, "rloo", tmp_path / "run", reward=spec, data=ROWS, families=None, save_every=1)
    more = dict(steps=3, reward=spec, data=ROWS, families=None, save_every=1, resume=True)
    before = (home / "checks.py").read_text()
    try:
        (home / "checks.py").write_text(before.replace("text.count(PREFERRED)", "-text.count(PREFERRED)"))
        with pytest.raises(ValueError, match="began with other contents: reward .*likes"):
            go(home, "rloo", tmp_path / "run", **more)
    finally:
        (home / "checks.py").write_text(before)
    assert go(home, "rloo", tmp_path / "run", **more)["finished"]


@pytest.mark.parametrize("reward, message", [
    ("wrong_count", "gave 1 values for 2 completions"), ("not_a_number", "gave nan for the completion ''"),
    ("fails", "raised ZeroDivisionError.*at the completion ''"), ("asks_more", "asks for difficulty; it can have .*answer"),
    ("no_texts", "no parameter `completions`"), ("nothing", "has no function 'nothing'; it has right, brief, likes"),
    ("right=high", "'high' is no weight"), ("right=nan", "finite weight"), ("right,CHECKS:right=2", "twice")])
def test_a_reward_that_cannot_be_used_is_refused_before_anything_is_written(home, checks, tmp_path, reward, message):
    with pytest.raises(ValueError, match=message):
        go(home, "rloo", tmp_path / "run", data=ROWS * 2, families=None, reward=f"{checks}:{reward.replace('CHECKS', checks)}")
    assert not (tmp_path / "run").exists()


def test_a_reward_that_fails_later_names_the_completion(home, checks, tmp_path):
    with pytest.raises(ValueError, match=r"late raised ZeroDivisionError: .* at the completion '.+' of the prompt 'What is"):
        go(home, "rloo", tmp_path / "run", data=ROWS, families=None, reward=f"{checks}:late", steps=3)


@pytest.mark.parametrize("given, message", [
    ([], "reward is empty"), ({len: "much"}, "the weight of reward"), ({len: True}, "the weight of reward"), (3, "reward is 3"),
    ([None], "reward is None")])
def test_what_is_no_reward(given, message):
    with pytest.raises(ValueError, match=message):
        named(given)


def test_a_file_that_does_not_run(home, tmp_path):
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\n")
    for spec, message in ((f"{tmp_path}/bad.py:f", "does not run: ModuleNotFoundError"), ("no.py:f", "there is no file no.py")):
        with pytest.raises(ValueError, match=message):
            go(home, "rloo", tmp_path / "run", data=ROWS, families=None, reward=spec)


def test_the_setting_and_what_comes_back():
    assert parsed("gold") == [("gold", 1.0)] and parsed("a.py:f=-2, runs/rm") == [("a.py:f", -2.0), ("runs/rm", 1.0)]
    assert checked([True, 0, 1.5], "f", ["p"] * 3, ["x"] * 3).tolist() == [1.0, 0.0, 1.5]
    for bad in ("yes", [1.0], [1.0, None], [1.0, math.inf], [1.0, "2"], 7):
        with pytest.raises(ValueError, match="reward f gave"):
            checked(bad, "f", ["p"] * 2, ["x"] * 2)


# --- rows in memory, and a run that goes on ---------------------------------------------------------------------------

@pytest.mark.parametrize("data, message", [
    ({"prompt": ["a"]}, "a dict with the keys prompt"), (["Who are you?"], "row 1 is str"), (None, "data is None"),
    ([], "has no rows"), ([{"frage": "a"}], "prompts need prompt"), (object(), "give a name, a path, a list of rows")])
def test_rows_that_are_none(home, tmp_path, data, message):
    with pytest.raises(ValueError, match=message):
        go(home, "rloo", tmp_path / "run", data=data, families=None)


def test_rows_in_memory_are_those_of_their_file(home, tmp_path):
    kept = [json.loads(line) for line in (home / "demonstrations.jsonl").read_text().splitlines()]
    a, b = go(home, "sft", tmp_path / "a"), go(home, "sft", tmp_path / "b", data=kept)
    assert a["curve"]["loss"] == b["curve"]["loss"] and a["fingerprints"] == b["fingerprints"]


def test_resume_needs_the_folder_alone(home, tmp_path, capsys):
    out = str(tmp_path / "run")
    go(home, "sft", out, steps=2, save_every=1)
    record = json.loads((tmp_path / "run/run.json").read_text())
    files.write_atomically(tmp_path / "run/run.json", json.dumps(record | {"steps": 4, "finished": False}))
    train.main(["resume", "--out", out])
    assert json.loads((tmp_path / "run/run.json").read_text())["finished"]
    assert [r["step"] for r in files.read_log(tmp_path / "run/metrics.jsonl")] == [1, 2, 3, 4]
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if " -> " in line]) == 3  # three samples of the finished model
    for what in ("nowhere", out + "2"):
        with pytest.raises(SystemExit):
            train.main(["resume", "--out", what])
        assert "no run to go on with" in capsys.readouterr().err
    files.write_atomically(tmp_path / "run/run.json", json.dumps(record | {"data": "rows in memory"}))
    with pytest.raises(SystemExit):
        train.main(["resume", "--out", out])
    assert "from Python" in capsys.readouterr().err
