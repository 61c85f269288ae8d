"""A program for a network namespace of its own: a site's gateway with doubles of its services, announced on the interface `lan0`.

    announced_site.py DIRECTORY ADDRESS

Commands come line by line on standard input: `up` gives the interface its address, `down` takes it away, `stop` ends the announcement, and
the end of the input ends the program. Answers go to standard output, a line each: what the announcer says, and `done` after each command.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from gateway_cloud import Cloud

from atoll.gateway.announcer import Announced, announce


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


async def main(directory: Path, address: str) -> None:
    ip("link", "set", "lo", "up")
    say("started")
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)

    async def command(expected: str) -> None:
        assert (await stdin.readline()).decode().strip() == expected

    await command("up")
    ip("address", "add", f"{address}/24", "dev", "lan0")
    ip("link", "set", "lan0", "up")
    cloud = Cloud(directory, "paris")
    site = cloud["paris"]
    cloud._authority.certify(site.options.tls, "paris", address)
    site._sockets[2].close()
    site._sockets[2] = listener = socket.create_server((address, 0))
    port = listener.getsockname()[1]
    site.options = replace(site.options, host=address, peer_port=port, announce="lan0")
    async with cloud:
        stop = asyncio.Event()
        announced = Announced("test", "paris", address, port, "lan0", str(site.options.tls / "cert.pem"))
        task = asyncio.create_task(announce(announced, stop, 0.1, say))
        say("done")
        await command("down")
        ip("address", "flush", "dev", "lan0")
        say("done")
        await command("up")
        ip("address", "add", f"{address}/24", "dev", "lan0")
        say("done")
        await command("stop")
        stop.set()
        await task
        say("done")
        await stdin.readline()


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
