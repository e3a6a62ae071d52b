"""The store of labels: every answer is on the disk, comes back, can be taken back, and leaves in the usual columns."""

import json
import random

import pytest

from rlhf_minimal.data import load_data
from rlhf_minimal.data.labels import KEYS, Labels, as_pairs, plain, read_pairs

PAIRS = [{"prompt": f"Question {i}?", "response_a": f"Left {i}.", "response_b": f"Right {i}."} for i in range(12)]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def given(path, keys, seed=0):
    """Labels after these keys, each a reopened store: nothing is carried in memory."""
    for key in keys:
        Labels(PAIRS, path, seed=seed).press(key, 1.5)
    return Labels(PAIRS, path, seed=seed)


def test_every_label_survives_and_is_exported(tmp_path):
    path, keys = tmp_path / "mine.jsonl", "12ts1u2"
    labels = given(path, keys)
    assert [row["answer"] for row in labels.given] == ["first", "second", "tie", "skip", "second"]
    assert [row["pair"] for row in labels.given] == [0, 1, 2, 3, 4] and labels.shown().pair == 5
    log = lines(labels.log)
    assert [row["answer"] for row in log] == ["first", "second", "tie", "skip", "first", "undo", "second"]
    expected = [(log[0]["first"], log[0]["second"]), (log[1]["second"], log[1]["first"]), (log[6]["second"], log[6]["first"])]
    rows = lines(path)
    assert [(row["chosen"], row["rejected"]) for row in rows] == expected
    assert all(list(row) == ["prompt", "chosen", "rejected"] for row in rows)
    assert labels.progress() == "5 of 12 · 1.5 s per label (median) · 3 preferences, 1 ties, 1 skipped"


def test_the_export_is_read_unchanged(tmp_path):
    path = tmp_path / "mine.jsonl"
    given(path, "121t2")
    found = load_data(str(path), "pairs")
    assert found.to_list() == lines(path) and len(found) == 4


def test_a_trainer_of_trl_reads_the_export(tmp_path):
    trl = pytest.importorskip("trl", reason="trl is not installed: the export was not given to its trainers")
    from rlhf_minimal import models

    path = tmp_path / "mine.jsonl"
    given(path, "1212")
    model, tokenizer = models.load("village-3m-sft")
    import datasets
    arguments = trl.DPOConfig(output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=2, report_to=[],
                              use_cpu=True, save_strategy="no", bf16=False)
    rows = datasets.load_dataset("json", data_files=str(path), split="train")
    trainer = trl.DPOTrainer(model, args=arguments, train_dataset=rows, processing_class=tokenizer)
    assert trainer.train().global_step == 1


def test_a_conversation_keeps_its_turns(tmp_path):
    prompt = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}, {"role": "user", "content": "Why?"}]
    labels = Labels([{"prompt": prompt, "answers": ["So.", "No."]}], tmp_path / "m.jsonl")
    assert labels.shown().prompt == "user: Who?\nassistant: Ada.\nuser: Why?" == plain(prompt)
    labels.give("tie", 1)
    assert not labels.out.exists() and labels.undo()
    labels.give("first", 1)
    row = lines(labels.out)[0]
    assert row["prompt"] == prompt and [turn["role"] for turn in row["chosen"] + row["rejected"]] == ["assistant"] * 2
    back = load_data(str(labels.out), "pairs")[0]
    assert {back["chosen"], back["rejected"]} == {"So.", "No."}


def test_the_order_is_drawn_from_the_seed(tmp_path):
    many = [{"prompt": f"{i}?", "answers": ["a", "b"]} for i in range(400)]

    def order(seed):
        labels, out = Labels(many, tmp_path / f"{seed}.jsonl", seed=seed), []
        for _ in range(60):
            out.append(labels.shown().first)
            labels.given.append({"pair": labels.shown().pair, "answer": "skip", "seconds": 0})
        return out

    assert order(0) == order(0) != order(1)
    first = [random.Random(f"0 {i}").random() < 0.5 for i in range(400)]
    assert 160 < sum(first) < 240 and [x == "a" for x in order(0)] == first[:60]


