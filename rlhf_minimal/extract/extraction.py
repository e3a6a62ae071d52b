"""Copy an algorithm out of the package: `python -m rlhf_minimal.extract ppo` writes one file that needs no package.

The algorithm stands at the top of the file. Below it follow only those functions of the package that it uses, in plain
versions (`plain.py`) where the package has quick ones, and at the end an example (`examples.py`) with a tokenizer, prompts
and a reward. The file needs torch and transformers.
"""

import argparse
import ast
import difflib
import sys
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..files import write_atomically
from .source import Definition, Import, Place, define, find, quote, read, short

PLAIN, EXAMPLES = "extract.plain", "extract.examples"


@dataclass(frozen=True)
class Algorithm:
    """What a file shows: all that is public in a module, or the definitions that are named; and its example.

    left_out: names of the module that only some need. instead: in the step and in the example, a loss to write in place of
    the one that stands there.
    """

    module: str
    example: str
    names: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    instead: tuple[tuple[str, str], ...] = ()

    @property
    def docstring(self) -> str:
        """Of the first name, or of the module."""
        file = read(self.module)
        return ast.get_docstring(file.definitions[self.names[0]]) if self.names else file.docstring


def one_of_pairs(name: str, example: str = "dpo") -> Algorithm:
    """A loss of direct alignment as an algorithm of its own, shown by the example of a loss that takes the same arguments."""
    loss, shown = f"{name}_loss", f"{example}_loss"
    return Algorithm("direct_alignment", example, (loss, "pair_logps", "step"), instead=(("dpo_loss", loss), (shown, loss)))


PARTS = {  # files that show a part of a module
    "ppo": Algorithm("ppo", "ppo", left_out=("SharedCritic",)),
    **{name: one_of_pairs(name) for name in ("dpo", "rdpo", "ipo", "hinge", "apo_zero", "apo_down", "dpo_nll")},
    "length_dpo": one_of_pairs("length_dpo", "length_dpo"),
    "simpo": one_of_pairs("simpo", "simpo"),
    "orpo": one_of_pairs("orpo", "simpo"),
    "cpo": one_of_pairs("cpo", "cpo"),
    "cpl": Algorithm("direct_alignment", "cpl", ("cpl_loss",)),
    "kto": Algorithm("direct_alignment", "kto", ("kto_loss",)),
    "drgrpo": Algorithm("grpo", "drgrpo", ("grpo_loss", "step")),
    "gspo": Algorithm("grpo", "gspo", ("gspo_loss",)),
    "cispo": Algorithm("grpo", "gspo", ("cispo_loss",), instead=(("gspo_loss", "cispo_loss"),)),
}


def algorithms() -> dict[str, Algorithm]:
    """Everything that can be copied: each module that an example is named after, and the members of families."""
    shown = [name.removeprefix("example_") for name in read(EXAMPLES).definitions if name.startswith("example_")]
    return {name: Algorithm(name, name) for name in shown if name not in PARTS} | PARTS


def look_up(name: str) -> Algorithm:
    """The algorithm of that name. Raises ValueError for an unknown one, with the likely one."""
    known = algorithms()
    if name in known:
        return known[name]
    homes = [x.module for x in known.values() if f"{name.removesuffix('_loss')}_loss" in read(x.module).definitions]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; {name} is in {homes[0]}" if homes else f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"there is no algorithm {name!r}{hint} (choose one of {', '.join(known)})")


def own_names(algorithm: Algorithm) -> list[str]:
    """What the file shows of the algorithm's own module, in order: from the first loss on, then what stands before it."""
    if algorithm.names:
        return list(algorithm.names)
    public = [name for name in read(algorithm.module).definitions if name[0] != "_" and not name.isupper()]
    public = [name for name in public if name not in algorithm.left_out]
    start = next((i for i, name in enumerate(public) if name.endswith("_loss")), 0)
    return public[start:] + public[:start]


def with_needs(places: list[Place], replace: dict[Place, dict[str, str]]) -> dict[Place, Definition]:
    """Some definitions and all that they need, directly or not, nearest first.

    Raises ValueError if two things have one name: one file has one namespace.
    """
    found, meaning, queue = {}, {}, list(places)
    for place in queue:  # it grows meanwhile
        module, name = place = plain(place)
        if meaning.setdefault(name, place) != place:
            raise ValueError(f"{name} is defined in {meaning[name][0]} and in {module}; one file cannot hold both: rename one")
        if place in found:
            continue
        found[place] = define(place, replace.get(place))
        queue += found[place].needs.values()
        for name, what in found[place].imports.items():
            if meaning.setdefault(name, what) != what:
                raise ValueError(f"{name} means {meaning[name]} and {what}; one file cannot hold both: rename one")
    return found


