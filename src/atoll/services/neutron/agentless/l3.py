"""Statuses that Neutron's L3 agent would report, at sites without agents (`mechanism_driver`).

Upstream's router plug-in leaves two things to an agent: a floating IP is DOWN until the agent reports that it is associated, and a
router's ports are bound to the agent's host. Here a floating IP is ACTIVE while it is associated with a port or has a port forwarding, as
with OVN (`neutron.services.ovn_l3`), and a router's port is bound to this site when it is created. Both happen after the request's changes
have been written, so its answer may still show the previous status, as with upstream's own drivers.
"""

from __future__ import annotations

from typing import Any

from neutron.services.portforwarding.constants import PORT_FORWARDING
from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.callbacks import events, registry, resources
from neutron_lib.plugins import constants as plugins
from neutron_lib.plugins import directory
from oslo_config import cfg

ROUTER_PORTS = (constants.DEVICE_OWNER_ROUTER_INTF, constants.DEVICE_OWNER_ROUTER_GW)
"""Device owners of the ports that an L3 agent would plug."""


def subscribe() -> None:
    """Subscribe the callbacks of this module to Neutron's events, in this process."""
    for event in (events.AFTER_CREATE, events.AFTER_UPDATE):
        registry.subscribe(bind_router_port, resources.PORT, event)
        registry.subscribe(floating_ip_changed, resources.FLOATING_IP, event)
    for event in (events.AFTER_CREATE, events.AFTER_DELETE):
        registry.subscribe(port_forwarding_changed, PORT_FORWARDING, event)


def bind_router_port(_resource: str, _event: str, _trigger: Any, payload: Any) -> None:
    """Bind a router's port that is not bound yet.

    Args:
        payload: the event, whose latest state is the port.
    """
    port = payload.latest_state
    if port["device_owner"] in ROUTER_PORTS and not port.get(portbindings.HOST_ID):
        body = {"port": {portbindings.HOST_ID: cfg.CONF.host}}
        directory.get_plugin().update_port(payload.context.elevated(), port["id"], body)


def floating_ip_changed(_resource: str, _event: str, _trigger: Any, payload: Any) -> None:
    """Set the status of a floating IP that was created or updated.

    Args:
        payload: the event, whose latest state is the floating IP.
    """
    address = payload.latest_state
    forwarding = directory.get_plugin(plugins.PORTFORWARDING)
    if address["port_id"] or forwarding is None:
        _set_status(payload.context, address["id"], associated=bool(address["port_id"]))
    else:
        _set_status_by_forwardings(payload.context, address["id"], forwarding)


def port_forwarding_changed(_resource: str, _event: str, trigger: Any, payload: Any) -> None:
    """Set the status of a floating IP after a change of its port forwardings.

    Args:
        trigger: Neutron's plug-in of port forwardings.
        payload: the event, whose state is a port forwarding that was created or deleted.
    """
    _set_status_by_forwardings(payload.context, payload.states[0].floatingip_id, trigger)


def _set_status_by_forwardings(context: Any, identifier: str, forwarding: Any) -> None:
    _set_status(context, identifier, associated=bool(forwarding.get_floatingip_port_forwardings(context.elevated(), identifier)))


def _set_status(context: Any, identifier: str, *, associated: bool) -> None:
    status = constants.FLOATINGIP_STATUS_ACTIVE if associated else constants.FLOATINGIP_STATUS_DOWN
    directory.get_plugin(plugins.L3).update_floatingip_status(context.elevated(), identifier, status)
