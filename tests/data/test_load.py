"""load_data: columns, seeds, labels at their exact rates, files, the hub."""

import json
import math
from collections import Counter
from pathlib import Path

import datasets
import huggingface_hub
import pytest

from rlhf_minimal import chat, data, village

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples"
USER, BOT = "user", "assistant"


def say(*turns):
    return [{"role": role, "content": text} for role, text in turns]


COLUMNS = {"prompts": ["prompt", "family"], "demonstrations": ["prompt", "completion", "family"],
           "messages": ["messages", "family"]}


@pytest.mark.parametrize("kind", COLUMNS)
def test_village_columns_and_seeds(kind):
    one, two = data.load_data(kind=kind, n=60, seed=3), data.load_data(kind=kind, n=60, seed=3)
    assert isinstance(one, datasets.Dataset) and one.column_names == COLUMNS[kind] and len(one) == 60
    assert one[:] == two[:] != data.load_data(kind=kind, n=60, seed=4)[:]
    assert set(data.load_data(kind=kind, n=20, families=["sum", "fact"])["family"]) == {"sum", "fact"}
    if kind == "messages":
        rows = data.load_data(kind="demonstrations", n=60, seed=3)
        assert [m[-1] for m in one["messages"]] == [{"role": BOT, "content": x} for x in rows["completion"]]


def test_train_and_test_share_no_prompt():
    train, test = (set(data.load_data(n=400, split=s)["prompt"]) for s in ("train", "test"))
    assert not train & test and all(village.split_of(p) == "test" for p in test)
    pairs = data.load_data("templates", "pairs", n=50, split="test")
    assert all(village.split_of(p) == "test" for p in pairs["prompt"])


def test_pairs_of_a_noiseless_annotator_follow_gold():
    right = data.load_data("templates", "pairs", n=200, annotator=village.Annotator(temperature=0))
    assert all(r["gold_chosen"] >= r["gold_rejected"] for r in right) and right[0]["prompt"]
    assert all(r["gold_chosen"] == village.gold(r["prompt"], r["chosen"]) for r in right)
    wrong = data.load_data("templates", "pairs", n=200, annotator=village.Annotator(temperature=0, flip=1))
    assert all(r["gold_chosen"] <= r["gold_rejected"] for r in wrong)
    assert sum(r["gold_chosen"] > r["gold_rejected"] for r in right) > 100

    def texts(rows):
        return [(r["prompt"], frozenset((r["chosen"], r["rejected"]))) for r in rows]
    assert texts(right) == texts(wrong)                                     # only the labels differ
    crowd = data.load_data("templates", "pairs", n=200, annotator=village.panel(["ordinary", "vain"]))
    assert texts(crowd) == texts(right)                                     # though it draws more random numbers
    assert data.load_data("templates", "pairs", n=50)[:] == data.load_data("templates", "pairs", n=200)[:50]


def test_pairs_are_labelled_at_the_exact_rate():
    rows = data.load_data("templates", "pairs", n=1500, annotator=village.Annotator(temperature=1.5, position_bias=0.7))
    u = [(r["gold_chosen"], r["gold_rejected"]) if r["chosen_first"] else (r["gold_rejected"], r["gold_chosen"])
         for r in rows]
    p = [1 / (1 + math.exp(-((a - b) / 1.5 + 0.7))) for a, b in u]          # the first shown wins
    z = (sum(rows["chosen_first"]) - sum(p)) / math.sqrt(sum(x * (1 - x) for x in p))
    blind = [1 / (1 + math.exp(-(a - b) / 1.5)) for a, b in u]
    assert abs(z) < 4 < (sum(rows["chosen_first"]) - sum(blind)) / math.sqrt(sum(x * (1 - x) for x in blind))


def test_ties_are_left_out_and_counted():
    rows = data.load_data("templates", "pairs", n=100, annotator=village.Annotator(tie=1.0))
    assert len(rows) == 100 and "'ties': " in rows.info.description
    assert "ties" not in data.load_data("templates", "pairs", n=100).info.description
    with pytest.raises(ValueError, match="only 0 of 5 pairs.*lower the annotator's tie"):
        data.load_data("templates", "pairs", n=5, annotator=village.Annotator(tie=1e6))


