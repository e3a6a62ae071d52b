"""A notebook as one HTML file that opens without a server and without a network: `python -m tools.export [04 deeper/04]`.

Pictures are embedded, formulas become MathML, code is highlighted with classes, folded cells become <details>, and the
page asks no other host for anything. Written to build/html/. Without numbers: every notebook.
"""

from __future__ import annotations

import argparse
import base64
import html
import re
import sys
from pathlib import Path
from urllib.parse import urlparse

import nbformat
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer, get_lexer_by_name
from pygments.util import ClassNotFound

from .chapters import kind, name, notebooks
from .execute import ROOT
from .quotes import figures, png_of

HERE = Path(__file__).resolve().parent
NUMBERED = re.compile(r"\\(tag|label)\{[^}]*\}|\\(?:mathstrut|limits|nolimits|displaystyle|textstyle)\b")
SMALL_FIX = {r"\lVert": r"\|", r"\rVert": r"\|", r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\rm ": r"\mathrm ",
             r"\eqref": r"\text", r"\bigl": "", r"\bigr": "", r"\Bigl": "", r"\Bigr": "", r"\biggl": "", r"\biggr": "",
             r"\colon": ":", r"\arg": r"\operatorname{arg}", r"\argmax": r"\operatorname{argmax}"}
BIG = re.compile(r"\\([bB]igg?)[lrm]?(?![a-zA-Z])")
FUNCTION = re.compile(r"<mi>(arg|cos|cosh|det|dim|exp|log|ln|max|min|sin|sinh|sup|inf|tan|tanh|Pr)</mi>(?=(.{0,40}))", re.DOTALL)
ROMAN = re.compile(r"\{\\rm\s+([^{}]*)\}")


def formula(latex: str, block: bool) -> str:
    """LaTeX as MathML. Raises ValueError, with the formula, for a command that it does not know."""
    text = ROMAN.sub(r"{\\mathrm{\1}}", NUMBERED.sub("", latex.strip()))
    text = BIG.sub("", text)
    for old, new in SMALL_FIX.items():
        end = r"(?![a-zA-Z])" if old[-1].isalpha() else ""
        text = re.sub(re.escape(old) + end, lambda match, new=new: new, text)
    try:
        made = convert(text, display="block" if block else "inline")
    except Exception as error:
        raise ValueError(f"formula {latex!r} is not understood ({type(error).__name__}: {error}); write it more simply") from error
    if unknown := re.search(r"<m[iotn][^>]*>(\\[a-zA-Z]+)<", made):
        raise ValueError(f"formula {latex!r}: {unknown[1]} is not understood; write it more simply")
    def spaced(match):  # as TeX sets a function's name: a thin space before it, and behind it unless a bracket opens
        behind = "" if re.match(r"<mo[^>]*>(&#x00028;|\(|\[)", match[2]) else '<mspace width="0.17em"/>'
        return f'<mrow><mspace width="0.17em"/><mi>{match[1]}</mi>{behind}</mrow>'
    return FUNCTION.sub(spaced, made)


def coloured(code: str, language: str = "python") -> str:
    """Code as <pre> with classes; the colours are in the page's style, for light and dark."""
    try:
        lexer = PythonLexer() if language == "python" else get_lexer_by_name(language)
    except ClassNotFound:
        return f"<pre>{html.escape(code)}</pre>"
    return f'<pre class="hl">{highlight(code, lexer, HtmlFormatter(nowrap=True)).rstrip()}</pre>'


def style() -> str:
    """Our CSS, and the colours of code: one set for light pages, one for dark."""
    light = HtmlFormatter(style="default").get_style_defs(".hl")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".hl")
    plain = re.compile(r"^(?:pre|td|span)\b.*\n|^\.hl \{.*\n", re.MULTILINE)
    return (f"{(HERE / 'page/page.css').read_text(encoding='utf-8')}\n{plain.sub('', light + chr(10))}\n"
            f"@media (prefers-color-scheme: dark) {{\n{plain.sub('', dark + chr(10))}\n}}")


def markdown() -> MarkdownIt:
    """Markdown as notebooks use it: CommonMark, tables, formulas, raw HTML."""
    md = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    md.use(dollarmath_plugin, allow_space=False, allow_digits=False, double_inline=True, allow_labels=False,
           renderer=lambda text, options: formula(text, options["display_mode"]))
    md.add_render_rule("fence", lambda self, tokens, at, options, env:
                       f'<div class="code">{coloured(tokens[at].content, tokens[at].info.split(" ")[0] or "text")}</div>\n')
    md.add_render_rule("table_open", lambda *_: '<div class="wide"><table>\n')
    md.add_render_rule("table_close", lambda *_: "</table></div>\n")
    md.add_render_rule("math_block", lambda self, tokens, at, options, env:
                       f'<div class="equation">{formula(tokens[at].content, True)}</div>\n')
    md.add_render_rule("math_inline", lambda self, tokens, at, options, env:
                       f'<span class="formula">{formula(tokens[at].content, False)}</span>')
    md.add_render_rule("math_inline_double", lambda self, tokens, at, options, env:
                       f'<span class="equation" style="display:block">{formula(tokens[at].content, True)}</span>')
    return md


def slug(text: str) -> str:
    """The anchor that Jupyter gives a heading: its text with - for blanks."""
    return re.sub(r"\s", "-", text.strip())


