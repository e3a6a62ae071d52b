"""Each guard, shown to be awake: corrupt a copy of a real chapter and the named guard turns red; untouched, all are green.

The cells of a notebook are compared one by one, so one corrupted copy can carry several corruptions.
"""

import shutil
import xml.etree.ElementTree as ElementTree

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from tests.fixtures.demo import ROOT, make_repository
from tools import build, execute, gate, lint

pytestmark = pytest.mark.slow
CODE, LESSON = 8, 16  # code cells of the demonstration's deeper notebook and of its lesson


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = make_repository(tmp_path_factory.mktemp("built"))
    assert [build.build(source, root) for source in build.sources(root)] == ["", ""]
    return root


@pytest.fixture
def root(built, tmp_path):
    return shutil.copytree(built, tmp_path / "copy")


def change(path, cell_id, *, source=None, stored=None):
    """Replace text in the source or in the stored outputs of one cell; the text must be there."""
    nb = nbformat.read(path, as_version=4)
    cell = next(c for c in nb.cells if c.id == cell_id)
    if source:
        assert source[0] in cell.source
        cell.source = cell.source.replace(*source)
    if stored:
        before = str(cell.outputs)
        for out in cell.outputs:
            if "text" in out:
                out.text = out.text.replace(*stored)
            elif "text/plain" in out.data:
                out.data["text/plain"] = out.data["text/plain"].replace(*stored)
        assert str(cell.outputs) != before
    nbformat.write(nb, path)


def verdicts(paths, root, cells):
    """Run the notebook lane -> exit code, {(notebook, code cell from 0): passed}."""
    code = gate.compare(paths, root, "--junitxml=report.xml", cells=cells)
    cases = ElementTree.parse(root / "report.xml").iter("testcase")
    return code, {(case.get("classname").split(".")[-1], int(case.get("name").split()[-1])): len(case) == 0
                  for case in cases}


def test_nbval_is_green_untouched_and_red_where_something_changed(root):
    good, bad = root / "chapters/deeper/90_demo.ipynb", root / "chapters/deeper/90_bad.ipynb"
    assert gate.gate(root) == 0
    shutil.copy(good, bad)
    change(bad, "the-question-1", stored=("a tie 0.6931", "a tie 0.6932"))              # a digit of an exact number
    change(bad, "the-question-2", stored=("it falls all the way", "it rises all the way"))  # a word of an alt text
    change(bad, "the-question-4", stored=("the loop ran", "the loop went"))                 # a word of a claim line
    change(bad, "exercise-90-1-twice-2", stored=("to do", "solved"))                        # the status of an exercise
    change(bad, "exercise-90-2-predict-1", source=("check(", "claim('no', 2 < 1)\ncheck(")) # a claim that fails
    change(bad, "90-a-demonstration-2", stored=("threads 1,", "threads 99,"))               # a measured line: masked
    change(bad, "the-question-3", stored=("step 2 of 4", "step 3 of 4"))                    # an ignored cell
    code, seen = verdicts([bad], root, CODE)
    assert code != 0
    assert {cell for (_, cell), passed in seen.items() if not passed} == {1, 2, 4, 6, 7} and len(seen) == CODE


def test_nbval_is_red_where_a_lesson_changed(root):
    bad = root / "chapters/90_bad.ipynb"
    shutil.copy(root / "chapters/90_demo.ipynb", bad)
    change(bad, "a-larger-margin-costs-less-2", stored=("tie: 0.69 nats", "tie: 0.96 nats"))  # a quoted number
    change(bad, "a-larger-margin-costs-less-3", stored=("the loss falls", "the loss rises"))  # a word of a claim
    change(bad, "the-loss-is-the-surprise-at-the-label-1", stored=("0.3133", "0.3132"))       # a digit of an exact number
    code, seen = verdicts([bad], root, LESSON)
    assert code != 0 and len(seen) == LESSON
    assert {cell for (_, cell), passed in seen.items() if not passed} == {3, 4, 5}


def test_cells_that_are_skipped_or_not_collected_are_red(root, capfd):
    path = root / "chapters/deeper/90_demo.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.cells = nb.cells[:5]
    nb.cells[4].metadata["tags"] = ["nbval-skip"]
    nbformat.write(nb, path)
    assert gate.gate(root) != 0  # pytest alone would call this green
    assert f"{CODE + LESSON} code cells in the sources; {LESSON + 1} passed, 0 failed, 0 error, 1 skipped" in capfd.readouterr().out
    path.unlink()
    assert gate.gate(root) != 0