def test_a_crowd_labels():
    rows = data.load_data("templates", "pairs", n=200, annotator=village.panel({"ordinary": 3, "vain": 1}))
    counts = Counter(rows["rater"])
    assert set(counts) == {"ordinary", "vain"} and counts["ordinary"] > 1.5 * counts["vain"]


def test_unpaired_are_thumbs():
    rows = data.load_data("templates", "unpaired", n=1000)
    assert rows.column_names[:3] == ["prompt", "completion", "label"]
    p = [1 / (1 + math.exp(-(g - 1.5))) for g in rows["gold"]]
    assert abs(sum(rows["label"]) - sum(p)) < 4 * math.sqrt(sum(x * (1 - x) for x in p))


@pytest.mark.parametrize("name", ["pairs", "demonstrations", "messages"])
def test_samples_load(name):
    rows = data.load_data(SAMPLES / f"{name}.jsonl", name)
    lines = [json.loads(x) for x in (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(lines) >= 6
    for row, line in zip(rows, lines, strict=True):
        assert {k: row[k] for k in line} == line
        if name == "pairs":
            assert village.gold(row["prompt"], row["chosen"]) > village.gold(row["prompt"], row["rejected"])
        if name != "messages":
            assert village.parse(row["prompt"]).family == row["family"]
    few = data.load_data(SAMPLES / f"{name}.jsonl", name, n=3)
    assert few[:] == rows[:3]


def test_hh_style_sample():
    path = SAMPLES / "hh_style.jsonl"
    lines = [json.loads(x) for x in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 12
    with pytest.warns(UserWarning, match=r"1 of 12 rows left out: .*not one answer"):
        rows = data.load_data(path, "pairs")
    assert len(rows) == 11 and "not one answer" in rows.info.description
    kept = [x for x in lines if "feast" not in x["chosen"]]
    for row, line in zip(rows, kept, strict=True):
        for side in ("chosen", "rejected"):
            transcript = "".join(f"\n\n{'Human' if m['role'] == USER else 'Assistant'}: {m['content']}"
                                 for m in chat.to_messages(row["prompt"]) + say((BOT, row[side])))
            assert transcript == line[side]
    prompts = data.load_data(path, "prompts")
    assert len(prompts) == 12 and prompts["prompt"][:2] == rows["prompt"][:2]


def hh(*turns):
    return "".join(f"\n\n{'Human' if i % 2 == 0 else 'Assistant'}: {x}" for i, x in enumerate(turns))


def write(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in rows), encoding="utf-8")
    return path


Q = say((USER, "q"))
PAIRS = {
    "text": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "messages": {"prompt": Q, "chosen": say((BOT, "a")), "rejected": say((BOT, "b"))},
    "no prompt": {"chosen": Q + say((BOT, "a")), "rejected": Q + say((BOT, "b"))},
    "prompt twice": {"prompt": "q", "chosen": Q + say((BOT, "a")), "rejected": Q + say((BOT, "b"))},
    "transcript": {"chosen": hh("q", "a"), "rejected": hh("q", "b")},
}


def test_families_of_a_file(tmp_path):
    path = write(tmp_path, *({"prompt": f, "family": f} for f in ("sum", "fact", "sum")))
    assert data.load_data(path, families=("sum",))["family"] == ["sum", "sum"]
    with pytest.raises(ValueError, match="rows.jsonl has the columns prompt; prompts need .*and family"):
        data.load_data(write(tmp_path, {"prompt": "q"}), families=("sum",))


@pytest.mark.parametrize("rows, kind, message", [
    ([{"prompt": "q", "text": "a"}], "pairs", "columns prompt, text; pairs need prompt . chosen . rejected or chosen"),
    ([{"prompt": "q"}, {"question": "q"}], "prompts", "row 2: there is no column 'prompt', only question; prompts need prompt"),
    ([{"prompt": 3}], "prompts", "row 1: column prompt .*give a str or a list"), ([{"prompt": ""}], "prompts", "no user's turn"),
    ([{"prompt": "q", "completion": "a", "label": "good"}], "unpaired", "label is 'good'; expected true or false"),
    ([{"prompt": "q"}, '{"prompt": '], "prompts", "line 2 is no JSON"), (["[1]"], "prompts", r"line 1 is .\[1\].; expected"),
    ([], "prompts", "has no rows"), ([PAIRS["text"] | {"rejected": "a"}], "pairs", "0 usable rows")])
@pytest.mark.filterwarnings("ignore:.*rows left out")
def test_wrong_files(tmp_path, rows, kind, message):
    with pytest.raises(ValueError, match=message):
        data.load_data(write(tmp_path, *rows), kind)


def test_wrong_arguments(tmp_path):
    path = write(tmp_path, {"prompt": "q"})
    for arguments, message in [
            (dict(kind="pears"), "kind is 'pears'.*pairs"), (dict(n=0), "n is 0"), (dict(split="dev"), "split must be"),
            (dict(families=["sums"]), "unknown families"), (dict(kind="pairs", families=["sums"]), "unknown families"),
            (dict(annotator=village.Annotator()), "annotator is given"), (dict(source="pool"), "take prompts from 'village'"),
            (dict(source=path, annotator=village.Annotator()), "annotator is given"), (dict(source=path, n=2), "1 usable rows"),
            (dict(source=path, split="test"), "one set of rows"), (dict(source="my data"), "source is 'my data'")]:
        with pytest.raises(ValueError, match=message):
            data.load_data(**arguments)
    with pytest.raises(OSError, match="there is no file"):
        data.load_data(tmp_path / "none.jsonl")


def test_hub(monkeypatch):
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        if split != "train":
            raise ValueError("Unknown split. Should be one of ['train'].")
        return datasets.Dataset.from_list([PAIRS["transcript"]] * 3)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *a, **k: None)
    assert data.load_data("owner/name", "pairs", n=2)[:] == {"prompt": ["q"] * 2, "chosen": ["a"] * 2, "rejected": ["b"] * 2}
    with pytest.raises(ValueError, match="Unknown split"):
        data.load_data("owner/name", "pairs", split="dev")

    def offline(*a, **k):
        raise ConnectionError("no network")
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", offline)
    with pytest.raises(OSError, match="no dataset 'owner/name'.*ConnectionError.*check spelling and network"):
        data.load_data("owner/name", "pairs")
    assert asked == [("owner/name", "train"), ("owner/name", "dev")]


def test_save_jsonl(tmp_path):
    rows = data.load_data("templates", "pairs", n=20)
    path = data.save_jsonl(rows, tmp_path / "out.jsonl")
    assert data.load_data(path, "pairs")[:] == rows[:]
    talks = data.load_data(kind="messages", n=5)
    assert data.load_data(data.save_jsonl(talks, tmp_path / "talks.jsonl"), "messages")[:] == talks[:]
    before = path.read_text(encoding="utf-8")
    with pytest.raises(ValueError):
        data.save_jsonl([{"prompt": "q", "score": math.nan}], path)
    assert path.read_text(encoding="utf-8") == before and len(list(tmp_path.iterdir())) == 2
    data.save_jsonl([{"prompt": "ü\u2028\n"}], path)                        # one line, whatever stands in it
    assert data.load_data(path)[0]["prompt"] == "ü\u2028\n"


@pytest.mark.parametrize("kind, columns", [
    ("demonstrations", {"prompt", "completion"}), ("pairs", {"prompt", "chosen", "rejected"}),
    ("unpaired", {"prompt", "completion", "label"}), ("prompts", {"prompt"})])
def test_saved_files_have_the_ecosystems_columns(tmp_path, kind, columns):
    """What other trainers read by name; `make oracle` gives such files to TRL's."""
    rows = data.load_data("village", kind, n=5)
    read = datasets.load_dataset("json", data_files=str(data.save_jsonl(rows, tmp_path / "x.jsonl")), split="train",
                                 cache_dir=str(tmp_path / "cache"))
    assert columns <= set(read.column_names) and len(read) == 5
    assert all(isinstance(x, bool if name == "label" else str) for name in columns for x in read[name])
