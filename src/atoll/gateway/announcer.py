"""The process that announces a site's gateway on a local network by DNS-SD, where the cloud's YAML says so (`discovery.announce`).

Devices there find the gateway without a name or an address (`atoll cloudlet find --local`). The announcement proves nothing: everybody on
the network can send another one. So it has the address of the peer port, and the devices verify the certificate there.

If the interface is missing, or the port is busy, the process says so in its log, and tries again: a site starts without its local network.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zeroconf.asyncio import AsyncServiceInfo

from atoll.errors import AtollError
from atoll.gateway.options import ANNOUNCER_FILE
from atoll.identifiers import ANNOUNCEMENT, DNS_SD_TYPE
from atoll.local_network import LocalNetwork, addresses_on, closed, opened
from atoll.mesh.signing import fingerprint
from atoll.runtime.child import Child

LOG = logging.getLogger(__name__)

LOOK_S = 15.0
"""Seconds between two looks at the interface's address and the gateway's certificate, and between two attempts."""

TTL_S = 120
"""Seconds for which other machines remember an announcement that is not repeated."""


@dataclass(frozen=True)
class Announced:
    """The settings of the process: strangers can send it anything, so it has none of the gateway's secrets.

    Attributes:
        cloud: the cloud's name.
        site: the site's name.
        host: the address of the gateway.
        peer_port: the gateway's peer port.
        network: the interface or the network at which the gateway is announced.
        certificate: the file of the gateway's certificate.
    """

    cloud: str
    site: str
    host: str
    peer_port: int
    network: str
    certificate: str


def preload() -> None:
    """Do nothing: the process is forked from the gateway's fork server."""


def run(child: Child) -> None:
    """Announce the gateway until the process is asked to stop."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("zeroconf").setLevel(logging.ERROR)  # it warns of each malformed message of a stranger
    os.nice(10)  # strangers can keep this process busy, and shall not keep the site's others waiting
    text = (Path(child.arguments["directory"]) / "etc" / ANNOUNCER_FILE).read_text(encoding="utf-8")
    asyncio.run(_serve(child, Announced(**json.loads(text))))


async def _serve(child: Child, options: Announced) -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(announce(options, stop))
    child.ready()
    await child.stopped()
    stop.set()
    await task


async def announce(options: Announced, stop: asyncio.Event, look_s: float = LOOK_S, say: Callable[[str], None] = LOG.warning) -> None:
    """Announce a gateway until an event is set.

    Args:
        options: see `Announced`.
        stop: the event.
        look_s: see `LOOK_S`.
        say: called with each new reason for which the gateway is not announced.
    """
    said = ""
    while not stop.is_set():
        try:
            await _announced(options, stop, look_s)
            said = ""
        except AtollError as error:
            if error.message != said:
                said = error.message
                say(f"the gateway is not announced at {options.network}: {said}; further attempts follow every {look_s:.0f} s")
            await _wait(stop, look_s)
        except Exception:  # nothing else would announce the gateway
            LOG.exception("the gateway is not announced at %s", options.network)
            await _wait(stop, look_s)


async def _announced(options: Announced, stop: asyncio.Event, look_s: float) -> None:
    """Announce the gateway, and withdraw it when the event is set, or the address or the certificate changes.

    Raises:
        AtollError: `discovery.network`: the network can't be used, or not any more.
    """
    now = _facts(options)
    network = await opened(now[0])
    try:
        await _register(network, options, now[1])
        LOG.info("the gateway is announced at %s (%s)", options.network, ", ".join(now[0]))
        while not stop.is_set() and _facts(options) == now:
            await _wait(stop, look_s)
    finally:
        await closed(network)


def _facts(options: Announced) -> tuple[list[str], str]:
    """Return the addresses at the local network, and the fingerprint of the gateway's certificate.

    Raises:
        AtollError: `discovery.network`: the machine has no address there.
    """
    return addresses_on(options.network), fingerprint(Path(options.certificate).read_bytes())


async def _register(network: LocalNetwork, options: Announced, mark: str) -> None:
    # The name is unique without asking others, who could claim any name: it has a part of the fingerprint.
    name = f"{options.site}-{mark[:8]}"
    facts = {
        "txtvers": "1",
        "site": options.site,
        "cloud": options.cloud.encode()[:200].decode(errors="ignore"),
        "api": ANNOUNCEMENT,
        "sha256": mark,
    }
    info = AsyncServiceInfo(
        DNS_SD_TYPE,
        f"{name}.{DNS_SD_TYPE}",
        port=options.peer_port,
        properties=facts,
        server=f"{name}.local.",
        parsed_addresses=[options.host],
        host_ttl=TTL_S,
        other_ttl=TTL_S,
    )
    await (await network.async_register_service(info, cooperating_responders=True))


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
