"""Servers that arrive by a hand-off keep their id, their disk and the MAC addresses of their ports; those that left leave no ports behind.

Nova chooses the id of a server in `API._provision_instances` (nova/compute/api.py), and has no way to give one. In a cloud of many sites,
a server that moves must keep its id. So a creation may name an id in a scheduler hint, if the site's own gateway vouches for it with a
service token, as for the ids of images (`glance/image_ids.py`). Otherwise it is refused with 403. The gateway does so for hand-offs alone
(`gateway/handoffs`). The hint becomes system metadata of the server, which no client can see or set. By this mark

- the libvirt driver takes the disk that has arrived, once, in place of the image's data (`overlay_images.py`);
- Neutron is asked for ports with the MAC addresses that the server had. If Neutron refuses an address, because the user does not own the
  network or the address is in use, the port gets another one.

When the gateway deletes a server whose hand-off has ended, its account has no rights in Neutron (`API.deallocate_for_instance` uses the
caller's token), so the server's ports would stay behind. For this account, Nova uses its own.

A site to which a server returns may still have the rows of its deleted predecessor, and Nova's tables allow an id once. So these rows are
removed first. `nova-manage db archive_deleted_rows` would archive the rows of all deleted servers, and fails at the second time with
SQLite, which gives the numbers of archived rows out again.
"""

from __future__ import annotations

import inspect
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any

import webob.exc
from nova import context as contexts
from nova import exception, objects
from nova.compute import api
from nova.db.main import api as database
from nova.db.main import models
from nova.network import neutron
from oslo_log import log
from sqlalchemy import delete, select

from atoll.identifiers import HANDOFF_HINT, HANDOFF_MACS_HINT, HANDOFF_SERVER_HINT, gateway_role

LOG = log.getLogger(__name__)

VOUCHES = gateway_role("compute")
"""Role of the service token that vouches for an id."""

_HINTS = (HANDOFF_HINT, HANDOFF_SERVER_HINT, HANDOFF_MACS_HINT)
_KEYS = {"instances": "uuid", "instance_id_mappings": "uuid", "tags": "resource_id"}  # columns with a server's id that have other names
_given = threading.local()


class _Ids:
    """The module `oslo_utils.uuidutils`, but with the id that was given for the server that this thread is creating."""

    def __init__(self, upstream: Any) -> None:
        self._upstream = upstream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._upstream, name)

    def generate_uuid(self, *arguments: Any, **keywords: Any) -> str:
        identifier = getattr(_given, "id", None)
        _given.id = None
        return identifier or str(self._upstream.generate_uuid(*arguments, **keywords))


