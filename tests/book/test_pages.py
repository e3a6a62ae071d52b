"""What a page shows: tables, cards, predictions, sources. The text twin says the same as the HTML."""

import re
from html.parser import HTMLParser

import numpy
import pytest
import torch

from rlhf_minimal import book
from rlhf_minimal.book import output, questions, source, tables
from rlhf_minimal.direct_alignment import dpo_loss
from rlhf_minimal.sampling import Rollout


@pytest.fixture
def page(monkeypatch):
    """What was displayed: [(data, metadata)]."""
    seen = []
    monkeypatch.setattr(output, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata=None: seen.append((data, metadata)))
    return seen


class Balanced(HTMLParser):
    """Fails on a tag that is not closed, and on a quote that ends an attribute too early."""

    def __init__(self, markup):
        super().__init__()
        self.open, self.attributes, self.words = [], [], []
        self.feed(markup)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        assert all(re.fullmatch(r"[a-z-]+", name) for name, _ in attrs), attrs
        if tag not in ("input", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_html_test_sees_a_broken_attribute_and_an_open_tag():
    for bad in ("<div style='font:'DejaVu',serif'></div>", "<div><b></div>"):
        with pytest.raises(AssertionError):
            Balanced(bad)


def test_outside_a_notebook_the_plain_text_is_printed(capsys):
    book.table({"a": {"x": 1.0}})
    book.cards("Who?", [("base", "A fox.", 1.0)])
    assert capsys.readouterr().out == "      x\na  1.00\nPROMPT  Who?\n  base  A fox.   [true reward 1.0]\n"


@pytest.mark.parametrize("value, digits, text", [
    (1 / 3, 2, "0.33"), (-1.0, 1, "−1.0"), (-0.001, 2, "0.00"), (0.314, "%", "31 %"), (1234.5, 1, "1,234.5"), (64, 2, "64"),
    (True, 2, "yes"), (numpy.bool_(False), 2, "no"), (None, 2, "–"), ("3 of 4", 2, "3 of 4"), ((0.5, 0.04), 2, "0.50 ± 0.04"),
    ((0.5, 0.04), "%", "50 ± 4 %"), (torch.tensor(0.25), 2, "0.25"), (numpy.float32(0.5), 3, "0.500"), (-12, 2, "−12"),
])
def test_numbers_as_a_reader_wants_them(value, digits, text):
    assert tables.number(value, digits) == text


ROWS = {"SFT": {"gold": 1.234, "refused": 0.22, "n": 64}, "PPO & co": {"gold": (2.5, 0.25), "refused": 0.99, "n": 1200},
        "none": {"gold": None, "refused": 0.22}}


def test_a_table_says_the_same_in_text_and_html(page):
    book.table(ROWS, digits={"refused": "%"}, best={"gold": "high", "refused": "low"}, note="± standard error", corner="model")
    data, _ = page[0]
    assert data["text/plain"].splitlines() == [
        "model             gold  refused      n", "SFT               1.23    22 %*     64",
        "PPO & co  2.50 ± 0.25*     99 %  1,200", "none                 –    22 %*      –", "± standard error",
        "* best of its column"]
    found = Balanced(data["text/html"])
    assert "PPO & co" in found.words and "overflow-x:auto" in data["text/html"]
    bold = re.findall(r"<td style='[^']*font-weight:700;'>([^<]*)", data["text/html"])
    assert bold == ["22 %", "2.50 ± 0.25", "22 %"]


def test_three_forms_of_rows_make_one_table(page):
    book.table({"a": {"x": 1.0, "y": 2}, "b": {"x": 3.0, "y": 4}})
    book.table({"a": [1.0, 2], "b": [3.0, 4]}, ["x", "y"])
    book.table([{"": "a", "x": 1.0, "y": 2}, {"": "b", "x": 3.0, "y": 4}])
    assert page[0] == page[1] == page[2]


def test_a_table_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="row 'a' has 1 values for 2 columns"):
        book.table({"a": [1.0]}, ["x", "y"])
    with pytest.raises(ValueError, match="columns"):
        book.table({"a": [1.0]})
    for best in ({"z": "high"}, {"x": "most"}):
        with pytest.raises(ValueError, match='"high" or "low"'):
            book.table({"a": {"x": 1.0}}, best=best)


def test_cards_stack_escape_and_shorten(page):
    book.cards("Is 1 < 2?", {"base": "<b>" + "word " * 100, "SFT": ("Yes.", -1.25), "PPO": ("", 3)}, limit=40)
    data, _ = page[0]
    found = Balanced(data["text/html"])
    assert "flex-wrap:wrap" in data["text/html"] and not any("<b>word" in a for a in found.attributes)
    assert "Is 1 < 2?" in found.words and "true reward −1.2" in found.words and "(nothing)" in found.words
    assert data["text/plain"].splitlines()[1] == "  base  <b>word word word word word word word …"
    assert data["text/plain"].splitlines()[2] == "  SFT   Yes.   [true reward −1.2]"
    book.cards("Who?", [("score -1.5", "Ada."), ("gpt-2", "Dan.")])
    assert "score −1.5" in page[1][0]["text/plain"] and "gpt-2" in page[1][0]["text/plain"]


