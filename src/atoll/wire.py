"""How the control socket is reached and what goes over it: one JSON object per line.

A request is `{"verb": …}` with the verb's own fields. The answer is any number of `{"event": …}` lines, then one of
`{"ok": …}` or `{"error": {"code", "message", "hint"}}`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atoll.errors import REGISTRY, AtollError

SOCKET = "control.sock"
LINE_LIMIT = 16 * 1024 * 1024
"""Bytes of one message; a plan of a thousand processes has a hundredth of that."""


def at(path: Path, use: Callable[[str], None]) -> None:
    """Call `bind` or `connect` with an address that leads to `path`, however long that is.

    An address of a Unix socket holds 108 characters, so it goes through an open descriptor of the directory.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def connect(path: Path, timeout_s: float | None) -> socket.socket:
    """A connection to the control socket.

    Raises:
        OSError: nobody listens there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        at(path, connection.connect)
    except OSError:
        connection.close()
        raise
    return connection


def encode(message: dict[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message).encode() + b"\n"


def error_to_json(error: AtollError) -> dict[str, Any]:
    """An error as it goes over the socket."""
    return {"code": error.kind.code, "message": error.message, "hint": error.hint}


def error_from_json(data: dict[str, Any]) -> AtollError:
    """The reverse of `error_to_json`; a code that this version does not know becomes `runtime.invalid`."""
    code = data["code"] if data["code"] in REGISTRY else "runtime.invalid"
    return AtollError(code, data["message"], data["hint"])
