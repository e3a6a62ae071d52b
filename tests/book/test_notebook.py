"""The notebook functions: what they print, what they refuse, and that they leave nothing behind."""

import json
import os
import random

import numpy
import pytest
import torch

from rlhf_minimal import models, quiet
from rlhf_minimal.book import notebook, output, records, scales
from rlhf_minimal.commands import doctor


@pytest.fixture
def switches(monkeypatch):
    """No RLHF_ switch set; the process's environment and random states restored afterwards."""
    states = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    kept = dict(os.environ)
    for name in [n for n in os.environ if n.startswith("RLHF_")]:
        monkeypatch.delenv(name)
    yield monkeypatch
    os.environ.clear()
    os.environ.update(kept)
    random.setstate(states[0])
    numpy.random.set_state(states[1])
    torch.set_rng_state(states[2])


def test_begin_prints_one_stable_line_and_one_measured_line(switches, capsys):
    run = notebook.begin(4)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "chapter 04 · scale village · seed 0 · book edition a66b0bf (21 Aug 2026)"
    assert second.startswith("  measured: threads ") and torch.__version__ in second
    assert (run.chapter, run.seed, run.scale) == (4, 0, "village")
    assert os.environ["HF_HUB_OFFLINE"] == "1" and os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"


def test_begin_seeds_follow_the_switch(switches):
    def draw(seed):
        switches.setenv("RLHF_SEED", seed)
        run = notebook.begin(4)
        own = torch.rand(3, generator=run.generator), torch.rand(3, generator=run.fresh("loop"))
        return torch.cat([*own, torch.rand(3), torch.tensor([random.random(), numpy.random.random()])])
    assert torch.equal(draw("1"), draw("1")) and (draw("1") != draw("2")).all()


def test_seeds_of_two_runs_do_not_meet_and_fresh_ignores_what_was_drawn(switches):
    a, b = (notebook.Run(1, seed, "village", torch.Generator()) for seed in (0, 1))
    assert len(set(a.seeds(1000)) | set(b.seeds(1000))) == 2000 and a.seeds(3) == a.seeds(5)[:3]
    before = torch.rand(2, generator=a.fresh("x"))
    torch.rand(7, generator=a.generator)
    assert torch.equal(before, torch.rand(2, generator=a.fresh("x")))
    assert not torch.equal(before, torch.rand(2, generator=a.fresh("y")))


def test_begin_goes_online_only_for_gpt2_and_refuses_unknown_switches(switches):
    switches.setenv("RLHF_SCALE", "gpt2")
    for name in quiet.OFFLINE:
        switches.delenv(name, raising=False)
    notebook.begin(4)
    assert "HF_HUB_OFFLINE" not in os.environ
    for name, value in (("RLHF_SCALE", "large"), ("RLHF_SEED", "-1"), ("RLHF_SEED", "x")):
        with switches.context() as inner, pytest.raises(ValueError, match=value):
            inner.setenv(name, value)
            notebook.begin(4)


def test_every_counts_and_prints_the_last(capsys, monkeypatch):
    monkeypatch.delenv("RLHF_PROGRESS", raising=False)
    assert list(notebook.every(3, 7)) == list(range(7))
    captured = capsys.readouterr()
    assert captured.out == "step 3 of 7\nstep 6 of 7\nstep 7 of 7\n" and captured.err == ""


@pytest.mark.parametrize("true", [True, numpy.bool_(True), torch.tensor(1.0) < 2])
def test_claim_holds(true, capsys):
    notebook.claim("water is wet", true, {"depth": 1 / 3, "unit": "m"}, kind="S")
    notebook.claim("water is wet", true)
    assert capsys.readouterr().out == "✓ water is wet\n✓ water is wet\n"


