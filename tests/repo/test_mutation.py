"""How many small errors the tests notice: the stored score, and a seeded sample of mutants live."""

import ast
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tools.mutation import report as mutation_report
from tools.mutation import sites as mutation_sites

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tools" / "mutation"
QUICK = ["kl", "aggregate"]  # modules whose tests take a second


def live(tmp_path, *options):
    """Run the tool on a sample of the quick modules -> its results."""
    out = tmp_path / "out.json"
    command = ["-m", "tools.mutation", "--files", *QUICK, "--sample", "12", "--json", str(out), *options]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    return json.loads(out.read_text())


def total(results, key):
    return sum(r[key] for r in results.values())


def known():
    """The modules that the tool knows, read from its text: importing it would take transformers along."""
    source = ast.parse((HERE / "__main__.py").read_text())
    assigned = [x for x in source.body if isinstance(x, ast.Assign)]
    named = next(x.value for x in assigned if getattr(x.targets[0], "id", "") == "MODULES")
    return set(ast.literal_eval(named))


def test_the_stored_score_is_at_least_95_percent():
    stored = json.loads((HERE / "score.json").read_text())
    modules = stored["modules"]
    print(mutation_report.table(modules))
    assert stored["score"] == round(mutation_report.score(modules), 4) >= mutation_report.FLOOR
    assert all(r["killed"] + r["timeout"] + len(r["survived"]) == r["mutants"] > 0 for r in modules.values())
    assert all(r["mutants"] <= r["of"] and (r["drawn"] or r["mutants"] == r["of"]) for r in modules.values())
    assert mutation_report.table(modules) in (HERE / "score.md").read_text()


def test_the_score_of_all_weighs_a_module_by_its_mutants_and_not_by_how_many_ran():
    """Of 200 mutants 10 ran and 5 were killed, of 100 all: (200 / 2 + 100) / 300."""
    drawn, whole = ({"of": n, "mutants": run, "killed": killed - 1, "timeout": 1, "equivalent": 0}
                    for n, run, killed in ((200, 10, 5), (100, 100, 100)))
    assert mutation_report.score({"a": drawn, "b": whole}) == pytest.approx(2 / 3)
    assert mutation_report.table({"a": drawn, "b": whole}).endswith("| all | 300 | 110 | 105 | 2 | 5 | 0 | 66.7 % |")
    assert mutation_report.score({"b": whole}) == 1 and mutation_report.score({}) == 0


def test_every_module_the_tool_knows_is_stored():
    """But for those that are named above as not measured yet. One that has changed since is a warning only."""
    assert set(mutation_report.stored()) == known()
    changed = mutation_report.changed()
    if changed:
        warnings.warn(f"changed since its mutation score was measured: {', '.join(changed)}", stacklevel=1)


def test_control_a_changed_module_is_noticed(monkeypatch):
    before = mutation_report.stored()
    monkeypatch.setattr(mutation_report, "stored", lambda: before | {"kl": before["kl"] | {"digest": "0" * 16}})
    assert "kl" in mutation_report.changed()


def test_the_line_at_the_end_of_the_report_says_the_stored_score():
    stored = json.loads((HERE / "score.json").read_text())
    mutants = sum(r["of"] for r in stored["modules"].values())
    line = mutation_report.line()
    assert line.startswith(f"mutation score {100 * stored['score']:.1f} % of {mutants} mutants") and "\n" not in line


def test_a_sample_of_mutants_is_killed(tmp_path):
    results = live(tmp_path, "--seed", "0")
    assert total(results, "mutants") == 12 and total(results, "killed") >= 10


def test_control_without_tests_every_mutant_survives(tmp_path):
    results = live(tmp_path, "--seed", "0", "--no-tests")
    assert total(results, "killed") == total(results, "timeout") == 0
    assert sum(len(r["survived"]) for r in results.values()) == 12


def test_equivalent_mutants_still_exist_and_have_a_reason():
    rows = json.loads((HERE / "equivalent.json").read_text())
    assert all(len(row["reason"]) > 10 for row in rows)
    sites = {name: mutation_report.found(name)[0] for name in {row["file"] for row in rows}}
    there = {(name, s.function, s.before, s.after) for name, found in sites.items() for s in found}
    gone = mutation_report.equivalent() - there
    assert not gone, f"these lines have changed; look at them again and take them out: {sorted(gone)}"


CODE = '''
"""A docstring with 1 - 2."""
LIMIT = 3

def f(x: int = 1, *, on=True, mask=None) -> int:
    """x - 1"""
    if x < 0:
        hint = x - 1
        raise ValueError(f"{x + 1} is below {hint}")
    y = torch.where(mask, -x.detach() * mask, x[1:])
    return y.sum(1), y.min(dim=1)
'''
WANT = """LIMIT = 4
def f(x: int=2, *, on=True, mask=None) -> int:
def f(x: int=1, *, on=False, mask=None) -> int:
if x <= 0:
if x >= 0:
if x < 1:
y = torch.where(mask, x[1:], -x.detach() * mask)
y = torch.where(mask, -x.detach() / mask, x[1:])
y = torch.where(mask, -x.detach(), x[1:])
y = torch.where(mask, mask, x[1:])
y = torch.where(mask, x.detach() * mask, x[1:])
y = torch.where(mask, -x * mask, x[1:])
y = torch.where(mask, -x.detach() * mask, x[2:])
return (y.min(dim=1), y.sum(1))
return (y.mean(1), y.min(dim=1))
return (y.sum(0), y.min(dim=1))
return (y.sum(1), y.max(dim=1))
return (y.sum(1), y.min(dim=0))"""


def test_the_mutants_of_a_small_function_by_hand():
    tree = ast.parse(CODE)
    before = ast.dump(tree)
    found = mutation_sites.sites(tree)
    assert ast.dump(tree) == before  # listing them leaves the tree alone
    assert sorted(s.after for s in found) == sorted(WANT.split("\n"))
    assert {s.function for s in found} == {"", "f"}
    for site in mutation_sites.sites(ast.parse(CODE)):
        assert site.before != site.after


@pytest.mark.parametrize("a, b, want", [
    ("y = x - 1", "y = x + 1", "...y = x - 1... -> ...y = x + 1..."), ("f(x)", "(left out)", "f(x) -> (left out)"),
    ("y = a * b", "y = a", "...y = a * b... -> ...y = a..."), ("y = aa", "y = a", "...y = aa... -> ...y = a..."),
])
def test_changes_are_told_in_short(a, b, want):
    assert mutation_report.change({"original": a, "mutation": b}) == want
