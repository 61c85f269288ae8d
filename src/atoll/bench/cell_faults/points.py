"""Points of a workflow inside the processes of a cloud: a process announces that a span starts or ends, and waits until it may go on.

The runtime calls `install` in each process that it forks, before the process's own entry; see `atoll.runtime.fork_server.HOOK`. A process
announces only spans that a fault waits for, by one message on a Unix socket. The answer arrives when the fault is in effect.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from atoll.bench.cell_faults.step import SpanPoint
from atoll.runtime.child import Child
from atoll.trace import process
from atoll.trace.recorder import Identity

FILE = "ATOLL_FAULT_POINTS"
"""The environment variable with the path of the file that `write` made."""

HELD_S = 30.0
"""Greatest number of seconds that a process waits at a point."""


def write(path: Path, socket_path: Path, points: Mapping[int, SpanPoint]) -> None:
    """Write the file that processes read when they start.

    Args:
        path: the file.
        socket_path: the socket on which points are announced.
        points: the points by the number of their fault.
    """
    content = {"socket": str(socket_path), "points": {number: asdict(point) for number, point in points.items()}}
    path.write_text(json.dumps(content), encoding="utf-8")


def install(_child: Child) -> None:
    """Make the trace recorder of this process announce points, if faults of the cell wait for points."""
    if FILE not in os.environ:
        return
    content = json.loads(Path(os.environ[FILE]).read_bytes())
    points = {int(number): SpanPoint(**point) for number, point in content["points"].items()}
    process.FURTHER.append(lambda identity: Announcer(identity, content["socket"], points))


class Announcer(SpanProcessor):
    """A receiver of a process's spans that announces those that faults wait for.

    Args:
        identity: the identity of the process.
        socket_path: the socket on which points are announced.
        points: the points by the number of their fault.
    """

    def __init__(self, identity: Identity, socket_path: str, points: Mapping[int, SpanPoint]) -> None:
        self._socket_path = socket_path
        self._points = [
            (number, point)
            for number, point in points.items()
            if point.site in (None, identity.site) and point.service in (None, identity.service)
        ]

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Announce the start of a span."""
        self._announce("start", span.name)

    def on_end(self, span: ReadableSpan) -> None:
        """Announce the end of a span."""
        self._announce("end", span.name)

    def _announce(self, edge: str, name: str) -> None:
        numbers = [number for number, point in self._points if point.edge == edge and fnmatchcase(name, point.span.replace("[", "[[]"))]
        if numbers:
            with suppress(OSError):  # the conductor has ended, because the cell is about to end
                announce(self._socket_path, numbers)


def announce(socket_path: str, numbers: Sequence[int]) -> None:
    """Announce that this process is at the point of some faults, and block until the process may go on.

    Args:
        socket_path: the socket of the conductor.
        numbers: the numbers of the faults.

    Raises:
        OSError: no conductor listens, or its answer took longer than `HELD_S`.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(HELD_S)
        connection.connect(socket_path)
        connection.sendall(json.dumps(list(numbers)).encode() + b"\n")
        connection.recv(1)


def numbers_of(line: bytes) -> list[int]:
    """Return the numbers of the faults in an announcement.

    Raises:
        ValueError, TypeError: the line is not an announcement.
    """
    said: Any = json.loads(line)
    return [int(number) for number in said]
