"""How Sphinx makes the pages: make docs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from proxy import __version__

project = "stapleproxy"
release = version = __version__
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = f"stapleproxy {release}"
html_show_copyright = False
html_show_sphinx = False
html_show_sourcelink = False
# Of the headings in a page others may link to these.
myst_heading_anchors = 3
# Pages are read without this tool, too: blocks without a language are plain text here.
highlight_language = "text"
nitpicky = True
