"""Explorers: pure computations at every corner, frames that need no kernel, and the live twin."""

import html
import json
import math
import re
import time

import matplotlib

matplotlib.use("Agg")
import pytest  # noqa: E402
import torch  # noqa: E402

from rlhf_minimal.book import explorers, recorded  # noqa: E402
from rlhf_minimal.book.explorers import Explorer  # noqa: E402

from .test_pages import Balanced, page  # noqa: E402, F401

P, REWARD, GOLD, NAMES = [0.3, 0.5, 0.2], [1.0, 0.0, -1.0], [-1.0, 2.0, 0.0], ["refuses", "helps", "rambles"]
STORED = {"Who is Ada?": {"base": "Who is Ben?", "SFT": ("A fox.", 3.0)}, "Tell \"one\"": {"base": "<", "SFT": ("Once.", 2.0)}}
SAMPLES = {0: [("Who?", "A fox.", 1.0)], 40: [("Who?", "Fox fox.", -1.0)], 80: [("Who?", "", None)]}


FOUR = {"coin": torch.tensor([[1.0, 1.0], [0.0, 0.0]]), "truth": torch.tensor([[1.0, 3.0], [0.0, 2.0]])}


def made():
    run = recorded("overoptimization_seeds")
    return {"beta": explorers.beta_frontier(P, REWARD, GOLD, NAMES), "answers": explorers.answers(STORED),
            "kinds": explorers.beta_kinds({"one": (NAMES, P, REWARD, GOLD), "two": (NAMES[:2], (1, 1), (0.0, 3.0), (3.0, 0.0))}),
            "scrub": explorers.scrubber(run, {"true reward": {"gold": "gold"}, "score": {"proxy": "proxy"}}, SAMPLES),
            "recorded": explorers.scrubber(recorded("smollm2_dpo"), {"loss": {"policy": "loss"}}),
            "columns": explorers.scrubber({"step": [1, 2, 4], "gold": [0.5, 0.7, 0.2]}, {"true reward": {"gold": "gold"}},
                                          along="n", over=1, place=lambda n: n ** 0.5),
            "best": explorers.best_of(FOUR, [1, 2], {"all": torch.tensor([True, True]), "one": torch.tensor([False, True])}),
            "shares": explorers.shares(lambda θ: [1 / (1 + 2 * θ)] + [θ / (1 + 2 * θ)] * 2, ["chosen", "rejected", "third"],
                                       ["chosen", "rejected", "other"], title="three", θ=[0.5, 1.0, 2.0]),
            "majority": explorers.majority()}


def test_one_beta_moves_the_kind_with_the_larger_gap_further():
    far, near = (("help", "refuse"), (0.5, 0.5), (0.0, 3.0), (0.0, 3.0)), (("help", "refuse"), (0.5, 0.5), (0.0, 1.0), (3.0, 0.0))
    found = explorers.beta_kinds({"far": far, "near": near}).compute(β=1.0)
    assert found["kinds"]["far"]["q"][1] > found["kinds"]["near"]["q"][1] > 0.5
    assert found["gold"] == pytest.approx((found["kinds"]["far"]["gold"] + found["kinds"]["near"]["gold"]) / 2)


@pytest.mark.parametrize("name", ["beta", "kinds", "best", "answers", "scrub", "recorded", "columns", "majority"])
def test_every_corner_is_computed_fast_twice_the_same_and_painted(name):
    explorer = made()[name]
    assert explorer.corners() and len(explorer.settings()) <= explorers.MOST
    for values in explorer.corners():
        began = time.perf_counter()
        data = explorer.compute(**values)
        assert time.perf_counter() - began < 0.1
        assert data == explorer.compute(**values)  # pure
        assert json.dumps(explorer.frame(values))
        if explorer.draw:
            assert explorer.paint(**values)[:4] == b"\x89PNG"


def test_the_best_of_n_is_the_mean_of_a_group_for_the_score_that_selects():
    found = made()["best"].compute(n=2, by="truth")
    assert found["worth"] == {"all": 2.5, "one": 2.0} and found["blind"] == {"all": 0.5, "one": 0.0}
    with pytest.raises(ValueError, match="2 columns for 3"):
        explorers.best_of(FOUR, [1, 2, 4], {"all": torch.tensor([True, True])})


def test_corners_are_all_first_and_last_values():
    explorer = Explorer(lambda a, b: (a, b), say=str, title="t", a=[1, 2, 3], b=["x", "y"])
    assert explorer.corners() == [{"a": a, "b": b} for a in (1, 3) for b in ("x", "y")]
    assert Explorer(lambda a: a, say=str, title="t", a=[1]).corners() == [{"a": 1}]


def frames(markup):
    return json.loads(html.unescape(re.search(r"<template>(.*)</template>", markup, re.DOTALL)[1]))


