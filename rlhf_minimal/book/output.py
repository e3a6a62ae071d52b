"""The one door through which everything reaches a notebook's page: text with an HTML or a PNG twin.

Tests compare the text and the HTML of an output, never its metadata or its pixels. A printed line that begins with
"  measured:" is for the reader only.
"""

import base64
import html
import io
import sys
import zlib

LINE, SOFT = "rgba(128,128,128,.4)", "rgba(128,128,128,.12)"  # readable on light and on dark pages
FONT = "font:15px/1.5 system-ui,DejaVu Sans,sans-serif"  # no quotes: it stands in an attribute


def in_notebook() -> bool:
    """Is there an IPython that can display something? A plain interpreter and a test print instead."""
    shell = sys.modules.get("IPython.core.interactiveshell")
    return shell is not None and shell.InteractiveShell.initialized()


def interactive() -> bool:
    """Does a person sit at this notebook? A build or a test runs it with no way to answer a question."""
    if not in_notebook():
        return False
    from IPython import get_ipython

    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


def publish(plain: str, markup: str = "", *, png: bytes = b"", metadata: dict | None = None) -> None:
    """Show an output: `plain` everywhere, `markup` (HTML) or a picture where the page can."""
    if not in_notebook():
        return print(plain)
    from IPython.display import display

    data = {"text/plain": plain}
    if markup:
        data["text/html"] = markup
    if png:
        data["image/png"] = base64.b64encode(png).decode()
    display(data, metadata=metadata or {}, raw=True)


def measured(detail) -> str:
    """A detail (text, or {name: number}) as the one line that tests do not compare."""
    if isinstance(detail, dict):
        detail = ", ".join(f"{k} {v:.4g}" if isinstance(v, (int, float)) else f"{k} {v}" for k, v in detail.items())
    return "  measured: " + " ".join(str(detail).split())  # always one line: only one line is masked


def escape(text: object) -> str:
    """Text as HTML; a line break becomes one, and a dollar sign starts no formula."""
    return html.escape(str(text)).replace("\n", "<br>").replace("$", "&#36;")


def identity(*parts: object) -> str:
    """A name for an element: the same on every machine, another for other contents."""
    return f"x{zlib.crc32(repr(parts).encode()):08x}"


def picture(fig, dpi: int = 200, colours: int = 256) -> bytes:
    """A figure as a small PNG without software stamps, and the figure closed. The same figure gives the same bytes."""
    import matplotlib.pyplot as plt
    from PIL import Image

    fig.savefig(drawn := io.BytesIO(), format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    plt.close(fig)
    few = Image.open(drawn).convert("RGB").quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(small := io.BytesIO(), format="png", optimize=True)
    return small.getvalue()


def show(fig, alt: str | None = None, data: dict | None = None, *, role: str = "") -> None:
    """Show and close a figure, at double resolution.

    `alt` says kind of plot, axes and message, and nothing that was measured; a drawing brings its own (`fig.alt`).
    `data` {label: y or (x, y)} prints start, peak and end of each line on lines that tests do not compare.
    `role` goes to the metadata: a page that can move an explorer leaves its still picture out.
    Raises ValueError on an alt that is not one line of 40 to 300 characters.
    """
    alt = getattr(fig, "alt", "") if alt is None else alt
    if "\n" in alt or not 40 <= len(alt) <= 300:
        raise ValueError(f"alt of {len(alt)} characters: expected one line of 40–300: kind of plot, axes, message")
    width = round(100 * fig.get_size_inches()[0])
    metadata = {"image/png": {"alt": alt, "width": width}} | ({"rlhf": {"role": role}} if role else {})
    publish(alt, png=picture(fig), metadata=metadata)
    for label, line in (data or {}).items():
        x, y = line if isinstance(line, tuple) else (range(len(line)), line)
        top, at = max((float(b), float(a)) for a, b in zip(x, y, strict=True))
        print(measured(f"{label}: start {float(y[0]):.4g}, peak {top:.4g} at {at:.4g}, end {float(y[-1]):.4g}"))
