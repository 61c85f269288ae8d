"""Tables that show their cells literally, so that no text from an untrusted source can command the terminal or set a style."""

from __future__ import annotations

from rich.console import RenderableType
from rich.style import StyleType
from rich.table import Table as RichTable
from rich.text import Text

from atoll.cli.output import plain


class Table(RichTable):
    """A table of the library rich that shows square brackets as they are, and control characters as escapes."""

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """Add a row. Use `styled` for a cell with a style of its own."""
        super().add_row(*(Text(plain(cell)) if isinstance(cell, str) else cell for cell in cells), style=style, end_section=end_section)


def styled(text: str, style: str | None) -> Text:
    """Return a table cell with a style of the library `rich`, such as `bold red`.

    Args:
        text: the text of the cell.
        style: the style; `None` means no style.
    """
    return Text(plain(text), style=style or "")
