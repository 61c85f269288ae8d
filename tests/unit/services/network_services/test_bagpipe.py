"""bagpipe-bgp, and what else BGP VPNs need."""

from dataclasses import replace

import pytest
from test_network_service_agents import needs
from upstream import check, inside

from atoll.services.ml2ovs import agents
from atoll.services.network_services import bagpipe

UNDERSTAND = """
    from importlib.metadata import entry_points
    from oslo_config import cfg

    known = {("ovs", "ovsdb_connection")}
    for point in entry_points(group="oslo.config.opts"):
        if point.name.startswith("networking_bagpipe.") or point.name in ("oslo.log", "oslo.concurrency", "oslo.policy"):
            for group, options in point.load()():
                known |= {((getattr(group, "name", group) or "DEFAULT").lower(), option.dest) for option in options}
    sections = {}
    cfg.ConfigParser(sys.argv[1], sections).parse()
    tell(sorted(f"{s}.{o}" for s, options in sections.items() for o in options if (s.lower(), o) not in known))
"""


@pytest.fixture
def real(settings):
    return replace(settings, network="ovs", network_services=("bgpvpn",))


def test_upstream_knows_every_option(real, tmp_path):
    needs("networking-bagpipe")
    [text] = bagpipe.configuration(real).values()
    file = tmp_path / "x.conf"
    file.write_text(text, encoding="utf-8")
    assert inside(UNDERSTAND, str(file)) == []


def test_agent_of_the_switch_answers_for_gateways_that_are_not_there(real):
    [text] = agents.SERVICE.configuration(real).values()
    assert "extensions = qos,bagpipe_bgpvpn\n" in text
    assert "arp_responder = true\n" in text
    assert f"mpls_bridge = {bagpipe.BRIDGE}\n" in text


def test_bagpipe_starts_as_we_start_it():
    needs("networking-bagpipe")
    path = "networking_bagpipe/bagpipe_bgp"
    known = {
        (f"{path}/bgp_daemon.py", "daemon_main"): "0be20570",
        (f"{path}/bgp_daemon.py", "setup_config"): "6bb41f96",
        (f"{path}/api/api.py", "PecanAPI"): "553de6aa",
    }
    check("networking-bagpipe", known, "network_services/bagpipe.py `run` does the same")


PEERS = """
    from types import SimpleNamespace
    from atoll.services.network_services import bagpipe_peers
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


def test_worker_still_speaks_to_the_library_of_before():
    """If this fails, upstream may have mended it, and network_services/bagpipe_peers.py can go."""
    needs("networking-bagpipe")
    path = "networking_bagpipe/bagpipe_bgp/engine/exabgp_peer_worker.py"
    known = {(path, "ExaBGPPeerWorker._initiate_connection"): "6edd0f8c", (path, "ExaBGPPeerWorker._receive_loop_fun"): "f7cce255"}
    check("networking-bagpipe", known, "network_services/bagpipe_peers.py")
