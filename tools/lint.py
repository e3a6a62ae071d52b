"""Rules for notebooks that execution cannot see: `python -m tools.lint chapters chapters/deeper`.

One function and one id for each rule; a finding says notebook, cell, rule and what to do. Rules 1 to 22 are numbered as
in the list of rules that the chapters follow; the missing numbers are left to readers of the rendered page. Rules 30 to 43
(lint_lesson.py) are the limits and the order of a lesson. `--counts` prints the figures behind them.

A notebook has one of three forms: "lesson", "deeper", or "old" while it stands in OLD_FORM.
"""

import ast
import base64
import csv
import io
import re
import sys
from pathlib import Path
from urllib.parse import urlparse

import nbformat
from PIL import Image

from . import lint_lesson  # noqa: F401  rules 30 to 43 register themselves
from .build import set_ids
from .chapters import kind, name
from .counts import count
from .execute import ROOT, claims
from .rules import RULES, Book, rule

# Deeper notebooks that are still in the form of the one notebook a chapter had; a chapter that was split leaves the list.
OLD_FORM = ("03_definitions", "08_regularization", "09_instruction_tuning", "10_rejection_sampling", "17_over_optimization")
UNCOMPARED = {"lesson": 0.30, "deeper": 0.15, "old": 0.15}
TAGS = {"nbval-ignore-output", "exercise", "hide-input", "hero"}
REASONS = {"trained", "sampled", "timing", "widget", "hardware"}
HOSTS = ("rlhfbook.com", "arxiv.org", "doi.org", "openreview.net", "aclanthology.org", "github.com", "huggingface.co")
BLOCKS = ("question", "one batch", "the loop", "failure", "at gpt-2 size", "exercises", "questionnaire", "differ",
          "summary")
DRAWS = {"rand", "randn", "randint", "randperm", "multinomial", "bernoulli", "normal"}
FENCE = re.compile(r"```.*?```", re.DOTALL)
NOT_PROSE = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|<details>.*?</details>|\]\([^)]*\)|https?://\S+|^#+ [^\n]*$|"
    r"^[^\n]*<!-- fact -->[^\n]*$|<!-- (costs|edition|nav) -->.*?<!-- /\1 -->|"
    r"<!-- out [\w.-]+ -->.*?<!-- /out -->|<!--.*?-->|\d{4}\.\d{4,5}|"
    r"(?i:exercises?|sections?|needs:|chapters?|§) ?[\d., and]+", re.DOTALL | re.MULTILINE)


def form(path):
    """"lesson", "deeper", or "old" for a deeper notebook that was not split yet."""
    return "lesson" if kind(path) == "lesson" else "old" if path.stem in OLD_FORM else "deeper"


def ignored(cell):
    """Is this cell's output left out of the comparison?"""
    return "nbval-ignore-output" in cell.metadata.get("tags", [])


