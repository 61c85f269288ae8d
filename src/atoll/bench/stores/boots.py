"""A site of one engine that boots servers, while the distance of its database server changes."""

from __future__ import annotations

import statistics
from types import TracebackType

from atoll.bench import workload
from atoll.bench.processes import memory_mb, processor_seconds
from atoll.bench.site import Sites
from atoll.bench.stores.engine import Engine
from atoll.bench.workspace import Workspace
from atoll.errors import AtollError

POLL_S = 0.05
"""Seconds between two requests for the status of a booting server."""

TINY_MS = 0.001
"""Round-trip time in milliseconds with which connections go through the proxy and are hardly delayed, for starts and deletions."""


class BootingSite:
    """A context in which a site runs that has its databases at an engine.

    Args:
        engine: the engine; its distance is 0 while the site starts.
        work: the experiment's workspace.

    Raises:
        AtollError: `bench.failed`: the site did not start, or its first boot failed.
    """

    def __init__(self, engine: Engine, work: Workspace) -> None:
        self._engine = engine
        self._say = work.say
        root = work.root / f"site-{engine.name}"
        root.mkdir()
        self._sites = Sites(root, 1, work.environment, engine.place())
        self._booted = 0
        self._is_far = False

    def __enter__(self) -> BootingSite:
        self._say(f"starting a site on {self._engine.name}")
        self._engine.move(0)
        self._sites.up(1)
        self._api = self._sites.target().api()
        self._api.sign_in()
        self._tenancy = workload.prepare(self._api)
        self._boots(1)  # fills caches and opens connections
        return self

    def __exit__(self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None) -> None:
        self._come_near()
        self._sites.destroy()

    def measure(self, count: int, milliseconds: float) -> dict[str, float | None]:
        """Boot servers one after the other; return the median time of a boot, processor time of each, memory, and failures by name.

        The processor time and the memory include those of the database server. Times are `None` if a boot failed.

        Args:
            count: the number of servers.
            milliseconds: the round-trip time between the site and its database server.
        """
        try:
            self._go(milliseconds)
            seconds, used_s = self._boots(count)
        except AtollError as error:
            self._say(f"a boot on {self._engine.name} at {milliseconds} ms failed: {error.message}")
            return {"boot_s": None, "boot_cpu_s": None, "memory_mb": memory_mb(self._pids()), "boot_failures": 1}
        finally:
            self._come_near()
        measured: dict[str, float | None] = {"boot_s": statistics.median(seconds), "boot_cpu_s": used_s / count}
        return measured | {"memory_mb": memory_mb(self._pids()), "boot_failures": 0}

    def _go(self, milliseconds: float) -> None:
        """Set the distance. Connections to the server itself have none, so the services are restarted for it."""
        is_far = milliseconds > 0 and self._engine.distance is not None
        if is_far != self._is_far:
            self._engine.move(0)
            self._sites.stop()
            self._engine.move(0 if not is_far else TINY_MS)
            self._sites.up(1)
            self._is_far = is_far
            self._boots(1)
        self._engine.move(milliseconds)

    def _come_near(self) -> None:
        """Take the distance away, but leave the connections as they are."""
        self._engine.move(TINY_MS if self._is_far else 0)

    def _boots(self, count: int) -> tuple[list[float], float]:
        """Boot servers, and delete them; return the seconds of each boot, and the processor time of all boots in seconds."""
        times, servers = [], []
        before = processor_seconds(self._pids())
        try:
            for _number in range(count):
                self._booted += 1
                server, seconds = workload.boot(self._api, self._tenancy, f"boot-{self._booted}", POLL_S)
                servers.append(server)
                times.append(seconds)
            after = processor_seconds(self._pids())
        finally:
            self._come_near()
            workload.delete(self._api, servers)
        return times, sum(spent - before.get(pid, 0.0) for pid, spent in after.items())

    def _pids(self) -> list[int]:
        return [*self._sites.pids(), *self._engine.pids()]
