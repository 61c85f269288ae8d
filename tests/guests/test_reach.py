"""The ports of the control plane that guests can reach: the gateways' public ports, and metadata and DNS at 169.254.169.254."""

import json
import sys
from collections.abc import Iterator

import pytest
from deployment import until
from plugged import Host, Switch, plug

from atoll.cloud.network import outside_of

SITES = ("paris", "nice")

OPEN = {"gateway", "peer", "mesh", "bus"}
"""The endpoints at a site's own address; all others are on loopback."""

LISTENING = """
import json, psutil
print(json.dumps([[each.type == 1, each.laddr.ip, each.laddr.port] for each in psutil.net_connections("inet")
                  if each.status == "LISTEN" or (each.type == 2 and not each.raddr)]))
"""

SCAN = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def reached(place):
    try:
        socket.create_connection(tuple(place), 2).close()
        return True
    except OSError:
        return False
places = json.loads(sys.stdin.read())
with ThreadPoolExecutor(50) as pool:
    print(json.dumps([place for place, open_ in zip(places, pool.map(reached, places)) if open_]))
"""


@pytest.fixture(scope="module")
def switches(cloud, paris, nice) -> dict[str, Switch]:
    return {name: Switch(cloud, name) for name in SITES}


def listening(switch: Switch) -> list[tuple[bool, str, int]]:
    """Return the listening sockets in a site's network: whether TCP, address, and port."""
    return [tuple(each) for each in json.loads(switch.inside(sys.executable, "-c", LISTENING).stdout)]


@pytest.fixture(scope="module")
def guest(paris) -> Iterator[None]:
    """Boot a real guest, whose QEMU listens for its consoles."""
    made = paris.boot("scanned")
    yield
    made.delete()


def test_internal_apis_and_consoles_listen_at_loopback_alone(cloud, switches, guest):
    for name, switch in switches.items():
        ports = cloud.settings(name).ports
        found = listening(switch)
        abroad = {(tcp, port) for tcp, address, port in found if not address.startswith("127.")}
        assert abroad <= {(True, ports[endpoint]) for endpoint in OPEN}, found
        at_loopback = {port for tcp, address, port in found if tcp and address == "127.0.0.1"}
        assert {ports[endpoint] for endpoint in ("identity", "image", "compute", "metadata", "network", "placement")} <= at_loopback


@pytest.mark.parametrize("where", ["on a network of its own", "on the external network"])
def test_guest_reaches_the_public_ports_alone(cloud, paris, switches, guest, where):
    """All listening ports of both sites are tried at all addresses."""
    own = {name: cloud.settings(name).own_address for name in SITES}
    addresses = [*own.values(), *(outside_of(address).partition("/")[0] for address in own.values())]
    ports = {port for switch in switches.values() for tcp, _, port in listening(switch) if tcp}
    assert len(ports) > len(OPEN)
    places = [(address, port) for address in addresses for port in sorted(ports)]
    base = outside_of(own["paris"]).rpartition(".")[0]
    made = (
        plug(paris, switches["paris"], "scanner")
        if where == "on a network of its own"
        else Host(switches["paris"], "scanner", f"{base}.139/25")
    )
    with made as host:
        if not host.port:
            host.run("ip", "route", "add", "default", "via", addresses[len(SITES)])
        public = [[address, cloud.settings(name).ports["gateway"]] for name, address in own.items()]
        until(lambda: scan(host, public) == public, "the public ports are reached", 60)
        assert scan(host, places) == [place for place in map(list, places) if place in public]


def scan(host: Host, places: object) -> list[list[object]]:
    return list(json.loads(host.run(sys.executable, "-c", SCAN, stdin=json.dumps(places)).stdout))