def called(node):
    """The dotted name that a call calls; empty for other nodes."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


@rule(1)
def ran_in_order(book):
    for n, (i, cell) in enumerate(book.cells("code"), 1):
        if cell.execution_count != n:
            yield i, f"execution count is {cell.execution_count}, expected {n}: outputs come from one build, build it"
        if any(o.output_type == "error" or o.get("name") == "stderr" for o in cell.outputs):
            yield i, "an error or stderr is stored: use shows_error, or turn the known warning off in quiet.settle"


@rule(2)
def tags(book):
    code = book.cells("code")
    for i, cell in enumerate(book.nb.cells):
        if unknown := set(cell.metadata.get("tags", [])) - TAGS:
            yield i, f"unknown tags {sorted(unknown)}: allowed are {sorted(TAGS)}"
        if not ignored(cell):
            continue
        if cell.metadata.get("rlhf", {}).get("ignore_reason") not in REASONS:
            yield i, f"ignored without a reason: add rlhf={{\"ignore_reason\": …}}, one of {sorted(REASONS)}"
        after = [c for j, c in code if j > i][:3]
        if not any("claim(" in c.source and not ignored(c) for c in after):
            yield i, "trained numbers without a compared claim within 3 code cells: claim what they show"
    share = UNCOMPARED[book.form]
    if (n := sum(ignored(c) for _, c in code)) > max(1, share * len(code)):
        yield None, f"{n} of {len(code)} code cells are not compared: at most {100 * share:.0f} %"


@rule(3)
def nothing_hidden(book):
    for i, cell in enumerate(book.nb.cells):
        if re.search(r"(?i)nbval[_-]skip|raises[_-]exception|PYTEST_VALIDATE|^\s*#\s*NBVAL_",
                     cell.source + "\n".join(cell.metadata.get("tags", [])), re.MULTILINE):
            yield i, "a marker that hides results: remove it; for an expected error use shows_error"
        if cell.cell_type == "code" and "measured:" in cell.source:
            yield i, "only claim, show and begin print measured lines: pass a detail to claim"


@rule(4)
def claims_in_the_open(book):
    for i, tree in book.trees():
        allowed, calls = set(), 0
        stack = [(node, True) for node in tree.body]
        while stack:
            node, is_open = stack.pop()
            if isinstance(node, ast.Expr) and called(node.value) in ("claim", "check") and is_open:
                allowed.add(id(node.value.func))
                calls += called(node.value) == "claim"
            elif isinstance(node, ast.For) and is_open:
                stack += [(child, True) for child in node.body]
            elif isinstance(node, ast.If) and is_open and called(node.test) == "available":
                stack += [(child, True) for child in node.body]
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id in ("claim", "check") and id(node) not in allowed:
                yield i, f"{node.id} under try, def, with, if or another name: call it at top level or in a for loop"
            if isinstance(node, ast.alias) and node.name in ("claim", "check") and node.asname:
                yield i, f"{node.name} imported under another name: keep its name"
        stored = len(claims(nbformat.v4.new_notebook(cells=[book.nb.cells[i]])))
        if stored < calls:
            yield i, f"{calls} claims, {stored} stored claim lines: a claim did not run"


@rule(5)
def pictures(book):
    for i, cell in book.cells("code"):
        titles = set(re.findall(r"""title=["'](.*?)["']""", cell.source))
        for out in cell.outputs:
            data = out.get("data", {})
            if "image/jpeg" in data or "image/svg+xml" in data and book.form == "old":
                yield i, "an SVG or JPEG: show(fig, alt) makes a PNG"
            shown = next((k for k in ("image/png", "image/svg+xml") if k in data), None)
            if shown is None:
                continue
            alt, twin = data.get("text/plain", ""), out.metadata.get(shown, {}).get("alt")
            if alt != twin or not 40 <= len(alt) <= 300 or book.form == "old" and "show(" not in cell.source:
                yield i, "a picture whose two alt texts are missing, differ, or are not of 40–300 characters: use show"
            if alt in titles or re.search(r"\d[.,]\d", alt):
                yield i, "alt text repeats the title or holds a measured number: say kind of plot, axes, message"
            if shown == "image/svg+xml":
                continue
            try:
                picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
                picture.load()
                small = picture.width < 400
            except (OSError, SyntaxError, ValueError):
                small = True
            if small:
                yield i, "picture does not decode, or is less than 400 pixels wide: build again"


@rule(6)
def markdown_images(book):
    for i, cell in book.cells("markdown"):
        for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]*)", cell.source):
            if len(alt) < 10 or urlparse(target).scheme:
                yield i, f"image {target}: needs alt text in words, and a local file"
        if re.search(r"<img\b", cell.source):
            yield i, "an <img>: write ![alt text](file)"


@rule(7)
def no_widget_state(book):
    if "widgets" in book.nb.metadata:
        yield None, "metadata.widgets is stored, web viewers may refuse it: build again"


@rule(8)
def clean_metadata(book):
    if extra := set(book.nb.metadata) - {"kernelspec", "language_info", "rlhf"}:
        yield None, f"notebook metadata {sorted(extra)}: build again"
    if book.nb.metadata.get("kernelspec", {}).get("name") != "python3":
        yield None, "kernel is not python3: build again"
    for i, cell in enumerate(book.nb.cells):
        if extra := set(cell.metadata) - {"tags", "rlhf", "nbgrader", "jupyter"}:
            yield i, f"cell metadata {sorted(extra)}: build again"
        if re.search(r"(/home|/Users|/root|/tmp|\\Users)[/\\]\w", str(cell.get("outputs", "")) + cell.source):
            yield i, "a path of one machine: print something else"


