"""One list of the servers of all sites."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from atoll.bench import workload
from atoll.bench.api import Api
from atoll.bench.cloud.agreement import spread
from atoll.bench.cloud.stage import Stage
from atoll.bench.measure import failed, wait_until

_AT_ONCE = 50  # servers of one request
_BATCH_S = 1200.0  # which may take so long on a busy machine


def union(stage: Stage, tenancy: workload.Tenancy, servers: int, times: int) -> dict[str, float]:
    """How long a list of many servers takes that are spread over all sites, in milliseconds."""
    _lift_quota(stage.api(stage.names[0]), servers)
    with ThreadPoolExecutor(2) as makers:
        for done in [makers.submit(_fill, stage, tenancy, site, count) for site, count in spread(servers, stage.names).items()]:
            done.result()
    api = stage.api(stage.names[0])
    samples = []
    for _ in range(times + 1):
        begun = time.monotonic()
        found = len(api.expect("compute", "GET", "/servers?limit=1000")["servers"])
        samples.append((time.monotonic() - begun) * 1000)
        if found != min(servers, 1000):
            raise failed(f"a list of {servers} servers has {found}")
    floor = statistics.median([_own_lists_ms(stage) for _ in range(times)])
    return {
        "union_list_ms": round(statistics.median(samples[1:]), 1),
        "union_list_floor_ms": round(floor, 1),
        "union_list_servers": servers,
    }


def _own_lists_ms(stage: Stage) -> float:
    """How long all sites' Novas take, each asked directly for its own servers, all at once: no union can be quicker on this machine.

    On machines of their own they would not share its processors.
    """
    apis = {site: stage.api(site) for site in stage.names}

    def ask(site: str) -> None:
        url = urlsplit(stage.settings(site).url("compute", "/v2.1/servers?limit=1000"))
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


def _fill(stage: Stage, tenancy: workload.Tenancy, site: str, count: int) -> None:
    api = stage.api(site)
    for begun in range(0, count, _AT_ONCE):
        body = workload.server_body(tenancy, f"{site}-{begun}")
        # Without ports: a list of names does not ask for them, and they are most of the work of a boot.
        body["server"] |= {"min_count": min(_AT_ONCE, count - begun), "availability_zone": site, "networks": "none"}
        api.expect("compute", "POST", "/servers", body)
        wait_until(lambda: not _building(stage, site), f"servers of {site} ACTIVE", _BATCH_S, 1.0)


def _lift_quota(api: Api, servers: int) -> None:
    """Let the administrator's project have more servers, at each site, than the 200 that a site grants by default."""
    limits = {"instances": servers + 200, "cores": servers + 400}
    api.expect("compute", "PUT", f"/os-quota-sets/{api.project}", {"quota_set": limits})


def _building(stage: Stage, site: str) -> int:
    """How many servers of a site aren't up yet: asked of the site's gateway, for its own zone."""
    url = f"/servers?status=BUILD&availability_zone={site}&limit=1"
    return len(stage.api(site).expect("compute", "GET", url)["servers"])
