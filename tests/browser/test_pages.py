"""An exported lesson in a real browser: it opens from a file, needs nobody else, moves and answers. Skipped where there is none."""

import re

import nbformat
import pytest

from tests.fixtures.demo import make_repository
from tools import build, export

WIDTHS = (1280, 400)


@pytest.fixture(scope="session")
def lesson(tmp_path_factory):
    """The demonstration lesson, executed and exported -> its page."""
    root = make_repository(tmp_path_factory.mktemp("pages"))
    assert build.build(build.sources(root, ["90"])[0], root) == ""
    return export.export(root / "chapters/90_demo.ipynb", root)


class Opened:
    """A page, with what it asked for and what it complained about."""

    def __init__(self, browser, file, width=1280, **more):
        self.page = browser.new_page(viewport={"width": width, "height": 900}, **more)
        self.asked, self.errors = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(file.as_uri())

    def quiet(self):
        """No error, and nothing asked of another host."""
        away = [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))]
        return not self.errors and not away and bool(self.asked)

    def too_wide(self):
        """Does the page scroll sideways? -> what sticks out"""
        return self.page.evaluate("""() => {
            const wide = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= wide) return [];
            return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > wide + 1)
                .slice(0, 5).map(e => e.tagName + ' ' + e.className + ' ' + e.textContent.slice(0, 60)); }""")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_lesson_opens_quietly_and_fits(browser, lesson, width):
    opened = Opened(browser, lesson, width)
    assert opened.quiet(), (opened.asked, opened.errors)
    assert opened.too_wide() == []
    text = opened.page.inner_text("body")
    assert opened.page.locator("math").count() >= 2 and "$" not in text and "\\begin" not in text and "<!--" not in text
    assert all(opened.page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 0 && i.alt.length > 9)"))
    opened.page.close()


def test_dark_pages_are_dark_and_light_pages_light(browser, lesson):
    light, dark = (Opened(browser, lesson, color_scheme=scheme).page for scheme in ("light", "dark"))

    def brightness(page, what):
        colour = page.evaluate(f"getComputedStyle(document.body).{what}")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3
    assert brightness(light, "backgroundColor") > 200 > 100 > brightness(light, "color")
    assert brightness(dark, "backgroundColor") < 60 < 180 < brightness(dark, "color")


def test_code_of_folded_cells_is_closed_and_opens(browser, lesson):
    page = Opened(browser, lesson).page
    folded = page.locator("details.folded").first
    assert not folded.locator("pre").is_visible()
    folded.locator("summary").press("Enter")
    assert folded.locator("pre").is_visible()


def test_an_explorer_moves_by_keyboard(browser, lesson):
    opened = Opened(browser, lesson, 400)
    explorer = opened.page.locator(".rlhf-explorer").first
    slider, frame, words = explorer.locator("input[type=range]"), explorer.locator("img"), explorer.locator(".words")
    assert slider.bounding_box()["x"] + slider.bounding_box()["width"] <= 400
    seen = set()
    slider.focus()
    slider.press("Home")
    for _ in range(5):
        seen.add((frame.get_attribute("src"), words.inner_text()))
        slider.press("ArrowRight")
    assert len(seen) == 5 and len({words for _, words in seen}) == 5
    slider.press("Home")
    assert (frame.get_attribute("src"), words.inner_text()) in seen and opened.quiet()
    assert opened.too_wide() == []


def test_a_prediction_is_answered(browser, lesson):
    opened = Opened(browser, lesson)
    asked, settled = opened.page.locator(".rlhf-predict").first, opened.page.locator(".rlhf-settled").first
    assert settled.locator(".yours").inner_text() == ""
    asked.locator("input[value=a]").check()
    assert settled.locator(".yours").inner_text() == "You predicted (a)."
    asked.locator("input[value=b]").focus()
    opened.page.keyboard.press("Space")
    assert settled.locator(".yours").inner_text() == "You predicted this." and opened.quiet()


def test_the_checks_of_a_page_see_faults(browser, tmp_path):
    """Negative control: a page that asks another host, throws, and is too wide."""
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(
        '# 1 · Bad\n\n<img src="https://example.invalid/x.png" alt="an image from elsewhere">\n'
        '<div style="width:900px">wide</div>\n<script>throw Error("no")</script>')])
    path = tmp_path / "bad.html"
    path.write_text(export.page(nb, tmp_path / "01_bad.ipynb"))
    opened = Opened(browser, path, 400)
    assert not opened.quiet() and any("no" in error for error in opened.errors) and opened.too_wide()
    assert any("example.invalid" in url for url in opened.asked)
