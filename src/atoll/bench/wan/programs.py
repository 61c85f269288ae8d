"""ping and iperf3, run inside sites."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from atoll.bench.failure import failed
from atoll.errors import AtollError
from atoll.wan.client import Wan

PACKAGES = {"ping": "iputils-ping", "iperf3": "iperf3"}
"""The Debian package of each program."""

_URGENT = ("nice", "-n", "-10")
"""Prefix of commands that gives them the emulator's priority, so that other load does not distort the measurement; unused if forbidden."""

_COUNTS = re.compile(r"(\d+) packets transmitted, (\d+) received")
_RTT = re.compile(r"rtt min/avg/max/mdev = [\d.]+/([\d.]+)/")
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Pings:
    """The result of ping.

    Attributes:
        sent: the number of sent packets.
        lost: the number of sent packets that were lost.
        rtt_ms: the mean round trip in milliseconds; `None` if all packets were lost. From 100 ms on, ping prints whole milliseconds.
    """

    sent: int
    lost: int
    rtt_ms: float | None


def check_programs() -> None:
    """Check that the programs are installed.

    Raises:
        AtollError: `bench.requirement`: packages are missing, which the message names.
    """
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing:
        hint = f"`sudo apt-get install --no-install-recommends {' '.join(missing)}`"
        raise AtollError("bench.requirement", f"bench wan needs {' and '.join(missing)} from Debian's packages", hint)


def ping(wan: Wan, site: str, address: str, count: int, interval_s: float) -> Pings:
    """Ping an address from a site, and return the round trips.

    Args:
        wan: the emulated WAN.
        site: the name of the site.
        address: the address.
        count: the number of packets.
        interval_s: seconds between two packets.

    Raises:
        AtollError: `bench.failed`: ping printed no summary.
    """
    words = [*_URGENT, "ping", "-n", "-q", "-c", str(count), "-i", f"{interval_s:g}", "-W", "2", address]
    with wan.popen(site, words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said, _nothing = process.communicate(timeout=count * interval_s * 5 + _PATIENCE_S)
    return parse_ping(said)


def parse_ping(said: str) -> Pings:
    """Return the result from the output of ping.

    Raises:
        AtollError: `bench.failed`: the output has no summary.
    """
    counts, rtt = _COUNTS.search(said), _RTT.search(said)
    if counts is None:
        raise failed(f"ping printed no summary: {' '.join(said.split())[-200:]}")
    sent, received = int(counts[1]), int(counts[2])
    return Pings(sent, sent - received, float(rtt[1]) if rtt else None)


class Iperf:
    """An iperf3 server in one site for one test; it ends with the context.

    Args:
        wan: the emulated WAN.
        site: the site of the server.
    """

    def __init__(self, wan: Wan, site: str) -> None:
        self._wan = wan
        self._address = wan.addresses[site]
        words = [*_URGENT, "iperf3", "--server", "--one-off", "--forceflush"]
        self._server = wan.popen(site, words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self) -> Iperf:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            if "listening" in line:
                return self
        self.__exit__()
        raise failed("iperf3 did not start")

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()

    def start(self, site: str, options: Sequence[str]) -> subprocess.Popen[str]:
        """Start a client in another site, and return its process."""
        words = [*_URGENT, "iperf3", "--client", self._address, "--json", *options]
        return self._wan.popen(site, words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def report(self, client: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
        """Wait for a client's end and return its report.

        Args:
            client: a client that `start` returned.
            seconds: the length of its run.

        Raises:
            AtollError: `bench.failed`: the client did not end in time, or reports an error.
        """
        with client:
            out, _err = client.communicate(timeout=seconds + _PATIENCE_S)
        try:
            report: dict[str, Any] = json.loads(out)
        except ValueError:
            raise failed(f"iperf3: {out[-200:]}") from None
        if "error" in report:
            raise failed(f"iperf3: {report['error']}")
        return report


def received_mbit_s(report: dict[str, Any]) -> float:
    """Return the median rate of a client's intervals in megabits per second, without the omitted intervals."""
    rates = sorted(item["sum"]["bits_per_second"] for item in report["intervals"] if not item["sum"].get("omitted"))
    if not rates:
        raise failed("iperf3 reports no interval")
    return float(rates[len(rates) // 2]) / 1e6
