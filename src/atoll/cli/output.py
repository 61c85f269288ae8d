"""Functions that format tables, numbers and JSON for the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from atoll.cli.tables import Table

STATE_STYLES = {
    "ready": "green",
    "done": "green",
    "up": "green",
    "failed": "bold red",
    "restarting": "yellow",
    "partial": "yellow",
}
"""Colours of states. The word carries the same information, so that nobody depends on the colour."""

_WIDE = 200  # columns of a table in a file or a pipe, where nothing may be cut off


def plain(text: str) -> str:
    """Return a text with escapes in place of characters that are not printable, so that it can't command the terminal.

    This is for texts from untrusted sources. The replaced characters are control characters (including U+0080 to U+009F, which terminals
    obey too), line breaks, invisible characters, characters that reverse the direction of the text, and halves of surrogate pairs.
    """
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def new_table(*titles: str, numbers: Collection[str] = (), wrapped: Collection[str] = (), header: bool = True) -> Table:
    """Return an empty table without lines, with two spaces between columns.

    Args:
        titles: titles of its columns.
        numbers: titles of columns that are aligned to the right.
        wrapped: titles of columns whose text may take several lines; other columns are never wrapped.
        header: whether to show the titles.
    """
    from atoll.cli.tables import Table

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=header)
    for title in titles:
        table.add_column(title, justify="right" if title in numbers else "left", no_wrap=title not in wrapped)
    return table


def data_console() -> Console:
    """Return a console for tables on standard output."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _WIDE)


def message_console() -> Console:
    """Return a console for progress on standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def print_json(data: Any) -> None:
    """Print data as indented JSON."""
    print(json.dumps(data, indent=2))


def megabytes(count: int | None) -> str:
    """Return a number of bytes as text in MB; empty for `None`."""
    return "" if count is None else f"{count / 1e6:.0f} MB"


def duration(seconds: float | None) -> str:
    """Return a number of seconds as text in the two largest units; empty for `None`."""
    if seconds is None:
        return ""
    total = int(seconds)
    if total < 60:
        return f"{total}s"
    if total < 3600:
        return f"{total // 60}m {total % 60:02}s"
    if total < 86400:
        return f"{total // 3600}h {total % 3600 // 60:02}m"
    return f"{total // 86400}d {total % 86400 // 3600:02}h"
