"""`python -m rlhf_minimal.extract`: each file stands alone, runs where the package is not, and gives the same numbers."""

import ast
import doctest
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_minimal.extract import demos
from rlhf_minimal.extract import extraction as copy

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(copy.algorithms())
BLOCKED = ("rlhf_minimal", "datasets", "peft", "accelerate", "matplotlib")
# Runs every file in a namespace of its own; what a copy must not need cannot be imported.
RUNNER = f"""
import json, runpy, sys
sys.modules.update(dict.fromkeys({BLOCKED!r}))
out = {{}}
for path in sys.argv[1:]:
    space = runpy.run_path(path, run_name="copied")
    demo = [f for name, f in space.items() if name.startswith("demo_")]
    assert len(demo) == 1, path
    out[path] = {{name: float(x) for name, x in demo[0]().items()}}
bad = [m for m in sys.modules if m.split(".")[0] in {BLOCKED!r} and sys.modules[m] is not None]
print(json.dumps([out, bad]))
"""


def python(*args, cwd=None):
    """A clean process: isolated, so neither this directory nor PYTHONPATH nor a user's site is seen."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RLHF"))} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=cwd, env=env)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{name: path} of a copy of every algorithm."""
    folder = tmp_path_factory.mktemp("copies")
    for name in NAMES:
        copy.main([name, "-o", str(folder / f"{name}.py")])
    return {name: folder / f"{name}.py" for name in NAMES}


def test_what_there_is():
    wanted = "sft reward_model process_reward best_of_n reinforce rloo ppo grpo direct_alignment dpo"
    assert set(wanted.split()) <= set(NAMES)
    for name, (module, _) in copy.algorithms().items():
        assert (ROOT / f"rlhf_minimal/{module}.py").exists(), name


def test_every_file_with_an_update_can_be_copied():
    """A new algorithm file (one that ends in step()) needs a demo, or it cannot be copied."""
    steps = {p.stem for p in (ROOT / "rlhf_minimal").glob("*.py") if re.search(r"^def step\(", p.read_text(), re.M)}
    assert steps <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_stands_alone(files, name):
    """Only torch, transformers, what they bring, and the standard library; a header, definitions, a demo."""
    text = files[name].read_text(encoding="utf-8")
    tree = ast.parse(text)
    compile(text, name, "exec")
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {x.name.split(".")[0] for x in node.names}
    assert found - set(sys.stdlib_module_names) <= {"torch", "transformers", "jinja2"}  # torch itself needs jinja2
    assert "implements" not in text and "from ." not in text
    body = [n for n in tree.body if not isinstance(n, (ast.Import, ast.ImportFrom))]
    assert isinstance(body[-1], ast.If) and f"extract {name}`" in ast.get_docstring(tree)


@pytest.mark.parametrize("name", NAMES)
def test_copied_functions_are_the_package_s(files, name):
    """Each definition is the package's, but for the decorator and imports from within; all public ones are there."""
    module, chosen = copy.algorithms()[name]
    def bodies(path):
        return {n.name: n for n in ast.parse(path.read_text()).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}

    ours, theirs = bodies(files[name]), bodies(ROOT / f"rlhf_minimal/{module}.py")
    public = [x for x in theirs if not x.startswith("_")] if chosen is None else chosen
    assert set(public) <= set(ours)
    for x in set(ours) & set(theirs):
        for node in (ours[x], theirs[x]):
            node.decorator_list = [d for d in node.decorator_list if "implements" not in ast.unparse(d)]
        assert ast.unparse(ours[x]) == ast.unparse(theirs[x])


def test_dpo_alone_leaves_other_losses_out(files):
    text = files["dpo"].read_text()
    assert "def dpo_loss(" in text and "def step(" in text and "# eq:dpo_core\ndef dpo_loss" in text
    assert re.findall(r"^def (\w+_loss)\(", text, re.M) == ["dpo_loss"] and "def sample(" not in text
    assert len(re.findall(r"^def \w+_loss\(", files["direct_alignment"].read_text(), re.M)) == 13  # a control: there all are
    assert text.count("\n") < files["direct_alignment"].read_text().count("\n")


def test_all_run_where_the_package_is_not_and_agree_with_it(files):
    """One clean process; datasets, peft, accelerate, matplotlib and the package cannot be imported in it."""
    done = python("-I", "-c", RUNNER, *map(str, files.values()))
    assert done.returncode == 0, done.stderr[-2000:]
    got, bad = json.loads(done.stdout)
    assert not bad
    for name, path in files.items():
        want = getattr(demos, f"demo_{copy.algorithms()[name][0]}")()
        assert {k: float(x) for k, x in want.items()} == pytest.approx(got[str(path)], rel=1e-5, abs=1e-6), name
        assert any(x != 0 for x in got[str(path)].values())


