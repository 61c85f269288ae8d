"""The extension `expanded-ports` in Neutron's real API, over a database of its own."""

import pytest
from neutron_api import CONFIGURATION, EXTENSIONS, START
from upstream import inside

FURTHER = """
[ml2]
extension_drivers = port_security
[quotas]
quota_port = 7
"""

API = (
    START
    + """
    import textwrap

    def ask(name, method, path, body=None):
        request = webob.Request.blank(path, method=method, content_type="application/json", body=json.dumps(body).encode() if body else b"")
        request.environ["neutron.context"] = context.Context(**who[name])
        answer = request.get_response(api)
        return answer.status_int, answer.json if answer.body else None

    def create(person, collection, resource, **fields):
        status, answer = ask(person, "POST", f"/{collection}", {resource: fields})
        assert status == 201, answer
        return answer[resource]

    def fresh():
        # Two projects with a member each, one of them with a network; a request that a service passes on carries its token too.
        plain = {"roles": ["member", "reader"]}
        ours, theirs = uuid.uuid4().hex, uuid.uuid4().hex
        nova = {"service_user_id": "nova", "service_project_id": "service", "service_roles": ["admin", "service"]}
        impostor = {"service_user_id": "eve", "service_project_id": theirs, "service_roles": ["member", "reader"]}
        who.update({
            "bob": {"user_id": "bob", "project_id": ours, **plain},
            "eve": {"user_id": "eve", "project_id": theirs, **plain},
            "admin": {"user_id": "root", "project_id": "admin", "roles": ["admin", "member", "reader"]},
        })
        for each in ("bob", "eve"):
            who[f"{each} by nova"] = who[each] | nova
            who[f"{each} by an impostor"] = who[each] | impostor
        network = create("bob", "networks", "network", name="n")["id"]
        subnet = create("bob", "subnets", "subnet", network_id=network, cidr="10.0.0.0/24", ip_version=4)["id"]
        return globals() | {"theirs": theirs, "network": network, "subnet": subnet}

    who = {}
    BIND = {"device_owner": "compute:paris", "binding:host_id": "paris"}
    found = []
    tell_later, tell = tell, found.append
    for snippet in snippets:
        exec(textwrap.dedent(snippet), fresh())
    tell_later(found)
"""
)


CREATED = """
    body = {"port": {"network_id": network, "device_id": "s1"}, "bind": BIND}
    status, answer = ask("bob by nova", "POST", "/expanded-ports", body)
    one = answer["port"]
    plain = ask("admin", "GET", f"/ports/{one['id']}")[1]["port"]
    same = {name: value == one["expanded"]["port"].get(name, value) for name, value in plain.items()}
    network_too = ask("admin", "GET", f"/networks/{network}")[1]["network"]
    subnets_too = ask("admin", "GET", f"/subnets?id={subnet}")[1]["subnets"]
    tell({
        "status": status, "same": same, "host": plain["binding:host_id"], "owner": plain["device_owner"],
        "network": one["expanded"]["network"] == network_too, "subnets": one["expanded"]["subnets"] == subnets_too,
        "user sees": sorted(name for name in one if name.startswith("binding:")),
    })
"""

REFUSED = """
    own = {"network_id": network}
    answers = {
        name: ask(name, "POST", "/expanded-ports", {"port": own, "bind": BIND}) for name in ("bob", "bob by an impostor", "eve by nova")
    }
    answers["twice"] = ask("bob by nova", "POST", "/expanded-ports", {"port": own | {"device_owner": "x"}, "bind": BIND})
    answers["moved"] = ask("bob by nova", "POST", "/expanded-ports", {"port": own, "bind": BIND | {"project_id": theirs}})
    answers["other project"] = ask("bob by nova", "POST", "/expanded-ports", {"port": own | {"project_id": theirs}, "bind": BIND})
    answers["no body"] = ask("bob by nova", "POST", "/expanded-ports", {"bind": BIND})
    made = [port for port in ask("admin", "GET", "/ports")[1]["ports"] if port["network_id"] == network]
    tell([{name: (status, answer["NeutronError"]["type"]) for name, (status, answer) in answers.items()}, len(made)])
"""

QUOTA = """
    body = {"port": {"network_id": network}, "bind": BIND}
    statuses = [ask("bob by nova", "POST", "/expanded-ports", body)[0] for _ in range(8)]
    [of_bob] = ask("bob by nova", "GET", f"/expanded-networks?id={network}")[1]["networks"]
    tell([statuses, of_bob["expanded"]["port_quota"]])
"""

