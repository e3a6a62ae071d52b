"""`python -m rlhf_minimal.extract`: each file stands alone, shows its algorithm first, runs where the package is not, and
gives the package's numbers."""

import ast
import copy
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_minimal.extract import examples, extraction
from rlhf_minimal.extract.source import read

ROOT = Path(__file__).resolve().parents[2]
ALGORITHMS = extraction.algorithms()
NAMES = sorted(ALGORITHMS)
LOSSES = re.findall(r"^def (\w+)_loss\(", (ROOT / "rlhf_minimal/direct_alignment.py").read_text(), re.M)
BLOCKED = ("rlhf_minimal", "datasets", "peft", "accelerate", "matplotlib")
# Runs every file in a namespace of its own; what a copy must not need cannot be imported.
RUNNER = f"""
import contextlib, inspect, io, json, runpy, sys
sys.modules.update(dict.fromkeys({BLOCKED!r}))
out = {{}}
for path in sys.argv[1:]:
    example = runpy.run_path(path, run_name="copied")["example"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        example()
    short = {{"steps": 1}} if "steps" in inspect.signature(example).parameters else {{}}
    with contextlib.redirect_stdout(io.StringIO()):
        out[path] = [said.getvalue(), {{name: float(x) for name, x in example(**short).items()}}]
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
        extraction.main([name, "-o", str(folder / f"{name}.py")])
    return {name: folder / f"{name}.py" for name in NAMES}


@pytest.fixture(scope="module")
def ran(files):
    """{name: (what the whole example prints, the statistics of its first step)}, from one process without the package."""
    done = python("-I", "-c", RUNNER, *map(str, files.values()))
    assert done.returncode == 0, done.stderr[-2000:]
    out, bad = json.loads(done.stdout)
    assert not bad
    return {name: out[str(path)] for name, path in files.items()}


def definitions(text):
    return {x.name: x for x in ast.parse(text).body if isinstance(x, (ast.FunctionDef, ast.ClassDef))}


# ---- what a file holds ----

def test_what_there_is():
    wanted = "sft reward_model process_reward best_of_n reinforce rloo ppo grpo drgrpo gspo cispo direct_alignment"
    assert set(wanted.split()) | set(LOSSES) <= set(NAMES) and len(LOSSES) >= 12
    for name, algorithm in ALGORITHMS.items():
        assert (ROOT / f"rlhf_minimal/{algorithm.module}.py").exists(), name


def test_every_file_with_an_update_can_be_copied():
    """A new algorithm file (one that ends in step()) needs an example, or it cannot be copied."""
    steps = {p.stem for p in (ROOT / "rlhf_minimal").glob("*.py") if re.search(r"^def step\(", p.read_text(), re.M)}
    assert steps <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_stands_alone(files, name):
    """Only torch, transformers, what they bring, and the standard library; a header that names its source and the licence."""
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
    # torch itself needs jinja2, transformers needs tokenizers
    assert found - set(sys.stdlib_module_names) <= {"torch", "transformers", "jinja2", "tokenizers"}
    assert "implements" not in text and "from ." not in text and ">>>" not in text
    head = ast.get_docstring(tree)
    assert f"extract {name}`" in head and "MIT License" in head


@pytest.mark.parametrize("name", NAMES)
def test_the_algorithm_first_then_helpers_then_a_short_example(files, name):
    """The book's loss within the first 50 lines; nothing of another module before it but what it is made of."""
    text = files[name].read_text(encoding="utf-8")
    found, lines = definitions(text), text.split("\n")
    algorithm = ALGORITHMS[name]
    names = [x for x in extraction.own_names(algorithm) if x in found]
    assert found[names[0]].lineno <= 50
    if any(x.endswith("_loss") for x in names):
        assert names[0].endswith("_loss")
    assert list(found)[-1] == "example"
    body = ast.parse(text).body[-1]
    assert isinstance(body, ast.If) and body.end_lineno == len(lines) - 1
    assert len(lines) - found["example"].lineno <= 25
    assert "AutoTokenizer.from_pretrained" in text and "ByT5Tokenizer" in text


@pytest.mark.parametrize("name, most", [("ppo", 600), ("grpo", 600), ("rloo", 600), ("dpo", 350), ("simpo", 350), ("sft", 350)])
def test_length(files, name, most):
    assert len(files[name].read_text(encoding="utf-8").splitlines()) <= most


@pytest.mark.parametrize("name", NAMES)
def test_copied_functions_are_the_package_s(files, name):
    """Each definition is the package's, or the plain one of its name, but for docstrings, decorators and imports within."""
    algorithm = ALGORITHMS[name]
    ours = definitions(files[name].read_text())
    public = algorithm.names or [x for x in read(algorithm.module).definitions if x[0] != "_"]
    assert {x for x in public if not x.isupper() and x not in algorithm.left_out} - {"LossAndStats"} <= set(ours)

    def bare(node):
        """A definition's code, with the names of the losses that the member of a family puts in place of another."""
        for inner in ast.walk(node):
            if isinstance(inner, (ast.FunctionDef, ast.ClassDef)):
                inner.decorator_list = [x for x in inner.decorator_list if "implements" not in ast.unparse(x)]
                inner.body = [x for x in inner.body if not (isinstance(x, ast.ImportFrom) and x.level)
                              and not (isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant))] or [ast.Pass()]
            if isinstance(inner, ast.FunctionDef) and isinstance(inner.returns, ast.Constant) and inner.returns.value:
                inner.returns = ast.Name(inner.returns.value)  # an annotation in quotes
        text = ast.unparse(node)
        return text if node.name not in ("step", "example") else re.sub(r"\w+_loss", "a_loss", text)

    modules = ["extract.plain", "extract.examples", algorithm.module] + [p.stem for p in (ROOT / "rlhf_minimal").glob("*.py")]
    for own, node in ours.items():
        known = f"example_{algorithm.example}" if own == "example" else own
        homes = [m for m in modules if known in read(m).definitions]
        assert homes, f"{own} is in none of the package's files"
        theirs = [copy.deepcopy(read(m).definitions[known]) for m in homes]
        for x in theirs:
            x.name = own
        assert bare(node) in map(bare, theirs[:1] if own in read("extract.plain").definitions else theirs), own


