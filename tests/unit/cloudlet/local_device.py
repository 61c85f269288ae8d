"""A program for a network namespace of its own: a device that is joined by a cable to the namespace of `announced_site.py`.

    local_device.py DIRECTORY

The program prints the results of its searches as one JSON object; `test_local_search.py` judges them.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zeroconf import DNSOutgoing, DNSPointer
from zeroconf.asyncio import AsyncServiceInfo
from zeroconf.const import _CLASS_IN, _FLAGS_AA, _FLAGS_QR_RESPONSE, _TYPE_PTR

from atoll.cloudlet import local
from atoll.cloudlet.local import Found, LocalSearch
from atoll.errors import AtollError
from atoll.identifiers import DNS_SD_TYPE
from atoll.local_network import closed, opened
from atoll.mesh.certificates import authority
from atoll.mesh.signing import fingerprint

SITE, DEVICE = "10.9.0.1", "10.9.0.2"
GROUP = ("224.0.0.251", 5353)
SECONDS = 1.0
WAIT_S = 30.0
MALFORMED = (f"evil\x1b[2J.{DNS_SD_TYPE}", f"{'x' * 60}\u202e.{DNS_SD_TYPE}", "evil.", f"-.{DNS_SD_TYPE}")


class AnnouncedSite:
    """The program `announced_site.py`, in its namespace."""

    def __init__(self, directory: Path) -> None:
        words = ["unshare", "--net", sys.executable, str(Path(__file__).with_name("announced_site.py")), str(directory), SITE]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self.heard("started")

    @property
    def pid(self) -> int:
        return self._process.pid

    def heard(self, expected: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == expected:
                return
            self.said.append(line.strip())
        raise AssertionError(f"the site ended: {self.said}")

    def told(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        self.heard("done")

    def end(self) -> None:
        self._process.communicate()


def until(found: Callable[[], bool]) -> bool:
    """Return whether a condition becomes true in time."""
    end = time.monotonic() + WAIT_S
    while not found():
        if time.monotonic() > end:
            return False
    return True


def search(*arguments: Any, **options: Any) -> Found:
    return LocalSearch(*arguments, **options).find("lan1", SECONDS)


def query(identifier: int, unicast: bool) -> bytes:
    """Return a query for the type of service; a number makes each one different."""
    name = b"".join(bytes([len(label)]) + label.encode() for label in DNS_SD_TYPE.rstrip(".").split(".")) + b"\0"
    return struct.pack(">HHHHHH", identifier, 0, 1, 0, 0, 0) + name + struct.pack(">HH", 12, 0x8001 if unicast else 1)


def listener(port: int) -> socket.socket:
    """Return a socket of the multicast group, or with another port one that is sent only what is meant for it."""
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("", port) if port else (DEVICE, 0))
    if port:
        found.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP[0]) + socket.inet_aton(DEVICE))
    found.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(DEVICE))
    return found


def answers(sockets: socket.socket, seconds: float) -> list[int]:
    """Return the sizes of the messages that the site sends within some seconds."""
    found, end = [], time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        sockets.settimeout(left)
        try:
            message, sender = sockets.recvfrom(9000)
        except TimeoutError:
            break
        if sender[0] == SITE:
            found.append(len(message))
    return found


def unicast_answers() -> list[int]:
    """Return the answers to queries as an attacker sends them who wants the site to send more to a victim."""
    with listener(0) as sender:
        for number, target in enumerate((GROUP, (SITE, 5353)) * 2):
            sender.sendto(query(number, unicast=number > 1), target)
        return answers(sender, 1.5)


def flood_answers() -> tuple[int, float]:
    """Send 2,000 queries; return the number of the site's messages until one second after the first, and the seconds that this took."""
    begun, found = time.monotonic(), []
    with listener(5353) as sender:
        for number in range(2000):
            sender.sendto(query(number, unicast=bool(number % 2)), GROUP if number % 4 else (SITE, 5353))
            if number % 40 == 0:  # else the queries themselves fill the socket, and the answers are dropped
                found += answers(sender, 0.02)
        while not found and time.monotonic() - begun < 60:
            found += answers(sender, 0.5)
        found += answers(sender, 1.0)
    return len(found), time.monotonic() - begun


def garbage() -> None:
    """Send malformed messages, queries and answers to the site."""
    chance = random.Random(7)
    with listener(0) as sender:
        for number in range(3000):
            message = bytearray(query(number, unicast=False))
            message[2] = chance.choice((0, 0x84, 0xFF))
            for _ in range(chance.randrange(1, 6)):
                message[chance.randrange(4, len(message))] = chance.randrange(256)
            message += chance.randbytes(chance.choice((0, 0, 40, 1400)))
            sender.sendto(message, GROUP if number % 2 else (SITE, 5353))


