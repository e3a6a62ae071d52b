"""Data: columns, transcripts, labels at their exact rates, collators against rows encoded alone, the Pool's round trip."""
import json
import math
import random
import warnings
from collections import Counter
from pathlib import Path

import datasets
import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlhf_minimal import chat, data, village
from rlhf_minimal import models as package_models
from rlhf_minimal.data.pool import STORED

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "samples"
USER, BOT = "user", "assistant"


def say(*turns):
    return [{"role": role, "content": text} for role, text in turns]


@pytest.fixture(scope="module")
def tokenizer():
    """One token a byte, with the village's special tokens."""
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(["<|end|>", "<|user|>", "<|assistant|>", "<call>", "</call>", "<out>", "</out>"])
    template = ("{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
                "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>", chat_template=template)


# --- the village ----------------------------------------------------------------------------------------------------
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


# --- files ----------------------------------------------------------------------------------------------------------
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


@pytest.mark.parametrize("a, b, common, rests", [
    (("q", "yes"), ("q", "no"), 1, (1, 1)),
    (("q", "r", "s", "yes"), ("q", "r", "s", "no"), 3, (1, 1)),
    (("q", "r", "s", "t"), ("q", "no", "s", "t"), 1, (3, 3)),          # they part early, and then say the same again
    (("q", "r", "s", "t"), ("q", "r"), 1, (3, 1)),
    (("q", "r", "s", "t"), ("q", "r", "u", "t"), 1, (3, 3)),           # other questions: cut before the shared answer
    (("q", "r"), ("q", "r"), 1, (1, 1)), (("q", "r"), ("x", "r"), 0, (2, 2))])
def test_last_common_turn(a, b, common, rests):
    prompt, one, two = data.last_common_turn(hh(*a), hh(*b))
    assert len(prompt) == common and (len(one), len(two)) == rests
    assert [m["content"] for m in prompt + one] == list(a) and [m["content"] for m in prompt + two] == list(b)
    assert not prompt or prompt[-1]["role"] == USER
    assert data.last_common_turn(chat.to_messages(hh(*a)), chat.to_messages(hh(*b))) == (prompt, one, two)


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


@pytest.mark.parametrize("form", PAIRS)
def test_every_form_of_a_pair_is_the_same_pair(form, tmp_path, tokenizer):
    rows = data.load_data(write(tmp_path, PAIRS[form] | {"extra": 1}), "pairs")
    assert rows.column_names == ["prompt", "chosen", "rejected", "extra"]
    assert (rows[0]["chosen"], rows[0]["rejected"]) == ("a", "b")
    assert chat.encode_prompt(tokenizer, rows[0]["prompt"]) == chat.encode_prompt(tokenizer, "q")
    assert isinstance(rows[0]["prompt"], str) == (form in ("text", "prompt twice", "transcript"))


def test_conversational_demonstrations(tmp_path):
    talk = say((USER, "q"), (BOT, "a"), (USER, "r"), (BOT, "b"))
    rows = data.load_data(write(tmp_path, {"messages": talk}), "demonstrations")
    assert rows[0] == {"prompt": talk[:3], "completion": "b"}
    both = data.load_data(write(tmp_path, {"prompt": talk[:3], "completion": talk[3:]}), "messages")
    assert both[0]["messages"] == talk
    assert data.load_data(write(tmp_path, {"messages": talk}), "prompts")[0]["prompt"] == talk[:3]
    ends = write(tmp_path, {"messages": talk}, {"messages": talk[:3]})
    with pytest.warns(UserWarning, match="1 of 2 rows left out"):
        assert len(data.load_data(ends, "demonstrations")) == 1


def test_useless_pairs_are_left_out_and_counted(tmp_path):
    path = write(tmp_path, PAIRS["text"], PAIRS["text"] | {"rejected": "a"}, PAIRS["text"] | {"chosen": " "},
                 PAIRS["text"] | {"rejected": "a"})
    with pytest.warns(UserWarning, match="3 of 4 rows left out") as caught:
        rows = data.load_data(path, "pairs")
    assert len(rows) == 1 and "'chosen equals rejected': 2" in str(caught[0].message) and caught[0].filename == __file__
    strangers = write(tmp_path, PAIRS["transcript"], {"chosen": hh("q", "a"), "rejected": hh("p", "a")})
    with pytest.warns(UserWarning, match="no common turn"):
        assert len(data.load_data(strangers, "pairs")) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.load_data(write(tmp_path, PAIRS["text"]), "pairs")


