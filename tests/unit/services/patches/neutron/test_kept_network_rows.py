"""Rows that Neutron's real API keeps until they change, over a database of its own."""

import pytest
from neutron_api import START, with_and_without

ASK = (
    START
    + """
    import ipaddress
    import re
    import threading

    from neutron.db import provisioning_blocks, segments_db
    from neutron.quota import QUOTAS, resource_registry
    from neutron.objects import agent as agents, network as networks
    from neutron_lib.callbacks import resources
    from neutron_lib.db import api as db
    from oslo_utils import timeutils

    from atoll.services.patches.neutron import default_group_lookup, known_segments, port_details
    default_group_lookup.install()
    known_segments.install()
    port_details.install()
    if kind == "ours":
        from atoll.services.patches.neutron import kept_rows
        kept_rows.install()

    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        statements.append(" ".join(statement.split()))

    OURS, THEIRS = "1" * 32, "2" * 32

    def who(project=OURS, *roles):
        return context.Context(user_id="u", project_id=project, roles=["member", "reader", *roles], is_admin="admin" in roles)

    SEGMENT = "provider:segmentation_id"
    admin, them = who("a" * 32, "admin"), who(THEIRS)
    names = {}

    def plain(value):
        # An answer without what differs from run to run: identifiers, times, and random addresses.
        if isinstance(value, dict):
            segment = value.get(SEGMENT)
            value = value | ({SEGMENT: "random"} if isinstance(segment, int) and segment <= 100 else {})
            return {key: plain(item) for key, item in value.items() if key not in {"created_at", "updated_at", "mac_address"}}
        if isinstance(value, list):
            return sorted((plain(item) for item in value), key=json.dumps)
        if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{8}-[0-9a-f-]{27}", value):
            return names.get(value, "an id")
        try:
            address = ipaddress.ip_address(value) if isinstance(value, str) else None
        except ValueError:
            return value
        return f"in {ipaddress.ip_network(f'{address}/28', strict=False)}" if address else value

    def ask(method, path, body=None, by=None):
        request = webob.Request.blank(path, method=method, content_type="application/json", body=json.dumps(body).encode() if body else b"")
        request.environ["neutron.context"] = by or who()
        answer = request.get_response(api)
        return answer.status_int, answer.json if answer.body else None

    def make(collection, resource, by=None, **fields):
        status, answer = ask("POST", f"/{collection}", {resource: fields}, by)
        assert status == 201, answer
        made = answer[resource]["id"]
        names[made] = f"{resource} {fields.get('name') or fields.get('cidr')}"
        return made

    found = {}

    def told(name, method, path, by=None, **body):
        status, answer = ask(method, path, body or None, by)
        if status >= 400:
            answer = answer["NeutronError"]["type"]
        found[name] = [status, plain(answer)]
        return answer

    def port(name, network, by=None, **fields):
        made = told(name, "POST", "/ports", by, port={"network_id": network, **fields})
        return made["port"]["id"] if isinstance(made, dict) else None

    def counted(name, network):
        for _ in range(3):
            statements.clear()
            status, answer = ask("POST", "/ports", {"port": {"network_id": network}})
            assert status == 201, answer
        counts[name] = list(statements)

    def change(name, path, resource, by=None, **fields):
        return told(name, "PUT", path, by, **{resource: fields})

    counts = {}
    with engine.connect() as connection:
        found["foreign keys"] = connection.execute(sqlalchemy.text("PRAGMA foreign_keys")).scalar()
    network = make("networks", "network", name="n")
    subnet = make("subnets", "subnet", network_id=network, cidr="10.0.0.0/24", ip_version=4,
                  allocation_pools=[{"start": "10.0.0.16", "end": "10.0.0.31"}])
    counted("port", network)
"""
)

