"""Rows that change seldom, which Neutron reads again for each port.

For a new port, Neutron reads the project's limits twice, and the id of its default security group three times. It reads the network's
segments three times, and once each that the network exists and whether it has port security. It reads the subnet and its pools twice.
Further statements look for rows that most sites do not have: agents, bindings to DHCP agents, port forwardings, policies of quality of
service, and ports of DHCP servers and of distributed routers. With this patch, the answers are kept until this process writes one of the
tables (`services/patches/shared/kept_reads.py`).

Of the second kind, only the answer that a table is empty is kept. Once it had a row, the statements are executed until the process ends.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import Any

from neutron.db import models_v2, provisioning_blocks, segments_db
from neutron.db.db_base_plugin_common import DbBasePluginCommon
from neutron.db.db_base_plugin_v2 import NeutronDbPluginV2
from neutron.db.portsecurity_db_common import PortSecurityDbCommon
from neutron.db.quota.driver import DbQuotaDriver
from neutron.db.securitygroups_db import SecurityGroupDbMixin
from neutron.ipam.drivers.neutrondb_ipam.db_api import IpamSubnetManager
from neutron.ipam.drivers.neutrondb_ipam.driver import NeutronDbSubnet
from neutron.objects.agent import Agent
from neutron.objects.network import NetworkDhcpAgentBinding
from neutron.objects.port_forwarding import PortForwarding
from neutron.objects.provisioning_blocks import ProvisioningBlock
from neutron.objects.qos.binding import QosPolicyNetworkBinding, QosPolicyPortBinding
from neutron.objects.qos.policy import QosPolicy
from neutron.services.qos.qos_plugin import QoSPlugin
from neutron_lib import constants
from neutron_lib.context import Context, get_admin_context
from neutron_lib.db import api
from sqlalchemy import inspect

from atoll.services.patches.shared.kept_reads import KeptReads

Function = Callable[..., Any]

LIMITS = KeptReads("quotas")
GROUPS = KeptReads("default_security_group")
NETWORKS = KeptReads("networks", "networkrbacs", "externalnetworks")
PORT_SECURITY = KeptReads("networksecuritybindings")
SEGMENTS = KeptReads("networksegments")
SUBNETS = KeptReads("subnets")
POOLS = KeptReads("ipamsubnets", "ipamallocationpools")

SELDOM_OWNED = frozenset({constants.DEVICE_OWNER_DHCP, constants.DEVICE_OWNER_DVR_INTERFACE})
"""Owners of ports that Neutron looks for whenever a port is created."""

OWNERS = KeptReads("ports", values=SELDOM_OWNED)

SELDOM_USED = (Agent, NetworkDhcpAgentBinding, PortForwarding, ProvisioningBlock, QosPolicyNetworkBinding, QosPolicyPortBinding)
"""Objects whose tables are empty at most sites."""

EMPTY = {each.db_model: KeptReads(each.db_model.__tablename__) for each in SELDOM_USED}

_USED: set[Any] = set()
"""Tables and owners of ports that have had a row since this process started."""


def _none(kept: KeptReads, key: Any, context: Any, query: Callable[[Any], Any]) -> bool:
    """Return whether there is certainly no row; False if there may be one.

    Args:
        kept: keeps the answer.
        key: the table, or the owner of ports.
        context: the caller's context.
        query: returns the query, in a session, of one row.
    """
    if key in _USED:
        return False

    def look() -> bool:
        admin = get_admin_context()
        with api.CONTEXT_READER.using(admin):
            return query(admin.session).limit(1).first() is None

    with api.CONTEXT_READER.using(context):
        # Beside a transaction that writes, the caller's own statement looks.
        none: bool | None = kept.answer(key, lambda: None, look, context.session)
    if none is False:
        _USED.add(key)
    return bool(none)


def _is_empty(context: Any, objects: Any) -> bool:
    model = objects.db_model
    return _none(EMPTY[model], model, context, lambda session: session.query(*inspect(model).primary_key))


def _answer(kept: KeptReads, key: Any, read: Callable[[Any], Any], context: Any, keep: Callable[[Any], bool] = lambda _answer: True) -> Any:
    """Return a kept answer that is the same for all callers, or read it.

    Args:
        kept: keeps the answer.
        key: identifies the question.
        read: reads the answer with a context.
        context: the caller's context.
        keep: returns whether an answer that was read may be kept.
    """
    with api.CONTEXT_READER.using(context):
        return kept.answer(key, lambda: read(context), lambda: read(get_admin_context()), context.session, keep)


def _limits(upstream: Function) -> Function:
    """Wrap the method that reads the limits of a project; other projects' limits are visible to administrators only."""

    @wraps(upstream)
    def get_project_quotas(context: Any, resources: Any, project_id: str) -> dict[str, int]:
        if not context.is_admin and context.project_id != project_id:
            found: dict[str, int] = upstream(context, resources, project_id)
            return found
        own = LIMITS.answer(project_id, lambda: upstream(context, {}, project_id), lambda: upstream(get_admin_context(), {}, project_id))
        return {name: resource.default for name, resource in resources.items()} | own

    return get_project_quotas


