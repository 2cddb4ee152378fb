"""How the documentation site is built: Sphinx, Markdown by MyST, and pages made from the package.

``sphinx-build -W --keep-going -b html docs build/docs`` makes it; any warning is an error, and
nothing is fetched.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from bitgap.version import __version__

project = "bitgap"
author = "the bitgap developers"
copyright = "the bitgap developers, Apache-2.0"  # the name is Sphinx's
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "generated",
]
exclude_patterns = ["tour.ipynb", "_ext", "excerpts"]

# -- Markdown ------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

# Commands and results are shown as they are written: -- is no dash.
smartquotes = False

# -- API reference -------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# Arrays by the names that records.py gives them, and not by what numpy makes of these.
autodoc_type_aliases = {"Floats": "Floats", "Integers": "Integers"}
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Else a record's fields are described twice, by its docstring and by its annotations.
napoleon_use_ivar = True
python_use_unqualified_type_names = True
# A field called ``bytes`` is taken for the type of that name, of which there are then several.
suppress_warnings = ["ref.python"]

# -- HTML ----------------------------------------------------------------------------------------

html_theme = "furo"
html_title = "bitgap"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "monokai"