LIMITS = """
    driver = QUOTAS.get_driver()

    def limit(by=None):
        return driver.get_project_quotas(by or who(), {"port": resource_registry.get_resource("port")}, OURS)["port"]

    def set_limit(number):
        driver.update_quota_limit(admin, OURS, "port", number)

    set_limit(4)
    port("the fourth", network)
    port("the fifth", network)
    told("show limits", "GET", f"/quotas/{OURS}", admin)
    set_limit(5)
    port("the fifth, again", network)
    set_limit(0)
    port("none", network)
    told("limits of others", "GET", f"/quotas/{THEIRS}", admin)
    told("limits of others, refused", "GET", f"/quotas/{OURS}", them)
    found["limits that others see"] = [limit(by) for by in (them, admin, who())]
    told("default limits", "DELETE", f"/quotas/{OURS}", admin)
    port("the sixth", network)
    told("no limits to delete", "DELETE", f"/quotas/{OURS}", admin)

    # While an administrator's change is not committed, others see the old limit.
    found["uncommitted"] = seen = [limit()]
    writer = context.get_admin_context()
    with db.CONTEXT_WRITER.using(writer):
        driver.update_quota_limit(writer, OURS, "port", 77)
        seen.append(limit(writer))
        thread = threading.Thread(target=lambda: seen.append(limit()))
        thread.start()
        thread.join()
    seen.append(limit())
"""

GROUPS = """
    [group] = [each["id"] for each in ask("GET", "/security-groups")[1]["security_groups"] if each["name"] == "default"]
    for each in ask("GET", "/ports")[1]["ports"]:
        ask("DELETE", f"/ports/{each['id']}")
    told("delete the default group", "DELETE", f"/security-groups/{group}", admin)
    port("with another default group", network)
    told("groups", "GET", "/security-groups?fields=id&fields=name")
    found["the same group"] = [each["id"] for each in ask("GET", "/security-groups")[1]["security_groups"]] == [group]
    private = make("networks", "network", them, name="theirs")
    port("first of a project", private, them)
    port("second of a project", private, them)
    told("groups of the other", "GET", "/security-groups?fields=id&fields=name", them)
"""

NETWORKS = """
    for turn in (1, 2):
        port(f"another's network {turn}", network, them)
        port(f"no network {turn}", str(uuid.UUID(int=5)))
        port(f"by an administrator {turn}", network, admin)
    policy = make("rbac-policies", "rbac_policy", object_type="network", object_id=network, action="access_as_shared", target_tenant=THEIRS)
    shared = [port(f"a shared network {turn}", network, them) for turn in (1, 2)]
    for each in shared:
        ask("DELETE", f"/ports/{each}", by=them)
    told("withdrawn", "DELETE", f"/rbac-policies/{policy}")
    port("a network that was shared", network, them)
    change("shared with all", f"/networks/{network}", "network", admin, shared=True)
    port("a network shared with all", network, them)
    gone = make("networks", "network", name="gone")
    told("delete port", "DELETE", f"/ports/{port('before the deletion', gone)}")
    told("delete network", "DELETE", f"/networks/{gone}")
    port("a deleted network", gone)

    open_network = make("networks", "network", name="open", port_security_enabled=False)
    port("without port security", open_network)
    change("port security", f"/networks/{open_network}", "network", port_security_enabled=True)
    port("with port security", open_network)
    port("with port security, again", open_network)

    GENEVE = "provider:network_type", SEGMENT
    many = make("networks", "network", admin, name="many", segments=[dict(zip(GENEVE, ("geneve", vni))) for vni in (209, 208)])
    one = make("networks", "network", admin, name="one", **dict(zip(GENEVE, ("geneve", 207))))
    bound = {"binding:host_id": "paris", "device_owner": "compute:x"}
    for turn in (1, 2):
        told(f"segments {turn}", "GET", "/networks?name=many&name=one", admin)
        port(f"bound {turn}", many, admin, **bound)
        told(f"one network {turn}", "GET", f"/networks/{one}", admin)
    [segment] = segments_db.get_network_segments(admin, one)
    segments_db.update_network_segment(admin, segment["id"], 217)
    told("changed segment", "GET", f"/networks/{one}", admin)
    port("bound to the changed segment", one, admin, **bound)
    with engine.connect() as connection:
        query = "SELECT segmentation_id FROM ml2_port_binding_levels JOIN networksegments ON segment_id = id ORDER BY 1"
        found["segments of bindings"] = list(connection.execute(sqlalchemy.text(query)).scalars())
"""