@contextmanager
def false_gateway(certificate: Path) -> Iterator[int]:
    """Run a gateway with any certificate, which says that it is paris, and yield its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    body = json.dumps({"cloud": "test", "site": "paris", "region": "r", "url": "http://192.0.2.66/identity/v3"}).encode()
    words = [sys.executable, "-c", SERVER, str(certificate), body.decode(), DEVICE]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


SERVER = """
import socket, ssl, sys
directory, body, host = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{directory}/cert.pem", f"{directory}/key.pem")
with socket.create_server((host, 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        try:
            with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                if connection.recv(9000):
                    connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + body.encode())
        except OSError:
            pass
"""


def with_false_announcement(name: str, port: int, address: str, trusted: Path) -> Found:
    """Return the result of a search while this machine announces a gateway too."""

    async def main() -> Found:
        network = await opened([DEVICE])
        try:
            info = AsyncServiceInfo(DNS_SD_TYPE, f"{name}.{DNS_SD_TYPE}", port=port, server=f"{name}.local.", parsed_addresses=[address])
            await (await network.async_register_service(info, cooperating_responders=True))
            return await LocalSearch([trusted])._find("lan1", SECONDS)
        finally:
            await closed(network)

    return asyncio.run(main())


def with_malformed_names(trusted: Path) -> Found:
    """Return the result of a search while this machine announces gateways whose names are none."""

    async def main() -> Found:
        network = await opened([DEVICE])
        message = DNSOutgoing(_FLAGS_QR_RESPONSE | _FLAGS_AA)
        for name in MALFORMED:
            message.add_answer_at_time(DNSPointer(DNS_SD_TYPE, _TYPE_PTR, _CLASS_IN, 120, name), 0)
        searching = asyncio.create_task(LocalSearch([trusted])._find("lan1", SECONDS))
        try:
            while not searching.done():
                network.async_send(message)
                await asyncio.wait({searching}, timeout=SECONDS / 5)
            return await searching
        finally:
            await closed(network)

    return asyncio.run(main())


def main(directory: Path) -> dict[str, Any]:
    site = AnnouncedSite(directory)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "link", "add", "lan1", "type", "veth", "peer", "name", "lan0", "netns", str(site.pid)], check=True)
    subprocess.run(["ip", "address", "add", f"{DEVICE}/24", "dev", "lan1"], check=True)
    subprocess.run(["ip", "link", "set", "lan1", "up"], check=True)
    site.told("up")
    trusted = directory / "ca" / "ca.pem"
    mark = fingerprint((directory / "paris" / "tls" / "cert.pem").read_bytes())
    results: dict[str, Any] = {"fingerprint": mark, "appeared": until(lambda: bool(search([trusted]).sites))}
    results["authority"] = search([trusted]).data()
    results["nothing"] = search().data()
    results["confirmed"] = search([], [mark.upper()]).data()
    results["other"] = search([], ["0" * 64]).data()
    results["unicast"] = unicast_answers()
    results["flood"] = flood_answers()
    garbage()
    results["survived"] = until(lambda: bool(search([trusted]).sites))
    makers = ("stranger", authority(directory / "other", "test"), False), ("compute", authority(directory / "ca", "test"), True)
    for name, maker, unique in makers:
        maker.certify(directory / name, "paris", DEVICE, unique=unique)
        with false_gateway(directory / name) as port:
            results[name] = with_false_announcement(f"paris-{name}", port, DEVICE, trusted).data()
    results["loopback"] = with_false_announcement("paris-loop", 22, "127.0.0.1", trusted).data()
    results["mapped"] = with_false_announcement("paris-mapped", 22, "::ffff:127.0.0.1", trusted).data()
    results["malformed"] = with_malformed_names(trusted).data()
    site.told("down")
    results["gone"] = until(lambda: not search([trusted]).sites)
    site.told("up")
    results["again"] = until(lambda: bool(search([trusted]).sites))
    site.told("stop")
    results["stopped"] = search([trusted]).data()
    results["errors"] = errors()
    site.end()  # its namespace, and with it the cable, ends too
    results["said"] = site.said
    return results


def errors() -> list[str]:
    """Return the errors of searches that can't be made."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as selfish:
        selfish.bind(("", 5353))
        for network in ("lan1", "lan7", "10.77.0.0/16", "lo"):
            try:
                local.LocalSearch().find(network, 0.1)
            except AtollError as error:
                found.append(f"{error.kind.code}: {error.message}")
    subprocess.run(["ip", "link", "set", "lan1", "down"], check=True)
    try:
        local.LocalSearch().find("lan1", 0.1)
    except AtollError as error:
        found.append(f"{error.kind.code}: {error.message}")
    return found


sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
