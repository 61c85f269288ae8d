"""The load on a measured deployment: clients boot servers, one after the other or many at the same time, and delete them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from atoll.bench.api import Api
from atoll.bench.failure import failed
from atoll.bench.waiting import wait_until

POLL_S = 0.1
"""Seconds between two requests for the status of a booting server; each request costs the deployment milliseconds of processor time."""

BOOT_TIMEOUT_S = 300.0
_MEMORY_MB, _DISK_GB = 64, 1
_IMAGE_BYTES = 1_000_000


@dataclass(frozen=True)
class Tenancy:
    """The resources that a server needs: the ids of an image, a flavor, and a network with a subnet."""

    image: str
    flavor: str
    network: str


def prepare(api: Api) -> Tenancy:
    """Upload an image, create a network and, if no flavor is suitable, a flavor; return them as a tenancy.

    Args:
        api: a client that is signed in as an administrator.
    """
    image = api.expect("image", "POST", "/v2/images", {"name": "bench", "disk_format": "raw", "container_format": "bare"})["id"]
    api.expect("image", "PUT", f"/v2/images/{image}/file", data=bytes(_IMAGE_BYTES))
    network = api.expect("network", "POST", "/v2.0/networks", {"network": {"name": "bench"}})["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.90.0.0/16", "name": "bench"}
    api.expect("network", "POST", "/v2.0/subnets", {"subnet": subnet})
    return Tenancy(image, _flavor(api), network)


def sees(api: Api, tenancy: Tenancy) -> bool:
    """Return whether an API answers with a tenancy's network and flavor; a site that shares a database may do so a moment later."""
    return all(
        api.call(service, "GET", path).ok
        for service, path in (("network", f"/v2.0/networks/{tenancy.network}"), ("compute", f"/flavors/{tenancy.flavor}"))
    )


def allow(api: Api, servers: int) -> None:
    """Raise the quotas of the client's project, so that it may have so many servers with two ports each beside those of the defaults.

    Args:
        api: a client that is signed in as an administrator.
        servers: the number of servers.
    """
    compute = {"instances": servers + 200, "cores": servers + 400, "ram": _MEMORY_MB * servers + 1024 * 1024}
    api.expect("compute", "PUT", f"/os-quota-sets/{api.project}", {"quota_set": compute})
    api.expect("network", "PUT", f"/v2.0/quotas/{api.project}", {"quota": {"port": 2 * servers + 1000}})


def _flavor(api: Api) -> str:
    for flavor in api.expect("compute", "GET", "/flavors/detail")["flavors"]:
        if (flavor["ram"], flavor["vcpus"], flavor["disk"]) == (_MEMORY_MB, 1, _DISK_GB):
            return str(flavor["id"])
    wanted = {"name": "bench", "ram": _MEMORY_MB, "vcpus": 1, "disk": _DISK_GB}
    return str(api.expect("compute", "POST", "/flavors", {"flavor": wanted})["flavor"]["id"])


def server_body(tenancy: Tenancy, name: str) -> dict[str, Any]:
    """Return the body of a request for a server with one port."""
    server = {"name": name, "imageRef": tenancy.image, "flavorRef": tenancy.flavor, "networks": [{"uuid": tenancy.network}]}
    return {"server": server}


def create(api: Api, tenancy: Tenancy, name: str) -> str:
    """Request a server with one port.

    Returns:
        The id of the server.
    """
    return str(api.expect("compute", "POST", "/servers", server_body(tenancy, name))["server"]["id"])


def boot(api: Api, tenancy: Tenancy, name: str, poll_s: float = POLL_S) -> tuple[str, float]:
    """Boot a server and ask for its status every `poll_s` seconds until it is ACTIVE.

    Returns:
        The id of the server, and the duration of the boot in seconds.
    """
    begun = time.monotonic()
    server = create(api, tenancy, name)
    wait_until(lambda: _is_active(api.expect("compute", "GET", f"/servers/{server}")["server"]), f"{name} ACTIVE", BOOT_TIMEOUT_S, poll_s)
    return server, time.monotonic() - begun


