"""Statuses of all of Neutron's resources at a site without agents, in Neutron's real API over a database of its own."""

import pytest
from neutron_api import API, CONFIGURATION, EXTENSIONS
from upstream import inside

from atoll.services.neutron import service as neutron
from atoll.services.neutron.network_services.registry import implementations_of

ASK = (
    API.partition("    network = create(")[0]
    + """
    from neutron_lib.api import attributes

    def call(method, path, body=None):
        data = json.dumps(body).encode() if body is not None else b""
        request = webob.Request.blank(path, method=method, content_type="application/json", body=data)
        request.environ["neutron.context"] = who["admin"]
        answer = request.get_response(api)
        assert answer.status_int < 300, (method, path, answer.text)
        return answer.json if answer.body else {}

    def made(collection, resource, **fields):
        return call("POST", f"/{collection}", {resource: fields})[resource]["id"]

    def shown(collection, resource, identifier):
        return call("GET", f"/{collection}/{identifier}")[resource]["status"]

    def network(cidr, **fields):
        made_network = made("networks", "network", name=cidr, **fields)
        return made_network, made("subnets", "subnet", network_id=made_network, ip_version=4, cidr=cidr)

    def ports(owner):
        return [each["status"] for each in call("GET", f"/ports?device_owner={owner}")["ports"]]

    def floating():
        return shown("floatingips", "floatingip", address)

    def lead(port):
        call("PUT", f"/floatingips/{address}", {"floatingip": {"port_id": port}})
        return floating()

    found = {"with a status": sorted(name for name, fields in attributes.RESOURCES.items() if "status" in fields)}
    (outside, _), (inner, subnet) = network("10.1.0.0/24", **{"router:external": True}), network("10.2.0.0/24")
    found["network"] = shown("networks", "network", inner)
    router = made("routers", "router", name="r", external_gateway_info={"network_id": outside})
    call("PUT", f"/routers/{router}/add_router_interface", {"subnet_id": subnet})
    other = made("ports", "port", network_id=inner)
    own = made("routers", "router", name="by port", external_gateway_info={"network_id": outside})
    call("PUT", f"/routers/{own}/add_router_interface", {"port_id": other})
    found["router"] = [shown("routers", "router", each) for each in (router, own)]
    found["router ports"] = {owner: ports(owner) for owner in ("network:router_interface", "network:router_gateway")}
    port = made("ports", "port", network_id=inner)
    found["port"] = [shown("ports", "port", port)]
    call("PUT", f"/ports/{port}", {"port": {"binding:host_id": "here", "device_owner": "compute:nova", "device_id": "x"}})
    found["port"].append(shown("ports", "port", port))

    address = made("floatingips", "floatingip", floating_network_id=outside)
    found["floating"] = [floating(), lead(port), lead(None), lead(port)]
    second = made("floatingips", "floatingip", floating_network_id=outside, port_id=made("ports", "port", network_id=inner))
    found["made with a port"] = shown("floatingips", "floatingip", second)
    call("DELETE", f"/ports/{port}")
    found["port gone"] = floating()
    target = call("GET", f"/ports/{made('ports', 'port', network_id=inner)}")["port"]
    rules = []
    for external in (80, 81):
        forwarding = {
            "protocol": "tcp", "external_port": external, "internal_port": external,
            "internal_port_id": target["id"], "internal_ip_address": target["fixed_ips"][0]["ip_address"],
        }
        rules.append(made(f"floatingips/{address}/port_forwardings", "port_forwarding", **forwarding))
    found["forwarded"] = [floating()]
    call("PUT", f"/floatingips/{address}", {"floatingip": {"description": "kept"}})
    for rule in rules:
        found["forwarded"].append(floating())
        call("DELETE", f"/floatingips/{address}/port_forwardings/{rule}")
    found["forwarded"].append(floating())
    tell(found)
"""
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    directory = tmp_path_factory.mktemp("neutron")
    plugins = ",".join((*(implementation.plugins[0] for implementation in implementations_of((), "fake")), *neutron.OWN_PLUGINS))
    text = CONFIGURATION.format(plugin=plugins, extensions=EXTENSIONS, directory=directory)
    settings = directory / "neutron.conf"
    settings.write_text(text.replace("[ml2]", "[ml2]\nextension_drivers = " + ",".join(neutron.EXTENSION_DRIVERS)))
    return inside(ASK, str(directory), str(settings))


def test_all_that_has_a_status_is_looked_at(found):
    """If a service plug-in brings another resource with a status, that status needs a test here."""
    assert found["with a status"] == ["floatingips", "networks", "ports", "routers"]


def test_networks_and_routers_are_active(found):
    assert (found["network"], found["router"]) == ("ACTIVE", ["ACTIVE", "ACTIVE"])


def test_port_is_up_once_it_is_bound(found):
    assert found["port"] == ["DOWN", "ACTIVE"]


def test_ports_of_routers_are_up(found):
    assert found["router ports"] == {"network:router_interface": ["ACTIVE"] * 2, "network:router_gateway": ["ACTIVE"] * 2}


def test_floating_ip_is_up_as_long_as_it_leads_to_a_port(found):
    assert found["floating"] == ["DOWN", "ACTIVE", "DOWN", "ACTIVE"]
    assert found["made with a port"] == "ACTIVE"
    assert found["port gone"] == "DOWN"


def test_floating_ip_is_up_as_long_as_it_has_a_port_forwarding(found):
    assert found["forwarded"] == ["ACTIVE", "ACTIVE", "ACTIVE", "DOWN"]