def _default_group(upstream: Function) -> Function:
    """Wrap the method that reads the id of a project's default group; that a project has none is not kept."""

    @wraps(upstream)
    def _get_default_sg_id(self: Any, context: Any, project_id: str) -> Any:
        return _answer(GROUPS, project_id, lambda reader: upstream(self, reader, project_id), context, keep=bool)

    return _get_default_sg_id


def _network(upstream: Function) -> Function:
    """Wrap the method that returns a true value if a network exists and the caller may see it; only such a value is kept."""

    @wraps(upstream)
    def _network_exists(self: Any, context: Any, network_id: str) -> Any:
        rights = (context.project_id, context.is_admin, context.is_service_role, context.has_global_access)

        def apart() -> Any:
            other = Context(
                user_id=context.user_id,
                project_id=context.project_id,
                is_admin=context.is_admin,
                roles=list(context.roles),
                is_service_role=context.is_service_role,
                has_global_access=context.has_global_access,
            )
            return upstream(self, other, network_id)

        with api.CONTEXT_READER.using(context):
            return NETWORKS.answer((network_id, rights), lambda: upstream(self, context, network_id), apart, context.session, keep=bool)

    return _network_exists


def _port_security(upstream: Function) -> Function:
    """Wrap the method that reads whether the ports of a network get port security."""

    @wraps(upstream)
    def _get_network_security_binding(self: Any, context: Any, network_id: str) -> Any:
        return _answer(PORT_SECURITY, network_id, lambda reader: upstream(self, reader, network_id), context)

    return _get_network_security_binding


def _segments(upstream: Function) -> Function:
    """Wrap the function that reads the segments of networks; those of a single network are kept."""

    @wraps(upstream)
    def get_networks_segments(context: Any, network_ids: Any, filter_dynamic: bool | None = False) -> dict[str, list[Any]]:
        if len(network_ids) != 1:
            several: dict[str, list[Any]] = upstream(context, network_ids, filter_dynamic)
            return several
        found = _answer(SEGMENTS, (network_ids[0], filter_dynamic), lambda reader: upstream(reader, network_ids, filter_dynamic), context)
        return {network_id: [dict(segment) for segment in segments] for network_id, segments in found.items()}

    return get_networks_segments


def _subnet(upstream: Any) -> Any:
    """Wrap the class method that reads a subnet, of which its caller uses three attributes."""
    read = upstream.__func__

    @wraps(read)
    def _fetch_subnet(cls: Any, context: Any, subnet_id: str) -> Any:
        def used(reader: Any) -> SimpleNamespace:
            found = read(cls, reader, subnet_id)
            return SimpleNamespace(cidr=found.cidr, gateway_ip=found.gateway_ip, project_id=found.project_id)

        return _answer(SUBNETS, subnet_id, used, context)

    return classmethod(_fetch_subnet)


def _ipam_subnet(upstream: Any) -> Any:
    """Wrap the class method that reads the IPAM's record of a subnet; that there is none is not kept."""
    read = upstream.__func__

    @wraps(read)
    def load_by_neutron_subnet_id(cls: Any, context: Any, subnet_id: str) -> Any:
        return _answer(POOLS, subnet_id, lambda reader: read(cls, reader, subnet_id), context, keep=bool)

    return classmethod(load_by_neutron_subnet_id)


def _pools(upstream: Function) -> Function:
    """Wrap the method that reads the allocation pools of a subnet."""

    @wraps(upstream)
    def list_pools(self: Any, context: Any) -> Any:
        return list(_answer(POOLS, ("pools", self._ipam_subnet_id), lambda reader: upstream(self, reader), context))

    return list_pools


