"""A scheduler filter that keeps a server at its host while it is resized or migrated.

The compute hosts of a control site are the site itself and its compute sites. To move a server, one nova-compute must call another, and
the bus lets no compute site do that (services/bus_router.py): the casts would wait for ever, and so would the server. An evacuation needs
no such call.
"""

from __future__ import annotations

from typing import Any

from nova import context, exception, objects
from nova.compute import task_states
from nova.scheduler import filters

MOVES = frozenset({task_states.RESIZE_PREP, task_states.MIGRATING})
"""Task states of servers that are about to be resized or migrated."""


class CurrentHostFilter(filters.BaseHostFilter):
    """A filter that passes only the current host of a server that is resized or migrated, and all hosts for any other."""

    RUN_ON_REBUILD = False

    def filter_all(self, filter_obj_list: Any, spec_obj: Any) -> Any:
        """Return the hosts that pass; if there is only one host, it passes whatever the server's task state is."""
        hosts = list(filter_obj_list)
        own = _host_of_moving(spec_obj.instance_uuid) if len(hosts) > 1 else None
        return [host for host in hosts if own is None or host.host == own]


def all_filters() -> list[Any]:
    """Return all filters that the scheduler may use: upstream's and this one."""
    return [*filters.all_filters(), CurrentHostFilter]


def _host_of_moving(server: str) -> str | None:
    """Return the host of a server that is about to move; `None` for any other server."""
    admin = context.get_admin_context()
    try:
        mapping = objects.InstanceMapping.get_by_instance_uuid(admin, server)
        if mapping.cell_mapping is None:
            return None
        with context.target_cell(admin, mapping.cell_mapping) as cell:
            found = objects.Instance.get_by_uuid(cell, server, expected_attrs=[])
    except (exception.InstanceMappingNotFound, exception.InstanceNotFound):
        return None
    return found.host if found.task_state in MOVES else None
