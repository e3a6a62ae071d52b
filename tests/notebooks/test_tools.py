"""The build, the lint, the runner and the export, on a demonstration (a lesson and a deeper notebook) in a folder of its own."""

import copy
import json
import re
import shutil
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbval.plugin import get_sanitize_patterns

from tests.fixtures.demo import ROOT, make_repository
from tools import build, chapters, counts, execute, export, gate, ledger, lint, quotes, run


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A small repository with one executed lesson and its deeper notebook."""
    root = make_repository(tmp_path_factory.mktemp("built folder"))
    assert [build.build(source, root) for source in build.sources(root)] == ["", ""]
    return root


@pytest.fixture
def root(built, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(built, tmp_path / "copy")


def source_of(root):
    """The source of the deeper notebook."""
    return build.sources(root, ["deeper/90"])[0]


def read(root):
    """The deeper notebook."""
    return nbformat.read(root / "chapters/deeper/90_demo.ipynb", as_version=4)


def read_lesson(root):
    return nbformat.read(root / "chapters/90_demo.ipynb", as_version=4)


def edit(root, old, new, path=None):
    path = path or source_of(root)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


# --- build -----------------------------------------------------------------------------------------------------------

def test_built_notebook_is_clean_and_complete(built):
    nb = read(built)
    code = [c for c in nb.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert set(nb.metadata) == {"kernelspec", "language_info", "rlhf"} and nb.metadata.kernelspec.name == "python3"
    assert "version" not in nb.metadata.language_info and nb.metadata.rlhf.chapter == 90
    assert all(set(c.metadata) <= {"tags", "rlhf", "nbgrader"} for c in nb.cells)
    text = (built / "chapters/deeper/90_demo.ipynb").read_text(encoding="utf-8")
    assert text.endswith("}\n") and str(built) not in text
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert [c.id for c in nb.cells][3:6] == ["the-question-0", "the-question-1", "the-question-2"]
    assert build.check(built) == 0


def test_readers_see_stubs_and_folded_solutions(built):
    cells = {c.id: c.source for c in read(built).cells}
    text = "\n".join(cells.values())
    assert "raise NotImplementedError" in text and "answer = None  # your answer" in text
    assert "### BEGIN" not in text and "hidden=True" not in text
    for fold in ("exercise 90.1</summary>", "    return x + x\n", "exercise 90.2</summary>", 'answer = "b"'):
        assert text.count(fold) == 1
    printed = execute.printed(read(built))
    assert "90.1: to do" in printed and "90.2: to do" in printed


def test_generated_lines(built):
    text = "\n".join(c.source for c in read(built).cells)
    assert "<!-- edition -->\nEdition of the book followed here: commit <code>a66b0bf</code> (21 Aug 2026).\n<!-- /" in text
    assert re.search(r"\*\*Costs\*\*: <!-- costs -->about \d+0 s on one CPU core, \d\.\d GB [a-z, ]+<!-- /costs -->\.", text)
    entry = build.read_ledger(built)["deeper/90_demo"]
    assert entry["claims"] == 3 and entry["cells"] == 15 and len(entry["slowest"]) == 3 and 0.01 < entry["peak_gb"] < 10
    assert build.costs_line({"seconds": 74.9, "peak_gb": 0.94}).startswith("about 70 s on one CPU core, 0.9 GB")
    assert build.costs_line({"seconds": 74.9, "seconds_two_threads": 41, "peak_gb": 1}).startswith("about 40 s on two CPU cores")
    page = (built / "chapters/status/ledger.md").read_text()
    assert "| 90_demo | lesson |" in page and "| 90_demo | deeper |" in page


def test_neighbours_and_the_other_kind_are_linked(root):
    folder = root / "chapters/source"
    for place in ("89", "deeper/91", "91"):
        (folder / f"{place}_near.py").write_text(f"# %% [markdown]\n# # {place[-2:]} · Near\n")
    line = build.nav_line(folder / "90_demo.py", root)
    assert line == ("← [89 · Near](89_near.ipynb) · [the deeper notebook](deeper/90_demo.ipynb) · "
                    "[91 · Near](91_near.ipynb) →")
    assert build.nav_line(folder / "89_near.py", root) == "[90 · A demonstration](90_demo.ipynb) →"
    line = build.nav_line(folder / "deeper/90_demo.py", root)
    assert line == "[the lesson](../90_demo.ipynb) · [91 · Near](91_near.ipynb) →"


def test_words_for_chapters(root):
    (root / "chapters/source/deeper/91_only.py").write_text("# %% [markdown]\n# # 91 · Only\n")

    def chosen(*words, **more):
        return [chapters.name(s) for s in chapters.sources(root, words, **more)]
    assert chosen() == ["90_demo", "deeper/90_demo", "deeper/91_only"]
    assert chosen("90") == ["90_demo"] and chosen("deeper/90") == ["deeper/90_demo"]
    assert chosen("90", deeper=True) == ["90_demo", "deeper/90_demo"]
    assert chosen("91") == ["deeper/91_only"]  # a chapter that has no lesson yet


def test_markers_fill_and_fill_again():
    text = "before\n<!-- nav -->\nafter <!-- costs -->."
    once = build.fill_markers(text, {"nav": "N", "costs": "C"})
    assert once == "before\n<!-- nav -->\nN\n<!-- /nav -->\nafter <!-- costs -->C<!-- /costs -->."
    assert build.fill_markers(once, {"nav": "N", "costs": "D"}) == once.replace("C<", "D<")
    with pytest.raises(SystemExit, match="solution 1.9"):
        build.fill_markers("<!-- solution 1.9 -->", {"nav": ""})


def test_solutions_that_cannot_become_stubs_are_refused():
    with pytest.raises(SystemExit, match="only assign names"):
        build.make_stub("### BEGIN SOLUTION\ndef f():\n    return 1\n### END SOLUTION")
    stub = build.make_stub("### BEGIN SOLUTION\na = b = 1\n### END SOLUTION")
    assert stub == "a = None  # your answer\nb = None  # your answer"
    cell = new_code_cell("def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION")
    with pytest.raises(SystemExit, match="without a check"):
        build.split_solutions([cell], "reader")


def test_student_and_instructor_versions(root):
    assert build.main(["student", "90", "--deeper", "--root", str(root)]) == 0
    assert build.main(["instructor", "deeper/90", "--root", str(root)]) == 0
    student, instructor = ((root / f"build/{name}/deeper/90_demo.ipynb").read_text() for name in ("student", "instructor"))
    assert "NotImplementedError" in student and "x + x" not in student and "hidden=True" not in student
    assert "x + x" in instructor and "hidden=True" in instructor and "NotImplementedError" not in instructor
    assert "### " not in json.loads(instructor)["cells"][9]["source"]
    lesson = nbformat.read(root / "build/student/90_demo.ipynb", as_version=4)
    assert set(lesson.cells[0].attachments) == {"90_hero.png"} and "(attachment:90_hero.png)" in lesson.cells[0].source
    assert "A tie costs <!-- out tie -->0.69 nats<!-- /out -->;" in lesson.cells[0].source


def test_check_finds_what_differs(root, capsys):
    edit(root, "What does a tie cost?", "What does a draw cost?")
    assert build.check(root) == 1 and "cell 4 (the-question-0): source differs" in capsys.readouterr().out
    (root / "chapters/deeper/90_demo.ipynb").unlink()
    assert build.check(root) == 1 and "is missing" in capsys.readouterr().out
    source_of(root).unlink()
    nbformat.write(new_notebook(), root / "chapters/92_orphan.ipynb")
    assert build.refresh(build.sources(root)[0], root) == ""  # its link to the deeper notebook is gone
    assert build.check(root) == 1 and "92_orphan has no source" in capsys.readouterr().out
    shutil.rmtree(root / "chapters")
    (root / "chapters").mkdir()
    assert build.check(root) == 1  # nothing at all is not in order either


def test_check_finds_a_notebook_edited_by_hand(root):
    nb = read(root)
    for change in ({"source": "x = 1"}, {"metadata": {"tags": ["exercise"]}}, {"id": "other"}):
        changed = copy.deepcopy(nb)
        changed.cells[6].update(nbformat.from_dict(change))
        nbformat.write(changed, root / "chapters/deeper/90_demo.ipynb")
        assert build.differences(source_of(root), root)
    nbformat.write(nb, root / "chapters/deeper/90_demo.ipynb")
    assert not build.differences(source_of(root), root)


def test_refresh_keeps_outputs_and_refuses_changed_code(root):
    before = read(root)
    edit(root, "What does a tie cost?", "What does a draw cost?")
    assert build.refresh(source_of(root), root) == "" and build.check(root) == 0
    after = read(root)
    assert "a draw" in after.cells[3].source
    assert [c.get("outputs") for c in after.cells] == [c.get("outputs") for c in before.cells]
    edit(root, "every(2, 4)", "every(2, 6)")
    assert "code changed" in build.refresh(source_of(root), root)


def test_pull_writes_an_edited_notebook_back(root):
    text = source_of(root).read_text(encoding="utf-8")
    nb = read(root)
    nb.cells[3].source = "## The question\nWhat does a draw cost?"
    nb.cells[4].source += "\nprint(1)"
    nb.cells.insert(5, new_markdown_cell("A new thought."))
    nb.cells[0].source = nb.cells[0].source.replace("short", "brief")
    nbformat.write(nb, root / "chapters/deeper/90_demo.ipynb")
    assert build.pull(source_of(root), root) == ""
    pulled = source_of(root).read_text(encoding="utf-8")
    assert "# What does a draw cost?" in pulled and "print(1)" in pulled and "# A new thought." in pulled
    assert "brief" in pulled and "<!-- edition -->\n#\n# <!-- nav -->" in pulled  # generated text stays out
    for kept in ("### BEGIN SOLUTION", "### BEGIN HIDDEN TESTS", '"ignore_reason": "sampled"', "<!-- solution 90"):
        assert pulled.count(kept) == text.count(kept)
    assert [c.source for c in build.generate(source_of(root), root).cells] == [c.source for c in nb.cells]


def test_pull_refuses_to_lose_a_solution(root):
    nb, text = read(root), source_of(root).read_text()
    nb.cells[9].source += "\n# changed"
    nbformat.write(nb, root / "chapters/deeper/90_demo.ipynb")
    assert "holds a solution: edit it in the source" in build.pull(source_of(root), root)
    assert source_of(root).read_text() == text


def test_a_failed_build_says_where_and_leaves_the_notebook(root):
    before = (root / "chapters/deeper/90_demo.ipynb").read_bytes()
    edit(root, "< 1e-12", "< 0")
    error = build.build(source_of(root), root)
    assert "code cell 2, section “The question”, id the-question-1" in error
    assert "AssertionError: claim E fails: a tie costs log 2" in error
    assert (root / "chapters/deeper/90_demo.ipynb").read_bytes() == before


def test_unknown_chapters_are_refused(root):
    for number in ("77", "x"):
        with pytest.raises(SystemExit, match="there are: 90"):
            build.sources(root, [number])
        with pytest.raises(SystemExit, match="there are: 90 deeper/90"):
            run.notebooks(root, [number])


def test_environment_sets_and_removes_switches(monkeypatch):
    monkeypatch.setenv("RLHF_PROGRESS", "1")
    env = execute.environment(RLHF_PROGRESS=None, RLHF_SEED=3)
    assert "RLHF_PROGRESS" not in env and env["RLHF_SEED"] == "3" and env["PYTHONPATH"].startswith(str(ROOT))


def test_the_kernel_is_this_interpreter_and_the_slow_lane_goes_on(tmp_path):
    nb = new_notebook(cells=[new_code_cell(s, id=f"c{i}") for i, s in enumerate([
        "import sys, os; print(sys.executable, os.environ['RLHF_SEED'])", "raise AssertionError('claim T fails: no')",
        "print('claim E holds: yes\\n  measured: 1')"])])
    told = []
    result = execute.execute(nb, tmp_path, execute.environment(RLHF_SEED=3), allow_errors=True,
                             tell=lambda done, of, seconds: told.append((done, of)))
    assert nb.cells[0].outputs[0].text.rsplit(maxsplit=1) == [sys.executable, "3"] and result.peak > 1e7
    assert execute.claims(nb) == [("T", "fails", "no", ""), ("E", "holds", "yes", "1")]
    assert told == [(1, 3), (2, 3), (3, 3)] and len(nb.cells) == 3 and set(result.per_cell) == {"c0", "c1", "c2"}


def test_run_leaves_chapters_alone_and_tells_what_was_seen(root, capsys):
    before = (root / "chapters/deeper/90_demo.ipynb").read_bytes()
    assert run.main(["deeper/90", "--root", str(root)]) == 0
    out = capsys.readouterr().out
    assert "✓ a tie costs log 2" in out and "build/html/deeper/90_demo.html" in out and "ok" in out
    assert (root / "build/run/deeper/90_demo.ipynb").exists() and (root / "chapters/deeper/90_demo.ipynb").read_bytes() == before


def test_a_run_of_a_lesson_ends_with_what_a_newcomer_wants_to_see(root, capsys):
    assert run.main(["90", "--root", str(root)]) == 0
    out = capsys.readouterr().out
    order = ["90 · A demonstration", "What does a tie cost, and how much does a clear win save?", "PROMPT  Is it raining?",
             "  before  Rain rain rain.", "A tie costs 0.69 nats; this page explains why.", "build/html/90_demo.html",
             "✓ the loss falls with the margin", "seconds"]
    places = [out.index(line) for line in order]
    assert places == sorted(places) and "measured" not in out and "[" not in out.split("Each sentence")[1]


def test_a_failed_claim_is_shown_as_such(capsys):
    out = new_output("display_data", {"text/plain": "did not hold: up"},
                     metadata={"rlhf": {"claim": {"kind": "T", "text": "up", "detail": "", "held": False}}})
    run.tell_what_was_seen(new_notebook(cells=[new_markdown_cell("# 1 · A"), new_code_cell("x", outputs=[out])]), "page")
    assert "✗ up" in capsys.readouterr().out


def test_progress_knows_what_is_left(monkeypatch, capsys):
    nb = new_notebook(cells=[new_code_cell("x", id=i) for i in "abc"])
    progress = run.Progress(nb, "demo", {"seconds": 100, "slowest": [["b", 80]]})
    assert progress.guess == [10, 80, 10]
    progress.at, progress.began = 2, progress.began - 10
    assert progress.left() == " · about 90 s left"
    progress.at, progress.began = 3, progress.began - 170  # 180 s where 90 were expected: twice as slow
    assert progress.left() == " · about 20 s left"
    progress.line()
    assert capsys.readouterr().out.startswith("demo: cell 3 of 3 · 180 s · about 20 s left")
    assert run.Progress(nb, "demo", None).left() == ""


def test_claims_are_read_in_the_new_and_in_the_old_form():
    shown = new_output("display_data", {"text/plain": "✓ new"},
                       metadata={"rlhf": {"claim": {"kind": "S", "text": "new", "detail": {"margin": 1.5}, "held": True}}})
    printed = new_output("stream", name="stdout", text="claim E holds: old\n  measured: 1\nother\n")
    raised = new_output("error", ename="AssertionError", evalue="claim T fails: no [gap 0.1]", traceback=[])
    nb = new_notebook(cells=[new_code_cell("x", outputs=[shown, printed, raised])])
    assert execute.claims(nb) == [("S", "holds", "new", "margin 1.5"), ("E", "holds", "old", "1"), ("T", "fails", "no", "gap 0.1")]
    shown.metadata = {}
    assert len(execute.claims(nb)) == 2


def test_table_of_seeds_counts_the_stored_notebook_and_shows_a_failure(root):
    stored = execute.claims(read(root))
    kept = root / "build/claims/3.json"
    kept.parent.mkdir(parents=True)
    short, long = {}, {}
    for state in ("holds", "fails"):
        kind, _, text, _ = stored[0]
        kept.write_text(json.dumps({"deeper/90_demo": [(kind, state, text, "margin 1.2"), *stored[1:]], "91_gone": stored}))
        run.write_table(root)
        short[state] = (root / "chapters/status/claims.md").read_text()
        long[state] = (root / "build/claims.md").read_text()
    n = len(stored)
    assert f"| 90_demo | deeper | {n} | 0, 3 | 1.2 | {n} |" in short["holds"] and "91_gone" not in short["holds"]
    assert f"| 90_demo | deeper | {n} | 0, 3 | 1.2 | {n - 1} |" in short["fails"]
    assert "| 90_demo | lesson | 5 | 0 | 2 | 5 |" in short["holds"]
    assert f"{text} | 1/2 |" in long["fails"] and "1/2" not in long["holds"]
    kept.unlink()
    run.write_table(root)  # another checkout: the row of the seeds stays
    assert f"| 90_demo | deeper | {n} | 0, 3 | 1.2 | {n - 1} |" in (root / "chapters/status/claims.md").read_text()


def test_gate_is_red_when_there_is_nothing_to_test(tmp_path, capsys):
    (tmp_path / "chapters/source").mkdir(parents=True)
    assert gate.gate(tmp_path) == 1
    (tmp_path / "chapters/source/05_lost.py").write_text("# %%\n1\n")
    assert gate.gate(tmp_path) == 1 and "not built: 05_lost" in capsys.readouterr().out


# --- sanitiser -------------------------------------------------------------------------------------------------------

SURVIVE = """claim E holds: dpo_loss equals the hand computation
claim T holds: gold at its peak is above gold at the end
measured: 1.0
 measured: one space
   measured: three spaces
