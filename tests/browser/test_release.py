"""The release: one zip whose site opens and whose wheel holds the models."""

import json
import zipfile
from pathlib import Path

import pytest

from tests.browser.test_pages import Opened
from tools import make_release

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def zipped(site, tmp_path_factory):
    """The contents of a release, of a site that was built before."""
    folder = tmp_path_factory.mktemp("release")
    file = folder / "a.zip"
    (folder / "made").mkdir()
    with zipfile.ZipFile(file, "w") as out:
        for place, path in make_release.contents(folder / "made", ROOT, site).items():
            out.write(path, place)
    return file


def test_it_holds_everything_and_opens_from_a_disk(browser, zipped, tmp_path):
    assert make_release.missing(zipped, ROOT) == []
    with zipfile.ZipFile(zipped) as opened:
        opened.extractall(tmp_path)
    for page in ("site/index.html", "pages/17_over_optimization.html"):
        assert Opened(browser, tmp_path / page).quiet(), page
    begin = (tmp_path / "BEGIN.md").read_text()
    assert next(tmp_path.glob("*.whl")).name in begin and "{" not in begin


def test_a_release_that_lacks_something_is_named(zipped, tmp_path):
    with zipfile.ZipFile(zipped) as whole, zipfile.ZipFile(tmp_path / "half.zip", "w") as half:
        for name in whole.namelist():
            if name not in ("BEGIN.md", "chapters/17_over_optimization.ipynb") and not name.endswith(".whl"):
                half.writestr(name, whole.read(name))
    lacks = make_release.missing(tmp_path / "half.zip", ROOT)
    assert {"BEGIN.md", "chapters/17_over_optimization.ipynb", "a wheel"} <= set(lacks) and any("safetensors" in x for x in lacks)


def test_launch_files_name_what_is_there():
    found = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert found["postCreateCommand"] == "make setup" and "\nsetup:" in (ROOT / "Makefile").read_text()
    for line in (ROOT / "binder/requirements.txt").read_text().splitlines():
        if line.startswith(("-r", "-c")):
            assert (ROOT / "binder" / line.split()[1]).resolve().exists(), line
    assert (ROOT / "binder/runtime.txt").read_text().strip() == "python-3.11"
