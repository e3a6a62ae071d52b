"""The live source of a function, as a reader wants it: the lines that compute."""

import ast
import inspect
import textwrap

from .output import LINE, escape, publish


def _validates(node: ast.stmt) -> bool:
    """Is this statement a check: check_this(...), or `if …: raise`, and nothing else?"""
    if isinstance(node, ast.If):
        return not node.orelse and all(isinstance(inner, ast.Raise) for inner in node.body)
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    called = node.value.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name.lstrip("_").startswith("check")


def body(fn) -> str:
    """The source of a function without decorators, docstring and leading validation; of a class, all of it."""
    text = textwrap.dedent(inspect.getsource(inspect.unwrap(fn)))
    node, lines = ast.parse(text).body[0], text.splitlines()
    if not isinstance(node, ast.FunctionDef):
        return text.rstrip()
    inside = list(node.body)
    if ast.get_docstring(node) is not None:
        inside.pop(0)
    head_ends = (node.body[0].lineno if node.body else node.end_lineno) - 1
    before = node.body[0].end_lineno if len(inside) < len(node.body) else head_ends
    while len(inside) > 1 and _validates(inside[0]):
        before = inside.pop(0).end_lineno
    return "\n".join([*lines[node.lineno - 1:head_ends], *lines[before:node.end_lineno]]).rstrip()


def _highlighted(text: str) -> str:
    """Python as HTML with inline colours, so that it looks the same in a notebook and in an exported page."""
    try:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer
    except ImportError:  # no colours then
        return escape(text)
    return highlight(text, PythonLexer(), HtmlFormatter(nowrap=True, noclasses=True)).rstrip().replace("$", "&#36;")


def show_source(fn, *more, whole: bool = False) -> None:
    """Show functions or classes of the package, folded; whole=True with decorators, docstring and validation."""
    plain, markup = [], ""
    for one in (fn, *more):
        found = inspect.unwrap(one)
        text = inspect.getsource(found).rstrip() if whole else body(found)
        plain.append(f"# {found.__module__}\n{text}")
        markup += (f"<details class='rlhf-source' style='margin:8px 0'><summary style='cursor:pointer'>Source of "
                   f"<code>{escape(found.__module__.removeprefix('rlhf_minimal.'))}.{escape(found.__name__)}</code>"
                   f"{'' if whole else ', without its checks'}</summary>"
                   f"<pre style=\"font:13px/1.5 'DejaVu Sans Mono',Menlo,Consolas,monospace;background:#f6f8fa;color:#1f2430;"
                   f"border:1px solid {LINE};border-radius:6px;padding:10px 14px;overflow-x:auto;white-space:pre\">"
                   f"{_highlighted(text)}</pre></details>")
    publish("\n\n\n".join(plain), markup)
