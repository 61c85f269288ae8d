"""Measurements of traffic with the program `traffic.c`, which runs as an agent at each end."""

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

from atoll.bench.failure import failed
from atoll.bench.waiting import wait_until
from atoll.errors import AtollError
from atoll.wan.isolation import within

AGENT_PORT = 7000
"""The port of the agents."""

TRAFFIC_PORT = 7001
"""The destination port of the measured traffic."""

PATIENCE_S = 60.0
"""Seconds to wait for an agent's answer beyond the length of its task: a flooded guest is slow."""

_SOURCE = Path(__file__).with_name("traffic.c")
_REPORT = re.compile(r"bytes=(\d+) packets=(\d+) seconds=([\d.]+)")


@dataclass(frozen=True)
class Load:
    """A kind of traffic.

    Attributes:
        name: the name in reports.
        transport: the transport protocol, `tcp` or `udp`.
        size: the size of a write or of a datagram, in bytes.
    """

    name: str
    transport: str
    size: int


STREAM = Load("tcp", "tcp", 131072)
"""One TCP connection at its full rate."""

DATAGRAMS = Load("udp", "udp", 1400)
"""Datagrams that fit the smallest MTU of all paths, sent as fast as possible."""

PACKETS = Load("packets", "udp", 64)
"""Datagrams of 64 bytes, sent as fast as possible: the rate of packets limits them."""

LOADS = (STREAM, DATAGRAMS, PACKETS)
"""All kinds of traffic."""


@dataclass(frozen=True)
class Count:
    """The counts that the agent at one end reports.

    Attributes:
        size: the number of bytes that were sent or received.
        packets: the number of datagrams that were sent or received.
        seconds: the time from the first to the last of these datagrams, in seconds.
    """

    size: int
    packets: int
    seconds: float


@dataclass(frozen=True)
class TrafficSample:
    """The result of a measurement.

    Attributes:
        gbit_s: the received payload in 10^9 bits per second.
        packets_s: the received datagrams per second.
        lost: the share of the datagrams that were lost, from 0 to 1.
        packets: the number of received datagrams.
        switch_us: microseconds of the switch's processor time per received datagram; `None` without a switch or datagrams.
    """

    gbit_s: float
    packets_s: float
    lost: float
    packets: int = 0
    switch_us: float | None = None


@dataclass(frozen=True)
class End:
    """A source or destination of traffic.

    Attributes:
        network: a descriptor of the network namespace from which the end's agent is reachable.
        agent: the address of the agent in that network.
        address: the address at which the other end reaches this end.
    """

    network: int
    agent: str
    address: str


def compiled(directory: Path) -> Path:
    """Compile the program for this machine, statically linked so that it runs in guests; return its path.

    Args:
        directory: the directory of the compiled program.

    Raises:
        AtollError: `bench.requirement`: no C compiler is installed, or the compilation failed.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise AtollError("bench.requirement", "traffic needs a C compiler: expected the program cc", "install gcc and libc6-dev")
    program = directory / "traffic"
    words: Sequence[str] = [compiler, "-O2", "-static", "-std=gnu11", "-Wall", "-Wextra", "-o", str(program), str(_SOURCE)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AtollError("bench.requirement", f"{compiler} can't compile {_SOURCE.name}: {done.stderr.strip()[-300:]}", "install libc6-dev")
    return program


def parse(line: str) -> Count:
    """Return the counts in an agent's output.

    Raises:
        AtollError: `bench.failed`: the line contains no counts.
    """
    found = _REPORT.fullmatch(line.strip())
    if found is None:
        raise failed(f"the traffic agent reports no counts: {line.strip() or 'the agent has ended'}")
    return Count(int(found[1]), int(found[2]), float(found[3]))


def sample(sent: Count, arrived: Count) -> TrafficSample:
    """Return the result from the counts of both ends."""
    seconds = arrived.seconds or sent.seconds  # a single datagram has no duration
    lost = 1 - arrived.packets / sent.packets if sent.packets else 0.0
    return TrafficSample(arrived.size * 8 / seconds / 1e9, arrived.packets / seconds, lost, arrived.packets)


def measure(source: End, target: End, load: Load, seconds: float) -> TrafficSample:
    """Measure traffic from one end to the other.

    Args:
        source: the sending end.
        target: the receiving end.
        load: the kind of traffic.
        seconds: the length of the measurement, in seconds.

    Raises:
        AtollError: `bench.failed`: an agent did not answer, or no traffic arrived.
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
    """Wait until an agent answers, for at most `timeout_s` seconds.

    Raises:
        AtollError: `bench.failed`: the agent did not answer in time.
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
        raise failed(f"traffic: {said or 'the agent has ended'}")
    yield


def _line(lines: TextIO) -> str:
    try:
        return lines.readline()
    except OSError as error:
        raise failed(f"traffic: the agent does not answer: {error}") from error
