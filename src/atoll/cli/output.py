"""How numbers and tables look."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

STATE_STYLES = {
    "ready": "green",
    "done": "green",
    "up": "green",
    "failed": "bold red",
    "restarting": "yellow",
    "partial": "yellow",
}
"""Colours, for those who see them; the word itself says the same."""

_WIDE = 200  # columns of a table that goes to a file or a pipe: nothing is to be cut off there


def data_console() -> Console:
    """For tables on standard output."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def message_console() -> Console:
    """For progress on standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(data: Any) -> None:  # noqa: ANN401, RUF100
    """Print data as JSON."""
    print(json.dumps(data, indent=2))


def megabytes(count: int | None) -> str:
    """A number of bytes for a person; empty for None."""
    return "" if count is None else f"{count / 1e6:.0f} MB"


def duration(seconds: float | None) -> str:
    """A number of seconds for a person: the two largest units; empty for None."""
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