def _provisioning(upstream: Function) -> Function:
    """Wrap the function that removes a port's block by an agent, which ports without agents never have."""

    @wraps(upstream)
    def remove_provisioning_component(context: Any, object_id: str, object_type: str, *arguments: Any, **keywords: Any) -> bool:
        if object_type in provisioning_blocks._RESOURCE_TO_MODEL_MAP and _is_empty(context, ProvisioningBlock):
            return False
        return bool(upstream(context, object_id, object_type, *arguments, **keywords))

    return remove_provisioning_component


def _objects(upstream: Any) -> Any:
    """Wrap a class method that reads objects, most often from an empty table."""
    read = upstream.__func__

    def get_objects(cls: Any, context: Any, _pager: Any = None, validate_filters: bool = True, **more: Any) -> Any:
        if cls.db_model in EMPTY and _is_empty(context, cls):
            if validate_filters:
                cls.validate_filters(**{name: value for name, value in more.items() if name not in {"fields", "return_db_obj"}})
            return []
        return read(cls, context, _pager, validate_filters, **more)

    made: Any = get_objects
    return classmethod(made)


def _policy(upstream: Any) -> Any:
    """Wrap the class method that reads the policy which is bound to a port or a network."""
    read = upstream.__func__

    @wraps(read)
    def _get_object_policy(cls: Any, context: Any, binding_cls: Any, **of: Any) -> Any:
        if binding_cls.db_model in EMPTY and _is_empty(context, binding_cls):
            return None
        return read(cls, context, binding_cls, **of)

    made: Any = _get_object_policy
    return classmethod(made)


def _validation(upstream: Function) -> Function:
    """Wrap the callback that loads each new port to validate the policy of the port or of its network."""

    @wraps(upstream)
    def _validate_create_port_callback(self: Any, resource: Any, event: Any, trigger: Any, payload: Any = None) -> None:
        if not all(_is_empty(payload.context, binding) for binding in (QosPolicyPortBinding, QosPolicyNetworkBinding)):
            upstream(self, resource, event, trigger, payload)

    return _validate_create_port_callback


def _ports(upstream: Function) -> Function:
    """Wrap the method that lists ports; no statement looks for ports of an owner that has none."""

    @wraps(upstream)
    def get_ports(self: Any, context: Any, filters: Any = None, *arguments: Any, **keywords: Any) -> Any:
        owners: Any = (filters or {}).get("device_owner") or []
        if len(owners) == 1 and owners[0] in SELDOM_OWNED and not keywords and not any(arguments):
            owned = models_v2.Port.device_owner == owners[0]
            if _none(OWNERS, owners[0], context, lambda session: session.query(models_v2.Port.id).filter(owned)):
                return []
        return upstream(self, context, filters, *arguments, **keywords)

    return get_ports


def install() -> None:
    """Keep the answers; `known_segments` and `default_group_lookup` must be installed before. No other process may use the database."""
    for kept in (LIMITS, GROUPS, NETWORKS, PORT_SECURITY, SEGMENTS, SUBNETS, POOLS, OWNERS, *EMPTY.values()):
        kept.watch()
    DbQuotaDriver.get_project_quotas = staticmethod(_limits(DbQuotaDriver.get_project_quotas))
    SecurityGroupDbMixin._get_default_sg_id = _default_group(SecurityGroupDbMixin._get_default_sg_id)
    DbBasePluginCommon._network_exists = _network(DbBasePluginCommon._network_exists)
    PortSecurityDbCommon._get_network_security_binding = _port_security(PortSecurityDbCommon._get_network_security_binding)
    segments_db.get_networks_segments = _segments(segments_db.get_networks_segments)
    NeutronDbSubnet._fetch_subnet = _subnet(NeutronDbSubnet._fetch_subnet)
    IpamSubnetManager.load_by_neutron_subnet_id = _ipam_subnet(IpamSubnetManager.load_by_neutron_subnet_id)
    IpamSubnetManager.list_pools = _pools(IpamSubnetManager.list_pools)
    provisioning_blocks.remove_provisioning_component = _provisioning(provisioning_blocks.remove_provisioning_component)
    Agent.get_objects = _objects(Agent.get_objects)
    NetworkDhcpAgentBinding.get_objects = _objects(NetworkDhcpAgentBinding.get_objects)
    PortForwarding.get_objects = _objects(PortForwarding.get_objects)
    QosPolicy._get_object_policy = _policy(QosPolicy._get_object_policy)
    QoSPlugin._validate_create_port_callback = _validation(QoSPlugin._validate_create_port_callback)
    NeutronDbPluginV2.get_ports = _ports(NeutronDbPluginV2.get_ports)
