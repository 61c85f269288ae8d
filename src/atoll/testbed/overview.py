"""The status of the sites on a testbed, as their hosts report it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from atoll.errors import AtollError
from atoll.testbed.membership import atoll
from atoll.testbed.record import HostsRecord, Placed


def sites(record: HostsRecord) -> list[dict[str, Any]]:
    """Return name, host, address, state, URL and memory in bytes of each site.

    The state is that of `atoll status` on the host; `unreachable` if SSH fails; `missing` if the site has not been started yet.
    """
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(_site, record.placed.values()))


def _site(placed: Placed) -> dict[str, Any]:
    about = {"name": placed.host.site, "host": placed.host.address, "address": placed.address}
    unknown = {"url": None, "memory_bytes": None}
    if not placed.member:
        return {**about, "state": "missing", **unknown}
    try:
        found = json.loads(placed.host.run(atoll(placed, "status", "--json")).stdout)
    except AtollError as error:
        if error.kind.code != "testbed.unreachable":
            raise
        return {**about, "state": "unreachable", **unknown}
    own = next(site for site in found["sites"] if site["name"] == placed.host.site)
    return {**about, "state": own["state"], "url": own["url"], "memory_bytes": found["memory_bytes"]}