text   measured: in the middle
  Measured: 2.0
  measured 3.0
loss at a tie 0.6931
step 20 of 60
chapter 04 · scale village · seed 0 · book edition a66b0bf (21 Aug 2026)
12.3: to do
12.3: not yet — the mask is missing (forgot the mask)
ValueError: mask is (2, 3), logp is (2, 4)
tensor([[0.1000, 0.2000]], dtype=torch.float64)
# rlhf_minimal.kl
def k1(logp, logp_ref):
Line plot of reward against updates: it rises, then falls.
  loss  0.5
✓ the package computes the same""".splitlines()


def test_the_sanitiser_masks_measured_lines_and_nothing_else():
    (pattern, replacement), = get_sanitize_patterns((ROOT / "tools/sanitize.cfg").read_text())
    assert len(SURVIVE) == 20

    def mask(text):
        return re.sub(pattern, replacement, text)
    assert mask("\n".join(SURVIVE)) == "\n".join(SURVIVE) and all(mask(line) == line for line in SURVIVE)
    assert mask("a\n  measured: 1\nb") == mask("a\n  measured: 22\nb") != mask("a\n  measured: 1\nc")


# --- lint ------------------------------------------------------------------------------------------------------------

def with_code(source, **metadata):
    """Append a code cell, executed without outputs."""
    def change(nb):
        count = sum(c.cell_type == "code" for c in nb.cells) + 1
        nb.cells.append(new_code_cell(source, execution_count=count, metadata=metadata))
    return change


def with_text(source):
    return lambda nb: nb.cells.append(new_markdown_cell(source))


def at(index, **values):
    """Change fields of one cell."""
    return lambda nb: nb.cells[index].update(nbformat.from_dict(values))


def output(kind, **values):
    return lambda nb: nb.cells[2].outputs.append(new_output(kind, **values))


def picture(change):
    """Change the output that holds the plot."""
    return lambda nb: change(next(o for o in nb.cells[5].outputs if "image/png" in o.get("data", {})))


def tag(*tags, index=4):
    return at(index, metadata={"tags": list(tags), "rlhf": {"ignore_reason": "trained"}})


def unreasoned(nb):
    nb.cells[6].metadata.pop("rlhf")


def lone_ignored(nb):
    with_code("print(1)", tags=["nbval-ignore-output"], rlhf={"ignore_reason": "trained"})(nb)


def many_ignored(nb):
    tag("nbval-ignore-output", index=4)(nb)


def drop_claim_line(nb):
    nb.cells[4].outputs = [o for o in nb.cells[4].outputs if "claim" not in o.get("metadata", {}).get("rlhf", {})]



BAD = [
    (1, at(4, execution_count=None, outputs=[])), (1, at(4, execution_count=9)),
    (1, output("stream", name="stderr", text="careful")),
    (1, output("error", ename="E", evalue="", traceback=[])),
    (2, tag("slow")), (2, unreasoned), (2, lone_ignored), (2, many_ignored),
    (3, tag("nbval-skip")), (3, tag("raises-exception")), (3, with_code("# NBVAL_IGNORE_OUTPUT\n1")),
    (3, with_code("print('  measured: 1')")),
    (4, with_code("try:\n    claim('a', False)\nexcept AssertionError:\n    pass")),
    (4, with_code("def f():\n    claim('a', True)\nf()")), (4, with_code("if x:\n    claim('a', True)")),
    (4, with_code("if available('m'):\n    pass\nelse:\n    claim('a', True)")),
    (4, with_code("x and claim('a', True)")),
    (4, with_code("with suppress(AssertionError):\n    check('1.1', 2)")), (4, with_code("c = claim\nc('a', True)")),
    (4, with_code("from rlhf_minimal.book.notebook import claim as c")), (4, drop_claim_line),
    (5, picture(lambda o: o.metadata["image/png"].update(alt=""))),
    (5, picture(lambda o: o.data.update({"text/plain": "x"}))),
    (5, picture(lambda o: o.data.update({"image/png": o.data["image/png"][:2000]}))),
    (5, picture(lambda o: (o.data.pop("image/png"), o.data.update({"image/svg+xml": "<svg/>"})))),
    (5, picture(lambda o: o.data.update({"image/jpeg": "x"}))),
    (6, with_text("![](plot.png)")), (6, with_text("![a picture of a curve](https://arxiv.org/x.png)")),
    (6, with_text("<img src='a.png'>")),
    (7, lambda nb: nb.metadata.update(widgets={})), (8, lambda nb: nb.metadata.update(widgets={})),
    (8, lambda nb: nb.metadata.kernelspec.update(name="other")), (8, at(4, metadata={"execution": {}})),
    (8, output("stream", name="stdout", text="/home/someone/x")),
    (9, at(3, id="random1")), (12, with_code("%matplotlib inline")), (12, with_code("!ls")),
    (12, with_code("import sys\nsys.path.append('x')")), (12, with_code("open('/data/x')")),
    (12, with_text("[x](https://example.com)")),
    (13, with_code("torch.manual_seed(run.seed)")), (13, with_code("g = torch.Generator().manual_seed(0)")),
    (13, with_code("random.seed(3)")), (13, with_code("numpy.random.default_rng()")), (13, with_code("torch.randn(3)")),
    (13, with_code("sample(model, prompts, max_new_tokens=3, eos_id=0)")),
    (14, with_code("from tqdm import tqdm")), (14, with_code("display(HTML('x'))")),
    (15, with_text("The reward rises to 3.018.")), (15, with_text("From 0.25 on.")),
    (16, with_text("$$x = 1$$ eq:known")), (16, with_text("eq:unknown")), (19, with_text("[next](91_none.ipynb)")),
    (22, lambda nb: nb.cells[2].outputs[0].update(text="chapter 90 · scale village · seed 1 · x")),
    (22, at(2, outputs=[])),
]
GOOD = [
    with_code("for s in run.seeds(3):\n    check('1.1', s)"), with_code("if available('m'):\n    check('1.1', 2)"),
    with_code("torch.randn(3, generator=run.generator)"), with_code("rng = random.Random(run.seed)\nrng.sample(x, 2)"),
    with_code("sample(model, prompts, max_new_tokens=3, eos_id=0, generator=run.fresh('a'))"),
    with_code("g = torch.Generator().manual_seed(run.seed)"),
    with_text("See exercise 4.2, sections 3.1 and 3.2, `x = 0.25`, $\\beta = 0.1$ and [DPO](https://arxiv.org/abs/2305.18290)."),
    at(3, source="## The question\n\nA tie costs 0.6931."),
    with_text("## 3.1 The step\n\nThe formula of 3.1 says it. <!-- solution 9.9 -->"),
    with_text("In 2022 it was 31.5. <!-- fact --> (InstructGPT, table 6)"),
    with_text("$$x = 1$$ eq:known\n\n| symbol | name here | variable | shape |\n|---|---|---|---|\n| x | y | z | () |"),
    with_text("![a curve that rises](90_demo.ipynb) and [this chapter](90_demo.ipynb)"),
]


@pytest.fixture
def findings(built, tmp_path):
    """findings(change): the numbers of the rules that object to the demonstration after a change."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "deeper").mkdir()
    shutil.copy(built / "chapters/90_demo.ipynb", tmp_path / "90_demo.ipynb")
    (tmp_path / "docs/equations.csv").write_text("label,page\neq:known,x\n")

    def of(change):
        nb = read(built)
        change(nb)
        if nb.cells[3].id != "random1":
            build.set_ids(nb.cells)
        nbformat.write(nb, tmp_path / "deeper/90_demo.ipynb")
        return {number for _, _, number, _ in lint.lint(tmp_path / "deeper/90_demo.ipynb", tmp_path)}
    return of


