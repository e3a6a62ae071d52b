"""`extract/source.py`: what a definition needs, its text with a short docstring, and what cannot be copied."""

import textwrap

import pytest

from rlhf_minimal.extract import extraction, source


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that writes the files of a package, from texts, and makes it the one that is read."""
    def make(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return tmp_path

    (tmp_path / "extract").mkdir()
    (tmp_path / "extract/plain.py").write_text("")
    monkeypatch.setattr(source, "PACKAGE", tmp_path)
    source.read.cache_clear()
    yield make
    source.read.cache_clear()


def test_what_a_definition_needs(package):
    """Imports from outside and inside, neighbours, names in annotations; not its own locals, nor what only looks alike."""
    package(one="def g():\n    return 1\n", mod="""
        import math
        from torch import Tensor, nn

        from .one import g

        LIMIT, OTHER = 3, 4


        def near(x):
            return x


        def f(x: Tensor, most=LIMIT) -> float:
            near_by = math.pi
            def inner(nn):
                return near(nn)
            g()
            return inner(near_by)
    """)
    found = source.define(("mod", "f"))
    assert found.needs == {"LIMIT": ("mod", "LIMIT"), "g": ("one", "g"), "near": ("mod", "near")}
    assert found.imports == {"Tensor": ("torch", "Tensor"), "math": (None, "math")} and found.first == {"LIMIT"}
    assert source.find(("mod", "OTHER")) == ("mod", "LIMIT")  # one statement defines both


def test_what_has_to_exist_first_moves_up(package):
    """Base classes, default values and a constant's value; annotations can wait."""
    package(mod="""
        def a_loss(x: Late, fn=helper):
            return fn(x)


        class Late(Base):
            pass


        class Base:
            size: int = WIDTH


        WIDTH = 3


        def helper(x):
            return x
    """)
    places = [("mod", "a_loss")]
    assert [name for _, name in extraction.in_order(extraction.with_needs(places, {}), places)] == [
        "helper", "a_loss", "WIDTH", "Base", "Late"]


def test_a_definition_as_a_copied_file_shows_it(package):
    """The label and the paper as a comment, the comment above, a short docstring, no imports from the package."""
    package(equations="", one="def g():\n    return 1\n", mod='''
        from .equations import implements

        # Read this first.
        @implements("eq:one", "eq:two")
        def f(x) -> "int":
            """First line.

            x (B,): numbers. Raises ValueError for a NaN. More.

            Returns much. Smith et al. 2024, https://arxiv.org/abs/1234.5678

            >>> f(1)
            2
            """
            from .one import g

            return g() + x  # kept
    ''')
    assert source.define(("mod", "f")).text == textwrap.dedent('''
        # eq:one, eq:two, https://arxiv.org/abs/1234.5678
        # Read this first.
        def f(x) -> int:
            """First line.

            x (B,): numbers. More.
            """
            return g() + x  # kept
    ''').strip()


@pytest.mark.parametrize("long, short, whole", [
    ("One.", "One.", "One."),
    ("One.\n\nTwo.\n\n(B, T): three.", "One.\n\n(B, T): three.", "One.\n\nTwo.\n\n(B, T): three."),
    ("Raise ValueError unless all is well.\n\nValueError on a NaN.", "Raise ValueError unless all is well.",
     "Raise ValueError unless all is well."),
    ("One.\n\nAll losses raise ValueError for a NaN (see 1.5). Two.", "One.", "One.\n\nTwo."),
])
def test_docstrings_become_short(long, short, whole):
    assert (source.short(long), source.short(long, whole=True)) == (short, whole)


def test_a_folder_that_hands_a_name_on(package):
    folder = package(mod="from .box import g\n\n\ndef f():\n    return g()\n")
    (folder / "box").mkdir()
    (folder / "box/__init__.py").write_text("from .inner import g\n")
    (folder / "box/inner.py").write_text("def g():\n    return 1\n")
    assert list(extraction.with_needs([("mod", "f")], {})) == [("mod", "f"), ("box.inner", "g")]


@pytest.mark.parametrize("text, pieces", [
    ("def f():\n    return nothing_here\n", ["f uses nothing_here"]),
    ("from . import tensors\n\n\ndef f():\n    return tensors\n", ["a whole module", "from .module import name"]),
    ("from .one import g as h\n\n\ndef f():\n    return h()\n", ["one.py", "imported with `as`"]),
    ("from .one import g\nfrom .two import k\n\n\ndef f():\n    return g() + k()\n", ["_x is defined", "rename one"]),
    ("from .one import g\nfrom math import pi as _x\n\n\ndef f():\n    return g() + _x\n", ["_x is defined", "rename one"]),
])
def test_what_it_cannot_follow_raises(package, text, pieces):
    """In the package's own files: never a copy that fails when it runs."""
    package(mod=text, one="def _x():\n    return 1\n\n\ndef g():\n    return _x()\n",
            two="def _x():\n    return 2\n\n\ndef k():\n    return _x()\n")
    with pytest.raises(ValueError) as error:
        extraction.with_needs([("mod", "f")], {})
    assert all(piece in str(error.value) for piece in pieces), str(error.value)
