"""The process of a site's gateway: one event loop with everything in it."""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from pathlib import Path

from atoll.gateway.identity.parts import Parts
from atoll.gateway.options import FILE, Options
from atoll.runtime.child import Child


def preload() -> None:
    """Nothing is left to do: with this module everything is imported, and shared by the gateways of all sites."""


def run(child: Child) -> None:
    """Serve until the process is asked to stop."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _more_descriptors()
    options = Options.load(Path(child.arguments["directory"]) / "etc" / FILE)
    asyncio.run(_serve(child, options))


def _more_descriptors() -> None:
    """Take as many descriptors as the system gives: a gateway has thousands of connections, and a shell's limit is often 1024."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(child: Child, options: Options) -> None:
    parts = Parts(options)
    await parts.start(*child.sockets)
    child.ready()
    try:
        await child.stopped()
    finally:
        await parts.stop()
