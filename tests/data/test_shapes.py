"""Shapes of rows that people have become the usual columns; what is not used is counted; what is wrong is named."""

import json
import warnings

import pytest

from rlhf_minimal import data

Q, A, B = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}
SYSTEM = {"role": "system", "content": "s"}


def load(tmp_path, kind, *rows, **settings):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows))
    return data.load_data(path, kind, **settings).to_list()


DEMONSTRATIONS = {
    "alpaca": {"instruction": "q", "input": "", "output": "a"},
    "alpaca with input": ({"instruction": "q", "input": "x", "output": "a"}, "q\n\nx"),
    "alpaca with history": ({"instruction": "r", "history": [["q", "a"]], "output": "a"}, [Q, A, {"role": "user", "content": "r"}]),
    "alpaca with system": ({"instruction": "q", "output": "a", "system": "s"}, [SYSTEM, Q]),
    "dolly": ({"instruction": "q", "context": "x", "response": "a"}, "q\n\nx"),
    "question": {"question": "q", "answer": "a"},
    "query": {"query": "q", "response": "a"},
    "input": {"input": "q", "output": "a"},
    "prompt response": {"prompt": "q", "response": "a"},
    "sharegpt": ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, [Q]),
    "sharegpt system": (
        {"system": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        [SYSTEM, Q],
    ),
    "parts": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, A]}, [Q]),
    "developer": ({"messages": [SYSTEM | {"role": "developer"}, Q, A]}, [SYSTEM, Q]),
    "one message": ({"prompt": [Q], "completion": A}, [Q]),
    "parts of an answer": ({"prompt": "q", "completion": [{"type": "text", "text": "a"}]}, "q"),
}


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_demonstrations(tmp_path, name):
    given = DEMONSTRATIONS[name]
    row, prompt = given if isinstance(given, tuple) else (given, "q")
    found = load(tmp_path, "demonstrations", row)[0]
    assert found["completion"] == "a"
    clean = found["prompt"]
    if not isinstance(clean, str):
        clean = [{"role": m["role"], "content": m["content"]} for m in clean]
    assert clean == prompt


PAIRS = {
    "orca": {"question": "q", "chosen": "a", "rejected": "b"},
    "llama factory": {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "b"},
    },
    "shp": {"history": "q", "human_ref_A": "b", "human_ref_B": "a", "labels": 0},
    "arena": {"prompt": "q", "response_a": "a", "response_b": "b", "winner": "model_a"},
    "letter": {"question": "q", "response_a": "b", "response_b": "a", "winner": "B"},
    "name": {"prompt": "q", "response_a": "b", "response_b": "a", "winner": "response_b"},
    "kaggle": {"prompt": "q", "response_a": "a", "response_b": "b", "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
    "conversations": {"conversation_a": [Q, A], "conversation_b": [Q, B], "winner": "model_a"},
    "safe": {"prompt": "q", "response_0": "b", "response_1": "a", "better_response_id": 1},
    "numbers": {"instruction": "q", "output_1": "a", "output_2": "b", "preference": 1.0},
    "webgpt": {"question": "q", "answer_0": "b", "answer_1": "a", "score_0": -0.5, "score_1": 0.5},
    "ratings": {"prompt": "q", "responses": ["c", "a", "b"], "ratings": [2, 5, 1]},
    "parts": {"prompt": [{"role": "user", "content": [{"type": "text", "text": "q"}]}], "chosen": [A], "rejected": [B]},
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(tmp_path, name):
    row = load(tmp_path, "pairs", PAIRS[name])[0]
    assert (row["chosen"], row["rejected"]) == ("a", "b") and row["prompt"] in ("q", [Q])


def test_rated_answers_become_the_best_and_the_worst(tmp_path):
    rows = [{"prompt": "q", "response": x, "rating": r} for x, r in (("b", 1), ("c", 3), ("a", "5"))]
    same = [{"prompt": "p", "response": x, "rating": 2} for x in "ab"]
    with pytest.warns(UserWarning, match="between the best and the worst answer': 1"):
        found = load(tmp_path, "pairs", *rows, *same)
    assert found == [{"prompt": "q", "chosen": "a", "rejected": "b"}]


@pytest.mark.parametrize(
    "up, down", [("up", "down"), (1, -1), ("1", "-1"), (True, False), (1.0, 0.0), ("👍", "👎"), ("True", "false")]
)
def test_labels(tmp_path, up, down):
    rows = load(tmp_path, "unpaired", *({"prompt": "q", "completion": "a", "label": x} for x in (up, down)))
    assert [r["label"] for r in rows] == [True, False]


def test_labels_under_other_names_and_ratings_by_a_limit(tmp_path):
    assert load(tmp_path, "unpaired", {"prompt": "q", "response": "a", "feedback": "thumbs_up"})[0]["label"] is True
    rated = [{"prompt": "q", "completion": "a", "rating": x} for x in (5, "3")]
    assert [r["label"] for r in load(tmp_path, "unpaired", *rated, columns="label=rating>=4")] == [True, False]
    with pytest.raises(ValueError, match="columns prompt, completion, rating; unpaired need .*a good row: .*columns"):
        load(tmp_path, "unpaired", *rated)
    with pytest.warns(UserWarning, match="a neutral label"):
        assert len(load(tmp_path, "unpaired", *({"prompt": "q", "completion": "a", "label": x} for x in (1, 0, -1)))) == 2


def test_columns_by_hand(tmp_path):
    row = {"frage": "q", "antwort": "a", "id": 3}
    found = load(tmp_path, "demonstrations", row, columns="prompt=frage,completion=antwort")
    assert found == [{"prompt": "q", "completion": "a", "id": 3}]
    for columns, message in (
        ("prompt", "give ours=theirs"),
        ("question=frage", "ours are prompt"),
        (3, "columns is 3"),
        ("prompt=none", "no column none, only frage"),
        ("label=id>=x", "no column id>=x"),
    ):
        with pytest.raises(ValueError, match=message):
            load(tmp_path, "demonstrations", row, columns=columns)
    with pytest.raises(ValueError, match="columns is given"):
        data.load_data("village", columns="prompt=q")


def test_what_nothing_uses_is_counted_in_one_warning(tmp_path):
    think = {"role": "assistant", "content": "a", "reasoning_content": "hm"}
    rows = [{"messages": [Q, think], "tools": ["f"]}, {"messages": [Q, think]}, {"messages": [Q, A], "weight": 0.5}]
    with pytest.warns(UserWarning) as caught:
        load(tmp_path, "demonstrations", *rows)
    assert len(caught) == 1
    for words in ("reasoning_content in 2 rows", "tools in 1 rows", "weight in 1 rows"):
        assert words in str(caught[0].message)
    tool = [Q, {"role": "assistant", "content": None, "tool_calls": [1]}, {"role": "tool", "content": "3"}, A]
    with pytest.warns(UserWarning) as caught:
        assert len(load(tmp_path, "demonstrations", {"messages": tool}, {"messages": [Q, A]})) == 1
    said = " ".join(str(w.message) for w in caught)
    assert "'a turn of a tool': 1" in said and "tool_calls in 1 rows" in said
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path, "demonstrations", {"messages": [Q, A | {"weight": 1}]})


