"""The process of a site's gateway: the mesh node, the replica of identity, and both servers, in one event loop."""

from __future__ import annotations

from atoll.runtime.child import Child


def preload() -> None:
    """Import what a gateway needs, so that the gateways of all sites share it."""


def run(child: Child) -> None:
    """Serve until the process is asked to stop."""
    child.ready()
    child.wait()
