"""The record of `make bench`: its form, that it is whole, and that the page says what it holds. Never a timing itself."""

import copy
import json
import math
import statistics
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import speed, speed_page, speed_rows

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "benchmarks/speed.json"
WANTED = ("sampling, 64 rows", "sampling, 256 rows", "sampling, smollm2-135m", "SFT", "reward model", "DPO", "GRPO", "PPO",
          "share of the peak, full", "share of the peak, short", "held-out SFT", "held-out reward", "held-out DPO")
FACTS = {"command", "machine", "date", "versions", "threads", "reps", "scale", "left_out", "rows"}


def complaints(record):
    """What is wrong with a record, as a list of sentences."""
    found = [f"{name}: no row" for name in WANTED if not any(row["name"].startswith(name) for row in record["rows"])]
    found += [f"{name}: missing" for name in FACTS - set(record)]
    found += ["fewer than 7 repetitions"] * (record["reps"] < 7) + ["a part of the work"] * (record["scale"] != 1)
    for row in record["rows"]:
        if row["kind"] == "gate":
            worse = max(a - b for a, b in zip(row["losses"]["ours"], row["losses"]["peer"], strict=True))
            good = len(row["losses"]["ours"]) >= 3 and math.isclose(worse, row["worse"]) and worse <= row["must"]
        elif row["kind"] == "share":
            found += wrong_numbers(row["shares"], record["reps"])
            middle = sorted(row["shares"])[len(row["shares"]) // 2]
            good = all(0 < x < 1.2 for x in row["shares"]) and row["share"]["median"] == middle
        else:
            found += [text for side in ("ours", "peer") for text in wrong_numbers(row["times"][side], record["reps"])]
            good = all(row[side][kind] == f(row["times"][side]) for side in ("ours", "peer")
                       for kind, f in (("min", min), ("median", statistics.median)))
            good &= all(math.isclose(row["ratio"][k], row["peer"][k] / row["ours"][k]) for k in ("min", "median"))
            good &= row["verdict"] == speed_rows.verdict(min(row["ratio"].values()), row["must"], row["goal"])
        found += [] if good else [f"{row['name']}: its numbers do not fit each other"]
    return found


def wrong_numbers(numbers, reps):
    """Complaints about measured numbers."""
    good = len(numbers) == reps and all(math.isfinite(x) and x > 0 for x in numbers)
    return [] if good else [f"{len(numbers)} numbers for {reps} repetitions, or not above 0"]


def sides(ours, peer):
    """Two sides that take so many 'seconds' for two units, without a clock."""
    return lambda s: (lambda: (ours, 2), lambda: (peer, 2))


@pytest.fixture
def made():
    """A record as `main` makes it, of rows that only pretend to work."""
    s, rows = speed_rows.settings(), []
    for name in WANTED:
        kind = "gate" if name.startswith("held-out") else "share" if name.startswith("share") else "ratio"
        build = {"gate": lambda s: ((lambda: [1.0, 1.1, 1.2]), (lambda: [1.0, 1.1, 1.2])),
                 "share": lambda s: ((lambda: (1.0, 2.0)), None), "ratio": sides(1.0, 2.0)}[kind]
        spec = SimpleNamespace(name=name, work="some", against="other", unit="row", must=0.1 if kind == "share" else 1.5,
                               goal=0.6 if kind == "share" else 2.0, kind=kind, seconds=1, build=build, why="")
        rows.append(speed.measure(spec, s))
    return {"command": speed.COMMAND, "machine": speed_page.machine(), "date": "2026-01-01", "threads": 2, "reps": 7, "scale": 1.0,
            "versions": {"torch": "2", "transformers": "5", "trl": "1", "python": "3"}, "left_out": ["one: no"], "rows": rows}


def test_a_record_is_whole_and_its_page_shows_it(made):
    assert complaints(made) == []
    page = speed_page.page(made)
    assert all(name in page for name in WANTED) and "2.00 / 2.00" in page and "Not measured: one: no." in page
    assert json.loads(json.dumps(made)) == made


@pytest.mark.parametrize("spoil", [
    lambda r: r["rows"].pop(3), lambda r: r.pop("machine"), lambda r: r.update(reps=3), lambda r: r.update(scale=0.1),
    lambda r: r["rows"][0]["times"]["ours"].pop(), lambda r: r["rows"][0]["ratio"].update(median=9.0),
    lambda r: r["rows"][0]["times"]["peer"].__setitem__(0, float("nan")), lambda r: r["rows"][1].update(verdict="met"),
    lambda r: r["rows"][-1]["losses"]["ours"].__setitem__(0, 9.0), lambda r: r["rows"][-4]["share"].update(median=0.9),
])
def test_a_spoiled_record_is_found_out(made, spoil):
    wrong = copy.deepcopy(made)
    spoil(wrong)
    assert complaints(wrong)


def test_the_stored_record():
    """Whatever is stored was a whole measurement, and the page is the one made of it. Before `make bench` there is none."""
    page = STORED.with_suffix(".md")
    assert STORED.exists() == page.exists()
    if not STORED.exists():
        pytest.skip("nothing is stored yet: run `make bench`")
    record = json.loads(STORED.read_text(encoding="utf-8"))
    assert complaints(record) == [] and page.read_text(encoding="utf-8") == speed_page.page(record)


def test_a_row_short_of_its_goal_says_why(made):
    row = made["rows"][3] | {"why": "it is slow"}
    assert "it is slow" not in speed_page.page(made | {"rows": [row]})
    assert "- SFT: it is slow" in speed_page.page(made | {"rows": [row | {"verdict": "met; 0.10 short of the goal"}]})


def test_turns_and_verdicts():
    order = []

    def side(name, seconds):
        return lambda: order.append(name) or (seconds, 4)

    times = speed_rows.in_turns(side("ours", 2.0), side("peer", 6.0), 3)
    assert times == {"ours": [0.5] * 3, "peer": [1.5] * 3} and speed_rows.summary(times)["ratio"]["median"] == 3
    assert order[:2] == ["ours", "peer"] and order[2:4] != order[4:6] and order.count("ours") == order.count("peer") == 4
    assert speed_rows.verdict(2.0, 1.5, 2.0) == "goal met"
    assert speed_rows.verdict(1.8, 1.5, 2.0) == "met; 0.20 short of the goal"
    assert speed_rows.verdict(1.999, 1.5, 2.0) == "met; 0.001 short of the goal"
    assert speed_rows.verdict(1.4, 1.5, 2.0) == "0.10 short; 0.60 short of the goal"


def test_the_gate_on_what_is_learned_can_fail():
    def spec(ours):
        return SimpleNamespace(name="held-out", work="", against="", unit="loss", must=0.002, goal=0.0, kind="gate", why="",
                               seconds=1, build=lambda s: ((lambda: ours), (lambda: [1.0, 1.0, 1.0])))

    assert speed.measure(spec([1.001, 0.9, 1.0]), speed_rows.settings())["verdict"] == "met"
    assert speed.measure(spec([0.5, 0.5, 1.01]), speed_rows.settings())["verdict"] == "NOT MET"
