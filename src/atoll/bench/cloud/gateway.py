"""What the gateway itself costs, and what goes over the WAN."""

from __future__ import annotations

import statistics
import time
from urllib.parse import urlsplit

from pyroute2 import DiagSocket

from atoll.bench import workload
from atoll.bench.cloud.stage import SiteApi, Stage
from atoll.bench.measure import failed, wait_until
from atoll.wan.isolation import within


def own_cost_ms(stage: Stage, times: int) -> dict[str, float]:
    """The time that a local request takes longer through the gateway, in milliseconds.

    Each pair of requests, one direct and one through the gateway, is for one flavor, on connections that are kept.
    """
    site = stage.names[0]
    settings, api = stage.settings(site), stage.api(site)
    flavor = api.expect("compute", "GET", "/flavors")["flavors"][0]["id"]
    path = f"/v2.1/flavors/{flavor}"
    urls = {"direct": settings.url("compute", path), "gateway": settings.public_url("compute", path)}
    for url in urls.values():
        _requests(api, url, 20)  # warm
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


def background(stage: Stage, seconds: float) -> dict[str, float]:
    """What an idle cloud sends over the WAN: bits a second of IP packets, for each site."""
    before = wan_bytes(stage)
    time.sleep(seconds)
    return {"mesh_bit_s_per_site": round((wan_bytes(stage) - before) * 8 / seconds / len(stage.names), 1)}


def wan_bytes(stage: Stage) -> int:
    """The bytes of IP packets that all sites together have sent into links so far."""
    return sum(direction["bytes_in"] for direction in stage.wan.counters().values())


def peer_bytes(stage: Stage, site: str) -> dict[tuple[int, int], int]:
    """The bytes that each of a site's connections with other gateways has carried, both ways, as the kernel counts them (TCP_INFO)."""
    port = stage.settings(site).ports["peer"]

    def look() -> dict[tuple[int, int], int]:
        with DiagSocket() as diagnosis:
            found = diagnosis.get_sock_stats(family=2, extensions=2)  # AF_INET; INET_DIAG_INFO
        ends = {(each["idiag_sport"], each["idiag_dport"]): each.get_attr("INET_DIAG_INFO") for each in found}
        return {pair: info["tcpi_bytes_acked"] + info["tcpi_bytes_received"] for pair, info in ends.items() if port in pair and info}

    return within(stage.network(site), look)


def carried(before: dict[tuple[int, int], int], after: dict[tuple[int, int], int]) -> int:
    """What connections have carried meanwhile; one that was closed since, and was idle before, counts nothing."""
    return sum(count - before.get(pair, 0) for pair, count in after.items())


def local_boots(stage: Stage, tenancy: workload.Tenancy, times: int) -> dict[str, float]:
    """Boots at the user's own site, with the WAN's delay and with none; and the bytes that they sent to other sites or got from there."""
    site = stage.names[0]
    api = stage.api(site)
    workload.boot_one(api, tenancy, 1)
    samples: dict[float, list[float]] = {stage.delay_ms: [], 0.0: []}
    spent = 0
    for round_ in range(4):  # alternately, so that a machine that gets busier or slower meanwhile favours neither
        delay = stage.delay_ms if round_ % 2 == 0 else 0.0
        stage.each_link({"delay_ms": delay})
        for number in range(max(1, times // 2)):
            before = peer_bytes(stage, site)
            server, seconds = workload.boot(api, tenancy, f"local-{number}")
            spent += carried(before, peer_bytes(stage, site))
            samples[delay].append(seconds)
            workload.delete(api, [server])
    stage.each_link({"delay_ms": stage.delay_ms})
    far, near = statistics.median(samples[stage.delay_ms]), statistics.median(samples[0.0])
    return {"local_boot_ratio": round(far / near, 3), "local_boot_s": round(far, 3), "local_boot_wan_bytes": spent}


def remote_boots(stage: Stage, tenancy: workload.Tenancy, times: int) -> dict[str, float]:
    """Boots at another site than the one that is asked, in round trips more than at that one itself."""
    here, there = stage.names[0], stage.names[1]
    samples: dict[str, list[float]] = {here: [], there: []}
    _boot_at(stage, tenancy, here, there)  # brings along what it refers to
    for _ in range(times):
        for target, seconds in samples.items():
            seconds.append(_boot_at(stage, tenancy, here, target))
    extra_s = statistics.median(samples[there]) - statistics.median(samples[here])
    return {"remote_boot_extra_rtt": round(extra_s * 1000 / stage.rtt_ms, 2), "remote_boot_s": round(statistics.median(samples[there]), 3)}


def _boot_at(stage: Stage, tenancy: workload.Tenancy, asked: str, target: str) -> float:
    """One boot, asked for at one site and made at one; from the request until the site where it is says ACTIVE, in seconds.

    That site is asked by a client of its own, so that looking costs no round trip.
    """
    body = workload.server_body(tenancy, f"at-{target}")
    body["server"]["availability_zone"] = target
    begun = time.monotonic()
    server = str(stage.api(asked).expect("compute", "POST", "/servers", body)["server"]["id"])
    near = stage.api(target)
    wait_until(
        lambda: near.expect("compute", "GET", f"/servers/{server}")["server"]["status"] == "ACTIVE", "ACTIVE", workload.BOOT_TIMEOUT_S, 0.02
    )
    seconds = time.monotonic() - begun
    workload.delete(near, [server])
    return seconds
