"""A WAN as others see it: started, asked, changed, ended, over its control socket."""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atoll import wire
from atoll.cloud.network import Network
from atoll.errors import AtollError
from atoll.namespaces import Namespace
from atoll.wan.probe import Echo

SOCKET = "wan.sock"
LOG = "wan.log"
LOCK = "wan.lock"
"""Held by the WAN until the last of it is gone."""

_ANSWER_S = 30.0
_START_S = 60.0
_POLL_S = 0.02
_MOST_SOCKETS = 200


@dataclass(frozen=True)
class Options:
    """How a WAN is to be.

    Attributes:
        emulator: "auto" (the kernel's where it has one), "netem" or "userspace".
        rerouting: whether packets go around what is cut, and around what has become slow; else they keep their way.
        seed: of what is lost and what is late, with the userspace emulator; random if None.
        tied_to: the process with which the WAN ends.
    """

    emulator: str = "auto"
    rerouting: bool = False
    seed: int | None = None
    tied_to: int | None = None


class Wan:
    """Speaks to a running WAN; every call uses a connection of its own.

    Args:
        directory: of its control socket.

    Every method raises AtollError: `wan.not_running` if there is none, `wan.failed` if it does not answer.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).absolute()

    @classmethod
    def start(cls, directory: Path | str, network: Network, options: Options | None = None) -> Wan:
        """Start a WAN, and return when all its links work.

        Args:
            directory: exists, belongs to this user, and has no WAN yet.
            network: sites, routers and links.
            options: how.

        Raises:
            AtollError: `wan.unavailable`, `wan.invalid`, `wan.failed`; `state.busy` if there is one already.
        """
        made = cls(directory)
        request = {"network": network.to_json(), **asdict(options or Options())}
        command = [sys.executable, "-P", "-m", "atoll.wan.daemon", str(made.directory)]
        with (made.directory / LOG).open("ab") as log:
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, cwd="/", start_new_session=True)
            with process:  # its standard output ends as soon as it has spoken
                assert process.stdin is not None
                assert process.stdout is not None
                with suppress(BrokenPipeError):
                    process.stdin.write(json.dumps(request).encode())
                    process.stdin.close()
                line = process.stdout.readline()
                process.returncode = 0 if b'"ok"' in line else process.wait(_START_S)  # a WAN that runs is not waited for
        if not line:
            raise AtollError("wan.failed", f"the WAN did not start: see {made.directory / LOG}")
        _final(json.loads(line))
        return made

    @classmethod
    def connect(cls, directory: Path | str) -> Wan | None:
        """The WAN of a directory; None if there is none."""
        made = cls(directory)
        try:
            made.describe()
        except AtollError as error:
            if error.kind.code != "wan.not_running" and not made._is_gone():
                raise
            return None
        return made

    def describe(self) -> dict[str, Any]:
        """What the WAN is and does.

        Returns:
            `emulator` and the `reason` for it, `pid`, `tied_to`, `rootless`, `rerouting`, `addresses` by site, `wires` and `cuts` as they
            are now, and for every two sites what round trip is `asked` for.
        """
        described: dict[str, Any] = self._ask("show")
        return described

    @property
    def addresses(self) -> dict[str, str]:
        """The IPv4 address of each site."""
        addresses: dict[str, str] = self.describe()["addresses"]
        return addresses

    def apply(self, network: Network) -> None:
        """Take another topology over; what is the same in both goes on undisturbed."""
        self._ask("apply", network=network.to_json())

    def set(self, link: str, changes: Mapping[str, Any], *, one_way: bool = False) -> None:
        """Change what a link does, at once.

        Args:
            link: its two ends, such as `paris:lyon`.
            changes: fields of `atoll.cloud.network.Wire`.
            one_way: only from the first of its ends to the second.

        Raises:
            AtollError: `wan.unknown`, `wan.invalid`.
        """
        self._ask("set", link=link, changes=dict(changes), one_way=one_way)

    def tie(self, pid: int) -> None:
        """Have the WAN end with another process than until now."""
        self._ask("tie", pid=pid)

    def cut(self, name: str) -> None:
        """Cut a link, or all links of a site; what is under way is lost.

        Raises:
            AtollError: `wan.unknown`.
        """
        self._ask("cut", name=name)

    def heal(self, name: str | None = None) -> None:
        """Undo a cut, or all.

        Raises:
            AtollError: `wan.unknown`.
        """
        self._ask("heal", name=name)

    def counters(self) -> dict[str, dict[str, int]]:
        """What went over each direction of each link so far; see `atoll.wan.datapath.Counters`."""
        counters: dict[str, dict[str, int]] = self._ask("counters")
        return counters

    def probe(
        self, pairs: Sequence[tuple[str, str]], count: int = 5, interval_s: float = 0.1, patience_s: float = 2.0
    ) -> dict[tuple[str, str], list[Echo]]:
        """Measure round trips between sites; no program is needed in them.

        Args:
            pairs: from which site to which.
            count: packets of each pair.
            interval_s: between two of them, in seconds.
            patience_s: how long to wait for the last ones.

        Returns:
            By pair, what became of its packets.

        Raises:
            AtollError: `wan.unknown`, `wan.invalid`.
        """
        timeout_s = count * interval_s + patience_s + _ANSWER_S
        found = self._ask("probe", timeout_s, pairs=list(pairs), count=count, interval_s=interval_s, patience_s=patience_s)
        return {pair: [Echo(*echo) for echo in echoes] for pair, echoes in zip(pairs, found, strict=True)}

    def namespace(self, site: str) -> Namespace:
        """How a process enters a site's network.

        Raises:
            AtollError: `wan.unknown`.
        """
        return Namespace(**self._ask("namespace", site=site))

    def listen(self, site: str, addresses: Sequence[tuple[str, int]]) -> list[socket.socket]:
        """Listening TCP sockets in a site's network: whoever has them serves there without being there.

        Args:
            site: its name.
            addresses: hosts and ports, at most 200.

        Raises:
            AtollError: `wan.unknown`; `port.in_use`, `port.unusable`, and then none is listened on.
        """
        with self._connection() as connection:
            connection.sendall(wire.encode({"verb": "listen", "site": site, "addresses": list(addresses)}))
            message, descriptors, _flags, _address = socket.recv_fds(connection, 65536, _MOST_SOCKETS)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        _final(json.loads(message))
        return sockets

    def popen(self, site: str, command: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.Popen[Any]:  # noqa: ANN401, RUF100
        """Run a program in a site's network.

        Args:
            site: its name.
            command: the program and its arguments.
            options: of `subprocess.Popen`.

        Raises:
            AtollError: `wan.unknown`.
            OSError: there is no such program.
        """
        return subprocess.Popen(command, preexec_fn=self.namespace(site).enter, **options)  # noqa: PLW1509 - only between fork and exec

    def close(self) -> None:
        """End the WAN and wait until it has gone; none is no error."""
        try:
            pid = self.describe()["pid"]
            watched = os.pidfd_open(pid)
        except (AtollError, ProcessLookupError):
            if not self._is_gone():  # it was about to end, for the process that it is tied to has
                raise AtollError("wan.failed", f"the WAN did not end within {_ANSWER_S:.0f} s") from None
            return
        try:
            with suppress(AtollError):
                self._ask("end")
            _await_exit(watched)
        finally:
            os.close(watched)

    def _is_gone(self) -> bool:
        """Wait a while for the end of a WAN that does not answer: True if it has come."""
        try:
            descriptor = os.open(self.directory / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return True
        try:
            deadline = time.monotonic() + _ANSWER_S
            while not _lock(descriptor):
                if time.monotonic() > deadline:
                    return False
                time.sleep(_POLL_S)
            return True
        finally:
            os.close(descriptor)

    def _ask(self, verb: str, timeout_s: float = _ANSWER_S, **fields: object) -> Any:  # noqa: ANN401, RUF100
        try:
            with self._connection(timeout_s) as connection, connection.makefile("rb") as file:
                connection.sendall(wire.encode({"verb": verb, **fields}))
                line = file.readline()
        except OSError as error:
            raise AtollError("wan.failed", f"the WAN does not answer: {(error.strerror or str(error)).lower()}") from error
        if not line:
            raise AtollError("wan.failed", "the WAN closed the connection")
        return _final(json.loads(line))

    def _connection(self, timeout_s: float = _ANSWER_S) -> socket.socket:
        try:
            return wire.connect(self.directory / SOCKET, timeout_s)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise AtollError("wan.not_running", f"no WAN runs for {self.directory}", "`atoll up` with a topology starts one") from None


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _await_exit(watched: int) -> None:
    if not select.select([watched], [], [], _ANSWER_S)[0]:
        raise AtollError("wan.failed", f"the WAN did not end within {_ANSWER_S:.0f} s")


def _final(message: dict[str, Any]) -> Any:  # noqa: ANN401, RUF100
    if "error" in message:
        raise wire.error_from_json(message["error"])
    return message["ok"]