SUBNETS = """
    change("other pool", f"/subnets/{subnet}", "subnet", allocation_pools=[{"start": "10.0.0.64", "end": "10.0.0.79"}])
    port("in the other pool", network)
    port("in the other pool, again", network)
    port("chosen address", network, admin, fixed_ips=[{"ip_address": "10.0.0.200"}])
    port("chosen address, again", network, admin, fixed_ips=[{"ip_address": "10.0.0.200"}])
    port("address outside", network, admin, fixed_ips=[{"ip_address": "10.9.0.1"}])
    change("other gateway", f"/subnets/{subnet}", "subnet", gateway_ip="10.0.0.3")
    second = make("subnets", "subnet", network_id=network, cidr="10.8.0.0/28", ip_version=4)
    of_second = port("in the second subnet", network, fixed_ips=[{"subnet_id": second}])
    told("in use", "DELETE", f"/subnets/{second}")
    told("delete the port", "DELETE", f"/ports/{of_second}")
    told("delete the second subnet", "DELETE", f"/subnets/{second}")
    port("in a deleted subnet", network, fixed_ips=[{"subnet_id": second}])
    tiny = make("networks", "network", name="tiny")
    make("subnets", "subnet", network_id=tiny, cidr="10.7.0.0/30", ip_version=4)
    last = port("the only address", tiny)
    port("no address left", tiny)
    told("free the address", "DELETE", f"/ports/{last}")
    port("the only address, again", tiny)
"""

SELDOM = """
    for turn in (1, 2):
        told(f"no dhcp ports {turn}", "GET", "/ports?device_owner=network:dhcp&fields=device_owner", admin)
    server = port("dhcp port", network, admin, device_owner="network:dhcp")
    told("dhcp ports", "GET", "/ports?device_owner=network:dhcp&fields=device_owner", admin)
    told("dhcp ports of others", "GET", "/ports?device_owner=network:dhcp&fields=device_owner", them)
    told("no dhcp port any more", "DELETE", f"/ports/{server}", admin)
    told("no dhcp ports", "GET", "/ports?device_owner=network:dhcp&fields=device_owner", admin)
    told("changed owner", "PUT", f"/ports/{port('an owner', network, admin)}", admin, port={"device_owner": "network:dhcp"})
    told("dhcp ports again", "GET", "/ports?device_owner=network:dhcp&fields=device_owner", admin)
    told("unknown marker", "GET", f"/ports?device_owner=network:router_interface_distributed&limit=1&marker={uuid.UUID(int=7)}", admin)

    for turn in (1, 2):
        without = port(f"without a policy {turn}", network)
        told(f"no policy {turn}", "GET", f"/ports/{without}?fields=qos_policy_id&fields=qos_network_policy_id")
    policy = make("qos/policies", "policy", admin, name="q")
    of_port = port("port with a policy", network, admin, qos_policy_id=policy)
    told("its policy", "GET", f"/ports/{of_port}?fields=qos_policy_id", admin)
    told("policy in use", "DELETE", f"/qos/policies/{policy}", admin)
    change("no policy any more", f"/ports/{of_port}", "port", admin, qos_policy_id=None)
    change("policy of the network", f"/networks/{network}", "network", admin, qos_policy_id=policy)
    told("inherited", "GET", f"/ports/{port('inherits', network, admin)}?fields=qos_network_policy_id", admin)
    port("unknown policy", network, admin, qos_policy_id=str(uuid.UUID(int=6)))

    told("no agents", "GET", "/agents", admin)
    root = who("a" * 32, "admin")
    moment = timeutils.utcnow()
    agent = agents.Agent(root, agent_type="DHCP agent", binary="b", topic="t", host="paris", created_at=moment, started_at=moment,
                         heartbeat_timestamp=moment, configurations="{}")
    agent.create()
    told("agents", "GET", "/agents?fields=host", admin)
    from neutron_lib.plugins import directory
    plugin = directory.get_plugin()
    found["hosting before"] = len(plugin.get_dhcp_agents_hosting_networks(root, [network]))
    networks.NetworkDhcpAgentBinding(root, network_id=network, dhcp_agent_id=agent.id).create()
    found["hosting"] = len(plugin.get_dhcp_agents_hosting_networks(root, [network]))
    waiting = port("waits for its agent", network)
    block = (root, waiting, resources.PORT, provisioning_blocks.DHCP_ENTITY)
    found["not blocked"] = provisioning_blocks.remove_provisioning_component(*block)
    provisioning_blocks.add_provisioning_component(*block)
    found["blocked"] = provisioning_blocks.is_object_blocked(*block[:3])
    found["removed"] = [provisioning_blocks.remove_provisioning_component(*block) for _ in range(2)]
    try:
        provisioning_blocks.remove_provisioning_component(root, waiting, "nothing", provisioning_blocks.DHCP_ENTITY)
    except RuntimeError:
        found["unknown type"] = True

    external = make("networks", "network", admin, name="external", **{"router:external": True})
    make("subnets", "subnet", admin, network_id=external, cidr="10.5.0.0/24", ip_version=4)
    router = make("routers", "router", name="r", external_gateway_info={"network_id": external})
    ask("PUT", f"/routers/{router}/add_router_interface", {"subnet_id": subnet})
    floating = make("floatingips", "floatingip", admin, floating_network_id=external)
    told("no forwardings", "GET", f"/floatingips/{floating}/port_forwardings", admin)
    inner = port("inner", network)
    address = ask("GET", f"/ports/{inner}")[1]["port"]["fixed_ips"][0]["ip_address"]
    forwarding = {"internal_port_id": inner, "internal_ip_address": address, "internal_port": 80, "external_port": 8080, "protocol": "tcp"}
    told("forwarding", "POST", f"/floatingips/{floating}/port_forwardings", admin, port_forwarding=forwarding)
    told("forwardings", "GET", f"/floatingips/{floating}/port_forwardings", admin)
    told("its port is deleted", "DELETE", f"/ports/{inner}")
    told("no forwardings any more", "GET", f"/floatingips/{floating}/port_forwardings", admin)
"""

