"""A Neutron API extension, `given-id`: an administrator may choose the id of a new resource.

A network that is brought to another site must keep its id. Neutron's API has no way to give one, while its database code takes an id from
the request's body if there is one (`n.get('id') or generate_uuid()`). Nova and Glance let the caller choose the id of a flavor and of an
image in the same way.

Policy refuses an id of a caller who is not an administrator (`create_network:id` and the like), unless the site's gateway confirms it with
a service token. The gateway does so when it creates a user's network at several sites in the user's name. The ids of security groups
`default` and of their rules are computed (`patches.neutron.default_groups`). No gateway confirms such an id: another project could take it,
and the group's own project could then not create its group.

The extension is enabled by `service_plugins` (entry point `given-id`) and `api_extensions_path` (the directory `extensions`). Its policies
are loaded by the entry point `neutron.policies`.
"""

from __future__ import annotations

import functools
import importlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pecan
from neutron_lib import context, exceptions
from neutron_lib.db import api
from neutron_lib.policy import RULE_ADMIN_ONLY
from neutron_lib.services import base
from oslo_db.exception import DBDuplicateEntry
from oslo_policy import policy
from oslo_utils import uuidutils
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext

from atoll.identifiers import gateway_role

ALIAS = "given-id"

RESOURCES = {
    "networks": ("network", "neutron.objects.network", "Network"),
    "subnets": ("subnet", "neutron.objects.subnet", "Subnet"),
    "ports": ("port", "neutron.objects.ports", "Port"),
    "routers": ("router", "neutron.objects.router", "Router"),
    "security_groups": ("security_group", "neutron.objects.securitygroup", "SecurityGroup"),
    "security_group_rules": ("security_group_rule", "neutron.objects.securitygroup", "SecurityGroupRule"),
}
"""The collections whose resources may have a given id, each with the name of one resource, and the module and class of its objects."""


class MadeId(str):
    """An id that was generated, and not given by a client.

    Neutron's code for subnets and routers generates an id only if the body has no `id`, but in the body an attribute that may be given
    always has a value. So this extension generates the id, and marks it by this class, so that policy can distinguish it.
    """

    __slots__ = ()


class IdTaken(exceptions.Conflict):
    """Raised if a given id belongs to an existing resource; answered as 409."""

    message = "There is a %(resource)s with id %(id)s already."


def given_or_made(collection: str, value: str | None) -> str:
    """Return the id of a resource that is being created: the given one, or a new one.

    Raises:
        IdTaken: a resource has this id. If two are created at the same time, only the database notices; see `taken`.
    """
    if value is None:
        return MadeId(uuidutils.generate_uuid())
    resource, module, name = RESOURCES[collection]
    if getattr(importlib.import_module(module), name).objects_exist(context.get_admin_context(), id=value):
        raise IdTaken(resource=resource, id=value)
    return value


def taken(failure: ExceptionContext) -> IdTaken | None:
    """Return an error that ends a request whose given id the database refuses; otherwise Neutron would retry it for a minute.

    Neutron assumes that a duplicate row is due to a race, and that a retry succeeds (`neutron_lib.db.api.is_retriable`). That is right for
    values that Neutron chooses itself, such as an address or the computed id of a group `default`, but not for an id that the client has
    chosen.

    Args:
        failure: an error of the database, in a listener of SQLAlchemy's event `handle_error` that runs after oslo.db's.

    Returns:
        the error that replaces oslo.db's; `None` to keep that.
    """
    # A lost connection that SQLAlchemy's ping finds has no chained exception.
    error, execution = getattr(failure, "chained_exception", None), failure.execution_context
    if not isinstance(error, DBDuplicateEntry):
        return None
    columns = {"id" if name == "PRIMARY" else name for name in error.columns}  # MariaDB's name of the primary key
    rows: Sequence[Mapping[str, Any]] = getattr(execution, "compiled_parameters", ())
    refused = {str(row.get(name)) for row in rows for name in columns} & _given_ids()
    return IdTaken(resource=pecan.request.context["resource"], id=min(refused)) if refused else None


def _given_ids() -> set[str]:
    """Return the ids that this thread's request gives to the resources that it creates."""
    try:
        resources = pecan.request.context.get("resources") or ()
    except AttributeError:  # this thread serves no request
        return set()
    return {each["id"] for each in resources if isinstance(each.get("id"), str) and not isinstance(each["id"], MadeId)}


def attribute(collection: str) -> dict[str, Any]:
    """Return the definition of a collection's attribute `id`: upstream's, changed so that the id may be given."""
    return {
        "allow_post": True,
        "allow_put": False,
        "default": None,
        "convert_to": functools.partial(given_or_made, collection),
        "convert_list_to": list,  # for values of a filter, which are existing ids (neutron/api/api_common.py, `get_filters`)
        "enforce_policy": True,
        "validate": {"type:uuid": None},
        "is_visible": True,
        "is_filter": True,
        "is_sort_key": True,
        "primary_key": True,
    }


@policy.register("made_id")
class MadeIdCheck(policy.Check):
    """The policy check `made_id:id`: passes if the id was generated."""

    def __call__(self, target: Mapping[str, Any], creds: Mapping[str, Any], enforcer: Any, current_rule: str | None = None) -> bool:
        """Return whether the id in a request's body (`target`) was generated; called by oslo.policy."""
        return isinstance(target.get(self.match), MadeId)


@policy.register("random_id")
class RandomIdCheck(policy.Check):
    """The policy check `random_id:id`: passes if the id is a random UUID, as Neutron generates them."""

    def __call__(self, target: Mapping[str, Any], creds: Mapping[str, Any], enforcer: Any, current_rule: str | None = None) -> bool:
        """Return whether the id in a request's body (`target`) is a random UUID; called by oslo.policy."""
        try:
            return uuid.UUID(str(target.get(self.match))).version == _RANDOM
        except ValueError:
            return False


_RANDOM = 4
_COMPUTED = ("security_groups", "security_group_rules")
"""Collections in which some ids are computed: only an administrator may give an id that is not random."""


def list_rules() -> Iterator[policy.DocumentedRuleDefault]:
    """Return the default rules of the extension; entry point `atoll` of `neutron.policies`."""
    return (_rule(collection, resource) for collection, (resource, *_) in RESOURCES.items())


def _rule(collection: str, resource: str) -> policy.DocumentedRuleDefault:
    vouched = f"service_roles:{gateway_role('network')}" + (" and random_id:id" if collection in _COMPUTED else "")
    return policy.DocumentedRuleDefault(
        name=f"create_{resource}:id",
        check_str=f"{RULE_ADMIN_ONLY} or made_id:id or ({vouched})",
        scope_types=["project"],
        description=f"Give the id of a {resource} that is created",
        operations=[{"method": "POST", "path": f"/{collection.replace('_', '-')}"}],
    )


class GivenIdPlugin(base.ServicePluginBase):
    """The plug-in that declares the extension, because Neutron loads no extension that no plug-in declares; entry point `given-id`."""

    supported_extension_aliases = (ALIAS,)

    def __init__(self) -> None:
        super().__init__()
        event.listen(api.get_context_manager().writer.get_engine(), "handle_error", taken, retval=True)

    def get_plugin_type(self) -> str:
        """Return the key under which Neutron keeps the plug-in."""
        return ALIAS

    def get_plugin_description(self) -> str:
        """Return a description for Neutron's log."""
        return "Accepts an administrator's id for a new resource."
