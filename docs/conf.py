"""Configuration of Sphinx: MyST pages and notebooks, docstrings, and formulas as MathML."""

import re

from docutils import nodes
from latex2mathml.converter import convert

import jaxdl

project = "jaxdl"
author = "The jaxdl authors"
release = jaxdl.__version__
copyright = f"the jaxdl authors, Apache License 2.0. This is version {release}"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# Notebooks are committed with their outputs, see CONTRIBUTING.md: training takes minutes.
nb_execution_mode = "off"
exclude_patterns = ["_build", "examples"]
html_theme = "furo"
html_title = f"jaxdl {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sphinx = False
html_show_sourcelink = False
html_math_renderer = "mathml"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # else a function as a default is `<PjitFunction of ...>`
add_module_names = False
napoleon_google_docstring = True
napoleon_use_ivar = True
default_role = "code"


def docstring_to_rst(app, what, name, obj, options, lines):
    """Escapes docstrings, which are plain text with `code` in backticks, for reStructuredText."""
    for i, line in enumerate(lines):
        pieces = re.split(r"(`[^`]+`)", line)
        for j, piece in enumerate(pieces):
            if piece.startswith("`") and piece.endswith("`") and len(piece) > 2:
                # "\ " ends the role where a letter follows, as in `array`s.
                joined = j + 1 < len(pieces) and pieces[j + 1][:1].isalnum()
                pieces[j] = f"`{piece}`" + (r"\ " if joined else "")
            else:
                pieces[j] = re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", piece)
        lines[i] = "".join(pieces)


def shorten_defaults(app, what, name, obj, options, signature, returns):
    """Shortens functions as defaults of dataclasses, which have no source for Sphinx to read."""
    if signature and "<function" in signature:
        return re.sub(r"<function [\w.]*(<\w+>)?[\w.]*>", "...", signature), returns
    return None


def inline_math(translator, node):
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block_math(translator, node):
    translator.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app):
    # Before napoleon, which then reads Args, Returns and Raises.
    app.connect("autodoc-process-docstring", docstring_to_rst, priority=100)
    app.connect("autodoc-process-signature", shorten_defaults)
    # MathML needs no script: pages show formulas without a network.
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
