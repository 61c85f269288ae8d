"""The cost of the gateway itself, and the traffic over the WAN."""

from __future__ import annotations

import statistics
import time
from urllib.parse import urlsplit

from pyroute2 import DiagSocket

from atoll.bench import workload
from atoll.bench.cloud.stage import MeasuredCloud, SiteApi
from atoll.bench.failure import failed
from atoll.bench.waiting import wait_until
from atoll.wan.isolation import within


def own_cost_ms(cloud: MeasuredCloud, times: int) -> dict[str, float]:
    """Return the milliseconds that the gateway adds to a request that its own site answers.

    Requests come in pairs, one direct and one through the gateway, for one flavor and on persistent connections.
    """
    site = cloud.names[0]
    settings, api = cloud.settings(site), cloud.api(site)
    flavor = api.expect("compute", "GET", "/flavors")["flavors"][0]["id"]
    path = f"/v2.1/flavors/{flavor}"
    urls = {"direct": settings.url("compute", path), "gateway": settings.public_url("compute", path)}
    for url in urls.values():
        _requests(api, url, 20)  # fill caches
    samples: dict[str, list[float]] = {name: [] for name in urls}
    for _ in range(times // 10):
        for name, url in urls.items():
            samples[name] += _requests(api, url, 10)
    direct, gateway = (statistics.median(samples[name]) for name in ("direct", "gateway"))
    return {"gateway_p50_ms": round(gateway - direct, 3), "direct_request_ms": round(direct, 3), "gateway_request_ms": round(gateway, 3)}


def _requests(api: SiteApi, url: str, times: int) -> list[float]:
    parts = urlsplit(url)
    connection = api.connection(parts.hostname or "", parts.port or 80)
    found = []
    try:
        for _ in range(times):
            begun = time.perf_counter()
            connection.request("GET", parts.path, headers={"X-Auth-Token": api.token})
            answer = connection.getresponse()
            answer.read()
            found.append((time.perf_counter() - begun) * 1000)
            if answer.status != 200:
                raise failed(f"GET {parts.path}: HTTP {answer.status}")
    finally:
        connection.close()
    return found


def background(cloud: MeasuredCloud, seconds: float) -> dict[str, float]:
    """Return the traffic of an idle cloud over the WAN for each site, in bits of IP packets per second."""
    before = wan_bytes(cloud)
    time.sleep(seconds)
    return {"mesh_bit_s_per_site": round((wan_bytes(cloud) - before) * 8 / seconds / len(cloud.names), 1)}


def wan_bytes(cloud: MeasuredCloud) -> int:
    """Return the bytes of IP packets that all sites together have sent into links so far."""
    return sum(direction["bytes_in"] for direction in cloud.wan.counters().values())


def peer_bytes(cloud: MeasuredCloud, site: str) -> dict[tuple[int, int], int]:
    """Return the bytes in both directions of each of a site's connections with other gateways, from the kernel's TCP_INFO."""
    port = cloud.settings(site).ports["peer"]

    def look() -> dict[tuple[int, int], int]:
        with DiagSocket() as diagnosis:
            found = diagnosis.get_sock_stats(family=2, extensions=2)  # AF_INET; INET_DIAG_INFO
        ends = {(each["idiag_sport"], each["idiag_dport"]): each.get_attr("INET_DIAG_INFO") for each in found}
        return {pair: info["tcpi_bytes_acked"] + info["tcpi_bytes_received"] for pair, info in ends.items() if port in pair and info}

    return within(cloud.network(site), look)


def carried(before: dict[tuple[int, int], int], after: dict[tuple[int, int], int]) -> int:
    """Return the bytes that connections have carried between two readings, without connections that have been closed since."""
    return sum(count - before.get(pair, 0) for pair, count in after.items())


def local_boots(cloud: MeasuredCloud, tenancy: workload.Tenancy, times: int) -> dict[str, float]:
    """Return the seconds of boots at the user's own site with and without the WAN's delay, and their traffic with other sites in bytes."""
    site = cloud.names[0]
    api = cloud.api(site)
    workload.boot_one(api, tenancy, 1)
    samples: dict[float, list[float]] = {cloud.delay_ms: [], 0.0: []}
    spent = 0
    for round_ in range(4):  # alternately, so that a changing load on the machine affects both alike
        delay = cloud.delay_ms if round_ % 2 == 0 else 0.0
        cloud.each_link({"delay_ms": delay})
        for number in range(max(1, times // 2)):
            before = peer_bytes(cloud, site)
            server, seconds = workload.boot(api, tenancy, f"local-{number}")
            spent += carried(before, peer_bytes(cloud, site))
            samples[delay].append(seconds)
            workload.delete(api, [server])
    cloud.each_link({"delay_ms": cloud.delay_ms})
    far, near = statistics.median(samples[cloud.delay_ms]), statistics.median(samples[0.0])
    return {"local_boot_ratio": round(far / near, 3), "local_boot_s": round(far, 3), "local_boot_wan_bytes": spent}


def remote_boots(cloud: MeasuredCloud, tenancy: workload.Tenancy, times: int) -> dict[str, float]:
    """Measure boots at a site other than the user's, and return their additional duration in round trips.

    Args:
        cloud: the cloud that is measured.
        tenancy: the image, flavor and network of the servers.
        times: the number of boots.
    """
    here, there = cloud.names[0], cloud.names[1]
    samples: dict[str, list[float]] = {here: [], there: []}
    _boot_at(cloud, tenancy, here, there)  # copies the image and the network
    for _ in range(times):
        for target, seconds in samples.items():
            seconds.append(_boot_at(cloud, tenancy, here, target))
    extra_s = statistics.median(samples[there]) - statistics.median(samples[here])
    return {"remote_boot_extra_rtt": round(extra_s * 1000 / cloud.rtt_ms, 2), "remote_boot_s": round(statistics.median(samples[there]), 3)}


def _boot_at(cloud: MeasuredCloud, tenancy: workload.Tenancy, asked: str, target: str) -> float:
    """Request a boot at one site for another, and return the seconds until the server is ACTIVE there.

    A client at the other site reads the server's status, so that reading takes no round trip.
    """
    body = workload.server_body(tenancy, f"at-{target}")
    body["server"]["availability_zone"] = target
    begun = time.monotonic()
    server = str(cloud.api(asked).expect("compute", "POST", "/servers", body)["server"]["id"])
    near = cloud.api(target)
    wait_until(
        lambda: near.expect("compute", "GET", f"/servers/{server}")["server"]["status"] == "ACTIVE", "ACTIVE", workload.BOOT_TIMEOUT_S, 0.02
    )
    seconds = time.monotonic() - begun
    workload.delete(near, [server])
    return seconds
