"""The limits and the order of a lesson, and the limits of a deeper notebook, as rules of the lint (30 to 43)."""

from __future__ import annotations

import ast
import re

from .counts import PARTS, count, folded, lines, parts, shows_picture, shows_texts, trains
from .rules import rule

OPTIMIZERS = re.compile(r"(?i)(^|_|\.)(optimi[sz]er|optim|opt|adam\w*|sgd|sched\w*)\w*\.step$")
OPEN = {"phenomenon", "idea", "loop"}
LAST = ("wrong", "gpt2", "exercises", "retell")
MAKERS = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.While)


@rule(30, "lesson", "deeper")
def cells(book):
    limit = 60 if book.form == "lesson" else 110
    if (n := len(book.nb.cells)) > limit:
        yield None, f"{n} cells: at most {limit}; what proves belongs to the deeper notebook"


@rule(31, "lesson")
def words(book):
    c = count(book.nb)
    if c.words > 2500:
        yield None, f"{c.words} words: at most 2,500; cut, or fold details"
    if c.details > 800:
        yield None, f"{c.details} words in <details>: at most 800"


@rule(32, "lesson", "deeper")
def visible_lines(book):
    limit = 12 if book.form == "lesson" else 25
    for i, cell in book.cells("code"):
        most = 15 if book.form == "lesson" and trains(cell) else limit
        if not folded(cell) and (n := lines(cell.source)) > most:
            yield i, f"{n} lines of code: at most {most}; name what a stranger needs not read, in the package"
    if book.form == "lesson" and (n := count(book.nb).visible) > 220:
        yield None, f"{n} visible lines of code: at most 220"


@rule(33, "lesson")
def folded_cells(book):
    if (n := count(book.nb).folded) > 60:
        yield None, f"{n} folded lines: at most 60 in all"
    for i, tree in book.trees():
        if not folded(book.nb.cells[i]):
            continue
        made = [node for node in ast.walk(tree) if isinstance(node, MAKERS)]
        if made or re.search(r"\.(backward|step)\(", book.nb.cells[i].source):
            yield i, "a folded cell that defines, imports or trains: it holds claims, checks, tables, pictures, predictions"


@rule(34, "lesson", "deeper")
def narrow_code(book):
    for i, cell in book.cells("code"):
        if (n := max(map(len, cell.source.splitlines()), default=0)) > 88:
            yield i, f"a code line of {n} characters: at most 88"


@rule(35, "lesson")
def claims(book):
    if not 5 <= (n := count(book.nb).claims) <= 12:
        yield None, f"{n} claims: 5 to 12, those that the story needs"


@rule(36, "lesson")
def pictures(book):
    c = count(book.nb)
    if c.pictures < 5 or not c.drawings:
        yield None, f"{c.pictures} pictures, {c.drawings} of them drawings: at least 5, and one drawing"


@rule(37, "lesson")
def first_screen(book):
    first = book.nb.cells[0]
    imports = next((i for i, cell in book.cells("code") if re.search(r"^\s*(import|from)\b", cell.source, re.MULTILINE)),
                   len(book.nb.cells))
    if not re.match(r"# \d\d? · \S", first.source) or not re.search(r"^\*\*[^*]+\?\*\*", first.source, re.MULTILINE):
        yield 0, "the first cell needs “# NN · Title” and one question in bold"
    if not any(shows_picture(c) or shows_texts(c) for c in book.nb.cells[:imports]):
        yield 0, "no hero before the first import: a picture, or texts that a cell quotes"
    heroes = [i for i, c in book.cells("code") if "hero" in c.metadata.get("tags", [])]
    if len(heroes) != 1:
        yield None, f"{len(heroes)} cells tagged hero, expected one: the cell that makes what the first screen shows"
    elif shows_picture(book.nb.cells[heroes[0]]) and not any(
            re.search(r"\]\(figures/\d\d_hero\.png\)", c.source) for c in book.nb.cells[:imports]):
        yield heroes[0], "the hero's picture is not on the first screen: ![alt](figures/NN_hero.png)"


@rule(38, "lesson")
def never_long_without_a_picture(book):
    c = count(book.nb)
    if c.gap > 8:
        yield c.gap_ends, f"{c.gap} cells in a row without a picture or a text that a model wrote: at most 8"


@rule(39, "lesson")
def three_exercises(book):
    if (n := count(book.nb).exercises) != 3:
        yield None, f"{n} exercises (### Exercise N.M …): three in a lesson, the others in the deeper notebook"


@rule(40, "lesson")
def order_of_parts(book):
    found = count(book.nb).parts
    for i, part in found:
        if part not in PARTS:
            yield i, f"part {part!r}: the parts are {', '.join(PARTS)}"
    names = [part for _, part in found]
    if missing := [part for part in PARTS if part not in names]:
        yield None, f"no cell begins the parts {', '.join(missing)}: rlhf={{\"part\": …}}"
        return
    once = [part for part in PARTS if part not in OPEN and names.count(part) > 1]
    if once or names.count("idea") > 4:
        yield None, f"{', '.join(once) or names.count('idea')}: one of each part, at most four ideas"
    middle = names[3:-4]
    if (names[0] != "first" or set(names[1:3]) != {"predict", "setup"} or names[3] != "phenomenon"
            or not set(middle) <= OPEN or tuple(names[-4:]) != LAST):
        yield None, f"parts in the order {', '.join(names)}; expected {', '.join(PARTS)}, ideas and loop as you like"
    if found and found[0][0] != 0:
        yield 0, "the first cell begins the part first"


@rule(41, "lesson")
def loop_before_step(book):
    loop = next((i for i, cell in enumerate(book.nb.cells) if "loop" in parts(cell)), len(book.nb.cells))
    for i, tree in book.trees():
        for node in ast.walk(tree):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if i < loop and (name == "step" or name.endswith(".step") and not OPTIMIZERS.search(name)):
                yield i, f"{name}(…) before the part loop: show forward pass, loss and step first"


@rule(42, "lesson")
def short_setup(book):
    for i, cell in enumerate(book.nb.cells):
        if "setup" not in parts(cell):
            continue
        if cell.cell_type != "code" or lines(cell.source) > 6 or "begin(" not in cell.source:
            yield i, "the setup cell is code of at most six lines and calls begin"
        if book.cells("code")[0][0] != i and re.search(r"^\s*(import|from)\b", "\n".join(
                c.source for j, c in book.cells("code") if j < i), re.MULTILINE):
            yield i, "an import before the setup cell"


@rule(43, "lesson", "deeper")
def folded_as_tagged(book):
    for i, cell in book.cells("code"):
        if folded(cell) != bool(cell.metadata.get("jupyter", {}).get("source_hidden")):
            yield i, "tag hide-input and jupyter.source_hidden disagree: build again"
