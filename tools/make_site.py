"""The site: `python -m tools.make_site` writes build/site/, which opens from a disk and asks no other host for anything.

Lessons and deeper notebooks as they are stored (nothing is executed), the package's reference from its docstrings, a sheet
of all losses, traps, equations, claims, costs, proofs, models, speed. Sphinx with myst-nb: full-text search, light and dark.
Links are checked while it is built, and a warning ends it.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

import nbformat

from rlhf_minimal import MODULES
from rlhf_minimal.train.algorithms import TABLE

from .chapters import kind, notebooks
from .execute import ROOT
from .quotes import png_of

HERE = Path(__file__).resolve().parent
PAGES = {  # part of the table of contents: pages, as they lie in the project
    "Use it": ["docs/commands.md", "rlhf_minimal/README.md", "CONTRIBUTING.md"],
    "Proved and measured": ["docs/equations.md", "docs/traps.md", "rlhf_minimal/evaluate/proofs.md", "chapters/status/claims.md",
                            "chapters/status/ledger.md", "benchmarks/oracle.md", "benchmarks/speed.md", "benchmarks/lora_memory.md",
                            "docs/models.md", "docs/outline.md"]}
LINK = re.compile(r"(?<!\!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
HREF = re.compile(r'<a href="([^"]+)">(.*?)</a>', re.DOTALL)
FENCE = re.compile(r"(^```.*?^```\s*$)", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!-- /?(?:out|edition|costs|nav|solution|fact|quote)\b[^>]*-->\n?")
ASKS = re.compile(r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=["'](?:https?:)?//"""
                  r"""|<link\b[^>]*\bhref=["'](?:https?:)?//|@import|url\(["']?(?:https?:)?//""")


def anchor(text: str) -> str:
    """The site's name of a heading, from the heading or from the name that Jupyter gives it: letters and digits with - between.

    >>> anchor("Idea 1: Is it right?") == anchor("Idea-1:-Is-it-right?") == "idea-1-is-it-right"
    True
    """
    return re.sub(r"[^a-z0-9]+", "-", unquote(text).lower()).strip("-") or "part"


def relinked(text: str, page: Path, known: set[Path], root: Path = ROOT) -> str:
    """Markdown whose links lead to pages of the site: files of the package to its reference, other files to no link at all."""
    def to(target: str) -> str | None:
        if urlparse(target).scheme:
            return target
        file, hash_, place = target.partition("#")
        path = Path(os.path.normpath(page.parent / unquote(file))) if file else page
        if path not in known:
            parts = path.relative_to(root).with_suffix("").parts if path.is_relative_to(root) else ()
            if len(parts) < 2 or parts[0] != "rlhf_minimal" or parts[1] not in MODULES:
                return None
            return os.path.relpath(root / f"reference/{parts[1]}.md", page.parent)
        return file + (hash_ + anchor(place) if place else "")

    def link(match):
        target = to(match[2])
        return f"[{match[1]}]({target})" if target else match[1]

    def href(match):
        target = to(match[1])
        if target and not urlparse(target).scheme:
            target = re.sub(r"[.](ipynb|md)(?=#|$)", ".html", target)
        return f'<a href="{target}">{match[2]}</a>' if target else match[2]

    parts = FENCE.split(text)
    return "".join(part if i % 2 else HREF.sub(href, LINK.sub(link, part)) for i, part in enumerate(parts))


def readable(nb, path: Path):
    """An executed notebook as the site shows it: without lines that only tests need, the hero once, explorers instead of stills."""
    hero = None
    for cell in nb.cells:
        if "hero" in cell.metadata.get("tags", []):
            hero = png_of(cell)
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        moves = any("rlhf-explorer" in o.get("data", {}).get("text/html", "") for o in cell.outputs)
        kept = []
        for out in cell.outputs:
            data = out.get("data", {})
            if out.output_type == "stream":
                out.text = "".join(f"{line}\n" for line in out.text.splitlines() if not line.startswith("  measured:"))
                if not out.text.strip():
                    continue
            if "quote" in out.get("metadata", {}).get("rlhf", {}) or ("image/png" in data and moves):
                continue
            if hero is not None and kind(path) == "lesson" and "hero" in cell.metadata.get("tags", []) and "image/png" in data:
                continue
            kept.append(out)
        cell.outputs = kept
    return nb


def reference(name: str, root: Path = ROOT) -> str:
    """A page of one module, or of a folder of modules: every public function and class, its signature and its docstring."""
    base = root / "rlhf_minimal" / name
    files = [base.with_suffix(".py")]
    if base.is_dir():
        files = [path for path in sorted(base.rglob("*.py")) if "exercises" not in path.parts]
    out, level = [f"# `rlhf_minimal.{name}`", ""], "###" if base.is_dir() else "##"
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        dotted = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if base.is_dir() and (ast.get_docstring(tree) or "").strip():
            out += [f"## `{dotted}`", ""]
        if doc := ast.get_docstring(tree):
            out += ["```text", doc, "```", ""]
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_") and ast.get_docstring(node):
                out += [f"{level} `{node.name}`", "", "```python", signature(node), "```", ""]
                out += ["```text", ast.get_docstring(node), "```", ""]
    return "\n".join(out)


def signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """The line that defines a function or class, without its body."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(b) for b in node.bases)
        return f"class {node.name}" + (f"({bases})" if bases else "")
    back = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    whole = f"def {node.name}({ast.unparse(node.args)}){back}"
    return whole if len(whole) <= 88 else whole.replace(f"{node.name}(", f"{node.name}(\n    ", 1)


def losses() -> str:
    """The sheet of all losses: what each minimises, what it learns from, where it stands."""
    out = ["# All losses on one page", "", "Made from the table of algorithms of `python -m rlhf_minimal train`. "
           "h is the difference of log-ratios, (log π(chosen) − log ref(chosen)) − (log π(rejected) − log ref(rejected)); "
           "ρ the ratio to the policy that sampled.", "",
           "| algorithm | what it is | minimises | learns from | function | chapter | paper |", "|---|---|---|---|---|---|---|"]
    for a in TABLE:
        paper = f"[{a.paper}](https://arxiv.org/abs/{a.paper})" if a.paper[0].isdigit() else a.paper
        cells = [f"`{a.name}`", a.sentence, f"`{a.minimises}`", a.rows, f"`{a.loss}`", str(a.chapter), paper]
        out.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(out) + "\n"


def title_of(nb) -> str:
    """The first heading."""
    return re.search(r"^# (.+)$", nb.cells[0].source, re.MULTILINE)[1]


def assemble(target: Path, root: Path = ROOT) -> None:
    """Write all pages and the settings into `target`, which is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    pages = [root / page for group in PAGES.values() for page in group]
    books = notebooks(root, deeper=True)
    known = {p.resolve() for p in [*pages, *books]}
    known |= {p for p in (root / "chapters/figures").glob("*.png")}
    titles = {}
    for path in books:
        nb = readable(nbformat.read(path, as_version=4), path)
        titles[path] = title_of(nb)
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                cell.source = COMMENT.sub("", relinked(cell.source, path, known))
        place = target / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, place)
    for path in pages:
        place = target / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(COMMENT.sub("", relinked(path.read_text(encoding="utf-8"), path, known)), encoding="utf-8")
    (target / "reference").mkdir()
    for name in MODULES:
        (target / f"reference/{name}.md").write_text(reference(name, root), encoding="utf-8")
    (target / "losses.md").write_text(losses(), encoding="utf-8")
    (target / "index.md").write_text(front(books, titles, root), encoding="utf-8")
    shutil.copytree(root / "chapters/figures", target / "chapters/figures")
    (target / "_static").mkdir()
    shutil.copy(HERE / "site/site.css", target / "_static/site.css")
    shutil.copy(HERE / "site/conf.py", target / "conf.py")


def front(books: list[Path], titles: dict[Path, str], root: Path) -> str:
    """The first page: what this is, and the table of contents."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    picture = re.search(r"!\[[^\]]*\]\([^)]*\)", readme)[0]
    claim = re.search(r"^\*\*(.+?)\*\*", readme.split("\n\n", 2)[2], re.DOTALL)[1].replace("\n", " ")
    lessons, deeper = ([p for p in books if kind(p) == k] for k in ("lesson", "deeper"))

    def toc(caption: str, entries: list[str], *more: str) -> str:
        return "\n".join(["```{toctree}", f":caption: {caption}", ":maxdepth: 1", *more, "", *entries, "```", ""])

    def entry(path: Path) -> str:
        return f"{titles[path]} <{path.relative_to(root).with_suffix('')}>"

    return "\n".join([
        "# RLHF, executed", "", picture, "", f"**{claim}**", "",
        "A companion to Nathan Lambert's open book [Reinforcement Learning from Human Feedback](https://rlhfbook.com): lessons "
        "that run on a laptop, and a small PyTorch package. Every page here shows what its notebook printed; sliders move "
        "without a kernel. "
        f"Begin with [{titles[lessons[0]]}]({lessons[0].relative_to(root)}).", "",
        toc("Lessons", [entry(p) for p in lessons]), toc("Deeper", [entry(p) for p in deeper]),
        toc("Use it", ["Session: your rows to a judged model <docs/commands>", "All losses on one page <losses>",
                       "Tour of the package <rlhf_minimal/README>", "Contribute <CONTRIBUTING>"]),
        toc("Proved and measured", [str(Path(p).with_suffix("")) for p in PAGES["Proved and measured"]]),
        toc("Reference", [f"reference/{name}" for name in MODULES], ":hidden:")])


def asking(folder: Path) -> list[str]:
    """Places in the built pages and styles that would ask another host for something."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".html", ".css")):
        found += [f"{path.relative_to(folder)}: {m[0][:80]}" for m in ASKS.finditer(path.read_text(encoding="utf-8"))]
    return found


def build(root: Path = ROOT, out: Path | None = None) -> Path:
    """Assemble and build -> the folder of the site. Raises SystemExit with Sphinx's warnings, or where a page asks another host."""
    source, out = root / "build/site-source", out or root / "build/site"
    assemble(source, root)
    shutil.rmtree(out, ignore_errors=True)
    call = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(root / "build/site-cache")]
    env = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([*call, str(source), str(out)], cwd=root, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit("the site has warnings:\n" + "\n".join(done.stderr.splitlines()[:80]))
    if found := asking(out):
        raise SystemExit("pages ask other hosts:\n" + "\n".join(found[:20]))
    return out


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT)
    out = build(parser.parse_args(words).root)
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 1e6
    print(f"{out / 'index.html'}: {len(list(out.rglob('*.html')))} pages, {size:.0f} MB")


if __name__ == "__main__":
    main()
