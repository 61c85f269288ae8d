"""Nova's side of `expanded-ports`: upstream's network code over a client that answers from the result of one request.

Upstream's `nova.network.neutron.API` sends Neutron one request after another. Its code runs unchanged, but during the methods below its
clients are `Client`s. A client sends the extension one request, keeps the answer until the operation ends, and answers upstream's further
requests from it. A request that the answer does not cover goes to Neutron. If Neutron lacks the extension `expanded-ports`, upstream's own
clients are used. A process reads Neutron's list of extensions once, as Nova's service user.

The networks that the API half of a boot has seen are kept for its compute half, which may run in the same process (`_Requests`).
"""

from __future__ import annotations

import functools
import inspect
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import nova.conf
from cachetools import TTLCache
from nova import context as contexts
from nova.network import neutron, security_group_api

LOG = logging.getLogger(__name__)

ALIAS = "expanded-ports"
GROUP_NAMES = "port-group-names"
PORTS, NETWORKS, NAMED = "/expanded-ports", "/expanded-networks", "/port-group-names"
DHCP = "network:dhcp"

Resource = dict[str, Any]


@dataclass
class Networks:
    """Networks that Neutron has described for one request of a user."""

    listed: dict[str, Resource] = field(default_factory=dict)
    """The networks by id, as the user sees them."""
    full: dict[str, Resource] = field(default_factory=dict)
    """The networks by id, as Nova's service user sees them."""
    quota: dict[str, int] | None = None
    """`limit` and `used` of the ports of the user's project."""


class _Requests:
    """The networks of the requests of the last minute, by the request's id, user and project."""

    SECONDS = 60
    MAX_REQUESTS = 1000

    def __init__(self) -> None:
        self._networks: TTLCache[tuple[str, str, str], Networks] = TTLCache(self.MAX_REQUESTS, self.SECONDS)
        self._lock = threading.Lock()

    def networks(self, context: Any) -> Networks:
        """Return the networks that were looked up for a request; none yet if the request is new."""
        key = (str(context.request_id), str(context.user_id), str(context.project_id))
        with self._lock:
            return self._networks.setdefault(key, Networks())


_requests = _Requests()


@dataclass
class Binding:
    """The binding of a port that is created for a server."""

    api: neutron.API
    context: Any
    instance: Any
    host: str

    def attributes(self, network: Resource, client: Any) -> Resource:
        """Return the attributes that upstream would give the port in a second request (`_update_ports_for_instance`)."""
        body: dict[str, Resource] = {"port": {}}
        self.api._populate_neutron_extension_values(
            self.context, self.instance, None, body, network=network, neutron=client, bind_host_id=self.host
        )
        return {"device_owner": f"compute:{self.instance.availability_zone}", **body["port"]}


@dataclass
class NetworkOperation:
    """State that the clients of one operation share."""

    networks: Networks
    binding: Binding | None = None
    """The binding of new ports; `None` if they can't be bound while they are created."""
    complete: bool = False
    """True if all ports of the new server pass through this operation."""
    ports: dict[str, Resource] = field(default_factory=dict)
    """Expanded ports by id."""
    sent: dict[str, Resource] = field(default_factory=dict)
    """Attributes that a request of this operation has set, by the port's id."""
    precedes: bool = False
    """True if the allocation of ports follows, which asks for the same networks with the user's token."""
    groups: dict[str, Resource] | None = None
    """Security groups by id, with their names; `None` unless the operation looks for the groups of servers."""

    def remember(self, port: Resource) -> Resource:
        """Keep an expanded port, and return the port as Nova's service user sees it."""
        expanded = port.pop("expanded")
        expanded["port"] = expanded.get("port") or port
        self.ports[port["id"]] = expanded
        if expanded["network"]:
            self.networks.full[expanded["network"]["id"]] = expanded["network"]
        return deepcopy(expanded["port"])

    def subnets(self) -> dict[str, Resource]:
        """Return the subnets of the ports by id."""
        return {subnet["id"]: subnet for port in self.ports.values() for subnet in port["subnets"]}


