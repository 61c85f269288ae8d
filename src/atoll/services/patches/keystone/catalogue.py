"""Keystone's catalogue at a site that shares its Keystone database with other sites: the endpoints of this site alone.

Each site has endpoints of its own in one region, so that clients and services of a site use the services of that site. On a shared
database, upstream's catalogue would have those of all sites, and clients would take any one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any


def without(hidden: Collection[str], upstream: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the method of the driver that returns the catalogue.

    Args:
        hidden: the ids of the endpoints to leave out.
        upstream: `Catalog.get_v3_catalog`.
    """

    @wraps(upstream)
    def get_v3_catalog(self: Any, *arguments: Any, **options: Any) -> Any:
        services = upstream(self, *arguments, **options)
        for service in services:
            service["endpoints"] = [endpoint for endpoint in service["endpoints"] if endpoint["id"] not in hidden]
        return services

    return get_v3_catalog


def install(hidden: Collection[str]) -> None:
    """Leave endpoints out of the catalogue of this process.

    Args:
        hidden: the ids of the endpoints of the other sites.
    """
    from keystone.catalog.backends import sql

    sql.Catalog.get_v3_catalog = without(hidden, sql.Catalog.get_v3_catalog)