def test_lint_is_content_with_the_demonstration(built, findings):
    assert lint.lint(built / "chapters/deeper/90_demo.ipynb", built) == []
    assert lint.lint(built / "chapters/90_demo.ipynb", built) == []
    assert findings(lambda nb: None) == set()


@pytest.mark.parametrize("number, change", BAD)
def test_each_rule_finds_its_bad_example(findings, number, change):
    assert number in findings(change)


@pytest.mark.parametrize("change", GOOD)
def test_rules_leave_good_examples_alone(findings, change):
    assert findings(change) == set()


def outline(titles=lint.BLOCKS, cells=60, extra=""):
    texts = ["# 05 · Outline", *(f"## {t.title()}{extra}" for t in titles)]
    return new_notebook(cells=[new_markdown_cell(t) for t in texts + ["Text."] * (cells - len(texts))])


OUTLINE = [
    (23, outline(lint.BLOCKS[:-1])), (23, outline(lint.BLOCKS[::-1])), (10, outline(extra="\n#### Deep")),
    (10, outline(extra="\n# Second")), (24, outline(cells=59)), (24, outline(cells=111)),
    (24, new_notebook(cells=[new_code_cell("x = 1\n" * 26) for _ in range(60)])),
    (24, new_notebook(cells=[new_code_cell("x" * 101) for _ in range(60)])),
    (11, new_notebook(cells=[new_markdown_cell("x" * 30000) for _ in range(60)])),
]