PLUGINS = """
[DEFAULT]
service_plugins = router,revisions,qos,port_forwarding
[ml2]
extension_drivers = port_security,qos
"""

PARTS = {"limits": LIMITS, "groups": GROUPS, "networks": NETWORKS, "subnets": SUBNETS, "seldom": SELDOM}


@pytest.fixture(scope="module", params=PARTS)
def both(request, tmp_path_factory):
    return with_and_without(tmp_path_factory, ASK + PARTS[request.param] + "    tell([found, counts])\n", PLUGINS)


def test_answers_are_upstreams_before_and_after_each_change(both):
    assert both["ours"][0] == both["upstream"][0]
    assert len(both["ours"][0]) >= 8


EXPECTED = {
    "the fourth": 201,
    "the fifth": 409,
    "the fifth, again": 201,
    "none": 409,
    "the sixth": 201,
    "a network that was shared": 404,
    "a deleted network": 404,
    "in a deleted subnet": 404,
    "no address left": 409,
    "forwarding": 201,
}
"""Statuses of some answers, which show that the changes had their effect."""


def test_the_changes_have_their_effect(both):
    found = both["ours"][0]
    assert {name: found[name][0] for name in EXPECTED if name in found} == {name: EXPECTED[name] for name in EXPECTED if name in found}
    for name, told in (("uncommitted", [500, 77, 500, 77]), ("segments of bindings", [209, 209, 217]), ("removed", [True, False])):
        assert found.get(name, told) == told


def test_nothing_is_deleted_without_a_statement(both):
    """If this fails, SQLite deletes rows by foreign keys, and `KeptReads` must watch deletions from the tables that others refer to."""
    assert both["ours"][0]["foreign keys"] == 0


READ = {
    "quotas": 1,
    "default_security_group": 2,
    "networksecuritybindings": 1,
    "ipamsubnets": 1,
    "ipamallocationpools": 1,
    "qos_port_policy_bindings": 1,
}
"""Tables, and the least number of statements by which upstream reads each for a new port without a host."""


def reads(counts, table):
    return sum(f"FROM {table} " in each and not each.startswith("DELETE") for each in counts["port"])


def test_a_port_takes_no_statement_for_rows_that_are_kept(both):
    ours, upstream = both["ours"][1], both["upstream"][1]
    assert {table: reads(ours, table) for table in READ} == dict.fromkeys(READ, 0)
    assert len(ours["port"]) <= len(upstream["port"]) - 12


def test_upstream_reads_them_for_each_port(both):
    """If this fails, upstream keeps some of them: look whether services/patches/neutron/kept_rows.py still needs to."""
    upstream = both["upstream"][1]
    assert all(reads(upstream, table) >= least for table, least in READ.items())