def test_a_line_that_was_cut_off_is_dropped_and_labelling_goes_on(tmp_path):
    path = tmp_path / "mine.jsonl"
    labels = given(path, "12")
    whole = labels.log.read_bytes()
    for cut in (1, 20, len(whole) // 3):  # of a third label that did not arrive
        labels.log.write_bytes(whole + whole[:cut])
        again = Labels(PAIRS, path)
        assert [row["pair"] for row in again.given] == [0, 1] and labels.log.read_bytes() == whole


def test_an_export_that_was_lost_is_written_again(tmp_path):
    path = tmp_path / "mine.jsonl"
    given(path, "12")
    before = path.read_bytes()
    path.unlink()
    Labels(PAIRS, path)
    assert path.read_bytes() == before
    path.write_text("old\n")
    Labels(PAIRS, path)
    assert path.read_bytes() == before


def test_undo_to_the_start_leaves_an_empty_export(tmp_path):
    labels = given(tmp_path / "mine.jsonl", "1u")
    assert labels.given == [] and labels.out.read_bytes() == b"" and not labels.undo()


def test_more_pairs_may_follow_later(tmp_path):
    path = tmp_path / "mine.jsonl"
    some = Labels(PAIRS[:2], path)
    some.press("1", 1), some.press("2", 1)
    assert some.shown() is None and not some.press("1", 1)
    assert Labels(PAIRS, path).shown().pair == 2


def test_two_programs_do_not_write_one_log(tmp_path):
    one, other = (Labels(PAIRS, tmp_path / "mine.jsonl") for _ in range(2))
    one.give("first", 1)
    with pytest.raises(ValueError, match="another program"):
        other.give("second", 1)
    assert len(lines(one.log)) == 1 and other.given == []


@pytest.mark.parametrize("change, message", [
    (lambda log: log.write_text("{}\n"), "line 1 is no label"),
    (lambda log: log.write_text(log.read_text() + "nonsense\n"), "line 2 is no label"),
    (lambda log: log.write_text(log.read_text().replace("Question 0", "Another")), "line 1 does not belong to these pairs"),
    (lambda log: log.write_text(log.read_text().replace('"pair": 0', '"pair": 99')), "does not belong"),
    (lambda log: log.write_text(log.read_text().replace('"answer": "first"', '"answer": "undo"')), "does not belong"),
    (lambda log: log.unlink(), "without its log"),
])
def test_a_log_that_does_not_fit_is_refused(tmp_path, change, message):
    labels = given(tmp_path / "mine.jsonl", "1")
    change(labels.log)
    with pytest.raises(ValueError, match=message):
        Labels(PAIRS, tmp_path / "mine.jsonl")


@pytest.mark.parametrize("rows, message", [
    ([{"prompt": "a", "answers": ["b"]}], "row 1: answers has 1 members"),
    ([{"prompt": "a", "answers": ["b", 3]}], "row 1"),
    ([{"prompt": "", "chosen": "a"}], "chosen"),
    (["text"], "row 1 is 'text'"),
    ([], "no rows"),
])
def test_bad_pairs_are_named(rows, message):
    with pytest.raises(ValueError, match=message):
        as_pairs(rows)


def test_bad_arguments_are_named(tmp_path):
    labels = Labels(PAIRS, tmp_path / "mine.jsonl")
    with pytest.raises(ValueError, match="answer is 'left'"):
        labels.give("left", 1)
    with pytest.raises(ValueError, match="such as mine.jsonl"):
        Labels(PAIRS, tmp_path / "mine.csv")
    with pytest.raises(ValueError, match="seed is 'a'"):
        Labels(PAIRS, tmp_path / "m.jsonl", seed="a")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        Labels(PAIRS, tmp_path / "no" / "m.jsonl")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_pairs("nothing")
    assert not labels.press("x", 1) and labels.press("T", 1) and set(KEYS) == set("12tsu")


def test_pairs_of_other_shapes_are_read(tmp_path):
    path = tmp_path / "hh.jsonl"
    path.write_text(json.dumps({"chosen": "\n\nHuman: Who?\n\nAssistant: Me.", "rejected": "\n\nHuman: Who?\n\nAssistant: You."}))
    assert read_pairs(path)[0]["chosen"] == "Me."
    shp = {"history": "Who?", "human_ref_A": "Me.", "human_ref_B": "You.", "labels": 0}
    assert as_pairs([shp])[0] == {"prompt": "Who?", "chosen": "You.", "rejected": "Me."}