@pytest.mark.parametrize("name", ["beta", "kinds", "answers", "scrub", "recorded"])
def test_the_stored_page_holds_every_frame_and_plain_inputs(page, name):  # noqa: F811
    explorer = made()[name]
    explorer.show()
    data, _ = page[-1]
    found = Balanced(data["text/html"])
    stored = frames(data["text/html"])
    assert len(stored) == len(explorer.settings())
    assert stored == [explorer.frame(values) for values in explorer.settings()]
    assert data["text/html"].count("data-size=") == len(explorer.grids)
    assert len([v for n, v in found.attributes if n == "for"]) == len(explorer.grids)  # every input has a label
    assert not any(n == "src" and not v.startswith("data:image/png") for n, v in found.attributes)
    assert "<script" not in data["text/html"] and "http" not in data["text/html"]
    if explorer.draw:
        still, metadata = page[0]
        assert metadata["rlhf"] == {"role": "still"} and still["text/plain"] == explorer.alt and "image/png" in still
        at = explorer.settings().index(explorer.first)
        assert f"<img src='data:image/png;base64,{stored[at]['png']}'" in data["text/html"]
    assert len(data["text/html"]) < 900_000


def test_an_explorer_refuses_what_it_cannot_store():
    def same(**values):
        return values
    for words, options in (("at most 24", {"a": list(range(25))}), ("none empty", {"a": []}), ("none empty", {}),
                           ("start of a", {"a": [1, 2], "start": {"a": 3}}), ("start of b", {"a": [1, 2], "start": {"b": 1}})):
        with pytest.raises(ValueError, match=words):
            Explorer(same, say=str, title="t", **options)
    with pytest.raises(ValueError, match="draw or say"):
        Explorer(same, title="t", a=[1])
    with pytest.raises(ValueError, match="other stages"):
        explorers.answers({"p": {"base": "x"}, "q": {"SFT": "y"}})


def test_the_best_policy_is_the_tilted_one():
    q, kl = explorers.tilted(P, REWARD, 0.5)
    weights = [p * math.exp(r / 0.5) for p, r in zip(P, REWARD, strict=True)]
    assert q == pytest.approx([w / sum(weights) for w in weights])
    assert kl == pytest.approx(sum(a * math.log(a / b) for a, b in zip(q, P, strict=True)))
    best = sum(a * r for a, r in zip(q, REWARD, strict=True)) - 0.5 * kl
    assert best == pytest.approx(0.5 * math.log(sum(weights)))  # the free energy: no policy does better
    for other in (P, [0.6, 0.3, 0.1], [0.8, 0.15, 0.05]):
        price = sum(a * math.log(a / b) for a, b in zip(other, P, strict=True))
        assert sum(a * r for a, r in zip(other, REWARD, strict=True)) - 0.5 * price < best
    tight, near = explorers.tilted(P, REWARD, 1e-3), explorers.tilted(P, REWARD, 1e3)
    assert tight[0] == pytest.approx([1, 0, 0]) and near[0] == pytest.approx(P, abs=1e-2) and near[1] < 1e-3


def test_in_jupyter_the_frame_follows_the_sliders(page, monkeypatch):  # noqa: F811
    widgets = pytest.importorskip("ipywidgets")
    monkeypatch.setattr(explorers, "interactive", lambda: True)
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append(a[0]))
    made()["answers"].show()
    prompt, stage, words = shown[-1].children
    assert isinstance(shown[-1], widgets.VBox) and "Who is Ben?" in words.value
    stage.value = "SFT"
    assert "A fox." in words.value and "true reward 3.0" in words.value
    explorer = made()["beta"]
    explorer.show()
    slider, image, _ = shown[-1].children
    first = image.value
    slider.value = explorer.grids["β"][0]
    assert image.value != first and image.value == explorer.paint(β=explorer.grids["β"][0])


def test_shares_are_said_with_two_digits():
    explorer = made()["shares"]
    assert explorer.words(explorer.compute(θ=2.0))[0] == "chosen 0.20, rejected 0.40, third 0.40"


def test_a_majority_grows_surer_of_the_most_likely_result_right_or_wrong():
    explorer = made()["majority"]
    found = {(right, rival): explorer.compute(right=right, rival=rival)[2] for right, rival in ((0.5, 0.4), (0.2, 0.4), (0.2, 0.1))}
    assert found[0.5, 0.4][0] == pytest.approx(0.5) and found[0.5, 0.4][-1] > 0.7
    assert found[0.2, 0.4][0] == pytest.approx(0.2) and found[0.2, 0.4][-1] < 0.1
    assert found[0.2, 0.1][-1] > 0.6 and len(found[0.2, 0.1]) == 17
    assert "0.20" in explorer.words(explorer.compute(right=0.2, rival=0.4))[0]