def text_cell(md: MarkdownIt, cell, folder: Path, own: dict[str, bytes]) -> str:
    """A Markdown cell; pictures embedded (of this run where it made them), links to notebooks turned into links to pages."""
    page = md.render(cell.source)

    def anchored(match):
        anchor = slug(html.unescape(re.sub("<[^>]+>", "", match[2])))
        return f'<h{match[1]} id="{html.escape(anchor)}">{match[2]}</h{match[1]}>'
    page = re.sub(r"<h([1-6])>(.*?)</h\1>", anchored, page)

    def link(match):
        target = html.unescape(match[2])
        if match[1] == "src" and not urlparse(target).scheme:
            return f'src="{embedded(folder / target, own.get(Path(target).name))}"'
        if match[1] == "href" and not urlparse(target).scheme and ".ipynb" in target:
            return f'href="{html.escape(target.replace(".ipynb", ".html"))}"'
        return match[0]
    return re.sub(r'\b(src|href)="([^"]*)"', link, page)


def embedded(file: Path, fresh: bytes | None = None) -> str:
    """A picture (from its file, or fresh) as a data address."""
    if fresh is None and not file.exists():
        raise ValueError(f"picture {file} does not exist; build the chapter")
    ending = {".svg": "svg+xml", ".jpg": "jpeg"}.get(file.suffix, file.suffix[1:])
    return f"data:image/{ending};base64,{base64.b64encode(fresh or file.read_bytes()).decode()}"


def output(md: MarkdownIt, out, quiet: bool) -> str:
    """One output; of several forms the richest. A quiet page (a lesson) leaves out lines that differ between machines."""
    made = out.get("metadata", {}).get("rlhf", {})
    if out.output_type == "stream":
        seen = "\n".join(line for line in out.text.rstrip().splitlines() if not (quiet and line.startswith("  measured:")))
        return f'<div class="out"><pre>{html.escape(seen)}</pre></div>'
    if out.output_type == "error":
        return f'<div class="out"><pre>{html.escape(f"{out.ename}: {out.evalue}")}</pre></div>'
    data = out.get("data", {})
    if "claim" in made:
        return f'<div class="claim">{html.escape(data.get("text/plain", ""))}</div>'
    if "quote" in made:
        return ""
    if "text/html" in data:
        return f'<div class="out markup">{data["text/html"]}</div>'
    for form in ("image/svg+xml", "image/png"):
        if form in data:
            about = out.metadata.get(form, {})
            alt = html.escape(about.get("alt") or data.get("text/plain", ""), quote=True)
            raw = data[form] if form == "image/png" else base64.b64encode(data[form].encode()).decode()
            width = f' width="{int(about["width"])}"' if about.get("width") else ""
            return f'<div class="out picture"><img src="data:{form};base64,{"".join(raw.split())}" alt="{alt}"{width}></div>'
    if "text/markdown" in data:
        return f'<div class="out text">{md.render(data["text/markdown"])}</div>'
    return f'<div class="out"><pre>{html.escape(data["text/plain"])}</pre></div>' if data.get("text/plain") else ""


def code_cell(md: MarkdownIt, cell, hero: bytes | None, quiet: bool) -> str:
    """Code and outputs; a folded cell's code is a closed <details>, and the hero is not shown a second time."""
    tags = cell.metadata.get("tags", [])
    outputs = list(cell.get("outputs", []))
    if "hero" in tags and hero is not None and png_of(cell) == hero:
        outputs = [o for o in outputs if "image/png" not in o.get("data", {})]
    moves = any("rlhf-explorer" in o.get("data", {}).get("text/html", "") for o in outputs)
    shown = ""
    for out in outputs:
        made = output(md, out, quiet)
        shown += f"<noscript>{made}</noscript>" if moves and "image/png" in out.get("data", {}) else made  # it replaces the still
    if "hero" in tags and "hide-input" in tags and not shown:
        return ""
    code = f'<div class="code">{coloured(cell.source)}</div>' if cell.source.strip() else ""
    if "hide-input" in tags:
        return f'{shown}<details class="folded"><summary>code of this cell</summary>{code}</details>\n'
    return f"{code}{shown}\n"


def page(nb, path: Path) -> str:
    """An executed notebook of this path -> one HTML page. Raises ValueError for a formula or file it cannot show."""
    md, parts, own = markdown(), [], figures(nb, path)
    first = "\n".join(c.source for c in nb.cells[:3] if c.cell_type == "markdown")
    shown = re.search(r"\]\((?:\.\./)?figures/(\d\d_(?:deeper_)?hero\.png)\)", first)
    hero = own.get(shown[1]) if shown else None
    for cell in nb.cells:
        parts.append(text_cell(md, cell, path.parent, own) if cell.cell_type == "markdown" else
                     code_cell(md, cell, hero, kind(path) == "lesson"))
    title = re.search(r"^# (.+)$", nb.cells[0].source, re.MULTILINE) if nb.cells else None
    return ('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(title[1] if title else 'Chapter')}</title>\n<style>\n{style()}\n</style>\n</head>\n"
            f"<body>\n<main>\n{''.join(parts)}</main>\n</body>\n</html>\n")


def export(path: Path, root: Path = ROOT, *, nb=None, folder: Path | None = None) -> Path:
    """Write build/html/[deeper/]NN_slug.html from a notebook -> the page's path."""
    out = (folder or root / "build/html") / f"{name(path)}.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(nb or nbformat.read(path, as_version=4), path), encoding="utf-8")
    return out


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*")
    parser.add_argument("--deeper", action="store_true", help="the deeper notebooks of these chapters too")
    parser.add_argument("--root", type=Path, default=ROOT)
    args, failed = parser.parse_args(words), 0
    for path in notebooks(args.root, args.chapters, deeper=args.deeper):
        try:
            made = export(path, args.root)
            print(f"{made.relative_to(args.root)} ({kind(path)}, {made.stat().st_size / 1e6:.1f} MB)")
        except ValueError as error:
            failed += 1
            print(f"{name(path)}: {error}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
