"""Security groups and networks of new ports, in Neutron's real API over a database of its own."""

import pytest
from neutron_api import START, with_and_without

ASK = (
    START
    + """
    from oslo_config import cfg
    from neutron.plugins.ml2.extensions import dns_integration

    from atoll.services.patches.neutron import default_group_lookup
    default_group_lookup.install()
    if kind == "ours":
        from atoll.services.patches.neutron import port_details
        port_details.install()

    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        statements.append(" ".join(statement.split()))

    def who(project, *roles):
        return context.Context(user_id="u", project_id=project, roles=["member", "reader", *roles], is_admin="admin" in roles)

    def ask(method, path, body=None, by=None):
        request = webob.Request.blank(path, method=method, content_type="application/json", body=json.dumps(body).encode() if body else b"")
        request.environ["neutron.context"] = by or who(OURS)
        answer = request.get_response(api)
        return answer.status_int, answer.json if answer.body else None

    def make(collection, resource, by=None, **fields):
        status, answer = ask("POST", f"/{collection}", {resource: fields}, by)
        assert status == 201, answer
        return answer[resource]["id"]

    def port(by=None, **fields):
        statements.clear()
        status, answer = ask("POST", "/ports", {"port": {"network_id": network, **fields}}, by)
        texts = list(statements)
        if status != 201:
            return [status, answer["NeutronError"]["type"]]
        made = answer["port"]
        # Without a name, a host has that of its address, which is random.
        hosts = [each["hostname"].partition("-")[0] for each in made.get("dns_assignment") or ()]
        return [status, sorted(names.get(each, "?") for each in made["security_groups"]), made.get("dns_name"), hosts], texts, made["id"]

    names = {}
    OURS, THEIRS = "1" * 32, "2" * 32

    def group(name, by=None, **fields):
        made = make("security-groups", "security_group", by, name=name, **fields)
        names[made] = name
        return made

    admin = who("admins", "admin")
    network = make("networks", "network", name="n")
    make("subnets", "subnet", network_id=network, cidr="10.0.0.0/24", ip_version=4)
    own, second, stateless = group("own"), group("second"), group("stateless", stateful=False)
    theirs, shared = group("theirs", who(THEIRS)), group("shared", who(THEIRS))
    make("rbac-policies", "rbac_policy", who(THEIRS, "admin"), object_type="security_group", object_id=shared, action="access_as_shared",
         target_tenant=OURS)
    missing = str(uuid.uuid4())
    [default] = [each for each in ask("GET", "/security-groups")[1]["security_groups"] if each["name"] == "default"]
    names[default["id"]] = "default"
    port()

    found = {}
    found["default"], texts, first = port()
    found["count"] = len(texts)
    found["rules"] = sum(each.startswith("SELECT") and "securitygrouprules" in each for each in texts)
    found["two"] = port(security_groups=[own, second])[0]
    found["shared"] = port(security_groups=[own, shared])[0]
    found["none"] = port(security_groups=[])[0]
    found["theirs"] = port(security_groups=[theirs])
    found["missing"] = port(security_groups=[own, missing])
    found["both kinds"] = port(security_groups=[own, stateless])
    found["admin"] = port(admin, security_groups=[theirs])[0]
    found["admin, missing"] = port(admin, security_groups=[missing])
    found["of the service"] = port(admin, device_owner="network:dhcp")[0]

    def put(**fields):
        status, answer = ask("PUT", f"/ports/{first}", {"port": fields})
        if status != 200:
            return [status, answer["NeutronError"]["type"]]
        return [status, sorted(names[each] for each in answer["port"]["security_groups"]), answer["port"]["dns_name"]]

    found["update"] = put(security_groups=[own])
    found["update, theirs"] = put(security_groups=[theirs])
    found["update, shared"] = put(security_groups=[shared, own])

    found["named"], texts, named = port(dns_name="web")
    found["networks"] = sum("FROM networks " in each and "networksegments" not in each for each in texts)
    found["named, count"] = len(texts)
    statements.clear()
    found["renamed"] = put(dns_name="db")
    found["unnamed"] = put(dns_name="")

    # With a driver, what it needs is read.
    read = []
    real = dns_integration.DNSExtensionDriver._get_details

    class Driver:
        def __getattr__(self, name):
            return lambda *arguments: read.append(name)

    dns_integration.DNS_DRIVER = Driver()
    cfg.CONF.set_override("external_dns_driver", "designate")
    external = make("networks", "network", admin, name="external", **{"router:external": False, "dns_domain": "example.org."})
    make("subnets", "subnet", admin, network_id=external, cidr="10.1.0.0/24", ip_version=4)
    status, answer = ask("POST", "/ports", {"port": {"network_id": external, "dns_name": "x"}}, admin)
    with engine.connect() as connection:
        columns = "dns_name, current_dns_name, current_dns_domain"
        rows = connection.execute(sqlalchemy.text(f"SELECT {columns} FROM portdnses ORDER BY 1, 2")).all()
    found["published"] = [status, [list(row) for row in rows], sorted(set(read))]
    tell(found)
"""
)

DRIVERS = """
[DEFAULT]
dns_domain = site.test.
[ml2]
extension_drivers = port_security,dns_domain_ports
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return with_and_without(tmp_path_factory, ASK, DRIVERS)


COUNTS = ("count", "rules", "networks", "named, count")


def test_answers_and_refusals_are_upstreams(both):
    ours, upstream = both["ours"], both["upstream"]
    same = set(upstream) - set(COUNTS)
    assert {name: ours[name] for name in same} == {name: upstream[name] for name in same}


def test_groups_of_others_are_refused(both):
    ours = both["ours"]
    assert ours["default"][:2] == [201, ["default"]]
    assert ours["shared"][:2] == [201, ["own", "shared"]]
    assert ours["theirs"] == ours["missing"] == ours["update, theirs"] == [404, "SecurityGroupNotFound"]
    assert ours["both kinds"] == [409, "SecurityGroupConflict"]


def test_nothing_is_read_that_is_not_used(both):
    ours, upstream = both["ours"], both["upstream"]
    assert ours["rules"] == 0
    assert ours["count"] <= upstream["count"] - 3
    assert ours["named, count"] <= upstream["named, count"] - 8


def test_upstream_loads_the_rules_and_the_network(both):
    """If this fails, upstream no longer does, and the patch can go."""
    upstream = both["upstream"]
    assert upstream["rules"] >= 1
    assert upstream["networks"] > both["ours"]["networks"]