def test_the_runner_blocks_what_it_says(tmp_path):
    """Negative control: a file that imports the package fails in it."""
    (tmp_path / "bad.py").write_text("from rlhf_minimal.sft import sft_loss\n")
    done = python("-I", "-c", RUNNER, str(tmp_path / "bad.py"))
    assert done.returncode != 0 and "rlhf_minimal" in done.stderr


@pytest.mark.parametrize("name", ["sft", "ppo"])
def test_as_a_user_runs_it(name, tmp_path):
    """The command, then the file, each in a process of its own."""
    done = python("-m", "rlhf_minimal.extract", name, "-o", str(tmp_path / "mine.py"), cwd=ROOT)
    assert done.returncode == 0 and "mine.py" in done.stdout, done.stderr
    done = python("-I", "mine.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    shown = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    want = getattr(demos, f"demo_{name}")()
    assert {k: float(x) for k, x in shown.items()} == pytest.approx({k: float(x) for k, x in want.items()}, abs=1e-4)


def test_examples_in_a_copy_still_run(files):
    """The docstrings' examples find what they need in the copy."""
    space = {}
    exec(compile(files["grpo"].read_text(), "grpo", "exec"), space)
    runner, count = doctest.DocTestRunner(), 0
    for test in doctest.DocTestFinder().find(space["grpo_loss"], "grpo_loss", globs=space):
        count += runner.run(test).attempted
    assert count and not runner.failures


def test_ruff_finds_nothing(files):
    done = python("-m", "ruff", "check", "--line-length", "132", "--select", "E,F,W,I,B,UP", "--ignore", "E741",
                  "--isolated", *map(str, files.values()))
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("args, pieces", [
    (["pqo"], ["'pqo'", "did you mean ppo", "grpo"]),
    (["simpo"], ["'simpo'", "simpo is in direct_alignment"]),
    (["tensors"], ["'tensors'", "choose one of"]),
    (["../ppo"], ["'../ppo'", "choose one of"]),
    ([], ["--list"]),
    (["ppo", "-o", "there.py"], ["there.py exists", "--force"]),
    (["ppo", "-o", "no/such/folder.py"], ["cannot write no/such/folder.py", "-o"]),
    (["ppo", "-o", "folder"], ["folder exists", "-o"]),
])
def test_wrong_use(args, pieces, tmp_path, monkeypatch, capsys):
    """Status 2, one line that says what was given and what to do, and nothing written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.py").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SystemExit) as stop:
        copy.main(args)
    text = capsys.readouterr().err
    assert stop.value.code == 2 and all(piece in text for piece in pieces), text
    assert sorted(os.listdir(tmp_path)) == ["folder", "there.py"] and (tmp_path / "there.py").read_text() == "mine"


def test_force_screen_and_list(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rloo.py").write_text("mine")
    copy.main(["rloo", "--force"])
    text = (tmp_path / "rloo.py").read_text()
    assert "def rloo_loss" in text and os.listdir(tmp_path) == ["rloo.py"]
    capsys.readouterr()
    copy.main(["rloo", "-o", "-"])
    assert capsys.readouterr().out == text
    copy.main(["--list"])
    assert len(capsys.readouterr().out.splitlines()) == len(NAMES)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.py"
    path.write_text("old")

    def broken(*_):
        raise OSError("disk gone")

    monkeypatch.setattr(copy.os, "replace", broken)
    with pytest.raises(OSError, match="disk gone"):
        copy.write("new", path, force=True)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.py"]


@pytest.mark.parametrize("source, pieces", [
    ("def f():\n    return nothing_here\n", ["f uses nothing_here"]),
    ("from . import tensors\n\n\ndef f():\n    return tensors\n", ["a whole module", "from .module import name"]),
    ("from .one import g as h\n\n\ndef f():\n    return h()\n", ["one.py", "imported with `as`"]),
    ("from .one import g\nfrom .two import k\n\n\ndef f():\n    return g() + k()\n", ["_x is defined", "rename one"]),
])
def test_what_it_cannot_follow_raises(source, pieces, tmp_path, monkeypatch):
    """In the package's own files: never a copy that fails when it runs."""
    (tmp_path / "mod.py").write_text(source)
    (tmp_path / "one.py").write_text("def _x():\n    return 1\n\n\ndef g():\n    return _x()\n")
    (tmp_path / "two.py").write_text("def _x():\n    return 2\n\n\ndef k():\n    return _x()\n")
    monkeypatch.setattr(copy, "PACKAGE", tmp_path)
    copy.read.cache_clear()
    try:
        with pytest.raises(ValueError) as error:
            copy.collect([("mod", "f")])
    finally:
        copy.read.cache_clear()
    assert all(piece in str(error.value) for piece in pieces), str(error.value)
