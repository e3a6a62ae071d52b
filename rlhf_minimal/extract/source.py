"""Reads the package's own files: what each defines, what a definition needs, and its text as a single file shows it.

Nothing is imported or run. A definition is a function, a class or a constant at the top of a file; it is named by its
module and its name, such as ("grpo", "grpo_loss").
"""

import ast
import builtins
import re
import symtable
import textwrap
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SHAPE = re.compile(r"\((2?[A-Z]|B/G|\.\.\.)(, ?[A-Z][^()]*|,)?\)")  # such as (B,), (B, T), (B,L-1), (...,V)
ERRORS = re.compile(r"(Raises|ValueError)\b|.*\braises? ValueError\b", re.S)  # a sentence about errors

Place = tuple[str, str]  # (module, name)
Import = tuple[str | None, str]  # (from which module, what): (None, "math"), ("torch", "nn")


@dataclass
class File:
    """A file of the package: its name with dots, its lines, its docstring and, by name, what it defines and imports."""

    name: str
    lines: list[str]
    docstring: str
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    outside: dict[str, Import] = field(default_factory=dict)  # imports from other packages
    inside: dict[str, Place] = field(default_factory=dict)  # imports from this package


@dataclass
class Definition:
    """The text of a definition, and what it needs: places in the package in the order of use, imports from outside.

    `first` are the names that have to be defined before it: default values, base classes, decorators, a constant's value.
    """

    text: str
    needs: dict[str, Place]
    imports: dict[str, Import]
    first: set[str]
    constant: bool