SEEN = """
    create("admin", "ports", "port", network_id=network, project_id=who["bob"]["project_id"], device_owner="network:dhcp", device_id="d")
    bobs = create("bob", "ports", "port", network_id=network)["id"]
    outside = create("admin", "networks", "network", name="x", **{"router:external": True})["id"]
    create("admin", "subnets", "subnet", network_id=outside, cidr="192.0.2.0/24", ip_version=4)
    router = create("bob", "routers", "router", name="r", external_gateway_info={"network_id": outside})["id"]
    assert ask("bob", "PUT", f"/routers/{router}/add_router_interface", {"subnet_id": subnet})[0] == 200
    create("bob", "floatingips", "floatingip", floating_network_id=outside, port_id=bobs)

    def seen(name, by_name):
        # What `name` reads by the extension, and by the plain API.
        ports = ask(by_name, "GET", "/expanded-ports")[1]["ports"]
        networks = ask(by_name, "GET", "/expanded-networks")[1]["networks"]
        nested = [port.pop("expanded") for port in ports]
        of_networks = [each.pop("expanded") for each in networks]
        plain = {kind: ask(name, "GET", f"/{kind}")[1][kind] for kind in ("ports", "networks", "subnets", "floatingips")}
        def unknown(kind, items):
            return [item for item in items if item not in plain[kind]]
        return {
            "ports": ports == plain["ports"] and len(ports),
            "networks": sorted(n["id"] for n in networks) == sorted(n["id"] for n in plain["networks"]) and len(networks),
            "more": [unknown("networks", [each["network"] for each in nested if each["network"]]),
                     unknown("subnets", [item for each in nested for item in each["subnets"]]),
                     unknown("floatingips", [item for each in nested for item in each["floating_ips"]]),
                     [ip for each in nested for server in each["dhcp_ports"] for ip in server["fixed_ips"]
                      if not any(ip in port["fixed_ips"] for port in plain["ports"])],
                     [each for each in nested if "port" in each],
                     [each["network"] for each in of_networks if each["network"]]],
            "floating": sum(len(each["floating_ips"]) for each in nested),
        }

    before = {name: seen(name, name) for name in ("bob", "eve")}
    create("bob", "rbac-policies", "rbac_policy", object_type="network", object_id=network, action="access_as_shared", target_tenant=theirs)
    create("eve", "ports", "port", network_id=network)
    after = {name: seen(name, name) for name in ("bob", "eve")}
    impostor = seen("eve", "eve by an impostor")["more"][:4]
    tell([before, after, impostor])
"""

UPDATED = """
    port = create("bob", "ports", "port", network_id=network)["id"]
    refused = ask("bob", "PUT", f"/expanded-ports/{port}", {"port": BIND})
    hidden = ask("eve", "PUT", f"/expanded-ports/{port}", {"port": {"name": "mine"}})
    status, answer = ask("admin", "PUT", f"/expanded-ports/{port}", {"port": BIND})
    tell([refused[0], hidden[0], status, answer["port"]["binding:host_id"], answer["port"]["expanded"]["network"]["id"] == network])
"""

FIELDS = """
    port = create("bob", "ports", "port", network_id=network)["id"]
    fields = "fields=name&fields=expanded"
    asked = [f"/expanded-ports?{fields}&id={port}", f"/expanded-ports/{port}?{fields}", f"/expanded-networks?{fields}&id={network}"]
    answers = [ask("bob", "GET", path) for path in asked]
    found = [answers[0][1].get("ports", [{}])[0], answers[1][1].get("port", {}), answers[2][1].get("networks", [{}])[0]]
    tell([[status for status, _answer in answers], [sorted(each) for each in found]])
"""

GROUPS = """
    shared = create("bob", "security-groups", "security_group", name="shared")["id"]
    own = create("bob", "security-groups", "security_group", name="own")["id"]
    create("bob", "rbac-policies", "rbac_policy", object_type="network", object_id=network, action="access_as_shared", target_tenant=theirs)
    create("bob", "rbac-policies", "rbac_policy", object_type="security_group", object_id=shared, action="access_as_shared",
           target_tenant=theirs)
    create("bob", "ports", "port", network_id=network, device_id="bobs", security_groups=[shared, own])
    hers = create("eve", "ports", "port", network_id=network, device_id="hers", security_groups=[shared])["id"]
    # The administrator puts a group on her port that she may not see.
    assert ask("admin", "PUT", f"/ports/{hers}", {"port": {"security_groups": [shared, own]}})[0] == 200

    def plain(name):
        # As Nova asks without the extension.
        ports = ask(name, "GET", "/ports?device_id=bobs&device_id=hers&fields=security_groups&fields=device_id")[1]["ports"]
        ids = sorted({group for port in ports for group in port["security_groups"]})
        search = "&".join([*(f"id={each}" for each in ids), "fields=id", "fields=name"])
        known = {each["id"]: each for each in ask(name, "GET", f"/security-groups?{search}")[1]["security_groups"]}
        return sorted([port["device_id"], sorted(known[g]["name"] for g in port["security_groups"] if g in known)] for port in ports)

    def named(name):
        fields = "fields=security_groups&fields=device_id&fields=expanded"
        status, answer = ask(name, "GET", f"/port-group-names?device_id=bobs&device_id=hers&{fields}")
        assert status == 200, answer
        assert all(set(port) == {"security_groups", "device_id", "expanded"} for port in answer["ports"]), answer
        groups = [(port["device_id"], port["expanded"]["security_groups"]) for port in answer["ports"]]
        assert all(set(each) == {"id", "name"} for _device, found in groups for each in found), groups
        return sorted([device, sorted(each["name"] for each in found)] for device, found in groups)

    people = ("bob", "eve", "admin")
    body = {"port": {"network_id": network, "project_id": theirs}}
    refused = [ask("bob", "POST", path, body) for path in ("/port-group-names", "/ports")]
    tell([{name: plain(name) for name in people}, {name: named(name) for name in people}, named("eve by nova"), refused])
"""