def test_weights_of_turns(tmp_path):
    silent = A | {"weight": 0}
    row = load(tmp_path, "demonstrations", {"messages": [Q, silent, Q, B, Q, silent]})[0]
    assert row["completion"] == "b" and [m.get("weight") for m in row["prompt"]] == [None, 0, None]
    with pytest.warns(UserWarning, match="every answer has weight 0"):
        assert len(load(tmp_path, "demonstrations", {"messages": [Q, silent]}, {"messages": [Q, A]})) == 1
    with pytest.raises(ValueError, match="row 1: weight is '0.5'; give 1, or 0"):
        load(tmp_path, "demonstrations", {"messages": [Q, A | {"weight": 0.5}]})


WRONG = {
    "verdict": (
        "pairs",
        {"prompt": "q", "response_a": "a", "response_b": "b", "winner": "left"},
        "row 1: winner is 'left'; expected a or b",
    ),
    "no verdict": ("pairs", {"prompt": "q", "response_a": "a", "response_b": "b"}, "response_a and response_b have no verdict"),
    "score": (
        "pairs",
        {"prompt": "q", "answer_0": "a", "answer_1": "b", "score_0": "x", "score_1": 1},
        "score_0 is 'x'; give a finite",
    ),
    "ratings": ("pairs", {"prompt": "q", "responses": ["a"], "ratings": [1, 2]}, "one rating for each"),
    "margin": ("pairs", {"prompt": "q", "chosen": "a", "rejected": "b", "margin": "far"}, "column margin is 'far'"),
    "margin nan": ("pairs", {"prompt": "q", "chosen": "a", "rejected": "b", "margin": float("nan")}, "column margin is 'nan'"),
    "label": ("unpaired", {"prompt": "q", "completion": "a", "label": 0.7}, "label is '0.7'; expected true or false"),
    "label none": ("unpaired", {"prompt": "q", "completion": "a", "label": None}, "label is 'None'"),
    "label nan": ("unpaired", {"prompt": "q", "completion": "a", "label": float("nan")}, "label is 'nan'"),
    "role": ("messages", {"messages": [Q, {"role": "critic", "content": "a"}]}, "row 1: column messages is .* roles system, user"),
    "chosen": ("pairs", {"prompt": "q", "chosen": 3, "rejected": "b"}, "row 1: column chosen is '3'"),
    "ends in an answer": ("demonstrations", {"prompt": [Q, A], "completion": "b"}, "column prompt ends in a turn of the assistant"),
    "shape": ("pairs", {"text": "q"}, r'a good row: \{"prompt": "Who are you\?", "chosen"'),
    "no user": ("demonstrations", {"prompt": [SYSTEM], "completion": "b"}, "column prompt: no user's turn"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_named_with_its_column(tmp_path, name):
    kind, row, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        load(tmp_path, kind, row)


def test_all_wrong_rows_are_counted(tmp_path):
    rows = [{"prompt": "q", "completion": "a", "label": x} for x in (1, "high", 0, "low")]
    with pytest.raises(ValueError, match=r"row 2: label is 'high'.*2 rows are wrong; next, row 4: label is 'low'"):
        load(tmp_path, "unpaired", *rows)


def test_no_usable_row_is_refused_with_every_reason(tmp_path):
    rows = [{"prompt": "q", "chosen": "a", "rejected": "a"}, {"prompt": "q", "chosen": " ", "rejected": "a"}]
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="0 usable rows.*'chosen equals rejected': 1, 'an empty answer': 1"),
    ):
        load(tmp_path, "pairs", *rows)
