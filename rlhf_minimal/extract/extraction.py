"""Copy an algorithm out of the package: `python -m rlhf_minimal.extract ppo` writes one file that needs no package.

The file holds what the algorithm defines and, of the rest of the package, only the definitions that this uses, found by
reading the source (nothing is imported or run). It needs torch and transformers, and ends in a small runnable demo.
"""

import argparse
import ast
import builtins
import difflib
import symtable
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import SimpleNamespace

from .. import __version__
from ..files import write_atomically

PACKAGE = Path(__file__).resolve().parents[1]
ALIASES = {"dpo": ("direct_alignment", ("dpo_loss", "pair_logps", "step"))}  # a part of a file, under a name of its own
HEAD = '''"""{title}

Copied from rlhf_minimal {version} by `python -m rlhf_minimal.extract {name}`; it needs torch and transformers, no more.
MIT License, copyright (c) 2026 rlhf-minimal contributors. Keep this notice; no warranty of any kind.
"""

{imports}
'''
MAIN = """
if __name__ == "__main__":  # on a random tiny model, or hand-made numbers
    for name, value in {demo}().items():
        print(f"{{name:20}} {{float(value):9.4f}}")
"""


@cache
def read(module):
    """A file of the package: title, lines, defs {name: node}, imports outside {name: (from, what)}, inside likewise."""
    lines = (PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8").split("\n")
    tree = ast.parse("\n".join(lines))
    defs, outside, inside = {}, {}, {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defs[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defs |= {x.id: node for t in targets for x in ast.walk(t) if isinstance(x, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and node.level:
            inside |= relative(module, node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for x in node.names:
                what = x.name + (f" as {x.asname}" if x.asname else "")
                outside[(x.asname or x.name).split(".")[0]] = (getattr(node, "module", None), what)
    return SimpleNamespace(lines=lines, title=ast.get_docstring(tree), defs=defs, outside=outside, inside=inside)


def relative(module, node):
    """{name: (module, name)} of a `from .x import name`; name "" where it is a module or gets another name."""
    parts = [*module.split(".")[: -node.level], *(node.module or "").split(".")]
    home = ".".join(x for x in parts if x)
    return {x.asname or x.name: (home, "" if x.asname or not node.module else x.name) for x in node.names}


def source(module, name):
    """(text of a definition without what only the package needs, its own imports from within the package)."""
    file = read(module)
    node, found = file.defs[name], {}
    marks = getattr(node, "decorator_list", [])
    first = min([node.lineno] + [mark.lineno for mark in marks])
    while first > 1 and file.lines[first - 2].startswith("# ") and not file.lines[first - 2].startswith("# --"):
        first -= 1  # the comment above belongs to it
    lines = dict(enumerate(file.lines[first - 1: node.end_lineno], first))

    def drop(node):
        for i in range(node.lineno, node.end_lineno + 1):
            del lines[i]

    for mark in marks:
        if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "implements":
            drop(mark)
            lines[mark.lineno] = "# " + ", ".join(x.value for x in mark.args)  # the equation stays, as a comment
    for inner in ast.walk(node):
        if isinstance(inner, ast.ImportFrom) and inner.level:
            found |= relative(module, inner)
            drop(inner)
            if not lines[inner.end_lineno + 1].strip():
                del lines[inner.end_lineno + 1]
    return "\n".join(lines[i] for i in sorted(lines)), found


def names_used(text):
    """The global names that a definition reads."""
    def walk(table, top):
        own = {s.get_name() for s in table.get_symbols() if (s.is_referenced() if top else s.is_global())}
        return own.union(*(walk(child, False) for child in table.get_children()))

    return walk(symtable.symtable(text, "definition", "exec"), True)


def collect(roots):
    """Definitions and all they need -> [(module, {line: text})] by dependency, imports {name: (from, what)}."""
    todo, seen, outside, parts, above = list(roots), {}, {}, {}, {}
    while todo:
        module, name = todo.pop()
        _one_meaning(seen, name, f"{module}.py", module)
        if not name or name not in read(module).defs:
            what = repr(name) if name else "a whole module, or a name imported with `as`"
            raise ValueError(f"{module}.py: cannot copy {what}; a copy follows `from .module import name` only")
        file, (text, found) = read(module), source(module, name)
        start = file.defs[name].lineno
        if start in parts.setdefault(module, {}):
            continue
        parts[module][start] = text
        above.setdefault(module, [])
        for used in sorted(names_used(text)):
            if target := found.get(used) or file.inside.get(used):
                todo.append(target)
                above[module].append(target[0])
            elif used in file.defs:
                todo.append((module, used))
            elif used in file.outside:
                outside[used] = file.outside[used]
                _one_meaning(seen, used, "an import", file.outside[used])
            elif not hasattr(builtins, used):
                raise ValueError(f"{module}.py: {name} uses {used}, which is defined nowhere")
    return [(module, parts[module]) for module in TopologicalSorter(above).static_order()], outside


def _one_meaning(seen, name, where, meaning):
    """One file has one namespace: ValueError where a name is defined in two modules, or imported too."""
    other, old = seen.setdefault(name, (where, meaning))
    if old != meaning:
        raise ValueError(f"{name} is defined in {other} and in {where}; one file cannot hold both: rename one")


def algorithms():
    """{name: (module, names or None for all that is public)} of everything that has a demo."""
    demos = [name.removeprefix("demo_") for name in read("extract.demos").defs if name.startswith("demo_")]
    return {name: (name, None) for name in demos} | ALIASES


def find(name):
    """The entry of `algorithms` behind a name. ValueError on an unknown one, with the likely one."""
    known = algorithms()
    if name in known:
        return known[name]
    homes = [module for module, _ in known.values() if f"{name.removesuffix('_loss')}_loss" in read(module).defs]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; {name} is in {homes[0]}" if homes else f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"there is no algorithm {name!r}{hint} (choose one of {', '.join(known)})")


def imports(outside):
    """The lines of the imports, one a module, the standard library's first, as ruff sorts them."""
    froms = {}
    for module, what in sorted(outside.values(), key=lambda x: (not x[1].isupper(), x[1][0].islower(), x[1])):
        froms.setdefault(module or f"import {what}", []).append(what)
    lines = [x if x.startswith("import ") else f"from {x} import {', '.join(what)}" for x, what in froms.items()]
    lines.sort(key=lambda line: (line.startswith("from"), line.split()[1]))
    own = [line for line in lines if line.split()[1].split(".")[0] in sys.stdlib_module_names]
    return "\n".join([*own, *[""] * bool(own), *[line for line in lines if line not in own]])


def render(name):
    """The text of the file: header, imports, the package's definitions in order of dependency, a demo."""
    module, chosen = find(name)
    demo = f"demo_{module}"
    chosen = chosen or [x for x in read(module).defs if not x.startswith("_")]
    parts, outside = collect([*((module, x) for x in chosen), ("extract.demos", demo)])
    text = HEAD.format(title=read(module).title, version=__version__, name=name, imports=imports(outside))
    for part, found in parts:
        text += f"\n# {'-' * 10} {part}.py {'-' * (100 - len(part))}\n"
        for _, body in sorted(found.items()):
            constant = isinstance(ast.parse(body).body[0], (ast.Assign, ast.AnnAssign))
            text += body + "\n" if constant else f"\n\n{body}\n"
        text += "\n"
    return text + MAIN.format(demo=demo)


def write(text, path, *, force=False):
    """Write all of it or nothing. FileExistsError unless `force`, OSError where the place cannot be written."""
    path = Path(path)
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists already; say --force to replace it, or give another name with -o")
    write_atomically(path, text)


def main(argv=None):
    """The command line; wrong use ends with status 2 and one line that says what to do."""
    parser = argparse.ArgumentParser(prog="python -m rlhf_minimal.extract", description=__doc__.split("\n")[0])
    parser.add_argument("algorithm", nargs="?", help="one of " + ", ".join(algorithms()))
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write (default: ALGO.py; - is the screen)")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("--list", action="store_true", help="say what can be copied, and stop")
    args = parser.parse_args(argv)
    if args.list:
        return print("\n".join(f"{k:18} {read(m).title.splitlines()[0]}" for k, (m, _) in algorithms().items()))
    if not args.algorithm:
        parser.error("give the name of an algorithm; --list says what there is")
    path = args.output or f"{args.algorithm}.py"
    try:
        text = render(args.algorithm)
        if path == "-":
            return print(text, end="")
        write(text, path, force=args.force)
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"cannot write {path}: {error.strerror}; give another place with -o")
    print(f"{path}: {text.count(chr(10))} lines; try it: python {path}")

