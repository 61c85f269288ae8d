"""The hook in the processes of a cell's cloud: points of workflows at which faults happen, and regions that do not cooperate."""

from __future__ import annotations

from atoll.bench.cell_faults import points
from atoll.bench.regions import alone
from atoll.runtime.child import Child
from atoll.runtime.fork_server import HOOK

ENVIRONMENT = {HOOK: f"{__name__}:install"}
"""Environment variables that the supervisor of a cell's cloud must be started with, so that its processes call `install`."""


def install(child: Child) -> None:
    """Install the hooks that the environment variables of the cloud ask for in this process."""
    points.install(child)
    alone.install(child)
