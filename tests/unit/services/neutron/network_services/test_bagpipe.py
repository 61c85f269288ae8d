"""bagpipe-bgp, and the options that BGP VPNs need."""

from dataclasses import replace

import pytest
from test_network_service_agents import needs
from upstream import inside, unknown_options

from atoll.services.neutron.ml2ovs import agents
from atoll.services.neutron.network_services import bagpipe


@pytest.fixture
def real(settings):
    return replace(settings, network="ovs", network_services=("bgpvpn",))


def test_upstream_knows_every_option(real, tmp_path):
    needs("networking-bagpipe")
    [text] = bagpipe.configuration(real).values()
    file = tmp_path / "x.conf"
    file.write_text(text, encoding="utf-8")
    assert set(unknown_options(file, "networking_bagpipe.*", "oslo.log", "oslo.concurrency", "oslo.policy")) <= {
        "OVS.ovsdb_connection",
        "ovs.ovsdb_connection",
    }


def test_agent_of_the_switch_answers_for_gateways_that_are_not_there(real):
    [text] = agents.SERVICE.configuration(real).values()
    assert "extensions = qos,bagpipe_bgpvpn\n" in text
    assert "arp_responder = true\n" in text
    assert f"mpls_bridge = {bagpipe.BRIDGE}\n" in text


PEERS = """
    from types import SimpleNamespace
    from atoll.services.patches.neutron import bagpipe_peers
    bagpipe_peers.install()
    from exabgp.bgp import message
    from networking_bagpipe.bagpipe_bgp.engine import RouteEvent, exabgp_peer_worker
    neighbour = exabgp_peer_worker.exa_neighbor.Neighbor()
    neighbour.md5_ip, neighbour.peer_address, neighbour.hold_time, neighbour.uid = "1", "2", 3, "4"
    tell({
        "entries": [neighbour["md5-ip"], neighbour["peer-address"], neighbour["hold-time"]],
        "attribute": neighbour.uid,
        "same": [message.IN.ANNOUNCED == RouteEvent.ADVERTISE, message.IN.WITHDRAWN == RouteEvent.WITHDRAW],
    })
"""


def test_neighbours_are_what_the_library_takes():
    needs("networking-bagpipe")
    needs("exabgp")
    assert inside(PEERS) == {"entries": ["1", "2", 3], "attribute": "4", "same": [True, True]}


STOCK = """
    from exabgp.bgp import message, neighbor
    made = neighbor.Neighbor()
    before = made["md5-ip"]
    made.md5_ip = "1"
    tell([made["md5-ip"] == before, hasattr(message, "IN")])
"""


def test_upstreams_worker_calls_what_the_library_has_not():
    """If this fails, patches/neutron/bagpipe_peers.py can go."""
    needs("exabgp")
    assert inside(STOCK) == [True, False]