@pytest.mark.parametrize("number, nb", OUTLINE)
def test_outline_and_size_of_the_old_form(tmp_path, number, nb):
    (tmp_path / "deeper").mkdir()
    path = tmp_path / f"deeper/{lint.OLD_FORM[0] if lint.OLD_FORM else '05_outline'}.ipynb"
    if not lint.OLD_FORM:
        pytest.skip("no notebook is in the old form any more: delete rules 23 and 24")

    def found(nb):
        nbformat.write(nb, path)
        return {n for _, _, n, _ in lint.lint(path, tmp_path)} & {10, 11, 23, 24}
    assert number in found(nb) and found(outline()) == set()


# --- lint of lessons -------------------------------------------------------------------------------------------------

def put(place, **values):
    """Change the first code cell whose source holds `place`."""
    return lambda nb: next(c for c in nb.cells if place in c.source).update(nbformat.from_dict(values))


def swap(place, old, new):
    """Replace text in the first cell that holds `place`."""
    def change(nb):
        cell = next(c for c in nb.cells if place in c.source)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)
    return change


def mark(place, part):
    """Another part for the cell that holds `place`; None removes it."""
    def change(nb):
        cell = next(c for c in nb.cells if place in c.source)
        cell.metadata["rlhf"] = nbformat.from_dict({"part": part} if part else {})
    return change


