r"""Build the notebooks of chapters/ from their sources, chapters/source/NN_slug.py (jupytext percent files).

    python -m tools.build 04 12          execute, write chapters/NN_slug.ipynb, bring the ledger up to date
    python -m tools.build --all          every chapter
    python -m tools.build refresh 04     new text around unchanged code: keeps the stored outputs (no numbers: all)
    python -m tools.build --check        does every notebook say what its source says (outputs aside)?
    python -m tools.build pull 04        somebody edited the notebook: write its inputs back to the source
    python -m tools.build student 04     build/student/: no solutions; `instructor`: solutions and hidden tests in place

What an author writes, and what the build makes of it
  In Markdown cells (put the marker alone on its line, or inside a sentence):
    <!-- edition -->        the commit of the book that is followed
    <!-- costs -->          seconds and memory, from chapters/status/ledger.json
    <!-- nav -->            links to the previous and the next chapter
    <!-- solution 4.2 -->   where the folded solution of exercise 4.2 goes; without it, right after check("4.2", …)
  In an exercise (a code cell with tags=["exercise"]; the check cell follows it):
    ### BEGIN SOLUTION … ### END SOLUTION           readers see `raise NotImplementedError`; at top level, where the
                                                    block may only assign names, they see `name = None  # your answer`
    ### BEGIN HIDDEN TESTS … ### END HIDDEN TESTS   instructor version only
  A cell with trained numbers:  # %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
  Cell ids are made here: slug of the heading above, then a number. Any id in a source is ignored.
"""

import argparse
import ast
import json
import platform
import re
import sys
import time
from importlib.metadata import version as version_of
from pathlib import Path

import jupytext
import nbformat

from rlhf_minimal.commands.doctor import EDITION

from .execute import ROOT, claims, environment, execute

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python",
                      "pygments_lexer": "ipython3"},
}
CELL_METADATA = ("tags", "rlhf", "nbgrader")
MARKER = re.compile(r"<!-- (edition|costs|nav|solution [\d.]+) -->(?:.*?<!-- /\1 -->)?", re.DOTALL)
SOLUTION = re.compile(r"^([ \t]*)### BEGIN SOLUTION\n(.*?)^[ \t]*### END SOLUTION$", re.MULTILINE | re.DOTALL)
HIDDEN = re.compile(r"\n*^[ \t]*### BEGIN HIDDEN TESTS\n.*?^[ \t]*### END HIDDEN TESTS$", re.MULTILINE | re.DOTALL)
CHECK = re.compile(r"""^check\(["'](\d+\.\d+)["']""", re.MULTILINE)
FOLD = "<details><summary>Solution of exercise {}</summary>\n\n```python\n{}\n```\n\n</details>"


def sources(root, numbers=()):
    """Paths of the sources, in order; all of them, or those of the given chapter numbers."""
    found = {int(p.name[:2]): p for p in sorted((root / "chapters/source").glob("[0-9][0-9]_*.py"))}
    if missing := [n for n in numbers if not (str(n).isdecimal() and int(n) in found)]:
        raise SystemExit(f"no chapter {', '.join(missing)} in chapters/source; there are: "
                         f"{' '.join(f'{n:02d}' for n in found) or 'none'}")
    return [found[int(n)] for n in numbers] if numbers else list(found.values())


def notebook_path(source):
    """chapters/source/NN_slug.py -> chapters/NN_slug.ipynb."""
    return source.parents[1] / f"{source.stem}.ipynb"


def read_ledger(root):
    """{slug: what the last build measured}."""
    path = root / "chapters/status/ledger.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def costs_line(entry):
    """Rounded to 10 s and 0.1 GB, so that it does not change with every build."""
    if not entry:
        return "not measured yet"
    seconds, memory = max(10, 10 * round(entry["seconds"] / 10)), max(0.1, entry["peak_gb"])
    return f"about {seconds} s on one CPU core, {memory:.1f} GB of memory, nothing downloaded"


def nav_line(source, root):
    """Links to the neighbours that exist."""
    every = sources(root)
    at, links = every.index(source), []
    for other, form in ((at - 1, "← [{}]({})"), (at + 1, "[{}]({}) →")):
        if 0 <= other < len(every):
            title = re.search(r"^# # (.+)$", every[other].read_text(encoding="utf-8"), re.MULTILINE)
            links.append(form.format(title[1] if title else every[other].stem, f"{every[other].stem}.ipynb"))
    return " · ".join(links) or "the only chapter so far"


def fill_markers(text, values):
    """Put generated text between a marker and its closing twin; alone on a line it becomes a block of its own."""
    def fill(match):
        name, gap = match[1], "\n" if match.start() == 0 or text[match.start() - 1] == "\n" else ""
        if name not in values:
            raise SystemExit(f"<!-- {name} -->: no such solution; there are: {', '.join(values)}")
        return f"<!-- {name} -->{gap}{values[name]}{gap}<!-- /{name} -->"
    return MARKER.sub(fill, text)


