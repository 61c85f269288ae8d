"""Links between two transports over TLS on loopback, without probes."""

import asyncio
import contextlib
import random
import socket
import struct
import time

from atoll.mesh.transport import Transport
from atoll.zenoh_link import linger
from atoll.zenoh_link.config import Tls

PATIENCE_S = 20


@contextlib.asynccontextmanager
async def two(sites):
    """Start the transports of `paris` and `lyon`; provide them, and the reports about their links."""
    made, reports = [], {}
    for name in ("paris", "lyon"):
        options = sites.options(name)
        tls = Tls(*(str(options.tls / file) for file in ("ca.pem", "cert.pem", "key.pem")))
        links = reports[name] = []
        made.append(Transport(name, tls, lambda _data: None, lambda _name, up, links=links: links.append(up), random.Random(1)))
        await made[-1].start(options.host, options.mesh_port)
    try:
        yield made, reports
    finally:
        for each in made:
            with contextlib.suppress(RuntimeError):  # it was stopped
                await each.stop()


async def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def place(sites, name: str) -> tuple[str, int]:
    options = sites.options(name)
    return options.host, options.mesh_port


def test_a_link_is_down_as_soon_as_its_other_end_is_closed(sites):
    """Otherwise the member would count as linked until probes have failed."""

    async def scene() -> None:
        async with two(sites) as ((paris, lyon), reports):
            paris.connect("lyon", *place(sites, "lyon"))
            await until(lambda: reports["paris"] == [True])
            await lyon.stop()
            await until(lambda: reports["paris"] == [True, False])

    asyncio.run(scene())


def test_no_link_lingers(sites):
    """Closing a cut link would stop the thread of all other links."""

    def lingering() -> list[bool]:
        ports = {place(sites, name)[1] for name in ("paris", "lyon")}
        found = []
        for each in linger.connections():
            with contextlib.suppress(OSError):
                if {each.getsockname()[1], each.getpeername()[1]} & ports:
                    found.append(struct.unpack("ii", each.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0] == 1)
        return found

    async def scene() -> None:
        async with two(sites) as ((paris, lyon), reports):
            paris.connect("lyon", *place(sites, "lyon"))
            lyon.connect("paris", *place(sites, "paris"))
            await until(lambda: reports["paris"] == reports["lyon"] == [True])
            await until(lambda: lingering() == [False] * 4)

    asyncio.run(scene())
