"""The layout of the package: a test file for every module, imports that go one way, and an import that costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rlhf_minimal
from rlhf_minimal import MODULES

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "rlhf_minimal"
NO_TEST_FILE = {  # module: where its test is
    "doctor": "another name of commands.doctor: tests/commands/test_doctor.py",
    **dict.fromkeys(("book.output", "book.questions", "book.source", "book.tables"), "tests/book/test_pages.py: on a page"),
    **dict.fromkeys(("book.drawings", "book.records"), "tests/book/test_pictures.py: what they draw"),
    "commands.compare": "tests/commands/test_evaluate.py: beside evaluate",
    "book.quote": "tests/notebooks/test_tools.py: what the build puts between its markers",
    "book.scales": "tests/book/test_notebook.py: begin and the models behind it",
    "extract.examples": "tests/extract/test_extraction.py runs each example, here and in the copied file",
}
ALSO_NAMED = {"village.__main__": "village/test_main.py"}
BY_FOLDER = ("book.exercises.",)  # tests/book/test_exercises*.py go through all of them


def modules(package=PACKAGE):
    """{dotted name without the package's: syntax tree}; a folder's __init__ has the folder's name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(name, tree, known, *, deferred=True):
    """Modules of the package that a module imports, by `from . import x` as well; `deferred`: inside functions too."""
    inside = {id(x) for fn in ast.walk(tree) if isinstance(fn, ast.FunctionDef) for x in ast.walk(fn)}
    folder = name if any(other.startswith(f"{name}.") for other in known) else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree):
        if id(node) in inside and not deferred:
            continue
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix("rlhf_minimal.") for a in node.names if a.name.startswith("rlhf_minimal.")}
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            parts = folder.split(".") if folder else []
            base = ".".join([*parts[:len(parts) - node.level + 1], *([node.module] if node.module else [])])
        elif node.module.split(".")[0] == "rlhf_minimal":
            base = node.module.removeprefix("rlhf_minimal").lstrip(".")
        else:
            continue
        for a in node.names:
            longer = f"{base}.{a.name}".lstrip(".")
            found.add(longer if longer in known else base)
    return found - {"", name}


def late_imports(trees, order):
    """Sentences about imports from a module that stands below; a folder counts as one."""
    place = {name: i for i, name in enumerate(order)}
    complaints = []
    for name, tree in trees.items():
        top = name.split(".")[0]
        for other in imports(name, tree, trees):
            below = other.split(".")[0]
            if top in place and below in place and place[below] > place[top]:
                complaints.append(f"{name} imports {other}, which stands below it")
    return sorted(complaints)


def circle(trees):
    """A circle of modules that import each other, or None. Inside a folder, its own __init__ is left out."""
    graph = {}
    for name, tree in trees.items():
        if name and not any(other.startswith(f"{name}.") for other in trees):
            graph[name] = {x for x in imports(name, tree, trees) if x in trees and not name.startswith(f"{x}.")}
    done = set()

    def walk(name, path):
        if name in path:
            return [*path[path.index(name):], name]
        for other in graph.get(name, ()) if name not in done else ():
            if found := walk(other, [*path, name]):
                return found
        done.add(name)

    return next((found for name in graph if (found := walk(name, []))), None)


def untested(names, tests):
    """Modules without a test file of their name: kl has tests/test_kl.py, data.pool has tests/data/test_pool.py."""
    missing = []
    for name in names:
        *folders, last = name.split(".")
        own = ALSO_NAMED.get(name) or "/".join([*folders, f"test_{last}.py"])
        if name not in NO_TEST_FILE and not name.startswith(BY_FOLDER) and own not in tests:
            missing.append(name)
    return missing


def files_of_tests():
    return {p.relative_to(ROOT / "tests").as_posix() for p in (ROOT / "tests").rglob("test_*.py")}