SNIPPETS = {"CREATED": CREATED, "REFUSED": REFUSED, "QUOTA": QUOTA, "SEEN": SEEN, "UPDATED": UPDATED, "FIELDS": FIELDS, "GROUPS": GROUPS}


@pytest.fixture(scope="module")
def in_neutron(tmp_path_factory):
    """The results of all snippets in one Neutron, with a project for each."""
    directory = tmp_path_factory.mktemp("neutron")
    text = CONFIGURATION.format(directory=directory, extensions=EXTENSIONS, plugin="expanded-ports")
    (directory / "neutron.conf").write_text(text + FURTHER)
    told = inside(API, str(directory), str(directory / "neutron.conf"), *SNIPPETS.values())
    return dict(zip(SNIPPETS, told, strict=True))


def test_a_port_is_created_bound_and_described_by_one_request(in_neutron):
    found = in_neutron["CREATED"]
    assert found["status"] == 201
    assert all(found["same"].values()), found["same"]
    assert (found["host"], found["owner"]) == ("paris", "compute:paris")
    assert found["network"]
    assert found["subnets"]
    assert found["user sees"] == ["binding:vnic_type"], "the user's part of the answer must show what the plain API shows"


def test_only_a_service_binds_and_only_what_it_may_update(in_neutron):
    found = in_neutron["REFUSED"]
    answers, made = found
    assert answers == {
        "bob": [403, "NoServiceToken"],
        "bob by an impostor": [403, "PolicyNotAuthorized"],
        "eve by nova": [404, "NetworkNotFound"],
        "twice": [400, "BoundTwice"],
        "moved": [400, "HTTPBadRequest"],
        "other project": [400, "HTTPBadRequest"],
        "no body": [400, "HTTPBadRequest"],
    }
    assert made == 0, "a refused request must create no port"


def test_quota_holds(in_neutron):
    found = in_neutron["QUOTA"]
    assert found == [[201] * 7 + [409], {"limit": 7, "used": 7}]


def test_nobody_sees_more_than_in_the_plain_api(in_neutron):
    """Everything that a tenant reads through the extension, nested or not, is visible to it in the plain API."""
    found = in_neutron["SEEN"]
    before, after, impostor = found
    nothing = [[], [], [], [], [], []]
    assert before["bob"] == {"ports": 3, "networks": 2, "more": nothing, "floating": 1}
    assert before["eve"] == {"ports": 0, "networks": 1, "more": nothing, "floating": 0}
    assert after["eve"] == {"ports": 1, "networks": 2, "more": nothing, "floating": 0}, (
        "a shared network must show its subnets, but not its ports"
    )
    assert after["bob"]["more"] == nothing
    assert impostor == [[], [], [], []], "a service token without the role must show only what its own user may see"


def test_an_update_returns_the_port_expanded(in_neutron):
    found = in_neutron["UPDATED"]
    assert found == [403, 404, 200, "paris", True]


def test_a_caller_chooses_fields(in_neutron):
    """Nested resources depend on fields that the caller did not choose."""
    assert in_neutron["FIELDS"] == [[200, 200, 200], [["expanded", "name"]] * 3]


def test_names_of_security_groups_are_those_that_the_plain_api_shows(in_neutron):
    plain, named, by_nova, refused = in_neutron["GROUPS"]
    assert named == plain
    assert plain["eve"] == [["hers", ["shared"]]], "she sees neither his port, nor the group on her port that she has no right to"
    assert plain["admin"] == [["bobs", ["own", "shared"]], ["hers", ["own", "shared"]]]
    assert by_nova == plain["eve"], "a service token adds nothing"
    assert refused[0] == refused[1], "whatever else is sent there is answered as by the plain API"
    assert refused[0][0] >= 400
