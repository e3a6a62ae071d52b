"""The Pool: its round trip, its selections, and what does not fit."""

import json
import math
import random

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlhf_minimal import chat, data, village
from rlhf_minimal.data.pool import STORED


@pytest.fixture(scope="module")
def tokenizer():
    """One token a byte, with the village's special tokens."""
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(["<|end|>", "<|user|>", "<|assistant|>", "<call>", "</call>", "<out>", "</out>"])
    template = ("{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
                "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>", chat_template=template)


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
    (tmp_path / "models").mkdir()
    tokenizer.save_pretrained(tmp_path / "models/one")
    monkeypatch.setattr("rlhf_minimal.data.load.SHIPPED", tmp_path)
    monkeypatch.setattr("rlhf_minimal.data.load.pool", lambda: whole)
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
    monkeypatch.setattr("rlhf_minimal.data.load.pool", missing)
    assert set(data.load_data(kind="pairs", n=5)["source"]) == {"templates"}
    with pytest.raises(OSError, match="make models"):
        data.load_data("pool", "pairs", n=5)
