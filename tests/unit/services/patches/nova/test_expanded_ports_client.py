"""Nova's side of `expanded-ports`: upstream's network code, over a double of Neutron, asks less and learns the same."""

import pytest
from upstream import inside

NOVA = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import copy
    import nova.conf
    from nova import config, context, objects
    from nova.network import model, neutron
    from atoll.services.patches.nova import expanded_ports

    objects.register_all()
    config.parse_args(["nova"], default_config_files=[], init_rpc=False)
    NETWORK = {
        "id": "11111111-0000-0000-0000-000000000000", "name": "n", "tenant_id": "p", "mtu": 1400, "subnets": ["s"], "shared": False,
        "router:external": False, "port_security_enabled": True, "dns_domain": "",
    }
    FULL = NETWORK | {"provider:physical_network": None, "provider:network_type": "geneve"}
    SUBNET = {"id": "s", "network_id": NETWORK["id"], "cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.1", "enable_dhcp": True,
              "dns_nameservers": ["10.0.0.2"], "host_routes": []}
    DHCP = {"id": "d", "network_id": NETWORK["id"], "device_owner": "network:dhcp",
            "fixed_ips": [{"subnet_id": "s", "ip_address": "10.0.0.2"}]}

    class Neutron:
        # A double of Neutron's client: the plain API and the extension over the same data.

        def __init__(self, extensions):
            self.extensions, self.calls, self.ports = extensions, [], {}

        def __getattr__(self, name):
            method = getattr(Neutron, f"on_{name}")
            def called(*arguments, **keywords):
                self.calls.append(name)
                return copy.deepcopy(method(self, *arguments, **keywords))
            return called

        def on_list_extensions(self):
            return {"extensions": [{"alias": alias} for alias in self.extensions]}

        def on_list_networks(self, **search):
            return {"networks": [FULL] if NETWORK["id"] in search["id"] else []}

        def on_show_network(self, network, fields=None):
            names = [fields] if isinstance(fields, str) else fields or list(FULL)
            return {"network": {name: FULL[name] for name in names if name in FULL}}

        def on_show_quota(self, project):
            return {"quota": {"port": 10}}

        def on_list_ports(self, **search):
            if search.get("device_owner") == "network:dhcp":
                return {"ports": [DHCP]}
            return {"ports": [port for port in self.ports.values() if search.get("device_id") in (None, port["device_id"])]}

        def on_list_subnets(self, **search):
            return {"subnets": [SUBNET]}

        def on_list_floatingips(self, **search):
            return {"floatingips": []}

        def on_create_port(self, body):
            number = len(self.ports) + 10
            port = {"id": f"22222222-0000-0000-0000-0000000000{number}", "mac_address": f"fa:16:3e:00:00:{number}", "status": "DOWN",
                    "fixed_ips": [{"subnet_id": "s", "ip_address": f"10.0.0.{number}"}], "binding:vnic_type": "normal",
                    "binding:vif_type": "unbound", "binding:vif_details": {}, "binding:profile": {}} | body["port"]
            self.ports[port["id"]] = port
            return {"port": port}

        def on_update_port(self, port, body):
            self.ports[port] |= body["port"]
            if "binding:host_id" in body["port"]:
                self.ports[port] |= {"binding:vif_type": "ovs", "status": "ACTIVE"}
            return {"port": self.ports[port]}

        def expanded(self, port):
            return port | {"expanded": {"port": port, "network": FULL, "subnets": [SUBNET], "dhcp_ports": [DHCP], "floating_ips": []}}

        def on_list(self, collection, path, **search):
            if path == "/expanded-networks":
                quota = {"limit": 10, "used": len(self.ports)}
                network = NETWORK | {"expanded": {"port_quota": quota, "network": FULL}}
                return {"networks": [network] if NETWORK["id"] in search["id"] else []}
            return {"ports": [self.expanded(port) for port in self.on_list_ports(**search)["ports"]]}

        def on_post(self, path, body):
            port = self.on_create_port({"port": body["port"]})["port"]
            return {"port": self.expanded(self.on_update_port(port["id"], {"port": body["bind"]})["port"])}

        def on_put(self, path, body):
            return {"port": self.expanded(self.on_update_port(path.rpartition("/")[2], body)["port"])}

    objects.VirtualInterface.create = lambda self: None
    neutron.compute_utils.refresh_info_cache_for_instance = lambda context, instance: None
    upstream = neutron.API
    CLIENT = neutron.get_client

    def install(double):
        neutron.get_client = lambda context, admin=False: double
        expanded_ports._extensions = expanded_ports._Extensions()
        expanded_ports.install()
        ours = neutron.API
        return ours

    def server():
        instance = objects.Instance(uuid="33333333-0000-0000-0000-000000000000", project_id="p", availability_zone="paris", hostname="h")
        instance.info_cache = objects.InstanceInfoCache(network_info=model.NetworkInfo([]))
        instance.deleted = False
        return instance

    def user():
        return context.RequestContext(user_id="u", project_id="p", auth_token="t")

    def wanted():
        return objects.NetworkRequestList(objects=[objects.NetworkRequest(network_id=NETWORK["id"])])

    def noted(api, instance, double):
        # An event of Neutron, as nova-compute handles it.
        instance.info_cache.network_info = api.info
        double.calls.clear()
        info = api._get_instance_nw_info(context.get_admin_context(), instance, refresh_vif_id=api.info[0]["id"])
        return info, list(double.calls)

    def boot(kind, double):
        api, request, instance, networks = kind(), user(), server(), wanted()
        neutron.update_instance_cache_with_nw_info = lambda *a, **k: None
        count = api.validate_networks(request, networks, 1)
        api.create_resource_requests(request, networks)
        api_calls = list(double.calls)
        double.calls.clear()
        info = api.allocate_for_instance(
            request, instance, requested_networks=networks, security_groups=None, bind_host_id="paris",
            resource_provider_mapping={}, network_arqs={})
        api.info = info
        compute_calls = list(double.calls)
        told, event_calls = noted(api, instance, double)
        return {"count": count, "info": info.json(), "told": told.json(), "api": api_calls, "compute": compute_calls, "event": event_calls}