def plain(place: Place) -> Place:
    """Where to take a definition from: the plain version, if there is one."""
    return (PLAIN, place[1]) if place[1] in read(PLAIN).definitions else find(place)


def in_order(found: dict[Place, Definition], places: list[Place]) -> list[Place]:
    """The order of the file: the algorithm, then module by module what it needs, the example last.

    Modules follow in the order of their first use, definitions of a module as they stand there. What has to be defined
    before something else (a base class, a default value) moves up.
    """
    modules = list(dict.fromkeys(module for module, _ in found if module != EXAMPLES)) + [EXAMPLES]
    own = {place: i for i, place in enumerate(places) if place[0] != EXAMPLES}

    def rank(place: Place) -> tuple:
        module, name = place
        return modules.index(module), own.get(place, len(own)), read(module).definitions[name].lineno

    done = {}

    def add(place: Place) -> None:
        if place not in done:
            for name in sorted(found[place].first & found[place].needs.keys()):
                add(plain(found[place].needs[name]))
            done[place] = True

    for place in sorted(found, key=rank):
        add(place)
    return list(done)


def render(name: str) -> str:
    """The text of the file: header, imports, the algorithm, its helpers, the example. Raises ValueError as `look_up`."""
    algorithm = look_up(name)
    places = [find((algorithm.module, x)) for x in own_names(algorithm)] + [(EXAMPLES, f"example_{algorithm.example}")]
    replace = {place: dict(algorithm.instead) for place in places if place[1] == "step"}
    replace[places[-1]] = dict(algorithm.instead) | {f"example_{algorithm.example}": "example"}
    found = with_needs(places, replace)
    order = in_order(found, places)
    docstring = f"{short(algorithm.docstring, whole=True)}\n\n" + (
        f"Copied from rlhf_minimal {__version__} by `python -m rlhf_minimal.extract {name}`; it needs torch and transformers.\n"
        "MIT License, copyright (c) 2026 rlhf-minimal contributors. Keep this notice; no warranty of any kind.")
    outside = {"sys": (None, "sys")} | {name: what for x in found.values() for name, what in x.imports.items()}
    text = f"{quote(docstring)}\n\nfrom __future__ import annotations\n\n{import_lines(outside)}\n"
    module, constant = None, False
    for place in order:
        if place[0] != module:
            heading = title_of(place[0], algorithm)
            text += f"\n\n# {'-' * 10} {heading} {'-' * (100 - len(heading))}\n"
        elif not (constant and found[place].constant):
            text += "\n\n"
        text += found[place].text + "\n"
        module, constant = place[0], found[place].constant
    return text + '\n\nif __name__ == "__main__":\n    example(*sys.argv[1:])\n'


def title_of(module: str, algorithm: Algorithm) -> str:
    """The heading over the definitions of one module."""
    titles = {algorithm.module: f"{module}.py", PLAIN: "plain versions of what the package does quickly", EXAMPLES: "example"}
    return titles.get(module, f"from {module}.py")


def import_lines(outside: dict[str, Import]) -> str:
    """The lines of the imports, one per module, the standard library's first, in ruff's order."""
    lines = {}
    for module, what in sorted(set(outside.values()), key=lambda x: (not x[1].isupper(), x[1][0].islower(), x[1])):
        lines.setdefault(f"from {module} import " if module else f"import {what}", []).append(what if module else "")
    written = [start + ", ".join(what) for start, what in lines.items()]
    written = [x if len(x) <= 132 else x.replace("import ", "import (\n    ").replace(", ", ",\n    ") + ",\n)" for x in written]
    written.sort(key=lambda line: (line.startswith("from"), line.split()[1]))
    standard = [line for line in written if line.split()[1].split(".")[0] in sys.stdlib_module_names]
    return "\n".join([*standard, "", *[line for line in written if line not in standard]])


def write(text: str, path: str | Path, *, force: bool = False) -> None:
    """Write all of it or nothing. FileExistsError unless `force`, OSError where the place cannot be written."""
    path = Path(path)
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists already; say --force to replace it, or give another name with -o")
    write_atomically(path, text)


def main(argv: list[str] | None = None) -> None:
    """The command line; wrong use ends with status 2 and one line that says what to do."""
    parser = argparse.ArgumentParser(prog="python -m rlhf_minimal.extract", description=__doc__.split("\n")[0])
    parser.add_argument("algorithm", nargs="?", help="one of " + ", ".join(algorithms()))
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write (default: ALGO.py; - is the screen)")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("--list", action="store_true", help="say what can be copied, and stop")
    args = parser.parse_args(argv)
    if args.list:
        return print("\n".join(f"{name:18} {x.docstring.splitlines()[0]}" for name, x in algorithms().items()))
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