@cache
def read(module: str) -> File:
    """Read a file of the package. module: its name with dots, such as "grpo" or "village.tasks"."""
    name = f"{module}.__init__" if (PACKAGE / module.replace(".", "/")).is_dir() else module
    text = (PACKAGE / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    file = File(name, text.split("\n"), ast.get_docstring(tree) or "")
    for node in tree.body:
        for name in names_defined(node):
            file.definitions[name] = node
    for node in tree.body + [inner for block in tree.body if isinstance(block, ast.If) for inner in block.body]:
        if isinstance(node, ast.ImportFrom) and node.level:
            file.inside |= places_imported(file, node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for x in node.names:
                what = x.name + (f" as {x.asname}" if x.asname else "")
                file.outside[(x.asname or x.name).split(".")[0]] = (getattr(node, "module", None), what)
    return file


def names_defined(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a file defines: one of a function or class, maybe several of `a, b = …`."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [x.id for target in targets for x in ast.walk(target) if isinstance(x, ast.Name)]


def places_imported(file: File, node: ast.ImportFrom) -> dict[str, Place]:
    """{name: place} of a `from .x import name`; the place's name is "" for a whole module, and for a name changed by `as`."""
    folders = file.name.split(".")[:-node.level]
    home = ".".join([*folders, node.module] if node.module else folders)
    return {x.asname or x.name: (home, "" if x.asname or not node.module else x.name) for x in node.names}


def find(place: Place) -> Place:
    """The place where a name is defined: in another file, if a folder's __init__ only hands it on; for `a, b = …`, a.

    Raises ValueError for what cannot be copied: a whole module, a name changed by `as`, a name that is not defined.
    """
    module, name = place
    file = read(module) if name else File(module, [], "")
    if name in file.inside and name not in file.definitions:
        return find(file.inside[name])
    if name not in file.definitions:
        what = repr(name) if name else "a whole module, or a name imported with `as`"
        raise ValueError(f"{module}.py: cannot copy {what}; a copy follows `from .module import name` only")
    return module, names_defined(file.definitions[name])[0]


def define(place: Place, replace: dict[str, str] | None = None) -> Definition:
    """Read one definition. `replace`: names to write in place of others. Raises ValueError if a name is defined nowhere."""
    module, name = place
    file, node = read(module), read(module).definitions[name]
    text, imported = text_of(file, node)
    for old, new in (replace or {}).items():
        text = re.sub(rf"\b{old}\b", new, text)
        imported |= {new: (imported[old][0], new)} if old in imported else {}
    constant = not isinstance(node, (ast.FunctionDef, ast.ClassDef))
    found = Definition(text, {}, {}, names_needed_first(text), constant)
    for used in names_used(text):
        if used in imported or used in file.inside:
            found.needs[used] = imported.get(used) or file.inside[used]
        elif used in file.definitions and file.definitions[used] is not node:
            found.needs[used] = (module, used)
        elif used in file.outside:
            found.imports[used] = file.outside[used]
        elif used not in file.definitions and not hasattr(builtins, used):
            raise ValueError(f"{module}.py: {name} uses {used}, which is defined nowhere")
    return found


def text_of(file: File, node: ast.stmt) -> tuple[str, dict[str, Place]]:
    """The text of a definition, and what it imports from the package inside its own body.

    The comment above belongs to it. Imports from the package go, docstrings become short, and the book's labels of its
    equations, with the address of the paper, become a comment.
    """
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno] + [x.lineno for x in decorators])
    while file.lines[first - 2].startswith("# ") and not file.lines[first - 2].startswith("# --"):
        first -= 1
    lines = {i: file.lines[i - 1] for i in range(first, node.end_lineno + 1)}

    def put(node: ast.AST, text: list[str]) -> None:
        """Put other text in place of a node's lines."""
        for i in range(node.lineno, node.end_lineno + 1):
            lines.pop(i)
        if text:
            lines[node.lineno] = "\n".join(text)

    imported = {}
    for inner in ast.walk(node):
        if isinstance(inner, ast.ImportFrom) and inner.level:
            imported |= places_imported(file, inner)
            put(inner, [])
            if not lines[inner.end_lineno + 1].strip():
                lines.pop(inner.end_lineno + 1)
        elif isinstance(inner, (ast.FunctionDef, ast.ClassDef)) and (docstring := ast.get_docstring(inner)):
            put(inner.body[0], [textwrap.indent(quote(short(docstring)), " " * inner.body[0].col_offset)])
    for inner in ast.walk(node):
        for note in filter(None, (getattr(inner, "annotation", None), getattr(inner, "returns", None))):
            if isinstance(note, ast.Constant) and isinstance(note.value, str):  # it needs no quotes here
                lines[note.lineno] = lines[note.lineno].replace(f'"{note.value}"', note.value)
    labels = [x for x in decorators if isinstance(x, ast.Call) and getattr(x.func, "id", "") == "implements"]
    docstring = ast.get_docstring(node) or "" if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else ""
    papers = [x for x in re.findall(r"https?://[\w./-]*\w", docstring) if x not in short(docstring)]
    for label in labels:
        put(label, [])
    if labels or papers:
        lines[first - 0.5] = "# " + ", ".join([x.value for label in labels for x in label.args] + papers)
    return "\n".join(lines[i] for i in sorted(lines)), imported


def short(docstring: str, *, whole: bool = False) -> str:
    """The first paragraph of a docstring and, if it tells no shapes, the next that does; `whole`: all but errors and examples."""
    first, *more = [x for x in re.split(r"\n\s*\n", docstring) if not x.lstrip().startswith(">>>")]
    shapes = [] if SHAPE.search(first) else [x for x in more if SHAPE.search(x)][:1]
    kept = [first, *(more if whole else shapes)]
    return "\n\n".join(filter(None, map(without_errors, kept)))


def without_errors(paragraph: str) -> str:
    """A paragraph without its sentences about errors, filled anew if there were any."""
    sentences = re.split(r"(?<=[.:])\s+(?=[A-Z`])", paragraph)
    kept = [x for x in sentences if not ERRORS.match(x)]
    return paragraph if kept == sentences else textwrap.fill(" ".join(kept), 116, break_long_words=False)


def quote(docstring: str) -> str:
    """A docstring between its quotes."""
    docstring = docstring.replace("\\", "\\\\")
    return f'"""{docstring}\n"""' if "\n" in docstring else f'"""{docstring}"""'


def names_used(text: str) -> list[str]:
    """The global names that a definition reads, in the order in which they first occur."""
    def of(table: symtable.SymbolTable, top: bool) -> set[str]:
        own = {x.get_name() for x in table.get_symbols() if (x.is_referenced() if top else x.is_global())}
        return own.union(*(of(child, False) for child in table.get_children()))

    where = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name):
            where[node.id] = min(where.get(node.id, (node.lineno, node.col_offset)), (node.lineno, node.col_offset))
    return sorted(of(symtable.symtable(text, "definition", "exec"), True), key=lambda name: where.get(name, (0, 0)))


def names_needed_first(text: str) -> set[str]:
    """The names that have to exist when a definition is run: annotations do not count, the bodies of functions neither."""
    def of(node: ast.stmt) -> list[ast.AST]:
        if isinstance(node, ast.FunctionDef):
            return [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        if isinstance(node, ast.ClassDef):
            return [*node.decorator_list, *node.bases, *node.keywords, *(x for inner in node.body for x in of(inner))]
        return [node.value] if isinstance(node, ast.AnnAssign) and node.value else [] if isinstance(node, ast.AnnAssign) else [node]

    return {x.id for node in of(ast.parse(text).body[0]) for x in ast.walk(node) if isinstance(x, ast.Name)}
