"""The workloads of experiment files, as operations of users at the sites of a cloud.

If a workload has no other order, the users of all sites work at the same time, and each user does one operation after the other.
`atoll.experiment.workloads` describes the parameters.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from atoll.bench import workload
from atoll.bench.api import Api
from atoll.bench.failure import failed
from atoll.bench.load.generator import TIMEOUT_S, Call, ClosedLoop, OpenLoop, Source, Timed, generate
from atoll.bench.waiting import wait_until
from atoll.bench.workload import Tenancy
from atoll.errors import AtollError

_WARM_UP_S = 2.0
"""Seconds of load before the measured load, to open connections and fill caches."""

_SEEN_S = 60.0
"""Seconds until the resources that one site makes must be usable at the others."""


@dataclass(frozen=True)
class Place:
    """A site with its user.

    Attributes:
        site: the name of the site.
        api: a client in the site's network, signed in as administrator.
        host: the compute host at which servers of this user are booted; `None` means any host of the site.
        open_socket: returns a non-blocking socket in the site's network; `None` means that sockets are opened in this process's own
            network.
        alone: True if the site does not cooperate with others, so that it needs an image, a flavor and a network of its own.
        network: a descriptor of the site's network namespace, for programs that work there; `None` means this process's own network.
    """

    site: str
    api: Api
    host: str | None
    open_socket: Callable[[], socket.socket] | None = None
    alone: bool = False
    network: int | None = None


class CellRecorder:
    """Records operations with their times since the measured operations began; threads may share it.

    Args:
        record: called with operation, site, seconds of intended start, start and end, success, and error.
        begun: called when the measured operations begin.
    """

    def __init__(self, record: Callable[..., None], begun: Callable[[], None] = lambda: None) -> None:
        self._record = record
        self._tell_begun = begun
        self._lock = threading.Lock()
        self._begun = time.monotonic()

    def begin(self) -> None:
        """Start the clock, because caches are filled and the measured operations follow."""
        self._begun = time.monotonic()
        self._tell_begun()

    def measure(self, operation: str, site: str, work: Callable[[], Any]) -> Any:
        """Carry out an operation, record it, and return its result; `None` if it failed.

        Args:
            operation: the name of the operation.
            site: the site of the user.
            work: carries out the operation.
        """
        started = time.monotonic() - self._begun
        result, error = None, ""
        try:
            result = work()
        except (AtollError, OSError, http.client.HTTPException) as raised:
            error = raised.message if isinstance(raised, AtollError) else f"{type(raised).__name__}: {raised}"
        with self._lock:
            self._record(operation, site, started, started, time.monotonic() - self._begun, not error, error)
        return result

    def add(self, samples: Sequence[Timed], begun_s: float) -> None:
        """Record samples of a load that began at `begun_s`, in seconds from the start of the measured operations."""
        for sample in samples:
            times = (begun_s + at for at in (sample.intended_s, sample.started_s, sample.ended_s))
            self._record(sample.operation, sample.site, *times, sample.ok, sample.error)

    def now(self) -> float:
        """Return the seconds since the measured operations began."""
        return time.monotonic() - self._begun


Parameters = Mapping[str, Any]
Run = Callable[[Sequence[Place], CellRecorder, Parameters, int], None]


def at_each(places: Sequence[Place], work: Callable[[Place], None], *, in_turn: bool = False) -> None:
    """Call `work` for each place: all at the same time, each in a thread of its own, or one after the other if `in_turn`."""
    with ThreadPoolExecutor(1 if in_turn else len(places)) as pool:
        list(pool.map(work, places))


def boot(places: Sequence[Place], recorder: CellRecorder, parameters: Parameters, _seed: int) -> None:
    """Boot and delete servers at each site, one after the other."""
    tenancies = tenancies_of(places)

    def warm_up(place: Place) -> None:
        """Boot and delete one server, which fills caches and copies the image and the network to the site."""
        workload.delete(place.api, [boot_active(place, tenancies[place.site], f"{place.site}-0")])

    def work(place: Place) -> None:
        for number in range(1, parameters["times"] + 1):
            boot_it = partial(boot_active, place, tenancies[place.site], f"{place.site}-{number}")
            server = recorder.measure("boot", place.site, boot_it)
            if server is not None:
                recorder.measure("delete", place.site, partial(workload.delete, place.api, [server]))

    at_each(places, warm_up)
    recorder.begin()
    at_each(places, work, in_turn=parameters.get("order") == "in-turn")


def tenancies_of(places: Sequence[Place]) -> dict[str, Tenancy]:
    """Prepare what servers need, and return it by site; cooperating sites use the same, as soon as each of them answers with it."""
    if places[0].alone:
        return {place.site: workload.prepare(place.api) for place in places}
    shared = workload.prepare(places[0].api)
    for place in places[1:]:
        wait_until(partial(workload.sees, place.api, shared), f"{place.site} has the network and the flavor", _SEEN_S, workload.POLL_S)
    return {place.site: shared for place in places}


def boot_active(place: Place, tenancy: Tenancy, name: str) -> str:
    """Boot a server at a place, wait until it is ACTIVE, and return its id."""
    body = workload.server_body(tenancy, name)
    if place.host is not None:
        body["server"]["host"] = place.host
    server = str(place.api.expect("compute", "POST", "/servers", body)["server"]["id"])

    def active() -> bool:
        found = place.api.expect("compute", "GET", f"/servers/{server}")["server"]
        if found["status"] == "ERROR":
            raise failed(f"server {name} went to ERROR: {found.get('fault', {}).get('message', 'no reason was given')}")
        return bool(found["status"] == "ACTIVE")

    wait_until(active, f"{name} ACTIVE", workload.BOOT_TIMEOUT_S, workload.POLL_S)
    return server


def boot_many(places: Sequence[Place], recorder: CellRecorder, parameters: Parameters, _seed: int) -> None:
    """Boot many servers at the first site, or equal shares of them at each; one sample is the time until all of a user are ACTIVE."""
    chosen = places if parameters.get("at") == "each" else places[:1]
    servers, at_once = parameters["servers"], parameters["at_once"]
    shares = {place.site: len(range(number, servers, len(chosen))) for number, place in enumerate(chosen)}
    tenancies = tenancies_of(chosen)
    for place in chosen:
        workload.allow(place.api, servers)

    def warm_up(place: Place) -> None:
        workload.boot_one(place.api, tenancies[place.site], 1)

    def work(place: Place) -> None:
        if shares[place.site]:
            many = partial(workload.boot_many, place.api, tenancies[place.site], shares[place.site], at_once)
            recorder.measure("boot-many", place.site, many)

    at_each(chosen, warm_up)
    recorder.begin()
    at_each(chosen, work)
    if len(chosen) == 1:
        workload.delete_all(chosen[0].api, at_once)


def _repeated(operation: str, once: Callable[[Place, int], Any]) -> Run:
    """Return a workload that carries out one operation at each site: once to warm up, then as often as the parameter `times` says.

    Args:
        operation: the name of the operation.
        once: carries out the operation at a place; its second argument is the number of the repetition.
    """

    def run(places: Sequence[Place], recorder: CellRecorder, parameters: Parameters, _seed: int) -> None:
        def work(place: Place) -> None:
            for number in range(1, parameters["times"] + 1):
                recorder.measure(operation, place.site, partial(once, place, number))

        at_each(places, lambda place: once(place, 0))
        recorder.begin()
        at_each(places, work, in_turn=parameters.get("order") == "in-turn")

    return run


def _token(place: Place, _number: int) -> None:
    place.api.sign_in()


def list_servers(place: Place, _number: int) -> None:
    """List the servers of all projects of the cloud, with details."""
    place.api.expect("compute", "GET", "/servers/detail?all_tenants=1")


def _network(place: Place, number: int) -> None:
    made = place.api.expect("network", "POST", "/v2.0/networks", {"network": {"name": f"{place.site}-{number}"}})["network"]["id"]
    subnet = {"network_id": made, "ip_version": 4, "cidr": "10.91.0.0/24"}
    place.api.expect("network", "POST", "/v2.0/subnets", {"subnet": subnet})
    place.api.expect("network", "DELETE", f"/v2.0/networks/{made}")


def open_load(places: Sequence[Place], recorder: CellRecorder, parameters: Parameters, seed: int) -> None:
    """Send requests of one kind at a given rate at each site."""
    _load(places, recorder, parameters, OpenLoop(parameters["rate"], parameters["seconds"], parameters["arrivals"]), seed)


def closed_load(places: Sequence[Place], recorder: CellRecorder, parameters: Parameters, seed: int) -> None:
    """Have users at each site send requests of one kind, with think times."""
    _load(places, recorder, parameters, ClosedLoop(parameters["users"], parameters["seconds"], parameters["think_s"]), seed)


def _load(places: Sequence[Place], recorder: CellRecorder, parameters: Parameters, loop: OpenLoop | ClosedLoop, seed: int) -> None:
    sources = [Source(place.site, [CALLS[parameters["operation"]](place.api)], place.open_socket) for place in places]
    generate(sources, replace(loop, seconds=min(loop.seconds, _WARM_UP_S)), seed)
    recorder.begin()
    begun = recorder.now()
    recorder.add(generate(sources, loop, seed, parameters.get("timeout_s", TIMEOUT_S)), begun)


def _call(name: str, method: str, service: str, path: str, body: Any = None) -> Callable[[Api], Call]:
    def make(api: Api) -> Call:
        headers = {"X-Auth-Token": api.token, "X-Subject-Token": api.token, "Accept": "application/json"}
        return Call(name, method, api.url(service, path), headers, body)

    return make


def _token_call(api: Api) -> Call:
    return Call("token", "POST", api.url("identity", "/auth/tokens"), {}, api.credentials())


_RECORD = {"name": "load", "disk_format": "raw", "container_format": "bare"}
"""The body of a request that creates an image without data. This write has no quota, and the image's name need not be unique."""

CALLS: Mapping[str, Callable[[Api], Call]] = {
    "token": _token_call,
    "validate": _call("validate", "GET", "identity", "/auth/tokens"),
    "list": _call("list", "GET", "compute", "/servers/detail"),
    "flavors": _call("flavors", "GET", "compute", "/flavors"),
    "networks": _call("networks", "GET", "network", "/v2.0/networks"),
    "images": _call("images", "GET", "image", "/v2/images"),
    "image-create": _call(
        "image-create", "POST", "image", "/v2/images", {"name": "load", "disk_format": "raw", "container_format": "bare"}
    ),
}
"""The kinds of requests that a load can send, by name. Each function returns the request for a client."""

WORKLOADS: Mapping[str, Run] = {
    "boot": boot,
    "boot-many": boot_many,
    "token": _repeated("token", _token),
    "list": _repeated("list", list_servers),
    "network": _repeated("network", _network),
    "open-load": open_load,
    "closed-load": closed_load,
}
"""The functions that carry out these workloads, by name; those of `cell_steps` come to them."""
