"""Boots through the APIs of several sites that share one Nova: each API builds servers on the hosts of all sites, at the same time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from itertools import islice, product
from typing import Any

from atoll.bench import workload
from atoll.bench.api import Api
from atoll.bench.cloud.stage import MeasuredCloud, measured_cloud
from atoll.bench.progress import Say
from atoll.bench.waiting import wait_until
from atoll.bench.workspace import Workspace
from atoll.errors import AtollError

SEEN_S = 60.0
"""Seconds until a change at one site must be visible at all."""

_SAID_EACH = 50
"""Number of boots after which the progress is told again."""


@dataclass(frozen=True)
class SharedBootsOptions:
    """The size of the experiment.

    Attributes:
        boots: the number of boots in each cloud.
        sizes: the numbers of sites; each is measured in a new cloud.
        at_once: the number of boots at the same time, over all sites.
        rtt_ms: the round trip between any two sites, in milliseconds.
    """

    boots: int = 500
    sizes: tuple[int, ...] = (2, 4, 8)
    at_once: int = 8
    rtt_ms: float = 10


@dataclass(frozen=True)
class SharedBoot:
    """One boot through the API of a site.

    Attributes:
        through: the site whose API got the request.
        zone: the site on whose host the server was to be built.
        server: the id of the server; empty if the request was refused.
        seconds: the time from the request until the server was ACTIVE.
        failure: the reason of a failure; empty for a success.
    """

    through: str
    zone: str
    server: str = ""
    seconds: float = 0.0
    failure: str = ""


def run(options: SharedBootsOptions, work: Workspace) -> dict[str, Any]:
    """Measure a cloud of each size; the keys of the result end in the number of sites.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    found: dict[str, Any] = {}
    for size in options.sizes:
        work.say(f"{options.boots} boots over {size} sites on one Nova")
        names = [f"site-{number}" for number in range(1, size + 1)]
        databases: dict[str, dict[str, Any]] = {name: {"database": {"of": names[0]}} for name in names[1:]}
        databases[names[0]] = {"database": {"start": "redis"}}
        with measured_cloud(work.root / str(size), size, options.rtt_ms, work.environment, databases) as made:
            found |= {f"{key}_{size}": value for key, value in _measure(made, options, work.say).items()}
    return found


def _measure(made: MeasuredCloud, options: SharedBootsOptions, say: Say) -> dict[str, Any]:
    apis = {name: made.api(name) for name in made.names}
    first = apis[made.names[0]]
    tenancy = workload.prepare(first)
    workload.allow(first, options.boots)
    for name, api in apis.items():
        wait_until(partial(workload.sees, api, tenancy), f"{name} has the network and the flavor", SEEN_S)
    plan = list(islice(_rounds(made.names), options.boots))
    begun = time.monotonic()
    boots: list[SharedBoot] = []
    with ThreadPoolExecutor(options.at_once) as pool:
        for boot in pool.map(lambda each: _boot(apis[each[0]], tenancy, *each), plan):
            boots.append(boot)
            if len(boots) % _SAID_EACH == 0 or len(boots) == len(plan):
                say(f"{len(boots)}/{len(plan)} boots, {sum(bool(each.failure) for each in boots)} failed")
    return summary(boots, time.monotonic() - begun) | _lists(apis, boots)


def _rounds(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of an API's site and a zone for ever, so that each API builds on each host equally often."""
    while True:
        yield from product(names, names)


def _boot(api: Api, tenancy: workload.Tenancy, through: str, zone: str) -> SharedBoot:
    body = workload.server_body(tenancy, f"{through}-{zone}")
    body["server"]["availability_zone"] = zone
    begun, server = time.monotonic(), ""
    try:
        server = str(api.expect("compute", "POST", "/servers", body)["server"]["id"])
        while (found := api.expect("compute", "GET", f"/servers/{server}")["server"])["status"] == "BUILD":
            if time.monotonic() - begun > workload.BOOT_TIMEOUT_S:
                return SharedBoot(through, zone, server, failure=f"in BUILD after {workload.BOOT_TIMEOUT_S:.0f} s")
            time.sleep(workload.POLL_S)
    except (AtollError, OSError, HTTPException) as error:
        return SharedBoot(through, zone, server, failure=str(error))
    if found["status"] != "ACTIVE":
        return SharedBoot(through, zone, server, failure=str(found.get("fault", {}).get("message", found["status"])))
    if found["OS-EXT-AZ:availability_zone"] != zone:
        return SharedBoot(through, zone, server, failure=f"built in {found['OS-EXT-AZ:availability_zone']}")
    return SharedBoot(through, zone, server, time.monotonic() - begun)


def summary(boots: Sequence[SharedBoot], seconds: float) -> dict[str, Any]:
    """Return the results of boots.

    Args:
        boots: the boots.
        seconds: the time that all of them took together.
    """
    good = sorted(boot.seconds for boot in boots if not boot.failure)
    return {
        "boots": len(boots),
        "failures": len(boots) - len(good),
        "reasons": dict(Counter(boot.failure for boot in boots if boot.failure).most_common(10)),
        "boots_per_s": round(len(good) / seconds, 3),
        "boot_p50_s": round(good[len(good) // 2], 3) if good else None,
        "boot_p99_s": round(good[min(len(good) - 1, int(0.99 * len(good)))], 3) if good else None,
        "pairs": len({(boot.through, boot.zone) for boot in boots if not boot.failure}),
    }


def _lists(apis: dict[str, Any], boots: Sequence[SharedBoot]) -> dict[str, int]:
    """Return how many servers the lists of all sites lack, and how many they have twice."""
    wanted = {boot.server for boot in boots if boot.server}
    missing = twice = 0
    for api in apis.values():
        listed = Counter(each["id"] for each in api.expect("compute", "GET", "/servers")["servers"])
        missing += len(wanted - listed.keys())
        twice += sum(count > 1 for count in listed.values())
    return {"missing": missing, "twice": twice}