def move(place, to):
    """Move a cell to another position."""
    def change(nb):
        cell = next(c for c in nb.cells if place in c.source)
        nb.cells.remove(cell)
        nb.cells.insert(to, cell)
    return change


def after_setup(source, **metadata):
    """A code cell of its own behind the setup cell."""
    return lambda nb: nb.cells.insert(2, new_code_cell(source, metadata=metadata))


def without_pictures(nb):
    for cell in nb.cells:
        cell["outputs"] = [o for o in cell.get("outputs", []) if "image/png" not in o.get("data", {})]
        cell.source = cell.source.replace("![", "[")


def without_claims(nb):
    for cell in nb.cells:
        cell["outputs"] = [o for o in cell.get("outputs", []) if "claim" not in o.get("metadata", {}).get("rlhf", {})]


def more_claims(nb):
    cell = next(c for c in nb.cells if "claim(" in c.source)
    cell.outputs = cell.outputs + [o for o in cell.outputs if "claim" in o.metadata.get("rlhf", {})] * 8


def long_without(n):
    return lambda nb: [nb.cells.insert(5, new_markdown_cell("More.")) for _ in range(n)]


FOLD = {"tags": ["hide-input"], "jupyter": {"source_hidden": True}}
LESSON_BAD = [
    (30, lambda nb: [nb.cells.insert(9, new_markdown_cell("More.")) for _ in range(40)]),
    (31, with_text("word " * 2500)), (31, with_text(f"<details><summary>more</summary>{'word ' * 800}</details>")),
    (32, after_setup("x = 1\n" * 13)), (32, after_setup("x = 1\n" * 15 + "loss.backward()")),
    (32, lambda nb: [nb.cells.insert(2, new_code_cell("x = 1\n" * 12)) for _ in range(18)]),
    (33, after_setup("print(1)\n" * 40, **FOLD)), (33, after_setup("def f():\n    return 1", **FOLD)),
    (33, after_setup("loss.backward()", **FOLD)), (33, after_setup("import math", **FOLD)),
    (34, after_setup("x = " + "1" * 85)), (35, without_claims), (35, more_claims), (36, without_pictures),
    (36, swap("drawings.loop", "drawings.loop", "plots.loop")),
    (37, swap("# 90", "# 90 · A", "# A")), (37, swap("**What", "?**", ".**")), (37, swap("![", "![", "[")),
    (37, put("pair_loss(m, 0.0)", metadata=FOLD)), (37, swap("90_hero.png", "90_hero.png", "91_other.png")),
    (38, long_without(9)), (39, swap("90.3 ·", "### Exercise 90.3", "### Question")), (39, with_text("### Exercise 90.4 · More")),
    (40, mark("## Retell it", None)), (40, mark("## Retell it", "the end")), (40, move("## What goes wrong", 3)),
    (40, mark("## At GPT-2 size", "idea")), (40, move("## Retell it", 14)), (40, mark("print(f", "retell")),
    (40, lambda nb: nb.cells.insert(0, new_markdown_cell("Before all."))),
    (41, after_setup("rlhf.ppo.step(policy)")), (41, after_setup("sft.step(policy)")), (41, after_setup("step(policy)")),
    (42, swap("import torch", "import torch", "import torch\nimport copy\nimport math")),
    (42, swap("run = begin(90)", "run = begin(90)", "run = 1")), (42, mark("## A larger margin", "setup")),
    (43, put("predict(", metadata={"tags": ["hide-input"]})), (43, put("predict(", metadata={"jupyter": {"source_hidden": True}})),
    (14, lambda nb: nb.cells[2].outputs[0].data.update({"text/html": '<script src="https://x.org/a.js"></script>'})),
    (2, lambda nb: [c.metadata.update(tags=["nbval-ignore-output"], rlhf={"ignore_reason": "trained"})
                    for c in nb.cells if c.cell_type == "code" and "claim(" not in c.source]),
]
LESSON_GOOD = [
    lambda nb: None, long_without(3), after_setup("x = 1\n" * 12), after_setup("x = 1\n" * 14 + "loss.backward()"),
    after_setup("optimizer.step()\nscheduler.step()\nself.adam.step()"), after_setup("x = " + "1" * 84),
    after_setup("table(1)\n" * 20, **FOLD), with_text("word " * 2000), with_text("| a table |\n|---|\n" + "| word word |\n" * 900),
    with_text(f"<details><summary>more</summary>{'word ' * 700}</details>"), with_text("$" + "x " * 3000 + "$"),
    after_setup("# only a comment\n\n" * 20 + "x = 1"),
]