def make_stub(code):
    """A cell with a solution block -> the same cell for readers."""
    def stub(match):
        indent, body = match[1], match[2]
        if indent:
            return f"{indent}raise NotImplementedError"
        lines = []
        for node in ast.parse(body).body:
            if not (isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) for t in node.targets)):
                raise SystemExit(f"a solution at top level may only assign names; in a function, indent it:\n{body}")
            lines += [f"{t.id} = None  # your answer" for t in node.targets]
        return "\n".join(lines)
    return SOLUTION.sub(stub, code)


def unmarked(code):
    """The full answer, without the marks."""
    return re.sub(r"^[ \t]*### (BEGIN|END) (SOLUTION|HIDDEN TESTS)\n?", "", code, flags=re.MULTILINE).strip("\n")


def split_solutions(cells, version):
    """Take solutions out of the cells -> (cells, {"solution 4.2": folded text}), ready for one version of the book."""
    solutions, out, waiting = {}, [], None
    marked = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    for cell in cells:
        out.append(cell)
        if cell.cell_type != "code":
            continue
        full = cell.source
        if version == "instructor":
            cell.source = unmarked(full)
            continue
        cell.source = make_stub(HIDDEN.sub("", full))
        waiting = unmarked(full) if SOLUTION.search(full) else waiting
        if waiting and (found := CHECK.search(full)):
            name = f"solution {found[1]}"
            solutions[name], waiting = FOLD.format(found[1], waiting), None
            if f"<!-- {name} -->" not in marked:
                out.append(nbformat.v4.new_markdown_cell(f"<!-- {name} -->", metadata={"rlhf": {"generated": True}}))
    if waiting:
        raise SystemExit(f"a solution without a check(\"N.M\", …) after it:\n{waiting}")
    if version == "student":
        solutions = {name: "" for name in solutions}
    return out, solutions


def set_ids(cells):
    """Heading slug + number inside the section: an edit changes only the ids of its own section."""
    seen, slug, number = {}, "top", 0
    for cell in cells:
        titles = re.findall(r"^#+ +(.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []
        if titles:
            base = re.sub(r"[^a-z0-9]+", "-", titles[-1].lower()).strip("-")[:40].strip("-") or "section"
            seen[base] = seen.get(base, 0) + 1
            slug, number = base if seen[base] == 1 else f"{base}-{seen[base]}", 0
        cell.id, number = f"{slug}-{number}", number + 1
    return cells


def generate(source, root=ROOT, version="reader"):
    """A source -> the notebook's inputs, with everything generated in place and no outputs."""
    nb = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    cells, values = split_solutions(nb.cells, version)
    values |= {"edition": f"Edition of the book followed here: commit `{EDITION.replace(' ', '` ', 1)}.",
               "costs": costs_line(read_ledger(root).get(source.stem)), "nav": nav_line(source, root)}
    for cell in cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in CELL_METADATA})
        if cell.cell_type == "markdown":
            cell.source = fill_markers(cell.source, values) if version != "instructor" else cell.source
    metadata = METADATA | {"rlhf": {"chapter": int(source.name[:2]), "source": f"chapters/source/{source.name}"}}
    out = nbformat.v4.new_notebook(cells=set_ids(cells), metadata=metadata)
    out.nbformat_minor = 5
    return out


def write(nb, path):
    """Sorted keys, one newline at the end, nothing that differs between machines."""
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
    nb.metadata = nbformat.from_dict({k: v for k, v in nb.metadata.items() if k != "widgets"})
    nb.metadata["language_info"] = nbformat.from_dict(METADATA["language_info"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(nb).rstrip("\n") + "\n", encoding="utf-8")


def record(root, source, nb, result):
    """Write what this build took into ledger.json and ledger.md."""
    ledger, info = read_ledger(root), Path("/proc/cpuinfo")
    cpu = re.findall(r"^model name\s*: (.+)$", info.read_text() if info.exists() else "", re.MULTILINE)
    slow = sorted(result.per_cell.items(), key=lambda item: -item[1])[:3]
    ledger[source.stem] = {
        "seconds": round(result.seconds, 1), "slowest": [[name, round(s, 1)] for name, s in slow],
        "peak_gb": round(result.peak / 1e9, 2), "cells": len(nb.cells), "bytes": len(nbformat.writes(nb)),
        "claims": len(claims(nb)), "date": time.strftime("%Y-%m-%d"), "threads": 1,
        "cpu": cpu[0] if cpu else platform.machine(),
        "versions": {name: version_of(name) for name in ("torch", "transformers", "numpy", "matplotlib")}
        | {"python": platform.python_version()}}
    folder = root / "chapters/status"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ledger.json").write_text(json.dumps(ledger, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    rows = [f"| {name} | {e['seconds']} | {e['peak_gb']} | {e['cells']} | {e['claims']} | {e['bytes'] / 1e6:.2f} | "
            f"{'; '.join(f'{cell} {s} s' for cell, s in e['slowest'])} | {e['date']}, {e['cpu']} |"
            for name, e in sorted(ledger.items())]
    head = f"| chapter | seconds | peak GB | cells | claims | MB | slowest cells | measured |\n|{'---|' * 8}\n"
    (folder / "ledger.md").write_text("# What each notebook costs\n\nWritten by `tools.build`; one thread.\n\n"
                                      + head + "\n".join(rows) + "\n", encoding="utf-8")


