"""Measuring a run: intervals, columns, and what start and end differ by."""

import json
import math

import pytest
import torch

from rlhf_minimal import models, train
from rlhf_minimal.logprobs import sequence_logps
from rlhf_minimal.train import evaluation
from rlhf_minimal.train.algorithms import ALGORITHMS
from tests.fixtures import train_small

RL = train_small.RL
KIND = {name: a.rows for name, a in ALGORITHMS.items()}
ROWS = [{"prompt": f"What is {a} plus {a}?", "answer": str(2 * a)} for a in range(1, 9)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return train_small.make(tmp_path_factory.mktemp("small"))


def go(home, name, out, steps=2, **settings):
    settings = ({"reward": str(home / "judge")} | RL | settings) if KIND[name] == "prompts" else settings
    given = dict(model=str(home / "model"), data=str(home / f"{KIND[name]}.jsonl"), steps=steps, out=str(out))
    return train.run(name, **given | train_small.QUIET | settings)


@pytest.fixture(scope="module")
def runs(home, tmp_path_factory):
    """A run of each kind."""
    place = tmp_path_factory.mktemp("runs")
    for name, more in {"sft": {"lr": 1e-2}, "dpo": {"lr": 1e-2}, "reward": {"lr": 1e-2}, "rloo": {}, "kto": {}}.items():
        go(home, name, place / name, steps=6, **more)
    return place


def test_intervals_cover_what_they_should():
    """Ratio and share: 95 % intervals cover the truth in 90 to 98 % of 400 draws; without the rows' weights they miss."""
    generator, inside, naive = torch.Generator().manual_seed(0), {"ratio": 0, "share": 0, "difference": 0}, 0
    for _ in range(400):
        tokens = torch.randint(1, 30, (60,), generator=generator).double()
        a, b = (tokens * 2 + torch.randn(60, generator=generator) * tokens for _ in range(2))
        mean, low, high = evaluation.interval((a, tokens))
        inside["ratio"] += low < 2 < high
        naive += low < (a / tokens ** 2).mean().item() * 30 < high  # another quantity: the control
        yes = (torch.rand(60, generator=generator) < 0.9).double()
        mean, low, high = evaluation.interval((yes, torch.ones(60)))
        inside["share"] += low < 0.9 < high
        gap, low, high = evaluation.difference((a, tokens), (b, tokens))
        inside["difference"] += low < 0 < high
    assert all(360 <= n <= 396 for n in inside.values()), inside
    assert naive < 300


def test_a_paired_difference_is_narrower_than_two_intervals():
    generator = torch.Generator().manual_seed(0)
    hard = torch.randn(50, generator=generator).double()
    start, end = (hard + shift + 0.1 * torch.randn(50, generator=generator) for shift in (0.0, 0.3))
    one = torch.ones(50)
    gap, low, high = evaluation.difference((end, one), (start, one))
    _, a, b = evaluation.interval((end, one))
    assert 0.2 < low < gap < high < 0.4 and high - low < 0.3 * (b - a)
    assert math.isnan(evaluation.interval((torch.tensor([1.5]), torch.ones(1)))[1])  # one row has no interval


def test_sft_is_measured_by_its_loss_per_token(home, runs):
    found = evaluation.evaluate(runs / "sft", str(home / "demonstrations.jsonl"))
    loss = found["values"]["loss"]
    assert found["kind"] == "demonstrations" and found["rows"] == 20
    assert loss["end"][0] < loss["start"][0] and loss["difference"][2] < 0  # it learned these very rows
    model, tokenizer = models.load(home / "model")
    rows = [json.loads(line) for line in (home / "demonstrations.jsonl").read_text().splitlines()]
    total, count = 0.0, 0
    for row in rows:  # one at a time, without padding
        batch = evaluation.collate_demonstrations([row], tokenizer, 192)
        total -= sequence_logps(model, batch["ids"], batch["attention"], batch["mask"]).item()
        count += int(batch["mask"].sum())
    assert loss["start"][0] == pytest.approx(total / count, rel=1e-5)


def test_dpo_is_measured_against_its_start(home, runs):
    found = evaluation.evaluate(runs / "dpo", str(home / "pairs.jsonl"))["values"]
    assert found["accuracy"]["end"][0] > 0.5 and found["margin"]["end"][0] > 0 and "start" not in found["margin"]
    same = evaluation.evaluate(runs / "dpo", str(home / "pairs.jsonl"), against=str(runs / "dpo"))["values"]
    assert same["margin"]["end"][0] == 0 and same["accuracy"]["end"][0] == 0  # the control: a model against itself


def test_a_reward_model_is_measured_alone(home, runs):
    found = evaluation.evaluate(runs / "reward", str(home / "pairs.jsonl"))
    assert found["against"] is None and set(found["values"]) == {"accuracy", "loss", "gap"}
    assert found["values"]["accuracy"]["end"][0] > 0.5 and "start" not in found["values"]["loss"]


def test_prompts_are_answered_and_scored_by_both(home, runs):
    def length(completions):
        return [len(x) for x in completions]

    found = evaluation.evaluate(runs / "rloo", ROWS, reward=length, n=3)
    values = found["values"]
    assert found["data"] == "rows in memory" and {"score", "length", "ended", "kl", "win rate"} <= set(values)
    assert len(found["samples"]) == 8 and found["samples"][0]["end"][1] == len(found["samples"][0]["end"][0])
    itself = evaluation.evaluate(runs / "rloo", ROWS, reward=length, n=3, against=str(runs / "rloo"))["values"]
    assert itself["score"]["difference"] == [0, 0, 0] and itself["kl"]["end"][0] == pytest.approx(0, abs=1e-5)  # same seed
    assert itself["win rate"]["end"][0] == pytest.approx(0.5)
    again = evaluation.evaluate(runs / "rloo", ROWS, reward=length, n=3)
    assert again["values"] == values
    assert evaluation.evaluate(runs / "kto", ROWS, reward=length, n=1)["kind"] == "prompts"
    assert evaluation.evaluate(runs / "sft", ROWS, reward=length, n=1, kind="prompts")["values"]["score"]


def test_wins_are_counted_over_all_pairs_of_answers():
    top, bottom = evaluation.wins(torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    assert top.tolist() == [0.5, 0.75] and bottom.tolist() == [1, 1]


@pytest.mark.parametrize("run, more, message", [
    ("nowhere", {}, "holds no run.json"), ("sft", {}, "the run learned from .*; give --data"),
    ("sft", {"data": "DEMOS", "kind": "thumbs"}, "kind is 'thumbs'"), ("sft", {"data": "DEMOS", "rows": 0}, "rows is 0"),
    ("sft", {"data": "DEMOS", "n": 1.5}, "n is 1.5"), ("reward", {"data": "DEMOS", "kind": "prompts"}, "measured on pairs"),
    ("sft", {"data": "PAIRS"}, "demonstrations need"), ("sft", {"data": "no.jsonl"}, "no file"),
    ("sft", {"data": "PROMPTS", "kind": "prompts", "reward": "gold.py:f"}, "no file gold.py"),
    ("sft", {"data": "DEMOS", "against": "no/such"}, "no model"),
    ("half", {"data": "DEMOS"}, "not finished; go on with it"), ("other", {"data": "DEMOS"}, "not written by a training run")])
def test_what_cannot_be_measured(home, runs, run, more, message):
    names = {"DEMOS": "demonstrations", "PAIRS": "pairs", "PROMPTS": "prompts"}
    more = {k: str(home / f"{names[v]}.jsonl") if v in names else v for k, v in more.items()}
    whole = (runs / "sft/run.json").read_text()
    for name, text in (("half", whole.replace('"finished": true', '"finished": false')), ("other", "[]")):
        (runs / name).mkdir(exist_ok=True)
        (runs / name / "run.json").write_text(text)
    with pytest.raises((ValueError, OSError), match=message):
        evaluation.evaluate(runs / run, more.pop("data", None), **more)


@pytest.mark.parametrize("name, more", [
    ("sft", {}), ("dpo", {}), ("dpo", {"lora": 2}), ("reward", {}), ("rloo", {"lora": 2}), ("kto", {})])
def test_rows_are_measured_during_training(home, runs, tmp_path, name, more):
    """Before the first update, every second step and at the end; a model that has not moved has no KL and no margin."""
    held = str(home / f"{KIND[name]}.jsonl")
    go(home, name, tmp_path / "run", steps=3, eval_data=held, eval_every=2, eval_rows=6, lr=1e-2, save_every=1, **more)
    rows = [json.loads(line) for line in (tmp_path / "run/eval.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 3, 4]
    known = {"sft": "loss", "dpo": "margin", "reward": "accuracy", "rloo": "kl", "kto": "loss"}[name]
    assert all(row[f"{known}/low"] <= row[known] <= row[f"{known}/high"] for row in rows)
    if name in ("dpo", "rloo"):
        assert abs(rows[0][known]) < 1e-5 < abs(rows[-1][known])
    plain = go(home, name, tmp_path / "plain", steps=3, lr=1e-2, **more)
    assert plain["curve"]["loss"] == json.loads((tmp_path / "run/run.json").read_text())["curve"]["loss"]  # it changes nothing


def test_rows_to_measure_on_are_checked_before_anything_is_written(home, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        go(home, "sft", tmp_path / "run", eval_data=str(home / "no.jsonl"))
    with pytest.raises(ValueError, match="demonstrations need"):
        go(home, "sft", tmp_path / "run", eval_data=str(home / "pairs.jsonl"))
    assert not (tmp_path / "run").exists()