@rule(9)
def stable_ids(book):
    fresh = [c.id for c in set_ids([nbformat.from_dict(dict(c)) for c in book.nb.cells])]
    for i, cell in enumerate(book.nb.cells):
        if cell.get("id") != fresh[i]:
            yield i, f"id {cell.get('id')}, expected {fresh[i]}: build again"


@rule(10)
def outline(book):
    found, level = [], 0
    for i, cell in book.cells("markdown"):
        titles = re.findall(r"^(#+) +(.+)$", FENCE.sub("", cell.source), re.MULTILINE)
        found += [(i, len(marks), text) for marks, text in titles]
    if [n for _, n, _ in found].count(1) != 1 or not book.nb.cells[0].source.startswith("# "):
        yield None, "needs exactly one # heading, in the first cell"
    for i, n, text in found:
        if n > level + 1:
            yield i, f"heading “{text}” skips a level"
        level = n


@rule(23, "old")
def blocks(book):
    texts = [(i, FENCE.sub("", cell.source)) for i, cell in book.cells("markdown")]
    sections = [(i, title.lower()) for i, text in texts for title in re.findall(r"^## +(.+)$", text, re.MULTILINE)]
    at = -1
    for block in BLOCKS:
        places = [k for k, (_, text) in enumerate(sections) if block in text]
        if not places or max(places) < at:
            yield None, f"no ## section “… {block} …” in its place; the order is {', '.join(BLOCKS)}"
        else:
            at = min(k for k in places if k >= at)


@rule(11)
def sizes(book):
    if (size := len(nbformat.writes(book.nb).encode())) > 1.5e6:
        yield None, f"{size / 1e6:.1f} MB: at most 1.5, make fewer or smaller pictures"


@rule(24, "old")
def old_sizes(book):
    if not 60 <= len(book.nb.cells) <= 110:
        yield None, f"{len(book.nb.cells)} cells: 60 to 110"
    loops = {i for i, tree in book.trees() if any(isinstance(x, ast.For) for x in ast.walk(tree))}
    for i, cell in book.cells("code"):
        lines = cell.source.splitlines()
        if len(lines) > (40 if i in loops else 25):
            yield i, f"{len(lines)} lines: at most 25, a cell with a loop 40; move code to the package"
        if max(map(len, lines), default=0) > 100:
            yield i, "a line of more than 100 characters"


@rule(12)
def plain_python(book):
    for i, cell in book.cells("code"):
        try:
            ast.parse(cell.source)
        except SyntaxError:
            yield i, "not plain Python: no magics, no shell"
        if found := re.search(r"\bpip install\b|sys\.path|get_ipython|os\.system|[\"'](/|[A-Z]:\\)\w+/", cell.source):
            yield i, f"{found[0]!r}: no installing, no path tricks, no absolute paths"
    for i, cell in enumerate(book.nb.cells):
        for url in re.findall(r"https?://[^\s)>\"'\]]+", cell.source):
            if not (urlparse(url).hostname or "").endswith(HOSTS):
                yield i, f"{url}: link to the book, papers and code ({', '.join(HOSTS)}) only"


@rule(13)
def seeds(book):
    for i, tree in book.trees():
        for node in ast.walk(tree):
            name = called(node)
            last, given = name.split(".")[-1], {k.arg for k in getattr(node, "keywords", [])}
            seeded = last in ("manual_seed", "seed", "default_rng", "Random", "RandomState")
            if seeded and (not node.args or isinstance(node.args[0], ast.Constant)) or name == "torch.manual_seed":
                yield i, f"{name}: all randomness comes from run.generator, run.seed, run.seeds(n), run.fresh(name)"
            draws = name.startswith("torch.") and last in DRAWS or name in ("sample", "sampling.sample", "rlhf.sampling.sample")
            if draws and "generator" not in given:
                yield i, f"{name} without generator=: pass run.generator or run.fresh(name)"