def build(source, root=ROOT, timeout=300):
    """Execute one chapter and write it -> error text, or "". A failed build leaves the old notebook as it was."""
    nb = generate(source, root)
    env = environment(root, OMP_NUM_THREADS=1, RLHF_SEED=0, RLHF_SCALE="village", RLHF_PROGRESS=None)
    result = execute(nb, notebook_path(source).parent, env, timeout=timeout)
    if result.error:
        return result.error
    record(root, source, nb, result)
    for cell, fresh in zip(nb.cells, generate(source, root).cells, strict=True):  # the costs are known only now
        cell.source = fresh.source
    write(nb, notebook_path(source))
    return ""


def refresh(source, root=ROOT):
    """Bring text, ids and generated parts up to date where no code changed; -> error text."""
    new, old = generate(source, root), nbformat.read(notebook_path(source), as_version=4)
    code, stored = ([c for c in nb.cells if c.cell_type == "code"] for nb in (new, old))
    if [c.source for c in code] != [c.source for c in stored]:
        return "code changed: it must be executed, build it"
    for cell, before in zip(code, stored, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    write(new, notebook_path(source))
    return ""


def differences(source, root=ROOT):
    """Where the notebook no longer says what its source says -> list of sentences."""
    path = notebook_path(source)
    if not path.exists():
        return ["is missing"]
    new, old = generate(source, root), nbformat.read(path, as_version=4)
    wrong = [] if new.metadata == old.metadata else ["notebook metadata differ"]
    if len(new.cells) != len(old.cells):
        wrong.append(f"has {len(old.cells)} cells, its source makes {len(new.cells)}")
    for number, (a, b) in enumerate(zip(new.cells, old.cells, strict=False), 1):
        for key in ("cell_type", "source", "id", "metadata"):
            if a.get(key) != b.get(key):
                wrong.append(f"cell {number} ({b.get('id')}): {key} differs")
    return wrong[:5]


def check(root=ROOT):
    """Compare every notebook with its source -> number of notebooks that must be built again."""
    expected, bad = {notebook_path(s): s for s in sources(root)}, 0
    for path in sorted(set((root / "chapters").glob("*.ipynb")) | set(expected)):
        wrong = differences(expected[path], root) if path in expected else ["has no source"]
        bad += bool(wrong)
        for line in wrong:
            print(f"{path.name} {line}; run: python -m tools.build {path.name[:2]}")
    print(f"{len(expected)} sources, {bad} notebooks out of date")
    return bad or (0 if expected else 1)


def pull(source, root=ROOT):
    """Write the inputs of an edited notebook back to its source; solutions stay as the source has them."""
    text = source.read_text(encoding="utf-8")
    old = jupytext.reads(text, fmt="py:percent")
    made = {cell.id: cell for cell in generate(source, root).cells}
    kept = {c.id: s for c, s in zip((c for c in made.values() if not c.metadata.get("rlhf", {}).get("generated")),
                                    old.cells, strict=True)}
    cells = []
    for cell in nbformat.read(notebook_path(source), as_version=4).cells:
        if cell.metadata.get("rlhf", {}).get("generated"):
            continue
        before = kept.get(cell.id)
        if before is not None and cell.source == made[cell.id].source:
            cell = before
        elif before is not None and "### BEGIN" in before.source:
            return f"cell {cell.id} holds a solution: edit it in the source"
        else:
            cell.source = MARKER.sub(lambda match: f"<!-- {match[1]} -->", cell.source)
        cells.append(cell)
    old.cells = [nbformat.from_dict({k: v for k, v in c.items() if k not in ("id",)}) for c in cells]
    source.write_text(jupytext.writes(old, fmt="py:percent"), encoding="utf-8")
    return ""


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="refresh, pull, student or instructor, and chapter numbers")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--root", type=Path, default=ROOT)
    args = parser.parse_args(words)
    if args.check:
        return int(bool(check(args.root)))
    verbs = {"build": build, "refresh": refresh, "pull": pull}
    for name in ("student", "instructor"):  # not executed
        verbs[name] = lambda s, root, name=name: write(generate(s, root, name), root / f"build/{name}/{s.stem}.ipynb")
    verb = args.what.pop(0) if args.what and args.what[0] in verbs else "build"
    if verb == "build" and not (args.all or args.what):
        parser.error("which chapter? give numbers, or --all")
    failed = 0
    for source in sources(args.root, () if args.all else args.what):
        began, error = time.perf_counter(), verbs[verb](source, args.root)
        failed += bool(error)
        print(f"{verb} {source.stem}: {error or f'done in {time.perf_counter() - began:.0f} s'}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
