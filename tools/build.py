r"""Build the notebooks of chapters/ from their sources, chapters/source/NN_slug.py (jupytext percent files).

The sources of deeper notebooks are chapters/source/deeper/NN_slug.py.

    python -m tools.build 04 12          execute the lessons, write chapters/NN_slug.ipynb, bring the ledger up to date
    python -m tools.build 04 --deeper    and chapters/deeper/NN_slug.ipynb; `deeper/04` means the deeper notebook alone
    python -m tools.build --all          every notebook
    python -m tools.build refresh 04     new text around unchanged code: keeps the stored outputs (no numbers: all)
    python -m tools.build time 04        seconds with two threads, for the ledger; outputs stay as they are
    python -m tools.build --check        does every notebook say what its source says (outputs aside)?
    python -m tools.build pull 04        somebody edited the notebook: write its inputs back to the source
    python -m tools.build student 04     build/student/: no solutions; `instructor`: solutions and hidden tests in place

What an author writes, and what the build makes of it
  In Markdown cells (put the marker alone on its line, or inside a sentence):
    <!-- edition -->        the commit of the book that is followed
    <!-- costs -->          seconds and memory, from chapters/status/ledger.json
    <!-- nav -->            links to the previous and the next chapter, and between lesson and deeper notebook
    <!-- out NAME -->       what a cell produced by book.quote("NAME", text); filled from the stored output
    <!-- solution 4.2 -->   where the folded solution of exercise 4.2 goes; without it, right after check("4.2", …)
  In an exercise (a code cell with tags=["exercise"]; the check cell follows it):
    ### BEGIN SOLUTION … ### END SOLUTION           readers see `raise NotImplementedError`; at top level, where the
                                                    block may only assign names, they see `name = None  # your answer`
    ### BEGIN HIDDEN TESTS … ### END HIDDEN TESTS   instructor version only
  A folded cell: # %% tags=["hide-input"] (Jupyter and the exported page hide its code)
  The hero: # %% tags=["hero"]; its stored picture becomes chapters/figures/NN_hero.png, shown by the first screen as
    ![what is seen](figures/NN_hero.png). In the same way rlhf={"figure": "tree"} makes chapters/figures/NN_tree.png.
  The part that begins with a cell: rlhf={"part": "predict"}; lint knows the ten names and their order.
  Texts that `make run` repeats at its end: rlhf={"show": true}
  A cell with trained numbers:  # %% tags=["nbval-ignore-output"] rlhf={"ignore_reason": "trained"}
  Cell ids are made here: slug of the heading above, then a number. Any id in a source is ignored.
"""

import argparse
import ast
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat

from rlhf_minimal.commands.doctor import EDITION

from .chapters import name, nav_line, notebook_path, number, sources
from .execute import ROOT, environment, execute
from .ledger import costs_line, read_ledger, record, record_two_threads
from .quotes import OUT, attach_figures, figures, fill_quotes, quotes

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python",
                      "pygments_lexer": "ipython3"},
}
CELL_METADATA = ("tags", "rlhf", "nbgrader")
FOLDED = {"source_hidden": True}
MARKER = re.compile(r"<!-- (edition|costs|nav|solution [\d.]+) -->(?:.*?<!-- /\1 -->)?", re.DOTALL)
SOLUTION = re.compile(r"^([ \t]*)### BEGIN SOLUTION\n(.*?)^[ \t]*### END SOLUTION$", re.MULTILINE | re.DOTALL)
HIDDEN = re.compile(r"\n*^[ \t]*### BEGIN HIDDEN TESTS\n.*?^[ \t]*### END HIDDEN TESTS$", re.MULTILINE | re.DOTALL)
CHECK = re.compile(r"""^check\(["'](\d+\.\d+)["']""", re.MULTILINE)
FOLD = "<details><summary>Solution of exercise {}</summary>\n\n```python\n{}\n```\n\n</details>"


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


