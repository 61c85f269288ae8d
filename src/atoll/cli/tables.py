"""Tables whose cells are shown as they are: no text from elsewhere commands the terminal or sets a style."""

from __future__ import annotations

from rich.console import RenderableType
from rich.style import StyleType
from rich.table import Table as RichTable
from rich.text import Text

from atoll.cli.output import plain


class Table(RichTable):
    """A table of rich, in whose cells square brackets are brackets, and control characters are shown as escapes."""

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """Add a row; a cell that is to have a style of its own is made by `styled`."""
        super().add_row(*(Text(plain(cell)) if isinstance(cell, str) else cell for cell in cells), style=style, end_section=end_section)


def styled(text: str, style: str | None) -> Text:
    """Return a cell with a style of rich's, such as `bold red`.

    Args:
        text: the text of the cell.
        style: the style; `None`: none.
    """
    return Text(plain(text), style=style or "")
