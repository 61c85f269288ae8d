"""The display of the progress of operations that take more than a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from atoll.cli.output import STATE_STYLES, message_console, new_table, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from atoll.runtime.events import Event

PATIENCE_S = 1.0
"""Seconds before progress is shown."""

FINAL = frozenset({"ready", "done", "failed", "stopped"})
_TOLD = FINAL | {"restarting"}


@dataclass
class _Line:
    state: str
    since: float
    seconds: float


class Progress:
    """A live list of processes on a terminal, plain lines elsewhere; both on standard error.

    Args:
        title: the name of the operation.
        console: the console for the output; `None` means standard error.
        clock: returns the time in monotonic seconds.
    """

    def __init__(self, title: str, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._clock = clock
        self._console = console or message_console()
        self._begun = clock()
        self._lines: dict[str, _Line] = {}
        self._held: list[str] | None = []
        self._live: Live | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(PATIENCE_S, self.show)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()
        with self._lock:
            self._held = []
            if self._live:
                self._live.stop()

    def event(self, event: Event) -> None:
        """Record an event of a process."""
        state = str(event.state)
        with self._lock:
            self._lines[event.process] = _Line(state, self._clock(), event.seconds)
            if self._console.is_terminal or event.detail == "unchanged":
                return
            if state in _TOLD or (state == "starting" and event.process.startswith("template/")):
                self._tell(f"{event.process}: {_plain(state, event.seconds)}")

    def show(self) -> None:
        """Start to show progress, because the operation has lasted longer than `PATIENCE_S`."""
        from rich.live import Live

        with self._lock:
            if self._console.is_terminal:
                self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=4, transient=True)
                self._live.start()
                return
            held, self._held = self._held or [], None
            for text in [f"{self._title} …", *held]:
                self._tell(text)

    def _tell(self, text: str) -> None:
        if self._held is not None:
            self._held.append(text)
        else:
            self._console.print(plain(text), soft_wrap=True)

    def _table(self) -> Table:
        from atoll.cli.tables import styled

        table = new_table(header=False)
        lines = dict(self._lines)
        final = sum(line.state in FINAL for line in lines.values())
        counted = f"{final} of {len(lines)}" if lines else ""
        table.add_row(styled(self._title, "bold"), counted, f"{self._clock() - self._begun:.0f} s")
        # Unfinished processes first: with many sites, not all lines fit on the screen.
        for name, line in sorted(lines.items(), key=lambda item: item[1].state in FINAL)[: max(3, self._console.height - 3)]:
            seconds = line.seconds if line.state in FINAL else self._clock() - line.since
            table.add_row(f"  {name}", styled(line.state, STATE_STYLES.get(line.state)), f"{seconds:.1f} s")
        return table


def _plain(state: str, seconds: float) -> str:
    return f"{state} after {seconds:.1f} s" if state in FINAL else state
