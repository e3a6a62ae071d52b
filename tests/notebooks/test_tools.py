"""The build, the lint and the runner, on a demonstration chapter in a folder of its own."""

import copy
import json
import re
import shutil
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbval.plugin import get_sanitize_patterns

from tests.fixtures.demo import ROOT, SMALL, make_repository
from tools import build, execute, gate, lint, run


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A small repository with one executed chapter."""
    root = make_repository(tmp_path_factory.mktemp("built folder"))
    assert build.build(build.sources(root)[0], root) == ""
    return root


@pytest.fixture
def root(built, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(built, tmp_path / "copy")


def source_of(root):
    return build.sources(root)[0]


def read(root):
    return nbformat.read(root / "chapters/90_demo.ipynb", as_version=4)


def edit(root, old, new):
    path = source_of(root)
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
    text = (built / "chapters/90_demo.ipynb").read_text(encoding="utf-8")
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
    assert "<!-- edition -->\nEdition of the book followed here: commit `a66b0bf` (21 Aug 2026).\n<!-- /" in text
    assert re.search(r"\*\*Costs\*\*: <!-- costs -->about \d+0 s on one CPU core, \d\.\d GB [a-z, ]+<!-- /costs -->\.", text)
    entry = build.read_ledger(built)["90_demo"]
    assert entry["claims"] == 3 and entry["cells"] == 15 and len(entry["slowest"]) == 3 and 0.01 < entry["peak_gb"] < 10
    assert build.costs_line({"seconds": 74.9, "peak_gb": 0.94}).startswith("about 70 s on one CPU core, 0.9 GB")
    assert "| 90_demo |" in (built / "chapters/status/ledger.md").read_text()


def test_neighbours_are_linked(root):
    for number in ("89", "91"):
        (root / f"chapters/source/{number}_near.py").write_text(f"# %% [markdown]\n# # {number} · Near\n")
    line = build.nav_line(root / "chapters/source/90_demo.py", root)
    assert line == "← [89 · Near](89_near.ipynb) · [91 · Near](91_near.ipynb) →"
    assert build.nav_line(root / "chapters/source/89_near.py", root) == "[90 · A demonstration](90_demo.ipynb) →"


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
    assert build.main(["student", "90", "--root", str(root)]) == 0
    assert build.main(["instructor", "90", "--root", str(root)]) == 0
    student, instructor = ((root / f"build/{name}/90_demo.ipynb").read_text() for name in ("student", "instructor"))
    assert "NotImplementedError" in student and "x + x" not in student and "hidden=True" not in student
    assert "x + x" in instructor and "hidden=True" in instructor and "NotImplementedError" not in instructor
    assert "### " not in json.loads(instructor)["cells"][9]["source"]


def test_check_finds_what_differs(root, capsys):
    edit(root, "What does a tie cost?", "What does a draw cost?")
    assert build.check(root) == 1 and "cell 4 (the-question-0): source differs" in capsys.readouterr().out
    (root / "chapters/90_demo.ipynb").unlink()
    assert build.check(root) == 1 and "is missing" in capsys.readouterr().out
    nbformat.write(new_notebook(), root / "chapters/92_orphan.ipynb")
    source_of(root).unlink()
    assert build.check(root) == 1 and "has no source" in capsys.readouterr().out
    (root / "chapters/92_orphan.ipynb").unlink()
    assert build.check(root) == 1  # nothing at all is not in order either


def test_check_finds_a_notebook_edited_by_hand(root):
    nb = read(root)
    for change in ({"source": "x = 1"}, {"metadata": {"tags": ["exercise"]}}, {"id": "other"}):
        changed = copy.deepcopy(nb)
        changed.cells[6].update(nbformat.from_dict(change))
        nbformat.write(changed, root / "chapters/90_demo.ipynb")
        assert build.differences(source_of(root), root)
    nbformat.write(nb, root / "chapters/90_demo.ipynb")
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
    nbformat.write(nb, root / "chapters/90_demo.ipynb")
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
    nbformat.write(nb, root / "chapters/90_demo.ipynb")
    assert "holds a solution: edit it in the source" in build.pull(source_of(root), root)
    assert source_of(root).read_text() == text


def test_a_failed_build_says_where_and_leaves_the_notebook(root):
    before = (root / "chapters/90_demo.ipynb").read_bytes()
    edit(root, "< 1e-12", "< 0")
    error = build.build(source_of(root), root)
    assert "code cell 2, section “The question”, id the-question-1" in error
    assert "AssertionError: claim E fails: a tie costs log 2" in error
    assert (root / "chapters/90_demo.ipynb").read_bytes() == before


def test_unknown_chapters_are_refused(root):
    for number in ("77", "x"):
        with pytest.raises(SystemExit, match="there are: 90"):
            build.sources(root, [number])
        with pytest.raises(SystemExit, match="there are: 90"):
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
    before = (root / "chapters/90_demo.ipynb").read_bytes()
    assert run.main(["90", "--root", str(root)]) == 0
    out = capsys.readouterr().out
    assert "E holds: a tie costs log 2   [loss 0.6931]" in out and "build/run/90_demo.ipynb" in out and "ok" in out
    assert (root / "build/run/90_demo.ipynb").exists() and (root / "chapters/90_demo.ipynb").read_bytes() == before


def test_table_of_seeds_counts_the_stored_notebook_and_shows_a_failure(root):
    stored = execute.claims(nbformat.read(root / "chapters/90_demo.ipynb", as_version=4))
    kept = root / "build/claims/3.json"
    kept.parent.mkdir(parents=True)
    told = {}
    for state in ("holds", "fails"):
        kind, _, text, detail = stored[0]
        kept.write_text(json.dumps({"90_demo": [(kind, state, text, "other"), *stored[1:]], "91_gone": stored}))
        run.write_table(root)
        told[state] = (root / "chapters/status/claims.md").read_text()
    assert f"| 90_demo | {len(stored)} | 0, 3 | {len(stored)} |" in told["holds"] and "91_gone" not in told["holds"]
    assert f"| 90_demo | {len(stored)} | 0, 3 | {len(stored) - 1} |" in told["fails"]
    assert f"{text} | 1/2 | {detail}; other |" in told["fails"] and "1/2" not in told["holds"]


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
0x7f""".splitlines()


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
    for out in nb.cells[4].outputs:
        if "text" in out:
            out.text = out.text.replace("claim E holds: a tie costs log 2\n", "")


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
    (5, picture(lambda o: o.data.update({"image/svg+xml": "<svg/>"}))), (5, at(5, source="fig")),
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
    (tmp_path / "data").mkdir()
    (tmp_path / "data/equations.csv").write_text("label,page\neq:known,x\n")

    def of(change):
        nb = read(built)
        change(nb)
        if nb.cells[3].id != "random1":
            build.set_ids(nb.cells)
        nbformat.write(nb, tmp_path / "90_demo.ipynb")
        return {number for _, _, number, _ in lint.lint(tmp_path / "90_demo.ipynb", tmp_path, skip=SMALL)}
    return of


