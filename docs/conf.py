"""How Sphinx builds this folder: ``make docs``. Warnings are errors there and in the tests."""

project = "proxygraph"
author = "the proxygraph authors"
project_copyright = author

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["images"]
html_theme = "furo"
html_title = "proxygraph"
html_copy_source = False
html_show_sphinx = False

# blocks without a language are figures and formulas, not Python
highlight_language = "text"
# single backticks in docstrings name parameters and things of the same page
default_role = "code"
# headings get the anchors that git hosts give them, so that one link works in both places
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]

# types stand in the numpydoc sections, with shapes and units; in the signature they would only be noise
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

copybutton_exclude = ".linenos, .gp, .go"