def test_a_flipped_sign_in_the_package_breaks_a_claim_and_the_shown_source(root):
    loss = root / "rlhf_minimal/demo_loss.py"
    loss.write_text(loss.read_text().replace("math.exp(-z)", "math.exp(z)"))
    nb = nbformat.read(root / "chapters/deeper/90_demo.ipynb", as_version=4)
    before = nb.cells[4].outputs[0].data["text/plain"]
    result = execute.execute(nb, root / "chapters/deeper", execute.environment(root, RLHF_SEED=0))
    assert "claim E fails: the loss falls with the margin" in result.error
    assert nb.cells[4].outputs[0].data["text/plain"] != before


def append(source):
    def corrupt(nb):
        count = sum(c.cell_type == "code" for c in nb.cells) + 1
        nb.cells.append(new_code_cell(source, execution_count=count))
        build.set_ids(nb.cells)
    return corrupt


def empty_alt(nb):
    nb.cells[5].outputs[0].metadata["image/png"]["alt"] = ""


def cut_picture(nb):
    data = nb.cells[5].outputs[0].data
    data["image/png"] = data["image/png"][:1000]


def clear(nb):
    nb.cells[4].update(outputs=[], execution_count=None)


LINT = {
    "alt text missing": (empty_alt, 5), "picture cut": (cut_picture, 5), "outputs and count cleared": (clear, 1),
    "unknown tag": (lambda nb: nb.cells[4].metadata.update(tags=["hide-me"]), 2),
    "nbval-skip": (lambda nb: nb.cells[4].metadata.update(tags=["nbval-skip"]), 3),
    "raises-exception": (lambda nb: nb.cells[4].metadata.update(tags=["raises-exception"]), 3),
    "claim under try": (append("try:\n    claim('a', False)\nexcept AssertionError:\n    pass"), 4),
}


def swap(old, new):
    def corrupt(nb):
        cell = next(c for c in nb.cells if old in c.source)
        cell.source = cell.source.replace(old, new)
    return corrupt


LESSON_LINT = {
    "too many words": (lambda nb: nb.cells.append(nbformat.v4.new_markdown_cell("word " * 2500)), 31),
    "no hero": (swap("![", "["), 37), "a part out of order": (lambda nb: nb.cells[-1].metadata.pop("rlhf"), 40),
    "step before the loop": (swap("chosen, rejected = torch", "sft.step(model)\nchosen, rejected = torch"), 41),
}


@pytest.mark.parametrize("name", LESSON_LINT)
def test_lint_of_a_lesson_is_red(root, name):
    corrupt, rule = LESSON_LINT[name]
    path = root / "chapters/90_demo.ipynb"
    assert lint.lint(path, root) == []
    nb = nbformat.read(path, as_version=4)
    corrupt(nb)
    nbformat.write(nb, path)
    assert rule in {number for _, _, number, _ in lint.lint(path, root)}


@pytest.mark.parametrize("name", LINT)
def test_lint_is_red(root, name):
    corrupt, rule = LINT[name]
    path = root / "chapters/deeper/90_demo.ipynb"
    assert lint.lint(path, root) == []
    nb = nbformat.read(path, as_version=4)
    corrupt(nb)
    nbformat.write(nb, path)
    assert rule in {number for _, _, number, _ in lint.lint(path, root)}


def test_build_check_is_red_when_source_and_notebook_differ(root):
    assert build.check(root) == 0
    change(root / "chapters/deeper/90_demo.ipynb", "the-question-4", source=("ran", "got"))
    assert build.check(root) == 1


def test_build_check_is_red_when_a_quoted_number_or_the_hero_is_not_the_stored_one(root):
    hero = root / "chapters/figures/90_hero.png"
    picture = hero.read_bytes()
    hero.write_bytes(picture[:-1])
    assert build.check(root) == 1
    hero.write_bytes(picture)
    assert build.check(root) == 0
    change(root / "chapters/90_demo.ipynb", "90-a-demonstration-0", source=("0.69 nats", "0.96 nats"))
    assert build.check(root) == 1


def test_a_tuple_as_condition_is_a_type_error(root):
    from rlhf_minimal.book import claim
    with pytest.raises(TypeError, match="tuple"):
        claim("the comma bug", (False, "text"))


@pytest.mark.parametrize("wide", [".*", r"(?m)^.*measured.*$", r"(?m)^ *measured: .*$", r"(?s)^  measured: .*$"])
def test_a_widened_sanitiser_is_found(wide, tmp_path, monkeypatch):
    from tests.notebooks import test_tools
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/sanitize.cfg").write_text(f"regex: {wide}\nreplace: x\n")
    test_tools.test_the_sanitiser_masks_measured_lines_and_nothing_else()
    monkeypatch.setattr(test_tools, "ROOT", tmp_path)
    assert tmp_path != ROOT
    with pytest.raises(AssertionError):
        test_tools.test_the_sanitiser_masks_measured_lines_and_nothing_else()