"""


SILENT = """
    operation = expanded_ports.NetworkOperation(expanded_ports.Networks())
    plain = {"network_id": NETWORK["id"], "device_id": "s1"}
    bare = plain | {"id": "a", "fixed_ips": [], "expanded": {"network": FULL, "subnets": [], "dhcp_ports": [], "floating_ips": []}}
    operation.remember(bare)
    operation.remember(plain | {"id": "b", "fixed_ips": [], "expanded": {
        "network": FULL, "subnets": [SUBNET], "dhcp_ports": [DHCP], "floating_ips": []}})
    client = expanded_ports.Client(None, operation, admin=True)
    tell(client.list_ports(network_id=NETWORK["id"], device_owner="network:dhcp")["ports"] == [DHCP])
"""


def test_a_port_without_addresses_does_not_hide_the_servers_of_dhcp():
    """Neutron describes those of the networks of a port's subnets, of which such a port has none."""
    assert inside(NOVA + SILENT)


@pytest.fixture(scope="module")
def boots():
    """Answers and calls of a boot and an event: by upstream's class, by ours, and by ours over a Neutron without the extension."""
    return inside(
        NOVA
        + """
    stock = ["dns-integration", "multi-provider"]
    found = {}
    double = Neutron(stock)
    neutron.get_client = lambda context, admin=False: double
    found["upstream"] = boot(upstream, double)
    for name, extensions in (("ours", [*stock, "expanded-ports"]), ("without", stock)):
        double = Neutron(extensions)
        found[name] = boot(install(double), double)
        neutron.API = upstream
    tell(found)
    """
    )


def test_nova_learns_the_same_with_two_requests(boots):
    assert boots["ours"]["info"] == boots["upstream"]["info"]
    assert boots["ours"]["told"] == boots["upstream"]["told"]
    assert boots["ours"]["count"] == boots["upstream"]["count"] == 1
    calls = {part: [call for call in boots["ours"][part] if call != "list_extensions"] for part in ("api", "compute", "event")}
    assert calls == {"api": ["list"], "compute": ["post"], "event": ["list"]}


def test_extensions_are_asked_for_once_and_as_the_service_user():
    """A user's token may be about to expire, and nothing of the answer depends on the user."""
    told = inside(
        NOVA
        + """
    double, made = Neutron(["expanded-ports"]), []
    neutron.get_client = lambda context, admin=False: made.append((bool(admin), context.auth_token)) or double
    expanded_ports.install()
    for _ in range(2):
        api = neutron.API()
        for _ in range(3):
            api.validate_networks(user(), wanted(), 1)
    lists = double.calls.count("list_extensions")
    first, of_user = made[0], len(made) - 1

    class Away(Neutron):
        def on_list_extensions(self):
            raise OSError("away")
    double = Away(["expanded-ports"])
    Neutron.on_list_extensions = Away.on_list_extensions
    expanded_ports._extensions = expanded_ports._Extensions()
    count = neutron.API().validate_networks(user(), wanted(), 1)
    tell({"lists": lists, "first": first, "of_user": of_user, "count": count, "away": double.calls})
    """
    )
    assert told["lists"] == 1
    assert told["first"] == [True, None]
    assert told["of_user"] == 6, "one client for each operation of upstream's"
    assert told["count"] == 1
    assert told["away"][0] == "list_extensions"
    assert {"list_networks", "list_ports"} <= set(told["away"]), "upstream's way"


def test_requests_that_wait_for_the_extensions_share_one_failure():
    """Otherwise each waits for its own turn while Neutron does not answer."""
    asked = inside(
        NOVA
        + """
    import time
    from concurrent.futures import ThreadPoolExecutor
    def away(self):
        time.sleep(0.5)
        raise OSError("away")
    Neutron.on_list_extensions = away
    double = Neutron(["expanded-ports"])
    neutron.get_client = lambda context, admin=False: double
    extensions = expanded_ports._Extensions()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(extensions.have, ["expanded-ports"] * 8))
    assert not any(found)
    tell(double.calls.count("list_extensions"))
    """
    )
    assert asked < 8


