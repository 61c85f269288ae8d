"""Listening sockets, which the supervisor holds so that they outlive restarts of those who serve them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from atoll.errors import AtollError
from atoll.runtime.spec import Process

Address = tuple[str, int]

_BACKLOG = 512
_LISTEN = "0A"  # TCP_LISTEN as /proc/net/tcp writes it


class Listeners:
    """The sockets of all processes, by address."""

    def __init__(self) -> None:
        self._sockets: dict[Address, socket.socket] = {}

    def bind(self, processes: Iterable[Process]) -> None:
        """Listen on every address of these processes that is not listened on yet; all of them or none.

        Raises:
            AtollError: `port.in_use` or `port.unusable`; then nothing has changed.
        """
        wanted = _owners(processes)
        fresh: dict[Address, socket.socket] = {}
        try:
            for address in wanted.keys() - self._sockets.keys():
                fresh[address] = _listen(wanted[address], address)
        except AtollError:
            for listener in fresh.values():
                listener.close()
            raise
        self._sockets.update(fresh)

    def keep(self, addresses: Iterable[Address]) -> None:
        """Close all sockets but these. Processes that were given a closed one still have their own copy."""
        for address in self._sockets.keys() - set(addresses):
            self._sockets.pop(address).close()

    def descriptors(self, process: Process) -> list[int]:
        """The sockets of a process, in its order."""
        return [self._sockets[address].fileno() for address in process.listen]


def _owners(processes: Iterable[Process]) -> dict[Address, str]:
    owners: dict[Address, str] = {}
    for process in processes:
        for address in process.listen:
            if address in owners:
                message = f"port {address[1]} of {process.name} is the port of {owners[address]} as well"
                raise AtollError("port.in_use", message)
            owners[address] = process.name
    return owners


def _listen(name: str, address: Address) -> socket.socket:
    host, port = address
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AtollError("port.unusable", f"{name} cannot listen on {host}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(target)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            holder = holder_of(port)
            message = f"port {port} of {name} is in use{f' by {holder}' if holder else ''}"
            raise AtollError("port.in_use", message, "stop that program, or give the site another port") from error
        raise AtollError("port.unusable", f"{name} cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def holder_of(port: int) -> str | None:
    """Who has a TCP port, for a person: `pid 4711 (python3 -m http.server 8000)`; None if it cannot be found out."""
    entries = sorted(_entries(port), key=lambda entry: entry[0] != _LISTEN)
    if not entries:
        return None
    _state, uid, inode = entries[0]
    for pid in _pids():
        if _has_socket(pid, inode):
            return f"pid {pid} ({_command(pid)})"
    return f"a process of user {_user(uid)}"


def _entries(port: int) -> Iterator[tuple[str, int, str]]:
    """State, user id and inode of the sockets on a port."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[3], int(fields[7]), fields[9]


def _pids() -> list[int]:
    # The lowest is most likely the parent, if several processes have the socket.
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208


def _has_socket(pid: int, inode: str) -> bool:
    directory = f"/proc/{pid}/fd"
    with suppress(OSError):
        for name in os.listdir(directory):  # noqa: PTH208
            with suppress(OSError):
                if os.readlink(f"{directory}/{name}") == f"socket:[{inode}]":  # noqa: PTH115
                    return True
    return False


def _command(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        return words if len(words) <= 60 else words[:57] + "..."
    return "unknown"


def _user(uid: int) -> str:
    import pwd  # noqa: PLC0415 - for an error only

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
