"""The process of a site's gateway, which runs everything in one event loop."""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from pathlib import Path

from atoll.gateway import tracing
from atoll.gateway.app import GatewayApp
from atoll.gateway.options import FILE, Options
from atoll.runtime.child import Child
from atoll.trace import process


def preload() -> None:
    """Do nothing: the import of this module has imported all modules that the gateways of all sites share."""


def run(child: Child) -> None:
    """Run the gateway until the process is asked to stop."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _more_descriptors()
    options = Options.load(Path(child.arguments["directory"]) / "etc" / FILE)
    recorder = tracing.start(options)
    try:
        asyncio.run(_serve(child, options))
    finally:
        process.stop(recorder)


def _more_descriptors() -> None:
    """Raise the limit of file descriptors: a gateway has thousands of connections, and a shell's limit is often 1024."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(child: Child, options: Options) -> None:
    app = GatewayApp(options)
    await app.start(*child.sockets)
    child.ready()
    try:
        await child.stopped()
    finally:
        await app.stop()
