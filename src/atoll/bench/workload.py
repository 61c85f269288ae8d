"""What clients do to a deployment while it is measured: boot servers, one by one and many at once, and delete them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from atoll.bench.api import Api
from atoll.bench.measure import failed, wait_until

POLL_S = 0.1
"""Seconds between two looks at a server that boots: each look costs the deployment some milliseconds of processor time."""

BOOT_TIMEOUT_S = 300.0
_MEMORY_MB, _DISK_GB = 64, 1
_IMAGE_BYTES = 1_000_000


@dataclass(frozen=True)
class Tenancy:
    """What a server needs: identifiers of an image, a flavor and a network with a subnet."""

    image: str
    flavor: str
    network: str


@dataclass(frozen=True)
class Leaks:
    """What is still there after everything was deleted.

    Attributes:
        servers: in Nova.
        ports: in Neutron, of servers.
        allocations: consumers in Placement.
    """

    servers: int
    ports: int
    allocations: int

    @property
    def any(self) -> bool:
        """True if anything leaked."""
        return bool(self.servers or self.ports or self.allocations)

    def to_json(self) -> dict[str, int]:
        """The counts, under the names that reports use."""
        return {f"leaked_{name}": count for name, count in asdict(self).items()}


def prepare(api: Api) -> Tenancy:
    """Upload an image, and make a network and, if there is none that fits, a flavor.

    Args:
        api: signed in as an administrator.
    """
    image = api.expect("image", "POST", "/v2/images", {"name": "bench", "disk_format": "raw", "container_format": "bare"})["id"]
    api.expect("image", "PUT", f"/v2/images/{image}/file", data=bytes(_IMAGE_BYTES))
    network = api.expect("network", "POST", "/v2.0/networks", {"network": {"name": "bench"}})["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.90.0.0/16", "name": "bench"}
    api.expect("network", "POST", "/v2.0/subnets", {"subnet": subnet})
    return Tenancy(image, _flavor(api), network)


def _flavor(api: Api) -> str:
    for flavor in api.expect("compute", "GET", "/flavors/detail")["flavors"]:
        if (flavor["ram"], flavor["vcpus"], flavor["disk"]) == (_MEMORY_MB, 1, _DISK_GB):
            return str(flavor["id"])
    wanted = {"name": "bench", "ram": _MEMORY_MB, "vcpus": 1, "disk": _DISK_GB}
    return str(api.expect("compute", "POST", "/flavors", {"flavor": wanted})["flavor"]["id"])


def server_body(tenancy: Tenancy, name: str) -> dict[str, Any]:
    """The request for a server with one port."""
    server = {"name": name, "imageRef": tenancy.image, "flavorRef": tenancy.flavor, "networks": [{"uuid": tenancy.network}]}
    return {"server": server}


def create(api: Api, tenancy: Tenancy, name: str) -> str:
    """Ask for a server with one port.

    Returns:
        Its id.
    """
    return str(api.expect("compute", "POST", "/servers", server_body(tenancy, name))["server"]["id"])


def boot(api: Api, tenancy: Tenancy, name: str, poll_s: float = POLL_S) -> tuple[str, float]:
    """Boot a server and watch it every `poll_s` seconds until it is ACTIVE.

    Returns:
        Its id, and how long it took, in seconds.
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
    """Delete servers and wait until they are gone."""
    for server in servers:
        answer = api.call("compute", "DELETE", f"/servers/{server}")
        if not answer.ok and answer.status != 404:
            raise failed(f"DELETE /servers/{server}: HTTP {answer.status}")
        wait_until(lambda: api.call("compute", "GET", f"/servers/{server}").status == 404, f"{server} gone", BOOT_TIMEOUT_S, POLL_S)  # noqa: B023


def boot_one(api: Api, tenancy: Tenancy, times: int) -> list[float]:
    """Boot servers one after the other, each deleted before the next.

    Args:
        api: signed in.
        tenancy: from `prepare`.
        times: how many count; one more goes before them, for caches and connections.

    Returns:
        Their times, in seconds.
    """
    samples = []
    for index in range(times + 1):
        server, seconds = boot(api, tenancy, f"one-{index}")
        samples.append(seconds)
        delete(api, [server])
    return samples[1:]


def boot_many(api: Api, tenancy: Tenancy, count: int, at_once: int) -> float:
    """Boot many servers, so many at once: the next is asked for when one has become ACTIVE.

    One watcher lists the ACTIVE servers for all clients: were each to ask for its own, the asking would be most of the work.

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
    """Knows which servers are ACTIVE, from one list every `2 * POLL_S`."""

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
            AtollError: `bench.failed`: any server went to ERROR, or this one took too long.
        """
        with self._changed:
            known = self._changed.wait_for(lambda: server in self._active or self._failure, BOOT_TIMEOUT_S)
        if self._failure:
            raise self._failure
        if not known:
            raise failed(f"server {server} is not ACTIVE after {BOOT_TIMEOUT_S:.0f} s")

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        looks = 0
        while not self._stopped.wait(2 * POLL_S):
            looks += 1
            try:
                active = {server["id"] for server in self._list("ACTIVE")}
                if looks % 10 == 0 and (broken := self._list("ERROR")):
                    raise failed(f"server {broken[0]['name']} went to ERROR")  # noqa: TRY301 - it has to reach the waiting threads
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
    """Delete every server, so many at once."""
    servers = [server["id"] for server in api.expect("compute", "GET", "/servers?all_tenants=1")["servers"]]
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda server: delete(api, [server]), servers))


def leaks(api: Api, patience_s: float = 30.0) -> Leaks:
    """Count what is left on a deployment on which nothing should be.

    Args:
        api: signed in as an administrator.
        patience_s: Nova tidies up in the background after it has said that a server is gone: how long that may take.
    """
    deadline = time.monotonic() + patience_s
    while (found := _leaks(api)).any and time.monotonic() < deadline:
        time.sleep(1)
    return found


def _leaks(api: Api) -> Leaks:
    servers = api.expect("compute", "GET", "/servers?all_tenants=1")["servers"]
    ports = api.expect("network", "GET", "/v2.0/ports")["ports"]
    consumers: set[str] = set()
    for provider in api.expect("placement", "GET", "/resource_providers")["resource_providers"]:
        consumers.update(api.expect("placement", "GET", f"/resource_providers/{provider['uuid']}/allocations")["allocations"])
    return Leaks(len(servers), sum(port["device_owner"].startswith("compute:") for port in ports), len(consumers))