_operation: ContextVar[NetworkOperation | None] = ContextVar("operation", default=None)


class Client:
    """A client of Neutron that answers requests, where possible, from the data of the operation that it belongs to."""

    def __init__(self, real: Any, operation: NetworkOperation, *, admin: bool) -> None:
        self._real = real
        self._operation = operation
        self._admin = admin

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def list_networks(self, **search: Any) -> dict[str, list[Resource]]:
        """List networks; with a user's token, look up networks by id with one request that also returns data for later requests."""
        if set(search) != {"id"}:
            return self._real.list_networks(**search)
        ids = list(search["id"]) if not isinstance(search["id"], str) else [search["id"]]
        known = self._operation.networks.full if self._admin else self._operation.networks.listed
        if not known.keys() >= set(ids):
            if self._admin:
                return self._real.list_networks(**search)
            self._look_up_networks(ids)
        return {"networks": [deepcopy(known[each]) for each in dict.fromkeys(ids) if each in known]}

    def _look_up_networks(self, ids: list[str]) -> None:
        networks = self._operation.networks
        for network in self._real.list("networks", NETWORKS, id=ids)["networks"]:
            expanded = network.pop("expanded")
            networks.listed[network["id"]] = network
            networks.quota = expanded["port_quota"]
            if expanded["network"]:
                networks.full[network["id"]] = expanded["network"]

    def show_network(self, network: str, fields: Any = None, **search: Any) -> dict[str, Resource]:
        """Show a network, with all attributes or some."""
        known = self._operation.networks.full.get(network)
        if known is None or search or not self._admin:
            return self._real.show_network(network, **({"fields": fields} if fields else {}), **search)
        names = [fields] if isinstance(fields, str) else fields or list(known)
        return {"network": {name: deepcopy(known[name]) for name in names if name in known}}

    def show_quota(self, project_id: str, **search: Any) -> dict[str, Resource]:
        """Show a project's quota; if its networks were looked up, only the quota of ports, because upstream needs no other then."""
        quota = self._operation.networks.quota
        if quota is None or self._admin:
            return self._real.show_quota(project_id, **search)
        return {"quota": {"port": quota["limit"]}}

    def list_ports(self, **search: Any) -> dict[str, list[Resource]]:
        """List ports: a project's ports to be counted, a server's ports, or the ports of a network's DHCP servers."""
        found: list[Resource] | None = None
        if set(search) == {"tenant_id", "fields"} and search["fields"] == ["id"]:
            found = self._counted()
        elif set(search) == {"tenant_id", "device_id"} and self._admin:
            found = self._of_server(search)
        elif set(search) == {"network_id", "device_owner"} and search["device_owner"] == DHCP:
            found = self._dhcp_ports(search["network_id"])
        elif set(search) == {"device_id", "fields"} and self._operation.groups is not None:
            found = self._named(**search)
        if found is None:
            return self._real.list_ports(**search)
        return {"ports": deepcopy(found)}

    def _counted(self) -> list[Resource] | None:
        """Return one empty port for each of the project's ports, because upstream only counts them."""
        quota = self._operation.networks.quota
        return None if quota is None or self._admin else [{}] * quota["used"]

    def _of_server(self, search: Mapping[str, Any]) -> list[Resource]:
        operation = self._operation
        if not (operation.complete and operation.ports):
            for port in self._real.list("ports", PORTS, **search)["ports"]:
                operation.remember(port)
        return [each["port"] for each in operation.ports.values() if each["port"]["device_id"] == search["device_id"]]

    def _dhcp_ports(self, network_id: str) -> list[Resource] | None:
        for port in self._operation.ports.values():
            if port["port"]["network_id"] == network_id and port["subnets"]:
                return list(port["dhcp_ports"])
        return None

    def _named(self, device_id: list[str], fields: list[str]) -> list[Resource]:
        """List ports of servers, and keep the names of their security groups."""
        ports: list[Resource] = self._real.list("ports", NAMED, device_id=device_id, fields=[*fields, "expanded"])["ports"]
        assert self._operation.groups is not None
        for port in ports:
            self._operation.groups.update({group["id"]: group for group in port.pop("expanded")["security_groups"]})
        return ports

    def list_security_groups(self, **search: Any) -> dict[str, list[Resource]]:
        """List the names of security groups; Neutron has sent the groups that the user may see with the ports."""
        known = self._operation.groups
        if known is None or set(search) != {"id", "fields"} or not {"id", "name"} >= set(search["fields"]):
            return self._real.list_security_groups(**search)
        return {"security_groups": [dict(known[each]) for each in search["id"] if each in known]}

    def list_subnets(self, **search: Any) -> dict[str, list[Resource]]:
        """List subnets by their ids."""
        known = self._operation.subnets()
        if set(search) != {"id"} or not known.keys() >= set(search["id"]):
            return self._real.list_subnets(**search)
        return {"subnets": [deepcopy(known[each]) for each in search["id"]]}

    def list_floatingips(self, **search: Any) -> dict[str, list[Resource]]:
        """List the floating IPs of a port's address."""
        port = self._operation.ports.get(search.get("port_id", ""))
        if set(search) != {"fixed_ip_address", "port_id"} or port is None:
            return self._real.list_floatingips(**search)
        address = search["fixed_ip_address"]
        return {"floatingips": [deepcopy(each) for each in port["floating_ips"] if each["fixed_ip_address"] == address]}

    def create_port(self, body: dict[str, Resource]) -> dict[str, Resource]:
        """Create a port, and bind it in the same request if the operation has its binding."""
        binding, network = self._operation.binding, self._operation.networks.listed.get(body["port"].get("network_id", ""))
        if self._admin or binding is None or network is None:
            return self._real.create_port(body)
        bind = binding.attributes(network, self)
        port = self._real.post(PORTS, body={**body, "bind": bind})["port"]
        bound = self._operation.remember(port)
        self._operation.sent[port["id"]] = body["port"] | bind
        # The port as the user sees it, because upstream's refusals depend on that. The user may not see whether it is bound, so this is
        # added.
        return {"port": deepcopy(port) | {"binding:vif_type": bound.get("binding:vif_type")}}

    def update_port(self, port_id: str, body: dict[str, Resource]) -> dict[str, Resource]:
        """Update a port, unless an earlier request of this operation has given all attributes the same values."""
        operation = self._operation
        if not self._admin:
            return self._real.update_port(port_id, body)
        sent = operation.sent.get(port_id, {})
        if all(name in sent and sent[name] == value for name, value in body["port"].items()):
            return {"port": deepcopy(operation.ports[port_id]["port"])}
        port = operation.remember(self._real.put(f"{PORTS}/{port_id}", body=body)["port"])
        operation.sent[port_id] = sent | body["port"]
        return {"port": port}


