"""The client of a WAN: starts, queries, changes and ends it over its control socket."""

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

from atoll.cloud.network import Network
from atoll.control.client import ANSWER_S, ControlClient
from atoll.control.messages import decode, result
from atoll.errors import AtollError
from atoll.namespaces import Namespace
from atoll.wan.probe import Echo

SOCKET = "wan.sock"
LOG = "wan.log"
LOCK = "wan.lock"
"""The name of the lock file, which the WAN holds until its last process has ended."""

_START_S = 60.0
_POLL_S = 0.02


@dataclass(frozen=True)
class WanOptions:
    """Options of a WAN.

    Attributes:
        emulator: "netem", the kernel's emulator; "userspace", Atoll's own; or "auto": netem if the kernel has it, otherwise userspace.
        rerouting: whether packets take another way around links that are cut or have become slow; otherwise routes are fixed.
        seed: seed of the random numbers for loss and jitter, with the userspace emulator; random if `None`.
        tied_to: pid of the process with which the WAN ends.
    """

    emulator: str = "auto"
    rerouting: bool = False
    seed: int | None = None
    tied_to: int | None = None


class Wan:
    """The client of a running WAN.

    Args:
        directory: the directory of the WAN's control socket.

    Every method raises AtollError: `wan.not_running` if no WAN runs, `wan.failed` if it does not answer.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).absolute()
        self._client = ControlClient(self.directory / SOCKET, _lost, absent=self._absent)

    @classmethod
    def start(cls, directory: Path | str, network: Network, options: WanOptions | None = None) -> Wan:
        """Start a WAN, and return its client when all its links work.

        Args:
            directory: an existing directory of this user that has no WAN.
            network: sites, routers and links.
            options: the WAN's options.

        Raises:
            AtollError: `wan.unavailable`: this machine can't emulate a WAN, or the WAN has too many nodes; `wan.invalid`: an option or
                address is not valid; `wan.failed`: the WAN did not start; `state.busy`: the directory has a WAN already.
        """
        made = cls(directory)
        request = {"network": network.to_json(), **asdict(options or WanOptions())}
        command = [sys.executable, "-P", "-m", "atoll.wan.daemon", str(made.directory)]
        with (made.directory / LOG).open("ab") as log:
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, cwd="/", start_new_session=True)
            with process:  # the WAN closes its standard output as soon as it has reported
                assert process.stdin is not None
                assert process.stdout is not None
                with suppress(BrokenPipeError):
                    process.stdin.write(json.dumps(request).encode())
                    process.stdin.close()
                line = process.stdout.readline()
                process.returncode = 0 if b'"ok"' in line else process.wait(_START_S)  # do not wait for a running WAN
        if not line:
            raise AtollError("wan.failed", f"the WAN did not start: see {made.directory / LOG}")
        result(decode(line))
        return made

    @classmethod
    def connect(cls, directory: Path | str) -> Wan | None:
        """Return the client of a directory's WAN; `None` if none runs."""
        made = cls(directory)
        try:
            made.describe()
        except AtollError as error:
            if error.kind.code != "wan.not_running" and not made._is_gone():
                raise
            return None
        return made

    def describe(self) -> dict[str, Any]:
        """Return a description of the WAN.

        Returns:
            `emulator` and the `reason` for its choice, `pid`, `tied_to`, `rootless`, `rerouting`, `addresses` by site, the present `wires`
            and `cuts`, and in `asked` the round trip between every two sites that follows from the present links.
        """
        described: dict[str, Any] = self._client.ask("show")
        return described

    @property
    def addresses(self) -> dict[str, str]:
        """The IPv4 address of each site."""
        addresses: dict[str, str] = self.describe()["addresses"]
        return addresses

    def apply(self, network: Network) -> None:
        """Adopt another topology, without disturbing the links that both have in common."""
        self._client.ask("apply", network=network.to_json())

    def set(self, link: str, changes: Mapping[str, Any], *, one_way: bool = False) -> None:
        """Change the properties of a link, with immediate effect.

        Args:
            link: the link's two ends, such as `paris:lyon`.
            changes: fields of `atoll.cloud.network.Wire`.
            one_way: whether to change only the direction from the first end to the second.

        Raises:
            AtollError: `wan.unknown`: no link has the name; `wan.invalid`: a field or its value is not valid.
        """
        self._client.ask("set", link=link, changes=dict(changes), one_way=one_way)

    def tie(self, pid: int) -> None:
        """Tie the WAN to another process: the WAN ends when that process ends."""
        self._client.ask("tie", pid=pid)

    def cut(self, name: str) -> None:
        """Cut a link, or all links of a site; packets in transit are lost.

        Raises:
            AtollError: `wan.unknown`: no link or site has the name.
        """
        self._client.ask("cut", name=name)

    def heal(self, name: str | None = None) -> None:
        """Undo one cut, or all cuts.

        Raises:
            AtollError: `wan.unknown`: no link or site has the name.
        """
        self._client.ask("heal", name=name)

    def counters(self) -> dict[str, dict[str, int]]:
        """Return the traffic of each direction of each link; see `atoll.wan.datapath.Counters`."""
        counters: dict[str, dict[str, int]] = self._client.ask("counters")
        return counters

    def probe(
        self, pairs: Sequence[tuple[str, str]], count: int = 5, interval_s: float = 0.1, patience_s: float = 2.0
    ) -> dict[tuple[str, str], list[Echo]]:
        """Measure round trips between sites, without running a program in the sites.

        Args:
            pairs: first and second site of each measurement.
            count: number of packets of each pair.
            interval_s: seconds between two packets of a pair.
            patience_s: seconds to wait for the last answers.

        Returns:
            The results of the packets, by pair.

        Raises:
            AtollError: `wan.unknown`, `wan.invalid`.
        """
        timeout_s = count * interval_s + patience_s + ANSWER_S
        found = self._client.ask("probe", timeout_s=timeout_s, pairs=list(pairs), count=count, interval_s=interval_s, patience_s=patience_s)
        return {pair: [Echo(*echo) for echo in echoes] for pair, echoes in zip(pairs, found, strict=True)}

    def namespace(self, site: str) -> Namespace:
        """Return the network namespace of a site, for a process to enter.

        Raises:
            AtollError: `wan.unknown`: the WAN has no such site.
        """
        return Namespace(**self._client.ask("namespace", site=site))

    def listen(self, site: str, addresses: Sequence[tuple[str, int]]) -> list[socket.socket]:
        """Return listening TCP sockets in a site's network; with them a process can serve there without entering the network.

        Args:
            site: the site's name.
            addresses: hosts and ports, at most 200.

        Raises:
            AtollError: `wan.unknown`: the WAN has no such site; `port.in_use`, `port.unusable`: the site can't listen at an address. On an
                error, no socket is left open.
        """
        return self._client.ask_for_sockets("listen", site=site, addresses=list(addresses))

    def popen(self, site: str, command: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.Popen[Any]:
        """Start a program in a site's network, and return its process.

        Args:
            site: the site's name.
            command: the program and its arguments.
            options: keyword arguments of `subprocess.Popen`.

        Raises:
            AtollError: `wan.unknown`: the WAN has no such site.
            OSError: the program does not exist.
        """
        return subprocess.Popen(command, preexec_fn=self.namespace(site).enter, **options)  # noqa: PLW1509 - only between fork and exec

    def close(self) -> None:
        """End the WAN, and return when it has ended; it is not an error if no WAN runs."""
        try:
            pid = self.describe()["pid"]
            watched = os.pidfd_open(pid)
        except (AtollError, ProcessLookupError):
            if not self._is_gone():  # the WAN may be ending already, because the process to which it is tied has ended
                raise AtollError("wan.failed", f"the WAN did not end within {ANSWER_S:.0f} s") from None
            return
        try:
            with suppress(AtollError):
                self._client.ask("end")
            _await_exit(watched)
        finally:
            os.close(watched)

    def _is_gone(self) -> bool:
        """Wait some seconds for the end of a WAN that does not answer; return whether it has ended."""
        try:
            descriptor = os.open(self.directory / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return True
        try:
            deadline = time.monotonic() + ANSWER_S
            while not _lock(descriptor):
                if time.monotonic() > deadline:
                    return False
                time.sleep(_POLL_S)
            return True
        finally:
            os.close(descriptor)

    def _absent(self, _why: str) -> AtollError:
        return AtollError("wan.not_running", f"no WAN runs for {self.directory}", "`atoll up` with a topology starts one")


def _lost(why: str) -> AtollError:
    return AtollError("wan.failed", f"the WAN does not answer: {why}")


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _await_exit(watched: int) -> None:
    if not select.select([watched], [], [], ANSWER_S)[0]:
        raise AtollError("wan.failed", f"the WAN did not end within {ANSWER_S:.0f} s")
