"""How long the part of the package is that a reader goes through in an evening: `python -m tools.count_lines`.

Counted are lines of code: no docstrings, no comments, no blank lines. The files are those from `tensors` to
`direct_alignment`, in the order in which the package lists them.
"""

import ast
import io
import tokenize
from pathlib import Path

from rlhf_minimal import MODULES

PACKAGE = Path(__file__).resolve().parents[1] / "rlhf_minimal"
LIMIT = 2200
SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """Number of lines of a Python source that hold code.

    >>> code_lines('def f():\\n    "What it is."\\n\\n    # why\\n    return 1  # one\\n')
    2
    """
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SKIPPED:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if documented and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            lines.difference_update(range(docstring.lineno, docstring.end_lineno + 1))
    return len(lines)


def evening() -> list[str]:
    """Names of the files that count, in order: those from `tensors` to `direct_alignment` that are no folders."""
    first, last = MODULES.index("tensors"), MODULES.index("direct_alignment")
    return [name for name in MODULES[first: last + 1] if (PACKAGE / f"{name}.py").exists()]


def table() -> dict[str, int]:
    """{file: lines of code}."""
    return {name: code_lines((PACKAGE / f"{name}.py").read_text(encoding="utf-8")) for name in evening()}


def main() -> None:
    """Print the table and its sum."""
    counts = table()
    for name, count in counts.items():
        print(f"{name + '.py':22}{count:6}")
    print(f"{'together':22}{sum(counts.values()):6}   (limit {LIMIT})")


if __name__ == "__main__":
    main()
