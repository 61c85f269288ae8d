"""The WAN's side of its control socket: a connection is one request, and its answer; see `atoll.wire`."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from atoll import wire
from atoll.cloud.network import Network
from atoll.errors import AtollError
from atoll.wan.fabric import Fabric
from atoll.wan.isolation import within
from atoll.wan.probe import Echo, Probe, open_socket

_BACKLOG = 128
_PATIENCE_S = 10.0
_MOST_PROBES = 10_000
_Request = Mapping[str, Any]


class Server:
    """Answers requests until one of them is to end.

    Args:
        fabric: the WAN.
        path: of the socket.
        rootless: True if the WAN is in a user namespace of its own.
        tied_to: the process with which the WAN ends; None if with none.

    Attributes:
        ended: set by the request to end.
        tied_to: as above, until a request names another process.
    """

    def __init__(self, fabric: Fabric, path: Path, *, rootless: bool, tied_to: int | None) -> None:
        self._fabric, self._path, self._rootless = fabric, path, rootless
        self.tied_to = tied_to
        self._one = threading.Lock()  # requests are answered one after the other
        self.ended = threading.Event()
        self._verbs: dict[str, Callable[[_Request], Any]] = {
            "show": lambda _request: {"pid": os.getpid(), "rootless": rootless, "tied_to": self.tied_to, **fabric.describe()},
            "tie": self._tie,
            "apply": lambda request: fabric.apply(Network.from_json(request["network"])),
            "set": lambda request: fabric.set(request["link"], request["changes"], one_way=request.get("one_way", False)),
            "cut": lambda request: fabric.cut(request["name"]),
            "heal": lambda request: fabric.heal(request.get("name")),
            "counters": lambda _request: fabric.counters(),
            "namespace": lambda request: asdict(fabric.namespace(request["site"], rootless=self._rootless)),
            "end": lambda _request: self.ended.set(),
        }
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with suppress(FileNotFoundError):
            path.unlink()
        wire.at(path, self._listener.bind)
        path.chmod(0o600)
        self._listener.listen(_BACKLOG)

    def start(self) -> None:
        """Answer, in a thread."""
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        with suppress(FileNotFoundError):
            self._path.unlink()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(_PATIENCE_S)
            with connection.makefile("rb") as file:
                line = file.readline(wire.LINE_LIMIT)
            sockets: list[socket.socket] = []
            answer = wire.encode(self._answer(line, sockets))
            if sockets:
                socket.send_fds(connection, [answer], [each.fileno() for each in sockets])
                for each in sockets:
                    each.close()
            else:
                connection.sendall(answer)

    def _answer(self, line: bytes, sockets: list[socket.socket]) -> dict[str, Any]:
        try:
            request = json.loads(line)
            if request["verb"] == "probe":  # takes long, and changes nothing
                return {"ok": self._probe(request)}
            with self._one:
                if request["verb"] == "listen":
                    sockets += self._listen(request)
                    return {"ok": None}
                return {"ok": self._verbs[request["verb"]](request)}
        except AtollError as error:
            return {"error": wire.error_to_json(error)}
        except (KeyError, TypeError, ValueError) as error:
            return {"error": wire.error_to_json(AtollError("wan.invalid", f"not a request: {error!r}"))}
        except Exception as error:
            traceback.print_exc()
            return {"error": wire.error_to_json(AtollError("wan.failed", f"the WAN's error: {error!r}"))}

    def _tie(self, request: _Request) -> None:
        self.tied_to = int(request["pid"])

    def _listen(self, request: _Request) -> list[socket.socket]:
        addresses = [(str(host), int(port)) for host, port in request["addresses"]]
        return within(self._fabric.network(request["site"]), lambda: listeners(addresses))

    def _probe(self, request: _Request) -> list[list[Echo]]:
        pairs = [(str(start), str(end)) for start, end in request["pairs"]]
        if not pairs or not 1 <= request["count"] <= _MOST_PROBES:
            raise AtollError("wan.invalid", f"nothing to measure, or more than {_MOST_PROBES} packets")
        sockets: dict[str, socket.socket] = {}
        try:
            with self._one:
                for site in sorted({site for pair in pairs for site in pair}):
                    network = self._fabric.network(site)
                    sockets[site] = within(network, partial(open_socket, str(self._fabric.addresses.of(site))))
            found = Probe(sockets, pairs, request["count"], request["interval_s"]).run(request["patience_s"])
        finally:
            for each in sockets.values():
                each.close()
        return [found[pair] for pair in pairs]


def listeners(addresses: list[tuple[str, int]]) -> list[socket.socket]:
    """Listening TCP sockets, in the network of the calling thread: all, or none.

    Raises:
        AtollError: `port.in_use`, `port.unusable`.
    """
    made: list[socket.socket] = []
    for host, port in addresses:
        try:
            made.append(socket.create_server((host, port), backlog=_BACKLOG))
        except OSError as error:
            for each in made:
                each.close()
            code = "port.in_use" if error.errno == errno.EADDRINUSE else "port.unusable"
            raise AtollError(code, f"{host}:{port} of the site can't be listened on: {error.strerror}") from error
    return made
