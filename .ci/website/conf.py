"""Sphinx's settings of the site. Nothing is fetched, when it is built or when it is read."""

from pygments.lexers.special import TextLexer

project = "override-gap"
author = "the override-gap authors"
extensions = ["myst_parser"]
root_doc = "index"
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
highlight_language = "none"

html_theme = "furo"
html_title = "override-gap"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
# a page that is opened as a file may not fetch its neighbours, from which Sphinx takes the excerpts of a search's results
html_show_search_summary = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "monokai"


def setup(app) -> None:
    """Tables of text are shown as they are: Pygments has no lexer of that name."""
    app.add_lexer("csv", TextLexer)