def _is_active(server: dict[str, Any]) -> bool:
    if server["status"] == "ERROR":
        raise failed(f"server {server['name']} went to ERROR: {server.get('fault', {}).get('message', 'no reason was given')}")
    return bool(server["status"] == "ACTIVE")


def delete(api: Api, servers: Iterable[str]) -> None:
    """Delete servers and wait until they no longer exist."""
    for server in servers:
        answer = api.call("compute", "DELETE", f"/servers/{server}")
        if not answer.ok and answer.status != 404:
            raise failed(f"DELETE /servers/{server}: HTTP {answer.status}")
        wait_until(partial(_is_gone, api, server), f"{server} gone", BOOT_TIMEOUT_S, POLL_S)


def _is_gone(api: Api, server: str) -> bool:
    return api.call("compute", "GET", f"/servers/{server}").status == 404


def boot_one(api: Api, tenancy: Tenancy, times: int) -> list[float]:
    """Boot servers one after the other, each deleted before the next.

    Args:
        api: a client that is signed in.
        tenancy: the result of `prepare`.
        times: the number of measured boots; a boot that is not measured precedes them, to fill caches and open connections.

    Returns:
        The durations of the boots in seconds.
    """
    samples = []
    for index in range(times + 1):
        server, seconds = boot(api, tenancy, f"one-{index}")
        samples.append(seconds)
        delete(api, [server])
    return samples[1:]


def boot_many(api: Api, tenancy: Tenancy, count: int, at_once: int) -> float:
    """Boot many servers, at most `at_once` at the same time.

    One watcher lists the ACTIVE servers for all clients. If each client asked for its own server, these requests would be most of the load.

    Returns:
        The time from the first request until all are ACTIVE, in seconds.
    """
    watcher = _Watcher(api)
    begun = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            list(pool.map(lambda index: watcher.wait(create(api, tenancy, f"many-{index}")), range(count)))
            return time.monotonic() - begun
        finally:
            watcher.stop()


class _Watcher:
    """A thread that lists the ACTIVE servers every `2 * POLL_S` seconds."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._active: set[str] = set()
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def wait(self, server: str) -> None:
        """Block until a server is ACTIVE.

        Raises:
            AtollError: `bench.failed`: any server went to ERROR, or this server took too long.
        """
        with self._changed:
            known = self._changed.wait_for(lambda: server in self._active or self._failure, BOOT_TIMEOUT_S)
        if self._failure:
            raise self._failure
        if not known:
            raise failed(f"server {server} is not ACTIVE after {BOOT_TIMEOUT_S:.0f} s")

    def stop(self) -> None:
        """Stop the watcher's thread."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        looks = 0
        while not self._stopped.wait(2 * POLL_S):
            looks += 1
            try:
                active = {server["id"] for server in self._list("ACTIVE")}
                if looks % 10 == 0 and (broken := self._list("ERROR")):
                    _is_active(self._api.expect("compute", "GET", f"/servers/{broken[0]['id']}")["server"])
            except Exception as error:
                self._tell(failure=error)
                return
            self._tell(active)

    def _list(self, status: str) -> list[dict[str, Any]]:
        servers: list[dict[str, Any]] = self._api.expect("compute", "GET", f"/servers?status={status}")["servers"]
        return servers

    def _tell(self, active: Iterable[str] = (), failure: Exception | None = None) -> None:
        with self._changed:
            self._active.update(active)
            self._failure = failure
            self._changed.notify_all()


def delete_all(api: Api, at_once: int) -> None:
    """Delete every server, at most `at_once` at the same time."""
    servers = [server["id"] for server in api.expect("compute", "GET", "/servers?all_tenants=1")["servers"]]
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda server: delete(api, [server]), servers))