def generate(source, root=ROOT, version="reader", stored=None):
    """A source -> the notebook's inputs, with everything generated in place and no outputs.

    stored: the executed notebook that quotes are taken from; without it their markers stay empty.
    """
    nb = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    cells, values = split_solutions(nb.cells, version)
    values |= {"edition": f"Edition of the book followed here: commit <code>{EDITION.replace(' ', '</code> ', 1)}.",
               "costs": costs_line(read_ledger(root).get(name(source))), "nav": nav_line(source, root)}
    for cell in cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in CELL_METADATA})
        if cell.cell_type == "code" and "hide-input" in cell.metadata.get("tags", []):
            cell.metadata["jupyter"] = nbformat.from_dict(FOLDED)
        if cell.cell_type == "markdown":
            cell.source = fill_markers(cell.source, values) if version != "instructor" else cell.source
    metadata = METADATA | {"rlhf": {"chapter": number(source), "source": f"chapters/source/{name(source)}.py"}}
    out = nbformat.v4.new_notebook(cells=set_ids(cells), metadata=metadata)
    out.nbformat_minor = 5
    fill_quotes(out, quotes(stored) if stored else {}, missing="refuse" if stored else "keep")
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


def write_figures(root, source, nb):
    """The hero and other named pictures -> chapters/figures/, as the stored outputs have them."""
    for file, picture in figures(nb, source).items():
        path = root / "chapters/figures" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != picture:
            path.write_bytes(picture)


def run_source(source, root, timeout, *, threads=1):
    """Execute a source's cells in the notebook's folder -> (notebook, result)."""
    nb = generate(source, root)
    env = environment(root, OMP_NUM_THREADS=threads, RLHF_SEED=0, RLHF_SCALE="village", RLHF_PROGRESS=None)
    folder = notebook_path(source).parent
    folder.mkdir(parents=True, exist_ok=True)
    return nb, execute(nb, folder, env, timeout=timeout)


def build(source, root=ROOT, timeout=300):
    """Execute one chapter and write it -> error text, or "". A failed build leaves the old notebook as it was."""
    nb, result = run_source(source, root, timeout)
    if result.error:
        return result.error
    record(root, source, nb, result)
    for cell, fresh in zip(nb.cells, generate(source, root, stored=nb).cells, strict=True):  # costs and quotes are known now
        cell.source = fresh.source
    write(nb, notebook_path(source))
    write_figures(root, source, nb)
    return ""


def measure(source, root=ROOT, timeout=300):
    """Execute with two threads for the ledger, and throw the outputs away -> error text."""
    nb, result = run_source(source, root, timeout, threads=2)
    return result.error or record_two_threads(root, source, nb, result.seconds) or refresh(source, root)