def test_families_of_a_file(tmp_path):
    path = write(tmp_path, *({"prompt": f, "family": f} for f in ("sum", "fact", "sum")))
    assert data.load_data(path, families=("sum",))["family"] == ["sum", "sum"]
    with pytest.raises(ValueError, match="rows.jsonl has the columns prompt; prompts need .*and family"):
        data.load_data(write(tmp_path, {"prompt": "q"}), families=("sum",))


@pytest.mark.parametrize("rows, kind, message", [
    ([{"prompt": "q", "text": "a"}], "pairs", "columns prompt, text; pairs need prompt . chosen . rejected or chosen"),
    ([{"prompt": "q"}, {"question": "q"}], "prompts", "row 1: 'prompt'; prompts need prompt"),
    ([{"prompt": 3}], "prompts", "row 0: .*give a str or a list"), ([{"prompt": ""}], "prompts", "no user's turn"),
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


# --- batches --------------------------------------------------------------------------------------------------------
ROWS = [{"prompt": "How much?", "completion": "Two.", "chosen": "Two.", "rejected": "Three, I think."},
        {"prompt": "And a longer question, is it?", "completion": "", "chosen": "It is.", "rejected": "No."},
        {"prompt": say((USER, "q"), (BOT, "a"), (USER, "r")), "completion": "b", "chosen": "b", "rejected": "c"}]


def same_rows(batch, encoded):
    for i, (ids, mask) in enumerate(encoded):
        k = len(ids)
        assert batch["ids"][i, :k].tolist() == ids and batch["mask"][i, :k].tolist() == mask
        assert batch["attention"][i].tolist() == [1.0] * k + [0.0] * (batch["ids"].shape[1] - k)
        assert not batch["mask"][i, k:].any()


def test_collate_demonstrations(tokenizer):
    batch = data.collate_demonstrations(ROWS, tokenizer)
    assert {k: x.dtype for k, x in batch.items()} == {"ids": torch.int64, "attention": torch.float32, "mask": torch.float32}
    same_rows(batch, [chat.encode_pair(tokenizer, r["prompt"], r["completion"]) for r in ROWS])
    assert batch["mask"].sum(1).tolist() == [5, 1, 2]                       # the letters and one EOS (A5, A6)
    short = data.collate_demonstrations(ROWS, tokenizer, 12)
    assert short["ids"].shape[1] == 12 and short["mask"].sum(1).tolist() == [5, 1, 2]    # the prompt is cut (A7)


def test_collate_pairs(tokenizer):
    batch = data.collate_pairs(ROWS, tokenizer)
    assert {x.shape[0] for x in batch.values()} == {6}
    for side, part in zip(("chosen", "rejected"), (0, 1), strict=True):
        half = {k: x.chunk(2)[part] for k, x in batch.items()}
        same_rows(half, [chat.encode_pair(tokenizer, r["prompt"], r[side]) for r in ROWS])
    alike = [{"prompt": "q", "chosen": "long and good", "rejected": "long and bad"}]
    assert data.collate_pairs(alike, tokenizer, 16)["mask"].sum(1).tolist() == [14, 13]
    with pytest.raises(ValueError, match=r"rows \[0\] are equal within max_len=10"):
        data.collate_pairs(alike, tokenizer, 10)


def test_collators_want_their_columns(tokenizer):
    for collate, missing in ((data.collate_pairs, "chosen, rejected"), (data.collate_demonstrations, "completion")):
        with pytest.raises(ValueError, match=f"row 1 of the batch has prompt; expected also {missing}"):
            collate([ROWS[0], {"prompt": "q"}], tokenizer)
        with pytest.raises(ValueError, match="0 rows"):
            collate([], tokenizer)


def test_prompts_ids(tokenizer):
    assert data.prompts_ids(ROWS, tokenizer) == [chat.encode_prompt(tokenizer, r["prompt"]) for r in ROWS]
    cut = data.prompts_ids(ROWS, tokenizer, 4)
    assert [x[-1] for x in cut] == [tokenizer.convert_tokens_to_ids("<|assistant|>")] * 3 and {len(x) for x in cut} == {4}
    with pytest.raises(ValueError, match="max_len is 0"):
        data.prompts_ids(ROWS, tokenizer, 0)


def test_batches():
    rows = data.load_data(n=23)
    epoch = list(data.batches(rows, 5, seed=1))
    assert [len(b) for b in epoch] == [5, 5, 5, 5, 3] and [len(b) for b in data.batches(rows, 5, drop_last=True)] == [5] * 4
    flat = [r["prompt"] for b in epoch for r in b]
    assert sorted(flat) == sorted(rows["prompt"]) and flat != list(rows["prompt"])
    assert list(data.batches(rows, 5, seed=1)) == epoch != list(data.batches(rows, 5, seed=2))
    assert [r for b in data.batches(rows, 5, shuffle=False) for r in b] == list(rows)
    generator, state = torch.Generator().manual_seed(1), torch.get_rng_state()
    assert list(data.batches(rows, 5, generator=generator)) == epoch != list(data.batches(rows, 5, generator=generator))
    assert torch.equal(torch.get_rng_state(), state)                        # B11
    with pytest.raises(ValueError, match="size is 0"):
        next(data.batches(rows, 0))


# --- the Pool -------------------------------------------------------------------------------------------------------
def fake_rows(tokenizer, prompts, seed=0):
    """Three samples a prompt from "one" and one from "two", with random log-probabilities."""
    rng, rows = random.Random(seed), []
    for i, prompt in enumerate(prompts):
        task = village.parse(prompt)
        for k, source in enumerate(("one", "one", "two", "one")):
            text = village.answer(task, rng, ("", *village.FAULTS[task.family])[k % 2])
            ids = chat.encode_completion(tokenizer, text)[0]
            rows.append({"prompt": i, "source": source, "ids": ids, "logp": [-12 * rng.random() for _ in ids],
                         "ended": k != 1, "text": text})
    return rows


@pytest.fixture
def fake(tmp_path, tokenizer):
    """(folder, prompts, rows, states, Pool as written)."""
    prompts = [r["prompt"] for r in village.prompts(6, seed=5)]
    rows = fake_rows(tokenizer, prompts)
    states = torch.randn(len(rows), 8, generator=torch.Generator().manual_seed(0))
    folder = tmp_path / "pool"
    written = data.write_pool(folder, prompts=prompts, rows=rows, states=states, seed=7, command="make models", model="one")
    return folder, prompts, rows, states, written


def test_pool_round_trip(fake, tokenizer):
    folder, prompts, rows, states, written = fake
    read = data.pool(folder)
    assert len(read) == 24 and read.prompts == tuple(prompts) and read.feature_names == village.FEATURES
    assert read.families == tuple(village.parse(p).family for p in prompts) and read.source_names == ("one", "two")
    assert read.meta == {"model": "one", "seed": 7, "command": "make models", "rows": 24}
    for name, kind in STORED.items():
        assert getattr(read, name).dtype == (torch.float32 if kind.is_floating_point else torch.int64)
        assert torch.equal(getattr(read, name), getattr(written, name))
    assert {k: x.dtype for k, x in load_file(folder / "pool.safetensors").items()} == STORED
    assert torch.allclose(read.state, states, rtol=1e-3) and read.ended.tolist() == [int(r["ended"]) for r in rows]
    assert read.texts(range(24), tokenizer) == [r["text"] for r in rows]
    for i, r in enumerate(rows):
        k, prompt = len(r["ids"]), prompts[r["prompt"]]
        assert read.mask[i].tolist() == [1.0] * k + [0.0] * (read.ids.shape[1] - k)
        assert read.ids[i, :k].tolist() == r["ids"] and not read.ids[i, k:].any() and not read.logp[i, k:].any()
        assert read.logp[i, :k].tolist() == pytest.approx(r["logp"], rel=1e-3)
        assert float(read.gold[i]) == pytest.approx(village.gold(prompt, r["text"]), abs=2e-3)
        feats = village.features(prompt, r["text"])
        assert read.features[i].tolist() == pytest.approx([feats[k] for k in village.FEATURES], abs=1e-3)
    assert [x.name for x in sorted(folder.iterdir())] == ["pool.json", "pool.safetensors"]


def test_pool_groups_and_selection(fake, tokenizer):
    rows, whole = fake[2], fake[4]
    assert {i: g.tolist() for i, g in whole.groups().items()} == {i: list(range(4 * i, 4 * i + 4)) for i in range(6)}
    two = whole.select(source="two")
    assert len(two) == 6 and two.texts([3], tokenizer) == [rows[14]["text"]] and two.prompts == whole.prompts
    family = whole.families[2]
    some = whole.select(source="one", family=family)
    expected = [i for i, r in enumerate(rows) if r["source"] == "one" and whole.families[r["prompt"]] == family]
    assert torch.equal(some.state, whole.state[expected]) and 0 < len(some) < 18
    assert {some.family(i) for i in range(len(some))} == {family}
    shuffled = whole.take(torch.randperm(24, generator=torch.Generator().manual_seed(1)))
    assert all(set(shuffled.prompt[g].tolist()) == {i} and len(g) == 4 for i, g in shuffled.groups().items())   # D9
    for wrong in ({"source": "three"}, {"family": "poem"}):
        with pytest.raises(ValueError, match="in the pool; expected one of"):
            whole.select(**wrong)


def test_pool_utilities_are_those_of_the_texts(fake):
    _, prompts, rows, _, whole = fake
    who = village.Annotator(length_bias=0.5, weights={"flattery": 1.0, "markup": 0.5})
    exact = [who.utility(prompts[r["prompt"]], r["text"]) for r in rows]
    assert whole.utilities(who).tolist() == pytest.approx(exact, abs=5e-3)
    assert whole.utilities(village.Annotator()).tolist() == pytest.approx(whole.gold.tolist(), abs=5e-3)


def test_a_pool_that_does_not_fit_is_not_written(fake):
    folder, prompts, rows, states, whole = fake
    before = {x.name: x.read_bytes() for x in folder.iterdir()}

    def broken(**changes):
        return [r | (changes if i == 3 else {}) for i, r in enumerate(rows)]
    bad = states.clone()
    bad[2, 1] = math.nan
    for wrong, message in [
            ({"states": states[:5]}, r"24 rows, states \(5, 8\)"), ({"rows": []}, "0 rows"), ({"states": bad}, "state .*finite"),
            ({"rows": broken(logp=[0.0])}, r"rows \[3\] have no ids, or not one logp"),
            ({"rows": broken(ids=[], logp=[])}, "no ids"),
            ({"rows": broken(ids=[40_000], logp=[0.0])}, "ids .*beyond 32767")]:
        with pytest.raises(ValueError, match=message):
            data.write_pool(folder, **{"prompts": prompts, "rows": rows, "states": states, "seed": 0, "command": ""} | wrong)
    assert {x.name: x.read_bytes() for x in folder.iterdir()} == before
    fields = {**vars(whole), "gold": whole.gold[:-1]}
    with pytest.raises(ValueError, match=r"gold \(23,\) instead of \(24,\)"):
        data.Pool(**fields)
    with pytest.raises(ValueError, match="source runs from 0 to 9"):
        data.Pool(**{**vars(whole), "source": whole.source * 9})


def test_a_missing_or_old_pool(tmp_path, fake):
    with pytest.raises(OSError, match="make models"):
        data.pool(tmp_path / "nothing")
    about = json.loads((fake[0] / "pool.json").read_text(encoding="utf-8"))
    del about["families"]
    (fake[0] / "pool.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(ValueError, match="lacks families"):
        data.pool(fake[0])


def test_pairs_from_the_pool(fake, tokenizer, monkeypatch, tmp_path):
    _, prompts, rows, _, whole = fake
    tokenizer.save_pretrained(tmp_path / "one")
    monkeypatch.setattr(package_models, "SHIPPED", tmp_path)
    monkeypatch.setattr(data, "pool", lambda: whole)
    own = {(prompts[r["prompt"]], r["text"]) for r in rows if r["source"] == "one"}    # its own samples, no other model's
    for source in ("pool", "village"):
        pairs = data.load_data(source, "pairs", n=30)
        assert {(r["prompt"], r[side]) for r in pairs for side in ("chosen", "rejected")} <= own
        assert set(pairs["source"]) == {"one"} and all(r["chosen"] != r["rejected"] for r in pairs)
    assert set(data.load_data(kind="pairs", n=5, split="test")["source"]) == {"templates"}     # the Pool has none of these
    with pytest.raises(ValueError, match="the pool has no test prompts"):
        data.load_data("pool", "pairs", n=5, split="test")

    def missing():
        raise OSError("make models")
    monkeypatch.setattr(data, "pool", missing)
    assert set(data.load_data(kind="pairs", n=5)["source"]) == {"templates"}
    with pytest.raises(OSError, match="make models"):
        data.load_data("pool", "pairs", n=5)
