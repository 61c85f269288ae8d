"""What the servers of an experiment do with messages."""

from __future__ import annotations

import os
import struct
import threading
import time
from array import array
from typing import Any

NUMBER = struct.Struct("=Q")
"""How a number is recorded: as the machine does, 8 bytes."""


class Echo:
    """Answers calls with what they brought, and notes when casts came.

    Attributes:
        casts: `time.monotonic` of each.
    """

    def __init__(self) -> None:
        self.casts = array("d")

    def echo(self, _context: Any, payload: str) -> str:  # noqa: ANN401, RUF100
        """Called."""
        return payload

    def note(self, _context: Any, payload: str) -> None:  # noqa: ANN401, ARG002, RUF100
        """Cast."""
        # One append is one step of the interpreter: no thread can come between, and no lock slows what is measured.
        self.casts.append(time.monotonic())


class Gathering:
    """Keeps each thread that executes a call until all have one.

    Args:
        count: how many threads there are.
    """

    def __init__(self, count: int) -> None:
        self._together = threading.Barrier(count, timeout=60)

    def meet(self, _context: Any) -> None:  # noqa: ANN401, RUF100
        """Called."""
        self._together.wait()


class Recorder:
    """Writes down the number of each cast that it executes, so that its process's own death takes none of them away.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, _context: Any, number: int) -> None:  # noqa: ANN401, RUF100
        """Cast."""
        # The kernel has it when this returns, whatever becomes of the process. Appending makes room for each in one step.
        os.write(self._file, NUMBER.pack(number))
