"""A Neutron API extension, `given-id`: an administrator may give what is created its id.

A network that is brought to another site must have the same id there, and Neutron's API knows no way to say so, while its database code
takes an id from the request's body where there is one (`n.get('id') or generate_uuid()`). Nova and Glance let the caller choose the id of
a flavor and of an image in just this way. Whoever is not an administrator and gives an id is refused by policy (`create_network:id` and the
like), unless the site's gateway vouches for the id with a service token, as it does when it creates a user's network at several sites in
the user's name. The ids of groups `default` and of their rules are computed (`services.default_groups`): no gateway vouches for such an id,
or another project could take it, and the group's own project could not have its group any more.

Switched on by `service_plugins` (entry point `given-id`) and `api_extensions_path`: Neutron reads every module of this directory whose name
does not begin with `_`. The policies come by the entry point `neutron.policies`.
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
"""Which collections take an id; what one of each is called; the module and the class that reads it from the database."""


class MadeId(str):
    """An id that no client has given.

    Neutron's code for subnets and routers generates an id only if the body has no such key, while an attribute that may be given always has
    a value: so the id is made here, and marked, for the policy to know the difference.
    """

    __slots__ = ()


class IdTaken(exceptions.Conflict):  # type: ignore[misc]
    """Answered as 409."""

    message = "There is a %(resource)s with id %(id)s already."


def given_or_made(collection: str, value: str | None) -> str:
    """The id of what is about to be created.

    Raises:
        IdTaken: there is one with this id. One that is made at the same time is found by the database: see `taken`.
    """
    if value is None:
        return MadeId(uuidutils.generate_uuid())
    resource, module, name = RESOURCES[collection]
    if getattr(importlib.import_module(module), name).objects_exist(context.get_admin_context(), id=value):
        raise IdTaken(resource=resource, id=value)
    return value


def taken(failure: ExceptionContext) -> IdTaken | None:
    """Have the database's refusal of an id that a client gave end the request, which Neutron would repeat for a minute.

    Neutron takes every row that exists already for a race that another try would win (`neutron_lib.db.api.is_retriable`). That is right for
    what Neutron chooses itself, such as an address or the computed id of a group `default`, and never for what the client has chosen.

    Args:
        failure: an error of the database, in a listener of SQLAlchemy's event `handle_error` that comes after oslo.db's.

    Returns:
        The error that takes the place of oslo.db's; `None` if that stays.
    """
    error, execution = failure.chained_exception, failure.execution_context
    if not isinstance(error, DBDuplicateEntry):
        return None
    columns = {"id" if name == "PRIMARY" else name for name in error.columns}  # as MariaDB calls it
    rows: Sequence[Mapping[str, Any]] = getattr(execution, "compiled_parameters", ())
    refused = {str(row.get(name)) for row in rows for name in columns} & _given_ids()
    return IdTaken(resource=pecan.request.context["resource"], id=min(refused)) if refused else None


def _given_ids() -> set[str]:
    """Return the ids that the client of this thread's request has given to what it creates."""
    try:
        resources = pecan.request.context.get("resources") or ()
    except AttributeError:  # this thread works on no request
        return set()
    return {each["id"] for each in resources if isinstance(each.get("id"), str) and not isinstance(each["id"], MadeId)}


def attribute(collection: str) -> dict[str, Any]:
    """Upstream's `id` of a collection, but that it may be given: the first five lines."""
    return {
        "allow_post": True,
        "allow_put": False,
        "default": None,
        "convert_to": functools.partial(given_or_made, collection),
        "convert_list_to": list,  # of a filter's values, which are ids of what there is (neutron/api/api_common.py, `get_filters`)
        "enforce_policy": True,
        "validate": {"type:uuid": None},
        "is_visible": True,
        "is_filter": True,
        "is_sort_key": True,
        "primary_key": True,
    }


@policy.register("made_id")
class MadeIdCheck(policy.Check):  # type: ignore[misc]
    """`made_id:id`: the id was generated, so that anyone may have it."""

    def __call__(self, target: Mapping[str, Any], creds: Mapping[str, Any], enforcer: Any, current_rule: str | None = None) -> bool:
        """Called by oslo.policy with the body of the request."""
        return isinstance(target.get(self.match), MadeId)


@policy.register("random_id")
class RandomIdCheck(policy.Check):  # type: ignore[misc]
    """`random_id:id`: the id is a random UUID, as Neutron makes them."""

    def __call__(self, target: Mapping[str, Any], creds: Mapping[str, Any], enforcer: Any, current_rule: str | None = None) -> bool:
        """Called by oslo.policy with the body of the request."""
        try:
            return uuid.UUID(str(target.get(self.match))).version == _RANDOM
        except ValueError:
            return False


_RANDOM = 4
_COMPUTED = ("security_groups", "security_group_rules")
"""Collections in which some ids are computed: of those an administrator alone may give one that is not random."""


def list_rules() -> Iterator[policy.DocumentedRuleDefault]:
    """Entry point `atoll` of `neutron.policies`."""
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


class GivenIdPlugin(base.ServicePluginBase):  # type: ignore[misc]
    """Entry point `given-id`. Neutron loads an extension only if some plugin says that it supports it."""

    supported_extension_aliases = (ALIAS,)

    def __init__(self) -> None:
        super().__init__()
        event.listen(api.get_context_manager().writer.get_engine(), "handle_error", taken, retval=True)

    def get_plugin_type(self) -> str:
        """What Neutron files it under."""
        return ALIAS

    def get_plugin_description(self) -> str:
        """For Neutron's log."""
        return "Takes the id of what is created from an administrator."
