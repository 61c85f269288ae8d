"""Listening sockets of services. The supervisor holds them, so that they stay open while a service restarts."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from atoll.control.messages import encode, error_from_json, error_to_json
from atoll.errors import AtollError
from atoll.namespaces import Namespace
from atoll.runtime.spec import Process

Address = tuple[str, int]
Place = tuple[Namespace | None, Address]

_BACKLOG = 512
_LISTEN = "0A"  # TCP_LISTEN as /proc/net/tcp writes it


class Listeners:
    """The listening sockets of all processes, by network and address."""

    def __init__(self) -> None:
        self._sockets: dict[Place, socket.socket] = {}

    def bind(self, processes: Iterable[Process]) -> None:
        """Listen on every address of these processes that has no socket yet: on all addresses, or on none.

        Raises:
            AtollError: `port.in_use` or `port.unusable`: an address can't be listened on; nothing was changed.
        """
        wanted = _owners(processes)
        fresh: dict[Place, socket.socket] = {}
        try:
            for place in wanted.keys() - self._sockets.keys():
                fresh[place] = _listen_at(wanted[place], place)
        except AtollError:
            for listener in fresh.values():
                listener.close()
            raise
        self._sockets.update(fresh)

    def keep(self, processes: Iterable[Process]) -> None:
        """Close all sockets except those of these processes. Another running process keeps its own copy of a closed socket."""
        for place in self._sockets.keys() - {place for process in processes for place in _places(process)}:
            self._sockets.pop(place).close()

    def descriptors(self, process: Process) -> list[int]:
        """Return the descriptors of a process's sockets, in the order of `Process.listen`."""
        return [self._sockets[place].fileno() for place in _places(process)]


def _places(process: Process) -> list[Place]:
    return [(process.network, address) for address in process.listen]


def _owners(processes: Iterable[Process]) -> dict[Place, str]:
    owners: dict[Place, str] = {}
    for process in processes:
        for place in _places(process):
            if place in owners:
                message = f"{process.name} and {owners[place]} have the same port {place[1][1]}: expected different ports"
                raise AtollError("port.in_use", message)
            owners[place] = process.name
    return owners


def _listen_at(name: str, place: Place) -> socket.socket:
    network, address = place
    if network is None:
        return _listen(name, address)
    # Only a process with one thread can enter a user namespace, and it can't return. So a child process enters it and passes the socket
    # back.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        child = os.fork()
        if child == 0:
            _listen_there(name, network, address, theirs)
        theirs.close()
        data, descriptors, _flags, _address = socket.recv_fds(ours, 65536, 1)
        os.waitpid(child, 0)
    if descriptors:
        os.set_inheritable(descriptors[0], False)  # otherwise the root fork server would hold it for ever
        return socket.socket(fileno=descriptors[0])
    raise error_from_json(json.loads(data)) if data else AtollError("port.unusable", f"{name} cannot enter its network")


def _listen_there(name: str, network: Namespace, address: Address, answer: socket.socket) -> NoReturn:
    """Listen in another network, send the socket or the error, and exit."""
    try:
        network.enter()
        with _listen(name, address) as listener:
            socket.send_fds(answer, [b"listening"], [listener.fileno()])
    except AtollError as error:
        answer.send(encode(error_to_json(error)))
    except OSError as error:
        unusable = AtollError("port.unusable", f"{name} cannot enter its network: {error}", "does the WAN still run? `atoll up` starts it")
        answer.send(encode(error_to_json(unusable)))
    finally:
        os._exit(0)


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
    """Return the process that uses a TCP port, as text such as `pid 4711 (python3 -m http.server 8000)`; `None` if it is unknown."""
    entries = sorted(_entries(port), key=lambda entry: entry[0] != _LISTEN)
    if not entries:
        return None
    _state, uid, inode = entries[0]
    for pid in _pids():
        if _has_socket(pid, inode):
            return f"pid {pid} ({_command(pid)})"
    return f"a process of user {_user(uid)}"


def _entries(port: int) -> Iterator[tuple[str, int, str]]:
    """Yield the state, the user id and the inode of each socket on a port."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[3], int(fields[7]), fields[9]


def _pids() -> list[int]:
    # In ascending order: if several processes have the socket, the one with the lowest pid is most likely the parent.
    return sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _has_socket(pid: int, inode: str) -> bool:
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) == f"socket:[{inode}]":
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
