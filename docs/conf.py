"""Sphinx: MyST pages, and the reference from docstrings."""

import re

import jaxdl

project = "jaxdl"
author = "The jaxdl authors"
release = jaxdl.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "jaxdl"
html_static_path = ["_static"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False
napoleon_google_docstring = True
napoleon_use_ivar = True
default_role = "code"


def as_rest(app, what, name, obj, options, lines):
    """Docstrings are plain text with `code` in backticks; this is how Sphinx reads them."""
    for i, line in enumerate(lines):
        pieces = re.split(r"(`[^`]+`)", line)
        for j, piece in enumerate(pieces):
            code = piece.startswith("`") and piece.endswith("`") and len(piece) > 2
            pieces[j] = f"`{piece}`\\ " if code else re.sub(r"([*|_])", r"\\\1", piece)
        lines[i] = "".join(pieces).rstrip()


def setup(app):
    """Before napoleon, which then reads Args, Returns and Raises."""
    app.connect("autodoc-process-docstring", as_rest, priority=100)
