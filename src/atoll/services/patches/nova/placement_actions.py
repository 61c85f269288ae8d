"""The calls of Placement in a batch, each of which the conductor makes only for a server of the host that sent the batch.

Upstream's conductor makes no such calls for nova-compute, so it never asks whose server a call is about. Here it would lend its own rights
to any host. The bus identifies the sender: its router derives the sender's realm from the sender's certificate, and each listener checks
frames against it (`atoll.bus.realms`). The control site's list of compute sites has the site of each realm, and a compute site's name is
the name of its host. Names in the message itself, such as those in its context, are ignored.

A sender without a realm is a process of this machine, which has the conductor's own rights. With `bus: rabbit`, no message has a realm, and
RabbitMQ does not identify senders: everyone who knows its password is trusted with the whole bus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nova import exception, objects

from atoll.bus.listener import sender_realm
from atoll.bus.realms import OWN
from atoll.mesh.compute_sites import ComputeSiteList

READ, DELETE = "get_allocations_for_consumer", "delete_allocation_for_instance"
"""Methods of Nova's client of Placement that may be part of a batch; the first argument of both is the server's id."""


def sender(sites: ComputeSiteList) -> str | None:
    """Return the host that sent the message that this thread executes; `None` for a process of this machine.

    Args:
        sites: the compute sites that the control site admits.

    Raises:
        Forbidden: the sender is no longer on the list.
    """
    realm = sender_realm()
    if realm is None or realm == OWN:
        return None
    name = sites.name_of_realm(realm)
    if name is None:
        raise exception.Forbidden(f"the sender of the batch, realm {realm:x} of the bus, is not a compute site of this control site")
    return name


def perform(client: Any, host: str | None, context: Any, call: tuple[str, Sequence[Any], Mapping[str, Any]]) -> Any:
    """Make a call of Placement.

    Args:
        client: Nova's client of Placement.
        host: the host that sent the call; `None` allows any server.
        context: the context of the call.
        call: the method of the client, its positional and its keyword arguments.

    Raises:
        ValueError: the method may not be part of a batch, or the server's id is not its first argument.
        Forbidden: the server is another host's.
    """
    method, arguments, keywords = call
    if method not in {READ, DELETE} or not arguments:
        raise ValueError(f"{method} may not be part of a batch, or names no server")
    server = str(arguments[0])
    if host is not None and method == DELETE:
        _check_host(context, server, host)
    result = getattr(client, method)(context, *arguments, **keywords)
    if host is not None and method == READ:
        _check_providers(context, server, host, result)
    return result


def _check_host(context: Any, server: str, host: str) -> None:
    """Refuse a server that Nova's database has at another host. A deletion from elsewhere may have removed the server's record before."""
    try:
        found = objects.Instance.get_by_uuid(context.elevated(read_deleted="yes"), server).host
    except exception.InstanceNotFound:
        found = None
    if found != host:
        raise _foreign(server, host)


def _check_providers(context: Any, server: str, host: str, allocations: Mapping[str, Any]) -> None:
    """Refuse allocations that are of no node of the host.

    A server that is being built has a claim on such a node, and no host in the database yet.
    """
    if not allocations:
        return
    try:
        nodes = {str(node.uuid) for node in objects.ComputeNodeList.get_all_by_host(context.elevated(), host)}
    except exception.ComputeHostNotFound:
        nodes = set()
    if nodes.isdisjoint(allocations):
        raise _foreign(server, host)


def _foreign(server: str, host: str) -> exception.Forbidden:
    return exception.Forbidden(f"server {server} is not at {host}, which asked for its allocations")