@pytest.mark.parametrize("false", [False, numpy.bool_(False), torch.tensor(1.0) > 2, float("nan") > 0.4])
def test_claim_fails_with_its_text_and_detail(false, capsys):
    with pytest.raises(AssertionError, match=r"claim T fails: it grows \[gap -1\]"):
        notebook.claim("it grows", false, "gap -1", kind="T")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("odd", [(True, "text"), [True], "yes", 1, 1.0, float("nan"), None, str.isdigit,
                                 torch.tensor([True]), torch.tensor(1), numpy.array([True])])
def test_claim_refuses_what_python_would_take_for_true(odd):
    with pytest.raises(TypeError, match="expected one bool"):
        notebook.claim("anything", odd)


def test_claim_refuses_odd_text_and_kind():
    for text, kind in (("two\nlines", "E"), (" ", "E"), ("fine", "X")):
        with pytest.raises(ValueError, match="one line of text"):
            notebook.claim(text, True, kind=kind)


@pytest.fixture
def displayed(monkeypatch):
    """What would be displayed: [(data, metadata)]."""
    seen = []
    monkeypatch.setattr(output, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata=None: seen.append((data, metadata)))
    return seen


def test_a_claim_is_one_line_and_its_detail_goes_to_the_metadata(displayed):
    notebook.claim("fine", True, {"gap": 1 / 3, "note": "one\ntwo"}, kind="T")
    assert displayed == [({"text/plain": "✓ fine"}, {"rlhf": {"claim": {
        "kind": "T", "text": "fine", "detail": "gap 0.3333, note one two", "held": True}}})]


def test_at_another_scale_only_identities_must_hold(switches, displayed):
    switches.setenv("RLHF_SCALE", "smollm2")
    for held, kind in ((True, "S"), (False, "T"), (True, "E")):
        notebook.claim("it grows", held, kind=kind)
    assert [data["text/plain"] for data, _ in displayed] == ["held: it grows", "did not hold: it grows", "✓ it grows"]
    assert displayed[1][1]["rlhf"]["claim"]["held"] is False
    with pytest.raises(AssertionError, match="claim E fails"):
        notebook.claim("it grows", False)


def test_steps_and_batch_follow_the_switches(switches):
    small, large = (notebook.Run(1, 0, scale, torch.Generator()) for scale in ("village", "smollm2"))
    assert (small.steps(25), small.batch(8), large.batch(8), large.batch(1)) == (25, 8, 4, 1)
    assert small.village and not large.village
    switches.setenv("RLHF_STEPS", "3")
    assert (small.steps(25), small.steps(2)) == (3, 2)
    for bad in ("0", "-1", "few"):
        switches.setenv("RLHF_STEPS", bad)
        with pytest.raises(ValueError, match="RLHF_STEPS"):
            notebook.begin(1)


def test_start_says_what_to_do_where_the_adapter_is_missing(switches, tmp_path):
    switches.setattr(scales, "SHIPPED", tmp_path)
    with pytest.raises(OSError, match="make models"):
        scales.with_adapter(None, None, tmp_path / "models/none")


def test_an_adapter_is_trained_written_and_merged(tmp_path, switches):
    model, tokenizer = models.load("village-3m")
    ids = torch.tensor([[5, 6, 7]])
    before = model(ids).logits.detach()
    scales.train_adapter(model, tokenizer, tmp_path / "a", steps=2, size=4)
    merged, _ = scales.with_adapter(*models.load("village-3m"), tmp_path / "a")
    after = merged(ids).logits
    assert not hasattr(merged, "disable_adapter") and not merged.training
    assert next(merged.parameters()).dtype == torch.float32
    assert (after - before).abs().max() > 1e-4  # it learned, and what it learned is in the weights
    plain, _ = models.load("village-3m")
    assert torch.equal(plain(ids).logits, before)


def test_the_template_that_an_adapter_was_trained_with_comes_with_it(tmp_path, switches):
    model, tokenizer = models.load("village-3m")
    scales.train_adapter(model, tokenizer, tmp_path / "a", steps=1, size=2)
    (tmp_path / "a/chat_template.jinja").write_text("{% for m in messages %}[{{ m['content'] }}]{% endfor %}")
    _, taught = scales.with_adapter(*models.load("village-3m"), tmp_path / "a")
    assert taught.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False) == "[Hi]"


