"""The controllers of `expanded-ports` and `expanded-networks`.

They are upstream's controllers of ports and networks, under another path. So upstream's own hooks validate the body, reserve quota, enforce
policies and notify, exactly as for `/v2.0/ports` and `/v2.0/networks`.
"""

from __future__ import annotations

from typing import Any

from neutron import policy
from neutron.api.v2 import base
from neutron.pecan_wsgi.controllers import resource, utils
from neutron_lib import constants, context, exceptions
from neutron_lib.api import attributes
from neutron_lib.plugins import directory
from pecan import request

from atoll.services.neutron.expanded_ports import views

EXPANDED = {"expanded": {"allow_post": False, "allow_put": False, "is_visible": True}}
"""The attribute that the extension adds to ports and networks."""


class NoServiceToken(exceptions.NotAuthorized):
    """Raised if a request asks to bind a port and has no service token; answered as 403."""

    message = "Only a service may bind a port while it is created: send X-Service-Token, or create and update the port in two requests."


class BoundTwice(exceptions.BadRequest):
    """Raised if an attribute is both in `port` and in `bind`; answered as 400."""

    message = "These attributes stand both in 'port' and in 'bind': %(names)s. Expected: each in one of them."


def collections() -> list[utils.PecanResourceExtension]:
    """Return the extension's collections, each with its path and controller."""
    core = directory.get_plugin()
    ports = PortsController("ports", "port", plugin=core, resource_info=attributes.RESOURCES["ports"] | EXPANDED)
    networks = NetworksController("networks", "network", plugin=core, resource_info=attributes.RESOURCES["networks"] | EXPANDED)
    return [
        utils.PecanResourceExtension("expanded-ports", ports, core),
        utils.PecanResourceExtension("expanded-networks", networks, core),
    ]


def group_names() -> list[utils.PecanResourceExtension]:
    """Return the path and the controller of the collection of ports with the names of their security groups."""
    core = directory.get_plugin()
    ports = GroupNamesController("ports", "port", plugin=core, resource_info=attributes.RESOURCES["ports"] | EXPANDED)
    return [utils.PecanResourceExtension("port-group-names", ports, core)]


def _reader() -> context.Context:
    """Return the context whose rights decide on the content of `expanded`: the service's if there is a service token, else the caller's."""
    caller = request.context["neutron_context"]
    return service(caller) if caller.service_roles else caller


def service(caller: context.Context) -> context.Context:
    """Return the context of the service whose token came with the caller's.

    keystonemiddleware has validated both tokens.

    Raises:
        NoServiceToken: the request has no service token.
    """
    if not caller.service_roles:
        raise NoServiceToken
    return context.Context(
        user_id=caller.service_user_id,
        user_name=caller.service_user_name,
        project_id=caller.service_project_id,
        roles=list(caller.service_roles),
        request_id=caller.request_id,
        global_request_id=caller.global_request_id,
    )


class PortController(resource.ItemController):
    """One port, under `/v2.0/expanded-ports/ID`: shown and updated."""

    def get(self, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        """Return the port, expanded."""
        _read_all_fields()
        answer: dict[str, Any] = super().get(*arguments, **keywords)
        return {"port": _expand_ports([answer["port"]])[0]}

    @property
    def plugin_updater(self) -> Any:
        """The function that updates a port, and returns it expanded."""
        update = super().plugin_updater
        return lambda *arguments: _expand_ports([update(*arguments)])[0]


class PortsController(resource.CollectionsController):
    """All ports, under `/v2.0/expanded-ports`: listed and created."""

    item_controller_class = PortController

    def get(self, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        """Return the ports of the list, expanded."""
        _read_all_fields()
        answer: dict[str, Any] = super().get(*arguments, **keywords)
        return {"ports": _expand_ports(answer["ports"])}

    def create(self, resources: list[dict[str, Any]]) -> dict[str, Any]:
        """Create the ports in the request's body, bind them if the body asks for it, and return them expanded."""
        resources = _bound(resources)
        answer: dict[str, Any] = super().create(resources)
        if "ports" in answer:
            return {"ports": _expand_ports(answer["ports"], new=True)}
        return {"port": _expand_ports([answer["port"]], new=True)[0]}


class GroupNamesController(resource.CollectionsController):
    """All ports, under `/v2.0/port-group-names`: listed."""

    def get(self, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        """Return the ports of the list, each with the groups that the caller itself may see: a service token adds no groups."""
        _read_all_fields()
        answer: dict[str, Any] = super().get(*arguments, **keywords)
        views.name_groups(request.context["neutron_context"], answer["ports"])
        return answer


class NetworksController(resource.CollectionsController):
    """All networks, under `/v2.0/expanded-networks`: listed."""

    def get(self, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        """Return the networks of the list, each with the network as the service sees it and the quota of ports of the caller's project."""
        _read_all_fields()
        answer: dict[str, Any] = super().get(*arguments, **keywords)
        caller, reader = request.context["neutron_context"], _reader()
        quota = views.port_quota(caller)
        found = views.visible(reader, "networks", "network", answer["networks"]) if reader is not caller else []
        seen = {network["id"]: network for network in found}
        for network in answer["networks"]:
            network["expanded"] = {"port_quota": quota, "network": seen.get(network["id"])}
        return answer


def _read_all_fields() -> None:
    """Read all fields, because the nested resources depend on them; upstream's hook then removes those that the caller has not chosen."""
    request.context["query_params"]["fields"] = []


def _expand_ports(ports: list[dict[str, Any]], *, new: bool = False) -> list[dict[str, Any]]:
    """Add `expanded` to ports.

    Args:
        ports: the ports that the core plug-in returned.
        new: whether they were just created, so that they have no floating IPs.
    """
    reader = _reader()
    views.expand(reader, ports, with_port=reader is not request.context["neutron_context"], new=new)
    return ports


def _bound(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the bodies of new ports, extended by the attributes that a service adds in `bind`, if the request has any.

    The service must have the right to set these attributes on an existing port with the same content.

    Args:
        resources: the user's part, which upstream's hooks have validated and authorised.

    Raises:
        NoServiceToken: the request has no service token.
        BoundTwice: an attribute is in the user's part and in the service's.
        PolicyNotAuthorized: the service may not set one of the attributes.
    """
    sent = request.json  # the sent body, because the body after the hooks contains all defaults too
    if "bind" not in sent:
        return resources
    author = service(request.context["neutron_context"])
    names = {name for port in sent.get("ports", [sent.get("port")]) for name in port} & set(sent["bind"])
    if names:
        raise BoundTwice(names=", ".join(sorted(names)))
    body = {"port": sent["bind"]}
    bind = base.Controller.prepare_request_body(author, body, False, "port", attributes.RESOURCES["ports"])["port"]
    for port in resources:
        policy.enforce(author, "update_port", port | bind | {constants.ATTRIBUTES_TO_UPDATE: list(bind)}, pluralized="ports")
    return [port | bind for port in resources]
