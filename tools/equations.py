"""Where each equation of the book is computed, proved and shown: docs/equations.csv and docs/equations.md.

docs/source/equations.csv, written by hand, has every label of the edition followed, with its page, its line, the chapter
here that treats it, a function or a test that does not carry the label itself, and a remark. The rest is read from the
repository: functions with `@implements("eq:…")`, tests with `@pytest.mark.equation("eq:…")`, notebook cells that name the label.
"""

import ast
import csv
import functools
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EDITION = "a66b0bf1103b590511e0503a2e9d93faea939a49"  # natolambert/rlhf-book, 21 August 2026
APART = re.compile(r"exercise|questionnaire|summary|differ|retell|settles|source", re.IGNORECASE)  # sections that only mention
COLUMNS = ("label", "page", "line", "chapter", "function", "test", "cell", "status", "reason")


def hand_written(name, root=ROOT):
    """Rows of a file in docs/source as dicts."""
    with (root / "docs/source" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="|"))


def table(columns, rows):
    """A Markdown table; a bar inside a cell is escaped."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(str(x).replace("|", "\\|") for x in row) + " |" for row in rows]


def arguments(call):
    """The values of a call's positional arguments, starred ones written out."""
    code = compile(ast.Expression(ast.fix_missing_locations(ast.Tuple(call.args, ast.Load()))), "labels", "eval")
    return list(eval(code, {}))  # constants, or a generator of them, from this repository's own files


parsed = functools.lru_cache(512)(ast.parse)  # by text, so that an edited file is parsed again