class _Extensions:
    """The extensions of Neutron, which are the same for everybody.

    Upstream asks for them once in each of its API objects, with the client of that object, which may be a user's.
    """

    def __init__(self) -> None:
        self._by_alias: dict[str, Resource] = {}
        self._asked = self._failed = float("-inf")
        self._failure: Exception | None = None
        self._lock = threading.Lock()

    def current(self) -> dict[str, Resource]:
        """Return the extensions by alias; they are asked for again after `[neutron] extension_sync_interval` seconds.

        Raises:
            Exception: Neutron did not answer; as Neutron's client raises it.
        """
        began = time.monotonic()
        with self._lock:
            if self._failure is not None and self._failed >= began:  # another thread has asked while this one waited
                raise self._failure
            if time.monotonic() - self._asked >= nova.conf.CONF.neutron.extension_sync_interval:
                self._ask()
            return self._by_alias

    def _ask(self) -> None:
        client = neutron.get_client(contexts.get_admin_context(), admin=True)
        try:
            self._by_alias = {each["alias"]: each for each in client.list_extensions()["extensions"]}
        except Exception as error:
            self._failure, self._failed = error.with_traceback(None), time.monotonic()
            raise
        self._failure, self._asked = None, time.monotonic()

    def have(self, alias: str) -> bool:
        """Return whether Neutron has an extension; False if Neutron does not answer: then upstream's own request reports the reason."""
        try:
            return alias in self.current()
        except Exception as error:
            LOG.warning("the extensions of Neutron are not known: %s", error)
            return False