@rule(14)
def no_live_output(book):
    for i, cell in book.cells("code"):
        if found := re.search(r"\btqdm\b|clear_output|Styler|\.style\b|display\(HTML|%%|\bthreading\b", cell.source):
            yield i, f"{found[0]!r}: random ids or text that differs; use every, show, print"
        for out in cell.outputs:
            markup = "".join(out.get("data", {}).get("text/html", ""))
            if re.search(r"<(?:script|link|iframe|img)[^>]+(?:src|href)=.?(?:https?:)?//|@import|url\(.?https?:", markup):
                yield i, "a stored HTML output that asks another host: pages open without a network"


@rule(15)
def numbers_in_prose(book):
    texts = "\n".join(c.source for _, c in book.cells("markdown"))
    sections = set(re.findall(r"^#+ +(?:Exercise +)?(\d+\.\d+)\b", texts, re.MULTILINE))  # 3.2 as a place
    for i, cell in book.cells("markdown"):
        prose = NOT_PROSE.sub(" ", cell.source)
        near = str([c.get("outputs") for c in book.nb.cells[max(i - 4, 0):i + 5] if c.cell_type == "code"])
        for number in re.findall(r"(?<![\w.])\d+\.\d+(?!\.?\w)", prose):
            if number not in near and number not in sections:
                yield i, f"{number} typed in prose: let an output say it, or mark the line <!-- fact -->, with source"


@rule(16)
def equations(book):
    path, seen = book.root / "docs/equations.csv", set()
    known = {row["label"] for row in csv.DictReader(path.open(encoding="utf-8"))} if path.exists() else None
    for i, cell in book.cells("markdown"):
        labels = set(re.findall(r"\beq:\w+", cell.source))
        if known is not None and labels - known:
            yield i, f"labels {sorted(labels - known)} are not in docs/equations.csv"
        if book.form != "lesson" and "$$" in cell.source and labels - seen:
            near = [c.source.lower() for c in book.nb.cells[i:i + 4] if c.cell_type == "markdown"]
            if not any(re.search(r"^\| *symbol", text, re.MULTILINE) for text in near):
                yield i, f"{sorted(labels - seen)}: no symbol table (| symbol | …) within 3 cells"
            seen |= labels


@rule(19)
def local_links(book):
    for i, cell in book.cells("markdown"):
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", re.sub(r"`[^`]*`", "", FENCE.sub("", cell.source))):
            if not urlparse(target).scheme and not (book.path.parent / target).exists():
                yield i, f"link to {target}: no such file"


@rule(22)
def default_run(book):
    first = next((c for _, c in book.cells("code") if "begin(" in c.source), None)
    text = "".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in first.outputs) if first else ""
    number = book.path.name[:2]
    if not text.startswith(f"chapter {number} · scale village · seed 0"):
        yield None, f"the cell with begin must show “chapter {number} · scale village · seed 0”: build again"



def lint(path, root=ROOT, skip=()):
    """All findings in one notebook -> [(cell number from 1 or None, cell id, rule, what to do)]."""
    path = Path(path)
    book = Book(path, nbformat.read(path, as_version=4), root, form(path))
    return [(None if i is None else i + 1, "" if i is None else book.nb.cells[i].get("id", ""), number, what)
            for number, (fn, forms) in RULES.items() if number not in skip and book.form in forms for i, what in fn(book)]


def main(words=None):
    words = list(sys.argv[1:] if words is None else words)
    counting = "--counts" in words
    found, asked = 0, [Path(word) for word in words if word != "--counts"]
    paths = [p for path in asked for p in (sorted(path.glob("*.ipynb")) if path.is_dir() else [path])]
    if not paths or not all(path.exists() for path in asked + paths):
        raise SystemExit(f"nothing checked; not there: {' '.join(str(p) for p in asked + paths if not p.exists()) or 'any'}")
    for path in paths:
        if counting:
            print(f"{name(path)}: {count(nbformat.read(path, as_version=4))}")
            continue
        for cell, cell_id, number, what in lint(path):
            found += 1
            print(f"{path} {f'cell {cell} ({cell_id})' if cell else '(whole notebook)'} rule {number}: {what}")
    if not counting:
        print(f"{len(paths)} notebooks, {found} findings")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