def test_one_loss_alone_leaves_the_others_out(files):
    text = files["dpo"].read_text()
    assert "# eq:dpo_core, https://arxiv.org/abs/2305.18290\ndef dpo_loss(" in text and "def step(" in text
    assert "def sample(" not in text
    for name in LOSSES:
        found = re.findall(r"^def (\w+)_loss\(", files[name].read_text(), re.M)
        assert found == ([name] if name != "dpo_nll" else [name, "dpo"]), found
    whole = files["direct_alignment"].read_text()
    assert re.findall(r"^def (\w+)_loss\(", whole, re.M) == LOSSES  # a control: there all are
    assert len(text) < len(whole)


# ---- that it runs ----

def first_step(name):
    """The statistics of the example's first step, computed by the package; for a member of a family, with its own loss."""
    algorithm = ALGORITHMS[name]
    source = inspect.getsource(getattr(examples, f"example_{algorithm.example}"))
    for old, new in algorithm.instead:
        source = re.sub(rf"\b{old}\b", new, source)
    space = dict(vars(examples))
    exec(source, space)
    example = space[f"example_{algorithm.example}"]
    return {key: float(x) for key, x in example(**({"steps": 1} if example.__kwdefaults__ else {})).items()}


@pytest.mark.parametrize("name", NAMES)
def test_runs_where_the_package_is_not_and_agrees_with_it(ran, name):
    """The first step of the example, in the copied file and in the package: the same numbers, mostly with a gradient's norm."""
    got, want = ran[name][1], first_step(name)
    assert got.keys() == want.keys() and want == pytest.approx(got, rel=1e-4, abs=1e-5)
    assert any(x != 0 for x in got.values())


@pytest.mark.parametrize("name, word, better", [
    ("sft", "loss", -1), ("reward_model", "loss", -1), ("process_reward", "loss", -1), ("dpo", "loss", -1), ("kto", "loss", -1),
    ("orpo", "loss", -1), ("simpo", "margin", 1), ("reinforce", "score", 1), ("rloo", "score", 1), ("grpo", "score", 1),
    ("ppo", "score", 1),
])
def test_the_example_learns(ran, name, word, better):
    numbers = [float(x) for x in re.findall(rf"\b{word} (-?[\d.]+)", ran[name][0])]
    assert len(numbers) == 10 and better * (numbers[-1] - numbers[0]) > 0.05


def test_the_runner_blocks_what_it_says(tmp_path):
    """Negative control: a file that imports the package fails in it."""
    (tmp_path / "bad.py").write_text("from rlhf_minimal.sft import sft_loss\n")
    done = python("-I", "-c", RUNNER, str(tmp_path / "bad.py"))
    assert done.returncode != 0 and "rlhf_minimal" in done.stderr


def test_as_a_user_runs_it(tmp_path):
    """The command, then the file with a model of the user's own, each in a process of its own."""
    done = python("-m", "rlhf_minimal.extract", "grpo", "-o", str(tmp_path / "mine.py"), cwd=ROOT)
    assert done.returncode == 0 and "mine.py" in done.stdout, done.stderr
    model, tokenizer = examples.load(None)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    done = python("-I", "mine.py", "model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.findall(r"^batch (\d): score [\d.]+, KL -?[\d.]+$", done.stdout, re.M) == [str(i) for i in range(10)]


def test_ruff_finds_nothing(files):
    done = python("-m", "ruff", "check", "--line-length", "132", "--select", "E,F,W,I,B,UP", "--ignore", "E741",
                  "--isolated", *map(str, files.values()))
    assert done.returncode == 0, done.stdout[-2000:]


# ---- the command ----

@pytest.mark.parametrize("args, pieces", [
    (["pqo"], ["'pqo'", "did you mean ppo", "grpo"]),
    (["plackett_luce"], ["'plackett_luce'", "plackett_luce is in reward_model"]),
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
        extraction.main(args)
    text = capsys.readouterr().err
    assert stop.value.code == 2 and all(piece in text for piece in pieces), text
    assert sorted(os.listdir(tmp_path)) == ["folder", "there.py"] and (tmp_path / "there.py").read_text() == "mine"


def test_force_screen_and_list(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rloo.py").write_text("mine")
    extraction.main(["rloo", "--force"])
    text = (tmp_path / "rloo.py").read_text()
    assert "def rloo_loss" in text and os.listdir(tmp_path) == ["rloo.py"]
    capsys.readouterr()
    extraction.main(["rloo", "-o", "-"])
    assert capsys.readouterr().out == text
    extraction.main(["--list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(ALGORITHMS) and all(len(line.split()) > 3 for line in lines)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.py"
    path.write_text("old")

    def broken(*_):
        raise OSError("disk gone")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk gone"):
        extraction.write("new", path, force=True)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.py"]