def test_measured_prints_one_line_that_is_not_compared(capsys):
    notebook.Run(1, 0, "village", None).measured(seconds=1 / 3, note="a\nb")
    assert capsys.readouterr().out == "  measured: seconds 0.3333, note a b\n"


def test_shows_error(capsys):
    notebook.shows_error(int, "x")
    assert capsys.readouterr().out.startswith("ValueError: invalid literal")
    with pytest.raises(AssertionError, match="raised nothing"):
        notebook.shows_error(int, "1")
    with pytest.raises(TypeError):  # another error than the one expected is not shown but raised
        notebook.shows_error(int, None)


def test_show_stores_the_alt_text_twice_and_closes(displayed, capsys):
    plt = pytest.importorskip("matplotlib.pyplot")
    alt, fig = "Line plot of reward against updates: it rises, then stays.", plt.figure()
    notebook.show(fig, alt, data={"proxy": ([0, 5, 10], [1.0, 3.0, 2.0])})
    data, metadata = displayed[0]
    assert data["text/plain"] == alt == metadata["image/png"]["alt"] and data["image/png"].startswith("iVBORw0KGgo")
    assert fig.number not in plt.get_fignums()
    assert capsys.readouterr().out == "  measured: proxy: start 1, peak 3 at 5, end 2\n"
    for bad in ("short", "x" * 301, "two\n" * 20):
        with pytest.raises(ValueError, match="40–300"):
            notebook.show(fig, bad)


def test_show_makes_the_same_bytes_twice(displayed):
    from rlhf_minimal.book.plots import line_plot
    for _ in range(2):
        fig = line_plot({"gold": [1, 2]}, title="t", x_label="x", y_label="y")
        notebook.show(fig, "A line plot that goes up. " * 3)
    assert displayed[0] == displayed[1]


def test_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SHIPPED", tmp_path / "data")
    (tmp_path / "data/runs").mkdir(parents=True)
    run = {"curve": {"step": [1]}, "command": "c", "seed": 0, "versions": {}, "hardware": "h", "date": "d", "note": "n"}
    (tmp_path / "data/runs/good.json").write_text(json.dumps(run))
    (tmp_path / "data/runs/bad.json").write_text(json.dumps(run | {"curve": {}}).replace('"seed"', '"sead"'))
    record = notebook.recorded("good")
    assert record.curve == {"step": [1]} and record.name == "good" and record.note == "n"
    with pytest.raises(ValueError, match="seed"):
        notebook.recorded("bad")
    with pytest.raises(ValueError, match="good"):  # a wrong name is answered with the names there are
        notebook.recorded("other")


def test_available_says_how_to_get_a_model_or_raises_in_ci(tmp_path, switches, capsys):
    switches.setattr(doctor, "SHIPPED", tmp_path / "data")
    assert notebook.available("village-3m") is False and "make models" in capsys.readouterr().out
    (tmp_path / "data/models/village-3m").mkdir(parents=True)
    assert notebook.available("village-3m") is True and capsys.readouterr().out == ""
    assert notebook.available("gpt2") is False
    switches.setenv("RLHF_REQUIRE_MODELS", "1")
    with pytest.raises(OSError, match="RLHF_SCALE=gpt2"):
        notebook.available("gpt2")


def test_quotes_tell_runs_as_mean_and_interval(monkeypatch):
    from rlhf_minimal.book import records
    found = {}
    monkeypatch.setattr(records, "quote", lambda name, text: found.update({name: text}))
    records.quotes({"gain": [1.0, 2.0, 3.0], "said": "92 %"}, 1, sign=True)
    assert found == {"gain": "+2.0 ± 2.5", "said": "92 %"}