def test_a_table_of_texts_names_every_model_and_score(page):
    book.texts_table(["p", "q"], {"a": ["one", "two"], "b": ["three", "four"]}, {"a": [1, 2], "b": [-3, 0.25]})
    data, _ = page[0]
    words = Balanced(data["text/html"]).words
    assert {"request", "a", "b", "−3.0", "0.2"} <= set(words)
    assert "  b: four [0.2]" in data["text/plain"].splitlines()
    book.texts_table(["p"], {"a": ["one"]})
    assert page[1][0]["text/plain"] == "PROMPT  p\n  a: one"


# --- predictions ------------------------------------------------------------------------------------------------------
def test_a_prediction_has_buttons_and_a_plain_list_and_no_answer(page):
    book.predict("What falls?", a="the \"chosen\" one", b="the rejected one")
    data, metadata = page[0]
    found = Balanced(data["text/html"])
    assert data["text/plain"] == "What falls?\n  (a) the \"chosen\" one\n  (b) the rejected one"
    assert [v for n, v in found.attributes if n == "value"] == ["a", "b"] and metadata == {}
    assert len({v for n, v in found.attributes if n == "name"}) == 1
    first = data["text/html"]
    book.settled("b", "It does.")
    assert page[1][0]["text/plain"] == "The prediction settled: (b) It does."
    book.predict("What falls?", a="the \"chosen\" one", b="the rejected one")
    assert page[2][0]["text/html"] == first  # settling it tells the next page nothing
    name = re.search(r"name='(\w+)'", first)[1]
    assert f"data-settles='{name}'" in page[1][0]["text/html"]


def test_a_prediction_refuses_odd_options(page, monkeypatch):
    for options in ({}, {"a": "x"}, {"a": "x", "c": "y"}, {"b": "x", "a": "y"}):
        with pytest.raises(ValueError, match="two to five"):
            book.predict("?", **options)
    book.predict("?", a="x", b="y")
    with pytest.raises(ValueError, match="options a, b"):
        book.settled("c", "no")
    monkeypatch.setattr(questions, "_last", {})
    with pytest.raises(ValueError, match="none"):
        book.settled("a", "no prediction yet")


# --- source -----------------------------------------------------------------------------------------------------------
def check_shapes(x):
    """Named as the package names its checks."""


def example(x, y=2, *,
            z=3):
    """A docstring.

    Of two paragraphs.
    """
    check_shapes(x)
    if y < 0:
        raise ValueError("y")
    # the formula
    total = x * y
    if total < 0:
        raise ValueError("below zero")
    return total + z


def only_a_check(x):
    check_shapes(x)


def test_the_body_has_no_docstring_and_no_validation():
    assert source.body(example).splitlines() == [
        "def example(x, y=2, *,", "            z=3):", "    # the formula", "    total = x * y", "    if total < 0:",
        '        raise ValueError("below zero")', "    return total + z"]
    assert source.body(only_a_check) == "def only_a_check(x):\n    check_shapes(x)"
    assert source.body(Rollout).startswith("@dataclass") or "class Rollout" in source.body(Rollout)


def test_show_source_is_live_folded_and_highlighted(page):
    book.show_source(dpo_loss, book.every)
    data, _ = page[0]
    plain = data["text/plain"]
    assert plain.startswith("# rlhf_minimal.direct_alignment\ndef dpo_loss(")
    assert "# rlhf_minimal.book.notebook\ndef every(" in plain
    assert "logsigmoid" in plain and '"""' not in plain and "check_pairs" not in plain
    found = Balanced(data["text/html"])
    text = "".join(found.words)
    assert data["text/html"].count("<details") == 2 and "<pre" in data["text/html"] and "color: #" in data["text/html"]
    assert "losses = -F.logsigmoid(margin) * (1 - label_smoothing)" in text
    book.show_source(dpo_loss, whole=True)
    assert '"""' in page[1][0]["text/plain"] and "check_pairs" in page[1][0]["text/plain"]


# --- the package's door -----------------------------------------------------------------------------------------------
def test_every_name_that_a_lesson_imports_is_there():
    for name in book.__all__:
        assert getattr(book, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        book.nonsense  # noqa: B018


def test_importing_the_book_loads_neither_torch_nor_matplotlib():
    import subprocess
    import sys
    code = "import sys, rlhf_minimal.book; print([m for m in ('torch', 'matplotlib', 'IPython') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_figure_is_stored_at_double_resolution_with_its_own_alt(page):
    from rlhf_minimal.book import drawings
    fig = drawings.pipeline()
    width = fig.get_figwidth()
    book.show(fig, role="still")
    data, metadata = page[0]
    import base64
    import io

    from PIL import Image
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert image.size[0] == pytest.approx(200 * width, abs=1) and metadata["image/png"]["width"] == round(100 * width)
    assert metadata["image/png"]["alt"] == data["text/plain"] == drawings.pipeline().alt
    assert metadata["rlhf"] == {"role": "still"}
    with pytest.raises(ValueError, match="40–300"):
        from rlhf_minimal.book.plots import plt
        book.show(plt.figure())  # no alt anywhere
