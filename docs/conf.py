"""Sphinx: MyST pages, and the reference from docstrings."""

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