def giving_ids(provision: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `API._provision_instances`, so that the site's gateway can give the id of a server.

    Args:
        provision: upstream's method.

    Returns:
        A method that raises `HTTPForbidden` if a caller who is not the gateway gives an id.
    """
    signature = inspect.signature(provision)

    @wraps(provision)
    def provisioned(*arguments: Any, **keywords: Any) -> Any:
        named = signature.bind(*arguments, **keywords).arguments
        hints = (named["filter_properties"] or {}).get("scheduler_hints") or {}
        given = {name: hints.pop(name) for name in _HINTS if name in hints}
        if not given:
            return provision(*arguments, **keywords)
        if VOUCHES not in (named["context"].service_roles or ()) or (named["min_count"], named["max_count"]) != (1, 1):
            raise webob.exc.HTTPForbidden(explanation=f"The hint {HANDOFF_HINT} is the site's own: a server can't be given an id.")
        for name in (HANDOFF_HINT, HANDOFF_SERVER_HINT):
            _check_id(name, given.get(name))
        marks = {name: str(given[name]) for name in (HANDOFF_HINT, HANDOFF_MACS_HINT) if name in given}
        named["base_options"]["system_metadata"] = {**named["base_options"].get("system_metadata", {}), **marks}
        remove(str(given[HANDOFF_SERVER_HINT]))
        _given.id = str(given[HANDOFF_SERVER_HINT])
        try:
            return provision(*arguments, **keywords)
        finally:
            _given.id = None

    return provisioned


def _check_id(name: str, given: Any) -> None:
    """Refuse an id that is no UUID: Nova names directories after a server's id, and does not check it.

    Raises:
        HTTPBadRequest: the id is no UUID in its usual form.
    """
    with suppress(ValueError):
        if str(uuid.UUID(str(given))) == given:
            return
    raise webob.exc.HTTPBadRequest(explanation=f"The hint {name} is no UUID.")


def remove(identifier: str) -> None:
    """Remove the rows of a deleted server, so that a new one can have its id; a server that exists stays, and Nova refuses its id."""
    admin = contexts.get_admin_context(read_deleted="yes")
    try:
        cell = objects.InstanceMapping.get_by_instance_uuid(admin, identifier).cell_mapping
    except exception.InstanceMappingNotFound:
        return
    if cell is None:
        return
    with contexts.target_cell(admin, cell) as inside, suppress(exception.InstanceNotFound):
        if not objects.Instance.get_by_uuid(inside, identifier, expected_attrs=[]).deleted:
            return
        _remove_rows(inside, identifier)
    for kind in (objects.RequestSpec, objects.InstanceMappingList):
        kind.destroy_bulk(admin, [identifier])
    LOG.info("the rows of a deleted server %s were removed: it returns by a hand-off", identifier)


def _remove_rows(context: Any, identifier: str) -> None:
    """Remove the rows of a server from all tables of a cell, those that refer to others first."""
    tables = models.BASE.metadata.sorted_tables
    actions = next(table for table in tables if table.name == "instance_actions")
    theirs = select(actions.c.id).where(actions.c.instance_uuid == identifier)
    with database.get_context_manager(context).writer.using(context) as session:
        for table in reversed(tables):
            if table.name == "instance_actions_events":
                session.execute(delete(table).where(table.c.action_id.in_(theirs)))
            elif (column := table.c.get(_KEYS.get(table.name, "instance_uuid"))) is not None:
                session.execute(delete(table).where(column == identifier))


class _WithMacs:
    """A client of Neutron that creates a port with the first of some MAC addresses that Neutron accepts, or with another one."""

    def __init__(self, client: Any, macs: Sequence[str]) -> None:
        self._client = client
        self._macs = macs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def create_port(self, body: Mapping[str, Any]) -> Any:
        for mac in self._macs:
            try:
                return self._client.create_port({"port": {**body["port"], "mac_address": mac}})
            except (exception.Forbidden, neutron.neutron_client_exc.Forbidden, neutron.neutron_client_exc.Conflict) as error:
                LOG.info("a port does not get the address %s: %s", mac, error)
        return self._client.create_port(body)


def keeping_macs(create: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `API._create_port_minimal`, so that the ports of a server that arrives keep their MAC addresses.

    Args:
        create: upstream's method.
    """

    @wraps(create)
    def created(self: Any, context: Any, port_client: Any, instance: Any, network_id: str, *more: Any, **named: Any) -> Any:
        macs = macs_of(instance.system_metadata.get(HANDOFF_MACS_HINT, "")) if HANDOFF_HINT in instance.system_metadata else {}
        client = _WithMacs(port_client, macs[network_id]) if network_id in macs else port_client
        return create(self, context, client, instance, network_id, *more, **named)

    return created


def freeing_ports(deallocate: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `API.deallocate_for_instance`, so that Nova's own account deletes the ports of a server that the site's gateway deletes.

    Args:
        deallocate: upstream's method.
    """

    @wraps(deallocate)
    def deallocated(self: Any, context: Any, instance: Any, *more: Any, **named: Any) -> Any:
        if VOUCHES in (context.roles or ()):
            context = context.elevated()
            context.auth_token = None  # then upstream uses its own account
        return deallocate(self, context, instance, *more, **named)

    return deallocated


def macs_of(text: str) -> dict[str, list[str]]:
    """Return the MAC addresses in a hint, by network."""
    found: dict[str, list[str]] = {}
    for network, sign, mac in (each.partition("=") for each in text.split(",")):
        if sign:
            found.setdefault(network, []).append(mac)
    return found


def install() -> None:
    """Have Nova keep the ids and MAC addresses of servers that arrive, in this process."""
    api.uuidutils = _Ids(api.uuidutils)
    api.API._provision_instances = giving_ids(api.API._provision_instances)
    neutron.API._create_port_minimal = keeping_macs(neutron.API._create_port_minimal)
    neutron.API.deallocate_for_instance = freeing_ports(neutron.API.deallocate_for_instance)