@pytest.fixture
def lesson_findings(built, tmp_path):
    """lesson_findings(change): the numbers of the rules for limits and order that object to the lesson after a change."""
    shutil.copytree(built / "chapters", tmp_path / "chapters")

    def of(change):
        nb = read_lesson(built)
        change(nb)
        build.set_ids(nb.cells)
        nbformat.write(nb, tmp_path / "chapters/90_demo.ipynb")
        return {number for _, _, number, _ in lint.lint(tmp_path / "chapters/90_demo.ipynb", tmp_path)} - {1}
    return of


@pytest.mark.parametrize("number, change", LESSON_BAD)
def test_each_limit_finds_its_bad_example(lesson_findings, number, change):
    assert number in lesson_findings(change)


@pytest.mark.parametrize("change", LESSON_GOOD)
def test_limits_leave_good_examples_alone(lesson_findings, change):
    assert lesson_findings(change) == set()


def test_phenomenon_and_loop_may_be_one(lesson_findings):
    def one(nb):
        mark("## Gradient descent", None)(nb)
        mark("## A larger margin", "phenomenon loop")(nb)
        after_setup("x = 1")(nb)
    assert lesson_findings(one) == set()


def test_a_deeper_notebook_has_its_own_limits(findings):
    assert 30 in findings(lambda nb: [nb.cells.append(new_markdown_cell("More.")) for _ in range(100)])
    assert 32 in findings(with_code("x = 1\n" * 26)) and 32 not in findings(with_code("x = 1\n" * 25))
    assert 34 in findings(with_code("x = " + "1" * 85))


