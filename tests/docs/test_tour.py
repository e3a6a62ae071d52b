"""The tour of the package and CONTRIBUTING: every file, in import order; paths and commands that exist."""

import re

from rlhf_minimal import MODULES
from tools.equations import ROOT

TOUR = (ROOT / "rlhf_minimal/README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def listed(text=TOUR):
    """Names of files and folders in the tour's table, in its order."""
    lines = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for line in lines for name in re.findall(r"`([\w.]+?)(?:\.py|/)`", line)]


def test_every_file_is_in_the_tour_in_import_order():
    package = ROOT / "rlhf_minimal"
    there = {path.stem for path in package.glob("[!_]*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    assert set(listed()) - {"__main__"} == there and len(listed()) == len(set(listed()))
    assert [name for name in listed() if name in MODULES] == list(MODULES)


def test_a_file_out_of_order_or_left_out_is_noticed():
    lines = TOUR.splitlines()
    first, second = (next(i for i, line in enumerate(lines) if line.startswith(f"| `{name}.py`")) for name in ("kl", "advantages"))
    lines[first], lines[second] = lines[second], lines[first]
    assert [name for name in listed("\n".join(lines)) if name in MODULES] != list(MODULES)
    assert "kl" not in listed("\n".join(line for line in lines if not line.startswith("| `kl.py`")))


def test_links_and_make_targets_exist():
    for folder, text in ((ROOT / "rlhf_minimal", TOUR), (ROOT, GUIDE), (ROOT, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (folder / target).exists(), target
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"make ([a-z][\w-]+)", GUIDE.replace("make sure", ""))) <= targets


def test_new_names_of_the_changelog_exist():
    import importlib

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for line in (line for line in text.splitlines() if line.startswith("| `") and "python -m" not in line):
        for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)`", line.split("|")[2]):
            parts = name.split(".")
            module = importlib.import_module(f"rlhf_minimal.{parts[0]}")
            for part in parts[1:]:
                try:
                    module = importlib.import_module(f"{module.__name__}.{part}")
                except (ImportError, AttributeError):
                    module = getattr(module, part)