@functools.lru_cache(64)
def notebook_cells(path, changed):
    """The cells of a notebook, without their outputs; `changed`, the time, makes an edited file be read again."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [{"cell_type": c["cell_type"], "id": c.get("id", ""), "text": "".join(c["source"])} for c in cells]


def definitions(path):
    """(qualified name, node) of all functions and methods of a file."""
    tree = parsed(path.read_text(encoding="utf-8"))
    for node in tree.body:
        yield node.name if isinstance(node, ast.FunctionDef | ast.ClassDef) else "", node
        if isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{inner.name}", inner) for inner in node.body if isinstance(inner, ast.FunctionDef))


def marked(node, name):
    """Arguments of the decorators of `node` that end in `name`."""
    calls = [d for d in getattr(node, "decorator_list", []) if isinstance(d, ast.Call)]
    return [x for d in calls if ast.unparse(d.func).split(".")[-1] == name for x in arguments(d)]


def functions(root=ROOT):
    """{label: ["ppo.policy_loss", …]} from `@implements`."""
    found = {}
    for path in sorted((root / "rlhf_minimal").rglob("*.py")):
        module = ".".join(path.relative_to(root / "rlhf_minimal").with_suffix("").parts)
        for name, node in definitions(path):
            for label in marked(node, "implements"):
                found.setdefault(label, []).append(f"{module}.{name}")
    return found


def all_functions(root=ROOT):
    """Names of all functions, classes and methods of the package, as "ppo.policy_loss"."""
    package = root / "rlhf_minimal"
    modules = {path: ".".join(path.relative_to(package).with_suffix("").parts) for path in package.rglob("*.py")}
    return {f"{module}.{name}" for path, module in modules.items() for name, _ in definitions(path) if name}


def tests(root=ROOT):
    """Names of all test functions -> their file; and {label or code: [names]} from the marks and from names as test_E6_…."""
    where, found = {}, {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        for name, node in definitions(path):
            if not (isinstance(node, ast.FunctionDef) and name.startswith("test_")):
                continue
            where.setdefault(name, str(path.relative_to(root)))
            codes = re.match(r"test_((?:(?:and_)?[A-K]\d{1,2}_)*)", name)[1].replace("and_", "").split("_")
            for label in dict.fromkeys([*marked(node, "equation"), *filter(None, codes)]):
                found.setdefault(label, []).append(name)
    return where, found


def notebooks(root=ROOT):
    """The lessons and the deeper notebooks that exist."""
    return sorted((root / "chapters").glob("*.ipynb")) + sorted((root / "chapters/deeper").glob("*.ipynb"))


def sections(path):
    """[(heading, [cells])] of a notebook: a section begins at a heading of level 1 or 2."""
    out = [("", [])]
    for cell in notebook_cells(path.resolve(), path.stat().st_mtime_ns):
        heading = re.search(r"^##? +(.+)", cell["text"], re.MULTILINE) if cell["cell_type"] == "markdown" else None
        if heading:
            out.append((heading[1].strip(), []))
        out[-1][1].append(cell)
    return out


def cells(root=ROOT):
    """{label: "chapters/11_policy_gradients.ipynb#cell-id"}: the first cell that names it in a section that also computes."""
    found = {}
    for path in notebooks(root):
        for heading, inside in sections(path):
            if APART.search(heading) or not any(c["cell_type"] == "code" for c in inside):
                continue
            for cell in inside:
                for label in re.findall(r"eq:\w+", cell["text"]):
                    found.setdefault(label, f"{path.relative_to(root)}#{cell['id']}")
    return found


def rows(root=ROOT):
    """All labels -> rows of docs/equations.csv. ValueError where a test that is named does not exist, or a label is unknown."""
    computed, (where, proved), shown, out = functions(root), tests(root), cells(root), []
    given, names = hand_written("equations", root), all_functions(root)
    known = {row["label"] for row in given}
    used = {label for label in [*computed, *proved, *shown] if label.startswith("eq:")}
    lost = [row["test"] for row in given if row["test"] and row["test"] not in where]
    lost += [row["function"] for row in given if row["function"] and row["function"] not in names]
    wrong = {label for label in used - known if not label.endswith("_")} - {"eq:a", "eq:b"}
    if lost or wrong:
        raise ValueError(f"docs/source/equations.csv names what is not there: {lost}; not of the book: {sorted(wrong)}")
    for row in given:
        label, own = row["label"], [row["test"]] if row["test"] else []
        proofs = list(dict.fromkeys(proved.get(label, []) + own))
        function = list(dict.fromkeys(computed.get(label, []) + ([row["function"]] if row["function"] else [])))
        cell = shown.get(label, "")
        status = "implemented" if function else "shown" if proofs or cell else "left out"
        reason = row["reason"] or (f"not computed yet; chapter {row['chapter']}" if status == "left out" else "")
        out.append(dict(zip(COLUMNS, (label, row["page"], row["line"], row["chapter"], " ".join(function), " ".join(proofs), cell,
                                      status, reason), strict=True)))
    return out


def counts(found):
    return {status: sum(row["status"] == status for row in found) for status in ("implemented", "shown", "left out")}


def as_csv(columns, found):
    lines = [",".join(columns)]
    for row in found:
        values = [str(row[c]) for c in columns]
        lines.append(",".join(f'"{v.replace(chr(34), chr(34) * 2)}"' if re.search(r'[",]', v) else v for v in values))
    return "\n".join(lines) + "\n"


def page(found, where):
    """docs/equations.md."""
    n = counts(found)
    head = [
        "# The equations of the book, and where they are", "",
        "Written by `python -m tools.pages` from `docs/source/equations.csv`, the package, the tests and the notebooks; "
        "do not edit.", "",
        f"Of the {len(found)} labelled equations of the [book](https://rlhfbook.com) at commit "
        f"[{EDITION[:7]}](https://github.com/natolambert/rlhf-book/tree/{EDITION}), {n['implemented']} are implemented by a "
        f"function of the package, {n['shown']} more are computed in a test or in a section of a notebook, and "
        f"{n['left out']} are left out.", "",
    ]
    body = []
    for row in found:
        place = f"https://github.com/natolambert/rlhf-book/blob/{EDITION}/book/chapters/{row['page']}.md?plain=1#L{row['line']}"
        proof = "<br>".join(f"[{name}](../{where[name]})" for name in row["test"].split())
        notebook, _, cell = row["cell"].partition("#")
        code = "<br>".join(f"`{name}`" for name in row["function"].split())
        shown = f"[{Path(notebook).stem}](../{notebook}), `{cell}`" if cell else ""
        body.append((f"`{row['label']}`", f"[{row['page']}]({place})", row["chapter"], code, proof, shown, row["status"],
                     row["reason"]))
    names = ("label", "page of the book", "chapter here", "function", "test", "notebook cell", "status", "remark")
    return "\n".join(head + table(names, body)) + "\n"


def files(root=ROOT):
    """{path: text} of what is generated."""
    found = rows(root)
    return {"docs/equations.csv": as_csv(COLUMNS, found), "docs/equations.md": page(found, tests(root)[0])}


if __name__ == "__main__":
    from tools.pages import main

    main()
