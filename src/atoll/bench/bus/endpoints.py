"""The RPC endpoints of an experiment's servers."""

from __future__ import annotations

import os
import struct
import threading
import time
from array import array
from typing import Any

NUMBER = struct.Struct("=Q")
"""The format of a cast's number in the record files: 8 bytes in native byte order."""


class Echo:
    """An endpoint that answers calls with their payload and records the times of casts.

    Attributes:
        casts: the `time.monotonic` of each cast.
    """

    def __init__(self) -> None:
        self.casts = array("d")

    def echo(self, _context: Any, payload: str) -> str:
        """Return the payload of a call."""
        return payload

    def note(self, _context: Any, payload: str) -> None:
        """Record the time of a cast."""
        # An append is atomic in the interpreter, so no lock slows the measurement.
        self.casts.append(time.monotonic())


class Gathering:
    """An endpoint whose method blocks until all threads of the server execute it, so that each thread has executed a call.

    Args:
        count: the number of threads.
    """

    def __init__(self, count: int) -> None:
        self._together = threading.Barrier(count, timeout=60)

    def meet(self, _context: Any) -> None:
        """Block until all threads execute this method, and return."""
        self._together.wait()


class Recorder:
    """An endpoint that records the number of each cast in a file, where it survives the death of the process.

    Args:
        path: the path of the file.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, _context: Any, number: int) -> None:
        """Record the number of a cast."""
        # The kernel has the record when this returns, even if the process then dies. Each append is atomic.
        os.write(self._file, NUMBER.pack(number))
