"""The availability zones of sites that share one Nova: each site is a zone, by a host aggregate of its name.

A site with a Nova of its own needs no aggregate: all its hosts are in Nova's default zone, which has the site's name. On a shared Nova,
each site still has its own default: the servers that name no zone are built at the site whose API receives the request.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from atoll.services.contract import Settings


def default(settings: Settings) -> dict[str, str]:
    """Return the option by which a server that names no zone stays at the site; none if the site has a Nova of its own."""
    return {"default_schedule_zone": settings.site} if settings.sharing else {}


def enter(site: str) -> None:
    """Make the zone of a site, and put the site's host into it; complete what an interrupted start has left.

    Nova must run with its compute service, because the host must be known to Placement.

    Args:
        site: the name of the site, and of its host.
    """
    from nova import context, exception
    from nova.compute import api

    admin, aggregates = context.get_admin_context(), api.AggregateAPI()
    with suppress(exception.AggregateNameExists):
        aggregates.create_aggregate(admin, site, site)
    aggregate = _named(admin, site)
    if site not in aggregate.hosts:
        # Nova's API would refuse a host that has servers, because their zone might change; here it keeps its name.
        aggregate.add_host(site)
        aggregates.query_client.update_aggregates(admin, [aggregate])
    for node in _nodes(admin, site):
        aggregates.placement_client.aggregate_add_host(admin, aggregate.uuid, rp_uuid=node.uuid)


def _named(admin: Any, site: str) -> Any:
    from nova import objects

    return next(each for each in objects.AggregateList.get_all(admin) if each.name == site)


def _nodes(admin: Any, site: str) -> list[Any]:
    """Return the compute nodes of a site."""
    from nova import context, objects

    cells = [cell for cell in objects.CellMappingList.get_all(admin) if not cell.is_cell0()]
    found: list[Any] = []
    for cell in cells:
        with context.target_cell(admin, cell) as targeted:
            found.extend(objects.ComputeNodeList.get_all_by_host(targeted, site))
    return found