def test_every_rule_has_a_bad_example():
    assert {number for number, _ in [*BAD, *OUTLINE, *LESSON_BAD]} == set(lint.RULES)
    assert {stem for stem in lint.OLD_FORM} <= {p.stem for p in (ROOT / "chapters/deeper").glob("*.ipynb")}


def test_words_and_lines_are_counted_as_the_limits_say():
    text = "# Two words\n\n| a | table |\n\n$$x^2$$ one $y$ two `three` <!-- out a -->many more<!-- /out --> ![alt text](x.png)"
    assert counts.words(text) == 5 and counts.lines("x = 1\n\n# comment\n    # comment\ny = 2  # here") == 2


# --- quotes, figures, export -----------------------------------------------------------------------------------------

def test_quotes_fill_and_are_compared(root):
    assert "A tie costs <!-- out tie -->0.69 nats<!-- /out -->; this" in read_lesson(root).cells[0].source
    nb = read_lesson(root)
    nb.cells[0].source = nb.cells[0].source.replace("0.69 nats", "0.96 nats")
    nbformat.write(nb, root / "chapters/90_demo.ipynb")
    assert "source differs" in build.differences(build.sources(root)[0], root)[0]


def test_quote_markers_that_cannot_work_are_refused():
    assert quotes.fill("a <!-- out x -->", {"x": "1"}) == "a <!-- out x -->1<!-- /out -->"
    assert quotes.fill("a <!-- out x -->", {"x": "-0.6 ± 1-2 a-3 (-.5)"}) == "a <!-- out x -->−0.6 ± 1-2 a-3 (−.5)<!-- /out -->"
    assert quotes.fill("<!-- out x -->\n", {"x": "1"}) == "<!-- out x -->\n1\n<!-- /out -->\n"
    again = quotes.fill(quotes.fill("<!-- out x -->", {"x": "1"}), {"x": "2"})
    assert again == "<!-- out x -->\n2\n<!-- /out -->"
    with pytest.raises(SystemExit, match="not alone on it"):
        quotes.fill("<!-- out x --> is the number", {"x": "1"})
    with pytest.raises(SystemExit, match="no cell quotes that; there are: x"):
        quotes.fill("a <!-- out y -->", {"x": "1"})
    twice = [new_output("display_data", {}, metadata={"rlhf": {"quote": {"name": "x", "text": t}}}) for t in "12"]
    with pytest.raises(SystemExit, match="produced twice"):
        quotes.quotes(new_notebook(cells=[new_code_cell("", outputs=twice)]))


