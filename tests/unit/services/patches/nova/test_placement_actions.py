"""Calls of Placement that the conductor makes for a compute site: only for servers of the host that the bus names as their sender."""

import json

import pytest
from upstream import NOVA, inside

from atoll.mesh import compute_sites
from atoll.mesh.compute_sites import ComputeSite

CALLS = (
    NOVA
    + """
    from pathlib import Path
    from types import SimpleNamespace
    from oslo_serialization import jsonutils
    from oslo_utils import uuidutils
    from atoll.bus import listener
    from atoll.mesh.compute_sites import ComputeSiteList
    from atoll.services.patches.nova.conductor_batches import BatchEndpoint

    user = context.RequestContext(user_id="u", project_id="p", roles=["member"])
    nodes, asked, claims = {}, [], {}
    for host in ("edge", "coast"):
        nodes[host] = uuidutils.generate_uuid()
        objects.ComputeNode(admin, uuid=nodes[host], hypervisor_hostname=host, host=host, vcpus=8, memory_mb=1, local_gb=1, vcpus_used=0,
            memory_mb_used=0, local_gb_used=0, hypervisor_type="fake", hypervisor_version=1, cpu_info="").create()

    def server(host):
        made = objects.Instance(user, uuid=uuidutils.generate_uuid(), project_id="p", user_id="u", host=host)
        made.create()
        return made

    class Placement:
        def get_allocations_for_consumer(self, context, consumer):
            asked.append("GET")
            return claims.get(consumer, {})
        def delete_allocation_for_instance(self, context, uuid, consumer_type="instance", force=False):
            asked.append("DELETE")
            return True

    conductor = SimpleNamespace(compute_task_mgr=SimpleNamespace(report_client=Placement()))
    endpoint = BatchEndpoint(conductor, ComputeSiteList(Path(sys.argv[1])))

    def call(realm, method, *arguments):
        # The context's own host is the sender's claim, which does not count.
        asked.clear()
        listener._sender.set(realm)
        action = jsonutils.dumps({"method": method, "args": arguments, "kwargs": {}, "name": method, "context": 0})
        (answer,) = endpoint.object_actions(user, [user.to_dict() | {"host": "coast"}], [action])
        failure = jsonutils.loads(answer["failure"]) if "failure" in answer else None
        return [failure["class"], failure["message"]] if failure else [jsonutils.loads(answer["result"]), list(asked)]

    def delete(realm, uuid):
        return call(realm, "delete_allocation_for_instance", uuid, "instance", True)

    def read(realm, uuid):
        return call(realm, "get_allocations_for_consumer", uuid)

    EDGE, COAST, GONE = 7, 8, 9
    own, new, other, deleted = server("edge"), server(None), server("coast"), server("edge")
    deleted.destroy()
    claims.update({new.uuid: {nodes["edge"]: {"resources": {}}}, other.uuid: {nodes["coast"]: {"resources": {}}}})
    tell({
        "uuid": other.uuid,
        "own": delete(EDGE, own.uuid), "deleted": delete(EDGE, deleted.uuid), "other": delete(EDGE, other.uuid),
        "new": delete(EDGE, new.uuid), "unknown": delete(EDGE, uuidutils.generate_uuid()), "its own host": delete(COAST, other.uuid),
        "claim": read(EDGE, new.uuid), "claim of another": read(EDGE, other.uuid), "no claim": read(EDGE, own.uuid),
        "without a node": read(10, other.uuid),
        "revoked": delete(GONE, own.uuid), "machine": delete(0, other.uuid), "no bus": read(None, other.uuid),
        "another method": call(EDGE, "get_providers_in_tree", own.uuid),
    })
"""
)


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    file = tmp_path_factory.mktemp("site") / compute_sites.FILE
    sites = [
        ComputeSite(name, name, f"{realm}", realm, realm == 9) for name, realm in (("edge", 7), ("coast", 8), ("gone", 9), ("bay", 10))
    ]
    compute_sites.save(file, sites)
    assert json.loads(file.read_text())
    return inside(CALLS, str(file))


def test_a_host_has_the_allocations_of_its_own_servers_deleted(calls):
    for case in ("own", "deleted", "its own host"):
        assert calls[case] == [True, ["DELETE"]]


def test_a_host_has_nothing_deleted_of_other_servers(calls):
    assert calls["other"] == ["Forbidden", f"server {calls['uuid']} is not at edge, which asked for its allocations"]
    for case in ("new", "unknown"):
        assert calls[case][0] == "Forbidden"


def test_a_host_reads_the_claims_that_are_on_its_own_node(calls):
    assert calls["claim"][1] == calls["no claim"][1] == ["GET"]
    assert calls["no claim"][0] == {}
    for case in ("claim of another", "without a node"):
        assert calls[case][0] == "Forbidden"


def test_a_revoked_compute_site_has_no_host(calls):
    assert calls["revoked"] == ["Forbidden", "the sender of the batch, realm 9 of the bus, is not a compute site of this control site"]


def test_processes_of_the_machine_have_the_conductors_rights(calls):
    assert calls["machine"] == [True, ["DELETE"]]
    assert calls["no bus"][1] == ["GET"]


def test_no_other_method_is_part_of_a_batch(calls):
    assert calls["another method"][0] == "ValueError"