def test_still_needed(boots):
    """If this fails, upstream asks less often, and the class can go."""
    calls = {part: [call for call in boots["upstream"][part] if call != "list_extensions"] for part in ("api", "compute", "event")}
    assert {part: len(each) for part, each in calls.items()} == {"api": 5, "compute": 9, "event": 7}


def test_a_neutron_without_the_extension_is_asked_as_upstream_asks(boots):
    for boot in (boots["without"], boots["upstream"]):
        boot["api"] = sorted(boot["api"])  # the list of extensions is asked for earlier
    assert boots["without"] == boots["upstream"]


NAMES = """
    from nova.network import security_group_api

    GROUPS = {"g": {"id": "g", "name": "default"}, "h": {"id": "h", "name": ""}}
    PORTS = [{"device_id": "s1", "security_groups": ["g", "h", "unseen"]}, {"device_id": "s2", "security_groups": []}]

    def on_list(self, collection, path, **search):
        assert (path, search["fields"]) == ("/port-group-names", ["security_groups", "device_id", "expanded"])
        assert search["device_id"] == ["s1", "s2"]
        groups = [[GROUPS[each] for each in port["security_groups"] if each in GROUPS] for port in PORTS]
        return {"ports": [port | {"expanded": {"security_groups": each}} for port, each in zip(PORTS, groups)]}

    Neutron.on_list = on_list
    Neutron.on_list_ports = lambda self, **search: {"ports": PORTS}
    Neutron.on_list_security_groups = lambda self, **search: {"security_groups": [GROUPS[each] for each in search["id"] if each in GROUPS]}
    stock = security_group_api.get_instances_security_groups_bindings

    def ask(extensions, detailed=False):
        double = Neutron(extensions)
        neutron.get_client = lambda context, admin=False: double
        neutron.API, security_group_api.get_instances_security_groups_bindings = upstream, stock
        if extensions is not None:
            expanded_ports.install()
        else:
            double.extensions = []
        servers = [{"id": "s1"}, {"id": "s2"}]
        security_group_api.get_instances_security_groups_bindings(user(), servers, detailed)  # reads the list of extensions
        double.calls.clear()
        return {"names": security_group_api.get_instances_security_groups_bindings(user(), servers, detailed), "calls": list(double.calls)}

    tell({"upstream": ask(None), "ours": ask(["port-group-names"])})
"""


@pytest.fixture(scope="module")
def names():
    return inside(NOVA + NAMES)


def test_security_groups_of_servers_are_named_with_one_request(names):
    assert names["ours"] == {"names": {"s1": [{"name": "default"}, {"name": "h"}]}, "calls": ["list"]}


def test_names_still_needed(names):
    """If this fails, upstream asks less often, and the function can go."""
    assert names["upstream"] == {"names": names["ours"]["names"], "calls": ["list_ports", "list_security_groups"]}


def test_a_neutron_without_the_extension_is_asked_for_names_as_upstream_asks():
    without = NAMES.replace('"ours": ask(["port-group-names"])', '"ours": ask([])')
    found = inside(NOVA + without)
    assert found["ours"] == found["upstream"]


ATTACH = """
    import contextlib

    def attach(kind, double, later=False):
        neutron.update_instance_cache_with_nw_info = lambda *a, **k: None
        api, instance = kind(), server()
        boot_info = api.allocate_for_instance(
            user(), instance, requested_networks=wanted(), security_groups=None, bind_host_id="paris", resource_provider_mapping={},
            network_arqs={})
        for port in double.ports.values():
            port.setdefault("device_id", instance.uuid)
        instance.info_cache.network_info = boot_info
        double.calls.clear()
        request, networks = user(), wanted()
        api.create_resource_requests(request, networks)
        if later:  # when the user's token may have expired
            double.calls.clear()
            with api._sharing(user()) if kind is not upstream else contextlib.nullcontext():
                api._get_physnet_tunneled_info(user(), neutron.get_client(user(), admin=True), NETWORK["id"])
            return {"calls": list(double.calls)}
        info = api.allocate_for_instance(
            request, instance, requested_networks=networks, security_groups=None, bind_host_id="paris", resource_provider_mapping={},
            network_arqs={})
        return {"info": info.json(), "calls": list(double.calls)}

    found = {}
    for name, extensions in (("upstream", []), ("ours", ["expanded-ports"])):
        double = Neutron(["dns-integration", "multi-provider", *extensions])
        if name == "upstream":
            neutron.get_client = lambda context, admin=False: double
        kind = upstream if name == "upstream" else install(double)
        found[name] = attach(kind, double)
    found["later"] = attach(kind, double, later=True)
    tell(found)
"""


def test_an_attachment_asks_for_its_network_once():
    found = inside(NOVA + ATTACH)
    assert found["ours"]["info"] == found["upstream"]["info"]
    assert [call for call in found["ours"]["calls"] if call != "list_extensions"] == ["list", "post", "list"]
    assert found["later"]["calls"] == ["show_network"], "nothing is asked with the user's token where upstream does not"
