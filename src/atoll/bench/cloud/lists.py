"""The duration of one list of the servers of all sites."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from atoll.bench import workload
from atoll.bench.api import Api
from atoll.bench.cloud.agreement import spread
from atoll.bench.cloud.stage import MeasuredCloud
from atoll.bench.failure import failed
from atoll.bench.waiting import wait_until

_AT_ONCE = 50  # servers that one request creates
_BATCH_S = 1200.0  # seconds to wait until they are ACTIVE, on a busy machine


def union(cloud: MeasuredCloud, tenancy: workload.Tenancy, servers: int, times: int) -> dict[str, float]:
    """Return the duration of a list of many servers at all sites, in milliseconds."""
    _lift_quota(cloud.api(cloud.names[0]), servers)
    with ThreadPoolExecutor(2) as makers:
        for done in [makers.submit(_fill, cloud, tenancy, site, count) for site, count in spread(servers, cloud.names).items()]:
            done.result()
    api = cloud.api(cloud.names[0])
    samples = []
    for _ in range(times + 1):
        begun = time.monotonic()
        found = len(api.expect("compute", "GET", "/servers?limit=1000")["servers"])
        samples.append((time.monotonic() - begun) * 1000)
        if found != min(servers, 1000):
            raise failed(f"the list has {found} servers: expected {servers}")
    floor = statistics.median([_own_lists_ms(cloud) for _ in range(times)])
    return {
        "union_list_ms": round(statistics.median(samples[1:]), 1),
        "union_list_floor_ms": round(floor, 1),
        "union_list_servers": servers,
    }


def _own_lists_ms(cloud: MeasuredCloud) -> float:
    """Return the milliseconds in which the services of all sites answer lists at the same time, without gateways and WAN.

    This is a lower bound for the list of all sites on this machine. On separate machines the sites would not share processors.
    """
    apis = {site: cloud.api(site) for site in cloud.names}

    def ask(site: str) -> None:
        url = urlsplit(cloud.settings(site).url("compute", "/v2.1/servers?limit=1000"))
        connection = apis[site].connection(url.hostname or "", url.port or 80)
        try:
            connection.request("GET", f"{url.path}?{url.query}", headers={"X-Auth-Token": apis[site].token})
            connection.getresponse().read()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(apis)) as pool:
        begun = time.monotonic()
        list(pool.map(ask, apis))
        return (time.monotonic() - begun) * 1000


def _fill(cloud: MeasuredCloud, tenancy: workload.Tenancy, site: str, count: int) -> None:
    api = cloud.api(site)
    for begun in range(0, count, _AT_ONCE):
        body = workload.server_body(tenancy, f"{site}-{begun}")
        # The servers have no ports, because a list does not show ports, and they take most of the time of a boot.
        body["server"] |= {"min_count": min(_AT_ONCE, count - begun), "availability_zone": site, "networks": "none"}
        api.expect("compute", "POST", "/servers", body)
        wait_until(lambda: not _building(cloud, site), f"servers of {site} ACTIVE", _BATCH_S, 1.0)


def _lift_quota(api: Api, servers: int) -> None:
    """Raise the quota of the administrator's project at a site above the default of 200 servers."""
    limits = {"instances": servers + 200, "cores": servers + 400}
    api.expect("compute", "PUT", f"/os-quota-sets/{api.project}", {"quota_set": limits})


def _building(cloud: MeasuredCloud, site: str) -> int:
    """Return the number of a site's servers that are not ACTIVE yet, from the gateway's list of its own zone."""
    url = f"/servers?status=BUILD&availability_zone={site}&limit=1"
    return len(cloud.api(site).expect("compute", "GET", url)["servers"])