def without_mains(trees):
    """Modules that hold something: no empty folder's __init__, no __main__ that only calls another module."""
    folders = {name for name in trees if any(other.startswith(f"{name}.") for other in trees)} | {""}
    mains = {name for name in trees if name.endswith("__main__") and name not in ALSO_NAMED}
    return set(trees) - folders - mains


def test_every_module_has_its_test_file():
    names = without_mains(modules())
    assert not untested(names, files_of_tests())
    assert not set(NO_TEST_FILE) - names, "these exceptions are no modules"
    assert not [name for name in NO_TEST_FILE if not untested_without_exception(name)], "these have a test file by now"


def untested_without_exception(name):
    *folders, last = name.split(".")
    return "/".join([*folders, f"test_{last}.py"]) not in files_of_tests()


def test_control_a_module_without_a_test_is_found():
    assert untested(["kl", "data.pool", "new", "data.new"], files_of_tests()) == ["new", "data.new"]


def test_no_two_modules_import_each_other():
    assert circle(modules()) is None


def test_a_file_imports_only_from_those_above_it():
    assert late_imports(modules(), MODULES) == []


def test_every_module_stands_in_the_order():
    """`doctor` is only another name of `commands.doctor`, `__main__` is the command line."""
    tops = {name.split(".")[0] for name in modules()} - {"", "__main__"}
    assert tops - {"doctor"} == set(MODULES)


@pytest.mark.parametrize("source, late", [
    ("from .grpo import grpo_loss", ["kl imports grpo, which stands below it"]),
    ("from . import tensors, grpo", ["kl imports grpo, which stands below it"]),
    ("def f():\n    from rlhf_minimal.grpo import grpo_loss", ["kl imports grpo, which stands below it"]),
    ("import rlhf_minimal.data.pool", ["kl imports data.pool, which stands below it"]),
    ("from .tensors import masked_mean", []), ("import torch\nfrom torch import nn", []),
])
def test_control_a_late_import_is_found(source, late):
    found = late_imports(modules() | {"kl": ast.parse(source)}, MODULES)
    assert [x for x in found if x.startswith("kl ")] == late


def test_control_a_circle_is_found():
    trees = {"": ast.parse(""), "a": ast.parse("from .b import x"), "b": ast.parse("def f():\n    from . import c"),
             "c": ast.parse("from rlhf_minimal.a import y")}
    assert sorted(circle(trees)[:-1]) == ["a", "b", "c"]
    assert circle(trees | {"c": ast.parse("")}) is None


def test_control_relative_imports_of_folders_are_followed():
    tree = ast.parse("from ..kl import k1\nfrom .. import ppo\nfrom .pool import Pool\nfrom . import load\nfrom .nothing import z")
    assert imports("data.new", tree, modules()) == {"kl", "ppo", "data.pool", "data.load", "data.nothing"}
    assert imports("data", ast.parse("from .pool import Pool"), modules()) == {"data.pool"}


# ---- what `import rlhf_minimal as rlhf` costs ----

TIMED = "import time, torch; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def seconds(statement):
    """The best of three fresh processes, beyond torch's own import."""
    runs = [subprocess.run([sys.executable, "-c", TIMED.format(statement)], cwd=ROOT, capture_output=True, text=True, check=True)
            for _ in range(3)]
    return min(float(done.stdout) for done in runs)


def test_the_import_takes_no_time():
    took = seconds("import rlhf_minimal as rlhf")
    print(f"import rlhf_minimal: {took:.4f} s beyond torch")
    assert took < 0.2
    assert seconds("import time; time.sleep(0.25)") > 0.2  # a slow one would show


def test_a_module_is_loaded_when_it_is_named():
    code = ("import sys, rlhf_minimal as rlhf; loaded = lambda: 'rlhf_minimal.grpo' in sys.modules\n"
            "before = loaded(), 'torch' in sys.modules; rlhf.grpo; print(before, loaded(), set(rlhf.MODULES) <= set(dir(rlhf)))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(False, False) True True"
    with pytest.raises(AttributeError, match="no attribute 'gpro'"):
        rlhf_minimal.gpro  # noqa: B018