def refresh(source, root=ROOT):
    """Bring text, ids and generated parts up to date where no code changed; -> error text."""
    old = nbformat.read(notebook_path(source), as_version=4)
    new = generate(source, root, stored=old)
    code, stored = ([c for c in nb.cells if c.cell_type == "code"] for nb in (new, old))
    if [c.source for c in code] != [c.source for c in stored]:
        return "code changed: it must be executed, build it"
    for cell, before in zip(code, stored, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    write(new, notebook_path(source))
    write_figures(root, source, new)
    return ""


def differences(source, root=ROOT):
    """Where the notebook no longer says what its source says -> list of sentences."""
    path = notebook_path(source)
    if not path.exists():
        return ["is missing"]
    old = nbformat.read(path, as_version=4)
    try:
        new = generate(source, root, stored=old)
    except SystemExit as error:
        return [str(error)]
    wrong = [] if new.metadata == old.metadata else ["notebook metadata differ"]
    if len(new.cells) != len(old.cells):
        wrong.append(f"has {len(old.cells)} cells, its source makes {len(new.cells)}")
    for at, (a, b) in enumerate(zip(new.cells, old.cells, strict=False), 1):
        for key in ("cell_type", "source", "id", "metadata"):
            if a.get(key) != b.get(key):
                wrong.append(f"cell {at} ({b.get('id')}): {key} differs")
    for file, picture in figures(old, source).items():
        stored = root / "chapters/figures" / file
        if not stored.exists() or stored.read_bytes() != picture:
            wrong.append(f"chapters/figures/{file} is not the stored output")
    return wrong[:5]


def check(root=ROOT):
    """Compare every notebook with its source -> number of notebooks that must be built again."""
    expected, bad = {notebook_path(s): s for s in sources(root)}, 0
    there = [p for folder in ("chapters", "chapters/deeper") for p in (root / folder).glob("*.ipynb")]
    for path in sorted({*there, *expected}):
        wrong = differences(expected[path], root) if path in expected else ["has no source"]
        bad += bool(wrong)
        for line in wrong:
            print(f"{name(path)} {line}; run: python -m tools.build {name(path).split('_')[0]}")
    made = {file for path, source in expected.items() if path.exists()
            for file in figures(nbformat.read(path, as_version=4), source)}
    for path in sorted((root / "chapters/figures").glob("[0-9][0-9]_*.png")):
        if path.name not in made:
            bad += 1
            print(f"chapters/figures/{path.name} is made by no cell; remove it, or tag the cell that makes it")
    print(f"{len(expected)} sources, {bad} notebooks out of date")
    return bad or (0 if expected else 1)


def pull(source, root=ROOT):
    """Write the inputs of an edited notebook back to its source; solutions stay as the source has them."""
    text = source.read_text(encoding="utf-8")
    old = jupytext.reads(text, fmt="py:percent")
    edited = nbformat.read(notebook_path(source), as_version=4)
    made = {cell.id: cell for cell in generate(source, root, stored=edited).cells}
    kept = {c.id: s for c, s in zip((c for c in made.values() if not c.metadata.get("rlhf", {}).get("generated")),
                                    old.cells, strict=True)}
    cells = []
    for cell in edited.cells:
        cell.metadata.pop("jupyter", None)
        if cell.metadata.get("rlhf", {}).get("generated"):
            continue
        before = kept.get(cell.id)
        if before is not None and cell.source == made[cell.id].source:
            cell = before
        elif before is not None and "### BEGIN" in before.source:
            return f"cell {cell.id} holds a solution: edit it in the source"
        else:
            cell.source = MARKER.sub(lambda match: f"<!-- {match[1]} -->", cell.source)
            cell.source = OUT.sub(lambda match: f"<!-- out {match[1]} -->", cell.source)
        cells.append(cell)
    old.cells = [nbformat.from_dict({k: v for k, v in c.items() if k not in ("id",)}) for c in cells]
    source.write_text(jupytext.writes(old, fmt="py:percent"), encoding="utf-8")
    return ""


def edition(version):
    """A verb that writes build/student/ or build/instructor/: not executed, pictures inside."""
    def write_edition(source, root):
        path = notebook_path(source)
        stored = nbformat.read(path, as_version=4) if path.exists() else None
        nb = generate(source, root, version, stored)
        attach_figures(nb, path.parent)
        write(nb, root / f"build/{version}/{name(source)}.ipynb")
        return ""
    return write_edition


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="refresh, time, pull, student or instructor; chapters: 04 or deeper/04")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--deeper", action="store_true", help="the deeper notebooks of these chapters too")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--root", type=Path, default=ROOT)
    args = parser.parse_args(words)
    if args.check:
        return int(bool(check(args.root)))
    verbs = {"build": build, "refresh": refresh, "pull": pull, "time": measure, "student": edition("student"),
             "instructor": edition("instructor")}
    verb = args.what.pop(0) if args.what and args.what[0] in verbs else "build"
    if verb == "build" and not (args.all or args.what):
        parser.error("which chapter? give numbers, or --all")
    failed = 0
    for source in sources(args.root, () if args.all else args.what, deeper=args.deeper):
        began, error = time.perf_counter(), verbs[verb](source, args.root)
        failed += bool(error)
        print(f"{verb} {name(source)}: {error or f'done in {time.perf_counter() - began:.0f} s'}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
