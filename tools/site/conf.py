"""Settings of the site for Sphinx; `python -m tools.make_site` puts the pages beside a copy of this file and builds them."""

import re

from docutils import nodes

from tools.export import formula

project = "RLHF, executed"
html_title = project
extensions = ["myst_nb"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
# a notebook may jump from a title to a small heading, and show code with an ellipsis
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_number_source_lines = False
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_dmath_allow_space = False
myst_dmath_allow_digits = False
myst_dmath_double_inline = True
myst_heading_anchors = 4
myst_heading_slug_func = "tools.make_site.anchor"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
pygments_style, pygments_dark_style = "default", "github-dark"
language = "en"


def math_block(translator, node):
    """A formula as MathML: no script, no font, no request to another host."""
    translator.body.append(f'<div class="equation">{formula(node.astext(), True)}</div>')
    raise nodes.SkipNode


def math_inline(translator, node):
    """A formula in a line."""
    translator.body.append(f'<span class="formula">{formula(node.astext(), False)}</span>')
    raise nodes.SkipNode


def title_without_markup(app, pagename, templatename, context, doctree):
    """The page's title in the browser's tab, without HTML comments."""
    context["title"] = re.sub(r"<!--.*?-->", "", context.get("title", ""))


def setup(app):
    """What Sphinx calls."""
    app.add_html_math_renderer("mathml", inline_renderers=(math_inline, None), block_renderers=(math_block, None))
    app.config.html_math_renderer = "mathml"
    app.connect("html-page-context", title_without_markup)
    return {"parallel_read_safe": True}
