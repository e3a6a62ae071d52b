"""The pages in docs/: fresh, complete, and true both ways."""

import csv
import re
import shutil

import pytest

from tools import equations, outline, pages, traps
from tools.equations import ROOT


@pytest.fixture
def copy(tmp_path):
    """A copy of what the pages are made of, to be broken."""
    for name in ("docs", "tests", "rlhf_minimal"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.json", "*.png", "shipped"))
    for path in [*equations.notebooks(), ROOT / "benchmarks/oracle.md"]:  # these are large, and never edited here
        link = tmp_path / path.relative_to(ROOT)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return tmp_path


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


# ---- equations ----


def test_the_stored_pages_are_fresh():
    assert pages.stale() == []


def test_each_label_of_the_edition_has_one_row_and_at_least_120_are_computed():
    rows = equations.rows()
    labels = [row["label"] for row in rows]
    assert len(labels) == len(set(labels)) == 159
    n = equations.counts(rows)
    assert n["implemented"] + n["shown"] >= 120
    for row in rows:
        if row["status"] == "implemented":
            assert row["function"] and (row["test"] or row["cell"]), f"{row['label']} has a function that nothing proves"
        assert row["status"] != "left out" or row["reason"]


def test_every_label_in_the_package_and_in_the_tests_is_of_the_book():
    known = {row["label"] for row in equations.rows()}
    assert set(equations.functions()) <= known
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "rlhf_minimal").glob("*.py"))
    assert set(re.findall(r"`(eq:\w+)`", text)) <= known


def test_the_generated_table_opens_as_csv():
    with (ROOT / "docs/equations.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == equations.rows()


def test_a_lost_decorator_makes_the_page_stale(copy):
    assert pages.stale(copy) == []
    edit(copy / "rlhf_minimal/sft.py", '@implements("eq:nll")\n', "")
    assert pages.stale(copy) == ["docs/equations.csv", "docs/equations.md"]
    row = next(row for row in equations.rows(copy) if row["label"] == "eq:nll")
    assert row["status"] == "shown"


@pytest.mark.parametrize(("name", "old", "new", "said"), [
    ("rlhf_minimal/sft.py", '"eq:nll"', '"eq:no_such_label"', "eq:no_such_label"),
    ("docs/source/equations.csv", "test_F3_margin_raises_the_loss", "test_that_is_not_there", "test_that_is_not_there"),
    ("docs/source/equations.csv", "optim.update", "optim.no_such", "optim.no_such"),
])
def test_what_is_not_there_is_named(copy, name, old, new, said):
    edit(copy / name, old, new)
    with pytest.raises(ValueError, match=said):
        equations.rows(copy)


# ---- traps ----


def test_traps_hold_both_ways():
    assert traps.problems() == []
    assert {"A3", "E11", "G2", "K29"} <= {row["code"] for row in equations.hand_written("traps")}


@pytest.mark.parametrize(("name", "old", "new", "said"), [
    ("docs/source/traps.csv", "D6|", "H12|", "D6, used in"),
    ("docs/source/traps.csv", "|pairwise_loss|", "|no_such_loss|", "no no_such_loss in rlhf_minimal/reward_model.py"),
    ("docs/source/traps.csv", "|ppo.py|", "|no_such.py|", "no file rlhf_minimal/no_such.py"),
    ("docs/source/traps.csv", "|test_J5_nothing_to_learn", "|test_nobody", "J5: no test test_nobody"),
    ("docs/source/traps.csv", "A2|", "A1|", "A1 has 2 rows"),
    ("tests/docs/test_derivations.py", '"K52"', '"K98"', "K98, used in"),
])
def test_a_trap_that_does_not_hold_is_named(copy, name, old, new, said):
    edit(copy / name, old, new)
    assert any(line.startswith(said) or said in line for line in traps.problems(copy))


def test_comments_and_docstrings_say_the_reason_in_words():
    package = ROOT / "rlhf_minimal"
    coded = {str(path.relative_to(package).with_suffix("")) for path in package.rglob("*.py")
             if traps.IN_BRACKETS.search(path.read_text(encoding="utf-8"))}
    assert not coded
    assert traps.IN_BRACKETS.search("0 off the mask (E11)") and traps.IN_BRACKETS.search("(C4, K7): a sum")
    assert not traps.IN_BRACKETS.search("ids (B, L), logits (B,T,V), the A100 (80 GB)")


# ---- outline ----


def test_anchors_are_headings_of_their_notebooks():
    rows = outline.rows()
    assert len(rows) > 130 and len({(row["group"], row["topic"]) for row in rows}) == len(rows)
    for row in rows:
        assert row["status"] in ("built", "shown", "discussed", "planned")
        if row["status"] == "planned":
            assert not row["notebook"] and row["reason"].startswith("to be ")
            continue
        assert (ROOT / row["notebook"]).exists()
        if row["anchor"]:
            assert row["anchor"] in [heading for heading, _ in equations.sections(ROOT / row["notebook"])]
        if row["status"] == "discussed":
            assert row["reason"]


def test_a_topic_that_left_its_notebook_becomes_planned(copy):
    topics = {row["topic"]: row["status"] for row in outline.rows(copy)}
    for path in (copy / "chapters").rglob("12_*.ipynb"):
        path.unlink()
    after = {row["topic"]: row["status"] for row in outline.rows(copy)}
    assert topics["DPO"] == "built" and after["DPO"] == "planned"


# ---- the command ----


def test_the_command_says_what_it_counted(capsys):
    assert pages.main(["--check"]) == 0
    assert "of 159" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--check"):
        pages.main(["--chekc"])
