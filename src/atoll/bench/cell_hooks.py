"""The hook in the processes of a cell's cloud: points of workflows at which faults happen, and regions that do not cooperate."""

from __future__ import annotations

from atoll.bench.cell_faults import points
from atoll.bench.regions import alone
from atoll.runtime.child import Child
from atoll.runtime.fork_server import HOOK

ENVIRONMENT = {HOOK: f"{__name__}:install"}
"""The environment that the supervisor of such a cloud must be started with."""


def install(child: Child) -> None:
    """Install in this process what the environment of the cloud asks for."""
    points.install(child)
    alone.install(child)
