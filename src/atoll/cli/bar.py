"""The progress of one long operation whose amount of work is known, on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from atoll.cli.output import message_console
from atoll.cli.progress import PATIENCE_S

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_LINE_S = 10.0  # seconds between two plain lines


class Bar:
    """A bar for an operation of several steps, which appears after `PATIENCE_S` seconds.

    Args:
        console: the console for the output; `None` means standard error.
        clock: returns the time in monotonic seconds.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._due = clock() + PATIENCE_S
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show the progress of a step.

        Args:
            step: the name of the step.
            done: the amount of work that is done.
            total: the amount of work of the step, in the same unit.
        """
        if self._clock() < self._due:
            return
        console = self._console or message_console()
        if console.is_terminal:
            self._draw(console, step, done, total)
        else:
            console.print(f"{step}: {100 * done // max(total, 1)} %", soft_wrap=True)
            self._due = self._clock() + _LINE_S

    def _draw(self, console: Console, step: str, done: int, total: int) -> None:
        from rich.progress import Progress

        if self._bar is None:
            self._bar = Progress(console=console, transient=True)
            self._bar.start()
        if step not in self._tasks:
            self._tasks[step] = self._bar.add_task(step, total=total)
        self._bar.update(self._tasks[step], completed=done)
