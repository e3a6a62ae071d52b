"""One headless browser for all tests of this folder: two drivers in one process would meet in one event loop."""

import shutil
from pathlib import Path

import pytest

from tools import make_site

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium of this machine."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser here ({', '.join(BROWSERS)}): pages, explorers and predictions were not tried in one")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pages were not tried in a browser")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site of this checkout, built once."""
    return make_site.build(Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("site") / "html")
