"""The site: built without a warning, asks nobody, is found through its search, moves, and fits a phone."""

import re
from pathlib import Path

import pytest

from tests.browser.test_pages import Opened
from tools import make_site

ROOT = Path(__file__).resolve().parents[2]
SOME = ("index", "chapters/04_training_overview", "chapters/17_over_optimization", "chapters/deeper/11_policy_gradients", "losses",
        "reference/ppo", "docs/traps", "docs/equations", "chapters/status/claims", "docs/commands", "benchmarks/speed")


@pytest.mark.parametrize("width", (1280, 360))
def test_pages_open_quietly_and_fit(browser, site, width):
    for name in SOME:
        opened = Opened(browser, site / f"{name}.html", width)
        assert opened.quiet(), (name, opened.asked, opened.errors)
        assert opened.too_wide() == [], name
        assert all(opened.page.evaluate("[...document.querySelectorAll('article img')].map(i => i.naturalWidth > 0)")), name
        opened.page.close()


def test_text_at_twice_the_size_does_not_scroll_sideways(browser, site):
    opened = Opened(browser, site / "chapters/17_over_optimization.html", 640)  # 1280 at 200 %
    assert opened.too_wide() == []
    opened.page.close()


def test_the_search_finds_words_of_lessons_and_reference(browser, site):
    opened = Opened(browser, site / "search.html")
    for asked, wanted in (("clip fraction", ".html"), ("importance ratio clip", "reference/"), ("over-refusal", "chapters/")):
        opened.page.goto(f"{(site / 'search.html').as_uri()}?q={asked.replace(' ', '+')}")
        opened.page.wait_for_selector("ul.search li a", timeout=8000)
        opened.page.wait_for_timeout(500)
        found = opened.page.eval_on_selector_all("ul.search li > a", "links => links.map(a => a.href)")
        assert any(wanted in link for link in found), (asked, found[:5])
    opened.page.goto(f"{(site / 'search.html').as_uri()}?q=xylophonequartz")  # the control: a word that is nowhere
    opened.page.wait_for_timeout(800)
    assert opened.page.locator("ul.search li a").count() == 0
    opened.page.close()


def test_a_slider_moves_without_a_kernel(browser, site):
    page = next(p for p in sorted((site / "chapters").glob("[0-9]*.html")) if 'type="range"' in p.read_text(encoding="utf-8")
                or "type='range'" in p.read_text(encoding="utf-8"))
    opened = Opened(browser, page)
    slider = opened.page.locator("input[type=range]").first
    before = opened.page.locator(".rlhf-explorer").first.inner_html()
    slider.focus()
    opened.page.keyboard.press("ArrowRight")
    opened.page.wait_for_timeout(200)
    after = opened.page.locator(".rlhf-explorer").first.inner_html()
    if before == after:  # it stood at its right end
        opened.page.keyboard.press("ArrowLeft")
        opened.page.keyboard.press("ArrowLeft")
        after = opened.page.locator(".rlhf-explorer").first.inner_html()
    assert before != after and not opened.errors
    opened.page.close()


def test_formulas_are_formulas_on_every_lesson(site):
    for page in sorted((site / "chapters").rglob("[0-9]*.html")):
        text = page.read_text(encoding="utf-8")
        prose = re.sub(r"<(pre|script|style)\b.*?</\1>|<!--.*?-->", "", text, flags=re.DOTALL)
        assert not re.search(r"\$\$|\\frac|\\mathbb|<!-- out", prose), page.name
        assert "<math" in text, page.name


def test_dark_pages_are_dark(browser, site):
    opened = Opened(browser, site / "chapters/17_over_optimization.html", color_scheme="dark")
    colour = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert all(int(x) < 60 for x in re.findall(r"\d+", colour)[:3]), colour
    opened.page.close()


def test_what_asks_another_host_is_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="https://x.org">x</a><script src="/local.js"></script>')
    assert make_site.asking(tmp_path) == []
    for bad in ('<script src="https://x.org/a.js"></script>', '<link rel="stylesheet" href="//x.org/a.css">', "@import url(x)",
                '<img src="http://x.org/a.png">'):
        (tmp_path / "b.html").write_text(bad)
        assert len(make_site.asking(tmp_path)) == 1, bad


def test_links_lead_to_pages_of_the_site():
    page, known = ROOT / "docs/traps.md", {ROOT / "chapters/04_training_overview.ipynb"}
    text = ("[a](../rlhf_minimal/ppo.py) [b](../tests/test_ppo.py) [c](../chapters/04_training_overview.ipynb#Idea-1:-x) "
            '[d](https://x.org) <a href="../chapters/04_training_overview.ipynb#Idea-1:-x">e</a>\n```\n[f](../tests/no.py)\n```\n')
    made = make_site.relinked(text, page, known, ROOT)
    assert made == ("[a](../reference/ppo.md) b [c](../chapters/04_training_overview.ipynb#idea-1-x) [d](https://x.org) "
                    '<a href="../chapters/04_training_overview.html#idea-1-x">e</a>\n```\n[f](../tests/no.py)\n```\n')
