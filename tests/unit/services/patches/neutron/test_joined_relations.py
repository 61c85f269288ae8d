"""Relations that Neutron's models join, in Neutron's real API over a database of its own."""

import pytest
from neutron_api import START, with_and_without

ASK = (
    START
    + """
    if kind == "ours":
        from atoll.services.patches.neutron import joined_relations
        joined_relations.install()

    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        statements.append(statement)

    def ask(method, path, body=None, status=None):
        request = webob.Request.blank(path, method=method, content_type="application/json", body=json.dumps(body).encode() if body else b"")
        request.environ["neutron.context"] = context.Context(user_id="root", project_id="p", roles=["admin", "member", "reader"])
        answer = request.get_response(api)
        assert answer.status_int == status or (status is None and answer.status_int < 300), answer.text
        return answer.json if answer.body else None

    def make(collection, resource, **fields):
        return ask("POST", f"/{collection}", {resource: fields})[resource]["id"]

    counted, read = {}, []
    HIDDEN = ("id", "created_at", "updated_at", "network_id", "subnet_id", "mac_address", "security_groups", "provider:segmentation_id")

    def plain(value):
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items() if name not in HIDDEN}
        if isinstance(value, list):
            return [plain(each) if isinstance(each, dict) else len(each) if isinstance(each, str) and len(each) == 36 else each
                    for each in value]
        return value

    def seen(path, told=None):
        statements.clear()
        answer = next(value for name, value in ask("GET", path).items() if not name.endswith("_links"))
        counted[told or path] = len(statements)
        read.append([path if told is None else told, plain(answer)])
        return answer

    network, other = make("networks", "network", name="a"), make("networks", "network", name="b")
    pools = [{"start": f"10.0.0.{n}0", "end": f"10.0.0.{n}5"} for n in (3, 1, 2)]
    subnet = make("subnets", "subnet", name="a", network_id=network, cidr="10.0.0.0/24", ip_version=4, allocation_pools=pools)
    second = make("subnets", "subnet", name="c", network_id=network, cidr="10.2.0.0/24", ip_version=4)
    make("subnets", "subnet", name="b", network_id=other, cidr="10.1.0.0/24", ip_version=4)
    for project in ("2" * 32, "3" * 32):
        make("rbac-policies", "rbac_policy", object_type="network", object_id=network, action="access_as_shared", target_tenant=project)
    # Addresses that Neutron chooses are random.
    make("ports", "port", name="warm", network_id=other, fixed_ips=[{"ip_address": "10.1.0.9"}])
    statements.clear()
    addresses = [{"ip_address": each} for each in ("10.0.0.31", "10.0.0.14", "10.2.0.7")]
    port = make("ports", "port", name="a", network_id=network, fixed_ips=addresses, **{"binding:host_id": "paris"})
    counted["create"] = len(statements)
    make("ports", "port", name="none", network_id=network, fixed_ips=[])
    make("ports", "port", name="z", network_id=network, fixed_ips=[{"ip_address": "10.0.0.22"}])

    def look():
        by_name = "sort_key=name&sort_dir=asc"
        for path in (f"/networks?{by_name}", f"/networks?limit=1&{by_name}", f"/subnets?{by_name}", f"/subnets?limit=2&{by_name}",
                     f"/ports?{by_name}", f"/ports?limit=2&{by_name}", f"/ports?limit=2&page_reverse=true&{by_name}",
                     f"/ports?fields=fixed_ips&{by_name}", "/ports?sort_key=name&sort_dir=desc", f"/networks?shared=false&{by_name}",
                     "/ports?fixed_ips=ip_address%3D10.0.0.14"):
            seen(path)
        for kind, identifier in (("networks", network), ("subnets", subnet), ("ports", port)):
            seen(f"/{kind}/{identifier}", kind)
        seen(f"/ports?{by_name}&limit=1&marker={port}", "after the first")
        seen(f"/ports?fixed_ips=subnet_id%3D{subnet}&{by_name}", "by subnet")

    look()
    for address in ("10.0.0.12", "10.0.0.33"):
        ask("PUT", f"/ports/{port}", {"port": {"fixed_ips": [{"ip_address": address}]}})
        seen(f"/ports/{port}", "moved")
    ask("PUT", f"/subnets/{subnet}", {"subnet": {"allocation_pools": [{"start": "10.0.0.50", "end": "10.0.0.60"}]}})
    ask("DELETE", f"/subnets/{subnet}", status=409)
    look()
    for each in ask("GET", "/ports")["ports"]:
        ask("DELETE", f"/ports/{each['id']}")
    for each in (network, other):
        ask("DELETE", f"/networks/{each}")
    with sqlalchemy.create_engine(f"sqlite:///{directory}/neutron.db").connect() as connection:
        left = [connection.execute(sqlalchemy.text(f"SELECT count(*) FROM {name}")).scalar()
                for name in ("networksegments", "subnets", "ports", "ipallocations", "ipallocationpools", "ipamallocations")]
    tell({"read": read, "counted": counted, "left": left})
"""
)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return with_and_without(tmp_path_factory, ASK)


def test_answers_are_the_same_with_fewer_statements(both):
    ours, upstream = both["ours"], both["upstream"]
    assert ours["read"] == upstream["read"]
    assert ours["left"] == upstream["left"]
    assert len(next(told for path, told in ours["read"] if path == "subnets")["allocation_pools"]) == 3
    fewer = {name: upstream["counted"][name] - count for name, count in ours["counted"].items()}
    assert min(fewer.values()) >= 0
    assert (fewer["networks"], fewer["subnets"], fewer["ports"]) == (2, 1, 1)
    assert fewer["create"] >= 10


def test_upstream_reads_each_by_a_statement(both):
    """If this fails, upstream reads them with their rows, and the patch can go."""
    assert both["upstream"]["counted"]["subnets"] > both["ours"]["counted"]["subnets"]
