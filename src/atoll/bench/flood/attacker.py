"""The attacker, a separate process with a thread in the network of each site: `python -m atoll.bench.flood.attacker JSON`.

Each line of the process's standard input names the sites to attack from then on, separated by commas; an empty line stops all attacks. The
process answers each line with a line of JSON: the counts of its requests since the previous line, by site.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from atoll.bench.flood.rubbish import KINDS, SLOW
from atoll.wan.isolation import within

TICK_S = 0.02
MOST_OPEN = 256
"""Greatest number of connections to one site that wait for an answer; a further one replaces the oldest, which is closed."""

REOPENED = 2
"""Greatest number of slow connections that are opened in one tick."""


@dataclass
class AttackedPort:
    """One site under attack.

    Attributes:
        network: a descriptor of the site's network namespace.
        address: the host and port of the site's gateway.
        on: whether the attack is under way.
        counts: the counts of requests since they were last read.
    """

    network: int
    address: tuple[str, int]
    on: bool = False
    counts: dict[str, int] = field(default_factory=lambda: {"requests": 0, "refused": 0, "slow": 0, "late": 0})


class Attack:
    """The attack on one site.

    Args:
        target: the site's port.
        rate: the number of requests per second.
        slow: the number of slow connections to keep open.
        sources: the number of source addresses.
    """

    def __init__(self, target: AttackedPort, rate: float, slow: int, sources: int) -> None:
        self._target = target
        self._rate = rate
        self._slow = slow
        self._sources = cycle([f"127.1.0.{number + 1}" for number in range(sources)])
        self._kinds = cycle(KINDS)
        self._beginnings = cycle(SLOW)
        self._open: deque[socket.socket] = deque()
        self._held: list[socket.socket] = []

    def run(self) -> None:
        """Send requests and keep slow connections open whenever the attack is under way, until the process ends."""
        due = time.monotonic()
        while True:
            time.sleep(TICK_S)
            now = time.monotonic()
            if not self._target.on:
                due = now
                self._close()
                continue
            if now - due > 1:  # this process is more than a second late: skip the missed requests
                self._target.counts["late"] += int((now - due) * self._rate)
                due = now
            while due < now:
                due += 1 / self._rate
                self._send()
            self._hold()

    def _connect(self, data: bytes) -> socket.socket | None:
        made = socket.socket()
        try:
            made.bind((next(self._sources), 0))
            made.settimeout(0.5)
            made.connect(self._target.address)
            made.setblocking(False)
            if data:
                made.send(data)
        except OSError:
            made.close()
            self._target.counts["refused"] += 1
            return None
        return made

    def _send(self) -> None:
        """Send the next junk request, every second time on an open connection if one exists."""
        self._target.counts["requests"] += 1
        data = next(self._kinds)()
        if self._open and self._target.counts["requests"] % 2:
            kept = self._open.popleft()
            try:
                kept.send(data)
                kept.recv(65536)
            except BlockingIOError:
                pass
            except OSError:
                kept.close()
                return
            self._open.append(kept)
            return
        made = self._connect(data)
        if made is not None:
            self._open.append(made)
        while len(self._open) > MOST_OPEN:
            self._open.popleft().close()

    def _hold(self) -> None:
        """Keep the slow connections open: reopen those that the gateway has closed."""
        alive = []
        for each in self._held:
            try:
                if each.recv(4096):
                    alive.append(each)
                else:
                    each.close()
            except BlockingIOError:
                alive.append(each)
            except OSError:
                each.close()
        self._held = alive
        for _ in range(min(REOPENED, self._slow - len(alive))):
            made = self._connect(next(self._beginnings))
            if made is not None:
                self._held.append(made)
        self._target.counts["slow"] = max(self._target.counts["slow"], len(self._held))

    def _close(self) -> None:
        for each in (*self._open, *self._held):
            with suppress(OSError):
                each.close()
        self._open.clear()
        self._held.clear()


def main(arguments: dict[str, Any]) -> None:
    """Attack the sites that the lines of standard input name.

    Args:
        arguments: the decoded JSON of the command line: the sites' ports, and the parameters of `Attack`.
    """
    targets = {name: AttackedPort(network, (host, port)) for name, (network, host, port) in arguments["targets"].items()}
    for target in targets.values():
        attack = Attack(target, arguments["rate"], arguments["slow"], arguments["sources"])
        threading.Thread(target=within, args=(target.network, attack.run), daemon=True).start()
    for line in sys.stdin:
        wanted = line.strip().split(",")
        done = {name: dict(target.counts) for name, target in targets.items()}
        for name, target in targets.items():
            target.counts.update(dict.fromkeys(target.counts, 0))
            target.on = name in wanted
        sys.stdout.write(json.dumps(done) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
