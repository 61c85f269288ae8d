"""Questions to Neutron that a compute site asks early, with Nova's real network API over a double of Neutron's client."""

import pytest
from upstream import NOVA, inside

READS = (
    NOVA
    + """
    import threading
    from types import SimpleNamespace
    from neutronclient.common import exceptions
    from nova.network import model, neutron
    from atoll.services.patches.nova import expanded_ports, network_reads

    calls, together = [], threading.Barrier(2, timeout=5)

    class Neutron:
        ports = ["p1", "p2"]
        def list_ports(self, **search):
            calls.append("list ports")
            return {"ports": [{"id": each} for each in self.ports]}
        def list(self, collection, path, **search):
            calls.append("look up networks")
            quota = {"limit": 9, "used": 0}
            return {"networks": [{"id": each, "expanded": {"port_quota": quota, "network": {"id": each}}} for each in search["id"]]}
        def delete_port(self, port):
            together.wait()
            calls.append("delete")
            if port in self.refused:
                raise exceptions.Forbidden()
        refused = ()
    client = Neutron()
    neutron.get_client = lambda context, admin=False: client
    objects.VirtualInterface.delete_by_instance_uuid = lambda context, uuid: None
    neutron.update_instance_cache_with_nw_info = lambda *arguments: None
    user = context.RequestContext(user_id="u", project_id="p", auth_token="t", request_id="req-1")
    nothing = model.NetworkInfo([])
    cache = SimpleNamespace(network_info=nothing)
    server = SimpleNamespace(uuid="s", info_cache=cache, deleted=False, get_network_info=lambda: nothing)
    found = {}

    def deleted(api):
        calls.clear()
        try:
            api.deallocate_for_instance(user, server)
            return sorted(calls)
        except Exception as error:
            return [type(error).__name__, sorted(calls)]

    if sys.argv[1] == "upstream":
        client.delete_port = lambda port: calls.append("delete")
        tell(deleted(neutron.API()))
        sys.exit()

    expanded_ports.install()
    expanded_ports._extensions.have = lambda alias: True
    network_reads.install()
    network_reads.batches.flush = lambda: calls.append("flush")
    api = neutron.API()

    calls.clear()
    network_reads.ports_of_deletion(user, "s")
    while "list ports" not in calls:
        pass
    found["early"] = deleted(api)
    found["again"] = deleted(api)
    network_reads.ports_of_deletion(user, "s")
    network_reads.forget_ports("s")
    found["forgotten"] = deleted(api)
    client.refused = ["p1"]
    found["refused"] = deleted(api)
    client.refused = ()

    listing = client.list_ports
    def failing(**search):
        client.list_ports = listing
        raise exceptions.ConnectionFailed(reason="away")
    client.list_ports = failing
    network_reads.ports_of_deletion(user, "s")
    found["failed"] = deleted(api)

    calls.clear()
    asked = [objects.NetworkRequest(network_id="n"), objects.NetworkRequest(network_id="m", port_id="p")]
    asked = objects.NetworkRequestList(objects=asked)
    network_reads.networks_of_build(user, "s", asked)
    network_reads._networks.take("s")
    with api._sharing(user):
        neutron.get_client(user).list_networks(id=["n"])
    found["networks"] = list(calls)
    tell(found)
"""
)


@pytest.fixture(scope="module")
def reads():
    return inside(READS, "ours")


def test_early_answers_are_used_once_and_ports_are_deleted_together(reads):
    """Saves that wait are sent before the reads."""
    assert reads["early"] == ["delete", "delete", "flush"]
    assert reads["again"] == ["delete", "delete", "flush", "list ports"]


def test_ports_that_may_have_changed_are_listed_when_they_are_needed(reads):
    assert reads["forgotten"] == ["delete", "delete", "flush", "list ports"]


def test_a_question_that_failed_is_asked_again(reads):
    assert reads["failed"] == ["delete", "delete", "flush", "list ports"]


def test_all_ports_but_the_refused_one_are_deleted(reads):
    assert reads["refused"] == ["Forbidden", ["delete", "delete", "flush", "list ports"]]


def test_networks_of_a_build_are_looked_up_once(reads):
    """Those of existing ports are not, since their ports tell."""
    assert reads["networks"] == ["look up networks"]


def test_upstream_asks_late():
    """If this fails, services/patches/nova/network_reads.py may be of no use."""
    assert inside(READS, "upstream") == ["delete", "delete", "list ports"]
