"""Rows that change seldom, which Nova reads again in each boot: limits, hosts' cells, aggregates, flavors, and default groups.

A boot reads the limits of quota by six statements, and the cell of its host by up to three. It reads the host's aggregates, its flavor and
the existence of the project's group `default` by one each. With this patch, the answers are kept until this process writes one of these
tables (`services/patches/shared/kept_reads.py`). The checks of the quota remain, and each of them counts the servers.

Another process inserts rows only into `host_mappings`: it registers the host of a new compute site. So the answer that a host has no
mapping is not kept. The group `default` is a relic of Nova's own networks. Nova creates it with a project's first server, and deletes it
never.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from nova.context import RequestContext
from nova.db.main import api, models
from nova.objects import aggregate
from nova.objects.flavor import Flavor
from nova.objects.host_mapping import HostMapping
from nova.objects.quotas import Quotas
from sqlalchemy.orm import make_transient_to_detached

from atoll.services.patches.shared.kept_reads import KeptReads

Read = Callable[..., Any]

LIMITS = KeptReads("quotas", "project_user_quotas", "quota_classes")
HOSTS = KeptReads("host_mappings", "cell_mappings")
AGGREGATES = KeptReads("aggregates", "aggregate_hosts", "aggregate_metadata")
FLAVORS = KeptReads("flavors", "flavor_extra_specs", "flavor_projects")
GROUPS = KeptReads("security_groups")


def _apart(context: Any) -> Any:
    """Return a context with the same rights and the same cell, but without the transaction of the given one."""
    made = RequestContext(
        user_id=context.user_id, project_id=context.project_id, is_admin=context.is_admin, read_deleted=context.read_deleted
    )
    made.db_connection = context.db_connection
    return made


def _kept(kept: KeptReads, upstream: Read, copy: Callable[[Any], Any] = lambda answer: answer) -> Read:
    """Wrap a function that reads from the API's database, where all users see the same rows.

    Args:
        kept: keeps the answers.
        upstream: the function.
        copy: returns a copy of an answer, which the caller may change.
    """

    @wraps(upstream)
    def read(context: Any, *arguments: Any) -> Any:
        key = (upstream.__qualname__, arguments)
        return copy(kept.answer(key, lambda: upstream(context, *arguments), lambda: upstream(_apart(context), *arguments)))

    return read


def _flavor(upstream: Read) -> Read:
    """Wrap the method that reads a flavor by its id, which shows other users fewer flavors than administrators."""

    @wraps(upstream)
    def read(context: Any, flavor_id: Any) -> Any:
        key = (flavor_id, context.is_admin, context.project_id, context.user_id)
        found = FLAVORS.answer(key, lambda: upstream(context, flavor_id), lambda: upstream(_apart(context), flavor_id))
        return {**found, "extra_specs": dict(found["extra_specs"])}

    return read


def _default_group(upstream: Read) -> Read:
    """Wrap the function that creates a project's group `default` unless it exists, in a transaction of its own."""

    def columns(context: Any) -> dict[str, Any]:
        return dict(upstream(context))

    @wraps(upstream)
    def ensure(context: Any) -> Any:
        key = (api.get_engine(context=context).url, context.project_id)
        found = GROUPS.answer(key, lambda: columns(context), lambda: columns(context))
        group = models.SecurityGroup(**found)  # one for each caller, which may add it to its session
        make_transient_to_detached(group)
        return group

    return ensure


def _aggregates(upstream: Read) -> Read:
    @wraps(upstream)
    def read(context: Any, host: str, key: str | None = None) -> Any:
        kept: Read = _kept(AGGREGATES, upstream, list)
        return kept(context, host, key)

    return read


def install() -> None:
    """Keep the answers. No other process may change the rows that they contain."""
    for kept in (LIMITS, HOSTS, AGGREGATES, FLAVORS, GROUPS):
        kept.watch()
    Quotas._get_all_from_db_by_project = staticmethod(_kept(LIMITS, Quotas._get_all_from_db_by_project, dict))
    Quotas._get_all_from_db_by_project_and_user = staticmethod(_kept(LIMITS, Quotas._get_all_from_db_by_project_and_user, dict))
    Quotas._get_all_class_from_db_by_name = staticmethod(_kept(LIMITS, Quotas._get_all_class_from_db_by_name, dict))
    HostMapping._get_by_host_from_db = staticmethod(_kept(HOSTS, HostMapping._get_by_host_from_db))
    Flavor._flavor_get_by_flavor_id_from_db = staticmethod(_flavor(Flavor._flavor_get_by_flavor_id_from_db))
    aggregate._get_by_host_from_db = _aggregates(aggregate._get_by_host_from_db)
    api.security_group_ensure_default = _default_group(api.security_group_ensure_default)
