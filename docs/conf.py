"""Sphinx's configuration of the documentation: `make docs` builds it, with every warning an error."""

project = "Atoll"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "Atoll"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_use_index = False  # no page defines terms, so that an index would be empty
smartquotes_action = "qe"  # quotes and ellipses, but not dashes: `--json` in a sentence is an option
html_theme_options = {
    # The reader's own fonts: the site is read without a network.
    "light_css_variables": {
        "font-stack": "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif",
        "color-brand-primary": "#0b6e75",
        "color-brand-content": "#0b6e75",
    },
    "dark_css_variables": {"color-brand-primary": "#5cc4cb", "color-brand-content": "#5cc4cb"},
}
html_static_path = ["_static"]
html_css_files = ["site.css"]

# Links into a page resolve to its headings, by the same names as on a code forge.
myst_heading_anchors = 4
