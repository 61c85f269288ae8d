"""The program that sends and receives (`traffic.c`), and what it says."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from atoll.bench.measure import failed, wait_until
from atoll.errors import AtollError
from atoll.wan.isolation import within

AGENT_PORT = 7000
"""Where agents listen."""

TRAFFIC_PORT = 7001
"""Where what is measured goes to."""

PATIENCE_S = 60.0
"""Seconds that an agent may be silent beyond what it was told to do: a guest that is flooded has little time to say so."""

_SOURCE = Path(__file__).with_name("traffic.c")
_REPORT = re.compile(r"bytes=(\d+) packets=(\d+) seconds=([\d.]+)")


@dataclass(frozen=True)
class Load:
    """What is sent.

    Attributes:
        name: for reports.
        transport: `tcp` or `udp`.
        size: bytes of a write or of a datagram.
    """

    name: str
    transport: str
    size: int


STREAM = Load("tcp", "tcp", 131072)
"""As much as one TCP connection carries."""

DATAGRAMS = Load("udp", "udp", 1400)
"""Datagrams that the least MTU of all that is compared has room for, as fast as they are taken."""

PACKETS = Load("packets", "udp", 64)
"""Small ones."""

LOADS = (STREAM, DATAGRAMS, PACKETS)
"""All of them."""


@dataclass(frozen=True)
class Count:
    """What one end says.

    Attributes:
        size: bytes that were sent or that arrived.
        packets: the same of datagrams.
        seconds: from the first to the last.
    """

    size: int
    packets: int
    seconds: float


@dataclass(frozen=True)
class Sample:
    """What went through.

    Attributes:
        gbit_s: 10^9 bits of payload that arrived in a second.
        packets_s: datagrams that arrived in a second.
        lost: share of the datagrams that did not arrive.
        packets: how many did.
        switch_us: microseconds of processor time of the site's switch for each of these; None if there is no switch or no datagram.
    """

    gbit_s: float
    packets_s: float
    lost: float
    packets: int = 0
    switch_us: float | None = None


@dataclass(frozen=True)
class End:
    """Where traffic comes from or goes to.

    Attributes:
        network: a descriptor of the network namespace that its agent is asked from.
        agent: the address that it is asked at.
        address: its own, for the other end.
    """

    network: int
    agent: str
    address: str


def compiled(directory: Path) -> Path:
    """The program, made for this machine, and without libraries so that it runs in guests.

    Args:
        directory: where it comes to be.

    Raises:
        AtollError: `bench.requirement`: there is no C compiler, or it refuses.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise AtollError("bench.requirement", "no C compiler: expected cc, for the program that makes traffic", "install gcc and libc6-dev")
    program = directory / "traffic"
    words: Sequence[str] = [compiler, "-O2", "-static", "-std=gnu11", "-Wall", "-Wextra", "-o", str(program), str(_SOURCE)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AtollError("bench.requirement", f"{compiler} can't compile {_SOURCE.name}: {done.stderr.strip()[-300:]}", "install libc6-dev")
    return program


def parse(line: str) -> Count:
    """What one end says in the end.

    Raises:
        AtollError: `bench.failed`: something else.
    """
    found = _REPORT.fullmatch(line.strip())
    if found is None:
        raise failed(f"traffic: {line.strip() or 'the agent has gone'}")
    return Count(int(found[1]), int(found[2]), float(found[3]))


def sample(sent: Count, arrived: Count) -> Sample:
    """What both ends say, together."""
    seconds = arrived.seconds or sent.seconds  # a single datagram takes no time
    lost = 1 - arrived.packets / sent.packets if sent.packets else 0.0
    return Sample(arrived.size * 8 / seconds / 1e9, arrived.packets / seconds, lost, arrived.packets)


def measure(source: End, target: End, load: Load, seconds: float) -> Sample:
    """Have one end send to the other.

    Args:
        source: that sends.
        target: that receives.
        load: what.
        seconds: for how long.

    Raises:
        AtollError: `bench.failed`: an agent doesn't answer, or nothing arrived.
    """
    patience_s = seconds + PATIENCE_S
    with (
        _asked(target, f"receive {load.transport} {TRAFFIC_PORT}", patience_s) as arrivals,
        _told(arrivals, "listening"),
        _asked(source, f"send {load.transport} {target.address} {TRAFFIC_PORT} {load.size} {seconds:g}", patience_s) as departures,
    ):
        sent = parse(_line(departures))
        return sample(sent, parse(_line(arrivals)))


def await_agent(end: End, timeout_s: float) -> None:
    """Wait until an agent answers.

    Raises:
        AtollError: `bench.failed`: it does not in time.
    """
    wait_until(lambda: _answers(end), f"the agent at {end.agent} answers", timeout_s)


def _answers(end: End) -> bool:
    with suppress(OSError, AtollError), _asked(end, "?", 5.0) as said:
        return _line(said).startswith("error: expected")
    return False


@contextmanager
def _asked(end: End, what: str, patience_s: float) -> Iterator[TextIO]:
    try:
        connection = within(end.network, lambda: socket.create_connection((end.agent, AGENT_PORT), 5.0))
    except OSError as error:
        raise failed(f"the agent at {end.agent} does not answer: {error}") from error
    with connection, connection.makefile("r", encoding="ascii", errors="replace") as lines:
        connection.settimeout(patience_s)
        connection.sendall(f"{what}\n".encode())
        yield lines


@contextmanager
def _told(lines: TextIO, word: str) -> Iterator[None]:
    said = _line(lines).strip()
    if said != word:
        raise failed(f"traffic: {said or 'the agent has gone'}")
    yield


def _line(lines: TextIO) -> str:
    try:
        return lines.readline()
    except OSError as error:
        raise failed(f"traffic: the agent does not answer: {error}") from error