def test_figures_are_the_stored_outputs(root, capsys):
    hero = root / "chapters/figures/90_hero.png"
    stored = quotes.png_of(next(c for c in read_lesson(root).cells if "hero" in c.metadata.get("tags", [])))
    assert hero.read_bytes() == stored and (root / "chapters/figures/90_loop.png").exists()
    hero.write_bytes(stored + b"x")
    assert build.check(root) == 1 and "90_hero.png is not the stored output" in capsys.readouterr().out
    assert build.refresh(build.sources(root)[0], root) == "" and build.check(root) == 0
    (root / "chapters/figures/90_old.png").write_bytes(stored)
    assert build.check(root) == 1 and "90_old.png is made by no cell" in capsys.readouterr().out


def test_folded_cells_are_folded_for_jupyter_and_pull_does_not_write_that(root):
    cells = [c for c in read_lesson(root).cells if "hide-input" in c.metadata.get("tags", [])]
    assert len(cells) > 5 and all(c.metadata.jupyter.source_hidden is True for c in cells)
    source = build.sources(root)[0]
    before = source.read_text()
    nb = read_lesson(root)
    nb.cells[2].source += "  # changed"
    nbformat.write(nb, root / "chapters/90_demo.ipynb")
    assert build.pull(source, root) == ""
    assert "# changed" in source.read_text() and "source_hidden" not in source.read_text() and "<!-- out tie -->;" in before
    assert "<!-- out tie -->;" in source.read_text()


def test_seconds_with_two_threads_belong_to_one_code(root, monkeypatch):
    source = build.sources(root)[0]
    assert ledger.record_two_threads(root, source, read_lesson(root), 61.04) == ""
    assert "> 61.0" in (root / "chapters/status/ledger.md").read_text()
    edit(root, "lr=0.5", "lr=0.4", source)
    assert "build it" in ledger.record_two_threads(root, source, build.generate(source, root), 3.0)


def test_the_page_needs_nobody_else_and_shows_the_hero_once(built):
    page = export.page(read_lesson(built), built / "chapters/90_demo.ipynb")
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//|@import|url\(""", page)
    hero = execute_base64(built / "chapters/figures/90_hero.png")
    said = re.sub(r"<(style|template|script).*?</\1>", "", page, flags=re.DOTALL)
    assert page.count(hero) == 1 and "<math" in page and "$" not in said
    assert page.count("<details class=\"folded\">") > 5 and "measured:" not in page and 'href="deeper/90_demo.html"' in page
    assert "✓ a tie costs log 2" in page and "<!-- quote" not in page and "prefers-color-scheme: dark" in page
    deeper = export.page(read(built), built / "chapters/deeper/90_demo.ipynb")
    assert 'href="../90_demo.html"' in deeper and 'alt="Line plot of the loss' in deeper


def execute_base64(path):
    import base64
    return base64.b64encode(path.read_bytes()).decode()


def test_formulas_become_mathml_or_are_refused():
    assert "<mfrac>" in export.formula(r"\frac{\pi(y)}{\pi_{\rm ref}(y)}", True) and "log" in export.formula(r"\beta\log\pi", False)
    with pytest.raises(ValueError, match="is not understood"):
        export.formula(r"\unheardof{x}", True)


def test_export_writes_all_and_says_what_it_cannot_show(root, capsys):
    assert export.main(["--root", str(root)]) == 0
    assert (root / "build/html/90_demo.html").exists() and (root / "build/html/deeper/90_demo.html").exists()
    nb = read(root)
    nb.cells[3].source += " $\\unheardof$"
    nbformat.write(nb, root / "chapters/deeper/90_demo.ipynb")
    assert export.main(["deeper/90", "--root", str(root)]) == 1
    assert "deeper/90_demo: formula" in capsys.readouterr().out


def test_lint_of_nothing_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="nothing checked"):
        lint.main([str(tmp_path / "none.ipynb")])


def test_lint_says_notebook_cell_rule_and_what_to_do(root, capsys):
    nb = read(root)
    nb.cells[4].execution_count = 7
    nbformat.write(nb, root / "chapters/deeper/90_demo.ipynb")
    assert lint.main([str(root / "chapters/deeper/90_demo.ipynb")]) == 1
    assert "90_demo.ipynb cell 5 (the-question-1) rule 1: execution count is 7, expected 2" in capsys.readouterr().out