def test_lint_is_content_with_the_demonstration(built, findings):
    assert lint.lint(built / "chapters/90_demo.ipynb", built, skip=SMALL) == []
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


@pytest.mark.parametrize("number, nb", [
    (10, outline(lint.BLOCKS[:-1])), (10, outline(lint.BLOCKS[::-1])), (10, outline(extra="\n#### Deep")),
    (10, outline(extra="\n# Second")), (11, outline(cells=59)), (11, outline(cells=111)),
    (11, new_notebook(cells=[new_code_cell("x = 1\n" * 26) for _ in range(60)])),
    (11, new_notebook(cells=[new_code_cell("x" * 101) for _ in range(60)])),
    (11, new_notebook(cells=[new_markdown_cell("x" * 30000) for _ in range(60)])),
])
def test_outline_and_size(tmp_path, number, nb):
    def found(nb):
        nbformat.write(nb, tmp_path / "05_outline.ipynb")
        return {n for _, _, n, _ in lint.lint(tmp_path / "05_outline.ipynb", tmp_path, skip=set(lint.RULES) - SMALL)}
    assert number in found(nb) and found(outline()) == set()


def test_every_rule_has_a_bad_example():
    assert {number for number, _ in BAD} | SMALL == set(lint.RULES)


def test_lint_of_nothing_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="nothing checked"):
        lint.main([str(tmp_path / "none.ipynb")])


def test_lint_says_notebook_cell_rule_and_what_to_do(root, capsys):
    nb = read(root)
    nb.cells[4].execution_count = 7
    nbformat.write(nb, root / "chapters/90_demo.ipynb")
    assert lint.main([str(root / "chapters/90_demo.ipynb")]) == 1
    assert "90_demo.ipynb cell 5 (the-question-1) rule 1: execution count is 7, expected 2" in capsys.readouterr().out