_extensions = _Extensions()

_ALLOCATE = inspect.signature(neutron.API.allocate_for_instance)


class ExpandingAPI(neutron.API):
    """Upstream's network API, whose operations share the result of one request."""

    @contextmanager
    def _sharing(self, context: Any, alias: str = ALIAS, **more: Any) -> Iterator[None]:
        """Let the clients that are created in the context share their answers, if Neutron has the extension."""
        if _operation.get() is not None or not _extensions.have(alias):
            yield
            return
        token = _operation.set(NetworkOperation(_requests.networks(context), **more))
        try:
            yield
        finally:
            _operation.reset(token)

    def _refresh_neutron_extensions_cache(self, client: Any) -> None:
        """Use the extensions that the process has read already."""
        self.extensions = _extensions.current()

    def validate_networks(self, context: Any, *arguments: Any, **keywords: Any) -> Any:
        """Check that the user may use the networks, and that the quota suffices: one request instead of three."""
        with self._sharing(context):
            return super().validate_networks(context, *arguments, **keywords)

    def create_resource_requests(self, context: Any, *arguments: Any, **keywords: Any) -> Any:
        """Find the physical networks: no request instead of two for each network, after `validate_networks`."""
        with self._sharing(context, precedes=True):
            return super().create_resource_requests(context, *arguments, **keywords)

    def allocate_for_instance(self, context: Any, instance: Any, *arguments: Any, **keywords: Any) -> Any:
        """Create and bind a server's ports: one request for each instead of nine."""
        given = _ALLOCATE.bind(self, context, instance, *arguments, **keywords).arguments
        devices = given.get("network_arqs") or any(each.pci_request_id for each in given["requested_networks"] or ())
        host = given.get("bind_host_id")
        binding = Binding(self, context, instance, host) if host and not devices else None
        with self._sharing(context, binding=binding, complete=not instance.get_network_info()):
            return super().allocate_for_instance(context, instance, *arguments, **keywords)

    def _build_network_info_model(self, context: Any, *arguments: Any, **keywords: Any) -> Any:
        """Describe a server's ports: one request instead of two and five for each port."""
        with self._sharing(context):
            return super()._build_network_info_model(context, *arguments, **keywords)

    def _get_physnet_tunneled_info(self, context: Any, client: Any, net_id: str) -> Any:
        """Find a network's physical network: with one request instead of two, or none if an earlier answer has it.

        If Nova allocates ports next, the network is read with the same client as that allocation uses, which then needs no request of its
        own. In other operations, the user's token may have expired.
        """
        operation = _operation.get()
        if operation is not None and net_id not in operation.networks.full:
            if operation.precedes and context.auth_token:
                neutron.get_client(context).list_networks(id=[net_id])
            if net_id not in operation.networks.full:
                operation.networks.full[net_id] = client.show_network(net_id)["network"]
        return super()._get_physnet_tunneled_info(context, client, net_id)


def install() -> None:
    """Have all parts of Nova in this process use `ExpandingAPI`, and in its operations `Client`."""
    upstream = neutron.get_client

    def get_client(context: Any, admin: bool = False) -> Any:
        real = upstream(context, admin=admin)
        operation = _operation.get()
        return real if operation is None else Client(real, operation, admin=admin or not context.auth_token)

    neutron.get_client = get_client
    neutron.API = ExpandingAPI
    security_group_api.get_instances_security_groups_bindings = _naming(security_group_api.get_instances_security_groups_bindings)


def _naming(upstream: Any) -> Any:
    """Return upstream's function that names the security groups of servers, with one request instead of two."""
    api = ExpandingAPI()  # each object reads the list of extensions for itself

    @functools.wraps(upstream)
    def bindings(context: Any, servers: Any, detailed: bool = False) -> Any:
        if detailed:  # with all rules
            return upstream(context, servers, detailed)
        with api._sharing(context, GROUP_NAMES, groups={}):
            return upstream(context, servers, detailed)

    return bindings
